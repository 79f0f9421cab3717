/* group.c: a group of elementwise equations as one step: which values it reads, the code, which values it writes. Where
 * it has a head, a product whose result it reads, that is part of the step. */
#include "plan_impl.h"

#include <stdio.h>

enum {
  MAX_GROUP = 64,
  MOST_NS = 4 /* for an element, of code behind a product */
};

typedef struct operand {
  int32_t var;
  const mx_aval *shape; /* of the equation that reads it */
} operand;

typedef struct grouping {
  mx_ctx *c;
  mx_plan *p;
  const mx_fusion *f;
  const int32_t *members; /* those that compute, in order, but the head */
  int n;
  const mx_eqn *head; /* NULL: there is none */
  int64_t elements, cols;
  operand operands[3 * MAX_GROUP];
  int n_operands;
  int value[MAX_GROUP]; /* by member */
  mx_coder coder;
} grouping;

static const mx_eqn *member(const grouping *g, int i) { return &g->p->program->eqns[g->members[i]]; }
static const mx_aval *aval(const grouping *g, int32_t v) { return g->p->program->avals[v]; }

static int member_of(const grouping *g, int32_t v) {
  for (int i = g->n - 1; i >= 0; i--)
    if (member(g, i)->out == v) return i;
  return -1;
}

static bool is_row(const grouping *g, const mx_aval *a) { return g->cols && a->size != g->elements; }

static bool lies_in_row(const grouping *g, const operand *o) {
  return g->p->slots[o->var].contiguous && aval(g, o->var)->size == o->shape->size;
}

/* The operand's number. One variable read in two shapes is two operands, if it is broadcast to them. */
static int add_operand(grouping *g, int32_t v, const mx_aval *shape) {
  operand new = {v, shape};
  for (int k = 0; k < g->n_operands; k++) {
    const operand *o = &g->operands[k];
    if (o->var != v || o->shape->size != shape->size) continue;
    if (lies_in_row(g, o) || aval(g, v)->size == 1 || mx_shape_equal(o->shape, shape)) return k;
  }
  g->operands[g->n_operands] = new;
  return g->n_operands++;
}

/* The shape in which an equation sees operand k: its own where it folds that, else the result's. */
static const mx_aval *shape_read(const grouping *g, const mx_eqn *e, int k) {
  return aval(g, mx_cpu_folds(e->prim, aval(g, e->in[0])->dtype) ? e->in[k] : e->out);
}

/* Whether v is what the head makes, or a view of that. */
static bool is_product(const grouping *g, int32_t v) {
  return g->head && g->p->slots[v].strides && g->p->slots[v].root == g->p->slots[g->head->out].root;
}

/* What the head makes comes first. */
static void find_product(grouping *g) {
  for (int i = 0; g->head && i < g->n; i++) {
    const mx_eqn *e = member(g, i);
    for (int k = 0; k < e->n_in; k++)
      if (member_of(g, e->in[k]) < 0 && is_product(g, e->in[k])) add_operand(g, e->in[k], shape_read(g, e, k));
  }
}

static void find_operands(grouping *g) {
  find_product(g);
  for (int i = 0; i < g->n; i++) {
    const mx_eqn *e = member(g, i);
    for (int k = 0; k < e->n_in; k++)
      if (member_of(g, e->in[k]) < 0) add_operand(g, e->in[k], shape_read(g, e, k));
  }
  for (int k = 0; k < g->n_operands; k++) {
    const operand *o = &g->operands[k];
    mx_coder_operand(&g->coder, aval(g, o->var)->dtype, lies_in_row(g, o), is_row(g, o->shape));
  }
}

static int value_of(grouping *g, const mx_eqn *e, int k) {
  const mx_aval *shape = shape_read(g, e, k);
  int i = member_of(g, e->in[k]);
  if (i < 0) return add_operand(g, e->in[k], shape);
  return is_row(g, shape) ? g->value[i] : mx_coder_spread(&g->coder, g->value[i]);
}

static int apply(grouping *g, const mx_eqn *e, const int *in) {
  if (mx_eqn_is_alias(g->p->program, e)) return in[0];
  if (mx_eqn_joins_rows(g->p->program, e))
    return mx_coder_join_rows(&g->coder, e->prim, in[0], aval(g, e->out)->size == 1);
  if (mx_cpu_folds(e->prim, aval(g, e->in[0])->dtype)) return mx_coder_fold(&g->coder, e->prim, in[0]);
  return mx_coder_apply(&g->coder, e->prim, in, e->n_in, aval(g, e->out)->dtype);
}

static void write_code(grouping *g) {
  for (int i = 0; i < g->n; i++) {
    const mx_eqn *e = member(g, i);
    int in[3];
    for (int k = 0; k < e->n_in; k++) in[k] = value_of(g, e, k);
    g->value[i] = apply(g, e, in);
  }
}

/* The first member that has this value and is used outside. */
static int first_with(const grouping *g, int i) {
  for (int j = 0; j < i; j++)
    if (g->value[j] == g->value[i] && g->f->used_outside[member(g, j)->out]) return j;
  return i;
}

