/* state.c: the one mx_state of a Lua state, entering and leaving C, errors, calls of user functions, registration.
 *
 * The state is a full userdata in the registry under the address of a static, and the first upvalue of every C function
 * of ours. Its user values anchor what Lua must not collect: the error value that passes through C, its traceback, the
 * path of our chunks.
 *
 * A user's finalizer may run at any Lua allocation and call into mlax in the middle of another operation: mx_enter then
 * sweeps nothing, so that the frame of the interrupted operation stays whole.
 */
#include "tree.h"

#include <limits.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

enum { UV_ERROR = 1, UV_TRACEBACK, UV_OWN, UV_COUNT = UV_OWN };
enum { LEAST_YOUNG = 512 << 10, LEAST_GARBAGE = 16 << 20, MOST_GARBAGE = 64 << 20, MEAN_SMALL = 4 << 10 };
enum { TRACEBACK_LEVELS = 40, HOOK_COUNT = 10000 };

static const char state_key = 0; /* its address is the registry key */
#define NAME_KEY "mlax.core"     /* registry: the key's address, by which a second copy of the library is found out */

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static _Atomic long fork_count;
static void count_fork(void) { atomic_fetch_add(&fork_count, 1); }
static void watch_forks(void) { pthread_atfork(NULL, NULL, count_fork); }

mx_state *mx_state_of(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
  mx_state *s = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return s;
}

static void set_uservalue(lua_State *L, int value, int n) { /* [-0, +0] */
  lua_pushvalue(L, value);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
  lua_insert(L, -2);
  lua_setiuservalue(L, -2, n);
  lua_pop(L, 1);
}

static void push_uservalue(lua_State *L, int n) { /* [-0, +1] */
  lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
  lua_getiuservalue(L, -1, n);
  lua_remove(L, -2);
}

/* -- lines and tracebacks ------------------------------------------------------------------------------------------ */

static bool is_own(const mx_state *s, const char *source) {
  if (!strncmp(source, "@mlax:", 6)) return true;
  return s && s->own && source[0] == '@' && !strncmp(source + 1, s->own, s->own_length);
}

static bool is_user(const mx_state *s, const lua_Debug *ar) { return ar->currentline > 0 && !is_own(s, ar->source); }

/* The user's innermost Lua frame: neither a C function nor a chunk of mlax. */
static bool user_line(lua_State *L, const mx_state *s, lua_Debug *ar) {
  for (int level = 0; lua_getstack(L, level, ar); level++) {
    lua_getinfo(L, "Sl", ar);
    if (is_user(s, ar)) return true;
  }
  return false;
}

void mx_push_where(lua_State *L) {
  lua_Debug ar;
  if (user_line(L, mx_state_of(L), &ar)) lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
  else lua_pushliteral(L, "");
}

static uint32_t site_of_line(void *ud) { /* mx_ctx.where */
  mx_state *s = ud;
  lua_Debug ar;
  return user_line(s->L, s, &ar) ? mx_site_intern(&s->ctx, ar.short_src, ar.currentline) : 0;
}

static void add_frame(luaL_Buffer *b, lua_State *L, lua_Debug *ar) {
  lua_pushfstring(L, "\n\t%s:%d: in ", ar->short_src, ar->currentline);
  luaL_addvalue(b);
  if (*ar->namewhat) lua_pushfstring(L, "%s '%s'", ar->namewhat, ar->name);
  else if (*ar->what == 'm') lua_pushliteral(L, "main chunk");
  else lua_pushfstring(L, "function <%s:%d>", ar->short_src, ar->linedefined);
  luaL_addvalue(b);
}

/* Pushes the user's frames of the running stack as text. [-0, +1] */
static void push_stack(lua_State *L, const mx_state *s) {
  luaL_Buffer b;
  lua_Debug ar;
  int shown = 0;
  luaL_buffinit(L, &b);
  luaL_addstring(&b, "stack traceback:");
  for (int level = 0; shown < TRACEBACK_LEVELS && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sln", &ar);
    if (!is_user(s, &ar)) continue;
    add_frame(&b, L, &ar);
    shown++;
  }
  luaL_pushresult(&b);
}

