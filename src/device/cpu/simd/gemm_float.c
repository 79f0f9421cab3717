/* gemm_float.c: products of float32 matrices, where the machine has fused multiply-add. */
#include "gemm.h"

#if defined(__FMA__)
#  include <immintrin.h>
#  define T float
#  if defined(__AVX512F__)
typedef __m512 vec;
typedef __mmask16 part; /* which lanes of a vector count */
#    define FMA(a, b, c)           _mm512_fmadd_ps(a, b, c)
#    define ADD(a, b)              _mm512_add_ps(a, b)
#    define SPLAT(x)               _mm512_set1_ps(x)
#    define LOAD(p)                _mm512_loadu_ps(p)
#    define STORE(p, v)            _mm512_storeu_ps(p, v)
#    define LOAD_PART(p, part)     _mm512_maskz_loadu_ps(part, p)
#    define STORE_PART(p, part, v) _mm512_mask_storeu_ps(p, part, v)
#    define MOST_ROWS              12
enum { ROWS = MOST_ROWS, LANES = 16, DEPTH = 384, HEIGHT = 960 };
static part part_of(int64_t n) { return (part)((1u << n) - 1); }
#  else
typedef __m256 vec;
typedef __m256i part;
#    define FMA(a, b, c)           _mm256_fmadd_ps(a, b, c)
#    define ADD(a, b)              _mm256_add_ps(a, b)
#    define SPLAT(x)               _mm256_set1_ps(x)
#    define LOAD(p)                _mm256_loadu_ps(p)
#    define STORE(p, v)            _mm256_storeu_ps(p, v)
#    define LOAD_PART(p, part)     _mm256_maskload_ps(p, part)
#    define STORE_PART(p, part, v) _mm256_maskstore_ps(p, part, v)
#    define MOST_ROWS              6
enum { ROWS = MOST_ROWS, LANES = 8, DEPTH = 384, HEIGHT = 192 };
static part part_of(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#  endif
#  include "gemm_tile.h"

const mx_gemm_loops MX_SIMD(mx_gemm_float) = {ROWS, COLUMNS, scratch_bytes, multiply, run_tile};
#else /* BLAS has better loops than the vectors here could make */
const mx_gemm_loops MX_SIMD(mx_gemm_float) = {1, 1, NULL, NULL, NULL};
#endif
