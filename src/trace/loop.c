/* loop.c: while. operands: constants of the condition, constants of the body, carry; results: the carry when the
 * condition fails. */
#include "control_impl.h"

typedef struct sizes {
  int n_cond, n_body, n_carry;
  const mx_program *cond, *body;
} sizes;

static sizes sizes_of(const mx_op *o) {
  sizes s = {(int)o->p->loop.n_const[0], (int)o->p->loop.n_const[1], 0, o->p->loop.of->items[0],
             o->p->loop.of->items[1]};
  s.n_carry = o->n_in - s.n_cond - s.n_body;
  return s;
}

static bool loop_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  sizes s = sizes_of(o);
  (void)c;
  for (int k = 0; k < s.n_carry; k++) {
    out[k] = *s.body->avals[s.body->outs[k]];
    out[k].weak = false;
  }
  return true;
}

/* Takes the two programs. */
static bool bind_loop(mx_ctx *c, mx_program *cond, mx_program *body, int n_cond, int n_body, mx_array *const *in,
                      int n_in, mx_array **out, int n_out) {
  mx_params p;
  memset(&p, 0, sizeof p);
  mx_program *both[2] = {cond, body};
  bool ok = cond && body;
  if (ok) {
    p.loop.of = mx_programs_new(c, 2, both);
    p.loop.n_const[0] = n_cond;
    p.loop.n_const[1] = n_body;
    ok = mx_bind_programs(c, &mx_prim_loop, &p, in, n_in, out, n_out);
  }
  mx_program_release(cond);
  mx_program_release(body);
  return ok;
}

/* -- jvp: the condition sees primals alone ------------------------------------------------------------------------- */

static mx_program *jvp_body(mx_ctx *c, const sizes *s, bool *in, bool *out) {
  for (;;) {
    for (int k = 0; k < s->n_carry; k++) out[k] = in[s->n_body + k];
    mx_program *p = mx_program_jvp(c, s->body, in, out);
    bool changed = false;
    for (int k = 0; p && k < s->n_carry; k++)
      if (out[k] && !in[s->n_body + k]) in[s->n_body + k] = changed = true;
    if (!changed) return p;
    mx_program_release(p);
  }
}

/* New operands: condition's constants; the body's, with tangents; the carry, with tangents. */
typedef struct layout {
  int n_body, n_carry, n;
  int *source;           /* of the jvp'd body */
  const mx_aval **avals; /* of body constants and carry, with tangents */
} layout;

static bool lay_out(mx_ctx *c, mx_arena *a, const sizes *s, const bool *in, layout *l) {
  int n = s->n_body + s->n_carry, next = n, at = 0;
  int *tangent = mx_take(c, a, n, sizeof(int));
  *l = (layout){.source = mx_take(c, a, 2 * n, sizeof(int)), .avals = mx_take(c, a, 2 * n, sizeof *l->avals)};
  if (!tangent || !l->source || !l->avals) return false;
  for (int i = 0; i < n; i++) tangent[i] = in[i] ? next++ : -1;
  for (int g = 0; g < 2; g++) {
    int from = g ? s->n_body : 0, to = g ? n : s->n_body, first = at;
    for (int i = from; i < to; i++) l->source[i] = at, l->avals[at++] = s->body->avals[i];
    for (int i = from; i < to; i++)
      if (in[i]) l->source[tangent[i]] = at, l->avals[at++] = s->body->avals[i];
    *(g ? &l->n_carry : &l->n_body) = at - first;
  }
  l->n = at;
  return true;
}

static mx_program *widen_cond(mx_ctx *c, mx_arena *a, const sizes *s, const layout *l) {
  int n = s->n_cond + l->n_carry;
  const mx_aval **avals = mx_take(c, a, n, sizeof *avals);
  int *source = mx_take(c, a, n, sizeof(int));
  if (!avals || !source) return NULL;
  for (int i = 0; i < s->n_cond + s->n_carry; i++) source[i] = i;
  for (int i = 0; i < s->n_cond; i++) avals[i] = s->cond->avals[i];
  for (int i = 0; i < l->n_carry; i++) avals[s->n_cond + i] = l->avals[l->n_body + i];
  return mx_program_rewire(c, s->cond, n, avals, source, 1, NULL);
}

