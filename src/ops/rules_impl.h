/* rules_impl.h: what the family files in ops/ share. */
#ifndef MX_RULES_IMPL_H
#define MX_RULES_IMPL_H

#include "ops.h"

/* batch rules: x's mapped axis moved to the front (repeated there where axis is -1 and `force`). */
mx_array *mx_batch_front(mx_ctx *c, mx_array *x, int axis, int64_t size);

/* jvp, transpose and batch pieces that many primitives share */
mx_array *mx_d_linear(mx_ctx *c, const mx_op *o, int i, mx_array *g); /* the primitive itself applied to the tangent (one operand) */

/* schemas of params used by several families */
extern const mx_field mx_fields_none[], mx_fields_axes[], mx_fields_axis[], mx_fields_shape[];

#endif
