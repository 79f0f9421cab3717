/* random_draw.c: draws from a key, by JAX's algorithms (jax/_src/random, partitionable threefry), so that the bits are
 * JAX's. */
#include "random.h"

#include <math.h>

/* -- keys --------------------------------------------------------------------------------------------------------- */

static bool key_words(mx_ctx *c, mx_array *key, mx_array *k[2]) {
  mx_text t;
  if (!key) return false;
  if (key->aval.dtype != MLAX_UINT32 || key->aval.ndim != 1 || key->aval.shape[0] != 2)
    return mx_fail(c, MLAX_SHAPE, "a key must be uint32[2] (got %s)", mx_aval_text(&t, &key->aval));
  for (int i = 0; i < 2; i++) k[i] = mx_squeeze(c, mx_slice_axis(c, key, 0, i, i + 1), 0);
  return k[0] && k[1];
}

/* The hash of the counters 0 .. n-1, each as two words: uint32[n] twice. */
static bool hash_counters(mx_ctx *c, mx_array *key, int64_t n, mx_array *out[2]) {
  mx_array *k[2], *hi, *lo;
  mx_dims shape = {.n = 1, .v = {n}};
  if (!key_words(c, key, k)) return false;
  if (n <= (int64_t)UINT32_MAX + 1) {
    hi = mx_scalar_int(c, MLAX_UINT32, 0);
    lo = mx_iota(c, MLAX_UINT32, &shape, 0);
  } else {
    mx_array *i = mx_iota(c, MLAX_UINT64, &shape, 0);
    hi = mx_convert(c, mx_shift_right(c, i, mx_scalar_int(c, MLAX_UINT64, 32)), MLAX_UINT32);
    lo = mx_convert(c, i, MLAX_UINT32);
  }
  return mx_threefry2x32(c, k[0], k[1], hi, lo, out);
}

static bool scalar_integer(mx_ctx *c, const mx_array *x, const char *what) {
  mx_text t;
  if (!x) return false;
  if (x->aval.ndim == 0 && mx_is_int(x->aval.dtype)) return true;
  return mx_fail(c, MLAX_SHAPE, "%s must be one integer (got %s)", what, mx_aval_text(&t, &x->aval));
}

mx_array *mx_random_key(mx_ctx *c, mx_array *seed) {
  if (!scalar_integer(c, seed, "a seed")) return NULL;
  mx_array *s = mx_convert(c, mx_convert(c, seed, MLAX_INT64), MLAX_UINT64);
  mx_array *hi = mx_shift_right(c, s, mx_scalar_int(c, MLAX_UINT64, 32));
  return mx_stack(c, (mx_array *[]){mx_convert(c, hi, MLAX_UINT32), mx_convert(c, s, MLAX_UINT32)}, 2, 0);
}

/* Key i is both words of counter i. */
mx_array *mx_random_keys(mx_ctx *c, mx_array *key, int64_t n) {
  mx_array *words[2];
  if (n < 0) return mx_fail(c, MLAX_ARGUMENT, "the number of keys must not be negative (got %lld)", (long long)n);
  return hash_counters(c, key, n, words) ? mx_stack(c, words, 2, 1) : NULL;
}

bool mx_random_split(mx_ctx *c, mx_array *key, int n, mx_array **out) {
  mx_array *keys = mx_random_keys(c, key, n);
  if (!keys) return false;
  for (int i = 0; i < n; i++)
    if (!(out[i] = mx_squeeze(c, mx_slice_axis(c, keys, 0, i, i + 1), 0))) return false;
  return true;
}

/* The hash of the counter (0, data). */
mx_array *mx_random_fold_in(mx_ctx *c, mx_array *key, mx_array *data) {
  mx_array *k[2], *words[2];
  if (!scalar_integer(c, data, "what is folded in") || !key_words(c, key, k)) return NULL;
  mx_array *lo = mx_convert(c, data, MLAX_UINT32);
  if (!mx_threefry2x32(c, k[0], k[1], mx_scalar_int(c, MLAX_UINT32, 0), lo, words)) return NULL;
  return mx_stack(c, words, 2, 0);
}

