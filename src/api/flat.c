/* flat.c: lists of leaves with the treedefs they hang on, and the way back from them to Lua values. */
#include "tree_impl.h"

static const char meta_key = 0; /* registry: the metatable */

/* What mx_flat_new really makes. The engine is retained, since finalizers run in any order. */
typedef struct flat_box {
  mx_flat flat; /* first: mx_flat_at gives its address */
  mlax_engine *engine;
  bool loose;
  int anchors; /* entries of the table of anchors */
} flat_box;
/* User values: the leaves that are other Lua values, by leaf number from 1; treedefs and interned strings in any order.
 */
enum { FLAT_VALUES = 1, FLAT_ANCHORS, FLAT_USER_VALUES = FLAT_ANCHORS };

static flat_box *box_at(lua_State *L, int idx) { return lua_touserdata(L, idx); }
mx_flat *mx_flat_at(lua_State *L, int idx) { return &box_at(L, idx)->flat; }
bool mx_flat_loose(lua_State *L, int flat) { return box_at(L, flat)->loose; }

static int lflat_gc(lua_State *L) {
  flat_box *b = lua_touserdata(L, 1);
  mx_flat *f = &b->flat;
  if (!b->engine) return 0;
  for (int i = 0; i < f->n; i++)
    if (f->leaves[i].kind == MX_LEAF_ARRAY) mx_release(f->leaves[i].array);
  mx_free(b->engine, f->leaves, (size_t)f->cap * sizeof *f->leaves);
  mx_free(b->engine, f->roots, (size_t)f->roots_cap * sizeof *f->roots);
  mlax_engine_release(b->engine);
  memset(b, 0, sizeof *b);
  return 0;
}

mx_flat *mx_flat_new(lua_State *L) {
  luaL_checkstack(L, 8, NULL);
  flat_box *b = lua_newuserdatauv(L, sizeof *b, FLAT_USER_VALUES);
  memset(b, 0, sizeof *b);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &meta_key);
  mx_own(L);
  b->engine = mx_engine_retain(mx_state_of(L)->ctx.engine);
  return &b->flat;
}

void mx_flat_clear(lua_State *L, int flat) {
  flat_box *b = box_at(L, flat);
  mx_flat *f = &b->flat;
  flat = lua_absindex(L, flat);
  int n = f->n;
  f->n = f->n_roots = b->anchors = 0;
  b->loose = false;
  for (int i = 0; i < n; i++)
    if (f->leaves[i].kind == MX_LEAF_ARRAY) mx_release(f->leaves[i].array);
  for (int which = FLAT_VALUES; which <= FLAT_ANCHORS; which++) {
    lua_pushnil(L);
    lua_setiuservalue(L, flat, which);
  }
}

/* -- leaves -------------------------------------------------------------------------------------------------------- */

static mx_ctx *ctx_of(lua_State *L) { return &mx_state_of(L)->ctx; }

/* Unset: OTHER without identity, pushed as nil. */
mx_leaf *mx_flat_room(lua_State *L, int flat, int n) {
  mx_flat *f = mx_flat_at(L, flat);
  if (n > INT32_MAX / 2 - f->n) mx_error(L, "a tree has too many leaves");
  if (!mx_grow(ctx_of(L), &f->leaves, &f->cap, f->n + n, sizeof *f->leaves)) mx_raise(L);
  mx_leaf *l = f->leaves + f->n;
  for (int i = 0; i < n; i++) l[i] = (mx_leaf){.kind = MX_LEAF_OTHER};
  f->n += n;
  return l;
}

/* Pushes the table at user value `which`, made on first use. [-0, +1] */
static void push_table(lua_State *L, int flat, int which) {
  flat = lua_absindex(L, flat);
  if (lua_getiuservalue(L, flat, which) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_createtable(L, 4, 0);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, flat, which);
}

static void anchor_top(lua_State *L, int flat) { /* [-1, +0] */
  flat = lua_absindex(L, flat);
  push_table(L, flat, FLAT_ANCHORS);
  lua_insert(L, -2);
  lua_rawseti(L, -2, ++box_at(L, flat)->anchors);
  lua_pop(L, 1);
}

int mx_flat_root(lua_State *L, int flat, int def, int first) {
  flat = lua_absindex(L, flat);
  mx_flat *f = mx_flat_at(L, flat);
  const mx_treedef *d = lua_touserdata(L, def);
  if (!mx_grow(ctx_of(L), &f->roots, &f->roots_cap, f->n_roots + 1, sizeof *f->roots)) mx_raise(L);
  if (d->kind > MX_NODE_EMPTY) {
    lua_pushvalue(L, def);
    anchor_top(L, flat);
  }
  f->roots[f->n_roots] = (struct mx_root){d, first};
  return f->n_roots++;
}

int mx_flat_leaf_root(lua_State *L, int flat, int first) {
  mx_state *s = mx_state_of(L);
  mx_flat *f = mx_flat_at(L, flat);
  if (!mx_grow(&s->ctx, &f->roots, &f->roots_cap, f->n_roots + 1, sizeof *f->roots)) mx_raise(L);
  f->roots[f->n_roots] = (struct mx_root){mx_treedef_leaf(L), first};
  return f->n_roots++;
}

