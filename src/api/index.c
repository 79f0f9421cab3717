/* index.c: x[...]: reading a key, and the part of x that it picks.
 *
 *     x[{2, {}, "new", i, {5, 1, -2}}]     one item an axis: integer, all, new axis, index array, slice
 *
 * Integers, slices and new axes are a slice, a reverse and a reshape; index arrays are a gather behind them.
 */
#include "index_impl.h"

#include <ctype.h>
#include <stdlib.h>

enum { MAX_ITEMS = sizeof((mx_ix *)0)->items / sizeof *((mx_ix *)0)->items };

/* -- reading the key ----------------------------------------------------------------------------------------------- */

static mx_ix_item *add_item(lua_State *L, mx_ix *ix, mx_ix_kind kind) {
  if (ix->n == MAX_ITEMS) mx_error(L, "too many items in the index");
  mx_ix_item *item = &ix->items[ix->n++];
  *item = (mx_ix_item){.kind = kind, .axis = -1, .step = 1, .mask = -1};
  return item;
}

static void add_int(lua_State *L, mx_ix *ix, int64_t v) { add_item(L, ix, MX_IX_INT)->first = v; }

/* A mask is as many index arrays as it has axes. */
static void add_mask(lua_State *L, mx_ix *ix, mx_array *m) {
  mx_array *ids[MX_MAX_NDIM];
  if (m->aval.ndim == 0) mx_error(L, "a bool index needs an axis at least (got bool[])");
  if (!mx_value_of(&MX_STATE(L)->ctx, m)) {
    mx_text t;
    mx_error(L, "the shape of x[mask] depends on the values of the mask, which is traced (got %s): use where",
             mx_aval_text(&t, &m->aval));
  }
  mx_nonzero(L, m, ids);
  for (int i = 0; i < m->aval.ndim; i++) {
    mx_ix_item *item = add_item(L, ix, MX_IX_ARRAY);
    item->ids = ids[i];
    item->mask = m->aval.shape[i];
  }
}

static void add_array(lua_State *L, mx_ix *ix, int idx) {
  mx_array *a = mx_check_strict(L, idx, "the index");
  ix->arrays = true;
  if (a->aval.dtype == MLAX_BOOL) add_mask(L, ix, a);
  else if (mx_is_int(a->aval.dtype)) add_item(L, ix, MX_IX_ARRAY)->ids = a;
  else mx_error(L, "index arrays are of integers or bools (got %s)", mx_show(L, idx));
}

/* {}, {a}, {a, b}, {a, b, step} at the top of the stack. */
static void add_slice(lua_State *L, mx_ix *ix) {
  int64_t v[3] = {0, 0, 1}, n = mx_check_length(L, -1, "a slice");
  if (n > 3) mx_error(L, "a slice has too many items (got %lld, need {first, last, step})", (long long)n);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, -1, i + 1);
    if (mx_is_array(L, -1)) mx_error(L, "slices are made of Lua integers (got %s): use dynamic_slice", mx_show(L, -1));
    v[i] = mx_check_int(L, -1, "an item of a slice");
    lua_pop(L, 1);
  }
  mx_ix_item *item = add_item(L, ix, MX_IX_SLICE);
  item->has_first = item->has_last = n > 0;
  item->first = v[0];
  item->last = n > 1 ? v[1] : v[0];
  item->step = v[2];
}

/* -- strings ------------------------------------------------------------------------------------------------------- */

static const char *skip_space(const char *s) {
  while (isspace((unsigned char)*s)) s++;
  return s;
}

/* An integer, if there is one; moves s behind it. */
static bool read_number(const char **s, int64_t *v) {
  const char *p = skip_space(*s);
  char *end;
  if (!isdigit((unsigned char)*p) && !(*p == '-' && isdigit((unsigned char)p[1]))) return false;
  *v = strtoll(p, &end, 10);
  *s = end;
  return true;
}

static bool read_word(const char **s, const char *word) {
  const char *p = skip_space(*s);
  if (strncmp(p, word, strlen(word))) return false;
  *s = p + strlen(word);
  return true;
}

