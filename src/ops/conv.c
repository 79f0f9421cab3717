/* conv.c: convolutions (cross-correlations, as everywhere in machine learning) in one to three spatial dimensions.
 *
 *     out[n, o, p] = sum over c, q of  x'[n, c, p * stride + q * k_dilation] k[o, c, q]
 *
 * where x' is x with x_dilation - 1 zeros between its elements and lo, hi zeros around it. Axis lists say where batch,
 * features and spatial axes lie. With feature groups, out features of group g see the in features of group g alone;
 * with batch groups, those of group g see the batch entries of group g, and the result's batch is one group long.
 *
 * Both transposes are convolutions again, with strides and a dilation exchanged; of the kernel's, feature groups become
 * batch groups and the other way round. So is the batched form: the mapped axis becomes part of a batch or feature
 * axis.
 */
#include "rules_impl.h"

/* -- the parts ----------------------------------------------------------------------------------------------------- */

typedef struct sizes {
  int spatial;
  int64_t batch, in, out, k_in; /* x's batch and features, k's out and in features */
  mx_slide slide[MX_MAX_SPATIAL];
} sizes;

static sizes sizes_of(const mx_params *p, const mx_aval *x, const mx_aval *k) {
  const mx_few *xa = &p->conv.x_axes, *ka = &p->conv.k_axes;
  sizes s = {.spatial = x->ndim - 2,
             .batch = x->shape[xa->v[0]],
             .in = x->shape[xa->v[1]],
             .out = k->shape[ka->v[0]],
             .k_in = k->shape[ka->v[1]]};
  for (int i = 0; i < s.spatial; i++)
    s.slide[i] = (mx_slide){.n = x->shape[xa->v[2 + i]],
                            .window = k->shape[ka->v[2 + i]],
                            .stride = p->conv.strides.v[i],
                            .lo = p->conv.lo.v[i],
                            .hi = p->conv.hi.v[i],
                            .x_dilation = p->conv.x_dilation.v[i],
                            .dilation = p->conv.k_dilation.v[i]};
  return s;
}

/* -- shape --------------------------------------------------------------------------------------------------------- */

static bool is_order(const mx_few *axes, int ndim) {
  unsigned seen = 0;
  if (axes->n != ndim) return false;
  for (int i = 0; i < ndim; i++)
    if (axes->v[i] >= 0 && axes->v[i] < ndim) seen |= 1u << axes->v[i];
  return seen == (1u << ndim) - 1;
}

static bool check_form(mx_ctx *c, const mx_op *o) {
  const mx_aval *x = o->in_aval[0], *k = o->in_aval[1];
  const mx_few *lists[] = {&o->p->conv.strides, &o->p->conv.lo, &o->p->conv.hi, &o->p->conv.x_dilation,
                           &o->p->conv.k_dilation};
  mx_text s, t;
  if (x->ndim != k->ndim || x->ndim < 3 || x->ndim > 2 + MX_MAX_SPATIAL)
    return mx_fail(c, MLAX_SHAPE, "x and the kernel need two axes and one to three spatial ones each (got %s and %s)",
                   mx_aval_text(&s, x), mx_aval_text(&t, k)),
           false;
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
    if (lists[i]->n != x->ndim - 2)
      return mx_fail(c, MLAX_SHAPE, "one number for each spatial axis is needed (got %d, need %d)", (int)lists[i]->n,
                     x->ndim - 2),
             false;
  if (!is_order(&o->p->conv.x_axes, x->ndim) || !is_order(&o->p->conv.k_axes, x->ndim) ||
      !is_order(&o->p->conv.out_axes, x->ndim))
    return mx_fail(c, MLAX_SHAPE, "dimension numbers must name each axis once"), false;
  return true;
}

