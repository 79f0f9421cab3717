--- Embed: a row of a kernel for each integer.
local core = require "mlax.core"
local mlax = require "mlax"
local check = require "mlax.check"
local initializers = require "mlax.nn.initializers"

local Embed = mlax.class("Embed")

local modes = {error = true, fill = true}

--- nn.Embed(rng, vocab_size, embed_dim, options)
-- @param rng the key of the kernel {vocab_size, embed_dim}
-- @param vocab_size how many rows
-- @param embed_dim the length of a row; the kernel is {vocab_size, embed_dim}
-- @param options {embed_initializer = initializers.lecun_normal{in_axis = -1}, dtype = "float32" of the kernel and the result,
--   mode = "error": ids outside 1 to vocab_size raise; "fill": they give NaN (the least integer of an integer kernel)}
-- @usage print(nn.Embed(key, 1000, 64)(mlax.array({3, 17}, "int32")):dims())   --> 2 64
function Embed:init(rng, vocab_size, embed_dim, options, ...)
  local o = check.options("Embed", options, "embed_initializer dtype mode", ...)
  self.rng = mlax.Parameter(false, check.key("Embed", "rng", rng))
  self.vocab_size = check.int("Embed", "vocab_size", vocab_size, 0)
  self.embed_dim = check.int("Embed", "embed_dim", embed_dim, 0)
  self.embed_initializer = check.callable("Embed", "embed_initializer", o.embed_initializer or initializers.lecun_normal{in_axis = -1})
  self.dtype = check.dtype("Embed", "dtype", o.dtype, "float32")
  self.mode = o.mode or "error"
  if not modes[self.mode] then check.fail("Embed", 'mode must be "error" or "fill" (got %s)', check.show(self.mode)) end
  self.embed_kernel = mlax.Parameter(true)
end

function Embed:setup()
  self.embed_kernel.data = self.embed_initializer(self.rng.data, {self.vocab_size, self.embed_dim}, self.dtype)
  self.rng = nil
end

--- ids, integers of any shape that count from 1 -> {..., embed_dim}.
function Embed:forward(ids)
  if math.type(ids) == "integer" then ids = mlax.array(ids, "int32") end
  if not mlax.is_array(ids) or not ids.dtype:find("int", 1, true) then
    check.fail("Embed", "the input must be integers that count from 1 (got %s)", check.show(ids))
  end
  local kernel = check.kernel("Embed", self.embed_kernel)
  if self.mode == "error" then return core.take_rows(kernel, ids) end
  return kernel:take(mlax.where(ids:gt(0), ids, 0), 1, {mode = "fill"})
end

return Embed
