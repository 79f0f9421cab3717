/* simplify_shape.c: operations that move elements without computing: what does nothing goes, two of a kind are one. */
#include "optimize_impl.h"

typedef struct moving {
  mx_rewrite *r;
  const mx_node *n;
  int32_t *out;
  const mx_aval *x; /* of the operand */
  const mx_eqn *by; /* the equation that makes it, or NULL */
} moving;

static bool answer(const moving *m, int32_t v) { return m->out[0] = v, true; }

static bool is_made(const moving *m, const mx_primitive *prim, const mx_params *p, int32_t x) {
  return answer(m, mx_rewrite_make(m->r, prim, p, &x, 1, m->n->site));
}

/* The result is variable v, if its type is the same. */
static bool is_value(const moving *m, int32_t v) {
  return mx_aval_equal(mx_aval_at(m->r, v), m->n->op.out_aval) && answer(m, v);
}

static bool is_by(const moving *m, mx_prim_id id) { return m->by && m->by->prim->id == id; }

static bool is_repeated_number(const moving *m) {
  return is_by(m, MX_PRIM_broadcast) && mx_aval_at(m->r, m->by->in[0])->size == 1 &&
         mx_aval_at(m->r, m->by->in[0])->ndim <= m->n->op.out_aval->ndim;
}

/* One number repeated in one shape, in another. */
static bool repeat_number(const moving *m) {
  mx_params p = {.shape = {mx_dims_shape(m->n->op.out_aval)}};
  return is_repeated_number(m) && is_made(m, &mx_prim_broadcast, &p, m->by->in[0]);
}

static bool as_reshape(const moving *m, int32_t x) {
  mx_params p = {.shape = {mx_dims_shape(m->n->op.out_aval)}};
  return is_made(m, &mx_prim_reshape, &p, x);
}

static bool simplify_reshape(const moving *m) {
  if (is_value(m, m->n->in[0]) || repeat_number(m)) return true;
  return is_by(m, MX_PRIM_reshape) && as_reshape(m, m->by->in[0]);
}

/* Axes of length 1 in front of what is repeated matter not. */
static bool adds_front_axes(const mx_aval *from, const mx_aval *to) {
  int more = to->ndim - from->ndim;
  return more >= 0 && from->size == to->size &&
         memcmp(from->shape, to->shape + more, from->ndim * sizeof *from->shape) == 0;
}

static bool simplify_broadcast(const moving *m) {
  if (is_value(m, m->n->in[0])) return true;
  bool front = is_by(m, MX_PRIM_reshape) && adds_front_axes(mx_aval_at(m->r, m->by->in[0]), m->x);
  return (front || is_by(m, MX_PRIM_broadcast)) && is_made(m, &mx_prim_broadcast, m->n->op.p, m->by->in[0]);
}

/* Whether only axes of length 1 change their places. */
static bool keeps_order(const mx_aval *x, const mx_dims *axes) {
  int64_t last = -1;
  for (int i = 0; i < axes->n; i++) {
    if (x->shape[axes->v[i]] == 1) continue;
    if (axes->v[i] < last) return false;
    last = axes->v[i];
  }
  return true;
}

static bool simplify_transpose(const moving *m) {
  const mx_dims *axes = &m->n->op.p->axes.axes;
  if (repeat_number(m)) return true;
  if (is_by(m, MX_PRIM_transpose)) {
    mx_params p = {.axes = {*axes}};
    for (int i = 0; i < axes->n; i++) p.axes.axes.v[i] = m->by->params->axes.axes.v[axes->v[i]];
    return is_made(m, &mx_prim_transpose, &p, m->by->in[0]);
  }
  return keeps_order(m->x, axes) && (is_value(m, m->n->in[0]) || as_reshape(m, m->n->in[0]));
}

static bool simplify_reverse(const moving *m) {
  const mx_dims *axes = &m->n->op.p->axes.axes;
  bool moves = false;
  for (int i = 0; i < axes->n; i++) moves |= m->x->shape[axes->v[i]] > 1;
  if (!moves) return is_value(m, m->n->in[0]);
  bool twice = is_by(m, MX_PRIM_reverse) && m->by->params->axes.axes.n == axes->n;
  for (int i = 0; twice && i < axes->n; i++) twice = mx_dims_has(&m->by->params->axes.axes, axes->v[i]);
  return twice && is_value(m, m->by->in[0]);
}

/* -- slices -------------------------------------------------------------------------------------------------------- */

static bool takes_all(const moving *m) {
  const mx_params *p = m->n->op.p;
  for (int i = 0; i < m->x->ndim; i++)
    if (p->slice.start.v[i] != 0 || m->n->op.out_aval->shape[i] != m->x->shape[i]) return false;
  return true;
}

