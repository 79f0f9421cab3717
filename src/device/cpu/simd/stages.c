/* stages.c: the stages of the accumulator machine. */
#include "stages.h"
#include "exp.h"

#if defined(__AVX512F__)
enum { WIDTH = 16, REGISTERS = 4 };
#elif defined(__AVX2__)
enum { WIDTH = 8, REGISTERS = 8 };
#else
enum { WIDTH = 4, REGISTERS = 8 };
#endif
enum { LANES = WIDTH * REGISTERS };
typedef float V __attribute__((vector_size(WIDTH * 4)));
typedef int32_t I __attribute__((vector_size(WIDTH * 4)));

#if defined(__AVX512F__)
#  define ACC      V a0, V a1, V a2, V a3
#  define EACH(DO) DO(0) DO(1) DO(2) DO(3)
#  define PASS     a0, a1, a2, a3
#else
#  define ACC      V a0, V a1, V a2, V a3, V a4, V a5, V a6, V a7
#  define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#  define PASS     a0, a1, a2, a3, a4, a5, a6, a7
#endif

typedef void (*stage)(const mx_stage *s, size_t at, ACC);

#define NEXT        ((stage)s[1].run)(s + 1, at, PASS)
#define MEM(k)      (s->m[k] + (at & s->mask[k]))
#define GET(p, i)   get((p) + (i)*WIDTH * 4)
#define STAGE(name) static void stage_##name(const mx_stage *s, size_t at, ACC)

MX_INLINE V get(const char *p) {
  V v;
  memcpy(&v, p, sizeof v);
  return v;
}
MX_INLINE void put(char *p, V v) { memcpy(p, &v, sizeof v); }
MX_INLINE I truth(V v) { return (I)v; }
MX_INLINE V choose(I k, V x, V y) { return (V)((k & (I)x) | (~k & (I)y)); }

/* a = an expression of a and m, register by register */
#define BINARY(name, forward, backward)                                                                                \
  STAGE(name) {                                                                                                        \
    const char *p = MEM(0);                                                                                            \
    EACH(forward)                                                                                                      \
    NEXT;                                                                                                              \
  }                                                                                                                    \
  STAGE(name##_back) {                                                                                                 \
    const char *p = MEM(0);                                                                                            \
    EACH(backward)                                                                                                     \
    NEXT;                                                                                                              \
  }

#define ADD(i)      a##i = a##i + GET(p, i);
#define MUL(i)      a##i = a##i * GET(p, i);
#define SUB(i)      a##i = a##i - GET(p, i);
#define SUB_BACK(i) a##i = GET(p, i) - a##i;
#define DIV(i)      a##i = a##i / GET(p, i);
#define DIV_BACK(i) a##i = GET(p, i) / a##i;
#define EQ(i)       a##i = (V)(a##i == GET(p, i));
#define NE(i)       a##i = (V)(a##i != GET(p, i));
#define LT(i)       a##i = (V)(a##i < GET(p, i));
#define LE(i)       a##i = (V)(a##i <= GET(p, i));
#define GT(i)       a##i = (V)(a##i > GET(p, i));
#define GE(i)       a##i = (V)(a##i >= GET(p, i));
#define AND(i)      a##i = (V)(truth(a##i) & truth(GET(p, i)));
#define OR(i)       a##i = (V)(truth(a##i) | truth(GET(p, i)));
#define XOR(i)      a##i = (V)(truth(a##i) ^ truth(GET(p, i)));
BINARY(add, ADD, ADD)
BINARY(mul, MUL, MUL)
BINARY(sub, SUB, SUB_BACK)
BINARY(div, DIV, DIV_BACK)
BINARY(eq, EQ, EQ)
BINARY(ne, NE, NE)
BINARY(lt, LT, GT)
BINARY(le, LE, GE)
BINARY(gt, GT, LT)
BINARY(ge, GE, LE)
BINARY(and, AND, AND)
BINARY(or, OR, OR)
BINARY(xor, XOR, XOR)