/* -- bits --------------------------------------------------------------------------------------------------------- */

/* 32 bits: the words' xor; fewer: its low bits; 64: both words. */
mx_array *mx_random_bits(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype) {
  mx_array *words[2], *bits;
  mx_aval a;
  if (mx_dtype_kind(dtype) != MX_KIND_UINT)
    return mx_fail(c, MLAX_ARGUMENT, "dtype must be an unsigned integer (got %s)", mx_dtype_name(dtype));
  if (!mx_aval_make(c, &a, dtype, (int)shape->n, shape->v) || !hash_counters(c, key, a.size, words)) return NULL;
  if (dtype == MLAX_UINT64) {
    mx_array *hi = mx_convert(c, words[0], dtype), *lo = mx_convert(c, words[1], dtype);
    bits = mx_or(c, mx_shift_left(c, hi, mx_scalar_int(c, dtype, 32)), lo);
  } else {
    bits = mx_convert(c, mx_xor(c, words[0], words[1]), dtype);
  }
  return mx_reshape(c, bits, shape);
}

/* -- floats ------------------------------------------------------------------------------------------------------- */

/* How a float is made of random bits: `bits` shifted right by `shift` fill the mantissa of 1.0, in an integer of its
 * width. */
typedef struct float_form {
  int mantissa, bits, width, shift;
  int64_t one;
  int min_exponent; /* of the least normal number */
} float_form;

static const float_form *form_of(mx_ctx *c, int dtype) {
  static const float_form forms[] = {{10, MLAX_UINT16, MLAX_UINT16, 6, 0x3c00, -14},
                                     {7, MLAX_UINT8, MLAX_UINT16, 1, 0x3f80, -126},
                                     {23, MLAX_UINT32, MLAX_UINT32, 9, 0x3f800000, -126},
                                     {52, MLAX_UINT64, MLAX_UINT64, 12, 0x3ff0000000000000, -1022}};
  if (mx_is_float(dtype)) return &forms[dtype - MLAX_FLOAT16];
  return mx_fail(c, MLAX_ARGUMENT, "dtype must be a float (got %s)", mx_dtype_name(dtype));
}

/* [0, 1): random mantissas in [1, 2), less 1 */
static mx_array *unit(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype) {
  const float_form *f = form_of(c, dtype);
  if (!f) return NULL;
  mx_array *bits = mx_convert(c, mx_random_bits(c, key, shape, f->bits), f->width);
  bits = mx_shift_right(c, bits, mx_scalar_int(c, f->width, f->shift));
  bits = mx_or(c, bits, mx_scalar_int(c, f->width, f->one));
  return mx_adds(c, mx_bitcast(c, bits, dtype), -1);
}

static double rounded(int dtype, double v) {
  uint64_t cell;
  mx_store_double(dtype, &cell, v);
  return mx_load_double(dtype, &cell);
}

static bool is_power_of_two(double v) {
  int exponent;
  return v > 0 && frexp(v, &exponent) == 0.5;
}

/* u * width + low, never below low. In float32 it is rounded once, as a fused multiply-add does; in the halves JAX
 * rounds the product too, and float64 has no wider type. */
static mx_array *affine(mx_ctx *c, mx_array *u, mx_array *low, mx_array *width) {
  if (!u || !low || !width) return NULL;
  if (u->aval.dtype != MLAX_FLOAT32) return mx_maximum(c, mx_add(c, mx_mul(c, u, width), low), low);
  mx_array *product = mx_mul(c, mx_convert(c, u, MLAX_FLOAT64), mx_convert(c, width, MLAX_FLOAT64));
  mx_array *sum = mx_add(c, product, mx_convert(c, low, MLAX_FLOAT64));
  return mx_maximum(c, mx_convert(c, sum, MLAX_FLOAT32), low);
}

