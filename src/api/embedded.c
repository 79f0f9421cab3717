/* embedded.c: luaopen_mlax, and the searcher that finds mlax's Lua modules among the embedded files. */
#include "embedded.h"
#include "api.h"

#include <stdio.h>

int luaopen_mlax_core(lua_State *L);

const mx_embedded *mx_embedded_find(const char *name) {
  if (!mx_embedded_files) return NULL;
  for (const mx_embedded *f = mx_embedded_files; f->name; f++)
    if (strcmp(f->name, name) == 0) return f;
  return NULL;
}

/* "mlax.nn" -> mlax/nn.lua or mlax/nn/init.lua, as package.path would find it. */
static const mx_embedded *module_find(lua_State *L, const char *module) {
  const char *path = luaL_gsub(L, module, ".", "/");
  const mx_embedded *f = mx_embedded_find(lua_pushfstring(L, "%s.lua", path));
  if (!f) f = mx_embedded_find(lua_pushfstring(L, "%s/init.lua", path));
  lua_pop(L, f ? 2 : 3);
  return f;
}

/* Pushes the chunk, named "@mlax:nn/linear.lua": our own frames are known by that prefix. [-0, +1] */
static void chunk_load(lua_State *L, const mx_embedded *f) {
  const char *inside = strchr(f->name, '/');
  const char *chunk = lua_pushfstring(L, "@mlax:%s", inside ? inside + 1 : f->name);
  if (luaL_loadbufferx(L, (const char *)f->data, f->size, chunk, "t") != LUA_OK) lua_error(L);
  lua_remove(L, -2);
}

/* A member of package.searchers: loader and its argument, or a message. */
static int lembedded_search(lua_State *L) {
  const char *module = luaL_checkstring(L, 1);
  const mx_embedded *f = module_find(L, module);
  if (!f) {
    lua_pushfstring(L, "no embedded file for '%s'", module);
    return 1;
  }
  chunk_load(L, f);
  lua_pushfstring(L, "mlax:%s", f->name);
  return 2;
}

/* Behind package.preload's searcher, so that the files inside win over the path's. [-0, +0] */
static void searcher_insert(lua_State *L) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  if (lua_getfield(L, -1, "package") != LUA_TTABLE || lua_getfield(L, -1, "searchers") != LUA_TTABLE)
    luaL_error(L, "mlax needs Lua's package library: call luaL_openlibs first");
  for (lua_Integer i = luaL_len(L, -1); i >= 2; i--) { /* stack: loaded, package, searchers */
    lua_rawgeti(L, -1, i);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushcfunction(L, lembedded_search);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 3);
}

void mx_embedded_install(lua_State *L) {
  static const char installed = 0;
  bool done = lua_rawgetp(L, LUA_REGISTRYINDEX, &installed) != LUA_TNIL;
  lua_pop(L, 1);
  if (done) return;
  if (mx_embedded_files) searcher_insert(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_mlax_core);
  lua_setfield(L, -2, "mlax.core");
  lua_pop(L, 1);
  lua_pushboolean(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &installed);
}

/* Pushes the chunk of `mlax` that package.path finds. [-0, +1] */
static void path_load(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "searchpath");
  lua_pushliteral(L, "mlax");
  lua_getfield(L, -3, "path");
  lua_call(L, 2, 2); /* stack: package, file or nil, message */
  const char *file = lua_tostring(L, -2);
  if (!file) luaL_error(L, "the Lua files of mlax are not on package.path:%s", lua_tostring(L, -1));
  if (luaL_loadfile(L, file) != LUA_OK) lua_error(L);
  lua_replace(L, -4);
  lua_pop(L, 2);
}

/* The chunk is loaded here and not by `require`, which may be the one that calls us (package.preload.mlax). */
int luaopen_mlax(lua_State *L) {
  luaL_checkversion(L);
  mx_embedded_install(L);
  const mx_embedded *f = module_find(L, "mlax");
  if (f) chunk_load(L, f);
  else path_load(L);
  lua_pushliteral(L, "mlax");
  lua_call(L, 1, 1);
  mx_state_of(L)->hosted = true;
  return 1;
}
