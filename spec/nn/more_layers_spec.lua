local mlax = require "mlax"
local helper = require "spec.helper"
local nn, random, tree = mlax.nn, mlax.random, mlax.tree
local near, message = helper.near, helper.message

describe("nn.Dense", function()
  it("is Linear and Bias with keys of their own", function()
    local key, x = random.key(3), mlax.array{{1, 2}, {3, 4}}
    local bias = nn.initializers.normal(1)
    local y, layer = nn.Dense(key, 3, {bias_initializer = bias})(x)
    near(nn.initializers.lecun_normal()(random.fold_in(key, 0), {2, 3}), layer.linear.linear_kernel.data)
    near(bias(random.fold_in(key, 1), {3}), layer.bias.bias_kernel.data)
    near(x:matmul(layer.linear.linear_kernel.data) + layer.bias.bias_kernel.data, y)
  end)
end)

describe("nn.Dropout", function()
  it("draws in training and does nothing in inference", function()
    local x, layer = mlax.ones{4, 5}, nn.Dropout(0.5)
    near(nn.functional.dropout(x, random.key(1), 0.5, {1, 2}), (layer(x, random.key(1))))
    near(x, (layer(x, nil, true)))
    assert.truthy(message(layer, x):find("Dropout: a key is needed in training", 1, true))
    assert.equal("Dropout: rate must lie in [0, 1) (got 1.5)", message(nn.Dropout, 1.5))
  end)

  it("asks for a key in a container", function()
    assert.truthy(message(nn.Series{nn.Dropout(0.5)}, mlax.ones{2}):find("use SeriesRng", 1, true))
    assert.same({2}, (nn.SeriesRng{nn.Dropout(0.5)}(mlax.ones{2}, random.key(0))).shape)
  end)
end)

describe("normalising layers", function()
  local x = random.normal(random.key(0), {3, 8})

  it("begin as the functions", function()
    near(nn.functional.layer_norm(x, -1), (nn.LayerNorm(random.key(0))(x)))
    near(nn.functional.rms_norm(x, 2), (nn.RMSNorm(random.key(0))(x)))
    near(nn.functional.layer_norm(x, {1, 2}, {epsilon = 0.1}), (nn.LayerNorm(random.key(0), {axis = {1, 2}, epsilon = 0.1})(x)))
  end)

  it("have the parameters that are asked for", function()
    local function count(layer)
      layer(x)
      return #tree.leaves(layer)
    end
    assert.equal(2, count(nn.LayerNorm(random.key(0))))
    assert.equal(1, count(nn.LayerNorm(random.key(0), {scale = false})))
    assert.equal(1, count(nn.RMSNorm(random.key(0))))
    assert.equal(0, count(nn.RMSNorm(random.key(0), {scale = false})))
  end)

  it("GroupNorm normalises each group of channels over all other axes", function()
    local y = nn.GroupNorm(random.key(0), 2, {epsilon = 0})(x):reshape{3, 2, 4}
    near({0, 0}, y:mean({1, 3}), 1e-6)
    near({1, 1}, y:square():mean({1, 3}))
    assert.truthy(message(nn.GroupNorm(random.key(0), 3), x):find(
      "GroupNorm: the last axis of the input must be a multiple of 3 groups (got float32[3,8])", 1, true))
  end)
end)

describe("nn.Embed", function()
  it("gives a row for each id, which counts from 1", function()
    local y, layer = nn.Embed(random.key(0), 5, 3)(mlax.array({{1, 5}}, "int32"))
    local kernel = layer.embed_kernel.data
    near(mlax.stack({kernel[1], kernel[5]}, 1):reshape{1, 2, 3}, y)
    near(kernel[2], (layer(2)))
  end)

  it("raises for ids outside, or fills with NaN", function()
    local ids = mlax.array({1, 6}, "int32")
    assert.is_false(pcall(nn.Embed(random.key(0), 5, 3), ids))
    local y = nn.Embed(random.key(0), 5, 3, {mode = "fill"})(ids)
    assert.is_true(y[2]:isnan():all():item())
    assert.is_true(y[1]:isfinite():all():item())
    assert.equal('Embed: mode must be "error" or "fill" (got "clip")', message(nn.Embed, random.key(0), 5, 3, {mode = "clip"}))
    assert.truthy(message(nn.Embed(random.key(0), 5, 3), mlax.array{1}):find(
      "Embed: the input must be integers that count from 1 (got float32[1])", 1, true))
  end)
end)

describe("nn.Parallel", function()
  it("applies each layer to its input", function()
    local ys = nn.Parallel{nn.F(mlax.sin), nn.F(function(x) return x * 2 end)}({mlax.array{1}, mlax.array{3}})
    near({math.sin(1)}, ys[1])
    near({6}, ys[2])
  end)

  it("names numbers that differ and layers that need a key", function()
    assert.truthy(message(nn.Parallel{nn.F(mlax.sin)}, {1, 2}):find(
      "Parallel: the input must be a list with one entry a layer (got 2 entries, need 1)", 1, true))
    assert.truthy(message(nn.Parallel{nn.Dropout(0.5)}, {mlax.ones{1}}):find("use ParallelRng", 1, true))
  end)

  it("ParallelRng gives keys in order", function()
    local key = random.key(2)
    local draw = function() return nn.FRng(function(x, rng) return x + random.uniform(rng, {}) end) end
    local ys = nn.ParallelRng{draw(), nn.F(mlax.sin), draw()}({mlax.zeros{}, mlax.zeros{}, mlax.zeros{}}, key)
    near({random.uniform(random.fold_in(key, 0), {}):item(), 0, random.uniform(random.fold_in(key, 1), {}):item()},
      {ys[1]:item(), ys[2]:item(), ys[3]:item()})
  end)
end)
