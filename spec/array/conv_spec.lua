-- lax.conv and lax.reduce_window: their options and messages. Values over all options are compared by spec/ops/primitives_spec.lua.
local mlax = require "mlax"
local helper = require "spec.helper"

local near, message, lax = helper.near, helper.message, mlax.lax

local function vector(...) return mlax.array({{...}}):expand_dims(3) end -- {1, n, 1}

local function raises(text, f, ...)
  local got = message(f, ...)
  assert(got:find(text, 1, true), ("%q does not hold %q"):format(got, text))
end

describe("lax.conv", function()
  local x, k = vector(1, 2, 3, 4, 5), vector(1, 10)

  it("slides the kernel without turning it", function() near({21, 32, 43, 54}, lax.conv(x, k)) end)

  it("pads by words and numbers", function()
    near({21, 32, 43, 54, 5}, lax.conv(x, k, {padding = "SAME"}))
    near({10, 21, 32, 43, 54}, lax.conv(x, k, {padding = "SAME_LOWER"}))
    near({21, 32, 43, 54}, lax.conv(x, k, {padding = "VALID"}))
    near({10, 21, 32, 43, 54, 5}, lax.conv(x, k, {padding = 1}))
    near({10, 21, 32, 43, 54, 5}, lax.conv(x, k, {padding = {1}}))
    near({32, 43, 54, 5}, lax.conv(x, k, {padding = {{-1, 1}}}))
    near({21, 43, 5}, lax.conv(x, k, {padding = "SAME", strides = 2}))
  end)

  it("dilates input and filter", function()
    near({31, 42, 53}, lax.conv(x, k, {filter_dilation = 2}))
    near({1, 20, 2, 30, 3, 40, 4, 50}, lax.conv(x, k, {input_dilation = {2}}))
  end)

  it("reads layouts by letters, strides by those of the kernel", function()
    local image, kernel = mlax.random.normal(mlax.random.key(0), {2, 5, 6, 3}), mlax.random.normal(mlax.random.key(1), {4, 2, 3, 3})
    local want = lax.conv(image, kernel, {strides = {1, 2}})
    near(want:transpose{1, 4, 2, 3}, lax.conv(image:transpose{1, 4, 2, 3}, kernel:transpose{1, 4, 2, 3},
      {strides = {1, 2}, dimension_numbers = {"NCHW", "OIHW", "NCHW"}}))
    near(want, lax.conv(image, kernel:transpose{3, 2, 4, 1}, {strides = {2, 1}, dimension_numbers = {"NHWC", "WHIO", "NHWC"}}))
  end)

  it("adds up in accum_dtype", function()
    local bytes = mlax.array({{{100}, {100}}}, "int8")
    assert.equal("int32", lax.conv(bytes, bytes, {accum_dtype = "int32"}).dtype)
    near({20000}, lax.conv(bytes, bytes, {accum_dtype = "int32"}))
    near({20000 % 256}, lax.conv(bytes, bytes))
  end)

  it("has gradients that differences show, to the second order", function()
    local function draw(seed, shape) return mlax.random.normal(mlax.random.key(seed), shape, {dtype = "float64"}) end
    local image, kernel = draw(2, {2, 4, 4, 2}), draw(3, {2, 2, 2, 2})
    local function loss(a, b) return (lax.conv(a, b, {strides = 2, padding = {{1, 0}, {0, 1}}, filter_dilation = {1, 2}}) ^ 3):sum() end
    local function slope(a, b)
      local g = mlax.grad(loss, {argnums = {1, 2}})(a, b)
      return (g[1] ^ 2):sum() + (g[2] * kernel):sum()
    end
    for _, f in ipairs{loss, slope} do
      local g, h = mlax.grad(f, {argnums = {1, 2}})(image, kernel), 1e-5
      local t, u = draw(4, image.shape), draw(5, kernel.shape)
      local want = (f(image + t * h, kernel + u * h) - f(image - t * h, kernel - u * h)) / (2 * h)
      near(want, (g[1] * t):sum() + (g[2] * u):sum(), 1e-5)
    end
  end)

  it("says what is wrong", function()
    raises("conv: the kernel's in features must be those of x divided by feature_group_count (got 2, 1 and 1)", lax.conv, x,
      mlax.ones{1, 2, 2})
    raises("conv: unknown option 'stride', did you mean 'strides'?", lax.conv, x, k, {stride = 2})
    raises("conv: unknown padding 'same', did you mean 'SAME'?", lax.conv, x, k, {padding = "same"})
    raises('conv: padding "SAME" is not defined for a dilated input', lax.conv, x, k, {padding = "SAME", input_dilation = 2})
    raises("conv: option 'strides' has the wrong number of items (got 2, need a number or one for each of 1 axes)", lax.conv, x, k,
      {strides = {1, 2}})
    raises("conv: option 'strides' is too small (got 0, need at least 1)", lax.conv, x, k, {strides = 0})
    raises("conv: item 1 of option 'padding' is no pair", lax.conv, x, k, {padding = {{1}}})
    raises("conv: the kernel has as many axes as x", lax.conv, x, mlax.ones{1, 2, 2, 1})
    raises("conv: x needs a batch axis, a feature axis and one to three spatial axes (got 2 axes)", lax.conv, mlax.ones{2, 2}, k)
    raises('conv: dimension number "NHC" must hold the letter W once', lax.conv, x, k, {dimension_numbers = {"NHC", "OWI", "NWC"}})
    raises("conv: option 'dimension_numbers' is no list of three", lax.conv, x, k, {dimension_numbers = {"NWC", "OWI"}})
    raises("conv: padding cuts more from axis 2 than there is", lax.conv, x, k, {padding = -3})
    raises("conv: option 'padding' has the wrong number of items", lax.conv, x, k, {padding = {1, 1}})
  end)

  it("maps over no example", function()
    assert.same({0, 1, 4, 1}, mlax.vmap(function(a) return lax.conv(a, k) end)(mlax.zeros{0, 1, 5, 1}).shape)
    assert.same({0, 1, 4, 1}, mlax.vmap(lax.conv)(mlax.zeros{0, 1, 5, 1}, mlax.zeros{0, 1, 2, 1}).shape)
  end)
end)

