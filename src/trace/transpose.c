/* transpose.c: programs that are linear in some of their inputs, walked backwards; tapes applied forwards or backwards.
 *
 * First, what does not depend on the linear inputs is computed (of a tape, nothing). Then, from the last equation to
 * the first, each linear variable has a cotangent (NULL: zero): an equation's linear operands get what the primitive's
 * transpose rule makes of its results' cotangents, summed down to the operand's shape and added to what is there. */
#include "trace_impl.h"

typedef struct walk {
  const mx_program *p;
  mx_array **env; /* values of variables that are not linear, retained */
  mx_array **ct;  /* cotangents of linear ones, retained */
  bool *linear;   /* by variable */
  mx_array **in;  /* of one equation: operands, their cotangents */
  mx_array **ct_in;
  bool *linear_in;
  const mx_aval **avals;
  mx_aval *out_avals;
  int n_in, n_out; /* of the widest equation */
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

/* -- forwards ------------------------------------------------------------------------------------------------------ */

static bool forward_equation(mx_ctx *c, walk *w, const mx_eqn *e) {
  for (int k = 0; k < e->n_in; k++) w->in[k] = w->env[e->in[k]];
  int mark = mx_frame_mark(c);
  bool ok = mx_bind(c, e->prim, e->params, w->in, e->n_in, w->env + e->out, e->n_out);
  for (int k = 0; ok && k < e->n_out; k++) mx_retain(w->env[e->out + k]);
  mx_frame_release(c, mark);
  return ok;
}

static bool depends(const walk *w, const mx_eqn *e) {
  for (int k = 0; k < e->n_in; k++)
    if (w->linear[e->in[k]]) return true;
  return false;
}

static bool walk_forward(mx_ctx *c, walk *w) {
  bool ok = true;
  for (int i = 0; ok && i < w->p->n_eqn; i++) {
    const mx_eqn *e = &w->p->eqns[i];
    c->site = e->site;
    if (depends(w, e)) memset(w->linear + e->out, true, e->n_out);
    else ok = forward_equation(c, w, e);
  }
  return ok;
}

/* -- backwards ----------------------------------------------------------------------------------------------------- */

static bool transpose_operands(mx_ctx *c, walk *w, const mx_eqn *e, const mx_op *o) {
  memset(w->ct_in, 0, (size_t)e->n_in * sizeof *w->ct_in);
  if (e->prim->transpose_all) {
    if (!e->prim->transpose_all(c, o, w->linear_in, w->ct + e->out, w->ct_in)) return false;
  } else if (e->prim->transpose) {
    for (int k = 0; k < e->n_in; k++) {
      if (w->linear_in[k]) w->ct_in[k] = e->prim->transpose(c, o, k, w->ct + e->out);
      if (mx_failed(c)) return false;
    }
  } else {
    return mx_no_rule(c, e->prim, "reverse-mode differentiation"), false;
  }
  for (int k = 0; k < e->n_in; k++)
    if (w->linear_in[k] && w->ct_in[k] && !add_cotangent(c, w, e->in[k], w->ct_in[k])) return false;
  return true;
}

static bool transpose_equation(mx_ctx *c, walk *w, const mx_eqn *e) {
  bool any = false;
  for (int k = 0; k < e->n_out; k++) {
    any |= w->ct[e->out + k] != NULL;
    w->out_avals[k] = *w->p->avals[e->out + k];
  }
  if (!any) return true;
  for (int k = 0; k < e->n_in; k++) {
    int32_t v = e->in[k];
    w->linear_in[k] = w->linear[v];
    w->in[k] = w->linear[v] ? NULL : w->env[v];
    w->avals[k] = w->p->avals[v];
  }
  mx_op o = {.prim = e->prim,
             .p = e->params,
             .n_in = e->n_in,
             .n_out = e->n_out,
             .in = w->in,
             .in_aval = w->avals,
             .out_aval = w->out_avals};
  return transpose_operands(c, w, e, &o);
}

static bool walk_back(mx_ctx *c, walk *w) {
  bool ok = true;
  for (int i = w->p->n_eqn - 1; ok && i >= 0; i--) {
    const mx_eqn *e = &w->p->eqns[i];
    if (!depends(w, e)) continue;
    int mark = mx_frame_mark(c);
    c->site = e->site;
    ok = mx_poll(c) && transpose_equation(c, w, e);
    for (int k = 0; k < e->n_out; k++) { /* nobody above needs them */
      mx_release(w->ct[e->out + k]);
      w->ct[e->out + k] = NULL;
    }
    mx_frame_release(c, mark);
  }
  return ok;
}

/* -- a whole walk -------------------------------------------------------------------------------------------------- */

static bool walk_begin(mx_ctx *c, walk *w, const mx_program *p, const bool *linear_in, mx_array *const *in) {
  *w = (walk){.p = p, .n_in = 1, .n_out = 1};
  for (int i = 0; i < p->n_eqn; i++) {
    if (p->eqns[i].n_in > w->n_in) w->n_in = p->eqns[i].n_in;
    if (p->eqns[i].n_out > w->n_out) w->n_out = p->eqns[i].n_out;
  }
  size_t n = (size_t)p->n_var + 1, m = (size_t)w->n_in;
  w->env = mx_new(c, n * sizeof *w->env);
  w->ct = mx_new(c, n * sizeof *w->ct);
  w->linear = mx_new(c, n * sizeof *w->linear);
  w->in = mx_new(c, m * sizeof *w->in);
  w->ct_in = mx_new(c, m * sizeof *w->ct_in);
  w->linear_in = mx_new(c, m * sizeof *w->linear_in);
  w->avals = mx_new(c, m * sizeof *w->avals);
  w->out_avals = mx_new(c, (size_t)w->n_out * sizeof *w->out_avals);
  if (!w->env || !w->ct || !w->linear || !w->in || !w->ct_in || !w->linear_in || !w->avals || !w->out_avals)
    return false;
  for (int v = 0; v < p->n_in; v++) {
    w->linear[v] = !linear_in || linear_in[v];
    if (!w->linear[v]) w->env[v] = mx_retain(in[v]);
  }
  for (int k = 0; k < p->n_const; k++) w->env[p->n_in + k] = mx_retain(p->consts[k]);
  return true;
}

static void walk_end(mx_ctx *c, walk *w) {
  size_t n = (size_t)w->p->n_var + 1, m = (size_t)w->n_in;
  for (int v = 0; w->env && v < w->p->n_var; v++) mx_release(w->env[v]);
  for (int v = 0; w->ct && v < w->p->n_var; v++) mx_release(w->ct[v]);
  mx_free(c->engine, w->env, n * sizeof *w->env);
  mx_free(c->engine, w->ct, n * sizeof *w->ct);
  mx_free(c->engine, w->linear, n * sizeof *w->linear);
  mx_free(c->engine, w->in, m * sizeof *w->in);
  mx_free(c->engine, w->ct_in, m * sizeof *w->ct_in);
  mx_free(c->engine, w->linear_in, m * sizeof *w->linear_in);
  mx_free(c->engine, w->avals, m * sizeof *w->avals);
  mx_free(c->engine, w->out_avals, (size_t)w->n_out * sizeof *w->out_avals);
}

bool mx_program_transpose(mx_ctx *c, const mx_program *p, const bool *linear_in, mx_array *const *in,
                          mx_array *const *ct_out, mx_array **ct_in) {
  walk w;
  uint32_t site = c->site;
  int mark = mx_frame_mark(c);
  bool ok = walk_begin(c, &w, p, linear_in, in) && walk_forward(c, &w);
  for (int k = 0; ok && k < p->n_out; k++)
    if (ct_out[k] && w.linear[p->outs[k]]) ok = add_cotangent(c, &w, p->outs[k], ct_out[k]);
  ok = ok && walk_back(c, &w);
  for (int v = 0; v < p->n_in; v++) ct_in[v] = ok ? w.ct[v] : NULL;
  if (ok) mx_frame_return(c, mark, ct_in, p->n_in);
  else mx_frame_release(c, mark);
  ok = ok && !mx_failed(c);
  if (!ok && !c->error_site) c->error_site = c->site; /* the line of the operation whose derivative failed */
  walk_end(c, &w);
  c->site = site;
  return ok;
}

bool mx_linear_transpose(mx_ctx *c, const mx_linear *l, mx_array *const *cotangents, mx_list *out) {
  const mx_program *p = l->tape;
  mx_array **ct = mx_new(c, ((size_t)p->n_out + (size_t)p->n_in + 1) * sizeof *ct);
  int mark = mx_frame_mark(c);
  bool ok = ct != NULL;
  for (int k = 0; ok && k < l->n_out; k++)
    if (l->out[k] >= 0) ct[l->out[k]] = cotangents[k];
  ok = ok && mx_program_transpose(c, p, NULL, NULL, ct, ct + p->n_out);
  for (int i = 0; ok && i < p->n_in; i++) ok = mx_list_add(c, out, ct[p->n_out + i]);
  mx_frame_release(c, mark);
  mx_free(c->engine, ct, ((size_t)p->n_out + (size_t)p->n_in + 1) * sizeof *ct);
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
