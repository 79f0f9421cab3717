/* jit.c: compiled functions. A call is flattened into a key; the first entry of the cache that fits runs its plan.
 *
 *     key = structure of the arguments, avals of arrays, values of static leaves,
 *           captured values (upvalues, and those of Lua functions among them): arrays by aval, the rest by identity or
 * value
 *
 * Captured arrays, Parameters and Modules are inputs behind the arguments' own: their present values are used at every
 * call. Entries are kept most recently used first.
 */
#include "call.h"
#include "tree_impl.h"

/* -- keys ------------------------------------------------------------------------------------------------------------
 */

typedef struct key_leaf {
  mx_leaf_kind kind;
  bool traced;
  mx_aval aval;  /* of a traced leaf */
  int alias;     /* captured arrays: the first leaf that is the same array */
  mx_leaf value; /* of a static one */
} key_leaf;

typedef struct key_part { /* one flat: the arguments, or what was captured */
  int n, n_roots;
  key_leaf *leaves;
  const mx_treedef **defs;
} key_part;

typedef struct capture { /* a captured value that is no array, Parameter or Module */
  int type;              /* Lua type */
  union {
    const void *identity;
    lua_Number number;
    lua_Integer integer;
  };
  bool is_integer;
} capture;

typedef struct entry {
  key_part args, captured;
  int n_captures, n_in;
  capture *captures;
  mx_program *program;
  mx_plan *plan; /* made at the first run outside other transformations */
  int anchor;    /* in the anchors table: {key of arguments, key of captured, results, captured values} */
  mx_arena memory;
  int running;  /* calls that are under way: a finalizer that they meet may call or clear the function */
  bool dropped; /* the last of them frees it */
} entry;

typedef struct jit {
  mlax_engine *engine;
  mx_ctx *c;
  entry **entries; /* most recently used first */
  int n, cap, max, next_anchor;
  int64_t traces;
  int widest;     /* inputs and results of the widest entry so far */
  bool hidden;    /* what is compiled is a Module */
  bool explained; /* UV_EXPLAIN is set */
  int n_static;
  int *statics;      /* positions of static arguments, from 0 */
  capture *captures; /* of the running call */
  int n_captures, captures_cap;
  int integer_leaf, integer_traces; /* the static integer that keeps changing */
} jit;

/* User values: what is compiled; what entries anchor; the text of explain(); the flats of the last call, for the next
 * one. */
enum { UV_FUNCTION = 1, UV_ANCHORS, UV_EXPLAIN, UV_ARGS, UV_CAPTURED, UV_COUNT = UV_CAPTURED };

static void entry_free(entry *e) {
  if (!e) return;
  mlax_engine *engine = e->memory.engine;
  mx_plan_release(e->plan);
  mx_program_release(e->program);
  mx_arena_release(&e->memory);
  mx_free(engine, e, sizeof *e);
}

static void entry_drop(entry *e) {
  if (e->running) e->dropped = true;
  else entry_free(e);
}

static jit *to_jit(lua_State *L, int idx) {
  jit *j = lua_touserdata(L, idx);
  bool ours = j && lua_getmetatable(L, idx);
  if (ours) {
    ours = lua_topointer(L, -1) == MX_STATE(L)->jit_meta;
    lua_pop(L, 1);
  }
  if (!ours) mx_error(L, "a jitted function is needed (got %s); call its methods with ':'", luaL_typename(L, idx));
  return j;
}

/* -- captured values -------------------------------------------------------------------------------------------------
 */

/* The walk over upvalues. Values are pushed on a table (at `seen`) so that identities stay valid as long as the entry.
 */
typedef struct capturing {
  jit *j;
  int flat; /* of arrays, Parameters, Modules */
  int seen; /* list of all captured values */
} capturing;

static bool is_visited(const jit *j, const capture *v) {
  for (int i = 0; i < j->n_captures; i++)
    if (j->captures[i].type == v->type && j->captures[i].identity == v->identity) return true;
  return false;
}

static bool is_jit(lua_State *L, int idx) {
  if (lua_type(L, idx) != LUA_TUSERDATA || !lua_getmetatable(L, idx)) return false;
  bool yes = lua_topointer(L, -1) == MX_STATE(L)->jit_meta;
  lua_pop(L, 1);
  return yes;
}

