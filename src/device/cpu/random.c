/* random.c: threefry2x32 (gamma and Poisson stand in random_draw.c). Keys and counters come with any strides, mostly
 * one key for all and a counter that is zero; they are brought into rows of BLOCK elements, which the loops of
 * simd/threefry.c hash. */
#include "cpu_impl.h"
#include "simd/threefry.h"

MX_SIMD_DECLARE(mx_threefry_loops, mx_threefry_loops);

enum { BLOCK = 512 };

typedef struct threefry_work {
  const mx_threefry_loops *loops;
  const mx_kernel_args *k;
  int64_t strides[4][MX_MAX_NDIM]; /* of the operands in the result's shape */
  int chunks;
} threefry_work;

/* n elements with a stride: as they lie where they lie in a row, else copied into the room. */
static const uint32_t *row_of(const char *p, int64_t stride, int64_t n, uint32_t *room) {
  if (stride == (int64_t)sizeof *room) return (const uint32_t *)p;
  for (int64_t i = 0; i < n; i++) room[i] = *(const uint32_t *)(p + i * stride);
  return room;
}

/* n results from number `first` on; all lie in one run of the last axis. */
static void hash_run(const threefry_work *w, int64_t first, int64_t n, const char *const *p, const int64_t *stride) {
  uint32_t room[4][BLOCK];
  const uint32_t *row[4];
  uint32_t *y0 = (uint32_t *)w->k->out[0].data + first, *y1 = (uint32_t *)w->k->out[1].data + first;
  bool one_key = n == 1 || (stride[0] == 0 && stride[1] == 0);
  for (int i = one_key ? 2 : 0; i < 4; i++) row[i] = row_of(p[i], stride[i], n, room[i]);
  if (one_key) w->loops->one_key(n, *(const uint32_t *)p[0], *(const uint32_t *)p[1], row[2], row[3], y0, y1);
  else w->loops->keys(n, row[0], row[1], row[2], row[3], y0, y1);
}

static void threefry_chunk(void *arg, int chunk) {
  const threefry_work *w = arg;
  const mx_aval *a = w->k->out[0].aval;
  int last = a->ndim - 1;
  int64_t run = last < 0 ? 1 : a->shape[last], stride[4], end = a->size * (chunk + 1) / w->chunks;
  for (int i = 0; i < 4; i++) stride[i] = last < 0 ? 0 : w->strides[i][last];
  for (int64_t first = a->size * chunk / w->chunks, n; first < end; first += n) {
    const char *p[4];
    n = run - first % run; /* to the end of the run, of the chunk, of the room */
    if (n > end - first) n = end - first;
    if (n > BLOCK) n = BLOCK;
    for (int i = 0; i < 4; i++) {
      p[i] = w->k->in[i].data;
      for (int64_t d = last, rest = first; d >= 0; rest /= a->shape[d--]) p[i] += rest % a->shape[d] * w->strides[i][d];
    }
    hash_run(w, first, n, p, stride);
  }
}

bool mx_cpu_random(mx_ctx *c, const mx_kernel_args *k) {
  if (k->prim->id != MX_PRIM_threefry2x32) return mx_cpu_random_draw(c, k);
  threefry_work w = {.loops = MX_SIMD_PICK(mx_threefry_loops), .k = k};
  for (int i = 0; i < 4; i++) mx_strides_broadcast(k->in[i].aval, k->in[i].strides, k->out[0].aval, w.strides[i]);
  w.chunks = mx_chunks(c->engine, k->out[0].aval->size, 1);
  mx_parallel(c->engine, w.chunks, threefry_chunk, &w);
  return true;
}
