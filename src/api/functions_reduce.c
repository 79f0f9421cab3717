/* functions_reduce.c: reductions, scans and order as functions and methods. */
#include "array_impl.h"

#include <math.h>

/* -- reductions ---------------------------------------------------------------------------------------------------- */

typedef struct reduce_options {
  bool keepdims;
  int dtype;   /* sum, mean, prod; -1: as it comes */
  double ddof; /* var, std */
  double ord;  /* norm */
} reduce_options;

static const reduce_options reduce_defaults = {false, -1, 0, 2};

#define O(name, kind)                                                                                                  \
  { #name, kind, offsetof(reduce_options, name) }
#define KEEPDIMS O(keepdims, MX_OPT_BOOL)
#define END_OPTIONS                                                                                                    \
  { NULL, MX_OPT_BOOL, 0 }
static const mx_option plain_options[] = {KEEPDIMS, END_OPTIONS};
static const mx_option dtype_options[] = {KEEPDIMS, O(dtype, MX_OPT_DTYPE), END_OPTIONS};
static const mx_option ddof_options[] = {KEEPDIMS, O(ddof, MX_OPT_NUMBER), END_OPTIONS};
static const mx_option ord_options[] = {KEEPDIMS, O(ord, MX_OPT_NUMBER), END_OPTIONS};

typedef mx_array *(*reduction)(mx_ctx *c, mx_array *x, const mx_dims *axes, const reduce_options *o);

/* stack: x, axes or nil, options or nil */
static int reduce(lua_State *L, const char *op, const mx_option *known, reduction f) {
  mx_ctx *c = mx_enter(L, op);
  reduce_options o = reduce_defaults;
  mx_dims axes;
  mx_options(L, mx_args(L, 1, 1), known, &o);
  mx_array *x = mx_check_array(L, 1, "x");
  bool some = mx_check_axes(L, 2, x->aval.ndim, &axes);
  return mx_return(L, f(c, x, some ? &axes : NULL, &o));
}

/* {dtype=}: reduced in it and given in it. */
static mx_array *in_dtype(mx_ctx *c, mx_array *x, int dtype) { return dtype < 0 ? x : mx_convert(c, x, dtype); }

static mx_array *reduce_sum(mx_ctx *c, mx_array *x, const mx_dims *axes, const reduce_options *o) {
  return in_dtype(c, mx_sum(c, in_dtype(c, x, o->dtype), axes, o->keepdims), o->dtype);
}
static mx_array *reduce_mean(mx_ctx *c, mx_array *x, const mx_dims *axes, const reduce_options *o) {
  return in_dtype(c, mx_mean(c, in_dtype(c, x, o->dtype), axes, o->keepdims), o->dtype);
}
static mx_array *reduce_prod(mx_ctx *c, mx_array *x, const mx_dims *axes, const reduce_options *o) {
  return in_dtype(c, mx_prod(c, in_dtype(c, x, o->dtype), axes, o->keepdims), o->dtype);
}
static mx_array *reduce_max(mx_ctx *c, mx_array *x, const mx_dims *axes, const reduce_options *o) {
  return mx_max(c, x, axes, o->keepdims);
}
static mx_array *reduce_min(mx_ctx *c, mx_array *x, const mx_dims *axes, const reduce_options *o) {
  return mx_min(c, x, axes, o->keepdims);
}
static mx_array *reduce_any(mx_ctx *c, mx_array *x, const mx_dims *axes, const reduce_options *o) {
  return mx_any(c, mx_convert(c, x, MLAX_BOOL), axes, o->keepdims);
}
static mx_array *reduce_all(mx_ctx *c, mx_array *x, const mx_dims *axes, const reduce_options *o) {
  return mx_all(c, mx_convert(c, x, MLAX_BOOL), axes, o->keepdims);
}
static mx_array *reduce_var(mx_ctx *c, mx_array *x, const mx_dims *axes, const reduce_options *o) {
  return mx_var(c, x, axes, o->keepdims, o->ddof);
}
static mx_array *reduce_std(mx_ctx *c, mx_array *x, const mx_dims *axes, const reduce_options *o) {
  return mx_sqrt(c, reduce_var(c, x, axes, o));
}
static mx_array *reduce_logsumexp(mx_ctx *c, mx_array *x, const mx_dims *axes, const reduce_options *o) {
  return mx_logsumexp(c, x, axes, o->keepdims);
}

/* ord p of the elements: (sum |x|^p)^(1/p); 0 counts, infinities are max and min */
static mx_array *reduce_norm(mx_ctx *c, mx_array *x, const mx_dims *axes, const reduce_options *o) {
  if (!x) return NULL;
  double p = o->ord;
  x = mx_convert(c, x, mx_dtype_inexact(x->aval.dtype));
  if (p == 2) return mx_sqrt(c, mx_sum(c, mx_square(c, x), axes, o->keepdims));
  if (p == 0) return mx_sum(c, mx_convert(c, mx_ne(c, x, mx_like(c, x, 0)), x->aval.dtype), axes, o->keepdims);
  mx_array *a = mx_abs(c, x);
  if (p == 1) return mx_sum(c, a, axes, o->keepdims);
  if (isinf(p)) return p > 0 ? mx_max(c, a, axes, o->keepdims) : mx_min(c, a, axes, o->keepdims);
  mx_array *s = mx_sum(c, mx_pow(c, a, mx_like(c, x, p)), axes, o->keepdims);
  return s ? mx_pow(c, s, mx_like(c, s, 1 / p)) : NULL;
}

#define REDUCTION(name, options)                                                                                       \
  static int lreduce_##name(lua_State *L) { return reduce(L, #name, options, reduce_##name); }
REDUCTION(sum, dtype_options)
REDUCTION(mean, dtype_options)
REDUCTION(prod, dtype_options)
REDUCTION(max, plain_options)
REDUCTION(min, plain_options)
REDUCTION(any, plain_options)
REDUCTION(all, plain_options)
REDUCTION(var, ddof_options)
REDUCTION(std, ddof_options)
REDUCTION(logsumexp, plain_options)
REDUCTION(norm, ord_options)

typedef mx_array *(*axis_function)(mx_ctx *, mx_array *, int axis);

/* Without an axis: the position in row-major order. */
static int arg_reduce(lua_State *L, const char *op, axis_function f) {
  mx_ctx *c = mx_enter(L, op);
  reduce_options o = reduce_defaults;
  mx_options(L, mx_args(L, 1, 1), plain_options, &o);
  mx_array *x = mx_check_array(L, 1, "x");
  mx_dims flat = {1, {x->aval.size}}, shape = mx_dims_shape(&x->aval);
  int axis = 0;
  if (lua_isnil(L, 2)) {
    x = mx_reshape(c, x, &flat);
    for (int i = 0; i < shape.n; i++) shape.v[i] = 1;
  } else {
    axis = mx_check_axis(L, 2, x->aval.ndim);
    shape.v[axis] = 1;
  }
  x = mx_adds(c, f(c, x, axis), 1);
  return mx_return(L, o.keepdims ? mx_reshape(c, x, &shape) : x);
}
static int lreduce_argmax(lua_State *L) { return arg_reduce(L, "argmax", mx_argmax); }
static int lreduce_argmin(lua_State *L) { return arg_reduce(L, "argmin", mx_argmin); }

/* -- scans and normalisations -------------------------------------------------------------------------------------- */

static int scan(lua_State *L, const char *op, mx_array *(*f)(mx_ctx *, mx_array *, int axis, bool reverse)) {
  static const mx_option known[] = {{"reverse", MX_OPT_BOOL, 0}, END_OPTIONS};
  mx_ctx *c = mx_enter(L, op);
  bool reverse = false;
  mx_options(L, mx_args(L, 2, 0), known, &reverse);
  mx_array *x = mx_check_array(L, 1, "x");
  return mx_return(L, f(c, x, mx_check_axis(L, 2, x->aval.ndim), reverse));
}
static int lreduce_cumsum(lua_State *L) { return scan(L, "cumsum", mx_cumsum); }
static int lreduce_cumprod(lua_State *L) { return scan(L, "cumprod", mx_cumprod); }
static int lreduce_cummax(lua_State *L) { return scan(L, "cummax", mx_cummax); }
static int lreduce_cummin(lua_State *L) { return scan(L, "cummin", mx_cummin); }

/* The axis at idx, the last one if it is left out. */
static int axis_or_last(lua_State *L, int idx, const mx_array *x) {
  if (x->aval.ndim == 0) return mx_error(L, "a scalar has no axis (got %s)", mx_show(L, 1));
  return lua_isnil(L, idx) ? x->aval.ndim - 1 : mx_check_axis(L, idx, x->aval.ndim);
}

static int along_axis(lua_State *L, const char *op, axis_function f) {
  mx_ctx *c = mx_enter(L, op);
  mx_no_options(L, mx_args(L, 1, 1));
  mx_array *x = mx_check_array(L, 1, "x");
  return mx_return(L, f(c, x, axis_or_last(L, 2, x)));
}

static mx_array *sort_axis(mx_ctx *c, mx_array *x, int axis) {
  mx_array *out;
  return mx_sort(c, &x, 1, 1, axis, &out) ? out : NULL;
}

static mx_array *argsort_axis(mx_ctx *c, mx_array *x, int axis) { return mx_adds(c, mx_argsort(c, x, axis), 1); }

static int lreduce_softmax(lua_State *L) { return along_axis(L, "softmax", mx_softmax); }
static int lreduce_log_softmax(lua_State *L) { return along_axis(L, "log_softmax", mx_log_softmax); }
static int lreduce_sort(lua_State *L) { return along_axis(L, "sort", sort_axis); }
static int lreduce_argsort(lua_State *L) { return along_axis(L, "argsort", argsort_axis); }

/* The k greatest, NaN first; of equal ones the first. Sorted backwards: what comes last in the flipped, stable order is
 * wanted first. */
static bool top_k(mx_ctx *c, mx_array *x, int64_t k, int axis, mx_array **out) {
  mx_dims axes = {1, {axis}}, shape = mx_dims_shape(&x->aval);
  int64_t n = shape.v[axis];
  mx_array *position = mx_iota(c, n > INT32_MAX ? MLAX_INT64 : MLAX_INT32, &shape, axis);
  mx_array *in[2] = {mx_reverse(c, x, &axes), mx_reverse(c, position, &axes)}, *sorted[2];
  if (!mx_sort(c, in, 2, 1, axis, sorted)) return false;
  for (int i = 0; i < 2; i++) out[i] = mx_reverse(c, mx_slice_axis(c, sorted[i], axis, n - k, n), &axes);
  out[1] = mx_adds(c, out[1], 1);
  return out[0] && out[1];
}

static int lreduce_top_k(lua_State *L) {
  mx_ctx *c = mx_enter(L, "top_k");
  mx_array *out[2] = {NULL, NULL};
  mx_no_options(L, mx_args(L, 2, 1));
  mx_array *x = mx_check_array(L, 1, "x");
  int64_t k = mx_check_int(L, 2, "k");
  int axis = axis_or_last(L, 3, x);
  if (k < 0 || k > x->aval.shape[axis])
    return mx_error(L, "k does not fit the axis (got %lld, need 0..%lld)", (long long)k,
                    (long long)x->aval.shape[axis]);
  mx_ok(L, top_k(c, x, k, axis, out));
  return mx_push(L, out[0]) + mx_push(L, out[1]);
}

#define F(name)                                                                                                        \
  { #name, lreduce_##name, MX_IN_BOTH }
static const mx_reg reduce_functions[] = {
    F(sum),    F(mean),      F(prod),        F(max),    F(min),     F(any),    F(all),          F(var),
    F(std),    F(logsumexp), F(norm),        F(argmax), F(argmin),  F(cumsum), F(cumprod),      F(cummax),
    F(cummin), F(softmax),   F(log_softmax), F(sort),   F(argsort), F(top_k),  {NULL, NULL, 0},
};

void mx_open_reduce(lua_State *L) { mx_register(L, reduce_functions); }
