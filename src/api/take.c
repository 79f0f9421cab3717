/* take.c: operations that pick by positions: take, take_along_axis, one_hot, windows, segment_sum, nonzero,
 * searchsorted. */
#include "index_impl.h"

mx_array *mx_const_ids(lua_State *L, int64_t n, const int64_t *v) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  mx_aval a;
  int dtype = MLAX_INT32;
  for (int64_t i = 0; i < n; i++)
    if (v[i] != (int32_t)v[i]) dtype = MLAX_INT64;
  mx_ok(L, mx_aval_make(c, &a, dtype, 1, &n));
  mx_array *x = mx_keep(c, mx_array_new(c, &a));
  if (!x) mx_raise(L);
  for (int64_t i = 0; i < n; i++) mx_store_int(dtype, mx_data(x) + i * (int64_t)mx_itemsize(dtype), v[i]);
  return x;
}

mx_array *mx_ids_exact(mx_ctx *c, mx_array *ids, int64_t size, int axis) {
  return mx_check_index(c, ids, size, axis, 1 + MX_INDEX_EXACT);
}

/* Integer positions: an array, or a Lua integer. */
static mx_array *check_ids(lua_State *L, int idx, const char *what) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  int64_t v;
  if (mx_read_int(L, idx, &v)) {
    mx_array *x = mx_keep(c, mx_array_of_int(c, v == (int32_t)v ? MLAX_INT32 : MLAX_INT64, v));
    if (!x) mx_raise(L);
    return x;
  }
  mx_array *ids = mx_check_strict(L, idx, what);
  if (!mx_is_int(ids->aval.dtype)) mx_error(L, "%s are no integers (got %s)", what, mx_show(L, idx));
  return ids;
}

/* -- take ---------------------------------------------------------------------------------------------------------- */

/* Positions from 0: negative ones count from the end; what lies outside stays outside. */
static mx_array *from_zero(mx_ctx *c, mx_array *ids, int64_t n) {
  int dtype = ids->aval.dtype == MLAX_INT64 || n > INT32_MAX ? MLAX_INT64 : MLAX_INT32;
  if (ids->aval.dtype == MLAX_UINT32 || ids->aval.dtype == MLAX_UINT64) dtype = MLAX_INT64;
  ids = mx_convert(c, ids, dtype);
  mx_array *zero = mx_scalar_int(c, dtype, 0);
  return mx_select(c, mx_lt(c, ids, zero), mx_add(c, ids, mx_scalar_int(c, dtype, n)),
                   mx_sub(c, ids, mx_scalar_int(c, dtype, 1)));
}

static mx_array *take_axis(mx_ctx *c, mx_array *x, mx_array *ids, int axis, bool fill) {
  mx_dims axes = {1, {axis}};
  mx_array *out = mx_gather(c, x, &ids, 1, &axes, fill);
  if (!out || axis == 0 || ids->aval.ndim == 0) return out;
  int k = ids->aval.ndim;
  mx_dims order = {0};
  for (int i = 0; i < axis; i++) order.v[order.n++] = k + i;
  for (int i = 0; i < k; i++) order.v[order.n++] = i;
  for (int i = k + axis; i < out->aval.ndim; i++) order.v[order.n++] = i;
  return mx_transpose(c, out, &order);
}

static int ltake_take(lua_State *L) {
  static const mx_option known[] = {{"mode", MX_OPT_STRING, 0}, {NULL, MX_OPT_BOOL, 0}};
  static const char *const modes[] = {"error", "clip", "fill"};
  mx_ctx *c = mx_enter(L, "take");
  const char *mode = "error";
  mx_options(L, mx_args(L, 3, 0), known, &mode);
  mx_array *x = mx_check_array(L, 1, "x"), *ids = check_ids(L, 2, "the positions");
  int axis = mx_check_axis(L, 3, x->aval.ndim);
  int64_t n = x->aval.shape[axis];
  if (!strcmp(mode, "error")) return mx_return(L, take_axis(c, x, mx_check_index(c, ids, n, axis, 1), axis, false));
  if (strcmp(mode, "clip") && strcmp(mode, "fill")) return mx_unknown(L, "mode", mode, modes, 3);
  if (n == 0 && *mode == 'c' && ids->aval.size) return mx_error(L, "nothing can be taken from an axis of length 0");
  return mx_return(L, take_axis(c, x, from_zero(c, ids, n), axis, *mode == 'f'));
}

