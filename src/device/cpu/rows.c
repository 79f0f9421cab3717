/* rows.c: running code with rows: blocks are whole rows, dealt out to threads. */
#include "machine.h"
#include "reduce_impl.h"

enum {
  BLOCK = 2048, /* elements, if a row is not longer */
  SLICE = 8,    /* rows that are worth a slice */
  SLICES = 64 /* of the rows, where they are joined: their sums are joined as a tree, for any number of threads alike */
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
  size_t bytes;       /* of scratch for a thread: blocks, then what joining or passes need */
  size_t blocks;      /* of its blocks */
  size_t acc_bytes;   /* of what one slice joins */
  char *scratch, *accs;
  int slices, chunks;
} job;

static int64_t round_up(int64_t n) { return (n + MX_UNIT - 1) / MX_UNIT * MX_UNIT; }

static int64_t width_of(const mx_code *code, int v) { return code->row[v] ? 1 : code->cols; }

/* Whether each row of the operand is the same: its block is gathered once. Rows may be no axes of the shape: one that
 * ends within an axis has to end between equal elements, behind whole runs of the axes inside. */
static bool repeats(const mx_tensor *t, const mx_aval *shape, int64_t width) {
  int64_t strides[MX_MAX_NDIM], inner = 1;
  mx_strides_broadcast(t->aval, t->strides, shape, strides);
  for (int i = shape->ndim - 1; i >= 0; inner *= shape->shape[i--]) {
    bool ends_inside = inner * shape->shape[i] > width;
    if (ends_inside && (strides[i] != 0 || (inner < width && width % inner))) return false;
  }
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

mx_fold_op mx_row_op(const mx_instruction *i) {
  return i->prim == MX_PRIM_reduce_sum    ? MX_FOLD_SUM
         : i->prim == MX_PRIM_reduce_prod ? MX_FOLD_PROD
         : i->prim == MX_PRIM_reduce_max  ? MX_FOLD_MAX
                                          : MX_FOLD_MIN;
}

static void fold_rows(const mx_instruction *i, int64_t rows, int64_t cols, const char *x, char *y) {
  size_t size = mx_itemsize(i->dtype);
  char identity[8];
  mx_reduce_identity(mx_row_op(i), i->dtype, identity);
  for (int64_t r = 0; r < rows; r++) {
    memcpy(y + r * (int64_t)size, identity, size);
    i->fold(y + r * (int64_t)size, x + r * cols * (int64_t)size, cols);
  }
}

/* -- joining rows -------------------------------------------------------------------------------------------------- */

bool mx_row_joins(const mx_instruction *i) { return i->kind == MX_DO_COLUMNS || i->kind == MX_DO_TOTAL; }

int64_t mx_row_width(const mx_code *code, const mx_instruction *i) { return i->kind == MX_DO_TOTAL ? 1 : code->cols; }

size_t mx_row_acc(const mx_code *code, const mx_instruction *i) {
  return (size_t)round_up(mx_row_width(code, i)) * mx_itemsize(i->dtype);
}

const mx_fold_loops *mx_row_loops(const mx_instruction *i) {
  return &MX_SIMD_PICK(mx_reduce_table)->fold[mx_row_op(i)][i->dtype];
}

static void fill_identity(const mx_instruction *i, int64_t n, char *to) {
  char identity[8];
  mx_reduce_identity(mx_row_op(i), i->dtype, identity);
  mx_gather_run(mx_itemsize(i->dtype), n, identity, 0, to);
}

static void start_accs(const mx_code *code, char *acc) {
  for (int k = 0; k < code->n_ins; k++) {
    if (!mx_row_joins(&code->ins[k])) continue;
    fill_identity(&code->ins[k], mx_row_width(code, &code->ins[k]), acc);
    acc += mx_row_acc(code, &code->ins[k]);
  }
}

/* A block's rows are joined first, then with the slice's: sums of many rows keep their digits. */
static void join_block(const mx_code *code, const mx_instruction *i, int64_t rows, const char *x, char *acc,
                       char *part) {
  int64_t stride = code->cols * (int64_t)mx_itemsize(i->dtype);
  if (i->kind == MX_DO_TOTAL) {
    i->fold(acc, x, rows * code->cols);
    return;
  }
  fill_identity(i, code->cols, part);
  mx_row_loops(i)->rows(part, x, stride, rows, code->cols);
  mx_row_loops(i)->rows(acc, part, stride, 1, code->cols);
}

/* acc of slice a takes in that of slice b. */
static void join_slices(const job *j, int a, int b) {
  const mx_code *code = j->code;
  char *to = j->accs + (size_t)a * j->acc_bytes, *from = j->accs + (size_t)b * j->acc_bytes;
  for (int k = 0; k < code->n_ins; k++) {
    const mx_instruction *i = &code->ins[k];
    if (!mx_row_joins(i)) continue;
    int64_t n = mx_row_width(code, i);
    mx_row_loops(i)->rows(to, from, n * (int64_t)mx_itemsize(i->dtype), 1, n);
    to += mx_row_acc(code, i);
    from += mx_row_acc(code, i);
  }
}

/* Several rows as one have several columns for each of the result. */
static void store_one(const mx_code *code, const mx_instruction *i, const char *acc, char *to) {
  int64_t width = mx_row_width(code, i), n = i->kind == MX_DO_TOTAL ? 1 : code->columns;
  size_t size = mx_itemsize(i->dtype);
  memcpy(to, acc, (size_t)n * size);
  if (width > n) mx_row_loops(i)->rows(to, acc + (size_t)n * size, n * (int64_t)size, width / n - 1, n);
}

static void store_joined(const job *j) {
  const mx_code *code = j->code;
  const char *acc = j->accs;
  for (int w = 1; w < j->slices; w *= 2)
    for (int s = 0; s + w < j->slices; s += 2 * w) join_slices(j, s, s + w);
  for (int k = 0; k < code->n_ins; k++) {
    const mx_instruction *i = &code->ins[k];
    if (!mx_row_joins(i)) continue;
    for (int r = 0; r < code->n_out; r++)
      if (code->out[r] == i->out) store_one(code, i, acc, j->out[r].data);
    acc += mx_row_acc(code, i);
  }
}

/* -- running ------------------------------------------------------------------------------------------------------- */

static void run_block(const mx_code *code, int64_t rows, const void **value, char *acc, char *part) {
  for (const mx_instruction *i = code->ins, *end = i + code->n_ins; i < end; i++) {
    const void *p[3] = {value[i->in[0]], value[i->in[1]], value[i->in[2]]};
    void *to = (void *)value[i->out];
    switch (i->kind) {
    case MX_DO_LOOP: i->loop(rows * width_of(code, i->out), p, to); break;
    case MX_DO_SPREAD: spread(code->size[i->out], rows, code->cols, p[0], to); break;
    case MX_DO_FOLD: fold_rows(i, rows, code->cols, p[0], to); break;
    default: join_block(code, i, rows, p[0], acc, part); acc += mx_row_acc(code, i);
    }
  }
}

static void run_range(const job *j, char *scratch, char *acc, int64_t lo, int64_t hi) {
  const mx_code *code = j->code;
  const void *value[MX_MAX_VALUES];
  operand operands[MX_MAX_OPERANDS];
  mx_row_work work;
  char *part = scratch + j->blocks;
  if (code->passes) mx_row_start(&work, code, j->step, hi - lo, part + j->acc_bytes, part, acc);
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
    if (code->passes) mx_row_run(&work, rows, value);
    else run_block(code, rows, value, acc, part);
  }
  if (code->passes) mx_row_finish(&work);
}

