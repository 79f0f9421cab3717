/* conv_layout.c: the arrays of a convolution as its loops like them: in the dtype that is worked in, and with features
 * (or, in gradients, the batch) side by side.
 *
 *     channels first   [n][c][h][w]    is read and written a number here, a number there, by loops that take features
 *     channels last    [n][h][w][c]    for columns: it is copied to this first, and a result from this last
 *
 * The copy costs an element's way through memory; each element is multiplied window x features times. */
#include "conv_impl.h"
#include "reduce_impl.h"

#include <stdlib.h>

enum {
  LEAST_PLACES = 16, /* of a picture that is turned: windows, which are small, are copied where they are used */
  LEAST_WIDTH = 2    /* features */
};

/* Of the two axes before the spatial ones, that with the smaller steps. */
static int inner_of(const mx_tensor *t, const mx_few *axes) {
  const int64_t *s = t->strides;
  return llabs(s[axes->v[1]]) <= llabs(s[axes->v[0]]) ? axes->v[1] : axes->v[0];
}

/* Whether places lie closer together than features. */
static bool is_turned(const mx_tensor *t, const mx_few *axes) {
  const int64_t *n = t->aval->shape;
  int inner = inner_of(t, axes);
  int64_t places = 1, least = INT64_MAX;
  for (int i = 2; i < axes->n; i++) {
    int64_t axis = axes->v[i];
    places *= n[axis];
    if (n[axis] > 1 && llabs(t->strides[axis]) < least) least = llabs(t->strides[axis]);
  }
  return places >= LEAST_PLACES && n[inner] >= LEAST_WIDTH && least < llabs(t->strides[inner]);
}

/* Its axes in the order: the outer one, places, the inner one. */
static void turned_order(const mx_tensor *t, const mx_few *axes, int *order) {
  int inner = inner_of(t, axes), n = 0;
  order[n++] = inner == axes->v[0] ? axes->v[1] : axes->v[0];
  for (int i = 2; i < axes->n; i++) order[n++] = axes->v[i];
  order[n++] = inner;
}

static void set_strides(const mx_tensor *t, int64_t size, int64_t *strides) {
  for (int i = 0; i < t->aval->ndim; i++) strides[i] = t->strides[i] / size;
}

/* Row-major in this order of axes: the steps along each axis. */
static void steps_in_order(const mx_aval *a, const int *order, int64_t *strides) {
  int64_t step = 1;
  for (int i = a->ndim - 1; i >= 0; step *= a->shape[order[i--]]) strides[order[i]] = step;
}

static bool reserve(mx_ctx *c, mx_conv_array *a, int64_t elements, int dtype) {
  a->bytes = (size_t)elements * mx_itemsize(dtype);
  a->data = a->memory = mx_scratch(c, a->bytes);
  return a->memory != NULL;
}

bool mx_conv_operand(mx_ctx *c, const mx_tensor *t, const mx_few *axes, int dtype, mx_conv_array *a) {
  bool converts = t->aval->dtype != dtype, turns = is_turned(t, axes);
  int order[MX_MAX_NDIM];
  *a = (mx_conv_array){.data = t->data};
  set_strides(t, (int64_t)mx_itemsize(dtype), a->strides);
  if (!converts && !turns) return true;
  for (int i = 0; i < t->aval->ndim; i++) order[i] = i;
  if (turns) turned_order(t, axes, order);
  if (!reserve(c, a, t->aval->size, dtype)) return false;
  mx_aval shape = *t->aval;
  int64_t strides[MX_MAX_NDIM];
  for (int i = 0; i < shape.ndim; i++) shape.shape[i] = t->aval->shape[order[i]], strides[i] = t->strides[order[i]];
  mx_tensor from = {t->data, &shape, strides, mx_strides_are_contiguous(&shape, strides)};
  steps_in_order(t->aval, order, a->strides);
  if (converts) return mx_cpu_convert_to(c, &from, dtype, a->memory);
  mx_cpu_copy(c, &from, a->memory);
  return true;
}

bool mx_conv_result(mx_ctx *c, const mx_tensor *t, const mx_few *axes, mx_conv_array *a) {
  int order[MX_MAX_NDIM];
  *a = (mx_conv_array){.data = t->data};
  set_strides(t, (int64_t)mx_itemsize(t->aval->dtype), a->strides);
  if (!is_turned(t, axes)) return true;
  turned_order(t, axes, order);
  steps_in_order(t->aval, order, a->strides);
  return reserve(c, a, t->aval->size, t->aval->dtype);
}

void mx_conv_store(mx_ctx *c, const mx_tensor *t, const mx_conv_array *a) {
  int64_t size = (int64_t)mx_itemsize(t->aval->dtype), strides[MX_MAX_NDIM];
  for (int i = 0; i < t->aval->ndim; i++) strides[i] = a->strides[i] * size;
  mx_tensor from = {a->memory, t->aval, strides, false};
  if (a->memory) mx_cpu_copy(c, &from, t->data);
}

void mx_conv_free(mx_ctx *c, mx_conv_array *a) {
  if (a->memory) mx_scratch_free(c, a->memory, a->bytes);
}
