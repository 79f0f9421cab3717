/* grad.c: grad, value_and_grad, vjp, jvp, linearize. The Lua half (lua/mlax/transforms.lua) checks options and caches
 * functions. */
#include "call.h"

/* -- what is differentiated ---------------------------------------------------------------------------------------- */

static int bad_leaf(lua_State *L, int args, int root, int leaf, const mx_array *x) {
  mx_flat_path(L, args, root, leaf);
  const char *path = lua_tostring(L, -1);
  if (mx_treedef_is_unset(mx_flat_at(L, args)->roots[root].def))
    return mx_error(L,
                    "the module is not initialized: call it once on an example, model(x), before it is differentiated");
  return mx_error(
      L, "cannot differentiate by %s%s%s of dtype %s (need float arrays; use partition to split off the others)",
      *path ? "'" : "an array", path, *path ? "'" : "", mx_dtype_name(x->aval.dtype));
}

static void trace_root(lua_State *L, mx_work *w, int root) {
  const mx_flat *args = mx_flat_at(L, w->args);
  for (int i = args->roots[root].first; i < mx_root_end(args, root); i++) {
    const mx_leaf *l = &args->leaves[i];
    if (l->kind == MX_LEAF_ARRAY && !mx_is_float(l->array->aval.dtype))
      bad_leaf(L, w->args, root, i - args->roots[root].first, l->array);
    if (l->kind <= MX_LEAF_INT) mx_work_trace(L, w, i, false);
  }
}

/* Marks the arguments that argnums (a number or a list, from 1) names; returns whether it is a list. */
static bool read_argnums(lua_State *L, int idx, int n_args, bool *chosen, int *order, int *n) {
  bool list = lua_type(L, idx) == LUA_TTABLE;
  *n = list ? (int)lua_rawlen(L, idx) : 1;
  for (int k = 0; k < *n; k++) {
    if (list) lua_rawgeti(L, idx, k + 1);
    else lua_pushvalue(L, idx);
    int64_t a = mx_check_int(L, -1, "argnums");
    lua_pop(L, 1);
    if (a < 0) a += n_args + 1;
    if (a < 1 || a > n_args)
      mx_error(L, "argnums %lld names no argument (got %d arguments, which count from 1)", (long long)a, n_args);
    order[k] = (int)a - 1;
    chosen[a - 1] = true;
  }
  return list;
}

/* The gradient of one argument: its tree, traced leaves replaced. `from` is the flat position among the traced ones. */
static void push_gradient(lua_State *L, mx_work *w, int root, mx_array *const *grads, const mx_linear *lin) {
  const mx_flat *args = mx_flat_at(L, w->args);
  int first = args->roots[root].first, k = 0;
  while (k < w->n && w->leaf[k] < first) k++;
  mx_flat_new(L);
  int to = lua_gettop(L);
  mx_flat_like(L, to, w->args, root);
  for (int i = first; i < mx_root_end(args, root); i++) {
    if (k < w->n && w->leaf[k] == i) {
      mx_array *g = grads[k] ? grads[k] : mx_zeros(w->c, &lin->in_avals[k]);
      if (!g) mx_raise(L);
      mx_leaf_set_array(L, to, i - first, g);
      k++;
    } else {
      mx_leaf_copy(L, to, i - first, w->args, i);
    }
  }
  mx_flat_build(L, to, 0);
  lua_remove(L, to);
}

static bool all_true(mx_work *w, bool **active) {
  *active = mx_arena_alloc(w->c, &w->memory, (size_t)(w->n + 1));
  if (!*active) return false;
  memset(*active, true, (size_t)w->n);
  return true;
}

static void linearize(lua_State *L, mx_work *w) {
  bool *active;
  mx_ok(L, all_true(w, &active));
  mx_ok(L, mx_linearize(w->c, mx_work_function(w), w->in.items, active, w->n, &w->out, &w->linear));
}

/* -- grad ---------------------------------------------------------------------------------------------------------- */

/* The value must be one float scalar: its cotangent is 1. */
static bool value_is_array(lua_State *L, mx_work *w) {
  const mx_flat *results = mx_flat_at(L, w->results);
  if (results->n_roots == 0) mx_error(L, "the function gave no result (need a scalar)");
  bool one = mx_treedef_leaves(results->roots[0].def) == 1 && results->roots[0].def == mx_treedef_leaf(L);
  if (!one) mx_error(L, "the function's first result is a tree (need a scalar)");
  const mx_leaf *l = &results->leaves[0];
  if (l->kind == MX_LEAF_FLOAT || l->kind == MX_LEAF_INT) return false;
  if (l->kind != MX_LEAF_ARRAY) mx_error(L, "the function's first result is no number (need a scalar array)");
  mx_text t;
  const mx_aval *a = &w->out.items[0]->aval;
  if (a->ndim != 0 || !mx_is_float(a->dtype))
    mx_error(L, "the function's first result must be a float scalar (got %s)", mx_aval_text(&t, a));
  return true;
}

