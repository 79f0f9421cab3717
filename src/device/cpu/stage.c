/* stage.c: from instructions to stages: which value the accumulator holds, which are spilled. */
#include "machine.h"

typedef mx_staging staging;

enum { NOWHERE = INT16_MAX };

bool mx_code_gives(const mx_code *code, int v) {
  for (int k = 0; k < code->n_out; k++)
    if (code->out[k] == v) return true;
  return false;
}

static void emit(staging *s, mx_stage_fn run, int m0, int m1) {
  mx_code *code = &s->b->code;
  if (!run || code->n_stages == MX_MAX_STAGES) s->fits = false;
  else s->b->stages[code->n_stages++] = (mx_stage_form){run, NULL, {(int16_t)m0, (int16_t)m1}};
}

static void spill(staging *s, int v) {
  mx_code *code = &s->b->code;
  if (code->n_spills == MX_MAX_SPILLS) s->fits = false;
  else emit(s, s->set->store, s->place[v] = (int16_t) - ++code->n_spills, 0);
}

static void load(staging *s, int v) {
  if (s->acc == v) return;
  emit(s, s->set->load, s->place[v], 0);
  s->acc = v;
}

/* Whether instruction n takes v from the accumulator and from nowhere else. */
static bool takes_from_acc(const mx_instruction *i, int v) {
  int uses = 0;
  for (int k = 0; k < i->n_in; k++) uses += i->in[k] == v;
  return uses == 1 && (i->prim != MX_PRIM_select || i->in[0] == v);
}

/* The accumulator keeps its value while it is joined to a sum. */
static bool leaves_acc(const mx_instruction *i) { return i->kind != MX_DO_LOOP && i->kind != MX_DO_SPREAD; }

static bool needs_spill(const staging *s, int n) {
  const mx_instruction *ins = s->b->code.ins;
  int v = ins[n].out, i = n + 1;
  while (i < s->end && leaves_acc(&ins[i]) && ins[i].in[0] == v) i++;
  if (i < s->end && takes_from_acc(&ins[i], v)) i++;
  for (; i < s->end; i++)
    for (int k = 0; k < ins[i].n_in; k++)
      if (ins[i].in[k] == v) return true;
  return false;
}

/* Whether another pass reads it. */
static bool is_read_later(const staging *s, int v) {
  const mx_code *code = &s->b->code;
  for (int i = s->end; i < code->n_ins; i++)
    for (int k = 0; k < code->ins[i].n_in; k++)
      if (code->ins[i].in[k] == v) return true;
  return false;
}

static void compute(staging *s, const mx_instruction *i) {
  int x = i->in[0], y = i->in[1];
  if (leaves_acc(i)) {
    load(s, x);
    emit(s, s->set->join[mx_row_op(i)], i->out, 0);
    return;
  }
  if (i->prim == MX_PRIM_convert) {
    load(s, x);
    emit(s, s->set->truth_to_float, 0, 0);
  } else if (i->prim == MX_PRIM_select) {
    load(s, x);
    emit(s, s->set->choose, s->place[y], s->place[i->in[2]]);
  } else if (i->n_in == 1) {
    load(s, x);
    emit(s, s->set->unary[i->prim], 0, 0);
  } else if (s->acc == y && x != y) {
    emit(s, s->set->backward[i->prim], s->place[x], 0);
  } else {
    load(s, x);
    emit(s, s->set->forward[i->prim], s->place[y], 0);
    if (s->fits) s->b->stages[s->b->code.n_stages - 1].same = s->set->same[i->prim];
  }
  s->acc = i->out;
}

/* Truth values that others need again are spilled as lanes, besides the bytes that a result has. */
static void keep(staging *s, int n) {
  const mx_code *code = &s->b->code;
  int v = code->ins[n].out;
  bool truth = s->b->dtype[v] == MLAX_BOOL, stored = mx_code_gives(code, v) || is_read_later(s, v);
  if (leaves_acc(&code->ins[n])) return;
  if (stored) emit(s, truth ? s->set->store_bool : s->set->store, v, 0);
  if (stored) s->place[v] = (int16_t)v;
  if ((!stored || truth) && needs_spill(s, n)) spill(s, v);
}

static bool is_logic(int prim) {
  return prim == MX_PRIM_and || prim == MX_PRIM_or || prim == MX_PRIM_xor || prim == MX_PRIM_not;
}

static bool is_lanes(int dtype) { return dtype == MLAX_FLOAT32 || dtype == MLAX_BOOL; }

static bool types_fit(const mx_coder *b, const mx_instruction *i) {
  int in = b->dtype[i->in[0]], out = b->dtype[i->out];
  if (leaves_acc(i)) return in == MLAX_FLOAT32;
  if (!is_lanes(in) || !is_lanes(out)) return false;
  if (i->prim == MX_PRIM_convert) return in == MLAX_BOOL && out == MLAX_FLOAT32;
  return i->prim == MX_PRIM_select || is_logic(i->prim) == (in == MLAX_BOOL);
}

static bool is_read(const mx_code *code, int v, int first, int end) {
  for (int i = first; i < end; i++)
    for (int k = 0; k < code->ins[i].n_in; k++)
      if (code->ins[i].in[k] == v) return true;
  return false;
}

/* Truth values are brought into lanes before they are used. */
static void load_truths(staging *s, int first, int end) {
  const mx_code *code = &s->b->code;
  for (int v = 0; v < code->n_value; v++)
    if (s->place[v] == v && s->b->dtype[v] == MLAX_BOOL && is_read(code, v, first, end)) {
      emit(s, s->set->load_bool, v, 0);
      spill(s, v);
    }
}

void mx_staging_start(staging *s, mx_coder *b) {
  s->b = b;
  s->set = MX_SIMD_PICK(mx_stages);
  s->fits = true;
  for (int v = 0; v < b->code.n_value; v++) s->place[v] = v < b->code.n_in ? (int16_t)v : NOWHERE;
}

/* Spills of what was written before are lost; truth values that are read again lie in memory, too. */
static void forget_spills(staging *s) {
  s->b->code.n_spills = 0;
  for (int v = 0; v < s->b->code.n_value; v++)
    if (s->place[v] < 0) s->place[v] = s->b->dtype[v] == MLAX_BOOL ? (int16_t)v : NOWHERE;
}

void mx_staging_write(staging *s, int first, int end) {
  const mx_code *code = &s->b->code;
  s->acc = -1;
  s->end = end;
  forget_spills(s);
  for (int n = first; n < end; n++)
    if (!types_fit(s->b, &code->ins[n])) s->fits = false;
  if (s->fits) load_truths(s, first, end);
  for (int n = first; n < end && s->fits; n++) {
    compute(s, &code->ins[n]);
    keep(s, n);
  }
  emit(s, s->set->end, 0, 0);
}

void mx_coder_stages(mx_coder *b) {
  mx_code *code = &b->code;
  staging s;
  mx_staging_start(&s, b);
  mx_staging_write(&s, 0, code->n_ins);
  if (s.fits) code->stages = b->stages;
  else code->n_stages = 0;
}
