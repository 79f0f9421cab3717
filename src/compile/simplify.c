/* simplify.c: algebra that holds for every bit of every result, NaN, infinities and the sign of zero included: x + 0 is
 * not x where x is -0, and x * 0 is not 0. (Subnormal numbers count as zero in kernels: here one may stay what it is.)
 * Simpler: fewer operations, or cheaper ones. */
#include "optimize_impl.h"

#include <math.h>

typedef struct simplifying {
  mx_rewrite *r;
  const mx_node *n;
  int32_t *out;
} simplifying;

/* -- answers ------------------------------------------------------------------------------------------------------- */

static bool answer(const simplifying *s, int32_t v) { return s->out[0] = v, true; }

/* Value v, repeated to the result's shape where it is smaller. False where the types differ. */
static bool is_value(const simplifying *s, int32_t v) {
  const mx_aval *a = mx_aval_at(s->r, v), *to = s->n->op.out_aval;
  if (a->dtype != to->dtype || a->weak != to->weak) return false;
  if (mx_shape_equal(a, to)) return answer(s, v);
  mx_params p = {.shape = {mx_dims_shape(to)}};
  return answer(s, mx_rewrite_make(s->r, &mx_prim_broadcast, &p, &v, 1, s->n->site));
}

static bool is_op(const simplifying *s, const mx_primitive *prim, int32_t x, int32_t y) {
  int32_t in[2] = {x, y};
  return answer(s, mx_rewrite_make(s->r, prim, NULL, in, y < 0 ? 1 : 2, s->n->site));
}

/* -- questions ----------------------------------------------------------------------------------------------------- */

/* Whether each element of v is one constant number. */
static bool is_number(const mx_rewrite *r, int32_t v, double *number) {
  const mx_eqn *e;
  while ((e = mx_made_by(r, v, MX_PRIM_broadcast)) || (e = mx_made_by(r, v, MX_PRIM_reshape))) v = e->in[0];
  const mx_array *x = mx_const_at(r, v);
  if (!x || x->tag != MX_VALUE || x->aval.size != 1) return false;
  *number = mx_load_double(x->aval.dtype, mx_data(x));
  return true;
}

static bool is_equal(const mx_rewrite *r, int32_t v, double number) {
  double x;
  return is_number(r, v, &x) && x == number && signbit(x) == signbit(number);
}

static bool has_result_shape(const simplifying *s, int32_t v) {
  return mx_shape_equal(mx_aval_at(s->r, v), s->n->op.out_aval);
}

/* The operand of the unary equation that makes v, or -1. */
static int32_t under(const mx_rewrite *r, int32_t v, mx_prim_id id) {
  const mx_eqn *e = mx_made_by(r, v, id);
  return e ? e->in[0] : -1;
}

static bool is_float(const simplifying *s) { return mx_is_float(s->n->op.out_aval->dtype); }

/* -- arithmetic ---------------------------------------------------------------------------------------------------- */

/* x + -0 = x. x + -y = x - y */
static bool simplify_add(const simplifying *s, int32_t x, int32_t y) {
  double zero = is_float(s) ? -0.0 : 0.0;
  if (is_equal(s->r, y, zero)) return is_value(s, x);
  if (is_equal(s->r, x, zero)) return is_value(s, y);
  int32_t nx = under(s->r, x, MX_PRIM_neg), ny = under(s->r, y, MX_PRIM_neg);
  if (ny >= 0) return is_op(s, &mx_prim_sub, x, ny);
  if (nx >= 0) return is_op(s, &mx_prim_sub, y, nx);
  return mx_simplify_pads(s->r, s->n, s->out);
}

/* x - 0 = x. x - -y = x + y */
static bool simplify_sub(const simplifying *s, int32_t x, int32_t y) {
  if (is_equal(s->r, y, 0)) return is_value(s, x);
  int32_t ny = under(s->r, y, MX_PRIM_neg);
  return ny >= 0 && is_op(s, &mx_prim_add, x, ny);
}

static bool simplify_mul(const simplifying *s, int32_t x, int32_t y) {
  if (is_equal(s->r, y, 1)) return is_value(s, x);
  if (is_equal(s->r, x, 1)) return is_value(s, y);
  int32_t nx = under(s->r, x, MX_PRIM_neg), ny = under(s->r, y, MX_PRIM_neg);
  return nx >= 0 && ny >= 0 && is_op(s, &mx_prim_mul, nx, ny);
}

/* 1 / d, exactly: a power of two whose reciprocal is a normal number of the dtype. */
static bool has_reciprocal(int dtype, double d) {
  int exponent;
  if (d == 0 || !isfinite(d) || fabs(frexp(d, &exponent)) != 0.5) return false;
  int most = dtype == MLAX_FLOAT16 ? 14 : dtype == MLAX_FLOAT64 ? 1022 : 126;
  return 1 - exponent >= -most && 1 - exponent <= most;
}

/* x / 1 = x. x / 2^k = x * 2^-k */
static bool simplify_div(const simplifying *s, int32_t x, int32_t y) {
  double d;
  if (!is_number(s->r, y, &d)) return false;
  if (d == 1) return is_value(s, x);
  const mx_aval *a = mx_aval_at(s->r, y);
  if (!has_reciprocal(a->dtype, d) || !has_result_shape(s, x)) return false;
  mx_array *one = mx_keep(s->r->c, mx_array_of_double(s->r->c, a->dtype, 1 / d));
  if (one) one->aval.weak = a->weak;
  int32_t v = one ? mx_rewrite_const(s->r, one) : -1;
  return v < 0 ? true : is_op(s, &mx_prim_mul, x, v);
}

