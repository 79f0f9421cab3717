/* program.c: building, finishing and checking programs. */
#include "program.h"

/* -- programs inside params ---------------------------------------------------------------------------------------- */

mx_programs *mx_programs_new(mx_ctx *c, int n, mx_program *const *items) {
  mx_programs *l = mx_new(c, sizeof *l + (size_t)n * sizeof *items);
  if (!l) return NULL;
  atomic_init(&l->refs, 1);
  l->n = n;
  for (int i = 0; i < n; i++) l->items[i] = mx_program_retain(items[i]);
  return l;
}

mx_programs *mx_programs_retain(mx_programs *l) {
  if (l) atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
  return l;
}

void mx_programs_release(mx_programs *l) {
  if (!l || atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1) return;
  mlax_engine *e = mx_engine_retain(l->items[0]->engine);
  for (int i = 0; i < l->n; i++) mx_program_release(l->items[i]);
  mx_free(e, l, sizeof *l + (size_t)l->n * sizeof *l->items);
  mlax_engine_release(e);
}

mx_pairs *mx_pairs_new(mx_ctx *c, int n) {
  mx_pairs *p = mx_new(c, sizeof *p + (size_t)n * sizeof *p->v);
  if (!p) return NULL;
  atomic_init(&p->refs, 1);
  p->engine = mx_engine_retain(c->engine);
  p->n = n;
  return p;
}

void mx_pairs_release(mx_pairs *p) {
  if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1) return;
  mlax_engine *e = p->engine;
  mx_free(e, p, sizeof *p + (size_t)p->n * sizeof *p->v);
  mlax_engine_release(e);
}

mx_string *mx_string_new(mx_ctx *c, const char *text, size_t length) {
  mx_string *s = mx_new(c, sizeof *s + length + 1);
  if (!s) return NULL;
  atomic_init(&s->refs, 1);
  s->engine = mx_engine_retain(c->engine);
  s->length = length;
  memcpy(s->text, text, length);
  return s;
}

void mx_string_release(mx_string *s) {
  if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1) return;
  mlax_engine *e = s->engine;
  mx_free(e, s, sizeof *s + s->length + 1);
  mlax_engine_release(e);
}

/* Params that refer to programs, pairs or a text hold a reference each. */
static void params_retain(const mx_primitive *prim, const mx_params *p) {
  for (const mx_field *f = prim->fields; p && f && f->kind != MX_FIELD_END; f++)
    if (f->kind == MX_FIELD_PROGRAMS) mx_programs_retain(*(mx_programs *const *)((const char *)p + f->offset));
  if (p && prim->id == MX_PRIM_ppermute) atomic_fetch_add(&p->axis_name.pairs->refs, 1);
  if (p && prim->id == MX_PRIM_debug_print) atomic_fetch_add(&p->print.format->refs, 1);
}

static void params_release(const mx_primitive *prim, const mx_params *p) {
  for (const mx_field *f = prim->fields; p && f && f->kind != MX_FIELD_END; f++)
    if (f->kind == MX_FIELD_PROGRAMS) mx_programs_release(*(mx_programs *const *)((const char *)p + f->offset));
  if (p && prim->id == MX_PRIM_ppermute) mx_pairs_release(p->axis_name.pairs);
  if (p && prim->id == MX_PRIM_debug_print) mx_string_release(p->print.format);
}

static bool program_names_axis(const mx_program *p, const char *name) {
  if (!p->collective || !name) return p->collective;
  for (int i = 0; i < p->n_eqn; i++)
    if (mx_params_name_axis(p->eqns[i].prim, p->eqns[i].params, name)) return true;
  return false;
}

bool mx_params_name_axis(const mx_primitive *prim, const mx_params *p, const char *name) {
  if (prim->id >= MX_PRIM_psum && prim->id <= MX_PRIM_axis_index) return !name || !strcmp(p->axis_name.name, name);
  for (const mx_field *f = prim->fields; p && f && f->kind != MX_FIELD_END; f++) {
    if (f->kind != MX_FIELD_PROGRAMS) continue;
    const mx_programs *l = *(mx_programs *const *)((const char *)p + f->offset);
    for (int i = 0; i < l->n; i++)
      if (program_names_axis(l->items[i], name)) return true;
  }
  return false;
}

