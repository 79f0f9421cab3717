--- Parallel: layers side by side, none of which needs a key.
local mlax = require "mlax"
local layers = require "mlax.nn.layers"

local Parallel = mlax.class("Parallel")

--- nn.Parallel(list)
-- @param list modules; it is copied into layers = Parameter(nil, list)
-- @usage local ys = nn.Parallel{nn.F(mlax.sin), nn.F(mlax.cos)}{mlax.zeros{1}, mlax.zeros{1}}
-- print(ys[1], ys[2])   --> float32[1] [0] float32[1] [1]
function Parallel:init(list, ...)
  self.layers = layers.parameter("Parallel", list, ...)
end

function Parallel:setup() end

--- A list with one input a layer -> the list of results. Raises where a layer needs a key ("use ParallelRng").
function Parallel:forward(xs, _, inference_mode, batch_axis_name)
  local list = self.layers.data
  layers.need_no_key("Parallel", list)
  return layers.side_by_side("Parallel", list, xs, {}, inference_mode, batch_axis_name)
end

return Parallel
