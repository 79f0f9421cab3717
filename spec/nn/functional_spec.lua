local mlax = require "mlax"
local helper = require "spec.helper"
local F, random = mlax.nn.functional, mlax.random
local near, message = helper.near, helper.message

local function exp_sum(list)
  local total = 0
  for _, v in ipairs(list) do total = total + math.exp(v) end
  return total
end

-- erf by its series, for |x| < 3
local function erf(x)
  local term, sum = x, x
  for n = 1, 60 do
    term = -term * x * x / n
    sum = sum + term / (2 * n + 1)
  end
  return 2 / math.sqrt(math.pi) * sum
end

local function tanh(x) return (math.exp(x) - math.exp(-x)) / (math.exp(x) + math.exp(-x)) end
local function sigmoid(x) return 1 / (1 + math.exp(-x)) end

-- Each activation as a function of one Lua number.
local reference = {
  relu = function(x) return math.max(x, 0) end,
  relu6 = function(x) return math.min(math.max(x, 0), 6) end,
  elu = function(x) return x > 0 and x or math.exp(x) - 1 end,
  selu = function(x) return 1.0507009873554805 * (x > 0 and x or 1.6732632423543772 * (math.exp(x) - 1)) end,
  celu = function(x) return x > 0 and x or math.exp(x) - 1 end,
  leaky_relu = function(x) return x >= 0 and x or 0.01 * x end,
  gelu = function(x) return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ^ 3))) end,
  silu = function(x) return x * sigmoid(x) end,
  softplus = function(x) return math.log(1 + math.exp(x)) end,
  softsign = function(x) return x / (1 + math.abs(x)) end,
  hard_tanh = function(x) return math.max(-1, math.min(1, x)) end,
  hard_sigmoid = function(x) return math.max(0, math.min(6, x + 3)) / 6 end,
  hard_swish = function(x) return x * math.max(0, math.min(6, x + 3)) / 6 end,
  mish = function(x) return x * tanh(math.log(1 + math.exp(x))) end,
}

local points = {-2.75, -1.25, -0.5, 0.25, 0.75, 1.5, 2.5}

describe("activations", function()
  for name, f in pairs(reference) do
    it(name .. " has the values of its definition", function()
      local want = {}
      for i, x in ipairs(points) do want[i] = f(x) end
      near(want, F[name](mlax.array(points)))
    end)

    it(name .. " has the gradient of its definition", function()
      local x = mlax.array(points, "float64")
      local want = helper.differences(function(v) return F[name](v):sum() end, x)
      near(want, mlax.grad(function(v) return F[name](v):sum() end)(x), 1e-7)
    end)

    it(name .. " keeps shape and dtype, also of nothing", function()
      local y = F[name](mlax.zeros({2, 0}, "bfloat16"))
      assert.equal("bfloat16", y.dtype)
      assert.same({2, 0}, y.shape)
    end)

    it(name .. " refuses what it does not know", function()
      assert.truthy(message(F[name], mlax.array{1}, {nonsense = 1}):find("^" .. name .. ": ", 1))
      assert.equal(name .. ": x must be an array (got \"x\")", message(F[name], "x"))
    end)
  end

  it("gelu is exact with {approximate = false}", function()
    local want = {}
    for i, x in ipairs(points) do want[i] = 0.5 * x * (1 + erf(x / math.sqrt(2))) end
    near(want, F.gelu(mlax.array(points), {approximate = false}))
  end)

  it("take the options of their definitions", function()
    near({0.5 * (math.exp(-1) - 1), 2}, F.elu(mlax.array{-1, 2}, {alpha = 0.5}))
    near({2 * (math.exp(-0.5) - 1), 2}, F.celu(mlax.array{-1, 2}, {alpha = 2}))
    near({-0.2, 2}, F.leaky_relu(mlax.array{-1, 2}, {negative_slope = 0.2}))
  end)

  it("guess what an unknown option meant", function()
    assert.equal("elu: unknown option 'alpa', did you mean 'alpha'? (known: alpha)", message(F.elu, mlax.array{1}, {alpa = 2}))
  end)

  it("have no NaN in gradients far from zero", function()
    local x = mlax.array{-1e4, -100, 100, 1e4}
    for name in pairs(reference) do
      local g = mlax.grad(function(v) return F[name](v):sum() end)(x)
      assert.is_true(g:isfinite():all():item(), name)
    end
  end)

  it("relu has gradient 0 at 0 and keeps NaN", function()
    near({0}, mlax.grad(function(x) return F.relu(x):sum() end)(mlax.array{0}))
    near({0 / 0, 0, math.huge}, F.relu(mlax.array{0 / 0, -math.huge, math.huge}))
  end)

  it("glu gates one half of an axis by the other", function()
    near({1 * sigmoid(3), 2 * sigmoid(4)}, F.glu(mlax.array{1, 2, 3, 4}, 1))
    assert.equal("glu: axis 1 must have an even length (got 3)", message(F.glu, mlax.array{1, 2, 3}, 1))
    assert.equal("glu: axis is 0: axes count from 1, or from -1 backwards", message(F.glu, mlax.array{1, 2}, 0))
  end)
end)

