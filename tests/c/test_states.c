/* test_states.c: Lua states as a host has them: several, in several threads, over one engine or over many, interrupted,
 * limited, forked, closed in any order, with finalizers and coroutines in the wrong places. */
#include "mlax_lua.h"

#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { THREADS = 4 };

/* -- helpers ------------------------------------------------------------------------------------------------------- */

static mlax_engine *engine_new(mlax_options options) {
  mlax_engine *e;
  mlax_error error;
  if (!options.threads) options.threads = 1;
  if (mlax_engine_new(&options, &e, &error) != MLAX_OK) fail_msg("%s", error.text);
  return e;
}

static mlax_engine *engine_plain(void) { return engine_new((mlax_options)MLAX_OPTIONS); }

static int load_mlax(lua_State *L) { /* light userdata engine or nil */
  if (lua_touserdata(L, 1)) mlax_attach(L, lua_touserdata(L, 1));
  luaL_requiref(L, "mlax", luaopen_mlax, 1);
  return 0;
}

/* A state with the global mlax; NULL where something failed (threads must not fail by themselves). */
static lua_State *state_try(mlax_engine *e) {
  lua_State *L = luaL_newstate();
  if (!L) return NULL;
  luaL_openlibs(L);
  lua_pushcfunction(L, load_mlax);
  lua_pushlightuserdata(L, e);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return L;
  lua_close(L);
  return NULL;
}

static lua_State *state_new(mlax_engine *e) {
  lua_State *L = state_try(e);
  assert_non_null(L);
  return L;
}

static void run(lua_State *L, const char *code) {
  if (luaL_dostring(L, code)) fail_msg("%s", luaL_tolstring(L, -1, NULL));
  lua_settop(L, 0);
}

/* The code must fail with a message that holds the text. */
static void run_fails(lua_State *L, const char *code, const char *text) {
  if (luaL_dostring(L, code) == LUA_OK) fail_msg("no error from %s", code);
  const char *message = luaL_tolstring(L, -1, NULL);
  if (!strstr(message, text)) fail_msg("the error is '%s', want '%s'", message, text);
  lua_settop(L, 0);
}

/* That nothing is left over: what a trace or a call cut short would spoil. */
static void check_alive(lua_State *L) {
  run(L, "local f = mlax.grad(function(x) return mlax.vmap(mlax.jit(function(x) return x * x end))(x):sum() end)\n"
         "assert(f(mlax.array{1, 2, 3})[3]:item() == 6)");
}

static size_t live(mlax_engine *e) {
  mlax_memory_info m;
  mlax_memory(e, &m);
  return m.live;
}

/* -- threads ------------------------------------------------------------------------------------------------------- */

static const char work_code[] =
    "local x = mlax.array{1, 2, 3}\n"
    "local step = mlax.jit(function(w, x) local v, g = mlax.value_and_grad(function(w) return (w * x - "
    "1):square():sum() end)(w)\n"
    "  return w - g * 0.01, v end)\n"
    "local w = mlax.zeros{3}\n"
    "local first, last\n"
    "for i = 1, 200 do\n"
    "  local v\n"
    "  w, v = step(w, x)\n"
    "  first, last = first or v:item(), v:item()\n"
    "  assert(mlax.vmap(function(r) return r:sum() end)(mlax.ones{4, 5})[2]:item() == 5)\n"
    "end\n"
    "assert(first == 3 and last < 0.2 and step:traces() == 1)\n"
    "local m = mlax.nn.Series{mlax.nn.Linear(mlax.random.key(1), 2), mlax.nn.F(mlax.nn.functional.relu)}\n"
    "assert(m(x).shape[1] == 2)\n";

typedef struct worker {
  pthread_t thread;
  mlax_engine *engine; /* NULL: the state makes its own */
  mlax_array *shared;
  char problem[256];
} worker;

