/* loops.h: the loops of the elementwise and convert families: how they are made, and the tables they stand in. Each
 * runs over operands that lie in a row; map.c brings them there. float16 and bfloat16 have none of their own: they are
 * widened to float32.
 */
#ifndef MX_LOOPS_H
#define MX_LOOPS_H

#include "../../device.h"
#include "simd.h"

typedef struct { /* float primitives (domain FLT): float32, float64 */
  mx_loop loop[MX_PRIM_COUNT][2];
} mx_math_loops;
typedef struct { /* all other elementwise primitives, by dtype; NULL outside the domain */
  mx_loop loop[MX_PRIM_COUNT][MX_DTYPE_COUNT];
} mx_arithmetic_loops;
typedef struct { /* [from][to]; and x where pred, by the bytes of an element: 1, 2, 4, 8 */
  mx_loop convert[MX_DTYPE_COUNT][MX_DTYPE_COUNT], select[4];
} mx_convert_loops;
MX_SIMD_DECLARE(mx_math_loops, mx_math_loops);
MX_SIMD_DECLARE(mx_arithmetic_loops, mx_arithmetic_loops);
MX_SIMD_DECLARE(mx_convert_loops, mx_convert_loops);

/* loop_<name>_<suffix>: out = expression of x (and y) */
#define MX_LOOP1(name, suffix, from, to, expression)                                                                   \
  static void loop_##name##_##suffix(int64_t n, const void *const *in, void *out) {                                    \
    const from *px = in[0];                                                                                            \
    to *r = out;                                                                                                       \
    MX_VECTORIZE                                                                                                       \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
      from x = px[i];                                                                                                  \
      r[i] = (to)(expression);                                                                                         \
    }                                                                                                                  \
  }
#define MX_LOOP2(name, suffix, from, to, expression)                                                                   \
  static void loop_##name##_##suffix(int64_t n, const void *const *in, void *out) {                                    \
    const from *px = in[0], *py = in[1];                                                                               \
    to *r = out;                                                                                                       \
    MX_VECTORIZE                                                                                                       \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
      from x = px[i], y = py[i];                                                                                       \
      r[i] = (to)(expression);                                                                                         \
    }                                                                                                                  \
  }

#endif
