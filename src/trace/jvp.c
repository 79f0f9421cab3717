/* jvp.c: forward mode. A dual tracer is a primal with its tangent; a NULL tangent is zero, and such values travel bare.
 */
#include "trace_impl.h"

static mx_array *primal_of(const mx_trace *t, mx_array *x) { return mx_owns(t, x) ? x->primal : x; }
static mx_array *tangent_of(const mx_trace *t, mx_array *x) { return mx_owns(t, x) ? x->tangent : NULL; }

static mx_array *dual_new(mx_ctx *c, mx_trace *t, mx_array *primal, mx_array *tangent) {
  if (!tangent || !primal) return primal;
  mx_array *x = mx_tracer_new(c, t, MX_DUAL, &primal->aval);
  if (!x) return NULL;
  x->primal = mx_retain(primal);
  x->tangent = mx_retain(tangent);
  return x;
}

/* d out = sum over the operands of d(i, tangent i), broadcast to the result. */
static bool jvp_by_operand(mx_ctx *c, mx_op *o, mx_array *const *tangents, mx_array **out, mx_array **out_tangents) {
  if (!mx_bind(c, o->prim, o->p, o->in, o->n_in, out, o->n_out)) return false;
  out_tangents[0] = NULL;
  if (!o->prim->d || !mx_is_float(out[0]->aval.dtype)) return true;
  o->out = out;
  o->out_aval = &out[0]->aval;
  mx_array *sum = NULL;
  for (int i = 0; i < o->n_in; i++) {
    if (!tangents[i]) continue;
    mx_array *term = o->prim->d(c, o, i, tangents[i]);
    if (!term) {
      if (mx_failed(c)) return false;
      continue; /* this operand has no influence */
    }
    sum = sum ? mx_add(c, sum, term) : term;
  }
  if (sum) sum = mx_broadcast_like(c, sum, &out[0]->aval);
  out_tangents[0] = sum;
  return !mx_failed(c);
}

static bool dual_bind(mx_ctx *c, mx_trace *t, mx_op *o, mx_array **primals, mx_array **tangents, const mx_aval **avals,
                      mx_array **out, mx_array **out_tangents) {
  for (int i = 0; i < o->n_in; i++) {
    primals[i] = primal_of(t, o->in[i]);
    tangents[i] = tangent_of(t, o->in[i]);
    avals[i] = &primals[i]->aval;
  }
  mx_op inner = *o;
  inner.in = primals;
  inner.in_aval = avals;
  for (int k = 0; k < o->n_out; k++) out_tangents[k] = NULL;
  bool (*rule)(mx_ctx *, const mx_op *, mx_array *const *, mx_array **, mx_array **) = o->prim->jvp;
  bool ok =
      rule ? rule(c, &inner, tangents, out, out_tangents) : jvp_by_operand(c, &inner, tangents, out, out_tangents);
  for (int k = 0; ok && k < o->n_out; k++) ok = (out[k] = dual_new(c, t, out[k], out_tangents[k])) != NULL;
  return ok;
}

bool mx_dual_process(mx_ctx *c, mx_trace *t, mx_op *o, mx_array **out) {
  mx_array *few[32], **operands = mx_room(c, few, 32, 2 * o->n_in, sizeof *operands);
  mx_array *few_out[MX_MAX_OUT], **out_tangents = mx_room(c, few_out, MX_MAX_OUT, o->n_out, sizeof *out_tangents);
  const mx_aval *few_avals[16], **avals = mx_room(c, few_avals, 16, o->n_in, sizeof *avals);
  bool ok =
      operands && avals && out_tangents && dual_bind(c, t, o, operands, operands + o->n_in, avals, out, out_tangents);
  mx_room_free(c, operands, few, 2 * o->n_in, sizeof *operands);
  mx_room_free(c, out_tangents, few_out, o->n_out, sizeof *out_tangents);
  mx_room_free(c, avals, few_avals, o->n_in, sizeof *avals);
  return ok;
}

/* -- jvp ----------------------------------------------------------------------------------------------------------- */

static bool split_results(mx_ctx *c, mx_trace *t, const mx_list *results, mx_list *out, mx_list *out_tangents) {
  for (int k = 0; k < results->n; k++) {
    mx_array *x = results->items[k];
    if (!mx_usable(c, x) || !mx_list_add(c, out, primal_of(t, x)) || !mx_list_add(c, out_tangents, tangent_of(t, x)))
      return false;
  }
  return true;
}

