/* class.c: mlax.class, the base class mlax.Module, and what is asked of classes. A class is a table whose metatable
 * leads to its parent and holds its name; objects find methods through it. */
#include "tree_impl.h"

static const char base_key = 0;   /* registry: the table mlax.Module */
static const char marker_key = 0; /* in the metatable of a class: the class is one of ours */

bool mx_is_class(lua_State *L, int idx) {
  if (!lua_istable(L, idx) || !lua_getmetatable(L, idx)) return false;
  bool ours = lua_rawgetp(L, -1, &marker_key) != LUA_TNIL;
  lua_pop(L, 2);
  return ours;
}

static bool push_string_field(lua_State *L, int idx, const char *key) { /* [-0, +1 or 0] */
  lua_pushstring(L, key);
  if (lua_rawget(L, idx) == LUA_TSTRING) return true;
  lua_pop(L, 1);
  return false;
}

void mx_class_name(lua_State *L, int idx) {
  luaL_checkstack(L, 6, NULL);
  idx = lua_absindex(L, idx);
  if (mx_is_class(L, idx)) {
    lua_getmetatable(L, idx);
    lua_getfield(L, -1, "name");
    lua_remove(L, -2);
  } else if (!lua_istable(L, idx)) lua_pushstring(L, luaL_typename(L, idx));
  else if (!push_string_field(L, idx, "__name") && !push_string_field(L, idx, "name")) lua_pushliteral(L, "object");
}

/* The Lua half of mlax.Module is loaded when somebody asks for what the C half lacks. */
static const char *const lua_methods[] = {"summary", "tree_flatten_with_keys", "tree_unflatten"};

bool mx_class_is_method(lua_State *L, int key) {
  for (size_t i = 0; i < sizeof lua_methods / sizeof *lua_methods; i++)
    if (!strcmp(lua_tostring(L, key), lua_methods[i])) return true;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &base_key);
  lua_pushvalue(L, key);
  bool method = lua_rawget(L, -2) == LUA_TFUNCTION;
  lua_pop(L, 2);
  return method;
}

/* -- making classes and objects ------------------------------------------------------------------------------------ */

static void new_object(lua_State *L, int class) { /* without fields. [-0, +1] */
  class = lua_absindex(L, class);
  mx_module_new(L, mx_serial_now(L));
  lua_newtable(L);
  lua_setiuservalue(L, -2, MX_MODULE_FIELDS);
  lua_pushvalue(L, class);
  lua_setiuservalue(L, -2, MX_MODULE_CLASS);
}

static int lclass_call(lua_State *L) { /* Class(...): init(object, ...) */
  int n = lua_gettop(L);
  luaL_checkstack(L, n + 8, "too many arguments");
  new_object(L, 1);
  if (lua_getfield(L, 1, "init") == LUA_TNIL) {
    lua_pop(L, 1);
    return 1;
  }
  lua_pushvalue(L, n + 1);
  for (int i = 2; i <= n; i++) lua_pushvalue(L, i);
  lua_call(L, n, 0);
  return 1;
}

static int lclass_tostring(lua_State *L) {
  lua_pushliteral(L, "class ");
  mx_class_name(L, 1);
  lua_concat(L, 2);
  return 1;
}

/* A class with the name at `name` and the parent at `parent` (0: none). [-0, +1] */
static void new_class(lua_State *L, int name, int parent) {
  static const luaL_Reg meta[] = {{"__call", lclass_call}, {"__tostring", lclass_tostring}, {NULL, NULL}};
  lua_newtable(L);
  lua_newtable(L);
  lua_pushlightuserdata(L, mx_state_of(L));
  luaL_setfuncs(L, meta, 1);
  lua_pushboolean(L, true);
  lua_rawsetp(L, -2, &marker_key);
  lua_pushvalue(L, name);
  lua_setfield(L, -2, "name");
  if (parent) {
    lua_pushvalue(L, parent);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
}

static int lclass(lua_State *L) { /* mlax.class(name [, parent]) -> class, parent */
  mx_enter(L, "class");
  if (lua_gettop(L) > 2) return mx_error(L, "a name and a parent are taken (got %d arguments)", lua_gettop(L));
  lua_settop(L, 2);
  if (lua_type(L, 1) != LUA_TSTRING) return mx_error(L, "the name must be a string (got %s)", mx_show(L, 1));
  if (lua_isnil(L, 2)) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &base_key);
    lua_replace(L, 2);
  }
  if (!mx_is_class(L, 2)) return mx_error(L, "the parent must be a class made by mlax.class (got %s)", mx_show(L, 2));
  new_class(L, 1, 2);
  lua_pushvalue(L, 2);
  return 2;
}

static int lnew_module(lua_State *L) { /* core.new_module(class): an object on which init has not run */
  mx_enter(L, "tree_unflatten");
  lua_settop(L, 1);
  if (!mx_is_class(L, 1)) return mx_error(L, "a class is needed (got %s)", mx_show(L, 1));
  new_object(L, 1);
  return 1;
}

/* -- asking -------------------------------------------------------------------------------------------------------- */

