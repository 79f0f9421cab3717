/* shape.c: the primitives that move elements without computing: broadcast, reshape, transpose, reverse, slice (views),
 * concat, pad, iota; and the operations made of them. */
#include "rules_impl.h"

#define FIELD(member, part, kind)                                                                                      \
  { #part, kind, offsetof(mx_params, member.part) }
#define PARAMS_SIZE(member) ((uint16_t)sizeof(((mx_params *)0)->member))

/* -- shared pieces ------------------------------------------------------------------------------------------------- */

/* The result's aval: x's dtype and weakness in another shape. */
static bool same_type(mx_ctx *c, const mx_aval *x, int ndim, const int64_t *shape, mx_aval *out) {
  if (!mx_aval_make(c, out, x->dtype, ndim, shape)) return false;
  out->weak = x->weak;
  return true;
}

static mx_dims dims_fill(int64_t n, int64_t v) {
  mx_dims d = {.n = n};
  for (int i = 0; i < n; i++) d.v[i] = v;
  return d;
}

static bool dims_equal_shape(const mx_dims *d, const mx_aval *a) {
  return d->n == a->ndim && memcmp(d->v, a->shape, a->ndim * sizeof *a->shape) == 0;
}

/* Without the mapped axis, which batch rules have moved to the front. */
static mx_dims with_front(const mx_dims *d, int64_t v) { return mx_dims_insert(d, 0, v); }

/* Axes of an example as axes of the whole value with the mapped axis in front. */
static mx_dims axes_behind_front(const mx_dims *axes) {
  mx_dims d = *axes;
  for (int i = 0; i < d.n; i++) d.v[i]++;
  return d;
}

/* Sets the one result of a batch rule, mapped along its first axis. */
static bool batched(mx_array *y, mx_array **out, int *out_axes) {
  out[0] = y;
  out_axes[0] = 0;
  return y != NULL;
}

static bool check_permutation(mx_ctx *c, const mx_dims *axes, int ndim) {
  bool seen[MX_MAX_NDIM] = {false};
  if (axes->n != ndim)
    return mx_fail(c, MLAX_SHAPE, "a permutation of %d axes for an array of %d", (int)axes->n, ndim), false;
  for (int i = 0; i < ndim; i++) {
    if (axes->v[i] < 0 || axes->v[i] >= ndim || seen[axes->v[i]])
      return mx_fail(c, MLAX_SHAPE, "the axes are no permutation of the %d axes", ndim), false;
    seen[axes->v[i]] = true;
  }
  return true;
}

/* -- iota ---------------------------------------------------------------------------------------------------------- */

static bool iota_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_dims *shape = &o->p->iota.shape;
  if (o->p->iota.dtype == MLAX_BOOL) return mx_fail(c, MLAX_SHAPE, "positions cannot be bool"), false;
  if (o->p->iota.axis < 0 || o->p->iota.axis >= shape->n)
    return mx_fail(c, MLAX_SHAPE, "axis out of range for %d axes", (int)shape->n), false;
  return mx_aval_make(c, out, (int)o->p->iota.dtype, (int)shape->n, shape->v);
}

/* It has no operands, so that it is the same for every example. */
static bool iota_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  (void)axes, (void)size;
  out[0] = mx_bind1(c, o->prim, o->p, NULL, 0);
  out_axes[0] = -1;
  return out[0] != NULL;
}

static const mx_field iota_fields[] = {
    FIELD(iota, shape, MX_FIELD_DIMS), FIELD(iota, dtype, MX_FIELD_DTYPE), FIELD(iota, axis, MX_FIELD_INT), {0}};

const mx_primitive mx_prim_iota = {.name = "iota",
                                   .id = MX_PRIM_iota,
                                   .n_out = 1,
                                   .params_size = PARAMS_SIZE(iota),
                                   .fields = iota_fields,
                                   .shape = iota_shape,
                                   .batch = iota_batch};

/* -- broadcast ----------------------------------------------------------------------------------------------------- */

static bool broadcast_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  const mx_dims *shape = &o->p->shape.shape;
  mx_aval both;
  mx_text s, t;
  if (!same_type(c, x, (int)shape->n, shape->v, out)) return false;
  if (mx_shape_broadcast(x, out, &both) && mx_shape_equal(&both, out)) return true;
  mx_fail(c, MLAX_SHAPE, "%s does not broadcast to %s", mx_aval_text(&s, x), mx_shape_text(&t, out->ndim, out->shape));
  return false;
}

