-- The bidirectional LSTM blocks of Python mlax, three of them, on MNIST read row by row: 28 steps of 28 pixels.
-- Reaches a test accuracy of 0.985 after 3 epochs with 64 units.
local USAGE = [[
mlax lua/examples/lstm.lua [--data DIR] [--epochs N] [--units N] [--quick] [--help]
  --data DIR   where MNIST's four IDX files are, gzip or not (default: data/mnist)
  --epochs N   how often to go through the training data (default: 3)
  --units N    the length of the state of each direction (default: 64)
  --quick      one epoch on the first 256 images, with 8 units]]

local mlax = require "mlax"
local nn, optim, losses, random = mlax.nn, mlax.optim, mlax.losses, mlax.random
local o = require "mlax.arguments"(USAGE, {data = "data/mnist", epochs = 3, units = 64, quick = false})

local train, test = mlax.data.mnist(o.data)
if not train then
  io.stderr:write(test, "\n", USAGE, "\n")
  os.exit(1)
end
if o.quick then train, test, o.epochs, o.units = train:take(256), test:take(256), 1, 8 end
print(("%d images to train on, %d to test with"):format(#train, #test))

-- The model: layers of one image as a sequence {28, 28} ------------------------------------------------------------------------------

-- Both directions over a sequence: {steps, in} -> {steps, 2 units}.
local BiLSTM = mlax.class("BiLSTM")

function BiLSTM:init(key, units, rate)
  self.units = units
  self.forwards = nn.Recurrent(nn.LSTMCell(random.fold_in(key, 0), units))
  self.backwards = nn.Recurrent(nn.LSTMCell(random.fold_in(key, 1), units), {reverse = true})
  self.dropout = nn.Dropout(rate)
end

function BiLSTM:setup() end

function BiLSTM:forward(xs, rng, inference_mode)
  local zeros = mlax.zeros({self.units}, xs.dtype)
  local a, b, y
  a, self.forwards = self.forwards({xs, {zeros, zeros}})
  b, self.backwards = self.backwards({xs, {zeros, zeros}})
  y, self.dropout = self.dropout(mlax.concat({a[1], b[1]}, -1), rng, inference_mode)
  return y
end

local keys = {random.split(random.key(0), 5)}
local model = nn.SeriesRng{
  nn.F(function(x) return x:astype("float32") / 255 end),
  BiLSTM(keys[1], o.units, 0.1),
  BiLSTM(keys[2], o.units, 0.1),
  BiLSTM(keys[3], o.units, 0.1),
  nn.F(function(x) return x:flatten() end),
  nn.Dense(keys[4], 10),
}
print(model:summary(train.x[1]):match("[^\n]*$")) -- the line of totals

-- Training ---------------------------------------------------------------------------------------------------------------------------

model(train.x[1], nil, true) -- the layers make their parameters from the shape of an input
local steps = o.epochs * ((#train + 127) // 128)
local opt = optim.chain{optim.clip_by_global_norm(1), optim.adam(optim.cosine_decay(4e-3, steps))}
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

local function accuracy()
  local right = 0
  for batch in test:batches(500) do right = right + predict(model, batch.x):eq(batch.y):sum() end
  return right:item() / #test
end

local key, curve = random.stream(1), {}
for epoch = 1, o.epochs do
  local sum, n = 0, 0
  local bar = mlax.progress(train:batches(128, {shuffle = key()}), {label = "epoch " .. epoch})
  local seconds = mlax.time(function()
    for batch in bar do
      local loss
      loss, model, state = step(model, state, batch.x, batch.y, key())
      sum, n = sum + loss, n + 1
      curve[#curve + 1] = loss:item()
      bar:set("loss", curve[#curve])
    end
  end)
  print(("epoch %d  training loss %.4f  test accuracy %.4f  %.1f s"):format(epoch, (sum / n):item(), accuracy(), seconds))
end

mlax.plot.line(curve, {title = "training loss", xlabel = "step", height = 8, log = true})
