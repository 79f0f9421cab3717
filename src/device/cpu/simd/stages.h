/* stages.h: the accumulator machine: float32 code whose values flow in registers.
 *
 *     load x -> mul w -> add b -> tanh -> store y        one call a stage for 64 lanes, each ends in a jump to the next
 *
 * The lanes of the value computed last are the arguments of the stages (as in Skia's raster pipeline); other values
 * come from memory: operands, and spilled values of the same 64 lanes. Truth values are lanes of all or no bits.
 */
#ifndef MX_STAGES_H
#define MX_STAGES_H

#include "../../code.h"
#include "reduce.h"

typedef struct mx_stage {
  mx_stage_fn run;
  const char *m[2];
  size_t
      mask[2]; /* of the byte offset of a lane: all bits, none where each chunk uses the same lanes, or those of 64 */
} mx_stage;

typedef struct mx_stages {
  int lanes; /* of a chunk */
  /* acc = f(acc), acc = f(acc, m0), acc = f(m0, acc); NULL: not here. Comparisons give truth values. */
  mx_stage_fn unary[MX_PRIM_COUNT], forward[MX_PRIM_COUNT], backward[MX_PRIM_COUNT];
  mx_stage_fn same[MX_PRIM_COUNT]; /* forward where m0 is one number in all lanes; NULL: as forward */
  mx_stage_fn join[4];             /* by mx_fold_op: m0 takes in acc, which stays */
  mx_stage_fn load, load_bool, store, store_bool, choose, truth_to_float, end; /* choose: acc = acc ? m0 : m1 */
  void (*run)(const mx_stage *stages, int64_t at, int64_t n); /* n lanes from number `at` on, a multiple of `lanes` */
  void (*fill)(float *to, float v, int64_t n);
} mx_stages;
MX_SIMD_DECLARE(mx_stages, mx_stages);

#endif
