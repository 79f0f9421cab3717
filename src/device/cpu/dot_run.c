/* dot_run.c: which loops multiply, and how the work is cut into tiles.
 *
 *     integers, bool               own loops, exact (and for lengths that BLAS cannot count)
 *     floats                       own register tiles, and own loops for a matrix and a vector, where the machine has
 *                                  fused multiply-add
 *     bfloat16                     matrix tiles, where the machine has them; else as float32, like float16
 *     elsewhere                    BLAS, each tile by one thread (its own threads are not used); vectors by own loops
 *
 * A vector times a matrix whose rows are dense is cut along them: each thread then reads memory from end to end.
 * (Halves of rows that are a power of two long would leave half of a cache's sets empty.) The sums of the parts are
 * added last.
 *
 * Tiles go to the threads in rounds of at most 2^31 operations a thread; between rounds an interrupt is heard.
 *
 * What is done to the result afterwards (mx_after) takes whole rows of it as they are finished. It is left to the
 * caller where tiles have short parts of rows: calls for a few hundred elements each cost more than they save, and so
 * would cutting the rows instead, since b is packed again for each tile. */
#include "dot_impl.h"

#include <cblas.h>

#define MANY_ROWS    20                  /* units of rows that are cut before the columns are */
#define TILE_WORK    ((double)(1 << 30)) /* multiplications of a tile, at most */
#define AFTER_BYTES  (256 << 10)         /* of c, in a tile behind which something is done: a cache holds them */
#define AFTER_DEPTH  4                   /* k of so many times the rows of such a tile hides the way of c */
#define BLAS_PARTS   4                   /* into which a product is cut for it, whatever the threads */
#define ROUND_WORK   ((double)(1 << 30)) /* multiplications of a round, for each thread */
#define GEMV_NS      0.015               /* a byte of a matrix, times a vector */
#define BFLOAT_NS    0.0025              /* a multiplication in matrix tiles, */
#define BFLOAT_LEAST 4096                /* of which there must be so many to be worth it */

typedef enum { USE_ROWS, USE_GEMV, USE_TILES, USE_BLAS } method;

typedef struct job {
  const mx_dot *d;
  const char *x, *y;
  char *out;
  const mx_gemm_table *table;
  const mx_gemm_loops *loops; /* of tiles, and with vectors */
  method use;
  int64_t row_unit, column_unit;   /* tiles are cut at multiples of these */
  int64_t rows, columns;           /* of a tile */
  int64_t row_tiles, column_tiles; /* of a product */
  int64_t first, tiles;            /* of this round */
  int n_chunks;
  char *scratch; /* for each chunk */
  size_t each;
  mx_after *after; /* NULL: nothing, or the caller does it */
} job;

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t greater(int64_t a, int64_t b) { return a > b ? a : b; }

static double work_of(const mx_gemm *f) { return (double)f->m * (double)f->n * (double)f->k; }

static bool blas_counts(const mx_gemm *f) {
  return f->m <= INT32_MAX && f->n <= INT32_MAX && f->k <= INT32_MAX && f->c_row <= INT32_MAX;
}

const mx_gemm_loops *mx_own_tiles(int dtype) {
  const mx_gemm_loops *loops = MX_SIMD_PICK(mx_gemm_table)->tiles[dtype];
  return loops && loops->multiply ? loops : NULL;
}

const mx_gemm_loops *mx_bfloat_tiles(int out_dtype) {
  if ((out_dtype != MLAX_BFLOAT16 && out_dtype != MLAX_FLOAT32) || !mx_has_matrix_tiles()) return NULL;
  const mx_gemm_loops *loops = MX_SIMD_PICK(mx_gemm_table)->bfloat[out_dtype == MLAX_FLOAT32];
  return loops->multiply ? loops : NULL;
}

bool mx_dot_takes_bfloat(const mx_gemm *f) { return work_of(f) >= BFLOAT_LEAST; }

static const mx_gemm_loops *loops_of(const mx_dot *d) {
  return d->dtype == MLAX_BFLOAT16 ? mx_bfloat_tiles(d->out_dtype) : mx_own_tiles(d->dtype);
}

