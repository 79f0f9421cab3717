-- Trains a small network on 1,437 handwritten digits of 8 x 8 pixels and shows how it does on 360 others. Takes some seconds.
local USAGE = [[
mlax lua/examples/digits.lua [--epochs N] [--quick] [--help]
  --epochs N   how often to go through the training data (default: 25)
  --quick      3 epochs]]

local mlax = require "mlax"
local nn, optim, losses, random = mlax.nn, mlax.optim, mlax.losses, mlax.random

local o = require "mlax.arguments"(USAGE, {epochs = 25, quick = false})
local EPOCHS, BATCH = o.quick and 3 or o.epochs, 32

local train, test = assert(mlax.data.digits())
print(("digits: %d to train on, %d to test with"):format(#train, #test))

local key = random.stream(0)
local model = nn.Series{
  nn.F(function(x) return x:reshape{-1, 64} end),
  nn.Linear(key(), 64), nn.Bias(key(), -1), nn.F(nn.functional.relu),
  nn.Linear(key(), 32), nn.Bias(key(), -1), nn.F(nn.functional.relu),
  nn.Linear(key(), 10), nn.Bias(key(), -1),
}
model(train.x[{{1, 2}}]) -- the layers make their parameters from the shape of an input

local opt = optim.sgd(optim.cosine_decay(0.1, EPOCHS * (#train // BATCH)), {momentum = 0.9})
local state = opt:init(model)

-- One step: loss and gradients of a batch, new parameters. Traced at the first call, then run as a program.
local step = mlax.jit(function(model, state, x, y)
  local loss, grads = mlax.value_and_grad(function(model)
    return losses.softmax_cross_entropy_with_labels(model(x), y):mean()
  end)(model)
  local new_model, new_state = opt:step(model, grads, state)
  return loss, new_model, new_state
end)

local curve = {}
local bar = mlax.progress(EPOCHS, {label = "training"})
for epoch in bar do
  local sum, n = 0, 0
  for batch in train:batches(BATCH, {shuffle = key(), drop_last = true}) do
    local loss
    loss, model, state = step(model, state, batch.x, batch.y)
    sum, n = sum + loss, n + 1
  end
  curve[epoch] = (sum / n):item()
  bar:set("loss", curve[epoch])
end

mlax.plot.line(curve, {title = "loss", xlabel = "epoch", width = 60, height = 8, log = true})

local scores = model(test.x)
print(("\ntest accuracy %.4f\n"):format(mlax.metrics.accuracy(scores, test.y):item()))

-- Some of the test images, the wrong ones first.
local predicted = scores:argmax(2)
local order = predicted:ne(test.y):astype("int32"):argsort():flip()
local images, labels = {}, {}
for i = 1, 8 do
  local j = order[i]:item()
  local said, is = test.classes[predicted[j]:item()], test.classes[test.y[j]:item()]
  images[i] = test.x[j]
  labels[i] = said == is and ("%s: right"):format(is) or ("%s: said %s"):format(is, said)
end
mlax.plot.image(images, {labels = labels, title = "test images, the mistakes first"})
