--- Bias: adds a kernel along the last axes of the input.
local mlax = require "mlax"
local check = require "mlax.check"
local initializers = require "mlax.nn.initializers"
local last_axes = require "mlax.nn.last_axes"

local Bias = mlax.class("Bias")

--- nn.Bias(rng, in_features, options)
-- @param rng the key of the kernel
-- @param in_features the last axes of the input: a number (the last axis) or a list with one entry an axis: 0 (no bias along it),
--   1 (one for all of it), -1 or its length (one for each element); {} is a single number
-- @param options {bias_initializer = initializers.zeros, dtype = "float32" of the kernel}
-- @usage local y, layer = nn.Bias(key, -1)(mlax.ones{32, 10})
-- print(layer.bias_kernel.data.shape[1])   --> 10
function Bias:init(rng, in_features, options, ...)
  local o = check.options("Bias", options, "bias_initializer dtype", ...)
  self.rng = mlax.Parameter(false, check.key("Bias", "rng", rng))
  self.in_features = last_axes.features("Bias", in_features)
  self.bias_initializer = check.callable("Bias", "bias_initializer", o.bias_initializer or initializers.zeros)
  self.dtype = check.dtype("Bias", "dtype", o.dtype, "float32")
  self.bias_kernel = mlax.Parameter(true)
end

--- The kernel: one axis for each entry of in_features that is not 0.
function Bias:setup(x)
  local shape = last_axes.shape("Bias", self.in_features, check.array("Bias", "x", x))
  self.bias_kernel.data = self.bias_initializer(self.rng.data, shape, self.dtype)
  self.rng = nil
end

--- x of any shape -> the same shape and dtype; the kernel is cast to the dtype of x.
function Bias:forward(x)
  x = check.array("Bias", "x", x)
  return x + last_axes.aligned("Bias", self.in_features, x, check.kernel("Bias", self.bias_kernel))
end

return Bias
