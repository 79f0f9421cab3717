--- Conv: a convolution with a kernel, without a bias.
local mlax = require "mlax"
local check = require "mlax.check"
local convolution = require "mlax.nn.convolution"

local Conv = mlax.class("Conv")

local known = "strides padding input_dilation filter_dilation feature_group_count batch_group_count data_format accum_dtype "
  .. "kernel_initializer dtype"

--- nn.Conv(rng, out_channels, filter_shape, options)
-- @param rng the key of the kernel
-- @param out_channels the channels of the result
-- @param filter_shape the window: a number for all spatial axes, or a list, which says how many there are
-- @param options {strides = 1, padding = "VALID", input_dilation = 1, filter_dilation = 1, feature_group_count = 1,
--   batch_group_count = 1: as lax.conv's; accum_dtype of the sums and the result (default: the input's), dtype = "float32" of the
--   kernel, kernel_initializer = initializers.lecun_normal(), asked for the shape {spatial..., I, O},
--   data_format = "channel_last" {spatial..., C} and kernel {O, spatial..., I}; "channel_first" {C, spatial...}, {O, I, spatial...};
--   or letters for input, kernel and result, as {"HWC", "HWIO", "HWC"}}
-- @usage local layer = nn.Conv(key, 32, 3, {padding = "SAME"})
-- print(mlax.vmap(layer)(mlax.ones{8, 28, 28, 1}):dims())   --> 8 28 28 32
function Conv:init(rng, out_channels, filter_shape, options, ...)
  local o = check.options("Conv", options, known, ...)
  convolution.keep(self, "Conv", rng, out_channels, filter_shape, o, "VALID")
  self.input_dilation = convolution.copy(o.input_dilation or 1)
  self.batch_group_count = check.int("Conv", "batch_group_count", o.batch_group_count or 1, 1)
end

--- The kernel, from the number of the input's channels.
function Conv:setup(x) convolution.setup(self, "Conv", x) end

--- One example -> its convolution. The kernel is cast to the dtype of x; integers raise.
function Conv:forward(x)
  return convolution.apply(self, "Conv", x, {strides = self.strides, padding = self.padding, input_dilation = self.input_dilation,
    batch_group_count = self.batch_group_count})
end

return Conv
