/* walk.c: from a Lua value to leaves and a treedef. Two walks: mx_flat_add finds the structure, mx_flat_add_like
 * follows one that is given and takes whole subtrees at its leaves.
 *
 * The treedefs of finished children lie in a pile until their parent is interned; a Lua table anchors them meanwhile.
 */
#include "tree_impl.h"

#include <stdlib.h>

static const char classes_key = 0; /* registry: metatable -> {flatten, unflatten}, weak keys */

enum { PILE = 48, MOST_ANCHORED = 64 };

/* A list that grows into a userdata at a stack slot, so that an error anywhere loses nothing. */
typedef struct def_pile {
  const mx_treedef **at;
  int n, cap;
  const mx_treedef *few[PILE];
} def_pile;

typedef struct slot_pile {
  mx_slot *at;
  int n, cap;
  mx_slot few[PILE];
} slot_pile;

typedef struct mx_walk {
  lua_State *L;
  mx_state *state;
  mx_trees *trees;
  int flat, is_leaf;     /* stack indices; is_leaf 0: none */
  int anchors;           /* stack index of the table that anchors treedefs */
  int defs_at, slots_at; /* stack slots of the piles' userdata */
  int n_anchors;
  def_pile defs;
  slot_pile slots;
} mx_walk;

static void *grow_pile(mx_walk *w, int slot, void *items, int *cap, size_t item) { /* doubles */
  void *bigger = lua_newuserdatauv(w->L, 2 * (size_t)*cap * item, 0);
  memcpy(bigger, items, (size_t)*cap * item);
  lua_replace(w->L, slot);
  *cap *= 2;
  return bigger;
}

static void push_def(mx_walk *w, const mx_treedef *def) {
  if (w->defs.n == w->defs.cap) w->defs.at = grow_pile(w, w->defs_at, w->defs.at, &w->defs.cap, sizeof *w->defs.at);
  w->defs.at[w->defs.n++] = def;
}

static void push_slot(mx_walk *w, mx_slot slot) {
  if (w->slots.n == w->slots.cap)
    w->slots.at = grow_pile(w, w->slots_at, w->slots.at, &w->slots.cap, sizeof *w->slots.at);
  w->slots.at[w->slots.n++] = slot;
}

/* Keeps the treedef object on top alive until the walk ends. [-1, +0] */
static void anchor_def(mx_walk *w) { lua_rawseti(w->L, w->anchors, ++w->n_anchors); }

static const mx_treedef *intern(mx_walk *w, const mx_node *node) {
  const mx_treedef *def = mx_treedef_intern(w->L, node);
  anchor_def(w);
  return def;
}

/* -- errors -------------------------------------------------------------------------------------------------------- */

static int fail_at(mx_walk *w, const mx_segment *at, const char *what) {
  lua_State *L = w->L;
  mx_path_push(L, at);
  if (at->up) return mx_error(L, "no tree: %s at '%s'", what, lua_tostring(L, -1));
  return mx_error(L, "no tree: %s at its root", what);
}

/* Beyond the greatest depth: a cycle, if some table is its own ancestor; the first such place is named. */
static int fail_deep(mx_walk *w, const mx_segment *at) {
  lua_State *L = w->L;
  const mx_segment *chain[MX_TREE_DEPTH + 2];
  for (const mx_segment *s = at; s; s = s->up) chain[s->depth] = s;
  for (int i = 1; i < at->depth; i++)
    for (int j = 0; j < i; j++) {
      if (!chain[i]->object || chain[i]->object != chain[j]->object) continue;
      mx_path_push(L, chain[i]);
      mx_path_push(L, chain[j]);
      if (j == 0) return mx_error(L, "no tree: a cycle, '%s' is the root again", lua_tostring(L, -2));
      return mx_error(L, "no tree: a cycle, '%s' is '%s' again", lua_tostring(L, -2), lua_tostring(L, -1));
    }
  mx_path_push(L, chain[3]);
  return mx_error(L, "no tree: deeper than %d, below '%s'", MX_TREE_DEPTH, lua_tostring(L, -1));
}

