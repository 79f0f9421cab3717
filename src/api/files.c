/* files.c: files of arrays and directories, as core functions for the Lua half (mlax.save, mlax.load, mlax.io,
 * mlax.checkpoint_manager).
 *
 * An archive is an open safetensors or npz file: a userdata that owns the open file and the table of what it holds. The
 * table is there, checked, before the first array is read:
 *
 *     local file = core.open_safetensors(path)      core.archive_entries(file) -> list of {name, dtype, shape}
 *     core.archive_read(file, i) -> array           core.archive_close(file), or the end of a `local file <close>`
 */
#include "array_impl.h"
#include "files_impl.h"

typedef struct format {
  bool (*open)(mx_ctx *c, const mx_source *s, mx_table *t);
  mx_array *(*read)(mx_ctx *c, const mx_source *s, const mx_entry *e);
  bool has_avals; /* the table knows dtypes and shapes */
} format;

static const format safetensors = {mx_safetensors_open, mx_safetensors_read, true};
static const format npz = {mx_npz_open, mx_npz_read, false};

typedef struct archive {
  mlax_engine *engine; /* retained; NULL: closed */
  const format *format;
  mx_source source; /* its name and bytes are Lua strings in the user values */
  mx_table table;
} archive;

static const char archive_key = 0; /* registry: the metatable */

/* -- archives ------------------------------------------------------------------------------------------------------ */

static int archive_free(lua_State *L) {
  archive *a = lua_touserdata(L, 1);
  if (!a || !a->engine) return 0;
  mx_source_close(a->engine, &a->source);
  mx_table_free(a->engine, &a->table);
  mlax_engine_release(a->engine);
  a->engine = NULL;
  return 0;
}

/* An archive that anchors the strings at `name` and `bytes` (0: none). [-0, +1] */
static archive *archive_push(lua_State *L, const format *f, int name, int bytes) {
  archive *a = lua_newuserdatauv(L, sizeof *a, 2);
  memset(a, 0, sizeof *a);
  a->format = f;
  lua_pushvalue(L, name);
  lua_setiuservalue(L, -2, 1);
  if (bytes) {
    lua_pushvalue(L, bytes);
    lua_setiuservalue(L, -2, 2);
  }
  lua_rawgetp(L, LUA_REGISTRYINDEX, &archive_key);
  mx_own(L);
  a->engine = mx_engine_retain(mx_state_of(L)->ctx.engine);
  return a;
}

static archive *check_archive(lua_State *L, int idx) {
  archive *a = lua_touserdata(L, idx);
  if (a && lua_getmetatable(L, idx)) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &archive_key);
    bool ours = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    if (ours && a->engine) return a;
  }
  mx_error(L, "no open file (got %s)", mx_show(L, idx));
  return NULL;
}

static int archive_return(lua_State *L, mx_ctx *c, archive *a, bool opened) {
  if (opened && a->format->open(c, &a->source, &a->table)) return 1;
  return mx_fail_pair(L);
}

/* open(path) -> archive | nil, message */
static int open_path(lua_State *L, const char *op, const format *f) {
  mx_ctx *c = mx_enter(L, op);
  mx_no_options(L, mx_args(L, 1, 0));
  const char *path = mx_check_path(L, 1);
  archive *a = archive_push(L, f, 1, 0);
  return archive_return(L, c, a, mx_source_open(c, &a->source, path));
}

/* open(bytes) -> archive | nil, message */
static int open_bytes(lua_State *L, const char *op, const format *f) {
  mx_ctx *c = mx_enter(L, op);
  size_t size;
  mx_no_options(L, mx_args(L, 1, 0));
  const char *bytes = mx_check_bytes(L, 1, "the data", &size);
  lua_pushliteral(L, "bytes");
  archive *a = archive_push(L, f, lua_gettop(L), 1);
  a->source = mx_source_of(lua_tostring(L, -2), bytes, size);
  return archive_return(L, c, a, true);
}

static int larchive_safetensors(lua_State *L) { return open_path(L, "load", &safetensors); }
static int larchive_safetensors_bytes(lua_State *L) { return open_bytes(L, "load_bytes", &safetensors); }
static int larchive_npz(lua_State *L) { return open_path(L, "npz", &npz); }
static int larchive_npz_bytes(lua_State *L) { return open_bytes(L, "npz", &npz); }

