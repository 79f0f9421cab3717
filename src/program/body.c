/* body.c: parts of a program; what of a loop's body may be computed outside of it.
 *
 *     carry, x[t]:  a = dot W W      a is the same at each step     taken: a, once
 *                   b = dot x[t] a   b differs from step to step    taken: b of all x
 *                   c = add b carry  c depends on the carry         left:  c = add b[t] carry */
#include "program.h"

/* -- parts --------------------------------------------------------------------------------------------------------- */

typedef struct part {
  const mx_program *from;
  mx_program *to;
  mx_arena memory;
  int32_t *map; /* by variable of `from`: its variable in `to`, or -1 */
  bool *needed; /* by variable */
  bool *copied; /* by equation */
} part;

static void mark_needed(part *t, const int32_t *outs, int n_out, bool ordered) {
  const mx_program *p = t->from;
  for (int k = 0; k < n_out; k++) t->needed[outs[k]] = true;
  for (int i = p->n_eqn - 1; i >= 0; i--) {
    const mx_eqn *e = &p->eqns[i];
    bool needed = ordered && mx_eqn_is_ordered(e);
    for (int k = 0; k < e->n_out; k++) needed |= t->needed[e->out + k] && t->map[e->out + k] < 0;
    t->copied[i] = needed;
    for (int k = 0; needed && k < e->n_in; k++) t->needed[e->in[k]] = true;
  }
}

static bool copy_equation(mx_ctx *c, part *t, const mx_eqn *e) {
  int32_t *in = mx_arena_alloc(c, &t->memory, (size_t)(e->n_in + 1) * sizeof *in);
  if (!in) return false;
  for (int k = 0; k < e->n_in; k++) in[k] = t->map[e->in[k]];
  int32_t first = mx_program_copy(c, &t->memory, t->to, t->from, e, in);
  for (int k = 0; first >= 0 && k < e->n_out; k++)
    if (t->map[e->out + k] < 0) t->map[e->out + k] = first + k;
  return first >= 0;
}

static bool copy_needed(mx_ctx *c, part *t) {
  const mx_program *p = t->from;
  for (int k = 0; k < p->n_const; k++)
    if (t->needed[p->n_in + k] && t->map[p->n_in + k] < 0 &&
        (t->map[p->n_in + k] = mx_program_const(c, t->to, p->consts[k])) < 0)
      return false;
  for (int i = 0; i < p->n_eqn; i++)
    if (t->copied[i] && !copy_equation(c, t, &p->eqns[i])) return false;
  return true;
}

static bool make_part(mx_ctx *c, part *t, const int32_t *in, int n_in, const int32_t *outs, int n_out, bool ordered) {
  const mx_program *p = t->from;
  t->map = mx_arena_alloc(c, &t->memory, (size_t)(p->n_var + 1) * sizeof *t->map);
  t->needed = mx_arena_alloc(c, &t->memory, (size_t)p->n_var + 1);
  t->copied = mx_arena_alloc(c, &t->memory, (size_t)p->n_eqn + 1);
  if (!t->map || !t->needed || !t->copied) return false;
  for (int v = 0; v < p->n_var; v++) t->map[v] = -1;
  for (int i = 0; i < n_in; i++)
    if ((t->map[in[i]] = mx_program_input(c, t->to, p->avals[in[i]])) < 0) return false;
  mark_needed(t, outs, n_out, ordered);
  if (!copy_needed(c, t)) return false;
  for (int k = 0; k < n_out; k++)
    if (!mx_program_output(c, t->to, t->map[outs[k]])) return false;
  mx_list none = {0};
  return mx_program_finish(c, t->to, &none);
}

mx_program *mx_program_part(mx_ctx *c, const mx_program *p, const int32_t *in, int n_in, const int32_t *outs, int n_out,
                            bool ordered) {
  part t = {.from = p, .to = mx_program_new(c), .memory.engine = c->engine};
  if (t.to && !make_part(c, &t, in, n_in, outs, n_out, ordered)) {
    mx_program_release(t.to);
    t.to = NULL;
  }
  mx_arena_release(&t.memory);
  return t.to;
}

/* -- bodies -------------------------------------------------------------------------------------------------------- */

enum { HEAVY = 8 }; /* operations for each element of the result */

bool mx_op_is_heavy(const mx_op *o) {
  return o->prim->flops && o->n_out == 1 && o->prim->flops(o) >= HEAVY * (double)o->out_aval->size;
}

static mx_body_kind kind_of(const mx_body *b, const mx_eqn *e) {
  mx_body_kind kind = MX_BODY_SAME;
  for (int k = 0; k < e->n_in; k++)
    if (b->kind[e->in[k]] > kind) kind = b->kind[e->in[k]];
  bool stays = e->n_out != 1 || e->prim->effect != MX_EFFECT_NONE || mx_eqn_is_ordered(e);
  return stays ? MX_BODY_CARRIED : kind;
}

