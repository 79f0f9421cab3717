/* conv_lines.c: convolutions that read x where it lies, a line of places after another.
 *
 * The last spatial axis is a line. A tile of some of its places stays in registers while the window is walked, line by
 * line; the columns of a tile lie side by side in the kernel:
 *
 *     products      out[m, o] = sum over k of x[m, k] w[k, o]           columns: the out features o
 *                   channels-last data: what the window's line has of x are features side by side, one run of k
 *     gradients     out[c, m, o] = sum over k of x[c, m, k] w[k, o]     columns: the out features o
 *                   the kernel's gradient of channels-last data: places have channels c, side by side in x, which are
 *                   places, too, and batch and places of the picture are what is summed
 *     by channels   out[m, o, g] = sum over k of x[m, k, g] w[k, o, g]  columns: the groups g, of one channel each
 *                   depthwise convolutions, and their kernels' gradients; operands whose groups do not lie side by side
 *                   are copied so that they do
 *
 * A part of the window's line may be outside x for some places of a tile. They share what is inside for all of them,
 * and places that have the same rest add it together:
 *
 *     places 0 1 2 3, window 3:   0: . x x       shared: elements 1, 2; of places 1 to 3 the rest, element 0
 *                                 1:   x x x
 *                                 2:     x x x
 *                                 3:       x x x
 *
 * A large kernel is taken in parts that stay in a cache for several rows of places. Few places and a long sum (a
 * kernel's gradient) are cut along the lines of the window; the parts are added in order. Shapes alone say how. */
#include "conv_impl.h"
#include "reduce_impl.h"
#include "simd/lines.h"

enum {
  MAX_LINES = 32,   /* of the window, at a time */
  SEGMENT = 96,     /* places of a task */
  TASKS = 16,       /* that there should be at least, */
  SLICE = 16,       /* where there are more lines than these to be added up */
  MOST_OUTS = 4,    /* by channels */
  SHORT_RUN = 32,   /* k of a line */
  SHORT_SUM = 4,    /* lines of the window, of gradients, */
  SHORT_TILE = 6,   /* and their places */
  SHORT_LINE = 12,  /* shorter lines of products make poor tiles */
  PART = 32 * 1024, /* bytes of a kernel that stay in a cache */
  MOST_ROWS = 8,    /* that use them, of a task */
  COLUMN_UNIT = 32
};
#define ROUND_WORK ((double)(1 << 30)) /* multiplications of a round, for each thread */

typedef struct job {
  const conv *v;
  const mx_line_loops *loops;
  int64_t n, x_n, y_n; /* columns; from one to the next in x (0: all see the same), in the result */
  int64_t channels;    /* places at each position of the line: x, and the result, from one to the next */
  int64_t x_channel, y_channel;
  bool even;                                 /* and all places of a line lie evenly in x */
  int64_t places;                            /* of a line */
  int64_t x_place;                           /* from a place to the next */
  int64_t unit, x_step, w_step;              /* k for each element of the window's line; its steps */
  int64_t wholes, x_whole, w_whole, y_whole; /* convolutions beside one another, and steps between them */
  order rows, lines;                         /* axes of m, of k, but the last spatial one */
  int64_t n_rows, n_lines;                   /* how many places these have */
  int64_t inner_lo, inner_hi;                /* places of a line whose windows are all inside */
  int64_t row_blocks, rows_each, segments;   /* tasks; */
  int64_t slices, slice;                     /* of so many lines each */
  int64_t lines_each, columns_each;          /* what is done for all rows of a task before going on */
  int64_t first, count;                      /* tasks of this round */
  int n_chunks;
  char *scratch; /* for each chunk: places of a task, where the result's columns do not lie side by side */
  size_t each;
  char *parts;     /* where slices > 1: [slice][whole][row][place][column] */
  mx_after *after; /* NULL: nothing, or the caller does it */
} job;

static const side *line_of(const conv *v) { return &v->side[v->spatial - 1]; }