describe("softmax", function()
  it("is exp(x) over its sum", function()
    local x = {1, -2, 0.5}
    local total = exp_sum(x)
    near({math.exp(1) / total, math.exp(-2) / total, math.exp(0.5) / total}, F.softmax(mlax.array(x)))
    near({1 - math.log(total), -2 - math.log(total), 0.5 - math.log(total)}, F.log_softmax(mlax.array(x)))
  end)

  it("works along any axis", function()
    near(F.softmax(mlax.array{{1, 3}, {2, 5}}.T).T, F.softmax(mlax.array{{1, 3}, {2, 5}}, 1))
  end)
end)

describe("normalisation", function()
  it("layer_norm gives mean 0 and variance 1", function()
    local y = F.layer_norm(mlax.array{{1, 2, 3, 6}}, -1, {epsilon = 0})
    near({0}, y:mean())
    near({1}, y:square():mean())
  end)

  it("rms_norm gives a mean square of 1", function()
    near({1}, F.rms_norm(mlax.array{1, 2, 3, 6}, 1):square():mean())
  end)

  it("z_norm takes words, numbers and lists", function()
    local x = random.normal(random.key(0), {2, 3, 4})
    near(F.z_norm(x, {1, 2}), F.z_norm(x, "channel_last"))
    near(F.z_norm(x, {2, 3}), F.z_norm(x, "channel_first"))
    near(F.z_norm(x, {1, 2, 3}), F.z_norm(x, "all"))
    near(F.z_norm(x, {2}), F.z_norm(x, -2))
    assert.equal("z_norm: unknown axis 'chanel_last' (known: all, channel_last, channel_first, a number, a list)",
      message(F.z_norm, x, "chanel_last"))
  end)
end)

describe("dropout", function()
  it("keeps about 1 - rate of the elements, divided by 1 - rate", function()
    local y = F.dropout(mlax.ones{100, 100}, random.key(1), 0.25, {1, 2})
    local kept = y:ne(0):astype("float32"):mean():item()
    assert.is_true(math.abs(kept - 0.75) < 0.02)
    near({1 / 0.75}, y:max())
  end)

  it("shares a draw along the axes that are not named", function()
    local y = F.dropout(mlax.ones{50, 4}, random.key(1), 0.5, 1)
    near(y:min(2), y:max(2))
  end)

  it("refuses a rate outside [0, 1) and a missing key", function()
    assert.equal("dropout: rate must lie in [0, 1) (got 1)", message(F.dropout, mlax.ones{2}, random.key(0), 1, 1))
    assert.equal("dropout: rng must be a key (got nil, need uint32[2] as random.key gives)", message(F.dropout, mlax.ones{2}, nil, 0.5, 1))
  end)
end)

describe("attention", function()
  local q, k, v = mlax.array{{1, 0}, {0, 2}}, mlax.array{{1, 1}, {0, 1}, {2, 0}}, mlax.array{{1}, {2}, {4}}

  it("has logits q k^T / sqrt(depth)", function()
    local s = math.sqrt(2)
    near({1 / s, 0, 2 / s, 2 / s, 2 / s, 0}, F.dot_product_attention_logits(q, k))
  end)

  it("sums values by the softmax of the logits", function()
    local s, want = math.sqrt(2), {}
    for i, logits in ipairs{{1 / s, 0, 2 / s}, {2 / s, 2 / s, 0}} do
      want[i] = (math.exp(logits[1]) + 2 * math.exp(logits[2]) + 4 * math.exp(logits[3])) / exp_sum(logits)
    end
    near(want, F.scaled_dot_product_attention(q, k, v))
  end)

  it("causal: the first query sees the first key only", function()
    near({1}, F.scaled_dot_product_attention(q, k, v, {causal = true})[1])
  end)

  it("a row that is masked out altogether gives equal weights", function()
    local mask = mlax.array{{false, false, false}, {true, false, false}}
    near({7 / 3, 1}, F.scaled_dot_product_attention(q, k, v, {mask = mask}))
  end)

  it("refuses depths that differ", function()
    assert.equal("dot_product_attention_logits: q and k must be {..., len, depth} of one depth (got float32[2,2] and float32[3,1])",
      message(F.dot_product_attention_logits, q, v))
  end)
end)
