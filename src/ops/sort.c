/* sort.c: order: sorting several arrays by some of them, and where values belong in a sorted array. */
#include "index_impl.h"

/* -- shapes ------------------------------------------------------------------------------------------------------- */

/* One operand fewer than a primitive may have: the derivative adds a count. */
enum { SORT_MAX = MX_MAX_OUT - 1 };

static bool sort_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  int64_t axis = o->p->sort.axis, keys = o->p->sort.keys;
  mx_text a, b;
  if (keys < 1 || keys > o->n_in)
    return mx_fail(c, MLAX_ARGUMENT, "sort needs a key (got %lld keys, need 1..%d)", (long long)keys, o->n_in);
  if (axis < 0 || axis >= o->in_aval[0]->ndim)
    return mx_fail(c, MLAX_ARGUMENT, "axis out of range (got %lld, need 1..%d)", (long long)axis + 1,
                   o->in_aval[0]->ndim);
  for (int i = 0; i < o->n_in; i++) {
    if (!mx_shape_equal(o->in_aval[i], o->in_aval[0]))
      return mx_fail(c, MLAX_SHAPE, "arrays that are sorted together have one shape (got %s and %s)",
                     mx_aval_text(&a, o->in_aval[0]), mx_aval_text(&b, o->in_aval[i]));
    out[i] = *o->in_aval[i];
    out[i].weak = false;
  }
  return true;
}

static bool searchsorted_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *sorted = o->in_aval[0], *v = o->in_aval[1];
  bool fit = sorted->dtype == v->dtype && sorted->ndim >= 1 && sorted->ndim == v->ndim;
  mx_text a, b;
  for (int i = 0; fit && i < v->ndim - 1; i++) fit = sorted->shape[i] == v->shape[i];
  if (!fit)
    return mx_fail(c, MLAX_SHAPE, "sorted array and values do not fit (got %s and %s, need equal axes before the last)",
                   mx_aval_text(&a, sorted), mx_aval_text(&b, v));
  if (sorted->shape[sorted->ndim - 1] > INT32_MAX)
    return mx_fail(c, MLAX_SHAPE, "the sorted axis is too long (got %s)", mx_aval_text(&a, sorted));
  *out = *v;
  out->dtype = MLAX_INT32;
  out->weak = false;
  return true;
}

/* -- operations --------------------------------------------------------------------------------------------------- */

bool mx_sort(mx_ctx *c, mx_array *const *x, int n, int keys, int axis, mx_array **out) {
  mx_params p = {.sort = {axis, keys}};
  if (n < 1 || n > SORT_MAX) return mx_fail(c, MLAX_ARGUMENT, "sort takes 1 to %d arrays (got %d)", SORT_MAX, n);
  for (int i = 0; i < n; i++)
    if (!x[i]) return false;
  return mx_bind(c, &mx_prim_sort, &p, x, n, out, n);
}

/* Counts from 0 along the axis, in x's shape. */
static mx_array *count_along(mx_ctx *c, const mx_aval *a, int axis) {
  mx_dims shape = mx_dims_shape(a);
  return mx_iota(c, a->shape[axis] > INT32_MAX ? MLAX_INT64 : MLAX_INT32, &shape, axis);
}

mx_array *mx_argsort(mx_ctx *c, mx_array *x, int axis) {
  mx_array *out[2];
  if (!x) return NULL;
  if (axis < 0 || axis >= x->aval.ndim)
    return mx_fail(c, MLAX_ARGUMENT, "axis out of range (got %d, need 1..%d)", axis + 1, x->aval.ndim);
  return mx_sort(c, (mx_array *[]){x, count_along(c, &x->aval, axis)}, 2, 1, axis, out) ? out[1] : NULL;
}

mx_array *mx_searchsorted(mx_ctx *c, mx_array *sorted, mx_array *v, bool right) {
  if (!sorted || !v) return NULL;
  bool weak;
  int dtype = mx_dtype_promote(sorted->aval.dtype, sorted->aval.weak, v->aval.dtype, v->aval.weak, &weak);
  mx_params p = {.search = {right}};
  mx_dims shape = mx_dims_shape(&v->aval), flat = {.n = 1, .v = {v->aval.size}};
  bool vector = sorted->aval.ndim == 1; /* then values of any shape */
  mx_array *in[2] = {mx_convert(c, sorted, dtype), mx_convert(c, vector ? mx_reshape(c, v, &flat) : v, dtype)};
  mx_array *r = mx_bind1(c, &mx_prim_searchsorted, &p, in, 2);
  return vector ? mx_reshape(c, r, &shape) : r;
}

