/* window.c: windows that slide along the axes of an array: reductions, and the choice of extremes.
 *
 * Axes on which the window stands still are merged with their neighbours. The last axis is run along: for each position
 * of the outer axes, the results there are a row, cut into segments, and the window is walked in row-major order: each
 * of its elements stands for a run of x that is joined with the row.
 *
 *     x {8, 8, 64}, window {2, 2, 1}:    rows of 64; each is joined with 4 runs of 64
 *     x {64, 8, 8}, window {1, 2, 2}:    rows of 7; runs of 7, two for each line of x
 *
 * Small windows in front of channels have loops of their own (window_taps.c).
 *
 * The choice notes for each result which element of x is taken, and then reads or adds there. Windows that overlap add
 * to the same elements: there the work is cut along an axis on which they do not. */
#include "window_impl.h"

enum { SEGMENT = 1024 };

/* A row that is being worked out: results j0 .. j1-1 of the inner axis. */
typedef struct row {
  const walk *w;
  int64_t position[MX_MAX_NDIM]; /* of the outer axes */
  int64_t j0, j1, first;         /* first: place of result j0 among all */
  union {                        /* choices: places of x's elements, -1: none yet; and these, NaN at first */
    int32_t narrow[SEGMENT];
    int64_t wide[SEGMENT];
  } at;
  union {
    float single[SEGMENT];
    double wide[SEGMENT];
  } best;
} row;

/* -- the plan ------------------------------------------------------------------------------------------------------ */

static axis axis_of(const mx_params *p, const mx_tensor *x, const mx_aval *out, int i) {
  return (axis){.n = x->aval->shape[i],
                .out = out->shape[i],
                .window = p->window.window.v[i],
                .stride = p->window.strides.v[i],
                .lo = p->window.lo.v[i],
                .x_dilation = p->window.x_dilation.v[i],
                .dilation = p->window.dilation.v[i],
                .x = x->strides[i]};
}

/* x's axes with their strides; those that stand still and lie behind one another become one. */
static int axes_of(const mx_params *p, const mx_tensor *x, const mx_aval *out, axis *list) {
  int n = 0;
  for (int i = 0; i < x->aval->ndim; i++) {
    axis a = axis_of(p, x, out, i), *last = n ? &list[n - 1] : NULL;
    bool still = stands_still(&a);
    if (still && a.n == 1) continue;
    if (still && last && stands_still(last) && last->x == a.x * a.n) {
      last->n *= a.n, last->out *= a.n, last->x = a.x;
      continue;
    }
    list[n++] = a;
  }
  int64_t place = 1, result = 1;
  for (int i = n - 1; i >= 0; i--) {
    list[i].place = place, list[i].result = result;
    place *= list[i].n, result *= list[i].out;
  }
  return n;
}

/* The longest axis that may be cut: any, or for sums at chosen places one on which windows do not meet. */
static void choose_cut(walk *w) {
  int64_t longest = 1;
  w->cut = -1;
  for (int i = 0; i <= w->n; i++) {
    const axis *a = i < w->n ? &w->outer[i] : &w->inner;
    int64_t parts = i < w->n ? a->out : w->segments;
    bool apart = (a->window - 1) * a->dilation < a->stride;
    if (parts > longest && (apart || !w->scatters)) longest = parts, w->cut = i;
  }
}

static void plan(walk *w, const mx_params *p, const mx_tensor *x, const mx_aval *places) {
  axis list[MX_MAX_NDIM];
  int n = axes_of(p, x, places, list);
  w->n = n ? n - 1 : 0;
  memcpy(w->outer, list, sizeof *list * (size_t)w->n);
  w->inner = n ? list[n - 1] : (axis){1, 1, 1, 1, 0, 1, 1, 0, 1, 1};
  w->segments = (w->inner.out + SEGMENT - 1) / SEGMENT;
  w->x = x->data;
  choose_cut(w);
}

/* -- walking a window ---------------------------------------------------------------------------------------------- */

static int64_t common_divisor(int64_t a, int64_t b) {
  while (b) {
    int64_t r = a % b;
    a = b, b = r;
  }
  return a;
}

/* Length with holes. */
static int64_t dilated(const axis *a) { return a->n ? (a->n - 1) * a->x_dilation + 1 : 0; }

/* Results j, j + j_step, ... of a row, and the elements i, i + i_step, ... of x that belong to them. */
typedef struct run {
  int64_t count, j, j_step, i, i_step;
} run;

