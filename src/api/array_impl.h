/* array_impl.h: what the array files of api/ share. */
#ifndef MX_ARRAY_IMPL_H
#define MX_ARRAY_IMPL_H

#include "tree.h"

/* The box of an array userdata; raises where idx holds none. */
mx_array **mx_check_box(lua_State *L, int idx);
/* The value behind x (of a jvp pair: the primal), or NULL where it is not known yet. */
mx_array *mx_value_of(const mx_ctx *c, mx_array *x);
/* The same; raises, naming the line that made x and the way out. `use`: "read", "ordered". In row-major order. */
mx_array *mx_check_value(lua_State *L, mx_array *x, const char *use);

/* index.c: x[key], with the key at idx; a borrowed result. */
mx_array *mx_index(lua_State *L, mx_array *x, int idx);
/* Row i (from 0) of x: axis 1 disappears. */
mx_array *mx_row(mx_ctx *c, mx_array *x, int64_t i);

/* x ^ y, where y came from the value at `exponent`: small whole Lua numbers become products. */
mx_array *mx_power(lua_State *L, mx_ctx *c, mx_array *x, mx_array *y, int exponent);

/* functions.c: the families */
void mx_open_elementwise(lua_State *L);
void mx_open_reduce(lua_State *L);
void mx_open_shape(lua_State *L);
void mx_open_product(lua_State *L);
void mx_open_conv(lua_State *L);
void mx_open_linalg(lua_State *L);

/* Operations of one array argument: check, call, push. */
typedef mx_array *(*mx_unary)(mx_ctx *, mx_array *);
typedef mx_array *(*mx_binary)(mx_ctx *, mx_array *, mx_array *);

#endif