static const mx_line_loops *product_loops(int dtype) {
  if (dtype != MLAX_FLOAT32 && dtype != MLAX_FLOAT64) return NULL;
  const mx_line_loops *l = dtype == MLAX_FLOAT32 ? MX_SIMD_PICK(mx_products_float) : MX_SIMD_PICK(mx_products_double);
  return l->places ? l : NULL;
}

/* Whether each group sees one channel of x, in all of its batch; of a few groups it does not matter. */
static bool is_by_channel(const conv *v) {
  bool one = v->in == 1 || v->batch == 1;
  return v->groups > 1 && mx_is_float(v->dtype) && v->outs <= MOST_OUTS && one && (v->x_group == 1 || v->groups >= 8);
}

static bool is_by_product(const conv *v) {
  const side *s = line_of(v);
  bool dense = (v->x_in == 1 || v->in == 1) && (s->window == 1 || s->dilation * s->x == v->in);
  return product_loops(v->dtype) && dense && s->out >= SHORT_LINE;
}

static bool is_gradient(const conv *v) {
  const side *s = line_of(v);
  return product_loops(v->dtype) && v->x_batch == 1 && s->window >= SHORT_SUM && s->out * v->batch >= SHORT_TILE;
}

bool mx_conv_is_by_lines(const conv *v) { return is_by_channel(v) || is_by_product(v) || is_gradient(v); }

/* The axes before the last one: of x, of the window, of the places. */
typedef enum { WHOLE, WINDOWS, PLACES } lengths;

static int64_t order_all(order *o, int64_t first, const conv *v, lengths which) {
  int64_t n = first;
  *o = (order){.n = v->spatial, .axis = {FIRST}, .length = {first}};
  for (int i = 0; i < v->spatial - 1; i++) {
    const side *s = &v->side[i];
    o->axis[1 + i] = SPATIAL + i;
    n *= o->length[1 + i] = which == WHOLE ? s->n : which == WINDOWS ? s->window : s->out;
  }
  return n;
}

/* -- layouts ------------------------------------------------------------------------------------------------------- */

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

/* w as {group, spatial..., in, out}; by channels {out, spatial..., in, group} */
static bool copy_w(mx_ctx *c, conv *v, bool by_channel, void **memory, size_t *bytes) {
  int64_t *first = by_channel ? &v->w_out : &v->w_group, *last = by_channel ? &v->w_group : &v->w_out;
  int64_t shape[AXES + 2] = {by_channel ? v->outs : v->groups}, strides[AXES + 2] = {*first};
  int n = 1;
  for (int i = 0; i < v->spatial; i++, n++) shape[n] = v->side[i].window, strides[n] = v->side[i].w;
  shape[n] = v->in, strides[n++] = v->w_in;
  shape[n] = by_channel ? v->groups : v->outs, strides[n++] = *last;
  if (!(*memory = copy_of(c, v, v->w, n, shape, strides, bytes))) return false;
  v->w = *memory, *first = strides[0], v->w_in = strides[n - 2], *last = 1;
  for (int i = 0; i < v->spatial; i++) v->side[i].w = strides[1 + i];
  return true;
}

bool mx_conv_copy_kernel(mx_ctx *c, conv *v, void **memory, size_t *bytes) {
  return copy_w(c, v, false, memory, bytes);
}

/* -- borders ------------------------------------------------------------------------------------------------------- */

/* Few channels: what borders cut off a tile would cost more than to copy x with zeros before and behind its lines. */
typedef struct padding {
  const conv *v; /* x as it is */
  order rows;
  int64_t n_rows, length, lo, count; /* elements of a row, of which the count behind lo are x's */
  char *to;
  int n_chunks;
} padding;

