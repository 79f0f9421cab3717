/* module.c: the userdata behind every Module: its fields, its calls, and where in the model a computation stands.
 * Classes are in class.c, the Lua half (summary, tostring, tree_flatten_with_keys) in lua/mlax/module.lua. */
#include "tree_impl.h"

static const char meta_key = 0;  /* registry: the metatable of all Modules */
static const char calls_key = 0; /* registry: the struct mx_calls; its user value is the list of modules that run */
static const char observer_key =
    0; /* registry: {function that sees every call, or nil}, weak: it goes with its owner */

/* The modules whose call is running, outermost first: n modules at [1..n] of the list, and the threads that run them.
 * Each call marks the struct to be closed, so that an error pops it, too. A coroutine that dies of an error closes
 * nothing: its calls are dropped by the next who looks; the list keeps each thread, at [-i] for its first call i, so
 * that it can be asked. */
enum { MOST_CALLS = 1000 };
struct mx_calls {
  int n;
  lua_State *thread[MOST_CALLS];
};

mx_module *mx_to_module(lua_State *L, int idx) {
  if (lua_type(L, idx) != LUA_TUSERDATA || !lua_getmetatable(L, idx)) return NULL;
  const void *meta = lua_topointer(L, -1);
  lua_pop(L, 1);
  return meta == mx_trees_of(L)->module_meta ? lua_touserdata(L, idx) : NULL;
}

bool mx_is_module(lua_State *L, int idx) { return mx_to_module(L, idx) != NULL; }

/* A module without class or fields. */
mx_module *mx_module_new(lua_State *L, uint64_t serial) {
  mx_module *m = lua_newuserdatauv(L, sizeof *m, MX_MODULE_VALUES);
  memset(m, 0, sizeof *m);
  m->serial = serial;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &meta_key);
  lua_setmetatable(L, -2);
  return m;
}

/* -- traces -------------------------------------------------------------------------------------------------------- */

uint64_t mx_trace_serial(const mx_array *x) {
  return mx_is_tracer(x) && x->tag != MX_ABSTRACT && x->trace ? x->trace->serial : 0;
}

uint64_t mx_serial_now(lua_State *L) {
  const mx_trace *t = mx_state_of(L)->ctx.trace;
  return t ? t->serial : 0;
}

/* The youngest trace that the value at idx belongs to; Modules and Parameters belong to the one that they were made in.
 */
static uint64_t value_serial(lua_State *L, int idx, int depth) {
  mx_array *x = mx_to_array(L, idx);
  if (x) return mx_trace_serial(x);
  mx_module *m = mx_to_module(L, idx);
  if (m) return m->serial;
  mx_parameter *p = mx_to_parameter(L, idx);
  if (p) return p->serial;
  if (!lua_istable(L, idx) || depth > MX_TREE_DEPTH) return 0;
  luaL_checkstack(L, 8, "a tree is too deep");
  uint64_t youngest = 0;
  lua_pushnil(L);
  while (lua_next(L, idx)) {
    uint64_t s = value_serial(L, lua_gettop(L), depth + 1);
    if (s > youngest) youngest = s;
    lua_pop(L, 1);
  }
  return youngest;
}

void mx_check_captured(lua_State *L, uint64_t serial, int idx) {
  if (serial >= mx_serial_now(L)) return;
  if (value_serial(L, lua_absindex(L, idx), 0) > serial)
    mx_error(L, "the module was captured, not passed: it cannot take a value of the running transformation (pass it as "
                "an argument, "
                "and return it)");
}

/* -- packed and open ----------------------------------------------------------------------------------------------- */

void mx_module_pack(lua_State *L, int flat, const mx_treedef *def, int first, uint64_t serial) {
  flat = lua_absindex(L, flat);
  mx_module *m = mx_module_new(L, serial);
  lua_pushvalue(L, flat);
  lua_setiuservalue(L, -2, MX_MODULE_FIELDS);
  mx_treedef_push_class(L, def);
  lua_setiuservalue(L, -2, MX_MODULE_CLASS);
  m->def = def; /* the flat keeps it */
  m->first = first;
  m->initialized = def->initialized;
  m->packed = true;
}

