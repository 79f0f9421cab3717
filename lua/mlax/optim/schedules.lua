--- Schedules: functions of the count of updates so far, from 0. The count is a Lua number, which gives a Lua number, or an array (in a
-- jitted step), which gives a float32 array. Made with equal arguments they are one and the same function.
local mlax = require "mlax"
local check = require "mlax.check"
local intern = require "mlax.intern"

local schedules = {}

-- Arithmetic of counts, with Lua numbers and with arrays alike ----------------------------------------------------------------

local function count_of(count)
  if mlax.is_array(count) then return count:astype("float32") end
  return count + 0.0
end

local function both(of_numbers, of_arrays)
  return function(x, ...)
    if mlax.is_array(x) then return of_arrays(x, ...) end
    return of_numbers(x, ...)
  end
end

local clip = both(function(x, low, high) return math.max(low, math.min(high, x)) end, function(x, low, high) return x:clip(low, high) end)
local floor = both(function(x) return math.floor(x) + 0.0 end, function(x) return x:floor() end)
local cos = both(math.cos, function(x) return x:cos() end)
local power = both(function(x, rate) return rate ^ x end, function(x, rate) return mlax.pow(rate, x) end)

-- a where count < bound, else b
local function below(count, bound, a, b)
  if mlax.is_array(count) then return mlax.where(count:lt(bound), a, b) end
  if count < bound then return a end
  return b
end