/* Remembers the error value on top as raised here, unless it is on its way already. [-0, +0] */
static void note_raise(lua_State *L, mx_state *s) {
  push_uservalue(L, UV_ERROR);
  bool known = s->raising && lua_rawequal(L, -1, -2);
  lua_pop(L, 1);
  if (known) return;
  set_uservalue(L, lua_gettop(L), UV_ERROR);
  push_stack(L, s);
  set_uservalue(L, lua_gettop(L), UV_TRACEBACK);
  lua_pop(L, 1);
  s->raising = true;
}

void mx_push_traceback(lua_State *L, int idx) {
  idx = lua_absindex(L, idx);
  push_uservalue(L, UV_ERROR);
  bool same = !lua_isnil(L, -1) && lua_rawequal(L, -1, idx);
  lua_pop(L, 1);
  if (same) push_uservalue(L, UV_TRACEBACK);
  else lua_pushnil(L);
}

/* -- collecting -------------------------------------------------------------------------------------------------------
 * Lua sees 8 bytes in a userdata behind which a megabyte may lie. So the engine's live bytes are watched. When they
 * have grown by a budget, the collector takes a step: of what is young in generational mode, of about a cycle in
 * incremental mode. When they have grown by a larger budget in spite of the steps, all is collected.
 *
 * A small budget keeps the buffers in the processor's cache, a large one makes collections rare: each is led so that
 * marking the script's own heap takes at most an eighth of the time. Freeing does not count: an array takes as long to
 * free late as early. */

static int do_nothing(lua_State *L) {
  (void)L;
  return 0;
}

/* A finalizer that finds no memory for its own call is lost, and with it what it would have freed. So the stack must
 * have room for one, and a call record that the collector leaves alone (it keeps the first free one). */
static bool has_room_for_finalizers(lua_State *L) {
  if (!lua_checkstack(L, 3 * LUA_MINSTACK)) return false;
  lua_pushcfunction(L, do_nothing);
  if (lua_pcall(L, 0, 0, 0) == LUA_OK) return true;
  lua_pop(L, 1);
  return false;
}

static bool may_collect(const mx_state *s, lua_State *L) {
  return !s->in_gc && lua_gc(L, LUA_GCISRUNNING) == 1 && has_room_for_finalizers(L);
}

/* A collection. step: in kilobytes, of how much Lua's collector is told; 0: all of it. True if a cycle has ended.
 * Finalizers of the user may call mlax: what the running operation has in the context is put aside. */
static bool collect_now(lua_State *L, mx_state *s, int step) {
  mx_ctx *c = &s->ctx;
  mx_ctx saved = *c;
  int entry = s->entry;
  lua_State *running = s->L;
  s->in_gc = true;
  c->frame_base = c->frame_n;
  c->trace = NULL;
  c->axes = NULL;
  bool ended = step ? lua_gc(L, LUA_GCSTEP, step) : lua_gc(L, LUA_GCCOLLECT) == 0;
  mx_frame_release(c, c->frame_base);
  c->error = saved.error;
  c->op = saved.op;
  c->frame_base = saved.frame_base;
  c->trace = saved.trace;
  c->axes = saved.axes;
  c->site = saved.site;
  c->error_site = saved.error_site;
  s->entry = entry;
  s->L = running;
  s->in_gc = false;
  return ended;
}

static bool collect_for_memory(void *ud) { /* mx_ctx.collect */
  mx_state *s = ud;
  if (!may_collect(s, s->L)) return false;
  collect_now(s->L, s, 0);
  return true;
}

double mx_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t live_bytes(const mx_state *s) { return mx_live(s->ctx.engine); }

/* *pause += seconds that the collector looks for garbage: to the first array that it frees. */
static bool look_for_garbage(lua_State *L, mx_state *s, int step, double *pause) {
  double start = mx_seconds();
  s->freed = 0;
  bool ended = collect_now(L, s, step);
  *pause += (s->freed > 0 ? s->found : mx_seconds()) - start;
  return ended;
}

/* Enough for a collection of young objects, or for a cycle: what Lua would wait for, at its usual pause. */
static int step_of(lua_State *L, size_t growth) {
  size_t kilobytes = 2 * (size_t)lua_gc(L, LUA_GCCOUNT) + (growth >> 10) + 1;
  return kilobytes < INT_MAX / 1024 ? (int)kilobytes : INT_MAX / 1024;
}

/* The next collection comes one budget from here. */
static void pace_start(mx_pace *p, size_t live) {
  p->ceiling = live + p->budget;
  p->ended = mx_seconds();
}

/* Since then. */
static size_t pace_growth(const mx_pace *p, size_t live) { return live - (p->ceiling - p->budget); }

