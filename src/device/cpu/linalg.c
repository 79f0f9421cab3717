/* linalg.c: the kernels of linear algebra: batches, scratch memory, and the factorizations.
 *
 * Our matrices are row-major, LAPACK's column-major: it sees each transposed. Where that does no harm (a symmetric
 * matrix; an svd, of which u and v change places) nothing is moved. A matrix with a NaN or an infinity in it is not
 * shown to LAPACK: its results are NaN, as are those that LAPACK could not find.
 */
#include "linalg_impl.h"

#include <math.h>

/* -- moving matrices ---------------------------------------------------------------------------------------------- */

enum { BLOCK = 16 };

/* elements as bits */
typedef uint32_t __attribute__((may_alias)) word32;
typedef uint64_t __attribute__((may_alias)) word64;

#define COPY_BLOCK(T)                                                                                                  \
  for (int64_t r = r0; r < r1; r++)                                                                                    \
    for (int64_t k = c0; k < c1; k++) ((T *)to)[r * columns + k] = *(const T *)(from + r * row + k * column)

void mx_linalg_copy(size_t item, int64_t rows, int64_t columns, const char *from, int64_t row, int64_t column,
                    char *to) {
  if (column == (int64_t)item) {
    for (int64_t r = 0; r < rows; r++) memcpy(to + r * columns * column, from + r * row, (size_t)columns * item);
    return;
  }
  for (int64_t r0 = 0; r0 < rows; r0 += BLOCK)
    for (int64_t c0 = 0; c0 < columns; c0 += BLOCK) {
      int64_t r1 = r0 + BLOCK < rows ? r0 + BLOCK : rows, c1 = c0 + BLOCK < columns ? c0 + BLOCK : columns;
      if (item == 4) COPY_BLOCK(word32);
      else COPY_BLOCK(word64);
    }
}

const char *mx_linalg_in(const mx_linalg *j, int operand, int own, int64_t member) {
  const mx_tensor *t = &j->k->in[operand];
  const char *p = t->data;
  for (int i = t->aval->ndim - own - 1; i >= 0; i--) {
    p += member % t->aval->shape[i] * t->strides[i];
    member /= t->aval->shape[i];
  }
  return p;
}

void *mx_linalg_out(const mx_linalg *j, int result, int own, int64_t member) {
  const mx_aval *a = j->k->out[result].aval;
  int64_t size = (int64_t)mx_itemsize(a->dtype);
  for (int i = a->ndim - own; i < a->ndim; i++) size *= a->shape[i];
  return j->k->out[result].data + member * size;
}

void mx_linalg_gather(const mx_linalg *j, int operand, int64_t member, bool transpose, void *to) {
  const mx_tensor *t = &j->k->in[operand];
  const int64_t *shape = t->aval->shape + t->aval->ndim - 2, *strides = t->strides + t->aval->ndim - 2;
  mx_linalg_copy(j->item, shape[transpose], shape[!transpose], mx_linalg_in(j, operand, 2, member), strides[transpose],
                 strides[!transpose], to);
}

const void *mx_linalg_rows(const mx_linalg *j, int operand, int64_t member, void *scratch, int *ld) {
  const mx_tensor *t = &j->k->in[operand];
  const int64_t *shape = t->aval->shape + t->aval->ndim - 2, *strides = t->strides + t->aval->ndim - 2;
  int64_t item = (int64_t)j->item, row = strides[0];
  *ld = (int)shape[1];
  if (strides[1] == item && row % item == 0 && row / item >= shape[1] && row / item <= INT32_MAX) {
    *ld = (int)(row / item);
    return mx_linalg_in(j, operand, 2, member);
  }
  mx_linalg_gather(j, operand, member, false, scratch);
  return scratch;
}

