/* elementwise.c: the kernels of the elementwise and convert families: code of one application. */
#include "machine.h"

/* x^2 by one number, which pow computes as a square anyway */
static bool is_square(const mx_kernel_args *a) {
  int dtype = a->in[0].aval->dtype;
  return a->prim->id == MX_PRIM_pow && mx_is_float(dtype) && a->in[1].aval->size == 1 &&
         mx_load_double(dtype, a->in[1].data) == 2;
}

static bool run_one(mx_ctx *c, const mx_kernel_args *a, const mx_primitive *prim, int n_in) {
  mx_coder b;
  int in[3];
  mx_coder_start(&b, 0, 0);
  for (int k = 0; k < n_in; k++)
    in[k] = mx_coder_operand(&b, a->in[k].aval->dtype, a->in[k].contiguous && a->in[k].aval->size == a->out->aval->size,
                             false);
  mx_coder_result(&b, mx_coder_apply(&b, prim, in, n_in, a->out->aval->dtype));
  mx_coder_finish(&b, a->out->aval->size);
  return mx_cpu_run(c, &b.code, a->in, a->out);
}

bool mx_cpu_elementwise(mx_ctx *c, const mx_kernel_args *a) {
  return is_square(a) ? run_one(c, a, &mx_prim_square, 1) : run_one(c, a, a->prim, a->n_in);
}

bool mx_cpu_convert(mx_ctx *c, const mx_kernel_args *a) {
  bool same = a->prim->id == MX_PRIM_convert && a->in->aval->dtype == a->out->aval->dtype;
  if (!same && (a->prim->id == MX_PRIM_convert || a->prim->id == MX_PRIM_select))
    return run_one(c, a, a->prim, a->n_in);
  mx_cpu_copy(c, a->in, a->out->data); /* bitcast, stop_gradient: the same bytes, in row-major order */
  return true;
}
