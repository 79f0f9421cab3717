/* device.h: who computes. A device has a kernel for each primitive; kernels are total: shape rules have checked
 * everything.
 *
 * Operands come with any byte strides (also 0 and negative); results are row-major. A kernel fails only for want of
 * scratch memory, on an interrupt, or (check_index) because the data say so: it then calls mx_fail and returns false.
 */
#ifndef MX_DEVICE_H
#define MX_DEVICE_H

#include "../ops/ops.h"

typedef struct mx_tensor {
  char *data; /* the first element */
  const mx_aval *aval;
  const int64_t *strides; /* bytes */
  bool contiguous;        /* row-major without gaps */
} mx_tensor;

/* What is done to the first result while it lies in a cache. `run` is called by the thread that has made elements
 * lo .. hi-1, in row-major order, complete: each element once, and the kernel neither reads nor writes it again. */
typedef struct mx_after {
  void (*run)(void *arg, int64_t lo, int64_t hi);
  void *arg;
  double ns;  /* about how long an element takes */
  bool taken; /* set by a kernel that calls `run`, before it does; others leave it to the caller */
} mx_after;

typedef struct mx_kernel_args {
  const mx_primitive *prim;
  const mx_params *p;
  int n_in, n_out;
  const mx_tensor *in, *out;
  const void *prepared; /* what mx_device.prepare found for tensors such as these; NULL: nothing */
  mx_after *after;      /* NULL: nothing */
} mx_kernel_args;

typedef bool (*mx_kernel)(mx_ctx *c, const mx_kernel_args *a);

typedef struct mx_device {
  const char *name;         /* "cpu" */
  const mx_kernel *kernels; /* by mx_prim_id; NULL: the primitive is always a view */
  /* For a kernel that will run often on tensors of these avals and strides, which have no data yet: what need not be
   * found out each time, in `keep`. NULL in *prepared: nothing. False: no memory. */
  bool (*prepare)(mx_ctx *c, const mx_kernel_args *a, mx_arena *keep, const void **prepared);
} mx_device;

extern const mx_device mx_cpu;

/* -- profile (profile.c): what each step took, while one records --------------------------------------------------- */

/* A step that runs between enter and leave; a->p and the tensors' addresses are not read later. label: the name of a
 * step that is more than its primitive, which then has these flops; NULL: it is the primitive. site: the Lua line that
 * made it; 0: the line that runs now. False: no memory, and leave must not follow. */
typedef struct mx_profile_span {
  struct mx_profile *profile;
  int row, event;       /* event -1: there was no room */
  int64_t start, outer; /* outer: nanoseconds of the steps before it in the step around */
} mx_profile_span;
bool mx_profile_enter(mx_ctx *c, const mx_kernel_args *a, const char *label, double flops, uint32_t site,
                      mx_profile_span *s);
void mx_profile_leave(mx_ctx *c, const mx_profile_span *s);
bool mx_profile_kernel(mx_ctx *c, mx_kernel kernel, const mx_kernel_args *a);

/* How an eager operation calls its kernel. */
static inline bool mx_kernel_run(mx_ctx *c, mx_kernel kernel, const mx_kernel_args *a) {
  return c->profile ? mx_profile_kernel(c, kernel, a) : kernel(c, a);
}

typedef struct mx_profile mx_profile;
mx_profile *mx_profile_new(mx_ctx *c);
void mx_profile_free(mx_profile *p); /* stopped before; NULL is allowed */
void mx_profile_start(mx_ctx *c, mx_profile *p);
void mx_profile_stop(mx_ctx *c, mx_profile *p); /* does nothing where p does not record in c */

/* Calls of one step from one Lua line on operands of the same avals. */
typedef struct mx_profile_step {
  const char *name;
  uint32_t site;
  const mx_aval *result; /* the first; NULL: it has none */
  int64_t calls;
  double seconds;      /* without the steps inside, where it is control flow */
  double flops, bytes; /* of all calls; 0 for control flow, whose work is that of the steps inside */
} mx_profile_step;
typedef struct mx_profile_total {
  double seconds, inside; /* from start to stop; in steps */
  int64_t steps, left;    /* that ran; those that are not in the trace, for want of room */
} mx_profile_total;
/* The number of the step that comes after `step` in the order of time, the heaviest after -1; -1: there is none. */
int mx_profile_next(const mx_profile *p, int step);
mx_profile_step mx_profile_at(const mx_profile *p, int step);
mx_profile_total mx_profile_sum(const mx_profile *p);
/* Writes a Chrome trace; MLAX_IO where the file cannot be written. */
bool mx_profile_write(mx_ctx *c, const mx_profile *p, const char *path);

/* -- for kernels --------------------------------------------------------------------------------------------------- */

/* Row-major copy of t in scratch memory (t's own data where it is row-major already; then *bytes is 0). Freed by
 * mx_scratch_free. */
void *mx_cpu_contiguous(mx_ctx *c, const mx_tensor *t, size_t *bytes);
void *mx_scratch(mx_ctx *c, size_t bytes);
void mx_scratch_free(mx_ctx *c, void *p, size_t bytes);
/* Strided copy to row-major, with a tiled path for transpositions, in parallel where it is large. */
void mx_cpu_copy(mx_ctx *c, const mx_tensor *from, char *to);

/* debug.nans: false, with the error pending, where a result has a NaN and no operand does. */
bool mx_cpu_check_nans(mx_ctx *c, const mx_kernel_args *a);

/* Kernels that compile/ has, since they run the plans of the programs inside. */
bool mx_cpu_control(mx_ctx *c, const mx_kernel_args *a);
bool mx_cpu_collective(mx_ctx *c, const mx_kernel_args *a);

/* "cpu: AVX-512, 2 threads, products by own tiles, OpenBLAS 0.3.21 SkylakeX (OpenMP)": for mlax.devices() */
void mx_cpu_describe(const mlax_engine *e, char *to, size_t cap);

#endif
