--- Series: layers one after the other, none of which needs a key.
local mlax = require "mlax"
local layers = require "mlax.nn.layers"

local Series = mlax.class("Series")

--- nn.Series(list)
-- @param list modules; it is copied into layers = Parameter(nil, list)
-- @usage local model = nn.Series{nn.Linear(key, 3), nn.Bias(key, -1), nn.F(nn.functional.relu)}
-- print(model(mlax.ones{2, 5}):dims())   --> 2 3
function Series:init(list, ...)
  self.layers = layers.parameter("Series", list, ...)
end

function Series:setup() end

--- x -> the last layer's result. Raises where a layer needs a key ("use SeriesRng").
function Series:forward(x, _, inference_mode, batch_axis_name)
  local list = self.layers.data
  layers.need_no_key("Series", list)
  for i = 1, #list do x, list[i] = list[i](x, nil, inference_mode, batch_axis_name) end
  return x
end

return Series
