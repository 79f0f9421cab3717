/* jit_key.c: what a call of a compiled function is compared by.
 *
 *     key = structure of the arguments, avals of arrays, values of static leaves,
 *           captured values (upvalues, and those of Lua functions among them): arrays by aval, the rest by identity or
 *           value,
 *           named axes that are bound, debug.nans, debug.passes, deterministic
 *
 * Captured arrays, Parameters and Modules are inputs behind the arguments' own: their present values are used at every
 * call.
 */
#include "jit_impl.h"

/* -- captured values ----------------------------------------------------------------------------------------------- */

/* The walk over upvalues. Values are pushed on a table (at `seen`) so that identities stay valid as long as the entry.
 */
typedef struct capturing {
  mx_jit *j;
  int flat; /* of arrays, Parameters, Modules */
  int seen; /* list of all captured values */
} capturing;

static bool is_visited(const mx_jit *j, const mx_capture *v) {
  for (int i = 0; i < j->n_captures; i++)
    if (j->captures[i].type == v->type && j->captures[i].identity == v->identity) return true;
  return false;
}

bool mx_is_jit(lua_State *L, int idx) {
  if (lua_type(L, idx) != LUA_TUSERDATA || !lua_getmetatable(L, idx)) return false;
  bool yes = lua_topointer(L, -1) == MX_STATE(L)->jit_meta;
  lua_pop(L, 1);
  return yes;
}

static void capture_function(lua_State *L, capturing *w, int f, int depth);
static void capture_value(lua_State *L, capturing *w, int idx, const char *name, int depth);

/* What a function, or the function that a jitted one compiles, captures in its turn. */
static void capture_within(lua_State *L, capturing *w, int idx, int depth) {
  if (lua_type(L, idx) == LUA_TFUNCTION) {
    if (!lua_iscfunction(L, idx)) capture_function(L, w, idx, depth + 1);
    return;
  }
  lua_getiuservalue(L, idx, MX_JIT_FUNCTION);
  capture_value(L, w, lua_gettop(L), "(the jitted function)", depth + 1);
  lua_pop(L, 1);
}

static void capture_value(lua_State *L, capturing *w, int idx, const char *name, int depth) {
  mx_jit *j = w->j;
  if (mx_is_array(L, idx) || mx_is_module(L, idx) || mx_to_parameter(L, idx)) {
    int root = mx_flat_at(L, w->flat)->n_roots;
    mx_ok(L, mx_grow(j->c, &j->names, &j->names_cap, root + 1, sizeof *j->names));
    j->names[root] = name;
    mx_flat_add(L, w->flat, idx);
    return;
  }
  if (depth > 100) mx_error(L, "captured functions are nested more than 100 deep");
  luaL_checkstack(L, 8, "captured functions");
  mx_capture v = {.type = lua_type(L, idx), .name = name};
  bool callable = v.type == LUA_TFUNCTION || mx_is_jit(L, idx);
  if (callable) v.identity = lua_topointer(L, idx);
  if (callable && is_visited(j, &v)) return;
  if (v.type == LUA_TNUMBER) {
    v.is_integer = lua_isinteger(L, idx);
    if (v.is_integer) v.integer = lua_tointeger(L, idx);
    else v.number = lua_tonumber(L, idx);
  } else if (v.type == LUA_TBOOLEAN) {
    v.integer = lua_toboolean(L, idx);
  } else {
    v.identity = lua_topointer(L, idx);
  }
  mx_ok(L, mx_grow(j->c, &j->captures, &j->captures_cap, j->n_captures + 1, sizeof v));
  j->captures[j->n_captures++] = v;
  if (w->seen && v.type != LUA_TNIL) {
    lua_pushvalue(L, idx);
    lua_rawseti(L, w->seen, j->n_captures);
  }
  if (callable) capture_within(L, w, idx, depth);
}

static void capture_function(lua_State *L, capturing *w, int f, int depth) {
  for (int i = 1;; i++) {
    const char *name = lua_getupvalue(L, f, i);
    if (!name) break;
    if (strcmp(name, "_ENV") != 0) capture_value(L, w, lua_gettop(L), name, depth);
    lua_pop(L, 1);
  }
}