static bool check_groups(mx_ctx *c, const mx_params *p, const sizes *s) {
  int64_t fg = p->conv.feature_groups, bg = p->conv.batch_groups;
  if (fg < 1 || bg < 1 || (fg > 1 && bg > 1))
    mx_fail(c, MLAX_SHAPE,
            "groups are at least 1, and either of features or of the batch (got feature_group_count %lld and "
            "batch_group_count %lld)",
            (long long)fg, (long long)bg);
  else if (s->in % fg || s->in / fg != s->k_in)
    mx_fail(c, MLAX_SHAPE,
            "the kernel's in features must be those of x divided by feature_group_count (got %lld, %lld and %lld)",
            (long long)s->k_in, (long long)s->in, (long long)fg);
  else if (s->out % fg)
    mx_fail(c, MLAX_SHAPE, "the kernel's out features must be a multiple of feature_group_count (got %lld and %lld)",
            (long long)s->out, (long long)fg);
  else if (s->out % bg)
    mx_fail(c, MLAX_SHAPE, "the kernel's out features must be a multiple of batch_group_count (got %lld and %lld)",
            (long long)s->out, (long long)bg);
  else if (s->batch % bg)
    mx_fail(c, MLAX_SHAPE, "the batch must be a multiple of batch_group_count (got %lld and %lld)", (long long)s->batch,
            (long long)bg);
  return !mx_failed(c);
}

static bool check_dtypes(mx_ctx *c, const mx_op *o) {
  int x = o->in_aval[0]->dtype, k = o->in_aval[1]->dtype;
  int64_t out = o->p->conv.dtype;
  if (x != k) return mx_fail(c, MLAX_SHAPE, "dtypes differ (got %s and %s)", mx_dtype_name(x), mx_dtype_name(k)), false;
  bool known = out >= 0 && out < MX_DTYPE_COUNT;
  if (!known || (mx_is_float(x) && !mx_is_float((int)out)) || (out == MLAX_BOOL && x != MLAX_BOOL))
    return mx_fail(c, MLAX_SHAPE, "products of %s cannot be added up in %s", mx_dtype_name(x),
                   known ? mx_dtype_name((int)out) : "that dtype"),
           false;
  return true;
}

static bool conv_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  int64_t shape[MX_MAX_FEW];
  if (!check_form(c, o) || !check_dtypes(c, o)) return false;
  const mx_few *at = &o->p->conv.out_axes;
  sizes s = sizes_of(o->p, o->in_aval[0], o->in_aval[1]);
  if (!check_groups(c, o->p, &s)) return false;
  shape[at->v[0]] = s.batch / o->p->conv.batch_groups;
  shape[at->v[1]] = s.out;
  for (int i = 0; i < s.spatial; i++)
    if (!mx_slide_count(c, &s.slide[i], (int)o->p->conv.x_axes.v[2 + i], &shape[at->v[2 + i]])) return false;
  return mx_aval_make(c, out, (int)o->p->conv.dtype, s.spatial + 2, shape);
}

/* -- axes as groups ------------------------------------------------------------------------------------------------ */

/* x {m, ..., g r, ...} -> {..., g m r, ...}: axis 0 goes into `axis` (counted without it), behind its g groups. */
static mx_array *fold(mx_ctx *c, mx_array *x, int64_t axis, int64_t groups) {
  if (!x) return NULL;
  int at = (int)axis + 1;
  mx_dims shape = mx_dims_shape(&x->aval);
  int64_t m = shape.v[0], n = shape.v[at];
  shape.v[at] = n / groups;
  shape = mx_dims_insert(&shape, at, groups);
  x = mx_move_axis(c, mx_reshape(c, x, &shape), 0, at);
  shape = mx_dims_remove(&shape, 0);
  shape = mx_dims_remove(&shape, at - 1);
  shape.v[at - 1] = m * n;
  return mx_reshape(c, x, &shape);
}

/* The way back: {..., g m r, ...} -> {m, ..., g r, ...}. */
static mx_array *unfold(mx_ctx *c, mx_array *x, int64_t axis, int64_t groups, int64_t m) {
  if (!x) return NULL;
  int at = (int)axis;
  mx_dims shape = mx_dims_shape(&x->aval), whole = shape;
  int64_t rest = shape.v[at] / m / groups;
  shape.v[at] = rest;
  shape = mx_dims_insert(&shape, at, m);
  shape = mx_dims_insert(&shape, at, groups);
  whole.v[at] = groups * rest;
  whole = mx_dims_insert(&whole, 0, m);
  return mx_reshape(c, mx_move_axis(c, mx_reshape(c, x, &shape), at + 1, 0), &whole);
}

/* -- rules --------------------------------------------------------------------------------------------------------- */

/* d (x * k) = dx * k + x * dk */
static mx_array *conv_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  mx_array *in[2] = {o->in[0], o->in[1]};
  in[i] = g;
  return mx_bind1(c, o->prim, o->p, in, 2);
}

static mx_few exchanged(mx_few axes) {
  int64_t t = axes.v[0];
  axes.v[0] = axes.v[1], axes.v[1] = t;
  return axes;
}

