/* system.c: memory, threads, devices, printing; helpers of the Lua half. */
#include "array_impl.h"

#include "../device/device.h"

/* -- memory and threads -------------------------------------------------------------------------------------------- */

static int lsystem_memory(lua_State *L) { /* -> {live=, peak=, limit=, cached=} in bytes */
  mx_ctx *c = mx_enter(L, "memory");
  mlax_memory_info info;
  mx_no_options(L, mx_args(L, 0, 0));
  mlax_memory(c->engine, &info);
  const struct {
    const char *name;
    size_t bytes;
  } fields[] = {{"live", info.live}, {"peak", info.peak}, {"limit", info.limit}, {"cached", info.cached}};
  lua_createtable(L, 0, 4);
  for (int i = 0; i < 4; i++) {
    lua_pushinteger(L, (lua_Integer)fields[i].bytes);
    lua_setfield(L, -2, fields[i].name);
  }
  return 1;
}

static int lsystem_set_memory_limit(lua_State *L) { /* bytes; 0: none */
  mx_ctx *c = mx_enter(L, "set_memory_limit");
  mx_no_options(L, mx_args(L, 1, 0));
  int64_t bytes = mx_check_int(L, 1, "the limit");
  if (bytes < 0) return mx_error(L, "the limit is negative (got %lld, need bytes, or 0 for none)", (long long)bytes);
  atomic_store(&c->engine->limit, (size_t)bytes);
  return 0;
}

enum { MAX_THREADS = 1024 };

static int lsystem_threads(lua_State *L) { /* threads([n]) -> n */
  mx_ctx *c = mx_enter(L, "threads");
  mx_no_options(L, mx_args(L, 0, 1));
  if (!lua_isnil(L, 1)) {
    int64_t n = mx_check_int(L, 1, "the number of threads");
    if (n < 1 || n > MAX_THREADS)
      return mx_error(L, "the number of threads is out of range (got %lld, need 1..%d)", (long long)n, MAX_THREADS);
    c->engine->threads = (int)n;
  }
  lua_pushinteger(L, c->engine->threads);
  return 1;
}

static int lsystem_deterministic(lua_State *L) { /* deterministic([on]) -> on */
  mx_ctx *c = mx_enter(L, "deterministic");
  mx_no_options(L, mx_args(L, 0, 1));
  if (!lua_isnil(L, 1)) {
    bool on = mx_check_bool(L, 1, "the argument");
    c->engine->flags = on ? c->engine->flags | MLAX_DETERMINISTIC : c->engine->flags & ~(unsigned)MLAX_DETERMINISTIC;
  }
  lua_pushboolean(L, (c->engine->flags & MLAX_DETERMINISTIC) != 0);
  return 1;
}

/* -- devices ------------------------------------------------------------------------------------------------------- */

static int lsystem_devices(lua_State *L) { /* -> list of texts that begin with the device's name */
  mx_ctx *c = mx_enter(L, "devices");
  char text[256];
  mx_no_options(L, mx_args(L, 0, 0));
  mx_cpu_describe(c->engine, text, sizeof text);
  lua_createtable(L, 1, 0);
  lua_pushstring(L, text);
  lua_rawseti(L, -2, 1);
  return 1;
}

/* A device's name at idx; 0: it is there; else `nil, message` is on the stack, and their number comes back. */
static int check_device(lua_State *L, int idx) {
  if (lua_type(L, idx) != LUA_TSTRING) return mx_error(L, "the device is no name (got %s)", mx_show(L, idx));
  const char *name = lua_tostring(L, idx);
  if (!strcmp(name, "cpu") || !strcmp(name, "cpu:1")) return 0;
  lua_pushnil(L);
  lua_pushfstring(L, "there is no device '%s' (known: cpu)", name);
  return 2;
}

