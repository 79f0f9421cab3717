/* hoist_scan.c: what a scan need not compute, nor give.
 *
 *     scan { dW, h | x[t] }:  g = ..., dW' = dW + dot x[t] g, y = x[t], z = w = tanh h
 *
 *     scan { h | x[t] }: g and w[t]            dW = dW + dot x g, over steps too: one product after the loop
 *                                              y = x, z = w */
#include "optimize_impl.h"

enum { MOST_BYTES = 64 << 20 }; /* of an operand of such a product, for all steps */

typedef struct scanning {
  mx_hoisting h;
  int32_t *readers, *maker; /* by variable: how often it is read; the equation that makes it, or -1 */
  int32_t *product;         /* by carry: the equation of the product that is added to it and does nothing else, or -1 */
  bool *gone;               /* by input of the body: a carry with such a product */
  bool *stays;              /* by variable: such a product */
  bool *wanted;             /* by variable: an operand of one */
  int32_t *outs;            /* variables that are left as results: carry, ys */
  int n_outs, n_carry;
  int32_t *place; /* by variable: which of them it is as a y, + 1; 0: none */
  int32_t *known; /* by result of the scan: the variable that it was found to be, or -1 */
} scanning;

static void *take(scanning *s, int n, size_t item) {
  return mx_arena_alloc(s->h.r->c, &s->h.r->memory, (size_t)(n + 1) * item);
}

/* -- sums of products ---------------------------------------------------------------------------------------------- */

/* An operand for all steps takes less memory than the sum would be moved at each, and is not too large. */
static bool may_wait(const scanning *s, const mx_eqn *dot) {
  const mx_program *p = s->h.body.p;
  const mx_aval *sum = p->avals[dot->out];
  for (int k = 0; k < 2; k++) {
    const mx_aval *a = p->avals[dot->in[k]];
    if (s->h.body.kind[dot->in[k]] == MX_BODY_SAME) return false; /* it has no axis of steps */
    if (a->ndim == MX_MAX_NDIM || a->weak || a->dtype != sum->dtype) return false;
    if (mx_nbytes(a) > 2 * mx_nbytes(sum) || mx_nbytes(a) > MOST_BYTES / (size_t)s->h.length) return false;
  }
  return sum->dtype == MLAX_FLOAT32 || sum->dtype == MLAX_FLOAT64;
}

/* carry' = carry + product, where nobody else reads any of the three. */
static int32_t product_of(const scanning *s, int k) {
  const mx_program *p = s->h.body.p;
  int32_t in = s->h.body.n_const + k, out = p->outs[k], add = s->maker[out];
  if (add < 0 || p->eqns[add].prim->id != MX_PRIM_add || s->readers[out] != 1 || s->readers[in] != 1) return -1;
  const int32_t *x = p->eqns[add].in;
  if (x[0] != in && x[1] != in) return -1;
  int32_t product = x[0] == in ? x[1] : x[0], dot = s->maker[product];
  if (dot < 0 || p->eqns[dot].prim->id != MX_PRIM_dot_general || s->readers[product] != 1) return -1;
  return mx_shape_equal(p->avals[in], p->avals[product]) && may_wait(s, &p->eqns[dot]) ? dot : -1;
}

static bool find_products(scanning *s) {
  const mx_program *p = s->h.body.p;
  s->readers = take(s, p->n_var, sizeof *s->readers);
  s->maker = take(s, p->n_var, sizeof *s->maker);
  s->product = take(s, s->h.body.n_carry, sizeof *s->product);
  s->gone = take(s, p->n_in, 1);
  s->stays = take(s, p->n_var, 1);
  s->wanted = take(s, p->n_var, 1);
  if (!s->readers || !s->maker || !s->product || !s->gone || !s->stays || !s->wanted) return false;
  mx_program_uses(p, s->readers, s->maker);
  for (int k = 0; k < s->h.body.n_carry; k++) {
    s->product[k] = s->h.length > 1 ? product_of(s, k) : -1;
    s->gone[s->h.body.n_const + k] = s->product[k] >= 0;
    if (s->product[k] < 0) continue;
    const mx_eqn *dot = &p->eqns[s->product[k]];
    s->stays[dot->out] = s->wanted[dot->in[0]] = s->wanted[dot->in[1]] = true;
  }
  s->h.stays = s->stays;
  s->h.wanted = s->wanted;
  return true;
}

/* Axes of a slice, and that of steps before them, in the operand for all steps. */
static mx_dims with_steps(const mx_dims *axes, bool steps) {
  mx_dims d = *axes;
  for (int i = 0; i < d.n; i++) d.v[i]++;
  return steps ? mx_dims_insert(&d, 0, 0) : d;
}

/* carry + the products of all steps */
static int32_t write_sum(scanning *s, int k, const int32_t *results) {
  const mx_eqn *dot = &s->h.body.p->eqns[s->product[k]];
  mx_params p = *dot->params;
  int32_t x[2], sum[2] = {s->h.operands[s->h.body.n_const + k], -1};
  for (int i = 0; i < 2; i++) {
    int32_t v = dot->in[i];
    x[i] = s->place[v] ? results[s->place[v] - 1] : s->h.env[v];
  }
  p.dot.x_contract = with_steps(&dot->params->dot.x_contract, true);
  p.dot.y_contract = with_steps(&dot->params->dot.y_contract, true);
  p.dot.x_batch = with_steps(&dot->params->dot.x_batch, false);
  p.dot.y_batch = with_steps(&dot->params->dot.y_batch, false);
  sum[1] = mx_rewrite_make(s->h.r, dot->prim, &p, x, 2, dot->site);
  return mx_rewrite_make(s->h.r, &mx_prim_add, NULL, sum, 2, dot->site);
}

