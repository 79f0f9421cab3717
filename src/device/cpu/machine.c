/* machine.c: running code: operands on their way through blocks, chunks for threads. */
#include "machine.h"

enum {
  BLOCK = 1024,        /* elements at most */
  PART = 50000000,     /* nanoseconds on one thread */
  LONG_RUN = 64,       /* from here on a run is used where it lies, and the block ends with it */
  SERIAL = 512,        /* elements that one thread does whatever they cost */
  TURN_SIZE = 1 << 14, /* a transposed operand of so many elements is copied as a whole first, by tiles */
  FEW = 32             /* operands whose state lies on the stack */
};

typedef enum { IN_ROW, ONE_VALUE, REPEATED, SCATTERED } layout;

static layout layout_of(const mx_tensor *t, int64_t size) {
  if (t->contiguous && t->aval->size == size) return IN_ROW;
  return t->aval->size == 1 ? ONE_VALUE : SCATTERED;
}

/* The elements after which a scattered operand begins anew: behind its outermost axis that moves. */
static int64_t period_of(const mx_tensor *t, const mx_aval *shape) {
  int64_t strides[MX_MAX_NDIM], period = shape->size;
  mx_strides_broadcast(t->aval, t->strides, shape, strides);
  for (int i = 0; i < shape->ndim && (strides[i] == 0 || shape->shape[i] == 1); i++) period /= shape->shape[i];
  return period;
}

/* One operand on its way through the blocks of a chunk. */
typedef struct operand {
  layout layout;
  size_t size;      /* bytes of an element */
  const char *next; /* IN_ROW: the next element */
  void *block;
  int64_t period, phase, filled; /* REPEATED: elements; the next one's place in it; those of the block, all kept */
  mx_walk walk;                  /* SCATTERED */
} operand;

/* Some periods fill the block, which is then used from any phase on. */
static void operand_repeat(operand *o, const mx_tensor *t, const mx_aval *shape, int64_t lo, int64_t block) {
  o->layout = REPEATED;
  o->phase = lo % o->period;
  o->filled = shape->size < block ? shape->size : block;
  mx_walk_start(&o->walk, t, shape, 0);
  mx_walk_gather(&o->walk, o->filled, o->block);
}

static void operand_start(operand *o, const mx_tensor *t, const mx_aval *shape, int64_t lo, int64_t n, int64_t block) {
  o->layout = layout_of(t, shape->size);
  o->size = mx_itemsize(t->aval->dtype);
  o->next = t->data;
  if (o->layout == SCATTERED) o->period = period_of(t, shape);
  if (o->layout == IN_ROW) o->next += lo * (int64_t)o->size;
  else if (o->layout == SCATTERED && o->period <= block / 2) operand_repeat(o, t, shape, lo, block);
  else if (o->layout == SCATTERED) mx_walk_start(&o->walk, t, shape, lo);
  else mx_gather_run(o->size, n, t->data, 0, o->block);
}

/* Whether a scattered operand gives its next run as it lies. */
static bool has_long_run(const operand *o) {
  return mx_walk_stride(&o->walk) == (int64_t)o->size && mx_walk_run(&o->walk) >= LONG_RUN;
}

/* How many elements the next block may have, if it has at most n. */
static int64_t operand_limit(const operand *o, int64_t n) {
  if (o->layout == REPEATED) {
    int64_t left = o->filled - o->phase;
    return n <= left ? n : left < MX_UNIT ? left : left / MX_UNIT * MX_UNIT;
  }
  if (o->layout != SCATTERED || !has_long_run(o)) return n;
  return mx_walk_run(&o->walk) < n ? mx_walk_run(&o->walk) : n;
}

/* The next n elements in a row. */
static const void *operand_next(operand *o, int64_t n) {
  const void *p = o->next;
  if (o->layout == ONE_VALUE) return o->block;
  if (o->layout == REPEATED) {
    p = (const char *)o->block + o->phase * (int64_t)o->size;
    o->phase = (o->phase + n) % o->period;
    return p;
  }
  if (o->layout == IN_ROW) {
    o->next += n * (int64_t)o->size;
    return p;
  }
  if (has_long_run(o) && n <= mx_walk_run(&o->walk)) {
    p = mx_walk_here(&o->walk);
    mx_walk_skip(&o->walk, n);
    return p;
  }
  mx_walk_gather(&o->walk, n, o->block);
  return o->block;
}

