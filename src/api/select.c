/* select.c: filter, partition, combine. They work on flats: a part is the module's structure in which the leaf
 * Parameters that were left out have no data, and the leaves of the others. With the default predicate no module is
 * opened. */
#include "tree_impl.h"

typedef struct part {
  lua_State *L;
  int from, to; /* stack indices of flats */
  int kept;     /* stack index of the list of decisions, a boolean a leaf Parameter; 0: keep what is trainable */
  bool want;    /* the decision that keeps */
  int leaf;     /* the next leaf of `from` */
  int param;    /* leaf Parameters passed */
} part;

static bool is_leaf_param(const mx_treedef *def) { return def->kind == MX_NODE_PARAMETER && def->trainable >= 0; }

/* -- decisions ----------------------------------------------------------------------------------------------------- */

typedef struct visit {
  lua_State *L;
  int f, kept; /* stack indices: the predicate, the list of decisions */
  bool with_path;
  int n;
} visit;

static void visit_node(visit *v, const mx_treedef *def, int idx, const mx_segment *at);

static void visit_child(visit *v, const mx_treedef *def, const mx_segment *at, const char *key, size_t length,
                        lua_Integer i) { /* [-1, +0] */
  mx_segment s = {at, key, length, i, NULL, at->depth + 1, false};
  visit_node(v, def, lua_gettop(v->L), &s);
  lua_pop(v->L, 1);
}

static void ask(visit *v, int idx, const mx_segment *at) { /* kept[n] = f([path,] param) */
  lua_State *L = v->L;
  lua_pushvalue(L, v->f);
  if (v->with_path) mx_path_push(L, at);
  lua_pushvalue(L, idx);
  lua_call(L, v->with_path ? 2 : 1, 1);
  lua_pushboolean(L, lua_toboolean(L, -1));
  lua_rawseti(L, v->kept, ++v->n);
  lua_pop(L, 1);
}

/* Follows def through the living tree, so that the predicate sees the module's own Parameters. */
static void visit_node(visit *v, const mx_treedef *def, int idx, const mx_segment *at) {
  lua_State *L = v->L;
  luaL_checkstack(L, 12, "a tree is too deep");
  if (is_leaf_param(def)) {
    ask(v, idx, at);
    return;
  }
  if (def->n == 0) return;
  int top = lua_gettop(L);
  if (def->kind == MX_NODE_CLASS) mx_class_flatten(L, idx);
  else lua_pushvalue(L, idx);
  for (int i = 0; i < (def->n_slots ? def->n_slots : def->n); i++) {
    bool named = def->kind == MX_NODE_DICT || def->kind == MX_NODE_MODULE;
    if (named && def->slots[i].child < 0) continue;
    const mx_treedef *child = def->children[named ? def->slots[i].child : def->kind == MX_NODE_PARAMETER ? 0 : i];
    const char *key = named ? def->slots[i].key : def->kind == MX_NODE_PARAMETER ? "data" : NULL;
    size_t length = named ? def->slots[i].length : 4;
    if (key) {
      lua_pushlstring(L, key, length);
      lua_gettable(L, top + 1);
    } else lua_rawgeti(L, top + 1, i + 1);
    visit_child(v, child, at, key, length, i + 1);
    if (def->kind == MX_NODE_PARAMETER) break;
  }
  lua_settop(L, top);
}

/* Pushes the list of decisions for the module at 1 and the predicate at f. [-0, +1] */
static int decide(lua_State *L, const mx_treedef *def, int f, bool with_path, const char *op) {
  mx_segment root = {0};
  lua_newtable(L);
  visit v = {L, f, lua_gettop(L), with_path, 0};
  visit_node(&v, def, 1, &root);
  mx_enter(L, op);
  return v.kept;
}

/* -- cutting ------------------------------------------------------------------------------------------------------- */

static bool keeps(part *p, const mx_treedef *def) {
  lua_State *L = p->L;
  p->param++;
  if (!p->kept) return (def->trainable == 1) == p->want;
  lua_rawgeti(L, p->kept, p->param);
  bool kept = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return kept == p->want;
}

static const mx_treedef *take_whole(part *p, const mx_treedef *def) { /* [-0, +1] */
  mx_flat_copy(p->L, p->to, p->from, p->leaf, def->leaves);
  p->leaf += def->leaves;
  mx_treedef_push(p->L, def);
  return def;
}

