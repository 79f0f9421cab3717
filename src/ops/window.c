/* window.c: reductions over windows that slide along the axes of an array.
 *
 *     x {7}, window 3, stride 2:     [x1 x2 x3] x4  x5  x6  x7
 *                                     x1  x2 [x3 x4  x5] x6  x7
 *                                     x1  x2  x3  x4 [x5 x6  x7]
 *
 * x may have padding around it (negative padding cuts) and holes between its elements (x_dilation); neither is ever an
 * element: a window that sees nothing else gives 0, 1, the least or the greatest value. The extremes give their tangent
 * to the first extreme element of the window in row-major order, as select_and_gather chooses it; its transpose is
 * select_and_scatter_add. Order of choice: while the window is walked, `later` is taken where not `chosen >= later`.
 */
#include "rules_impl.h"

/* -- one axis ------------------------------------------------------------------------------------------------------ */

/* 1 + step * (n - 1), nothing for nothing; false where it overflows. */
static bool dilate(int64_t n, int64_t step, int64_t *r) {
  *r = 0;
  return n == 0 || (!__builtin_mul_overflow(n - 1, step, r) && !__builtin_add_overflow(*r, 1, r));
}

bool mx_slide_count(mx_ctx *c, const mx_slide *s, int i, int64_t *count) {
  int64_t x, w;
  if (s->stride < 1 || s->x_dilation < 1 || s->dilation < 1)
    return mx_fail(c, MLAX_SHAPE, "strides and dilations are at least 1 (got strides %lld, dilations %lld and %lld)",
                   (long long)s->stride, (long long)s->x_dilation, (long long)s->dilation),
           false;
  if (!dilate(s->n, s->x_dilation, &x) || !dilate(s->window, s->dilation, &w) || __builtin_add_overflow(x, s->lo, &x) ||
      __builtin_add_overflow(x, s->hi, &x) || x > INT64_MAX / 4 || w > INT64_MAX / 4 || s->lo > INT64_MAX / 4 ||
      s->lo < INT64_MIN / 4)
    return mx_fail(c, MLAX_SHAPE, "padding and dilations make axis %d too long", i + 1), false;
  if (x < 0)
    return mx_fail(c, MLAX_SHAPE, "padding cuts more from axis %d than there is (got {%lld, %lld} around %lld)", i + 1,
                   (long long)s->lo, (long long)s->hi, (long long)s->n),
           false;
  *count = x < w ? 0 : (x - w) / s->stride + 1;
  return true;
}

/* Place p of the window takes from (p * stride + k * dilation - lo) / x_dilation. So element i is taken by places
 * (i * x_dilation - k * dilation + lo) / stride: with k counted backwards, the same form with the roles exchanged. */
void mx_slide_turn(const mx_slide *s, int64_t out, int64_t *lo, int64_t *hi) {
  int64_t x, w, g;
  dilate(s->n, s->x_dilation, &x);
  dilate(s->window, s->dilation, &w);
  dilate(out, s->stride, &g);
  *lo = w - s->lo - 1;
  *hi = x + w - 1 - g - *lo;
}

static mx_slide slide_of(const mx_params *p, const mx_aval *x, int i) {
  return (mx_slide){.n = x->shape[i],
                    .window = p->window.window.v[i],
                    .stride = p->window.strides.v[i],
                    .lo = p->window.lo.v[i],
                    .hi = p->window.hi.v[i],
                    .x_dilation = p->window.x_dilation.v[i],
                    .dilation = p->window.dilation.v[i]};
}

/* -- shapes -------------------------------------------------------------------------------------------------------- */

static bool window_places(mx_ctx *c, const mx_params *p, const mx_aval *x, mx_aval *out) {
  const mx_dims *lists[] = {&p->window.window, &p->window.strides,    &p->window.lo,
                            &p->window.hi,     &p->window.x_dilation, &p->window.dilation};
  int64_t shape[MX_MAX_NDIM];
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
    if (lists[i]->n != x->ndim)
      return mx_fail(c, MLAX_SHAPE, "one number for each axis is needed (got %d, need %d)", (int)lists[i]->n, x->ndim),
             false;
  for (int i = 0; i < x->ndim; i++) {
    mx_slide s = slide_of(p, x, i);
    if (s.window < 1)
      return mx_fail(c, MLAX_SHAPE, "windows are at least 1 long (got %lld on axis %d)", (long long)s.window, i + 1),
             false;
    if (!mx_slide_count(c, &s, i, &shape[i])) return false;
  }
  return mx_aval_make(c, out, x->dtype, x->ndim, shape);
}

