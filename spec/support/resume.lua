--- resume.lua FOLDER STEPS EVERY: a training that goes on where the last checkpoint in the folder stands, writes one every so many steps,
-- and ends after STEPS. It prints its process number when its first step is done. resume_spec.lua kills it.
local mlax = require "mlax"
local nn, random, optim = mlax.nn, mlax.random, mlax.optim

local folder, steps, every = arg[1], math.tointeger(arg[2]), math.tointeger(arg[3])
local train = mlax.data.iris()
local model = nn.SeriesRng{nn.Dense(random.key(0), 16), nn.F(mlax.tanh), nn.Dropout(0.1), nn.Dense(random.key(1), 3)}
model(train.x, random.key(2))
local opt = optim.adam(1e-2)
local state = {model = model, opt = opt:init(model), key = random.key(3)}

-- All that a step depends on is in the state and in its number.
local step = mlax.jit(function(s, x, y)
  local key, rng = random.split(s.key)
  local function loss(m) return mlax.losses.softmax_cross_entropy_with_labels((m(x, rng)), y):mean() end
  local new, opt_state = opt:step(s.model, mlax.grad(loss)(s.model), s.opt)
  return {model = new, opt = opt_state, key = key}
end)

-- The n-th batch of 20 in the order of its epoch.
local epoch, order
local function batch(n)
  local per_epoch = #train // 20
  if epoch ~= n // per_epoch then
    epoch = n // per_epoch
    order = random.permutation(random.fold_in(random.key(4), epoch), #train)
  end
  local first = n % per_epoch * 20
  local ids = order[{{first + 1, first + 20}}]
  return train.x:take(ids, 1), train.y:take(ids, 1)
end

local manager = assert(mlax.checkpoint_manager(folder, {keep = 2}))
local saved, at = manager:restore(state)
assert(saved or not at, at)
local announced = false
state, at = saved or state, saved and at or 0
while at < steps do
  state, at = step(state, batch(at)), at + 1
  if at % every == 0 then assert(manager:save(at, state)) end
  if not announced then
    announced = true
    print(io.open("/proc/self/stat"):read("n"))
    io.stdout:flush()
  end
end
