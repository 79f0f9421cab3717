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
} mx_eqn;

typedef struct mx_program {
  atomic_int refs;
  mlax_engine *engine;
  mx_arena arena;
  bool collective;         /* it names an axis of an enclosing vmap */
  bool ordered;            /* an equation of it is (mx_eqn_is_ordered) */
  _Atomic(void *) plan[2]; /* compile/: the plan of a program inside others, and the one for debug.nans; freed through
                              mx_plan_free */
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
bool mx_program_output(mx_ctx *c, mx_program *p, int32_t var);
int32_t mx_program_input(mx_ctx *c, mx_program *p,
                         const mx_aval *a); /* a variable that counts in n_in; before all others */
/* Renumbers, drops dead equations, checks. With `captured`, constants that are tracers of outer traces become inputs
 * behind the others and are added there; without (a tape), they stay constants. */
bool mx_program_finish(mx_ctx *c, mx_program *p, mx_list *captured);
mx_program *mx_program_retain(mx_program *p);
void mx_program_release(mx_program *p);
/* ask */
bool mx_program_check(mx_ctx *c, const mx_program *p); /* every invariant; fails with MLAX_STATE */
/* show */
size_t mx_program_print(mx_ctx *c, const mx_program *p, char *to,
                        size_t cap); /* stable text; returns the full length */
double mx_program_flops(const mx_program *p);

#endif