/* Pushes the structure of what is left of def, and adds its leaves. [-0, +1] */
static const mx_treedef *cut(part *p, const mx_treedef *def) {
  lua_State *L = p->L;
  luaL_checkstack(L, 12, "a tree is too deep");
  if (is_leaf_param(def) && !keeps(p, def) && def->children[0]->kind != MX_NODE_EMPTY) {
    p->leaf += def->leaves;
    return mx_treedef_replace(L, def, (const mx_treedef *const[]){mx_trees_of(L)->empty});
  }
  if (is_leaf_param(def) || def->n == 0) return take_whole(p, def);
  int top = lua_gettop(L);
  const mx_treedef **children = lua_newuserdatauv(L, (size_t)def->n * sizeof *children, 0);
  lua_createtable(L, def->n, 0); /* keeps them alive */
  bool same = true;
  for (int i = 0; i < def->n; i++) {
    children[i] = cut(p, def->children[i]);
    same &= children[i] == def->children[i];
    lua_rawseti(L, top + 2, i + 1);
  }
  if (same) mx_treedef_push(L, def);
  else def = mx_treedef_replace(L, def, children);
  lua_insert(L, top + 1);
  lua_settop(L, top + 1);
  return def;
}

/* The leaves alone, by the default predicate. */
static void cut_leaves(part *p, const mx_treedef *def) {
  if (is_leaf_param(def) && (def->trainable == 1) != p->want) p->leaf += def->leaves;
  else if (is_leaf_param(def) || def->n == 0) {
    mx_flat_copy(p->L, p->to, p->from, p->leaf, def->leaves);
    p->leaf += def->leaves;
  } else
    for (int i = 0; i < def->n; i++) cut_leaves(p, def->children[i]);
}

/* The two parts of a structure by the default predicate are remembered with it. Pushes the one that is wanted, and adds
 * its leaves.
 * [-0, +1] */
static void cut_default(part *p, const mx_treedef *def) {
  static const char parts_key = 0; /* registry: treedef -> {[1] = trainable part, [2] = rest}, weak keys */
  lua_State *L = p->L;
  int top = lua_gettop(L);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &parts_key) != LUA_TTABLE) {
    lua_settop(L, top);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &parts_key);
  }
  mx_treedef_push(L, def);
  if (lua_rawget(L, top + 1) != LUA_TTABLE) {
    lua_settop(L, top + 1);
    mx_treedef_push(L, def);
    lua_createtable(L, 2, 0);
    lua_pushvalue(L, -1);
    lua_insert(L, top + 2);
    lua_rawset(L, top + 1);
  }
  if (lua_rawgeti(L, top + 2, 2 - p->want) == LUA_TUSERDATA) cut_leaves(p, def);
  else {
    cut(p, def);
    lua_pushvalue(L, -1);
    lua_rawseti(L, top + 2, 2 - p->want);
  }
  lua_insert(L, top + 1);
  lua_settop(L, top + 1);
}

/* The part of the flat at `from` whose decisions are `want`. [-0, +1] */
static void push_part(lua_State *L, int from, int kept, bool want) {
  int top = lua_gettop(L);
  mx_flat_new(L);
  part p = {.L = L, .from = from, .to = top + 1, .kept = kept, .want = want};
  const mx_treedef *def = mx_flat_at(L, from)->roots[0].def;
  if (kept) cut(&p, def);
  else cut_default(&p, def);
  mx_flat_build(L, top + 1, mx_flat_root(L, top + 1, top + 2, 0));
  lua_insert(L, top + 1);
  lua_settop(L, top + 1);
}

/* stack: module, f or nil, inverse -> parts */
static int select_parts(lua_State *L, const char *op, bool with_path, bool both) {
  mx_enter(L, op);
  lua_settop(L, 3);
  mx_module *m = mx_to_module(L, 1);
  if (!m) return mx_error(L, "a module is needed (got %s)", mx_show(L, 1));
  if (!m->initialized) return mx_error(L, "the module is not initialized (call it once, or set it up)");
  if ((with_path || !lua_isnil(L, 2)) && !lua_isfunction(L, 2))
    return mx_error(L, "the predicate must be a function (got %s)", mx_show(L, 2));
  mx_flat_new(L);
  mx_flat_add(L, 4, 1);
  int kept = lua_isnil(L, 2) ? 0 : decide(L, mx_flat_at(L, 4)->roots[0].def, 2, with_path, op);
  bool inverse = !both && lua_toboolean(L, 3);
  push_part(L, 4, kept, !inverse);
  if (both) push_part(L, 4, kept, false);
  return 1 + both;
}

static int lmodule_filter(lua_State *L) { return select_parts(L, "filter", false, false); }
static int lmodule_filter_with_path(lua_State *L) { return select_parts(L, "filter_with_path", true, false); }
static int lmodule_partition(lua_State *L) { return select_parts(L, "partition", false, true); }
static int lmodule_partition_with_path(lua_State *L) { return select_parts(L, "partition_with_path", true, true); }

/* -- combine ------------------------------------------------------------------------------------------------------- */

typedef struct source {
  int flat, leaf; /* stack index, its next leaf */
} source;

typedef struct join {
  lua_State *L;
  int n, to; /* sources (the module itself first), stack index of the result */
  source *sources;
} join;

static const mx_treedef *join_nodes(join *j, const mx_treedef *const *defs, const mx_segment *at); /* [-0, +1] */

