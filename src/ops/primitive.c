/* primitive.c: the table of primitives, and what rules of several families use. */
#include "rules_impl.h"

#include <stddef.h>

const mx_primitive *const mx_primitives[MX_PRIM_COUNT] = {
#define MX_PRIMITIVE(name, family) [MX_PRIM_##name] = &mx_prim_##name,
#include "primitives.def"
};

const mx_field mx_fields_none[] = {{0}};
const mx_field mx_fields_axes[] = {{"axes", MX_FIELD_DIMS, offsetof(mx_params, axes.axes)}, {0}};
const mx_field mx_fields_axis[] = {{"axis", MX_FIELD_INT, offsetof(mx_params, axis.axis)},
                                   {"reverse", MX_FIELD_FLAG, offsetof(mx_params, axis.reverse)},
                                   {0}};
const mx_field mx_fields_shape[] = {{"shape", MX_FIELD_DIMS, offsetof(mx_params, shape.shape)}, {0}};

void *mx_no_rule(mx_ctx *c, const mx_primitive *p, const char *transformation) {
  return mx_fail(c, MLAX_UNSUPPORTED, "the %s of %s is not defined", transformation, p->name);
}

/* -- dims ---------------------------------------------------------------------------------------------------------- */

mx_dims mx_dims_of(int n, const int64_t *v) {
  mx_dims d = {.n = n};
  for (int i = 0; i < n; i++) d.v[i] = v[i];
  return d;
}

mx_dims mx_dims_shape(const mx_aval *a) { return mx_dims_of(a->ndim, a->shape); }

bool mx_dims_has(const mx_dims *d, int64_t v) {
  for (int64_t i = 0; i < d->n; i++)
    if (d->v[i] == v) return true;
  return false;
}

mx_dims mx_dims_range(int n) {
  mx_dims d = {.n = n};
  for (int i = 0; i < n; i++) d.v[i] = i;
  return d;
}

/* The caller has seen to it that there is room; one too many is left out, and the shape rule then finds the rank wrong.
 */
mx_dims mx_dims_insert(const mx_dims *d, int at, int64_t v) {
  mx_dims r = {.n = 0};
  for (int64_t i = 0; i <= d->n && r.n < MX_MAX_NDIM; i++) {
    if (i == at) r.v[r.n++] = v;
    if (i < d->n && r.n < MX_MAX_NDIM) r.v[r.n++] = d->v[i];
  }
  return r;
}

mx_dims mx_dims_remove(const mx_dims *d, int at) {
  mx_dims r = {.n = 0};
  for (int64_t i = 0; i < d->n; i++)
    if (i != at) r.v[r.n++] = d->v[i];
  return r;
}

/* -- scalars ------------------------------------------------------------------------------------------------------- */

mx_array *mx_scalar(mx_ctx *c, int dtype, double v) { return mx_keep(c, mx_array_of_double(c, dtype, v)); }
mx_array *mx_scalar_int(mx_ctx *c, int dtype, int64_t v) { return mx_keep(c, mx_array_of_int(c, dtype, v)); }

mx_array *mx_like(mx_ctx *c, mx_array *x, double v) {
  mx_array *s = x ? mx_scalar(c, x->aval.dtype, v) : NULL;
  if (s) s->aval.weak = x->aval.weak;
  return s;
}

mx_array *mx_muls(mx_ctx *c, mx_array *x, double v) { return mx_mul(c, x, mx_like(c, x, v)); }
mx_array *mx_adds(mx_ctx *c, mx_array *x, double v) { return mx_add(c, x, mx_like(c, x, v)); }

/* -- pieces of rules ----------------------------------------------------------------------------------------------- */

mx_array *mx_batch_front(mx_ctx *c, mx_array *x, int axis, int64_t size) {
  if (!x || axis == 0) return x;
  if (axis > 0) return mx_move_axis(c, x, axis, 0);
  mx_dims shape = mx_dims_shape(&x->aval);
  if (shape.n == MX_MAX_NDIM)
    return mx_fail(c, MLAX_SHAPE, "a mapped axis makes too many axes (got %d, need at most %d)", MX_MAX_NDIM + 1,
                   MX_MAX_NDIM);
  shape = mx_dims_insert(&shape, 0, size);
  return mx_broadcast(c, x, &shape);
}

mx_array *mx_d_linear(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  (void)i;
  return mx_bind1(c, o->prim, o->p, &g, 1);
}
