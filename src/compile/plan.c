/* plan.c: from an optimized program to steps. Views become strides; everything else one kernel call; then buffers are
 * placed. */
#include "plan_impl.h"

static void *take(mx_ctx *c, mx_plan *p, int n, size_t item) {
  return mx_arena_alloc(c, &p->memory, (size_t)(n + 1) * item);
}

static bool is_on(const mx_plan *p, mx_pass pass) { return (p->passes_off >> pass & 1) == 0; }

/* -- slots --------------------------------------------------------------------------------------------------------- */

int32_t mx_plan_root(mx_plan *p, mx_place place, int index, size_t bytes, int first) {
  p->roots[p->n_roots] =
      (mx_root){.place = place, .index = index, .bytes = bytes, .first = first, .last = first, .overwrites = -1};
  return p->n_roots++;
}

bool mx_plan_slot(mx_ctx *c, mx_plan *p, int32_t v, int32_t root, int64_t offset, const int64_t *strides) {
  const mx_aval *a = p->program->avals[v];
  mx_slot *s = &p->slots[v];
  *s = (mx_slot){.root = root, .offset = offset, .strides = take(c, p, a->ndim, sizeof(int64_t))};
  if (!s->strides) return false;
  if (strides) memcpy(s->strides, strides, a->ndim * sizeof *strides);
  else mx_strides_contiguous(a, s->strides);
  s->contiguous = mx_strides_are_contiguous(a, s->strides);
  return true;
}

/* Inputs are row-major when a plan runs (run.c copies others); constants are as they are. */
static bool slots_of_inputs(mx_ctx *c, mx_plan *p) {
  const mx_program *g = p->program;
  for (int v = 0; v < g->n_in; v++)
    if (!mx_plan_slot(c, p, v, mx_plan_root(p, MX_AT_INPUT, v, mx_nbytes(g->avals[v]), -1), 0, NULL)) return false;
  for (int k = 0; k < g->n_const; k++) {
    const mx_array *x = g->consts[k];
    if (!mx_plan_slot(c, p, g->n_in + k, mx_plan_root(p, MX_AT_CONST, k, 0, -1), 0, x->strides)) return false;
  }
  return true;
}

static bool try_view(mx_ctx *c, mx_plan *p, const mx_eqn *e, bool *done) {
  *done = false;
  if (!e->prim->view || e->n_in == 0) return true;
  const mx_program *g = p->program;
  const mx_aval *in[16];
  for (int k = 0; k < e->n_in && k < 16; k++) in[k] = g->avals[e->in[k]];
  mx_op o = {.prim = e->prim, .p = e->params, .n_in = e->n_in, .n_out = 1, .in_aval = in, .out_aval = g->avals[e->out]};
  const mx_slot *base = &p->slots[e->in[0]];
  int64_t offset = 0, strides[MX_MAX_NDIM];
  if (!e->prim->view(&o, base->strides, &offset, strides)) return true;
  *done = true;
  return mx_plan_slot(c, p, e->out, base->root, base->offset + offset, strides);
}

enum { PREPARED = 8 }; /* operands and results, at most */

static mx_tensor tensor_of(const mx_plan *p, int32_t v) {
  return (mx_tensor){NULL, p->program->avals[v], p->slots[v].strides, p->slots[v].contiguous};
}

bool mx_plan_prepare(mx_ctx *c, mx_plan *p, mx_step *s) {
  const mx_eqn *e = s->head;
  mx_tensor all[PREPARED];
  if (e->n_in + e->n_out > PREPARED) return true;
  for (int k = 0; k < e->n_in; k++) all[k] = tensor_of(p, e->in[k]);
  for (int k = 0; k < e->n_out; k++) all[e->n_in + k] = tensor_of(p, e->out + k);
  mx_kernel_args args = {.prim = e->prim, .p = e->params, .n_in = e->n_in, .n_out = e->n_out};
  args.in = all, args.out = all + e->n_in;
  return mx_cpu.prepare(c, &args, &p->memory, &s->prepared);
}

