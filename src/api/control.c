/* control.c: control flow and custom rules over lists of arrays; the Lua half (lua/mlax/control.lua) makes lists of
 * trees and checks.
 *
 *     core.staged(f, inputs, n_whole) -> program, captured     f: a list of arrays -> a list of arrays; inputs behind
 * the first n_whole are given to f without their first axis core.bind_scan(program, captured, carry, xs, length,
 * reverse), core.bind_loop, core.bind_branch, core.bind_call -> a list
 *
 * What f reaches of outer traces comes back as `captured`; it is handed to the primitive as constants before the other
 * operands.
 */
#include "call.h"

/* The public operation, as a string that outlives the call. */
static const char *op_name(const char *name) {
  static const char *const names[] = {"scan", "while_loop", "cond", "switch", "checkpoint", "custom_jvp", "custom_vjp"};
  for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
    if (!strcmp(names[i], name)) return names[i];
  return "control flow";
}

typedef struct staging {
  mx_work w;
  int f, body; /* stack: the function; lstaged_body, made before the trace, in which nothing may raise */
} staging;

static int lstaged_body(lua_State *L) { /* stack: f, staging -> list of results */
  staging *s = lua_touserdata(L, 2);
  lua_pushvalue(L, 1);
  lua_createtable(L, s->w.n, 0);
  for (int i = 0; i < s->w.n; i++) {
    mx_push(L, s->w.tracers[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_call(L, 1, 1);
  if (!lua_istable(L, -1)) return luaL_error(L, "staged: a list of arrays is needed");
  return 1;
}

static bool staged_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  staging *s = state;
  lua_State *L = s->w.L;
  s->w.tracers = in;
  s->w.n = n;
  if (!lua_checkstack(L, 12)) return mx_fail_memory(c, 12 * sizeof(void *)), false;
  lua_pushvalue(L, s->body);
  lua_pushvalue(L, s->f);
  lua_pushlightuserdata(L, s);
  if (!mx_call(L, 2, 1)) return false;
  bool ok = true;
  for (int i = 1; ok && i <= (int)lua_rawlen(L, -1); i++) {
    lua_rawgeti(L, -1, i);
    mx_array *x = mx_to_array(L, -1);
    ok = x ? mx_list_add(c, out, x) : (mx_fail(c, MLAX_ARGUMENT, "result %d is no array", i), false);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return ok;
}

static void push_list(lua_State *L, mx_array *const *x, int n) {
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    mx_push(L, x[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

static mx_array *list_item(lua_State *L, int list, int i) { /* from 1; borrowed from the list */
  lua_rawgeti(L, list, i);
  mx_array *x = mx_to_array(L, -1);
  lua_pop(L, 1);
  if (!x) mx_error(L, "operand %d is no array", i);
  return x;
}

static int lstaged(lua_State *L) {
  mx_ctx *c = mx_enter(L, op_name(lua_tostring(L, 4)));
  lua_settop(L, 4);
  int n = (int)lua_rawlen(L, 2), n_whole = (int)luaL_checkinteger(L, 3);
  mx_flat_new(L);
  mx_work *w = mx_work_over(L, 1, lua_gettop(L), false);
  const mx_aval **avals = mx_arena_alloc(c, &w->memory, (size_t)(n + 1) * sizeof *avals);
  mx_aval *slices = mx_arena_alloc(c, &w->memory, (size_t)(n + 1) * sizeof *slices);
  mx_ok(L, avals && slices);
  for (int i = 0; i < n; i++) {
    slices[i] = list_item(L, 2, i + 1)->aval;
    slices[i].weak = false;
    if (i >= n_whole) slices[i] = mx_aval_slice(&slices[i]);
    avals[i] = &slices[i];
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushcclosure(L, lstaged_body, 1);
  staging s = {.w.L = L, .f = 1, .body = lua_gettop(L)};
  mx_ok(L, mx_stage(c, (mx_function){staged_call, &s}, avals, NULL, n, &w->program, &w->captured));
  mx_push_program(L, w->program);
  push_list(L, w->captured.items, w->captured.n);
  mx_work_done(w);
  return 2;
}

/* -- binding ------------------------------------------------------------------------------------------------------- */

/* Operands of a primitive: lists on the stack, one after another, in one array of the work. */
typedef struct operands {
  mx_array **x;
  int n;
} operands;

static void add_lists(lua_State *L, mx_work *w, operands *o, const int *lists, int n_lists) {
  int n = o->n;
  for (int k = 0; k < n_lists; k++) n += (int)lua_rawlen(L, lists[k]);
  mx_array **x = mx_arena_alloc(w->c, &w->memory, (size_t)(n + 1) * sizeof *x);
  mx_ok(L, x != NULL);
  if (o->n) memcpy(x, o->x, (size_t)o->n * sizeof *x);
  o->x = x;
  for (int k = 0; k < n_lists; k++)
    for (int i = 1; i <= (int)lua_rawlen(L, lists[k]); i++) {
      mx_array *v =
          mx_convert(w->c, list_item(L, lists[k], i), list_item(L, lists[k], i)->aval.dtype); /* no weak types inside */
      if (!v) mx_raise(L);
      o->x[o->n++] = v;
    }
}

/* Takes the programs of p. */
static int bind_list(lua_State *L, mx_work *w, const mx_primitive *prim, const mx_params *p, const operands *o,
                     int n_out) {
  mx_array **out = mx_arena_alloc(w->c, &w->memory, (size_t)(n_out + 1) * sizeof *out);
  if (!out) mx_programs_release(p->branch.of); /* the first field of all of these */
  mx_ok(L, out && mx_bind_programs(w->c, prim, p, o->x, o->n, out, n_out));
  push_list(L, out, n_out);
  mx_work_done(w);
  return 1;
}

/* The program with its captured inputs first: staging put them last. */
static mx_program *captured_first(lua_State *L, mx_work *w, const mx_program *p, int n_captured) {
  const mx_aval **avals = mx_arena_alloc(w->c, &w->memory, (size_t)(p->n_in + 1) * sizeof *avals);
  int *source = mx_arena_alloc(w->c, &w->memory, (size_t)(p->n_in + 1) * sizeof *source), n = p->n_in - n_captured;
  mx_ok(L, avals && source);
  for (int i = 0; i < p->n_in; i++) {
    source[i] = i < n ? n_captured + i : i - n;
    avals[source[i]] = p->avals[i];
  }
  return mx_program_rewire(w->c, p, p->n_in, avals, source, p->n_out, NULL);
}

static int lbind_scan(lua_State *L) { /* program, captured, carry, xs, length, reverse */
  mx_enter(L, "scan");
  lua_settop(L, 6);
  int64_t length = mx_check_int(L, 5, "length");
  mx_flat_new(L);
  mx_work *w = mx_work_over(L, 1, 7, false);
  operands o = {0};
  add_lists(L, w, &o, (int[]){2, 3, 4}, 3);
  int n_captured = (int)lua_rawlen(L, 2);
  w->program = captured_first(L, w, *mx_check_program(L, 1), n_captured);
  mx_ok(L, w->program != NULL);
  mx_params p;
  memset(&p, 0, sizeof p);
  p.scan.body = mx_programs_new(w->c, 1, &w->program);
  p.scan.n_const = n_captured;
  p.scan.n_carry = (int64_t)lua_rawlen(L, 3);
  p.scan.length = length;
  p.scan.reverse = lua_toboolean(L, 6);
  return bind_list(L, w, &mx_prim_scan, &p, &o, w->program->n_out);
}

static int lbind_loop(lua_State *L) { /* cond, cond's captured, body, body's captured, carry */
  mx_enter(L, "while_loop");
  lua_settop(L, 5);
  mx_flat_new(L);
  mx_work *w = mx_work_over(L, 1, 6, false);
  operands o = {0};
  add_lists(L, w, &o, (int[]){2, 4, 5}, 3);
  int n_cond = (int)lua_rawlen(L, 2), n_body = (int)lua_rawlen(L, 4);
  mx_program *both[2] = {captured_first(L, w, *mx_check_program(L, 1), n_cond), NULL};
  if (both[0]) both[1] = captured_first(L, w, *mx_check_program(L, 3), n_body);
  mx_params p;
  memset(&p, 0, sizeof p);
  p.loop.of = both[1] ? mx_programs_new(w->c, 2, both) : NULL;
  p.loop.n_const[0] = n_cond;
  p.loop.n_const[1] = n_body;
  int n_out = both[1] ? both[1]->n_out : 0;
  mx_program_release(both[0]);
  mx_program_release(both[1]);
  return bind_list(L, w, &mx_prim_loop, &p, &o, n_out);
}

/* A branch takes what all of them captured, then the operands. */
static mx_program *widen_branch(mx_work *w, const mx_program *p, int own, int first, int n_all, mx_array *const *x) {
  int n_operands = p->n_in - own, n = n_all + n_operands;
  const mx_aval **avals = mx_arena_alloc(w->c, &w->memory, (size_t)(n + 1) * sizeof *avals);
  int *source = mx_arena_alloc(w->c, &w->memory, (size_t)(p->n_in + 1) * sizeof *source);
  if (!avals || !source) return NULL;
  for (int i = 0; i < n; i++) avals[i] = &x[i]->aval;
  for (int i = 0; i < p->n_in; i++) source[i] = i < n_operands ? n_all + i : first + i - n_operands;
  return mx_program_rewire(w->c, p, n, avals, source, p->n_out, NULL);
}

/* index, list of {program, captured}, operands, name of the operation */
static int lbind_branch(lua_State *L) {
  mx_enter(L, op_name(lua_tostring(L, 4)));
  lua_settop(L, 3);
  mx_flat_new(L);
  mx_work *w = mx_work_over(L, 1, 4, false);
  int n = (int)lua_rawlen(L, 2), n_all = 0, first = 0;
  luaL_checkstack(L, 2 * n + 16, "too many branches");
  int base = lua_gettop(L);
  for (int i = 1; i <= n; i++) { /* stack: program, captured of each branch */
    lua_rawgeti(L, 2, i);
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    lua_remove(L, -3);
    n_all += (int)lua_rawlen(L, -1);
  }
  operands o = {0};
  o.x = mx_arena_alloc(w->c, &w->memory, 2 * sizeof *o.x);
  mx_ok(L, o.x != NULL);
  o.x[o.n++] = mx_check_strict(L, 1, "the index");
  for (int i = 0; i < n; i++) add_lists(L, w, &o, (int[]){base + 2 * i + 2}, 1);
  add_lists(L, w, &o, (int[]){3}, 1);
  mx_program **q = mx_arena_alloc(w->c, &w->memory, (size_t)(n + 1) * sizeof *q);
  bool ok = q != NULL;
  int n_out = 0;
  for (int i = 0; ok && i < n; i++) {
    const mx_program *p = *mx_check_program(L, base + 2 * i + 1);
    int own = (int)lua_rawlen(L, base + 2 * i + 2);
    n_out = p->n_out;
    ok = (q[i] = widen_branch(w, p, own, first, n_all, o.x + 1)) != NULL;
    first += own;
  }
  mx_params p;
  memset(&p, 0, sizeof p);
  p.branch.of = ok ? mx_programs_new(w->c, n, q) : NULL;
  for (int i = 0; q && i < n; i++) mx_program_release(q[i]);
  return bind_list(L, w, &mx_prim_branch, &p, &o, n_out);
}

/* kind, list of programs, captured (of the first; for checkpoint alone), operands, number of residuals */
static int lbind_call(lua_State *L) {
  const char *kind = luaL_checkstring(L, 1);
  const mx_primitive *prim = !strcmp(kind, "checkpoint")   ? &mx_prim_checkpoint
                             : !strcmp(kind, "custom_jvp") ? &mx_prim_custom_jvp
                                                           : &mx_prim_custom_vjp;
  mx_enter(L, prim->name);
  lua_settop(L, 5);
  int64_t n_res = luaL_optinteger(L, 5, 0);
  mx_flat_new(L);
  mx_work *w = mx_work_over(L, 1, 6, false);
  operands o = {0};
  add_lists(L, w, &o, (int[]){3, 4}, 2);
  int n = (int)lua_rawlen(L, 2), n_captured = (int)lua_rawlen(L, 3);
  mx_program *q[3] = {0};
  for (int i = 0; i < n && i < 3; i++) {
    lua_rawgeti(L, 2, i + 1);
    q[i] = *mx_check_program(L, -1);
  }
  if (n_captured) w->program = q[0] = captured_first(L, w, q[0], n_captured);
  mx_params p;
  memset(&p, 0, sizeof p);
  p.call.of = q[0] ? mx_programs_new(w->c, n, q) : NULL;
  p.call.n_res = n_res;
  return bind_list(L, w, prim, &p, &o, q[0] ? q[0]->n_out : 0);
}

/* -- collectives --------------------------------------------------------------------------------------------------- */

/* The innermost vmap of that name; its interned name lives as long as the trace. */
static const mx_trace *axis_trace(lua_State *L, mx_ctx *c, const char *name) {
  const mx_trace *t = c->trace;
  while (t && !(t->kind == MX_TRACE_BATCH && t->name && !strcmp(t->name, name))) t = t->parent;
  if (t) return t;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  int n = 0;
  for (t = c->trace; t; t = t->parent)
    if (t->kind == MX_TRACE_BATCH && t->name) {
      if (n++) luaL_addstring(&b, ", ");
      luaL_addstring(&b, t->name);
    }
  luaL_pushresult(&b);
  mx_error(L, "the axis '%s' is not bound (%s%s)", name, n ? "bound are: " : "no vmap with an axis_name is around",
           lua_tostring(L, -1));
  return NULL;
}

/* The position, from 0, that pair i at the top of the stack names; nobody sends or gets twice. */
static int64_t check_end(lua_State *L, int i, int k, int64_t size, bool *taken) {
  static const char *const does[] = {"sends", "gets"};
  if (lua_rawgeti(L, -1, k + 1) == LUA_TNIL) mx_error(L, "pair %d is no {from, to}", i + 1);
  int64_t at = mx_check_int(L, -1, "a pair's position") - 1;
  lua_pop(L, 1);
  if (at < 0 || at >= size)
    mx_error(L, "pair %d names no position (got %lld, need 1..%lld)", i + 1, (long long)at + 1, (long long)size);
  if (taken[2 * at + k]) mx_error(L, "position %lld %s twice (need each at most once)", (long long)at + 1, does[k]);
  taken[2 * at + k] = true;
  return at;
}

/* A list of {from, to}, from 1: a new reference. */
static mx_pairs *check_pairs(lua_State *L, mx_ctx *c, int list, int64_t size) {
  if (!lua_istable(L, list)) mx_error(L, "pairs must be a list of {from, to} (got %s)", luaL_typename(L, list));
  int n = (int)lua_rawlen(L, list);
  int64_t(*v)[2] = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *v, 0);
  bool *taken = memset(lua_newuserdatauv(L, 2 * (size_t)size + 1, 0), 0, 2 * (size_t)size + 1);
  for (int i = 0; i < n; i++) {
    if (lua_rawgeti(L, list, i + 1) != LUA_TTABLE)
      mx_error(L, "pair %d is no {from, to} (got %s)", i + 1, luaL_typename(L, -1));
    for (int k = 0; k < 2; k++) v[i][k] = check_end(L, i, k, size, taken);
    lua_pop(L, 1);
  }
  mx_pairs *p = mx_pairs_new(c, n);
  mx_ok(L, p != NULL);
  memcpy(p->v, v, (size_t)n * sizeof *v);
  return p;
}

/* core.collective(kind, x or nil, name, pairs or nil) */
static int lcollective(lua_State *L) {
  static const mx_primitive *const kinds[] = {&mx_prim_psum,       &mx_prim_pmax,     &mx_prim_pmin,
                                              &mx_prim_all_gather, &mx_prim_ppermute, &mx_prim_axis_index};
  const char *kind = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 3);
  const mx_primitive *prim = NULL;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (!strcmp(kinds[i]->name, kind)) prim = kinds[i];
  mx_ctx *c = mx_enter(L, prim ? prim->name : "collective");
  const mx_trace *t = axis_trace(L, c, name);
  mx_params p;
  memset(&p, 0, sizeof p);
  p.axis_name.name = mx_name_intern(c, name);
  p.axis_name.size = t->size;
  mx_ok(L, p.axis_name.name != NULL);
  mx_array *x = lua_isnil(L, 2) ? NULL : mx_check_strict(L, 2, "x");
  if (prim != &mx_prim_ppermute) return mx_push(L, mx_bind1(c, prim, &p, &x, x ? 1 : 0));
  p.axis_name.pairs = check_pairs(L, c, 4, t->size);
  x = mx_bind1(c, prim, &p, &x, 1);
  mx_pairs_release(p.axis_name.pairs);
  return mx_push(L, x);
}

static int laxis_size(lua_State *L) { /* core.axis_size(name) */
  mx_ctx *c = mx_enter(L, "axis_size");
  lua_pushinteger(L, axis_trace(L, c, luaL_checkstring(L, 1))->size);
  return 1;
}

/* core.rewired(program, sources, types) -> a program with as many inputs as there are types (arrays), of which input
 * sources[i] (from 1) feeds input i of the given one */
static int lrewired(lua_State *L) {
  mx_ctx *c = mx_enter(L, "rewired");
  lua_settop(L, 3);
  const mx_program *p = *mx_check_program(L, 1);
  mx_flat_new(L);
  mx_work *w = mx_work_over(L, 1, 4, false);
  int n = (int)lua_rawlen(L, 3);
  const mx_aval **avals = mx_arena_alloc(c, &w->memory, (size_t)(n + 1) * sizeof *avals);
  int *source = mx_arena_alloc(c, &w->memory, (size_t)(p->n_in + 1) * sizeof *source);
  mx_ok(L, avals && source && (int)lua_rawlen(L, 2) == p->n_in);
  for (int i = 0; i < n; i++) avals[i] = &list_item(L, 3, i + 1)->aval;
  for (int i = 0; i < p->n_in; i++) {
    lua_rawgeti(L, 2, i + 1);
    source[i] = (int)lua_tointeger(L, -1) - 1;
    lua_pop(L, 1);
  }
  w->program = mx_program_rewire(c, p, n, avals, source, p->n_out, NULL);
  mx_ok(L, w->program != NULL);
  mx_push_program(L, w->program);
  mx_work_done(w);
  return 1;
}

static int labstract(lua_State *L) { /* core.abstract(x): shape and dtype without values */
  mx_ctx *c = mx_enter(L, "abstract");
  mx_aval a = mx_check_strict(L, 1, "x")->aval;
  return mx_push(L, mx_keep(c, mx_array_tracer(c, MX_ABSTRACT, &a)));
}

/* core.check_position(op, i, n): an index array from 1 -> from 0, raising outside 1..n */
static int lcheck_position(lua_State *L) {
  mx_ctx *c = mx_enter(L, op_name(lua_tostring(L, 1)));
  return mx_push(L, mx_check_index(c, mx_check_strict(L, 2, "i"), mx_check_int(L, 3, "n"), -1, 1 + MX_INDEX_EXACT));
}

static const mx_reg functions[] = {{"abstract", labstract, MX_IN_CORE},
                                   {"check_position", lcheck_position, MX_IN_CORE},
                                   {"rewired", lrewired, MX_IN_CORE},
                                   {"staged", lstaged, MX_IN_CORE},
                                   {"bind_scan", lbind_scan, MX_IN_CORE},
                                   {"bind_loop", lbind_loop, MX_IN_CORE},
                                   {"bind_branch", lbind_branch, MX_IN_CORE},
                                   {"bind_call", lbind_call, MX_IN_CORE},
                                   {"collective", lcollective, MX_IN_CORE},
                                   {"axis_size", laxis_size, MX_IN_CORE},
                                   {NULL, NULL, 0}};

void mx_open_control(lua_State *L) { mx_register(L, functions); }
