--- Linear: a product with a kernel, without a bias.
local mlax = require "mlax"
local check = require "mlax.check"
local initializers = require "mlax.nn.initializers"

local Linear = mlax.class("Linear")

--- nn.Linear(rng, out_features, options)
-- @param rng the key of the kernel
-- @param out_features the length of the last axis of the result
-- @param options {transposed_kernel = false: the kernel is {in, out}; true: {out, in},
--   kernel_initializer = initializers.lecun_normal(), asked for the shape {in, out},
--   dtype = "float32" of the kernel, accum_dtype of the product and its result (default: the input's)}
-- @usage local y, layer = nn.Linear(key, 10)(mlax.ones{32, 784})
-- print(y:dims())   --> 32 10
function Linear:init(rng, out_features, options, ...)
  local o = check.options("Linear", options, "transposed_kernel kernel_initializer dtype accum_dtype", ...)
  self.rng = mlax.Parameter(false, check.key("Linear", "rng", rng))
  self.out_features = check.int("Linear", "out_features", out_features, 0)
  self.transposed_kernel = o.transposed_kernel or false
  self.kernel_initializer = check.callable("Linear", "kernel_initializer", o.kernel_initializer or initializers.lecun_normal())
  self.dtype = check.dtype("Linear", "dtype", o.dtype, "float32")
  self.accum_dtype = check.dtype("Linear", "accum_dtype", o.accum_dtype)
  self.linear_kernel = mlax.Parameter(true)
end

-- The input as an array of floats with at least one axis.
local function input(x)
  x = check.array("Linear", "x", x)
  if x.ndim == 0 or not x.dtype:find("float", 1, true) then
    check.fail("Linear", "the input must be an array {..., in_features} of floats (got %s)%s", check.show(x),
      x.ndim > 0 and ", convert it with astype" or "")
  end
  return x
end

--- The kernel, from the length of the input's last axis.
function Linear:setup(x)
  local kernel = self.kernel_initializer(self.rng.data, {input(x):dim(-1), self.out_features}, self.dtype)
  self.linear_kernel.data = self.transposed_kernel and kernel.T or kernel
  self.rng = nil
end

--- x {..., in} -> {..., out}. The kernel is cast to the dtype of x; integers raise.
function Linear:forward(x)
  x = input(x)
  local kernel = check.kernel("Linear", self.linear_kernel):astype(x.dtype)
  local axis = self.transposed_kernel and 2 or 1
  if x:dim(-1) ~= kernel:dim(axis) then
    check.fail("Linear", "the last axis of the input must have length %d (got %s)", kernel:dim(axis), check.show(x))
  end
  return mlax.lax.dot_general(x, kernel, {contract = {{x.ndim}, {axis}}, accum_dtype = self.accum_dtype})
end

return Linear
