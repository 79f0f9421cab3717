--- Initializers: functions `init(key, shape, dtype)` with the numbers of jax.nn.initializers; dtype is "float32" unless given.
-- A constructor called twice with equal arguments gives the very same function, so that models built alike have equal structures.
--
--     local init = nn.initializers.he_normal()
--     init(random.key(0), {784, 512})            --> float32[784,512]
local mlax = require "mlax"
local check = require "mlax.check"
local intern = require "mlax.intern"

local random = mlax.random

local I = {}

--- All zeros; itself an initializer.
-- @param _ a key, which is not needed
-- @param shape a list of lengths
-- @param dtype of the result ("float32")
-- @usage print(initializers.zeros(nil, {2}))   --> float32[2] [0 0]
function I.zeros(_, shape, dtype) return mlax.zeros(shape, dtype or "float32") end

--- All ones; itself an initializer.
-- @param _ a key, which is not needed
-- @param shape a list of lengths
-- @param dtype of the result ("float32")
-- @usage print(initializers.ones(nil, {2}, "int32"))   --> int32[2] [1 1]
function I.ones(_, shape, dtype) return mlax.ones(shape, dtype or "float32") end

--- Every element is v.
-- @param v a number, boolean, or an array that broadcasts to the shape asked for
-- @usage print(initializers.constant(3)(nil, {2}))   --> float32[2] [3 3]
function I.constant(v, ...)
  check.last("constant", ...)
  if not mlax.is_array(v) and type(v) ~= "boolean" then check.number("constant", "v", v) end
  return intern("constant", {v}, function()
    return function(_, shape, dtype)
      dtype = dtype or "float32"
      if mlax.is_array(v) then return v:astype(dtype):broadcast_to(shape) end
      return mlax.full(shape, v, dtype)
    end
  end)
end

-- A constructor of initializers that multiply draws of one kind by a number.
local function scaled(name, otherwise, draw)
  return function(scale, ...)
    check.last(name, ...)
    if scale ~= nil then check.number(name, "scale", scale) end
    scale = (scale or otherwise) + 0.0
    return intern(name, {scale}, function()
      return function(key, shape, dtype) return draw(key, shape, {dtype = dtype or "float32"}) * scale end
    end)
  end
end

-- Between -2 and 2 standard deviations.
local function draw_truncated(key, shape, options) return random.truncated_normal(key, -2, 2, shape, options) end

--- uniform(scale = 0.01): evenly in [0, scale).
-- @usage print(initializers.uniform(2)(key, {100}):max():lt(2))   --> bool[] true
I.uniform = scaled("uniform", 1e-2, random.uniform)

--- normal(stddev = 0.01).
-- @usage print(initializers.normal(0.1)(key, {2, 3}):dims())   --> 2 3
I.normal = scaled("normal", 1e-2, random.normal)

--- truncated_normal(stddev = 0.01): stddev times a normal value cut to [-2, 2]; the cut is not made up for.
-- @usage print(initializers.truncated_normal(1)(key, {100}):abs():max():le(2))   --> bool[] true
I.truncated_normal = scaled("truncated_normal", 1e-2, draw_truncated)