static void *work(void *arg) {
  worker *w = arg;
  lua_State *L = state_try(w->engine);
  if (!L) return strcpy(w->problem, "no state"), NULL;
  for (int i = 0; i < 3 && !*w->problem; i++) {
    if (luaL_dostring(L, work_code)) strncpy(w->problem, luaL_tolstring(L, -1, NULL), sizeof w->problem - 1);
    lua_settop(L, 0);
  }
  for (int i = 0; w->shared && i < 200 && !*w->problem; i++) {
    mlax_pusharray(L, w->shared);
    lua_setglobal(L, "shared");
    if (luaL_dostring(L, "assert((shared * 2):sum():item() == 12)")) strcpy(w->problem, "the shared array is wrong");
    lua_settop(L, 0);
  }
  lua_close(L);
  return NULL;
}

static void run_workers(worker *w, int n) {
  for (int i = 0; i < n; i++) assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
  for (int i = 0; i < n; i++) pthread_join(w[i].thread, NULL);
  for (int i = 0; i < n; i++)
    if (*w[i].problem) fail_msg("thread %d: %s", i, w[i].problem);
}

static void test_each_thread_has_its_own_state(void **state) {
  (void)state;
  worker w[THREADS] = {{0}};
  run_workers(w, THREADS);
}

static void test_threads_share_an_engine_and_arrays(void **state) {
  (void)state;
  mlax_engine *e = engine_plain();
  size_t before = live(e);
  mlax_array *x;
  assert_int_equal(mlax_array_copy(e, MLAX_FLOAT32, 1, (int64_t[]){3}, (float[]){1, 2, 3}, &x, NULL), MLAX_OK);
  worker w[THREADS] = {{0}};
  for (int i = 0; i < THREADS; i++) w[i].engine = e, w[i].shared = x;
  run_workers(w, THREADS);
  mlax_array_release(x);
  assert_int_equal(live(e), before);
  mlax_engine_release(e);
}

static void *run_in_thread(void *L) { return luaL_dostring(L, "y = (x * 2):sum():item()") ? L : NULL; }

static void test_a_state_wanders_between_threads(void **state) {
  (void)state;
  lua_State *L = state_new(NULL);
  pthread_t thread;
  void *failed;
  run(L, "x = mlax.ones{1000}");
  pthread_create(&thread, NULL, run_in_thread, L);
  pthread_join(thread, &failed);
  assert_null(failed);
  run(L, "assert(y == 2000)");
  lua_close(L);
}

/* -- arrays between states ----------------------------------------------------------------------------------------- */

static void test_arrays_pass_between_states(void **state) {
  (void)state;
  mlax_engine *one = engine_plain(), *two = engine_plain();
  lua_State *A = state_new(one), *B = state_new(two);
  mlax_engine_release(one); /* the states keep them */
  mlax_engine_release(two);
  run(A, "x = mlax.range(1, 6):reshape{2, 3}.T");
  lua_getglobal(A, "x");
  mlax_array *x = mlax_array_retain(mlax_toarray(A, -1));
  assert_non_null(x);
  lua_settop(A, 0);
  mlax_pusharray(B, x);
  lua_setglobal(B, "x");
  lua_close(A); /* the array lives on */
  run(B, "assert(x.shape[1] == 3 and x[{3, 2}]:item() == 6)\n"
         "assert(mlax.grad(function(y) return (y * x):sum() end)(x:astype('float32'))[{3, 2}]:item() == 6)\n"
         "x = nil collectgarbage()");
  assert_int_equal(mlax_array_ndim(x), 2);
  lua_close(B);
  int32_t data[6];
  assert_int_equal(mlax_array_read(x, data, sizeof data, NULL), MLAX_OK);
  assert_int_equal(data[5], 6);
  mlax_array_release(x);
}

static int ask_toarray(lua_State *L) {
  lua_pushboolean(L, mlax_toarray(L, 1) != NULL);
  return 1;
}

static void test_toarray_gives_values_alone(void **state) {
  (void)state;
  lua_State *L = state_new(NULL);
  lua_register(L, "toarray", ask_toarray);
  run(L, "local x = mlax.ones{2}\n"
         "assert(toarray(x) and not toarray(1) and not toarray(nil) and not toarray({}) and not toarray('x'))\n"
         "assert(not toarray(io.stdout) and not toarray(mlax.nn.Linear(mlax.random.key(1), 2)))\n"
         "mlax.grad(function(y) assert(not toarray(y)) return y:sum() end)(x)\n"
         "assert(not toarray(mlax.eval_shape(function(y) return y end)(x)))\n"
         "x:free() assert(not toarray(x))");
  lua_State *bare = luaL_newstate();
  lua_pushinteger(bare, 1);
  assert_null(mlax_toarray(bare, 1));
  lua_close(bare);
  lua_close(L);
}

