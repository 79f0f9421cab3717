/* conv.c: convolutions as products of matrices, of which the first is never stored as a whole.
 *
 *     out[m, o] = sum over k of  a[m, k] w[k, o]        m: batch and places, k: in features and the window
 *
 * Panels of a, some rows by some columns, are filled from x where they are needed (im2col of a tile) and multiplied by
 * the loops of dot.c. A panel is filled in runs along the axis on which x lies dense: along k (the features of
 * channels-last data), or along m (the places of channels-first data; the channels, where the kernel's gradient is
 * computed as a convolution). Few rows and a long sum are cut along k, too; the parts are added in order. Which way is
 * taken depends on shapes and layouts alone.
 *
 * Where x lies so that register tiles can read it, there are no panels: long lines of places (conv_lines.c), or else
 * rows from several lines (conv_direct.c); and windows of 3 x 3 that move by one need fewer multiplications
 * (conv_winograd.c).
 *
 * A dilated input has holes in it, most products with which are zero: places are sorted by their remainder, and those
 * of one remainder are a convolution of the undilated input with every so many-th element of the kernel.
 */
#include "conv_impl.h"
#include "reduce_impl.h"

#include <cblas.h>
#include <stdlib.h>

enum {
  PANEL = 96 * 1024, /* elements of a panel */
  DEPTH = 768,       /* its columns */
  SLICES = 16,       /* tiles that there should be at least, */
  SLICE = 2048       /* where the sum is long enough for parts of this length */
};
#define ROUND_WORK ((double)(1 << 30)) /* multiplications of a round, for each thread */

/* Axes by falling stride; those of `last` stay behind, in their order. */
static void sort_axes(order *o, const int64_t *stride, const int64_t *length, int n, const int *last, int n_last) {
  o->n = 0;
  for (int i = 0; i < n; i++) {
    bool behind = false;
    for (int j = 0; j < n_last; j++) behind |= last[j] == i;
    if (behind) continue;
    int at = o->n++;
    for (; at > 0 && llabs(stride[o->axis[at - 1]]) < llabs(stride[i]); at--) o->axis[at] = o->axis[at - 1];
    o->axis[at] = i;
  }
  for (int j = 0; j < n_last; j++) o->axis[o->n++] = last[j];
  for (int i = 0; i < o->n; i++) o->length[i] = length[o->axis[i]];
}

/* The step from one position of the ordered axes to the next; 0 where there is none. *ok: they lie evenly. */
static int64_t even_step(const order *o, const int64_t *stride, bool *ok) {
  int64_t step = 0, n = 1;
  *ok = true;
  for (int i = o->n - 1; i >= 0; i--) {
    if (o->length[i] == 1) continue;
    if (n == 1) step = stride[o->axis[i]];
    else if (stride[o->axis[i]] != step * n) *ok = false;
    n *= o->length[i];
  }
  return step;
}

/* -- the plan ------------------------------------------------------------------------------------------------------ */

/* Copying costs per element, roughly: the start of a run, and single elements. */
static double cost_of(const runs *r) { return 8.0 / (double)r->length + (r->x == 1 || r->x == -1 ? 0.25 : 1.0); }

static void try_runs(conv *v, bool along_k, int spatial, int64_t unit, int64_t length, int64_t x) {
  runs r = {along_k, spatial, unit, length, x};
  if (v->run.length == 0 || cost_of(&r) < cost_of(&v->run)) v->run = r;
}

static void choose_runs(conv *v) {
  int last = v->spatial - 1;
  const side *s = &v->side[last];
  v->run.length = 0;
  try_runs(v, true, -1, 1, v->in, v->x_in);
  if (s->dilation * s->x == v->in * v->x_in) try_runs(v, true, last, v->in, v->in * s->window, v->x_in);
  try_runs(v, false, -1, 1, v->batch, v->x_batch);
  if (s->stride * s->x == v->batch * v->x_batch) try_runs(v, false, last, v->batch, v->batch * s->out, v->x_batch);
  for (int i = 0; i < v->spatial; i++) {
    try_runs(v, true, i, 1, v->side[i].window, v->side[i].dilation * v->side[i].x);
    try_runs(v, false, i, 1, v->side[i].out, v->side[i].stride * v->side[i].x);
  }
}

