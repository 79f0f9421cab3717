/* test_random.c: threefry2x32 and the draws: the authors' vectors, JAX's numbers, laws of mapping and differentiation.
 */
#include "../../src/ops/random.h"
#include "arrays.h"

static mx_array *key_of(mx_ctx *c, int64_t seed) { return mx_random_key(c, mx_scalar_int(c, MLAX_INT64, seed)); }

static const mx_dims four = {.n = 1, .v = {4}}, eight = {.n = 1, .v = {8}}, none = {0};

static void assert_ints(const mx_array *x, int n, const int64_t *want) {
  assert_non_null(x);
  assert_int_equal(x->aval.size, n);
  int64_t *got = read_ints(x);
  for (int i = 0; i < n; i++)
    if (got[i] != want[i]) fail_msg("element %d is %lld, want %lld", i, (long long)got[i], (long long)want[i]);
  free(got);
}
#define INTS(...)                                                                                                      \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

static void assert_near(const mx_array *x, int n, const double *want, double tolerance) {
  assert_non_null(x);
  assert_int_equal(x->aval.size, n);
  double *got = read_doubles(x);
  for (int i = 0; i < n; i++)
    if (!(fabs(got[i] - want[i]) <= tolerance * (1 + fabs(want[i]))))
      fail_msg("element %d is %.9g, want %.9g", i, got[i], want[i]);
  free(got);
}
#define NUMBERS(...)                                                                                                   \
  (int)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), (double[]) { __VA_ARGS__ }

/* -- the hash ----------------------------------------------------------------------------------------------------- */

/* Random123's known answers for threefry2x32 with 20 rounds: key, counter, result. */
static void test_vectors(void **state) {
  (void)state;
  static const uint32_t vectors[3][6] = {{0, 0, 0, 0, 0x6b200159, 0x99ba4efe},
                                         {~0u, ~0u, ~0u, ~0u, 0x1cb996fc, 0xbb002be7},
                                         {0x13198a2e, 0x03707344, 0x243f6a88, 0x85a308d3, 0xc4923a9c, 0x483df7a0}};
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 3; i++) {
    mx_array *in[4], *out[2];
    for (int k = 0; k < 4; k++) in[k] = mx_scalar_int(c, MLAX_UINT32, vectors[i][k]);
    assert_true(mx_threefry2x32(c, in[0], in[1], in[2], in[3], out));
    assert_int_equal(mx_array_item_int(out[0]), vectors[i][4]);
    assert_int_equal(mx_array_item_int(out[1]), vectors[i][5]);
  }
  world_close(&w);
}

static uint32_t rotate(uint32_t v, int by) { return v << by | v >> (32 - by); }

static void hash_plainly(const uint32_t k[2], const uint32_t x[2], uint32_t y[2]) {
  static const int rotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  uint32_t ks[3] = {k[0], k[1], k[0] ^ k[1] ^ 0x1BD11BDA};
  y[0] = x[0] + ks[0], y[1] = x[1] + ks[1];
  for (uint32_t i = 0; i < 5; i++) {
    for (int r = 0; r < 4; r++) y[0] += y[1], y[1] = rotate(y[1], rotations[i % 2][r]) ^ y[0];
    y[0] += ks[(i + 1) % 3], y[1] += ks[(i + 2) % 3] + i + 1;
  }
}

static mx_array *random_words(world *w, const mx_dims *shape) {
  mx_array *x = random_layout(w, MLAX_UINT32, shape);
  uint32_t *base = x->buffer->data;
  for (size_t i = 0; i < x->buffer->bytes / 4; i++) base[i] = (uint32_t)(next_bits(w) >> 16);
  return x;
}