-- A constructor: `required` names its numbers, `options` its options; make(numbers..., options) gives the function.
local function schedule(name, required, options, make)
  schedules[name] = function(...)
    local args = {}
    for i = 1, #required do args[i] = check.number(name, required[i], (select(i, ...))) + 0.0 end
    local o = {}
    for option, value in pairs(check.options(name, (select(#required + 1, ...)), options)) do o[option] = value end
    check.last(name, select(#required + 2, ...))
    return intern("schedule." .. name, {args, o}, function()
      args[#args + 1] = o
      return make(table.unpack(args))
    end)
  end
end

-- Schedules -------------------------------------------------------------------------------------------------------------------

--- constant(v)
-- @function constant
-- @param v the value
-- @usage print(optim.constant(0.1)(7))   --> 0.1
schedule("constant", {"v"}, "", function(v) return function() return v end end)

--- exponential_decay(init, steps, rate, {transition_begin = 0, staircase = false, end_value}): init * rate^(count / steps).
-- @function exponential_decay
-- @param init the first value
-- @param steps how many counts it takes
-- @param rate the factor of that many counts
-- @param options as above
-- @usage print(optim.exponential_decay(1, 10, 0.5)(20))   --> 0.25
schedule("exponential_decay", {"init", "steps", "rate"}, "transition_begin staircase end_value", function(init, steps, rate, o)
  local begin, last = o.transition_begin or 0, o.end_value
  return function(count)
    count = count_of(count) - begin
    local periods = count / steps
    if o.staircase then periods = floor(periods) end
    local value = below(count, 1, init, power(periods, rate) * init)
    if not last then return value end
    return rate < 1 and clip(value, last, math.huge) or clip(value, -math.huge, last)
  end
end)

--- cosine_decay(init, steps, {alpha = 0, exponent = 1}): from init to alpha * init along half a cosine (Loshchilov and Hutter 2017).
-- @function cosine_decay
-- @param init the first value
-- @param steps how many counts it takes
-- @param options as above
-- @usage local s = optim.cosine_decay(1, 10, {alpha = 0.5})
-- print(s(0), s(10))   --> 1.0 0.5
schedule("cosine_decay", {"init", "steps"}, "alpha exponent", function(init, steps, o)
  local alpha, exponent = o.alpha or 0, o.exponent or 1
  return function(count)
    count = clip(count_of(count), 0, steps)
    local fall = cos(count * math.pi / steps) * 0.5 + 0.5
    return ((fall ^ exponent) * (1 - alpha) + alpha) * init
  end
end)

--- polynomial(init, end, power, steps, {transition_begin = 0}): (init - end) (1 - count / steps)^power + end.
-- @function polynomial
-- @param init the first value
-- @param end the last value
-- @param power the exponent
-- @param steps how many counts it takes
-- @param options as above
-- @usage print(optim.polynomial(1, 0, 1, 10)(5))   --> 0.5
schedule("polynomial", {"init", "end", "power", "steps"}, "transition_begin", function(init, last, exponent, steps, o)
  local begin = o.transition_begin or 0
  return function(count)
    count = clip(count_of(count) - begin, 0, steps)
    return (1 - count / steps) ^ exponent * (init - last) + last
  end
end)

--- warmup_cosine(init, peak, warmup_steps, decay_steps, {end_value = 0, exponent = 1}): a line from init to peak, then half a cosine to
-- end_value, which is reached at decay_steps (the warmup counts).
-- @function warmup_cosine
-- @param init the first value
-- @param peak the greatest value
-- @param warmup_steps counts of the rise
-- @param decay_steps counts of rise and fall together
-- @param options as above
-- @usage local s = optim.warmup_cosine(0, 1, 10, 100)
-- print(s(5), s(10), s(100))   --> 0.5 1.0 0.0
schedule("warmup_cosine", {"init", "peak", "warmup_steps", "decay_steps"}, "end_value exponent",
  function(init, peak, warmup_steps, decay_steps, o)
    local alpha = peak == 0 and 0 or (o.end_value or 0) / peak
    local warmup = schedules.polynomial(init, peak, 1, warmup_steps)
    local decay = schedules.cosine_decay(peak, decay_steps - warmup_steps, {alpha = alpha, exponent = o.exponent})
    return function(count)
      count = count_of(count)
      return below(count, warmup_steps, warmup(count), decay(count - warmup_steps))
    end
  end)

-- The counts of a table in rising order.
local function boundaries_of(op, scales)
  if type(scales) ~= "table" then check.fail(op, "a table {[count] = scale} is needed (got %s)", check.show(scales)) end
  local counts = {}
  for count, scale in pairs(scales) do
    check.int(op, "a boundary", count, 0)
    check.number(op, ("the scale at %d"):format(count), scale)
    counts[#counts + 1] = count
  end
  table.sort(counts)
  return counts
end

--- piecewise(init, {[count] = scale}): init, multiplied by each scale whose count is reached.
-- @param init the first value
-- @param scales {[count] = scale}: from that count on, all so far times scale
-- @usage local s = optim.piecewise(1, {[100] = 0.5})
-- print(s(99), s(100))   --> 1.0 0.5
function schedules.piecewise(init, scales, ...)
  check.last("piecewise", ...)
  check.number("piecewise", "init", init)
  local counts = boundaries_of("piecewise", scales)
  return intern("schedule.piecewise", {init, scales}, function()
    local factors = {}
    for i, count in ipairs(counts) do factors[i] = scales[count] end
    return function(count)
      count = count_of(count)
      local value = init
      for i, bound in ipairs(counts) do value = below(count, bound, 1.0, factors[i]) * value end
      return value
    end
  end)
end

--- one_cycle(steps, peak, {pct_start = 0.3, div_factor = 25, final_div_factor = 1e4}): up from peak / div_factor to peak, down to
-- peak / (div_factor * final_div_factor), along half cosines (Smith and Topin 2018).
-- @function one_cycle
-- @param steps how many counts it takes
-- @param peak the greatest value
-- @param options as above
-- @usage local s = optim.one_cycle(100, 1)
-- print(s(0), s(30))   --> 0.04 1.0
schedule("one_cycle", {"steps", "peak"}, "pct_start div_factor final_div_factor", function(steps, peak, o)
  local div, final = o.div_factor or 25.0, o.final_div_factor or 1e4
  local top = math.floor((o.pct_start or 0.3) * steps)
  local first, last = peak / div, peak / (div * final)
  local function half_cosine(from, to, share) return (cos(share * math.pi) + 1) * ((from - to) / 2) + to end
  return function(count)
    count = clip(count_of(count), 0, steps)
    local rise = top > 0 and half_cosine(first, peak, clip(count / top, 0, 1)) or peak
    return below(count, top, rise, half_cosine(peak, last, clip((count - top) / (steps - top), 0, 1)))
  end
end)

return schedules
