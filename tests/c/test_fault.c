/* test_fault.c: no failing allocation brings a host down. One Lua state and one engine over the same allocator run the
 * cases of tests/fault/cases.lua; for each allocation of a case in turn
 *
 *     once       it fails, what is asked for next is there again (also where the same is asked for once more)
 *     episode    it fails, also when the same is asked for again after a collection
 *     onwards    it fails, and all after it
 *
 * and then: the call succeeded or raised a string about memory; nothing of the interrupted work is left in the context;
 * a small computation works; and, at the end of the case, no byte is lost and the case itself runs.
 *
 * Allocations that come from the same place (C stack and Lua lines) for the third time are passed over: FAULT_ALL=1
 * runs them, too. FAULT_SAME=n fails a place so often in a case. FAULT_CASE=text runs the cases whose names hold the
 * text.
 */
#include "api/api.h"
#include "fault.h"

#include <execinfo.h>
#include <lualib.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { FRAMES = 64, LEVELS = 24, SECONDS = 400, REPEATS = 4, LUA_SLACK = 8 << 10, SAME_PLACE = 2, LOADS = 240 };

typedef enum { ONCE, EPISODE, ONWARDS, N_MODE } fault_mode;
static const char *const mode_names[] = {"once", "episode", "onwards"};

/* -- the allocator: counts what Lua and the engine ask for, and fails it ------------------------------------------- */

typedef struct request {
  void *p;
  size_t old_size, size, align;
} request;

typedef struct gate {
  fault under; /* guards every block */
  lua_State *L;
  long count, at; /* allocations since armed; the one that fails, 0: none */
  fault_mode mode;
  long failed;
  request last;   /* what failed first, and */
  int repeats;    /* how often it has been asked for again */
  bool recording; /* keeps each allocation's place */
  uint64_t *places;
  long n_places, cap_places;
} gate;

static uint64_t mix(uint64_t h, uint64_t v) { return mx_hash_mix(h, v); }

/* Hashes the C stack and the Lua lines of an allocation. */
static uint64_t place_of(lua_State *L) {
  void *frames[FRAMES];
  lua_Debug ar;
  uint64_t h = 1;
  int n = backtrace(frames, FRAMES);
  for (int i = 0; i < n; i++) h = mix(h, (uint64_t)(uintptr_t)frames[i]);
  for (int level = 0; L && level < LEVELS && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    h = mix(mix(h, (uint64_t)(uintptr_t)ar.source), (uint64_t)ar.currentline);
  }
  return h;
}

static void record(gate *g) {
  if (g->n_places == g->cap_places) {
    g->cap_places = g->cap_places ? 2 * g->cap_places : 4096;
    g->places = realloc(g->places, (size_t)g->cap_places * sizeof *g->places);
  }
  g->places[g->n_places++] = place_of(g->L);
}

static bool is_again(const gate *g, const request *r) {
  return r->p == g->last.p && r->old_size == g->last.old_size && r->size == g->last.size && r->align == g->last.align;
}

static bool must_fail(gate *g, request r) {
  long n = ++g->count;
  if (g->recording) record(g);
  if (!g->at || n < g->at) return false;
  if (n == g->at) g->last = r, g->repeats = 0;
  bool fails = n == g->at || g->mode == ONWARDS;
  if (!fails && g->mode == EPISODE && g->repeats < REPEATS && is_again(g, &r)) {
    g->repeats++;
    fails = true;
  }
  g->failed += fails;
  return fails;
}

static void on_warning(void *ud, const char *text, int to_be_continued) {
  gate *g = ud;
  if (getenv("FAULT_WARN")) fprintf(stderr, "[%ld] %s%s", g->at, text, to_be_continued ? "" : "\n");
}

static void *gate_alloc(void *ud, void *p, size_t old_size, size_t size, size_t align) {
  gate *g = ud;
  if (size && must_fail(g, (request){p, old_size, size, align})) return NULL;
  return fault_alloc(&g->under, p, old_size, size, align);
}