/* x^1 = x. x^2 = x * x, which is how pow computes it */
static bool simplify_pow(const simplifying *s, int32_t x, int32_t y) {
  if (!is_float(s)) return false;
  if (is_equal(s->r, y, 1)) return is_value(s, x);
  return is_equal(s->r, y, 2) && has_result_shape(s, x) && is_op(s, &mx_prim_square, x, -1);
}

/* The positions that v can hold, known from who made it. */
static bool is_within(const mx_rewrite *r, int32_t v, double *least, double *most) {
  for (const mx_eqn *e; (e = mx_maker(r, v)); v = e->in[0]) switch (e->prim->id) {
    case MX_PRIM_check_index: return *least = 0, *most = (double)(e->params->check.size - 1), true;
    case MX_PRIM_reshape:
    case MX_PRIM_broadcast:
    case MX_PRIM_transpose:
    case MX_PRIM_slice: break;
    default: return false;
    }
  return false;
}

/* A position that was checked needs no bounds. */
static bool simplify_bound(const simplifying *s, int32_t x, int32_t bound) {
  double number, least, most;
  if (!is_number(s->r, bound, &number) || !is_within(s->r, x, &least, &most)) return false;
  return (s->n->op.prim->id == MX_PRIM_minimum ? most <= number : least >= number) && is_value(s, x);
}

static bool simplify_extreme(const simplifying *s, int32_t x, int32_t y) {
  return (x == y && is_value(s, x)) || simplify_bound(s, x, y) || simplify_bound(s, y, x);
}

static bool simplify_twice(const simplifying *s) {
  int32_t x = under(s->r, s->n->in[0], s->n->op.prim->id);
  return x >= 0 && is_value(s, x);
}

static bool simplify_select(const simplifying *s) {
  const int32_t *in = s->n->in;
  double p;
  if (in[1] == in[2]) return is_value(s, in[1]);
  if (is_number(s->r, in[0], &p)) return is_value(s, in[p != 0 ? 1 : 2]);
  int32_t swapped[3] = {under(s->r, in[0], MX_PRIM_not), in[2], in[1]};
  return swapped[0] >= 0 && answer(s, mx_rewrite_make(s->r, &mx_prim_select, NULL, swapped, 3, s->n->site));
}

/* -- conversions --------------------------------------------------------------------------------------------------- */

static int mantissa(int dtype) {
  switch (dtype) {
  case MLAX_BFLOAT16: return 8;
  case MLAX_FLOAT16: return 11;
  case MLAX_FLOAT32: return 24;
  default: return 53;
  }
}

/* Whether each value of a dtype is one of the other. */
static bool holds(int to, int from) {
  mx_kind a = mx_dtype_kind(from), b = mx_dtype_kind(to);
  int bits = 8 * (int)mx_itemsize(from), more = 8 * (int)mx_itemsize(to);
  if (from == to || a == MX_KIND_BOOL) return true;
  if (a == MX_KIND_FLOAT) return b == MX_KIND_FLOAT && more > bits;
  if (b == MX_KIND_FLOAT) return bits - (a == MX_KIND_INT) <= mantissa(to);
  return b != MX_KIND_BOOL && (a == b ? more >= bits : b == MX_KIND_INT && more > bits);
}

/* By way of a dtype that holds all values of the first. */
static bool simplify_convert(const simplifying *s) {
  int32_t x = s->n->in[0], y = under(s->r, x, MX_PRIM_convert);
  if (mx_aval_at(s->r, x)->dtype == s->n->op.out_aval->dtype && is_value(s, x)) return true;
  if (y < 0 || !holds(mx_aval_at(s->r, x)->dtype, mx_aval_at(s->r, y)->dtype)) return false;
  return answer(s, mx_rewrite_make(s->r, &mx_prim_convert, s->n->op.p, &y, 1, s->n->site));
}

/* -- the pass ------------------------------------------------------------------------------------------------------ */

bool mx_pass_simplify(mx_rewrite *r, const mx_node *n, int32_t *out) {
  const simplifying s = {r, n, out};
  const int32_t *in = n->in;
  switch (n->op.prim->id) {
  case MX_PRIM_add: return simplify_add(&s, in[0], in[1]);
  case MX_PRIM_sub: return simplify_sub(&s, in[0], in[1]);
  case MX_PRIM_mul: return simplify_mul(&s, in[0], in[1]);
  case MX_PRIM_div: return simplify_div(&s, in[0], in[1]);
  case MX_PRIM_pow: return simplify_pow(&s, in[0], in[1]);
  case MX_PRIM_neg:
  case MX_PRIM_not: return simplify_twice(&s);
  case MX_PRIM_maximum:
  case MX_PRIM_minimum: return simplify_extreme(&s, in[0], in[1]);
  case MX_PRIM_and:
  case MX_PRIM_or: return in[0] == in[1] && is_value(&s, in[0]);
  case MX_PRIM_select: return simplify_select(&s);
  case MX_PRIM_convert: return simplify_convert(&s);
  case MX_PRIM_stop_gradient: return is_value(&s, in[0]);
  default: return mx_simplify_shape(r, n, out);
  }
}
