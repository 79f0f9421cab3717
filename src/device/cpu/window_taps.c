/* window_taps.c: windows of few elements in front of a dense axis on which they stand still: the channels.
 *
 *     x {32, 32, 32, 64}, window {1, 3, 3, 1}:    each place has up to 9 taps, rows of 64 in x
 *
 * Places are taken along the last axis before the channels. What the axes before it have inside are lines, found once
 * for all of these; each has as many taps as the last axis has inside, the same from place to place until a border is
 * met. Their channels are folded, or chosen from, in one pass. */
#include "window_impl.h"

enum { MAX_TAPS = 64 };

bool mx_window_has_taps(const walk *w) {
  int64_t taps = 1;
  if (w->n == 0 || !stands_still(&w->inner) || w->inner.x != w->size) return false;
  for (int i = 0; i < w->n; i++) {
    if (w->outer[i].window > MAX_TAPS) return false;
    taps *= w->outer[i].window;
    if (taps > MAX_TAPS) return false;
  }
  return true;
}

typedef struct tap { /* where it lies in x, and its number among x's elements */
  int64_t x, place;
} tap;

typedef struct tap_set { /* the taps of a place, with the memory of their channels */
  tap lines[MAX_TAPS];   /* offsets by the axes before the last one */
  const void *x[MAX_TAPS];
  void *rows[MAX_TAPS]; /* choices: of g, or of the result */
  int64_t n_lines, n;
} tap_set;

/* The window's elements lo .. hi-1 that are inside, for a place. */
static void bounds_of(const axis *a, int64_t p, int64_t *lo, int64_t *hi) {
  int64_t at = p * a->stride - a->lo, last = (a->n - 1) * a->x_dilation;
  *lo = greater(0, ceil_div(-at, a->dilation));
  *hi = lesser(a->window, floor_div(last - at, a->dilation) + 1);
}

/* The element of x that the window's k-th meets; false: it falls between two. */
static bool element_of(const axis *a, int64_t p, int64_t k, int64_t *e) {
  *e = p * a->stride - a->lo + k * a->dilation;
  if (a->x_dilation == 1) return true;
  int64_t at = *e;
  *e /= a->x_dilation;
  return *e * a->x_dilation == at;
}

/* All combinations of elements that are inside, in row-major order. */
static void find_lines(const walk *w, const int64_t *position, tap_set *s) {
  tap before[MAX_TAPS];
  s->n_lines = 1, s->lines[0] = (tap){0, 0};
  for (int i = 0; i < w->n - 1; i++) {
    const axis *a = &w->outer[i];
    int64_t lo, hi, e, n = 0;
    bounds_of(a, position[i], &lo, &hi);
    memcpy(before, s->lines, sizeof *before * (size_t)s->n_lines);
    for (int64_t l = 0; l < s->n_lines; l++)
      for (int64_t k = lo; k < hi; k++)
        if (element_of(a, position[i], k, &e))
          s->lines[n++] = (tap){before[l].x + e * a->x, before[l].place + e * a->place};
    s->n_lines = n;
  }
}

/* `rows`: what the places of x's elements are counted in, NULL for reductions. */
static void find_taps(const walk *w, int64_t p, int64_t lo, int64_t hi, int64_t j0, char *rows, tap_set *s) {
  const axis *a = &w->outer[w->n - 1];
  int64_t e;
  s->n = 0;
  for (int64_t l = 0; l < s->n_lines; l++)
    for (int64_t k = lo; k < hi; k++) {
      if (!element_of(a, p, k, &e)) continue;
      s->x[s->n] = w->x + s->lines[l].x + e * a->x + j0 * w->size;
      if (rows) s->rows[s->n] = rows + (s->lines[l].place + e * a->place + j0) * w->size;
      s->n++;
    }
}

static void next_taps(const walk *w, bool rows, tap_set *s) {
  const axis *a = &w->outer[w->n - 1];
  for (int64_t t = 0; t < s->n; t++) {
    s->x[t] = (const char *)s->x[t] + a->stride * a->x;
    if (rows) s->rows[t] = (char *)s->rows[t] + a->stride * a->place * w->size;
  }
}

/* One place: y is its row of the result, or of what goes to x's elements. */
static void run_place(const walk *w, const tap_set *s, char *y, int64_t n) {
  mx_tap_choice c = {s->x, s->rows, y, s->n, n, w->least, w->scatters, !w->tiles};
  if (!w->g) w->loops->taps(y, s->x, s->n, n);
  else if (s->n) (w->dtype == MLAX_FLOAT32 ? w->choices->taps32 : w->choices->taps64)(&c);
  else if (!w->scatters) memset(y, 0, (size_t)(n * w->size));
}

void mx_window_line(const walk *w, const int64_t *position, int64_t p0, int64_t p1, int64_t j0, int64_t j1) {
  const axis *a = &w->outer[w->n - 1];
  tap_set s;
  int64_t result = p0 * a->result + j0, lo = 0, hi = 0;
  char *rows = w->scatters ? w->out : (char *)w->g, *y = w->scatters ? (char *)w->g : w->out;
  for (int i = 0; i < w->n - 1; i++) result += position[i] * w->outer[i].result;
  find_lines(w, position, &s);
  for (int64_t p = p0; p < p1; p++, result += a->result) {
    int64_t last_lo = lo, last_hi = hi;
    bounds_of(a, p, &lo, &hi);
    if (p > p0 && a->x_dilation == 1 && lo == last_lo && hi == last_hi) next_taps(w, rows != NULL, &s);
    else find_taps(w, p, lo, hi, j0, rows, &s);
    run_place(w, &s, y + result * w->size, j1 - j0);
  }
}