/* The shape of ids and x, broadcast against each other on all axes but one, where it is the ids'. */
static mx_dims along_shape(lua_State *L, const mx_array *x, const mx_array *ids, int axis) {
  mx_dims s = mx_dims_shape(&ids->aval);
  mx_text a, b;
  bool ok = x->aval.ndim == ids->aval.ndim;
  for (int i = 0; ok && i < s.n; i++) {
    if (i == axis || s.v[i] == x->aval.shape[i]) continue;
    ok = s.v[i] == 1 || x->aval.shape[i] == 1;
    if (s.v[i] == 1) s.v[i] = x->aval.shape[i];
  }
  if (!ok)
    mx_error(L, "the positions do not fit (got %s and %s, need equal lengths on the other axes)",
             mx_aval_text(&a, &x->aval), mx_aval_text(&b, &ids->aval));
  return s;
}

/* out[i, j, ...] = x[i, ids[i, j, ...], ...]: a gather at all axes, at their own positions on the others. base: as of
 * mx_check_index. */
static mx_array *take_along(lua_State *L, mx_array *x, mx_array *ids, int axis, int base) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  mx_dims s = along_shape(L, x, ids, axis), whole = s, axes = mx_dims_range(x->aval.ndim);
  mx_array *all[MX_MAX_NDIM];
  whole.v[axis] = x->aval.shape[axis];
  mx_array *all_of_x = mx_broadcast(c, x, &whole);
  for (int i = 0; i < s.n; i++) {
    mx_dims line = {.n = s.n};
    for (int j = 0; j < s.n; j++) line.v[j] = j == i ? s.v[i] : 1;
    all[i] = i == axis ? mx_broadcast(c, mx_check_index(c, ids, x->aval.shape[axis], axis, base), &s)
                       : mx_iota(c, s.v[i] > INT32_MAX ? MLAX_INT64 : MLAX_INT32, &line, i);
  }
  return all_of_x ? mx_gather(c, all_of_x, all, (int)s.n, &axes, false) : NULL;
}

static int ltake_take_along_axis(lua_State *L) {
  mx_enter(L, "take_along_axis");
  mx_no_options(L, mx_args(L, 3, 0));
  mx_array *x = mx_check_array(L, 1, "x"), *ids = check_ids(L, 2, "the positions");
  return mx_return(L, take_along(L, x, ids, mx_check_axis(L, 3, x->aval.ndim), 1));
}

/* core.take_labels(scores, labels): for each label, 1 to n, its score along the last axis. */
static int ltake_labels(lua_State *L) {
  mx_ctx *c = mx_enter(L, "softmax_cross_entropy_with_labels");
  mx_array *x = mx_check_strict(L, 1, "scores"), *ids = check_ids(L, 2, "the labels");
  int last = x->aval.ndim - 1;
  if (last < 0) return mx_error(L, "scores have no axis of classes");
  mx_array *each = mx_expand(c, ids, ids->aval.ndim);
  if (!each) return mx_raise(L);
  return mx_return(L, mx_squeeze(c, take_along(L, x, each, last, 1 + MX_INDEX_EXACT), last));
}

/* core.take_rows(kernel, ids): the rows of an embedding; ids run from 1 to n. */
static int ltake_rows(lua_State *L) {
  mx_ctx *c = mx_enter(L, "Embed");
  mx_array *x = mx_check_strict(L, 1, "the kernel"), *ids = check_ids(L, 2, "the ids");
  if (x->aval.ndim == 0) return mx_error(L, "the kernel has no rows");
  return mx_return(L, take_axis(c, x, mx_ids_exact(c, ids, x->aval.shape[0], 0), 0, false));
}

