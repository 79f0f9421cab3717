/* index.c: gather, scatter, windows, the check of positions.
 *
 * Positions become byte offsets first (offsets_fill, by the block of 1024), whatever the number, dtypes and strides of
 * the id arrays:
 *
 *     offset[s] = sum over k of ids[k][s] * stride of axes[k],    OUTSIDE where an id lies outside its axis
 *
 * and at each offset lies one block: the elements of the other axes, with their strides on both sides. Gathers are cut
 * into chunks of positions. Scatters are cut by target: each chunk looks at all positions in order and serves those
 * that a hash of the offset gives to it, so that any number of chunks adds in the same order.
 */
#include "cpu_impl.h"
#include "simd/simd.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum {
  BLOCK = 1024,
  AHEAD = 3,   /* positions, */
  ASKED = 1024 /* and bytes of a row there, that are asked for before they are used */
};
#define OUTSIDE INT64_MIN

/* -- positions to offsets ----------------------------------------------------------------------------------------- */

/* How ids address an array. The axes of s are merged where all ids allow it. */
typedef struct addresses {
  int n, ndim;
  int64_t size, shape[MX_MAX_NDIM]; /* of s */
  const mx_tensor *ids;
  int64_t strides[MX_MAX_NDIM][MX_MAX_NDIM]; /* [id][axis of s] */
  int64_t length[MX_MAX_NDIM], step[MX_MAX_NDIM];
  bool clamp;
} addresses;

/* Whether axes d and d+1 of all strides lie behind one another. */
static bool mergeable(const addresses *a, int d) {
  for (int k = 0; k < a->n; k++)
    if (a->strides[k][d] != a->strides[k][d + 1] * a->shape[d + 1]) return false;
  return true;
}

static void axis_drop(addresses *a, int d) {
  for (int i = d; i + 1 < a->ndim; i++) {
    a->shape[i] = a->shape[i + 1];
    for (int k = 0; k < a->n; k++) a->strides[k][i] = a->strides[k][i + 1];
  }
  a->ndim--;
}

static void addresses_merge(addresses *a) {
  for (int d = a->ndim - 1; d >= 0; d--)
    if (a->shape[d] == 1) axis_drop(a, d);
  for (int d = a->ndim - 2; d >= 0; d--)
    if (mergeable(a, d)) {
      a->shape[d + 1] *= a->shape[d];
      axis_drop(a, d);
    }
}

static void addresses_init(addresses *a, const mx_tensor *ids, int n, const mx_dims *axes, const mx_aval *x,
                           const int64_t *strides, bool clamp) {
  mx_aval s = {.dtype = MLAX_INT32, .size = 1}, both;
  for (int k = 0; k < n; k++)
    if (mx_shape_broadcast(&s, ids[k].aval, &both)) s = both;
  *a = (addresses){.n = n, .ndim = s.ndim, .size = s.size, .ids = ids, .clamp = clamp};
  memcpy(a->shape, s.shape, sizeof a->shape);
  for (int k = 0; k < n; k++) {
    mx_strides_broadcast(ids[k].aval, ids[k].strides, &s, a->strides[k]);
    a->length[k] = x->shape[axes->v[k]];
    a->step[k] = strides[axes->v[k]];
  }
  addresses_merge(a);
}

/* Adds one id array along a run of n positions. */
#define ADD_IDS(T)                                                                                                     \
  static void add_##T(const char *id, int64_t stride, int64_t n, int64_t length, int64_t step, bool clamp,             \
                      int64_t *offset) {                                                                               \
    for (int64_t i = 0; i < n; i++, id += stride) {                                                                    \
      int64_t v = *(const T *)id;                                                                                      \
      if (clamp && length > 0) v = v < 0 ? 0 : v < length ? v : length - 1;                                            \
      offset[i] = offset[i] != OUTSIDE && (uint64_t)v < (uint64_t)length ? offset[i] + v * step : OUTSIDE;             \
    }                                                                                                                  \
  }
ADD_IDS(int32_t)
ADD_IDS(int64_t)

