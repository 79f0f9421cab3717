--- GRUCell: one step of a gated recurrent unit (Cho et al. 2014), with the reset gate behind the product, as PyTorch has it.
local mlax = require "mlax"
local check = require "mlax.check"
local cells = require "mlax.nn.cells"

local GRUCell = mlax.class("GRUCell")

--- nn.GRUCell(rng, size)
-- @param rng the key: input_kernel gets fold_in(rng, 0), hidden_kernel fold_in(rng, 1), both by lecun_normal; the biases, bias_kernel of
--   the input and hidden_bias_kernel of the state, are zeros
-- @param size the length of h
-- @usage local r = nn.GRUCell(key, 8)({mlax.ones{3}, mlax.zeros{8}})
-- print(r[1]:dims())   --> 8
function GRUCell:init(rng, size, ...)
  check.last("GRUCell", ...)
  cells.keep(self, "GRUCell", rng, size, {"input_kernel", "hidden_kernel", "bias_kernel", "hidden_bias_kernel"})
end

function GRUCell:setup(input)
  cells.setup(self, "GRUCell", (cells.input("GRUCell", input, "{x, h}")), 3)
  self.bias_kernel.data, self.hidden_bias_kernel.data = mlax.zeros{3 * self.size}, mlax.zeros{3 * self.size}
end

--- {x, h} -> {h', h'}; x {..., in}, h {..., size}. With the gates r, z, n of x W + b and of h U + c:
--     r = sigmoid(xr + hr)        z = sigmoid(xz + hz)        n = tanh(xn + r hn)        h' = (1 - z) n + z h
function GRUCell:forward(input)
  local x, h = cells.input("GRUCell", input, "{x, h}")
  x, h = cells.vector("GRUCell", "x", x), cells.vector("GRUCell", "h", h, self.size)
  local from_x = cells.product("GRUCell", "x", x, self.input_kernel)
  local from_h = cells.product("GRUCell", "h", h, self.hidden_kernel)
  local xr, xz, xn = (from_x + self.bias_kernel.data:astype(x.dtype)):split(3, -1)
  local hr, hz, hn = (from_h + self.hidden_bias_kernel.data:astype(h.dtype)):split(3, -1)
  local r, z = (xr + hr):sigmoid(), (xz + hz):sigmoid()
  local n = (xn + r * hn):tanh()
  h = (1 - z) * n + z * h
  return {h, h}
end

return GRUCell
