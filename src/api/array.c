/* array.c: the array userdata: fields, operators, reading values into Lua.
 *
 * The userdata is a box with one reference. Operators are the hot path: they look at metatable pointers and at nothing
 * else.
 */
#include "array_impl.h"

#include <math.h>
#include <stdio.h>

static const char meta_key = 0; /* registry: the metatable */

mx_array **mx_push_box(lua_State *L) {
  mx_array **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &meta_key);
  mx_own(L);
  return box;
}

static int larray_gc(lua_State *L) {
  mx_array **box = lua_touserdata(L, 1);
  if (!box || !mx_to_array(L, 1)) return 0;
  mx_state *s = MX_STATE(L);
  mx_array *x = *box;
  *box = NULL;
  if (s->in_gc && s->freed++ == 0) s->found = mx_seconds();
  mx_release(x);
  return 0;
}

mx_array **mx_check_box(lua_State *L, int idx) {
  if (!mx_to_array(L, idx)) mx_error(L, "no array (got %s)", mx_show(L, idx));
  return lua_touserdata(L, idx);
}

mx_array *mx_value_of(const mx_ctx *c, mx_array *x) {
  if (!mx_has_value(c, x)) return NULL;
  while (x->tag == MX_DUAL) x = x->primal;
  return x;
}

mx_array *mx_check_value(lua_State *L, mx_array *x, const char *use) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  mx_array *v = mx_value_of(c, x);
  mx_text t;
  if (!v) {
    if (!mx_usable(c, x)) mx_raise(L);
    mx_error(L,
             "a traced array cannot be %s: it has no value yet (got %s made at %s); use where or cond, or make the "
             "argument static "
             "(static_argnums)",
             use, mx_aval_text(&t, &x->aval), mx_site_text(c, x->site));
  }
  v = mx_keep(c, mx_array_contiguous(c, v));
  if (!v) mx_raise(L);
  return v;
}

/* -- fields -------------------------------------------------------------------------------------------------------- */

typedef enum { FIELD_SHAPE = 1, FIELD_DTYPE, FIELD_NDIM, FIELD_SIZE, FIELD_NBYTES, FIELD_DEVICE, FIELD_T } field;
static const char *const field_names[] = {"shape", "dtype", "ndim", "size", "nbytes", "device", "T"};
enum { N_FIELDS = sizeof field_names / sizeof *field_names };

