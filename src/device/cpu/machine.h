/* machine.h: what runs code: the machines' parts, and reading strided tensors in a row. */
#ifndef MX_MACHINE_H
#define MX_MACHINE_H

#include "../code.h"
#include "cpu_impl.h"
#include "simd/loops.h"
#include "simd/stages.h"

/* Code with rows. */
bool mx_cpu_run_rows(mx_ctx *c, const mx_code *code, const mx_tensor *in, const mx_tensor *out);
/* Adds stages to finished code, where it has them for all of it (stage.c). */
void mx_coder_stages(mx_coder *b);

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
