/* control.c: running control flow: the plans of the programs inside, called on slices of the operands' memory. */
#include "plan_impl.h"

/* Operands as row-major memory. */
typedef struct operands {
  char **data;
  size_t *bytes; /* of scratch; 0: the operand's own memory */
  int n;
  mx_arena memory;
} operands;

static bool take_operands(mx_ctx *c, const mx_kernel_args *k, operands *o) {
  *o = (operands){.n = k->n_in, .memory.engine = c->engine};
  o->data = mx_arena_alloc(c, &o->memory, (size_t)(k->n_in + 1) * sizeof *o->data);
  o->bytes = mx_arena_alloc(c, &o->memory, (size_t)(k->n_in + 1) * sizeof *o->bytes);
  for (int i = 0; o->data && o->bytes && i < k->n_in; i++)
    if (!(o->data[i] = mx_cpu_contiguous(c, &k->in[i], &o->bytes[i]))) return false;
  return o->data && o->bytes;
}

static void free_operands(mx_ctx *c, operands *o) {
  for (int i = 0; o->data && o->bytes && i < o->n; i++)
    if (o->bytes[i]) mx_scratch_free(c, o->data[i], o->bytes[i]);
  mx_arena_release(&o->memory);
}

/* Two sets of buffers for the carry, written in turn. What a step may write where the step before did lies in the
 * result in both. */
typedef struct carry {
  char **set[2];
  char *block;
  size_t bytes;
} carry;

static size_t padded(const mx_aval *a) { return (mx_nbytes(a) + 255) / 256 * 256 + 256; }

/* The carry are the body's inputs from `first` on, and its first results. */
static bool take_carry(mx_ctx *c, mx_arena *memory, const mx_plan *body, int first, int n, const mx_tensor *out,
                       carry *r) {
  *r = (carry){0};
  for (int s = 0; s < 2; s++)
    if (!(r->set[s] = mx_arena_alloc(c, memory, (size_t)(n + 1) * sizeof(char *)))) return false;
  for (int i = 0; i < n; i++)
    if (mx_plan_may_take(body, i, first + i)) r->set[0][i] = r->set[1][i] = out[i].data;
    else r->bytes += 2 * padded(out[i].aval);
  if (r->bytes && !(r->block = mx_scratch(c, r->bytes))) return false;
  char *at = r->block;
  for (int s = 0; s < 2; s++)
    for (int i = 0; i < n; i++)
      if (r->set[s][i] != out[i].data) r->set[s][i] = at, at += padded(out[i].aval);
  return true;
}

/* -- scan ---------------------------------------------------------------------------------------------------------- */

typedef struct scanning {
  mx_plan *plan;
  const mx_program *body;
  int n_const, n_carry, n_in, n_out;
  int64_t length;
  bool reverse;
  char **in, **out; /* of one step */
} scanning;

static void point_slices(const scanning *s, const operands *o, const mx_kernel_args *k, int64_t t) {
  for (int i = s->n_const + s->n_carry; i < s->n_in; i++)
    s->in[i] = o->data[i] + (size_t)t * mx_nbytes(s->body->avals[i]);
  for (int j = s->n_carry; j < s->n_out; j++)
    s->out[j] = k->out[j].data + (size_t)t * mx_nbytes(s->body->avals[s->body->outs[j]]);
}

static bool run_scan(mx_ctx *c, const mx_kernel_args *k, const scanning *s, const operands *o, const carry *r) {
  for (int i = 0; i < s->n_const + s->n_carry; i++) s->in[i] = o->data[i];
  for (int64_t step = 0; step < s->length; step++) {
    point_slices(s, o, k, s->reverse ? s->length - 1 - step : step);
    for (int i = 0; i < s->n_carry; i++) s->out[i] = step + 1 == s->length ? k->out[i].data : r->set[step & 1][i];
    if (!mx_plan_call(c, s->plan, s->in, s->out)) return false;
    for (int i = 0; i < s->n_carry; i++) s->in[s->n_const + i] = s->out[i];
  }
  for (int i = 0; s->length == 0 && i < s->n_carry; i++)
    memcpy(k->out[i].data, o->data[s->n_const + i], mx_nbytes(k->out[i].aval));
  return true;
}

static bool scan_kernel(mx_ctx *c, const mx_kernel_args *k) {
  mx_program *body = k->p->scan.body->items[0];
  scanning s = {.plan = mx_plan_of(c, body),
                .body = body,
                .n_const = (int)k->p->scan.n_const,
                .n_carry = (int)k->p->scan.n_carry,
                .n_in = k->n_in,
                .n_out = k->n_out,
                .length = k->p->scan.length,
                .reverse = k->p->scan.reverse};
  operands o = {0};
  carry r = {0};
  bool ok = s.plan && take_operands(c, k, &o) && take_carry(c, &o.memory, s.plan, s.n_const, s.n_carry, k->out, &r);
  if (ok) {
    s.in = mx_arena_alloc(c, &o.memory, (size_t)(k->n_in + 1) * sizeof *s.in);
    s.out = mx_arena_alloc(c, &o.memory, (size_t)(k->n_out + 1) * sizeof *s.out);
    ok = s.in && s.out && run_scan(c, k, &s, &o, &r);
  }
  if (r.block) mx_scratch_free(c, r.block, r.bytes);
  free_operands(c, &o);
  return ok;
}

