/* reduce.c: sums, products, extremes over any axes of any strides.
 *
 * The axes are sorted into kept and reduced ones, each by its stride. Where a kept axis has the smallest stride, blocks
 * of it are accumulators and the reduced axes are rows that are added to them ("columns"); where a reduced axis has it,
 * each result is made of runs along it ("rows"). Few reduced positions of many results are taken position by position
 * ("thin").
 *
 *     x {6, 1000}   sum over axis 0: rows of 1000 are added to 1000 accumulators, two blocks of 512
 *                   sum over axis 1: 6 results, a run of 1000 for each
 *
 * Sums are joined as a balanced tree. What is cut where depends on the shape alone, so that any number of threads gives
 * the same bits. */
#include "reduce_impl.h"

#define NS_PER_BYTE 0.08

enum {
  COLUMNS = 512, /* accumulators of a block */
  PIECE = 65536, /* elements of a run that are one position of the tree */
  LEAF = 16,     /* runs, or sets of 4096 / width rows but at least 64, that are added up one by one */
  THIN = 16,     /* so few reduced positions are thin */
  FEW = 32,      /* so few blocks of results are cut along the reduced axes, too */
  SLICES = 64,   /* into so many parts */
  GATHER = 4096  /* bytes that are made contiguous at a time */
};

/* -- the plan ------------------------------------------------------------------------------------------------------ */

typedef struct plan {
  const mx_fold_loops *loops;
  int64_t size; /* bytes of an element */
  char identity[8];
  const char *from;
  char *to;
  mx_reduce_axes kept, red; /* the inner axis is the last */
  bool columns;
  int64_t width;     /* accumulators of a block: 1 for rows */
  int64_t blocks;    /* of results, in all */
  int64_t per_outer; /* blocks for each position of the outer kept axes */
  int64_t pieces;    /* of the inner run, for rows */
  int64_t positions; /* of the tree: what is reduced for each block */
  int64_t leaf;      /* positions that are not cut further */
} plan;

static int64_t distance(int64_t stride) { return stride < 0 ? -stride : stride; }

/* By falling stride; axes that lie behind one another become one. A reduced axis may be walked from either end. */
static void add_axis(mx_reduce_axes *a, int64_t n, int64_t in, int64_t out) {
  int i = a->n++;
  for (; i > 0 && distance(a->axis[i - 1].in) < distance(in); i--) a->axis[i] = a->axis[i - 1];
  a->axis[i] = (mx_reduce_axis){n, in, out};
}

static void merge_axes(mx_reduce_axes *a) {
  int m = 0;
  for (int i = 1; i < a->n; i++) {
    mx_reduce_axis *p = &a->axis[m], *q = &a->axis[i];
    if (p->in == q->in * q->n && p->out == q->out * q->n) *p = (mx_reduce_axis){p->n * q->n, q->in, q->out};
    else a->axis[++m] = *q;
  }
  a->n = a->n ? m + 1 : 0;
}

int64_t mx_reduce_count(const mx_reduce_axes *a, int n) {
  int64_t count = 1;
  for (int i = 0; i < n; i++) count *= a->axis[i].n;
  return count;
}

int64_t mx_reduce_offset(const mx_reduce_axes *a, int n, int64_t position, int64_t *out) {
  int64_t in = 0;
  for (int i = n - 1; i >= 0; i--) {
    int64_t at = position % a->axis[i].n;
    position /= a->axis[i].n;
    in += at * a->axis[i].in;
    if (out) *out += at * a->axis[i].out;
  }
  return in;
}

void mx_reduce_sort_axes(const mx_tensor *x, const mx_dims *axes, int64_t out_size, mx_reduce_axes *kept,
                         mx_reduce_axes *red) {
  int64_t out = out_size;
  *kept = *red = (mx_reduce_axes){0};
  for (int i = x->aval->ndim - 1; i >= 0; i--) {
    int64_t n = x->aval->shape[i];
    bool reduced = mx_dims_has(axes, i);
    if (n != 1) add_axis(reduced ? red : kept, n, x->strides[i], reduced ? 0 : out);
    if (!reduced) out *= n;
  }
  merge_axes(kept);
  merge_axes(red);
}

