/* conv_winograd.c: convolutions of channels-last pictures in float32 with windows of 3 x 3 that move by one, and their
 * kernels' gradients, by Winograd's F(2x2, 3x3): 16 multiplications where there would be 36 (see simd/winograd.h).
 *
 *     result    tiles of 2 x 2, some of them at a time:   v = 4 x 4 of x, transformed     [point][tile][channel]
 *               for each point                            m = v u, u the kernel's         [point][tile][feature]
 *                                                         tiles of the result from m
 *     gradient  for each slice of the tiles, point:       du += v' m, m from the result's cotangent
 *               slices are added up in order              the kernel's gradient from du
 *
 * Sums of elements of x lose the small ones beside the great, and infinity minus infinity is no number: a tile with a
 * result that is not finite is computed again by the definition; a gradient, by the other ways. */
#include "conv_impl.h"
#include "reduce_impl.h"
#include "simd/lines.h"
#include "simd/winograd.h"

enum {
  LEAST = 16,           /* channels and features, at least; */
  LEAST_BOTH = 20 * 20, /* and of their product, for a result: with less, the transformations cost what is saved */
  MOST = 128 * 128,     /* of a gradient */
  LEAST_TILES = 32,
  BLOCK = 512 * 1024, /* bytes of v and m */
  UNIT = 12,          /* tiles; blocks are multiples */
  SLICES = 8,         /* of a gradient */
  PAD = 16            /* elements between points, so that not all of them fall into one set of a cache */
};
#define ROUND_WORK ((double)(1 << 30)) /* multiplications of a round, for each thread */

/* The picture that is transformed, and the places that tiles of two by two make: of the result, or its cotangent. */
typedef struct job {
  const conv *v;
  const mx_winograd_loops *loops;
  const mx_line_loops *products;            /* result */
  const mx_gemm_loops *sums;                /* gradient */
  int64_t n, h, w, y_h, y_w;                /* pictures; sizes of x, of the places */
  int64_t x_n, x_h, x_w, y_n, y_row, y_col; /* strides */
  const char *x;
  char *y;
  int64_t lo_h, lo_w;
  int64_t in, outs;
  int64_t tiles_h, tiles_w, tiles, block; /* tiles of a picture; all of them; at a time */
  const float *g;                         /* result: the kernel {3, 3, in, out}, */
  float *u;                               /* and transformed; gradient: {slice, 16, in, out} */
  int64_t slices, first, count;           /* tasks of this round */
  int n_chunks;
  char *scratch;
  size_t each, m_at, pack_at;
  mx_after *after; /* result; NULL: nothing, or the caller does it */
} job;

static bool is_plain(const side *s) { return s->stride == 1 && s->dilation == 1; }

static bool is_result(const conv *v) {
  bool ok = v->spatial == 2 && v->x_in == 1 && v->y_out == 1;
  for (int i = 0; ok && i < 2; i++) ok = is_plain(&v->side[i]) && v->side[i].window == 3 && v->side[i].out >= 2;
  return ok;
}

/* The batch and the features of x are exchanged: the window is the result's cotangent. */
static bool is_gradient(const conv *v) {
  bool ok = v->spatial == 2 && v->x_batch == 1 && v->w_out == 1 && v->batch * v->outs <= MOST;
  for (int i = 0; ok && i < 2; i++) ok = is_plain(&v->side[i]) && v->side[i].out == 3 && v->side[i].window >= 2;
  return ok;
}

bool mx_conv_is_winograd(const conv *v) {
  bool result = is_result(v);
  if (v->dtype != MLAX_FLOAT32 || v->groups > 1 || !mx_own_tiles(v->dtype)) return false;
  if (!result && !is_gradient(v)) return false;
  int64_t in = result ? v->in : v->batch, n = result ? v->batch : v->in;
  int64_t h = result ? v->side[0].out : v->side[0].window, w = result ? v->side[1].out : v->side[1].window;
  return in >= LEAST && v->outs >= LEAST && (!result || in * v->outs >= LEAST_BOTH) &&
         n * ceil_div(h, 2) * ceil_div(w, 2) >= LEAST_TILES;
}

/* -- tiles --------------------------------------------------------------------------------------------------------- */

typedef struct spot { /* a tile: picture, row and column */
  int64_t n, i, j;
} spot;

static spot spot_of(const job *j, int64_t t) {
  return (spot){t / j->tiles_w / j->tiles_h, t / j->tiles_w % j->tiles_h, t % j->tiles_w};
}

static void next_spot(const job *j, spot *s) {
  if (++s->j < j->tiles_w) return;
  s->j = 0;
  if (++s->i < j->tiles_h) return;
  s->i = 0, s->n++;
}