bool mx_eqn_is_ordered(const mx_eqn *e) {
  if (e->prim->effect == MX_EFFECT_ORDERED) return true;
  for (const mx_field *f = e->prim->fields; e->params && f && f->kind != MX_FIELD_END; f++) {
    if (f->kind != MX_FIELD_PROGRAMS) continue;
    const mx_programs *l = *(mx_programs *const *)((const char *)e->params + f->offset);
    for (int i = 0; i < l->n; i++)
      if (l->items[i]->ordered) return true;
  }
  return false;
}

mx_program *mx_program_new(mx_ctx *c) {
  mx_program *p = mx_new(c, sizeof *p);
  if (!p) return NULL;
  atomic_init(&p->refs, 1);
  p->engine = mx_engine_retain(c->engine);
  p->arena.engine = p->engine;
  return p;
}

mx_program *mx_program_retain(mx_program *p) {
  if (p) atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
  return p;
}

void mx_program_release(mx_program *p) {
  if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1) return;
  mlax_engine *e = p->engine;
  if (atomic_load(&p->plan)) mx_plan_free(atomic_load(&p->plan));
  for (int i = 0; i < p->n_held; i++) params_release(p->held[i].prim, p->held[i].params);
  mx_free(e, p->held, (size_t)p->held_cap * sizeof *p->held);
  for (int i = 0; i < p->n_const; i++) mx_release(p->consts[i]);
  mx_free(e, p->avals, (size_t)p->avals_cap * sizeof *p->avals);
  mx_free(e, p->consts, (size_t)p->consts_cap * sizeof *p->consts);
  mx_free(e, p->eqns, (size_t)p->eqns_cap * sizeof *p->eqns);
  mx_free(e, p->outs, (size_t)p->outs_cap * sizeof *p->outs);
  mx_free(e, p->const_vars, (size_t)p->const_vars_cap * sizeof *p->const_vars);
  mx_free(e, p->const_hash, (size_t)p->const_hash_cap * sizeof *p->const_hash);
  mx_arena_release(&p->arena);
  mx_free(e, p, sizeof *p);
  mlax_engine_release(e);
}

/* -- lists --------------------------------------------------------------------------------------------------------- */

bool mx_list_add(mx_ctx *c, mx_list *l, mx_array *x) {
  if (!mx_grow(c, &l->items, &l->cap, l->n + 1, sizeof *l->items)) return false;
  l->items[l->n++] = mx_retain(x);
  return true;
}

void mx_list_release(mx_ctx *c, mx_list *l) {
  for (int i = 0; i < l->n; i++) mx_release(l->items[i]);
  mx_free(c->engine, l->items, (size_t)l->cap * sizeof *l->items);
  *l = (mx_list){0};
}

/* -- building ------------------------------------------------------------------------------------------------------ */

int32_t mx_program_var(mx_ctx *c, mx_program *p, const mx_aval *a) {
  if (p->n_var == INT32_MAX) return mx_fail(c, MLAX_LIMIT, "a program of more than 2^31 values"), -1;
  mx_aval *copy = mx_arena_alloc(c, &p->arena, sizeof *copy);
  if (!copy || !mx_grow(c, &p->avals, &p->avals_cap, p->n_var + 1, sizeof *p->avals)) return -1;
  *copy = *a;
  p->avals[p->n_var] = copy;
  return p->n_var++;
}

int32_t mx_program_input(mx_ctx *c, mx_program *p, const mx_aval *a) {
  int32_t v = mx_program_var(c, p, a);
  if (v >= 0) p->n_in++;
  return v;
}

/* Scalars are one constant when they hold the same bytes; other arrays when they are the same array. */
static bool is_literal(const mx_array *x) { return x->tag == MX_VALUE && x->aval.ndim == 0; }

static uint64_t const_hash(const mx_array *x) {
  if (!is_literal(x)) return mx_hash_mix(7, (uint64_t)(uintptr_t)x);
  uint64_t h = mx_hash_bytes(x->aval.dtype, mx_data(x), mx_itemsize(x->aval.dtype));
  return mx_hash_mix(h, x->aval.weak);
}

