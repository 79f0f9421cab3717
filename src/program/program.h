/* program.h: a traced function: a list of equations over typed variables.
 *
 *     { lambda a:float32[3] b:float32[]. let        variables 0 .. n_in-1 are the inputs,
 *         c:float32[3] = mul a b                     the next n_const the constants, then the results of equations in
 * order; d:float32[] = reduce_sum[axes=(0)] c       a variable is a 32-bit index in (d) }
 *
 * A program is built by one trace (program_builder functions), checked, and from then on immutable and counted.
 * Constants are arrays; in a program that is interpreted at once (the tape of linearize) they may be tracers of an
 * outer trace.
 */
#ifndef MX_PROGRAM_H
#define MX_PROGRAM_H

#include "../ops/ops.h"

typedef struct mx_eqn {
  const mx_primitive *prim;
  const mx_params *params; /* in the program's arena; NULL: none */
  int32_t *in;             /* variables, in the arena */
  int32_t out;             /* the first of n_out consecutive variables */
  uint16_t n_in, n_out;
  uint32_t site; /* the Lua line that made it */
  bool late;     /* it is to run with what reads it, not with what it reads (compile/recompute.c) */
} mx_eqn;

typedef struct mx_program {
  atomic_int refs;
  mlax_engine *engine;
  mx_arena arena;
  bool collective;      /* it names an axis of an enclosing vmap */
  bool ordered;         /* an equation of it is (mx_eqn_is_ordered) */
  bool optimized;       /* compile/: what its passes made */
  _Atomic(void *) plan; /* compile/: the plans of a program inside others; freed through mx_plan_free */
  int n_in, n_const, n_var, n_eqn, n_out;
  mx_aval **avals;   /* n_var */
  mx_array **consts; /* n_const, variables n_in .. n_in + n_const - 1 (in a finished program) */
  mx_eqn *eqns;
  int32_t *outs; /* n_out variables */
  int avals_cap, consts_cap, eqns_cap, outs_cap;
  struct {
    const mx_primitive *prim;
    const mx_params *params;
  } * held; /* params that refer to programs, of dropped equations too */
  int n_held, held_cap;
  /* while building: constants are found late; finish renumbers */
  int32_t *const_vars; /* variable of constant k */
  int const_vars_cap;
  int32_t *const_hash; /* open addressing, by identity, scalars by value: constant + 1, 0 empty */
  int const_hash_cap;
} mx_program;

extern void (*mx_plan_free)(void *plan); /* defined in compile/ */

/* A growing list of array references. */
typedef struct mx_list {
  int n, cap;
  mx_array **items; /* each retained; NULL allowed (a zero tangent) */
} mx_list;
bool mx_list_add(mx_ctx *c, mx_list *l, mx_array *x);
void mx_list_release(mx_ctx *c, mx_list *l);

/* The programs inside a primitive's params, the pairs of ppermute, a text: counted and immutable. */
typedef struct mx_programs {
  atomic_int refs;
  int n;
  mx_program *items[]; /* each retained */
} mx_programs;
mx_programs *mx_programs_new(mx_ctx *c, int n, mx_program *const *items); /* retains the items */
mx_programs *mx_programs_retain(mx_programs *l);
void mx_programs_release(mx_programs *l);
typedef struct mx_pairs {
  atomic_int refs;
  mlax_engine *engine;
  int n;
  int64_t v[][2]; /* from, to */
} mx_pairs;
mx_pairs *mx_pairs_new(mx_ctx *c, int n);
void mx_pairs_release(mx_pairs *p);
typedef struct mx_string {
  atomic_int refs;
  mlax_engine *engine;
  size_t length;
  char text[]; /* and a zero */
} mx_string;
mx_string *mx_string_new(mx_ctx *c, const char *text, size_t length);
void mx_string_release(mx_string *s);
/* Whether an equation must run though nobody uses its results, and after those before it: it, or what its programs
 * hold, has an ordered effect. */
bool mx_eqn_is_ordered(const mx_eqn *e);
/* Whether a primitive, or what its programs hold, is a collective over the axis (NULL: over any). */
bool mx_params_name_axis(const mx_primitive *prim, const mx_params *p, const char *name);

/* make */
mx_program *mx_program_new(mx_ctx *c);
int32_t mx_program_var(mx_ctx *c, mx_program *p, const mx_aval *a); /* -1 on failure; inputs are the first variables */
int32_t mx_program_const(mx_ctx *c, mx_program *p, mx_array *x); /* retains x; the same array gives the same variable */
int32_t mx_program_equation(mx_ctx *c, mx_program *p, const mx_op *o, const int32_t *in,
                            uint32_t site); /* first result variable, or -1 */
