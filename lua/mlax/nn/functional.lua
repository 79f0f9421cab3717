--- Activations, normalisation, dropout and attention as pure functions, with jax.nn's definitions, options and gradients.
-- All take an array of floats of any shape unless something else is said, and keep its shape and dtype. Where a definition has two
-- pieces, the piece that is not taken is computed at a harmless place ("double where"), so that no gradient becomes NaN.
local mlax = require "mlax"
local check = require "mlax.check"
local pool = require "mlax.nn.pool"

local where = mlax.where

local F = {}

--- Gives its arguments, unchanged.
-- @usage print(F.identity(1, 2))   --> 1 2
function F.identity(...) return ... end

-- Activations ------------------------------------------------------------------------------------------------------------

--- max(x, 0); the gradient at 0 is 0, NaN stays NaN.
-- @param x an array
-- @usage print(F.relu(mlax.array{-1, 2}))   --> float32[2] [0 2]
function F.relu(x, ...)
  check.last("relu", ...)
  x = check.array("relu", "x", x)
  return where(x:le(0), 0, x)
end

--- min(max(x, 0), 6); the gradient at 0 and at 6 is 0.
-- @param x an array
-- @usage print(F.relu6(mlax.array{-1, 2, 8}))   --> float32[3] [0 2 6]
function F.relu6(x, ...)
  check.last("relu6", ...)
  x = check.array("relu6", "x", x)
  return where(x:le(0), 0, where(x:ge(6), 6, x))
end

--- x where x > 0, else alpha (e^x - 1).
-- @param x an array
-- @param options {alpha = 1}
-- @usage print(F.elu(mlax.array{-1, 2}))   --> float32[2] [-0.63212 2.00000]
function F.elu(x, options, ...)
  local alpha = check.options("elu", options, "alpha", ...).alpha or 1.0
  x = check.array("elu", "x", x)
  local positive = x:gt(0)
  return where(positive, x, where(positive, 0, x):expm1() * alpha)
end

--- The self-normalising elu of Klambauer et al. (2017): 1.0507 elu(x, 1.67326).
-- @param x an array
-- @usage print(F.selu(mlax.array{-1, 2}))   --> float32[2] [-1.11133 2.10140]
function F.selu(x, ...)
  check.last("selu", ...)
  x = check.array("selu", "x", x)
  return F.elu(x, {alpha = 1.6732632423543772}) * 1.0507009873554805
end

--- x where x > 0, else alpha (e^(x / alpha) - 1).
-- @param x an array
-- @param options {alpha = 1}
-- @usage print(F.celu(mlax.array{-1, 2}, {alpha = 2}))   --> float32[2] [-0.78694 2.00000]
function F.celu(x, options, ...)
  local alpha = check.options("celu", options, "alpha", ...).alpha or 1.0
  x = check.array("celu", "x", x)
  local positive = x:gt(0)
  return where(positive, x, (where(positive, 0, x) / alpha):expm1() * alpha)
end

--- x where x >= 0, else negative_slope x.
-- @param x an array
-- @param options {negative_slope = 0.01}
-- @usage print(F.leaky_relu(mlax.array{-1, 2}, {negative_slope = 0.5}))   --> float32[2] [-0.5 2.0]
function F.leaky_relu(x, options, ...)
  local slope = check.options("leaky_relu", options, "negative_slope", ...).negative_slope or 0.01
  x = check.array("leaky_relu", "x", x)
  return where(x:ge(0), x, x * slope)
end

--- x times the probability that a standard normal value is below x (Hendrycks and Gimpel 2016).
-- @param x an array
-- @param options {approximate = true}: the tanh form; false: the exact one by erfc
-- @usage print(F.gelu(mlax.array{0, 1}, {approximate = false}))   --> float32[2] [0.000000 0.841345]
function F.gelu(x, options, ...)
  local approximate = check.options("gelu", options, "approximate", ...).approximate
  x = check.array("gelu", "x", x)
  if approximate == false then return x * 0.5 * (x * -math.sqrt(0.5)):erfc() end
  return x * (((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)):tanh() + 1) * 0.5
end

--- x sigmoid(x), also known as swish.
-- @param x an array
-- @usage print(F.silu(mlax.array{0, 1}))   --> float32[2] [0.000000 0.731059]
function F.silu(x, ...)
  check.last("silu", ...)
  x = check.array("silu", "x", x)
  return x * x:sigmoid()
end

--- log(1 + e^x).
-- @param x an array
-- @usage print(F.softplus(mlax.array{0, 100}))   --> float32[2] [ 0.693 100.000]
function F.softplus(x, ...)
  check.last("softplus", ...)
  return check.array("softplus", "x", x):logaddexp(0)
end

