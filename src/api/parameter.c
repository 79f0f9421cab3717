/* parameter.c: mlax.Parameter: a tree node around its data, with metadata in order of first assignment. */
#include "tree_impl.h"

static const char meta_key = 0;  /* registry: the metatable of Parameters */
static const char class_key = 0; /* registry: the table mlax.Parameter */

mx_parameter *mx_to_parameter(lua_State *L, int idx) {
  if (lua_type(L, idx) != LUA_TUSERDATA || !lua_getmetatable(L, idx)) return NULL;
  const void *meta = lua_topointer(L, -1);
  lua_pop(L, 1);
  return meta == mx_state_of(L)->parameter_meta ? lua_touserdata(L, idx) : NULL;
}

bool mx_is_parameter(lua_State *L, int idx) { return mx_to_parameter(L, idx) != NULL; }

/* [-0, +1] */
static mx_parameter *parameter_new(lua_State *L, uint64_t serial) {
  mx_parameter *p = lua_newuserdatauv(L, sizeof *p, MX_PARAMETER_VALUES);
  memset(p, 0, sizeof *p);
  p->serial = serial;
  p->trainable = -1;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &meta_key);
  lua_setmetatable(L, -2);
  return p;
}

void mx_parameter_class(lua_State *L) { lua_rawgetp(L, LUA_REGISTRYINDEX, &class_key); }

/* -- packed and open ----------------------------------------------------------------------------------------------- */

void mx_parameter_pack(lua_State *L, int flat, const mx_treedef *def, int first, uint64_t serial) {
  flat = lua_absindex(L, flat);
  mx_parameter *p = parameter_new(L, serial);
  lua_pushvalue(L, flat);
  lua_setiuservalue(L, -2, MX_PARAMETER_DATA);
  p->def = def; /* the flat keeps it */
  p->first = first;
  p->trainable = def->trainable;
  p->packed = true;
}

/* The metadata of a treedef as a table: names in order at [1..n], values at the names. [-0, +1] */
static void push_metadata(lua_State *L, const mx_treedef *def) {
  lua_createtable(L, def->n_slots, def->n_slots);
  for (int i = 0; i < def->n_slots; i++) {
    lua_pushlstring(L, def->slots[i].key, def->slots[i].length);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, i + 1);
    mx_treedef_push_aux(L, def, i);
    lua_rawset(L, -3);
  }
}

void mx_parameter_open(lua_State *L, int idx, mx_parameter *p) {
  if (!p->packed) return;
  idx = lua_absindex(L, idx);
  luaL_checkstack(L, 12, NULL);
  const mx_treedef *data = p->def->children[0];
  lua_getiuservalue(L, idx, MX_PARAMETER_DATA); /* stack: flat */
  if (p->def->n_slots) {
    push_metadata(L, p->def);
    lua_setiuservalue(L, idx, MX_PARAMETER_META);
  }
  mx_treedef_push(L, p->def);
  lua_setiuservalue(L, idx, MX_PARAMETER_DEF);
  if (data->kind == MX_NODE_EMPTY) lua_pushnil(L);
  else mx_build(L, lua_gettop(L), data, p->first, p->serial);
  if (lua_isboolean(L, -1) && !lua_toboolean(L, -1)) { /* a leaf that was set to false */
    lua_pop(L, 1);
    lua_pushnil(L);
  }
  lua_setiuservalue(L, idx, MX_PARAMETER_DATA);
  lua_pop(L, 1);
  p->packed = false;
}

/* -- fields -------------------------------------------------------------------------------------------------------- */

static mx_parameter *self_at(lua_State *L, const char *op) {
  mx_parameter *p = mx_to_parameter(L, 1);
  if (p) return p;
  mx_enter(L, op);
  mx_error(L, "a Parameter is needed (got %s)", mx_show(L, 1));
  return NULL;
}

static void push_trainable(lua_State *L, const mx_parameter *p) {
  if (p->trainable < 0) lua_pushnil(L);
  else lua_pushboolean(L, p->trainable);
}

