/* update.c: x:at{...}: updated copies.
 *
 * Without index arrays the part that is updated is a box with steps: dynamic_update_slice where the steps are 1, else a
 * select between x and the padded update. With index arrays it is a scatter; integers and partial slices become index
 * arrays too.
 */
#include "index_impl.h"

static const char *const at_name = "mlax.at"; /* userdata without memory; user values: array, key */

typedef struct update {
  const char *op;
  const mx_primitive *scatter;
  mx_binary combine; /* old, new; NULL: set */
} update;

static const update updates[] = {
    {"at:set", &mx_prim_scatter, NULL},           {"at:add", &mx_prim_scatter_add, mx_add},
    {"at:mul", &mx_prim_scatter_mul, mx_mul},     {"at:min", &mx_prim_scatter_min, mx_minimum},
    {"at:max", &mx_prim_scatter_max, mx_maximum},
};

/* -- without index arrays ------------------------------------------------------------------------------------------ */

/* Shapes of what x[key] gives (result) and of the box in x (box). */
static void box_shapes(lua_State *L, const mx_ix *ix, mx_dims *result, mx_dims *box) {
  *result = *box = (mx_dims){0};
  for (int i = 0; i < ix->n; i++) {
    const mx_ix_item *item = &ix->items[i];
    if (item->kind != MX_IX_NEW) box->v[box->n++] = item->count;
    if (item->kind == MX_IX_INT) continue;
    if (result->n == MX_MAX_NDIM) mx_error(L, "the index has too many axes (need at most %d)", MX_MAX_NDIM);
    result->v[result->n++] = item->kind == MX_IX_NEW ? 1 : item->count;
  }
}

/* The box with v in it, padded to x's shape: v where x is updated, `outside` elsewhere. */
static mx_array *pad_to(mx_ctx *c, mx_array *v, mx_array *outside, const mx_array *x, const mx_ix *ix) {
  mx_dims lo = {0}, hi = {0}, interior = {0};
  for (int i = 0; i < ix->n; i++) {
    const mx_ix_item *item = &ix->items[i];
    if (item->kind == MX_IX_NEW) continue;
    int64_t s = item->step < 0 ? -item->step : item->step, span = item->count ? (item->count - 1) * s + 1 : 0;
    int64_t low = item->step < 0 ? item->start - (span - 1) : item->start;
    lo.v[lo.n++] = low;
    hi.v[hi.n++] = x->aval.shape[item->axis] - low - span;
    interior.v[interior.n++] = s - 1;
  }
  return mx_pad(c, v, outside, &lo, &hi, &interior);
}

static mx_array *reverse_steps(mx_ctx *c, mx_array *v, const mx_ix *ix) {
  mx_dims axes = {0};
  for (int i = 0; i < ix->n; i++)
    if (ix->items[i].step < 0) axes.v[axes.n++] = ix->items[i].axis;
  return axes.n ? mx_reverse(c, v, &axes) : v;
}

static mx_array *set_box(lua_State *L, mx_array *x, mx_array *v, const mx_ix *ix) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  int64_t starts[MX_MAX_NDIM];
  bool dense = true;
  int n = 0;
  for (int i = 0; i < ix->n; i++) {
    if (ix->items[i].kind == MX_IX_NEW) continue;
    starts[n++] = ix->items[i].start;
    dense &= ix->items[i].step == 1;
  }
  if (dense && n == 0) return v;
  if (dense) return mx_dynamic_update_slice(c, x, v, mx_const_ids(L, n, starts));
  v = reverse_steps(c, v, ix);
  mx_dims shape = v ? mx_dims_shape(&v->aval) : (mx_dims){0};
  mx_array *inside = pad_to(c, mx_full(c, MLAX_BOOL, &shape, 1), mx_scalar_int(c, MLAX_BOOL, 0), x, ix);
  return mx_select(c, inside, pad_to(c, v, mx_scalar(c, x->aval.dtype, 0), x, ix), x);
}

static mx_array *update_box(lua_State *L, const update *u, mx_array *x, mx_array *v, const mx_ix *ix) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  mx_dims result, box;
  box_shapes(L, ix, &result, &box);
  v = mx_reshape(c, mx_broadcast(c, v, &result), &box);
  if (u->combine) v = u->combine(c, mx_ix_region(c, x, ix), v);
  return v ? set_box(L, x, v, ix) : NULL;
}

/* -- with index arrays --------------------------------------------------------------------------------------------- */

/* The axes of a result: those of the index arrays (from 0 on), x's axes (from X_AXIS on), new ones. */
enum { X_AXIS = 100, NEW_AXIS = 1000 };

typedef struct scatter {
  int n; /* index arrays, partial slices and integers */
  mx_array *ids[MX_MAX_NDIM];
  mx_dims axes;  /* of x, one an index */
  mx_aval space; /* what the index arrays broadcast to */
  int n_slices;  /* partial slices: axes behind those of the space */
  mx_dims order; /* the update's axes: index arrays, partial slices, whole axes */
} scatter;