/* -- while --------------------------------------------------------------------------------------------------------- */

static bool run_loop(mx_ctx *c, const mx_kernel_args *k, mx_plan *body, const operands *o, const carry *r,
                     char **in_cond, char **in_body) {
  int n_cond = (int)k->p->loop.n_const[0], n_body = (int)k->p->loop.n_const[1], n = k->n_out;
  mx_plan *cond = mx_plan_of(c, k->p->loop.of->items[0]);
  if (!cond) return false;
  memcpy(in_cond, o->data, (size_t)n_cond * sizeof *in_cond);
  memcpy(in_body, o->data + n_cond, (size_t)n_body * sizeof *in_body);
  char *const *now = o->data + n_cond + n_body;
  for (int64_t step = 0;; step++) {
    unsigned char holds = 0;
    char *result = (char *)&holds;
    memcpy(in_cond + n_cond, now, (size_t)n * sizeof *now);
    memcpy(in_body + n_body, now, (size_t)n * sizeof *now);
    if (!mx_poll(c) || !mx_plan_call(c, cond, in_cond, &result)) return false;
    if (!holds) break;
    if (!mx_plan_call(c, body, in_body, r->set[step & 1])) return false;
    now = r->set[step & 1];
  }
  for (int i = 0; i < n; i++)
    if (now[i] != k->out[i].data) memcpy(k->out[i].data, now[i], mx_nbytes(k->out[i].aval));
  return true;
}

static bool loop_kernel(mx_ctx *c, const mx_kernel_args *k) {
  operands o = {0};
  carry r = {0};
  int n_body = (int)k->p->loop.n_const[1];
  mx_plan *body = mx_plan_of(c, k->p->loop.of->items[1]);
  bool ok = body && take_operands(c, k, &o) && take_carry(c, &o.memory, body, n_body, k->n_out, k->out, &r);
  char **in_cond = ok ? mx_arena_alloc(c, &o.memory, (size_t)(k->n_in + 1) * sizeof *in_cond) : NULL;
  char **in_body = in_cond ? mx_arena_alloc(c, &o.memory, (size_t)(k->n_in + 1) * sizeof *in_body) : NULL;
  ok = in_body && run_loop(c, k, body, &o, &r, in_cond, in_body);
  if (r.block) mx_scratch_free(c, r.block, r.bytes);
  free_operands(c, &o);
  return ok;
}

/* -- one program --------------------------------------------------------------------------------------------------- */

static bool call_program(mx_ctx *c, const mx_kernel_args *k, mx_program *p, char *const *in, mx_arena *memory) {
  mx_plan *plan = mx_plan_of(c, p);
  char **out = plan ? mx_arena_alloc(c, memory, (size_t)(k->n_out + 1) * sizeof *out) : NULL;
  for (int i = 0; out && i < k->n_out; i++) out[i] = k->out[i].data;
  return out && mx_plan_call(c, plan, in, out);
}

static bool branch_kernel(mx_ctx *c, const mx_kernel_args *k) {
  const mx_programs *l = k->p->branch.of;
  int32_t i = *(const int32_t *)k->in[0].data;
  i = i < 0 ? 0 : i >= l->n ? l->n - 1 : i;
  operands o = {0};
  bool ok = take_operands(c, k, &o) && call_program(c, k, l->items[i], o.data + 1, &o.memory);
  free_operands(c, &o);
  return ok;
}

static bool call_kernel(mx_ctx *c, const mx_kernel_args *k) {
  operands o = {0};
  bool ok = take_operands(c, k, &o) && call_program(c, k, k->p->call.of->items[0], o.data, &o.memory);
  free_operands(c, &o);
  return ok;
}

bool mx_cpu_control(mx_ctx *c, const mx_kernel_args *a) {
  switch (a->prim->id) {
  case MX_PRIM_scan: return scan_kernel(c, a);
  case MX_PRIM_loop: return loop_kernel(c, a);
  case MX_PRIM_branch: return branch_kernel(c, a);
  case MX_PRIM_custom_linear:
    mx_fail(
        c, MLAX_UNSUPPORTED,
        "forward-mode differentiation of a function with a custom vjp is not defined (use grad or vjp, or custom_jvp)");
    return false;
  default: return call_kernel(c, a);
  }
}

/* A collective that reaches a device has lost its vmap: api/ checks names, so only a program run outside its axis gets
 * here. */
bool mx_cpu_collective(mx_ctx *c, const mx_kernel_args *a) {
  mx_fail(c, MLAX_STATE, "the axis '%s' is not bound (need a vmap with this axis_name around)", a->p->axis_name.name);
  return false;
}
