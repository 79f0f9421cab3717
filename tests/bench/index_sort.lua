-- index_sort.lua: embedding, random numbers, order, scans and transposition.
local bench = dofile((arg[0]:match("^(.*)/") or ".") .. "/support/bench.lua")
local mlax = require "mlax"

local random = mlax.random
local key = random.key(0)

bench.add("embed", function()
  local table_of_rows = random.normal(key, {20000, 192})
  local ids = random.randint(random.key(1), {256, 32}, 1, 20000)
  local ct = random.normal(random.key(2), {256, 32, 192})
  local f = mlax.jit(function(rows, index, cotangent)
    local y, pullback = mlax.vjp(function(t) return mlax.take(t, index, 1) end, rows)
    return y, pullback(cotangent)
  end)
  return function() return f(table_of_rows, ids, ct) end
end)

bench.add("normal", function()
  local f = mlax.jit(function(k) return random.normal(k, {1000000}) end)
  return function() return f(key) end
end)

local function add(name, shape, f)
  bench.add(name, function()
    local x, g = random.normal(key, shape), mlax.jit(f)
    return function() return g(x) end
  end)
end

add("sort", {1000000}, function(x) return x:sort() end)
add("cumsum", {1000000}, function(x) return x:cumsum(1) end)
-- A transposition alone is a view: the flat shape asks for the copy.
add("transpose", {2048, 2048}, function(x) return x.T:reshape{2048 * 2048} end)

bench.run()
