/* batch.c: vmap. A batched tracer is a whole value with one axis that the function does not see. */
#include "trace_impl.h"

static mx_array *value_of(const mx_trace *t, mx_array *x) { return mx_owns(t, x) ? x->primal : x; }
static int axis_of(const mx_trace *t, const mx_array *x) { return mx_owns(t, x) ? x->var : -1; }

static void drop_axis(mx_aval *a, int axis) {
  int64_t length = a->shape[axis];
  for (int i = axis; i + 1 < a->ndim; i++) a->shape[i] = a->shape[i + 1];
  a->ndim--;
  a->size = length ? a->size / length : 1;
  for (int i = 0; !length && i < a->ndim; i++) a->size *= a->shape[i];
}

static mx_array *batched_new(mx_ctx *c, mx_trace *t, mx_array *value, int axis) {
  if (!value || axis < 0) return value;
  mx_aval a = value->aval;
  drop_axis(&a, axis);
  mx_array *x = mx_tracer_new(c, t, MX_BATCHED, &a);
  if (!x) return NULL;
  x->primal = mx_retain(value);
  x->var = axis;
  return x;
}

static bool batch_bind(mx_ctx *c, mx_trace *t, mx_op *o, mx_array **values, int *axes, const mx_aval **avals,
                       mx_array **out, int *out_axes) {
  for (int i = 0; i < o->n_in; i++) {
    values[i] = value_of(t, o->in[i]);
    axes[i] = axis_of(t, o->in[i]);
    avals[i] = &values[i]->aval;
  }
  mx_op inner = *o;
  inner.in = values;
  inner.in_aval = avals;
  if (!o->prim->batch) return mx_no_rule(c, o->prim, "vmap"), false;
  const char *batching = c->batching;
  c->batching = t->name;
  bool ok = o->prim->batch(c, &inner, axes, t->size, out, out_axes);
  c->batching = batching;
  for (int k = 0; ok && k < o->n_out; k++) ok = (out[k] = batched_new(c, t, out[k], out_axes[k])) != NULL;
  return ok;
}

bool mx_batch_process(mx_ctx *c, mx_trace *t, mx_op *o, mx_array **out) {
  mx_array *few[16], **values = few;
  const mx_aval *few_avals[16], **avals = few_avals;
  int few_axes[16], *axes = few_axes;
  size_t n = (size_t)o->n_in;
  int few_out[MX_MAX_OUT], *out_axes = mx_room(c, few_out, MX_MAX_OUT, o->n_out, sizeof *out_axes);
  if (n > 16) {
    values = mx_new(c, n * sizeof *values);
    avals = mx_new(c, n * sizeof *avals);
    axes = mx_new(c, n * sizeof *axes);
  }
  bool ok = values && avals && axes && out_axes && batch_bind(c, t, o, values, axes, avals, out, out_axes);
  mx_room_free(c, out_axes, few_out, o->n_out, sizeof *out_axes);
  if (n > 16) {
    mx_free(c->engine, values, n * sizeof *values);
    mx_free(c->engine, avals, n * sizeof *avals);
    mx_free(c->engine, axes, n * sizeof *axes);
  }
  return ok;
}

/* -- vmap ---------------------------------------------------------------------------------------------------------- */

void mx_ints_release(mx_ctx *c, mx_ints *l) {
  mx_free(c->engine, l->items, (size_t)l->cap * sizeof *l->items);
  *l = (mx_ints){0};
}

static bool add_result(mx_ctx *c, mx_trace *t, mx_array *x, mx_list *out, mx_ints *out_axes) {
  if (!mx_usable(c, x) || !mx_grow(c, &out_axes->items, &out_axes->cap, out_axes->n + 1, sizeof *out_axes->items))
    return false;
  out_axes->items[out_axes->n++] = axis_of(t, x);
  return mx_list_add(c, out, value_of(t, x));
}

bool mx_batch(mx_ctx *c, mx_function f, mx_array *const *in, const int *axes, int n, int64_t size, const char *name,
              mx_list *out, mx_ints *out_axes) {
  int mark = mx_frame_mark(c);
  mx_trace *t = mx_trace_begin(c, MX_TRACE_BATCH);
  if (!t) return false;
  t->size = size;
  t->name = name;
  mx_list tracers = {0}, results = {0};
  bool ok = true;
  for (int i = 0; ok && i < n; i++) {
    mx_array *x = batched_new(c, t, in[i], axes[i]);
    ok = x && mx_list_add(c, &tracers, x);
  }
  ok = ok && f.call(c, f.state, tracers.items, n, &results);
  for (int k = 0; ok && k < results.n; k++) ok = add_result(c, t, results.items[k], out, out_axes);
  mx_list_release(c, &results);
  mx_list_release(c, &tracers);
  mx_trace_end(c, t);
  mx_frame_release(c, mark);
  return ok;
}