/* Element k of the window, for the results j0 .. j1-1: i = (j * stride + k * dilation - lo) / x_dilation, where whole.
 */
static run run_of(const axis *a, int64_t k, int64_t j0, int64_t j1) {
  run r = {.j_step = 1, .i_step = a->stride};
  int64_t shift = k * a->dilation - a->lo;
  r.j = greater(j0, ceil_div(-shift, a->stride));
  if (a->x_dilation > 1) {
    int64_t both = common_divisor(a->stride, a->x_dilation);
    r.j_step = a->x_dilation / both, r.i_step = a->stride / both;
    if (shift % both) return r;
    while (r.j < j1 && (r.j * a->stride + shift) % a->x_dilation) r.j++;
  }
  if (r.j >= j1) return r;
  r.i = (r.j * a->stride + shift) / a->x_dilation;
  if (r.i < a->n) r.count = lesser((j1 - 1 - r.j) / r.j_step, (a->n - 1 - r.i) / r.i_step) + 1;
  return r;
}

typedef void (*join)(row *r, const run *u, const char *x, int64_t place);

/* All elements of the window that lie on x, in row-major order. */
static void visit(row *r, int level, const char *x, int64_t place, join f) {
  const walk *w = r->w;
  const axis *a = level < w->n ? &w->outer[level] : &w->inner;
  bool outer = level < w->n;
  int64_t from = outer ? r->position[level] * a->stride : r->j0 * a->stride,
          to = outer ? from : (r->j1 - 1) * a->stride;
  int64_t k = greater(0, ceil_div(a->lo - to, a->dilation));
  int64_t last = lesser(a->window - 1, floor_div(dilated(a) - 1 + a->lo - from, a->dilation));
  for (; k <= last; k++) {
    if (outer) {
      int64_t at = from + k * a->dilation - a->lo, i = at / a->x_dilation;
      if (i * a->x_dilation == at) visit(r, level + 1, x + i * a->x, place + i * a->place, f);
    } else {
      run u = run_of(a, k, r->j0, r->j1);
      if (u.count) f(r, &u, x + u.i * a->x, place + u.i * a->place);
    }
  }
}

/* -- what is done with a row --------------------------------------------------------------------------------------- */

static void fold_run(row *r, const run *u, const char *x, int64_t place) {
  const walk *w = r->w;
  char *to = w->out + (r->first + (u->j - r->j0)) * w->size;
  int64_t step = u->i_step * w->inner.x;
  (void)place;
  if (u->j_step == 1 && step == w->size) w->loops->rows(to, x, 0, 1, u->count);
  else w->loops->thin(to, u->j_step * w->size, x, step, u->count);
}

static void fold_row(row *r) {
  const walk *w = r->w;
  char *to = w->out + r->first * w->size;
  for (int64_t j = r->j0; j < r->j1; j++, to += w->size) memcpy(to, w->identity, (size_t)w->size);
  visit(r, 0, w->x, 0, fold_run);
}

/* The element is taken where not the one taken so far is at least (at most) as great; NaN is not. */
#define CHOOSE(NAME, T, BEST, AT, INDEX, DENSE)                                                                        \
  static void NAME(row *r, const run *u, const char *x, int64_t place) {                                               \
    int64_t step = u->i_step * r->w->inner.x, next = u->i_step * r->w->inner.place, j = u->j - r->j0;                  \
    bool least = r->w->least;                                                                                          \
    if (u->j_step == 1 && step == (int64_t)sizeof(T)) {                                                                \
      DENSE(&r->best.BEST[j], &r->at.AT[j], (const T *)x, (INDEX)place, (INDEX)next, least, u->count);                 \
      return;                                                                                                          \
    }                                                                                                                  \
    for (int64_t t = 0; t < u->count; t++, x += step, place += next, j += u->j_step) {                                 \
      T v = *(const T *)x, b = r->best.BEST[j];                                                                        \
      bool keep = least ? b <= v : b >= v;                                                                             \
      r->best.BEST[j] = keep ? b : v;                                                                                  \
      r->at.AT[j] = keep ? r->at.AT[j] : (INDEX)place;                                                                 \
    }                                                                                                                  \
  }
CHOOSE(choose_narrow, float, single, narrow, int32_t, r->w->choices->choose32)
CHOOSE(choose_wide, double, wide, wide, int64_t, r->w->choices->choose64)