/* Lua gives the kind of a new object in old_size, and no allocator fails to make a block smaller. */
static void *gate_lua_alloc(void *ud, void *p, size_t old_size, size_t size) {
  if (!p) old_size = 0;
  if (p && size <= old_size) return fault_alloc(&((gate *)ud)->under, p, old_size, size, 16);
  return gate_alloc(ud, p, old_size, size, 16);
}

static void arm(gate *g, long at, fault_mode mode) {
  g->count = g->failed = 0;
  g->at = at;
  g->mode = mode;
}

static void disarm(gate *g) { g->at = 0; }

static mlax_engine *gate_open(gate *g) {
  mlax_engine *e;
  mlax_options options = fault_start(&g->under);
  options.alloc = gate_alloc;
  options.alloc_ud = g;
  options.threads = 1;
  if (mlax_engine_new(&options, &e, NULL) != MLAX_OK) fail_msg("no engine");
  g->L = lua_newstate(gate_lua_alloc, g);
  if (!g->L) fail_msg("no Lua state");
  lua_setwarnf(g->L, on_warning, g);
  luaL_openlibs(g->L);
  return e;
}

static void gate_close(gate *g, mlax_engine *e) {
  lua_State *L = g->L;
  g->L = NULL;
  lua_close(L);
  mlax_engine_release(e);
  free(g->places);
  g->places = NULL;
  g->n_places = g->cap_places = 0;
}

/* -- the state of all cases ---------------------------------------------------------------------------------------- */

static gate the_gate;
static mlax_engine *engine;
static lua_State *L;
static int check_ref, cases_ref;
static const char *running;
static bool broken; /* a case failed: the state is no measure for the next one */

static void on_alarm(int sig) {
  (void)sig;
  const char *name = running ? running : "?";
  ssize_t n = write(2, "no end: ", 8) + write(2, name, strlen(name)) + write(2, "\n", 1);
  _exit(n > 0 ? 3 : 4);
}

static void must(lua_State *l, int status) {
  if (status != LUA_OK) fail_msg("%s", luaL_tolstring(l, -1, NULL));
}

static int attach_and_require(lua_State *l) { /* light userdata engine -> mlax */
  mlax_attach(l, lua_touserdata(l, 1));
  luaL_requiref(l, "mlax", luaopen_mlax, 0);
  return 1;
}

static void load_mlax(lua_State *l, mlax_engine *e) {
  lua_pushcfunction(l, attach_and_require);
  lua_pushlightuserdata(l, e);
  must(l, lua_pcall(l, 1, 0, 0));
}

static const char check_code[] = "local mlax = require 'mlax'\n"
                                 "return function() assert((mlax.array{1, 2, 3} * 2):sum():item() == 12) end";
/* What a trace or a call that was cut short would spoil. */
static const char deep_code[] =
    "local mlax = require 'mlax'\n"
    "local f = mlax.grad(function(x) return mlax.vmap(mlax.jit(function(x) return x * x end))(x):sum() end)\n"
    "assert(f(mlax.array{1, 2, 3})[3]:item() == 6)\n"
    "local m = mlax.nn.Linear(mlax.random.key(1), 2)\n"
    "assert(m(mlax.ones{3}).shape[1] == 2)";
static int deep_ref;

static char folder[] = "/tmp/mlax-fault-XXXXXX";

static void open_cases(void) {
  char files[sizeof folder + 2];
  if (strstr(folder, "XXXXXX") && !mkdtemp(folder)) fail_msg("no temporary folder");
  snprintf(files, sizeof files, "%s/x", folder);
  setenv("FAULT_FOLDER", files, 1);
  engine = gate_open(&the_gate);
  L = the_gate.L;
  load_mlax(L, engine);
  must(L, luaL_dostring(L, check_code));
  check_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  must(L, luaL_loadstring(L, deep_code));
  deep_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  must(L, luaL_dofile(L, "tests/fault/cases.lua"));
  lua_settop(L, 1);
  cases_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_settop(L, 0);
}

