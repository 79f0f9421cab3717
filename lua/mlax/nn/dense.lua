--- Dense: Linear and Bias.
local mlax = require "mlax"
local check = require "mlax.check"
local Linear = require "mlax.nn.linear"
local Bias = require "mlax.nn.bias"

local Dense = mlax.class("Dense")

--- nn.Dense(rng, out_features, options)
-- @param rng a key: linear gets fold_in(rng, 0), bias fold_in(rng, 1)
-- @param out_features the length of the last axis of the result
-- @param options {kernel_initializer, bias_initializer, accum_dtype, dtype}, as for Linear and Bias
-- @usage local y = nn.Dense(key, 10)(mlax.ones{32, 784})
-- print(y.shape[1], y.shape[2])   --> 32 10
function Dense:init(rng, out_features, options, ...)
  local o = check.options("Dense", options, "kernel_initializer bias_initializer accum_dtype dtype", ...)
  check.key("Dense", "rng", rng)
  out_features = check.int("Dense", "out_features", out_features, 0)
  self.linear = Linear(mlax.random.fold_in(rng, 0), out_features,
    {kernel_initializer = o.kernel_initializer, accum_dtype = o.accum_dtype, dtype = o.dtype})
  self.bias = Bias(mlax.random.fold_in(rng, 1), -1, {bias_initializer = o.bias_initializer, dtype = o.dtype})
end

function Dense:setup() end

--- x {..., in} of floats -> {..., out}.
function Dense:forward(x, _, inference_mode, batch_axis_name)
  x, self.linear = self.linear(x, nil, inference_mode, batch_axis_name)
  x, self.bias = self.bias(x, nil, inference_mode, batch_axis_name)
  return x
end

return Dense