/* The fields of a treedef with the leaves of the flat at `flat`. [-0, +1] */
static void push_fields(lua_State *L, int flat, const mx_module *m) {
  const mx_treedef *def = m->def;
  int first = m->first;
  lua_createtable(L, def->n_slots, def->n_slots);
  for (int i = 0; i < def->n_slots; i++) {
    const mx_slot *s = &def->slots[i];
    lua_pushlstring(L, s->key, s->length);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, i + 1);
    if (s->child < 0) mx_treedef_push_aux(L, def, i);
    else {
      mx_build(L, flat, def->children[s->child], first, m->serial);
      first += def->children[s->child]->leaves;
    }
    lua_rawset(L, -3);
  }
}

void mx_module_open(lua_State *L, int idx, mx_module *m) {
  if (!m->packed) return;
  idx = lua_absindex(L, idx);
  luaL_checkstack(L, 12, NULL);
  lua_getiuservalue(L, idx, MX_MODULE_FIELDS);
  push_fields(L, lua_gettop(L), m);
  mx_treedef_push(L, m->def);
  lua_setiuservalue(L, idx, MX_MODULE_DEF);
  lua_setiuservalue(L, idx, MX_MODULE_FIELDS);
  lua_pop(L, 1);
  m->packed = false;
}

/* -- fields -------------------------------------------------------------------------------------------------------- */

static void drop_name(lua_State *L, int fields, int key) {
  lua_Integer n = (lua_Integer)lua_rawlen(L, fields), to = 1;
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, fields, i);
    if (lua_rawequal(L, -1, key)) lua_pop(L, 1);
    else lua_rawseti(L, fields, to++);
  }
  lua_pushnil(L);
  lua_rawseti(L, fields, n);
}

void mx_fields_set(lua_State *L, int fields, int key, int value) {
  lua_pushvalue(L, key);
  bool had = lua_rawget(L, fields) != LUA_TNIL, has = !lua_isnil(L, value);
  lua_pop(L, 1);
  if (!had && has) {
    lua_pushvalue(L, key);
    lua_rawseti(L, fields, (lua_Integer)lua_rawlen(L, fields) + 1);
  } else if (had && !has) drop_name(L, fields, key);
  lua_pushvalue(L, key);
  lua_pushvalue(L, value);
  lua_rawset(L, fields);
}

/* What is not a field: `initialized`, methods, the class's own values. stack: self, key */
static int push_of_class(lua_State *L, const mx_module *m) {
  if (!strcmp(lua_tostring(L, 2), "initialized")) return lua_pushboolean(L, m->initialized), 1;
  lua_getiuservalue(L, 1, MX_MODULE_CLASS);
  lua_pushvalue(L, 2);
  lua_gettable(L, -2);
  return 1;
}

static int lmodule_index(lua_State *L) {
  mx_module *m = lua_touserdata(L, 1);
  if (lua_type(L, 2) != LUA_TSTRING) return lua_pushnil(L), 1;
  if (m->packed) { /* a method call opens nothing */
    size_t n;
    const char *key = lua_tolstring(L, 2, &n);
    if (mx_treedef_find(m->def, key, n) < 0) return push_of_class(L, m);
    mx_module_open(L, 1, m);
  }
  lua_getiuservalue(L, 1, MX_MODULE_FIELDS);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, -2) != LUA_TNIL) return 1;
  return push_of_class(L, m);
}

static bool is_node(lua_State *L, int idx) {
  return lua_type(L, idx) == LUA_TUSERDATA && (mx_to_parameter(L, idx) || mx_to_module(L, idx));
}

static void check_field(lua_State *L, const mx_module *m, bool new) { /* stack: self, key, value */
  const char *key = lua_tostring(L, 2);
  mx_array *x = mx_to_array(L, 3);
  if (lua_isnil(L, 3) && m->initialized && !new)
    mx_error(L, "field '%s' of an initialized module cannot be set to nil (use false)", key);
  if (new &&mx_class_is_method(L, 2)) mx_error(L, "'%s' is a method of mlax.Module, no field", key);
  if (x && mx_trace_serial(x))
    mx_error(L, "field '%s' cannot hold a traced array, which is no hyperparameter: wrap it, Parameter(false, x)", key);
  mx_check_captured(L, m->serial, 3);
}

