/* convert.c: the kernels of the convert family. */
#include "map.h"

static bool is_half(int dtype) { return dtype == MLAX_FLOAT16 || dtype == MLAX_BFLOAT16; }

/* A pair without a loop of its own passes through float32, which holds every value of the narrower side. */
static bool convert(mx_ctx *c, const mx_kernel_args *a) {
  const mx_convert_loops *loops = MX_SIMD_PICK(mx_convert_loops);
  int from = a->in->aval->dtype, to = a->out->aval->dtype;
  mx_map m = {.n_in = 1, .ns = 0.1 * (double)(mx_itemsize(from) + mx_itemsize(to)) / 4};
  if (from == to) {
    mx_cpu_copy(c, a->in, a->out->data);
    return true;
  }
  m.loop = loops->convert[from][to];
  if (!m.loop && is_half(from)) {
    m.load[0] = loops->convert[from][MLAX_FLOAT32];
    m.loop = loops->convert[MLAX_FLOAT32][to];
  } else if (!m.loop) {
    m.loop = loops->convert[from][MLAX_FLOAT32];
    m.store = loops->convert[MLAX_FLOAT32][to];
  }
  return mx_cpu_map(c, &m, a->in, a->out);
}

static bool select(mx_ctx *c, const mx_kernel_args *a) {
  static const uint8_t width[] = {[1] = 0, [2] = 1, [4] = 2, [8] = 3};
  size_t size = mx_itemsize(a->out->aval->dtype);
  mx_map m = {.n_in = 3, .loop = MX_SIMD_PICK(mx_convert_loops)->select[width[size]], .ns = 0.05 * (double)size};
  return mx_cpu_map(c, &m, a->in, a->out);
}

bool mx_cpu_convert(mx_ctx *c, const mx_kernel_args *a) {
  switch (a->prim->id) {
  case MX_PRIM_convert: return convert(c, a);
  case MX_PRIM_select: return select(c, a);
  default: /* bitcast, stop_gradient: the same bytes, in row-major order */
    mx_cpu_copy(c, a->in, a->out->data);
    return true;
  }
}