static void push_shape(lua_State *L, const mx_aval *a) {
  lua_createtable(L, a->ndim, 0);
  for (int i = 0; i < a->ndim; i++) {
    lua_pushinteger(L, a->shape[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

static mx_array *reversed_axes(mx_ctx *c, mx_array *x) {
  mx_dims axes = mx_dims_range(x->aval.ndim);
  for (int i = 0; i < axes.n; i++) axes.v[i] = axes.n - 1 - i;
  return mx_transpose(c, x, &axes);
}

static int push_field(lua_State *L, mx_array *x, field f) {
  const mx_aval *a = &x->aval;
  switch (f) {
  case FIELD_SHAPE: push_shape(L, a); break;
  case FIELD_DTYPE: lua_pushstring(L, mx_dtype_name(a->dtype)); break;
  case FIELD_NDIM: lua_pushinteger(L, a->ndim); break;
  case FIELD_SIZE: lua_pushinteger(L, a->size); break;
  case FIELD_NBYTES: lua_pushinteger(L, (lua_Integer)mx_nbytes(a)); break;
  case FIELD_DEVICE: lua_pushliteral(L, "cpu"); break;
  case FIELD_T: return mx_return(L, reversed_axes(mx_enter(L, "T"), x));
  }
  return 1;
}

enum { MAX_NAMES = 400 };

/* All fields and methods, for the guess. [-0, +0]: the names are anchored by the methods table. */
static int known_names(lua_State *L, const char **names) {
  int n = N_FIELDS;
  memcpy(names, field_names, sizeof field_names);
  lua_pushnil(L);
  while (lua_next(L, lua_upvalueindex(2))) {
    lua_pop(L, 1);
    if (n < MAX_NAMES && lua_type(L, -1) == LUA_TSTRING) names[n++] = lua_tostring(L, -1);
  }
  return n;
}

/* Where a function of this name is, by the Lua half (mlax.names); NULL: nowhere, or that half is not loaded. [-0, +1]
 */
static const char *place_of(lua_State *L, int key) {
  int top = lua_gettop(L);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  if (lua_getfield(L, top + 1, "mlax.names") == LUA_TTABLE && lua_getfield(L, top + 2, "elsewhere") == LUA_TFUNCTION) {
    lua_pushliteral(L, "array");
    lua_pushvalue(L, key);
    if (lua_pcall(L, 2, 1, 0) == LUA_OK) lua_replace(L, top + 1);
  }
  lua_settop(L, top + 1);
  return lua_tostring(L, top + 1);
}

static int unknown_field(lua_State *L) {
  const char *names[MAX_NAMES], *key = lua_tostring(L, 2);
  const char *guess = mx_guess(key, names, known_names(L, names));
  if (guess) return mx_error(L, "an array has no field '%.80s', did you mean '%s'?", key, guess);
  guess = place_of(L, 2);
  mx_enter(L, "index"); /* that ran Lua */
  if (guess) return mx_error(L, "an array has no field '%.80s', did you mean %s?", key, guess);
  return mx_error(
      L, "an array has no field '%.80s' (fields are shape, dtype, ndim, size, nbytes, device, T and the methods)", key);
}

static bool is_index_text(const char *s) {
  return (*s >= '0' && *s <= '9') || *s == ':' || *s == '.' || *s == '-' ||
         (!strncmp(s, "new", 3) && (!s[3] || strchr(" ,", s[3])));
}

/* upvalues: state, methods, field numbers by name */
static int larray_index(lua_State *L) {
  bool text = lua_type(L, 2) == LUA_TSTRING;
  if (text) {
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(2)) != LUA_TNIL) return 1;
  }
  mx_ctx *c = mx_enter(L, "index");
  mx_array *x = mx_to_array(L, 1);
  if (!x) return mx_error(L, "no array (got %s)", mx_show(L, 1));
  if (mx_is_gone(x) && !mx_usable(c, x)) return mx_raise(L);
  if (text) {
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(3)) != LUA_TNIL) return push_field(L, x, (field)lua_tointeger(L, -1));
    if (!is_index_text(lua_tostring(L, 2))) return unknown_field(L);
  }
  return mx_return(L, mx_index(L, x, 2));
}

static int larray_newindex(lua_State *L) {
  mx_enter(L, "index");
  if (lua_type(L, 2) == LUA_TSTRING)
    return mx_error(L, "arrays never change (assignment to '%.80s')", lua_tostring(L, 2));
  return mx_error(L, "arrays never change: write x = x:at{i}:set(v)");
}

/* What has a shape, if no values: all but freed arrays. */
static mx_array *check_shaped(lua_State *L, int idx) {
  mx_array *x = *mx_check_box(L, idx);
  if (mx_is_gone(x)) mx_usable(&MX_STATE(L)->ctx, x), mx_raise(L);
  return x;
}

static int larray_len(lua_State *L) {
  mx_enter(L, "#");
  mx_array *x = check_shaped(L, 1);
  if (x->aval.ndim == 0) return mx_error(L, "a scalar has no length (got %s)", mx_show(L, 1));
  lua_pushinteger(L, x->aval.shape[0]);
  return 1;
}

static int larray_pairs(lua_State *L) {
  mx_enter(L, "pairs");
  return mx_error(L, "an array is no table: write for i, row in x:rows() do");
}

static int larray_dims(lua_State *L) {
  mx_enter(L, "dims");
  mx_array *x = check_shaped(L, 1);
  mx_no_options(L, mx_args(L, 1, 0));
  for (int i = 0; i < x->aval.ndim; i++) lua_pushinteger(L, x->aval.shape[i]);
  return x->aval.ndim;
}