/* Depends on lengths alone: packing an operand only makes them grow. */
static method choose(const mx_dot *d, const mx_gemm *f) {
  if (!mx_is_float(d->dtype)) return USE_ROWS;
  if (d->dtype == MLAX_BFLOAT16) return USE_TILES;
  if (mx_own_tiles(d->dtype)) return f->m == 1 || f->n == 1 ? USE_GEMV : USE_TILES;
  return blas_counts(f) && f->m > 1 && f->n > 1 ? USE_BLAS : USE_ROWS;
}

/* BLAS: one stride is 1, and the other at least as long as the rows that it steps over, in 32 bits. */
static bool blas_reads(int64_t row, int64_t col, int64_t rows, int64_t cols) {
  if (col == 1 && row >= cols) return row <= INT32_MAX;
  return row == 1 && col >= rows && col <= INT32_MAX;
}

static bool one_is_dense(int64_t row, int64_t col, int64_t rows, int64_t cols) {
  return row == 1 || col == 1 || rows == 1 || cols == 1;
}

bool mx_dot_reads(const mx_dot *d, const mx_gemm *f, bool second) {
  switch (choose(d, f)) {
  case USE_ROWS: return !second || f->n == 1 || f->b_col == 1;
  case USE_TILES: return true;
  case USE_GEMV: /* the vector is copied where it is not dense */
    if (second) return f->n == 1 || one_is_dense(f->b_row, f->b_col, f->k, f->n);
    return f->m == 1 || one_is_dense(f->a_row, f->a_col, f->m, f->k);
  default: return second ? blas_reads(f->b_row, f->b_col, f->k, f->n) : blas_reads(f->a_row, f->a_col, f->m, f->k);
  }
}

/* -- one tile ------------------------------------------------------------------------------------------------------ */

static void blas_tile(const mx_dot *d, const mx_gemm *g, mx_tile t) {
  bool a_turned = g->a_col != 1, b_turned = g->b_col != 1;
  enum CBLAS_TRANSPOSE ta = a_turned ? CblasTrans : CblasNoTrans, tb = b_turned ? CblasTrans : CblasNoTrans;
  const char *a = g->a + t.m0 * g->a_row * d->size, *b = g->b + t.n0 * g->b_col * d->size;
  char *c = g->c + (t.m0 * g->c_row + t.n0) * d->size;
  int m = (int)(t.m1 - t.m0), n = (int)(t.n1 - t.n0), k = (int)g->k, ldc = (int)g->c_row;
  int lda = (int)(a_turned ? g->a_col : g->a_row), ldb = (int)(b_turned ? g->b_col : g->b_row);
  if (d->dtype == MLAX_FLOAT32)
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, 1, (const float *)a, lda, (const float *)b, ldb, 0, (float *)c, ldc);
  else
    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, 1, (const double *)a, lda, (const double *)b, ldb, 0, (double *)c, ldc);
}

/* A column or row of elements, dense. */
static const char *dense(const char *v, int64_t stride, int64_t n, int64_t size, char *scratch) {
  if (stride == 1 || n == 1) return v;
  for (int64_t i = 0; i < n; i++) memcpy(scratch + i * size, v + i * stride * size, (size_t)size);
  return scratch;
}

/* c = a b with one column; with one row it is the transposed product. The result may have to be spread. */
static void gemv_tile(const job *j, const mx_gemm *g, mx_tile t, char *scratch) {
  int64_t size = j->d->size;
  bool row = g->m == 1;
  mx_gemv v = row ? (mx_gemv){.m = g->n, .n = g->k, .a = g->b, .a_row = g->b_col, .a_col = g->b_row}
                  : (mx_gemv){.m = g->m, .n = g->k, .a = g->a, .a_row = g->a_row, .a_col = g->a_col};
  int64_t i0 = row ? t.n0 : t.m0, i1 = row ? t.n1 : t.m1;
  bool spread = !row && g->c_row != 1;
  v.x = dense(row ? g->a : g->b, row ? g->a_col : g->b_row, g->k, size, scratch);
  v.y = spread ? scratch + g->k * size - i0 * size : g->c;
  if (v.m == 1 && v.a_col != 1) v.a_row = 1;
  if (v.n == 1) v.a_col = v.a_row == 1 ? 0 : 1; /* one product each */
  j->loops->gemv(&v, i0, i1);
  for (int64_t i = i0; spread && i < i1; i++) memcpy(g->c + i * g->c_row * size, v.y + i * size, (size_t)size);
}

