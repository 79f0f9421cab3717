/* recompute.c: what is cheaper to compute again than to keep until it is read.
 *
 *     t = tanh x
 *     a = t + 1, b = 1 - t * t          read on the way forward, and again long after by the way back
 *     ... products ...
 *     a' = t + 1, b' = 1 - t * t        computed again there: t is kept instead of a and b
 *
 * A value is recomputed by readers behind a heavy equation, where a chain of cheap operations makes it of one value of
 * its size that is there anyway, or that replaces several such values. The copies join the group that reads them, so
 * neither form goes to memory twice. Bits stay. (As in Chen, Xu, Zhang and Guestrin, Training Deep Nets with Sublinear
 * Memory Cost, 2016, decided value by value.) */
#include "../device/code.h"
#include "optimize_impl.h"

enum {
  LEAST = 4096, /* elements of a value that is worth it */
  FEW = 32,     /* times as many as a further operand has */
  LONGEST = 4   /* operations of a chain */
};

typedef struct recomputing {
  mx_ctx *c;
  const mx_program *p;
  mx_program *to;
  int32_t *maker;     /* by variable: its equation, or -1 */
  int32_t *last;      /* by variable: the last equation that reads it */
  int32_t *era;       /* by equation: heavy equations before it */
  bool *late;         /* by variable: read in a later era than that it is made in, */
  bool *needed;       /* there by what does not join groups */
  int32_t *base;      /* by variable: what a chain makes it of; -1: there is no chain */
  int32_t *sharers;   /* by variable: values that are kept and could be made of it */
  uint8_t *length;    /* by variable: of its chain */
  int32_t *map;       /* by variable: what stands for it */
  int32_t *copy, *at; /* by variable: its copy, and the era + 1 for which that was made */
  int32_t *in;        /* operands of the equation that is written */
  mx_arena *memory;
} recomputing;

static bool is_heavy(const mx_eqn *e) {
  switch (e->prim->id) {
  case MX_PRIM_dot_general:
  case MX_PRIM_conv:
  case MX_PRIM_scan:
  case MX_PRIM_loop:
  case MX_PRIM_branch:
  case MX_PRIM_checkpoint: return true;
  default: return false;
  }
}

/* A copy of an operand becomes a part of the group that reads it. */
static bool joins(const mx_program *p, const mx_eqn *e) {
  return mx_cpu_is_elementwise(e->prim) || (e->n_in == 1 && mx_cpu_folds(e->prim, p->avals[e->in[0]]->dtype));
}

/* -- looking ------------------------------------------------------------------------------------------------------- */

static void find_readers(recomputing *r) {
  const mx_program *p = r->p;
  int32_t era = 0;
  mx_program_uses(p, NULL, r->maker);
  for (int32_t v = 0; v < p->n_var; v++) r->base[v] = r->last[v] = -1;
  for (int i = 0; i < p->n_eqn; i++) {
    const mx_eqn *e = &p->eqns[i];
    r->era[i] = era;
    era += is_heavy(e);
    for (int k = 0; k < e->n_in; k++) {
      int32_t v = e->in[k];
      r->last[v] = i;
      if (r->maker[v] < 0 || r->era[r->maker[v]] == r->era[i]) continue;
      r->late[v] = true;
      if (!joins(p, e)) r->needed[v] = true;
    }
  }
  for (int k = 0; k < p->n_out; k++) r->late[p->outs[k]] = r->needed[p->outs[k]] = true, r->last[p->outs[k]] = p->n_eqn;
}

/* The one operand as large as the result; -1: there is none, or another large one. */
static int32_t large_operand(const mx_program *p, const mx_eqn *e) {
  int64_t size = p->avals[e->out]->size;
  int32_t found = -1;
  for (int k = 0; k < e->n_in; k++) {
    int32_t v = e->in[k];
    if (p->avals[v]->size <= size / FEW || v == found) continue;
    if (found >= 0 || p->avals[v]->size != size) return -1;
    found = v;
  }
  return found;
}

static bool is_chained(const recomputing *r, int32_t v) {
  int32_t i = r->maker[v];
  return i >= 0 && mx_is_cheap(r->p->eqns[i].prim) && large_operand(r->p, &r->p->eqns[i]) >= 0;
}

/* It would not be kept if it were recomputed. */
static bool is_candidate(const recomputing *r, int32_t v) {
  return r->late[v] && !r->needed[v] && r->p->avals[v]->size >= LEAST && r->base[v] >= 0;
}

/* It is kept whatever is decided. */
static bool is_kept(const recomputing *r, int32_t v) {
  return r->maker[v] < 0 || (r->late[v] && (r->needed[v] || r->base[v] < 0));
}

