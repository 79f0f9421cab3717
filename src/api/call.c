/* call.c: calling Lua functions from transformations; see call.h. */
#include "call.h"

static const char work_key = 0; /* registry: the metatable */

static void work_free(mx_work *w) {
  if (!w->engine) return;
  mx_list_release(w->c, &w->in);
  mx_list_release(w->c, &w->tangents);
  mx_list_release(w->c, &w->out);
  mx_list_release(w->c, &w->out_tangents);
  mx_list_release(w->c, &w->captured);
  mx_ints_release(w->c, &w->out_axes);
  mx_linear_release(w->linear);
  mx_program_release(w->program);
  if (w->owned) w->free_owned(w);
  mx_arena_release(&w->memory);
  mlax_engine_release(w->engine);
  memset(w, 0, sizeof *w);
}

void mx_work_done(mx_work *w) { work_free(w); }

static int lwork_gc(lua_State *L) {
  work_free(lua_touserdata(L, 1));
  return 0;
}

static void push_work_meta(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &work_key) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, lwork_gc);
  lua_setfield(L, -2, "__gc");
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &work_key);
}

static int lwork_body(lua_State *L);

mx_work *mx_work_over(lua_State *L, int f, int args, bool hidden) {
  luaL_checkstack(L, 16, "too many arguments");
  mx_work *w = lua_newuserdatauv(L, sizeof *w, 1);
  memset(w, 0, sizeof *w);
  w->self = lua_gettop(L);
  push_work_meta(L);
  mx_own(L);
  w->c = &MX_STATE(L)->ctx;
  w->engine = mx_engine_retain(w->c->engine);
  w->memory.engine = w->engine;
  w->L = L;
  w->f = f;
  w->args = args;
  w->hidden = hidden;
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushcclosure(L, lwork_body, 1);
  lua_setiuservalue(L, w->self, 1); /* made here: call_user must not raise */
  w->leaf = mx_arena_alloc(w->c, &w->memory, (size_t)(mx_flat_at(L, args)->n + 1) * sizeof *w->leaf);
  mx_ok(L, w->leaf != NULL);
  return w;
}

mx_work *mx_work_new(lua_State *L, int f, int first, int n_args) {
  luaL_checkstack(L, 16, "too many arguments");
  mx_flat_new(L);
  int args = lua_gettop(L);
  bool hidden = mx_is_module(L, f);
  if (hidden) mx_flat_add(L, args, f);
  for (int i = 0; i < n_args; i++) mx_flat_add(L, args, first + i);
  return mx_work_over(L, f, args, hidden);
}

static mx_array *weak_scalar(mx_ctx *c, const mx_leaf *l, bool keep_int) {
  bool integer = l->kind == MX_LEAF_INT;
  mx_array *x = integer && keep_int
                    ? mx_array_of_int(c, MLAX_INT32, l->integer)
                    : mx_array_of_double(c, MLAX_FLOAT32, integer ? (double)l->integer : (double)l->number);
  if (x) x->aval.weak = true;
  return mx_keep(c, x);
}

void mx_work_trace(lua_State *L, mx_work *w, int leaf, bool keep_int) {
  const mx_leaf *l = &mx_flat_at(L, w->args)->leaves[leaf];
  mx_array *x = l->kind == MX_LEAF_ARRAY ? l->array : weak_scalar(w->c, l, keep_int);
  mx_ok(L, x && mx_list_add(w->c, &w->in, x));
  w->leaf[w->n++] = leaf;
}

/* Runs protected: everything here may raise. Stack: work (light), args, f -> results. */
static int lwork_body(lua_State *L) {
  mx_work *w = lua_touserdata(L, 1);
  const mx_flat *args = mx_flat_at(L, 2);
  mx_flat_new(L);
  for (int r = 0; r < args->n_roots; r++) mx_flat_like(L, 4, 2, r);
  for (int i = 0, t = 0; i < args->n; i++) {
    if (t < w->n && w->leaf[t] == i) mx_leaf_set_array(L, 4, i, w->tracers[t++]);
    else mx_leaf_copy(L, 4, i, 2, i);
  }
  luaL_checkstack(L, args->n_roots + 8, "too many arguments");
  if (!w->hidden) lua_pushvalue(L, 3);
  for (int r = 0; r < args->n_roots; r++) mx_flat_build(L, 4, r);
  lua_call(L, args->n_roots - w->hidden, LUA_MULTRET);
  int n = lua_gettop(L) - 4;
  luaL_checkstack(L, 8, "too many results");
  mx_flat_new(L);
  for (int k = 0; k < n; k++) mx_flat_add(L, 5 + n, 5 + k);
  return 1;
}

/* Runs inside a trace, so no Lua error may pass: what Lua needs memory for happens in the protected call. */
static bool call_user(mx_ctx *c, void *state, mx_array *const *in, int n_in, mx_list *out) {
  mx_work *w = state;
  lua_State *L = w->L;
  (void)n_in;
  w->tracers = in;
  if (!lua_checkstack(L, 16)) return mx_fail_memory(c, 16 * sizeof(void *)), false;
  lua_getiuservalue(L, w->self, 1);
  lua_pushlightuserdata(L, w);
  lua_pushvalue(L, w->args);
  lua_pushvalue(L, w->f);
  if (!mx_call(L, 3, 1)) return false;
  w->results = lua_gettop(L);
  const mx_flat *results = mx_flat_at(L, w->results);
  for (int i = 0; i < results->n; i++)
    if (results->leaves[i].kind == MX_LEAF_ARRAY && !mx_list_add(c, out, results->leaves[i].array)) return false;
  return true;
}

mx_function mx_work_function(mx_work *w) { return (mx_function){call_user, w}; }

void mx_push_results(lua_State *L, int like, int root, mx_array *const *x) {
  const mx_flat *from = mx_flat_at(L, like);
  if (mx_treedef_leaves(from->roots[root].def) == 1 && from->roots[root].def == mx_treedef_leaf(L)) {
    const mx_leaf *l = &from->leaves[from->roots[root].first];
    if (l->kind == MX_LEAF_ARRAY) mx_push(L, x[0]);
    else mx_leaf_push(L, like, from->roots[root].first);
    return;
  }
  mx_flat_new(L);
  int to = lua_gettop(L);
  mx_flat_like(L, to, like, root);
  int first = from->roots[root].first;
  for (int i = first, k = 0; i < mx_root_end(from, root); i++) {
    if (from->leaves[i].kind == MX_LEAF_ARRAY) mx_leaf_set_array(L, to, i - first, x[k++]);
    else mx_leaf_copy(L, to, i - first, like, i);
  }
  mx_flat_build(L, to, 0);
  lua_remove(L, to);
}

int mx_arrays_before(const mx_flat *f, int root) {
  int n = 0, end = root < f->n_roots ? f->roots[root].first : f->n;
  for (int i = 0; i < end; i++) n += f->leaves[i].kind == MX_LEAF_ARRAY;
  return n;
}

void mx_push_template(lua_State *L, int like) {
  mx_flat_new(L);
  int to = lua_gettop(L);
  const mx_flat *from = mx_flat_at(L, like);
  for (int r = 0; r < from->n_roots; r++) mx_flat_like(L, to, like, r);
  mx_flat *f = mx_flat_at(L, to);
  for (int i = 0; i < from->n; i++) {
    if (from->leaves[i].kind == MX_LEAF_ARRAY) f->leaves[i] = (mx_leaf){.kind = MX_LEAF_ARRAY};
    else mx_leaf_copy(L, to, i, like, i);
  }
}
