/* sort.c: sorting along an axis, and binary search.
 *
 * An element becomes an unsigned number whose order is the element's: floats with NaN last and -0 equal to +0, integers
 * with the sign turned. A lane is then a list of words (key, position), sorted stably by key: by insertion and merging
 * when it is short, else by radix, the least digit first. Of several keys the last is sorted first. All operands follow
 * the positions.
 *
 *     packed  64 bits: the key in the upper half, the position in the lower one: keys up to 32 bits
 *     wide    128 bits: keys of 64 bits, or lanes longer than 2^32
 */
#include "cpu_impl.h"

enum { SHORT_RUN = 16, RADIX_FROM = 512, DIGIT = 11, BUCKETS = 1 << DIGIT, MAX_PASSES = 6 };

/* -- keys --------------------------------------------------------------------------------------------------------- */

/* U: the unsigned type; SIGN its highest bit; INF the bits of infinity */
#define KEY_FLOAT(name, U, SIGN, INF)                                                                                  \
  static inline uint64_t key_##name(const char *p) {                                                                   \
    U u = *(const U *)p, magnitude = (U)(u & (U) ~(SIGN));                                                             \
    if (magnitude > (INF)) return (U) ~(U)0;                                                                           \
    if (magnitude == 0) return (SIGN);                                                                                 \
    return (U)(u & (SIGN) ? (U)~u : (U)(u | (SIGN)));                                                                  \
  }
#define KEY_INT(name, U, SIGN)                                                                                         \
  static inline uint64_t key_##name(const char *p) { return (U)(*(const U *)p ^ (SIGN)); }
KEY_INT(uint8, uint8_t, 0)
KEY_INT(uint16, uint16_t, 0)
KEY_INT(uint32, uint32_t, 0)
KEY_INT(uint64, uint64_t, 0)
KEY_INT(int8, uint8_t, 0x80u)
KEY_INT(int16, uint16_t, 0x8000u)
KEY_INT(int32, uint32_t, 0x80000000u)
KEY_INT(int64, uint64_t, UINT64_C(1) << 63)
KEY_FLOAT(float16, uint16_t, 0x8000u, 0x7c00u)
KEY_FLOAT(bfloat16, uint16_t, 0x8000u, 0x7f80u)
KEY_FLOAT(float32, uint32_t, 0x80000000u, 0x7f800000u)
KEY_FLOAT(float64, uint64_t, UINT64_C(1) << 63, UINT64_C(0x7ff0000000000000))

/* A bool is a byte of 0 or 1. */
#define KEY_TYPES(X)                                                                                                   \
  X(BOOL, uint8)                                                                                                       \
  X(INT8, int8)                                                                                                        \
  X(INT16, int16)                                                                                                      \
  X(INT32, int32)                                                                                                      \
  X(INT64, int64)                                                                                                      \
  X(UINT8, uint8)                                                                                                      \
  X(UINT16, uint16)                                                                                                    \
  X(UINT32, uint32)                                                                                                    \
  X(UINT64, uint64)                                                                                                    \
  X(FLOAT16, float16)                                                                                                  \
  X(BFLOAT16, bfloat16)                                                                                                \
  X(FLOAT32, float32)                                                                                                  \
  X(FLOAT64, float64)

/* -- words -------------------------------------------------------------------------------------------------------- */

typedef uint64_t packed;
typedef struct wide {
  uint64_t key, at;
} wide;

static inline uint64_t packed_key(packed w) { return w >> 32; }
static inline int64_t packed_at(packed w) { return (int64_t)(uint32_t)w; }
static inline packed packed_make(uint64_t key, int64_t at) { return key << 32 | (uint64_t)at; }
static inline uint64_t wide_key(wide w) { return w.key; }
static inline int64_t wide_at(wide w) { return (int64_t)w.at; }
static inline wide wide_make(uint64_t key, int64_t at) { return (wide){key, (uint64_t)at}; }

/* Puts the keys of x's elements into the words that hold their positions. */
#define FILL_CASE(NAME, name)                                                                                          \
  case MLAX_##NAME:                                                                                                    \
    for (int64_t i = 0; i < n; i++) FILL_WORD(name);                                                                   \
    return;
