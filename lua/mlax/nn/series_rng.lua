--- SeriesRng: layers one after the other, some of which need keys.
local mlax = require "mlax"
local layers = require "mlax.nn.layers"

local SeriesRng = mlax.class("SeriesRng")

--- nn.SeriesRng(list)
-- @param list modules; it is copied into layers = Parameter(nil, list)
-- @usage local model = nn.SeriesRng{nn.Linear(key, 3), nn.Dropout(0.1)}
-- print(model(mlax.ones{2, 5}, random.key(1)):dims())   --> 2 3
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
