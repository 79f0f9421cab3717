/* calls.c: primitives that are one program with rules of their own: checkpoint, custom_jvp, custom_vjp.
 *
 *     checkpoint  {f}                    the known part gives results alone; the tape computes f's jvp whole, from the
 * operands custom_jvp  {f, rule}              rule: operands, tangents -> results, tangents custom_vjp  {f, forward,
 * backward} forward: operands -> results, residuals; backward: residuals, cotangents -> cotangents. Its tangents are
 * those of custom_linear, which has a transpose and nothing else.
 */
#include "control_impl.h"

static bool call_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_program *p = o->p->call.of->items[0];
  (void)c;
  for (int k = 0; k < o->n_out; k++) {
    out[k] = *p->avals[p->outs[k]];
    out[k].weak = false;
  }
  return true;
}

/* Takes the n programs. */
static bool bind_call(mx_ctx *c, const mx_primitive *prim, mx_program **programs, int n, int64_t n_res,
                      mx_array *const *in, int n_in, mx_array **out, int n_out) {
  mx_params p;
  memset(&p, 0, sizeof p);
  bool ok = true;
  for (int i = 0; i < n; i++) ok &= programs[i] != NULL;
  if (ok) {
    p.call.of = mx_programs_new(c, n, programs);
    p.call.n_res = n_res;
    ok = mx_bind_programs(c, prim, &p, in, n_in, out, n_out);
  }
  for (int i = 0; i < n; i++) mx_program_release(programs[i]);
  return ok;
}

/* -- checkpoint ---------------------------------------------------------------------------------------------------- */

static bool checkpoint_jvp(mx_ctx *c, const mx_op *o, mx_array *const *tangents, mx_array **out,
                           mx_array **out_tangents) {
  mx_arena a = {c->engine, NULL};
  bool *in = mx_take(c, &a, o->n_in, 1), *nonzero = mx_take(c, &a, o->n_out, 1);
  mx_array **x = mx_take(c, &a, 2 * o->n_in, sizeof *x), **y = mx_take(c, &a, 2 * o->n_out, sizeof *y);
  bool ok = in && nonzero && x && y;
  int n = 0;
  for (; ok && n < o->n_in; n++) x[n] = o->in[n];
  for (int i = 0; ok && i < o->n_in; i++)
    if ((in[i] = tangents[i] != NULL)) x[n++] = tangents[i];
  mx_program *q = ok ? mx_program_jvp(c, o->p->call.of->items[0], in, nonzero) : NULL;
  ok = ok && q && bind_call(c, &mx_prim_checkpoint, &q, 1, 0, x, n, y, q->n_out);
  for (int k = 0, t = o->n_out; ok && k < o->n_out; k++) {
    out[k] = y[k];
    if (nonzero[k]) out_tangents[k] = y[t++];
  }
  mx_arena_release(&a);
  return ok;
}

