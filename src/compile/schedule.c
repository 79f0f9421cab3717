/* schedule.c: steps in an order for which the arena is smaller.
 *
 *     traced:  b = dot a w,  g = dot b v,  ...,  w' = w - g      g lives until the updates at the end,
 *     early:   b = dot a w,  g = dot b v,  w' = w - g, ...       here it dies at once: w' is a result and in no arena
 *
 * Any order that keeps producers before readers gives the same bits. Some are tried, each is laid out as the plan would
 * be (lifetimes, overwritten operands, offsets), and the one with the smallest arena stays; one that saves little does
 * not: the traced order has readers close to producers, in the caches. Each order takes time linear in the operands of
 * all steps, times the logarithm of their number. (List scheduling by bytes freed and depth-first orders are those of
 * XLA's memory schedulers, Sethi and Ullman's numbers the origin of the latter.) */
#include "plan_impl.h"

#include <stdlib.h>

enum {
  LEAST = 1 << 18, /* bytes of an arena that are worth the search */
  SHARE = 32       /* one of so many has to be saved */
};

typedef struct ready {
  int64_t gain;
  int32_t step;
} ready;

typedef struct need {
  double weight; /* bytes of all that the step is made of, those of shared steps more than once */
  int32_t step;
} need;

/* Steps and roots are numbered as traced. */
typedef struct scheduling {
  mx_ctx *c;
  mx_plan *p;
  mx_arena memory;
  int n;
  int32_t *reads, *read_at;     /* by step: the roots that it reads and does not make, each once */
  int32_t *readers, *reader_at; /* by root: the steps that read it */
  int32_t *made_at;             /* by step: its first root; they follow one another */
  int32_t *updater;             /* by root: of an input, the step that all its other readers come before; or -1 */
  int32_t *effect_before;       /* by step with an effect: the one before it, or -1 */
  int32_t *effect_after;
  /* of one order */
  int32_t *order, *best;
  int32_t *waits;  /* by step: what has to come before it and did not yet */
  int32_t *left;   /* by root: steps that have not read it yet, */
  int32_t *others; /* and their numbers, by exclusive or: of the last one its number */
  int64_t *gain;   /* by step: bytes that would die with it, less those that it makes */
  ready *heap;
  int n_heap;
  double *weight; /* by step, as in needs */
  need *stack;
  int32_t *at; /* by step: where it is in the order */
  bool *seen;
  /* the plan as it was traced */
  mx_step *steps;
  const char **labels;
  int32_t *firsts, *step_of, *eqns;
} scheduling;

static void *take(scheduling *s, int64_t n, size_t item) {
  return mx_arena_alloc(s->c, &s->memory, (size_t)(n + 1) * item);
}

static int32_t root_of(const scheduling *s, int t) { return s->p->slots[s->p->tensor_vars[t]].root; }

/* Results have memory of their own from the start to the end. */
static int64_t arena_bytes(const scheduling *s, int32_t root) {
  const mx_root *r = &s->p->roots[root];
  return r->place == MX_AT_ARENA ? (int64_t)r->bytes : 0;
}

/* -- the graph ----------------------------------------------------------------------------------------------------- */

static void find_reads(scheduling *s, int32_t *seen) {
  int32_t n = 0;
  for (int32_t i = 0; i < s->n; i++) {
    const mx_step *step = &s->p->steps[i];
    s->read_at[i] = n;
    for (int k = 0; k < step->n_in; k++) {
      int32_t r = root_of(s, step->tensors + k);
      if (seen[r] == i + 1 || s->p->roots[r].first == i) continue; /* a product that its own code reads */
      seen[r] = i + 1;
      s->reads[n++] = r;
      s->reader_at[r + 1]++;
    }
  }
  s->read_at[s->n] = n;
}

static void find_readers(scheduling *s, int32_t *fill) {
  for (int32_t r = 0; r < s->p->n_roots; r++) {
    fill[r] = s->reader_at[r];
    s->reader_at[r + 1] += fill[r];
  }
  for (int32_t i = 0; i < s->n; i++)
    for (int32_t k = s->read_at[i]; k < s->read_at[i + 1]; k++) s->readers[fill[s->reads[k]]++] = i;
}