/* An exponent of all ones is that of NaN and infinity. */
bool mx_linalg_finite(bool wide, const void *x, int64_t n) {
  bool bad = false;
  if (wide)
    for (int64_t i = 0; i < n; i++) bad |= (((const word64 *)x)[i] >> 52 & 0x7ff) == 0x7ff;
  else
    for (int64_t i = 0; i < n; i++) bad |= (((const word32 *)x)[i] >> 23 & 0xff) == 0xff;
  return !bad;
}

void mx_linalg_nan(bool wide, void *x, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (wide) ((double *)x)[i] = NAN;
    else ((float *)x)[i] = NAN;
}

/* Zeros before (lower false) or behind the diagonal of rows x columns. */
static void clear_triangle(size_t item, bool lower, int64_t rows, int64_t columns, char *x) {
  for (int64_t i = 0; i < rows; i++) {
    int64_t from = lower ? (i + 1 < columns ? i + 1 : columns) : 0, to = lower ? columns : i < columns ? i : columns;
    memset(x + (i * columns + from) * (int64_t)item, 0, (size_t)(to - from) * item);
  }
}

static void identity(bool wide, int64_t n, void *x) {
  memset(x, 0, (size_t)(n * n) * (wide ? 8 : 4));
  for (int64_t i = 0; i < n; i++)
    if (wide) ((double *)x)[i * (n + 1)] = 1;
    else ((float *)x)[i * (n + 1)] = 1;
}

static void transpose_square(bool wide, int64_t n, void *x) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < i; k++) {
      if (wide) {
        double *p = (double *)x + i * n + k, *q = (double *)x + k * n + i, t = *p;
        *p = *q, *q = t;
      } else {
        float *p = (float *)x + i * n + k, *q = (float *)x + k * n + i, t = *p;
        *p = *q, *q = t;
      }
    }
}

/* -- factorizations ----------------------------------------------------------------------------------------------- */

static void cholesky(const mx_linalg *j, int64_t member, char *scratch) {
  void *l = mx_linalg_out(j, 0, 2, member);
  int64_t n = j->n;
  (void)scratch;
  mx_linalg_gather(j, 0, member, false, l);
  if (!mx_linalg_finite(j->wide, l, n * n) || mx_lapack_potrf(j->wide, j->n, l) != 0) mx_linalg_nan(j->wide, l, n * n);
  clear_triangle(j->item, true, n, n, l);
}

/* parts: x transposed, tau, work */
static void qr(const mx_linalg *j, int64_t member, char *scratch) {
  char *q = mx_linalg_out(j, 0, 2, member), *r = mx_linalg_out(j, 1, 2, member), *x = mx_linalg_part(j, scratch, 0);
  void *tau = mx_linalg_part(j, scratch, 1), *work = mx_linalg_part(j, scratch, 2);
  int64_t m = j->m, n = j->n, k = j->least, column = m * (int64_t)j->item;
  mx_linalg_gather(j, 0, member, true, x);
  if (!mx_linalg_finite(j->wide, x, m * n)) mx_linalg_nan(j->wide, x, m * n);
  else mx_lapack_geqrf(j->wide, j->m, j->n, x, tau, work, j->lwork);
  mx_linalg_copy(j->item, k, n, x, (int64_t)j->item, column, r);
  clear_triangle(j->item, false, k, n, r);
  if (mx_linalg_finite(j->wide, x, m * n)) mx_lapack_orgqr(j->wide, j->m, j->least, x, tau, work, j->lwork);
  else mx_linalg_nan(j->wide, x, m * k);
  mx_linalg_copy(j->item, m, k, x, (int64_t)j->item, column, q);
}

/* parts: work, iwork */
static void eigh(const mx_linalg *j, int64_t member, char *scratch) {
  void *w = mx_linalg_out(j, 0, 1, member), *v = mx_linalg_out(j, 1, 2, member);
  int64_t n = j->n;
  mx_linalg_gather(j, 0, member, false, v);
  bool ok =
      mx_linalg_finite(j->wide, v, n * n) && mx_lapack_syevd(j->wide, j->n, v, w, mx_linalg_part(j, scratch, 0),
                                                             j->lwork, mx_linalg_part(j, scratch, 1), j->liwork) == 0;
  if (ok) transpose_square(j->wide, n, v);
  else mx_linalg_nan(j->wide, w, n), mx_linalg_nan(j->wide, v, n * n);
}