/* -- rules -------------------------------------------------------------------------------------------------------- */

/* x where `axis` is addressed by positions of x's shape, and each other axis by a count */
static mx_array *take_along(mx_ctx *c, mx_array *x, mx_array *positions, int axis) {
  if (!x || !positions) return NULL;
  int ndim = x->aval.ndim;
  mx_array *ids[MX_MAX_NDIM];
  mx_dims axes = mx_dims_range(ndim);
  for (int i = 0; i < ndim; i++) {
    mx_dims shape = {.n = ndim};
    for (int j = 0; j < ndim; j++) shape.v[j] = j == i ? x->aval.shape[i] : 1;
    ids[i] = i == axis ? positions : mx_iota(c, positions->aval.dtype, &shape, i);
  }
  return mx_gather(c, x, ids, ndim, &axes, false);
}

/* A count is sorted along: where it ends up are the positions that the tangents are taken from. */
static bool sort_jvp(mx_ctx *c, const mx_op *o, mx_array *const *t, mx_array **out, mx_array **dout) {
  int axis = (int)o->p->sort.axis, n = o->n_in;
  mx_array *in[MX_MAX_OUT], *all[MX_MAX_OUT];
  for (int i = 0; i < n; i++) in[i] = o->in[i];
  if (!(in[n] = count_along(c, &o->in[0]->aval, axis))) return false;
  if (!mx_bind(c, o->prim, o->p, in, n + 1, all, n + 1)) return false;
  for (int i = 0; i < n; i++) {
    out[i] = all[i];
    dout[i] = t[i] ? take_along(c, t[i], all[n], axis) : NULL;
  }
  return !mx_failed(c);
}

static bool sort_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_params p = {.sort = {o->p->sort.axis + 1, o->p->sort.keys}};
  mx_array *in[MX_MAX_OUT];
  for (int i = 0; i < o->n_in; i++) {
    if (!(in[i] = mx_batch_front(c, o->in[i], axes[i], size))) return false;
    out_axes[i] = 0;
  }
  return mx_bind(c, o->prim, &p, in, o->n_in, out, o->n_in);
}

static bool searchsorted_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out,
                               int *out_axes) {
  mx_array *in[2] = {mx_batch_front(c, o->in[0], axes[0], size), mx_batch_front(c, o->in[1], axes[1], size)};
  *out_axes = 0;
  return (*out = mx_bind1(c, o->prim, o->p, in, 2)) != NULL;
}

/* -- records ------------------------------------------------------------------------------------------------------ */

static const mx_field sort_fields[] = {{"axis", MX_FIELD_INT, offsetof(mx_params, sort.axis)},
                                       {"keys", MX_FIELD_INT, offsetof(mx_params, sort.keys)},
                                       {NULL, MX_FIELD_END, 0}};
static const mx_field search_fields[] = {{"right", MX_FIELD_FLAG, offsetof(mx_params, search.right)},
                                         {NULL, MX_FIELD_END, 0}};

const mx_primitive mx_prim_sort = {.name = "sort",
                                   .id = MX_PRIM_sort,
                                   .n_out = 0,
                                   .params_size = sizeof(((mx_params *)0)->sort),
                                   .fields = sort_fields,
                                   .shape = sort_shape,
                                   .jvp = sort_jvp,
                                   .batch = sort_batch,
                                   .flops = mx_flops_none};

const mx_primitive mx_prim_searchsorted = {.name = "searchsorted",
                                           .id = MX_PRIM_searchsorted,
                                           .n_out = 1,
                                           .params_size = sizeof(((mx_params *)0)->search),
                                           .fields = search_fields,
                                           .shape = searchsorted_shape,
                                           .batch = searchsorted_batch,
                                           .flops = mx_flops_none};