/* The axes that the runs cover, in the order in which they lie. */
static int run_axes(const runs *r, int *axes) {
  int n = 0;
  if (r->spatial >= 0) axes[n++] = SPATIAL + r->spatial;
  if (r->spatial < 0 || r->unit > 1) axes[n++] = FIRST;
  return n;
}

static void order_axes(conv *v) {
  int64_t y[AXES] = {v->y_batch}, w[AXES] = {v->w_in}, m[AXES] = {v->batch}, k[AXES] = {v->in};
  int last[2], n_last = run_axes(&v->run, last), n = 1 + v->spatial;
  bool rows_even, columns_even;
  for (int i = 0; i < v->spatial; i++) {
    y[SPATIAL + i] = v->side[i].y, w[SPATIAL + i] = v->side[i].w;
    m[SPATIAL + i] = v->side[i].out, k[SPATIAL + i] = v->side[i].window;
  }
  sort_axes(&v->m_order, y, m, n, last, v->run.along_k ? 0 : n_last);
  sort_axes(&v->k_order, w, k, n, last, v->run.along_k ? n_last : 0);
  v->m = v->k = 1;
  for (int i = 0; i < n; i++) v->m *= m[i], v->k *= k[i];
  v->y_row = even_step(&v->m_order, y, &rows_even);
  v->direct =
      rows_even && (v->y_out == 1 || v->outs == 1) && (v->y_row >= v->outs || v->m == 1) && v->y_row <= INT32_MAX;
  v->form.b_row = even_step(&v->k_order, w, &columns_even);
  v->form.b_col = v->w_out;
  if (!columns_even) v->form.b_row = -1;
}

/* -- panels -------------------------------------------------------------------------------------------------------- */

static void copy_elements(char *to, const char *from, int64_t stride, int64_t size, int64_t n) {
  if (stride == 1) memcpy(to, from, (size_t)(n * size));
  else mx_reduce_gather(to, from, stride * size, size, n);
}

/* n elements of a run from element e on: zeros where it leaves x. */
static void fill_run(const conv *v, const char *x, const place *m, const place *k, int64_t e, int64_t n, char *to) {
  const runs *r = &v->run;
  int64_t offset = 0, from = 0, till = r->length, size = v->size;
  bool covered = r->spatial < 0 || r->unit > 1; /* FIRST is part of the run */
  if (r->along_k || !covered) offset += m->at[FIRST] * v->x_batch;
  if (!r->along_k || !covered) offset += k->at[FIRST] * v->x_in;
  for (int i = 0; i < v->spatial; i++) {
    const side *s = &v->side[i];
    bool here = i == r->spatial;
    int64_t p = here && !r->along_k ? 0 : m->at[SPATIAL + i], q = here && r->along_k ? 0 : k->at[SPATIAL + i];
    int64_t at = p * s->stride + q * s->dilation - s->lo, step = r->along_k ? s->dilation : s->stride;
    if (here) { /* positions t with 0 <= at + t * step < n */
      from = greater(0, -floor_of(at, step)) * r->unit;
      till = lesser(r->length, (floor_of(s->n - 1 - at, step) + 1) * r->unit);
    } else if (at < 0 || at >= s->n) {
      memset(to, 0, (size_t)(n * size));
      return;
    }
    offset += at * s->x;
  }
  from = lesser(greater(from, e), e + n), till = greater(lesser(till, e + n), from);
  memset(to, 0, (size_t)((from - e) * size));
  if (till > from) copy_elements(to + (from - e) * size, x + (offset + from * r->x) * size, r->x, size, till - from);
  memset(to + (till - e) * size, 0, (size_t)((e + n - till) * size));
}

/* Rows m0 .. m1-1, columns k0 .. k1-1 of a: as rows, or where runs go along m as columns. */
static void fill_panel(const conv *v, const char *x, int64_t m0, int64_t m1, int64_t k0, int64_t k1, char *to) {
  bool along_k = v->run.along_k;
  const order *outer = along_k ? &v->m_order : &v->k_order, *inner = along_k ? &v->k_order : &v->m_order;
  int64_t lines = along_k ? m1 - m0 : k1 - k0, begin = along_k ? k0 : m0, end = along_k ? k1 : m1;
  int axes[2], n_run = run_axes(&v->run, axes);
  place line = place_of(outer, along_k ? m0 : k0), start = place_of(inner, begin);
  for (int64_t i = 0; i < lines; i++, next_place(outer, 0, &line)) {
    place p = start;
    for (int64_t j = begin, n; j < end; j += n, next_place(inner, n_run, &p)) {
      int64_t e = j % v->run.length;
      n = lesser(v->run.length - e, end - j);
      fill_run(v, x, along_k ? &line : &p, along_k ? &p : &line, e, n, to);
      to += n * v->size;
    }
  }
}

