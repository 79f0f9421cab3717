/* row_coder.c: code with rows for the accumulator machine.
 *
 *     mean = sum(x) / n                 pass 0   full: x joins the row's sum
 *     d = x - mean                      pass 1   row values: mean; full: d, which goes to memory; d^2 joins a sum
 *     y = d / sqrt(sum(d * d))          pass 2   row values: the root; full: y
 *
 * A full value that another pass reads goes to its block; within a pass values stay in registers and spills. */
#include "machine.h"

enum {
  STAGED = 1024,   /* elements from which stages are worth writing */
  WHOLE = 128,     /* elements of a row, where it is some chunks of 64, */
  WITH_REST = 1024 /* or where what is left at its end does not count */
};

/* Row values first, as they are needed for spreads, and these for the rest. */
typedef enum { OF_ROWS, SPREADS, FULL, KINDS } kind;

static kind kind_of(const mx_coder *b, const mx_instruction *i) {
  if (i->kind == MX_DO_SPREAD) return SPREADS;
  return i->kind == MX_DO_LOOP && b->row[i->out] ? OF_ROWS : FULL;
}

/* By instruction, the number of its pass: a row's sum is known in the one behind. Returns how many there are. */
static int find_levels(const mx_coder *b, uint8_t *level) {
  const mx_code *code = &b->code;
  uint8_t known[MX_MAX_VALUES] = {0}; /* by value: the first pass that may read it */
  int levels = 1;
  for (int n = 0; n < code->n_ins; n++) {
    const mx_instruction *i = &code->ins[n];
    level[n] = 0;
    for (int k = 0; k < i->n_in; k++)
      if (known[i->in[k]] > level[n]) level[n] = known[i->in[k]];
    known[i->out] = (uint8_t)(level[n] + (i->kind == MX_DO_FOLD));
    if (level[n] >= levels) levels = level[n] + 1;
  }
  return levels;
}

/* Instructions of a pass and kind, in order, behind the others. */
static int take(const mx_coder *b, const uint8_t *level, int pass, kind k, mx_instruction *to, int n) {
  for (int i = 0; i < b->code.n_ins; i++)
    if (level[i] == pass && kind_of(b, &b->code.ins[i]) == k) to[n++] = b->code.ins[i];
  return n;
}

void mx_coder_order_passes(mx_coder *b) {
  uint8_t level[MX_MAX_VALUES];
  mx_instruction ordered[MX_MAX_VALUES];
  int n = 0, levels = find_levels(b, level);
  if (levels > MX_MAX_PASSES) return;
  for (int p = 0; p < levels; p++) {
    b->passes[p].spreads = (uint8_t)(n = take(b, level, p, OF_ROWS, ordered, n));
    b->passes[p].full = (uint8_t)(n = take(b, level, p, SPREADS, ordered, n));
    b->passes[p].end = (uint8_t)(n = take(b, level, p, FULL, ordered, n));
  }
  memcpy(b->ins, ordered, (size_t)n * sizeof *ordered);
  b->code.n_passes = levels;
}

static bool is_worth_it(const mx_code *code) {
  bool long_rows = code->cols % MX_UNIT == 0 ? code->cols >= WHOLE : code->cols >= WITH_REST;
  return code->n_passes > 0 && long_rows && code->cols * code->rows >= STAGED;
}

void mx_coder_passes(mx_coder *b) {
  mx_code *code = &b->code;
  mx_staging s;
  if (!is_worth_it(code)) return;
  mx_staging_start(&s, b);
  for (int p = 0; p < code->n_passes && s.fits; p++) {
    mx_row_pass *pass = &b->passes[p];
    pass->stage = (uint16_t)code->n_stages;
    for (int n = pass->spreads; n < pass->full; n++) {
      int v = b->ins[n].out;
      if (b->dtype[v] != MLAX_FLOAT32 || mx_code_gives(code, v)) s.fits = false;
      s.place[v] = (int16_t)v;
    }
    mx_staging_write(&s, pass->full, pass->end);
  }
  if (s.fits) code->stages = b->stages, code->passes = b->passes;
  else code->n_stages = 0;
}
