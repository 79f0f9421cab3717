local mlax = require "mlax"
local helper = require "spec.helper"
local nn, random, tree = mlax.nn, mlax.random, mlax.tree
local near, message = helper.near, helper.message

local function paths(t)
  local list = {}
  for i, leaf in ipairs(tree.leaves_with_path(t)) do list[i] = leaf[1] end
  return list
end

describe("nn.Linear", function()
  local x = mlax.array{{1, 2, 3}, {4, 5, 6}}

  it("multiplies the last axis by a kernel made at the first call", function()
    local layer = nn.Linear(random.key(0), 2)
    assert.is_false(layer.initialized)
    local y, after = layer(x)
    assert.equal(layer, after)
    assert.same({"linear_kernel.data"}, paths(layer))
    near(x:matmul(layer.linear_kernel.data), y)
    near(nn.initializers.lecun_normal()(random.key(0), {3, 2}), layer.linear_kernel.data)
  end)

  it("stores {out, in} with transposed_kernel, the same numbers", function()
    local a, b = nn.Linear(random.key(0), 2), nn.Linear(random.key(0), 2, {transposed_kernel = true})
    near((a(x)), (b(x)))
    near(a.linear_kernel.data.T, b.linear_kernel.data)
  end)

  it("computes in the dtype of the input, and accumulates as asked", function()
    local layer = nn.Linear(random.key(0), 2)
    assert.equal("bfloat16", layer(x:astype("bfloat16")).dtype)
    assert.equal("float32", layer.linear_kernel.data.dtype)
    assert.equal("float64", layer(x:astype("float64")).dtype)
    assert.equal("float32", nn.Linear(random.key(0), 2, {accum_dtype = "float32"})(x:astype("float16")).dtype)
    local half = nn.Linear(random.key(0), 2, {dtype = "bfloat16"})
    assert.equal("float32", half(x).dtype)
    assert.equal("bfloat16", half.linear_kernel.data.dtype)
  end)

  it("takes an initializer written in Lua", function()
    local layer = nn.Linear(random.key(0), 2, {kernel_initializer = function(_, shape, dtype) return mlax.full(shape, 2, dtype) end})
    near({12, 12, 30, 30}, (layer(x)))
  end)

  it("names what is wrong", function()
    assert.equal("Linear: rng must be a key (got 7, need uint32[2] as random.key gives)", message(nn.Linear, 7, 2))
    assert.equal("Linear: out_features must be an integer of at least 0 (got 2.5)", message(nn.Linear, random.key(0), 2.5))
    assert.equal("Linear: unknown option 'dtpe', did you mean 'dtype'? "
      .. "(known: transposed_kernel, kernel_initializer, dtype, accum_dtype)", message(nn.Linear, random.key(0), 2, {dtpe = "float32"}))
    assert.equal('Linear: dtype must be a dtype (got "flaot32", did you mean \'float32\'?)',
      message(nn.Linear, random.key(0), 2, {dtype = "flaot32"}))
    local layer = nn.Linear(random.key(0), 2)
    assert.truthy(message(layer, mlax.ones({2, 3}, "int32")):find(
      "Linear: the input must be an array {..., in_features} of floats (got int32[2,3]), convert it with astype", 1, true))
    layer(x)
    assert.truthy(message(layer, mlax.ones{2, 4}):find("Linear: the last axis of the input must have length 3 (got float32[2,4])", 1, true))
  end)
end)

