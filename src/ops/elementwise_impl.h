/* elementwise_impl.h: what elementwise.c, elementwise_rules.c and convert.c share. */
#ifndef MX_ELEMENTWISE_IMPL_H
#define MX_ELEMENTWISE_IMPL_H

#include "rules_impl.h"

#define MX_MAX_ELEMENTWISE 3 /* operands: select has three */

typedef enum { MX_DOMAIN_ANY, MX_DOMAIN_NUM, MX_DOMAIN_FLT, MX_DOMAIN_INT } mx_domain; /* see primitives.def */

bool mx_elementwise_shape(mx_ctx *c, const mx_op *o, mx_aval *out, mx_domain domain, bool to_bool);
bool mx_batch_elementwise(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes);
double mx_elementwise_flops(const mx_op *o);
/* Broadcasts out's shape with x's. */
bool mx_broadcast_operand(mx_ctx *c, const mx_aval *x, mx_aval *out);
/* x in the dtype that promotion chose; a weak value stays weak. */
mx_array *mx_promote_to(mx_ctx *c, mx_array *x, int dtype);

#endif
