/* collective.c: operations over a named axis. mx_bind sends them to the vmap of that name (batch.c), whatever they are
 * given; the batch rules here say what the sum over the axis, ... is. Under another vmap the mapped axis stays where it
 * is. */
#include "control_impl.h"

static bool same_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  (void)c;
  *out = *o->in_aval[0];
  out->weak = false;
  return true;
}

static bool gather_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  return mx_aval_stack(c, o->in_aval[0], o->p->axis_name.size, out);
}

static bool index_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  (void)o;
  return mx_aval_make(c, out, MLAX_INT32, 0, NULL);
}

static mx_array *again(mx_ctx *c, const mx_op *o, mx_array *x) { return mx_bind1(c, o->prim, o->p, &x, 1); }

/* -- derivatives: psum is its own transpose, as in JAX ------------------------------------------------------------- */

static mx_array *linear_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  (void)i;
  return again(c, o, g);
}

static mx_array *psum_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  (void)i;
  return again(c, o, ct[0]);
}

/* Shared equally among ties, like max over an axis. */
static mx_array *extreme_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  mx_params p = *o->p;
  (void)i;
  mx_array *at = mx_convert(c, mx_eq(c, o->in[0], o->out[0]), g->aval.dtype), *sum[2] = {mx_mul(c, g, at), at};
  for (int k = 0; k < 2; k++) sum[k] = mx_bind1(c, &mx_prim_psum, &p, &sum[k], 1);
  return mx_div(c, sum[0], sum[1]);
}

/* Each takes its row of what all sent. */
static mx_array *gather_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  mx_array *sum = mx_bind1(c, &mx_prim_psum, o->p, ct, 1), *row = mx_bind1(c, &mx_prim_axis_index, o->p, NULL, 0);
  mx_dims axes = {1, {0}};
  (void)i;
  return mx_gather(c, sum, &row, 1, &axes, false);
}

static mx_array *permute_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  const mx_pairs *from = o->p->axis_name.pairs;
  mx_params p = *o->p;
  (void)i;
  p.axis_name.pairs = mx_pairs_new(c, from->n);
  if (!p.axis_name.pairs) return NULL;
  for (int k = 0; k < from->n; k++)
    p.axis_name.pairs->v[k][0] = from->v[k][1], p.axis_name.pairs->v[k][1] = from->v[k][0];
  mx_array *g = mx_bind1(c, &mx_prim_ppermute, &p, ct, 1);
  mx_pairs_release(p.axis_name.pairs);
  return g;
}

/* -- the vmap that has the name ------------------------------------------------------------------------------------ */

static mx_array *permuted(mx_ctx *c, const mx_pairs *pairs, mx_array *x) { /* x: mapped axis first */
  mx_aval a;
  if (!mx_aval_make(c, &a, MLAX_INT32, 1, (int64_t[]){pairs->n})) return NULL;
  mx_array *from = mx_keep(c, mx_array_new(c, &a)), *to = mx_keep(c, mx_array_new(c, &a));
  if (!from || !to) return NULL;
  for (int k = 0; k < pairs->n; k++) {
    ((int32_t *)mx_data(from))[k] = (int32_t)pairs->v[k][0];
    ((int32_t *)mx_data(to))[k] = (int32_t)pairs->v[k][1];
  }
  mx_dims axes = {1, {0}};
  return mx_scatter(c, &mx_prim_scatter, mx_zeros(c, &x->aval), mx_gather(c, x, &from, 1, &axes, false), &to, 1, &axes);
}

/* x: the whole value with its mapped axis first. Results that all examples share are not mapped. */
static mx_array *resolve(mx_ctx *c, const mx_op *o, mx_array *x, int64_t size, int *axis) {
  mx_dims first = {1, {0}};
  *axis = -1;
  switch (o->prim->id) {
  case MX_PRIM_psum: return mx_convert(c, mx_sum(c, x, &first, false), x->aval.dtype);
  case MX_PRIM_pmax: return mx_max(c, x, &first, false);
  case MX_PRIM_pmin: return mx_min(c, x, &first, false);
  case MX_PRIM_all_gather: return x;
  case MX_PRIM_ppermute: *axis = 0; return permuted(c, o->p->axis_name.pairs, x);
  default: *axis = 0; return mx_iota(c, MLAX_INT32, &(mx_dims){1, {size}}, 0);
  }
}

/* c->batching is the name of the vmap whose rule this is. */
static bool collective_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  if (c->batching && strcmp(c->batching, o->p->axis_name.name) == 0) {
    mx_array *x = o->n_in ? mx_batch_to_front(c, o->in[0], axes[0], size) : NULL;
    if (o->n_in && !x) return false;
    out[0] = resolve(c, o, x, size, &out_axes[0]);
  } else {
    out[0] = mx_bind1(c, o->prim, o->p, o->in, o->n_in);
    out_axes[0] = axes[0] + (o->prim->id == MX_PRIM_all_gather);
  }
  return out[0] != NULL;
}

static const mx_field axis_fields[] = {{"axis_name", MX_FIELD_NAME, offsetof(mx_params, axis_name.name)},
                                       {"axis_size", MX_FIELD_INT, offsetof(mx_params, axis_name.size)},
                                       {NULL, MX_FIELD_END, 0}};

#define COLLECTIVE(NAME, ...)                                                                                          \
  const mx_primitive mx_prim_##NAME = {.name = #NAME,                                                                  \
                                       .id = MX_PRIM_##NAME,                                                           \
                                       .n_out = 1,                                                                     \
                                       .params_size = sizeof((mx_params *)0)->axis_name,                               \
                                       .fields = axis_fields,                                                          \
                                       .batch = collective_batch,                                                      \
                                       __VA_ARGS__}

COLLECTIVE(psum, .shape = same_shape, .linear = true, .d = linear_d, .transpose = psum_transpose);
COLLECTIVE(pmax, .shape = same_shape, .d = extreme_d);
COLLECTIVE(pmin, .shape = same_shape, .d = extreme_d);
COLLECTIVE(all_gather, .shape = gather_shape, .linear = true, .d = linear_d, .transpose = gather_transpose);
COLLECTIVE(ppermute, .shape = same_shape, .linear = true, .d = linear_d, .transpose = permute_transpose);
COLLECTIVE(axis_index, .shape = index_shape);