static int larray_dim(lua_State *L) {
  mx_enter(L, "dim");
  mx_array *x = check_shaped(L, 1);
  mx_no_options(L, mx_args(L, 2, 0));
  lua_pushinteger(L, x->aval.shape[mx_check_axis(L, 2, x->aval.ndim)]);
  return 1;
}

/* -- operators ----------------------------------------------------------------------------------------------------- */

/* An operand: an array, or else a number; anything else raises. */
static mx_array *operand(lua_State *L, int idx, mx_ctx *c) {
  mx_array *x = mx_to_array(L, idx);
  if (!x) {
    if (lua_type(L, idx) != LUA_TNUMBER)
      mx_error(L, "an operand is neither an array nor a number (got %s%s)", mx_show(L, idx),
               lua_istable(L, idx) ? ", need mlax.array{...}" : "");
    return NULL;
  }
  if (x->tag != MX_VALUE && !mx_usable(c, x)) mx_raise(L);
  return x;
}

static void operands(lua_State *L, mx_ctx *c, mx_array **x, mx_array **y) {
  *x = operand(L, 1, c);
  *y = operand(L, 2, c);
  if (!*x) *x = mx_weak_number(L, 1, &(*y)->aval);
  if (!*y) *y = mx_weak_number(L, 2, &(*x)->aval);
}

#define OPERATOR(event, op, f)                                                                                         \
  static int larray_##event(lua_State *L) {                                                                            \
    mx_ctx *c = mx_enter(L, op);                                                                                       \
    mx_array *x, *y;                                                                                                   \
    operands(L, c, &x, &y);                                                                                            \
    return mx_return(L, f(c, x, y));                                                                                   \
  }
OPERATOR(add, "add", mx_add)
OPERATOR(sub, "sub", mx_sub)
OPERATOR(mul, "mul", mx_mul)
OPERATOR(div, "div", mx_div)
OPERATOR(idiv, "floordiv", mx_floordiv)
OPERATOR(mod, "mod", mx_mod)
OPERATOR(band, "and", mx_and)
OPERATOR(bor, "or", mx_or)
OPERATOR(bxor, "xor", mx_xor)
OPERATOR(shl, "shift_left", mx_shift_left)
OPERATOR(shr, "shift_right", mx_shift_right)

mx_array *mx_power(lua_State *L, mx_ctx *c, mx_array *x, mx_array *y, int exponent) {
  if (lua_type(L, exponent) != LUA_TNUMBER) return mx_pow(c, x, y);
  double p = lua_tonumber(L, exponent);
  if (lua_isinteger(L, exponent) && p < 0 && !mx_is_float(x->aval.dtype))
    mx_error(L, "integers have no negative powers (got %s ^ %lld, need a float array or exponent)",
             mx_dtype_name(x->aval.dtype), (long long)p);
  if (p == 2 && y->aval.dtype == x->aval.dtype) return mx_square(c, x);
  if (p == 3 && y->aval.dtype == x->aval.dtype) return mx_mul(c, mx_square(c, x), x);
  return mx_pow(c, x, y);
}

static int larray_pow(lua_State *L) {
  mx_ctx *c = mx_enter(L, "pow");
  mx_array *x, *y;
  operands(L, c, &x, &y);
  return mx_return(L, mx_power(L, c, x, y, 2));
}

static int larray_unm(lua_State *L) {
  mx_ctx *c = mx_enter(L, "neg");
  return mx_return(L, mx_neg(c, operand(L, 1, c)));
}

static int larray_bnot(lua_State *L) {
  mx_ctx *c = mx_enter(L, "not");
  return mx_return(L, mx_not(c, operand(L, 1, c)));
}

static int larray_eq(lua_State *L) { /* identity: two userdata may hold one array */
  mx_array *x = mx_to_array(L, 1), *y = mx_to_array(L, 2);
  lua_pushboolean(L, x && x == y);
  return 1;
}

