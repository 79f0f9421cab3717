/* parts.c: values that are computed where a concat or a pad would copy them to.
 *
 *     a = dot x v    b = dot x w    c = concat a b        c's root  [ a's elements | b's elements ]
 *
 * A part that is a range of the result, along its outermost axis, needs no root: the step that makes it writes into the
 * result's, which lives from its first part on. The kernels find that the part is there (its address says so) and copy
 * the others; a concat of nothing else is no step. Where the result would live longer than there is room for below the
 * arena's peak, the part is copied. */
#include "plan_impl.h"

enum { VISITS = 1024 }; /* of steps, per step of the plan: beyond, parts are copied */

typedef struct joining {
  mx_ctx *c;
  mx_plan *p;
  int32_t *within; /* by root: the root that it became a part of, or -1 */
  int64_t *offset; /* and where it lies there */
  int64_t *live;   /* by step: bytes in the arena */
  int64_t peak, visits;
} joining;

static const mx_aval *aval_at(const joining *j, int32_t v) { return j->p->program->avals[v]; }

/* The root where a variable lies by now, and at which byte. */
static int32_t root_of(const joining *j, int32_t v, int64_t *offset) {
  const mx_slot *s = &j->p->slots[v];
  int32_t within = j->within[s->root];
  *offset = s->offset + (within >= 0 ? j->offset[s->root] : 0);
  return within >= 0 ? within : s->root;
}

/* -- what is a part ------------------------------------------------------------------------------------------------ */

static int parts_of(const mx_step *s) {
  if (s->code) return 0;
  return s->eqn->prim->id == MX_PRIM_concat ? s->n_in : s->eqn->prim->id == MX_PRIM_pad;
}

/* At which byte of the result part k begins; -1: it is no range of it. */
static int64_t part_offset(const joining *j, const mx_step *s, int k) {
  const int32_t *in = j->p->tensor_vars + s->tensors;
  const mx_aval *y = aval_at(j, in[s->n_in]), *x = aval_at(j, in[k]);
  int64_t strides[MX_MAX_NDIM], at = 0;
  mx_strides_contiguous(y, strides);
  if (x->size == 0 || !mx_strides_are_contiguous(x, strides)) return -1;
  if (s->eqn->prim->id == MX_PRIM_concat) {
    int axis = (int)s->eqn->params->axis.axis;
    for (int i = 0; i < k; i++) at += aval_at(j, in[i])->shape[axis] * strides[axis];
    return at;
  }
  for (int i = 0; i < x->ndim; i++) {
    const mx_params *p = s->eqn->params;
    if (p->pad.lo.v[i] < 0 || p->pad.hi.v[i] < 0 || (p->pad.interior.v[i] && x->shape[i] > 1)) return -1;
    at += p->pad.lo.v[i] * strides[i];
  }
  return at;
}

/* The variable is all of a root in the arena that is no part of another. */
static bool has_own_root(const joining *j, int32_t v) {
  const mx_slot *s = &j->p->slots[v];
  const mx_root *r = &j->p->roots[s->root];
  return r->place == MX_AT_ARENA && j->within[s->root] < 0 && s->contiguous && s->offset == 0 &&
         mx_nbytes(aval_at(j, v)) == r->bytes;
}

/* -- room ---------------------------------------------------------------------------------------------------------- */

/* Whether there is room for all of `to` from the birth of the part on, at the steps where it does not live yet. */
static bool is_room(joining *j, const mx_root *part, const mx_root *to) {
  j->visits -= part->last - part->first + 1;
  if (j->visits <= 0 || to->place != MX_AT_ARENA) return j->visits > 0;
  j->visits -= to->first > part->first ? to->first - part->first : 0;
  for (int i = part->first; i < to->first; i++) {
    int64_t own = i <= part->last - part->overwritten ? (int64_t)part->bytes : 0;
    if (i == part->first && part->overwrites >= 0) own = 0; /* what it overwrites lives at that step */
    if (j->live[i] + (int64_t)to->bytes - own > j->peak) return false;
  }
  return true;
}

static void become_part(joining *j, int32_t r, int32_t to, int64_t at) {
  mx_root *part = &j->p->roots[r], *whole = &j->p->roots[to];
  for (int i = part->first; i <= part->last - part->overwritten; i++) j->live[i] -= (int64_t)part->bytes;
  for (int i = part->first; i < whole->first; i++)
    if (whole->place == MX_AT_ARENA) j->live[i] += (int64_t)whole->bytes;
  if (part->first < whole->first) whole->first = part->first;
  part->place = MX_AT_PART;
  j->within[r] = to;
  j->offset[r] = at;
}

