--- mlax.debug: NaN with its line, prints from inside a computation.
local mlax = require "mlax"
local helper = require "spec.helper"

local here = debug.getinfo(1, "S").short_src
local function this_line() return debug.getinfo(2, "l").currentline end

describe("debug.nans", function()
  before_each(function() mlax.debug.nans(true) end)
  after_each(function() mlax.debug.nans(false) end)

  -- The line and the text of the error that f raises.
  local function caught(f, ...)
    local ok, message = pcall(f, ...)
    assert.is_false(ok)
    local file, line, text = message:match("^(.-):(%d+): (.*)$")
    assert.are.equal(here, file)
    return tonumber(line), text
  end

  it("tells whether it is on", function()
    assert.is_true(mlax.debug.nans())
    assert.is_false(mlax.debug.nans(false))
    assert.is_false(mlax.debug.nans())
    assert.matches("the argument", helper.message(mlax.debug.nans, 1), 1, true)
  end)

  it("names the operation eagerly", function()
    local line = this_line() + 1
    local at, text = caught(function() return mlax.log(mlax.array{1, -1}) end)
    assert.are.equal(line, at)
    assert.are.equal("log: NaN came out of operands that have none (log gave float32[2] with NaN)", text)
  end)

  it("names the first of several in compiled code", function()
    local line = this_line() + 3
    local f = mlax.jit(function(x)
      local y = x + 1
      local z = y:log()
      return (z * 2):sqrt()
    end)
    local at, text = caught(f, mlax.array{-5})
    assert.are.equal(line, at)
    assert.matches("^log: ", text)
    assert.near(2 ^ 0.5 * math.log(3) ^ 0.5, f(mlax.array{2}):item(), 1e-5)
  end)

  it("looks into the bodies of scan, cond and while_loop, compiled and not", function()
    local x = mlax.array{3, 2, 1}
    local function scan(xs)
      return (mlax.scan(function(c, v)
        local w = v - 2
        return c + w:sqrt(), nil
      end, 0.0, xs))
    end
    local first = this_line() - 3
    local function cond(v)
      return mlax.cond(true, function(w)
        return (w - 2):sqrt()
      end, function(w) return w end, v)
    end
    local second = this_line() - 3
    local function loop(v)
      return mlax.while_loop(function(w) return w:gt(-3):all() end, function(w)
        return w:sqrt() - 2
      end, v)
    end
    local third = this_line() - 3
    for f, line in pairs{[scan] = first, [cond] = second, [loop] = third} do
      assert.are.equal(line, (caught(f, x)))
      assert.are.equal(line, (caught(mlax.jit(f), x)))
    end
  end)

  it("names the operation whose derivative is NaN", function()
    local line = this_line() + 2
    local function f(x)
      return x:sqrt():sum() * 0
    end
    local at, text = caught(mlax.grad(f), mlax.array{0})
    assert.are.equal(line, at)
    assert.matches("^sqrt: ", text)
    assert.are.equal(line, (caught(mlax.jit(mlax.grad(f)), mlax.array{0})))
  end)

  it("lets NaN pass that came in with the data", function()
    local x = mlax.array{1, 0 / 0}
    helper.near({2, 0 / 0}, x + 1)
    helper.near({2, 0 / 0}, mlax.jit(function(y) return y + 1 end)(x))
    helper.near({1, 0}, x:nan_to_num())
  end)

  it("belongs to the key of compiled functions", function()
    local f = mlax.jit(function(x) return x:log() end)
    assert.has_error(function() f(mlax.array{-1}) end)
    mlax.debug.nans(false)
    helper.near({0 / 0}, f(mlax.array{-1}))
    assert.are.equal("debug.nans was switched off", f:explain())
    mlax.debug.nans(true)
    assert.has_error(function() f(mlax.array{-1}) end)
    assert.are.equal(2, f:traces())
  end)
end)