/* The number on one side of < or <=. */
static double ordered(lua_State *L, int idx, const char *method, const char *way) {
  if (lua_type(L, idx) == LUA_TNUMBER) return lua_tonumber(L, idx);
  mx_array *x = mx_check_strict(L, idx, "an operand");
  if (x->aval.size != 1)
    mx_error(L, "only arrays of one element have an order (got %s): write x:%s(y)", mx_show(L, idx), method);
  return mx_array_item_double(mx_check_value(L, x, way));
}

static int larray_lt(lua_State *L) {
  mx_enter(L, "<");
  const char *way = "ordered (x:lt(y) compares element by element)";
  double x = ordered(L, 1, "lt", way), y = ordered(L, 2, "lt", way);
  lua_pushboolean(L, x < y);
  return 1;
}

static int larray_le(lua_State *L) {
  mx_enter(L, "<=");
  const char *way = "ordered (x:le(y) compares element by element)";
  double x = ordered(L, 1, "le", way), y = ordered(L, 2, "le", way);
  lua_pushboolean(L, x <= y);
  return 1;
}

/* -- text ---------------------------------------------------------------------------------------------------------- */

static void push_printed(lua_State *L, const mx_array *x) { /* [-0, +1] */
  const mx_print_options *o = &MX_STATE(L)->print;
  size_t n = mx_array_print(x, o, NULL, 0);
  luaL_Buffer b;
  mx_array_print(x, o, luaL_buffinitsize(L, &b, n + 1), n + 1);
  luaL_pushresultsize(&b, n);
}

static const char *tag_text(const mx_array *x) {
  return x->tag == MX_FREED      ? "freed at"
         : x->tag == MX_DONATED  ? "donated at"
         : x->tag == MX_ABSTRACT ? "without values"
                                 : "traced at";
}

static void push_text(lua_State *L, mx_array *x) { /* [-0, +1] */
  mx_text t;
  if (x->tag == MX_VALUE) {
    push_printed(L, x);
    return;
  }
  const char *made = x->tag == MX_ABSTRACT ? "" : mx_site_text(&MX_STATE(L)->ctx, x->site);
  lua_pushfstring(L, "%s %s%s%s", mx_aval_text(&t, &x->aval), tag_text(x), *made ? " " : "", made);
}

static int larray_tostring(lua_State *L) {
  mx_enter(L, "tostring");
  push_text(L, *mx_check_box(L, 1));
  return 1;
}

/* A scalar's text behind its header; anything else as it prints. [-0, +1] */
static void push_bare(lua_State *L, int idx) {
  mx_array *x = mx_to_array(L, idx), *v = x && x->aval.size == 1 ? mx_value_of(&MX_STATE(L)->ctx, x) : NULL;
  mx_ctx *c = &MX_STATE(L)->ctx;
  if (!x) {
    if (!lua_isstring(L, idx)) mx_error(L, "text, a number or an array is needed (got %s)", mx_show(L, idx));
    luaL_tolstring(L, idx, NULL);
    return;
  }
  if (!v) {
    push_text(L, x);
    return;
  }
  int64_t strides[1] = {0};
  mx_aval a = {.dtype = v->aval.dtype, .size = 1};
  v = mx_keep(c, mx_array_view(c, v, &a, v->offset, strides));
  if (!v) mx_raise(L);
  push_printed(L, v);
  const char *text = lua_tostring(L, -1), *bare = strchr(text, ' ');
  lua_pushstring(L, bare ? bare + 1 : text);
  lua_remove(L, -2);
}

static int larray_concat(lua_State *L) {
  mx_enter(L, "..");
  push_bare(L, 1);
  push_bare(L, 2);
  lua_concat(L, 2);
  return 1;
}

/* -- values for Lua ------------------------------------------------------------------------------------------------ */

void mx_push_element(lua_State *L, int dtype, const void *p) {
  if (dtype == MLAX_BOOL) lua_pushboolean(L, *(const uint8_t *)p);
  else if (mx_is_float(dtype)) lua_pushnumber(L, mx_load_double(dtype, p));
  else lua_pushinteger(L, mx_load_int(dtype, p));
}

