/* test_bfloat.c: products of bfloat16 matrices. By matrix tiles, where the machine has them, sums are float32 and are
 * rounded once: against sums in float64, which are exact for the numbers here, against the way over float32, and where
 * the system refuses the tiles. */
#include "../../src/device/cpu/simd/gemm.h"
#include "arrays.h"

#if defined(__x86_64__) && defined(__linux__)
#  include <errno.h>
#  include <linux/filter.h>
#  include <linux/seccomp.h>
#  include <stddef.h>
#  include <sys/prctl.h>
#  include <sys/syscall.h>
#  include <sys/wait.h>
#  include <unistd.h>
#endif

/* -- the tiles, directly ------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
static const mx_gemm_loops *const loops[2] = {&mx_gemm_bfloat_avx512, &mx_gemm_bfloat_wide_avx512};
#else
static const mx_gemm_loops *const loops[2] = {&mx_gemm_bfloat_plain, &mx_gemm_bfloat_wide_plain};
#endif

static double of_bfloat(uint16_t v) {
  uint32_t bits = (uint32_t)v << 16;
  float f;
  memcpy(&f, &bits, sizeof f);
  return (double)f;
}

/* The nearest number of 8 binary digits, the even one of two. */
static double rounded(double v) {
  int exponent;
  double digits = frexp(v, &exponent);
  return ldexp(nearbyint(ldexp(digits, 8)), exponent - 8);
}

/* Small whole numbers: sums are exact in float32. */
static uint16_t *numbers(world *w, int64_t n) {
  uint16_t *p = malloc((size_t)n * sizeof *p);
  for (int64_t i = 0; i < n; i++) mx_store_double(MLAX_BFLOAT16, p + i, (double)pick(w, -9, 9));
  return p;
}

static void strides_of(world *w, int64_t rows, int64_t columns, int64_t *row, int64_t *col) {
  int64_t gap = pick(w, 0, 1) ? 0 : pick(w, 1, 40), step = pick(w, 0, 4) ? 1 : 2;
  bool turned = pick(w, 0, 1);
  *row = turned ? step : columns * step + gap;
  *col = turned ? rows * step + gap : step;
}

static int64_t extent(int64_t rows, int64_t row, int64_t columns, int64_t col) {
  return (rows - 1) * row + (columns - 1) * col + 1;
}

static double get(const mx_gemm *g, bool wide, int64_t i) {
  return wide ? (double)((const float *)g->c)[i] : of_bfloat(((const uint16_t *)g->c)[i]);
}

static void check_sums(const mx_gemm *g, mx_tile t, bool wide) {
  const uint16_t *a = (const uint16_t *)g->a, *b = (const uint16_t *)g->b;
  for (int64_t i = 0; i < g->m; i++)
    for (int64_t j = 0; j < g->c_row && i * g->c_row + j < (g->m - 1) * g->c_row + g->n; j++) {
      bool in = i >= t.m0 && i < t.m1 && j >= t.n0 && j < t.n1;
      double sum = 0, got = get(g, wide, i * g->c_row + j);
      for (int64_t k = 0; in && k < g->k; k++)
        sum += of_bfloat(a[i * g->a_row + k * g->a_col]) * of_bfloat(b[k * g->b_row + j * g->b_col]);
      double want = !in ? 77 : wide ? sum : rounded(sum);
      if (got != want)
        fail_msg("%dx%dx%d: element %d, %d is %g, want %g", (int)g->m, (int)g->k, (int)g->n, (int)i, (int)j, got, want);
    }
}

/* All blocks end where what they hold does: reading or writing beyond shows under the sanitizer. */
static void check_tiles(world *w, int64_t m, int64_t k, int64_t n) {
  bool wide = pick(w, 0, 1);
  mx_gemm g = {.m = m, .n = n, .k = k, .c_row = n + pick(w, 0, 5)};
  strides_of(w, m, k, &g.a_row, &g.a_col);
  strides_of(w, k, n, &g.b_row, &g.b_col);
  int64_t of_c = (m - 1) * g.c_row + n;
  uint16_t *a = numbers(w, extent(m, g.a_row, k, g.a_col)), *b = numbers(w, extent(k, g.b_row, n, g.b_col));
  char *c = malloc((size_t)of_c * (wide ? 4 : 2));
  for (int64_t i = 0; i < of_c; i++) mx_store_double(wide ? MLAX_FLOAT32 : MLAX_BFLOAT16, c + i * (wide ? 4 : 2), 77);
  g.a = (char *)a, g.b = (char *)b, g.c = c;
  mx_tile part = {0, m, 0, n};
  if (pick(w, 0, 2) == 0) part = (mx_tile){m / 3, m - m / 4, n / 3, n - n / 4};
  size_t bytes = (loops[wide]->scratch(&g, part) + 63) / 64 * 64;
  void *scratch = aligned_alloc(64, bytes);
  memset(scratch, 0xFF, bytes); /* NaN */
  loops[wide]->multiply(&g, part, scratch);
  check_sums(&g, part, wide);
  free(a), free(b), free(c), free(scratch);
}

