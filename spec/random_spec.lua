--- mlax.random: draws by rejection, against JAX 0.10 (the others are held against it by the golden cases and tests/c/test_random.c).
local mlax = require "mlax"
local helper = require "spec.helper"

local random = mlax.random
local key = random.key

-- To a few units in the last place of float32, small values relatively.
local function same(want, got)
  local list = helper.flat(got)
  assert.are.equal(#want, #list)
  for i, w in ipairs(want) do
    assert(math.abs(w - list[i]) <= 3e-6 * math.abs(w), ("value %d is %.9g, want %.9g"):format(i, list[i], w))
  end
end

describe("random.gamma", function()
  it("gives JAX's numbers, for small, middle and large parameters", function()
    same({0.00168077426, 0.326196104, 0.000211496299, 1.25798011}, random.gamma(key(1), 0.3, {4}))
    same({1.55803168, 1.77648938, 1.45959556, 8.10433674}, random.gamma(key(2), 2.5, {4}))
    same({966.299377, 973.652771, 1064.65454}, random.gamma(key(3), 1000, {3}))
    same({1.24027312}, random.gamma(key(6), 3))
  end)

  it("broadcasts its parameter to the shape, which is the parameter's by default", function()
    local a = mlax.array{0.01, 0.5, 1, 7}
    same({5.00608127e-13, 0.313909411, 0.0592622869, 7.58899498, 0, 0.420465559, 0.33004567, 5.99621344},
      random.gamma(key(4), a, {2, 4}))
    assert.are.same({4}, random.gamma(key(4), a).shape)
    assert.are.same({}, random.gamma(key(4), 2).shape)
    assert.are.same({0}, random.gamma(key(4), 2, {0}).shape)
  end)

  it("gives 0 for the parameter 0 and NaN for what is no parameter", function()
    assert.are.same({0.0, 0.0}, random.gamma(key(5), 0, {2}):totable())
    helper.near({0 / 0, 0 / 0}, random.gamma(key(5), mlax.array{-3, 0 / 0}))
    assert.are.equal(math.huge, random.gamma(key(5), math.huge):item())
  end)

  it("takes other floats as dtype", function()
    helper.near({0.0082803686212726494, 0.06851167429974693, 0.23930287833272232}, random.gamma(key(7), 0.7, {3}, {dtype = "float64"}),
      1e-14)
    local x = random.gamma(key(7), 30, {3}, {dtype = "float16"})
    assert.are.equal("float16", x.dtype)
    helper.near({26.984375, 31.0625, 28.6875}, x, 1e-3)
  end)

  it("has as derivative that of the sample by the parameter", function()
    local a = mlax.array({0.1, 0.9, 2, 30}, "float64")
    local function sum(x) return random.gamma(key(17), x, {4}, {dtype = "float64"}):sum() end
    local want = {0.17310520603550195, 1.6996273002842681, 1.1572544775528772, 0.97744803572859484}
    helper.near(want, mlax.grad(sum)(a), 1e-9)
    helper.near(want, mlax.jit(mlax.grad(sum))(a), 1e-9)
    helper.near({0, 0}, mlax.grad(function(x) return random.gamma(key(5), x):sum() end)(mlax.array{1e-30, 1e-30}))
  end)

  it("draws the same under jit, and per key under vmap", function()
    local keys = random.keys(key(16), 2)
    local draw = function(k) return random.gamma(k, 2, {2}) end
    same({1.08508646, 0.703403294, 1.02112603, 3.07426739}, mlax.vmap(draw)(keys))
    same({1.08508646, 0.703403294, 1.02112603, 3.07426739}, mlax.jit(mlax.vmap(draw))(keys))
  end)

  it("has the mean and variance of the distribution", function()
    for _, a in ipairs{0.4, 5} do
      local x = random.gamma(key(20), a, {40000})
      helper.near({a, a}, {x:mean():item(), x:var():item()}, 0.04)
    end
  end)

  it("says what is wrong", function()
    assert.are.equal("random.gamma: dtype must be a float (got int32)",
      helper.message(function() random.gamma(key(1), 2, {3}, {dtype = "int32"}) end))
    assert.matches("the key is no key", helper.message(function() random.gamma(3, 2) end), 1, true)
    assert.matches("random.gamma: ", helper.message(function() random.gamma(key(1), mlax.ones{3}, {2}) end), 1, true)
  end)
end)

describe("random.beta", function()
  it("gives JAX's numbers", function()
    same({0.143985569, 0.0265522692, 0.101822473, 0.0331052765}, random.beta(key(8), 0.5, 2, {4}))
    same({0.158917516, 0.591340363, 0.917389214, 0.0948943794, 0.16940245, 0.352077752},
      random.beta(key(9), mlax.array{1, 2, 3}, mlax.array{{1}, {4}}))
    helper.near({0.22738860369891659, 0.65667110538084161}, random.beta(key(9), 2, 3, {2}, {dtype = "float64"}), 1e-14)
  end)

  it("stays a number where both gamma variables vanish", function()
    assert.are.same({0.0, 1.0, 0.0, 1.0}, random.beta(key(9), 0.001, 0.002, {4}):totable())
  end)

  it("has a derivative", function()
    local function sum(a) return random.beta(key(18), a, 2, {3}, {dtype = "float64"}):sum() end
    helper.near({0.59247044784499914}, mlax.grad(sum)(mlax.full({}, 0.5, "float64")), 1e-9)
  end)

  it("says which parameters do not fit", function()
    assert.matches("the parameters do not fit each other (got float32[2] and float32[3])",
      helper.message(function() random.beta(key(1), mlax.ones{2}, mlax.ones{3}) end), 1, true)
  end)
end)

describe("random.dirichlet", function()
  it("gives JAX's numbers", function()
    same({0.0378314666, 0.0893757194, 0.87279278, 2.62034575e-07, 0.118416719, 0.881583035},
      random.dirichlet(key(10), mlax.array{0.2, 1, 5}, {2}))
    same({0.552321792, 0.447678238, 0.664221048, 0.335778981}, random.dirichlet(key(11), mlax.array{{1, 2}, {3, 4}}))
  end)

  it("has a derivative", function()
    local weights = mlax.array({1, 2, 3}, "float64")
    local function f(alpha) return (random.dirichlet(key(19), alpha, {}, {dtype = "float64"}) * weights):sum() end
    helper.near({-0.31749034817829835, -0.15777696122399917, 0.10767234495844703}, mlax.grad(f)(mlax.array({0.5, 1, 2}, "float64")), 1e-9)
  end)

  it("says that a scalar has no axis", function()
    assert.are.equal("random.dirichlet: the parameters need an axis of their own (got a scalar)",
      helper.message(function() random.dirichlet(key(1), mlax.full({}, 2)) end))
  end)
end)

describe("random.poisson", function()
  it("gives JAX's integers below and from 10", function()
    assert.are.same({1, 2, 3, 3, 4, 3, 3, 5}, random.poisson(key(12), 3.7, {8}):totable())
    assert.are.same({55, 44, 55, 59, 50, 54, 62, 51}, random.poisson(key(13), 50, {8}):totable())
    assert.are.same({{0, 1, 6, 5, 188}, {0, 4, 5, 7, 230}}, random.poisson(key(14), mlax.array{0, 0.5, 9.9, 10, 200}, {2, 5}):totable())
    assert.are.same({-1, 1}, random.poisson(key(15), mlax.array{0 / 0, 4}):totable())
  end)

  it("is int32, or what dtype says", function()
    assert.are.equal("int32", random.poisson(key(1), 3).dtype)
    local x = random.poisson(key(15), 1e5, {3}, {dtype = "int64"})
    assert.are.equal("int64", x.dtype)
    assert.are.same({100379, 100252, 99684}, x:totable())
  end)

  it("draws a draw of its own for each key under vmap", function()
    local want = {{1, 2, 7}, {46, 34, 44}}
    local draw = mlax.vmap(function(k, rate) return random.poisson(k, rate, {3}) end)
    assert.are.same(want, draw(random.keys(key(16), 2), mlax.array{3, 40}):totable())
    assert.are.same(want, mlax.jit(draw)(random.keys(key(16), 2), mlax.array{3, 40}):totable())
  end)

  it("has the mean and variance of the distribution", function()
    for _, rate in ipairs{0.7, 8, 30} do
      local x = random.poisson(key(21), rate, {40000}):astype("float32")
      helper.near({rate, rate}, {x:mean():item(), x:var():item()}, 0.04)
    end
  end)

  it("ends for a rate that is no number", function()
    assert.are.same({-1, -1}, random.poisson(key(1), mlax.array{math.huge, -1}):totable())
  end)

  it("says what is wrong", function()
    assert.are.equal("random.poisson: dtype must be an integer (got float32)",
      helper.message(function() random.poisson(key(1), 2, {3}, {dtype = "float32"}) end))
  end)
end)