static void enter_node(mx_walk *w, const mx_segment *at) {
  if (at->depth > MX_TREE_DEPTH) fail_deep(w, at);
  luaL_checkstack(w->L, 24, "a tree is too deep");
}

/* -- registered classes -------------------------------------------------------------------------------------------- */

bool mx_class_spec(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &classes_key) == LUA_TTABLE) {
    lua_insert(L, -2);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (!lua_isnil(L, -1)) return true;
  } else lua_pop(L, 1);
  lua_pop(L, 1);
  return false;
}

int mx_class_flatten(lua_State *L, int idx) {
  luaL_checkstack(L, 8, NULL);
  if (!lua_getmetatable(L, idx) || !mx_class_spec(L))
    mx_error(L, "an object of a class that is not registered (see tree.register)");
  lua_getfield(L, -1, "flatten");
  lua_remove(L, -2);
  lua_pushvalue(L, idx);
  if (!mx_call(L, 1, 2)) mx_raise(L);
  if (!mx_is_plain_table(L, lua_gettop(L) - 1))
    mx_error(L, "flatten of a registered class gives its children as a list (got %s)", mx_show(L, -2));
  return (int)lua_rawlen(L, -2);
}

/* tree.register(class, {flatten = , unflatten = }) */
static int ltree_register(lua_State *L) {
  mx_enter(L, "tree.register");
  if (!lua_istable(L, 1))
    return mx_error(L, "class is the metatable of its objects (got %s, need a table)", mx_show(L, 1));
  if (!lua_istable(L, 2)) return mx_error(L, "got %s, need {flatten = function, unflatten = function}", mx_show(L, 2));
  lua_settop(L, 2);
  lua_createtable(L, 0, 2);
  static const char *const names[] = {"flatten", "unflatten"};
  for (int i = 0; i < 2; i++) {
    if (lua_getfield(L, 2, names[i]) != LUA_TFUNCTION)
      return mx_error(L, "%s must be a function (got %s)", names[i], mx_show(L, -1));
    lua_setfield(L, 3, names[i]);
  }
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &classes_key) != LUA_TTABLE) {
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &classes_key);
  }
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 3);
  lua_rawset(L, -3);
  return 0;
}

static bool holds_nodes(lua_State *L, int idx, int depth) {
  if (mx_to_module(L, idx) || mx_to_parameter(L, idx)) return true;
  if (!lua_istable(L, idx)) return false;
  if (depth > MX_TREE_DEPTH)
    mx_error(L, "a field is a table that contains itself, or one deeper than %d", MX_TREE_DEPTH);
  luaL_checkstack(L, 8, "a tree is too deep");
  if (lua_getmetatable(L, idx)) {
    if (!mx_class_spec(L)) return false;
    lua_pop(L, 1);
  }
  int top = lua_gettop(L);
  bool holds = false;
  lua_pushnil(L);
  while (!holds && lua_next(L, idx)) {
    holds = holds_nodes(L, top + 2, depth + 1);
    lua_settop(L, top + 1);
  }
  lua_settop(L, top);
  return holds;
}

bool mx_holds_nodes(lua_State *L, int idx) { return holds_nodes(L, lua_absindex(L, idx), 0); }

/* -- finding the structure ----------------------------------------------------------------------------------------- */

static const mx_treedef *walk_node(mx_walk *w, int idx, mx_segment *at);

static const mx_treedef *walk_leaf(mx_walk *w, mx_what what, int idx) {
  mx_flat_leaf(w->L, w->flat, what, idx);
  return w->trees->leaf;
}

/* Walks the value on top as the next child. [-1, +0] */
static void walk_child(mx_walk *w, const mx_segment *at, const char *key, size_t length, lua_Integer index) {
  mx_segment s = {at, key, length, index, NULL, at->depth + 1, false};
  push_def(w, walk_node(w, lua_gettop(w->L), &s));
  lua_pop(w->L, 1);
}