static bool is_partial(const mx_array *x, const mx_ix_item *item) {
  return item->kind == MX_IX_SLICE && (item->count != x->aval.shape[item->axis] || item->step < 0);
}

static void push_dim(lua_State *L, mx_dims *d, int64_t v) {
  if (d->n == MX_MAX_NDIM) mx_error(L, "the update has too many axes (need at most %d)", MX_MAX_NDIM);
  d->v[d->n++] = v;
}

/* The shape of x with n axes of 1 behind it. */
static mx_array *add_ones(lua_State *L, mx_array *x, int n) {
  if (!x) mx_raise(L);
  mx_dims shape = mx_dims_shape(&x->aval);
  for (int i = 0; i < n; i++) push_dim(L, &shape, 1);
  return mx_reshape(&MX_STATE(L)->ctx, x, &shape);
}

static mx_array *slice_ids(lua_State *L, mx_ctx *c, const mx_ix_item *item) {
  mx_dims shape = {1, {item->count}};
  mx_array *i = mx_iota(c, item->start > INT32_MAX ? MLAX_INT64 : MLAX_INT32, &shape, 0);
  if (!i) mx_raise(L);
  return mx_adds(c, mx_muls(c, i, (double)item->step), (double)item->start);
}

static void broadcast_space(lua_State *L, scatter *s, const mx_array *ids) {
  mx_text a, b;
  mx_aval both = s->space;
  if (!ids) mx_raise(L);
  if (!mx_shape_broadcast(&s->space, &ids->aval, &both))
    mx_error(L, "index arrays do not fit each other (got %s and %s)", mx_shape_text(&a, s->space.ndim, s->space.shape),
             mx_shape_text(&b, ids->aval.ndim, ids->aval.shape));
  s->space = both;
}

/* Collects ids and the order of the update's axes; `slices` of them are partial. */
static void collect(lua_State *L, mx_array *x, const mx_ix *ix, scatter *s) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  mx_array *arrays[MX_MAX_NDIM];
  int k = 0;
  *s = (scatter){.space = {.size = 1}};
  for (int i = 0; i < ix->n; i++) s->n_slices += ix->items[i].kind == MX_IX_SLICE && is_partial(x, &ix->items[i]);
  for (int i = 0; i < ix->n; i++)
    if (ix->items[i].kind == MX_IX_ARRAY) broadcast_space(L, s, arrays[k++] = mx_ix_ids(c, x, &ix->items[i]));
  for (int i = 0; i < s->space.ndim; i++) push_dim(L, &s->order, i);
  int slice = 0;
  k = 0;
  for (int i = 0; i < ix->n; i++) {
    const mx_ix_item *item = &ix->items[i];
    mx_array *ids = NULL;
    if (item->kind == MX_IX_ARRAY) ids = add_ones(L, arrays[k++], s->n_slices);
    else if (item->kind == MX_IX_INT)
      ids = mx_scalar_int(c, item->start > INT32_MAX ? MLAX_INT64 : MLAX_INT32, item->start);
    else if (item->kind == MX_IX_SLICE && is_partial(x, item)) {
      ids = add_ones(L, slice_ids(L, c, item), s->n_slices - 1 - slice++);
      push_dim(L, &s->order, X_AXIS + item->axis);
    } else continue;
    if (!ids) mx_raise(L);
    s->ids[s->n++] = ids;
    s->axes.v[s->axes.n++] = item->axis;
  }
  for (int i = 0; i < ix->n; i++)
    if (ix->items[i].kind == MX_IX_SLICE && !is_partial(x, &ix->items[i]))
      push_dim(L, &s->order, X_AXIS + ix->items[i].axis);
}

/* Shape and kinds of axes of what x[key] gives: NumPy's placement. */
static void result_axes(lua_State *L, const mx_ix *ix, const scatter *s, mx_dims *shape, mx_dims *kinds) {
  int first, placed = 0;
  bool adjacent = mx_ix_adjacent(ix, &first);
  *shape = *kinds = (mx_dims){0};
  for (int i = 0; i < ix->n; i++) {
    const mx_ix_item *item = &ix->items[i];
    if (!placed && (!adjacent || i == first)) {
      for (int k = 0; k < s->space.ndim; k++) {
        push_dim(L, shape, s->space.shape[k]);
        push_dim(L, kinds, k);
      }
      placed = 1;
    }
    if (item->kind != MX_IX_SLICE && item->kind != MX_IX_NEW) continue;
    push_dim(L, shape, item->kind == MX_IX_NEW ? 1 : item->count);
    push_dim(L, kinds, item->kind == MX_IX_NEW ? NEW_AXIS : X_AXIS + item->axis);
  }
}

