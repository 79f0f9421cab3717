/* treedef.c: interned structures. A treedef is a userdata; a weak table in the registry leads from its address to it,
 * and chains of addresses, by hash, find the one that equals a candidate. Its finalizer takes it out of its chain; weak
 * entries are cleared before finalizers run, so a treedef that is about to die is never handed out. */
#include "tree_impl.h"

#include <stdio.h>

static const char defs_key = 0;    /* registry: address -> treedef, weak values */
static const char buckets_key = 0; /* registry: the userdata in which the chains begin */
static const char meta_key = 0;    /* registry: the metatable */
static const char roots_key = 0;   /* registry: anchors leaf, nil, empty and the mx_trees itself */

enum { FIRST_BUCKETS = 64, HASHED_BYTES = 256, TEXT_SHORT = 40 };

/* -- aux values: hash and equality --------------------------------------------------------------------------------- */

static uint64_t value_hash(lua_State *L, int idx, int depth);

static void check_depth(lua_State *L, int depth) {
  if (depth > MX_TREE_DEPTH)
    mx_error(L, "a hyperparameter is a table that contains itself, or one deeper than %d", MX_TREE_DEPTH);
  luaL_checkstack(L, 8, "a hyperparameter is too deep");
}

static uint64_t table_hash(lua_State *L, int idx, int depth) { /* a sum: the order of keys does not count */
  uint64_t sum = LUA_TTABLE;
  check_depth(L, depth);
  lua_pushnil(L);
  while (lua_next(L, idx)) {
    int value = lua_gettop(L);
    sum += mx_hash_mix(value_hash(L, value - 1, depth + 1), value_hash(L, value, depth + 1));
    lua_pop(L, 1);
  }
  return sum;
}

static uint64_t array_hash(const mx_array *x) {
  uint64_t h = mx_hash_bytes(x->aval.dtype, x->aval.shape, (size_t)x->aval.ndim * sizeof *x->aval.shape);
  size_t bytes = mx_nbytes(&x->aval);
  if (x->contiguous && !mx_is_float(x->aval.dtype))
    h = mx_hash_bytes(h, mx_data(x), bytes < HASHED_BYTES ? bytes : HASHED_BYTES);
  return h;
}

static uint64_t number_hash(lua_State *L, int idx) {
  if (lua_isinteger(L, idx)) return mx_hash_mix(1, (uint64_t)lua_tointeger(L, idx));
  lua_Number v = lua_tonumber(L, idx);
  if (v != v || v == 0) return v != v ? 2 : 3; /* NaN equals NaN, and -0.0 0.0 */
  return mx_hash_bytes(4, &v, sizeof v);
}

static uint64_t value_hash(lua_State *L, int idx, int depth) {
  size_t n;
  const char *s;
  mx_array *x;
  switch (lua_type(L, idx)) {
  case LUA_TNIL: return 5;
  case LUA_TBOOLEAN: return 6 + (uint64_t)lua_toboolean(L, idx);
  case LUA_TNUMBER: return number_hash(L, idx);
  case LUA_TSTRING: s = lua_tolstring(L, idx, &n); return mx_hash_bytes(8, s, n);
  case LUA_TTABLE:
    return mx_is_plain_table(L, idx) ? table_hash(L, idx, depth) : (uint64_t)(uintptr_t)lua_topointer(L, idx);
  case LUA_TUSERDATA:
    x = mx_to_array(L, idx);
    if (x && x->tag == MX_VALUE) return array_hash(x);
    /* fall through */
  default: return (uint64_t)(uintptr_t)lua_topointer(L, idx);
  }
}

static bool elements_same(int dtype, const char *x, const char *y, int64_t n) {
  size_t size = mx_itemsize(dtype);
  for (int64_t i = 0; i < n; i++, x += size, y += size) {
    double a = mx_load_double(dtype, x), b = mx_load_double(dtype, y);
    if (a != b && (a == a || b == b)) return false;
  }
  return true;
}

typedef struct pair_test {
  int dtype;
  bool same;
} pair_test;