/* the greater or lesser; NaN wins; of zeros max takes +0 and min -0 (whose bits are ored) */
MX_INLINE V greatest(V x, V y) {
  V same = choose(x == y, (V)((I)x & (I)y), x + y);
  return choose(x > y, x, choose(y > x, y, same));
}
MX_INLINE V least(V x, V y) {
  V same = choose(x == y, (V)((I)x | (I)y), x + y);
  return choose(x < y, x, choose(y < x, y, same));
}
#define MAX(i) a##i = greatest(a##i, GET(p, i));
#define MIN(i) a##i = least(a##i, GET(p, i));
BINARY(maximum, MAX, MAX)
BINARY(minimum, MIN, MIN)

#define UNARY(name, each)                                                                                              \
  STAGE(name) {                                                                                                        \
    EACH(each)                                                                                                         \
    NEXT;                                                                                                              \
  }
#define SQUARE(i)      a##i = a##i * a##i;
#define NEG(i)         a##i = -a##i;
#define ABS(i)         a##i = (V)((I)a##i & 0x7FFFFFFF);
#define RECIPROCAL(i)  a##i = 1.0f / a##i;
#define NOT(i)         a##i = (V)(~truth(a##i));
#define ONE_OR_ZERO(i) a##i = (V)(truth(a##i) & 0x3F800000);
UNARY(square, SQUARE)
UNARY(neg, NEG)
UNARY(abs, ABS)
UNARY(reciprocal, RECIPROCAL)
UNARY(not, NOT)
UNARY(truth_to_float, ONE_OR_ZERO)

/* Functions of math.h: the compiler's vectoriser makes loops of them, so the lanes pass through the stack. */
#define SPILL(i)  put((char *)x + (i) * sizeof(V), a##i);
#define RELOAD(i) a##i = get((const char *)x + (i) * sizeof(V));
#define FUNCTION(name, expression)                                                                                     \
  STAGE(name) {                                                                                                        \
    _Alignas(64) float x[LANES];                                                                                       \
    EACH(SPILL)                                                                                                        \
    MX_VECTORIZE                                                                                                       \
    for (int i = 0; i < LANES; i++) x[i] = expression;                                                                 \
    EACH(RELOAD)                                                                                                       \
    NEXT;                                                                                                              \
  }
#if defined(__AVX512F__)
#  define EXP(i) a##i = (V)f32x16_exp((__m512)a##i);
UNARY(exp, EXP)
#else
FUNCTION(exp, f32_exp(x[i]))
#endif
FUNCTION(log, f32_log(x[i]))
FUNCTION(tanh, f32_tanh(x[i]))
FUNCTION(sigmoid, f32_sigmoid(x[i]))
FUNCTION(erf, f32_erf(x[i]))
FUNCTION(exp2, f32_exp2(x[i]))
FUNCTION(log2, f32_log2(x[i]))
FUNCTION(expm1, f32_expm1(x[i]))
FUNCTION(log1p, f32_log1p(x[i]))
FUNCTION(sqrt, sqrtf(x[i]))
FUNCTION(rsqrt, 1.0f / sqrtf(x[i]))
FUNCTION(floor, floorf(x[i]))
FUNCTION(ceil, ceilf(x[i]))
FUNCTION(round, rintf(x[i]))
FUNCTION(trunc, truncf(x[i]))
FUNCTION(sign, (x[i] > 0 ? 1.0f : x[i] < 0 ? -1.0f : x[i]))

/* a / m where all lanes of m are one number */
STAGE(div_same) {
  _Alignas(64) float x[LANES], c;
  memcpy(&c, MEM(0), sizeof c);
  EACH(SPILL)
  f32_divide_by(x, c, LANES);
  EACH(RELOAD)
  NEXT;
}

/* -- memory -------------------------------------------------------------------------------------------------------- */

#define LOAD(i)  a##i = GET(p, i);
#define STORE(i) put(p + (i)*WIDTH * 4, a##i);
STAGE(load) {
  const char *p = MEM(0);
  EACH(LOAD)
  NEXT;
}
STAGE(store) {
  char *p = (char *)MEM(0);
  EACH(STORE)
  NEXT;
}

/* Of lanes: partial results of a row, or columns. As the loops of reduce.c, so that sums are theirs: NaN stays. */
#define JOIN(name, each)                                                                                               \
  STAGE(join_##name) {                                                                                                 \
    char *p = (char *)MEM(0);                                                                                          \
    V m;                                                                                                               \
    EACH(each)                                                                                                         \
    NEXT;                                                                                                              \
  }
