/* test_dot.c: products against the plain sum of products, in every dtype and layout, by each of the ways in which they
 * are worked out, and under transformations. */
#include "../../src/device/cpu/simd/gemm.h"
#include "arrays.h"

#include <float.h>

/* -- the plain definition ------------------------------------------------------------------------------------------ */

static mx_dims free_axes(const mx_array *x, const mx_dims *contract, const mx_dims *batch) {
  mx_dims d = {0};
  for (int i = 0; i < x->aval.ndim; i++)
    if (!mx_dims_has(contract, i) && !mx_dims_has(batch, i)) d.v[d.n++] = i;
  return d;
}

/* For a position of the given axes: its offset among the row-major elements. */
static int64_t offset_of(const mx_array *x, const mx_dims *axes, int64_t position) {
  int64_t strides[MX_MAX_NDIM], step = 1, offset = 0;
  for (int i = x->aval.ndim - 1; i >= 0; i--) strides[i] = step, step *= x->aval.shape[i];
  for (int i = (int)axes->n - 1; i >= 0; i--) {
    int64_t n = x->aval.shape[axes->v[i]];
    offset += position % n * strides[axes->v[i]];
    position /= n;
  }
  return offset;
}

static int64_t count(const mx_array *x, const mx_dims *axes) {
  int64_t n = 1;
  for (int i = 0; i < axes->n; i++) n *= x->aval.shape[axes->v[i]];
  return n;
}

typedef struct product {
  mx_dims xc, yc, xb, yb;
  int dtype;
} product;

static void store(int dtype, char *p, double d, uint64_t i) {
  if (mx_is_float(dtype)) mx_store_double(dtype, p, d);
  else mx_store_int(dtype, p, dtype == MLAX_BOOL ? i != 0 : (int64_t)i);
}

static mx_array *reference(mx_ctx *c, mx_array *x, mx_array *y, const product *p, const mx_aval *aval) {
  mx_dims shape = mx_dims_shape(aval), xf = free_axes(x, &p->xc, &p->xb), yf = free_axes(y, &p->yc, &p->yb);
  mx_array *r = make(c, aval->dtype, &shape);
  double *xd = read_doubles(x), *yd = read_doubles(y);
  int64_t *xi = read_ints(x), *yi = read_ints(y), n = count(y, &yf), m = count(x, &xf), k = count(x, &p->xc);
  for (int64_t o = 0; o < aval->size; o++) {
    int64_t at_x = offset_of(x, &p->xb, o / n / m) + offset_of(x, &xf, o / n % m);
    int64_t at_y = offset_of(y, &p->yb, o / n / m) + offset_of(y, &yf, o % n);
    double sum = 0;
    uint64_t whole = 0;
    for (int64_t i = 0; i < k; i++) {
      int64_t a = at_x + offset_of(x, &p->xc, i), b = at_y + offset_of(y, &p->yc, i);
      sum += xd[a] * yd[b];
      whole += (uint64_t)xi[a] * (uint64_t)yi[b];
    }
    store(aval->dtype, mx_data(r) + (size_t)o * mx_itemsize(aval->dtype), sum, whole);
  }
  free(xd), free(yd), free(xi), free(yi);
  return r;
}

static double tolerance_of(int dtype) {
  return dtype == MLAX_BFLOAT16 ? 1e-2 : dtype == MLAX_FLOAT16 ? 1e-3 : dtype == MLAX_FLOAT32 ? 1e-6 : 0;
}

static mx_array *multiply(mx_ctx *c, mx_array *x, mx_array *y, const product *p) {
  return mx_dot_general(c, x, y, &p->xc, &p->yc, &p->xb, &p->yb, p->dtype);
}

static void check_product(world *w, mx_array *x, mx_array *y, const product *p) {
  mx_ctx *c = &w->ctx;
  mx_array *got = multiply(c, x, y, p);
  if (!got) fail_msg("%s", c->error.text);
  assert_same(got, reference(c, x, y, p, &got->aval), tolerance_of(got->aval.dtype));
}

/* -- axes of any kind in any order --------------------------------------------------------------------------------- */