static bool broadcast_view(const mx_op *o, const int64_t *in_strides, int64_t *offset, int64_t *out_strides) {
  *offset = 0;
  mx_strides_broadcast(o->in_aval[0], in_strides, o->out_aval, out_strides);
  return true;
}

static mx_array *broadcast_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  return mx_sum_to(c, ct[0], o->in_aval[i]);
}

/* {B, 3} to {B, 2, 3}: axes of 1 come between the mapped axis and the example's. */
static bool broadcast_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_array *x = mx_batch_front(c, o->in[0], axes[0], size);
  if (!x) return false;
  mx_dims padded = mx_dims_shape(&x->aval), to = with_front(&o->p->shape.shape, size);
  while (padded.n < to.n) padded = mx_dims_insert(&padded, 1, 1);
  return batched(mx_broadcast(c, mx_reshape(c, x, &padded), &to), out, out_axes);
}

const mx_primitive mx_prim_broadcast = {.name = "broadcast",
                                        .id = MX_PRIM_broadcast,
                                        .n_out = 1,
                                        .linear = true,
                                        .params_size = PARAMS_SIZE(shape),
                                        .fields = mx_fields_shape,
                                        .shape = broadcast_shape,
                                        .view = broadcast_view,
                                        .d = mx_d_linear,
                                        .transpose = broadcast_transpose,
                                        .batch = broadcast_batch};

/* -- reshape ------------------------------------------------------------------------------------------------------- */

static bool reshape_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  mx_text s, t;
  if (!same_type(c, x, (int)o->p->shape.shape.n, o->p->shape.shape.v, out)) return false;
  if (out->size == x->size) return true;
  mx_fail(c, MLAX_SHAPE, "the number of elements changes (got %s of %lld, need %s of %lld)", mx_aval_text(&s, x),
          (long long)x->size, mx_shape_text(&t, out->ndim, out->shape), (long long)out->size);
  return false;
}

/* Strides of the new axes j0 .. j1-1 that together walk an axis of the given innermost stride. */
static void split_axis(const mx_aval *out, int j0, int j1, int64_t stride, int64_t *out_strides) {
  for (int j = j1 - 1; j >= j0; j--) {
    out_strides[j] = stride;
    stride *= out->shape[j];
  }
}

/* Groups of old and new axes of equal size are matched from the front; each old group has to be walkable by one stride:
 *     old  {2 3} {4}     strides {96 32} {8}: 96 = 3 * 32
 *     new  {6} {2 2}     strides {32} {16 8} */
static bool reshape_view(const mx_op *o, const int64_t *in_strides, int64_t *offset, int64_t *out_strides) {
  const mx_aval *x = o->in_aval[0], *y = o->out_aval;
  int64_t old[MX_MAX_NDIM], strides[MX_MAX_NDIM];
  int n = 0, i = 0, j = 0;
  *offset = 0;
  if (x->size == 0) return mx_strides_contiguous(y, out_strides), true;
  for (int k = 0; k < x->ndim; k++)
    if (x->shape[k] != 1) old[n] = x->shape[k], strides[n++] = in_strides[k];
  while (i < n) {
    int i1 = i + 1, j1 = j + 1;
    int64_t a = old[i], b = y->shape[j];
    while (a != b) {
      if (a < b) a *= old[i1++];
      else b *= y->shape[j1++];
    }
    for (int k = i; k + 1 < i1; k++)
      if (strides[k] != strides[k + 1] * old[k + 1]) return false;
    split_axis(y, j, j1, strides[i1 - 1], out_strides);
    i = i1, j = j1;
  }
  for (; j < y->ndim; j++) out_strides[j] = (int64_t)mx_itemsize(y->dtype); /* axes of 1 */
  return true;
}

static mx_array *reshape_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  mx_dims shape = mx_dims_shape(o->in_aval[i]);
  return mx_reshape(c, ct[0], &shape);
}

static bool reshape_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_dims to = with_front(&o->p->shape.shape, size);
  return batched(mx_reshape(c, mx_batch_front(c, o->in[0], axes[0], size), &to), out, out_axes);
}

const mx_primitive mx_prim_reshape = {.name = "reshape",
                                      .id = MX_PRIM_reshape,
                                      .n_out = 1,
                                      .linear = true,
                                      .params_size = PARAMS_SIZE(shape),
                                      .fields = mx_fields_shape,
                                      .shape = reshape_shape,
                                      .view = reshape_view,
                                      .d = mx_d_linear,
                                      .transpose = reshape_transpose,
                                      .batch = reshape_batch};