static void run_slice(const job *j, char *scratch, int s) {
  char *acc = j->accs + (size_t)s * j->acc_bytes;
  if (j->acc_bytes && !j->code->passes) start_accs(j->code, acc);
  run_range(j, scratch, acc, j->rows * s / j->slices, j->rows * (s + 1) / j->slices);
}

static void run_chunk(void *arg, int i) {
  const job *j = arg;
  for (int s = j->slices * i / j->chunks; s < j->slices * (i + 1) / j->chunks; s++)
    run_slice(j, j->scratch + (size_t)i * j->bytes, s);
}

/* Slices, threads and the memory they need. */
static void lay_out(mx_ctx *c, job *j) {
  const mx_code *code = j->code;
  j->step = code->cols >= BLOCK ? 1 : BLOCK / code->cols;
  if (j->step > j->rows) j->step = j->rows;
  j->full = round_up(j->step * code->cols);
  j->row = round_up(j->step);
  for (int k = 0; k < code->n_ins; k++)
    if (mx_row_joins(&code->ins[k])) j->acc_bytes += mx_row_acc(code, &code->ins[k]);
  j->blocks = (size_t)(code->units * j->full + code->row_units * j->row);
  j->bytes = j->blocks + (code->passes   ? j->acc_bytes + mx_row_lanes(code, j->step)
                          : j->acc_bytes ? (size_t)j->full * 8
                                         : 0);
  j->chunks = mx_chunks(c->engine, j->rows, code->ns * (double)code->cols);
  if (j->chunks < 1) j->chunks = 1;
  int64_t least = j->step > SLICE ? j->step : SLICE, slices = (j->rows + least - 1) / least;
  j->slices = !j->acc_bytes ? j->chunks : slices < SLICES ? (int)slices : SLICES;
  if (j->chunks > j->slices) j->chunks = j->slices;
}

bool mx_cpu_run_rows(mx_ctx *c, const mx_code *code, const mx_tensor *in, const mx_tensor *out) {
  job j = {.code = code, .in = in, .out = out, .rows = code->rows};
  lay_out(c, &j);
  _Alignas(64) char few[MX_SCRATCH];
  size_t of_threads = j.bytes * (size_t)j.chunks, all = of_threads + j.acc_bytes * (size_t)j.slices;
  j.scratch = all <= sizeof few ? few : mx_scratch(c, all);
  if (!j.scratch) return false;
  j.accs = j.scratch + of_threads;
  if (j.chunks == 1) run_chunk(&j, 0);
  else mx_parallel(c->engine, j.chunks, run_chunk, &j);
  if (j.acc_bytes) store_joined(&j);
  if (j.scratch != few) mx_scratch_free(c, j.scratch, all);
  return mx_poll(c);
}
