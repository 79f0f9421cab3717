--- Gradient transformations: the object, checks that trees fit one another, chains, and what the files beside this one build on.
local mlax = require "mlax"
local check = require "mlax.check"

local tree = mlax.tree
local map = tree.map

local M = {}

-- Do trees fit? ----------------------------------------------------------------------------------------------------------

-- The first path at which two trees have not the same leaves, as text.
local function difference(what, t, params)
  local theirs, ours = tree.leaves_with_path(t), tree.leaves_with_path(params)
  for i = 1, math.max(#theirs, #ours) do
    local a, b = theirs[i], ours[i]
    if not b then return ("there is a %s at %s, but no parameter"):format(what, a[1]) end
    if not a or a[1] ~= b[1] then
      return ("there is no %s for the parameter at %s (got %s)"):format(what, b[1], a and "one at " .. a[1] or "no more leaves")
    end
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
function M.check_state(op, state, length)
  if type(state) ~= "table" or #state ~= length then
    check.fail(op, "the state must be one that this transformation's init or update gave (got %s)",
      type(state) == "table" and ("a list of %d, need %d"):format(#state, length) or check.show(state))
  end
  return state
end

-- Leaves that are no numbers (functions, strings in a tree of parameters) pass through unchanged.
function M.is_value(x) return type(x) == "number" or mlax.is_array(x) end

function M.lift(f)
  return function(x, ...)
    if M.is_value(x) then return f(x, ...) end
    return x
  end
end

function M.zeros_like(params) return map(M.lift(function(x) return mlax.zeros_like(mlax.array(x)) end), params) end

-- A learning rate or factor in the dtype of what it multiplies.
function M.in_dtype_of(factor, x)
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
-- @return an object with init, update and step
function M.new(init, update, size, needs_params)
  return setmetatable({start = init, transform = update, size = size, needs_params = needs_params or false}, Transformation)
end

local function is_transformation(t) return getmetatable(t) == Transformation end

function M.check(op, what, t)
  if not is_transformation(t) then check.fail(op, "%s must be a transformation such as optim.sgd(0.1) (got %s)", what, check.show(t)) end
  return t
end

--- The state to begin with.
-- @param params a tree; a Module that is not initialized raises
-- @return a list of trees that hold arrays only
-- @usage local opt = optim.sgd(0.1, {momentum = 0.9})
-- print(#opt:init{w = mlax.ones{2}})   --> 2
function Transformation:init(params, ...)
  check.self("init", Transformation, self, "init")
  check.last("init", ...)
  if mlax.is_module(params) and not params.initialized then
    check.fail("init", "the model is not initialized: call it once on an example, model(x)")
  end
  return self.start(params)
end

--- updates, state = t:update(grads, state, params). params may be left out where the transformation does not read them.
-- @param grads a tree like the parameters; another structure or shape raises, naming the path
-- @param state of `init`, or of the update before
-- @param params the parameters, a tree
-- @usage local opt = optim.sgd(0.5)
-- local updates, state = opt:update({mlax.ones{1}}, opt:init{mlax.ones{1}})
-- print(updates[1])   --> float32[1] [-0.5]
function Transformation:update(grads, state, params, ...)
  check.self("update", Transformation, self, "update")
  check.last("update", ...)
  if params ~= nil then check_fit("update", "gradient", grads, params)
  elseif self.needs_params then check.fail("update", "this transformation needs the parameters: t:update(grads, state, params)") end
  return self.transform(grads, M.check_state("update", state, self.size), params)
end

--- params, state = t:step(params, grads, state): update and apply_updates in one.
-- @param params the parameters, a tree
-- @param grads a tree that fits it; else it raises, naming the path
-- @param state of `init`, or of the step before
-- @usage local opt = optim.sgd(0.5)
-- local params, state = opt:step({mlax.ones{1}}, {mlax.ones{1}}, opt:init{mlax.ones{1}})
-- print(params[1])   --> float32[1] [0.5]
function Transformation:step(params, grads, state, ...)
  check.self("step", Transformation, self, "step")
  check.last("step", ...)
  check_fit("step", "gradient", grads, params)
  local updates, after = self.transform(grads, M.check_state("step", state, self.size), params)
  return M.apply_updates(params, updates), after
end

function M.no_state() return {} end

-- A transformation without state: f(update, param) leaf by leaf.
function M.stateless(f, needs_params)
  f = M.lift(f)
  return M.new(M.no_state, function(updates, state, params)
    if params == nil then return map(f, updates), state end
    return map(f, updates, params), state
  end, 0, needs_params)
end

-- Looks at trees of the state that are like the parameters.
function M.like(what, t, updates)
  check_fit("update", what, t, updates)
  return t
end

--- params + updates, each in the dtype of its parameter.
-- @param params the parameters, a tree
-- @param updates a tree of the same structure
-- @usage print(optim.apply_updates({w = mlax.ones{1}}, {w = mlax.array{0.5}}).w)   --> float32[1] [1.5]
function M.apply_updates(params, updates, ...)
  check.last("apply_updates", ...)
  check_fit("apply_updates", "update", updates, params)
  return map(M.lift(function(p, u)
    local new = p + u
    return mlax.is_array(p) and new:astype(p.dtype) or new
  end), params, updates)
end

--- One transformation behind the other.
-- @param list a list of transformations
-- @usage local opt = optim.chain{optim.clip_by_global_norm(1), optim.sgd(0.1)}
-- print(#opt:init{mlax.ones{2}})   --> 2
function M.chain(list, ...)
  check.last("chain", ...)
  if type(list) ~= "table" or is_transformation(list) then
    check.fail("chain", "a list of transformations is needed (got %s)", check.show(list))
  end
  local needs_params = false
  for i = 1, #list do
    M.check("chain", ("entry %d"):format(i), list[i])
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
      updates, after[i] = list[i].transform(updates, M.check_state("update", state[i], list[i].size), params)
    end
    return updates, after
  end
  return M.new(init, update, #list, needs_params)
end

-- Counts are int32 arrays; they stay at their greatest value.
function M.zero_count() return mlax.full({}, 0, "int32") end
function M.next_count(count) return count:minimum(2147483646) + 1 end

return M
