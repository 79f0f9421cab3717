--- Schedules: functions of the count of updates so far, a Lua number or an int32 array, from 0. Made with equal arguments they are one and
-- the same function.
local mlax = require "mlax"
local check = require "mlax.check"
local intern = require "mlax.intern"

local schedules = {}

-- The count as a float32 array.
local function count_of(count)
  return (mlax.is_array(count) and count or mlax.array(count)):astype("float32")
end

--- v at every count.
function schedules.constant(v, ...)
  check.last("constant", ...)
  check.number("constant", "v", v)
  return intern("schedule.constant", {v}, function() return function() return v end end)
end

return schedules
