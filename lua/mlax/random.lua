--- mlax.random: what the core registers (keys and draws), and streams of keys.
-- @module mlax.random

local core = require "mlax.core"

local random = core.random

local Stream = {__name = "random.stream"}

function Stream:__call()
  local n = self.count
  self.count = n + 1
  return random.fold_in(self.key, n)
end

function Stream:__tostring() return ("random.stream after %d keys"):format(self.count) end

--- A source of keys for scripts and the REPL: each call gives the next one, `fold_in(key, 0)`, `fold_in(key, 1)`, ...
--
--
-- In a function that is traced, pass keys instead: a trace would see the same key at every call.
-- @param seed an integer, as for `random.key`
-- @usage local next_key = random.stream(7)
-- local x, y = random.normal(next_key(), {3}), random.normal(next_key(), {3})
-- print(mlax.array_equal(x, y))   --> bool[] false
function random.stream(seed) return setmetatable({key = random.key(seed), count = 0}, Stream) end

return random
