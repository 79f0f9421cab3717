-- conv.lua: convolutions and max pooling of 32 images of 32x32 with 64 channels, channels last, and their gradients.
local bench = dofile((arg[0]:match("^(.*)/") or ".") .. "/support/bench.lua")
local mlax = require "mlax"

local lax, F = mlax.lax, mlax.nn.functional

local function draw(i, shape) return mlax.random.normal(mlax.random.key(i), shape) end

-- f of two arrays, and the gradients by both, given the result's cotangent.
local function add(name, kernel_shape, f)
  bench.add(name, function()
    local x, k, g = draw(0, {32, 32, 32, 64}), draw(1, kernel_shape), mlax.jit(f)
    return function() return g(x, k) end
  end)
  bench.add(name .. "_grad", function()
    local x, k = draw(0, {32, 32, 32, 64}), draw(1, kernel_shape)
    local ct = draw(2, f(x, k).shape)
    local g = mlax.jit(function(input, kernel, cotangent)
      local _, pullback = mlax.vjp(f, input, kernel)
      return pullback(cotangent)
    end)
    return function() return g(x, k, ct) end
  end)
end

local function conv(options)
  options.padding = "SAME"
  return function(x, k) return lax.conv(x, k, options) end
end

add("conv_3x3", {64, 3, 3, 64}, conv{})
add("conv_1x1", {64, 1, 1, 64}, conv{})
add("conv_stride2", {64, 3, 3, 64}, conv{strides = 2})
add("conv_depthwise", {64, 3, 3, 1}, conv{feature_group_count = 64})

local function pool(x) return F.max_pool(x, {2, 2}, {strides = {2, 2}}) end

bench.add("max_pool", function()
  local x, f = draw(0, {32, 32, 32, 64}), mlax.jit(mlax.vmap(pool))
  return function() return f(x) end
end)

bench.add("max_pool_grad", function()
  local x, ct = draw(0, {32, 32, 32, 64}), draw(1, {32, 16, 16, 64})
  local f = mlax.jit(function(input, cotangent)
    local y, pullback = mlax.vjp(mlax.vmap(pool), input)
    return y, pullback(cotangent)
  end)
  return function() return f(x, ct) end
end)

bench.run()
