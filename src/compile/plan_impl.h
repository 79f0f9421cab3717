/* plan_impl.h: what grouping (fuse.c), building (plan.c, group.c), placing (place.c) and running (run.c) a plan share.
 */
#ifndef MX_PLAN_IMPL_H
#define MX_PLAN_IMPL_H

#include "../device/code.h"
#include "compile.h"

/* PART: it became a part of another root; no variable lies there. */
typedef enum { MX_AT_INPUT, MX_AT_CONST, MX_AT_ARENA, MX_AT_RESULT, MX_AT_PART } mx_place;

/* Storage that several variables may view. */
typedef struct mx_root {
  mx_place place;
  int index;      /* input, constant or result number */
  int64_t offset; /* ARENA: in bytes */
  size_t bytes;
  int first, last;    /* the steps between which it is written and read; results live to the end */
  int32_t overwrites; /* ARENA: the root whose place it takes as that dies, or -1 */
  bool overwritten;
} mx_root;

/* A variable: a view of a root. */
typedef struct mx_slot {
  int32_t root;
  bool contiguous;
  int64_t offset;   /* bytes from the root's first element */
  int64_t *strides; /* ndim, in the plan's arena */
} mx_slot;

/* One kernel call, or code for elementwise equations, or both: a product with what is made of it,
 *
 *     d = dot a b; e = add d c       operands d, c, a, b | result e | d
 *
 * whose result is the code's first operand, and written before the code reads its others. */
typedef struct mx_step {
  mx_kernel kernel;
  const mx_code *code;  /* instead of the kernel, or behind it */
  const void *prepared; /* for the kernel */
  const mx_eqn *head;   /* that the kernel computes; NULL: code alone */
  const mx_eqn *eqn;    /* of a group: the last */
  int tensors;          /* its first tensor: operands of the code, or of the kernel, then results */
  int n_in, n_out;
  bool passes;       /* of a product with code: nothing else reads the product */
  const char *label; /* of a group: its primitives, "mul+add+exp"; else NULL */
  double flops;      /* of a group */
} mx_step;

/* Equations in the order of execution, in groups: the members of group g are eqns[ends[g - 1]] ... eqns[ends[g] - 1].
 */
typedef struct mx_fusion {
  int32_t *eqns, *ends;
  int n_eqn, n_group;
  int64_t *elements, *cols; /* by group: of its full values; of a row, or 0 */
  int32_t *head;            /* by group: the member that is a product or a convolution, or -1 */
  bool *used_outside;       /* by variable: it is read by another group, or a result */
} mx_fusion;
/* The groups of a program, in `keep`. joined: of several elementwise equations; headed: with the product that they
 * read. */
bool mx_fuse(mx_ctx *c, const mx_program *p, bool joined, bool headed, mx_arena *keep, mx_fusion *out);
/* Products become the heads of groups that read them. By variable: its equation, -1: none has it; by equation: its
 * group, which changes; by variable: scratch. (epilogue.c) */
void mx_fuse_products(const mx_program *p, mx_fusion *f, const int32_t *producer, int32_t *group, int32_t *scratch);
/* Whether an equation's result is its first operand's elements in the same order, or (broadcast) repeated. */
bool mx_eqn_is_alias(const mx_program *p, const mx_eqn *e);
/* Whether it joins all rows of its group: a result that no member reads. */
bool mx_eqn_joins_rows(const mx_program *p, const mx_eqn *e);
int64_t mx_any_width(int64_t elements); /* a length of rows for elements that have none; 0: there is no good one */

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
  mx_program *program; /* optimized */
  unsigned passes_off; /* when it was made */
  mx_plan *next;       /* of the same program inside others, with other passes */
  mx_arena memory;
  int n_roots, n_steps, n_tensors, n_results;
  mx_root *roots;
  mx_slot *slots; /* by variable */
  mx_step *steps;
  int32_t *order;       /* equations as they come in the steps */
  int32_t *step_of;     /* by equation: its step, or -1: a view */
  const char **labels;  /* by step: of several equations; else NULL */
  int32_t *tensor_vars; /* the variable of each tensor */
  int *patches;         /* tensors whose address changes from run to run */
  int n_patches;
  int32_t *result_roots; /* by result number: the root */
  int32_t *takes;        /* by result number: the donated input whose memory it takes, or -1; NULL: none is donated */
  int32_t *direct;       /* by result root: a result of the program that is just it, or -1 */
  bool owned;            /* by its program, which it then does not retain */
  size_t arena_bytes;
  _Atomic(mx_run *) spare; /* one run that rests */
};

/* plan.c, for group.c */
int32_t mx_plan_root(mx_plan *p, mx_place place, int index, size_t bytes, int first);
bool mx_plan_slot(mx_ctx *c, mx_plan *p, int32_t v, int32_t root, int64_t offset, const int64_t *strides);
bool mx_plan_equation(mx_ctx *c, mx_plan *p, const mx_eqn *e); /* a view, or a step of its own */
/* The parts of that step: memory for its results; the kernel; what that can find out before there are data. */
bool mx_plan_results(mx_ctx *c, mx_plan *p, const mx_eqn *e);
bool mx_plan_kernel(mx_ctx *c, mx_plan *p, const mx_eqn *e);
bool mx_plan_prepare(mx_ctx *c, mx_plan *p, mx_step *s);
/* A step for the elementwise equations of a group, after those of its views that need no computing. */
bool mx_plan_group(mx_ctx *c, mx_plan *p, const mx_fusion *f, int group);

/* Whether mx_plan_call may be given the memory of input v for result k. (donate.c) */
bool mx_plan_may_take(const mx_plan *p, int k, int v);
/* The buffer of the donated input that result k takes, retained; NULL where it gets one of its own: also where somebody
 * else holds that memory. (donate.c) */
mx_buffer *mx_plan_take(const mx_plan *p, int k, mx_array *const *in);

/* With the steps in their order: lifetimes, operands that are overwritten, offsets. (plan.c) */
bool mx_plan_lay_out(mx_ctx *c, mx_plan *p);
/* Gives every ARENA root an offset such that roots that live at once do not overlap. */
bool mx_plan_place(mx_ctx *c, mx_plan *p);
/* The most bytes of the arena that live at once; fills their change by step, and behind the last (n_steps + 1). */
int64_t mx_plan_peak(const mx_plan *p, int64_t *change);
/* Whether a variable is all of its root. */
bool mx_plan_is_whole(const mx_plan *p, int32_t v);
/* Whether result k of a step may be written where its operand j lies, row-major, element by element. */
bool mx_step_in_place(const mx_plan *p, const mx_step *s, int k, int j);
/* Values that are read as parts of others are computed there. The plan is laid out before, and is so after it.
 * (parts.c) */
bool mx_plan_join_parts(mx_ctx *c, mx_plan *p);
/* Puts the steps of a plan that is laid out in an order with a smaller arena, where there is one. (schedule.c) */
bool mx_plan_schedule(mx_ctx *c, mx_plan *p);

#endif
