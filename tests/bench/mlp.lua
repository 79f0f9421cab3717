-- mlp.lua: the multilayer perceptron of lua/examples/mlp.lua: a training step, and inference of one example.
local bench = dofile((arg[0]:match("^(.*)/") or ".") .. "/support/bench.lua")
local mlax = require "mlax"

local nn, F, random = mlax.nn, mlax.nn.functional, mlax.random

local function make(batch)
  local k = {random.split(random.key(0), 5)}
  local model = nn.Series{nn.Dense(k[1], 512), nn.F(F.relu), nn.Dense(k[2], 512), nn.F(F.relu), nn.Dense(k[3], 10)}
  local x, labels = random.normal(k[4], {batch, 784}), random.randint(k[5], {batch}, 1, 10)
  model(x)
  return model, x, labels
end

bench.add("mlp_train", function()
  local model, x, labels = make(128)
  local opt = mlax.optim.sgd(1e-2, {momentum = 0.9})
  local state = opt:init(model)
  local step = mlax.jit(function(m, s, input, target)
    local loss, grads = mlax.value_and_grad(function(p)
      return mlax.losses.softmax_cross_entropy_with_labels((p:apply(input)), target):mean()
    end)(m)
    m, s = opt:step(m, grads, s)
    return m, s, loss
  end)
  return function()
    local loss
    model, state, loss = step(model, state, x, labels)
    return loss
  end
end, {once = true})

bench.add("mlp_infer", function()
  local model, x = make(1)
  local f = mlax.jit(function(m, input) return (m:apply(input, nil, true)) end)
  return function() return f(model, x) end
end)

bench.run()
