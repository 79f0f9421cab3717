--- RMSNorm: mean square 1 over axes of each example (Zhang and Sennrich 2019).
local mlax = require "mlax"
local check = require "mlax.check"
local functional = require "mlax.nn.functional"
local norms = require "mlax.nn.norms"

local RMSNorm = mlax.class("RMSNorm")

--- nn.RMSNorm(rng, options)
-- @param rng a key
-- @param options {axis = -1: a number or a list, epsilon = 1e-6, scale = true: a parameter over `axis`}
-- @usage print((nn.RMSNorm(key)(mlax.array{{3, 4}})))   --> float32[1,2] [[0.84853 1.13137]]
function RMSNorm:init(rng, options, ...)
  local o = check.options("RMSNorm", options, "axis epsilon scale", ...)
  self.axis, self.epsilon = o.axis or -1, o.epsilon or 1e-6
  norms.parameters(self, "RMSNorm", rng, o.scale, false)
end

function RMSNorm:setup(x) norms.setup(self, (norms.shapes("RMSNorm", check.array("RMSNorm", "x", x), self.axis))) end

--- x of floats -> the same shape and dtype.
function RMSNorm:forward(x)
  x = check.array("RMSNorm", "x", x)
  return norms.affine(self, "RMSNorm", functional.rms_norm(x, self.axis, {epsilon = self.epsilon}), norms.shapes("RMSNorm", x, self.axis))
end

return RMSNorm
