/* index.c: positions that come from the data: the check of positions, gather, scatter and its kin, windows.
 *
 *     gather    out[s..., rest...] = x[axes := ids[s...]]          s: the shape the ids broadcast to
 *     scatter   x[axes := ids[s...], rest] = updates[s..., rest]   rest: x's other axes in order
 *
 * The two are each other's transposes: a gather's cotangent is scattered and added, that of an added update is
 * gathered.
 */
#include "index_impl.h"

/* -- shapes ------------------------------------------------------------------------------------------------------- */

static bool aval_make(mx_ctx *c, mx_aval *out, int dtype, int ndim, const int64_t *shape) {
  if (!mx_aval_make(c, out, dtype, ndim, shape)) return false;
  out->weak = false;
  return true;
}

static bool id_dtype_ok(mx_ctx *c, const mx_aval *a) {
  if (a->dtype == MLAX_INT32 || a->dtype == MLAX_INT64) return true;
  return mx_fail(c, MLAX_SHAPE, "positions must be int32 or int64 (got %s)", mx_dtype_name(a->dtype));
}

/* s: what n ids broadcast to. */
static bool ids_broadcast(mx_ctx *c, const mx_aval *const *ids, int n, mx_aval *s) {
  *s = (mx_aval){.dtype = MLAX_INT32, .size = 1};
  for (int i = 0; i < n; i++) {
    mx_aval both = *s;
    mx_text a, b;
    if (!id_dtype_ok(c, ids[i])) return false;
    if (!mx_shape_broadcast(s, ids[i], &both))
      return mx_fail(c, MLAX_SHAPE, "index arrays do not fit each other (got %s and %s)",
                     mx_shape_text(&a, s->ndim, s->shape), mx_shape_text(&b, ids[i]->ndim, ids[i]->shape));
    *s = both;
  }
  return true;
}

static bool axes_check(mx_ctx *c, const mx_dims *axes, int n, int ndim) {
  if (axes->n != n)
    return mx_fail(c, MLAX_ARGUMENT, "one index array an axis is needed (got %d, need %lld)", n, (long long)axes->n);
  for (int i = 0; i < n; i++) {
    if (axes->v[i] < 0 || axes->v[i] >= ndim)
      return mx_fail(c, MLAX_ARGUMENT, "axis out of range (got %lld, need 1..%d)", (long long)axes->v[i] + 1, ndim);
    for (int j = 0; j < i; j++)
      if (axes->v[i] == axes->v[j]) return mx_fail(c, MLAX_ARGUMENT, "axis %lld twice", (long long)axes->v[i] + 1);
  }
  return true;
}

/* Shape {s..., rest...} of what the ids address in x. */
static bool addressed(mx_ctx *c, const mx_aval *x, const mx_dims *axes, const mx_aval *const *ids, int n,
                      mx_aval *out) {
  mx_aval s;
  int64_t shape[2 * MX_MAX_NDIM];
  int ndim = 0;
  if (!axes_check(c, axes, n, x->ndim) || !ids_broadcast(c, ids, n, &s)) return false;
  for (int i = 0; i < s.ndim; i++) shape[ndim++] = s.shape[i];
  for (int i = 0; i < x->ndim; i++)
    if (!mx_dims_has(axes, i)) shape[ndim++] = x->shape[i];
  return aval_make(c, out, x->dtype, ndim, shape);
}

static bool gather_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  return addressed(c, o->in_aval[0], &o->p->gather.axes, o->in_aval + 1, o->n_in - 1, out);
}

static bool scatter_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0], *updates = o->in_aval[1];
  mx_aval need;
  mx_text a, b;
  if (!addressed(c, x, &o->p->axes.axes, o->in_aval + 2, o->n_in - 2, &need)) return false;
  if (updates->dtype != x->dtype || !mx_shape_equal(updates, &need))
    return mx_fail(c, MLAX_SHAPE, "updates do not fit (got %s, need %s)", mx_aval_text(&a, updates),
                   mx_aval_text(&b, &need));
  if (x->dtype == MLAX_BOOL && (o->prim->id == MX_PRIM_scatter_add || o->prim->id == MX_PRIM_scatter_mul))
    return mx_fail(c, MLAX_SHAPE, "numbers are needed (got bool)");
  *out = *x;
  out->weak = false;
  return true;
}