static int within(int64_t i, int most) { return i < 0 ? 0 : i > most ? most : (int)i; }

static mx_patch patch_of_x(const job *j, const spot *s) {
  int64_t r = 2 * s->i - j->lo_h, c = 2 * s->j - j->lo_w;
  mx_patch p = {.row = j->x_h, .col = j->x_w};
  p.x = (const float *)j->x + s->n * j->x_n + r * j->x_h + c * j->x_w;
  p.r0 = within(-r, 4), p.r1 = within(j->h - r, 4), p.c0 = within(-c, 4), p.c1 = within(j->w - c, 4);
  return p;
}

/* Tiles at the end may have one row or column. */
static mx_patch patch_of_y(const job *j, const spot *s) {
  mx_patch p = {.row = j->y_row, .col = j->y_col};
  p.x = (const float *)j->y + s->n * j->y_n + 2 * (s->i * j->y_row + s->j * j->y_col);
  p.r1 = within(j->y_h - 2 * s->i, 2), p.c1 = within(j->y_w - 2 * s->j, 2);
  return p;
}

static void transform_x(const job *j, int64_t t0, int64_t t1, float *v, int64_t point) {
  spot s = spot_of(j, t0);
  for (int64_t t = t0; t < t1; t++, v += j->in, next_spot(j, &s)) {
    mx_patch d = patch_of_x(j, &s);
    j->loops->input(&d, j->in, v, point);
  }
}

/* -- the result ---------------------------------------------------------------------------------------------------- */

/* A tile by the definition: for each place, the window's lines that are inside. */
static void define_tile(const job *j, const spot *s) {
  mx_patch y = patch_of_y(j, s);
  for (int r = 0; r < y.r1; r++)
    for (int c = 0; c < y.c1; c++) {
      mx_line lines[3];
      int64_t at = 2 * s->i + r - j->lo_h, col = 2 * s->j + c - j->lo_w;
      int64_t lo = greater(0, -col), hi = lesser(3, j->w - col);
      mx_line_tile t = {.lines = lines, .n = j->outs, .places = 1, .x_step = 1, .w_step = j->outs};
      for (int64_t q = greater(0, -at); q < 3 && at + q < j->h && lo < hi; q++)
        lines[t.n_lines++] = (mx_line){j->x + (s->n * j->x_n + (at + q) * j->x_h + (col + lo) * j->x_w) * 4,
                                       (const char *)(j->g + (q * 3 + lo) * j->in * j->outs)};
      t.y = (char *)((float *)y.x + r * y.row + c * y.col);
      t.k = j->in;
      for (int64_t k = lo; k < greater(hi, lo + 1); k++, t.add = true) { /* no line: zeros */
        j->products->tile(&t);
        for (int l = 0; l < (int)t.n_lines; l++) lines[l].x += j->x_w * 4, lines[l].w += j->in * j->outs * 4;
      }
    }
}

static void multiply_points(const job *j, int64_t tiles, const float *v, int64_t v_point, float *m, int64_t m_point) {
  for (int p = 0; p < MX_POINTS; p++) {
    mx_line line = {(const char *)(v + p * v_point), (const char *)(j->u + p * j->in * j->outs)};
    mx_line_tile t = {.lines = &line, .n_lines = 1, .k = j->in, .n = j->outs};
    t.x_place = j->in, t.x_step = 1, t.w_step = t.y_place = j->outs;
    for (int64_t i = 0; i < tiles; i += t.places) {
      t.places = (int)lesser(tiles - i, j->products->places);
      t.x_at = i * j->in, t.y = (char *)(m + p * m_point + i * j->outs);
      j->products->tile(&t);
    }
  }
}

static void result_task(const job *j, int64_t task, char *scratch) {
  int64_t t0 = task * j->block, t1 = lesser(t0 + j->block, j->tiles);
  int64_t v_point = j->block * j->in + PAD, m_point = j->block * j->outs + PAD;
  float *v = (float *)scratch, *m = (float *)(scratch + j->m_at);
  transform_x(j, t0, t1, v, v_point);
  multiply_points(j, t1 - t0, v, v_point, m, m_point);
  spot s = spot_of(j, t0);
  for (int64_t t = t0; t < t1; t++, m += j->outs, next_spot(j, &s)) {
    mx_patch y = patch_of_y(j, &s);
    if (!j->loops->output(m, m_point, j->outs, (float *)y.x, y.row, y.col, y.r1, y.c1)) define_tile(j, &s);
  }
}

/* -- the kernel's gradient ----------------------------------------------------------------------------------------- */