static int lsystem_default_device(lua_State *L) { /* default_device([name]) -> name */
  mx_enter(L, "default_device");
  mx_no_options(L, mx_args(L, 0, 1));
  int missing = lua_isnil(L, 1) ? 0 : check_device(L, 1);
  if (missing) return missing;
  lua_pushliteral(L, "cpu");
  return 1;
}

static int lsystem_device_put(lua_State *L) {
  mx_enter(L, "device_put");
  mx_no_options(L, mx_args(L, 2, 0));
  int missing = check_device(L, 2);
  if (missing) return missing;
  lua_pushvalue(L, 1);
  return 1;
}

/* -- printing ------------------------------------------------------------------------------------------------------ */

static int
lsystem_print_options(lua_State *L) { /* print_options{precision=, edge=, threshold=} -> the options that hold */
  mx_enter(L, "print_options");
  mx_print_options *print = &MX_STATE(L)->print;
  struct {
    int64_t precision, edge, threshold;
  } o = {print->precision, print->edge, print->threshold};
  const mx_option known[] = {{"precision", MX_OPT_INT, 0},
                             {"edge", MX_OPT_INT, sizeof(int64_t)},
                             {"threshold", MX_OPT_INT, 2 * sizeof(int64_t)},
                             {NULL, MX_OPT_BOOL, 0}};
  mx_options(L, mx_args(L, 0, 0), known, &o);
  if (o.precision < 1 || o.precision > 17)
    return mx_error(L, "option 'precision' is out of range (got %lld, need 1..17)", (long long)o.precision);
  if (o.edge < 1 || o.edge > 1000000)
    return mx_error(L, "option 'edge' is out of range (got %lld, need 1 or more)", (long long)o.edge);
  if (o.threshold < 0 || o.threshold > INT32_MAX)
    return mx_error(L, "option 'threshold' is out of range (got %lld, need 0 or more)", (long long)o.threshold);
  *print = (mx_print_options){(int)o.precision, (int)o.edge, (int)o.threshold};
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, print->precision);
  lua_setfield(L, -2, "precision");
  lua_pushinteger(L, print->edge);
  lua_setfield(L, -2, "edge");
  lua_pushinteger(L, print->threshold);
  lua_setfield(L, -2, "threshold");
  return 1;
}

/* -- positions of others ------------------------------------------------------------------------------------------- */

static int lsystem_ids(lua_State *L) { /* ids(x, {from = 0}): integer data that count from `from` -> from 1 */
  static const mx_option known[] = {{"from", MX_OPT_INT, 0}, {NULL, MX_OPT_BOOL, 0}};
  mx_ctx *c = mx_enter(L, "ids");
  int64_t from = 0;
  mx_options(L, mx_args(L, 1, 0), known, &from);
  mx_array *x = mx_check_array(L, 1, "x");
  int dtype = x->aval.dtype;
  if (!mx_is_int(dtype)) return mx_error(L, "ids are integers (got %s)", mx_show(L, 1));
  if (dtype != MLAX_INT64 && dtype != MLAX_UINT64 && dtype != MLAX_UINT32) dtype = MLAX_INT32;
  else if (dtype == MLAX_UINT32) dtype = MLAX_INT64;
  return mx_return(L, mx_add(c, mx_convert(c, x, dtype), mx_scalar_int(c, dtype, 1 - from)));
}

/* -- errors -------------------------------------------------------------------------------------------------------- */

static int lsystem_traceback(lua_State *L) {
  mx_enter(L, "traceback");
  lua_settop(L, 1);
  mx_push_traceback(L, 1);
  return 1;
}

/* core.fail(op, format, ...): raises at the user's line, with the format of string.format */
static int lcore_fail(lua_State *L) {
  const char *op = luaL_checkstring(L, 1);
  MX_STATE(L)->ctx.op = op;
  if (lua_gettop(L) > 2) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, "string");
    lua_getfield(L, -1, "format");
    lua_replace(L, -3);
    lua_pop(L, 1);
    lua_insert(L, 2);
    lua_call(L, lua_gettop(L) - 2, 1);
  }
  return mx_error(L, "%s", luaL_checkstring(L, 2));
}

