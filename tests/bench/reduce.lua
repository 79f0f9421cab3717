-- reduce.lua: sums, and what normalises rows.
local bench = dofile((arg[0]:match("^(.*)/") or ".") .. "/support/bench.lua")
local mlax = require "mlax"

local function draw(shape) return mlax.random.normal(mlax.random.key(0), shape) end

-- A jitted function of one array.
local function add(name, shape, f)
  bench.add(name, function()
    local x, g = draw(shape), mlax.jit(f)
    return function() return g(x) end
  end)
end

add("softmax", {4096, 1024}, function(x) return mlax.softmax(x, 2) end)
add("logsumexp", {4096, 4096}, function(x) return mlax.logsumexp(x, 2) end)
add("sum_all", {10000000}, function(x) return x:sum() end)
add("sum_rows", {4096, 4096}, function(x) return x:sum(2) end)
add("sum_columns", {4096, 4096}, function(x) return x:sum(1) end)

bench.add("layer_norm", function()
  local x, ct = draw{4096, 1024}, draw{4096, 1024}
  local scale, bias = draw{1024}, draw{1024}
  local f = mlax.jit(function(input, weight, offset, cotangent)
    local y, pullback = mlax.vjp(function(v, w, b) return mlax.nn.functional.layer_norm(v, -1) * w + b end, input, weight, offset)
    return y, pullback(cotangent)
  end)
  return function() return f(x, scale, bias, ct) end
end)

bench.run()
