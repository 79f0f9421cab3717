/* coder.c: writing code for the machine: which loop computes what, through which dtypes, and where blocks lie. */
#include "machine.h"
#include "reduce_impl.h"

enum { WIDE = 2048 }; /* elements of rows that are several as one, at most */

/* Tenths of nanoseconds an element; what is not named takes 1 in its own width, or 100 where float64 calls libm. */
static const uint16_t tenths[MX_PRIM_COUNT] = {
    [MX_PRIM_asin] = 100,    [MX_PRIM_acos] = 100,     [MX_PRIM_atan] = 100,     [MX_PRIM_atan2] = 200,
    [MX_PRIM_erfc] = 150,    [MX_PRIM_lgamma] = 400,   [MX_PRIM_digamma] = 800,  [MX_PRIM_polygamma] = 5000,
    [MX_PRIM_erf_inv] = 100, [MX_PRIM_nextafter] = 40, [MX_PRIM_pow] = 20,       [MX_PRIM_mod] = 10,
    [MX_PRIM_exp] = 3,       [MX_PRIM_log] = 3,        [MX_PRIM_tanh] = 4,       [MX_PRIM_sigmoid] = 4,
    [MX_PRIM_sin] = 8,       [MX_PRIM_cos] = 8,        [MX_PRIM_logaddexp] = 20, [MX_PRIM_loggamma_grad] = 5000,
};

static double cost(int id, int dtype, bool math) {
  double width = (double)mx_itemsize(dtype) / 4, known = tenths[id];
  if (math && dtype == MLAX_FLOAT64 && known > 0) return 10;
  return 0.1 * (known > 0 ? known : math ? 5 : 1) * width;
}

static bool is_half(int dtype) { return dtype == MLAX_FLOAT16 || dtype == MLAX_BFLOAT16; }

void mx_coder_start(mx_coder *b, int64_t rows, int64_t cols) {
  b->code =
      (mx_code){.ins = b->ins, .size = b->size, .out = b->out, .at = b->at, .cols = cols, .rows = rows, .row = b->row};
  b->code.columns = cols;
  b->full = false;
}

void mx_coder_widen(mx_coder *b) {
  mx_code *code = &b->code;
  if (code->cols == 0 || (code->cols % MX_UNIT == 0 && code->cols >= 2 * MX_UNIT)) return;
  for (int64_t n = WIDE / code->cols; n > 1; n--)
    if (code->rows % n == 0 && code->cols * n % MX_UNIT == 0) {
      code->cols *= n;
      code->rows /= n;
      return;
    }
}

static int new_value(mx_coder *b, int dtype, bool row) {
  int v = b->code.n_value;
  if (v == MX_MAX_VALUES) {
    b->full = true;
    return 0;
  }
  b->code.n_value++;
  b->size[v] = (uint8_t)mx_itemsize(dtype);
  b->dtype[v] = (uint8_t)dtype;
  b->wide[v] = b->spread[v] = -1;
  b->direct[v] = false;
  b->row[v] = row;
  return v;
}

int mx_coder_operand(mx_coder *b, int dtype, bool direct, bool row) {
  int v = new_value(b, dtype, row);
  b->direct[v] = direct;
  b->code.n_in++;
  return v;
}

/* The value that the same loop made of the same values before, or -1. */
static int find_same(const mx_coder *b, mx_loop loop, const int *in, int n_in, int dtype) {
  for (int n = 0; loop && n < b->code.n_ins; n++) {
    const mx_instruction *i = &b->ins[n];
    bool same = i->kind == MX_DO_LOOP && i->loop == loop && i->n_in == n_in && i->dtype == dtype;
    for (int k = 0; same && k < n_in; k++) same = i->in[k] == in[k];
    if (same) return i->out;
  }
  return -1;
}

static int append(mx_coder *b, int prim, mx_loop loop, const int *in, int n_in, int dtype, double ns) {
  int same = find_same(b, loop, in, n_in, dtype);
  if (same >= 0) return same;
  int v = new_value(b, dtype, b->row[in[0]]);
  if (b->full) return v;
  mx_instruction *i = &b->ins[b->code.n_ins++];
  *i = (mx_instruction){
      .loop = loop, .out = (uint16_t)v, .prim = (uint16_t)prim, .n_in = (uint8_t)n_in, .dtype = (uint8_t)dtype};
  for (int k = 0; k < 3; k++) i->in[k] = (uint16_t)in[k < n_in ? k : 0];
  b->code.ns += ns;
  return v;
}

