/* functions_conv.c: convolutions and windows. Their options name spatial axes by number for all, or by a list. */
#include "array_impl.h"

#include <stdio.h>

/* -- options by axis ----------------------------------------------------------------------------------------------- */

/* The option pushed at idx (0: absent) as n numbers: a number stands for all axes. */
static mx_dims by_axis(lua_State *L, int idx, const char *name, int n, int64_t otherwise, int64_t least) {
  mx_dims d = {.n = n};
  char what[64];
  snprintf(what, sizeof what, "option '%s'", name);
  bool list = idx && lua_type(L, idx) == LUA_TTABLE;
  if (idx && !list) otherwise = mx_check_int(L, idx, what);
  for (int i = 0; i < n; i++) d.v[i] = otherwise;
  if (list) mx_check_ints(L, idx, &d, what);
  if (d.n != n)
    mx_error(L, "%s has the wrong number of items (got %lld, need a number or one for each of %d axes)", what,
             (long long)d.n, n);
  for (int i = 0; i < n; i++)
    if (d.v[i] < least)
      mx_error(L, "%s is too small (got %lld, need at least %lld)", what, (long long)d.v[i], (long long)least);
  return d;
}

/* What "SAME" needs to know of an axis; hi and lo are filled. */
typedef struct sliding {
  mx_dims n, window, strides, x_dilation, dilation, lo, hi;
} sliding;

/* As many places as ceil(n / stride): the odd zero goes behind, or before (lower). */
static void pad_same(lua_State *L, sliding *s, bool lower) {
  for (int i = 0; i < s->n.n; i++) {
    int64_t n = s->n.v[i], stride = s->strides.v[i], w = 0, need = 0, step;
    if (s->x_dilation.v[i] != 1) mx_error(L, "padding \"SAME\" is not defined for a dilated input (give numbers)");
    bool fits = s->window.v[i] == 0 || (mx_mul_i64(s->window.v[i] - 1, s->dilation.v[i], &w) && ++w < INT64_MAX / 4);
    if (n > 0)
      fits = fits && mx_mul_i64((n - 1) / stride, stride, &step) && !__builtin_add_overflow(step, w - n, &need);
    if (!fits)
      mx_error(L, "the dilated window is too long (got %lld with dilation %lld)", (long long)s->window.v[i],
               (long long)s->dilation.v[i]);
    if (n == 0 || need < 0) need = 0;
    s->lo.v[i] = lower ? need - need / 2 : need / 2;
    s->hi.v[i] = need - s->lo.v[i];
  }
}

/* One entry of a list of paddings: {lo, hi}, or a number for both. */
static void pad_entry(lua_State *L, int idx, int axis, sliding *s) {
  char what[64];
  mx_dims pair;
  snprintf(what, sizeof what, "item %d of option 'padding'", axis + 1);
  if (lua_type(L, idx) != LUA_TTABLE) {
    s->lo.v[axis] = s->hi.v[axis] = mx_check_int(L, idx, what);
    return;
  }
  mx_check_ints(L, idx, &pair, what);
  if (pair.n != 2) mx_error(L, "%s is no pair (got %lld items, need {before, after})", what, (long long)pair.n);
  s->lo.v[axis] = pair.v[0], s->hi.v[axis] = pair.v[1];
}

/* "VALID" | "SAME" | "SAME_LOWER" | n | {n or {lo, hi}, ...} */
static void read_padding(lua_State *L, int idx, sliding *s) {
  static const char *const words[] = {"VALID", "SAME", "SAME_LOWER"};
  int n = (int)s->n.n;
  s->lo = s->hi = (mx_dims){.n = n};
  if (!idx) return;
  if (lua_type(L, idx) == LUA_TSTRING) {
    const char *word = lua_tostring(L, idx);
    if (!strcmp(word, words[1]) || !strcmp(word, words[2])) pad_same(L, s, word[4] != '\0');
    else if (strcmp(word, words[0])) mx_unknown(L, "padding", word, words, 3);
    return;
  }
  if (lua_type(L, idx) != LUA_TTABLE) {
    int64_t all = mx_check_int(L, idx, "option 'padding'");
    for (int i = 0; i < n; i++) s->lo.v[i] = s->hi.v[i] = all;
    return;
  }
  int64_t given = mx_check_length(L, idx, "option 'padding'");
  if (given != n)
    mx_error(
        L,
        "option 'padding' has the wrong number of items (got %lld, need a word, a number or one for each of %d axes)",
        (long long)given, n);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, idx, i + 1);
    pad_entry(L, lua_gettop(L), i, s);
    lua_pop(L, 1);
  }
}

