/* stage.c: from instructions to stages: which value the accumulator holds, which are spilled. */
#include "machine.h"

typedef struct staging {
  mx_coder *b;
  const mx_stages *set;
  int acc;                      /* the value in the accumulator, or -1 */
  int16_t place[MX_MAX_VALUES]; /* where a value lies: itself (operand, result), a spill -1, -2, ..., or NOWHERE */
  bool fits;
} staging;

enum { NOWHERE = INT16_MAX };

static bool is_result(const mx_code *code, int v) {
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

static bool needs_memory(const mx_code *code, int n) {
  int v = code->ins[n].out;
  for (int i = n + 1; i < code->n_ins; i++)
    for (int k = 0; k < code->ins[i].n_in; k++)
      if (code->ins[i].in[k] == v && (i > n + 1 || !takes_from_acc(&code->ins[i], v))) return true;
  return false;
}

static void compute(staging *s, const mx_instruction *i) {
  int x = i->in[0], y = i->in[1];
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
  bool truth = s->b->dtype[v] == MLAX_BOOL, result = is_result(code, v);
  if (result) emit(s, truth ? s->set->store_bool : s->set->store, v, 0);
  if (result && !truth) s->place[v] = (int16_t)v;
  else if (needs_memory(code, n)) spill(s, v);
}

static bool is_logic(int prim) {
  return prim == MX_PRIM_and || prim == MX_PRIM_or || prim == MX_PRIM_xor || prim == MX_PRIM_not;
}

static bool types_fit(const mx_coder *b, const mx_instruction *i) {
  int in = b->dtype[i->in[0]], out = b->dtype[i->out];
  if (in != MLAX_FLOAT32 && in != MLAX_BOOL) return false;
  if (out != MLAX_FLOAT32 && out != MLAX_BOOL) return false;
  if (i->prim == MX_PRIM_convert) return in == MLAX_BOOL && out == MLAX_FLOAT32;
  return i->prim == MX_PRIM_select || is_logic(i->prim) == (in == MLAX_BOOL);
}

void mx_coder_stages(mx_coder *b) {
  mx_code *code = &b->code;
  staging s = {.b = b, .set = MX_SIMD_PICK(mx_stages), .acc = -1, .fits = true};
  for (int n = 0; n < code->n_ins; n++)
    if (!types_fit(b, &code->ins[n])) return;
  for (int v = 0; v < code->n_value; v++) s.place[v] = v < code->n_in ? (int16_t)v : NOWHERE;
  for (int v = 0; v < code->n_in; v++)
    if (b->dtype[v] == MLAX_BOOL) {
      emit(&s, s.set->load_bool, v, 0);
      spill(&s, v);
    }
  for (int n = 0; n < code->n_ins && s.fits; n++) {
    compute(&s, &code->ins[n]);
    keep(&s, n);
  }
  emit(&s, s.set->end, 0, 0);
  if (s.fits) code->stages = b->stages;
  else code->n_stages = 0;
}
