/* debug.c: mlax.debug: the search for NaN, the compiler's switches, and printing from inside a computation.
 *
 *     debug.print (Lua) -> core.debug_print(format, arrays...) -> the primitive debug_print -> its kernel, at its time
 *       -> print_values -> the Lua function that core.on_debug_print got: f(format, arrays...)
 */
#include "api.h"

#include "../compile/compile.h"
#include "../device/device.h"

static const char body_key = 0; /* registry: lprint_body, a closure made early: in a kernel nothing may raise */

typedef struct printing {
  const mx_string *format;
  mx_array **x;
  int n;
} printing;

/* Runs protected. Upvalues: state, f. Stack: printing (light). */
static int lprint_body(lua_State *L) {
  const printing *p = lua_touserdata(L, 1);
  luaL_checkstack(L, p->n + 8, "too many values to print");
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_pushlstring(L, p->format->text, p->format->length);
  for (int i = 0; i < p->n; i++) mx_push(L, p->x[i]);
  lua_call(L, p->n + 1, 0);
  return 0;
}

static mx_array *copy_of(mx_ctx *c, const mx_tensor *t) {
  mx_array *x = mx_keep(c, mx_array_new(c, t->aval));
  if (x) mx_cpu_copy(c, t, mx_data(x));
  return x;
}

static bool call_print(lua_State *L, mx_ctx *c, printing *p) {
  if (!lua_checkstack(L, 12)) return mx_fail_memory(c, 12 * sizeof(void *));
  lua_rawgetp(L, LUA_REGISTRYINDEX, &body_key);
  lua_pushlightuserdata(L, p);
  return mx_call(L, 1, 0);
}

static bool print_values(void *ud, const mx_kernel_args *k) { /* mx_ctx.print */
  mx_state *s = ud;
  mx_ctx *c = &s->ctx;
  int mark = mx_frame_mark(c), n = k->n_in - (k->p->print.guarded != 0);
  mx_arena memory = {.engine = c->engine};
  printing p = {.format = k->p->print.format, .x = mx_arena_alloc(c, &memory, (size_t)(n + 1) * sizeof *p.x), .n = n};
  bool ok = p.x != NULL;
  for (int i = 0; ok && i < n; i++) ok = (p.x[i] = copy_of(c, &k->in[i])) != NULL;
  ok = ok && call_print(s->L, c, &p);
  mx_arena_release(&memory);
  mx_frame_release(c, mark);
  return ok;
}

/* core.on_debug_print(f): f(format, arrays...) is called when a debug_print is computed */
static int lon_debug_print(lua_State *L) {
  mx_ctx *c = mx_enter(L, "debug.print");
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_pushcclosure(L, lprint_body, 2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &body_key);
  c->print = print_values;
  return 0;
}

typedef struct print_operands {
  mx_string *format;
  mx_array *x[];
} print_operands;

static int print_operands_gc(lua_State *L) {
  print_operands *p = lua_touserdata(L, 1);
  mx_string_release(p->format);
  p->format = NULL;
  return 0;
}

/* core.debug_print(format, arrays...) */
static int ldebug_print(lua_State *L) {
  mx_ctx *c = mx_enter(L, "debug.print");
  size_t length;
  const char *format = luaL_checklstring(L, 1, &length);
  int n = lua_gettop(L) - 1;
  print_operands *p = lua_newuserdatauv(L, sizeof *p + (size_t)n * sizeof *p->x, 0);
  p->format = NULL;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, print_operands_gc);
  lua_setfield(L, -2, "__gc");
  mx_own(L);
  for (int i = 0; i < n; i++) p->x[i] = mx_check_strict(L, i + 2, "what is printed");
  mx_ok(L, (p->format = mx_string_new(c, format, length)) && mx_debug_print(c, p->format, p->x, n));
  return 0;
}

static int lnans(lua_State *L) { /* core.debug_nans([on]) -> on */
  mx_ctx *c = mx_enter(L, "debug.nans");
  mx_no_options(L, mx_args(L, 0, 1));
  if (!lua_isnil(L, 1)) c->nans = mx_check_bool(L, 1, "the argument");
  lua_pushboolean(L, c->nans);
  return 1;
}

static int pass_of(lua_State *L, int idx) {
  if (lua_type(L, idx) != LUA_TSTRING) mx_error(L, "the pass is no name (got %s)", mx_show(L, idx));
  const char *name = lua_tostring(L, idx);
  for (int i = 0; i < MX_PASS_COUNT; i++)
    if (!strcmp(name, mx_pass_names[i])) return i;
  return mx_unknown(L, "pass", name, mx_pass_names, MX_PASS_COUNT);
}

static int lpasses(lua_State *L) { /* core.debug_passes(name [, on]) -> on; core.debug_passes() -> {name = on} */
  mx_ctx *c = mx_enter(L, "debug.passes");
  mx_no_options(L, mx_args(L, 0, 2));
  if (lua_isnil(L, 1)) {
    lua_createtable(L, 0, MX_PASS_COUNT);
    for (int i = 0; i < MX_PASS_COUNT; i++) {
      lua_pushboolean(L, (c->passes_off >> i & 1) == 0);
      lua_setfield(L, -2, mx_pass_names[i]);
    }
    return 1;
  }
  unsigned bit = 1u << pass_of(L, 1);
  if (!lua_isnil(L, 2)) c->passes_off = mx_check_bool(L, 2, "the switch") ? c->passes_off & ~bit : c->passes_off | bit;
  lua_pushboolean(L, (c->passes_off & bit) == 0);
  return 1;
}

static const mx_reg functions[] = {{"on_debug_print", lon_debug_print, MX_IN_CORE},
                                   {"debug_print", ldebug_print, MX_IN_CORE},
                                   {"debug_nans", lnans, MX_IN_CORE},
                                   {"debug_passes", lpasses, MX_IN_CORE},
                                   {NULL, NULL, 0}};

void mx_open_debug(lua_State *L) { mx_register(L, functions); }
