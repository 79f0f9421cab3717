/* eval.c: no trace is left: compute. A view where the primitive has one, else its kernel on new arrays. */
#include "../device/device.h"
#include "trace_impl.h"

static bool eval_view(mx_ctx *c, const mx_op *o, const mx_aval *aval, mx_array **out) {
  int64_t offset = 0, strides[MX_MAX_NDIM];
  if (!o->prim->view || o->n_in == 0 || !o->prim->view(o, o->in[0]->strides, &offset, strides)) return false;
  out[0] = mx_keep(c, mx_array_view(c, o->in[0], aval, o->in[0]->offset + offset, strides));
  return true;
}

static mx_tensor tensor_of(const mx_array *x) {
  return (mx_tensor){.data = mx_data(x), .aval = &x->aval, .strides = x->strides, .contiguous = x->contiguous};
}

static bool run_kernel(mx_ctx *c, const mx_op *o, mx_tensor *in, mx_tensor *results, mx_array **out) {
  bool empty = o->prim->effect == MX_EFFECT_NONE;
  for (int k = 0; k < o->n_out; k++) {
    results[k] = tensor_of(out[k]);
    empty &= out[k]->aval.size == 0;
  }
  if (empty) return true;
  for (int i = 0; i < o->n_in; i++) in[i] = tensor_of(o->in[i]);
  mx_kernel_args args = {.prim = o->prim, .p = o->p, .n_in = o->n_in, .n_out = o->n_out, .in = in, .out = results};
  mx_kernel kernel = mx_cpu.kernels[o->prim->id];
  if (!kernel) return mx_no_rule(c, o->prim, "evaluation"), false;
  mx_kernels_begin(c);
  bool ok = mx_kernel_run(c, kernel, &args) && (!c->nans || mx_cpu_check_nans(c, &args));
  mx_kernels_end(c);
  return ok;
}

static bool eval_kernel(mx_ctx *c, const mx_op *o, const mx_aval *avals, mx_array **out) {
  for (int k = 0; k < o->n_out; k++)
    if (!(out[k] = mx_keep(c, mx_array_new(c, &avals[k])))) return false;
  mx_tensor few[16], *in = mx_room(c, few, 16, o->n_in, sizeof *in);
  mx_tensor few_out[MX_MAX_OUT], *results = mx_room(c, few_out, MX_MAX_OUT, o->n_out, sizeof *results);
  bool ok = in && results && run_kernel(c, o, in, results, out);
  mx_room_free(c, in, few, o->n_in, sizeof *in);
  mx_room_free(c, results, few_out, o->n_out, sizeof *results);
  return ok;
}

static bool eval_op(mx_ctx *c, mx_op *o, mx_aval *avals, mx_array **out) {
  for (int k = 0; k < o->n_out; k++) avals[k].weak = false;
  if (!o->prim->shape(c, o, avals)) return false;
  o->out_aval = avals;
  if (eval_view(c, o, avals, out)) return out[0] != NULL;
  return eval_kernel(c, o, avals, out);
}

bool mx_eval_process(mx_ctx *c, mx_op *o, mx_array **out) {
  for (int i = 0; i < o->n_in; i++)
    if (o->in[i]->tag != MX_VALUE)
      return mx_fail(c, MLAX_STATE, "a traced value made at %s is used outside its transformation",
                     mx_site_text(c, o->in[i]->site)),
             false;
  mx_aval few[MX_MAX_OUT], *avals = mx_room(c, few, MX_MAX_OUT, o->n_out, sizeof *avals);
  bool ok = avals && eval_op(c, o, avals, out);
  mx_room_free(c, avals, few, o->n_out, sizeof *avals);
  return ok;
}