/* "a:b:step", each of the three may be missing; without a colon an integer. */
static bool read_slice_text(lua_State *L, mx_ix *ix, const char **s) {
  int64_t first = 0, last = 0, step = 1;
  bool has_first = read_number(s, &first);
  if (!read_word(s, ":")) {
    if (has_first) add_int(L, ix, first);
    return has_first;
  }
  mx_ix_item *item = add_item(L, ix, MX_IX_SLICE);
  item->has_last = read_number(s, &last);
  if (read_word(s, ":")) read_number(s, &step);
  item->has_first = has_first;
  item->first = first;
  item->last = last;
  item->step = step;
  return true;
}

static void add_text(lua_State *L, mx_ix *ix, const char *text) {
  const char *s = text;
  for (;;) {
    bool ok = true;
    if (read_word(&s, "...")) add_item(L, ix, MX_IX_REST);
    else if (read_word(&s, "new")) add_item(L, ix, MX_IX_NEW);
    else ok = read_slice_text(L, ix, &s);
    s = skip_space(s);
    if (ok && !*s) return;
    if (!ok || *s++ != ',')
      mx_error(L, "cannot read the index \"%.60s\" (need items like 2, -1, 2:4, ::2, ... or new, with commas)", text);
  }
}

/* -- fitting it to x ----------------------------------------------------------------------------------------------- */

static void add_table_item(lua_State *L, mx_ix *ix) { /* the item at the top of the stack */
  int64_t v;
  if (mx_read_int(L, -1, &v)) add_int(L, ix, v);
  else if (lua_type(L, -1) == LUA_TSTRING) add_text(L, ix, lua_tostring(L, -1));
  else if (lua_type(L, -1) == LUA_TTABLE) add_slice(L, ix);
  else if (mx_is_array(L, -1)) add_array(L, ix, -1);
  else mx_error(L, "an index item is no integer, slice, text or array (got %s)", mx_show(L, -1));
}

static void read_key(lua_State *L, int idx, mx_ix *ix) {
  idx = lua_absindex(L, idx);
  if (lua_type(L, idx) != LUA_TTABLE) {
    lua_pushvalue(L, idx);
    add_table_item(L, ix);
    lua_pop(L, 1);
    return;
  }
  int64_t n = mx_check_length(L, idx, "the index");
  for (int64_t i = 1; i <= n; i++) {
    lua_rawgeti(L, idx, i);
    add_table_item(L, ix);
    lua_pop(L, 1);
  }
}

/* Puts whole axes in the place of "..." (or behind the last item) and numbers the axes. */
static void expand_rest(lua_State *L, const mx_array *x, mx_ix *ix) {
  int used = 0, at = -1;
  mx_text t;
  for (int i = 0; i < ix->n; i++) {
    used += ix->items[i].kind != MX_IX_NEW && ix->items[i].kind != MX_IX_REST;
    if (ix->items[i].kind != MX_IX_REST) continue;
    if (at >= 0) mx_error(L, "\"...\" stands twice in the index");
    at = i;
  }
  int missing = x->aval.ndim - used;
  if (missing < 0)
    mx_error(L, "too many items in the index (got %d, need at most %d for %s)", used, x->aval.ndim,
             mx_aval_text(&t, &x->aval));
  if (at < 0) {
    at = ix->n;
    add_item(L, ix, MX_IX_REST);
  }
  if (ix->n + missing > MAX_ITEMS) mx_error(L, "too many items in the index");
  memmove(&ix->items[at + missing], &ix->items[at + 1], (size_t)(ix->n - at - 1) * sizeof *ix->items);
  ix->n += missing - 1;
  for (int i = 0; i < missing; i++) ix->items[at + i] = (mx_ix_item){.kind = MX_IX_SLICE, .step = 1, .mask = -1};
  for (int i = 0, axis = 0; i < ix->n; i++) ix->items[i].axis = ix->items[i].kind == MX_IX_NEW ? -1 : axis++;
}