/* -- transpose ----------------------------------------------------------------------------------------------------- */

static bool transpose_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  const mx_dims *axes = &o->p->axes.axes;
  int64_t shape[MX_MAX_NDIM];
  if (!check_permutation(c, axes, x->ndim)) return false;
  for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[axes->v[i]];
  return same_type(c, x, x->ndim, shape, out);
}

static bool transpose_view(const mx_op *o, const int64_t *in_strides, int64_t *offset, int64_t *out_strides) {
  *offset = 0;
  for (int i = 0; i < o->p->axes.axes.n; i++) out_strides[i] = in_strides[o->p->axes.axes.v[i]];
  return true;
}

static mx_dims inverse(const mx_dims *axes) {
  mx_dims d = {.n = axes->n};
  for (int i = 0; i < axes->n; i++) d.v[axes->v[i]] = i;
  return d;
}

static mx_array *transpose_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  (void)i;
  mx_dims back = inverse(&o->p->axes.axes);
  return mx_transpose(c, ct[0], &back);
}

static bool transpose_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_dims behind = axes_behind_front(&o->p->axes.axes), to = with_front(&behind, 0);
  return batched(mx_transpose(c, mx_batch_front(c, o->in[0], axes[0], size), &to), out, out_axes);
}

const mx_primitive mx_prim_transpose = {.name = "transpose",
                                        .id = MX_PRIM_transpose,
                                        .n_out = 1,
                                        .linear = true,
                                        .params_size = PARAMS_SIZE(axes),
                                        .fields = mx_fields_axes,
                                        .shape = transpose_shape,
                                        .view = transpose_view,
                                        .d = mx_d_linear,
                                        .transpose = transpose_transpose,
                                        .batch = transpose_batch};

/* -- reverse ------------------------------------------------------------------------------------------------------- */

static bool reverse_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  const mx_dims *axes = &o->p->axes.axes;
  bool seen[MX_MAX_NDIM] = {false};
  for (int i = 0; i < axes->n; i++) {
    if (axes->v[i] < 0 || axes->v[i] >= x->ndim)
      return mx_fail(c, MLAX_SHAPE, "axis out of range for %d axes", x->ndim), false;
    if (seen[axes->v[i]]) return mx_fail(c, MLAX_SHAPE, "an axis is named twice"), false;
    seen[axes->v[i]] = true;
  }
  *out = *x;
  return true;
}

/* It begins at the last element of each reversed axis. */
static bool reverse_view(const mx_op *o, const int64_t *in_strides, int64_t *offset, int64_t *out_strides) {
  const mx_aval *x = o->in_aval[0];
  *offset = 0;
  for (int i = 0; i < x->ndim; i++) {
    bool reversed = mx_dims_has(&o->p->axes.axes, i) && x->shape[i] > 1;
    out_strides[i] = reversed ? -in_strides[i] : in_strides[i];
    if (reversed && x->size) *offset += in_strides[i] * (x->shape[i] - 1);
  }
  return true;
}

static mx_array *reverse_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  (void)i;
  return mx_reverse(c, ct[0], &o->p->axes.axes);
}

static bool reverse_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_dims behind = axes_behind_front(&o->p->axes.axes);
  return batched(mx_reverse(c, mx_batch_front(c, o->in[0], axes[0], size), &behind), out, out_axes);
}

const mx_primitive mx_prim_reverse = {.name = "reverse",
                                      .id = MX_PRIM_reverse,
                                      .n_out = 1,
                                      .linear = true,
                                      .params_size = PARAMS_SIZE(axes),
                                      .fields = mx_fields_axes,
                                      .shape = reverse_shape,
                                      .view = reverse_view,
                                      .d = mx_d_linear,
                                      .transpose = reverse_transpose,
                                      .batch = reverse_batch};

/* -- slice --------------------------------------------------------------------------------------------------------- */

static int64_t slice_length(const mx_params *p, int i) {
  int64_t span = p->slice.limit.v[i] - p->slice.start.v[i], step = p->slice.step.v[i];
  return span > 0 ? (span - 1) / step + 1 : 0;
}

