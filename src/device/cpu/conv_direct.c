/* conv_direct.c: convolutions whose elements of x are multiplied where they lie.
 *
 * Rows: the features of x are dense (channels-last data). A tile has some places of the result for rows; for each
 * element of the window they meet rows of features in x, or zeros outside:
 *
 *     place i, window (r, s):  x[image, h_i + r, w_i + s, 0 .. in-1]         a run of k for each (r, s)
 *
 * Columns: what x has dense are rows of the result (the channels, where the kernel's gradient is computed as a
 * convolution). A tile has some of them, for one place; k runs along the last axis of the window, where it is in x:
 *
 *     channels c .. c+11, place (r, s):  x[image, r + h, s + 0 .., c .. c+11]     a run of k for each (image, h) */
#include "conv_impl.h"

enum { MAX_RUNS = 32, LEAST_RUN = 8 };

static bool by_rows(const conv *v) { return v->run.along_k && v->x_in == 1 && v->in >= LEAST_RUN; }

static bool by_columns(const conv *v) { return !v->run.along_k && v->x_batch == 1 && v->batch >= LEAST_RUN; }

int64_t mx_conv_direct_unit(const conv *v) {
  int last = v->k_order.n - 1;
  if (!mx_own_tiles(v->dtype)) return 0;
  if (by_rows(v)) return v->k_order.axis[last] == FIRST ? v->in : 0;
  return by_columns(v) && v->k_order.length[last] >= LEAST_RUN ? v->k_order.length[last] : 0;
}

/* -- rows ---------------------------------------------------------------------------------------------------------- */

typedef struct window { /* an element of it: what it adds to the position in x */
  int64_t at[MX_MAX_SPATIAL];
  int64_t offset;
} window;

typedef struct row { /* where the window of a place begins in x */
  int64_t at[MX_MAX_SPATIAL];
  int64_t offset;
  bool inside; /* with all its elements */
} row;

static int64_t find_windows(const conv_part *t, int64_t k, window *to) {
  const conv *v = t->v;
  place p = place_of(&v->k_order, k);
  int64_t n = 0;
  for (; k < t->k1 && n < MAX_RUNS; k += v->in, n++, next_place(&v->k_order, 1, &p)) {
    to[n].offset = 0;
    for (int i = 0; i < v->spatial; i++) {
      to[n].at[i] = p.at[SPATIAL + i] * v->side[i].dilation;
      to[n].offset += to[n].at[i] * v->side[i].x;
    }
  }
  return n;
}

static void find_row(const conv *v, const place *p, row *to) {
  to->offset = p->at[FIRST] * v->x_batch;
  to->inside = true;
  for (int i = 0; i < v->spatial; i++) {
    const side *s = &v->side[i];
    to->at[i] = p->at[SPATIAL + i] * s->stride - s->lo;
    to->offset += to->at[i] * s->x;
    to->inside &= to->at[i] >= 0 && to->at[i] + (s->window - 1) * s->dilation < s->n;
  }
}

static bool meets(const conv *v, const row *r, const window *w) {
  for (int i = 0; i < v->spatial; i++)
    if ((uint64_t)(r->at[i] + w->at[i]) >= (uint64_t)v->side[i].n) return false;
  return true;
}

/* The runs of n rows, for each element of the window. */
static void find_runs(const conv_part *t, const row *rows, int64_t n, const window *windows, int64_t n_runs,
                      const char *zeros, mx_run *runs) {
  const conv *v = t->v;
  for (int64_t i = 0; i < n; i++) {
    const char *x = t->x + rows[i].offset * v->size;
    for (int64_t r = 0; r < n_runs; r++) {
      bool met = rows[i].inside || meets(v, &rows[i], &windows[r]);
      runs[r].a[i] = met ? x + windows[r].offset * v->size : zeros;
    }
  }
}

