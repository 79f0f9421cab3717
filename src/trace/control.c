/* control.c: programs made of programs. */
#include "control_impl.h"

void *mx_take(mx_ctx *c, mx_arena *a, int n, size_t item) { return mx_arena_alloc(c, a, (size_t)(n + 1) * item); }

mx_aval mx_aval_slice(const mx_aval *a) {
  mx_aval s = *a;
  s.ndim--;
  s.size = 1;
  for (int i = 0; i < s.ndim; i++) s.size *= s.shape[i] = a->shape[i + 1];
  return s;
}

bool mx_bind_programs(mx_ctx *c, const mx_primitive *prim, const mx_params *p, mx_array *const *in, int n_in,
                      mx_array **out, int n_out) {
  mx_programs *l = p->branch.of; /* the first field of all of these */
  bool ok = l && mx_bind(c, prim, p, in, n_in, out, n_out);
  for (int k = 0; !ok && k < n_out; k++) out[k] = NULL;
  mx_programs_release(l);
  return ok;
}

mx_program *mx_program_of(mx_ctx *c, mx_function f, const mx_aval *const *in, int n) {
  mx_program *p = NULL;
  mx_list captured = {0};
  bool ok = mx_stage(c, f, in, NULL, n, &p, &captured);
  if (ok && captured.n) {
    mx_fail(c, MLAX_STATE, "a traced value made at %s is used inside control flow that it was not passed to",
            mx_site_text(c, captured.items[0]->site));
    mx_program_release(p);
    p = NULL;
  }
  mx_list_release(c, &captured);
  return p;
}

/* -- a program as a function --------------------------------------------------------------------------------------- */

typedef struct maker {
  const mx_program *p;
  const bool *mask_in;
  bool *mask_out;
  int64_t size;
  const char *name;
  const int *source, *outs;
  int n_out;
} maker;

static bool add_all(mx_ctx *c, mx_list *l, mx_array *const *x, int n) {
  for (int k = 0; k < n; k++)
    if (!mx_list_add(c, l, x[k])) return false;
  return true;
}

static bool eval_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  const mx_program *p = ((maker *)state)->p;
  mx_arena a = {c->engine, NULL};
  mx_array **results = mx_take(c, &a, p->n_out, sizeof *results);
  (void)n;
  bool ok = results && mx_program_eval(c, p, in, results) && add_all(c, out, results, p->n_out);
  mx_arena_release(&a);
  return ok;
}

/* -- jvp ----------------------------------------------------------------------------------------------------------- */

static bool add_tangents(mx_ctx *c, const maker *m, const mx_list *out, const mx_list *tangents, mx_list *to) {
  for (int k = 0; k < out->n; k++) {
    mx_array *t = tangents->items[k];
    if (t) m->mask_out[k] = true;
    if (!m->mask_out[k]) continue;
    if (!t) t = mx_zeros(c, &out->items[k]->aval);
    if (!t || !mx_list_add(c, to, t)) return false;
  }
  return true;
}

static bool jvp_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *to) {
  maker *m = state;
  mx_arena a = {c->engine, NULL};
  mx_array **tangents = mx_take(c, &a, m->p->n_in, sizeof *tangents);
  mx_list out = {0}, out_tangents = {0};
  (void)n;
  for (int i = 0, k = m->p->n_in; tangents && i < m->p->n_in; i++) tangents[i] = m->mask_in[i] ? in[k++] : NULL;
  bool ok = tangents && mx_jvp(c, (mx_function){eval_call, m}, in, tangents, m->p->n_in, &out, &out_tangents);
  ok = ok && add_all(c, to, out.items, out.n) && add_tangents(c, m, &out, &out_tangents, to);
  mx_list_release(c, &out);
  mx_list_release(c, &out_tangents);
  mx_arena_release(&a);
  return ok;
}

mx_program *mx_program_jvp(mx_ctx *c, const mx_program *p, const bool *nonzero_in, bool *nonzero_out) {
  maker m = {.p = p, .mask_in = nonzero_in, .mask_out = nonzero_out};
  mx_arena a = {c->engine, NULL};
  const mx_aval **avals = mx_take(c, &a, 2 * p->n_in, sizeof *avals);
  int n = p->n_in;
  for (int i = 0; avals && i < p->n_in; i++) {
    avals[i] = p->avals[i];
    if (nonzero_in[i]) avals[n++] = p->avals[i];
  }
  mx_program *q = avals ? mx_program_of(c, (mx_function){jvp_call, &m}, avals, n) : NULL;
  mx_arena_release(&a);
  return q;
}

/* -- batch --------------------------------------------------------------------------------------------------------- */

mx_array *mx_batch_to_front(mx_ctx *c, mx_array *x, int axis, int64_t size) {
  if (axis >= 0) return mx_move_axis(c, x, axis, 0);
  mx_dims shape = mx_dims_shape(&x->aval);
  shape = mx_dims_insert(&shape, 0, size);
  return mx_broadcast(c, mx_expand(c, x, 0), &shape);
}

