/* arithmetic.c: loops of the elementwise primitives that also know integers and bool (domains NUM, ANY, INT). In the
 * formulas T is the element's type and W an unsigned one of at least 32 bits: integers wrap, as W does. Nothing traps,
 * whatever the operands. */
#include "loops.h"
#include "math.h"

/* M(name, suffix, type, ...) for all integer types; W by width */
#define INTEGERS(M, name, ...)                                                                                         \
  M(name, i8, int8_t, uint32_t, __VA_ARGS__)                                                                           \
  M(name, i16, int16_t, uint32_t, __VA_ARGS__)                                                                         \
  M(name, i32, int32_t, uint32_t, __VA_ARGS__)                                                                         \
  M(name, i64, int64_t, uint64_t, __VA_ARGS__)                                                                         \
  M(name, u8, uint8_t, uint32_t, __VA_ARGS__)                                                                          \
  M(name, u16, uint16_t, uint32_t, __VA_ARGS__)                                                                        \
  M(name, u32, uint32_t, uint32_t, __VA_ARGS__)                                                                        \
  M(name, u64, uint64_t, uint64_t, __VA_ARGS__)

#define INT1(name, suffix, type, wide, e)                                                                              \
  static inline type name##_##suffix(type x) {                                                                         \
    typedef type T;                                                                                                    \
    typedef wide W;                                                                                                    \
    (void)sizeof(W);                                                                                                   \
    return (T)(e);                                                                                                     \
  }                                                                                                                    \
  MX_LOOP1(name, suffix, type, type, name##_##suffix(x))
#define INT2(name, suffix, type, wide, e)                                                                              \
  static inline type name##_##suffix(type x, type y) {                                                                 \
    typedef type T;                                                                                                    \
    typedef wide W;                                                                                                    \
    (void)sizeof(W);                                                                                                   \
    return (T)(e);                                                                                                     \
  }                                                                                                                    \
  MX_LOOP2(name, suffix, type, type, name##_##suffix(x, y))
#define TEST2(name, suffix, type, wide, e) MX_LOOP2(name, suffix, type, uint8_t, e)

/* NUMBERS: integers, float, double. ANY: bool before them. TESTS: a comparison of any dtype. BITS: bool, integers. */
#define NUMBERS1(name, i, f, d)                                                                                        \
  INTEGERS(INT1, name, i)                                                                                              \
  MX_LOOP1(name, f32, float, float, f)                                                                                 \
  MX_LOOP1(name, f64, double, double, d)
#define NUMBERS2(name, i, f, d)                                                                                        \
  INTEGERS(INT2, name, i)                                                                                              \
  MX_LOOP2(name, f32, float, float, f)                                                                                 \
  MX_LOOP2(name, f64, double, double, d)
#define ANY2(name, b, i, f, d)                                                                                         \
  MX_LOOP2(name, bool, uint8_t, uint8_t, b)                                                                            \
  NUMBERS2(name, i, f, d)
#define TESTS2(name, e)                                                                                                \
  MX_LOOP2(name, bool, uint8_t, uint8_t, !!x e !!y)                                                                    \
  INTEGERS(TEST2, name, x e y)                                                                                         \
  MX_LOOP2(name, f32, float, uint8_t, x e y)                                                                           \
  MX_LOOP2(name, f64, double, uint8_t, x e y)
#define BITS1(name, b, i)                                                                                              \
  MX_LOOP1(name, bool, uint8_t, uint8_t, b)                                                                            \
  INTEGERS(INT1, name, i)
#define BITS2(name, b, i)                                                                                              \
  MX_LOOP2(name, bool, uint8_t, uint8_t, b)                                                                            \
  INTEGERS(INT2, name, i)

#define IS_SIGNED(T) ((T)-1 < (T)1)
#define WIDTH(T)     ((T)(8 * sizeof(T)))
/* the greater or lesser of floats; NaN wins; of zeros max takes +0 and min -0 (whose bits are ored) */
#define MAX_FLOAT(bits, of_bits) (x > y ? x : y > x ? y : x == y ? of_bits(bits(x) & bits(y)) : x + y)
#define MIN_FLOAT(bits, of_bits) (x < y ? x : y < x ? y : x == y ? of_bits(bits(x) | bits(y)) : x + y)
/* -1, 0 or 1; keeps zeros and NaN */
#define SIGN_FLOAT(T) (x > 0 ? (T)1 : x < 0 ? (T)-1 : x)

/* floor(x / y) and what remains; by 0 both are 0, and the least integer by -1 wraps. */
#define QUOTIENT(suffix, T, W)                                                                                         \
  static inline T quotient_##suffix(T x, T y) {                                                                        \
    T one = 1, zero = 0;                                                                                               \
    if (y == 0) return 0;                                                                                              \
    if (IS_SIGNED(T) && y == (T)-1) return (T)(0 - (W)x);                                                              \
    T q = (T)(x / y), r = (T)(x % y);                                                                                  \
    return r != 0 && (r < zero) != (y < zero) ? (T)(q - one) : q;                                                      \
  }
