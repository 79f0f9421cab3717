/* dot_impl.h: a product as the CPU sees it: many matrix products of one form, at places that outer axes run over. */
#ifndef MX_DOT_IMPL_H
#define MX_DOT_IMPL_H

#include "cpu_impl.h"
#include "simd/gemm.h"

typedef struct mx_dot_axis {
  int64_t n, x, y, out; /* length; element strides of the operands and the result, 0 where they lack the axis */
} mx_dot_axis;

typedef struct mx_dot_axes {
  int n;
  mx_dot_axis axis[2 * MX_MAX_NDIM];
} mx_dot_axes;

/* Products of one form, at places that outer axes run over. */
typedef struct mx_dot {
  int dtype, out_dtype; /* of the operands as they are multiplied, and of what is written */
  int64_t size, out_size;
  int size_log2, out_size_log2;
  mx_dot_axes outer;
  int64_t products; /* positions of the outer axes */
  mx_gemm form;     /* of each product; a, b, c are set for each */
} mx_dot;

/* An operand, with its strides by its own axes; `memory` is scratch where it had to be converted or packed. */
typedef struct mx_dot_operand {
  mx_tensor t;
  mx_aval aval;
  int64_t strides[MX_MAX_NDIM];
  void *memory;
  size_t bytes;
} mx_dot_operand;

/* Multiplies; the operands are ready. after: NULL, or what is done to the result then; it is row-major. False:
 * interrupted, or no memory. */
bool mx_dot_run(mx_ctx *c, const mx_dot *d, const char *x, const char *y, char *out, mx_after *after);
/* The register tiles of this machine for a dtype; NULL: there are none. */
const mx_gemm_loops *mx_own_tiles(int dtype);
/* Those that multiply bfloat16 as it lies, and write this dtype; NULL: there are none. */
const mx_gemm_loops *mx_bfloat_tiles(int out_dtype);
/* Whether they are worth it for a product of this form. */
bool mx_dot_takes_bfloat(const mx_gemm *f);
/* Whether the loops that will be chosen can read an operand with these strides of its rows and columns. */
bool mx_dot_reads(const mx_dot *d, const mx_gemm *form, bool second);

#endif
