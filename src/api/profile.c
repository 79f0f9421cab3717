/* profile.c: a recording of what steps take, as a userdata that lua/mlax/profile.lua holds to be closed. */
#include "api.h"
#include "../device/device.h"

static const char *const recording_name = "mlax.recording";

typedef struct recording {
  mx_profile *profile; /* NULL: closed */
} recording;

static recording *check_recording(lua_State *L) {
  recording *r = luaL_testudata(L, 1, recording_name);
  if (!r || !r->profile) mx_error(L, "no recording (got %s)", mx_show(L, 1));
  return r;
}

/* core.record() -> a recording that runs */
static int lrecording_new(lua_State *L) {
  mx_ctx *c = mx_enter(L, "profile");
  mx_no_options(L, mx_args(L, 0, 0));
  if (c->profile) return mx_error(L, "another profile is being made (need one at a time)");
  recording *r = lua_newuserdatauv(L, sizeof *r, 0);
  r->profile = NULL;
  luaL_getmetatable(L, recording_name);
  mx_own(L);
  if (!(r->profile = mx_profile_new(c))) return mx_raise(L);
  mx_profile_start(c, r->profile);
  return 1;
}

static int lrecording_stop(lua_State *L) {
  mx_ctx *c = mx_enter(L, "profile");
  mx_profile_stop(c, check_recording(L)->profile);
  return 0;
}

/* recording:write(path) -> true | nil, message */
static int lrecording_write(lua_State *L) {
  mx_ctx *c = mx_enter(L, "profile");
  size_t size;
  mx_no_options(L, mx_args(L, 2, 0));
  recording *r = check_recording(L);
  const char *path = luaL_checklstring(L, 2, &size);
  if (strlen(path) != size) return mx_error(L, "the path holds a zero byte");
  if (!mx_profile_write(c, r->profile, path)) return mx_fail_pair(L);
  lua_pushboolean(L, true);
  return 1;
}

static void set_number(lua_State *L, const char *name, double v) {
  lua_pushnumber(L, v);
  lua_setfield(L, -2, name);
}

static void push_step(lua_State *L, const mx_ctx *c, const mx_profile_step *s) { /* [-0, +1] */
  mx_text text;
  lua_createtable(L, 0, 7);
  lua_pushstring(L, s->name);
  lua_setfield(L, -2, "name");
  lua_pushstring(L, mx_site_text(c, s->site));
  lua_setfield(L, -2, "line");
  lua_pushstring(L, s->result ? mx_aval_text(&text, s->result) : "");
  lua_setfield(L, -2, "result");
  lua_pushinteger(L, s->calls);
  lua_setfield(L, -2, "calls");
  set_number(L, "seconds", s->seconds);
  set_number(L, "flops", s->flops);
  set_number(L, "bytes", s->bytes);
}

/* recording:heaviest(n) -> list of at most n steps {name, line, result, calls, seconds, flops, bytes}, heaviest first
 */
static int lrecording_heaviest(lua_State *L) {
  mx_ctx *c = mx_enter(L, "profile");
  mx_no_options(L, mx_args(L, 2, 0));
  const mx_profile *p = check_recording(L)->profile;
  int64_t n = mx_check_int(L, 2, "the number of steps");
  lua_newtable(L);
  for (int64_t i = 1, step = mx_profile_next(p, -1); i <= n && step >= 0; i++) {
    mx_profile_step s = mx_profile_at(p, (int)step);
    push_step(L, c, &s);
    lua_rawseti(L, -2, i);
    step = mx_profile_next(p, (int)step);
  }
  return 1;
}

/* recording:total() -> seconds, seconds in steps, steps that ran, those that are not in the trace */
static int lrecording_total(lua_State *L) {
  mx_enter(L, "profile");
  mx_profile_total t = mx_profile_sum(check_recording(L)->profile);
  lua_pushnumber(L, t.seconds);
  lua_pushnumber(L, t.inside);
  lua_pushinteger(L, t.steps);
  lua_pushinteger(L, t.left);
  return 4;
}

static int lrecording_close(lua_State *L) { /* __close and __gc: works in any order */
  recording *r = lua_touserdata(L, 1);
  if (!r->profile) return 0;
  mx_profile_stop(&MX_STATE(L)->ctx, r->profile);
  mx_profile_free(r->profile);
  r->profile = NULL;
  return 0;
}

static const luaL_Reg recording_methods[] = {{"stop", lrecording_stop},
                                             {"write", lrecording_write},
                                             {"heaviest", lrecording_heaviest},
                                             {"total", lrecording_total},
                                             {"__close", lrecording_close},
                                             {"__gc", lrecording_close},
                                             {NULL, NULL}};
static const mx_reg profile_functions[] = {{"record", lrecording_new, MX_IN_CORE}, {NULL, NULL, 0}};

void mx_open_profile(lua_State *L) {
  mx_register(L, profile_functions);
  luaL_newmetatable(L, recording_name);
  lua_pushlightuserdata(L, mx_state_of(L));
  luaL_setfuncs(L, recording_methods, 1);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
