/* scan.c: a loop of known length as one primitive. operands: constants, carry, xs; results: carry, ys. The body takes
 * constants, carry and a slice of each xs, and gives carry and a slice of each ys. */
#include "control_impl.h"

typedef struct sizes {
  int n_const, n_carry, n_xs, n_ys;
  const mx_program *body;
} sizes;

static sizes sizes_of(const mx_op *o) {
  sizes s = {.n_const = (int)o->p->scan.n_const, .n_carry = (int)o->p->scan.n_carry, .body = o->p->scan.body->items[0]};
  s.n_xs = o->n_in - s.n_const - s.n_carry;
  s.n_ys = s.body->n_out - s.n_carry;
  return s;
}

static bool scan_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  sizes s = sizes_of(o);
  for (int k = 0; k < s.body->n_out; k++) {
    const mx_aval *a = s.body->avals[s.body->outs[k]];
    if (k < s.n_carry) out[k] = *a;
    else if (!mx_aval_stack(c, a, o->p->scan.length, &out[k])) return false;
    out[k].weak = false;
  }
  return true;
}

/* The results of a body that are no earlier one once more: each ys is stacked once. */
static int distinct_results(const mx_program *body, int n_carry, int32_t *numbers, int *distinct, int *of) {
  int n = 0;
  for (int k = 0; k < body->n_out; k++) {
    of[k] = k < n_carry ? n++ : mx_number_once(numbers, body->outs[k], &n);
    distinct[of[k]] = k;
  }
  return n;
}

/* Params for another body; takes the body. */
static bool bind_body(mx_ctx *c, const mx_op *o, mx_program *body, int n_const, int n_carry, bool reverse,
                      mx_array *const *in, int n_in, mx_array **out, int n_out) {
  mx_params p;
  memset(&p, 0, sizeof p);
  if (!body) return false;
  p.scan.body = mx_programs_new(c, 1, &body);
  p.scan.n_const = n_const;
  p.scan.n_carry = n_carry;
  p.scan.length = o->p->scan.length;
  p.scan.reverse = reverse;
  mx_program_release(body);
  return mx_bind_programs(c, &mx_prim_scan, &p, in, n_in, out, n_out);
}

/* The same of a body whose results may be one thing several times. */
static bool bind_scan(mx_ctx *c, const mx_op *o, mx_program *body, int n_const, int n_carry, bool reverse,
                      mx_array *const *in, int n_in, mx_array **out, int n_out) {
  mx_arena a = {c->engine, NULL};
  int *distinct = mx_take(c, &a, n_out, sizeof(int)), *of = mx_take(c, &a, n_out, sizeof(int));
  int *source = mx_take(c, &a, n_in, sizeof(int)), n = n_out;
  mx_array **y = mx_take(c, &a, n_out, sizeof *y);
  int32_t *numbers = mx_take(c, &a, body ? body->n_var : 0, sizeof *numbers);
  bool ok = body && distinct && of && source && y && numbers;
  if (ok) n = distinct_results(body, n_carry, numbers, distinct, of);
  if (ok && n < n_out) {
    for (int i = 0; i < n_in; i++) source[i] = i;
    mx_program *once = mx_program_rewire(c, body, n_in, (const mx_aval *const *)body->avals, source, n, distinct);
    mx_program_release(body);
    body = once;
  }
  if (ok) ok = bind_body(c, o, body, n_const, n_carry, reverse, in, n_in, y, n);
  else mx_program_release(body);
  for (int k = 0; k < n_out; k++) out[k] = ok ? y[of[k]] : NULL;
  mx_arena_release(&a);
  return ok;
}

/* Makes a program of the body again and again until the carry's results need no more of the mask than its inputs give.
 */
typedef mx_program *(*maker)(mx_ctx *c, const mx_program *body, void *ud, const bool *in, bool *out);
static mx_program *fixed_point(mx_ctx *c, const sizes *s, maker make, void *ud, bool *in, bool *out) {
  for (;;) {
    for (int k = 0; k < s->body->n_out; k++) out[k] = k < s->n_carry && in[s->n_const + k];
    mx_program *p = make(c, s->body, ud, in, out);
    bool changed = false;
    for (int k = 0; p && k < s->n_carry; k++)
      if (out[k] && !in[s->n_const + k]) in[s->n_const + k] = changed = true;
    if (!changed) return p;
    mx_program_release(p);
  }
}

