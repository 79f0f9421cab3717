/* reassociate.c: a sum of sums is one sum.
 *
 *     mean over the pixels, then over the batch, as a mean with a named axis is:
 *
 *     s = reduce_sum[axes=(1,2)] x                         t = reduce_sum[axes=(0,1,2)] x
 *     m = mul s 0.01                             -->       v = mul t 0.01
 *     v = reduce_sum[axes=(0)] m
 *
 * Where the axes that are summed are the first or the last ones of x, for then that is one pass, which other work on x
 * may join; and where nobody else reads what lies between. The order of additions is another one: halves, whose sums
 * could leave their range on the way, stay as they are. */
#include "optimize_impl.h"

enum { MOST_FACTORS = 4 };

/* From the sum that is written last back to the one that was made first. */
typedef struct chain {
  struct {
    const mx_primitive *prim; /* mul, div */
    int32_t number;
  } factors[MOST_FACTORS]; /* the last one first */
  int n_factors;
  const mx_eqn *sum;
} chain;

static bool is_number(const mx_rewrite *r, int32_t v) {
  const mx_array *x = mx_const_at(r, v);
  return x && x->aval.size == 1;
}

/* Whether the lengths are the same but for those that are 1. */
static bool is_same_but_ones(const mx_aval *x, const mx_aval *y) {
  int i = 0, k = 0;
  for (;; i++, k++) {
    while (i < x->ndim && x->shape[i] == 1) i++;
    while (k < y->ndim && y->shape[k] == 1) k++;
    if (i == x->ndim || k == y->ndim) return i == x->ndim && k == y->ndim;
    if (x->shape[i] != y->shape[k]) return false;
  }
}

/* The operand of a link, or -1. */
static int32_t follow(const mx_rewrite *r, chain *c, const mx_eqn *e) {
  if (e->prim->id == MX_PRIM_reshape)
    return is_same_but_ones(mx_aval_at(r, e->in[0]), mx_aval_at(r, e->out)) ? e->in[0] : -1;
  if ((e->prim->id != MX_PRIM_mul && e->prim->id != MX_PRIM_div) || c->n_factors == MOST_FACTORS) return -1;
  int number = is_number(r, e->in[1]) || e->prim->id == MX_PRIM_div ? 1 : 0;
  if (!is_number(r, e->in[number])) return -1;
  c->factors[c->n_factors].prim = e->prim;
  c->factors[c->n_factors++].number = e->in[number];
  return mx_shape_equal(mx_aval_at(r, e->in[!number]), mx_aval_at(r, e->out)) ? e->in[!number] : -1;
}

static bool find_chain(const mx_rewrite *r, const mx_node *n, chain *c) {
  *c = (chain){0};
  for (int32_t v = n->in[0]; v >= 0;) {
    const mx_eqn *e = mx_maker(r, v);
    if (!e || r->readers[v] != 1 || mx_aval_at(r, v)->weak) return false;
    if (e->prim->id == MX_PRIM_reduce_sum) return c->sum = e, true;
    v = follow(r, c, e);
  }
  return false;
}

/* The axis of x that is the n-th longer than 1 of those that its sum leaves. */
static int left_axis(const mx_aval *x, const mx_dims *summed, int n) {
  for (int i = 0; i < x->ndim; i++)
    if (!mx_dims_has(summed, i) && x->shape[i] != 1 && n-- == 0) return i;
  return -1;
}

/* The axes of x over which both sum. */
static mx_dims all_axes(const mx_rewrite *r, const mx_node *n, const mx_eqn *sum) {
  const mx_aval *x = mx_aval_at(r, sum->in[0]), *between = mx_aval_at(r, n->in[0]);
  const mx_dims *first = &sum->params->axes.axes, *second = &n->op.p->axes.axes;
  bool summed[MX_MAX_NDIM] = {false};
  mx_dims all = {0};
  for (int i = 0, longer = 0; i < between->ndim; i++) {
    if (between->shape[i] == 1) continue;
    if (mx_dims_has(second, i)) summed[left_axis(x, first, longer)] = true;
    longer++;
  }
  for (int i = 0; i < x->ndim; i++)
    if (summed[i] || mx_dims_has(first, i)) all.v[all.n++] = i;
  return all;
}

/* Whether the axes, and those of length 1, are the first or the last ones. */
static bool is_at_an_end(const mx_aval *x, const mx_dims *axes) {
  int changes = 0, before = -1;
  for (int i = 0; i < x->ndim; i++) {
    if (x->shape[i] == 1) continue;
    int now = mx_dims_has(axes, i);
    changes += before >= 0 && now != before;
    before = now;
  }
  return changes <= 1;
}

bool mx_pass_reassociate(mx_rewrite *r, const mx_node *n, int32_t *out) {
  int dtype = n->op.out_aval->dtype;
  chain c;
  if (n->op.prim->id != MX_PRIM_reduce_sum || (dtype != MLAX_FLOAT32 && dtype != MLAX_FLOAT64)) return false;
  if (n->op.out_aval->weak || !find_chain(r, n, &c)) return false;
  int32_t x = c.sum->in[0];
  mx_params sum = {.axes = {.axes = all_axes(r, n, c.sum)}}, shape = {.shape = {mx_dims_shape(n->op.out_aval)}};
  if (mx_aval_at(r, x)->size == 0 || mx_aval_at(r, x)->dtype != dtype) return false;
  if (!is_at_an_end(mx_aval_at(r, x), &sum.axes.axes)) return false;
  int32_t y = mx_rewrite_make(r, &mx_prim_reduce_sum, &sum, &x, 1, n->site);
  for (int i = c.n_factors - 1; i >= 0; i--) {
    int32_t in[2] = {y, c.factors[i].number};
    y = mx_rewrite_make(r, c.factors[i].prim, NULL, in, 2, n->site);
  }
  out[0] = mx_rewrite_make(r, &mx_prim_reshape, &shape, &y, 1, n->site);
  return true;
}