static int add_group(mx_ctx *c, const mx_op *o, mx_array *const *tangents, const bool *in, int from, int to, int first,
                     mx_array **x) {
  int n = 0;
  for (int i = from; i < to; i++) x[n++] = o->in[i];
  for (int i = from; i < to; i++)
    if (in[i - first]) x[n++] = tangents[i] ? tangents[i] : mx_zeros(c, &o->in[i]->aval);
  return n;
}

static bool loop_jvp(mx_ctx *c, const mx_op *o, mx_array *const *tangents, mx_array **out, mx_array **out_tangents) {
  sizes s = sizes_of(o);
  mx_arena a = {c->engine, NULL};
  bool *in = mx_take(c, &a, o->n_in, 1), *nonzero = mx_take(c, &a, o->n_out, 1), ok = in && nonzero;
  for (int i = 0; ok && i < s.n_body + s.n_carry; i++) in[i] = tangents[s.n_cond + i] != NULL;
  mx_program *q = ok ? jvp_body(c, &s, in, nonzero) : NULL, *body = NULL, *cond = NULL;
  layout l = {0};
  ok = q && lay_out(c, &a, &s, in, &l);
  if (ok) body = mx_program_rewire(c, q, l.n, l.avals, l.source, q->n_out, NULL);
  if (body) cond = widen_cond(c, &a, &s, &l);
  mx_array **x = mx_take(c, &a, 2 * o->n_in, sizeof *x), **y = mx_take(c, &a, 2 * o->n_out, sizeof *y);
  ok = body && cond && x && y;
  int n = 0;
  for (; ok && n < s.n_cond; n++) x[n] = o->in[n];
  if (ok) n += add_group(c, o, tangents, in, s.n_cond, s.n_cond + s.n_body, s.n_cond, x + n);
  if (ok) n += add_group(c, o, tangents, in, s.n_cond + s.n_body, o->n_in, s.n_cond, x + n);
  ok = bind_loop(c, cond, body, s.n_cond, l.n_body, x, ok ? n : 0, y, ok ? q->n_out : 0) && ok;
  for (int k = 0, t = o->n_out; ok && k < o->n_out; k++) {
    out[k] = y[k];
    if (nonzero[k]) out_tangents[k] = y[t++];
  }
  mx_program_release(q);
  mx_arena_release(&a);
  return ok;
}

/* -- partial evaluation: the known part of the carry is computed now; the tape runs the loop whole, as checkpoint does
 * --- */

typedef struct known {
  mx_program *cond, *body; /* of the known inputs; behind the results are residuals, which nobody needs */
  bool *in, *out;          /* unknown: inputs of the body, the carry */
  int n_const, n_carry;    /* known constants of the body, known carry */
} known;

/* Splits the body until the carry's unknown results are unknown inputs too, then the condition. */
static bool find_known(mx_ctx *c, const sizes *s, const bool *unknown, known *r) {
  mx_program *rest;
  memcpy(r->in, unknown + s->n_cond, (size_t)(s->n_body + s->n_carry));
  for (bool changed = true; changed;) {
    memcpy(r->out, r->in + s->n_body, (size_t)s->n_carry);
    mx_program_release(r->body);
    if (!mx_program_split(c, s->body, r->in, r->out, &r->body, &rest)) return false;
    mx_program_release(rest);
    changed = memcmp(r->out, r->in + s->n_body, (size_t)s->n_carry) != 0;
    memcpy(r->in + s->n_body, r->out, (size_t)s->n_carry);
  }
  for (int i = 0; i < s->n_body; i++) r->n_const += !r->in[i];
  for (int k = 0; k < s->n_carry; k++) r->n_carry += !r->out[k];
  return true;
}

