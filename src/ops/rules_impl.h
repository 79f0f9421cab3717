/* rules_impl.h: what the family files in ops/ share. */
#ifndef MX_RULES_IMPL_H
#define MX_RULES_IMPL_H

#include "ops.h"

/* batch rules: x's mapped axis moved to the front (repeated there where axis is -1 and `force`). */
mx_array *mx_batch_front(mx_ctx *c, mx_array *x, int axis, int64_t size);

/* jvp, transpose and batch pieces that many primitives share */
mx_array *mx_d_linear(mx_ctx *c, const mx_op *o, int i,
                      mx_array *g); /* the primitive itself applied to the tangent (one operand) */

/* For each element along the last axis: the product of the others there (reduce.c). */
mx_array *mx_product_of_others(mx_ctx *c, mx_array *x);

/* One axis on which a window slides (window.c): lengths of the axis and the window, and how it goes. */
typedef struct mx_slide {
  int64_t n, window, stride, lo, hi, x_dilation, dilation;
} mx_slide;
/* How many places the window has: 0 where it does not fit. Fails on strides and dilations below 1, on padding that cuts
 * more than there is, and where lengths overflow. i: the axis, for the message. */
bool mx_slide_count(mx_ctx *c, const mx_slide *s, int i, int64_t *count);
/* The padding with which the transpose slides over the `out` places: strides and x_dilation exchange their roles. */
void mx_slide_turn(const mx_slide *s, int64_t out, int64_t *lo, int64_t *hi);

/* schemas of params used by several families */
extern const mx_field mx_fields_none[], mx_fields_axes[], mx_fields_axis[], mx_fields_shape[];

#endif
