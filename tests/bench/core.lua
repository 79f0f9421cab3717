-- core.lua: the engine's own figures: calls, memory, the MLP's training step. Prints "name<TAB>microseconds" lines.
-- build/mlax tests/bench/core.lua [name...]: only these. Compare with peers: sh tests/bench/compare.
local mlax = require "mlax"

local only = {}
for _, name in ipairs(arg or {}) do only[name] = true end

-- The median over `rounds` of the time of one call, in microseconds.
local function median_us(rounds, n, f)
  local times = {}
  for r = 1, rounds do
    local start = os.clock()
    local wall = mlax.time(function() for _ = 1, n do f() end end)
    times[r] = math.min(wall, os.clock() - start + wall) / n * 1e6
  end
  table.sort(times)
  return times[(rounds + 1) // 2]
end

local function report(name, make, rounds, n)
  if next(only) and not only[name] then return end
  local f = make()
  for _ = 1, 3 do f() end
  print(("%s\t%.3f"):format(name, median_us(rounds, n, f)))
end

report("eager_add_10", function()
  local x, y = mlax.ones{10}, mlax.ones{10}
  return function() return x + y end
end, 15, 20000)

report("jit_call_1", function()
  local x = mlax.ones{1}
  local f = mlax.jit(function(v) return v + 1 end)
  return function() return f(x) end
end, 15, 20000)

report("eager_grad_tiny", function()
  local x = mlax.ones{3}
  local g = mlax.grad(function(v) return (v * v):sum() end)
  return function() return g(x) end
end, 15, 2000)

report("ones_1mb", function() return function() return mlax.ones{262144} end end, 15, 500)

report("zeros_4mb", function() return function() return mlax.zeros{1048576} end end, 15, 200)

report("mlp_step", function()
  local nn, F = mlax.nn, mlax.nn.functional
  local key = mlax.random.key(0)
  local k1, k2, k3, k4 = mlax.random.split(key, 4)
  local model = nn.Series{nn.Linear(k1, 512), nn.Bias(k1, -1), nn.F(F.relu), nn.Linear(k2, 512), nn.Bias(k2, -1), nn.F(F.relu),
                          nn.Linear(k3, 10), nn.Bias(k3, -1)}
  local x = mlax.random.normal(k4, {128, 784})
  local labels = mlax.random.randint(k4, {128}, 1, 10)
  local _
  _, model = model(x)
  local opt = mlax.optim.sgd(1e-2, {momentum = 0.9})
  local state = opt:init(model)
  local step = mlax.jit(function(m, s, input, target)
    local loss, grads = mlax.value_and_grad(function(p)
      return mlax.losses.softmax_cross_entropy_with_labels((p:apply(input)), target):mean()
    end)(m)
    local new, new_state = opt:step(m, grads, s)
    return new, new_state, loss
  end)
  return function()
    local loss
    model, state, loss = step(model, state, x, labels)
    return loss
  end
end, 15, 50)
