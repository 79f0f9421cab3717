/* normalize.h: softmax, log-softmax and log-sum-exp of rows. */
#ifndef MX_SIMD_NORMALIZE_H
#define MX_SIMD_NORMALIZE_H

#include "../../../array/array.h"
#include "simd.h"

typedef enum { MX_LOGSUMEXP, MX_SOFTMAX, MX_LOG_SOFTMAX, MX_NORMALIZE_COUNT } mx_normalize_op;

/* `rows` rows of n > 0 elements behind one another; y alike, or (log-sum-exp) one element a row. */
typedef void (*mx_normalize_rows)(const void *x, void *y, int64_t rows, int64_t n);

typedef struct mx_normalize_table {
  mx_normalize_rows float32[MX_NORMALIZE_COUNT], float64[MX_NORMALIZE_COUNT];
} mx_normalize_table;

MX_SIMD_DECLARE(mx_normalize_table, mx_normalize_table);

#endif