static void mark_results(grouping *g) {
  for (int i = 0; i < g->n; i++)
    if (g->f->used_outside[member(g, i)->out] && first_with(g, i) == i) mx_coder_result(&g->coder, g->value[i]);
}

/* -- the step ------------------------------------------------------------------------------------------------------ */

static void *keep(mx_ctx *c, mx_plan *p, const void *from, size_t bytes) {
  void *to = mx_arena_alloc(c, &p->memory, bytes);
  if (to && bytes) memcpy(to, from, bytes);
  return to;
}

static mx_code *keep_code(const grouping *g) {
  const mx_code *from = &g->coder.code;
  mx_plan *p = g->p;
  mx_code *to = keep(g->c, p, from, sizeof *from);
  const mx_aval **shapes = mx_arena_alloc(g->c, &p->memory, (size_t)g->n_operands * sizeof *shapes);
  if (!to || !shapes) return NULL;
  for (int k = 0; k < g->n_operands; k++) shapes[k] = g->operands[k].shape;
  to->shape = shapes;
  to->ins = keep(g->c, p, from->ins, (size_t)from->n_ins * sizeof *from->ins);
  to->size = keep(g->c, p, from->size, (size_t)from->n_value * sizeof *from->size);
  to->row = keep(g->c, p, from->row, (size_t)from->n_value * sizeof *from->row);
  to->at = keep(g->c, p, from->at, (size_t)from->n_value * sizeof *from->at);
  to->out = keep(g->c, p, from->out, (size_t)from->n_out * sizeof *from->out);
  if (from->stages) to->stages = keep(g->c, p, from->stages, (size_t)from->n_stages * sizeof *from->stages);
  if (from->passes) to->passes = keep(g->c, p, from->passes, (size_t)from->n_passes * sizeof *from->passes);
  bool ok = (!from->passes || to->passes) && to->ins && to->size && to->row && to->at && to->out &&
            (!from->stages || to->stages);
  return ok ? to : NULL;
}

/* Whether nothing but the code reads what the head makes. */
static bool passes_product(const grouping *g, const int32_t *all, int n) {
  for (int i = 0; i < n; i++) {
    int32_t v = g->p->program->eqns[all[i]].out;
    if (member_of(g, v) < 0 && is_product(g, v) && g->f->used_outside[v]) return false;
  }
  return g->head != NULL;
}

/* Whether result k may lie where the product lies, which nothing else reads then. */
static bool may_lie_there(const grouping *g, int k) {
  const mx_code *code = &g->coder.code;
  bool alone = g->n_operands == 1 || !is_product(g, g->operands[1].var);
  return alone && (g->p->passes_off >> MX_PASS_in_place & 1) == 0 && mx_code_in_place(code, k, 0);
}

/* One value may be several variables: those behind the first are views of it. passes: the product is the code's. */
static bool add_results(grouping *g, bool passes) {
  mx_plan *p = g->p;
  for (int i = 0, k = 0; i < g->n; i++) {
    int32_t v = member(g, i)->out;
    if (!g->f->used_outside[v]) continue;
    int first = first_with(g, i);
    bool there = first == i && passes && may_lie_there(g, k);
    int32_t root = first < i ? p->slots[member(g, first)->out].root
                   : there   ? p->slots[g->head->out].root
                             : mx_plan_root(p, MX_AT_ARENA, 0, mx_nbytes(aval(g, v)), p->n_steps);
    if (!mx_plan_slot(g->c, p, v, root, 0, NULL)) return false;
    if (first == i) p->tensor_vars[p->n_tensors++] = v, k++;
    passes &= !there;
  }
  return true;
}

enum { LABEL_NAMES = 4, LABEL_BYTES = 160 };

/* "mul+add+exp+sub +7 more"; what needs no instruction does not count. NULL without memory. */
static const char *label_of(const grouping *g) {
  char *label = mx_arena_alloc(g->c, &g->p->memory, LABEL_BYTES);
  int count = 0, n = 0;
  for (int i = g->head ? -1 : 0; label && i < g->n; i++) {
    const mx_eqn *e = i < 0 ? g->head : member(g, i);
    if (mx_eqn_is_alias(g->p->program, e) || count++ >= LABEL_NAMES) continue;
    n += snprintf(label + n, LABEL_BYTES - (size_t)n, "%s%.30s", count > 1 ? "+" : "", e->prim->name);
  }
  if (label && count > LABEL_NAMES) snprintf(label + n, LABEL_BYTES - (size_t)n, " +%d more", count - LABEL_NAMES);
  return label;
}

static double flops_of(const grouping *g) {
  double sum = 0;
  for (int i = g->head ? -1 : 0; i < g->n; i++) {
    const mx_eqn *e = i < 0 ? g->head : member(g, i);
    const mx_aval *in[3] = {0};
    for (int k = 0; k < e->n_in; k++) in[k] = aval(g, e->in[k]);
    mx_op o = {
        .prim = e->prim, .p = e->params, .n_in = e->n_in, .n_out = 1, .in_aval = in, .out_aval = aval(g, e->out)};
    if (e->prim->flops) sum += e->prim->flops(&o);
  }
  return sum;
}

