--- The preconditioner of L-BFGS (Liu and Nocedal 1989; Nocedal and Wright, algorithm 7.4), with optax's first step.
local mlax = require "mlax"
local check = require "mlax.check"
local transformation = require "mlax.optim.transformation"

local map, is_value, lift = mlax.tree.map, transformation.is_value, transformation.lift

-- The inner product of two trees.
local function dot(a, b)
  local sum = 0
  map(function(x, y) if is_value(x) then sum = sum + (mlax.array(x) * y):sum() end return x end, a, b)
  return sum
end

-- y + c x, in the dtype of y
local function add(y, c, x) return map(lift(function(v, u) return v + (c * u):astype(v.dtype) end), y, x) end

local function difference(a, b) return map(lift(function(x, y) return mlax.array(x) - y end), a, b) end

local function when(first, t) return map(lift(function(x) return mlax.where(first, mlax.zeros_like(x), x) end), t) end

-- The rows of a memory move up by one; the newest comes last.
local function push(memory, row)
  return map(lift(function(m, x) return mlax.concat({m[{{2, m:dim(1)}}], x:expand_dims(1):astype(m.dtype)}, 1) end), memory, row)
end

-- H g by two loops over pairs s (of parameters) and y (of gradients), rho = 1 / (y . s); an empty row has rho = 0 and does nothing:
--     newest first   a = rho s . g    g <- g - a y
--                    g <- scale g
--     oldest first   b = rho y . g    g <- g + (a - b) s
local function precondition(g, memory, scale)
  local alphas
  g, alphas = mlax.scan(function(v, m)
    local a = m.rho * dot(m.s, v)
    return add(v, -a, m.y), a
  end, g, memory, {reverse = true})
  g = map(lift(function(x) return (x * scale):astype(x.dtype) end), g)
  return (mlax.scan(function(v, m)
    return add(v, m[2] - m[1].rho * dot(m[1].y, v), m[1].s), nil
  end, g, {memory, alphas}))
end

-- The multiple of the identity that the two loops begin with: s . y / y . y; in the first step at most the length 1.
local function identity_scale(first, s_y, y_y, g)
  local some = y_y:gt(0)
  local later = mlax.where(some, s_y / mlax.where(some, y_y, 1), 1)
  local length = dot(g, g):sqrt()
  return mlax.where(first, (1 / length):minimum(1), later)
end

-- 1 / (y . s) is kept in float64 where a parameter is float64.
local function wide(params)
  for _, x in ipairs(mlax.tree.leaves(params)) do
    if mlax.is_array(x) and x.dtype == "float64" then return "float64" end
  end
  return "float32"
end

local M = {}

--- Gradients times the inverse of the Hessian as the last steps show it.
-- @param options {memory_size = 10: how many steps it looks back, scale_init_precond = true: the inverse Hessian before these steps is
--   not the identity but a multiple of it}
-- @usage local t = optim.scale_by_lbfgs()
-- print(t:update({mlax.array{4}}, t:init{mlax.ones{1}}, {mlax.ones{1}})[1])   --> float32[1] [1]
function M.scale_by_lbfgs(options, ...)
  local o = check.options("scale_by_lbfgs", options, "memory_size scale_init_precond", ...)
  local size = check.int("scale_by_lbfgs", "memory_size", o.memory_size or 10, 1)
  local scaled = o.scale_init_precond ~= false
  local function rows(params)
    return map(lift(function(x)
      local shape = x.shape
      table.insert(shape, 1, size)
      return mlax.zeros(shape, x.dtype)
    end), transformation.zeros_like(params))
  end
  local function start(params)
    local zeros = transformation.zeros_like
    return {transformation.zero_count(), zeros(params), zeros(params), rows(params), rows(params), mlax.zeros({size}, wide(params))}
  end
  return transformation.new(start, function(updates, state, params)
    local first = state[1]:eq(0)
    local s = when(first, difference(params, transformation.like("parameters before", state[2], updates)))
    local y = when(first, difference(updates, transformation.like("gradient before", state[3], updates)))
    local s_y = mlax.array(dot(s, y))
    local none = s_y:eq(0)
    local rho = mlax.where(none, 0, 1 / mlax.where(none, 1, s_y)):astype(state[6].dtype)
    local memory = {s = push(state[4], s), y = push(state[5], y), rho = push(state[6], rho)}
    local scale = scaled and identity_scale(first, s_y, mlax.array(dot(y, y)), updates) or 1
    local arrays = map(lift(mlax.array), updates)
    return precondition(arrays, memory, scale),
      {transformation.next_count(state[1]), map(lift(mlax.array), params), arrays, memory.s, memory.y, memory.rho}
  end, 6, true)
end

return M