static void find_made(scheduling *s) {
  int32_t r = 0;
  for (int32_t i = 0; i < s->n; i++) {
    while (r < s->p->n_roots && s->p->roots[r].first < i) r++;
    s->made_at[i] = r;
  }
  s->made_at[s->n] = s->p->n_roots;
}

static bool has_effect(const mx_eqn *e) { return e->prim->effect != MX_EFFECT_NONE || mx_eqn_is_ordered(e); }

static void find_effects(scheduling *s) {
  int32_t before = -1;
  for (int32_t i = 0; i < s->n; i++) {
    s->effect_before[i] = s->effect_after[i] = -1;
    if (!has_effect(s->p->steps[i].eqn)) continue;
    s->effect_before[i] = before;
    if (before >= 0) s->effect_after[before] = i;
    before = i;
  }
}

/* The last reader of an input that gives a result of its size: were the input donated, the result would take its memory
 * (donate.c), as long as no other reader comes later. */
static void find_updaters(scheduling *s) {
  for (int32_t r = 0; r < s->p->n_roots; r++) {
    s->updater[r] = -1;
    if (s->p->roots[r].place != MX_AT_INPUT || s->reader_at[r] == s->reader_at[r + 1]) continue;
    int32_t last = s->readers[s->reader_at[r + 1] - 1];
    for (int32_t made = s->made_at[last]; made < s->made_at[last + 1]; made++)
      if (s->p->roots[made].place == MX_AT_RESULT && s->p->roots[made].bytes == s->p->roots[r].bytes)
        s->updater[r] = last;
  }
}

static bool make_graph(scheduling *s) {
  int n_roots = s->p->n_roots, n_reads = s->p->n_tensors;
  int32_t *scratch = take(s, n_roots, sizeof *scratch);
  s->reads = take(s, n_reads, sizeof *s->reads), s->readers = take(s, n_reads, sizeof *s->readers);
  s->read_at = take(s, s->n, sizeof *s->read_at), s->reader_at = take(s, n_roots, sizeof *s->reader_at);
  s->made_at = take(s, s->n, sizeof *s->made_at), s->updater = take(s, n_roots, sizeof *s->updater);
  s->effect_before = take(s, s->n, sizeof *s->effect_before);
  s->effect_after = take(s, s->n, sizeof *s->effect_after);
  if (!scratch || !s->reads || !s->readers || !s->read_at || !s->reader_at || !s->made_at || !s->updater ||
      !s->effect_before || !s->effect_after)
    return false;
  find_reads(s, scratch);
  find_readers(s, scratch);
  find_made(s);
  find_effects(s);
  find_updaters(s);
  return true;
}

/* -- list orders --------------------------------------------------------------------------------------------------- */

static bool comes_first(ready a, ready b) { return a.gain != b.gain ? a.gain > b.gain : a.step < b.step; }

