/* random_draw.c: draws that take as many random numbers as it takes: gamma and Poisson, by rejection, an element at a
 * time. The algorithms are JAX's (jax.random), word for word in the use of keys. Each step rounds to the dtype of the
 * draw, and log, pow and erf_inv are those of the elementwise kernels, so that decisions fall as in arrays. */
#include "cpu_impl.h"
#include "machine.h"
#include "simd/threefry.h"

#include <math.h>

MX_SIMD_DECLARE(mx_threefry_loops, mx_threefry_loops);

/* -- numbers of one dtype ----------------------------------------------------------------------------------------- */

typedef struct key {
  uint32_t word[2];
} key;

typedef struct source {
  const mx_threefry_loops *hash;
  const mx_math_loops *math;
  const mx_arithmetic_loops *arithmetic;
  int dtype, mantissa; /* bits after the point of 1.0 */
} source;

static source source_of(int dtype) {
  static const int mantissa[] = {10, 7, 23, 52}; /* ORDER dtype */
  return (source){.hash = MX_SIMD_PICK(mx_threefry_loops),
                  .math = MX_SIMD_PICK(mx_math_loops),
                  .arithmetic = MX_SIMD_PICK(mx_arithmetic_loops),
                  .dtype = dtype,
                  .mantissa = mantissa[dtype - MLAX_FLOAT16]};
}

/* v as the dtype holds it. */
static double to(const source *s, double v) {
  switch (s->dtype) {
  case MLAX_FLOAT16: return (double)mx_float_of_half(mx_half_of_float((float)v));
  case MLAX_BFLOAT16: return (double)mx_float_of_bfloat(mx_bfloat_of_float((float)v));
  case MLAX_FLOAT32: return (double)(float)v;
  default: return v;
  }
}

/* An elementwise primitive of one number, or two; halves are computed in float. */
static double math2(const source *s, int id, double x, double y) {
  bool is_wide = s->dtype == MLAX_FLOAT64;
  mx_loop loop = s->math->loop[id][is_wide];
  if (!loop) loop = s->arithmetic->loop[id][is_wide ? MLAX_FLOAT64 : MLAX_FLOAT32];
  double wide[3] = {x, y, 0};
  float narrow[3] = {(float)x, (float)y, 0};
  if (is_wide) loop(1, (const void *[]){wide, wide + 1}, wide + 2);
  else loop(1, (const void *[]){narrow, narrow + 1}, narrow + 2);
  return is_wide ? wide[2] : to(s, (double)narrow[2]);
}
static double math1(const source *s, int id, double x) { return math2(s, id, x, 0); }
static double ln(const source *s, double x) { return math1(s, MX_PRIM_log, x); }

/* The hash of a counter: key number `low` of a split, or the bits of element `low`. */
static key hash(const source *s, key k, uint32_t high, uint32_t low) {
  key r;
  s->hash->one_key(1, k.word[0], k.word[1], &high, &low, &r.word[0], &r.word[1]);
  return r;
}
static key split(const source *s, key k, uint32_t i) { return hash(s, k, 0, i); }

/* [0, 1): the upper bits of a word (of both for float64) as a fraction. */
static double unit_at(const source *s, key k, uint32_t high, uint32_t low) {
  key r = hash(s, k, high, low);
  uint32_t word = r.word[0] ^ r.word[1];
  switch (s->dtype) {
  case MLAX_FLOAT16: return ldexp((double)((word & 0xffff) >> 6), -10);
  case MLAX_BFLOAT16: return ldexp((double)((word & 0xff) >> 1), -7);
  case MLAX_FLOAT32: return ldexp((double)(word >> 9), -23);
  default: return ldexp((double)(((uint64_t)r.word[0] << 32 | r.word[1]) >> 12), -52);
  }
}
static double unit(const source *s, key k) { return unit_at(s, k, 0, 0); }

static double normal(const source *s, key k) {
  double u = to(s, 2 * unit(s, k) + (ldexp(1, -s->mantissa - 1) - 1));
  return to(s, to(s, sqrt(2)) * math1(s, MX_PRIM_erf_inv, u));
}

