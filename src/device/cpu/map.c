/* map.c: the driver of the elementwise and convert kernels. */
#include "map.h"

enum {
  BLOCK = 512,        /* elements */
  PART = 50000000,    /* nanoseconds on one thread */
  LONG_RUN = 64,      /* from here on a run is used where it lies, and the block ends with it */
  UNIT = 64,          /* chunks for threads begin at multiples */
  TURN_SIZE = 1 << 14 /* a transposed operand of so many elements is copied as a whole first, by tiles */
};

typedef enum { IN_ROW, ONE_VALUE, SCATTERED } layout;

static layout layout_of(const mx_tensor *t, const mx_aval *shape) {
  if (t->aval->size == 1) return ONE_VALUE;
  return t->contiguous && t->aval->size == shape->size ? IN_ROW : SCATTERED;
}

/* One operand on its way through the blocks of a chunk. */
typedef struct operand {
  layout layout;
  mx_loop load;
  size_t size;      /* bytes of an element as it lies */
  const char *next; /* IN_ROW: the next element */
  mx_walk walk;     /* SCATTERED */
  void *block;      /* BLOCK elements as the loop wants them */
} operand;

/* n elements through `load`, by way of a block of halves */
static const void *load_gathered(operand *o, int64_t n, const void *raw) {
  o->load(n, &raw, o->block);
  return o->block;
}

/* ONE_VALUE: fills the block, once. */
static void fill(operand *o, int64_t n, const char *value) {
  uint16_t raw[BLOCK];
  mx_gather_run(o->size, n, value, 0, o->load ? raw : o->block);
  if (o->load) load_gathered(o, n, raw);
}

static void operand_start(operand *o, const mx_tensor *t, const mx_aval *shape, mx_loop load, int64_t lo, int64_t hi) {
  o->layout = layout_of(t, shape);
  o->load = load;
  o->size = mx_itemsize(t->aval->dtype);
  o->next = t->data;
  if (o->layout == IN_ROW) o->next += lo * (int64_t)o->size;
  else if (o->layout == SCATTERED) mx_walk_start(&o->walk, t, shape, lo);
  else fill(o, hi - lo < BLOCK ? hi - lo : BLOCK, t->data);
}

/* Whether a scattered operand gives its next run as it lies. */
static bool has_long_run(const operand *o) {
  return !o->load && mx_walk_stride(&o->walk) == (int64_t)o->size && mx_walk_run(&o->walk) >= LONG_RUN;
}

/* How many elements the next block may have, if it has at most n. */
static int64_t operand_limit(const operand *o, int64_t n) {
  if (o->layout == IN_ROW && !o->load) return n;
  if (o->layout == SCATTERED && has_long_run(o)) return mx_walk_run(&o->walk) < n ? mx_walk_run(&o->walk) : n;
  return n < BLOCK ? n : BLOCK;
}

/* The next n elements as the loop wants them. */
static const void *operand_next(operand *o, int64_t n) {
  const void *p = o->next;
  if (o->layout == ONE_VALUE) return o->block;
  if (o->layout == IN_ROW) {
    o->next += n * (int64_t)o->size;
    return o->load ? load_gathered(o, n, p) : p;
  }
  if (has_long_run(o) && n <= mx_walk_run(&o->walk)) {
    p = mx_walk_here(&o->walk);
    mx_walk_skip(&o->walk, n);
    return p;
  }
  uint16_t raw[BLOCK];
  mx_walk_gather(&o->walk, n, o->load ? raw : o->block);
  return o->load ? load_gathered(o, n, raw) : o->block;
}

typedef struct job {
  const mx_map *map;
  const mx_tensor *in, *out;
  int64_t lo, hi; /* the part of the result that is computed now */
  int chunks;
} job;