static void run_same(void *arg, int64_t n, char *const *p, const int64_t *stride) {
  pair_test *t = arg;
  size_t size = mx_itemsize(t->dtype);
  for (int64_t i = 0; i < n && t->same; i++) {
    const char *x = p[0] + i * stride[0], *y = p[1] + i * stride[1];
    t->same = mx_is_float(t->dtype) ? elements_same(t->dtype, x, y, 1) : memcmp(x, y, size) == 0;
  }
}

bool mx_array_same(const mx_array *x, const mx_array *y) {
  if (x == y) return true;
  if (x->tag != MX_VALUE || y->tag != MX_VALUE) return false;
  if (x->aval.dtype != y->aval.dtype || !mx_shape_equal(&x->aval, &y->aval)) return false;
  if (x->aval.size == 0) return true;
  pair_test t = {x->aval.dtype, true};
  char *base[2] = {mx_data(x), mx_data(y)};
  const int64_t *strides[2] = {x->strides, y->strides};
  mx_iterate(x->aval.ndim, x->aval.shape, 2, base, strides, run_same, &t);
  return t.same;
}

static int count_entries(lua_State *L, int idx) {
  int n = 0;
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) n++;
  return n;
}

static bool table_same(lua_State *L, int a, int b, int depth) {
  check_depth(L, depth);
  bool same = count_entries(L, a) == count_entries(L, b);
  int top = lua_gettop(L);
  lua_pushnil(L);
  while (same && lua_next(L, a)) { /* stack: key, value of a, value of b */
    lua_pushvalue(L, -2);
    lua_rawget(L, b);
    same = mx_value_same(L, top + 2, top + 3, depth + 1);
    lua_settop(L, top + 1);
  }
  lua_settop(L, top);
  return same;
}

static bool number_same(lua_State *L, int a, int b) {
  if (lua_isinteger(L, a) != lua_isinteger(L, b)) return false;
  lua_Number x = lua_tonumber(L, a), y = lua_tonumber(L, b);
  return lua_rawequal(L, a, b) || (x != x && y != y);
}

bool mx_value_same(lua_State *L, int a, int b, int depth) { /* both indices absolute */
  int type = lua_type(L, a);
  if (type != lua_type(L, b)) return false;
  if (type == LUA_TNUMBER) return number_same(L, a, b);
  if (lua_rawequal(L, a, b)) return true;
  if (type == LUA_TTABLE && mx_is_plain_table(L, a) && mx_is_plain_table(L, b)) return table_same(L, a, b, depth);
  mx_array *x = mx_to_array(L, a), *y = mx_to_array(L, b);
  return x && y && mx_array_same(x, y);
}

/* A copy of a plain table, plain tables in it copied too; other values themselves. [-0, +1] */
static void push_snapshot(lua_State *L, int idx, int depth) {
  if (!mx_is_plain_table(L, idx)) {
    lua_pushvalue(L, idx);
    return;
  }
  check_depth(L, depth);
  lua_newtable(L);
  int copy = lua_gettop(L);
  lua_pushnil(L);
  while (lua_next(L, idx)) {
    lua_pushvalue(L, -2);
    push_snapshot(L, lua_gettop(L) - 1, depth + 1);
    lua_rawset(L, copy);
    lua_pop(L, 1);
  }
}

/* -- candidates ---------------------------------------------------------------------------------------------------- */

static uint64_t aux_hash(lua_State *L, const mx_node *node, uint64_t h) {
  int n = node->kind == MX_NODE_CLASS ? 1 : node->n_slots;
  for (int i = 0; i < n; i++) {
    if (node->kind != MX_NODE_CLASS && node->slots[i].child >= 0) continue;
    lua_rawgeti(L, node->aux, i + 1);
    h = mx_hash_mix(h, value_hash(L, lua_gettop(L), 0));
    lua_pop(L, 1);
  }
  return h;
}