static void pad_chunk(void *arg, int i) {
  const padding *p = arg;
  const conv *v = p->v;
  int64_t r0 = p->n_rows * i / p->n_chunks, r1 = p->n_rows * (i + 1) / p->n_chunks;
  place at = place_of(&p->rows, r0);
  char *to = p->to + r0 * p->length * v->size;
  memset(to, 0, (size_t)((r1 - r0) * p->length * v->size));
  for (int64_t r = r0; r < r1; r++, to += p->length * v->size, next_place(&p->rows, 0, &at)) {
    int64_t from = at.at[FIRST] * v->x_batch;
    for (int s = 0; s < v->spatial - 1; s++) from += at.at[SPATIAL + s] * v->side[s].x;
    memcpy(to + p->lo * v->size, v->x + from * v->size, (size_t)(p->count * v->size));
  }
}

static bool wants_padding(const conv *v) {
  const side *s = line_of(v);
  int64_t end = (s->out - 1) * s->stride + (s->window - 1) * s->dilation - s->lo; /* the last element that is met */
  return is_by_product(v) && v->groups == 1 && s->x == v->in && s->lo >= 0 && (s->lo > 0 || end >= s->n) &&
         s->window * v->in <= SHORT_RUN;
}

/* x {batch, spatial..., in} with padded lines */
static bool pad_x(mx_ctx *c, conv *v, void **memory, size_t *bytes) {
  conv before = *v;
  side *s = &v->side[v->spatial - 1];
  int64_t n = (s->out - 1) * s->stride + (s->window - 1) * s->dilation + 1;
  padding p = {.v = &before, .length = n * v->in, .lo = s->lo * v->in};
  p.count = greater(0, lesser(s->n, n - s->lo)) * v->in;
  p.n_rows = order_all(&p.rows, v->batch, v, WHOLE);
  *bytes = (size_t)(p.n_rows * p.length * v->size);
  if (!(*memory = p.to = mx_scratch(c, *bytes))) return false;
  p.n_chunks = mx_chunks(c->engine, p.n_rows, 20 + 0.1 * (double)p.length);
  mx_parallel(c->engine, p.n_chunks, pad_chunk, &p);
  v->x = p.to, s->n = n, s->lo = 0;
  int64_t step = p.length;
  for (int i = v->spatial - 2; i >= 0; i--) v->side[i].x = step, step *= v->side[i].n;
  v->x_batch = step;
  return true;
}

static bool reads_kernel(const conv *v, bool by_channel) {
  if (by_channel) return v->w_group == 1;
  if (!is_by_product(v)) return v->w_out == 1;
  return v->w_out == 1 && (line_of(v)->window == 1 || line_of(v)->w == v->in * v->w_in);
}

/* -- tiles --------------------------------------------------------------------------------------------------------- */

/* Elements lo .. hi-1 of a line of the window are inside for place p. */
typedef struct span {
  int64_t lo, hi;
} span;

static int64_t steps_of(int64_t distance, int64_t step) { return step == 1 ? distance : floor_of(distance, step); }

static span span_of(const job *j, int64_t p) {
  const side *s = line_of(j->v);
  int64_t at = (j->channels == 1 ? p : p / j->channels) * s->stride - s->lo;
  span r = {greater(0, -steps_of(at, s->dilation)), lesser(s->window, steps_of(s->n - 1 - at, s->dilation) + 1)};
  if (r.hi <= r.lo) r.lo = r.hi = 0;
  return r;
}

/* How many places from p on, of n, share at least half of the window, and what they share. */
static int64_t share(const job *j, int64_t p, int64_t n, span *common) {
  *common = (span){0, line_of(j->v)->window};
  if (j->even && p >= j->inner_lo && p + n <= j->inner_hi) return n;
  *common = span_of(j, p);
  int64_t longest = common->hi - common->lo;
  for (int64_t i = 1; i < n; i++) {
    if (!j->even && (p + i) % j->channels == 0) return i;
    span next = span_of(j, p + i), both = {greater(common->lo, next.lo), lesser(common->hi, next.hi)};
    longest = greater(longest, next.hi - next.lo);
    if (2 * (both.hi - both.lo) < longest) return i;
    *common = both;
  }
  return n;
}

/* Some places of a segment that one tile makes, for the same part of the window's line. */
typedef struct piece {
  int64_t at; /* its first place in the segment */
  int places;
  int64_t k, x_at, w_at; /* of the tile */
  bool adds;             /* the rest of what another piece began */
} piece;

