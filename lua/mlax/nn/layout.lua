--- What Conv and the pools share: where the channels of one example lie, by a word or by letters.
local check = require "mlax.check"

local layout = {}

layout.letters = {"W", "HW", "DHW"}

--- The letters of the spatial axes of an example with this many of them.
function layout.spatial(op, n)
  local letters = layout.letters[n]
  if not letters then check.fail(op, "the input must have one to three spatial axes and one of channels (got %d axes)", n + 1) end
  return letters
end

--- The axis of the channels, from 1, of an example of `ndim` axes: data_format is "channel_last" (the default), "channel_first" or
-- letters, one an axis, of which C is the channels.
function layout.channel_axis(op, data_format, ndim)
  if data_format == nil or data_format == "channel_last" then return ndim end
  if data_format == "channel_first" then return 1 end
  if type(data_format) ~= "string" then
    check.fail(op, 'data_format must be "channel_last", "channel_first" or letters such as "HWC" (got %s)', check.show(data_format))
  end
  local at = data_format:find("C", 1, true)
  if not at or #data_format ~= ndim or data_format:find("C", at + 1, true) then
    check.fail(op, "data_format must have one letter an axis, one of them C (got %s for %d axes)", check.show(data_format), ndim)
  end
  return at
end

--- A number, for all axes, or a list of n as a list of n numbers.
function layout.per_axis(op, what, v, n)
  local list = {}
  if type(v) == "table" and #v ~= n then
    check.fail(op, "%s must be a number or a list of one for each spatial axis (got %d, need %d)", what, #v, n)
  end
  for i = 1, n do
    local item = v
    if type(v) == "table" then item = v[i] end
    list[i] = check.int(op, what, item)
  end
  return list
end

return layout