static bool slice_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  const mx_dims *start = &o->p->slice.start, *limit = &o->p->slice.limit, *step = &o->p->slice.step;
  int64_t shape[MX_MAX_NDIM];
  if (start->n != x->ndim || limit->n != x->ndim || step->n != x->ndim)
    return mx_fail(c, MLAX_SHAPE, "start, limit and step need a number for each of the %d axes", x->ndim), false;
  for (int i = 0; i < x->ndim; i++) {
    if (start->v[i] < 0 || start->v[i] > limit->v[i] || limit->v[i] > x->shape[i] || step->v[i] < 1)
      return mx_fail(c, MLAX_SHAPE, "slice %lld:%lld:%lld is out of range for an axis of %lld", (long long)start->v[i],
                     (long long)limit->v[i], (long long)step->v[i], (long long)x->shape[i]),
             false;
    shape[i] = slice_length(o->p, i);
  }
  return same_type(c, x, x->ndim, shape, out);
}

static bool slice_view(const mx_op *o, const int64_t *in_strides, int64_t *offset, int64_t *out_strides) {
  const mx_aval *y = o->out_aval;
  *offset = 0;
  for (int i = 0; i < y->ndim; i++) {
    bool single = y->shape[i] <= 1; /* a long step would overflow the stride for nothing */
    out_strides[i] = single ? in_strides[i] : in_strides[i] * o->p->slice.step.v[i];
    if (y->size) *offset += in_strides[i] * o->p->slice.start.v[i];
  }
  return true;
}

/* Zeros around, and step - 1 zeros between the elements. */
static mx_array *slice_transpose(mx_ctx *c, const mx_op *o, int k, mx_array *const *ct) {
  const mx_aval *x = o->in_aval[k];
  mx_dims lo = o->p->slice.start, hi = lo, interior = lo;
  for (int i = 0; i < x->ndim; i++) {
    int64_t n = slice_length(o->p, i), step = n > 1 ? o->p->slice.step.v[i] : 1;
    interior.v[i] = step - 1;
    hi.v[i] = x->shape[i] - lo.v[i] - (n ? 1 + (n - 1) * step : 0);
  }
  return mx_pad(c, ct[0], mx_scalar(c, x->dtype, 0), &lo, &hi, &interior);
}

static bool slice_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_array *x = mx_batch_front(c, o->in[0], axes[0], size);
  mx_dims start = with_front(&o->p->slice.start, 0), limit = with_front(&o->p->slice.limit, size);
  mx_dims step = with_front(&o->p->slice.step, 1);
  return batched(mx_slice(c, x, &start, &limit, &step), out, out_axes);
}

static const mx_field slice_fields[] = {
    FIELD(slice, start, MX_FIELD_DIMS), FIELD(slice, limit, MX_FIELD_DIMS), FIELD(slice, step, MX_FIELD_DIMS), {0}};

const mx_primitive mx_prim_slice = {.name = "slice",
                                    .id = MX_PRIM_slice,
                                    .n_out = 1,
                                    .linear = true,
                                    .params_size = PARAMS_SIZE(slice),
                                    .fields = slice_fields,
                                    .shape = slice_shape,
                                    .view = slice_view,
                                    .d = mx_d_linear,
                                    .transpose = slice_transpose,
                                    .batch = slice_batch};

/* -- operations ---------------------------------------------------------------------------------------------------- */

mx_array *mx_full(mx_ctx *c, int dtype, const mx_dims *shape, double v) {
  return mx_broadcast(c, mx_scalar(c, dtype, v), shape);
}

mx_array *mx_zeros(mx_ctx *c, const mx_aval *a) {
  mx_dims shape = mx_dims_shape(a);
  return mx_full(c, a->dtype, &shape, 0);
}

mx_array *mx_iota(mx_ctx *c, int dtype, const mx_dims *shape, int axis) {
  mx_params p = {.iota = {.shape = *shape, .dtype = dtype, .axis = axis}};
  return mx_bind1(c, &mx_prim_iota, &p, NULL, 0);
}

mx_array *mx_broadcast(mx_ctx *c, mx_array *x, const mx_dims *shape) {
  mx_params p = {.shape = {*shape}};
  if (!x || dims_equal_shape(shape, &x->aval)) return x;
  return mx_bind1(c, &mx_prim_broadcast, &p, &x, 1);
}

mx_array *mx_broadcast_like(mx_ctx *c, mx_array *x, const mx_aval *a) {
  mx_dims shape = mx_dims_shape(a);
  return mx_broadcast(c, x, &shape);
}

mx_array *mx_reshape(mx_ctx *c, mx_array *x, const mx_dims *shape) {
  mx_params p = {.shape = {*shape}};
  if (!x || dims_equal_shape(shape, &x->aval)) return x;
  return mx_bind1(c, &mx_prim_reshape, &p, &x, 1);
}

