/* transpose.c: a tape of linear equations, applied forwards or walked backwards.
 *
 * Backwards, each variable has a cotangent (NULL: zero). An equation's operands get what the primitive's transpose rule
 * makes of its results' cotangents, summed down to the operand's shape and added to what is there. */
#include "trace_impl.h"

typedef struct walk {
  const mx_program *p;
  mx_array **ct;   /* by variable, each retained */
  uint8_t *linear; /* does the variable depend on the inputs? others are residuals */
} walk;

static bool add_cotangent(mx_ctx *c, walk *w, int32_t v, mx_array *g) {
  g = mx_sum_to(c, g, w->p->avals[v]);
  if (g && w->ct[v]) g = mx_add(c, w->ct[v], g);
  if (!g) return false;
  mx_retain(g);
  mx_release(w->ct[v]);
  w->ct[v] = g;
  return true;
}

static bool transpose_operands(mx_ctx *c, walk *w, const mx_eqn *e, mx_op *o) {
  for (int k = 0; k < e->n_in; k++) {
    if (!w->linear[e->in[k]]) continue;
    mx_array *g = e->prim->transpose(c, o, k, w->ct + e->out);
    if (!g) {
      if (mx_failed(c)) return false;
      continue; /* no influence */
    }
    if (!add_cotangent(c, w, e->in[k], g)) return false;
  }
  return true;
}

static bool transpose_equation(mx_ctx *c, walk *w, const mx_eqn *e, mx_array **in, const mx_aval **avals,
                               mx_aval *out_avals) {
  bool any = false;
  for (int k = 0; k < e->n_out; k++) {
    any |= w->ct[e->out + k] != NULL;
    out_avals[k] = *w->p->avals[e->out + k];
  }
  if (!any) return true;
  if (!e->prim->transpose) return mx_no_rule(c, e->prim, "reverse-mode differentiation"), false;
  for (int k = 0; k < e->n_in; k++) {
    int32_t v = e->in[k];
    in[k] = w->linear[v] ? NULL : w->p->consts[v - w->p->n_in];
    avals[k] = w->p->avals[v];
  }
  mx_op o = {.prim = e->prim,
             .p = e->params,
             .n_in = e->n_in,
             .n_out = e->n_out,
             .in = in,
             .in_aval = avals,
             .out_aval = out_avals};
  return transpose_operands(c, w, e, &o);
}

static bool walk_back(mx_ctx *c, walk *w, mx_array **in, const mx_aval **avals) {
  mx_aval out_avals[MX_MAX_OUT];
  uint32_t site = c->site;
  bool ok = true;
  for (int i = w->p->n_eqn - 1; ok && i >= 0; i--) {
    const mx_eqn *e = &w->p->eqns[i];
    int mark = mx_frame_mark(c);
    c->site = e->site;
    ok = mx_poll(c) && transpose_equation(c, w, e, in, avals, out_avals);
    for (int k = 0; k < e->n_out; k++) { /* nobody above needs them */
      mx_release(w->ct[e->out + k]);
      w->ct[e->out + k] = NULL;
    }
    mx_frame_release(c, mark);
  }
  c->site = site;
  return ok;
}

static void mark_linear(const mx_program *p, uint8_t *linear) {
  for (int v = 0; v < p->n_var; v++) linear[v] = v < p->n_in || v >= p->n_in + p->n_const;
}

static bool seed(mx_ctx *c, walk *w, const mx_linear *l, mx_array *const *cotangents) {
  for (int k = 0; k < l->n_out; k++) {
    if (l->out[k] < 0 || !cotangents[k]) continue;
    int32_t v = w->p->outs[l->out[k]];
    if (w->linear[v] && !add_cotangent(c, w, v, cotangents[k])) return false;
  }
  return true;
}

bool mx_linear_transpose(mx_ctx *c, const mx_linear *l, mx_array *const *cotangents, mx_list *out) {
  const mx_program *p = l->tape;
  int widest = 1;
  for (int i = 0; i < p->n_eqn; i++)
    if (p->eqns[i].n_in > widest) widest = p->eqns[i].n_in;
  size_t n = (size_t)p->n_var + 1, m = (size_t)widest;
  walk w = {p, mx_new(c, n * sizeof *w.ct), mx_new(c, n)};
  mx_array **in = mx_new(c, m * sizeof *in);
  const mx_aval **avals = mx_new(c, m * sizeof *avals);
  int mark = mx_frame_mark(c);
  bool ok = w.ct && w.linear && in && avals;
  if (ok) mark_linear(p, w.linear);
  ok = ok && seed(c, &w, l, cotangents) && walk_back(c, &w, in, avals);
  for (int i = 0; ok && i < p->n_in; i++) ok = mx_list_add(c, out, w.ct[i]);
  for (int v = 0; w.ct && v < p->n_var; v++) mx_release(w.ct[v]);
  mx_frame_release(c, mark);
  mx_free(c->engine, w.ct, n * sizeof *w.ct);
  mx_free(c->engine, w.linear, n);
  mx_free(c->engine, in, m * sizeof *in);
  mx_free(c->engine, avals, m * sizeof *avals);
  return ok;
}

/* Forwards: the tape as a program; tangents that are NULL are zeros. */
bool mx_linear_apply(mx_ctx *c, const mx_linear *l, mx_array *const *tangents, mx_list *out) {
  const mx_program *p = l->tape;
  size_t n_in = (size_t)p->n_in + 1, n_out = (size_t)p->n_out + 1;
  mx_array **in = mx_new(c, n_in * sizeof *in), **results = mx_new(c, n_out * sizeof *results);
  int mark = mx_frame_mark(c);
  bool ok = in && results;
  for (int i = 0; ok && i < p->n_in; i++)
    ok = (in[i] = tangents[i] ? tangents[i] : mx_zeros(c, &l->in_avals[i])) != NULL;
  ok = ok && mx_program_eval(c, p, in, results);
  for (int k = 0; ok && k < l->n_out; k++) ok = mx_list_add(c, out, l->out[k] < 0 ? NULL : results[l->out[k]]);
  mx_frame_release(c, mark);
  mx_free(c->engine, in, n_in * sizeof *in);
  mx_free(c->engine, results, n_out * sizeof *results);
  return ok;
}
