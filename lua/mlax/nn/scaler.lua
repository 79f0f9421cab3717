--- Scaler: multiplies by a kernel along the last axes of the input.
local mlax = require "mlax"
local check = require "mlax.check"
local initializers = require "mlax.nn.initializers"
local last_axes = require "mlax.nn.last_axes"

local Scaler = mlax.class("Scaler")

--- nn.Scaler(rng, in_features, options)
-- @param rng the key of the kernel
-- @param in_features the last axes of the input: a number (the last axis) or a list with one entry an axis: 0 (no factor along it),
--   1 (one for all of it), -1 or its length (one for each element); {} is a single number
-- @param options {scaler_initializer = initializers.ones, dtype = "float32" of the kernel}
-- @usage local y, layer = nn.Scaler(key, -1)(mlax.ones{32, 10})
-- print(layer.scaler_kernel.data.shape[1])   --> 10
function Scaler:init(rng, in_features, options, ...)
  local o = check.options("Scaler", options, "scaler_initializer dtype", ...)
  self.rng = mlax.Parameter(false, check.key("Scaler", "rng", rng))
  self.in_features = last_axes.features("Scaler", in_features)
  self.scaler_initializer = check.callable("Scaler", "scaler_initializer", o.scaler_initializer or initializers.ones)
  self.dtype = check.dtype("Scaler", "dtype", o.dtype, "float32")
  self.scaler_kernel = mlax.Parameter(true)
end

--- The kernel: one axis for each entry of in_features that is not 0.
function Scaler:setup(x)
  local shape = last_axes.shape("Scaler", self.in_features, check.array("Scaler", "x", x))
  self.scaler_kernel.data = self.scaler_initializer(self.rng.data, shape, self.dtype)
  self.rng = nil
end

--- x of any shape -> the same shape and dtype; the kernel is cast to the dtype of x.
function Scaler:forward(x)
  x = check.array("Scaler", "x", x)
  return x * last_axes.aligned("Scaler", self.in_features, x, check.kernel("Scaler", self.scaler_kernel))
end

return Scaler
