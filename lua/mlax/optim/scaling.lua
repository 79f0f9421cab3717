--- Transformations that scale, cut, decay and average.
local mlax = require "mlax"
local check = require "mlax.check"
local transformation = require "mlax.optim.transformation"

local tree = mlax.tree
local map = tree.map
local lift, stateless, like, in_dtype_of = transformation.lift, transformation.stateless, transformation.like, transformation.in_dtype_of
local zeros_like, no_state = transformation.zeros_like, transformation.no_state
local zero_count, next_count = transformation.zero_count, transformation.next_count

local M = {}

--- Multiplies by a number.
-- @param v a number
-- @usage local updates = optim.scale(2):update({mlax.ones{2}}, {})
-- print(updates[1])   --> float32[2] [2 2]
function M.scale(v, ...)
  check.last("scale", ...)
  if not mlax.is_array(v) then check.number("scale", "v", v) end
  return stateless(function(u) return u * in_dtype_of(v, u) end)
end

--- Multiplies by schedule(count), a function of the number of updates before this one.
-- @param schedule a function of a count from 0
-- @usage local t = optim.scale_by_schedule(optim.piecewise(1, {[1] = 0.5}))
-- local state = t:init{mlax.ones{1}}
-- local updates
-- for _ = 1, 2 do updates, state = t:update({mlax.ones{1}}, state) end
-- print(updates[1])   --> float32[1] [0.5]
function M.scale_by_schedule(schedule, ...)
  check.last("scale_by_schedule", ...)
  check.callable("scale_by_schedule", "the schedule", schedule)
  return transformation.new(function() return {zero_count()} end, function(updates, state)
    local factor = schedule(state[1])
    return map(lift(function(u) return u * in_dtype_of(factor, u) end), updates), {next_count(state[1])}
  end, 1)
end

--- Momentum: t <- g + decay t; gives t, or g + decay t with Nesterov's look ahead.
-- @param decay a number from 0 to 1
-- @param options {nesterov = false}
-- @usage local t = optim.trace(0.9)
-- local state = t:init{mlax.ones{1}}
-- local updates
-- for _ = 1, 2 do updates, state = t:update({mlax.ones{1}}, state) end
-- print(updates[1])   --> float32[1] [1.9]
function M.trace(decay, options, ...)
  local nesterov = check.options("trace", options, "nesterov", ...).nesterov
  check.number("trace", "decay", decay)
  local add = lift(function(g, t) return g + t * decay end)
  return transformation.new(function(params) return {zeros_like(params)} end, function(updates, state)
    local trace = map(add, updates, like("momentum", state[1], updates))
    return nesterov and map(add, updates, trace) or trace, {trace}
  end, 1)
end

--- Cuts each element to [-v, v].
-- @param v a number
-- @usage print(optim.clip(1):update({mlax.array{-3, 0.5}}, {})[1])   --> float32[2] [-1.0 0.5]
function M.clip(v, ...)
  check.last("clip", ...)
  check.number("clip", "v", v)
  return stateless(function(u) return mlax.clip(u, -v, v) end)
end

-- Squared length of all leaves together; nil: there are none.
local function squared_norm(t)
  local total
  for _, x in ipairs(tree.leaves(t)) do
    if transformation.is_value(x) then
      local s = mlax.square(x):sum()
      total = total and total + s or s
    end
  end
  return total
end

--- The length of a tree seen as one vector; of an empty tree 0.
-- @param t a tree of arrays
-- @usage print(optim.global_norm{a = mlax.array{3}, b = mlax.array{4}})   --> float32[] 5
function M.global_norm(t, ...)
  check.last("global_norm", ...)
  local total = squared_norm(t)
  return total and total:sqrt() or mlax.full({}, 0)
end

--- Scales all updates together so that their global norm is at most v.
-- @param v a number
-- @usage print(optim.clip_by_global_norm(1):update({mlax.array{3, 4}}, {})[1])   --> float32[2] [0.6 0.8]
function M.clip_by_global_norm(v, ...)
  check.last("clip_by_global_norm", ...)
  check.number("clip_by_global_norm", "v", v)
  return transformation.new(no_state, function(updates, state)
    local norm = M.global_norm(updates)
    local below = norm:lt(v)
    return map(lift(function(u)
      local length = in_dtype_of(mlax.where(below, 1, norm), u)
      return mlax.where(below, u, u / length * v)
    end), updates), state
  end, 0)
end

--- Adds v times the parameters.
-- @param v a number
-- @usage print(optim.add_decayed_weights(0.5):update({mlax.zeros{1}}, {}, {mlax.array{4}})[1])   --> float32[1] [2]
function M.add_decayed_weights(v, ...)
  check.last("add_decayed_weights", ...)
  check.number("add_decayed_weights", "v", v)
  return stateless(function(u, p) return u + p * v end, true)
