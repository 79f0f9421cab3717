/* hoist.c: what the body of a loop computes though it does not depend on the carry is computed before the loop.
 *
 *     scan { W, U | h | x[t] }:  a = exp W, b = dot x[t] a, h' = tanh (b + dot h U)
 *
 *     a = exp W                         once
 *     b = dot x a                       for all steps at once: one product, if its result is not too large
 *     scan { U | h | b[t] }:  h' = tanh (b[t] + dot h U)
 *
 * (program/body.c divides the body.) For while loops only what is the same at each step. Nothing that may fail moves,
 * since the loop may not get there. */
#include "optimize_impl.h"

enum { MOST_BYTES = 256 << 20 }; /* of one result for all steps */

typedef struct loop {
  mx_rewrite *r;
  const mx_node *n;
  int64_t length; /* of a scan; 0: not known */
  mx_program *body;
  int n_const, n_carry;
  const int32_t *operands; /* by input of the body, its own */
  int32_t *left_operands;  /* of what is left, which is in `body` then */
  int counts[3];
} loop;

/* Views cost nothing in the loop; a result larger than its operands would be read from memory at each step. */
static bool pays(void *ud, const mx_op *o, mx_body_kind kind) {
  const loop *l = ud;
  int64_t most = 0, steps = l->length;
  if (kind == MX_BODY_STEP)
    return steps > 1 && mx_op_is_heavy(o) && mx_nbytes(o->out_aval) <= MOST_BYTES / (size_t)steps;
  if (o->n_in == 0 || (o->prim->view && o->prim->id != MX_PRIM_convert)) return false;
  for (int k = 0; k < o->n_in; k++)
    if (o->in_aval[k]->size > most) most = o->in_aval[k]->size;
  return mx_op_is_heavy(o) || o->out_aval->size <= most;
}

static void *take(loop *l, int n, size_t item) {
  return mx_arena_alloc(l->r->c, &l->r->memory, (size_t)(n + 1) * item);
}

/* Writes what is taken out, of a kind; notes its variables in `env`, which is by variable of the body. */
static bool write_taken(loop *l, const mx_body *b, mx_body_kind kind, int32_t *env) {
  mx_rewrite *r = l->r;
  int32_t *in;
  int n, n_out = b->n_taken[kind];
  if (n_out == 0) return true;
  mx_program *one = mx_body_taken(r->c, &r->memory, b, kind, &in, &n), *all = one;
  bool *mapped = take(l, n, 1), *out = take(l, n_out, 1);
  int32_t *x = take(l, n, sizeof *x), *y = take(l, n_out, sizeof *y);
  bool ok = one && mapped && out && x && y;
  for (int i = 0; ok && i < n; i++) x[i] = env[in[i]], mapped[i] = b->kind[in[i]] == MX_BODY_STEP;
  if (ok) memset(out, true, (size_t)n_out);
  if (ok && kind == MX_BODY_STEP) all = mx_program_batch(r->c, one, l->length, NULL, mapped, out);
  ok = ok && all && mx_rewrite_program(r, all, x, y);
  for (int v = 0, k = 0; ok && v < b->p->n_var; v++)
    if (b->taken[v] && b->kind[v] == kind) env[v] = y[k++];
  if (all != one) mx_program_release(all);
  mx_program_release(one);
  return ok;
}

static bool leave(loop *l, const mx_body *b, const int32_t *env) {
  int32_t *in;
  mx_program *left = mx_body_left(l->r->c, &l->r->memory, b, &in, l->counts);
  l->left_operands = left ? take(l, left->n_in, sizeof *l->left_operands) : NULL;
  for (int i = 0; l->left_operands && i < left->n_in; i++) l->left_operands[i] = env[in[i]];
  if (left) left->optimized = true;
  mx_program_release(l->body);
  l->body = left;
  return l->left_operands != NULL;
}

/* Divides the body, which is optimized first. Its reference is in l->body, also after a failure. */
static bool divide(loop *l, mx_program *body) {
  mx_rewrite *r = l->r;
  if (!(l->body = mx_program_optimize(r->c, body))) return false;
  mx_body b = {.p = l->body, .n_const = l->n_const, .n_carry = l->n_carry};
  int32_t *env = take(l, b.p->n_var, sizeof *env);
  if (!env || !mx_body_choose(r->c, &r->memory, &b, pays, l)) return false;
  for (int i = 0; i < b.p->n_in; i++) env[i] = l->operands[i];
  return write_taken(l, &b, MX_BODY_SAME, env) && write_taken(l, &b, MX_BODY_STEP, env) && leave(l, &b, env);
}

/* -- scan ---------------------------------------------------------------------------------------------------------- */

/* Writes the scan with what is left as its body. */
static bool write_scan(loop *l, int32_t *out) {
  mx_node n = *l->n;
  mx_params p;
  memset(&p, 0, sizeof p);
  p.scan = l->n->op.p->scan;
  if (!(p.scan.body = mx_programs_new(l->r->c, 1, &l->body))) return false;
  p.scan.n_const = l->counts[0];
  n.op.p = &p;
  n.op.n_in = l->body->n_in;
  n.in = l->left_operands;
  bool ok = mx_rewrite_append(l->r, &n, out);
  mx_programs_release(p.scan.body);
  return ok;
}

static bool hoist_scan(mx_rewrite *r, const mx_node *n, int32_t *out) {
  loop l = {.r = r,
            .n = n,
            .length = n->op.p->scan.length,
            .n_const = (int)n->op.p->scan.n_const,
            .n_carry = (int)n->op.p->scan.n_carry,
            .operands = n->in};
  bool ok = divide(&l, n->op.p->scan.body->items[0]) && write_scan(&l, out);
  mx_program_release(l.body);
  return ok;
}

/* -- while --------------------------------------------------------------------------------------------------------- */

static bool write_loop(mx_rewrite *r, const mx_node *old, const loop *cond, const loop *body, int32_t *out) {
  mx_program *both[2] = {cond->body, body->body};
  int n_cond = cond->counts[0], n_body = body->counts[0] + body->counts[1];
  int32_t *in = mx_arena_alloc(r->c, &r->memory, (size_t)(n_cond + n_body + 1) * sizeof *in);
  mx_node n = *old;
  mx_params p;
  memset(&p, 0, sizeof p);
  if (!in || !(p.loop.of = mx_programs_new(r->c, 2, both))) return false;
  memcpy(in, cond->left_operands, (size_t)n_cond * sizeof *in);
  memcpy(in + n_cond, body->left_operands, (size_t)n_body * sizeof *in);
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
  loop cond = {.r = r, .n = n, .n_const = n_cond, .n_carry = n_carry, .operands = in};
  loop body = {.r = r, .n = n, .n_const = n_body, .n_carry = n_carry, .operands = n->in + n_cond};
  bool ok = divide(&cond, of->items[0]) && divide(&body, of->items[1]) && write_loop(r, n, &cond, &body, out);
  mx_program_release(cond.body);
  mx_program_release(body.body);
  return ok;
}

/* A primitive without a rule for vmap leaves its loop as it is. */
bool mx_pass_hoist(mx_rewrite *r, const mx_node *n, int32_t *out) {
  bool scan = n->op.prim->id == MX_PRIM_scan;
  if (!scan && n->op.prim->id != MX_PRIM_loop) return false;
  return (scan ? hoist_scan(r, n, out) : hoist_loop(r, n, out)) || !mx_forgive(r->c);
}