static void capture_function(lua_State *L, capturing *w, int f, int depth);
static void capture_value(lua_State *L, capturing *w, int idx, int depth);

/* What a function, or the function that a jitted one compiles, captures in its turn. */
static void capture_within(lua_State *L, capturing *w, int idx, int depth) {
  if (lua_type(L, idx) == LUA_TFUNCTION) {
    if (!lua_iscfunction(L, idx)) capture_function(L, w, idx, depth + 1);
    return;
  }
  lua_getiuservalue(L, idx, UV_FUNCTION);
  capture_value(L, w, lua_gettop(L), depth + 1);
  lua_pop(L, 1);
}

static void capture_value(lua_State *L, capturing *w, int idx, int depth) {
  jit *j = w->j;
  if (mx_is_array(L, idx) || mx_is_module(L, idx) || mx_to_parameter(L, idx)) {
    mx_flat_add(L, w->flat, idx);
    return;
  }
  if (depth > 100) mx_error(L, "captured functions are nested more than 100 deep");
  luaL_checkstack(L, 8, "captured functions");
  capture v = {.type = lua_type(L, idx)};
  bool callable = v.type == LUA_TFUNCTION || is_jit(L, idx);
  if (callable) v.identity = lua_topointer(L, idx);
  if (callable && is_visited(j, &v)) return;
  if (v.type == LUA_TNUMBER) {
    v.is_integer = lua_isinteger(L, idx);
    if (v.is_integer) v.integer = lua_tointeger(L, idx);
    else v.number = lua_tonumber(L, idx);
  } else if (v.type == LUA_TBOOLEAN) {
    v.integer = lua_toboolean(L, idx);
  } else {
    v.identity = lua_topointer(L, idx);
  }
  mx_ok(L, mx_grow(j->c, &j->captures, &j->captures_cap, j->n_captures + 1, sizeof v));
  j->captures[j->n_captures++] = v;
  if (w->seen && v.type != LUA_TNIL) {
    lua_pushvalue(L, idx);
    lua_rawseti(L, w->seen, j->n_captures);
  }
  if (callable) capture_within(L, w, idx, depth);
}

static void capture_function(lua_State *L, capturing *w, int f, int depth) {
  for (int i = 1;; i++) {
    const char *name = lua_getupvalue(L, f, i);
    if (!name) break;
    if (strcmp(name, "_ENV") != 0) capture_value(L, w, lua_gettop(L), depth);
    lua_pop(L, 1);
  }
}

/* -- matching --------------------------------------------------------------------------------------------------------
 */

static bool same_value(const mx_leaf *a, const mx_leaf *b) {
  if (a->kind != b->kind) return false;
  switch (a->kind) {
  case MX_LEAF_FLOAT: return memcmp(&a->number, &b->number, sizeof a->number) == 0;
  case MX_LEAF_INT: return a->integer == b->integer;
  case MX_LEAF_BOOL: return a->boolean == b->boolean;
  default: return a->identity == b->identity;
  }
}

static bool leaf_fits(const key_leaf *k, const mx_leaf *l, const mx_flat *f, bool aliases) {
  if (k->kind != l->kind) return false;
  if (k->kind == MX_LEAF_ARRAY) {
    if (!mx_aval_equal(&k->aval, &l->array->aval)) return false;
    return !aliases || f->leaves[k->alias].array == l->array;
  }
  return k->traced || same_value(&k->value, l);
}

/* The first leaf that does not fit, n where all do, -1 where the structure differs. */
static int first_misfit(const key_part *k, const mx_flat *f, bool aliases) {
  if (k->n != f->n || k->n_roots != f->n_roots) return -1;
  for (int r = 0; r < k->n_roots; r++)
    if (k->defs[r] != f->roots[r].def) return -1;
  for (int i = 0; i < k->n; i++)
    if (!leaf_fits(&k->leaves[i], &f->leaves[i], f, aliases)) return i;
  return k->n;
}

static int alias_of(const mx_flat *f, int leaf) {
  for (int i = 0; i < leaf; i++)
    if (f->leaves[i].kind == MX_LEAF_ARRAY && f->leaves[i].array == f->leaves[leaf].array) return i;
  return leaf;
}