bool mx_plan_kernel(mx_ctx *c, mx_plan *p, const mx_eqn *e) {
  mx_step *s = &p->steps[p->n_steps];
  *s = (mx_step){.kernel = mx_cpu.kernels[e->prim->id], .head = e, .eqn = e, .n_in = e->n_in, .n_out = e->n_out};
  s->tensors = p->n_tensors;
  if (!s->kernel) return mx_no_rule(c, e->prim, "compilation"), false;
  for (int k = 0; k < e->n_in; k++) p->tensor_vars[p->n_tensors++] = e->in[k];
  for (int k = 0; k < e->n_out; k++) p->tensor_vars[p->n_tensors++] = e->out + k;
  p->step_of[e - p->program->eqns] = p->n_steps++;
  return mx_plan_prepare(c, p, s);
}

bool mx_plan_results(mx_ctx *c, mx_plan *p, const mx_eqn *e) {
  for (int32_t v = e->out; v < e->out + e->n_out; v++) {
    int32_t root = mx_plan_root(p, MX_AT_ARENA, 0, mx_nbytes(p->program->avals[v]), p->n_steps);
    if (!mx_plan_slot(c, p, v, root, 0, NULL)) return false;
  }
  return true;
}

bool mx_plan_equation(mx_ctx *c, mx_plan *p, const mx_eqn *e) {
  bool view;
  if (!try_view(c, p, e, &view)) return false;
  p->step_of[e - p->program->eqns] = -1;
  return view || (mx_plan_results(c, p, e) && mx_plan_kernel(c, p, e));
}

/* -- lifetimes ----------------------------------------------------------------------------------------------------- */

bool mx_plan_is_whole(const mx_plan *p, int32_t v) {
  const mx_slot *s = &p->slots[v];
  return s->contiguous && s->offset == 0 && mx_nbytes(p->program->avals[v]) == p->roots[s->root].bytes;
}

static bool mark_results(mx_ctx *c, mx_plan *p) {
  const mx_program *g = p->program;
  p->result_roots = take(c, p, g->n_out, sizeof *p->result_roots);
  p->direct = take(c, p, g->n_out, sizeof *p->direct);
  if (!p->result_roots || !p->direct) return false;
  for (int k = 0; k < g->n_out; k++) {
    int32_t root = p->slots[g->outs[k]].root;
    mx_root *r = &p->roots[root];
    if (r->place != MX_AT_ARENA) continue;
    r->place = MX_AT_RESULT;
    r->index = p->n_results;
    p->result_roots[p->n_results++] = root;
  }
  for (int r = 0; r < p->n_results; r++) p->direct[r] = -1;
  for (int k = 0; k < g->n_out; k++) {
    const mx_root *r = &p->roots[p->slots[g->outs[k]].root];
    if (r->place == MX_AT_RESULT && mx_plan_is_whole(p, g->outs[k]) && p->direct[r->index] < 0) p->direct[r->index] = k;
  }
  return true;
}

static void mark_lifetimes(mx_plan *p) {
  for (int r = 0; r < p->n_roots; r++) {
    p->roots[r].last = p->roots[r].first;
    p->roots[r].overwrites = -1;
    p->roots[r].overwritten = false;
  }
  for (int i = 0; i < p->n_steps; i++)
    for (int t = p->steps[i].tensors, k = 0; k < p->steps[i].n_in + p->steps[i].n_out; k++) {
      mx_root *r = &p->roots[p->slots[p->tensor_vars[t + k]].root];
      if (r->last < i) r->last = i;
    }
}

/* Whether one operand alone reads the root: another view of it may be read when it is overwritten already. */
static bool read_once(const mx_plan *p, const mx_step *s, int32_t root) {
  int readers = 0;
  for (int k = 0; k < s->n_in; k++) readers += p->slots[p->tensor_vars[s->tensors + k]].root == root;
  return readers == 1;
}

/* Code where it reads before it writes, but for what lies where its product lies: the kernel writes there earlier.
 * Kernels that change a few elements of their first operand. */
