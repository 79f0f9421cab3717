/* batches.c: rows of arrays, a batch at a time. One function makes a batch, in the caller's thread or, a batch ahead,
 * in a worker's; so the batches are the same. The worker touches no Lua and polls nothing: an interrupt is the
 * caller's. */
#include "io.h"

struct mx_batches {
  mlax_engine *engine;
  int n;
  mx_array **arrays; /* row-major */
  mx_array **out;    /* the batch that was handed out: what the caller did not take */
  mx_array **ready;  /* the batch that the worker makes */
  mx_array *order;   /* int32 from 0; NULL: as they stand */
  int64_t size, at, end;
  mx_worker *worker; /* NULL: nothing is made ahead */
  bool pending;      /* the worker was told to make the batch at `at` */
  bool made;         /* and did */
  mx_ctx ctx;        /* the worker's */
};

static void release_all(mx_array **arrays, int n) {
  for (int i = 0; arrays && i < n; i++) {
    mx_release(arrays[i]);
    arrays[i] = NULL;
  }
}

/* -- one batch ----------------------------------------------------------------------------------------------------- */

static bool rows_aval(mx_ctx *c, const mx_array *x, int64_t rows, mx_aval *a) {
  int64_t shape[MX_MAX_NDIM];
  memcpy(shape, x->aval.shape, sizeof shape);
  shape[0] = rows;
  return mx_aval_make(c, a, x->aval.dtype, x->aval.ndim, shape);
}

static mx_array *rows_gather(mx_ctx *c, const mx_array *x, const mx_aval *a, const int32_t *order) {
  mx_array *y = mx_array_new(c, a);
  size_t bytes = mx_nbytes(a) / (size_t)a->shape[0];
  for (int64_t i = 0; y && bytes && i < a->shape[0]; i++)
    memcpy(mx_data(y) + (size_t)i * bytes, mx_data(x) + (size_t)order[i] * bytes, bytes);
  return y;
}

static mx_array *rows_of(mx_ctx *c, const mx_batches *b, mx_array *x, int64_t rows) {
  mx_aval a;
  if (!rows_aval(c, x, rows, &a)) return NULL;
  if (b->order) return rows_gather(c, x, &a, (const int32_t *)mx_data(b->order) + b->at);
  return mx_array_view(c, x, &a, x->offset + b->at * x->strides[0], x->strides);
}

static int64_t rows_next(const mx_batches *b) { return b->end - b->at < b->size ? b->end - b->at : b->size; }

/* The batch at `at`: n references; none where it fails. */
static bool batch_make(mx_ctx *c, const mx_batches *b, mx_array **to) {
  int64_t rows = rows_next(b);
  for (int i = 0; i < b->n; i++)
    if (!(to[i] = rows_of(c, b, b->arrays[i], rows))) return release_all(to, i), false;
  return true;
}

static void batch_ahead(void *arg) {
  mx_batches *b = arg;
  b->made = batch_make(&b->ctx, b, b->ready);
  mx_clear(&b->ctx);
}

/* -- all of them --------------------------------------------------------------------------------------------------- */

static bool arrays_take(mx_ctx *c, mx_batches *b, mx_array *const *arrays, int n) {
  size_t bytes = (size_t)n * sizeof(mx_array *);
  b->n = n;
  b->arrays = mx_new(c, bytes);
  b->out = mx_new(c, bytes);
  b->ready = mx_new(c, bytes);
  if (!b->arrays || !b->out || !b->ready) return false;
  for (int i = 0; i < n; i++)
    if (!(b->arrays[i] = mx_array_contiguous(c, arrays[i]))) return false;
  return true;
}

mx_batches *mx_batches_new(mx_ctx *c, mx_array *const *arrays, int n, mx_array *order, int64_t size, int64_t end) {
  mx_batches *b = mx_new(c, sizeof *b);
  if (!b) return NULL;
  b->engine = mx_engine_retain(c->engine);
  b->size = size;
  b->end = end;
  b->order = mx_retain(order);
  if (mx_ctx_init(&b->ctx, c->engine) && arrays_take(c, b, arrays, n)) return b;
  mx_batches_free(b);
  return NULL;
}

void mx_batches_ahead(mx_batches *b) {
  if (!b->worker) b->worker = mx_worker_new(b->engine, batch_ahead, b);
}

static void submit(mx_batches *b) {
  b->pending = b->worker && b->at < b->end;
  if (b->pending) mx_worker_submit(b->worker);
}

/* What the worker could not make is tried again here, where garbage can be collected and errors have a reader. */
static bool batch_take(mx_ctx *c, mx_batches *b) {
  if (!b->pending) return batch_make(c, b, b->out);
  mx_worker_wait(b->worker);
  b->pending = false;
  if (!b->made) return batch_make(c, b, b->out);
  memcpy(b->out, b->ready, (size_t)b->n * sizeof *b->out);
  memset(b->ready, 0, (size_t)b->n * sizeof *b->ready);
  return true;
}

mx_array **mx_batches_next(mx_ctx *c, mx_batches *b) {
  release_all(b->out, b->n);
  if (b->at >= b->end || !batch_take(c, b)) return NULL;
  b->at += rows_next(b);
  submit(b);
  return b->out;
}

void mx_batches_free(mx_batches *b) {
  mlax_engine *e = b->engine;
  size_t bytes = (size_t)b->n * sizeof(mx_array *);
  if (!mx_same_process(&b->ctx)) return; /* the worker stayed in the parent, perhaps with a lock of ours */
  mx_worker_free(e, b->worker);
  release_all(b->arrays, b->n);
  release_all(b->out, b->n);
  release_all(b->ready, b->n);
  mx_release(b->order);
  mx_free(e, b->arrays, bytes);
  mx_free(e, b->out, bytes);
  mx_free(e, b->ready, bytes);
  mx_ctx_close(&b->ctx);
  mx_free(e, b, sizeof *b);
  mlax_engine_release(e);
}
