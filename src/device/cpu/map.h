/* map.h: how elements reach loops that want them in a row. The result is computed in blocks; for each operand a block
 * is
 *
 *     in a row, as it lies       contiguous, or a long run of a slice or of a broadcast row: no copy
 *     one value                  a block is filled once
 *     anything else              gathered into a block on the stack; halves are widened to float32 there
 */
#ifndef MX_MAP_H
#define MX_MAP_H

#include "cpu_impl.h"
#include "simd/loops.h"

#define MX_MAP_OPERANDS 3
typedef struct mx_map {
  int n_in;
  mx_loop loop;
  mx_loop load[MX_MAP_OPERANDS]; /* widens what the loop does not know; NULL: as it is */
  mx_loop store;                 /* narrows the result; NULL: as it is */
  double ns;                     /* about how long an element takes */
} mx_map;
/* out = loop(in...), the operands broadcast to out's shape; out may be one of them if it has its shape and dtype.
 * False: no memory, or an interrupt. */
bool mx_cpu_map(mx_ctx *c, const mx_map *m, const mx_tensor *in, const mx_tensor *out);

/* A position in a tensor seen in a broadcast shape, in row-major order. */
typedef struct mx_walk {
  size_t size; /* bytes of an element */
  int ndim;    /* at least 1; axes that lie behind one another are merged */
  int64_t shape[MX_MAX_NDIM], stride[MX_MAX_NDIM], index[MX_MAX_NDIM];
  const char *row; /* the innermost run that is being walked */
  int64_t at;      /* elements of it that are behind us */
} mx_walk;
void mx_walk_start(mx_walk *w, const mx_tensor *t, const mx_aval *shape, int64_t position);
/* The elements of the run before us, and where they begin. */
static inline int64_t mx_walk_run(const mx_walk *w) { return w->shape[w->ndim - 1] - w->at; }
static inline int64_t mx_walk_stride(const mx_walk *w) { return w->stride[w->ndim - 1]; }
static inline const char *mx_walk_here(const mx_walk *w) { return w->row + w->at * mx_walk_stride(w); }
void mx_walk_skip(mx_walk *w, int64_t n); /* at most to the end of the run */
/* The next n elements, in a row. */
void mx_walk_gather(mx_walk *w, int64_t n, void *to);
/* n elements of `size` bytes with a stride, in a row. */
void mx_gather_run(size_t size, int64_t n, const char *from, int64_t stride, void *to);

#endif
