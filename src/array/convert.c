/* convert.c: runs of elements from one dtype to another.
 *
 * Between the eleven types that C has there is a loop for each pair. The 16-bit floats go through a block of float32 or
 * float64 that holds the values exactly, so that each is rounded once. Strided runs are gathered and scattered in
 * blocks.
 *
 *     src, strided -> gather -> block -> loop -> block -> scatter -> dst, strided
 */
/* The loops are for the vectoriser. Speculated conversions of values out of range are not used and trap nowhere. */
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC optimize("O3,no-trapping-math")
#endif

#include "convert_impl.h"

#if defined(__x86_64__) && defined(__GNUC__)
#  define HAS_F16C 1
#  include <cpuid.h>
#  include <immintrin.h>
#endif

enum { BLOCK = 512 };
typedef void loop(const void *src, void *dst, int64_t n);

/* -- loops between types of C ------------------------------------------------------------------ */

/* X(from, its type, to, its type, the first float beyond it, its least and most value) */
#define TO_SIGNED(X, F, FT)                                                                                            \
  X(F, FT, INT8, int8_t, 0x1p7, INT8_MIN, INT8_MAX)                                                                    \
  X(F, FT, INT16, int16_t, 0x1p15, INT16_MIN, INT16_MAX)                                                               \
  X(F, FT, INT32, int32_t, 0x1p31, INT32_MIN, INT32_MAX)                                                               \
  X(F, FT, INT64, int64_t, 0x1p63, INT64_MIN, INT64_MAX)
#define TO_UNSIGNED(X, F, FT)                                                                                          \
  X(F, FT, UINT8, uint8_t, 0x1p8, 0, UINT8_MAX)                                                                        \
  X(F, FT, UINT16, uint16_t, 0x1p16, 0, UINT16_MAX)                                                                    \
  X(F, FT, UINT32, uint32_t, 0x1p32, 0, UINT32_MAX)                                                                    \
  X(F, FT, UINT64, uint64_t, 0x1p64, 0, UINT64_MAX)
#define TO_OTHERS(X, F, FT)                                                                                            \
  X(F, FT, FLOAT32, float, 0, 0, 0)                                                                                    \
  X(F, FT, FLOAT64, double, 0, 0, 0)

#define LOOP(F, FT, T, TT, value)                                                                                      \
  static void F##_to_##T(const void *src, void *dst, int64_t n) {                                                      \
    const FT *restrict s = src;                                                                                        \
    TT *restrict d = dst;                                                                                              \
    for (int64_t i = 0; i < n; i++) d[i] = (value);                                                                    \
  }
#define LOOP_CAST(F, FT, T, TT, above, least, most) LOOP(F, FT, T, TT, (TT)s[i])
#define LOOP_CUT(F, FT, T, TT, above, least, most)  LOOP(F, FT, T, TT, MX_CUT(TT, s[i], (FT)(above), (FT)(least), most))
#define LOOP_TEST(F, FT)                            LOOP(F, FT, BOOL, uint8_t, s[i] != 0)

/* Integers wrap, so that the bits do not depend on whether the result has a sign. */
#define INT_LOOPS(F, FT) LOOP_TEST(F, FT) TO_SIGNED(LOOP_CAST, F, FT) TO_OTHERS(LOOP_CAST, F, FT)
#define FLOAT_LOOPS(F, FT)                                                                                             \
  LOOP_TEST(F, FT) TO_SIGNED(LOOP_CUT, F, FT) TO_UNSIGNED(LOOP_CUT, F, FT) TO_OTHERS(LOOP_CAST, F, FT)

INT_LOOPS(INT8, int8_t)
INT_LOOPS(INT16, int16_t)
INT_LOOPS(INT32, int32_t)
INT_LOOPS(INT64, int64_t)
INT_LOOPS(UINT8, uint8_t)
INT_LOOPS(UINT16, uint16_t)
INT_LOOPS(UINT32, uint32_t)
INT_LOOPS(UINT64, uint64_t)
FLOAT_LOOPS(FLOAT32, float)
FLOAT_LOOPS(FLOAT64, double)

/* -- loops from and to 16-bit floats ----------------------------------------------------------- */