static uint64_t node_hash(lua_State *L, const mx_node *node) {
  uint64_t h = mx_hash_mix((uint64_t)node->kind,
                           (uint64_t)node->n * 16 + node->initialized * 8 + (uint64_t)(node->trainable + 1));
  for (int i = 0; i < node->n; i++) h = mx_hash_mix(h, node->children[i]->hash);
  for (int i = 0; i < node->n_slots; i++)
    h = mx_hash_bytes(h + (uint64_t)node->slots[i].child, node->slots[i].key, node->slots[i].length);
  if (node->class) h = mx_hash_mix(h, (uint64_t)(uintptr_t)lua_topointer(L, node->class));
  return node->aux ? aux_hash(L, node, h) : h;
}

static bool slots_same(const mx_node *node, const mx_treedef *def) {
  for (int i = 0; i < node->n_slots; i++) {
    const mx_slot *a = &node->slots[i], *b = &def->slots[i];
    if (a->child != b->child || a->length != b->length) return false;
    if (a->key != b->key && memcmp(a->key, b->key, a->length) != 0) return false;
  }
  return true;
}

bool mx_treedef_same_aux(lua_State *L, const mx_treedef *def, int aux) {
  int top = lua_gettop(L), n = def->kind == MX_NODE_CLASS ? 1 : def->n_slots;
  bool same = true;
  mx_treedef_push(L, def);
  lua_getiuservalue(L, -1, MX_DEF_SAVED);
  for (int i = 0; i < n && same && lua_istable(L, top + 2); i++) {
    if (def->kind != MX_NODE_CLASS && def->slots[i].child >= 0) continue;
    lua_rawgeti(L, top + 2, i + 1);
    lua_rawgeti(L, aux, i + 1);
    same = mx_value_same(L, top + 3, top + 4, 0);
    lua_settop(L, top + 2);
  }
  lua_settop(L, top);
  return same;
}

static bool node_same(lua_State *L, const mx_node *node, const mx_treedef *def) {
  if (def->kind != node->kind || def->n != node->n || def->n_slots != node->n_slots) return false;
  if (def->initialized != node->initialized || def->trainable != node->trainable) return false;
  if (def->class != (node->class ? lua_topointer(L, node->class) : NULL)) return false;
  if (node->n && memcmp(def->children, node->children, (size_t)node->n * sizeof *node->children) != 0) return false;
  return slots_same(node, def) && (!node->aux || mx_treedef_same_aux(L, def, node->aux));
}

/* -- the registry of treedefs -------------------------------------------------------------------------------------- */

/* Pushes the object of a treedef; nothing, and false, where it is about to be collected. [-0, +1 or 0] */
static bool push_living(lua_State *L, const mx_treedef *def) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &defs_key);
  bool lives = lua_rawgetp(L, -1, def) == LUA_TUSERDATA;
  lua_remove(L, -2);
  if (!lives) lua_pop(L, 1);
  return lives;
}

void mx_treedef_push(lua_State *L, const mx_treedef *def) {
  luaL_checkstack(L, 8, "a tree is too deep");
  if (!push_living(L, def)) lua_pushnil(L); /* cannot be: whoever asks keeps it alive */
}

static void link_def(mx_trees *t, mx_treedef *def) {
  mx_treedef **bucket = &t->buckets[def->hash & (uint64_t)(t->n_buckets - 1)];
  def->next = *bucket;
  *bucket = def;
}

static void unlink_def(mx_trees *t, const mx_treedef *def) {
  mx_treedef **at = &t->buckets[def->hash & (uint64_t)(t->n_buckets - 1)];
  while (*at && *at != def) at = &(*at)->next;
  if (!*at) return; /* it was never linked */
  *at = def->next;
  t->count--;
}

static void grow_buckets(lua_State *L, mx_trees *t) {
  int n = t->n_buckets ? 2 * t->n_buckets : FIRST_BUCKETS;
  mx_treedef **buckets = lua_newuserdatauv(L, (size_t)n * sizeof *buckets, 0), **old = t->buckets;
  memset(buckets, 0, (size_t)n * sizeof *buckets);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &buckets_key); /* `old` stays readable: no allocation follows */
  int n_old = t->n_buckets;
  t->buckets = buckets;
  t->n_buckets = n;
  for (int i = 0; i < n_old; i++)
    for (mx_treedef *d = old[i], *next; d; d = next) {
      next = d->next;
      link_def(t, d);
    }
}

