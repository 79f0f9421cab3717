/* products_double.c: tiles of products in float64, where the machine has fused multiply-add. */
#include "lines.h"

#if defined(__FMA__)
#  include "vector_double.h"
#  include "products_tile.h"

const mx_line_loops MX_SIMD(mx_products_double) = {PLACES, line_tile};
#else /* there are panels, for BLAS */
const mx_line_loops MX_SIMD(mx_products_double) = {0, NULL};
#endif
