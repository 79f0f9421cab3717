local mlax = require "mlax"
local helper = require "spec.helper"
local I, random = mlax.nn.initializers, mlax.random
local near, message = helper.near, helper.message

local function variance(x) return x:square():mean():item() - x:mean():item() ^ 2 end

describe("initializers", function()
  it("have the variance that their name says", function()
    local shape = {400, 100}
    for name, want in pairs{lecun_normal = 1 / 400, lecun_uniform = 1 / 400, glorot_normal = 1 / 250, glorot_uniform = 1 / 250,
                            he_normal = 2 / 400, he_uniform = 2 / 400} do
      local v = variance(I[name]()(random.key(3), shape))
      assert.is_true(math.abs(v / want - 1) < 0.03, name)
    end
    assert.is_true(math.abs(variance(I.normal(0.5)(random.key(1), shape)) / 0.25 - 1) < 0.03)
  end)

  it("stay within their bounds", function()
    local x = I.uniform(0.5)(random.key(0), {1000})
    assert.is_true(x:min():item() >= 0 and x:max():item() < 0.5)
    assert.is_true(I.truncated_normal(1)(random.key(0), {1000}):abs():max():item() <= 2)
  end)

  it("made with equal arguments are one and the same function", function()
    assert.equal(I.lecun_normal(), I.lecun_normal())
    assert.equal(I.constant(0.5), I.constant(0.5))
    assert.equal(I.variance_scaling(1, "fan_in", "normal", {in_axis = {1, 2}}),
      I.variance_scaling(1, "fan_in", "normal", {in_axis = {1, 2}}))
    assert.not_equal(I.normal(0.5), I.normal(0.25))
    assert.not_equal(I.lecun_normal(), I.lecun_normal{in_axis = -1})
  end)

  it("give zeros, ones and constants", function()
    near({0, 0}, I.zeros(nil, {2}))
    near({1, 1}, I.ones(nil, {2}, "float64"))
    near({3, 3}, I.constant(3)(nil, {2}, "int32"))
  end)

  it("orthogonal has orthonormal columns, or rows where there are fewer", function()
    for _, shape in ipairs{{6, 6}, {9, 4}, {4, 9}} do
      local q = I.orthogonal()(random.key(2), shape, "float64")
      local product = shape[1] >= shape[2] and q.T:matmul(q) or q:matmul(q.T)
      near(mlax.eye(math.min(shape[1], shape[2])), product, 1e-12)
    end
  end)

  it("orthogonal is the same inside jit and under vmap", function()
    local init = I.orthogonal(2)
    local want = init(random.key(5), {4, 3})
    near(want, mlax.jit(function(key) return init(key, {4, 3}) end)(random.key(5)))
    near(want, mlax.vmap(function(key) return init(key, {4, 3}) end)(random.key(5):expand_dims(1))[1])
  end)

  it("of no elements give none", function()
    assert.same({0, 3}, I.he_normal()(random.key(0), {0, 3}).shape)
    assert.same({0, 3}, I.orthogonal()(random.key(0), {0, 3}).shape)
  end)

  it("name what is wrong", function()
    assert.equal("variance_scaling: the fans of a shape of fewer than 2 axes are not defined (got {3})",
      message(I.lecun_normal(), random.key(0), {3}))
    assert.equal('variance_scaling: unknown mode "fan_inn" (known: fan_avg, fan_geo_avg, fan_in, fan_out)',
      message(I.variance_scaling, 1, "fan_inn", "normal"))
    assert.equal("variance_scaling: unknown option 'in_axes', did you mean 'in_axis'? (known: in_axis, out_axis, batch_axis)",
      message(I.he_normal, {in_axes = 1}))
  end)
end)