/* -- tiles --------------------------------------------------------------------------------------------------------- */

/* Own tiles, or BLAS, can add to what is there; the rest is done row by row, in one sum. */
static bool is_own(const conv *v) { return mx_own_tiles(v->dtype) != NULL; }
static bool adds_up(const conv *v) { return is_own(v) || (mx_is_float(v->dtype) && v->outs <= INT32_MAX); }

typedef struct job {
  const conv *v;
  const mx_gemm_table *table;
  bool own, add;         /* own tiles; products can be added up: floats */
  int64_t unit;          /* without panels: of k, that is not cut; 0: with panels */
  int64_t rows, depth;   /* of a panel */
  int64_t tiles, slices; /* of a group: tiles of rows, parts of the sum */
  int64_t slice;         /* columns of a part */
  int64_t first, count;  /* tasks of this round */
  int n_chunks;
  char *scratch; /* for each chunk: the panel (without panels, zeros), a packed panel, a tile of the result */
  size_t each, pack_at, tile_at;
  char *parts;     /* of the result where slices > 1: [group][slice][m][o] */
  mx_after *after; /* NULL: nothing, or the caller does it */
} job;

/* Where there is one row or column its stride says nothing, but BLAS wants it as long as the others. */
static int at_least(int64_t stride, int length) { return stride < length ? length : (int)stride; }

static void blas_product(const conv *v, const mx_gemm *g) {
  bool a_turned = g->a_col != 1, b_turned = g->b_col != 1;
  enum CBLAS_TRANSPOSE ta = a_turned ? CblasTrans : CblasNoTrans, tb = b_turned ? CblasTrans : CblasNoTrans;
  int m = (int)g->m, n = (int)g->n, k = (int)g->k;
  int lda = at_least(a_turned ? g->a_col : g->a_row, a_turned ? m : k);
  int ldb = at_least(b_turned ? g->b_col : g->b_row, b_turned ? k : n), ldc = at_least(g->c_row, n);
  if (v->dtype == MLAX_FLOAT32)
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, 1, (const float *)g->a, lda, (const float *)g->b, ldb, g->add,
                (float *)g->c, ldc);
  else
    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, 1, (const double *)g->a, lda, (const double *)g->b, ldb, g->add,
                (double *)g->c, ldc);
}

static void product(const job *j, const mx_gemm *g, float *pack) {
  mx_tile all = {0, g->m, 0, g->n};
  if (j->own) mx_own_tiles(j->v->dtype)->multiply(g, all, pack);
  else if (j->add) blas_product(j->v, g);
  else j->table->rows[j->v->dtype](g, all);
}

/* Rows m0 .. m1-1 of the result, dense, to where they belong. */
static void store_rows(const conv *v, char *out, const char *rows, int64_t m0, int64_t m1) {
  place p = place_of(&v->m_order, m0);
  for (int64_t m = m0; m < m1; m++, rows += v->outs * v->size, next_place(&v->m_order, 0, &p)) {
    int64_t at = p.at[FIRST] * v->y_batch;
    for (int i = 0; i < v->spatial; i++) at += p.at[SPATIAL + i] * v->side[i].y;
    if (v->y_out == 1) memcpy(out + at * v->size, rows, (size_t)(v->outs * v->size));
    else mx_reduce_scatter(out + at * v->size, v->y_out * v->size, rows, v->size, v->outs);
  }
}