/* -- conv ---------------------------------------------------------------------------------------------------------- */

typedef struct conv_options {
  int strides, padding, input_dilation, filter_dilation, dimension_numbers, accum_dtype;
  int64_t feature_group_count, batch_group_count;
} conv_options;

#define O(name, kind)                                                                                                  \
  { #name, kind, offsetof(conv_options, name) }
static const mx_option conv_known[] = {
    O(strides, MX_OPT_VALUE),         O(padding, MX_OPT_VALUE),           O(input_dilation, MX_OPT_VALUE),
    O(filter_dilation, MX_OPT_VALUE), O(dimension_numbers, MX_OPT_VALUE), O(feature_group_count, MX_OPT_INT),
    O(batch_group_count, MX_OPT_INT), O(accum_dtype, MX_OPT_DTYPE),       {NULL, MX_OPT_BOOL, 0}};
#undef O

/* Where `letters` stand in a spec: first the two that are no spatial axes, then those of `order`. */
static mx_few axes_of_spec(lua_State *L, const char *spec, const char *letters) {
  mx_few axes = {.n = (int64_t)strlen(spec)};
  if ((int64_t)strlen(letters) != axes.n)
    mx_error(L, "dimension number \"%s\" does not fit the others (got %d letters, need %d)", spec, (int)axes.n,
             (int)strlen(letters));
  for (int i = 0; i < axes.n; i++) {
    const char *at = strchr(spec, letters[i]);
    if (!at || strchr(at + 1, letters[i]))
      mx_error(L, "dimension number \"%s\" must hold the letter %c once (as \"NHWC\", \"OHWI\", \"NHWC\" do)", spec,
               letters[i]);
    axes.v[i] = at - spec;
  }
  return axes;
}

/* The spatial letters follow the kernel's spec. */
static void read_specs(lua_State *L, const char *x, const char *k, const char *out, mx_params *p) {
  char by_x[MX_MAX_FEW + 1] = "NC", by_k[MX_MAX_FEW + 1] = "OI";
  size_t n = strlen(k), m = 2;
  if (n < 3 || n > MX_MAX_FEW)
    mx_error(L, "dimension number \"%s\" has no or too many spatial axes (got %d letters, need 3 to 5)", k, (int)n);
  for (size_t i = 0; i < n && m < sizeof by_x - 1; i++)
    if (k[i] != 'O' && k[i] != 'I') by_x[m] = by_k[m] = k[i], m++;
  p->conv.x_axes = axes_of_spec(L, x, by_x);
  p->conv.k_axes = axes_of_spec(L, k, by_k);
  p->conv.out_axes = axes_of_spec(L, out, by_x);
}

static void read_layout(lua_State *L, int idx, int ndim, mx_params *p) {
  static const char *const usual[][2] = {{"NWC", "OWI"}, {"NHWC", "OHWI"}, {"NDHWC", "ODHWI"}};
  if (ndim < 3 || ndim > MX_MAX_FEW)
    mx_error(L, "x needs a batch axis, a feature axis and one to three spatial axes (got %d axes)", ndim);
  if (!idx) {
    const char *const *spec = usual[ndim - 3];
    read_specs(L, spec[0], spec[1], spec[0], p);
    return;
  }
  if (mx_check_length(L, idx, "option 'dimension_numbers'") != 3)
    mx_error(L, "option 'dimension_numbers' is no list of three (need {\"NHWC\", \"OHWI\", \"NHWC\"} or the like)");
  for (int i = 1; i <= 3; i++)
    if (lua_rawgeti(L, idx, i) != LUA_TSTRING)
      mx_error(L, "item %d of option 'dimension_numbers' is no string (got %s)", i, mx_show(L, -1));
  read_specs(L, lua_tostring(L, -3), lua_tostring(L, -2), lua_tostring(L, -1), p);
  if (p->conv.k_axes.n != ndim)
    mx_error(L, "option 'dimension_numbers' does not fit the arrays (got %d letters for %d axes)",
             (int)p->conv.k_axes.n, ndim);
  lua_pop(L, 3);
}

static mx_dims lengths(const mx_array *x, const mx_few *axes) {
  mx_dims d = {.n = axes->n - 2};
  for (int i = 0; i < d.n; i++) d.v[i] = x->aval.shape[axes->v[2 + i]];
  return d;
}

static mx_few few(const mx_dims *d) {
  mx_few f = {.n = d->n};
  for (int i = 0; i < f.n && i < MX_MAX_FEW; i++) f.v[i] = d->v[i];
  return f;
}

static int lconv_conv(lua_State *L) {
  mx_ctx *c = mx_enter(L, "conv");
  conv_options o = {.accum_dtype = -1, .feature_group_count = 1, .batch_group_count = 1};
  mx_params p = {.conv = {.strides = {0}}};
  mx_options(L, mx_args(L, 2, 0), conv_known, &o);
  mx_array *x = mx_check_array(L, 1, "x"), *k = mx_check_array(L, 2, "the kernel");
  int ndim = x->aval.ndim, n = ndim - 2;
  read_layout(L, o.dimension_numbers, ndim, &p);
  if (k->aval.ndim != ndim)
    return mx_error(L, "the kernel has as many axes as x (got %s and %s)", mx_show(L, 2), mx_show(L, 1));
  sliding s = {.n = lengths(x, &p.conv.x_axes), .window = lengths(k, &p.conv.k_axes)};
  s.strides = by_axis(L, o.strides, "strides", n, 1, 1);
  s.x_dilation = by_axis(L, o.input_dilation, "input_dilation", n, 1, 1);
  s.dilation = by_axis(L, o.filter_dilation, "filter_dilation", n, 1, 1);
  read_padding(L, o.padding, &s);
  p.conv.strides = few(&s.strides), p.conv.lo = few(&s.lo), p.conv.hi = few(&s.hi);
  p.conv.x_dilation = few(&s.x_dilation), p.conv.k_dilation = few(&s.dilation);
  p.conv.feature_groups = o.feature_group_count, p.conv.batch_groups = o.batch_group_count;
  p.conv.dtype = o.accum_dtype;
  return mx_return(L, mx_conv(c, x, k, &p));
}

/* -- windows ------------------------------------------------------------------------------------------------------- */

typedef struct window_options {
  int window, strides, padding, input_dilation, window_dilation;
} window_options;

#define O(name)                                                                                                        \
  { #name, MX_OPT_VALUE, offsetof(window_options, name) }
static const mx_option window_known[] = {O(window),         O(strides),         O(padding),
                                         O(input_dilation), O(window_dilation), {NULL, MX_OPT_BOOL, 0}};
#undef O

static const struct {
  const char *name;
  const mx_primitive *prim;
} window_ops[] = {{"max", &mx_prim_reduce_window_max},
                  {"sum", &mx_prim_reduce_window_sum},
                  {"min", &mx_prim_reduce_window_min},
                  {"prod", &mx_prim_reduce_window_prod}};

static const mx_primitive *check_op(lua_State *L, int idx) {
  const char *names[4];
  if (lua_type(L, idx) != LUA_TSTRING)
    mx_error(L, "the operation is no name (got %s, need \"max\", \"sum\", \"min\" or \"prod\")", mx_show(L, idx));
  for (int i = 0; i < 4; i++) {
    names[i] = window_ops[i].name;
    if (!strcmp(lua_tostring(L, idx), names[i])) return window_ops[i].prim;
  }
  mx_unknown(L, "operation", lua_tostring(L, idx), names, 4);
  return NULL;
}

/* Whether the number at idx, in x's dtype v, leaves all elements as they are. */
static bool is_neutral(const mx_primitive *prim, const mx_array *v) {
  int dtype = v->aval.dtype;
  bool max = prim == &mx_prim_reduce_window_max, min = prim == &mx_prim_reduce_window_min;
  if (!max && !min) return mx_array_item_double(v) == (prim == &mx_prim_reduce_window_prod);
  if (mx_is_float(dtype)) return mx_array_item_double(v) == (max ? -__builtin_inf() : __builtin_inf());
  char end[8] = {0}, is[8] = {0};
  mx_store_double(dtype, end, max ? -__builtin_inf() : __builtin_inf()); /* saturates */
  if (dtype == MLAX_BOOL) mx_store_int(dtype, end, min);
  mx_store_int(dtype, is, mx_array_item_int(v));
  return !memcmp(end, is, sizeof end);
}

/* The first value: an array, or a number, of which infinities are the ends of integer dtypes. NULL: neutral. */
static mx_array *check_init(lua_State *L, mx_ctx *c, int idx, const mx_primitive *prim, const mx_array *x) {
  int dtype = x->aval.dtype;
  if (mx_is_array(L, idx)) {
    mx_array *init = mx_check_array(L, idx, "the initial value");
    if (init->aval.ndim) mx_error(L, "the initial value is no scalar (got %s)", mx_show(L, idx));
    return mx_convert(c, init, dtype);
  }
  if (lua_type(L, idx) != LUA_TNUMBER && lua_type(L, idx) != LUA_TBOOLEAN)
    mx_error(L, "the initial value is no number (got %s)", mx_show(L, idx));
  double d = lua_tonumber(L, idx);
  if (dtype == MLAX_BOOL && d == -__builtin_inf()) d = 0; /* the least bool */
  mx_array *v = lua_type(L, idx) == LUA_TBOOLEAN ? mx_scalar_int(c, dtype, lua_toboolean(L, idx))
                : lua_isinteger(L, idx)          ? mx_scalar_int(c, dtype, lua_tointeger(L, idx))
                                                 : mx_scalar(c, dtype, d);
  mx_ok(L, v != NULL);
  return is_neutral(prim, v) ? NULL : v;
}

static int lconv_reduce_window(lua_State *L) {
  mx_ctx *c = mx_enter(L, "reduce_window");
  window_options o = {0};
  mx_options(L, mx_args(L, 3, 0), window_known, &o);
  mx_array *x = mx_check_array(L, 1, "x");
  const mx_primitive *prim = check_op(L, 3);
  mx_array *init = check_init(L, c, 2, prim, x);
  int n = x->aval.ndim;
  if (!o.window) return mx_error(L, "option 'window' is missing (need a number, or one for each of %d axes)", n);
  sliding s = {.n = mx_dims_shape(&x->aval), .window = by_axis(L, o.window, "window", n, 1, 1)};
  s.strides = by_axis(L, o.strides, "strides", n, 1, 1);
  s.x_dilation = by_axis(L, o.input_dilation, "input_dilation", n, 1, 1);
  s.dilation = by_axis(L, o.window_dilation, "window_dilation", n, 1, 1);
  read_padding(L, o.padding, &s);
  mx_params p = {.window = {.window = s.window,
                            .strides = s.strides,
                            .lo = s.lo,
                            .hi = s.hi,
                            .x_dilation = s.x_dilation,
                            .dilation = s.dilation}};
  return mx_return(L, mx_reduce_window(c, prim, x, init, &p));
}

static const mx_reg conv_functions[] = {
    {"conv", lconv_conv, MX_IN_LAX},
    {"reduce_window", lconv_reduce_window, MX_IN_LAX},
    {NULL, NULL, 0},
};

void mx_open_conv(lua_State *L) { mx_register(L, conv_functions); }
