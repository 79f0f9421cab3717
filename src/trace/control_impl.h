/* control_impl.h: what the rules of control flow share: programs made of programs, by staging an interpreter over them.
 * Each function gives a new reference, or NULL with the error pending. */
#ifndef MX_CONTROL_IMPL_H
#define MX_CONTROL_IMPL_H

#include "trace_impl.h"

/* Inputs: those of p, then the tangents of the inputs with nonzero_in. Results: those of p, then the tangents of the
 * results with nonzero_out (in: must have one; out: have one). */
mx_program *mx_program_jvp(mx_ctx *c, const mx_program *p, const bool *nonzero_in, bool *nonzero_out);
/* Any function of arrays as a program; it must not use arrays of outer traces. */
mx_program *mx_program_of(mx_ctx *c, mx_function f, const mx_aval *const *in, int n);
/* Interprets p; checks of positions are made only where pred (a bool scalar) holds. */
bool mx_program_eval_where(mx_ctx *c, const mx_program *p, mx_array *const *in, mx_array *pred, mx_array **out);

/* The equations of p whose operands are there, for the results that are not yet: env has an entry a variable, NULL
 * where there is no value. */
bool mx_program_eval_given(mx_ctx *c, const mx_program *p, mx_array **env);

/* A scan that is about to be recorded on a tape: its body, its operands, the numbers of constants, carry and xs. */
typedef struct mx_taped_scan {
  mx_program *body; /* owned */
  mx_array **x;
  int counts[3];
  int64_t length;
} mx_taped_scan;
bool mx_scan_hoist(mx_ctx *c, mx_arena *a, mx_trace *lin, mx_taped_scan *s); /* hoist.c */

/* Of a scan's body that was split: drops residuals (the last results of `known`, the last inputs of `unknown`) that
 * `unknown` can cheaply compute of the others. Replaces both programs. (residuals.c) */
bool mx_scan_thin(mx_ctx *c, mx_program **known, mx_program **unknown, int n_known_out);

/* x with its mapped axis first; repeated there where axis is -1. */
mx_array *mx_batch_to_front(mx_ctx *c, mx_array *x, int axis, int64_t size);

/* Scratch of one rule: freed at its end. */
void *mx_take(mx_ctx *c, mx_arena *a, int n, size_t item);

extern const mx_field mx_fields_call[];

#endif
