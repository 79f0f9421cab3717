/* code.h: elementwise work in one pass over the elements, block by block.
 *
 *     values   0 .. n_in-1 operands | then one an instruction          out: the values that are stored
 *
 *     x * w + b  ->  2 = mul 0 1;  3 = add 2 w...       each instruction is a loop over a block of some hundred
 * elements
 *
 * An operand's block is
 *
 *     in a row, as it lies       contiguous, or a long run of a slice or of a broadcast row: no copy
 *     one value                  filled once
 *     anything else              gathered
 *
 * Code with rows (cols > 0) has values of one element a row, too: folds make them of whole rows, spreads repeat them
 * over their row. Its blocks are whole rows, so that a row is read once for a mean, a variance and what is made of
 * both.
 *
 * Blocks of values that are not stored lie in a few kilobytes of scratch, in turn (the block machine of numexpr).
 * Halves are computed in float32: code has instructions that widen and narrow.
 */
#ifndef MX_CODE_H
#define MX_CODE_H

#include "cpu/simd/simd.h"
#include "device.h"

enum {
  MX_MAX_VALUES = 224,
  MX_MAX_OPERANDS = 64,
  MX_MAX_STAGES = 192,
  MX_MAX_SPILLS = 48,
  MX_MAX_PASSES = 16,
  MX_SCRATCH = 24 << 10, /* bytes of blocks: with the operands' lines they stay in the first cache */
  MX_UNIT = 64           /* elements: blocks, and the chunks of threads, are multiples */
};

typedef enum { MX_DO_LOOP, MX_DO_SPREAD, MX_DO_FOLD, MX_DO_COLUMNS, MX_DO_TOTAL } mx_instruction_kind;
typedef struct mx_instruction {
  union {
    mx_loop loop;
    void (*fold)(void *acc, const void *x, int64_t n); /* of a row; from the operation's identity */
  };
  uint16_t in[3], out; /* values; unused ones are the first */
  uint16_t prim;
  uint8_t n_in, kind, dtype; /* dtype: of the result */
} mx_instruction;

typedef void (*mx_stage_fn)(void); /* its real type depends on the instruction set */

/* A stage whose operands are values, or spilled values -1, -2, ... */
typedef struct mx_stage_form {
  mx_stage_fn run, same; /* same: instead, where m[0] is an operand of one value; NULL: run */
  int16_t m[2];
} mx_stage_form;

/* A stretch of code with rows, which needs of its rows' sums those of the stretches before: row values are computed for
 * all rows of a block, then stages make each row's full values and sums. */
typedef struct mx_row_pass {
  uint8_t spreads, full, end; /* instructions: from the pass before to `spreads` of row values, to `full` spreads */
  uint16_t stage;             /* the first of its stages; they end in one that stops */
} mx_row_pass;

typedef struct mx_code {
  int n_in, n_value, n_ins, n_out;
  mx_instruction *ins;
  uint8_t *size;               /* by value: bytes of an element */
  uint16_t *out;               /* by result: its value */
  uint16_t *at;                /* by value: its block begins at scratch + at * (elements of a block) */
  const mx_aval *const *shape; /* by operand: the shape it is broadcast to; NULL: the result's */
  int units;                   /* bytes of scratch for one element */
  int64_t cols, rows;          /* elements of a row, or 0; how many rows */
  int64_t columns;             /* of results that join rows: cols, or a divisor of it, where rows are several as one */
  uint8_t *row;                /* by value: it has one element a row */
  int row_units;               /* bytes of scratch for one row, of such values */
  double ns;                   /* about how long an element takes */
  mx_stage_form *stages;       /* NULL: loops alone */
  int n_stages, n_spills;
  mx_row_pass *passes; /* of code with rows, whose stages are theirs */
  int n_passes;
} mx_code;

/* Results are row-major; one may lie where an operand lies if mx_code_in_place says so. False: no memory, or an
 * interrupt. */
bool mx_cpu_run(mx_ctx *c, const mx_code *code, const mx_tensor *in, const mx_tensor *out);

/* The same behind a kernel that makes operands of it, part by part. */
typedef struct mx_code_run {
  const mx_code *code;
  const mx_tensor *in, *out;
  int64_t lo, hi; /* the part of the result that is computed now */
  int64_t block;  /* elements */
  int chunks;
} mx_code_run;
/* Fills in *after for the kernel, and *r, which it points to. False: only mx_cpu_run can run this code, since it has
 * rows or reads an operand that must be brought into a row first. */
bool mx_code_after(const mx_code *code, const mx_tensor *in, const mx_tensor *out, mx_code_run *r, mx_after *after);

/* Whether result k may overwrite operand i, which lies in a row: all that reads it comes before what writes the result.
 */
bool mx_code_in_place(const mx_code *code, int k, int i);

/* Code while it is written. Operands come first, then applications, then results. */
typedef struct mx_coder {
  mx_code code;
  bool full; /* more than MX_MAX_VALUES */
  mx_instruction ins[MX_MAX_VALUES];
  mx_stage_form stages[MX_MAX_STAGES];
  mx_row_pass passes[MX_MAX_PASSES];
  uint8_t size[MX_MAX_VALUES], dtype[MX_MAX_VALUES], direct[MX_MAX_VALUES], row[MX_MAX_VALUES];
  uint16_t out[MX_MAX_VALUES], at[MX_MAX_VALUES];
  int16_t wide[MX_MAX_VALUES];   /* the same value as float32, or -1 */
  int16_t spread[MX_MAX_VALUES]; /* a value of rows, repeated; or -1 */
  int16_t next[MX_MAX_VALUES];   /* of the dead values whose place is free */
} mx_coder;
void mx_coder_start(mx_coder *b, int64_t rows, int64_t cols); /* 0, 0: no rows */
/* There will be no values of rows: short rows may be taken several as one, as long as the machine likes it. */
void mx_coder_widen(mx_coder *b);
/* The next value. direct: its elements lie one behind the other, so that it needs no block. row: it has one a row. */
int mx_coder_operand(mx_coder *b, int dtype, bool direct, bool row);
/* A row's elements joined: reduce_sum, _prod, _max, _min. The loops for it: NULL where there are none. */
int mx_coder_fold(mx_coder *b, const mx_primitive *prim, int x);
bool mx_cpu_folds(const mx_primitive *prim, int dtype);
/* The same over all rows, column by column or (total) to one element: a result that nothing may read. */
int mx_coder_join_rows(mx_coder *b, const mx_primitive *prim, int x, bool total);
/* The value with as many elements as the rows have. */
int mx_coder_spread(mx_coder *b, int x);
/* An application of an elementwise primitive, convert or select, that gives `dtype`: the value. */
int mx_coder_apply(mx_coder *b, const mx_primitive *prim, const int *in, int n_in, int dtype);
void mx_coder_result(mx_coder *b, int value);
/* Gives blocks their places; then b->code may run, over about so many elements. False: too much for one pass. */
bool mx_coder_finish(mx_coder *b, int64_t elements);
/* Whether an equation of these types is one of those: its result has the shape that operands are broadcast to. */
bool mx_cpu_is_elementwise(const mx_primitive *prim);

#endif
