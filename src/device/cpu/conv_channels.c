/* conv_channels.c: convolutions each group of which sees one channel: depthwise ones, and their kernels' gradients.
 *
 *     out[m, o, g] = sum over k of  x[m, k, g] w[k, o, g]        m, k as in conv.c
 *
 * Groups lie side by side (where they do not, operands are copied so that they do), and vectors run along them. The
 * last spatial axis is a line: a tile of some of its places stays in registers while the window is walked, line by
 * line. A part of a line of the window may be outside x for some places of a tile; then they share what is inside for
 * all of them, and the rest is added place by place:
 *
 *     places 0 1 2, of 3 elements each, of which the first has one outside:   0: . x x    a tile of 0, a tile of 1, 2
 *     places 0 1 2, of 9 elements each:                                       0: . x x x x x x x x
 *                                                                             1:   x x x x x x x x x
 *                                                                             2:     x x x x x x x x .
 *                                                   shared: 7 elements             ^             ^
 *
 * Few places and a long sum (a kernel's gradient) are cut along the lines of the window; the parts are added in order.
 * Shapes alone say how. */
#include "conv_impl.h"
#include "reduce_impl.h"
#include "simd/channels.h"

enum {
  MAX_LINES = 32, /* of the window, at a time */
  SEGMENT = 96,   /* places of a task */
  TASKS = 16,     /* that there should be at least, */
  SLICE = 16,     /* where there are more lines than these to be added up */
  MOST_OUTS = 4
};
#define ROUND_WORK ((double)(1 << 28)) /* multiplications of a round, for each thread */

static const side *line_of(const conv *v) { return &v->side[v->spatial - 1]; }

/* Whether each group sees one channel of x, in all of its batch: of a few groups it does not matter. */
bool mx_conv_is_by_channel(const conv *v) {
  bool one = v->in == 1 || v->batch == 1;
  return v->groups > 1 && mx_is_float(v->dtype) && v->outs <= MOST_OUTS && one && (v->x_group == 1 || v->groups >= 8);
}

/* -- groups side by side ------------------------------------------------------------------------------------------- */

/* A copy whose axes are these lengths, in elements. */
static void *copy_of(mx_ctx *c, const conv *v, const char *data, int n, const int64_t *shape, int64_t *strides,
                     size_t *bytes) {
  mx_aval a;
  if (!mx_aval_make(c, &a, v->dtype, n, shape)) return NULL;
  for (int i = 0; i < n; i++) strides[i] *= v->size;
  mx_tensor t = {.data = (char *)data, .aval = &a, .strides = strides};
  t.contiguous = mx_strides_are_contiguous(&a, strides);
  *bytes = mx_nbytes(&a);
  void *p = mx_scratch(c, *bytes);
  if (p) mx_cpu_copy(c, &t, p);
  mx_strides_contiguous(&a, strides);
  for (int i = 0; i < n; i++) strides[i] /= v->size;
  return p;
}

/* x as {batch, spatial..., in, group} */
static bool copy_x(mx_ctx *c, conv *v, void **memory, size_t *bytes) {
  int64_t shape[AXES + 2] = {v->batch}, strides[AXES + 2] = {v->x_batch};
  int n = 1;
  for (int i = 0; i < v->spatial; i++, n++) shape[n] = v->side[i].n, strides[n] = v->side[i].x;
  shape[n] = v->in, strides[n++] = v->x_in;
  shape[n] = v->groups, strides[n++] = v->x_group;
  if (!(*memory = copy_of(c, v, v->x, n, shape, strides, bytes))) return false;
  v->x = *memory, v->x_batch = strides[0], v->x_in = strides[n - 2], v->x_group = 1;
  for (int i = 0; i < v->spatial; i++) v->side[i].x = strides[1 + i];
  return true;
}

