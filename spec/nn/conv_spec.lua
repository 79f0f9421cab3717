local mlax = require "mlax"
local helper = require "spec.helper"

local nn, random, lax = mlax.nn, mlax.random, mlax.lax
local F = nn.functional
local near, message = helper.near, helper.message

local function raises(text, f, ...)
  local got = message(f, ...)
  assert(got:find(text, 1, true), ("%q does not hold %q"):format(got, text))
end

describe("nn.Conv", function()
  local key, x = random.key(1), random.normal(random.key(2), {6, 7, 4})

  it("is lax.conv of one example", function()
    local y, layer = nn.Conv(key, 3, {2, 3}, {strides = {1, 2}, padding = "SAME"})(x)
    assert.same({3, 2, 3, 4}, layer.conv_kernel.data.shape)
    near(lax.conv(x:expand_dims(1), layer.conv_kernel.data, {strides = {1, 2}, padding = "SAME"})[1], y)
    near(nn.initializers.lecun_normal()(key, {2, 3, 4, 3}):transpose{4, 1, 2, 3}, layer.conv_kernel.data)
  end)

  it("has kernels by the format", function()
    local _, first = nn.Conv(key, 5, 2, {data_format = "channel_first"})(x)
    assert.same({5, 6, 2, 2}, first.conv_kernel.data.shape)
    local y, own = nn.Conv(key, 5, 2, {data_format = {"HWC", "HWIO", "CHW"}})(x)
    assert.same({2, 2, 4, 5}, own.conv_kernel.data.shape)
    assert.same({5, 5, 6}, y.shape)
    local _, grouped = nn.Conv(key, 6, 3, {feature_group_count = 2})(x)
    assert.same({6, 3, 3, 2}, grouped.conv_kernel.data.shape)
  end)

  it("computes in the dtype of the input", function()
    local y = nn.Conv(key, 3, 2)(x:astype("bfloat16"))
    assert.equal("bfloat16", y.dtype)
    assert.equal("float32", (nn.Conv(key, 3, 2, {accum_dtype = "float32"})(x:astype("bfloat16"))).dtype)
  end)

  it("takes batches by vmap, as a loop would", function()
    local xs = random.normal(random.key(3), {3, 5, 5, 2})
    local _, layer = nn.Conv(key, 3, 2)(xs[1])
    local ys = mlax.vmap(function(e) return (layer(e)) end)(xs)
    for i = 1, 3 do near((layer(xs[i])), ys[i]) end
  end)

  it("says what is wrong", function()
    raises("Conv: the input must be one example of floats", nn.Conv(key, 3, 2), x:astype("int32"))
    raises("batches go through mlax.vmap", nn.Conv(key, 3, 2), mlax.ones{1, 2, 3, 4, 5})
    raises("filter_shape must be a number or a list of one for each spatial axis (got 3, need 2)", nn.Conv(key, 3, {2, 2, 2}), x)
    raises("unknown option 'stride', did you mean 'strides'?", nn.Conv, key, 3, 2, {stride = 1})
    raises("data_format must be", nn.Conv, key, 3, 2, {data_format = "channels_last"})
    raises("must be a multiple of feature_group_count (got 4 and 3)", nn.Conv(key, 3, 2, {feature_group_count = 3}), x)
  end)

  it("copies the caller's lists", function()
    local strides = {2, 2}
    local layer = nn.Conv(key, 3, 2, {strides = strides})
    strides[1] = 1
    assert.same({3, 3, 3}, (layer(x)).shape)
  end)
end)

