/* functions_shape.c: operations on shapes, and on where elements stand, as functions and methods. */
#include "array_impl.h"

#include <stdio.h>

/* -- reshape and its kin ------------------------------------------------------------------------------------------- */

/* A shape in which one length may be -1: what is left. */
static void check_reshape(lua_State *L, int idx, const mx_array *x, mx_dims *shape) {
  mx_text a, b;
  int64_t known = 1;
  int hole = -1;
  mx_check_ints(L, idx, shape, "the shape");
  for (int i = 0; i < shape->n; i++) {
    if (shape->v[i] == -1 && hole >= 0) mx_error(L, "the shape has two lengths of -1 (need one at most)");
    if (shape->v[i] == -1) hole = i;
    else if (shape->v[i] < 0)
      mx_error(L, "the shape has a negative length (got %lld on axis %d)", (long long)shape->v[i], i + 1);
    else if (!mx_mul_i64(known, shape->v[i], &known)) mx_error(L, "the shape is too large");
  }
  bool fits = hole < 0 ? known == x->aval.size : known > 0 && x->aval.size % known == 0;
  if (!fits)
    mx_error(L, "the sizes differ (got %s for %s)", mx_shape_text(&a, (int)shape->n, shape->v),
             mx_aval_text(&b, &x->aval));
  if (hole >= 0) shape->v[hole] = x->aval.size / known;
}

