/* gemm_tile.h: products of matrices by register tiles, for one type of numbers. gemm_float.c and gemm_double.c include
 * it, after they have said what a vector is.
 *
 * A tile of ROWS x COLUMNS of c stays in registers while k runs:
 *
 *     for k: b0, b1 = two vectors of b's row k; for each row i: c[i] += a[i,k] * (b0, b1)
 *
 * and around it stand the loops that keep what is read again in a cache:
 *
 *     HEIGHT rows of c
 *       DEPTH of k                a's block, HEIGHT x DEPTH, is packed: [tile][k][ROWS]         second cache
 *         GROUP columns           b's panels, DEPTH x COLUMNS each, are packed                  second cache
          COLUMNS columns                                                                     first cache
 *             ROWS rows           registers
 *
 * a is packed where many columns use it; else its elements are read where they lie. b is packed where several tiles use
 * it, or where its rows are not dense: a part of the next group after each tile of this one, so that the arithmetic
 * hides the way to memory.
 *
 * The order of additions depends on k alone: DEPTH products are added up one after another, then added to c. However c
 * is cut into tiles, and whatever is packed, the bits are the same. */
#ifndef MX_SIMD_GEMM_TILE_H
#define MX_SIMD_GEMM_TILE_H

#include "gemm.h"

_Static_assert((int)ROWS <= (int)MX_RUN_ROWS, "a run has the rows of a tile");

enum {
  COLUMNS = 2 * LANES,
  GROUP = 4 * COLUMNS,              /* columns whose panels are packed together */
  PACK_A_COLUMNS = 10 * COLUMNS,    /* a is packed from so many columns on */
  PACK_ROWS = 6 * ROWS,             /* both from so many rows on, */
  PACK_ROWS_LARGE = 2 * ROWS,       /* or so many where b has many elements; */
  SMALL_B = (64 << 10) / sizeof(T), /* b where it has more than so many */
  LARGE_B = (1 << 20) / sizeof(T)
};

static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }

/* -- registers ----------------------------------------------------------------------------------------------------- */

typedef struct micro {
  const mx_run *runs, *end;
  int64_t a_col, a_row;
  int64_t b_at, b_row, c_row; /* b_at: the first column, in b's rows */
  T *c;
  part last; /* lanes of the last vector that b and c have */
  bool add;  /* to what c holds */
  /* While k runs over packed rows, c is brought into the cache, a row after each 1 << shift of k, and so is what will
   * be packed next: lines l = 0, 1, .. at l % (1 << bits) * line + (l >> bits) * row. */
  int shift, bits;
  const T *ahead;
  int64_t line, row;
} micro;

/* How a tile's elements of a lie, for one k: side by side; in steps of a_row; anywhere (then so many rows are
 * pointed to by registers; more would be kept in vector registers, and moving them costs more than reading them
 * again). */
enum { SIDE_BY_SIDE, IN_STEPS, ANYWHERE };
enum { IN_REGISTERS = 8 };

/* c is needed when k has run. */
INLINE void fetch_row(const micro *t, int64_t i, const int vectors) {
  UNROLL for (int j = 0; j < vectors; j++) __builtin_prefetch(t->c + i * t->c_row + j * LANES, 1);
}