enum { MOST_PIECES = 3 * SEGMENT };

/* The pieces of places p0 .. p1-1, for every row of places. */
typedef struct pieces {
  int64_t p0, n;
  piece of[MOST_PIECES];
} pieces;

static void add_piece(const job *j, pieces *all, int64_t p, int64_t n, span r, bool adds) {
  const side *s = line_of(j->v);
  int64_t at = j->channels == 1 ? p : p / j->channels, c = p - at * j->channels;
  piece *to = &all->of[all->n++];
  *to = (piece){.at = p - all->p0, .places = (int)n, .k = (r.hi - r.lo) * j->unit, .adds = adds};
  to->x_at = (at * s->stride + r.lo * s->dilation - s->lo) * s->x + c * j->x_channel;
  to->w_at = r.lo * s->w;
}

/* What places have before (behind) the part that all share: those that have as much add it together. */
static void add_rests(const job *j, pieces *all, int64_t p, int64_t n, span common, bool before) {
  for (int64_t i = 0, count; i < n; i += count) {
    span own = span_of(j, p + i), next = own;
    span rest = before ? (span){own.lo, common.lo} : (span){common.hi, own.hi};
    for (count = 1; i + count < n; count++) {
      next = span_of(j, p + i + count);
      if (before ? next.lo != own.lo : next.hi != own.hi) break;
    }
    if (rest.lo < rest.hi) add_piece(j, all, p + i, count, rest, true);
  }
}

/* Tiles of about equal size. */
static void find_pieces(const job *j, int64_t p0, int64_t p1, pieces *all) {
  span common;
  all->p0 = p0, all->n = 0;
  for (int64_t p = p0, n; p < p1; p += n) {
    n = share(j, p, ceil_div(p1 - p, ceil_div(p1 - p, j->loops->places)), &common);
    add_piece(j, all, p, n, common, false);
    if (p >= j->inner_lo && p + n <= j->inner_hi) continue;
    add_rests(j, all, p, n, common, true);
    add_rests(j, all, p, n, common, false);
  }
}

/* The pieces of a row, for the lines at hand. */
static void run_pieces(const job *j, mx_line_tile t, const pieces *all) {
  char *y = t.y;
  bool add = t.add;
  for (const piece *p = all->of, *end = p + all->n; p < end; p++) {
    t.places = p->places, t.k = p->k, t.x_at = p->x_at, t.w_at = p->w_at;
    t.y = y + p->at * t.y_place * j->v->size;
    t.add = add || p->adds;
    j->loops->tile(&t);
  }
}

/* Where a line of the window begins in x and in the kernel; false: it is outside. */
static bool find_line(const job *j, const place *m, const place *k, mx_line *line) {
  const conv *v = j->v;
  int64_t x = m->at[FIRST] * v->x_batch + k->at[FIRST] * v->x_in, w = k->at[FIRST] * v->w_in;
  for (int i = 0; i < v->spatial - 1; i++) {
    const side *s = &v->side[i];
    int64_t at = m->at[SPATIAL + i] * s->stride + k->at[SPATIAL + i] * s->dilation - s->lo;
    if (at < 0 || at >= s->n) return false;
    x += at * s->x, w += k->at[SPATIAL + i] * s->w;
  }
  line->x += x * v->size, line->w += w * v->size;
  return true;
}

/* -- tasks --------------------------------------------------------------------------------------------------------- */

typedef struct task {
  int64_t whole, r0, r1, p0, p1, slice;
  mx_line_tile t; /* of the first row */
  int64_t y_row;  /* bytes, dense rows; 0: rows are where the result is */
  const pieces *pieces;
} task;

static char *result_at(const job *j, int64_t whole, const place *m, int64_t p) {
  const conv *v = j->v;
  int64_t at = m->at[FIRST] * v->y_batch + whole * j->y_whole;
  if (j->channels == 1) at += p * line_of(v)->y;
  else at += p / j->channels * line_of(v)->y + p % j->channels * j->y_channel;
  for (int i = 0; i < v->spatial - 1; i++) at += m->at[SPATIAL + i] * v->side[i].y;
  return v->out + at * v->size;
}