describe("nn.ConvTranspose", function()
  local key = random.key(1)
  local x = mlax.range(0, 23, 1, "float32"):reshape{3, 4, 2} / 10

  -- {padding, strides, window, filter_dilation, shape, sum, sum of elements times cos(position from 0)}: lax.conv_transpose of JAX
  local answers = {
    {"SAME", {2, 2}, {3, 3}, {1, 1}, {6, 8, 2}, -15.8, 26.9926167},
    {"SAME", {1, 3}, {2, 2}, {1, 1}, {3, 12, 2}, -48.8, -55.8396830},
    {"VALID", {2, 1}, {3, 2}, {1, 1}, {7, 5, 2}, -85.2, -3.7752581},
    {"VALID", {3, 3}, {2, 2}, {1, 1}, {9, 12, 2}, -72.0, -41.2526554},
    {"SAME", {2, 2}, {2, 3}, {2, 1}, {6, 8, 2}, -33.5, -14.3639801},
    {{{1, 0}, {2, 1}}, {2, 2}, {3, 2}, {1, 1}, {4, 9, 2}, -44.0, -4.3325502},
  }

  for i, case in ipairs(answers) do
    it(("gives what JAX gives, case %d"):format(i), function()
      local layer = nn.ConvTranspose(key, 2, case[3], {padding = case[1], strides = case[2], filter_dilation = case[4]})
      layer(x)
      local n = case[3][1] * case[3][2] * 4
      local hwio = (mlax.range(0, n - 1) % 7 - 3):astype("float32"):reshape{case[3][1], case[3][2], 2, 2}
      layer.conv_kernel.data = hwio:transpose{4, 1, 2, 3}
      local y = layer(x)
      assert.same(case[5], y.shape)
      near({case[6]}, y:sum())
      near({case[7]}, (y:flatten() * mlax.range(0, y.size - 1, 1, "float32"):cos()):sum(), 2e-6)
    end)
  end

  it("is SAME unless it is asked for, with a kernel laid out as Conv's", function()
    local y, layer = nn.ConvTranspose(key, 5, 3, {strides = 2})(x)
    assert.same({6, 8, 5}, y.shape)
    assert.same({5, 3, 3, 2}, layer.conv_kernel.data.shape)
    local first, turned = nn.ConvTranspose(key, 5, 3, {strides = 2, data_format = "channel_first"})(x:transpose{3, 1, 2})
    near(y:transpose{3, 1, 2}, first)
    assert.same({5, 2, 3, 3}, turned.conv_kernel.data.shape)
  end)

  it("takes one to three spatial axes and groups", function()
    assert.same({9, 4}, (nn.ConvTranspose(key, 4, 2, {strides = 3})(mlax.ones{3, 2})).shape)
    assert.same({4, 2, 4, 1}, (nn.ConvTranspose(key, 1, {2, 1, 3}, {strides = {2, 1, 2}})(mlax.ones{2, 2, 2, 3})).shape)
    local _, layer = nn.ConvTranspose(key, 4, 2, {feature_group_count = 2})(x)
    assert.same({4, 2, 2, 1}, layer.conv_kernel.data.shape)
  end)

  it("says what is wrong", function()
    raises('ConvTranspose: padding must be "SAME", "VALID", a number or a list of one entry for each spatial axis (got "SAME_LOWER")',
      nn.ConvTranspose, key, 2, 3, {padding = "SAME_LOWER"})
    raises("ConvTranspose: unknown option 'input_dilation'", nn.ConvTranspose, key, 2, 3, {input_dilation = 2})
    raises("ConvTranspose: strides must be a number or a list of one for each spatial axis (got 3, need 2)",
      nn.ConvTranspose(key, 2, 3, {strides = {1, 1, 1}}), x)
    raises("ConvTranspose: the input must be one example of floats", nn.ConvTranspose(key, 2, 3), x:astype("int32"))
  end)
end)

describe("pools", function()
  local x = mlax.range(1, 24, 1, "float32"):reshape{3, 4, 2}

  it("look at windows of the spatial axes", function()
    near({11, 12, 13, 14, 15, 16, 19, 20, 21, 22, 23, 24}, F.max_pool(x, 2))
    near({24, 28, 40, 44}, F.sum_pool(x, 2, {strides = {2, 2}}))
    near({6, 7, 10, 11}, F.avg_pool(x, 2, {strides = 2}))
    near({1, 2, 5, 6}, F.pool(x, math.huge, "min", 2, {strides = 2}))
  end)

  it("divide by the whole window, padding and all", function()
    near({0.25, 0.5}, F.avg_pool(x, 2, {padding = {{1, 0}, {1, 0}}})[{1, 1}])
    near({0.5, 1}, F.avg_pool(x, {1, 2}, {padding = {0, 1}})[{1, 1}])
  end)

  it("find the channels by the format", function()
    near(F.max_pool(x, 2):transpose{3, 1, 2}, F.max_pool(x:transpose{3, 1, 2}, 2, {data_format = "channel_first"}))
    near(F.max_pool(x, 2):transpose{1, 3, 2}, F.max_pool(x:transpose{1, 3, 2}, 2, {data_format = "HCW"}))
  end)

  it("are layers, too", function()
    near(F.max_pool(x, 2, {strides = 2}), (nn.MaxPool(2, {strides = 2})(x)))
    near(F.avg_pool(x, {2, 3}, {padding = "SAME"}), (nn.AvgPool({2, 3}, {padding = "SAME"})(x)))
    assert.same({3, 1, 2, 2}, (mlax.vmap(nn.MaxPool(2, {strides = 2}))(mlax.ones{3, 3, 4, 2})).shape)
  end)

  it("say what is wrong", function()
    raises("max_pool: unknown option 'stride', did you mean 'strides'?", F.max_pool, x, 2, {stride = 2})
    raises("avg_pool: window_shape is missing", F.avg_pool, x)
    raises("sum_pool: window_shape must be a number or a list of one for each spatial axis (got 3, need 2)", F.sum_pool, x, {1, 2, 3})
    raises("data_format must have one letter an axis, one of them C", F.max_pool, x, 2, {data_format = "HW"})
    raises("MaxPool: unknown option 'pad'", nn.MaxPool, 2, {pad = 1})
    raises("AvgPool: padding must be a word, a number or a list", nn.AvgPool(2, {padding = {1}}), x)
  end)
end)