static void set_other(lua_State *L, int flat, int leaf, int idx) { /* keeps the value in the table */
  push_table(L, flat, FLAT_VALUES);
  lua_pushvalue(L, idx);
  lua_rawseti(L, -2, leaf + 1);
  lua_pop(L, 1);
}

/* Strings too long for Lua to intern get an object each, found by content, that lives as long as a flat holds it. */
static const void *string_identity(lua_State *L, int flat, int idx) {
  static const char strings_key = 0;
  if (lua_rawlen(L, idx) <= 40) return lua_topointer(L, idx);
  int top = lua_gettop(L);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &strings_key) != LUA_TTABLE) {
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &strings_key);
    lua_replace(L, top + 1);
  }
  lua_pushvalue(L, idx);
  if (lua_rawget(L, top + 1) != LUA_TUSERDATA) {
    lua_newuserdatauv(L, 1, 0);
    lua_pushvalue(L, idx);
    lua_pushvalue(L, -2);
    lua_rawset(L, top + 1);
  }
  const void *identity = lua_touserdata(L, -1);
  anchor_top(L, flat);
  lua_settop(L, top);
  return identity;
}

/* Whether a value in the place of a leaf is a tree, or an empty place. */
static bool is_no_leaf(lua_State *L, mx_what what, int idx) {
  if (what != MX_IS_OTHER) return what != MX_IS_ARRAY;
  int type = lua_type(L, idx);
  return type == LUA_TNIL || type == LUA_TTABLE || (type == LUA_TBOOLEAN && !lua_toboolean(L, idx));
}

static mx_leaf leaf_of(lua_State *L, int flat, int leaf, mx_what what, int idx) {
  switch (lua_type(L, idx)) {
  case LUA_TNUMBER:
    if (lua_isinteger(L, idx)) return (mx_leaf){.kind = MX_LEAF_INT, .integer = lua_tointeger(L, idx)};
    return (mx_leaf){.kind = MX_LEAF_FLOAT, .number = lua_tonumber(L, idx)};
  case LUA_TBOOLEAN: return (mx_leaf){.kind = MX_LEAF_BOOL, .boolean = lua_toboolean(L, idx)};
  case LUA_TUSERDATA:
    if (what == MX_IS_ARRAY) return (mx_leaf){.kind = MX_LEAF_ARRAY, .array = mx_retain(mx_to_array(L, idx))};
    break;
  default: break;
  }
  set_other(L, flat, leaf, idx);
  const void *identity = lua_type(L, idx) == LUA_TSTRING ? string_identity(L, flat, idx) : lua_topointer(L, idx);
  return (mx_leaf){.kind = MX_LEAF_OTHER, .identity = identity};
}

void mx_flat_leaf(lua_State *L, int flat, mx_what what, int idx) {
  int leaf = mx_flat_at(L, flat)->n;
  mx_flat_room(L, flat, 1);
  mx_leaf l = leaf_of(L, flat, leaf, what, idx);
  mx_flat_at(L, flat)->leaves[leaf] = l;
  if (is_no_leaf(L, what, idx)) box_at(L, flat)->loose = true;
}

static void replace_leaf(mx_flat *f, int leaf, mx_leaf l) {
  mx_leaf old = f->leaves[leaf];
  f->leaves[leaf] = l;
  if (old.kind == MX_LEAF_ARRAY) mx_release(old.array);
}

void mx_leaf_set_value(lua_State *L, int flat, int leaf, int idx) {
  idx = lua_absindex(L, idx);
  flat = lua_absindex(L, flat);
  mx_what what = mx_what_is(L, mx_state_of(L), idx);
  if (is_no_leaf(L, what, idx)) box_at(L, flat)->loose = true;
  mx_leaf l = leaf_of(L, flat, leaf, what, idx);
  replace_leaf(mx_flat_at(L, flat), leaf, l);
}

void mx_leaf_set_array(lua_State *L, int flat, int leaf, mx_array *x) {
  replace_leaf(mx_flat_at(L, flat), leaf, (mx_leaf){.kind = MX_LEAF_ARRAY, .array = mx_retain(x)});
}

void mx_leaf_push(lua_State *L, int flat, int leaf) {
  const mx_leaf *l = &mx_flat_at(L, flat)->leaves[leaf];
  switch (l->kind) {
  case MX_LEAF_ARRAY: mx_push(L, l->array); return;
  case MX_LEAF_FLOAT: lua_pushnumber(L, l->number); return;
  case MX_LEAF_INT: lua_pushinteger(L, l->integer); return;
  case MX_LEAF_BOOL: lua_pushboolean(L, l->boolean); return;
  case MX_LEAF_OTHER: break;
  }
  if (lua_getiuservalue(L, flat, FLAT_VALUES) != LUA_TTABLE) return; /* unset: nil */
  lua_rawgeti(L, -1, leaf + 1);
  lua_remove(L, -2);
}