static int64_t outside(lua_State *L, int64_t v, int64_t n, int axis) {
  const char *zero = v == 0 ? ": positions count from 1" : "";
  if (n == 0)
    return mx_error(L, "index %lld is out of range on axis %d%s (got %lld, but its length is 0)", (long long)v,
                    axis + 1, zero, (long long)v);
  return mx_error(L, "index %lld is out of range on axis %d%s (got %lld, need 1..%lld or -%lld..-1)", (long long)v,
                  axis + 1, zero, (long long)v, (long long)n, (long long)n);
}

/* From 1 or -1 to from 0. */
static int64_t position(lua_State *L, int64_t v, int64_t n, int axis) {
  if (v == 0 || v > n || v < -n) return outside(L, v, n, axis);
  return v > 0 ? v - 1 : v + n;
}

/* {a, a-1} is empty: a may then be 1..n+1. */
static bool is_empty_slice(const mx_ix_item *item, int64_t n) {
  int64_t a = item->first;
  return item->step > 0 && item->has_first && item->has_last && a >= 1 && a <= n + 1 && item->last == a - 1;
}

static void fit_slice(lua_State *L, mx_ix_item *item, int64_t n) {
  bool up = item->step > 0;
  if (item->step == 0) mx_error(L, "the step of a slice is 0");
  item->start = 0;
  item->count = 0;
  if (is_empty_slice(item, n) || (n == 0 && !item->has_first && !item->has_last)) {
    item->step = 1;
    return;
  }
  int64_t a = item->has_first ? position(L, item->first, n, item->axis) : up ? 0 : n - 1;
  int64_t b = item->has_last ? position(L, item->last, n, item->axis) : up ? n - 1 : 0;
  if (up ? b >= a : b <= a) item->count = (b - a) / item->step + 1;
  item->start = item->count ? a : 0;
  if (item->count <= 1) item->step = 1;
}

static void fit_item(lua_State *L, const mx_array *x, mx_ix_item *item) {
  if (item->kind == MX_IX_NEW) return;
  int64_t n = x->aval.shape[item->axis];
  switch (item->kind) {
  case MX_IX_INT:
    item->start = position(L, item->first, n, item->axis);
    item->count = 1;
    break;
  case MX_IX_SLICE: fit_slice(L, item, n); break;
  default:
    if (item->mask >= 0 && item->mask != n)
      mx_error(L, "the mask does not fit axis %d (got length %lld, need %lld)", item->axis + 1, (long long)item->mask,
               (long long)n);
    item->count = n;
  }
}

void mx_ix_read(lua_State *L, mx_array *x, int idx, mx_ix *ix) {
  ix->n = 0;
  ix->arrays = false;
  read_key(L, idx, ix);
  expand_rest(L, x, ix);
  for (int i = 0; i < ix->n; i++) fit_item(L, x, &ix->items[i]);
}

/* -- picking ------------------------------------------------------------------------------------------------------- */

static bool is_advanced(const mx_ix_item *item) { return item->kind == MX_IX_ARRAY || item->kind == MX_IX_INT; }

bool mx_ix_adjacent(const mx_ix *ix, int *first) {
  int runs = 0;
  *first = 0;
  for (int i = 0; i < ix->n; i++) {
    if (!is_advanced(&ix->items[i]) || (i > 0 && is_advanced(&ix->items[i - 1]))) continue;
    if (runs++ == 0) *first = i;
  }
  return runs == 1;
}

mx_array *mx_ix_ids(mx_ctx *c, const mx_array *x, const mx_ix_item *item) {
  if (item->mask >= 0) return item->ids;
  return mx_check_index(c, item->ids, x->aval.shape[item->axis], item->axis, 1);
}