static int larray_item(lua_State *L) {
  mx_enter(L, "item");
  mx_array *x = mx_check_strict(L, 1, "x");
  mx_no_options(L, mx_args(L, 1, 0));
  if (x->aval.size != 1) return mx_error(L, "only an array of one element has an item (got %s)", mx_show(L, 1));
  mx_array *v = mx_check_value(L, x, "read");
  mx_push_element(L, v->aval.dtype, mx_data(v));
  return 1;
}

static void push_list(lua_State *L, const mx_aval *a, int axis, const char **p) {
  if (axis == a->ndim) {
    mx_push_element(L, a->dtype, *p);
    *p += mx_itemsize(a->dtype);
    return;
  }
  int64_t n = a->shape[axis];
  luaL_checkstack(L, 3, NULL);
  lua_createtable(L, n < INT32_MAX ? (int)n : 0, 0);
  for (int64_t i = 0; i < n; i++) {
    push_list(L, a, axis + 1, p);
    lua_rawseti(L, -2, i + 1);
  }
}

static int larray_totable(lua_State *L) {
  mx_enter(L, "totable");
  mx_array *x = mx_check_strict(L, 1, "x");
  mx_no_options(L, mx_args(L, 1, 0));
  mx_array *v = mx_check_value(L, x, "read");
  const char *p = mx_data(v);
  push_list(L, &v->aval, 0, &p);
  return 1;
}

static int larray_tostring_bytes(lua_State *L) {
  mx_enter(L, "tostring_bytes");
  mx_array *x = mx_check_strict(L, 1, "x");
  mx_no_options(L, mx_args(L, 1, 0));
  mx_array *v = mx_check_value(L, x, "read");
  lua_pushlstring(L, mx_data(v), mx_nbytes(&v->aval));
  return 1;
}

static mx_array *check_rows(lua_State *L) {
  mx_array *x = mx_check_strict(L, 1, "x");
  if (x->aval.ndim == 0) mx_error(L, "a scalar has no rows (got %s)", mx_show(L, 1));
  return x;
}

static int larray_unpack(lua_State *L) {
  mx_ctx *c = mx_enter(L, "unpack");
  mx_array *x = check_rows(L);
  mx_no_options(L, mx_args(L, 1, 0));
  int64_t n = x->aval.shape[0];
  if (n > 1000000 || !lua_checkstack(L, (int)n + 10))
    return mx_error(L, "too many rows for results (got %lld)", (long long)n);
  for (int64_t i = 0; i < n; i++) mx_push(L, mx_row(c, x, i));
  return (int)n;
}

static int rows_next(lua_State *L) { /* state x, control i */
  mx_ctx *c = mx_enter(L, "rows");
  mx_array *x = mx_check_strict(L, 1, "x");
  int64_t i = mx_check_int(L, 2, "the row");
  if (x->aval.ndim == 0 || i < 0 || i >= x->aval.shape[0]) return 0;
  lua_pushinteger(L, i + 1);
  return 1 + mx_return(L, mx_row(c, x, i));
}

static int larray_rows(lua_State *L) {
  mx_enter(L, "rows");
  check_rows(L);
  mx_no_options(L, mx_args(L, 1, 0));
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushcclosure(L, rows_next, 1);
  lua_pushvalue(L, 1);
  lua_pushinteger(L, 0);
  return 3;
}

/* -- life ---------------------------------------------------------------------------------------------------------- */

static int larray_free(lua_State *L) {
  mx_ctx *c = mx_enter(L, "free");
  mx_array **box = mx_check_box(L, 1), *x = *box;
  mx_no_options(L, mx_args(L, 1, 0));
  if (mx_is_gone(x)) return 0;
  mx_array *gone = mx_array_tracer(c, MX_FREED, &x->aval);
  if (!gone) return mx_raise(L);
  gone->site = c->where(c->ud);
  *box = gone;
  mx_release(x);
  return 0;
}

