/* debug.c: looking at values: debug_print hands them to the host, and results are searched for NaN. */
#include "cpu_impl.h"

bool mx_cpu_debug(mx_ctx *c, const mx_kernel_args *k) {
  const mx_tensor *guard = k->p->print.guarded ? &k->in[k->n_in - 1] : NULL;
  if (!c->print || (guard && !*guard->data)) return true;
  bool within = mx_host_begin(c), ok = c->print(c->ud, k);
  mx_host_end(c, within);
  return ok;
}

/* -- NaN ---------------------------------------------------------------------------------------------------------- */

typedef struct search {
  int dtype;
  bool found;
} search;

static void search_run(void *arg, int64_t n, char *const *p, const int64_t *stride) {
  search *s = arg;
  for (int64_t i = 0; i < n && !s->found; i++) {
    double v = mx_load_double(s->dtype, p[0] + i * stride[0]);
    s->found = v != v;
  }
}

static bool has_nan(const mx_tensor *t) {
  search s = {.dtype = t->aval->dtype};
  if (mx_is_float(s.dtype) && t->aval->size)
    mx_iterate(t->aval->ndim, t->aval->shape, 1, &t->data, &t->strides, search_run, &s);
  return s.found;
}

bool mx_cpu_check_nans(mx_ctx *c, const mx_kernel_args *k) {
  mx_text t;
  int made = 0;
  while (made < k->n_out && !has_nan(&k->out[made])) made++;
  if (made == k->n_out) return true;
  for (int i = 0; i < k->n_in; i++)
    if (has_nan(&k->in[i])) return true;
  mx_fail(c, MLAX_ARGUMENT, "NaN came out of operands that have none (%s gave %s with NaN)", k->prim->name,
          mx_aval_text(&t, k->out[made].aval));
  return false;
}