/* w as {out, in, spatial..., group} */
static bool copy_w(mx_ctx *c, conv *v, void **memory, size_t *bytes) {
  int64_t shape[AXES + 2] = {v->outs, v->in}, strides[AXES + 2] = {v->w_out, v->w_in};
  int n = 2;
  for (int i = 0; i < v->spatial; i++, n++) shape[n] = v->side[i].window, strides[n] = v->side[i].w;
  shape[n] = v->groups, strides[n++] = v->w_group;
  if (!(*memory = copy_of(c, v, v->w, n, shape, strides, bytes))) return false;
  v->w = *memory, v->w_out = strides[0], v->w_in = strides[1], v->w_group = 1;
  for (int i = 0; i < v->spatial; i++) v->side[i].w = strides[2 + i];
  return true;
}

/* -- tiles --------------------------------------------------------------------------------------------------------- */

typedef struct job {
  const conv *v;
  const mx_channel_loops *loops;
  order rows;                     /* axes of m but the last one */
  order lines;                    /* axes of k but the last one */
  int64_t n_rows, n_lines;        /* how many places these have */
  int64_t segments, slices, each; /* of a row; of the lines, and how many a slice has */
  int64_t first, count;           /* tasks of this round */
  int n_chunks;
  char *scratch; /* for each chunk: a segment, where the result's groups do not lie side by side */
  char *parts;   /* where slices > 1: [slice][row][place][group] */
} job;

/* Elements lo .. hi-1 of a line of the window are inside for place p. */
typedef struct span {
  int64_t lo, hi;
} span;

static span span_of(const side *s, int64_t p) {
  int64_t at = p * s->stride - s->lo;
  span r = {greater(0, -floor_of(at, s->dilation)), lesser(s->window, floor_of(s->n - 1 - at, s->dilation) + 1)};
  if (r.hi <= r.lo) r.lo = r.hi = 0;
  return r;
}

/* How many places from p on share most of the window, and which part of it. */
static int64_t share(const side *s, int64_t p, int64_t end, span *common) {
  int64_t n = 1;
  span r = span_of(s, p);
  int64_t longest = r.hi - r.lo;
  for (; n < MX_CHANNEL_PLACES && p + n < end; n++) {
    span next = span_of(s, p + n), both = {greater(r.lo, next.lo), lesser(r.hi, next.hi)};
    longest = greater(longest, next.hi - next.lo);
    if (4 * (both.hi - both.lo) < 3 * longest) break;
    r = both;
  }
  *common = r;
  return n;
}

static void run_span(const job *j, mx_channel_tile *t, int64_t p, span r) {
  const side *s = line_of(j->v);
  t->k = r.hi - r.lo;
  t->x_at = (p * s->stride + r.lo * s->dilation - s->lo) * s->x, t->w_at = r.lo * s->w;
  j->loops->tile(t);
}

/* What single places have beside the part that all share. */
static void run_rests(const job *j, mx_channel_tile t, int64_t p, int64_t n, span common) {
  t.places = 1, t.add = true;
  for (int64_t i = 0; i < n; i++, t.y += t.y_place * j->v->size) {
    span own = span_of(line_of(j->v), p + i);
    if (own.lo < common.lo) run_span(j, &t, p + i, (span){own.lo, common.lo});
    if (own.hi > common.hi) run_span(j, &t, p + i, (span){common.hi, own.hi});
  }
}

/* Places p0 .. p1-1 of a row, for the lines at hand. */
static void run_places(const job *j, mx_channel_tile t, int64_t p0, int64_t p1) {
  span common;
  for (int64_t p = p0, n; p < p1; p += n, t.y += n * t.y_place * j->v->size) {
    n = share(line_of(j->v), p, p1, &common);
    t.places = (int)n;
    run_span(j, &t, p, common);
    run_rests(j, t, p, n, common);
  }
}