/* Columns where elements of a kept axis lie closest together. */
static bool takes_columns(const plan *p) {
  if (p->kept.n == 0) return false;
  if (p->red.n == 0) return true;
  int64_t k = p->kept.axis[p->kept.n - 1].in, r = p->red.axis[p->red.n - 1].in;
  return distance(k) == p->size || (distance(r) != p->size && distance(k) < distance(r));
}

static void plan_columns(plan *p) {
  int64_t n = p->kept.axis[p->kept.n - 1].n;
  p->width = n < COLUMNS ? n : COLUMNS;
  p->per_outer = (n + COLUMNS - 1) / COLUMNS;
  p->blocks = p->per_outer * mx_reduce_count(&p->kept, p->kept.n - 1);
  p->pieces = 1;
  p->positions = mx_reduce_count(&p->red, p->red.n);
  p->leaf = 4096 / p->width > 64 ? 4096 / p->width : 64;
}

static void plan_rows(plan *p) {
  int64_t n = p->red.n ? p->red.axis[p->red.n - 1].n : 1;
  p->width = p->per_outer = 1;
  p->blocks = mx_reduce_count(&p->kept, p->kept.n);
  p->pieces = (n + PIECE - 1) / PIECE;
  p->positions = p->pieces * mx_reduce_count(&p->red, p->red.n - (p->red.n > 0));
  p->leaf = LEAF;
}

/* -- one block ----------------------------------------------------------------------------------------------------- */

static void fill(const plan *p, char *acc, int64_t n) {
  for (int64_t i = 0; i < n; i++) memcpy(acc + i * p->size, p->identity, (size_t)p->size);
}

/* A run of elements that do not lie side by side, a buffer at a time. */
static void fold_run(const plan *p, char *acc, const char *x, int64_t stride, int64_t n) {
  char buffer[GATHER] __attribute__((aligned(64)));
  int64_t cap = GATHER / p->size;
  if (stride == p->size) {
    p->loops->fold(acc, x, n);
    return;
  }
  for (int64_t i = 0; i < n; i += cap) {
    int64_t m = n - i < cap ? n - i : cap;
    mx_reduce_gather(buffer, x + i * stride, stride, p->size, m);
    p->loops->fold(acc, buffer, m);
  }
}

static void add_rows(const plan *p, char *acc, const char *x, int64_t row_stride, int64_t m, int64_t n) {
  char buffer[COLUMNS * 8] __attribute__((aligned(64)));
  int64_t stride = p->kept.axis[p->kept.n - 1].in;
  if (stride == p->size) {
    p->loops->rows(acc, x, row_stride, m, n);
    return;
  }
  for (int64_t i = 0; i < m; i++) {
    mx_reduce_gather(buffer, x + i * row_stride, stride, p->size, n);
    p->loops->rows(acc, buffer, 0, 1, n);
  }
}

/* Positions q0 .. q1-1 of the rows mode: pieces of runs. */
static void leaf_rows(const plan *p, char *acc, const char *x, int64_t q0, int64_t q1) {
  mx_reduce_axis run = p->red.n ? p->red.axis[p->red.n - 1] : (mx_reduce_axis){1, p->size, 0};
  for (int64_t q = q0; q < q1; q++) {
    int64_t at = (q % p->pieces) * PIECE, n = run.n - at < PIECE ? run.n - at : PIECE;
    const char *from = x + mx_reduce_offset(&p->red, p->red.n - 1, q / p->pieces, NULL) + at * run.in;
    fold_run(p, acc, from, run.in, n);
  }
}

