/* hoist.c: the heavy part of a scan on a tape that does not depend on the carry, as one operation for all steps.
 *
 *     carry' = g * carry + dot(h[t], dW)        dW a constant, h and g residuals
 *     y = dot(h, dW), for all t at once         recorded before the scan, mapped over the steps
 *     carry' = g * carry + y[t]                 what is left
 *
 * On the way back the cotangent of dW is then one product over all steps; it would be summed up step by step in the
 * carry of the transposed scan, at the cost of its own size in each step. compile/hoist.c does the like for scans that
 * are run. */
#include "control_impl.h"

static bool is_heavy(void *ud, const mx_eqn *e, const mx_op *o, mx_body_kind kind) {
  (void)ud, (void)e, (void)kind;
  return o->prim->transpose && mx_op_is_heavy(o);
}

/* Results on the tape, for all steps along the first axis if they are of the kind STEP. env: by variable of the body.
 */
static bool record_taken(mx_ctx *c, mx_arena *a, mx_trace *lin, const mx_body *b, mx_body_kind kind, int64_t length,
                         mx_array **env) {
  int32_t *in;
  int n, n_out = b->n_taken[kind];
  if (n_out == 0) return true;
  mx_program *one = mx_body_taken(c, a, b, kind, &in, &n), *all = one;
  mx_array **x = mx_take(c, a, n, sizeof *x), **y = mx_take(c, a, n_out, sizeof *y);
  bool *mapped = mx_take(c, a, n, 1), *out = mx_take(c, a, n_out, 1);
  bool ok = one && x && y && mapped && out;
  for (int i = 0; ok && i < n; i++) x[i] = env[in[i]], mapped[i] = b->kind[in[i]] == MX_BODY_STEP;
  if (ok) memset(out, true, (size_t)n_out);
  if (ok && kind == MX_BODY_STEP) all = mx_program_batch(c, one, length, NULL, mapped, out);
  mx_trace *current = c->trace;
  c->trace = lin; /* which hands on what it does not depend on */
  ok = ok && all && mx_program_eval(c, all, x, y);
  c->trace = current;
  for (int v = 0, k = 0; ok && v < b->p->n_var; v++)
    if (b->taken[v] && b->kind[v] == kind) env[v] = y[k++];
  if (all != one) mx_program_release(all);
  mx_program_release(one);
  return ok;
}

static bool leave(mx_ctx *c, mx_arena *a, mx_body *b, mx_array *const *env, mx_taped_scan *s) {
  int32_t *in;
  int counts[3];
  mx_program *left = mx_body_left(c, a, b, NULL, b->p->outs, b->p->n_out, &in, counts);
  if (!left) return false;
  mx_program_release(s->body);
  s->body = left;
  s->x = mx_take(c, a, left->n_in, sizeof *s->x);
  for (int i = 0; s->x && i < left->n_in; i++) s->x[i] = env[in[i]];
  memcpy(s->counts, counts, sizeof counts);
  return s->x != NULL;
}

bool mx_scan_hoist(mx_ctx *c, mx_arena *a, mx_trace *lin, mx_taped_scan *s) {
  mx_body b = {.p = s->body, .n_const = s->counts[0], .n_carry = s->counts[1]};
  if (!mx_body_sort(c, a, &b) || !mx_body_choose(c, a, &b, is_heavy, NULL)) return false;
  if (b.n_taken[MX_BODY_SAME] + b.n_taken[MX_BODY_STEP] == 0 || s->length < 2) return true;
  mx_array **env = mx_take(c, a, s->body->n_var, sizeof *env);
  for (int i = 0; env && i < s->body->n_in; i++) env[i] = s->x[i];
  return env && record_taken(c, a, lin, &b, MX_BODY_SAME, s->length, env) &&
         record_taken(c, a, lin, &b, MX_BODY_STEP, s->length, env) && leave(c, a, &b, env, s);
}
