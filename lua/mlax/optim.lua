--- mlax.optim: optimizers as gradient transformations, in the manner and with the numbers of optax.
-- A transformation turns gradients into updates and carries a state, a tree that holds arrays only, so that a jitted step is traced
-- once. `chain` puts transformations behind one another; an optimizer is a chain that ends in the learning rate. All trees are those of
-- the parameters; empty places are skipped.
--
--     local opt = optim.sgd(0.1, {momentum = 0.9})
--     local params = {w = mlax.ones{3}}
--     local state = opt:init(params)
--     params, state = opt:step(params, {w = mlax.array{1, 2, 3}}, state)
local check = require "mlax.check"
local transformation = require "mlax.optim.transformation"

local optim = {chain = transformation.chain, apply_updates = transformation.apply_updates}
for _, part in ipairs{"schedules", "scaling", "lbfgs", "wrappers"} do
  for name, make in pairs(require("mlax.optim." .. part)) do optim[name] = make end
end

-- Minus the learning rate, a number or a schedule.
local function descend(op, lr)
  if type(lr) == "number" then return optim.scale(-lr) end
  if not check.is_callable(lr) then check.fail(op, "the learning rate must be a number or a schedule (got %s)", check.show(lr)) end
  return optim.scale_by_schedule(function(count) return -lr(count) end)
end

-- Optimizers -------------------------------------------------------------------------------------------------------------