static bool is_identity(const mx_dims *axes) {
  for (int i = 0; i < axes->n; i++)
    if (axes->v[i] != i) return false;
  return true;
}

mx_array *mx_transpose(mx_ctx *c, mx_array *x, const mx_dims *axes) {
  mx_params p = {.axes = {*axes}};
  if (!x || (axes->n == x->aval.ndim && is_identity(axes))) return x;
  return mx_bind1(c, &mx_prim_transpose, &p, &x, 1);
}

mx_array *mx_move_axis(mx_ctx *c, mx_array *x, int from, int to) {
  if (!x) return NULL;
  mx_dims all = mx_dims_range(x->aval.ndim), rest = mx_dims_remove(&all, from), axes = mx_dims_insert(&rest, to, from);
  return mx_transpose(c, x, &axes);
}

mx_array *mx_swap_axes(mx_ctx *c, mx_array *x, int a, int b) {
  if (!x) return NULL;
  mx_dims axes = mx_dims_range(x->aval.ndim);
  axes.v[a] = b, axes.v[b] = a;
  return mx_transpose(c, x, &axes);
}

mx_array *mx_expand(mx_ctx *c, mx_array *x, int axis) {
  if (!x) return NULL;
  if (x->aval.ndim == MX_MAX_NDIM)
    return mx_fail(c, MLAX_SHAPE, "too many axes (got %d, need at most %d)", MX_MAX_NDIM + 1, MX_MAX_NDIM);
  mx_dims shape = mx_dims_shape(&x->aval), to = mx_dims_insert(&shape, axis, 1);
  return mx_reshape(c, x, &to);
}

mx_array *mx_squeeze(mx_ctx *c, mx_array *x, int axis) {
  if (!x) return NULL;
  if (x->aval.shape[axis] != 1)
    return mx_fail(c, MLAX_SHAPE, "an axis of length %lld cannot be squeezed", (long long)x->aval.shape[axis]);
  mx_dims shape = mx_dims_shape(&x->aval), to = mx_dims_remove(&shape, axis);
  return mx_reshape(c, x, &to);
}

mx_array *mx_reverse(mx_ctx *c, mx_array *x, const mx_dims *axes) {
  mx_params p = {.axes = {*axes}};
  if (!x || axes->n == 0) return x;
  return mx_bind1(c, &mx_prim_reverse, &p, &x, 1);
}

static bool takes_all(const mx_params *p, const mx_aval *x) {
  for (int i = 0; i < x->ndim; i++)
    if (p->slice.start.v[i] != 0 || p->slice.limit.v[i] != x->shape[i] || p->slice.step.v[i] != 1) return false;
  return p->slice.start.n == x->ndim && p->slice.limit.n == x->ndim && p->slice.step.n == x->ndim;
}

mx_array *mx_slice(mx_ctx *c, mx_array *x, const mx_dims *start, const mx_dims *limit, const mx_dims *step) {
  mx_params p = {.slice = {.start = *start, .limit = *limit, .step = step ? *step : dims_fill(start->n, 1)}};
  if (!x || takes_all(&p, &x->aval)) return x;
  return mx_bind1(c, &mx_prim_slice, &p, &x, 1);
}

mx_array *mx_slice_axis(mx_ctx *c, mx_array *x, int axis, int64_t start, int64_t limit) {
  if (!x) return NULL;
  mx_dims from = dims_fill(x->aval.ndim, 0), to = mx_dims_shape(&x->aval);
  from.v[axis] = start, to.v[axis] = limit;
  return mx_slice(c, x, &from, &to, NULL);
}

/* Leading axes and axes that were 1 are summed; the dtype stays. */
mx_array *mx_sum_to(mx_ctx *c, mx_array *x, const mx_aval *a) {
  if (!x || mx_shape_equal(&x->aval, a)) return x;
  int lead = x->aval.ndim - a->ndim;
  mx_params p = {.axes = {{0}}};
  for (int i = 0; i < x->aval.ndim; i++)
    if (i < lead || (a->shape[i - lead] == 1 && x->aval.shape[i] != 1)) p.axes.axes.v[p.axes.axes.n++] = i;
  mx_dims shape = mx_dims_shape(a);
  if (p.axes.axes.n) x = mx_bind1(c, &mx_prim_reduce_sum, &p, &x, 1);
  return mx_reshape(c, x, &shape);
}