static int ltake_one_hot(lua_State *L) {
  static const mx_option known[] = {{"dtype", MX_OPT_DTYPE, 0}, {NULL, MX_OPT_BOOL, 0}};
  mx_ctx *c = mx_enter(L, "one_hot");
  int dtype = MLAX_FLOAT32;
  mx_options(L, mx_args(L, 2, 0), known, &dtype);
  mx_array *ids = check_ids(L, 1, "the ids");
  int64_t n = mx_check_int(L, 2, "n");
  if (n < 0) return mx_error(L, "the number of classes is negative (got %lld)", (long long)n);
  mx_dims line = {1, {n}};
  ids = mx_ids_exact(c, ids, n, -1);
  if (!ids) return mx_raise(L);
  mx_array *classes = mx_iota(c, ids->aval.dtype, &line, 0);
  return mx_return(L, mx_convert(c, mx_eq(c, mx_expand(c, ids, ids->aval.ndim), classes), dtype));
}

/* -- windows ------------------------------------------------------------------------------------------------------- */

/* One start of a window from the value on top: from 0, checked. Static ones go to *v. */
static mx_array *window_start(lua_State *L, const mx_array *x, const mx_dims *sizes, int axis, int64_t *v) {
  int64_t room = x->aval.shape[axis] - sizes->v[axis] + 1;
  if (mx_is_array(L, -1)) {
    mx_array *s = check_ids(L, -1, "a start");
    if (s->aval.ndim) mx_error(L, "a start is no scalar (got %s)", mx_show(L, -1));
    return mx_ids_exact(&MX_STATE(L)->ctx, s, room, axis);
  }
  *v = mx_check_int(L, -1, "a start");
  if (*v < 1 || *v > room)
    mx_error(L, "the window leaves the array on axis %d (got start %lld, need 1..%lld for length %lld of %lld)",
             axis + 1, (long long)*v, (long long)room, (long long)sizes->v[axis], (long long)x->aval.shape[axis]);
  --*v;
  return NULL;
}

static void check_window(lua_State *L, const mx_array *x, const mx_dims *sizes) {
  mx_text a, b;
  bool ok = sizes->n == x->aval.ndim;
  for (int i = 0; ok && i < sizes->n; i++) ok = sizes->v[i] <= x->aval.shape[i];
  if (!ok)
    mx_error(L, "the window does not fit (got %s for an array of %s)", mx_shape_text(&a, (int)sizes->n, sizes->v),
             mx_shape_text(&b, x->aval.ndim, x->aval.shape));
}

/* One array of starts, one an axis: its elements. */
static mx_array *starts_of_array(lua_State *L, const mx_array *x, const mx_dims *sizes, int idx) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  mx_array *all = check_ids(L, idx, "the starts"), *each[MX_MAX_NDIM];
  int n = x->aval.ndim;
  if (all->aval.ndim != 1 || all->aval.shape[0] != n)
    mx_error(L, "one start an axis is needed (got %s, need %d)", mx_show(L, idx), n);
  if (n == 0) return mx_const_ids(L, 0, NULL);
  for (int i = 0; i < n; i++) each[i] = mx_ids_exact(c, mx_row(c, all, i), x->aval.shape[i] - sizes->v[i] + 1, i);
  return mx_stack(c, each, n, 0);
}

