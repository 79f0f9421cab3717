-- products.lua: matrix products.
local bench = dofile((arg[0]:match("^(.*)/") or ".") .. "/support/bench.lua")
local mlax = require "mlax"

local function add(name, shape, dtype)
  bench.add(name, function()
    local x, y = mlax.random.normal(mlax.random.key(0), shape), mlax.random.normal(mlax.random.key(1), shape)
    if dtype then x, y = x:astype(dtype), y:astype(dtype) end
    local f = mlax.jit(mlax.matmul)
    return function() return f(x, y) end
  end)
end

for _, n in ipairs{512, 1024, 2048} do add("matmul_" .. n, {n, n}) end
add("matmul_batched", {64, 128, 128})
add("matmul_bf16_1024", {1024, 1024}, "bfloat16")

bench.run()
