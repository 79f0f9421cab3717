-- encoder.lua: three encoder blocks of Python mlax's example: 64 sequences of 128 ids of 1,000, width 192, 6 heads that share one key
-- and value (multi-query), rotary positions, masks, 768 feed-forward with gelu, dropout 0.1; three classes. A training step with adamw,
-- and inference.
local support = (arg[0]:match("^(.*)/") or ".") .. "/support/"
local bench = dofile(support .. "bench.lua")
local mlax = require "mlax"

local nn, random = mlax.nn, mlax.random

local BATCH, STEPS, IDS, WIDTH, HEADS, FF, RATE = 64, 128, 1000, 192, 6, 768, 0.1

-- {x {steps, width}, mask {1, steps}} -> the same
local Block = mlax.class("Block")

function Block:init(key)
  local function fold(i) return random.fold_in(key, i) end
  self.attention = nn.MultiheadAttention(fold(0), HEADS, {kv_heads = 1, rope = true, dropout = RATE})
  self.attention_norm, self.ff_norm = nn.LayerNorm(fold(1)), nn.LayerNorm(fold(2))
  self.ff_in, self.ff_out = nn.Dense(fold(3), FF), nn.Dense(fold(4), WIDTH)
  self.dropout = nn.Dropout(RATE)
end

function Block:setup() end

function Block:forward(input, rng, inference_mode)
  local x, mask = input[1], input[2]
  local function drop(v, i) return (self.dropout(v, rng and random.fold_in(rng, i), inference_mode)) end
  local y
  y, self.attention_norm = self.attention_norm(x)
  y, self.attention = self.attention({y, y, y, mask}, rng and random.fold_in(rng, 0), inference_mode)
  x = x + drop(y, 1)
  y, self.ff_norm = self.ff_norm(x)
  y, self.ff_in = self.ff_in(y)
  y, self.ff_out = self.ff_out(drop(nn.functional.gelu(y), 2))
  return {x + drop(y, 3), mask}
end

local function make()
  local k = {random.split(random.key(0), 9)}
  local ids, labels = random.randint(k[1], {BATCH, STEPS}, 1, IDS), random.randint(k[2], {BATCH}, 1, 3)
  local lengths = random.randint(k[3], {BATCH, 1, 1}, STEPS // 4, STEPS)
  local mask = mlax.range(1, STEPS):le(lengths)
  local model = nn.SeriesRng{
    nn.Parallel{nn.Embed(k[4], IDS, WIDTH), nn.F(nn.functional.identity)},
    Block(k[5]), Block(k[6]), Block(k[7]),
    nn.F(function(xm) return xm[1]:mean(1) end), nn.Dense(k[8], 3),
  }
  model({ids[1], mask[1]}, nil, true)
  return model, {ids, mask}, labels, k[9]
end

dofile(support .. "sequences.lua")(bench, "encoder", make)
bench.run()