static int close_cases(void **state) {
  (void)state;
  if (broken) return 0;
  lua_settop(L, 0);
  if (system(lua_pushfstring(L, "rm -rf '%s'", folder))) fail_msg("the temporary folder stays");
  gate_close(&the_gate, engine);
  const char *problem = fault_end(&the_gate.under);
  if (problem) fail_msg("at the end: %s", problem);
  return 0;
}

/* -- one case ------------------------------------------------------------------------------------------------------ */

static size_t engine_live(mlax_engine *e) {
  mlax_memory_info m;
  mlax_memory(e, &m);
  return m.live;
}

static size_t lua_bytes(lua_State *l) {
  return (size_t)lua_gc(l, LUA_GCCOUNT) * 1024 + (size_t)lua_gc(l, LUA_GCCOUNTB);
}

static void call_ref(int ref) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
  must(L, lua_pcall(L, 0, 0, 0));
}

/* The check sweeps what the last call left in the frame. */
static void collect(void) {
  call_ref(check_ref);
  lua_gc(L, LUA_GCCOLLECT);
  lua_gc(L, LUA_GCCOLLECT);
}

static int push_case(const char *name) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, cases_ref);
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
  return lua_gettop(L);
}

/* NULL, or what of an interrupted work is left. */
static const char *remains(lua_State *l) {
  const mx_state *s = mx_state_of(l);
  if (!s) return NULL;
  if (s->ctx.trace) return "a trace is still running";
  if (s->ctx.axes) return "a named axis is still bound";
  if (s->ctx.frame_base) return "the frame is still raised";
  if (s->ctx.site) return "a program is still replayed";
  if (s->in_gc) return "a collection is still running";
  if (s->scopes) return "a scope is still open";
  return NULL;
}

static bool is_about_memory(lua_State *l) {
  const char *text = lua_type(l, -1) == LUA_TSTRING ? lua_tostring(l, -1) : "";
  return strstr(text, "memory") || strstr(text, "stack overflow"); /* what luaL_checkstack says without memory */
}

/* Runs the case with allocation `at` failing. */
static void fail_one(int f, const char *name, long at, fault_mode mode) {
  lua_pushvalue(L, f);
  arm(&the_gate, at, mode);
  int status = lua_pcall(L, 0, 0, 0);
  disarm(&the_gate);
  if (status != LUA_OK && !is_about_memory(L))
    fail_msg("%s (%s, allocation %ld): the error is %s", name, mode_names[mode], at, luaL_tolstring(L, -1, NULL));
  if (status != LUA_OK && !the_gate.failed)
    fail_msg("%s: fails without a failure: %s", name, luaL_tolstring(L, -1, NULL));
  lua_settop(L, f);
  const char *left = remains(L);
  if (left) fail_msg("%s (%s, allocation %ld): %s", name, mode_names[mode], at, left);
  lua_rawgeti(L, LUA_REGISTRYINDEX, check_ref);
  if (lua_pcall(L, 0, 0, 0) != LUA_OK)
    fail_msg("%s (%s, allocation %ld): then nothing works: %s", name, mode_names[mode], at,
             luaL_tolstring(L, -1, NULL));
}

static void run_clean(int f) {
  lua_pushvalue(L, f);
  must(L, lua_pcall(L, 0, 0, 0));
}

/* Whether the failure of `at` loses bytes of the engine. */
static bool loses(int f, const char *name, long at, fault_mode mode) {
  run_clean(f);
  collect();
  size_t before = engine_live(engine);
  fail_one(f, name, at, mode);
  run_clean(f);
  collect();
  return engine_live(engine) != before;
}

/* Says which failures lose something. */
static void blame(int f, const char *name, const long *at, long n) {
  for (int mode = 0; mode < N_MODE; mode++)
    for (long i = 0; i < n; i++)
      if (loses(f, name, at[i], (fault_mode)mode)) {
        fprintf(stderr, "%s loses bytes: allocation %ld, %s\n", name, at[i], mode_names[mode]);
        return;
      }
}

