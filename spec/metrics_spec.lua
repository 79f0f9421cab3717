local mlax = require "mlax"
local helper = require "spec.helper"
local metrics = mlax.metrics
local near, message = helper.near, helper.message

local scores = mlax.array{{0.1, 0.7, 0.2}, {0.9, 0.05, 0.05}, {0.2, 0.3, 0.5}, {0.4, 0.5, 0.1}}
local labels = mlax.array({2, 1, 1, 1}, "int32")

describe("metrics", function()
  it("accuracy is the share of first places", function()
    near({0.5}, metrics.accuracy(scores, labels))
    assert.same({}, metrics.accuracy(scores, labels).shape)
  end)

  it("top_k_accuracy looks at the k best", function()
    near({0.5}, metrics.top_k_accuracy(scores, labels, 1))
    near({0.75}, metrics.top_k_accuracy(scores, labels, 2))
    near({1}, metrics.top_k_accuracy(scores, labels, 3))
  end)

  it("confusion_matrix counts labels by rows", function()
    local m = metrics.confusion_matrix(scores:argmax(2), labels, 3)
    assert.equal("int32", m.dtype)
    near({1, 1, 1, 0, 1, 0, 0, 0, 0}, m)
  end)

  it("precision, recall and f1 count booleans", function()
    local predicted, actual = mlax.array{true, true, false, true, false}, mlax.array{true, false, true, true, false}
    near({2 / 3}, metrics.precision(predicted, actual))
    near({2 / 3}, metrics.recall(predicted, actual))
    near({2 / 3}, metrics.f1(predicted, actual))
    local none = mlax.zeros({5}, "bool")
    near({0}, metrics.precision(none, actual))
    near({0}, metrics.recall(predicted, none))
    near({0}, metrics.f1(none, none))
  end)

  it("roc_auc is the share of pairs in the right order", function()
    local s, y = {0.1, 0.4, 0.35, 0.8, 0.4}, {false, false, true, true, true}
    local right, pairs_ = 0, 0
    for i = 1, #s do
      for j = 1, #s do
        if y[i] and not y[j] then
          pairs_ = pairs_ + 1
          right = right + (s[i] > s[j] and 1 or s[i] == s[j] and 0.5 or 0)
        end
      end
    end
    near({right / pairs_}, metrics.roc_auc(mlax.array(s), mlax.array(y)))
  end)

  it("work inside jit", function()
    near({0.5}, mlax.jit(metrics.accuracy)(scores, labels))
  end)

  it("name what does not fit", function()
    assert.equal("accuracy: labels must have the shape of scores without the last axis (got scores float32[4,3] and labels int32[2])",
      message(metrics.accuracy, scores, mlax.array({1, 2}, "int32")))
    assert.equal("precision: predicted and actual must be bool arrays (got float32[1] and float32[1])",
      message(metrics.precision, mlax.array{1}, mlax.array{1}))
  end)

  it("mean takes arrays and lists", function()
    near({2}, metrics.mean(mlax.array{1, 3}))
    near({2}, metrics.mean{1, mlax.array(3)})
  end)
end)
