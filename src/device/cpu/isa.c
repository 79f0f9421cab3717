/* isa.c: what machine this is. */
#include "dot_impl.h"
#include "simd/simd.h"

#include <cblas.h>
#include <stdatomic.h>
#include <stdio.h>

#if defined(__x86_64__)
#  include <cpuid.h>
#  include <sys/syscall.h>
#  include <unistd.h>
#endif

#if defined(__x86_64__)
/* -march=x86-64-v3 and -v4: what those files may use. */
static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}
static bool has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
mx_isa_level mx_isa(void) { return has_avx512() ? MX_ISA_AVX512 : has_avx2() ? MX_ISA_AVX2 : MX_ISA_BASE; }
static const char *const isa_names[] = {"SSE2", "AVX2", "AVX-512"};

enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, /* leaf 7, edx */ AVX512_BF16 = 1 << 5 /* leaf 7, part 1, eax */ };
static bool knows_tiles(void) {
  unsigned a, b, c, d;
  bool tiles = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_BF16) && (d & AMX_TILE);
  return tiles && a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX512_BF16);
}

/* Linux saves the tiles of a process only after it has asked for that; it refuses where a stack for signals is too
 * small to save them on. */
static bool may_use_tiles(void) {
#  if defined(__linux__) && defined(SYS_arch_prctl)
  enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#  else
  return false;
#  endif
}

bool mx_has_matrix_tiles(void) {
  static atomic_int known; /* 0: not yet; else 1 + the answer, which is the same for all who ask at once */
  int answer = atomic_load_explicit(&known, memory_order_relaxed);
  if (!answer) {
    answer = 1 + (has_avx512() && knows_tiles() && may_use_tiles());
    atomic_store_explicit(&known, answer, memory_order_relaxed);
  }
  return answer == 2;
}
#else
bool mx_has_matrix_tiles(void) { return false; }
mx_isa_level mx_isa(void) { return MX_ISA_BASE; }
static const char *const isa_names[] = {"plain C"};
#endif

void mx_cpu_describe(const mlax_engine *e, char *to, size_t cap) {
  char blas[32] = "";
  bool own = mx_own_tiles(MLAX_FLOAT32) != NULL;
  sscanf(openblas_get_config(), "OpenBLAS %31s", blas); /* "OpenBLAS 0.3.21 NO_AFFINITY ..." */
  snprintf(to, cap, "cpu: %s, %d thread%s, products by %s%s, OpenBLAS %s %s (%s)", isa_names[mx_isa()], e->threads,
           e->threads == 1 ? "" : "s", own ? "own tiles" : "OpenBLAS",
           mx_bfloat_tiles(MLAX_BFLOAT16) ? " (bfloat16 by AMX)" : "", blas, openblas_get_corename(),
           e->blas_parallel ? "OpenMP" : "serial: not its OpenMP build");
}
