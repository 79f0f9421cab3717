/* mlax_lua.h: for hosts that have Lua 5.4. These functions raise Lua errors, so call them from protected code. */
#ifndef MLAX_LUA_H
#define MLAX_LUA_H

#include "mlax.h"

#include <lua.h>

#ifdef __cplusplus
extern "C" {
#endif

/* For luaL_requiref and package.preload: the engine with all its Lua sources. [-0, +1] */
MLAX_API int luaopen_mlax(lua_State *);
/* Before the first require: this state uses this engine (by default it gets one of its own). [-0, +0] */
MLAX_API void mlax_attach(lua_State *, mlax_engine *);
/* Borrowed while it is on the stack; NULL where there is no array, a traced or a freed one. [-0, +0] */
MLAX_API mlax_array *mlax_toarray(lua_State *, int index);
/* Retains; the array may come from another state. [-0, +1] */
MLAX_API void mlax_pusharray(lua_State *, mlax_array *);
/* lua_pcall with the engine's poll, the message in `error` and the traceback behind it. */
MLAX_API mlax_status mlax_pcall(lua_State *, int nargs, int nresults, mlax_error *);

#ifdef __cplusplus
}
#endif
#endif
