/* rewrite.c: the program that the passes write. */
#include "optimize_impl.h"

static void *scratch(mx_rewrite *r, int n, size_t item) {
  return mx_arena_alloc(r->c, &r->memory, (size_t)(n + 1) * item);
}

bool mx_forgive(mx_ctx *c) {
  mlax_status s = c->error.status;
  if (s == MLAX_MEMORY || s == MLAX_LIMIT || s == MLAX_INTERRUPTED || s == MLAX_LUA) return false;
  mx_clear(c);
  return true;
}

const mx_aval *const *mx_node_avals(mx_rewrite *r, const mx_node *n) {
  const mx_aval **avals = scratch(r, n->op.n_in, sizeof *avals);
  for (int k = 0; avals && k < n->op.n_in; k++) avals[k] = mx_aval_at(r, n->in[k]);
  return avals;
}

bool mx_node_op(mx_rewrite *r, const mx_node *n, mx_op *o) {
  *o = n->op;
  return (o->in_aval = mx_node_avals(r, n)) != NULL;
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

static bool note_origin(mx_rewrite *r, int32_t v, int n, int32_t origin) {
  if (!mx_grow(r->c, &r->origin, &r->origin_cap, v + n, sizeof *r->origin)) return false;
  if (!mx_grow(r->c, &r->readers, &r->readers_cap, v + n, sizeof *r->readers)) return false;
  if (!mx_grow(r->c, &r->value, &r->value_cap, v + n, sizeof *r->value)) return false;
  for (int k = 0; k < n; k++) r->origin[v + k] = origin, r->readers[v + k] = 0, r->value[v + k] = v + k;
  return true;
}

int32_t mx_rewrite_input(mx_rewrite *r, const mx_aval *a) {
  int32_t v = mx_program_input(r->c, r->to, a);
  return v >= 0 && note_origin(r, v, 1, -1) ? v : -1;
}

int32_t mx_rewrite_const(mx_rewrite *r, mx_array *x) {
  int before = r->to->n_const;
  int32_t v = mx_program_const(r->c, r->to, x);
  if (v < 0 || r->to->n_const == before) return v;
  return note_origin(r, v, 1, -2 - before) ? v : -1;
}

bool mx_rewrite_append(mx_rewrite *r, const mx_node *n, int32_t *out) {
  int32_t first = mx_program_equation(r->c, r->to, &n->op, n->in, n->site), equation = r->to->n_eqn - 1;
  if (first < 0 || !note_origin(r, first, n->op.n_out, equation)) return false;
  for (int k = 0; k < n->op.n_out; k++) out[k] = first + k;
  return mx_cse_add(r, n, equation);
}

int32_t mx_rewrite_make(mx_rewrite *r, const mx_primitive *prim, const mx_params *p, const int32_t *in, int n_in,
                        uint32_t site) {
  const mx_aval *few[8], **avals = n_in <= 8 ? few : scratch(r, n_in, sizeof *avals);
  mx_aval aval;
  int32_t out = -1;
  if (!avals) return -1;
  for (int k = 0; k < n_in; k++) {
    if (in[k] < 0) return -1;
    avals[k] = mx_aval_at(r, in[k]);
  }
  mx_node n = {.op = {.prim = prim, .p = p, .n_in = n_in, .n_out = 1, .in_aval = avals}, .in = in, .site = site};
  memset(&aval, 0, sizeof aval);
  if (!prim->shape(r->c, &n.op, &aval)) return -1;
  n.op.in_aval = NULL;
  n.op.out_aval = &aval;
  return mx_rewrite_node(r, &n, &out) ? out : -1;
}

void mx_rewrite_free(mx_rewrite *r) {
  mlax_engine *e = r->c->engine;
  mx_free(e, r->origin, (size_t)r->origin_cap * sizeof *r->origin);
  mx_free(e, r->readers, (size_t)r->readers_cap * sizeof *r->readers);
  mx_free(e, r->value, (size_t)r->value_cap * sizeof *r->value);
  mx_free(e, r->hashes, (size_t)r->hashes_cap * sizeof *r->hashes);
  mx_free(e, r->table, (size_t)r->table_cap * sizeof *r->table);
  mx_arena_release(&r->memory);
}

/* -- reading ------------------------------------------------------------------------------------------------------- */

static bool rewrite_equation(mx_rewrite *r, const mx_program *p, const mx_eqn *e, const int32_t *readers, int32_t *map,
                             int32_t *in) {
  mx_node n = {.op = {.prim = e->prim, .p = e->params, .n_in = e->n_in, .n_out = e->n_out},
               .in = in,
               .readers = readers + e->out,
               .site = e->site};
  for (int k = 0; k < e->n_in; k++) in[k] = map[e->in[k]];
  if (e->n_out == 1) n.op.out_aval = p->avals[e->out];
  else {
    mx_aval *avals = scratch(r, e->n_out, sizeof *avals);
    for (int k = 0; avals && k < e->n_out; k++) avals[k] = *p->avals[e->out + k];
    if (!(n.op.out_aval = avals)) return false;
  }
  return mx_rewrite_node(r, &n, map + e->out);
}

static int widest(const mx_program *p) {
  int n = 0;
  for (int i = 0; i < p->n_eqn; i++)
    if (p->eqns[i].n_in > n) n = p->eqns[i].n_in;
  return n;
}

bool mx_rewrite_program(mx_rewrite *r, const mx_program *p, const int32_t *in, int32_t *outs) {
  int32_t *map = scratch(r, p->n_var, sizeof *map), *readers = scratch(r, p->n_var, sizeof *readers);
  int32_t *operands = scratch(r, widest(p), sizeof *operands);
  if (!map || !readers || !operands) return false;
  mx_program_uses(p, readers, NULL);
  for (int i = 0; i < p->n_in; i++) map[i] = in[i];
  for (int k = 0; k < p->n_const; k++)
    if ((map[p->n_in + k] = mx_rewrite_const(r, p->consts[k])) < 0) return false;
  for (int i = 0; i < p->n_eqn; i++) {
    const mx_eqn *e = &p->eqns[i];
    if (!rewrite_equation(r, p, e, readers, map, operands)) return false;
    for (int k = 0; k < e->n_out; k++) r->readers[map[e->out + k]] += readers[e->out + k];
  }
  for (int k = 0; k < p->n_out; k++) outs[k] = map[p->outs[k]];
  return true;
}
