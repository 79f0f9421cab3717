--- gradcheck: right derivatives pass, wrong ones are named.
local mlax = require "mlax"
local helper = require "spec.helper"

describe("gradcheck", function()
  it("passes what is right, in any float dtype, of trees and numbers", function()
    assert.is_true(mlax.gradcheck(mlax.tanh, {mlax.array{{0.5, -1}, {2, 3}}}))
    assert.is_true(mlax.gradcheck(function(p, x, n) return {p.w * x + n, x:sin()} end,
      {{w = mlax.ones({2}, "float16")}, mlax.array{1, 2}, 3}))
    assert.is_true(mlax.gradcheck(function(x) return x * x end, {2.5}))
    assert.is_true(mlax.gradcheck(function(x, i) return x[i] end, {mlax.array{1, 2, 3}, mlax.array({3, 1}, "int32")}))
    assert.is_true(mlax.gradcheck(mlax.jit(function(x) return x:exp():sum() end), {mlax.ones{3}}))
  end)

  it("checks derivatives of derivatives", function()
    assert.is_true(mlax.gradcheck(mlax.sin, {mlax.array{0.5, -1}}, {order = 3}))
    assert.is_true(mlax.gradcheck(mlax.sin, {mlax.array{0.5, -1}}, {order = 2, mode = "forward"}))
  end)

  local function scaled(by) -- a sine whose derivative is off by a factor
    return mlax.custom_vjp(function(x) return x:sin() end, function(x) return x:sin(), x end,
      function(x, ct) return ct * x:cos() * by end)
  end

  it("names argument, element and both values where a derivative is wrong", function()
    local ok, message = mlax.gradcheck(scaled(mlax.array({1, 1, 2}, "float64")), {mlax.array{0.5, 1, 0}})
    assert.is_false(ok)
    local wrong, right = message:match("^gradcheck: argument 1, element {3}: the derivative is (%S+), differences give (%S+)$")
    assert.near(2, tonumber(wrong) / tonumber(right), 1e-6)
    local f = scaled(3)
    message = select(2, mlax.gradcheck(function(_, p) return f(p.layers[1].w) end, {1, {layers = {{w = mlax.ones{2, 2}}}}}))
    assert.matches("^gradcheck: argument 2 at layers%[1%]%.w, element {1, 1}: ", message)
  end)

  it("names the order at which they differ", function()
    local f = mlax.custom_jvp(function(x) return x:exp() end,
      function(primals, tangents) return primals[1]:exp(), tangents[1] * mlax.stop_gradient(primals[1]:exp()) end)
    assert.is_true(mlax.gradcheck(f, {mlax.array(0.5)}))
    local ok, message = mlax.gradcheck(f, {mlax.array(0.5)}, {order = 2})
    assert.is_false(ok)
    assert.matches("gradcheck: argument 1: the derivative of order 2 is ", message, 1, true)
  end)

  it("goes by its tolerance", function()
    local f = scaled(1.001)
    assert.is_false((mlax.gradcheck(f, {mlax.array{0.5}})))
    assert.is_true(mlax.gradcheck(f, {mlax.array{0.5}}, {tolerance = 1e-2, eps = 1e-5}))
  end)

  it("says what is wrong with its arguments", function()
    local function text(...) return (helper.message(mlax.gradcheck, ...)) end
    local x = mlax.ones{2}
    assert.matches("gradcheck: f", text(3, {x}), 1, true)
    assert.matches("args must be a list of arguments (got float32[2])", text(mlax.sin, x), 1, true)
    assert.are.equal("gradcheck: no argument holds a float (got nothing to differentiate by)", text(mlax.sin, {3}))
    assert.matches("the result is float32 where the arguments are float64", text(function(y) return y:astype("float32") end, {x}), 1, true)
    assert.are.equal("gradcheck: the function's first result holds no float array", text(function(y) return y:argmax(1) end, {x}))
    assert.matches("eps must be a positive number (got -1)", text(mlax.sin, {x}, {eps = -1}), 1, true)
    assert.matches("order must be an integer from 1 (got 0)", text(mlax.sin, {x}, {order = 0}), 1, true)
    assert.matches('mode must be "reverse" or "forward"', text(mlax.sin, {x}, {mode = "both"}), 1, true)
    assert.matches("did you mean 'tolerance'", text(mlax.sin, {x}, {tolerence = 1}), 1, true)
  end)
end)