/* -- gamma: Marsaglia and Tsang, A simple method for generating gamma variables, 2000 ------------------------------ */

/* 1 + c x of a normal x, positive */
static double positive_cube_root(const source *s, key k, double c, double *x) {
  double v;
  do {
    key draw = split(s, k, 1);
    k = split(s, k, 0);
    *x = normal(s, draw);
    v = to(s, 1 + *x * c);
  } while (v <= 0);
  return v;
}

/* Whether v = (1 + c x)^3 is refused by u; x2 = x^2. A squeeze spares most of them the logarithm. */
static bool is_refused(const source *s, double d, double x2, double v, double u) {
  if (u < to(s, 1 - to(s, to(s, 0.0331) * to(s, x2 * x2)))) return false;
  double bound = to(s, x2 * 0.5 + to(s, d * to(s, to(s, 1 - v) + ln(s, v))));
  return ln(s, u) >= bound;
}

/* d v is gamma of a >= 1, d = a - 1/3. */
static double draw_cube(const source *s, key k, double d) {
  double third = to(s, 1. / 3), c = to(s, third / to(s, sqrt(d))), x, v, u;
  do {
    key keys[3] = {split(s, k, 0), split(s, k, 1), split(s, k, 2)};
    k = keys[0];
    v = positive_cube_root(s, keys[1], c, &x);
    x = to(s, x * x);
    v = to(s, to(s, v * v) * v);
    u = unit(s, keys[2]);
  } while (is_refused(s, d, x, v, u));
  return v;
}

/* A draw of a < 1 is one of a + 1 times u^(1/a). */
static double draw_gamma(const source *s, key k, double a, bool log_space) {
  bool boosted = !(a >= 1);
  double d = to(s, (boosted ? to(s, a + 1) : a) - to(s, 1. / 3)), v = draw_cube(s, split(s, k, 0), d);
  double u = unit(s, split(s, k, 1)), power = to(s, 1 / a);
  if (!log_space) return to(s, to(s, d * v) * (boosted ? math2(s, MX_PRIM_pow, to(s, 1 - u), power) : 1));
  double boost = math1(s, MX_PRIM_log1p, -u);
  boost = boosted && boost != 0 ? to(s, boost * power) : 0;
  return to(s, to(s, ln(s, d) + ln(s, v)) + boost);
}

enum { NS_PER_DRAW = 250 };

typedef struct gamma_work {
  const mx_kernel_args *k;
  source source;
  int chunks;
} gamma_work;

static void gamma_chunk(void *arg, int chunk) {
  const gamma_work *w = arg;
  const mx_kernel_args *k = w->k;
  const mx_aval *a = k->out->aval;
  int64_t first = a->size * chunk / w->chunks, end = a->size * (chunk + 1) / w->chunks;
  mx_walk in[3];
  for (int j = 0; j < 3; j++) mx_walk_start(&in[j], &k->in[j], a, first);
  for (int64_t i = first; i < end; i++) {
    key own;
    for (int j = 0; j < 2; j++) memcpy(&own.word[j], mx_walk_here(&in[j]), sizeof own.word[j]);
    double parameter = mx_load_double(a->dtype, mx_walk_here(&in[2]));
    double x = draw_gamma(&w->source, own, parameter, k->p->gamma.log_space);
    mx_store_double(a->dtype, k->out->data + (size_t)i * mx_itemsize(a->dtype), x);
    for (int j = 0; j < 3; j++) mx_walk_skip(&in[j], 1);
  }
}

static bool gamma_kernel(mx_ctx *c, const mx_kernel_args *k) {
  gamma_work w = {.k = k, .source = source_of(k->out->aval->dtype)};
  w.chunks = mx_chunks(c->engine, k->out->aval->size, NS_PER_DRAW);
  mx_parallel(c->engine, w.chunks, gamma_chunk, &w);
  return true;
}

/* -- Poisson, in float32 -------------------------------------------------------------------------------------------
 *
 * A draw (a row of the operands) has one chain of keys, a round each, and element i the bits of counter i in each. JAX
 * goes on until every element of the row has been accepted, and an element takes its last acceptance, not its first:
 * so first the number of rounds is found, then each element looks for its acceptance from the last round backwards. */