describe("nn.Bias and nn.Scaler", function()
  local x = mlax.range(1, 24):astype("float32"):reshape{2, 3, 4}
  local count = function(_, shape, dtype)
    local n = 1
    for _, length in ipairs(shape) do n = n * length end
    return mlax.range(1, n):reshape(shape):astype(dtype)
  end

  it("lie along the axes that in_features names", function()
    for _, case in ipairs{{-1, {4}, {1, 1, 4}}, {4, {4}, {1, 1, 4}}, {{-1, 0}, {3}, {1, 3, 1}}, {{1, -1}, {1, 4}, {1, 1, 4}},
                          {{-1, 0, 4}, {2, 4}, {2, 1, 4}}, {{}, {}, {1, 1, 1}}} do
      local bias = nn.Bias(random.key(0), case[1], {bias_initializer = count})
      local scaler = nn.Scaler(random.key(0), case[1], {scaler_initializer = count})
      local kernel = count(nil, case[2], "float32"):reshape(case[3])
      near(x + kernel, (bias(x)))
      near(x * kernel, (scaler(x)))
      assert.same(case[2], bias.bias_kernel.data.shape)
      assert.same(case[2], scaler.scaler_kernel.data.shape)
    end
  end)

  it("begin as zeros and ones", function()
    near(x, (nn.Bias(random.key(0), -1)(x)))
    near(x, (nn.Scaler(random.key(0), -1)(x)))
  end)

  it("keep the dtype of the input", function()
    assert.equal("bfloat16", nn.Bias(random.key(0), -1)(x:astype("bfloat16")).dtype)
  end)

  it("name what is wrong", function()
    assert.truthy(message(nn.Bias(random.key(0), 5), x):find(
      "Bias: in_features {5} do not fit the last axes of the input (got {2, 3, 4})", 1, true))
    assert.truthy(message(nn.Bias(random.key(0), {0, 0, 0, -1}), x):find("Bias: the input needs at least 4 axes", 1, true))
    assert.equal("Bias: in_features[2] must be an integer of at least -1 (got -2)", message(nn.Bias, random.key(0), {0, -2}))
  end)
end)

describe("nn.F", function()
  it("calls one function in training and another in inference", function()
    local layer = nn.F(function(x) return x * 2 end, function(x) return x * 3 end)
    near({2}, (layer(mlax.array{1})))
    near({3}, (layer(mlax.array{1}, nil, true)))
    assert.same({}, tree.leaves(layer))
  end)

  it("passes the batch axis name to a second parameter named axis_name", function()
    local seen
    local layer = nn.F(function(x, axis_name) seen = axis_name return x end)
    layer(mlax.array{1}, nil, false, "n")
    assert.equal("n", seen)
  end)

  it("FRng passes the key, and needs one in training", function()
    local layer = nn.FRng(function(x, rng) return x + random.uniform(rng, x.shape) end, nn.functional.identity)
    near(1 + random.uniform(random.key(4), {2}), (layer(mlax.ones{2}, random.key(4))))
    near({1, 1}, (layer(mlax.ones{2}, nil, true)))
    assert.truthy(message(layer, mlax.ones{2}):find("FRng: a key is needed in training: model(x, rng)", 1, true))
    assert.equal('FRng: train_fn must be a function (got "x")', message(nn.FRng, "x"))
  end)
end)

describe("nn.Series", function()
  local function add(v) return nn.F(function(x) return x + v end) end

  it("applies its layers in order and keeps a copy of the list", function()
    local list = {nn.F(function(x) return x * 2 end), add(1)}
    local model = nn.Series(list)
    list[3] = add(100)
    near({7}, (model(mlax.array{3})))
    assert.equal(2, #model.layers.data)
    assert.is_nil(model.layers.trainable)
  end)

  it("sets its layers up at the first call", function()
    local model = nn.Series{nn.Linear(random.key(0), 3), nn.Bias(random.key(1), -1)}
    local y, after = model(mlax.ones{2, 4})
    assert.equal(model, after)
    assert.same({2, 3}, y.shape)
    assert.is_true(model.layers.data[2].initialized)
    assert.same({"layers.data[1].linear_kernel.data", "layers.data[2].bias_kernel.data"}, paths(model))
  end)

  it("refuses layers that need a key, and what is no module", function()
    local model = nn.Series{add(1), nn.FRng(function(x) return x end)}
    assert.truthy(message(model, mlax.array{1}):find("Series: layers.data[2] needs a key, use SeriesRng", 1, true))
    assert.equal("Series: layers[1] must be a module (got a function), wrap it: nn.F(f)", message(nn.Series, {function() end}))
  end)

  it("SeriesRng folds the position among the layers that need keys into the key", function()
    local noise = function() return nn.FRng(function(x, rng) return x + random.uniform(rng, {}) end) end
    local u = function(key) return random.uniform(key, {}):item() end
    local key = random.key(9)
    near({u(key)}, (nn.SeriesRng{add(0), noise()}(mlax.array{0}, key)))
    near({u(random.fold_in(key, 0)) + u(random.fold_in(key, 1))}, (nn.SeriesRng{noise(), add(0), noise()}(mlax.array{0}, key)))
  end)
end)
