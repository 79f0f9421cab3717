--- ConvTranspose: a convolution that enlarges: between the elements of the input stand strides - 1 zeros (lax.conv_transpose of JAX;
-- Dumoulin and Visin 2016).
local mlax = require "mlax"
local check = require "mlax.check"
local convolution = require "mlax.nn.convolution"
local layout = require "mlax.nn.layout"

local ConvTranspose = mlax.class("ConvTranspose")

local known = "strides padding filter_dilation feature_group_count data_format accum_dtype kernel_initializer dtype"

local function check_padding(padding)
  if type(padding) == "string" and padding ~= "SAME" and padding ~= "VALID" then
    check.fail("ConvTranspose", 'padding must be "SAME", "VALID", a number or a list of one entry for each spatial axis (got %s)',
      check.show(padding))
  end
end

--- nn.ConvTranspose(rng, out_channels, filter_shape, options)
-- @param rng the key of the kernel
-- @param out_channels the channels of the result
-- @param filter_shape the window k: a number for all spatial axes, or a list, which says how many there are
-- @param options {strides = 1: how many times the result is longer than the input, padding = "SAME": the result has length n s;
--   "VALID": n s + max(k - s, 0); a number or a list {{before, after}, ...}: what lax.conv pads the input by, after the zeros came
--   between, filter_dilation, feature_group_count, data_format, accum_dtype, kernel_initializer, dtype: as nn.Conv's}
-- The kernel is laid out as Conv's and is not turned around.
-- @usage local layer = nn.ConvTranspose(key, 8, 3, {strides = 2})
-- print((layer(mlax.ones{7, 7, 16})):dims())   --> 14 14 8
function ConvTranspose:init(rng, out_channels, filter_shape, options, ...)
  local o = check.options("ConvTranspose", options, known, ...)
  check_padding(o.padding)
  convolution.keep(self, "ConvTranspose", rng, out_channels, filter_shape, o, "SAME")
end

--- The kernel, from the number of the input's channels.
function ConvTranspose:setup(x) convolution.setup(self, "ConvTranspose", x) end

-- What a window of length k at stride s pads an axis by, before and after.
local function padding_of(word, k, s)
  local total = k + s - 2
  if word == "VALID" then
    total = total + math.max(k - s, 0)
    return {k - 1, total - (k - 1)}
  end
  local before = s > k - 1 and k - 1 or (total + 1) // 2
  return {before, total - before}
end

-- The padding of n spatial axes for lax.conv.
local function paddings(self, n)
  if type(self.padding) ~= "string" then return convolution.copy(self.padding) end
  local function list(what) return layout.per_axis("ConvTranspose", what, self[what], n) end
  local k, s, dilation, all = list("filter_shape"), list("strides"), list("filter_dilation"), {}
  for i = 1, n do all[i] = padding_of(self.padding, (k[i] - 1) * dilation[i] + 1, s[i]) end
  return all
end

--- One example -> the enlarged one. The kernel is cast to the dtype of x; integers raise.
function ConvTranspose:forward(x)
  return convolution.apply(self, "ConvTranspose", x, function(n)
    return {padding = paddings(self, n), input_dilation = convolution.copy(self.strides)}
  end)
end

return ConvTranspose