static bool batch_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *to) {
  maker *m = state;
  mx_arena a = {c->engine, NULL};
  int *axes = mx_take(c, &a, n, sizeof *axes);
  mx_list out = {0};
  mx_ints out_axes = {0};
  for (int i = 0; axes && i < n; i++) axes[i] = m->mask_in[i] ? 0 : -1;
  bool ok = axes && mx_batch(c, (mx_function){eval_call, m}, in, axes, n, m->size, m->name, &out, &out_axes);
  for (int k = 0; ok && k < out.n; k++) {
    m->mask_out[k] |= out_axes.items[k] >= 0;
    mx_array *x = m->mask_out[k] ? mx_batch_to_front(c, out.items[k], out_axes.items[k], m->size) : out.items[k];
    ok = x && mx_list_add(c, to, x);
  }
  mx_list_release(c, &out);
  mx_ints_release(c, &out_axes);
  mx_arena_release(&a);
  return ok;
}

mx_program *mx_program_batch(mx_ctx *c, const mx_program *p, int64_t size, const char *name, const bool *mapped_in,
                             bool *mapped_out) {
  maker m = {.p = p, .mask_in = mapped_in, .mask_out = mapped_out, .size = size, .name = name};
  mx_arena a = {c->engine, NULL};
  const mx_aval **avals = mx_take(c, &a, p->n_in, sizeof *avals);
  mx_aval *whole = mx_take(c, &a, p->n_in, sizeof *whole);
  bool ok = avals && whole;
  for (int i = 0; ok && i < p->n_in; i++) {
    avals[i] = mapped_in[i] ? &whole[i] : p->avals[i];
    ok = !mapped_in[i] || mx_aval_stack(c, p->avals[i], size, &whole[i]);
  }
  mx_program *q = ok ? mx_program_of(c, (mx_function){batch_call, &m}, avals, p->n_in) : NULL;
  mx_arena_release(&a);
  return q;
}

/* -- rewire -------------------------------------------------------------------------------------------------------- */

static bool rewire_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *to) {
  maker *m = state;
  mx_arena a = {c->engine, NULL};
  mx_array **fed = mx_take(c, &a, m->p->n_in, sizeof *fed), **out = mx_take(c, &a, m->p->n_out, sizeof *out);
  (void)n;
  for (int i = 0; fed && i < m->p->n_in; i++) fed[i] = in[m->source[i]];
  bool ok = fed && out && mx_program_eval(c, m->p, fed, out);
  for (int k = 0; ok && k < m->n_out; k++) ok = mx_list_add(c, to, out[m->outs ? m->outs[k] : k]);
  mx_arena_release(&a);
  return ok;
}

mx_program *mx_program_rewire(mx_ctx *c, const mx_program *p, int n_in, const mx_aval *const *in, const int *source,
                              int n_out, const int *outs) {
  maker m = {.p = p, .source = source, .outs = outs, .n_out = n_out};
  return mx_program_of(c, (mx_function){rewire_call, &m}, in, n_in);
}

/* -- split: what is known is staged, the rest lands on a tape ------------------------------------------------------ */

static mx_array *new_input(mx_ctx *c, mx_trace *t, mx_tag tag, const mx_aval *a) {
  int32_t v = mx_program_input(c, t->program, a);
  mx_array *x = v < 0 ? NULL : mx_tracer_new(c, t, tag, a);
  if (x) x->var = v;
  return x;
}

static int32_t var_in(mx_ctx *c, mx_trace *t, mx_array *x) {
  return mx_owns(t, x) ? x->var : mx_program_const(c, t->program, x);
}

static bool split_results(mx_ctx *c, mx_trace *known, mx_trace *lin, mx_array *const *out, int n, bool *out_unknown,
                          mx_list *residuals) {
  for (int k = 0; k < n; k++) {
    out_unknown[k] |= mx_owns(lin, out[k]);
    mx_trace *t = out_unknown[k] ? lin : known;
    if (!mx_program_output(c, t->program, var_in(c, t, out[k]))) return false;
  }
  if (!mx_program_finish(c, lin->program, residuals)) return false;
  for (int r = 0; r < residuals->n; r++)
    if (!mx_program_output(c, known->program, var_in(c, known, residuals->items[r]))) return false;
  mx_list none = {0};
  bool ok = mx_program_finish(c, known->program, &none);
  mx_list_release(c, &none);
  return ok;
}

bool mx_program_split(mx_ctx *c, const mx_program *p, const bool *unknown_in, bool *out_unknown, mx_program **known,
                      mx_program **unknown) {
  *known = *unknown = NULL;
  int mark = mx_frame_mark(c);
  mx_arena a = {c->engine, NULL};
  mx_array **in = mx_take(c, &a, p->n_in, sizeof *in), **out = mx_take(c, &a, p->n_out, sizeof *out);
  mx_list residuals = {0};
  mx_trace *stage = in && out ? mx_trace_begin(c, MX_TRACE_STAGE) : NULL,
           *lin = stage ? mx_trace_begin(c, MX_TRACE_LINEAR) : NULL;
  bool ok = lin != NULL;
  for (int i = 0; ok && i < p->n_in; i++)
    ok = (in[i] = unknown_in[i] ? new_input(c, lin, MX_LINEAR, p->avals[i])
                                : new_input(c, stage, MX_STAGED, p->avals[i])) != NULL;
  ok = ok && mx_program_eval(c, p, in, out) && split_results(c, stage, lin, out, p->n_out, out_unknown, &residuals);
  if (ok) {
    *known = stage->program;
    *unknown = lin->program;
    stage->program = lin->program = NULL;
  }
  mx_list_release(c, &residuals);
  if (lin) mx_trace_end(c, lin);
  if (stage) mx_trace_end(c, stage);
  mx_frame_release(c, mark);
  mx_arena_release(&a);
  return ok;
}