#define FILL_WORD(name) w[i] = packed_make(key_##name(x + packed_at(w[i]) * stride), packed_at(w[i]))
static void packed_fill(packed *w, int64_t n, int dtype, const char *x, int64_t stride) {
  switch (dtype) { KEY_TYPES(FILL_CASE) }
}
#undef FILL_WORD
#define FILL_WORD(name) w[i] = wide_make(key_##name(x + wide_at(w[i]) * stride), wide_at(w[i]))
static void wide_fill(wide *w, int64_t n, int dtype, const char *x, int64_t stride) {
  switch (dtype) { KEY_TYPES(FILL_CASE) }
}

/* out[i] = x[position of word i] */
#define FOLLOW_CASE(T, word)                                                                                           \
  for (int64_t i = 0; i < n; i++) *(T *)(out + i * out_stride) = *(const T *)(x + word##_at(w[i]) * stride)
#define FOLLOW(word)                                                                                                   \
  static void word##_follow(const word *w, int64_t n, size_t item, const char *x, int64_t stride, char *out,           \
                            int64_t out_stride) {                                                                      \
    switch (item) {                                                                                                    \
    case 1: FOLLOW_CASE(uint8_t, word); break;                                                                         \
    case 2: FOLLOW_CASE(uint16_t, word); break;                                                                        \
    case 4: FOLLOW_CASE(uint32_t, word); break;                                                                        \
    default: FOLLOW_CASE(uint64_t, word);                                                                              \
    }                                                                                                                  \
  }
FOLLOW(packed)
FOLLOW(wide)

/* -- sorting words ------------------------------------------------------------------------------------------------ */

