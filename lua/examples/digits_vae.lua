-- A variational autoencoder (Kingma and Welling 2014) of 1,437 handwritten digits of 8 x 8 pixels: each image becomes two numbers, from
-- which it is drawn again, and new pairs of numbers become new digits.
-- The loss, nats an image, falls from about 34 to below 26 in 60 epochs.
local USAGE = [[
mlax lua/examples/digits_vae.lua [--epochs N] [--quick] [--help]
  --epochs N   how often to go through the training data (default: 60)
  --quick      3 epochs]]

local mlax = require "mlax"
local nn, optim, random, F = mlax.nn, mlax.optim, mlax.random, mlax.nn.functional
local o = require "mlax.arguments"(USAGE, {epochs = 60, quick = false})
if o.quick then o.epochs = 3 end

local LATENT, HIDDEN, BATCH = 2, 128, 32
local train, test = mlax.data.digits()

-- The model: x {64} -> {logits {64}, mean {2}, logarithm of the variance {2}} ---------------------------------------------------------

local VAE = mlax.class("VAE")

local function two_layers(key, size)
  return nn.Series{nn.Dense(random.fold_in(key, 0), HIDDEN), nn.F(F.gelu), nn.Dense(random.fold_in(key, 1), size)}
end

function VAE:init(key)
  self.encoder = two_layers(random.fold_in(key, 0), 2 * LATENT)
  self.decoder = two_layers(random.fold_in(key, 1), 64)
end

function VAE:setup() end

function VAE:decode(z)
  local logits
  logits, self.decoder = self.decoder(z)
  return logits
end

-- In training a point is drawn from the normal distribution of the image; in inference it is its mean.
function VAE:forward(x, rng, inference_mode)
  local code
  code, self.encoder = self.encoder(x)
  local mean, log_variance = code:split(2, -1)
  local z = mean
  if not inference_mode then z = z + (log_variance / 2):exp() * random.normal(rng, mean.shape) end
  return {self:decode(z), mean, log_variance}
end

-- What the image costs given its code, and what the code costs beyond a standard normal one: nats of one image.
local function loss_of(out, x)
  local logits, mean, log_variance = out[1], out[2], out[3]
  local drawn = (F.softplus(logits) - x * logits):sum()
  return drawn + (mean:square() + log_variance:exp() - 1 - log_variance):sum() / 2
end

local function pixels(x) return x:reshape{-1, 64} end

local model = VAE(random.key(0))
model(pixels(train.x[{{1, 1}}])[1], nil, true) -- the layers make their parameters from the shape of an input

-- Training ---------------------------------------------------------------------------------------------------------------------------

local opt = optim.adam(2e-3)
local state = opt:init(model)

local function mean_loss(model, x, key, inference_mode)
  local function one(image, k) return loss_of(model:apply(image, k, inference_mode), image) end
  return mlax.vmap(one)(x, random.keys(key, x:dim(1))):mean()
end

local step = mlax.jit(function(model, state, x, key)
  local loss, grads = mlax.value_and_grad(function(model) return mean_loss(model, x, key, false) end)(model)
  model, state = opt:step(model, grads, state)
  return loss, model, state
end)

local key, curve = random.stream(1), {}
local bar = mlax.progress(o.epochs, {label = "training"})
for epoch in bar do
  local sum, n = 0, 0
  for batch in train:batches(BATCH, {shuffle = key(), drop_last = true}) do
    local loss
    loss, model, state = step(model, state, pixels(batch.x), key())
    sum, n = sum + loss, n + 1
  end
  curve[epoch] = (sum / n):item()
  bar:set("loss", curve[epoch])
end

-- What came out ----------------------------------------------------------------------------------------------------------------------

mlax.plot.line(curve, {title = "loss (nats an image)", xlabel = "epoch", width = 60, height = 8})
local final = mean_loss(model, pixels(test.x), key(), false):item()
print(("\nloss %.2f at first, %.2f at the end; %.2f on %d test images\n"):format(curve[1], curve[#curve], final, #test))

local x = pixels(test.x)[{{1, 4}}]
local again = mlax.vmap(function(image) return model:apply(image, nil, true)[1] end)(x):sigmoid()
mlax.plot.image(x:reshape{4, 8, 8}, {title = "test images", scale = 1})
mlax.plot.image(again:reshape{4, 8, 8}, {title = "drawn again from two numbers each", scale = 1})

local samples = mlax.vmap(function(z) return model:decode(z) end)(random.normal(random.key(3), {4, LATENT})):sigmoid()
mlax.plot.image(samples:reshape{4, 8, 8}, {title = "new ones", scale = 1})
