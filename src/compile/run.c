/* run.c: running a plan: fill in the addresses that change, call the kernels in order, wrap the results. */
#include "plan_impl.h"

static size_t run_bytes(const mx_plan *p) { return sizeof(mx_run) + 2 * (size_t)p->n_results * sizeof(void *); }

static void run_free(mx_plan *p, mx_run *r) {
  if (!r) return;
  mx_buffer_free(p->engine, r->arena, p->arena_bytes);
  mx_free(p->engine, r->tensors, (size_t)(p->n_tensors + 1) * sizeof *r->tensors);
  mx_free(p->engine, r, run_bytes(p));
}

static char *fixed_base(const mx_plan *p, const mx_run *r, const mx_root *root) {
  if (root->place == MX_AT_CONST) return mx_data(p->program->consts[root->index]);
  return root->place == MX_AT_ARENA ? (char *)r->arena + root->offset : NULL;
}

static mx_run *run_new(mx_ctx *c, mx_plan *p) {
  mx_run *r = mx_new(c, run_bytes(p));
  if (!r) return NULL;
  r->buffers = (mx_buffer **)(r + 1);
  r->results = (char **)(r->buffers + p->n_results);
  r->tensors = mx_new(c, (size_t)(p->n_tensors + 1) * sizeof *r->tensors);
  if (r->tensors && p->arena_bytes) r->arena = mx_buffer_alloc(c, p->arena_bytes);
  if (!r->tensors || (p->arena_bytes && !r->arena)) {
    run_free(p, r);
    return NULL;
  }
  for (int t = 0; t < p->n_tensors; t++) {
    int32_t v = p->tensor_vars[t];
    const mx_slot *s = &p->slots[v];
    char *base = fixed_base(p, r, &p->roots[s->root]);
    r->tensors[t] = (mx_tensor){base ? base + s->offset : NULL, p->program->avals[v], s->strides, s->contiguous};
  }
  return r;
}

void mx_plan_release(mx_plan *p) {
  if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1) return;
  mlax_engine *e = p->engine;
  run_free(p, atomic_load(&p->spare));
  if (!p->owned) mx_program_release(p->program);
  mx_arena_release(&p->memory);
  mx_free(e, p, sizeof *p);
  mlax_engine_release(e);
}

/* -- one run ------------------------------------------------------------------------------------------------------- */

static void patch(mx_plan *p, mx_run *r, char *const *in, char *const *results) {
  for (int i = 0; i < p->n_patches; i++) {
    int t = p->patches[i];
    const mx_slot *s = &p->slots[p->tensor_vars[t]];
    const mx_root *root = &p->roots[s->root];
    char *base = root->place == MX_AT_INPUT ? in[root->index] : results[root->index];
    r->tensors[t].data = base + s->offset;
  }
}

/* What the step reads and writes, seen from outside. */
static mx_kernel_args step_args(const mx_step *s, const mx_tensor *in) {
  const mx_eqn *e = s->eqn;
  int hidden = s->passes ? 1 : 0;
  return (mx_kernel_args){.prim = e->prim,
                          .p = e->params,
                          .n_in = s->n_in - hidden,
                          .n_out = s->n_out,
                          .in = in + hidden,
                          .out = in + s->n_in,
                          .prepared = s->prepared};
}

static bool run_kernel(mx_ctx *c, const mx_step *s, const mx_tensor *in) {
  mx_kernel_args args = step_args(s, in);
  bool empty = args.prim->effect == MX_EFFECT_NONE;
  for (int k = 0; k < s->n_out; k++) empty &= args.out[k].aval->size == 0;
  return empty || s->kernel(c, &args);
}

static bool run_code(mx_ctx *c, const mx_step *s, const mx_tensor *in) {
  return mx_cpu_run(c, s->code, in, in + s->n_in);
}

/* The product; the code follows part by part where both can do that, else as a whole. */
static bool run_both(mx_ctx *c, const mx_step *s, const mx_tensor *in) {
  const mx_eqn *e = s->head;
  const mx_tensor *out = in + s->n_in;
  mx_code_run parts;
  mx_after after;
  mx_kernel_args args = {.prim = e->prim, .p = e->params, .n_in = e->n_in, .n_out = e->n_out, .prepared = s->prepared};
  args.in = in + s->code->n_in, args.out = out + s->n_out;
  if (mx_code_after(s->code, in, out, &parts, &after)) args.after = &after;
  return s->kernel(c, &args) && (after.taken || mx_cpu_run(c, s->code, in, out));
}

static bool run_work(mx_ctx *c, const mx_step *s, const mx_tensor *in) {
  bool (*run)(mx_ctx *, const mx_step *, const mx_tensor *) = !s->code ? run_kernel : s->kernel ? run_both : run_code;
  if (!run(c, s, in)) return false;
  mx_kernel_args args = step_args(s, in);
  return !c->nans || mx_cpu_check_nans(c, &args);
}

static bool run_profiled(mx_ctx *c, const mx_step *s, const mx_tensor *in) {
  mx_kernel_args args = step_args(s, in);
  mx_profile_span span;
  if (!mx_profile_enter(c, &args, s->label, s->flops, s->eqn->site, &span)) return false;
  bool ok = run_work(c, s, in);
  mx_profile_leave(c, &span);
  return ok;
}

static bool run_step(mx_ctx *c, const mx_run *r, const mx_step *s) {
  const mx_tensor *in = r->tensors + s->tensors;
  if (c->profile ? run_profiled(c, s, in) : run_work(c, s, in)) return true;
  if (!c->error_site) c->error_site = s->eqn->site;
  return false;
}