static int set_initialized(lua_State *L, mx_module *m) {
  if (!lua_isboolean(L, 3)) return mx_error(L, "initialized must be a boolean (got %s)", mx_show(L, 3));
  m->changed |= m->initialized != lua_toboolean(L, 3);
  m->initialized = lua_toboolean(L, 3);
  return 0;
}

static int lmodule_newindex(lua_State *L) {
  mx_module *m = lua_touserdata(L, 1);
  mx_enter(L, "Module");
  lua_settop(L, 3);
  if (lua_type(L, 2) != LUA_TSTRING)
    return mx_error(L, "a module has named fields (got the key %s, need a string)", mx_show(L, 2));
  mx_module_open(L, 1, m);
  if (!strcmp(lua_tostring(L, 2), "initialized")) return set_initialized(L, m);
  lua_getiuservalue(L, 1, MX_MODULE_FIELDS);
  lua_pushvalue(L, 2);
  bool new = lua_rawget(L, 4) == LUA_TNIL; /* stack: self, key, value, fields, old */
  check_field(L, m, new);
  if (new &&lua_isnil(L, 3)) return 0;
  m->changed |= !is_node(L, 3) || !is_node(L, 5);
  mx_fields_set(L, 4, 2, 3);
  return 0;
}

static int next_field(lua_State *L) { /* upvalues: state, position */
  lua_Integer i = lua_tointeger(L, lua_upvalueindex(2)) + 1;
  lua_settop(L, 1);
  lua_pushinteger(L, i);
  lua_replace(L, lua_upvalueindex(2));
  lua_getiuservalue(L, 1, MX_MODULE_FIELDS);
  if (lua_rawgeti(L, 2, i) == LUA_TNIL) return 1;
  lua_pushvalue(L, -1);
  lua_rawget(L, 2);
  return 2;
}

static int lmodule_pairs(lua_State *L) {
  mx_module_open(L, 1, lua_touserdata(L, 1));
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, next_field, 2);
  lua_pushvalue(L, 1);
  return 2;
}

/* -- metamethods that classes define ------------------------------------------------------------------------------- */

/* Pushes the class's own `name`; true if it is there. [-0, +1] */
static bool push_class_value(lua_State *L, const char *name) {
  lua_getiuservalue(L, 1, MX_MODULE_CLASS);
  bool there = lua_getfield(L, -1, name) != LUA_TNIL;
  lua_remove(L, -2);
  return there;
}

static int lmodule_tostring(lua_State *L) {
  lua_settop(L, 1);
  if (push_class_value(L, "__tostring")) {
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    return 1;
  }
  lua_getiuservalue(L, 1, MX_MODULE_CLASS);
  mx_class_name(L, lua_gettop(L));
  return 1;
}

static int lmodule_len(lua_State *L) {
  lua_settop(L, 1);
  if (!push_class_value(L, "__len")) {
    mx_enter(L, "Module");
    lua_getiuservalue(L, 1, MX_MODULE_CLASS);
    mx_class_name(L, lua_gettop(L));
    return mx_error(L, "class %s has no length (it may define __len)", lua_tostring(L, -1));
  }
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

/* -- calls --------------------------------------------------------------------------------------------------------- */

static void drop_call(lua_State *L, struct mx_calls *c, int list) {
  lua_pushnil(L);
  lua_rawseti(L, list, c->n);
  if (c->n == 1 || c->thread[c->n - 2] != c->thread[c->n - 1]) {
    lua_pushnil(L);
    lua_rawseti(L, list, -c->n);
  }
  c->n--;
}

static void drop_dead_calls(lua_State *L, struct mx_calls *c, int list) {
  while (c->n && c->thread[c->n - 1] != L && lua_status(c->thread[c->n - 1]) > LUA_YIELD) drop_call(L, c, list);
}

static int lcalls_close(lua_State *L) {
  struct mx_calls *c = lua_touserdata(L, 1);
  lua_settop(L, 1);
  lua_getiuservalue(L, 1, 1);
  while (c->n && c->thread[c->n - 1] != L)
    drop_call(L, c, 2); /* calls of dead coroutines: ours is the last one of a thread that lives */
  if (c->n) drop_call(L, c, 2);
  return 0;
}

/* The module at 1 runs until the calling C function returns or raises. [-0, +1] */
static void begin_call(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &calls_key);
  int top = lua_gettop(L);
  struct mx_calls *c = lua_touserdata(L, top);
  lua_getiuservalue(L, top, 1);
  drop_dead_calls(L, c, top + 1);
  if (c->n == MOST_CALLS) mx_error(L, "modules call one another more than %d deep", MOST_CALLS);
  lua_pushvalue(L, 1);
  lua_rawseti(L, top + 1, c->n + 1);
  if (c->n == 0 || c->thread[c->n - 1] != L) {
    lua_pushthread(L);
    lua_rawseti(L, top + 1, -(c->n + 1));
  }
  lua_settop(L, top);
  lua_toclose(L, top);
  c->thread[c->n++] = L;
}