static void backward(lua_State *L, mx_work *w) {
  bool array = value_is_array(L, w);
  mx_array **ct = mx_arena_alloc(w->c, &w->memory, (size_t)(w->out.n + 1) * sizeof *ct);
  mx_ok(L, ct != NULL);
  if (array) ct[0] = mx_scalar(w->c, w->out.items[0]->aval.dtype, 1);
  mx_ok(L, (!array || ct[0]) && mx_linear_transpose(w->c, w->linear, ct, &w->tangents));
}

static int push_outputs(lua_State *L, mx_work *w, int first) {
  const mx_flat *results = mx_flat_at(L, w->results);
  luaL_checkstack(L, results->n_roots + 8, "too many results");
  for (int r = first; r < results->n_roots; r++)
    mx_push_results(L, w->results, r, w->out.items + mx_arrays_before(results, r));
  return results->n_roots - first;
}

/* core.grad(op, f, argnums, with_value, ...) -> [value,] grads, aux... */
static int lgrad(lua_State *L) {
  mx_enter(L, luaL_checkstring(L, 1));
  int n_args = lua_gettop(L) - 4;
  if (n_args < 1) mx_error(L, "at least one argument is needed (got none)");
  mx_work *w = mx_work_new(L, 2, 5, n_args);
  bool *chosen = mx_arena_alloc(w->c, &w->memory, (size_t)n_args);
  int n, *order = mx_arena_alloc(w->c, &w->memory, ((size_t)n_args + lua_rawlen(L, 3) + 1) * sizeof *order);
  mx_ok(L, chosen && order);
  bool list = read_argnums(L, 3, n_args, chosen, order, &n);
  for (int i = 0; i < n_args; i++)
    if (chosen[i]) trace_root(L, w, mx_work_root(w, i));
  linearize(L, w);
  backward(L, w);
  int base = lua_gettop(L);
  bool with_value = lua_toboolean(L, 4);
  if (with_value) mx_push_results(L, w->results, 0, w->out.items);
  if (list) lua_createtable(L, n, 0);
  for (int k = 0; k < n; k++) {
    push_gradient(L, w, mx_work_root(w, order[k]), w->tangents.items, w->linear);
    if (list) lua_rawseti(L, -2, k + 1);
  }
  push_outputs(L, w, 1);
  mx_work_done(w);
  return lua_gettop(L) - base;
}

/* -- vjp, linearize: functions of a tape --------------------------------------------------------------------------- */

/* A Module gives its new state behind its one result. */
static void one_result(lua_State *L, mx_work *w) {
  int n = mx_flat_at(L, w->results)->n_roots;
  if (n != 1 + w->hidden) mx_error(L, "the function gave %d results (need one, which may be a tree)", n - w->hidden);
}

/* The state of a Module, which stands last among the results; nothing for a function. [-0, +0 or 1] */
static int push_state(lua_State *L, mx_work *w) {
  if (!w->hidden) return 0;
  mx_push_results(L, w->results, 1, w->out.items + mx_arrays_before(mx_flat_at(L, w->results), 1));
  return 1;
}

/* Array leaves of the value at idx, laid against the root `root` of the flat at `like`, into list (NULL: an empty
 * place, zero). */
