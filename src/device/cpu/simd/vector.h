/* vector.h: the part of vector_float.h and vector_double.h that is the same in both: what the compiler's own vectors of
 * 16 bytes can do on machines without fused multiply-add. */
#ifndef MX_SIMD_VECTOR_H
#define MX_SIMD_VECTOR_H

#if defined(VECTOR_PLAIN)
enum { LANES = 16 / sizeof(T) };
typedef T vec __attribute__((vector_size(16)));
typedef int64_t part; /* how many lanes */

#  define FMA(a, b, c)           ((a) * (b) + (c))
#  define ADD(a, b)              ((a) + (b))
#  define SPLAT(x)               ((vec){0} + (x))
#  define LOAD(p)                load(p)
#  define STORE(p, v)            store(p, v)
#  define LOAD_PART(p, part)     load_part(p, part)
#  define STORE_PART(p, part, v) store_part(p, part, v)

INLINE part part_of(int64_t n) { return n; }

INLINE vec load(const T *p) {
  vec v;
  memcpy(&v, p, sizeof v);
  return v;
}

INLINE void store(T *p, vec v) { memcpy(p, &v, sizeof v); }

INLINE vec load_part(const T *p, part n) {
  vec v = {0};
  for (int64_t i = 0; i < n; i++) v[i] = p[i];
  return v;
}

INLINE void store_part(T *p, part n, vec v) {
  for (int64_t i = 0; i < n; i++) p[i] = v[i];
}
#endif

#endif
