/* window_impl.h: windows as the CPU sees them; see window.c. */
#ifndef MX_WINDOW_IMPL_H
#define MX_WINDOW_IMPL_H

#include "reduce_impl.h"
#include "simd/window.h"

typedef struct axis {
  int64_t n, out, window, stride, lo, x_dilation, dilation;
  int64_t x, place, result; /* byte stride of x; strides of x's row-major elements and of the result's, in elements */
} axis;

typedef struct walk {
  int n; /* outer axes */
  axis outer[MX_MAX_NDIM], inner;
  int64_t segments;
  int cut; /* the outer axis along which the work is cut; n: by segments */
  int n_chunks;
  int dtype;
  int64_t size;
  const char *x;
  char *out;
  const mx_fold_loops *loops; /* reductions */
  char identity[8];
  const mx_window_table *choices;
  const char *g;                /* choices: row-major, of out's dtype */
  bool least, scatters, narrow; /* narrow: float32, and places fit int32 */
  bool tiles;                   /* scatters: windows lie side by side and cover x */
} walk;

static inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
static inline int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }
static inline int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t greater(int64_t a, int64_t b) { return a > b ? a : b; }

static inline bool stands_still(const axis *a) {
  return a->window == 1 && a->stride == 1 && a->lo == 0 && a->x_dilation == 1 && a->n == a->out;
}

/* window_taps.c: small windows over axes in front of a dense one, on which they stand still (channels). */
bool mx_window_has_taps(const walk *w);
/* Places p0 .. p1-1 of the last outer axis, at a position of the others; elements j0 .. j1-1 of the inner one. */
void mx_window_line(const walk *w, const int64_t *position, int64_t p0, int64_t p1, int64_t j0, int64_t j1);

#endif
