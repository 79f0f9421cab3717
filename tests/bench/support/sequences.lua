-- sequences.lua: the rows of a model of sequences with dropout: NAME_train, a step of adamw, and NAME_infer.
--
--     dofile(".../support/sequences.lua")(bench, "lstm", make)     make() -> model, {ids, mask}, labels, key
--
-- The model takes one example and a key; it is mapped over the batch.
local mlax = require "mlax"

local function batched(model, x, keys)
  if not keys then return mlax.vmap(function(e) return (model(e, nil, true)) end)(x) end
  return mlax.vmap(function(e, k) return (model(e, k)) end)(x, keys)
end

return function(bench, name, make)
  bench.add(name .. "_train", function()
    local model, x, y, key = make()
    local opt = mlax.optim.adamw(5e-4, {weight_decay = 1e-2})
    local state = opt:init(model)
    local step = mlax.jit(function(m, s, input, target, k)
      local loss, grads = mlax.value_and_grad(function(t)
        local scores = batched(t, input, mlax.random.keys(k, #target))
        return mlax.losses.softmax_cross_entropy_with_labels(scores, target):mean()
      end)(m)
      m, s = opt:step(m, grads, s)
      return m, s, loss
    end)
    return function()
      local loss
      model, state, loss = step(model, state, x, y, key)
      return loss
    end
  end, {once = true})

  bench.add(name .. "_infer", function()
    local model, x = make()
    local f = mlax.jit(function(m, input) return batched(m, input) end)
    return function() return f(model, x) end
  end)
end
