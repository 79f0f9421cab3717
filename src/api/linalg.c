/* linalg.c: factorizations and linear equations as functions of the core, linalg_<name>; lua/mlax/linalg.lua gives them
 * their public names and composes the rest (lstsq, norm). */
#include "array_impl.h"

static int unary(lua_State *L, const char *op, mx_unary f) {
  mx_ctx *c = mx_enter(L, op);
  mx_no_options(L, mx_args(L, 1, 0));
  return mx_return(L, f(c, mx_check_array(L, 1, "x")));
}

static int llinalg_cholesky(lua_State *L) { return unary(L, "cholesky", mx_cholesky); }
static int llinalg_inv(lua_State *L) { return unary(L, "inv", mx_inv); }
static int llinalg_det(lua_State *L) { return unary(L, "det", mx_det); }
static int llinalg_pinv(lua_State *L) { return unary(L, "lstsq", mx_pinv); }

/* [-0, +n] */
static int push_all(lua_State *L, bool ok, mx_array *const *out, int n) {
  mx_ok(L, ok);
  for (int i = 0; i < n; i++) mx_push(L, out[i]);
  return n;
}

static int pair(lua_State *L, const char *op, bool (*f)(mx_ctx *, mx_array *, mx_array *[2])) {
  mx_array *out[2];
  mx_ctx *c = mx_enter(L, op);
  mx_no_options(L, mx_args(L, 1, 0));
  return push_all(L, f(c, mx_check_array(L, 1, "x"), out), out, 2);
}

static int llinalg_slogdet(lua_State *L) { return pair(L, "slogdet", mx_slogdet); }
static int llinalg_qr(lua_State *L) { return pair(L, "qr", mx_qr); }
static int llinalg_eigh(lua_State *L) { return pair(L, "eigh", mx_eigh); }

static int llinalg_svd(lua_State *L) {
  static const mx_option known[] = {{"full_matrices", MX_OPT_BOOL, 0}, {NULL, MX_OPT_BOOL, 0}};
  mx_array *out[3];
  mx_ctx *c = mx_enter(L, "svd");
  bool full = true;
  mx_options(L, mx_args(L, 1, 0), known, &full);
  return push_all(L, mx_svd(c, mx_check_array(L, 1, "x"), full, out), out, 3);
}

static int llinalg_solve(lua_State *L) {
  mx_ctx *c = mx_enter(L, "solve");
  mx_no_options(L, mx_args(L, 2, 0));
  return mx_return(L, mx_solve(c, mx_check_array(L, 1, "a"), mx_check_array(L, 2, "b")));
}

typedef struct triangular_options {
  bool lower, transpose, unit_diagonal;
} triangular_options;

static int llinalg_triangular_solve(lua_State *L) {
  static const mx_option known[] = {{"lower", MX_OPT_BOOL, offsetof(triangular_options, lower)},
                                    {"transpose", MX_OPT_BOOL, offsetof(triangular_options, transpose)},
                                    {"unit_diagonal", MX_OPT_BOOL, offsetof(triangular_options, unit_diagonal)},
                                    {NULL, MX_OPT_BOOL, 0}};
  mx_ctx *c = mx_enter(L, "triangular_solve");
  triangular_options o = {false, false, false};
  mx_options(L, mx_args(L, 2, 0), known, &o);
  mx_array *a = mx_check_array(L, 1, "a"), *b = mx_check_array(L, 2, "b");
  return mx_return(L, mx_triangular_solve(c, a, b, o.lower, o.transpose, o.unit_diagonal));
}

static const mx_reg linalg_functions[] = {
    {"linalg_cholesky", llinalg_cholesky, MX_IN_CORE},
    {"linalg_det", llinalg_det, MX_IN_CORE},
    {"linalg_eigh", llinalg_eigh, MX_IN_CORE},
    {"linalg_inv", llinalg_inv, MX_IN_CORE},
    {"linalg_pinv", llinalg_pinv, MX_IN_CORE},
    {"linalg_qr", llinalg_qr, MX_IN_CORE},
    {"linalg_slogdet", llinalg_slogdet, MX_IN_CORE},
    {"linalg_solve", llinalg_solve, MX_IN_CORE},
    {"linalg_svd", llinalg_svd, MX_IN_CORE},
    {"linalg_triangular_solve", llinalg_triangular_solve, MX_IN_CORE},
    {NULL, NULL, 0},
};

void mx_open_linalg(lua_State *L) { mx_register(L, linalg_functions); }