/* -- results ------------------------------------------------------------------------------------------------------- */

static void add_y(scanning *s, int32_t v) { s->outs[mx_number_once(s->place, v, &s->n_outs)] = v; }

/* What differs from step to step and is there for all of them. */
static bool is_there(const scanning *s, int32_t v) { return s->h.body.kind[v] == MX_BODY_STEP && s->h.env[v] >= 0; }

static bool choose_results(scanning *s) {
  const mx_node *n = s->h.n;
  const mx_program *p = s->h.body.p;
  int n_carry = s->h.body.n_carry;
  s->outs = take(s, p->n_out + 2 * n_carry, sizeof *s->outs);
  s->place = take(s, p->n_var, sizeof *s->place);
  s->known = take(s, p->n_out, sizeof *s->known);
  if (!s->outs || !s->place || !s->known) return false;
  for (int k = 0; k < p->n_out; k++) s->known[k] = -1;
  for (int k = 0; k < n_carry; k++)
    if (s->product[k] < 0) s->outs[s->n_outs++] = p->outs[k];
  s->n_carry = s->n_outs;
  for (int k = n_carry; k < p->n_out; k++) {
    int32_t v = p->outs[k];
    if (is_there(s, v) && mx_aval_equal(mx_aval_at(s->h.r, s->h.env[v]), &n->op.out_aval[k])) s->known[k] = s->h.env[v];
    else if (!n->readers || n->readers[k] || n->op.n_in == 0) add_y(s, v);
  }
  for (int k = 0; k < n_carry; k++)
    for (int i = 0; s->product[k] >= 0 && i < 2; i++)
      if (!is_there(s, p->eqns[s->product[k]].in[i])) add_y(s, p->eqns[s->product[k]].in[i]);
  return true;
}

/* Writes the scan of what is left; `results` are by entry of outs. */
static bool write_scan(scanning *s, int32_t *results) {
  mx_ctx *c = s->h.r->c;
  mx_node n = *s->h.n;
  mx_params p;
  mx_aval *avals = take(s, s->n_outs, sizeof *avals);
  bool ok = avals != NULL;
  for (int k = 0; ok && k < s->n_outs; k++) {
    const mx_aval *a = s->h.body.p->avals[s->outs[k]];
    avals[k] = *a;
    avals[k].weak = false;
    if (k >= s->n_carry) ok = mx_aval_stack(c, a, s->h.length, &avals[k]);
  }
  memset(&p, 0, sizeof p);
  p.scan = s->h.n->op.p->scan;
  if (!ok || !(p.scan.body = mx_programs_new(c, 1, &s->h.left))) return false;
  p.scan.n_const = s->h.counts[0];
  p.scan.n_carry = s->n_carry;
  n.op.p = &p;
  n.op.n_in = s->h.left->n_in;
  n.op.n_out = s->n_outs;
  n.op.out_aval = avals;
  n.in = s->h.left_in;
  ok = mx_rewrite_append(s->h.r, &n, results);
  mx_programs_release(p.scan.body);
  return ok;
}

/* A result that nobody reads stands for anything. */
static bool give_results(scanning *s, const int32_t *results, int32_t *out) {
  const mx_program *p = s->h.body.p;
  int carried = 0;
  for (int k = 0; k < p->n_out; k++) {
    bool carry = k < s->h.body.n_carry;
    if (carry && s->product[k] >= 0) out[k] = write_sum(s, k, results);
    else if (carry) out[k] = results[carried++];
    else if (s->known[k] >= 0) out[k] = s->known[k];
    else out[k] = s->place[p->outs[k]] ? results[s->place[p->outs[k]] - 1] : s->h.operands[0];
    if (out[k] < 0) return false;
  }
  return true;
}

static bool divide(scanning *s, mx_program *body, int32_t *out) {
  if (!mx_hoist_start(&s->h, body) || !find_products(s) || !mx_hoist_taken(&s->h)) return false;
  int32_t *results = take(s, s->h.body.p->n_out + 2 * s->h.body.n_carry, sizeof *results);
  return results && choose_results(s) && mx_hoist_left(&s->h, s->gone, s->outs, s->n_outs) && write_scan(s, results) &&
         give_results(s, results, out);
}

bool mx_hoist_scan(mx_rewrite *r, const mx_node *n, int32_t *out) {
  scanning s = {.h = {.r = r, .n = n, .length = n->op.p->scan.length, .operands = n->in}};
  s.h.body.n_const = (int)n->op.p->scan.n_const;
  s.h.body.n_carry = (int)n->op.p->scan.n_carry;
  bool ok = divide(&s, n->op.p->scan.body->items[0], out);
  mx_hoist_end(&s.h);
  return ok;
}