/* One tile of rows of a group, summed over one slice of k. */
static void run_task(const job *j, int64_t task, char *scratch) {
  const conv *v = j->v;
  int64_t tile = task % j->tiles, slice = task / j->tiles % j->slices, group = task / j->tiles / j->slices;
  int64_t m0 = tile * j->rows, m1 = lesser(m0 + j->rows, v->m);
  int64_t k0 = slice * j->slice, k1 = lesser(k0 + j->slice, v->k);
  char *out = v->out + group * v->y_group * v->size, *to = scratch + j->tile_at;
  const char *x = v->x + group * v->x_group * v->size, *w = v->w + group * v->w_group * v->size;
  mx_gemm g = v->form;
  g.m = m1 - m0, g.n = v->outs, g.c_row = v->outs, g.a = scratch;
  if (j->slices > 1) to = j->parts + ((group * j->slices + slice) * v->m + m0) * v->outs * v->size;
  else if (v->direct) to = out + m0 * v->y_row * v->size, g.c_row = v->m == 1 ? v->outs : v->y_row;
  g.c = to;
  if (j->unit) {
    mx_conv_direct(&(conv_part){v, x, w, m0, m1, k0, k1, to, g.c_row}, scratch);
    k0 = k1;
  }
  for (int64_t k = k0; k < k1; k += j->depth) {
    g.k = lesser(j->depth, k1 - k);
    g.a_row = v->run.along_k ? g.k : 1, g.a_col = v->run.along_k ? 1 : g.m;
    g.b = w + k * g.b_row * v->size;
    g.add = k > k0;
    fill_panel(v, x, m0, m1, k, k + g.k, scratch);
    product(j, &g, (float *)(scratch + j->pack_at));
  }
  if (j->slices == 1 && !v->direct) store_rows(v, out, to, m0, m1);
}

static void run_chunk(void *arg, int i) {
  const job *j = arg;
  int64_t lo = j->count * i / j->n_chunks, hi = j->count * (i + 1) / j->n_chunks;
  bool blas = j->add && !j->own;
  int threads = blas ? mx_serial_begin() : 0;
  if (j->unit) memset(j->scratch + j->each * (size_t)i, 0, j->pack_at);
  mx_finished f = {.after = j->after};
  for (int64_t t = lo; t < hi; t++) {
    int64_t m0 = (j->first + t) * j->rows, m1 = lesser(m0 + j->rows, j->v->m);
    run_task(j, j->first + t, j->scratch + j->each * (size_t)i);
    if (f.after) mx_finished_add(&f, m0 * j->v->outs, m1 * j->v->outs); /* one group, one slice */
  }
  mx_finished_flush(&f);
  if (blas) mx_serial_end(threads);
}

/* The parts of one group, added in order into the first, and stored. */
static void add_parts(const job *j, int64_t group) {
  const conv *v = j->v;
  int64_t n = v->m * v->outs;
  const mx_fold_loops *loops = &MX_SIMD_PICK(mx_reduce_table)->fold[MX_FOLD_SUM][v->dtype];
  char *sum = j->parts + group * j->slices * n * v->size;
  loops->rows(sum, sum + n * v->size, n * v->size, j->slices - 1, n);
  store_rows(v, v->out + group * v->y_group * v->size, sum, 0, v->m);
}

static void add_chunk(void *arg, int i) {
  const job *j = arg;
  int64_t lo = j->v->groups * i / j->n_chunks, hi = j->v->groups * (i + 1) / j->n_chunks;
  for (int64_t g = lo; g < hi; g++) add_parts(j, g);
}

/* -- all tiles ----------------------------------------------------------------------------------------------------- */

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Rows of a tile: what a panel holds (without one, all), but so that there are tiles for many threads. */
static int64_t rows_of_tile(const job *j) {
  const conv *v = j->v;
  int64_t most = j->unit ? v->m : lesser(greater(PANEL / j->depth, 24), 4096) / 24 * 24;
  int64_t fair = ceil_div(ceil_div(v->m * v->groups, SLICES), 24) * 24;
  return lesser(v->m, lesser(most, greater(fair, 48)));
}

static void cut(job *j) {
  const conv *v = j->v;
  j->depth = j->add ? lesser(v->k, DEPTH) : v->k;
  j->rows = rows_of_tile(j);
  j->tiles = ceil_div(v->m, j->rows);
  int64_t all = j->tiles * v->groups;
  j->slices = all < SLICES && j->add ? lesser(ceil_div(SLICES, all), v->k / SLICE) : 1;
  if (j->slices < 1) j->slices = 1;
  j->slice = ceil_div(v->k, j->slices);
  if (j->unit) j->slice = ceil_div(j->slice, j->unit) * j->unit;
  j->slices = ceil_div(v->k, j->slice);
}

static size_t pack_bytes(const job *j) {
  mx_gemm g = {.m = j->rows, .n = j->v->outs, .k = j->depth, .a_row = 1, .a_col = 1};
  return mx_own_tiles(j->v->dtype)->scratch(&g, (mx_tile){0, g.m, 0, g.n});
}