static void test_tiles(void **state) {
  (void)state;
  static const int64_t large[][3] = {{40, 1500, 300}, {1100, 40, 70}, {33, 2100, 64}, {550, 1030, 33},
                                     {1, 3000, 50},   {50, 3000, 1},  {20, 70, 4500}};
  world w;
  world_open(&w, 1);
  if (!mx_has_matrix_tiles() || !loops[0]->multiply) {
    world_close(&w);
    skip();
  }
  for (int64_t m = 1; m <= 70; m++)
    for (int r = 0; r < 8; r++) check_tiles(&w, m, pick(&w, 1, 200), pick(&w, 1, 70));
  for (int64_t k = 1; k <= 70; k++)
    for (int r = 0; r < 4; r++) check_tiles(&w, pick(&w, 1, 40), k, pick(&w, 1, 40));
  for (size_t s = 0; s < sizeof large / sizeof *large; s++)
    for (int r = 0; r < 5; r++) check_tiles(&w, large[s][0], large[s][1], large[s][2]);
  world_close(&w);
}

/* -- products ------------------------------------------------------------------------------------------------------ */

static mx_array *multiply(mx_ctx *c, mx_array *x, mx_array *y, const mx_params *p, int dtype) {
  return mx_dot_general(c, x, y, &p->dot.x_contract, &p->dot.y_contract, &p->dot.x_batch, &p->dot.y_batch, dtype);
}

/* The same bits as float32 gives: sums of these numbers are exact. */
static void check_product(world *w, mx_array *x, mx_array *y, const mx_params *p) {
  mx_ctx *c = &w->ctx;
  mx_array *wide = multiply(c, mx_convert(c, x, MLAX_FLOAT32), mx_convert(c, y, MLAX_FLOAT32), p, -1);
  mx_array *got = multiply(c, x, y, p, -1), *got_wide = multiply(c, x, y, p, MLAX_FLOAT32);
  if (!wide || !got || !got_wide) fail_msg("%s", c->error.text);
  assert_int_equal(got->aval.dtype, MLAX_BFLOAT16);
  assert_same(got, mx_convert(c, wide, MLAX_BFLOAT16), 0);
  assert_same(got_wide, wide, 0);
}

