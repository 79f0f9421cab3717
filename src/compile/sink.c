/* sink.c: conversions, and functions of one operand, go to where there are the fewest elements: before an array is
 * repeated, after it is cut; and an array that is converted already is not converted again in another order.
 *
 *     convert (broadcast x) = broadcast (convert x)        convert (slice x) stays
 *     exp (broadcast x)     = broadcast (exp x)            slice (convert x) = convert (slice x), if nobody else
 *     convert (transpose x) = transpose (convert x), if there is convert x                             reads convert x
 */
#include "optimize_impl.h"

#include "../device/code.h"

static bool answer(int32_t *out, int32_t v) { return out[0] = v, true; }

/* f (g x) = g (f x), where g moves elements. */
static bool exchange(mx_rewrite *r, const mx_node *n, const mx_eqn *g, int32_t *out) {
  const mx_primitive *move = g->prim;
  const mx_params *p = g->params;
  uint32_t site = g->site;
  int32_t x = g->in[0], y = mx_rewrite_make(r, n->op.prim, n->op.p, &x, 1, n->site);
  return answer(out, mx_rewrite_make(r, move, p, &y, 1, site));
}

static bool is_there(const mx_rewrite *r, const mx_node *n, int32_t x) {
  mx_node other = *n;
  other.in = &x;
  return mx_pass_on(r, MX_PASS_cse) && mx_cse_find(r, &other);
}

static bool sink_convert(mx_rewrite *r, const mx_node *n, int32_t *out) {
  const mx_eqn *g = mx_maker(r, n->in[0]);
  if (!g) return false;
  switch (g->prim->id) {
  case MX_PRIM_broadcast:
  case MX_PRIM_reshape: return exchange(r, n, g, out);
  case MX_PRIM_transpose:
  case MX_PRIM_reverse: return is_there(r, n, g->in[0]) && exchange(r, n, g, out);
  default: return false;
  }
}

/* Less is converted, where nobody else needs the rest. */
static bool sink_slice(mx_rewrite *r, const mx_node *n, int32_t *out) {
  const mx_eqn *g = mx_made_by(r, n->in[0], MX_PRIM_convert);
  return g && r->readers[n->in[0]] == 1 && exchange(r, n, g, out);
}

static bool sink_function(mx_rewrite *r, const mx_node *n, int32_t *out) {
  const mx_eqn *g = mx_made_by(r, n->in[0], MX_PRIM_broadcast);
  return g && mx_aval_at(r, g->in[0])->size < n->op.out_aval->size && exchange(r, n, g, out);
}

/* Numbers that are repeated, each in the place of its result: then one number is computed. */
static bool sink_numbers(mx_rewrite *r, const mx_node *n, int32_t *out) {
  int32_t x[3];
  bool repeated = false;
  for (int k = 0; k < n->op.n_in; k++) {
    const mx_eqn *g = mx_made_by(r, n->in[k], MX_PRIM_broadcast);
    x[k] = g && mx_aval_at(r, g->in[0])->size == 1 ? g->in[0] : n->in[k];
    if (mx_aval_at(r, x[k])->size != 1) return false;
    repeated |= x[k] != n->in[k];
  }
  if (!repeated || n->op.out_aval->size == 1) return false;
  mx_params p = {.shape = {mx_dims_shape(n->op.out_aval)}};
  int32_t y = mx_rewrite_make(r, n->op.prim, n->op.p, x, n->op.n_in, n->site);
  return answer(out, mx_rewrite_make(r, &mx_prim_broadcast, &p, &y, 1, n->site));
}

bool mx_pass_sink(mx_rewrite *r, const mx_node *n, int32_t *out) {
  if (n->op.prim->id == MX_PRIM_convert) return sink_convert(r, n, out);
  if (n->op.prim->id == MX_PRIM_slice) return sink_slice(r, n, out);
  if (!mx_cpu_is_elementwise(n->op.prim) || n->op.n_in > 3) return false;
  return n->op.n_in == 1 ? sink_function(r, n, out) : sink_numbers(r, n, out);
}