static bool make_scratch(mx_ctx *c, job *j, size_t *parts) {
  const conv *v = j->v;
  j->pack_at = aligned((size_t)((j->unit ? v->in : j->rows * j->depth) * v->size));
  j->tile_at = j->pack_at + (j->own && !j->unit ? aligned(pack_bytes(j)) : 0);
  j->each = j->tile_at + aligned((size_t)(j->rows * v->outs * v->size));
  *parts = j->slices > 1 ? (size_t)(v->groups * j->slices * v->m * v->outs * v->size) : 0;
  j->scratch = mx_scratch(c, j->each * (size_t)j->n_chunks);
  j->parts = j->scratch && *parts ? mx_scratch(c, *parts) : NULL;
  return j->scratch && (j->parts || !*parts);
}

static bool run_rounds(mx_ctx *c, job *j) {
  int64_t all = j->tiles * j->slices * j->v->groups;
  double task = (double)j->rows * (double)j->slice * (double)j->v->outs;
  int64_t round = (int64_t)(ROUND_WORK / (task < 1 ? 1 : task)) * j->n_chunks;
  if (round < j->n_chunks) round = j->n_chunks;
  for (j->first = 0; j->first < all; j->first += j->count) {
    j->count = lesser(all - j->first, round);
    j->n_chunks = (int)lesser(j->n_chunks, j->count);
    if (j->first && !mx_poll(c)) return false;
    mx_parallel(c->engine, j->n_chunks, run_chunk, j);
  }
  if (j->slices > 1) {
    j->n_chunks = (int)lesser(j->n_chunks, j->v->groups);
    mx_parallel(c->engine, j->n_chunks, add_chunk, j);
  }
  return true;
}

static bool multiply(mx_ctx *c, const conv *v) {
  job j = {.v = v,
           .table = MX_SIMD_PICK(mx_gemm_table),
           .own = is_own(v),
           .add = adds_up(v),
           .unit = mx_conv_direct_unit(v)};
  size_t parts;
  cut(&j);
  int64_t all = j.tiles * j.slices * v->groups;
  double ns = ((j.add ? 0.02 : 0.3) * (double)v->outs + 0.3) * (double)j.slice;
  bool at_once = v->groups == 1 && j.slices == 1 && v->y_out == 1 && v->direct && v->y_row == v->outs;
  if (at_once) j.after = take_after(v, v->outs);
  if (j.after) ns += j.after->ns * (double)v->outs;
  j.n_chunks = mx_chunks(c->engine, all, ns * (double)j.rows);
  size_t n = (size_t)j.n_chunks;
  bool ok = make_scratch(c, &j, &parts) && run_rounds(c, &j);
  if (j.scratch) mx_scratch_free(c, j.scratch, j.each * n);
  if (j.parts) mx_scratch_free(c, j.parts, parts);
  return ok;
}

/* -- the kernel's layout ------------------------------------------------------------------------------------------- */

/* Whether the loops that will be used can read w as it lies. */
static bool reads_kernel(const conv *v) {
  const mx_gemm *f = &v->form;
  if (f->b_row < 0 || v->w_out < 0) return false;
  if (is_own(v)) return f->b_col == 1 || !mx_conv_direct_unit(v);
  if (!adds_up(v)) return f->b_col == 1;
  return f->b_col == 1 ? f->b_row >= v->outs && f->b_row <= INT32_MAX
                       : f->b_row == 1 && f->b_col >= v->k && f->b_col <= INT32_MAX;
}

/* w as [group][k][o] */
static void *pack_kernel(mx_ctx *c, const conv *v, size_t *bytes) {
  mx_aval a;
  int64_t shape[AXES + 2] = {v->groups}, strides[AXES + 2] = {v->w_group * v->size};
  int n = 1;
  for (int i = 0; i < v->k_order.n; i++, n++) {
    int axis = v->k_order.axis[i];
    shape[n] = v->k_order.length[i];
    strides[n] = (axis == FIRST ? v->w_in : v->side[axis - SPATIAL].w) * v->size;
  }
  shape[n] = v->outs;
  strides[n++] = v->w_out * v->size;
  if (!mx_aval_make(c, &a, v->dtype, n, shape)) return NULL;
  mx_tensor t = {.data = (char *)v->w, .aval = &a, .strides = strides};
  t.contiguous = mx_strides_are_contiguous(&a, strides);
  *bytes = mx_nbytes(&a);
  void *p = mx_scratch(c, *bytes);
  if (p) mx_cpu_copy(c, &t, p);
  return p;
}