/* The kernel of the step's head, what it reads and what it makes. */
static bool add_head(grouping *g, mx_step *s) {
  mx_plan *p = g->p;
  s->head = g->head;
  s->kernel = mx_cpu.kernels[g->head->prim->id];
  p->tensor_vars[p->n_tensors++] = g->head->out; /* behind the results */
  return mx_plan_prepare(g->c, p, s);
}

/* all: the members, with views and the head. */
static bool add_step(grouping *g, const int32_t *all, int n_all) {
  mx_plan *p = g->p;
  mx_step *s = &p->steps[p->n_steps];
  *s = (mx_step){.code = keep_code(g), .eqn = member(g, g->n - 1), .tensors = p->n_tensors};
  s->n_in = g->n_operands + (g->head ? g->head->n_in : 0);
  s->n_out = g->coder.code.n_out;
  s->label = label_of(g);
  s->flops = flops_of(g);
  s->passes = passes_product(g, all, n_all);
  if (!s->code || !s->label) return false;
  for (int k = 0; k < g->n_operands; k++) p->tensor_vars[p->n_tensors++] = g->operands[k].var;
  for (int k = 0; g->head && k < g->head->n_in; k++) p->tensor_vars[p->n_tensors++] = g->head->in[k];
  for (int i = 0; i < n_all; i++)
    if (is_product(g, p->program->eqns[all[i]].out)) p->step_of[all[i]] = p->n_steps;
  if (!add_results(g, s->passes) || (g->head && !add_head(g, s))) return false;
  for (int i = 0; i < g->n; i++) p->step_of[g->members[i]] = p->n_steps;
  p->labels[p->n_steps] = g->n > 1 || g->head ? s->label : NULL;
  p->n_steps++;
  return true;
}

/* Aliases of what lies outside are views and not part of the pass; they come first. The rest is packed to the front. */
static bool add_views(mx_ctx *c, mx_plan *p, const int32_t *members, int n, int32_t head, int32_t *rest, int *n_rest) {
  const mx_program *program = p->program;
  *n_rest = 0;
  if (head >= 0 && !mx_plan_results(c, p, &program->eqns[head])) return false;
  for (int i = 0; i < n; i++) {
    const mx_eqn *e = &program->eqns[members[i]];
    bool inside = false;
    if (members[i] == head) continue;
    for (int j = 0; j < *n_rest; j++) inside |= program->eqns[rest[j]].out == e->in[0];
    if (inside || !mx_eqn_is_alias(program, e)) rest[(*n_rest)++] = members[i];
    else if (!mx_plan_equation(c, p, e)) return false;
  }
  return true;
}

static bool add_singly(mx_ctx *c, mx_plan *p, const int32_t *members, int n) {
  for (int i = 0; i < n; i++)
    if (!mx_plan_equation(c, p, &p->program->eqns[members[i]])) return false;
  return true;
}

/* A group without rows that is joined to one element gets rows of any length. */
static bool find_cols(grouping *g) {
  for (int i = 0; i < g->n && g->cols == 0; i++)
    if (mx_eqn_joins_rows(g->p->program, member(g, i)) && (g->cols = mx_any_width(g->elements)) == 0) return false;
  return true;
}

/* Whether some value has one element a row. */
static bool has_row_values(const grouping *g) {
  for (int i = 0; i < g->n; i++) {
    const mx_eqn *e = member(g, i);
    if (!mx_eqn_joins_rows(g->p->program, e) && aval(g, e->out)->size != g->elements) return true;
  }
  return false;
}

/* Code that takes long hides the way through memory, and wants to be cut for the threads by itself. */
static bool is_cheap(const mx_code *code) { return code->ns <= MOST_NS; }

bool mx_plan_group(mx_ctx *c, mx_plan *p, const mx_fusion *f, int group) {
  int first = group ? f->ends[group - 1] : 0, n = f->ends[group] - first;
  int32_t rest[MAX_GROUP], head = f->head[group];
  grouping g = {.c = c, .p = p, .f = f, .members = rest, .elements = f->elements[group], .cols = f->cols[group]};
  g.head = head >= 0 ? &p->program->eqns[head] : NULL;
  if (!add_views(c, p, f->eqns + first, n, head, rest, &g.n)) return false;
  if (g.n == 0) return true;
  if (g.n == 1 && !mx_cpu_is_elementwise(member(&g, 0)->prim)) return mx_plan_equation(c, p, member(&g, 0));
  bool fits = find_cols(&g);
  mx_coder_start(&g.coder, g.cols ? g.elements / g.cols : 0, g.cols);
  if (!has_row_values(&g)) mx_coder_widen(&g.coder);
  find_operands(&g);
  write_code(&g);
  mark_results(&g);
  fits = fits && mx_coder_finish(&g.coder, g.elements) && g.n_operands <= MX_MAX_OPERANDS;
  if (g.head && !(fits && is_cheap(&g.coder.code))) {
    if (!mx_plan_kernel(c, p, g.head)) return false;
    g.head = NULL;
  }
  return fits ? add_step(&g, f->eqns + first, n) : add_singly(c, p, rest, g.n);
}
