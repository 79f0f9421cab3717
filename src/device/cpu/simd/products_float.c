/* products_float.c: tiles of products in float32, where the machine has fused multiply-add. */
#include "lines.h"

#if defined(__FMA__)
#  include "vector_float.h"
#  include "products_tile.h"

const mx_line_loops MX_SIMD(mx_products_float) = {PLACES, line_tile};
#else /* there are panels, for BLAS */
const mx_line_loops MX_SIMD(mx_products_float) = {0, NULL};
#endif
