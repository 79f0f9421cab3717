/* blas.c: is the BLAS under us usable? OpenBLAS aborts or loops where its work memory cannot be had, so it is touched
 * once, at a time when the failure can still be told. */
#include "base_impl.h"

#include <cblas.h>
#include <sys/mman.h>

#define WORK_MEMORY ((size_t)64 << 20) /* what OpenBLAS maps for a thread, and some more */

bool mx_blas_is_openmp(void) { return openblas_get_parallel() == OPENBLAS_OPENMP; }

static bool has_work_memory(void) {
  void *p = mmap(NULL, WORK_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return false;
  munmap(p, WORK_MEMORY);
  return true;
}

/* {1,2;3,4;5,6} {1,2,3;4,5,6} with row lengths that a wrong integer width would spoil. */
static bool multiplies(void) {
  const float a[6] = {1, 2, 3, 4, 5, 6}, want[9] = {9, 12, 15, 19, 26, 33, 29, 40, 51};
  float c[9] = {0};
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 3, 3, 2, 1, a, 2, a, 3, 0, c, 3);
  return memcmp(c, want, sizeof c) == 0;
}

const char *mx_blas_check(void) {
  if (sizeof(blasint) != sizeof(int) || strstr(openblas_get_config(), "USE64BITINT"))
    return "OpenBLAS has 64-bit integers (need the build with 32-bit ones)";
  if (!has_work_memory()) return "not enough memory for OpenBLAS";
  return multiplies() ? NULL : "OpenBLAS gives wrong products";
}