/* -- jvp ----------------------------------------------------------------------------------------------------------- */

static mx_program *make_jvp(mx_ctx *c, const mx_program *body, void *ud, const bool *in, bool *out) {
  (void)ud;
  return mx_program_jvp(c, body, in, out);
}

/* Reorders the inputs (primals, tangents) group by group: constants with their tangents, then carry, then xs; results
 * likewise. */
typedef struct order {
  int n_in, n_out, n[3];
  int *source, *outs; /* by input of the jvp'd body; by result of the new body */
  const mx_aval **avals;
  int *operand; /* by new input: operand, or n_in + operand for its tangent */
} order;

static bool order_jvp(mx_ctx *c, mx_arena *a, const sizes *s, const bool *in, const bool *out, order *r) {
  int n = s->body->n_in, ends[3] = {s->n_const, s->n_const + s->n_carry, n}, rank = n;
  int *tangent = mx_take(c, a, n, sizeof(int));
  *r = (order){.source = mx_take(c, a, 2 * n, sizeof(int)),
               .operand = mx_take(c, a, 2 * n, sizeof(int)),
               .avals = mx_take(c, a, 2 * n, sizeof *r->avals),
               .outs = mx_take(c, a, 2 * s->body->n_out, sizeof(int))};
  if (!tangent || !r->source || !r->operand || !r->avals || !r->outs) return false;
  for (int i = 0; i < n; i++) tangent[i] = in[i] ? rank++ : -1;
  for (int g = 0, i = 0; g < 3; i = ends[g++]) {
    int first = r->n_in;
    for (int k = i; k < ends[g]; k++)
      r->source[k] = r->n_in, r->operand[r->n_in] = k, r->avals[r->n_in++] = s->body->avals[k];
    for (int k = i; k < ends[g]; k++)
      if (in[k]) r->source[tangent[k]] = r->n_in, r->operand[r->n_in] = n + k, r->avals[r->n_in++] = s->body->avals[k];
    r->n[g] = r->n_in - first;
  }
  int n_out = s->body->n_out, next = n_out;
  int *out_tangent = mx_take(c, a, n_out, sizeof(int));
  if (!out_tangent) return false;
  for (int k = 0; k < n_out; k++) out_tangent[k] = out[k] ? next++ : -1;
  for (int g = 0; g < 2; g++) {
    int from = g ? s->n_carry : 0, to = g ? n_out : s->n_carry;
    for (int k = from; k < to; k++) r->outs[r->n_out++] = k;
    for (int k = from; k < to; k++)
      if (out[k]) r->outs[r->n_out++] = out_tangent[k];
  }
  return true;
}

static bool scan_jvp(mx_ctx *c, const mx_op *o, mx_array *const *tangents, mx_array **out, mx_array **out_tangents) {
  sizes s = sizes_of(o);
  mx_arena a = {c->engine, NULL};
  int n = o->n_in, n_out = o->n_out;
  bool *in = mx_take(c, &a, n, 1), *nonzero = mx_take(c, &a, n_out, 1), ok = in && nonzero;
  for (int i = 0; ok && i < n; i++) in[i] = tangents[i] != NULL;
  mx_program *q = ok ? fixed_point(c, &s, make_jvp, NULL, in, nonzero) : NULL, *body = NULL;
  order r = {0};
  ok = q && order_jvp(c, &a, &s, in, nonzero, &r);
  if (ok) body = mx_program_rewire(c, q, r.n_in, r.avals, r.source, r.n_out, r.outs);
  mx_program_release(q);
  mx_array **x = mx_take(c, &a, 2 * n, sizeof *x), **y = mx_take(c, &a, 2 * n_out, sizeof *y);
  ok = body && x && y;
  for (int i = 0; ok && i < r.n_in; i++) {
    int k = r.operand[i];
    x[i] = k < n ? o->in[k] : tangents[k - n] ? tangents[k - n] : mx_zeros(c, &o->in[k - n]->aval);
  }
  ok = ok ? bind_scan(c, o, body, r.n[0], r.n[1], o->p->scan.reverse, x, r.n_in, y, r.n_out)
          : (mx_program_release(body), false);
  for (int k = 0, primals = n_out; ok && k < r.n_out;
       k++) { /* r.outs: results below n_out are primals, behind them tangents in order */
    int from = r.outs[k];
    if (from < n_out) out[from] = y[k];
    else {
      int rank = from - primals, which = 0;
      for (; which < n_out; which++)
        if (nonzero[which] && rank-- == 0) break;
      out_tangents[which] = y[k];
    }
  }
  mx_arena_release(&a);
  return ok;
}

