--- Operations that are composed of others: comparisons as a whole, counts, order statistics, interpolation.
-- Each is a function of mlax and, where its first argument is an array, a method. Those whose result's shape depends on values (`unique`)
-- are eager only.
-- @module mlax.functions

local core = require "mlax.core"

local mlax = core.mlax

local M = {}

local function check_array(op, x, what)
  if not mlax.is_array(x) then core.fail(op, "%s is no array (got %s)", what, core.type_name(x)) end
  return x
end

-- An option, or its default.
local function option(options, name, default)
  local v = options and options[name]
  if v == nil then return default end
  return v
end

local function check_extra(op, ...)
  if select("#", ...) > 0 and select(1, ...) ~= nil then core.fail(op, "one argument too many (got %s)", core.type_name((...))) end
end

local function is_float(x) return x.dtype:find("float", 1, true) ~= nil end

--- Whether all elements are close: |x - y| <= atol + rtol |y|.
-- @param x an array or a number
-- @param y an array or a number that broadcasts with it
-- @param[opt] options `rtol` (1e-5), `atol` (1e-8), `equal_nan` (false)
-- @return a bool array of one element
-- @usage assert(mlax.allclose(mlax.array{1, 2}, mlax.array{1, 2 + 1e-7}):item())
function M.allclose(x, y, options, ...)
  check_extra("allclose", ...)
  core.check_options("allclose", options, {"rtol", "atol", "equal_nan"})
  local rtol, atol = option(options, "rtol", 1e-5), option(options, "atol", 1e-8)
  if not mlax.is_array(x) then x = mlax.array(x) end
  if not mlax.is_array(y) then y = mlax.array(y) end
  if not is_float(x) then x = x:astype("float64") end
  if not is_float(y) then y = y:astype("float64") end
  local close = mlax.abs(x - y):le(mlax.abs(y) * rtol + atol):logical_and(mlax.isfinite(y))
  close = close:logical_or(mlax.eq(x, y))
  if option(options, "equal_nan", false) then close = close:logical_or(mlax.isnan(x):logical_and(mlax.isnan(y))) end
  return close:all()
end

--- Whether shapes and all elements are equal.
-- @param x an array
-- @param y an array
-- @return a bool array of one element; arrays of different shapes are not equal
-- @usage assert(mlax.array_equal(mlax.ones{2}, mlax.ones{2}):item())
function M.array_equal(x, y, ...)
  check_extra("array_equal", ...)
  check_array("array_equal", x, "x")
  check_array("array_equal", y, "y")
  if table.concat(x.shape, ",") ~= table.concat(y.shape, ",") then return mlax.array(false) end
  return mlax.eq(x, y):all()
end