/* Byte offsets of the positions first .. first + n - 1 in row-major order. */
static void offsets_fill(const addresses *a, int64_t first, int64_t n, int64_t *offset) {
  int last = a->ndim - 1;
  int64_t run = last < 0 ? 1 : a->shape[last], at[MX_MAX_NDIM] = {0};
  for (int64_t d = last, rest = first; d >= 0; rest /= a->shape[d--]) at[d] = rest % a->shape[d];
  memset(offset, 0, (size_t)n * sizeof *offset);
  for (int64_t done = 0; done < n;) {
    int64_t begin = last < 0 ? 0 : at[last], m = run - begin < n - done ? run - begin : n - done;
    for (int k = 0; k < a->n; k++) {
      const char *id = a->ids[k].data;
      for (int d = 0; d <= last; d++) id += at[d] * a->strides[k][d];
      int64_t stride = last < 0 ? 0 : a->strides[k][last];
      (a->ids[k].aval->dtype == MLAX_INT32 ? add_int32_t : add_int64_t)(id, stride, m, a->length[k], a->step[k],
                                                                        a->clamp, offset + done);
    }
    done += m;
    if (last < 0) continue;
    at[last] += m;
    for (int d = last; d > 0 && at[d] == a->shape[d]; d--) at[d] = 0, at[d - 1]++;
  }
}

/* -- blocks ------------------------------------------------------------------------------------------------------- */

/* The elements at one position, on two sides. The last axis is the run. */
typedef struct block {
  int ndim; /* axes before the run */
  int64_t run, to_stride, from_stride;
  int64_t shape[MX_MAX_NDIM], to[MX_MAX_NDIM], from[MX_MAX_NDIM];
  int64_t size; /* elements */
  size_t item;
  bool row; /* one run without gaps on both sides */
} block;

static block block_of(int n, const int64_t *shape, const int64_t *to, const int64_t *from, size_t item) {
  block b = {.run = 1, .to_stride = (int64_t)item, .from_stride = (int64_t)item, .size = 1, .item = item};
  bool some = false;
  for (int d = n - 1; d >= 0; d--) {
    b.size *= shape[d];
    if (shape[d] == 1) continue;
    int64_t *run = b.ndim ? &b.shape[b.ndim - 1] : &b.run;
    int64_t to_inner = b.ndim ? b.to[b.ndim - 1] : b.to_stride,
            from_inner = b.ndim ? b.from[b.ndim - 1] : b.from_stride;
    if (some && to[d] == to_inner * *run && from[d] == from_inner * *run) {
      *run *= shape[d];
    } else if (!some) {
      b.run = shape[d], b.to_stride = to[d], b.from_stride = from[d], some = true;
    } else {
      b.shape[b.ndim] = shape[d], b.to[b.ndim] = to[d], b.from[b.ndim] = from[d], b.ndim++;
    }
  }
  b.row = b.ndim == 0 && (b.run == 1 || (b.to_stride == (int64_t)item && b.from_stride == (int64_t)item));
  return b;
}

/* to[i] = from[i], or to[i] = to[i] (op) from[i], for n elements. */
typedef void (*combine)(char *to, int64_t to_stride, const char *from, int64_t from_stride, int64_t n);

/* The axes before the run were listed from the inside out: b->shape[0] varies fastest. */
static void block_apply(const block *b, combine f, char *to, const char *from) {
  int64_t at[MX_MAX_NDIM] = {0};
  if (b->size == 0) return;
  for (;;) {
    f(to, b->to_stride, from, b->from_stride, b->run);
    int d = 0;
    for (; d < b->ndim; d++) {
      to += b->to[d], from += b->from[d];
      if (++at[d] < b->shape[d]) break;
      to -= b->to[d] * at[d], from -= b->from[d] * at[d], at[d] = 0;
    }
    if (d == b->ndim) return;
  }
}

#define COPY(name, T)                                                                                                  \
  static void name(char *to, int64_t to_stride, const char *from, int64_t from_stride, int64_t n) {                    \
    for (int64_t i = 0; i < n; i++) *(T *)(to + i * to_stride) = *(const T *)(from + i * from_stride);                 \
  }