/* What looking for garbage takes for the script's own heap alone: the pause, seconds, grows with the garbage, too,
 * where that no longer lies in the cache. So the best that was seen for a kilobyte counts; it is forgotten slowly. */
static double mark_time(mx_pace *p, lua_State *L, double pause) {
  double heap = lua_gc(L, LUA_GCCOUNT) + 1, each = pause / heap, most = p->mark + p->mark / 64;
  p->mark = p->mark > 0 && each > most ? most : each;
  return p->mark * heap;
}

/* mark: seconds, which may be a `share`th of the time; few: the collection came too early for much of what had grown.
 */
static void pace_plan(mx_pace *p, size_t live, size_t least, double work, double mark, double share, bool few) {
  size_t most = live / 2 > MOST_GARBAGE ? live / 2 : MOST_GARBAGE;
  if (few || mark > work / share) p->budget += p->budget / 2;
  else if (mark < work / share / 4) p->budget -= p->budget / 4;
  if (p->budget < least) p->budget = least;
  if (p->budget > most) p->budget = most;
  pace_start(p, live);
}

/* Whether what a collection freed was small: by the mean, of the bytes that had grown. */
static bool frees_small(const mx_state *s, size_t growth) { return growth / MEAN_SMALL < (size_t)s->freed; }

/* Steps have left too much: what was there for several of them, or was kept in an upvalue, is old when it becomes
 * garbage in generational mode. Where that is a few large arrays, as the state of a training loop, cycles find them at
 * less cost: the collector is incremental until most of what dies is small again. */
static void collect_all(lua_State *L, mx_state *s) {
  double work = mx_seconds() - s->all.ended, pause = 0;
  size_t before = live_bytes(s), growth = pace_growth(&s->all, before), enough = before - growth / 2;
  look_for_garbage(L, s, 0, &pause);
  bool few = live_bytes(s) > enough;
  if (!few && !frees_small(s, growth) && lua_gc(L, LUA_GCINC, 0, 0, 0) == LUA_GCGEN) s->incremental = true;
  pace_plan(&s->all, live_bytes(s), LEAST_GARBAGE, work, mark_time(&s->all, L, pause), 64, few);
  pace_start(&s->young, live_bytes(s));
}

/* A cycle of Lua's that was under way takes what has been made since it began for alive: then another one follows. */
static void collect_grown(lua_State *L, mx_state *s) {
  double work = mx_seconds() - s->young.ended, pause = 0;
  size_t before = live_bytes(s), growth = pace_growth(&s->young, before), enough = before - growth / 2;
  bool ended = look_for_garbage(L, s, step_of(L, growth), &pause);
  if (ended && live_bytes(s) > enough) look_for_garbage(L, s, step_of(L, growth), &pause);
  if (s->incremental && frees_small(s, growth)) {
    lua_gc(L, LUA_GCGEN, 0, 0);
    s->incremental = false;
  }
  pace_plan(&s->young, live_bytes(s), LEAST_YOUNG, work, mark_time(&s->young, L, pause), 8, live_bytes(s) > enough);
  if (live_bytes(s) >= s->all.ceiling) collect_all(L, s);
}

/* -- enter and leave ----------------------------------------------------------------------------------------------- */

/* What must not happen often: a forked child, a state that lua_close has finalized. */
static void check_entry(lua_State *L, mx_state *s) {
  if (!s->ctx.engine) luaL_error(L, "mlax: the Lua state is being closed");
  if (!mx_poll(&s->ctx)) mx_raise(L);
}

mx_ctx *mx_enter(lua_State *L, const char *op) {
  mx_state *s = MX_STATE(L);
  mx_ctx *c = &s->ctx;
  s->L = L;
  c->op = op;
  s->raising = false;
  if (c->frame_n > c->frame_base && lua_gc(L, LUA_GCISRUNNING) >= 0) mx_frame_release(c, c->frame_base);
  s->entry = c->frame_n;
  c->error_site = 0;
  if (mx_failed(c)) mx_clear(c);
  if (!c->engine || s->forks != atomic_load_explicit(&fork_count, memory_order_relaxed)) check_entry(L, s);
  if (live_bytes(s) >= s->young.ceiling && may_collect(s, L)) collect_grown(L, s);
  return c;
}

int mx_push(lua_State *L, mx_array *x) {
  if (!x) return mx_raise(L);
  mx_array **box = mx_push_box(L);
  *box = mx_retain(x);
  if (MX_STATE(L)->scopes) mx_scope_note(L, x);
  return 1;
}

