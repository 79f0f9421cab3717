local mlax = require "mlax"
local helper = require "spec.helper"
local losses = mlax.losses
local near, message = helper.near, helper.message

local function log_softmax(list)
  local total, out = 0, {}
  for _, v in ipairs(list) do total = total + math.exp(v) end
  for i, v in ipairs(list) do out[i] = v - math.log(total) end
  return out
end

describe("softmax_cross_entropy", function()
  local logits = {{1, -2, 0.5}, {0, 3, 0}}

  it("is minus the log-probability of the label, which counts from 1", function()
    local want = {-log_softmax(logits[1])[3], -log_softmax(logits[2])[1]}
    near(want, losses.softmax_cross_entropy_with_labels(mlax.array(logits), mlax.array({3, 1}, "int32")))
    near(want, losses.softmax_cross_entropy_with_labels(mlax.array(logits), mlax.array({3, 1}, "uint8")))
    near(want, losses.softmax_cross_entropy(mlax.array(logits), mlax.array{{0, 0, 1}, {1, 0, 0}}))
  end)

  it("takes one example", function()
    near({-log_softmax(logits[1])[2]}, losses.softmax_cross_entropy_with_labels(mlax.array(logits[1]), 2))
  end)

  it("has the gradient softmax - one hot", function()
    local g = mlax.grad(function(x) return losses.softmax_cross_entropy_with_labels(x, mlax.array({3, 1}, "int32")):sum() end)
    local x = mlax.array(logits, "float64")
    near(mlax.softmax(x, -1) - mlax.one_hot(mlax.array({3, 1}, "int32"), 3):astype("float64"), g(x), 1e-12)
  end)

  it("stays finite for large logits", function()
    near({2000}, losses.softmax_cross_entropy_with_labels(mlax.array{{1000, -1000}}, mlax.array({2}, "int32")))
  end)

  it("refuses labels outside the classes, and label 0", function()
    assert.is_false(pcall(losses.softmax_cross_entropy_with_labels, mlax.array(logits), mlax.array({4, 1}, "int32")))
    assert.is_false(pcall(losses.softmax_cross_entropy_with_labels, mlax.array(logits), mlax.array({0, 1}, "int32")))
  end)

  it("names shapes and dtypes that do not fit", function()
    assert.equal("softmax_cross_entropy_with_labels: labels must have the shape of logits without the last axis (got int32[3], need {2})",
      message(losses.softmax_cross_entropy_with_labels, mlax.array(logits), mlax.array({1, 2, 3}, "int32")))
    assert.equal("softmax_cross_entropy_with_labels: labels must be integers that count from 1 (got float32[2]), "
      .. 'convert them: labels:astype("int32")',
      message(losses.softmax_cross_entropy_with_labels, mlax.array(logits), mlax.array{1, 2}))
    assert.equal("softmax_cross_entropy: logits and probs must have the same shape (got float32[2,3] and float32[2])",
      message(losses.softmax_cross_entropy, mlax.array(logits), mlax.array{1, 2}))
  end)
end)

describe("elementwise losses", function()
  local x, y = {{1, -2}, {0.5, 3}}, {{0, -1.5}, {0.5, -1}}

  local function per_example(f)
    local want = {}
    for i = 1, 2 do want[i] = (f(x[i][1], y[i][1]) + f(x[i][2], y[i][2])) / 2 end
    return want
  end

  it("are means over all axes but the first", function()
    local a, b = mlax.array(x), mlax.array(y)
    near(per_example(function(u, v) return (u - v) ^ 2 end), losses.mse(a, b))
    near(per_example(function(u, v) return math.abs(u - v) end), losses.l1(a, b))
    near(per_example(function(u, v)
      local e = math.abs(u - v)
      return e <= 1 and e * e / 2 or e - 0.5
    end), losses.huber(a, b))
    near(per_example(function(u, v)
      local e = math.abs(u - v)
      return e <= 0.5 and e * e / 2 or 0.5 * (e - 0.25)
    end), losses.huber(a, b, {delta = 0.5}))
  end)

  it("leave one axis as it is", function()
    near({1, 4}, losses.mse(mlax.array{1, 2}, mlax.array{0, 0}))
  end)

  it("sigmoid_binary_cross_entropy takes floats and booleans", function()
    local function want(logit, label)
      local p = 1 / (1 + math.exp(-logit))
      return -label * math.log(p) - (1 - label) * math.log(1 - p)
    end
    near({want(1, 1), want(-2, 0)}, losses.sigmoid_binary_cross_entropy(mlax.array{1, -2}, mlax.array{true, false}))
    near({want(1, 0.25)}, losses.sigmoid_binary_cross_entropy(mlax.array{1}, mlax.array{0.25}))
    near({0, 1000}, losses.sigmoid_binary_cross_entropy(mlax.array{1000, 1000}, mlax.array{true, false}))
  end)

  it("hinge is 0 beyond the margin", function()
    near({0, 0.5, 3}, losses.hinge(mlax.array{2, 0.5, 2}, mlax.array({1, 1, -1}, "int32")))
  end)
end)

describe("distances of distributions and directions", function()
  it("kl_divergence", function()
    local want = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    near({want, math.log(2)}, losses.kl_divergence(mlax.array{{0.5, 0.5}, {0.5, 0.5}}:log(), mlax.array{{0.25, 0.75}, {1, 0}}))
  end)

  it("cosine_distance", function()
    near({0, 1, 2, 1}, losses.cosine_distance(mlax.array{{1, 1}, {1, 0}, {1, 2}, {0, 0}}, mlax.array{{2, 2}, {0, 3}, {-1, -2}, {1, 1}}))
    local g = mlax.grad(function(x) return losses.cosine_distance(x, mlax.ones{2}):sum() end)(mlax.zeros{2})
    assert.is_true(g:isfinite():all():item())
  end)
end)
