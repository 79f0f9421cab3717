/* branch.c: one of several programs, by an index that the data give. operands: index (int32, from 0, clamped), those of
 * every branch. */
#include "control_impl.h"

static bool branch_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_program *p = o->p->branch.of->items[0];
  (void)c;
  for (int k = 0; k < p->n_out; k++) {
    out[k] = *p->avals[p->outs[k]];
    out[k].weak = false;
  }
  return true;
}

/* Takes the n programs. */
static bool bind_branch(mx_ctx *c, mx_program **programs, int n, mx_array *const *in, int n_in, mx_array **out,
                        int n_out) {
  mx_params p;
  memset(&p, 0, sizeof p);
  bool ok = true;
  for (int i = 0; i < n; i++) ok &= programs[i] != NULL;
  if (ok) {
    p.branch.of = mx_programs_new(c, n, programs);
    ok = mx_bind_programs(c, &mx_prim_branch, &p, in, n_in, out, n_out);
  }
  for (int i = 0; i < n; i++) mx_program_release(programs[i]);
  return ok;
}

/* -- jvp: a tangent that one branch gives, all give ---------------------------------------------------------------- */

static bool branch_jvp(mx_ctx *c, const mx_op *o, mx_array *const *tangents, mx_array **out, mx_array **out_tangents) {
  const mx_programs *l = o->p->branch.of;
  mx_arena a = {c->engine, NULL};
  bool *in = mx_take(c, &a, o->n_in, 1), *nonzero = mx_take(c, &a, o->n_out, 1), ok = in && nonzero;
  mx_program **q = mx_take(c, &a, l->n, sizeof *q);
  mx_array **x = mx_take(c, &a, 2 * o->n_in, sizeof *x), **y = mx_take(c, &a, 2 * o->n_out, sizeof *y);
  ok = ok && q && x && y;
  int n = 0;
  for (int i = 0; ok && i < o->n_in; i++) x[n++] = o->in[i];
  for (int i = 1; ok && i < o->n_in; i++)
    if ((in[i - 1] = tangents[i] != NULL)) x[n++] = tangents[i];
  for (int pass = 0; ok && pass < 2; pass++)
    for (int i = 0; ok && i < l->n; i++) {
      mx_program_release(q[i]);
      ok = (q[i] = mx_program_jvp(c, l->items[i], in, nonzero)) != NULL;
    }
  int n_out = o->n_out;
  for (int k = 0; ok && k < o->n_out; k++) n_out += nonzero[k];
  ok = q && bind_branch(c, q, l->n, x, n, y, n_out) && ok;
  for (int k = 0, t = o->n_out; ok && k < o->n_out; k++) {
    out[k] = y[k];
    if (nonzero[k]) out_tangents[k] = y[t++];
  }
  mx_arena_release(&a);
  return ok;
}

/* -- partial evaluation: each known branch gives its residuals and others in the place of the others' -----------------
 *
 * Those are ones. Where each example takes its own branch, all branches are computed and one is chosen: what is linear
 * in the tangents and divides by residuals, or solves with them, is finite for ones, so that a second derivative does
 * not meet 0 * NaN. */

typedef struct padded {
  const mx_program *known;
  int n_out, first,
      n_residuals;      /* known results; of all residuals, where this branch's begin, and how many there are */
  const mx_aval *avals; /* of all residuals */
} padded;

static mx_array *harmless(mx_ctx *c, const mx_aval *a) {
  mx_dims shape = mx_dims_shape(a);
  return mx_full(c, a->dtype, &shape, mx_is_float(a->dtype));
}

static bool padded_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  const padded *p = state;
  mx_arena a = {c->engine, NULL};
  mx_array **y = mx_take(c, &a, p->known->n_out, sizeof *y);
  (void)n;
  bool ok = y && mx_program_eval(c, p->known, in, y);
  for (int k = 0; ok && k < p->n_out; k++) ok = mx_list_add(c, out, y[k]);
  int own = p->known->n_out - p->n_out;
  for (int r = 0; ok && r < p->n_residuals; r++) {
    bool mine = r >= p->first && r < p->first + own;
    mx_array *v = mine ? y[p->n_out + r - p->first] : harmless(c, &p->avals[r]);
    ok = v && mx_list_add(c, out, v);
  }
  mx_arena_release(&a);
  return ok;
}