/* Two different captured arrays that were one when traced, or the other way round: another key. */
static bool aliases_fit(const key_part *k, const mx_flat *f) {
  for (int i = 0; i < k->n; i++)
    if (k->leaves[i].kind == MX_LEAF_ARRAY && alias_of(f, i) != k->leaves[i].alias) return false;
  return true;
}

static bool captures_fit(const entry *e, const jit *j) {
  if (e->n_captures != j->n_captures) return false;
  for (int i = 0; i < j->n_captures; i++) {
    const capture *a = &e->captures[i], *b = &j->captures[i];
    if (a->type != b->type || a->is_integer != b->is_integer || a->integer != b->integer) return false;
  }
  return true;
}

static bool fits(const entry *e, const jit *j, const mx_flat *args, const mx_flat *captured) {
  return first_misfit(&e->args, args, false) == args->n && captures_fit(e, j) &&
         first_misfit(&e->captured, captured, true) == captured->n && aliases_fit(&e->captured, captured);
}

static entry *find(jit *j, const mx_flat *args, const mx_flat *captured) {
  for (int i = 0; i < j->n; i++) {
    entry *e = j->entries[i];
    if (!fits(e, j, args, captured)) continue;
    memmove(j->entries + 1, j->entries, (size_t)i * sizeof *j->entries);
    return j->entries[0] = e;
  }
  return NULL;
}

/* -- explaining ------------------------------------------------------------------------------------------------------
 */

static void push_leaf_text(lua_State *L, const key_leaf *k) {
  mx_text t;
  if (k->kind == MX_LEAF_ARRAY) lua_pushstring(L, mx_aval_text(&t, &k->aval));
  else if (k->kind == MX_LEAF_INT) lua_pushfstring(L, "the integer %I", (LUAI_UACINT)k->value.integer);
  else if (k->kind == MX_LEAF_FLOAT) lua_pushfstring(L, "the number %f", (LUAI_UACNUMBER)k->value.number);
  else if (k->kind == MX_LEAF_BOOL) lua_pushstring(L, k->value.boolean ? "true" : "false");
  else lua_pushstring(L, "another static value");
}

static int root_of(const mx_flat *f, int leaf) {
  int r = 0;
  while (r + 1 < f->n_roots && f->roots[r + 1].first <= leaf) r++;
  return r;
}

/* "argument 1, at w.data: got float32[4], traced for float32[3]" */
static void push_leaf_reason(lua_State *L, const char *what, int at, const key_part *k, int leaf, const key_leaf *now) {
  const mx_flat *f = mx_flat_at(L, at);
  int root = root_of(f, leaf);
  mx_flat_path(L, at, root, leaf - f->roots[root].first);
  const char *path = lua_tostring(L, -1);
  push_leaf_text(L, now);
  push_leaf_text(L, &k->leaves[leaf]);
  lua_pushfstring(L, "%s %d%s%s: got %s, was traced for %s", what, root + 1, *path ? ", at " : "", path,
                  lua_tostring(L, -2), lua_tostring(L, -1));
}

static key_leaf leaf_key(const mx_flat *f, int i, bool is_static, bool captured) {
  const mx_leaf *l = &f->leaves[i];
  key_leaf k = {.kind = l->kind, .alias = i};
  k.traced = l->kind == MX_LEAF_ARRAY || (l->kind == MX_LEAF_FLOAT && !is_static && !captured);
  if (l->kind == MX_LEAF_ARRAY) k.aval = l->array->aval;
  else k.value = *l;
  if (captured && l->kind == MX_LEAF_ARRAY) k.alias = alias_of(f, i);
  return k;
}

