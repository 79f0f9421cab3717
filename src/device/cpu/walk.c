/* walk.c: reading a strided tensor in row-major order, run by run. */
#include "machine.h"

/* Drops axes of length 1 and merges axes that lie behind one another. */
static void merge_axes(mx_walk *w, int ndim, const int64_t *shape, const int64_t *strides) {
  w->ndim = 0;
  for (int i = 0; i < ndim; i++) {
    int last = w->ndim - 1;
    if (shape[i] == 1) continue;
    if (last >= 0 && w->stride[last] == strides[i] * shape[i]) {
      w->shape[last] *= shape[i];
      w->stride[last] = strides[i];
    } else {
      w->shape[w->ndim] = shape[i];
      w->stride[w->ndim++] = strides[i];
    }
  }
  if (w->ndim == 0) w->ndim = 1, w->shape[0] = 1, w->stride[0] = 0;
}

void mx_walk_start(mx_walk *w, const mx_tensor *t, const mx_aval *shape, int64_t position) {
  int64_t strides[MX_MAX_NDIM];
  mx_strides_broadcast(t->aval, t->strides, shape, strides);
  merge_axes(w, shape->ndim, shape->shape, strides);
  w->size = mx_itemsize(t->aval->dtype);
  w->row = t->data;
  w->at = position % w->shape[w->ndim - 1];
  position /= w->shape[w->ndim - 1];
  for (int i = w->ndim - 2; i >= 0; i--) {
    w->index[i] = position % w->shape[i];
    w->row += w->index[i] * w->stride[i];
    position /= w->shape[i];
  }
}

static void next_row(mx_walk *w) {
  w->at = 0;
  for (int i = w->ndim - 2; i >= 0; i--) {
    w->row += w->stride[i];
    if (++w->index[i] < w->shape[i]) return;
    w->row -= w->stride[i] * w->shape[i];
    w->index[i] = 0;
  }
}

void mx_walk_skip(mx_walk *w, int64_t n) {
  w->at += n;
  if (w->at == w->shape[w->ndim - 1]) next_row(w);
}

void mx_walk_gather(mx_walk *w, int64_t n, void *to) {
  for (char *p = to; n > 0;) {
    int64_t run = mx_walk_run(w), k = run < n ? run : n;
    mx_gather_run(w->size, k, mx_walk_here(w), mx_walk_stride(w), p);
    mx_walk_skip(w, k);
    p += (size_t)k * w->size;
    n -= k;
  }
}

#define GATHER(T)                                                                                                      \
  do {                                                                                                                 \
    T *r = to;                                                                                                         \
    if (stride == 0) {                                                                                                 \
      T v = *(const T *)from, first;                                                                                   \
      memset(&first, (uint8_t)v, sizeof first);                                                                        \
      if (v == first) memset(r, (uint8_t)v, (size_t)n * sizeof v); /* zeros above all */                               \
      else MX_VECTORIZE for (int64_t i = 0; i < n; i++) r[i] = v;                                                      \
    } else {                                                                                                           \
      for (int64_t i = 0; i < n; i++) r[i] = *(const T *)(from + i * stride);                                          \
    }                                                                                                                  \
  } while (0)

void mx_gather_run(size_t size, int64_t n, const char *from, int64_t stride, void *to) {
  if (stride == (int64_t)size) {
    memcpy(to, from, (size_t)n * size);
    return;
  }
  switch (size) {
  case 1: GATHER(uint8_t); break;
  case 2: GATHER(uint16_t); break;
  case 4: GATHER(uint32_t); break;
  default: GATHER(uint64_t); break;
  }
}