typedef struct split {
  mx_program **known, **unknown, **made;
  bool *in, *out;
  int n, n_known_in, n_unknown_in, n_known_out, n_unknown_out, n_residuals;
  mx_aval *residuals;
  int *first; /* by branch */
} split;

static bool split_all(mx_ctx *c, mx_arena *a, const mx_op *o, const bool *unknown, split *s) {
  const mx_programs *l = o->p->branch.of;
  int n_in = o->n_in - 1;
  *s = (split){.n = l->n,
               .known = mx_take(c, a, l->n, sizeof *s->known),
               .unknown = mx_take(c, a, l->n, sizeof *s->unknown),
               .made = mx_take(c, a, l->n, sizeof *s->made),
               .in = mx_take(c, a, n_in, 1),
               .out = mx_take(c, a, o->n_out, 1),
               .first = mx_take(c, a, l->n, sizeof(int))};
  if (!s->known || !s->unknown || !s->made || !s->in || !s->out || !s->first) return false;
  for (int i = 0; i < n_in; i++) {
    s->in[i] = unknown[i + 1];
    *(s->in[i] ? &s->n_unknown_in : &s->n_known_in) += 1;
  }
  for (int pass = 0; pass < 2; pass++) /* the second time all know which results are unknown */
    for (int i = 0; i < l->n; i++) {
      mx_program_release(s->known[i]);
      mx_program_release(s->unknown[i]);
      s->known[i] = s->unknown[i] = NULL;
      if (!mx_program_split(c, l->items[i], s->in, s->out, &s->known[i], &s->unknown[i])) return false;
    }
  for (int k = 0; k < o->n_out; k++) *(s->out[k] ? &s->n_unknown_out : &s->n_known_out) += 1;
  for (int i = 0; i < l->n; i++) {
    s->first[i] = s->n_residuals;
    s->n_residuals += s->known[i]->n_out - s->n_known_out;
  }
  s->residuals = mx_take(c, a, s->n_residuals, sizeof *s->residuals);
  for (int i = 0, r = 0; s->residuals && i < l->n; i++)
    for (int k = s->n_known_out; k < s->known[i]->n_out; k++)
      s->residuals[r++] = *s->known[i]->avals[s->known[i]->outs[k]];
  return s->residuals != NULL;
}

static bool run_known(mx_ctx *c, mx_arena *a, const mx_op *o, split *s, mx_array **y) {
  mx_array **x = mx_take(c, a, o->n_in, sizeof *x);
  const mx_aval **avals = mx_take(c, a, o->n_in, sizeof *avals);
  if (!x || !avals) return false;
  int n = 0;
  x[n++] = o->in[0];
  for (int i = 1; i < o->n_in; i++)
    if (!s->in[i - 1]) avals[n - 1] = o->in_aval[i], x[n++] = o->in[i];
  bool ok = true;
  for (int i = 0; i < s->n; i++) {
    padded p = {s->known[i], s->n_known_out, s->first[i], s->n_residuals, s->residuals};
    s->made[i] = ok ? mx_program_of(c, (mx_function){padded_call, &p}, avals, n - 1) : NULL;
    ok = ok && s->made[i];
  }
  return bind_branch(c, s->made, s->n, x, n, y, s->n_known_out + s->n_residuals) && ok;
}

