/* tree.c: mlax.tree, the part that is hot. What is composed of it is in lua/mlax/tree.lua. */
#include "array_impl.h"
#include "tree_impl.h"

#include <math.h>

static const mx_option until_options[] = {{"is_leaf", MX_OPT_VALUE, 0}, {NULL, 0, 0}};

/* The stack index of the option is_leaf of the table at `options`, or 0. [-0, +1 or 0] */
static int read_is_leaf(lua_State *L, int options) {
  int is_leaf = 0;
  mx_options(L, options, until_options, &is_leaf);
  if (is_leaf && !lua_isfunction(L, is_leaf)) mx_error(L, "is_leaf must be a function (got %s)", mx_show(L, is_leaf));
  return is_leaf;
}

static const mx_treedef *root_def(lua_State *L, int flat) { return mx_flat_at(L, flat)->roots[0].def; }

static void check_function(lua_State *L, int idx, const char *what) {
  if (lua_isfunction(L, idx) || luaL_getmetafield(L, idx, "__call") != LUA_TNIL) return;
  mx_error(L, "%s must be a function (got %s)", what, mx_show(L, idx));
}

/* Flattens the value at 1; the options are at 2. Pushes the flat. [-0, +1 or 2] */
static int flatten_first(lua_State *L, const char *op) {
  mx_enter(L, op);
  int options = mx_args(L, 1, 0), is_leaf = read_is_leaf(L, options);
  mx_flat_new(L);
  int flat = lua_gettop(L);
  mx_flat_add_until(L, flat, 1, is_leaf);
  return flat;
}

static void push_leaves(lua_State *L, int flat) { /* [-0, +1] */
  int n = mx_flat_at(L, flat)->n;
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    mx_leaf_push(L, flat, i);
    lua_rawseti(L, -2, i + 1);
  }
}

static int ltree_flatten(lua_State *L) { /* flatten(t [, {is_leaf = f}]) -> leaves, treedef */
  int flat = flatten_first(L, "tree.flatten");
  push_leaves(L, flat);
  mx_treedef_push(L, root_def(L, flat));
  return 2;
}

static int ltree_leaves(lua_State *L) {
  push_leaves(L, flatten_first(L, "tree.leaves"));
  return 1;
}

static int ltree_structure(lua_State *L) {
  mx_treedef_push(L, root_def(L, flatten_first(L, "tree.structure")));
  return 1;
}

static int ltree_unflatten(lua_State *L) { /* unflatten(treedef, leaves) */
  mx_enter(L, "tree.unflatten");
  mx_no_options(L, mx_args(L, 2, 0));
  const mx_treedef *def = mx_treedef_check(L, 1);
  int64_t n = mx_check_length(L, 2, "leaves");
  if (n != def->leaves) return mx_error(L, "the number of leaves does not fit (got %d, need %d)", (int)n, def->leaves);
  mx_flat_new(L);
  int flat = lua_gettop(L), root = mx_flat_root(L, flat, 1, 0);
  mx_flat_room(L, flat, def->leaves);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 2, i + 1);
    mx_leaf_set_value(L, flat, i, -1);
    lua_pop(L, 1);
  }
  mx_flat_build(L, flat, root);
  return 1;
}

/* -- paths --------------------------------------------------------------------------------------------------------- */

static void keep_path(lua_State *L, void *ud, int leaf) { /* stack: ..., path */
  lua_pushvalue(L, -1);
  lua_rawseti(L, *(int *)ud, leaf + 1);
}

static int push_paths(lua_State *L, int flat) { /* a list of the paths of root 0's leaves; its index. [-0, +1] */
  lua_createtable(L, mx_flat_at(L, flat)->n, 0);
  int list = lua_gettop(L);
  mx_treedef_paths(L, root_def(L, flat), keep_path, &list);
  return list;
}

