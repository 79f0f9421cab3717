/* cpu.c: the CPU device: every primitive's kernel. */
#include "cpu_impl.h"

static const mx_kernel kernels[MX_PRIM_COUNT] = {
#define MX_PRIMITIVE(name, family) [MX_PRIM_##name] = mx_cpu_##family,
#include "../../ops/primitives.def"
};

static bool prepare(mx_ctx *c, const mx_kernel_args *a, mx_arena *keep, const void **prepared) {
  *prepared = NULL;
  return a->prim->id != MX_PRIM_dot_general || mx_cpu_prepare_dot(c, a, keep, prepared);
}

const mx_device mx_cpu = {"cpu", kernels, prepare};