static int push_light_array(lua_State *L) {
  mlax_pusharray(L, lua_touserdata(L, 1));
  return 1;
}

static void test_pusharray_needs_mlax(void **state) {
  (void)state;
  mlax_engine *e = engine_plain();
  mlax_array *x;
  mlax_array_copy(e, MLAX_FLOAT32, 0, NULL, (float[]){1}, &x, NULL);
  lua_State *L = luaL_newstate();
  lua_pushcfunction(L, push_light_array);
  lua_pushlightuserdata(L, x);
  assert_int_equal(lua_pcall(L, 1, 1, 0), LUA_ERRRUN);
  assert_non_null(strstr(lua_tostring(L, -1), "require \"mlax\""));
  lua_close(L);
  mlax_array_release(x);
  mlax_engine_release(e);
}

static void test_two_states_share_an_engine(void **state) {
  (void)state;
  mlax_engine *e = engine_plain();
  size_t before = live(e);
  lua_State *A = state_new(e), *B = state_new(e);
  run(A, "x = mlax.ones{1000} f = mlax.jit(function(y) return y * x end) assert(f(x):sum():item() == 1000)");
  run(B, "x = mlax.zeros{1000} f = mlax.jit(function(y) return y + x end) assert(f(x):sum():item() == 0)");
  lua_close(A);
  run(B, "assert(f(x + 1):sum():item() == 1000)");
  check_alive(B);
  lua_close(B);
  assert_int_equal(live(e), before);
  mlax_engine_release(e);
}

static int attach(lua_State *L) {
  mlax_attach(L, lua_touserdata(L, 1));
  return 0;
}

static void test_attach_comes_first(void **state) {
  (void)state;
  mlax_engine *e = engine_plain();
  lua_State *L = state_new(NULL);
  lua_pushcfunction(L, attach);
  lua_pushlightuserdata(L, e);
  assert_int_equal(lua_pcall(L, 1, 0, 0), LUA_ERRRUN);
  assert_non_null(strstr(lua_tostring(L, -1), "has an engine already"));
  lua_close(L);
  mlax_engine_release(e);
}

static void test_closing_in_any_order(void **state) {
  (void)state;
  for (int order = 0; order < 3; order++) {
    mlax_engine *e = engine_plain();
    lua_State *L = state_new(e);
    run(L, "kept = {mlax.ones{3}, mlax.jit(function(x) return x end), mlax.nn.Linear(mlax.random.key(1), 2)}\n"
           "kept[2](kept[1]) kept[3](kept[1]) program = mlax.program(function(x) return x end)(kept[1])\n"
           "_, pull = mlax.vjp(function(x) return x * 2 end, kept[1])\n"
           "mlax.grad(function(x) leaked = x return x:sum() end)(kept[1])\n"
           "co = coroutine.wrap(function() local x = mlax.ones{2} coroutine.yield(x) return x end) co()\n"
           "setmetatable({}, {__gc = function() local x = kept[1] and kept[1] * 2 end})");
    mlax_array *x = NULL;
    lua_getglobal(L, "kept");
    lua_rawgeti(L, -1, 1);
    if (order > 0) x = mlax_array_retain(mlax_toarray(L, -1));
    if (order < 2) mlax_engine_release(e);
    if (order == 2) mlax_array_release(x);
    lua_close(L);
    if (order == 1) mlax_array_release(x);
    if (order == 2) mlax_engine_release(e);
  }
}

/* -- errors where it hurts ----------------------------------------------------------------------------------------- */