/* Where a line of the window begins in x and in the kernel; false: it is outside. */
static bool find_line(const conv *v, const char *x, const char *w, const place *m, const place *k,
                      mx_channel_line *to) {
  int64_t in_x = m->at[FIRST] * v->x_batch + k->at[FIRST] * v->x_in, in_w = k->at[FIRST] * v->w_in;
  for (int i = 0; i < v->spatial - 1; i++) {
    const side *s = &v->side[i];
    int64_t at = m->at[SPATIAL + i] * s->stride + k->at[SPATIAL + i] * s->dilation - s->lo;
    if (at < 0 || at >= s->n) return false;
    in_x += at * s->x, in_w += k->at[SPATIAL + i] * s->w;
  }
  to->x = x + in_x * v->size, to->w = w + in_w * v->size;
  return true;
}

/* A segment of a row, summed over lines l0 .. l1-1 of the window, to t->y. */
static void run_segment(const job *j, mx_channel_tile *t, int64_t row, int64_t p0, int64_t p1, int64_t o, int64_t l0,
                        int64_t l1) {
  const conv *v = j->v;
  mx_channel_line lines[MAX_LINES];
  place m = place_of(&j->rows, row), k = place_of(&j->lines, l0);
  t->lines = lines, t->add = false;
  for (int64_t l = l0; l < l1; t->add = true) {
    int64_t n = 0;
    for (; l < l1 && n < MAX_LINES; l++, next_place(&j->lines, 0, &k))
      n += find_line(v, v->x, v->w + o * v->w_out * v->size, &m, &k, &lines[n]);
    t->n_lines = n;
    if (n || !t->add) run_places(j, *t, p0, p1);
  }
}

/* A dense segment to where it belongs. */
static void store_segment(const conv *v, char *to, const char *from, int64_t places) {
  int64_t y = line_of(v)->y;
  for (int64_t i = 0; i < places; i++)
    mx_reduce_scatter(to + i * y * v->size, v->y_group * v->size, from + i * v->groups * v->size, v->size, v->groups);
}

static char *result_at(const job *j, int64_t row, int64_t p, int64_t o) {
  const conv *v = j->v;
  place m = place_of(&j->rows, row);
  int64_t at = m.at[FIRST] * v->y_batch + p * line_of(v)->y + o * v->y_out;
  for (int i = 0; i < v->spatial - 1; i++) at += m.at[SPATIAL + i] * v->side[i].y;
  return v->out + at * v->size;
}

static void run_task(const job *j, int64_t task, char *scratch) {
  const conv *v = j->v;
  const side *s = line_of(v);
  int64_t o = task % v->outs, segment = task / v->outs % j->segments, row = task / v->outs / j->segments % j->n_rows;
  int64_t slice = task / v->outs / j->segments / j->n_rows, l0 = slice * j->each;
  int64_t p0 = segment * SEGMENT, p1 = lesser(p0 + SEGMENT, s->out);
  char *out = result_at(j, row, p0, o);
  bool direct = j->slices == 1 && v->y_group == 1;
  mx_channel_tile t = {.n = v->groups,
                       .x_place = s->stride * s->x,
                       .x_step = s->dilation * s->x,
                       .w_step = s->w,
                       .y_place = direct ? s->y : v->groups,
                       .y = direct ? out : scratch};
  if (j->slices > 1) t.y = j->parts + (((slice * v->outs + o) * j->n_rows + row) * s->out + p0) * v->groups * v->size;
  run_segment(j, &t, row, p0, p1, o, l0, lesser(l0 + j->each, j->n_lines));
  if (j->slices == 1 && !direct) store_segment(v, out, scratch, p1 - p0);
}

static void run_chunk(void *arg, int i) {
  const job *j = arg;
  int64_t lo = j->count * i / j->n_chunks, hi = j->count * (i + 1) / j->n_chunks;
  char *scratch = j->scratch + lesser(SEGMENT, line_of(j->v)->out) * j->v->groups * j->v->size * i;
  for (int64_t t = lo; t < hi; t++) run_task(j, j->first + t, scratch);
}

/* -- all tiles ----------------------------------------------------------------------------------------------------- */

static int64_t order_all(order *o, int64_t first, const conv *v, bool windows) {
  int64_t n = first;
  *o = (order){.n = v->spatial, .axis = {FIRST}, .length = {first}};
  for (int i = 0; i < v->spatial - 1; i++) {
    o->axis[1 + i] = SPATIAL + i;
    n *= o->length[1 + i] = windows ? v->side[i].window : v->side[i].out;
  }
  return n;
}

