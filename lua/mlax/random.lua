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

-- -- what the engine registers ----------------------------------------------------------------------------------------

--- The key of a seed: {seed >> 32, seed & 0xffffffff}.
-- @function key
-- @param seed an integer
-- @usage print(random.key(42))   --> uint32[2] [ 0 42]

--- New keys from one, as several results. Use the old one no more.
-- @function split
-- @param key a key
-- @param[opt] n how many (2)
-- @usage local a, b = random.split(key)
-- print(a)   --> uint32[2] [1797259609 2579123966]

--- New keys from one, as one array, for vmap.
-- @function keys
-- @param key a key
-- @param n how many
-- @usage print(random.keys(key, 3):dims())   --> 3 2

--- A new key from one and a number.
-- @function fold_in
-- @param key a key
-- @param n an integer from 0
-- @usage print(random.fold_in(random.key(42), 7))   --> uint32[2] [2547012911 1371500959]

--- Random bits.
-- @function bits
-- @param key a key
-- @param shape a list of lengths
-- @param dtype an unsigned dtype
-- @usage print(random.bits(random.key(0), {4}, "uint32"))   --> uint32[4] [4070199207 4202968722 1427181096 2012915765]

--- Uniform in [low, high).
-- @function uniform
-- @param key a key
-- @param[opt] shape a list of lengths ({})
-- @param[opt] options {dtype = "float32", low = 0, high = 1}
-- @usage print(random.uniform(key, {1000}, {low = 2, high = 3}):min():ge(2))   --> bool[] true

--- Normal with mean 0 and variance 1.
-- @function normal
-- @param key a key
-- @param[opt] shape a list of lengths ({})
-- @param[opt] options {dtype = "float32"}
-- @usage print(random.normal(key, {10000}):mean():abs():lt(0.1))   --> bool[] true

--- Normal between two bounds.
-- @function truncated_normal
-- @param key a key
-- @param lo the lower bound
-- @param hi the upper bound
-- @param[opt] shape a list of lengths ({})
-- @param[opt] options {dtype = "float32"}
-- @usage print(random.truncated_normal(key, -1, 1, {100}):abs():max():le(1))   --> bool[] true

--- true with probability p (bool).
-- @function bernoulli
-- @param key a key
-- @param p a number or an array
-- @param[opt] shape a list of lengths ({})
-- @usage print(random.bernoulli(key, 0.3, {10000}):mean():lt(0.35))   --> bool[] true

--- Integers from low to high, both included.
-- @function randint
-- @param key a key
-- @param shape a list of lengths
-- @param low a number
-- @param high a number
-- @param[opt] options {dtype = "int32"}
-- @usage print(random.randint(key, {100}, 1, 6):max())   --> int32[] 6

--- 1 to n in another order, or the rows of an array.
-- @function permutation
-- @param key a key
-- @param x n or an array
-- @usage print(random.permutation(key, 5):sort())   --> int32[5] [1 2 3 4 5]

--- Elements drawn from 1 to n, or from an array along axis 1.
-- @function choice
-- @param key a key
-- @param x n or an array
-- @param[opt] shape a list of lengths ({})
-- @param[opt] options {replace = true, p = their probabilities}
-- @usage print(random.choice(key, 5, {5}, {replace = false}):sort())   --> int32[5] [1 2 3 4 5]

--- Positions, from 1, drawn by the logarithms of their probabilities.
-- @function categorical
-- @param key a key
-- @param logits an array
-- @param[opt] options {axis = -1, shape}
-- @usage print(random.categorical(key, mlax.array{-math.huge, 0}))   --> int32[] 2

--- Gumbel: -log(-log(u)).
-- @function gumbel
-- @param key a key
-- @param[opt] shape a list of lengths ({})
-- @param[opt] options {dtype = "float32"}
-- @usage print(random.gumbel(key, {2, 3}):dims())   --> 2 3

--- Exponential with mean 1.
-- @function exponential
-- @param key a key
-- @param[opt] shape a list of lengths ({})
-- @param[opt] options {dtype = "float32"}
-- @usage print(random.exponential(key, {2, 3}):dims())   --> 2 3

--- Laplace with scale 1.
-- @function laplace
-- @param key a key
-- @param[opt] shape a list of lengths ({})
-- @param[opt] options {dtype = "float32"}
-- @usage print(random.laplace(key, {2, 3}):dims())   --> 2 3

--- Cauchy: the quotient of two normal numbers.
-- @function cauchy
-- @param key a key
-- @param[opt] shape a list of lengths ({})
-- @param[opt] options {dtype = "float32"}
-- @usage print(random.cauchy(key, {2, 3}):dims())   --> 2 3

--- Logistic: log(u / (1 - u)).
-- @function logistic
-- @param key a key
-- @param[opt] shape a list of lengths ({})
-- @param[opt] options {dtype = "float32"}
-- @usage print(random.logistic(key, {2, 3}):dims())   --> 2 3

--- Gamma with scale 1. Differentiable with respect to `a`.
-- @function gamma
-- @param key a key
-- @param a the shape parameter, a number or an array
-- @param[opt] shape a list of lengths (that of a)
-- @param[opt] options {dtype = "float32"}
-- @usage print(random.gamma(key, 3, {10000}):mean():sub(3):abs():lt(0.1))   --> bool[] true

--- Beta, in [0, 1]. Differentiable with respect to `a` and `b`.
-- @function beta
-- @param key a key
-- @param a the first parameter, a number or an array
-- @param b the second
-- @param[opt] shape a list of lengths (that of a and b)
-- @param[opt] options {dtype = "float32"}
-- @usage print(random.beta(key, 2, 3, {10000}):mean():sub(0.4):abs():lt(0.02))   --> bool[] true

--- Dirichlet: vectors that sum to 1.
-- @function dirichlet
-- @param key a key
-- @param alpha an array, whose last axis counts the classes
-- @param[opt] shape a list of lengths, the axes before the last (those of alpha)
-- @param[opt] options {dtype = "float32"}
-- @usage print(random.dirichlet(key, mlax.array{1, 2, 3}, {5}):dims())   --> 5 3

--- Poisson: how many events, when `lam` are expected (int32).
-- @function poisson
-- @param key a key
-- @param lam the rate, a number or an array
-- @param[opt] shape a list of lengths (that of lam)
-- @param[opt] options {dtype = "int32"}
-- @usage print(random.poisson(key, 4, {10000}):mean():sub(4):abs():lt(0.1))   --> bool[] true

-- -- the module -------------------------------------------------------------------------------------------------------

return random