int mx_return(lua_State *L, mx_array *x) {
  if (!x) return mx_raise(L);
  mx_array **box = mx_push_box(L);
  *box = mx_retain(x);
  mx_state *s = MX_STATE(L);
  if (s->scopes) mx_scope_note(L, x);
  if (s->ctx.frame_n > s->entry) mx_frame_release(&s->ctx, s->entry);
  return 1;
}

void mx_ok(lua_State *L, bool ok) {
  if (!ok) mx_raise(L);
}

/* Raises "file:line: op: text in module". stack: ..., text */
static int raise_text(lua_State *L, mx_state *s, const char *op, uint32_t site) {
  if (site && mx_site_op(&s->ctx, site)) op = mx_site_op(&s->ctx, site);
  if (site) lua_pushfstring(L, "%s: ", mx_site_text(&s->ctx, site));
  else mx_push_where(L);
  lua_insert(L, -2);
  if (op) lua_pushfstring(L, "%s: ", op);
  else lua_pushliteral(L, "");
  lua_insert(L, -2);
  mx_module_where(L);
  lua_concat(L, 4);
  note_raise(L, s);
  return lua_error(L);
}

int mx_raise(lua_State *L) {
  mx_state *s = mx_state_of(L);
  mx_ctx *c = &s->ctx;
  luaL_checkstack(L, 10, NULL);
  mlax_error error = c->error; /* copied: a finalizer that runs while the message is built may enter mlax */
  const char *op = c->op;
  uint32_t site = c->error_site ? c->error_site : c->site; /* compiled code failed: the line that made the operation */
  mx_clear(c);
  c->site = c->error_site = 0;
  if (error.status == MLAX_LUA) {
    push_uservalue(L, UV_ERROR);
    return lua_error(L);
  }
  lua_pushstring(L, error.status == MLAX_OK ? "failed" : error.text);
  return raise_text(L, s, op, site);
}

int mx_error(lua_State *L, const char *format, ...) {
  mx_state *s = mx_state_of(L);
  const char *op = s->ctx.op;
  char text[508];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  mx_clear(&s->ctx);
  luaL_checkstack(L, 10, NULL);
  lua_pushstring(L, text);
  return raise_text(L, s, op, 0);
}

int mx_fail_pair(lua_State *L) {
  mx_ctx *c = &mx_state_of(L)->ctx;
  mlax_status status = c->error.status;
  if (status != MLAX_IO && status != MLAX_FORMAT && status != MLAX_DEVICE) return mx_raise(L);
  char text[sizeof c->error.text];
  memcpy(text, c->error.text, sizeof text);
  mx_clear(c);
  lua_pushnil(L);
  lua_pushstring(L, text);
  return 2;
}

/* -- calls of user functions --------------------------------------------------------------------------------------- */

static int on_raise(lua_State *L) { /* message handler: stack: error value */
  mx_state *s = mx_state_of(L);
  lua_settop(L, 1);
  if (s) note_raise(L, s);
  return 1;
}

/* Keeps the error value on top, which note_raise has seen (a memory error passes no handler). [-1, +0] */
static void keep_error(lua_State *L, mx_state *s) {
  push_uservalue(L, UV_ERROR);
  bool known = lua_rawequal(L, -1, -2);
  lua_pop(L, 1);
  if (!known) {
    set_uservalue(L, lua_gettop(L), UV_ERROR);
    lua_pushnil(L);
    set_uservalue(L, lua_gettop(L), UV_TRACEBACK);
    lua_pop(L, 1);
  }
  s->raising = true;
  mx_clear(&s->ctx);
  mx_fail(&s->ctx, MLAX_LUA, "%s", lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "a Lua error");
  lua_pop(L, 1);
}

bool mx_call(lua_State *L, int nargs, int nresults) {
  mx_state *s = mx_state_of(L);
  mx_ctx *c = &s->ctx;
  int function = lua_gettop(L) - nargs, base = c->frame_base, mark = c->frame_n, entry = s->entry;
  const char *op = c->op;
  uint32_t site = c->site;
  if (!lua_checkstack(L, 8)) {
    lua_settop(L, function - 1);
    mx_fail_memory(c, 8 * sizeof(void *));
    return false;
  }
  lua_pushcfunction(L, on_raise);
  lua_insert(L, function);
  c->frame_base = mark;
  c->site = 0;
  int status = lua_pcall(L, nargs, nresults, function);
  lua_remove(L, function);
  mx_frame_release(c, mark);
  c->frame_base = base;
  c->op = op;
  c->site = site;
  s->entry = entry;
  s->L = L;
  if (status == LUA_OK) return true;
  keep_error(L, s);
  return false;
}