static void add_points(const job *j, int64_t tiles, const float *v, int64_t v_point, const float *m, int64_t m_point,
                       float *u, bool add, char *pack) {
  mx_gemm g = {.m = j->in, .n = j->outs, .k = tiles, .a_row = 1, .a_col = j->in, .b_row = j->outs, .b_col = 1};
  g.c_row = j->outs, g.add = add;
  for (int p = 0; p < MX_POINTS; p++) {
    g.a = (const char *)(v + p * v_point), g.b = (const char *)(m + p * m_point);
    g.c = (char *)(u + p * j->in * j->outs);
    j->sums->multiply(&g, (mx_tile){0, g.m, 0, g.n}, pack);
  }
}

static void gradient_task(const job *j, int64_t slice, char *scratch) {
  int64_t lo = j->tiles * slice / j->slices, hi = j->tiles * (slice + 1) / j->slices;
  int64_t v_point = j->block * j->in + PAD, m_point = j->block * j->outs + PAD;
  float *v = (float *)scratch, *m = (float *)(scratch + j->m_at), *u = j->u + slice * MX_POINTS * j->in * j->outs;
  for (int64_t t0 = lo; t0 < hi; t0 += j->block) {
    int64_t t1 = lesser(t0 + j->block, hi);
    spot s = spot_of(j, t0);
    transform_x(j, t0, t1, v, v_point);
    for (int64_t t = t0; t < t1; t++, next_spot(j, &s)) {
      mx_patch y = patch_of_y(j, &s);
      j->loops->cotangent(&y, j->outs, m + (t - t0) * j->outs, m_point);
    }
    add_points(j, t1 - t0, v, v_point, m, m_point, u, t0 > lo, scratch + j->pack_at);
  }
}

/* Where something is done to the result afterwards, a task's blocks are whole lines of tiles: whole rows of the result.
 * Unless their tiles fill the loops, which take UNIT at a time, too badly. */
static void cut_lines(job *j) {
  int64_t line = j->tiles_w, unit = line;
  while (unit % UNIT) unit += line;
  int64_t block = j->block >= unit ? j->block / unit * unit : j->block / line * line;
  bool fills = block > 0 && ceil_div(block, UNIT) * UNIT - block <= block / 20;
  if (fills && (j->after = take_after(j->v, j->outs))) j->block = block;
}

/* Elements of the result before this tile, the first of a line. */
static int64_t elements_before(const job *j, int64_t tile) {
  int64_t lines = lesser(tile, j->tiles) / j->tiles_w, rows = lines / j->tiles_h * j->y_h + lines % j->tiles_h * 2;
  return rows * j->y_w * j->outs;
}

/* -- all tasks ----------------------------------------------------------------------------------------------------- */

static void run_chunk(void *arg, int i) {
  const job *j = arg;
  int64_t lo = j->count * i / j->n_chunks, hi = j->count * (i + 1) / j->n_chunks;
  mx_finished f = {.after = j->after};
  for (int64_t t = j->first + lo; t < j->first + hi; t++) {
    (j->slices ? gradient_task : result_task)(j, t, j->scratch + j->each * (size_t)i);
    if (f.after) mx_finished_add(&f, elements_before(j, t * j->block), elements_before(j, (t + 1) * j->block));
  }
  mx_finished_flush(&f);
}

static bool run_tasks(mx_ctx *c, job *j) {
  int64_t tasks = j->slices ? j->slices : ceil_div(j->tiles, j->block);
  double work = 16.0 * (double)(j->tiles * j->in) * (double)j->outs / (double)tasks;
  double after = j->after ? 4 * j->after->ns * (double)(j->block * j->outs) : 0;
  j->n_chunks = mx_chunks(c->engine, tasks, 0.02 * work + after);
  size_t n = (size_t)j->n_chunks;
  if (!(j->scratch = mx_scratch(c, j->each * n))) return false;
  int64_t round = greater(1, (int64_t)(ROUND_WORK / work < 1e6 ? ROUND_WORK / work : 1e6)) * j->n_chunks;
  bool ok = true;
  for (j->first = 0; ok && j->first < tasks; j->first += j->count) {
    j->count = lesser(tasks - j->first, round);
    j->n_chunks = (int)lesser(j->n_chunks, j->count);
    ok = j->first == 0 || mx_poll(c);
    if (ok) mx_parallel(c->engine, j->n_chunks, run_chunk, j);
  }
  mx_scratch_free(c, j->scratch, j->each * n);
  return ok;
}

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

