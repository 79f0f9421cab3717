/* embedded.h: Lua sources and data sets that travel inside the program and the static library. In core.so there are
 * none: there Lua finds the files by its paths. */
#ifndef MX_EMBEDDED_H
#define MX_EMBEDDED_H

#include <lua.h>
#include <stddef.h>

typedef struct mx_embedded {
  const char *name; /* "mlax/nn/linear.lua", "mlax/data/digits.csv.gz"; NULL ends the table */
  const unsigned char *data;
  size_t size;
} mx_embedded;

extern const mx_embedded mx_embedded_files[] __attribute__((weak)); /* made by embed.sh */

const mx_embedded *mx_embedded_find(const char *name); /* NULL: there is no such file */
/* `require "mlax"` and `require "mlax.core"` find what is linked in. [-0, +0] */
void mx_embedded_install(lua_State *L);

#endif
