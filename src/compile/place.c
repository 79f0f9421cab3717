/* place.c: offsets in the arena, for roots whose lifetimes are known.
 *
 * Steps are walked in order; a root takes the best fitting hole when it is born and gives it back after its last use.
 * Where that leaves an arena that is larger than what lives at once, the largest roots are placed first instead, each
 * in the best gap between those that live while it does (greedy by size: Pisarchyk and Lee, Efficient Memory Management
 * for Deep Neural Net Inference, 2020), and the rest is walked above them. */
#include "plan_impl.h"

#include <stdlib.h>

enum {
  ALIGN = 64,
  SHARE = 20, /* one of so many bytes in holes is worth another try */
  MOST = 1024 /* roots that are placed by size: the time is the square of it */
};

typedef struct hole {
  int64_t offset, bytes;
} hole;

/* Sorted by offset, so that neighbours merge. */
typedef struct holes {
  hole *items;
  int n, cap;
  int64_t top; /* the arena's size so far; beyond it all is free */
} holes;

/* A root and those that overwrite it, one after the other. */
typedef struct block {
  int32_t root;
  int first, last;
  int64_t bytes, offset;
} block;

typedef struct placing {
  mx_ctx *c;
  mx_plan *p;
  block *blocks;
  int n;
  int *born, *dead, *next_born, *next_dead; /* chains: by step its first block, by block the next */
  block **by_size, **placed;                /* placed: some of them, by offset */
  holes holes;
} placing;

static int64_t padded(size_t bytes) { return (int64_t)((bytes + ALIGN - 1) / ALIGN * ALIGN + (bytes ? 0 : ALIGN)); }

/* -- holes --------------------------------------------------------------------------------------------------------- */

static void remove_hole(holes *h, int i) {
  memmove(h->items + i, h->items + i + 1, (size_t)(h->n - i - 1) * sizeof *h->items);
  h->n--;
}

static int64_t claim(holes *h, int64_t bytes) {
  int best = -1;
  for (int i = 0; i < h->n; i++)
    if (h->items[i].bytes >= bytes && (best < 0 || h->items[i].bytes < h->items[best].bytes)) best = i;
  if (best >= 0) {
    int64_t at = h->items[best].offset;
    h->items[best].offset += bytes;
    h->items[best].bytes -= bytes;
    if (!h->items[best].bytes) remove_hole(h, best);
    return at;
  }
  int64_t at = h->top;
  if (h->n && h->items[h->n - 1].offset + h->items[h->n - 1].bytes == h->top) at = h->items[--h->n].offset;
  h->top = at + bytes;
  return at;
}

static bool give_back(mx_ctx *c, holes *h, int64_t offset, int64_t bytes) {
  if (!mx_grow(c, &h->items, &h->cap, h->n + 1, sizeof *h->items)) return false;
  int i = 0;
  while (i < h->n && h->items[i].offset < offset) i++;
  memmove(h->items + i + 1, h->items + i, (size_t)(h->n - i) * sizeof *h->items);
  h->items[i] = (hole){offset, bytes};
  h->n++;
  if (i + 1 < h->n && offset + bytes == h->items[i + 1].offset) {
    h->items[i].bytes += h->items[i + 1].bytes;
    remove_hole(h, i + 1);
  }
  if (i > 0 && h->items[i - 1].offset + h->items[i - 1].bytes == offset) {
    h->items[i - 1].bytes += h->items[i].bytes;
    remove_hole(h, i);
  }
  return true;
}

/* -- blocks -------------------------------------------------------------------------------------------------------- */

int64_t mx_plan_peak(const mx_plan *p, int64_t *change) {
  int64_t live = 0, peak = 0;
  memset(change, 0, (size_t)(p->n_steps + 1) * sizeof *change);
  for (int r = 0; r < p->n_roots; r++) {
    const mx_root *root = &p->roots[r];
    if (root->place != MX_AT_ARENA) continue;
    change[root->first] += padded(root->bytes);
    change[root->last + !root->overwritten] -= padded(root->bytes);
  }
  for (int i = 0; i < p->n_steps; i++)
    if ((live += change[i]) > peak) peak = live;
  return peak;
}

static void make_blocks(placing *s, int32_t *heir) {
  const mx_root *roots = s->p->roots;
  for (int r = 0; r < s->p->n_roots; r++) heir[r] = -1;
  for (int r = 0; r < s->p->n_roots; r++)
    if (roots[r].overwrites >= 0) heir[roots[r].overwrites] = r;
  for (int r = 0; r < s->p->n_roots; r++) {
    if (roots[r].place != MX_AT_ARENA || roots[r].overwrites >= 0) continue;
    int32_t last = r;
    while (heir[last] >= 0) last = heir[last];
    s->blocks[s->n++] = (block){r, roots[r].first, roots[last].last, padded(roots[r].bytes), -1};
  }
}

static void make_chains(placing *s) {
  for (int i = 0; i < s->p->n_steps; i++) s->born[i] = s->dead[i] = -1;
  for (int k = s->n - 1; k >= 0; k--) {
    const block *b = &s->blocks[k];
    s->next_born[k] = s->born[b->first], s->born[b->first] = k;
    s->next_dead[k] = s->dead[b->last], s->dead[b->last] = k;
  }
}

