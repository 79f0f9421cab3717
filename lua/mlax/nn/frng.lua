--- FRng: a function that draws random numbers as a layer.
local mlax = require "mlax"
local call = require "mlax.nn.call"
local check = require "mlax.check"

local FRng = mlax.class("FRng")

--- nn.FRng(train_fn, infer_fn)
-- @param train_fn function(x, rng), or function(x, rng, axis_name), which gets the layer's batch_axis_name
-- @param infer_fn stands in for it in inference mode; nil: train_fn
-- @usage local noise = nn.FRng(function(x, rng) return x + random.normal(rng, x.shape) end, nn.functional.identity)
-- print((noise(mlax.ones{2}, nil, true)))   --> float32[2] [1 1]
function FRng:init(train_fn, infer_fn, ...)
  self.train_fn, self.infer_fn = call.functions("FRng", train_fn, infer_fn, ...)
end

function FRng:setup() end

--- x, any tree -> what the function gives. In training a key is needed.
function FRng:forward(x, rng, inference_mode, batch_axis_name)
  if rng == nil and not inference_mode then
    check.fail("FRng", "a key is needed in training: model(x, rng); in Series, use SeriesRng")
  end
  local f = inference_mode and self.infer_fn or self.train_fn
  if call.wants_axis_name(f, 3) then return (f(x, rng, batch_axis_name)) end
  return (f(x, rng))
end

return FRng