static bool choose_shape(mx_ctx *c, const mx_op *o, mx_aval *out) { return window_places(c, o->p, o->in_aval[0], out); }

static bool sum_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  if (o->in_aval[0]->dtype == MLAX_BOOL) return mx_fail(c, MLAX_SHAPE, "bool has no sums (convert it first)"), false;
  return window_places(c, o->p, o->in_aval[0], out);
}

static bool check_dtypes(mx_ctx *c, const mx_op *o) {
  int g = o->in_aval[0]->dtype, x = o->in_aval[1]->dtype;
  if (g == x && mx_is_float(g)) return true;
  mx_fail(c, MLAX_SHAPE, "need floats of one dtype (got %s and %s)", mx_dtype_name(g), mx_dtype_name(x));
  return false;
}

static bool gather_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *g = o->in_aval[0], *x = o->in_aval[1];
  mx_text s, t;
  if (!check_dtypes(c, o)) return false;
  if (!mx_shape_equal(g, x))
    return mx_fail(c, MLAX_SHAPE, "shapes differ (got %s and %s)", mx_aval_text(&s, g), mx_aval_text(&t, x)), false;
  return window_places(c, o->p, x, out);
}

static bool scatter_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *g = o->in_aval[0], *x = o->in_aval[1];
  mx_text s, t;
  if (!check_dtypes(c, o) || !window_places(c, o->p, x, out)) return false;
  if (!mx_shape_equal(g, out))
    return mx_fail(c, MLAX_SHAPE, "one element for each place of the window is needed (got %s, need %s)",
                   mx_aval_text(&s, g), mx_aval_text(&t, out)),
           false;
  return mx_aval_make(c, out, x->dtype, x->ndim, x->shape);
}

/* -- sums ---------------------------------------------------------------------------------------------------------- */

/* A sum of windows again: strides and holes exchanged. */
static mx_array *sum_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  if (!ct[0]) return NULL;
  mx_params p = *o->p;
  p.window.strides = o->p->window.x_dilation;
  p.window.x_dilation = o->p->window.strides;
  for (int k = 0; k < o->in_aval[i]->ndim; k++) {
    mx_slide s = slide_of(o->p, o->in_aval[i], k);
    mx_slide_turn(&s, ct[0]->aval.shape[k], &p.window.lo.v[k], &p.window.hi.v[k]);
  }
  return mx_bind1(c, &mx_prim_reduce_window_sum, &p, (mx_array *[]){ct[0]}, 1);
}

/* -- products ------------------------------------------------------------------------------------------------------ */

/* For each place (rows) and each element of the window there: its position on the axis, and whether there is one. */
static bool window_ids(mx_ctx *c, const mx_slide *s, int64_t out, mx_array **ids, mx_array **seen) {
  mx_aval a, b;
  int64_t shape[2] = {out, s->window};
  if (!mx_aval_make(c, &a, MLAX_INT64, 2, shape) || !mx_aval_make(c, &b, MLAX_BOOL, 2, shape)) return false;
  *ids = mx_keep(c, mx_array_new(c, &a));
  *seen = mx_keep(c, mx_array_new(c, &b));
  if (!*ids || !*seen) return false;
  int64_t *id = (int64_t *)mx_data(*ids);
  uint8_t *is = (uint8_t *)mx_data(*seen);
  for (int64_t p = 0; p < out; p++)
    for (int64_t k = 0; k < s->window; k++, id++, is++) {
      int64_t at = p * s->stride + k * s->dilation - s->lo;
      *is = at >= 0 && at % s->x_dilation == 0 && at / s->x_dilation < s->n;
      *id = *is ? at / s->x_dilation : 0;
    }
  return true;
}

/* x's windows along an axis as {..., window}, `otherwise` where there is no element; the places take the axis's place.
 */
