--- ZNorm: mean 0 and variance 1 over axes of each example and over the batch, with running statistics for inference
-- (Ioffe and Szegedy 2015, without scale and bias).
local mlax = require "mlax"
local check = require "mlax.check"
local functional = require "mlax.nn.functional"
local initializers = require "mlax.nn.initializers"

local ZNorm = mlax.class("ZNorm")

--- nn.ZNorm(rng, axis, options)
-- @param rng the key of the first statistics
-- @param axis over which axes of one example: "all", "channel_last", "channel_first" (all but the channels), a number or a list
-- @param options {epsilon = 1e-5, momentum = 0.9: how much of the running statistics stays at each step,
--   mean_initializer = initializers.zeros, variance_initializer = initializers.ones, dtype = "float32" of the statistics}
-- @usage local layer = nn.ZNorm(key, "channel_last")
-- local over_batch = mlax.vmap(function(m, x) return m(x, nil, false, "batch") end,
--   {in_axes = {false, 1}, out_axes = {1, false}, axis_name = "batch"})
-- local y, after = over_batch(layer, mlax.array{{1, 10}, {3, 30}})
-- print(y, after.moving_mean.data)   --> float32[2,2] [[-0.99999 -1.00000] [ 0.99999 1.00000]] float32[2] [0.2 2.0]
function ZNorm:init(rng, axis, options, ...)
  local o = check.options("ZNorm", options, "epsilon momentum mean_initializer variance_initializer dtype", ...)
  self.rng = mlax.Parameter(false, check.key("ZNorm", "rng", rng))
  if axis == nil then check.fail("ZNorm", 'axis is missing (need "all", "channel_last", "channel_first", a number or a list)') end
  self.axis = axis
  self.epsilon = check.number("ZNorm", "epsilon", o.epsilon or 1e-5)
  self.momentum = check.number("ZNorm", "momentum", o.momentum or 0.9)
  self.mean_initializer = check.callable("ZNorm", "mean_initializer", o.mean_initializer or initializers.zeros)
  self.variance_initializer = check.callable("ZNorm", "variance_initializer", o.variance_initializer or initializers.ones)
  self.dtype = check.dtype("ZNorm", "dtype", o.dtype, "float32")
  self.moving_mean = mlax.Parameter(false)
  self.moving_var = mlax.Parameter(false)
end

-- The axes that are reduced, the lengths of the others, and x's shape with 1 in the place of the reduced ones.
local function layout(self, x)
  local axes, kept, aligned = functional.norm_axes("ZNorm", self.axis, x.ndim), {}, x.shape
  for _, i in ipairs(axes) do aligned[i] = 1 end
  local next_axis = 1
  for i = 1, x.ndim do
    if axes[next_axis] == i then next_axis = next_axis + 1 else kept[#kept + 1] = x:dim(i) end
  end
  return axes, kept, aligned
end

local function input(x)
  x = check.array("ZNorm", "x", x)
  if not x.dtype:find("float", 1, true) then check.fail("ZNorm", "the input must be an array of floats (got %s)", check.show(x)) end
  return x
end

--- The statistics: one axis for each axis of x that is not reduced.
function ZNorm:setup(x)
  local _, kept = layout(self, input(x))
  self.moving_mean.data = self.mean_initializer(mlax.random.fold_in(self.rng.data, 0), kept, self.dtype)
  self.moving_var.data = self.variance_initializer(mlax.random.fold_in(self.rng.data, 1), kept, self.dtype)
  self.rng = nil
end

-- new = momentum old + (1 - momentum) seen, in the dtype of the old
local function move(self, statistic, seen)
  local old = statistic.data
  statistic.data = (old * self.momentum + seen:reshape(old.shape) * (1 - self.momentum)):astype(old.dtype)
end

--- x of floats -> the same shape and dtype. In training the statistics are those of x and of the batch axes, and the running ones move
-- towards them; in inference they are the running ones.
function ZNorm:forward(x, _, inference_mode, batch_axis_name)
  x = input(x)
  local mean, variance = check.kernel("ZNorm", self.moving_mean), self.moving_var.data
  local axes, kept, aligned = layout(self, x)
  if table.concat(kept, ",") ~= table.concat(mean.shape, ",") then
    check.fail("ZNorm", "the axes that are not reduced must have the lengths {%s} (got %s)", table.concat(mean.shape, ", "), check.show(x))
  end
  if inference_mode then
    mean, variance = mean:astype(x.dtype):reshape(aligned), variance:astype(x.dtype):reshape(aligned)
  else
    mean, variance = functional.statistics(x, axes, batch_axis_name)
    move(self, self.moving_mean, mean)
    move(self, self.moving_var, variance)
  end
  return (x - mean) * (variance + self.epsilon):rsqrt()
end

return ZNorm
