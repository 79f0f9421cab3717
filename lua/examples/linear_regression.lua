-- The two-minute introduction: how far diabetes will have advanced a year on, from ten measurements of 442 patients (Efron et al. 2004).
-- Arrays, a gradient and a loop; no layers. The loss falls from 1 to 0.46: the fit explains half of the variance (R^2 0.54), and so
-- does the exact solution.
local USAGE = [[
mlax lua/examples/linear_regression.lua [--steps N] [--quick] [--help]
  --steps N   steps of gradient descent (default: 500)
  --quick     50 steps]]

local mlax = require "mlax"
local o = require "mlax.arguments"(USAGE, {steps = 500, quick = false})
if o.quick then o.steps = 50 end

-- 1. Data: arrays {examples, measurements} and {examples}, brought to mean 0 and variance 1.
local train, test = mlax.data.diabetes()
local mean, deviation = train.x:mean(1), train.x:std(1)
local function scaled(x) return (x - mean) / deviation end
local middle, spread = train.y:mean(), train.y:std()
local x, y = scaled(train.x), (train.y - middle) / spread
print(x)

-- 2. A model is a function of parameters; parameters are any table of arrays.
local function predict(p, inputs) return inputs:matmul(p.weights) + p.bias end
local function loss_of(p) return (predict(p, x) - y):square():mean() end

-- 3. value_and_grad makes of the loss a function that also gives the gradient: a table like p. jit compiles what it is given.
local step = mlax.jit(function(p)
  local loss, gradient = mlax.value_and_grad(loss_of)(p)
  return loss, mlax.tree.map(function(value, slope) return value - 0.1 * slope end, p, gradient)
end)

-- 4. A loop.
local p, curve = {weights = mlax.zeros{x:dim(2)}, bias = mlax.zeros{}}, {}
for i in mlax.progress(o.steps, {label = "training"}) do
  local loss
  loss, p = step(p)
  curve[i] = loss:item()
end
mlax.plot.line(curve, {title = "mean squared error (1: guessing the mean)", xlabel = "step", width = 60, height = 8, log = true})

-- 5. How good is it on patients that it has not seen?
local function r_squared(predicted, actual)
  return (1 - (predicted - actual):square():sum() / (actual - actual:mean()):square():sum()):item()
end
local said = predict(p, scaled(test.x)) * spread + middle
print()
mlax.plot.scatter(test.y, said, {title = "what was said, over what came to be", width = 60})
print(("\nloss %.3f at first, %.3f at the end; R^2 %.3f on the %d patients seen, %.3f on %d others"):format(curve[1], curve[#curve],
  r_squared(predict(p, x), y), #train, r_squared(said, test.y), #test))

-- 6. The same in one line, without a loop: least squares. Both put the most weight on the same measurement.
local exact = mlax.linalg.lstsq(x, y)
print(("least squares: R^2 %.3f"):format(r_squared(x:matmul(exact), y)))
local first = mlax.abs(p.weights):argmax():item()
print(("greatest weight: %s, %.2f a standard deviation"):format(train.features[first], p.weights[first]:item()))