/* Known results now; the unknown ones by the whole program on the tape, whose known operands are the residuals. */
static bool checkpoint_partial(mx_ctx *c, mx_trace *lin, const mx_op *o, const bool *unknown, mx_array **out) {
  mx_program *p = o->p->call.of->items[0], *known, *rest, *both[2];
  mx_arena a = {c->engine, NULL};
  bool *out_unknown = mx_take(c, &a, o->n_out, 1);
  int *source = mx_take(c, &a, o->n_in, sizeof(int)), *outs = mx_take(c, &a, o->n_out, sizeof(int)), n = 0, n_known = 0,
      n_unknown = 0;
  mx_array **x = mx_take(c, &a, o->n_in, sizeof *x), **y = mx_take(c, &a, o->n_out, sizeof *y),
           **z = mx_take(c, &a, o->n_out, sizeof *z);
  bool ok = out_unknown && source && outs && x && y && z && mx_program_split(c, p, unknown, out_unknown, &known, &rest);
  if (!ok) return mx_arena_release(&a), false;
  for (int i = 0; i < o->n_in; i++)
    if (!unknown[i]) source[n] = n, x[n++] = o->in[i];
  const mx_aval **avals = mx_take(c, &a, o->n_in, sizeof *avals);
  for (int i = 0; avals && i < n; i++) avals[i] = &x[i]->aval;
  for (int k = 0; k < o->n_out; k++) n_known += !out_unknown[k];
  both[0] = avals ? mx_program_rewire(c, known, n, avals, source, n_known, NULL) : NULL; /* without the residuals */
  mx_program_release(known);
  mx_program_release(rest);
  ok = both[0] && bind_call(c, &mx_prim_checkpoint, both, 1, 0, x, n, y, n_known);
  for (int i = 0; i < o->n_in; i++) source[i] = i;
  for (int k = 0; k < o->n_out; k++)
    if (out_unknown[k]) outs[n_unknown++] = k;
  both[1] = ok ? mx_program_rewire(c, p, o->n_in, o->in_aval, source, n_unknown, outs) : NULL;
  mx_params params;
  memset(&params, 0, sizeof params);
  params.call.of = both[1] ? mx_programs_new(c, 1, both + 1) : NULL;
  mx_op op = {.prim = &mx_prim_checkpoint,
              .p = &params,
              .n_in = o->n_in,
              .n_out = n_unknown,
              .in = o->in,
              .in_aval = o->in_aval};
  ok = params.call.of && mx_stage_process(c, lin, &op, z);
  for (int k = 0, i = 0, u = 0; ok && k < o->n_out; k++) out[k] = out_unknown[k] ? z[u++] : y[i++];
  mx_programs_release(params.call.of);
  if (both[1]) mx_program_release(both[1]);
  mx_arena_release(&a);
  return ok;
}

/* The way back: what needs no tangent is computed again, then what is linear in the tangents is transposed. The program
 * is split first, since one equation of it may give results of both kinds: control flow that computes tangents beside
 * values. */
typedef struct halves {
  mx_program *known, *linear; /* see mx_program_split */
  bool *out;                  /* results that are linear */
  bool *mask;                 /* inputs of `linear` that are; behind them stand the residuals */
  int n_known_out, n_linear_in;
} halves;

static bool split_halves(mx_ctx *c, mx_arena *a, const mx_op *o, const bool *linear, halves *h) {
  h->out = mx_take(c, a, o->n_out, 1);
  if (!h->out || !mx_program_split(c, o->p->call.of->items[0], linear, h->out, &h->known, &h->linear)) return false;
  h->mask = mx_take(c, a, h->linear->n_in, 1);
  for (int k = 0; k < o->n_out; k++) h->n_known_out += !h->out[k];
  for (int i = 0; h->mask && i < o->n_in; i++)
    if (linear[i]) h->mask[h->n_linear_in++] = true;
  return h->mask != NULL;
}

static bool transpose_halves(mx_ctx *c, mx_arena *a, const mx_op *o, const bool *linear, const halves *h,
                             mx_array *const *ct, mx_array **out) {
  int n = h->linear->n_in;
  mx_array **x = mx_take(c, a, o->n_in, sizeof *x), **y = mx_take(c, a, h->known->n_out, sizeof *y),
           **in = mx_take(c, a, n, sizeof *in), **g = mx_take(c, a, o->n_out, sizeof *g),
           **ct_in = mx_take(c, a, n, sizeof *ct_in);
  if (!x || !y || !in || !g || !ct_in) return false;
  for (int i = 0, k = 0; i < o->n_in; i++)
    if (!linear[i]) x[k++] = o->in[i];
  for (int k = 0, u = 0; k < o->n_out; k++)
    if (h->out[k]) g[u++] = ct[k];
  if (!mx_program_eval(c, h->known, x, y)) return false;
  for (int i = h->n_linear_in; i < n; i++) in[i] = y[h->n_known_out + i - h->n_linear_in];
  if (!mx_program_transpose(c, h->linear, h->mask, in, g, ct_in)) return false;
  for (int i = 0, k = 0; i < o->n_in; i++)
    if (linear[i]) out[i] = ct_in[k++];
  return true;
}

static bool checkpoint_transpose(mx_ctx *c, const mx_op *o, const bool *linear, mx_array *const *ct, mx_array **out) {
  mx_arena a = {c->engine, NULL};
  halves h = {0};
  bool ok = split_halves(c, &a, o, linear, &h) && transpose_halves(c, &a, o, linear, &h, ct, out);
  mx_program_release(h.known);
  mx_program_release(h.linear);
  mx_arena_release(&a);
  return ok;
}