#define POWER(suffix, T, W)                                                                                            \
  static inline T power_##suffix(T x, T y) { /* by squaring; 1/x^n is 0 unless x is 1 or -1 */                         \
    T zero = 0;                                                                                                        \
    W r = 1, b = (W)x, e = (W)y;                                                                                       \
    if (y < zero) return x == 1 ? 1 : IS_SIGNED(T) && x == (T)-1 ? (T)((e & 1) ? -1 : 1) : 0;                          \
    for (; e; e >>= 1, b *= b) r *= (e & 1) ? b : 1;                                                                   \
    return (T)r;                                                                                                       \
  }
#define INTEGER_FUNCTIONS(suffix, T, W)                                                                                \
  QUOTIENT(suffix, T, W)                                                                                               \
  POWER(suffix, T, W)
INTEGER_FUNCTIONS(i8, int8_t, uint32_t)
INTEGER_FUNCTIONS(i16, int16_t, uint32_t)
INTEGER_FUNCTIONS(i32, int32_t, uint32_t)
INTEGER_FUNCTIONS(i64, int64_t, uint64_t)
INTEGER_FUNCTIONS(u8, uint8_t, uint32_t)
INTEGER_FUNCTIONS(u16, uint16_t, uint32_t)
INTEGER_FUNCTIONS(u32, uint32_t, uint32_t)
INTEGER_FUNCTIONS(u64, uint64_t, uint64_t)
#define QUOTIENT_OF(x, y)                                                                                              \
  _Generic((x), int8_t                                                                                                 \
           : quotient_i8, int16_t                                                                                      \
           : quotient_i16, int32_t                                                                                     \
           : quotient_i32, int64_t                                                                                     \
           : quotient_i64, uint8_t                                                                                     \
           : quotient_u8, uint16_t                                                                                     \
           : quotient_u16, uint32_t                                                                                    \
           : quotient_u32, uint64_t                                                                                    \
           : quotient_u64)(x, y)
#define POWER_OF(x, y)                                                                                                 \
  _Generic((x), int8_t                                                                                                 \
           : power_i8, int16_t                                                                                         \
           : power_i16, int32_t                                                                                        \
           : power_i32, int64_t                                                                                        \
           : power_i64, uint8_t                                                                                        \
           : power_u8, uint16_t                                                                                        \
           : power_u16, uint32_t                                                                                       \
           : power_u32, uint64_t                                                                                       \
           : power_u64)(x, y)

/* Python's and Lua's remainder: the sign of y */
static inline double f64_mod(double x, double y) {
  double r = fmod(x, y);
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}
/* Float remainders are quick where the quotients of a block are moderate: see f32_mod. */
#define MOD_BLOCK 256
static bool has_large_quotient(int64_t n, const float *x, const float *y) {
  int32_t any = 0;
  MX_VECTORIZE
  for (int64_t i = 0; i < n; i++) any |= fabs((double)x[i]) > F32_MOD_MAX * fabs((double)y[i]) && fabsf(y[i]) > 0;
  return any;
}
MX_LOOP2(quick_mod, f32, float, float, f32_mod(x, y))
MX_LOOP2(slow_mod, f32, float, float, f64_mod(x, y))
static void mod_floats(int64_t n, const void *const *in, void *out) {
  for (int64_t i = 0; i < n; i += MOD_BLOCK) {
    int64_t m = n - i < MOD_BLOCK ? n - i : MOD_BLOCK;
    const void *p[2] = {(const float *)in[0] + i, (const float *)in[1] + i};
    (has_large_quotient(m, p[0], p[1]) ? loop_slow_mod_f32 : loop_quick_mod_f32)(m, p, (float *)out + i);
  }
}

