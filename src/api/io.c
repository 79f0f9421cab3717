/* io.c: readers of data files, embedded files, and the terminal, as core functions for the Lua half (mlax.data,
 * mlax.plot).
 *
 * Readers return `nil, message` for what is wrong with a file. What they acquire is anchored first: arrays in the
 * context's frame, tables of a CSV file in a userdata, so that an error while Lua values are pushed loses nothing. */
#include "files_impl.h"
#include "embedded.h"

#include <stddef.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* -- arguments ----------------------------------------------------------------------------------------------------- */

const char *mx_check_bytes(lua_State *L, int idx, const char *what, size_t *size) {
  if (lua_type(L, idx) != LUA_TSTRING) mx_error(L, "%s is no string (got %s)", what, luaL_typename(L, idx));
  return lua_tolstring(L, idx, size);
}

const char *mx_check_path(lua_State *L, int idx) {
  size_t size;
  const char *path = mx_check_bytes(L, idx, "the path", &size);
  if (strlen(path) != size) mx_error(L, "the path holds a zero byte");
  return path;
}

/* An optional name for messages about bytes. */
static const char *opt_name(lua_State *L, int idx) {
  size_t size;
  return lua_isnil(L, idx) ? "bytes" : mx_check_bytes(L, idx, "the name", &size);
}

int mx_file_result(lua_State *L, mx_ctx *c, mx_array *x) { return x ? mx_return(L, mx_keep(c, x)) : mx_fail_pair(L); }

/* -- IDX ----------------------------------------------------------------------------------------------------------- */

/* read_idx(path) -> array | nil, message */
static int lio_read_idx(lua_State *L) {
  mx_ctx *c = mx_enter(L, "idx");
  mx_no_options(L, mx_args(L, 1, 0));
  return mx_file_result(L, c, mx_idx_read(c, mx_check_path(L, 1)));
}

/* read_idx_bytes(bytes [, name]) -> array | nil, message */
static int lio_read_idx_bytes(lua_State *L) {
  mx_ctx *c = mx_enter(L, "idx");
  size_t size;
  mx_no_options(L, mx_args(L, 1, 1));
  const char *bytes = mx_check_bytes(L, 1, "the data", &size);
  return mx_file_result(L, c, mx_idx_parse(c, opt_name(L, 2), bytes, size));
}

/* -- CSV ----------------------------------------------------------------------------------------------------------- */

typedef struct csv_box {
  mlax_engine *engine; /* retained; NULL: empty */
  mx_csv_table table;
} csv_box;

static int csv_box_close(lua_State *L) {
  csv_box *box = lua_touserdata(L, 1);
  if (box->engine) {
    mx_csv_release(box->engine, &box->table);
    mlax_engine_release(box->engine);
    box->engine = NULL;
  }
  return 0;
}

static csv_box *csv_box_push(lua_State *L, mlax_engine *e) { /* [-0, +1] */
  csv_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  memset(box, 0, sizeof *box);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, csv_box_close);
  lua_setfield(L, -2, "__gc");
  mx_own(L);
  box->engine = mx_engine_retain(e);
  return box;
}

typedef struct csv_choice {
  const char *separator;
  int64_t skip, classes;
  int dtype, header, missing; /* header, missing: stack indices */
} csv_choice;

static const mx_option csv_known[] = {{"separator", MX_OPT_STRING, offsetof(csv_choice, separator)},
                                      {"header", MX_OPT_VALUE, offsetof(csv_choice, header)},
                                      {"skip", MX_OPT_INT, offsetof(csv_choice, skip)},
                                      {"classes", MX_OPT_INT, offsetof(csv_choice, classes)},
                                      {"dtype", MX_OPT_DTYPE, offsetof(csv_choice, dtype)},
                                      {"missing", MX_OPT_VALUE, offsetof(csv_choice, missing)},
                                      {NULL, 0, 0}};

static mx_csv_options check_csv_options(lua_State *L, int idx) {
  csv_choice k = {NULL, 0, 0, MLAX_FLOAT32, 0, 0};
  mx_csv_options o = MX_CSV_OPTIONS;
  mx_options(L, idx, csv_known, &k);
  if (k.separator) {
    if (strlen(k.separator) != 1) mx_error(L, "the separator is one character (got \"%.20s\")", k.separator);
    o.separator = k.separator[0];
  }
  if (k.header) o.header = mx_check_bool(L, k.header, "option 'header'") ? MX_HEADER_FIRST : MX_HEADER_NONE;
  if (k.missing) {
    o.has_missing = true;
    o.missing = mx_check_number(L, k.missing, "option 'missing'");
  }
  if (k.skip < 0) mx_error(L, "option 'skip' is a number of lines (got %lld)", (long long)k.skip);
  o.skip = k.skip;
  o.classes = k.classes;
  o.dtype = k.dtype;
  return o;
}

/* A list of the texts, nil where there are none. [-0, +1] */
static void spans_push(lua_State *L, const mx_span *spans, int n) {
  if (!n) {
    lua_pushnil(L);
    return;
  }
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_pushlstring(L, spans[i].data, spans[i].size);
    lua_rawseti(L, -2, i + 1);
  }
}

/* Takes `bytes`. -> array, names | nil, classes | nil;  nil, message */
static int csv_return(lua_State *L, mx_ctx *c, csv_box *box, const char *name, mx_bytes *bytes,
                      const mx_csv_options *o) {
  mx_csv_table *t = &box->table;
  if (!mx_csv_parse(c, name, bytes, o, t)) return mx_fail_pair(L);
  mx_push(L, t->values);
  spans_push(L, t->names, t->n_names);
  spans_push(L, t->classes, t->n_classes);
  mx_csv_release(box->engine, t);
  return 3;
}

