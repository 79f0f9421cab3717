local mlax = require "mlax"
local helper = require "spec.helper"
local optim = mlax.optim
local near, message = helper.near, helper.message

local function dot(a, b)
  local sum = 0
  for i = 1, #a do sum = sum + a[i] * b[i] end
  return sum
end

-- H g with H built from its definition, the BFGS update of a full matrix over the pairs that are remembered:
-- H <- (I - rho s y^T) H (I - rho y s^T) + rho s s^T
local function direction(g, pairs_, scale)
  local n, h = #g, {}
  for i = 1, n do
    h[i] = {}
    for j = 1, n do h[i][j] = i == j and scale or 0 end
  end
  for _, p in ipairs(pairs_) do
    local rho, new = 1 / dot(p.s, p.y), {}
    local function left(i, k) return (i == k and 1 or 0) - rho * p.s[i] * p.y[k] end
    for i = 1, n do
      new[i] = {}
      for j = 1, n do
        local sum = rho * p.s[i] * p.s[j]
        for k = 1, n do for l = 1, n do sum = sum + left(i, k) * h[k][l] * left(j, l) end end
        new[i][j] = sum
      end
    end
    h = new
  end
  local out = {}
  for i = 1, n do out[i] = dot(h[i], g) end
  return out
end

-- The gradient of (x1 - 1)^2 + 2 (x2 + x1^2 / 4)^2
local function gradient(x)
  local e = x[2] + x[1] ^ 2 / 4
  return {2 * (x[1] - 1) + 2 * e * x[1], 4 * e}
end

local function reference(x, steps, lr, size, scaled)
  local pairs_, before, trail = {}, nil, {}
  for t = 1, steps do
    local g = gradient(x)
    if before then
      pairs_[#pairs_ + 1] = {s = {x[1] - before.x[1], x[2] - before.x[2]}, y = {g[1] - before.g[1], g[2] - before.g[2]}}
      if #pairs_ > size then table.remove(pairs_, 1) end
    end
    local last, scale = pairs_[#pairs_], 1
    if scaled then scale = last and dot(last.s, last.y) / dot(last.y, last.y) or math.min(1, 1 / math.sqrt(dot(g, g))) end
    local d = direction(g, pairs_, scale)
    before = {x = x, g = g}
    x = {x[1] - lr * d[1], x[2] - lr * d[2]}
    trail[t] = x
  end
  return trail
end

local function run(opt, x, steps, step)
  local params = {a = mlax.array({x[1]}, "float64"), b = {mlax.array(x[2], "float64")}}
  local state, trail = opt:init(params), {}
  for t = 1, steps do
    local g = gradient{params.a[1]:item(), params.b[1]:item()}
    params, state = step(params, {a = mlax.array({g[1]}, "float64"), b = {mlax.array(g[2], "float64")}}, state)
    trail[t] = {params.a[1]:item(), params.b[1]:item()}
  end
  return trail
end

describe("optim.lbfgs", function()
  it("multiplies by the inverse Hessian of the steps that it remembers", function()
    for _, size in ipairs{1, 2, 10} do
      for _, scaled in ipairs{true, false} do
        local opt = optim.lbfgs(0.25, {memory_size = size, scale_init_precond = scaled})
        local function step(...) return opt:step(...) end
        local want = reference({2, 3}, 7, 0.25, size, scaled)
        near(want, run(opt, {2, 3}, 7, step), 1e-9)
        near(want, run(opt, {2, 3}, 7, mlax.jit(step)), 1e-9)
      end
    end
  end)

  it("stands still at a gradient of zero", function()
    local opt = optim.lbfgs(1)
    local params = {mlax.ones{2}}
    local state = opt:init(params)
    for _ = 1, 3 do params, state = opt:step(params, {mlax.zeros{2}}, state) end
    near({1, 1}, params[1])
  end)

  it("takes a schedule and keeps dtypes", function()
    local opt = optim.lbfgs(optim.exponential_decay(0.1, 10, 0.5))
    local params = {mlax.ones({2}, "bfloat16")}
    assert.equal("bfloat16", opt:step(params, params, opt:init(params))[1].dtype)
  end)

  it("refuses what makes no sense", function()
    assert.equal("lbfgs: memory_size must be an integer of at least 1 (got 0)", message(optim.lbfgs, 1, {memory_size = 0}))
    assert.truthy(message(optim.lbfgs, 1, {memory = 3}):find("lbfgs: unknown option 'memory'", 1, true))
    local opt = optim.lbfgs(1)
    assert.truthy(message(opt.update, opt, {mlax.ones{1}}, opt:init{mlax.ones{1}}):find("needs the parameters", 1, true))
  end)
end)
