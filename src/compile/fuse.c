/* fuse.c: which equations run in one pass over the elements.
 *
 *     c = mul a b      \                                     a group: elementwise equations of one size, reshapes
 *     d = add c 1       }  one step {a, b} -> {d, f}         between them; each is computed with the others' values
 *     f = exp d        /                                     at hand, and only what others use goes to memory
 *
 * A group may have rows: sums (products, extremes) over the last axes are values of one element a row, and what is made
 * of those, repeated over their rows, may join again: a softmax or a layer norm is one pass over rows.
 *
 * Equations are taken in order; each joins the groups of its operands where that makes no cycle: no way from the union
 * through an equation outside back into it. Then the groups are put in order, each as early as its last equation asks,
 * and take in the products that they read (epilogue.c).
 */
#include "plan_impl.h"

#include <stdlib.h>

enum {
  MAX_OPS = 48,     /* equations of a group */
  MAX_VISITS = 400, /* equations looked at for a way back; beyond, the groups stay apart */
  MAX_COLS = 8192,  /* elements of a row: some rows of values have to fit the second cache */
  LONG_ROW = 128,   /* shorter rows are not worth being made of what has none */
  FEW_ROWS = 8,     /* with fewer rows than this, threads have nothing to share ... */
  SMALL = 16384     /* ... which matters from here on */
};

typedef struct fusing {
  mx_ctx *c;
  const mx_program *p;
  mx_fusion *f;
  int32_t *producer;         /* by variable: its equation, or -1 */
  int32_t *uses, *use_start; /* by equation: the equations that read its results */
  int32_t *ordered_before;   /* by equation with an ordered effect: the one before it, or -1 */
  int32_t *group, *next;     /* by equation: its group's first member; the next member */
  int32_t *tail, *size;      /* by group: its last member, how many they are */
  int32_t *reader;           /* by variable: the last equation so far that reads it, or -1 */
  int64_t *elements, *cols;  /* by group: of its full values; of a row, or 0 */
  int32_t *seen, *stack;
  int32_t stamp;
} fusing;

/* -- what may join ------------------------------------------------------------------------------------------------- */

/* The result is the first operand's elements in the same order, or (broadcast) each of them many times. */
bool mx_eqn_is_alias(const mx_program *p, const mx_eqn *e) {
  switch (e->prim->id) {
  case MX_PRIM_reshape:
  case MX_PRIM_broadcast:
  case MX_PRIM_stop_gradient: return true;
  case MX_PRIM_convert: return p->avals[e->in[0]]->dtype == p->avals[e->out]->dtype;
  default: return false;
  }
}

/* Elements of a row, if `from` is one element a row of `to`: its last axes are 1 where those of `to` make the row. */
static int64_t spread_width(const mx_aval *from, const mx_aval *to) {
  if (from->size == 0 || to->size % from->size) return 0;
  int64_t cols = to->size / from->size, width = 1;
  int shift = to->ndim - from->ndim, i = to->ndim - 1;
  for (; i >= 0 && width < cols; width *= to->shape[i--])
    if (i >= shift && from->shape[i - shift] != 1) return 0;
  for (; i >= 0; i--)
    if ((i >= shift ? from->shape[i - shift] : 1) != to->shape[i]) return 0;
  return width == cols && cols > 1 && from->size > 1 ? cols : 0;
}

/* Elements of a row, if the equation joins the last axes of its operand and code can do that. */
static int64_t fold_width(const mx_program *p, const mx_eqn *e) {
  if (e->n_in != 1 || !mx_cpu_folds(e->prim, p->avals[e->in[0]]->dtype)) return 0;
  const mx_aval *x = p->avals[e->in[0]], *y = p->avals[e->out];
  int64_t width = 1, reduced = e->params->axes.axes.n;
  if (y->size < 2 || x->dtype != y->dtype) return 0;
  for (int i = x->ndim - 1; i >= 0 && reduced > 0; i--)
    if (mx_dims_has(&e->params->axes.axes, i)) width *= x->shape[i], reduced--;
    else if (x->shape[i] != 1) return 0;
  return width > 1 ? width : 0;
}

