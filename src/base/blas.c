/* blas.c: is the BLAS under us usable, and by how many threads at once?
 *
 * OpenBLAS maps 128 MiB for each call that runs at the same time, keeps them, and tries for ever where it gets none. So
 * they are mapped when an engine is made, at a time when a failure can still be told.
 */
#include "base_impl.h"

#include <cblas.h>
#include <sys/mman.h>

#define WORK_MEMORY ((size_t)128 << 20)
enum { MAX_TOUCH = 64 };

/* OpenBLAS's own: gives a calling thread its work memory. Other builds may hide them. */
extern void *blas_memory_alloc(int) __attribute__((weak));
extern void blas_memory_free(void *) __attribute__((weak));

bool mx_blas_is_openmp(void) { return openblas_get_parallel() == OPENBLAS_OPENMP; }

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
  return multiplies() ? NULL : "OpenBLAS gives wrong products";
}

/* How many pieces of work memory the system would give, at most n. */
static int count_mappable(int n) {
  void *p[MAX_TOUCH];
  int have = 0;
  for (; have < n; have++) {
    p[have] = mmap(NULL, WORK_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p[have] == MAP_FAILED) break;
  }
  for (int i = 0; i < have; i++) munmap(p[i], WORK_MEMORY);
  return have;
}

int mx_blas_touch(int threads) {
  static atomic_int touched; /* of this process, as OpenBLAS keeps them */
  void *p[MAX_TOUCH];
  int have = atomic_load(&touched), n = threads < MAX_TOUCH ? threads : MAX_TOUCH;
  if (!blas_memory_alloc || !blas_memory_free || have >= n) return threads;
  int more = count_mappable(n - have);
  if (more < n - have) threads = n = have + more;
  for (int i = 0; i < n; i++) p[i] = blas_memory_alloc(0);
  for (int i = 0; i < n; i++) blas_memory_free(p[i]);
  if (atomic_load(&touched) < n) atomic_store(&touched, n);
  return threads;
}
