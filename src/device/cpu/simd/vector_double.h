/* vector_double.h: a vector of float64; see vector_float.h. */
#ifndef MX_SIMD_VECTOR_DOUBLE_H
#define MX_SIMD_VECTOR_DOUBLE_H

#include "simd.h"

#define T double

#if defined(__FMA__)
#  include <immintrin.h>
#  if defined(__AVX512F__)
typedef __m512d vec;
typedef __mmask8 part;
enum { LANES = 8 };
#    define FMA(a, b, c)           _mm512_fmadd_pd(a, b, c)
#    define ADD(a, b)              _mm512_add_pd(a, b)
#    define SPLAT(x)               _mm512_set1_pd(x)
#    define LOAD(p)                _mm512_loadu_pd(p)
#    define STORE(p, v)            _mm512_storeu_pd(p, v)
#    define LOAD_PART(p, part)     _mm512_maskz_loadu_pd(part, p)
#    define STORE_PART(p, part, v) _mm512_mask_storeu_pd(p, part, v)
static inline part part_of(int64_t n) { return (part)((1u << n) - 1); }
#  else
typedef __m256d vec;
typedef __m256i part;
enum { LANES = 4 };
#    define FMA(a, b, c)           _mm256_fmadd_pd(a, b, c)
#    define ADD(a, b)              _mm256_add_pd(a, b)
#    define SPLAT(x)               _mm256_set1_pd(x)
#    define LOAD(p)                _mm256_loadu_pd(p)
#    define STORE(p, v)            _mm256_storeu_pd(p, v)
#    define LOAD_PART(p, part)     _mm256_maskload_pd(p, part)
#    define STORE_PART(p, part, v) _mm256_maskstore_pd(p, part, v)
static inline part part_of(int64_t n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
#  endif
#else
#  define VECTOR_PLAIN
#endif
#include "vector.h"

#endif
