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

/* The sums of four vectors' lanes. */
INLINE void four_sums(const vec *v, T *to) {
  quad a = halves(v[0]), b = halves(v[1]), c = halves(v[2]), d = halves(v[3]);
  quad ab = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
  quad cd = __builtin_shufflevector(c, d, 0, 1, 4, 5) + __builtin_shufflevector(c, d, 2, 3, 6, 7);
  a = __builtin_shufflevector(ab, cd, 0, 2, 4, 6) + __builtin_shufflevector(ab, cd, 1, 3, 5, 7);
  memcpy(to, &a, sizeof a);
}

#  include "gemv_tile.h"

const mx_gemm_loops MX_SIMD(mx_gemm_float) = {ROWS, COLUMNS, scratch_bytes, multiply, run_tile, gemv};
#else /* BLAS has better loops than the vectors here could make */
const mx_gemm_loops MX_SIMD(mx_gemm_float) = {1, 1, NULL, NULL, NULL, NULL};
#endif