/* The node of source k, moving on past its leaves. */
static void pass(join *j, const mx_treedef *const *defs) {
  for (int k = 0; k < j->n; k++) j->sources[k].leaf += defs[k]->leaves;
}

static void check_alike(join *j, const mx_treedef *a, const mx_treedef *b, const mx_segment *at) {
  lua_State *L = j->L;
  bool alike = a->kind == b->kind && a->n == b->n && a->class == b->class;
  for (int i = 0; i < a->n_slots && alike && a->kind != MX_NODE_PARAMETER; i++) {
    int k = mx_treedef_find(b, a->slots[i].key, a->slots[i].length);
    alike = a->slots[i].child < 0 || (k >= 0 && b->slots[k].child == a->slots[i].child);
  }
  if (alike) return;
  mx_path_push(L, at);
  mx_treedef_text(L, a, 100);
  mx_treedef_text(L, b, 100);
  mx_error(L, "modules of different structure at '%s': %s and %s", lua_tostring(L, -3), lua_tostring(L, -2),
           lua_tostring(L, -1));
}

/* A leaf Parameter: the data of the first of the others that has some, else its own. */
static const mx_treedef *join_param(join *j, const mx_treedef *const *defs) {
  int from = 0;
  for (int k = j->n - 1; k > 0; k--)
    if (defs[k]->children[0]->kind != MX_NODE_EMPTY) from = k;
  const mx_treedef *data = defs[from]->children[0], *def = defs[0];
  mx_flat_copy(j->L, j->to, j->sources[from].flat, j->sources[from].leaf, data->leaves);
  if (data == def->children[0]) mx_treedef_push(j->L, def);
  else def = mx_treedef_replace(j->L, def, &data);
  pass(j, defs);
  return def;
}

static const mx_treedef *join_children(join *j, const mx_treedef *const *defs, const mx_segment *at) {
  lua_State *L = j->L;
  const mx_treedef *def = defs[0];
  int top = lua_gettop(L);
  const mx_treedef **made = lua_newuserdatauv(L, (size_t)(def->n + j->n) * sizeof *made, 0), **row = made + def->n;
  lua_createtable(L, def->n, 0); /* keeps them alive */
  bool same = true;
  for (int i = 0; i < def->n; i++) {
    mx_segment s = mx_child_segment(at, def, i);
    for (int k = 0; k < j->n; k++) row[k] = defs[k]->children[i];
    made[i] = join_nodes(j, row, &s);
    same &= made[i] == def->children[i];
    lua_rawseti(L, top + 2, i + 1);
  }
  if (same) mx_treedef_push(L, def);
  else def = mx_treedef_replace(L, def, made);
  lua_insert(L, top + 1);
  lua_settop(L, top + 1);
  return def;
}

static const mx_treedef *join_nodes(join *j, const mx_treedef *const *defs, const mx_segment *at) {
  lua_State *L = j->L;
  const mx_treedef *def = defs[0];
  luaL_checkstack(L, 12, "a tree is too deep");
  if (def->n == 0) { /* a leaf or nothing: the module's own */
    mx_flat_copy(L, j->to, j->sources[0].flat, j->sources[0].leaf, def->leaves);
    pass(j, defs);
    mx_treedef_push(L, def);
    return def;
  }
  for (int k = 1; k < j->n; k++) check_alike(j, def, defs[k], at);
  return is_leaf_param(def) ? join_param(j, defs) : join_children(j, defs, at);
}

static int lmodule_combine(lua_State *L) { /* model:combine(...) */
  mx_enter(L, "combine");
  int n = lua_gettop(L);
  if (n == 0) lua_settop(L, n = 1);
  luaL_checkstack(L, n + 12, "too many modules");
  join j = {.L = L, .n = n};
  j.sources = lua_newuserdatauv(L, (size_t)n * (sizeof *j.sources + sizeof(mx_treedef *)), 0);
  const mx_treedef **defs = (const mx_treedef **)(j.sources + n);
  for (int k = 0; k < n; k++) {
    if (!mx_to_module(L, k + 1))
      return mx_error(L, "modules are combined (got %s as argument %d)", mx_show(L, k + 1), k);
    mx_flat_new(L);
    int root = mx_flat_add(L, -1, k + 1);
    defs[k] = mx_flat_at(L, -1)->roots[root].def;
    j.sources[k] = (source){lua_gettop(L), 0};
  }
  mx_segment root = {0};
  mx_flat_new(L);
  j.to = lua_gettop(L);
  join_nodes(&j, defs, &root);
  mx_flat_build(L, j.to, mx_flat_root(L, j.to, j.to + 1, 0));
  return 1;
}

const luaL_Reg mx_select_methods[] = {
    {"filter", lmodule_filter},       {"filter_with_path", lmodule_filter_with_path},
    {"partition", lmodule_partition}, {"partition_with_path", lmodule_partition_with_path},
    {"combine", lmodule_combine},     {NULL, NULL}};