static int convert_directly(mx_coder *b, int v, int to) {
  int from = b->dtype[v];
  double ns = 0.1 * (double)(mx_itemsize(from) + mx_itemsize(to)) / 4;
  return append(b, MX_PRIM_convert, MX_SIMD_PICK(mx_convert_loops)->convert[from][to], &v, 1, to, ns);
}

/* A half as float32: converted once, however often it is used. */
static int widened(mx_coder *b, int v) {
  if (!is_half(b->dtype[v])) return v;
  if (b->wide[v] < 0) b->wide[v] = (int16_t)convert_directly(b, v, MLAX_FLOAT32);
  return b->wide[v];
}

/* A pair without a loop of its own passes through float32, which holds every value of the narrower side. */
static int convert(mx_coder *b, int v, int to) {
  int from = b->dtype[v];
  if (from == to) return v;
  if (MX_SIMD_PICK(mx_convert_loops)->convert[from][to]) return convert_directly(b, v, to);
  return convert_directly(b, is_half(from) ? widened(b, v) : convert_directly(b, v, MLAX_FLOAT32), to);
}

static int choose(mx_coder *b, const int *in, int dtype) {
  static const uint8_t width[] = {[1] = 0, [2] = 1, [4] = 2, [8] = 3};
  size_t size = mx_itemsize(dtype);
  return append(b, MX_PRIM_select, MX_SIMD_PICK(mx_convert_loops)->select[width[size]], in, 3, dtype,
                0.05 * (double)size);
}

static int elementwise(mx_coder *b, int id, const int *in, int n_in, int dtype) {
  int wide[3], of = b->dtype[in[0]], inside = is_half(of) ? MLAX_FLOAT32 : of;
  for (int k = 0; k < n_in; k++) wide[k] = widened(b, in[k]);
  mx_loop math = mx_is_float(inside) ? MX_SIMD_PICK(mx_math_loops)->loop[id][inside == MLAX_FLOAT64] : NULL;
  mx_loop loop = math ? math : MX_SIMD_PICK(mx_arithmetic_loops)->loop[id][inside];
  int v = append(b, id, loop, wide, n_in, is_half(dtype) ? MLAX_FLOAT32 : dtype, cost(id, inside, math != NULL));
  return is_half(dtype) ? convert_directly(b, v, dtype) : v;
}

int mx_coder_apply(mx_coder *b, const mx_primitive *prim, const int *in, int n_in, int dtype) {
  if (b->full) return 0;
  if (prim->id == MX_PRIM_convert) return convert(b, in[0], dtype);
  if (prim->id == MX_PRIM_select) return choose(b, in, dtype);
  return elementwise(b, prim->id, in, n_in, dtype);
}

static int fold_op(const mx_primitive *prim) {
  switch (prim->id) {
  case MX_PRIM_reduce_sum: return MX_FOLD_SUM;
  case MX_PRIM_reduce_prod: return MX_FOLD_PROD;
  case MX_PRIM_reduce_max: return MX_FOLD_MAX;
  case MX_PRIM_reduce_min: return MX_FOLD_MIN;
  default: return -1;
  }
}

bool mx_cpu_folds(const mx_primitive *prim, int dtype) {
  int op = fold_op(prim);
  return op >= 0 && !is_half(dtype) && MX_SIMD_PICK(mx_reduce_table)->fold[op][dtype].fold != NULL;
}

static int append_fold(mx_coder *b, const mx_primitive *prim, int x, int kind) {
  int v = append(b, prim->id, NULL, &x, 1, b->dtype[x], 0.1);
  if (b->full) return v;
  mx_instruction *i = &b->ins[b->code.n_ins - 1];
  i->kind = (uint8_t)kind;
  i->fold = MX_SIMD_PICK(mx_reduce_table)->fold[fold_op(prim)][b->dtype[x]].fold;
  b->row[v] = kind == MX_DO_FOLD;
  return v;
}

int mx_coder_fold(mx_coder *b, const mx_primitive *prim, int x) { return append_fold(b, prim, x, MX_DO_FOLD); }

int mx_coder_join_rows(mx_coder *b, const mx_primitive *prim, int x, bool total) {
  return append_fold(b, prim, x, total ? MX_DO_TOTAL : MX_DO_COLUMNS);
}

