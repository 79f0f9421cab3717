/* copy.c: the elements of a value in row-major order.
 *
 * A transposed source has its neighbours along another axis than the result. Both are then walked in tiles: a tile is
 * read along the one, turned in a small square, and written along the other, so that each cache line is touched once.
 *
 *     src  a d g      a b c  dst
 *          b e h  ->  d e f         rows of the result lie along `col`, those of the source along `row`
 *          c f i      g h i
 */
#include "array.h"

enum { TILE = 16 };

/* A plane of the result: axis `row`, along which the source is dense, and the last axis. */
typedef struct plane {
  int64_t rows, cols;
  int64_t src_col, dst_row; /* bytes from one to the next */
  size_t size;
} plane;

/* -- tiles ------------------------------------------------------------------------------------- */

#define TURN(T)                                                                                                        \
  do {                                                                                                                 \
    T square[TILE][TILE];                                                                                              \
    for (int j = 0; j < cols; j++)                                                                                     \
      for (int i = 0; i < rows; i++) memcpy(&square[i][j], src + j * p->src_col + i * (int64_t)sizeof(T), sizeof(T));  \
    for (int i = 0; i < rows; i++) memcpy(dst + i * p->dst_row, square[i], (size_t)cols * sizeof(T));                  \
  } while (0)

static inline void turn(const plane *p, const char *src, char *dst, int rows, int cols) {
  if (p->size == 1) TURN(uint8_t);
  else if (p->size == 2) TURN(uint16_t);
  else if (p->size == 4) TURN(uint32_t);
  else TURN(uint64_t);
}

/* Most tiles are whole: with constant bounds their loops unroll. */
static void copy_tile(const plane *p, const char *src, char *dst, int64_t rows, int64_t cols) {
  if (rows >= TILE && cols >= TILE) turn(p, src, dst, TILE, TILE);
  else turn(p, src, dst, rows < TILE ? (int)rows : TILE, cols < TILE ? (int)cols : TILE);
}

static void copy_plane(const plane *p, const char *src, char *dst) {
  int64_t size = (int64_t)p->size;
  for (int64_t i = 0; i < p->rows; i += TILE)
    for (int64_t j = 0; j < p->cols; j += TILE)
      copy_tile(p, src + j * p->src_col + i * size, dst + i * p->dst_row + j * size, p->rows - i, p->cols - j);
}

/* -- walks ------------------------------------------------------------------------------------- */

static void plane_run(void *arg, int64_t n, char *const *p, const int64_t *stride) {
  for (int64_t i = 0; i < n; i++) copy_plane(arg, p[0] + i * stride[0], p[1] + i * stride[1]);
}

static void row_run(void *arg, int64_t n, char *const *p, const int64_t *stride) {
  int dtype = *(const int *)arg;
  mx_convert_strided(dtype, p[0], stride[0], dtype, p[1], stride[1], n);
}

/* The axis before the last along which a value is dense, where that is longer than a few elements; -1: none. */
static int dense_axis(const mx_array *x) {
  const mx_aval *a = &x->aval;
  int64_t size = (int64_t)mx_itemsize(a->dtype);
  int last = a->ndim - 1;
  if (last < 1 || x->strides[last] == size || a->shape[last] == 1) return -1;
  for (int i = 0; i < last; i++)
    if (x->strides[i] == size && a->shape[i] >= 4) return i;
  return -1;
}

static void copy_planes(const mx_array *x, char *to, int row, const int64_t *strides) {
  const mx_aval *a = &x->aval;
  int last = a->ndim - 1, ndim = 0;
  int64_t shape[MX_MAX_NDIM], src[MX_MAX_NDIM], dst[MX_MAX_NDIM];
  plane p = {a->shape[row], a->shape[last], x->strides[last], strides[row], mx_itemsize(a->dtype)};
  for (int i = 0; i < last; i++) {
    if (i == row) continue;
    shape[ndim] = a->shape[i], src[ndim] = x->strides[i], dst[ndim] = strides[i];
    ndim++;
  }
  mx_iterate(ndim, shape, 2, (char *[]){mx_data(x), to}, (const int64_t *[]){src, dst}, plane_run, &p);
}

void mx_array_read_all(const mx_array *x, void *to) {
  const mx_aval *a = &x->aval;
  int64_t strides[MX_MAX_NDIM];
  int dtype = a->dtype, row = dense_axis(x);
  if (a->size == 0) return;
  mx_strides_contiguous(a, strides);
  if (row >= 0) return copy_planes(x, to, row, strides);
  mx_iterate(a->ndim, a->shape, 2, (char *[]){mx_data(x), to}, (const int64_t *[]){x->strides, strides}, row_run,
             &dtype);
}