static void read_like(lua_State *L, mx_work *w, int idx, int like, int root, const mx_aval *avals, int n,
                      const char *what, mx_list *list) {
  mx_flat_new(L);
  int at = lua_gettop(L);
  mx_flat_add(L, at, idx);
  const mx_flat *got = mx_flat_at(L, at), *want = mx_flat_at(L, like);
  if (got->roots[0].def != want->roots[root].def) {
    mx_flat_difference(L, at, 0, like, root);
    mx_error(L, "the %s has another structure: %s", what, lua_tostring(L, -1));
  }
  int k = 0, first = want->roots[root].first;
  for (int i = 0; i < got->n; i++) {
    if (want->leaves[first + i].kind > MX_LEAF_INT) continue;
    if (k == n) break;
    const mx_leaf *l = &got->leaves[i];
    mx_array *x = l->kind == MX_LEAF_ARRAY   ? l->array
                  : l->kind == MX_LEAF_FLOAT ? mx_scalar(w->c, avals[k].dtype, l->number)
                  : l->kind == MX_LEAF_INT   ? mx_scalar(w->c, avals[k].dtype, (double)l->integer)
                                             : NULL;
    mx_text s, t;
    if (!x && mx_failed(w->c)) mx_raise(L);
    if (!x || !mx_shape_equal(&x->aval, &avals[k]) || x->aval.dtype != avals[k].dtype) {
      mx_flat_path(L, like, root, i);
      const char *path = lua_tostring(L, -1);
      mx_error(L, "the %s%s%s does not fit (got %s, need %s)", what, *path ? " at " : "", path,
               x ? mx_aval_text(&s, &x->aval) : "no array", mx_aval_text(&t, &avals[k]));
    }
    mx_ok(L, mx_list_add(w->c, list, x));
    k++;
  }
  lua_settop(L, at - 1);
}

/* Closures over a work: upvalues state, work, flat of arguments, flat of results. A new work borrows the tape. */
static mx_work *tape_work(lua_State *L, mx_work **tape) {
  *tape = lua_touserdata(L, lua_upvalueindex(2));
  lua_pushvalue(L, lua_upvalueindex(3));
  mx_work *w = mx_work_over(L, 0, lua_gettop(L), (*tape)->hidden);
  lua_pushvalue(L, lua_upvalueindex(4));
  w->results = lua_gettop(L);
  w->n = (*tape)->n;
  w->leaf = (*tape)->leaf;
  return w;
}

static int lpullback(lua_State *L) {
  mx_enter(L, "pullback");
  mx_args(L, 1, 0);
  mx_work *tape, *w = tape_work(L, &tape);
  read_like(L, w, 1, w->results, 0, tape->linear->out_avals, tape->linear->n_out, "cotangent", &w->in);
  while (w->in.n < tape->linear->n_out) mx_ok(L, mx_list_add(w->c, &w->in, NULL)); /* the state has none */
  mx_ok(L, mx_linear_transpose(w->c, tape->linear, w->in.items, &w->out));
  const mx_flat *args = mx_flat_at(L, w->args);
  luaL_checkstack(L, args->n_roots + 8, "too many arguments");
  int base = lua_gettop(L);
  for (int r = tape->hidden; r < args->n_roots; r++) push_gradient(L, w, r, w->out.items, tape->linear);
  w->leaf = NULL;
  mx_work_done(w);
  return lua_gettop(L) - base;
}

/* Tangents, one an argument (false: zero), read against the arguments' structure, into w->in in the order of the traced
 * leaves. */
static void read_tangents(lua_State *L, mx_work *w, int first, int n_args, bool hidden, const mx_aval *avals,
                          mx_list *list) {
  const mx_flat *args = mx_flat_at(L, w->args);
  int k = 0;
  for (int i = 0; i < n_args; i++) {
    int root = i + hidden, n = 0;
    while (k + n < w->n && w->leaf[k + n] < mx_root_end(args, root)) n++;
    if (lua_isboolean(L, first + i) && !lua_toboolean(L, first + i)) {
      for (int j = 0; j < n; j++) mx_ok(L, mx_list_add(w->c, list, NULL));
    } else {
      read_like(L, w, first + i, w->args, root, avals + k, n, "tangent", list);
    }
    k += n;
  }
}

static void push_tangents(lua_State *L, mx_work *w, int like, mx_array *const *x, const mx_aval *avals, int n) {
  mx_array **full = mx_arena_alloc(w->c, &w->memory, (size_t)(n + 1) * sizeof *full);
  mx_ok(L, full != NULL);
  for (int k = 0; k < n; k++) mx_ok(L, (full[k] = x[k] ? x[k] : mx_zeros(w->c, &avals[k])) != NULL);
  mx_push_results(L, like, 0, full);
}

static int ljvp_fn(lua_State *L) {
  mx_enter(L, "jvp_fn");
  int n_args = lua_gettop(L);
  mx_work *tape, *w = tape_work(L, &tape);
  int need = mx_flat_at(L, w->args)->n_roots - tape->hidden;
  if (n_args != need) mx_error(L, "%d tangents were given (need %d, one an argument)", n_args, need);
  read_tangents(L, w, 1, n_args, tape->hidden, tape->linear->in_avals, &w->in);
  mx_ok(L, mx_linear_apply(w->c, tape->linear, w->in.items, &w->out));
  push_tangents(L, w, w->results, w->out.items, tape->linear->out_avals, w->out.n);
  w->leaf = NULL;
  mx_work_done(w);
  return 1;
}