static mx_dims spatial_axes(const mx_few *axes) {
  mx_dims d = {.n = axes->n - 2};
  for (int i = 0; i < d.n; i++) d.v[i] = axes->v[2 + i];
  return d;
}

/* k {.., g o, .., i, ..} -> {.., o, .., g i, ..}: the groups go from the out features to the in features. */
static mx_array *groups_to_in(mx_ctx *c, mx_array *k, const mx_few *axes, int64_t groups) {
  return groups == 1 ? k : fold(c, unfold(c, k, axes->v[0], 1, groups), axes->v[1], 1);
}

/* dx = ct * k turned round, x's holes and the strides exchanged. Batch groups of x are feature groups of ct. */
static mx_array *conv_transpose_x(mx_ctx *c, const mx_op *o, mx_array *ct) {
  const mx_params *p = o->p;
  const mx_aval *x = o->in_aval[0];
  sizes s = sizes_of(p, x, o->in_aval[1]);
  int64_t fg = p->conv.feature_groups, bg = p->conv.batch_groups;
  mx_params t = *p;
  t.conv.strides = p->conv.x_dilation;
  t.conv.x_dilation = p->conv.strides;
  t.conv.x_axes = p->conv.out_axes;
  t.conv.k_axes = exchanged(p->conv.k_axes);
  t.conv.out_axes = p->conv.x_axes;
  t.conv.feature_groups = fg * bg; /* one of them is 1 */
  t.conv.batch_groups = 1;
  t.conv.dtype = -1;
  for (int i = 0; i < s.spatial; i++)
    mx_slide_turn(&s.slide[i], ct->aval.shape[p->conv.out_axes.v[2 + i]], &t.conv.lo.v[i], &t.conv.hi.v[i]);
  mx_dims turned = spatial_axes(&p->conv.k_axes);
  mx_array *k = groups_to_in(c, mx_reverse(c, o->in[1], &turned), &p->conv.k_axes, fg * bg);
  mx_array *r = mx_conv(c, ct, k, &t);
  if (bg > 1) r = fold(c, unfold(c, r, p->conv.x_axes.v[1], 1, bg), p->conv.x_axes.v[0], 1);
  return mx_convert(c, r, x->dtype);
}

/* dk = x * ct, batch and features exchanged: their groups, too. */
static mx_array *conv_transpose_k(mx_ctx *c, const mx_op *o, mx_array *ct) {
  const mx_params *p = o->p;
  const mx_aval *k = o->in_aval[1];
  sizes s = sizes_of(p, o->in_aval[0], k);
  mx_params t = *p;
  t.conv.strides = p->conv.k_dilation;
  t.conv.k_dilation = p->conv.strides;
  t.conv.x_axes = exchanged(p->conv.x_axes);
  t.conv.k_axes = exchanged(p->conv.out_axes);
  t.conv.out_axes = exchanged(p->conv.k_axes);
  t.conv.feature_groups = p->conv.batch_groups;
  t.conv.batch_groups = p->conv.feature_groups;
  t.conv.dtype = -1;
  for (int i = 0; i < s.spatial; i++) {
    int64_t lo,
        hi; /* x is padded until the result is as long as the kernel: by as much as where x is the transposed one */
    mx_slide_turn(&s.slide[i], ct->aval.shape[p->conv.out_axes.v[2 + i]], &lo, &hi);
    t.conv.hi.v[i] = -hi + (s.slide[i].window - 1) * s.slide[i].dilation;
  }
  return mx_convert(c, mx_conv(c, o->in[0], ct, &t), k->dtype);
}

static mx_array *conv_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  if (!ct[0] || ct[0]->aval.size == 0 || o->in_aval[0]->size == 0 || o->in_aval[1]->size == 0) return NULL;
  return i == 0 ? conv_transpose_x(c, o, ct[0]) : conv_transpose_k(c, o, ct[0]);
}

