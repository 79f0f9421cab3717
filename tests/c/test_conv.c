/* test_conv.c: convolutions and windows against their plain definitions, with parameters of any kind, in every dtype
 * and layout, and under transformations. */
#include "../../src/device/cpu/simd/simd.h"
#include "arrays.h"

static int64_t length_with_holes(int64_t n, int64_t step) { return n ? (n - 1) * step + 1 : 0; }

/* The element of x that element q of the window at place p meets; -1: none. */
static int64_t met(int64_t n, int64_t p, int64_t stride, int64_t q, int64_t dilation, int64_t lo, int64_t holes) {
  int64_t at = p * stride + q * dilation - lo;
  return at < 0 || at % holes || at / holes >= n ? -1 : at / holes;
}

static double tolerance_of(int dtype) {
  return dtype == MLAX_BFLOAT16 ? 1e-2 : dtype == MLAX_FLOAT16 ? 1e-3 : dtype == MLAX_FLOAT32 ? 2e-6 : 1e-14;
}

static void store(int dtype, char *p, double d, uint64_t i) {
  if (mx_is_float(dtype)) mx_store_double(dtype, p, d);
  else mx_store_int(dtype, p, dtype == MLAX_BOOL ? i != 0 : (int64_t)i);
}

static void strides_of(const mx_array *x, int64_t *strides) {
  int64_t step = 1;
  for (int i = x->aval.ndim - 1; i >= 0; i--) strides[i] = step, step *= x->aval.shape[i];
}

/* -- convolution: the plain definition ----------------------------------------------------------------------------- */

typedef struct plain {
  const mx_params *p;
  const mx_array *x, *k;
  const mx_aval *out;
  double *xd, *kd;
  int64_t *xi, *ki;
  int64_t xs[MX_MAX_NDIM], ks[MX_MAX_NDIM];
} plain;

static void add_terms(const plain *r, const int64_t *at, double *sum, uint64_t *whole) {
  const mx_few *xa = &r->p->conv.x_axes, *ka = &r->p->conv.k_axes, *oa = &r->p->conv.out_axes;
  int64_t o = at[oa->v[1]], in = r->k->aval.shape[ka->v[1]], outs = r->k->aval.shape[ka->v[0]], window = 1;
  int64_t fg = r->p->conv.feature_groups, bg = r->p->conv.batch_groups;
  int n = r->x->aval.ndim - 2;
  for (int i = 0; i < n; i++) window *= r->k->aval.shape[ka->v[2 + i]];
  for (int64_t t = 0; t < window * in; t++) {
    int64_t rest = t / in, c = t % in, x = 0, k = o * r->ks[ka->v[0]] + c * r->ks[ka->v[1]];
    x += (c + o / (outs / fg) * in) * r->xs[xa->v[1]];
    x += (at[oa->v[0]] + o / (outs / bg) * r->out->shape[oa->v[0]]) * r->xs[xa->v[0]];
    bool seen = true;
    for (int i = n - 1; i >= 0; i--) {
      int64_t w = r->k->aval.shape[ka->v[2 + i]], q = rest % w;
      int64_t m = met(r->x->aval.shape[xa->v[2 + i]], at[oa->v[2 + i]], r->p->conv.strides.v[i], q,
                      r->p->conv.k_dilation.v[i], r->p->conv.lo.v[i], r->p->conv.x_dilation.v[i]);
      rest /= w;
      seen &= m >= 0;
      x += m * r->xs[xa->v[2 + i]], k += q * r->ks[ka->v[2 + i]];
    }
    if (!seen) continue;
    *sum += r->xd[x] * r->kd[k];
    *whole += (uint64_t)r->xi[x] * (uint64_t)r->ki[k];
  }
}

static mx_array *plain_conv(mx_ctx *c, const mx_array *x, const mx_array *k, const mx_params *p, const mx_aval *out) {
  mx_dims shape = mx_dims_shape(out);
  mx_array *y = make(c, out->dtype, &shape);
  plain r = {.p = p, .x = x, .k = k, .out = out};
  r.xd = read_doubles(x), r.kd = read_doubles(k), r.xi = read_ints(x), r.ki = read_ints(k);
  strides_of(x, r.xs);
  strides_of(k, r.ks);
  for (int64_t e = 0; e < out->size; e++) {
    int64_t at[MX_MAX_NDIM], rest = e;
    for (int i = out->ndim - 1; i >= 0; i--) at[i] = rest % out->shape[i], rest /= out->shape[i];
    double sum = 0;
    uint64_t whole = 0;
    add_terms(&r, at, &sum, &whole);
    store(out->dtype, mx_data(y) + (size_t)e * mx_itemsize(out->dtype), sum, whole);
  }
  free(r.xd), free(r.kd), free(r.xi), free(r.ki);
  return y;
}

/* -- random parameters --------------------------------------------------------------------------------------------- */

/* Padding that cuts no more than there is. */
static void random_padding(world *w, int64_t n, int64_t *lo, int64_t *hi) {
  *lo = pick(w, -2, 3), *hi = pick(w, -2, 3);
  if (n + *lo + *hi < 0) *lo = *hi = 0;
}

static mx_few random_few(world *w, int n) {
  mx_dims order = random_order(w, n);
  mx_few f = {.n = n};
  for (int i = 0; i < n; i++) f.v[i] = order.v[i];
  return f;
}

typedef struct sizes {
  int64_t batch, channels, spatial; /* most */
} sizes;