static bool const_same(const mx_array *x, const mx_array *y) {
  if (x == y) return true;
  if (!is_literal(x) || !is_literal(y) || x->aval.dtype != y->aval.dtype || x->aval.weak != y->aval.weak) return false;
  return memcmp(mx_data(x), mx_data(y), mx_itemsize(x->aval.dtype)) == 0;
}

/* The slot where x is or would be; the table is never full. */
static int const_slot(const mx_program *p, const mx_array *x) {
  int mask = p->const_hash_cap - 1, i = (int)(const_hash(x) & (uint64_t)mask);
  while (p->const_hash[i] && !const_same(p->consts[p->const_hash[i] - 1], x)) i = (i + 1) & mask;
  return i;
}

static bool const_rehash(mx_ctx *c, mx_program *p) {
  if (p->n_const * 2 < p->const_hash_cap) return true;
  int cap = p->const_hash_cap ? p->const_hash_cap * 2 : 16;
  int32_t *table = mx_new(c, (size_t)cap * sizeof *table);
  if (!table) return false;
  mx_free(p->engine, p->const_hash, (size_t)p->const_hash_cap * sizeof *table);
  p->const_hash = table;
  p->const_hash_cap = cap;
  for (int k = 0; k < p->n_const; k++) table[const_slot(p, p->consts[k])] = k + 1;
  return true;
}

int32_t mx_program_const(mx_ctx *c, mx_program *p, mx_array *x) {
  if (!const_rehash(c, p)) return -1;
  int slot = const_slot(p, x);
  if (p->const_hash[slot]) return p->const_vars[p->const_hash[slot] - 1];
  if (!mx_grow(c, &p->consts, &p->consts_cap, p->n_const + 1, sizeof *p->consts)) return -1;
  if (!mx_grow(c, &p->const_vars, &p->const_vars_cap, p->n_const + 1, sizeof *p->const_vars)) return -1;
  int32_t v = mx_program_var(c, p, &x->aval);
  if (v < 0) return -1;
  p->consts[p->n_const] = mx_retain(x);
  atomic_store_explicit(&x->pinned, true, memory_order_relaxed);
  p->const_vars[p->n_const++] = v;
  p->const_hash[slot] = p->n_const;
  return v;
}

int32_t mx_program_equation(mx_ctx *c, mx_program *p, const mx_op *o, const int32_t *in, uint32_t site) {
  if (!mx_grow(c, &p->eqns, &p->eqns_cap, p->n_eqn + 1, sizeof *p->eqns)) return -1;
  mx_eqn e = {.prim = o->prim, .out = p->n_var, .n_in = (uint16_t)o->n_in, .n_out = (uint16_t)o->n_out, .site = site};
  if (o->n_in > UINT16_MAX)
    return mx_fail(c, MLAX_LIMIT, "an operation with %d operands (need at most 65535)", o->n_in), -1;
  e.in = mx_arena_alloc(c, &p->arena, (size_t)(o->n_in + 1) * sizeof *e.in);
  if (!e.in) return -1;
  for (int i = 0; i < o->n_in; i++) e.in[i] = in[i];
  if (o->p) {
    mx_params *params = mx_arena_alloc(c, &p->arena, sizeof *params);
    if (!params) return -1;
    memcpy(params, o->p, o->prim->params_size);
    e.params = params;
    p->collective |= mx_params_name_axis(o->prim, params, NULL);
    if (o->prim->id >= MX_PRIM_scan) {
      if (!mx_grow(c, &p->held, &p->held_cap, p->n_held + 1, sizeof *p->held)) return -1;
      p->held[p->n_held].prim = o->prim;
      p->held[p->n_held++].params = params;
      params_retain(o->prim, params);
    }
  }
  for (int k = 0; k < o->n_out; k++)
    if (mx_program_var(c, p, &o->out_aval[k]) < 0) return -1;
  p->ordered |= mx_eqn_is_ordered(&e);
  p->eqns[p->n_eqn++] = e;
  return e.out;
}

