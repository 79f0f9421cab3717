/* dtype.c: the element types: names, promotion, 16-bit floats, single elements. */
#include "array.h"

#include "convert_impl.h"

/* ORDER dtype: mlax.h */
#define DTYPES(X)                                                                                                      \
  X(MLAX_BOOL, "bool", 1, MX_KIND_BOOL)                                                                                \
  X(MLAX_INT8, "int8", 1, MX_KIND_INT)                                                                                 \
  X(MLAX_INT16, "int16", 2, MX_KIND_INT)                                                                               \
  X(MLAX_INT32, "int32", 4, MX_KIND_INT)                                                                               \
  X(MLAX_INT64, "int64", 8, MX_KIND_INT)                                                                               \
  X(MLAX_UINT8, "uint8", 1, MX_KIND_UINT)                                                                              \
  X(MLAX_UINT16, "uint16", 2, MX_KIND_UINT)                                                                            \
  X(MLAX_UINT32, "uint32", 4, MX_KIND_UINT)                                                                            \
  X(MLAX_UINT64, "uint64", 8, MX_KIND_UINT)                                                                            \
  X(MLAX_FLOAT16, "float16", 2, MX_KIND_FLOAT)                                                                         \
  X(MLAX_BFLOAT16, "bfloat16", 2, MX_KIND_FLOAT)                                                                       \
  X(MLAX_FLOAT32, "float32", 4, MX_KIND_FLOAT)                                                                         \
  X(MLAX_FLOAT64, "float64", 8, MX_KIND_FLOAT)

#define SIZE(id, name, size, kind) [id] = size,
#define NAME(id, name, size, kind) [id] = name,
#define KIND(id, name, size, kind) [id] = kind,
const uint8_t mx_dtype_sizes[MX_DTYPE_COUNT] = {DTYPES(SIZE)};
static const char names[MX_DTYPE_COUNT][12] = {DTYPES(NAME)};
static const uint8_t kinds[MX_DTYPE_COUNT] = {DTYPES(KIND)};
_Static_assert(MLAX_FLOAT64 + 1 == MX_DTYPE_COUNT, "ORDER dtype");

const char *mx_dtype_name(int dtype) { return names[dtype]; }
mx_kind mx_dtype_kind(int dtype) { return (mx_kind)kinds[dtype]; }

int mx_dtype_of_name(const char *name, size_t length) {
  for (int i = 0; i < MX_DTYPE_COUNT; i++)
    if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) return i;
  return -1;
}

/* -- promotion --------------------------------------------------------------------------------- */

/* 0: bool, 1: integer, 2: float. A weak operand gives way unless its rank is above the other's. */
static int rank_of(int dtype) { return mx_is_float(dtype) ? 2 : dtype == MLAX_BOOL ? 0 : 1; }

/* Of one kind, the wider; float16 and bfloat16 meet in float32. */
static int wider(int a, int b) {
  if (a == b) return a;
  if (mx_itemsize(a) == mx_itemsize(b)) return MLAX_FLOAT32;
  return mx_itemsize(a) > mx_itemsize(b) ? a : b;
}

/* The narrowest signed type that holds both; "some float" where there is none. */
static int signed_above(int s, int u) {
  if (mx_itemsize(s) > mx_itemsize(u)) return s;
  return u == MLAX_UINT8 ? MLAX_INT16 : u == MLAX_UINT16 ? MLAX_INT32 : u == MLAX_UINT32 ? MLAX_INT64 : MLAX_FLOAT32;
}

static int join(int a, int b) {
  int rank_a = rank_of(a), rank_b = rank_of(b);
  if (rank_a != rank_b) return rank_a > rank_b ? a : b;
  if (kinds[a] == kinds[b]) return wider(a, b);
  return kinds[a] == MX_KIND_INT ? signed_above(a, b) : signed_above(b, a);
}

static int join_weak(int weak, int other) {
  int rank = rank_of(weak);
  if (rank <= rank_of(other)) return other;
  return rank == 2 ? MLAX_FLOAT32 : MLAX_INT32;
}

int mx_dtype_promote(int a, bool a_weak, int b, bool b_weak, bool *weak) {
  *weak = a_weak && b_weak;
  if (a_weak == b_weak) return join(a, b);
  return a_weak ? join_weak(a, b) : join_weak(b, a);
}

/* -- 16-bit floats ----------------------------------------------------------------------------- */

uint16_t mx_half_of_float(float f) { return half_of_float(f); }
float mx_float_of_half(uint16_t h) { return float_of_half(h); }
uint16_t mx_bfloat_of_float(float f) { return bfloat_of_float(f); }
float mx_float_of_bfloat(uint16_t b) { return float_of_bfloat(b); }
