--- The rows of control flow, custom rules and named axes; see drive.lua for the fields. References are loops over Lua numbers.
local mlax = require "mlax"
local tensor = require "spec.support.tensor"

local build, get, map, copy = tensor.build, tensor.get, tensor.map, tensor.copy
local wide = {"float32", "float64"}
local rows = {}

local function row_of(t, k) return build(table.move(t.shape, 2, #t.shape, 1, {}), function(at) return get(t, {k, table.unpack(at)}) end) end

local function stack(list, shape)
  return build({#list, table.unpack(shape)}, function(at) return get(list[at[1]], table.move(at, 2, #at, 1, {})) end)
end

rows.debug_print = {dtypes = wide, silent = true, cases = {{args = {{2, 3}}, ref = copy,
  f = function(x)
    mlax.debug.print("%s %g", x, x:sum())
    return x * 1
  end}}}

-- -- control flow ---------------------------------------------------------------------------------------------------------

local function step(c, x) return map(function(a, b) return math.sin(a) + b end, c, x) end

-- carry' = sin carry + x, y = carry' * carry, forwards or backwards.
local function scan(shape, n, reverse, unroll)
  return {name = reverse and "in reverse" or unroll and "unrolled" or nil, args = {shape, {n, table.unpack(shape)}},
    f = function(init, xs)
      return mlax.scan(function(c, x)
        local new = c:sin() + x
        return new, new * c
      end, init, xs, {reverse = reverse, unroll = unroll})
    end,
    ref = function(c, xs)
      local ys = {}
      for k = 1, n do
        local t = reverse and n + 1 - k or k
        local new = step(c, row_of(xs, t))
        ys[t] = map(function(a, b) return a * b end, new, c)
        c = new
      end
      return c, stack(ys, shape)
    end}
end
rows.scan = {dtypes = wide, ulp = 16, cases = {
  scan({}, 5), scan({}, 1), scan({2}, 3), scan({2}, 3, true), scan({2, 3}, 2), scan({0}, 3), scan({2}, 0), scan({2}, 3, false, true),
  {name = "with a constant and a count", args = {{2}, {2}},
    f = function(x, w) return mlax.fori_loop(1, 3, function(i, c) return c * w + i end, x) end,
    ref = function(x, w)
      for i = 1, 3 do x = map(function(c, v) return c * v + i end, x, w) end
      return x
    end},
  {name = "over trees, without ys", args = {{}, {3}},
    f = function(x, ys)
      local out = mlax.scan(function(c, t) return {a = c.a * t.y, n = c.n + 1}, nil end, {a = x, n = 0}, {y = ys})
      return out.a * out.n
    end,
    ref = function(x, ys)
      return map(function(v)
        for _, y in ipairs(ys.data) do v = v * y end
        return v * #ys.data
      end, x)
    end},
}}

-- Doubles until the sum of squares is 10 or more; forward mode alone.
local function doubled(x)
  local sum
  repeat
    sum = 0
    for _, v in ipairs(x.data) do sum = sum + v * v end
    if sum < 10 then x = map(function(v) return v * 2 end, x) end
  until sum >= 10
  return x
end
local function double(x)
  return mlax.while_loop(function(v) return (v * v):sum():lt(10) end, function(v) return v * 2 end, x)
end
rows.loop = {prints = "while", dtypes = wide, modes = "forward", domain = {0.3, 1.5}, f = double, ref = doubled, cases = {
  {args = {{}}}, {args = {{3}}}, {args = {{2, 2}}},
  {name = "with constants on both sides", args = {{2}, {}, {2}},
    f = function(x, limit, w)
      return mlax.while_loop(function(v) return v:sum():lt(limit + 4) end, function(v) return v + w:square() + 0.1 end, x)
    end,
    ref = function(x, limit, w)
      while x.data[1] + x.data[2] < limit.data[1] + 4 do x = map(function(v, u) return v + u * u + 0.1 end, x, w) end
      return x
    end},
  {name = "between traced bounds", args = {{}, {shape = {}, dtype = "int32", low = 0, high = 4}},
    f = function(x, n) return mlax.fori_loop(1, n, function(i, c) return c * 1.5 + i end, x) end,
    ref = function(x, n)
      return map(function(v)
        for i = 1, n.data[1] do v = v * 1.5 + i end
        return v
      end, x)
    end},
}}

local function chosen(f, g)
  return function(p, x, y) return map(function(a, b) if p.data[1] then return f(a, b) end return g(a, b) end, x, y) end
end
rows.branch = {dtypes = wide, cases = {
  {args = {{shape = {}, dtype = "bool"}, {3}, {}}, f = function(p, x, y)
    return mlax.cond(p, function(a, b) return a:sin() * b end, function(a, b) return a + b * b end, x, y)
  end, ref = chosen(function(a, b) return math.sin(a) * b end, function(a, b) return a + b * b end)},
  {name = "with captured values", args = {{shape = {1}, dtype = "bool"}, {2, 3}, {2, 3}}, f = function(p, x, y)
    return mlax.cond(p, function() return x * y end, function() return x - y end)
  end, ref = chosen(function(a, b) return a * b end, function(a, b) return a - b end)},
  {name = "of three", args = {{shape = {}, dtype = "int32", low = 1, high = 3}, {4}}, f = function(i, x)
    return mlax.switch(i, {function(v) return v:sin() end, function(v) return v * v end, function() return mlax.zeros_like(x) end}, x)
  end, ref = function(i, x) return map(function(v) return ({math.sin(v), v * v, 0.0})[i.data[1]] end, x) end},
}}

-- -- custom rules ---------------------------------------------------------------------------------------------------------

local function product(x, y) return map(function(a, b) return math.sin(a) * b end, x, y) end
local function compute(x, y) return x:sin() * y end
local operands = {{args = {{}, {}}}, {args = {{3}, {3}}}, {args = {{2, 3}, {2, 3}}}, {args = {{0}, {0}}}}

rows.checkpoint = {dtypes = wide, f = mlax.checkpoint(compute), ref = product, cases = operands}
rows.custom_jvp = {dtypes = wide, ref = product, cases = operands, f = mlax.custom_jvp(compute, function(p, t)
  return compute(p[1], p[2]), t[1] * p[1]:cos() * p[2] + t[2] * p[1]:sin()
end)}
rows.custom_vjp = {dtypes = wide, modes = "reverse", ref = product, cases = operands, f = mlax.custom_vjp(compute,
  function(x, y) return compute(x, y), {x, y} end,
  function(res, ct) return ct * res[1]:cos() * res[2], ct * res[1]:sin() end)}

-- What custom_vjp leaves on the tape; the way back takes it off again, so that no program shows it.
rows.custom_linear = {dtypes = wide, modes = "reverse", recorded = false, ref = product, cases = operands, f = rows.custom_vjp.f}

-- -- named axes -----------------------------------------------------------------------------------------------------------

-- f(x, "i") for each of x's rows, under a vmap that binds the name.
local function over(f) return function(x) return mlax.vmap(function(v) return f(v, "i") end, {axis_name = "i"})(x) end end

-- The program of one example, in which the axis is still to be reduced.
local function program_of(f)
  return function()
    local text
    mlax.vmap(function(v)
      text = tostring(mlax.program(function(w) return f(w, "i") end)(v))
      return v
    end, {axis_name = "i"})(mlax.ones{3, 2})
    return text
  end
end

-- Each row of the result is what g makes of the column.
local function collective(f, g, shapes)
  local cases = {}
  for k, s in ipairs(shapes or {{3}, {2, 3}, {1, 2}, {2, 0}}) do cases[k] = {args = {s}} end
  return {dtypes = wide, ulp = 8, f = over(f), recorded = program_of(f), cases = cases, ref = function(x)
    return build(x.shape, function(at)
      local column = {}
      for k = 1, x.shape[1] do column[k] = get(x, {k, table.unpack(at, 2)}) end
      return g(column, at[1])
    end)
  end}
end

rows.psum = collective(function(v, name) return mlax.psum(v:sin(), name) * v end, function(column, k)
  local sum = 0
  for _, v in ipairs(column) do sum = sum + math.sin(v) end
  return sum * column[k]
end)
rows.pmax = collective(function(v, name) return mlax.pmax(v, name) * v end, function(column, k)
  return math.max(table.unpack(column)) * column[k]
end)
rows.pmin = collective(function(v, name) return mlax.pmin(v, name) * v end, function(column, k)
  return math.min(table.unpack(column)) * column[k]
end)
rows.ppermute = collective(function(v, name) return mlax.ppermute(v, name, {{1, 2}, {2, 1}}) end, function(column, k)
  return k == 1 and column[2] or k == 2 and column[1] or 0.0
end, {{2}, {2, 3}, {3}, {4, 2}})
rows.axis_index = collective(function(v, name) return v * mlax.axis_index(name) end, function(column, k) return column[k] * k end)
rows.all_gather = {dtypes = wide, f = over(mlax.all_gather), recorded = program_of(mlax.all_gather), ref = function(x)
  local n = x.shape[1]
  return build({n, table.unpack(x.shape)}, function(at) return get(x, table.move(at, 2, #at, 1, {})) end)
end, cases = {{args = {{3}}}, {args = {{2, 3}}}, {args = {{1, 2}}}}}

-- jit keeps the name open until vmap binds it.
table.insert(rows.psum.cases, {name = "under jit under vmap", args = {{4}},
  f = function(x) return mlax.vmap(mlax.jit(function(v) return v - mlax.pmean(v, "j") end), {axis_name = "j"})(x) end,
  ref = function(x)
    local mean = 0
    for _, v in ipairs(x.data) do mean = mean + v / #x.data end
    local y = copy(x)
    for k, v in ipairs(x.data) do y.data[k] = v - mean end
    return y
  end})

return rows
