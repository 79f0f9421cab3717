--- Control flow under other transformations: what random programs once found, and what scan's way back must not do.
local mlax = require "mlax"
local helper = require "spec.helper"

local near, differences = helper.near, helper.differences
local x3 = mlax.array{1, 2, 3}

local function f64(t) return mlax.array(t, "float64") end
local function i32(t) return mlax.array(t, "int32") end

-- The gradient of a scalar function in float64 against central differences, eagerly and compiled.
local function checks_gradient(f, x)
  local want = differences(f, x)
  near(want, mlax.grad(f)(x), 1e-6)
  near(want, mlax.jit(mlax.grad(f))(x), 1e-6)
end

-- The second derivatives against differences of the first.
local function checks_hessian(f, x)
  local h, n = mlax.hessian(f)(x):reshape{x.size, x.size}, x.size
  local g = mlax.grad(f)
  for i = 1, n do near(differences(function(y) return g(y):flatten()[i] end, x), h[i], 1e-5) end
end

describe("scan", function()
  it("takes heavy products that do not wait for the carry out of the way back", function()
    local xs = f64{{0.3, -0.2}, {0.5, 0.1}, {-0.4, 0.7}}
    local w0, v0 = f64{{0.2, -0.5}, {0.4, 0.1}}, f64{{1, 2}, {-1, 0.5}}
    local big = mlax.ones({8, 8}, "float64")
    local function roll(w, v, rows, reverse)
      local c, ys = mlax.scan(function(h, x)
        local new = (h:matmul(w) + x:matmul(v)):tanh()
        return new, new * x:sum()
      end, rows[1] * 0, rows, {reverse = reverse})
      return (c * ys:sum(1)):sum()
    end
    for _, reverse in ipairs{false, true} do
      checks_gradient(function(w) return roll(w, v0, xs, reverse) end, w0)
      checks_gradient(function(v) return roll(w0, v, xs, reverse) end, v0)
      checks_gradient(function(rows) return roll(w0, v0, rows, reverse) end, xs)
    end
    checks_hessian(function(w) return roll(w, v0, xs) end, w0)
    local text = tostring(mlax.program(mlax.grad(function(w) return roll(w, big, mlax.ones({5, 8}, "float64")) end))(big))
    local back = text:match("reverse=true.-\n%s*in %b()")
    assert.is_nil(back:match("float64%[8,8%] ="), "the way back makes matrices in each step:\n" .. back)
  end)
end)

describe("while_loop", function()
  it("maps custom rules that loop, and linearizes them", function()
    local function turns(x, y)
      local last = mlax.where(x:sum():gt(0), 2, 1)
      return mlax.while_loop(function(c) return c.k:lt(last) end, function(c) return {k = c.k + 1, y = c.y * 0.5 + x * y} end,
        {k = 0, y = x * y}).y
    end
    local f = mlax.custom_jvp(turns, function(p, t) return mlax.jvp(turns, p, t) end)
    local _, push = mlax.linearize(function(x) return mlax.vmap(f, {in_axes = {false, 1}})(x, x3) end, x3)
    near({1.75, 3.5, 5.25, 3.5, 7, 10.5, 5.25, 10.5, 15.75}, push(x3))
  end)
end)

describe("cond", function()
  it("has finite second derivatives where each example takes its own branch", function()
    local function f(v)
      return mlax.cond(v:sum():gt(0), function(x) return x:square() end,
        function(x) return mlax.linalg.inv(x - 3 * mlax.eye(2, "float64")) end, v)
    end
    local xs = f64{{{1, 0.5}, {0.2, 1}}, {{-1, -0.5}, {-0.2, -1}}}
    local function slope(v) return select(2, mlax.jvp(f, {v}, {v:cos()})):sum() end
    local function mapped(v) return mlax.vmap(slope)(v):sum() end
    near(mlax.vmap(mlax.grad(slope))(xs), mlax.grad(mapped)(xs), 1e-12)
    checks_gradient(mapped, xs)
  end)
end)

describe("checkpoint", function()
  it("holds control flow whose values and tangents are one", function()
    local function f(v)
      local y = mlax.cond(v:sum():gt(0), function(x) return (x * 0.8):tanh() end, function(x) return x:sin() end, v)
      local c = mlax.scan(function(h, x) return h:sin() + x, nil end, mlax.zeros({}, "float64"), y)
      return (y * y:sin()):sum() * c:cos()
    end
    for _, x in ipairs{f64{0.4, -0.1, 1}, f64{-0.4, 0.1, -1}} do
      checks_gradient(mlax.checkpoint(f), x)
      checks_hessian(mlax.checkpoint(f), x)
      checks_gradient(mlax.checkpoint(mlax.checkpoint(f)), x)
    end
  end)
end)

describe("collectives in branches", function()
  it("see what branches compute that other examples take", function()
    local function f(i, x)
      return mlax.cond(x:gt(2), function(k) return mlax.psum(x3[k], "i") end, function(k) return mlax.psum(-x3[k], "i") end, i)
    end
    near({-6, -6, 6}, mlax.vmap(f, {axis_name = "i"})(i32{3, 2, 1}, x3))
  end)
end)