static void test_an_error_inside_nested_transformations(void **state) {
  (void)state;
  lua_State *L = state_new(NULL);
  run(L, "bad = true\n"
         "g = mlax.grad(function(x) return mlax.vmap(mlax.jit(function(y)\n"
         "  if bad then error(setmetatable({}, {__tostring = function() return 'mine' end})) end return y * y "
         "end))(x):sum() end)");
  for (int i = 0; i < 5; i++) {
    run_fails(L, "g(mlax.array{1, 2, 3})", "mine");
    run(L, "bad = false assert(g(mlax.array{1, 2, 3})[2]:item() == 4) bad = true");
    run_fails(L, "mlax.jit(mlax.vmap(mlax.grad(function(x) return x + mlax.ones{3} end)))(mlax.ones{2})", "");
    check_alive(L);
  }
  run_fails(L, "local function deep(x) return mlax.grad(deep)(x) end deep(mlax.ones{})", "");
  check_alive(L);
  run_fails(L, "local function loop(x) return loop(x) + 1 end mlax.jit(loop)(mlax.ones{})", "stack overflow");
  check_alive(L);
  lua_close(L);
}

static void test_finalizers_in_the_middle_of_work(void **state) {
  (void)state;
  lua_State *L = state_new(NULL);
  run(L, "collectgarbage('setpause', 1) collectgarbage('setstepmul', 2000)\n"
         "warn('@off')\n"
         "runs, x = 0, mlax.ones{100}\n"
         "f = mlax.jit(function(y) return y * 2 + x end)\n"
         "function bomb(f) setmetatable({}, {__gc = function() runs = runs + 1 if runs < 5000 then bomb(f) end f() "
         "end}) end\n"
         "bomb(function() error('in a finalizer') end)\n"
         "bomb(function() return x + mlax.ones{7} end)\n"
         "bomb(function() assert((x * 2):sum():item() == 200) end)\n"
         "bomb(function() f:clear() f(mlax.ones{3, 100}) end)\n"
         "bomb(function() mlax.grad(function(y) return (y * y):sum() end)(x) end)\n"
         "bomb(function() mlax.jit(function() error('traced') end)(x) end)\n"
         "for i = 1, 1000 do\n"
         "  assert(f(x)[1]:item() == 3)\n"
         "  assert(mlax.grad(function(y) return (y * y * y):sum() end)(x)[2]:item() == 3)\n"
         "  assert(mlax.vmap(function(y) return y + 1 end)(x)[3]:item() == 2)\n"
         "  assert(mlax.tree.map(function(y) return y * 2 end, {x, {a = x}})[2].a[1]:item() == 2)\n"
         "end\n"
         "assert(runs > 100)");
  check_alive(L);
  lua_close(L);
}

static void test_coroutines(void **state) {
  (void)state;
  lua_State *L = state_new(NULL);
  run(L, "x = mlax.array{1, 2}\n"
         "wraps = {\n"
         "  grad = function(f) return mlax.grad(function(y) f() return y:sum() end)(x) end,\n"
         "  vmap = function(f) return mlax.vmap(function(y) f() return y end)(x) end,\n"
         "  jit = function(f) return mlax.jit(function(y) f() return y end)(x) end,\n"
         "  vjp = function(f) return mlax.vjp(function(y) f() return y end, x) end,\n"
         "  eval_shape = function(f) return mlax.eval_shape(function(y) f() return y end)(x) end,\n"
         "  map = function(f) return mlax.tree.map(function(y) f() return y end, {x}) end,\n"
         "  module = function(f)\n"
         "    local C = mlax.class('C') function C:forward(y) f() return y end function C:setup() end return (C()(x)) "
         "end,\n"
         "}\n"
         "for name, wrap in pairs(wraps) do\n"
         "  local co = coroutine.create(function() return wrap(coroutine.yield) end)\n"
         "  local ok, message = coroutine.resume(co)\n"
         "  if ok then assert(coroutine.status(co) == 'suspended') else\n"
         "    assert(message:find 'yield across a C%-call boundary', message) end\n"
         "  assert(coroutine.close(co) ~= nil)\n"
         "  assert(mlax.grad(function(y) return (y * y):sum() end)(x)[2]:item() == 4, name)\n"
         "  wrap(function() end)\n"
         "  local result = coroutine.wrap(function() return wrap(function() end) end)()\n"
         "  assert(result ~= nil)\n"
         "end");
  /* a coroutine inside a trace, and traces that coroutines hold apart */
  run(L, "local f = mlax.jit(function(y)\n"
         "  local co = coroutine.wrap(function() local z = y * 2 coroutine.yield(z) coroutine.yield(z * 3) end)\n"
         "  return co() + co() end)\n"
         "assert(f(x)[1]:item() == 8)\n"
         "local kept\n"
         "mlax.grad(function(y) kept = coroutine.wrap(function() coroutine.yield(1) return y + 1 end) kept() return "
         "y:sum() end)(x)\n"
         "local ok, message = pcall(kept)\n"
         "assert(not ok and message:find 'leaked')\n");
  check_alive(L);
  lua_close(L);
}