COPY(copy_1, uint8_t)
COPY(copy_2, uint16_t)
COPY(copy_4, uint32_t)
COPY(copy_8, uint64_t)

static combine copy_of(size_t item) { return item == 1 ? copy_1 : item == 2 ? copy_2 : item == 4 ? copy_4 : copy_8; }

/* A row that is used soon lies anywhere. */
static inline void ask_for(const char *row, int64_t bytes, bool to_write) {
  for (int64_t at = 0; at < bytes && at < ASKED; at += 64)
    if (to_write) __builtin_prefetch(row + at, 1);
    else __builtin_prefetch(row + at, 0);
}

/* -- gather ------------------------------------------------------------------------------------------------------- */

typedef struct gather_work {
  addresses a;
  block b;
  const char *from;
  char *to;
  char fill[8]; /* the element for positions outside */
  int chunks;
} gather_work;

static void fill_block(const gather_work *w, char *to) {
  copy_of(w->b.item)(to, (int64_t)w->b.item, w->fill, 0, w->b.size); /* a gathered block has no gaps */
}

#define GATHER_ITEMS(T)                                                                                                \
  static void items_##T(const gather_work *w, const int64_t *offset, int64_t n, char *to) {                            \
    T fill, *out = (T *)to;                                                                                            \
    memcpy(&fill, w->fill, sizeof fill);                                                                               \
    for (int64_t i = 0; i < n; i++) out[i] = offset[i] == OUTSIDE ? fill : *(const T *)(w->from + offset[i]);          \
  }
GATHER_ITEMS(uint8_t)
GATHER_ITEMS(uint16_t)
GATHER_ITEMS(uint32_t)
GATHER_ITEMS(uint64_t)

static void gather_items(const gather_work *w, const int64_t *offset, int64_t n, char *to) {
  switch (w->b.item) {
  case 1: items_uint8_t(w, offset, n, to); break;
  case 2: items_uint16_t(w, offset, n, to); break;
  case 4: items_uint32_t(w, offset, n, to); break;
  default: items_uint64_t(w, offset, n, to);
  }
}

static void gather_blocks(const gather_work *w, const int64_t *offset, int64_t n, char *to) {
  int64_t bytes = w->b.size * (int64_t)w->b.item;
  combine copy = copy_of(w->b.item);
  for (int64_t i = 0; i < n; i++, to += bytes) {
    if (w->b.row && i + AHEAD < n && offset[i + AHEAD] != OUTSIDE) ask_for(w->from + offset[i + AHEAD], bytes, false);
    if (offset[i] == OUTSIDE) fill_block(w, to);
    else if (w->b.row) memcpy(to, w->from + offset[i], (size_t)bytes);
    else block_apply(&w->b, copy, to, w->from + offset[i]);
  }
}

static void gather_chunk(void *arg, int chunk) {
  const gather_work *w = arg;
  int64_t begin = w->a.size * chunk / w->chunks, end = w->a.size * (chunk + 1) / w->chunks;
  int64_t bytes = w->b.size * (int64_t)w->b.item, offset[BLOCK];
  for (int64_t i = begin; i < end; i += BLOCK) {
    int64_t n = end - i < BLOCK ? end - i : BLOCK;
    offsets_fill(&w->a, i, n, offset);
    (w->b.size == 1 ? gather_items : gather_blocks)(w, offset, n, w->to + i * bytes);
  }
}

/* What a filling gather gives outside: NaN, the least signed, the greatest unsigned number, true. */
static void fill_of(int dtype, int mode, char fill[8]) {
  memset(fill, 0, 8);
  if (mode != MX_GATHER_FILL) return;
  int bits = (int)mx_itemsize(dtype) * 8;
  switch (mx_dtype_kind(dtype)) {
  case MX_KIND_FLOAT: mx_store_double(dtype, fill, (double)NAN); break;
  case MX_KIND_INT: mx_store_int(dtype, fill, (int64_t)(UINT64_C(1) << (bits - 1))); break;
  default: mx_store_int(dtype, fill, dtype == MLAX_BOOL ? 1 : -1);
  }
}