static int lparameter_index(lua_State *L) {
  mx_parameter *p = lua_touserdata(L, 1);
  if (lua_type(L, 2) != LUA_TSTRING) return lua_pushnil(L), 1;
  const char *key = lua_tostring(L, 2);
  if (!strcmp(key, "trainable")) return push_trainable(L, p), 1;
  mx_parameter_open(L, 1, p);
  if (!strcmp(key, "data")) {
    lua_getiuservalue(L, 1, MX_PARAMETER_DATA);
    return 1;
  }
  if (lua_getiuservalue(L, 1, MX_PARAMETER_META) == LUA_TTABLE) {
    lua_pushvalue(L, 2);
    if (lua_rawget(L, -2) != LUA_TNIL) return 1;
  }
  lua_rawgetp(L, LUA_REGISTRYINDEX, &class_key);
  lua_pushvalue(L, 2);
  lua_rawget(L, -2); /* a method */
  return 1;
}

static int8_t check_trainable(lua_State *L, int idx) {
  if (!lua_isnil(L, idx) && !lua_isboolean(L, idx))
    mx_error(L, "trainable must be true, false or nil (got %s)", mx_show(L, idx));
  return lua_isnil(L, idx) ? -1 : (int8_t)lua_toboolean(L, idx);
}

/* The value at idx becomes the data of the open Parameter at `self`; false is the empty place. */
static void set_data(lua_State *L, int self, mx_parameter *p, int idx) {
  mx_check_captured(L, p->serial, idx);
  if (lua_toboolean(L, idx)) lua_pushvalue(L, idx);
  else lua_pushnil(L);
  lua_setiuservalue(L, self, MX_PARAMETER_DATA);
}

static void set_metadata(lua_State *L, mx_parameter *p) { /* stack: self, key, value */
  mx_array *x = mx_to_array(L, 3);
  if (x && mx_trace_serial(x))
    mx_error(L, "a traced array cannot be metadata (field '%s'), put it into data", lua_tostring(L, 2));
  if (lua_getiuservalue(L, 1, MX_PARAMETER_META) != LUA_TTABLE) {
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, MX_PARAMETER_META);
    lua_replace(L, 4);
  }
  mx_fields_set(L, 4, 2, 3);
  p->changed = true;
}

static bool is_method(lua_State *L, int key) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &class_key);
  lua_pushvalue(L, key);
  bool method = lua_rawget(L, -2) != LUA_TNIL;
  lua_pop(L, 2);
  return method;
}

static int lparameter_newindex(lua_State *L) {
  mx_parameter *p = lua_touserdata(L, 1);
  mx_enter(L, "Parameter");
  lua_settop(L, 3);
  if (lua_type(L, 2) != LUA_TSTRING) return mx_error(L, "a Parameter has named fields (got the key %s)", mx_show(L, 2));
  const char *key = lua_tostring(L, 2);
  mx_parameter_open(L, 1, p);
  if (!strcmp(key, "data")) set_data(L, 1, p, 3);
  else if (!strcmp(key, "trainable")) {
    p->trainable = check_trainable(L, 3);
    p->changed = true;
  } else if (is_method(L, 2)) return mx_error(L, "'%s' is a method of Parameters, no field", key);
  else set_metadata(L, p);
  return 0;
}

/* -- making, flattening, showing ----------------------------------------------------------------------------------- */

static int lparameter_call(lua_State *L) { /* mlax.Parameter(trainable, data) */
  mx_enter(L, "Parameter");
  if (lua_gettop(L) > 3) return mx_error(L, "two arguments are taken, trainable and data (got %d)", lua_gettop(L) - 1);
  lua_settop(L, 3);
  int8_t trainable = check_trainable(L, 2);
  mx_parameter *p = parameter_new(L, mx_serial_now(L));
  p->trainable = trainable;
  set_data(L, 4, p, 3);
  return 1;
}