/* core.vjp(f, ...) -> out, pullback [, state]; core.linearize(f, ...) -> out, jvp_fn [, state] */
static int linearized(lua_State *L, const char *op, lua_CFunction closure) {
  mx_enter(L, op);
  int n_args = lua_gettop(L) - 1;
  mx_work *w = mx_work_new(L, 1, 2, n_args);
  int work = lua_gettop(L);
  for (int i = 0; i < n_args; i++) trace_root(L, w, mx_work_root(w, i));
  linearize(L, w);
  one_result(L, w);
  mx_push_results(L, w->results, 0, w->out.items);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, work);
  lua_pushvalue(L, w->args);
  lua_pushvalue(L, w->results);
  lua_pushcclosure(L, closure, 4);
  int n = 2 + push_state(L, w);
  mx_list_release(w->c, &w->in);
  mx_list_release(w->c, &w->out);
  return n;
}

static int lvjp(lua_State *L) { return linearized(L, "vjp", lpullback); }
static int llinearize(lua_State *L) { return linearized(L, "linearize", ljvp_fn); }

/* -- jvp ----------------------------------------------------------------------------------------------------------- */

static int unpack_list(lua_State *L, int idx, const char *what) {
  if (!mx_is_plain_table(L, idx))
    mx_error(L, "%s must be a list, one entry an argument (got %s)", what, luaL_typename(L, idx));
  int n = (int)lua_rawlen(L, idx);
  luaL_checkstack(L, n + 16, "too many arguments");
  for (int i = 1; i <= n; i++) lua_rawgeti(L, idx, i);
  return n;
}

static const mx_aval *avals_of(mx_work *w) {
  mx_aval *avals = mx_arena_alloc(w->c, &w->memory, (size_t)(w->n + 1) * sizeof *avals);
  for (int k = 0; avals && k < w->n; k++) avals[k] = w->in.items[k]->aval;
  return avals;
}

/* Arrays of other dtypes have no tangent: they are traced only where their argument's tangent is not false. */
static int ljvp(lua_State *L) { /* stack: f, primals, tangents */
  mx_ctx *c = mx_enter(L, "jvp");
  mx_args(L, 3, 0);
  lua_settop(L, 3);
  int n = unpack_list(L, 2, "primals"), m = unpack_list(L, 3, "tangents");
  if (n != m) mx_error(L, "%d primals and %d tangents were given (need as many)", n, m);
  mx_work *w = mx_work_new(L, 1, 4, n);
  for (int i = 0; i < n; i++)
    if (lua_type(L, 4 + n + i) != LUA_TBOOLEAN) trace_root(L, w, mx_work_root(w, i));
  const mx_aval *avals = avals_of(w);
  mx_ok(L, avals != NULL);
  read_tangents(L, w, 4 + n, n, w->hidden, avals, &w->tangents);
  mx_ok(L, mx_jvp(c, mx_work_function(w), w->in.items, w->tangents.items, w->n, &w->out, &w->out_tangents));
  one_result(L, w);
  mx_push_results(L, w->results, 0, w->out.items);
  mx_aval *out = mx_arena_alloc(c, &w->memory, (size_t)(w->out.n + 1) * sizeof *out);
  mx_ok(L, out != NULL);
  for (int k = 0; k < w->out.n; k++) out[k] = w->out.items[k]->aval;
  push_tangents(L, w, w->results, w->out_tangents.items, out, w->out.n);
  n = 2 + push_state(L, w);
  mx_work_done(w);
  return n;
}

static int lstop_gradient(lua_State *L) { /* core.stop_gradient(array) */
  mx_ctx *c = mx_enter(L, "stop_gradient");
  return mx_push(L, mx_stop_gradient(c, mx_check_strict(L, 1, "x")));
}

static const mx_reg functions[] = {
    {"grad", lgrad, MX_IN_CORE},
    {"vjp", lvjp, MX_IN_CORE},
    {"jvp", ljvp, MX_IN_CORE},
    {"linearize", llinearize, MX_IN_CORE},
    {"stop_gradient", lstop_gradient, MX_IN_CORE},
    {NULL, NULL, 0},
};

void mx_open_grad(lua_State *L) { mx_register(L, functions); }