int mx_coder_spread(mx_coder *b, int x) {
  if (!b->row[x]) return x;
  if (b->spread[x] >= 0) return b->spread[x];
  int v = append(b, MX_PRIM_broadcast, NULL, &x, 1, b->dtype[x], 0.1);
  if (b->full) return v;
  b->ins[b->code.n_ins - 1].kind = MX_DO_SPREAD;
  b->row[v] = false;
  b->spread[x] = (int16_t)v;
  return v;
}

void mx_coder_result(mx_coder *b, int value) { b->out[b->code.n_out++] = (uint16_t)value; }

bool mx_cpu_is_elementwise(const mx_primitive *prim) {
  return prim->id == MX_PRIM_convert || prim->id == MX_PRIM_select ||
         (prim->id < MX_PRIM_COUNT && mx_cpu.kernels[prim->id] == mx_cpu_elementwise);
}

/* With rows, an operand may have as many elements as the result and yet be read elsewhere: repeated, not by rows. */
bool mx_code_in_place(const mx_code *code, int k, int i) {
  if (code->size[code->out[k]] != code->size[i]) return false;
  if (code->cols && code->row[code->out[k]] != code->row[i]) return false;
  for (int n = code->n_ins - 1; n >= 0; n--) {
    const mx_instruction *x = &code->ins[n];
    if (x->out == code->out[k]) return !mx_row_joins(x);
    if (x->in[0] == i || x->in[1] == i || x->in[2] == i) return false;
  }
  return false;
}

/* -- places -------------------------------------------------------------------------------------------------------- */

enum {
  STORED = -2,  /* needs no block */
  STAGED = 1024 /* elements from which stages are worth writing */
};

/* The last instruction that reads each value; -1: none. */
static void last_uses(const mx_coder *b, int *last) {
  const mx_code *code = &b->code;
  for (int v = 0; v < code->n_value; v++) last[v] = b->direct[v] ? STORED : -1;
  for (int n = 0; n < code->n_ins; n++)
    for (int k = 0; k < 3; k++)
      if (last[code->ins[n].in[k]] != STORED) last[code->ins[n].in[k]] = n;
  for (int k = 0; k < code->n_out; k++) last[code->out[k]] = STORED;
}

/* The dead values whose places are free, as lists by the size of an element. */
typedef struct places {
  int head[2][9], units[2]; /* the second of each: of values of rows */
} places;

static void take(mx_coder *b, places *p, int v) {
  int *head = &p->head[b->row[v]][b->size[v]];
  if (*head >= 0) {
    b->at[v] = b->at[*head];
    *head = b->next[*head];
  } else {
    b->at[v] = (uint16_t)p->units[b->row[v]];
    p->units[b->row[v]] += b->size[v];
  }
}

static void give(mx_coder *b, places *p, int v) {
  b->next[v] = (int16_t)p->head[b->row[v]][b->size[v]];
  p->head[b->row[v]][b->size[v]] = v;
}

/* A loop may write where it reads, so operands die before the result is born. Operands' blocks are kept: those of one
 * value are filled once. */
static void place_blocks(mx_coder *b, int *last, places *p) {
  mx_code *code = &b->code;
  for (int v = 0; v < code->n_in; v++)
    if (last[v] != STORED) take(b, p, v);
  for (int n = 0; n < code->n_ins; n++) {
    const mx_instruction *i = &code->ins[n];
    for (int k = 0; k < 3; k++)
      if (i->in[k] >= code->n_in && last[i->in[k]] == n) {
        give(b, p, i->in[k]);
        last[i->in[k]] = STORED; /* once, however often it is read */
      }
    if (last[i->out] != STORED) take(b, p, i->out);
  }
}

bool mx_coder_finish(mx_coder *b, int64_t elements) {
  int last[MX_MAX_VALUES];
  places p = {.units = {0}};
  if (b->full) return false;
  for (int k = 0; k < 9; k++) p.head[0][k] = p.head[1][k] = -1;
  for (int v = 0; v < b->code.n_value; v++) b->at[v] = 0;
  if (b->code.cols) mx_coder_order_passes(b);
  last_uses(b, last);
  place_blocks(b, last, &p);
  b->code.units = p.units[0];
  b->code.row_units = p.units[1];
  if (b->code.cols) return mx_coder_passes(b), true; /* its scratch is as large as it asks for */
  if (elements >= STAGED) mx_coder_stages(b);
  return p.units[0] * MX_UNIT <= MX_SCRATCH;
}