/* Operands of all layouts and shapes that broadcast, in runs shorter and longer than the kernel's rows. */
static void test_layouts(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 60; i++) {
    mx_dims shape = {.n = 2, .v = {pick(&w, 1, 4), i % 4 ? pick(&w, 1, 9) : pick(&w, 500, 1300)}};
    mx_array *in[4], *out[2];
    int64_t *v[4], *y[2];
    for (int k = 0; k < 4; k++) {
      mx_dims own = shape;
      for (int d = 0; d < 2; d++)
        if (pick(&w, 0, 2) == 0) own.v[d] = 1;
      in[k] = random_words(&w, &own);
      v[k] = read_ints(mx_broadcast(c, in[k], &shape));
    }
    assert_true(mx_threefry2x32(c, in[0], in[1], in[2], in[3], out));
    mx_aval all;
    assert_true(mx_shape_broadcast(&in[0]->aval, &in[1]->aval, &all));
    for (int r = 0; r < 2; r++) y[r] = read_ints(mx_broadcast(c, out[r], &shape));
    for (int64_t j = 0; j < shape.v[0] * shape.v[1]; j++) {
      uint32_t got[2];
      hash_plainly((uint32_t[]){(uint32_t)v[0][j], (uint32_t)v[1][j]},
                   (uint32_t[]){(uint32_t)v[2][j], (uint32_t)v[3][j]}, got);
      assert_int_equal(y[0][j], got[0]);
      assert_int_equal(y[1][j], got[1]);
    }
    for (int k = 0; k < 4; k++) free(v[k]);
    for (int r = 0; r < 2; r++) free(y[r]);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* -- JAX's numbers ------------------------------------------------------------------------------------------------ */

static void test_keys(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  assert_ints(key_of(c, 0x123456789abcdef0), INTS(0x12345678, 0x9abcdef0));
  assert_ints(key_of(c, -1), INTS(0xffffffff, 0xffffffff));
  assert_ints(mx_random_keys(c, key_of(c, 0), 2), INTS(1797259609, 2579123966, 928981903, 3453687069));
  mx_array *pair[2];
  assert_true(mx_random_split(c, key_of(c, 0), 2, pair));
  assert_ints(pair[1], INTS(928981903, 3453687069));
  assert_ints(mx_random_fold_in(c, key_of(c, 42), mx_scalar_int(c, MLAX_INT32, 7)), INTS(2547012911, 1371500959));
  assert_ints(mx_random_keys(c, key_of(c, 0), 0), 0, NULL);
  world_close(&w);
}

static void test_bits(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_array *key = key_of(c, 0);
  assert_ints(mx_random_bits(c, key, &four, MLAX_UINT32), INTS(0xf29a4fa7, 0xfa843692, 0x55110e28, 0x77faa835));
  assert_ints(mx_random_bits(c, key, &four, MLAX_UINT8), INTS(167, 146, 40, 53));
  assert_ints(mx_random_bits(c, key, &four, MLAX_UINT16), INTS(20391, 13970, 3624, 43061));
  assert_ints(mx_random_bits(c, key, &(mx_dims){.n = 2, .v = {1, 2}}, MLAX_UINT64),
              INTS(0x6b20015999ba4efe, 0x375f238fcddb151d));
  assert_ints(mx_random_bits(c, key, &none, MLAX_UINT32), INTS(0xf29a4fa7));
  world_close(&w);
}

static void test_floats(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_array *key = key_of(c, 0), *two = mx_scalar(c, MLAX_FLOAT32, 2), *minus = mx_scalar(c, MLAX_FLOAT32, -2);
  mx_array *u = mx_random_uniform(c, key, &four, MLAX_FLOAT32, 0, 1);
  assert_ints(mx_bitcast(c, u, MLAX_UINT32), INTS(0x3f729a4e, 0x3f7a8436, 0x3eaa221c, 0x3eeff550));
  assert_near(mx_random_normal(c, key, &four, MLAX_FLOAT32), NUMBERS(1.6226422, 2.0252647, -0.43359444, -0.07861735),
              1e-6);
  assert_near(mx_random_normal(c, key_of(c, 42), &none, MLAX_FLOAT32), NUMBERS(-0.028304616), 1e-6);
  assert_near(mx_random_truncated_normal(c, key, minus, two, &four, MLAX_FLOAT32),
              NUMBERS(1.455959, 1.7147484, -0.4126753, -0.07503343), 1e-6);
  assert_near(mx_random_gumbel(c, key, &four, MLAX_FLOAT32), NUMBERS(2.9233725, 3.8326178, -0.09689324, 0.27725708),
              1e-6);
  world_close(&w);
}

static void test_choices(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_array *key = key_of(c, 0), *zero = mx_scalar_int(c, MLAX_INT32, 0), *nine = mx_scalar_int(c, MLAX_INT32, 9);
  assert_ints(mx_random_randint(c, key, &eight, zero, nine, MLAX_INT32), INTS(9, 0, 2, 3, 1, 7, 2, 3));
  assert_ints(mx_random_randint(c, key_of(c, 72), &none, zero, nine, MLAX_INT32), INTS(7));
  assert_ints(mx_random_permutation(c, key, 8), INTS(0, 1, 5, 6, 4, 3, 2, 7));
  assert_ints(mx_random_permutation(c, key_of(c, 42), 10), INTS(7, 4, 2, 5, 3, 6, 8, 9, 0, 1));
  assert_ints(mx_random_bernoulli(c, key, mx_scalar(c, MLAX_FLOAT32, 0.5), &eight), INTS(0, 0, 1, 1, 0, 1, 1, 0));
  assert_ints(mx_random_permutation(c, key, 0), 0, NULL);
  assert_ints(mx_random_permutation(c, key, 1), INTS(0));
  world_close(&w);
}

/* Gamma's derivative against quadrature in 40 digits: in the series, the fraction, and the expansion for large a. */
static void test_loggamma_grad(void **state) {
  (void)state;
  static const double known[][3] = {{0.01, -200, 19943.911454213},
                                    {0.3, 1.1114010913797, 1.3436453003067},
                                    {2.5, 2.3423531707795, 0.19227122924844},
                                    {100, 4.8675344504556, 0.0087600341987479},
                                    {9999, 9.2398006256362, 9.8540765065748e-05},
                                    {10001, 9.2399977130155, 9.8521202739171e-05},
                                    {1e6, 13.818506066944, 9.9850315968329e-07}};
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    mx_array *a = mx_scalar(c, MLAX_FLOAT64, known[i][0]), *log_x = mx_scalar(c, MLAX_FLOAT64, known[i][1]);
    double got = mx_array_item_double(mx_loggamma_grad(c, a, log_x));
    if (fabs(got - known[i][2]) > 1e-11 * known[i][2]) fail_msg("%zu: %.17g, want %.17g", i, got, known[i][2]);
  }
  world_close(&w);
}

