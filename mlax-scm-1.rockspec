rockspec_format = "3.0"
package = "mlax"
version = "scm-1"
source = {url = "git+file://."}
description = {
  summary = "A machine-learning engine that Lua scripts drive",
  detailed = "Arrays, automatic differentiation, vectorisation, compilation and layers, in C behind Lua 5.4.",
  license = "MIT",
}
dependencies = {"lua >= 5.4, < 5.5"}
external_dependencies = {OPENBLAS = {library = "openblas"}, ZLIB = {header = "zlib.h", library = "z"}}
build = {
  type = "make",
  build_target = "all",
  build_variables = {LUA_CFLAGS = "-I$(LUA_INCDIR)"},
  install_target = "install-rock",
  install_variables = {LUADIR = "$(LUADIR)", LIBDIR = "$(LIBDIR)"},
}
