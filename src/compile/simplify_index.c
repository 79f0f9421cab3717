/* simplify_index.c: positions that are known.
 *
 *     take x {2 4 6} = x[2..6 by 2], a view          zeros + u at {2 4 6} = u with zeros around and between
 *     take (take x i) j = take x (take i j)          the window that was just written is what was written
 *
 * Elements only move, so every bit stays; a sum starts at 0, so that an added -0 becomes 0. */
#include "optimize_impl.h"

#include <math.h>

typedef struct indexing {
  mx_rewrite *r;
  const mx_node *n;
  int32_t *out;
} indexing;

/* Positions start, start + step, ...; a single one may have no axis. */
typedef struct progression {
  int64_t start, step, n;
  bool scalar;
} progression;

static bool answer(const indexing *s, int32_t v) { return s->out[0] = v, true; }

static int32_t make(const indexing *s, const mx_primitive *prim, const mx_params *p, int32_t x) {
  return mx_rewrite_make(s->r, prim, p, &x, 1, s->n->site);
}

/* The result is variable v, if its type is the same. */
static bool is_value(const indexing *s, int32_t v) {
  return mx_aval_equal(mx_aval_at(s->r, v), s->n->op.out_aval) && answer(s, v);
}

static const mx_array *known(const mx_rewrite *r, int32_t v) {
  const mx_array *x = mx_const_at(r, v);
  return x && x->tag == MX_VALUE ? x : NULL;
}

static int64_t position(const mx_array *ids, int64_t i) {
  const char *data = mx_data(ids);
  return mx_load_int(ids->aval.dtype, data + (ids->aval.ndim ? i * ids->strides[0] : 0));
}

/* Whether v holds such positions, in an axis of this length. */
static bool is_progression(const mx_rewrite *r, int32_t v, int64_t length, progression *p) {
  const mx_array *ids = known(r, v);
  if (!ids || ids->aval.ndim > 1 || ids->aval.size == 0) return false;
  *p = (progression){position(ids, 0), 1, ids->aval.size, ids->aval.ndim == 0};
  if (p->n > 1) p->step = position(ids, 1) - p->start;
  if (p->start < 0 || p->start >= length || p->step < 1 || p->step > length) return false;
  for (int64_t i = 1; i < p->n; i++)
    if (position(ids, i) != p->start + i * p->step) return false;
  return p->start + (p->n - 1) * p->step < length;
}

/* -- gather -------------------------------------------------------------------------------------------------------- */

/* x along `axis` at these positions: slice, then the axis goes to the front, or goes. */
static bool as_slice(const indexing *s, int axis, const progression *at) {
  const mx_aval *x = mx_aval_at(s->r, s->n->in[0]);
  mx_params p = {.slice = {.start = {.n = x->ndim}, .limit = mx_dims_shape(x), .step = {.n = x->ndim}}};
  mx_params front = {.axes = {{.n = x->ndim, .v = {axis}}}}, shape = {.shape = {mx_dims_shape(s->n->op.out_aval)}};
  for (int i = 0; i < x->ndim; i++) p.slice.step.v[i] = 1;
  for (int i = 0, k = 1; i < x->ndim; i++)
    if (i != axis) front.axes.axes.v[k++] = i;
  p.slice.start.v[axis] = at->start;
  p.slice.limit.v[axis] = at->start + (at->n - 1) * at->step + 1;
  p.slice.step.v[axis] = at->step;
  int32_t v = make(s, &mx_prim_slice, &p, s->n->in[0]);
  if (at->scalar) v = make(s, &mx_prim_reshape, &shape, v);
  else if (axis > 0) v = make(s, &mx_prim_transpose, &front, v);
  return answer(s, v);
}

/* The positions of a gather that a gather of one axis' positions reads, and nothing else: then elements move once. What
 * the second gives outside must lie outside for the first. */
static bool gather_twice(const indexing *s) {
  const mx_params *then = s->n->op.p;
  const mx_eqn *first = mx_made_by(s->r, s->n->in[0], MX_PRIM_gather);
  if (!first || first->n_in != 2 || then->gather.axes.v[0] != 0 || s->r->readers[s->n->in[0]] != 1) return false;
  int64_t fill = first->params->gather.fill;
  if (mx_aval_at(s->r, first->in[1])->ndim != 1) return false;
  if (then->gather.fill != MX_GATHER_CLAMP && (then->gather.fill != MX_GATHER_FILL || fill != MX_GATHER_FILL))
    return false;
  int32_t ids[2] = {first->in[1], s->n->in[1]};
  mx_params p = *first->params;
  int32_t in[2] = {first->in[0], mx_rewrite_make(s->r, &mx_prim_gather, then, ids, 2, s->n->site)};
  return answer(s, mx_rewrite_make(s->r, &mx_prim_gather, &p, in, 2, s->n->site));
}

static bool simplify_gather(const indexing *s) {
  const mx_aval *x = mx_aval_at(s->r, s->n->in[0]);
  int axis = (int)s->n->op.p->gather.axes.v[0];
  progression at;
  if (s->n->op.n_in != 2 || x->weak) return false;
  return is_progression(s->r, s->n->in[1], x->shape[axis], &at) ? as_slice(s, axis, &at) : gather_twice(s);
}

/* -- scatter ------------------------------------------------------------------------------------------------------- */

/* The constant of one element that is repeated to v, or -1. */
static int32_t repeated(const mx_rewrite *r, int32_t v) {
  const mx_eqn *e = mx_made_by(r, v, MX_PRIM_broadcast);
  if (e) v = e->in[0];
  return known(r, v) && mx_aval_at(r, v)->size == 1 ? v : -1;
}