static bool check_index_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *ids = o->in_aval[0];
  mx_aval both = *ids;
  if (!mx_is_int(ids->dtype))
    return mx_fail(c, MLAX_SHAPE, "positions must be integers (got %s)", mx_dtype_name(ids->dtype));
  if (o->n_in == 2 && o->in_aval[1]->dtype != MLAX_BOOL)
    return mx_fail(c, MLAX_SHAPE, "a bool predicate is needed (got %s)", mx_dtype_name(o->in_aval[1]->dtype));
  if (o->n_in == 2 && !mx_shape_broadcast(ids, o->in_aval[1], &both))
    return mx_fail(c, MLAX_SHAPE, "positions and predicate do not fit each other");
  return aval_make(c, out, o->p->check.size > INT32_MAX ? MLAX_INT64 : MLAX_INT32, both.ndim, both.shape);
}

static bool starts_check(mx_ctx *c, const mx_aval *starts, const mx_aval *x) {
  if (!id_dtype_ok(c, starts)) return false;
  mx_text t;
  if (starts->ndim == 1 && starts->shape[0] == x->ndim) return true;
  return mx_fail(c, MLAX_SHAPE, "one start an axis is needed (got shape %s, need {%d})",
                 mx_shape_text(&t, starts->ndim, starts->shape), x->ndim);
}

static bool window_fits(mx_ctx *c, const mx_aval *x, int ndim, const int64_t *sizes) {
  bool ok = ndim == x->ndim;
  for (int i = 0; ok && i < ndim; i++) ok = sizes[i] >= 0 && sizes[i] <= x->shape[i];
  mx_text a, b;
  if (ok) return true;
  return mx_fail(c, MLAX_SHAPE, "the window does not fit into the array (got sizes %s, need at most %s)",
                 mx_shape_text(&a, ndim, sizes), mx_shape_text(&b, x->ndim, x->shape));
}

static bool dynamic_slice_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  const mx_dims *sizes = &o->p->dynamic.sizes;
  return starts_check(c, o->in_aval[1], x) && window_fits(c, x, (int)sizes->n, sizes->v) &&
         aval_make(c, out, x->dtype, (int)sizes->n, sizes->v);
}

static bool dynamic_update_slice_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0], *y = o->in_aval[1];
  if (!starts_check(c, o->in_aval[2], x) || !window_fits(c, x, y->ndim, y->shape)) return false;
  if (x->dtype != y->dtype)
    return mx_fail(c, MLAX_SHAPE, "dtypes do not fit (got %s, need %s)", mx_dtype_name(y->dtype),
                   mx_dtype_name(x->dtype));
  *out = *x;
  out->weak = false;
  return true;
}

/* -- operations --------------------------------------------------------------------------------------------------- */

static mx_array *id_of(mx_ctx *c, mx_array *ids) {
  if (!ids) return NULL;
  int dtype = ids->aval.dtype;
  if (dtype == MLAX_INT32 || dtype == MLAX_INT64 || !mx_is_int(dtype)) return ids;
  return mx_convert(c, ids, dtype == MLAX_UINT32 || dtype == MLAX_UINT64 ? MLAX_INT64 : MLAX_INT32);
}

mx_array *mx_check_index(mx_ctx *c, mx_array *ids, int64_t size, int axis, int base) {
  mx_params p = {.check = {size, axis, base}};
  return mx_bind1(c, &mx_prim_check_index, &p, &ids, 1);
}

static bool ids_count_check(mx_ctx *c, int n) {
  return n <= MX_MAX_NDIM ||
         mx_fail(c, MLAX_ARGUMENT, "too many index arrays (got %d, need at most %d)", n, MX_MAX_NDIM);
}

static mx_array *gather(mx_ctx *c, mx_array *x, mx_array *const *ids, int n, const mx_dims *axes, int mode) {
  mx_params p = {.gather = {*axes, mode}};
  mx_array *in[1 + MX_MAX_NDIM] = {x};
  if (!ids_count_check(c, n)) return NULL;
  for (int i = 0; i < n; i++) in[1 + i] = id_of(c, ids[i]);
  return mx_bind1(c, &mx_prim_gather, &p, in, 1 + n);
}

