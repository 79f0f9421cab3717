-- Single functions with failing allocations, in the interpreter that runs the specs. tests/c/test_fault.c does this for every function.
local mlax = require "mlax"
local fault = require "spec.support.fault"

local describe_fault = fault and describe or pending

describe_fault("a failing allocation", function()
  local x = mlax.array{{1, 2}, {3, 4}}

  local function holds(f)
    return function()
      assert.is_true(fault.sweep(f) > 2)
      assert.equal(20, (x * 2):sum():item())
    end
  end

  it("spares operations", holds(function() return (x + x.T):sum(1) end))
  it("spares indexing and printing", holds(function() return tostring(x[{{}, 1}]), x:at{1}:set(0) end))
  it("spares lists", holds(function() return mlax.array{{1, 2}, {3, 4}}:totable() end))
  it("spares gradients", holds(function() return mlax.grad(function(y) return (y * y):sum() end)(x) end))
  it("spares compilation", holds(function() return mlax.jit(function(y) return y:exp() * 2 end)(x) end))
  it("spares modules", holds(function() return mlax.nn.Linear(mlax.random.key(1), 3)(x) end))
  it("spares trees", holds(function() return mlax.tree.map(function(y) return y * 2 end, {a = x, b = {x, 1}}) end))
  it("spares errors", holds(function()
    local ok, message = pcall(function() return x + mlax.ones{3} end)
    if message:find("memory") then error(message, 0) end
    assert(not ok and message:find("shapes"))
  end))

  it("is told from an error of the function itself", function()
    assert.has_error(function() fault.sweep(function() error("mine", 0) end) end, "mine")
  end)
end)
