-- Eight networks at once: `vmap` over keys makes eight models of one, and one step trains them all, here on iris (Fisher 1936), three
-- species of 150 flowers. Where they agree, they can be trusted; where not, the flower lies between two species.
-- The ensemble's test accuracy is at least 0.93; its loss falls from about 1.1 to below 0.15.
local USAGE = [[
mlax lua/examples/ensemble.lua [--steps N] [--models N] [--quick] [--help]
  --steps N    steps of training (default: 300)
  --models N   how many models (default: 8)
  --quick      60 steps]]

local mlax = require "mlax"
local nn, optim, losses, random = mlax.nn, mlax.optim, mlax.losses, mlax.random
local o = require "mlax.arguments"(USAGE, {steps = 300, models = 8, quick = false})
if o.quick then o.steps = 60 end

local train, test = mlax.data.iris()
local mean, deviation = train.x:mean(1), train.x:std(1)
local function scaled(x) return (x - mean) / deviation end
local x, y = scaled(train.x), train.y
print(("%d flowers to train on, %d to test with; %d models"):format(#train, #test, o.models))

-- One model of one key, set up by an example; mapped over a list of keys: all parameters get a leading axis.
local function make(key)
  local model = nn.Series{
    nn.Dense(random.fold_in(key, 0), 16), nn.F(nn.functional.relu),
    nn.Dense(random.fold_in(key, 1), 3),
  }
  local _, made = model(x[1])
  return made
end
local keys = random.keys(random.key(0), o.models)
local models = mlax.vmap(make)(keys)
print(models:summary():match("[^\n]*$")) -- the line of totals

-- One step of one model, on a sample of the flowers of its own; mapped over models, states and keys.
local opt = optim.adam(1e-2)
local states = mlax.vmap(function(model) return opt:init(model) end)(models)

local function step_of_one(model, state, key)
  local chosen = random.randint(key, {32}, 1, #train)
  local loss, grads = mlax.value_and_grad(function(model)
    return losses.softmax_cross_entropy_with_labels(model:apply(x:take(chosen, 1)), y:take(chosen, 1)):mean()
  end)(model)
  model, state = opt:step(model, grads, state)
  return loss, model, state
end
local step = mlax.jit(mlax.vmap(step_of_one))

local key, curve = random.stream(1), {}
local bar = mlax.progress(o.steps, {label = "training"})
for i in bar do
  local loss
  loss, models, states = step(models, states, random.keys(key(), o.models))
  curve[i] = loss:mean():item()
  bar:set("loss", curve[i])
end
mlax.plot.line(curve, {title = "mean loss of the models", xlabel = "step", width = 60, height = 8})

-- {models, flowers, species}: what each model believes; the ensemble believes their mean.
local beliefs = mlax.vmap(function(model) return nn.functional.softmax((model(scaled(test.x)))) end)(models)
local function accuracy(scores) return mlax.metrics.accuracy(scores, test.y):item() end
local each = {}
for i, scores in beliefs:rows() do each[i] = ("%.3f"):format(accuracy(scores)) end
local together = beliefs:mean(1)
print(("\ntest accuracy of each model: %s"):format(table.concat(each, " ")))
print(("loss %.3f at first, %.3f at the end; test accuracy of all together %.4f\n"):format(curve[1], curve[#curve], accuracy(together)))

local confusion = mlax.metrics.confusion_matrix(together:argmax(2), test.y, 3)
mlax.plot.confusion(confusion, {classes = test.classes, title = "label, and what was said"})
print()
mlax.plot.hist(beliefs:std(1):max(2), {bins = 6, title = "how far the models disagree on a flower (standard deviation)"})