-- The caller's lists are his: he may change them.
local function copy(v) return type(v) == "table" and table.move(v, 1, #v, 1, {}) or v end

local function product(shape, axes)
  local n = 1
  for _, axis in ipairs(axes) do n = n * shape[axis] end
  return n
end

-- fan_in and fan_out: the lengths of the in and out axes times the receptive field (all axes that are neither in, out nor batch).
local function fans(shape, o)
  local ndim = #shape
  if ndim < 2 then
    check.fail("variance_scaling", "the fans of a shape of fewer than 2 axes are not defined (got {%s})", table.concat(shape, ", "))
  end
  local function length(name) return product(shape, check.axes("variance_scaling", name, o[name], ndim)) end
  local size_in, size_out, size_batch = length("in_axis"), length("out_axis"), length("batch_axis")
  local total = 1
  for i = 1, ndim do total = total * shape[i] end
  local field = total / size_in / size_out / size_batch
  return size_in * field, size_out * field
end

local divisor = {
  fan_in = function(fan_in) return fan_in end,
  fan_out = function(_, fan_out) return fan_out end,
  fan_avg = function(fan_in, fan_out) return (fan_in + fan_out) / 2 end,
  fan_geo_avg = function(fan_in, fan_out) return math.sqrt(fan_in * fan_out) end,
}

-- Draws of variance `variance`, a scalar of the dtype.
local distribution_of = {
  normal = function(key, shape, options, variance) return random.normal(key, shape, options) * variance:sqrt() end,
  -- 0.8796... is the standard deviation of a normal value cut to [-2, 2]
  truncated_normal = function(key, shape, options, variance)
    return draw_truncated(key, shape, options) * (variance:sqrt() / 0.87962566103423978)
  end,
  uniform = function(key, shape, options, variance)
    return random.uniform(key, shape, {dtype = options.dtype, low = -1, high = 1}) * (variance * 3):sqrt()
  end,
}

local function one_of(op, what, value, table_of)
  if table_of[value] then return table_of[value] end
  local names = {}
  for name in pairs(table_of) do names[#names + 1] = name end
  table.sort(names)
  check.fail(op, "unknown %s %s (known: %s)", what, check.show(value), table.concat(names, ", "))
end

--- Draws whose variance is scale / fan.
-- @param scale a number: the variance times the fan
-- @param mode "fan_in", "fan_out", "fan_avg" or "fan_geo_avg"
-- @param distribution "truncated_normal" (cut to two standard deviations), "normal" or "uniform"
-- @param options {in_axis = -2, out_axis = -1, batch_axis = {}}: numbers or lists; the other axes are the receptive field
-- @return init(key, shape, dtype) -> array; a shape of fewer than 2 axes raises
-- @usage print(initializers.variance_scaling(1, "fan_in", "normal")(key, {784, 10}):dims())   --> 784 10
function I.variance_scaling(scale, mode, distribution, options, ...)
  local op = "variance_scaling"
  local o = check.options(op, options, "in_axis out_axis batch_axis", ...)
  scale = check.number(op, "scale", scale) + 0.0
  local fan, draw = one_of(op, "mode", mode, divisor), one_of(op, "distribution", distribution, distribution_of)
  local axes = {in_axis = copy(o.in_axis or -2), out_axis = copy(o.out_axis or -1), batch_axis = copy(o.batch_axis or {})}
  return intern(op, {scale, mode, distribution, axes}, function()
    return function(key, shape, dtype)
      dtype = dtype or "float32"
      local n = fan(fans(shape, axes))
      if n == 0 then return mlax.zeros(shape, dtype) end
      return draw(key, shape, {dtype = dtype}, mlax.full({}, scale / n, dtype))
    end
  end)
end

-- A constructor of variance_scaling initializers of one scale and mode.
local function family(scale, mode, distribution)
  return function(options, ...) return I.variance_scaling(scale, mode, distribution, options, ...) end
end

-- The names of variance_scaling with the numbers of papers. The normal ones are cut to two standard deviations.

--- Normal numbers of variance 1 / fan_in (LeCun et al. 1998).
-- @function lecun_normal
-- @param options {in_axis = -2, out_axis = -1, batch_axis}
-- @return init(key, shape, dtype)
-- @usage print(initializers.lecun_normal()(key, {100, 100}):std():item() < 0.2)   --> true
I.lecun_normal = family(1, "fan_in", "truncated_normal")

--- Uniform numbers of variance 1 / fan_in (LeCun et al. 1998).
-- @function lecun_uniform
-- @param options {in_axis = -2, out_axis = -1, batch_axis}
-- @return init(key, shape, dtype)
-- @usage print(initializers.lecun_uniform()(key, {100, 100}):std():item() < 0.2)   --> true
I.lecun_uniform = family(1, "fan_in", "uniform")

--- Normal numbers of variance 1 / mean of fan_in and fan_out (Glorot and Bengio 2010).
-- @function glorot_normal
-- @param options {in_axis = -2, out_axis = -1, batch_axis}
-- @return init(key, shape, dtype)
-- @usage print(initializers.glorot_normal()(key, {100, 100}):std():item() < 0.2)   --> true
I.glorot_normal = family(1, "fan_avg", "truncated_normal")

--- Uniform numbers of variance 1 / mean of fan_in and fan_out (Glorot and Bengio 2010).
-- @function glorot_uniform
-- @param options {in_axis = -2, out_axis = -1, batch_axis}
-- @return init(key, shape, dtype)
-- @usage print(initializers.glorot_uniform()(key, {100, 100}):std():item() < 0.2)   --> true
I.glorot_uniform = family(1, "fan_avg", "uniform")

--- Normal numbers of variance 2 / fan_in, for layers before a relu (He et al. 2015).
-- @function he_normal
-- @param options {in_axis = -2, out_axis = -1, batch_axis}
-- @return init(key, shape, dtype)
-- @usage print(initializers.he_normal()(key, {100, 100}):std():item() < 0.2)   --> true
I.he_normal = family(2, "fan_in", "truncated_normal")

--- Uniform numbers of variance 2 / fan_in, for layers before a relu (He et al. 2015).
-- @function he_uniform
-- @param options {in_axis = -2, out_axis = -1, batch_axis}
-- @return init(key, shape, dtype)
-- @usage print(initializers.he_uniform()(key, {100, 100}):std():item() < 0.2)   --> true
I.he_uniform = family(2, "fan_in", "uniform")

-- The rows of w {n, m}, n <= m, made orthonormal one after the other, each turned towards what it was: modified Gram-Schmidt. Its Q is
-- that of a QR factorisation whose R has a positive diagonal.
local function orthonormal_rows(w)
  local rows = {}
  for i = 1, w:dim(1) do
    local q = w[1]
    q = q / q:square():sum():sqrt()
    rows[i] = q
    if w:dim(1) > 1 then
      local rest = w[{{2, -1}}]
      w = rest - rest:matmul(q):outer(q)
    end
  end
  return mlax.stack(rows, 1)
end

--- A matrix with orthonormal columns (or rows, where there are more columns), evenly distributed over all such (Saxe et al. 2014).
-- @param scale default 1
-- @param options {column_axis = -1}: all other axes together are the other side of the matrix
-- @usage local q = initializers.orthogonal(1)(key, {4, 2})
-- print(mlax.allclose(q.T:matmul(q), mlax.eye(2), {atol = 1e-5}))   --> bool[] true
function I.orthogonal(scale, options, ...)
  if type(scale) == "table" then scale, options = nil, scale end
  local o = check.options("orthogonal", options, "column_axis", ...)
  if scale ~= nil then check.number("orthogonal", "scale", scale) end
  scale = (scale or 1) + 0.0
  local column_axis = o.column_axis or -1
  return intern("orthogonal", {scale, column_axis}, function()
    return function(key, shape, dtype)
      dtype = dtype or "float32"
      if #shape < 2 then
        check.fail("orthogonal", "a shape of at least 2 axes is needed (got {%s})", table.concat(shape, ", "))
      end
      local axis, n_cols, rest = check.axis("orthogonal", "column_axis", column_axis, #shape), 1, {}
      for i = 1, #shape do
        if i ~= axis then n_cols, rest[#rest + 1] = n_cols * shape[i], shape[i] end
      end
      local n_rows = shape[axis]
      if n_rows * n_cols == 0 then return mlax.zeros(shape, dtype) end
      local a = random.normal(key, {math.max(n_rows, n_cols), math.min(n_rows, n_cols)}, {dtype = dtype})
      -- twice, in double precision: orthogonal to the last place of float64
      local q = orthonormal_rows(orthonormal_rows(a:astype("float64").T))
      if n_rows > n_cols then q = q.T end
      table.insert(rest, 1, n_rows)
      return (q * scale):astype(dtype):reshape(rest):moveaxis(1, axis)
    end
  end)
end

return I
