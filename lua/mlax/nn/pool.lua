--- Pools of one example {spatial..., channels}: what the functions of nn.functional and the layers share.
local mlax = require "mlax"
local check = require "mlax.check"
local layout = require "mlax.nn.layout"

local pool = {}

pool.known = "strides padding input_dilation window_dilation data_format"

-- `values`, one for each spatial axis or one for all, with `own` in the place of the channels.
local function around(op, what, values, otherwise, n, channel, own)
  local list = layout.per_axis(op, what, values == nil and otherwise or values, n)
  table.insert(list, channel, own)
  return list
end

-- The same for padding, which may be a word.
local function padding_around(op, padding, n, channel)
  if type(padding) == "string" then return padding end
  if type(padding) ~= "table" then return around(op, "padding", padding, 0, n, channel, 0) end
  local list = table.move(padding, 1, #padding, 1, {})
  if #list ~= n then
    check.fail(op, "padding must be a word, a number or a list of one entry for each spatial axis (got %d, need %d)", #list, n)
  end
  table.insert(list, channel, 0)
  return list
end

--- Windows of one example, reduced by "max", "sum", "min" or "prod", which start from init.
function pool.reduce(op, x, init, how, window_shape, o)
  x = check.array(op, "x", x)
  local n = x.ndim - 1
  if n < 1 then check.fail(op, "the input must have spatial axes and one of channels (got %s)", check.show(x)) end
  local channel = layout.channel_axis(op, o.data_format, x.ndim)
  if window_shape == nil then check.fail(op, "window_shape is missing (need a number, or a list of one for each spatial axis)") end
  return mlax.lax.reduce_window(x, init, how, {
    window = around(op, "window_shape", window_shape, nil, n, channel, 1), strides = around(op, "strides", o.strides, 1, n, channel, 1),
    padding = padding_around(op, o.padding, n, channel), input_dilation = around(op, "input_dilation", o.input_dilation, 1, n, channel, 1),
    window_dilation = around(op, "window_dilation", o.window_dilation, 1, n, channel, 1)})
end

--- The greatest element of each window, padding aside.
function pool.max(op, x, window_shape, o) return pool.reduce(op, x, -math.huge, "max", window_shape, o) end

--- The sum of each window.
function pool.sum(op, x, window_shape, o) return pool.reduce(op, x, 0, "sum", window_shape, o) end

--- The sum of each window divided by the window's size, padding included.
function pool.avg(op, x, window_shape, o)
  local y, size = pool.sum(op, x, window_shape, o), 1
  for _, length in ipairs(layout.per_axis(op, "window_shape", window_shape, y.ndim - 1)) do size = size * length end
  return y / size
end

local function copy(v)
  if type(v) ~= "table" then return v end
  local list = {}
  for i, item in ipairs(v) do list[i] = copy(item) end
  return list
end

--- Keeps the arguments of a layer in it; lists are copied, since the caller may change them.
function pool.keep(layer, op, window_shape, o)
  if type(window_shape) ~= "table" then window_shape = check.int(op, "window_shape", window_shape, 1) end
  layer.window_shape = copy(window_shape)
  for name in pool.known:gmatch("%S+") do layer[name] = copy(o[name]) end
end

--- The options of a layer.
function pool.options(layer)
  local o = {}
  for name in pool.known:gmatch("%S+") do o[name] = layer[name] end
  return o
end

return pool
