-- transforms.lua: what the transformations themselves cost, and loops made of them.
local bench = dofile((arg[0]:match("^(.*)/") or ".") .. "/support/bench.lua")
local mlax = require "mlax"

-- 10,000 equations: a program is traced, finished and planned anew at each call, and run.
bench.add("trace_10000", function()
  local x = mlax.ones{8}
  local f = mlax.jit(function(v)
    for _ = 1, 5000 do v = (v * 0.999):sin() end
    return v
  end)
  return function()
    f:clear()
    return f(x)
  end
end)

bench.add("trace_grad_10000", function()
  local x = mlax.ones{8}
  local f = mlax.jit(mlax.grad(function(v)
    for _ = 1, 2000 do v = (v * 0.999):sin() end
    return v:sum()
  end))
  return function()
    f:clear()
    return f(x)
  end
end)

-- h' = tanh(h W + x), 1,000 steps, 64 wide: the gradient by W and h.
local function cell_inputs()
  local k1, k2, k3 = mlax.random.split(mlax.random.key(0), 3)
  return mlax.random.normal(k1, {64, 64}) * 0.1, mlax.random.normal(k2, {64}), mlax.random.normal(k3, {1000, 64})
end
local function roll(w, h, xs)
  return mlax.scan(function(c, x) return (c:matmul(w) + x):tanh(), nil end, h, xs):sum()
end
bench.add("scan_forward", function()
  local w, h, xs = cell_inputs()
  local f = mlax.jit(roll)
  return function() return f(w, h, xs) end
end)
bench.add("scan_grad", function()
  local w, h, xs = cell_inputs()
  local f = mlax.jit(mlax.grad(roll, {argnums = {1, 2}}))
  return function() return f(w, h, xs) end
end)

-- Gradients for each of 256 examples of an MLP 64-128-10.
bench.add("per_example_grads", function()
  local k1, k2, k3, k4 = mlax.random.split(mlax.random.key(0), 4)
  local params = {w1 = mlax.random.normal(k1, {64, 128}) * 0.1, b1 = mlax.zeros{128}, w2 = mlax.random.normal(k2, {128, 10}) * 0.1,
    b2 = mlax.zeros{10}}
  local x, y = mlax.random.normal(k3, {256, 64}), mlax.random.normal(k4, {256, 10})
  local function loss(p, v, t)
    local out = (v:matmul(p.w1) + p.b1):tanh():matmul(p.w2) + p.b2
    return (out - t):square():sum()
  end
  local f = mlax.jit(mlax.vmap(mlax.grad(loss), {in_axes = {false, 1, 1}}))
  return function() return f(params, x, y) end
end)

-- The Hessian of Rosenbrock's function of 1,000 variables.
local function rosenbrock(x)
  local a, b = x["1:999"], x["2:1000"]
  return (100 * (b - a * a):square() + (1 - a):square()):sum()
end
bench.add("hessian_1000", function()
  local x = mlax.linspace(-1, 1, 1000)
  local f = mlax.hessian(rosenbrock)
  return function() return f(x) end
end)
bench.add("jit_hessian_1000", function()
  local x = mlax.linspace(-1, 1, 1000)
  local f = mlax.jit(mlax.hessian(rosenbrock))
  return function() return f(x) end
end)

-- The gradient of 64 layers of 256 x 256 values, each of several operations, plain and recomputed: the rows of memory tell them apart.
local function chain_grad(wrap)
  return function()
    local inner = wrap(function(h) return (h:sin() * h:cos()):tanh() + h:sigmoid() * 0.5 end)
    local f = mlax.grad(function(h)
      for _ = 1, 64 do h = inner(h) end
      return h:sum()
    end)
    local x = mlax.ones{256, 256}
    return function() return f(x) end
  end
end
bench.add("chain_grad", chain_grad(function(f) return f end), {once = true})
bench.add("checkpoint_grad", chain_grad(function(f) return mlax.checkpoint(f) end), {once = true})

bench.run()