/* All rows of a task, for lines l0 .. l1-1 of the window and columns c0 .. c1-1. */
static void run_rows(const job *j, const task *k, int64_t l0, int64_t l1, int64_t c0, int64_t c1, bool add) {
  const conv *v = j->v;
  mx_line lines[MAX_LINES];
  mx_line_tile t = k->t;
  t.lines = lines, t.n = c1 - c0, t.add = add;
  place m = place_of(&j->rows, k->r0), first = place_of(&j->lines, l0);
  for (int64_t row = k->r0; row < k->r1; row++, next_place(&j->rows, 0, &m)) {
    place at = first;
    t.n_lines = 0;
    for (int64_t l = l0; l < l1; l++, next_place(&j->lines, 0, &at)) {
      mx_line line = {v->x + (k->whole * j->x_whole + c0 * j->x_n) * v->size,
                      v->w + (k->whole * j->w_whole + c0) * v->size};
      if (find_line(j, &m, &at, &line)) lines[t.n_lines++] = line;
    }
    t.y = (k->y_row ? k->t.y + (row - k->r0) * k->y_row : result_at(j, k->whole, &m, k->p0)) + c0 * v->size;
    if (t.n_lines || !add) run_pieces(j, t, k->pieces);
  }
}

/* Dense places to where they belong. */
static void store_places(const job *j, int64_t whole, int64_t row, int64_t p0, int64_t p1, const char *from) {
  int64_t size = j->v->size;
  place m = place_of(&j->rows, row);
  for (int64_t p = p0; p < p1; p++, from += j->n * size)
    mx_reduce_scatter(result_at(j, whole, &m, p), j->y_n * size, from, size, j->n);
}

static task task_of(const job *j, int64_t i, char *scratch) {
  const conv *v = j->v;
  const side *s = line_of(v);
  int64_t rest = i / j->segments / j->row_blocks;
  task k = {.whole = rest % j->wholes, .slice = rest / j->wholes};
  k.p0 = i % j->segments * SEGMENT, k.p1 = lesser(k.p0 + SEGMENT, j->places);
  k.r0 = i / j->segments % j->row_blocks * j->rows_each, k.r1 = lesser(k.r0 + j->rows_each, j->n_rows);
  k.t = (mx_line_tile){.x_place = j->x_place, .x_step = j->x_step, .w_step = j->w_step};
  bool direct = j->slices == 1 && j->y_n == 1 && j->channels == 1;
  k.t.y_place = direct ? s->y : j->n;
  if (direct) return k;
  k.y_row = (j->slices > 1 ? j->places : k.p1 - k.p0) * j->n * v->size;
  k.t.y = scratch;
  if (j->slices > 1)
    k.t.y = j->parts + (((k.slice * j->wholes + k.whole) * j->n_rows + k.r0) * j->places + k.p0) * j->n * v->size;
  return k;
}

/* all: of the task before, which often has the same places. */
static void run_task(const job *j, int64_t i, char *scratch, pieces *all) {
  task k = task_of(j, i, scratch);
  if (k.p0 != all->p0) find_pieces(j, k.p0, k.p1, all);
  k.pieces = all;
  int64_t l0 = k.slice * j->slice, end = lesser(l0 + j->slice, j->n_lines);
  for (int64_t c = 0; c < j->n; c += j->columns_each)
    for (int64_t l = l0; l < end; l += j->lines_each)
      run_rows(j, &k, l, lesser(l + j->lines_each, end), c, lesser(c + j->columns_each, j->n), l > l0);
  for (int64_t row = k.r0; k.y_row && j->slices == 1 && row < k.r1; row++)
    store_places(j, k.whole, row, k.p0, k.p1, k.t.y + (row - k.r0) * k.y_row);
}

