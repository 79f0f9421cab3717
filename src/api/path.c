/* path.c: where in a tree: paths as Lua accessors, the first difference of two structures, trees that are prefixes of
 * others. */
#include "tree_impl.h"

#include <ctype.h>
#include <stdio.h>

/* -- text ---------------------------------------------------------------------------------------------------------- */

static bool is_reserved(const char *s) {
  static const char *const words[] = {"and",      "break",  "do",   "else", "elseif", "end",  "false", "for",
                                      "function", "goto",   "if",   "in",   "local",  "nil",  "not",   "or",
                                      "repeat",   "return", "then", "true", "until",  "while"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (!strcmp(s, words[i])) return true;
  return false;
}

static bool is_name(const char *s, size_t n) {
  if (n == 0 || isdigit((unsigned char)s[0])) return false;
  for (size_t i = 0; i < n; i++)
    if ((unsigned char)s[i] >= 128 || (!isalnum((unsigned char)s[i]) && s[i] != '_')) return false;
  return !is_reserved(s); /* Lua strings end in a zero */
}

static void add_quoted(luaL_Buffer *b, const char *s, size_t n) {
  char code[8];
  luaL_addstring(b, "[\"");
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)s[i];
    if (c == '"' || c == '\\') luaL_addchar(b, '\\');
    if (c >= 32 && c != 127) luaL_addchar(b, (char)c);
    else {
      code[0] = '\\';
      code[1] = (char)('0' + c / 100);
      code[2] = (char)('0' + c / 10 % 10);
      code[3] = (char)('0' + c % 10);
      luaL_addlstring(b, code, 4);
    }
  }
  luaL_addstring(b, "\"]");
}

void mx_path_add_key(luaL_Buffer *b, bool first, const char *key, size_t n) {
  if (!is_name(key, n)) {
    add_quoted(b, key, n);
    return;
  }
  if (!first) luaL_addchar(b, '.');
  luaL_addlstring(b, key, n);
}

void mx_path_add_index(luaL_Buffer *b, lua_Integer i) {
  char text[32];
  size_t n = sizeof text;
  text[--n] = ']';
  do text[--n] = (char)('0' + i % 10);
  while (i /= 10);
  text[--n] = '[';
  luaL_addlstring(b, text + n, sizeof text - n);
}

static void add_segment(luaL_Buffer *b, const mx_segment *s) {
  if (!s->up) return; /* the root */
  add_segment(b, s->up);
  if (s->key) mx_path_add_key(b, !s->up->up, s->key, s->length);
  else mx_path_add_index(b, s->index);
}

void mx_path_push(lua_State *L, const mx_segment *s) {
  luaL_Buffer b;
  luaL_checkstack(L, 8, NULL);
  luaL_buffinit(L, &b);
  add_segment(&b, s);
  luaL_pushresult(&b);
}

/* -- paths of leaves ----------------------------------------------------------------------------------------------- */

/* The segment that leads from def to its child i. */
mx_segment mx_child_segment(const mx_segment *up, const mx_treedef *def, int i) {
  mx_segment s = {up, NULL, 0, i + 1, NULL, up->depth + 1, false};
  if (def->kind == MX_NODE_PARAMETER) {
    s.key = "data";
    s.length = 4;
    s.is_data = true;
  } else if (def->kind == MX_NODE_DICT || def->kind == MX_NODE_MODULE) {
    int k = i;
    while (k < def->n_slots && def->slots[k].child != i) k++;
    s.key = def->slots[k].key;
    s.length = def->slots[k].length;
  }
  return s;
}

static void push_leaf_path(lua_State *L, const mx_treedef *def, int leaf, const mx_segment *at) {
  if (def->n == 0) {
    mx_path_push(L, at);
    return;
  }
  int i = 0;
  while (i < def->n - 1 && leaf >= def->children[i]->leaves) leaf -= def->children[i++]->leaves;
  mx_segment s = mx_child_segment(at, def, i);
  push_leaf_path(L, def->children[i], leaf, &s);
}