enum { MOST_ROUNDS = 128 }; /* seven in ten are accepted a round: no more are needed, whatever the row's length */

typedef struct chain {
  key next;
  int n;
  key draw[MOST_ROUNDS][2];
} chain;

/* Round r's keys. */
static const key *round_keys(const source *s, chain *l, int r) {
  for (; l->n <= r; l->n++) {
    l->draw[l->n][0] = split(s, l->next, 1);
    l->draw[l->n][1] = split(s, l->next, 2);
    l->next = split(s, l->next, 0);
  }
  return l->draw[r];
}

static double unit_of(const source *s, key k, int64_t i) {
  return unit_at(s, k, (uint32_t)((uint64_t)i >> 32), (uint32_t)i);
}

/* Below 10, Knuth: how many uniform numbers have a product above e^-rate. */
static double draw_few(const source *s, chain *l, int64_t i, double rate) {
  double sum = 0;
  int n = 0;
  for (; n < MOST_ROUNDS && sum > -rate; n++) sum = to(s, sum + ln(s, unit_of(s, round_keys(s, l, n)[0], i)));
  return n - 1;
}

/* From 10 on, Hormann, The transformed rejection method for generating Poisson random variables, 1993 (PTRS). */
/* ln gamma(z + 1) of z >= 0 by Lanczos' sum in float, as XLA computes it: for great z its last bits decide. */
static double lgamma_after(const source *s, double z) {
  static const double terms[] = {676.520368121885098567,    -1259.13921672240287047,  771.323428777653078849,
                                 -176.615029162140599066,   12.5073432786869048145,   -0.138571095265720116896,
                                 9.98436957801957085956e-6, 1.50563273514931155834e-7};
  double sum = 1;
  for (int i = 0; i < 8; i++) sum = to(s, sum + to(s, to(s, terms[i]) / to(s, z + i + 1)));
  double t = to(s, 7.5 + z), log_t = to(s, to(s, log(7.5)) + math1(s, MX_PRIM_log1p, to(s, z / 7.5)));
  double log_y = to(s, to(s, to(s, z + 0.5) - to(s, t / log_t)) * log_t + to(s, 0.5 * log(2 * acos(-1))));
  return to(s, log_y + ln(s, sum));
}

typedef struct hat {
  double rate, log_rate, a, b, inverse, squeeze;
} hat;

static hat hat_of(const source *s, double rate) {
  hat h = {.rate = rate, .log_rate = ln(s, rate), .b = to(s, to(s, 0.931) + to(s, 2.53) * to(s, sqrt(rate)))};
  h.a = to(s, to(s, -0.059) + to(s, 0.02483) * h.b);
  h.inverse = to(s, to(s, 1.1239) + to(s, to(s, 1.1328) / to(s, h.b - to(s, 3.4))));
  h.squeeze = to(s, to(s, 0.9277) - to(s, to(s, 3.6224) / to(s, h.b - 2)));
  return h;
}

/* The number that round r proposes for element i, or -1 where it is refused. */
static double propose(const source *s, const hat *h, chain *l, int r, int64_t i) {
  const key *keys = round_keys(s, l, r);
  double u = unit_of(s, keys[0], i) - 0.5, v = unit_of(s, keys[1], i), edge = 0.5 - fabs(u);
  double n = floor(to(s, to(s, to(s, to(s, 2 * h->a / edge) + h->b) * u + h->rate) + to(s, 0.43)));
  if (edge >= to(s, 0.07) && v <= h->squeeze) return n;
  if (!(n >= 0) || (edge < to(s, 0.013) && v > edge)) return -1;
  double left = ln(s, to(s, to(s, v * h->inverse) / to(s, to(s, h->a / to(s, edge * edge)) + h->b)));
  double right = to(s, to(s, n * h->log_rate - h->rate) - lgamma_after(s, n));
  return left <= right ? n : -1;
}

typedef struct poisson_work {
  source source;
  const uint32_t *keys; /* two words a row */
  const float *rates;
  int64_t length; /* of a row */
  int64_t size;
  const mx_tensor *out;
  _Atomic(int) *rounds; /* by row; 0: no rate from 10 on */
  int chunks;
  bool counting; /* the first of the two passes */
} poisson_work;

