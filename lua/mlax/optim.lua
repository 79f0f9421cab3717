--- mlax.optim: optimizers as gradient transformations, in the manner and with the numbers of optax.
-- A transformation turns gradients into updates and carries a state, a tree that holds arrays only, so that a jitted step is traced
-- once. `chain` puts transformations behind one another; an optimizer is a chain that ends in the learning rate. All trees are those of
-- the parameters; empty places are skipped.
--
--     local opt = optim.sgd(0.1, {momentum = 0.9})
--     local params = {w = mlax.ones{3}}
--     local state = opt:init(params)
--     params, state = opt:step(params, {w = mlax.array{1, 2, 3}}, state)
local mlax = require "mlax"
local check = require "mlax.check"
local schedules = require "mlax.optim.schedules"

local tree = mlax.tree
local map = tree.map

local optim = {}
for name, make in pairs(schedules) do optim[name] = make end

-- Do trees fit? ----------------------------------------------------------------------------------------------------------

-- The first path at which two trees have not the same leaves, as text.
local function difference(what, t, params)
  local theirs, ours = tree.leaves_with_path(t), tree.leaves_with_path(params)
  for i = 1, math.max(#theirs, #ours) do
    local a, b = theirs[i], ours[i]
    if not b then return ("%s at %s, which the parameters lack"):format(what, a[1]) end
    if not a or a[1] ~= b[1] then return ("no %s at %s (got %s)"):format(what, b[1], a and a[1] or "nothing more") end
  end
  return ("%s of another structure: %s, need %s"):format(what, tostring(tree.structure(t)), tostring(tree.structure(params)))
end

local function shape_of(x) return mlax.is_array(x) and table.concat(x.shape, ",") or "" end

-- Raises unless `t` is a tree like `params`: the same structure, and the same shape at each path.
local function check_fit(op, what, t, params)
  if tree.structure(t) ~= tree.structure(params) then check.fail(op, "%s", difference(what, t, params)) end
  local theirs, ours = tree.leaves(t), tree.leaves(params)
  for i = 1, #ours do
    if shape_of(theirs[i]) ~= shape_of(ours[i]) then
      local path = tree.leaves_with_path(params)[i][1]
      check.fail(op, "the %s at %s does not fit its parameter (got %s, need %s)", what, path == "" and "the root" or path,
        check.show(theirs[i]), check.show(ours[i]))
    end
  end
end

-- A transformation's state is a list of what its `init` gives.
local function check_state(op, state, length)
  if type(state) ~= "table" or #state ~= length then
    check.fail(op, "the state must be one that this transformation's init or update gave (got %s)",
      type(state) == "table" and ("a list of %d, need %d"):format(#state, length) or check.show(state))
  end
  return state
end

-- Leaves that are no numbers (functions, strings in a tree of parameters) pass through unchanged.
local function is_value(x) return type(x) == "number" or mlax.is_array(x) end

local function lift(f)
  return function(x, ...)
    if is_value(x) then return f(x, ...) end
    return x
  end
end

local function zeros_like(params) return map(lift(function(x) return mlax.zeros_like(mlax.array(x)) end), params) end

-- A learning rate or factor in the dtype of what it multiplies.
local function in_dtype_of(factor, x)
  if mlax.is_array(factor) and mlax.is_array(x) then return factor:astype(x.dtype) end
  return factor
end

-- Transformations --------------------------------------------------------------------------------------------------------

local Transformation = {}
Transformation.__index = Transformation
Transformation.__name = "mlax.optim.transformation"

--- A transformation from two functions.
-- @param init function(params) -> state, a list of trees
-- @param update function(updates, state, params) -> updates, state
-- @param size the length of the state's list
-- @param needs_params whether update reads params
local function transformation(init, update, size, needs_params)
  return setmetatable({start = init, transform = update, size = size, needs_params = needs_params or false}, Transformation)
end

local function is_transformation(t) return getmetatable(t) == Transformation end

local function check_transformation(op, what, t)
  if not is_transformation(t) then check.fail(op, "%s must be a transformation such as optim.sgd(0.1) (got %s)", what, check.show(t)) end
  return t
end

--- The state to begin with.
function Transformation:init(params, ...)
  check.last("init", ...)
  return self.start(params)
end

--- updates, state = t:update(grads, state, params). params may be left out where the transformation does not read them.
function Transformation:update(grads, state, params, ...)
  check.last("update", ...)
  if params ~= nil then check_fit("update", "gradient", grads, params)
  elseif self.needs_params then check.fail("update", "this transformation needs the parameters: t:update(grads, state, params)") end
  return self.transform(grads, check_state("update", state, self.size), params)
end

--- params, state = t:step(params, grads, state): update and apply_updates in one.
function Transformation:step(params, grads, state, ...)
  check.last("step", ...)
  check_fit("step", "gradient", grads, params)
  local updates, after = self.transform(grads, check_state("step", state, self.size), params)
  return optim.apply_updates(params, updates), after
end

local function no_state() return {} end

-- A transformation without state: f(update, param) leaf by leaf.
local function stateless(f, needs_params)
  f = lift(f)
  return transformation(no_state, function(updates, state, params)
    if params == nil then return map(f, updates), state end
    return map(f, updates, params), state
  end, 0, needs_params)
end

-- Looks at trees of the state that are like the parameters.
local function like(what, t, updates)
  check_fit("update", what, t, updates)
  return t
end

--- params + updates, each in the dtype of its parameter.
function optim.apply_updates(params, updates, ...)
  check.last("apply_updates", ...)
  check_fit("apply_updates", "update", updates, params)
  return map(lift(function(p, u)
    local new = p + u
    return mlax.is_array(p) and new:astype(p.dtype) or new
  end), params, updates)
end

--- One transformation behind the other.
-- @param list a list of transformations
function optim.chain(list, ...)
  check.last("chain", ...)
  if type(list) ~= "table" or is_transformation(list) then
    check.fail("chain", "a list of transformations is needed (got %s)", check.show(list))
  end
  local needs_params = false
  for i = 1, #list do
    check_transformation("chain", ("entry %d"):format(i), list[i])
    needs_params = needs_params or list[i].needs_params
  end
  list = table.move(list, 1, #list, 1, {})
  local function init(params)
    local states = {}
    for i = 1, #list do states[i] = list[i].start(params) end
    return states
  end
  local function update(updates, state, params)
    local after = {}
    for i = 1, #list do
      updates, after[i] = list[i].transform(updates, check_state("update", state[i], list[i].size), params)
    end
    return updates, after
  end
  return transformation(init, update, #list, needs_params)
end

--- Multiplies by a number.
function optim.scale(v, ...)
  check.last("scale", ...)
  if not mlax.is_array(v) then check.number("scale", "v", v) end
  return stateless(function(u) return u * in_dtype_of(v, u) end)
end

-- Counts are int32 arrays; they stay at their greatest value.
local function zero_count() return mlax.full({}, 0, "int32") end
local function next_count(count) return count:minimum(2147483646) + 1 end

--- Multiplies by schedule(count), a function of the number of updates before this one.
function optim.scale_by_schedule(schedule, ...)
  check.last("scale_by_schedule", ...)
  check.callable("scale_by_schedule", "the schedule", schedule)
  return transformation(function() return {zero_count()} end, function(updates, state)
    local factor = schedule(state[1])
    return map(lift(function(u) return u * in_dtype_of(factor, u) end), updates), {next_count(state[1])}
  end, 1)
end

-- Minus the learning rate, a number or a schedule.
local function descend(op, lr)
  if type(lr) == "number" then return optim.scale(-lr) end
  check.callable(op, "the learning rate", lr)
  return optim.scale_by_schedule(function(count) return -lr(count) end)
end

--- Momentum: t <- g + decay t; gives t, or g + decay t with Nesterov's look ahead.
-- @param options {nesterov = false}
function optim.trace(decay, options, ...)
  local nesterov = check.options("trace", options, "nesterov", ...).nesterov
  check.number("trace", "decay", decay)
  local add = lift(function(g, t) return g + t * decay end)
  return transformation(function(params) return {zeros_like(params)} end, function(updates, state)
    local trace = map(add, updates, like("momentum", state[1], updates))
    return nesterov and map(add, updates, trace) or trace, {trace}
  end, 1)
end

--- Cuts each element to [-v, v].
function optim.clip(v, ...)
  check.last("clip", ...)
  check.number("clip", "v", v)
  return stateless(function(u) return mlax.clip(u, -v, v) end)
end

-- Squared length of all leaves together; nil: there are none.
local function squared_norm(t)
  local total
  for _, x in ipairs(tree.leaves(t)) do
    if is_value(x) then
      local s = mlax.square(x):sum()
      total = total and total + s or s
    end
  end
  return total
end

--- The length of a tree seen as one vector; of an empty tree 0.
function optim.global_norm(t, ...)
  check.last("global_norm", ...)
  local total = squared_norm(t)
  return total and total:sqrt() or mlax.full({}, 0)
end

--- Scales all updates together so that their global norm is at most v.
function optim.clip_by_global_norm(v, ...)
  check.last("clip_by_global_norm", ...)
  check.number("clip_by_global_norm", "v", v)
  return transformation(no_state, function(updates, state)
    local norm = optim.global_norm(updates)
    local below = norm:lt(v)
    return map(lift(function(u)
      local length = in_dtype_of(mlax.where(below, 1, norm), u)
      return mlax.where(below, u, u / length * v)
    end), updates), state
  end, 0)
end

--- Adds v times the parameters.
function optim.add_decayed_weights(v, ...)
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
function optim.scale_by_adam(options, ...)
  local o = check.options("scale_by_adam", options, "b1 b2 eps eps_root nesterov", ...)
  local b1, b2, eps, eps_root = o.b1 or 0.9, o.b2 or 0.999, o.eps or 1e-8, o.eps_root or 0.0
  local divide = lift(function(m, v) return m / ((v + eps_root):sqrt() + eps) end)
  local function mean_of(mu, updates, count)
    if not o.nesterov then return debiased(b1, count, mu) end
    return moving_mean(b1, debiased(b1, next_count(count), mu), debiased(b1, count, updates))
  end
  return transformation(function(params) return {zero_count(), zeros_like(params), zeros_like(params)} end,
    function(updates, state)
      local mu = moving_mean(b1, like("mean", state[2], updates), updates)
      local nu = moving_mean(b2, like("mean of squares", state[3], updates), squares(updates))
      local count = next_count(state[1])
      return map(divide, mean_of(mu, updates, count), debiased(b2, count, nu)), {count, mu, nu}
    end, 3)
end

-- Optimizers -------------------------------------------------------------------------------------------------------------

--- Stochastic gradient descent.
-- @param lr a number, or a schedule: function(count) from 0
-- @param options {momentum: none, nesterov = false}
function optim.sgd(lr, options, ...)
  local o = check.options("sgd", options, "momentum nesterov", ...)
  local list = {}
  if o.momentum then list[1] = optim.trace(check.number("sgd", "momentum", o.momentum), {nesterov = o.nesterov}) end
  list[#list + 1] = descend("sgd", lr)
  return optim.chain(list)
end

--- Adam (Kingma and Ba 2014).
-- @param options {b1 = 0.9, b2 = 0.999, eps = 1e-8, eps_root = 0, nesterov = false}
function optim.adam(lr, options, ...)
  check.options("adam", options, "b1 b2 eps eps_root nesterov", ...)
  return optim.chain{optim.scale_by_adam(options), descend("adam", lr)}
end

--- Adam with decoupled weight decay (Loshchilov and Hutter 2019).
-- @param options {weight_decay = 1e-4, and those of adam}
function optim.adamw(lr, options, ...)
  local o = check.options("adamw", options, "b1 b2 eps eps_root nesterov weight_decay", ...)
  local adam = {b1 = o.b1, b2 = o.b2, eps = o.eps, eps_root = o.eps_root, nesterov = o.nesterov}
  return optim.chain{optim.scale_by_adam(adam), optim.add_decayed_weights(o.weight_decay or 1e-4), descend("adamw", lr)}
end

return optim