static int ltree_leaves_with_path(lua_State *L) { /* -> list of {path, leaf} */
  int flat = flatten_first(L, "tree.leaves_with_path"), paths = push_paths(L, flat), n = mx_flat_at(L, flat)->n;
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_createtable(L, 2, 0);
    lua_rawgeti(L, paths, i + 1);
    lua_rawseti(L, -2, 1);
    mx_leaf_push(L, flat, i);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* -- map ----------------------------------------------------------------------------------------------------------- */

typedef struct map_call {
  const char *op;
  int f, first, n; /* stack indices of the function and of the first of n flats, which lie behind one another */
  int paths;       /* stack index of the list of paths; 0: f gets none */
  int to;          /* stack index of the flat of results */
} map_call;

static void map_leaf(lua_State *L, const map_call *m, int i) {
  lua_pushvalue(L, m->f);
  if (m->paths) lua_rawgeti(L, m->paths, i + 1);
  for (int k = 0; k < m->n; k++) mx_leaf_push(L, m->first + k, i);
  lua_call(L, m->n + (m->paths != 0), 1);
  if (lua_isnil(L, -1)) {
    mx_enter(L, m->op);
    mx_flat_path(L, m->first, 0, i);
    mx_error(L, "the function gave nil at '%s' (return false for an empty place)", lua_tostring(L, -1));
  }
  mx_leaf_set_value(L, m->to, i, -1);
  lua_pop(L, 1);
}

/* stack: [is_leaf,] f, t, others...; f stands at index f */
static int map_trees(lua_State *L, const char *op, int f, int is_leaf, bool with_path) {
  int n = lua_gettop(L) - f;
  mx_enter(L, op);
  if (n < 1) return mx_error(L, "a function and a tree are needed");
  check_function(L, f, "f");
  if (is_leaf) check_function(L, is_leaf, "is_leaf");
  lua_settop(L, f + n);
  luaL_checkstack(L, 2 * n + 24, "too many trees");
  map_call m = {.op = op, .f = f, .first = f + n + 1, .n = n};
  for (int k = 0; k < n; k++) {
    mx_flat_new(L);
    if (k == 0) mx_flat_add_until(L, m.first, f + 1, is_leaf);
    else mx_flat_add_like(L, m.first + k, root_def(L, m.first), f + 1 + k);
  }
  if (with_path) m.paths = push_paths(L, m.first);
  mx_flat_new(L);
  m.to = lua_gettop(L);
  mx_flat_like(L, m.to, m.first, 0);
  int leaves = mx_flat_at(L, m.first)->n;
  for (int i = 0; i < leaves; i++) map_leaf(L, &m, i);
  mx_enter(L, op);
  mx_flat_build(L, m.to, 0);
  return 1;
}

static int ltree_map(lua_State *L) { return map_trees(L, "tree.map", 1, 0, false); }
static int ltree_map_with_path(lua_State *L) { return map_trees(L, "tree.map_with_path", 1, 0, true); }
static int ltree_map_until(lua_State *L) { return map_trees(L, "tree.map_until", 2, 1, false); }

/* -- comparing ----------------------------------------------------------------------------------------------------- */

typedef struct tolerance {
  double rtol, atol;
} tolerance;

typedef struct close_test {
  int x, y; /* dtypes */
  tolerance t;
  bool close;
} close_test;

static bool is_close(double x, double y, tolerance t) { /* |x - y| <= atol + rtol |y|; infinities equal themselves */
  return x == y || (isfinite(y) && fabs(x - y) <= t.atol + t.rtol * fabs(y));
}

static void run_close(void *arg, int64_t n, char *const *p, const int64_t *stride) {
  close_test *c = arg;
  for (int64_t i = 0; i < n && c->close; i++)
    c->close = is_close(mx_load_double(c->x, p[0] + i * stride[0]), mx_load_double(c->y, p[1] + i * stride[1]), c->t);
}

static bool arrays_close(const mx_array *x, const mx_array *y, tolerance t) {
  if (!mx_shape_equal(&x->aval, &y->aval)) return false;
  if (x->aval.size == 0) return true;
  close_test c = {x->aval.dtype, y->aval.dtype, t, true};
  char *base[2] = {mx_data(x), mx_data(y)};
  const int64_t *strides[2] = {x->strides, y->strides};
  mx_iterate(x->aval.ndim, x->aval.shape, 2, base, strides, run_close, &c);
  return c.close;
}

/* Puts the values behind the arrays of a flat in their place; raises where there is none. */
static void settle_values(lua_State *L, int flat) {
  mx_ctx *c = &mx_state_of(L)->ctx;
  const mx_flat *f = mx_flat_at(L, flat);
  for (int i = 0; i < f->n; i++) {
    if (f->leaves[i].kind != MX_LEAF_ARRAY) continue;
    mx_ok(L, mx_usable(c, f->leaves[i].array));
    mx_array *x = mx_value_of(c, f->leaves[i].array);
    if (x) mx_leaf_set_array(L, flat, i, x);
    else {
      mx_flat_path(L, flat, 0, i);
      mx_error(L, "a traced array holds no value to compare (at '%s')", lua_tostring(L, -1));
    }
  }
}

static bool leaves_same(const mx_leaf *a, const mx_leaf *b) {
  if (a->kind != b->kind) return false;
  switch (a->kind) {
  case MX_LEAF_ARRAY: return mx_array_same(a->array, b->array);
  case MX_LEAF_FLOAT: return a->number == b->number || (a->number != a->number && b->number != b->number);
  case MX_LEAF_INT: return a->integer == b->integer;
  case MX_LEAF_BOOL: return a->boolean == b->boolean;
  case MX_LEAF_OTHER: return a->identity == b->identity;
  }
  return false;
}

static bool leaf_number(const mx_leaf *l, double *v) {
  if (l->kind != MX_LEAF_FLOAT && l->kind != MX_LEAF_INT) return false;
  *v = l->kind == MX_LEAF_INT ? (double)l->integer : l->number;
  return true;
}

static bool leaves_close(const mx_leaf *a, const mx_leaf *b, tolerance t) {
  double x, y;
  if (a->kind == MX_LEAF_ARRAY && b->kind == MX_LEAF_ARRAY) return arrays_close(a->array, b->array, t);
  if (leaf_number(a, &x) && leaf_number(b, &y)) return is_close(x, y, t);
  return leaves_same(a, b);
}

/* The values at 1 and 2 as two flats of values. [-0, +2] */
static bool flatten_two(lua_State *L) { /* whether their structures are equal */
  int top = lua_gettop(L);
  for (int k = 1; k <= 2; k++) {
    mx_flat_new(L);
    mx_flat_add(L, top + k, k);
    settle_values(L, top + k);
  }
  return root_def(L, top + 1) == root_def(L, top + 2);
}

static int ltree_equal(lua_State *L) { /* equal(a, b): structure, dtypes, shapes, values; NaN equals NaN */
  mx_enter(L, "tree.equal");
  mx_no_options(L, mx_args(L, 2, 0));
  int top = lua_gettop(L);
  bool same = flatten_two(L);
  const mx_flat *a = mx_flat_at(L, top + 1), *b = mx_flat_at(L, top + 2);
  for (int i = 0; same && i < a->n; i++) same = leaves_same(&a->leaves[i], &b->leaves[i]);
  lua_pushboolean(L, same);
  return 1;
}

static const mx_option close_options[] = {{"rtol", MX_OPT_NUMBER, offsetof(tolerance, rtol)},
                                          {"atol", MX_OPT_NUMBER, offsetof(tolerance, atol)},
                                          {NULL, 0, 0}};

static int ltree_allclose(lua_State *L) { /* allclose(a, b [, {rtol =, atol =}]) */
  tolerance t = {1e-5, 1e-8};
  mx_enter(L, "tree.allclose");
  mx_options(L, mx_args(L, 2, 0), close_options, &t);
  int top = lua_gettop(L);
  bool close = flatten_two(L);
  const mx_flat *a = mx_flat_at(L, top + 1), *b = mx_flat_at(L, top + 2);
  for (int i = 0; close && i < a->n; i++) close = leaves_close(&a->leaves[i], &b->leaves[i], t);
  lua_pushboolean(L, close);
  return 1;
}

/* -- for the Lua half ---------------------------------------------------------------------------------------------- */

static void keep_value(lua_State *L, void *ud, int leaf, int value) {
  lua_pushvalue(L, value);
  lua_rawseti(L, *(int *)ud, leaf + 1);
}

static int ltree_prefix(
    lua_State *L) { /* core.tree_prefix(prefix, t) -> for each leaf of t, the value of prefix that governs it */
  mx_enter(L, "tree");
  lua_settop(L, 2);
  mx_flat_new(L);
  mx_flat_add(L, 3, 2);
  lua_newtable(L);
  int list = 4;
  mx_flat_prefix(L, 3, 0, 1, keep_value, &list);
  lua_settop(L, 4);
  return 1;
}

/* core.tree_for_file(t) -> the leaves of t, their names in a file, their paths, the path of a Module that has not been
 * set up (nil: there is none) */
static int ltree_for_file(lua_State *L) {
  mx_enter(L, "tree");
  lua_settop(L, 1);
  mx_flat_new(L);
  int flat = 2, names = 4;
  mx_flat_add(L, flat, 1);
  push_leaves(L, flat);
  lua_createtable(L, mx_flat_at(L, flat)->n, 0);
  mx_treedef_names(L, root_def(L, flat), keep_path, &names);
  push_paths(L, flat);
  mx_treedef_unset(L, root_def(L, flat));
  return 4;
}

static int
ltree_difference(lua_State *L) { /* core.tree_difference(a, b) -> text, or nil where their structures are equal */
  mx_enter(L, "tree");
  lua_settop(L, 2);
  for (int k = 1; k <= 2; k++) {
    mx_flat_new(L);
    mx_flat_add(L, 2 + k, k);
  }
  mx_flat_difference(L, 3, 0, 4, 0);
  return 1;
}

static int ltree_up_to(lua_State *L) { /* core.tree_up_to(treedef, t) -> the subtrees of t at the leaves of treedef */
  mx_enter(L, "tree.transpose");
  lua_settop(L, 2);
  mx_flat_new(L);
  mx_flat_add_like(L, 3, mx_treedef_check(L, 1), 2);
  push_leaves(L, 3);
  return 1;
}

static int
ltree_children(lua_State *L) { /* core.tree_children(object) -> children, aux; nil: no object of a registered class */
  mx_enter(L, "tree");
  lua_settop(L, 1);
  if (!lua_istable(L, 1) || !lua_getmetatable(L, 1) || !mx_class_spec(L)) return 0;
  mx_class_flatten(L, 1);
  return 2;
}

static int ltree_rebuild(lua_State *L) { /* core.tree_rebuild(object, aux, children) -> an object of the same class */
  mx_enter(L, "tree");
  lua_settop(L, 3);
  if (!lua_istable(L, 1) || !lua_getmetatable(L, 1) || !mx_class_spec(L))
    return mx_error(L, "no object of a registered class");
  lua_getfield(L, -1, "unflatten");
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 3);
  lua_call(L, 2, 1);
  return 1;
}