/* -- two ways to place them ---------------------------------------------------------------------------------------- */

/* The blocks that have no place yet, above `from`. */
static bool walk(placing *s, int64_t from) {
  s->holes.n = 0;
  s->holes.top = from;
  for (int i = 0; i < s->p->n_steps; i++) {
    for (int k = s->born[i]; k >= 0; k = s->next_born[k])
      if (s->blocks[k].offset < 0) s->blocks[k].offset = claim(&s->holes, s->blocks[k].bytes);
    for (int k = s->dead[i]; k >= 0; k = s->next_dead[k])
      if (s->blocks[k].offset >= from && !give_back(s->c, &s->holes, s->blocks[k].offset, s->blocks[k].bytes))
        return false;
  }
  return true;
}

static int larger_first(const void *x, const void *y) {
  const block *a = *(block *const *)x, *b = *(block *const *)y;
  if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
  return (a > b) - (a < b);
}

/* Where b fits best between those of the n placed blocks that live while it does, or behind them. */
static int64_t best_gap(block *const *placed, int n, const block *b) {
  int64_t best = -1, least = INT64_MAX, end = 0;
  for (int i = 0; i < n; i++) {
    const block *other = placed[i];
    if (other->last < b->first || b->last < other->first) continue;
    int64_t gap = other->offset - end;
    if (gap >= b->bytes && gap < least) best = end, least = gap;
    if (other->offset + other->bytes > end) end = other->offset + other->bytes;
  }
  return best >= 0 ? best : end;
}

/* The largest blocks; returns how high they are piled. */
static int64_t pile(placing *s) {
  int64_t height = 0;
  for (int k = 0; k < s->n; k++) s->by_size[k] = &s->blocks[k], s->blocks[k].offset = -1;
  qsort(s->by_size, (size_t)s->n, sizeof(block *), larger_first);
  for (int k = 0; k < s->n && k < MOST; k++) {
    block *b = s->by_size[k];
    int at = k;
    b->offset = best_gap(s->placed, k, b);
    for (; at > 0 && s->placed[at - 1]->offset > b->offset; at--) s->placed[at] = s->placed[at - 1];
    s->placed[at] = b;
    if (b->offset + b->bytes > height) height = b->offset + b->bytes;
  }
  return height;
}

/* -- the arena ----------------------------------------------------------------------------------------------------- */

static void keep(placing *s) {
  mx_root *roots = s->p->roots;
  for (int k = 0; k < s->n; k++) roots[s->blocks[k].root].offset = s->blocks[k].offset;
  s->p->arena_bytes = (size_t)s->holes.top;
}

static bool reserve(placing *s, mx_arena *memory, int32_t **heir, int64_t **change) {
  size_t steps = (size_t)s->p->n_steps + 1, roots = (size_t)s->p->n_roots + 1;
  int **chains[] = {&s->born, &s->dead, &s->next_born, &s->next_dead};
  for (int k = 0; k < 4; k++)
    if (!(*chains[k] = mx_arena_alloc(s->c, memory, (k < 2 ? steps : roots) * sizeof(int)))) return false;
  s->blocks = mx_arena_alloc(s->c, memory, roots * sizeof *s->blocks);
  s->by_size = mx_arena_alloc(s->c, memory, 2 * roots * sizeof *s->by_size);
  s->placed = s->by_size ? s->by_size + roots : NULL;
  *heir = mx_arena_alloc(s->c, memory, roots * sizeof **heir);
  *change = mx_arena_alloc(s->c, memory, steps * sizeof **change);
  return s->blocks && s->by_size && *heir && *change;
}

static bool place(placing *s, int64_t peak) {
  if (!walk(s, 0)) return false;
  keep(s);
  if (s->holes.top - peak <= s->holes.top / SHARE) return true;
  if (!walk(s, pile(s))) return false;
  if ((size_t)s->holes.top < s->p->arena_bytes) keep(s);
  return true;
}

/* Heirs follow those that they overwrite. */
static void place_heirs(mx_plan *p, const int32_t *heir) {
  for (int r = 0; r < p->n_roots; r++)
    for (int32_t q = r; p->roots[r].overwrites < 0 && heir[q] >= 0; q = heir[q])
      p->roots[heir[q]].offset = p->roots[r].offset;
}

bool mx_plan_place(mx_ctx *c, mx_plan *p) {
  placing s = {.c = c, .p = p};
  mx_arena memory = {.engine = c->engine};
  int32_t *heir;
  int64_t *change;
  bool ok = reserve(&s, &memory, &heir, &change);
  if (ok) {
    make_blocks(&s, heir);
    make_chains(&s);
    ok = place(&s, mx_plan_peak(p, change));
  }
  if (ok) place_heirs(p, heir);
  mx_arena_release(&memory);
  mx_free(c->engine, s.holes.items, (size_t)s.holes.cap * sizeof(hole));
  return ok;
}
