/* place.c: offsets in the arena. Steps are walked in order; a root takes the best fitting hole when it is born and
 * gives it back after its last use. Holes are kept in a list sorted by offset, so that neighbours merge. */
#include "plan_impl.h"

enum { ALIGN = 64 };

typedef struct hole {
  int64_t offset, bytes;
} hole;

typedef struct holes {
  hole *items;
  int n, cap;
  int64_t top; /* the arena's size so far; beyond it all is free */
} holes;

static int64_t padded(size_t bytes) { return (int64_t)((bytes + ALIGN - 1) / ALIGN * ALIGN + (bytes ? 0 : ALIGN)); }

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

static bool is_here(const mx_root *r, int step) { return r->place == MX_AT_ARENA && r->first == step; }

/* Roots are in the order of their first step; those that die at a step are found through a chain by last step. */
static bool walk(mx_ctx *c, mx_plan *p, holes *h, int *chain, int *next) {
  for (int i = 0; i < p->n_steps; i++) chain[i] = -1;
  for (int r = 0; r < p->n_roots; r++)
    if (p->roots[r].place == MX_AT_ARENA) {
      next[r] = chain[p->roots[r].last];
      chain[p->roots[r].last] = r;
    }
  int r = 0;
  while (r < p->n_roots && p->roots[r].first < 0) r++;
  for (int i = 0; i < p->n_steps; i++) {
    for (; r < p->n_roots && p->roots[r].first == i; r++)
      if (is_here(&p->roots[r], i)) {
        int32_t old = p->roots[r].overwrites;
        p->roots[r].offset = old >= 0 ? p->roots[old].offset : claim(h, padded(p->roots[r].bytes));
      }
    for (int k = chain[i]; k >= 0; k = next[k])
      if (!p->roots[k].overwritten && !give_back(c, h, p->roots[k].offset, padded(p->roots[k].bytes))) return false;
  }
  return true;
}

bool mx_plan_place(mx_ctx *c, mx_plan *p) {
  holes h = {0};
  int *chain = mx_arena_alloc(c, &p->memory, (size_t)(p->n_steps + 1) * sizeof *chain);
  int *next = mx_arena_alloc(c, &p->memory, (size_t)(p->n_roots + 1) * sizeof *next);
  bool ok = chain && next && walk(c, p, &h, chain, next);
  mx_free(c->engine, h.items, (size_t)h.cap * sizeof *h.items);
  p->arena_bytes = (size_t)h.top;
  return ok;
}