/* Each sorts the n words of `a` stably with `b` as room, and returns the one of the two that holds the result. */
#define SORT_WORDS(word)                                                                                               \
  static void word##_insert(word *a, int64_t n) {                                                                      \
    for (int64_t i = 1; i < n; i++) {                                                                                  \
      word v = a[i];                                                                                                   \
      int64_t j = i;                                                                                                   \
      for (; j > 0 && word##_key(v) < word##_key(a[j - 1]); j--) a[j] = a[j - 1];                                      \
      a[j] = v;                                                                                                        \
    }                                                                                                                  \
  }                                                                                                                    \
  static void word##_merge_pair(const word *a, int64_t n, const word *b, int64_t m, word *to) {                        \
    while (n && m) {                                                                                                   \
      bool second = word##_key(*b) < word##_key(*a);                                                                   \
      *to++ = second ? *b : *a;                                                                                        \
      b += second, m -= second, a += !second, n -= !second;                                                            \
    }                                                                                                                  \
    memcpy(to, n ? a : b, (size_t)(n + m) * sizeof *to);                                                               \
  }                                                                                                                    \
  static word *word##_merge(word *a, word *b, int64_t n) {                                                             \
    for (int64_t i = 0; i < n; i += SHORT_RUN) word##_insert(a + i, n - i < SHORT_RUN ? n - i : SHORT_RUN);            \
    for (int64_t run = SHORT_RUN; run < n; run *= 2) {                                                                 \
      for (int64_t i = 0; i < n; i += 2 * run) {                                                                       \
        int64_t first = n - i < run ? n - i : run, second = n - i - first < run ? n - i - first : run;                 \
        word##_merge_pair(a + i, first, a + i + first, second, b + i);                                                 \
      }                                                                                                                \
      word *t = a;                                                                                                     \
      a = b, b = t;                                                                                                    \
    }                                                                                                                  \
    return a;                                                                                                          \
  }                                                                                                                    \
  /* count: room for a table of BUCKETS a pass; a digit that all keys share is passed over */                          \
  static word *word##_radix(word *a, word *b, int64_t n, int bits, int64_t(*count)[BUCKETS]) {                         \
    int passes = (bits + DIGIT - 1) / DIGIT;                                                                           \
    memset(count, 0, (size_t)passes * sizeof *count);                                                                  \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
      uint64_t key = word##_key(a[i]);                                                                                 \
      for (int p = 0; p < passes; p++, key >>= DIGIT) count[p][key & (BUCKETS - 1)]++;                                 \
    }                                                                                                                  \
    for (int p = 0; p < passes; p++) {                                                                                 \
      int64_t sum = 0, *at = count[p];                                                                                 \
      int shift = p * DIGIT;                                                                                           \
      if (at[word##_key(a[0]) >> shift & (BUCKETS - 1)] == n) continue;                                                \
      for (int i = 0; i < BUCKETS; i++) {                                                                              \
        int64_t here = at[i];                                                                                          \
        at[i] = sum;                                                                                                   \
        sum += here;                                                                                                   \
      }                                                                                                                \
      for (int64_t i = 0; i < n; i++) b[at[word##_key(a[i]) >> shift & (BUCKETS - 1)]++] = a[i];                       \
      word *t = a;                                                                                                     \
      a = b, b = t;                                                                                                    \
    }                                                                                                                  \
    return a;                                                                                                          \
  }
SORT_WORDS(packed)
SORT_WORDS(wide)

/* -- lanes -------------------------------------------------------------------------------------------------------- */

typedef struct sort_work {
  const mx_kernel_args *k;
  int axis;
  int64_t n, lanes, out_strides[MX_MAX_OUT][MX_MAX_NDIM];
  bool packed;
  char *room;       /* of all chunks */
  size_t lane_room; /* bytes a chunk: two lists of words, then the counts */
  int chunks;
} sort_work;

/* Where lane number `lane` begins. */
static int64_t lane_offset(const sort_work *w, const int64_t *strides, int64_t lane) {
  const mx_aval *a = w->k->out[0].aval;
  int64_t offset = 0;
  for (int d = a->ndim - 1; d >= 0; d--) {
    if (d == w->axis) continue;
    offset += lane % a->shape[d] * strides[d];
    lane /= a->shape[d];
  }
  return offset;
}

/* One lane: for every key from the last to the first fill and sort, then move all operands. */
#define SORT_LANE(word)                                                                                                \
  static void word##_lane(const sort_work *w, int64_t lane, char *room) {                                              \
    const mx_kernel_args *k = w->k;                                                                                    \
    word *a = (word *)room, *b = a + w->n;                                                                             \
    int64_t(*count)[BUCKETS] = (int64_t(*)[BUCKETS])(b + w->n);                                                        \
    for (int64_t i = 0; i < w->n; i++) a[i] = word##_make(0, i);                                                       \
    for (int i = (int)k->p->sort.keys - 1; i >= 0; i--) {                                                              \
      const mx_tensor *x = &k->in[i];                                                                                  \
      int bits = (int)mx_itemsize(x->aval->dtype) * 8;                                                                 \
      word##_fill(a, w->n, x->aval->dtype, x->data + lane_offset(w, x->strides, lane), x->strides[w->axis]);           \
      word *sorted = w->n < RADIX_FROM ? word##_merge(a, b, w->n) : word##_radix(a, b, w->n, bits, count);             \
      if (sorted == b) b = a, a = sorted;                                                                              \
    }                                                                                                                  \
    for (int i = 0; i < k->n_in; i++) {                                                                                \
      const mx_tensor *x = &k->in[i];                                                                                  \
      word##_follow(a, w->n, mx_itemsize(x->aval->dtype), x->data + lane_offset(w, x->strides, lane),                  \
                    x->strides[w->axis], k->out[i].data + lane_offset(w, w->out_strides[i], lane),                     \
                    w->out_strides[i][w->axis]);                                                                       \
    }                                                                                                                  \
  }
SORT_LANE(packed)
SORT_LANE(wide)

static void sort_chunk(void *arg, int chunk) {
  const sort_work *w = arg;
  char *room = w->room + (size_t)chunk * w->lane_room;
  for (int64_t lane = w->lanes * chunk / w->chunks; lane < w->lanes * (chunk + 1) / w->chunks; lane++)
    (w->packed ? packed_lane : wide_lane)(w, lane, room);
}

static bool sort(mx_ctx *c, const mx_kernel_args *k) {
  const mx_aval *a = k->out[0].aval;
  if (a->size == 0) return true;
  sort_work w = {.k = k, .axis = (int)k->p->sort.axis, .packed = true};
  w.n = a->shape[w.axis];
  w.lanes = a->size / w.n;
  for (int i = 0; i < k->n_in; i++) mx_strides_contiguous(k->out[i].aval, w.out_strides[i]);
  for (int i = 0; i < k->p->sort.keys; i++) w.packed &= mx_itemsize(k->in[i].aval->dtype) <= 4;
  w.packed &= w.n <= UINT32_MAX;
  w.chunks = w.lanes == 1 ? 1 : mx_chunks(c->engine, w.lanes, 20.0 * (double)w.n * k->p->sort.keys);
  if (w.chunks > w.lanes) w.chunks = (int)w.lanes;
  w.lane_room = (size_t)w.n * 2 * (w.packed ? sizeof(packed) : sizeof(wide));
  if (w.n >= RADIX_FROM) w.lane_room += MAX_PASSES * sizeof(int64_t[BUCKETS]);
  size_t bytes;
  if (!mx_mul_size(w.lane_room, (size_t)w.chunks, &bytes)) return mx_fail_memory(c, SIZE_MAX);
  if (!(w.room = mx_scratch(c, bytes))) return false;
  mx_parallel(c->engine, w.chunks, sort_chunk, &w);
  mx_scratch_free(c, w.room, bytes);
  return true;
}

/* -- binary search ------------------------------------------------------------------------------------------------ */

/* How many of n sorted elements lie before v: those less, or where `right` those not greater. */
#define SEARCH_CASE(NAME, name)                                                                                        \
  case MLAX_##NAME: {                                                                                                  \
    uint64_t v = key_##name(value);                                                                                    \
    while (n > 0) {                                                                                                    \
      int64_t half = n / 2;                                                                                            \
      uint64_t here = key_##name(sorted + (low + half) * stride);                                                      \
      bool before = right ? here <= v : here < v;                                                                      \
      low = before ? low + half + 1 : low;                                                                             \
      n = before ? n - half - 1 : half;                                                                                \
    }                                                                                                                  \
    return low;                                                                                                        \
  }