static mx_module *check_call(lua_State *L,
                             const char *op) { /* settles the stack to self, x, rng, inference_mode, batch_axis_name */
  mx_module *m = mx_to_module(L, 1);
  mx_enter(L, op);
  if (!m) mx_error(L, "a module is needed (got %s)", mx_show(L, 1));
  if (lua_gettop(L) > 5)
    mx_error(L, "x, rng, inference_mode and batch_axis_name are taken (got %d arguments)", lua_gettop(L) - 1);
  lua_settop(L, 5);
  return m;
}

static void show_to_observer(lua_State *L) { /* observer(model, y, x). stack: model, x, ..., y */
  lua_rawgetp(L, LUA_REGISTRYINDEX, &observer_key);
  int type = lua_rawgeti(L, -1, 1);
  lua_remove(L, -2);
  if (type == LUA_TNIL) {
    lua_pop(L, 1);
    return;
  }
  lua_pushvalue(L, 1);
  lua_pushvalue(L, -3);
  lua_pushvalue(L, 2);
  lua_call(L, 3, 0);
}

/* stack: self, x, rng, inference_mode, batch_axis_name, ... -> y, model */
static int apply(lua_State *L) {
  push_class_value(L, "forward");
  for (int i = 1; i <= 5; i++) lua_pushvalue(L, i);
  lua_call(L, 5, 1);
  show_to_observer(L);
  lua_pushvalue(L, 1);
  return 2;
}

static int lmodule_apply(lua_State *L) {
  check_call(L, "apply");
  begin_call(L);
  return apply(L);
}

static int lmodule_call(lua_State *L) {
  mx_module *m = check_call(L, "Module");
  begin_call(L);
  if (!m->initialized) {
    push_class_value(L, "setup");
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_call(L, 2, 0);
    mx_module_open(L, 1, m);
    m->changed |= !m->initialized;
    m->initialized = true;
  }
  push_class_value(L, "apply");
  if (lua_tocfunction(L, -1) == lmodule_apply) return apply(L);
  for (int i = 1; i <= 5; i++) lua_pushvalue(L, i); /* a class with an apply of its own */
  lua_call(L, 5, 2);
  return 2;
}

static int not_implemented(lua_State *L, const char *method) {
  mx_enter(L, method);
  if (!mx_to_module(L, 1)) return mx_error(L, "a module is needed (got %s)", mx_show(L, 1));
  lua_settop(L, 1);
  lua_getiuservalue(L, 1, MX_MODULE_CLASS);
  mx_class_name(L, 2);
  return mx_error(L, "not implemented by class %s (define function %s:%s)", lua_tostring(L, -1), lua_tostring(L, -1),
                  method);
}

static int lmodule_setup(lua_State *L) { return not_implemented(L, "setup"); }
static int lmodule_forward(lua_State *L) { return not_implemented(L, "forward"); }

