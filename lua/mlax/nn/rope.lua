--- RoPE: rotary position embedding (Su et al. 2021).
local mlax = require "mlax"
local check = require "mlax.check"

local RoPE = mlax.class("RoPE")

--- nn.RoPE(options)
-- @param options {base = 10000}
-- @usage print((nn.RoPE()(mlax.array{{1, 0}, {1, 0}})))   --> float32[2,2] [[1.00000 0.00000] [0.54030 0.84147]]
function RoPE:init(options, ...)
  self.base = check.number("RoPE", "base", check.options("RoPE", options, "base", ...).base or 10000)
  if self.base <= 0 then check.fail("RoPE", "base must be positive (got %s)", check.show(self.base)) end
end

function RoPE:setup() end

-- cos and sin of position p times frequency base^(-2 i / depth), {len, depth / 2}, both from 0.
local function turns(base, len, depth, dtype)
  local wide = dtype == "float64" and dtype or "float32"
  local i = mlax.range(0, depth // 2 - 1):astype(wide)
  local frequency = (i * (-2 * math.log(base) / depth)):exp()
  local angle = mlax.range(0, len - 1):astype(wide):expand_dims(2) * frequency
  return angle:cos():astype(dtype), angle:sin():astype(dtype)
end

--- x {..., len, depth} of floats -> the same: each pair of neighbours (2i, 2i + 1) turned by its angle.
--     a' = a cos - b sin        b' = a sin + b cos
function RoPE:forward(x)
  x = check.array("RoPE", "x", x)
  if x.ndim < 2 or x:dim(-1) % 2 ~= 0 or not x.dtype:find("float", 1, true) then
    check.fail("RoPE", "the input must be an array {..., len, depth} of floats with an even depth (got %s)", check.show(x))
  end
  if x.size == 0 then return x end
  local shape = x.shape
  local cos, sin = turns(self.base, shape[#shape - 1], shape[#shape], x.dtype)
  local pairs_ = x.shape
  pairs_[#pairs_] = shape[#shape] // 2
  pairs_[#pairs_ + 1] = 2
  local a, b = x:reshape(pairs_):split(2, -1)
  a, b = a:squeeze(-1), b:squeeze(-1)
  return mlax.stack({a * cos - b * sin, a * sin + b * cos}, -1):reshape(shape)
end

return RoPE
