-- calls.lua: what a call costs when there is next to nothing to compute.
local bench = dofile((arg[0]:match("^(.*)/") or ".") .. "/support/bench.lua")
local mlax = require "mlax"

local nn, F, random = mlax.nn, mlax.nn.functional, mlax.random

-- mlax.ones would repeat one element; these are arrays like any other.
local function draw(n) return random.normal(random.key(0), {n}) end

bench.add("jit_call", function()
  local x = draw(1)
  local f = mlax.jit(function(v) return v + 1 end)
  return function() return f(x) end
end)

bench.add("eager_add", function()
  local x, y = draw(10), draw(10)
  return function() return x + y end
end)

bench.add("eager_grad", function()
  local x = draw(3)
  local g = mlax.grad(function(v) return (v * v):sum() end)
  return function() return g(x) end
end)

-- An 8-32-32-1 MLP with 16 examples.
local function tiny()
  local k = {random.split(random.key(0), 5)}
  local x, y = random.normal(k[4], {16, 8}), random.normal(k[5], {16, 1})
  local model = nn.Series{nn.Dense(k[1], 32), nn.F(F.relu), nn.Dense(k[2], 32), nn.F(F.relu), nn.Dense(k[3], 1)}
  model(x)
  return model, x, y
end

local function loss_of(model, x, y) return (model:apply(x) - y):square():mean() end

bench.add("tiny_train", function()
  local model, x, y = tiny()
  local opt = mlax.optim.sgd(1e-2)
  local state = opt:init(model)
  local step = mlax.jit(function(m, s, input, target)
    local loss, grads = mlax.value_and_grad(loss_of)(m, input, target)
    m, s = opt:step(m, grads, s)
    return m, s, loss
  end)
  return function()
    local loss
    model, state, loss = step(model, state, x, y)
    return loss
  end
end)

bench.add("vmap_grad", function()
  local model, x, y = tiny()
  local f = mlax.jit(mlax.vmap(mlax.grad(loss_of), {in_axes = {false, 1, 1}}))
  return function() return f(model, x, y) end
end)

bench.run()