mx_array *mx_ix_region(mx_ctx *c, mx_array *x, const mx_ix *ix) {
  mx_dims start = {0}, limit = {0}, step = {0}, reversed = {0};
  bool whole = true;
  for (int i = 0; i < ix->n; i++) {
    const mx_ix_item *item = &ix->items[i];
    if (item->kind == MX_IX_NEW) continue;
    int64_t s = item->step < 0 ? -item->step : item->step, span = item->count ? (item->count - 1) * s + 1 : 0;
    int64_t low = item->step < 0 ? item->start - (span - 1) : item->start;
    start.v[start.n++] = low;
    limit.v[limit.n++] = low + span;
    step.v[step.n++] = s;
    if (item->step < 0) reversed.v[reversed.n++] = item->axis;
    whole &= item->count == x->aval.shape[item->axis];
  }
  if (!whole) x = mx_slice(c, x, &start, &limit, &step);
  return reversed.n ? mx_reverse(c, x, &reversed) : x;
}

/* Drops INT axes, adds NEW ones; axes[k] is where the axis of the k-th ARRAY item went. */
static mx_array *reshape_basic(lua_State *L, mx_array *region, const mx_ix *ix, mx_dims *axes) {
  mx_dims shape = {0};
  axes->n = 0;
  for (int i = 0; i < ix->n; i++) {
    const mx_ix_item *item = &ix->items[i];
    if (item->kind == MX_IX_INT) continue;
    if (shape.n == MX_MAX_NDIM) mx_error(L, "the result has too many axes (need at most %d)", MX_MAX_NDIM);
    if (item->kind == MX_IX_ARRAY) axes->v[axes->n++] = shape.n;
    shape.v[shape.n++] = item->kind == MX_IX_NEW ? 1 : item->count;
  }
  return mx_reshape(&MX_STATE(L)->ctx, region, &shape);
}

/* A gather puts the ids' axes first: moves the k of them behind the axes that precede the first array. */
static mx_array *place_ids(mx_ctx *c, mx_array *x, const mx_ix *ix, int k) {
  int first, before = 0;
  if (!x || !mx_ix_adjacent(ix, &first)) return x;
  for (int i = 0; i < first; i++) before += ix->items[i].kind != MX_IX_INT;
  if (before == 0 || k == 0) return x;
  mx_dims axes = {0};
  for (int i = 0; i < before; i++) axes.v[axes.n++] = k + i;
  for (int i = 0; i < k; i++) axes.v[axes.n++] = i;
  for (int i = k + before; i < x->aval.ndim; i++) axes.v[axes.n++] = i;
  return mx_transpose(c, x, &axes);
}

static mx_array *gather_arrays(lua_State *L, mx_array *x, mx_array *basic, const mx_ix *ix, const mx_dims *axes) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  mx_array *ids[MX_MAX_NDIM];
  int n = 0;
  for (int i = 0; i < ix->n; i++)
    if (ix->items[i].kind == MX_IX_ARRAY) ids[n++] = mx_ix_ids(c, x, &ix->items[i]);
  mx_array *out = mx_gather(c, basic, ids, n, axes, false);
  return out ? place_ids(c, out, ix, out->aval.ndim - (basic->aval.ndim - n)) : NULL;
}

mx_array *mx_index(lua_State *L, mx_array *x, int idx) {
  mx_ix ix;
  mx_dims axes;
  int64_t i;
  if (x->aval.ndim > 0 && mx_read_int(L, idx, &i))
    return mx_row(&MX_STATE(L)->ctx, x, position(L, i, x->aval.shape[0], 0));
  mx_ix_read(L, x, idx, &ix);
  mx_array *region = mx_ix_region(&MX_STATE(L)->ctx, x, &ix);
  if (!region) return NULL;
  mx_array *basic = reshape_basic(L, region, &ix, &axes);
  return ix.arrays && basic ? gather_arrays(L, x, basic, &ix, &axes) : basic;
}

mx_array *mx_row(mx_ctx *c, mx_array *x, int64_t i) {
  mx_dims shape = mx_dims_shape(&x->aval);
  shape = mx_dims_remove(&shape, 0);
  return mx_reshape(c, mx_slice_axis(c, x, 0, i, i + 1), &shape);
}

void mx_open_index(lua_State *L) {
  mx_open_update(L);
  mx_open_take(L);
}