mx_array *mx_random_uniform(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype, double low, double high) {
  mx_array *u = unit(c, key, shape, dtype);
  if (!u) return NULL;
  low = rounded(dtype, low);
  double width = rounded(dtype, rounded(dtype, high) - low);
  if (low == 0 && width == 1) return u;
  if (is_power_of_two(width)) return mx_adds(c, width == 1 ? u : mx_muls(c, u, width), low); /* the product is exact */
  return affine(c, u, mx_scalar(c, dtype, low), mx_scalar(c, dtype, width));
}

/* A parameter of a draw, in its dtype; it must broadcast to the shape. */
static mx_array *parameter(mx_ctx *c, mx_array *x, int dtype, const mx_dims *shape) {
  x = mx_convert(c, x, dtype);
  return x && mx_broadcast(c, x, shape) ? x : NULL;
}

mx_array *mx_random_uniform_between(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype, mx_array *low,
                                    mx_array *high) {
  if (!form_of(c, dtype) || !low || !high) return NULL;
  low = parameter(c, low, dtype, shape);
  high = parameter(c, high, dtype, shape);
  return affine(c, unit(c, key, shape, dtype), low, mx_sub(c, high, low));
}

/* (0, 1): the least is the least normal number, or for `eps` the distance from 1 to the next */
static mx_array *positive_unit(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype, bool eps) {
  const float_form *f = form_of(c, dtype);
  return f ? mx_random_uniform(c, key, shape, dtype, ldexp(1, eps ? -f->mantissa : f->min_exponent), 1) : NULL;
}

/* (-1, 1) */
static mx_array *signed_unit(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype) {
  const float_form *f = form_of(c, dtype);
  return f ? mx_random_uniform(c, key, shape, dtype, ldexp(1, -f->mantissa - 1) - 1, 1) : NULL;
}

mx_array *mx_random_normal(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype) {
  mx_array *u = signed_unit(c, key, shape, dtype);
  return u ? mx_muls(c, mx_erf_inv(c, u), sqrt(2)) : NULL;
}

/* uniform between the bounds' distribution functions, mapped back */
mx_array *mx_random_truncated_normal(mx_ctx *c, mx_array *key, mx_array *lo, mx_array *hi, const mx_dims *shape,
                                     int dtype) {
  if (!form_of(c, dtype) || !lo || !hi) return NULL;
  mx_array *root = mx_scalar(c, dtype, sqrt(2)), *inf = mx_scalar(c, dtype, HUGE_VAL);
  lo = mx_convert(c, lo, dtype);
  hi = mx_convert(c, hi, dtype);
  mx_array *from = mx_erf(c, mx_div(c, lo, root)), *to = mx_erf(c, mx_div(c, hi, root));
  mx_array *u = mx_random_uniform_between(c, key, shape, dtype, from, to);
  mx_array *z = mx_mul(c, root, mx_erf_inv(c, u));
  mx_array *least = mx_nextafter(c, mx_stop_gradient(c, lo), inf);
  mx_array *most = mx_nextafter(c, mx_stop_gradient(c, hi), mx_neg(c, inf));
  return mx_minimum(c, mx_maximum(c, z, least), most);
}

mx_array *mx_random_bernoulli(mx_ctx *c, mx_array *key, mx_array *p, const mx_dims *shape) {
  if (!p) return NULL;
  int dtype = mx_dtype_inexact(p->aval.dtype);
  mx_array *u = mx_random_uniform(c, key, shape, dtype, 0, 1);
  return mx_lt(c, u, parameter(c, p, dtype, shape));
}

/* -log(-log u) */
mx_array *mx_random_gumbel(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype) {
  mx_array *u = positive_unit(c, key, shape, dtype, false);
  return mx_neg(c, mx_log(c, mx_neg(c, mx_log(c, u))));
}

/* -log(1 - u) */
mx_array *mx_random_exponential(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype) {
  return mx_neg(c, mx_log1p(c, mx_neg(c, mx_random_uniform(c, key, shape, dtype, 0, 1))));
}

/* sign(u) log(1 - |u|) */
mx_array *mx_random_laplace(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype) {
  mx_array *u = signed_unit(c, key, shape, dtype);
  return mx_mul(c, mx_sign(c, u), mx_log1p(c, mx_neg(c, mx_abs(c, u))));
}

