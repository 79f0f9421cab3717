/* functions_elementwise.c: elementwise operations as functions and methods, expanded from primitives.def. */
#include "array_impl.h"

static int unary(lua_State *L, const char *op, mx_unary f) {
  mx_ctx *c = mx_enter(L, op);
  mx_no_options(L, mx_args(L, 1, 0));
  return mx_return(L, f(c, mx_check_array(L, 1, "x")));
}

static int binary(lua_State *L, const char *op, mx_binary f) {
  mx_ctx *c = mx_enter(L, op);
  mx_array *x, *y;
  mx_no_options(L, mx_args(L, 2, 0));
  mx_check_pair(L, 1, 2, &x, &y);
  return mx_return(L, f(c, x, y));
}

/* -- one C function a primitive ------------------------------------------------------------------------------------ */
#define MX_PRIMITIVE(name, family)
#define MX_L_1(name)                                                                                                   \
  static int lfunction_##name(lua_State *L) { return unary(L, #name, mx_##name); }
#define MX_L_2(name)                                                                                                   \
  static int lfunction_##name(lua_State *L) { return binary(L, #name, mx_##name); }
#define MX_ELEMENTWISE(name, arity, domain, result) MX_L_##arity(name)
#include "../ops/primitives.def"

static const mx_reg primitive_functions[] = {
#define MX_PRIMITIVE(name, family)
#define MX_ELEMENTWISE(name, arity, domain, result) {#name, lfunction_##name, MX_IN_BOTH},
#include "../ops/primitives.def"
    {NULL, NULL, 0},
};

/* Operators alone, and what only derivatives and random numbers need: these stay in mlax.lax. */
static const char *const lax_only[] = {"not",         "and",       "or",        "xor",          "shift_left",
                                       "shift_right", "polygamma", "nextafter", "loggamma_grad"};

static bool is_lax_only(const char *name) {
  for (size_t i = 0; i < sizeof lax_only / sizeof *lax_only; i++)
    if (!strcmp(lax_only[i], name)) return true;
  return false;
}

static void register_primitives(lua_State *L) {
  for (const mx_reg *r = primitive_functions; r->name; r++) {
    mx_reg one[2] = {*r, {NULL, NULL, 0}};
    if (is_lax_only(r->name)) one[0].where = MX_IN_LAX;
    mx_register(L, one);
  }
}

/* -- the others ---------------------------------------------------------------------------------------------------- */

static mx_array *to_bool(mx_ctx *c, mx_array *x) { return mx_convert(c, x, MLAX_BOOL); }
static mx_array *logical_and(mx_ctx *c, mx_array *x, mx_array *y) { return mx_and(c, to_bool(c, x), to_bool(c, y)); }
static mx_array *logical_or(mx_ctx *c, mx_array *x, mx_array *y) { return mx_or(c, to_bool(c, x), to_bool(c, y)); }
static mx_array *logical_xor(mx_ctx *c, mx_array *x, mx_array *y) { return mx_xor(c, to_bool(c, x), to_bool(c, y)); }
static mx_array *logical_not(mx_ctx *c, mx_array *x) { return mx_not(c, to_bool(c, x)); }

static int lfunction_logical_and(lua_State *L) { return binary(L, "logical_and", logical_and); }
static int lfunction_logical_or(lua_State *L) { return binary(L, "logical_or", logical_or); }
static int lfunction_logical_xor(lua_State *L) { return binary(L, "logical_xor", logical_xor); }
static int lfunction_logical_not(lua_State *L) { return unary(L, "logical_not", logical_not); }

static int lfunction_power(lua_State *L) {
  mx_ctx *c = mx_enter(L, "pow");
  mx_array *x, *y;
  mx_no_options(L, mx_args(L, 2, 0));
  mx_check_pair(L, 1, 2, &x, &y);
  return mx_return(L, mx_power(L, c, x, y, 2));
}

static int lfunction_where(lua_State *L) {
  mx_ctx *c = mx_enter(L, "where");
  mx_array *x, *y;
  mx_no_options(L, mx_args(L, 3, 0));
  mx_array *condition = mx_check_array(L, 1, "the condition");
  mx_check_pair(L, 2, 3, &x, &y);
  return mx_return(L, mx_select(c, condition, x, y));
}

/* A bound of clip; nil: none. */
static mx_array *clip_to(lua_State *L, mx_array *x, int idx, mx_binary f) {
  if (!x || lua_isnil(L, idx)) return x;
  mx_array *bound =
      lua_type(L, idx) == LUA_TNUMBER ? mx_weak_number(L, idx, &x->aval) : mx_check_strict(L, idx, "the bound");
  return f(&MX_STATE(L)->ctx, x, bound);
}

static int lfunction_clip(lua_State *L) {
  mx_enter(L, "clip");
  mx_no_options(L, mx_args(L, 1, 2));
  mx_array *x = clip_to(L, mx_check_array(L, 1, "x"), 2, mx_maximum);
  return mx_return(L, clip_to(L, x, 3, mx_minimum));
}

static int lfunction_stop_gradient(lua_State *L) { return unary(L, "stop_gradient", mx_stop_gradient); }

static const mx_reg other_functions[] = {
    {"logical_and", lfunction_logical_and, MX_IN_BOTH},
    {"logical_or", lfunction_logical_or, MX_IN_BOTH},
    {"logical_xor", lfunction_logical_xor, MX_IN_BOTH},
    {"logical_not", lfunction_logical_not, MX_IN_BOTH},
    {"pow", lfunction_power, MX_IN_BOTH},
    {"where", lfunction_where, MX_IN_BOTH},
    {"clip", lfunction_clip, MX_IN_BOTH},
    {"stop_gradient", lfunction_stop_gradient, MX_IN_LAX},
    {NULL, NULL, 0},
};

void mx_open_elementwise(lua_State *L) {
  register_primitives(L);
  mx_register(L, other_functions);
}