/* Each unknown branch takes the unknown operands and all residuals, of which it uses its own. */
static bool record_unknown(mx_ctx *c, mx_arena *a, mx_trace *lin, const mx_op *o, split *s, mx_array *const *residuals,
                           mx_array **z) {
  int n = 1 + s->n_unknown_in + s->n_residuals;
  mx_array **x = mx_take(c, a, n, sizeof *x);
  const mx_aval **avals = mx_take(c, a, n, sizeof *avals);
  int *source = mx_take(c, a, n, sizeof(int));
  if (!x || !avals || !source) return false;
  n = 0;
  x[n++] = o->in[0];
  for (int i = 1; i < o->n_in; i++)
    if (s->in[i - 1]) x[n++] = o->in[i];
  for (int r = 0; r < s->n_residuals; r++) x[n++] = residuals[r];
  for (int i = 0; i < n; i++) avals[i] = &x[i]->aval;
  bool ok = true;
  for (int i = 0; i < s->n; i++) {
    for (int k = 0; k < s->unknown[i]->n_in; k++) source[k] = k < s->n_unknown_in ? k : k + s->first[i];
    s->made[i] = ok ? mx_program_rewire(c, s->unknown[i], n - 1, avals + 1, source, s->n_unknown_out, NULL) : NULL;
    ok = ok && s->made[i];
  }
  mx_params p;
  memset(&p, 0, sizeof p);
  p.branch.of = ok ? mx_programs_new(c, s->n, s->made) : NULL;
  mx_op op = {.prim = &mx_prim_branch, .p = &p, .n_in = n, .n_out = s->n_unknown_out, .in = x, .in_aval = avals};
  ok = p.branch.of && mx_stage_process(c, lin, &op, z);
  mx_programs_release(p.branch.of);
  for (int i = 0; i < s->n; i++) mx_program_release(s->made[i]);
  return ok;
}

static bool branch_partial(mx_ctx *c, mx_trace *lin, const mx_op *o, const bool *unknown, mx_array **out) {
  mx_arena a = {c->engine, NULL};
  split s = {0};
  bool ok = split_all(c, &a, o, unknown, &s);
  mx_array **y = ok ? mx_take(c, &a, s.n_known_out + s.n_residuals, sizeof *y) : NULL,
           **z = ok ? mx_take(c, &a, o->n_out, sizeof *z) : NULL;
  ok = y && z && run_known(c, &a, o, &s, y) && record_unknown(c, &a, lin, o, &s, y + s.n_known_out, z);
  for (int k = 0, known = 0, u = 0; ok && k < o->n_out; k++) out[k] = s.out[k] ? z[u++] : y[known++];
  for (int i = 0; s.known && s.unknown && i < s.n; i++) {
    mx_program_release(s.known[i]);
    mx_program_release(s.unknown[i]);
  }
  mx_arena_release(&a);
  return ok;
}

/* -- transposition: a branch of transposed branches ---------------------------------------------------------------- */

typedef struct back {
  const mx_program *p;
  const bool *linear; /* by input of p */
} back;

/* Inputs: those that are not linear, then the cotangents of all results; results: the cotangents of the linear inputs.
 */
static bool back_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  const back *b = state;
  mx_arena a = {c->engine, NULL};
  mx_array **fed = mx_take(c, &a, b->p->n_in, sizeof *fed), **ct_in = mx_take(c, &a, b->p->n_in, sizeof *ct_in);
  int at = 0;
  (void)n;
  for (int i = 0; fed && i < b->p->n_in; i++) fed[i] = b->linear[i] ? NULL : in[at++];
  bool ok = fed && ct_in && mx_program_transpose(c, b->p, b->linear, fed, in + at, ct_in);
  for (int i = 0; ok && i < b->p->n_in; i++) {
    if (!b->linear[i]) continue;
    mx_array *g = ct_in[i] ? ct_in[i] : mx_zeros(c, b->p->avals[i]);
    ok = g && mx_list_add(c, out, g);
  }
  mx_arena_release(&a);
  return ok;
}

static bool branch_transpose(mx_ctx *c, const mx_op *o, const bool *linear, mx_array *const *ct, mx_array **out) {
  const mx_programs *l = o->p->branch.of;
  mx_arena a = {c->engine, NULL};
  int most = o->n_in + o->n_out, n = 0, n_linear = 0;
  mx_array **x = mx_take(c, &a, most, sizeof *x), **y = mx_take(c, &a, most, sizeof *y);
  const mx_aval **avals = mx_take(c, &a, most, sizeof *avals);
  mx_program **q = mx_take(c, &a, l->n, sizeof *q);
  bool ok = x && y && avals && q;
  if (ok) x[n++] = o->in[0];
  for (int i = 1; ok && i < o->n_in; i++) {
    if (linear[i]) n_linear++;
    else x[n++] = o->in[i];
  }
  for (int k = 0; ok && k < o->n_out; k++) ok = (x[n++] = ct[k] ? ct[k] : mx_zeros(c, &o->out_aval[k])) != NULL;
  for (int i = 0; ok && i < n; i++) avals[i] = &x[i]->aval;
  for (int i = 0; ok && i < l->n; i++) {
    back b = {l->items[i], linear + 1};
    ok = (q[i] = mx_program_of(c, (mx_function){back_call, &b}, avals + 1, n - 1)) != NULL;
  }
  ok = q && bind_branch(c, q, l->n, x, n, y, n_linear) && ok;
  for (int i = 1, k = 0; ok && i < o->n_in; i++)
    if (linear[i]) out[i] = y[k++];
  mx_arena_release(&a);
  return ok;
}

