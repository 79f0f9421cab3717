local mlax = require "mlax"
local helper = require "spec.helper"
local nn, random, tree = mlax.nn, mlax.random, mlax.tree
local near, message = helper.near, helper.message

-- Over the batch on axis 1, whose name is "n".
local function batched(inference_mode)
  return mlax.vmap(function(m, x) return m(x, nil, inference_mode, "n") end, {in_axes = {false, 1}, out_axes = {1, false}, axis_name = "n"})
end

-- Mean and variance of column j of a list of rows.
local function column(rows, j)
  local mean, variance = 0, 0
  for _, row in ipairs(rows) do mean = mean + row[j] / #rows end
  for _, row in ipairs(rows) do variance = variance + (row[j] - mean) ^ 2 / #rows end
  return mean, variance
end

describe("nn.ZNorm", function()
  local rows = {{1, 10}, {2, -3}, {4, 0.5}}
  local x = mlax.array(rows)

  it("normalises each channel over the batch, and keeps running statistics", function()
    local y, layer = batched(false)(nn.ZNorm(random.key(0), "channel_last", {momentum = 0.75, epsilon = 0.01}), x)
    for j = 1, 2 do
      local mean, variance = column(rows, j)
      for i = 1, 3 do near({(rows[i][j] - mean) / math.sqrt(variance + 0.01)}, y[{i, j}]) end
      near({0.25 * mean}, layer.moving_mean.data[j])
      near({0.75 + 0.25 * variance}, layer.moving_var.data[j])
    end
    assert.equal(2, #tree.leaves(layer))
  end)

  it("uses the running statistics in inference, and leaves them", function()
    local _, layer = batched(false)(nn.ZNorm(random.key(0), "channel_last"), x)
    local mean, variance = layer.moving_mean.data, layer.moving_var.data
    local y, after = batched(true)(layer, x)
    near((x - mean) / (variance + 1e-5):sqrt(), y)
    near(mean, after.moving_mean.data)
  end)

  it("sees the whole batch under jit, like eagerly", function()
    local layer = nn.ZNorm(random.key(0), "channel_last")
    local want, after = batched(false)(layer, x)
    local got, jitted = mlax.jit(batched(false))(layer, x)
    near(want, got)
    near(after.moving_var.data, jitted.moving_var.data)
  end)

  it("has the gradient of its formula", function()
    local wide = mlax.array(rows, "float64")
    local c = mlax.array({{1, -2}, {0.5, 3}, {2, 1}}, "float64")
    local function f(v)
      local y = batched(false)(nn.ZNorm(random.key(0), "channel_last", {dtype = "float64"}), v)
      return (y * c):sum()
    end
    near(helper.differences(f, wide), mlax.grad(f)(wide), 1e-6)
  end)

  it("names what does not fit", function()
    local model = nn.Series{nn.ZNorm(random.key(0), 1)}
    model(mlax.ones{4, 3})
    local text = message(model, mlax.ones{4, 2})
    assert.truthy(text:find("ZNorm: the axes that are not reduced must have the lengths {3} (got float32[4,2])", 1, true))
    assert.truthy(text:find("layers.data[1]", 1, true))
    assert.truthy(message(nn.ZNorm(random.key(0), 1), mlax.ones({3}, "int32")):find(
      "ZNorm: the input must be an array of floats (got int32[3])", 1, true))
    assert.truthy(message(nn.ZNorm, random.key(0)):find("ZNorm: axis is missing", 1, true))
    assert.is_false(pcall(nn.ZNorm(random.key(0), 1), mlax.ones{3}, nil, false, "nowhere"))
  end)
end)

describe("nn.BatchNorm", function()
  it("has a factor and a bias for each channel", function()
    local x = random.normal(random.key(1), {5, 2, 4})
    for axis, n in pairs{channel_last = 4, channel_first = 2} do
      local y, layer = batched(false)(nn.BatchNorm(random.key(0), {axis = axis}), x)
      assert.equal(n, layer.scaler.scaler_kernel.data.size)
      assert.equal(n, layer.bias.bias_kernel.data.size)
      near(batched(false)(nn.ZNorm(random.key(0), axis), x), y)
      layer.scaler.scaler_kernel.data = layer.scaler.scaler_kernel.data * 2
      layer.bias.bias_kernel.data = layer.bias.bias_kernel.data + 3
      near(y * 2 + 3, (batched(false)(layer, x)))
    end
  end)

  it("refuses unknown options", function()
    assert.truthy(message(nn.BatchNorm, random.key(0), {axes = 1}):find("BatchNorm: unknown option 'axes'", 1, true))
  end)
end)