/* A slice of a slice: positions start1 + step1 * (start2 + step2 * k). */
static bool slice_twice(const moving *m) {
  const mx_params *first = m->by->params, *then = m->n->op.p;
  mx_params p = *then;
  for (int i = 0; i < m->x->ndim; i++) {
    int64_t n = m->n->op.out_aval->shape[i], step;
    if (n <= 1) step = 1;
    else step = first->slice.step.v[i] * then->slice.step.v[i]; /* within the axis, since two positions are */
    p.slice.start.v[i] = first->slice.start.v[i] + (n ? first->slice.step.v[i] * then->slice.start.v[i] : 0);
    p.slice.step.v[i] = step;
    p.slice.limit.v[i] = n ? p.slice.start.v[i] + (n - 1) * step + 1 : p.slice.start.v[i];
  }
  return is_made(m, &mx_prim_slice, &p, m->by->in[0]);
}

/* A slice of one of the operands that were put together. */
static bool slice_part(const moving *m) {
  int axis = (int)m->by->params->axis.axis;
  const mx_params *then = m->n->op.p;
  int64_t n = m->n->op.out_aval->shape[axis], start = then->slice.start.v[axis], before = 0;
  int64_t end = start + (n ? (n - 1) * (n > 1 ? then->slice.step.v[axis] : 1) + 1 : 0);
  for (int k = 0; n && k < m->by->n_in; k++) {
    int64_t length = mx_aval_at(m->r, m->by->in[k])->shape[axis];
    if (start >= before && end <= before + length) {
      mx_params p = *then;
      p.slice.start.v[axis] = start - before;
      p.slice.limit.v[axis] = end - before;
      return is_made(m, &mx_prim_slice, &p, m->by->in[k]);
    }
    before += length;
  }
  return false;
}

static bool simplify_slice(const moving *m) {
  if ((takes_all(m) && is_value(m, m->n->in[0])) || repeat_number(m)) return true;
  if (is_by(m, MX_PRIM_slice)) return slice_twice(m);
  return is_by(m, MX_PRIM_concat) ? slice_part(m) : mx_simplify_index(m->r, m->n, m->out);
}

static bool simplify_pad(const moving *m) {
  const mx_params *p = m->n->op.p;
  for (int i = 0; i < m->x->ndim; i++)
    if (p->pad.lo.v[i] != 0 || p->pad.hi.v[i] != 0 || (p->pad.interior.v[i] != 0 && m->x->shape[i] > 1)) return false;
  return is_value(m, m->n->in[0]);
}

/* -- reductions ---------------------------------------------------------------------------------------------------- */

/* Over axes of length 1 nothing is joined. A sum of floats is still 0 + x, which is not x where x is -0. */
static bool simplify_reduction(const moving *m) {
  const mx_dims *axes = &m->n->op.p->axes.axes;
  const mx_aval *out = m->n->op.out_aval;
  if (m->n->op.prim->id == MX_PRIM_reduce_sum && mx_is_float(m->x->dtype) && axes->n) return false;
  for (int i = 0; i < axes->n; i++)
    if (m->x->shape[axes->v[i]] != 1) return false;
  if (m->x->dtype != out->dtype || m->x->weak != out->weak) return false;
  return is_value(m, m->n->in[0]) || as_reshape(m, m->n->in[0]);
}

bool mx_simplify_shape(mx_rewrite *r, const mx_node *n, int32_t *out) {
  moving m = {.r = r, .n = n, .out = out};
  if (n->op.n_in == 0) return false;
  m.x = mx_aval_at(r, n->in[0]);
  m.by = mx_maker(r, n->in[0]);
  switch (n->op.prim->id) {
  case MX_PRIM_reshape: return simplify_reshape(&m);
  case MX_PRIM_broadcast: return simplify_broadcast(&m);
  case MX_PRIM_transpose: return simplify_transpose(&m);
  case MX_PRIM_reverse: return simplify_reverse(&m);
  case MX_PRIM_slice: return simplify_slice(&m);
  case MX_PRIM_concat: return n->op.n_in == 1 && is_value(&m, n->in[0]);
  case MX_PRIM_pad: return simplify_pad(&m);
  case MX_PRIM_reduce_sum:
  case MX_PRIM_reduce_prod:
  case MX_PRIM_reduce_max:
  case MX_PRIM_reduce_min:
  case MX_PRIM_reduce_any:
  case MX_PRIM_reduce_all: return simplify_reduction(&m);
  default: return mx_simplify_index(r, n, out);
  }
}
