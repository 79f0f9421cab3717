/* profile.c: records what each step took. */
#include "profile_impl.h"

#include <time.h>

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* -- make and free ------------------------------------------------------------------------------------------------- */

mx_profile *mx_profile_new(mx_ctx *c) {
  mx_profile *p = mx_new(c, sizeof *p);
  if (p) p->engine = mx_engine_retain(c->engine);
  return p;
}

void mx_profile_free(mx_profile *p) {
  if (!p) return;
  mlax_engine *e = p->engine;
  for (int i = 0; i < p->n_rows; i++)
    mx_free(e, p->rows[i].avals, (size_t)(p->rows[i].n_in + p->rows[i].n_out) * sizeof(mx_aval));
  mx_free(e, p->rows, (size_t)p->rows_cap * sizeof *p->rows);
  mx_free(e, p->slots, (size_t)p->n_slot * sizeof *p->slots);
  mx_free(e, p->events, (size_t)p->events_cap * sizeof *p->events);
  mx_free(e, p, sizeof *p);
  mlax_engine_release(e);
}

void mx_profile_start(mx_ctx *c, mx_profile *p) {
  c->profile = p;
  p->begun = now();
}

void mx_profile_stop(mx_ctx *c, mx_profile *p) {
  if (c->profile != p) return;
  c->profile = NULL;
  p->ended = now();
}

/* -- rows ---------------------------------------------------------------------------------------------------------- */

static const mx_aval *aval_of(const mx_kernel_args *a, int k) {
  return k < a->n_in ? a->in[k].aval : a->out[k - a->n_in].aval;
}

/* A step, as it is looked up. */
typedef struct step {
  const mx_kernel_args *args;
  const char *label; /* NULL: the primitive alone */
  double flops;      /* with a label */
  uint32_t site;
} step;

static const char *name_of(const step *s) { return s->label ? s->label : s->args->prim->name; }

static uint64_t hash_of(const step *s) {
  const mx_kernel_args *a = s->args;
  const char *name = name_of(s);
  uint64_t h = mx_hash_bytes(s->site, name, strlen(name));
  if (a->p) h = mx_hash_bytes(h, a->p, a->prim->params_size);
  for (int k = 0; k < a->n_in + a->n_out; k++) {
    const mx_aval *v = aval_of(a, k);
    h = mx_hash_mix(h, (uint64_t)v->dtype << 8 | v->ndim);
    h = mx_hash_bytes(h, v->shape, v->ndim * sizeof *v->shape);
  }
  return h;
}

static bool row_is(const mx_profile_row *r, uint64_t hash, const step *s) {
  const mx_kernel_args *a = s->args;
  if (r->hash != hash || r->site != s->site || r->n_in != a->n_in || r->n_out != a->n_out) return false;
  for (int k = 0; k < a->n_in + a->n_out; k++)
    if (!mx_aval_equal(&r->avals[k], aval_of(a, k))) return false;
  return !strcmp(r->name, name_of(s));
}

/* The slot of the row, or the free one where it belongs. There is always a free one. */
static int32_t *find_slot(const mx_profile *p, uint64_t hash, const step *s) {
  uint64_t mask = (uint64_t)p->n_slot - 1, i = hash & mask;
  while (p->slots[i] && !row_is(&p->rows[p->slots[i] - 1], hash, s)) i = (i + 1) & mask;
  return &p->slots[i];
}

/* Keeps at least half of the slots free. */
static bool slots_grow(mx_ctx *c, mx_profile *p) {
  if (2 * (p->n_rows + 1) <= p->n_slot) return true;
  int n = p->n_slot ? 2 * p->n_slot : 64;
  int32_t *slots = mx_new(c, (size_t)n * sizeof *slots);
  if (!slots) return false;
  for (int r = 0; r < p->n_rows; r++) {
    uint64_t i = p->rows[r].hash & ((uint64_t)n - 1);
    while (slots[i]) i = (i + 1) & ((uint64_t)n - 1);
    slots[i] = r + 1;
  }
  mx_free(p->engine, p->slots, (size_t)p->n_slot * sizeof *slots);
  p->slots = slots;
  p->n_slot = n;
  return true;
}

/* Bytes of the elements of t that differ in place: a repeated axis counts once. */
static double bytes_of(const mx_tensor *t) {
  double bytes = (double)mx_itemsize(t->aval->dtype);
  for (int d = 0; d < t->aval->ndim; d++)
    if (t->strides[d] || t->aval->shape[d] == 0) bytes *= (double)t->aval->shape[d];
  return bytes;
}

/* The primitive's, of avals that the row has. */
static bool count_flops(mx_ctx *c, mx_profile_row *r, const mx_kernel_args *a) {
  if (!a->prim->flops) return true;
  size_t bytes = (size_t)(r->n_in + 1) * sizeof(mx_aval *);
  const mx_aval **in = mx_new(c, bytes);
  if (!in) return false;
  for (int k = 0; k < r->n_in; k++) in[k] = &r->avals[k];
  mx_op o = {
      .prim = a->prim, .p = a->p, .n_in = r->n_in, .n_out = r->n_out, .in_aval = in, .out_aval = r->avals + r->n_in};
  r->flops = a->prim->flops(&o);
  mx_free(c->engine, in, bytes);
  return true;
}

