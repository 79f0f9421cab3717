/* args.c: reading and checking what Lua hands over. Everything here raises, naming what was meant. */
#include "tree_impl.h"

#include <math.h>
#include <stdio.h>

/* -- text for messages --------------------------------------------------------------------------------------------- */

enum { SHOW_LENGTH = 60, WORD_LENGTH = 40 };

const char *mx_show(lua_State *L, int idx) {
  mx_text t;
  char text[SHOW_LENGTH + 8];
  mx_array *x = mx_to_array(L, idx);
  switch (lua_type(L, idx)) {
  case LUA_TNONE:
  case LUA_TNIL: return lua_pushliteral(L, "nothing");
  case LUA_TNUMBER: lua_pushvalue(L, idx); return lua_tostring(L, -1);
  case LUA_TBOOLEAN: return lua_pushstring(L, lua_toboolean(L, idx) ? "true" : "false");
  case LUA_TSTRING:
    snprintf(text, sizeof text, "\"%.*s\"", SHOW_LENGTH, lua_tostring(L, idx));
    return lua_pushstring(L, text);
  case LUA_TUSERDATA:
    if (x) return lua_pushstring(L, mx_aval_text(&t, &x->aval));
    if (luaL_getmetafield(L, idx, "__name") == LUA_TSTRING) return lua_tostring(L, -1);
    /* fall through */
  default: return lua_pushfstring(L, "a %s", luaL_typename(L, idx));
  }
}

static int least_of(int a, int b) { return a < b ? a : b; }

static bool same_letter(char a, char b) { return (a | 32) == (b | 32); }

/* How many letters to insert, drop, change, or exchange with their neighbour; case does not count. Words that are too
 * long count as far away. */
static int edit_distance(const char *a, const char *b) {
  int n = (int)strlen(a), m = (int)strlen(b), rows[3][WORD_LENGTH + 1];
  if (n > WORD_LENGTH || m > WORD_LENGTH) return WORD_LENGTH;
  for (int j = 0; j <= m; j++) rows[0][j] = j;
  for (int i = 1; i <= n; i++) {
    int *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
    row[0] = i;
    for (int j = 1; j <= m; j++) {
      int d = least_of(row[j - 1], above[j]) + 1;
      d = least_of(d, above[j - 1] + !same_letter(a[i - 1], b[j - 1]));
      bool swapped = i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) && same_letter(a[i - 2], b[j - 1]);
      row[j] = swapped ? least_of(d, before[j - 2] + 1) : d;
    }
  }
  return rows[n % 3][m];
}

/* What other libraries call it. */
static const char *const synonyms[][2] = {
    {"absolute", "abs"},
    {"amax", "max"},
    {"amin", "min"},
    {"arccos", "acos"},
    {"arcsin", "asin"},
    {"arctan", "atan"},
    {"asarray", "array"},
    {"cast", "astype"},
    {"cat", "concat"},
    {"concatenate", "concat"},
    {"detach", "stop_gradient"},
    {"dim", "axis"},
    {"divide", "div"},
    {"double", "float64"},
    {"empty", "zeros"},
    {"equal", "eq"},
    {"float", "float32"},
    {"greater", "gt"},
    {"half", "float16"},
    {"int", "int32"},
    {"length", "size"},
    {"less", "lt"},
    {"long", "int64"},
    {"mm", "matmul"},
    {"multiply", "mul"},
    {"negative", "neg"},
    {"numpy", "totable"},
    {"permute", "transpose"},
    {"power", "pow"},
    {"repeat", "repeat_"},
    {"subtract", "sub"},
    {"tensor", "array"},
    {"to", "astype"},
    {"tolist", "totable"},
    {"unsqueeze", "expand_dims"},
    {"view", "reshape"},
};

static const char *synonym(const char *word, const char *const *known, int n) {
  for (size_t s = 0; s < sizeof synonyms / sizeof *synonyms; s++)
    for (int i = 0; i < n && !strcmp(word, synonyms[s][0]); i++)
      if (!strcmp(known[i], synonyms[s][1])) return known[i];
  return NULL;
}

