/* winograd.c: see winograd.h. Vectors run along the channels; the matrices of zeros, ones and halves are additions. */
#include "winograd.h"
#include "vector_float.h"

/* The vector at j of n elements. */
INLINE part part_at(int64_t j, int64_t n) { return part_of(n - j < LANES ? n - j : LANES); }

/* -- 4 x 4 of x ---------------------------------------------------------------------------------------------------- */

INLINE void input_line(vec *d, const int step) {
  vec a = d[0] - d[2 * step], b = d[step] + d[2 * step], c = d[2 * step] - d[step], e = d[step] - d[3 * step];
  d[0] = a, d[step] = b, d[2 * step] = c, d[3 * step] = e;
}

INLINE void input_at(const mx_patch *p, int64_t j, part k, const bool whole, float *to, int64_t point) {
  vec d[4][4];
  UNROLL for (int r = 0; r < 4; r++) UNROLL for (int c = 0; c < 4; c++) {
    bool there = whole || (r >= p->r0 && r < p->r1 && c >= p->c0 && c < p->c1);
    d[r][c] = there ? LOAD_PART(p->x + r * p->row + c * p->col + j, k) : SPLAT(0);
  }
  UNROLL for (int c = 0; c < 4; c++) input_line(&d[0][c], 4);
  UNROLL for (int r = 0; r < 4; r++) input_line(d[r], 1);
  UNROLL for (int r = 0; r < 4; r++) UNROLL for (int c = 0; c < 4; c++)
      STORE_PART(to + (4 * r + c) * point + j, k, d[r][c]);
}

static void input(const mx_patch *p, int64_t n, float *to, int64_t point) {
  bool whole = p->r0 == 0 && p->r1 == 4 && p->c0 == 0 && p->c1 == 4;
  if (whole)
    for (int64_t j = 0; j < n; j += LANES) input_at(p, j, part_at(j, n), true, to, point);
  else
    for (int64_t j = 0; j < n; j += LANES) input_at(p, j, part_at(j, n), false, to, point);
}

/* -- 2 x 2 of the result's cotangent ------------------------------------------------------------------------------- */

/* y0, y1 become y0, y0 + y1, y0 - y1, -y1 */
INLINE void cotangent_line(vec *y, const int step) {
  vec a = y[0], b = y[step];
  y[step] = a + b, y[2 * step] = a - b, y[3 * step] = SPLAT(0) - b;
}

static void cotangent(const mx_patch *p, int64_t n, float *to, int64_t point) {
  for (int64_t j = 0; j < n; j += LANES) {
    part k = part_at(j, n);
    vec y[4][4];
    UNROLL for (int r = 0; r < 2; r++) UNROLL for (int c = 0; c < 2; c++) y[r][c] =
        r < p->r1 && c < p->c1 ? LOAD_PART(p->x + r * p->row + c * p->col + j, k) : SPLAT(0);
    UNROLL for (int c = 0; c < 2; c++) cotangent_line(&y[0][c], 4);
    UNROLL for (int r = 0; r < 4; r++) cotangent_line(y[r], 1);
    UNROLL for (int r = 0; r < 4; r++) UNROLL for (int c = 0; c < 4; c++)
        STORE_PART(to + (4 * r + c) * point + j, k, y[r][c]);
  }
}

/* -- 2 x 2 of the result ------------------------------------------------------------------------------------------- */

INLINE void output_line(vec *m, const int step) {
  vec s = m[step] + m[2 * step], d = m[step] - m[2 * step];
  m[0] = m[0] + s, m[step] = d - m[3 * step];
}

INLINE bool is_zero(vec v) {
  float lanes[LANES];
  bool zero = true;
  STORE(lanes, v);
  for (int i = 0; i < LANES; i++) zero &= lanes[i] == 0;
  return zero;
}

static bool output(const float *m, int64_t point, int64_t n, float *y, int64_t row, int64_t col, int rows, int cols) {
  vec sum = SPLAT(0), zero = SPLAT(0); /* a finite number times zero is zero */
  for (int64_t j = 0; j < n; j += LANES) {
    part k = part_at(j, n);
    vec t[4][4];
    UNROLL for (int r = 0; r < 4; r++) UNROLL for (int c = 0; c < 4; c++) t[r][c] =
        LOAD_PART(m + (4 * r + c) * point + j, k);
    UNROLL for (int c = 0; c < 4; c++) output_line(&t[0][c], 4);
    UNROLL for (int r = 0; r < 2; r++) output_line(t[r], 1);
    UNROLL for (int r = 0; r < 2; r++) UNROLL for (int c = 0; c < 2; c++) {
      sum = sum + t[r][c] * zero;
      if (r < rows && c < cols) STORE_PART(y + r * row + c * col + j, k, t[r][c]);
    }
  }
  return is_zero(sum);
}

/* -- 3 x 3 of the kernel ------------------------------------------------------------------------------------------- */

INLINE void kernel_line(const vec *g, const int from, vec *u, const int step) {
  vec half = SPLAT(0.5f), s = (g[0] + g[2 * from]) * half, m = g[from] * half;
  u[0] = g[0], u[3 * step] = g[2 * from];
  u[step] = s + m, u[2 * step] = s - m;
}

static void kernel(const float *g, int64_t n, float *to) {
  for (int64_t j = 0; j < n; j += LANES) {
    part k = part_at(j, n);
    vec t[3][3], u[4][3], r[4];
    UNROLL for (int i = 0; i < 9; i++) t[i / 3][i % 3] = LOAD_PART(g + i * n + j, k);
    UNROLL for (int c = 0; c < 3; c++) kernel_line(&t[0][c], 3, &u[0][c], 3);
    UNROLL for (int i = 0; i < 4; i++) {
      kernel_line(u[i], 1, r, 1);
      UNROLL for (int c = 0; c < 4; c++) STORE_PART(to + (4 * i + c) * n + j, k, r[c]);
    }
  }
}

INLINE void kernel_cotangent_line(const vec *u, const int from, vec *g, const int step) {
  vec half = SPLAT(0.5f), s = (u[from] + u[2 * from]) * half, d = (u[from] - u[2 * from]) * half;
  g[0] = u[0] + s, g[step] = d, g[2 * step] = u[3 * from] + s;
}

static bool kernel_cotangent(const float *u, int64_t n, float *g) {
  vec sum = SPLAT(0), zero = SPLAT(0);
  for (int64_t j = 0; j < n; j += LANES) {
    part k = part_at(j, n);
    vec t[4][4], r[3][4], v[3];
    UNROLL for (int i = 0; i < 16; i++) t[i / 4][i % 4] = LOAD_PART(u + i * n + j, k);
    UNROLL for (int c = 0; c < 4; c++) kernel_cotangent_line(&t[0][c], 4, &r[0][c], 4);
    UNROLL for (int i = 0; i < 3; i++) {
      kernel_cotangent_line(r[i], 1, v, 1);
      UNROLL for (int c = 0; c < 3; c++) {
        STORE_PART(g + (3 * i + c) * n + j, k, v[c]);
        sum = sum + v[c] * zero;
      }
    }
  }
  return is_zero(sum);
}

const mx_winograd_loops MX_SIMD(mx_winograd) = {input, cotangent, output, kernel, kernel_cotangent};