void mx_jit_capture(lua_State *L, mx_jit *j, int f, int flat, int seen) {
  capturing w = {j, flat, seen};
  j->n_captures = 0;
  if (!j->hidden && (lua_type(L, f) == LUA_TFUNCTION || mx_is_jit(L, f))) capture_within(L, &w, f, 0);
}

/* -- matching ------------------------------------------------------------------------------------------------------ */

static bool same_value(const mx_leaf *a, const mx_leaf *b) {
  if (a->kind != b->kind) return false;
  switch (a->kind) {
  case MX_LEAF_FLOAT: return memcmp(&a->number, &b->number, sizeof a->number) == 0;
  case MX_LEAF_INT: return a->integer == b->integer;
  case MX_LEAF_BOOL: return a->boolean == b->boolean;
  default: return a->identity == b->identity;
  }
}

static bool leaf_fits(const mx_key_leaf *k, const mx_leaf *l, const mx_flat *f, bool aliases) {
  if (k->kind != l->kind) return false;
  if (k->kind == MX_LEAF_ARRAY) {
    if (!mx_aval_equal(&k->aval, &l->array->aval)) return false;
    return !aliases || f->leaves[k->alias].array == l->array;
  }
  return k->traced || same_value(&k->value, l);
}

/* The first leaf that does not fit, n where all do, -1 where the structure differs. */
static int first_misfit(const mx_key_part *k, const mx_flat *f, bool aliases) {
  if (k->n != f->n || k->n_roots != f->n_roots) return -1;
  for (int r = 0; r < k->n_roots; r++)
    if (k->defs[r] != f->roots[r].def) return -1;
  for (int i = 0; i < k->n; i++)
    if (!leaf_fits(&k->leaves[i], &f->leaves[i], f, aliases)) return i;
  return k->n;
}

static int alias_of(const mx_flat *f, int leaf) {
  for (int i = 0; i < leaf; i++)
    if (f->leaves[i].kind == MX_LEAF_ARRAY && f->leaves[i].array == f->leaves[leaf].array) return i;
  return leaf;
}

/* Two different captured arrays that were one when traced, or the other way round: another key. */
static bool aliases_fit(const mx_key_part *k, const mx_flat *f) {
  for (int i = 0; i < k->n; i++)
    if (k->leaves[i].kind == MX_LEAF_ARRAY && alias_of(f, i) != k->leaves[i].alias) return false;
  return true;
}

static bool same_capture(const mx_capture *a, const mx_capture *b) {
  return a->type == b->type && a->is_integer == b->is_integer && a->integer == b->integer;
}

static bool captures_fit(const mx_entry *e, const mx_jit *j) {
  if (e->n_captures != j->n_captures) return false;
  for (int i = 0; i < j->n_captures; i++)
    if (!same_capture(&e->captures[i], &j->captures[i])) return false;
  return true;
}

/* The next vmap with a name from t outwards. */
static const mx_trace *named(const mx_trace *t) {
  while (t && !(t->kind == MX_TRACE_BATCH && t->name)) t = t->parent;
  return t;
}

static bool axes_fit(const mx_entry *e, const mx_ctx *c) {
  const mx_trace *t = named(c->trace);
  for (int i = 0; i < e->n_axes; i++, t = named(t->parent))
    if (!t || t->size != e->axes[i].size || strcmp(t->name, e->axes[i].name) != 0) return false;
  return !t;
}

static bool is_deterministic(const mx_ctx *c) { return (c->engine->flags & MLAX_DETERMINISTIC) != 0; }

static bool fits(const mx_entry *e, const mx_jit *j, const mx_flat *args, const mx_flat *captured) {
  return e->nans == j->c->nans && e->passes_off == j->c->passes_off && e->deterministic == is_deterministic(j->c) &&
         first_misfit(&e->args, args, false) == args->n && captures_fit(e, j) &&
         first_misfit(&e->captured, captured, true) == captured->n && aliases_fit(&e->captured, captured) &&
         axes_fit(e, j->c);
}