static bool push_part_reason(lua_State *L, int key_field, const char *what, const key_part *k, int at) {
  const mx_flat *f = mx_flat_at(L, at);
  int i = first_misfit(k, f, false);
  if (i == f->n) return false;
  if (i >= 0) {
    key_leaf now = leaf_key(f, i, true, false);
    push_leaf_reason(L, what, at, k, i, &now);
    return true;
  }
  if (k->n_roots != f->n_roots) {
    lua_pushfstring(L, "%d %ss were given, was traced for %d", f->n_roots, what, k->n_roots);
    return true;
  }
  lua_rawgeti(L, 4, key_field);
  for (int r = 0; r < f->n_roots; r++)
    if (k->defs[r] != f->roots[r].def) {
      mx_flat_difference(L, at, r, lua_gettop(L), r);
      lua_pushfstring(L, "%s %d has another structure: %s", what, r + 1,
                      lua_isnil(L, -1) ? "other static values" : lua_tostring(L, -1));
      return true;
    }
  return false;
}

/* What differs from an entry. stack: jit, arguments, captured values, record of the entry, entry */
static int explain_body(lua_State *L) {
  const entry *e = lua_touserdata(L, 5);
  if (push_part_reason(L, 1, "argument", &e->args, 2)) return 1;
  if (push_part_reason(L, 2, "captured value", &e->captured, 3)) return 1;
  lua_pushliteral(L, "a captured variable has another value");
  return 1;
}

/* Sets the text of explain(): what differs from the entry used last, which a finalizer may drop meanwhile. */
static void explain(lua_State *L, jit *j, int args, int captured) {
  int top = lua_gettop(L), status = LUA_OK;
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushcclosure(L, explain_body, 1);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, args);
  lua_pushvalue(L, captured);
  if (j->n == 0) lua_pushliteral(L, "traced for the first time");
  else {
    entry *e = j->entries[0];
    lua_getiuservalue(L, 1, UV_ANCHORS);
    lua_rawgeti(L, -1, e->anchor);
    lua_remove(L, -2);
    lua_pushlightuserdata(L, e);
    e->running++;
    status = lua_pcall(L, 5, 1, 0);
    if (!--e->running && e->dropped) entry_free(e);
  }
  if (status != LUA_OK) lua_error(L);
  lua_setiuservalue(L, 1, UV_EXPLAIN);
  j->explained = true;
  lua_settop(L, top);
}

/* The eighth trace that one integer argument causes warns, once. */
static void watch_integers(lua_State *L, jit *j, int at) {
  const mx_flat *args = mx_flat_at(L, at);
  if (j->n == 0) return;
  int i = first_misfit(&j->entries[0]->args, args, false);
  if (i < 0 || i == args->n || args->leaves[i].kind != MX_LEAF_INT || j->entries[0]->args.leaves[i].kind != MX_LEAF_INT)
    return;
  if (j->integer_leaf != i) j->integer_traces = 1;
  j->integer_leaf = i;
  if (++j->integer_traces != 8) return;
  int root = root_of(args, i), top = lua_gettop(L);
  mx_flat_path(L, at, root, i - args->roots[root].first);
  lua_pushfstring(
      L,
      "mlax: jit: argument %d%s%s is an integer that changes from call to call, and each value traces anew (8 traces): "
      "pass mlax.array(i, \"int32\")",
      root + 1, *lua_tostring(L, -1) ? " at " : "", lua_tostring(L, -1));
  lua_warning(L, lua_tostring(L, -1), 0);
  lua_settop(L, top);
}

/* -- tracing ---------------------------------------------------------------------------------------------------------
 */

static bool is_static_arg(const jit *j, int arg) {
  for (int i = 0; i < j->n_static; i++)
    if (j->statics[i] == arg) return true;
  return false;
}

static bool make_key(mx_ctx *c, entry *e, const jit *j, const mx_flat *f, bool captured, bool hidden, key_part *k) {
  k->n = f->n;
  k->n_roots = f->n_roots;
  k->leaves = mx_arena_alloc(c, &e->memory, (size_t)(f->n + 1) * sizeof *k->leaves);
  k->defs = mx_arena_alloc(c, &e->memory, (size_t)(f->n_roots + 1) * sizeof *k->defs);
  if (!k->leaves || !k->defs) return false;
  for (int r = 0; r < f->n_roots; r++) {
    bool is_static = !captured && is_static_arg(j, r - hidden);
    k->defs[r] = f->roots[r].def;
    for (int i = f->roots[r].first; i < mx_root_end(f, r); i++) k->leaves[i] = leaf_key(f, i, is_static, captured);
  }
  return true;
}

