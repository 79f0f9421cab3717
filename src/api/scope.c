/* scope.c: mlax.scope(): at its end the arrays that were made while it was open are freed, but for those that were
 * kept.
 *
 *     local s <close> = mlax.scope()          user values of s: the boxes made (weak), the scope around it, the boxes
 * kept
 *
 * What counts is the box that an operation pushed; an array that existed before, and is pushed once more, is not in the
 * frame of the operation and not noted.
 */
#include "array_impl.h"

static const char *const scope_name = "mlax.scope";
static const char current_key = 0; /* registry: the innermost open scope */

enum { UV_MADE = 1, UV_OUTER, UV_COUNT = UV_OUTER };

typedef struct scope {
  lua_Integer n; /* boxes noted */
  bool open;
} scope;

static bool made_now(const mx_state *s, const mx_array *x) {
  for (int i = s->ctx.frame_n - 1; i >= s->entry; i--)
    if (s->ctx.frame[i] == x) return true;
  return false;
}

/* Adds the box on top to the scope below it. stack: ..., scope, box; [-2, +0] */
static void add_box(lua_State *L) {
  scope *s = lua_touserdata(L, -2);
  lua_getiuservalue(L, -2, UV_MADE);
  lua_insert(L, -2);
  lua_rawseti(L, -2, ++s->n);
  lua_pop(L, 2);
}

void mx_scope_note(lua_State *L, mx_array *x) {
  if (!made_now(MX_STATE(L), x)) return;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &current_key);
  lua_pushvalue(L, -2);
  add_box(L);
}

static int lscope_new(lua_State *L) {
  mx_enter(L, "scope");
  mx_no_options(L, mx_args(L, 0, 0));
  scope *s = lua_newuserdatauv(L, sizeof *s, UV_COUNT);
  *s = (scope){0, true};
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_setiuservalue(L, -2, UV_MADE);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &current_key);
  lua_setiuservalue(L, -2, UV_OUTER);
  luaL_setmetatable(L, scope_name);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &current_key);
  MX_STATE(L)->scopes++;
  return 1;
}

static scope *check_scope(lua_State *L) {
  scope *s = luaL_testudata(L, 1, scope_name);
  if (!s) mx_error(L, "no scope (got %s)", mx_show(L, 1));
  return s;
}

static bool holds(const mx_flat *f, const mx_array *x) {
  for (int i = 0; i < f->n; i++)
    if (f->leaves[i].kind == MX_LEAF_ARRAY && f->leaves[i].array == x) return true;
  return false;
}

/* Takes the boxes that hold arrays of the flat out of the scope; the scope around it, if one is open, notes them.
 * stack: scope, tree, flat */
static void keep_boxes(lua_State *L, scope *s) {
  const mx_flat *f = mx_flat_at(L, 3);
  lua_getiuservalue(L, 1, UV_MADE);
  lua_getiuservalue(L, 1, UV_OUTER);
  for (lua_Integer i = 1; i <= s->n; i++) {
    if (lua_rawgeti(L, 4, i) == LUA_TNIL || !holds(f, mx_to_array(L, -1))) {
      lua_pop(L, 1);
      continue;
    }
    lua_pushnil(L);
    lua_rawseti(L, 4, i);
    if (lua_isnil(L, 5)) {
      lua_pop(L, 1);
      continue;
    }
    lua_pushvalue(L, 5);
    lua_insert(L, -2);
    add_box(L);
  }
}

static int lscope_keep(lua_State *L) { /* s:keep(tree) -> tree */
  mx_enter(L, "scope:keep");
  scope *s = check_scope(L);
  mx_no_options(L, mx_args(L, 2, 0));
  lua_settop(L, 2);
  if (!s->open) return mx_error(L, "the scope is closed");
  mx_flat_new(L);
  mx_flat_add(L, 3, 2);
  keep_boxes(L, s);
  lua_settop(L, 2);
  return 1;
}

/* The array of the box on top is gone: any use names this line. */
static void free_box(lua_State *L, mx_ctx *c, uint32_t site) {
  mx_array **box = lua_touserdata(L, -1), *x = *box;
  if (mx_is_gone(x)) return;
  mx_array *gone = mx_array_tracer(c, MX_FREED, &x->aval);
  if (!gone) {
    mx_clear(c); /* without memory for the mark it lives until it is collected */
    return;
  }
  gone->site = site;
  *box = gone;
  mx_release(x);
}

/* The innermost open scope takes the place of one that has ended. [-0, +0] */
static void pop_closed(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &current_key);
  for (scope *s = lua_touserdata(L, -1); s && !s->open; s = lua_touserdata(L, -1)) {
    lua_getiuservalue(L, -1, UV_OUTER);
    lua_remove(L, -2);
  }
  lua_rawsetp(L, LUA_REGISTRYINDEX, &current_key);
}

static int lscope_close(lua_State *L) {
  mx_ctx *c = mx_enter(L, "scope");
  scope *s = check_scope(L);
  if (!s->open) return 0;
  s->open = false;
  MX_STATE(L)->scopes--;
  pop_closed(L);
  uint32_t site = c->where(c->ud);
  lua_getiuservalue(L, 1, UV_MADE);
  for (lua_Integer i = 1; i <= s->n; i++) {
    lua_rawgeti(L, -1, i);
    if (mx_to_array(L, -1)) free_box(L, c, site);
    lua_pop(L, 1);
  }
  lua_newtable(L);
  lua_setiuservalue(L, 1, UV_MADE);
  return 0;
}

static const luaL_Reg scope_methods[] = {
    {"keep", lscope_keep}, {"close", lscope_close}, {"__close", lscope_close}, {NULL, NULL}};
static const mx_reg scope_functions[] = {{"scope", lscope_new, MX_IN_MLAX}, {NULL, NULL, 0}};

void mx_open_scope(lua_State *L) {
  mx_register(L, scope_functions);
  luaL_newmetatable(L, scope_name);
  lua_getfield(L, -2, "own_chunks");
  lua_getupvalue(L, -1, 1); /* stack: core, metatable, function, state */
  lua_remove(L, -2);
  luaL_setfuncs(L, scope_methods, 1);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