mx_entry *mx_jit_find(mx_jit *j, const mx_flat *args, const mx_flat *captured) {
  for (int i = 0; i < j->n; i++) {
    mx_entry *e = j->entries[i];
    if (!fits(e, j, args, captured)) continue;
    memmove(j->entries + 1, j->entries, (size_t)i * sizeof *j->entries);
    return j->entries[0] = e;
  }
  return NULL;
}

/* -- making -------------------------------------------------------------------------------------------------------- */

static bool is_among(const int *positions, int n, int arg) {
  for (int i = 0; i < n; i++)
    if (positions[i] == arg) return true;
  return false;
}

static mx_key_leaf leaf_key(const mx_flat *f, int i, bool is_static, bool captured) {
  const mx_leaf *l = &f->leaves[i];
  mx_key_leaf k = {.kind = l->kind, .alias = i};
  k.traced = l->kind == MX_LEAF_ARRAY || (l->kind == MX_LEAF_FLOAT && !is_static && !captured);
  if (l->kind == MX_LEAF_ARRAY) k.aval = l->array->aval;
  else k.value = *l;
  if (captured && l->kind == MX_LEAF_ARRAY) k.alias = alias_of(f, i);
  return k;
}

static bool make_part(mx_jit *j, mx_entry *e, const mx_flat *f, bool captured, mx_key_part *k) {
  k->n = f->n;
  k->n_roots = f->n_roots;
  k->leaves = mx_arena_alloc(j->c, &e->memory, (size_t)(f->n + 1) * sizeof *k->leaves);
  k->defs = mx_arena_alloc(j->c, &e->memory, (size_t)(f->n_roots + 1) * sizeof *k->defs);
  k->names = mx_arena_alloc(j->c, &e->memory, (size_t)(f->n_roots + 1) * sizeof *k->names);
  if (!k->leaves || !k->defs || !k->names) return false;
  for (int r = 0; r < f->n_roots; r++) {
    bool is_static = !captured && is_among(j->statics, j->n_static, r - j->hidden);
    k->defs[r] = f->roots[r].def;
    k->names[r] = captured && r < j->names_cap ? j->names[r] : NULL;
    for (int i = f->roots[r].first; i < mx_root_end(f, r); i++) k->leaves[i] = leaf_key(f, i, is_static, captured);
  }
  return true;
}

static bool note_axes(mx_jit *j, mx_entry *e) {
  for (const mx_trace *t = named(j->c->trace); t; t = named(t->parent)) e->n_axes++;
  e->axes = mx_arena_alloc(j->c, &e->memory, (size_t)(e->n_axes + 1) * sizeof *e->axes);
  if (!e->axes) return false;
  int i = 0;
  for (const mx_trace *t = named(j->c->trace); t; t = named(t->parent), i++) {
    e->axes[i] = (mx_bound_axis){mx_name_intern(j->c, t->name), t->size};
    if (!e->axes[i].name) return false;
  }
  return true;
}

/* Inputs are the traced leaves of the arguments, then the captured arrays. */
static bool note_donated(mx_jit *j, mx_entry *e, const mx_flat *args) {
  if (!j->n_donated) return true;
  e->donated = mx_arena_alloc(j->c, &e->memory, (size_t)(e->n_in + 1) * sizeof *e->donated);
  if (!e->donated) return false;
  for (int r = 0, k = 0; r < args->n_roots; r++)
    for (int i = args->roots[r].first; i < mx_root_end(args, r); i++)
      if (e->args.leaves[i].traced) e->donated[k++] = is_among(j->donated, j->n_donated, r - j->hidden);
  return true;
}