LOOP(FLOAT16, uint16_t, FLOAT32_PLAIN, float, float_of_half(s[i]))
LOOP(BFLOAT16, uint16_t, FLOAT32, float, float_of_bfloat(s[i]))
LOOP(FLOAT32, float, FLOAT16_PLAIN, uint16_t, half_of_float(s[i]))
LOOP(FLOAT32, float, BFLOAT16, uint16_t, bfloat_of_float(s[i]))
LOOP(FLOAT64, double, FLOAT16, uint16_t, half_of_double(s[i]))
LOOP(FLOAT64, double, BFLOAT16, uint16_t, bfloat_of_double(s[i]))
LOOP(INT64, int64_t, STICKY, double, double_of_int64(s[i]))
LOOP(UINT64, uint64_t, STICKY, double, double_of_uint64(s[i]))

/* Processors convert halves ten times as fast, bit by bit the same. Both return how many they have done: a multiple
 * of 8. */
#ifdef HAS_F16C
static bool has_f16c(void) {
  static atomic_int known; /* 1: no, 2: yes */
  int k = atomic_load_explicit(&known, memory_order_relaxed);
  if (!k) {
    unsigned a, b, c = 0, d;
    k = __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) ? 2 : 1;
    atomic_store_explicit(&known, k, memory_order_relaxed);
  }
  return k == 2;
}

__attribute__((target("avx,f16c"))) static int64_t floats_of_halves(const uint16_t *s, float *d, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(d + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(s + i))));
  return i;
}

__attribute__((target("avx,f16c"))) static int64_t halves_of_floats(const float *s, uint16_t *d, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128((__m128i *)(d + i), _mm256_cvtps_ph(_mm256_loadu_ps(s + i), _MM_FROUND_TO_NEAREST_INT));
  return i;
}
#else
static bool has_f16c(void) { return false; }
static int64_t floats_of_halves(const uint16_t *s, float *d, int64_t n) { return (void)s, (void)d, (void)n, 0; }
static int64_t halves_of_floats(const float *s, uint16_t *d, int64_t n) { return (void)s, (void)d, (void)n, 0; }
#endif

static void FLOAT16_to_FLOAT32(const void *src, void *dst, int64_t n) {
  int64_t done = has_f16c() ? floats_of_halves(src, dst, n) : 0;
  FLOAT16_to_FLOAT32_PLAIN((const uint16_t *)src + done, (float *)dst + done, n - done);
}

static void FLOAT32_to_FLOAT16(const void *src, void *dst, int64_t n) {
  int64_t done = has_f16c() ? halves_of_floats(src, dst, n) : 0;
  FLOAT32_to_FLOAT16_PLAIN((const float *)src + done, (uint16_t *)dst + done, n - done);
}

/* The row of `from`, whose values lie in memory as those of F do; NULL: there is no loop, but a way through the middle.
 */
