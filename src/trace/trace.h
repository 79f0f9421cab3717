/* trace.h: transformations as interpreters (JAX's autodidax, in its "stackless" form).
 *
 * mx_bind sends an operation to the context's current trace. A trace handles it, with its parent as the current trace
 * while its rule runs; operands that are not its own tracers count as constants.
 *
 *     NULL      evaluate: shape rule, then view rule or kernel                 the arrays are values
 *     STAGE     record an equation                                             tracer: a variable
 *     DUAL      jvp: operate on (primal, tangent) pairs                        tracer: primal + tangent
 *     LINEAR    record what depends on tangents, hand the rest to the parent   tracer: a variable of the tape
 *     BATCH     operate on whole values with one axis mapped                   tracer: value + axis
 *
 * Reverse mode is a DUAL trace over a LINEAR one: the tangents' tape is then walked backwards with the transpose rules.
 * A tracer outlives its trace only by leaking: using it then raises and names the Lua line that made it.
 */
#ifndef MX_TRACE_H
#define MX_TRACE_H

#include "../program/program.h"

typedef enum { MX_TRACE_STAGE, MX_TRACE_DUAL, MX_TRACE_LINEAR, MX_TRACE_BATCH } mx_trace_kind;

typedef struct mx_trace {
  atomic_int refs; /* its tracers hold one each */
  mlax_engine *engine;
  mx_trace_kind kind;
  bool live; /* false once its function has returned */
  struct mx_trace *parent;
  mx_program *program;    /* STAGE, LINEAR: being built */
  int64_t size;           /* BATCH: length of the mapped axis */
  const char *name;       /* BATCH: axis name, or NULL (borrowed from the caller) */
  mx_array *const *known; /* STAGE: arrays that are inputs by identity (captured ones), by input; NULL entries: none */
  int n_known;
  uint64_t serial; /* counts up; deeper traces have greater ones */
} mx_trace;

/* A function to be transformed, supplied by api/ (or by a program): adds its results to `out`; false with an error
 * pending, or MLAX_LUA where a Lua error is on its way. */
typedef struct mx_function {
  bool (*call)(mx_ctx *c, void *state, mx_array *const *in, int n_in, mx_list *out);
  void *state;
} mx_function;

/* Records f on inputs of these avals. known[i] (known may be NULL) is an array that f reaches by itself, as an upvalue:
 * wherever it appears it stands for input i. The result's constants are values; arrays of outer traces that f used are
 * given back in `captured`, and are the inputs behind the n_in. */
bool mx_stage(mx_ctx *c, mx_function f, const mx_aval *const *in, mx_array *const *known, int n_in,
              mx_program **program, mx_list *captured);

/* Results and their tangents (NULL: zero); tangents[i] may be NULL. */
bool mx_jvp(mx_ctx *c, mx_function f, mx_array *const *primals, mx_array *const *tangents, int n, mx_list *out,
            mx_list *out_tangents);

/* The derivative at a point: a tape of linear equations from the active inputs' tangents to the results' tangents. */
typedef struct mx_linear {
  mlax_engine *engine;
  mx_program *tape; /* inputs: the active ones in order */
  int n_in, n_out;
  int32_t *out;                  /* n_out tape variables; -1: the tangent is zero */
  mx_aval *in_avals, *out_avals; /* n_in active inputs, n_out results */
} mx_linear;
bool mx_linearize(mx_ctx *c, mx_function f, mx_array *const *primals, const bool *active, int n, mx_list *out,
                  mx_linear **linear);
bool mx_linear_apply(mx_ctx *c, const mx_linear *l, mx_array *const *tangents,
                     mx_list *out); /* NULL: zero, on both sides */
bool mx_linear_transpose(mx_ctx *c, const mx_linear *l, mx_array *const *cotangents,
                         mx_list *out); /* one an active input; NULL: zero */
void mx_linear_release(mx_linear *l);

/* The cotangents of the inputs of p with linear_in (NULL: all), in which it is linear, from those of its results; in[i]
 * are the values of the others. NULL cotangents are zero, on both sides; ct_in are borrowed. */
bool mx_program_transpose(mx_ctx *c, const mx_program *p, const bool *linear_in, mx_array *const *in,
                          mx_array *const *ct_out, mx_array **ct_in);
/* Splits p by what is known: `known` computes, of the known inputs in order, the results that need no unknown one, then
 * the residuals; `unknown` the other results, of the unknown inputs in order, then the residuals. out_unknown (n_out,
 * in and out): results that must be unknown; set for all that are. */
bool mx_program_split(mx_ctx *c, const mx_program *p, const bool *unknown_in, bool *out_unknown, mx_program **known,
                      mx_program **unknown);

/* Input i of p is fed by input source[i] of the new program, which has n_in inputs; results are p's results
 * outs[0..n_out-1] (NULL: all). */
mx_program *mx_program_rewire(mx_ctx *c, const mx_program *p, int n_in, const mx_aval *const *in, const int *source,
                              int n_out, const int *outs);
/* The aval without its first axis. */
mx_aval mx_aval_slice(const mx_aval *a);

/* Binds a control-flow primitive whose params hold these programs, which are released. */
bool mx_bind_programs(mx_ctx *c, const mx_primitive *prim, const mx_params *p, mx_array *const *in, int n_in,
                      mx_array **out, int n_out);

/* f over the axes of its inputs (-1: not mapped), all of length `size`. Results are whole values; out_axes (room for
 * the results is made; mx_free'd by mx_ints_release) says where each is mapped, -1: it does not depend on the axis. */
typedef struct mx_ints {
  int n, cap;
  int *items;
} mx_ints;
bool mx_batch(mx_ctx *c, mx_function f, mx_array *const *in, const int *axes, int n, int64_t size, const char *name,
              mx_list *out, mx_ints *out_axes);
void mx_ints_release(mx_ctx *c, mx_ints *l);

/* Binds every equation of a program in the current trace: how compiled functions pass under other transformations. */
bool mx_program_eval(mx_ctx *c, const mx_program *p, mx_array *const *in, mx_array **out);

/* False, with "leaked" pending, for a tracer of a trace that no longer runs; "freed" for a freed array. */
bool mx_usable(mx_ctx *c, const mx_array *x);
/* Whether x may be read now: it is a value (or a dual of one), and no running trace counts it among its known inputs.
 */
bool mx_has_value(const mx_ctx *c, const mx_array *x);
mx_trace *mx_trace_retain(mx_trace *t);
void mx_trace_release(mx_trace *t);

#endif
