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

static bool run_kernel(mx_ctx *c, const mx_op *o, mx_tensor *in, mx_array **out) {
  mx_tensor results[MX_MAX_OUT];
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
  return kernel(c, &args);
}

static bool eval_kernel(mx_ctx *c, const mx_op *o, const mx_aval *avals, mx_array **out) {
  for (int k = 0; k < o->n_out; k++)
    if (!(out[k] = mx_keep(c, mx_array_new(c, &avals[k])))) return false;
  mx_tensor few[16], *in = few;
  if (o->n_in > 16 && !(in = mx_new(c, (size_t)o->n_in * sizeof *in))) return false;
  bool ok = run_kernel(c, o, in, out);
  if (in != few) mx_free(c->engine, in, (size_t)o->n_in * sizeof *in);
  return ok;
}

bool mx_eval_process(mx_ctx *c, mx_op *o, mx_array **out) {
  mx_aval avals[MX_MAX_OUT];
  if (o->n_out > MX_MAX_OUT)
    return mx_fail(c, MLAX_UNSUPPORTED, "%s of more than %d results", o->prim->name, MX_MAX_OUT), false;
  for (int i = 0; i < o->n_in; i++)
    if (o->in[i]->tag != MX_VALUE)
      return mx_fail(c, MLAX_STATE, "a traced value made at %s is used outside its transformation",
                     mx_site_text(c, o->in[i]->site)),
             false;
  for (int k = 0; k < o->n_out; k++) avals[k].weak = false;
  if (!o->prim->shape(c, o, avals)) return false;
  o->out_aval = avals;
  if (eval_view(c, o, avals, out)) return out[0] != NULL;
  return eval_kernel(c, o, avals, out);
}
