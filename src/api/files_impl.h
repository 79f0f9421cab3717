/* files_impl.h: what io.c and files.c share: arguments and results of functions that read and write files. */
#ifndef MX_FILES_IMPL_H
#define MX_FILES_IMPL_H

#include "../io/io.h"
#include "api.h"

const char *mx_check_bytes(lua_State *L, int idx, const char *what, size_t *size); /* a string, nothing else */
const char *mx_check_path(lua_State *L, int idx);                                  /* one without a zero byte */
/* Takes x and returns it; `nil, message` where there is none. */
int mx_file_result(lua_State *L, mx_ctx *c, mx_array *x);

#endif
