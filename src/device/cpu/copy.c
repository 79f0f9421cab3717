/* copy.c: strided to row-major, and scratch memory. */
#include "machine.h"

enum { TILE = 32 }; /* elements on a side */

void *mx_scratch(mx_ctx *c, size_t bytes) { return mx_buffer_alloc(c, bytes); }
void mx_scratch_free(mx_ctx *c, void *p, size_t bytes) {
  if (p) mx_buffer_free(c->engine, p, bytes);
}

void *mx_cpu_contiguous(mx_ctx *c, const mx_tensor *t, size_t *bytes) {
  *bytes = 0;
  if (t->contiguous) return t->data;
  size_t size = mx_nbytes(t->aval);
  void *p = mx_scratch(c, size ? size : 1);
  if (!p) return NULL;
  *bytes = size ? size : 1;
  mx_cpu_copy(c, t, p);
  return p;
}

/* A transposition: the result's rows run along the merged axis `across` of the source, whose own rows run along
 * `along`. */
typedef struct turn {
  mx_walk w; /* the merged axes; its position is not used */
  int along, across;
  int64_t step[MX_MAX_NDIM]; /* elements of the result between neighbours along each axis */
  char *to;
  int64_t items; /* strips of TILE positions of `along`, for all positions of the other axes */
  int chunks;
} turn;

static int64_t strips(const turn *t) { return (t->w.shape[t->along] + TILE - 1) / TILE; }

/* Four by four words: rows of the source become columns. */
typedef uint32_t words __attribute__((vector_size(16), aligned(4), may_alias));
static inline void turn_words(const char *from, int64_t from_column, uint32_t *to, int64_t to_row) {
  words a = *(const words *)from, b = *(const words *)(from + from_column);
  words c = *(const words *)(from + 2 * from_column), d = *(const words *)(from + 3 * from_column);
  words ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), AB = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  words cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  *(words *)to = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
  *(words *)(to + to_row) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  *(words *)(to + 2 * to_row) = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
  *(words *)(to + 3 * to_row) = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
}

/* Through a block of our own, so that each cache line of the source and of the result is touched once: lines that lie a
 * power of two apart would drive one another out of the cache. */
#define TURN_TILE(T)                                                                                                   \
  do {                                                                                                                 \
    T block[TILE][TILE + 4];                                                                                           \
    int64_t k = 0;                                                                                                     \
    for (; sizeof(T) == 4 && rows == TILE && k + 4 <= columns; k += 4)                                                 \
      for (int64_t i = 0; i < TILE; i += 4)                                                                            \
        turn_words(from + k * from_column + i * 4, from_column, (uint32_t *)&block[i][k], TILE + 4);                   \
    for (; k < columns; k++)                                                                                           \
      for (int64_t i = 0; i < rows; i++) block[i][k] = ((const T *)(from + k * from_column))[i];                       \
    for (int64_t i = 0; i < rows; i++) memcpy((T *)to + i * to_row, block[i], (size_t)columns * sizeof(T));            \
  } while (0)

/* rows x columns of the result; the source runs along the result's columns */
static void turn_tile(size_t size, int64_t rows, int64_t columns, const char *from, int64_t from_column, char *to,
                      int64_t to_row) {
  switch (size) {
  case 1: TURN_TILE(uint8_t); break;
  case 2: TURN_TILE(uint16_t); break;
  case 4: TURN_TILE(uint32_t); break;
  default: TURN_TILE(uint64_t); break;
  }
}

/* One strip: TILE positions of `along` for all of `across`. */
static void turn_strip(const turn *t, int64_t item) {
  const mx_walk *w = &t->w;
  int64_t first = item % strips(t) * TILE, rest = item / strips(t), rows = w->shape[t->along] - first;
  const char *from = w->row + first * w->stride[t->along];
  char *to = t->to + first * t->step[t->along] * (int64_t)w->size;
  for (int i = w->ndim - 1; i >= 0; i--) {
    if (i == t->along || i == t->across) continue;
    from += rest % w->shape[i] * w->stride[i];
    to += rest % w->shape[i] * t->step[i] * (int64_t)w->size;
    rest /= w->shape[i];
  }
  for (int64_t k = 0; k < w->shape[t->across]; k += TILE) {
    int64_t columns = w->shape[t->across] - k;
    turn_tile(w->size, rows < TILE ? rows : TILE, columns < TILE ? columns : TILE, from + k * w->stride[t->across],
              w->stride[t->across], to + k * (int64_t)w->size, t->step[t->along]);
  }
}

static void turn_chunk(void *arg, int i) {
  const turn *t = arg;
  int64_t hi = t->items * (i + 1) / t->chunks;
  for (int64_t item = t->items * i / t->chunks; item < hi; item++) turn_strip(t, item);
}

/* Whether w's innermost axis is not the one along which memory runs. */
static bool turn_of(turn *t) {
  const mx_walk *w = &t->w;
  int64_t step = 1;
  t->across = w->ndim - 1;
  t->along = -1;
  t->items = 1;
  for (int i = w->ndim - 1; i >= 0; i--) {
    t->step[i] = step;
    step *= w->shape[i];
    if (i != t->across && w->stride[i] == (int64_t)w->size) t->along = i;
  }
  if (t->along < 0 || w->shape[t->along] < 4 || w->shape[t->across] < 4 || mx_walk_stride(w) == 0) return false;
  for (int i = 0; i < w->ndim; i++)
    if (i != t->across) t->items *= i == t->along ? strips(t) : w->shape[i];
  return true;
}

typedef struct run_copy {
  const mx_tensor *from;
  char *to;
  int chunks;
} run_copy;

static void copy_chunk(void *arg, int i) {
  const run_copy *r = arg;
  const mx_aval *a = r->from->aval;
  int64_t lo = a->size / r->chunks * i, hi = i + 1 == r->chunks ? a->size : a->size / r->chunks * (i + 1);
  mx_walk w;
  mx_walk_start(&w, r->from, a, lo);
  mx_walk_gather(&w, hi - lo, r->to + lo * (int64_t)w.size);
}

void mx_cpu_copy(mx_ctx *c, const mx_tensor *from, char *to) {
  int64_t n = from->aval->size;
  if (n == 0) return;
  turn t;
  t.to = to;
  mx_walk_start(&t.w, from, from->aval, 0);
  if (turn_of(&t)) {
    t.chunks = mx_chunks(c->engine, n, 0.7);
    if (t.chunks > t.items) t.chunks = (int)t.items;
    mx_parallel(c->engine, t.chunks, turn_chunk, &t);
  } else {
    run_copy r = {from, to, mx_chunks(c->engine, n, t.w.ndim == 1 ? 0.1 * (double)t.w.size / 4 : 0.5)};
    mx_parallel(c->engine, r.chunks, copy_chunk, &r);
  }
}