/* -- batch: of all programs ---------------------------------------------------------------------------------------- */

static mx_array **fronted(mx_ctx *c, mx_arena *a, const mx_op *o, const int *axes, int64_t size, bool all, bool *in) {
  mx_array **x = mx_take(c, a, o->n_in, sizeof *x);
  for (int i = 0; x && i < o->n_in; i++) {
    in[i] = all || axes[i] >= 0;
    x[i] = in[i] ? mx_batch_to_front(c, o->in[i], axes[i], size) : o->in[i];
  }
  return x;
}

static bool checkpoint_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_arena a = {c->engine, NULL};
  bool *in = mx_take(c, &a, o->n_in, 1), *mapped = mx_take(c, &a, o->n_out, 1);
  mx_array **x = in && mapped ? fronted(c, &a, o, axes, size, false, in) : NULL;
  mx_program *q = x ? mx_program_batch(c, o->p->call.of->items[0], size, c->batching, in, mapped) : NULL;
  bool ok = q && bind_call(c, &mx_prim_checkpoint, &q, 1, 0, x, o->n_in, out, o->n_out);
  for (int k = 0; ok && k < o->n_out; k++) out_axes[k] = mapped[k] ? 0 : -1;
  mx_arena_release(&a);
  return ok;
}

/* Custom rules are mapped whole: every operand and result, so that the programs' types agree. */
static bool custom_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  const mx_programs *l = o->p->call.of;
  mx_arena a = {c->engine, NULL};
  int most = 1;
  for (int i = 0; i < l->n; i++) most = most > l->items[i]->n_in ? most : l->items[i]->n_in;
  for (int i = 0; i < l->n; i++) most = most > l->items[i]->n_out ? most : l->items[i]->n_out;
  bool *in = mx_take(c, &a, most > o->n_in ? most : o->n_in, 1), *mapped = mx_take(c, &a, most, 1);
  mx_array **x = in && mapped ? fronted(c, &a, o, axes, size, true, in) : NULL;
  mx_program **q = mx_take(c, &a, l->n, sizeof *q);
  bool ok = x && q;
  for (int i = 0; ok && i < l->n; i++) {
    memset(in, true, (size_t)most);
    memset(mapped, true, (size_t)most);
    ok = (q[i] = mx_program_batch(c, l->items[i], size, c->batching, in, mapped)) != NULL;
  }
  ok = q && bind_call(c, o->prim, q, l->n, o->p->call.n_res, x, o->n_in, out, o->n_out) && ok;
  for (int k = 0; ok && k < o->n_out; k++) out_axes[k] = 0;
  mx_arena_release(&a);
  return ok;
}

/* -- custom_jvp ---------------------------------------------------------------------------------------------------- */

static bool custom_jvp_jvp(mx_ctx *c, const mx_op *o, mx_array *const *tangents, mx_array **out,
                           mx_array **out_tangents) {
  const mx_program *rule = o->p->call.of->items[1];
  mx_arena a = {c->engine, NULL};
  mx_array **x = mx_take(c, &a, 2 * o->n_in, sizeof *x), **y = mx_take(c, &a, 2 * o->n_out, sizeof *y);
  bool ok = x && y;
  for (int i = 0; ok && i < o->n_in; i++) {
    x[i] = o->in[i];
    ok = (x[o->n_in + i] = tangents[i] ? tangents[i] : mx_zeros(c, &o->in[i]->aval)) != NULL;
  }
  ok = ok && mx_program_eval(c, rule, x, y);
  for (int k = 0; ok && k < o->n_out; k++) {
    out[k] = y[k];
    out_tangents[k] = mx_is_float(y[k]->aval.dtype) ? y[o->n_out + k] : NULL;
  }
  mx_arena_release(&a);
  return ok;
}

/* -- custom_vjp ---------------------------------------------------------------------------------------------------- */