static int ltreedef_gc(lua_State *L) {
  mx_trees *t = lua_touserdata(L, lua_upvalueindex(2));
  unlink_def(t, lua_touserdata(L, 1));
  return 0;
}

/* -- making one ---------------------------------------------------------------------------------------------------- */

static int count_leaves(lua_State *L, const mx_node *node) {
  int64_t n = node->kind == MX_NODE_LEAF;
  for (int i = 0; i < node->n; i++) n += node->children[i]->leaves;
  if (n > INT32_MAX / 2) mx_error(L, "a tree has too many leaves");
  return (int)n;
}

/* stack: def. Children and keys become its user values; the slots point into them. */
static void anchor_parts(lua_State *L, mx_treedef *def, const mx_node *node) {
  int object = lua_gettop(L);
  lua_createtable(L, node->n, 0);
  for (int i = 0; i < node->n; i++) {
    mx_treedef_push(L, node->children[i]);
    lua_rawseti(L, -2, i + 1);
    def->children[i] = node->children[i];
  }
  lua_setiuservalue(L, object, MX_DEF_CHILDREN);
  if (!node->n_slots) return;
  lua_createtable(L, node->n_slots, 0);
  for (int i = 0; i < node->n_slots; i++) {
    def->slots[i] = node->slots[i];
    def->slots[i].key = lua_pushlstring(L, node->slots[i].key, node->slots[i].length);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setiuservalue(L, object, MX_DEF_KEYS);
}

/* stack: def. */
static void anchor_aux(lua_State *L, mx_treedef *def, const mx_node *node) {
  int object = lua_gettop(L), n = node->kind == MX_NODE_CLASS ? 1 : node->n_slots;
  lua_pushvalue(L, node->aux);
  lua_setiuservalue(L, object, MX_DEF_AUX);
  lua_createtable(L, n, 0);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, node->aux, i);
    def->tables |= mx_is_plain_table(L, lua_gettop(L));
    push_snapshot(L, lua_gettop(L), 0);
    lua_rawseti(L, object + 1, i);
    lua_pop(L, 1);
  }
  if (!def->tables) { /* nothing can change: one table serves as both */
    lua_pop(L, 1);
    lua_pushvalue(L, node->aux);
  }
  lua_setiuservalue(L, object, MX_DEF_SAVED);
}

/* [-0, +1] */
static mx_treedef *def_new(lua_State *L, const mx_node *node, uint64_t hash) {
  mx_trees *t = mx_trees_of(L);
  if (t->count >= t->n_buckets) grow_buckets(L, t);
  size_t children = (size_t)node->n * sizeof(mx_treedef *), slots = (size_t)node->n_slots * sizeof(mx_slot);
  mx_treedef *def =
      lua_newuserdatauv(L, sizeof *def + children + slots, node->kind <= MX_NODE_EMPTY ? 0 : MX_DEF_VALUES);
  memset(def, 0, sizeof *def);
  def->hash = hash;
  def->kind = (uint8_t)node->kind;
  def->initialized = node->initialized;
  def->trainable = node->trainable;
  def->n = node->n;
  def->n_slots = node->n_slots;
  def->leaves = count_leaves(L, node);
  def->slots = (mx_slot *)(def + 1);
  def->children = (const mx_treedef **)(def->slots + node->n_slots);
  if (node->kind > MX_NODE_EMPTY) anchor_parts(L, def, node);
  if (node->aux) anchor_aux(L, def, node);
  if (node->class) {
    def->class = lua_topointer(L, node->class);
    lua_pushvalue(L, node->class);
    lua_setiuservalue(L, -2, MX_DEF_CLASS);
  }
  lua_rawgetp(L, LUA_REGISTRYINDEX, &defs_key);
  lua_pushvalue(L, -2);
  lua_rawsetp(L, -2, def);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &meta_key);
  lua_setmetatable(L, -3);
  lua_pop(L, 1);
  link_def(t, def);
  t->count++;
  return def;
}