static int larray_wait(lua_State *L) { /* the CPU computes at once */
  mx_enter(L, "wait");
  mx_check_strict(L, 1, "x");
  mx_no_options(L, mx_args(L, 1, 0));
  lua_settop(L, 1);
  return 1;
}

static int larray_is_array(lua_State *L) {
  lua_pushboolean(L, mx_is_array(L, 1));
  return 1;
}

mlax_array *mlax_toarray(lua_State *L, int index) {
  mx_state *s = mx_state_of(L);
  if (!s || !lua_getmetatable(L, index)) return NULL;
  bool ours = lua_topointer(L, -1) == s->array_meta;
  lua_pop(L, 1);
  mx_array *x = ours ? *(mx_array **)lua_touserdata(L, index) : NULL;
  return x && x->tag == MX_VALUE ? x : NULL;
}

void mlax_pusharray(lua_State *L, mlax_array *x) {
  if (!mx_state_of(L)) luaL_error(L, "mlax: require \"mlax\" before arrays are pushed");
  luaL_checkstack(L, 4, NULL);
  mx_array **box = mx_push_box(L);
  *box = mx_retain(x);
}

/* -- registration -------------------------------------------------------------------------------------------------- */

static const struct {
  const char *event;
  lua_CFunction function;
} events[] = {
    {"__gc", larray_gc},         {"__newindex", larray_newindex},
    {"__len", larray_len},       {"__pairs", larray_pairs},
    {"__eq", larray_eq},         {"__lt", larray_lt},
    {"__le", larray_le},         {"__tostring", larray_tostring},
    {"__concat", larray_concat}, {"__add", larray_add},
    {"__sub", larray_sub},       {"__mul", larray_mul},
    {"__div", larray_div},       {"__idiv", larray_idiv},
    {"__mod", larray_mod},       {"__pow", larray_pow},
    {"__unm", larray_unm},       {"__band", larray_band},
    {"__bor", larray_bor},       {"__bxor", larray_bxor},
    {"__shl", larray_shl},       {"__shr", larray_shr},
    {"__bnot", larray_bnot},
};

static const mx_reg array_functions[] = {
    {"dims", larray_dims, MX_IN_METHODS},
    {"dim", larray_dim, MX_IN_METHODS},
    {"item", larray_item, MX_IN_METHODS},
    {"totable", larray_totable, MX_IN_METHODS},
    {"tostring_bytes", larray_tostring_bytes, MX_IN_METHODS},
    {"unpack", larray_unpack, MX_IN_METHODS},
    {"rows", larray_rows, MX_IN_METHODS},
    {"free", larray_free, MX_IN_METHODS},
    {"wait", larray_wait, MX_IN_METHODS},
    {"is_array", larray_is_array, MX_IN_MLAX},
    {NULL, NULL, 0},
};

/* stack: core, state, metatable */
static void set_index_event(lua_State *L) {
  lua_pushvalue(L, -2);
  lua_getfield(L, -4, "methods");
  lua_createtable(L, 0, N_FIELDS);
  for (int i = 0; i < N_FIELDS; i++) {
    lua_pushinteger(L, i + 1);
    lua_setfield(L, -2, field_names[i]);
  }
  lua_pushcclosure(L, larray_index, 3);
  lua_setfield(L, -2, "__index");
}

void mx_open_array(lua_State *L) {
  mx_state *s = mx_state_of(L);
  mx_register(L, array_functions);
  lua_getfield(L, -1, "own_chunks");
  lua_getupvalue(L, -1, 1); /* stack: core, function, state */
  lua_remove(L, -2);
  lua_createtable(L, 0, 32);
  for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, events[i].function, 1);
    lua_setfield(L, -2, events[i].event);
  }
  set_index_event(L);
  lua_pushliteral(L, "array");
  lua_setfield(L, -2, "__name");
  lua_pushliteral(L, "array");
  lua_setfield(L, -2, "__metatable"); /* scripts cannot take __gc or the box apart */
  s->array_meta = lua_topointer(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &meta_key);
  lua_pop(L, 1);
}