/* Inputs: traced leaves of the arguments, then captured arrays. */
static int collect(mx_ctx *c, const entry *e, const mx_flat *args, const mx_flat *captured, mx_array **in) {
  int n = 0;
  for (int i = 0; i < args->n; i++) {
    if (!e->args.leaves[i].traced) continue;
    if (args->leaves[i].kind == MX_LEAF_ARRAY) in[n] = args->leaves[i].array;
    else if ((in[n] = mx_keep(c, mx_array_of_double(c, MLAX_FLOAT32, args->leaves[i].number)))) in[n]->aval.weak = true;
    else return -1;
    n++;
  }
  for (int i = 0; i < captured->n; i++)
    if (captured->leaves[i].kind == MX_LEAF_ARRAY) in[n++] = captured->leaves[i].array;
  return n;
}

static bool trace(mx_work *w, entry *e, const mx_flat *args, const mx_flat *captured, mx_array **in, mx_array **known) {
  const mx_aval **avals = mx_arena_alloc(w->c, &w->memory, (size_t)(e->n_in + 1) * sizeof *avals);
  if (!avals) return false;
  for (int i = 0; i < e->n_in; i++) avals[i] = &in[i]->aval;
  for (int i = 0; i < args->n; i++)
    if (e->args.leaves[i].traced) w->leaf[w->n++] = i;
  for (int i = w->n; i < e->n_in; i++) known[i] = in[i];
  (void)captured;
  return mx_stage(w->c, mx_work_function(w), avals, known, e->n_in, &e->program, &w->captured);
}

/* Pushes what an entry needs of Lua. [-0, +1] */
static void push_record(lua_State *L, int args, int captured, int results, int seen) {
  lua_createtable(L, 4, 0);
  mx_push_template(L, args);
  lua_rawseti(L, -2, 1);
  mx_push_template(L, captured);
  lua_rawseti(L, -2, 2);
  mx_push_template(L, results);
  lua_rawseti(L, -2, 3);
  lua_pushvalue(L, seen);
  lua_rawseti(L, -2, 4);
}

static void evict(lua_State *L, jit *j) {
  while (j->n > j->max) {
    entry *e = j->entries[--j->n];
    lua_getiuservalue(L, 1, UV_ANCHORS);
    lua_pushnil(L);
    lua_rawseti(L, -2, e->anchor);
    lua_pop(L, 1);
    entry_drop(e);
  }
}

static entry *entry_new(lua_State *L, jit *j, const mx_flat *args, const mx_flat *captured, bool hidden) {
  entry *e = mx_new(j->c, sizeof *e);
  mx_ok(L, e != NULL);
  e->memory.engine = j->engine;
  bool ok =
      make_key(j->c, e, j, args, false, hidden, &e->args) && make_key(j->c, e, j, captured, true, false, &e->captured);
  e->n_captures = j->n_captures;
  e->captures = ok ? mx_arena_alloc(j->c, &e->memory, (size_t)(j->n_captures + 1) * sizeof *e->captures) : NULL;
  if (!e->captures) {
    entry_free(e);
    mx_raise(L);
  }
  if (j->n_captures) memcpy(e->captures, j->captures, (size_t)j->n_captures * sizeof *e->captures);
  for (int i = 0; i < args->n; i++) e->n_in += e->args.leaves[i].traced;
  for (int i = 0; i < captured->n; i++) e->n_in += captured->leaves[i].kind == MX_LEAF_ARRAY;
  return e;
}

/* -- calling ---------------------------------------------------------------------------------------------------------
 */

static bool under_trace(const mx_ctx *c, const mx_program *p, mx_array *const *in, int n) {
  if (p->collective && c->trace) return true;
  for (const mx_trace *t = c->trace; t; t = t->parent)
    if (t->kind == MX_TRACE_STAGE) return true;
  for (int i = 0; i < n; i++)
    if (mx_is_tracer(in[i])) return true;
  return false;
}

static bool run_now(mx_ctx *c, entry *e, mx_array *const *in, int n, mx_array **out) {
  if (under_trace(c, e->program, in, n)) return mx_program_eval(c, e->program, in, out);
  if (!e->plan && !(e->plan = mx_plan_new(c, e->program))) return false;
  return mx_plan_run(c, e->plan, in, out);
}