static void poll_hook(lua_State *L, lua_Debug *ar) {
  (void)ar;
  mx_state *s = mx_state_of(L);
  if (!s || !s->ctx.engine || mx_failed(&s->ctx)) return;
  if (!mx_poll(&s->ctx)) {
    s->ctx.op = NULL;
    mx_raise(L);
  }
}

mlax_status mlax_pcall(lua_State *L, int nargs, int nresults, mlax_error *error) {
  int function = lua_gettop(L) - nargs;
  bool hook = !lua_gethook(L);
  lua_pushcfunction(L, on_raise);
  lua_insert(L, function);
  if (hook) lua_sethook(L, poll_hook, LUA_MASKCOUNT, HOOK_COUNT);
  int status = lua_pcall(L, nargs, nresults, function);
  if (hook) lua_sethook(L, NULL, 0, 0);
  lua_remove(L, function);
  if (status == LUA_OK) return mx_report(error, MLAX_OK, "%s", "");
  luaL_tolstring(L, -1, NULL);
  lua_pushnil(L);
  if (mx_state_of(L)) {
    mx_push_traceback(L, -3);
    lua_replace(L, -2);
  }
  const char *trace = lua_tostring(L, -1);
  mlax_status r = mx_report(error, status == LUA_ERRMEM ? MLAX_MEMORY : MLAX_LUA, "%s%s%s", lua_tostring(L, -2),
                            trace ? "\n" : "", trace ? trace : "");
  lua_pop(L, 3);
  return r;
}

/* -- what finalizers make ------------------------------------------------------------------------------------------ */

/* Lua runs no finalizer of an object that was made while the state closes, which a user's finalizer may do. So what is
 * made inside a finalizer is noted in a weak table, and close_state, the last of all, frees what is still there. */

static const char late_key = 0; /* registry: the table, by object */

void mx_own(lua_State *L) {
  lua_setmetatable(L, -2);
  if (lua_gc(L, LUA_GCISRUNNING) >= 0) return; /* no finalizer is running */
  lua_rawgetp(L, LUA_REGISTRYINDEX, &late_key);
  lua_pushvalue(L, -2);
  lua_pushboolean(L, true);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

static void open_late(lua_State *L) {
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &late_key);
}

static void free_late(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &late_key) == LUA_TTABLE)
    for (lua_pushnil(L); lua_next(L, -2);) {
      lua_pop(L, 1);
      if (luaL_callmeta(L, -1, "__gc")) lua_pop(L, 1);
    }
  lua_pop(L, 1);
}

/* -- the state ----------------------------------------------------------------------------------------------------- */

static int
close_state(lua_State *L) { /* __gc of the state: the last of our finalizers, since it was the first object */
  mx_state *s = lua_touserdata(L, 1);
  if (s->ctx.engine) {
    free_late(L);
    mx_frame_release(&s->ctx, 0);
    mx_ctx_close(&s->ctx);
    s->ctx.engine = NULL;
  }
  return 0;
}

static int own_chunks(lua_State *L) { /* core.own_chunks(directory): chunks from there are mlax's own */
  mx_state *s = MX_STATE(L);
  const char *own = luaL_checkstring(L, 1);
  set_uservalue(L, 1, UV_OWN);
  s->own = own;
  s->own_length = strlen(own);
  return 0;
}

/* [-0, +1] */
static mx_state *new_state(lua_State *L, mlax_engine *engine) {
  mx_state *s = lua_newuserdatauv(L, sizeof *s, UV_COUNT);
  memset(s, 0, sizeof *s);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, close_state);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2); /* from here on the state closes itself */
  if (!mx_ctx_init(&s->ctx, engine)) {
    s->ctx.engine = NULL;
    luaL_error(L, "mlax: not enough memory for a context");
  }
  s->L = L;
  s->ctx.where = site_of_line;
  s->ctx.collect = collect_for_memory;
  s->ctx.ud = s;
  s->print = (mx_print_options){6, 3, 1000};
  pthread_once(&fork_once, watch_forks);
  s->forks = atomic_load(&fork_count);
  s->young.budget = LEAST_YOUNG;
  s->all.budget = LEAST_GARBAGE;
  pace_start(&s->young, live_bytes(s));
  pace_start(&s->all, live_bytes(s));
  return s;
}