const char *mx_guess(const char *word, const char *const *known, int n) {
  const char *best = synonym(word, known, n);
  if (best) return best;
  int least = ((int)strlen(word) + 1) / 3 + 1; /* as far away as this is no guess */
  for (int i = 0; i < n; i++) {
    int d = edit_distance(word, known[i]);
    if (d < least) {
      least = d;
      best = known[i];
    }
  }
  return best;
}

/* Names of arguments that stand before the options, where users of other libraries look for an option. */
static bool is_positional(const char *word) {
  static const char *const words[] = {"axis", "axes", "dim", "shape"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (!strcmp(word, words[i])) return true;
  return false;
}

int mx_unknown(lua_State *L, const char *kind, const char *word, const char *const *known, int n) {
  const char *guess = mx_guess(word, known, n);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int i = 0; i < n; i++) {
    if (i) luaL_addstring(&b, ", ");
    luaL_addstring(&b, known[i]);
  }
  luaL_pushresult(&b);
  const char *list = lua_tostring(L, -1);
  if (guess) return mx_error(L, "unknown %s '%.80s', did you mean '%s'? (known: %s)", kind, word, guess, list);
  if (!strcmp(kind, "option") && is_positional(word))
    return mx_error(L, "unknown option '%s' (known: %s): it is an argument of its own, before the options", word,
                    n ? list : "none");
  return mx_error(L, "unknown %s '%.80s' (known: %s)", kind, word, n ? list : "none");
}

/* -- the shape of a call ------------------------------------------------------------------------------------------- */

bool mx_is_plain_table(lua_State *L, int idx) {
  if (lua_type(L, idx) != LUA_TTABLE) return false;
  if (!lua_getmetatable(L, idx)) return true;
  lua_pop(L, 1);
  return false;
}

/* A table whose first key is a string. Lists with string keys besides are found where the list is read. */
static bool is_options(lua_State *L, int idx) {
  if (!mx_is_plain_table(L, idx)) return false;
  lua_pushnil(L);
  idx = idx < 0 ? idx - 1 : idx;
  if (!lua_next(L, idx)) return false;
  bool named = lua_type(L, -2) == LUA_TSTRING;
  lua_pop(L, 2);
  return named;
}

int mx_args(lua_State *L, int required, int optional) {
  int n = lua_gettop(L), last = required + optional + 1;
  while (n > 0 && lua_isnil(L, n)) n--;
  if (n > last) return mx_error(L, "too many arguments (got %d, need at most %d and a table of options)", n, last - 1);
  lua_settop(L, n);
  if (n > required && n < last && is_options(L, n)) { /* options in the place of an optional argument */
    lua_settop(L, last);
    lua_pushvalue(L, n);
    lua_replace(L, last);
    lua_pushnil(L);
    lua_replace(L, n);
    return last;
  }
  if (n == last && n > 1 && lua_type(L, n) == LUA_TNUMBER && lua_type(L, n - 1) == LUA_TNUMBER)
    return mx_error(L, "one argument too many (got %s after %s; numbers that belong together are one list, {%s, %s})",
                    mx_show(L, n), mx_show(L, n - 1), mx_show(L, n - 1), mx_show(L, n));
  if (n == last && lua_type(L, n) != LUA_TTABLE)
    return mx_error(L, "one argument too many (got %s, need a table of options there or nothing)", mx_show(L, n));
  lua_settop(L, last);
  luaL_checkstack(L, 30, NULL);
  return last;
}

static void read_option(lua_State *L, const mx_option *o, char *to) { /* value on top; [-1, +0], VALUE: [-0, +0] */
  char what[64];
  snprintf(what, sizeof what, "option '%s'", o->name);
  switch (o->kind) {
  case MX_OPT_BOOL: *(bool *)to = mx_check_bool(L, -1, what); break;
  case MX_OPT_INT: *(int64_t *)to = mx_check_int(L, -1, what); break;
  case MX_OPT_NUMBER: *(double *)to = mx_check_number(L, -1, what); break;
  case MX_OPT_DTYPE: *(int *)to = mx_check_dtype(L, -1, -1); break;
  case MX_OPT_STRING:
    if (lua_type(L, -1) != LUA_TSTRING) mx_error(L, "%s is no string (got %s)", what, mx_show(L, -1));
    *(const char **)to = lua_tostring(L, -1); /* the table anchors it */
    break;
  case MX_OPT_VALUE: *(int *)to = lua_gettop(L); return;
  }
  lua_pop(L, 1);
}