static const mx_treedef *walk_list(mx_walk *w, int idx, int n, const mx_segment *at) {
  lua_State *L = w->L;
  int first = w->defs.n;
  for (int i = 1; i <= n; i++) {
    if (lua_rawgeti(L, idx, i) == LUA_TNIL) fail_at(w, at, "a list with a hole");
    walk_child(w, at, NULL, 0, i);
  }
  const mx_treedef *def = intern(w, &(mx_node){.kind = MX_NODE_LIST, .n = n, .children = w->defs.at + first});
  w->defs.n = first;
  return def;
}

static int compare_slots(const void *a, const void *b) { /* byte order */
  const mx_slot *x = a, *y = b;
  int c = memcmp(x->key, y->key, x->length < y->length ? x->length : y->length);
  return c ? c : (x->length > y->length) - (x->length < y->length);
}

static void sort_slots(mx_slot *s, int n) {
  if (n > 8) {
    qsort(s, (size_t)n, sizeof *s, compare_slots);
    return;
  }
  for (int i = 1; i < n; i++) {
    mx_slot x = s[i];
    int j = i;
    for (; j > 0 && compare_slots(&s[j - 1], &x) > 0; j--) s[j] = s[j - 1];
    s[j] = x;
  }
}

/* The n keys lie on the stack from `keys` on; slots name them, their child being for now the stack index of the key. */
static const mx_treedef *walk_dict(mx_walk *w, int idx, int keys, int n, const mx_segment *at) {
  lua_State *L = w->L;
  int first = w->defs.n, slot = w->slots.n;
  for (int i = 0; i < n; i++) {
    mx_slot s = {.child = keys + i};
    s.key = lua_tolstring(L, keys + i, &s.length);
    push_slot(w, s);
  }
  sort_slots(w->slots.at + slot, n);
  for (int i = 0; i < n; i++) {
    mx_slot s = w->slots.at[slot + i];
    lua_pushvalue(L, s.child);
    if (lua_rawget(L, idx) == LUA_TNIL) fail_at(w, at, "a dict that changes while it is walked");
    walk_child(w, at, s.key, s.length, 0);
    w->slots.at[slot + i].child = i;
  }
  const mx_treedef *def = intern(
      w, &(mx_node){
             .kind = MX_NODE_DICT, .n = n, .n_slots = n, .children = w->defs.at + first, .slots = w->slots.at + slot});
  w->defs.n = first;
  w->slots.n = slot;
  return def;
}

/* A table without metatable: counts its keys of either kind, leaving the strings on the stack. */
static const mx_treedef *walk_table(mx_walk *w, int idx, const mx_segment *at) {
  lua_State *L = w->L;
  int top = lua_gettop(L), strings = 0;
  lua_Integer numbers = 0, greatest = 0;
  lua_pushnil(L);
  while (lua_next(L, idx)) { /* stack: strings..., key, value */
    lua_pop(L, 1);
    if (lua_type(L, -1) == LUA_TSTRING) {
      luaL_checkstack(L, 24, "a dict with too many keys");
      lua_pushvalue(L, -1);
      strings++;
    } else if (lua_isinteger(L, -1) && lua_tointeger(L, -1) > 0) {
      if (lua_tointeger(L, -1) > greatest) greatest = lua_tointeger(L, -1);
      numbers++;
    } else fail_at(w, at, "a table with a key that is neither a position from 1 nor a string");
  }
  if (strings && numbers) fail_at(w, at, "a table with both positions and names as keys");
  if (greatest != numbers) fail_at(w, at, "a list with a hole");
  if (numbers > INT32_MAX / 2) fail_at(w, at, "a list that is too long");
  const mx_treedef *def = strings ? walk_dict(w, idx, top + 1, strings, at) : walk_list(w, idx, (int)numbers, at);
  lua_settop(L, top);
  return def;
}