static int64_t search(int dtype, const char *sorted, int64_t stride, int64_t n, const char *value, bool right) {
  int64_t low = 0;
  switch (dtype) { KEY_TYPES(SEARCH_CASE) }
  return low;
}

typedef struct search_work {
  const mx_kernel_args *k;
  int chunks;
} search_work;

static void search_chunk(void *arg, int chunk) {
  const search_work *w = arg;
  const mx_tensor *sorted = &w->k->in[0], *v = &w->k->in[1];
  int last = v->aval->ndim - 1, dtype = v->aval->dtype;
  int64_t m = v->aval->shape[last], n = sorted->aval->shape[last];
  int32_t *out = (int32_t *)w->k->out[0].data;
  for (int64_t i = v->aval->size * chunk / w->chunks; i < v->aval->size * (chunk + 1) / w->chunks; i++) {
    int64_t in_sorted = 0, in_v = i % m * v->strides[last];
    for (int64_t d = last - 1, lane = i / m; d >= 0; lane /= v->aval->shape[d--]) {
      in_sorted += lane % v->aval->shape[d] * sorted->strides[d];
      in_v += lane % v->aval->shape[d] * v->strides[d];
    }
    out[i] = (int32_t)search(dtype, sorted->data + in_sorted, sorted->strides[last], n, v->data + in_v,
                             w->k->p->search.right);
  }
}

static bool searchsorted(mx_ctx *c, const mx_kernel_args *k) {
  search_work w = {k, mx_chunks(c->engine, k->out[0].aval->size, 50)};
  mx_parallel(c->engine, w.chunks, search_chunk, &w);
  return true;
}

bool mx_cpu_sort(mx_ctx *c, const mx_kernel_args *k) {
  return k->prim->id == MX_PRIM_sort ? sort(c, k) : searchsorted(c, k);
}
