/* inline.c: calls whose derivatives are behind us, and branches that are known, are their equations. A checkpoint stays
 * a call: what it computes again on the way back must not be found in what it computed before. */
#include "optimize_impl.h"

/* The program that is called, and its first operand; NULL: not known, or not to be opened. */
static const mx_program *called(const mx_rewrite *r, const mx_node *n, int *first) {
  *first = 0;
  switch (n->op.prim->id) {
  case MX_PRIM_custom_jvp:
  case MX_PRIM_custom_vjp: return n->op.p->call.of->items[0];
  case MX_PRIM_branch: {
    const mx_array *index = mx_const_at(r, n->in[0]);
    const mx_programs *l = n->op.p->branch.of;
    if (!index || index->tag != MX_VALUE) return NULL;
    int64_t i = mx_array_item_int(index);
    *first = 1;
    return l->items[i < 0 ? 0 : i >= l->n ? l->n - 1 : i];
  }
  default: return NULL;
  }
}

bool mx_pass_inline(mx_rewrite *r, const mx_node *n, int32_t *out) {
  int first;
  const mx_program *p = called(r, n, &first);
  return p && (mx_rewrite_program(r, p, n->in + first, out) || mx_failed(r->c));
}
