--- What Conv and ConvTranspose share: the kernel, and where channels and window lie.
local mlax = require "mlax"
local check = require "mlax.check"
local initializers = require "mlax.nn.initializers"
local layout = require "mlax.nn.layout"

local convolution = {}

-- Options are stored as they came; lists are copied, since the caller may change them.
local function copy(v)
  if type(v) ~= "table" then return v end
  local list = {}
  for i, item in ipairs(v) do list[i] = copy(item) end
  return list
end

local words = {channel_last = true, channel_first = true}

local function check_format(op, format)
  if words[format] then return format end
  if type(format) ~= "table" or #format ~= 3 then
    check.fail(op, 'data_format must be "channel_last", "channel_first" or {"HWC", "OHWI", "HWC"} or the like (got %s)', check.show(format))
  end
  return copy(format)
end

--- Keeps the arguments that both layers take; `padding` is the one that stands for none given.
function convolution.keep(self, op, rng, out_channels, filter_shape, o, padding)
  self.rng = mlax.Parameter(false, check.key(op, "rng", rng))
  self.out_channels = check.int(op, "out_channels", out_channels, 0)
  self.filter_shape = type(filter_shape) == "table" and layout.per_axis(op, "filter_shape", filter_shape, #filter_shape)
    or check.int(op, "filter_shape", filter_shape, 0)
  self.strides, self.padding = copy(o.strides or 1), copy(o.padding or padding)
  self.filter_dilation = copy(o.filter_dilation or 1)
  self.feature_group_count = check.int(op, "feature_group_count", o.feature_group_count or 1, 1)
  self.data_format = check_format(op, o.data_format or "channel_last")
  self.kernel_initializer = check.callable(op, "kernel_initializer", o.kernel_initializer or initializers.lecun_normal())
  self.dtype = check.dtype(op, "dtype", o.dtype, "float32")
  self.accum_dtype = check.dtype(op, "accum_dtype", o.accum_dtype)
  self.conv_kernel = mlax.Parameter(true)
end

--- A number for all spatial axes, or a list, as a copy.
convolution.copy = copy

-- Letters of one example, the kernel and the result.
local function formats(self, op, n)
  local spatial = layout.spatial(op, n)
  if self.data_format == "channel_last" then return spatial .. "C", "O" .. spatial .. "I", spatial .. "C" end
  if self.data_format == "channel_first" then return "C" .. spatial, "OI" .. spatial, "C" .. spatial end
  return table.unpack(self.data_format)
end

-- The input as an array of floats, and the letters.
local function input(self, op, x)
  x = check.array(op, "x", x)
  if x.ndim < 2 or x.ndim > 4 or not x.dtype:find("float", 1, true) then
    check.fail(op, "the input must be one example of floats with one to three spatial axes and one of channels (got %s)%s", check.show(x),
      x.ndim > 1 and x.ndim < 5 and ", convert it with astype" or "; batches go through mlax.vmap")
  end
  return x, formats(self, op, x.ndim - 1)
end

--- The kernel, from the number of the input's channels: made as {spatial..., I, O}, then brought into the order of its letters.
function convolution.setup(self, op, x)
  local array, lhs, rhs = input(self, op, x)
  local channels = array:dim(layout.channel_axis(op, lhs, array.ndim))
  if channels % self.feature_group_count ~= 0 then
    check.fail(op, "the channels of the input must be a multiple of feature_group_count (got %d and %d)", channels,
      self.feature_group_count)
  end
  local shape = layout.per_axis(op, "filter_shape", self.filter_shape, array.ndim - 1)
  local axes, at = {}, 0
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

--- One example -> its convolution by the layer's kernel, cast to the dtype of x. `how` holds the strides, padding, input_dilation and
-- batch_group_count for lax.conv, or is a function of the number of spatial axes that gives them.
function convolution.apply(self, op, x, how)
  local array, lhs, rhs, out = input(self, op, x)
  local kernel = check.kernel(op, self.conv_kernel):astype(array.dtype)
  local o = type(how) == "function" and how(array.ndim - 1) or how
  local channels = array:dim(layout.channel_axis(op, lhs, array.ndim))
  local need = kernel:dim((rhs:find("I", 1, true))) * self.feature_group_count
  if channels ~= need then check.fail(op, "the input must have %d channels (got %s)", need, check.show(array)) end
  o.filter_dilation, o.feature_group_count, o.accum_dtype = self.filter_dilation, self.feature_group_count, self.accum_dtype
  o.dimension_numbers = {"N" .. lhs, rhs, "N" .. out}
  return mlax.lax.conv(array:expand_dims(1), kernel, o):squeeze(1)
end

return convolution