static bool run(jit *j, entry *e, mx_array *const *in, int n, mx_array **out) {
  e->running++;
  bool ok = run_now(j->c, e, in, n, out);
  if (!--e->running && e->dropped) entry_free(e);
  return ok;
}

static int push_all(lua_State *L, int results, mx_array *const *out) {
  const mx_flat *f = mx_flat_at(L, results);
  int base = lua_gettop(L);
  luaL_checkstack(L, f->n_roots + 8, "too many results");
  for (int r = 0; r < f->n_roots; r++) mx_push_results(L, results, r, out + mx_arrays_before(f, r));
  return lua_gettop(L) - base;
}

enum { FEW = 64 };

/* Room for the inputs and results of any entry: `few`, or a userdata. To be asked for before an entry is looked up,
 * since finalizers may run here. [-0, +0 or 1] */
static mx_array **room(lua_State *L, const jit *j, mx_array **few) {
  mx_array **at = few;
  for (int have = FEW; have < j->widest;) {
    have = j->widest;
    if (at != few) lua_pop(L, 1);
    at = lua_newuserdatauv(L, (size_t)have * sizeof *at, 0);
  }
  return at;
}

/* Up to the end of `run` no Lua object is made: the entry stays what it is. */
static int run_entry(lua_State *L, jit *j, entry *e, int args, int captured, mx_array **in) {
  mx_array **out = in + e->n_in;
  lua_getiuservalue(L, 1, UV_ANCHORS);
  lua_rawgeti(L, -1, e->anchor);
  lua_rawgeti(L, -1, 3);
  int results = lua_gettop(L), n = collect(j->c, e, mx_flat_at(L, args), mx_flat_at(L, captured), in);
  mx_ok(L, n >= 0 && run(j, e, in, n, out));
  return push_all(L, results, out);
}

/* A trace that used values of an outer trace belongs to this one call. */
static int run_once(lua_State *L, mx_work *w, entry *e, mx_array **in) {
  int n_in = e->n_in + w->captured.n;
  mx_array **all = mx_arena_alloc(w->c, &w->memory, (size_t)(n_in + e->program->n_out + 1) * sizeof *all);
  mx_ok(L, all != NULL);
  memcpy(all, in, (size_t)e->n_in * sizeof *all);
  if (w->captured.n) memcpy(all + e->n_in, w->captured.items, (size_t)w->captured.n * sizeof *all);
  mx_ok(L, mx_program_eval(w->c, e->program, all, all + n_in));
  return push_all(L, w->results, all + n_in);
}

/* Puts a finished entry first. stack: ..., record. [-1, +0] */
static void insert(lua_State *L, jit *j, entry *e) {
  e->anchor = j->next_anchor++;
  lua_getiuservalue(L, 1, UV_ANCHORS);
  lua_insert(L, -2);
  lua_rawseti(L, -2, e->anchor); /* may raise; runs no finalizer */
  lua_pop(L, 1);
  memmove(j->entries + 1, j->entries, (size_t)j->n * sizeof *j->entries);
  j->entries[0] = e;
  j->n++;
}

static void free_owned(mx_work *w) { entry_free(w->owned); }

static int trace_and_run(lua_State *L, jit *j, int f, int args, int captured, int seen, bool hidden) {
  explain(L, j, args, captured);
  watch_integers(L, j, args);
  mx_work *w = mx_work_over(L, f, args, hidden);
  entry *e = entry_new(L, j, mx_flat_at(L, args), mx_flat_at(L, captured), hidden);
  w->owned = e; /* until the jit owns it */
  w->free_owned = free_owned;
  mx_array **in = mx_arena_alloc(j->c, &e->memory, 2 * (size_t)(e->n_in + 1) * sizeof *in);
  mx_ok(L, in && collect(j->c, e, mx_flat_at(L, args), mx_flat_at(L, captured), in) >= 0);
  j->traces++;
  mx_ok(L, trace(w, e, mx_flat_at(L, args), mx_flat_at(L, captured), in, in + e->n_in + 1));
  if (w->captured.n) {
    int n = run_once(L, w, e, in);
    mx_work_done(w);
    return n;
  }
  push_record(L, args, captured, w->results, seen);
  if (j->widest < e->n_in + e->program->n_out) j->widest = e->n_in + e->program->n_out;
  mx_array *few[FEW], **at = room(L, j, few);
  if (at != few) lua_insert(L, -2);
  mx_ok(L, mx_grow(j->c, &j->entries, &j->cap, j->n + 1, sizeof *j->entries));
  insert(L, j, e);
  w->owned = NULL;
  evict(L, j);
  return run_entry(L, j, e, args, captured, at);
}

