-- A character model: reads a text file, learns to foretell each next character with an LSTM, and writes a text of its own.
-- On this very file the loss falls from about 4 nats a character (one guess in the alphabet) to below 0.7 in 40 epochs.
local USAGE = [[
mlax lua/examples/char_rnn.lua [FILE] [--epochs N] [--units N] [--length N] [--quick] [--help]
  FILE         any text file of at least 2,000 characters (default: this script)
  --epochs N   how often to go through the file (default: 40)
  --units N    the length of the model's state (default: 128)
  --length N   how many characters to write at the end (default: 300)
  --quick      2 epochs, 32 units]]

local mlax = require "mlax"
local nn, optim, losses, random = mlax.nn, mlax.optim, mlax.losses, mlax.random
local o = require "mlax.arguments"(USAGE, {arg[0], epochs = 40, units = 128, length = 300, quick = false})
if o.quick then o.epochs, o.units = 2, 32 end

local LEAST, LINE, BATCH = 2000, 64, 16 -- characters of a file, of a piece of it, and pieces in a batch

local function stop(message)
  io.stderr:write(message, "\n", USAGE, "\n")
  os.exit(1)
end

-- The text, and its characters (bytes) as numbers from 1 in the order of their first use

local file, problem = io.open(o[1], "rb")
if not file then stop(problem) end
local text = file:read("a")
file:close()
if not text or #text < LEAST then stop(("%s has fewer than %d characters"):format(o[1], LEAST)) end

local alphabet, number_of, numbers = {}, {}, {}
for i = 1, #text do
  local c = text:sub(i, i)
  if not number_of[c] then
    alphabet[#alphabet + 1] = c
    number_of[c] = #alphabet
  end
  numbers[i] = number_of[c]
end
print(("%s: %d characters, %d different ones"):format(o[1], #text, #alphabet))

-- Pieces of LINE + 1 characters, which overlap by half: the model reads the first LINE, and should say the last LINE.
local pieces = {}
for first = 1, #numbers - LINE, LINE // 2 do
  pieces[#pieces + 1] = table.move(numbers, first, first + LINE, 1, {})
end
local data = mlax.data.dataset{x = mlax.array(pieces, "int32")}

-- The model: numbers {steps} and a state -> {scores {steps, characters}, state}

local CharRNN = mlax.class("CharRNN")

function CharRNN:init(key, characters, units)
  self.units = units
  self.embed = nn.Embed(random.fold_in(key, 0), characters, 32, {embed_initializer = nn.initializers.normal(0.3)})
  self.lstm = nn.Recurrent(nn.LSTMCell(random.fold_in(key, 1), units))
  self.out = nn.Dense(random.fold_in(key, 2), characters)
end

function CharRNN:setup() end

function CharRNN:forward(input)
  local xs, r, scores
  xs, self.embed = self.embed(input[1])
  r, self.lstm = self.lstm({xs, input[2]})
  scores, self.out = self.out(r[1])
  return {scores, r[2]}
end

local zeros = mlax.zeros{o.units}
local model = CharRNN(random.key(0), #alphabet, o.units)
model{data.x[1], {zeros, zeros}} -- the layers make their parameters from the shape of an input

-- Training

local steps = o.epochs * (#data // BATCH)
local opt = optim.chain{optim.clip_by_global_norm(1), optim.adam(optim.cosine_decay(1e-2, steps))}
local state = opt:init(model)

local step = mlax.jit(function(model, state, pieces)
  local loss, grads = mlax.value_and_grad(function(model)
    return mlax.vmap(function(piece)
      local scores = model:apply{piece["1:-2"], {zeros, zeros}}[1]
      return losses.softmax_cross_entropy_with_labels(scores, piece["2:"]):mean()
    end)(pieces):mean()
  end)(model)
  model, state = opt:step(model, grads, state)
  return loss, model, state
end)

local key, curve = random.stream(1), {}
local bar = mlax.progress(o.epochs, {label = "training"})
for epoch in bar do
  local sum, n = 0, 0
  for batch in data:batches(BATCH, {shuffle = key(), drop_last = true}) do
    local loss
    loss, model, state = step(model, state, batch.x)
    sum, n = sum + loss, n + 1
  end
  curve[epoch] = (sum / n):item()
  bar:set("loss", curve[epoch])
end
mlax.plot.line(curve, {title = "loss (nats a character)", xlabel = "epoch", width = 60, height = 8})
print(("\nloss %.3f at first, %.3f at the end; %d equally likely characters would be %.3f\n"):format(curve[1], curve[#curve], #alphabet,
  math.log(#alphabet)))

-- Writing: each character is drawn from what the model expects, and read as the next one

local write = mlax.jit(function(model, number, h, k)
  local out = model:apply{number:reshape{1}, h}
  return random.categorical(k, out[1][1] / 0.7), out[2] -- sharper than the model believes
end)

local number, h, written = mlax.array(number_of["\n"] or 1, "int32"), {zeros, zeros}, {}
for i = 1, o.length do
  number, h = write(model, number, h, key())
  written[i] = alphabet[number:item()]
end
print((table.concat(written):gsub("[^%g%s\128-\255]", "?")))
