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
-- @param x an array
-- @param y an array that broadcasts with it
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
-- @param scores an array {n, ...}
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

-- The shapes of ctc_loss' arguments; gives them with the paddings in the dtype of logits and the labels in int32.
local function ctc_arguments(logits, logit_paddings, labels, label_paddings)
  local op = "ctc_loss"
  logits = check.array(op, "logits", logits)
  if logits.ndim ~= 3 or not logits.dtype:find("float", 1, true) or logits:dim(3) == 0 then
    check.fail(op, "logits must be an array {batch, steps, classes} of floats (got %s)", check.show(logits))
  end
  local batch, steps = logits:dim(1), logits:dim(2)
  labels = check.array(op, "labels", labels)
  if labels.ndim ~= 2 or labels:dim(1) ~= batch or not labels.dtype:find("int", 1, true) then
    check.fail(op, "labels must be integers {%d, length} (got %s)", batch, check.show(labels))
  end
  local function padding(what, x, length)
    x = check.array(op, what, x)
    if table.concat(x.shape, ",") ~= batch .. "," .. length then
      check.fail(op, "%s must have the shape {%d, %d} (got %s)", what, batch, length, check.show(x))
    end
    return x:astype(logits.dtype)
  end
  logit_paddings = padding("logit_paddings", logit_paddings, steps)
  label_paddings = padding("label_paddings", label_paddings, labels:dim(2))
  return logits, logit_paddings, labels:astype("int32"), label_paddings
end

-- log e^a + e^b where there is more than one state, else only the first.
local function arrive(states, more)
  return mlax.concat({states[{{}, {1, 1}}], mlax.logaddexp(states[{{}, {2, states:dim(2)}}], more)}, 2)
end

-- Stands for log 0, so that differences stay finite.
local log_zero = -1e5

-- One step of the forward algorithm over states "blank after n labels" (n from 0) and "at label n".
-- again: 1 where the next label is the same, so that a blank must lie between.
local function ctc_step(carry, x, again)
  local blank, label, pad = carry[1], carry[2], x.pad:expand_dims(2)
  local ready = arrive(blank, label + log_zero * again) -- who needs no blank may go on
  local next_label = mlax.logaddexp(ready[{{}, {1, label:dim(2)}}], label) + x.label
  local next_blank = arrive(ready + x.blank, label + x.blank + log_zero * (1 - again))
  return {pad * blank + (1 - pad) * next_blank, pad * label + (1 - pad) * next_label}
end

--- Connectionist temporal classification (Graves et al. 2006): -log of the probability of all paths through the steps that spell the
-- labels, where steps may give blanks and labels may stay.
-- @param logits {batch, steps, classes}
-- @param logit_paddings {batch, steps}: 1 where a step is padded, else 0
-- @param labels integers {batch, length} from 1 to classes; others raise where they are not padded
-- @param label_paddings {batch, length}: 1 where a label is padded, which must be at the end of its row
-- @param options {blank = 1: the class of blanks}
-- @return {batch}; about 1e5 where the labels do not fit into the steps
-- @usage local none = mlax.zeros{1, 2}
-- print(losses.ctc_loss(mlax.zeros{1, 2, 3}, none, mlax.array({{2}}, "int32"), mlax.zeros{1, 1}))   --> float32[1] [1.09861]
function losses.ctc_loss(logits, logit_paddings, labels, label_paddings, options, ...)
  local blank_class = check.int("ctc_loss", "blank", check.options("ctc_loss", options, "blank", ...).blank or 1, 1)
  logits, logit_paddings, labels, label_paddings = ctc_arguments(logits, logit_paddings, labels, label_paddings)
  local batch, classes, length = logits:dim(1), logits:dim(3), labels:dim(2)
  if blank_class > classes then check.fail("ctc_loss", "blank must be a class (got %d, need 1 to %d)", blank_class, classes) end
  local padded = label_paddings:ne(0)
  local at = core.check_position("ctc_loss", where(padded, blank_class, labels), classes)
  local log_probs = mlax.log_softmax(logits, -1):swapaxes(1, 2)
  local one_hot = at:expand_dims(3):eq(mlax.range(0, classes - 1)):astype(logits.dtype)
  local again = mlax.zeros({batch, length}, logits.dtype)
  if length > 1 then
    again = labels[{{}, {1, length - 1}}]:eq(labels[{{}, {2, length}}]):astype(logits.dtype):pad{{0, 0}, {0, 1}}
  end
  local steps = {
    blank = log_probs[{{}, {}, {blank_class, blank_class}}], label = mlax.einsum("tbk,bnk->tbn", log_probs, one_hot),
    pad = logit_paddings.T,
  }
  local first = mlax.full({batch, length}, log_zero, logits.dtype)
  local last = mlax.scan(function(carry, x) return ctc_step(carry, x, again), nil end,
    {mlax.concat({mlax.zeros({batch, 1}, logits.dtype), first}, 2), first}, steps)
  local total = arrive(last[1], last[2])
  local count = (1 - label_paddings):sum(2, {keepdims = true}):astype("int32")
  return -where(count:eq(mlax.range(0, length)), total, 0):sum(2)
end

return losses
