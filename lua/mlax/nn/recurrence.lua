--- What Recurrent and RecurrentRng share: a cell over the leading axis of its input.
local mlax = require "mlax"
local check = require "mlax.check"

local map = mlax.tree.map

local recurrence = {}

--- Checks a constructor's arguments and keeps them: the cell, and the options {reverse, unroll}.
function recurrence.keep(self, op, cell, options, ...)
  local o = check.options(op, options, "reverse unroll", ...)
  if not mlax.is_module(cell) then check.fail(op, "the cell must be a module (got %s)", check.show(cell)) end
  self.reverse = o.reverse or false
  self.unroll = o.unroll == true or check.int(op, "unroll", o.unroll or 1, 1)
  self.cell = cell
end

-- The number of steps: the length of the leading axis of xs.
local function length_of(op, xs)
  local length
  for _, pair in ipairs(mlax.tree.leaves_with_path(xs)) do
    local x = pair[2]
    if mlax.is_array(x) then
      if x.ndim == 0 then check.fail(op, "xs must have a leading axis of steps (got %s)", check.show(x)) end
      if length and length ~= x:dim(1) then check.fail(op, "leading axes of xs differ in length (got %d and %d)", length, x:dim(1)) end
      length = x:dim(1)
    end
  end
  if not length then check.fail(op, "xs holds no array, so nothing says how many steps there are") end
  return length
end

-- f on the arrays of trees; other leaves stay.
local function on_arrays(f, ...)
  return map(function(x, ...) return mlax.is_array(x) and f(x, ...) or x end, ...)
end

local function rows(xs, first, last)
  return on_arrays(function(x) return x[{{first, last}}] end, xs)
end

local function joined(a, b)
  if a == nil or b == nil then return a or b end
  return on_arrays(function(x, y) return mlax.concat({x, y}, 1) end, a, b)
end

-- A body that runs k steps of f, over slices with a leading axis of length k.
local function block_of(f, k, reverse)
  return function(carry, xs) return mlax.scan(f, carry, xs, {length = k, reverse = reverse, unroll = true}) end
end

-- {n k, ...} -> {n, k, ...} and back
local function folded(x, n, k)
  local shape = x.shape
  shape[1] = k
  table.insert(shape, 1, n)
  return x:reshape(shape)
end

local function unfolded(x)
  local shape = x.shape
  shape[1] = shape[1] * table.remove(shape, 2)
  return x:reshape(shape)
end

-- mlax.scan with k steps in each turn; what does not fill a turn comes last.
local function scan(f, carry, xs, length, reverse, k)
  if k == true or k == 1 or length < k then return mlax.scan(f, carry, xs, {length = length, reverse = reverse, unroll = k == true}) end
  local n = length // k
  local over = length - n * k
  local main = reverse and rows(xs, over + 1, length) or rows(xs, 1, n * k)
  local folds = on_arrays(function(x) return folded(x, n, k) end, main)
  local ys, rest
  carry, ys = mlax.scan(block_of(f, k, reverse), carry, folds, {length = n, reverse = reverse})
  ys = on_arrays(unfolded, ys)
  if over == 0 then return carry, ys end
  carry, rest = mlax.scan(f, carry, reverse and rows(xs, 1, over) or rows(xs, n * k + 1, length), {reverse = reverse})
  if reverse then return carry, joined(rest, ys) end
  return carry, joined(ys, rest)
end

-- The result of a cell: a list of two.
local function pair(op, result)
  if type(result) ~= "table" or result[1] == nil or result[2] == nil or #result ~= 2 then
    check.fail(op, "the cell must give {y, h} (got %s)", check.show(result))
  end
  return result[1], result[2]
end

-- A cell that has not been called is set up by the first step, which therefore runs by itself.
local function first_step(self, op, xs, h, length, call)
  if length == 0 then check.fail(op, "the first input sets the cell up (got no steps, need at least 1)") end
  local t = self.reverse and length or 1
  local result
  result, self.cell = call(self.cell, {on_arrays(function(x) return x[t] end, xs), h}, 0)
  local y, new = pair(op, result)
  local rest = self.reverse and rows(xs, 1, length - 1) or rows(xs, 2, length)
  return new, on_arrays(function(v) return v:expand_dims(1) end, map(recurrence.as_array, y)), rest
end

--- Numbers as arrays, as scan makes them.
function recurrence.as_array(v)
  if type(v) ~= "number" then return v end
  return mlax.array(v, math.type(v) == "integer" and "int32" or "float32")
end

--- Applies the cell to {x, h} for each x of xs, the last first where `reverse` is set.
-- @param input {xs, h}
-- @param call `call(cell, {x, h}, t)` -> {y, h}, cell; t counts the steps before
-- @return {ys, h}
function recurrence.run(self, op, input, call)
  if type(input) ~= "table" or input[1] == nil or input[2] == nil then
    check.fail(op, "the input must be {xs, h}: the steps and the first state (got %s)", check.show(input))
  end
  local xs, h, done, first = input[1], map(recurrence.as_array, input[2]), 0, nil
  local length = length_of(op, xs)
  if not self.cell.initialized then
    h, first, xs = first_step(self, op, xs, h, length, call)
    h, length, done = map(recurrence.as_array, h), length - 1, 1
  end
  if length == 0 and first then return {first, h} end
  -- Trainable parameters do not change from step to step: outside the carry, their gradients need no copy a step.
  local cell = self.cell
  local trainable, state = cell:partition()
  local function body(carry, x)
    local result, after = call(trainable:combine(carry[1]), {x, carry[2]}, carry[3])
    local y, new = pair(op, result)
    local _, left = after:partition()
    return {left, new, carry[3] + 1}, y
  end
  local carry, ys = scan(body, {state, h, mlax.array(done, "int32")}, xs, length, self.reverse, self.unroll)
  if #mlax.tree.leaves(state) > 0 then self.cell = trainable:combine(carry[1]) end -- else nothing in it has changed
  if self.reverse then return {joined(ys, first), carry[2]} end
  return {joined(first, ys), carry[2]}
end

return recurrence