int32_t mx_program_copy(mx_ctx *c, mx_arena *scratch, mx_program *p, const mx_program *from, const mx_eqn *e,
                        const int32_t *in) {
  mx_aval *out = mx_arena_alloc(c, scratch, (size_t)(e->n_out + 1) * sizeof *out);
  if (!out) return -1;
  for (int k = 0; k < e->n_out; k++) out[k] = *from->avals[e->out + k];
  mx_op o = {.prim = e->prim, .p = e->params, .n_in = e->n_in, .n_out = e->n_out, .out_aval = out};
  return mx_program_equation(c, p, &o, in, e->site);
}

bool mx_program_output(mx_ctx *c, mx_program *p, int32_t var) {
  if (var < 0 || !mx_grow(c, &p->outs, &p->outs_cap, p->n_out + 1, sizeof *p->outs)) return false;
  p->outs[p->n_out++] = var;
  return true;
}

/* -- finishing ----------------------------------------------------------------------------------------------------- */

/* Marks the variables that results depend on, from the last equation to the first; keeps those equations. */
static void drop_dead(mx_program *p, int32_t *live) {
  for (int k = 0; k < p->n_out; k++) live[p->outs[k]] = 1;
  for (int i = p->n_eqn - 1; i >= 0; i--) {
    mx_eqn *e = &p->eqns[i];
    bool used = mx_eqn_is_ordered(e);
    for (int k = 0; k < e->n_out; k++) used |= live[e->out + k] != 0;
    if (!used) e->n_out = 0; /* marked as dead */
    else
      for (int k = 0; k < e->n_in; k++) live[e->in[k]] = 1;
  }
  int n = 0;
  for (int i = 0; i < p->n_eqn; i++)
    if (p->eqns[i].n_out || mx_eqn_is_ordered(&p->eqns[i])) p->eqns[n++] = p->eqns[i];
  p->n_eqn = n;
}

/* Constants nobody uses go; tracers become inputs behind the others (with `captured`). `to` maps old variables to new
 * ones. */
static bool renumber_consts(mx_ctx *c, mx_program *p, const int32_t *live, int32_t *to, mx_list *captured) {
  int next = p->n_in, n = 0;
  if (captured)
    for (int k = 0; k < p->n_const; k++)
      if (live[p->const_vars[k]] && mx_is_tracer(p->consts[k])) {
        if (!mx_list_add(c, captured, p->consts[k])) return false;
        to[p->const_vars[k]] = next++;
        p->n_in++;
      }
  for (int k = 0; k < p->n_const; k++) {
    int32_t v = p->const_vars[k];
    if (live[v] && to[v] < 0) {
      to[v] = next++;
      p->const_vars[n] = v;
      mx_array *x = p->consts[k]; /* swapped, so that a failure later still releases each constant once */
      p->consts[k] = p->consts[n];
      p->consts[n++] = x;
    }
  }
  for (int k = n; k < p->n_const; k++) mx_release(p->consts[k]);
  p->n_const = n;
  return true;
}

static void renumber(mx_program *p, int32_t *to, mx_aval **avals) {
  int next = p->n_in + p->n_const;
  for (int i = 0; i < p->n_eqn; i++) {
    mx_eqn *e = &p->eqns[i];
    int first = next;
    for (int k = 0; k < e->n_out; k++) to[e->out + k] = next++;
    e->out = first;
  }
  for (int v = 0; v < p->n_var; v++)
    if (to[v] >= 0) avals[to[v]] = p->avals[v];
  for (int i = 0; i < p->n_eqn; i++) {
    mx_eqn *e = &p->eqns[i];
    for (int k = 0; k < e->n_in; k++) e->in[k] = to[e->in[k]];
  }
  for (int k = 0; k < p->n_out; k++) p->outs[k] = to[p->outs[k]];
  if (next) memcpy(p->avals, avals, (size_t)next * sizeof *avals);
  p->n_var = next;
}