static const mx_treedef *walk_object(mx_walk *w, int idx, const mx_segment *at) {
  lua_State *L = w->L;
  int top = lua_gettop(L), first = w->defs.n;
  if (!lua_getmetatable(L, idx) || !mx_class_spec(L))
    fail_at(w, at, "a table with a metatable that is not registered (see tree.register)");
  int n = mx_class_flatten(L, idx); /* stack: spec, children, aux */
  for (int i = 1; i <= n; i++) {
    if (lua_rawgeti(L, top + 2, i) == LUA_TNIL) fail_at(w, at, "children with a hole");
    walk_child(w, at, NULL, 0, i);
  }
  lua_createtable(L, 1, 0);
  lua_pushvalue(L, top + 3);
  lua_rawseti(L, -2, 1);
  lua_getmetatable(L, idx);
  const mx_treedef *def = intern(
      w, &(mx_node){.kind = MX_NODE_CLASS, .n = n, .children = w->defs.at + first, .aux = top + 4, .class = top + 5});
  w->defs.n = first;
  lua_settop(L, top);
  return def;
}

/* -- Parameters and Modules ---------------------------------------------------------------------------------------- */

/* The leaves and treedef of a packed node, which lie in another flat at user value 1 of the object. */
static const mx_treedef *walk_packed(mx_walk *w, int idx, const mx_treedef *def, int first) {
  lua_State *L = w->L;
  lua_getiuservalue(L, idx, 1);
  mx_flat_copy(L, w->flat, lua_gettop(L), first, def->leaves);
  lua_pop(L, 1);
  mx_treedef_push(L, def);
  anchor_def(w);
  return def;
}

static bool stays_packed(mx_walk *w, int idx) { /* its leaves may be taken without a look */
  lua_State *L = w->L;
  if (w->is_leaf) return false;
  lua_getiuservalue(L, idx, 1);
  bool loose = mx_flat_loose(L, lua_gettop(L));
  lua_pop(L, 1);
  return !loose;
}

/* Remembers the structure that the object has now. */
static void remember(mx_walk *w, int idx, const mx_treedef *def, int where, const mx_treedef **to, bool *changed) {
  if (w->is_leaf) return; /* what was found is cut short */
  if (*to != def) {
    mx_treedef_push(w->L, def);
    lua_setiuservalue(w->L, idx, where);
    *to = def;
  }
  *changed = false;
}

/* The names at [1..n] of the table at `names` become slots, all of them aux; pushes their values as a list. [-0, +1] */
static void slots_of_names(mx_walk *w, int names, int n) {
  lua_State *L = w->L;
  lua_createtable(L, n, 0);
  for (int i = 1; i <= n; i++) {
    mx_slot s = {.child = -1};
    lua_rawgeti(L, names, i);
    s.key = lua_tolstring(L, -1, &s.length);
    push_slot(w, s);
    lua_rawget(L, names);
    lua_rawseti(L, -2, i);
  }
}

static const mx_treedef *intern_parameter(mx_walk *w, int idx, const mx_parameter *p, const mx_treedef *data) {
  lua_State *L = w->L;
  int top = lua_gettop(L), slot = w->slots.n;
  mx_node node = {.kind = MX_NODE_PARAMETER, .trainable = p->trainable, .n = 1, .children = &data};
  if (lua_getiuservalue(L, idx, MX_PARAMETER_META) == LUA_TTABLE) {
    node.n_slots = (int)lua_rawlen(L, top + 1);
    slots_of_names(w, top + 1, node.n_slots);
    node.slots = w->slots.at + slot;
    node.aux = node.n_slots ? top + 2 : 0;
  }
  const mx_treedef *def = intern(w, &node);
  w->slots.n = slot;
  lua_settop(L, top);
  return def;
}