/* Elements that are left, if the equation joins the first axes of its operand: a result that ends its group. */
static int64_t join_width(const mx_program *p, const mx_eqn *e) {
  if (e->n_in != 1 || !mx_cpu_folds(e->prim, p->avals[e->in[0]]->dtype)) return 0;
  const mx_aval *x = p->avals[e->in[0]], *y = p->avals[e->out];
  int64_t reduced = e->params->axes.axes.n;
  if (x->size == y->size || x->dtype != y->dtype) return 0;
  for (int i = 0; i < x->ndim && reduced > 0; i++)
    if (mx_dims_has(&e->params->axes.axes, i)) reduced--;
    else if (x->shape[i] != 1) return 0;
  return y->size;
}

/* The length of rows in which so many elements may be taken: any that divides them. 0: none that is of use. */
int64_t mx_any_width(int64_t elements) {
  if (elements <= 2048) return elements;
  for (int64_t cols = 2048; cols >= 64; cols--)
    if (elements % cols == 0) return cols;
  return 0;
}

bool mx_eqn_joins_rows(const mx_program *p, const mx_eqn *e) { return fold_width(p, e) == 0 && join_width(p, e) > 0; }

static bool may_join(const mx_program *p, const mx_eqn *e) {
  if (e->n_out != 1 || p->avals[e->out]->size == 0) return false;
  const mx_aval *out = p->avals[e->out];
  if (e->prim->id == MX_PRIM_broadcast)
    return p->avals[e->in[0]]->size == out->size || spread_width(p->avals[e->in[0]], out) > 0;
  return mx_eqn_is_alias(p, e) || mx_cpu_is_elementwise(e->prim) || fold_width(p, e) > 0 || join_width(p, e) > 0;
}

/* How the equation may read operand k inside its group: -1 not at all, 0 element by element, else in rows so long. */
static int64_t link_width(const mx_program *p, const mx_eqn *e, int k) {
  const mx_aval *v = p->avals[e->in[k]], *out = p->avals[e->out];
  int64_t width = fold_width(p, e);
  if (width > 0) return width;
  width = join_width(p, e);
  if (width > 0) return width > 1 ? width : 0;
  if (v->size == out->size) return 0;
  width = spread_width(v, out);
  return width > 0 ? width : -1;
}

/* -- cycles -------------------------------------------------------------------------------------------------------- */

static void push_uses(fusing *f, int32_t i, int32_t a, int32_t b, int *n, bool *back) {
  for (int32_t k = f->use_start[i]; k < f->use_start[i + 1]; k++) {
    int32_t g = f->group[f->uses[k]];
    if (g < 0) continue; /* not looked at yet: no way back leads through it */
    if (g == a || g == b) *back = true;
    else if (f->seen[g] != f->stamp) {
      f->seen[g] = f->stamp;
      f->stack[(*n)++] = g;
    }
  }
}

/* Whether a way leads from groups a and b through a group outside back into them. */
static bool makes_cycle(fusing *f, int32_t a, int32_t b) {
  int n = 0, visits = 0;
  bool back = false, ignored = false;
  f->stamp++;
  for (int32_t i = a; i >= 0; i = f->next[i]) push_uses(f, i, a, b, &n, &ignored);
  for (int32_t i = b; i >= 0; i = f->next[i]) push_uses(f, i, a, b, &n, &ignored);
  while (n && !back) {
    int32_t g = f->stack[--n];
    for (int32_t i = g; i >= 0 && !back; i = f->next[i]) {
      if (++visits > MAX_VISITS) return true;
      push_uses(f, i, a, b, &n, &back);
    }
  }
  return back;
}

/* -- joining ------------------------------------------------------------------------------------------------------- */

static void append_members(fusing *f, int32_t a, int32_t b) {
  for (int32_t i = b; i >= 0; i = f->next[i]) f->group[i] = a;
  f->next[f->tail[a]] = b;
  f->tail[a] = f->tail[b];
  f->size[a] += f->size[b];
}

static bool is_fold(const fusing *f, const mx_eqn *e) { return mx_cpu_folds(e->prim, f->p->avals[e->in[0]]->dtype); }

