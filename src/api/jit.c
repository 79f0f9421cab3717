/* jit.c: compiled functions. A call is flattened into a key (jit_key.c); the first entry of the cache that fits runs
 * its plan. Entries are kept most recently used first.
 */
#include "jit_impl.h"

void mx_entry_free(mx_entry *e) {
  if (!e) return;
  mlax_engine *engine = e->memory.engine;
  mx_plan_release(e->plan);
  mx_program_release(e->program);
  mx_arena_release(&e->memory);
  mx_free(engine, e, sizeof *e);
}

static void entry_drop(mx_entry *e) {
  if (e->running) e->dropped = true;
  else mx_entry_free(e);
}

mx_jit *mx_to_jit(lua_State *L, int idx) {
  mx_jit *j = lua_touserdata(L, idx);
  bool ours = j && lua_getmetatable(L, idx);
  if (ours) {
    ours = lua_topointer(L, -1) == MX_STATE(L)->jit_meta;
    lua_pop(L, 1);
  }
  if (!ours) mx_error(L, "a jitted function is needed (got %s); call its methods with ':'", luaL_typename(L, idx));
  return j;
}

/* -- tracing ------------------------------------------------------------------------------------------------------- */

/* Inputs: traced leaves of the arguments, then captured arrays. */
static int collect(mx_ctx *c, const mx_entry *e, const mx_flat *args, const mx_flat *captured, mx_array **in) {
  int n = 0;
  for (int i = 0; i < args->n; i++) {
    if (!e->args.leaves[i].traced) continue;
    if (args->leaves[i].kind == MX_LEAF_ARRAY) in[n] = args->leaves[i].array;
    else if ((in[n] = mx_keep(c, mx_array_of_double(c, MLAX_FLOAT32, args->leaves[i].number)))) in[n]->aval.weak = true;
    else return -1;
    n++;
  }
  for (int i = 0; i < captured->n; i++)
    if (captured->leaves[i].kind == MX_LEAF_ARRAY) in[n++] = captured->leaves[i].array;
  return n;
}

static bool trace(mx_work *w, mx_entry *e, const mx_flat *args, const mx_flat *captured, mx_array **in,
                  mx_array **known) {
  const mx_aval **avals = mx_arena_alloc(w->c, &w->memory, (size_t)(e->n_in + 1) * sizeof *avals);
  if (!avals) return false;
  for (int i = 0; i < e->n_in; i++) avals[i] = &in[i]->aval;
  for (int i = 0; i < args->n; i++)
    if (e->args.leaves[i].traced) w->leaf[w->n++] = i;
  for (int i = w->n; i < e->n_in; i++) known[i] = in[i];
  (void)captured;
  return mx_stage(w->c, mx_work_function(w), avals, known, e->n_in, &e->program, &w->captured);
}

/* Pushes what an entry needs of Lua. [-0, +1] */
static void push_record(lua_State *L, int args, int captured, int results, int seen) {
  lua_createtable(L, 4, 0);
  mx_push_template(L, args);
  lua_rawseti(L, -2, 1);
  mx_push_template(L, captured);
  lua_rawseti(L, -2, 2);
  mx_push_template(L, results);
  lua_rawseti(L, -2, 3);
  lua_pushvalue(L, seen);
  lua_rawseti(L, -2, 4);
}

static void evict(lua_State *L, mx_jit *j) {
  while (j->n > j->max) {
    mx_entry *e = j->entries[--j->n];
    lua_getiuservalue(L, 1, MX_JIT_ANCHORS);
    lua_pushnil(L);
    lua_rawseti(L, -2, e->anchor);
    lua_pop(L, 1);
    entry_drop(e);
  }
}

static mx_entry *entry_new(lua_State *L, mx_jit *j, const mx_flat *args, const mx_flat *captured) {
  mx_entry *e = mx_new(j->c, sizeof *e);
  mx_ok(L, e != NULL);
  e->memory.engine = j->engine;
  if (mx_jit_make_key(j, e, args, captured)) return e;
  mx_entry_free(e);
  mx_raise(L);
  return NULL;
}

