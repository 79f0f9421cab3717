/* cse.c: common subexpressions: the equations that were written, by primitive, params and operands. */
#include "optimize_impl.h"

/* x op y is y op x, to the bit (two NaN apart). */
static bool commutes(const mx_primitive *prim) {
  switch (prim->id) {
  case MX_PRIM_add:
  case MX_PRIM_mul:
  case MX_PRIM_eq:
  case MX_PRIM_ne:
  case MX_PRIM_and:
  case MX_PRIM_or:
  case MX_PRIM_xor: return true;
  default: return false;
  }
}

static uint64_t hash_of(const mx_node *n) {
  uint64_t h = mx_hash_mix(n->op.prim->id, (uint64_t)n->op.n_in);
  if (n->op.p) h = mx_hash_bytes(h, n->op.p, n->op.prim->params_size);
  if (commutes(n->op.prim)) {
    int32_t x = n->in[0], y = n->in[1];
    return mx_hash_mix(mx_hash_mix(h, (uint64_t)(x < y ? x : y)), (uint64_t)(x < y ? y : x));
  }
  for (int k = 0; k < n->op.n_in; k++) h = mx_hash_mix(h, (uint64_t)n->in[k]);
  return h;
}

static bool same(const mx_eqn *e, const mx_node *n) {
  if (e->prim != n->op.prim || e->n_in != n->op.n_in || !e->params != !n->op.p) return false;
  if (e->params && memcmp(e->params, n->op.p, e->prim->params_size) != 0) return false;
  if (memcmp(e->in, n->in, e->n_in * sizeof *e->in) == 0) return true;
  return commutes(e->prim) && e->in[0] == n->in[1] && e->in[1] == n->in[0];
}

static int slot_of(const mx_rewrite *r, uint64_t hash, const mx_node *n) {
  int mask = r->table_cap - 1, i = (int)(hash & (uint64_t)mask);
  for (; r->table[i]; i = (i + 1) & mask)
    if (n && r->hashes[r->table[i] - 1] == hash && same(&r->to->eqns[r->table[i] - 1], n)) break;
  return i;
}

static bool rehash(mx_rewrite *r) {
  int cap = r->table_cap ? r->table_cap * 2 : 64, old_cap = r->table_cap;
  int32_t *old = r->table, *table = mx_new(r->c, (size_t)cap * sizeof *table);
  if (!table) return false;
  r->table = table;
  r->table_cap = cap;
  for (int i = 0; i < old_cap; i++)
    if (old[i]) table[slot_of(r, r->hashes[old[i] - 1], NULL)] = old[i];
  mx_free(r->c->engine, old, (size_t)old_cap * sizeof *old);
  return true;
}

bool mx_cse_add(mx_rewrite *r, const mx_node *n, int32_t equation) {
  if (mx_eqn_is_ordered(&r->to->eqns[equation])) return true;
  if (!mx_grow(r->c, &r->hashes, &r->hashes_cap, equation + 1, sizeof *r->hashes)) return false;
  if (2 * r->table_n >= r->table_cap && !rehash(r)) return false;
  uint64_t hash = r->hashes[equation] = hash_of(n);
  int slot = slot_of(r, hash, n);
  if (!r->table[slot]) r->table[slot] = equation + 1, r->table_n++;
  return true;
}

const mx_eqn *mx_cse_find(const mx_rewrite *r, const mx_node *n) {
  int32_t found = r->table_cap ? r->table[slot_of(r, hash_of(n), n)] : 0;
  return found ? &r->to->eqns[found - 1] : NULL;
}

bool mx_pass_cse(mx_rewrite *r, const mx_node *n, int32_t *out) {
  const mx_eqn *e = mx_cse_find(r, n);
  for (int k = 0; e && k < e->n_out; k++) out[k] = r->value[e->out + k];
  return e != NULL;
}