/* Shapes of two operands with up to two axes of each kind, shuffled. */
static product random_product(world *w, int most, mx_dims *x, mx_dims *y) {
  product p = {.dtype = -1};
  int n[4], kinds_x[MX_MAX_NDIM], kinds_y[MX_MAX_NDIM]; /* contracted, batch, free of x, of y */
  int64_t lengths[4][2];
  for (int k = 0; k < 4; k++) {
    n[k] = (int)pick(w, 0, 2);
    for (int i = 0; i < 2; i++) lengths[k][i] = pick(w, pick(w, 0, 19) ? 1 : 0, most);
  }
  *x = *y = (mx_dims){0};
  for (int k = 0; k < 4; k++)
    for (int i = 0; i < n[k]; i++) {
      if (k != 3) kinds_x[x->n++] = 2 * k + i;
      if (k != 2) kinds_y[y->n++] = 2 * k + i;
    }
  mx_dims ox = random_order(w, (int)x->n), oy = random_order(w, (int)y->n);
  for (int k = 0; k < 2; k++)
    for (int i = 0; i < n[k]; i++) {
      mx_dims *to_x = k ? &p.xb : &p.xc, *to_y = k ? &p.yb : &p.yc;
      for (int j = 0; j < x->n; j++)
        if (kinds_x[ox.v[j]] == 2 * k + i) to_x->v[to_x->n++] = j;
      for (int j = 0; j < y->n; j++)
        if (kinds_y[oy.v[j]] == 2 * k + i) to_y->v[to_y->n++] = j;
    }
  for (int j = 0; j < x->n; j++) x->v[j] = lengths[kinds_x[ox.v[j]] / 2][kinds_x[ox.v[j]] % 2];
  for (int j = 0; j < y->n; j++) y->v[j] = lengths[kinds_y[oy.v[j]] / 2][kinds_y[oy.v[j]] % 2];
  return p;
}

static void test_general(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 1300; i++) {
    mx_dims x, y;
    product p = random_product(&w, i % 10 ? 5 : 20, &x, &y);
    int dtype = i % MX_DTYPE_COUNT;
    check_product(&w, random_layout(&w, dtype, &x), random_layout(&w, dtype, &y), &p);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* Added up in another dtype than the operands have. */
static void test_result_dtype(void **state) {
  (void)state;
  static const int pairs[][2] = {{MLAX_INT8, MLAX_INT32},       {MLAX_BOOL, MLAX_INT32},
                                 {MLAX_BFLOAT16, MLAX_FLOAT32}, {MLAX_UINT8, MLAX_FLOAT32},
                                 {MLAX_FLOAT32, MLAX_FLOAT64},  {MLAX_INT16, MLAX_INT64}};
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 60; i++) {
    mx_dims x, y;
    product p = random_product(&w, 6, &x, &y);
    p.dtype = pairs[i % 6][1];
    check_product(&w, random_layout(&w, pairs[i % 6][0], &x), random_layout(&w, pairs[i % 6][0], &y), &p);
    mx_frame_release(c, 0);
  }
  mx_array *v = mx_full(c, MLAX_FLOAT32, &(mx_dims){1, {3}}, 1);
  product p = {.xc = {1, {0}}, .yc = {1, {0}}, .dtype = MLAX_INT32};
  assert_null(multiply(c, v, v, &p));
  assert_error(c, "cannot be added up in int32");
  world_close(&w);
}

/* -- matrices: sizes for each set of loops, each side as it lies or transposed ------------------------------------- */

static mx_array *matrix(world *w, int dtype, int64_t rows, int64_t columns, int how) {
  mx_dims shape = {2, {rows, columns}}, turned = {2, {columns, rows}}, swap = {2, {1, 0}};
  if (how == 0) return random_array(w, dtype, &shape);
  if (how == 1) return mx_transpose(&w->ctx, random_array(w, dtype, &turned), &swap);
  return random_layout(w, dtype, &shape);
}