mx_array *mx_gather(mx_ctx *c, mx_array *x, mx_array *const *ids, int n, const mx_dims *axes, bool fill) {
  return gather(c, x, ids, n, axes, fill ? MX_GATHER_FILL : MX_GATHER_CLAMP);
}

mx_array *mx_scatter(mx_ctx *c, const mx_primitive *prim, mx_array *x, mx_array *updates, mx_array *const *ids, int n,
                     const mx_dims *axes) {
  mx_params p = {.axes = {*axes}};
  mx_array *in[2 + MX_MAX_NDIM] = {x};
  const mx_aval *avals[MX_MAX_NDIM];
  mx_aval need;
  if (!x || !updates || !ids_count_check(c, n)) return NULL;
  for (int i = 0; i < n; i++) {
    if (!(in[2 + i] = id_of(c, ids[i]))) return NULL;
    avals[i] = &in[2 + i]->aval;
  }
  if (!addressed(c, &x->aval, axes, avals, n, &need)) return NULL;
  in[1] = mx_broadcast_like(c, mx_convert(c, updates, x->aval.dtype), &need);
  return mx_bind1(c, prim, &p, in, 2 + n);
}

mx_array *mx_dynamic_slice(mx_ctx *c, mx_array *x, mx_array *starts, const mx_dims *sizes) {
  mx_params p = {.dynamic = {*sizes}};
  return mx_bind1(c, &mx_prim_dynamic_slice, &p, (mx_array *[]){x, id_of(c, starts)}, 2);
}

mx_array *mx_dynamic_update_slice(mx_ctx *c, mx_array *x, mx_array *y, mx_array *starts) {
  if (x && y) y = mx_convert(c, y, x->aval.dtype);
  return mx_bind1(c, &mx_prim_dynamic_update_slice, NULL, (mx_array *[]){x, y, id_of(c, starts)}, 3);
}

/* -- batching helpers --------------------------------------------------------------------------------------------- */

mx_array *mx_batch_align(mx_ctx *c, mx_array *x, int axis, int ndim) {
  if (!x || axis < 0) return x;
  x = mx_move_axis(c, x, axis, 0);
  while (x && x->aval.ndim < 1 + ndim) x = mx_expand(c, x, 1);
  return x;
}

int mx_batch_ndim(const mx_op *o, int first, const int *axes, bool *mapped) {
  int ndim = 0;
  *mapped = false;
  for (int i = first; i < o->n_in; i++) {
    int own = o->in[i]->aval.ndim - (axes[i] >= 0);
    if (own > ndim) ndim = own;
    if (axes[i] >= 0) *mapped = true;
  }
  return ndim;
}

bool mx_batch_broadcasting(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  (void)size; /* at least one operand is mapped */
  bool mapped;
  int ndim = mx_batch_ndim(o, 0, axes, &mapped);
  mx_array *in[MX_MAX_OUT];
  for (int i = 0; i < o->n_in; i++)
    if (!(in[i] = mx_batch_align(c, o->in[i], axes[i], ndim))) return false;
  for (int i = 0; i < o->n_out; i++) out_axes[i] = 0;
  return mx_bind(c, o->prim, o->p, in, o->n_in, out, o->n_out);
}

mx_array *mx_iota_column(mx_ctx *c, int64_t size, int ndim) {
  mx_dims shape = {.n = ndim, .v = {size}};
  for (int i = 1; i < ndim; i++) shape.v[i] = 1;
  return mx_iota(c, size > INT32_MAX ? MLAX_INT64 : MLAX_INT32, &shape, 0);
}

double mx_flops_none(const mx_op *o) {
  (void)o;
  return 0;
}

/* The ids behind operand `first`, aligned; where `count`, behind a count over the batch axis. Returns how many, -1 on
 * failure. */