--- x / (|x| + 1).
-- @param x an array
-- @usage print(F.softsign(mlax.array{-1, 3}))   --> float32[2] [-0.50 0.75]
function F.softsign(x, ...)
  check.last("softsign", ...)
  x = check.array("softsign", "x", x)
  return x / (x:abs() + 1)
end

--- x between -1 and 1, and these beyond.
-- @param x an array
-- @usage print(F.hard_tanh(mlax.array{-2, 0.5, 2}))   --> float32[3] [-1.0 0.5 1.0]
function F.hard_tanh(x, ...)
  check.last("hard_tanh", ...)
  x = check.array("hard_tanh", "x", x)
  return where(x:gt(1), 1, where(x:lt(-1), -1, x))
end

--- relu6(x + 3) / 6.
-- @param x an array
-- @usage print(F.hard_sigmoid(mlax.array{-4, 0, 4}))   --> float32[3] [0.0 0.5 1.0]
function F.hard_sigmoid(x, ...)
  check.last("hard_sigmoid", ...)
  x = check.array("hard_sigmoid", "x", x)
  return F.relu6(x + 3) / 6
end

--- x hard_sigmoid(x).
-- @param x an array
-- @usage print(F.hard_swish(mlax.array{-4, 0, 4}))   --> float32[3] [-0 0 4]
function F.hard_swish(x, ...)
  check.last("hard_swish", ...)
  x = check.array("hard_swish", "x", x)
  return x * F.hard_sigmoid(x)
end

--- x tanh(softplus(x)) (Misra 2019).
-- @param x an array
-- @usage print(F.mish(mlax.array{0, 1}))   --> float32[2] [0.000000 0.865098]
function F.mish(x, ...)
  check.last("mish", ...)
  x = check.array("mish", "x", x)
  return x * F.softplus(x):tanh()
end

--- The first half of an axis times the sigmoid of the second (Dauphin et al. 2017). The axis becomes half as long.
-- @param x its length along the axis must be even
-- @param axis from 1, or from -1 backwards
-- @usage print(F.glu(mlax.array{4, 0}, 1))   --> float32[1] [2]
function F.glu(x, axis, ...)
  check.last("glu", ...)
  x = check.array("glu", "x", x)
  axis = check.axis("glu", "axis", axis, x.ndim)
  if x:dim(axis) % 2 ~= 0 then check.fail("glu", "axis %d must have an even length (got %d)", axis, x:dim(axis)) end
  local a, b = x:split(2, axis)
  return a * b:sigmoid()
end

--- e^x divided by its sum along an axis.
-- @param x an array
-- @param axis default: the last
-- @usage print(F.softmax(mlax.zeros{4}))   --> float32[4] [0.25 0.25 0.25 0.25]
function F.softmax(x, axis, ...)
  check.last("softmax", ...)
  return mlax.softmax(check.array("softmax", "x", x), axis or -1)
end

--- x minus logsumexp(x) along an axis.
-- @param x an array
-- @param axis default: the last
-- @usage print(F.log_softmax(mlax.zeros{4}))   --> float32[4] [-1.38629 -1.38629 -1.38629 -1.38629]
function F.log_softmax(x, axis, ...)
  check.last("log_softmax", ...)
  return mlax.log_softmax(check.array("log_softmax", "x", x), axis or -1)
end

-- Normalisation ----------------------------------------------------------------------------------------------------------

-- The mean over axes of the array and, where names are given, over named axes of enclosing maps.
local function mean_over(x, axes, batch_axis_name)
  if #axes > 0 then x = x:mean(axes, {keepdims = true}) end
  if batch_axis_name == nil or type(batch_axis_name) == "table" and #batch_axis_name == 0 then return x end
  return mlax.pmean(x, batch_axis_name)
end

--- Mean and variance (biased) over axes of x and named batch axes; both keep the axes, with length 1.
function F.statistics(x, axes, batch_axis_name)
  local mean = mean_over(x, axes, batch_axis_name)
  return mean, mean_over((x - mean):square(), axes, batch_axis_name)
end

local function standardize(x, axes, batch_axis_name, epsilon)
  local mean, variance = F.statistics(x, axes, batch_axis_name)
  return (x - mean) * (variance + epsilon):rsqrt()
end

--- (x - mean) / sqrt(variance + epsilon) over one axis or a list of axes.
-- @param x an array
-- @param axis a number or a list: over which axes
-- @param options {epsilon = 1e-5}
-- @usage print(F.layer_norm(mlax.array{{1, 3}}, -1))   --> float32[1,2] [[-0.999995 0.999995]]
function F.layer_norm(x, axis, options, ...)
  local epsilon = check.options("layer_norm", options, "epsilon", ...).epsilon or 1e-5
  x = check.array("layer_norm", "x", x)
  return standardize(x, check.axes("layer_norm", "axis", axis, x.ndim), nil, epsilon)
end