/* -- stopping ------------------------------------------------------------------------------------------------------ */

static void *interrupt_soon(void *engine) {
  nanosleep(&(struct timespec){0, 30000000}, NULL);
  mlax_interrupt(engine);
  return NULL;
}

static void fails_when_interrupted(lua_State *L, mlax_engine *e, const char *code) {
  pthread_t thread;
  pthread_create(&thread, NULL, interrupt_soon, e);
  run_fails(L, code, "interrupted");
  pthread_join(thread, NULL);
  check_alive(L);
}

static void test_interrupt(void **state) {
  (void)state;
  mlax_engine *e = engine_plain();
  lua_State *L = state_new(e);
  fails_when_interrupted(L, e, "local x = mlax.ones{10} while true do x = x * 1 end");
  fails_when_interrupted(L, e,
                         "local f = mlax.jit(function(x) for i = 1, 50 do x = x:sin() end return x end)\n"
                         "local x = mlax.ones{1000} while true do x = f(x) end");
  fails_when_interrupted(L, e, "mlax.jit(function(x) while true do x = x + 1 end end)(mlax.ones{})");
  fails_when_interrupted(L, e, "mlax.grad(mlax.vmap(function(x) while true do x = x + 1 end end))(mlax.ones{3})");
  fails_when_interrupted(
      L, e,
      "local x = mlax.ones{100000} local f = mlax.jit(function(x) for i = 1, 2000 do x = x:sin() end return x end)\n"
      "while true do f(x) end");
  mlax_interrupt(e); /* twice is once */
  mlax_interrupt(e);
  run_fails(L, "return mlax.ones{2} + 1", "interrupted");
  check_alive(L);
  lua_close(L);
  mlax_engine_release(e);
}

static void test_pcall_stops_plain_lua(void **state) {
  (void)state;
  mlax_engine *e = engine_plain();
  lua_State *L = state_new(e);
  mlax_error error;
  pthread_t thread;
  pthread_create(&thread, NULL, interrupt_soon, e);
  assert_int_equal(luaL_loadstring(L, "while true do end"), LUA_OK);
  assert_int_equal(mlax_pcall(L, 0, 0, &error), MLAX_LUA);
  assert_non_null(strstr(error.text, "interrupted"));
  pthread_join(thread, NULL);
  luaL_loadstring(L, "return mlax.ones{2} + mlax.ones{3}");
  assert_int_equal(mlax_pcall(L, 0, 0, &error), MLAX_LUA);
  assert_non_null(strstr(error.text, "traceback"));
  luaL_loadstring(L, "return 7");
  assert_int_equal(mlax_pcall(L, 0, 1, &error), MLAX_OK);
  assert_int_equal(lua_tointeger(L, -1), 7);
  assert_int_equal(lua_gettop(L), 1);
  lua_settop(L, 0);
  check_alive(L);
  lua_close(L);
  mlax_engine_release(e);
}

static int count_down(void *ud) { return --*(long *)ud == 0; }

static void test_poll(void **state) {
  (void)state;
  long left = 500;
  mlax_options options = MLAX_OPTIONS;
  options.poll = count_down;
  options.poll_ud = &left;
  mlax_engine *e = engine_new(options);
  lua_State *L = state_new(e);
  left = 500;
  run_fails(L,
            "local f = mlax.jit(function(x) for i = 1, 20 do x = x:sin():sum() end return x end) while true do "
            "f(mlax.ones{3}) end",
            "interrupted by the host");
  assert_true(left <= 0);
  left = 100;
  run_fails(L, "while true do local x = mlax.ones{3} + 1 end", "interrupted by the host");
  check_alive(L);
  lua_close(L);
  mlax_engine_release(e);
}

/* -- memory -------------------------------------------------------------------------------------------------------- */