bool mx_step_in_place(const mx_plan *p, const mx_step *s, int k, int j) {
  if (!s->code) return s->eqn->prim->updates && k == 0 && j == 0;
  int32_t out = p->tensor_vars[s->tensors + s->n_in + k];
  bool early = s->kernel && p->slots[s->head->out].root == p->slots[out].root;
  return !early && j < s->code->n_in && mx_code_in_place(s->code, k, j);
}

/* Result k takes the place of an operand that dies at the step. */
static void overwrite_operand(mx_plan *p, int i, int k) {
  const mx_step *s = &p->steps[i];
  const int32_t *in = p->tensor_vars + s->tensors, out = in[s->n_in + k];
  mx_root *to = &p->roots[p->slots[out].root];
  if (to->place != MX_AT_ARENA || to->first != i || !mx_plan_is_whole(p, out)) return;
  for (int j = 0; j < s->n_in; j++) {
    int32_t root = p->slots[in[j]].root;
    mx_root *from = &p->roots[root];
    if (from->place != MX_AT_ARENA || from->last != i || from->overwritten || from->bytes != to->bytes) continue;
    if (!mx_plan_is_whole(p, in[j]) || !read_once(p, s, root) || !mx_step_in_place(p, s, k, j)) continue;
    to->overwrites = root;
    from->overwritten = true;
    return;
  }
}

static void overwrite_operands(mx_plan *p) {
  for (int i = 0; i < p->n_steps; i++)
    for (int k = 0; k < p->steps[i].n_out; k++) overwrite_operand(p, i, k);
}

bool mx_plan_lay_out(mx_ctx *c, mx_plan *p) {
  mark_lifetimes(p);
  if (is_on(p, MX_PASS_in_place)) overwrite_operands(p);
  return mx_plan_place(c, p);
}

static bool find_patches(mx_ctx *c, mx_plan *p) {
  p->patches = take(c, p, p->n_tensors, sizeof *p->patches);
  if (!p->patches) return false;
  for (int t = 0; t < p->n_tensors; t++) {
    mx_place place = p->roots[p->slots[p->tensor_vars[t]].root].place;
    if (place == MX_AT_INPUT || place == MX_AT_RESULT) p->patches[p->n_patches++] = t;
  }
  return true;
}

/* -- make and free ------------------------------------------------------------------------------------------------- */

static bool reserve(mx_ctx *c, mx_plan *p) {
  const mx_program *g = p->program;
  int tensors = 0;
  for (int i = 0; i < g->n_eqn; i++) tensors += 3 + g->eqns[i].n_in + g->eqns[i].n_out;
  p->roots = take(c, p, g->n_var, sizeof *p->roots);
  p->slots = take(c, p, g->n_var, sizeof *p->slots);
  p->steps = take(c, p, g->n_eqn, sizeof *p->steps);
  p->tensor_vars = take(c, p, tensors, sizeof *p->tensor_vars);
  p->order = take(c, p, g->n_eqn, sizeof *p->order);
  p->step_of = take(c, p, g->n_eqn, sizeof *p->step_of);
  p->labels = take(c, p, g->n_eqn, sizeof *p->labels);
  return p->roots && p->slots && p->steps && p->tensor_vars && p->order && p->step_of && p->labels;
}

static bool add_group(mx_ctx *c, mx_plan *p, const mx_fusion *f, int g) {
  int first = g ? f->ends[g - 1] : 0;
  const mx_eqn *e = &p->program->eqns[f->eqns[first]];
  bool alone = f->ends[g] - first == 1;
  if (alone && (!mx_cpu_is_elementwise(e->prim) || p->program->avals[e->out]->size == 0))
    return mx_plan_equation(c, p, e);
  return mx_plan_group(c, p, f, g);
}

/* Notes the order of a group's equations: views first. */
static int note_order(mx_plan *p, const mx_fusion *f, int g, int n) {
  int first = g ? f->ends[g - 1] : 0;
  for (int views = 1; views >= 0; views--)
    for (int i = first; i < f->ends[g]; i++)
      if ((p->step_of[f->eqns[i]] < 0) == views) p->order[n++] = f->eqns[i];
  return n;
}

