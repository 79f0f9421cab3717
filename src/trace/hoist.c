/* hoist.c: the heavy part of a scan on a tape that does not depend on the carry, as one operation for all steps.
 *
 *     carry' = g * carry + dot(h[t], dW)        dW a constant, h and g residuals
 *     y = dot(h, dW), for all t at once         recorded before the scan, mapped over the steps
 *     carry' = g * carry + y[t]                 what is left
 *
 * On the way back the cotangent of dW is then one product over all steps; it would be summed up step by step in the
 * carry of the transposed scan, at the cost of its own size in each step. */
#include "control_impl.h"

typedef struct hoisting {
  const mx_program *body;
  mx_taped_scan *s;
  bool *carried; /* by variable: depends on the carry */
  bool *hoisted; /* by variable: the result of an equation that is taken out */
  bool *used;    /* by variable: what is left needs it */
  int n;         /* results taken out */
} hoisting;

enum { HEAVY = 8 }; /* operations for each element of the result */

static bool is_heavy(mx_ctx *c, mx_arena *a, const mx_program *p, const mx_eqn *e) {
  if (!e->prim->flops || !e->prim->transpose || e->n_out != 1) return false;
  const mx_aval **avals = mx_take(c, a, e->n_in, sizeof *avals);
  for (int k = 0; avals && k < e->n_in; k++) avals[k] = p->avals[e->in[k]];
  mx_op o = {.prim = e->prim, .p = e->params, .n_in = e->n_in, .n_out = 1, .in_aval = avals};
  o.out_aval = p->avals[e->out];
  return avals && e->prim->flops(&o) >= HEAVY * (double)o.out_aval->size;
}

static bool choose(mx_ctx *c, mx_arena *a, hoisting *h) {
  const mx_program *p = h->body;
  h->carried = mx_take(c, a, p->n_var, 1);
  h->hoisted = mx_take(c, a, p->n_var, 1);
  h->used = mx_take(c, a, p->n_var, 1);
  if (!h->carried || !h->hoisted || !h->used) return false;
  for (int k = 0; k < h->s->counts[1]; k++) h->carried[h->s->counts[0] + k] = true;
  for (int i = 0; i < p->n_eqn; i++) {
    const mx_eqn *e = &p->eqns[i];
    bool carried = false;
    for (int k = 0; k < e->n_in; k++) carried |= h->carried[e->in[k]];
    memset(h->carried + e->out, carried, e->n_out);
    if (!carried && is_heavy(c, a, p, e)) h->hoisted[e->out] = true;
  }
  return !mx_failed(c);
}

/* Marks what the results need, back to inputs and to what is taken out; of that, what nobody needs stays where it is.
 */
static void mark_used(hoisting *h) {
  const mx_program *p = h->body;
  for (int k = 0; k < p->n_out; k++) h->used[p->outs[k]] = true;
  for (int i = p->n_eqn - 1; i >= 0; i--) {
    const mx_eqn *e = &p->eqns[i];
    bool needed = false;
    for (int k = 0; k < e->n_out; k++) needed |= h->used[e->out + k];
    if (h->hoisted[e->out]) h->n += h->hoisted[e->out] = needed;
    for (int k = 0; needed && !h->hoisted[e->out] && k < e->n_in; k++) h->used[e->in[k]] = true;
  }
}

static bool is_carry(const hoisting *h, int i) { return i >= h->s->counts[0] && i < h->s->counts[0] + h->s->counts[1]; }

/* -- what is taken out: a program of the constants and slices, mapped over the steps ------------------------------- */

static bool taken_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  const hoisting *h = state;
  mx_arena a = {c->engine, NULL};
  mx_array **env = mx_take(c, &a, h->body->n_var, sizeof *env);
  (void)n;
  for (int i = 0, k = 0; env && i < h->body->n_in; i++)
    if (!is_carry(h, i)) env[i] = in[k++];
  bool ok = env && mx_program_eval_given(c, h->body, env);
  for (int v = 0; ok && v < h->body->n_var; v++)
    if (h->hoisted[v]) ok = mx_list_add(c, out, env[v]);
  mx_arena_release(&a);
  return ok;
}

