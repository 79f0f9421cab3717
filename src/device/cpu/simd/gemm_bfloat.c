/* gemm_bfloat.c: products of bfloat16 matrices by matrix tiles (AMX), where the compiler knows them; whether the
 * machine has them is asked in isa.c. One instruction multiplies 16 x 32 elements of a with 32 x 16 of b and adds the
 * products to 16 x 16 sums in float32.
 *
 * Both operands are packed into tiles of 1 KB, two by two: a's hold 16 rows of 32 k, b's 16 pairs of k, each of 16
 * columns. A block of c, four tiles of sums, stays in registers while k runs. Around it stand:
 *
 *     HEIGHT rows of c
 *       WIDTH columns             whose sums are kept, where k has several parts
 *         DEPTH of k              a's block, HEIGHT x DEPTH, is packed        second cache
 *           BLOCK columns         b's panel, DEPTH x BLOCK, is packed         second cache, nearly the first
 *             BLOCK rows          registers
 *
 * The next panel is packed while the blocks of one are computed: a step of its k now and then, so that the arithmetic,
 * which goes on by itself meanwhile, hides the way to memory. What lacks in a tile is filled with zeros in both
 * operands, so it adds 0 * 0.
 *
 * The order of additions depends on k alone: however c is cut into tiles, the bits are the same. Subnormals count as
 * zero, as they do in all kernels. */
#include "gemm.h"

#if (defined(__AMX_BF16__) || defined(__AMXBF16__)) && defined(__AVX512BF16__) /* gcc, clang */
#  include <immintrin.h>

enum {
  SIDE = 16,            /* rows of a tile, columns of b's */
  STEP = 32,            /* k of a tile */
  TILE = SIDE * STEP,   /* its elements */
  BLOCK = 2 * SIDE,     /* rows and columns of a block */
  SUMS = BLOCK * BLOCK, /* of a block */
  HEIGHT = 512,         /* rows of c, */
  WIDTH = 4096,         /* columns whose sums are kept, */
  DEPTH = 1024,         /* and k that are worked on together: multiples of BLOCK and STEP */
  STRETCH = 2,          /* steps, between which b is packed */
  AHEAD = 4             /* steps that memory is asked for before they are packed */
};

static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t rounded_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/* -- packing ------------------------------------------------------------------------------------------------------- */

/* A part of an operand: `lines` rows of a, or columns of b, and `depth` of k, with their strides. */
typedef struct piece {
  const uint16_t *at;
  int64_t line, k, lines, depth;
} piece;

/* A tile has a form of two: of each line 32 k, or of each pair of k 16 lines. Transposition of 32-bit elements, which
 * pairs are, makes one of the other. */