static const mx_treedef *walk_parameter(mx_walk *w, int idx, mx_parameter *p, const mx_segment *at) {
  lua_State *L = w->L;
  if (p->packed && stays_packed(w, idx)) return walk_packed(w, idx, p->def, p->first);
  mx_parameter_open(L, idx, p);
  mx_segment s = {at, "data", 4, 0, NULL, at->depth + 1, true};
  const mx_treedef *data = w->trees->empty;
  if (lua_getiuservalue(L, idx, MX_PARAMETER_DATA) != LUA_TNIL) data = walk_node(w, lua_gettop(L), &s);
  lua_pop(L, 1);
  const mx_treedef *def = p->def;
  if (def && !p->changed && !def->tables && def->children[0] == data) {
    lua_getiuservalue(L, idx, MX_PARAMETER_DEF);
    anchor_def(w);
    return def;
  }
  def = intern_parameter(w, idx, p, data);
  remember(w, idx, def, MX_PARAMETER_DEF, &p->def, &p->changed);
  return def;
}

static bool is_child(mx_walk *w, int idx) {
  lua_State *L = w->L;
  int type = lua_type(L, idx);
  if (type == LUA_TUSERDATA) return mx_what_is(L, w->state, idx) >= MX_IS_PARAMETER;
  return type == LUA_TTABLE && mx_holds_nodes(L, idx);
}

/* Walks the fields in order: children onto the pile, slots for all. */
static void walk_fields(mx_walk *w, int fields, int n, const mx_segment *at) {
  lua_State *L = w->L;
  for (int i = 1, children = 0; i <= n; i++) {
    mx_slot s = {.child = -1};
    lua_rawgeti(L, fields, i);
    s.key = lua_tolstring(L, -1, &s.length);
    lua_pushvalue(L, -1);
    lua_rawget(L, fields);
    if (is_child(w, lua_gettop(L))) {
      s.child = children++;
      walk_child(w, at, s.key, s.length, 0);
    } else lua_pop(L, 1);
    push_slot(w, s);
    lua_pop(L, 1);
  }
}

/* Pushes the list of the values of the slots from `slot` on that are no children. [-0, +1] */
static int push_aux(mx_walk *w, int fields, int slot) {
  lua_State *L = w->L;
  int n = w->slots.n - slot;
  lua_createtable(L, n, 0);
  for (int i = 1; i <= n; i++) {
    if (w->slots.at[slot + i - 1].child >= 0) continue;
    lua_rawgeti(L, fields, i);
    lua_rawget(L, fields);
    lua_rawseti(L, -2, i);
  }
  return lua_gettop(L);
}

/* Whether the structure that was found last still holds. Aux values are as they were, but for what lies in tables. */
static bool still_holds(mx_walk *w, const mx_treedef *def, int first, int slot, int fields) {
  int n = w->defs.n - first, n_slots = w->slots.n - slot;
  if (def->n != n || def->n_slots != n_slots) return false;
  for (int i = 0; i < n; i++)
    if (def->children[i] != w->defs.at[first + i]) return false;
  for (int i = 0; i < n_slots; i++)
    if (def->slots[i].child != w->slots.at[slot + i].child) return false;
  return !def->tables || mx_treedef_same_aux(w->L, def, push_aux(w, fields, slot));
}

static const mx_treedef *walk_module(mx_walk *w, int idx, mx_module *m, const mx_segment *at) {
  lua_State *L = w->L;
  if (m->packed && stays_packed(w, idx)) return walk_packed(w, idx, m->def, m->first);
  mx_module_open(L, idx, m);
  int top = lua_gettop(L), first = w->defs.n, slot = w->slots.n;
  lua_getiuservalue(L, idx, MX_MODULE_FIELDS);
  walk_fields(w, top + 1, (int)lua_rawlen(L, top + 1), at);
  const mx_treedef *def = m->def;
  if (def && !m->changed && still_holds(w, def, first, slot, top + 1)) {
    lua_getiuservalue(L, idx, MX_MODULE_DEF);
    anchor_def(w);
  } else {
    lua_settop(L, top + 1);
    push_aux(w, top + 1, slot);
    lua_getiuservalue(L, idx, MX_MODULE_CLASS);
    def = intern(w, &(mx_node){.kind = MX_NODE_MODULE,
                               .initialized = m->initialized,
                               .n = w->defs.n - first,
                               .n_slots = w->slots.n - slot,
                               .children = w->defs.at + first,
                               .slots = w->slots.at + slot,
                               .class = top + 3,
                               .aux = top + 2});
    remember(w, idx, def, MX_MODULE_DEF, &m->def, &m->changed);
  }
  w->defs.n = first;
  w->slots.n = slot;
  lua_settop(L, top);
  return def;
}