/* x's axes that no id addresses: shape and strides. */
static int other_axes(const mx_dims *axes, const mx_aval *x, const int64_t *strides, int64_t *shape, int64_t *other) {
  int n = 0;
  for (int i = 0; i < x->ndim; i++)
    if (!mx_dims_has(axes, i)) shape[n] = x->shape[i], other[n++] = strides[i];
  return n;
}

static bool gather(mx_ctx *c, const mx_kernel_args *k) {
  const mx_tensor *x = &k->in[0], *out = &k->out[0];
  const mx_dims *axes = &k->p->gather.axes;
  int64_t shape[MX_MAX_NDIM], from[MX_MAX_NDIM], to[MX_MAX_NDIM];
  gather_work w = {.from = x->data, .to = out->data};
  addresses_init(&w.a, k->in + 1, k->n_in - 1, axes, x->aval, x->strides, k->p->gather.fill == MX_GATHER_CLAMP);
  int n = other_axes(axes, x->aval, x->strides, shape, from);
  mx_strides_contiguous(out->aval, to);
  w.b = block_of(n, shape, to + out->aval->ndim - n, from, mx_itemsize(x->aval->dtype));
  fill_of(x->aval->dtype, (int)k->p->gather.fill, w.fill);
  w.chunks = mx_chunks(c->engine, w.a.size, 2 * w.a.n + 0.1 * (double)w.b.size * (double)w.b.item);
  mx_parallel(c->engine, w.chunks, gather_chunk, &w);
  return true;
}

/* -- scatter ------------------------------------------------------------------------------------------------------ */

#define COMBINE_RUN(T, load, store, expression, to_step, from_step)                                                    \
  for (int64_t i = 0; i < n; i++) {                                                                                    \
    T *p = (T *)(to + i * (to_step));                                                                                  \
    __typeof__(load(*p)) x = load(*p), u = load(*(const T *)(from + i * (from_step)));                                 \
    *p = (T)store(expression);                                                                                         \
  }
/* Updates are no part of what they are added to. */
#define COMBINE(name, T, load, store, expression)                                                                      \
  static void name(char *to, int64_t to_stride, const char *from, int64_t from_stride, int64_t n) {                    \
    if (to_stride == (int64_t)sizeof(T) && from_stride == (int64_t)sizeof(T)) {                                        \
      MX_VECTORIZE COMBINE_RUN(T, load, store, expression, (int64_t)sizeof(T), (int64_t)sizeof(T))                     \
    } else COMBINE_RUN(T, load, store, expression, to_stride, from_stride)                                             \
  }