static mx_params random_conv(world *w, sizes most, mx_dims *x, mx_dims *k) {
  int n = (int)pick(w, 1, 3);
  mx_params p = {.conv = {.strides = {0}}};
  int64_t groups = pick(w, 0, 2) ? 1 : pick(w, 1, 3), in = pick(w, 1, most.channels), outs = pick(w, 1, most.channels);
  bool of_batch = pick(w, 0, 1);
  int64_t fg = of_batch ? 1 : groups, bg = of_batch ? groups : 1;
  mx_few *lists[] = {&p.conv.strides, &p.conv.lo, &p.conv.hi, &p.conv.x_dilation, &p.conv.k_dilation};
  for (int i = 0; i < 5; i++) lists[i]->n = n;
  p.conv.x_axes = random_few(w, n + 2), p.conv.k_axes = random_few(w, n + 2), p.conv.out_axes = random_few(w, n + 2);
  if (pick(w, 0, 2) == 0) { /* channels last */
    for (int i = 0; i < n; i++) p.conv.x_axes.v[2 + i] = p.conv.k_axes.v[2 + i] = 1 + i;
    p.conv.x_axes.v[0] = p.conv.k_axes.v[0] = 0;
    p.conv.x_axes.v[1] = p.conv.k_axes.v[1] = n + 1;
    p.conv.out_axes = p.conv.x_axes;
  }
  p.conv.feature_groups = fg, p.conv.batch_groups = bg, p.conv.dtype = -1;
  *x = *k = (mx_dims){.n = n + 2};
  x->v[p.conv.x_axes.v[0]] = bg * pick(w, 1, most.batch), x->v[p.conv.x_axes.v[1]] = fg * in;
  k->v[p.conv.k_axes.v[0]] = groups * outs, k->v[p.conv.k_axes.v[1]] = in;
  for (int i = 0; i < n; i++) {
    int64_t size = pick(w, pick(w, 0, 9) ? 1 : 0, most.spatial);
    p.conv.strides.v[i] = pick(w, 1, 3);
    p.conv.x_dilation.v[i] = pick(w, 0, 1) ? 1 : pick(w, 1, 4);
    p.conv.k_dilation.v[i] = pick(w, 0, 1) ? 1 : pick(w, 1, 4);
    x->v[p.conv.x_axes.v[2 + i]] = size;
    k->v[p.conv.k_axes.v[2 + i]] = pick(w, pick(w, 0, 19) ? 1 : 0, 4);
    random_padding(w, length_with_holes(size, p.conv.x_dilation.v[i]), &p.conv.lo.v[i], &p.conv.hi.v[i]);
  }
  return p;
}

/* Whether what is left to be done behind the result was done with it. */
static bool check_conv(world *w, mx_array *x, mx_array *k, const mx_params *p) {
  mx_ctx *c = &w->ctx;
  mx_array *got = mx_conv(c, x, k, p);
  if (!got) fail_msg("%s", c->error.text);
  assert_same(got, plain_conv(c, x, k, p, &got->aval), tolerance_of(got->aval.dtype));
  mx_params q = *p;
  if (q.conv.dtype < 0) q.conv.dtype = x->aval.dtype;
  return check_after(c, &mx_prim_conv, &q, x, k);
}