/* -- dispatch ------------------------------------------------------------------------------------------------------ */

static bool stops_here(mx_walk *w, int idx) { /* is_leaf(node) */
  lua_State *L = w->L;
  lua_pushvalue(L, w->is_leaf);
  lua_pushvalue(L, idx);
  if (!mx_call(L, 1, 1)) mx_raise(L);
  bool stop = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return stop;
}

static const mx_treedef *walk_node(mx_walk *w, int idx, mx_segment *at) {
  lua_State *L = w->L;
  mx_what what = mx_what_is(L, w->state, idx);
  enter_node(w, at);
  if (w->is_leaf && stops_here(w, idx)) return walk_leaf(w, what, idx);
  at->object = lua_topointer(L, idx);
  switch (what) {
  case MX_IS_ARRAY: return walk_leaf(w, what, idx);
  case MX_IS_PARAMETER: return walk_parameter(w, idx, lua_touserdata(L, idx), at);
  case MX_IS_MODULE: return walk_module(w, idx, lua_touserdata(L, idx), at);
  case MX_IS_OTHER: break;
  }
  switch (lua_type(L, idx)) {
  case LUA_TNIL: return w->trees->nil;
  case LUA_TBOOLEAN: return lua_toboolean(L, idx) ? walk_leaf(w, what, idx) : w->trees->empty;
  case LUA_TTABLE: return mx_is_plain_table(L, idx) ? walk_table(w, idx, at) : walk_object(w, idx, at);
  default: return walk_leaf(w, what, idx);
  }
}

/* Three slots of the stack belong to the walk: anchors, and the piles when they grow. [-0, +3] */
static void begin_walk(mx_walk *w, lua_State *L, int flat, int is_leaf) {
  w->L = L;
  w->state = mx_state_of(L);
  w->trees = w->state->trees;
  w->flat = lua_absindex(L, flat);
  w->is_leaf = is_leaf;
  luaL_checkstack(L, 24, NULL);
  lua_createtable(L, w->trees->anchored, 0);
  w->anchors = lua_gettop(L);
  lua_pushnil(L);
  lua_pushnil(L);
  w->defs_at = w->anchors + 1;
  w->slots_at = w->anchors + 2;
  w->n_anchors = w->defs.n = w->slots.n = 0;
  w->defs.cap = w->slots.cap = PILE;
  w->defs.at = w->defs.few;
  w->slots.at = w->slots.few;
}

/* Adds the root; def is alive in the anchors. */
static int end_walk(mx_walk *w, const mx_treedef *def, int first) {
  lua_State *L = w->L;
  w->trees->anchored = w->n_anchors < MOST_ANCHORED ? w->n_anchors : MOST_ANCHORED;
  mx_treedef_push(L, def);
  int root = mx_flat_root(L, w->flat, lua_gettop(L), first);
  lua_settop(L, w->anchors - 1);
  return root;
}

int mx_flat_add_until(lua_State *L, int flat, int idx, int is_leaf) {
  mx_walk w;
  mx_segment root = {0};
  idx = lua_absindex(L, idx);
  int first = mx_flat_at(L, flat)->n;
  begin_walk(&w, L, flat, is_leaf);
  const mx_treedef *def = walk_node(&w, idx, &root);
  return end_walk(&w, def, first);
}

