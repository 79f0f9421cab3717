/* index_impl.h: what the batch rules of index, sort and random share. */
#ifndef MX_INDEX_IMPL_H
#define MX_INDEX_IMPL_H

#include "rules_impl.h"

/* A mapped operand with its mapped axis in front and then as many axes of length 1 that it has 1 + ndim axes: so
 * operands that broadcast against each other still do. Others are returned as they are. */
mx_array *mx_batch_align(mx_ctx *c, mx_array *x, int axis, int ndim);
/* The greatest number of axes of the operands from `first` on, the mapped ones not counted; *mapped: whether any is
 * mapped. */
int mx_batch_ndim(const mx_op *o, int first, const int *axes, bool *mapped);
/* The batch rule of a primitive whose operands broadcast against each other and whose results have the broadcast shape.
 */
bool mx_batch_broadcasting(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes);
/* Counts 0 .. size-1 along the first of ndim axes, the others of length 1; int64 where int32 is too narrow. */
mx_array *mx_iota_column(mx_ctx *c, int64_t size, int ndim);
double mx_flops_none(const mx_op *o); /* 0: the primitive only moves or compares */

#endif