static const mx_reg functions[] = {{"flatten", ltree_flatten, MX_IN_TREE},
                                   {"unflatten", ltree_unflatten, MX_IN_TREE},
                                   {"structure", ltree_structure, MX_IN_TREE},
                                   {"leaves", ltree_leaves, MX_IN_TREE},
                                   {"leaves_with_path", ltree_leaves_with_path, MX_IN_TREE},
                                   {"map", ltree_map, MX_IN_TREE},
                                   {"map_with_path", ltree_map_with_path, MX_IN_TREE},
                                   {"map_until", ltree_map_until, MX_IN_TREE},
                                   {"equal", ltree_equal, MX_IN_TREE},
                                   {"allclose", ltree_allclose, MX_IN_TREE},
                                   {"tree_prefix", ltree_prefix, MX_IN_CORE},
                                   {"tree_for_file", ltree_for_file, MX_IN_CORE},
                                   {"tree_difference", ltree_difference, MX_IN_CORE},
                                   {"tree_up_to", ltree_up_to, MX_IN_CORE},
                                   {"tree_children", ltree_children, MX_IN_CORE},
                                   {"tree_rebuild", ltree_rebuild, MX_IN_CORE},
                                   {NULL, NULL, 0}};

void mx_open_tree(lua_State *L) { /* stack: core */
  mx_open_treedef(L);
  mx_open_flat(L);
  mx_open_walk(L);
  mx_register(L, functions);
  lua_getfield(L, -1, "tree");
  mx_fill_late(L, -1, "mlax.tree");
  lua_pop(L, 1);
}
