--- Transformations made of others: for a part of the parameters, over several steps, past bad gradients.
local mlax = require "mlax"
local check = require "mlax.check"
local transformation = require "mlax.optim.transformation"

local tree = mlax.tree
local map = tree.map
local lift, like, zeros_like = transformation.lift, transformation.like, transformation.zeros_like
local zero_count, next_count = transformation.zero_count, transformation.next_count

local M = {}

-- Parts of a tree ----------------------------------------------------------------------------------------------------------

-- The keys of a path, one after the other: names, numbers, quoted text.
local function keys_of(path)
  return coroutine.wrap(function()
    local rest = path
    while rest ~= "" do
      local key, after = rest:match('^%["(.-)"%](.*)$')
      if not key then
        key, after = rest:match("^%[(%d+)%](.*)$")
        key = key and math.tointeger(key)
      end
      if not key then key, after = rest:match("^%.?([^.%[]+)(.*)$") end
      coroutine.yield(key)
      rest = after
    end
  end)
end

local function is_label(v) return type(v) == "boolean" or type(v) == "string" end

-- What a tree of labels (booleans or strings), which may end early, says of a path.
local function label_at(op, labels, path)
  local node = labels
  if is_label(node) then return node end
  for key in keys_of(path) do
    if (type(node) ~= "table" and type(node) ~= "userdata") or mlax.is_array(node) then break end
    node = node[key]
    if is_label(node) then return node end
  end
  check.fail(op, "the labels say nothing of %s", path)
end

-- A label for each leaf of params, in order.
local function labels_of(op, labels, params)
  if type(labels) == "function" then labels = labels(params) end
  local list = {}
  for i, leaf in ipairs(tree.leaves_with_path(params)) do list[i] = label_at(op, labels, leaf[1]) end
  return list
end

-- The tree with empty places where the label is another; nil stays nil.
local function part(t, labels, label)
  if t == nil then return nil end
  local i = 0
  return map(function(x)
    i = i + 1
    return labels[i] == label and x or false
  end, t)
end

-- The tree `t` whose leaves of a label come from `from`, which has no others.
local function merged(t, labels, label, from)
  local leaves, i, j = tree.leaves(from), 0, 0
  return map(function(x)
    i = i + 1
    if labels[i] ~= label then return x end
    j = j + 1
    return leaves[j]
  end, t)
end

--- t for the parameters that a mask names; the updates of the others pass unchanged.
-- @param t a transformation
-- @param mask a tree of booleans like the parameters, which may end early, or a function of the parameters that gives one
-- @usage local t = optim.masked(optim.scale(0), {a = true, b = false})
-- local params = {a = mlax.ones{1}, b = mlax.ones{1}}
-- local updates = t:update(params, t:init(params))
-- print(updates.a, updates.b)   --> float32[1] [0] float32[1] [1]
function M.masked(t, mask, ...)
  check.last("masked", ...)
  transformation.check("masked", "the first argument", t)
  local function start(params) return {t.start(part(params, labels_of("masked", mask, params), true))} end
  return transformation.new(start, function(updates, state, params)
    local labels = labels_of("masked", mask, params or updates)
    local inside, after = t.transform(part(updates, labels, true), state[1], part(params, labels, true))
    return merged(updates, labels, true, inside), {after}
  end, 1, t.needs_params)
end

