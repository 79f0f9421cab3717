--- mlax.metrics: how good predictions are, as scalar arrays, so that they can be computed inside a jitted function.
local mlax = require "mlax"
local check = require "mlax.check"

local metrics = {}

local function same_shape(op, x, y, x_name, y_name)
  x, y = check.array(op, x_name, x), check.array(op, y_name, y)
  if table.concat(x.shape, ",") ~= table.concat(y.shape, ",") then
    check.fail(op, "%s and %s must have the same shape (got %s and %s)", x_name, y_name, check.show(x), check.show(y))
  end
  return x, y
end

-- Scores {..., classes} and labels {...}.
local function scored(op, scores, labels)
  scores, labels = check.array(op, "scores", scores), check.array(op, "labels", labels)
  local shape = scores.shape
  shape[#shape] = nil
  if scores.ndim == 0 or table.concat(shape, ",") ~= table.concat(labels.shape, ",") then
    check.fail(op, "labels must have the shape of scores without the last axis (got scores %s and labels %s)", check.show(scores),
      check.show(labels))
  end
  return scores, labels
end

-- The mean of a bool array.
local function share(hits) return hits:astype("float32"):mean() end

--- The share of examples whose greatest score is at the label.
-- @param scores {..., classes}
-- @param labels integers {...} from 1
-- @return float32[]
-- @usage print(metrics.accuracy(mlax.array{{0.1, 0.9}, {0.8, 0.2}}, mlax.array({2, 2}, "int32")))   --> float32[] 0.5
function metrics.accuracy(scores, labels, ...)
  check.last("accuracy", ...)
  scores, labels = scored("accuracy", scores, labels)
  return share(scores:argmax(-1):eq(labels))
end

--- The share of examples whose label is among the k greatest scores.
-- @param scores {..., classes}
-- @param labels integers {...} from 1
-- @param k from 1 to classes
-- @return float32[]
-- @usage print(metrics.top_k_accuracy(mlax.array{{0.1, 0.9, 0.5}}, mlax.array({3}, "int32"), 2))   --> float32[] 1
function metrics.top_k_accuracy(scores, labels, k, ...)
  local op = "top_k_accuracy"
  check.last(op, ...)
  scores, labels = scored(op, scores, labels)
  local _, best = scores:top_k(check.int(op, "k", k, 1))
  return share(best:eq(labels:expand_dims(-1)):any(-1))
end

--- How often label i (rows) was predicted as j (columns).
-- @param predicted integers from 1 to n
-- @param labels integers from 1 to n, of the same shape
-- @param n how many classes there are
-- @return int32[n,n]
-- @usage print(metrics.confusion_matrix(mlax.array({1, 2, 2}, "int32"), mlax.array({1, 2, 1}, "int32"), 2))   --> int32[2,2] [[1 1] [0 1]]
function metrics.confusion_matrix(predicted, labels, n, ...)
  local op = "confusion_matrix"
  check.last(op, ...)
  predicted, labels = same_shape(op, predicted, labels, "predicted", "labels")
  n = check.int(op, "n", n, 1)
  local ones = mlax.ones({predicted.size}, "int32")
  return mlax.zeros({n, n}, "int32"):at{labels:reshape{-1}, predicted:reshape{-1}}:add(ones)
end

-- Numbers of true positives, predicted positives, actual positives.
local function counts(op, predicted, actual)
  predicted, actual = same_shape(op, predicted, actual, "predicted", "actual")
  if predicted.dtype ~= "bool" or actual.dtype ~= "bool" then
    check.fail(op, "predicted and actual must be bool arrays (got %s and %s)", check.show(predicted), check.show(actual))
  end
  local function count(hits) return hits:astype("float32"):sum() end
  return count(predicted:logical_and(actual)), count(predicted), count(actual)
end

-- a / b, and 0 where b is 0.
local function ratio(a, b) return mlax.where(b:eq(0), 0, a / mlax.where(b:eq(0), 1, b)) end

--- The share of the predicted positives that are positive; 0 where there are none.
-- @param predicted bool
-- @param actual bool, of the same shape
-- @return float32[]
-- @usage print(metrics.precision(mlax.array{true, true, false}, mlax.array{true, false, true}))   --> float32[] 0.5
function metrics.precision(predicted, actual, ...)
  check.last("precision", ...)
  local hits, positive = counts("precision", predicted, actual)
  return ratio(hits, positive)
end

--- The share of the positives that were predicted; 0 where there are none.
-- @param predicted bool
-- @param actual bool, of the same shape
-- @return float32[]
-- @usage print(metrics.recall(mlax.array{true, true, false}, mlax.array{true, false, false}))   --> float32[] 1
function metrics.recall(predicted, actual, ...)
  check.last("recall", ...)
  local hits, _, positive = counts("recall", predicted, actual)
  return ratio(hits, positive)
end

--- The harmonic mean of precision and recall.
-- @param predicted bool
-- @param actual bool, of the same shape
-- @return float32[]; 0 where both have no positives
-- @usage print(metrics.f1(mlax.array{true, true, false}, mlax.array{true, false, true}))   --> float32[] 0.5
function metrics.f1(predicted, actual, ...)
  check.last("f1", ...)
  local hits, predicted_positive, positive = counts("f1", predicted, actual)
  return ratio(hits * 2, predicted_positive + positive)
end

--- The probability that a positive example has a greater score than a negative one; ties count one half. NaN where one kind is missing.
-- @param scores {n}
-- @param actual bool {n}
-- @return float32[]
-- @usage print(metrics.roc_auc(mlax.array{0.1, 0.4, 0.35, 0.8}, mlax.array{false, false, true, true}))   --> float32[] 0.75
function metrics.roc_auc(scores, actual, ...)
  local op = "roc_auc"
  check.last(op, ...)
  scores, actual = same_shape(op, scores, actual, "scores", "actual")
  if actual.dtype ~= "bool" or actual.ndim ~= 1 then
    check.fail(op, "actual must be a bool array of one axis (got %s)", check.show(actual))
  end
  local sorted = scores:sort()
  -- the mean rank of each example among its equals; Mann and Whitney: sum of the positives' ranks, from which the AUC follows
  local left, right = sorted:searchsorted(scores, {side = "left"}), sorted:searchsorted(scores, {side = "right"})
  local rank = (left + right - 1):astype("float64") / 2
  local positive = actual:astype("float64")
  local n = positive:sum()
  local auc = ((rank * positive):sum() - n * (n + 1) / 2) / (n * (#scores - n))
  return auc:astype("float32")
end

--- The mean of an array, or of a list of numbers and arrays.
-- @param values an array, or a list of numbers and arrays of one shape
-- @return an array
-- @usage print(metrics.mean{1, mlax.array(2), 6})   --> float32[] 3
function metrics.mean(values, ...)
  check.last("mean", ...)
  if mlax.is_array(values) then return values:mean() end
  if type(values) ~= "table" or #values == 0 then check.fail("mean", "an array or a list is needed (got %s)", check.show(values)) end
  local total = 0
  for _, v in ipairs(values) do total = total + v end
  return check.array("mean", "values", total / #values)
end

return metrics