static void shape_push(lua_State *L, const mx_aval *a) { /* [-0, +1] */
  lua_createtable(L, a->ndim, 0);
  for (int i = 0; i < a->ndim; i++) {
    lua_pushinteger(L, (lua_Integer)a->shape[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

/* archive_entries(archive) -> list of {name =, dtype =, shape =}; of npz the names alone */
static int larchive_entries(lua_State *L) {
  mx_enter(L, "load");
  const archive *a = check_archive(L, 1);
  lua_createtable(L, a->table.n, 0);
  for (int i = 0; i < a->table.n; i++) {
    const mx_entry *e = &a->table.entries[i];
    lua_createtable(L, 0, 3);
    lua_pushlstring(L, e->name.data, e->name.size);
    lua_setfield(L, -2, "name");
    if (a->format->has_avals) {
      lua_pushstring(L, mx_dtype_name(e->aval.dtype));
      lua_setfield(L, -2, "dtype");
      shape_push(L, &e->aval);
      lua_setfield(L, -2, "shape");
    }
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* archive_read(archive, i) -> array | nil, message */
static int larchive_read(lua_State *L) {
  mx_ctx *c = mx_enter(L, "load");
  const archive *a = check_archive(L, 1);
  int64_t i = mx_check_int(L, 2, "the entry");
  if (i < 1 || i > a->table.n) return mx_error(L, "no such entry (got %lld, need 1 to %d)", (long long)i, a->table.n);
  mx_ok(L, mx_poll(c));
  return mx_file_result(L, c, a->format->read(c, &a->source, &a->table.entries[i - 1]));
}

/* has_value(x) -> whether an array holds values; of eval_shape it has a shape alone */
static int lfiles_has_value(lua_State *L) {
  mx_ctx *c = mx_enter(L, "load");
  mx_array *x = mx_to_array(L, 1);
  lua_pushboolean(L, x && mx_has_value(c, x));
  return 1;
}

static int larchive_close(lua_State *L) {
  mx_enter(L, "load");
  check_archive(L, 1);
  return archive_free(L);
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

/* true | nil, message */
static int written(lua_State *L, bool ok) {
  if (!ok) return mx_fail_pair(L);
  lua_pushboolean(L, true);
  return 1;
}

/* The list of names at 2 and that of arrays at 3, which anchor what the items borrow. [-0, +1] */
static mx_named *check_items(lua_State *L, int *n) {
  *n = (int)mx_check_length(L, 2, "the names");
  if (mx_check_length(L, 3, "the arrays") != *n) mx_error(L, "names and arrays differ in number");
  mx_named *items = lua_newuserdatauv(L, (size_t)(*n ? *n : 1) * sizeof *items, 0);
  for (int i = 0; i < *n; i++) {
    lua_rawgeti(L, 2, i + 1);
    items[i].name.data = mx_check_bytes(L, -1, "a name", &items[i].name.size);
    lua_rawgeti(L, 3, i + 1);
    items[i].array = mx_check_value(L, mx_check_strict(L, -1, "an array"), "stored");
    lua_pop(L, 2);
  }
  return items;
}

/* write_safetensors(path, names, arrays) */
static int lfiles_write_safetensors(lua_State *L) {
  mx_ctx *c = mx_enter(L, "save");
  int n;
  mx_no_options(L, mx_args(L, 3, 0));
  const char *path = mx_check_path(L, 1);
  mx_named *items = check_items(L, &n);
  return written(L, mx_safetensors_write(c, path, items, n));
}

/* write_npz(path, names, arrays, compress) */
static int lfiles_write_npz(lua_State *L) {
  mx_ctx *c = mx_enter(L, "npz");
  int n;
  lua_settop(L, 4);
  const char *path = mx_check_path(L, 1);
  mx_named *items = check_items(L, &n);
  return written(L, mx_npz_write(c, path, items, n, lua_toboolean(L, 4)));
}

/* write_npy(path, x) */
static int lfiles_write_npy(lua_State *L) {
  mx_ctx *c = mx_enter(L, "npy");
  mx_no_options(L, mx_args(L, 2, 0));
  const char *path = mx_check_path(L, 1);
  return written(L, mx_npy_write(c, path, mx_check_value(L, mx_check_strict(L, 2, "x"), "stored")));
}

/* -- npy ----------------------------------------------------------------------------------------------------------- */

/* read_npy(path) -> array | nil, message */
static int lfiles_read_npy(lua_State *L) {
  mx_ctx *c = mx_enter(L, "npy");
  mx_source s;
  mx_no_options(L, mx_args(L, 1, 0));
  if (!mx_source_open(c, &s, mx_check_path(L, 1))) return mx_fail_pair(L);
  mx_array *x = mx_npy_read(c, &s);
  mx_source_close(c->engine, &s);
  return mx_file_result(L, c, x);
}

/* read_npy_bytes(bytes) -> array | nil, message */
static int lfiles_read_npy_bytes(lua_State *L) {
  mx_ctx *c = mx_enter(L, "npy");
  size_t size;
  mx_no_options(L, mx_args(L, 1, 0));
  const char *bytes = mx_check_bytes(L, 1, "the data", &size);
  mx_source s = mx_source_of("bytes", bytes, size);
  return mx_file_result(L, c, mx_npy_read(c, &s));
}

/* -- directories --------------------------------------------------------------------------------------------------- */

/* make_directory(path) -> true | nil, message */
static int lfiles_make_directory(lua_State *L) {
  mx_ctx *c = mx_enter(L, "make_directory");
  mx_no_options(L, mx_args(L, 1, 0));
  return written(L, mx_directory_make(c, mx_check_path(L, 1)));
}

/* The names in a directory, behind one another, each with a zero. */
typedef struct listing {
  mx_ctx *c;
  mx_bytes names;
} listing;

static int name_add(void *arg, const char *name) {
  listing *l = arg;
  return mx_bytes_add(l->c, &l->names, name, strlen(name) + 1) ? 0 : 1;
}

/* The names end up in an array of the frame, which owns them while Lua makes its strings. */
static mx_array *names_array(mx_ctx *c, const char *path) {
  listing l = {c, {NULL, 0, 0}};
  mx_aval a;
  bool ok = mx_directory_list(c, path, name_add, &l) && !mx_failed(c) &&
            mx_aval_make(c, &a, MLAX_UINT8, 1, (int64_t[]){(int64_t)l.names.size});
  mx_array *x = ok ? mx_keep(c, mx_array_new(c, &a)) : NULL;
  if (x && l.names.size) memcpy(mx_data(x), l.names.data, l.names.size);
  mx_bytes_free(c->engine, &l.names);
  return x;
}

/* list_directory(path) -> list of names, in no order | nil, message */
static int lfiles_list_directory(lua_State *L) {
  mx_ctx *c = mx_enter(L, "list_directory");
  mx_no_options(L, mx_args(L, 1, 0));
  mx_array *names = names_array(c, mx_check_path(L, 1));
  if (!names) return mx_fail_pair(L);
  const char *at = mx_data(names), *end = at + names->aval.size;
  lua_newtable(L);
  for (int i = 1; at < end; at += strlen(at) + 1, i++) {
    lua_pushstring(L, at);
    lua_rawseti(L, -2, i);
  }
  return 1;
}

/* remove_file(path) -> true | nil, message; true also where there is none */
static int lfiles_remove(lua_State *L) {
  mx_ctx *c = mx_enter(L, "remove_file");
  mx_no_options(L, mx_args(L, 1, 0));
  return written(L, mx_file_remove(c, mx_check_path(L, 1)));
}

/* --------------------------------------------------------------------------------------------------------------------
 */

static const mx_reg files_functions[] = {{"open_safetensors", larchive_safetensors, MX_IN_CORE},
                                         {"open_safetensors_bytes", larchive_safetensors_bytes, MX_IN_CORE},
                                         {"open_npz", larchive_npz, MX_IN_CORE},
                                         {"open_npz_bytes", larchive_npz_bytes, MX_IN_CORE},
                                         {"archive_entries", larchive_entries, MX_IN_CORE},
                                         {"archive_read", larchive_read, MX_IN_CORE},
                                         {"has_value", lfiles_has_value, MX_IN_CORE},
                                         {"archive_close", larchive_close, MX_IN_CORE},
                                         {"write_safetensors", lfiles_write_safetensors, MX_IN_CORE},
                                         {"write_npz", lfiles_write_npz, MX_IN_CORE},
                                         {"write_npy", lfiles_write_npy, MX_IN_CORE},
                                         {"read_npy", lfiles_read_npy, MX_IN_CORE},
                                         {"read_npy_bytes", lfiles_read_npy_bytes, MX_IN_CORE},
                                         {"make_directory", lfiles_make_directory, MX_IN_CORE},
                                         {"list_directory", lfiles_list_directory, MX_IN_CORE},
                                         {"remove_file", lfiles_remove, MX_IN_CORE},
                                         {NULL, NULL, 0}};

void mx_open_files(lua_State *L) {
  mx_register(L, files_functions);
  lua_createtable(L, 0, 2);
  for (int i = 0; i < 2; i++) {
    lua_pushcfunction(L, archive_free);
    lua_setfield(L, -2, i ? "__close" : "__gc");
  }
  lua_rawsetp(L, LUA_REGISTRYINDEX, &archive_key);
}