--- Stochastic gradient descent.
-- @param lr a number, or a schedule: function(count) from 0
-- @param options {momentum: none, nesterov = false}
-- @usage local opt = optim.sgd(0.1, {momentum = 0.9})
-- local params = {w = mlax.array{1, 2}}
-- local state = opt:init(params)
-- params, state = opt:step(params, {w = mlax.array{1, 1}}, state)
-- print(params.w)   --> float32[2] [0.9 1.9]
function optim.sgd(lr, options, ...)
  local o = check.options("sgd", options, "momentum nesterov", ...)
  local list = {}
  if o.momentum then list[1] = optim.trace(check.number("sgd", "momentum", o.momentum), {nesterov = o.nesterov}) end
  list[#list + 1] = descend("sgd", lr)
  return optim.chain(list)
end

--- Adam (Kingma and Ba 2014).
-- @param lr a number, or a schedule
-- @param options {b1 = 0.9, b2 = 0.999, eps = 1e-8, eps_root = 0, nesterov = false}
-- @usage local opt = optim.adam(optim.cosine_decay(1e-3, 1000))
-- local state = opt:init{mlax.ones{2}}
-- local updates = opt:update({mlax.ones{2}}, state)
-- print(updates[1])   --> float32[2] [-0.000999993 -0.000999993]
function optim.adam(lr, options, ...)
  check.options("adam", options, "b1 b2 eps eps_root nesterov", ...)
  return optim.chain{optim.scale_by_adam(options), descend("adam", lr)}
end

--- Adam with decoupled weight decay (Loshchilov and Hutter 2019).
-- @param lr a number, or a schedule
-- @param options {weight_decay = 1e-4, and those of adam}
-- @usage local opt = optim.adamw(1e-3, {weight_decay = 0.01})
-- local params = opt:step({mlax.ones{1}}, {mlax.ones{1}}, opt:init{mlax.ones{1}})
-- print(params[1])   --> float32[1] [0.99899]
function optim.adamw(lr, options, ...)
  local o = check.options("adamw", options, "b1 b2 eps eps_root nesterov weight_decay", ...)
  local adam = {b1 = o.b1, b2 = o.b2, eps = o.eps, eps_root = o.eps_root, nesterov = o.nesterov}
  return optim.chain{optim.scale_by_adam(adam), optim.add_decayed_weights(o.weight_decay or 1e-4), descend("adamw", lr)}
end

--- Adam with the greatest gradient of late in the place of the mean of squares (Kingma and Ba 2014).
-- @param lr a number, or a schedule
-- @param options {b1 = 0.9, b2 = 0.999, eps = 1e-8}
-- @usage local opt = optim.adamax(1e-3)
-- local params = opt:step({mlax.ones{1}}, {mlax.ones{1}}, opt:init{mlax.ones{1}})
-- print(params[1])   --> float32[1] [0.999]
function optim.adamax(lr, options, ...)
  check.options("adamax", options, "b1 b2 eps", ...)
  return optim.chain{optim.scale_by_adamax(options), descend("adamax", lr)}
end

--- Adam with Nesterov's look ahead (Dozat 2016).
-- @param lr a number, or a schedule
-- @param options {b1 = 0.9, b2 = 0.999, eps = 1e-8, eps_root = 0}
-- @usage local opt = optim.nadam(1e-3)
-- local params = opt:step({mlax.ones{1}}, {mlax.ones{1}}, opt:init{mlax.ones{1}})
-- print(params[1])   --> float32[1] [0.998526]
function optim.nadam(lr, options, ...)
  local o = check.options("nadam", options, "b1 b2 eps eps_root", ...)
  return optim.adam(lr, {b1 = o.b1, b2 = o.b2, eps = o.eps, eps_root = o.eps_root, nesterov = true})
end

--- RMSProp (Hinton 2012).
-- @param lr a number, or a schedule
-- @param options {decay = 0.9, eps = 1e-8, initial_scale = 0, centered = false, momentum: none, nesterov = false}
-- @usage local opt = optim.rmsprop(1e-3, {momentum = 0.9})
-- local params = opt:step({mlax.ones{1}}, {mlax.ones{1}}, opt:init{mlax.ones{1}})
-- print(params[1])   --> float32[1] [0.996838]
function optim.rmsprop(lr, options, ...)
  local o = check.options("rmsprop", options, "decay eps initial_scale centered momentum nesterov", ...)
  local list = {
    optim.scale_by_rms{decay = o.decay, eps = o.eps, initial_scale = o.initial_scale, centered = o.centered},
    descend("rmsprop", lr),
  }
  if o.momentum then list[3] = optim.trace(check.number("rmsprop", "momentum", o.momentum), {nesterov = o.nesterov}) end
  return optim.chain(list)
end

--- Adagrad (Duchi et al. 2011).
-- @param lr a number, or a schedule
-- @param options {initial_accumulator_value = 0.1, eps = 1e-7}
-- @usage local opt = optim.adagrad(0.1)
-- local params = opt:step({mlax.ones{1}}, {mlax.ones{1}}, opt:init{mlax.ones{1}})
-- print(params[1])   --> float32[1] [0.904654]
function optim.adagrad(lr, options, ...)
  check.options("adagrad", options, "initial_accumulator_value eps", ...)
  return optim.chain{optim.scale_by_rss(options), descend("adagrad", lr)}
end

--- Adadelta (Zeiler 2012).
-- @param lr a number, or a schedule
-- @param options {rho = 0.9, eps = 1e-6, weight_decay = 0}
-- @usage local opt = optim.adadelta(1)
-- local params = opt:step({mlax.ones{1}}, {mlax.ones{1}}, opt:init{mlax.ones{1}})
-- print(params[1])   --> float32[1] [0.996838]
function optim.adadelta(lr, options, ...)
  local o = check.options("adadelta", options, "rho eps weight_decay", ...)
  local list = {optim.scale_by_adadelta{rho = o.rho, eps = o.eps}, descend("adadelta", lr)}
  if o.weight_decay then table.insert(list, 1, optim.add_decayed_weights(o.weight_decay)) end
  return optim.chain(list)
end

--- Lion (Chen et al. 2023): steps of one size.
-- @param lr a number, or a schedule
-- @param options {b1 = 0.9, b2 = 0.99, weight_decay = 1e-3}
-- @usage local opt = optim.lion(1e-4)
-- local params = opt:step({mlax.ones{1}}, {mlax.ones{1}}, opt:init{mlax.ones{1}})
-- print(params[1])   --> float32[1] [0.9999]
function optim.lion(lr, options, ...)
  local o = check.options("lion", options, "b1 b2 weight_decay", ...)
  return optim.chain{optim.scale_by_lion{b1 = o.b1, b2 = o.b2}, optim.add_decayed_weights(o.weight_decay or 1e-3), descend("lion", lr)}
end

--- LAMB (You et al. 2020): Adam with a trust ratio for each leaf, for great batches.
-- @param lr a number, or a schedule
-- @param options {b1 = 0.9, b2 = 0.999, eps = 1e-6, eps_root = 0, weight_decay = 0}
-- @usage local opt = optim.lamb(1e-3)
-- local params = opt:step({mlax.ones{1}}, {mlax.ones{1}}, opt:init{mlax.ones{1}})
-- print(params[1])   --> float32[1] [0.999]
function optim.lamb(lr, options, ...)
  local o = check.options("lamb", options, "b1 b2 eps eps_root weight_decay", ...)
  return optim.chain{
    optim.scale_by_adam{b1 = o.b1, b2 = o.b2, eps = o.eps or 1e-6, eps_root = o.eps_root},
    optim.add_decayed_weights(o.weight_decay or 0),
    optim.scale_by_trust_ratio(),
    descend("lamb", lr),
  }
end

--- L-BFGS (Liu and Nocedal 1989) without a line search: the gradient times an inverse Hessian from the last steps.
-- @param lr a number, or a schedule
-- @param options {memory_size = 10, scale_init_precond = true}
-- @usage local opt = optim.lbfgs(0.5)
-- local params = opt:step({mlax.ones{1}}, {mlax.ones{1}}, opt:init{mlax.ones{1}})
-- print(params[1])   --> float32[1] [0.5]
function optim.lbfgs(lr, options, ...)
  local o = check.options("lbfgs", options, "memory_size scale_init_precond", ...)
  local size = check.int("lbfgs", "memory_size", o.memory_size or 10, 1)
  return optim.chain{optim.scale_by_lbfgs{memory_size = size, scale_init_precond = o.scale_init_precond}, descend("lbfgs", lr)}
end

return optim
