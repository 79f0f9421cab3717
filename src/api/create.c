/* create.c: arrays from Lua values, from shapes, from bytes. */
#include "array_impl.h"

#include <math.h>

/* -- nested lists -------------------------------------------------------------------------------------------------- */

/* One descent along the first elements gives the shape; one walk checks every list against it and stores the elements.
 */

typedef struct reader {
  lua_State *L;
  mx_aval aval;
  bool by_name;  /* the dtype was named: numbers and booleans may mix, integers need not be exact */
  bool booleans; /* the first element is a boolean */
  bool any;      /* there is an element */
  char *to;      /* where the next element goes */
} reader;

static const char *const list_help = "use mlax.stack to join arrays";

static void bad_element(lua_State *L, int idx) {
  if (mx_is_array(L, idx)) mx_error(L, "a list holds an array (got %s): %s", mx_show(L, idx), list_help);
  mx_error(L, "a list holds something that is neither a number, a boolean nor a list (got %s)", mx_show(L, idx));
}

/* A table that is empty as a list must be empty altogether. stack: ..., table */
static void check_empty(lua_State *L) {
  lua_pushnil(L);
  if (!lua_next(L, -2)) return;
  lua_pop(L, 1);
  mx_error(L, "no list: it has the key %s and no element 1", mx_show(L, -1));
}

/* Fills the shape from the first elements. stack: ..., value; [-0, +0] */
static void read_shape(reader *r) {
  lua_State *L = r->L;
  int64_t shape[MX_MAX_NDIM], ndim = 0, top = lua_gettop(L);
  while (lua_type(L, -1) == LUA_TTABLE) {
    if (!mx_is_plain_table(L, -1)) mx_error(L, "no list (got a table with a metatable)");
    if (ndim == MX_MAX_NDIM) mx_error(L, "lists are nested too deeply (need at most %d levels)", MX_MAX_NDIM);
    luaL_checkstack(L, 4, NULL);
    shape[ndim] = (int64_t)lua_rawlen(L, -1);
    if (shape[ndim++] == 0) {
      check_empty(L);
      break;
    }
    lua_rawgeti(L, -1, 1);
  }
  r->any = lua_type(L, -1) != LUA_TTABLE;
  r->booleans = lua_type(L, -1) == LUA_TBOOLEAN;
  lua_settop(L, (int)top);
  int dtype = r->by_name ? r->aval.dtype : r->any && r->booleans ? MLAX_BOOL : MLAX_FLOAT32;
  mx_ok(L, mx_aval_make(&MX_STATE(L)->ctx, &r->aval, dtype, (int)ndim, shape));
}

static void check_exact(lua_State *L, int64_t v) {
  float f = (float)v;
  if (f >= 9223372036854775808.0f || (int64_t)f != v)
    mx_error(L, "float32 cannot hold the integer %lld exactly: name a dtype (\"%s\")", (long long)v,
             v == (int32_t)v ? "int32" : "int64");
}

/* The element on top goes to r->to. [-0, +0] */
static void store_element(reader *r) {
  lua_State *L = r->L;
  int dtype = r->aval.dtype;
  switch (lua_type(L, -1)) {
  case LUA_TBOOLEAN:
    if (!r->by_name && !r->booleans) mx_error(L, "a list mixes numbers and booleans: name a dtype");
    mx_store_int(dtype, r->to, lua_toboolean(L, -1));
    break;
  case LUA_TNUMBER:
    if (!r->by_name && r->booleans) mx_error(L, "a list mixes booleans and numbers: name a dtype");
    if (!lua_isinteger(L, -1)) {
      mx_store_double(dtype, r->to, lua_tonumber(L, -1));
      break;
    }
    if (!r->by_name) check_exact(L, lua_tointeger(L, -1));
    mx_store_int(dtype, r->to, lua_tointeger(L, -1));
    break;
  case LUA_TNIL: mx_error(L, "a list has a hole"); break;
  case LUA_TTABLE: mx_error(L, "the lists are ragged: a list stands where a number stands elsewhere"); break;
  default: bad_element(L, -1);
  }
  r->to += mx_itemsize(dtype);
}

/* Plain float32 numbers, the common case; stops at the first element that needs another look. Returns the next index.
 */