/* A bare array, the commonest argument, needs no walk. */
int mx_flat_add(lua_State *L, int flat, int idx) {
  mx_array *x = lua_type(L, idx) == LUA_TUSERDATA ? mx_to_array(L, idx) : NULL;
  if (!x) return mx_flat_add_until(L, flat, idx, 0);
  int first = mx_flat_at(L, flat)->n;
  *mx_flat_room(L, flat, 1) = (mx_leaf){.kind = MX_LEAF_ARRAY, .array = mx_retain(x)};
  return mx_flat_leaf_root(L, flat, first);
}

/* -- following a structure ----------------------------------------------------------------------------------------- */

static bool follow(mx_walk *w, const mx_treedef *def, int idx);

/* Follows the value on top as child i. [-1, +0] */
static bool follow_child(mx_walk *w, const mx_treedef *def, int i) {
  bool fits = follow(w, def->children[i], lua_gettop(w->L));
  lua_pop(w->L, 1);
  return fits;
}

static int count_keys(lua_State *L, int idx) {
  int n = 0;
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) n++;
  return n;
}

static bool follow_table(mx_walk *w, const mx_treedef *def, int idx) {
  lua_State *L = w->L;
  bool list = def->kind == MX_NODE_LIST;
  if (!mx_is_plain_table(L, idx) || count_keys(L, idx) != def->n) return false;
  for (int i = 0; i < def->n; i++) {
    if (list) lua_rawgeti(L, idx, i + 1);
    else {
      lua_pushlstring(L, def->slots[i].key, def->slots[i].length);
      lua_rawget(L, idx);
    }
    if (lua_isnil(L, -1)) return false;
    if (!follow_child(w, def, i)) return false;
  }
  return true;
}

static bool follow_parameter(mx_walk *w, const mx_treedef *def, int idx) {
  lua_State *L = w->L;
  mx_parameter *p = mx_to_parameter(L, idx);
  if (!p || p->trainable != def->trainable) return false;
  if (p->packed && p->def == def && stays_packed(w, idx)) return walk_packed(w, idx, def, p->first);
  mx_parameter_open(L, idx, p);
  int top = lua_gettop(L), slot = w->slots.n, n = 0;
  if (lua_getiuservalue(L, idx, MX_PARAMETER_META) == LUA_TTABLE) n = (int)lua_rawlen(L, -1);
  bool fits = n == def->n_slots;
  if (fits && n) {
    slots_of_names(w, top + 1, n);
    for (int i = 0; i < n && fits; i++)
      fits = mx_treedef_find(def, w->slots.at[slot + i].key, w->slots.at[slot + i].length) == i;
    fits = fits && mx_treedef_same_aux(L, def, top + 2);
    w->slots.n = slot;
  }
  lua_settop(L, top);
  lua_getiuservalue(L, idx, MX_PARAMETER_DATA);
  return follow_child(w, def, 0) && fits;
}

/* Whether the fields of an open module are def's, aux values included. stack: ..., fields at `fields` */
static bool same_fields(mx_walk *w, const mx_treedef *def, int fields) {
  lua_State *L = w->L;
  int top = lua_gettop(L);
  if ((int)lua_rawlen(L, fields) != def->n_slots) return false;
  lua_createtable(L, def->n_slots, 0);
  bool same = true;
  for (int i = 0; i < def->n_slots && same; i++) {
    size_t n;
    lua_rawgeti(L, fields, i + 1);
    const char *key = lua_tolstring(L, -1, &n);
    same = n == def->slots[i].length && memcmp(key, def->slots[i].key, n) == 0;
    lua_rawget(L, fields);
    if (def->slots[i].child < 0) lua_rawseti(L, top + 1, i + 1);
    else lua_pop(L, 1);
  }
  same = same && mx_treedef_same_aux(L, def, top + 1);
  lua_settop(L, top);
  return same;
}