/* tan(pi (u - 1/2)) */
mx_array *mx_random_cauchy(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype) {
  mx_array *u = positive_unit(c, key, shape, dtype, true);
  return u ? mx_tan(c, mx_muls(c, mx_adds(c, u, -0.5), acos(-1))) : NULL;
}

/* log(u / (1 - u)) */
mx_array *mx_random_logistic(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype) {
  mx_array *u = positive_unit(c, key, shape, dtype, false);
  return mx_sub(c, mx_log(c, u), mx_log1p(c, mx_neg(c, u)));
}

/* -- by rejection -------------------------------------------------------------------------------------------------- */

/* A parameter for each element of the shape, in a row. */
static mx_array *parameters(mx_ctx *c, mx_array *x, int dtype, const mx_dims *shape, mx_aval *all) {
  if (!x || !mx_aval_make(c, all, dtype, (int)shape->n, shape->v)) return NULL;
  return mx_reshape(c, mx_broadcast(c, mx_convert(c, x, dtype), shape), &(mx_dims){.n = 1, .v = {all->size}});
}

/* Element i is drawn from key i of a split. */
mx_array *mx_random_gamma(mx_ctx *c, mx_array *key, mx_array *a, const mx_dims *shape, int dtype, bool log_space) {
  mx_aval all;
  mx_array *k[2];
  if (!form_of(c, dtype)) return NULL;
  a = parameters(c, a, dtype, shape, &all);
  if (!a || !hash_counters(c, key, all.size, k)) return NULL;
  return mx_reshape(c, mx_draw_gamma(c, k[0], k[1], a, log_space), shape);
}

/* x / (x + y) of two gamma variables, from their logarithms less the greater: no small ones are lost */
mx_array *mx_random_beta(mx_ctx *c, mx_array *key, mx_array *a, mx_array *b, const mx_dims *shape, int dtype) {
  mx_array *keys[2];
  if (!mx_random_split(c, key, 2, keys)) return NULL;
  mx_array *x = mx_random_gamma(c, keys[0], a, shape, dtype, true);
  mx_array *y = mx_random_gamma(c, keys[1], b, shape, dtype, true);
  mx_array *greater = mx_maximum(c, x, y);
  x = mx_exp(c, mx_sub(c, x, greater));
  y = mx_exp(c, mx_sub(c, y, greater));
  return mx_div(c, x, mx_add(c, x, y));
}

/* Gamma variables of alpha over their sum. */
mx_array *mx_random_dirichlet(mx_ctx *c, mx_array *key, mx_array *alpha, const mx_dims *shape, int dtype) {
  if (!alpha) return NULL;
  int last = alpha->aval.ndim - 1;
  if (last < 0) return mx_fail(c, MLAX_SHAPE, "the parameters need an axis of their own (got a scalar)");
  if (shape->n == MX_MAX_NDIM) return mx_fail(c, MLAX_SHAPE, "too many axes (need at most %d)", MX_MAX_NDIM - 1);
  mx_dims all = mx_dims_insert(shape, (int)shape->n, alpha->aval.shape[last]);
  return mx_softmax(c, mx_random_gamma(c, key, alpha, &all, dtype, true), (int)shape->n);
}

mx_array *mx_random_poisson(mx_ctx *c, mx_array *key, mx_array *rate, const mx_dims *shape, int dtype) {
  mx_aval all;
  if (!mx_is_int(dtype)) return mx_fail(c, MLAX_ARGUMENT, "dtype must be an integer (got %s)", mx_dtype_name(dtype));
  rate = parameters(c, rate, MLAX_FLOAT32, shape, &all);
  return mx_reshape(c, mx_draw_poisson(c, key, rate, dtype), shape);
}

/* -- integers ----------------------------------------------------------------------------------------------------- */

/* Numbers twice as wide as `span` (high and low half), modulo span: ((high % span) * (2^bits % span) + low % span) %
 * span, all wrapping. A span of 0 stands for all 2^bits numbers. */