void mx_flat_path(lua_State *L, int flat, int root, int leaf) {
  const struct mx_root *r = &mx_flat_at(L, flat)->roots[root];
  mx_segment s = {0};
  push_leaf_path(L, r->def, leaf, &s);
}

/* Whether text stands before what comes next. */
static bool add_name_segment(luaL_Buffer *b, const mx_segment *s) {
  if (!s->up) return false;
  bool behind = add_name_segment(b, s->up);
  if (s->is_data) return behind;
  if (behind) luaL_addchar(b, '.');
  if (s->key) luaL_addlstring(b, s->key, s->length);
  else {
    char digits[32];
    luaL_addlstring(b, digits, (size_t)snprintf(digits, sizeof digits, "%lld", (long long)s->index - 1));
  }
  return true;
}

static void push_name(lua_State *L, const mx_segment *s) { /* [-0, +1] */
  luaL_Buffer b;
  luaL_checkstack(L, 8, NULL);
  luaL_buffinit(L, &b);
  add_name_segment(&b, s);
  luaL_pushresult(&b);
}

typedef struct path_visit {
  void (*push)(lua_State *L, const mx_segment *s); /* the text of a leaf's place */
  void (*visit)(lua_State *L, void *ud, int leaf);
  void *ud;
  int leaf;
} path_visit;

static void visit_paths(lua_State *L, const mx_treedef *def, const mx_segment *at, path_visit *v) {
  if (def->kind == MX_NODE_LEAF) {
    v->push(L, at);
    v->visit(L, v->ud, v->leaf++);
    lua_pop(L, 1);
  }
  for (int i = 0; i < def->n; i++) {
    mx_segment s = mx_child_segment(at, def, i);
    visit_paths(L, def->children[i], &s, v);
  }
}

void mx_treedef_paths(lua_State *L, const mx_treedef *def, void (*visit)(lua_State *L, void *ud, int leaf), void *ud) {
  path_visit v = {mx_path_push, visit, ud, 0};
  mx_segment s = {0};
  visit_paths(L, def, &s, &v);
}

void mx_treedef_names(lua_State *L, const mx_treedef *def, void (*visit)(lua_State *L, void *ud, int leaf), void *ud) {
  path_visit v = {push_name, visit, ud, 0};
  mx_segment s = {0};
  visit_paths(L, def, &s, &v);
}

static bool push_unset(lua_State *L, const mx_treedef *def, const mx_segment *at) { /* [-0, +1 or 0] */
  if (mx_treedef_is_unset(def)) return mx_path_push(L, at), true;
  for (int i = 0; i < def->n; i++) {
    mx_segment s = mx_child_segment(at, def, i);
    if (push_unset(L, def->children[i], &s)) return true;
  }
  return false;
}

void mx_treedef_unset(lua_State *L, const mx_treedef *def) {
  mx_segment s = {0};
  if (!push_unset(L, def, &s)) lua_pushnil(L);
}

/* -- differences --------------------------------------------------------------------------------------------------- */

enum { SIDE_LENGTH = 100 };

/* "at 'path': <one> and <other>", with both texts on top. [-2, +1] */
static void say(lua_State *L, const mx_segment *at, const char *what) {
  if (at->up) {
    mx_path_push(L, at);
    lua_pushfstring(L, "at '%s': %s%s and %s", lua_tostring(L, -1), what, lua_tostring(L, -3), lua_tostring(L, -2));
    lua_remove(L, -2);
  } else lua_pushfstring(L, "at the root: %s%s and %s", what, lua_tostring(L, -2), lua_tostring(L, -1));
  lua_insert(L, -3);
  lua_pop(L, 2);
}

static bool say_sides(lua_State *L, const mx_segment *at, const mx_treedef *a, const mx_treedef *b) {
  mx_treedef_text(L, a, SIDE_LENGTH);
  mx_treedef_text(L, b, SIDE_LENGTH);
  say(L, at, "");
  return true;
}

