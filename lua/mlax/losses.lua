--- mlax.losses: losses, one value for each example. The elementwise ones are the mean over all axes but the first; the others reduce the
-- last axis. `:mean()` gives the scalar to differentiate.
--
--     losses.softmax_cross_entropy_with_labels(model(batch.x), batch.y):mean()
local core = require "mlax.core"
local mlax = require "mlax"
local check = require "mlax.check"

local where = mlax.where

local losses = {}

-- Two arrays of one shape.
local function pair(op, x, y, x_name, y_name)
  x, y = check.array(op, x_name, x), check.array(op, y_name, y)
  if table.concat(x.shape, ",") ~= table.concat(y.shape, ",") then
    check.fail(op, "%s and %s must have the same shape (got %s and %s)", x_name, y_name, check.show(x), check.show(y))
  end
  return x, y
end

-- The mean over all axes but the first.
local function per_example(v)
  if v.ndim <= 1 then return v end
  local axes = {}
  for i = 2, v.ndim do axes[#axes + 1] = i end
  return v:mean(axes)
end

-- With a class axis at the end.
local function check_classes(op, what, x)
  if x.ndim == 0 then check.fail(op, "%s must have a last axis of classes (got %s)", what, check.show(x)) end
  return x
end

--- -sum(probs * log_softmax(logits)) over the last axis.
-- @param logits {..., classes}
-- @param probs {..., classes}, the wanted probabilities
-- @return {...}
-- @usage print(losses.softmax_cross_entropy(mlax.zeros{2, 4}, mlax.full({2, 4}, 0.25)))   --> float32[2] [1.38629 1.38629]
function losses.softmax_cross_entropy(logits, probs, ...)
  local op = "softmax_cross_entropy"
  check.last(op, ...)
  logits, probs = pair(op, logits, probs, "logits", "probs")
  return -(probs * mlax.log_softmax(check_classes(op, "logits", logits), -1)):sum(-1)
end

--- -log_softmax(logits)[label].
-- @param logits {..., classes}
-- @param labels integers {...} from 1 to classes; others raise
-- @return {...}
-- @usage print(losses.softmax_cross_entropy_with_labels(mlax.zeros{2, 4}, mlax.array({1, 4}, "int32")))   --> float32[2] [1.38629 1.38629]
function losses.softmax_cross_entropy_with_labels(logits, labels, ...)
  local op = "softmax_cross_entropy_with_labels"
  check.last(op, ...)
  logits = check_classes(op, "logits", check.array(op, "logits", logits))
  if math.type(labels) == "integer" then labels = mlax.array(labels, "int32") end
  if not mlax.is_array(labels) or not labels.dtype:find("int", 1, true) then
    check.fail(op, "labels must be integers that count from 1 (got %s)%s", check.show(labels), type(labels) == "table"
      and ', make an array of them: mlax.array(labels, "int32")'
      or mlax.is_array(labels) and labels.ndim == logits.ndim and ", for probabilities there is softmax_cross_entropy"
      or mlax.is_array(labels) and ', convert them: labels:astype("int32")' or "")
  end
  local shape = logits.shape
  shape[#shape] = nil
  if table.concat(shape, ",") ~= table.concat(labels.shape, ",") then
    check.fail(op, "labels must have the shape of logits without the last axis (got %s, need {%s})", check.show(labels),
      table.concat(shape, ", "))
  end
  return -core.take_labels(mlax.log_softmax(logits, -1), labels)
end

--- Binary cross entropy of sigmoid(logits), the mean over all axes but the first.
-- @param logits any shape
-- @param labels the same shape, between 0 and 1
-- @usage print(losses.sigmoid_binary_cross_entropy(mlax.zeros{2}, mlax.array{0, 1}))   --> float32[2] [0.693147 0.693147]
function losses.sigmoid_binary_cross_entropy(logits, labels, ...)
  local op = "sigmoid_binary_cross_entropy"
  check.last(op, ...)
  logits, labels = pair(op, logits, labels, "logits", "labels")
  if not labels.dtype:find("float", 1, true) then labels = labels:astype(logits.dtype) end
  -- log sigmoid(x) = -softplus(-x)
  return per_example(labels * mlax.logaddexp(-logits, 0) + (1 - labels) * mlax.logaddexp(logits, 0))
end

--- (x - y)^2, the mean over all axes but the first.
-- @param x any shape, or one example along axis 1 each
-- @param y the same shape; others raise
-- @return {n}: one value for each example
-- @usage print(losses.mse(mlax.array{{1, 2}, {3, 4}}, mlax.zeros{2, 2}))   --> float32[2] [ 2.5 12.5]
function losses.mse(x, y, ...)
  check.last("mse", ...)
  x, y = pair("mse", x, y, "x", "y")
  return per_example((x - y):square())
end

--- |x - y|, the mean over all axes but the first; the gradient at 0 is 0.
-- @param x any shape
-- @param y the same shape; others raise
-- @return {n}: one value for each example
-- @usage print(losses.l1(mlax.array{{1, -2}, {3, 4}}, mlax.zeros{2, 2}))   --> float32[2] [1.5 3.5]
function losses.l1(x, y, ...)
  check.last("l1", ...)
  x, y = pair("l1", x, y, "x", "y")
  return per_example((x - y):abs())
end

--- e^2 / 2 where e = |x - y| is at most delta, else delta (e - delta / 2) (Huber 1964); the mean over all axes but the first.
-- @param options {delta = 1}
-- @usage print(losses.huber(mlax.array{0.5, 3}, mlax.zeros{2}))   --> float32[2] [0.125 2.500]
function losses.huber(x, y, options, ...)
  local delta = check.options("huber", options, "delta", ...).delta or 1.0
  x, y = pair("huber", x, y, "x", "y")
  local e = (x - y):abs()
  local inside = e:minimum(delta)
  return per_example(inside:square() * 0.5 + (e - inside) * delta)
end

--- max(0, 1 - scores * targets), the mean over all axes but the first.
-- @param targets 1 and -1
-- @usage print(losses.hinge(mlax.array{0.5, 3}, mlax.array{1, -1}))   --> float32[2] [0.5 4.0]
function losses.hinge(scores, targets, ...)
  check.last("hinge", ...)
  scores, targets = pair("hinge", scores, targets, "scores", "targets")
  return per_example((1 - scores * targets:astype(scores.dtype)):maximum(0))
end

--- sum(targets * (log(targets) - log_predictions)) over the last axis; where a target is 0 it adds nothing.
-- @param log_predictions {..., classes}
-- @param targets {..., classes}, probabilities
-- @usage print(losses.kl_divergence(mlax.array{{0.5, 0.5}}:log(), mlax.array{{1, 0}}))   --> float32[1] [0.693147]
function losses.kl_divergence(log_predictions, targets, ...)
  local op = "kl_divergence"
  check.last(op, ...)
  log_predictions, targets = pair(op, log_predictions, targets, "log_predictions", "targets")
  check_classes(op, "log_predictions", log_predictions)
  local none = targets:eq(0)
  return (targets * (where(none, 1, targets):log() - log_predictions)):sum(-1)
end

--- 1 - x . y / (|x| |y|) over the last axis; 1 where one of them is all zeros.
-- @param x {..., n}
-- @param y {..., n}
-- @return {...}, from 0 to 2
-- @usage print(losses.cosine_distance(mlax.array{{1, 0}}, mlax.array{{0, 1}}))   --> float32[1] [1]
function losses.cosine_distance(x, y, ...)
  local op = "cosine_distance"
  check.last(op, ...)
  x, y = pair(op, x, y, "x", "y")
  check_classes(op, "x", x)
  local norms = x:square():sum(-1) * y:square():sum(-1)
  return 1 - (x * y):sum(-1) * where(norms:eq(0), 1, norms):rsqrt()
end

return losses