/* A task's part of some rows is finished. */
static void finish_task(const job *j, int64_t i, mx_finished *f) {
  task k = task_of(j, i, NULL);
  for (int64_t row = k.r0; row < k.r1; row++)
    mx_finished_add(f, (row * j->places + k.p0) * j->n, (row * j->places + k.p1) * j->n);
}

static void run_chunk(void *arg, int i) {
  const job *j = arg;
  int64_t lo = j->count * i / j->n_chunks, hi = j->count * (i + 1) / j->n_chunks;
  mx_finished f = {.after = j->after};
  pieces all;
  all.p0 = -1;
  for (int64_t t = lo; t < hi; t++) {
    run_task(j, j->first + t, j->scratch + j->each * (size_t)i, &all);
    if (f.after) finish_task(j, j->first + t, &f);
  }
  mx_finished_flush(&f);
}

/* The slices' results, added in order into the first, and stored. */
static void add_parts(const job *j) {
  int64_t row = j->places * j->n, n = j->wholes * j->n_rows * row, size = j->v->size;
  const mx_fold_loops *loops = &MX_SIMD_PICK(mx_reduce_table)->fold[MX_FOLD_SUM][j->v->dtype];
  loops->rows(j->parts, j->parts + n * size, n * size, j->slices - 1, n);
  for (int64_t i = 0; i < j->wholes * j->n_rows; i++)
    store_places(j, i / j->n_rows, i % j->n_rows, 0, j->places, j->parts + i * row * size);
}

/* -- the plan ------------------------------------------------------------------------------------------------------ */

static void set_channels(job *j) {
  const conv *v = j->v;
  const side *s = line_of(v);
  j->loops = v->dtype == MLAX_FLOAT32 ? MX_SIMD_PICK(mx_channels_float) : MX_SIMD_PICK(mx_channels_double);
  j->n = v->groups, j->x_n = 1, j->y_n = v->y_group;
  j->unit = 1, j->x_step = s->dilation * s->x, j->w_step = s->w;
  j->wholes = v->outs, j->x_whole = 0, j->w_whole = v->w_out, j->y_whole = v->y_out;
}

static void set_products(job *j, bool gradient) {
  const conv *v = j->v;
  const side *s = line_of(v);
  j->loops = product_loops(v->dtype);
  j->n = v->outs, j->x_n = 0, j->y_n = v->y_out;
  j->unit = gradient ? 1 : v->in, j->x_step = gradient ? s->dilation * s->x : 1, j->w_step = gradient ? s->w : v->w_in;
  j->wholes = v->groups, j->x_whole = v->x_group, j->w_whole = v->w_group, j->y_whole = v->y_group;
}

/* Which axes are columns, which are places, and which are summed over. */
static void set_form(job *j, bool by_channel) {
  const conv *v = j->v;
  const side *s = line_of(v);
  bool by_product = !by_channel && is_by_product(v), gradient = !by_channel && !by_product;
  if (by_channel) set_channels(j);
  else set_products(j, gradient);
  j->n_rows = order_all(&j->rows, gradient ? 1 : v->batch, v, PLACES);
  j->n_lines = order_all(&j->lines, by_product ? 1 : v->in, v, WINDOWS);
  j->channels = gradient ? v->batch : 1, j->x_channel = 1, j->y_channel = v->y_batch;
  j->x_place = gradient ? 1 : s->stride * s->x;
  j->even = !gradient || s->out == 1 || s->stride * s->x == v->batch;
  j->places = s->out * j->channels;
}

static void find_inner(job *j) {
  const side *s = line_of(j->v);
  int64_t last = s->n - 1 - (s->window - 1) * s->dilation + s->lo; /* where the last of them begins */
  j->inner_lo = greater(0, ceil_div(s->lo, s->stride)) * j->channels;
  j->inner_hi = lesser(s->out, floor_of(last, s->stride) + 1) * j->channels;
}

