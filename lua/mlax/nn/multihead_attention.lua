--- MultiheadAttention: attention by several heads side by side (Vaswani et al. 2017), also with fewer heads of keys and values
-- (Ainslie et al. 2023).
local mlax = require "mlax"
local check = require "mlax.check"
local functional = require "mlax.nn.functional"
local Dense = require "mlax.nn.dense"
local Dropout = require "mlax.nn.dropout"
local RoPE = require "mlax.nn.rope"

local MultiheadAttention = mlax.class("MultiheadAttention")

--- nn.MultiheadAttention(rng, heads, options)
-- @param rng a key: the Dense layers query, key, value and out get fold_in(rng, 0) to fold_in(rng, 3)
-- @param heads how many heads the depth of the queries is divided into
-- @param options {kv_heads = heads: heads of keys and values, each for heads / kv_heads of the queries, dropout = 0 of the weights,
--   rope = false; true or the options of RoPE: positions by rotation, causal = false: query i sees keys 1 to i}
-- @usage local x = random.normal(key, {5, 16})
-- local y = nn.MultiheadAttention(key, 4, {causal = true})({x, x, x, false}, random.key(1))
-- print(y:dims())   --> 5 16
function MultiheadAttention:init(rng, heads, options, ...)
  local op = "MultiheadAttention"
  local o = check.options(op, options, "kv_heads dropout rope causal", ...)
  self.rng = mlax.Parameter(false, check.key(op, "rng", rng))
  self.heads = check.int(op, "heads", heads, 1)
  self.kv_heads = check.int(op, "kv_heads", o.kv_heads or self.heads, 1)
  if self.heads % self.kv_heads ~= 0 then
    check.fail(op, "heads must be a multiple of kv_heads (got %d and %d)", self.heads, self.kv_heads)
  end
  self.causal = o.causal or false
  if o.dropout and o.dropout ~= 0 then self.dropout = Dropout(o.dropout) end
  if o.rope then self.rope = RoPE(o.rope ~= true and o.rope or nil) end
end

-- The input {q, k, v, mask}, checked.
local function input(xs)
  local op, names = "MultiheadAttention", {"q", "k", "v"}
  if type(xs) ~= "table" then check.fail(op, "the input must be {q, k, v, mask or false} (got %s)", check.show(xs)) end
  local list = {}
  for i, name in ipairs(names) do
    list[i] = check.array(op, name, xs[i])
    if list[i].ndim < 2 or not list[i].dtype:find("float", 1, true) then
      check.fail(op, "%s must be an array {..., len, depth} of floats (got %s)", name, check.show(list[i]))
    end
  end
  if list[2]:dim(-2) ~= list[3]:dim(-2) then
    check.fail(op, "k and v must have the same length (got %s and %s)", check.show(list[2]), check.show(list[3]))
  end
  return list[1], list[2], list[3], xs[4] or nil
end

function MultiheadAttention:setup(xs)
  local depth = input(xs):dim(-1)
  if depth % self.heads ~= 0 then
    check.fail("MultiheadAttention", "the depth of q must be a multiple of %d heads (got %d)", self.heads, depth)
  end
  local rng, narrow = self.rng.data, depth // self.heads * self.kv_heads
  local function dense(i, size) return Dense(mlax.random.fold_in(rng, i), size) end
  self.query, self.key, self.value, self.out = dense(0, depth), dense(1, narrow), dense(2, narrow), dense(3, depth)
  self.rng = nil
end

-- {..., len, heads d} -> {..., heads, len, d}
local function split(x, heads)
  local shape = x.shape
  shape[#shape + 1] = shape[#shape] // heads
  shape[#shape - 1] = heads
  return x:reshape(shape):swapaxes(-2, -3)
end

-- {..., heads, len, d} -> {..., len, heads d}
local function merge(x)
  x = x:swapaxes(-2, -3)
  local shape = x.shape
  local d = table.remove(shape)
  shape[#shape] = shape[#shape] * d
  return x:reshape(shape)
end

-- Each head of {..., heads, len, d} `times` times in a row.
local function repeated(x, times)
  if times == 1 then return x end
  local all, shape = x.shape, x.shape
  table.insert(all, #all - 1, times)
  shape[#shape - 2] = shape[#shape - 2] * times
  return x:expand_dims(-3):broadcast_to(all):reshape(shape)
end

-- A mask {..., len_q, len_k} is the same for all heads.
local function for_heads(mask)
  if mask == nil then return nil end
  mask = check.array("MultiheadAttention", "mask", mask)
  if mask.ndim < 2 or mask.dtype ~= "bool" then
    check.fail("MultiheadAttention", "mask must be a bool array {..., len_q, len_k} (got %s)", check.show(mask))
  end
  return mask:expand_dims(-3)
end

--- {q, k, v, mask or false} -> {len_q, depth}; q, k and v are {len, depth}, mask is bool {len_q, len_k}, true where attention may go.
-- Further leading axes are batch. A key is needed in training where there is dropout.
function MultiheadAttention:forward(xs, rng, inference_mode, batch_axis_name)
  local q, k, v, mask = input(xs)
  if not self.query then check.fail("MultiheadAttention", "the layer is not initialized: call it, layer(xs), before its forward") end
  q, self.query = self.query(q, nil, inference_mode, batch_axis_name)
  k, self.key = self.key(k, nil, inference_mode, batch_axis_name)
  v, self.value = self.value(v, nil, inference_mode, batch_axis_name)
  q, k, v = split(q, self.heads), split(k, self.kv_heads), split(v, self.kv_heads)
  if self.rope then
    q, self.rope = self.rope(q, nil, inference_mode)
    k = self.rope(k, nil, inference_mode)
  end
  local times = self.heads // self.kv_heads
  local weights = functional.attention_weights("MultiheadAttention", q, repeated(k, times), {mask = for_heads(mask), causal = self.causal})
  if self.dropout then weights, self.dropout = self.dropout(weights, rng, inference_mode) end
  local y
  y, self.out = self.out(merge(weights:matmul(repeated(v, times))), nil, inference_mode, batch_axis_name)
  return y
end

return MultiheadAttention
