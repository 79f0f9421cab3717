/* vmap.c: core.vmap(f, in_axes, out_axes, size, name, ...): one call over an axis of its arguments. */
#include "call.h"

enum { NOT_MAPPED = INT32_MIN };

typedef struct axes {
  mx_work *w;
  const mx_flat *flat;
  int at, root;                 /* stack index of the flat, the root being read */
  int *axis;                    /* by leaf of the flat: from 0, as given by the user before the check; NOT_MAPPED */
  const char *what, *root_name; /* "in_axes", "argument", or "out_axes", "result" */
} axes;

static const char *path_at(lua_State *L, const axes *a, int root, int leaf) {
  mx_flat_path(L, a->at, root, leaf);
  const char *path = lua_tostring(L, -1);
  if (*path) return path;
  return lua_pushfstring(L, "%s %d", a->root_name, root + 1);
}

/* The axis that an entry (a number or false) gives a leaf of ndim axes. */
static int read_axis(lua_State *L, axes *a, int leaf, int value, int ndim) {
  if (lua_isboolean(L, value) && !lua_toboolean(L, value)) return NOT_MAPPED;
  if (lua_isnil(L, value)) return NOT_MAPPED;
  int64_t axis = mx_check_int(L, value, a->what);
  if (axis == 0) mx_error(L, "%s 0: axes count from 1", a->what);
  int64_t from0 = axis < 0 ? axis + ndim : axis - 1;
  if (ndim == 0)
    mx_error(L, "%s %lld at %s: a scalar has no axis to map (use false)", a->what, (long long)axis,
             path_at(L, a, a->root, leaf));
  if (from0 < 0 || from0 >= ndim)
    mx_error(L, "%s %lld at %s is out of range (the array has %d axes)", a->what, (long long)axis,
             path_at(L, a, a->root, leaf), ndim);
  return (int)from0;
}

static void set_axis(lua_State *L, void *ud, int leaf, int value) {
  axes *a = ud;
  int i = a->flat->roots[a->root].first + leaf;
  const mx_leaf *l = &a->flat->leaves[i];
  if (l->kind != MX_LEAF_ARRAY) return;
  a->axis[i] = read_axis(L, a, leaf, lua_absindex(L, value), l->array->aval.ndim);
}

static void read_in_axes(lua_State *L, axes *a, int idx) {
  int n_args = mx_work_args(a->w, a->flat);
  bool list = mx_is_plain_table(L, idx);
  if (list && (int)lua_rawlen(L, idx) < n_args)
    mx_error(L, "in_axes has %d entries (need at least %d, one an argument)", (int)lua_rawlen(L, idx), n_args);
  for (int i = 0; i < a->flat->n; i++) a->axis[i] = NOT_MAPPED;
  for (int i = 0; i < n_args; i++) {
    a->root = mx_work_root(a->w, i);
    if (list) lua_rawgeti(L, idx, i + 1);
    else lua_pushvalue(L, idx);
    mx_flat_prefix(L, a->at, a->root, lua_gettop(L), set_axis, a);
    lua_pop(L, 1);
  }
}

/* All mapped leaves agree on the length; the first that does not is named with the first that was. */
static int64_t mapped_size(lua_State *L, axes *a, int64_t size) {
  int first = -1, first_root = 0;
  for (int r = 0; r < a->flat->n_roots; r++)
    for (int i = a->flat->roots[r].first; i < mx_root_end(a->flat, r); i++) {
      if (a->axis[i] == NOT_MAPPED) continue;
      int64_t length = a->flat->leaves[i].array->aval.shape[a->axis[i]];
      if (size < 0) size = length;
      if (size != length) {
        const char *here = path_at(L, a, r, i - a->flat->roots[r].first);
        if (first < 0)
          mx_error(L, "axis_size is %lld but the mapped axis of %s has length %lld", (long long)size, here,
                   (long long)length);
        const char *there = path_at(L, a, first_root, first - a->flat->roots[first_root].first);
        mx_error(L, "mapped axes differ in length: %s has %lld, %s has %lld", there, (long long)size, here,
                 (long long)length);
      }
      if (first < 0) first = i, first_root = r;
    }
  if (size < 0) mx_error(L, "no argument is mapped (need an axis in in_axes, or axis_size)");
  return size;
}

/* -- results ------------------------------------------------------------------------------------------------------- */

typedef struct out_axes {
  axes base;
  mx_array **out; /* the whole value of each array leaf of the results, moved to where it is asked for */
  int64_t size;
} out_axes;