/* The class of the value at 1: of a Module, a Parameter, an object of a registered class; else nil. [-0, +1] */
static void push_class_of(lua_State *L) {
  if (mx_to_module(L, 1)) lua_getiuservalue(L, 1, MX_MODULE_CLASS);
  else if (mx_to_parameter(L, 1)) mx_parameter_class(L);
  else if (!lua_istable(L, 1) || !lua_getmetatable(L, 1)) lua_pushnil(L);
}

static int lclass_of(lua_State *L) {
  lua_settop(L, 1);
  push_class_of(L);
  return 1;
}

/* The parent of the class on top, or nil. [-1, +1] */
static void to_parent(lua_State *L) {
  int class = lua_gettop(L);
  if (mx_is_class(L, class)) luaL_getmetafield(L, class, "__index");
  if (lua_gettop(L) == class || !mx_is_class(L, class + 1)) { /* that of mlax.Module is no class */
    lua_settop(L, class);
    lua_pushnil(L);
  }
  lua_replace(L, class);
}

static int lis_a(lua_State *L) { /* is_a(v, Class) */
  mx_enter(L, "is_a");
  lua_settop(L, 2);
  if (!lua_istable(L, 2)) return mx_error(L, "a class is needed (got %s)", mx_show(L, 2));
  push_class_of(L);
  while (!lua_isnil(L, 3) && !lua_rawequal(L, 2, 3)) to_parent(L);
  lua_pushboolean(L, !lua_isnil(L, 3));
  return 1;
}

/* Whether the forward on top names its second parameter (after self) `rng`. [-1, +0] */
static bool names_rng(lua_State *L) {
  if (!lua_isfunction(L, -1) || lua_iscfunction(L, -1)) {
    lua_pop(L, 1);
    return false;
  }
  const char *name = lua_getlocal(L, NULL, 3); /* self, x, rng */
  bool rng = name && !strcmp(name, "rng");
  lua_pop(L, 1);
  return rng;
}

/* The nearest class that says needs_rng or defines forward decides. */
static int lneeds_rng(lua_State *L) { /* core.needs_rng(module or class) */
  mx_enter(L, "needs_rng");
  lua_settop(L, 1);
  if (mx_to_module(L, 1)) lua_getiuservalue(L, 1, MX_MODULE_CLASS);
  else lua_pushvalue(L, 1);
  if (!mx_is_class(L, 2)) return mx_error(L, "a module or a class is needed (got %s)", mx_show(L, 1));
  bool needs = false;
  for (; !lua_isnil(L, 2); to_parent(L)) {
    lua_pushliteral(L, "needs_rng");
    if (lua_rawget(L, 2) != LUA_TNIL) {
      needs = lua_toboolean(L, -1);
      break;
    }
    lua_settop(L, 2);
    lua_pushliteral(L, "forward");
    if (lua_rawget(L, 2) != LUA_TNIL) {
      needs = names_rng(L);
      break;
    }
    lua_settop(L, 2);
  }
  lua_pushboolean(L, needs);
  return 1;
}

/* stack: table, key. upvalues: state, name of the module that fills the table; it is asked once */
static int llate_index(lua_State *L) {
  lua_settop(L, 2);
  lua_pushnil(L);
  if (lua_getmetatable(L, 1)) {
    lua_pushnil(L);
    lua_setfield(L, -2, "__index");
  }
  if (lua_getglobal(L, "require") != LUA_TFUNCTION) return lua_pushnil(L), 1;
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_call(L, 1, 0);
  lua_pushvalue(L, 2);
  lua_rawget(L, 1);
  return 1;
}

void mx_fill_late(lua_State *L, int table, const char *module) {
  table = lua_absindex(L, table);
  if (!lua_getmetatable(L, table)) lua_newtable(L);
  lua_pushlightuserdata(L, mx_state_of(L));
  lua_pushstring(L, module);
  lua_pushcclosure(L, llate_index, 2);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, table);
}

static const mx_reg functions[] = {{"class", lclass, MX_IN_MLAX},         {"class_of", lclass_of, MX_IN_MLAX},
                                   {"is_a", lis_a, MX_IN_MLAX},           {"new_module", lnew_module, MX_IN_CORE},
                                   {"needs_rng", lneeds_rng, MX_IN_CORE}, {NULL, NULL, 0}};

void mx_open_class(lua_State *L) { /* stack: core */
  mx_register(L, functions);
  int top = lua_gettop(L);
  lua_pushliteral(L, "Module");
  new_class(L, top + 1, 0);
  lua_pushlightuserdata(L, mx_state_of(L));
  lua_pushvalue(L, -1);
  lua_insert(L, top + 1); /* stack: core, state, name, class, state */
  luaL_setfuncs(L, mx_module_methods, 1);
  lua_pushvalue(L, top + 1);
  luaL_setfuncs(L, mx_select_methods, 1);
  mx_fill_late(L, -1, "mlax.module");
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &base_key);
  lua_getfield(L, top, "mlax");
  lua_insert(L, -2);
  lua_setfield(L, -2, "Module");
  lua_settop(L, top);
}
