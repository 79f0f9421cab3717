/* functions.c: opens the families of operations. */
#include "array_impl.h"

void mx_open_functions(lua_State *L) {
  mx_open_elementwise(L);
  mx_open_reduce(L);
  mx_open_shape(L);
  mx_open_product(L);
  mx_open_conv(L);
  mx_open_linalg(L);
}
