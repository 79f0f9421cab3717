/* simplify_pad.c: a sum of padded arrays that lie side by side, as the gradient of a split is, is those arrays put
 * together.
 *
 *     pad(a, after: 0 0) + pad(b, before: 0 0) = concat(a + 0, b + 0)       x + 0 is x but for -0, of which it makes 0,
 *                                                                           as the sum does */
#include "optimize_impl.h"

#include <math.h>

enum { MOST_PARTS = 64 }; /* beyond, what was put together is one part */

/* x with `before` zeros in front of it along one axis, and `after` zeros behind. */
typedef struct piece {
  int32_t x, zero;
  int axis;
  int64_t before, after;
  const mx_aval *whole;
} piece;

static bool is_zero(const mx_rewrite *r, int32_t v) {
  const mx_array *x = mx_const_at(r, v);
  if (!x || x->tag != MX_VALUE || x->aval.size != 1 || x->aval.weak) return false;
  double d = mx_load_double(x->aval.dtype, mx_data(x));
  return d == 0 && !signbit(d);
}

static bool is_piece(const mx_rewrite *r, int32_t v, piece *p) {
  const mx_eqn *e = mx_made_by(r, v, MX_PRIM_pad);
  if (!e || !is_zero(r, e->in[1])) return false;
  *p = (piece){.x = e->in[0], .zero = e->in[1], .axis = -1, .whole = mx_aval_at(r, v)};
  for (int i = 0; i < p->whole->ndim; i++) {
    int64_t lo = e->params->pad.lo.v[i], hi = e->params->pad.hi.v[i];
    if (lo == 0 && hi == 0 && e->params->pad.interior.v[i] == 0) continue;
    if (p->axis >= 0 || lo < 0 || hi < 0 || e->params->pad.interior.v[i] != 0) return false;
    p->axis = i, p->before = lo, p->after = hi;
  }
  return p->axis >= 0 && !p->whole->weak && !mx_aval_at(r, p->x)->weak;
}

static const mx_eqn *concat_along(const mx_rewrite *r, int32_t v, int axis) {
  const mx_eqn *e = mx_made_by(r, v, MX_PRIM_concat);
  return e && e->params->axis.axis == axis ? e : NULL;
}

/* Whether no element is -0: integers, and what 0 was added to, as it is or put together along the axis. */
static bool lacks_minus(const mx_rewrite *r, int32_t x, int axis) {
  if (!mx_is_float(mx_aval_at(r, x)->dtype)) return true;
  const mx_eqn *sum = mx_made_by(r, x, MX_PRIM_add), *parts = axis >= 0 ? concat_along(r, x, axis) : NULL;
  bool lacks = parts && parts->n_in <= MOST_PARTS;
  for (int k = 0; lacks && k < parts->n_in; k++) lacks = lacks_minus(r, parts->in[k], -1);
  return lacks || (sum && is_zero(r, sum->in[1]));
}

/* Adds the parts of a piece, without -0. False: failed. */
static bool add_parts(mx_rewrite *r, const piece *p, uint32_t site, int32_t *parts, int *n) {
  const mx_eqn *e = concat_along(r, p->x, p->axis);
  int32_t in[2] = {p->x, p->zero};
  if (!lacks_minus(r, p->x, p->axis)) return (parts[(*n)++] = mx_rewrite_make(r, &mx_prim_add, NULL, in, 2, site)) >= 0;
  if (!e || *n + e->n_in >= MOST_PARTS) return parts[(*n)++] = p->x, true;
  for (int k = 0; k < e->n_in; k++) parts[(*n)++] = e->in[k];
  return true;
}

/* The two put together, with what zeros are left around. */
static int32_t put_together(mx_rewrite *r, const piece *first, const piece *second, uint32_t site) {
  int32_t parts[MOST_PARTS + 1];
  int n = 0;
  if (!add_parts(r, first, site, parts, &n) || !add_parts(r, second, site, parts, &n)) return -1;
  mx_params concat = {.axis = {.axis = first->axis}}, pad = {.pad = {.lo = {.n = first->whole->ndim}}};
  pad.pad.hi.n = pad.pad.interior.n = first->whole->ndim;
  pad.pad.lo.v[first->axis] = first->before;
  pad.pad.hi.v[first->axis] = second->after;
  int32_t in[2] = {mx_rewrite_make(r, &mx_prim_concat, &concat, parts, n, site), first->zero};
  return mx_rewrite_make(r, &mx_prim_pad, &pad, in, 2, site);
}

bool mx_simplify_pads(mx_rewrite *r, const mx_node *n, int32_t *out) {
  piece x, y;
  if (!is_piece(r, n->in[0], &x) || !is_piece(r, n->in[1], &y)) return false;
  if (x.axis != y.axis || !mx_shape_equal(x.whole, y.whole)) return false;
  int64_t length = x.whole->shape[x.axis];
  if (length - x.after == y.before) out[0] = put_together(r, &x, &y, n->site);
  else if (length - y.after == x.before) out[0] = put_together(r, &y, &x, n->site);
  else return false;
  return true;
}
