/* donate.c: results in the memory of inputs that the caller, or the step of a loop before, gives away. */
#include "plan_impl.h"

static bool is_result(const mx_plan *p, int input) {
  for (int k = 0; k < p->program->n_out; k++) {
    const mx_root *r = &p->roots[p->slots[p->program->outs[k]].root];
    if (r->place == MX_AT_INPUT && r->index == input) return true;
  }
  return false;
}

/* Whether the step that writes `result` is the last to read `input`, and reads each element before. */
static bool written_in_place(const mx_plan *p, const mx_step *s, int32_t result, int32_t input) {
  const int32_t *in = p->tensor_vars + s->tensors, *out = in + s->n_in;
  for (int k = 0; k < s->n_out; k++) {
    if (p->slots[out[k]].root != result) continue;
    for (int j = 0; j < s->n_in; j++)
      if (p->slots[in[j]].root == input && (!mx_plan_is_whole(p, in[j]) || !mx_step_in_place(p, s, k, j))) return false;
    return mx_plan_is_whole(p, out[k]);
  }
  return false;
}

static bool may_take(const mx_plan *p, int32_t result, int32_t input) {
  const mx_root *to = &p->roots[result], *from = &p->roots[input];
  if (to->bytes != from->bytes || from->last > to->first) return false;
  return from->last < to->first || written_in_place(p, &p->steps[to->first], result, input);
}

bool mx_plan_may_take(const mx_plan *p, int k, int v) {
  int32_t root = p->slots[p->program->outs[k]].root;
  const mx_root *r = &p->roots[root];
  return r->place == MX_AT_RESULT && p->direct[r->index] == k && !is_result(p, v) && may_take(p, root, v);
}

bool mx_plan_donate(mx_ctx *c, mx_plan *p, const bool *donated) {
  bool *taken = mx_arena_alloc(c, &p->memory, (size_t)p->program->n_in + 1);
  p->takes = mx_arena_alloc(c, &p->memory, (size_t)(p->n_results + 1) * sizeof *p->takes);
  if (!taken || !p->takes) return false;
  for (int k = 0; k < p->n_results; k++) {
    p->takes[k] = -1;
    for (int32_t v = 0; v < p->program->n_in && p->takes[k] < 0; v++) /* input v has root v */
      if (donated[v] && !taken[v] && !is_result(p, v) && may_take(p, p->result_roots[k], v)) p->takes[k] = v;
    if (p->takes[k] >= 0) taken[p->takes[k]] = true;
  }
  return true;
}

mx_buffer *mx_plan_take(const mx_plan *p, int k, mx_array *const *in) {
  int32_t v = p->takes ? p->takes[k] : -1;
  const mx_array *x = v >= 0 ? in[v] : NULL;
  if (!x || !x->contiguous || x->offset || atomic_load(&x->pinned)) return NULL;
  mx_buffer *b = x->buffer;
  if (b->release || b->bytes != p->roots[p->result_roots[k]].bytes || atomic_load(&b->refs) != 1) return NULL;
  atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
  return b;
}