/* parts: x, work, iwork. LAPACK sees xT = v s uT, and what it calls u and vT are vT and u for us. */
static void svd(const mx_linalg *j, int64_t member, char *scratch) {
  void *u = mx_linalg_out(j, 0, 2, member), *s = mx_linalg_out(j, 1, 1, member), *vt = mx_linalg_out(j, 2, 2, member);
  bool full = j->k->p->matrix.flag;
  int64_t m = j->m, n = j->n, k = j->least;
  if (k == 0) {
    if (full) identity(j->wide, m, u), identity(j->wide, n, vt);
    return;
  }
  void *x = mx_linalg_part(j, scratch, 0);
  mx_linalg_gather(j, 0, member, false, x);
  if (mx_linalg_finite(j->wide, x, m * n) &&
      mx_lapack_gesdd(j->wide, full, j->n, j->m, x, s, vt, u, mx_linalg_part(j, scratch, 1), j->lwork,
                      mx_linalg_part(j, scratch, 2)) == 0)
    return;
  mx_linalg_nan(j->wide, u, m * (full ? m : k));
  mx_linalg_nan(j->wide, s, k);
  mx_linalg_nan(j->wide, vt, n * (full ? n : k));
}

/* -- what each needs ---------------------------------------------------------------------------------------------- */

void *mx_linalg_part(const mx_linalg *j, char *scratch, int i) {
  for (int k = 0; k < i; k++) scratch += j->part[k];
  return scratch;
}

/* elements of the matrices' dtype; of int32; whole cache lines, at least one */
static void part(mx_linalg *j, int i, size_t item, double elements) {
  double bytes = (elements * (double)item / 64 + 2) * 64;
  j->part[i] = bytes < 9e15 ? (size_t)bytes / 64 * 64 : SIZE_MAX / 2;
}

static void prepare_svd(mx_linalg *j, bool full, bool wide) {
  j->lwork = j->least == 0 ? 1 : mx_lapack_gesdd_lwork(wide, full, j->n, j->m);
  size_t item = wide ? 8 : 4;
  double m = j->m, n = j->n, k = j->least;
  part(j, 0, item, m * n);
  part(j, 1, item, j->lwork);
  part(j, 2, sizeof(int), 8 * k);
  part(j, 3, item, m * k); /* the others where svd is but a step */
  part(j, 4, item, k);
  part(j, 5, item, k * n);
}

static void prepare_qr(mx_linalg *j) {
  j->lwork = j->least == 0 ? 1 : mx_lapack_qr_lwork(j->wide, j->m, j->n);
  part(j, 0, j->item, (double)j->m * j->n);
  part(j, 1, j->item, j->least);
  part(j, 2, j->item, j->lwork);
  j->run = qr;
}

static void prepare_eigh(mx_linalg *j) {
  j->lwork = j->n == 0 ? 1 : mx_lapack_syevd_lwork(j->wide, j->n);
  j->liwork = 3 + 5 * j->n;
  part(j, 0, j->item, j->lwork);
  part(j, 1, sizeof(int), j->liwork);
  j->run = eigh;
}

/* A matrix, and so many int32. */
static void prepare_solve(mx_linalg *j, void (*run)(const mx_linalg *, int64_t, char *), double more) {
  const mx_aval *b = j->k->in[j->k->n_in - 1].aval;
  part(j, 0, j->item, (double)j->n * j->n);
  part(j, 1, sizeof(int), j->n);
  part(j, 2, j->item, more * (double)j->n * (double)b->shape[b->ndim - 1]);
  j->run = run;
}