static bool is_empty(const conv *v) {
  bool empty = v->batch == 0 || v->in == 0;
  for (int i = 0; i < v->spatial; i++) {
    const side *s = &v->side[i];
    empty |= s->n == 0 || s->out == 0 || s->window == 0;
  }
  return empty;
}

static bool is_point(const side *s) { return s->window == 1 && s->lo == 0 && (s->out - 1) * s->stride < s->n; }

/* Windows of one element: axes whose places lie evenly one after another, in x and in the result, are one. */
static void merge_places(conv *v) {
  side *last = &v->side[v->spatial - 1];
  while (is_point(last)) {
    const side *before = v->spatial > 1 ? last - 1 : NULL;
    int64_t x = before ? before->stride * before->x : v->x_batch, y = before ? before->y : v->y_batch;
    if (before ? !is_point(before) : v->batch == 1) return;
    if (x != last->out * last->stride * last->x || y != last->out * last->y) return;
    last->out *= before ? before->out : v->batch;
    last->n = (last->out - 1) * last->stride + 1;
    if (before) v->side[--v->spatial - 1] = *last, last--;
    else v->batch = 1;
  }
}

/* x is undilated here. */
static bool run_conv(mx_ctx *c, conv v) {
  size_t bytes = 0;
  void *packed = NULL;
  if (v.outs == 0 || is_empty(&v)) return true;
  if (mx_conv_is_winograd(&v)) {
    bool done, ok = mx_conv_winograd(c, &v, &done);
    if (!ok || done) return ok;
  }
  merge_places(&v);
  if (mx_conv_is_by_lines(&v)) return mx_conv_by_lines(c, &v);
  choose_runs(&v);
  order_axes(&v);
  if (!reads_kernel(&v)) {
    if (!(packed = pack_kernel(c, &v, &bytes))) return false;
    v.w = packed;
    v.w_group = v.k * v.outs;
    v.form.b_row = v.outs, v.form.b_col = 1;
  }
  bool ok = multiply(c, &v);
  if (packed) mx_scratch_free(c, packed, bytes);
  return ok;
}

/* -- holes --------------------------------------------------------------------------------------------------------- */

static int64_t common_divisor(int64_t a, int64_t b) {
  while (b) {
    int64_t r = a % b;
    a = b, b = r;
  }
  return a;
}

/* The places r, r + step, ... of an axis with holes, where step * stride is whole in undilated elements: there the
 * window's elements q, q + q_step, ... meet elements of x. False: none does. */
static bool side_of_remainder(side *s, int64_t holes, int64_t r, conv *v) {
  int64_t step = holes / common_divisor(s->stride, holes), q_step = holes / common_divisor(s->dilation, holes), q = 0;
  int64_t shift = r * s->stride - s->lo;
  while (q < q_step && q < s->window && (shift + q * s->dilation) % holes) q++;
  if (q == q_step || q >= s->window || r >= s->out) return false;
  s->lo = -((shift + q * s->dilation) / holes);
  v->w += q * s->w * v->size;
  v->out += r * s->y * v->size;
  s->window = (s->window - q + q_step - 1) / q_step;
  s->out = (s->out - r + step - 1) / step;
  s->dilation = s->dilation * q_step / holes;
  s->stride = s->stride * step / holes;
  s->w *= q_step, s->y *= step;
  return true;
}

static bool run_remainders(mx_ctx *c, const conv *v, const mx_few *holes, int i) {
  if (i == v->spatial) return run_conv(c, *v);
  int64_t n = holes->v[i] / common_divisor(v->side[i].stride, holes->v[i]);
  for (int64_t r = 0; r < n && r < v->side[i].out; r++) {
    conv part = *v;
    if (side_of_remainder(&part.side[i], holes->v[i], r, &part) && !run_remainders(c, &part, holes, i + 1))
      return false;
  }
  return true;
}

/* -- the device's function ----------------------------------------------------------------------------------------- */

