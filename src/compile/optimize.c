/* optimize.c: the passes over a program, before it becomes a plan.
 *
 * They ask nothing of one another but run best in this order, each on what those before it made (optimize_impl.h):
 *
 *     inline       functions with derivatives of their own, branches whose index is known: their equations
 *     simplify     algebra that holds for every bit: x * 1, convert there and back, chains of views
 *     layout       convolutions compute with channels last, and what works on their results does so, too
 *     reassociate  a sum of sums is one sum
 *     sink         conversions and functions go to where there are the fewest elements
 *     fold         what depends on constants alone, and is small, is computed now
 *     cse          what was computed already is not computed again
 *     hoist        what a loop computes at each step though it depends on no carry is computed before it
 *
 * Dead equations go last, and `recompute` looks at the whole that is left: what a few operations make of something else
 * is not kept for readers far away (recompute.c). Then fusion makes steps (fuse.c), epilogue gives them products for
 * heads (epilogue.c), schedule may put them in another order (schedule.c), in_place lets results overwrite operands
 * (plan.c) or be parts of others (parts.c). mlax.debug.passes switches each off by name. */
#include "optimize_impl.h"

static const struct {
  mx_pass pass;
  bool (*run)(mx_rewrite *r, const mx_node *n, int32_t *out);
} passes[] = {{MX_PASS_inline, mx_pass_inline}, {MX_PASS_simplify, mx_pass_simplify},
              {MX_PASS_layout, mx_pass_layout}, {MX_PASS_reassociate, mx_pass_reassociate},
              {MX_PASS_sink, mx_pass_sink},     {MX_PASS_fold, mx_pass_fold},
              {MX_PASS_cse, mx_pass_cse},       {MX_PASS_hoist, mx_pass_hoist}};

enum { N_PASSES = sizeof passes / sizeof *passes };

const char *const mx_pass_names[MX_PASS_COUNT] = {
#define MX_PASS(name) #name,
    MX_PASSES(MX_PASS)
#undef MX_PASS
};

unsigned mx_passes_off(const mx_ctx *c) { return c->nans ? (1u << MX_PASS_COUNT) - 1 : c->passes_off; }

bool mx_rewrite_node(mx_rewrite *r, const mx_node *n, int32_t *out) {
  for (int i = 0; i < N_PASSES; i++)
    if (mx_pass_on(r, passes[i].pass) && passes[i].run(r, n, out)) return !mx_failed(r->c);
  return mx_rewrite_append(r, n, out);
}

static bool rewrite(mx_rewrite *r, const mx_program *p) {
  int32_t *in = mx_arena_alloc(r->c, &r->memory, (size_t)(p->n_in + 1) * sizeof *in);
  int32_t *outs = mx_arena_alloc(r->c, &r->memory, (size_t)(p->n_out + 1) * sizeof *outs);
  if (!in || !outs) return false;
  for (int i = 0; i < p->n_in; i++)
    if ((in[i] = mx_rewrite_input(r, p->avals[i])) < 0) return false;
  if (!mx_rewrite_program(r, p, in, outs)) return false;
  for (int k = 0; k < p->n_out; k++)
    if (!mx_program_output(r->c, r->to, outs[k])) return false;
  mx_list none = {0};
  return mx_program_finish(r->c, r->to, &none);
}

/* What a trace around does not see: the passes compute with values of their own. A plan may be made inside a kernel,
 * that of a loop; operations begin anew there. */
static mx_program *run_passes(mx_ctx *c, const mx_program *p, unsigned on) {
  mx_rewrite r = {.c = c, .on = on, .to = mx_program_new(c), .memory.engine = c->engine};
  struct mx_trace *trace = c->trace;
  struct mx_profile *profile = c->profile;
  uint32_t site = c->site;
  int mark = mx_frame_mark(c);
  bool within = mx_host_begin(c);
  c->trace = NULL, c->profile = NULL;
  bool ok = r.to && rewrite(&r, p);
  c->trace = trace, c->profile = profile, c->site = site;
  mx_host_end(c, within);
  mx_frame_release(c, mark);
  mx_rewrite_free(&r);
  if (ok) return r.to->optimized = true, r.to;
  mx_program_release(r.to);
  return NULL;
}

mx_program *mx_program_optimize(mx_ctx *c, mx_program *p) {
  unsigned on = 0;
  for (int i = 0; i < N_PASSES; i++) on |= 1u << passes[i].pass;
  on &= ~mx_passes_off(c);
  if (p->optimized || !p->n_eqn) return mx_program_retain(p);
  mx_program *walked = on ? run_passes(c, p, on) : mx_program_retain(p);
  if (!walked || mx_passes_off(c) >> MX_PASS_recompute & 1) return walked;
  mx_program *thin = mx_recompute(c, walked);
  mx_program_release(walked);
  if (thin) thin->optimized = true;
  return thin;
}