/* -- calling ------------------------------------------------------------------------------------------------------- */

static bool under_trace(const mx_ctx *c, const mx_program *p, mx_array *const *in, int n) {
  if (p->collective && c->trace) return true;
  for (const mx_trace *t = c->trace; t; t = t->parent)
    if (t->kind == MX_TRACE_STAGE) return true;
  for (int i = 0; i < n; i++)
    if (mx_is_tracer(in[i])) return true;
  return false;
}

static bool make_plan(mx_ctx *c, mx_entry *e) {
  mx_plan *p = mx_plan_new(c, e->program);
  if (p && e->donated && !mx_plan_donate(c, p, e->donated)) {
    mx_plan_release(p);
    return false;
  }
  e->plan = p;
  return p != NULL;
}

/* Once the plan has run, donated inputs are gone, also where it failed on the way. Under another transformation nothing
 * is donated. */
static bool run_now(mx_ctx *c, mx_entry *e, mx_array *const *in, int n, mx_array **out) {
  for (int i = 0; i < n; i++)
    if (mx_is_gone(in[i]) && !mx_usable(c, in[i])) return false;
  if (under_trace(c, e->program, in, n)) return mx_program_eval(c, e->program, in, out);
  if (!e->plan && !make_plan(c, e)) return false;
  bool ok = mx_plan_run(c, e->plan, in, out);
  for (int i = 0; e->donated && i < n; i++)
    if (e->donated[i]) mx_array_donate(in[i], c->where(c->ud));
  return ok;
}

static bool run(mx_jit *j, mx_entry *e, mx_array *const *in, int n, mx_array **out) {
  e->running++;
  bool ok = run_now(j->c, e, in, n, out);
  if (!--e->running && e->dropped) mx_entry_free(e);
  return ok;
}

static int push_all(lua_State *L, int results, mx_array *const *out) {
  const mx_flat *f = mx_flat_at(L, results);
  int base = lua_gettop(L);
  luaL_checkstack(L, f->n_roots + 8, "too many results");
  for (int r = 0; r < f->n_roots; r++) mx_push_results(L, results, r, out + mx_arrays_before(f, r));
  return lua_gettop(L) - base;
}

enum { FEW = 64 };

/* Room for the inputs and results of any entry: `few`, or a userdata. To be asked for before an entry is looked up,
 * since finalizers may run here. [-0, +0 or 1] */
static mx_array **room(lua_State *L, const mx_jit *j, mx_array **few) {
  mx_array **at = few;
  for (int have = FEW; have < j->widest;) {
    have = j->widest;
    if (at != few) lua_pop(L, 1);
    at = lua_newuserdatauv(L, (size_t)have * sizeof *at, 0);
  }
  return at;
}

/* What input i is: an argument, from 1, or the name of what is captured (*argument is 0 then). */
static const char *input_name(const mx_entry *e, const mx_flat *args, const mx_flat *captured, int input,
                              int *argument) {
  int n = 0;
  for (int r = 0; r < args->n_roots; r++)
    for (int i = args->roots[r].first; i < mx_root_end(args, r); i++)
      if (e->args.leaves[i].traced && n++ == input) return *argument = r + 1, NULL;
  for (int r = 0; r < captured->n_roots; r++)
    for (int i = captured->roots[r].first; i < mx_root_end(captured, r); i++)
      if (captured->leaves[i].kind == MX_LEAF_ARRAY && n++ == input) return *argument = 0, e->captured.names[r];
  return *argument = 0, "?";
}

/* Nobody else may see a donated array. */
static void check_donated(lua_State *L, const mx_jit *j, const mx_entry *e, const mx_flat *args,
                          const mx_flat *captured, mx_array *const *in) {
  int donated, other;
  for (int i = 0; e->donated && i < e->n_in; i++)
    for (int k = 0; e->donated[i] && k < e->n_in; k++) {
      if (k == i || in[k] != in[i]) continue;
      input_name(e, args, captured, i, &donated);
      const char *name = input_name(e, args, captured, k, &other);
      if (name) mx_error(L, "argument %d is donated, but the function captures it as '%s'", donated - j->hidden, name);
      mx_error(L, "argument %d is donated, but given twice (again in argument %d)", donated - j->hidden,
               other - j->hidden);
    }
}