static int
lobserve(lua_State *L) { /* core.observe_calls(f or nil): f(model, y, x) after every call, as long as someone holds f */
  lua_settop(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &observer_key);
  lua_rawgeti(L, 2, 1);
  lua_pushvalue(L, 1);
  lua_rawseti(L, 2, 1);
  return 1;
}

/* -- where a computation stands ------------------------------------------------------------------------------------ */

typedef struct where_search {
  lua_State *L;
  const struct mx_calls *calls;
  int list;   /* stack index of the running modules */
  int budget; /* nodes still looked at */
} where_search;

static void where_from(where_search *w, int i, const mx_segment *at);

static bool find_module(where_search *w, int idx, int i, const mx_segment *at);

static bool find_child(where_search *w, int i, const mx_segment *at, const char *key, size_t length,
                       lua_Integer index) { /* [-1, +0 or 1] */
  mx_segment s = {at, key, length, index, NULL, at->depth + 1, false};
  int idx = lua_gettop(w->L);
  bool found = find_module(w, idx, i, &s);
  lua_remove(w->L, idx);
  return found;
}

static bool find_in_table(where_search *w, int idx, int i, const mx_segment *at) {
  lua_State *L = w->L;
  size_t n = 0;
  for (lua_pushnil(L); lua_next(L, idx);) { /* stack: key, value */
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &n) : NULL;
    lua_Integer index = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
    if (!find_child(w, i, at, key, n, index)) continue;
    lua_remove(L, -2);
    return true;
  }
  return false;
}

static bool find_in_fields(where_search *w, int idx, int i, const mx_segment *at) {
  lua_State *L = w->L;
  int top = lua_gettop(L);
  lua_getiuservalue(L, idx, MX_MODULE_FIELDS);
  int n = (int)lua_rawlen(L, top + 1);
  for (int k = 1; k <= n; k++) {
    size_t length;
    lua_rawgeti(L, top + 1, k);
    const char *key = lua_tolstring(L, -1, &length);
    lua_pushvalue(L, -1);
    lua_rawget(L, top + 1);
    if (find_child(w, i, at, key, length, 0)) { /* stack: fields, name, text */
      lua_insert(L, top + 1);
      lua_settop(L, top + 1);
      return true;
    }
    lua_pop(L, 1);
  }
  lua_settop(L, top);
  return false;
}

/* Finds running module i at or below the value at idx; if it is there, pushes the text for the innermost one. A packed
 * node cannot hold a module that runs. [-0, +1 or 0] */
static bool find_module(where_search *w, int idx, int i, const mx_segment *at) {
  lua_State *L = w->L;
  if (at->depth > MX_TREE_DEPTH || w->budget-- <= 0 || !lua_checkstack(L, 12)) return false;
  mx_module *m = mx_to_module(L, idx);
  mx_parameter *p = mx_to_parameter(L, idx);
  if (m) {
    lua_rawgeti(L, w->list, i);
    bool here = lua_rawequal(L, -1, idx);
    lua_pop(L, 1);
    if (here) return where_from(w, i, at), true;
    return !m->packed && find_in_fields(w, idx, i, at);
  }
  if (p && !p->packed) {
    lua_getiuservalue(L, idx, MX_PARAMETER_DATA);
    return find_child(w, i, at, "data", 4, 0);
  }
  return lua_istable(L, idx) && mx_is_plain_table(L, idx) && find_in_table(w, idx, i, at);
}

static void push_name_of(where_search *w, int i) { /* [-0, +1] */
  lua_State *L = w->L;
  lua_rawgeti(L, w->list, i);
  lua_getiuservalue(L, -1, MX_MODULE_CLASS);
  mx_class_name(L, lua_gettop(L));
  lua_replace(L, -3);
  lua_pop(L, 1);
}