bool mx_jit_make_key(mx_jit *j, mx_entry *e, const mx_flat *args, const mx_flat *captured) {
  if (!make_part(j, e, args, false, &e->args) || !make_part(j, e, captured, true, &e->captured)) return false;
  e->nans = j->c->nans;
  e->passes_off = j->c->passes_off;
  e->deterministic = is_deterministic(j->c);
  e->n_captures = j->n_captures;
  e->captures = mx_arena_alloc(j->c, &e->memory, (size_t)(j->n_captures + 1) * sizeof *e->captures);
  if (!e->captures) return false;
  if (j->n_captures) memcpy(e->captures, j->captures, (size_t)j->n_captures * sizeof *e->captures);
  for (int i = 0; i < args->n; i++) e->n_in += e->args.leaves[i].traced;
  for (int i = 0; i < captured->n; i++) e->n_in += captured->leaves[i].kind == MX_LEAF_ARRAY;
  return note_axes(j, e) && note_donated(j, e, args);
}

/* -- explaining ---------------------------------------------------------------------------------------------------- */

static void push_leaf_text(lua_State *L, const mx_key_leaf *k) {
  mx_text t;
  if (k->kind == MX_LEAF_ARRAY) lua_pushstring(L, mx_aval_text(&t, &k->aval));
  else if (k->kind == MX_LEAF_INT) lua_pushfstring(L, "the integer %I", (LUAI_UACINT)k->value.integer);
  else if (k->kind == MX_LEAF_FLOAT) lua_pushfstring(L, "the number %f", (LUAI_UACNUMBER)k->value.number);
  else if (k->kind == MX_LEAF_BOOL) lua_pushstring(L, k->value.boolean ? "true" : "false");
  else lua_pushstring(L, "another static value");
}

static int root_of(const mx_flat *f, int leaf) {
  int r = 0;
  while (r + 1 < f->n_roots && f->roots[r + 1].first <= leaf) r++;
  return r;
}

/* "argument 1", "captured variable 'w'" */
static void push_root_name(lua_State *L, const mx_key_part *k, int root) {
  if (k->names[root]) lua_pushfstring(L, "captured variable '%s'", k->names[root]);
  else lua_pushfstring(L, "argument %d", root + 1);
}

/* "argument 1, at w.data: got float32[4], was traced for float32[3]" */
static void push_leaf_reason(lua_State *L, const mx_key_part *old, const mx_key_part *now, int at, int leaf) {
  const mx_flat *f = mx_flat_at(L, at);
  int root = root_of(f, leaf);
  push_root_name(L, now, root);
  mx_flat_path(L, at, root, leaf - f->roots[root].first);
  const char *path = lua_tostring(L, -1);
  push_leaf_text(L, &now->leaves[leaf]);
  push_leaf_text(L, &old->leaves[leaf]);
  lua_pushfstring(L, "%s%s%s: got %s, was traced for %s", lua_tostring(L, -4), *path ? ", at " : "", path,
                  lua_tostring(L, -2), lua_tostring(L, -1));
}

static bool push_part_reason(lua_State *L, int key_field, const mx_key_part *old, const mx_key_part *now, int at) {
  const mx_flat *f = mx_flat_at(L, at);
  int i = first_misfit(old, f, key_field == 2);
  if (i == f->n) return false;
  if (i >= 0) {
    push_leaf_reason(L, old, now, at, i);
    return true;
  }
  if (old->n_roots != now->n_roots) {
    lua_pushfstring(L, "%d %s, was traced for %d", now->n_roots,
                    key_field == 1 ? "arguments were given" : "arrays, Parameters and Modules are captured",
                    old->n_roots);
    return true;
  }
  lua_rawgeti(L, 4, key_field);
  int r = 0;
  while (r + 1 < f->n_roots && old->defs[r] == f->roots[r].def) r++;
  mx_flat_difference(L, at, r, lua_gettop(L), r);
  push_root_name(L, now, r);
  lua_pushfstring(L, "%s has another structure: %s", lua_tostring(L, -1),
                  lua_isnil(L, -2) ? "other static values" : lua_tostring(L, -2));
  return true;
}

/* The value of capture i in a list of them, as short text; of what is compared by identity the type. */
static const char *push_capture(lua_State *L, int list, int i) {
  int type = lua_rawgeti(L, list, i + 1);
  if (type == LUA_TSTRING) lua_pushfstring(L, "\"%s\"", lua_tostring(L, -1));
  else if (type == LUA_TNUMBER || type == LUA_TBOOLEAN || type == LUA_TNIL) luaL_tolstring(L, -1, NULL);
  else lua_pushfstring(L, "another %s", lua_typename(L, type));
  return lua_tostring(L, -1);
}