/* read_csv(path [, {separator, header, skip, classes, dtype, missing}]) */
static int lio_read_csv(lua_State *L) {
  mx_ctx *c = mx_enter(L, "csv");
  mx_bytes bytes;
  mx_csv_options o = check_csv_options(L, mx_args(L, 1, 0));
  const char *path = mx_check_path(L, 1);
  csv_box *box = csv_box_push(L, c->engine);
  if (!mx_bytes_read(c, path, MX_INFLATE_LIMIT, &bytes)) return mx_fail_pair(L);
  return csv_return(L, c, box, path, &bytes, &o);
}

/* read_csv_bytes(bytes [, name] [, options]) */
static int lio_read_csv_bytes(lua_State *L) {
  mx_ctx *c = mx_enter(L, "csv");
  size_t size;
  mx_bytes bytes;
  mx_csv_options o = check_csv_options(L, mx_args(L, 1, 1));
  const char *data = mx_check_bytes(L, 1, "the data", &size), *name = opt_name(L, 2);
  csv_box *box = csv_box_push(L, c->engine);
  if (!mx_bytes_of(c, name, data, size, MX_INFLATE_LIMIT, &bytes)) return mx_fail_pair(L);
  return csv_return(L, c, box, name, &bytes, &o);
}

/* -- gzip, embedded files ------------------------------------------------------------------------------------------ */

/* gunzip_bytes(bytes [, limit]) -> string | nil, message. An array of the frame holds the result while Lua makes its
 * string. */
static int lio_gunzip_bytes(lua_State *L) {
  mx_ctx *c = mx_enter(L, "gunzip");
  size_t size, limit = MX_INFLATE_LIMIT;
  mx_bytes out;
  mx_aval a;
  mx_no_options(L, mx_args(L, 1, 1));
  const char *bytes = mx_check_bytes(L, 1, "the data", &size);
  if (!lua_isnil(L, 2)) {
    int64_t n = mx_check_int(L, 2, "the limit");
    if (n < 0) mx_error(L, "the limit is a number of bytes (got %lld)", (long long)n);
    limit = (size_t)n;
  }
  if (!mx_inflate(c, "bytes", bytes, size, limit, &out)) return mx_fail_pair(L);
  mx_array *x =
      mx_aval_make(c, &a, MLAX_UINT8, 1, (int64_t[]){(int64_t)out.size}) ? mx_keep(c, mx_array_new(c, &a)) : NULL;
  if (x && out.size) memcpy(mx_data(x), out.data, out.size);
  mx_bytes_free(c->engine, &out);
  mx_ok(L, x != NULL);
  lua_pushlstring(L, mx_data(x), (size_t)x->aval.size);
  return 1;
}

/* embedded(name) -> string | nil: a file that travels inside the program ("mlax/data/digits.csv.gz") */
static int lio_embedded(lua_State *L) {
  mx_enter(L, "embedded");
  const mx_embedded *f = mx_embedded_find(mx_check_path(L, 1));
  if (f) lua_pushlstring(L, (const char *)f->data, f->size);
  else lua_pushnil(L);
  return 1;
}

/* -- the terminal -------------------------------------------------------------------------------------------------- */

/* "stdin", "stdout" (also nil) or "stderr" */
static int check_stream(lua_State *L, int idx) {
  size_t size;
  const char *name = lua_isnoneornil(L, idx) ? "stdout" : mx_check_bytes(L, idx, "the stream", &size);
  if (strcmp(name, "stdin") == 0) return STDIN_FILENO;
  if (strcmp(name, "stdout") == 0) return STDOUT_FILENO;
  if (strcmp(name, "stderr") == 0) return STDERR_FILENO;
  return mx_error(L, "unknown stream \"%.20s\" (need \"stdin\", \"stdout\" or \"stderr\")", name);
}

/* isatty([stream]) -> boolean */
static int lio_isatty(lua_State *L) {
  mx_enter(L, "isatty");
  lua_pushboolean(L, isatty(check_stream(L, 1)));
  return 1;
}

/* terminal_size([stream]) -> columns, rows; nil where there is no terminal */
static int lio_terminal_size(lua_State *L) {
  struct winsize w;
  mx_enter(L, "terminal_size");
  if (ioctl(check_stream(L, 1), TIOCGWINSZ, &w) != 0 || !w.ws_col || !w.ws_row) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushinteger(L, w.ws_col);
  lua_pushinteger(L, w.ws_row);
  return 2;
}

/* --------------------------------------------------------------------------------------------------------------------
 */

static const mx_reg io_functions[] = {{"read_idx", lio_read_idx, MX_IN_CORE},
                                      {"read_idx_bytes", lio_read_idx_bytes, MX_IN_CORE},
                                      {"read_csv", lio_read_csv, MX_IN_CORE},
                                      {"read_csv_bytes", lio_read_csv_bytes, MX_IN_CORE},
                                      {"gunzip_bytes", lio_gunzip_bytes, MX_IN_CORE},
                                      {"embedded", lio_embedded, MX_IN_CORE},
                                      {"isatty", lio_isatty, MX_IN_CORE},
                                      {"terminal_size", lio_terminal_size, MX_IN_CORE},
                                      {NULL, NULL, 0}};

void mx_open_io(lua_State *L) {
  mx_register(L, io_functions);
  mx_open_files(L);
  mx_open_batches(L);
}