static bool add_groups(mx_ctx *c, mx_plan *p, mx_arena *memory) {
  mx_fusion f;
  if (!mx_fuse(c, p->program, is_on(p, MX_PASS_fusion), is_on(p, MX_PASS_epilogue), memory, &f)) return false;
  for (int g = 0, n = 0; g < f.n_group; g++) {
    if (!add_group(c, p, &f, g)) return false;
    n = note_order(p, &f, g, n);
  }
  return true;
}

static bool build(mx_ctx *c, mx_plan *p) {
  mx_arena memory = {.engine = c->engine};
  bool ok = reserve(c, p) && slots_of_inputs(c, p) && add_groups(c, p, &memory);
  mx_arena_release(&memory);
  if (!ok || !mark_results(c, p) || !mx_plan_lay_out(c, p)) return false;
  if (is_on(p, MX_PASS_schedule) && !mx_plan_schedule(c, p)) return false;
  if (is_on(p, MX_PASS_in_place) && !mx_plan_join_parts(c, p)) return false;
  return find_patches(c, p);
}

/* A plan of the program that owns it, as it is, must not keep it alive. */
static mx_plan *plan_new(mx_ctx *c, mx_program *program, bool owned) {
  mx_plan *p = mx_new(c, sizeof *p);
  if (!p) return NULL;
  atomic_init(&p->refs, 1);
  p->engine = mx_engine_retain(c->engine);
  p->memory.engine = p->engine;
  p->passes_off = mx_passes_off(c);
  p->program = mx_program_optimize(c, program);
  p->owned = owned && p->program == program;
  if (p->owned) mx_program_release(program);
  if (p->program && build(c, p)) return p;
  mx_plan_release(p);
  return NULL;
}

mx_plan *mx_plan_new(mx_ctx *c, mx_program *program) { return plan_new(c, program, false); }

static void free_owned(void *plan) {
  for (mx_plan *p = plan, *next; p; p = next) {
    next = p->next;
    mx_plan_release(p);
  }
}
void (*mx_plan_free)(void *plan) = free_owned;

/* The plans of a program are a list that only grows, at its head: one for each choice of passes. */
mx_plan *mx_plan_of(mx_ctx *c, mx_program *program) {
  unsigned off = mx_passes_off(c);
  void *head = atomic_load(&program->plan);
  mx_plan *p = head, *made = NULL;
  for (;;) {
    while (p && p->passes_off != off) p = p->next;
    if (p) break;
    if (!made && !(made = plan_new(c, program, true))) return NULL;
    made->next = head;
    if (atomic_compare_exchange_strong(&program->plan, &head, made)) return made;
    p = head; /* another thread was first, perhaps with the same passes */
  }
  mx_plan_release(made);
  return p;
}

/* -- show ---------------------------------------------------------------------------------------------------------- */

mx_program *mx_plan_program(const mx_plan *p) { return p->program; }

double mx_plan_bytes(const mx_plan *p) {
  double bytes = 0;
  for (const mx_step *s = p->steps; s < p->steps + p->n_steps; s++)
    for (int t = s->passes ? 1 : 0; t < s->n_in + s->n_out; t++)
      bytes += (double)mx_nbytes(p->program->avals[p->tensor_vars[s->tensors + t]]);
  return bytes;
}

static void lay_out(const mx_plan *p, mx_layout *l) {
  *l = (mx_layout){.program = p->program, .order = p->order, .step = p->step_of, .labels = p->labels};
}

/* A program that cannot be compiled (a collective's without its vmap, say) is shown as it is. */
static bool layout_inside(mx_ctx *c, mx_program *program, mx_layout *l) {
  const mx_plan *p = mx_plan_of(c, program);
  if (p) lay_out(p, l);
  else mx_clear(c);
  return p != NULL;
}

size_t mx_plan_print(mx_ctx *c, const mx_plan *p, char *to, size_t cap) {
  mx_layout l;
  lay_out(p, &l);
  return mx_program_print_laid(c, &l, layout_inside, to, cap);
}
size_t mx_plan_arena(const mx_plan *p) { return p->arena_bytes; }
