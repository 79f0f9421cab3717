/* plan_impl.h: what building (plan.c), placing (place.c) and running (run.c) a plan share. */
#ifndef MX_PLAN_IMPL_H
#define MX_PLAN_IMPL_H

#include "compile.h"

typedef enum { MX_AT_INPUT, MX_AT_CONST, MX_AT_ARENA, MX_AT_RESULT } mx_place;

/* Storage that several variables may view. */
typedef struct mx_root {
  mx_place place;
  int index;      /* input, constant or result number */
  int64_t offset; /* ARENA: in bytes */
  size_t bytes;
  int first, last; /* the steps between which it lives; results live to the end */
} mx_root;

/* A variable: a view of a root. */
typedef struct mx_slot {
  int32_t root;
  bool contiguous;
  int64_t offset;   /* bytes from the root's first element */
  int64_t *strides; /* ndim, in the plan's arena */
} mx_slot;

typedef struct mx_step {
  mx_kernel kernel;
  const mx_eqn *eqn;
  int tensors; /* its first tensor: operands, then results */
} mx_step;

/* What one run needs for itself: tensors with the addresses filled in, and the arena they point into. */
typedef struct mx_run {
  mx_tensor *tensors;
  void *arena;
  mx_buffer **buffers; /* by result root: its buffer (null between runs) */
  char **results;      /* and where its bytes are */
} mx_run;

struct mx_plan {
  atomic_int refs;
  mlax_engine *engine;
  mx_program *program;
  mx_arena memory;
  int n_roots, n_steps, n_tensors, n_results;
  mx_root *roots;
  mx_slot *slots; /* by variable */
  mx_step *steps;
  int32_t *tensor_vars; /* the variable of each tensor */
  int *patches;         /* tensors whose address changes from run to run */
  int n_patches;
  int32_t *result_roots; /* by result number: the root */
  int32_t *direct;       /* by result root: a result of the program that is just it, or -1 */
  bool owned;            /* by its program, which it then does not retain */
  size_t arena_bytes;
  _Atomic(mx_run *) spare; /* one run that rests */
};

/* Gives every ARENA root an offset such that roots that live at once do not overlap. */
bool mx_plan_place(mx_ctx *c, mx_plan *p);

#endif