static mx_array *windows_last(mx_ctx *c, mx_array *x, int axis, mx_array *ids, mx_array *seen, double otherwise) {
  mx_dims at = {.n = 1, .v = {axis}};
  mx_array *w = mx_gather(c, x, &ids, 1, &at, false); /* {places, window, other axes...} */
  if (!w) return NULL;
  mx_dims shape = {.n = w->aval.ndim, .v = {seen->aval.shape[0], seen->aval.shape[1]}};
  for (int i = 2; i < shape.n; i++) shape.v[i] = 1;
  w = mx_select(c, mx_reshape(c, seen, &shape), w, mx_like(c, w, otherwise));
  return mx_move_axis(c, mx_move_axis(c, w, 1, w ? w->aval.ndim - 1 : 0), 0, axis);
}

/* d prod = sum over the window of g_i times the product of the others, along one axis. */
static mx_array *prod_d_axis(mx_ctx *c, const mx_params *p, int axis, mx_array *x, mx_array *g) {
  mx_slide s = slide_of(p, &x->aval, axis);
  mx_array *ids, *seen;
  int64_t out;
  if (x->aval.ndim == MX_MAX_NDIM)
    return mx_fail(c, MLAX_SHAPE, "products of windows are differentiable up to %d axes", MX_MAX_NDIM - 1);
  if (!mx_slide_count(c, &s, axis, &out) || !window_ids(c, &s, out, &ids, &seen)) return NULL;
  mx_dims last = {.n = 1, .v = {x->aval.ndim}};
  mx_array *others = mx_product_of_others(c, windows_last(c, x, axis, ids, seen, 1));
  return mx_sum(c, mx_mul(c, windows_last(c, g, axis, ids, seen, 0), others), &last, false);
}

/* The window of one axis alone. */
static mx_params axis_alone(const mx_params *p, int ndim, int axis) {
  mx_params q = {.window = {.least = 0}};
  mx_dims ones = {.n = ndim}, zeros = {.n = ndim};
  for (int i = 0; i < ndim; i++) ones.v[i] = 1;
  q.window.window = q.window.strides = q.window.x_dilation = q.window.dilation = ones;
  q.window.lo = q.window.hi = zeros;
  q.window.window.v[axis] = p->window.window.v[axis];
  q.window.strides.v[axis] = p->window.strides.v[axis];
  q.window.x_dilation.v[axis] = p->window.x_dilation.v[axis];
  q.window.dilation.v[axis] = p->window.dilation.v[axis];
  q.window.lo.v[axis] = p->window.lo.v[axis];
  q.window.hi.v[axis] = p->window.hi.v[axis];
  return q;
}

static bool is_still(const mx_slide *s) {
  return s->window == 1 && s->stride == 1 && s->x_dilation == 1 && s->lo == 0 && s->hi == 0;
}

/* A window's product is a product of products along its axes: one axis after the other. */
static mx_array *prod_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  mx_array *x = o->in[i];
  if (x->aval.size == 0 || o->out_aval->size == 0) return NULL;
  for (int axis = 0; x && g && axis < x->aval.ndim; axis++) {
    mx_slide s = slide_of(o->p, &x->aval, axis);
    if (is_still(&s)) continue;
    mx_params p = axis_alone(o->p, x->aval.ndim, axis);
    g = prod_d_axis(c, &p, axis, x, g);
    x = mx_bind1(c, o->prim, &p, &x, 1);
  }
  return g;
}

/* -- extremes ------------------------------------------------------------------------------------------------------ */

/* d max = g at the first greatest element */
static mx_array *choose_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  mx_params p = *o->p;
  p.window.least = o->prim == &mx_prim_reduce_window_min;
  return mx_bind1(c, &mx_prim_select_and_gather, &p, (mx_array *[]){g, o->in[i]}, 2);
}

/* Linear in g; what is chosen by x does not change. */
static mx_array *select_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  return i == 0 ? mx_bind1(c, o->prim, o->p, (mx_array *[]){g, o->in[1]}, 2) : NULL;
}

static mx_array *select_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  bool gathers = o->prim == &mx_prim_select_and_gather;
  const mx_primitive *other = gathers ? &mx_prim_select_and_scatter_add : &mx_prim_select_and_gather;
  return i == 0 && ct[0] ? mx_bind1(c, other, o->p, (mx_array *[]){ct[0], o->in[1]}, 2) : NULL;
}

/* -- batching ------------------------------------------------------------------------------------------------------ */

