--- LayerNorm: mean 0 and variance 1 over axes of each example (Ba et al. 2016).
local mlax = require "mlax"
local check = require "mlax.check"
local functional = require "mlax.nn.functional"
local norms = require "mlax.nn.norms"

local LayerNorm = mlax.class("LayerNorm")

--- nn.LayerNorm(rng, options)
-- @param rng a key
-- @param options {axis = -1: a number or a list, epsilon = 1e-5, scale = true, bias = true: parameters over `axis`}
-- @usage print((nn.LayerNorm(key)(mlax.array{{1, 3}})))   --> float32[1,2] [[-0.999995 0.999995]]
function LayerNorm:init(rng, options, ...)
  local o = check.options("LayerNorm", options, "axis epsilon scale bias", ...)
  self.axis, self.epsilon = o.axis or -1, o.epsilon or 1e-5
  norms.parameters(self, "LayerNorm", rng, o.scale, o.bias)
end

function LayerNorm:setup(x) norms.setup(self, (norms.shapes("LayerNorm", check.array("LayerNorm", "x", x), self.axis))) end

--- x of floats -> the same shape and dtype.
function LayerNorm:forward(x)
  x = check.array("LayerNorm", "x", x)
  return norms.affine(self, "LayerNorm", functional.layer_norm(x, self.axis, {epsilon = self.epsilon}),
    norms.shapes("LayerNorm", x, self.axis))
end

return LayerNorm