describe("debug.print", function()
  local speak, lines = print, nil
  before_each(function()
    lines = {}
    _G.print = function(text) lines[#lines + 1] = text end
  end)
  after_each(function() _G.print = speak end)

  it("prints at once in eager code, as string.format does", function()
    mlax.debug.print("%s, %d of %5.2f%% (%x) %s", mlax.array{1, 2}, mlax.array(3, "int8"), mlax.array(2.5), 255, "50%")
    assert.are.same({"float32[2]\n[1 2], 3 of  2.50% (ff) 50%"}, lines)
  end)

  it("prints at each call of a compiled function, in order", function()
    local f = mlax.jit(function(x)
      mlax.debug.print("first %g", x:sum())
      local y = x:exp()
      mlax.debug.print("then %g", x:max())
      return y
    end)
    f(mlax.array{1, 2})
    f(mlax.array{3, 4})
    assert.are.same({"first 3", "then 2", "first 7", "then 4"}, lines)
    assert.are.equal(1, f:traces())
  end)

  it("prints nothing while it is traced", function()
    local text = tostring(mlax.program(function(x) mlax.debug.print("x %g", x:sum()) return x end)(mlax.ones{2}))
    assert.matches('debug_print%[format="x %%g" guarded=false%] b', text)
    mlax.eval_shape(function(x) mlax.debug.print("x") return x end)(mlax.ones{2})
    assert.are.same({}, lines)
  end)

  it("prints each step of scan, fori_loop and while_loop, also where nothing comes out of them", function()
    local function scan(xs) mlax.scan(function(c, x) mlax.debug.print("step %g", x) return c, nil end, 0, xs) return xs end
    scan(mlax.array{1, 2})
    mlax.jit(scan)(mlax.array{3, 4})
    mlax.jit(function(x)
      return mlax.while_loop(function(v) return v:lt(3) end, function(v) mlax.debug.print("v %g", v) return v + 1 end, x)
    end)(mlax.array(1.0))
    assert.are.same({"step 1", "step 2", "step 3", "step 4", "v 1", "v 2"}, lines)
  end)

  it("prints values, once, under grad, jvp and both orders of jit and grad", function()
    local function f(x) mlax.debug.print("x %g", x) return x * x end
    local x = mlax.array(3.0)
    mlax.grad(f)(x)
    mlax.jvp(f, {x}, {x})
    mlax.jit(mlax.grad(f))(x)
    mlax.grad(mlax.jit(f))(x)
    mlax.grad(mlax.grad(f))(x)
    assert.are.same({"x 3", "x 3", "x 3", "x 3", "x 3"}, lines)
  end)

  it("prints the steps of a scan once where it is differentiated", function()
    local function f(x)
      return (mlax.scan(function(c) mlax.debug.print("c %g", c) return c * x, nil end, 1.0, nil, {length = 3}))
    end
    helper.near({27}, mlax.jit(mlax.grad(f))(mlax.array(3.0)))
    assert.are.same({"c 1", "c 3", "c 9"}, lines)
  end)

  it("prints each example under vmap, also compiled", function()
    local function f(x) mlax.debug.print("%g of %g", x, 7) return x end
    mlax.vmap(f)(mlax.array{1, 2})
    mlax.jit(mlax.vmap(f))(mlax.array{3, 4})
    mlax.vmap(mlax.jit(f))(mlax.array{5, 6})
    assert.are.same({"1 of 7", "2 of 7", "3 of 7", "4 of 7", "5 of 7", "6 of 7"}, lines)
  end)

  it("prints nothing in branches that are not taken", function()
    local function f(x)
      return mlax.cond(x:gt(0), function(v) mlax.debug.print("above %g", v) return v end,
        function(v) mlax.debug.print("below %g", v) return -v end, x)
    end
    f(mlax.array(1.0))
    mlax.jit(f)(mlax.array(-1.0))
    mlax.vmap(f)(mlax.array{2, -3})
    mlax.jit(mlax.vmap(f))(mlax.array{4, -5})
    assert.are.same({"above 1", "below -1", "above 2", "below -3", "above 4", "below -5"}, lines)
  end)

  it("lets an error of print through", function()
    _G.print = function() error("no terminal", 0) end
    local f = mlax.jit(function(x) mlax.debug.print("x") return x end)
    local ok, message = pcall(f, mlax.ones{1})
    assert.is_false(ok)
    assert.are.equal("no terminal", message)
  end)

  it("survives a print that uses mlax", function()
    _G.print = function(text) lines[#lines + 1] = text .. mlax.ones{3}:sum():item() end
    local f = mlax.jit(function(x) mlax.debug.print("sum ") return x * 2 end)
    helper.near({2, 4}, f(mlax.array{1, 2}))
    assert.are.same({"sum 3.0"}, lines)
  end)

  it("says what is wrong with the format", function()
    local x = mlax.ones{2}
    local function text(...) return (helper.message(mlax.debug.print, ...)) end
    assert.are.equal("debug.print: the format is no string (got float32[2])", text(x))
    assert.are.equal("debug.print: 0 values were given for 1 directives", text("%d"))
    assert.are.equal("debug.print: '%y' is no directive (known: those of string.format, but %q and %p)", text("%y", 1))
    assert.are.equal("debug.print: argument 1 has 2 elements, and %g takes one: use %s", text("%g", x))
    assert.are.equal("debug.print: argument 2 is float32, and %d takes integers", text("%s %d", 1, x:sum()))
    assert.are.equal("debug.print: argument 1 is bool, and %d takes numbers: use %s", text("%d", mlax.array(true)))
    assert.matches("number expected, got string", text("%d", "x"), 1, true)
  end)
end)
