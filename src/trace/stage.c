/* stage.c: recording equations. STAGE records all that is bound; LINEAR (the tape of linearize) what depends on
 * tangents. */
#include "control_impl.h"

static mx_array *new_var(mx_ctx *c, mx_trace *t, int32_t var) {
  mx_array *x = mx_tracer_new(c, t, t->kind == MX_TRACE_STAGE ? MX_STAGED : MX_LINEAR, t->program->avals[var]);
  if (x) x->var = var;
  return x;
}

/* An array that an outer trace knows as one of its inputs (a captured one) is that input here too: its tracer is the
 * constant. */
static mx_array *outer_input(mx_ctx *c, mx_trace *t, mx_array *x) {
  for (mx_trace *outer = t->parent; outer; outer = outer->parent)
    for (int i = 0; i < outer->n_known; i++) {
      if (outer->known[i] != x) continue;
      for (int k = 0; k < t->program->n_const; k++) {
        mx_array *had = t->program->consts[k];
        if (mx_owns(outer, had) && had->var == i) return had;
      }
      return new_var(c, outer, i);
    }
  return x;
}

static int32_t operand(mx_ctx *c, mx_trace *t, mx_array *x) {
  if (mx_owns(t, x)) return x->var;
  for (int i = 0; i < t->n_known; i++)
    if (t->known[i] == x) return i;
  if (mx_is_tracer(x) && x->trace->serial > t->serial) {
    mx_fail(c, MLAX_STATE, "a traced value made at %s is used outside its transformation", mx_site_text(c, x->site));
    return -1;
  }
  if (x->tag == MX_VALUE && t->parent) x = outer_input(c, t, x);
  return x ? mx_program_const(c, t->program, x) : -1;
}

static bool record(mx_ctx *c, mx_trace *t, mx_op *o, int32_t *vars, mx_array **out) {
  for (int i = 0; i < o->n_in; i++)
    if ((vars[i] = operand(c, t, o->in[i])) < 0) return false;
  uint32_t saved = c->site; /* one look at the Lua stack serves the equation and its results */
  c->site = mx_here(c);
  int32_t first = mx_program_equation(c, t->program, o, vars, c->site);
  bool ok = first >= 0;
  for (int k = 0; ok && k < o->n_out; k++) ok = (out[k] = new_var(c, t, first + k)) != NULL;
  c->site = saved;
  return ok;
}

bool mx_stage_process(mx_ctx *c, mx_trace *t, mx_op *o, mx_array **out) {
  mx_aval few_avals[MX_MAX_OUT], *avals = mx_room(c, few_avals, MX_MAX_OUT, o->n_out, sizeof *avals);
  int32_t few[16], *vars = mx_room(c, few, 16, o->n_in, sizeof *vars);
  bool ok = avals && vars;
  for (int k = 0; ok && k < o->n_out; k++) avals[k].weak = false;
  ok = ok && o->prim->shape(c, o, avals);
  o->out_aval = avals;
  ok = ok && record(c, t, o, vars, out);
  o->out_aval = NULL;
  mx_room_free(c, avals, few_avals, o->n_out, sizeof *avals);
  mx_room_free(c, vars, few, o->n_in, sizeof *vars);
  return ok;
}

/* -- stage --------------------------------------------------------------------------------------------------------- */

static bool stage_inputs(mx_ctx *c, mx_trace *t, const mx_aval *const *in, int n, mx_list *tracers) {
  for (int i = 0; i < n; i++) {
    int32_t v = mx_program_input(c, t->program, in[i]);
    mx_array *x = v < 0 ? NULL : new_var(c, t, v);
    if (!x || !mx_list_add(c, tracers, x)) return false;
  }
  return true;
}

static bool stage_results(mx_ctx *c, mx_trace *t, const mx_list *out, mx_list *captured) {
  for (int k = 0; k < out->n; k++) {
    if (!mx_usable(c, out->items[k])) return false;
    int32_t v = operand(c, t, out->items[k]);
    if (v < 0 || !mx_program_output(c, t->program, v)) return false;
  }
  return mx_program_finish(c, t->program, captured);
}

bool mx_stage(mx_ctx *c, mx_function f, const mx_aval *const *in, mx_array *const *known, int n_in,
              mx_program **program, mx_list *captured) {
  *program = NULL;
  int mark = mx_frame_mark(c);
  mx_trace *t = mx_trace_begin(c, MX_TRACE_STAGE);
  if (!t) return false;
  t->known = known;
  t->n_known = known ? n_in : 0;
  mx_list tracers = {0}, out = {0};
  bool ok = stage_inputs(c, t, in, n_in, &tracers) && f.call(c, f.state, tracers.items, n_in, &out) &&
            stage_results(c, t, &out, captured);
  if (ok) {
    *program = t->program;
    t->program = NULL;
  }
  mx_list_release(c, &out);
  mx_list_release(c, &tracers);
  mx_trace_end(c, t);
  mx_frame_release(c, mark);
  return ok;
}

/* -- interpreting a program ---------------------------------------------------------------------------------------- */