static void find_chains(recomputing *r) {
  const mx_program *p = r->p;
  for (int i = 0; i < p->n_eqn; i++) {
    int32_t v = p->eqns[i].out;
    if (p->eqns[i].n_out != 1 || !is_chained(r, v)) continue;
    int32_t x = large_operand(p, &p->eqns[i]);
    bool ends = is_kept(r, x) || r->base[x] < 0 || r->length[x] >= LONGEST;
    r->base[v] = ends ? x : r->base[x];
    r->length[v] = (uint8_t)(ends ? 1 : r->length[x] + 1);
    if (is_candidate(r, v)) r->sharers[r->base[v]]++;
  }
}

static bool is_recomputed(const recomputing *r, int32_t v) {
  if (!is_candidate(r, v)) return false;
  int32_t b = r->base[v];
  return (is_kept(r, b) && (r->maker[b] < 0 || r->last[b] >= r->last[v])) || r->sharers[b] > 1;
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

static int32_t write(recomputing *r, const mx_eqn *e, const int32_t *in) {
  return mx_program_copy(r->c, r->memory, r->to, r->p, e, in);
}

/* The value, made again of its base. */
static int32_t copy_of(recomputing *r, int32_t v, int32_t era) {
  if (r->at[v] == era + 1) return r->copy[v];
  const mx_eqn *e = &r->p->eqns[r->maker[v]];
  int32_t x = large_operand(r->p, e), in[4];
  for (int k = 0; k < e->n_in; k++) {
    in[k] = e->in[k] == x && x != r->base[v] ? copy_of(r, x, era) : r->map[e->in[k]];
    if (in[k] < 0) return -1;
  }
  r->at[v] = era + 1;
  r->copy[v] = write(r, e, in);
  if (r->copy[v] >= 0) r->to->eqns[r->to->n_eqn - 1].late = true;
  return r->copy[v];
}

static int32_t operand(recomputing *r, int i, int32_t v) {
  bool again = r->maker[v] >= 0 && r->era[r->maker[v]] != r->era[i] && is_recomputed(r, v);
  return again ? copy_of(r, v, r->era[i]) : r->map[v];
}

static bool write_all(recomputing *r) {
  const mx_program *p = r->p;
  for (int v = 0; v < p->n_in; v++)
    if ((r->map[v] = mx_program_input(r->c, r->to, p->avals[v])) < 0) return false;
  for (int k = 0; k < p->n_const; k++)
    if ((r->map[p->n_in + k] = mx_program_const(r->c, r->to, p->consts[k])) < 0) return false;
  for (int i = 0; i < p->n_eqn; i++) {
    const mx_eqn *e = &p->eqns[i];
    for (int k = 0; k < e->n_in; k++)
      if ((r->in[k] = operand(r, i, e->in[k])) < 0) return false;
    int32_t out = write(r, e, r->in);
    if (out < 0) return false;
    for (int k = 0; k < e->n_out; k++) r->map[e->out + k] = out + k;
  }
  for (int k = 0; k < p->n_out; k++)
    if (!mx_program_output(r->c, r->to, r->map[p->outs[k]])) return false;
  mx_list none = {0};
  return mx_program_finish(r->c, r->to, &none);
}

/* -- the pass ------------------------------------------------------------------------------------------------------ */

static bool reserve(recomputing *r) {
  mx_arena *memory = r->memory;
  size_t n = (size_t)r->p->n_var + 1, most_in = 1;
  for (int i = 0; i < r->p->n_eqn; i++)
    if (r->p->eqns[i].n_in > most_in) most_in = r->p->eqns[i].n_in;
  int32_t **all[] = {&r->maker, &r->last, &r->base, &r->sharers, &r->map, &r->copy, &r->at};
  for (size_t k = 0; k < sizeof all / sizeof *all; k++)
    if (!(*all[k] = mx_arena_alloc(r->c, memory, n * sizeof **all[k]))) return false;
  r->era = mx_arena_alloc(r->c, memory, (size_t)(r->p->n_eqn + 1) * sizeof *r->era);
  r->late = mx_arena_alloc(r->c, memory, n);
  r->needed = mx_arena_alloc(r->c, memory, n);
  r->length = mx_arena_alloc(r->c, memory, n);
  r->in = mx_arena_alloc(r->c, memory, most_in * sizeof *r->in);
  return r->era && r->late && r->needed && r->length && r->in;
}

mx_program *mx_recompute(mx_ctx *c, mx_program *p) {
  mx_arena memory = {.engine = c->engine};
  recomputing r = {.c = c, .p = p, .memory = &memory};
  bool ok = reserve(&r), any = false;
  if (ok) {
    find_readers(&r);
    find_chains(&r);
    for (int32_t v = 0; v < p->n_var && !any; v++) any = is_recomputed(&r, v);
  }
  if (ok && any) ok = (r.to = mx_program_new(c)) && write_all(&r);
  mx_arena_release(&memory);
  if (ok) return any ? r.to : mx_program_retain(p);
  mx_program_release(r.to);
  return NULL;
}
