--- What LayerNorm, RMSNorm and GroupNorm share: a scale of ones and a bias of zeros, where they are wanted.
local mlax = require "mlax"
local check = require "mlax.check"
local initializers = require "mlax.nn.initializers"

local norms = {}

--- The Parameters that an options table asks for: `scale` and `bias`, both unless they are false.
function norms.parameters(self, op, rng, scale, bias)
  self.rng = mlax.Parameter(false, check.key(op, "rng", rng))
  if scale ~= false then self.scale = mlax.Parameter(true) end
  if bias ~= false then self.bias = mlax.Parameter(true) end
end

--- Makes them, of a shape.
function norms.setup(self, shape)
  if self.scale then self.scale.data = initializers.ones(self.rng.data, shape) end
  if self.bias then self.bias.data = initializers.zeros(self.rng.data, shape) end
  self.rng = nil
end

--- y * scale + bias, which have the shape `lengths`; `shape` lines them up with y.
function norms.affine(self, op, y, lengths, shape)
  local parameter = self.scale or self.bias
  local need = parameter and check.kernel(op, parameter).shape
  if need and table.concat(need, ",") ~= table.concat(lengths, ",") then
    check.fail(op, "the axes of scale and bias must have the lengths {%s} (got %s)", table.concat(need, ", "), check.show(y))
  end
  if self.scale then y = y * self.scale.data:astype(y.dtype):reshape(shape) end
  if self.bias then y = y + self.bias.data:astype(y.dtype):reshape(shape) end
  return y
end

--- The lengths of axes of x, and the shape of x in which all other axes have length 1.
function norms.shapes(op, x, axis)
  local lengths, aligned = {}, {}
  for i = 1, x.ndim do aligned[i] = 1 end
  for _, i in ipairs(check.axes(op, "axis", axis, x.ndim)) do
    lengths[#lengths + 1] = x:dim(i)
    aligned[i] = x:dim(i)
  end
  return lengths, aligned
end

return norms
