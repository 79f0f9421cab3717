--- BatchNorm: ZNorm, then a factor and a bias for each channel (Ioffe and Szegedy 2015).
local mlax = require "mlax"
local check = require "mlax.check"
local functional = require "mlax.nn.functional"
local Bias = require "mlax.nn.bias"
local Scaler = require "mlax.nn.scaler"
local ZNorm = require "mlax.nn.znorm"

local BatchNorm = mlax.class("BatchNorm")

--- nn.BatchNorm(rng, options)
-- @param rng a key: norm, scaler and bias get fold_in(rng, 0), (rng, 1) and (rng, 2)
-- @param options {axis = "channel_last", momentum = 0.9, epsilon = 1e-5}, as for ZNorm
-- @usage local over_batch = mlax.vmap(function(m, x) return m(x, nil, false, "batch") end,
--   {in_axes = {false, 1}, out_axes = {1, false}, axis_name = "batch"})
-- local y, layer = over_batch(nn.BatchNorm(key), mlax.ones{32, 8, 8, 3})
-- print(layer.scaler.scaler_kernel.data:dims())   --> 3
function BatchNorm:init(rng, options, ...)
  local o = check.options("BatchNorm", options, "axis momentum epsilon", ...)
  check.key("BatchNorm", "rng", rng)
  self.norm = ZNorm(mlax.random.fold_in(rng, 0), o.axis or "channel_last", {momentum = o.momentum, epsilon = o.epsilon})
  self.rng = mlax.Parameter(false, rng)
end

--- Scaler and bias have one element where ZNorm has one pair of statistics.
function BatchNorm:setup(x)
  x = check.array("BatchNorm", "x", x)
  local features = {}
  for i = 1, x.ndim do features[i] = -1 end
  for _, i in ipairs(functional.norm_axes("BatchNorm", self.norm.axis, x.ndim)) do features[i] = 0 end
  self.scaler = Scaler(mlax.random.fold_in(self.rng.data, 1), features)
  self.bias = Bias(mlax.random.fold_in(self.rng.data, 2), features)
  self.rng = nil
end

--- x of floats -> the same shape and dtype.
function BatchNorm:forward(x, _, inference_mode, batch_axis_name)
  x, self.norm = self.norm(x, nil, inference_mode, batch_axis_name)
  x, self.scaler = self.scaler(x, nil, inference_mode, batch_axis_name)
  x, self.bias = self.bias(x, nil, inference_mode, batch_axis_name)
  return x
end

return BatchNorm