static void set_tiles(job *j) {
  j->loops = MX_SIMD_PICK(mx_winograd);
  j->products = MX_SIMD_PICK(mx_products_float);
  j->sums = mx_own_tiles(MLAX_FLOAT32);
  j->tiles_h = ceil_div(j->y_h, 2), j->tiles_w = ceil_div(j->y_w, 2), j->tiles = j->n * j->tiles_h * j->tiles_w;
  j->block = greater(24, BLOCK / (MX_POINTS * (int64_t)sizeof(float) * (j->in + j->outs)) / UNIT * UNIT);
  j->block = lesser(j->block, greater(24, ceil_div(j->tiles, 16 * UNIT) * UNIT)); /* tasks for many threads */
  j->m_at = aligned((size_t)(MX_POINTS * (j->block * j->in + PAD)) * sizeof(float));
  j->pack_at = j->m_at + aligned((size_t)(MX_POINTS * (j->block * j->outs + PAD)) * sizeof(float));
  mx_gemm g = {.m = j->in, .n = j->outs, .k = j->block, .a_row = 1, .a_col = j->in, .b_row = j->outs, .b_col = 1};
  j->each = j->pack_at + aligned(j->sums->scratch(&g, (mx_tile){0, g.m, 0, g.n}));
}

static bool run_result(mx_ctx *c, conv *v, bool *done) {
  const side *h = &v->side[0], *w = &v->side[1];
  void *g;
  size_t g_bytes, u_bytes = (size_t)(MX_POINTS * v->in * v->outs) * sizeof(float);
  if (!mx_conv_copy_kernel(c, v, &g, &g_bytes)) return false;
  job j = {.v = v, .n = v->batch, .h = h->n, .w = w->n, .y_h = h->out, .y_w = w->out, .lo_h = h->lo, .lo_w = w->lo};
  j.x = v->x, j.x_n = v->x_batch, j.x_h = h->x, j.x_w = w->x;
  j.y = v->out, j.y_n = v->y_batch, j.y_row = h->y, j.y_col = w->y;
  j.in = v->in, j.outs = v->outs, j.g = g;
  set_tiles(&j);
  cut_lines(&j);
  j.u = mx_scratch(c, u_bytes);
  if (j.u) j.loops->kernel(j.g, j.in * j.outs, j.u);
  *done = j.u && run_tasks(c, &j);
  if (j.u) mx_scratch_free(c, j.u, u_bytes);
  mx_scratch_free(c, g, g_bytes);
  return *done;
}

/* The slices' sums, added in order, and from them the gradient {3, 3, in, out} over the last slices' memory. */
static bool finish_gradient(const job *j) {
  const conv *v = j->v;
  int64_t n = j->in * j->outs, all = MX_POINTS * n;
  const mx_fold_loops *loops = &MX_SIMD_PICK(mx_reduce_table)->fold[MX_FOLD_SUM][MLAX_FLOAT32];
  float *g = j->u + j->slices * all;
  loops->rows(j->u, j->u + all, all * (int64_t)sizeof(float), j->slices - 1, all);
  if (!j->loops->kernel_cotangent(j->u, n, g)) return false;
  for (int q = 0; q < 9; q++)
    for (int64_t i = 0; i < j->in; i++, g += j->outs) {
      int64_t at = q / 3 * v->side[0].y + q % 3 * v->side[1].y + i * v->y_batch;
      mx_reduce_scatter(v->out + at * v->size, v->y_out * v->size, (const char *)g, v->size, j->outs);
    }
  return true;
}

static bool run_gradient(mx_ctx *c, conv *v, bool *done) {
  const side *h = &v->side[0], *w = &v->side[1];
  job j = {.v = v, .n = v->in, .h = h->n, .w = w->n, .y_h = h->window, .y_w = w->window, .lo_h = h->lo, .lo_w = w->lo};
  j.x = v->x, j.x_n = v->x_in, j.x_h = h->x, j.x_w = w->x;
  j.y = (char *)v->w, j.y_n = v->w_in, j.y_row = h->w, j.y_col = w->w;
  j.in = v->batch, j.outs = v->outs;
  set_tiles(&j);
  j.slices = greater(1, lesser(SLICES, j.tiles / 48));
  size_t bytes = (size_t)((j.slices * MX_POINTS + 9) * j.in * j.outs) * sizeof(float);
  if (!(j.u = mx_scratch(c, bytes))) return false;
  bool ok = run_tasks(c, &j);
  *done = ok && finish_gradient(&j);
  mx_scratch_free(c, j.u, bytes);
  return ok;
}

bool mx_conv_winograd(mx_ctx *c, const conv *whole, bool *done) {
  conv v = *whole;
  return (is_result(&v) ? run_result : run_gradient)(c, &v, done);
}