static int batched_ids(mx_ctx *c, const mx_op *o, int first, const int *axes, int64_t size, int s, bool count,
                       mx_array **ids) {
  int n = 0;
  if (o->n_in - first + count > MX_MAX_NDIM) return ids_count_check(c, MX_MAX_NDIM + 1) ? 0 : -1;
  if (count && !(ids[n++] = mx_iota_column(c, size, 1 + s))) return -1;
  for (int i = first; i < o->n_in; i++)
    if (!(ids[n++] = mx_batch_align(c, o->in[i], axes[i], s))) return -1;
  return n;
}

/* The axes of x after a mapped axis came in at `at`; where `count`, behind the mapped axis itself. */
static mx_dims shifted_axes(const mx_dims *axes, int at, bool count) {
  mx_dims r = {0};
  if (count) r.v[r.n++] = at;
  for (int i = 0; i < axes->n; i++) r.v[r.n++] = axes->v[i] + (axes->v[i] >= at);
  return r;
}

/* -- gather ------------------------------------------------------------------------------------------------------- */

/* d gather(x, ids) = gather(g, ids); what was filled in does not move */
static mx_array *gather_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  (void)i;
  int mode = o->p->gather.fill == MX_GATHER_FILL ? MX_GATHER_ZERO : (int)o->p->gather.fill;
  return gather(c, g, o->in + 1, o->n_in - 1, &o->p->gather.axes, mode);
}

/* ids moved to the nearest of 0 .. size-1 */
static mx_array *clamp_ids(mx_ctx *c, mx_array *ids, int64_t size) {
  if (!ids) return NULL;
  if (size > INT32_MAX) ids = mx_convert(c, ids, MLAX_INT64);
  if (!ids) return NULL;
  int dtype = ids->aval.dtype;
  return mx_maximum(c, mx_minimum(c, ids, mx_scalar_int(c, dtype, size - 1)), mx_scalar_int(c, dtype, 0));
}

/* x' = zeros with ct added at ids; scatters drop what lies outside, so a clamping gather hands its clamped ids on */
static mx_array *gather_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  (void)i;
  const mx_aval *x = o->in_aval[0];
  const mx_dims *axes = &o->p->gather.axes;
  mx_array *ids[MX_MAX_NDIM];
  for (int k = 0; k < axes->n; k++) {
    ids[k] = o->in[1 + k];
    if (o->p->gather.fill == MX_GATHER_CLAMP) ids[k] = clamp_ids(c, ids[k], x->shape[axes->v[k]]);
  }
  return mx_scatter(c, &mx_prim_scatter_add, mx_zeros(c, x), ct[0], ids, (int)axes->n, axes);
}

/* x alone is mapped: its axis is one more of the rest. ids are mapped: s grows an axis in front, and where x is mapped
 * too, its axis is addressed by a count. */
static bool gather_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  bool mapped;
  int s = mx_batch_ndim(o, 1, axes, &mapped), at = axes[0];
  bool count = mapped && at >= 0;
  mx_array *ids[MX_MAX_NDIM];
  int n = batched_ids(c, o, 1, axes, size, s, count, ids);
  if (n < 0) return false;
  mx_dims all = at < 0 ? o->p->gather.axes : shifted_axes(&o->p->gather.axes, at, count);
  *out_axes = 0;
  if (!mapped) {
    *out_axes = s + at;
    for (int k = 0; k < all.n; k++) *out_axes -= all.v[k] < at;
  }
  return (*out = gather(c, o->in[0], ids, n, &all, (int)o->p->gather.fill)) != NULL;
}

/* -- scatter ------------------------------------------------------------------------------------------------------ */

/* scatter and scatter_add are linear in (x, updates) together: d scatter(x, u) = scatter(dx, du) */
static bool scatter_jvp(mx_ctx *c, const mx_op *o, mx_array *const *t, mx_array **out, mx_array **dout) {
  mx_array *in[2 + MX_MAX_NDIM];
  for (int i = 0; i < o->n_in; i++) in[i] = o->in[i];
  if (!(*out = mx_bind1(c, o->prim, o->p, in, o->n_in))) return false;
  if (!t[1] && o->prim->id == MX_PRIM_scatter_add) return (*dout = t[0]) != NULL;
  for (int i = 0; i < 2; i++) in[i] = t[i] ? t[i] : mx_zeros(c, &o->in[i]->aval);
  return (*dout = mx_bind1(c, o->prim, o->p, in, o->n_in)) != NULL;
}

