/* array.c: making, counting and reading arrays; the frame of temporaries; the public functions of mlax.h. */
#include "array.h"

/* True where this reference was the last. Who holds the only one shares the count with nobody: it need not be written.
 */
static bool was_last(atomic_int *refs) {
  return atomic_load_explicit(refs, memory_order_acquire) == 1 ||
         atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

/* -- buffers ----------------------------------------------------------------------------------- */

static mx_buffer *buffer_of(mx_ctx *c, void *data, size_t bytes) {
  mx_buffer *b = mx_new(c, sizeof *b);
  if (!b) return NULL;
  atomic_init(&b->refs, 1);
  b->engine = c->engine;
  b->data = data;
  b->bytes = bytes;
  return b;
}

mx_buffer *mx_buffer_new(mx_ctx *c, size_t bytes) {
  void *data = mx_buffer_alloc(c, bytes);
  if (!data) return NULL;
  mx_buffer *b = buffer_of(c, data, bytes);
  if (!b) mx_buffer_free(c->engine, data, bytes);
  return b;
}

void mx_buffer_release(mx_buffer *b) {
  if (!b || !was_last(&b->refs)) return;
  mlax_engine *e = b->engine;
  if (b->release) b->release(b->ud);
  else mx_buffer_free(e, b->data, b->bytes);
  mx_free(e, b, sizeof *b);
}

/* -- make -------------------------------------------------------------------------------------- */

static mx_array *array_new(mx_ctx *c, mx_tag tag, const mx_aval *a) {
  mx_array *x = mx_new(c, sizeof *x);
  if (!x) return NULL;
  atomic_init(&x->refs, 1);
  x->tag = (uint8_t)tag;
  x->engine = mx_engine_retain(c->engine);
  x->aval = *a;
  return x;
}

/* Takes b. */
static mx_array *array_over(mx_ctx *c, const mx_aval *a, mx_buffer *b) {
  mx_array *x = array_new(c, MX_VALUE, a);
  if (!x) return mx_buffer_release(b), NULL;
  x->buffer = b;
  x->contiguous = true;
  mx_strides_contiguous(a, x->strides);
  return x;
}

mx_array *mx_array_new(mx_ctx *c, const mx_aval *a) {
  mx_buffer *b = mx_buffer_new(c, mx_nbytes(a));
  return b ? array_over(c, a, b) : NULL;
}

mx_array *mx_array_of_buffer(mx_ctx *c, const mx_aval *a, mx_buffer *b, int64_t offset, const int64_t *strides) {
  mx_array *x = array_new(c, MX_VALUE, a);
  if (!x) return NULL;
  atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
  x->buffer = b;
  x->offset = offset;
  memcpy(x->strides, strides, a->ndim * sizeof *strides);
  x->contiguous = mx_strides_are_contiguous(a, strides);
  return x;
}

mx_array *mx_array_view(mx_ctx *c, mx_array *base, const mx_aval *a, int64_t offset, const int64_t *strides) {
  return mx_array_of_buffer(c, a, base->buffer, offset, strides);
}

mx_array *mx_array_tracer(mx_ctx *c, mx_tag tag, const mx_aval *a) { return array_new(c, tag, a); }

static mx_array *new_scalar(mx_ctx *c, int dtype) {
  return mx_array_new(c, &(mx_aval){.dtype = (uint8_t)dtype, .size = 1});
}

mx_array *mx_array_of_double(mx_ctx *c, int dtype, double v) {
  mx_array *x = new_scalar(c, dtype);
  if (x) mx_store_double(dtype, mx_data(x), v);
  return x;
}

mx_array *mx_array_of_int(mx_ctx *c, int dtype, int64_t v) {
  mx_array *x = new_scalar(c, dtype);
  if (x) mx_store_int(dtype, mx_data(x), v);
  return x;
}

mx_array *mx_array_contiguous(mx_ctx *c, mx_array *x) {
  if (x->contiguous) return mx_retain(x);
  mx_array *y = mx_array_new(c, &x->aval);
  if (y) mx_array_read_all(x, mx_data(y));
  return y;
}

/* -- count ------------------------------------------------------------------------------------- */

void mx_release(mx_array *x) {
  if (!x || !was_last(&x->refs)) return;
  mlax_engine *e = x->engine;
  if (x->tag == MX_VALUE || x->tag == MX_DONATED) mx_buffer_release(x->buffer);
  else if (mx_is_tracer(x)) mx_tracer_free(x);
  mx_free(e, x, sizeof *x);
  mlax_engine_release(e);
}

void mx_array_donate(mx_array *x, uint32_t site) {
  if (x->tag != MX_VALUE) return;
  x->tag = MX_DONATED;
  x->site = site;
  if (atomic_load(&x->pinned)) return;
  mx_buffer_release(x->buffer);
  x->buffer = NULL;
}

/* -- ask --------------------------------------------------------------------------------------- */

double mx_array_item_double(const mx_array *x) { return mx_load_double(x->aval.dtype, mx_data(x)); }
int64_t mx_array_item_int(const mx_array *x) { return mx_load_int(x->aval.dtype, mx_data(x)); }

/* -- the frame --------------------------------------------------------------------------------- */

mx_array *mx_keep(mx_ctx *c, mx_array *x) {
  if (!x) return NULL;
  if (!mx_grow(c, &c->frame, &c->frame_cap, c->frame_n + 1, sizeof *c->frame)) return mx_release(x), NULL;
  return c->frame[c->frame_n++] = x;
}

void mx_frame_release(mx_ctx *c, int mark) {
  while (c->frame_n > mark) mx_release(c->frame[--c->frame_n]);
}

/* Where there is no room for `out`, the frame stays as it is, with the error: what survives too long is still safe. */
void mx_frame_return(mx_ctx *c, int mark, mx_array *const *out, int n) {
  if (!mx_grow(c, &c->frame, &c->frame_cap, mark + n, sizeof *c->frame)) return;
  for (int i = 0; i < n; i++) mx_retain(out[i]);
  mx_frame_release(c, mark);
  for (int i = 0; i < n; i++)
    if (out[i]) c->frame[c->frame_n++] = out[i];
}

/* -- mlax.h: arrays of a host ------------------------------------------------------------------ */

static bool check_host_array(mx_ctx *c, mx_aval *a, int dtype, int ndim, const int64_t *shape, const void *data) {
  if (!mx_same_process(c)) return false;
  if (dtype < 0 || dtype >= MX_DTYPE_COUNT) return mx_fail(c, MLAX_ARGUMENT, "unknown dtype (got %d)", dtype);
  if (ndim > 0 && !shape) return mx_fail(c, MLAX_ARGUMENT, "no shape (got NULL)");
  if (!mx_aval_make(c, a, dtype, ndim, shape)) return false;
  if (!data && a->size) return mx_fail(c, MLAX_ARGUMENT, "no data (got NULL)");
  return true;
}

/* The context's error becomes the caller's. */
static mlax_status finish(mx_ctx *c, mlax_array **out, mx_array *x, mlax_error *error) {
  *out = x;
  return mx_report(error, c->error.status, "%s", c->error.text);
}

mlax_status mlax_array_copy(mlax_engine *engine, mlax_dtype dtype, int ndim, const int64_t *shape, const void *data,
                            mlax_array **out, mlax_error *error) {
  mx_ctx c = {.engine = engine};
  mx_aval a;
  mx_array *x = check_host_array(&c, &a, (int)dtype, ndim, shape, data) ? mx_array_new(&c, &a) : NULL;
  if (x && a.dtype == MLAX_BOOL) mx_convert_strided(MLAX_UINT8, data, 1, MLAX_BOOL, mx_data(x), 1, a.size);
  else if (x && a.size) memcpy(mx_data(x), data, mx_nbytes(&a));
  return finish(&c, out, x, error);
}

static void no_release(void *ud) { (void)ud; }

/* What kernels rely on and a copy would have put right. */
static bool check_wrapped(mx_ctx *c, const mx_aval *a, const void *data) {
  const unsigned char *bytes = data;
  if ((uintptr_t)data % mx_itemsize(a->dtype))
    return mx_fail(c, MLAX_ARGUMENT, "data is not aligned to its elements (need a multiple of %zu bytes)",
                   mx_itemsize(a->dtype));
  for (int64_t i = 0; a->dtype == MLAX_BOOL && i < a->size; i++)
    if (bytes[i] > 1) return mx_fail(c, MLAX_ARGUMENT, "a bool is neither 0 nor 1 (got %d)", bytes[i]);
  return true;
}

mlax_status mlax_array_wrap(mlax_engine *engine, mlax_dtype dtype, int ndim, const int64_t *shape, const void *data,
                            void (*release)(void *ud), void *ud, mlax_array **out, mlax_error *error) {
  mx_ctx c = {.engine = engine};
  mx_aval a;
  mx_buffer *b = NULL;
  if (check_host_array(&c, &a, (int)dtype, ndim, shape, data) && check_wrapped(&c, &a, data))
    b = buffer_of(&c, (void *)(uintptr_t)data, mx_nbytes(&a));
  if (b) b->release = release ? release : no_release, b->ud = ud;
  else if (release) release(ud);
  return finish(&c, out, b ? array_over(&c, &a, b) : NULL, error);
}

mlax_array *mlax_array_retain(mlax_array *x) { return mx_retain(x); }
void mlax_array_release(mlax_array *x) { mx_release(x); }
mlax_dtype mlax_array_dtype(const mlax_array *x) { return (mlax_dtype)x->aval.dtype; }
int mlax_array_ndim(const mlax_array *x) { return x->aval.ndim; }
const int64_t *mlax_array_shape(const mlax_array *x) { return x->aval.shape; }

const void *mlax_array_data(const mlax_array *x) {
  if (x->tag != MX_VALUE || !x->contiguous) return NULL;
  atomic_store(&((mx_array *)(uintptr_t)x)->pinned, true);
  return mx_data(x);
}

mlax_status mlax_array_read(const mlax_array *x, void *to, size_t bytes, mlax_error *error) {
  mx_ctx c = {.engine = x->engine};
  size_t need = mx_nbytes(&x->aval);
  if (!mx_same_process(&c)) {
  } else if (mx_is_gone(x)) mx_fail(&c, MLAX_STATE, "the array has been %s", x->tag == MX_FREED ? "freed" : "donated");
  else if (x->tag != MX_VALUE) mx_fail(&c, MLAX_STATE, "a traced array has no value");
  else if (bytes != need) mx_fail(&c, MLAX_ARGUMENT, "wrong number of bytes (got %zu, need %zu)", bytes, need);
  else mx_array_read_all(x, to);
  return mx_report(error, c.error.status, "%s", c.error.text);
}