/* Values of rows are not joined further. */
static bool has_fold(const fusing *f, int32_t g) {
  for (int32_t i = g; i >= 0; i = f->next[i])
    if (f->p->eqns[i].n_in && is_fold(f, &f->p->eqns[i])) return true;
  return false;
}

/* Whether a group's values have their place among `elements` in rows of `cols`. */
static bool fits_rows(const fusing *f, int32_t g, int64_t elements, int64_t cols) {
  if (f->cols[g]) return f->cols[g] == cols && f->elements[g] == elements;
  return f->elements[g] == elements || (cols && f->elements[g] == elements / cols && !has_fold(f, g));
}

/* Elements of an operand that is read in rows of `width`, or (0) one by one. */
static int64_t read_size(const fusing *f, const mx_eqn *e, int64_t width, int64_t cols) {
  return f->p->avals[e->out]->size / (width > 0 ? cols : 1);
}

/* Whether the members of group g read those of `other` as code can: values of rows along rows. */
static bool edges_fit(const fusing *f, int32_t g, int32_t other, int64_t elements, int64_t cols) {
  for (int32_t i = g; i >= 0; i = f->next[i]) {
    const mx_eqn *e = &f->p->eqns[i];
    for (int k = 0; k < e->n_in; k++) {
      int32_t from = f->producer[e->in[k]];
      if (from < 0 || f->group[from] != other) continue;
      if (mx_eqn_joins_rows(f->p, &f->p->eqns[from])) return false;
      int64_t width = link_width(f->p, e, k);
      if (width < 0 || (width > 0 && width != cols)) return false;
      if (f->p->avals[e->in[k]]->size != (is_fold(f, e) ? elements : read_size(f, e, width, cols))) return false;
    }
  }
  return true;
}

/* Elements and columns of the union of two groups, of which one reads the other in rows of `width`; false: no. */
static bool union_shape(const fusing *f, int32_t a, int32_t b, int64_t width, int64_t full, int64_t *elements,
                        int64_t *cols) {
  *cols = f->cols[a] ? f->cols[a] : f->cols[b] ? f->cols[b] : width;
  *elements = f->cols[a] ? f->elements[a] : f->cols[b] ? f->elements[b] : full;
  if (width > 0 && width != *cols) return false;
  if (*cols > MAX_COLS || (*cols && *elements / *cols<FEW_ROWS && * elements> SMALL)) return false;
  if (!fits_rows(f, a, *elements, *cols) || !fits_rows(f, b, *elements, *cols)) return false;
  return edges_fit(f, a, b, *elements, *cols) && edges_fit(f, b, a, *elements, *cols);
}

/* The group of the earlier first equation takes the other's members. `full`: elements of the equation that joins. */
static void join(fusing *f, int32_t a, int32_t b, int64_t width, int64_t full) {
  int64_t elements, cols;
  if (a == b || f->size[a] + f->size[b] > MAX_OPS) return;
  if (!union_shape(f, a, b, width, full, &elements, &cols) || makes_cycle(f, a, b)) return;
  int32_t first = a < b ? a : b;
  append_members(f, first, a < b ? b : a);
  f->elements[first] = elements;
  f->cols[first] = cols;
}

static void join_operands(fusing *f, int32_t i) {
  const mx_eqn *e = &f->p->eqns[i];
  if (!may_join(f->p, e)) return;
  for (int k = 0; k < e->n_in; k++) {
    int32_t from = f->producer[e->in[k]];
    if (from < 0 || !may_join(f->p, &f->p->eqns[from]) || mx_eqn_joins_rows(f->p, &f->p->eqns[from])) continue;
    if (e->late && !f->p->eqns[from].late) continue;
    int64_t width = link_width(f->p, e, k);
    if (width >= 0)
      join(f, f->group[i], f->group[from], width,
           is_fold(f, e) ? f->p->avals[e->in[k]]->size : f->p->avals[e->out]->size);
  }
}