static mx_array *wide_modulo(mx_ctx *c, mx_array *high, mx_array *low, mx_array *span, int bits) {
  if (!high || !low || !span) return NULL;
  mx_array *half = mx_mod(c, mx_scalar_int(c, span->aval.dtype, (int64_t)1 << (bits / 2)), span);
  mx_array *full = mx_mod(c, mx_mul(c, half, half), span);
  mx_array *sum = mx_add(c, mx_mul(c, mx_mod(c, high, span), full), mx_mod(c, low, span));
  return mx_select(c, mx_eq(c, span, mx_like(c, span, 0)), low, mx_mod(c, sum, span));
}

mx_array *mx_random_randint(mx_ctx *c, mx_array *key, const mx_dims *shape, mx_array *low, mx_array *high, int dtype) {
  if (!mx_is_int(dtype)) return mx_fail(c, MLAX_ARGUMENT, "dtype must be an integer (got %s)", mx_dtype_name(dtype));
  if (!low || !high) return NULL;
  if (!mx_is_int(low->aval.dtype) || !mx_is_int(high->aval.dtype))
    return mx_fail(c, MLAX_SHAPE, "bounds must be integers (got %s and %s)", mx_dtype_name(low->aval.dtype),
                   mx_dtype_name(high->aval.dtype));
  bool wide = mx_itemsize(dtype) == 8;
  int word = wide ? MLAX_UINT64 : MLAX_UINT32;
  mx_array *keys[2], *one = mx_scalar_int(c, word, 1);
  if (!mx_random_split(c, key, 2, keys)) return NULL;
  low = parameter(c, low, dtype, shape);
  high = parameter(c, high, dtype, shape);
  mx_array *empty = mx_lt(c, high, low), *from = mx_convert(c, low, word);
  mx_array *span = mx_add(c, mx_sub(c, mx_convert(c, high, word), from), one);
  span = mx_select(c, empty, one, span);
  mx_array *top = mx_random_bits(c, keys[0], shape, word), *bottom = mx_random_bits(c, keys[1], shape, word);
  mx_array *offset = wide_modulo(c, top, bottom, span, wide ? 64 : 32);
  return mx_convert(c, mx_add(c, from, offset), dtype);
}

/* -- picks -------------------------------------------------------------------------------------------------------- */

/* Sorted by random keys, as often as keeps the odds of equal keys small. */
mx_array *mx_random_permutation(mx_ctx *c, mx_array *key, int64_t n) {
  if (n < 0 || n > INT32_MAX)
    return mx_fail(c, MLAX_ARGUMENT, "cannot permute %lld things (need 0..%d)", (long long)n, INT32_MAX);
  int rounds = (int)ceil(3 * log(n > 1 ? (double)n : 1) / log(UINT32_MAX));
  mx_dims shape = {.n = 1, .v = {n}};
  mx_array *x = mx_iota(c, MLAX_INT32, &shape, 0), *keys[2], *sorted[2];
  for (int i = 0; i < rounds; i++) {
    if (!mx_random_split(c, key, 2, keys)) return NULL;
    key = keys[0];
    mx_array *order = mx_random_bits(c, keys[1], &shape, MLAX_UINT32);
    if (!mx_sort(c, (mx_array *[]){order, x}, 2, 1, 0, sorted)) return NULL;
    x = sorted[1];
  }
  return key_words(c, key, keys) ? x : NULL; /* no round looks at the key of one thing */
}

mx_array *mx_random_shuffle(mx_ctx *c, mx_array *key, mx_array *x) {
  mx_dims first = {.n = 1, .v = {0}};
  if (!x) return NULL;
  if (x->aval.ndim == 0) return mx_fail(c, MLAX_SHAPE, "an array with an axis is needed (got a scalar)");
  mx_array *order = mx_random_permutation(c, key, x->aval.shape[0]);
  return mx_gather(c, x, &order, 1, &first, false);
}

