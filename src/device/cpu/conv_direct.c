/* conv_direct.c: convolutions of channels-last data with short lines, whose elements of x are multiplied where they
 * lie.
 *
 * A tile has some places of the result for rows, from several lines; for each element of the window they meet rows of
 * features in x, or zeros outside:
 *
 *     place i, window (r, s):  x[image, h_i + r, w_i + s, 0 .. in-1]         a run of k for each (r, s) */
#include "conv_impl.h"

enum { MAX_RUNS = 32, LEAST_RUN = 8 };

int64_t mx_conv_direct_unit(const conv *v) {
  bool dense = v->run.along_k && v->x_in == 1 && v->in >= LEAST_RUN;
  return dense && mx_own_tiles(v->dtype) && v->k_order.axis[v->k_order.n - 1] == FIRST ? v->in : 0;
}

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

void mx_conv_direct(const conv_part *t, const char *zeros) {
  window windows[MAX_RUNS];
  for (int64_t k = t->k0, n; k < t->k1; k += n * t->v->in) {
    n = find_windows(t, k, windows);
    rows_of_windows(t, k, windows, n, zeros);
  }
}