static mx_array *gather_updates(mx_ctx *c, const mx_op *o, mx_array *x) {
  return gather(c, x, o->in + 2, o->n_in - 2, &o->p->axes.axes, MX_GATHER_ZERO);
}

static mx_array *scatter_zeros(mx_ctx *c, const mx_op *o, mx_array *updates) {
  return mx_scatter(c, &mx_prim_scatter_add, mx_zeros(c, o->in_aval[0]), updates, o->in + 2, o->n_in - 2,
                    &o->p->axes.axes);
}

/* Of x: ct. Of the updates: what they were added to. */
static mx_array *scatter_add_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  return i == 0 ? ct[0] : gather_updates(c, o, ct[0]);
}

/* Whether each update is the last at its position, {s..., 1...}: the updates' numbers are scattered too, and an update
 * is the last where it finds its own number. (Positions outside find 0, and their cotangent is 0 anyway.) NULL without
 * error: there is but one. */
static mx_array *last_updates(mx_ctx *c, const mx_op *o) {
  mx_aval s;
  int n = o->n_in - 2;
  const mx_dims *axes = &o->p->axes.axes;
  if (!ids_broadcast(c, o->in_aval + 2, n, &s) || s.size <= 1) return NULL;
  mx_dims lengths = {.n = n}, range = mx_dims_range(n), shape = mx_dims_shape(&s);
  for (int k = 0; k < n; k++) lengths.v[k] = o->in_aval[0]->shape[axes->v[k]];
  mx_array *number = mx_reshape(c, mx_iota_column(c, s.size, 1), &shape);
  if (!number) return NULL;
  mx_array *none = mx_full(c, number->aval.dtype, &lengths, 0);
  mx_array *last = mx_scatter(c, &mx_prim_scatter, none, number, o->in + 2, n, &range);
  mx_array *won = mx_eq(c, gather(c, last, o->in + 2, n, &range, MX_GATHER_ZERO), number);
  while (won && won->aval.ndim < o->in_aval[1]->ndim) won = mx_expand(c, won, won->aval.ndim);
  return won;
}

/* Of x: ct, zero where it was overwritten. Of the updates: ct at the ids, zero where a later one overwrote it. */
static mx_array *scatter_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  if (i == 0)
    return mx_scatter(c, o->prim, ct[0], mx_zeros(c, o->in_aval[1]), o->in + 2, o->n_in - 2, &o->p->axes.axes);
  mx_array *g = gather_updates(c, o, ct[0]), *won = last_updates(c, o);
  if (mx_failed(c)) return NULL;
  return won ? mx_select(c, won, g, mx_like(c, g, 0)) : g;
}

/* d (x * u) = dx * u + x * du at distinct positions */
static mx_array *scatter_mul_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  if (i == 1) return scatter_zeros(c, o, mx_mul(c, g, gather_updates(c, o, o->in[0])));
  return mx_scatter(c, o->prim, g, o->in[1], o->in + 2, o->n_in - 2, &o->p->axes.axes);
}

static mx_array *scatter_mul_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  if (i != 0) return mx_no_rule(c, o->prim, "transpose in the updates");
  return mx_scatter(c, o->prim, ct[0], o->in[1], o->in + 2, o->n_in - 2, &o->p->axes.axes);
}

/* x where the condition holds or x is NaN (which wins every comparison), as 1 and 0 */
static mx_array *attains(mx_ctx *c, mx_array *x, mx_array *extreme) {
  return mx_or(c, mx_eq(c, x, extreme), mx_ne(c, x, x));
}

/* min, max: all that attain the result share its derivative equally:
 * dy = ([x = y] dx + sum of [u = y] du) / ([x = y] + number of [u = y]) */