/* The first aux value that differs between two nodes of one class, with equal fields. */
static bool say_aux(lua_State *L, const mx_segment *at, const mx_treedef *a, const mx_treedef *b) {
  int top = lua_gettop(L), n = a->kind == MX_NODE_CLASS ? 1 : a->n_slots;
  for (int i = 0; i < n; i++) {
    if (a->kind != MX_NODE_CLASS && a->slots[i].child >= 0) continue;
    lua_settop(L, top);
    mx_treedef_push_aux(L, a, i);
    mx_treedef_push_aux(L, b, i);
    if (mx_value_same(L, top + 1, top + 2, 0)) continue;
    lua_pushfstring(L, "%s = ", a->kind == MX_NODE_CLASS ? "aux" : a->slots[i].key);
    const char *what = lua_tostring(L, -1);
    mx_value_text(L, top + 1);
    mx_value_text(L, top + 2);
    say(L, at, what);
    lua_insert(L, top + 1);
    lua_settop(L, top + 1);
    return true;
  }
  lua_settop(L, top);
  return say_sides(L, at, a, b);
}

static bool slots_agree(const mx_treedef *a, const mx_treedef *b) {
  if (a->n_slots != b->n_slots) return false;
  for (int i = 0; i < a->n_slots; i++)
    if (a->slots[i].child != b->slots[i].child || a->slots[i].length != b->slots[i].length ||
        memcmp(a->slots[i].key, b->slots[i].key, a->slots[i].length) != 0)
      return false;
  return true;
}

static bool heads_agree(const mx_treedef *a, const mx_treedef *b) {
  return a->kind == b->kind && a->n == b->n && a->class == b->class && a->initialized == b->initialized &&
         a->trainable == b->trainable && slots_agree(a, b);
}

/* Pushes what differs and returns true, or false and nothing. [-0, +1 or 0] */
static bool differ(lua_State *L, const mx_treedef *a, const mx_treedef *b, bool prefix, const mx_segment *at) {
  if (a == b || (prefix && a->kind == MX_NODE_LEAF)) return false;
  luaL_checkstack(L, 12, "a tree is too deep");
  if (!heads_agree(a, b)) return say_sides(L, at, a, b);
  for (int i = 0; i < a->n; i++) {
    mx_segment s = mx_child_segment(at, a, i);
    if (differ(L, a->children[i], b->children[i], prefix, &s)) return true;
  }
  if (!a->class && a->kind != MX_NODE_PARAMETER) return false;
  mx_treedef_push(L, b);
  lua_getiuservalue(L, -1, MX_DEF_SAVED);
  bool same = !lua_istable(L, -1) || mx_treedef_same_aux(L, a, lua_gettop(L));
  lua_pop(L, 2);
  return same ? false : say_aux(L, at, a, b);
}

void mx_treedef_difference(lua_State *L, const mx_treedef *a, const mx_treedef *b, bool prefix) {
  mx_segment s = {0};
  if (!differ(L, a, b, prefix, &s)) lua_pushnil(L);
}

void mx_flat_difference(lua_State *L, int flat_a, int root_a, int flat_b, int root_b) {
  mx_treedef_difference(L, mx_flat_at(L, flat_a)->roots[root_a].def, mx_flat_at(L, flat_b)->roots[root_b].def, false);
}

/* -- prefixes ------------------------------------------------------------------------------------------------------ */

typedef struct prefix_walk {
  void (*set)(lua_State *L, void *ud, int leaf, int value);
  void *ud;
  int leaf; /* the next one */
} prefix_walk;

static void prefix_misfit(lua_State *L, const mx_treedef *def, const mx_segment *at, int value) {
  mx_path_push(L, at);
  const char *path = lua_tostring(L, -1);
  mx_treedef_text(L, def, SIDE_LENGTH);
  const char *text = lua_tostring(L, -1);
  path = *path ? lua_pushfstring(L, "'%s'", path) : "its root";
  mx_error(L, "a prefix does not fit its tree at %s (got %s, need one value, or the structure of %s)", path,
           mx_show(L, value), text);
}

