/* channels_double.c: tiles of single channels in float64. */
#include "vector_double.h"
#include "channels_tile.h"

const mx_line_loops MX_SIMD(mx_channels_double) = {PLACES, line_tile};
