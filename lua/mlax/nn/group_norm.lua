--- GroupNorm: mean 0 and variance 1 over groups of channels of each example (Wu and He 2018).
local mlax = require "mlax"
local check = require "mlax.check"
local functional = require "mlax.nn.functional"
local norms = require "mlax.nn.norms"

local GroupNorm = mlax.class("GroupNorm")

--- nn.GroupNorm(rng, groups, options)
-- @param rng a key
-- @param groups how many groups the channels, the last axis, are divided into; each is normalised together with all other axes
-- @param options {epsilon = 1e-5}
-- @usage print(mlax.vmap(nn.GroupNorm(key, 4))(mlax.ones{32, 8, 8, 16}):dims())   --> 32 8 8 16
function GroupNorm:init(rng, groups, options, ...)
  local o = check.options("GroupNorm", options, "epsilon", ...)
  self.groups = check.int("GroupNorm", "groups", groups, 1)
  self.epsilon = o.epsilon or 1e-5
  norms.parameters(self, "GroupNorm", rng)
end

local function channels(self, x)
  x = check.array("GroupNorm", "x", x)
  if x.ndim == 0 or x:dim(-1) % self.groups ~= 0 then
    check.fail("GroupNorm", "the last axis of the input must be a multiple of %d groups (got %s)", self.groups, check.show(x))
  end
  return x
end

function GroupNorm:setup(x) norms.setup(self, {channels(self, x):dim(-1)}) end

--- x {..., channels} of floats -> the same shape and dtype.
function GroupNorm:forward(x)
  local shape = channels(self, x).shape
  local n = shape[#shape]
  local grouped, axes = x:reshape{-1, self.groups, n // self.groups}, {1, 3}
  if x.size == 0 then return x end
  local y = functional.layer_norm(grouped, axes, {epsilon = self.epsilon}):reshape(shape)
  return norms.affine(self, "GroupNorm", y, {n}, {n})
end

return GroupNorm