static bool custom_vjp_jvp(mx_ctx *c, const mx_op *o, mx_array *const *tangents, mx_array **out,
                           mx_array **out_tangents) {
  const mx_programs *l = o->p->call.of;
  const mx_program *forward = l->items[1];
  mx_arena a = {c->engine, NULL};
  int n_res = forward->n_out - o->n_out;
  mx_array **y = mx_take(c, &a, forward->n_out, sizeof *y), **x = mx_take(c, &a, n_res + o->n_in, sizeof *x);
  bool ok = x && y && mx_program_eval(c, forward, o->in, y);
  for (int r = 0; ok && r < n_res; r++) x[r] = y[o->n_out + r];
  for (int i = 0; ok && i < o->n_in; i++)
    ok = (x[n_res + i] = tangents[i] ? tangents[i] : mx_zeros(c, &o->in[i]->aval)) != NULL;
  mx_params p;
  memset(&p, 0, sizeof p);
  mx_program *both[2] = {l->items[2], l->items[0]}; /* the second gives the results' types */
  p.call.of = ok ? mx_programs_new(c, 2, both) : NULL;
  p.call.n_res = n_res;
  ok = p.call.of && mx_bind_programs(c, &mx_prim_custom_linear, &p, x, n_res + o->n_in, out_tangents, o->n_out);
  for (int k = 0; ok && k < o->n_out; k++) {
    out[k] = y[k];
    if (!mx_is_float(y[k]->aval.dtype)) out_tangents[k] = NULL;
  }
  mx_arena_release(&a);
  return ok;
}

static bool custom_linear_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_program *f = o->p->call.of->items[1];
  (void)c;
  for (int k = 0; k < o->n_out; k++) {
    out[k] = *f->avals[f->outs[k]];
    out[k].weak = false;
  }
  return true;
}

static bool custom_linear_jvp(mx_ctx *c, const mx_op *o, mx_array *const *tangents, mx_array **out,
                              mx_array **out_tangents) {
  (void)o, (void)tangents, (void)out, (void)out_tangents;
  mx_fail(
      c, MLAX_UNSUPPORTED,
      "forward-mode differentiation of a function with a custom vjp is not defined (use grad or vjp, or custom_jvp)");
  return false;
}

static bool custom_linear_transpose(mx_ctx *c, const mx_op *o, const bool *linear, mx_array *const *ct,
                                    mx_array **out) {
  const mx_program *backward = o->p->call.of->items[0];
  mx_arena a = {c->engine, NULL};
  int n_res = (int)o->p->call.n_res;
  mx_array **x = mx_take(c, &a, n_res + o->n_out, sizeof *x), **y = mx_take(c, &a, backward->n_out, sizeof *y);
  bool ok = x && y;
  for (int r = 0; ok && r < n_res; r++) x[r] = o->in[r];
  for (int k = 0; ok && k < o->n_out; k++) ok = (x[n_res + k] = ct[k] ? ct[k] : mx_zeros(c, &o->out_aval[k])) != NULL;
  ok = ok && mx_program_eval(c, backward, x, y);
  for (int i = n_res; ok && i < o->n_in; i++)
    if (linear[i] && i - n_res < backward->n_out) out[i] = y[i - n_res]; /* operands behind are captured: zero */
  mx_arena_release(&a);
  return ok;
}

static double call_flops(const mx_op *o) { return mx_program_flops(o->p->call.of->items[0]); }

static const mx_field call_fields[] = {{"of", MX_FIELD_PROGRAMS, offsetof(mx_params, call.of)},
                                       {NULL, MX_FIELD_END, 0}};

#define CALL(NAME, ...)                                                                                                \
  const mx_primitive mx_prim_##NAME = {.name = #NAME,                                                                  \
                                       .id = MX_PRIM_##NAME,                                                           \
                                       .params_size = sizeof((mx_params *)0)->call,                                    \
                                       .fields = call_fields,                                                          \
                                       .flops = call_flops,                                                            \
                                       __VA_ARGS__}

CALL(checkpoint, .shape = call_shape, .jvp = checkpoint_jvp, .batch = checkpoint_batch, .partial = checkpoint_partial,
     .transpose_all = checkpoint_transpose);
CALL(custom_jvp, .shape = call_shape, .jvp = custom_jvp_jvp, .batch = custom_batch);
CALL(custom_vjp, .shape = call_shape, .jvp = custom_vjp_jvp, .batch = custom_batch);
CALL(custom_linear, .shape = custom_linear_shape, .jvp = custom_linear_jvp, .batch = custom_batch,
     .transpose_all = custom_linear_transpose);