static void check_static_args(lua_State *L, const jit *j, const mx_flat *args, bool hidden) {
  for (int k = 0; k < j->n_static; k++) {
    int r = j->statics[k] + hidden;
    if (r >= args->n_roots) continue;
    for (int i = args->roots[r].first; i < mx_root_end(args, r); i++)
      if (args->leaves[i].kind == MX_LEAF_ARRAY)
        mx_error(L, "static argument %d holds an array (need numbers, strings, booleans or functions)",
                 j->statics[k] + 1);
  }
}

/* The flat that lies in a user value, which is taken out: a call of the same function from within takes another. [-0,
 * +1] */
static int take_flat(lua_State *L, int which) {
  if (lua_getiuservalue(L, 1, which) == LUA_TUSERDATA) {
    lua_pushnil(L);
    lua_setiuservalue(L, 1, which);
  } else {
    lua_pop(L, 1);
    mx_flat_new(L);
  }
  return lua_gettop(L);
}

static void put_flat(lua_State *L, int which, int flat) {
  mx_flat_clear(L, flat);
  lua_pushvalue(L, flat);
  lua_setiuservalue(L, 1, which);
}

static void capture_all(lua_State *L, jit *j, int f, int flat, int seen) {
  capturing w = {j, flat, seen};
  j->n_captures = 0;
  if (!j->hidden && (lua_type(L, f) == LUA_TFUNCTION || is_jit(L, f))) capture_within(L, &w, f, 0);
}

static int ljit_call(lua_State *L) {
  mx_enter(L, "jit");
  int n_args = lua_gettop(L) - 1;
  jit *j = to_jit(L, 1);
  luaL_checkstack(L, 24, "too many arguments");
  lua_getiuservalue(L, 1, UV_FUNCTION);
  int f = lua_gettop(L), args = take_flat(L, UV_ARGS), captured = take_flat(L, UV_CAPTURED), n;
  if (j->hidden) mx_flat_add(L, args, f);
  for (int i = 0; i < n_args; i++) mx_flat_add(L, args, 2 + i);
  capture_all(L, j, f, captured, 0);
  if (j->n_static) check_static_args(L, j, mx_flat_at(L, args), j->hidden);
  mx_array *few[FEW], **in = room(L, j, few);
  entry *e = find(j, mx_flat_at(L, args), mx_flat_at(L, captured));
  if (e) {
    if (j->explained) {
      lua_pushnil(L);
      lua_setiuservalue(L, 1, UV_EXPLAIN);
      j->explained = false;
    }
    n = run_entry(L, j, e, args, captured, in);
  } else {
    lua_newtable(L);
    int seen = lua_gettop(L);
    mx_flat_clear(L, captured);
    capture_all(L, j, f, captured, seen);
    n = trace_and_run(L, j, f, args, captured, seen, j->hidden);
  }
  put_flat(L, UV_ARGS, args);
  put_flat(L, UV_CAPTURED, captured);
  return n;
}

/* -- the object ------------------------------------------------------------------------------------------------------
 */

static int ljit_traces(lua_State *L) {
  mx_enter(L, "traces");
  lua_pushinteger(L, to_jit(L, 1)->traces);
  return 1;
}

static int ljit_explain(lua_State *L) {
  mx_enter(L, "explain");
  to_jit(L, 1);
  lua_getiuservalue(L, 1, UV_EXPLAIN);
  return 1;
}

static void clear(jit *j) {
  while (j->n > 0) entry_drop(j->entries[--j->n]);
}

