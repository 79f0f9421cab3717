/* layout.c: convolutions with channels first compute with channels last.
 *
 *     y = conv[NCHW] x k                          a = transpose[NHWC] x       a view; the kernel copies it once
 *     z = add y b                                 c = conv[NHWC] a k
 *     s = reduce_sum[axes=(2,3)] z        -->     d = add c b'                b' = b with its axes turned as well
 *     w = conv[NCHW] z l                          s = reduce_sum[axes=(1,2)] d
 *                                                 e = conv[NHWC] d l          z = transpose[NCHW] d, if it is read
 *
 * The loops for convolutions take features for columns (device/cpu/conv_layout.c). So each is written with features
 * last, between transpositions; and what works on a transposed result of a convolution, element by element or along
 * axes, works on the result itself and is transposed after it, until two transpositions meet and cancel each other.
 * Bits stay, but where a sum is taken in another order. (As layout assignment in XLA, Relay and nGraph.) */
#include "optimize_impl.h"

#include "../device/code.h"

enum {
  LEAST = 4096,      /* elements of an array that is turned, */
  LEAST_PLACES = 16, /* and its places */
  FEW = 8,           /* times as many as another operand has that is turned along */
  VISITS = 32,       /* equations that are looked at between a result and its convolution */
  MOST = 16          /* operands */
};

/* n c h w -> n h w c: where each axis comes from; and back. */
static mx_params to_last(int n) {
  mx_params p = {.axes = {.axes = {.n = n}}};
  for (int i = 1; i < n - 1; i++) p.axes.axes.v[i] = i + 1;
  p.axes.axes.v[n - 1] = 1;
  return p;
}

static int64_t axis_in_last(int64_t axis, int n) { return axis == 0 ? 0 : axis == 1 ? n - 1 : axis - 1; }

/* Lengths by axis. */
static void dims_to_last(mx_dims *d) {
  mx_dims from = *d;
  for (int i = 0; i < from.n; i++) d->v[axis_in_last(i, (int)from.n)] = from.v[i];
}

static mx_params to_first(int n) {
  mx_params p = {.axes = {.axes = {.n = n}}};
  for (int i = 1; i < n; i++) p.axes.axes.v[i] = axis_in_last(i, n);
  return p;
}

static bool answer(int32_t *out, int32_t v) { return out[0] = v, true; }

static int32_t turn(mx_rewrite *r, int32_t v, mx_params p, uint32_t site) {
  return v < 0 ? -1 : mx_rewrite_make(r, &mx_prim_transpose, &p, &v, 1, site);
}

/* -- convolutions -------------------------------------------------------------------------------------------------- */

/* Whether the array has channels first, and places that are worth it. */
static bool is_first(const mx_aval *a, const mx_few *axes) {
  if (axes->v[0] + axes->v[1] != 1 || a->size < LEAST || a->shape[1] < 2) return false;
  return a->size / (a->shape[0] * a->shape[1]) >= LEAST_PLACES;
}

static void axes_to_last(mx_few *axes) {
  for (int i = 0; i < axes->n; i++) axes->v[i] = axis_in_last(axes->v[i], (int)axes->n);
}

static bool turn_conv(mx_rewrite *r, const mx_node *n, int32_t *out) {
  mx_params p = *n->op.p;
  mx_few *axes[3] = {&p.conv.x_axes, &p.conv.k_axes, &p.conv.out_axes};
  int32_t in[2] = {n->in[0], n->in[1]};
  int ndim = n->op.out_aval->ndim;
  bool result = is_first(n->op.out_aval, axes[2]), any = result;
  for (int k = 0; k < 2; k++) {
    if (!is_first(mx_aval_at(r, in[k]), axes[k])) continue;
    in[k] = turn(r, in[k], to_last(ndim), n->site);
    axes_to_last(axes[k]);
    any = true;
  }
  if (!any) return false;
  if (result) axes_to_last(axes[2]);
  int32_t y = mx_rewrite_make(r, &mx_prim_conv, &p, in, 2, n->site);
  return answer(out, result ? turn(r, y, to_first(ndim), n->site) : y);
}

/* -- what works on their results ----------------------------------------------------------------------------------- */