#define ROW(from, F, U8, U16, U32, U64, half, bfloat)                                                                  \
  [from] = {F##_to_BOOL,  F##_to_INT8,  F##_to_INT16, F##_to_INT32, F##_to_INT64,   F##_to_##U8,   F##_to_##U16,       \
            F##_to_##U32, F##_to_##U64, half,         bfloat,       F##_to_FLOAT32, F##_to_FLOAT64}
#define INT_ROW(from, F)   ROW(from, F, INT8, INT16, INT32, INT64, NULL, NULL)
#define FLOAT_ROW(from, F) ROW(from, F, UINT8, UINT16, UINT32, UINT64, F##_to_FLOAT16, F##_to_BFLOAT16)

/* ORDER dtype: mlax.h */
static loop *const loops[MX_DTYPE_COUNT][MX_DTYPE_COUNT] = {
    INT_ROW(MLAX_BOOL, UINT8),
    INT_ROW(MLAX_INT8, INT8),
    INT_ROW(MLAX_INT16, INT16),
    INT_ROW(MLAX_INT32, INT32),
    INT_ROW(MLAX_INT64, INT64),
    INT_ROW(MLAX_UINT8, UINT8),
    INT_ROW(MLAX_UINT16, UINT16),
    INT_ROW(MLAX_UINT32, UINT32),
    INT_ROW(MLAX_UINT64, UINT64),
    [MLAX_FLOAT16] = {[MLAX_FLOAT32] = FLOAT16_to_FLOAT32},
    [MLAX_BFLOAT16] = {[MLAX_FLOAT32] = BFLOAT16_to_FLOAT32},
    FLOAT_ROW(MLAX_FLOAT32, FLOAT32),
    FLOAT_ROW(MLAX_FLOAT64, FLOAT64),
};

/* What holds every value of `from` exactly, or well enough that a 16-bit float of it is rounded once. */
static int middle_of(int from) { return from == MLAX_FLOAT64 || mx_itemsize(from) > 2 ? MLAX_FLOAT64 : MLAX_FLOAT32; }

static loop *loop_to_middle(int from, int middle) {
  if (from == MLAX_INT64) return INT64_to_STICKY;
  if (from == MLAX_UINT64) return UINT64_to_STICKY;
  return loops[from][middle];
}

/* -- copies with strides ----------------------------------------------------------------------- */

#define COPY(size)                                                                                                     \
  for (int64_t i = 0; i < n; i++) memcpy(dst + i * dst_stride, src + i * src_stride, size)

/* One element n > 0 times: what is there is copied behind itself. */
static void repeat(const char *src, char *dst, size_t size, size_t n) {
  memcpy(dst, src, size);
  for (size_t done = 1, more; done < n; done += more) {
    more = done < n - done ? done : n - done;
    memcpy(dst + done * size, dst, more * size);
  }
}

/* Total: neither pointer nor stride need be a multiple of the size. */
static void copy_strided(const char *src, int64_t src_stride, char *dst, int64_t dst_stride, size_t size, int64_t n) {
  if (src_stride == (int64_t)size && dst_stride == (int64_t)size) memcpy(dst, src, (size_t)n * size);
  else if (src_stride == 0 && dst_stride == (int64_t)size) repeat(src, dst, size, (size_t)n);
  else if (size == 1) COPY(1);
  else if (size == 2) COPY(2);
  else if (size == 4) COPY(4);
  else COPY(8);
}

/* -- runs -------------------------------------------------------------------------------------- */

/* How a run is converted: one loop, or two with a block between them. */
typedef struct route {
  loop *first, *second;
} route;

static route route_of(int from, int to) {
  if (loops[from][to]) return (route){loops[from][to], NULL};
  int middle = middle_of(from);
  return (route){loop_to_middle(from, middle), loops[middle][to]};
}

/* At most BLOCK elements. */
static void run_route(const route *r, const void *src, void *dst, int64_t n) {
  double middle[BLOCK];
  if (!r->second) return r->first(src, dst, n);
  r->first(src, middle, n);
  r->second(middle, dst, n);
}

static bool is_dense(const void *p, int64_t stride, size_t size) {
  return stride == (int64_t)size && (uintptr_t)p % size == 0;
}

void mx_convert_strided(int from, const void *src, int64_t src_stride, int to, void *dst, int64_t dst_stride,
                        int64_t n) {
  size_t from_size = mx_itemsize(from), to_size = mx_itemsize(to);
  if (n <= 0) return;
  if (from == to) return copy_strided(src, src_stride, dst, dst_stride, to_size, n);
  bool gather = !is_dense(src, src_stride, from_size), scatter = !is_dense(dst, dst_stride, to_size);
  route r = route_of(from, to);
  if (!gather && !scatter && !r.second) return r.first(src, dst, n);

  double in[BLOCK], out[BLOCK];
  const char *s = src;
  char *d = dst;
  for (int64_t left = n; left > 0; left -= BLOCK, s += BLOCK * src_stride, d += BLOCK * dst_stride) {
    int64_t m = left < BLOCK ? left : BLOCK;
    if (gather) copy_strided(s, src_stride, (char *)in, (int64_t)from_size, from_size, m);
    run_route(&r, gather ? (const void *)in : s, scatter ? (void *)out : d, m);
    if (scatter) copy_strided((char *)out, (int64_t)to_size, d, dst_stride, to_size, m);
  }
}

/* -- single elements --------------------------------------------------------------------------- */

double mx_load_double(int dtype, const void *p) {
  double v;
  mx_convert_strided(dtype, p, 0, MLAX_FLOAT64, &v, 0, 1);
  return v;
}

int64_t mx_load_int(int dtype, const void *p) {
  int64_t v;
  mx_convert_strided(dtype, p, 0, MLAX_INT64, &v, 0, 1);
  return v;
}

void mx_store_double(int dtype, void *p, double v) { mx_convert_strided(MLAX_FLOAT64, &v, 0, dtype, p, 0, 1); }
void mx_store_int(int dtype, void *p, int64_t v) { mx_convert_strided(MLAX_INT64, &v, 0, dtype, p, 0, 1); }