/* Two copies of the library in one Lua state would take each other's arrays for their own. */
static void refuse_other_copy(lua_State *L) {
  if (lua_getfield(L, LUA_REGISTRYINDEX, NAME_KEY) != LUA_TNIL && lua_touserdata(L, -1) != (void *)&state_key)
    luaL_error(L, "mlax: another copy of the library is loaded in this Lua state (this one is %s)", MLAX_VERSION);
  lua_pop(L, 1);
}

static void install_state(lua_State *L, mlax_engine *engine) { /* [-0, +0] */
  refuse_other_copy(L);
  open_late(L);
  new_state(L, engine);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &state_key);
  lua_pushlightuserdata(L, (void *)&state_key);
  lua_setfield(L, LUA_REGISTRYINDEX, NAME_KEY);
}

void mlax_attach(lua_State *L, mlax_engine *engine) {
  luaL_checkversion(L);
  luaL_checkstack(L, 10, NULL);
  mx_state *s = mx_state_of(L);
  if (s && s->ctx.engine == engine) return;
  if (s) luaL_error(L, "mlax: this Lua state has an engine already (attach before the first require)");
  install_state(L, engine);
  mx_state_of(L)->hosted = true;
}

static int release_engine(lua_State *L) {
  mlax_engine **guard = lua_touserdata(L, 1);
  mlax_engine_release(*guard);
  *guard = NULL;
  return 0;
}

/* A Lua state that no host gave an engine gets one of its own. The guard releases our reference, also when the state
 * fails. */
static void install_default(lua_State *L) {
  mlax_options options = MLAX_OPTIONS;
  mlax_error error;
  mlax_engine **guard = lua_newuserdatauv(L, sizeof *guard, 0);
  *guard = NULL;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, release_engine);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  if (mlax_engine_new(&options, guard, &error) != MLAX_OK) luaL_error(L, "mlax: %s", error.text);
  install_state(L, *guard);
  mlax_engine_release(*guard);
  *guard = NULL;
  lua_pop(L, 1);
}

/* -- registration -------------------------------------------------------------------------------------------------- */

static const struct {
  int flag;
  const char *table;
} places[] = {{MX_IN_MLAX, "mlax"},
              {MX_IN_METHODS, "methods"},
              {MX_IN_LAX, "lax"},
              {MX_IN_RANDOM, "random"},
              {MX_IN_TREE, "tree"}};

/* stack: core, function */
static void place_function(lua_State *L, const mx_reg *r) {
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    if (!(r->where & places[i].flag)) continue;
    lua_getfield(L, -2, places[i].table);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, r->name);
    lua_pop(L, 1);
  }
  if (r->where & MX_IN_CORE) {
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, r->name);
  }
}

void mx_register(lua_State *L, const mx_reg *list) {
  for (; list->name; list++) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
    lua_pushcclosure(L, list->function, 1);
    place_function(L, list);
    lua_pop(L, 1);
  }
}

static const mx_reg state_functions[] = {{"own_chunks", own_chunks, MX_IN_CORE}, {NULL, NULL, 0}};

/* stack: the new core table. [-0, +0] */
static void open_all(lua_State *L) {
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    lua_newtable(L);
    lua_setfield(L, -2, places[i].table);
  }
  mx_register(L, state_functions);
  mx_open_array(L);
  mx_open_create(L);
  mx_open_index(L);
  mx_open_functions(L);
  mx_open_random(L);
  mx_open_debug(L);
  mx_open_tree(L);
  mx_open_module(L);
  mx_open_transform(L);
  mx_open_jit(L);
  mx_open_io(L);
  mx_open_system(L);
}

/* Once a state: whoever clears package.loaded and requires again gets the same table. A second set of metatables would
 * not know the arrays and treedefs of the first. */
MLAX_API int luaopen_mlax_core(lua_State *L);
int luaopen_mlax_core(lua_State *L) {
  static const char core_key = 0;
  luaL_checkversion(L);
  refuse_other_copy(L);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &core_key) == LUA_TTABLE) return 1;
  lua_pop(L, 1);
  if (!mx_state_of(L)) install_default(L);
  lua_newtable(L);
  open_all(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &core_key);
  return 1;
}