enum { MAX_OPTIONS = 32 };

static int option_names(const mx_option *known, const char **names) {
  int n = 0;
  for (; known[n].name && n < MAX_OPTIONS; n++) names[n] = known[n].name;
  return n;
}

/* Raises on the first key that is no known name. */
static void check_option_keys(lua_State *L, int idx, const char *const *names, int n) {
  lua_pushnil(L);
  while (lua_next(L, idx)) {
    lua_pop(L, 1);
    if (lua_type(L, -1) != LUA_TSTRING)
      mx_error(L, "a key of the options table is no string (got %s, need names of options)", mx_show(L, -1));
    const char *key = lua_tostring(L, -1);
    int i = 0;
    while (i < n && strcmp(names[i], key)) i++;
    if (i == n) mx_unknown(L, "option", key, names, n);
  }
}

void mx_options(lua_State *L, int idx, const mx_option *known, void *to) {
  const char *names[MAX_OPTIONS];
  idx = lua_absindex(L, idx);
  if (lua_isnoneornil(L, idx)) return;
  if (lua_type(L, idx) != LUA_TTABLE) mx_error(L, "the options are no table (got %s)", mx_show(L, idx));
  check_option_keys(L, idx, names, option_names(known, names));
  for (; known->name; known++) {
    if (lua_getfield(L, idx, known->name) == LUA_TNIL) lua_pop(L, 1);
    else read_option(L, known, (char *)to + known->offset);
  }
}

void mx_no_options(lua_State *L, int idx) {
  static const mx_option none[] = {{NULL, MX_OPT_BOOL, 0}};
  mx_options(L, idx, none, NULL);
}

/* -- numbers ------------------------------------------------------------------------------------------------------- */

bool mx_read_int(lua_State *L, int idx, int64_t *v) {
  if (lua_type(L, idx) != LUA_TNUMBER) return false;
  int ok;
  *v = lua_tointegerx(L, idx, &ok);
  return ok;
}

/* A traced array where Lua's own number is wanted has no value yet, whatever its dtype. */
static int no_number(lua_State *L, int idx, const char *what, const char *kind) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  mx_array *x = mx_to_array(L, idx);
  mx_text t;
  if (!x || mx_has_value(c, x)) return mx_error(L, "%s is no %s (got %s)", what, kind, mx_show(L, idx));
  if (!mx_usable(c, x)) return mx_raise(L);
  return mx_error(
      L, "%s is no %s: a traced array has no value yet (got %s made at %s); make the argument static (static_argnums)",
      what, kind, mx_aval_text(&t, &x->aval), mx_site_text(c, x->site));
}

int64_t mx_check_int(lua_State *L, int idx, const char *what) {
  int64_t v = 0;
  if (!mx_read_int(L, idx, &v)) no_number(L, idx, what, "integer");
  return v;
}

double mx_check_number(lua_State *L, int idx, const char *what) {
  if (lua_type(L, idx) != LUA_TNUMBER) no_number(L, idx, what, "number");
  return lua_tonumber(L, idx);
}

bool mx_check_bool(lua_State *L, int idx, const char *what) {
  if (lua_type(L, idx) != LUA_TBOOLEAN) mx_error(L, "%s is neither true nor false (got %s)", what, mx_show(L, idx));
  return lua_toboolean(L, idx);
}

int mx_check_dtype(lua_State *L, int idx, int otherwise) {
  if (lua_isnoneornil(L, idx) && otherwise >= 0) return otherwise;
  if (lua_type(L, idx) != LUA_TSTRING)
    return mx_error(L, "the dtype is no name (got %s, need \"float32\" or the like)", mx_show(L, idx));
  size_t n;
  const char *name = lua_tolstring(L, idx, &n), *names[MX_DTYPE_COUNT];
  int dtype = mx_dtype_of_name(name, n);
  if (dtype >= 0) return dtype;
  for (int i = 0; i < MX_DTYPE_COUNT; i++) names[i] = mx_dtype_name(i);
  return mx_unknown(L, "dtype", name, names, MX_DTYPE_COUNT);
}

