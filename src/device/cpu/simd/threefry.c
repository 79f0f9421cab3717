/* threefry.c: the hash threefry2x32 of 20 rounds (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011),
 * one lane an element. */
#include "threefry.h"

static inline uint32_t rotate(uint32_t v, int by) { return v << by | v >> (32 - by); }

/* x0 += x1; x1 = rotate(x1) ^ x0 */
#define ROUND(by)   a += b, b = rotate(b, by) ^ a
#define ROUNDS_EVEN ROUND(13), ROUND(15), ROUND(26), ROUND(6)
#define ROUNDS_ODD  ROUND(17), ROUND(29), ROUND(16), ROUND(24)
/* The key is added before the rounds and, its three words in turn and with the turn's number, after each four. */
#define HASH(key0, key1)                                                                                               \
  const uint32_t s0 = (key0), s1 = (key1), s2 = s0 ^ s1 ^ 0x1BD11BDAu;                                                 \
  uint32_t a = x0[i] + s0, b = x1[i] + s1;                                                                             \
  ROUNDS_EVEN, a += s1, b += s2 + 1;                                                                                   \
  ROUNDS_ODD, a += s2, b += s0 + 2;                                                                                    \
  ROUNDS_EVEN, a += s0, b += s1 + 3;                                                                                   \
  ROUNDS_ODD, a += s1, b += s2 + 4;                                                                                    \
  ROUNDS_EVEN, a += s2, b += s0 + 5;                                                                                   \
  y0[i] = a;                                                                                                           \
  y1[i] = b

static void one_key(int64_t n, uint32_t k0, uint32_t k1, const uint32_t *x0, const uint32_t *x1, uint32_t *y0,
                    uint32_t *y1) {
  MX_VECTORIZE
  for (int64_t i = 0; i < n; i++) { HASH(k0, k1); }
}

static void keys(int64_t n, const uint32_t *k0, const uint32_t *k1, const uint32_t *x0, const uint32_t *x1,
                 uint32_t *y0, uint32_t *y1) {
  MX_VECTORIZE
  for (int64_t i = 0; i < n; i++) { HASH(k0[i], k1[i]); }
}

const mx_threefry_loops MX_SIMD(mx_threefry_loops) = {one_key, keys};