/* -- batch --------------------------------------------------------------------------------------------------------- */

static bool batch_same(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  const mx_programs *l = o->p->branch.of;
  mx_arena a = {c->engine, NULL};
  bool *in = mx_take(c, &a, o->n_in, 1), *mapped = mx_take(c, &a, o->n_out, 1);
  mx_array **x = mx_take(c, &a, o->n_in, sizeof *x);
  mx_program **q = mx_take(c, &a, l->n, sizeof *q);
  bool ok = in && mapped && x && q;
  for (int i = 0; ok && i < o->n_in; i++) {
    if (i > 0) in[i - 1] = axes[i] >= 0;
    x[i] = axes[i] >= 0 ? mx_batch_to_front(c, o->in[i], axes[i], size) : o->in[i];
  }
  for (int pass = 0; ok && pass < 2; pass++)
    for (int i = 0; ok && i < l->n; i++) {
      mx_program_release(q[i]);
      ok = (q[i] = mx_program_batch(c, l->items[i], size, c->batching, in, mapped)) != NULL;
    }
  ok = q && bind_branch(c, q, l->n, x, o->n_in, out, o->n_out) && ok;
  for (int k = 0; ok && k < o->n_out; k++) out_axes[k] = mapped[k] ? 0 : -1;
  mx_arena_release(&a);
  return ok;
}

/* Each example has its own index: all branches are computed, checks only where theirs is taken. */
static bool select_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  const mx_programs *l = state;
  mx_arena a = {c->engine, NULL};
  int n_out = l->items[0]->n_out;
  mx_array **y = mx_take(c, &a, n_out, sizeof *y), **chosen = mx_take(c, &a, n_out, sizeof *chosen);
  mx_array *last = mx_scalar_int(c, MLAX_INT32, l->n - 1), *zero = mx_scalar_int(c, MLAX_INT32, 0);
  mx_array *index = mx_minimum(c, mx_maximum(c, in[0], zero), last);
  (void)n;
  bool ok = y && chosen && index;
  for (int i = 0; ok && i < l->n; i++) {
    mx_array *taken = mx_eq(c, index, mx_scalar_int(c, MLAX_INT32, i));
    ok = taken && mx_program_eval_where(c, l->items[i], in + 1, taken, y);
    for (int k = 0; ok && k < n_out; k++) ok = (chosen[k] = i ? mx_select(c, taken, y[k], chosen[k]) : y[k]) != NULL;
  }
  for (int k = 0; ok && k < n_out; k++) ok = mx_list_add(c, out, chosen[k]);
  mx_arena_release(&a);
  return ok;
}

static bool branch_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  if (axes[0] < 0) return batch_same(c, o, axes, size, out, out_axes);
  mx_list y = {0};
  mx_ints y_axes = {0};
  bool ok =
      mx_batch(c, (mx_function){select_call, o->p->branch.of}, o->in, axes, o->n_in, size, c->batching, &y, &y_axes);
  for (int k = 0; ok && k < o->n_out; k++) {
    out[k] = mx_keep(c, mx_retain(y.items[k]));
    out_axes[k] = y_axes.items[k];
  }
  mx_list_release(c, &y);
  mx_ints_release(c, &y_axes);
  return ok;
}

static const mx_field branch_fields[] = {{"of", MX_FIELD_PROGRAMS, offsetof(mx_params, branch.of)},
                                         {NULL, MX_FIELD_END, 0}};

const mx_primitive mx_prim_branch = {.name = "branch",
                                     .id = MX_PRIM_branch,
                                     .params_size = sizeof((mx_params *)0)->branch,
                                     .fields = branch_fields,
                                     .shape = branch_shape,
                                     .jvp = branch_jvp,
                                     .batch = branch_batch,
                                     .partial = branch_partial,
                                     .transpose_all = branch_transpose};