static bool is_few(double rate) { return !(rate >= 10); }

/* Elements below 10 stand in the row's rounds as if their rate were 1e5; one that is infinite is never accepted. */
static void count_rounds(const poisson_work *w, chain *l, int64_t row, int64_t i, double rate) {
  hat h = hat_of(&w->source, is_few(rate) ? 1e5 : rate);
  int need = 1, have = atomic_load_explicit(&w->rounds[row], memory_order_relaxed);
  if (!have || rate == INFINITY) return;
  while (need < MOST_ROUNDS && propose(&w->source, &h, l, need - 1, i) < 0) need++;
  while (need > have && !atomic_compare_exchange_weak(&w->rounds[row], &have, need)) {}
}

static double draw_poisson(const poisson_work *w, chain *l, int64_t row, int64_t i, double rate) {
  if (rate == 0) return 0;
  if (is_few(rate)) return draw_few(&w->source, l, i, rate);
  hat h = hat_of(&w->source, rate);
  double n = -1;
  for (int r = w->rounds[row]; n < 0 && r > 0 && rate < INFINITY; r--) n = propose(&w->source, &h, l, r - 1, i);
  return n;
}

static void poisson_chunk(void *arg, int chunk) {
  const poisson_work *w = arg;
  int64_t first = w->size * chunk / w->chunks, end = w->size * (chunk + 1) / w->chunks, row = -1;
  int dtype = w->out->aval->dtype;
  chain l;
  for (int64_t at = first; at < end; at++) {
    int64_t i = at % w->length;
    double rate = (double)w->rates[at];
    if (at / w->length != row) {
      row = at / w->length;
      l.n = 0;
      memcpy(&l.next, w->keys + 2 * row, sizeof l.next);
    }
    if (w->counting) count_rounds(w, &l, row, i, rate);
    else mx_store_double(dtype, w->out->data + (size_t)at * mx_itemsize(dtype), draw_poisson(w, &l, row, i, rate));
  }
}

static bool mark_rows(const poisson_work *w) {
  bool any = false;
  for (int64_t row = 0; row < w->size / w->length; row++) {
    bool many = false;
    for (int64_t i = 0; i < w->length && !many; i++) many = !is_few((double)w->rates[row * w->length + i]);
    atomic_init(&w->rounds[row], many);
    any |= many;
  }
  return any;
}

static void draw_rows(mx_ctx *c, poisson_work *w) {
  w->chunks = mx_chunks(c->engine, w->size, NS_PER_DRAW);
  w->counting = mark_rows(w);
  if (w->counting) mx_parallel(c->engine, w->chunks, poisson_chunk, w);
  w->counting = false;
  mx_parallel(c->engine, w->chunks, poisson_chunk, w);
}

static bool poisson_kernel(mx_ctx *c, const mx_kernel_args *k) {
  const mx_aval *a = k->in[1].aval;
  size_t bytes[2] = {0}, rows = mx_nbytes(k->in[0].aval) / sizeof(key) * sizeof(_Atomic(int));
  poisson_work w = {.source = source_of(MLAX_FLOAT32), .out = k->out, .length = a->shape[a->ndim - 1], .size = a->size};
  w.keys = mx_cpu_contiguous(c, &k->in[0], &bytes[0]);
  w.rates = mx_cpu_contiguous(c, &k->in[1], &bytes[1]);
  w.rounds = mx_scratch(c, rows);
  bool ok = w.keys && w.rates && w.rounds;
  if (ok) draw_rows(c, &w);
  if (bytes[0]) mx_scratch_free(c, (void *)(uintptr_t)w.keys, bytes[0]);
  if (bytes[1]) mx_scratch_free(c, (void *)(uintptr_t)w.rates, bytes[1]);
  if (w.rounds) mx_scratch_free(c, w.rounds, rows);
  return ok;
}

bool mx_cpu_random_draw(mx_ctx *c, const mx_kernel_args *k) {
  return k->prim->id == MX_PRIM_random_gamma ? gamma_kernel(c, k) : poisson_kernel(c, k);
}