const mx_treedef *mx_treedef_intern(lua_State *L, const mx_node *node) {
  mx_trees *t = mx_trees_of(L);
  luaL_checkstack(L, 12, "a tree is too deep");
  uint64_t hash = node_hash(L, node);
  for (mx_treedef *d = t->buckets[hash & (uint64_t)(t->n_buckets - 1)]; d; d = d->next) {
    if (d->hash != hash || !push_living(L, d)) continue; /* on the stack, so that it lives while it is compared */
    if (node_same(L, node, d)) return d;
    lua_pop(L, 1);
  }
  return def_new(L, node, hash);
}

/* -- asking -------------------------------------------------------------------------------------------------------- */

int mx_treedef_leaves(const mx_treedef *def) { return def->leaves; }
bool mx_treedef_is_unset(const mx_treedef *def) { return def->kind == MX_NODE_MODULE && !def->initialized; }
const mx_treedef *mx_treedef_leaf(lua_State *L) { return mx_trees_of(L)->leaf; }

const mx_treedef *mx_treedef_at(lua_State *L, int idx) {
  void *p = lua_touserdata(L, idx);
  if (!p || !lua_getmetatable(L, idx)) return NULL;
  bool ours = lua_topointer(L, -1) == mx_state_of(L)->treedef_meta;
  lua_pop(L, 1);
  return ours ? p : NULL;
}

const mx_treedef *mx_treedef_check(lua_State *L, int idx) {
  const mx_treedef *def = mx_treedef_at(L, idx);
  if (!def) mx_error(L, "a treedef is needed (got %s)", mx_show(L, idx));
  return def;
}

int mx_treedef_find(const mx_treedef *def, const char *key, size_t length) {
  for (int i = 0; i < def->n_slots; i++) {
    const mx_slot *s = &def->slots[i];
    if (s->length == length && (s->key == key || memcmp(s->key, key, length) == 0)) return i;
  }
  return -1;
}

void mx_treedef_push_class(lua_State *L, const mx_treedef *def) {
  mx_treedef_push(L, def);
  lua_getiuservalue(L, -1, MX_DEF_CLASS);
  lua_remove(L, -2);
}

void mx_treedef_push_aux(lua_State *L, const mx_treedef *def, int slot) {
  int top = lua_gettop(L);
  mx_treedef_push(L, def);
  lua_getiuservalue(L, top + 1, MX_DEF_AUX);
  lua_rawgeti(L, top + 2, slot + 1); /* stack: def, aux, value */
  if (def->tables && mx_is_plain_table(L, top + 3)) {
    lua_getiuservalue(L, top + 1, MX_DEF_SAVED);
    lua_rawgeti(L, -1, slot + 1);
    if (!mx_value_same(L, top + 3, top + 5, 0)) { /* the table was changed since: give what it was */
      push_snapshot(L, top + 5, 0);
      lua_pushvalue(L, -1);
      lua_rawseti(L, top + 2, slot + 1);
      lua_replace(L, top + 3);
    }
    lua_settop(L, top + 3);
  }
  lua_insert(L, top + 1);
  lua_settop(L, top + 1);
}

const mx_treedef *mx_treedef_replace(lua_State *L, const mx_treedef *def, const mx_treedef *const *children) {
  int top = lua_gettop(L), n = def->kind == MX_NODE_CLASS ? 1 : def->n_slots;
  mx_node node = {.kind = (mx_node_kind)def->kind,
                  .initialized = def->initialized,
                  .trainable = def->trainable,
                  .n = def->n,
                  .n_slots = def->n_slots,
                  .children = children,
                  .slots = def->slots};
  luaL_checkstack(L, 12, "a tree is too deep");
  if (def->class) {
    mx_treedef_push_class(L, def);
    node.class = lua_gettop(L);
  }
  if (def->kind >= MX_NODE_PARAMETER && n) {
    lua_createtable(L, n, 0);
    node.aux = lua_gettop(L);
    for (int i = 0; i < n; i++) {
      mx_treedef_push_aux(L, def, i);
      lua_rawseti(L, node.aux, i + 1);
    }
  }
  const mx_treedef *new = mx_treedef_intern(L, &node);
  lua_insert(L, top + 1);
  lua_settop(L, top + 1);
  return new;
}