static void test_matrices(void **state) {
  (void)state;
  static const int64_t sizes[][3] = {{1, 300, 70},   {70, 300, 1},  {1, 9, 1},     {13, 1, 29},   {65, 400, 33},
                                     {128, 784, 10}, {100, 37, 64}, {12, 640, 32}, {31, 321, 17}, {5, 1000, 5},
                                     {200, 3, 300},  {96, 96, 96},  {1, 1, 500},   {500, 1, 1},   {1, 521, 700},
                                     {1, 65, 4096},  {1, 900, 300}};
  static const int dtypes[] = {MLAX_FLOAT32, MLAX_FLOAT64, MLAX_INT32, MLAX_FLOAT16};
  product p = {.xc = {1, {1}}, .yc = {1, {0}}, .dtype = -1};
  for (int threads = 1; threads <= 2; threads++) {
    world w;
    mx_ctx *c = world_open(&w, threads);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
      for (int how = 0; how < 9; how++) {
        int dtype = dtypes[(i + (size_t)how) % 4];
        mx_array *x = matrix(&w, dtype, sizes[i][0], sizes[i][1], how % 3);
        check_product(&w, x, matrix(&w, dtype, sizes[i][1], sizes[i][2], how / 3), &p);
        mx_frame_release(c, 0);
      }
    world_close(&w);
  }
}

/* Many blocks, and rows longer than the columns that are used. */
static void test_large(void **state) {
  (void)state;
  product p = {.xc = {1, {1}}, .yc = {1, {0}}, .dtype = -1};
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int how = 0; how < 9; how += 2)
    for (int dtype = MLAX_FLOAT32; dtype <= MLAX_FLOAT64; dtype++) {
      mx_array *x = matrix(&w, dtype, 430, 440, how % 3), *y = matrix(&w, dtype, 440, 410, how / 3);
      mx_array *got = multiply(c, x, y, &p);
      mx_array *row = mx_slice_axis(c, x, 0, 429, 430), *column = mx_slice_axis(c, y, 1, 409, 410);
      check_product(&w, row, y, &p);
      check_product(&w, x, column, &p);
      assert_same(mx_slice_axis(c, got, 0, 429, 430), multiply(c, row, y, &p), 0);
      assert_same(mx_slice_axis(c, got, 1, 409, 410), multiply(c, x, column, &p), 0);
      mx_frame_release(c, 0);
    }
  world_close(&w);
}