static mx_gemm product_at(const job *j, int64_t position) {
  const mx_dot *d = j->d;
  mx_gemm g = d->form;
  int64_t x = 0, y = 0, out = 0;
  for (int i = d->outer.n - 1; i >= 0; i--) {
    const mx_dot_axis *a = &d->outer.axis[i];
    int64_t at = position % a->n;
    position /= a->n;
    x += at * a->x, y += at * a->y, out += at * a->out;
  }
  g.a = j->x + x * d->size;
  g.b = j->y + y * d->size;
  g.c = j->out + out * d->out_size;
  return g;
}

static void run_tile(const job *j, int64_t i, char *scratch, mx_finished *f) {
  int64_t per_product = j->row_tiles * j->column_tiles, in = i % per_product;
  mx_gemm g = product_at(j, i / per_product);
  mx_tile t = {.m0 = in / j->column_tiles * j->rows, .n0 = in % j->column_tiles * j->columns};
  t.m1 = g.m - t.m0 < j->rows ? g.m : t.m0 + j->rows;
  t.n1 = g.n - t.n0 < j->columns ? g.n : t.n0 + j->columns;
  switch (j->use) {
  case USE_ROWS: j->table->rows[j->d->dtype](&g, t); break;
  case USE_GEMV: gemv_tile(j, &g, t, scratch); break;
  case USE_TILES: j->loops->multiply(&g, t, scratch); break;
  case USE_BLAS: blas_tile(j->d, &g, t); break;
  }
  if (!f->after) return;
  bool whole = t.m1 - t.m0 == 1 || t.n1 - t.n0 == g.c_row;
  int64_t first = (g.c - j->out) / j->d->out_size + t.m0 * g.c_row + t.n0,
          n = (whole ? t.m1 - t.m0 : 1) * (t.n1 - t.n0);
  for (int64_t i = t.m0; i < t.m1; i += whole ? t.m1 - t.m0 : 1, first += g.c_row) mx_finished_add(f, first, first + n);
}

static void run_chunk(void *arg, int i) {
  const job *j = arg;
  int64_t lo = j->tiles * i / j->n_chunks, hi = j->tiles * (i + 1) / j->n_chunks;
  int threads = j->use == USE_BLAS ? mx_serial_begin() : 0;
  mx_finished f = {.after = j->after};
  for (int64_t k = lo; k < hi; k++) run_tile(j, j->first + k, j->scratch + j->each * (size_t)i, &f);
  mx_finished_flush(&f);
  if (j->use == USE_BLAS) mx_serial_end(threads);
}

/* -- all tiles ----------------------------------------------------------------------------------------------------- */

static int64_t half_of(int64_t n, int64_t unit) { return ceil_div(ceil_div(n, 2), unit) * unit; }

/* Halves a side until there is a tile for each chunk and none is too large: the rows, while they are many (packing b
 * for each part is hidden behind them), else the columns. */
static void cut(job *j, int chunks) {
  const mx_gemm *f = &j->d->form;
  int64_t row_unit = j->row_unit, column_unit = j->column_unit;
  j->rows = f->m, j->columns = f->n;
  for (;;) {
    j->row_tiles = ceil_div(f->m, j->rows), j->column_tiles = ceil_div(f->n, j->columns);
    int64_t tiles = j->row_tiles * j->column_tiles * j->d->products;
    bool enough = tiles % chunks == 0 || tiles >= 4 * chunks;
    bool small = (double)j->rows * (double)j->columns * (double)f->k <= TILE_WORK;
    bool rows_end = j->rows <= row_unit, columns_end = j->columns <= column_unit;
    if ((enough && small) || (rows_end && columns_end)) return;
    bool many_rows = j->rows >= MANY_ROWS * row_unit && 2 * j->rows >= j->columns;
    if (columns_end || (!rows_end && many_rows)) j->rows = half_of(j->rows, row_unit);
    else j->columns = half_of(j->columns, column_unit);
  }
}