/* -- text ---------------------------------------------------------------------------------------------------------- */

void mx_value_text(lua_State *L, int idx) {
  mx_text t;
  size_t n;
  mx_array *x = mx_to_array(L, idx);
  const char *s;
  if (x) lua_pushstring(L, mx_aval_text(&t, &x->aval));
  else if (lua_type(L, idx) == LUA_TSTRING) {
    s = lua_tolstring(L, idx, &n);
    if (n <= TEXT_SHORT) lua_pushfstring(L, "\"%s\"", s);
    else {
      lua_pushlstring(L, s, TEXT_SHORT);
      lua_pushfstring(L, "\"%s...\"", lua_tostring(L, -1));
      lua_remove(L, -2);
    }
  } else if (lua_type(L, idx) == LUA_TNUMBER || lua_type(L, idx) == LUA_TBOOLEAN || lua_isnil(L, idx))
    luaL_tolstring(L, idx, NULL);
  else if (lua_istable(L, idx) && !mx_is_plain_table(L, idx)) mx_class_name(L, idx);
  else lua_pushstring(L, lua_istable(L, idx) ? "{...}" : luaL_typename(L, idx));
}

static void add_text(luaL_Buffer *b, const mx_treedef *def);

static void add_key(luaL_Buffer *b, const mx_slot *s) {
  mx_path_add_key(b, true, s->key, s->length);
  luaL_addstring(b, " = ");
}

static void add_aux(luaL_Buffer *b, const mx_treedef *def, int slot) {
  lua_State *L = b->L;
  mx_treedef_push_aux(L, def, slot);
  mx_value_text(L, lua_gettop(L));
  lua_remove(L, -2);
  luaL_addvalue(b);
}

static void add_slots(luaL_Buffer *b, const mx_treedef *def, bool separate) {
  for (int i = 0; i < def->n_slots; i++) {
    const mx_slot *s = &def->slots[i];
    if (i || separate) luaL_addstring(b, ", ");
    add_key(b, s);
    if (s->child >= 0) add_text(b, def->children[s->child]);
    else add_aux(b, def, i);
  }
}

static void add_children(luaL_Buffer *b, const mx_treedef *def) {
  for (int i = 0; i < def->n; i++) {
    if (i) luaL_addstring(b, ", ");
    add_text(b, def->children[i]);
  }
}

static void add_class(luaL_Buffer *b, const mx_treedef *def) {
  lua_State *L = b->L;
  mx_treedef_push_class(L, def);
  mx_class_name(L, lua_gettop(L));
  lua_remove(L, -2);
  luaL_addvalue(b);
}

static void add_text(luaL_Buffer *b, const mx_treedef *def) {
  static const char *const trainable[] = {"nil", "false", "true"};
  switch ((mx_node_kind)def->kind) {
  case MX_NODE_LEAF: luaL_addchar(b, '*'); return;
  case MX_NODE_NIL: luaL_addstring(b, "nil"); return;
  case MX_NODE_EMPTY: luaL_addstring(b, "false"); return;
  case MX_NODE_LIST:
    luaL_addchar(b, '{');
    add_children(b, def);
    luaL_addchar(b, '}');
    return;
  case MX_NODE_DICT:
    luaL_addchar(b, '{');
    add_slots(b, def, false);
    luaL_addchar(b, '}');
    return;
  case MX_NODE_PARAMETER:
    luaL_addstring(b, "Parameter(");
    luaL_addstring(b, trainable[def->trainable + 1]);
    luaL_addstring(b, ", ");
    add_text(b, def->children[0]);
    add_slots(b, def, true);
    luaL_addchar(b, ')');
    return;
  case MX_NODE_MODULE:
    add_class(b, def);
    luaL_addchar(b, '{');
    add_slots(b, def, false);
    luaL_addstring(b, def->initialized ? "}" : "} (not initialized)");
    return;
  case MX_NODE_CLASS:
    add_class(b, def);
    luaL_addchar(b, '(');
    add_children(b, def);
    luaL_addchar(b, ')');
    return;
  }
}