/* The condition without the carry that is unknown. Tangents never reach it. */
static bool split_cond(mx_ctx *c, mx_arena *a, const sizes *s, const bool *unknown, known *r) {
  bool *in = mx_take(c, a, s->n_cond + s->n_carry, 1), out = false;
  mx_program *rest;
  if (!in) return false;
  memcpy(in, unknown, (size_t)s->n_cond);
  memcpy(in + s->n_cond, r->out, (size_t)s->n_carry);
  if (!mx_program_split(c, s->cond, in, &out, &r->cond, &rest)) return false;
  mx_program_release(rest);
  if (out) mx_fail(c, MLAX_UNSUPPORTED, "the condition of while_loop depends on a tangent");
  return !out;
}

static mx_program *first_results(mx_ctx *c, mx_arena *a, const mx_program *p, int n_out) {
  int *source = mx_take(c, a, p->n_in, sizeof *source);
  for (int i = 0; source && i < p->n_in; i++) source[i] = i;
  return source ? mx_program_rewire(c, p, p->n_in, (const mx_aval *const *)p->avals, source, n_out, NULL) : NULL;
}

static bool run_known(mx_ctx *c, mx_arena *a, const mx_op *o, const sizes *s, const known *r, mx_array **y) {
  mx_array **x = mx_take(c, a, o->n_in, sizeof *x);
  int n = 0;
  if (!x) return false;
  for (int i = 0; i < o->n_in; i++)
    if (i < s->n_cond || !r->in[i - s->n_cond]) x[n++] = o->in[i];
  mx_program *cond = first_results(c, a, r->cond, 1), *body = cond ? first_results(c, a, r->body, r->n_carry) : NULL;
  return bind_loop(c, cond, body, s->n_cond, r->n_const, x, n, y, r->n_carry);
}

static bool loop_partial(mx_ctx *c, mx_trace *lin, const mx_op *o, const bool *unknown, mx_array **out) {
  sizes s = sizes_of(o);
  mx_arena a = {c->engine, NULL};
  known r = {.in = mx_take(c, &a, s.n_body + s.n_carry, 1), .out = mx_take(c, &a, s.n_carry, 1)};
  mx_array **y = mx_take(c, &a, s.n_carry, sizeof *y), **z = mx_take(c, &a, s.n_carry, sizeof *z);
  mx_op whole = *o;
  bool ok = r.in && r.out && y && z && find_known(c, &s, unknown, &r) && split_cond(c, &a, &s, unknown, &r);
  ok = ok && (!r.n_carry || run_known(c, &a, o, &s, &r, y)) && mx_stage_process(c, lin, &whole, z);
  for (int k = 0, i = 0; ok && k < s.n_carry; k++) out[k] = r.out[k] ? z[k] : y[i++];
  mx_program_release(r.cond);
  mx_program_release(r.body);
  mx_arena_release(&a);
  return ok;
}

static bool loop_transpose(mx_ctx *c, const mx_op *o, const bool *linear, mx_array *const *ct, mx_array **out) {
  (void)o, (void)linear, (void)ct, (void)out;
  mx_fail(c, MLAX_UNSUPPORTED,
          "reverse-mode differentiation of while_loop is not defined, since its steps are not kept: use scan, or "
          "fori_loop with Lua numbers as bounds");
  return false;
}

/* -- batch: where the condition depends on the example, each one stops by itself ----------------------------------- */

typedef struct per_example {
  sizes s;
  int64_t size;
  const bool *mapped;      /* by operand */
  const bool *cond_mapped; /* by input of the condition: its constants, the carry */
  bool select;             /* the condition is mapped */
} per_example;