/* What one operand is read for, at once: its sums, and what else is made of it. */
static void join_readers(fusing *f, int32_t i) {
  const mx_eqn *e = &f->p->eqns[i];
  if (!may_join(f->p, e)) return;
  for (int k = 0; k < e->n_in; k++) {
    int32_t v = e->in[k], before = f->reader[v];
    f->reader[v] = i;
    if (before < 0 || before == i || f->p->avals[v]->size < SMALL) continue;
    const mx_eqn *other = &f->p->eqns[before];
    int at = 0;
    while (other->in[at] != v) at++;
    int64_t width = link_width(f->p, e, k), their = link_width(f->p, other, at);
    if (width < 0 || their < 0 || (!is_fold(f, e) && !is_fold(f, other))) continue;
    if (width == 0) width = their;
    if (width == 0 || width >= LONG_ROW) join(f, f->group[i], f->group[before], width, f->p->avals[v]->size);
  }
}

/* Each equation starts as a group of its own. */
static void start_group(fusing *f, int32_t i) {
  const mx_eqn *e = &f->p->eqns[i];
  f->group[i] = f->tail[i] = i;
  f->next[i] = -1;
  f->size[i] = 1;
  bool fold = e->n_in == 1 && e->n_out == 1 && is_fold(f, e) && may_join(f->p, e);
  f->cols[i] = fold ? link_width(f->p, e, 0) : 0;
  f->elements[i] = fold ? f->p->avals[e->in[0]]->size : e->n_out ? f->p->avals[e->out]->size : 0;
}

/* -- order --------------------------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b) {
  int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
  return (x > y) - (x < y);
}

static void emit(fusing *f, int32_t g) {
  mx_fusion *o = f->f;
  int32_t first = o->n_eqn;
  f->seen[g] = f->stamp;
  for (int32_t i = g; i >= 0; i = f->next[i]) o->eqns[o->n_eqn++] = i;
  qsort(o->eqns + first, (size_t)(o->n_eqn - first), sizeof *o->eqns, by_number);
  o->elements[o->n_group] = f->elements[g];
  o->cols[o->n_group] = f->cols[g];
  o->head[o->n_group] = -1;
  o->ends[o->n_group++] = o->n_eqn;
}

static void push_group(fusing *f, int32_t eqn, int32_t g, int *n) {
  if (eqn >= 0 && f->group[eqn] != g && f->seen[f->group[eqn]] != f->stamp) f->stack[(*n)++] = f->group[eqn];
}

/* Emits the groups that this one needs, then it. The graph of groups has no cycle. */
static void emit_with_needs(fusing *f, int32_t first) {
  int n = 0;
  f->stack[n++] = first;
  while (n) {
    int32_t g = f->stack[n - 1];
    int before = n;
    if (f->seen[g] != f->stamp) {
      for (int32_t i = g; i >= 0; i = f->next[i]) {
        push_group(f, f->ordered_before[i], g, &n);
        for (int k = 0; k < f->p->eqns[i].n_in; k++) push_group(f, f->producer[f->p->eqns[i].in[k]], g, &n);
      }
      if (n > before) continue;
      emit(f, g);
    }
    n--;
  }
}

static void put_in_order(fusing *f) {
  f->stamp++;
  for (int32_t i = 0; i < f->p->n_eqn; i++)
    if (--f->size[f->group[i]] == 0 && f->seen[f->group[i]] != f->stamp) emit_with_needs(f, f->group[i]);
  for (int32_t g = 0, k = 0; g < f->f->n_group; g++)
    for (; k < f->f->ends[g]; k++) f->group[f->f->eqns[k]] = g; /* by its place, from now on */
}

/* -- the pass ------------------------------------------------------------------------------------------------------ */

