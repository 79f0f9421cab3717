/* gemm_double.c: products of float64 matrices, where the machine has fused multiply-add. */
#include "gemm.h"

#if defined(__FMA__)
#  include "vector_double.h"
#  if defined(__AVX512F__)
#    define MOST_ROWS 12
enum { ROWS = MOST_ROWS, DEPTH = 384, HEIGHT = 240 };
#  else
#    define MOST_ROWS 6
enum { ROWS = MOST_ROWS, DEPTH = 384, HEIGHT = 96 };
#  endif
#  include "gemm_tile.h"

/* The halves of a vector added up, down to four lanes. */
INLINE quad halves(vec v) {
#  if defined(__AVX512F__)
  return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#  else
  return (quad)v;
#  endif
}

#  include "gemv_tile.h"

const mx_gemm_loops MX_SIMD(mx_gemm_double) = {ROWS, COLUMNS, scratch_bytes, multiply, run_tile, gemv};
#else /* BLAS has better loops than the vectors here could make */
const mx_gemm_loops MX_SIMD(mx_gemm_double) = {1, 1, NULL, NULL, NULL, NULL};
#endif