static void test_memory_limit(void **state) {
  (void)state;
  mlax_options options = MLAX_OPTIONS;
  options.memory_limit = 8 << 20;
  mlax_engine *e = engine_new(options);
  lua_State *L = state_new(e);
  for (int i = 0; i < 3; i++) {
    run_fails(L, "kept = {} for i = 1, 100 do kept[i] = mlax.ones{256, 1024} * 2 end", "of the limit of 8388608");
    run_fails(L, "mlax.jit(function(x) return x:broadcast_to{4096, 4096}:cumsum(1) end)(mlax.ones{})", "limit");
    run_fails(L, "return mlax.zeros{1000000, 1000000, 10} + 1", "not enough memory");
    assert_true(live(e) <= 8 << 20);
    run(L, "kept = nil");
    check_alive(L);
    run(L, "for i = 1, 100 do local x = mlax.ones{256, 1024} * 2 end"); /* garbage makes way */
  }
  run(L,
      "assert(mlax.memory().limit == 8388608) mlax.set_memory_limit(16 << 20) local x = mlax.ones{1024, 1024, 3} * 2");
  lua_close(L);
  mlax_engine_release(e);
}

static void test_the_collector_is_the_hosts(void **state) {
  (void)state;
  mlax_options options = MLAX_OPTIONS;
  options.memory_limit = 32 << 20;
  mlax_engine *e = engine_new(options);
  lua_State *L = state_new(e);
  lua_gc(L, LUA_GCSTOP);
  run(L, "gone = false setmetatable({}, {__gc = function() gone = true end})\n"
         "for i = 1, 10 do local x = mlax.ones{256, 1024} * 2 end");
  assert_true(live(e) >= 10 << 20);
  run_fails(L, "for i = 1, 100 do local x = mlax.ones{256, 1024} * 2 end", "limit");
  run(L, "assert(not gone) assert(mlax.grad(function(x) return (x * x):sum() end)(mlax.ones{3})[1]:item() == 2)");
  assert_int_equal(lua_gc(L, LUA_GCISRUNNING), 0);
  lua_gc(L, LUA_GCRESTART);
  run(L, "for i = 1, 100 do local x = mlax.ones{256, 1024} * 2 end assert(gone)");
  lua_close(L);
  mlax_engine_release(e);
}

/* -- fork ---------------------------------------------------------------------------------------------------------- */

static int in_child(lua_State *L) {
  if (luaL_dostring(L, "return x + 1") == LUA_OK) return 2;
  if (!strstr(lua_tostring(L, -1), "forked process")) return 3;
  lua_settop(L, 0);
  if (luaL_dostring(L, "return f(x)") == LUA_OK) return 4;
  lua_settop(L, 0);
  lua_State *mine = state_try(NULL); /* a new engine in the child works */
  if (!mine) return 5;
  if (luaL_dostring(mine, work_code)) return 6;
  lua_close(mine);
  lua_close(L); /* and the parent's closes */
  return 0;
}

static void test_a_forked_child_is_refused(void **state) {
  (void)state;
  lua_State *L = state_new(NULL);
  run(L, "x = mlax.ones{100, 100} f = mlax.jit(function(x) return x * 2 end) f(x)");
  pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(in_child(L));
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  check_alive(L);
  lua_close(L);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_each_thread_has_its_own_state),
      cmocka_unit_test(test_threads_share_an_engine_and_arrays),
      cmocka_unit_test(test_a_state_wanders_between_threads),
      cmocka_unit_test(test_arrays_pass_between_states),
      cmocka_unit_test(test_toarray_gives_values_alone),
      cmocka_unit_test(test_pusharray_needs_mlax),
      cmocka_unit_test(test_two_states_share_an_engine),
      cmocka_unit_test(test_attach_comes_first),
      cmocka_unit_test(test_closing_in_any_order),
      cmocka_unit_test(test_an_error_inside_nested_transformations),
      cmocka_unit_test(test_finalizers_in_the_middle_of_work),
      cmocka_unit_test(test_coroutines),
      cmocka_unit_test(test_interrupt),
      cmocka_unit_test(test_pcall_stops_plain_lua),
      cmocka_unit_test(test_poll),
      cmocka_unit_test(test_memory_limit),
      cmocka_unit_test(test_the_collector_is_the_hosts),
      cmocka_unit_test(test_a_forked_child_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
