-- transforms.lua: what the transformations themselves cost. Prints "name<TAB>microseconds" lines, and for memory "name<TAB>bytes".
-- build/mlax tests/bench/transforms.lua [name...]: only these. Compare with peers: BENCH=transforms sh tests/bench/compare.
local mlax = require "mlax"

local only = {}
for _, name in ipairs(arg or {}) do only[name] = true end
local function wanted(name) return not next(only) or only[name] end

-- The median time of a call in microseconds.
local function report(name, make, rounds)
  if not wanted(name) then return end
  local f, times = make(), {}
  f()
  for r = 1, rounds do times[r] = mlax.time(f) * 1e6 end
  table.sort(times)
  print(("%s\t%.3f"):format(name, times[(rounds + 1) // 2]))
end

-- 10,000 equations: a program is traced, finished and planned anew at each call, and run.
report("trace_10000", function()
  local x = mlax.ones{8}
  local f = mlax.jit(function(v)
    for _ = 1, 5000 do v = (v * 0.999):sin() end
    return v
  end)
  return function()
    f:clear()
    return f(x)
  end
end, 7)

report("trace_grad_10000", function()
  local x = mlax.ones{8}
  local f = mlax.jit(mlax.grad(function(v)
    for _ = 1, 2000 do v = (v * 0.999):sin() end
    return v:sum()
  end))
  return function()
    f:clear()
    return f(x)
  end
end, 7)

-- h' = tanh(h W + x), 1,000 steps, 64 wide: the gradient by W and h.
local function cell_inputs()
  local k1, k2, k3 = mlax.random.split(mlax.random.key(0), 3)
  return mlax.random.normal(k1, {64, 64}) * 0.1, mlax.random.normal(k2, {64}), mlax.random.normal(k3, {1000, 64})
end
local function roll(w, h, xs)
  return mlax.scan(function(c, x) return (c:matmul(w) + x):tanh(), nil end, h, xs):sum()
end
report("scan_forward", function()
  local w, h, xs = cell_inputs()
  local f = mlax.jit(roll)
  return function() return f(w, h, xs):item() end
end, 15)
report("scan_grad", function()
  local w, h, xs = cell_inputs()
  local f = mlax.jit(mlax.grad(roll, {argnums = {1, 2}}))
  return function() return f(w, h, xs)[1][1][1]:item() end
end, 15)

-- Gradients for each of 256 examples of an MLP 64-128-10.
report("per_example_grads", function()
  local k1, k2, k3, k4 = mlax.random.split(mlax.random.key(0), 4)
  local params = {w1 = mlax.random.normal(k1, {64, 128}) * 0.1, b1 = mlax.zeros{128}, w2 = mlax.random.normal(k2, {128, 10}) * 0.1,
    b2 = mlax.zeros{10}}
  local x, y = mlax.random.normal(k3, {256, 64}), mlax.random.normal(k4, {256, 10})
  local function loss(p, v, t)
    local out = (v:matmul(p.w1) + p.b1):tanh():matmul(p.w2) + p.b2
    return (out - t):square():sum()
  end
  local f = mlax.jit(mlax.vmap(mlax.grad(loss), {in_axes = {false, 1, 1}}))
  return function() return f(params, x, y).b2[1][1]:item() end
end, 15)

-- The Hessian of Rosenbrock's function of 1,000 variables.
local function rosenbrock(x)
  local a, b = x["1:999"], x["2:1000"]
  return (100 * (b - a * a):square() + (1 - a):square()):sum()
end
report("hessian_1000", function()
  local x = mlax.linspace(-1, 1, 1000)
  local f = mlax.hessian(rosenbrock)
  return function() return f(x)[1][1]:item() end
end, 5)
report("jit_hessian_1000", function()
  local x = mlax.linspace(-1, 1, 1000)
  local f = mlax.jit(mlax.hessian(rosenbrock))
  return function() return f(x)[1][1]:item() end
end, 5)

-- The peak of the gradient of 64 layers of 256 x 256 values, each of several operations, plain and recomputed.
local function peak_of(wrap)
  local function layer(h) return ((h:sin() * h:cos()):tanh() + h:sigmoid() * 0.5) end
  local inner = wrap(layer)
  local function chain(h)
    for _ = 1, 64 do h = inner(h) end
    return h:sum()
  end
  mlax.grad(chain)(mlax.ones{256, 256})
  return mlax.memory().peak
end
-- The peak only grows: the smaller one first.
if wanted("checkpoint_peak") then
  print(("checkpoint_peak\t%d"):format(peak_of(mlax.checkpoint)))
  print(("chain_peak\t%d"):format(peak_of(function(f) return f end)))
end