/* -- batch --------------------------------------------------------------------------------------------------------- */

static mx_program *make_batch(mx_ctx *c, const mx_program *body, void *ud, const bool *in, bool *out) {
  return mx_program_batch(c, body, *(int64_t *)ud, c->batching, in, out);
}

static bool scan_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  sizes s = sizes_of(o);
  mx_arena a = {c->engine, NULL};
  bool *in = mx_take(c, &a, o->n_in, 1), *mapped = mx_take(c, &a, o->n_out, 1);
  mx_array **x = mx_take(c, &a, o->n_in, sizeof *x);
  bool ok = in && mapped && x;
  for (int i = 0; ok && i < o->n_in; i++) in[i] = axes[i] >= 0;
  mx_program *body = ok ? fixed_point(c, &s, make_batch, &size, in, mapped) : NULL;
  for (int i = 0; body && i < o->n_in; i++) {
    x[i] = in[i] ? mx_batch_to_front(c, o->in[i], axes[i], size) : o->in[i];
    if (in[i] && i >= s.n_const + s.n_carry) x[i] = mx_move_axis(c, x[i], 0, 1);
  }
  ok = body && bind_scan(c, o, body, s.n_const, s.n_carry, o->p->scan.reverse, x, o->n_in, out, o->n_out);
  for (int k = 0; ok && k < o->n_out; k++) out_axes[k] = !mapped[k] ? -1 : k < s.n_carry ? 0 : 1;
  mx_arena_release(&a);
  return ok;
}

/* -- partial evaluation -------------------------------------------------------------------------------------------- */

/* Splits the body until the carry's unknown results are unknown inputs too. */
static bool split(mx_ctx *c, const sizes *s, bool *in, bool *out, mx_program **known, mx_program **unknown) {
  for (;;) {
    for (int k = 0; k < s->body->n_out; k++) out[k] = k < s->n_carry && in[s->n_const + k];
    if (!mx_program_split(c, s->body, in, out, known, unknown)) return false;
    bool changed = false;
    for (int k = 0; k < s->n_carry; k++)
      if (out[k] && !in[s->n_const + k]) in[s->n_const + k] = changed = true;
    if (!changed) return true;
    mx_program_release(*known);
    mx_program_release(*unknown);
  }
}

/* What a scan is split into. A residual that is a constant of the known body, or a slice of its xs, is that operand;
 * others are stacked as further ys of the known scan. */
typedef struct parts {
  mx_program *known, *unknown;
  bool *in, *out;
  int n_known_out, n_residuals;
  int *residual; /* the operand that it is, or -1: stacked */
} parts;

static int operand_of(const parts *p, const sizes *s, int32_t var) {
  if (var >= p->known->n_in) return -1;
  int i = 0;
  for (int v = -1; i < s->body->n_in; i++)
    if (!p->in[i] && ++v == var) break;
  return i < s->n_const || i >= s->n_const + s->n_carry ? i : -1;
}

