--- The rows of convolutions and windows; see drive.lua for the fields. References are naive loops over channels-last data.
local mlax = require "mlax"
local tensor = require "spec.support.tensor"

local lax = mlax.lax
local build, get = tensor.build, tensor.get
local rows = {}

local numbers = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32", "float64"}

-- One axis: how many places the window has, and the element (from 1) that its q-th element meets at place p, or nil.
local function places(n, w, o)
  local long = n == 0 and 0 or (n - 1) * o.holes + 1
  return math.max(0, (long + o.lo + o.hi - ((w - 1) * o.dilation + 1)) // o.stride + 1)
end
local function met(n, p, q, o)
  local at = (p - 1) * o.stride + (q - 1) * o.dilation - o.lo
  if at < 0 or at % o.holes ~= 0 or at // o.holes >= n then return nil end
  return at // o.holes + 1
end

local function axis_options(options, i)
  local function of(name, default)
    local v = options[name]
    if type(v) == "table" then v = v[i] end
    return v or default
  end
  local pad = options.padding and options.padding[i] or {0, 0}
  return {stride = of("strides", 1), holes = of("input_dilation", 1), lo = pad[1], hi = pad[2],
    dilation = of(options.window and "window_dilation" or "filter_dilation", 1)}
end

-- -- conv -----------------------------------------------------------------------------------------------------------------

local function conv_reference(options)
  return function(x, k, dtype)
    local n, fg, bg = #x.shape - 2, options.feature_group_count or 1, options.batch_group_count or 1
    local outs, ins, axes, window = k.shape[1], k.shape[n + 2], {}, {}
    local shape = {x.shape[1] // bg}
    for i = 1, n do
      axes[i], window[i] = axis_options(options, i), k.shape[1 + i]
      shape[1 + i] = places(x.shape[1 + i], window[i], axes[i])
    end
    shape[n + 2] = outs
    return build(shape, function(at)
      local o, sum = at[n + 2], tensor.is_float(dtype) and 0.0 or 0
      local from, kernel = {}, {o}
      from[1] = at[1] + (o - 1) // (outs // bg) * shape[1]
      for q in tensor.positions(window) do
        local inside = true
        for i = 1, n do
          from[1 + i] = met(x.shape[1 + i], at[1 + i], q[i], axes[i])
          kernel[1 + i] = q[i]
          inside = inside and from[1 + i]
        end
        for c = 1, inside and ins or 0 do
          from[n + 2], kernel[n + 2] = c + (o - 1) // (outs // fg) * ins, c
          sum = sum + get(x, from) * get(k, kernel)
        end
      end
      return sum
    end)
  end
end

local function conv(x, k, options)
  return {args = {x, k}, f = function(a, b) return lax.conv(a, b, options) end, ref = conv_reference(options)}
end
rows.conv = {dtypes = numbers, ulp = 16, slope_tolerance = 1e-5, cases = {
  conv({1, 5, 2}, {3, 3, 2}, {}), conv({2, 6, 1}, {2, 2, 1}, {strides = 2, padding = {{1, 0}}}),
  conv({1, 4, 5, 2}, {2, 2, 3, 2}, {padding = {{1, 1}, {0, 2}}, strides = {2, 1}}),
  conv({1, 3, 4, 1}, {2, 2, 2, 1}, {input_dilation = 2, filter_dilation = {1, 2}, padding = {{1, 2}, {-1, 0}}}),
  conv({1, 4, 4}, {4, 2, 2}, {feature_group_count = 2}), conv({4, 4, 2}, {2, 3, 2}, {batch_group_count = 2}),
  conv({1, 2, 3, 2, 1}, {1, 2, 1, 2, 1}, {strides = {1, 2, 1}}), conv({0, 4, 2}, {3, 2, 2}, {}), conv({1, 1, 2}, {3, 2, 2}, {})}}

-- -- windows --------------------------------------------------------------------------------------------------------------

-- f(list of the window's elements, dtype, their positions) for each place.
local function over_windows(options, f)
  return function(x, dtype)
    local axes, shape, window = {}, {}, {}
    for i, n in ipairs(x.shape) do
      axes[i], window[i] = axis_options(options, i), type(options.window) == "table" and options.window[i] or options.window
      shape[i] = places(n, window[i], axes[i])
    end
    return build(shape, function(at)
      local list, where = {}, {}
      for q in tensor.positions(window) do
        local from, inside = {}, true
        for i, n in ipairs(x.shape) do
          from[i] = met(n, at[i], q[i], axes[i])
          inside = inside and from[i]
        end
        if inside then list[#list + 1], where[#where + 1] = get(x, from), from end
      end
      return f(list, dtype, where)
    end)
  end
end

local forms = {{{7}, {window = 3}}, {{9}, {window = 2, strides = 4}}, {{3, 5}, {window = {2, 3}, padding = {{1, 0}, {0, 1}}}},
  {{4, 5}, {window = {2, 2}, strides = {2, 1}, window_dilation = {1, 2}}}, {{3, 4}, {window = {2, 3}, input_dilation = {2, 1},
  padding = {{0, 1}, {-1, 2}}}}, {{1, 4, 4, 2}, {window = {1, 2, 2, 1}, strides = {1, 2, 2, 1}}}, {{0}, {window = 2}}, {{2}, {window = 5}}}

local function windows(op, init, f)
  local cases = {}
  for i, form in ipairs(forms) do
    local options = form[2]
    cases[i] = {args = {form[1]}, f = function(x) return lax.reduce_window(x, init, op, options) end, ref = over_windows(options, f)}
  end
  return cases
end

local function folded(f, first)
  return function(list, dtype)
    local y = tensor.is_float(dtype) and first + 0.0 or first
    for _, v in ipairs(list) do y = f(y, v) end
    return y
  end
end
rows.reduce_window_sum = {dtypes = numbers, ulp = 16, cases = windows("sum", 0, folded(function(a, b) return a + b end, 0))}
rows.reduce_window_prod = {dtypes = numbers, ulp = 40, domain = {-1.4, 1.4},
  cases = windows("prod", 1, folded(function(a, b) return a * b end, 1))}

local function greater(a, b, dtype)
  if dtype == "bool" then return a and not b end
  if tensor.is_unsigned(dtype) then return math.ult(b, a) end
  return a > b
end
local function lesser(a, b, dtype) return greater(b, a, dtype) end

-- What windows that see nothing give.
local function end_of(dtype, least)
  if dtype == "bool" then return not least end
  if tensor.is_float(dtype) then return least and -math.huge or math.huge end
  local low, high = tensor.limits(dtype)
  return least and low or high
end
local function best(better, least)
  return function(list, dtype)
    local y = list[1]
    if y == nil then return end_of(dtype, least) end
    for _, v in ipairs(list) do if better(v, y, dtype) then y = v end end
    return y
  end
end
rows.reduce_window_max = {ulp = 0, cases = windows("max", -math.huge, best(greater, true))}
rows.reduce_window_min = {ulp = 0, cases = windows("min", math.huge, best(lesser, false))}

-- -- the choice -----------------------------------------------------------------------------------------------------------

-- For each place the position of the first extreme element, or nil.
local function first_extremes(x, dtype, options, better)
  local chosen = {}
  local out = over_windows(options, function(list, _, where)
    local k = 1
    for i, v in ipairs(list) do if better(v, list[k], dtype) then k = i end end
    chosen[#chosen + 1] = where[k] or false
    return 0.0
  end)(x, dtype)
  return out.shape, chosen
end

local function window_function(op, init, options)
  return function(x) return lax.reduce_window(x, init, op, options) end
end

local choices = {}
for _, form in ipairs(forms) do
  for _, op in ipairs{{"max", -math.huge, greater}, {"min", math.huge, lesser}} do
    if form[1][1] > 0 then choices[#choices + 1] = {shape = form[1], options = form[2], better = op[3], f = window_function(op[1], op[2], form[2])} end
  end
end

-- In forward mode the tangent at the first extreme element.
local gathers, scatters = {}, {}
for i, choice in ipairs(choices) do
  gathers[i] = {args = {choice.shape, choice.shape},
    f = function(t, x)
      local _, dy = mlax.jvp(choice.f, {x}, {t})
      return dy
    end,
    ref = function(t, x, dtype)
      local shape, chosen = first_extremes(x, dtype, choice.options, choice.better)
      local data = {}
      for k, at in ipairs(chosen) do data[k] = at and get(t, at) or 0.0 end
      return {shape = shape, data = data}
    end}
  local places_shape = choice.f(mlax.zeros(choice.shape)).shape
  scatters[i] = {args = {places_shape, choice.shape},
    f = function(ct, x)
      local _, pull = mlax.vjp(choice.f, x)
      return (pull(ct))
    end,
    ref = function(ct, x, dtype)
      local _, chosen = first_extremes(x, dtype, choice.options, choice.better)
      local out = build(choice.shape, function() return 0.0 end)
      for k, at in ipairs(chosen) do if at then tensor.put(out, at, get(out, at) + ct.data[k]) end end
      return out
    end}
end
rows.select_and_gather = {dtypes = tensor.floats, ulp = 0, cases = gathers}
rows.select_and_scatter_add = {dtypes = tensor.floats, ulp = 8, cases = scatters}

return rows