/* Up to the end of `run` no Lua object is made: the entry stays what it is. */
static int run_entry(lua_State *L, mx_jit *j, mx_entry *e, int args, int captured, mx_array **in) {
  mx_array **out = in + e->n_in;
  lua_getiuservalue(L, 1, MX_JIT_ANCHORS);
  lua_rawgeti(L, -1, e->anchor);
  lua_rawgeti(L, -1, 3);
  int results = lua_gettop(L), n = collect(j->c, e, mx_flat_at(L, args), mx_flat_at(L, captured), in);
  if (n >= 0) check_donated(L, j, e, mx_flat_at(L, args), mx_flat_at(L, captured), in);
  mx_ok(L, n >= 0 && run(j, e, in, n, out));
  return push_all(L, results, out);
}

/* A trace that used values of an outer trace belongs to this one call. */
static int run_once(lua_State *L, mx_work *w, mx_entry *e, mx_array **in) {
  int n_in = e->n_in + w->captured.n;
  mx_array **all = mx_arena_alloc(w->c, &w->memory, (size_t)(n_in + e->program->n_out + 1) * sizeof *all);
  mx_ok(L, all != NULL);
  memcpy(all, in, (size_t)e->n_in * sizeof *all);
  if (w->captured.n) memcpy(all + e->n_in, w->captured.items, (size_t)w->captured.n * sizeof *all);
  mx_ok(L, mx_program_eval(w->c, e->program, all, all + n_in));
  return push_all(L, w->results, all + n_in);
}

/* Puts a finished entry first. stack: ..., record. [-1, +0] */
static void insert(lua_State *L, mx_jit *j, mx_entry *e) {
  e->anchor = j->next_anchor++;
  lua_getiuservalue(L, 1, MX_JIT_ANCHORS);
  lua_insert(L, -2);
  lua_rawseti(L, -2, e->anchor); /* may raise; runs no finalizer */
  lua_pop(L, 1);
  memmove(j->entries + 1, j->entries, (size_t)j->n * sizeof *j->entries);
  j->entries[0] = e;
  j->n++;
}

static void free_owned(mx_work *w) { mx_entry_free(w->owned); }

static int trace_and_run(lua_State *L, mx_jit *j, int f, int args, int captured, int seen, bool hidden) {
  mx_work *w = mx_work_over(L, f, args, hidden);
  mx_entry *e = entry_new(L, j, mx_flat_at(L, args), mx_flat_at(L, captured));
  w->owned = e; /* until the jit owns it */
  w->free_owned = free_owned;
  mx_jit_explain(L, j, e, args, captured, seen);
  mx_jit_watch_integers(L, j, args);
  mx_array **in = mx_arena_alloc(j->c, &e->memory, 2 * (size_t)(e->n_in + 1) * sizeof *in);
  mx_ok(L, in && collect(j->c, e, mx_flat_at(L, args), mx_flat_at(L, captured), in) >= 0);
  j->traces++;
  mx_ok(L, trace(w, e, mx_flat_at(L, args), mx_flat_at(L, captured), in, in + e->n_in + 1));
  if (w->captured.n) {
    int n = run_once(L, w, e, in);
    mx_work_done(w);
    return n;
  }
  push_record(L, args, captured, w->results, seen);
  if (j->widest < e->n_in + e->program->n_out) j->widest = e->n_in + e->program->n_out;
  mx_array *few[FEW], **at = room(L, j, few);
  if (at != few) lua_insert(L, -2);
  mx_ok(L, mx_grow(j->c, &j->entries, &j->cap, j->n + 1, sizeof *j->entries));
  insert(L, j, e);
  w->owned = NULL;
  evict(L, j);
  return run_entry(L, j, e, args, captured, at);
}