INLINE void turn(__m512i v[SIDE]) {
  __m512i w[SIDE];
  UNROLL for (int i = 0; i < SIDE; i += 2) {
    w[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    w[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  UNROLL for (int i = 0; i < SIDE; i += 4) {
    v[i] = _mm512_unpacklo_epi64(w[i], w[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(w[i], w[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(w[i + 1], w[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(w[i + 1], w[i + 3]);
  }
  UNROLL for (int i = 0; i < SIDE; i += 8) UNROLL for (int j = 0; j < 4; j++) {
    w[i + j] = _mm512_shuffle_i32x4(v[i + j], v[i + j + 4], 0x88);
    w[i + j + 4] = _mm512_shuffle_i32x4(v[i + j], v[i + j + 4], 0xDD);
  }
  UNROLL for (int j = 0; j < 8; j++) {
    v[j] = _mm512_shuffle_i32x4(w[j], w[j + 8], 0x88);
    v[j + 8] = _mm512_shuffle_i32x4(w[j], w[j + 8], 0xDD);
  }
}

INLINE void turn_tile(uint16_t *tile) {
  __m512i v[SIDE];
  UNROLL for (int i = 0; i < SIDE; i++) v[i] = _mm512_load_si512(tile + i * STEP);
  turn(v);
  UNROLL for (int i = 0; i < SIDE; i++) _mm512_store_si512(tile + i * STEP, v[i]);
}

/* Of a tile, from lines that are dense in k. */
INLINE void pack_lines(const piece *p, const int64_t lines, const int64_t depth, const bool turned, uint16_t *to) {
  const __mmask32 mask = depth < STEP ? ((__mmask32)1 << depth) - 1 : (__mmask32)-1;
  __m512i v[SIDE];
  UNROLL for (int i = 0; i < SIDE; i++) v[i] =
      i < lines ? _mm512_maskz_loadu_epi16(mask, p->at + i * p->line) : _mm512_setzero_si512();
  if (turned) turn(v);
  UNROLL for (int i = 0; i < SIDE; i++) _mm512_store_si512(to + i * STEP, v[i]);
}

/* Of a tile or two, from rows that are dense in lines: two rows become pairs. */
INLINE void pack_rows(const piece *p, const int64_t lines, const int64_t depth, uint16_t *to) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i low =
      _mm512_add_epi32(_mm512_or_si512(lanes, _mm512_slli_epi32(lanes, 16)), _mm512_set1_epi32(STEP << 16));
  const __m512i zero = _mm512_setzero_si512(), high = _mm512_add_epi16(low, _mm512_set1_epi16(SIDE));
  const __mmask32 mask = lines < BLOCK ? ((__mmask32)1 << lines) - 1 : (__mmask32)-1;
  UNROLL for (int i = 0; i < SIDE; i++, to += STEP) {
    const uint16_t *at = p->at + 2 * i * p->k;
    __m512i v = 2 * i < depth ? _mm512_maskz_loadu_epi16(mask, at) : zero;
    __m512i w = 2 * i + 1 < depth ? _mm512_maskz_loadu_epi16(mask, at + p->k) : zero;
    _mm512_store_si512(to, _mm512_permutex2var_epi16(v, low, w));
    if (lines > SIDE) _mm512_store_si512(to + TILE, _mm512_permutex2var_epi16(v, high, w));
  }
}

/* Neither is dense: copied into a tile. */
static void spread(const piece *p, int64_t lines, int64_t depth, uint16_t *to) {
  memset(to, 0, TILE * sizeof *to);
  for (int64_t i = 0; i < lines; i++)
    for (int64_t k = 0; k < depth; k++) to[i * STEP + k] = p->at[i * p->line + k * p->k];
}

INLINE void fetch(const uint16_t *at, int64_t step, int64_t n) {
  for (int64_t i = 0; i < n; i++) __builtin_prefetch(at + i * step, 0, 2);
}

static int64_t steps_of(const piece *p) { return (p->depth + STEP - 1) / STEP; }

/* A piece becomes [step of k][2][TILE]; tiles without lines are left out. This packs the tiles of a step, and brings
 * those of a step that follows into the cache. */
INLINE void pack_step(const piece *of, int64_t step, const bool pairs, uint16_t *to) {
  const int64_t n = of->lines, depth = lesser(of->depth - step * STEP, STEP);
  const bool whole = n == BLOCK && depth == STEP, ahead = (step + AHEAD) * STEP + STEP <= of->depth;
  piece p = *of;
  p.at += step * STEP * p.k, to += step * (n > SIDE ? 2 * TILE : TILE);
  if (p.k != 1 && p.line == 1) {
    if (ahead) fetch(p.at + AHEAD * STEP * p.k, p.k, STEP);
    if (whole) pack_rows(&p, BLOCK, STEP, to);
    else pack_rows(&p, n, depth, to);
    for (int64_t i = 0; !pairs && i < n; i += SIDE, to += TILE) turn_tile(to);
    return;
  }
  if (ahead && p.k == 1) fetch(p.at + AHEAD * STEP, p.line, n);
  for (int64_t i = 0; i < n; i += SIDE, to += TILE, p.at += SIDE * p.line) {
    const int64_t lines = lesser(n - i, SIDE);
    if (whole && p.k == 1) pack_lines(&p, SIDE, STEP, pairs, to);
    else if (p.k == 1) pack_lines(&p, lines, depth, pairs, to);
    else {
      spread(&p, lines, depth, to);
      if (pairs) turn_tile(to);
    }
  }
}

static __attribute__((noinline)) void pack_a(const piece *p, uint16_t *to) {
  int64_t steps = steps_of(p);
  for (int64_t i = 0; i < steps; i++) pack_step(p, i, false, to);
}

/* A panel of b that is packed while the blocks of another are computed. */
typedef struct feed {
  piece p; /* without lines: there is none */
  uint16_t *to;
  int64_t done, steps; /* packed, of all */
  int64_t spent, all;  /* steps that are computed, of all */
} feed;

static feed feed_of(piece p, uint16_t *to, int64_t all) {
  return (feed){.p = p, .to = to, .steps = steps_of(&p), .all = all};
}

static __attribute__((noinline)) void feed_till(feed *f, int64_t till) {
  for (; f->done < till; f->done++) pack_step(&f->p, f->done, true, f->to);
}

/* After so many steps. */
INLINE void feed_some(feed *f, int64_t steps) {
  f->spent += steps;
  if (f->done * f->all < f->steps * f->spent) feed_till(f, (f->steps * f->spent + f->all - 1) / f->all);
}

/* -- registers ----------------------------------------------------------------------------------------------------- */

typedef struct tile_shapes {
  uint8_t palette, start, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} tile_shapes;

static const tile_shapes all_whole __attribute__((aligned(64))) = {
    .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

enum { ROW_BYTES = BLOCK * sizeof(float) };

/* Adds to the sums, or begins them. The compiler does not see what the tiles read. */
INLINE void block(const uint16_t *a, const uint16_t *b, int64_t steps, float *sums, bool add, feed *f, const bool tall,
                  const bool wide) {
  float *below = sums + SIDE * BLOCK;
  __asm__ volatile("" ::: "memory");
  if (add) {
    _tile_loadd(0, sums, ROW_BYTES);
    if (wide) _tile_loadd(1, sums + SIDE, ROW_BYTES);
    if (tall) _tile_loadd(2, below, ROW_BYTES);
    if (tall && wide) _tile_loadd(3, below + SIDE, ROW_BYTES);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  while (steps) {
    int64_t some = lesser(steps, STRETCH);
    steps -= some;
    feed_some(f, some);
    for (; some; some--, a += tall ? 2 * TILE : TILE, b += wide ? 2 * TILE : TILE) {
      _tile_loadd(6, b, 64);
      _tile_loadd(4, a, 64);
      _tile_dpbf16ps(0, 4, 6);
      if (wide) _tile_loadd(7, b + TILE, 64);
      if (wide) _tile_dpbf16ps(1, 4, 7);
      if (tall) _tile_loadd(5, a + TILE, 64);
      if (tall) _tile_dpbf16ps(2, 5, 6);
      if (tall && wide) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, ROW_BYTES);
  if (wide) _tile_stored(1, sums + SIDE, ROW_BYTES);
  if (tall) _tile_stored(2, below, ROW_BYTES);
  if (tall && wide) _tile_stored(3, below + SIDE, ROW_BYTES);
  __asm__ volatile("" ::: "memory");
}

static void block_for(const uint16_t *a, const uint16_t *b, int64_t steps, float *sums, bool add, feed *f, bool tall,
                      bool wide) {
  if (tall && wide) block(a, b, steps, sums, add, f, true, true);
  else if (tall) block(a, b, steps, sums, add, f, true, false);
  else if (wide) block(a, b, steps, sums, add, f, false, true);
  else block(a, b, steps, sums, add, f, false, false);
}

/* -- results ------------------------------------------------------------------------------------------------------- */

/* A block's sums, rounded once. */
static void put_bfloat(const float *sums, char *c, int64_t c_row, int64_t rows, int64_t n) {
  __mmask32 mask = n < BLOCK ? ((__mmask32)1 << n) - 1 : (__mmask32)-1;
  for (int64_t i = 0; i < rows; i++, sums += BLOCK) {
    __m512bh v = _mm512_cvtne2ps_pbh(_mm512_load_ps(sums + SIDE), _mm512_load_ps(sums));
    _mm512_mask_storeu_epi16((uint16_t *)c + i * c_row, mask, (__m512i)v);
  }
}

static void put_float(const float *sums, char *c, int64_t c_row, int64_t rows, int64_t n) {
  __mmask16 low = n < SIDE ? (__mmask16)((1u << n) - 1) : (__mmask16)-1;
  __mmask16 high = (__mmask16)(n > SIDE ? (1u << (n - SIDE)) - 1 : 0);
  for (int64_t i = 0; i < rows; i++, sums += BLOCK) {
    float *to = (float *)c + i * c_row;
    _mm512_mask_storeu_ps(to, low, _mm512_load_ps(sums));
    if (high) _mm512_mask_storeu_ps(to + SIDE, high, _mm512_load_ps(sums + SIDE));
  }
}

/* -- caches -------------------------------------------------------------------------------------------------------- */

typedef struct work {
  const mx_gemm *g;
  bool wide; /* c is float32 */
  int64_t height, width, depth;
  uint16_t *a, *b[2];
  float *sums; /* of the blocks of a part of c, or of one */
} work;

static void set_lengths(work *w, mx_tile t) {
  w->depth = mx_part_length(w->g->k, DEPTH, STEP);
  w->height = mx_part_length(t.m1 - t.m0, HEIGHT, BLOCK);
  w->width = mx_part_length(t.n1 - t.n0, w->depth >= w->g->k ? t.n1 - t.n0 : WIDTH, BLOCK);
}

/* Elements of packed lines. */
static int64_t packed(int64_t lines, int64_t depth) { return rounded_up(lines, BLOCK) * rounded_up(depth, STEP); }

static int64_t sums_of(const work *w) { return w->depth >= w->g->k ? SUMS : w->height * w->width; }

static size_t scratch_bytes(const mx_gemm *g, mx_tile t) {
  work w = {.g = g};
  set_lengths(&w, t);
  return (size_t)(packed(w.height, w.depth) + 2 * packed(BLOCK, w.depth)) * 2 + (size_t)sums_of(&w) * 4;
}

static void put(const work *w, const float *sums, int64_t m, int64_t n, int64_t rows, int64_t columns) {
  int64_t at = m * w->g->c_row + n;
  if (w->wide) put_float(sums, w->g->c + at * 4, w->g->c_row, rows, columns);
  else put_bfloat(sums, w->g->c + at * 2, w->g->c_row, rows, columns);
}

/* What is packed of the rows from m on, or of the columns from n on. */
static piece piece_of_a(const work *w, mx_tile t, int64_t m, int64_t k) {
  const mx_gemm *g = w->g;
  return (piece){(const uint16_t *)g->a + m * g->a_row + k * g->a_col, g->a_row, g->a_col, lesser(t.m1 - m, BLOCK),
                 lesser(g->k - k, w->depth)};
}
static piece piece_of_b(const work *w, mx_tile t, int64_t n, int64_t k) {
  const mx_gemm *g = w->g;
  if (n >= t.n1) return (piece){.lines = 0};
  return (piece){(const uint16_t *)g->b + n * g->b_col + k * g->b_row, g->b_col, g->b_row, lesser(t.n1 - n, BLOCK),
                 lesser(g->k - k, w->depth)};
}

/* A part of k of a panel of columns, with all rows that are packed. */
static void panel(const work *w, mx_tile t, int64_t n, int64_t k, const uint16_t *b, float *sums, feed *f) {
  const mx_gemm *g = w->g;
  int64_t depth = lesser(g->k - k, w->depth), columns = lesser(t.n1 - n, BLOCK), steps = (depth + STEP - 1) / STEP;
  bool first = k == 0, last = k + depth == g->k;
  for (int64_t m = t.m0; m < t.m1; m += BLOCK) {
    int64_t rows = lesser(t.m1 - m, BLOCK);
    block_for(w->a + packed(m - t.m0, depth), b, steps, sums, !first, f, rows > SIDE, columns > SIDE);
    if (last) put(w, sums, m, n, rows, columns);
    if (!first || !last) sums += SUMS;
  }
}

/* A part of k of c's rows and columns t, whose sums there is room for. */
static void part(const work *w, mx_tile t, int64_t k) {
  int64_t depth = lesser(w->g->k - k, w->depth), lines = rounded_up(t.m1 - t.m0, BLOCK);
  int64_t steps = (depth + STEP - 1) / STEP * (lines / BLOCK);
  for (int64_t m = t.m0; m < t.m1; m += BLOCK) {
    piece a = piece_of_a(w, t, m, k);
    pack_a(&a, w->a + packed(m - t.m0, depth));
  }
  feed f = feed_of(piece_of_b(w, t, t.n0, k), w->b[0], steps);
  feed_till(&f, f.steps);
  for (int64_t n = t.n0, i = 1; n < t.n1; n += BLOCK, i ^= 1) {
    const uint16_t *b = f.to;
    f = feed_of(piece_of_b(w, t, n + BLOCK, k), w->b[i], steps);
    panel(w, t, n, k, b, depth == w->g->k ? w->sums : w->sums + (n - t.n0) * lines, &f);
  }
}

static void multiply(const mx_gemm *g, mx_tile t, void *scratch, bool wide) {
  work w = {.g = g, .wide = wide, .sums = scratch};
  set_lengths(&w, t);
  w.a = (uint16_t *)(w.sums + sums_of(&w)), w.b[0] = w.a + packed(w.height, w.depth),
  w.b[1] = w.b[0] + packed(BLOCK, w.depth);
  _tile_loadconfig(&all_whole);
  for (int64_t m = t.m0; m < t.m1; m += w.height)
    for (int64_t n = t.n0; n < t.n1; n += w.width)
      for (int64_t k = 0; k < g->k; k += w.depth)
        part(&w, (mx_tile){m, lesser(m + w.height, t.m1), n, lesser(n + w.width, t.n1)}, k);
  _tile_release();
}

static void multiply_narrow(const mx_gemm *g, mx_tile t, void *scratch) { multiply(g, t, scratch, false); }
static void multiply_wide(const mx_gemm *g, mx_tile t, void *scratch) { multiply(g, t, scratch, true); }

const mx_gemm_loops MX_SIMD(mx_gemm_bfloat) = {BLOCK, BLOCK, scratch_bytes, multiply_narrow, NULL, NULL};
const mx_gemm_loops MX_SIMD(mx_gemm_bfloat_wide) = {BLOCK, BLOCK, scratch_bytes, multiply_wide, NULL, NULL};
#else
const mx_gemm_loops MX_SIMD(mx_gemm_bfloat) = {1, 1, NULL, NULL, NULL, NULL};
const mx_gemm_loops MX_SIMD(mx_gemm_bfloat_wide) = {1, 1, NULL, NULL, NULL, NULL};
#endif