describe("lax.reduce_window", function()
  local x = mlax.array{3, 1, 4, 1, 5}

  it("joins what the window sees", function()
    near({8, 6, 10}, lax.reduce_window(x, 0, "sum", {window = 3}))
    near({4, 4, 5}, lax.reduce_window(x, -math.huge, "max", {window = {3}}))
    near({1, 1, 1}, lax.reduce_window(x, math.huge, "min", {window = 3}))
    near({12, 4, 20}, lax.reduce_window(x, 1, "prod", {window = 3}))
    near({4, 8, 6, 10, 6}, lax.reduce_window(x, 0, "sum", {window = 3, padding = "SAME"}))
    near({7, 2, 9}, lax.reduce_window(x, 0, "sum", {window = 2, window_dilation = 2}))
  end)

  it("starts from the first value", function()
    near({9, 7, 11}, lax.reduce_window(x, 1, "sum", {window = 3}))
    near({4.5, 4.5, 5}, lax.reduce_window(x, mlax.array(4.5), "max", {window = 3}))
    near({24, 8, 40}, lax.reduce_window(x, 2, "prod", {window = 3}))
  end)

  it("takes infinities for the ends of integers", function()
    local i = mlax.array({-5, 7}, "int8")
    near({7, -128}, lax.reduce_window(i, -math.huge, "max", {window = 2, strides = 5, padding = {{0, 5}}}))
    assert.equal("int8", lax.reduce_window(i, -math.huge, "max", {window = 2}).dtype)
  end)

  it("gives the gradient of extremes to the first", function()
    local ties = mlax.array{2, 2, 1, 2}
    near({1, 1, 0, 1}, mlax.grad(function(v) return lax.reduce_window(v, -math.huge, "max", {window = 2}):sum() end)(ties))
    near({1, 0, 2, 0}, mlax.grad(function(v) return lax.reduce_window(v, math.huge, "min", {window = 2}):sum() end)(ties))
  end)

  it("differentiates products with zeros", function()
    near({0, 3, 0}, mlax.grad(function(v) return lax.reduce_window(v, 1, "prod", {window = 2}):sum() end)(mlax.array{0, 0, 3}))
  end)

  it("says what is wrong", function()
    raises("reduce_window: option 'window' is missing", lax.reduce_window, x, 0, "sum")
    raises("reduce_window: unknown operation 'mean' (known: max, sum, min, prod)", lax.reduce_window, x, 0, "mean", {window = 2})
    raises("reduce_window: the operation is no name", lax.reduce_window, x, 0, math.max, {window = 2})
    raises("reduce_window: the initial value is no number (got nothing)", lax.reduce_window, x, nil, "sum", {window = 2})
    raises("reduce_window: the initial value is no scalar", lax.reduce_window, x, x, "sum", {window = 2})
    raises("reduce_window: option 'window' is too small (got 0", lax.reduce_window, x, 0, "sum", {window = 0})
    raises("reduce_window: bool has no sums", lax.reduce_window, x:gt(1), 0, "sum", {window = 2})
  end)
end)
