/* device.h: who computes. A device has a kernel for each primitive; kernels are total: shape rules have checked
 * everything.
 *
 * Operands come with any byte strides (also 0 and negative); results are row-major. A kernel fails only for want of
 * scratch memory, on an interrupt, or (check_index) because the data say so: it then calls mx_fail and returns false.
 */
#ifndef MX_DEVICE_H
#define MX_DEVICE_H

#include "../ops/ops.h"

typedef struct mx_tensor {
  char *data; /* the first element */
  const mx_aval *aval;
  const int64_t *strides; /* bytes */
  bool contiguous;        /* row-major without gaps */
} mx_tensor;

typedef struct mx_kernel_args {
  const mx_primitive *prim;
  const mx_params *p;
  int n_in, n_out;
  const mx_tensor *in, *out;
} mx_kernel_args;

typedef bool (*mx_kernel)(mx_ctx *c, const mx_kernel_args *a);

typedef struct mx_device {
  const char *name;         /* "cpu" */
  const mx_kernel *kernels; /* by mx_prim_id; NULL: the primitive is always a view */
} mx_device;

extern const mx_device mx_cpu;

/* Row-major copy of t in scratch memory (t's own data where it is row-major already; then *bytes is 0). Freed by
 * mx_scratch_free. */
void *mx_cpu_contiguous(mx_ctx *c, const mx_tensor *t, size_t *bytes);
void *mx_scratch(mx_ctx *c, size_t bytes);
void mx_scratch_free(mx_ctx *c, void *p, size_t bytes);
/* Strided copy to row-major, with a tiled path for transpositions, in parallel where it is large. */
void mx_cpu_copy(mx_ctx *c, const mx_tensor *from, char *to);

/* debug.nans: false, with the error pending, where a result has a NaN and no operand does. */
bool mx_cpu_check_nans(mx_ctx *c, const mx_kernel_args *a);

/* Kernels that compile/ has, since they run the plans of the programs inside. */
bool mx_cpu_control(mx_ctx *c, const mx_kernel_args *a);
bool mx_cpu_collective(mx_ctx *c, const mx_kernel_args *a);

/* "cpu: AVX-512, 2 threads, OpenBLAS 0.3.21 (OpenMP)": for mlax.devices() */
void mx_cpu_describe(const mlax_engine *e, char *to, size_t cap);

#endif
