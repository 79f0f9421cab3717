/* cpu_impl.h: the kernel families of the CPU device. Each file <family>.c holds mx_cpu_<family>, which serves all
 * primitives of ops/<family>.c and looks at a->prim->id. Inner loops that profit from SIMD lie in files compiled once
 * per instruction set (see simd.h). */
#ifndef MX_CPU_IMPL_H
#define MX_CPU_IMPL_H

#include "../device.h"

#define MX_CPU_FAMILY(name) bool mx_cpu_##name(mx_ctx *c, const mx_kernel_args *a)
MX_CPU_FAMILY(elementwise);
MX_CPU_FAMILY(convert);
MX_CPU_FAMILY(shape);
MX_CPU_FAMILY(reduce);
MX_CPU_FAMILY(scan);
MX_CPU_FAMILY(normalize);
MX_CPU_FAMILY(dot);
MX_CPU_FAMILY(index);
MX_CPU_FAMILY(sort);
MX_CPU_FAMILY(random);
MX_CPU_FAMILY(random_draw); /* the part of random that draws by rejection */
MX_CPU_FAMILY(debug);
MX_CPU_FAMILY(conv);
MX_CPU_FAMILY(window);
MX_CPU_FAMILY(linalg);

/* As mx_device.prepare. */
bool mx_cpu_prepare_dot(mx_ctx *c, const mx_kernel_args *a, mx_arena *keep, const void **prepared);

/* Elements that one thread has finished, for a->after: ranges that follow one another are handed on together, so that
 * short ones, too, are worth the call. */
typedef struct mx_finished {
  mx_after *after; /* NULL: nothing is to be done */
  int64_t lo, hi;
} mx_finished;
enum {
  MX_RANGE = 1 << 15,      /* elements that are handed on at once: their operands and results fit the second cache */
  MX_RANGE_LEAST = 1 << 11 /* fewer are not worth a call, if nothing follows them */
};
static inline void mx_finished_flush(mx_finished *f) {
  if (f->after && f->lo < f->hi) f->after->run(f->after->arg, f->lo, f->hi);
  f->lo = f->hi;
}
static inline void mx_finished_add(mx_finished *f, int64_t lo, int64_t hi) {
  if (lo != f->hi) mx_finished_flush(f), f->lo = lo;
  f->hi = hi;
  if (f->hi - f->lo >= MX_RANGE) mx_finished_flush(f);
}

#endif