static void cut(job *j) {
  const conv *v = j->v;
  j->n_rows = order_all(&j->rows, v->batch, v, false);
  j->n_lines = order_all(&j->lines, v->in, v, true);
  j->segments = ceil_div(line_of(v)->out, SEGMENT);
  bool few = j->n_rows * j->segments < TASKS;
  j->slices = few ? greater(1, lesser(TASKS, j->n_lines / SLICE)) : 1;
  j->each = ceil_div(j->n_lines, j->slices);
  j->slices = ceil_div(j->n_lines, j->each);
}

/* The slices' results, added in order into the first, and stored. */
static void add_parts(const job *j) {
  const conv *v = j->v;
  const side *s = line_of(v);
  int64_t row = s->out * v->groups, n = v->outs * j->n_rows * row;
  const mx_fold_loops *loops = &MX_SIMD_PICK(mx_reduce_table)->fold[MX_FOLD_SUM][v->dtype];
  loops->rows(j->parts, j->parts + n * v->size, n * v->size, j->slices - 1, n);
  for (int64_t i = 0; i < v->outs * j->n_rows; i++)
    store_segment(v, result_at(j, i % j->n_rows, 0, i / j->n_rows), j->parts + i * row * v->size, s->out);
}

static bool run_rounds(mx_ctx *c, job *j) {
  const conv *v = j->v;
  int64_t all = j->slices * j->n_rows * j->segments * v->outs;
  double work = (double)j->each * (double)(line_of(v)->window * v->groups) * (double)lesser(SEGMENT, line_of(v)->out);
  int64_t round = greater(1, (int64_t)lesser((int64_t)(ROUND_WORK / work), all)) * j->n_chunks;
  for (j->first = 0; j->first < all; j->first += j->count) {
    j->count = lesser(all - j->first, round);
    j->n_chunks = (int)lesser(j->n_chunks, j->count);
    if (j->first && !mx_poll(c)) return false;
    mx_parallel(c->engine, j->n_chunks, run_chunk, j);
  }
  if (j->slices > 1) add_parts(j);
  return true;
}

static bool multiply(mx_ctx *c, const conv *v) {
  job j = {.v = v};
  j.loops = v->dtype == MLAX_FLOAT32 ? MX_SIMD_PICK(mx_channel_float) : MX_SIMD_PICK(mx_channel_double);
  cut(&j);
  const side *s = line_of(v);
  int64_t tasks = j.slices * j.n_rows * j.segments * v->outs, places = lesser(SEGMENT, s->out);
  double ns = (5 + 0.05 * (double)v->groups) * (double)(places * j.each * s->window);
  j.n_chunks = mx_chunks(c->engine, tasks, ns);
  size_t bytes = (size_t)(j.n_chunks * places * v->groups * v->size);
  size_t parts = j.slices > 1 ? (size_t)(j.slices * v->outs * j.n_rows * s->out * v->groups * v->size) : 0;
  bool ok = (j.scratch = mx_scratch(c, bytes)) && (!parts || (j.parts = mx_scratch(c, parts))) && run_rounds(c, &j);
  if (j.scratch) mx_scratch_free(c, j.scratch, bytes);
  if (j.parts) mx_scratch_free(c, j.parts, parts);
  return ok;
}

bool mx_conv_channels(mx_ctx *c, const conv *whole) {
  conv v = *whole;
  void *x = NULL, *w = NULL;
  size_t x_bytes, w_bytes;
  bool ok = (v.x_group == 1 || copy_x(c, &v, &x, &x_bytes)) && (v.w_group == 1 || copy_w(c, &v, &w, &w_bytes));
  ok = ok && multiply(c, &v);
  if (x) mx_scratch_free(c, x, x_bytes);
  if (w) mx_scratch_free(c, w, w_bytes);
  return ok;
}