static bool follow_module(mx_walk *w, const mx_treedef *def, int idx) {
  lua_State *L = w->L;
  mx_module *m = mx_to_module(L, idx);
  if (!m || m->initialized != def->initialized) return false;
  if (m->packed && m->def == def && stays_packed(w, idx)) return walk_packed(w, idx, def, m->first);
  lua_getiuservalue(L, idx, MX_MODULE_CLASS);
  bool fits = lua_topointer(L, -1) == def->class;
  lua_pop(L, 1);
  if (!fits) return false;
  mx_module_open(L, idx, m);
  lua_getiuservalue(L, idx, MX_MODULE_FIELDS);
  int fields = lua_gettop(L);
  fits = same_fields(w, def, fields);
  for (int i = 0; i < def->n_slots && fits; i++) {
    if (def->slots[i].child < 0) continue;
    lua_pushlstring(L, def->slots[i].key, def->slots[i].length);
    lua_rawget(L, fields);
    fits = follow_child(w, def, def->slots[i].child);
  }
  lua_settop(L, fields - 1);
  return fits;
}

static bool follow_object(mx_walk *w, const mx_treedef *def, int idx) {
  lua_State *L = w->L;
  int top = lua_gettop(L);
  if (!lua_istable(L, idx) || !lua_getmetatable(L, idx)) return false;
  bool fits = lua_topointer(L, -1) == def->class;
  lua_settop(L, top);
  if (!fits || mx_class_flatten(L, idx) != def->n) return false; /* stack: children, aux */
  lua_createtable(L, 1, 0);
  lua_pushvalue(L, top + 2);
  lua_rawseti(L, -2, 1);
  fits = mx_treedef_same_aux(L, def, top + 3);
  for (int i = 0; i < def->n && fits; i++) {
    lua_rawgeti(L, top + 1, i + 1);
    fits = follow_child(w, def, i);
  }
  lua_settop(L, top);
  return fits;
}

static bool follow_leaf(mx_walk *w, int idx) { /* nil, the empty place of a Parameter, reads false as elsewhere */
  lua_State *L = w->L;
  lua_pushboolean(L, false);
  walk_leaf(w, mx_what_is(L, w->state, idx), lua_isnil(L, idx) ? lua_gettop(L) : idx);
  lua_pop(L, 1);
  return true;
}

static bool follow(mx_walk *w, const mx_treedef *def, int idx) {
  lua_State *L = w->L;
  luaL_checkstack(L, 24, "a tree is too deep");
  switch ((mx_node_kind)def->kind) {
  case MX_NODE_LEAF: return follow_leaf(w, idx);
  case MX_NODE_NIL: return lua_isnil(L, idx);
  case MX_NODE_EMPTY: return !lua_toboolean(L, idx);
  case MX_NODE_LIST:
  case MX_NODE_DICT: return follow_table(w, def, idx);
  case MX_NODE_PARAMETER: return follow_parameter(w, def, idx);
  case MX_NODE_MODULE: return follow_module(w, def, idx);
  case MX_NODE_CLASS: return follow_object(w, def, idx);
  }
  return false;
}

/* Raises with the first path at which the value at idx leaves the structure. */
static void fail_misfit(lua_State *L, const mx_treedef *def, int idx) {
  mx_flat_new(L);
  int root = mx_flat_add(L, lua_gettop(L), idx);
  mx_treedef_difference(L, def, mx_flat_at(L, lua_gettop(L))->roots[root].def, true);
  const char *text = lua_tostring(L, -1);
  mx_error(L, "trees of different structure %s", text ? text : "(they agree as text)");
}

int mx_flat_add_like(lua_State *L, int flat, const mx_treedef *def, int idx) {
  mx_walk w;
  idx = lua_absindex(L, idx);
  flat = lua_absindex(L, flat);
  int first = mx_flat_at(L, flat)->n;
  begin_walk(&w, L, flat, 0);
  if (!follow(&w, def, idx)) fail_misfit(L, def, idx);
  return end_walk(&w, def, first);
}

static const mx_reg functions[] = {{"register", ltree_register, MX_IN_TREE}, {NULL, NULL, 0}};
void mx_open_walk(lua_State *L) { mx_register(L, functions); }
