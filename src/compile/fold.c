/* fold.c: small results of constants alone are computed now, and are constants. The equation is written all the same,
 * so that cse finds it and with it the constant; nobody reads its own results, and it goes with the dead ones. */
#include "optimize_impl.h"

enum {
  MOST_BYTES = 64 << 10,     /* of one result */
  MOST_ALL = 4 << 20,        /* of all results of a program */
  MOST_FLOPS = 10 * 1000000, /* of one operation */
  MOST_OPERANDS = 16
};

/* A broadcast would be a constant in memory where nothing was; control flow may take any time. */
static bool may_fold(const mx_node *n) {
  return n->op.prim->effect != MX_EFFECT_ORDERED && n->op.prim->id < MX_PRIM_scan &&
         n->op.prim->id != MX_PRIM_broadcast && n->op.n_out <= MX_MAX_OUT && n->op.n_in <= MOST_OPERANDS;
}

static bool is_small(mx_rewrite *r, const mx_node *n, mx_array *const *x, size_t *bytes) {
  const mx_aval *avals[MOST_OPERANDS];
  mx_op o = n->op;
  for (int k = 0; k < o.n_in; k++) avals[k] = &x[k]->aval;
  for (int k = 0; k < o.n_out; k++) *bytes += mx_nbytes(&o.out_aval[k]);
  o.in_aval = avals;
  return *bytes <= MOST_BYTES && r->folded + *bytes <= MOST_ALL && (!o.prim->flops || o.prim->flops(&o) <= MOST_FLOPS);
}

static bool keep(mx_rewrite *r, const mx_node *n, mx_array *const *y, int32_t *out) {
  int32_t written[MX_MAX_OUT];
  if (!mx_rewrite_append(r, n, written)) return false;
  for (int k = 0; k < n->op.n_out; k++) {
    if ((out[k] = mx_rewrite_const(r, y[k])) < 0) return false;
    r->value[written[k]] = out[k];
  }
  return true;
}

bool mx_pass_fold(mx_rewrite *r, const mx_node *n, int32_t *out) {
  mx_array *x[MOST_OPERANDS], *y[MX_MAX_OUT];
  size_t bytes = 0;
  if (!may_fold(n)) return false;
  for (int k = 0; k < n->op.n_in; k++)
    if (!(x[k] = mx_const_at(r, n->in[k]))) return false;
  if (mx_pass_on(r, MX_PASS_cse) && mx_cse_find(r, n)) return false;
  if (!is_small(r, n, x, &bytes)) return false;
  int mark = mx_frame_mark(r->c);
  bool computed = mx_bind(r->c, n->op.prim, n->op.p, x, n->op.n_in, y, n->op.n_out);
  if (computed) keep(r, n, y, out); /* or an error is pending */
  mx_frame_release(r->c, mark);
  r->folded += computed ? bytes : 0;
  return computed || !mx_forgive(r->c);
}