static int lparameter_flatten(lua_State *L) { /* p:tree_flatten() -> {data or false}, aux */
  mx_parameter *p = self_at(L, "tree_flatten");
  lua_settop(L, 1);
  mx_parameter_open(L, 1, p);
  lua_createtable(L, 1, 0);
  if (lua_getiuservalue(L, 1, MX_PARAMETER_DATA) == LUA_TNIL) {
    lua_pop(L, 1);
    lua_pushboolean(L, false);
  }
  lua_rawseti(L, 2, 1);
  lua_createtable(L, 0, 2);
  push_trainable(L, p);
  lua_setfield(L, 3, "trainable");
  lua_newtable(L);
  if (lua_getiuservalue(L, 1, MX_PARAMETER_META) == LUA_TTABLE)
    for (lua_pushnil(L); lua_next(L, 5);) { /* stack: self, children, aux, copy, meta, key, value */
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, 4);
    }
  lua_settop(L, 4);
  lua_setfield(L, 3, "metadata");
  return 2;
}

static int lparameter_unflatten(lua_State *L) { /* Parameter.tree_unflatten(aux, children) */
  mx_enter(L, "Parameter.tree_unflatten");
  lua_settop(L, 2);
  if (!lua_istable(L, 1) || !lua_istable(L, 2))
    return mx_error(L, "the aux of tree_flatten and a list with the data are needed (got %s, %s)", mx_show(L, 1),
                    mx_show(L, 2));
  mx_parameter *p = parameter_new(L, mx_serial_now(L));
  lua_getfield(L, 1, "trainable");
  p->trainable = check_trainable(L, 4);
  lua_rawgeti(L, 2, 1);
  set_data(L, 3, p, 5);
  lua_settop(L, 3);
  if (lua_getfield(L, 1, "metadata") == LUA_TTABLE) {
    lua_newtable(L);
    lua_pushnil(L);
    while (lua_next(L, 4)) {
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, 5);
    }
    lua_setiuservalue(L, 3, MX_PARAMETER_META);
  }
  lua_settop(L, 3);
  return 1;
}

static void add_data(luaL_Buffer *b) { /* stack: ..., buffer's box, data -> text added. [-1, +0] */
  lua_State *L = b->L;
  int idx = lua_gettop(L);
  mx_text t;
  mx_array *x = mx_to_array(L, idx);
  if (x) lua_pushstring(L, mx_aval_text(&t, &x->aval));
  else if (lua_isnil(L, idx)) lua_pushliteral(L, "empty");
  else if (lua_istable(L, idx) || mx_to_module(L, idx) || mx_to_parameter(L, idx)) {
    mx_flat_new(L);
    mx_flat_add(L, -1, idx);
    lua_pushfstring(L, "a tree of %d leaves", mx_flat_at(L, -1)->n);
    lua_remove(L, -2);
  } else mx_value_text(L, idx);
  lua_remove(L, -2);
  luaL_addvalue(b);
}

static int lparameter_tostring(lua_State *L) {
  static const char *const kind[] = {"nil", "false", "true"};
  mx_parameter *p = self_at(L, "tostring");
  mx_enter(L, "tostring");
  lua_settop(L, 1);
  mx_parameter_open(L, 1, p);
  int n = lua_getiuservalue(L, 1, MX_PARAMETER_META) == LUA_TTABLE ? (int)lua_rawlen(L, 2) : 0;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addstring(&b, "Parameter(");
  luaL_addstring(&b, kind[p->trainable + 1]);
  luaL_addstring(&b, ", ");
  lua_getiuservalue(L, 1, MX_PARAMETER_DATA);
  add_data(&b);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, 2, i);
    lua_pushvalue(L, -1);
    lua_rawget(L, 2);
    mx_value_text(L, lua_gettop(L));
    lua_pushfstring(L, ", %s = %s", lua_tostring(L, -3), lua_tostring(L, -1));
    lua_insert(L, -4);
    lua_pop(L, 3);
    luaL_addvalue(&b);
  }
  luaL_addchar(&b, ')');
  luaL_pushresult(&b);
  return 1;
}

