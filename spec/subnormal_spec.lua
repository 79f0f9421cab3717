-- Subnormal floats count as zero in computations, as with XLA on the CPU; the host's own arithmetic is left as it is.
local mlax = require "mlax"

describe("subnormal numbers", function()
  local tiny = mlax.array{1e-40, -1e-40}
  local one, small = mlax.array{1.0}, mlax.array{1e-30}

  local function is_zero(x) return x:eq(0):all():item() end

  it("count as zero as operands and as results, eagerly and compiled", function()
    for _, wrap in ipairs{function(f) return f end, mlax.jit} do
      assert.is_true(is_zero(wrap(function(x) return x * 1e30 end)(tiny)))
      assert.is_true(is_zero(wrap(function(x) return x * 1e-15 end)(small)))
      assert.is_true(is_zero(wrap(function(x) return (-100 * x):exp() end)(one)))
      assert.is_true(is_zero(wrap(function(x) return x:matmul(x * 1e10) end)(tiny)))
    end
  end)

  it("of float16 are kept, for they are normal float32 numbers", function()
    local half = mlax.array({6e-8}, "float16")
    assert.is_true((half * 1):gt(0):item())
  end)

  it("pass through what does not compute", function()
    local turned = mlax.concat({tiny, tiny}, 1):reshape{2, 2}.T
    assert.is_true(turned:totable()[1][1] > 0)
    assert.equal(tiny:totable()[2], turned:totable()[2][1])
  end)

  it("stay what they are in the host, also in what compiled code calls", function()
    local least, seen, speak = 0x1p-1074, nil, print
    _G.print = function() seen = least * 3 / 3 end
    local ok, message = pcall(mlax.jit(function(x)
      mlax.debug.print("%s", x)
      return x:matmul(x)
    end), mlax.ones{300, 300})
    _G.print = speak
    assert(ok, message)
    assert.equal(least, seen)
    assert.equal(least, least * 3 / 3)
  end)
end)