static void test_conv(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 1500; i++) {
    mx_dims x, k;
    mx_params p = random_conv(&w, (sizes){3, i % 8 ? 3 : 20, 6}, &x, &k);
    int dtype = i % MX_DTYPE_COUNT;
    check_conv(&w, random_layout(&w, dtype, &x), random_layout(&w, dtype, &k), &p);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_conv_dtype(void **state) {
  (void)state;
  static const int pairs[][2] = {{MLAX_INT8, MLAX_INT32},       {MLAX_BOOL, MLAX_INT32},
                                 {MLAX_BFLOAT16, MLAX_FLOAT32}, {MLAX_UINT8, MLAX_FLOAT32},
                                 {MLAX_FLOAT32, MLAX_FLOAT64},  {MLAX_INT16, MLAX_INT64}};
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 60; i++) {
    mx_dims x, k;
    mx_params p = random_conv(&w, (sizes){2, 3, 5}, &x, &k);
    p.conv.dtype = pairs[i % 6][1];
    check_conv(&w, random_layout(&w, pairs[i % 6][0], &x), random_layout(&w, pairs[i % 6][0], &k), &p);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* {batch, spatial..., channels} and {out, spatial..., in}, without options. */
static mx_params simple_conv(int n) {
  mx_params p = {.conv = {.feature_groups = 1, .batch_groups = 1, .dtype = -1}};
  mx_few *lists[] = {&p.conv.strides, &p.conv.lo, &p.conv.hi, &p.conv.x_dilation, &p.conv.k_dilation};
  for (int i = 0; i < 5; i++) lists[i]->n = n;
  for (int i = 0; i < n; i++) p.conv.strides.v[i] = p.conv.x_dilation.v[i] = p.conv.k_dilation.v[i] = 1;
  p.conv.x_axes = (mx_few){.n = n + 2, .v = {0, n + 1}};
  for (int i = 0; i < n; i++) p.conv.x_axes.v[2 + i] = 1 + i;
  p.conv.k_axes = p.conv.out_axes = p.conv.x_axes;
  return p;
}

/* Several tiles, several parts of the sum, several slices: as in training. */
static void test_conv_tiles(void **state) {
  (void)state;
  static const int64_t forms[][6] = {/* batch, height, channels, out, window, stride */
                                     {2, 20, 100, 40, 3, 1},
                                     {3, 16, 3, 33, 7, 2},
                                     {4, 28, 1, 6, 5, 1},
                                     {1, 9, 260, 8, 3, 2}};
  for (int threads = 1; threads <= 2; threads++) {
    world w;
    mx_ctx *c = world_open(&w, threads);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
      for (int dtype = MLAX_FLOAT32; dtype <= MLAX_FLOAT64; dtype++) {
        const int64_t *f = forms[i];
        mx_params p = simple_conv(2), t = p;
        for (int s = 0; s < 2; s++) p.conv.strides.v[s] = f[5], p.conv.lo.v[s] = p.conv.hi.v[s] = f[4] / 2;
        mx_dims x = {4, {f[0], f[1], f[1], f[2]}}, k = {4, {f[3], f[4], f[4], f[2]}};
        check_conv(&w, random_array(&w, dtype, &x), random_array(&w, dtype, &k), &p);
        /* the gradient of a kernel: batch and channels exchanged, a window as large as the picture */
        t.conv.x_axes.v[0] = t.conv.k_axes.v[0] = 3, t.conv.x_axes.v[1] = t.conv.k_axes.v[1] = 0;
        for (int s = 0; s < 2; s++) t.conv.k_dilation.v[s] = f[5], t.conv.lo.v[s] = t.conv.hi.v[s] = f[4] / 2;
        mx_dims g = {4, {f[0], (f[1] - 1) / f[5] + 1, (f[1] - 1) / f[5] + 1, f[3]}};
        check_conv(&w, random_array(&w, dtype, &x), random_array(&w, dtype, &g), &t);
        mx_frame_release(c, 0);
      }
    world_close(&w);
  }
}

/* Lines of places: tile edges, columns beside vectors, borders wider than the window's half, large kernels in parts,
 * groups, merged axes, results that are not dense. */
static void test_conv_lines(void **state) {
  (void)state;
  static const int64_t forms[][10] = {
      /* batch, height, width, channels, out, window, stride, lo, hi, groups */
      {2, 3, 12, 1, 1, 3, 1, 1, 1, 1},    {1, 2, 13, 3, 16, 3, 1, 1, 1, 1},   {1, 5, 25, 5, 17, 7, 1, 3, 3, 1},
      {2, 4, 24, 8, 31, 3, 2, 0, 1, 1},   {1, 3, 40, 16, 33, 1, 1, 0, 0, 1},  {3, 2, 14, 4, 64, 1, 1, 1, 0, 1},
      {1, 2, 30, 6, 12, 5, 2, 4, 4, 2},   {1, 1, 220, 7, 9, 9, 1, 8, 0, 1},   {1, 3, 16, 48, 34, 3, 1, 1, 1, 1},
      {1, 14, 13, 48, 40, 3, 1, 1, 1, 1}, {1, 1, 70, 2, 5, 40, 1, 30, 20, 1}, {1, 3, 50, 3, 4, 4, 3, -2, -1, 1}};
  for (int threads = 1; threads <= 3; threads += 2) {
    world w;
    mx_ctx *c = world_open(&w, threads);
    for (size_t i = 0; i < 3 * sizeof forms / sizeof *forms; i++) {
      const int64_t *f = forms[i / 3];
      int dtype = i % 3 == 2 ? MLAX_FLOAT64 : MLAX_FLOAT32;
      int64_t tall = f[5] < 3 ? f[5] : 3;
      mx_params p = simple_conv(2);
      p.conv.feature_groups = f[9];
      for (int s = 0; s < 2; s++) p.conv.strides.v[s] = f[6];
      p.conv.lo.v[1] = f[7], p.conv.hi.v[1] = f[8], p.conv.lo.v[0] = p.conv.hi.v[0] = tall - 1;
      if (i % 3 == 1) p.conv.out_axes = (mx_few){4, {0, 1, 2, 3}}; /* channels first */
      mx_dims x = {4, {f[0], f[1], f[2], f[3]}}, k = {4, {f[4], tall, f[5], f[3] / f[9]}};
      check_conv(&w, random_array(&w, dtype, &x), random_array(&w, dtype, &k), &p);
      p.conv.k_axes = (mx_few){4, {3, 2, 0, 1}};
      k = (mx_dims){4, {tall, f[5], f[3] / f[9], f[4]}};
      check_conv(&w, random_array(&w, dtype, &x), random_array(&w, dtype, &k), &p);
      mx_frame_release(c, 0);
    }
    world_close(&w);
  }
}

/* Element i of an array becomes v. */
static void put(mx_array *x, int64_t i, double v) {
  mx_store_double(x->aval.dtype, mx_data(x) + (size_t)(i % x->aval.size) * mx_itemsize(x->aval.dtype), v);
}

/* 3 x 3, moving by one: odd pictures, borders that are not alike, parts of vectors, several blocks of tiles; numbers
 * that are not finite reach what they belong to, and nothing else. */
static void test_conv_winograd(void **state) {
  (void)state;
  if (mx_isa() == MX_ISA_BASE) return; /* there is no such way there */
  static const int64_t forms[][7] = {  /* batch, height, width, channels, out, lo, hi */
                                     {2, 9, 8, 16, 26, 1, 1},  {1, 12, 13, 17, 33, 0, 2}, {3, 7, 10, 40, 16, 2, -1},
                                     {20, 6, 5, 32, 18, 1, 1}, {1, 18, 19, 64, 16, 1, 0}, {1, 7, 7, 70, 24, 3, 3},
                                     {9, 10, 10, 16, 36, 1, 1}};
  static const double special[] = {0, INFINITY, NAN, -INFINITY};
  for (int threads = 1; threads <= 3; threads += 2) {
    world w;
    mx_ctx *c = world_open(&w, threads);
    for (size_t i = 0; i < 4 * sizeof forms / sizeof *forms; i++) {
      const int64_t *f = forms[i / 4];
      int dtype = i % 4 == 3 ? MLAX_BFLOAT16 : MLAX_FLOAT32;
      mx_params p = simple_conv(2), t;
      p.conv.lo.v[0] = p.conv.lo.v[1] = f[5], p.conv.hi.v[0] = f[6], p.conv.hi.v[1] = f[6] + 1;
      mx_dims x = {4, {f[0], f[1], f[2], f[3]}}, k = {4, {f[4], 3, 3, f[3]}}, y = x;
      mx_array *xs = random_array(&w, dtype, &x), *ks = random_array(&w, dtype, &k);
      if (i % 4 == 1) put(xs, 12345, special[i % 3 + 1]), put(xs, 77, INFINITY);
      if (i % 4 == 2) put(ks, 999, special[i % 3 + 1]);
      check_conv(&w, xs, ks, &p);
      t = p; /* the kernel's gradient */
      t.conv.x_axes.v[0] = t.conv.k_axes.v[0] = 3, t.conv.x_axes.v[1] = t.conv.k_axes.v[1] = 0;
      for (int s = 0; s < 2; s++) y.v[1 + s] = x.v[1 + s] + p.conv.lo.v[s] + p.conv.hi.v[s] - 2;
      y.v[3] = f[4];
      check_conv(&w, xs, random_array(&w, dtype, &y), &t);
      mx_frame_release(c, 0);
    }
    world_close(&w);
  }
}

/* What is done behind a convolution of channels-last data: by lines, by tiles of rows, in panels, by Winograd's way, by
 * channels. */
static void test_conv_after(void **state) {
  (void)state;
  static const int64_t forms[][9] = {
      /* batch, height, width, channels, out, window, stride, padding, groups */
      {2, 20, 30, 3, 16, 3, 1, 1, 1}, {1, 3, 300, 8, 40, 3, 1, 1, 1},  {2, 9, 9, 20, 40, 1, 1, 0, 1},
      {5, 6, 6, 33, 24, 3, 2, 1, 1},  {3, 16, 3, 3, 33, 7, 2, 3, 1},   {4, 30, 32, 16, 16, 3, 1, 1, 1},
      {5, 7, 23, 32, 40, 3, 1, 1, 1}, {1, 63, 95, 16, 48, 3, 1, 1, 1}, {2, 20, 20, 24, 24, 3, 1, 1, 24}};
  for (int threads = 1; threads <= 3; threads += 2) {
    world w;
    mx_ctx *c = world_open(&w, threads);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
      const int64_t *f = forms[i];
      mx_params p = simple_conv(2);
      for (int s = 0; s < 2; s++) p.conv.strides.v[s] = f[6], p.conv.lo.v[s] = p.conv.hi.v[s] = f[7];
      p.conv.feature_groups = f[8];
      mx_dims x = {4, {f[0], f[1], f[2], f[3]}}, k = {4, {f[4], f[5], f[5], f[3] / f[8]}};
      assert_true(check_conv(&w, random_array(&w, MLAX_FLOAT32, &x), random_array(&w, MLAX_FLOAT32, &k), &p));
      p.conv.x_dilation.v[1] = 2;
      assert_false(check_conv(&w, random_array(&w, MLAX_FLOAT32, &x), random_array(&w, MLAX_FLOAT32, &k), &p));
      mx_frame_release(c, 0);
    }
    world_close(&w);
  }
}

/* One channel a group, side by side; and the gradient of its kernel, with batch groups. */
static void test_depthwise(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 24; i++) {
    int dtype = i % 3 == 2 ? MLAX_FLOAT64 : MLAX_FLOAT32;
    int64_t channels = i % 2 ? 33 : 7;
    mx_params p = simple_conv(2);
    mx_dims x = {4, {2, 9, 8, channels}}, k = {4, {channels, 3, 2, 1}};
    p.conv.feature_groups = channels;
    p.conv.strides.v[0] = 1 + i % 3, p.conv.lo.v[1] = p.conv.hi.v[0] = i % 4, p.conv.x_dilation.v[1] = 1 + i / 12;
    check_conv(&w, random_layout(&w, dtype, &x), random_array(&w, dtype, &k), &p);
    check_conv(&w, random_array(&w, dtype, &x), random_layout(&w, dtype, &k), &p);
    p.conv.x_axes.v[0] = p.conv.k_axes.v[0] = 3, p.conv.x_axes.v[1] = p.conv.k_axes.v[1] = 0;
    p.conv.feature_groups = 1, p.conv.batch_groups = channels;
    mx_dims g = {4, {2, 5, 4, channels}};
    check_conv(&w, random_array(&w, dtype, &x), random_array(&w, dtype, &g), &p);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* What the tiles of single channels are cut by: places, parts of vectors, lines, slices of the sum; channels first,
 * too; and both gradients' forms, whose window is as large as the picture. */
static void test_channels(void **state) {
  (void)state;
  static const int64_t forms[][8] = {
      /* batch, height, width, channels, outs of each, window, stride, dilation */
      {1, 1, 200, 5, 1, 3, 1, 1},  {2, 7, 7, 16, 1, 3, 1, 1},  {2, 9, 13, 31, 2, 5, 2, 1},
      {1, 12, 6, 33, 1, 3, 1, 2},  {1, 3, 20, 65, 3, 1, 1, 1}, {40, 9, 8, 17, 1, 3, 2, 1},
      {1, 40, 40, 8, 1, 11, 1, 1}, {2, 2, 2, 48, 4, 5, 1, 1},  {12, 33, 5, 9, 2, 4, 3, 1}};
  for (int threads = 1; threads <= 3; threads += 2) {
    world w;
    mx_ctx *c = world_open(&w, threads);
    for (size_t i = 0; i < 4 * sizeof forms / sizeof *forms; i++) {
      const int64_t *f = forms[i / 4];
      int dtype = i & 1 ? MLAX_FLOAT64 : MLAX_FLOAT32;
      mx_params p = simple_conv(2), t;
      p.conv.feature_groups = f[3];
      for (int s = 0; s < 2; s++) {
        p.conv.strides.v[s] = f[6], p.conv.k_dilation.v[s] = f[7];
        p.conv.lo.v[s] = f[5] / 2 * f[7] + s, p.conv.hi.v[s] = f[5] * f[7] / 2;
      }
      mx_dims x = {4, {f[0], f[1], f[2], f[3]}}, k = {4, {f[3] * f[4], f[5], f[5], 1}}, y = {.n = 4};
      if (i & 2)
        p.conv.x_axes = p.conv.out_axes = (mx_few){4, {0, 1, 2, 3}}, x = (mx_dims){4, {f[0], f[3], f[1], f[2]}};
      t = p;
      check_conv(&w, random_array(&w, dtype, &x), random_array(&w, dtype, &k), &p);
      mx_array *r = mx_conv(c, random_array(&w, dtype, &x), random_array(&w, dtype, &k), &p);
      for (int a = 0; a < 4; a++) y.v[a] = r->aval.shape[a];
      int64_t b = p.conv.x_axes.v[0], d = p.conv.x_axes.v[1];
      t.conv.x_axes.v[0] = d, t.conv.x_axes.v[1] = b;
      t.conv.k_axes = t.conv.x_axes;
      t.conv.feature_groups = 1, t.conv.batch_groups = f[3];
      t.conv.strides = p.conv.k_dilation, t.conv.k_dilation = p.conv.strides;
      check_conv(&w, random_array(&w, dtype, &x), random_array(&w, dtype, &y), &t);
      mx_frame_release(c, 0);
    }
    world_close(&w);
  }
}

static bool apply_conv(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  (void)n;
  mx_array *y = mx_conv(c, in[0], in[1], state);
  return y && mx_list_add(c, out, y);
}

static void test_conv_derivatives(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 400; i++) {
    mx_dims x, k;
    mx_params p = random_conv(&w, (sizes){2, 3, 5}, &x, &k);
    mx_array *in[2] = {random_layout(&w, MLAX_FLOAT64, &x), random_layout(&w, MLAX_FLOAT64, &k)};
    check_derivative(&w, (mx_function){apply_conv, &p}, in, 2, 2, 1e-5);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_conv_batch(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 300; i++) {
    mx_dims x, k;
    int axes[2];
    mx_params p = random_conv(&w, (sizes){2, 3, 5}, &x, &k);
    int64_t size = pick(&w, 1, 3);
    int which = (int)pick(&w, 1, 3);
    mx_array *in[2];
    in[0] = random_mapped(&w, MLAX_FLOAT64, &x, size, which & 1, &axes[0]);
    in[1] = random_mapped(&w, MLAX_FLOAT64, &k, size, which & 2, &axes[1]);
    check_batch(&w, (mx_function){apply_conv, &p}, in, axes, 2, size, 1e-12);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static mx_array *full(mx_ctx *c, int dtype, mx_dims shape) { return mx_full(c, dtype, &shape, 1); }

static void test_conv_errors(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_params p = simple_conv(2);
  mx_array *x = full(c, MLAX_FLOAT32, (mx_dims){4, {2, 5, 5, 4}}),
           *k = full(c, MLAX_FLOAT32, (mx_dims){4, {6, 3, 3, 4}});
  mx_array *narrow = full(c, MLAX_FLOAT32, (mx_dims){4, {6, 3, 3, 3}});
  struct {
    mx_array *k;
    int64_t *field, value;
    const char *text;
  } cases[] = {
      {narrow, &p.conv.dtype, -1, "in features must be those of x"},
      {k, &p.conv.feature_groups, 0, "groups are at least 1"},
      {k, &p.conv.feature_groups, 2, "in features must be those of x"},
      {k, &p.conv.batch_groups, 4, "a multiple of batch_group_count (got 6 and 4)"},
      {full(c, MLAX_FLOAT32, (mx_dims){4, {6, 3, 3, 4}}), &p.conv.batch_groups, 3, "the batch must be a multiple"},
      {k, &p.conv.strides.v[0], 0, "strides and dilations are at least 1"},
      {k, &p.conv.x_dilation.v[1], -1, "strides and dilations are at least 1"},
      {k, &p.conv.lo.v[0], -6, "padding cuts more from axis 2"},
      {k, &p.conv.hi.v[1], INT64_MAX, "too long"},
      {k, &p.conv.lo.v[1], INT64_MIN, "too long"},
      {k, &p.conv.k_dilation.v[1], INT64_MAX, "too long"},
      {k, &p.conv.x_axes.v[0], 3, "name each axis once"},
      {k, &p.conv.out_axes.v[0], 9, "name each axis once"},
      {k, &p.conv.lo.n, 1, "one number for each spatial axis"},
      {k, &p.conv.dtype, MLAX_INT32, "cannot be added up in int32"},
      {full(c, MLAX_FLOAT32, (mx_dims){3, {6, 3, 4}}), &p.conv.dtype, -1, "one to three spatial ones"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int64_t kept = *cases[i].field;
    *cases[i].field = cases[i].value;
    assert_null(mx_conv(c, x, cases[i].k, &p));
    assert_error(c, cases[i].text);
    *cases[i].field = kept;
  }
  world_close(&w);
}

/* -- windows: the plain definition --------------------------------------------------------------------------------- */

typedef struct seen { /* the elements of one window, in row-major order */
  int64_t n, cap, *at;
} seen;

static void see(const mx_params *p, const mx_array *x, const int64_t *place, seen *s) {
  int64_t total = 1, strides[MX_MAX_NDIM];
  strides_of(x, strides);
  for (int i = 0; i < x->aval.ndim; i++) total *= p->window.window.v[i];
  s->n = 0;
  if (s->cap < total) s->at = realloc(s->at, (size_t)total * sizeof *s->at), s->cap = total;
  for (int64_t t = 0; t < total; t++) {
    int64_t rest = t, at = 0;
    bool inside = true;
    for (int i = x->aval.ndim - 1; i >= 0; i--) {
      int64_t m = met(x->aval.shape[i], place[i], p->window.strides.v[i], rest % p->window.window.v[i],
                      p->window.dilation.v[i], p->window.lo.v[i], p->window.x_dilation.v[i]);
      rest /= p->window.window.v[i];
      inside &= m >= 0;
      at += m * strides[i];
    }
    if (inside) s->at[s->n++] = at;
  }
}

static double join_floats(const mx_primitive *prim, double a, double b) {
  if (prim == &mx_prim_reduce_window_sum) return a + b;
  if (prim == &mx_prim_reduce_window_prod) return a * b;
  if (isnan(a) || isnan(b)) return NAN;
  return (prim == &mx_prim_reduce_window_max) == (a > b) ? a : b;
}

static int64_t join_ints(const mx_primitive *prim, int64_t a, int64_t b, bool is_unsigned) {
  if (prim == &mx_prim_reduce_window_sum) return (int64_t)((uint64_t)a + (uint64_t)b);
  if (prim == &mx_prim_reduce_window_prod) return (int64_t)((uint64_t)a * (uint64_t)b);
  bool greater = is_unsigned ? (uint64_t)a > (uint64_t)b : a > b;
  return (prim == &mx_prim_reduce_window_max) == greater ? a : b;
}

static void neutral(const mx_primitive *prim, int dtype, char *to) {
  bool max = prim == &mx_prim_reduce_window_max, min = prim == &mx_prim_reduce_window_min;
  if (!max && !min) mx_store_int(dtype, to, prim == &mx_prim_reduce_window_prod);
  else if (dtype == MLAX_BOOL) mx_store_int(dtype, to, min);
  else mx_store_double(dtype, to, max ? -INFINITY : INFINITY);
}

static mx_array *plain_window(mx_ctx *c, const mx_primitive *prim, const mx_array *x, const mx_params *p,
                              const mx_aval *out) {
  mx_dims shape = mx_dims_shape(out);
  int dtype = out->dtype;
  mx_array *y = make(c, dtype, &shape);
  double *xd = read_doubles(x);
  int64_t *xi = read_ints(x);
  seen s = {0};
  for (int64_t e = 0; e < out->size; e++) {
    int64_t at[MX_MAX_NDIM] = {0}, rest = e;
    char *to = mx_data(y) + (size_t)e * mx_itemsize(dtype);
    for (int i = out->ndim - 1; i >= 0; i--) at[i] = rest % out->shape[i], rest /= out->shape[i];
    see(p, x, at, &s);
    neutral(prim, dtype, to);
    double d = s.n ? xd[s.at[0]] : 0;
    int64_t v = s.n ? xi[s.at[0]] : 0;
    for (int64_t i = 1; i < s.n; i++) {
      d = join_floats(prim, d, xd[s.at[i]]);
      v = join_ints(prim, v, xi[s.at[i]], mx_dtype_kind(dtype) == MX_KIND_UINT);
    }
    if (s.n) store(dtype, to, d, (uint64_t)v);
  }
  free(xd), free(xi), free(s.at);
  return y;
}

static mx_params random_window(world *w, int ndim, int most, mx_dims *x) {
  mx_params p = {.window = {.least = 0}};
  mx_dims *lists[] = {&p.window.window, &p.window.strides,    &p.window.lo,
                      &p.window.hi,     &p.window.x_dilation, &p.window.dilation};
  for (int i = 0; i < 6; i++) *lists[i] = (mx_dims){.n = ndim};
  *x = (mx_dims){.n = ndim};
  for (int i = 0; i < ndim; i++) {
    bool still = pick(w, 0, 2) == 0;
    x->v[i] = pick(w, pick(w, 0, 9) ? 1 : 0, most);
    p.window.window.v[i] = still ? 1 : pick(w, 1, 4);
    p.window.strides.v[i] = still ? 1 : pick(w, 1, 4);
    p.window.x_dilation.v[i] = still || pick(w, 0, 1) ? 1 : pick(w, 1, 4);
    p.window.dilation.v[i] = still || pick(w, 0, 1) ? 1 : pick(w, 1, 4);
    if (!still)
      random_padding(w, length_with_holes(x->v[i], p.window.x_dilation.v[i]), &p.window.lo.v[i], &p.window.hi.v[i]);
  }
  return p;
}

static const mx_primitive *const reductions[] = {&mx_prim_reduce_window_sum, &mx_prim_reduce_window_max,
                                                 &mx_prim_reduce_window_min, &mx_prim_reduce_window_prod};

/* Of bool there are only extremes; products stay small. */
static const mx_primitive *random_reduction(world *w, int dtype) {
  return reductions[dtype == MLAX_BOOL ? pick(w, 1, 2) : pick(w, 0, 3)];
}

static void test_windows(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 1500; i++) {
    mx_dims shape;
    int dtype = i % MX_DTYPE_COUNT;
    bool half = dtype == MLAX_FLOAT16 || dtype == MLAX_BFLOAT16;
    mx_params p = random_window(&w, (int)pick(&w, half ? 1 : 0, half ? 2 : 4), i % 9 ? 5 : 9, &shape);
    const mx_primitive *prim = random_reduction(&w, dtype);
    if (half && prim == &mx_prim_reduce_window_prod) prim = reductions[1]; /* products of halves overflow */
    mx_array *x = random_layout(&w, dtype, &shape);
    if (dtype == MLAX_FLOAT32 && prim == &mx_prim_reduce_window_prod) x = mx_muls(c, x, 0.125);
    mx_array *got = mx_reduce_window(c, prim, x, NULL, &p);
    if (!got) fail_msg("%s", c->error.text);
    assert_same(got, plain_window(c, prim, x, &p, &got->aval), tolerance_of(dtype));
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* Rows longer than a segment, and work for two threads. */
static void test_long_windows(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 24; i++) {
    mx_dims shape = {.n = 2, .v = {i % 2 ? 3 : 1, 5000 + i}}, one = {2, {1, 1}}, none = {2, {0, 0}};
    mx_params p = {.window = {{2, {i % 2 + 1, 7}}, {2, {1, 1 + i % 3}}, none, none, one, {2, {1, 1 + i % 2}}, 0}};
    p.window.lo.v[1] = i, p.window.x_dilation.v[1] = 1 + i % 4;
    mx_array *x = random_array(&w, MLAX_FLOAT64, &shape), *got = mx_reduce_window(c, reductions[i % 3], x, NULL, &p);
    assert_same(got, plain_window(c, reductions[i % 3], x, &p, &got->aval), 1e-14);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* -- the choice ---------------------------------------------------------------------------------------------------- */

/* JAX's rule: walking the window, what is there stays where it is at least (at most) as great. */
static int64_t chosen(const seen *s, const double *x, bool least) {
  int64_t at = s->n ? s->at[0] : -1;
  for (int64_t i = 1; i < s->n; i++)
    if (!(least ? x[at] <= x[s->at[i]] : x[at] >= x[s->at[i]])) at = s->at[i];
  return at;
}

static void check_choice(world *w, int dtype, const mx_params *p, mx_array *x, const mx_dims *shape) {
  mx_ctx *c = &w->ctx;
  mx_array *g = random_layout(w, dtype, shape);
  mx_array *gathered = mx_bind1(c, &mx_prim_select_and_gather, p, (mx_array *[]){g, x}, 2);
  if (!gathered) fail_msg("%s", c->error.text);
  mx_dims places = mx_dims_shape(&gathered->aval);
  mx_array *ct = random_layout(w, dtype, &places);
  mx_array *scattered = mx_bind1(c, &mx_prim_select_and_scatter_add, p, (mx_array *[]){ct, x}, 2);
  mx_array *want = make(c, dtype, &places), *sums = make(c, dtype, shape);
  double *xd = read_doubles(x), *gd = read_doubles(g), *cd = read_doubles(ct);
  double *sum = calloc((size_t)x->aval.size + 1, sizeof *sum);
  seen s = {0};
  for (int64_t e = 0; e < want->aval.size; e++) {
    int64_t at[MX_MAX_NDIM] = {0}, rest = e;
    for (int i = (int)places.n - 1; i >= 0; i--) at[i] = rest % places.v[i], rest /= places.v[i];
    see(p, x, at, &s);
    int64_t k = chosen(&s, xd, p->window.least);
    mx_store_double(dtype, mx_data(want) + (size_t)e * mx_itemsize(dtype), k < 0 ? 0 : gd[k]);
    if (k >= 0) sum[k] += cd[e];
  }
  for (int64_t e = 0; e < x->aval.size; e++)
    mx_store_double(dtype, mx_data(sums) + (size_t)e * mx_itemsize(dtype), sum[e]);
  assert_same(gathered, want, 0);
  assert_same(scattered, sums, tolerance_of(dtype));
  free(xd), free(gd), free(cd), free(sum), free(s.at);
}

/* With many equal elements, some NaN. */
static void test_choice(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 600; i++) {
    static const int dtypes[] = {MLAX_FLOAT32, MLAX_FLOAT64, MLAX_FLOAT16, MLAX_BFLOAT16};
    mx_dims shape;
    mx_params p = random_window(&w, (int)pick(&w, 0, 4), 6, &shape);
    p.window.least = i % 2;
    mx_array *x = mx_floor(c, mx_muls(c, random_layout(&w, dtypes[i % 4], &shape), 0.5));
    if (i % 5 == 0) x = mx_sqrt(c, x);
    check_choice(&w, dtypes[i % 4], &p, x, &shape);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* Pictures with channels: side by side and overlapping windows, with and without borders, vectors and parts of them,
 * NaN. */
static void test_window_channels(void **state) {
  (void)state;
  static const int64_t forms[][5] = {/* window, stride, dilation, lo, hi */
                                     {2, 2, 1, 0, 0}, {3, 2, 1, 1, 1}, {3, 1, 1, 1, 2},
                                     {1, 1, 1, 0, 0}, {2, 3, 2, 0, 1}, {9, 4, 1, 4, 4}};
  static const int64_t channels[] = {1, 5, 16, 65, 150};
  for (int threads = 1; threads <= 3; threads += 2) {
    world w;
    mx_ctx *c = world_open(&w, threads);
    for (int i = 0; i < 6 * 5 * 4; i++) {
      const int64_t *f = forms[i % 6];
      int dtype = i & 1 ? MLAX_FLOAT64 : i & 2 ? MLAX_FLOAT32 : MLAX_INT8;
      mx_dims shape = {4, {2, 8, 12, channels[i / 6 % 5]}}, one = {4, {1, 1, 1, 1}}, none = {4, {0, 0, 0, 0}};
      mx_params p = {.window = {one, one, none, none, one, one, i / 12 % 2}};
      for (int s = 1; s < 3; s++) {
        p.window.window.v[s] = f[0], p.window.strides.v[s] = f[1], p.window.dilation.v[s] = f[2];
        p.window.lo.v[s] = f[3], p.window.hi.v[s] = f[4];
        p.window.x_dilation.v[s] = 1 + (i % 7 == s ? 2 : 0);
      }
      mx_array *x = random_array(&w, dtype, &shape), *got = mx_reduce_window(c, reductions[i / 6 % 3], x, NULL, &p);
      assert_same(got, plain_window(c, reductions[i / 6 % 3], x, &p, &got->aval), tolerance_of(dtype));
      if (!mx_is_float(dtype)) dtype = MLAX_FLOAT32, x = random_array(&w, dtype, &shape);
      x = mx_floor(c, x);
      check_choice(&w, dtype, &p, i % 5 ? x : mx_sqrt(c, x), &shape);
      mx_frame_release(c, 0);
    }
    world_close(&w);
  }
}

/* -- windows under transformations --------------------------------------------------------------------------------- */

typedef struct window_state {
  const mx_primitive *prim;
  mx_params p;
} window_state;

/* The infinite extremes of windows that see nothing become 0: differences of them are no numbers. */
static bool apply_window(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  window_state *s = state;
  mx_array *y = mx_bind1(c, s->prim, &s->p, in, n);
  if (y) y = mx_select(c, mx_isfinite(c, y), y, mx_like(c, y, 0));
  return y && mx_list_add(c, out, y);
}

/* Elements that are far from equal, so that differences do not change what is chosen. */
static mx_array *distinct(world *w, const mx_dims *shape) {
  mx_ctx *c = &w->ctx;
  mx_array *x = random_array(w, MLAX_FLOAT64, shape);
  mx_dims flat = {1, {x->aval.size}};
  x = mx_argsort(c, mx_reshape(c, x, &flat), 0);
  return mx_reshape(c, mx_adds(c, mx_muls(c, mx_convert(c, x, MLAX_FLOAT64), 0.125), -1), shape);
}

static void test_window_derivatives(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 400; i++) {
    mx_dims shape;
    window_state s = {.prim = reductions[i % 4], .p = random_window(&w, (int)pick(&w, 1, 3), 5, &shape)};
    bool prod = s.prim == &mx_prim_reduce_window_prod;
    mx_array *x = prod ? mx_muls(c, random_layout(&w, MLAX_FLOAT64, &shape), 0.25) : distinct(&w, &shape);
    check_derivative(&w, (mx_function){apply_window, &s}, &x, 1, 1, prod ? 1e-4 : 1e-6);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_choice_derivatives(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 100; i++) {
    mx_dims shape, places;
    window_state s = {.prim = &mx_prim_select_and_gather, .p = random_window(&w, (int)pick(&w, 1, 3), 5, &shape)};
    mx_array *x = distinct(&w, &shape), *g = random_layout(&w, MLAX_FLOAT64, &shape);
    s.p.window.least = i % 2;
    if (i % 3 == 0) {
      places = mx_dims_shape(&mx_bind1(c, s.prim, &s.p, (mx_array *[]){g, x}, 2)->aval);
      s.prim = &mx_prim_select_and_scatter_add;
      g = random_layout(&w, MLAX_FLOAT64, &places);
    }
    check_derivative(&w, (mx_function){apply_window, &s}, (mx_array *[]){g, x}, 2, 2, 1e-6);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_window_batch(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 300; i++) {
    mx_dims shape;
    int axes[2], which = (int)pick(&w, 1, 3);
    window_state s = {.p = random_window(&w, (int)pick(&w, 0, 3), 5, &shape)};
    int64_t size = pick(&w, 1, 3);
    mx_array *in[2];
    if (i % 2) {
      s.prim = reductions[i / 2 % 4];
      in[0] = random_mapped(&w, MLAX_FLOAT64, &shape, size, true, &axes[0]);
      check_batch(&w, (mx_function){apply_window, &s}, in, axes, 1, size, 1e-12);
    } else {
      s.prim = &mx_prim_select_and_gather;
      in[0] = random_mapped(&w, MLAX_FLOAT64, &shape, size, which & 1, &axes[0]);
      in[1] = random_mapped(&w, MLAX_FLOAT64, &shape, size, which & 2, &axes[1]);
      check_batch(&w, (mx_function){apply_window, &s}, in, axes, 2, size, 1e-12);
    }
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_window_errors(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_dims one = {2, {1, 1}}, none = {2, {0, 0}};
  mx_params p = {.window = {one, one, none, none, one, one, 0}};
  mx_array *x = full(c, MLAX_FLOAT32, (mx_dims){2, {3, 4}});
  struct {
    int64_t *field, value;
    const char *text;
  } cases[] = {{&p.window.window.v[0], 0, "windows are at least 1 long"},
               {&p.window.strides.v[1], 0, "at least 1"},
               {&p.window.lo.v[1], -5, "padding cuts more from axis 2"},
               {&p.window.window.n, 1, "one number for each axis"},
               {&p.window.dilation.v[0], -1, "at least 1"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int64_t kept = *cases[i].field;
    *cases[i].field = cases[i].value;
    assert_null(mx_reduce_window(c, reductions[i % 4], x, NULL, &p));
    assert_error(c, cases[i].text);
    *cases[i].field = kept;
  }
  assert_null(mx_reduce_window(c, reductions[0], full(c, MLAX_BOOL, (mx_dims){2, {3, 4}}), NULL, &p));
  assert_error(c, "bool has no sums");
  assert_null(mx_bind1(c, &mx_prim_select_and_gather, &p, (mx_array *[]){full(c, MLAX_FLOAT32, one), x}, 2));
  assert_error(c, "shapes differ");
  assert_null(mx_bind1(c, &mx_prim_select_and_scatter_add, &p, (mx_array *[]){full(c, MLAX_FLOAT32, one), x}, 2));
  assert_error(c, "one element for each place");
  world_close(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_conv),
      cmocka_unit_test(test_conv_dtype),
      cmocka_unit_test(test_conv_tiles),
      cmocka_unit_test(test_conv_lines),
      cmocka_unit_test(test_conv_winograd),
      cmocka_unit_test(test_conv_after),
      cmocka_unit_test(test_depthwise),
      cmocka_unit_test(test_channels),
      cmocka_unit_test(test_conv_derivatives),
      cmocka_unit_test(test_conv_batch),
      cmocka_unit_test(test_conv_errors),
      cmocka_unit_test(test_windows),
      cmocka_unit_test(test_long_windows),
      cmocka_unit_test(test_choice),
      cmocka_unit_test(test_window_channels),
      cmocka_unit_test(test_window_derivatives),
      cmocka_unit_test(test_choice_derivatives),
      cmocka_unit_test(test_window_batch),
      cmocka_unit_test(test_window_errors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