/* -- lists --------------------------------------------------------------------------------------------------------- */

int64_t mx_check_length(lua_State *L, int idx, const char *what) {
  if (lua_type(L, idx) == LUA_TNUMBER)
    mx_error(L, "%s is no list (got %s, need a list such as {%s})", what, mx_show(L, idx), mx_show(L, idx));
  if (!mx_is_plain_table(L, idx)) mx_error(L, "%s is no list (got %s)", what, mx_show(L, idx));
  int64_t n = (int64_t)lua_rawlen(L, idx), keys = 0;
  idx = lua_absindex(L, idx);
  lua_pushnil(L);
  while (lua_next(L, idx)) {
    lua_pop(L, 1);
    int64_t k = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
    if (k < 1 || k > n)
      mx_error(L, "%s is no list: it has the key %s (need keys 1, 2, ... without holes)", what, mx_show(L, -1));
    keys++;
  }
  if (keys != n) mx_error(L, "%s has a hole (got %lld of %lld items)", what, (long long)keys, (long long)n);
  return n;
}

void mx_check_ints(lua_State *L, int idx, mx_dims *list, const char *what) {
  char item[96];
  int64_t n = mx_check_length(L, idx, what);
  if (n > MX_MAX_NDIM)
    mx_error(L, "%s has too many items (got %lld, need at most %d)", what, (long long)n, MX_MAX_NDIM);
  memset(list, 0, sizeof *list);
  list->n = n;
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, idx, i + 1);
    snprintf(item, sizeof item, "item %d of %s", i + 1, what);
    list->v[i] = mx_check_int(L, -1, item);
    lua_pop(L, 1);
  }
}

void mx_check_shape(lua_State *L, int idx, mx_dims *shape, const char *what) {
  mx_check_ints(L, idx, shape, what);
  for (int i = 0; i < shape->n; i++)
    if (shape->v[i] < 0)
      mx_error(L, "%s has a negative length (got %lld on axis %d)", what, (long long)shape->v[i], i + 1);
}

static int axis_of(lua_State *L, int64_t axis, int ndim) {
  if (axis == 0)
    return mx_error(L, "axis 0 does not exist: axes count from 1, or from -1 backwards (got 0, need 1..%d)", ndim);
  if (axis > ndim || axis < -ndim)
    return mx_error(L, "there is no axis %lld (got %lld, need 1..%d or -1..-%d)", (long long)axis, (long long)axis,
                    ndim, ndim);
  return (int)(axis > 0 ? axis - 1 : axis + ndim);
}

int mx_check_axis(lua_State *L, int idx, int ndim) { return axis_of(L, mx_check_int(L, idx, "the axis"), ndim); }

bool mx_check_axes(lua_State *L, int idx, int ndim, mx_dims *axes) {
  mx_dims given = {1, {0}};
  memset(axes, 0, sizeof *axes);
  if (lua_isnoneornil(L, idx)) return false;
  if (lua_type(L, idx) == LUA_TTABLE) mx_check_ints(L, idx, &given, "the list of axes");
  else given.v[0] = mx_check_int(L, idx, "the axis");
  for (int i = 0; i < given.n; i++) {
    int axis = axis_of(L, given.v[i], ndim);
    if (mx_dims_has(axes, axis)) mx_error(L, "axis %lld stands twice in the list of axes", (long long)given.v[i]);
    axes->v[axes->n++] = axis;
  }
  return true;
}

/* -- arrays -------------------------------------------------------------------------------------------------------- */

mx_array *mx_to_array(lua_State *L, int idx) {
  if (!lua_getmetatable(L, idx)) return NULL;
  bool ours = lua_topointer(L, -1) == MX_STATE(L)->array_meta;
  lua_pop(L, 1);
  return ours ? *(mx_array **)lua_touserdata(L, idx) : NULL;
}

bool mx_is_array(lua_State *L, int idx) { return mx_to_array(L, idx) != NULL; }

