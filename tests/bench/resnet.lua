-- resnet.lua: the residual network of lua/examples/resnet.lua (16, 32 and 64 channels, statistics over the batch) on 128 images of
-- 32 x 32 x 3: a training step with adam, and inference.
local bench = dofile((arg[0]:match("^(.*)/") or ".") .. "/support/bench.lua")
local mlax = require "mlax"

local nn, random = mlax.nn, mlax.random

local BATCH = 128

local function conv_block(key, channels, strides)
  return nn.Series{
    nn.Conv(random.fold_in(key, 0), channels, 3, {strides = strides, padding = 1}),
    nn.BatchNorm(random.fold_in(key, 1)),
    nn.F(nn.functional.relu),
  }
end

local Residual = mlax.class("Residual")

function Residual:init(block, shortcut)
  self.block = block
  if shortcut then self.shortcut = shortcut end
end

function Residual:setup() end

function Residual:forward(x, _, inference_mode, batch_axis_name)
  local y
  y, self.block = self.block(x, nil, inference_mode, batch_axis_name)
  if self.shortcut then x, self.shortcut = self.shortcut(x, nil, inference_mode, batch_axis_name) end
  return y + x
end

local function residual(key, channels, strides)
  local k1, k2, k3 = random.split(key, 3)
  local block = nn.Series{conv_block(k1, channels, strides), conv_block(k2, channels, 1)}
  return Residual(block, strides > 1 and conv_block(k3, channels, strides) or nil)
end

local function make()
  local k = {random.split(random.key(0), 7)}
  local x, y = random.normal(k[1], {BATCH, 32, 32, 3}), random.randint(k[2], {BATCH}, 1, 10)
  local model = nn.Series{
    conv_block(k[3], 16, 1), residual(k[4], 16, 1), residual(k[5], 32, 2), residual(k[6], 64, 2),
    nn.F(function(v) return v:mean{1, 2} end), nn.Dense(k[7], 10),
  }
  model(x[1], nil, true)
  return model, x, y
end

local function batched(model, x, inference_mode)
  local function one(m, image) return m(image, nil, inference_mode, "batch") end
  return mlax.vmap(one, {in_axes = {false, 1}, out_axes = {1, false}, axis_name = "batch"})(model, x)
end

bench.add("resnet_train", function()
  local model, x, y = make()
  local opt = mlax.optim.adam(5e-3)
  local state = opt:init(model:filter())
  local step = mlax.jit(function(m, s, input, target)
    local trainable, frozen = m:partition()
    local loss, grads, after = mlax.value_and_grad(function(t)
      local scores, new = batched(t:combine(frozen), input, false)
      return mlax.losses.softmax_cross_entropy_with_labels(scores, target):mean(), new
    end)(trainable)
    trainable, frozen = after:partition()
    trainable, s = opt:step(trainable, grads, s)
    return trainable:combine(frozen), s, loss
  end)
  return function()
    local loss
    model, state, loss = step(model, state, x, y)
    return loss
  end
end, {once = true})

bench.add("resnet_infer", function()
  local model, x = make()
  local f = mlax.jit(function(m, input) return (batched(m, input, true)) end)
  return function() return f(model, x) end
end)

bench.run()