static bool is_chosen(mx_ctx *c, mx_arena *a, const mx_body *b, const mx_eqn *e, mx_body_choice choice, void *ud) {
  const mx_aval **avals = mx_arena_alloc(c, a, (size_t)(e->n_in + 1) * sizeof *avals);
  for (int k = 0; avals && k < e->n_in; k++) avals[k] = b->p->avals[e->in[k]];
  mx_op o = {.prim = e->prim, .p = e->params, .n_in = e->n_in, .n_out = 1, .in_aval = avals};
  o.out_aval = b->p->avals[e->out];
  return avals && choice(ud, e, &o, b->kind[e->out]);
}

/* Marks what these results need, back to inputs and to what is taken out. */
static void mark_used(mx_body *b, const int32_t *outs, int n_out) {
  const mx_program *p = b->p;
  memset(b->used, 0, (size_t)p->n_var);
  for (int k = 0; k < n_out; k++) b->used[outs[k]] = true;
  for (int i = p->n_eqn - 1; i >= 0; i--) {
    const mx_eqn *e = &p->eqns[i];
    bool needed = mx_eqn_is_ordered(e), taken = e->n_out == 1 && b->taken[e->out];
    for (int k = 0; k < e->n_out; k++) needed |= b->used[e->out + k];
    for (int k = 0; needed && !taken && k < e->n_in; k++) b->used[e->in[k]] = true;
  }
}

/* What nobody needs stays where it is. */
static void drop_unused(mx_body *b) {
  for (int v = 0; v < b->p->n_var; v++)
    if (b->taken[v] && !b->used[v]) b->taken[v] = false;
    else if (b->taken[v]) b->n_taken[b->kind[v]]++;
}

bool mx_body_sort(mx_ctx *c, mx_arena *a, mx_body *b) {
  const mx_program *p = b->p;
  b->kind = mx_arena_alloc(c, a, (size_t)p->n_var + 1);
  b->taken = mx_arena_alloc(c, a, (size_t)p->n_var + 1);
  b->used = mx_arena_alloc(c, a, (size_t)p->n_var + 1);
  if (!b->kind || !b->taken || !b->used) return false;
  for (int i = b->n_const; i < p->n_in; i++) b->kind[i] = i < b->n_const + b->n_carry ? MX_BODY_CARRIED : MX_BODY_STEP;
  for (int i = 0; i < p->n_eqn; i++) memset(b->kind + p->eqns[i].out, kind_of(b, &p->eqns[i]), p->eqns[i].n_out);
  return true;
}

bool mx_body_choose(mx_ctx *c, mx_arena *a, mx_body *b, mx_body_choice choice, void *ud) {
  const mx_program *p = b->p;
  for (int i = 0; i < p->n_eqn; i++) {
    const mx_eqn *e = &p->eqns[i];
    if (e->n_out == 1 && b->kind[e->out] != MX_BODY_CARRIED) b->taken[e->out] = is_chosen(c, a, b, e, choice, ud);
  }
  mark_used(b, p->outs, p->n_out);
  drop_unused(b);
  return !mx_failed(c);
}

static int add_taken(const mx_body *b, mx_body_kind kind, bool only_used, int32_t *to) {
  int n = 0;
  for (int v = b->p->n_in + b->p->n_const; v < b->p->n_var; v++)
    if (b->taken[v] && b->kind[v] == kind && (!only_used || b->used[v])) to[n++] = v;
  return n;
}

mx_program *mx_body_taken(mx_ctx *c, mx_arena *a, const mx_body *b, mx_body_kind kind, int32_t **in, int *n) {
  int32_t *outs = mx_arena_alloc(c, a, (size_t)(b->n_taken[kind] + 1) * sizeof *outs);
  *in = mx_arena_alloc(c, a, (size_t)(b->p->n_in + 1) * sizeof **in);
  *n = 0;
  if (!outs || !*in) return NULL;
  for (int i = 0; i < b->p->n_in; i++)
    if (b->kind[i] <= kind) (*in)[(*n)++] = i;
  int n_out = add_taken(b, kind, false, outs);
  return mx_program_part(c, b->p, *in, *n, outs, n_out, false);
}

mx_program *mx_body_left(mx_ctx *c, mx_arena *a, mx_body *b, const bool *gone, const int32_t *outs, int n_out,
                         int32_t **in, int counts[3]) {
  int n = 0, n_in = b->p->n_in, first = 0;
  *in = mx_arena_alloc(c, a, (size_t)(n_in + b->n_taken[0] + b->n_taken[1] + 1) * sizeof **in);
  if (!*in) return NULL;
  mark_used(b, outs, n_out);
  for (int g = 0; g < 3; g++, first = n) {
    mx_body_kind kind = g == 0 ? MX_BODY_SAME : g == 1 ? MX_BODY_CARRIED : MX_BODY_STEP;
    for (int i = 0; i < n_in; i++)
      if (b->kind[i] == kind && (g == 1 ? !gone || !gone[i] : b->used[i])) (*in)[n++] = i;
    if (g != 1) n += add_taken(b, kind, true, *in + n);
    counts[g] = n - first;
  }
  return mx_program_part(c, b->p, *in, n, outs, n_out, true);
}