/* Batch, rows, columns and two contracted axes in any order and layout. */
static void test_layouts(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 400; i++) {
    int64_t n[6] = {pick(&w, 1, 3), pick(&w, 1, 40), pick(&w, 1, 40), pick(&w, 1, 12), pick(&w, 1, 12), pick(&w, 1, 2)};
    mx_dims of_x = {5, {0, 1, 3, 4, 5}}, of_y = {5, {0, 2, 3, 4, 5}}, ox = random_order(&w, 5),
            oy = random_order(&w, 5);
    mx_dims x = {.n = 5}, y = {.n = 5};
    mx_params p = {.dot = {.x_contract = {.n = 2}, .y_contract = {.n = 2}, .x_batch = {.n = 2}, .y_batch = {.n = 2}}};
    for (int j = 0; j < 5; j++) {
      x.v[ox.v[j]] = n[of_x.v[j]], y.v[oy.v[j]] = n[of_y.v[j]];
      bool batch = j == 0 || j == 4;
      if (j == 1) continue;
      int at = j == 0 || j == 2 ? 0 : 1;
      (batch ? &p.dot.x_batch : &p.dot.x_contract)->v[at] = ox.v[j];
      (batch ? &p.dot.y_batch : &p.dot.y_contract)->v[at] = oy.v[j];
    }
    check_product(&w, random_layout(&w, MLAX_BFLOAT16, &x), random_layout(&w, MLAX_BFLOAT16, &y), &p);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static const mx_params plain = {.dot = {.x_contract = {1, {1}}, .y_contract = {1, {0}}}};

static void test_matrices(void **state) {
  (void)state;
  static const int64_t sizes[][3] = {{1, 300, 70},   {70, 300, 1},   {13, 1, 29},    {65, 400, 33}, {128, 784, 10},
                                     {300, 37, 640}, {700, 1100, 5}, {2, 2, 3},      {96, 96, 96},  {1, 1, 9000},
                                     {9000, 1, 1},   {16, 16, 16},   {430, 440, 410}};
  for (int threads = 1; threads <= 3; threads++) {
    world w;
    mx_ctx *c = world_open(&w, threads);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
      for (int how = 0; how < 4; how++) {
        int64_t m = sizes[i][0], k = sizes[i][1], n = sizes[i][2];
        mx_dims swap = {2, {1, 0}}, xs = {2, {how & 1 ? k : m, how & 1 ? m : k}},
                ys = {2, {how & 2 ? n : k, how & 2 ? k : n}};
        mx_array *x = random_array(&w, MLAX_BFLOAT16, &xs), *y = random_array(&w, MLAX_BFLOAT16, &ys);
        check_product(&w, how & 1 ? mx_transpose(c, x, &swap) : x, how & 2 ? mx_transpose(c, y, &swap) : y, &plain);
        mx_frame_release(c, 0);
      }
    world_close(&w);
  }
}

/* The way in which a product is cut does not show in its bits. */
static void test_threads(void **state) {
  (void)state;
  static const int64_t sizes[][3] = {{150, 1700, 170}, {1100, 40, 90}, {70, 800, 300}, {9, 1200, 400}, {1, 900, 300}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    size_t bytes = (size_t)(sizes[i][0] * sizes[i][2]) * sizeof(float);
    float *r[3];
    for (int threads = 1; threads <= 3; threads++) {
      world w;
      mx_ctx *c = world_open(&w, threads);
      mx_array *x = mx_exp(c, random_array(&w, MLAX_BFLOAT16, &(mx_dims){2, {sizes[i][0], sizes[i][1]}}));
      mx_array *y = mx_sin(c, random_array(&w, MLAX_BFLOAT16, &(mx_dims){2, {sizes[i][1], sizes[i][2]}}));
      r[threads - 1] = malloc(bytes);
      mx_array_read_all(multiply(c, x, y, &plain, MLAX_FLOAT32), r[threads - 1]);
      world_close(&w);
    }
    assert_memory_equal(r[0], r[1], bytes);
    assert_memory_equal(r[0], r[2], bytes);
    for (int t = 0; t < 3; t++) free(r[t]);
  }
}

/* A NaN and infinities show where they should, and nowhere else: what fills tiles up meets none of them. */
static void test_special_numbers(void **state) {
  (void)state;
  static const double values[] = {NAN, INFINITY, -INFINITY, 1e38, 1e-40};
  enum { M = 29, K = 401, N = 45 };
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_dims swap = {2, {1, 0}};
  for (int how = 0; how < 10; how++) {
    mx_array *x = random_array(&w, MLAX_BFLOAT16, &(mx_dims){2, {M, K}});
    mx_array *y = mx_full(c, MLAX_BFLOAT16, &(mx_dims){2, {K, N}}, 1);
    double put = values[how / 2];
    mx_store_double(MLAX_BFLOAT16, mx_data(x) + 2 * (28 * K + 400), put);
    if (how % 2) x = mx_transpose(c, mx_matmul(c, mx_transpose(c, y, &swap), mx_transpose(c, x, &swap)), &swap);
    else x = mx_matmul(c, x, y);
    double *v = read_doubles(x);
    for (int i = 0; i < M * N; i++) {
      if (i / N != 28 || put == 1e-40) assert_true(fabs(v[i]) < 1e4);
      else assert_true(isnan(put) ? isnan(v[i]) : put == 1e38 ? v[i] > 9.9e37 && isfinite(v[i]) : v[i] == put);
    }
    free(v);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static bool use_all(mlax_engine *e, void *arg) {
  (void)arg;
  mx_ctx c;
  if (!mx_ctx_init(&c, e)) return false;
  mx_array *x = mx_convert(&c, mx_iota(&c, MLAX_FLOAT32, &(mx_dims){2, {20, 30}}, 1), MLAX_BFLOAT16);
  mx_array *y = x ? mx_transpose(&c, x, &(mx_dims){2, {1, 0}}) : NULL;
  mx_params both = {.dot = {.x_contract = {2, {0, 1}}, .y_contract = {2, {1, 0}}}};
  bool ok = y && mx_matmul(&c, x, y) && multiply(&c, y, x, &plain, MLAX_FLOAT32) && multiply(&c, x, y, &both, -1);
  mx_frame_release(&c, 0);
  mx_ctx_close(&c);
  return ok;
}

static void test_failing_allocations(void **state) {
  (void)state;
  const char *problem = fault_sweep(use_all, NULL);
  if (problem) fail_msg("%s", problem);
}

/* -- a system that refuses ----------------------------------------------------------------------------------------- */

#if defined(__x86_64__) && defined(__linux__)
/* From here on the system answers EPERM to requests of tiles. False: it knows no such filters. */
static bool refuse_tiles(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_arch_prctl, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int product_without_tiles(void) {
  world w;
  if (!refuse_tiles()) return 0;
  world_open(&w, 1);
  mx_array *x = random_array(&w, MLAX_BFLOAT16, &(mx_dims){2, {40, 50}});
  mx_array *y = random_array(&w, MLAX_BFLOAT16, &(mx_dims){2, {50, 60}});
  check_product(&w, x, y, &plain);
  world_close(&w);
  return mx_has_matrix_tiles() ? 1 : 0;
}

/* In a process of its own, before this one has asked. */
static void test_refused(void **state) {
  (void)state;
  int status = 0;
  pid_t child = fork();
  if (child == 0) _exit(product_without_tiles());
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
#else
static void test_refused(void **state) { (void)state; }
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_tiles),
      cmocka_unit_test(test_layouts),
      cmocka_unit_test(test_matrices),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_special_numbers),
      cmocka_unit_test(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