/* Positions of the columns mode: as many rows at once as the inner reduced axis has left. */
static void leaf_columns(const plan *p, char *acc, const char *x, int64_t q0, int64_t q1, int64_t width) {
  mx_reduce_axis rows = p->red.n ? p->red.axis[p->red.n - 1] : (mx_reduce_axis){1, 0, 0};
  while (q0 < q1) {
    int64_t at = q0 % rows.n, m = rows.n - at < q1 - q0 ? rows.n - at : q1 - q0;
    const char *from = x + mx_reduce_offset(&p->red, p->red.n - 1, q0 / rows.n, NULL) + at * rows.in;
    add_rows(p, acc, from, rows.in, m, width);
    q0 += m;
  }
}

/* acc, which holds the identity, becomes the reduction of positions q0 .. q1-1: two halves, joined. `spare` has room
 * for an accumulator for each level. */
static void tree(const plan *p, char *acc, char *spare, const char *x, int64_t q0, int64_t q1, int64_t width) {
  if (q1 - q0 <= p->leaf) {
    if (p->columns) leaf_columns(p, acc, x, q0, q1, width);
    else leaf_rows(p, acc, x, q0, q1);
    return;
  }
  int64_t half = q0 + ((q1 - q0) / 2 + p->leaf - 1) / p->leaf * p->leaf;
  char *next = spare + p->width * p->size;
  tree(p, acc, spare, x, q0, half, width);
  fill(p, spare, width);
  tree(p, spare, next, x, half, q1, width);
  p->loops->rows(acc, spare, 0, 1, width);
}

static int levels(const plan *p) {
  int n = 2;
  for (int64_t q = p->positions; q > p->leaf; q = q / 2 + p->leaf) {
    n++;
    if (q <= 2 * p->leaf) break;
  }
  return n;
}

typedef struct block {
  const char *from;
  char *to;
  int64_t width, stride; /* of the results */
} block;

static block block_at(const plan *p, int64_t b) {
  block r = {.width = 1, .stride = p->size};
  int64_t in, out = 0;
  if (p->columns) {
    mx_reduce_axis inner = p->kept.axis[p->kept.n - 1];
    int64_t first = (b % p->per_outer) * COLUMNS;
    in = mx_reduce_offset(&p->kept, p->kept.n - 1, b / p->per_outer, &out) + first * inner.in;
    out += first * inner.out;
    r.width = inner.n - first < COLUMNS ? inner.n - first : COLUMNS;
    r.stride = inner.out;
  } else in = mx_reduce_offset(&p->kept, p->kept.n, b, &out);
  r.from = p->from + in;
  r.to = p->to + out;
  return r;
}

static void store(const plan *p, const block *b, const char *acc) {
  if (b->stride == p->size) {
    memcpy(b->to, acc, (size_t)(b->width * p->size));
    return;
  }
  for (int64_t j = 0; j < b->width; j++) memcpy(b->to + j * b->stride, acc + j * p->size, (size_t)p->size);
}

/* -- all blocks ---------------------------------------------------------------------------------------------------- */

typedef struct job {
  const plan *p;
  char *scratch; /* for each chunk: accumulators for the levels */
  size_t each;
  int n_chunks;
  int64_t slices; /* of the positions of each block */
  char *partial;  /* slices accumulators for each block; NULL where there is one */
} job;

static void run_task(const job *j, int64_t t, char *scratch) {
  const plan *p = j->p;
  int64_t s = t % j->slices;
  block b = block_at(p, t / j->slices);
  char *acc = j->partial ? j->partial + t * p->width * p->size : scratch;
  fill(p, acc, b.width);
  tree(p, acc, scratch + p->width * p->size, b.from, p->positions * s / j->slices, p->positions * (s + 1) / j->slices,
       b.width);
  if (!j->partial) store(p, &b, acc);
}