static bool find_parts(mx_ctx *c, mx_arena *a, const sizes *s, const bool *unknown, parts *p) {
  *p = (parts){.in = mx_take(c, a, s->body->n_in, 1), .out = mx_take(c, a, s->body->n_out, 1)};
  if (!p->in || !p->out) return false;
  memcpy(p->in, unknown, (size_t)s->body->n_in);
  if (!split(c, s, p->in, p->out, &p->known, &p->unknown)) return false;
  for (int k = 0; k < s->body->n_out; k++) p->n_known_out += !p->out[k];
  if (!mx_scan_thin(c, &p->known, &p->unknown, p->n_known_out)) return false;
  p->n_residuals = p->known->n_out - p->n_known_out;
  p->residual = mx_take(c, a, p->n_residuals, sizeof(int));
  for (int r = 0; p->residual && r < p->n_residuals; r++)
    p->residual[r] = operand_of(p, s, p->known->outs[p->n_known_out + r]);
  return p->residual != NULL;
}

static bool run_known(mx_ctx *c, mx_arena *a, const mx_op *o, const sizes *s, const parts *p, mx_array **y) {
  int n = 0, n_const = 0, n_carry = 0, n_out = 0;
  mx_array **x = mx_take(c, a, o->n_in, sizeof *x);
  int *source = mx_take(c, a, p->known->n_in, sizeof(int)), *outs = mx_take(c, a, p->known->n_out, sizeof(int));
  const mx_aval **avals = mx_take(c, a, p->known->n_in, sizeof *avals);
  if (!x || !source || !outs || !avals) return false;
  for (int i = 0; i < o->n_in; i++) {
    if (p->in[i]) continue;
    n_const += i < s->n_const;
    n_carry += i >= s->n_const && i < s->n_const + s->n_carry;
    source[n] = n;
    avals[n] = p->known->avals[n];
    x[n++] = o->in[i];
  }
  for (int k = 0; k < p->n_known_out; k++) outs[n_out++] = k;
  for (int r = 0; r < p->n_residuals; r++)
    if (p->residual[r] < 0) outs[n_out++] = p->n_known_out + r;
  mx_program *body = mx_program_rewire(c, p->known, n, avals, source, n_out, outs);
  return bind_scan(c, o, body, n_const, n_carry, o->p->scan.reverse, x, n, y, n_out);
}

/* The unknown body's inputs: unknown operands, then residuals; regrouped as constants, carry, xs. */
static mx_program *regroup(mx_ctx *c, mx_arena *a, const mx_op *o, const sizes *s, const parts *p,
                           mx_array *const *stacked, mx_array **x, int counts[3]) {
  int n_unknown = p->unknown->n_in - p->n_residuals, n = 0, ends[3] = {s->n_const, s->n_const + s->n_carry, o->n_in};
  int *source = mx_take(c, a, p->unknown->n_in, sizeof(int));
  const mx_aval **avals = mx_take(c, a, p->unknown->n_in, sizeof *avals);
  if (!source || !avals) return NULL;
  for (int g = 0, i = 0, u = 0; g < 3; g++) {
    int first = n;
    for (; i < ends[g]; i++)
      if (p->in[i]) source[u] = n, avals[n] = p->unknown->avals[u++], x[n++] = o->in[i];
    for (int r = 0, ranked = 0; r < p->n_residuals && g != 1; r++) {
      int k = p->residual[r], at = n_unknown + r;
      mx_array *value = k >= 0 ? o->in[k] : stacked[ranked++];
      if ((g == 0) != (k >= 0 && k < s->n_const)) continue;
      source[at] = n, avals[n] = p->unknown->avals[at], x[n++] = value;
    }
    counts[g] = n - first;
  }
  return mx_program_rewire(c, p->unknown, n, avals, source, p->unknown->n_out, NULL);
}

static bool record_unknown(mx_ctx *c, mx_trace *lin, const mx_op *o, const mx_taped_scan *t, mx_array **y) {
  mx_params params;
  memset(&params, 0, sizeof params);
  params.scan.body = mx_programs_new(c, 1, &t->body);
  params.scan.n_const = t->counts[0];
  params.scan.n_carry = t->counts[1];
  params.scan.length = o->p->scan.length;
  params.scan.reverse = o->p->scan.reverse;
  int n = t->counts[0] + t->counts[1] + t->counts[2];
  mx_op op = {.prim = &mx_prim_scan, .p = &params, .n_in = n, .n_out = t->body->n_out, .in = t->x};
  const mx_aval **avals = mx_new(c, (size_t)(n + 1) * sizeof *avals);
  for (int i = 0; avals && i < n; i++) avals[i] = &t->x[i]->aval;
  op.in_aval = avals;
  bool ok = params.scan.body && avals && mx_stage_process(c, lin, &op, y);
  mx_free(c->engine, avals, (size_t)(n + 1) * sizeof *avals);
  mx_programs_release(params.scan.body);
  return ok;
}

