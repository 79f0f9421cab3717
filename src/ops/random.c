/* random.c: random bits: the threefry2x32 hash, a function of a key and a counter of 64 bits each. The draws stand in
 * random_draw.c. */
#include "index_impl.h"

static bool threefry2x32_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  mx_aval all = {.dtype = MLAX_UINT32, .size = 1};
  for (int i = 0; i < o->n_in; i++) {
    mx_aval both = all;
    mx_text t;
    if (o->in_aval[i]->dtype != MLAX_UINT32)
      return mx_fail(c, MLAX_SHAPE, "keys and counters must be uint32 (got %s)", mx_aval_text(&t, o->in_aval[i]));
    if (!mx_shape_broadcast(&all, o->in_aval[i], &both))
      return mx_fail(c, MLAX_SHAPE, "keys and counters do not fit each other");
    all = both;
  }
  for (int i = 0; i < 2; i++) {
    if (!mx_aval_make(c, &out[i], MLAX_UINT32, all.ndim, all.shape)) return false;
    out[i].weak = false;
  }
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