static int ljit_clear(lua_State *L) {
  mx_enter(L, "clear");
  clear(to_jit(L, 1));
  lua_newtable(L);
  lua_setiuservalue(L, 1, UV_ANCHORS);
  return 0;
}

static int ljit_function(lua_State *L) { /* core.jit_function(j): what it compiles */
  mx_enter(L, "jit");
  to_jit(L, 1);
  lua_getiuservalue(L, 1, UV_FUNCTION);
  return 1;
}

static int ljit_gc(lua_State *L) {
  jit *j = lua_touserdata(L, 1);
  if (!j->engine) return 0;
  clear(j);
  mlax_engine *e = j->engine;
  mx_free(e, j->entries, (size_t)j->cap * sizeof *j->entries);
  mx_free(e, j->statics, (size_t)j->n_static * sizeof *j->statics);
  mx_free(e, j->captures, (size_t)j->captures_cap * sizeof *j->captures);
  memset(j, 0, sizeof *j);
  mlax_engine_release(e);
  return 0;
}

static int ljit_tostring(lua_State *L) {
  jit *j = lua_touserdata(L, 1);
  lua_pushfstring(L, "mlax.jit: %d traces (%p)", (int)j->traces, (void *)j);
  return 1;
}

static const luaL_Reg methods[] = {
    {"traces", ljit_traces}, {"explain", ljit_explain}, {"clear", ljit_clear}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__call", ljit_call}, {"__gc", ljit_gc}, {"__tostring", ljit_tostring}, {NULL, NULL}};

static const char jit_key = 0;

/* core.jit(f, static_argnums (list), max_traces) */
static int ljit(lua_State *L) {
  mx_ctx *c = mx_enter(L, "jit");
  jit *j = lua_newuserdatauv(L, sizeof *j, UV_COUNT);
  memset(j, 0, sizeof *j);
  int self = lua_gettop(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &jit_key);
  mx_own(L);
  j->c = c;
  j->engine = mx_engine_retain(c->engine);
  j->max = (int)mx_check_int(L, 3, "max_traces");
  if (j->max < 1) mx_error(L, "max_traces must be at least 1 (got %d)", j->max);
  j->hidden = mx_is_module(L, 1);
  j->integer_leaf = -1;
  j->next_anchor = 1;
  int n = (int)lua_rawlen(L, 2);
  if (n) {
    j->statics = mx_new(c, (size_t)n * sizeof *j->statics);
    mx_ok(L, j->statics != NULL);
    j->n_static = n;
  }
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 2, i + 1);
    int64_t at = mx_check_int(L, -1, "static_argnums");
    if (at < 1) mx_error(L, "static_argnums %lld: arguments count from 1", (long long)at);
    j->statics[i] = (int)at - 1;
    lua_pop(L, 1);
  }
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, self, UV_FUNCTION);
  lua_newtable(L);
  lua_setiuservalue(L, self, UV_ANCHORS);
  return 1;
}

static int lis_jit(lua_State *L) { /* core.is_jit(v) */
  lua_settop(L, 1);
  lua_pushboolean(L, is_jit(L, 1));
  return 1;
}

static const mx_reg functions[] = {{"jit", ljit, MX_IN_CORE},
                                   {"jit_function", ljit_function, MX_IN_CORE},
                                   {"is_jit", lis_jit, MX_IN_CORE},
                                   {NULL, NULL, 0}};

/* The methods table is core.jit_methods: the Lua half adds program and cost. */
void mx_open_jit(lua_State *L) {
  mx_register(L, functions);
  lua_createtable(L, 0, 6);
  lua_pushlightuserdata(L, mx_state_of(L));
  luaL_setfuncs(L, meta, 1);
  mx_state_of(L)->jit_meta = lua_topointer(L, -1);
  lua_createtable(L, 0, 8);
  lua_pushlightuserdata(L, mx_state_of(L));
  luaL_setfuncs(L, methods, 1);
  lua_pushvalue(L, -1);
  lua_setfield(L, -4, "jit_methods");
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "mlax.jit");
  lua_setfield(L, -2, "__name");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &jit_key);
}

void mx_open_transform(lua_State *L) {
  mx_open_grad(L);
  mx_open_vmap(L);
  mx_open_stage(L);
  mx_open_control(L);
}