/* -- ranges ------------------------------------------------------------------------------------------------------- */

static void assert_within(const mx_array *x, double least, double most) {
  assert_non_null(x);
  double *v = read_doubles(x);
  for (int64_t i = 0; i < x->aval.size; i++)
    if (!(v[i] >= least && v[i] <= most)) fail_msg("%.9g is not in %.9g .. %.9g", v[i], least, most);
  free(v);
}

static void test_ranges(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  mx_dims many = {.n = 1, .v = {20000}};
  for (int dtype = MLAX_FLOAT16; dtype <= MLAX_FLOAT64; dtype++) {
    mx_array *key = key_of(c, dtype), *lo = mx_scalar(c, MLAX_FLOAT32, 3), *hi = mx_scalar(c, MLAX_FLOAT32, 3.5);
    assert_within(mx_random_uniform(c, key, &many, dtype, 0, 1), 0, 1);
    assert_within(mx_random_uniform(c, key, &many, dtype, -2.5, 0.25), -2.5, 0.25);
    assert_within(mx_random_truncated_normal(c, key, lo, hi, &many, dtype), 3, 3.5);
    assert_within(mx_random_normal(c, key, &many, dtype), -9, 9);
    assert_within(mx_random_gumbel(c, key, &many, dtype), -8, 800);
    assert_within(mx_random_exponential(c, key, &many, dtype), 0, 800);
    assert_within(mx_random_laplace(c, key, &many, dtype), -800, 800);
    assert_within(mx_random_logistic(c, key, &many, dtype), -800, 800);
    assert_within(mx_random_cauchy(c, key, &many, dtype), -1e20, 1e20);
    mx_frame_release(c, 0);
  }
  for (int dtype = MLAX_INT8; dtype <= MLAX_UINT64; dtype++) {
    mx_array *low = mx_scalar_int(c, dtype, 3), *high = mx_scalar_int(c, dtype, 5), *key = key_of(c, dtype);
    assert_within(mx_random_randint(c, key, &many, low, high, dtype), 3, 5);
    assert_within(mx_random_randint(c, key, &many, high, low, dtype), 5, 5); /* nothing between: the lower bound */
    mx_array *least = mx_scalar_int(c, dtype, mx_dtype_kind(dtype) == MX_KIND_INT ? INT64_MIN : 0);
    mx_array *x = mx_random_randint(c, key, &many, mx_bitcast(c, least, dtype),
                                    mx_sub(c, least, mx_scalar_int(c, dtype, 1)), dtype);
    assert_int_equal(x->aval.dtype, dtype);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* All bounds of a dtype: the whole range of bits. */
static void test_full_range(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_array *key = key_of(c, 3), *keys[2], *least = mx_scalar_int(c, MLAX_INT32, INT32_MIN),
           *most = mx_scalar_int(c, MLAX_INT32, INT32_MAX);
  assert_true(mx_random_split(c, key, 2, keys));
  mx_array *x = mx_random_randint(c, key, &eight, least, most, MLAX_INT32),
           *bits = mx_random_bits(c, keys[1], &eight, MLAX_UINT32);
  assert_same(mx_add(c, mx_convert(c, x, MLAX_UINT32), mx_scalar_int(c, MLAX_UINT32, INT32_MIN)), bits, 0);
  world_close(&w);
}

static void test_picks(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_array *key = key_of(c, 5);
  bool seen[300] = {false};
  int64_t *order = read_ints(mx_random_permutation(c, key, 300));
  for (int i = 0; i < 300; i++) {
    assert_in_range(order[i], 0, 299);
    assert_false(seen[order[i]]);
    seen[order[i]] = true;
  }
  free(order);
  mx_array *p = mx_convert(c, make_ints(c, MLAX_INT32, 4, (int64_t[]){0, 3, 0, 1}), MLAX_FLOAT32);
  for (int replace = 0; replace < 2; replace++) {
    mx_dims two = {.n = 2, .v = {1, 2}};
    int64_t *v = read_ints(mx_random_choice(c, key, 4, &two, replace, p));
    assert_true((v[0] == 1 || v[0] == 3) && (v[1] == 1 || v[1] == 3) && (replace || v[0] != v[1]));
    free(v);
  }
  mx_dims five = {.n = 1, .v = {5}};
  assert_null(mx_random_choice(c, key, 4, &five, false, NULL));
  assert_error(c, "cannot choose 5 of 4 without replacement");
  assert_null(mx_random_choice(c, key, 0, &five, true, NULL));
  assert_error(c, "cannot choose from 0 things");
  assert_null(mx_random_choice(c, key, 5, &five, true, p));
  assert_error(c, "one probability for each");
  assert_null(mx_random_categorical(c, key, p, 0, &(mx_dims){.n = MX_MAX_NDIM, .v = {1}}));
  assert_error(c, "does not fit the logits");
  world_close(&w);
}

static void test_misuse(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_array *key = key_of(c, 0), *pair = mx_random_keys(c, key, 2),
           *three = make_ints(c, MLAX_INT32, 3, (int64_t[]){1, 2, 3});
  assert_null(mx_random_normal(c, pair, &four, MLAX_FLOAT32));
  assert_error(c, "a key must be uint32[2] (got uint32[2,2])");
  assert_null(mx_random_bits(c, key, &four, MLAX_INT32));
  assert_error(c, "dtype must be an unsigned integer (got int32)");
  assert_null(mx_random_normal(c, key, &four, MLAX_INT32));
  assert_error(c, "dtype must be a float (got int32)");
  assert_null(mx_random_randint(c, key, &four, three, three, MLAX_FLOAT32));
  assert_error(c, "dtype must be an integer (got float32)");
  assert_null(mx_random_randint(c, key, &four, three, three, MLAX_INT32));
  assert_true(mx_failed(c));
  mx_clear(c);
  assert_null(mx_random_fold_in(c, key, three));
  assert_error(c, "must be one integer (got int32[3])");
  assert_null(mx_random_bernoulli(c, key, three, &four));
  assert_true(mx_failed(c));
  mx_clear(c);
  assert_null(mx_random_shuffle(c, key, mx_scalar(c, MLAX_FLOAT32, 1)));
  assert_error(c, "got a scalar");
  world_close(&w);
}

/* -- transformations ---------------------------------------------------------------------------------------------- */

enum { BITS, NORMAL, RANDINT, PERMUTATION, CHOICE, CATEGORICAL, FOLD_IN, KEYS, DRAWS };

static bool draw(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  (void)n;
  mx_dims shape = {.n = 2, .v = {2, 3}};
  mx_array *low = mx_scalar_int(c, MLAX_INT32, -3), *y = NULL;
  switch (*(int *)state) {
  case BITS: y = mx_random_bits(c, in[0], &shape, MLAX_UINT16); break;
  case NORMAL: y = mx_random_normal(c, in[0], &shape, MLAX_FLOAT32); break;
  case RANDINT: y = mx_random_randint(c, in[0], &shape, low, mx_convert(c, in[1], MLAX_INT32), MLAX_INT32); break;
  case PERMUTATION: y = mx_random_permutation(c, in[0], 5); break;
  case CHOICE: y = mx_random_choice(c, in[0], 7, &shape, false, NULL); break;
  case CATEGORICAL: y = mx_random_categorical(c, in[0], mx_broadcast(c, in[1], &four), 0, &shape); break;
  case FOLD_IN: y = mx_random_fold_in(c, in[0], mx_convert(c, in[1], MLAX_UINT8)); break;
  case KEYS: y = mx_random_keys(c, in[0], 3); break;
  }
  return y && mx_list_add(c, out, y);
}

/* Mapped over keys, over the parameter, and over both, from any axis. */
static void test_batch(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 6 * DRAWS; i++) {
    int which = i / 6, axes[2];
    mx_dims key = {.n = 1, .v = {2}};
    mx_array *in[2] = {random_mapped(&w, MLAX_UINT32, &key, 3, i % 3 != 1, &axes[0]),
                       random_mapped(&w, MLAX_FLOAT32, &none, 3, i % 3 != 0, &axes[1])};
    check_batch(&w, (mx_function){draw, &which}, in, axes, 2, 3, 0);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static bool draw_between(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  (void)n;
  mx_dims shape = {.n = 2, .v = {2, 3}};
  mx_array *y = *(bool *)state ? mx_random_truncated_normal(c, in[2], in[0], in[1], &shape, MLAX_FLOAT64)
                               : mx_random_uniform_between(c, in[2], &shape, MLAX_FLOAT64, in[0], in[1]);
  return y && mx_list_add(c, out, y);
}

static void test_derivative(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 4; i++) {
    bool truncated = i % 2;
    mx_array *low = mx_scalar(c, MLAX_FLOAT64, -0.6),
             *high = mx_full(c, MLAX_FLOAT64, &(mx_dims){.n = 1, .v = {3}}, 0.9);
    check_derivative(&w, (mx_function){draw_between, &truncated}, (mx_array *[]){low, high, key_of(c, i)}, 3, 2, 1e-5);
  }
  world_close(&w);
}

/* -- failing allocations ------------------------------------------------------------------------------------------ */

static bool use_all(mlax_engine *e, void *arg) {
  (void)arg;
  mx_ctx c;
  if (!mx_ctx_init(&c, e)) return false;
  mx_array *key = key_of(&c, 1), *one = mx_scalar(&c, MLAX_FLOAT32, 1);
  bool ok = mx_random_normal(&c, key, &four, MLAX_FLOAT32) && mx_random_permutation(&c, key, 5) &&
            mx_random_uniform_between(&c, key, &four, MLAX_FLOAT32, one, one) &&
            mx_random_choice(&c, key, 5, &four, true, NULL) && mx_random_beta(&c, key, one, one, &four, MLAX_FLOAT32) &&
            mx_random_dirichlet(&c, key, mx_full(&c, MLAX_FLOAT32, &four, 1), &none, MLAX_FLOAT32) &&
            mx_random_poisson(&c, key, mx_scalar(&c, MLAX_FLOAT32, 20), &four, MLAX_INT32);
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
      cmocka_unit_test(test_vectors),       cmocka_unit_test(test_layouts),
      cmocka_unit_test(test_keys),          cmocka_unit_test(test_bits),
      cmocka_unit_test(test_floats),        cmocka_unit_test(test_choices),
      cmocka_unit_test(test_loggamma_grad), cmocka_unit_test(test_ranges),
      cmocka_unit_test(test_full_range),    cmocka_unit_test(test_picks),
      cmocka_unit_test(test_misuse),        cmocka_unit_test(test_batch),
      cmocka_unit_test(test_derivative),    cmocka_unit_test(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
