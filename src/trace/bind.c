/* bind.c: the one point that every operation passes, and the life of traces and tracers. */
#include "trace_impl.h"

/* -- traces -------------------------------------------------------------------------------------------------------- */

static void free_tracer(mx_array *x) {
  if (x->tag == MX_ABSTRACT) return;
  mx_release(x->primal);
  mx_release(x->tangent);
  mx_trace_release(x->trace);
}

void (*mx_tracer_free)(mx_array *x) = free_tracer;

mx_trace *mx_trace_begin(mx_ctx *c, mx_trace_kind kind) {
  mx_trace *t = mx_new(c, sizeof *t);
  if (!t) return NULL;
  atomic_init(&t->refs, 1);
  t->engine = mx_engine_retain(c->engine);
  t->kind = kind;
  t->live = true;
  t->parent = mx_trace_retain(c->trace);
  t->serial = ++c->traces;
  if (kind == MX_TRACE_STAGE || kind == MX_TRACE_LINEAR) {
    t->program = mx_program_new(c);
    if (!t->program) {
      mx_trace_release(t);
      return NULL;
    }
  }
  c->trace = t;
  return t;
}

void mx_trace_end(mx_ctx *c, mx_trace *t) {
  t->live = false;
  c->trace = t->parent;
  mx_trace_release(t);
}

mx_trace *mx_trace_retain(mx_trace *t) {
  if (t) atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
  return t;
}

void mx_trace_release(mx_trace *t) {
  while (t && atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1) {
    mx_trace *parent = t->parent;
    mlax_engine *e = t->engine;
    mx_program_release(t->program);
    mx_free(e, t, sizeof *t);
    mlax_engine_release(e);
    t = parent;
  }
}

mx_array *mx_tracer_new(mx_ctx *c, mx_trace *t, mx_tag tag, const mx_aval *a) {
  mx_array *x = mx_array_tracer(c, tag, a);
  if (!x) return NULL;
  x->trace = mx_trace_retain(t);
  x->site = mx_here(c);
  return mx_keep(c, x);
}

bool mx_usable(mx_ctx *c, const mx_array *x) {
  if (x->tag == MX_VALUE) return true;
  const char *made = mx_site_text(c, x->site);
  if (x->tag == MX_FREED) return mx_fail(c, MLAX_STATE, "the array was freed at %s", made), false;
  if (x->tag == MX_DONATED)
    return mx_fail(c, MLAX_STATE, "the array was donated to the function called at %s (donate_argnums)", made), false;
  if (x->tag == MX_ABSTRACT) return mx_fail(c, MLAX_STATE, "an array of eval_shape has a shape but no values"), false;
  if (x->trace->live) return true;
  mx_fail(c, MLAX_STATE,
          "a traced value made at %s leaked out of its transformation: return it as a result instead of storing it",
          made);
  return false;
}

static bool is_known(const mx_trace *t, const mx_array *x) {
  for (int i = 0; i < t->n_known; i++)
    if (t->known[i] == x) return true;
  return false;
}

bool mx_has_value(const mx_ctx *c, const mx_array *x) {
  for (const mx_trace *t = c->trace; t; t = t->parent)
    if (is_known(t, x)) return false;
  while (x->tag == MX_DUAL) x = x->primal;
  return x->tag == MX_VALUE;
}

/* -- bind ---------------------------------------------------------------------------------------------------------- */

static bool handles(const mx_trace *t, const mx_op *o) {
  if (t->kind == MX_TRACE_STAGE) return true;
  if (t->kind == MX_TRACE_BATCH && t->name && mx_params_name_axis(o->prim, o->p, t->name))
    return true; /* a collective belongs to the vmap of its name, mapped operand or not */
  for (int i = 0; i < o->n_in; i++)
    if (mx_owns(t, o->in[i])) return true;
  return false;
}

/* Control flow is split: what does not depend on tangents is computed by the parent. */
static bool linear_partial(mx_ctx *c, mx_trace *t, mx_op *o, mx_array **out) {
  bool few[32], *unknown = mx_room(c, few, 32, o->n_in, sizeof *unknown);
  if (!unknown) return false;
  for (int i = 0; i < o->n_in; i++) unknown[i] = mx_owns(t, o->in[i]);
  bool ok = o->prim->partial(c, t, o, unknown, out);
  mx_room_free(c, unknown, few, o->n_in, sizeof *unknown);
  return ok;
}

static bool process(mx_ctx *c, mx_trace *t, mx_op *o, mx_array **out) {
  if (!t) return mx_eval_process(c, o, out);
  switch (t->kind) {
  case MX_TRACE_STAGE: return mx_stage_process(c, t, o, out);
  case MX_TRACE_LINEAR: return o->prim->partial ? linear_partial(c, t, o, out) : mx_stage_process(c, t, o, out);
  case MX_TRACE_DUAL: return mx_dual_process(c, t, o, out);
  default: return mx_batch_process(c, t, o, out);
  }
}

static bool bind_op(mx_ctx *c, mx_op *o, const mx_aval **avals, mx_array **out) {
  for (int i = 0; i < o->n_in; i++) {
    avals[i] = &o->in[i]->aval;
    if (o->in[i]->tag != MX_VALUE && !mx_usable(c, o->in[i])) return false;
  }
  o->in_aval = avals;
  mx_trace *current = c->trace, *t = current;
  while (t && !handles(t, o)) t = t->parent;
  c->trace = t ? t->parent : NULL;
  bool ok = process(c, t, o, out);
  c->trace = current;
  return ok;
}

/* Each operation can be interrupted: a loop of eager ones, and a trace that does not end. */
static inline bool may_go_on(mx_ctx *c) {
  const mlax_engine *e = c->engine;
  return (!atomic_load_explicit(&e->interrupt, memory_order_relaxed) && !e->poll) || mx_poll(c);
}

bool mx_bind(mx_ctx *c, const mx_primitive *prim, const mx_params *p, mx_array *const *in, int n_in, mx_array **out,
             int n_out) {
  for (int i = 0; i < n_out; i++) out[i] = NULL;
  for (int i = 0; i < n_in; i++)
    if (!in[i]) return false;
  if (!may_go_on(c)) return false;
  mx_op o = {.prim = prim, .p = p, .n_in = n_in, .n_out = n_out, .in = in};
  const mx_aval *few[16], **avals = few;
  if (n_in > 16 && !(avals = mx_new(c, (size_t)n_in * sizeof *avals))) return false;
  bool ok = bind_op(c, &o, avals, out);
  if (avals != few) mx_free(c->engine, avals, (size_t)n_in * sizeof *avals);
  if (!ok)
    for (int i = 0; i < n_out; i++) out[i] = NULL;
  return ok;
}

mx_array *mx_bind1(mx_ctx *c, const mx_primitive *prim, const mx_params *p, mx_array *const *in, int n_in) {
  mx_array *out;
  return mx_bind(c, prim, p, in, n_in, &out, 1) ? out : NULL;
}