/* What the row keeps of a step; its avals are freed with the profile once n_rows counts it. */
static bool row_fill(mx_ctx *c, mx_profile_row *r, const step *s) {
  const mx_kernel_args *a = s->args;
  int n = a->n_in + a->n_out;
  if (!(r->name = s->label ? mx_name_intern(c, s->label) : a->prim->name)) return false;
  if (!(r->avals = mx_new(c, (size_t)n * sizeof *r->avals))) return false;
  for (int k = 0; k < n; k++) r->avals[k] = *aval_of(a, k);
  for (int k = 0; k < a->n_in; k++) r->bytes += bytes_of(&a->in[k]);
  for (int k = 0; k < a->n_out; k++) r->bytes += bytes_of(&a->out[k]);
  r->flops = s->flops;
  if (s->label || count_flops(c, r, a)) return true;
  mx_free(c->engine, r->avals, (size_t)n * sizeof *r->avals);
  return false;
}

/* The number of the step's row; -1 without memory. */
static int row_of(mx_ctx *c, mx_profile *p, const step *s) {
  if (!slots_grow(c, p) || !mx_grow(c, &p->rows, &p->rows_cap, p->n_rows + 1, sizeof *p->rows)) return -1;
  uint64_t hash = hash_of(s);
  int32_t *slot = find_slot(p, hash, s);
  if (*slot) return *slot - 1;
  mx_profile_row *r = &p->rows[p->n_rows];
  *r = (mx_profile_row){.site = s->site, .n_in = s->args->n_in, .n_out = s->args->n_out, .hash = hash, .event = -1};
  if (!row_fill(c, r, s)) return -1;
  *slot = ++p->n_rows;
  return p->n_rows - 1;
}

/* -- events -------------------------------------------------------------------------------------------------------- */

/* The event that this call of the row counts in: one of its own, or inside another step the row's one there. NULL
 * where the trace is full (left counts it), or, with the error pending, without memory. */
static mx_profile_event *event_of(mx_ctx *c, mx_profile *p, int row) {
  bool inside = p->depth > 0;
  mx_profile_row *r = &p->rows[row];
  if (inside && r->event > p->outermost) return &p->events[r->event];
  if (p->n_events == MX_PROFILE_EVENTS) return p->left++, NULL;
  if (!mx_grow(c, &p->events, &p->events_cap, p->n_events + 1, sizeof *p->events)) return NULL;
  p->events[p->n_events] = (mx_profile_event){.row = row, .inside = inside};
  r->event = p->n_events;
  return &p->events[p->n_events++];
}

bool mx_profile_enter(mx_ctx *c, const mx_kernel_args *a, const char *label, double flops, uint32_t site,
                      mx_profile_span *s) {
  mx_profile *p = c->profile;
  step of = {.args = a, .label = label, .flops = flops, .site = site ? site : mx_here(c)};
  s->profile = p;
  s->row = row_of(c, p, &of);
  if (s->row < 0) return false;
  mx_profile_event *e = event_of(c, p, s->row);
  if (!e && mx_failed(c)) return false;
  s->event = e ? (int)(e - p->events) : -1;
  if (p->depth++ == 0) p->outermost = e ? s->event : p->n_events - 1;
  s->outer = p->nested;
  p->nested = 0;
  s->start = now();
  return true;
}

void mx_profile_leave(mx_ctx *c, const mx_profile_span *s) {
  mx_profile *p = s->profile;
  if (c->profile != p) return; /* the recording ended in between */
  int64_t total = now() - s->start, own = total - p->nested;
  mx_profile_row *r = &p->rows[s->row];
  p->depth--;
  p->steps++;
  r->calls++;
  r->own += own;
  r->control |= p->nested > 0;
  p->nested = s->outer + total;
  if (s->event < 0) return;
  mx_profile_event *e = &p->events[s->event];
  e->calls++;
  e->start = e->inside ? 0 : s->start - p->begun;
  e->ns += e->inside ? own : total;
}

bool mx_profile_kernel(mx_ctx *c, mx_kernel kernel, const mx_kernel_args *a) {
  mx_profile_span s;
  if (!mx_profile_enter(c, a, NULL, 0, 0, &s)) return false;
  bool ok = kernel(c, a);
  mx_profile_leave(c, &s);
  return ok;
}

/* -- ask ----------------------------------------------------------------------------------------------------------- */

/* Row i comes before row j in the order of own time, heaviest first. */
static bool heavier(const mx_profile *p, int i, int j) {
  int64_t a = p->rows[i].own, b = p->rows[j].own;
  return a > b || (a == b && i < j);
}

int mx_profile_next(const mx_profile *p, int row) {
  int next = -1;
  for (int i = 0; i < p->n_rows; i++)
    if ((row < 0 || heavier(p, row, i)) && (next < 0 || heavier(p, i, next))) next = i;
  return next;
}

mx_profile_step mx_profile_at(const mx_profile *p, int row) {
  const mx_profile_row *r = &p->rows[row];
  return (mx_profile_step){.name = r->name,
                           .site = r->site,
                           .result = r->n_out ? &r->avals[r->n_in] : NULL,
                           .calls = r->calls,
                           .seconds = 1e-9 * (double)r->own,
                           .flops = r->control ? 0 : r->flops * (double)r->calls,
                           .bytes = r->control ? 0 : r->bytes * (double)r->calls};
}

mx_profile_total mx_profile_sum(const mx_profile *p) {
  int64_t own = 0;
  for (int i = 0; i < p->n_rows; i++) own += p->rows[i].own;
  return (mx_profile_total){.seconds = 1e-9 * (double)(p->ended - p->begun),
                            .inside = 1e-9 * (double)own,
                            .steps = p->steps,
                            .left = p->left};
}
