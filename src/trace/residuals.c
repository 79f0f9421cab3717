/* residuals.c: what a scan that is split need not keep for the way back.
 *
 *     s = sigmoid x       kept: one stack of all steps
 *     d = s * (1 - s)     computed again from s: a few operations instead of a second stack
 *
 * A residual is dropped where some cheap elementwise operations make it of others that are kept. It is computed by the
 * same kernels from the same values, so it has the same bits. (Rematerialisation as in Griewank and Walther, Evaluating
 * Derivatives, chapter 12, decided value by value.) */
#include "control_impl.h"

enum { MOST = 6 }; /* operations that one residual may take */

typedef struct thinning {
  const mx_program *known, *unknown;
  int n_known_out, n_unknown; /* results before the residuals; inputs before them */
  int n_residuals;
  int32_t *producer; /* by variable of `known`: its equation, or -1 */
  bool *there;       /* by variable: a residual, kept or computed */
  bool *kept;        /* by residual */
} thinning;

static bool is_const(const mx_program *p, int32_t v) { return v >= p->n_in && v < p->n_in + p->n_const; }

/* Whether the variable's equation makes it of others that are there; `left` counts down. */
static bool derives(const thinning *t, int32_t v, int *left) {
  const mx_program *p = t->known;
  if (t->producer[v] < 0) return false;
  const mx_eqn *e = &p->eqns[t->producer[v]];
  if (!mx_is_cheap(e->prim) || --*left < 0) return false;
  for (int k = 0; k < e->n_in; k++) {
    int32_t x = e->in[k];
    bool same = p->avals[x]->size == p->avals[v]->size || p->avals[x]->size == 1;
    if (!same || (!t->there[x] && !is_const(p, x) && !derives(t, x, left))) return false;
  }
  return true;
}

static int32_t residual_var(const thinning *t, int r) { return t->known->outs[t->n_known_out + r]; }

static int latest_before(const thinning *t, int32_t v) {
  int best = -1;
  for (int r = 0; r < t->n_residuals; r++)
    if (residual_var(t, r) < v && (best < 0 || residual_var(t, r) > residual_var(t, best))) best = r;
  return best;
}

/* From the last to the first, so that what one is made of is still looked at. */
static int drop(thinning *t) {
  int dropped = 0;
  for (int r = latest_before(t, t->known->n_var); r >= 0; r = latest_before(t, residual_var(t, r))) {
    int left = MOST;
    t->kept[r] = !derives(t, residual_var(t, r), &left);
    dropped += !t->kept[r];
  }
  return dropped;
}

/* The unknown program on the kept residuals: the others are computed first. */
static bool thin_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *to) {
  const thinning *t = state;
  mx_arena a = {c->engine, NULL};
  mx_array **env = mx_take(c, &a, t->known->n_var, sizeof *env), **fed = mx_take(c, &a, t->unknown->n_in, sizeof *fed),
           **out = mx_take(c, &a, t->unknown->n_out, sizeof *out);
  bool ok = env && fed && out;
  for (int r = 0, k = t->n_unknown; ok && r < t->n_residuals; r++)
    if (t->kept[r]) env[residual_var(t, r)] = in[k++];
  ok = ok && mx_program_eval_given(c, t->known, env);
  for (int i = 0; ok && i < t->unknown->n_in; i++)
    fed[i] = i < t->n_unknown ? in[i] : env[residual_var(t, i - t->n_unknown)];
  ok = ok && mx_program_eval(c, t->unknown, fed, out);
  for (int k = 0; ok && k < t->unknown->n_out; k++) ok = mx_list_add(c, to, out[k]);
  (void)n;
  mx_arena_release(&a);
  return ok;
}

static mx_program *thin_unknown(mx_ctx *c, mx_arena *a, thinning *t) {
  const mx_aval **avals = mx_take(c, a, t->unknown->n_in, sizeof *avals);
  int n = 0;
  for (int i = 0; avals && i < t->unknown->n_in; i++)
    if (i < t->n_unknown || t->kept[i - t->n_unknown]) avals[n++] = t->unknown->avals[i];
  return avals ? mx_program_of(c, (mx_function){thin_call, t}, avals, n) : NULL;
}

static mx_program *thin_known(mx_ctx *c, mx_arena *a, const thinning *t) {
  const mx_program *p = t->known;
  int *source = mx_take(c, a, p->n_in, sizeof(int)), *outs = mx_take(c, a, p->n_out, sizeof(int)), n = 0;
  for (int i = 0; source && i < p->n_in; i++) source[i] = i;
  for (int k = 0; outs && k < p->n_out; k++)
    if (k < t->n_known_out || t->kept[k - t->n_known_out]) outs[n++] = k;
  return source && outs ? mx_program_rewire(c, p, p->n_in, (const mx_aval *const *)p->avals, source, n, outs) : NULL;
}

static bool find(mx_ctx *c, mx_arena *a, thinning *t) {
  const mx_program *p = t->known;
  t->producer = mx_take(c, a, p->n_var, sizeof *t->producer);
  t->there = mx_take(c, a, p->n_var, 1);
  t->kept = mx_take(c, a, t->n_residuals, 1);
  if (!t->producer || !t->there || !t->kept) return false;
  mx_program_uses(p, NULL, t->producer);
  for (int r = 0; r < t->n_residuals; r++) t->kept[r] = t->there[residual_var(t, r)] = true;
  return true;
}

bool mx_scan_thin(mx_ctx *c, mx_program **known, mx_program **unknown, int n_known_out) {
  thinning t = {.known = *known, .unknown = *unknown, .n_known_out = n_known_out};
  mx_arena a = {c->engine, NULL};
  t.n_residuals = t.known->n_out - n_known_out;
  t.n_unknown = t.unknown->n_in - t.n_residuals;
  bool ok = find(c, &a, &t);
  if (ok && drop(&t)) {
    mx_program *u = thin_unknown(c, &a, &t), *k = u ? thin_known(c, &a, &t) : NULL;
    ok = k != NULL;
    mx_program_release(ok ? *known : u);
    if (ok) mx_program_release(*unknown), *known = k, *unknown = u;
  }
  mx_arena_release(&a);
  return ok;
}