static bool scatter_extreme_jvp(mx_ctx *c, const mx_op *o, mx_array *const *t, mx_array **out, mx_array **dout) {
  mx_array *y = *out = mx_bind1(c, o->prim, o->p, o->in, o->n_in);
  if (!y) return false;
  int dtype = y->aval.dtype;
  mx_array *x_won = attains(c, o->in[0], y), *u_won = attains(c, o->in[1], gather_updates(c, o, y));
  mx_array *count = mx_add(c, mx_convert(c, x_won, dtype), scatter_zeros(c, o, mx_convert(c, u_won, dtype)));
  mx_array *zero = mx_scalar(c, dtype, 0), *sum = NULL;
  if (t[0]) sum = mx_select(c, x_won, t[0], zero);
  if (t[1]) {
    mx_array *added = scatter_zeros(c, o, mx_select(c, u_won, t[1], zero));
    sum = t[0] ? mx_add(c, sum, added) : added;
  }
  return (*dout = mx_div(c, sum, count)) != NULL;
}

/* The mapped axis of x and the updates comes first. ids alike for all: it is one more axis of the rest. ids mapped: s
 * grows an axis, and a count addresses x's. */
static bool scatter_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  bool mapped;
  int s = mx_batch_ndim(o, 2, axes, &mapped);
  mx_array *ids[MX_MAX_NDIM], *x = mx_batch_front(c, o->in[0], axes[0], size);
  mx_array *updates = mx_batch_front(c, o->in[1], axes[1], size);
  if (!mapped) updates = mx_move_axis(c, updates, 0, s);
  int n = batched_ids(c, o, 2, axes, size, s, mapped, ids);
  if (n < 0) return false;
  mx_dims all = shifted_axes(&o->p->axes.axes, 0, mapped);
  *out_axes = 0;
  return (*out = mx_scatter(c, o->prim, x, updates, ids, n, &all)) != NULL;
}

static double scatter_flops(const mx_op *o) { return o->prim->id == MX_PRIM_scatter ? 0 : (double)o->in_aval[1]->size; }

/* -- windows ------------------------------------------------------------------------------------------------------ */

static mx_array *dynamic_slice_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  (void)i;
  return mx_dynamic_slice(c, g, o->in[1], &o->p->dynamic.sizes);
}

/* x' = zeros with ct in the window */
static mx_array *dynamic_slice_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  (void)i;
  return mx_dynamic_update_slice(c, mx_zeros(c, o->in_aval[0]), ct[0], o->in[1]);
}

/* linear in (x, y) together */
static bool dynamic_update_slice_jvp(mx_ctx *c, const mx_op *o, mx_array *const *t, mx_array **out, mx_array **dout) {
  mx_array *dx = t[0] ? t[0] : mx_zeros(c, &o->in[0]->aval), *dy = t[1] ? t[1] : mx_zeros(c, &o->in[1]->aval);
  *out = mx_dynamic_update_slice(c, o->in[0], o->in[1], o->in[2]);
  *dout = mx_dynamic_update_slice(c, dx, dy, o->in[2]);
  return *out && *dout;
}

/* Of x: ct, zero in the window; of y: the window of ct. */
static mx_array *dynamic_update_slice_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  if (i == 0) return mx_dynamic_update_slice(c, ct[0], mx_zeros(c, o->in_aval[1]), o->in[2]);
  mx_dims sizes = mx_dims_shape(o->in_aval[1]);
  return mx_dynamic_slice(c, ct[0], o->in[2], &sizes);
}

/* starts for x with one more axis in front, which is taken whole */
static mx_array *starts_behind_zero(mx_ctx *c, mx_array *starts) {
  if (!starts) return NULL;
  mx_dims one = {.n = 1, .v = {1}};
  return mx_concat(c, (mx_array *[]){mx_full(c, starts->aval.dtype, &one, 0), starts}, 2, 0);
}

/* Windows whose starts differ, as positions: in every axis k that a window does not fill, ids[k][b, ..., j, ...] =
 * start[b, k] + j. `moving` lists these axes; the starts are {size, ndim}. */