/* Whether tiles make enough elements that follow one another in the result, by themselves or together. */
static bool makes_ranges(const job *j) {
  const mx_gemm *f = &j->d->form;
  if (j->rows > 1 && (j->columns < f->n || f->c_row != f->n)) return j->columns >= MX_RANGE_LEAST;
  int64_t next = f->m * f->n;
  bool follow = f->m == 1 || f->c_row == f->n;
  for (int i = j->d->outer.n - 1; i >= 0; next *= j->d->outer.axis[i--].n) follow &= j->d->outer.axis[i].out == next;
  return follow || j->rows * j->columns >= MX_RANGE_LEAST;
}

/* Where something is done to c afterwards, tiles of whole rows are cut until a cache holds them, if that leaves them
 * enough rows: b is packed again for each, k elements a column, and what that costs must be less than c's way. (With
 * matrix tiles it is not.) */
static void cut_after(job *j) {
  const mx_gemm *f = &j->d->form;
  int64_t row = j->columns * j->d->out_size, least = greater(2 * j->row_unit, f->k / AFTER_DEPTH);
  if (j->use != USE_TILES || j->d->dtype == MLAX_BFLOAT16 || j->columns < f->n || least * row > AFTER_BYTES) return;
  while (j->rows * row > AFTER_BYTES && j->rows >= 2 * least) j->rows = half_of(j->rows, j->row_unit);
  j->row_tiles = ceil_div(f->m, j->rows);
}

/* What a chunk needs beside its operands: a packed panel; a dense vector, and a result to be spread. */
static size_t scratch_bytes(const job *j) {
  const mx_gemm *f = &j->d->form;
  if (j->use == USE_TILES) return (j->loops->scratch(f, (mx_tile){0, j->rows, 0, j->columns}) + 63) / 64 * 64;
  bool dense = f->m == 1 ? f->a_col == 1 : f->b_row == 1 && f->c_row == 1;
  return j->use == USE_GEMV && !dense ? (size_t)((f->k + f->m) * j->d->size + 63) / 64 * 64 : 0;
}

static double ns_per_work(const job *j) {
  if (j->d->dtype == MLAX_BFLOAT16) return BFLOAT_NS;
  switch (j->use) {
  case USE_ROWS: return 0.25;
  case USE_GEMV: return GEMV_NS * (double)j->d->size;
  default: return 0.014 * (double)j->d->size / 4;
  }
}

static bool run_rounds(mx_ctx *c, job *j) {
  int64_t all = j->row_tiles * j->column_tiles * j->d->products;
  double tile = (double)j->rows * (double)j->columns * (double)j->d->form.k;
  if (j->after) tile += (double)j->rows * (double)j->columns * j->after->ns / ns_per_work(j);
  int64_t round = (int64_t)(ROUND_WORK / (tile < 1 ? 1 : tile)) * j->n_chunks;
  if (round < j->n_chunks) round = j->n_chunks;
  for (j->first = 0; j->first < all; j->first += j->tiles) {
    j->tiles = all - j->first < round ? all - j->first : round;
    if (j->tiles < j->n_chunks) j->n_chunks = (int)j->tiles;
    if (j->first && !mx_poll(c)) return false;
    mx_parallel(c->engine, j->n_chunks, run_chunk, j);
  }
  return true;
}

/* -- a vector and dense rows, cut along them ----------------------------------------------------------------------- */

enum { PARTS = 8, MANY = 1 << 18, LONG_ROW = 4096 }; /* of k; elements, at least; of a row, at most */

/* Depends on lengths alone, as the order of additions does. */
static bool cuts_k(const mx_dot *d, const mx_gemm *f) {
  return choose(d, f) == USE_GEMV && d->products == 1 && f->m == 1 && f->b_col == 1 && f->n <= LONG_ROW &&
         f->k >= PARTS * PARTS && f->k * f->n >= MANY && work_of(f) <= ROUND_WORK;
}

