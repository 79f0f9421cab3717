/* array.h: values. An array is an immutable view of a counted buffer: dtype, shape, byte strides, offset.
 *
 *     buffer  [ 0 1 2 3 4 5 ]          x: shape {2,3}, strides {12,4}, offset 0       (float32)
 *                                       x.T: shape {3,2}, strides {4,12}, offset 0     shares the buffer
 *                                       broadcast of x[0] to {4,3}: strides {0,4}
 *
 * A tracer is the same struct with another tag: it has an aval, and in the place of a buffer what its trace put there.
 * Invariants: ndim <= MX_MAX_NDIM; size is the product of shape and fits int64; size * itemsize fits ptrdiff_t; a
 * value's every element lies inside its buffer; axes of length 0 or 1 may have any stride.
 */
#ifndef MX_ARRAY_H
#define MX_ARRAY_H

#include "../base/base.h"

#define MX_MAX_NDIM    12
#define MX_DTYPE_COUNT 13

typedef mlax_array mx_array;

/* What is known of an array without its values. `weak`: made of Lua numbers alone, never widens another dtype. */
typedef struct mx_aval {
  uint8_t dtype; /* mlax_dtype */
  uint8_t ndim;
  bool weak;
  int64_t size; /* product of shape */
  int64_t shape[MX_MAX_NDIM];
} mx_aval;

typedef struct mx_buffer {
  atomic_int refs;
  mlax_engine *engine; /* borrowed: who holds the buffer holds the engine, too */
  void *data;
  size_t bytes;              /* what was asked for */
  void (*release)(void *ud); /* of a host's memory (mlax_array_wrap); NULL: ours */
  void *ud;
} mx_buffer;

typedef enum { MX_VALUE, MX_DONATED, MX_FREED, MX_STAGED, MX_LINEAR, MX_DUAL, MX_BATCHED, MX_ABSTRACT } mx_tag;

struct mlax_array {
  atomic_int refs;
  uint8_t tag;          /* mx_tag */
  bool contiguous;      /* a value, row-major without gaps */
  _Atomic(bool) pinned; /* somebody holds the address of its elements: a program whose constant it is, a host */
  uint32_t site;        /* the Lua line that made a tracer, or freed or donated an array */
  mlax_engine *engine;
  mx_aval aval;
  union {
    struct { /* MX_VALUE; MX_DONATED: nobody reads it, and the buffer is NULL unless it is pinned */
      mx_buffer *buffer;
      int64_t offset;               /* bytes */
      int64_t strides[MX_MAX_NDIM]; /* bytes */
    };
    struct { /* tracers; the array holds a reference to each of these */
      struct mx_trace *trace;
      mx_array *primal;  /* MX_DUAL: primal; MX_BATCHED: the whole value; MX_LINEAR: none */
      mx_array *tangent; /* MX_DUAL; NULL: zero */
      int32_t var;       /* MX_STAGED, MX_LINEAR: variable of the program; MX_BATCHED: the mapped axis */
    };
  };
};

/* -- dtypes (dtype.c) ---------------------------------------------------------------------------------------------- */
typedef enum { MX_KIND_BOOL, MX_KIND_INT, MX_KIND_UINT, MX_KIND_FLOAT } mx_kind;
extern const uint8_t mx_dtype_sizes[MX_DTYPE_COUNT];
const char *mx_dtype_name(int dtype);
int mx_dtype_of_name(const char *name, size_t length); /* -1: unknown */
mx_kind mx_dtype_kind(int dtype);
static inline size_t mx_itemsize(int dtype) { return mx_dtype_sizes[dtype]; }
static inline bool mx_is_float(int dtype) { return dtype >= MLAX_FLOAT16; }
static inline bool mx_is_int(int dtype) { return dtype > MLAX_BOOL && dtype < MLAX_FLOAT16; }
/* JAX's lattice with x64 enabled, except that "some float" is float32. A weak operand never widens: of a weak float
 * with an integer or bool comes float32, otherwise the other's dtype. *weak is set when both are. */
int mx_dtype_promote(int a, bool a_weak, int b, bool b_weak, bool *weak);
/* float32 for integers and bool, else itself: what sin, mean, / work in. */
static inline int mx_dtype_inexact(int dtype) { return mx_is_float(dtype) ? dtype : MLAX_FLOAT32; }

uint16_t mx_half_of_float(float f); /* to nearest even */
float mx_float_of_half(uint16_t h);
uint16_t mx_bfloat_of_float(float f);
float mx_float_of_bfloat(uint16_t b);

/* One element, by dtype. Stores convert as `astype` does: floats cut towards zero and saturate, NaN gives 0, integers
 * wrap. */
double mx_load_double(int dtype, const void *p);
int64_t mx_load_int(int dtype, const void *p); /* uint64 wraps */
void mx_store_double(int dtype, void *p, double v);
void mx_store_int(int dtype, void *p, int64_t v);
/* n elements with byte strides. Total: any pair of dtypes. */
void mx_convert_strided(int from, const void *src, int64_t src_stride, int to, void *dst, int64_t dst_stride,
                        int64_t n);