static void prefix_govern(lua_State *L, const mx_treedef *def, int value, prefix_walk *w) {
  for (int i = 0; i < def->leaves; i++) w->set(L, w->ud, w->leaf++, value);
}

static void prefix_node(lua_State *L, const mx_treedef *def, int value, const mx_segment *at, prefix_walk *w);

/* The child at the top of the stack; nil is the empty place of a Parameter. [-1, +0] */
static void prefix_child(lua_State *L, const mx_treedef *def, int i, const mx_segment *at, prefix_walk *w) {
  mx_segment s = mx_child_segment(at, def, i);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushboolean(L, false);
  }
  prefix_node(L, def->children[i], lua_gettop(L), &s, w);
  lua_pop(L, 1);
}

static int entries(lua_State *L, int idx) {
  int n = 0;
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) n++;
  return n;
}

static void prefix_table(lua_State *L, const mx_treedef *def, int value, const mx_segment *at, prefix_walk *w) {
  bool list = def->kind == MX_NODE_LIST;
  if ((!list && def->kind != MX_NODE_DICT) || entries(L, value) != def->n) prefix_misfit(L, def, at, value);
  for (int i = 0; i < def->n; i++) {
    if (list) lua_rawgeti(L, value, i + 1);
    else {
      lua_pushlstring(L, def->slots[i].key, def->slots[i].length);
      lua_rawget(L, value);
    }
    if (lua_isnil(L, -1)) prefix_misfit(L, def, at, value);
    prefix_child(L, def, i, at, w);
  }
}

static void prefix_module(lua_State *L, const mx_treedef *def, int value, const mx_segment *at, prefix_walk *w) {
  lua_getiuservalue(L, value, MX_MODULE_CLASS);
  bool fits = def->kind == MX_NODE_MODULE && lua_topointer(L, -1) == def->class;
  lua_pop(L, 1);
  if (!fits) prefix_misfit(L, def, at, value);
  for (int i = 0; i < def->n_slots; i++) {
    if (def->slots[i].child < 0) continue;
    lua_pushlstring(L, def->slots[i].key, def->slots[i].length);
    lua_gettable(L, value);
    prefix_child(L, def, def->slots[i].child, at, w);
  }
}

static void prefix_parameter(lua_State *L, const mx_treedef *def, int value, const mx_segment *at, prefix_walk *w) {
  if (def->kind != MX_NODE_PARAMETER) prefix_misfit(L, def, at, value);
  mx_parameter_open(L, value, mx_to_parameter(L, value));
  lua_getiuservalue(L, value, MX_PARAMETER_DATA);
  prefix_child(L, def, 0, at, w);
}

static void prefix_class(lua_State *L, const mx_treedef *def, int value, const mx_segment *at, prefix_walk *w) {
  int top = lua_gettop(L), n = mx_class_flatten(L, value);
  if (def->kind != MX_NODE_CLASS || n != def->n) prefix_misfit(L, def, at, value);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, top + 1, i + 1);
    prefix_child(L, def, i, at, w);
  }
  lua_settop(L, top);
}

static void prefix_node(lua_State *L, const mx_treedef *def, int value, const mx_segment *at, prefix_walk *w) {
  luaL_checkstack(L, 12, "a tree is too deep");
  if (mx_to_module(L, value)) prefix_module(L, def, value, at, w);
  else if (mx_to_parameter(L, value)) prefix_parameter(L, def, value, at, w);
  else if (!lua_istable(L, value)) prefix_govern(L, def, value, w);
  else if (mx_is_plain_table(L, value)) prefix_table(L, def, value, at, w);
  else prefix_class(L, def, value, at, w);
}

void mx_flat_prefix(lua_State *L, int flat, int root, int prefix,
                    void (*set)(lua_State *L, void *ud, int leaf, int value), void *ud) {
  const struct mx_root *r = &mx_flat_at(L, flat)->roots[root];
  prefix_walk w = {set, ud, 0};
  mx_segment s = {0};
  lua_pushvalue(L, prefix);
  prefix_node(L, r->def, lua_gettop(L), &s, &w);
  lua_pop(L, 1);
}
