/* conv_impl.h: a convolution as the CPU sees it: a product of matrices, a gathered from x, b the kernel (see conv.c).
 */
#ifndef MX_CONV_IMPL_H
#define MX_CONV_IMPL_H

#include "dot_impl.h"

/* A spatial axis: place p of the window takes x[p * stride + q * dilation - lo]. Strides of arrays count elements. */
typedef struct side {
  int64_t n, out, window, stride, dilation, lo;
  int64_t x, w, y;
} side;

/* Axes of m: the batch, then spatial ones. Of k: the features, then spatial ones. */
enum { FIRST, SPATIAL, AXES = 1 + MX_MAX_SPATIAL };

/* Elements of a panel that follow one another in x: an axis of k or m, or the last spatial axis and FIRST behind it. */
typedef struct runs {
  bool along_k;
  int spatial;    /* the spatial axis, -1: FIRST alone */
  int64_t unit;   /* elements for each of its positions */
  int64_t length; /* elements in all */
  int64_t x;      /* from one to the next */
} runs;

typedef struct order { /* of the axes of m or k, the last one fastest */
  int n;
  int axis[AXES];
  int64_t length[AXES];
} order;

typedef struct conv {
  int dtype;
  int64_t size;
  const char *x, *w;
  char *out;
  int spatial;
  side side[MX_MAX_SPATIAL];
  int64_t batch, x_batch, y_batch; /* of a group, and strides */
  int64_t in, x_in, w_in;
  int64_t outs, w_out, y_out;
  int64_t groups, x_group, w_group, y_group; /* steps from group to group */
  order m_order, k_order;
  int64_t m, k;
  runs run;
  bool direct;     /* rows of the result can be written by the loops of products */
  int64_t y_row;   /* then: from one to the next */
  mx_gemm form;    /* b's strides */
  mx_after *after; /* of a result that is made at once, without holes in x; NULL: nothing */
} conv;

typedef struct place {
  int64_t at[AXES];
} place;

/* A tile of the product: rows m0 .. m1-1 of a group, summed over k0 .. k1-1, to c. */
typedef struct conv_part {
  const conv *v;
  const char *x, *w; /* of the group */
  int64_t m0, m1, k0, k1;
  char *c;
  int64_t c_row;
} conv_part;

static inline int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t greater(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t floor_of(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static inline place place_of(const order *o, int64_t index) {
  place p = {{0}};
  for (int i = o->n - 1; i >= 0; i--) {
    p.at[o->axis[i]] = index % o->length[i];
    index /= o->length[i];
  }
  return p;
}

/* From the last position of a run to the first of the next: the axes before the run's. */
static inline void next_place(const order *o, int n_run, place *p) {
  for (int i = o->n - n_run; i < o->n; i++) p->at[o->axis[i]] = 0;
  for (int i = o->n - n_run - 1; i >= 0; i--) {
    if (++p->at[o->axis[i]] < o->length[i]) return;
    p->at[o->axis[i]] = 0;
  }
}

/* Whether something is to be done to the result afterwards, and its places, `width` elements each, lie one behind the
 * other in row-major order: it will be done here as they are finished. */
static inline mx_after *take_after(const conv *v, int64_t width) {
  int64_t step = width;
  bool follow = v->after != NULL;
  for (int i = v->spatial - 1; i >= 0; step *= v->side[i--].out) follow &= v->side[i].out == 1 || v->side[i].y == step;
  if (!follow || (v->batch > 1 && v->y_batch != step)) return NULL;
  v->after->taken = true;
  return v->after;
}

/* conv_layout.c: an array where the loops find it, and its steps in elements by axis. */
typedef struct mx_conv_array {
  char *data;
  int64_t strides[MX_MAX_NDIM];
  void *memory; /* scratch; NULL: it is used as it lies */
  size_t bytes;
} mx_conv_array;
/* axes: of the array, as mx_params.conv has them. False: no memory. */
bool mx_conv_operand(mx_ctx *c, const mx_tensor *t, const mx_few *axes, int dtype, mx_conv_array *a);
bool mx_conv_result(mx_ctx *c, const mx_tensor *t, const mx_few *axes, mx_conv_array *a); /* not filled yet */
void mx_conv_store(mx_ctx *c, const mx_tensor *t, const mx_conv_array *a);                /* brings it to t */
void mx_conv_free(mx_ctx *c, mx_conv_array *a);

/* conv_direct.c: parts without panels, where a's elements can be multiplied as they lie in x. */
/* The length of k that parts must consist of; 0: panels are needed. The kernel's rows must be dense. */
int64_t mx_conv_direct_unit(const conv *v);
void mx_conv_direct(const conv_part *t, const char *zeros);

/* conv_lines.c: x is read where it lies, line by line. x is undilated, and nothing is empty. */
bool mx_conv_is_by_lines(const conv *v);
bool mx_conv_by_lines(mx_ctx *c, const conv *v);
/* The kernel as {group, spatial..., in, out}: scratch, and v says so. */
bool mx_conv_copy_kernel(mx_ctx *c, conv *v, void **memory, size_t *bytes);

/* conv_winograd.c: windows of 3 x 3 that move by one. x is undilated, and nothing is empty. Not done, without a
 * failure: numbers are too great. */
bool mx_conv_is_winograd(const conv *v);
bool mx_conv_winograd(mx_ctx *c, const conv *v, bool *done);

#endif
