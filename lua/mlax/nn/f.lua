--- F: a function without parameters as a layer.
local mlax = require "mlax"
local call = require "mlax.nn.call"

local F = mlax.class("F")

--- nn.F(train_fn, infer_fn)
-- @param train_fn function(x), or function(x, axis_name), which gets the layer's batch_axis_name
-- @param infer_fn stands in for it in inference mode; nil: train_fn
-- @usage print((nn.F(nn.functional.relu)(mlax.array{-1, 2})))   --> float32[2] [0 2]
function F:init(train_fn, infer_fn, ...)
  self.train_fn, self.infer_fn = call.functions("F", train_fn, infer_fn, ...)
end

function F:setup() end

--- x, any tree -> what the function gives.
function F:forward(x, _, inference_mode, batch_axis_name)
  local f = inference_mode and self.infer_fn or self.train_fn
  if call.wants_axis_name(f, 2) then return (f(x, batch_axis_name)) end
  return (f(x))
end

return F
