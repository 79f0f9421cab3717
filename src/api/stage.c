/* stage.c: program and eval_shape: a function recorded, not run. */
#include "call.h"

static const char program_key = 0; /* registry: the metatable of program objects */

typedef struct program_box {
  mx_program *program;
  mx_plan *plan; /* what it became, of an optimized one; else NULL */
} program_box;

static program_box *check_box(lua_State *L, int idx) {
  program_box *box = lua_touserdata(L, idx);
  if (!box || !lua_getmetatable(L, idx)) mx_error(L, "a program is needed (got %s)", luaL_typename(L, idx));
  lua_rawgetp(L, LUA_REGISTRYINDEX, &program_key);
  if (!lua_rawequal(L, -1, -2)) mx_error(L, "a program is needed (got %s)", luaL_typename(L, idx));
  lua_pop(L, 2);
  return box;
}

mx_program **mx_check_program(lua_State *L, int idx) { return &check_box(L, idx)->program; }

static int lprogram_gc(lua_State *L) {
  program_box *box = lua_touserdata(L, 1);
  mx_program_release(box->program);
  mx_plan_release(box->plan);
  *box = (program_box){0};
  return 0;
}

static size_t print_box(mx_ctx *c, const program_box *box, char *to, size_t cap) {
  return box->plan ? mx_plan_print(c, box->plan, to, cap) : mx_program_print(c, box->program, to, cap);
}

static int lprogram_tostring(lua_State *L) {
  mx_ctx *c = mx_enter(L, "program");
  const program_box *box = check_box(L, 1);
  luaL_Buffer b;
  size_t n = print_box(c, box, NULL, 0);
  char *text = luaL_buffinitsize(L, &b, n + 1);
  print_box(c, box, text, n + 1);
  while (n && text[n - 1] == '\n') n--; /* print adds one */
  luaL_pushresultsize(&b, n);
  return 1;
}

static int lprogram_len(lua_State *L) {
  mx_enter(L, "program");
  lua_pushinteger(L, (*mx_check_program(L, 1))->n_eqn);
  return 1;
}

static program_box *push_box(lua_State *L) {
  program_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (program_box){0};
  lua_rawgetp(L, LUA_REGISTRYINDEX, &program_key);
  mx_own(L);
  return box;
}

void mx_push_program(lua_State *L, mx_program *p) { push_box(L)->program = mx_program_retain(p); }

/* Records the function at 1 with the arguments behind it; arrays and floats are inputs. */
static mx_work *stage(lua_State *L, const char *op) {
  mx_ctx *c = mx_enter(L, op);
  mx_work *w = mx_work_new(L, 1, 2, lua_gettop(L) - 1);
  const mx_flat *args = mx_flat_at(L, w->args);
  for (int i = 0; i < args->n; i++)
    if (args->leaves[i].kind <= MX_LEAF_FLOAT) mx_work_trace(L, w, i, false);
  const mx_aval **avals = mx_arena_alloc(c, &w->memory, (size_t)(w->n + 1) * sizeof *avals);
  mx_ok(L, avals != NULL);
  for (int k = 0; k < w->n; k++) avals[k] = &w->in.items[k]->aval;
  mx_ok(L, mx_stage(c, mx_work_function(w), avals, NULL, w->n, &w->program, &w->captured));
  return w;
}

static int lprogram(lua_State *L) { /* core.program(f, ...) */
  mx_work *w = stage(L, "program");
  mx_push_program(L, w->program);
  mx_work_done(w);
  return 1;
}

static int loptimized(lua_State *L) { /* core.optimized(f, ...): the program that is run */
  mx_work *w = stage(L, "program");
  program_box *box = push_box(L);
  mx_ok(L, (box->plan = mx_plan_new(w->c, w->program)) != NULL);
  box->program = mx_program_retain(mx_plan_program(box->plan));
  mx_work_done(w);
  return 1;
}

static int leval_shape(lua_State *L) { /* core.eval_shape(f, ...) -> results, arrays without values */
  mx_work *w = stage(L, "eval_shape");
  for (int k = 0; k < w->program->n_out; k++) {
    mx_aval a = *w->program->avals[w->program->outs[k]];
    mx_array *x = mx_keep(w->c, mx_array_tracer(w->c, MX_ABSTRACT, &a));
    mx_ok(L, x && mx_list_add(w->c, &w->out, x));
  }
  const mx_flat *results = mx_flat_at(L, w->results);
  luaL_checkstack(L, results->n_roots + 8, "too many results");
  int base = lua_gettop(L);
  for (int r = 0; r < results->n_roots; r++)
    mx_push_results(L, w->results, r, w->out.items + mx_arrays_before(results, r));
  mx_work_done(w);
  return lua_gettop(L) - base;
}

static int lcost(lua_State *L) { /* core.cost(f, ...) -> {flops, bytes, peak} */
  mx_work *w = stage(L, "cost");
  mx_plan *plan = mx_plan_new(w->c, w->program);
  mx_ok(L, plan != NULL);
  double peak = (double)mx_plan_arena(plan), bytes = mx_plan_bytes(plan),
         flops = mx_program_flops(mx_plan_program(plan));
  mx_plan_release(plan);
  for (int k = 0; k < w->program->n_out; k++) peak += (double)mx_nbytes(w->program->avals[w->program->outs[k]]);
  lua_createtable(L, 0, 3);
  lua_pushnumber(L, flops);
  lua_setfield(L, -2, "flops");
  lua_pushinteger(L, (lua_Integer)bytes);
  lua_setfield(L, -2, "bytes");
  lua_pushinteger(L, (lua_Integer)peak);
  lua_setfield(L, -2, "peak");
  mx_work_done(w);
  return 1;
}

static const luaL_Reg meta[] = {
    {"__gc", lprogram_gc}, {"__tostring", lprogram_tostring}, {"__len", lprogram_len}, {NULL, NULL}};
static const mx_reg functions[] = {{"program", lprogram, MX_IN_CORE},
                                   {"optimized", loptimized, MX_IN_CORE},
                                   {"eval_shape", leval_shape, MX_IN_CORE},
                                   {"cost", lcost, MX_IN_CORE},
                                   {NULL, NULL, 0}};

void mx_open_stage(lua_State *L) {
  mx_register(L, functions);
  lua_createtable(L, 0, 4);
  lua_pushlightuserdata(L, mx_state_of(L));
  luaL_setfuncs(L, meta, 1);
  lua_pushliteral(L, "mlax.program");
  lua_setfield(L, -2, "__name");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &program_key);
}
