-- elementwise.lua: chains of elementwise operations over a million elements.
local bench = dofile((arg[0]:match("^(.*)/") or ".") .. "/support/bench.lua")
local mlax = require "mlax"

local N = 1000000
local key = mlax.random.key(0)

bench.add("gelu", function()
  local x = mlax.random.normal(key, {N})
  local f = mlax.jit(function(v) return mlax.nn.functional.gelu(v) end)
  return function() return f(x) end
end)

bench.add("adam", function()
  local params, grads = mlax.random.normal(key, {N}), mlax.random.normal(mlax.random.fold_in(key, 1), {N})
  local opt = mlax.optim.adam(1e-3)
  local state = opt:init(params)
  local step = mlax.jit(function(p, g, s) return opt:step(p, g, s) end, {donate_argnums = {1, 3}}) -- as the peers do
  return function()
    params, state = step(params, grads, state)
    return params
  end
end)

bench.run()
