/* channels_float.c: tiles of single channels in float32. */
#include "vector_float.h"
#include "channels_tile.h"

const mx_channel_loops MX_SIMD(mx_channel_float) = {channel_tile};