static int parameter_next(lua_State *L) { /* upvalues: state, position; pairs(p): trainable, data, metadata in order */
  lua_Integer i = lua_tointeger(L, lua_upvalueindex(2)) + 1;
  lua_pushinteger(L, i);
  lua_replace(L, lua_upvalueindex(2));
  lua_settop(L, 1);
  if (i <= 2) lua_pushstring(L, i == 1 ? "trainable" : "data");
  else if (lua_getiuservalue(L, 1, MX_PARAMETER_META) != LUA_TTABLE || lua_rawgeti(L, 2, i - 2) == LUA_TNIL)
    return lua_pushnil(L), 1;
  lua_pushvalue(L, -1);
  lua_gettable(L, 1);
  return 2;
}

static int lparameter_pairs(lua_State *L) {
  mx_parameter_open(L, 1, self_at(L, "pairs"));
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, parameter_next, 2);
  lua_pushvalue(L, 1);
  return 2;
}

/* -- predicates ---------------------------------------------------------------------------------------------------- */

static int is_parameter(lua_State *L, bool any, int8_t least, int8_t most) {
  mx_parameter *p = mx_to_parameter(L, 1);
  lua_pushboolean(L, p && (any || (p->trainable >= least && p->trainable <= most)));
  return 1;
}
static int lis_parameter(lua_State *L) { return is_parameter(L, true, 0, 0); }
static int lis_leaf_param(lua_State *L) { return is_parameter(L, false, 0, 1); }
static int lis_trainable_param(lua_State *L) { return is_parameter(L, false, 1, 1); }
static int lis_non_trainable_param(lua_State *L) { return is_parameter(L, false, 0, 0); }
static int lis_array(lua_State *L) {
  lua_settop(L, 1);
  lua_pushboolean(L, mx_to_array(L, 1) != NULL);
  return 1;
}

static const mx_reg functions[] = {{"is_parameter", lis_parameter, MX_IN_MLAX},
                                   {"is_leaf_param", lis_leaf_param, MX_IN_MLAX},
                                   {"is_trainable_param", lis_trainable_param, MX_IN_MLAX},
                                   {"is_non_trainable_param", lis_non_trainable_param, MX_IN_MLAX},
                                   {"is_array", lis_array, MX_IN_MLAX},
                                   {NULL, NULL, 0}};

static const luaL_Reg metamethods[] = {{"__index", lparameter_index},
                                       {"__newindex", lparameter_newindex},
                                       {"__tostring", lparameter_tostring},
                                       {"__pairs", lparameter_pairs},
                                       {NULL, NULL}};

void mx_open_parameter(lua_State *L) { /* stack: core */
  mx_state *s = mx_state_of(L);
  mx_register(L, functions);
  lua_newtable(L);
  lua_pushlightuserdata(L, s);
  luaL_setfuncs(L, metamethods, 1);
  lua_pushliteral(L, "Parameter");
  lua_setfield(L, -2, "__name");
  lua_pushliteral(L, "Parameter");
  lua_setfield(L, -2, "__metatable");
  s->parameter_meta = lua_topointer(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &meta_key);

  static const luaL_Reg methods[] = {
      {"tree_flatten", lparameter_flatten}, {"tree_unflatten", lparameter_unflatten}, {NULL, NULL}};
  static const luaL_Reg class_meta[] = {{"__call", lparameter_call}, {NULL, NULL}};
  lua_newtable(L);
  lua_pushlightuserdata(L, s);
  luaL_setfuncs(L, methods, 1);
  lua_newtable(L);
  lua_pushlightuserdata(L, s);
  luaL_setfuncs(L, class_meta, 1);
  lua_pushliteral(L, "Parameter");
  lua_setfield(L, -2, "__name");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &class_key);
  lua_getfield(L, -2, "mlax");
  lua_insert(L, -2);
  lua_setfield(L, -2, "Parameter");
  lua_pop(L, 1);
}