--- A transformation for each label.
-- @param transformations {label = transformation}
-- @param labels a tree of labels (strings) like the parameters, which may end early, or a function of the parameters that gives one
-- @usage local t = optim.multi_transform({slow = optim.sgd(0.01), fast = optim.sgd(1)}, {a = "slow", b = "fast"})
-- local params = {a = mlax.ones{1}, b = mlax.ones{1}}
-- print(t:step(params, params, t:init(params)).b)   --> float32[1] [0]
function M.multi_transform(transformations, labels, ...)
  local op = "multi_transform"
  check.last(op, ...)
  if type(transformations) ~= "table" then
    check.fail(op, "a table {label = transformation} is needed (got %s)", check.show(transformations))
  end
  local names, needs_params = {}, false
  for name, t in pairs(transformations) do
    names[#names + 1] = name
    needs_params = transformation.check(op, tostring(name), t).needs_params or needs_params
  end
  table.sort(names)
  local function labels_like(params)
    local list = labels_of(op, labels, params)
    for _, label in ipairs(list) do
      if not transformations[label] then
        check.fail(op, "no transformation for the label '%s' (has %s)", tostring(label), table.concat(names, ", "))
      end
    end
    return list
  end
  local function start(params)
    local list, states = labels_like(params), {}
    for i, name in ipairs(names) do states[i] = transformations[name].start(part(params, list, name)) end
    return states
  end
  return transformation.new(start, function(updates, state, params)
    local list, after, out = labels_like(params or updates), {}, updates
    for i, name in ipairs(names) do
      local t = transformations[name]
      local inside, later = t.transform(part(updates, list, name), state[i], part(params, list, name))
      out, after[i] = merged(out, list, name, inside), later
    end
    return out, after
  end, #names, needs_params)
end

-- Steps that are taken or not ------------------------------------------------------------------------------------------------

-- a where pred, a bool scalar, else b, leaf by leaf.
local function choose(pred, a, b)
  return map(lift(function(x, y) return mlax.where(pred, x, y) end), a, b)
end

--- t on the mean of n gradients, at every n-th update; the updates between are zeros (optax's MultiSteps).
-- @param t a transformation
-- @param n how many
-- @usage local t = optim.accumulate(optim.sgd(1), 2)
-- local params = {mlax.zeros{1}}
-- local state = t:init(params)
-- for i = 1, 2 do params, state = t:step(params, {mlax.full({1}, i)}, state) end
-- print(params[1])   --> float32[1] [-1.5]
function M.accumulate(t, n, ...)
  check.last("accumulate", ...)
  transformation.check("accumulate", "the first argument", t)
  n = check.int("accumulate", "n", n, 1)
  -- state: gradients since the last step, their mean, t's state
  local function start(params) return {zero_count(), zeros_like(params), t.start(params)} end
  return transformation.new(start, function(updates, state, params)
    local count = state[1]
    local mean = map(lift(function(m, g) return m + (g - m) / (count + 1):astype(m.dtype) end), like("mean", state[2], updates), updates)
    local last = count:eq(n - 1)
    local steps, after = t.transform(mean, state[3], params)
    local zeros = zeros_like(mean)
    return choose(last, steps, zeros), {mlax.where(last, 0, count + 1), choose(last, zeros, mean), choose(last, after, state[3])}
  end, 3, t.needs_params)
end

--- t, but updates with NaN or infinities become zeros and leave its state as it was; after n such in a row they are let through.
-- @param t a transformation
-- @param n how many
-- @usage local t = optim.apply_if_finite(optim.sgd(1), 5)
-- print(t:step({mlax.ones{1}}, {mlax.array{0 / 0}}, t:init{mlax.ones{1}})[1])   --> float32[1] [1]
function M.apply_if_finite(t, n, ...)
  check.last("apply_if_finite", ...)
  transformation.check("apply_if_finite", "the first argument", t)
  n = check.int("apply_if_finite", "n", n, 0)
  -- state: bad updates in a row, bad updates in all, t's state
  local function start(params) return {zero_count(), zero_count(), t.start(params)} end
  return transformation.new(start, function(updates, state, params)
    local finite = mlax.full({}, true, "bool")
    for _, x in ipairs(tree.leaves(updates)) do
      if mlax.is_array(x) then finite = finite:logical_and(x:isfinite():all()) end
    end
    local row = mlax.where(finite, 0, next_count(state[1]))
    local taken = finite:logical_or(row:gt(n))
    local steps, after = t.transform(updates, state[3], params)
    return choose(taken, steps, zeros_like(updates)),
      {row, mlax.where(finite, state[2], next_count(state[2])), choose(taken, after, state[3])}
  end, 3, t.needs_params)
end

return M
