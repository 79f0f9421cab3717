/* row_passes.c: running passes: row values of all rows of a block, then each row's full values by stages, 64 lanes at a
 * time. What is left of a row behind its last 64 is done by loops.
 *
 * Sums of rows are made of the same lanes in the same order as the loops of simd/reduce.c make them. */
#include "machine.h"

#include <math.h>

enum {
  LANES = MX_UNIT,
  LANE_BYTES = 4 * LANES,
  PIECE = 4096, /* elements of a row whose partial results are joined before the next are made */
  RECENT = 64   /* rows that are joined before they are joined to all: sums of many rows keep their digits */
};

size_t mx_row_lanes(const mx_code *code, int64_t rows) {
  size_t bytes = 0;
  for (int n = 0; n < code->n_ins; n++)
    if (code->ins[n].kind == MX_DO_SPREAD) bytes += (size_t)rows * LANE_BYTES;
    else if (code->ins[n].kind == MX_DO_FOLD) bytes += LANE_BYTES;
  return bytes;
}

static void put_value(mx_row_work *w, int v, char *base, int64_t step, size_t mask) {
  w->base[v] = base;
  w->step[v] = step;
  w->mask[v] = mask;
  w->special[v] = true;
}

static float identity_of(const mx_instruction *i) {
  static const float of[] = {
      [MX_FOLD_SUM] = 0, [MX_FOLD_PROD] = 1, [MX_FOLD_MAX] = -INFINITY, [MX_FOLD_MIN] = INFINITY};
  return of[mx_row_op(i)];
}

#define EACH_JOINED(code, i)                                                                                           \
  for (const mx_instruction *i = (code)->ins, *stop = i + (code)->n_ins; i < stop; i++)                                \
    if (mx_row_joins(i))

static void start_joined(const mx_stages *set, const mx_code *code, char *part) {
  EACH_JOINED(code, i) {
    set->fill((float *)part, identity_of(i), (int64_t)(mx_row_acc(code, i) / 4));
    part += mx_row_acc(code, i);
  }
}

/* Those that do not lie in their blocks. */
static void place_values(mx_row_work *w, int64_t step, char *lanes) {
  char *part = w->parts;
  for (const mx_instruction *i = w->code->ins, *stop = i + w->code->n_ins; i < stop; i++) {
    switch (i->kind) {
    case MX_DO_SPREAD: put_value(w, i->out, lanes, LANE_BYTES, 0); break;
    case MX_DO_FOLD: put_value(w, i->out, lanes, 0, LANE_BYTES - 1); break;
    case MX_DO_COLUMNS: put_value(w, i->out, part, -4 * w->at, SIZE_MAX); break;
    case MX_DO_TOTAL: put_value(w, i->out, part, 0, LANE_BYTES - 1); break;
    default: break;
    }
    if (mx_row_joins(i)) part += mx_row_acc(w->code, i);
    else if (i->kind == MX_DO_SPREAD) lanes += step * LANE_BYTES;
    else if (i->kind == MX_DO_FOLD) lanes += LANE_BYTES;
  }
}

void mx_row_start(mx_row_work *w, const mx_code *code, int64_t step, int64_t rows, char *lanes, char *parts,
                  char *accs) {
  w->code = code;
  w->set = MX_SIMD_PICK(mx_stages);
  w->accs = accs;
  w->parts = rows <= RECENT ? accs : parts;
  w->joined = 0;
  w->at = code->cols % LANES ? 0 : code->cols;
  for (int v = 0; v < code->n_value; v++) w->step[v] = (code->cols - w->at) * code->size[v], w->special[v] = false;
  start_joined(w->set, code, accs);
  if (w->parts != accs) start_joined(w->set, code, parts);
  place_values(w, step, lanes);
}

/* The lanes of a total become its first one. */
static void join_lanes(const mx_stages *set, const mx_instruction *i, char *lanes) {
  float total = identity_of(i);
  i->fold(&total, lanes, LANES);
  set->fill((float *)lanes, identity_of(i), LANES);
  memcpy(lanes, &total, sizeof total);
}

static void flush(mx_row_work *w) {
  const mx_code *code = w->code;
  char *acc = w->accs, *part = w->parts;
  EACH_JOINED(code, i) {
    if (i->kind == MX_DO_TOTAL) join_lanes(w->set, i, part);
    mx_row_loops(i)->rows(acc, part, 4, 1, mx_row_width(code, i));
    acc += mx_row_acc(code, i);
    part += mx_row_acc(code, i);
  }
  start_joined(w->set, code, w->parts);
  w->joined = 0;
}

void mx_row_finish(mx_row_work *w) {
  char *acc = w->accs;
  if (w->parts != w->accs) {
    flush(w);
    return;
  }
  EACH_JOINED(w->code, i) {
    if (i->kind == MX_DO_TOTAL) join_lanes(w->set, i, acc);
    acc += mx_row_acc(w->code, i);
  }
}

/* -- one pass ------------------------------------------------------------------------------------------------------ */

typedef struct pass_work {
  mx_row_work *w;
  const mx_row_pass *pass;
  const void *const *value;
  mx_stage stages[MX_MAX_STAGES];
  int n_moved;
  uint16_t moved[2 * MX_MAX_STAGES]; /* operands of stages that move from row to row: 2 * stage + operand */
} pass_work;

/* The sums that the pass makes of a row. */
#define EACH_FOLD(p, i)                                                                                                \
  for (const mx_instruction *i = (p)->w->code->ins + (p)->pass->full, *stop = (p)->w->code->ins + (p)->pass->end;      \
       i < stop; i++)                                                                                                  \
    if (i->kind == MX_DO_FOLD)