/* v, of the result's shape, as the scatter wants it: new axes dropped, the others in its order. */
static mx_array *arrange(mx_ctx *c, mx_array *v, const mx_dims *kinds, const scatter *s) {
  mx_dims kept = {0}, shape = {0}, axes = {0};
  if (!v) return NULL;
  for (int i = 0; i < kinds->n; i++) {
    if (kinds->v[i] == NEW_AXIS) continue;
    kept.v[kept.n++] = kinds->v[i];
    shape.v[shape.n++] = v->aval.shape[i];
  }
  for (int i = 0; i < s->order.n; i++)
    for (int j = 0; j < kept.n; j++)
      if (kept.v[j] == s->order.v[i]) axes.v[axes.n++] = j;
  return mx_transpose(c, mx_reshape(c, v, &shape), &axes);
}

static mx_array *update_arrays(lua_State *L, const update *u, mx_array *x, mx_array *v, const mx_ix *ix) {
  mx_ctx *c = &MX_STATE(L)->ctx;
  scatter s;
  mx_dims shape, kinds;
  collect(L, x, ix, &s);
  result_axes(L, ix, &s, &shape, &kinds);
  v = arrange(c, mx_broadcast(c, v, &shape), &kinds, &s);
  return v ? mx_scatter(c, u->scatter, x, v, s.ids, s.n, &s.axes) : NULL;
}

/* -- the object x:at{...} ------------------------------------------------------------------------------------------ */

static int lat_new(lua_State *L) {
  mx_enter(L, "at");
  mx_check_strict(L, 1, "x");
  mx_no_options(L, mx_args(L, 2, 0));
  lua_newuserdatauv(L, 0, 2);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, 2);
  luaL_setmetatable(L, at_name);
  return 1;
}

/* Leaves array and key at slots 3 and 4, reads the key. */
static mx_array *read_at(lua_State *L, mx_ix *ix) {
  if (!luaL_testudata(L, 1, at_name)) mx_error(L, "no x:at{...} (got %s)", mx_show(L, 1));
  lua_settop(L, 2);
  lua_getiuservalue(L, 1, 1);
  lua_getiuservalue(L, 1, 2);
  mx_array *x = mx_check_strict(L, 3, "x");
  mx_ix_read(L, x, 4, ix);
  return x;
}

static int apply(lua_State *L, const update *u) {
  mx_ctx *c = mx_enter(L, u->op);
  mx_ix ix;
  mx_no_options(L, mx_args(L, 2, 0));
  mx_array *x = read_at(L, &ix);
  int type = lua_type(L, 2), dtype = x->aval.dtype;
  bool number = type == LUA_TNUMBER || type == LUA_TBOOLEAN;
  mx_array *v = number ? mx_weak_number(L, 2, &x->aval) : mx_check_strict(L, 2, "the update");
  x = mx_convert(c, x, dtype);
  v = mx_convert(c, v, dtype);
  if (!x || !v) return mx_raise(L);
  return mx_return(L, ix.arrays ? update_arrays(L, u, x, v, &ix) : update_box(L, u, x, v, &ix));
}

static int lat_set(lua_State *L) { return apply(L, &updates[0]); }
static int lat_add(lua_State *L) { return apply(L, &updates[1]); }
static int lat_mul(lua_State *L) { return apply(L, &updates[2]); }
static int lat_min(lua_State *L) { return apply(L, &updates[3]); }
static int lat_max(lua_State *L) { return apply(L, &updates[4]); }

static int lat_get(lua_State *L) {
  mx_enter(L, "at:get");
  if (!luaL_testudata(L, 1, at_name)) return mx_error(L, "no x:at{...} (got %s)", mx_show(L, 1));
  mx_no_options(L, mx_args(L, 1, 0));
  lua_settop(L, 1);
  lua_getiuservalue(L, 1, 1);
  lua_getiuservalue(L, 1, 2);
  return mx_return(L, mx_index(L, mx_check_strict(L, 2, "x"), 3));
}

static const luaL_Reg at_methods[] = {{"set", lat_set}, {"add", lat_add}, {"mul", lat_mul}, {"min", lat_min},
                                      {"max", lat_max}, {"get", lat_get}, {NULL, NULL}};
static const mx_reg update_functions[] = {{"at", lat_new, MX_IN_METHODS}, {NULL, NULL, 0}};

void mx_open_update(lua_State *L) {
  mx_register(L, update_functions);
  luaL_newmetatable(L, at_name);
  lua_getfield(L, -2, "own_chunks");
  lua_getupvalue(L, -1, 1); /* stack: core, metatable, function, state */
  lua_remove(L, -2);
  lua_newtable(L);
  lua_insert(L, -2);
  luaL_setfuncs(L, at_methods, 1);
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "x:at{...}");
  lua_setfield(L, -2, "__name");
  lua_pop(L, 1);
}
