/* debug.c: debug_print, the one primitive with an ordered effect: it has no results, and stays in the program, in its
 * place among its like. What is printed are the operands' values: tangents are not looked at, and under vmap each
 * example prints. */
#include "rules_impl.h"

#include <stddef.h>

static const mx_field debug_print_fields[] = {{"format", MX_FIELD_TEXT, offsetof(mx_params, print.format)},
                                              {"guarded", MX_FIELD_FLAG, offsetof(mx_params, print.guarded)},
                                              {0}};

static bool debug_print_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  (void)c, (void)o, (void)out;
  return true;
}

static bool debug_print_jvp(mx_ctx *c, const mx_op *o, mx_array *const *tangents, mx_array **out,
                            mx_array **out_tangents) {
  (void)tangents, (void)out_tangents;
  return mx_bind(c, o->prim, o->p, o->in, o->n_in, out, 0);
}

static bool print_example(mx_ctx *c, const mx_op *o, const int *axes, int64_t k, mx_array **x) {
  for (int i = 0; i < o->n_in; i++)
    x[i] = axes[i] < 0 ? o->in[i] : mx_squeeze(c, mx_slice_axis(c, o->in[i], axes[i], k, k + 1), axes[i]);
  return mx_bind(c, o->prim, o->p, x, o->n_in, NULL, 0);
}

static bool debug_print_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  (void)out, (void)out_axes;
  mx_arena memory = {.engine = c->engine};
  mx_array **x = mx_arena_alloc(c, &memory, (size_t)(o->n_in + 1) * sizeof *x);
  bool ok = x != NULL;
  for (int64_t k = 0; ok && k < size; k++) ok = print_example(c, o, axes, k, x);
  mx_arena_release(&memory);
  return ok;
}

bool mx_debug_print(mx_ctx *c, struct mx_string *format, mx_array *const *x, int n) {
  mx_params p;
  memset(&p, 0, sizeof p);
  p.print.format = format;
  return mx_bind(c, &mx_prim_debug_print, &p, x, n, NULL, 0);
}

const mx_primitive mx_prim_debug_print = {.name = "debug_print",
                                          .id = MX_PRIM_debug_print,
                                          .effect = MX_EFFECT_ORDERED,
                                          .params_size = sizeof(((mx_params *)0)->print),
                                          .fields = debug_print_fields,
                                          .shape = debug_print_shape,
                                          .jvp = debug_print_jvp,
                                          .batch = debug_print_batch};
