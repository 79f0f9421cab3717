/* window.c: inner loops of windows and of convolutions whose groups are single channels. */
#include "window.h"

#define ADD_PRODUCTS(NAME, T)                                                                                          \
  static void NAME(T *restrict y, const T *restrict x, const T *restrict w, int64_t n) {                               \
    MX_VECTORIZE for (int64_t i = 0; i < n; i++) y[i] += x[i] * w[i];                                                  \
  }
ADD_PRODUCTS(add_products32, float)
ADD_PRODUCTS(add_products64, double)

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

const mx_window_table MX_SIMD(mx_window_table) = {add_products32, add_products64, choose32, choose64};