static void rows_of_windows(const conv_part *t, int64_t k, const window *windows, int64_t n_runs, const char *zeros) {
  const conv *v = t->v;
  const mx_gemm_loops *loops = mx_own_tiles(v->dtype);
  mx_run runs[MAX_RUNS];
  row rows[MX_RUN_ROWS];
  mx_run_tile w = {.runs = runs, .n_runs = n_runs, .n = v->outs, .b_row = v->form.b_row, .c_row = t->c_row};
  w.add = k > t->k0, w.c = t->c;
  for (int64_t r = 0; r < n_runs; r++) runs[r].k = v->in, runs[r].b = t->w + (k + r * v->in) * w.b_row * v->size;
  place p = place_of(&v->m_order, t->m0);
  for (int64_t m = t->m0; m < t->m1; m += w.m, w.c += w.m * w.c_row * v->size) {
    w.m = lesser(t->m1 - m, loops->row_unit);
    for (int64_t i = 0; i < w.m; i++, next_place(&v->m_order, 0, &p)) find_row(v, &p, &rows[i]);
    find_runs(t, rows, w.m, windows, n_runs, zeros, runs);
    loops->run_tile(&w);
  }
}

/* -- columns ------------------------------------------------------------------------------------------------------- */

/* The run that begins with window k, for place m; false: it is outside. */
static bool find_stretch(const conv_part *t, const place *m, const place *k, int64_t index, mx_run *to) {
  const conv *v = t->v;
  int along = v->k_order.axis[v->k_order.n - 1];
  int64_t offset = m->at[FIRST] + k->at[FIRST] * v->x_in, from = 0, till = v->k_order.length[v->k_order.n - 1];
  for (int i = 0; i < v->spatial; i++) {
    const side *s = &v->side[i];
    int64_t at = m->at[SPATIAL + i] * s->stride + k->at[SPATIAL + i] * s->dilation - s->lo;
    if (along == SPATIAL + i) {
      from = greater(0, -floor_of(at, s->dilation)), till = lesser(till, floor_of(s->n - 1 - at, s->dilation) + 1);
      at += from * s->dilation;
    } else if (at < 0 || at >= s->n) {
      return false;
    }
    offset += at * s->x;
  }
  to->k = till - from;
  to->a[0] = t->x + offset * v->size;
  to->b = t->w + (index + from) * v->form.b_row * v->size;
  return till > from;
}

/* The rows m .. m+n-1, which lie at one place. */
static void columns_of_place(const conv_part *t, const place *p, mx_run_tile *w, mx_run *runs) {
  const conv *v = t->v;
  place k = place_of(&v->k_order, t->k0);
  w->n_runs = 0, w->add = false;
  int64_t unit = v->k_order.length[v->k_order.n - 1];
  for (int64_t i = t->k0; i < t->k1; i += unit, next_place(&v->k_order, 1, &k)) {
    if (w->n_runs == MAX_RUNS) {
      mx_own_tiles(v->dtype)->run_tile(w);
      w->n_runs = 0, w->add = true;
    }
    w->n_runs += find_stretch(t, p, &k, i, &runs[w->n_runs]);
  }
  if (w->n_runs || !w->add) mx_own_tiles(v->dtype)->run_tile(w);
}

static void columns(const conv_part *t) {
  const conv *v = t->v;
  int64_t unit = mx_own_tiles(v->dtype)->row_unit, each = ceil_div(v->batch, ceil_div(v->batch, unit));
  int along = v->k_order.axis[v->k_order.n - 1];
  mx_run runs[MAX_RUNS];
  mx_run_tile w = {.runs = runs, .by_columns = true, .n = v->outs, .b_row = v->form.b_row, .c_row = t->c_row};
  w.a_col = along == FIRST ? v->x_in : v->side[along - SPATIAL].dilation * v->side[along - SPATIAL].x;
  w.c = t->c;
  for (int64_t m = t->m0; m < t->m1; m += w.m, w.c += w.m * w.c_row * v->size) {
    place p = place_of(&v->m_order, m);
    w.m = lesser(lesser(t->m1 - m, each), v->batch - p.at[FIRST]);
    columns_of_place(t, &p, &w, runs);
  }
}

void mx_conv_direct(const conv_part *t, const char *zeros) {
  window windows[MAX_RUNS];
  if (!t->v->run.along_k) {
    columns(t);
    return;
  }
  for (int64_t k = t->k0, n; k < t->k1; k += n * t->v->in) {
    n = find_windows(t, k, windows);
    rows_of_windows(t, k, windows, n, zeros);
  }
}