static int lshape_reshape(lua_State *L) {
  mx_ctx *c = mx_enter(L, "reshape");
  mx_dims shape;
  mx_no_options(L, mx_args(L, 2, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  check_reshape(L, 2, x, &shape);
  return mx_return(L, mx_reshape(c, x, &shape));
}

static int lshape_flatten(lua_State *L) {
  mx_ctx *c = mx_enter(L, "flatten");
  mx_no_options(L, mx_args(L, 1, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  mx_dims shape = {1, {x->aval.size}};
  return mx_return(L, mx_reshape(c, x, &shape));
}

static int lshape_transpose(lua_State *L) {
  mx_ctx *c = mx_enter(L, "transpose");
  mx_dims axes;
  mx_no_options(L, mx_args(L, 2, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  if (!mx_check_axes(L, 2, x->aval.ndim, &axes)) return mx_error(L, "no axes (need a list; x.T reverses all)");
  if (axes.n != x->aval.ndim)
    return mx_error(L, "one entry an axis is needed (got %lld, need %d)", (long long)axes.n, x->aval.ndim);
  return mx_return(L, mx_transpose(c, x, &axes));
}

static int two_axes(lua_State *L, const char *op, mx_array *(*f)(mx_ctx *, mx_array *, int, int)) {
  mx_ctx *c = mx_enter(L, op);
  mx_no_options(L, mx_args(L, 3, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  int a = mx_check_axis(L, 2, x->aval.ndim), b = mx_check_axis(L, 3, x->aval.ndim);
  return mx_return(L, f(c, x, a, b));
}
static int lshape_swapaxes(lua_State *L) { return two_axes(L, "swapaxes", mx_swap_axes); }
static int lshape_moveaxis(lua_State *L) { return two_axes(L, "moveaxis", mx_move_axis); }

static int lshape_squeeze(lua_State *L) {
  mx_ctx *c = mx_enter(L, "squeeze");
  mx_dims axes, shape = {0};
  mx_no_options(L, mx_args(L, 1, 1));
  mx_array *x = mx_check_array(L, 1, "x");
  bool some = mx_check_axes(L, 2, x->aval.ndim, &axes);
  for (int i = 0; i < x->aval.ndim; i++) {
    int64_t n = x->aval.shape[i];
    bool drop = some ? mx_dims_has(&axes, i) : n == 1;
    if (drop && n != 1) return mx_error(L, "axis %d is longer than 1 (got %s)", i + 1, mx_show(L, 1));
    if (!drop) shape.v[shape.n++] = n;
  }
  return mx_return(L, mx_reshape(c, x, &shape));
}

/* Axes count in the result. */
static int lshape_expand_dims(lua_State *L) {
  mx_ctx *c = mx_enter(L, "expand_dims");
  mx_dims axes, shape = {0};
  mx_no_options(L, mx_args(L, 2, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  int extra = lua_type(L, 2) == LUA_TTABLE ? (int)mx_check_length(L, 2, "the list of axes") : 1,
      ndim = x->aval.ndim + extra;
  if (ndim > MX_MAX_NDIM) return mx_error(L, "too many axes (got %d, need at most %d)", ndim, MX_MAX_NDIM);
  if (!mx_check_axes(L, 2, ndim, &axes)) return mx_error(L, "no axis (got nothing)");
  for (int i = 0, from = 0; i < ndim; i++) shape.v[shape.n++] = mx_dims_has(&axes, i) ? 1 : x->aval.shape[from++];
  return mx_return(L, mx_reshape(c, x, &shape));
}

static int lshape_broadcast_to(lua_State *L) {
  mx_ctx *c = mx_enter(L, "broadcast_to");
  mx_dims shape;
  mx_no_options(L, mx_args(L, 2, 0));
  mx_check_shape(L, 2, &shape, "the shape");
  return mx_return(L, mx_broadcast(c, mx_check_array(L, 1, "x"), &shape));
}

/* -- joining and splitting ----------------------------------------------------------------------------------------- */

/* The arrays of the list at idx, in memory that a userdata on the stack holds. [-0, +1] */
static mx_array **check_arrays(lua_State *L, int idx, int *n) {
  char what[32];
  int64_t count = mx_check_length(L, idx, "the first argument");
  if (count == 0) mx_error(L, "the list of arrays is empty");
  if (count > INT32_MAX / 16) mx_error(L, "the list of arrays is too long (got %lld)", (long long)count);
  mx_array **list = lua_newuserdatauv(L, (size_t)count * sizeof *list, 0);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, idx, i + 1);
    snprintf(what, sizeof what, "item %d", i + 1);
    list[i] = mx_check_array(L, -1, what);
    lua_pop(L, 1);
  }
  *n = (int)count;
  return list;
}

static int lshape_concat(lua_State *L) {
  mx_ctx *c = mx_enter(L, "concat");
  int n;
  mx_no_options(L, mx_args(L, 2, 0));
  mx_array **list = check_arrays(L, 1, &n);
  return mx_return(L, mx_concat(c, list, n, mx_check_axis(L, 2, list[0]->aval.ndim)));
}

static int lshape_stack(lua_State *L) {
  mx_ctx *c = mx_enter(L, "stack");
  int n;
  mx_no_options(L, mx_args(L, 2, 0));
  mx_array **list = check_arrays(L, 1, &n);
  return mx_return(L, mx_stack(c, list, n, mx_check_axis(L, 2, list[0]->aval.ndim + 1)));
}

static int split_equal(lua_State *L, mx_ctx *c, mx_array *x, int64_t parts, int axis) {
  int64_t n = x->aval.shape[axis];
  if (parts < 1 || n % parts)
    return mx_error(L, "axis %d cannot be split into equal parts (got %lld parts for length %lld)", axis + 1,
                    (long long)parts, (long long)n);
  if (parts > 1000000) return mx_error(L, "too many parts for results (got %lld)", (long long)parts);
  luaL_checkstack(L, (int)parts + 10, "too many parts");
  for (int64_t i = 0; i < parts; i++) mx_push(L, mx_slice_axis(c, x, axis, i * (n / parts), (i + 1) * (n / parts)));
  return (int)parts;
}

/* positions: the first index of each part after the first */
static int split_at(lua_State *L, mx_ctx *c, mx_array *x, int idx, int axis) {
  int64_t n = x->aval.shape[axis], parts = mx_check_length(L, idx, "the list of positions"), from = 0;
  if (parts > 1000000) return mx_error(L, "too many parts for results (got %lld)", (long long)parts);
  luaL_checkstack(L, (int)parts + 10, "too many parts");
  for (int64_t i = 1; i <= parts + 1; i++) {
    int64_t to = n;
    if (i <= parts) {
      lua_rawgeti(L, idx, i);
      int64_t p = mx_check_int(L, -1, "a position");
      lua_pop(L, 1);
      to = p < 0 ? p + n : p - 1;
      if (p == 0 || to < from || to > n)
        return mx_error(L, "a position does not fit axis %d (got %lld, need rising ones in 1..%lld)", axis + 1,
                        (long long)p, (long long)n + 1);
    }
    mx_push(L, mx_slice_axis(c, x, axis, from, to));
    from = to;
  }
  return (int)parts + 1;
}

static int lshape_split(lua_State *L) {
  mx_ctx *c = mx_enter(L, "split");
  mx_no_options(L, mx_args(L, 3, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  int axis = mx_check_axis(L, 3, x->aval.ndim);
  if (lua_type(L, 2) == LUA_TTABLE) return split_at(L, c, x, 2, axis);
  return split_equal(L, c, x, mx_check_int(L, 2, "the number of parts"), axis);
}

/* -- padding, turning, repeating ----------------------------------------------------------------------------------- */

/* {before, after} of each axis. */
static void check_widths(lua_State *L, int idx, const mx_array *x, mx_dims *lo, mx_dims *hi) {
  *lo = *hi = (mx_dims){.n = x->aval.ndim};
  if (mx_check_length(L, idx, "the list of widths") != x->aval.ndim)
    mx_error(L, "one {before, after} an axis is needed (got %lld for %d axes)", (long long)lua_rawlen(L, idx),
             x->aval.ndim);
  for (int i = 0; i < x->aval.ndim; i++) {
    mx_dims pair;
    lua_rawgeti(L, idx, i + 1);
    mx_check_ints(L, -1, &pair, "an item of the widths");
    lua_pop(L, 1);
    if (pair.n != 2 || pair.v[0] < 0 || pair.v[1] < 0 || pair.v[0] > INT64_MAX / 4 || pair.v[1] > INT64_MAX / 4)
      mx_error(L, "the widths of axis %d are no {before, after} of 0 and more", i + 1);
    lo->v[i] = pair.v[0];
    hi->v[i] = pair.v[1];
  }
}

/* Position i of a padded axis in the axis of length n: cut to the ends, or mirrored at them. */
static int64_t padded_position(int64_t i, int64_t n, bool reflect) {
  if (!reflect || n == 1) return i < 0 ? 0 : i < n ? i : n - 1;
  int64_t period = 2 * (n - 1);
  i = ((i % period) + period) % period;
  return i < n ? i : period - i;
}

static mx_array *pad_axis(lua_State *L, mx_array *x, int axis, int64_t lo, int64_t hi, bool reflect) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  if (!x || (lo == 0 && hi == 0)) return x;
  int64_t n = x->aval.shape[axis], total;
  mx_aval a;
  if (n == 0) mx_error(L, "axis %d of length 0 has no element to repeat", axis + 1);
  total = n + lo + hi;
  mx_ok(L, mx_aval_make(c, &a, MLAX_INT64, 1, &total));
  mx_array *ids = mx_keep(c, mx_array_new(c, &a));
  if (!ids) return NULL;
  for (int64_t i = 0; i < total; i++) ((int64_t *)(void *)mx_data(ids))[i] = padded_position(i - lo, n, reflect);
  mx_dims axes = {1, {axis}};
  return mx_move_axis(c, mx_gather(c, x, &ids, 1, &axes, false), 0, axis);
}

typedef struct pad_options {
  int value;
  const char *mode;
} pad_options;

static int lshape_pad(lua_State *L) {
  static const mx_option known[] = {{"value", MX_OPT_VALUE, offsetof(pad_options, value)},
                                    {"mode", MX_OPT_STRING, offsetof(pad_options, mode)},
                                    {NULL, MX_OPT_BOOL, 0}};
  static const char *const modes[] = {"constant", "edge", "reflect"};
  mx_ctx *c = mx_enter(L, "pad");
  pad_options o = {0, "constant"};
  mx_dims lo, hi;
  mx_options(L, mx_args(L, 2, 0), known, &o);
  mx_array *x = mx_check_array(L, 1, "x");
  check_widths(L, 2, x, &lo, &hi);
  bool reflect = !strcmp(o.mode, "reflect");
  if (!strcmp(o.mode, "constant")) {
    mx_array *value = !o.value ? mx_scalar(c, x->aval.dtype, 0)
                               : mx_convert(c, mx_check_array(L, o.value, "option 'value'"), x->aval.dtype);
    return mx_return(L, mx_pad(c, mx_convert(c, x, x->aval.dtype), value, &lo, &hi, NULL));
  }
  if (!reflect && strcmp(o.mode, "edge")) return mx_unknown(L, "mode", o.mode, modes, 3);
  if (o.value) return mx_error(L, "option 'value' goes with mode \"constant\" (got mode \"%s\")", o.mode);
  for (int i = 0; i < lo.n; i++) x = pad_axis(L, x, i, lo.v[i], hi.v[i], reflect);
  return mx_return(L, x);
}

static int lshape_flip(lua_State *L) {
  mx_ctx *c = mx_enter(L, "flip");
  mx_dims axes;
  mx_no_options(L, mx_args(L, 1, 1));
  mx_array *x = mx_check_array(L, 1, "x");
  if (!mx_check_axes(L, 2, x->aval.ndim, &axes)) axes = mx_dims_range(x->aval.ndim);
  return mx_return(L, mx_reverse(c, x, &axes));
}

static int lshape_roll(lua_State *L) {
  mx_ctx *c = mx_enter(L, "roll");
  mx_no_options(L, mx_args(L, 3, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  int64_t shift = mx_check_int(L, 2, "the shift");
  int axis = mx_check_axis(L, 3, x->aval.ndim);
  int64_t n = x->aval.shape[axis];
  if (n == 0 || (shift %= n) == 0) return mx_return(L, x);
  if (shift < 0) shift += n;
  mx_array *parts[2] = {mx_slice_axis(c, x, axis, n - shift, n), mx_slice_axis(c, x, axis, 0, n - shift)};
  return mx_return(L, mx_concat(c, parts, 2, axis));
}

/* each: every element n times in a row; else the whole axis n times */
static mx_array *repeat_axis(mx_ctx *c, mx_array *x, int axis, int64_t n, bool each) {
  if (!x || n == 1) return x;
  mx_dims shape = mx_dims_shape(&x->aval), wide;
  wide = mx_dims_insert(&shape, each ? axis + 1 : axis, n);
  if (!mx_mul_i64(shape.v[axis], n, &shape.v[axis])) return mx_fail(c, MLAX_SHAPE, "the result is too large");
  return mx_reshape(c, mx_broadcast(c, mx_expand(c, x, each ? axis + 1 : axis), &wide), &shape);
}

static int64_t check_repeats(lua_State *L, int idx, const mx_array *x) {
  int64_t n = mx_check_int(L, idx, "the number of repetitions");
  if (n < 0) mx_error(L, "the number of repetitions is negative (got %lld)", (long long)n);
  if (n != 1 && x->aval.ndim == MX_MAX_NDIM) mx_error(L, "too many axes to repeat (got %d)", x->aval.ndim);
  return n;
}

static int lshape_repeat(lua_State *L) {
  mx_ctx *c = mx_enter(L, "repeat_");
  mx_no_options(L, mx_args(L, 3, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  int64_t n = check_repeats(L, 2, x);
  return mx_return(L, repeat_axis(c, x, mx_check_axis(L, 3, x->aval.ndim), n, true));
}

static int lshape_tile(lua_State *L) {
  mx_ctx *c = mx_enter(L, "tile");
  mx_dims reps = {1, {0}};
  mx_no_options(L, mx_args(L, 2, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  if (lua_type(L, 2) == LUA_TNUMBER) reps.v[0] = mx_check_int(L, 2, "the number of repetitions");
  else mx_check_ints(L, 2, &reps, "the list of repetitions");
  while (x && x->aval.ndim < reps.n) x = mx_expand(c, x, 0);
  for (int i = 0; i < reps.n; i++) {
    if (reps.v[i] < 0) return mx_error(L, "the number of repetitions is negative (got %lld)", (long long)reps.v[i]);
    if (x && reps.v[i] != 1 && x->aval.ndim == MX_MAX_NDIM)
      return mx_error(L, "too many axes to repeat (got %d)", x->aval.ndim);
    if (x) x = repeat_axis(c, x, x->aval.ndim - (int)reps.n + i, reps.v[i], false);
  }
  return mx_return(L, x);
}

/* -- diagonals ----------------------------------------------------------------------------------------------------- */

static const mx_option k_options[] = {{"k", MX_OPT_INT, 0}, {NULL, MX_OPT_BOOL, 0}};

/* lower: keeps where column - row <= k; else where it is >= k */
static int triangle(lua_State *L, const char *op, bool lower) {
  mx_ctx *c = mx_enter(L, op);
  int64_t k = 0;
  mx_options(L, mx_args(L, 1, 0), k_options, &k);
  mx_array *x = mx_check_array(L, 1, "x");
  int n = x->aval.ndim;
  if (n < 2) return mx_error(L, "a matrix is needed (got %s)", mx_show(L, 1));
  mx_dims shape = {2, {x->aval.shape[n - 2], x->aval.shape[n - 1]}};
  mx_array *row = mx_iota(c, MLAX_INT64, &shape, 0), *column = mx_iota(c, MLAX_INT64, &shape, 1);
  mx_array *offset = mx_sub(c, column, row), *edge = mx_scalar_int(c, MLAX_INT64, k);
  return mx_return(
      L, mx_select(c, lower ? mx_le(c, offset, edge) : mx_ge(c, offset, edge), x, mx_scalar(c, x->aval.dtype, 0)));
}
static int lshape_tril(lua_State *L) { return triangle(L, "tril", true); }
static int lshape_triu(lua_State *L) { return triangle(L, "triu", false); }

/* The positions first, first + 1, ... of n elements. */
static mx_array *positions(lua_State *L, int64_t n, int64_t first) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  mx_dims shape = {1, {n}};
  mx_array *i = mx_iota(c, MLAX_INT64, &shape, 0), *from = mx_scalar_int(c, MLAX_INT64, first);
  return mx_add(c, i, from);
}

static int lshape_diag(lua_State *L) {
  mx_ctx *c = mx_enter(L, "diag");
  int64_t k = 0;
  mx_options(L, mx_args(L, 1, 0), k_options, &k);
  mx_array *x = mx_check_array(L, 1, "x");
  mx_dims axes = {2, {0, 1}};
  if (x->aval.ndim < 1 || x->aval.ndim > 2)
    return mx_error(L, "a vector or a matrix is needed (got %s)", mx_show(L, 1));
  if (k > INT32_MAX || k < -INT32_MAX) return mx_error(L, "the diagonal is too far away (got %lld)", (long long)k);
  int64_t up = k > 0 ? k : 0, down = k < 0 ? -k : 0, n = x->aval.shape[0];
  if (x->aval.ndim == 1) {
    mx_array *ids[2] = {positions(L, n, down), positions(L, n, up)};
    mx_dims shape = {2, {n + up + down, n + up + down}};
    int dtype = x->aval.dtype;
    return mx_return(
        L, mx_scatter(c, &mx_prim_scatter, mx_full(c, dtype, &shape, 0), mx_convert(c, x, dtype), ids, 2, &axes));
  }
  int64_t rows = n - down, columns = x->aval.shape[1] - up, length = rows < columns ? rows : columns;
  if (length < 0) length = 0;
  mx_array *ids[2] = {positions(L, length, down), positions(L, length, up)};
  return mx_return(L, mx_gather(c, x, ids, 2, &axes, false));
}

/* -- dtypes -------------------------------------------------------------------------------------------------------- */

static int lshape_astype(lua_State *L) {
  mx_ctx *c = mx_enter(L, "astype");
  mx_no_options(L, mx_args(L, 2, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  return mx_return(L, mx_convert(c, x, mx_check_dtype(L, 2, -1)));
}

static int lshape_bitcast(lua_State *L) {
  mx_ctx *c = mx_enter(L, "bitcast");
  mx_no_options(L, mx_args(L, 2, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  return mx_return(L, mx_bitcast(c, x, mx_check_dtype(L, 2, -1)));
}

static const mx_reg shape_functions[] = {
    {"reshape", lshape_reshape, MX_IN_BOTH},
    {"flatten", lshape_flatten, MX_IN_BOTH},
    {"transpose", lshape_transpose, MX_IN_BOTH},
    {"swapaxes", lshape_swapaxes, MX_IN_BOTH},
    {"moveaxis", lshape_moveaxis, MX_IN_BOTH},
    {"squeeze", lshape_squeeze, MX_IN_BOTH},
    {"expand_dims", lshape_expand_dims, MX_IN_BOTH},
    {"broadcast_to", lshape_broadcast_to, MX_IN_BOTH},
    {"concat", lshape_concat, MX_IN_MLAX},
    {"stack", lshape_stack, MX_IN_MLAX},
    {"split", lshape_split, MX_IN_BOTH},
    {"pad", lshape_pad, MX_IN_BOTH},
    {"flip", lshape_flip, MX_IN_BOTH},
    {"roll", lshape_roll, MX_IN_BOTH},
    {"tile", lshape_tile, MX_IN_BOTH},
    {"repeat_", lshape_repeat, MX_IN_BOTH},
    {"tril", lshape_tril, MX_IN_BOTH},
    {"triu", lshape_triu, MX_IN_BOTH},
    {"diag", lshape_diag, MX_IN_BOTH},
    {"astype", lshape_astype, MX_IN_BOTH},
    {"bitcast", lshape_bitcast, MX_IN_BOTH},
    {NULL, NULL, 0},
};

void mx_open_shape(lua_State *L) { mx_register(L, shape_functions); }
