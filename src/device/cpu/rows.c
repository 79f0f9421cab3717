/* rows.c: running code with rows: blocks are whole rows, dealt out to threads. */
#include "machine.h"
#include "reduce_impl.h"

enum {
  BLOCK = 2048 /* elements, if a row is not longer */
};

typedef enum { IN_ROW, KEPT, GATHERED } layout;

typedef struct operand {
  layout layout;
  char *block;
  mx_walk walk;
} operand;

typedef struct job {
  const mx_code *code;
  const mx_tensor *in, *out;
  int64_t rows, step; /* of all; of a block */
  int64_t full, row;  /* elements that a block's place has: for values of elements, of rows */
  size_t bytes;       /* of scratch for a thread */
  char *scratch;
  int chunks;
} job;

static int64_t round_up(int64_t n) { return (n + MX_UNIT - 1) / MX_UNIT * MX_UNIT; }

static int64_t width_of(const mx_code *code, int v) { return code->row[v] ? 1 : code->cols; }

/* Whether each row of the operand is the same: its block is gathered once. */
static bool repeats(const mx_tensor *t, const mx_aval *shape, int64_t width) {
  int64_t strides[MX_MAX_NDIM], inner = 1;
  mx_strides_broadcast(t->aval, t->strides, shape, strides);
  for (int i = shape->ndim - 1; i >= 0; inner *= shape->shape[i--])
    if (inner >= width && shape->shape[i] > 1 && strides[i] != 0) return false;
  return true;
}

static void start_operand(const job *j, operand *o, int k, int64_t lo, int64_t rows) {
  const mx_tensor *t = &j->in[k];
  const mx_aval *shape = j->code->shape[k];
  int64_t width = width_of(j->code, k);
  o->layout = t->contiguous && t->aval->size == shape->size ? IN_ROW : repeats(t, shape, width) ? KEPT : GATHERED;
  if (o->layout == IN_ROW) return;
  mx_walk_start(&o->walk, t, shape, lo * width);
  if (o->layout == KEPT) mx_walk_gather(&o->walk, rows * width, o->block);
}

static const void *next_block(const job *j, operand *o, int k, int64_t lo, int64_t rows) {
  int64_t width = width_of(j->code, k);
  if (o->layout == IN_ROW) return j->in[k].data + lo * width * j->code->size[k];
  if (o->layout == GATHERED) mx_walk_gather(&o->walk, rows * width, o->block);
  return o->block;
}

#define SPREAD(T)                                                                                                      \
  for (int64_t i = 0; i < rows; i++) {                                                                                 \
    T v = ((const T *)from)[i], *r = (T *)to + i * cols;                                                               \
    for (int64_t k = 0; k < cols; k++) r[k] = v;                                                                       \
  }
static void spread(int size, int64_t rows, int64_t cols, const void *from, void *to) {
  switch (size) {
  case 1: SPREAD(uint8_t) break;
  case 2: SPREAD(uint16_t) break;
  case 4: SPREAD(uint32_t) break;
  default: SPREAD(uint64_t) break;
  }
}

static mx_fold_op op_of(int prim) {
  return prim == MX_PRIM_reduce_sum    ? MX_FOLD_SUM
         : prim == MX_PRIM_reduce_prod ? MX_FOLD_PROD
         : prim == MX_PRIM_reduce_max  ? MX_FOLD_MAX
                                       : MX_FOLD_MIN;
}

static void fold_rows(const mx_instruction *i, int dtype, int64_t rows, int64_t cols, const char *x, char *y) {
  size_t size = mx_itemsize(dtype);
  char identity[8];
  mx_reduce_identity(op_of(i->prim), dtype, identity);
  for (int64_t r = 0; r < rows; r++) {
    memcpy(y + r * (int64_t)size, identity, size);
    i->fold(y + r * (int64_t)size, x + r * cols * (int64_t)size, cols);
  }
}

static void run_block(const mx_code *code, int64_t rows, const void **value) {
  for (const mx_instruction *i = code->ins, *end = i + code->n_ins; i < end; i++) {
    const void *p[3] = {value[i->in[0]], value[i->in[1]], value[i->in[2]]};
    void *to = (void *)value[i->out];
    if (i->kind == MX_DO_LOOP) i->loop(rows * width_of(code, i->out), p, to);
    else if (i->kind == MX_DO_SPREAD) spread(code->size[i->out], rows, code->cols, p[0], to);
    else fold_rows(i, i->dtype, rows, code->cols, p[0], to);
  }
}

static void run_range(const job *j, char *scratch, int64_t lo, int64_t hi) {
  const mx_code *code = j->code;
  const void *value[MX_MAX_VALUES];
  operand operands[MX_MAX_OPERANDS];
  for (int v = 0; v < code->n_value; v++)
    value[v] = scratch + (code->row[v] ? code->units * j->full + code->at[v] * j->row : code->at[v] * j->full);
  for (int k = 0; k < code->n_in; k++) {
    operands[k].block = (char *)value[k];
    start_operand(j, &operands[k], k, lo, hi - lo < j->step ? hi - lo : j->step);
  }
  for (; lo < hi; lo += j->step) {
    int64_t rows = hi - lo < j->step ? hi - lo : j->step;
    for (int k = 0; k < code->n_in; k++) value[k] = next_block(j, &operands[k], k, lo, rows);
    for (int k = 0; k < code->n_out; k++) {
      int v = code->out[k];
      value[v] = j->out[k].data + lo * width_of(code, v) * code->size[v];
    }
    run_block(code, rows, value);
  }
}

static void run_chunk(void *arg, int i) {
  const job *j = arg;
  run_range(j, j->scratch + (size_t)i * j->bytes, j->rows * i / j->chunks, j->rows * (i + 1) / j->chunks);
}

bool mx_cpu_run_rows(mx_ctx *c, const mx_code *code, const mx_tensor *in, const mx_tensor *out) {
  job j = {.code = code, .in = in, .out = out};
  j.rows = out->aval->size / width_of(code, code->out[0]);
  j.step = code->cols >= BLOCK ? 1 : BLOCK / code->cols;
  if (j.step > j.rows) j.step = j.rows;
  j.full = round_up(j.step * code->cols);
  j.row = round_up(j.step);
  j.bytes = (size_t)(code->units * j.full + code->row_units * j.row);
  j.chunks = mx_chunks(c->engine, j.rows, code->ns * (double)code->cols);
  if (j.chunks < 1) j.chunks = 1;
  _Alignas(64) char few[MX_SCRATCH];
  size_t all = j.bytes * (size_t)j.chunks;
  j.scratch = all <= sizeof few ? few : mx_scratch(c, all);
  if (!j.scratch) return false;
  if (j.chunks == 1) run_chunk(&j, 0);
  else mx_parallel(c->engine, j.chunks, run_chunk, &j);
  if (j.scratch != few) mx_scratch_free(c, j.scratch, all);
  return mx_poll(c);
}
