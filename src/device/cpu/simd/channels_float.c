/* channels_float.c: tiles of single channels in float32. */
#include "vector_float.h"
#include "channels_tile.h"

const mx_line_loops MX_SIMD(mx_channels_float) = {PLACES, line_tile};