/* -- shapes (shape.c) ---------------------------------------------------------------------------------------------- */
/* Fills dtype, ndim, shape, size. Fails when a length is negative, there are too many axes, or the size overflows. */
bool mx_aval_make(mx_ctx *c, mx_aval *a, int dtype, int ndim, const int64_t *shape);
/* That of so many of them, stacked along a new first axis. */
bool mx_aval_stack(mx_ctx *c, const mx_aval *a, int64_t length, mx_aval *out);
/* NumPy's broadcasting of two shapes; false (no error recorded) where they do not fit. Only shape, ndim and size of out
 * are set. */
bool mx_shape_broadcast(const mx_aval *a, const mx_aval *b, mx_aval *out);
bool mx_shape_equal(const mx_aval *a, const mx_aval *b);
bool mx_aval_equal(const mx_aval *a, const mx_aval *b); /* dtype, weak and shape */
void mx_strides_contiguous(const mx_aval *a, int64_t *strides);
bool mx_strides_are_contiguous(const mx_aval *a, const int64_t *strides);
/* Strides of a seen in the broadcast shape `to`: 0 on repeated axes. */
void mx_strides_broadcast(const mx_aval *a, const int64_t *strides, const mx_aval *to, int64_t *out);

/* Text for messages: mx_text t; mx_fail(c, ..., "%s", mx_aval_text(&t, &x->aval)). */
typedef struct mx_text {
  char s[160];
} mx_text;
const char *mx_aval_text(mx_text *t, const mx_aval *a);                /* "float32[2,3]" */
const char *mx_shape_text(mx_text *t, int ndim, const int64_t *shape); /* "{2, 3}" */

/* Calls inner(arg, n, pointers, strides) for runs along the last axis (after merging axes that lie behind one another)
 * of `n_op` operands (at most 6) that share `shape`. The pointers walk over all outer positions in row-major order. */
void mx_iterate(int ndim, const int64_t *shape, int n_op, char *const *base, const int64_t *const *strides,
                void (*inner)(void *arg, int64_t n, char *const *p, const int64_t *stride), void *arg);

/* -- arrays (array.c) ---------------------------------------------------------------------------------------------- */
/* make: a new reference that belongs to the caller; NULL with the error recorded */
mx_array *mx_array_new(mx_ctx *c, const mx_aval *a); /* uninitialised, row-major; weak is copied */
mx_array *mx_array_view(mx_ctx *c, mx_array *base, const mx_aval *a, int64_t offset, const int64_t *strides);
mx_array *mx_array_of_double(mx_ctx *c, int dtype, double v); /* scalars */
mx_array *mx_array_of_int(mx_ctx *c, int dtype, int64_t v);
mx_array *mx_array_contiguous(mx_ctx *c, mx_array *x); /* x itself (retained) where it is row-major */
mx_array *mx_array_of_buffer(mx_ctx *c, const mx_aval *a, mx_buffer *b, int64_t offset,
                             const int64_t *strides); /* takes no reference of its own: b is retained */
mx_array *mx_array_tracer(mx_ctx *c, mx_tag tag,
                          const mx_aval *a); /* union zeroed; also MX_ABSTRACT: an aval without value */
/* count: atomic; the last release frees buffer or tracer payload (mx_trace_release is called through mx_tracer_free) */
static inline mx_array *mx_retain(mx_array *x) {
  if (x) atomic_fetch_add_explicit(&x->refs, 1, memory_order_relaxed);
  return x;
}
void mx_release(mx_array *x);
/* A value becomes MX_DONATED, for all who hold the array; its memory goes unless it is pinned. */
void mx_array_donate(mx_array *x, uint32_t site);
extern void (*mx_tracer_free)(mx_array *x); /* defined in trace/: releases what a tracer holds */
mx_buffer *mx_buffer_new(mx_ctx *c, size_t bytes);
void mx_buffer_release(mx_buffer *b);

/* ask */
static inline char *mx_data(const mx_array *x) { return (char *)x->buffer->data + x->offset; }
static inline bool mx_is_gone(const mx_array *x) { return x->tag == MX_DONATED || x->tag == MX_FREED; }
static inline bool mx_is_tracer(const mx_array *x) { return x->tag > MX_FREED; }
static inline size_t mx_nbytes(const mx_aval *a) { return (size_t)a->size * mx_itemsize(a->dtype); }
/* Copies the elements in row-major order; a value only (copy.c). */
void mx_array_read_all(const mx_array *x, void *to);
/* The single element of a value of size 1. */
double mx_array_item_double(const mx_array *x);
int64_t mx_array_item_int(const mx_array *x);

/* the frame (array.c): what bind makes belongs to it */
mx_array *mx_keep(mx_ctx *c, mx_array *x); /* takes x into the frame, returns it borrowed; NULL passes through */
static inline int mx_frame_mark(const mx_ctx *c) { return c->frame_n; }
void mx_frame_release(mx_ctx *c, int mark); /* releases all that was kept since the mark */
/* The same, but the n arrays of `out` survive: they are kept in the frame below. */
void mx_frame_return(mx_ctx *c, int mark, mx_array *const *out, int n);

/* show (print.c): "float32[2,3]\n[[1 2 3]\n [4 5 6]]", a scalar "float32[] 0.693147". Writes at most cap bytes with a
 * final zero and returns the full length, as snprintf does. */
typedef struct mx_print_options {
  int precision; /* significant digits, default 6 */
  int edge;      /* rows shown at each end of a long axis, default 3 */
  int threshold; /* sizes above it are summarised, default 1000 */
} mx_print_options;
size_t mx_array_print(const mx_array *x, const mx_print_options *o, char *to, size_t cap);

#endif
