local mlax = require "mlax"
local helper = require "spec.helper"
local optim, tree = mlax.optim, mlax.tree
local near, message = helper.near, helper.message

-- Runs a transformation on one scalar parameter; gives the parameter after each gradient.
local function trail(opt, p, grads)
  local params, out = {p = mlax.array{p}}, {}
  local state = opt:init(params)
  for i, g in ipairs(grads) do
    params, state = opt:step(params, {p = mlax.array{g}}, state)
    out[i] = helper.flat(params.p)[1]
  end
  return out
end

local grads = {1, -0.5, 2, 0.25}

describe("optim.sgd", function()
  it("goes down the gradient", function()
    local p, want = 3, {}
    for i, g in ipairs(grads) do p = p - 0.1 * g want[i] = p end
    near(want, trail(optim.sgd(0.1), 3, grads))
  end)

  it("has momentum, and Nesterov's", function()
    for _, nesterov in ipairs{false, true} do
      local p, t, want = 3, 0, {}
      for i, g in ipairs(grads) do
        t = g + 0.9 * t
        p = p - 0.1 * (nesterov and g + 0.9 * t or t)
        want[i] = p
      end
      near(want, trail(optim.sgd(0.1, {momentum = 0.9, nesterov = nesterov}), 3, grads))
    end
  end)

  it("takes a schedule, which counts from 0", function()
    local counts, p, want = {}, 3, {}
    local opt = optim.sgd(function(count) counts[#counts + 1] = count:item() return 1 / (count + 2) end)
    for i, g in ipairs(grads) do p = p - g / (i + 1) want[i] = p end
    near(want, trail(opt, 3, grads))
    assert.same({0, 1, 2, 3}, counts)
  end)

  it("keeps the dtype of the parameters, also with a schedule", function()
    local params = {w = mlax.ones({2}, "bfloat16")}
    local opt = optim.sgd(optim.exponential_decay(0.1, 10, 0.5), {momentum = 0.9})
    local after = opt:step(params, params, opt:init(params))
    assert.equal("bfloat16", after.w.dtype)
  end)

  it("refuses what is no learning rate", function()
    assert.equal('sgd: the learning rate must be a number or a schedule (got "fast")', message(optim.sgd, "fast"))
    assert.equal("sgd: unknown option 'nestrov', did you mean 'nesterov'? (known: momentum, nesterov)",
      message(optim.sgd, 0.1, {nestrov = true}))
  end)
end)

describe("optim.adam", function()
  it("divides debiased means", function()
    local m, v, p, want = 0, 0, 3, {}
    for i, g in ipairs(grads) do
      m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
      p = p - 0.05 * (m / (1 - 0.9 ^ i)) / (math.sqrt(v / (1 - 0.999 ^ i)) + 1e-8)
      want[i] = p
    end
    near(want, trail(optim.adam(0.05), 3, grads), 1e-4)
  end)

  it("adamw decays the parameters", function()
    local m, v, p, want = 0, 0, 3, {}
    for i, g in ipairs(grads) do
      m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
      p = p - 0.05 * ((m / (1 - 0.9 ^ i)) / (math.sqrt(v / (1 - 0.999 ^ i)) + 1e-8) + 0.1 * p)
      want[i] = p
    end
    near(want, trail(optim.adamw(0.05, {weight_decay = 0.1}), 3, grads), 1e-4)
  end)
end)

describe("optim.chain", function()
  it("puts transformations behind one another", function()
    near({3 - 0.6, 3 - 0.3}, trail(optim.chain{optim.clip(0.3), optim.scale(-2)}, 3, {1, -0.15}))
  end)

  it("nests, and of nothing changes nothing", function()
    near({4}, trail(optim.chain{optim.chain{}, optim.chain{optim.scale(1)}}, 3, {1}))
  end)

  it("names the entry that is no transformation", function()
    assert.equal("chain: entry 2 must be a transformation such as optim.sgd(0.1) (got 3)", message(optim.chain, {optim.scale(1), 3}))
  end)
end)

describe("optim.clip_by_global_norm", function()
  it("scales all updates together", function()
    local t = optim.clip_by_global_norm(1)
    local g = {a = mlax.array{3, 0}, b = {mlax.array{4}, false}}
    local u = t:update(g, t:init(g))
    near({0.6, 0}, u.a)
    near({0.8}, u.b[1])
    assert.is_false(u.b[2])
  end)

  it("leaves short ones alone", function()
    local t = optim.clip_by_global_norm(10)
    near({3}, t:update({mlax.array{3}}, t:init({}))[1])
  end)
end)

describe("transformations", function()
  local params = {w = mlax.ones{3}, layers = {mlax.zeros{2}, false}}

  it("skip empty places and keep the structure", function()
    local opt = optim.sgd(0.1, {momentum = 0.9})
    local state = opt:init(params)
    local after, later = opt:step(params, params, state)
    near({0.9, 0.9, 0.9}, after.w)
    assert.is_false(after.layers[2])
    assert.equal(tree.structure(state), tree.structure(later))
  end)

  it("have states of arrays only, so that a jitted step is traced once", function()
    local opt = optim.adam(optim.cosine_decay(0.1, 10))
    local p, state = params, opt:init(params)
    for _, leaf in ipairs(tree.leaves(state)) do assert.is_true(mlax.is_array(leaf)) end
    local step = mlax.jit(function(x, g, s) return opt:step(x, g, s) end)
    for _ = 1, 3 do p, state = step(p, params, state) end
    assert.equal(1, step:traces())
    assert.is_true(p.w:isfinite():all():item())
  end)

  it("step is update and apply_updates", function()
    local opt = optim.sgd(0.5)
    local updates = opt:update(params, opt:init(params), params)
    local after = opt:step(params, params, opt:init(params))
    assert.is_true(tree.equal(optim.apply_updates(params, updates), after))
  end)

  it("name the path where gradients do not fit", function()
    local opt = optim.sgd(0.1)
    local state = opt:init(params)
    local wrong = {w = mlax.ones{4}, layers = {mlax.zeros{2}, false}}
    assert.equal("step: the gradient at w does not fit its parameter (got float32[4], need float32[3])",
      message(opt.step, opt, params, wrong, state))
    local lacking = {w = mlax.ones{3}, layers = {false, false}}
    assert.equal("step: there is no gradient for the parameter at layers[1] (got one at w)", message(opt.step, opt, params, lacking, state))
    local more = {w = mlax.ones{3}, layers = {mlax.zeros{2}, mlax.zeros{2}}}
    assert.equal("step: there is no gradient for the parameter at w (got one at layers[2])", message(opt.step, opt, params, more, state))
  end)

  it("name a state that is not theirs", function()
    local opt = optim.sgd(0.1, {momentum = 0.9})
    assert.equal("step: the state must be one that this transformation's init or update gave (got nil)",
      message(opt.step, opt, params, params, nil))
    local other = opt:init({w = mlax.ones{5}, layers = {mlax.zeros{2}, false}})
    assert.equal("update: the momentum at w does not fit its parameter (got float32[5], need float32[3])",
      message(opt.step, opt, params, params, other))
  end)

  it("ask for the parameters where they need them", function()
    local t = optim.add_decayed_weights(0.1)
    assert.equal("update: this transformation needs the parameters: t:update(grads, state, params)",
      message(t.update, t, params, t:init(params)))
  end)
end)

describe("schedules", function()
  it("give Lua numbers for Lua counts and arrays for arrays", function()
    local s = optim.warmup_cosine(0, 1, 4, 10)
    for count = 0, 12 do
      local want = s(count)
      assert.equal("float", math.type(want))
      near({want}, s(mlax.array(count, "int32")))
    end
  end)

  it("have the ends that their names say", function()
    near({0.5, 0.25, 0.125}, {optim.exponential_decay(0.5, 4, 0.5)(0), optim.exponential_decay(0.5, 4, 0.5)(4),
      optim.exponential_decay(0.5, 4, 0.5)(8)})
    near({1, 0.5, 0}, {optim.cosine_decay(1, 10)(0), optim.cosine_decay(1, 10)(5), optim.cosine_decay(1, 10)(10)})
    near({1, 0.5, 0.05}, {optim.piecewise(1, {[3] = 0.5, [7] = 0.1})(2), optim.piecewise(1, {[3] = 0.5, [7] = 0.1})(3),
      optim.piecewise(1, {[3] = 0.5, [7] = 0.1})(9)})
    near({1 / 25, 1, 1 / 25e4}, {optim.one_cycle(10, 1)(0), optim.one_cycle(10, 1)(3), optim.one_cycle(10, 1)(10)})
  end)

  it("made with equal arguments are one and the same function", function()
    assert.equal(optim.cosine_decay(1, 10, {alpha = 0.1}), optim.cosine_decay(1, 10, {alpha = 0.1}))
    assert.not_equal(optim.constant(1), optim.constant(2))
  end)

  it("name what is missing", function()
    assert.equal("cosine_decay: steps must be a number (got nil)", message(optim.cosine_decay, 1))
  end)
end)