static void run_chunk(void *arg, int i) {
  const job *j = arg;
  int64_t tasks = j->p->blocks * j->slices, lo = tasks * i / j->n_chunks, hi = tasks * (i + 1) / j->n_chunks;
  for (int64_t t = lo; t < hi; t++) run_task(j, t, j->scratch + j->each * (size_t)i);
}

/* The parts of each block, pairwise. */
static void join_slices(const job *j) {
  const plan *p = j->p;
  int64_t bytes = p->width * p->size;
  for (int64_t k = 0; k < p->blocks; k++) {
    char *part = j->partial + k * j->slices * bytes;
    block b = block_at(p, k);
    for (int64_t step = 1; step < j->slices; step *= 2)
      for (int64_t s = 0; s + step < j->slices; s += 2 * step)
        p->loops->rows(part + s * bytes, part + (s + step) * bytes, 0, 1, b.width);
    store(p, &b, part);
  }
}

static bool run_blocks(mx_ctx *c, const plan *p, double bytes) {
  job j = {.p = p, .slices = 1};
  if (p->blocks < FEW && bytes > 1 << 18) j.slices = p->positions / p->leaf < SLICES ? p->positions / p->leaf : SLICES;
  if (!p->columns && p->pieces > 1 && j.slices < SLICES && p->blocks < FEW)
    j.slices = p->positions < SLICES ? p->positions : SLICES; /* a piece is worth a task */
  if (j.slices < 1) j.slices = 1;
  int64_t tasks = p->blocks * j.slices;
  j.n_chunks = mx_chunks(c->engine, tasks, NS_PER_BYTE * bytes / (double)tasks);
  j.each = (size_t)(levels(p) + 1) * (size_t)(p->width * p->size);
  j.each = (j.each + 63) / 64 * 64;
  size_t scratch = j.each * (size_t)j.n_chunks;
  size_t partial = j.slices > 1 ? (size_t)(tasks * p->width * p->size) : 0;
  char *memory = mx_scratch(c, scratch + partial);
  if (!memory) return false;
  j.scratch = memory;
  if (partial) j.partial = memory + scratch;
  mx_parallel(c->engine, j.n_chunks, run_chunk, &j);
  if (partial) join_slices(&j);
  mx_scratch_free(c, memory, scratch + partial);
  return true;
}

/* -- thin ---------------------------------------------------------------------------------------------------------- */

/* The longest kept axis is walked, in stretches that stay in the cache while each reduced position adds to them;
 * or each result is made at once of a dense run. */
typedef struct thin_job {
  const plan *p;
  int longest, n_chunks;
  int64_t positions;
} thin_job;

enum { STRETCH = 2048 };

static void thin_stretch(const thin_job *j, const char *from, char *to, int64_t n) {
  const plan *p = j->p;
  mx_reduce_axis walk = p->kept.axis[j->longest], run = p->red.axis[0];
  if (p->red.n == 1 && run.in == p->size) {
    p->loops->brief(to, walk.out, from, walk.in, run.n, n);
    return;
  }
  for (int64_t i = 0; i < n; i++) memcpy(to + i * walk.out, p->identity, (size_t)p->size);
  for (int64_t q = 0; q < j->positions; q++)
    p->loops->thin(to, walk.out, from + mx_reduce_offset(&p->red, p->red.n, q, NULL), walk.in, n);
}

static void thin_chunk(void *arg, int i) {
  const thin_job *j = arg;
  const plan *p = j->p;
  mx_reduce_axis walk = p->kept.axis[j->longest];
  mx_reduce_axes others = p->kept;
  others.axis[j->longest].n = 1;
  int64_t rest = mx_reduce_count(&others, others.n), lo = walk.n * i / j->n_chunks, hi = walk.n * (i + 1) / j->n_chunks;
  for (int64_t at = lo; at < hi; at += STRETCH)
    for (int64_t k = 0; k < rest; k++) {
      int64_t out = 0, in = mx_reduce_offset(&others, others.n, k, &out);
      thin_stretch(j, p->from + in + at * walk.in, p->to + out + at * walk.out, hi - at < STRETCH ? hi - at : STRETCH);
    }
}