static void check_static_args(lua_State *L, const mx_jit *j, const mx_flat *args, bool hidden) {
  for (int k = 0; k < j->n_static; k++) {
    int r = j->statics[k] + hidden;
    if (r >= args->n_roots) continue;
    for (int i = args->roots[r].first; i < mx_root_end(args, r); i++)
      if (args->leaves[i].kind == MX_LEAF_ARRAY)
        mx_error(L, "static argument %d holds an array (need numbers, strings, booleans or functions)",
                 j->statics[k] + 1);
  }
}

/* The flat that lies in a user value, which is taken out: a call of the same function from within takes another. [-0,
 * +1] */
static int take_flat(lua_State *L, int which) {
  if (lua_getiuservalue(L, 1, which) == LUA_TUSERDATA) {
    lua_pushnil(L);
    lua_setiuservalue(L, 1, which);
  } else {
    lua_pop(L, 1);
    mx_flat_new(L);
  }
  return lua_gettop(L);
}

static void put_flat(lua_State *L, int which, int flat) {
  mx_flat_clear(L, flat);
  lua_pushvalue(L, flat);
  lua_setiuservalue(L, 1, which);
}

static int ljit_call(lua_State *L) {
  mx_enter(L, "jit");
  int n_args = lua_gettop(L) - 1;
  mx_jit *j = mx_to_jit(L, 1);
  luaL_checkstack(L, 24, "too many arguments");
  lua_getiuservalue(L, 1, MX_JIT_FUNCTION);
  int f = lua_gettop(L), args = take_flat(L, MX_JIT_ARGS), captured = take_flat(L, MX_JIT_CAPTURED), n;
  if (j->hidden) mx_flat_add(L, args, f);
  for (int i = 0; i < n_args; i++) mx_flat_add(L, args, 2 + i);
  mx_jit_capture(L, j, f, captured, 0);
  if (j->n_static) check_static_args(L, j, mx_flat_at(L, args), j->hidden);
  mx_array *few[FEW], **in = room(L, j, few);
  mx_entry *e = mx_jit_find(j, mx_flat_at(L, args), mx_flat_at(L, captured));
  if (e) {
    if (j->explained) {
      lua_pushnil(L);
      lua_setiuservalue(L, 1, MX_JIT_EXPLAIN);
      j->explained = false;
    }
    n = run_entry(L, j, e, args, captured, in);
  } else {
    lua_newtable(L);
    int seen = lua_gettop(L);
    mx_flat_clear(L, captured);
    mx_jit_capture(L, j, f, captured, seen);
    n = trace_and_run(L, j, f, args, captured, seen, j->hidden);
  }
  put_flat(L, MX_JIT_ARGS, args);
  put_flat(L, MX_JIT_CAPTURED, captured);
  return n;
}

/* -- the object ---------------------------------------------------------------------------------------------------- */

static int ljit_traces(lua_State *L) {
  mx_enter(L, "traces");
  lua_pushinteger(L, mx_to_jit(L, 1)->traces);
  return 1;
}

static int ljit_explain(lua_State *L) {
  mx_enter(L, "explain");
  mx_to_jit(L, 1);
  lua_getiuservalue(L, 1, MX_JIT_EXPLAIN);
  return 1;
}

static void clear(mx_jit *j) {
  while (j->n > 0) entry_drop(j->entries[--j->n]);
}

static int ljit_clear(lua_State *L) {
  mx_enter(L, "clear");
  clear(mx_to_jit(L, 1));
  lua_newtable(L);
  lua_setiuservalue(L, 1, MX_JIT_ANCHORS);
  return 0;
}

static int ljit_function(lua_State *L) { /* core.jit_function(j): what it compiles */
  mx_enter(L, "jit");
  mx_to_jit(L, 1);
  lua_getiuservalue(L, 1, MX_JIT_FUNCTION);
  return 1;
}

