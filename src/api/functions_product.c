/* functions_product.c: products of matrices and of tensors. einsum is Lua (lua/mlax/einsum.lua) on dot_general. */
#include "array_impl.h"

static int lproduct_matmul(lua_State *L) {
  mx_ctx *c = mx_enter(L, "matmul");
  mx_no_options(L, mx_args(L, 2, 0));
  return mx_return(L, mx_matmul(c, mx_check_array(L, 1, "x"), mx_check_array(L, 2, "y")));
}

static mx_array *contract(mx_ctx *c, mx_array *x, mx_array *y, const mx_dims *ax, const mx_dims *ay) {
  mx_dims none = {0};
  return mx_dot_general(c, x, y, ax, ay, &none, &none, -1);
}

/* NumPy: of scalars the product; else the last axis of x with the last but one of y (the last of a vector) */
static mx_array *dot(mx_ctx *c, mx_array *x, mx_array *y) {
  int nx = x->aval.ndim, ny = y->aval.ndim;
  if (nx == 0 || ny == 0) return mx_mul(c, x, y);
  mx_dims ax = {1, {nx - 1}}, ay = {1, {ny == 1 ? 0 : ny - 2}};
  return contract(c, x, y, &ax, &ay);
}

static int lproduct_dot(lua_State *L) {
  mx_ctx *c = mx_enter(L, "dot");
  mx_array *x, *y;
  mx_no_options(L, mx_args(L, 2, 0));
  mx_check_pair(L, 1, 2, &x, &y);
  return mx_return(L, dot(c, x, y));
}

static int lproduct_outer(lua_State *L) {
  mx_ctx *c = mx_enter(L, "outer");
  mx_array *x, *y;
  mx_no_options(L, mx_args(L, 2, 0));
  mx_check_pair(L, 1, 2, &x, &y);
  mx_dims column = {2, {x->aval.size, 1}}, row = {1, {y->aval.size}};
  return mx_return(L, mx_mul(c, mx_reshape(c, x, &column), mx_reshape(c, y, &row)));
}

/* {{axes of x}, {axes of y}} at idx; nil: none. */
static void check_axes_pair(lua_State *L, int idx, const mx_array *x, const mx_array *y, mx_dims *ax, mx_dims *ay,
                            const char *what) {
  *ax = *ay = (mx_dims){0};
  if (idx == 0 || lua_isnil(L, idx)) return;
  if (mx_check_length(L, idx, what) != 2) mx_error(L, "%s is no pair of lists (need {{axes of x}, {axes of y}})", what);
  lua_rawgeti(L, idx, 1);
  lua_rawgeti(L, idx, 2);
  mx_check_axes(L, -2, x->aval.ndim, ax);
  mx_check_axes(L, -1, y->aval.ndim, ay);
  lua_pop(L, 2);
  if (ax->n != ay->n) mx_error(L, "%s names %lld axes of x and %lld of y", what, (long long)ax->n, (long long)ay->n);
}

static int lproduct_tensordot(lua_State *L) {
  mx_ctx *c = mx_enter(L, "tensordot");
  mx_dims ax = {0}, ay = {0};
  mx_no_options(L, mx_args(L, 2, 1));
  mx_array *x = mx_check_array(L, 1, "x"), *y = mx_check_array(L, 2, "y");
  if (lua_type(L, 3) == LUA_TTABLE) {
    check_axes_pair(L, 3, x, y, &ax, &ay, "the third argument");
    return mx_return(L, contract(c, x, y, &ax, &ay));
  }
  int64_t n = lua_isnil(L, 3) ? 2 : mx_check_int(L, 3, "the number of axes");
  if (n < 0 || n > x->aval.ndim || n > y->aval.ndim)
    return mx_error(L, "there are not so many axes to sum over (got %lld for %d and %d)", (long long)n, x->aval.ndim,
                    y->aval.ndim);
  for (int i = 0; i < n; i++) {
    ax.v[ax.n++] = x->aval.ndim - n + i;
    ay.v[ay.n++] = i;
  }
  return mx_return(L, contract(c, x, y, &ax, &ay));
}

typedef struct dot_options {
  int contract, batch, accum_dtype;
} dot_options;

static int lproduct_dot_general(lua_State *L) {
  static const mx_option known[] = {{"contract", MX_OPT_VALUE, offsetof(dot_options, contract)},
                                    {"batch", MX_OPT_VALUE, offsetof(dot_options, batch)},
                                    {"accum_dtype", MX_OPT_DTYPE, offsetof(dot_options, accum_dtype)},
                                    {NULL, MX_OPT_BOOL, 0}};
  mx_ctx *c = mx_enter(L, "dot_general");
  dot_options o = {0, 0, -1};
  mx_dims xc, yc, xb, yb;
  mx_options(L, mx_args(L, 2, 0), known, &o);
  mx_array *x = mx_check_array(L, 1, "x"), *y = mx_check_array(L, 2, "y");
  check_axes_pair(L, o.contract, x, y, &xc, &yc, "option 'contract'");
  check_axes_pair(L, o.batch, x, y, &xb, &yb, "option 'batch'");
  return mx_return(L, mx_dot_general(c, x, y, &xc, &yc, &xb, &yb, o.accum_dtype));
}

static const mx_reg product_functions[] = {
    {"matmul", lproduct_matmul, MX_IN_BOTH},
    {"dot", lproduct_dot, MX_IN_BOTH},
    {"outer", lproduct_outer, MX_IN_BOTH},
    {"tensordot", lproduct_tensordot, MX_IN_BOTH},
    {"dot_general", lproduct_dot_general, MX_IN_LAX},
    {NULL, NULL, 0},
};

void mx_open_product(lua_State *L) { mx_register(L, product_functions); }