INLINE void micro_rows(const micro *t, const int rows, const int vectors, const int how, const bool whole,
                       const bool fetches) {
  const bool by_columns = how == SIDE_BY_SIDE;
  vec s[ROWS][2], v[2];
  const int last = vectors - 1;
  const int64_t mask = (1 << t->bits) - 1;
  int64_t l = 0;
  UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) s[i][j] = SPLAT(0);
  UNROLL for (int i = 0; i < rows; i++) if (!by_columns) fetch_row(t, i, vectors);
  for (const mx_run *r = t->runs; r < t->end; r++) {
    const T *b = (const T *)r->b + t->b_at, *a = r->a[0], *p[ROWS];
    UNROLL for (int i = 0; i < rows; i++) p[i] = how == ANYWHERE ? r->a[i] : a + i * t->a_row;
    for (int64_t k = 0; k < r->k; l++) {
      int64_t end = by_columns ? lesser(r->k, k + (1 << t->shift)) : r->k;
      if (by_columns && l < rows) fetch_row(t, l, vectors);
      if (fetches) __builtin_prefetch(t->ahead + (l & mask) * t->line + (l >> t->bits) * t->row);
      UNROLL_TWICE for (; k < end; k++, b += t->b_row) {
        if (last) v[0] = LOAD(b);
        v[last] = whole ? LOAD(b + last * LANES) : LOAD_PART(b + last * LANES, t->last);
        UNROLL for (int i = 0; i < rows; i++) {
          vec x = SPLAT(how == SIDE_BY_SIDE ? a[i]
                        : how == IN_STEPS   ? p[i / 3 * 3][i % 3 * t->a_row]
                        : i < IN_REGISTERS  ? p[i][k]
                                            : ((const T *)*(const void *const volatile *)&r->a[i])[k]);
          if (how == IN_STEPS && (i % 3 == 2 || i == rows - 1)) p[i / 3 * 3] += t->a_col;
          UNROLL for (int j = 0; j < vectors; j++) s[i][j] = FMA(x, v[j], s[i][j]);
        }
        if (by_columns) a += t->a_col;
      }
    }
  }
  UNROLL for (int i = 0; i < rows; i++) {
    T *p = t->c + i * t->c_row;
    if (last) STORE(p, t->add ? ADD(LOAD(p), s[i][0]) : s[i][0]);
    p += last * LANES;
    if (whole) STORE(p, t->add ? ADD(LOAD(p), s[i][last]) : s[i][last]);
    else STORE_PART(p, t->last, t->add ? ADD(LOAD_PART(p, t->last), s[i][last]) : s[i][last]);
  }
}

#define MICRO(NAME, ...)                                                                                               \
  static __attribute__((noinline)) void NAME(const micro *t) { micro_rows(t, __VA_ARGS__); }