typedef mx_code_run job;

static const mx_aval *shape_of(const job *j, int k) { return j->code->shape ? j->code->shape[k] : j->out->aval; }

static void run_block(const mx_code *code, int64_t n, const void **value) {
  for (const mx_instruction *i = code->ins, *end = i + code->n_ins; i < end; i++) {
    const void *p[3] = {value[i->in[0]], value[i->in[1]], value[i->in[2]]};
    i->loop(n, p, (void *)value[i->out]);
  }
}

static bool is_spread(const operand *operands, const mx_code *code, int v) {
  return v < code->n_in && operands[v].layout == ONE_VALUE;
}

/* The whole chunks among n elements, by stages; how many elements those are. */
static int64_t run_stages(const mx_code *code, int64_t n, const void *const *value, const operand *operands) {
  const mx_stages *set = MX_SIMD_PICK(mx_stages);
  _Alignas(64) char spills[MX_MAX_SPILLS * 64 * 4];
  mx_stage stages[MX_MAX_STAGES];
  int64_t whole = n / set->lanes * set->lanes;
  if (whole == 0) return 0;
  for (int i = 0; i < code->n_stages; i++) {
    const mx_stage_form *f = &code->stages[i];
    stages[i].run = f->same && is_spread(operands, code, f->m[0]) ? f->same : f->run;
    for (int k = 0; k < 2; k++) {
      bool spilled = f->m[k] < 0;
      stages[i].m[k] = spilled ? spills + (-f->m[k] - 1) * set->lanes * 4 : value[f->m[k]];
      stages[i].mask[k] = spilled || is_spread(operands, code, f->m[k]) ? 0 : SIZE_MAX;
    }
  }
  set->run(stages, 0, whole);
  return whole;
}

/* Moves the values that lie in a row on by n elements. */
static void advance(const mx_code *code, int64_t n, const void **value, const operand *operands) {
  for (int v = 0; v < code->n_in; v++)
    if (operands[v].layout != ONE_VALUE) value[v] = (const char *)value[v] + n * code->size[v];
  for (int k = 0; k < code->n_out; k++) {
    int v = code->out[k];
    value[v] = (const char *)value[v] + n * code->size[v];
  }
}

/* Elements lo .. hi-1 of the results. */
static void run_range(const job *j, operand *operands, int64_t lo, int64_t hi) {
  _Alignas(64) char scratch[MX_SCRATCH];
  const void *value[MX_MAX_VALUES];
  const mx_code *code = j->code;
  int64_t most = code->stages ? hi - lo : j->block;
  for (int v = 0; v < code->n_value; v++) value[v] = scratch + code->at[v] * j->block;
  for (int k = 0; k < code->n_in; k++) {
    operands[k].block = (void *)value[k];
    operand_start(&operands[k], &j->in[k], shape_of(j, k), lo, hi - lo < j->block ? hi - lo : j->block, j->block);
    if (operands[k].layout >= REPEATED) most = j->block;
  }
  while (lo < hi) {
    int64_t n = hi - lo < most ? hi - lo : most, done = 0;
    for (int k = 0; k < code->n_in; k++) n = operand_limit(&operands[k], n);
    for (int k = 0; k < code->n_in; k++) value[k] = operand_next(&operands[k], n);
    for (int k = 0; k < code->n_out; k++) value[code->out[k]] = j->out[k].data + lo * code->size[code->out[k]];
    if (code->stages && (done = run_stages(code, n, value, operands)) > 0) advance(code, done, value, operands);
    if (n > done) run_block(code, n - done, value);
    lo += n;
  }
}

static void run_few(const job *j, int64_t lo, int64_t hi) {
  operand operands[FEW];
  run_range(j, operands, lo, hi);
}

static void run_many(const job *j, int64_t lo, int64_t hi) {
  operand operands[MX_MAX_OPERANDS];
  run_range(j, operands, lo, hi);
}

static void run_part(const job *j, int64_t lo, int64_t hi) { (j->code->n_in <= FEW ? run_few : run_many)(j, lo, hi); }

static void run_chunk(void *arg, int i) {
  const job *j = arg;
  int64_t units = (j->hi - j->lo + MX_UNIT - 1) / MX_UNIT;
  int64_t lo = j->lo + units * i / j->chunks * MX_UNIT, hi = j->lo + units * (i + 1) / j->chunks * MX_UNIT;
  run_part(j, lo, hi < j->hi ? hi : j->hi);
}