/* Which equations read the results of which; an ordered effect is read by the next. */
static void find_uses(fusing *f) {
  const mx_program *p = f->p;
  int32_t ordered = -1, total = 0;
  mx_program_uses(p, NULL, f->producer);
  for (int32_t v = 0; v < p->n_var; v++) f->reader[v] = -1;
  for (int32_t i = 0; i < p->n_eqn; i++) {
    const mx_eqn *e = &p->eqns[i];
    for (int k = 0; k < e->n_in; k++)
      if (f->producer[e->in[k]] >= 0) f->use_start[f->producer[e->in[k]] + 1]++;
    f->ordered_before[i] = mx_eqn_is_ordered(e) ? ordered : -1;
    if (!mx_eqn_is_ordered(e)) continue;
    if (ordered >= 0) f->use_start[ordered + 1]++;
    ordered = i;
  }
  for (int32_t i = 0; i < p->n_eqn; i++) total = f->use_start[i + 1] += total;
  for (int32_t i = p->n_eqn - 1; i >= 0; i--) { /* filled from the end; starts move down to where they belong */
    const mx_eqn *e = &p->eqns[i];
    if (f->ordered_before[i] >= 0) f->uses[--f->use_start[f->ordered_before[i] + 1]] = i;
    for (int k = 0; k < e->n_in; k++)
      if (f->producer[e->in[k]] >= 0) f->uses[--f->use_start[f->producer[e->in[k]] + 1]] = i;
  }
  for (int32_t i = 0; i < p->n_eqn; i++) f->use_start[i] = f->use_start[i + 1];
  f->use_start[p->n_eqn] = total;
}

static bool reserve(fusing *f, mx_arena *memory, mx_arena *keep) {
  size_t n = (size_t)f->p->n_eqn + 2, operands = n, *sizes = &operands;
  for (int i = 0; i < f->p->n_eqn; i++) *sizes += f->p->eqns[i].n_in + 2;
  struct {
    int32_t **to;
    size_t n;
    mx_arena *from;
  } all[] = {{&f->producer, (size_t)f->p->n_var + 1, memory},
             {&f->reader, (size_t)f->p->n_var + 1, memory},
             {&f->uses, operands, memory},
             {&f->use_start, n, memory},
             {&f->ordered_before, n, memory},
             {&f->group, n, memory},
             {&f->next, n, memory},
             {&f->tail, n, memory},
             {&f->size, n, memory},
             {&f->seen, n, memory},
             {&f->stack, operands, memory},
             {&f->f->eqns, n, keep},
             {&f->f->ends, n, keep},
             {&f->f->head, n, keep}};
  for (size_t k = 0; k < sizeof all / sizeof *all; k++)
    if (!(*all[k].to = mx_arena_alloc(f->c, all[k].from, all[k].n * sizeof(int32_t)))) return false;
  int64_t **wide[] = {&f->elements, &f->cols, &f->f->elements, &f->f->cols};
  for (size_t k = 0; k < sizeof wide / sizeof *wide; k++)
    if (!(*wide[k] = mx_arena_alloc(f->c, k < 2 ? memory : keep, n * sizeof(int64_t)))) return false;
  return true;
}

/* A value that stays in its group needs no memory. */
static void find_outside_uses(fusing *f) {
  const mx_program *p = f->p;
  for (int k = 0; k < p->n_out; k++) f->f->used_outside[p->outs[k]] = true;
  for (int i = 0; i < p->n_eqn; i++)
    for (int k = 0; k < p->eqns[i].n_in; k++) {
      int32_t from = f->producer[p->eqns[i].in[k]];
      if (from < 0 || f->group[from] != f->group[i]) f->f->used_outside[p->eqns[i].in[k]] = true;
    }
}

bool mx_fuse(mx_ctx *c, const mx_program *p, bool joined, bool headed, mx_arena *keep, mx_fusion *out) {
  mx_arena memory = {.engine = c->engine};
  fusing f = {.c = c, .p = p, .f = out};
  *out = (mx_fusion){0};
  bool ok = reserve(&f, &memory, keep);
  if (ok) ok = (out->used_outside = mx_arena_alloc(c, keep, (size_t)p->n_var + 1)) != NULL;
  if (ok) {
    find_uses(&f);
    for (int32_t i = 0; i < p->n_eqn; i++) f.group[i] = -1;
    for (int32_t i = 0; i < p->n_eqn; i++) {
      start_group(&f, i);
      if (joined) join_operands(&f, i);
      if (joined) join_readers(&f, i);
    }
    put_in_order(&f);
    if (headed) mx_fuse_products(p, out, f.producer, f.group, f.reader);
    find_outside_uses(&f);
  }
  mx_arena_release(&memory);
  return ok;
}
