--- SeriesRng: layers one after the other, some of which need keys.
local mlax = require "mlax"
local layers = require "mlax.nn.layers"

local SeriesRng = mlax.class("SeriesRng")

--- nn.SeriesRng(list)
-- @param list modules; it is copied into layers = Parameter(nil, list)
--
--     nn.SeriesRng{nn.Linear(k1, 512), nn.FRng(function(x, rng) return nn.functional.dropout(x, rng, 0.5, 1) end)}
function SeriesRng:init(list, ...)
  self.layers = layers.parameter("SeriesRng", list, ...)
end

function SeriesRng:setup() end

--- x -> the last layer's result. Where several layers need a key, the i-th of them (from 0) gets fold_in(rng, i); where one does, rng.
function SeriesRng:forward(x, rng, inference_mode, batch_axis_name)
  local list = self.layers.data
  local keys = layers.keys(list, rng)
  for i = 1, #list do x, list[i] = list[i](x, keys[i], inference_mode, batch_axis_name) end
  return x
end

return SeriesRng