/* Running module i stands at `at`: goes on to the next, or pushes the text. [-0, +1] */
static void where_from(where_search *w, int i, const mx_segment *at) {
  lua_State *L = w->L;
  int top = lua_gettop(L);
  if (i < w->calls->n) {
    lua_rawgeti(L, w->list, i + 1);
    lua_rawgeti(L, w->list, i);
    bool found = lua_rawequal(L, -1, -2);
    if (found) where_from(w, i + 1, at);
    else found = !mx_to_module(L, top + 2)->packed && find_in_fields(w, top + 2, i + 1, at);
    if (found) {
      lua_insert(L, top + 1);
      lua_settop(L, top + 1);
      return;
    }
    lua_settop(L, top);
  }
  mx_path_push(L, at);
  push_name_of(w, i);
  if (i == w->calls->n) lua_pushfstring(L, " in %s (%s)", lua_tostring(L, -2), lua_tostring(L, -1));
  else { /* the callee is no part of its caller */ push_name_of(w, w->calls->n);
    lua_pushfstring(L, " in %s, called by %s (%s)", lua_tostring(L, -1), lua_tostring(L, -3), lua_tostring(L, -2));
  }
  lua_insert(L, top + 1);
  lua_settop(L, top + 1);
}

void mx_module_where(lua_State *L) {
  luaL_checkstack(L, 24, NULL);
  const mx_state *s = mx_state_of(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &calls_key);
  lua_getiuservalue(L, -1, 1);
  drop_dead_calls(L, s->calls, lua_gettop(L));
  if (s->calls->n == 0) {
    lua_pop(L, 2);
    lua_pushliteral(L, "");
    return;
  }
  where_search w = {L, s->calls, lua_gettop(L), 100000};
  mx_segment root = {0}, model = {&root, "model", 5, 0, NULL, 1, false};
  lua_rawgeti(L, w.list, 1);
  int top = lua_gettop(L);
  where_from(&w, 1, &model);
  lua_replace(L, top - 2);
  lua_settop(L, top - 2);
}

static int lmodule_where(lua_State *L) {
  mx_module_where(L);
  return 1;
}

/* -- registration -------------------------------------------------------------------------------------------------- */

static int lis_module(lua_State *L) {
  lua_pushboolean(L, mx_is_module(L, 1));
  return 1;
}

static int lholds_nodes(lua_State *L) { /* core.is_child(v): a field that is a child of its module */
  mx_enter(L, "Module");
  lua_settop(L, 1);
  lua_pushboolean(L, is_node(L, 1) || (lua_istable(L, 1) && mx_holds_nodes(L, 1)));
  return 1;
}

static const mx_reg functions[] = {{"is_module", lis_module, MX_IN_MLAX | MX_IN_CORE},
                                   {"module_where", lmodule_where, MX_IN_CORE},
                                   {"observe_calls", lobserve, MX_IN_CORE},
                                   {"is_child", lholds_nodes, MX_IN_CORE},
                                   {NULL, NULL, 0}};

static const luaL_Reg metamethods[] = {{"__index", lmodule_index},
                                       {"__newindex", lmodule_newindex},
                                       {"__call", lmodule_call},
                                       {"__tostring", lmodule_tostring},
                                       {"__len", lmodule_len},
                                       {"__pairs", lmodule_pairs},
                                       {NULL, NULL}};

const luaL_Reg mx_module_methods[] = {
    {"apply", lmodule_apply}, {"setup", lmodule_setup}, {"forward", lmodule_forward}, {NULL, NULL}};

static void open_observer(lua_State *L) {
  lua_createtable(L, 1, 0);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &observer_key);
}

static void open_calls(lua_State *L, mx_state *s) {
  s->calls = lua_newuserdatauv(L, sizeof *s->calls, 1);
  memset(s->calls, 0, sizeof *s->calls);
  lua_newtable(L);
  lua_setiuservalue(L, -2, 1);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, lcalls_close);
  lua_setfield(L, -2, "__close");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &calls_key);
}

void mx_open_module(lua_State *L) { /* stack: core */
  mx_state *s = mx_state_of(L);
  mx_register(L, functions);
  open_calls(L, s);
  open_observer(L);
  lua_newtable(L);
  lua_pushlightuserdata(L, s);
  luaL_setfuncs(L, metamethods, 1);
  lua_pushliteral(L, "Module");
  lua_setfield(L, -2, "__name");
  lua_pushliteral(L, "Module");
  lua_setfield(L, -2, "__metatable");
  s->trees->module_meta = lua_topointer(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &meta_key);
  mx_open_parameter(L);
  mx_open_class(L);
}
