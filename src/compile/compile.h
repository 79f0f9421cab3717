/* compile.h: program -> passes -> plan: steps with views and kernels, buffers at fixed offsets of one arena.
 *
 *     input a --view--> transposed ----\                         where a variable's bytes lie:
 *     const b ------------------------- dot --> c (arena +0)       INPUT k | CONST k | ARENA + offset | RESULT k
 *                                       max c 0 --> d (result 0)
 *
 * A plan is immutable and may run in several threads at once: each run takes an arena from the plan's pool. Running
 * allocates nothing but its results.
 */
#ifndef MX_COMPILE_H
#define MX_COMPILE_H

#include "../device/device.h"
#include "../program/program.h"

typedef struct mx_plan mx_plan;

/* ORDER passes (optimize.c) */
#define MX_PASSES(X)                                                                                                   \
  X(inline)                                                                                                            \
  X(simplify)                                                                                                          \
  X(layout) X(reassociate) X(sink) X(fold) X(cse) X(hoist) X(recompute) X(fusion) X(epilogue) X(schedule) X(in_place)
typedef enum {
#define MX_PASS(name) MX_PASS_##name,
  MX_PASSES(MX_PASS)
#undef MX_PASS
      MX_PASS_COUNT
} mx_pass;
extern const char *const mx_pass_names[MX_PASS_COUNT];
/* Bits of the passes that are switched off; debug.nans leaves none, so that each operation can be asked. */
unsigned mx_passes_off(const mx_ctx *c);
/* What the passes make of it: a new reference, of p itself where they do nothing. */
mx_program *mx_program_optimize(mx_ctx *c, mx_program *p);

mx_plan *mx_plan_new(mx_ctx *c, mx_program *program); /* optimizes the program, whose inputs and results stay */
void mx_plan_release(mx_plan *p);
/* Values in, values out (new references that the frame owns). */
bool mx_plan_run(mx_ctx *c, mx_plan *p, mx_array *const *in, mx_array **out);
/* Before the first run: inputs v with donated[v] are the caller's last use, so that results may take their memory. The
 * caller sees to it that they are not read again, whether the run succeeds or not. */
bool mx_plan_donate(mx_ctx *c, mx_plan *p, const bool *donated);
/* The plan of a program that lies inside others; the program owns it. */
mx_plan *mx_plan_of(mx_ctx *c, mx_program *program);
/* Runs on memory that the caller has: row-major inputs, row-major results. */
bool mx_plan_call(mx_ctx *c, mx_plan *p, char *const *in, char *const *out);
mx_program *mx_plan_program(const mx_plan *p);
size_t mx_plan_arena(const mx_plan *p); /* bytes */
double mx_plan_bytes(const mx_plan *p); /* that its steps read and write */
/* The optimized program, in the order of execution; equations that run in one pass stand between braces, behind the
 * names of what they compute. As mx_program_print. */
size_t mx_plan_print(mx_ctx *c, const mx_plan *p, char *to, size_t cap);

#endif
