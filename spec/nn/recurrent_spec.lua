local mlax = require "mlax"
local helper = require "spec.helper"
local nn, random, tree = mlax.nn, mlax.random, mlax.tree
local near, message = helper.near, helper.message

-- h' = 0.5 h + x, y = h' - x
local function leak() return nn.F(function(xh) return {xh[2] * 0.5, xh[2] * 0.5 + xh[1]} end) end

local function expected(xs, h, reverse)
  local ys = {}
  for k = 1, #xs do
    local t = reverse and #xs + 1 - k or k
    ys[t], h = h * 0.5, h * 0.5 + xs[t]
  end
  return ys, h
end

describe("nn.Recurrent", function()
  local xs = {1, -2, 3, 0.5, 4, 1, 2}

  it("goes over the steps, in either direction and unrolled in any way", function()
    for _, reverse in ipairs{false, true} do
      local ys, last = expected(xs, 2, reverse)
      for _, unroll in ipairs{1, 2, 3, 6, 7, 20, true} do
        local model = nn.Recurrent(leak(), {reverse = reverse, unroll = unroll})
        for _ = 1, 2 do -- the first call sets the cell up
          local r = model({mlax.array(xs), mlax.array(2.0)})
          near(ys, r[1])
          near({last}, r[2])
        end
      end
    end
  end)

  it("takes a single step, and none once it is set up", function()
    local model = nn.Recurrent(leak())
    near({1}, model({mlax.ones{1}, mlax.array(2.0)})[1])
    local r = model({mlax.ones{0}, mlax.array(2.0)})
    assert.same({0}, r[1].shape)
    near({2}, r[2])
    assert.truthy(message(nn.Recurrent(leak()), {mlax.ones{0}, mlax.array(2.0)}):find(
      "Recurrent: the first input sets the cell up (got no steps, need at least 1)", 1, true))
  end)

  it("has the gradients of its steps, for the input and the parameters", function()
    local x = random.normal(random.key(1), {5, 2}, {dtype = "float64"})
    local h = mlax.array({0.1, -0.2, 0.3}, "float64")
    local model = nn.Recurrent(nn.GRUCell(random.key(2), 3))
    model({x, h})
    model = tree.map(function(p) return p:astype("float64") end, model)
    local function f(v) return model({v, h})[1]:square():sum() end
    near(helper.differences(f, x), mlax.grad(f)(x), 1e-6)
    local function g(w)
      local m = tree.map(function(p) return p end, model)
      m.cell.hidden_kernel.data = w
      return m({x, h})[1]:square():sum()
    end
    local w = model.cell.hidden_kernel.data
    near(helper.differences(g, w), mlax.grad(g)(w), 1e-6)
  end)

  it("is the same under jit and vmap", function()
    local x, h = random.normal(random.key(1), {4, 5, 2}), mlax.zeros{4, 3}
    local model = nn.Recurrent(nn.GRUCell(random.key(2), 3))
    model({x[1], h[1]})
    local over = mlax.vmap(function(v, s) return model({v, s})[1] end)
    local want = {}
    for i = 1, 4 do want[i] = model({x[i], h[i]})[1] end
    near(mlax.stack(want, 1), over(x, h))
    near(mlax.stack(want, 1), mlax.jit(over)(x, h))
  end)

  it("says what does not fit", function()
    assert.truthy(message(nn.Recurrent(nn.Dropout(0.5)), {mlax.ones{2}, mlax.ones{}}):find(
      "Recurrent: the cell needs a key, use RecurrentRng", 1, true))
    assert.truthy(message(nn.Recurrent, print):find("Recurrent: the cell must be a module (got a function)", 1, true))
    assert.truthy(message(nn.Recurrent(leak()), mlax.ones{3}):find("Recurrent: the input must be {xs, h}", 1, true))
    assert.truthy(message(nn.Recurrent(nn.F(function(xh) return xh[1] end)), {mlax.ones{2}, mlax.ones{}}):find(
      "Recurrent: the cell must give {y, h} (got", 1, true))
    assert.equal("Recurrent: unroll must be an integer of at least 1 (got 0)", message(nn.Recurrent, leak(), {unroll = 0}))
  end)
end)

describe("nn.RecurrentRng", function()
  it("gives step t the key fold_in(rng, t), from 0", function()
    local cell = nn.FRng(function(xh, rng) return {random.uniform(rng), xh[2] + xh[1]} end)
    for _, unroll in ipairs{1, 2, true} do
      local model = nn.RecurrentRng(cell, {unroll = unroll})
      for _ = 1, 2 do
        local r = model({mlax.ones{5}, mlax.zeros{}}, random.key(3))
        for t = 1, 5 do near({random.uniform(random.fold_in(random.key(3), t - 1)):item()}, r[1][t]) end
        near({5}, r[2])
      end
    end
  end)
end)
