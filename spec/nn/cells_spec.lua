local mlax = require "mlax"
local helper = require "spec.helper"
local nn, random, tree = mlax.nn, mlax.random, mlax.tree
local near, message = helper.near, helper.message

local function sigmoid(v) return 1 / (1 + math.exp(-v)) end
local function tanh(v) return 2 * sigmoid(2 * v) - 1 end

-- x W + b for lists of Lua numbers
local function affine(x, w, b)
  local z = {}
  for j = 1, #b do
    z[j] = b[j]
    for i = 1, #x do z[j] = z[j] + x[i] * w[i][j] end
  end
  return z
end

local x, h, c = {0.5, -1, 2}, {0.1, -0.3}, {1, -0.5}

-- A cell whose parameters are all random, in float64.
local function filled(cell, input)
  cell(input)
  local i = 10
  return tree.map(function(p)
    i = i + 1
    return random.normal(random.key(i), p.shape, {dtype = "float64"})
  end, cell)
end

local function wide(t) return mlax.array(t, "float64") end

describe("nn.LSTMCell", function()
  local input = {wide(x), {wide(h), wide(c)}}
  local cell = filled(nn.LSTMCell(random.key(0), 2), input)

  it("is the step of its formula", function()
    local a = affine(x, cell.input_kernel.data:totable(), cell.bias_kernel.data:totable())
    local b = affine(h, cell.hidden_kernel.data:totable(), {0, 0, 0, 0, 0, 0, 0, 0})
    local new_h, new_c = {}, {}
    for j = 1, 2 do
      local function gate(k) return a[2 * k + j] + b[2 * k + j] end
      new_c[j] = sigmoid(gate(1)) * c[j] + sigmoid(gate(0)) * tanh(gate(2))
      new_h[j] = sigmoid(gate(3)) * tanh(new_c[j])
    end
    local r = cell(input)
    near(new_h, r[1], 1e-12)
    near(new_h, r[2][1], 1e-12)
    near(new_c, r[2][2], 1e-12)
  end)

  it("begins with lecun_normal kernels and no bias", function()
    local layer = nn.LSTMCell(random.key(5), 2)
    layer(input)
    local init = nn.initializers.lecun_normal()
    near(init(random.fold_in(random.key(5), 0), {3, 8}), layer.input_kernel.data)
    near(init(random.fold_in(random.key(5), 1), {2, 8}), layer.hidden_kernel.data)
    near(mlax.zeros{8}, layer.bias_kernel.data)
    assert.equal(3, #tree.leaves(layer))
  end)

  it("has the gradients of its formula, under jit and vmap too", function()
    local function f(v) return (cell({v, {wide(h), wide(c)}})[1] * wide{2, -1}):sum() end
    near(helper.differences(f, wide(x)), mlax.grad(f)(wide(x)), 1e-6)
    near(mlax.grad(f)(wide(x)), mlax.jit(mlax.grad(f))(wide(x)), 1e-12)
    local many = mlax.vmap(function(v) return cell({v, {wide(h), wide(c)}})[1] end)(wide{x, {1, 2, 3}})
    near(cell(input)[1], many[1], 1e-12)
  end)

  it("names what does not fit", function()
    local text = message(nn.Recurrent(nn.LSTMCell(random.key(0), 2)), {mlax.ones{4, 3}, {mlax.ones{5}, mlax.ones{2}}})
    assert.truthy(text:find("LSTMCell: h must be an array {..., 2} of floats (got float32[5])", 1, true))
    assert.truthy(text:find("cell", 1, true))
    assert.truthy(message(cell, {wide{1, 2}, {wide(h), wide(c)}}):find(
      "LSTMCell: x must be an array {..., 3} of floats (got float64[2])", 1, true))
    assert.truthy(message(cell, {wide(x), wide(h)}):find("LSTMCell: the input must be {x, {h, c}}", 1, true))
  end)
end)

describe("nn.GRUCell", function()
  local input = {wide(x), wide(h)}
  local cell = filled(nn.GRUCell(random.key(0), 2), input)

  it("is the step of its formula", function()
    local a = affine(x, cell.input_kernel.data:totable(), cell.bias_kernel.data:totable())
    local b = affine(h, cell.hidden_kernel.data:totable(), cell.hidden_bias_kernel.data:totable())
    local want = {}
    for j = 1, 2 do
      local r, z = sigmoid(a[j] + b[j]), sigmoid(a[2 + j] + b[2 + j])
      want[j] = (1 - z) * tanh(a[4 + j] + r * b[4 + j]) + z * h[j]
    end
    local r = cell(input)
    near(want, r[1], 1e-12)
    near(want, r[2], 1e-12)
  end)

  it("has the gradients of its formula", function()
    local function f(v) return (cell({wide(x), v})[1] * wide{2, -1}):sum() end
    near(helper.differences(f, wide(h)), mlax.grad(f)(wide(h)), 1e-6)
    near(mlax.grad(f)(wide(h)), mlax.jit(mlax.grad(f))(wide(h)), 1e-12)
  end)

  it("names what does not fit", function()
    assert.truthy(message(cell, {wide(x), wide{1}}):find("GRUCell: h must be an array {..., 2} of floats (got float64[1])", 1, true))
    assert.equal("GRUCell: size must be an integer of at least 1 (got 0)", message(nn.GRUCell, random.key(0), 0))
  end)
end)
