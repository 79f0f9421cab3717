/* window.c: inner loops of windows: the choice of extremes. */
#include "window.h"

#define CHOOSE_LOOP(OP, INDEX)                                                                                         \
  MX_VECTORIZE for (int64_t i = 0; i < n; i++) {                                                                       \
    bool keep = best[i] OP x[i];                                                                                       \
    best[i] = keep ? best[i] : x[i];                                                                                   \
    at[i] = keep ? at[i] : (INDEX)(place + (INDEX)i * step);                                                           \
  }
#define CHOOSE(NAME, T, INDEX)                                                                                         \
  static void NAME(T *restrict best, INDEX *restrict at, const T *restrict x, INDEX place, INDEX step, bool least,     \
                   int64_t n) {                                                                                        \
    if (least) CHOOSE_LOOP(<=, INDEX)                                                                                  \
    else CHOOSE_LOOP(>=, INDEX)                                                                                        \
  }
CHOOSE(choose32, float, int32_t)
CHOOSE(choose64, double, int64_t)

/* -- rows that are chosen from column by column -------------------------------------------------------------------- */

typedef float float_vector __attribute__((vector_size(NATIVE)));
typedef double double_vector __attribute__((vector_size(NATIVE)));
typedef int32_t float_mask __attribute__((vector_size(NATIVE)));
typedef int64_t double_mask __attribute__((vector_size(NATIVE)));

/* A vector of columns, of which the first `bytes` bytes are there. */
#define TAPS(NAME, T, INDEX)                                                                                           \
  INLINE T##_vector read_##NAME(const void *row, int64_t j, const size_t bytes) {                                      \
    T##_vector v = {0};                                                                                                \
    memcpy(&v, (const T *)row + j, bytes);                                                                             \
    return v;                                                                                                          \
  }                                                                                                                    \
  INLINE T##_mask find_##NAME(const mx_tap_choice *c, int64_t j, const size_t bytes, const bool least) {               \
    T##_vector best = read_##NAME(c->taps[0], j, bytes);                                                               \
    T##_mask at = {0};                                                                                                 \
    for (INDEX t = 1; t < (INDEX)c->n_taps; t++) {                                                                     \
      T##_vector x = read_##NAME(c->taps[t], j, bytes);                                                                \
      T##_mask keep = least ? best <= x : best >= x;                                                                   \
      best = (T##_vector)(((T##_mask)best & keep) | ((T##_mask)x & ~keep));                                            \
      at = (at & keep) | (((T##_mask){0} + t) & ~keep);                                                                \
    }                                                                                                                  \
    return at;                                                                                                         \
  }                                                                                                                    \
  INLINE void columns_##NAME(const mx_tap_choice *c, int64_t j, const size_t bytes, const bool least) {                \
    T##_mask at = find_##NAME(c, j, bytes, least);                                                                     \
    T##_vector y = c->scatters ? read_##NAME(c->y, j, bytes) + 0 : (T##_vector){0};                                    \
    for (INDEX t = 0; t < (INDEX)c->n_taps; t++) {                                                                     \
      T##_mask here = at == t;                                                                                         \
      T *row = (T *)c->rows[t] + j;                                                                                    \
      if (!c->scatters) {                                                                                              \
        y = (T##_vector)((T##_mask)y | ((T##_mask)read_##NAME(row, 0, bytes) & here));                                 \
        continue;                                                                                                      \
      }                                                                                                                \
      T##_vector r = (T##_vector)((T##_mask)y & here);                                                                 \
      if (c->adds) r += read_##NAME(row, 0, bytes);                                                                    \
      memcpy(row, &r, bytes);                                                                                          \
    }                                                                                                                  \
    if (!c->scatters) memcpy((T *)c->y + j, &y, bytes);                                                                \
  }                                                                                                                    \
  INLINE void all_##NAME(const mx_tap_choice *c, const bool least) {                                                   \
    int64_t lanes = NATIVE / sizeof(T), j = 0;                                                                         \
    for (; j + lanes <= c->n; j += lanes) columns_##NAME(c, j, NATIVE, least);                                         \
    for (; j < c->n; j++) columns_##NAME(c, j, sizeof(T), least);                                                      \
  }                                                                                                                    \
  static void NAME(const mx_tap_choice *c) {                                                                           \
    if (c->least) all_##NAME(c, true);                                                                                 \
    else all_##NAME(c, false);                                                                                         \
  }
TAPS(taps32, float, int32_t)
TAPS(taps64, double, int64_t)

const mx_window_table MX_SIMD(mx_window_table) = {choose32, choose64, taps32, taps64};