/* float32 arrays of 2^31 elements and more */
static void choose_single(row *r, const run *u, const char *x, int64_t place) {
  int64_t step = u->i_step * r->w->inner.x, next = u->i_step * r->w->inner.place, j = u->j - r->j0;
  for (int64_t t = 0; t < u->count; t++, x += step, place += next, j += u->j_step) {
    float v = *(const float *)x, b = r->best.single[j];
    if (r->w->least ? b <= v : b >= v) continue;
    r->best.single[j] = v;
    r->at.wide[j] = place;
  }
}

#define MOVE(NAME, T, AT)                                                                                              \
  static void NAME(row *r) {                                                                                           \
    const T *g = (const T *)r->w->g;                                                                                   \
    T *out = (T *)r->w->out;                                                                                           \
    for (int64_t j = 0; j < r->j1 - r->j0; j++) {                                                                      \
      int64_t at = r->at.AT[j];                                                                                        \
      if (!r->w->scatters) out[r->first + j] = at < 0 ? 0 : g[at];                                                     \
      else if (at >= 0) out[at] += g[r->first + j];                                                                    \
    }                                                                                                                  \
  }
MOVE(move_narrow, float, narrow)
MOVE(move_single, float, wide)
MOVE(move_wide, double, wide)

static void choose_row(row *r) {
  bool single = r->w->dtype == MLAX_FLOAT32, narrow = r->w->narrow;
  for (int64_t j = 0; j < r->j1 - r->j0; j++) {
    if (narrow) r->at.narrow[j] = -1;
    else r->at.wide[j] = -1;
    if (single) r->best.single[j] = __builtin_nanf("");
    else r->best.wide[j] = __builtin_nan("");
  }
  visit(r, 0, r->w->x, 0, narrow ? choose_narrow : single ? choose_single : choose_wide);
  if (narrow) move_narrow(r);
  else if (single) move_single(r);
  else move_wide(r);
}

/* -- all rows ------------------------------------------------------------------------------------------------------ */

static void run_row(row *r, int64_t segment) {
  const walk *w = r->w;
  r->j0 = segment * SEGMENT;
  r->j1 = lesser(r->j0 + SEGMENT, w->inner.out);
  r->first = r->j0;
  for (int i = 0; i < w->n; i++) r->first += r->position[i] * w->outer[i].result;
  if (w->g) choose_row(r);
  else fold_row(r);
}

/* The next position of the first n outer axes, within their bounds; false behind the last. */
static bool next_position(int64_t *position, int n, const int64_t *lo, const int64_t *hi) {
  for (int i = n - 1; i >= 0; i--) {
    if (++position[i] < hi[i]) return true;
    position[i] = lo[i];
  }
  return false;
}

static void run_rows(const walk *w, const int64_t *lo, const int64_t *hi) {
  row r;
  r.w = w;
  memcpy(r.position, lo, (size_t)w->n * sizeof *lo);
  do
    for (int64_t s = lo[w->n]; s < hi[w->n]; s++) run_row(&r, s);
  while (next_position(r.position, w->n, lo, hi));
}

static void run_lines(const walk *w, const int64_t *lo, const int64_t *hi) {
  int64_t position[MX_MAX_NDIM], last = w->n - 1;
  memcpy(position, lo, (size_t)w->n * sizeof *lo);
  do mx_window_line(w, position, lo[last], hi[last], lo[w->n] * SEGMENT, lesser(hi[w->n] * SEGMENT, w->inner.out));
  while (next_position(position, (int)last, lo, hi));
}

static void run_chunk(void *arg, int chunk) {
  const walk *w = arg;
  int64_t lo[MX_MAX_NDIM + 1] = {0}, hi[MX_MAX_NDIM + 1];
  for (int i = 0; i <= w->n; i++) {
    int64_t all = i < w->n ? w->outer[i].out : w->segments;
    hi[i] = all;
    if (i == w->cut) lo[i] = all * chunk / w->n_chunks, hi[i] = all * (chunk + 1) / w->n_chunks;
    if (lo[i] >= hi[i]) return;
  }
  (mx_window_has_taps(w) ? run_lines : run_rows)(w, lo, hi);
}

