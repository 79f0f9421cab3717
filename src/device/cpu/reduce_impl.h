/* reduce_impl.h: what reductions, scans and normalisations share: axes sorted by stride, gathering, halves worked in
 * float32. */
#ifndef MX_REDUCE_IMPL_H
#define MX_REDUCE_IMPL_H

#include "cpu_impl.h"
#include "simd/reduce.h"

typedef struct mx_reduce_axis {
  int64_t n, in, out; /* length, byte strides of operand and result */
} mx_reduce_axis;

typedef struct mx_reduce_axes {
  int n;
  mx_reduce_axis axis[MX_MAX_NDIM];
} mx_reduce_axes;

/* x's axes without those of 1, by falling stride, those that lie behind one another merged. The result is row-major,
 * its elements have out_size bytes. */
void mx_reduce_sort_axes(const mx_tensor *x, const mx_dims *axes, int64_t out_size, mx_reduce_axes *kept,
                         mx_reduce_axes *red);
int64_t mx_reduce_count(const mx_reduce_axes *a, int n); /* positions of the first n axes */
/* The byte offset of a position of the first n axes; that in the result is added to *out (may be NULL). */
int64_t mx_reduce_offset(const mx_reduce_axes *a, int n, int64_t position, int64_t *out);

/* The element that leaves all others as they are. */
void mx_reduce_identity(mx_fold_op op, int dtype, void *to);

/* n elements of `size` bytes side by side, and back. */
void mx_reduce_gather(char *to, const char *from, int64_t stride, int64_t size, int64_t n);
void mx_reduce_scatter(char *to, int64_t stride, const char *from, int64_t size, int64_t n);

/* Operand and result as a kernel works on them: float16 and bfloat16 as float32 in scratch memory, all else as it is.
 */
typedef struct mx_widened {
  mx_tensor in, out; /* to work on */
  const mx_tensor *result;
  mx_aval in_aval, out_aval;
  int64_t in_strides[MX_MAX_NDIM], out_strides[MX_MAX_NDIM];
  void *memory[2];
} mx_widened;
bool mx_widen(mx_ctx *c, const mx_tensor *in, const mx_tensor *out, mx_widened *w);
bool mx_widen_result(mx_ctx *c, const mx_tensor *out, mx_widened *w); /* the result alone */
bool mx_narrow(mx_ctx *c, mx_widened *w, bool ok); /* converts the result, where `ok`; frees; returns ok */

/* The conversion of t to dtype, row-major, into `to`. */
bool mx_cpu_convert_to(mx_ctx *c, const mx_tensor *t, int dtype, void *to);

bool mx_cpu_arg_reduce(mx_ctx *c, const mx_kernel_args *a);

#endif