typedef struct parts {
  const mx_dot *d;
  const mx_gemm_loops *loops;
  const char *x, *y;
  char *sums;    /* a row for each part */
  char *scratch; /* k elements: x where it is not dense */
} parts;

static void sum_part(void *arg, int i) {
  const parts *p = arg;
  const mx_gemm *f = &p->d->form;
  int64_t size = p->d->size, each = ceil_div(ceil_div(f->k, PARTS), PARTS) * PARTS;
  int64_t k = lesser(i * each, f->k), n = lesser(each, f->k - k);
  mx_gemv v = {.m = f->n, .n = n, .a = p->y + k * f->b_row * size, .a_row = 1, .a_col = f->b_row};
  v.x = dense(p->x + k * f->a_col * size, f->a_col, n, size, p->scratch + k * size);
  v.y = p->sums + i * f->n * size;
  p->loops->gemv(&v, 0, f->n);
}

/* Each of them times one. */
static void add_parts(const parts *p, char *out) {
  static const float ones[PARTS] = {1, 1, 1, 1, 1, 1, 1, 1};
  static const double double_ones[PARTS] = {1, 1, 1, 1, 1, 1, 1, 1};
  int64_t n = p->d->form.n;
  const char *x = p->d->dtype == MLAX_FLOAT32 ? (const char *)ones : (const char *)double_ones;
  mx_gemv v = {.m = n, .n = PARTS, .a = p->sums, .x = x, .y = out, .a_row = 1, .a_col = n};
  p->loops->gemv(&v, 0, n);
}

static bool run_parts(mx_ctx *c, const mx_dot *d, const char *x, const char *y, char *out) {
  const mx_gemm *f = &d->form;
  size_t bytes = (size_t)((PARTS * f->n + (f->a_col == 1 ? 0 : f->k)) * d->size);
  parts p = {.d = d, .loops = mx_own_tiles(d->dtype), .x = x, .y = y, .sums = mx_scratch(c, bytes)};
  if (!p.sums) return false;
  p.scratch = p.sums + PARTS * f->n * d->size;
  int chunks = mx_chunks(c->engine, PARTS, GEMV_NS * (double)d->size * work_of(f) / PARTS);
  if (chunks > 1) mx_parallel(c->engine, PARTS, sum_part, &p);
  else
    for (int i = 0; i < PARTS; i++) sum_part(&p, i);
  add_parts(&p, out);
  mx_scratch_free(c, p.sums, bytes);
  return true;
}

bool mx_dot_run(mx_ctx *c, const mx_dot *d, const char *x, const char *y, char *out, mx_after *after) {
  job j = {.d = d, .x = x, .y = y, .out = out, .table = MX_SIMD_PICK(mx_gemm_table), .use = choose(d, &d->form)};
  double work = work_of(&d->form);
  if (cuts_k(d, &d->form)) return run_parts(c, d, x, y, out);
  if (j.use == USE_TILES || j.use == USE_GEMV) j.loops = loops_of(d);
  j.row_unit = j.use == USE_TILES ? j.loops->row_unit : 16;
  j.column_unit = j.use == USE_TILES ? j.loops->column_unit : 16;
  int64_t units = d->products * ceil_div(d->form.m, j.row_unit) * ceil_div(d->form.n, j.column_unit);
  double ns = ns_per_work(&j) * work + (after ? after->ns * (double)d->form.m * (double)d->form.n : 0);
  j.n_chunks = mx_chunks(c->engine, units, ns * (double)d->products / (double)units);
  cut(&j, j.use == USE_BLAS ? BLAS_PARTS : j.n_chunks); /* BLAS adds in an order that depends on the lengths */
  if (after && makes_ranges(&j)) {
    cut_after(&j);
    after->taken = true;
    j.after = after;
  }
  j.each = scratch_bytes(&j);
  size_t bytes = j.each * (size_t)j.n_chunks;
  if (bytes && !(j.scratch = mx_scratch(c, bytes))) return false;
  bool ok = run_rounds(c, &j);
  if (bytes) mx_scratch_free(c, j.scratch, bytes);
  return ok;
}
