/* line_tile.h: tiles of lines, by a loop for each number of places and of columns. What includes it has said how many
 * places there are at most, and columns_of (products_tile.h, channels_tile.h). */
#ifndef MX_SIMD_LINE_TILE_H
#define MX_SIMD_LINE_TILE_H

#define LOOP(NAME, ...)                                                                                                \
  static __attribute__((noinline)) void NAME(const mx_line_tile *t, int64_t j, part last) {                            \
    columns_of(t, j, last, __VA_ARGS__);                                                                               \
  }
/* thin < a vector = single < pair < two vectors = whole */
#define LOOPS(N)                                                                                                       \
  LOOP(thin_##N, N, 1, false) LOOP(single_##N, N, 1, true) LOOP(pair_##N, N, 2, false) LOOP(whole_##N, N, 2, true)
LOOPS(1)
LOOPS(2)
LOOPS(3)
LOOPS(4)
LOOPS(5)
LOOPS(6)
#if MOST_PLACES > 6
LOOPS(7)
LOOPS(8)
LOOPS(9)
LOOPS(10)
LOOPS(11)
LOOPS(12)
#  define LOOPS_OF(W) NULL, W##_1, W##_2, W##_3, W##_4, W##_5, W##_6, W##_7, W##_8, W##_9, W##_10, W##_11, W##_12
#else
#  define LOOPS_OF(W) NULL, W##_1, W##_2, W##_3, W##_4, W##_5, W##_6
#endif

typedef void (*columns_loop)(const mx_line_tile *t, int64_t j, part last);

static void line_tile(const mx_line_tile *t) {
  static const columns_loop loops[2][2][MOST_PLACES + 1] = {{{LOOPS_OF(thin)}, {LOOPS_OF(single)}},
                                                            {{LOOPS_OF(pair)}, {LOOPS_OF(whole)}}};
  for (int64_t j = 0; j < t->n; j += 2 * LANES) {
    int64_t n = t->n - j < 2 * LANES ? t->n - j : 2 * LANES;
    bool two = n > LANES, whole = n % LANES == 0;
    loops[two][whole][t->places](t, j, part_of(two ? n - LANES : n));
  }
}

#endif