--- x / sqrt(mean(x^2) + epsilon) over one axis or a list of axes (Zhang and Sennrich 2019).
-- @param x an array
-- @param axis a number or a list: over which axes
-- @param options {epsilon = 1e-6}
-- @usage print(F.rms_norm(mlax.array{{3, 4}}, -1))   --> float32[1,2] [[0.84853 1.13137]]
function F.rms_norm(x, axis, options, ...)
  local epsilon = check.options("rms_norm", options, "epsilon", ...).epsilon or 1e-6
  x = check.array("rms_norm", "x", x)
  local axes = check.axes("rms_norm", "axis", axis, x.ndim)
  return x * (mean_over(x:square(), axes) + epsilon):rsqrt()
end

--- The axes that z_norm's words stand for, as a list: all but the channels, or all.
function F.norm_axes(op, axis, ndim)
  local first, last = 1, ndim
  if axis == "channel_last" then last = ndim - 1
  elseif axis == "channel_first" then first = 2
  elseif type(axis) == "string" and axis ~= "all" then
    check.fail(op, "unknown axis '%s' (known: all, channel_last, channel_first, a number, a list)", axis)
  elseif axis ~= "all" then return check.axes(op, "axis", axis, ndim) end
  local list = {}
  for i = first, last do list[#list + 1] = i end
  return list
end

--- (x - mean) / sqrt(variance + epsilon), over axes of one example and named batch axes.
-- @param x an array
-- @param axis "all", "channel_last", "channel_first" (all but the channels), a number or a list
-- @param batch_axis_name names bound by an enclosing vmap; nil: none
-- @param epsilon default 1e-5
-- @usage print(F.z_norm(mlax.array{{1, 10}, {3, 30}}, "channel_last"))   --> float32[2,2] [[-0.99999 -1.00000] [ 0.99999 1.00000]]
function F.z_norm(x, axis, batch_axis_name, epsilon, ...)
  check.last("z_norm", ...)
  x = check.array("z_norm", "x", x)
  return standardize(x, F.norm_axes("z_norm", axis, x.ndim), batch_axis_name, epsilon or 1e-5)
end

-- Pools ------------------------------------------------------------------------------------------------------------------

--- Windows of one example {spatial..., channels}, reduced by an operation.
-- @param x an array
-- @param init the value from which a window starts
-- @param op "max", "sum", "min" or "prod"
-- @param window_shape a number for all spatial axes, or a list
-- @param options {strides = 1, padding = 0 ("VALID", "SAME", "SAME_LOWER", a number, or one entry an axis: a number or {before, after}),
--   input_dilation = 1, window_dilation = 1, data_format = "channel_last" ("channel_first", or letters: "HCW")}
-- @usage print(F.pool(mlax.ones{4, 4, 1}, 0, "sum", 2):squeeze(3))   --> float32[3,3] [[4 4 4] [4 4 4] [4 4 4]]
function F.pool(x, init, op, window_shape, options, ...)
  return pool.reduce("pool", x, init, op, window_shape, check.options("pool", options, pool.known, ...))
end

--- The greatest element of each window; its gradient goes to the first one.
-- @param x an array {spatial..., channels}
-- @param window_shape a number for all spatial axes, or a list
-- @param options those of pool
-- @usage print(F.max_pool(mlax.array{{1}, {5}, {2}, {4}}, 2, {strides = 2}))   --> float32[2,1] [[5] [4]]
function F.max_pool(x, window_shape, options, ...)
  return pool.max("max_pool", x, window_shape, check.options("max_pool", options, pool.known, ...))
end

--- The sum of each window.
-- @param x an array {spatial..., channels}
-- @param window_shape a number for all spatial axes, or a list
-- @param options those of pool
-- @usage print(F.sum_pool(mlax.array{{1}, {5}, {2}, {4}}, 2, {strides = 2}))   --> float32[2,1] [[6] [6]]
function F.sum_pool(x, window_shape, options, ...)
  return pool.sum("sum_pool", x, window_shape, check.options("sum_pool", options, pool.known, ...))
end

--- The sum of each window divided by the size of the window, whatever of it is padding.
-- @param x an array {spatial..., channels}
-- @param window_shape a number for all spatial axes, or a list
-- @param options those of pool
-- @usage print(F.avg_pool(mlax.array{{1}, {5}, {2}, {4}}, 2, {strides = 2}))   --> float32[2,1] [[3] [3]]
function F.avg_pool(x, window_shape, options, ...)
  return pool.avg("avg_pool", x, window_shape, check.options("avg_pool", options, pool.known, ...))
end

-- Dropout ----------------------------------------------------------------------------------------------------------------

--- Sets elements to 0 with probability rate and divides the others by 1 - rate.
-- @param x an array
-- @param rng a key
-- @param rate 0 <= rate < 1
-- @param axis the axis or axes along which elements are drawn; along the others one draw is shared
-- @usage local y = F.dropout(mlax.ones{4, 8}, key, 0.5, {1, 2})
-- print(y:eq(0):logical_or(y:eq(2)):all():item())   --> true
function F.dropout(x, rng, rate, axis, ...)
  check.last("dropout", ...)
  x = check.array("dropout", "x", x)
  check.key("dropout", "rng", rng)
  if type(rate) ~= "number" or not (rate >= 0 and rate < 1) then
    check.fail("dropout", "rate must lie in [0, 1) (got %s)", check.show(rate))
  end
  local shape = {}
  for i = 1, x.ndim do shape[i] = 1 end
  for _, i in ipairs(check.axes("dropout", "axis", axis, x.ndim)) do shape[i] = x:dim(i) end
  return where(mlax.random.bernoulli(rng, 1 - rate, shape), x / (1 - rate), 0)
end

-- Attention --------------------------------------------------------------------------------------------------------------

--- q k^T / sqrt(depth).
-- @param q {..., len_q, depth}
-- @param k {..., len_k, depth}
-- @return {..., len_q, len_k}
-- @usage print(F.dot_product_attention_logits(mlax.ones{3, 4}, mlax.ones{2, 4}))   --> float32[3,2] [[2 2] [2 2] [2 2]]
function F.dot_product_attention_logits(q, k, ...)
  local op = "dot_product_attention_logits"
  check.last(op, ...)
  q, k = check.array(op, "q", q), check.array(op, "k", k)
  if q.ndim < 2 or k.ndim < 2 or q:dim(-1) ~= k:dim(-1) then
    check.fail(op, "q and k must be {..., len, depth} of one depth (got %s and %s)", check.show(q), check.show(k))
  end
  return q:matmul(k:swapaxes(-1, -2)) / math.sqrt(q:dim(-1))
end

--- Sums values by attention weights.
-- @param w {..., len_q, len_k}
-- @param v {..., len_k, depth}
-- @return {..., len_q, depth}
-- @usage print(F.apply_attention_weights(mlax.array{{0.5, 0.5}}, mlax.array{{2}, {4}}))   --> float32[1,1] [[3]]
function F.apply_attention_weights(w, v, ...)
  local op = "apply_attention_weights"
  check.last(op, ...)
  w, v = check.array(op, "w", w), check.array(op, "v", v)
  if w.ndim < 2 or v.ndim < 2 or w:dim(-1) ~= v:dim(-2) then
    check.fail(op, "w must be {..., len_q, len_k} and v {..., len_k, depth} (got %s and %s)", check.show(w), check.show(v))
  end
  return w:matmul(v)
end

-- Far below any logit, but finite: a row that is masked out altogether gives equal weights, not NaN.
local masked = {float16 = -0.7 * 65504, bfloat16 = -0.7 * 3.3895313892515355e38, float32 = -0.7 * 3.4028234663852886e38,
                float64 = -0.7 * 1.7976931348623157e308}

--- softmax(q k^T / sqrt(depth)) where o.mask and o.causal let it go, {..., len_q, len_k}.
function F.attention_weights(op, q, k, o)
  local logits = F.dot_product_attention_logits(q, k)
  local low = masked[logits.dtype]
  if o.mask then
    local mask = check.array(op, "mask", o.mask)
    if mask.dtype ~= "bool" then check.fail(op, "mask must be a bool array (got %s)", check.show(mask)) end
    for axis = -1, -math.min(mask.ndim, 2), -1 do
      local length, need = mask:dim(axis), logits:dim(axis)
      if length ~= 1 and length ~= need then
        check.fail(op, "axis %d of mask must have length %d or 1, for logits {..., len_q, len_k} (got %s)", axis, need, check.show(mask))
      end
    end
    logits = where(mask, logits, low)
  end
  if o.causal then
    local queries, keys = mlax.range(1, logits:dim(-2)):expand_dims(2), mlax.range(1, logits:dim(-1))
    logits = where(queries:ge(keys), logits, low)
  end
  return mlax.softmax(logits, -1)
end

--- softmax(q k^T / sqrt(depth)) v.
-- @param q queries {..., len_q, depth}
-- @param k keys {..., len_k, depth}
-- @param v values {..., len_k, depth of v}
-- @param options {mask = bool {..., len_q, len_k}, true where attention may go; causal = false: query i sees keys 1 to i}
-- @return {..., len_q, depth of v}
-- @usage local x = random.normal(key, {5, 8})
-- print(F.scaled_dot_product_attention(x, x, x, {causal = true}):dims())   --> 5 8
function F.scaled_dot_product_attention(q, k, v, options, ...)
  local op = "scaled_dot_product_attention"
  local o = check.options(op, options, "mask causal", ...)
  return F.apply_attention_weights(F.attention_weights(op, q, k, o), v)
end

return F