static mx_array *place(lua_State *L, out_axes *o, int leaf, int k, int value) {
  mx_ctx *c = o->base.w->c;
  mx_array *x = o->base.w->out.items[k];
  int axis = o->base.w->out_axes.items[k];
  int ndim = x->aval.ndim + (axis < 0);
  int to = lua_isboolean(L, value) ? NOT_MAPPED : read_axis(L, &o->base, leaf, value, ndim);
  if (to == NOT_MAPPED) {
    if (axis >= 0)
      mx_error(L, "out_axes is false at %s, which depends on the mapped axis",
               path_at(L, &o->base, o->base.root, leaf));
    return x;
  }
  if (axis >= 0) return mx_move_axis(c, x, axis, to);
  mx_dims shape = mx_dims_shape(&x->aval);
  shape = mx_dims_insert(&shape, to, o->size);
  return mx_broadcast(c, mx_expand(c, x, to), &shape);
}

static void set_out(lua_State *L, void *ud, int leaf, int value) {
  out_axes *o = ud;
  const mx_flat *f = o->base.flat;
  int i = f->roots[o->base.root].first + leaf;
  if (f->leaves[i].kind != MX_LEAF_ARRAY) return;
  int k = o->base.axis[i];
  o->out[k] = place(L, o, leaf, k, lua_absindex(L, value));
  if (!o->out[k]) mx_raise(L);
}

static void place_results(lua_State *L, out_axes *o, int idx) {
  const mx_flat *f = o->base.flat;
  bool list = mx_is_plain_table(L, idx);
  if (list && (int)lua_rawlen(L, idx) < f->n_roots)
    mx_error(L, "out_axes has %d entries (need at least %d, one a result)", (int)lua_rawlen(L, idx), f->n_roots);
  for (int i = 0, k = 0; i < f->n; i++)
    if (f->leaves[i].kind == MX_LEAF_ARRAY) o->base.axis[i] = k++;
  for (int r = 0; r < f->n_roots; r++) {
    o->base.root = r;
    if (list) lua_rawgeti(L, idx, r + 1);
    else lua_pushvalue(L, idx);
    mx_flat_prefix(L, o->base.at, r, lua_gettop(L), set_out, o);
    lua_pop(L, 1);
  }
}

/* -- vmap ---------------------------------------------------------------------------------------------------------- */

static void *take(lua_State *L, mx_work *w, int n, size_t item) {
  void *p = mx_arena_alloc(w->c, &w->memory, (size_t)(n + 1) * item);
  mx_ok(L, p != NULL);
  return p;
}

static int64_t trace_mapped(lua_State *L, mx_work *w, int **mapped) {
  const mx_flat *args = mx_flat_at(L, w->args);
  axes a = {w, args, w->args, 0, take(L, w, args->n, sizeof(int)), "in_axes", "argument"};
  read_in_axes(L, &a, 2);
  int64_t size = mapped_size(L, &a, lua_isnil(L, 4) ? -1 : mx_check_int(L, 4, "axis_size"));
  *mapped = take(L, w, args->n, sizeof(int));
  for (int i = 0; i < args->n; i++)
    if (a.axis[i] != NOT_MAPPED) {
      (*mapped)[w->n] = a.axis[i];
      mx_work_trace(L, w, i, false);
    }
  return size;
}

static int lvmap(lua_State *L) { /* stack: f, in_axes, out_axes, size or nil, name or nil, arguments */
  mx_ctx *c = mx_enter(L, "vmap");
  mx_work *w = mx_work_new(L, 1, 6, lua_gettop(L) - 5);
  int *mapped;
  int64_t size = trace_mapped(L, w, &mapped);
  mx_ok(L,
        mx_batch(c, mx_work_function(w), w->in.items, mapped, w->n, size, lua_tostring(L, 5), &w->out, &w->out_axes));
  const mx_flat *results = mx_flat_at(L, w->results);
  out_axes o = {{w, results, w->results, 0, take(L, w, results->n, sizeof(int)), "out_axes", "result"},
                take(L, w, w->out.n, sizeof(mx_array *)),
                size};
  place_results(L, &o, 3);
  int base = lua_gettop(L);
  luaL_checkstack(L, results->n_roots + 8, "too many results");
  for (int r = 0; r < results->n_roots; r++) {
    mx_array **x = o.out + mx_arrays_before(results, r);
    mx_push_results(L, w->results, r, x);
  }
  mx_work_done(w);
  return lua_gettop(L) - base;
}

static const mx_reg functions[] = {{"vmap", lvmap, MX_IN_CORE}, {NULL, NULL, 0}};

void mx_open_vmap(lua_State *L) { mx_register(L, functions); }