static bool example_cond(mx_ctx *c, const per_example *e, mx_array *const *in, mx_array **pred) {
  mx_arena a = {c->engine, NULL};
  mx_array **x = mx_take(c, &a, e->s.n_cond + e->s.n_carry, sizeof *x);
  for (int i = 0; x && i < e->s.n_cond; i++) x[i] = in[i];
  for (int k = 0; x && k < e->s.n_carry; k++) x[e->s.n_cond + k] = in[e->s.n_cond + e->s.n_body + k];
  bool ok = x && mx_program_eval(c, e->s.cond, x, pred);
  mx_arena_release(&a);
  return ok;
}

static bool example_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  per_example *e = state;
  const sizes *s = &e->s;
  mx_arena a = {c->engine, NULL};
  mx_array *pred = NULL, **y = mx_take(c, &a, s->n_carry, sizeof *y);
  (void)n;
  bool ok = y && (!e->select || example_cond(c, e, in, &pred));
  ok = ok && mx_program_eval_where(c, s->body, in + s->n_cond, pred, y);
  for (int k = 0; ok && k < s->n_carry; k++) {
    mx_array *v = pred ? mx_select(c, pred, y[k], in[s->n_cond + s->n_body + k]) : y[k];
    ok = v && mx_list_add(c, out, v);
  }
  mx_arena_release(&a);
  return ok;
}

static bool pred_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  mx_array *pred;
  (void)n;
  return mx_program_eval(c, ((per_example *)state)->s.cond, in, &pred) && mx_list_add(c, out, pred);
}

/* The whole body or condition: the example's, mapped; results first-axis mapped (body), or any of them (condition). */
static bool whole_call(mx_ctx *c, mx_function f, const bool *mapped, int64_t size, mx_array *const *in, int n,
                       mx_list *to, mx_ints *axes) {
  mx_arena a = {c->engine, NULL};
  int *in_axes = mx_take(c, &a, n, sizeof(int));
  for (int i = 0; in_axes && i < n; i++) in_axes[i] = mapped[i] ? 0 : -1;
  bool ok = in_axes && mx_batch(c, f, in, in_axes, n, size, c->batching, to, axes);
  mx_arena_release(&a);
  return ok;
}

static bool whole_body(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  per_example *e = state;
  mx_list y = {0};
  mx_ints axes = {0};
  bool ok = whole_call(c, (mx_function){example_call, e}, e->mapped, e->size, in, n, &y, &axes);
  for (int k = 0; ok && k < y.n; k++) {
    bool mapped = e->mapped[e->s.n_cond + e->s.n_body + k];
    mx_array *v = mapped ? mx_batch_to_front(c, y.items[k], axes.items[k], e->size) : y.items[k];
    ok = v && mx_list_add(c, out, v);
  }
  mx_list_release(c, &y);
  mx_ints_release(c, &axes);
  return ok;
}

static bool whole_cond(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  per_example *e = state;
  mx_list y = {0};
  mx_ints axes = {0};
  bool ok = whole_call(c, (mx_function){pred_call, e}, e->cond_mapped, e->size, in, n, &y, &axes);
  mx_array *any = ok ? mx_any(c, y.items[0], NULL, false) : NULL;
  ok = any && mx_list_add(c, out, any);
  mx_list_release(c, &y);
  mx_ints_release(c, &axes);
  return ok;
}

/* Grows the carry's mask until the body maps no more; the condition being mapped maps all of the carry. */
static bool find_mapped(mx_ctx *c, mx_arena *a, const sizes *s, const int *axes, int64_t size, bool *mapped,
                        bool *select) {
  int n = s->n_cond + s->n_body + s->n_carry;
  bool *in = mx_take(c, a, n, 1), *out = mx_take(c, a, n, 1);
  if (!in || !out) return false;
  for (int i = 0; i < n; i++) mapped[i] = axes[i] >= 0;
  for (bool changed = true; changed;) {
    changed = false;
    memcpy(in, mapped + s->n_cond, (size_t)(s->n_body + s->n_carry));
    memset(out, 0, (size_t)n);
    mx_program *p = mx_program_batch(c, s->body, size, c->batching, in, out);
    if (!p) return false;
    mx_program_release(p);
    for (int k = 0; k < s->n_carry; k++)
      if (out[k] && !mapped[s->n_cond + s->n_body + k]) mapped[s->n_cond + s->n_body + k] = changed = true;
  }
  memcpy(in, mapped, (size_t)s->n_cond);
  memcpy(in + s->n_cond, mapped + s->n_cond + s->n_body, (size_t)s->n_carry);
  memset(out, 0, (size_t)n);
  mx_program *p = mx_program_batch(c, s->cond, size, c->batching, in, out);
  if (!p) return false;
  mx_program_release(p);
  *select = out[0];
  if (*select) memset(mapped + s->n_cond + s->n_body, true, (size_t)s->n_carry);
  return true;
}

