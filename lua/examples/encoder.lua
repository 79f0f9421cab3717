-- The transformer encoder of Python mlax (rotary positions, multi-query attention, norms before the parts) on MNIST in 4 x 4 patches:
-- 49 tokens of 16 pixels.
-- Reaches a test accuracy of 0.97 after 5 epochs with width 64.
local USAGE = [[
mlax lua/examples/encoder.lua [--data DIR] [--epochs N] [--width N] [--quick] [--help]
  --data DIR   where MNIST's four IDX files are, gzip or not (default: data/mnist)
  --epochs N   how often to go through the training data (default: 5)
  --width N    the length of a token's vector, a multiple of 8 (default: 64)
  --quick      one epoch on the first 256 images, with width 16]]

local mlax = require "mlax"
local nn, optim, losses, random = mlax.nn, mlax.optim, mlax.losses, mlax.random
local o = require "mlax.arguments"(USAGE, {data = "data/mnist", epochs = 5, width = 64, quick = false})

local HEADS, BLOCKS, DROPOUT = 4, 3, 0.1

local function stop(message)
  io.stderr:write(message, "\n", USAGE, "\n")
  os.exit(1)
end
if o.width % (2 * HEADS) ~= 0 then stop(("--width is a multiple of %d (got %d)"):format(2 * HEADS, o.width)) end
local train, test = mlax.data.mnist(o.data)
if not train then stop(test) end
if o.quick then train, test, o.epochs, o.width = train:take(256), test:take(256), 1, 16 end
print(("%d images to train on, %d to test with"):format(#train, #test))

-- The model: layers of one sequence {tokens, width} ----------------------------------------------------------------------------------

-- x + attention(norm(x)), then x + feed_forward(norm(x)); all heads of a token share one key and one value.
local Block = mlax.class("Block")

function Block:init(key, heads, ff_size, rate)
  self.attention = nn.MultiheadAttention(random.fold_in(key, 0), heads, {kv_heads = 1, rope = true, dropout = rate})
  self.attention_norm = nn.LayerNorm(random.fold_in(key, 1))
  self.ff_norm = nn.LayerNorm(random.fold_in(key, 2))
  self.ff_in = nn.Dense(random.fold_in(key, 3), ff_size)
  self.dropout, self.ff_size = nn.Dropout(rate), ff_size
  self.rng = mlax.Parameter(false, random.fold_in(key, 4))
end

function Block:setup(x)
  self.ff_out = nn.Dense(self.rng.data, x:dim(-1))
  self.rng = nil
end

function Block:forward(x, rng, inference_mode)
  local function drop(v, i) return (self.dropout(v, rng and random.fold_in(rng, i), inference_mode)) end
  local y
  y, self.attention_norm = self.attention_norm(x)
  y, self.attention = self.attention({y, y, y, false}, rng and random.fold_in(rng, 0), inference_mode)
  x = x + drop(y, 1)
  y, self.ff_norm = self.ff_norm(x)
  y, self.ff_in = self.ff_in(y)
  y, self.ff_out = self.ff_out(drop(nn.functional.gelu(y), 2))
  return x + drop(y, 3)
end

-- {28, 28} pixels -> {49, 16}: one row a patch.
local function patches(x)
  return x:astype("float32"):reshape{7, 4, 7, 4}:transpose{1, 3, 2, 4}:reshape{49, 16} / 255
end

local layers = {nn.F(patches), nn.Dense(random.key(0), o.width)}
for i = 1, BLOCKS do layers[#layers + 1] = Block(random.fold_in(random.key(1), i), HEADS, 4 * o.width, DROPOUT) end
layers[#layers + 1] = nn.LayerNorm(random.key(2))
layers[#layers + 1] = nn.F(function(x) return x:flatten() end)
layers[#layers + 1] = nn.Dense(random.key(3), 10)
local model = nn.SeriesRng(layers)
print(model:summary(train.x[1]):match("[^\n]*$")) -- the line of totals

-- Training ---------------------------------------------------------------------------------------------------------------------------

model(train.x[1], nil, true) -- the layers make their parameters from the shape of an input
local steps = o.epochs * ((#train + 127) // 128)
local opt = optim.adamw(optim.warmup_cosine(1e-4, 2e-3, steps // 10 + 1, steps + 1), {weight_decay = 1e-2})
local state = opt:init(model:filter())

local step = mlax.jit(function(model, state, x, y, key)
  local trainable, frozen = model:partition()
  local loss, grads = mlax.value_and_grad(function(trainable)
    local m = trainable:combine(frozen)
    local scores = mlax.vmap(function(image, k) return (m(image, k)) end)(x, random.keys(key, x:dim(1)))
    return losses.softmax_cross_entropy_with_labels(scores, y):mean()
  end)(trainable)
  trainable, state = opt:step(trainable, grads, state)
  return loss, trainable:combine(frozen), state
end)

local predict = mlax.jit(function(model, x)
  return mlax.vmap(function(image) return (model(image, nil, true)) end)(x):argmax(2)
end)

local function predictions()
  local parts = {}
  for batch in test:batches(500) do parts[#parts + 1] = predict(model, batch.x) end
  return mlax.concat(parts, 1)
end

local key, predicted = random.stream(4), nil
for epoch = 1, o.epochs do
  local sum, n = 0, 0
  local bar = mlax.progress(train:batches(128, {shuffle = key()}), {label = "epoch " .. epoch})
  local seconds = mlax.time(function()
    for batch in bar do
      local loss
      loss, model, state = step(model, state, batch.x, batch.y, key())
      sum, n = sum + loss, n + 1
      bar:set("loss", loss)
    end
  end)
  predicted = predictions()
  local right = predicted:eq(test.y):mean():item()
  print(("epoch %d  training loss %.4f  test accuracy %.4f  %.1f s"):format(epoch, (sum / n):item(), right, seconds))
end

-- Some of the test images, the wrong ones first.
local order = predicted:ne(test.y):astype("int32"):argsort():flip()
local images, labels = {}, {}
for i = 1, 5 do
  local j = order[i]:item()
  local said, is = test.classes[predicted[j]:item()], test.classes[test.y[j]:item()]
  images[i] = test.x[j]["3:26, 3:26"]
  labels[i] = said == is and ("%s: right"):format(is) or ("%s: said %s"):format(is, said)
end
mlax.plot.image(images, {labels = labels, title = "test images, the mistakes first"})