void mx_treedef_text(lua_State *L, const mx_treedef *def, size_t most) {
  luaL_Buffer b;
  luaL_checkstack(L, 16, "a tree is too deep");
  luaL_buffinit(L, &b);
  add_text(&b, def);
  luaL_pushresult(&b);
  size_t n;
  const char *s = lua_tolstring(L, -1, &n);
  if (!most || n <= most) return;
  while (most && ((unsigned char)s[most] & 0xC0) == 0x80) most--; /* not inside a UTF-8 character */
  lua_pushlstring(L, s, most);
  lua_pushliteral(L, "...");
  lua_concat(L, 2);
  lua_remove(L, -2);
}

/* -- the Lua object ------------------------------------------------------------------------------------------------ */

static int ltreedef_tostring(lua_State *L) {
  mx_enter(L, "tostring");
  mx_treedef_text(L, mx_treedef_check(L, 1), 0);
  return 1;
}

static int ltreedef_index(lua_State *L) {
  const mx_treedef *def = mx_treedef_at(L, 1);
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (def && !strcmp(key, "num_leaves")) return lua_pushinteger(L, def->leaves), 1;
  mx_enter(L, "treedef");
  return mx_error(L, "no field '%.80s' (known: num_leaves)", key);
}

static void set_method(lua_State *L, const char *name, lua_CFunction f) { /* stack: ..., metatable, state */
  lua_pushvalue(L, -1);
  lua_pushlightuserdata(L, mx_trees_of(L));
  lua_pushcclosure(L, f, 2);
  lua_setfield(L, -3, name);
}

static const mx_treedef *make_single(lua_State *L, mx_node_kind kind) { /* anchored for ever */
  lua_rawgetp(L, LUA_REGISTRYINDEX, &roots_key);
  const mx_treedef *def = mx_treedef_intern(L, &(mx_node){.kind = kind});
  lua_rawseti(L, -2, kind + 1);
  lua_pop(L, 1);
  return def;
}

static mx_trees *open_trees(lua_State *L) {
  lua_createtable(L, 4, 1);
  mx_trees *t = lua_newuserdatauv(L, sizeof *t, 0);
  memset(t, 0, sizeof *t);
  lua_setfield(L, -2, "trees");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &roots_key);
  return t;
}

static void open_defs(lua_State *L) {
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &defs_key);
}

static void open_meta(lua_State *L, mx_state *s) { /* stack: core */
  lua_createtable(L, 0, 5);
  lua_pushlightuserdata(L, s);
  set_method(L, "__gc", ltreedef_gc);
  set_method(L, "__tostring", ltreedef_tostring);
  set_method(L, "__index", ltreedef_index);
  lua_pop(L, 1);
  lua_pushliteral(L, "treedef");
  lua_setfield(L, -2, "__name");
  lua_pushliteral(L, "treedef");
  lua_setfield(L, -2, "__metatable");
  s->treedef_meta = lua_topointer(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &meta_key);
}

/* Opening may fail half way and be done again: each part is made once, since treedefs of the first time refer to it. */
void mx_open_treedef(lua_State *L) {
  mx_state *s = mx_state_of(L);
  if (!s->trees) s->trees = open_trees(L);
  mx_trees *t = s->trees;
  if (!t->buckets) {
    open_defs(L);
    grow_buckets(L, t);
  }
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &meta_key) == LUA_TNIL) open_meta(L, s);
  lua_pop(L, 1);
  if (!t->leaf) t->leaf = make_single(L, MX_NODE_LEAF);
  if (!t->nil) t->nil = make_single(L, MX_NODE_NIL);
  if (!t->empty) t->empty = make_single(L, MX_NODE_EMPTY);
}
