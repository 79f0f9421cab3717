/* batches.c: the batches of a dataset, as core functions for mlax.data.dataset. */
#include "array_impl.h"
#include "files_impl.h"

static const char batches_key = 0; /* registry: the metatable */

typedef struct batches_box {
  mx_batches *batches; /* NULL: not there yet, or freed */
  int n;
} batches_box;

static int batches_free(lua_State *L) {
  batches_box *box = lua_touserdata(L, 1);
  if (box && box->batches) mx_batches_free(box->batches);
  if (box) box->batches = NULL;
  return 0;
}

static batches_box *check_batches(lua_State *L, int idx) {
  batches_box *box = lua_touserdata(L, idx);
  if (box && lua_getmetatable(L, idx)) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &batches_key);
    bool ours = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    if (ours && box->batches) return box;
  }
  mx_error(L, "no batches (got %s)", mx_show(L, idx));
  return NULL;
}

/* The arrays of the list at idx, which have `rows` rows each; anchored in a userdata. [-0, +1] */
static mx_array **check_arrays(lua_State *L, int idx, int *n, int64_t *rows) {
  *n = (int)mx_check_length(L, idx, "the arrays");
  if (*n == 0) mx_error(L, "no arrays");
  mx_array **arrays = lua_newuserdatauv(L, (size_t)*n * sizeof *arrays, 0);
  for (int i = 0; i < *n; i++) {
    lua_rawgeti(L, idx, i + 1);
    arrays[i] = mx_check_value(L, mx_check_strict(L, -1, "an array of the dataset"), "read in batches");
    if (arrays[i]->aval.ndim == 0 || (i && arrays[i]->aval.shape[0] != *rows))
      mx_error(L, "the arrays differ in their number of examples");
    *rows = arrays[i]->aval.shape[0];
    lua_pop(L, 1);
  }
  return arrays;
}

/* The order at idx, which counts from 1, as one that counts from 0; nil: NULL. In the frame. */
static mx_array *check_order(lua_State *L, mx_ctx *c, int idx, int64_t rows) {
  if (lua_isnil(L, idx)) return NULL;
  mx_array *x = mx_check_value(L, mx_check_strict(L, idx, "the order"), "read");
  if (x->aval.dtype != MLAX_INT32 || x->aval.ndim != 1 || x->aval.size != rows)
    mx_error(L, "the order must be a permutation (got %s)", mx_show(L, idx));
  mx_array *y = mx_keep(c, mx_array_new(c, &x->aval));
  if (!y) mx_raise(L);
  const int32_t *from = (const int32_t *)mx_data(x);
  int32_t *to = (int32_t *)mx_data(y);
  for (int64_t i = 0; i < rows; i++) {
    if (from[i] < 1 || from[i] > rows) mx_error(L, "the order must be a permutation (got %d in it)", (int)from[i]);
    to[i] = from[i] - 1;
  }
  return y;
}

/* batches(arrays, order or nil, size, end, ahead) -> what batches_next takes */
static int lbatches_new(lua_State *L) {
  mx_ctx *c = mx_enter(L, "batches");
  int n;
  int64_t rows = 0;
  lua_settop(L, 5);
  mx_array **arrays = check_arrays(L, 1, &n, &rows);
  mx_array *order = check_order(L, c, 2, rows);
  int64_t size = mx_check_int(L, 3, "the size"), end = mx_check_int(L, 4, "the end");
  if (size < 1 || end < 0 || end > rows) return mx_error(L, "size or end are out of range");
  batches_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (batches_box){NULL, n};
  lua_rawgetp(L, LUA_REGISTRYINDEX, &batches_key);
  mx_own(L);
  box->batches = mx_batches_new(c, arrays, n, order, size, end);
  mx_ok(L, box->batches != NULL);
  if (lua_toboolean(L, 5)) mx_batches_ahead(box->batches);
  return 1;
}

/* batches_next(batches) -> list of arrays; nil at the end */
static int lbatches_next(lua_State *L) {
  mx_ctx *c = mx_enter(L, "batches");
  batches_box *box = check_batches(L, 1);
  mx_ok(L, mx_poll(c));
  mx_array **out = mx_batches_next(c, box->batches);
  mx_ok(L, !mx_failed(c));
  if (!out) return 0;
  lua_createtable(L, box->n, 0);
  for (int i = 0; i < box->n; i++) {
    mx_array *x = out[i];
    out[i] = NULL;
    mx_push(L, mx_keep(c, x));
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* reads_ahead() -> whether batches are made ahead where nobody says: in a host a thread of ours needs to be asked for,
 * and where there is one thread for all, it would only be in the way. */
static int lbatches_reads_ahead(lua_State *L) {
  mx_enter(L, "batches");
  const mx_state *s = MX_STATE(L);
  lua_pushboolean(L, !s->hosted && s->ctx.engine->threads > 1);
  return 1;
}

static const mx_reg batches_functions[] = {{"batches", lbatches_new, MX_IN_CORE},
                                           {"batches_next", lbatches_next, MX_IN_CORE},
                                           {"reads_ahead", lbatches_reads_ahead, MX_IN_CORE},
                                           {NULL, NULL, 0}};

void mx_open_batches(lua_State *L) {
  mx_register(L, batches_functions);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, batches_free);
  lua_setfield(L, -2, "__gc");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &batches_key);
}