static int64_t store_floats(reader *r, int64_t n) {
  lua_State *L = r->L;
  float *to = (float *)(void *)r->to;
  int64_t i = 1;
  for (; i <= n; i++) {
    lua_rawgeti(L, -1, i);
    if (lua_type(L, -1) != LUA_TNUMBER || lua_isinteger(L, -1)) break;
    *to++ = (float)lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
  if (i <= n) lua_pop(L, 1);
  r->to = (char *)to;
  return i;
}

/* stack: ..., list of the level `axis`; [-0, +0] */
static void store_list(reader *r, int axis) {
  lua_State *L = r->L;
  if (lua_type(L, -1) != LUA_TTABLE) {
    if (lua_type(L, -1) == LUA_TNUMBER || lua_type(L, -1) == LUA_TBOOLEAN)
      mx_error(L, "the lists are ragged: %s stands where a list stands elsewhere", mx_show(L, -1));
    if (lua_isnil(L, -1)) mx_error(L, "a list has a hole");
    bad_element(L, -1);
  }
  int64_t n = r->aval.shape[axis], length = (int64_t)lua_rawlen(L, -1), i = 1;
  if (length != n)
    mx_error(L, "the lists are ragged (got lengths %lld and %lld at depth %d)", (long long)n, (long long)length,
             axis + 1);
  bool last = axis + 1 == r->aval.ndim;
  if (last && r->aval.dtype == MLAX_FLOAT32 && !r->booleans) i = store_floats(r, n);
  for (; i <= n; i++) {
    lua_rawgeti(L, -1, i);
    if (last) store_element(r);
    else store_list(r, axis + 1);
    lua_pop(L, 1);
  }
}

static mx_array *from_value(lua_State *L, int idx, int dtype) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  reader r = {.L = L, .by_name = dtype >= 0};
  if (r.by_name) r.aval.dtype = (uint8_t)dtype;
  lua_pushvalue(L, idx);
  read_shape(&r);
  mx_array *x = mx_keep(c, mx_array_new(c, &r.aval));
  if (!x) mx_raise(L);
  r.to = mx_data(x);
  if (r.aval.ndim) store_list(&r, 0);
  else store_element(&r);
  lua_pop(L, 1);
  return x;
}

/* Arguments the last of which is a dtype: whoever gives it by name is told so. */
static void read_args(lua_State *L, int required, int optional) {
  int options = mx_args(L, required, optional);
  if (lua_istable(L, options) && lua_getfield(L, options, "dtype") != LUA_TNIL)
    mx_error(L, "the dtype is an argument of its own (got the option dtype = %s)", mx_show(L, -1));
  lua_settop(L, options);
  mx_no_options(L, options);
}