enum { MAX_OPTION_NAMES = 64 };

/* core.check_options(op, options, {"a", "b"}): unknown keys raise at the user's line */
static int lcore_check_options(lua_State *L) {
  const char *names[MAX_OPTION_NAMES];
  int n = 0;
  MX_STATE(L)->ctx.op = luaL_checkstring(L, 1);
  luaL_checktype(L, 3, LUA_TTABLE);
  luaL_checkstack(L, MAX_OPTION_NAMES + 10, NULL);
  if (lua_isnil(L, 2)) return 0;
  if (!mx_is_plain_table(L, 2)) return mx_error(L, "the options are no table (got %s)", mx_show(L, 2));
  while (n < MAX_OPTION_NAMES && lua_rawgeti(L, 3, n + 1) == LUA_TSTRING) names[n++] = lua_tostring(L, -1);
  lua_pushnil(L);
  while (lua_next(L, 2)) {
    lua_pop(L, 1);
    if (lua_type(L, -1) != LUA_TSTRING)
      return mx_error(L, "a key of the options table is no string (got %s)", mx_show(L, -1));
    const char *key = lua_tostring(L, -1);
    int i = 0;
    while (i < n && strcmp(names[i], key)) i++;
    if (i == n) return mx_unknown(L, "option", key, names, n);
  }
  return 0;
}

static int lcore_type_name(lua_State *L) { /* a value's short text for messages */
  luaL_checkany(L, 1);
  mx_show(L, 1);
  return 1;
}

/* core.guess(word, list) -> the nearest of the list, or nil */
static int lcore_guess(lua_State *L) {
  const char *word = luaL_checkstring(L, 1), *best = NULL;
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_Integer n = (lua_Integer)lua_rawlen(L, 2);
  const char **names = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *names, 0);
  int count = 0;
  for (lua_Integer i = 1; i <= n && count < INT32_MAX; i++) {
    if (lua_rawgeti(L, 2, i) == LUA_TSTRING) names[count++] = lua_tostring(L, -1); /* the list anchors it */
    lua_pop(L, 1);
  }
  best = mx_guess(word, names, count);
  lua_pushstring(L, best);
  return 1;
}

static int lcore_clock(lua_State *L) { /* seconds of a clock that only goes forward */
  lua_pushnumber(L, mx_seconds());
  return 1;
}

static const mx_reg system_functions[] = {
    {"memory", lsystem_memory, MX_IN_MLAX},
    {"set_memory_limit", lsystem_set_memory_limit, MX_IN_MLAX},
    {"threads", lsystem_threads, MX_IN_MLAX},
    {"deterministic", lsystem_deterministic, MX_IN_MLAX},
    {"devices", lsystem_devices, MX_IN_MLAX},
    {"default_device", lsystem_default_device, MX_IN_MLAX},
    {"device_put", lsystem_device_put, MX_IN_MLAX},
    {"print_options", lsystem_print_options, MX_IN_MLAX},
    {"ids", lsystem_ids, MX_IN_MLAX},
    {"traceback", lsystem_traceback, MX_IN_MLAX},
    {"fail", lcore_fail, MX_IN_CORE},
    {"check_options", lcore_check_options, MX_IN_CORE},
    {"type_name", lcore_type_name, MX_IN_CORE},
    {"guess", lcore_guess, MX_IN_CORE},
    {"clock", lcore_clock, MX_IN_CORE},
    {NULL, NULL, 0},
};

void mx_open_system(lua_State *L) {
  mx_register(L, system_functions);
  lua_getfield(L, -1, "mlax");
  lua_pushliteral(L, "mlax " MLAX_VERSION);
  lua_setfield(L, -2, "_VERSION");
  lua_pop(L, 1);
  mx_open_scope(L);
  mx_open_profile(L);
}