static bool scan_partial(mx_ctx *c, mx_trace *lin, const mx_op *o, const bool *unknown, mx_array **out) {
  sizes s = sizes_of(o);
  mx_arena a = {c->engine, NULL};
  parts p = {0};
  mx_taped_scan t = {.length = o->p->scan.length};
  bool ok = find_parts(c, &a, &s, unknown, &p);
  mx_array **y = ok ? mx_take(c, &a, p.known->n_out, sizeof *y) : NULL;
  t.x = ok ? mx_take(c, &a, p.unknown->n_in + o->n_in, sizeof *t.x) : NULL;
  mx_array **z = ok ? mx_take(c, &a, p.unknown->n_out, sizeof *z) : NULL;
  ok = t.x && y && z && run_known(c, &a, o, &s, &p, y);
  t.body = ok ? regroup(c, &a, o, &s, &p, y + p.n_known_out, t.x, t.counts) : NULL;
  ok = t.body && mx_scan_hoist(c, &a, lin, &t) && record_unknown(c, lin, o, &t, z);
  for (int k = 0, known = 0, u = 0; ok && k < o->n_out; k++) out[k] = p.out[k] ? z[u++] : y[known++];
  mx_program_release(t.body);
  mx_program_release(p.known);
  mx_program_release(p.unknown);
  mx_arena_release(&a);
  return ok;
}

/* -- transposition ------------------------------------------------------------------------------------------------- */

/* The transposed body: constants are those that are not linear; the carry is what the linear constants have gathered
 * and the carry's cotangent; xs are the cotangents of ys and the xs that are not linear; ys are the cotangents of the
 * linear xs. */
typedef struct back {
  sizes s;
  const bool *linear; /* by body input; the carry counts as linear */
  int n_res, n_acc, n_lin_xs, n_res_xs;
} back;

static bool back_body(mx_ctx *c, const back *b, mx_array *const *in, mx_array **fed, mx_array **ct_out,
                      mx_array **ct_in, mx_list *out) {
  const sizes *s = &b->s;
  int xs = s->n_const + s->n_carry, res = 0, acc = b->n_res, carry = acc + b->n_acc, ys = carry + s->n_carry,
      rest = ys + s->n_ys;
  for (int i = 0; i < s->body->n_in; i++) fed[i] = b->linear[i] ? NULL : i < s->n_const ? in[res++] : in[rest++];
  for (int k = 0; k < s->n_carry; k++) ct_out[k] = in[carry + k];
  for (int k = 0; k < s->n_ys; k++) ct_out[s->n_carry + k] = in[ys + k];
  if (!mx_program_transpose(c, s->body, b->linear, fed, ct_out, ct_in)) return false;
  for (int i = 0, k = 0; i < s->n_const; i++) {
    if (!b->linear[i]) continue;
    mx_array *sum = in[acc + k++];
    if (ct_in[i]) sum = mx_add(c, sum, ct_in[i]);
    if (!sum || !mx_list_add(c, out, sum)) return false;
  }
  for (int i = s->n_const; i < s->body->n_in; i++) {
    if (i >= xs && !b->linear[i]) continue;
    mx_array *g = ct_in[i] ? ct_in[i] : mx_zeros(c, s->body->avals[i]);
    if (!g || !mx_list_add(c, out, g)) return false;
  }
  return true;
}

static bool back_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  back *b = state;
  mx_arena a = {c->engine, NULL};
  mx_array **fed = mx_take(c, &a, b->s.body->n_in, sizeof *fed),
           **ct_out = mx_take(c, &a, b->s.body->n_out, sizeof *ct_out),
           **ct_in = mx_take(c, &a, b->s.body->n_in, sizeof *ct_in);
  (void)n;
  bool ok = fed && ct_out && ct_in && back_body(c, b, in, fed, ct_out, ct_in, out);
  mx_arena_release(&a);
  return ok;
}