static bool is_thin(const plan *p) {
  int64_t results = mx_reduce_count(&p->kept, p->kept.n), positions = mx_reduce_count(&p->red, p->red.n);
  return p->kept.n && positions <= THIN && results >= 64 && (!p->columns || p->width < 64);
}

static void run_thin(mx_ctx *c, const plan *p, double bytes) {
  thin_job j = {.p = p, .positions = mx_reduce_count(&p->red, p->red.n)};
  for (int i = 1; i < p->kept.n; i++)
    if (p->kept.axis[i].n > p->kept.axis[j.longest].n) j.longest = i;
  int64_t n = p->kept.axis[j.longest].n;
  j.n_chunks = mx_chunks(c->engine, n, 4 * NS_PER_BYTE * bytes / (double)n);
  mx_parallel(c->engine, j.n_chunks, thin_chunk, &j);
}

/* -- the kernel ---------------------------------------------------------------------------------------------------- */

static mx_fold_op op_of(const mx_primitive *prim) {
  switch (prim->id) {
  case MX_PRIM_reduce_sum: return MX_FOLD_SUM;
  case MX_PRIM_reduce_prod: return MX_FOLD_PROD;
  case MX_PRIM_reduce_max:
  case MX_PRIM_reduce_any: return MX_FOLD_MAX;
  default: return MX_FOLD_MIN;
  }
}

/* The reduction of nothing, which changes no element. */
void mx_reduce_identity(mx_fold_op op, int dtype, void *to) {
  int bits = 8 * (int)mx_itemsize(dtype);
  bool is_signed = mx_dtype_kind(dtype) == MX_KIND_INT;
  int64_t least = is_signed ? INT64_MIN >> (64 - bits) : 0;
  if (op == MX_FOLD_SUM || op == MX_FOLD_PROD) mx_store_int(dtype, to, op == MX_FOLD_PROD);
  else if (mx_is_float(dtype)) mx_store_double(dtype, to, op == MX_FOLD_MAX ? -__builtin_inf() : __builtin_inf());
  else if (dtype == MLAX_BOOL) mx_store_int(dtype, to, op == MX_FOLD_MIN);
  else mx_store_int(dtype, to, op == MX_FOLD_MAX ? least : ~least);
}

static bool reduce_full(mx_ctx *c, mx_fold_op op, const mx_tensor *x, const mx_dims *axes, const mx_tensor *y) {
  int dtype = x->aval->dtype;
  plan p = {.loops = &MX_SIMD_PICK(mx_reduce_table)->fold[op][dtype],
            .size = (int64_t)mx_itemsize(dtype),
            .from = x->data,
            .to = y->data};
  double bytes = (double)mx_nbytes(x->aval) + (double)mx_nbytes(y->aval);
  mx_reduce_identity(op, dtype, p.identity);
  if (y->aval->size == 0) return true;
  if (x->aval->size == 0) return fill(&p, p.to, y->aval->size), true;
  mx_reduce_sort_axes(x, axes, p.size, &p.kept, &p.red);
  p.columns = takes_columns(&p);
  if (p.columns) plan_columns(&p);
  else plan_rows(&p);
  if (!is_thin(&p)) return run_blocks(c, &p, bytes);
  return run_thin(c, &p, bytes), true;
}

bool mx_cpu_reduce(mx_ctx *c, const mx_kernel_args *a) {
  mx_widened w;
  if (a->prim->id == MX_PRIM_argmax || a->prim->id == MX_PRIM_argmin) return mx_cpu_arg_reduce(c, a);
  if (!mx_widen(c, &a->in[0], &a->out[0], &w)) return false;
  bool ok = reduce_full(c, op_of(a->prim), &w.in, &a->p->axes.axes, &w.out);
  return mx_narrow(c, &w, ok);
}
