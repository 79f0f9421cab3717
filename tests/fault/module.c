/* module.c: require "fault", for specs: failing allocations in the running Lua state and its engine.
 *
 *     local n = fault.sweep(f)      calls f again and again, the n-th allocation failing, then all from the n-th on
 *
 * Raises what is wrong: an error that says nothing of memory, or bytes that are lost. Reaches into the engine, so it is
 * built with the internal headers, and for tests alone.
 */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

typedef struct tap { /* stands before both allocators while a sweep runs; the engine's pool has no owner then, and gives
                        nothing */
  lua_Alloc lua;
  void *lua_ud;
  void *(*alloc)(void *ud, void *p, size_t old_size, size_t size, size_t align);
  void *alloc_ud;
  mlax_engine *engine;
  uintptr_t owner; /* of the pool */
  long count, at, failed;
  bool onwards;
} tap;

static bool must_fail(tap *t) {
  long n = ++t->count;
  bool fails = t->at && (n == t->at || (t->onwards && n > t->at));
  t->failed += fails;
  return fails;
}

static void *tap_lua(void *ud, void *p, size_t old_size, size_t size) {
  tap *t = ud;
  bool grows = size && (!p || size > old_size);
  return grows && must_fail(t) ? NULL : t->lua(t->lua_ud, p, old_size, size);
}

static void *tap_engine(void *ud, void *p, size_t old_size, size_t size, size_t align) {
  tap *t = ud;
  return size && must_fail(t) ? NULL : t->alloc(t->alloc_ud, p, old_size, size, align);
}

/* The engine of this state, through the registry: the library's own functions are hidden. */
static mlax_engine *engine_of(lua_State *L) {
  if (lua_getfield(L, LUA_REGISTRYINDEX, "mlax.core") != LUA_TLIGHTUSERDATA) luaL_error(L, "fault: require mlax first");
  lua_rawgetp(L, LUA_REGISTRYINDEX, lua_touserdata(L, -1));
  mx_state *s = lua_touserdata(L, -1);
  lua_pop(L, 2);
  return s->ctx.engine;
}

static void tap_open(lua_State *L, tap *t) {
  *t = (tap){.engine = engine_of(L)};
  t->lua = lua_getallocf(L, &t->lua_ud);
  t->alloc = t->engine->alloc;
  t->alloc_ud = t->engine->alloc_ud;
  t->owner = atomic_exchange(&t->engine->pool.owner, 0);
  lua_setallocf(L, tap_lua, t);
  t->engine->alloc = tap_engine;
  t->engine->alloc_ud = t;
}

static void tap_close(lua_State *L, tap *t) {
  lua_setallocf(L, t->lua, t->lua_ud);
  t->engine->alloc = t->alloc;
  t->engine->alloc_ud = t->alloc_ud;
  atomic_store(&t->engine->pool.owner, t->owner);
}

/* Calls the function at 1 with one allocation failing; keeps its error value, if any, on the stack. */
static int call_once(lua_State *L, tap *t, long at, bool onwards) {
  lua_pushvalue(L, 1);
  tap_open(L, t);
  t->at = at;
  t->onwards = onwards;
  int status = lua_pcall(L, 0, 0, 0);
  tap_close(L, t);
  return status;
}

static void check(lua_State *L, int status, const tap *t) {
  if (status == LUA_OK) return;
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : luaL_tolstring(L, -1, NULL);
  const char *which = lua_pushfstring(L, "allocation %d fails%s", (int)t->at, t->onwards ? ", and all after it" : "");
  if (!t->failed) luaL_error(L, "fault.sweep: the function fails by itself: %s", text);
  if (!strstr(text, "memory") && !strstr(text, "stack overflow")) luaL_error(L, "fault.sweep: %s: %s", which, text);
  lua_settop(L, 1);
}

static size_t live(lua_State *L, mlax_engine *e) {
  lua_gc(L, LUA_GCCOLLECT);
  lua_gc(L, LUA_GCCOLLECT);
  return mx_live(e);
}

static void run_clean(lua_State *L) {
  lua_pushvalue(L, 1);
  lua_call(L, 0, 0);
}

static int lfault_sweep(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  run_clean(L);
  run_clean(L);
  mlax_engine *engine = engine_of(L);
  size_t before = live(L, engine);
  long calls = 0;
  for (int onwards = 0; onwards < 2; onwards++) {
    tap t = {.failed = 1};
    for (long at = 1; t.failed; at++, calls++) check(L, call_once(L, &t, at, onwards), &t);
  }
  run_clean(L);
  size_t after = live(L, engine);
  if (after != before) return luaL_error(L, "fault.sweep: %d bytes are lost", (int)(after - before));
  lua_pushinteger(L, calls);
  return 1;
}

__attribute__((visibility("default"))) int luaopen_fault(lua_State *L) {
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, lfault_sweep);
  lua_setfield(L, -2, "sweep");
  return 1;
}
