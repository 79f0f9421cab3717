--- gradcheck: derivatives held against differences of the function.
-- @module mlax.gradcheck

local check = require "mlax.check"
local core = require "mlax.core"

local mlax, tree = core.mlax, core.tree

local M = {}

local function is_float(x) return mlax.is_array(x) and x.dtype:find("float", 1, true) ~= nil end

-- Float arrays and Lua floats as float64 arrays; all else as it is.
local function widened(t)
  return tree.map(function(leaf)
    if is_float(leaf) then return leaf:astype("float64") end
    return math.type(leaf) == "float" and mlax.full({}, leaf, "float64") or leaf
  end, t)
end

-- The float64 arrays of the arguments, their names, and f as a function of a list of such.
local function open(f, args)
  local leaves, def = tree.flatten(args)
  local list, places, names = {}, {}, {}
  for i, pair in ipairs(tree.leaves_with_path(args)) do
    if is_float(pair[2]) then
      local position, path = pair[1]:match("^%[(%d+)%]%.?(.*)$")
      list[#list + 1], places[#places + 1] = pair[2], i
      names[#names + 1] = ("argument %s%s"):format(position, path ~= "" and " at " .. path or "")
    end
  end
  return list, names, function(values)
    local all = table.move(leaves, 1, #leaves, 1, {})
    for k, place in ipairs(places) do all[place] = values[k] end
    return (f(table.unpack(tree.unflatten(def, all), 1, #args)))
  end
end

-- The sum of the float arrays of a tree, each by fixed normal weights: every element counts, none cancels another.
local function weighted(result, seed)
  local sum
  for i, pair in ipairs(tree.leaves_with_path(result)) do
    local path, x = pair[1], pair[2]
    if is_float(x) then
      if x.dtype ~= "float64" then
        core.fail("gradcheck", "the result%s is %s where the arguments are float64 (need a function that keeps the dtype)",
          path ~= "" and " at " .. path or "", x.dtype)
      end
      local weights = mlax.random.normal(mlax.random.fold_in(mlax.random.key(seed), i), x.shape, {dtype = "float64"})
      local term = (x * weights):sum()
      sum = sum and sum + term or term
    end
  end
  if not sum then core.fail("gradcheck", "the function's first result holds no float array") end
  return sum
end

-- x with its element number i moved by `by`.
local function moved(x, i, by) return x:flatten():at{i}:add(by):reshape(x.shape) end

local function difference(g, list, k, i, eps)
  local x, ends = list[k], {}
  local step = eps * math.max(1, math.abs(x:flatten()[i]:item()))
  for side = -1, 1, 2 do
    local values = table.move(list, 1, #list, 1, {})
    values[k] = moved(x, i, side * step)
    ends[side] = g(values):item()
  end
  return (ends[1] - ends[-1]) / (2 * step)
end

-- "{2, 1}" of a row-major number; "" for a scalar.
local function position(x, i)
  local shape, index = x.shape, {}
  for d = #shape, 1, -1 do
    index[d] = (i - 1) % shape[d] + 1
    i = (i - 1) // shape[d] + 1
  end
  return #index > 0 and (", element {%s}"):format(table.concat(index, ", ")) or ""
end

local function close(a, b, tolerance)
  return a == b or math.abs(a - b) <= tolerance * math.max(1, math.abs(a), math.abs(b))
end

-- The gradient of g by each element, in the mode.
local function derivatives(g, list, mode)
  return (mode == "reverse" and mlax.grad or mlax.jacfwd)(g)(list)
end

local function compare(g, list, names, o, order)
  local slopes = derivatives(g, list, o.mode)
  for k, x in ipairs(list) do
    local flat = slopes[k]:flatten()
    for i = 1, x.size do
      local slope, want = flat[i]:item(), difference(g, list, k, i, o.eps)
      if not close(slope, want, o.tolerance) then
        return false, ("gradcheck: %s%s: the derivative%s is %.9g, differences give %.9g"):format(names[k], position(x, i),
          order > 1 and " of order " .. order or "", slope, want)
      end
    end
  end
  return true
end

local function check_options(options)
  core.check_options("gradcheck", options, {"eps", "tolerance", "order", "mode"})
  local given = options or {}
  local o = {eps = given.eps or 1e-6, tolerance = given.tolerance or 1e-5, order = given.order or 1, mode = given.mode or "reverse"}
  for _, name in ipairs{"eps", "tolerance"} do
    if type(o[name]) ~= "number" or o[name] <= 0 or o[name] ~= o[name] then
      core.fail("gradcheck", "%s must be a positive number (got %s)", name, check.show(o[name]))
    end
  end
  if math.type(o.order) ~= "integer" or o.order < 1 then
    core.fail("gradcheck", "order must be an integer from 1 (got %s)", check.show(o.order))
  end
  if o.mode ~= "reverse" and o.mode ~= "forward" then
    core.fail("gradcheck", 'mode must be "reverse" or "forward" (got %s)', check.show(o.mode))
  end
  return o
end

--- Holds the derivatives of a function against central differences, in float64.
--
-- Float arguments are widened to float64 first. The function's first result, a tree, is summed with fixed random weights; the derivative
-- of that sum by each element of each argument is compared. They agree when they differ by at most `tolerance` times the greatest of 1
-- and their sizes. The function must be smooth there and give the same values at each call.
-- @param f a function
-- @param args a list of its arguments, trees
-- @param[opt] options `eps` (1e-6: step, relative to elements greater than 1), `tolerance` (1e-5), `order` (1; 2 and more check the
-- derivatives of derivatives too), `mode` ("reverse": as grad does; "forward": as jvp does)
-- @return true; or false and a message that names argument, element and both values
-- @usage assert(mlax.gradcheck(function(x) return x:tanh():sum() end, {mlax.array{0.5, -1}}))
function M.gradcheck(f, args, options)
  check.callable("gradcheck", "f", f)
  local o = check_options(options)
  if type(args) ~= "table" or getmetatable(args) then
    core.fail("gradcheck", "args must be a list of arguments (got %s)", check.show(args))
  end
  local list, names, of_list = open(f, widened(args))
  if #list == 0 then core.fail("gradcheck", "no argument holds a float (got nothing to differentiate by)") end
  local g = function(values) return weighted(of_list(values), 1) end
  for order = 1, o.order do
    local ok, message = compare(g, list, names, o, order)
    if not ok then return false, message end
    local lower = g
    g = function(values) return weighted(derivatives(lower, values, o.mode), order + 1) end
  end
  return true
end

return M
