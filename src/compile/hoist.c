/* hoist.c: what the body of a loop computes though it does not depend on the carry is computed before the loop.
 *
 *     scan { W, U | h | x[t] }:  a = exp W, b = dot x[t] a, h' = tanh (b + dot h U)
 *
 *     a = exp W                         once
 *     b = dot x a                       for all steps at once: one product, if its result is not too large
 *     scan { U | h | b[t] }:  h' = tanh (b[t] + dot h U)
 *
 * (program/body.c divides the body.) For while loops only what is the same at each step. Nothing that may fail moves,
 * since the loop may not get there. What scans do besides is in hoist_scan.c. */
#include "optimize_impl.h"

enum { MOST_BYTES = 64 << 20 }; /* of one result for all steps */

static void *take(mx_hoisting *h, int n, size_t item) {
  return mx_arena_alloc(h->r->c, &h->r->memory, (size_t)(n + 1) * item);
}

/* Views cost nothing in the loop; a result larger than its operands would be read from memory at each step. */
static bool pays(void *ud, const mx_eqn *e, const mx_op *o, mx_body_kind kind) {
  const mx_hoisting *h = ud;
  int64_t most = 0, steps = h->length;
  if (h->stays && h->stays[e->out]) return false;
  if (kind == MX_BODY_STEP)
    return steps > 1 && mx_nbytes(o->out_aval) <= MOST_BYTES / (size_t)steps &&
           ((h->wanted && h->wanted[e->out]) || mx_op_is_heavy(o));
  if (o->n_in == 0 || (o->prim->view && o->prim->id != MX_PRIM_convert)) return false;
  for (int k = 0; k < o->n_in; k++)
    if (o->in_aval[k]->size > most) most = o->in_aval[k]->size;
  return mx_op_is_heavy(o) || o->out_aval->size <= most;
}

/* Writes what is taken out, of a kind. */
static bool write_taken(mx_hoisting *h, mx_body_kind kind) {
  mx_rewrite *r = h->r;
  const mx_body *b = &h->body;
  int32_t *in;
  int n, n_out = b->n_taken[kind];
  if (n_out == 0) return true;
  mx_program *one = mx_body_taken(r->c, &r->memory, b, kind, &in, &n), *all = one;
  bool *mapped = take(h, n, 1), *out = take(h, n_out, 1);
  int32_t *x = take(h, n, sizeof *x), *y = take(h, n_out, sizeof *y);
  bool ok = one && mapped && out && x && y;
  for (int i = 0; ok && i < n; i++) x[i] = h->env[in[i]], mapped[i] = b->kind[in[i]] == MX_BODY_STEP;
  if (ok) memset(out, true, (size_t)n_out);
  if (ok && kind == MX_BODY_STEP) all = mx_program_batch(r->c, one, h->length, NULL, mapped, out);
  ok = ok && all && mx_rewrite_program(r, all, x, y);
  for (int v = 0, k = 0; ok && v < b->p->n_var; v++)
    if (b->taken[v] && b->kind[v] == kind) h->env[v] = y[k++];
  if (all != one) mx_program_release(all);
  mx_program_release(one);
  return ok;
}

bool mx_hoist_start(mx_hoisting *h, mx_program *body) {
  mx_program *p = mx_program_optimize(h->r->c, body);
  h->body.p = p;
  h->env = p ? take(h, p->n_var, sizeof *h->env) : NULL;
  for (int v = 0; h->env && v < p->n_var; v++) h->env[v] = v < p->n_in ? h->operands[v] : -1;
  return h->env && mx_body_sort(h->r->c, &h->r->memory, &h->body);
}

bool mx_hoist_taken(mx_hoisting *h) {
  return mx_body_choose(h->r->c, &h->r->memory, &h->body, pays, h) && write_taken(h, MX_BODY_SAME) &&
         write_taken(h, MX_BODY_STEP);
}

bool mx_hoist_left(mx_hoisting *h, const bool *gone, const int32_t *outs, int n_out) {
  int32_t *in;
  h->left = mx_body_left(h->r->c, &h->r->memory, &h->body, gone, outs, n_out, &in, h->counts);
  h->left_in = h->left ? take(h, h->left->n_in, sizeof *h->left_in) : NULL;
  for (int i = 0; h->left_in && i < h->left->n_in; i++) h->left_in[i] = h->env[in[i]];
  if (h->left) h->left->optimized = true;
  return h->left_in != NULL;
}

void mx_hoist_end(mx_hoisting *h) {
  mx_program_release((mx_program *)h->body.p);
  mx_program_release(h->left);
}

/* -- while --------------------------------------------------------------------------------------------------------- */

static bool divide(mx_hoisting *h, mx_program *body) {
  return mx_hoist_start(h, body) && mx_hoist_taken(h) && mx_hoist_left(h, NULL, h->body.p->outs, h->body.p->n_out);
}

static bool write_loop(mx_rewrite *r, const mx_node *old, const mx_hoisting *cond, const mx_hoisting *body,
                       int32_t *out) {
  mx_program *both[2] = {cond->left, body->left};
  int n_cond = cond->counts[0], n_body = body->counts[0] + body->counts[1];
  int32_t *in = mx_arena_alloc(r->c, &r->memory, (size_t)(n_cond + n_body + 1) * sizeof *in);
  mx_node n = *old;
  mx_params p;
  memset(&p, 0, sizeof p);
  if (!in || !(p.loop.of = mx_programs_new(r->c, 2, both))) return false;
  memcpy(in, cond->left_in, (size_t)n_cond * sizeof *in);
  memcpy(in + n_cond, body->left_in, (size_t)n_body * sizeof *in);
  p.loop.n_const[0] = n_cond;
  p.loop.n_const[1] = body->counts[0];
  n.op.p = &p;
  n.op.n_in = n_cond + n_body;
  n.in = in;
  bool ok = mx_rewrite_append(r, &n, out);
  mx_programs_release(p.loop.of);
  return ok;
}

/* The operands are the constants of both programs, then the carry, which both take. */
static bool hoist_loop(mx_rewrite *r, const mx_node *n, int32_t *out) {
  int n_cond = (int)n->op.p->loop.n_const[0], n_body = (int)n->op.p->loop.n_const[1], n_carry = n->op.n_out;
  const mx_programs *of = n->op.p->loop.of;
  int32_t *in = mx_arena_alloc(r->c, &r->memory, (size_t)(n_cond + n_carry + 1) * sizeof *in);
  if (!in) return false;
  memcpy(in, n->in, (size_t)n_cond * sizeof *in);
  memcpy(in + n_cond, n->in + n_cond + n_body, (size_t)n_carry * sizeof *in);
  mx_hoisting cond = {.r = r, .n = n, .body = {.n_const = n_cond, .n_carry = n_carry}, .operands = in};
  mx_hoisting body = {.r = r, .n = n, .body = {.n_const = n_body, .n_carry = n_carry}, .operands = n->in + n_cond};
  bool ok = divide(&cond, of->items[0]) && divide(&body, of->items[1]) && write_loop(r, n, &cond, &body, out);
  mx_hoist_end(&cond);
  mx_hoist_end(&body);
  return ok;
}

/* A primitive without a rule for vmap leaves its loop as it is. */
bool mx_pass_hoist(mx_rewrite *r, const mx_node *n, int32_t *out) {
  bool scan = n->op.prim->id == MX_PRIM_scan;
  if (!scan && n->op.prim->id != MX_PRIM_loop) return false;
  return (scan ? mx_hoist_scan(r, n, out) : hoist_loop(r, n, out)) || !mx_forgive(r->c);
}