/* With replacement: u finds its place in the distribution function. Without: the greatest of log p + gumbel. */
static mx_array *choice_weighted(mx_ctx *c, mx_array *key, int64_t n, const mx_dims *shape, int64_t draws, bool replace,
                                 mx_array *p) {
  mx_dims all = {.n = 1, .v = {n}};
  int dtype = mx_dtype_inexact(p->aval.dtype);
  p = mx_convert(c, p, dtype);
  if (replace) {
    mx_array *sums = mx_cumsum(c, p, 0, false), *total = mx_slice_axis(c, sums, 0, n - 1, n);
    mx_array *u = mx_random_uniform(c, key, shape, dtype, 0, 1);
    mx_array *v = mx_mul(c, mx_squeeze(c, total, 0), mx_sub(c, mx_scalar(c, dtype, 1), u));
    return mx_searchsorted(c, sums, v, false);
  }
  mx_array *score = mx_add(c, mx_random_gumbel(c, key, &all, dtype), mx_log(c, p));
  mx_array *order = mx_argsort(c, mx_neg(c, score), 0);
  return mx_reshape(c, mx_slice_axis(c, order, 0, 0, draws), shape);
}

mx_array *mx_random_choice(mx_ctx *c, mx_array *key, int64_t n, const mx_dims *shape, bool replace, mx_array *p) {
  mx_aval draws;
  mx_text t;
  if (!mx_aval_make(c, &draws, MLAX_INT32, (int)shape->n, shape->v)) return NULL;
  if (n < 1 || n > INT32_MAX)
    return mx_fail(c, MLAX_ARGUMENT, "cannot choose from %lld things (need 1..%d)", (long long)n, INT32_MAX);
  if (!replace && draws.size > n)
    return mx_fail(c, MLAX_ARGUMENT, "cannot choose %lld of %lld without replacement", (long long)draws.size,
                   (long long)n);
  if (p && (p->aval.ndim != 1 || p->aval.shape[0] != n))
    return mx_fail(c, MLAX_SHAPE, "one probability for each is needed (got %s, need {%lld})",
                   mx_shape_text(&t, p->aval.ndim, p->aval.shape), (long long)n);
  if (p) return choice_weighted(c, key, n, shape, draws.size, replace, p);
  if (replace)
    return mx_random_randint(c, key, shape, mx_scalar_int(c, MLAX_INT32, 0), mx_scalar_int(c, MLAX_INT32, n - 1),
                             MLAX_INT32);
  mx_array *order = mx_random_permutation(c, key, n);
  return order ? mx_reshape(c, mx_slice_axis(c, order, 0, 0, draws.size), shape) : NULL;
}

/* The greatest of logits + gumbel; `shape` may have axes before those of logits, over which the logits repeat. */
mx_array *mx_random_categorical(mx_ctx *c, mx_array *key, mx_array *logits, int axis, const mx_dims *shape) {
  if (!logits) return NULL;
  if (axis < 0 || axis >= logits->aval.ndim)
    return mx_fail(c, MLAX_ARGUMENT, "axis out of range (got %d, need 1..%d)", axis + 1, logits->aval.ndim);
  mx_dims own = mx_dims_shape(&logits->aval), batch = mx_dims_remove(&own, axis), draw = shape ? *shape : batch;
  mx_text a, b;
  int before = (int)(draw.n - batch.n);
  bool fits = before >= 0 && draw.n < MX_MAX_NDIM;
  for (int i = 0; fits && i < batch.n; i++) fits = batch.v[i] == 1 || batch.v[i] == draw.v[before + i];
  if (!fits)
    return mx_fail(c, MLAX_SHAPE, "the shape does not fit the logits (got %s, need it to end in %s)",
                   mx_shape_text(&a, (int)draw.n, draw.v), mx_shape_text(&b, (int)batch.n, batch.v));
  draw = mx_dims_insert(&draw, before + axis, own.v[axis]);
  int dtype = mx_dtype_inexact(logits->aval.dtype);
  mx_array *noise = mx_random_gumbel(c, key, &draw, dtype);
  return mx_argmax(c, mx_add(c, noise, mx_convert(c, logits, dtype)), before + axis);
}
