/* vector_float.h: a vector of float32 as the loops written for registers see it, T and LANES of them, and what is done
 * with it. vector_double.h says the same of float64. A part is the first lanes of a vector.
 *
 * FMA rounds once where the machine can, and twice elsewhere. */
#ifndef MX_SIMD_VECTOR_FLOAT_H
#define MX_SIMD_VECTOR_FLOAT_H

#include "simd.h"

#define T float

#if defined(__FMA__)
#  include <immintrin.h>
#  if defined(__AVX512F__)
typedef __m512 vec;
typedef __mmask16 part;
enum { LANES = 16 };
#    define FMA(a, b, c)           _mm512_fmadd_ps(a, b, c)
#    define ADD(a, b)              _mm512_add_ps(a, b)
#    define SPLAT(x)               _mm512_set1_ps(x)
#    define LOAD(p)                _mm512_loadu_ps(p)
#    define STORE(p, v)            _mm512_storeu_ps(p, v)
#    define LOAD_PART(p, part)     _mm512_maskz_loadu_ps(part, p)
#    define STORE_PART(p, part, v) _mm512_mask_storeu_ps(p, part, v)
static inline part part_of(int64_t n) { return (part)((1u << n) - 1); }
#  else
typedef __m256 vec;
typedef __m256i part;
enum { LANES = 8 };
#    define FMA(a, b, c)           _mm256_fmadd_ps(a, b, c)
#    define ADD(a, b)              _mm256_add_ps(a, b)
#    define SPLAT(x)               _mm256_set1_ps(x)
#    define LOAD(p)                _mm256_loadu_ps(p)
#    define STORE(p, v)            _mm256_storeu_ps(p, v)
#    define LOAD_PART(p, part)     _mm256_maskload_ps(p, part)
#    define STORE_PART(p, part, v) _mm256_maskstore_ps(p, part, v)
static inline part part_of(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#  endif
#else
#  define VECTOR_PLAIN
#endif
#include "vector.h"

#endif