static bool window_ids(mx_ctx *c, mx_array *starts, const int64_t *shape, const int64_t *sizes, const mx_dims *moving,
                       mx_array **ids) {
  int s = (int)moving->n;
  for (int k = 0; k < s; k++) {
    int axis = (int)moving->v[k];
    mx_array *start = clamp_ids(c, mx_slice_axis(c, starts, 1, axis, axis + 1), shape[axis] - sizes[axis] + 1);
    while (start && start->aval.ndim < 1 + s) start = mx_expand(c, start, 1);
    if (!start) return false;
    mx_dims steps = {.n = s};
    for (int j = 0; j < s; j++) steps.v[j] = j == k ? sizes[axis] : 1;
    if (!(ids[k] = mx_add(c, start, mx_iota(c, start->aval.dtype, &steps, k)))) return false;
  }
  return true;
}

static mx_dims moving_axes(int ndim, const int64_t *shape, const int64_t *sizes) {
  mx_dims moving = {0};
  for (int i = 0; i < ndim; i++)
    if (sizes[i] < shape[i]) moving.v[moving.n++] = i;
  return moving;
}

/* Axes {batch, moving..., others...} to {batch, all axes in order}; `back`: the other way. */
static mx_array *window_order(mx_ctx *c, mx_array *x, const mx_dims *moving, bool back) {
  if (!x) return NULL;
  mx_dims to = {.n = x->aval.ndim}, from = {.n = x->aval.ndim};
  int n = 1;
  for (int k = 0; k < moving->n; k++) from.v[n++] = 1 + moving->v[k];
  for (int i = 0; i < from.n - 1; i++)
    if (!mx_dims_has(moving, i)) from.v[n++] = 1 + i;
  for (int i = 0; i < from.n; i++) to.v[from.v[i]] = i;
  return mx_transpose(c, x, back ? &from : &to);
}

/* Same starts for all: a window over one more axis. Different ones: a gather. */
static bool dynamic_slice_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out,
                                int *out_axes) {
  const mx_dims *sizes = &o->p->dynamic.sizes;
  *out_axes = 0;
  if (axes[1] < 0) {
    mx_dims all = mx_dims_insert(sizes, 0, size);
    mx_array *x = mx_move_axis(c, o->in[0], axes[0], 0);
    return (*out = mx_dynamic_slice(c, x, starts_behind_zero(c, o->in[1]), &all)) != NULL;
  }
  bool count = axes[0] >= 0;
  mx_array *x = count ? mx_move_axis(c, o->in[0], axes[0], 0) : o->in[0], *ids[1 + MX_MAX_NDIM];
  if (!x) return false;
  mx_dims moving = moving_axes((int)sizes->n, x->aval.shape + count, sizes->v);
  mx_array *starts = mx_move_axis(c, o->in[1], axes[1], 0);
  if (!window_ids(c, starts, x->aval.shape + count, sizes->v, &moving, ids + 1)) return false;
  if (moving.n == 0) return *out_axes = count ? 0 : -1, *out = x, true;
  ids[0] = count ? mx_iota_column(c, size, 1 + (int)moving.n) : NULL;
  mx_dims all = count ? shifted_axes(&moving, 0, true) : moving;
  mx_array *windows = gather(c, x, ids + !count, (int)all.n, &all, MX_GATHER_CLAMP);
  return (*out = window_order(c, windows, &moving, false)) != NULL;
}

/* Same starts for all: one more axis. Different ones: a scatter. */
static bool dynamic_update_slice_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out,
                                       int *out_axes) {
  mx_array *x = mx_batch_front(c, o->in[0], axes[0], size), *y = mx_batch_front(c, o->in[1], axes[1], size);
  *out_axes = 0;
  if (axes[2] < 0) return (*out = mx_dynamic_update_slice(c, x, y, starts_behind_zero(c, o->in[2]))) != NULL;
  if (!x || !y) return false;
  mx_dims moving = moving_axes(y->aval.ndim - 1, x->aval.shape + 1, y->aval.shape + 1);
  mx_array *ids[1 + MX_MAX_NDIM] = {mx_iota_column(c, size, 1 + (int)moving.n)};
  mx_array *starts = mx_move_axis(c, o->in[2], axes[2], 0);
  if (!window_ids(c, starts, x->aval.shape + 1, y->aval.shape + 1, &moving, ids + 1)) return false;
  mx_dims all = shifted_axes(&moving, 0, true);
  y = window_order(c, y, &moving, true);
  return (*out = mx_scatter(c, &mx_prim_scatter, x, y, ids, (int)all.n, &all)) != NULL;
}

