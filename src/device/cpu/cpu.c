/* cpu.c: the CPU device: every primitive's kernel. */
#include "cpu_impl.h"

static const mx_kernel kernels[MX_PRIM_COUNT] = {
#define MX_PRIMITIVE(name, family) [MX_PRIM_##name] = mx_cpu_##family,
#include "../../ops/primitives.def"
};

const mx_device mx_cpu = {"cpu", kernels};
