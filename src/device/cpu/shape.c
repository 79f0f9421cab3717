/* shape.c: moving elements. What its primitive calls a view is only copied here; concat and pad write into parts of the
 * result. */
#include "cpu_impl.h"

#define NS_PER_BYTE 0.1

/* -- strided copies into strided places ---------------------------------------------------------------------------- */

typedef struct copy_job {
  char *to;
  const char *from;
  const int64_t *to_strides, *from_strides;
  const mx_aval *aval;
  int axis; /* cut into chunks */
  int n_chunks;
} copy_job;

#define COPY_LOOP(T)                                                                                                   \
  for (int64_t i = 0; i < n; i++) {                                                                                    \
    T v;                                                                                                               \
    memcpy(&v, p[1] + i * stride[1], sizeof v);                                                                        \
    memcpy(p[0] + i * stride[0], &v, sizeof v);                                                                        \
  }

static void copy_run(void *arg, int64_t n, char *const *p, const int64_t *stride) {
  int64_t size = *(const int64_t *)arg;
  if (stride[0] == size && stride[1] == size) {
    memcpy(p[0], p[1], (size_t)(n * size));
    return;
  }
  switch (size) {
  case 1: COPY_LOOP(uint8_t) break;
  case 2: COPY_LOOP(uint16_t) break;
  case 4: COPY_LOOP(uint32_t) break;
  default: COPY_LOOP(uint64_t) break;
  }
}

static void copy_chunk(void *arg, int i) {
  const copy_job *j = arg;
  int64_t shape[MX_MAX_NDIM], length = j->aval->shape[j->axis], size = (int64_t)mx_itemsize(j->aval->dtype);
  int64_t lo = length * i / j->n_chunks, hi = length * (i + 1) / j->n_chunks;
  memcpy(shape, j->aval->shape, sizeof shape);
  shape[j->axis] = hi - lo;
  char *base[2] = {j->to + lo * j->to_strides[j->axis], (char *)j->from + lo * j->from_strides[j->axis]};
  const int64_t *strides[2] = {j->to_strides, j->from_strides};
  mx_iterate(j->aval->ndim, shape, 2, base, strides, copy_run, &size);
}

static int longest_axis(const mx_aval *a) {
  int axis = 0;
  for (int i = 1; i < a->ndim; i++)
    if (a->shape[i] > a->shape[axis]) axis = i;
  return axis;
}

/* Copies elements of one aval between any strides. */
static void copy_strided(mx_ctx *c, const mx_aval *a, char *to, const int64_t *to_strides, const char *from,
                         const int64_t *from_strides) {
  copy_job j = {to, from, to_strides, from_strides, a, longest_axis(a), 1};
  if (a->size == 0) return;
  if (a->ndim == 0) {
    memcpy(to, from, mx_itemsize(a->dtype));
    return;
  }
  j.n_chunks =
      mx_chunks(c->engine, j.aval->shape[j.axis], NS_PER_BYTE * (double)mx_nbytes(a) / (double)a->shape[j.axis]);
  mx_parallel(c->engine, j.n_chunks, copy_chunk, &j);
}

/* -- iota ---------------------------------------------------------------------------------------------------------- */

#define COUNT(DTYPE, T, VALUE)                                                                                         \
  case DTYPE:                                                                                                          \
    for (int64_t i = 0; i < n; i++)                                                                                    \
      for (int64_t k = 0; k < inner; k++) ((T *)to)[i * inner + k] = (T)(VALUE);                                       \
    break;

/* 0 .. n-1, each `inner` times. */
static void count_up(int dtype, char *to, int64_t n, int64_t inner) {
  switch (dtype) {
    COUNT(MLAX_INT8, int8_t, i)
    COUNT(MLAX_INT16, int16_t, i)
    COUNT(MLAX_INT32, int32_t, i)
    COUNT(MLAX_INT64, int64_t, i)
    COUNT(MLAX_UINT8, uint8_t, i)
    COUNT(MLAX_UINT16, uint16_t, i)
    COUNT(MLAX_UINT32, uint32_t, i)
    COUNT(MLAX_UINT64, uint64_t, i)
    COUNT(MLAX_FLOAT16, uint16_t, mx_half_of_float((float)i))
    COUNT(MLAX_BFLOAT16, uint16_t, mx_bfloat_of_float((float)i))
    COUNT(MLAX_FLOAT32, float, i)
    COUNT(MLAX_FLOAT64, double, i)
  default: break;
  }
}

static bool iota(const mx_kernel_args *a) {
  const mx_aval *y = a->out[0].aval;
  int axis = (int)a->p->iota.axis;
  int64_t n = y->shape[axis], inner = 1, outer = 1;
  if (y->size == 0) return true;
  for (int i = 0; i < axis; i++) outer *= y->shape[i];
  for (int i = axis + 1; i < y->ndim; i++) inner *= y->shape[i];
  size_t bytes = (size_t)(n * inner) * mx_itemsize(y->dtype);
  count_up(y->dtype, a->out[0].data, n, inner);
  for (int64_t k = 1; k < outer; k++) memcpy(a->out[0].data + (size_t)k * bytes, a->out[0].data, bytes);
  return true;
}