/* Parts of a result that are born late are asked first: they hardly prolong its life. */
static void join_parts(joining *j, const mx_step *s, int n) {
  const int32_t *in = j->p->tensor_vars + s->tensors;
  int64_t base, at;
  int32_t to = root_of(j, in[s->n_in], &base);
  for (int k = n - 1; k >= 0; k--) {
    int32_t r = j->p->slots[in[k]].root;
    if (!has_own_root(j, in[k]) || r == to || (at = part_offset(j, s, k)) < 0) continue;
    if (is_room(j, &j->p->roots[r], &j->p->roots[to])) become_part(j, r, to, base + at);
  }
}

/* -- the pass ------------------------------------------------------------------------------------------------------ */

static void move_slots(const joining *j) {
  for (int v = 0; v < j->p->program->n_var; v++)
    if (j->p->slots[v].strides) j->p->slots[v].root = root_of(j, v, &j->p->slots[v].offset);
}

/* Whether each part is where the step would copy it to. */
static bool is_done(const joining *j, const mx_step *s) {
  const int32_t *in = j->p->tensor_vars + s->tensors;
  if (s->code || s->eqn->prim->id != MX_PRIM_concat || aval_at(j, in[s->n_in])->size == 0) return false;
  const mx_slot *y = &j->p->slots[in[s->n_in]];
  for (int k = 0; k < s->n_in; k++) {
    const mx_slot *x = &j->p->slots[in[k]];
    if (aval_at(j, in[k])->size == 0) continue;
    int64_t at = part_offset(j, s, k);
    if (at < 0 || !x->contiguous || x->root != y->root || x->offset != y->offset + at) return false;
  }
  return true;
}

/* Takes out the steps that have nothing to do; others move up. */
static void drop_steps(const joining *j, int32_t *at) {
  mx_plan *p = j->p;
  int n = 0;
  for (int i = 0; i < p->n_steps; i++) {
    at[i] = is_done(j, &p->steps[i]) ? -1 : n;
    if (at[i] < 0) continue;
    p->steps[n] = p->steps[i];
    p->labels[n++] = p->labels[i];
  }
  p->n_steps = n;
  for (int e = 0; e < p->program->n_eqn; e++)
    if (p->step_of[e] >= 0) p->step_of[e] = at[p->step_of[e]];
  for (int r = 0; r < p->n_roots; r++)
    if (p->roots[r].first >= 0) p->roots[r].first = at[p->roots[r].first];
}

static bool start(joining *j, mx_arena *memory) {
  mx_plan *p = j->p;
  j->within = mx_arena_alloc(j->c, memory, (size_t)(p->n_roots + 1) * sizeof *j->within);
  j->offset = mx_arena_alloc(j->c, memory, (size_t)(p->n_roots + 1) * sizeof *j->offset);
  j->live = mx_arena_alloc(j->c, memory, (size_t)(p->n_steps + 1) * sizeof *j->live);
  if (!j->within || !j->offset || !j->live) return false;
  for (int r = 0; r < p->n_roots; r++) j->within[r] = -1;
  j->peak = mx_plan_peak(p, j->live);
  for (int i = 1; i < p->n_steps; i++) j->live[i] += j->live[i - 1];
  j->visits = VISITS * (int64_t)p->n_steps;
  return true;
}

bool mx_plan_join_parts(mx_ctx *c, mx_plan *p) {
  mx_arena memory = {.engine = c->engine};
  joining j = {.c = c, .p = p};
  bool any = false;
  for (int i = 0; i < p->n_steps && !any; i++) any = parts_of(&p->steps[i]) > 0;
  if (!any) return true;
  int32_t *at = mx_arena_alloc(c, &memory, (size_t)(p->n_steps + 1) * sizeof *at);
  bool ok = at && start(&j, &memory);
  for (int i = p->n_steps - 1; ok && i >= 0; i--) join_parts(&j, &p->steps[i], parts_of(&p->steps[i]));
  if (ok) move_slots(&j);
  if (ok) drop_steps(&j, at);
  mx_arena_release(&memory);
  return ok && mx_plan_lay_out(c, p);
}