static void describe(conv *v, const mx_params *p, const mx_aval *x, const mx_aval *k, const mx_aval *y,
                     const int64_t *xs, const int64_t *ws, const int64_t *ys) {
  const mx_few *xa = &p->conv.x_axes, *ka = &p->conv.k_axes, *ya = &p->conv.out_axes;
  int64_t fg = p->conv.feature_groups, bg = p->conv.batch_groups;
  v->spatial = x->ndim - 2;
  v->groups = fg * bg; /* one of them is 1 */
  v->batch = x->shape[xa->v[0]] / bg, v->x_batch = xs[xa->v[0]], v->y_batch = ys[ya->v[0]];
  v->in = k->shape[ka->v[1]], v->x_in = xs[xa->v[1]], v->w_in = ws[ka->v[1]];
  v->outs = k->shape[ka->v[0]] / v->groups, v->w_out = ws[ka->v[0]], v->y_out = ys[ya->v[1]];
  v->x_group = fg > 1 ? v->in * v->x_in : v->batch * v->x_batch;
  v->w_group = v->outs * v->w_out, v->y_group = v->outs * v->y_out;
  for (int i = 0; i < v->spatial; i++) {
    int64_t a = xa->v[2 + i], b = ka->v[2 + i], o = ya->v[2 + i];
    v->side[i] = (side){.n = x->shape[a],
                        .out = y->shape[o],
                        .window = k->shape[b],
                        .stride = p->conv.strides.v[i],
                        .dilation = p->conv.k_dilation.v[i],
                        .lo = p->conv.lo.v[i],
                        .x = xs[a],
                        .w = ws[b],
                        .y = ys[o]};
  }
}

static bool has_holes(const conv *v, const mx_few *holes) {
  bool some = false;
  for (int i = 0; i < v->spatial; i++) some |= holes->v[i] > 1;
  return some;
}

static int working_dtype(int dtype) { return dtype == MLAX_FLOAT16 || dtype == MLAX_BFLOAT16 ? MLAX_FLOAT32 : dtype; }

/* Whether some of the result is a sum of nothing: places of a remainder that meets none of the window. */
static bool leaves_gaps(const conv *v, const mx_few *holes) {
  bool gaps = is_empty(v);
  for (int i = 0; i < v->spatial && !gaps; i++) {
    const side *s = &v->side[i];
    int64_t n = holes->v[i] / common_divisor(s->stride, holes->v[i]);
    for (int64_t r = 0; r < n && r < s->out; r++) {
      conv part = *v;
      gaps |= !side_of_remainder(&part.side[i], holes->v[i], r, &part);
    }
  }
  return gaps;
}

static bool run_arrays(mx_ctx *c, const mx_kernel_args *a, const mx_conv_array *x, const mx_conv_array *k,
                       const mx_conv_array *y, int dtype) {
  const mx_aval *aval = a->out[0].aval;
  conv v = {.dtype = dtype, .size = (int64_t)mx_itemsize(dtype), .x = x->data, .w = k->data, .out = y->data};
  describe(&v, a->p, a->in[0].aval, a->in[1].aval, aval, x->strides, k->strides, y->strides);
  bool lies_there = v.out == a->out[0].data; /* else it is narrowed or turned at last */
  if (lies_there && !has_holes(&v, &a->p->conv.x_dilation)) v.after = a->after;
  if (leaves_gaps(&v, &a->p->conv.x_dilation)) memset(v.out, 0, (size_t)aval->size * (size_t)v.size);
  return is_empty(&v) || run_remainders(c, &v, &a->p->conv.x_dilation, 0);
}

bool mx_cpu_conv(mx_ctx *c, const mx_kernel_args *a) {
  int dtype = working_dtype(a->out[0].aval->dtype);
  mx_conv_array x = {0}, k = {0}, y = {0};
  mx_widened w;
  if (a->out[0].aval->size == 0) return true;
  if (!mx_widen_result(c, &a->out[0], &w)) return false;
  bool ok = mx_conv_operand(c, &a->in[0], &a->p->conv.x_axes, dtype, &x) &&
            mx_conv_operand(c, &a->in[1], &a->p->conv.k_axes, dtype, &k) &&
            mx_conv_result(c, &w.out, &a->p->conv.out_axes, &y) && run_arrays(c, a, &x, &k, &y, dtype);
  if (ok) mx_conv_store(c, &w.out, &y);
  mx_conv_free(c, &x);
  mx_conv_free(c, &k);
  mx_conv_free(c, &y);
  return mx_narrow(c, &w, ok);
}
