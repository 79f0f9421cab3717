--- The rows of the primitives that take positions from the data; see drive.lua for the fields. References are naive loops.
local mlax = require "mlax"
local tensor = require "spec.support.tensor"

local build, get, put, copy = tensor.build, tensor.get, tensor.put, tensor.copy

local rows = {}

local numbers = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32", "float64"}

local function ids(shape, low, high, dtype) return {shape = shape, dtype = dtype or "int32", low = low, high = high} end
local function fixed(shape, values) return {shape = shape, dtype = "int32", values = values} end

-- From 1, where -1 is the last of n.
local function resolve(p, n) return p < 0 and p + n + 1 or p end

-- Parts of a list, and lists put behind one another.
local function part(list, first, last) return table.move(list, first, last, 1, {}) end
local function join(...)
  local r = {}
  for _, list in ipairs{...} do table.move(list, 1, #list, #r + 1, r) end
  return r
end

-- x[i] along an axis: the shape of i stands in the axis's place. `outside(v)` is what positions outside give.
local function taken(x, i, axis, outside)
  local n, k = x.shape[axis], #i.shape
  local shape = join(part(x.shape, 1, axis - 1), i.shape, part(x.shape, axis + 1, #x.shape))
  return build(shape, function(at)
    local p = resolve(get(i, part(at, axis, axis + k - 1)), n)
    if p < 1 or p > n then
      if outside then return outside end
      p = p < 1 and 1 or n
    end
    return get(x, join(part(at, 1, axis - 1), {p}, part(at, axis + k, #at)))
  end)
end

local function take(shape, i, axis)
  return {args = {shape, i}, f = function(x, at) return x:take(at, axis) end, ref = function(x, at) return taken(x, at, axis) end}
end

-- A check and a gather behind it; that it raises stands in primitives_spec.
rows.check_index = {cases = {take({5}, ids({3}, 1, 5), 1), take({5}, ids({}, -5, -1), 1), take({2, 4}, ids({0}, 1, 4), 2),
  take({4}, ids({2, 3}, 1, 4, "uint8"), 1), take({4}, ids({3}, 1, 4, "int64"), 1)}}

local filling = {float16 = 0 / 0, bfloat16 = 0 / 0, float32 = 0 / 0, float64 = 0 / 0, bool = true}
for _, d in ipairs(tensor.signed) do filling[d] = (tensor.limits(d)) end
for _, d in ipairs(tensor.unsigned) do filling[d] = select(2, tensor.limits(d)) end

rows.gather = {ulp = 0, large = {take({151, 37}, ids({503}, 1, 151), 1), take({37, 151}, ids({503}, 1, 151), 2)}, cases = {
  take({5}, ids({7}, 1, 5), 1), take({3, 4}, ids({2}, -4, -1), 2), take({2, 3, 4}, ids({2, 2}, 1, 3), 2), take({3, 4}, ids({}, 1, 3), 1),
  take({3, 0}, ids({2}, 1, 3), 1),
  {name = "clip", args = {{4}, fixed({5}, {1, 9, -2, -9, 4})}, f = function(x, i) return x:take(i, 1, {mode = "clip"}) end,
    ref = function(x, i) return taken(x, i, 1) end},
  {name = "fill", args = {{4, 2}, fixed({5}, {1, 9, -2, -9, 4})}, smooth = 0, f = function(x, i) return x:take(i, 1, {mode = "fill"}) end,
    ref = function(x, i, dtype) return taken(x, i, 1, filling[dtype]) end},
  {name = "two index arrays", args = {{3, 2, 4}, ids({2, 1}, 1, 3), ids({3}, -4, -1)}, f = function(x, i, j) return x[{i, {}, j}] end,
    ref = function(x, i, j)
      return build({2, 3, 2}, function(at)
        return get(x, {get(i, {at[1], 1}), at[3], resolve(get(j, {at[2]}), 4)})
      end)
    end},
  {name = "behind a slice", args = {{3, 4}, ids({5}, 1, 4)}, f = function(x, i) return x[{{3, 1, -1}, i}] end,
    ref = function(x, i) return build({3, 5}, function(at) return get(x, {4 - at[1], get(i, {at[2]})}) end) end},
  {name = "take_along_axis", args = {{2, 4}, ids({2, 3}, 1, 4)}, f = function(x, i) return x:take_along_axis(i, 2) end,
    ref = function(x, i) return build({2, 3}, function(at) return get(x, {at[1], get(i, at)}) end) end},
}}

-- -- scatter --------------------------------------------------------------------------------------------------------------

-- x:at{i}:method(u) along the first axis, u broadcast to {i..., rest...}.
local function scatter(method, f, shape, i, u)
  return {args = {shape, u, i},
    f = function(x, v, at) return x:at{at}[method](x:at{at}, v) end,
    ref = function(x, v, at, dtype)
      local y, k = copy(x), #at.shape
      for q in tensor.positions(join(at.shape, part(x.shape, 2, #x.shape))) do
        local to = join({resolve(get(at, part(q, 1, k)), x.shape[1])}, part(q, k + 1, #q))
        put(y, to, f(get(y, to), tensor.broadcast_get(v, q), dtype))
      end
      return y
    end}
end

-- x:at{i, {}, j}:method(u) with two index arrays: u is {s..., rest...} as for reading.
local function scatter2(method, f, i, j)
  return {name = "two index arrays", args = {{3, 2, 4}, {2, 2}, i, j},
    f = function(x, v, a, b) return x:at{a, {}, b}[method](x:at{a, {}, b}, v) end,
    ref = function(x, v, a, b, dtype)
      local y = copy(x)
      for q in tensor.positions{2, 2} do
        local to = {get(a, {q[1]}), q[2], resolve(get(b, {q[1]}), 4)}
        put(y, to, f(get(y, to), get(v, q), dtype))
      end
      return y
    end}
end

-- Positions that differ, then positions that meet.
local function scatters(method, f, meet)
  local cases = {
    scatter(method, f, {5}, fixed({3}, {4, 1, -1}), {3}), scatter(method, f, {5}, fixed({3}, {4, 1, -1}), {}),
    scatter(method, f, {4, 3}, fixed({2}, {3, 1}), {2, 3}), scatter(method, f, {4, 3}, fixed({2, 1}, {2, 4}), {3}),
    scatter(method, f, {4}, fixed({}, {2}), {}), scatter(method, f, {3, 2}, fixed({0}, {}), {0, 2}),
    scatter2(method, f, fixed({2}, {3, 1}), fixed({2}, {2, -1})),
  }
  if meet then
    cases[#cases + 1] = scatter(method, f, {4}, fixed({6}, {2, 3, 2, -3, 1, 3}), {6})
    cases[#cases + 1] = scatter(method, f, {3, 2}, fixed({2, 2}, {3, 1, 3, 3}), {2, 2, 2})
    cases[#cases + 1] = scatter(method, f, {9}, ids({33}, 1, 9), {33})
    cases[#cases + 1] = scatter2(method, f, fixed({2}, {3, 3}), fixed({2}, {2, -3}))
  end
  return cases
end

local function smaller(a, b, dtype)
  if dtype == "bool" then return not a and b end
  if tensor.is_unsigned(dtype) then return math.ult(a, b) end
  return a < b
end

rows.scatter = {ulp = 0, cases = scatters("set", function(_, v) return v end, true)}
rows.scatter_add = {dtypes = numbers, ulp = 8, cases = scatters("add", function(x, v) return x + v end, true)}
rows.scatter_mul = {dtypes = numbers, ulp = 8, cases = scatters("mul", function(x, v) return x * v end)}
local function least(x, v, dtype)
  if smaller(v, x, dtype) then return v end
  return x
end
local function greatest(x, v, dtype)
  if smaller(x, v, dtype) then return v end
  return x
end
rows.scatter_min = {ulp = 0, cases = scatters("min", least, true)}
rows.scatter_max = {ulp = 0, cases = scatters("max", greatest, true)}

for name, f in pairs{set = function(_, v) return v end, add = function(x, v) return x + v end, min = least, max = greatest} do
  local case = scatter(name, f, {151, 37}, ids({503}, 1, 151), {503, 37})
  case.ulp, case.dtypes = 32, numbers
  rows[name == "set" and "scatter" or "scatter_" .. name].large = {case}
end

-- Multiplied where positions meet: the value alone; its derivative is defined at distinct positions.
local meeting = scatter("mul", function(x, v) return x * v end, {4}, fixed({6}, {2, 3, 2, -3, 1, 3}), {6})
meeting.smooth = 0
table.insert(rows.scatter_mul.cases, meeting)

-- -- windows --------------------------------------------------------------------------------------------------------------

local function window(shape, starts, sizes)
  return {args = {shape, starts}, f = function(x, at) return x:dynamic_slice(at, sizes) end,
    ref = function(x, at)
      return build(sizes, function(p)
        local from = {}
        for i = 1, #p do from[i] = at.data[i] + p[i] - 1 end
        return get(x, from)
      end)
    end}
end
rows.dynamic_slice = {ulp = 0, cases = {window({7}, ids({1}, 1, 5), {3}), window({3, 5}, ids({2}, 1, 2), {2, 4}),
  window({3, 5}, fixed({2}, {1, 2}), {3, 1}), window({2, 3, 4}, ids({3}, 1, 1), {2, 3, 4}), window({4}, ids({1}, 1, 5), {0}),
  window({2, 4, 3}, {shape = {3}, dtype = "int64", values = {1, 2, 1}}, {2, 2, 3})}}

local function update(shape, starts, sizes)
  return {args = {shape, sizes, starts}, f = function(x, y, at) return x:dynamic_update_slice(y, at) end,
    ref = function(x, y, at)
      local z = copy(x)
      for p in tensor.positions(sizes) do
        local to = {}
        for i = 1, #p do to[i] = at.data[i] + p[i] - 1 end
        put(z, to, get(y, p))
      end
      return z
    end}
end
rows.dynamic_update_slice = {ulp = 0, cases = {update({7}, ids({1}, 1, 5), {3}), update({3, 5}, ids({2}, 1, 2), {2, 4}),
  update({3, 5}, fixed({2}, {1, 2}), {3, 1}), update({2, 3}, ids({2}, 1, 1), {2, 3}), update({4}, ids({1}, 1, 5), {0}),
  update({2, 4, 3}, {shape = {3}, dtype = "int64", values = {1, 2, 1}}, {2, 2, 3})}}

rows.dynamic_slice.cases[#rows.dynamic_slice.cases + 1] = {name = "with a Lua start", args = {{5}},
  f = function(x) return mlax.dynamic_slice(x, {mlax.array(2, "int32")}, {3}) end,
  ref = function(x) return {shape = {3}, data = part(x.data, 2, 4)} end}

return rows
