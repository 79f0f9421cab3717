--- ParallelRng: layers side by side, some of which need keys.
local mlax = require "mlax"
local layers = require "mlax.nn.layers"

local ParallelRng = mlax.class("ParallelRng")

--- nn.ParallelRng(list)
-- @param list modules; it is copied into layers = Parameter(nil, list)
-- @usage local both = nn.ParallelRng{nn.Dropout(0.5), nn.F(mlax.cos)}
-- print(#both({mlax.ones{3}, mlax.zeros{1}}, key))   --> 2
function ParallelRng:init(list, ...)
  self.layers = layers.parameter("ParallelRng", list, ...)
end

function ParallelRng:setup() end

--- A list with one input a layer -> the list of results. Where several layers need a key, the i-th of them (from 0) gets
-- fold_in(rng, i); where one does, rng.
function ParallelRng:forward(xs, rng, inference_mode, batch_axis_name)
  local list = self.layers.data
  return layers.side_by_side("ParallelRng", list, xs, layers.keys(list, rng), inference_mode, batch_axis_name)
end

return ParallelRng