static int compare(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

/* The allocations to fail: those whose place is not among the same ones SAME_PLACE times already. */
static long choose(const gate *g, long *at, int same_place) {
  bool all = getenv("FAULT_ALL") != NULL;
  uint64_t *seen = malloc((size_t)(g->n_places + 1) * sizeof *seen);
  memcpy(seen, g->places, (size_t)g->n_places * sizeof *seen);
  qsort(seen, (size_t)g->n_places, sizeof *seen, compare);
  int *times = calloc((size_t)g->n_places + 1, sizeof *times);
  long n = 0;
  for (long i = 0; i < g->n_places; i++) {
    uint64_t *first = bsearch(&g->places[i], seen, (size_t)g->n_places, sizeof *seen, compare);
    while (first > seen && first[-1] == *first) first--;
    if (times[first - seen]++ < same_place || all) at[n++] = i + 1;
  }
  free(seen);
  free(times);
  return n;
}

static long *places_of_case(int f, long *n) {
  the_gate.n_places = 0;
  the_gate.recording = true;
  lua_pushvalue(L, f);
  int status = lua_pcall(L, 0, 0, 0);
  the_gate.recording = false;
  must(L, status);
  long *at = malloc((size_t)(the_gate.n_places + 1) * sizeof *at);
  const char *same_place = getenv("FAULT_SAME");
  *n = choose(&the_gate, at, same_place ? atoi(same_place) : SAME_PLACE);
  return at;
}

static long total_runs;

static void sweep(int f, const char *name, const long *at, long n) {
  for (int mode = 0; mode < N_MODE; mode++)
    for (long i = 0; i < n; i++) fail_one(f, name, at[i], (fault_mode)mode);
  total_runs += N_MODE * n;
  run_clean(f);
  call_ref(deep_ref);
  collect();
}

static void test_case(void **state) {
  const char *name = *state;
  running = name;
  alarm(SECONDS);
  if (broken) open_cases();
  broken = true;
  lua_settop(L, 0);
  int f = push_case(name);
  for (int i = 0; i < 3; i++) run_clean(f);
  call_ref(deep_ref);
  long n, *at = places_of_case(f, &n);
  collect();
  size_t live = engine_live(engine), bytes = lua_bytes(L);
  sweep(f, name, at, n);
  for (int again = 0; again < 3 && lua_bytes(L) > bytes + LUA_SLACK;
       again++) { /* Lua's own tables grow, a leak does so each time */
    bytes = lua_bytes(L);
    sweep(f, name, at, n);
  }
  const char *problem = fault_problem(&the_gate.under);
  if (problem) fail_msg("%s: %s", name, problem);
  size_t live_after = engine_live(engine), bytes_after = lua_bytes(L);
  if (live_after != live) {
    blame(f, name, at, n);
    fail_msg("%s: the engine has %zu bytes in use, had %zu", name, live_after, live);
  }
  if (bytes_after > bytes + LUA_SLACK) fail_msg("%s: Lua has %zu bytes in use, had %zu", name, bytes_after, bytes);
  free(at);
  alarm(0);
  broken = false;
}

static void test_every_public_function_has_a_case(void **state) {
  (void)state;
  lua_settop(L, 0);
  push_case("uncovered");
  must(L, lua_pcall(L, 0, 1, 0));
  if (*lua_tostring(L, -1)) fail_msg("no case in tests/fault/cases.lua: %s", lua_tostring(L, -1));
}

/* -- loading ------------------------------------------------------------------------------------------------------- */

static const char load_code[] =
    "local mlax = require 'mlax'\n"
    "pcall(function() return mlax.no_such_name end)\n"
    "for name in ('random tree nn optim losses metrics data plot progress io checkpoint_manager'):gmatch '%S+' do "
    "assert(mlax[name], name) "
    "end\n"
    "local x = mlax.array{3, 1, 2}\n"
    "assert(x:median():item() == 2 and mlax.einsum('i,i', x, x):item() == 14)\n"
    "assert(mlax.grad(function(x) return (x * x):sum() end)(x)[1]:item() == 6)\n"
    "assert(mlax.optim.sgd(0.1):init{x} and mlax.nn.Linear(mlax.random.key(1), 3)(x).shape[1] == 3)\n";

static int load_everything(lua_State *l) { /* light userdata engine */
  attach_and_require(l);
  lua_pop(l, 1);
  if (luaL_dostring(l, load_code) != LUA_OK) return lua_error(l);
  return 0;
}

static int try_load(gate *g, mlax_engine *e) {
  lua_settop(g->L, 0);
  if (!lua_checkstack(g->L, 10)) return LUA_ERRMEM;
  lua_pushcfunction(g->L, load_everything);
  lua_pushlightuserdata(g->L, e);
  return lua_pcall(g->L, 1, 0, 0);
}

/* Loading fails at `at`, is tried again, and succeeds; nothing is left when the state is closed. */
static void load_once(long at, fault_mode mode) {
  gate g = {.at = 0};
  mlax_engine *e = gate_open(&g);
  arm(&g, at, mode);
  int status = try_load(&g, e);
  disarm(&g);
  if (status != LUA_OK && !is_about_memory(g.L))
    fail_msg("loading (%s, allocation %ld): the error is %s", mode_names[mode], at, luaL_tolstring(g.L, -1, NULL));
  if (try_load(&g, e) != LUA_OK)
    fail_msg("loading (%s, allocation %ld): the second time: %s", mode_names[mode], at, luaL_tolstring(g.L, -1, NULL));
  gate_close(&g, e);
  const char *problem = fault_end(&g.under);
  if (problem) fail_msg("loading (%s, allocation %ld): %s", mode_names[mode], at, problem);
}

static void test_loading(void **state) {
  (void)state;
  running = "loading";
  alarm(4 * SECONDS);
  gate g = {.recording = true};
  mlax_engine *e = gate_open(&g);
  g.n_places = 0;
  must(g.L, try_load(&g, e));
  g.recording = false;
  long *at = malloc((size_t)(g.n_places + 1) * sizeof *at), n = choose(&g, at, 1);
  gate_close(&g, e);
  assert_null(fault_end(&g.under));
  long step = getenv("FAULT_ALL") || n < LOADS ? 1 : n / LOADS;
  for (long i = 0; i < n; i += step, total_runs++) load_once(at[i], (fault_mode)(i / step % N_MODE));
  free(at);
  alarm(0);
}

/* -- all ----------------------------------------------------------------------------------------------------------- */

/* The names of the cases, in order; the list ends with NULL. */
static char **case_names(void) {
  open_cases();
  push_case("order");
  int n = (int)lua_rawlen(L, -1);
  char **names = calloc((size_t)n + 1, sizeof *names);
  const char *wanted = getenv("FAULT_CASE");
  for (int i = 1, k = 0; i <= n; i++) {
    lua_rawgeti(L, 1, i);
    if (!wanted || strstr(lua_tostring(L, -1), wanted)) names[k++] = strdup(lua_tostring(L, -1));
    lua_pop(L, 1);
  }
  return names;
}

int main(void) {
  signal(SIGALRM, on_alarm);
  char **names = case_names();
  size_t n = 0;
  while (names[n]) n++;
  struct CMUnitTest *tests = calloc(n + 2, sizeof *tests);
  for (size_t i = 0; i < n; i++) tests[i] = (struct CMUnitTest){names[i], test_case, NULL, NULL, names[i]};
  tests[n] = (struct CMUnitTest)cmocka_unit_test(test_every_public_function_has_a_case);
  tests[n + 1] = (struct CMUnitTest)cmocka_unit_test(test_loading);
  const char *wanted = getenv("FAULT_CASE");
  size_t count = wanted && !strstr("loading", wanted) ? n : n + 2;
  int failed = _cmocka_run_group_tests("fault", tests, count, NULL, close_cases);
  fprintf(stderr, "%ld calls with a failing allocation\n", total_runs);
  for (size_t i = 0; i < n; i++) free(names[i]);
  free(names);
  free(tests);
  return failed;
}
