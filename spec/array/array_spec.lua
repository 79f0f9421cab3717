local mlax = require "mlax"
local helper = require "spec.helper"

local function x23() return mlax.array({{1, 2, 3}, {4, 5, 6}}) end

describe("fields", function()
  it("tell shape, dtype and sizes", function()
    local x = x23()
    assert.same({2, 3}, x.shape)
    assert.equal("float32", x.dtype)
    assert.equal(2, x.ndim)
    assert.equal(6, x.size)
    assert.equal(24, x.nbytes)
    assert.equal("cpu", x.device)
    assert.equal(2, #x)
    assert.same({3, 2}, x.T.shape)
  end)

  it("give a new shape list at each reading", function()
    local x = x23()
    x.shape[1] = 99
    assert.same({2, 3}, x.shape)
  end)

  it("are there for traced arrays too", function()
    local seen
    mlax.jit(function(x)
      seen = {x.shape, x.dtype, x.ndim, x.size, #x, x:dim(-1), select("#", x:dims())}
      return x
    end)(x23())
    assert.same({{2, 3}, "float32", 2, 6, 2, 3, 2}, seen)
  end)

  it("that do not exist raise and guess", function()
    local x = x23()
    assert.equal("index: an array has no field 'shap', did you mean 'shape'?", helper.message(function() return x.shap end))
    assert.matches("no field 'zzzzzz'", helper.message(function() return x.zzzzzz end))
  end)

  it("cannot be assigned", function()
    local x = x23()
    assert.equal("index: arrays never change: write x = x:at{i}:set(v)", helper.message(function() x[1] = 5 end))
    assert.matches("arrays never change", helper.message(function() x.shape = {} end))
  end)
end)

describe("dims and dim", function()
  it("give lengths as results", function()
    local n, d = x23():dims()
    assert.same({2, 3}, {n, d})
    assert.equal(3, x23():dim(-1))
    assert.equal(0, select("#", mlax.ones({}):dims()))
  end)

  it("count axes from 1", function()
    local x = x23()
    assert.equal("dim: axis 0 does not exist: axes count from 1, or from -1 backwards (got 0, need 1..2)",
      helper.message(function() return x:dim(0) end))
  end)
end)

describe("operators", function()
  it("work elementwise with broadcasting", function()
    local x, row = x23(), mlax.array{10, 20, 30}
    helper.near({11, 22, 33, 14, 25, 36}, x + row)
    helper.near({9, 18, 27, 6, 15, 24}, row - x)
    helper.near({-1, -2, -3, -4, -5, -6}, -x)
    helper.near({0.5, 1, 1.5, 2, 2.5, 3}, x / 2)
    helper.near({1, 4, 9, 16, 25, 36}, x ^ 2)
    helper.near({1, 8, 27, 64, 125, 216}, x ^ 3)
    helper.near({2, 4, 8, 16, 32, 64}, 2 ^ x)
    helper.near({1, 0, 1, 0, 1, 0}, x % 2)
  end)

  it("floor // and % of integers as Lua does, and never trap", function()
    local x = mlax.array({7, -7, 7, -7}, "int32")
    local y = mlax.array({2, 2, -2, -2}, "int32")
    assert.same({7 // 2, -7 // 2, 7 // -2, -7 // -2}, (x // y):totable())
    assert.same({7 % 2, -7 % 2, 7 % -2, -7 % -2}, (x % y):totable())
    assert.equal(4, #(x // mlax.zeros({4}, "int32")))
    assert.equal(-2147483648, (mlax.array({-2147483648}, "int32") // -1):totable()[1])
  end)

  it("take bits of integers", function()
    local x = mlax.array({12, -12}, "int32")
    assert.same({12 & 8, -12 & 8}, (x & 8):totable())
    assert.same({12 | 3, -12 | 3}, (x | 3):totable())
    assert.same({12 ~ 5, -12 ~ 5}, (x ~ 5):totable())
    assert.same({~12, ~-12}, (~x):totable())
    assert.same({48, -48}, (x << 2):totable())
    assert.same({3, -3}, (x >> 2):totable())
    assert.same({true, false}, (~mlax.array({false, true})):totable())
  end)

  it("treat Lua numbers as weak", function()
    assert.equal("int8", (mlax.ones({2}, "int8") + 1).dtype)
    assert.equal("float32", (mlax.ones({2}, "int8") + 1.0).dtype)
    assert.equal("float16", (mlax.ones({2}, "float16") * 0.1).dtype)
    assert.equal("int32", (mlax.ones({2}, "bool") + 1).dtype)
    assert.equal(-128, (mlax.array({127}, "int8") + 1):totable()[1])
  end)

  it("raise on other operands", function()
    local x = x23()
    assert.equal("add: an operand is neither an array nor a number (got a table, need mlax.array{...})",
      helper.message(function() return x + {} end))
    assert.equal("mul: an operand is neither an array nor a number (got \"2\")", helper.message(function() return "2" * x end))
    assert.equal("sub: an operand is neither an array nor a number (got true)", helper.message(function() return x - true end))
    assert.matches("^add: .*%(got .*float32%[2,3%].*float32%[2%]", helper.message(function() return x + mlax.ones{2} end))
    assert.matches("^pow: integers have no negative powers", helper.message(function() return mlax.ones({2}, "int32") ^ -1 end))
  end)

  it("== is identity", function()
    local x = x23()
    local y = x
    assert.is_true(x == y)
    assert.is_false(x == x23())
    assert.is_false(x == 1)
  end)

  it("order arrays of one element", function()
    assert.is_true(mlax.array(1) < mlax.array(2))
    assert.is_true(mlax.array{{3}} >= 3)
    assert.is_false(mlax.array(1) > 2)
    assert.equal("<: only arrays of one element have an order (got float32[2,3]): write x:lt(y)",
      helper.message(function() return x23() < 1 end))
  end)

  it("do not order or read traced values, and name the way out", function()
    local message = helper.message(mlax.jit(function(x) if x < 1 then return x end return -x end), mlax.array(2))
    assert.matches("^<: a traced array cannot be ordered", message)
    assert.matches("made at .*%.lua:%d+", message)
    assert.matches("static_argnums", message)
    assert.matches("cannot be read", helper.message(mlax.jit(function(x) return x * x:item() end), mlax.array(2)))
    assert.matches("cannot be read", helper.message(mlax.jit(function(x) x:totable() return x end), mlax.array(2)))
  end)

  it("# of a scalar raises", function()
    assert.equal("#: a scalar has no length (got float32[])", helper.message(function() return #mlax.array(1) end))
  end)

  it(".. makes text", function()
    assert.equal("loss 0.5!", "loss " .. mlax.array(0.5) .. "!")
    assert.equal("n = 3", "n = " .. mlax.array({3}, "int32"))
    assert.equal("true", mlax.array(true) .. "")
  end)
end)

describe("text", function()
  it("is headed by dtype and shape", function()
    assert.equal("float32[] 0.5", tostring(mlax.array(0.5)))
    assert.equal("float32[2,3]\n[[1 2 3]\n [4 5 6]]", tostring(x23()))
    assert.equal("bool[] true", tostring(mlax.array(true)))
  end)

  it("of a traced array names the line", function()
    local text
    mlax.jit(function(x)
      text = tostring(x * 2)
      return x
    end)(mlax.ones{3})
    assert.matches("^float32%[3%] traced at .*array_spec.lua:%d+$", text)
  end)

  it("follows print_options", function()
    local before = mlax.print_options()
    mlax.print_options{precision = 3}
    assert.equal("float32[] 0.333", tostring(mlax.array(1 / 3)))
    mlax.print_options(before)
    assert.equal("float32[] 0.333333", tostring(mlax.array(1 / 3)))
  end)
end)

describe("values for Lua", function()
  it("keep their kind", function()
    assert.equal("integer", math.type(mlax.array(3, "int8"):item()))
    assert.equal("float", math.type(mlax.array(3):item()))
    assert.is_true(mlax.array(true):item())
    assert.same({{1, 2}, {3, 4}}, mlax.array({{1, 2}, {3, 4}}, "int64"):totable())
    assert.equal(5, mlax.array({{5}}, "int32"):item())
    assert.same({}, mlax.zeros({0}):totable())
    assert.same({{}, {}}, mlax.zeros({2, 0}):totable())
  end)

  it("wrap uint64", function()
    assert.equal(-1, mlax.array(-1, "uint64"):item())
    assert.equal("18446744073709551615", "" .. mlax.array(-1, "uint64"))
  end)

  it("item of many raises", function()
    assert.equal("item: only an array of one element has an item (got float32[2,3])", helper.message(function() return x23():item() end))
  end)

  it("come as bytes and back, also of views", function()
    local x = x23()
    assert.equal(string.pack("<ffffff", 1, 4, 2, 5, 3, 6), x.T:tostring_bytes())
    assert.same(x:totable(), mlax.from_string(x:tostring_bytes(), "float32", {2, 3}):totable())
  end)

  it("rows and unpack go over axis 1", function()
    local rows = {}
    for i, row in x23():rows() do rows[i] = row:totable() end
    assert.same({{1, 2, 3}, {4, 5, 6}}, rows)
    local a, b, c = x23():unpack()
    assert.same({1, 2, 3}, a:totable())
    assert.same({4, 5, 6}, b:totable())
    assert.is_nil(c)
    assert.matches("a scalar has no rows", helper.message(function() return mlax.array(1):rows() end))
  end)

  it("rows of a traced array unroll", function()
    local f = mlax.jit(function(x)
      local s = mlax.zeros{3}
      for i, row in x:rows() do s = s + row * i end
      return s
    end)
    helper.near({9, 12, 15}, f(x23()))
  end)

  it("pairs and ipairs raise", function()
    local x = x23()
    assert.equal("pairs: an array is no table: write for i, row in x:rows() do", helper.message(function() for _ in pairs(x) do end end))
    assert.matches("index 3 is out of range", helper.message(function() for _ in ipairs(x) do end end))
  end)
end)

describe("free", function()
  it("makes every later use raise and name the line", function()
    local x = x23()
    local y = x.T
    x:free()
    local line = debug.getinfo(1, "l").currentline - 1
    assert.matches("^add: the array was freed at .*array_spec.lua:" .. line .. "$", helper.message(function() return x + 1 end))
    assert.matches("freed at", helper.message(function() return x.shape end))
    assert.matches("freed at", helper.message(function() return x[1] end))
    assert.matches("freed at", helper.message(function() return x:sum() end))
    assert.matches("^float32%[2,3%] freed at", tostring(x))
    x:free()
    helper.near({1, 4, 2, 5, 3, 6}, y)
  end)
end)

describe("scope", function()
  it("frees what was made in it, except what is kept", function()
    local before = x23()
    local inner, kept, copy
    do
      local s <close> = mlax.scope()
      inner = before + 1
      kept = s:keep({a = before * 2, b = {before + 3}})
      copy = before
    end
    assert.matches("freed at", helper.message(function() return inner + 1 end))
    helper.near({2, 4, 6, 8, 10, 12}, kept.a)
    helper.near({4, 5, 6, 7, 8, 9}, kept.b[1])
    helper.near({1, 2, 3, 4, 5, 6}, copy)
  end)

  it("hands what is kept to the scope around it", function()
    local a, b
    do
      local _ <close> = mlax.scope()
      do
        local s <close> = mlax.scope()
        a, b = s:keep(mlax.ones{2} + 1), mlax.ones{2} + 2
      end
      helper.near({2, 2}, a)
    end
    assert.matches("freed at", helper.message(function() return a + 1 end))
    assert.matches("freed at", helper.message(function() return b + 1 end))
  end)
end)

describe("memory", function()
  it("of a state that a loop replaces stays flat, too, and small garbage brings the collector's mode back", function()
    local before = collectgarbage("generational")
    local function stepper() -- half a megabyte: old as soon as the upvalue has it
      local held = mlax.ones{1 << 17}
      return function() held = held + 1 end
    end
    local step = stepper()
    for _ = 1, 100 do step() end
    collectgarbage()
    local base, most = mlax.memory().live, 0
    for _ = 1, 400 do
      step()
      most = math.max(most, mlax.memory().live - base)
    end
    assert.is_true(most < 40 << 20, most)
    assert.are.equal("incremental", collectgarbage("incremental"))
    collectgarbage("generational")
    for _ = 1, 400 do step() end
    local x = mlax.ones{10}
    for _ = 1, 100000 do local _ = x + x end
    assert.are.equal("generational", collectgarbage(before))
  end)

  it("of garbage arrays stays flat", function()
    local x = mlax.ones{256, 1024} + 0.5
    local peak = 0
    for _ = 1, 1000 do
      local y = x + x
      peak = math.max(peak, y.nbytes > 0 and mlax.memory().live or 0)
    end
    assert.is_true(peak < 100 * 2 ^ 20)
  end)

  it("is not collected while the host has stopped the collector", function()
    collectgarbage()
    collectgarbage("stop")
    local finalized = false
    setmetatable({}, {__gc = function() finalized = true end})
    local x = mlax.ones{256, 1024} + 0.5
    for _ = 1, 40 do local _ = x + x end
    assert.is_false(finalized)
    collectgarbage("restart")
  end)

  it("survives finalizers that compute", function()
    for i = 1, 300 do
      setmetatable({}, {__gc = function() local _ = mlax.ones{100} * i + 1 end})
      local x = mlax.ones{64, 1024} * i
      assert.equal(i, (x + x - x)[1][1]:item())
    end
  end)

  it("has a limit that raises and can be lifted", function()
    collectgarbage()
    mlax.set_memory_limit(mlax.memory().live + (8 << 20))
    local message = helper.message(function() return mlax.ones{1024, 1024, 8} + 1 end)
    mlax.set_memory_limit(0)
    assert.matches("^add: not enough memory for %d+ bytes", message)
    assert.equal(2, (mlax.ones{2} + 1):totable()[1])
  end)
end)
