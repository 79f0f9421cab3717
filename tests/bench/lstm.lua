-- lstm.lua: the three BiLSTM blocks of Python mlax's example: 64 sequences of 128 ids of 1,000, embedded in 192 numbers, states of 192,
-- with masks (sequences end early) and dropout 0.1; three classes. A training step with adamw, and inference.
local support = (arg[0]:match("^(.*)/") or ".") .. "/support/"
local bench = dofile(support .. "bench.lua")
local mlax = require "mlax"

local nn, random = mlax.nn, mlax.random

local BATCH, STEPS, IDS, WIDTH, RATE = 64, 128, 1000, 192, 0.1

-- {xs {steps, in}, mask {steps}} -> {ys {steps, 2 width}, mask}. The backward direction reads the ids rolled to the end, so that it
-- begins with the last one and not with padding.
local Block = mlax.class("Block")

function Block:init(key)
  self.forwards = nn.Recurrent(nn.LSTMCell(random.fold_in(key, 0), WIDTH))
  self.backwards = nn.Recurrent(nn.LSTMCell(random.fold_in(key, 1), WIDTH), {reverse = true})
  self.dropout = nn.Dropout(RATE)
end

function Block:setup() end

local function rolled(xs, by)
  return xs:take((mlax.range(0, STEPS - 1) + by) % STEPS + 1, 1)
end

function Block:forward(input, rng, inference_mode)
  local xs, mask = input[1], input[2]
  local zeros, n = mlax.zeros{WIDTH}, mask:astype("int32"):sum()
  local a, b, y
  a, self.forwards = self.forwards{xs, {zeros, zeros}}
  b, self.backwards = self.backwards{rolled(xs, n), {zeros, zeros}}
  y = mlax.where(mask:expand_dims(2), mlax.concat({a[1], rolled(b[1], STEPS - n)}, -1), 0)
  y, self.dropout = self.dropout(y, rng, inference_mode)
  return {y, mask}
end

local function make()
  local k = {random.split(random.key(0), 9)}
  local ids, labels = random.randint(k[1], {BATCH, STEPS}, 1, IDS), random.randint(k[2], {BATCH}, 1, 3)
  local lengths = random.randint(k[3], {BATCH, 1}, STEPS // 4, STEPS)
  local mask = mlax.range(1, STEPS):le(lengths)
  local model = nn.SeriesRng{
    nn.Parallel{nn.Embed(k[4], IDS, WIDTH), nn.F(nn.functional.identity)},
    Block(k[5]), Block(k[6]), Block(k[7]),
    nn.F(function(xm) return xm[1]:flatten() end), nn.Dense(k[8], 3),
  }
  model({ids[1], mask[1]}, nil, true)
  return model, {ids, mask}, labels, k[9]
end

dofile(support .. "sequences.lua")(bench, "lstm", make)
bench.run()
