/* convert.c: loops of the convert family. Between integers the low bits stay; floats are cut towards zero and saturate,
 * NaN gives 0; to bool goes what is not 0. Pairs with a half that are not in the table pass through float32 (map.c),
 * where that is exact. */
#include "loops.h"
#include "half.h"

#if defined(__F16C__)
#  include <immintrin.h>
#endif

/* a float to an integer: `limit` is the first float past the greatest */
#define CUT(T, least, greatest, limit) (x >= limit ? greatest : x > (least) ? (T)x : x == x ? (T)(least) : 0)
#define CUTS(M, F, sfx)                                                                                                \
  M(sfx##_i8, F, int8_t, CUT(int8_t, INT8_MIN, INT8_MAX, (F)128))                                                      \
  M(sfx##_i16, F, int16_t, CUT(int16_t, INT16_MIN, INT16_MAX, (F)32768))                                               \
  M(sfx##_i32, F, int32_t, CUT(int32_t, INT32_MIN, INT32_MAX, (F)2147483648.0))                                        \
  M(sfx##_i64, F, int64_t, CUT(int64_t, (F)INT64_MIN, INT64_MAX, (F)9223372036854775808.0))                            \
  M(sfx##_u8, F, uint8_t, CUT(uint8_t, 0, UINT8_MAX, (F)256))                                                          \
  M(sfx##_u16, F, uint16_t, CUT(uint16_t, 0, UINT16_MAX, (F)65536))                                                    \
  M(sfx##_u32, F, uint32_t, CUT(uint32_t, 0, UINT32_MAX, (F)4294967296.0))                                             \
  M(sfx##_u64, F, uint64_t, CUT(uint64_t, 0, UINT64_MAX, (F)18446744073709551616.0))

/* an integer to all but its own type; only widths matter among integers */
#define FROM_INTEGER(M, F, sfx, x)                                                                                     \
  M(sfx##_b8, F, uint8_t, x != 0)                                                                                      \
  M(sfx##_i8, F, uint8_t, x)                                                                                           \
  M(sfx##_i16, F, int16_t, x)                                                                                          \
  M(sfx##_i32, F, int32_t, x)                                                                                          \
  M(sfx##_i64, F, int64_t, x)                                                                                          \
  M(sfx##_f32, F, float, x)                                                                                            \
  M(sfx##_f64, F, double, x)

#define CONVERT(name, from, to, e) MX_LOOP1(convert, name, from, to, e)
FROM_INTEGER(CONVERT, uint8_t, b8, !!x)
FROM_INTEGER(CONVERT, int8_t, i8, x)
FROM_INTEGER(CONVERT, int16_t, i16, x)
FROM_INTEGER(CONVERT, int32_t, i32, x)
FROM_INTEGER(CONVERT, int64_t, i64, x)
FROM_INTEGER(CONVERT, uint8_t, u8, x)
FROM_INTEGER(CONVERT, uint16_t, u16, x)
FROM_INTEGER(CONVERT, uint32_t, u32, x)
FROM_INTEGER(CONVERT, uint64_t, u64, x)
CUTS(CONVERT, float, f32)
CUTS(CONVERT, double, f64)
CONVERT(f32_b8, float, uint8_t, x != 0)
CONVERT(f64_b8, double, uint8_t, x != 0)
CONVERT(f32_f32, float, float, x)
CONVERT(f32_f64, float, double, x)
CONVERT(f64_f32, double, float, x)
CONVERT(f64_f64, double, double, x)

/* halves */
CONVERT(bf16_f32, uint16_t, float, f32_of_bf16(x))
CONVERT(f32_bf16, float, uint16_t, bf16_of_f32(x))
CONVERT(i32_bf16, int32_t, uint16_t, bf16_of_f32(f32_odd_of_f64((double)x)))
CONVERT(u32_bf16, uint32_t, uint16_t, bf16_of_f32(f32_odd_of_f64((double)x)))
CONVERT(i64_bf16, int64_t, uint16_t, bf16_of_f32(f32_odd_of_f64(f64_odd_of_i64(x))))
CONVERT(u64_bf16, uint64_t, uint16_t, bf16_of_f32(f32_odd_of_f64(f64_odd_of_u64(x))))
CONVERT(f64_bf16, double, uint16_t, bf16_of_f32(f32_odd_of_f64(x)))
CONVERT(i32_f16, int32_t, uint16_t, f16_of_f32(f32_odd_of_f64((double)x)))
CONVERT(u32_f16, uint32_t, uint16_t, f16_of_f32(f32_odd_of_f64((double)x)))
CONVERT(i64_f16, int64_t, uint16_t, f16_of_f32(f32_odd_of_f64(f64_odd_of_i64(x))))
CONVERT(u64_f16, uint64_t, uint16_t, f16_of_f32(f32_odd_of_f64(f64_odd_of_u64(x))))
CONVERT(f64_f16, double, uint16_t, f16_of_f32(f32_odd_of_f64(x)))
#if defined(__F16C__)
/* the same bits as half.h gives, eight at a time */
static void loop_convert_f16_f32(int64_t n, const void *const *in, void *out) {
  const uint16_t *x = in[0];
  float *r = out;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(r + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(x + i))));
  for (; i < n; i++) r[i] = f32_of_f16(x[i]);
}
static void loop_convert_f32_f16(int64_t n, const void *const *in, void *out) {
  const float *x = in[0];
  uint16_t *r = out;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm_storeu_si128((void *)(r + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), 0));
  for (; i < n; i++) r[i] = f16_of_f32(x[i]);
}
#else
CONVERT(f16_f32, uint16_t, float, f32_of_f16(x))
CONVERT(f32_f16, float, uint16_t, f16_of_f32(x))
#endif

#define SELECT(name, T)                                                                                                \
  static void loop_select_##name(int64_t n, const void *const *in, void *out) {                                        \
    const uint8_t *p = in[0];                                                                                          \
    const T *x = in[1], *y = in[2];                                                                                    \
    T *r = out;                                                                                                        \
    MX_VECTORIZE                                                                                                       \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
      T a = x[i], b = y[i];                                                                                            \
      r[i] = p[i] ? a : b;                                                                                             \
    }                                                                                                                  \
  }
SELECT(8, uint8_t)
SELECT(16, uint16_t)
SELECT(32, uint32_t)
SELECT(64, uint64_t)

/* ORDER dtype */
#define ROW(sfx)                                                                                                       \
  [MLAX_BOOL] = loop_convert_##sfx##_b8, [MLAX_INT8] = loop_convert_##sfx##_i8,                                        \
  [MLAX_INT16] = loop_convert_##sfx##_i16, [MLAX_INT32] = loop_convert_##sfx##_i32,                                    \
  [MLAX_INT64] = loop_convert_##sfx##_i64, [MLAX_FLOAT32] = loop_convert_##sfx##_f32,                                  \
  [MLAX_FLOAT64] = loop_convert_##sfx##_f64
#define TO_UNSIGNED(sfx, u8, u16, u32, u64)                                                                            \
  [MLAX_UINT8] = loop_convert_##sfx##_##u8, [MLAX_UINT16] = loop_convert_##sfx##_##u16,                                \
  [MLAX_UINT32] = loop_convert_##sfx##_##u32, [MLAX_UINT64] = loop_convert_##sfx##_##u64
#define TO_HALVES(sfx)   [MLAX_FLOAT16] = loop_convert_##sfx##_f16, [MLAX_BFLOAT16] = loop_convert_##sfx##_bf16
#define INTEGER_ROW(sfx) ROW(sfx), TO_UNSIGNED(sfx, i8, i16, i32, i64)
#define FLOAT_ROW(sfx)   ROW(sfx), TO_UNSIGNED(sfx, u8, u16, u32, u64), TO_HALVES(sfx)

const mx_convert_loops MX_SIMD(mx_convert_loops) = {
    .convert = {[MLAX_BOOL] = {INTEGER_ROW(b8)},
                [MLAX_INT8] = {INTEGER_ROW(i8)},
                [MLAX_INT16] = {INTEGER_ROW(i16)},
                [MLAX_INT32] = {INTEGER_ROW(i32), TO_HALVES(i32)},
                [MLAX_INT64] = {INTEGER_ROW(i64), TO_HALVES(i64)},
                [MLAX_UINT8] = {INTEGER_ROW(u8)},
                [MLAX_UINT16] = {INTEGER_ROW(u16)},
                [MLAX_UINT32] = {INTEGER_ROW(u32), TO_HALVES(u32)},
                [MLAX_UINT64] = {INTEGER_ROW(u64), TO_HALVES(u64)},
                [MLAX_FLOAT16] = {[MLAX_FLOAT32] = loop_convert_f16_f32},
                [MLAX_BFLOAT16] = {[MLAX_FLOAT32] = loop_convert_bf16_f32},
                [MLAX_FLOAT32] = {FLOAT_ROW(f32)},
                [MLAX_FLOAT64] = {FLOAT_ROW(f64)}},
    .select = {loop_select_8, loop_select_16, loop_select_32, loop_select_64},
};