#define EACH_WIDTH(HOW, NAME, R)                                                                                       \
  MICRO(thin_##NAME, (R) < ROWS ? (R) : ROWS, 1, HOW, false, false)                                                    \
  MICRO(pair_##NAME, (R) < ROWS ? (R) : ROWS, 2, HOW, false, false)                                                    \
  MICRO(whole_##NAME, (R) < ROWS ? (R) : ROWS, 2, HOW, true, false)
#define MICROS(R)                                                                                                      \
  EACH_WIDTH(SIDE_BY_SIDE, columns_##R, R) EACH_WIDTH(IN_STEPS, rows_##R, R) EACH_WIDTH(ANYWHERE, runs_##R, R)
MICROS(1)
MICROS(2)
MICROS(3)
MICROS(4)
MICROS(5)
MICROS(6)
#if MOST_ROWS > 6
MICROS(7)
MICROS(8)
MICROS(9)
MICROS(10)
MICROS(11)
MICROS(12)
#  define MICRO_ROW(N)                                                                                                 \
    { NULL, N##_1, N##_2, N##_3, N##_4, N##_5, N##_6, N##_7, N##_8, N##_9, N##_10, N##_11, N##_12 }
#else
#  define MICRO_ROW(N)                                                                                                 \
    { NULL, N##_1, N##_2, N##_3, N##_4, N##_5, N##_6 }
#endif

MICRO(fetching, ROWS, 2, SIDE_BY_SIDE, true, true)

typedef void (*micro_loop)(const micro *t);
/* For so many rows and columns. */
static micro_loop micro_for(int how, int64_t rows, int64_t n) {
  static const micro_loop micros[3][3][ROWS + 1] = {
      {MICRO_ROW(thin_columns), MICRO_ROW(thin_rows), MICRO_ROW(thin_runs)},
      {MICRO_ROW(pair_columns), MICRO_ROW(pair_rows), MICRO_ROW(pair_runs)},
      {MICRO_ROW(whole_columns), MICRO_ROW(whole_rows), MICRO_ROW(whole_runs)}};
  return micros[(n > LANES) + (n == COLUMNS)][how][rows];
}

/* -- packing ------------------------------------------------------------------------------------------------------- */

typedef T quad __attribute__((vector_size(4 * sizeof(T))));

/* Transposes 4 x 4 elements. */
INLINE void turn_quad(const T *from, int64_t line, T *to, int64_t width) {
  quad p, q, r, s;
  memcpy(&p, from, sizeof p), memcpy(&q, from + line, sizeof q);
  memcpy(&r, from + 2 * line, sizeof r), memcpy(&s, from + 3 * line, sizeof s);
  quad pq_lo = __builtin_shufflevector(p, q, 0, 4, 1, 5), pq_hi = __builtin_shufflevector(p, q, 2, 6, 3, 7);
  quad rs_lo = __builtin_shufflevector(r, s, 0, 4, 1, 5), rs_hi = __builtin_shufflevector(r, s, 2, 6, 3, 7);
  p = __builtin_shufflevector(pq_lo, rs_lo, 0, 1, 4, 5), q = __builtin_shufflevector(pq_lo, rs_lo, 2, 3, 6, 7);
  r = __builtin_shufflevector(pq_hi, rs_hi, 0, 1, 4, 5), s = __builtin_shufflevector(pq_hi, rs_hi, 2, 3, 6, 7);
  memcpy(to, &p, sizeof p), memcpy(to + width, &q, sizeof q);
  memcpy(to + 2 * width, &r, sizeof r), memcpy(to + 3 * width, &s, sizeof s);
}

enum { STRIP = 16 }; /* k that are transposed at a time */

/* n dense lines become columns; the last four of them may be done twice. The same of what lies `ahead` is brought into
 * the cache. */
static void pack_lines(const T *from, int64_t line, int64_t depth, int64_t n, T *to, int64_t width, int64_t ahead) {
  for (int64_t k = 0; k < depth; k += STRIP) {
    int64_t m = lesser(depth - k, STRIP), quads = n < 4 ? 0 : m / 4 * 4;
    for (int64_t j = 0; j < n; j++) __builtin_prefetch(from + j * line + k + ahead, 0, 2);
    for (int64_t next = 0; next < n && quads; next += 4) {
      int64_t j = lesser(next, n - 4);
      for (int64_t i = 0; i < quads; i += 4) turn_quad(from + j * line + k + i, line, to + (k + i) * width + j, width);
    }
    for (int64_t i = quads; i < m; i++)
      for (int64_t j = 0; j < n; j++) to[(k + i) * width + j] = from[j * line + k + i];
  }
}

/* Dense rows of n elements; up to a vector more is written behind the last one. */
static void pack_dense(const T *from, int64_t row, int64_t depth, int64_t n, T *to, int64_t width) {
  part last = part_of(n <= LANES ? n : n - LANES);
  for (int64_t k = 0; k < depth; k++, from += row, to += width) {
    if (n > LANES) STORE(to, LOAD(from)), STORE(to + LANES, LOAD_PART(from + LANES, last));
    else STORE(to, LOAD_PART(from, last));
  }
}

/* `depth` rows of n elements as rows of `width`, of which nothing else is written. */
static void pack_part(const T *from, int64_t row, int64_t col, int64_t depth, int64_t n, T *to, int64_t width,
                      int64_t ahead) {
  if (row == 1) pack_lines(from, col, depth, n, to, width, ahead);
  else
    for (int64_t k = 0; k < depth; k++)
      for (int64_t j = 0; j < n; j++) to[k * width + j] = from[k * row + j * col];
}

/* The same; what lies behind the n is never read. */
static void pack(const T *from, int64_t row, int64_t col, int64_t depth, int64_t n, T *to, int64_t width,
                 int64_t ahead) {
  if (col == 1 || n == 1) pack_dense(from, row, depth, n, to, width);
  else pack_part(from, row, col, depth, n, to, width, ahead);
}

/* -- caches -------------------------------------------------------------------------------------------------------- */

/* A group of columns, of a part of k, of some rows, of which a tile has `each`. */
typedef struct place {
  int64_t m, rows, each, k, depth, j, n;
} place;

typedef struct work {
  const mx_gemm *g;
  mx_tile t;             /* of c */
  int64_t height, depth; /* of places, at most */
  bool packs_a, packs_b;
  T *a, *b[2]; /* room to pack; b: of this group and the next */
} work;

/* The packing of a group, k by k, while the tiles of another are computed. */
typedef struct feed {
  place p;            /* p.rows 0: there is no group */
  T *to;              /* [panel][k][COLUMNS] */
  int64_t done;       /* of p.depth */
  int64_t tiles, all; /* tiles computed, of all */
} feed;

static bool has_many_rows(const mx_gemm *g, mx_tile t) {
  return t.m1 - t.m0 >= (g->k * (t.n1 - t.n0) > LARGE_B ? PACK_ROWS_LARGE : PACK_ROWS);
}

static bool packs_a(const mx_gemm *g, mx_tile t) {
  return g->a_inner || (t.n1 - t.n0 >= PACK_A_COLUMNS && has_many_rows(g, t));
}

/* Where a small b lies well it stays there. */
static bool packs_b(const mx_gemm *g, mx_tile t) {
  return g->b_col != 1 || (has_many_rows(g, t) && g->k * (t.n1 - t.n0) > SMALL_B);
}

/* What the place has of rows, k and columns; tiles are about equal. */
static place measure(const work *w, place p) {
  p.rows = lesser(w->t.m1 - p.m, w->height);
  p.each = mx_part_length(p.rows, ROWS, 1);
  p.depth = lesser(w->g->k - p.k, w->depth);
  p.n = lesser(w->t.n1 - p.j, GROUP);
  return p;
}

static place first_place(const work *w) { return measure(w, (place){.m = w->t.m0, .j = w->t.n0}); }

/* The next group, of the next part of k, of the next rows; without rows at the end. */
static place next_place(const work *w, place p) {
  p.j += p.n;
  if (p.j == w->t.n1) p.j = w->t.n0, p.k += p.depth;
  if (p.k == w->g->k) p.k = 0, p.m += p.rows;
  return measure(w, p);
}

static const T *b_at(const work *w, const place *p, int64_t k) {
  return (const T *)w->g->b + (p->k + k) * w->g->b_row + p->j * w->g->b_col;
}

/* Packs the group up to this k. */
static void feed_till(const work *w, feed *f, int64_t till) {
  const mx_gemm *g = w->g;
  for (int64_t j = 0; j < f->p.n; j += COLUMNS)
    pack(b_at(w, &f->p, f->done) + j * g->b_col, g->b_row, g->b_col, till - f->done, lesser(f->p.n - j, COLUMNS),
         f->to + j * f->p.depth + f->done * COLUMNS, COLUMNS, 0);
  f->done = till;
}

/* How far the group should be packed when so many tiles are computed. */
static int64_t feed_target(const work *w, const feed *f, int64_t tiles) {
  if (tiles >= f->all) return f->p.depth;
  int64_t till = f->p.depth * tiles / f->all;
  return w->g->b_col == 1 ? till : till / STRIP * STRIP;
}

static int log2_up(int64_t n) { return n <= 1 ? 0 : 64 - __builtin_clzll((unsigned long long)n - 1); }

/* log2 of the k after which a row of c is fetched, and one of so many lines. */
static int shift_for(int64_t k, int64_t lines) {
  int shift = 0;
  if (lines < ROWS) lines = ROWS;
  while ((lines + 1) << (shift + 1) <= k) shift++;
  return shift;
}

/* What is packed after the next tile is fetched in it. */
static void feed_ahead(const work *w, const feed *f, micro *t) {
  enum { LINE = 64 / sizeof(T) }; /* elements of a line of the cache */
  const mx_gemm *g = w->g;
  int64_t n = feed_target(w, f, f->tiles + 1) - f->done;
  bool dense = g->b_col == 1;
  t->ahead = b_at(w, &f->p, f->done);
  t->line = dense ? LINE : g->b_col, t->row = dense ? g->b_row : LINE;
  t->bits = log2_up(dense ? (f->p.n + LINE - 1) / LINE : f->p.n);
  t->shift = shift_for(t->runs->k, (dense ? n : (n + LINE - 1) / LINE) << t->bits);
}

/* Rows m .. m+n-1 as columns of `to`, in parts that lie evenly. */
static void pack_rows(const mx_gemm *g, int64_t m, int64_t n, int64_t k, int64_t depth, T *to) {
  for (int64_t i = 0, count; i < n; i += count) {
    int64_t run = g->a_inner ? (m + i) / g->a_inner : 0, at = m + i - run * g->a_inner;
    count = g->a_inner ? lesser(n - i, g->a_inner - at) : n;
    const T *a = (const T *)g->a + run * g->a_outer + at * g->a_row + k * g->a_col;
    (count == n ? pack : pack_part)(a, g->a_col, g->a_row, depth, count, to + i, ROWS, n * g->a_row);
  }
}

static void pack_a(const work *w, const place *p) {
  T *to = w->a;
  for (int64_t i = 0; i < p->rows; i += p->each, to += ROWS * p->depth)
    pack_rows(w->g, p->m + i, lesser(p->rows - i, p->each), p->k, p->depth, to);
}

/* Where the i-th row of the place, and those after it, are found. */
static int find_a(const work *w, const place *p, int64_t i, mx_run *r, micro *t) {
  const mx_gemm *g = w->g;
  t->a_row = w->packs_a ? 1 : g->a_row;
  t->a_col = w->packs_a ? ROWS : g->a_col;
  r->a[0] =
      w->packs_a ? w->a + i / p->each * ROWS * p->depth : (const T *)g->a + (p->m + i) * g->a_row + p->k * g->a_col;
  return t->a_row == 1 || w->t.m1 - w->t.m0 == 1 ? SIDE_BY_SIDE : IN_STEPS;
}

/* The tiles of a panel, and between them the packing of the next group. */
static void panel(const work *w, const place *p, int64_t j, const T *packed, feed *next) {
  const mx_gemm *g = w->g;
  int64_t n = lesser(p->n - j, COLUMNS);
  bool feeds = w->packs_b && next->p.rows > 0;
  mx_run r = {.k = p->depth, .b = packed ? packed + j * p->depth : b_at(w, p, 0) + j};
  micro t = {.runs = &r, .end = &r + 1, .b_row = packed ? COLUMNS : g->b_row, .c_row = g->c_row};
  t.c = (T *)g->c + p->m * g->c_row + p->j + j;
  t.last = part_of(n > LANES ? n - LANES : n);
  t.add = g->add || p->k > 0;
  for (int64_t i = 0, rows; i < p->rows; i += rows, t.c += rows * g->c_row) {
    rows = lesser(p->rows - i, p->each);
    int how = find_a(w, p, i, &r, &t);
    bool fetches = feeds && n == COLUMNS && how == SIDE_BY_SIDE && rows == ROWS;
    if (how == SIDE_BY_SIDE) t.shift = shift_for(r.k, 0);
    if (fetches) feed_ahead(w, next, &t);
    (fetches ? fetching : micro_for(how, rows, n))(&t);
    if (feeds) feed_till(w, next, feed_target(w, next, ++next->tiles));
  }
}

static int64_t tiles_of(const place *p) { return ((p->rows + ROWS - 1) / ROWS) * ((p->n + COLUMNS - 1) / COLUMNS); }

static void multiply(const mx_gemm *g, mx_tile t, void *scratch) {
  work w = {.g = g, .t = t, .packs_a = packs_a(g, t), .packs_b = packs_b(g, t)};
  w.height = mx_part_length(t.m1 - t.m0, HEIGHT, ROWS), w.depth = mx_part_length(g->k, DEPTH, STRIP);
  place p = first_place(&w);
  int64_t room = w.depth * mx_part_length(lesser(t.n1 - t.n0, GROUP), GROUP, COLUMNS);
  w.b[0] = scratch, w.b[1] = w.b[0] + room, w.a = w.b[1] + room;
  feed f = {.p = p, .to = w.b[0]};
  if (w.packs_b) feed_till(&w, &f, p.depth);
  for (int i = 1; p.rows > 0; i ^= 1) {
    const T *packed = w.packs_b ? f.to : NULL;
    if (w.packs_a && p.j == t.n0) pack_a(&w, &p);
    f = (feed){.p = next_place(&w, p), .to = w.b[i], .all = tiles_of(&p)};
    for (int64_t j = 0; j < p.n; j += COLUMNS) panel(&w, &p, j, packed, &f);
    p = f.p;
  }
}

static size_t scratch_bytes(const mx_gemm *g, mx_tile t) {
  int64_t height = mx_part_length(t.m1 - t.m0, HEIGHT, ROWS), depth = mx_part_length(g->k, DEPTH, STRIP), elements = 0;
  int64_t columns = mx_part_length(lesser(t.n1 - t.n0, GROUP), GROUP, COLUMNS);
  if (packs_a(g, t) || packs_b(g, t)) elements = 2 * depth * columns;
  if (packs_a(g, t)) elements += height * depth + LANES;
  return (size_t)elements * sizeof(T);
}

/* -- rows from several places -------------------------------------------------------------------------------------- */

static void run_tile(const mx_run_tile *w) {
  micro t = {.runs = w->runs, .end = w->runs + w->n_runs, .b_row = w->b_row, .c_row = w->c_row};
  t.add = w->add;
  for (int64_t j = 0; j < w->n; j += COLUMNS) {
    int64_t n = lesser(w->n - j, COLUMNS);
    t.b_at = j, t.c = (T *)w->c + j, t.last = part_of(n > LANES ? n - LANES : n);
    micro_for(ANYWHERE, w->m, n)(&t);
  }
}

#endif
