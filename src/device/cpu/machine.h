/* machine.h: what runs code: the machines' parts, and reading strided tensors in a row. */
#ifndef MX_MACHINE_H
#define MX_MACHINE_H

#include "../code.h"
#include "cpu_impl.h"
#include "simd/loops.h"
#include "simd/reduce.h"
#include "simd/stages.h"

/* Code with rows. */
bool mx_cpu_run_rows(mx_ctx *c, const mx_code *code, const mx_tensor *in, const mx_tensor *out);
/* Adds stages to finished code, where it has them for all of it (stage.c). */
void mx_coder_stages(mx_coder *b);
/* The same for code with rows: first its instructions are put in the order of passes, then, when it is finished, it
 * gets stages (row_coder.c). */
void mx_coder_order_passes(mx_coder *b);
void mx_coder_passes(mx_coder *b);

/* Writing stages, instruction by instruction (stage.c). */
typedef struct mx_staging {
  mx_coder *b;
  const mx_stages *set;
  int end;                      /* instructions beyond find no value in the accumulator or a spill */
  int acc;                      /* the value in the accumulator, or -1 */
  int16_t place[MX_MAX_VALUES]; /* where a value lies: itself (operand, result), a spill -1, -2, ..., or NOWHERE */
  bool fits;
} mx_staging;
void mx_staging_start(mx_staging *s, mx_coder *b);
/* Instructions first .. end-1. */
void mx_staging_write(mx_staging *s, int first, int end);

/* Whether the value is a result. */
bool mx_code_gives(const mx_code *code, int v);

/* Passes over the rows of a block, in one thread (row_passes.c). Where a value does not lie in its block:
 *
 *     spread      64 lanes of one number, for each row of the block
 *     sum         64 lanes of partial results, for the row at hand
 *     joined      a part of the slice's accumulators: of the rows that were joined lately */
typedef struct mx_row_work {
  const mx_code *code;
  const mx_stages *set;
  char *accs, *parts; /* of the slice, as the code's joining instructions have them */
  int64_t joined;     /* rows in parts */
  int64_t at;         /* lanes that stages count on from row to row: a multiple of 64, so 0 where rows are none */
  char *base[MX_MAX_VALUES];
  int64_t step[MX_MAX_VALUES]; /* bytes that it lies further on in the next row, beside these lanes */
  size_t mask[MX_MAX_VALUES];
  bool special[MX_MAX_VALUES]; /* it does not lie in its block */
} mx_row_work;
/* Bytes of lanes, for blocks of so many rows. */
size_t mx_row_lanes(const mx_code *code, int64_t rows);
/* For a slice of so many rows, `step` a block. parts: as long as accs. */
void mx_row_start(mx_row_work *w, const mx_code *code, int64_t step, int64_t rows, char *lanes, char *parts,
                  char *accs);
void mx_row_run(mx_row_work *w, int64_t rows, const void *const *value);
void mx_row_finish(mx_row_work *w); /* accs are complete */

/* For both ways of running rows (rows.c). */
mx_fold_op mx_row_op(const mx_instruction *i);
bool mx_row_joins(const mx_instruction *i);
int64_t mx_row_width(const mx_code *code, const mx_instruction *i); /* of what it joins */
size_t mx_row_acc(const mx_code *code, const mx_instruction *i);    /* bytes of that */
const mx_fold_loops *mx_row_loops(const mx_instruction *i);

/* A position in a tensor seen in a broadcast shape, in row-major order. */
typedef struct mx_walk {
  size_t size; /* bytes of an element */
  int ndim;    /* at least 1; axes that lie behind one another are merged */
  int64_t shape[MX_MAX_NDIM], stride[MX_MAX_NDIM], index[MX_MAX_NDIM];
  const char *row; /* the innermost run that is being walked */
  int64_t at;      /* elements of it that are behind us */
} mx_walk;
void mx_walk_start(mx_walk *w, const mx_tensor *t, const mx_aval *shape, int64_t position);
/* The elements of the run before us, and where they begin. */
static inline int64_t mx_walk_run(const mx_walk *w) { return w->shape[w->ndim - 1] - w->at; }
static inline int64_t mx_walk_stride(const mx_walk *w) { return w->stride[w->ndim - 1]; }
static inline const char *mx_walk_here(const mx_walk *w) { return w->row + w->at * mx_walk_stride(w); }
void mx_walk_skip(mx_walk *w, int64_t n); /* at most to the end of the run */
/* The next n elements, in a row. */
void mx_walk_gather(mx_walk *w, int64_t n, void *to);
/* n elements of `size` bytes with a stride, in a row. */
void mx_gather_run(size_t size, int64_t n, const char *from, int64_t stride, void *to);

#endif