/* Results on the tape, all steps along the first axis. */
static bool record_taken(mx_ctx *c, mx_arena *a, mx_trace *lin, const hoisting *h, mx_array **y) {
  int n_in = h->body->n_in, n = 0;
  mx_array **x = mx_take(c, a, n_in, sizeof *x);
  const mx_aval **avals = mx_take(c, a, n_in, sizeof *avals);
  bool *mapped = mx_take(c, a, n_in, 1), *out = mx_take(c, a, h->n, 1);
  if (!x || !avals || !mapped || !out) return false;
  for (int i = 0; i < n_in; i++) {
    if (is_carry(h, i)) continue;
    mapped[n] = i >= h->s->counts[0];
    avals[n] = h->body->avals[i];
    x[n++] = h->s->x[i];
  }
  memset(out, true, (size_t)h->n);
  mx_program *one = mx_program_of(c, (mx_function){taken_call, (void *)h}, avals, n), *all = NULL;
  if (one) all = mx_program_batch(c, one, h->s->length, NULL, mapped, out);
  mx_trace *current = c->trace;
  c->trace = lin; /* which hands on what it does not depend on */
  bool ok = all && mx_program_eval(c, all, x, y);
  c->trace = current;
  mx_program_release(one);
  mx_program_release(all);
  return ok;
}

/* -- what is left: the inputs that it needs, then slices of what was taken out ------------------------------------- */

static bool left_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  const hoisting *h = state;
  const mx_program *p = h->body;
  mx_arena a = {c->engine, NULL};
  mx_array **env = mx_take(c, &a, p->n_var, sizeof *env);
  int k = 0;
  (void)n;
  for (int i = 0; env && i < p->n_in; i++)
    if (h->used[i] || is_carry(h, i)) env[i] = in[k++];
  for (int v = 0; env && v < p->n_var; v++)
    if (h->hoisted[v]) env[v] = in[k++];
  bool ok = env && mx_program_eval_given(c, p, env);
  for (int r = 0; ok && r < p->n_out; r++) ok = mx_list_add(c, out, env[p->outs[r]]);
  mx_arena_release(&a);
  return ok;
}

static mx_program *rebuild(mx_ctx *c, mx_arena *a, hoisting *h, mx_array *const *y) {
  const mx_program *p = h->body;
  mx_taped_scan *s = h->s;
  int n = 0, counts[3] = {0};
  mx_array **x = mx_take(c, a, p->n_in + h->n, sizeof *x);
  const mx_aval **avals = mx_take(c, a, p->n_in + h->n, sizeof *avals);
  if (!x || !avals) return NULL;
  for (int i = 0; i < p->n_in; i++) {
    if (!h->used[i] && !is_carry(h, i)) continue;
    counts[i < s->counts[0] ? 0 : is_carry(h, i) ? 1 : 2]++;
    avals[n] = p->avals[i];
    x[n++] = s->x[i];
  }
  for (int v = 0, k = 0; v < p->n_var; v++)
    if (h->hoisted[v]) avals[n] = p->avals[v], x[n++] = y[k++], counts[2]++;
  mx_program *body = mx_program_of(c, (mx_function){left_call, h}, avals, n);
  if (body) s->x = x, memcpy(s->counts, counts, sizeof counts);
  return body;
}

bool mx_scan_hoist(mx_ctx *c, mx_arena *a, mx_trace *lin, mx_taped_scan *s) {
  hoisting h = {.body = s->body, .s = s};
  if (!choose(c, a, &h)) return false;
  mark_used(&h);
  if (h.n == 0 || s->length < 2) return true;
  mx_array **y = mx_take(c, a, h.n, sizeof *y);
  mx_program *body = y && record_taken(c, a, lin, &h, y) ? rebuild(c, a, &h, y) : NULL;
  if (!body) return false;
  mx_program_release(s->body);
  s->body = body;
  return true;
}
