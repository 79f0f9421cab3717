/* simd.h: what the files in simd/ share. Each of them is compiled once per instruction set, with -DMX_ISA=sse2, avx2,
 * avx512 (or plain elsewhere than on x86-64); everything global in them carries that suffix, and the callers pick a
 * table at run time.
 *
 *     simd/norm.c:   const mx_norm_loops MX_SIMD(mx_norm_loops) = {softmax_row, ...};      mx_norm_loops_avx2
 *     norm.c:        MX_SIMD_DECLARE(mx_norm_loops, mx_norm_loops);                         all of them, extern
 *                    const mx_norm_loops *loops = MX_SIMD_PICK(mx_norm_loops);              the one for this machine
 *
 * The loops are plain C for the compiler's vectoriser, so that every instruction set computes the same bits. (The build
 * also says -ffp-contract=off, for the same reason.)
 */
#ifndef MX_SIMD_H
#define MX_SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum { MX_ISA_BASE, MX_ISA_AVX2, MX_ISA_AVX512 } mx_isa_level;
mx_isa_level mx_isa(void); /* isa.c: the best that this machine has */
/* isa.c: bfloat16 matrix tiles (AMX), and the system lets this process use them; with MX_ISA_AVX512 alone. */
bool mx_has_matrix_tiles(void);

#define MX_JOIN_(a, b) a##_##b
#define MX_JOIN(a, b)  MX_JOIN_(a, b)
#define MX_SIMD(name)  MX_JOIN(name, MX_ISA)

#if defined(__x86_64__)
#  define MX_SIMD_DECLARE(type, name) extern const type name##_sse2, name##_avx2, name##_avx512
#  define MX_SIMD_PICK(name)                                                                                           \
    (mx_isa() == MX_ISA_AVX512 ? &name##_avx512 : mx_isa() == MX_ISA_AVX2 ? &name##_avx2 : &name##_sse2)
#else
#  define MX_SIMD_DECLARE(type, name) extern const type name##_plain
#  define MX_SIMD_PICK(name)          (&name##_plain)
#endif

/* Before a loop whose iterations do not depend on one another; operands may be the result itself, never shifted against
 * it. */
#define MX_VECTORIZE _Pragma("omp simd")
#if defined(__clang__)
#  pragma clang diagnostic ignored "-Wpass-failed" /* loops that call libm stay as they are */
#endif

/* Arrays of vectors are registers only where the loops over them are unrolled. */
#if defined(__clang__)
#  define UNROLL       _Pragma("clang loop unroll(full)")
#  define UNROLL_TWICE _Pragma("clang loop unroll_count(2)")
#else
#  define UNROLL       _Pragma("GCC unroll 16")
#  define UNROLL_TWICE _Pragma("GCC unroll 2")
#endif

#define INLINE static inline __attribute__((always_inline, unused))

/* Bytes of a register of the instruction set that a file is compiled for. */
#if defined(__AVX512F__)
#  define NATIVE 64
#elif defined(__AVX2__)
#  define NATIVE 32
#else
#  define NATIVE 16
#endif

/* n elements in a row: from in[0], in[1], ... to out. */
typedef void (*mx_loop)(int64_t n, const void *const *in, void *out);

#endif