static char *base_of(const pass_work *p, int v) {
  return p->w->special[v] ? p->w->base[v] : (char *)(uintptr_t)p->value[v];
}

static void set_operand(pass_work *p, int at, int k, int v, char *spills) {
  const mx_row_work *w = p->w;
  mx_stage *s = &p->stages[at];
  s->m[k] = v < 0 ? spills + (-v - 1) * LANE_BYTES : base_of(p, v);
  s->mask[k] = v < 0 ? LANE_BYTES - 1 : w->special[v] ? w->mask[v] : SIZE_MAX;
  if (v >= 0 && w->step[v]) p->moved[p->n_moved++] = (uint16_t)(2 * at + k);
}

static void set_stages(pass_work *p, char *spills) {
  const mx_row_work *w = p->w;
  const mx_stage_form *f = w->code->stages + p->pass->stage;
  mx_stage_fn end = w->set->end;
  int n = 0;
  for (bool more = true; more; n++, f++) {
    int v = f->m[0];
    bool same = f->same && v >= 0 && w->special[v] && w->mask[v] == 0;
    p->stages[n].run = same ? f->same : f->run;
    for (int k = 0; k < 2; k++) set_operand(p, n, k, f->m[k], spills);
    more = f->run != end;
  }
}

static void move_stages(pass_work *p, int64_t row) {
  const mx_row_work *w = p->w;
  const mx_stage_form *forms = w->code->stages + p->pass->stage;
  for (int n = 0; n < p->n_moved; n++) {
    int at = p->moved[n] / 2, k = p->moved[n] % 2, v = forms[at].m[k];
    p->stages[at].m[k] = (const char *)((uintptr_t)base_of(p, v) + (uintptr_t)(row * w->step[v]));
  }
}

static char *element(const pass_work *p, int v, int64_t row, int64_t column) {
  const mx_row_work *w = p->w;
  if (w->special[v]) return w->base[v] + row * w->step[v];
  return base_of(p, v) + (row * w->code->cols + column) * w->code->size[v];
}

static float *row_sum(const pass_work *p, const mx_instruction *i) { return (float *)(uintptr_t)p->value[i->out]; }

/* A row's columns from `first` on, fewer than 64. */
static void run_rest(const pass_work *p, int64_t row, int64_t first) {
  const mx_code *code = p->w->code;
  int64_t n = code->cols - first;
  for (int k = p->pass->full; k < p->pass->end; k++) {
    const mx_instruction *i = &code->ins[k];
    const void *in[3];
    for (int o = 0; o < 3; o++) in[o] = element(p, i->in[o], row, first);
    switch (i->kind) {
    case MX_DO_LOOP: i->loop(n, in, element(p, i->out, row, first)); break;
    case MX_DO_FOLD: i->fold(row_sum(p, i) + row, in[0], n); break;
    case MX_DO_TOTAL: i->fold(p->w->base[i->out], in[0], n); break;
    default: mx_row_loops(i)->rows(p->w->base[i->out] + 4 * first, in[0], 4 * n, 1, n);
    }
  }
}

static void run_row(pass_work *p, int64_t row) {
  const mx_code *code = p->w->code;
  int64_t whole = code->cols / LANES * LANES;
  move_stages(p, row);
  EACH_FOLD(p, i) row_sum(p, i)[row] = identity_of(i);
  for (int64_t at = 0; at < whole; at += PIECE) {
    int64_t n = whole - at < PIECE ? whole - at : PIECE;
    EACH_FOLD(p, i) p->w->set->fill((float *)p->w->base[i->out], identity_of(i), LANES);
    p->w->set->run(p->stages, row * p->w->at + at, n);
    EACH_FOLD(p, i) i->fold(row_sum(p, i) + row, p->w->base[i->out], LANES);
  }
  if (whole < code->cols) run_rest(p, row, whole);
}

/* -- all passes ---------------------------------------------------------------------------------------------------- */

/* Row values from instruction `first` on, and their lanes. */
static void run_row_values(const mx_row_work *w, const mx_row_pass *pass, int first, int64_t rows,
                           const void *const *value) {
  for (int n = first; n < pass->spreads; n++) {
    const mx_instruction *i = &w->code->ins[n];
    const void *in[3] = {value[i->in[0]], value[i->in[1]], value[i->in[2]]};
    i->loop(rows, in, (void *)value[i->out]);
  }
  for (int n = pass->spreads; n < pass->full; n++) {
    const float *from = value[w->code->ins[n].in[0]];
    float *to = (float *)w->base[w->code->ins[n].out];
    for (int64_t r = 0; r < rows; r++) w->set->fill(to + r * LANES, from[r], LANES);
  }
}

void mx_row_run(mx_row_work *w, int64_t rows, const void *const *value) {
  _Alignas(64) char spills[MX_MAX_SPILLS * LANE_BYTES];
  pass_work p; /* large: set as far as it is used */
  p.w = w;
  p.value = value;
  for (int n = 0, first = 0; n < w->code->n_passes; first = w->code->passes[n++].end) {
    p.pass = &w->code->passes[n];
    p.n_moved = 0;
    run_row_values(w, p.pass, first, rows, value);
    if (p.pass->full == p.pass->end) continue;
    set_stages(&p, spills);
    for (int64_t r = 0; r < rows; r++) run_row(&p, r);
  }
  w->joined += rows;
  if (w->joined >= RECENT && w->parts != w->accs) flush(w);
}