end

-- Moments ----------------------------------------------------------------------------------------------------------------

-- decay m + (1 - decay) x, leaf by leaf.
local function moving_mean(decay, m, x)
  return map(lift(function(mean, v) return v * (1 - decay) + mean * decay end), m, x)
end

local function squares(t) return map(lift(mlax.square), t) end

-- m / (1 - decay^count): makes up for the zeros that m began with.
local function debiased(decay, count, m)
  local missing = 1 - mlax.pow(decay, count:astype("float32"))
  return map(lift(function(x) return x / in_dtype_of(missing, x) end), m)
end

--- Adam's scaling (Kingma and Ba 2014): mean / (sqrt(mean of squares + eps_root) + eps), both without bias.
-- @param options {b1 = 0.9, b2 = 0.999, eps = 1e-8, eps_root = 0, nesterov = false}
-- @usage local t = optim.scale_by_adam()
-- print(t:update({mlax.array{5}}, t:init{mlax.ones{1}})[1])   --> float32[1] [0.999993]
function M.scale_by_adam(options, ...)
  local o = check.options("scale_by_adam", options, "b1 b2 eps eps_root nesterov", ...)
  local b1, b2, eps, eps_root = o.b1 or 0.9, o.b2 or 0.999, o.eps or 1e-8, o.eps_root or 0.0
  local divide = lift(function(m, v) return m / ((v + eps_root):sqrt() + eps) end)
  local function mean_of(mu, updates, count)
    if not o.nesterov then return debiased(b1, count, mu) end
    return moving_mean(b1, debiased(b1, next_count(count), mu), debiased(b1, count, updates))
  end
  return transformation.new(function(params) return {zero_count(), zeros_like(params), zeros_like(params)} end,
    function(updates, state)
      local mu = moving_mean(b1, like("mean", state[2], updates), updates)
      local nu = moving_mean(b2, like("mean of squares", state[3], updates), squares(updates))
      local count = next_count(state[1])
      return map(divide, mean_of(mu, updates, count), debiased(b2, count, nu)), {count, mu, nu}
    end, 3)
end

-- Numbers that other optimizers divide by -----------------------------------------------------------------------------------

--- Adamax's scaling: the mean, without bias, over the greatest gradient of late, nu <- max(|g| + eps, b2 nu).
-- @param options {b1 = 0.9, b2 = 0.999, eps = 1e-8}
-- @usage local t = optim.scale_by_adamax()
-- print(t:update({mlax.array{5}}, t:init{mlax.ones{1}})[1])   --> float32[1] [1]
function M.scale_by_adamax(options, ...)
  local o = check.options("scale_by_adamax", options, "b1 b2 eps", ...)
  local b1, b2, eps = o.b1 or 0.9, o.b2 or 0.999, o.eps or 1e-8
  local greatest = lift(function(v, g) return mlax.maximum(mlax.abs(g) + eps, v * b2) end)
  return transformation.new(function(params) return {zero_count(), zeros_like(params), zeros_like(params)} end,
    function(updates, state)
      local mu = moving_mean(b1, like("mean", state[2], updates), updates)
      local nu = map(greatest, like("greatest", state[3], updates), updates)
      local count = next_count(state[1])
      return map(lift(function(m, v) return m / v end), debiased(b1, count, mu), nu), {count, mu, nu}
    end, 3)
end

--- g / sqrt(mean of squares + eps) (Hinton 2012); centered: g / sqrt(variance + eps).
-- @param options {decay = 0.9, eps = 1e-8, initial_scale = 0, centered = false}
-- @usage local t = optim.scale_by_rms{decay = 0.75, eps = 0}
-- print(t:update({mlax.array{5}}, t:init{mlax.ones{1}})[1])   --> float32[1] [2]
function M.scale_by_rms(options, ...)
  local o = check.options("scale_by_rms", options, "decay eps initial_scale centered", ...)
  local decay, eps, first = o.decay or 0.9, o.eps or 1e-8, o.initial_scale or 0.0
  local divide = lift(function(g, v) return g * (v + eps):rsqrt() end)
  local divide_centered = lift(function(g, v, m) return g * (v - m:square() + eps):rsqrt() end)
  local function start(params)
    local nu = map(lift(function(x) return x + first end), zeros_like(params))
    return o.centered and {nu, zeros_like(params)} or {nu}
  end
  return transformation.new(start, function(updates, state)
    local nu = moving_mean(decay, like("mean of squares", state[1], updates), squares(updates))
    if not o.centered then return map(divide, updates, nu), {nu} end
    local mu = moving_mean(decay, like("mean", state[2], updates), updates)
    return map(divide_centered, updates, nu, mu), {nu, mu}
  end, o.centered and 2 or 1)