void mx_leaf_copy(lua_State *L, int to, int leaf, int from, int from_leaf) {
  mx_leaf l = mx_flat_at(L, from)->leaves[from_leaf];
  if (l.kind == MX_LEAF_ARRAY) mx_leaf_set_array(L, to, leaf, l.array);
  else if (l.kind != MX_LEAF_OTHER) {
    if (l.kind == MX_LEAF_BOOL && !l.boolean) box_at(L, to)->loose = true;
    replace_leaf(mx_flat_at(L, to), leaf, l);
  } else {
    mx_leaf_push(L, from, from_leaf);
    mx_leaf_set_value(L, to, leaf, -1);
    lua_pop(L, 1);
  }
}

void mx_flat_copy(lua_State *L, int to, int from, int first, int n) {
  int at = mx_flat_at(L, to)->n;
  to = lua_absindex(L, to);
  from = lua_absindex(L, from);
  mx_flat_room(L, to, n);
  for (int i = 0; i < n; i++) {
    mx_leaf l = mx_flat_at(L, from)->leaves[first + i];
    if (l.kind != MX_LEAF_ARRAY) mx_leaf_copy(L, to, at + i, from, first + i);
    else mx_flat_at(L, to)->leaves[at + i] = (mx_leaf){.kind = MX_LEAF_ARRAY, .array = mx_retain(l.array)};
  }
}

int mx_flat_like(lua_State *L, int flat, int like, int root) {
  flat = lua_absindex(L, flat);
  const mx_treedef *def = mx_flat_at(L, like)->roots[root].def;
  int first = mx_flat_at(L, flat)->n;
  mx_treedef_push(L, def);
  int r = mx_flat_root(L, flat, lua_gettop(L), first);
  lua_pop(L, 1);
  mx_flat_room(L, flat, def->leaves);
  return r;
}

/* -- building ------------------------------------------------------------------------------------------------------ */

static void build_table(lua_State *L, int flat, const mx_treedef *def, int first, uint64_t serial) {
  bool list = def->kind == MX_NODE_LIST;
  lua_createtable(L, list ? def->n : 0, list ? 0 : def->n);
  for (int i = 0; i < def->n; i++) {
    if (!list) lua_pushlstring(L, def->slots[i].key, def->slots[i].length);
    mx_build(L, flat, def->children[i], first, serial);
    if (lua_isnil(L, -1)) { /* an empty place */
      lua_pop(L, 1);
      lua_pushboolean(L, false);
    }
    if (list) lua_rawseti(L, -2, i + 1);
    else lua_rawset(L, -3);
    first += def->children[i]->leaves;
  }
}

/* unflatten(aux, children) */
static void build_object(lua_State *L, int flat, const mx_treedef *def, int first, uint64_t serial) {
  mx_treedef_push_class(L, def);
  if (!mx_class_spec(L)) mx_error(L, "a class of the tree is no longer registered");
  lua_getfield(L, -1, "unflatten");
  lua_remove(L, -2);
  mx_treedef_push_aux(L, def, 0);
  lua_createtable(L, def->n, 0);
  for (int i = 0; i < def->n; i++) {
    mx_build(L, flat, def->children[i], first, serial);
    if (lua_isnil(L, -1)) {
      lua_pop(L, 1);
      lua_pushboolean(L, false);
    }
    lua_rawseti(L, -2, i + 1);
    first += def->children[i]->leaves;
  }
  if (!mx_call(L, 2, 1)) mx_raise(L);
}

void mx_build(lua_State *L, int flat, const mx_treedef *def, int first, uint64_t serial) {
  flat = lua_absindex(L, flat);
  luaL_checkstack(L, 12, "a tree is too deep");
  switch ((mx_node_kind)def->kind) {
  case MX_NODE_LEAF: mx_leaf_push(L, flat, first); return;
  case MX_NODE_NIL: lua_pushnil(L); return;
  case MX_NODE_EMPTY: lua_pushboolean(L, false); return;
  case MX_NODE_LIST:
  case MX_NODE_DICT: build_table(L, flat, def, first, serial); return;
  case MX_NODE_PARAMETER: mx_parameter_pack(L, flat, def, first, serial); return;
  case MX_NODE_MODULE: mx_module_pack(L, flat, def, first, serial); return;
  case MX_NODE_CLASS: build_object(L, flat, def, first, serial); return;
  }
}

void mx_flat_build(lua_State *L, int flat, int root) {
  const struct mx_root *r = &mx_flat_at(L, flat)->roots[root];
  mx_build(L, flat, r->def, r->first, mx_serial_now(L));
}

void mx_open_flat(lua_State *L) {
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, lflat_gc);
  lua_setfield(L, -2, "__gc");
  lua_pushliteral(L, "flat tree");
  lua_setfield(L, -2, "__name");
  mx_state_of(L)->flat_meta = lua_topointer(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &meta_key);
}