#define TAKE_IN(i, expression) m = GET(p, i), put(p + (i)*WIDTH * 4, expression);
#define JOIN_SUM(i)            TAKE_IN(i, m + a##i)
#define JOIN_PROD(i)           TAKE_IN(i, m *a##i)
#define JOIN_MAX(i)            TAKE_IN(i, choose((a##i > m) | (a##i != a##i), a##i, m))
#define JOIN_MIN(i)            TAKE_IN(i, choose((a##i < m) | (a##i != a##i), a##i, m))
JOIN(sum, JOIN_SUM)
JOIN(prod, JOIN_PROD)
JOIN(max, JOIN_MAX)
JOIN(min, JOIN_MIN)

/* Truth values in memory are bytes 0 and 1: a quarter of the offset. */
#define BYTES(k) (s->m[k] + ((at & s->mask[k]) >> 2))
STAGE(load_bool) {
  const uint8_t *p = (const uint8_t *)BYTES(0);
  _Alignas(64) int32_t x[LANES];
  MX_VECTORIZE
  for (int i = 0; i < LANES; i++) x[i] = -(int32_t)(p[i] != 0);
  EACH(RELOAD)
  NEXT;
}
STAGE(store_bool) {
  uint8_t *p = (uint8_t *)BYTES(0);
  _Alignas(64) int32_t x[LANES];
  EACH(SPILL)
  MX_VECTORIZE
  for (int i = 0; i < LANES; i++) p[i] = (uint8_t)(x[i] & 1);
  NEXT;
}

#define CHOOSE(i) a##i = choose(truth(a##i), GET(p, i), GET(q, i));
STAGE(choose) {
  const char *p = MEM(0), *q = MEM(1);
  EACH(CHOOSE)
  NEXT;
}

#define USE(i) (void)a##i;
STAGE(end) {
  (void)s;
  (void)at;
  EACH(USE)
}

#define NONE(i) V a##i = {0};
static void run(const mx_stage *s, int64_t at, int64_t n) {
  EACH(NONE)
  for (int64_t i = at; i < at + n; i += LANES) ((stage)s->run)(s, (size_t)i * 4, PASS);
}

static void fill(float *to, float v, int64_t n) {
  MX_VECTORIZE
  for (int64_t i = 0; i < n; i++) to[i] = v;
}

#define F(name)    ((mx_stage_fn)stage_##name)
#define PAIR(name) .forward[MX_PRIM_##name] = F(name), .backward[MX_PRIM_##name] = F(name##_back)
#define ONE(name)  .unary[MX_PRIM_##name] = F(name)
const mx_stages MX_SIMD(mx_stages) = {
    .lanes = LANES,
    PAIR(add),
    PAIR(mul),
    PAIR(sub),
    PAIR(div),
    PAIR(eq),
    PAIR(ne),
    PAIR(lt),
    PAIR(le),
    PAIR(gt),
    PAIR(ge),
    PAIR(and),
    PAIR(or),
    PAIR(xor),
    PAIR(maximum),
    PAIR(minimum),
    ONE(square),
    ONE(neg),
    ONE(abs),
    ONE(reciprocal),
    ONE(not ),
    ONE(exp),
    ONE(log),
    ONE(tanh),
    ONE(sigmoid),
    ONE(erf),
    ONE(exp2),
    ONE(log2),
    ONE(expm1),
    ONE(log1p),
    ONE(sqrt),
    ONE(rsqrt),
    ONE(floor),
    ONE(ceil),
    ONE(round),
    ONE(trunc),
    ONE(sign),
    .same[MX_PRIM_div] = F(div_same),
    .join = {[MX_FOLD_SUM] = F(join_sum),
             [MX_FOLD_PROD] = F(join_prod),
             [MX_FOLD_MAX] = F(join_max),
             [MX_FOLD_MIN] = F(join_min)},
    .load = F(load),
    .load_bool = F(load_bool),
    .store = F(store),
    .store_bool = F(store_bool),
    .choose = F(choose),
    .truth_to_float = F(truth_to_float),
    .end = F(end),
    .run = run,
    .fill = fill,
};
