/* gemm_float.c: products of float32 matrices, where the machine has fused multiply-add. */
#include "gemm.h"

#if defined(__FMA__)
#  include "vector_float.h"
#  if defined(__AVX512F__)
#    define MOST_ROWS 12
enum { ROWS = MOST_ROWS, DEPTH = 384, HEIGHT = 960 };
#  else
#    define MOST_ROWS 6
enum { ROWS = MOST_ROWS, DEPTH = 384, HEIGHT = 192 };
#  endif
#  include "gemm_tile.h"

/* The halves of a vector added up, down to four lanes. */
INLINE quad halves(vec v) {
#  if defined(__AVX512F__)
  __auto_type h = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                  __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
#  else
  vec h = v;
#  endif
  return __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
}

#  include "gemv_tile.h"

const mx_gemm_loops MX_SIMD(mx_gemm_float) = {ROWS, COLUMNS, scratch_bytes, multiply, run_tile, gemv};
#else /* BLAS has better loops than the vectors here could make */
const mx_gemm_loops MX_SIMD(mx_gemm_float) = {1, 1, NULL, NULL, NULL, NULL};
#endif
