/* shape.c: shapes, strides, and walks over them. */
#include "array.h"

#include <stdio.h>

/* -- avals ------------------------------------------------------------------------------------- */

/* Counts the elements; false where the address space could not hold them. An axis of length 0 does not excuse the
 * others: strides are made of their products. */
static bool count_elements(mx_aval *a) {
  int64_t bytes = (int64_t)mx_itemsize(a->dtype);
  bool empty = false;
  for (int i = 0; i < a->ndim; i++) {
    if (a->shape[i] == 0) empty = true;
    else if (!mx_mul_i64(bytes, a->shape[i], &bytes)) return false;
  }
  a->size = empty ? 0 : bytes / (int64_t)mx_itemsize(a->dtype);
  return bytes <= PTRDIFF_MAX;
}

bool mx_aval_make(mx_ctx *c, mx_aval *a, int dtype, int ndim, const int64_t *shape) {
  mx_text t;
  if (ndim < 0 || ndim > MX_MAX_NDIM)
    return mx_fail(c, MLAX_SHAPE, "too many axes (got %d, need at most %d)", ndim, MX_MAX_NDIM);
  *a = (mx_aval){.dtype = (uint8_t)dtype, .ndim = (uint8_t)ndim};
  for (int i = 0; i < ndim; i++) a->shape[i] = shape[i];
  for (int i = 0; i < ndim; i++)
    if (shape[i] < 0) return mx_fail(c, MLAX_SHAPE, "negative length in shape %s", mx_shape_text(&t, ndim, shape));
  if (!count_elements(a)) return mx_fail(c, MLAX_SHAPE, "shape %s is too large", mx_shape_text(&t, ndim, shape));
  return true;
}

bool mx_aval_stack(mx_ctx *c, const mx_aval *a, int64_t length, mx_aval *out) {
  int64_t shape[MX_MAX_NDIM + 1] = {length};
  for (int i = 0; i < a->ndim; i++) shape[i + 1] = a->shape[i];
  return mx_aval_make(c, out, a->dtype, a->ndim + 1, shape);
}

bool mx_shape_equal(const mx_aval *a, const mx_aval *b) {
  return a->ndim == b->ndim && memcmp(a->shape, b->shape, a->ndim * sizeof *a->shape) == 0;
}

bool mx_aval_equal(const mx_aval *a, const mx_aval *b) {
  return a->dtype == b->dtype && a->weak == b->weak && mx_shape_equal(a, b);
}

/* -- broadcasting ------------------------------------------------------------------------------ */

/* Lengths from the last axis: 1 where the shape has no more. */
static int64_t length_from_end(const mx_aval *a, int i) { return i < a->ndim ? a->shape[a->ndim - 1 - i] : 1; }

bool mx_shape_broadcast(const mx_aval *a, const mx_aval *b, mx_aval *out) {
  int ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
  int64_t shape[MX_MAX_NDIM], size = 1;
  for (int i = 0; i < ndim; i++) {
    int64_t p = length_from_end(a, i), q = length_from_end(b, i);
    if (p != q && p != 1 && q != 1) return false;
    shape[ndim - 1 - i] = p == 1 ? q : p;
    if (!mx_mul_i64(size, shape[ndim - 1 - i], &size)) return false;
  }
  out->ndim = (uint8_t)ndim;
  out->size = size;
  memcpy(out->shape, shape, (size_t)ndim * sizeof *shape);
  return true;
}

/* -- strides ----------------------------------------------------------------------------------- */

void mx_strides_contiguous(const mx_aval *a, int64_t *strides) {
  int64_t step = (int64_t)mx_itemsize(a->dtype);
  for (int i = a->ndim - 1; i >= 0; i--) {
    strides[i] = step;
    if (a->shape[i] > 1) step *= a->shape[i];
  }
}

bool mx_strides_are_contiguous(const mx_aval *a, const int64_t *strides) {
  int64_t step = (int64_t)mx_itemsize(a->dtype);
  if (a->size == 0) return true;
  for (int i = a->ndim - 1; i >= 0; i--) {
    if (a->shape[i] == 1) continue;
    if (strides[i] != step) return false;
    step *= a->shape[i];
  }
  return true;
}