static void prepare(mx_linalg *j) {
  switch (j->k->prim->id) {
  case MX_PRIM_cholesky: j->run = cholesky; break;
  case MX_PRIM_triangular_solve: prepare_solve(j, mx_linalg_triangular_solve, 0); break;
  case MX_PRIM_lu: prepare_solve(j, mx_linalg_lu, 0); break;
  case MX_PRIM_lu_solve: prepare_solve(j, mx_linalg_lu_solve, 1); break;
  case MX_PRIM_det: prepare_solve(j, mx_linalg_det, 0); break;
  case MX_PRIM_cofactor:
    prepare_svd(j, false, true), part(j, 6, 8, (double)j->n * j->n), j->run = mx_linalg_cofactor;
    break;
  case MX_PRIM_pinv: prepare_svd(j, false, j->wide), j->run = mx_linalg_pinv; break;
  case MX_PRIM_qr: prepare_qr(j); break;
  case MX_PRIM_eigh: prepare_eigh(j); break;
  default: prepare_svd(j, j->k->p->matrix.flag, j->wide), j->run = svd;
  }
}

/* -- the batch ---------------------------------------------------------------------------------------------------- */

#define ROUND_FLOPS 2e9 /* of a thread, between two looks at the interrupt */

static void run_chunk(void *arg, int i) {
  const mx_linalg *j = arg;
  int64_t lo = j->count * i / j->chunks, hi = j->count * (i + 1) / j->chunks;
  int threads = mx_serial_begin();
  for (int64_t k = lo; k < hi; k++) j->run(j, j->first + k, j->scratch + j->each * (size_t)i);
  mx_serial_end(threads);
}

static double flops_of(const mx_kernel_args *k, int64_t members) {
  const mx_aval *in[4];
  for (int i = 0; i < k->n_in; i++) in[i] = k->in[i].aval;
  mx_op o = {.prim = k->prim, .p = k->p, .n_in = k->n_in, .n_out = k->n_out, .in_aval = in, .out_aval = k->out[0].aval};
  return k->prim->flops(&o) / (double)members + 1000;
}

static bool run_rounds(mx_ctx *c, mx_linalg *j, int64_t members, double flops) {
  int64_t each = flops < ROUND_FLOPS ? (int64_t)(ROUND_FLOPS / flops) : 1, round = each * j->chunks;
  for (j->first = 0; j->first < members; j->first += j->count) {
    j->count = members - j->first < round ? members - j->first : round;
    if (j->chunks > j->count) j->chunks = (int)j->count;
    if (j->first && !mx_poll(c)) return false;
    mx_parallel(c->engine, j->chunks, run_chunk, j);
  }
  return true;
}

bool mx_cpu_linalg(mx_ctx *c, const mx_kernel_args *k) {
  const mx_aval *a = k->in[0].aval;
  mx_linalg j = {.k = k, .wide = a->dtype == MLAX_FLOAT64, .item = mx_itemsize(a->dtype)};
  int64_t members = 1, results = 0;
  for (int i = 0; i < a->ndim - 2; i++) members *= a->shape[i];
  for (int i = 0; i < k->n_out; i++) results += k->out[i].aval->size != 0;
  if (members == 0 || results == 0) return true;
  j.m = (int)a->shape[a->ndim - 2], j.n = (int)a->shape[a->ndim - 1];
  j.least = j.m < j.n ? j.m : j.n;
  prepare(&j);
  double flops = flops_of(k, members);
  j.chunks = mx_chunks(c->engine, members, 0.3 * flops);
  for (int i = 0; i < MX_PARTS; i++)
    if (!mx_add_size(j.each, j.part[i], &j.each)) return mx_fail_memory(c, SIZE_MAX);
  size_t bytes;
  if (!mx_mul_size(j.each, (size_t)j.chunks, &bytes)) return mx_fail_memory(c, SIZE_MAX);
  if (bytes && !(j.scratch = mx_scratch(c, bytes))) return false;
  bool ok = run_rounds(c, &j, members, flops);
  mx_scratch_free(c, j.scratch, bytes);
  return ok;
}
