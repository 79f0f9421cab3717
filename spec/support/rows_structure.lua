--- The rows of shapes, reductions, scans, products and order; see drive.lua for the fields. References are naive loops.
local mlax = require "mlax"
local reference = require "spec.support.reference"
local tensor = require "spec.support.tensor"

local lax = mlax.lax
local build, get, along, copy = tensor.build, tensor.get, tensor.along, tensor.copy
local floats = tensor.floats

local rows = {}

local numbers = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32", "float64"}

-- at, with its k-th position changed.
local function with(at, k, v)
  local r = table.move(at, 1, #at, 1, {})
  r[k] = v
  return r
end

local function ids_spec(shape, low, high) return {shape = shape, dtype = "int32", low = low, high = high} end

-- -- shape ----------------------------------------------------------------------------------------------------------------

-- one_hot compares with a count along the last axis; tril with counts along two.
rows.iota = {cases = {
  {args = {ids_spec({2, 3}, 1, 4)}, out = "float32", dtypes = {"float32"}, f = function(ids) return mlax.one_hot(ids, 4) end,
    ref = function(ids) return build({2, 3, 4}, function(at) return get(ids, {at[1], at[2]}) == at[3] and 1.0 or 0.0 end) end},
  {args = {{3, 4}}, f = function(x) return x:tril() end,
    ref = function(x, dtype)
      local zero = dtype ~= "bool" and (tensor.is_float(dtype) and 0.0 or 0)
      return build({3, 4}, function(at) return at[2] <= at[1] and get(x, at) or zero end)
    end},
}}

local function broadcast(from, to)
  return {args = {from}, f = function(x) return x:broadcast_to(to) end,
    ref = function(x) return build(to, function(at) return tensor.broadcast_get(x, at) end) end}
end
rows.broadcast = {large = {broadcast({103, 1}, {103, 107})},
  cases = {broadcast({}, {3, 2}), broadcast({3}, {2, 3}), broadcast({2, 1, 3}, {2, 4, 3}), broadcast({1}, {0}),
  broadcast({1, 1}, {5, 1, 7}), broadcast({0}, {3, 0})}}

local function reshape(from, to)
  return {args = {from}, f = function(x) return x:reshape(to) end, ref = function(x) return {shape = to, data = x.data} end}
end
rows.reshape = {large = {reshape({103, 107}, {107, 103})},
  cases = {reshape({6}, {2, 3}), reshape({2, 3, 4}, {4, 6}), reshape({1}, {}), reshape({}, {1, 1}), reshape({2, 0}, {0, 5}),
  reshape({3, 5}, {5, 3}), reshape({7, 1, 3}, {21})}}

local function transpose(shape, axes)
  return {args = {shape}, f = function(x) return x:transpose(axes) end,
    ref = function(x)
      local to = {}
      for i, a in ipairs(axes) do to[i] = shape[a] end
      return build(to, function(at)
        local from = {}
        for i, a in ipairs(axes) do from[a] = at[i] end
        return get(x, from)
      end)
    end}
end
rows.transpose = {large = {transpose({103, 107}, {2, 1}), transpose({21, 33, 29}, {3, 1, 2})},
  cases = {transpose({3, 5}, {2, 1}), transpose({2, 3, 4}, {3, 1, 2}), transpose({2, 3, 4}, {1, 3, 2}),
  transpose({2, 0, 3}, {2, 3, 1}), transpose({2, 1, 3, 2}, {4, 2, 3, 1})}}

local function flip(shape, axes)
  return {args = {shape}, f = function(x) return x:flip(axes) end,
    ref = function(x)
      return build(shape, function(at)
        local from = table.move(at, 1, #at, 1, {})
        for _, a in ipairs(axes) do from[a] = shape[a] + 1 - at[a] end
        return get(x, from)
      end)
    end}
end
rows.reverse = {cases = {flip({7}, {1}), flip({3, 5}, {2}), flip({2, 3, 4}, {1, 3}), flip({0, 3}, {1, 2}), flip({1}, {1})}}

local function concat(axis, ...)
  return {args = {...}, f = function(...) return mlax.concat({...}, axis) end,
    ref = function(...)
      local parts = {...}
      parts[#parts] = nil -- the dtype
      local shape = table.move(parts[1].shape, 1, #parts[1].shape, 1, {})
      for i = 2, #parts do shape[axis] = shape[axis] + parts[i].shape[axis] end
      return build(shape, function(at)
        local k, i = at[axis], 1
        while k > parts[i].shape[axis] do k, i = k - parts[i].shape[axis], i + 1 end
        return get(parts[i], with(at, axis, k))
      end)
    end}
end
rows.concat = {large = {concat(2, {151, 60}, {151, 77}), concat(1, {60, 151}, {77, 151})},
  cases = {concat(1, {3}, {2}), concat(2, {2, 3}, {2, 1}, {2, 4}), concat(1, {0}, {3}), concat(2, {2, 0}, {2, 3}),
  concat(1, {2, 1, 3}, {1, 1, 3}), concat(1, {1}, {1})}}

local function pad(shape, widths)
  return {args = {shape, {}}, f = function(x, v) return x:pad(widths, {value = v}) end,
    ref = function(x, v)
      local to = {}
      for i, w in ipairs(widths) do to[i] = shape[i] + w[1] + w[2] end
      return build(to, function(at)
        local from = {}
        for i, w in ipairs(widths) do
          from[i] = at[i] - w[1]
          if from[i] < 1 or from[i] > shape[i] then return v.data[1] end
        end
        return get(x, from)
      end)
    end}
end
rows.pad = {large = {pad({103, 107}, {{2, 1}, {1, 3}})},
  cases = {pad({3}, {{1, 2}}), pad({2, 3}, {{0, 1}, {2, 0}}), pad({0}, {{2, 1}}), pad({1, 5}, {{3, 0}, {0, 0}}),
  pad({2, 0, 2}, {{1, 0}, {0, 2}, {0, 1}})}}

-- Per axis {first, last, step}; its transpose pads the interior.
local function slice(shape, ...)
  local parts = {...}
  return {args = {shape}, f = function(x) return x[parts] end,
    ref = function(x)
      local to = {}
      for i, p in ipairs(parts) do to[i] = math.max(0, (p[2] - p[1]) // (p[3] or 1) + 1) end
      return build(to, function(at)
        local from = {}
        for i, p in ipairs(parts) do from[i] = p[1] + (at[i] - 1) * (p[3] or 1) end
        return get(x, from)
      end)
    end}
end
rows.slice = {large = {slice({103, 107}, {2, 102, 2}, {107, 1, -3})},
  cases = {slice({7}, {2, 5}), slice({7}, {1, 7, 2}), slice({8}, {2, 7, 3}), slice({3, 5}, {2, 3}, {5, 1, -2}),
  slice({4, 4}, {3, 2}, {1, 4}), slice({2, 3, 4}, {1, 2}, {2, 2}, {1, 4, 3}), slice({1}, {1, 1})}}

-- -- reductions -----------------------------------------------------------------------------------------------------------

-- The lists of elements that share the positions of the axes that stay, reduced by f.
local function over(f, axes)
  local drop = {}
  for _, a in ipairs(axes) do drop[a] = true end
  return function(x, dtype)
    local keep, inner, rest, order = {}, {}, {}, {}
    for i, d in ipairs(x.shape) do
      if drop[i] then inner[#inner + 1] = d else keep[#keep + 1] = d end
    end
    return build(keep, function(at)
      rest = {}
      for within in tensor.positions(inner) do
        local k, w = 0, 0
        for i = 1, #x.shape do
          if drop[i] then w = w + 1 else k = k + 1 end
          order[i] = drop[i] and within[w] or at[k]
        end
        rest[#rest + 1] = get(x, order)
      end
      return f(rest, dtype)
    end)
  end
end

local function reduction(method, f, shapes)
  local cases = {}
  for i, s in ipairs(shapes or {{{}, {}}, {{7}, {1}}, {{33}, {1}}, {{3, 5}, {1}}, {{3, 5}, {2}}, {{3, 5}, {1, 2}}, {{2, 3, 4}, {1, 3}},
      {{2, 3, 4}, {2}}, {{2, 0, 3}, {1}}, {{1, 1}, {2}}}) do
    local shape, axes = s[1], s[2]
    cases[i] = {args = {shape}, f = function(x) return x[method](x, axes) end, ref = over(f, axes)}
  end
  local shape, axes = {2, 3, 4}, {2}
  cases[#cases + 1] = {name = "keepdims", args = {shape}, f = function(x) return x[method](x, axes, {keepdims = true}) end,
    ref = function(x, dtype) return {shape = {2, 1, 4}, data = over(f, axes)(x, dtype).data} end}
  return cases
end

local function widened(dtype)
  if dtype == "bool" or dtype == "int8" or dtype == "int16" then return "int32" end
  return (dtype == "uint8" or dtype == "uint16") and "uint32" or dtype
end

local function fold(f, init)
  return function(list, dtype)
    local y = (tensor.is_float(dtype) and init + 0.0) or init
    for _, v in ipairs(list) do
      if dtype == "bool" then v = v and 1 or 0 end
      y = f(y, v)
    end
    return y
  end
end
local empty = {{{}, {}}, {{7}, {1}}, {{33}, {1}}, {{3, 5}, {1}}, {{3, 5}, {2}}, {{3, 5}, {1, 2}}, {{2, 3, 4}, {1, 3}}, {{2, 3, 4}, {2}},
  {{2, 0, 3}, {1}}, {{1, 1}, {2}}, {{0}, {1}}, {{2, 0}, {2}}, {{2, 0, 3}, {1, 2}}}
-- Long and short axes, of both kinds.
local big = {{{103, 107}, {1}}, {{103, 107}, {2}}, {{103, 107}, {1, 2}}, {{3, 4001}, {2}}, {{4001, 3}, {1}}, {{10007}, {1}}}
rows.reduce_sum = {out = widened, ulp = 16, cases = reduction("sum", fold(function(a, b) return a + b end, 0), empty)}
rows.reduce_prod = {out = widened, ulp = {float16 = 40, bfloat16 = 40, float32 = 40, float64 = 40}, domain = {-1.4, 1.4},
  cases = reduction("prod", fold(function(a, b) return a * b end, 1), empty)}
rows.reduce_sum.large = reduction("sum", fold(function(a, b) return a + b end, 0), big)
for _, case in ipairs(rows.reduce_sum.large) do case.ulp, case.domain = 64, {0, 2} end

local function best(better)
  return function(list, dtype)
    local y = list[1]
    for _, v in ipairs(list) do if better(v, y, dtype) then y = v end end
    return y
  end
end
local function greater(a, b, dtype)
  if dtype == "bool" then return a and not b end
  if tensor.is_unsigned(dtype) then return math.ult(b, a) end
  return a > b
end
local function lesser(a, b, dtype) return greater(b, a, dtype) end
rows.reduce_max = {ulp = 0, cases = reduction("max", best(greater))}
rows.reduce_min = {ulp = 0, cases = reduction("min", best(lesser))}
rows.reduce_max.large = reduction("max", best(greater), big)
rows.reduce_min.large = reduction("min", best(lesser), big)

-- reduce_any of a dtype that is no bool asks which elements are not 0.
local function truth(v) return v ~= false and v ~= 0 end
local function any(list)
  for _, v in ipairs(list) do if truth(v) then return true end end
  return false
end
local function every(list)
  for _, v in ipairs(list) do if not truth(v) then return false end end
  return true
end
rows.reduce_any = {out = "bool", int_domain = {0, 1}, cases = reduction("any", any, empty)}
rows.reduce_all = {out = "bool", int_domain = {0, 1}, cases = reduction("all", every, empty)}
rows.reduce_any.large = reduction("any", any, big)
rows.reduce_all.large = reduction("all", every, big)

local function first_place(better)
  return function(list, dtype)
    local p = 1
    for k, v in ipairs(list) do if better(v, list[p], dtype) then p = k end end
    return p
  end
end
local positions = {{{7}, {1}}, {{33}, {1}}, {{3, 5}, {1}}, {{3, 5}, {2}}, {{2, 3, 4}, {2}}, {{2, 0, 3}, {1}}, {{1, 1}, {2}}}
local function position(method, better, shapes)
  local cases = {}
  for i, s in ipairs(shapes) do
    local axis = s[2][1]
    cases[i] = {args = {s[1]}, f = function(x) return x[method](x, axis) end,
      ref = function(x, dtype) return along(x, axis, function(list) return first_place(better)(list, dtype) end, true) end}
  end
  return {out = "int32", int_domain = {0, 3}, cases = cases}
end
rows.argmax = position("argmax", greater, positions)
rows.argmin = position("argmin", lesser, positions)
local long = {{{103, 107}, {1}}, {{103, 107}, {2}}, {{10007}, {1}}}
rows.argmax.large = position("argmax", greater, long).cases
rows.argmin.large = position("argmin", lesser, long).cases

-- -- scans and normalisations ---------------------------------------------------------------------------------------------

local function scanned(f)
  return function(list, dtype)
    local out = {}
    for k, v in ipairs(list) do
      if k == 1 then out[k] = v else out[k] = f(out[k - 1], v, dtype) end
    end
    return out
  end
end

local function backwards(f)
  return function(list, dtype)
    local turned = {}
    for k, v in ipairs(list) do turned[#list + 1 - k] = v end
    local y = f(turned, dtype)
    for k = 1, #y // 2 do y[k], y[#y + 1 - k] = y[#y + 1 - k], y[k] end
    return y
  end
end

local function scan(method, f, shapes)
  local cases = {}
  for _, s in ipairs(shapes or {{{7}, 1}, {{33}, 1}, {{3, 5}, 1}, {{3, 5}, 2}, {{2, 3, 4}, 2}, {{0}, 1}, {{2, 0}, 1}, {{1, 1}, 2}}) do
    local shape, axis = s[1], s[2]
    for _, reverse in ipairs{false, true} do
      local g = scanned(f)
      if reverse then g = backwards(g) end
      cases[#cases + 1] = {name = reverse and "in reverse" or nil, args = {shape},
        f = function(x) return x[method](x, axis, {reverse = reverse}) end,
        ref = function(x, dtype) return #x.data == 0 and copy(x) or along(x, axis, function(list) return g(list, dtype) end) end}
    end
  end
  return cases
end
rows.cumsum = {dtypes = numbers, ulp = 32, cases = scan("cumsum", function(a, b) return a + b end)}
rows.cumprod = {dtypes = numbers, ulp = 40, domain = {-1.3, 1.3}, cases = scan("cumprod", function(a, b) return a * b end)}
local function running(better)
  return function(a, b, dtype)
    if better(b, a, dtype) then return b end
    return a
  end
end
rows.cummax = {ulp = 0, cases = scan("cummax", running(greater))}
rows.cummin = {ulp = 0, cases = scan("cummin", running(lesser))}
local lines = {{{103, 107}, 1}, {{103, 107}, 2}, {{10007}, 1}}
rows.cummax.large, rows.cummin.large = scan("cummax", running(greater), lines), scan("cummin", running(lesser), lines)
rows.cumsum.large = scan("cumsum", function(a, b) return a + b end, lines)
for _, case in ipairs(rows.cumsum.large) do case.ulp, case.domain = 512, {0, 2} end

local function normalised(method, f, drop)
  local cases, large = {}, {}
  local shapes = {{{7}, 1}, {{33}, 1}, {{3, 5}, 1}, {{3, 5}, 2}, {{2, 3, 4}, 2}, {{2, 0, 3}, 1}, {{1, 1}, 2}, {{3, 17}, 2}}
  for i, s in ipairs(table.move(lines, 1, #lines, #shapes + 1, shapes)) do
    local axis = s[2]
    local list = i > 8 and large or cases
    list[#list + 1] = {args = {s[1]}, f = function(x) return x[method](x, axis) end,
      ref = function(x) return not drop and #x.data == 0 and copy(x) or along(x, axis, f, drop) end}
  end
  return {dtypes = floats, ulp = 16, cases = cases, large = large}
end
local function less_sum(list)
  local sum, out = reference.logsumexp(list), {}
  for k, v in ipairs(list) do out[k] = v - sum end
  return out
end
rows.logsumexp = normalised("logsumexp", reference.logsumexp, true)
rows.log_softmax = normalised("log_softmax", less_sum)
rows.softmax = normalised("softmax", function(list)
  local out = less_sum(list)
  for k, v in ipairs(out) do out[k] = math.exp(v) end
  return out
end)

-- -- products -------------------------------------------------------------------------------------------------------------

local function has(list, v)
  for _, w in ipairs(list) do if w == v then return true end end
  return false
end

-- Sum over the contracted positions; the result's axes are batch, x's free, y's free.
local function product(x, y, contract, batch)
  local shape, inner = {}, {}
  for _, a in ipairs(batch[1]) do shape[#shape + 1] = x.shape[a] end
  for _, a in ipairs(contract[1]) do inner[#inner + 1] = x.shape[a] end
  local function free(t, k)
    local list = {}
    for a = 1, #t.shape do
      if not has(contract[k], a) and not has(batch[k], a) then
        shape[#shape + 1] = t.shape[a]
        list[#list + 1] = {a, #shape}
      end
    end
    return list
  end
  local free_x, free_y = free(x, 1), free(y, 2)
  local function pick(t, k, own, at, within)
    local p = {}
    for i, a in ipairs(batch[k]) do p[a] = at[i] end
    for i, a in ipairs(contract[k]) do p[a] = within[i] end
    for _, f in ipairs(own) do p[f[1]] = at[f[2]] end
    return get(t, p)
  end
  return build(shape, function(at)
    local sum = 0
    for within in tensor.positions(inner) do sum = sum + pick(x, 1, free_x, at, within) * pick(y, 2, free_y, at, within) end
    return sum
  end)
end

local function dot(x, y, contract, batch, accum)
  batch = batch or {{}, {}}
  return {args = {x, y}, out = accum,
    f = function(a, b) return lax.dot_general(a, b, {contract = contract, batch = batch, accum_dtype = accum}) end,
    ref = function(a, b) return product(a, b, contract, batch) end}
end
rows.dot_general = {dtypes = numbers, ulp = 32, int_domain = {-5, 5}, cases = {
  dot({3}, {3}, {{1}, {1}}), dot({3, 4}, {4}, {{2}, {1}}), dot({4}, {4, 2}, {{1}, {1}}), dot({2, 3}, {3, 4}, {{2}, {1}}),
  dot({3, 2}, {4, 3}, {{1}, {2}}), dot({2, 3, 4}, {2, 4, 5}, {{3}, {2}}, {{1}, {1}}), dot({3, 2, 4}, {4, 5, 2}, {{3}, {1}}, {{2}, {3}}),
  dot({2, 3, 4}, {3, 4, 2}, {{2, 3}, {1, 2}}), dot({2}, {3}, {{}, {}}), dot({}, {3}, {{}, {}}), dot({5}, {5}, {{}, {}}, {{1}, {1}}),
  dot({0, 3}, {3, 2}, {{2}, {1}}), dot({2, 0}, {0, 3}, {{2}, {1}}), dot({1, 1}, {1, 1}, {{2}, {1}}), dot({17, 9}, {9, 5}, {{2}, {1}}),
}}
rows.dot_general.large = {dot({37, 41}, {41, 29}, {{2}, {1}}), dot({1, 101}, {101, 103}, {{2}, {1}}), dot({103, 101}, {101}, {{2}, {1}}),
  dot({41, 37}, {29, 41}, {{1}, {2}}), dot({5, 17, 33}, {5, 33, 11}, {{3}, {2}}, {{1}, {1}}), dot({10007}, {10007}, {{1}, {1}}),
  dot({101, 2}, {2, 103}, {{2}, {1}})}
for _, case in ipairs(rows.dot_general.large) do case.ulp, case.domain = 256, {0, 1} end
local accum = dot({3, 7}, {7, 2}, {{2}, {1}}, nil, "float32")
accum.dtypes, accum.name = {"float16", "bfloat16", "float32"}, "into float32"
table.insert(rows.dot_general.cases, accum)

-- -- order ----------------------------------------------------------------------------------------------------------------

-- Positions in rising order, stable.
local function order(list, dtype)
  local places = {}
  for k = 1, #list do places[k] = k end
  table.sort(places, function(a, b)
    if lesser(list[a], list[b], dtype) then return true end
    return not lesser(list[b], list[a], dtype) and a < b
  end)
  return places
end

local function typed(t, dtype)
  t.dtype = dtype
  return t
end

local function sorted(list, dtype)
  local out = {}
  for k, p in ipairs(order(list, dtype)) do out[k] = list[p] end
  return out
end

rows.sort = {ulp = 0, int_domain = {0, 6}, cases = {}, large = {}}
for k, s in ipairs{{{7}, 1}, {{33}, 1}, {{3, 5}, 1}, {{3, 5}, 2}, {{2, 3, 4}, 2}, {{1}, 1}, {{0}, 1}, {{2, 0}, 1}, {{151, 37}, 1},
    {{151, 37}, 2}, {{5003}, 1}} do
  local shape, axis = s[1], s[2]
  local cases = k > 8 and rows.sort.large or rows.sort.cases
  local function apply(f)
    return function(x, dtype)
      if #x.data == 0 then return copy(x) end
      return along(x, axis, function(list) return f(list, dtype) end)
    end
  end
  table.insert(cases, {args = {shape}, f = function(x) return x:sort(axis) end, ref = apply(sorted)})
  table.insert(cases,
    {name = "argsort", args = {shape}, out = "int32", f = function(x) return x:argsort(axis) end, ref = apply(order)})
end
-- The k greatest, of equal ones the first.
local function top_places(list, dtype, k)
  local places = {}
  for i = 1, #list do places[i] = i end
  table.sort(places, function(a, b)
    if greater(list[a], list[b], dtype) then return true end
    return not greater(list[b], list[a], dtype) and a < b
  end)
  return table.move(places, 1, k, 1, {})
end
for _, s in ipairs{{{6}, 3}, {{3, 5}, 2}, {{2, 4}, 4}, {{2, 4}, 0}} do
  local shape, k = s[1], s[2]
  table.insert(rows.sort.cases, {name = "top_k", args = {shape}, f = function(x) return x:top_k(k) end,
    ref = function(x, dtype)
      if k == 0 then return {shape = {2, 0}, data = {}}, {shape = {2, 0}, data = {}, dtype = "int32"} end
      local places = along(x, #shape, function(list) return top_places(list, dtype, k) end)
      local values = along(x, #shape, function(list)
        local out = {}
        for i, p in ipairs(top_places(list, dtype, k)) do out[i] = list[p] end
        return out
      end)
      return values, typed(places, "int32")
    end})
end

rows.searchsorted = {smooth = 0, out = "int32", dtypes = numbers, cases = {}}
for _, side in ipairs{"left", "right"} do
  for _, s in ipairs{{{5}, {4}}, {{5}, {}}, {{1}, {2, 3}}, {{0}, {3}}, {{9}, {0}}} do
    -- The sorted operand is sorted on the way, so that any sample will do.
    table.insert(rows.searchsorted.cases, {name = side, args = {s[1], s[2]}, int_domain = {0, 6},
      f = function(x, v) return mlax.searchsorted(x:sort(1), v, {side = side}) end,
      ref = function(x, v)
        return tensor.map(function(w)
          local n = 1
          for _, e in ipairs(x.data) do if e < w or side == "right" and e == w then n = n + 1 end end
          return n
        end, v)
      end})
  end
end

local function threefry_bits(n, dtype)
  return {args = {{shape = {2}, dtype = "uint32", low = 0, high = 0xffffffff}}, dtypes = {"uint32"}, out = dtype,
    f = function(key) return mlax.random.bits(key, {n}, dtype) end,
    ref = function(key)
      return build({n}, function(at)
        local a, b = reference.threefry(key.data[1], key.data[2], 0, at[1] - 1)
        if dtype == "uint64" then return (a << 32) | b end
        return a ~ b
      end)
    end}
end
rows.threefry2x32 = {cases = {threefry_bits(1, "uint32"), threefry_bits(7, "uint32"), threefry_bits(0, "uint32"),
  threefry_bits(33, "uint32"), threefry_bits(5, "uint64"), threefry_bits(5, "uint8"), threefry_bits(5, "uint16")}}
rows.threefry2x32.large = {threefry_bits(10007, "uint32")}

return rows