end

--- g / sqrt(sum of squares + eps) (Duchi et al. 2011); 0 where the sum is 0.
-- @param options {initial_accumulator_value = 0.1, eps = 1e-7}
-- @usage local t = optim.scale_by_rss{initial_accumulator_value = 0, eps = 0}
-- print(t:update({mlax.array{5}}, t:init{mlax.ones{1}})[1])   --> float32[1] [1]
function M.scale_by_rss(options, ...)
  local o = check.options("scale_by_rss", options, "initial_accumulator_value eps", ...)
  local first, eps = o.initial_accumulator_value or 0.1, o.eps or 1e-7
  local divide = lift(function(g, s)
    local some = s:gt(0)
    return mlax.where(some, g * (mlax.where(some, s, 1) + eps):rsqrt(), 0)
  end)
  return transformation.new(function(params) return {map(lift(function(x) return x + first end), zeros_like(params))} end,
    function(updates, state)
      local sum = map(lift(function(s, g) return s + mlax.square(g) end), like("sum of squares", state[1], updates), updates)
      return map(divide, updates, sum), {sum}
    end, 1)
end

--- Adadelta's scaling (Zeiler 2012): g sqrt(mean of squared updates + eps) / sqrt(mean of squares + eps).
-- @param options {rho = 0.9, eps = 1e-6}
-- @usage local t = optim.scale_by_adadelta()
-- print(t:update({mlax.array{5}}, t:init{mlax.ones{1}})[1]:dims())   --> 1
function M.scale_by_adadelta(options, ...)
  local o = check.options("scale_by_adadelta", options, "rho eps", ...)
  local rho, eps = o.rho or 0.9, o.eps or 1e-6
  local scale = lift(function(g, e_g, e_x) return (e_x + eps):sqrt() / (e_g + eps):sqrt() * g end)
  return transformation.new(function(params) return {zeros_like(params), zeros_like(params)} end, function(updates, state)
    local e_g = moving_mean(rho, like("mean of squares", state[1], updates), squares(updates))
    local steps = map(scale, updates, e_g, like("mean of squared updates", state[2], updates))
    return steps, {e_g, moving_mean(rho, state[2], squares(steps))}
  end, 2)
end

--- Lion's scaling (Chen et al. 2023): the sign of b1 m + (1 - b1) g; m <- b2 m + (1 - b2) g.
-- @param options {b1 = 0.9, b2 = 0.99}
-- @usage local t = optim.scale_by_lion()
-- print(t:update({mlax.array{5}}, t:init{mlax.ones{1}})[1])   --> float32[1] [1]
function M.scale_by_lion(options, ...)
  local o = check.options("scale_by_lion", options, "b1 b2", ...)
  local b1, b2 = o.b1 or 0.9, o.b2 or 0.99
  return transformation.new(function(params) return {zeros_like(params)} end, function(updates, state)
    local mu = like("mean", state[1], updates)
    return map(lift(mlax.sign), moving_mean(b1, mu, updates)), {moving_mean(b2, mu, updates)}
  end, 1)
end

--- Each leaf times the length of its parameter over its own (You et al. 2020); by 1 where one of them is 0.
-- @usage local t = optim.scale_by_trust_ratio()
-- print(t:update({mlax.array{2}}, {}, {mlax.array{6}})[1])   --> float32[1] [6]
function M.scale_by_trust_ratio(...)
  check.last("scale_by_trust_ratio", ...)
  return stateless(function(u, p)
    local length, wanted = mlax.square(u):sum():sqrt(), mlax.square(p):sum():sqrt()
    local none = length:eq(0):logical_or(wanted:eq(0))
    return u * in_dtype_of(mlax.where(none, 1, wanted / mlax.where(none, 1, length)), u)
  end, true)
end

--- An exponential moving average of a sequence of trees.
-- @param decay a number from 0 to 1
-- @param options {debias = true: made up for the zeros that it begins with}
-- @usage local t = optim.ema(0.5)
-- print(t:update({mlax.array{4}}, t:init{mlax.ones{1}})[1])   --> float32[1] [4]
function M.ema(decay, options, ...)
  local debias = check.options("ema", options, "debias", ...).debias
  check.number("ema", "decay", decay)
  return transformation.new(function(params) return {zero_count(), zeros_like(params)} end, function(updates, state)
    local mean, count = moving_mean(decay, like("mean", state[2], updates), updates), next_count(state[1])
    return debias == false and mean or debiased(decay, count, mean), {count, mean}
  end, 2)
end

return M