--- The different elements, rising. Eager only.
-- @param x an array; it is flattened
-- @param[opt] options `inverse`, `counts`: further results: for each element of x its position in the result; how often each occurs
-- @return a vector of x's dtype, then int32 arrays as asked for
-- @usage print(mlax.unique(mlax.array{3, 1, 3}))   --> float32[2] [1 3]
function M.unique(x, options, ...)
  check_extra("unique", ...)
  check_array("unique", x, "x")
  core.check_options("unique", options, {"inverse", "counts"})
  local flat = x:flatten()
  local n = flat.size
  local order = flat:argsort(1)
  local sorted = flat:take(order, 1)
  local first = mlax.ones({n}, "bool")
  if n > 1 then first = mlax.concat({mlax.ones({1}, "bool"), sorted["2:"]:ne(sorted["1:-2"])}, 1) end
  local starts = mlax.nonzero(first)
  local results = {sorted:take(starts, 1)}
  if option(options, "inverse", false) then
    local rank = first:astype("int32"):cumsum(1)
    results[#results + 1] = mlax.zeros({n}, "int32"):at{order}:set(rank)
  end
  if option(options, "counts", false) then
    local ends = mlax.concat({starts, mlax.full({1}, n + 1, "int32")}, 1)
    results[#results + 1] = ends["2:"] - ends["1:-2"]
  end
  return table.unpack(results)
end

--- How often each of 1..n occurs.
-- @param ids an integer array of values from 1
-- @param[opt] n the greatest value; eager code may leave it out
-- @param[opt] options `weights`: an array of ids' shape that is added up in place of ones
-- @return int32[n], or the weights' dtype
-- @usage print(mlax.bincount(mlax.array({1, 3, 3}, "int32")))   --> int32[3] [1 0 2]
function M.bincount(ids, n, options, ...)
  check_extra("bincount", ...)
  if type(n) == "table" and options == nil then n, options = nil, n end
  check_array("bincount", ids, "ids")
  core.check_options("bincount", options, {"weights"})
  if n == nil then n = ids.size == 0 and 0 or ids:max():item() end
  local weights = option(options, "weights", nil)
  if weights == nil then weights = mlax.ones(ids.shape, "int32") end
  return mlax.segment_sum(weights:flatten(), ids:flatten(), n)
end

--- How many elements fall into each bin; the last bin holds its upper edge.
-- @param x an array; it is flattened
-- @param[opt] bins the number of bins (10), or a vector of rising edges
-- @param[opt] options `range = {low, high}`
-- @return counts (int32), edges
-- @usage local counts, edges = mlax.histogram(mlax.array{1, 2, 2, 5}, 4)
-- print(counts, edges)   --> int32[4] [1 2 0 1] float32[5] [1 2 3 4 5]
function M.histogram(x, bins, options, ...)
  check_extra("histogram", ...)
  if type(bins) == "table" and options == nil then bins, options = nil, bins end
  check_array("histogram", x, "x")
  core.check_options("histogram", options, {"range"})
  local flat, edges = x:flatten(), bins
  if not mlax.is_array(bins) then
    bins = bins or 10
    if math.type(bins) ~= "integer" or bins < 1 then
      core.fail("histogram", "the number of bins is no positive integer (got %s)", core.type_name(bins))
    end
    local range = option(options, "range", nil)
    local low, high
    if range then
      low, high = mlax.full({}, range[1]), mlax.full({}, range[2])
    elseif flat.size == 0 then
      low, high = mlax.zeros{}, mlax.ones{}
    else
      low, high = flat:min():astype("float32"), flat:max():astype("float32")
    end
    local same = high:eq(low)
    low, high = mlax.where(same, low - 0.5, low), mlax.where(same, high + 0.5, high)
    local t = mlax.linspace(0, 1, bins + 1)
    edges = low * (1 - t) + high * t
  end
  local n = edges.size - 1
  local place = mlax.searchsorted(edges, flat, {side = "right"}) - 1
  place = mlax.where(mlax.eq(flat, edges[-1]), n, place)
  local inside = place:ge(1):logical_and(place:le(n)):logical_and(flat:le(edges[-1]))
  return mlax.segment_sum(inside:astype("int32"), mlax.where(inside, place, 1), n), edges
end

--- Coordinate arrays of a grid.
-- @param ... vectors, then, if wanted, options `indexing = "xy"` (as NumPy: the first two axes are exchanged) or "ij"
-- @return one array a vector
-- @usage local x, y = mlax.meshgrid(mlax.range(1, 3), mlax.range(1, 2))
-- print(x, y)   --> int32[2,3] [[1 2 3] [1 2 3]] int32[2,3] [[1 1 1] [2 2 2]]
function M.meshgrid(...)
  local vectors = table.pack(...)
  local options = vectors[vectors.n]
  if vectors.n > 0 and not mlax.is_array(options) then vectors.n = vectors.n - 1 else options = nil end
  core.check_options("meshgrid", options, {"indexing"})
  local indexing = option(options, "indexing", "xy")
  if indexing ~= "xy" and indexing ~= "ij" then core.fail("meshgrid", 'indexing is "xy" or "ij" (got %s)', core.type_name(indexing)) end
  local n, shape, out = vectors.n, {}, {}
  for i = 1, n do
    check_array("meshgrid", vectors[i], "an argument")
    if vectors[i].ndim > 1 then core.fail("meshgrid", "vectors are needed (got %s)", core.type_name(vectors[i])) end
    shape[i] = vectors[i].size
  end
  for i = 1, n do
    local line = {}
    for j = 1, n do line[j] = j == i and shape[i] or 1 end
    out[i] = vectors[i]:reshape(line):broadcast_to(shape)
    if indexing == "xy" and n > 1 then out[i] = out[i]:swapaxes(1, 2) end
  end
  return table.unpack(out, 1, n)
end

--- Piecewise linear interpolation.
-- @param x where
-- @param xp a rising vector of points
-- @param fp the values there
-- @return an array of x's shape; outside the points the end values
-- @usage print(mlax.interp(mlax.array{1.5}, mlax.array{1, 2}, mlax.array{10, 20}))   --> float32[1] [15]
function M.interp(x, xp, fp, ...)
  check_extra("interp", ...)
  check_array("interp", xp, "xp")
  check_array("interp", fp, "fp")
  if not mlax.is_array(x) then x = mlax.array(x) end
  if xp.ndim ~= 1 or fp.ndim ~= 1 or xp.size ~= fp.size or xp.size == 0 then
    core.fail("interp", "xp and fp are no vectors of equal length (got %s and %s)", core.type_name(xp), core.type_name(fp))
  end
  local n = xp.size
  if n == 1 then return mlax.zeros_like(x) + fp[1] end
  local right = mlax.clip(mlax.searchsorted(xp, x, {side = "right"}), 2, n)
  local x0, x1 = xp:take(right - 1, 1), xp:take(right, 1)
  local f0, f1 = fp:take(right - 1, 1), fp:take(right, 1)
  local step = x1 - x0
  local flat = step:eq(0)
  local y = f0 + mlax.where(flat, 0, (x - x0) / mlax.where(flat, 1, step)) * (f1 - f0)
  return mlax.where(mlax.lt(x, xp[1]), fp[1], mlax.where(mlax.gt(x, xp[-1]), fp[-1], y))
end

-- The axes of the options: x with those axes joined at the end, and its shape with 1 in their place.
local function join_axes(op, x, axis)
  local ndim, drop, keep, kept_shape, ones = x.ndim, {}, {}, {}, {}
  if axis == nil then
    for i = 1, ndim do drop[i] = true end
  else
    for _, a in ipairs(type(axis) == "table" and axis or {axis}) do
      if math.type(a) ~= "integer" or a == 0 or a > ndim or a < -ndim then
        core.fail(op, "there is no axis %s (axes count from 1; need 1..%d or -1..-%d)", tostring(a), ndim, ndim)
      end
      drop[a > 0 and a or a + ndim + 1] = true
    end
  end
  for i = 1, ndim do
    ones[i] = drop[i] and 1 or x:dim(i)
    if not drop[i] then
      keep[#keep + 1] = i
      kept_shape[#kept_shape + 1] = x:dim(i)
    end
  end
  for i = 1, ndim do if drop[i] then keep[#keep + 1] = i end end
  kept_shape[#kept_shape + 1] = -1
  if x.size == 0 then core.fail(op, "nothing has no quantiles (got %s)", core.type_name(x)) end
  if ndim > 1 then x = x:transpose(keep) end
  return x:reshape(kept_shape), ones
end

-- The q-quantile along the last axis of the sorted array; q between 0 and 1.
local methods = {
  linear = function(low, high, t) return low + (high - low) * t end,
  lower = function(low) return low end,
  higher = function(_, high) return high end,
  midpoint = function(low, high) return (low + high) * 0.5 end,
  nearest = function(low, high, t) return mlax.where(mlax.le(t, 0.5), low, high) end,
}

local function quantile_of(sorted, q, method)
  local n = sorted:dim(-1)
  local place = mlax.clip(q, 0, 1) * (n - 1)
  local below = mlax.floor(place)
  local low = below:astype("int32") + 1
  local high = mlax.minimum(low + 1, n)
  return method(sorted:take(low, -1), sorted:take(high, -1), place - below)
end

local function quantile(op, x, q, axis, options)
  check_array(op, x, "x")
  local method = methods[option(options, "method", "linear")]
  if not method then
    core.fail(op, "unknown method %s (known: linear, lower, higher, midpoint, nearest)", core.type_name(options.method))
  end
  if not is_float(x) then x = x:astype("float32") end
  local joined, ones = join_axes(op, x, axis)
  local sorted = joined:sort(-1)
  local y = quantile_of(sorted, q, method)
  y = mlax.where(mlax.isnan(sorted):any(-1, {keepdims = q.ndim == 1}), mlax.array(0 / 0, x.dtype), y)
  if q.ndim == 1 then
    local list = {}
    for i = 1, q.size do
      list[i] = y[{"...", i}]
      if option(options, "keepdims", false) then list[i] = list[i]:reshape(ones) end
    end
    return mlax.stack(list, 1)
  end
  if option(options, "keepdims", false) then return y:reshape(ones) end
  return y
end

--- The value below which a share q of the elements lies.
-- @param x an array
-- @param q a number, or a vector (then its axis stands first in the result), from 0 to 1
-- @param[opt] axis a number or a list; all axes if left out
-- @param[opt] options `keepdims`, `method` (linear, lower, higher, midpoint, nearest)
-- @usage assert(mlax.array{1, 2, 3, 4, 5}:quantile(0.25):item() == 2)
function M.quantile(x, q, axis, options, ...)
  check_extra("quantile", ...)
  if type(axis) == "table" and options == nil and next(axis) ~= nil and type(next(axis)) == "string" then axis, options = nil, axis end
  core.check_options("quantile", options, {"keepdims", "method"})
  if type(q) == "number" then q = mlax.array(q + 0.0) end
  if type(q) == "table" then q = mlax.array(q) end
  check_array("quantile", q, "q")
  if q.ndim > 1 then core.fail("quantile", "q is a number or a vector (got %s)", core.type_name(q)) end
  return quantile("quantile", x, q, axis, options)
end

--- The middle value; the mean of the two middle ones of an even count. NaN where there is one.
-- @param x an array
-- @param[opt] axis a number or a list; all axes if left out
-- @param[opt] options `keepdims`
-- @usage assert(mlax.array{3, 1, 2}:median():item() == 2)
function M.median(x, axis, options, ...)
  check_extra("median", ...)
  if type(axis) == "table" and options == nil and next(axis) ~= nil and type(next(axis)) == "string" then axis, options = nil, axis end
  core.check_options("median", options, {"keepdims"})
  return quantile("median", x, mlax.array(0.5), axis, options)
end

local greatest = {float16 = 65504.0, bfloat16 = 0x1.fep127, float32 = 0x1.fffffep127, float64 = 0x1.fffffffffffffp1023}

--- NaN becomes a number, infinities the greatest and least numbers of the dtype.
-- @param x an array
-- @param[opt] options `nan` (0), `posinf`, `neginf`
-- @usage assert(mlax.array{0/0}:nan_to_num():item() == 0)
function M.nan_to_num(x, options, ...)
  check_extra("nan_to_num", ...)
  check_array("nan_to_num", x, "x")
  core.check_options("nan_to_num", options, {"nan", "posinf", "neginf"})
  if not is_float(x) then return x end
  local top = greatest[x.dtype]
  local y = mlax.where(mlax.isnan(x), option(options, "nan", 0.0), x)
  y = mlax.where(mlax.eq(x, math.huge), option(options, "posinf", top), y)
  return mlax.where(mlax.eq(x, -math.huge), option(options, "neginf", -top), y)
end

--- The sum of the diagonal of the last two axes.
-- @param x an array of two axes or more
-- @param[opt] options `k`: which diagonal, above (> 0) or below (< 0) the main one
-- @usage assert(mlax.eye(3):trace():item() == 3)
function M.trace(x, options, ...)
  check_extra("trace", ...)
  check_array("trace", x, "x")
  core.check_options("trace", options, {"k"})
  if x.ndim < 2 then core.fail("trace", "a matrix is needed (got %s)", core.type_name(x)) end
  local k = option(options, "k", 0)
  if x.ndim == 2 then return x:diag{k = k}:sum() end
  local mask = mlax.ones({x:dim(-2), x:dim(-1)}, "bool")
  return mlax.where(mask:tril{k = k}:logical_and(mask:triu{k = k}), x, mlax.zeros({}, x.dtype)):sum{-2, -1}
end

return M