void mx_strides_broadcast(const mx_aval *a, const int64_t *strides, const mx_aval *to, int64_t *out) {
  int lead = to->ndim - a->ndim;
  for (int i = 0; i < to->ndim; i++) {
    bool repeated = i < lead || (a->shape[i - lead] == 1 && to->shape[i] != 1);
    out[i] = repeated ? 0 : strides[i - lead];
  }
}

/* -- text -------------------------------------------------------------------------------------- */

/* Both append as much as there is room for. */
static void append(mx_text *t, size_t *n, const char *s) {
  while (*s && *n < sizeof t->s - 1) t->s[(*n)++] = *s++;
  t->s[*n] = '\0';
}

static void append_lengths(mx_text *t, size_t *n, int ndim, const int64_t *shape, const char *separator) {
  char number[24];
  for (int i = 0; i < ndim; i++) {
    snprintf(number, sizeof number, "%lld", (long long)shape[i]);
    if (i) append(t, n, separator);
    append(t, n, number);
  }
}

const char *mx_aval_text(mx_text *t, const mx_aval *a) {
  size_t n = 0;
  append(t, &n, mx_dtype_name(a->dtype));
  append(t, &n, "[");
  append_lengths(t, &n, a->ndim, a->shape, ",");
  append(t, &n, "]");
  return t->s;
}

const char *mx_shape_text(mx_text *t, int ndim, const int64_t *shape) {
  size_t n = 0;
  append(t, &n, "{");
  append_lengths(t, &n, ndim, shape, ", ");
  append(t, &n, "}");
  return t->s;
}

/* -- walks ------------------------------------------------------------------------------------- */

enum { MAX_OPERANDS = 6 };

/* The axes that a walk has left, innermost first. */
typedef struct walk {
  int ndim, n_op;
  int64_t shape[MX_MAX_NDIM];
  int64_t strides[MX_MAX_NDIM][MAX_OPERANDS];
} walk;

/* Whether each operand steps over the whole of axis k when it steps along `axis`. */
static bool lies_behind(const walk *w, int k, const int64_t *const *strides, int axis) {
  for (int j = 0; j < w->n_op; j++)
    if (strides[j][axis] != w->strides[k][j] * w->shape[k]) return false;
  return true;
}

static void add_axis(walk *w, int64_t length, const int64_t *const *strides, int axis) {
  w->shape[w->ndim] = length;
  for (int j = 0; j < w->n_op; j++) w->strides[w->ndim][j] = strides[j][axis];
  w->ndim++;
}

/* Leaves out axes of length 1 and merges those that lie behind one another. */
static void merge_axes(walk *w, int ndim, const int64_t *shape, const int64_t *const *strides) {
  for (int i = ndim - 1; i >= 0; i--) {
    if (shape[i] == 1) continue;
    if (w->ndim && lies_behind(w, w->ndim - 1, strides, i)) w->shape[w->ndim - 1] *= shape[i];
    else add_axis(w, shape[i], strides, i);
  }
  if (!w->ndim) {
    w->ndim = 1;
    w->shape[0] = 1;
    memset(w->strides[0], 0, sizeof w->strides[0]);
  }
}

/* Steps to the next position of the outer axes, like an odometer; false after the last. */
static bool next_row(const walk *w, int64_t *at, char **p) {
  for (int k = 1; k < w->ndim; k++) {
    const int64_t *stride = w->strides[k];
    if (++at[k] < w->shape[k]) {
      for (int j = 0; j < w->n_op; j++) p[j] += stride[j];
      return true;
    }
    for (int j = 0; j < w->n_op; j++) p[j] -= stride[j] * (w->shape[k] - 1);
    at[k] = 0;
  }
  return false;
}

void mx_iterate(int ndim, const int64_t *shape, int n_op, char *const *base, const int64_t *const *strides,
                void (*inner)(void *arg, int64_t n, char *const *p, const int64_t *stride), void *arg) {
  walk w;
  int64_t at[MX_MAX_NDIM] = {0};
  char *p[MAX_OPERANDS];
  for (int i = 0; i < ndim; i++)
    if (shape[i] == 0) return;
  w.ndim = 0, w.n_op = n_op;
  for (int j = 0; j < n_op; j++) p[j] = base[j];
  merge_axes(&w, ndim, shape, strides);
  do inner(arg, w.shape[0], p, w.strides[0]);
  while (next_row(&w, at, p));
}