/* An equation of `from`, with other operands. */
int32_t mx_program_copy(mx_ctx *c, mx_arena *scratch, mx_program *p, const mx_program *from, const mx_eqn *e,
                        const int32_t *in);
bool mx_program_output(mx_ctx *c, mx_program *p, int32_t var);
int32_t mx_program_input(mx_ctx *c, mx_program *p,
                         const mx_aval *a); /* a variable that counts in n_in; before all others */
/* Renumbers, drops dead equations, checks. With `captured`, constants that are tracers of outer traces become inputs
 * behind the others and are added there; without (a tape), they stay constants. */
bool mx_program_finish(mx_ctx *c, mx_program *p, mx_list *captured);
mx_program *mx_program_retain(mx_program *p);
void mx_program_release(mx_program *p);
/* The equations of p from the variables `in`, which are the inputs in this order, to the variables `outs`; with
 * `ordered` those with an ordered effect come along. */
mx_program *mx_program_part(mx_ctx *c, const mx_program *p, const int32_t *in, int n_in, const int32_t *outs, int n_out,
                            bool ordered);
/* p over a further axis of length `size` (trace/control.c). Inputs with mapped_in carry it first, so do results with
 * mapped_out (in: must; out: do). */
mx_program *mx_program_batch(mx_ctx *c, const mx_program *p, int64_t size, const char *name, const bool *mapped_in,
                             bool *mapped_out);

/* -- bodies of loops (body.c): what may be taken out of them ------------------------------------------------------- */

/* The inputs of a body are constants, the carry, slices. Of its variables some are the same at each step, some differ
 * from step to step, some depend on the carry. What of the first two kinds is chosen is computed outside: */
typedef enum { MX_BODY_SAME, MX_BODY_STEP, MX_BODY_CARRIED } mx_body_kind;
typedef struct mx_body {
  const mx_program *p;
  int n_const, n_carry;
  uint8_t *kind;  /* by variable: mx_body_kind */
  bool *taken;    /* by variable: the result of an equation that is taken out, and that somebody needs */
  bool *used;     /* by variable: what is left needs it */
  int n_taken[2]; /* by kind */
} mx_body;
/* Whether the equation is worth to be taken out, where it can be. */
typedef bool (*mx_body_choice)(void *ud, const mx_eqn *e, const mx_op *o, mx_body_kind kind);
bool mx_body_sort(mx_ctx *c, mx_arena *a, mx_body *b); /* finds the kinds; then */
bool mx_body_choose(mx_ctx *c, mx_arena *a, mx_body *b, mx_body_choice choice, void *ud);
/* Heavy: it takes many operations for each element of its result. */
bool mx_op_is_heavy(const mx_op *o);
/* What is taken out of a kind: a program of the variables in[0..*n-1] of the body, constants or (STEP) slices too; its
 * results are the taken ones in order. */
mx_program *mx_body_taken(mx_ctx *c, mx_arena *a, const mx_body *b, mx_body_kind kind, int32_t **in, int *n);
/* What is left, with the variables outs as results: of the constants it needs and what was taken of them, the carry
 * (but those inputs with gone[i]; NULL: all), the slices and what was taken of those: so many in counts[3]. */
mx_program *mx_body_left(mx_ctx *c, mx_arena *a, mx_body *b, const bool *gone, const int32_t *outs, int n_out,
                         int32_t **in, int counts[3]);

/* ask */
/* By variable: how often it is read, as a result too; the equation that makes it, or -1. NULL: not asked for. */
void mx_program_uses(const mx_program *p, int32_t *readers, int32_t *maker);
/* The number of a variable among different ones, in the order in which they are asked for; numbers: by variable, zeros
 * at first. */
static inline int mx_number_once(int32_t *numbers, int32_t v, int *n) {
  if (!numbers[v]) numbers[v] = ++*n;
  return numbers[v] - 1;
}
bool mx_program_check(mx_ctx *c, const mx_program *p); /* every invariant; fails with MLAX_STATE */
/* show */
/* How a program is printed that became a plan: equation order[i] is the i-th; those of one step that has a label stand
 * between braces behind it. */
typedef struct mx_layout {
  const mx_program *program;   /* instead of the one that it was made for */
  const int32_t *order, *step; /* by place; by equation: its step, -1: none, since it is a view */
  const char *const *labels;   /* by step; NULL: one equation */
} mx_layout;
/* Finds the layout of a program; false: there is none. */
typedef bool (*mx_layouts)(mx_ctx *c, mx_program *p, mx_layout *out);
size_t mx_program_print(mx_ctx *c, const mx_program *p, char *to,
                        size_t cap); /* stable text; returns the full length */
/* The same, laid out, and the programs inside. */
size_t mx_program_print_laid(mx_ctx *c, const mx_layout *l, mx_layouts inside, char *to, size_t cap);
double mx_program_flops(const mx_program *p);

#endif