static void push(scheduling *s, ready x) {
  int i = s->n_heap++;
  for (; i > 0 && comes_first(x, s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
  s->heap[i] = x;
}

static ready pop(scheduling *s) {
  ready top = s->heap[0], x = s->heap[--s->n_heap];
  int i = 0;
  for (int k = 1; k < s->n_heap; k = 2 * i + 1) {
    if (k + 1 < s->n_heap && comes_first(s->heap[k + 1], s->heap[k])) k++;
    if (!comes_first(s->heap[k], x)) break;
    s->heap[i] = s->heap[k];
    i = k;
  }
  s->heap[i] = x;
  return top;
}

/* How soon a step that is ready comes. Not greedy: what frees memory at once, the rest as traced. */
static int64_t urgency(const scheduling *s, int32_t i, bool greedy) {
  return greedy || s->gain[i] > 0 ? s->gain[i] : 0;
}

static void done_waiting(scheduling *s, int32_t i, bool greedy) {
  if (--s->waits[i] == 0) push(s, (ready){urgency(s, i, greedy), i});
}

/* One reader is left: the root dies with it. */
static void last_reader(scheduling *s, int32_t root, bool greedy) {
  int32_t i = s->others[root];
  s->gain[i] += arena_bytes(s, root);
  if (s->updater[root] == i) done_waiting(s, i, greedy);
  else if (s->waits[i] == 0 && arena_bytes(s, root)) push(s, (ready){urgency(s, i, greedy), i});
}

static void start_list(scheduling *s) {
  memset(s->waits, 0, (size_t)s->n * sizeof *s->waits);
  memset(s->gain, 0, (size_t)s->n * sizeof *s->gain);
  s->n_heap = 0;
  for (int32_t i = 0; i < s->n; i++) {
    s->waits[i] = 1 + (s->effect_before[i] >= 0); /* 1: for the start */
    for (int32_t r = s->made_at[i]; r < s->made_at[i + 1]; r++)
      if (s->reader_at[r] < s->reader_at[r + 1]) s->gain[i] -= arena_bytes(s, r);
  }
  for (int32_t r = 0; r < s->p->n_roots; r++) {
    s->left[r] = s->reader_at[r + 1] - s->reader_at[r];
    s->others[r] = 0;
    for (int32_t k = s->reader_at[r]; k < s->reader_at[r + 1]; k++) {
      s->others[r] ^= s->readers[k];
      s->waits[s->readers[k]] += s->firsts[r] >= 0;
    }
    if (s->updater[r] >= 0 && s->left[r] > 1) s->waits[s->updater[r]]++;
    if (s->left[r] == 1) s->gain[s->others[r]] += arena_bytes(s, r);
  }
}

/* A step that has come: what it makes is there, what it reads has a reader less. */
static void finish(scheduling *s, int32_t i, bool greedy) {
  for (int32_t r = s->made_at[i]; r < s->made_at[i + 1]; r++)
    for (int32_t k = s->reader_at[r]; k < s->reader_at[r + 1]; k++) done_waiting(s, s->readers[k], greedy);
  if (s->effect_after[i] >= 0) done_waiting(s, s->effect_after[i], greedy);
  for (int32_t k = s->read_at[i]; k < s->read_at[i + 1]; k++) {
    int32_t r = s->reads[k];
    s->others[r] ^= i;
    if (--s->left[r] == 1) last_reader(s, r, greedy);
  }
}

/* A step may be in the heap several times, with what it gained meanwhile; the first one counts. */
static void list_order(scheduling *s, bool greedy) {
  start_list(s);
  for (int32_t i = 0; i < s->n; i++) done_waiting(s, i, greedy);
  for (int n = 0; n < s->n;) {
    ready next = pop(s);
    if (s->waits[next.step] < 0) continue;
    s->waits[next.step] = -1;
    s->order[n++] = next.step;
    finish(s, next.step, greedy);
  }
}

/* -- depth first --------------------------------------------------------------------------------------------------- */

static int heaviest_last(const void *x, const void *y) {
  const need *a = x, *b = y;
  if (a->weight != b->weight) return a->weight > b->weight ? 1 : -1;
  return (a->step < b->step) - (a->step > b->step);
}

static void push_need(scheduling *s, int32_t i, int *n) {
  if (i >= 0 && !s->seen[i]) s->stack[(*n)++] = (need){s->weight[i], i};
}

/* What a step needs, the heaviest on top. */
static void push_needs(scheduling *s, int32_t i, int *n) {
  int first = *n;
  for (int32_t k = s->read_at[i]; k < s->read_at[i + 1]; k++) {
    int32_t r = s->reads[k];
    push_need(s, s->firsts[r], n);
    for (int32_t j = s->reader_at[r]; s->updater[r] == i && j < s->reader_at[r + 1]; j++)
      if (s->readers[j] != i) push_need(s, s->readers[j], n);
  }
  push_need(s, s->effect_before[i], n);
  qsort(s->stack + first, (size_t)(*n - first), sizeof *s->stack, heaviest_last);
}

static int add_with_needs(scheduling *s, int32_t last, int n_order) {
  int n = 0;
  push_need(s, last, &n);
  while (n) {
    int32_t i = s->stack[n - 1].step;
    int before = n;
    if (!s->seen[i]) push_needs(s, i, &n);
    if (n > before) continue;
    if (!s->seen[i]) s->order[n_order++] = i;
    s->seen[i] = true;
    n--;
  }
  return n_order;
}

static void weigh(scheduling *s, int32_t i) {
  s->weight[i] = 0;
  for (int32_t r = s->made_at[i]; r < s->made_at[i + 1]; r++) s->weight[i] += (double)arena_bytes(s, r);
  for (int32_t k = s->read_at[i]; k < s->read_at[i + 1]; k++)
    if (s->firsts[s->reads[k]] >= 0) s->weight[i] += s->weight[s->firsts[s->reads[k]]];
}

static bool is_read(const scheduling *s, int32_t i) {
  for (int32_t r = s->made_at[i]; r < s->made_at[i + 1]; r++)
    if (s->reader_at[r] < s->reader_at[r + 1]) return true;
  return false;
}

/* From each step that none reads to what it needs. */
static void depth_first(scheduling *s) {
  int n = 0;
  memset(s->seen, 0, (size_t)s->n);
  for (int32_t i = 0; i < s->n; i++) weigh(s, i);
  for (int32_t i = 0; i < s->n; i++)
    if (!is_read(s, i)) n = add_with_needs(s, i, n);
}

/* -- the plan in another order ------------------------------------------------------------------------------------- */

static void *copy_of(scheduling *s, const void *from, int64_t n, size_t item) {
  void *to = take(s, n, item);
  if (to && n) memcpy(to, from, (size_t)n * item);
  return to;
}

static bool keep_traced(scheduling *s) {
  mx_plan *p = s->p;
  s->steps = copy_of(s, p->steps, s->n, sizeof *p->steps);
  s->labels = copy_of(s, p->labels, s->n, sizeof *p->labels);
  s->step_of = copy_of(s, p->step_of, p->program->n_eqn, sizeof *p->step_of);
  s->eqns = copy_of(s, p->order, p->program->n_eqn, sizeof *p->order);
  s->firsts = take(s, p->n_roots, sizeof *s->firsts);
  if (!s->steps || !s->labels || !s->step_of || !s->eqns || !s->firsts) return false;
  for (int r = 0; r < p->n_roots; r++) s->firsts[r] = p->roots[r].first;
  return true;
}

/* Steps in this order; lifetimes and offsets are those of another. */
static bool apply(scheduling *s, const int32_t *order) {
  mx_plan *p = s->p;
  int32_t *at = s->at;
  for (int32_t i = 0; i < s->n; i++) {
    at[order[i]] = i;
    p->steps[i] = s->steps[order[i]];
    p->labels[i] = s->labels[order[i]];
  }
  for (int e = 0; e < p->program->n_eqn; e++) p->step_of[e] = s->step_of[e] < 0 ? -1 : at[s->step_of[e]];
  for (int r = 0; r < p->n_roots; r++) p->roots[r].first = s->firsts[r] < 0 ? -1 : at[s->firsts[r]];
  return mx_plan_lay_out(s->c, p);
}

/* -- equations, for the reader of the program ---------------------------------------------------------------------- */

/* The views that lead to a variable and are not there yet. */
static int note_views(const scheduling *s, const int32_t *view, int32_t v, int n) {
  int first = n;
  for (; view[v] >= 0 && !s->seen[view[v]]; v = s->p->program->eqns[view[v]].in[0]) {
    s->seen[view[v]] = true;
    s->p->order[n++] = view[v];
  }
  for (int i = first, j = n - 1; i < j; i++, j--) {
    int32_t e = s->p->order[i];
    s->p->order[i] = s->p->order[j], s->p->order[j] = e;
  }
  return n;
}

static int note_step(const scheduling *s, const int32_t *view, const int32_t *next, int32_t first, int n) {
  const mx_program *g = s->p->program;
  for (int32_t e = first; e >= 0; e = next[e])
    for (int k = 0; k < g->eqns[e].n_in; k++) n = note_views(s, view, g->eqns[e].in[k], n);
  for (int32_t e = first; e >= 0; e = next[e]) s->p->order[n++] = e;
  return n;
}

/* Those of each step, as they were within it, behind the views that it is the first to read; then the other views. */
static bool note_equations(scheduling *s) {
  const mx_program *g = s->p->program;
  int32_t *view = take(s, g->n_var, sizeof *view), *next = take(s, g->n_eqn, sizeof *next);
  int32_t *members = take(s, s->n, sizeof *members);
  int n = 0;
  s->seen = take(s, g->n_eqn, sizeof *s->seen);
  if (!view || !next || !members || !s->seen) return false;
  for (int v = 0; v < g->n_var; v++) view[v] = -1;
  for (int i = 0; i < s->n; i++) members[i] = -1;
  for (int i = g->n_eqn - 1; i >= 0; i--) {
    int32_t e = s->eqns[i], step = s->p->step_of[e];
    if (step < 0) view[g->eqns[e].out] = e;
    else next[e] = members[step], members[step] = e;
  }
  for (int i = 0; i < s->n; i++) n = note_step(s, view, next, members[i], n);
  for (int i = 0; i < g->n_eqn; i++)
    if (s->p->step_of[s->eqns[i]] < 0) n = note_views(s, view, g->eqns[s->eqns[i]].out, n);
  return true;
}

/* -- the pass ------------------------------------------------------------------------------------------------------ */

static bool reserve(scheduling *s) {
  int n_roots = s->p->n_roots, n_reads = s->p->n_tensors;
  s->order = take(s, s->n, sizeof *s->order), s->best = take(s, s->n, sizeof *s->best);
  s->waits = take(s, s->n, sizeof *s->waits), s->gain = take(s, s->n, sizeof *s->gain);
  s->left = take(s, n_roots, sizeof *s->left), s->others = take(s, n_roots, sizeof *s->others);
  s->heap = take(s, 2 * (int64_t)s->n + n_roots, sizeof *s->heap);
  s->weight = take(s, s->n, sizeof *s->weight), s->seen = take(s, s->n, 1);
  s->at = take(s, s->n, sizeof *s->at);
  s->stack = take(s, 2 * ((int64_t)s->n + n_reads), sizeof *s->stack);
  return s->order && s->best && s->waits && s->gain && s->left && s->others && s->heap && s->weight && s->seen &&
         s->at && s->stack;
}

typedef enum { EARLY, GREEDY, DEEP, ORDERS } order_kind;

static void make_order(scheduling *s, order_kind kind) {
  if (kind == DEEP) depth_first(s);
  else list_order(s, kind == GREEDY);
}

/* Tries the orders; leaves the plan in the best one. */
static bool search(scheduling *s) {
  size_t least = s->p->arena_bytes - s->p->arena_bytes / SHARE;
  bool found = false;
  for (int32_t i = 0; i < s->n; i++) s->best[i] = i;
  for (order_kind kind = 0; kind < ORDERS; kind++) {
    make_order(s, kind);
    if (!apply(s, s->order)) return false;
    if (s->p->arena_bytes >= least) continue;
    found = true;
    least = s->p->arena_bytes;
    memcpy(s->best, s->order, (size_t)s->n * sizeof *s->best);
  }
  return apply(s, s->best) && (!found || note_equations(s));
}

bool mx_plan_schedule(mx_ctx *c, mx_plan *p) {
  scheduling s = {.c = c, .p = p, .n = p->n_steps, .memory.engine = c->engine};
  if (p->n_steps < 3 || p->arena_bytes < LEAST) return true;
  bool ok = keep_traced(&s) && make_graph(&s) && reserve(&s) && search(&s);
  mx_arena_release(&s.memory);
  return ok;
}
