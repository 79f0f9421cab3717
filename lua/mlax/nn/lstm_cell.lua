--- LSTMCell: one step of a long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).
local mlax = require "mlax"
local check = require "mlax.check"
local cells = require "mlax.nn.cells"

local LSTMCell = mlax.class("LSTMCell")

--- nn.LSTMCell(rng, size)
-- @param rng the key: input_kernel gets fold_in(rng, 0), hidden_kernel fold_in(rng, 1), both by lecun_normal; bias_kernel is zeros
-- @param size the length of h and c
-- @usage local zeros = mlax.zeros{8}
-- local r = nn.Recurrent(nn.LSTMCell(key, 8))({mlax.ones{20, 3}, {zeros, zeros}})
-- print(r[1].shape[1], r[1].shape[2], #r[2])   --> 20 8 2
function LSTMCell:init(rng, size, ...)
  check.last("LSTMCell", ...)
  cells.keep(self, "LSTMCell", rng, size, {"input_kernel", "hidden_kernel", "bias_kernel"})
end

function LSTMCell:setup(input)
  cells.setup(self, "LSTMCell", (cells.input("LSTMCell", input, "{x, {h, c}}")), 4)
  self.bias_kernel.data = mlax.zeros{4 * self.size}
end

--- {x, {h, c}} -> {h', {h', c'}}; x {..., in}, h and c {..., size}.
--     i, f, g, o = x W + h U + b        c' = sigmoid(f) c + sigmoid(i) tanh(g)        h' = sigmoid(o) tanh(c')
function LSTMCell:forward(input)
  local x, state = cells.input("LSTMCell", input, "{x, {h, c}}")
  local h, c = cells.input("LSTMCell", state, "{x, {h, c}}")
  x, h = cells.vector("LSTMCell", "x", x), cells.vector("LSTMCell", "h", h, self.size)
  c = cells.vector("LSTMCell", "c", c, self.size)
  local z = cells.product("LSTMCell", "x", x, self.input_kernel) + cells.product("LSTMCell", "h", h, self.hidden_kernel)
  local i, f, g, o = (z + self.bias_kernel.data:astype(z.dtype)):split(4, -1)
  c = f:sigmoid() * c + i:sigmoid() * g:tanh()
  h = o:sigmoid() * c:tanh()
  return {h, {h, c}}
end

return LSTMCell