#define SAME(v)  (v)
#define WRAP(v)  ((uint64_t)(v)) /* sums and products wrap */
#define LEAST    (x != x ? x : u != u ? u : u < x ? u : x)
#define GREATEST (x != x ? x : u != u ? u : u > x ? u : x)
#define COMBINE_FLOAT(name, T, load, store)                                                                            \
  COMBINE(add_##name, T, load, store, x + u)                                                                           \
  COMBINE(mul_##name, T, load, store, x *u)                                                                            \
  COMBINE(min_##name, T, load, store, LEAST)                                                                           \
  COMBINE(max_##name, T, load, store, GREATEST)
#define COMBINE_INT(name, T)                                                                                           \
  COMBINE(add_##name, T, WRAP, SAME, x + u)                                                                            \
  COMBINE(mul_##name, T, WRAP, SAME, x *u)                                                                             \
  COMBINE(min_##name, T, SAME, SAME, (u < x ? u : x))                                                                  \
  COMBINE(max_##name, T, SAME, SAME, (u > x ? u : x))
COMBINE_INT(int8, int8_t)
COMBINE_INT(int16, int16_t)
COMBINE_INT(int32, int32_t)
COMBINE_INT(int64, int64_t)
COMBINE_INT(uint8, uint8_t)
COMBINE_INT(uint16, uint16_t)
COMBINE_INT(uint32, uint32_t)
COMBINE_INT(uint64, uint64_t)
COMBINE_FLOAT(float16, uint16_t, mx_float_of_half, mx_half_of_float)
COMBINE_FLOAT(bfloat16, uint16_t, mx_float_of_bfloat, mx_bfloat_of_float)
COMBINE_FLOAT(float32, float, SAME, SAME)
COMBINE_FLOAT(float64, double, SAME, SAME)

/* ORDER dtype; bools are bytes of 0 and 1 and are not added (the shape rule) */
#define COMBINE_ROW(op)                                                                                                \
  {                                                                                                                    \
    op##_uint8, op##_int8, op##_int16, op##_int32, op##_int64, op##_uint8, op##_uint16, op##_uint32, op##_uint64,      \
        op##_float16, op##_bfloat16, op##_float32, op##_float64                                                        \
  }
static combine combine_of(int prim, int dtype) {
  static const combine table[4][MX_DTYPE_COUNT] = {COMBINE_ROW(add), COMBINE_ROW(mul), COMBINE_ROW(min),
                                                   COMBINE_ROW(max)};
  switch (prim) {
  case MX_PRIM_scatter_add: return table[0][dtype];
  case MX_PRIM_scatter_mul: return table[1][dtype];
  case MX_PRIM_scatter_min: return table[2][dtype];
  case MX_PRIM_scatter_max: return table[3][dtype];
  default: return copy_of(mx_itemsize(dtype));
  }
}

/* Walks over the updates: axes of s, in row-major order. */
typedef struct scatter_work {
  addresses a;
  block b;
  combine f;
  char *to;
  const char *from;
  int ndim; /* of s, as the updates see it */
  int64_t shape[MX_MAX_NDIM], strides[MX_MAX_NDIM];
  int chunks;
} scatter_work;

static int owner(const scatter_work *w, int64_t offset) {
  uint64_t h = (uint64_t)offset * 0x9E3779B97F4A7C15u;
  return (int)((h >> 32) * (uint64_t)w->chunks >> 32);
}

static bool serves(const scatter_work *w, int chunk, int64_t offset) {
  return offset != OUTSIDE && (w->chunks == 1 || owner(w, offset) == chunk);
}

/* The byte offset of the update at row-major position i. */
static int64_t update_offset(const scatter_work *w, int64_t i) {
  int64_t offset = 0;
  for (int d = w->ndim - 1; d >= 0; d--) {
    offset += i % w->shape[d] * w->strides[d];
    i /= w->shape[d];
  }
  return offset;
}

static void scatter_chunk(void *arg, int chunk) {
  const scatter_work *w = arg;
  int64_t offset[BLOCK], inner = w->ndim ? w->strides[w->ndim - 1] : 0, run = w->ndim ? w->shape[w->ndim - 1] : 1;
  for (int64_t first = 0; first < w->a.size; first += BLOCK) {
    int64_t n = w->a.size - first < BLOCK ? w->a.size - first : BLOCK, left = 0;
    const char *from = NULL;
    offsets_fill(&w->a, first, n, offset);
    for (int64_t i = 0; i < n; i++, left--, from += inner) {
      if (left == 0) {
        left = run - (first + i) % run;
        from = w->from + update_offset(w, first + i);
      }
      if (w->b.row && i + AHEAD < n && serves(w, chunk, offset[i + AHEAD]))
        ask_for(w->to + offset[i + AHEAD], w->b.size * (int64_t)w->b.item, true);
      if (!serves(w, chunk, offset[i])) continue;
      if (w->b.size == 1) w->f(w->to + offset[i], 0, from, 0, 1);
      else block_apply(&w->b, w->f, w->to + offset[i], from);
    }
  }
}

/* The updates' axes of s, those behind one another merged. */
static void update_axes(scatter_work *w, const mx_tensor *updates, int ndim) {
  w->ndim = 0;
  for (int d = ndim - 1; d >= 0; d--) {
    int64_t length = updates->aval->shape[d], stride = updates->strides[d];
    int at = MX_MAX_NDIM - w->ndim;
    if (length == 1) continue;
    if (w->ndim && stride == w->strides[at] * w->shape[at]) w->shape[at] *= length;
    else w->ndim++, w->shape[at - 1] = length, w->strides[at - 1] = stride;
  }
  memmove(w->shape, w->shape + MX_MAX_NDIM - w->ndim, (size_t)w->ndim * sizeof *w->shape);
  memmove(w->strides, w->strides + MX_MAX_NDIM - w->ndim, (size_t)w->ndim * sizeof *w->strides);
}

static bool scatter(mx_ctx *c, const mx_kernel_args *k) {
  const mx_tensor *x = &k->in[0], *updates = &k->in[1], *out = &k->out[0];
  const mx_dims *axes = &k->p->axes.axes;
  int64_t strides[MX_MAX_NDIM], shape[MX_MAX_NDIM], to[MX_MAX_NDIM];
  scatter_work w = {.to = out->data, .from = updates->data, .f = combine_of(k->prim->id, x->aval->dtype), .chunks = 1};
  mx_strides_contiguous(out->aval, strides);
  addresses_init(&w.a, k->in + 2, k->n_in - 2, axes, out->aval, strides, false);
  int n = other_axes(axes, out->aval, strides, shape, to), s = updates->aval->ndim - n;
  w.b = block_of(n, shape, to, updates->strides + s, mx_itemsize(x->aval->dtype));
  update_axes(&w, updates, s);
  if (x->data != out->data) mx_cpu_copy(c, x, out->data);
  if (w.b.size == 0) return true;
  if (w.b.size >= 16) w.chunks = mx_chunks(c->engine, w.a.size, 0.5 * (double)w.b.size);
  mx_parallel(c->engine, w.chunks, scatter_chunk, &w);
  return true;
}

/* -- windows ------------------------------------------------------------------------------------------------------ */

/* The offset of a window in an array with these strides; starts are moved so that it fits. */
static int64_t window_offset(const mx_aval *x, const int64_t *strides, const mx_tensor *starts, const int64_t *sizes) {
  int64_t offset = 0;
  for (int d = 0; d < x->ndim; d++) {
    int64_t v = mx_load_int(starts->aval->dtype, starts->data + d * starts->strides[0]), most = x->shape[d] - sizes[d];
    offset += (v < 0 ? 0 : v < most ? v : most) * strides[d];
  }
  return offset;
}

static bool dynamic_slice(mx_ctx *c, const mx_kernel_args *k) {
  const mx_tensor *x = &k->in[0], *out = &k->out[0];
  int64_t offset = window_offset(x->aval, x->strides, &k->in[1], out->aval->shape);
  mx_tensor window = {x->data + offset, out->aval, x->strides, mx_strides_are_contiguous(out->aval, x->strides)};
  mx_cpu_copy(c, &window, out->data);
  return true;
}

static void copy_run(void *arg, int64_t n, char *const *p, const int64_t *stride) {
  const size_t *item = arg;
  if (stride[0] == (int64_t)*item && stride[1] == stride[0]) memcpy(p[0], p[1], (size_t)n * *item);
  else copy_of (*item)(p[0], stride[0], p[1], stride[1], n);
}

static bool dynamic_update_slice(mx_ctx *c, const mx_kernel_args *k) {
  const mx_tensor *x = &k->in[0], *y = &k->in[1], *out = &k->out[0];
  int64_t strides[MX_MAX_NDIM];
  size_t item = mx_itemsize(x->aval->dtype);
  if (x->data != out->data) mx_cpu_copy(c, x, out->data);
  if (y->aval->size == 0) return true;
  mx_strides_contiguous(out->aval, strides);
  char *window = out->data + window_offset(out->aval, strides, &k->in[2], y->aval->shape);
  mx_iterate(y->aval->ndim, y->aval->shape, 2, (char *const[]){window, y->data},
             (const int64_t *const[]){strides, y->strides}, copy_run, &item);
  return true;
}

/* -- the check of positions --------------------------------------------------------------------------------------- */

typedef struct check_work {
  int64_t size, first;    /* the ids from `first` on count 0, 1, ... */
  int64_t negative;       /* the length from whose end negative ids count; 0: there are none */
  int in, out;            /* dtypes */
  bool failed, too_great; /* too_great: a uint64 that int64 cannot hold */
  int64_t bad;            /* the first id outside */
} check_work;

static int64_t check_one(check_work *w, int64_t v, bool too_great) {
  int64_t i = v < 0 ? v + w->negative : v - w->first;
  if (i >= 0 && i < w->size && !too_great) return i;
  if (!w->failed) w->failed = true, w->bad = v, w->too_great = too_great;
  return 0;
}

/* operands: result, ids, and where there is one, the predicate: where it is false an id outside is no failure. An id
 * inside counts there too, since collectives see what branches compute that are not taken. */
static void check_run(void *arg, int64_t n, char *const *p, const int64_t *stride) {
  check_work *w = arg;
  for (int64_t i = 0; i < n; i++) {
    int64_t v = mx_load_int(w->in, p[1] + i * stride[1]);
    mx_store_int(w->out, p[0] + i * stride[0], check_one(w, v, w->in == MLAX_UINT64 && v < 0));
  }
}

static void check_run_int32(void *arg, int64_t n, char *const *p, const int64_t *stride) {
  check_work *w = arg;
  for (int64_t i = 0; i < n; i++)
    *(int32_t *)(p[0] + i * stride[0]) = (int32_t)check_one(w, *(const int32_t *)(p[1] + i * stride[1]), false);
}

static void check_run_where(void *arg, int64_t n, char *const *p, const int64_t *stride) {
  for (int64_t i = 0; i < n; i++) {
    char *const at[2] = {p[0] + i * stride[0], p[1] + i * stride[1]};
    check_work *w = arg, before = *w;
    check_run(arg, 1, at, stride);
    if (!p[2][i * stride[2]]) *w = before;
  }
}

static bool check_fail(mx_ctx *c, const check_work *w, int64_t axis) {
  char got[32], on[40] = "", need[100];
  const char *zero = w->first == 1 && !w->too_great && w->bad == 0 ? ": positions count from 1" : "";
  long long n = w->size, first = w->first, last = n - 1 + first;
  snprintf(got, sizeof got, w->too_great ? "%" PRIu64 : "%" PRId64, w->bad);
  if (axis >= 0) snprintf(on, sizeof on, " on axis %" PRId64, axis + 1);
  if (n == 0) snprintf(need, sizeof need, "but its length is 0");
  else if (w->negative) snprintf(need, sizeof need, "need %lld..%lld or -%lld..-1", first, last, n);
  else snprintf(need, sizeof need, "need %lld..%lld", first, last);
  return mx_fail(c, MLAX_ARGUMENT, "index %s is out of range%s%s (got %s, %s)", got, on, zero, got, need);
}

static bool check_index(mx_ctx *c, const mx_kernel_args *k) {
  const mx_tensor *ids = &k->in[0], *out = &k->out[0];
  int64_t size = k->p->check.size, how = k->p->check.base;
  check_work w = {.size = size, .first = how & 1, .in = ids->aval->dtype, .out = out->aval->dtype};
  w.negative = how & MX_INDEX_EXACT ? 0 : size;
  int64_t strides[3][MX_MAX_NDIM];
  char *base[3] = {out->data, ids->data};
  mx_strides_contiguous(out->aval, strides[0]);
  for (int i = 0; i < k->n_in; i++) {
    base[1 + i] = k->in[i].data;
    mx_strides_broadcast(k->in[i].aval, k->in[i].strides, out->aval, strides[1 + i]);
  }
  bool narrow = w.in == MLAX_INT32 && w.out == MLAX_INT32;
  if (out->aval->size > 0)
    mx_iterate(out->aval->ndim, out->aval->shape, 1 + k->n_in, base,
               (const int64_t *const[]){strides[0], strides[1], strides[2]},
               k->n_in == 2 ? check_run_where
               : narrow     ? check_run_int32
                            : check_run,
               &w);
  return !w.failed || check_fail(c, &w, k->p->check.axis);
}

bool mx_cpu_index(mx_ctx *c, const mx_kernel_args *k) {
  switch (k->prim->id) {
  case MX_PRIM_check_index: return check_index(c, k);
  case MX_PRIM_gather: return gather(c, k);
  case MX_PRIM_dynamic_slice: return dynamic_slice(c, k);
  case MX_PRIM_dynamic_update_slice: return dynamic_update_slice(c, k);
  default: return scatter(c, k);
  }
}