bool mx_program_finish(mx_ctx *c, mx_program *p, mx_list *captured) {
  size_t n = (size_t)p->n_var + 1;
  int32_t *live = mx_new(c, n * sizeof *live), *to = mx_new(c, n * sizeof *to);
  mx_aval **avals = mx_new(c, n * sizeof *avals);
  bool ok = live && to && avals;
  if (ok) {
    int n_in = p->n_in;
    for (int v = 0; v < p->n_var; v++) to[v] = v < n_in ? v : -1;
    drop_dead(p, live);
    ok = renumber_consts(c, p, live, to, captured);
    if (ok) renumber(p, to, avals);
  }
  mx_free(p->engine, live, n * sizeof *live);
  mx_free(p->engine, to, n * sizeof *to);
  mx_free(p->engine, avals, n * sizeof *avals);
  return ok && (!captured || mx_program_check(c, p));
}

/* -- checking ------------------------------------------------------------------------------------------------------ */

static bool check_equation(mx_ctx *c, const mx_program *p, int i, int32_t defined) {
  const mx_eqn *e = &p->eqns[i];
  if (e->out != defined) return mx_fail(c, MLAX_STATE, "equation %d (%s) is out of order", i, e->prim->name), false;
  if (e->n_in > 64 || e->n_out > MX_MAX_OUT) return true; /* its shape rule ran when it was recorded */
  const mx_aval *in[64];
  mx_aval out[MX_MAX_OUT];
  for (int k = 0; k < e->n_in; k++) {
    if (e->in[k] < 0 || e->in[k] >= defined)
      return mx_fail(c, MLAX_STATE, "equation %d (%s) uses a variable before it is defined", i, e->prim->name), false;
    in[k] = p->avals[e->in[k]];
  }
  mx_op o = {.prim = e->prim, .p = e->params, .n_in = e->n_in, .n_out = e->n_out, .in_aval = in};
  memset(out, 0, sizeof out);
  if (!e->prim->shape(c, &o, out)) return false;
  for (int k = 0; k < e->n_out; k++)
    if (!mx_shape_equal(&out[k], p->avals[e->out + k]) || out[k].dtype != p->avals[e->out + k]->dtype)
      return mx_fail(c, MLAX_STATE, "equation %d (%s) has another type than its shape rule gives", i, e->prim->name),
             false;
  return true;
}

bool mx_program_check(mx_ctx *c, const mx_program *p) {
  int32_t defined = p->n_in + p->n_const;
  for (int k = 0; k < p->n_const; k++)
    if (!mx_aval_equal(&p->consts[k]->aval, p->avals[p->n_in + k]))
      return mx_fail(c, MLAX_STATE, "constant %d has another type than its variable", k), false;
  for (int i = 0; i < p->n_eqn; i++) {
    if (!check_equation(c, p, i, defined)) return false;
    defined += p->eqns[i].n_out;
  }
  if (defined != p->n_var) return mx_fail(c, MLAX_STATE, "a program has variables that no equation defines"), false;
  for (int k = 0; k < p->n_out; k++)
    if (p->outs[k] < 0 || p->outs[k] >= defined) return mx_fail(c, MLAX_STATE, "result %d is not defined", k), false;
  return true;
}

void mx_program_uses(const mx_program *p, int32_t *readers, int32_t *maker) {
  for (int v = 0; v < p->n_var; v++) {
    if (readers) readers[v] = 0;
    if (maker) maker[v] = -1;
  }
  for (int i = 0; i < p->n_eqn; i++) {
    const mx_eqn *e = &p->eqns[i];
    for (int k = 0; readers && k < e->n_in; k++) readers[e->in[k]]++;
    for (int k = 0; maker && k < e->n_out; k++) maker[e->out + k] = i;
  }
  for (int k = 0; readers && k < p->n_out; k++) readers[p->outs[k]]++;
}

double mx_program_flops(const mx_program *p) {
  double total = 0;
  for (int i = 0; i < p->n_eqn; i++) {
    const mx_eqn *e = &p->eqns[i];
    if (!e->prim->flops || e->n_in > 64) continue;
    const mx_aval *in[64];
    for (int k = 0; k < e->n_in; k++) in[k] = p->avals[e->in[k]];
    mx_op o = {.prim = e->prim,
               .p = e->params,
               .n_in = e->n_in,
               .n_out = e->n_out,
               .in_aval = in,
               .out_aval = p->avals[e->out]};
    total += e->prim->flops(&o);
  }
  return total;
}
