/* random.c: random bits: the threefry2x32 hash, a function of a key and a counter of 64 bits each; and the draws that
 * reject, which use as many bits as it takes. The draws that are made of operations stand in random_draw.c. */
#include "index_impl.h"

#include <stddef.h>

/* What the operands broadcast to; the first `words` are uint32. */
static bool broadcast_all(mx_ctx *c, const mx_op *o, int words, mx_aval *all) {
  *all = (mx_aval){.dtype = MLAX_UINT32, .size = 1};
  for (int i = 0; i < o->n_in; i++) {
    mx_aval both = *all;
    mx_text t;
    if (i < words && o->in_aval[i]->dtype != MLAX_UINT32)
      return mx_fail(c, MLAX_SHAPE, "keys and counters must be uint32 (got %s)", mx_aval_text(&t, o->in_aval[i]));
    if (!mx_shape_broadcast(all, o->in_aval[i], &both))
      return mx_fail(c, MLAX_SHAPE, "keys, counters and parameters do not fit each other");
    *all = both;
  }
  return true;
}

static bool threefry2x32_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  mx_aval all;
  if (!broadcast_all(c, o, 4, &all)) return false;
  for (int i = 0; i < 2; i++)
    if (!mx_aval_make(c, &out[i], MLAX_UINT32, all.ndim, all.shape)) return false;
  return true;
}

bool mx_threefry2x32(mx_ctx *c, mx_array *k0, mx_array *k1, mx_array *x0, mx_array *x1, mx_array *out[2]) {
  if (!k0 || !k1 || !x0 || !x1) return false;
  return mx_bind(c, &mx_prim_threefry2x32, NULL, (mx_array *[]){k0, k1, x0, x1}, 4, out, 2);
}

const mx_primitive mx_prim_threefry2x32 = {.name = "threefry2x32",
                                           .id = MX_PRIM_threefry2x32,
                                           .n_out = 2,
                                           .fields = mx_fields_none,
                                           .shape = threefry2x32_shape,
                                           .batch = mx_batch_broadcasting,
                                           .flops = mx_flops_none};

/* -- gamma -------------------------------------------------------------------------------------------------------- */

static const mx_field random_gamma_fields[] = {{"log_space", MX_FIELD_FLAG, offsetof(mx_params, gamma.log_space)}, {0}};

static bool random_gamma_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  mx_aval all;
  mx_text t;
  if (!mx_is_float(o->in_aval[2]->dtype))
    return mx_fail(c, MLAX_SHAPE, "the parameter must be of floats (got %s)", mx_aval_text(&t, o->in_aval[2]));
  return broadcast_all(c, o, 2, &all) && mx_aval_make(c, out, o->in_aval[2]->dtype, all.ndim, all.shape);
}

/* By implicit differentiation of the distribution function at the sample: d ln x = loggamma_grad(a, ln x) da. */
static mx_array *random_gamma_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  mx_array *a = o->in[2], *x = o->out[0];
  if (i != 2) return NULL;
  if (o->p->gamma.log_space) return mx_mul(c, g, mx_loggamma_grad(c, a, x));
  mx_array *nothing = mx_eq(c, x, mx_like(c, x, 0)), *one = mx_like(c, x, 1);
  mx_array *slope = mx_mul(c, x, mx_loggamma_grad(c, a, mx_log(c, mx_select(c, nothing, one, x))));
  return mx_mul(c, g, slope);
}

mx_array *mx_draw_gamma(mx_ctx *c, mx_array *k0, mx_array *k1, mx_array *a, bool log_space) {
  mx_params p;
  memset(&p, 0, sizeof p);
  p.gamma.log_space = log_space;
  return mx_bind1(c, &mx_prim_random_gamma, &p, (mx_array *[]){k0, k1, a}, 3);
}

const mx_primitive mx_prim_random_gamma = {.name = "random_gamma",
                                           .id = MX_PRIM_random_gamma,
                                           .n_out = 1,
                                           .params_size = sizeof(((mx_params *)0)->gamma),
                                           .fields = random_gamma_fields,
                                           .shape = random_gamma_shape,
                                           .d = random_gamma_d,
                                           .batch = mx_batch_broadcasting,
                                           .flops = mx_flops_none};

/* -- Poisson ------------------------------------------------------------------------------------------------------ */

static const mx_field random_poisson_fields[] = {{"dtype", MX_FIELD_DTYPE, offsetof(mx_params, convert.dtype)}, {0}};

static bool random_poisson_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *key = o->in_aval[0], *rate = o->in_aval[1];
  mx_text s, t;
  bool fits = key->dtype == MLAX_UINT32 && rate->dtype == MLAX_FLOAT32 && key->ndim == rate->ndim && key->ndim > 0 &&
              key->shape[key->ndim - 1] == 2;
  for (int i = 0; fits && i + 1 < key->ndim; i++) fits = key->shape[i] == rate->shape[i];
  if (!fits)
    return mx_fail(c, MLAX_SHAPE, "keys and rates do not fit (got %s and %s, need uint32[2] for each float32[n])",
                   mx_aval_text(&s, key), mx_aval_text(&t, rate));
  return mx_aval_make(c, out, (int)o->p->convert.dtype, rate->ndim, rate->shape);
}

static bool random_poisson_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out,
                                 int *out_axes) {
  mx_array *in[2];
  for (int i = 0; i < 2; i++) in[i] = mx_batch_front(c, o->in[i], axes[i], size);
  out_axes[0] = 0;
  return (out[0] = mx_bind1(c, o->prim, o->p, in, 2)) != NULL;
}

mx_array *mx_draw_poisson(mx_ctx *c, mx_array *key, mx_array *rate, int dtype) {
  mx_params p;
  memset(&p, 0, sizeof p);
  p.convert.dtype = dtype;
  return mx_bind1(c, &mx_prim_random_poisson, &p, (mx_array *[]){key, rate}, 2);
}

const mx_primitive mx_prim_random_poisson = {.name = "random_poisson",
                                             .id = MX_PRIM_random_poisson,
                                             .n_out = 1,
                                             .params_size = sizeof(((mx_params *)0)->convert),
                                             .fields = random_poisson_fields,
                                             .shape = random_poisson_shape,
                                             .batch = random_poisson_batch,
                                             .flops = mx_flops_none};
