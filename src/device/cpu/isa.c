/* isa.c: what machine this is. */
#include "dot_impl.h"
#include "simd/simd.h"

#include <cblas.h>
#include <stdio.h>

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
#else
mx_isa_level mx_isa(void) { return MX_ISA_BASE; }
static const char *const isa_names[] = {"plain C"};
#endif

void mx_cpu_describe(const mlax_engine *e, char *to, size_t cap) {
  char blas[32] = "";
  bool own = mx_own_tiles(MLAX_FLOAT32) != NULL;
  sscanf(openblas_get_config(), "OpenBLAS %31s", blas); /* "OpenBLAS 0.3.21 NO_AFFINITY ..." */
  snprintf(to, cap, "cpu: %s, %d thread%s, products by %s, OpenBLAS %s %s (%s)", isa_names[mx_isa()], e->threads,
           e->threads == 1 ? "" : "s", own ? "own tiles" : "OpenBLAS", blas, openblas_get_corename(),
           e->blas_parallel ? "OpenMP" : "serial: not its OpenMP build");
}