bool mx_jvp(mx_ctx *c, mx_function f, mx_array *const *primals, mx_array *const *tangents, int n, mx_list *out,
            mx_list *out_tangents) {
  int mark = mx_frame_mark(c);
  mx_trace *t = mx_trace_begin(c, MX_TRACE_DUAL);
  if (!t) return false;
  mx_list in = {0}, results = {0};
  bool ok = true;
  for (int i = 0; ok && i < n; i++) {
    mx_array *x = dual_new(c, t, primals[i], tangents[i]);
    ok = x && mx_list_add(c, &in, x);
  }
  ok = ok && f.call(c, f.state, in.items, n, &results) && split_results(c, t, &results, out, out_tangents);
  mx_list_release(c, &results);
  mx_list_release(c, &in);
  mx_trace_end(c, t);
  mx_frame_release(c, mark);
  return ok;
}

/* -- linearize: the tangents of a jvp are variables of a tape ------------------------------------------------------ */

static mx_linear *linear_new(mx_ctx *c, int n_in, int n_out) {
  mx_linear *l = mx_new(c, sizeof *l);
  if (!l) return NULL;
  l->engine = mx_engine_retain(c->engine);
  l->n_in = n_in;
  l->n_out = n_out;
  l->out = mx_new(c, (size_t)n_out * sizeof *l->out);
  l->in_avals = mx_new(c, (size_t)n_in * sizeof *l->in_avals);
  l->out_avals = mx_new(c, (size_t)n_out * sizeof *l->out_avals);
  if (l->out && l->in_avals && l->out_avals) return l;
  mx_linear_release(l);
  return NULL;
}

void mx_linear_release(mx_linear *l) {
  if (!l) return;
  mlax_engine *e = l->engine;
  mx_program_release(l->tape);
  mx_free(e, l->out, (size_t)l->n_out * sizeof *l->out);
  mx_free(e, l->in_avals, (size_t)l->n_in * sizeof *l->in_avals);
  mx_free(e, l->out_avals, (size_t)l->n_out * sizeof *l->out_avals);
  mx_free(e, l, sizeof *l);
  mlax_engine_release(e);
}

/* Dual inputs whose tangents are the tape's first variables. */
static bool linear_inputs(mx_ctx *c, mx_trace *lin, mx_trace *dual, mx_array *const *primals, const bool *active, int n,
                          mx_list *in) {
  for (int i = 0; i < n; i++) {
    mx_array *x = primals[i];
    if (active[i]) {
      int32_t v = mx_program_input(c, lin->program, &x->aval);
      mx_array *tangent = v < 0 ? NULL : mx_tracer_new(c, lin, MX_LINEAR, &x->aval);
      if (!tangent) return false;
      tangent->var = v;
      x = dual_new(c, dual, x, tangent);
    }
    if (!x || !mx_list_add(c, in, x)) return false;
  }
  return true;
}

/* Results' primals go out; their tangents become the tape's results. */
static mx_linear *linear_results(mx_ctx *c, mx_trace *lin, mx_trace *dual, const mx_list *results, mx_list *out) {
  mx_linear *l = linear_new(c, lin->program->n_in, results->n);
  bool ok = l != NULL;
  for (int i = 0; ok && i < l->n_in; i++) l->in_avals[i] = *lin->program->avals[i];
  for (int k = 0, n = 0; ok && k < results->n; k++) {
    mx_array *x = results->items[k], *tangent = tangent_of(dual, x);
    l->out_avals[k] = x->aval;
    l->out[k] = -1;
    ok = mx_usable(c, x) && mx_list_add(c, out, primal_of(dual, x));
    if (!ok || !tangent) continue;
    int32_t v = mx_owns(lin, tangent) ? tangent->var : mx_program_const(c, lin->program, tangent);
    ok = v >= 0 && mx_program_output(c, lin->program, v);
    l->out[k] = n++;
  }
  if (ok && mx_program_finish(c, lin->program, NULL)) {
    l->tape = lin->program;
    lin->program = NULL;
    return l;
  }
  mx_linear_release(l);
  return NULL;
}

bool mx_linearize(mx_ctx *c, mx_function f, mx_array *const *primals, const bool *active, int n, mx_list *out,
                  mx_linear **linear) {
  *linear = NULL;
  int mark = mx_frame_mark(c);
  mx_trace *lin = mx_trace_begin(c, MX_TRACE_LINEAR);
  if (!lin) return false;
  mx_trace *dual = mx_trace_begin(c, MX_TRACE_DUAL);
  mx_list in = {0}, results = {0};
  if (dual && linear_inputs(c, lin, dual, primals, active, n, &in) && f.call(c, f.state, in.items, n, &results))
    *linear = linear_results(c, lin, dual, &results, out);
  mx_list_release(c, &results);
  mx_list_release(c, &in);
  if (dual) mx_trace_end(c, dual);
  mx_trace_end(c, lin);
  mx_frame_release(c, mark);
  return *linear != NULL;
}