static bool run_steps(mx_ctx *c, mx_plan *p, mx_run *r) {
  for (int i = 0; i < p->n_steps; i++)
    if (!mx_poll(c) || !run_step(c, r, &p->steps[i])) return false;
  return true;
}

static mx_array *result(mx_ctx *c, mx_plan *p, int k, mx_array *const *in, mx_buffer *const *results) {
  int32_t v = p->program->outs[k];
  const mx_slot *s = &p->slots[v];
  const mx_root *root = &p->roots[s->root];
  const mx_aval *a = p->program->avals[v];
  if (root->place == MX_AT_RESULT) return mx_array_of_buffer(c, a, results[root->index], s->offset, s->strides);
  mx_array *base = root->place == MX_AT_INPUT ? in[root->index] : p->program->consts[root->index];
  return mx_array_view(c, base, a, base->offset + s->offset, s->strides);
}

static bool run_on(mx_ctx *c, mx_plan *p, mx_run *r, mx_array *const *in, char *const *data, mx_array **out) {
  for (int k = 0; k < p->n_results; k++) {
    r->buffers[k] = mx_plan_take(p, k, in);
    if (!r->buffers[k] && !(r->buffers[k] = mx_buffer_new(c, p->roots[p->result_roots[k]].bytes))) return false;
    r->results[k] = r->buffers[k]->data;
  }
  patch(p, r, data, r->results);
  mx_kernels_begin(c);
  bool ok = run_steps(c, p, r);
  mx_kernels_end(c);
  if (!ok) return false;
  for (int k = 0; k < p->program->n_out; k++)
    if (!(out[k] = mx_keep(c, result(c, p, k, in, r->buffers)))) return false;
  return true;
}

/* Inputs as the plan wants them: values, row-major. */
static bool inputs(mx_ctx *c, const mx_plan *p, mx_array *const *in, mx_array **ready, char **data) {
  for (int k = 0; k < p->program->n_in; k++) {
    if (in[k]->tag != MX_VALUE) return mx_fail(c, MLAX_STATE, "a traced or freed array reached compiled code"), false;
    ready[k] = in[k]->contiguous ? in[k] : mx_keep(c, mx_array_contiguous(c, in[k]));
    if (!ready[k]) return false;
    data[k] = mx_data(ready[k]);
  }
  return true;
}

static mx_run *take_run(mx_ctx *c, mx_plan *p) {
  mx_run *r = atomic_exchange(&p->spare, NULL);
  return r ? r : run_new(c, p);
}

bool mx_plan_run(mx_ctx *c, mx_plan *p, mx_array *const *in, mx_array **out) {
  mx_run *r = take_run(c, p);
  if (!r) return false;
  mx_array *few[32], **ready = few;
  char *few_data[32], **data = few_data;
  size_t n = (size_t)p->program->n_in;
  if (n > 32) {
    ready = mx_new(c, n * sizeof *ready);
    data = mx_new(c, n * sizeof *data);
  }
  bool ok = ready && data && inputs(c, p, in, ready, data) && run_on(c, p, r, ready, data, out);
  for (int k = 0; k < p->n_results; k++) {
    if (r->buffers[k]) mx_buffer_release(r->buffers[k]);
    r->buffers[k] = NULL;
  }
  if (n > 32) {
    mx_free(c->engine, ready, n * sizeof *ready);
    mx_free(c->engine, data, n * sizeof *data);
  }
  run_free(p, atomic_exchange(&p->spare, r));
  return ok;
}

/* -- on the caller's memory ---------------------------------------------------------------------------------------- */

/* Results that are no root of their own (views, inputs handed on, one value twice) are copied at the end. */
static void copy_out(mx_ctx *c, mx_plan *p, mx_run *r, char *const *in, char *const *out) {
  for (int k = 0; k < p->program->n_out; k++) {
    int32_t v = p->program->outs[k];
    const mx_slot *s = &p->slots[v];
    const mx_root *root = &p->roots[s->root];
    if (root->place == MX_AT_RESULT && p->direct[root->index] == k) continue;
    char *base = root->place == MX_AT_RESULT  ? r->results[root->index]
                 : root->place == MX_AT_INPUT ? in[root->index]
                                              : mx_data(p->program->consts[root->index]);
    mx_tensor from = {base + s->offset, p->program->avals[v], s->strides, s->contiguous};
    mx_cpu_copy(c, &from, out[k]);
  }
}

static bool call_on(mx_ctx *c, mx_plan *p, mx_run *r, char *const *in, char *const *out) {
  for (int k = 0; k < p->n_results; k++) {
    if (p->direct[k] >= 0) r->results[k] = out[p->direct[k]];
    else if (!(r->results[k] = mx_buffer_alloc(c, p->roots[p->result_roots[k]].bytes))) return false;
  }
  patch(p, r, in, r->results);
  if (!run_steps(c, p, r)) return false;
  copy_out(c, p, r, in, out);
  return true;
}

bool mx_plan_call(mx_ctx *c, mx_plan *p, char *const *in, char *const *out) {
  mx_run *r = take_run(c, p);
  if (!r) return false;
  memset(r->results, 0, (size_t)p->n_results * sizeof *r->results);
  bool ok = call_on(c, p, r, in, out);
  for (int k = 0; k < p->n_results; k++)
    if (p->direct[k] < 0) mx_buffer_free(c->engine, r->results[k], p->roots[p->result_roots[k]].bytes);
  run_free(p, atomic_exchange(&p->spare, r));
  return ok;
}