static bool is_zero(const mx_rewrite *r, int32_t v) {
  double d = mx_load_double(mx_aval_at(r, v)->dtype, mx_data(known(r, v)));
  return d == 0 && !signbit(d);
}

/* The updates as they lie in the result: the positions' axis at its place. */
static int32_t in_place(const indexing *s, int axis, const progression *at, int32_t updates) {
  const mx_aval *out = s->n->op.out_aval;
  mx_params shape = {.shape = {mx_dims_shape(out)}}, back = {.axes = {{.n = out->ndim}}};
  shape.shape.shape.v[axis] = 1;
  for (int i = 0; i < out->ndim; i++) back.axes.axes.v[i] = i < axis ? i + 1 : i == axis ? 0 : i;
  if (at->scalar) return make(s, &mx_prim_reshape, &shape, updates);
  return axis > 0 ? make(s, &mx_prim_transpose, &back, updates) : updates;
}

/* What is written to, or added to, one number everywhere. */
static bool simplify_scatter(const indexing *s) {
  const mx_aval *out = s->n->op.out_aval;
  int axis = (int)s->n->op.p->axes.axes.v[0];
  int32_t number = repeated(s->r, s->n->in[0]), in[2] = {s->n->in[1], number};
  bool sum = s->n->op.prim->id == MX_PRIM_scatter_add;
  progression at;
  if (s->n->op.n_in != 3 || number < 0 || (sum && !is_zero(s->r, number))) return false;
  if (mx_aval_at(s->r, number)->weak || mx_aval_at(s->r, in[0])->weak) return false;
  if (!is_progression(s->r, s->n->in[2], out->shape[axis], &at)) return false;
  mx_params p = {.pad = {.lo = {.n = out->ndim}, .hi = {.n = out->ndim}, .interior = {.n = out->ndim}}};
  mx_params scalar = {.shape = {{0}}};
  p.pad.lo.v[axis] = at.start;
  p.pad.hi.v[axis] = out->shape[axis] - 1 - (at.start + (at.n - 1) * at.step);
  p.pad.interior.v[axis] = at.step - 1;
  in[0] = in_place(s, axis, &at, in[0]);
  in[1] = make(s, &mx_prim_reshape, &scalar, number);
  if (sum) in[0] = mx_rewrite_make(s->r, &mx_prim_add, NULL, in, 2, s->n->site);
  return answer(s, mx_rewrite_make(s->r, &mx_prim_pad, &p, in, 2, s->n->site));
}

/* -- windows ------------------------------------------------------------------------------------------------------- */

/* Starts that are not known are checked on the way, and have to be wherever their window is. */
static bool known_starts(const indexing *s, int32_t starts, const mx_aval *x, const mx_aval *window, mx_dims *out) {
  const mx_array *at = known(s->r, starts);
  out->n = x->ndim;
  for (int i = 0; at && i < x->ndim; i++) {
    int64_t start = position(at, i), most = x->shape[i] - window->shape[i];
    out->v[i] = start < 0 ? 0 : start < most ? start : most;
  }
  return at != NULL;
}

static bool simplify_window(const indexing *s) {
  const mx_aval *x = mx_aval_at(s->r, s->n->in[0]), *out = s->n->op.out_aval;
  mx_params p = {.slice = {.limit = {.n = x->ndim}, .step = {.n = x->ndim}}};
  if (x->weak || !known_starts(s, s->n->in[1], x, out, &p.slice.start)) return false;
  for (int i = 0; i < x->ndim; i++) {
    p.slice.limit.v[i] = p.slice.start.v[i] + out->shape[i];
    p.slice.step.v[i] = 1;
  }
  return answer(s, make(s, &mx_prim_slice, &p, s->n->in[0]));
}

/* An update of everything. */
static bool simplify_update(const indexing *s) { return known(s->r, s->n->in[2]) && is_value(s, s->n->in[1]); }

/* A slice of a window that was written, or of what lies beside it. */
static bool slice_of_update(const indexing *s) {
  const mx_eqn *e = mx_made_by(s->r, s->n->in[0], MX_PRIM_dynamic_update_slice);
  mx_dims at;
  if (!e || s->n->op.out_aval->size == 0) return false;
  const mx_aval *x = mx_aval_at(s->r, e->in[0]), *window = mx_aval_at(s->r, e->in[1]);
  if (x->weak || window->weak || !known_starts(s, e->in[2], x, window, &at)) return false;
  bool inside = true, beside = window->size == 0;
  mx_params p = *s->n->op.p;
  for (int i = 0; i < x->ndim; i++) {
    int64_t start = p.slice.start.v[i], limit = p.slice.limit.v[i], end = at.v[i] + window->shape[i];
    inside &= start >= at.v[i] && limit <= end;
    beside |= limit <= at.v[i] || start >= end;
    p.slice.start.v[i] -= at.v[i];
    p.slice.limit.v[i] -= at.v[i];
  }
  if (beside) return answer(s, make(s, &mx_prim_slice, s->n->op.p, e->in[0]));
  return inside && answer(s, make(s, &mx_prim_slice, &p, e->in[1]));
}

bool mx_simplify_index(mx_rewrite *r, const mx_node *n, int32_t *out) {
  indexing s = {r, n, out};
  switch (n->op.prim->id) {
  case MX_PRIM_gather: return simplify_gather(&s);
  case MX_PRIM_scatter:
  case MX_PRIM_scatter_add: return simplify_scatter(&s);
  case MX_PRIM_dynamic_slice: return simplify_window(&s);
  case MX_PRIM_dynamic_update_slice: return simplify_update(&s);
  case MX_PRIM_slice: return slice_of_update(&s);
  default: return false;
  }
}