static int lcreate_array(lua_State *L) {
  mx_ctx *c = mx_enter(L, "array");
  read_args(L, 1, 1);
  int dtype = lua_isnil(L, 2) ? -1 : mx_check_dtype(L, 2, -1);
  if (mx_is_array(L, 1)) {
    mx_array *x = mx_check_strict(L, 1, "x");
    return mx_return(L, dtype < 0 ? x : mx_convert(c, x, dtype));
  }
  int type = lua_type(L, 1);
  if (type != LUA_TTABLE && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
    return mx_error(L, "neither lists of numbers or booleans, a number, a boolean nor an array (got %s)",
                    mx_show(L, 1));
  return mx_return(L, from_value(L, 1, dtype));
}

/* -- from shapes --------------------------------------------------------------------------------------------------- */

static int zeros_or_ones(lua_State *L, const char *op, double v) {
  mx_ctx *c = mx_enter(L, op);
  mx_dims shape;
  read_args(L, 1, 1);
  mx_check_shape(L, 1, &shape, "the shape");
  return mx_return(L, mx_full(c, mx_check_dtype(L, 2, MLAX_FLOAT32), &shape, v));
}
static int lcreate_zeros(lua_State *L) { return zeros_or_ones(L, "zeros", 0); }
static int lcreate_ones(lua_State *L) { return zeros_or_ones(L, "ones", 1); }

/* The scalar at idx in this dtype (-1: its own; float32 of a number). */
static mx_array *fill_value(lua_State *L, mx_ctx *c, int idx, int dtype) {
  mx_array *v;
  int type = lua_type(L, idx);
  if (mx_is_array(L, idx)) {
    v = mx_check_strict(L, idx, "the value");
    return dtype < 0 ? v : mx_convert(c, v, dtype);
  }
  if (type != LUA_TNUMBER && type != LUA_TBOOLEAN)
    mx_error(L, "the value is no number, boolean or array (got %s)", mx_show(L, idx));
  return from_value(L, idx, dtype);
}

static int lcreate_full(lua_State *L) {
  mx_ctx *c = mx_enter(L, "full");
  mx_dims shape;
  read_args(L, 2, 1);
  mx_check_shape(L, 1, &shape, "the shape");
  int dtype = lua_isnil(L, 3) ? -1 : mx_check_dtype(L, 3, -1);
  return mx_return(L, mx_broadcast(c, fill_value(L, c, 2, dtype), &shape));
}

static int like(lua_State *L, const char *op, double v) {
  mx_ctx *c = mx_enter(L, op);
  mx_no_options(L, mx_args(L, 1, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  mx_dims shape = mx_dims_shape(&x->aval);
  return mx_return(L, mx_full(c, x->aval.dtype, &shape, v));
}
static int lcreate_zeros_like(lua_State *L) { return like(L, "zeros_like", 0); }
static int lcreate_ones_like(lua_State *L) { return like(L, "ones_like", 1); }

static int lcreate_full_like(lua_State *L) {
  mx_ctx *c = mx_enter(L, "full_like");
  mx_no_options(L, mx_args(L, 2, 0));
  mx_array *x = mx_check_array(L, 1, "x");
  mx_dims shape = mx_dims_shape(&x->aval);
  return mx_return(L, mx_broadcast(c, fill_value(L, c, 2, x->aval.dtype), &shape));
}

static int lcreate_eye(lua_State *L) {
  mx_ctx *c = mx_enter(L, "eye");
  read_args(L, 1, 1);
  int64_t n = mx_check_int(L, 1, "n");
  if (n < 0) return mx_error(L, "the size is negative (got %lld)", (long long)n);
  mx_dims shape = {2, {n, n}};
  int dtype = mx_check_dtype(L, 2, MLAX_FLOAT32);
  return mx_return(
      L, mx_convert(c, mx_eq(c, mx_iota(c, MLAX_INT32, &shape, 0), mx_iota(c, MLAX_INT32, &shape, 1)), dtype));
}

/* -- sequences ----------------------------------------------------------------------------------------------------- */

static mx_array *new_vector(lua_State *L, mx_ctx *c, int dtype, int64_t n) {
  mx_aval a;
  mx_ok(L, mx_aval_make(c, &a, dtype, 1, &n));
  mx_array *x = mx_keep(c, mx_array_new(c, &a));
  if (!x) mx_raise(L);
  return x;
}

/* How many steps of an integer `for`; both bounds are included. */
static uint64_t count_ints(int64_t first, int64_t last, int64_t step) {
  if (step > 0 ? first > last : first < last) return 0;
  uint64_t span = step > 0 ? (uint64_t)last - (uint64_t)first : (uint64_t)first - (uint64_t)last;
  return span / (step > 0 ? (uint64_t)step : 0u - (uint64_t)step) + 1; /* 0: 2^64 */
}

static mx_array *int_range(lua_State *L, mx_ctx *c, int64_t first, int64_t last, int64_t step, int dtype) {
  uint64_t n = count_ints(first, last, step);
  if (n > INT64_MAX || (n == 0 && (step > 0 ? first <= last : first >= last))) mx_error(L, "too many elements");
  if (dtype < 0) {
    if (n && (first != (int32_t)first || last != (int32_t)last))
      mx_error(L, "int32 cannot hold the bounds: name a dtype (\"int64\")");
    dtype = MLAX_INT32;
  }
  mx_array *x = new_vector(L, c, dtype, (int64_t)n);
  char *to = mx_data(x);
  for (uint64_t i = 0; i < n; i++, to += mx_itemsize(dtype))
    mx_store_int(dtype, to, (int64_t)((uint64_t)first + i * (uint64_t)step));
  return x;
}

/* Elements first + i step up to last, which counts as reached within rounding. */
static mx_array *float_range(lua_State *L, mx_ctx *c, double first, double last, double step, int dtype) {
  double steps = (last - first) / step;
  if (!isfinite(first) || !isfinite(last) || !isfinite(step) || steps > 1e18)
    mx_error(L, "the bounds or the step are not finite");
  int64_t n = steps < 0 ? 0 : (int64_t)floor(steps + 1e-9 * (1 + steps)) + 1;
  if (dtype < 0) dtype = MLAX_FLOAT32;
  mx_array *x = new_vector(L, c, dtype, n);
  char *to = mx_data(x);
  for (int64_t i = 0; i < n; i++, to += mx_itemsize(dtype)) mx_store_double(dtype, to, first + (double)i * step);
  return x;
}

static int lcreate_range(lua_State *L) {
  mx_ctx *c = mx_enter(L, "range");
  read_args(L, 2, 2);
  int dtype = lua_isnil(L, 4) ? -1 : mx_check_dtype(L, 4, -1);
  double first = mx_check_number(L, 1, "the first element"), last = mx_check_number(L, 2, "the last element");
  double step = lua_isnil(L, 3) ? 1 : mx_check_number(L, 3, "the step");
  if (step == 0) return mx_error(L, "the step is 0");
  if (lua_isinteger(L, 1) && lua_isinteger(L, 2) && (lua_isnil(L, 3) || lua_isinteger(L, 3)))
    return mx_return(
        L, int_range(L, c, lua_tointeger(L, 1), lua_tointeger(L, 2), lua_isnil(L, 3) ? 1 : lua_tointeger(L, 3), dtype));
  return mx_return(L, float_range(L, c, first, last, step, dtype));
}

static int lcreate_linspace(lua_State *L) {
  mx_ctx *c = mx_enter(L, "linspace");
  read_args(L, 3, 1);
  double first = mx_check_number(L, 1, "the first element"), last = mx_check_number(L, 2, "the last element");
  int64_t n = mx_check_int(L, 3, "n");
  if (n < 0) return mx_error(L, "the number of elements is negative (got %lld)", (long long)n);
  int dtype = mx_check_dtype(L, 4, MLAX_FLOAT32);
  mx_array *x = new_vector(L, c, dtype, n);
  for (int64_t i = 0; i < n; i++) {
    double t = n > 1 ? (double)i / (double)(n - 1) : 0;
    mx_store_double(dtype, mx_data(x) + i * (int64_t)mx_itemsize(dtype),
                    i > 0 && i == n - 1 ? last : first * (1 - t) + last * t);
  }
  return mx_return(L, x);
}

/* -- bytes --------------------------------------------------------------------------------------------------------- */

static int lcreate_from_string(lua_State *L) {
  mx_ctx *c = mx_enter(L, "from_string");
  mx_no_options(L, mx_args(L, 3, 0));
  mx_dims shape;
  mx_aval a;
  size_t bytes;
  if (lua_type(L, 1) != LUA_TSTRING) return mx_error(L, "the bytes are no string (got %s)", mx_show(L, 1));
  const char *from = lua_tolstring(L, 1, &bytes);
  int dtype = mx_check_dtype(L, 2, -1);
  mx_check_shape(L, 3, &shape, "the shape");
  mx_ok(L, mx_aval_make(c, &a, dtype, (int)shape.n, shape.v));
  mx_text t;
  if (mx_nbytes(&a) != bytes)
    return mx_error(L, "the bytes do not fit %s (got %zu, need %zu)", mx_aval_text(&t, &a), bytes, mx_nbytes(&a));
  mx_array *x = mx_keep(c, mx_array_new(c, &a));
  if (!x) return mx_raise(L);
  if (dtype == MLAX_BOOL) mx_convert_strided(MLAX_UINT8, from, 1, MLAX_BOOL, mx_data(x), 1, a.size);
  else memcpy(mx_data(x), from, bytes);
  return mx_return(L, x);
}

static const mx_reg create_functions[] = {
    {"array", lcreate_array, MX_IN_MLAX},
    {"zeros", lcreate_zeros, MX_IN_MLAX},
    {"ones", lcreate_ones, MX_IN_MLAX},
    {"full", lcreate_full, MX_IN_MLAX},
    {"eye", lcreate_eye, MX_IN_MLAX},
    {"zeros_like", lcreate_zeros_like, MX_IN_BOTH},
    {"ones_like", lcreate_ones_like, MX_IN_BOTH},
    {"full_like", lcreate_full_like, MX_IN_BOTH},
    {"range", lcreate_range, MX_IN_MLAX},
    {"linspace", lcreate_linspace, MX_IN_MLAX},
    {"from_string", lcreate_from_string, MX_IN_MLAX},
    {NULL, NULL, 0},
};

void mx_open_create(lua_State *L) { mx_register(L, create_functions); }