/* A large operand whose rows are scattered in memory: reading it in the result's order would waste most of each cache
 * line. */
static bool is_transposed(const mx_tensor *t, const mx_aval *shape) {
  if (t->aval->size < TURN_SIZE || layout_of(t, shape->size) != SCATTERED) return false;
  mx_walk w;
  mx_walk_start(&w, t, t->aval, 0);
  return w.ndim > 1 && mx_walk_stride(&w) != 0 && mx_walk_stride(&w) != (int64_t)w.size;
}

static int64_t block_of(const mx_code *code) {
  if (code->units == 0) return INT64_MAX / 256; /* nothing lies in scratch */
  int64_t n = MX_SCRATCH / code->units / MX_UNIT * MX_UNIT;
  return n < BLOCK ? n : BLOCK;
}

/* In parts of about PART nanoseconds, between which an interrupt is heard. */
static bool run_all(mx_ctx *c, job *j) {
  int64_t n = j->out->aval->size, part = ((int64_t)(PART / j->code->ns) / MX_UNIT + 1) * MX_UNIT;
  j->block = block_of(j->code);
  for (; j->lo < n; j->lo = j->hi) {
    if (j->lo > 0 && !mx_poll(c)) return false;
    j->hi = n - j->lo < part ? n : j->lo + part;
    j->chunks = j->hi - j->lo < SERIAL ? 1 : mx_chunks(c->engine, j->hi - j->lo, j->code->ns);
    if (j->chunks <= 1) run_chunk(j, (j->chunks = 1, 0));
    else mx_parallel(c->engine, j->chunks, run_chunk, j);
  }
  return true;
}

/* The same with transposed operands brought into a row first. */
static bool run_turned(mx_ctx *c, job *j) {
  typedef struct {
    mx_tensor t;
    int64_t strides[MX_MAX_NDIM];
    size_t bytes;
  } turned;
  const mx_code *code = j->code;
  mx_arena memory = {.engine = c->engine};
  turned *ts = mx_arena_alloc(c, &memory, (size_t)code->n_in * sizeof *ts);
  mx_tensor *in = mx_arena_alloc(c, &memory, (size_t)code->n_in * sizeof *in);
  bool ok = ts && in;
  for (int k = 0; ok && k < code->n_in; k++) {
    in[k] = j->in[k];
    if (!is_transposed(&in[k], shape_of(j, k))) continue;
    char *data = mx_cpu_contiguous(c, &in[k], &ts[k].bytes);
    mx_strides_contiguous(in[k].aval, ts[k].strides);
    in[k] = (mx_tensor){data, in[k].aval, ts[k].strides, true};
    ok = data != NULL;
  }
  const mx_tensor *as_they_lie = j->in;
  j->in = in;
  ok = ok && run_all(c, j);
  j->in = as_they_lie;
  for (int k = 0; ts && in && k < code->n_in; k++)
    if (ts[k].bytes) mx_scratch_free(c, in[k].data, ts[k].bytes);
  mx_arena_release(&memory);
  return ok;
}

static bool reads_transposed(const job *j) {
  for (int k = 0; k < j->code->n_in; k++)
    if (is_transposed(&j->in[k], shape_of(j, k))) return true;
  return false;
}

bool mx_cpu_run(mx_ctx *c, const mx_code *code, const mx_tensor *in, const mx_tensor *out) {
  job j = {.code = code, .in = in, .out = out};
  if (out->aval->size == 0) return true;
  if (code->cols) return mx_cpu_run_rows(c, code, in, out);
  return (reads_transposed(&j) ? run_turned : run_all)(c, &j);
}

/* -- behind a kernel ----------------------------------------------------------------------------------------------- */

static void run_after(void *arg, int64_t lo, int64_t hi) { run_part(arg, lo, hi); }

bool mx_code_after(const mx_code *code, const mx_tensor *in, const mx_tensor *out, mx_code_run *r, mx_after *after) {
  *r = (job){.code = code, .in = in, .out = out, .block = block_of(code)};
  *after = (mx_after){.run = run_after, .arg = r, .ns = code->ns};
  return code->cols == 0 && !reads_transposed(r);
}
