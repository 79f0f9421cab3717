--- TransformerEncoderLayer: attention of a sequence to itself and two Dense layers at each place (Vaswani et al. 2017).
local mlax = require "mlax"
local check = require "mlax.check"
local functional = require "mlax.nn.functional"
local Dense = require "mlax.nn.dense"
local Dropout = require "mlax.nn.dropout"
local LayerNorm = require "mlax.nn.layer_norm"
local MultiheadAttention = require "mlax.nn.multihead_attention"

local TransformerEncoderLayer = mlax.class("TransformerEncoderLayer")

--- nn.TransformerEncoderLayer(rng, heads, ff_size, options)
-- @param rng a key: attention, attention_norm, ff_in, ff_out and ff_norm get fold_in(rng, 0) to fold_in(rng, 4)
-- @param heads of the attention
-- @param ff_size the width between the two Dense layers
-- @param options {dropout = 0: of the weights of attention, of both results and between the Dense layers, activation = relu,
--   norm_first = true: x + f(norm(x)); false: norm(x + f(x))}
-- @usage local r = nn.TransformerEncoderLayer(key, 2, 32)({mlax.ones{5, 8}, false}, random.key(1))
-- print(r[1]:dims())   --> 5 8
function TransformerEncoderLayer:init(rng, heads, ff_size, options, ...)
  local op = "TransformerEncoderLayer"
  local o = check.options(op, options, "dropout activation norm_first", ...)
  local function fold(i) return mlax.random.fold_in(rng, i) end
  self.rng = mlax.Parameter(false, check.key(op, "rng", rng))
  self.norm_first = o.norm_first ~= false
  self.activation = check.callable(op, "activation", o.activation or functional.relu)
  self.attention = MultiheadAttention(fold(0), heads, {dropout = o.dropout})
  self.attention_norm = LayerNorm(fold(1))
  self.ff_in = Dense(fold(2), check.int(op, "ff_size", ff_size, 1))
  self.ff_norm = LayerNorm(fold(4))
  if o.dropout and o.dropout ~= 0 then self.dropout = Dropout(o.dropout) end
end

-- The input {x, mask}, checked.
local function input(list)
  local op = "TransformerEncoderLayer"
  if type(list) ~= "table" then check.fail(op, "the input must be {x, mask or false} (got %s)", check.show(list)) end
  local x = check.array(op, "x", list[1])
  if x.ndim < 2 then check.fail(op, "x must be an array {..., len, depth} of floats (got %s)", check.show(x)) end
  return x, list[2] or false
end

function TransformerEncoderLayer:setup(list)
  self.ff_out = Dense(mlax.random.fold_in(self.rng.data, 3), input(list):dim(-1))
  self.rng = nil
end

-- Dropout number i of the layer (from 0; attention has number 0).
local function drop(self, x, rng, i, inference_mode)
  if not self.dropout then return x end
  x, self.dropout = self.dropout(x, rng and mlax.random.fold_in(rng, i), inference_mode)
  return x
end

local function attend(self, x, mask, rng, inference_mode, batch_axis_name)
  local key = rng and mlax.random.fold_in(rng, 0)
  x, self.attention = self.attention({x, x, x, mask}, key, inference_mode, batch_axis_name)
  return drop(self, x, rng, 1, inference_mode)
end

local function feed_forward(self, x, rng, inference_mode, batch_axis_name)
  x, self.ff_in = self.ff_in(x, nil, inference_mode, batch_axis_name)
  x = drop(self, self.activation(x), rng, 2, inference_mode)
  x, self.ff_out = self.ff_out(x, nil, inference_mode, batch_axis_name)
  return drop(self, x, rng, 3, inference_mode)
end

--- {x, mask or false} -> the same: x {len, depth}, mask bool {len, len}, which passes unchanged to the next layer. Further leading axes
-- are batch. A key is needed in training where there is dropout.
function TransformerEncoderLayer:forward(list, rng, inference_mode, batch_axis_name)
  local x, mask = input(list)
  local function normed(name, v)
    v, self[name] = self[name](v, nil, inference_mode)
    return v
  end
  if self.norm_first then
    x = x + attend(self, normed("attention_norm", x), mask, rng, inference_mode, batch_axis_name)
    return {x + feed_forward(self, normed("ff_norm", x), rng, inference_mode, batch_axis_name), mask}
  end
  x = normed("attention_norm", x + attend(self, x, mask, rng, inference_mode, batch_axis_name))
  return {normed("ff_norm", x + feed_forward(self, x, rng, inference_mode, batch_axis_name)), mask}
end

return TransformerEncoderLayer