NUMBERS1(abs, x > 0 ? (W)x : 0 - (W)x, fabsf(x), fabs(x))
NUMBERS1(sign, IS_SIGNED(T) ? (x > 0) - (x != 0 && !(x > 0)) : x > 0, SIGN_FLOAT(float), SIGN_FLOAT(double))
NUMBERS1(neg, 0 - (W)x, -x, -x)
NUMBERS1(square, (W)x *(W)x, x *x, x *x)
NUMBERS2(add, (W)x + (W)y, x + y, x + y)
NUMBERS2(sub, (W)x - (W)y, x - y, x - y)
NUMBERS2(mul, (W)x *(W)y, x *y, x *y)
NUMBERS2(pow, POWER_OF(x, y), f32_pow(x, y), y == 2 ? x * x : pow(x, y))
INTEGERS(INT2, mod, y == 0 ? 0 : (W)x - (W)QUOTIENT_OF(x, y) * (W)y)
#define loop_mod_f32 mod_floats
MX_LOOP2(mod, f64, double, double, f64_mod(x, y))
NUMBERS2(floordiv, QUOTIENT_OF(x, y), floorf(x / y), floor(x / y))
ANY2(maximum, x | y, x > y ? x : y, MAX_FLOAT(f32_bits, f32_of_bits), MAX_FLOAT(f64_bits, f64_of_bits))
ANY2(minimum, x &y, x < y ? x : y, MIN_FLOAT(f32_bits, f32_of_bits), MIN_FLOAT(f64_bits, f64_of_bits))
TESTS2(eq, ==)
TESTS2(ne, !=)
TESTS2(lt, <)
TESTS2(le, <=)
TESTS2(gt, >)
TESTS2(ge, >=)
BITS1(not, !x, ~(W)x)
BITS2(and, !!x & !!y, x &y)
BITS2(or, !!x | !!y, x | y)
BITS2(xor, !!x ^ !!y, x ^ y)
/* a shift by the width or more leaves 0, or the sign; negative counts are great ones */
BITS2(shift_left, !!x & !y, (W)y < (W)WIDTH(T) ? (W)x << y : 0)
BITS2(shift_right, !!x & !y, (W)y < (W)WIDTH(T) ? x >> y : IS_SIGNED(T) && x != 0 && !(x > 0) ? -1 : 0)

#define ROW_INTEGERS(name)                                                                                             \
  [MLAX_INT8] = loop_##name##_i8, [MLAX_INT16] = loop_##name##_i16, [MLAX_INT32] = loop_##name##_i32,                  \
  [MLAX_INT64] = loop_##name##_i64, [MLAX_UINT8] = loop_##name##_u8, [MLAX_UINT16] = loop_##name##_u16,                \
  [MLAX_UINT32] = loop_##name##_u32, [MLAX_UINT64] = loop_##name##_u64
#define ROW_NUMBERS(name) ROW_INTEGERS(name), [MLAX_FLOAT32] = loop_##name##_f32, [MLAX_FLOAT64] = loop_##name##_f64
#define ROW_FLT(name)
#define ROW_NUM(name) [MX_PRIM_##name] = {ROW_NUMBERS(name)},
#define ROW_ANY(name) [MX_PRIM_##name] = {[MLAX_BOOL] = loop_##name##_bool, ROW_NUMBERS(name)},
#define ROW_INT(name) [MX_PRIM_##name] = {[MLAX_BOOL] = loop_##name##_bool, ROW_INTEGERS(name)},
#define MX_PRIMITIVE(name, family)
#define MX_ELEMENTWISE(name, arity, domain, result) ROW_##domain(name)

const mx_arithmetic_loops MX_SIMD(mx_arithmetic_loops) = {{
#include "../../../ops/primitives.def"
}};