/* What works along axes: its result is made of the first operand, place by place. */
static bool is_along_axes(const mx_primitive *prim) {
  switch (prim->id) {
  case MX_PRIM_pad:
  case MX_PRIM_slice:
  case MX_PRIM_concat:
  case MX_PRIM_reverse:
  case MX_PRIM_reduce_window_sum:
  case MX_PRIM_reduce_window_prod:
  case MX_PRIM_reduce_window_max:
  case MX_PRIM_reduce_window_min:
  case MX_PRIM_select_and_gather:
  case MX_PRIM_select_and_scatter_add: return true;
  default: return false;
  }
}

/* Whether v is a convolution's result, or made of one; so many equations are looked at. */
static bool leads_to_conv(const mx_rewrite *r, int32_t v, int *visits) {
  const mx_eqn *e = mx_maker(r, v);
  if (!e || --*visits < 0) return false;
  if (e->prim->id == MX_PRIM_conv) return true;
  if (is_along_axes(e->prim)) return leads_to_conv(r, e->in[0], visits);
  bool found = false;
  for (int k = 0; mx_cpu_is_elementwise(e->prim) && k < e->n_in && !found; k++)
    found = mx_aval_at(r, e->in[k])->size == mx_aval_at(r, v)->size && leads_to_conv(r, e->in[k], visits);
  return found;
}

static bool is_of_conv(const mx_rewrite *r, int32_t v) {
  int visits = VISITS;
  return leads_to_conv(r, v, &visits);
}

/* What v is the transposition of, with channels last; -1: that is not how it was made. */
static int32_t untwisted(const mx_rewrite *r, int32_t v) {
  const mx_eqn *e = mx_made_by(r, v, MX_PRIM_transpose);
  int n = mx_aval_at(r, v)->ndim;
  if (!e || n < 3) return -1;
  for (int i = 0; i < n; i++)
    if (e->params->axes.axes.v[i] != axis_in_last(i, n)) return -1;
  return is_of_conv(r, e->in[0]) ? e->in[0] : -1;
}

/* A small operand that is broadcast, turned along. */
static int32_t turn_small(mx_rewrite *r, int32_t v, int ndim, uint32_t site) {
  const mx_aval *a = mx_aval_at(r, v);
  if (a->ndim == 0) return v;
  mx_params shape = {.shape = {.shape = {.n = ndim}}};
  for (int i = 0; i < ndim; i++) shape.shape.shape.v[i] = i < ndim - a->ndim ? 1 : a->shape[i - (ndim - a->ndim)];
  if (a->ndim < ndim) v = mx_rewrite_make(r, &mx_prim_reshape, &shape, &v, 1, site);
  return turn(r, v, to_last(ndim), site);
}

/* An operand that is repeated explicitly: what of; -1: it is not. */
static int32_t repeated(const mx_rewrite *r, int32_t v) {
  const mx_eqn *e = mx_made_by(r, v, MX_PRIM_broadcast);
  return e && mx_aval_at(r, e->in[0])->size * FEW <= mx_aval_at(r, v)->size ? e->in[0] : -1;
}

static int32_t turn_operand(mx_rewrite *r, int32_t v, int ndim, uint32_t site) {
  int32_t x = repeated(r, v);
  if (x < 0) return turn_small(r, v, ndim, site);
  mx_params shape = {.shape = {mx_dims_shape(mx_aval_at(r, v))}};
  dims_to_last(&shape.shape.shape);
  x = turn_small(r, x, ndim, site);
  return x < 0 ? -1 : mx_rewrite_make(r, &mx_prim_broadcast, &shape, &x, 1, site);
}

/* Operands with channels last: each is the transposition of one, or small, or repeated, and then turned along. False:
 * they are not. */
static bool untwist_all(mx_rewrite *r, const mx_node *n, int32_t *in) {
  int ndim = n->op.out_aval->ndim;
  bool any = false;
  if (n->op.n_in > MOST) return false;
  for (int k = 0; k < n->op.n_in; k++) {
    const mx_aval *a = mx_aval_at(r, n->in[k]);
    bool whole = mx_shape_equal(a, n->op.out_aval), small = a->size * FEW <= n->op.out_aval->size;
    in[k] = whole ? untwisted(r, n->in[k]) : -1;
    any |= in[k] >= 0;
    if (in[k] < 0 && !small && !(whole && repeated(r, n->in[k]) >= 0)) return false;
  }
  for (int k = 0; any && k < n->op.n_in; k++)
    if (in[k] < 0) in[k] = turn_operand(r, n->in[k], ndim, n->site);
  return any;
}

