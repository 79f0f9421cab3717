/* trace_impl.h: what the interpreters share. Each has one function that handles an operation whose operands include its
 * tracers, with the context's current trace set to its parent. Results are borrowed from the frame. */
#ifndef MX_TRACE_IMPL_H
#define MX_TRACE_IMPL_H

#include "trace.h"

bool mx_eval_process(mx_ctx *c, mx_op *o, mx_array **out);               /* eval.c */
bool mx_stage_process(mx_ctx *c, mx_trace *t, mx_op *o, mx_array **out); /* stage.c; LINEAR too */
bool mx_dual_process(mx_ctx *c, mx_trace *t, mx_op *o, mx_array **out);  /* jvp.c */
bool mx_batch_process(mx_ctx *c, mx_trace *t, mx_op *o, mx_array **out); /* batch.c */

/* A new live trace above the current one; it becomes current. NULL with the error pending. */
mx_trace *mx_trace_begin(mx_ctx *c, mx_trace_kind kind);
/* Ends it, and every trace above it: their parents' frame of mind is restored, tracers left over are dead. Takes the
 * reference. */
void mx_trace_end(mx_ctx *c, mx_trace *t);
/* The tracer that t keeps for x, or NULL where x is a constant to t. */
static inline bool mx_owns(const mx_trace *t, const mx_array *x) { return mx_is_tracer(x) && x->trace == t; }
mx_array *mx_tracer_new(mx_ctx *c, mx_trace *t, mx_tag tag, const mx_aval *a); /* in the frame */

/* Room for n items: the caller's `few` where they suffice, else from the engine. */
static inline void *mx_room(mx_ctx *c, void *few, int n_few, int n, size_t item) {
  return n <= n_few ? few : mx_new(c, (size_t)n * item);
}
static inline void mx_room_free(mx_ctx *c, void *room, void *few, int n, size_t item) {
  if (room != few) mx_free(c->engine, room, (size_t)n * item);
}

#endif