static void cut(job *j) {
  const conv *v = j->v;
  const side *s = line_of(v);
  int64_t line = s->window * j->unit * v->size; /* bytes of a column of the kernel, for a line of the window */
  j->segments = ceil_div(j->places, SEGMENT);
  bool few = j->n_rows * j->segments < TASKS;
  j->slices = few ? greater(1, lesser(TASKS, j->n_lines / SLICE)) : 1;
  j->slice = ceil_div(j->n_lines, j->slices);
  j->slices = ceil_div(j->n_lines, j->slice);
  j->columns_each = lesser(j->n, greater(1, PART / line / COLUMN_UNIT) * COLUMN_UNIT);
  j->lines_each = greater(1, lesser(MAX_LINES, PART / (line * j->columns_each)));
  bool large = j->lines_each < j->slice || j->columns_each < j->n;
  j->rows_each = greater(1, lesser(MOST_ROWS, j->n_rows / (large ? TASKS / 2 : 2 * TASKS)));
  j->row_blocks = ceil_div(j->n_rows, j->rows_each);
}

static bool run_rounds(mx_ctx *c, job *j, int64_t all, double work) {
  int64_t round = (int64_t)(ROUND_WORK / work < (double)all ? ROUND_WORK / work : (double)all);
  round = greater(1, round) * j->n_chunks;
  for (j->first = 0; j->first < all; j->first += j->count) {
    j->count = lesser(all - j->first, round);
    j->n_chunks = (int)lesser(j->n_chunks, j->count);
    if (j->first && !mx_poll(c)) return false;
    mx_parallel(c->engine, j->n_chunks, run_chunk, j);
  }
  if (j->slices > 1) add_parts(j);
  return true;
}

static bool run_all(mx_ctx *c, job *j) {
  const side *s = line_of(j->v);
  int64_t all = j->slices * j->row_blocks * j->segments * j->wholes, places = lesser(SEGMENT, j->places) * j->rows_each;
  bool at_once = j->slices == 1 && j->wholes == 1 && j->channels == 1 && (j->y_n == 1 || j->n == 1);
  bool follow = j->segments == 1 || j->n_rows == 1 || j->rows_each == 1; /* else each row of a task has its range */
  if (at_once && (follow || SEGMENT * j->n >= MX_RANGE_LEAST)) j->after = take_after(j->v, j->n);
  double sums = (double)(places * lesser(j->slice, j->n_lines) * s->window), per_sum = (double)(j->n * j->unit);
  double ns = (5 + 0.02 * per_sum) * sums + (j->after ? j->after->ns * (double)(places * j->n) : 0);
  j->n_chunks = mx_chunks(c->engine, all, ns);
  size_t n = (size_t)j->n_chunks, parts = 0;
  j->each = ((size_t)(places * j->n * j->v->size) + 63) / 64 * 64;
  if (j->slices > 1) parts = (size_t)(j->slices * j->wholes * j->n_rows * j->places * j->n * j->v->size);
  bool ok = (j->scratch = mx_scratch(c, j->each * n)) && (!parts || (j->parts = mx_scratch(c, parts))) &&
            run_rounds(c, j, all, sums * per_sum);
  if (j->scratch) mx_scratch_free(c, j->scratch, j->each * n);
  if (j->parts) mx_scratch_free(c, j->parts, parts);
  return ok;
}

bool mx_conv_by_lines(mx_ctx *c, const conv *whole) {
  conv v = *whole;
  job j = {.v = &v};
  bool by_channel = is_by_channel(&v), ok = true;
  void *x = NULL, *w = NULL;
  size_t x_bytes, w_bytes;
  if (by_channel && v.x_group != 1) ok = copy_x(c, &v, &x, &x_bytes);
  else if (!by_channel && wants_padding(&v)) ok = pad_x(c, &v, &x, &x_bytes);
  if (ok && !reads_kernel(&v, by_channel)) ok = copy_w(c, &v, by_channel, &w, &w_bytes);
  set_form(&j, by_channel);
  find_inner(&j);
  cut(&j);
  ok = ok && run_all(c, &j);
  if (x) mx_scratch_free(c, x, x_bytes);
  if (w) mx_scratch_free(c, w, w_bytes);
  return ok;
}