/* Operands of the transposed scan, in the order of its body's inputs, with the body's avals. */
static int back_operands(mx_ctx *c, const back *b, const mx_op *o, mx_array *const *ct, mx_array **x,
                         const mx_aval **avals) {
  const sizes *s = &b->s;
  const mx_program *body = s->body;
  int n = 0, xs = s->n_const + s->n_carry;
  for (int i = 0; i < s->n_const; i++)
    if (!b->linear[i]) avals[n] = body->avals[i], x[n++] = o->in[i];
  for (int i = 0; i < s->n_const; i++)
    if (b->linear[i]) avals[n] = body->avals[i], x[n++] = mx_zeros(c, body->avals[i]);
  for (int k = 0; k < o->n_out; k++)
    avals[n] = body->avals[body->outs[k]], x[n++] = ct[k] ? ct[k] : mx_zeros(c, &o->out_aval[k]);
  for (int i = xs; i < o->n_in; i++)
    if (!b->linear[i]) avals[n] = body->avals[i], x[n++] = o->in[i];
  return n;
}

static bool scan_transpose(mx_ctx *c, const mx_op *o, const bool *linear, mx_array *const *ct, mx_array **out) {
  back b = {.s = sizes_of(o)};
  const sizes *s = &b.s;
  mx_arena a = {c->engine, NULL};
  int most = o->n_in + o->n_out, xs = s->n_const + s->n_carry;
  bool *mask = mx_take(c, &a, o->n_in, 1);
  mx_array **x = mx_take(c, &a, most, sizeof *x), **y = mx_take(c, &a, most, sizeof *y);
  const mx_aval **avals = mx_take(c, &a, most, sizeof *avals);
  bool ok = mask && x && y && avals;
  for (int i = 0; ok && i < o->n_in; i++) {
    mask[i] = linear[i] || (i >= s->n_const && i < xs);
    b.n_acc += i < s->n_const && mask[i];
    b.n_lin_xs += i >= xs && mask[i];
  }
  b.linear = mask;
  b.n_res = s->n_const - b.n_acc;
  int n = ok ? back_operands(c, &b, o, ct, x, avals) : 0, n_carry = b.n_acc + s->n_carry, n_out = n_carry + b.n_lin_xs;
  mx_program *body = ok && !mx_failed(c) ? mx_program_of(c, (mx_function){back_call, &b}, avals, n) : NULL;
  ok = body && bind_scan(c, o, body, b.n_res, n_carry, !o->p->scan.reverse, x, n, y, n_out);
  for (int i = 0, k = 0; ok && i < o->n_in; i++)
    if (mask[i]) out[i] = linear[i] ? y[k++] : (k++, NULL);
  mx_arena_release(&a);
  return ok;
}

static double scan_flops(const mx_op *o) {
  return (double)o->p->scan.length * mx_program_flops(o->p->scan.body->items[0]);
}

static const mx_field scan_fields[] = {{"length", MX_FIELD_INT, offsetof(mx_params, scan.length)},
                                       {"reverse", MX_FIELD_FLAG, offsetof(mx_params, scan.reverse)},
                                       {"n_const", MX_FIELD_INT, offsetof(mx_params, scan.n_const)},
                                       {"n_carry", MX_FIELD_INT, offsetof(mx_params, scan.n_carry)},
                                       {"body", MX_FIELD_PROGRAMS, offsetof(mx_params, scan.body)},
                                       {NULL, MX_FIELD_END, 0}};

const mx_primitive mx_prim_scan = {.name = "scan",
                                   .id = MX_PRIM_scan,
                                   .params_size = sizeof((mx_params *)0)->scan,
                                   .fields = scan_fields,
                                   .shape = scan_shape,
                                   .jvp = scan_jvp,
                                   .batch = scan_batch,
                                   .partial = scan_partial,
                                   .transpose_all = scan_transpose,
                                   .flops = scan_flops};
