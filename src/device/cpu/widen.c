/* widen.c: halves are reduced, scanned, normalised and multiplied in float32. */
#include "reduce_impl.h"

#define COPY(T, TO, FROM)                                                                                              \
  for (int64_t i = 0; i < n; i++) {                                                                                    \
    T v;                                                                                                               \
    memcpy(&v, FROM, sizeof v);                                                                                        \
    memcpy(TO, &v, sizeof v);                                                                                          \
  }

void mx_reduce_gather(char *to, const char *from, int64_t stride, int64_t size, int64_t n) {
  switch (size) {
  case 1: COPY(uint8_t, to + i, from + i * stride) break;
  case 2: COPY(uint16_t, to + 2 * i, from + i * stride) break;
  case 4: COPY(uint32_t, to + 4 * i, from + i * stride) break;
  default: COPY(uint64_t, to + 8 * i, from + i * stride) break;
  }
}

void mx_reduce_scatter(char *to, int64_t stride, const char *from, int64_t size, int64_t n) {
  switch (size) {
  case 1: COPY(uint8_t, to + i * stride, from + i) break;
  case 2: COPY(uint16_t, to + i * stride, from + 2 * i) break;
  case 4: COPY(uint32_t, to + i * stride, from + 4 * i) break;
  default: COPY(uint64_t, to + i * stride, from + 8 * i) break;
  }
}

bool mx_cpu_convert_to(mx_ctx *c, const mx_tensor *t, int dtype, void *to) {
  mx_aval a = *t->aval;
  int64_t strides[MX_MAX_NDIM];
  a.dtype = (uint8_t)dtype;
  mx_strides_contiguous(&a, strides);
  mx_tensor out = {.data = to, .aval = &a, .strides = strides, .contiguous = true};
  mx_params p = {.convert = {.dtype = dtype}};
  mx_kernel_args k = {.prim = &mx_prim_convert, .p = &p, .n_in = 1, .n_out = 1, .in = t, .out = &out};
  return a.size == 0 || mx_cpu_convert(c, &k);
}

static bool is_half(int dtype) { return dtype == MLAX_FLOAT16 || dtype == MLAX_BFLOAT16; }

/* t as float32 in new scratch memory, not yet filled; *memory is that, or NULL where t stays as it is. */
static bool widen_one(mx_ctx *c, const mx_tensor *t, mx_tensor *to, mx_aval *aval, int64_t *strides, void **memory) {
  *to = *t;
  *memory = NULL;
  if (!is_half(t->aval->dtype)) return true;
  *aval = *t->aval;
  aval->dtype = MLAX_FLOAT32;
  mx_strides_contiguous(aval, strides);
  if (!(*memory = mx_scratch(c, mx_nbytes(aval)))) return false;
  *to = (mx_tensor){.data = *memory, .aval = aval, .strides = strides, .contiguous = true};
  return true;
}

bool mx_widen(mx_ctx *c, const mx_tensor *in, const mx_tensor *out, mx_widened *w) {
  w->result = out;
  w->memory[1] = NULL;
  bool ok = widen_one(c, in, &w->in, &w->in_aval, w->in_strides, &w->memory[0]) &&
            widen_one(c, out, &w->out, &w->out_aval, w->out_strides, &w->memory[1]);
  if (ok && w->memory[0]) ok = mx_cpu_convert_to(c, in, MLAX_FLOAT32, w->memory[0]);
  return ok || mx_narrow(c, w, false);
}

bool mx_widen_result(mx_ctx *c, const mx_tensor *out, mx_widened *w) {
  w->result = out;
  w->memory[0] = NULL;
  return widen_one(c, out, &w->out, &w->out_aval, w->out_strides, &w->memory[1]);
}

bool mx_narrow(mx_ctx *c, mx_widened *w, bool ok) {
  if (ok && w->memory[1]) ok = mx_cpu_convert_to(c, &w->out, w->result->aval->dtype, w->result->data);
  if (w->memory[0]) mx_scratch_free(c, w->memory[0], mx_nbytes(&w->in_aval));
  if (w->memory[1]) mx_scratch_free(c, w->memory[1], mx_nbytes(&w->out_aval));
  return ok;
}