/* Elements lo .. hi-1 of the result. */
static void map_range(const job *j, int64_t lo, int64_t hi) {
  _Alignas(64) char blocks[MX_MAP_OPERANDS][BLOCK * 8], result[BLOCK * 4];
  const mx_map *m = j->map;
  operand operands[MX_MAP_OPERANDS];
  size_t size = mx_itemsize(j->out->aval->dtype);
  for (int k = 0; k < m->n_in; k++) {
    operands[k].block = blocks[k];
    operand_start(&operands[k], &j->in[k], j->out->aval, m->load[k], lo, hi);
  }
  while (lo < hi) {
    const void *p[MX_MAP_OPERANDS], *narrow = result;
    int64_t n = m->store && hi - lo > BLOCK ? BLOCK : hi - lo;
    for (int k = 0; k < m->n_in; k++) n = operand_limit(&operands[k], n);
    for (int k = 0; k < m->n_in; k++) p[k] = operand_next(&operands[k], n);
    char *to = j->out->data + lo * (int64_t)size;
    m->loop(n, p, m->store ? result : to);
    if (m->store) m->store(n, &narrow, to);
    lo += n;
  }
}

static void map_chunk(void *arg, int i) {
  const job *j = arg;
  int64_t units = (j->hi - j->lo + UNIT - 1) / UNIT;
  int64_t lo = j->lo + units * i / j->chunks * UNIT, hi = j->lo + units * (i + 1) / j->chunks * UNIT;
  map_range(j, lo, hi < j->hi ? hi : j->hi);
}

/* A large operand whose rows are scattered in memory: reading it in the result's order would waste most of each cache
 * line. */
static bool is_transposed(const mx_tensor *t, const mx_aval *shape) {
  if (t->aval->size < TURN_SIZE || layout_of(t, shape) != SCATTERED) return false;
  mx_walk w;
  mx_walk_start(&w, t, t->aval, 0);
  return w.ndim > 1 && mx_walk_stride(&w) != 0 && mx_walk_stride(&w) != (int64_t)w.size;
}

/* In parts of about PART nanoseconds, between which an interrupt is heard. */
static bool map_all(mx_ctx *c, job *j) {
  int64_t n = j->out->aval->size, part = (int64_t)(PART / j->map->ns) / UNIT * UNIT;
  for (; j->lo < n; j->lo = j->hi) {
    if (j->lo > 0 && !mx_poll(c)) return false;
    j->hi = n - j->lo < part ? n : j->lo + part;
    j->chunks = j->hi - j->lo < BLOCK ? 1 : mx_chunks(c->engine, j->hi - j->lo, j->map->ns);
    if (j->chunks <= 1) map_range(j, j->lo, j->hi);
    else mx_parallel(c->engine, j->chunks, map_chunk, j);
  }
  return true;
}

/* The same with transposed operands brought into a row first. */
static bool map_turned(mx_ctx *c, const mx_map *m, const mx_tensor *in, const mx_tensor *out) {
  mx_tensor turned[MX_MAP_OPERANDS];
  int64_t strides[MX_MAP_OPERANDS][MX_MAX_NDIM];
  size_t bytes[MX_MAP_OPERANDS] = {0};
  bool ok = true;
  for (int k = 0; k < m->n_in; k++) {
    turned[k] = in[k];
    if (!ok || !is_transposed(&in[k], out->aval)) continue;
    char *data = mx_cpu_contiguous(c, &in[k], &bytes[k]);
    mx_strides_contiguous(in[k].aval, strides[k]);
    turned[k] = (mx_tensor){data, in[k].aval, strides[k], true};
    ok = data != NULL;
  }
  ok = ok && map_all(c, &(job){.map = m, .in = turned, .out = out});
  for (int k = 0; k < m->n_in; k++)
    if (bytes[k]) mx_scratch_free(c, turned[k].data, bytes[k]);
  return ok;
}

bool mx_cpu_map(mx_ctx *c, const mx_map *m, const mx_tensor *in, const mx_tensor *out) {
  if (out->aval->size == 0) return true;
  for (int k = 0; k < m->n_in; k++)
    if (is_transposed(&in[k], out->aval)) return map_turned(c, m, in, out);
  return map_all(c, &(job){.map = m, .in = in, .out = out});
}