static int ljit_gc(lua_State *L) {
  mx_jit *j = lua_touserdata(L, 1);
  if (!j->engine) return 0;
  clear(j);
  mlax_engine *e = j->engine;
  mx_free(e, j->entries, (size_t)j->cap * sizeof *j->entries);
  mx_free(e, j->statics, (size_t)j->n_static * sizeof *j->statics);
  mx_free(e, j->donated, (size_t)j->n_donated * sizeof *j->donated);
  mx_free(e, j->names, (size_t)j->names_cap * sizeof *j->names);
  mx_free(e, j->captures, (size_t)j->captures_cap * sizeof *j->captures);
  memset(j, 0, sizeof *j);
  mlax_engine_release(e);
  return 0;
}

static int ljit_tostring(lua_State *L) {
  mx_jit *j = lua_touserdata(L, 1);
  lua_pushfstring(L, "mlax.jit: %d traces (%p)", (int)j->traces, (void *)j);
  return 1;
}

static const luaL_Reg methods[] = {
    {"traces", ljit_traces}, {"explain", ljit_explain}, {"clear", ljit_clear}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__call", ljit_call}, {"__gc", ljit_gc}, {"__tostring", ljit_tostring}, {NULL, NULL}};

static const char jit_key = 0;

/* The list of argument numbers at idx, from 0 now; the jit owns it. */
static int *read_positions(lua_State *L, mx_ctx *c, int idx, int *n) {
  int count = (int)lua_rawlen(L, idx);
  int *positions = mx_new(c, (size_t)count * sizeof *positions);
  mx_ok(L, positions != NULL);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, idx, i + 1);
    positions[i] = (int)lua_tointeger(L, -1) - 1;
    lua_pop(L, 1);
  }
  *n = count;
  return positions;
}

/* core.jit(f, static_argnums, donate_argnums (lists of integers from 1), max_traces) */
static int ljit(lua_State *L) {
  mx_ctx *c = mx_enter(L, "jit");
  mx_jit *j = lua_newuserdatauv(L, sizeof *j, MX_JIT_COUNT);
  memset(j, 0, sizeof *j);
  int self = lua_gettop(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &jit_key);
  mx_own(L);
  j->c = c;
  j->engine = mx_engine_retain(c->engine);
  j->max = (int)mx_check_int(L, 4, "max_traces");
  if (j->max < 1) mx_error(L, "max_traces must be at least 1 (got %d)", j->max);
  j->hidden = mx_is_module(L, 1);
  j->integer_leaf = -1;
  j->next_anchor = 1;
  j->statics = read_positions(L, c, 2, &j->n_static);
  j->donated = read_positions(L, c, 3, &j->n_donated);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, self, MX_JIT_FUNCTION);
  lua_newtable(L);
  lua_setiuservalue(L, self, MX_JIT_ANCHORS);
  return 1;
}

static int lis_jit(lua_State *L) { /* core.is_jit(v) */
  lua_settop(L, 1);
  lua_pushboolean(L, mx_is_jit(L, 1));
  return 1;
}

static const mx_reg functions[] = {{"jit", ljit, MX_IN_CORE},
                                   {"jit_function", ljit_function, MX_IN_CORE},
                                   {"is_jit", lis_jit, MX_IN_CORE},
                                   {NULL, NULL, 0}};

/* The methods table is core.jit_methods: the Lua half adds program and cost. */
void mx_open_jit(lua_State *L) {
  mx_register(L, functions);
  lua_createtable(L, 0, 6);
  lua_pushlightuserdata(L, mx_state_of(L));
  luaL_setfuncs(L, meta, 1);
  mx_state_of(L)->jit_meta = lua_topointer(L, -1);
  lua_createtable(L, 0, 8);
  lua_pushlightuserdata(L, mx_state_of(L));
  luaL_setfuncs(L, methods, 1);
  lua_pushvalue(L, -1);
  lua_setfield(L, -4, "jit_methods");
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "mlax.jit");
  lua_setfield(L, -2, "__name");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &jit_key);
}

void mx_open_transform(lua_State *L) {
  mx_open_grad(L);
  mx_open_vmap(L);
  mx_open_stage(L);
  mx_open_control(L);
}
