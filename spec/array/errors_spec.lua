-- Where errors point, what passes through, and what the state survives.
local mlax = require "mlax"
local helper = require "spec.helper"

local function here(level) return debug.getinfo((level or 1) + 1, "l").currentline end

describe("errors", function()
  it("name the user's own line, not ours", function()
    local line
    local function user()
      line = here() + 1
      local y = mlax.median(mlax.ones{2}, 7)
      return y
    end
    local ok, message = pcall(user)
    assert.is_false(ok)
    assert.matches("errors_spec.lua:" .. line .. ": median: ", message)
  end)

  it("name the innermost Lua line when a C function calls the operation", function()
    local line = here() + 1
    local _, message = pcall(mlax.sum, mlax.ones{2}, 0)
    assert.matches("errors_spec.lua:" .. line .. ": sum: axis 0 does not exist", message)
    local list = {mlax.ones{2}, mlax.ones{3}}
    line = here() + 1
    _, message = pcall(table.sort, list, mlax.add)
    assert.matches("errors_spec.lua:" .. line .. ": add: ", message)
  end)

  it("in a coroutine name its line", function()
    local co = coroutine.create(function() return mlax.ones{2} + mlax.ones{3} end)
    local _, message = coroutine.resume(co)
    assert.matches("errors_spec.lua:%d+: add: ", message)
    local _, bare = coroutine.resume(coroutine.create(mlax.add), mlax.ones{2}, mlax.ones{3})
    assert.matches("^add: ", bare)
  end)

  it("of the user pass through transformations unchanged", function()
    local value = {}
    local _, got = pcall(mlax.jit(function() error(value) end), mlax.ones{2})
    assert.equal(value, got)
    _, got = pcall(mlax.grad(function() error("plain", 0) end), mlax.array(1))
    assert.equal("plain", got)
    _, got = pcall(mlax.vmap(function() error() end), mlax.ones{2})
    assert.is_nil(got)
  end)

  it("leave the state as it was", function()
    for _ = 1, 50 do
      pcall(mlax.jit(function(x) return x + mlax.ones{3} end), mlax.ones{2})
      pcall(mlax.grad(function(x) return mlax.vmap(function(y) return y:sum(9) end)(x) end), mlax.ones{2})
    end
    helper.near({2, 2}, mlax.jit(function(x) return x * 2 end)(mlax.ones{2}))
  end)

  it("keep the Lua stack of the first raise", function()
    local line
    local function inner(x)
      line = here() + 1
      local y = x:sum(5)
      return y
    end
    local ok, message = pcall(mlax.jit(function(x)
      local y = inner(x)
      return y
    end), mlax.ones{2})
    assert.is_false(ok)
    local trace = mlax.traceback(message)
    assert.matches("^stack traceback:\n\t.-errors_spec.lua:" .. line .. ": in ", trace)
    assert.is_nil(trace:find("mlax/transforms.lua", 1, true))
    assert.is_nil(mlax.traceback("another error"))
  end)

  it("of unknown names guess", function()
    assert.equal("mlax: there is no mlax.reshap, did you mean mlax.reshape?", helper.message(function() return mlax.reshap end))
    assert.matches("^mlax: there is no mlax.qqqqqqqqq$", helper.message(function() return mlax.qqqqqqqqq end))
  end)
end)

describe("traced values that leak", function()
  it("raise and name the line", function()
    local leaked
    mlax.jit(function(x)
      leaked = x * 2
      return x
    end)(mlax.ones{2})
    assert.matches("leaked", helper.message(function() return leaked + 1 end))
    assert.matches("errors_spec.lua:%d+", helper.message(function() return leaked + 1 end))
  end)
end)

describe("system functions", function()
  it("check their arguments", function()
    assert.matches("^threads: the number of threads is out of range", helper.message(mlax.threads, 0))
    assert.matches("^set_memory_limit: the limit is negative", helper.message(mlax.set_memory_limit, -1))
    assert.equal(mlax.threads(), mlax.threads(mlax.threads()))
    assert.matches("^print_options: option 'precision' is out of range", helper.message(mlax.print_options, {precision = 99}))
    assert.is_false(mlax.deterministic())
    assert.is_true(mlax.deterministic(true))
    assert.is_false(mlax.deterministic(false))
  end)

  it("tell devices", function()
    assert.matches("^cpu: ", mlax.devices()[1])
    assert.equal("cpu", mlax.default_device())
    local x = mlax.ones{2}
    assert.is_true(mlax.device_put(x, "cpu") == x)
    local none, message = mlax.device_put(x, "tpu:1")
    assert.is_nil(none)
    assert.equal("there is no device 'tpu:1' (known: cpu)", message)
    assert.is_true(x:wait() == x)
  end)

  it("measure time and hand results on", function()
    local seconds, a, b = mlax.time(function(x, y) return y, x end, 1, 2)
    assert.is_true(seconds >= 0)
    assert.same({2, 1}, {a, b})
  end)

  it("strict makes unset globals raise", function()
    local env = getmetatable(_G)
    mlax.strict()
    some_global_of_this_spec = nil -- luacheck: ignore
    local message = helper.message(function() return unset_global_name end) -- luacheck: ignore
    assert.equal("strict: the global 'unset_global_name' is not set", message)
    assert.matches("did you mean 'table'%?", helper.message(function() return tabel end)) -- luacheck: ignore
    getmetatable(_G).__index = nil
    getmetatable(_G).mlax_strict = nil
    setmetatable(_G, env)
  end)
end)