/* No example: zeros of the shape that there would be. */
static bool batch_of_none(mx_ctx *c, const mx_op *o, const int *axes, mx_array **out, int *out_axes) {
  mx_aval one[2], shape;
  const mx_aval *avals[2] = {&one[0], &one[1]};
  for (int i = 0; i < 2; i++) {
    mx_dims d = mx_dims_shape(&o->in[i]->aval);
    if (axes[i] >= 0) d = mx_dims_remove(&d, axes[i]);
    if (!mx_aval_make(c, &one[i], o->in[i]->aval.dtype, (int)d.n, d.v)) return false;
  }
  mx_op example = {.prim = o->prim, .p = o->p, .n_in = 2, .n_out = 1, .in_aval = avals};
  if (!conv_shape(c, &example, &shape)) return false;
  mx_dims none = mx_dims_shape(&shape);
  none = mx_dims_insert(&none, 0, 0);
  out_axes[0] = 0;
  out[0] = mx_full(c, shape.dtype, &none, 0);
  return out[0] != NULL;
}

/* x and k mapped: more groups. x alone: more batch; k alone: more out features; in each group where there are groups.
 */
static bool conv_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_params p = *o->p;
  int64_t fg = p.conv.feature_groups, bg = p.conv.batch_groups;
  int64_t x_batch = p.conv.x_axes.v[0], x_feature = p.conv.x_axes.v[1], k_out = p.conv.k_axes.v[0];
  int64_t result = p.conv.out_axes.v[1], groups = 1;
  mx_array *in[2] = {o->in[0], o->in[1]};
  if (size == 0) return batch_of_none(c, o, axes, out, out_axes);
  for (int i = 0; i < 2; i++)
    if (axes[i] >= 0) in[i] = mx_batch_front(c, in[i], axes[i], size);
  if (axes[0] >= 0 && axes[1] >= 0) {
    *(bg > 1 ? &p.conv.batch_groups : &p.conv.feature_groups) *= size;
    in[0] = fold(c, in[0], bg > 1 ? x_batch : x_feature, 1);
    in[1] = fold(c, in[1], k_out, 1);
  } else if (axes[0] >= 0) {
    in[0] = fold(c, in[0], x_batch, bg);
    result = p.conv.out_axes.v[0];
  } else {
    groups = fg * bg;
    in[1] = fold(c, in[1], k_out, groups);
  }
  out_axes[0] = 0;
  out[0] = unfold(c, mx_bind1(c, o->prim, &p, in, 2), result, groups, size);
  return out[0] != NULL;
}

/* A product and a sum for each element of the result and each of the kernel that it sees. */
static double conv_flops(const mx_op *o) {
  const mx_aval *k = o->in_aval[1];
  int64_t outs = k->shape[o->p->conv.k_axes.v[0]];
  return outs ? 2.0 * (double)o->out_aval->size * (double)(k->size / outs) : 0;
}

#define CONV_FIELD(name, kind)                                                                                         \
  { #name, kind, offsetof(mx_params, conv.name) }
static const mx_field conv_fields[] = {CONV_FIELD(strides, MX_FIELD_DIMS),
                                       CONV_FIELD(lo, MX_FIELD_DIMS),
                                       CONV_FIELD(hi, MX_FIELD_DIMS),
                                       CONV_FIELD(x_dilation, MX_FIELD_DIMS),
                                       CONV_FIELD(k_dilation, MX_FIELD_DIMS),
                                       CONV_FIELD(x_axes, MX_FIELD_DIMS),
                                       CONV_FIELD(k_axes, MX_FIELD_DIMS),
                                       CONV_FIELD(out_axes, MX_FIELD_DIMS),
                                       CONV_FIELD(feature_groups, MX_FIELD_INT),
                                       CONV_FIELD(batch_groups, MX_FIELD_INT),
                                       CONV_FIELD(dtype, MX_FIELD_DTYPE),
                                       {0}};

const mx_primitive mx_prim_conv = {.name = "conv",
                                   .id = MX_PRIM_conv,
                                   .n_out = 1,
                                   .params_size = sizeof(((mx_params *)0)->conv),
                                   .fields = conv_fields,
                                   .shape = conv_shape,
                                   .d = conv_d,
                                   .transpose = conv_transpose,
                                   .batch = conv_batch,
                                   .flops = conv_flops};

mx_array *mx_conv(mx_ctx *c, mx_array *x, mx_array *k, const mx_params *p) {
  bool weak;
  if (!x || !k) return NULL;
  mx_params q = *p;
  int common = mx_dtype_promote(x->aval.dtype, x->aval.weak, k->aval.dtype, k->aval.weak, &weak);
  if (q.conv.dtype < 0) q.conv.dtype = common;
  return mx_bind1(c, &mx_prim_conv, &q, (mx_array *[]){mx_convert(c, x, common), mx_convert(c, k, common)}, 2);
}