/* -- concat, pad --------------------------------------------------------------------------------------------------- */

static bool concat(mx_ctx *c, const mx_kernel_args *a) {
  int64_t strides[MX_MAX_NDIM];
  char *to = a->out[0].data;
  int axis = (int)a->p->axis.axis;
  mx_strides_contiguous(a->out[0].aval, strides);
  for (int k = 0; k < a->n_in; k++) {
    const mx_tensor *x = &a->in[k];
    if (x->data != to) copy_strided(c, x->aval, to, strides, x->data, x->strides); /* else a plan put it there */
    to += x->aval->shape[axis] * strides[axis];
  }
  return true;
}

/* Elements of one value, one behind the other. */
static void fill(mx_ctx *c, int dtype, char *to, int64_t n, const char *value) {
  int64_t zero = 0, item = (int64_t)mx_itemsize(dtype);
  mx_aval row = {.dtype = (uint8_t)dtype, .ndim = 1, .size = n, .shape = {n}};
  copy_strided(c, &row, to, &item, value, &zero);
}

/* Of an axis of x the elements that land in the result: position i goes to lo + i * step, 0 <= that < length. */
static void landing(int64_t lo, int64_t step, int64_t n, int64_t length, int64_t *first, int64_t *count) {
  *first = lo < 0 ? (-lo + step - 1) / step : 0;
  int64_t end = length > lo ? (length - lo - 1) / step + 1 : 0;
  if (end > n) end = n;
  *count = end > *first ? end - *first : 0;
}

/* The elements of the operand that land in the result: their shape, and the way to them on both sides. */
typedef struct landed {
  mx_aval part;
  const char *from;
  char *to;
  int64_t to_strides[MX_MAX_NDIM];
} landed;

static landed find_landed(const mx_kernel_args *a, const int64_t *strides) {
  const mx_tensor *x = &a->in[0], *y = &a->out[0];
  landed l = {.part = *x->aval, .from = x->data, .to = y->data};
  l.part.size = 1;
  for (int i = 0; i < x->aval->ndim; i++) {
    int64_t lo = a->p->pad.lo.v[i], step = a->p->pad.interior.v[i] + 1, first;
    landing(lo, step, x->aval->shape[i], y->aval->shape[i], &first, &l.part.shape[i]);
    l.part.size *= l.part.shape[i];
    if (l.part.size == 0) break;
    l.from += first * x->strides[i];
    l.to += (lo + first * step) * strides[i];
    l.to_strides[i] = l.part.shape[i] > 1 ? step * strides[i] : strides[i];
  }
  return l;
}

/* Where the operand is one range of the result, only what lies around it is filled; a plan may have put it there. */
static bool pad(mx_ctx *c, const mx_kernel_args *a) {
  const mx_tensor *y = &a->out[0];
  const char *value = a->in[1].data;
  int64_t strides[MX_MAX_NDIM], item = (int64_t)mx_itemsize(y->aval->dtype);
  mx_strides_contiguous(y->aval, strides);
  landed l = find_landed(a, strides);
  bool range = l.part.size > 0 && mx_strides_are_contiguous(&l.part, l.to_strides);
  int64_t before = range ? (l.to - y->data) / item : y->aval->size;
  fill(c, y->aval->dtype, y->data, before, value);
  if (range) {
    int64_t end = before + l.part.size;
    fill(c, y->aval->dtype, y->data + end * item, y->aval->size - end, value);
  }
  if (l.part.size > 0 && l.from != l.to) copy_strided(c, &l.part, l.to, l.to_strides, l.from, a->in[0].strides);
  return true;
}

/* -- views --------------------------------------------------------------------------------------------------------- */

/* The row-major copy of what would be a view; a reshape that is none keeps the row-major order of its operand. */
static bool copy_view(mx_ctx *c, const mx_kernel_args *a) {
  int64_t offset = 0, strides[MX_MAX_NDIM];
  const mx_aval *in[1] = {a->in[0].aval};
  mx_op o = {.prim = a->prim, .p = a->p, .n_in = 1, .n_out = 1, .in_aval = in, .out_aval = a->out[0].aval};
  mx_tensor x = a->in[0];
  if (a->out[0].aval->size == 0) return true;
  if (a->prim->view(&o, x.strides, &offset, strides)) {
    x = (mx_tensor){.data = x.data + offset, .aval = a->out[0].aval, .strides = strides};
    x.contiguous = mx_strides_are_contiguous(x.aval, strides);
  }
  mx_cpu_copy(c, &x, a->out[0].data);
  return true;
}

bool mx_cpu_shape(mx_ctx *c, const mx_kernel_args *a) {
  switch (a->prim->id) {
  case MX_PRIM_iota: return iota(a);
  case MX_PRIM_concat: return concat(c, a);
  case MX_PRIM_pad: return pad(c, a);
  default: return copy_view(c, a);
  }
}