/* Nothing to add gives zeros; NaN times zero is NaN. */
static void test_edges(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_array *x = make(c, MLAX_FLOAT32, &(mx_dims){2, {3, 0}}), *y = make(c, MLAX_FLOAT32, &(mx_dims){2, {0, 2}});
  mx_array *z = mx_matmul(c, x, y);
  assert_same(z, mx_full(c, MLAX_FLOAT32, &(mx_dims){2, {3, 2}}, 0), 0);
  for (int n = 1; n < 500; n = n * 3 + 1) {
    mx_array *zeros = mx_full(c, MLAX_FLOAT32, &(mx_dims){2, {n, 4}}, 0);
    mx_array *nans = mx_full(c, MLAX_FLOAT32, &(mx_dims){2, {4, n}}, NAN);
    double *v = read_doubles(mx_matmul(c, zeros, nans));
    for (int i = 0; i < n * n; i++) assert_true(isnan(v[i]));
    free(v);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* The way in which a product is cut does not show in its bits. */
static void test_threads(void **state) {
  (void)state;
  static const int64_t sizes[][3] = {{150, 700, 170}, {1100, 40, 90}, {70, 800, 300},
                                     {9, 1200, 400},  {30, 33, 2000}, {1, 900, 300}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int how = 0; how < 4; how++) {
      size_t bytes = (size_t)(sizes[i][0] * sizes[i][2]) * sizeof(float);
      float *r[3];
      for (int threads = 1; threads <= 3; threads++) {
        world w;
        mx_ctx *c = world_open(&w, threads);
        mx_array *x = mx_exp(c, matrix(&w, MLAX_FLOAT32, sizes[i][0], sizes[i][1], how % 2));
        mx_array *y = mx_sin(c, matrix(&w, MLAX_FLOAT32, sizes[i][1], sizes[i][2], how / 2));
        r[threads - 1] = malloc(bytes);
        mx_array_read_all(mx_matmul(c, x, y), r[threads - 1]);
        world_close(&w);
      }
      assert_memory_equal(r[0], r[1], bytes);
      assert_memory_equal(r[0], r[2], bytes);
      for (int t = 0; t < 3; t++) free(r[t]);
    }
}

/* -- what is done behind the product ------------------------------------------------------------------------------- */

static bool finishes(mx_ctx *c, mx_array *x, mx_array *y, const product *p) {
  int dtype = p->dtype < 0 ? x->aval.dtype : p->dtype;
  mx_params q = {.dot = {.x_contract = p->xc, .y_contract = p->yc, .x_batch = p->xb, .y_batch = p->yb, .dtype = dtype}};
  return check_after(c, &mx_prim_dot_general, &q, x, y);
}

static void test_after(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 3);
  int taken = 0;
  for (int i = 0; i < 1300; i++) {
    mx_dims x, y;
    product p = random_product(&w, i % 10 ? 5 : 20, &x, &y);
    int dtype = i % MX_DTYPE_COUNT;
    taken += finishes(c, random_layout(&w, dtype, &x), random_layout(&w, dtype, &y), &p);
    mx_frame_release(c, 0);
  }
  assert_in_range(taken, 200, 1299);
  world_close(&w);
}

/* Matrices and vectors that are cut into tiles, by one thread and by some: rows, columns where there are few rows. */
static void test_after_tiles(void **state) {
  (void)state;
  static const int64_t sizes[][3] = {/* rows, contracted, columns */
                                     {128, 784, 512}, {3000, 30, 200}, {700, 20, 1000}, {1, 300, 9000}, {5000, 40, 1},
                                     {40, 50, 9000},  {10, 400, 600},  {1, 9, 1},       {100, 3, 3000}, {2000, 8, 7}};
  product p = {.xc = {1, {1}}, .yc = {1, {0}}, .dtype = -1};
  for (int threads = 1; threads <= 4; threads += 3) {
    world w;
    mx_ctx *c = world_open(&w, threads);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
      for (int how = 0; how < 4; how++) {
        int dtype = how == 0 ? MLAX_FLOAT32 : how == 3 ? MLAX_BFLOAT16 : MLAX_FLOAT64;
        mx_array *x = matrix(&w, dtype, sizes[i][0], sizes[i][1], how % 2);
        bool taken = finishes(c, x, matrix(&w, dtype, sizes[i][1], sizes[i][2], how / 2), &p);
        if (threads == 1 && mx_isa() > MX_ISA_BASE && dtype != MLAX_BFLOAT16)
          assert_true(taken); /* BLAS has other tiles */
        mx_frame_release(c, 0);
      }
    world_close(&w);
  }
}

/* One product behind the other in the result; and results whose rows are those of several. */
static void test_after_batches(void **state) {
  (void)state;
  product behind = {.xc = {1, {2}}, .yc = {1, {1}}, .xb = {1, {0}}, .yb = {1, {0}}, .dtype = -1};
  product beside = {.xc = {1, {1}}, .yc = {1, {0}}, .dtype = -1};
  for (int threads = 1; threads <= 3; threads++) {
    world w;
    mx_ctx *c = world_open(&w, threads);
    for (int64_t n = 1; n < 60; n += 7) {
      mx_array *x = random_array(&w, MLAX_FLOAT32, &(mx_dims){3, {30, n, 20}});
      assert_true(finishes(c, x, random_array(&w, MLAX_FLOAT32, &(mx_dims){3, {30, 20, n}}), &behind));
      mx_array *rows = mx_transpose(c, random_array(&w, MLAX_FLOAT32, &(mx_dims){2, {20, n}}), &(mx_dims){2, {1, 0}});
      mx_array *y =
          mx_transpose(c, random_array(&w, MLAX_FLOAT32, &(mx_dims){3, {n, 20, 3}}), &(mx_dims){3, {1, 0, 2}});
      y = mx_slice_axis(c, y, 2, 0, 2); /* columns in two axes that do not merge */
      finishes(c, rows, y, &beside);
      mx_frame_release(c, 0);
    }
    world_close(&w);
  }
}

/* A NaN and infinities show where they should, and nowhere else. */
static void test_special_numbers(void **state) {
  (void)state;
  enum { M = 29, K = 400, N = 45 };
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int how = 0; how < 4; how++) {
    mx_array *x = matrix(&w, MLAX_FLOAT32, M, K, 0), *y = mx_full(c, MLAX_FLOAT32, &(mx_dims){2, {K, N}}, 1);
    ((float *)mx_data(x))[3 * K + 399] = how == 0 ? NAN : how == 1 ? INFINITY : how == 2 ? -INFINITY : FLT_MAX;
    ((float *)mx_data(x))[17 * K + 5] = how == 3 ? 0 : NAN;
    double *v = read_doubles(mx_matmul(c, x, y));
    for (int i = 0; i < M * N; i++) {
      int row = i / N;
      if (row == 3 && how < 3) assert_true(how == 0 ? isnan(v[i]) : v[i] == (how == 1 ? INFINITY : -INFINITY));
      else assert_true(row == 17 && how < 3 ? isnan(v[i]) != 0 : isfinite(v[i]) != 0);
    }
    free(v);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* -- register tiles of each instruction set, directly -------------------------------------------------------------- */

typedef struct tiles {
  mx_isa_level isa;
  bool wide; /* float64 */
  const mx_gemm_loops *loops;
} tiles;

#if defined(__x86_64__)
static const tiles all_tiles[] = {{MX_ISA_AVX2, false, &mx_gemm_float_avx2},
                                  {MX_ISA_AVX2, true, &mx_gemm_double_avx2},
                                  {MX_ISA_AVX512, false, &mx_gemm_float_avx512},
                                  {MX_ISA_AVX512, true, &mx_gemm_double_avx512}};
#else
static const tiles all_tiles[] = {{MX_ISA_BASE, false, &mx_gemm_float_plain}};
#endif

static double get(const tiles *t, const void *p, int64_t i) {
  return t->wide ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

static void put(const tiles *t, void *p, int64_t i, double v) {
  if (t->wide) ((double *)p)[i] = v;
  else ((float *)p)[i] = (float)v;
}

/* Small whole numbers: sums are exact. */
static void *numbers(world *w, const tiles *t, int64_t n) {
  void *p = malloc((size_t)n * 8 + 64);
  for (int64_t i = 0; i < n; i++) put(t, p, i, (double)pick(w, -9, 9));
  return p;
}

static void strides_of(world *w, int64_t rows, int64_t columns, int64_t *row, int64_t *col) {
  int64_t gap = pick(w, 0, 1) ? 0 : pick(w, 1, 40), step = pick(w, 0, 3) ? 1 : 2;
  bool turned = pick(w, 0, 1);
  *row = turned ? step : columns * step + gap;
  *col = turned ? rows * step + gap : step;
}

static void check_tile(const tiles *t, const mx_gemm *g, mx_tile part, bool add, const double *before) {
  for (int64_t i = 0; i < g->m; i++)
    for (int64_t j = 0; j < g->c_row; j++) {
      bool in = i >= part.m0 && i < part.m1 && j >= part.n0 && j < part.n1;
      double want = before[i * g->c_row + j], got = get(t, g->c, i * g->c_row + j);
      if (in) {
        double sum = add ? want : 0;
        for (int64_t k = 0; k < g->k; k++)
          sum += get(t, g->a, i * g->a_row + k * g->a_col) * get(t, g->b, k * g->b_row + j * g->b_col);
        want = sum;
      }
      if (got != want)
        fail_msg("%dx%dx%d: element %d, %d is %g, want %g", (int)g->m, (int)g->k, (int)g->n, (int)i, (int)j, got, want);
    }
}

static void check_tiles(world *w, const tiles *t, int64_t m, int64_t k, int64_t n) {
  mx_gemm g = {.m = m, .n = n, .k = k, .c_row = n + pick(w, 0, 5), .add = pick(w, 0, 2) == 0};
  strides_of(w, m, k, &g.a_row, &g.a_col);
  strides_of(w, k, n, &g.b_row, &g.b_col);
  void *a = numbers(w, t, (m + 41) * (k + 41) * 2), *b = numbers(w, t, (k + 41) * (n + 41) * 2);
  void *c = numbers(w, t, m * g.c_row + 1);
  double *before = malloc((size_t)(m * g.c_row + 1) * sizeof *before);
  for (int64_t i = 0; i < m * g.c_row; i++) before[i] = get(t, c, i);
  g.a = a, g.b = b, g.c = c;
  mx_tile part = {0, m, 0, n};
  if (pick(w, 0, 2) == 0) part = (mx_tile){m / 3, m - m / 4, n / 3, n - n / 4};
  if (pick(w, 0, 4) == 0) part.m0 = part.m1 - 1;
  void *scratch = aligned_alloc(64, (t->loops->scratch(&g, part) + 127) / 64 * 64);
  t->loops->multiply(&g, part, scratch);
  check_tile(t, &g, part, g.add, before);
  free(a), free(b), free(c), free(before), free(scratch);
}

static void test_tiles(void **state) {
  (void)state;
  static const int64_t large[][3] = {{40, 800, 300}, {1000, 20, 40}, {250, 400, 70}, {30, 390, 650}, {130, 130, 330}};
  world w;
  world_open(&w, 1);
  for (size_t i = 0; i < sizeof all_tiles / sizeof *all_tiles; i++) {
    const tiles *t = &all_tiles[i];
    if (!t->loops->multiply || mx_isa() < t->isa) continue;
    for (int64_t m = 1; m < 28; m++)
      for (int r = 0; r < 6; r++) check_tiles(&w, t, m, pick(&w, 1, 20), pick(&w, 1, 70));
    for (size_t s = 0; s < sizeof large / sizeof *large; s++)
      for (int r = 0; r < 4; r++) check_tiles(&w, t, large[s][0], large[s][1], large[s][2]);
  }
  world_close(&w);
}

/* -- a matrix and a vector ----------------------------------------------------------------------------------------- */

/* Rows i0 .. i1-1 of y = a x; what lies around them stays. The memory ends where a, x and y do. */
static void check_vector(world *w, const tiles *t, int64_t m, int64_t n, bool turned, bool part) {
  size_t size = t->wide ? 8 : 4;
  int64_t gap = pick(w, 0, 3), line = (turned ? m : n) + gap, i0 = part ? m / 3 : 0, i1 = part ? m - m / 4 : m;
  int64_t elements = (turned ? n - 1 : m - 1) * line + line - gap;
  mx_gemv g = {.m = m, .n = n, .a_row = turned ? 1 : line, .a_col = turned ? line : 1};
  char *a = malloc((size_t)elements * size), *x = malloc((size_t)n * size), *y = malloc((size_t)m * size);
  for (int64_t i = 0; i < elements; i++) put(t, a, i, (double)pick(w, -9, 9));
  for (int64_t i = 0; i < n; i++) put(t, x, i, (double)pick(w, -9, 9));
  for (int64_t i = 0; i < m; i++) put(t, y, i, 1e6);
  g.a = a, g.x = x, g.y = y;
  t->loops->gemv(&g, i0, i1);
  for (int64_t i = 0; i < m; i++) {
    double want = i < i0 || i >= i1 ? 1e6 : 0;
    for (int64_t j = 0; want != 1e6 && j < n; j++) want += get(t, a, i * g.a_row + j * g.a_col) * get(t, x, j);
    if (get(t, y, i) != want) fail_msg("%dx%d: element %d is %g, want %g", (int)m, (int)n, (int)i, get(t, y, i), want);
  }
  free(a), free(x), free(y);
}

static void test_vectors(void **state) {
  (void)state;
  static const int64_t long_side[] = {127, 128, 129, 160, 300, 517};
  world w;
  world_open(&w, 1);
  for (size_t k = 0; k < sizeof all_tiles / sizeof *all_tiles; k++) {
    const tiles *t = &all_tiles[k];
    if (!t->loops->gemv || mx_isa() < t->isa) continue;
    for (int64_t i = 1; i < 140; i++)
      for (int turned = 0; turned < 2; turned++) check_vector(&w, t, i, pick(&w, 1, 70), turned, pick(&w, 0, 1));
    for (size_t i = 0; i < sizeof long_side / sizeof *long_side; i++)
      for (int64_t n = 1; n < 40; n++) {
        check_vector(&w, t, long_side[i], n, true, n & 1);
        check_vector(&w, t, n, long_side[i], false, n & 1);
      }
  }
  world_close(&w);
}

/* -- matmul -------------------------------------------------------------------------------------------------------- */

static void check_matmul(mx_ctx *c, mx_dims x, mx_dims y, mx_dims want) {
  mx_array *z = mx_matmul(c, mx_full(c, MLAX_FLOAT32, &x, 1), mx_full(c, MLAX_FLOAT32, &y, 2));
  if (!z) fail_msg("%s", c->error.text);
  assert_same(z, mx_full(c, MLAX_FLOAT32, &want, 2.0 * (double)x.v[x.n - 1]), 0);
}

/* Batch axes of any broadcast form: equal to the product of the broadcast operands, one by one. */
static void check_broadcast(world *w) {
  mx_ctx *c = &w->ctx;
  mx_dims lead = random_shape(w, 3, 1, 3), x = {0}, y = {0};
  int skip_x = (int)pick(w, 0, 3), skip_y = (int)pick(w, 0, 3);
  for (int i = 0; i < 3; i++) {
    int64_t drop = pick(w, 0, 3);
    if (i >= skip_x) x.v[x.n++] = drop == 1 ? 1 : lead.v[i];
    if (i >= skip_y) y.v[y.n++] = drop == 2 ? 1 : lead.v[i];
  }
  mx_dims mx = mx_dims_insert(&x, (int)x.n, 3), my = mx_dims_insert(&y, (int)y.n, 4);
  mx = mx_dims_insert(&mx, (int)mx.n, 4), my = mx_dims_insert(&my, (int)my.n, 2);
  mx_array *a = random_layout(w, MLAX_FLOAT64, &mx), *b = random_layout(w, MLAX_FLOAT64, &my);
  mx_array *z = mx_matmul(c, a, b); /* against sum_k a[..., i, k, 1] b[..., 1, k, j] */
  if (!z) fail_msg("%s", c->error.text);
  mx_array *terms = mx_mul(c, mx_expand(c, a, a->aval.ndim), mx_expand(c, b, b->aval.ndim - 2));
  assert_same(z, mx_sum(c, terms, &(mx_dims){1, {terms->aval.ndim - 2}}, false), 0);
}

static void test_matmul(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  check_matmul(c, (mx_dims){1, {6}}, (mx_dims){1, {6}}, (mx_dims){0});
  check_matmul(c, (mx_dims){2, {5, 6}}, (mx_dims){1, {6}}, (mx_dims){1, {5}});
  check_matmul(c, (mx_dims){1, {6}}, (mx_dims){3, {4, 6, 2}}, (mx_dims){2, {4, 2}});
  check_matmul(c, (mx_dims){3, {4, 5, 6}}, (mx_dims){1, {6}}, (mx_dims){2, {4, 5}});
  check_matmul(c, (mx_dims){4, {4, 1, 5, 6}}, (mx_dims){3, {3, 6, 2}}, (mx_dims){4, {4, 3, 5, 2}});
  check_matmul(c, (mx_dims){2, {5, 6}}, (mx_dims){3, {4, 6, 2}}, (mx_dims){3, {4, 5, 2}});
  for (int i = 0; i < 200; i++) {
    check_broadcast(&w);
    mx_frame_release(c, 0);
  }
  mx_array *a = mx_full(c, MLAX_FLOAT32, &(mx_dims){2, {2, 3}}, 1),
           *b = mx_full(c, MLAX_FLOAT32, &(mx_dims){2, {4, 5}}, 1);
  assert_null(mx_matmul(c, a, b));
  assert_error(c, "got float32[2,3] and float32[4,5]");
  assert_null(mx_matmul(c, a, mx_scalar(c, MLAX_FLOAT32, 1)));
  assert_error(c, "at least one axis");
  assert_null(mx_matmul(c, mx_full(c, MLAX_FLOAT32, &(mx_dims){3, {2, 2, 3}}, 1),
                        mx_full(c, MLAX_FLOAT32, &(mx_dims){3, {3, 3, 2}}, 1)));
  assert_error(c, "leading axes");
  world_close(&w);
}

static void test_wrong_axes(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_array *x = mx_full(c, MLAX_FLOAT32, &(mx_dims){2, {2, 3}}, 1);
  product p = {.xc = {1, {2}}, .yc = {1, {0}}, .dtype = -1};
  assert_null(multiply(c, x, x, &p));
  assert_error(c, "axis out of range");
  p = (product){.xc = {1, {1}}, .yc = {1, {0}}, .dtype = -1};
  assert_null(multiply(c, x, x, &p));
  assert_error(c, "differ in length");
  p = (product){.xc = {2, {1, 1}}, .yc = {2, {0, 1}}, .dtype = -1};
  assert_null(multiply(c, x, x, &p));
  assert_error(c, "twice");
  p = (product){.xc = {1, {1}}, .yc = {0}, .dtype = -1};
  assert_null(multiply(c, x, x, &p));
  assert_error(c, "do not pair");
  world_close(&w);
}

/* -- transformations ----------------------------------------------------------------------------------------------- */

static bool apply(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  (void)n;
  mx_array *y = multiply(c, in[0], in[1], state);
  return y && mx_list_add(c, out, y);
}

static void test_derivatives(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 120; i++) {
    mx_dims x, y;
    product p = random_product(&w, 3, &x, &y);
    mx_array *in[2] = {random_layout(&w, MLAX_FLOAT64, &x), random_layout(&w, MLAX_FLOAT64, &y)};
    check_derivative(&w, (mx_function){apply, &p}, in, 2, 2, 1e-5);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_batch(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 200; i++) {
    mx_dims x, y;
    product p = random_product(&w, 3, &x, &y);
    int axes[2], which = i % 3;
    mx_array *in[2] = {random_mapped(&w, MLAX_FLOAT64, &x, 3, which != 0, &axes[0]),
                       random_mapped(&w, MLAX_FLOAT64, &y, 3, which != 1, &axes[1])};
    check_batch(&w, (mx_function){apply, &p}, in, axes, 2, 3, 0);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* -- failing allocations ------------------------------------------------------------------------------------------- */

static bool use_all(mlax_engine *e, void *arg) {
  (void)arg;
  mx_ctx c;
  if (!mx_ctx_init(&c, e)) return false;
  mx_array *x = mx_iota(&c, MLAX_FLOAT32, &(mx_dims){2, {20, 30}}, 1), *y = mx_transpose(&c, x, &(mx_dims){2, {1, 0}});
  mx_array *h = mx_convert(&c, x, MLAX_FLOAT16), *i = mx_convert(&c, y, MLAX_INT32);
  product both = {.xc = {2, {0, 1}}, .yc = {2, {1, 0}}, .dtype = -1};
  bool ok = mx_matmul(&c, x, y) && mx_matmul(&c, h, y) && mx_matmul(&c, mx_convert(&c, x, MLAX_INT32), i) &&
            multiply(&c, x, y, &both) && mx_matmul(&c, x, mx_slice_axis(&c, y, 1, 0, 1));
  mx_frame_release(&c, 0);
  mx_ctx_close(&c);
  return ok;
}

static void test_failing_allocations(void **state) {
  (void)state;
  const char *problem = fault_sweep(use_all, NULL);
  if (problem) fail_msg("%s", problem);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_general),         cmocka_unit_test(test_result_dtype),
      cmocka_unit_test(test_matrices),        cmocka_unit_test(test_large),
      cmocka_unit_test(test_edges),           cmocka_unit_test(test_threads),
      cmocka_unit_test(test_special_numbers), cmocka_unit_test(test_tiles),
      cmocka_unit_test(test_vectors),         cmocka_unit_test(test_matmul),
      cmocka_unit_test(test_wrong_axes),      cmocka_unit_test(test_derivatives),
      cmocka_unit_test(test_batch),           cmocka_unit_test(test_failing_allocations),
      cmocka_unit_test(test_after),           cmocka_unit_test(test_after_tiles),
      cmocka_unit_test(test_after_batches),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