static bool turn_elementwise(mx_rewrite *r, const mx_node *n, int32_t *out) {
  int32_t in[MOST];
  if (!untwist_all(r, n, in)) return false;
  int32_t y = mx_rewrite_make(r, n->op.prim, n->op.p, in, n->op.n_in, n->site);
  return answer(out, turn(r, y, to_first(n->op.out_aval->ndim), n->site));
}

/* A sum over axes: what it leaves may have to be put in order. */
static bool turn_fold(mx_rewrite *r, const mx_node *n, int32_t *out) {
  int32_t x = untwisted(r, n->in[0]);
  if (x < 0) return false;
  int ndim = mx_aval_at(r, x)->ndim;
  mx_params fold = {.axes = {.axes = {0}}}, order = {.axes = {.axes = {0}}}, named = to_last(ndim);
  int place[MX_MAX_NDIM], left = 0;
  bool in_order = true;
  for (int i = 0; i < ndim; i++) { /* axes of x, as they are named first */
    int64_t first = named.axes.axes.v[i];
    bool folded = mx_dims_has(&n->op.p->axes.axes, first);
    if (folded) fold.axes.axes.v[fold.axes.axes.n++] = i;
    else place[first] = left++;
  }
  for (int i = 0; i < ndim; i++) {
    if (mx_dims_has(&n->op.p->axes.axes, i)) continue;
    in_order &= place[i] == order.axes.axes.n;
    order.axes.axes.v[order.axes.axes.n++] = place[i];
  }
  int32_t y = mx_rewrite_make(r, n->op.prim, &fold, &x, 1, n->site);
  return answer(out, in_order ? y : turn(r, y, order, n->site));
}

/* The params of what works along axes, for channels last. */
static mx_params params_to_last(const mx_node *n) {
  mx_params p = *n->op.p;
  int ndim = n->op.out_aval->ndim;
  switch (n->op.prim->id) {
  case MX_PRIM_pad: dims_to_last(&p.pad.lo), dims_to_last(&p.pad.hi), dims_to_last(&p.pad.interior); break;
  case MX_PRIM_slice: dims_to_last(&p.slice.start), dims_to_last(&p.slice.limit), dims_to_last(&p.slice.step); break;
  case MX_PRIM_concat: p.axis.axis = axis_in_last(p.axis.axis, ndim); break;
  case MX_PRIM_reverse:
    for (int i = 0; i < p.axes.axes.n; i++) p.axes.axes.v[i] = axis_in_last(p.axes.axes.v[i], ndim);
    break;
  default:
    dims_to_last(&p.window.window), dims_to_last(&p.window.strides), dims_to_last(&p.window.lo);
    dims_to_last(&p.window.hi), dims_to_last(&p.window.x_dilation), dims_to_last(&p.window.dilation);
  }
  return p;
}

/* The first extreme of a window over several channels is another one when they come last. */
static bool asks_for_first(const mx_node *n) {
  bool selects = n->op.prim->id == MX_PRIM_select_and_gather || n->op.prim->id == MX_PRIM_select_and_scatter_add;
  return selects && n->op.p->window.window.v[1] != 1;
}

/* Along axes: all operands are transpositions, but for the number with which is padded. */
static bool turn_along_axes(mx_rewrite *r, const mx_node *n, int32_t *out) {
  int32_t in[MOST];
  if (n->op.n_in > MOST || asks_for_first(n)) return false;
  for (int k = 0; k < n->op.n_in; k++) {
    bool number = n->op.prim->id == MX_PRIM_pad && k == 1;
    in[k] = number ? n->in[k] : untwisted(r, n->in[k]);
    if (in[k] < 0) return false;
  }
  mx_params p = params_to_last(n);
  int32_t y = mx_rewrite_make(r, n->op.prim, &p, in, n->op.n_in, n->site);
  return answer(out, turn(r, y, to_first(n->op.out_aval->ndim), n->site));
}

bool mx_pass_layout(mx_rewrite *r, const mx_node *n, int32_t *out) {
  if (n->op.n_out != 1 || n->op.n_in == 0) return false;
  if (n->op.prim->id == MX_PRIM_conv) return turn_conv(r, n, out);
  if (is_along_axes(n->op.prim)) return turn_along_axes(r, n, out);
  if (mx_cpu_is_elementwise(n->op.prim)) return n->op.out_aval->ndim >= 3 && turn_elementwise(r, n, out);
  return n->op.n_in == 1 && mx_cpu_folds(n->op.prim, mx_aval_at(r, n->in[0])->dtype) && turn_fold(r, n, out);
}