/* A freed array, or one of a trace that no longer runs, ends here. */
static mx_array *usable(lua_State *L, mx_array *x) {
  if (x->tag != MX_VALUE && !mx_usable(&MX_STATE(L)->ctx, x)) mx_raise(L);
  return x;
}

static mx_array *kept(lua_State *L, mx_array *x) { /* takes x */
  x = mx_keep(&MX_STATE(L)->ctx, x);
  if (!x) mx_raise(L);
  return x;
}

mx_array *mx_weak_number(lua_State *L, int idx, const mx_aval *beside) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  bool whole = lua_isinteger(L, idx);
  int dtype = beside->dtype;
  mx_array *x;
  if (lua_type(L, idx) == LUA_TBOOLEAN)
    return kept(L, mx_array_of_int(c, beside->weak ? MLAX_BOOL : dtype, lua_toboolean(L, idx)));
  if (whole && dtype == MLAX_BOOL) dtype = MLAX_INT32;
  if (!whole && !mx_is_float(dtype)) dtype = MLAX_FLOAT32;
  if (whole) {
    int64_t v = lua_tointeger(L, idx);
    x = mx_is_float(dtype) ? mx_array_of_double(c, dtype, (double)v) : mx_array_of_int(c, dtype, v);
  } else {
    x = mx_array_of_double(c, dtype, lua_tonumber(L, idx));
  }
  if (x) x->aval.weak = beside->weak;
  return kept(L, x);
}

/* A number or boolean that stands beside no array: weak, of the natural dtype. NULL: neither. */
static mx_array *lone_number(lua_State *L, int idx) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  mx_array *x;
  if (lua_type(L, idx) == LUA_TBOOLEAN) return kept(L, mx_array_of_int(c, MLAX_BOOL, lua_toboolean(L, idx)));
  if (lua_type(L, idx) != LUA_TNUMBER) return NULL;
  if (lua_isinteger(L, idx)) {
    int64_t v = lua_tointeger(L, idx);
    x = mx_array_of_int(c, v == (int32_t)v ? MLAX_INT32 : MLAX_INT64, v);
  } else {
    x = mx_array_of_double(c, MLAX_FLOAT32, lua_tonumber(L, idx));
  }
  if (x) x->aval.weak = true;
  return kept(L, x);
}

/* What is often behind a wrong operand. */
static const char *hint_of(lua_State *L, int idx) {
  if (mx_to_parameter(L, idx)) return "; the Parameter's array is its field data";
  if (idx == 1 && lua_isnoneornil(L, idx)) return "; methods are called with ':'";
  if (idx == 1 && lua_istable(L, idx)) return "; methods are called with ':', lists become arrays by mlax.array";
  return "";
}

mx_array *mx_check_array(lua_State *L, int idx, const char *what) {
  mx_array *x = mx_to_array(L, idx);
  if (x) return usable(L, x);
  x = lone_number(L, idx);
  if (!x) mx_error(L, "%s is no array (got %s, need an array or a number%s)", what, mx_show(L, idx), hint_of(L, idx));
  return x;
}

mx_array *mx_check_strict(lua_State *L, int idx, const char *what) {
  mx_array *x = mx_to_array(L, idx);
  if (!x) mx_error(L, "%s is no array (got %s)", what, mx_show(L, idx));
  return usable(L, x);
}

void mx_check_pair(lua_State *L, int i, int j, mx_array **x, mx_array **y) {
  mx_array *a = mx_to_array(L, i), *b = mx_to_array(L, j);
  if (a && b) {
    *x = usable(L, a);
    *y = usable(L, b);
    return;
  }
  int other = a ? j : i, type = lua_type(L, other);
  if (!a && !b) {
    *x = mx_check_array(L, i, "the first operand");
    *y = mx_check_array(L, j, "the second operand");
    return;
  }
  if (type != LUA_TNUMBER && type != LUA_TBOOLEAN)
    mx_error(L, "the %s operand is neither an array nor a number (got %s)", a ? "second" : "first", mx_show(L, other));
  mx_array *number = mx_weak_number(L, other, &usable(L, a ? a : b)->aval);
  *x = a ? a : number;
  *y = a ? number : b;
}