static void run_all(mx_ctx *c, walk *w, const mx_params *p, const mx_aval *places, double ns) {
  int64_t parts = w->cut < 0 ? 1 : w->cut < w->n ? w->outer[w->cut].out : w->segments;
  for (int i = 0; i < p->window.window.n; i++) ns *= (double)p->window.window.v[i];
  w->n_chunks = mx_chunks(c->engine, parts, ns * (double)places->size / (double)parts);
  mx_parallel(c->engine, w->n_chunks, run_chunk, w);
}

/* -- kernels ------------------------------------------------------------------------------------------------------- */

static mx_fold_op op_of(const mx_primitive *prim) {
  switch (prim->id) {
  case MX_PRIM_reduce_window_sum: return MX_FOLD_SUM;
  case MX_PRIM_reduce_window_prod: return MX_FOLD_PROD;
  case MX_PRIM_reduce_window_max: return MX_FOLD_MAX;
  default: return MX_FOLD_MIN;
  }
}

static bool reduce_window(mx_ctx *c, const mx_kernel_args *a) {
  mx_widened v;
  if (a->out[0].aval->size == 0) return true;
  if (!mx_widen(c, &a->in[0], &a->out[0], &v)) return false;
  int dtype = v.in.aval->dtype;
  walk w = {.dtype = dtype, .size = (int64_t)mx_itemsize(dtype), .out = v.out.data};
  w.loops = &MX_SIMD_PICK(mx_reduce_table)->fold[op_of(a->prim)][dtype];
  mx_reduce_identity(op_of(a->prim), dtype, w.identity);
  plan(&w, a->p, &v.in, v.out.aval);
  run_all(c, &w, a->p, v.out.aval, 0.3);
  return mx_narrow(c, &v, true);
}

/* g row-major in the dtype in which is worked. */
static void *ready_g(mx_ctx *c, const mx_tensor *g, int dtype, size_t *bytes) {
  if (g->aval->dtype == dtype) return mx_cpu_contiguous(c, g, bytes);
  *bytes = (size_t)g->aval->size * mx_itemsize(dtype);
  void *p = mx_scratch(c, *bytes);
  if (!p || mx_cpu_convert_to(c, g, dtype, p)) return p;
  mx_scratch_free(c, p, *bytes);
  return NULL;
}

/* Each element of x belongs to one window. */
static bool are_tiles(const walk *w) {
  bool tiles = true;
  for (int i = 0; i < w->n; i++) {
    const axis *a = &w->outer[i];
    tiles &=
        a->window == a->stride && a->dilation == 1 && a->x_dilation == 1 && a->lo == 0 && a->n == a->out * a->stride;
  }
  return tiles;
}

static bool choose_window(mx_ctx *c, const mx_kernel_args *a, bool scatters) {
  mx_widened v;
  size_t bytes = 0;
  const mx_aval *places = scatters ? a->in[0].aval : a->out[0].aval;
  if (a->out[0].aval->size == 0) return true;
  if (a->in[0].aval->size == 0) return memset(a->out[0].data, 0, mx_nbytes(a->out[0].aval)), true;
  if (!mx_widen(c, &a->in[1], &a->out[0], &v)) return false;
  int dtype = v.in.aval->dtype;
  walk w = {.dtype = dtype, .size = (int64_t)mx_itemsize(dtype), .out = v.out.data};
  w.choices = MX_SIMD_PICK(mx_window_table);
  w.least = a->p->window.least, w.scatters = scatters;
  w.narrow = dtype == MLAX_FLOAT32 && v.in.aval->size <= INT32_MAX;
  w.g = ready_g(c, &a->in[0], dtype, &bytes);
  if (!w.g) return mx_narrow(c, &v, false);
  plan(&w, a->p, &v.in, places);
  w.tiles = mx_window_has_taps(&w) && are_tiles(&w);
  if (scatters && !w.tiles) memset(v.out.data, 0, mx_nbytes(v.out.aval));
  run_all(c, &w, a->p, places, mx_window_has_taps(&w) ? 0.3 : 1.0);
  if (bytes) mx_scratch_free(c, (void *)w.g, bytes);
  return mx_narrow(c, &v, true);
}

bool mx_cpu_window(mx_ctx *c, const mx_kernel_args *a) {
  switch (a->prim->id) {
  case MX_PRIM_select_and_gather: return choose_window(c, a, false);
  case MX_PRIM_select_and_scatter_add: return choose_window(c, a, true);
  default: return reduce_window(c, a);
  }
}