/* The starts at idx, a list or an array, checked and from 0. fixed: they are Lua integers, in v. */
static mx_array *check_starts(lua_State *L, const mx_array *x, const mx_dims *sizes, int idx, bool *fixed, int64_t *v) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  mx_array *each[MX_MAX_NDIM];
  *fixed = false;
  if (mx_is_array(L, idx)) return starts_of_array(L, x, sizes, idx);
  int64_t n = mx_check_length(L, idx, "the list of starts");
  if (n != x->aval.ndim) mx_error(L, "one start an axis is needed (got %lld, need %d)", (long long)n, x->aval.ndim);
  *fixed = true;
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, idx, i + 1);
    each[i] = window_start(L, x, sizes, i, &v[i]);
    *fixed &= !mx_is_array(L, -1);
    if (mx_is_array(L, -1) && !each[i]) mx_raise(L);
    lua_pop(L, 1);
  }
  if (*fixed) return mx_const_ids(L, n, v);
  for (int i = 0; i < n; i++)
    if (!each[i]) each[i] = mx_scalar_int(c, v[i] > INT32_MAX ? MLAX_INT64 : MLAX_INT32, v[i]);
  return mx_stack(c, each, (int)n, 0);
}

static int ltake_dynamic_slice(lua_State *L) {
  mx_ctx *c = mx_enter(L, "dynamic_slice");
  mx_dims sizes, limit = {0};
  bool fixed;
  int64_t v[MX_MAX_NDIM] = {0};
  mx_no_options(L, mx_args(L, 3, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  mx_check_shape(L, 3, &sizes, "the list of sizes");
  check_window(L, x, &sizes);
  mx_array *starts = check_starts(L, x, &sizes, 2, &fixed, v);
  if (!fixed) return mx_return(L, mx_dynamic_slice(c, x, starts, &sizes));
  mx_dims start = mx_dims_of((int)sizes.n, v);
  limit.n = sizes.n;
  for (int i = 0; i < sizes.n; i++) limit.v[i] = v[i] + sizes.v[i];
  return mx_return(L, mx_slice(c, x, &start, &limit, NULL));
}

static int ltake_dynamic_update_slice(lua_State *L) {
  mx_ctx *c = mx_enter(L, "dynamic_update_slice");
  bool fixed;
  int64_t v[MX_MAX_NDIM] = {0};
  mx_no_options(L, mx_args(L, 3, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  mx_array *y = mx_is_array(L, 2) ? mx_check_strict(L, 2, "y") : mx_weak_number(L, 2, &mx_check_array(L, 2, "y")->aval);
  mx_dims sizes = mx_dims_shape(&y->aval);
  check_window(L, x, &sizes);
  mx_array *starts = check_starts(L, x, &sizes, 3, &fixed, v);
  int dtype = x->aval.dtype;
  return mx_return(L, mx_dynamic_update_slice(c, mx_convert(c, x, dtype), mx_convert(c, y, dtype), starts));
}

/* -- sums by segment, positions by value --------------------------------------------------------------------------- */

static int ltake_segment_sum(lua_State *L) {
  mx_ctx *c = mx_enter(L, "segment_sum");
  mx_no_options(L, mx_args(L, 3, 0));
  mx_array *x = mx_check_array(L, 1, "x"), *ids = check_ids(L, 2, "the segment ids");
  int64_t n = mx_check_int(L, 3, "n");
  mx_text a, b;
  if (n < 0) return mx_error(L, "the number of segments is negative (got %lld)", (long long)n);
  if (x->aval.ndim == 0 || ids->aval.ndim != 1 || ids->aval.shape[0] != x->aval.shape[0])
    return mx_error(L, "one segment id a row is needed (got %s for %s)", mx_aval_text(&a, &ids->aval),
                    mx_aval_text(&b, &x->aval));
  int dtype = x->aval.dtype == MLAX_BOOL ? MLAX_INT32 : x->aval.dtype;
  mx_dims shape = mx_dims_shape(&x->aval), axes = {1, {0}};
  shape.v[0] = n;
  ids = mx_ids_exact(c, ids, n, -1);
  return mx_return(
      L, mx_scatter(c, &mx_prim_scatter_add, mx_full(c, dtype, &shape, 0), mx_convert(c, x, dtype), &ids, 1, &axes));
}

static bool is_true(int dtype, const char *p) { return dtype == MLAX_BOOL ? *p != 0 : mx_load_double(dtype, p) != 0; }

void mx_nonzero(lua_State *L, mx_array *x, mx_array **out) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  mx_array *v = mx_check_value(L, x, "read");
  const mx_aval *a = &v->aval;
  size_t item = mx_itemsize(a->dtype);
  int64_t n = 0, position[MX_MAX_NDIM] = {0}, k = 0;
  const char *p = mx_data(v);
  for (int64_t i = 0; i < a->size; i++) n += is_true(a->dtype, p + (size_t)i * item);
  mx_aval ids;
  mx_ok(L, mx_aval_make(c, &ids, MLAX_INT32, 1, &n));
  for (int d = 0; d < a->ndim; d++) {
    if (a->shape[d] > INT32_MAX) mx_error(L, "axis %d is too long for int32 positions", d + 1);
    out[d] = mx_keep(c, mx_array_new(c, &ids));
    if (!out[d]) mx_raise(L);
  }
  for (int64_t i = 0; i < a->size; i++) {
    if (is_true(a->dtype, p + (size_t)i * item)) {
      for (int d = 0; d < a->ndim; d++) ((int32_t *)(void *)mx_data(out[d]))[k] = (int32_t)position[d];
      k++;
    }
    for (int d = a->ndim - 1; d >= 0 && ++position[d] == a->shape[d]; d--) position[d] = 0;
  }
}

static int ltake_nonzero(lua_State *L) {
  mx_ctx *c = mx_enter(L, "nonzero");
  mx_array *out[MX_MAX_NDIM];
  mx_no_options(L, mx_args(L, 1, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  if (x->aval.ndim == 0) return mx_error(L, "a scalar has no positions (got %s)", mx_show(L, 1));
  mx_nonzero(L, x, out);
  for (int i = 0; i < x->aval.ndim; i++) mx_push(L, mx_adds(c, out[i], 1));
  return x->aval.ndim;
}

/* sorted is a vector; v has any shape. */
static int ltake_searchsorted(lua_State *L) {
  static const mx_option known[] = {{"side", MX_OPT_STRING, 0}, {NULL, MX_OPT_BOOL, 0}};
  static const char *const sides[] = {"left", "right"};
  mx_ctx *c = mx_enter(L, "searchsorted");
  const char *side = "left";
  mx_array *s, *v;
  bool weak;
  mx_options(L, mx_args(L, 2, 0), known, &side);
  if (strcmp(side, "left") && strcmp(side, "right")) return mx_unknown(L, "side", side, sides, 2);
  mx_check_pair(L, 1, 2, &s, &v);
  if (s->aval.ndim != 1) return mx_error(L, "the sorted array is no vector (got %s)", mx_show(L, 1));
  int dtype = mx_dtype_promote(s->aval.dtype, s->aval.weak, v->aval.dtype, v->aval.weak, &weak);
  mx_dims shape = mx_dims_shape(&v->aval), flat = {1, {v->aval.size}};
  mx_array *found =
      mx_searchsorted(c, mx_convert(c, s, dtype), mx_reshape(c, mx_convert(c, v, dtype), &flat), *side == 'r');
  return mx_return(L, mx_adds(c, mx_reshape(c, found, &shape), 1));
}

static const mx_reg take_functions[] = {
    {"take", ltake_take, MX_IN_BOTH},
    {"take_along_axis", ltake_take_along_axis, MX_IN_BOTH},
    {"take_labels", ltake_labels, MX_IN_CORE},
    {"take_rows", ltake_rows, MX_IN_CORE},
    {"one_hot", ltake_one_hot, MX_IN_BOTH},
    {"dynamic_slice", ltake_dynamic_slice, MX_IN_BOTH},
    {"dynamic_update_slice", ltake_dynamic_update_slice, MX_IN_BOTH},
    {"segment_sum", ltake_segment_sum, MX_IN_BOTH},
    {"nonzero", ltake_nonzero, MX_IN_BOTH},
    {"searchsorted", ltake_searchsorted, MX_IN_BOTH},
    {NULL, NULL, 0},
};

void mx_open_take(lua_State *L) { mx_register(L, take_functions); }