static bool push_capture_reason(lua_State *L, const mx_entry *old, const mx_entry *now) {
  int i = 0;
  while (i < old->n_captures && i < now->n_captures && same_capture(&old->captures[i], &now->captures[i])) i++;
  if (i == old->n_captures && i == now->n_captures) return false;
  if (i == old->n_captures || i == now->n_captures) {
    lua_pushliteral(L, "other variables are captured");
    return true;
  }
  lua_rawgeti(L, 4, 4);
  const char *before = push_capture(L, lua_gettop(L), i), *after = push_capture(L, 6, i);
  lua_pushfstring(L, "captured variable '%s' has another value: got %s, was traced for %s", now->captures[i].name,
                  after, before);
  return true;
}

/* What differs. stack: jit, arguments, captured values, record of the old entry, {old, new} entry, list of captures */
static int explain_body(lua_State *L) {
  const mx_entry *const *both = lua_touserdata(L, 5), *old = both[0], *now = both[1];
  luaL_checkstack(L, 24, NULL);
  if (push_part_reason(L, 1, &old->args, &now->args, 2)) return 1;
  if (push_capture_reason(L, old, now)) return 1;
  if (push_part_reason(L, 2, &old->captured, &now->captured, 3)) return 1;
  if (old->nans != now->nans) lua_pushfstring(L, "debug.nans was switched %s", now->nans ? "on" : "off");
  else if (old->passes_off != now->passes_off) lua_pushliteral(L, "passes were switched by debug.passes");
  else if (old->deterministic != now->deterministic)
    lua_pushfstring(L, "deterministic was switched %s", now->deterministic ? "on" : "off");
  else lua_pushliteral(L, "other named axes are bound");
  return 1;
}

/* A finalizer may drop the old entry meanwhile. */
void mx_jit_explain(lua_State *L, mx_jit *j, mx_entry *e, int args, int captured, int seen) {
  int top = lua_gettop(L), status = LUA_OK;
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushcclosure(L, explain_body, 1);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, args);
  lua_pushvalue(L, captured);
  if (j->n == 0) lua_pushliteral(L, "traced for the first time");
  else {
    mx_entry *old = j->entries[0], *both[2] = {old, e};
    lua_getiuservalue(L, 1, MX_JIT_ANCHORS);
    lua_rawgeti(L, -1, old->anchor);
    lua_remove(L, -2);
    lua_pushlightuserdata(L, both);
    lua_pushvalue(L, seen);
    old->running++;
    status = lua_pcall(L, 6, 1, 0);
    if (!--old->running && old->dropped) mx_entry_free(old);
  }
  if (status != LUA_OK) lua_error(L);
  lua_setiuservalue(L, 1, MX_JIT_EXPLAIN);
  j->explained = true;
  lua_settop(L, top);
}

/* The eighth trace that one integer argument causes warns, once. */
void mx_jit_watch_integers(lua_State *L, mx_jit *j, int at) {
  const mx_flat *args = mx_flat_at(L, at);
  if (j->n == 0) return;
  int i = first_misfit(&j->entries[0]->args, args, false);
  if (i < 0 || i == args->n || args->leaves[i].kind != MX_LEAF_INT || j->entries[0]->args.leaves[i].kind != MX_LEAF_INT)
    return;
  if (j->integer_leaf != i) j->integer_traces = 1;
  j->integer_leaf = i;
  if (++j->integer_traces != 8) return;
  int root = root_of(args, i), top = lua_gettop(L);
  mx_flat_path(L, at, root, i - args->roots[root].first);
  lua_pushfstring(
      L,
      "mlax: jit: argument %d%s%s is an integer that changes from call to call, and each value traces anew (8 traces): "
      "pass mlax.array(i, \"int32\")",
      root + 1, *lua_tostring(L, -1) ? " at " : "", lua_tostring(L, -1));
  lua_warning(L, lua_tostring(L, -1), 0);
  lua_settop(L, top);
}