/* last[v]: the equation after which v is needed no more (n_eqn: it is a result). */
static void last_uses(const mx_program *p, int32_t *last) {
  for (int v = 0; v < p->n_var; v++) last[v] = -1;
  for (int i = 0; i < p->n_eqn; i++)
    for (int k = 0; k < p->eqns[i].n_in; k++) last[p->eqns[i].in[k]] = i;
  for (int k = 0; k < p->n_out; k++) last[p->outs[k]] = p->n_eqn;
}

/* A check of positions, or a print, is made only where pred holds, and where its own predicate does: its last operand,
 * for which there is room. */
static const mx_params *guard(mx_ctx *c, const mx_eqn *e, mx_array *pred, mx_array **operands, int *n,
                              mx_params *changed) {
  bool check = e->prim->id == MX_PRIM_check_index, print = e->prim->id == MX_PRIM_debug_print;
  *n = e->n_in;
  if (!pred || (!check && !print)) return e->params;
  int last = check ? 1 : e->n_in - (int)e->params->print.guarded;
  operands[last] = last < e->n_in ? mx_and(c, operands[last], pred) : pred;
  *n = last + 1;
  if (check) return e->params;
  *changed = *e->params;
  changed->print.guarded = true;
  return changed;
}

static bool eval_equation(mx_ctx *c, const mx_program *p, int i, mx_array **env, mx_array *pred, mx_array **operands) {
  const mx_eqn *e = &p->eqns[i];
  for (int k = 0; k < e->n_in; k++) operands[k] = env[e->in[k]];
  int mark = mx_frame_mark(c);
  c->site = e->site;
  int n;
  mx_params changed;
  const mx_params *params = guard(c, e, pred, operands, &n, &changed);
  bool ok = mx_bind(c, e->prim, params, operands, n, env + e->out, e->n_out);
  for (int k = 0; ok && k < e->n_out; k++) mx_retain(env[e->out + k]);
  mx_frame_release(c, mark);
  return ok;
}

static bool eval_equations(mx_ctx *c, const mx_program *p, mx_array **env, int32_t *last, mx_array *pred,
                           mx_array **operands) {
  uint32_t site = c->site;
  bool ok = true;
  for (int i = 0; ok && i < p->n_eqn; i++) {
    ok = mx_poll(c) && eval_equation(c, p, i, env, pred, operands);
    const mx_eqn *e = &p->eqns[i];
    for (int k = 0; ok && k < e->n_in; k++)
      if (last[e->in[k]] == i) {
        mx_release(env[e->in[k]]);
        env[e->in[k]] = NULL;
        last[e->in[k]] = -1; /* it may stand among the operands twice */
      }
  }
  if (!ok && !c->error_site) c->error_site = c->site;
  c->site = site;
  return ok;
}

bool mx_program_eval(mx_ctx *c, const mx_program *p, mx_array *const *in, mx_array **out) {
  return mx_program_eval_where(c, p, in, NULL, out);
}

bool mx_program_eval_given(mx_ctx *c, const mx_program *p, mx_array **env) {
  uint32_t site = c->site;
  bool ok = true;
  mx_arena a = {c->engine, NULL};
  for (int k = 0; k < p->n_const; k++) env[p->n_in + k] = p->consts[k];
  for (int i = 0; ok && i < p->n_eqn; i++) {
    const mx_eqn *e = &p->eqns[i];
    mx_array **operands = mx_take(c, &a, e->n_in, sizeof *operands);
    bool ready = operands && !env[e->out];
    for (int k = 0; ready && k < e->n_in; k++) ready = (operands[k] = env[e->in[k]]) != NULL;
    c->site = e->site;
    ok = operands && (!ready || mx_bind(c, e->prim, e->params, operands, e->n_in, env + e->out, e->n_out));
  }
  c->site = site;
  mx_arena_release(&a);
  return ok;
}

bool mx_program_eval_where(mx_ctx *c, const mx_program *p, mx_array *const *in, mx_array *pred, mx_array **out) {
  int widest = 2; /* and one for a predicate */
  for (int i = 0; i < p->n_eqn; i++)
    if (p->eqns[i].n_in >= widest) widest = p->eqns[i].n_in + 1;
  size_t n = (size_t)p->n_var + 1;
  mx_array **env = mx_new(c, n * sizeof *env), **operands = mx_new(c, (size_t)widest * sizeof *operands);
  int32_t *last = mx_new(c, n * sizeof *last);
  bool ok = env && operands && last;
  if (ok) {
    last_uses(p, last);
    for (int v = 0; v < p->n_in; v++) env[v] = mx_retain(in[v]);
    for (int k = 0; k < p->n_const; k++) env[p->n_in + k] = mx_retain(p->consts[k]);
    ok = eval_equations(c, p, env, last, pred, operands);
  }
  for (int k = 0; ok && k < p->n_out; k++) ok = (out[k] = mx_keep(c, mx_retain(env[p->outs[k]]))) != NULL;
  for (int v = 0; env && v < p->n_var; v++) mx_release(env[v]);
  mx_free(c->engine, env, n * sizeof *env);
  mx_free(c->engine, operands, (size_t)widest * sizeof *operands);
  mx_free(c->engine, last, n * sizeof *last);
  return ok;
}
