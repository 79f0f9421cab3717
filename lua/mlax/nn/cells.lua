--- What the recurrent cells share: their kernels, and the products of all gates at once.
local mlax = require "mlax"
local check = require "mlax.check"
local initializers = require "mlax.nn.initializers"

local cells = {}

--- Keeps the key and the size of a cell, and makes its empty kernels.
function cells.keep(self, op, rng, size, kernels)
  self.rng = mlax.Parameter(false, check.key(op, "rng", rng))
  self.size = check.int(op, "size", size, 1)
  for _, name in ipairs(kernels) do self[name] = mlax.Parameter(true) end
end

--- The input of a cell, {x, state}, as a list.
function cells.input(op, input, what)
  if type(input) ~= "table" or input[1] == nil or input[2] == nil then
    check.fail(op, "the input must be %s (got %s)", what, check.show(input))
  end
  return input[1], input[2]
end

--- An array of floats {..., length}; any length where none is given.
function cells.vector(op, what, x, length)
  x = check.array(op, what, x)
  if x.ndim == 0 or not x.dtype:find("float", 1, true) or length and x:dim(-1) ~= length then
    check.fail(op, "%s must be an array {..., %s} of floats (got %s)", what, length or "in_features", check.show(x))
  end
  return x
end

--- The kernels of `gates` gates side by side: {in, gates size} from fold_in(rng, 0), {size, gates size} from fold_in(rng, 1).
function cells.setup(self, op, x, gates)
  local rng, width, init = self.rng.data, gates * self.size, initializers.lecun_normal()
  self.input_kernel.data = init(mlax.random.fold_in(rng, 0), {cells.vector(op, "x", x):dim(-1), width})
  self.hidden_kernel.data = init(mlax.random.fold_in(rng, 1), {self.size, width})
  self.rng = nil
end

--- x times a kernel, which is cast to the dtype of x.
function cells.product(op, what, x, parameter)
  local kernel = check.kernel(op, parameter):astype(x.dtype)
  return cells.vector(op, what, x, kernel:dim(1)):matmul(kernel)
end

return cells
