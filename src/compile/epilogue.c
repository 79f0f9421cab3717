/* epilogue.c: the pass that gives groups their heads: products and convolutions, whose result is worked on while a
 * cache holds it.
 *
 *     c = dot a b      \
 *     d = add c bias    }  one step {a, b, bias} -> {e}: the code of d and e runs over each part of c as it is
 *     e = maximum d 0  /   finished (mx_after), and e lies where c does
 *
 * The group has no rows, and reads all of the result, element by element. Of those that read it, it is the first in
 * order, so that no way leads from the product through something else to the group, and the product can wait for it. */
#include "plan_impl.h"

typedef struct heading {
  const mx_program *p;
  mx_fusion *f;
  const int32_t *producer; /* by variable: its equation, or -1 */
  int32_t *group;          /* by equation: that of a product which has left its own is another */
  int32_t *first;          /* by variable: the first group that reads it, or -1 */
} heading;

static bool is_product(const mx_program *p, const mx_eqn *e) {
  if (e->prim->id != MX_PRIM_dot_general && e->prim->id != MX_PRIM_conv) return false;
  const mx_aval *out = p->avals[e->out];
  return out->size > 0 && (out->dtype == MLAX_FLOAT32 || out->dtype == MLAX_FLOAT64);
}

/* The equation that computes v, or what v is a view of; -1: none does. */
static int32_t computed_by(const heading *h, int32_t v) {
  int32_t i = h->producer[v];
  while (i >= 0 && h->p->eqns[i].prim->view && h->p->eqns[i].n_in > 0) i = h->producer[h->p->eqns[i].in[0]];
  return i;
}

/* Whether a member of group g can be computed behind product i: what else it reads was there before. So the product is
 * not put off, and its operands live no longer than they did. */
static bool may_follow(const heading *h, int32_t g, const mx_eqn *e, int32_t i) {
  if (!mx_eqn_is_alias(h->p, e) && !mx_cpu_is_elementwise(e->prim)) return false;
  for (int k = 0; k < e->n_in; k++) {
    int32_t from = h->producer[e->in[k]];
    if (from == i && e->late && !h->p->eqns[i].late) return false;
    if (from >= 0 && from != i && h->group[from] != g && computed_by(h, e->in[k]) > i) return false;
  }
  return true;
}

static bool takes_product(const heading *h, int32_t g, int32_t i) {
  const mx_fusion *f = h->f;
  bool computes = false;
  if (f->cols[g] || f->head[g] >= 0 || f->elements[g] != h->p->avals[h->p->eqns[i].out]->size) return false;
  for (int32_t k = g ? f->ends[g - 1] : 0; k < f->ends[g]; k++) {
    const mx_eqn *e = &h->p->eqns[f->eqns[k]];
    if (!may_follow(h, g, e, i)) return false;
    computes |= !mx_eqn_is_alias(h->p, e);
  }
  return computes;
}

static void find_first_readers(heading *h) {
  for (int32_t v = 0; v < h->p->n_var; v++) h->first[v] = -1;
  for (int32_t i = 0; i < h->p->n_eqn; i++)
    for (int k = 0; k < h->p->eqns[i].n_in; k++) {
      int32_t *first = &h->first[h->p->eqns[i].in[k]];
      if (*first < 0 || h->group[i] < *first) *first = h->group[i];
    }
}

/* Writes the groups anew: products in front of the first member behind them by number, theirs of old left out. */
static void write_groups(heading *h) {
  mx_fusion *f = h->f;
  int32_t groups = 0, n = 0, from = 0;
  for (int32_t g = 0; g < f->n_group; g++) {
    int32_t head = f->head[g], end = f->ends[g], start = n;
    for (; from < end; from++) {
      int32_t i = f->eqns[from];
      if (h->group[i] != g) continue; /* a product that has left */
      if (head >= 0 && head < i) f->eqns[n++] = head, head = -1;
      f->eqns[n++] = i;
    }
    if (n == start) continue;
    f->elements[groups] = f->elements[g], f->cols[groups] = f->cols[g], f->head[groups] = f->head[g];
    f->ends[groups++] = n;
  }
  f->n_group = groups;
}

void mx_fuse_products(const mx_program *p, mx_fusion *f, const int32_t *producer, int32_t *group, int32_t *scratch) {
  heading h = {.p = p, .f = f, .producer = producer, .group = group, .first = scratch};
  find_first_readers(&h);
  for (int32_t i = p->n_eqn - 1; i >= 0; i--) { /* of several in one group the last is its head */
    if (!is_product(p, &p->eqns[i])) continue;
    int32_t g = h.first[p->eqns[i].out];
    if (g < 0 || !takes_product(&h, g, i)) continue;
    f->head[g] = i;
    group[i] = g;
  }
  write_groups(&h);
}