/* The mapped axis is one on which the window stands still. */
static mx_params with_axis(const mx_params *p, int at) {
  mx_params q = *p;
  q.window.window = mx_dims_insert(&p->window.window, at, 1);
  q.window.strides = mx_dims_insert(&p->window.strides, at, 1);
  q.window.lo = mx_dims_insert(&p->window.lo, at, 0);
  q.window.hi = mx_dims_insert(&p->window.hi, at, 0);
  q.window.x_dilation = mx_dims_insert(&p->window.x_dilation, at, 1);
  q.window.dilation = mx_dims_insert(&p->window.dilation, at, 1);
  return q;
}

static bool reduce_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_params p = with_axis(o->p, axes[0]);
  (void)size;
  out_axes[0] = axes[0];
  out[0] = mx_bind1(c, o->prim, &p, o->in, 1);
  return out[0] != NULL;
}

static bool select_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_params p = with_axis(o->p, 0);
  mx_array *in[2];
  for (int i = 0; i < 2; i++) in[i] = mx_batch_front(c, o->in[i], axes[i], size);
  out_axes[0] = 0;
  out[0] = mx_bind1(c, o->prim, &p, in, 2);
  return out[0] != NULL;
}

/* -- records ------------------------------------------------------------------------------------------------------- */

static double window_flops(const mx_op *o) {
  bool scatters = o->prim == &mx_prim_select_and_scatter_add;
  double n = (double)(scatters ? o->in_aval[0]->size : o->out_aval->size);
  for (int i = 0; i < o->p->window.window.n; i++) n *= (double)o->p->window.window.v[i];
  return n;
}

#define WINDOW_FIELD(name, kind)                                                                                       \
  { #name, kind, offsetof(mx_params, window.name) }
#define WINDOW_FIELDS                                                                                                  \
  WINDOW_FIELD(window, MX_FIELD_DIMS), WINDOW_FIELD(strides, MX_FIELD_DIMS), WINDOW_FIELD(lo, MX_FIELD_DIMS),          \
      WINDOW_FIELD(hi, MX_FIELD_DIMS), WINDOW_FIELD(x_dilation, MX_FIELD_DIMS), WINDOW_FIELD(dilation, MX_FIELD_DIMS)
static const mx_field window_fields[] = {WINDOW_FIELDS, {0}};
static const mx_field select_fields[] = {WINDOW_FIELDS, WINDOW_FIELD(least, MX_FIELD_FLAG), {0}};

#define WINDOW(NAME, FIELDS, SHAPE, LINEAR, D, TRANSPOSE, BATCH)                                                       \
  const mx_primitive mx_prim_##NAME = {.name = #NAME,                                                                  \
                                       .id = MX_PRIM_##NAME,                                                           \
                                       .n_out = 1,                                                                     \
                                       .linear = LINEAR,                                                               \
                                       .params_size = sizeof(((mx_params *)0)->window),                                \
                                       .fields = FIELDS,                                                               \
                                       .shape = SHAPE,                                                                 \
                                       .d = D,                                                                         \
                                       .transpose = TRANSPOSE,                                                         \
                                       .batch = BATCH,                                                                 \
                                       .flops = window_flops};
WINDOW(reduce_window_sum, window_fields, sum_shape, true, mx_d_linear, sum_transpose, reduce_batch)
WINDOW(reduce_window_prod, window_fields, sum_shape, false, prod_d, NULL, reduce_batch)
WINDOW(reduce_window_max, window_fields, choose_shape, false, choose_d, NULL, reduce_batch)
WINDOW(reduce_window_min, window_fields, choose_shape, false, choose_d, NULL, reduce_batch)
WINDOW(select_and_gather, select_fields, gather_shape, false, select_d, select_transpose, select_batch)
WINDOW(select_and_scatter_add, select_fields, scatter_shape, false, select_d, select_transpose, select_batch)

/* -- operations ---------------------------------------------------------------------------------------------------- */

mx_array *mx_reduce_window(mx_ctx *c, const mx_primitive *prim, mx_array *x, mx_array *init, const mx_params *p) {
  mx_array *y = x ? mx_bind1(c, prim, p, &x, 1) : NULL;
  if (!y || !init) return y;
  if (prim == &mx_prim_reduce_window_sum) return mx_add(c, y, init);
  if (prim == &mx_prim_reduce_window_prod) return mx_mul(c, y, init);
  return prim == &mx_prim_reduce_window_max ? mx_maximum(c, y, init) : mx_minimum(c, y, init);
}