/* The whole programs and the operands of the loop: the condition's constants, all constants (the body asks the
 * condition for each example), the carry. Tangents are among the body's constants, so the condition does not take
 * those. */
static bool bind_whole(mx_ctx *c, mx_arena *a, const mx_op *o, per_example *e, mx_array **x, mx_array **out) {
  const sizes *s = &e->s;
  int n = o->n_in, n_const = s->n_cond + s->n_body;
  const mx_aval **avals = mx_take(c, a, n, sizeof *avals), **cond_avals = mx_take(c, a, n, sizeof *avals);
  bool *cond_mapped = mx_take(c, a, n, 1);
  if (!avals || !cond_avals || !cond_mapped) return false;
  for (int i = 0, k = 0; i < n; i++) {
    avals[i] = &x[s->n_cond + i]->aval;
    if (i < s->n_cond || i >= n_const) cond_mapped[k] = e->mapped[i], cond_avals[k++] = avals[i];
  }
  e->cond_mapped = cond_mapped;
  mx_program *body = mx_program_of(c, (mx_function){whole_body, e}, avals, n);
  mx_program *cond = body ? mx_program_of(c, (mx_function){whole_cond, e}, cond_avals, s->n_cond + s->n_carry) : NULL;
  return bind_loop(c, cond, body, s->n_cond, n_const, x, s->n_cond + n, out, o->n_out);
}

static bool loop_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  per_example e = {.s = sizes_of(o), .size = size};
  const sizes *s = &e.s;
  mx_arena a = {c->engine, NULL};
  int n = o->n_in;
  bool *mapped = mx_take(c, &a, n, 1);
  mx_array **x = mx_take(c, &a, n + s->n_cond, sizeof *x);
  bool ok = mapped && x && find_mapped(c, &a, s, axes, size, mapped, &e.select);
  e.mapped = mapped;
  for (int i = 0; ok && i < n; i++) {
    mx_array *v = mapped[i] ? mx_batch_to_front(c, o->in[i], axes[i], size) : o->in[i];
    x[s->n_cond + i] = v;
    if (i < s->n_cond) x[i] = v;
    ok = v != NULL;
  }
  ok = ok && bind_whole(c, &a, o, &e, x, out);
  for (int k = 0; ok && k < o->n_out; k++) out_axes[k] = mapped[s->n_cond + s->n_body + k] ? 0 : -1;
  mx_arena_release(&a);
  return ok;
}

static const mx_field loop_fields[] = {{"n_cond", MX_FIELD_INT, offsetof(mx_params, loop.n_const)},
                                       {"n_body", MX_FIELD_INT, offsetof(mx_params, loop.n_const) + sizeof(int64_t)},
                                       {"of", MX_FIELD_PROGRAMS, offsetof(mx_params, loop.of)},
                                       {NULL, MX_FIELD_END, 0}};

const mx_primitive mx_prim_loop = {.name = "while",
                                   .id = MX_PRIM_loop,
                                   .params_size = sizeof((mx_params *)0)->loop,
                                   .fields = loop_fields,
                                   .shape = loop_shape,
                                   .jvp = loop_jvp,
                                   .batch = loop_batch,
                                   .partial = loop_partial,
                                   .transpose_all = loop_transpose};