/* -- records ------------------------------------------------------------------------------------------------------ */

#define SIZE_OF(member) sizeof(((mx_params *)0)->member)

static const mx_field check_fields[] = {{"size", MX_FIELD_INT, offsetof(mx_params, check.size)},
                                        {"axis", MX_FIELD_INT, offsetof(mx_params, check.axis)},
                                        {"base", MX_FIELD_INT, offsetof(mx_params, check.base)},
                                        {NULL, MX_FIELD_END, 0}};
static const mx_field gather_fields[] = {{"axes", MX_FIELD_DIMS, offsetof(mx_params, gather.axes)},
                                         {"fill", MX_FIELD_INT, offsetof(mx_params, gather.fill)},
                                         {NULL, MX_FIELD_END, 0}};
static const mx_field dynamic_fields[] = {{"sizes", MX_FIELD_DIMS, offsetof(mx_params, dynamic.sizes)},
                                          {NULL, MX_FIELD_END, 0}};

const mx_primitive mx_prim_check_index = {.name = "check_index",
                                          .id = MX_PRIM_check_index,
                                          .n_out = 1,
                                          .effect = MX_EFFECT_CHECK,
                                          .params_size = SIZE_OF(check),
                                          .fields = check_fields,
                                          .shape = check_index_shape,
                                          .batch = mx_batch_broadcasting,
                                          .flops = mx_flops_none};

const mx_primitive mx_prim_gather = {.name = "gather",
                                     .id = MX_PRIM_gather,
                                     .n_out = 1,
                                     .params_size = SIZE_OF(gather),
                                     .fields = gather_fields,
                                     .shape = gather_shape,
                                     .d = gather_d,
                                     .transpose = gather_transpose,
                                     .batch = gather_batch,
                                     .flops = mx_flops_none};

#define SCATTER(name_, ...)                                                                                            \
  const mx_primitive mx_prim_##name_ = {.name = #name_,                                                                \
                                        .id = MX_PRIM_##name_,                                                         \
                                        .n_out = 1,                                                                    \
                                        .params_size = SIZE_OF(axes),                                                  \
                                        .fields = mx_fields_axes,                                                      \
                                        .updates = true,                                                               \
                                        .shape = scatter_shape,                                                        \
                                        .batch = scatter_batch,                                                        \
                                        .flops = scatter_flops,                                                        \
                                        __VA_ARGS__}
SCATTER(scatter, .jvp = scatter_jvp, .transpose = scatter_transpose);
SCATTER(scatter_add, .jvp = scatter_jvp, .transpose = scatter_add_transpose);
SCATTER(scatter_mul, .d = scatter_mul_d, .transpose = scatter_mul_transpose);
SCATTER(scatter_min, .jvp = scatter_extreme_jvp);
SCATTER(scatter_max, .jvp = scatter_extreme_jvp);

const mx_primitive mx_prim_dynamic_slice = {.name = "dynamic_slice",
                                            .id = MX_PRIM_dynamic_slice,
                                            .n_out = 1,
                                            .params_size = SIZE_OF(dynamic),
                                            .fields = dynamic_fields,
                                            .shape = dynamic_slice_shape,
                                            .d = dynamic_slice_d,
                                            .transpose = dynamic_slice_transpose,
                                            .batch = dynamic_slice_batch,
                                            .flops = mx_flops_none};

const mx_primitive mx_prim_dynamic_update_slice = {.name = "dynamic_update_slice",
                                                   .id = MX_PRIM_dynamic_update_slice,
                                                   .n_out = 1,
                                                   .updates = true,
                                                   .fields = mx_fields_none,
                                                   .shape = dynamic_update_slice_shape,
                                                   .jvp = dynamic_update_slice_jvp,
                                                   .transpose = dynamic_update_slice_transpose,
                                                   .batch = dynamic_update_slice_batch,
                                                   .flops = mx_flops_none};
