--- Dropout: sets elements to 0 at random in training, and does nothing in inference.
local mlax = require "mlax"
local check = require "mlax.check"
local functional = require "mlax.nn.functional"

local Dropout = mlax.class("Dropout")

--- nn.Dropout(rate, options)
-- @param rate the probability that an element becomes 0, in [0, 1)
-- @param options {axis = all: the axis or axes along which elements are drawn; along the others one draw is shared}
-- @usage local model = nn.SeriesRng{nn.Dense(key, 64), nn.Dropout(0.5), nn.Dense(key, 10)}
-- local y = model(mlax.ones{2, 3}, random.key(1))          -- training
-- y = model(mlax.ones{2, 3}, nil, true)                    -- inference
-- print(y:dims())   --> 2 10
function Dropout:init(rate, options, ...)
  local o = check.options("Dropout", options, "axis", ...)
  if type(rate) ~= "number" or not (rate >= 0 and rate < 1) then
    check.fail("Dropout", "rate must lie in [0, 1) (got %s)", check.show(rate))
  end
  self.rate, self.axis = rate, o.axis
end

function Dropout:setup() end

--- x of any shape -> the same shape. In training a key is needed.
function Dropout:forward(x, rng, inference_mode)
  if inference_mode then return x end
  if rng == nil then check.fail("Dropout", "a key is needed in training: model(x, rng); in Series, use SeriesRng") end
  x = check.array("Dropout", "x", x)
  return functional.dropout(x, rng, self.rate, self.axis or functional.norm_axes("Dropout", "all", x.ndim))
end

return Dropout
