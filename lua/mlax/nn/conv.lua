--- Conv: a convolution with a kernel, without a bias.
local mlax = require "mlax"
local check = require "mlax.check"
local initializers = require "mlax.nn.initializers"
local layout = require "mlax.nn.layout"

local Conv = mlax.class("Conv")

local known = "strides padding input_dilation filter_dilation feature_group_count batch_group_count data_format accum_dtype "
  .. "kernel_initializer dtype"

-- Options are stored as they came; lists are copied, since the caller may change them.
local function copy(v)
  if type(v) ~= "table" then return v end
  local list = {}
  for i, item in ipairs(v) do list[i] = copy(item) end
  return list
end

local words = {channel_last = true, channel_first = true}

local function check_format(format)
  if words[format] then return format end
  if type(format) ~= "table" or #format ~= 3 then
    check.fail("Conv", 'data_format must be "channel_last", "channel_first" or {"HWC", "OHWI", "HWC"} or the like (got %s)',
      check.show(format))
  end
  return copy(format)
end

--- nn.Conv(rng, out_channels, filter_shape, options)
-- @param rng the key of the kernel
-- @param out_channels the channels of the result
-- @param filter_shape the window: a number for all spatial axes, or a list, which says how many there are
-- @param options {strides = 1, padding = "VALID", input_dilation = 1, filter_dilation = 1, feature_group_count = 1,
--   batch_group_count = 1: as lax.conv's; accum_dtype of the sums and the result (default: the input's), dtype = "float32" of the
--   kernel, kernel_initializer = initializers.lecun_normal(), asked for the shape {spatial..., I, O},
--   data_format = "channel_last" {spatial..., C} and kernel {O, spatial..., I}; "channel_first" {C, spatial...}, {O, I, spatial...};
--   or letters for input, kernel and result, as {"HWC", "HWIO", "HWC"}}
--
--     local layer = nn.Conv(random.key(0), 32, 3, {padding = "SAME"})
--     local y = mlax.vmap(layer)(mlax.ones{8, 28, 28, 1})              -- float32[8,28,28,32]
function Conv:init(rng, out_channels, filter_shape, options, ...)
  local o = check.options("Conv", options, known, ...)
  self.rng = mlax.Parameter(false, check.key("Conv", "rng", rng))
  self.out_channels = check.int("Conv", "out_channels", out_channels, 0)
  self.filter_shape = type(filter_shape) == "table" and layout.per_axis("Conv", "filter_shape", filter_shape, #filter_shape)
    or check.int("Conv", "filter_shape", filter_shape, 0)
  self.strides, self.padding = copy(o.strides or 1), copy(o.padding or "VALID")
  self.input_dilation, self.filter_dilation = copy(o.input_dilation or 1), copy(o.filter_dilation or 1)
  self.feature_group_count = check.int("Conv", "feature_group_count", o.feature_group_count or 1, 1)
  self.batch_group_count = check.int("Conv", "batch_group_count", o.batch_group_count or 1, 1)
  self.data_format = check_format(o.data_format or "channel_last")
  self.kernel_initializer = check.callable("Conv", "kernel_initializer", o.kernel_initializer or initializers.lecun_normal())
  self.dtype = check.dtype("Conv", "dtype", o.dtype, "float32")
  self.accum_dtype = check.dtype("Conv", "accum_dtype", o.accum_dtype)
  self.conv_kernel = mlax.Parameter(true)
end

-- Letters of one example, the kernel and the result.
local function formats(self, n)
  local spatial = layout.spatial("Conv", n)
  if self.data_format == "channel_last" then return spatial .. "C", "O" .. spatial .. "I", spatial .. "C" end
  if self.data_format == "channel_first" then return "C" .. spatial, "OI" .. spatial, "C" .. spatial end
  return table.unpack(self.data_format)
end

-- The input as an array of floats, and the letters.
local function input(self, x)
  x = check.array("Conv", "x", x)
  if x.ndim < 2 or x.ndim > 4 or not x.dtype:find("float", 1, true) then
    check.fail("Conv", "the input must be one example of floats with one to three spatial axes and one of channels (got %s)%s",
      check.show(x), x.ndim > 1 and x.ndim < 5 and ", convert it with astype" or "; batches go through mlax.vmap")
  end
  return x, formats(self, x.ndim - 1)
end

--- The kernel, from the number of the input's channels.
function Conv:setup(x)
  local array, lhs, rhs = input(self, x)
  local channels = array:dim(layout.channel_axis("Conv", lhs, array.ndim))
  if channels % self.feature_group_count ~= 0 then
    check.fail("Conv", "the channels of the input must be a multiple of feature_group_count (got %d and %d)", channels,
      self.feature_group_count)
  end
  local shape = layout.per_axis("Conv", "filter_shape", self.filter_shape, array.ndim - 1)
  local axes, at = {}, 0 -- where the kernel's axes are in {spatial..., I, O}
  for i = 1, #rhs do
    local letter = rhs:sub(i, i)
    if letter == "O" then axes[i] = #rhs
    elseif letter == "I" then axes[i] = #rhs - 1
    else
      at = at + 1
      axes[i] = at
    end
  end
  shape[#shape + 1] = channels // self.feature_group_count
  shape[#shape + 1] = self.out_channels
  self.conv_kernel.data = self.kernel_initializer(self.rng.data, shape, self.dtype):transpose(axes)
  self.rng = nil
end

--- One example -> its convolution. The kernel is cast to the dtype of x; integers raise.
function Conv:forward(x)
  local array, lhs, rhs, out = input(self, x)
  local y = mlax.lax.conv(array:expand_dims(1), check.kernel("Conv", self.conv_kernel):astype(array.dtype), {
    strides = self.strides, padding = self.padding, input_dilation = self.input_dilation, filter_dilation = self.filter_dilation,
    feature_group_count = self.feature_group_count, batch_group_count = self.batch_group_count, accum_dtype = self.accum_dtype,
    dimension_numbers = {"N" .. lhs, rhs, "N" .. out}})
  return y:squeeze(1)
end

return Conv
