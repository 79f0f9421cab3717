--- Control flow, custom rules, rematerialisation and collectives: values, derivatives against unrolled loops and differences, nesting, and
-- the literal messages.
local mlax = require "mlax"
local helper = require "spec.helper"

local near, message, differences = helper.near, helper.message, helper.differences
local x3 = mlax.array{1, 2, 3}
local none = {length = 3}

local function f64(t) return mlax.array(t, "float64") end
local function i32(t) return mlax.array(t, "int32") end

-- The gradient of a scalar function in float64 against central differences, eagerly and compiled.
local function checks_gradient(f, x, tolerance)
  local want = differences(f, x)
  near(want, mlax.grad(f)(x), tolerance or 1e-6)
  near(want, mlax.jit(mlax.grad(f))(x), tolerance or 1e-6)
end

-- The second derivatives against differences of the first.
local function checks_hessian(f, x)
  local h, n = mlax.hessian(f)(x):reshape{x.size, x.size}, x.size
  local g = mlax.grad(f)
  for i = 1, n do near(differences(function(y) return g(y):flatten()[i] end, x), h[i], 1e-5) end
end

-- -- scan ----------------------------------------------------------------------------------------------------------------

describe("scan", function()
  local function step(c, x) return {w = c.w * x + 1, n = c.n + 1}, {c.w, {x * 2}} end

  it("gives the last carry and the stacked ys, trees", function()
    local c, ys = mlax.scan(step, {w = 1.0, n = 0}, x3)
    near({16}, c.w)
    assert.equal(3, c.n:item())
    assert.equal("int32", c.n.dtype)
    near({1, 2, 5}, ys[1])
    near({2, 4, 6}, ys[2][1])
  end)

  it("goes from the last step to the first and leaves ys in place", function()
    local c, ys = mlax.scan(function(c, x) return c * 2 + x, c end, 0.0, x3, {reverse = true})
    near({17}, c)
    near({8, 3, 0}, ys)
    local d, zs = mlax.scan(function(a, x) return a * 2 + x, a end, 0.0, x3, {reverse = true, unroll = true})
    near(c, d)
    near(ys, zs)
  end)

  it("gives no ys where y is nil", function()
    local c, ys = mlax.scan(function(c, x) return c + x end, 0.0, x3)
    near({6}, c)
    assert.is_nil(ys)
  end)

  it("needs no xs where there is a length", function()
    local c, ys = mlax.scan(function(c, x) assert(x == nil) return c * 2, c end, 1, nil, {length = 4})
    assert.equal(16, c:item())
    near({1, 2, 4, 8}, ys)
  end)

  it("takes no step over nothing", function()
    for _, f in ipairs{function(x) return mlax.scan(function(c, v) return c + v, c end, 5.0, x) end} do
      for _, g in ipairs{f, mlax.jit(f)} do
        local c, ys = g(mlax.zeros{0})
        near({5}, c)
        assert.same({0}, ys.shape)
      end
    end
    near({1}, mlax.grad(function(a) return (mlax.scan(function(c, v) return c * v end, a, mlax.zeros{0})) end)(mlax.array(3)))
  end)

  it("traces its body once, of 10,000 steps too", function()
    local count = {0} -- a number would be part of the jitted function's key
    local c = mlax.scan(function(c) count[1] = count[1] + 1 return c + 1 end, 0, nil, {length = 10000})
    assert.equal(10000, c:item())
    assert.equal(1, count[1])
    local f = mlax.jit(mlax.grad(function(x)
      return (mlax.scan(function(d) count[1] = count[1] + 1 return d + x end, 0.0, nil, {length = 10000}))
    end))
    near({10000}, f(x3[1]))
    near({10000}, f(x3[2]))
    assert.equal(2, count[1])
  end)

  it("unrolled gives what the primitive gives", function()
    local c, ys = mlax.scan(step, {w = 1.0, n = 0}, x3, {unroll = true})
    local d, zs = mlax.scan(step, {w = 1.0, n = 0}, x3)
    assert.equal(d.n:item(), c.n:item())
    near(d.w, c.w)
    near(zs[1], ys[1])
    near(zs[2][1], ys[2][1])
    assert.equal("int32", mlax.scan(function(k) return k end, 1, x3, {unroll = true}).dtype)
  end)

  it("names what does not fit", function()
    local half = function(c, x) return {a = c.a, b = {c.b[1]:astype("float16")}}, x end
    assert.equal("scan: the carry that f returns at b[1] has another type (got float16[3], need float32[3])",
      message(function() return mlax.scan(half, {a = x3, b = {x3}}, x3) end))
    assert.equal("scan: the carry that f returns has another type (got int32[], need float32[])",
      message(function() return mlax.scan(function(_, x) return 1, x end, 0.5, x3) end))
    assert.equal("scan: the carry that f returns has another type (got float32[], need int32[])",
      message(function() return mlax.scan(function(c, x) return c + x end, 0, x3, {unroll = true}) end))
    assert.equal("scan: the carry that f returns has another structure: at the root: nil and *",
      message(function() return mlax.scan(function(_, x) return nil, x end, 0.5, x3) end))
    assert.equal("scan: xs[2].a is a scalar (need a leading axis to go over)",
      message(function() return mlax.scan(step, 0.5, {x3, {a = x3[1]}}) end))
    assert.equal("scan: leading axes differ in length: xs.a has 3, xs.b[1] has 4",
      message(function() return mlax.scan(step, 0.5, {a = x3, b = {mlax.ones{4}}}) end))
    assert.equal("scan: leading axes differ in length: length has 4, xs has 3",
      message(function() return mlax.scan(step, 0.5, x3, {length = 4}) end))
    assert.equal("scan: nothing says how many steps there are (need xs with an array, or length)",
      message(function() return mlax.scan(step, 0.5) end))
    for text, length in pairs{["-1"] = -1, ["2.5"] = 2.5, ['"x"'] = "x"} do
      assert.equal(("scan: length must be an integer from 0 (got %s)"):format(text),
        message(function() return mlax.scan(step, 0.5, nil, {length = length}) end))
    end
    assert.equal("scan: f must be a function (got nil)", message(function() return mlax.scan(nil, 0.5, x3) end))
    assert.matches("unknown option 'lenght', did you mean 'length'", message(function() return mlax.scan(step, 0.5, x3, {lenght = 3}) end))
  end)
end)

describe("derivatives of scan", function()
  local xs = f64{{0.3, -0.2}, {0.7, 0.5}, {-0.4, 0.1}, {0.2, 0.9}}
  local w = f64{{0.5, -0.3}, {0.2, 0.8}}
  local function net(options)
    return function(weights, rows, start)
      local carry, ys = mlax.scan(function(c, x)
        local new = (c:matmul(weights) + x):tanh()
        return new, new * x
      end, start or mlax.zeros({2}, "float64"), rows or xs, options)
      return (carry * carry):sum() + ys:sum()
    end
  end

  it("are those of the loop unrolled", function()
    for _, reverse in ipairs{false, true} do
      local f, g = net{reverse = reverse}, net{reverse = reverse, unroll = true}
      local start = f64{0.1, 0.2}
      for argnum = 1, 3 do
        local options = {argnums = argnum}
        near(mlax.grad(g, options)(w, xs, start), mlax.grad(f, options)(w, xs, start), 1e-12)
        near(mlax.grad(g, options)(w, xs, start), mlax.jit(mlax.grad(f, options))(w, xs, start), 1e-12)
        near(mlax.grad(g, options)(w, xs, start), mlax.grad(mlax.jit(f), options)(w, xs, start), 1e-12)
        near(mlax.jacfwd(g, options)(w, xs, start), mlax.jacfwd(f, options)(w, xs, start), 1e-12)
      end
    end
  end)

  it("are those that differences show", function()
    checks_gradient(net(), w)
    checks_gradient(function(rows) return net()(w, rows) end, xs)
  end)

  it("of second order, too", function()
    checks_hessian(net(), w)
    near(mlax.hessian(net{unroll = true})(w), mlax.hessian(net())(w), 1e-12)
    near(mlax.hessian(net{unroll = true})(w), mlax.jacrev(mlax.jacrev(net()))(w), 1e-12)
    near(mlax.hessian(net{unroll = true})(w), mlax.jit(mlax.hessian(net()))(w), 1e-12)
  end)

  it("under vmap", function()
    local many = mlax.stack({w, w * 2, w - 1}, 1)
    local got = mlax.vmap(mlax.grad(net()))(many)
    for i = 1, 3 do near(mlax.grad(net())(many[i]), got[i], 1e-12) end
    near(got, mlax.jit(mlax.vmap(mlax.grad(net())))(many), 1e-12)
    local rows = mlax.stack({xs, xs * 2}, 2)
    local mapped = mlax.vmap(function(r) return mlax.grad(net())(w, r) end, {in_axes = 2})(rows)
    for i = 1, 2 do near(mlax.grad(net())(w, i == 1 and xs or xs * 2), mapped[i], 1e-12) end
  end)

  it("of a scan inside a scan", function()
    local function f(options)
      return function(a)
        return (mlax.scan(function(c, x)
          return (mlax.scan(function(d, y) return (d * a + x * y):sin() end, c, xs[1], options))
        end, a * 0.5, xs[2], options))
      end
    end
    checks_gradient(f(), f64(0.7))
    near(mlax.grad(mlax.grad(f{unroll = true}))(f64(0.7)), mlax.grad(mlax.grad(f()))(f64(0.7)), 1e-12)
  end)

  it("let integers pass through the carry", function()
    local function f(a)
      local c = mlax.scan(function(c) return {c[1] * a, c[2] + 1} end, {a, 0}, nil, none)
      return c[1] * c[2]:astype("float32")
    end
    near({4 * 8 * 3}, mlax.grad(f)(mlax.array(2)))
  end)
end)

-- -- loops ---------------------------------------------------------------------------------------------------------------

describe("what a scan keeps for the way back", function()
  -- The stacks that the first scan of a program makes.
  local function stacks(f, ...)
    local results = tostring(mlax.program(f)(...)):match("\n([^\n]-) = scan%[")
    return select(2, results:gsub("float64%[3[,%]]", ""))
  end
  local xs = f64{0.5, 0.25, 0.75}

  it("is not what a few operations make of the rest", function()
    local function f(c0, v)
      return (mlax.scan(function(c, x)
        local s = (c * x):sigmoid()
        return s * c, nil
      end, c0, v))
    end
    checks_gradient(function(v) return f(f64(0.3), v) end, xs)
    -- s and c; s (1 - s), the derivative of s, would be a third
    assert.equal(2, stacks(mlax.grad(f), f64(0.3), xs))
  end)

  it("is each value once", function()
    local function f(w, v)
      return (mlax.scan(function(c, x) return c * w[1] + x * w[2] + x * w[2] + x * w[3], nil end, f64(0.3), v))
    end
    checks_gradient(function(w) return f(w, xs) end, f64{0.4, 0.5, 0.6})
    local _, ys = mlax.scan(function(c, x) return c, {x * 2, c} end, f64(1), xs)
    near({1, 1, 1}, ys[2])
    local function twice(v)
      local _, made = mlax.scan(function(c, x)
        local y = x:sin()
        return c, {y, y}
      end, f64(1), v)
      return made[1] + made[2]
    end
    near(xs:sin() * 2, twice(xs))
  end)

  it("has the same bits as what was kept", function()
    local w = mlax.random.normal(mlax.random.key(0), {8, 8})
    local v = mlax.random.normal(mlax.random.key(1), {5, 8})
    local function cell(c, x)
      local z = c:matmul(w) + x
      local s, t = z:sigmoid(), z:tanh()
      return s * t + (1 - s) * c, nil
    end
    local function looped(u)
      local c = mlax.zeros{8}
      for i = 1, 5 do c = cell(c, u[i]) end
      return c:sum()
    end
    local function scanned(u) return (mlax.scan(cell, mlax.zeros{8}, u)):sum() end
    near(mlax.grad(looped)(v), mlax.grad(scanned)(v), 1e-6)
    near(mlax.jacfwd(mlax.grad(looped))(v), mlax.jacfwd(mlax.grad(scanned))(v), 1e-5)
    near(mlax.vmap(mlax.grad(looped))(v:expand_dims(1)), mlax.vmap(mlax.grad(scanned))(v:expand_dims(1)), 1e-6)
  end)
end)

describe("while_loop", function()
  local function double(x, limit)
    return mlax.while_loop(function(c) return c[1]:lt(limit) end, function(c) return {c[1] * 2, c[2] + 1} end, {x, 0})
  end

  it("repeats while the condition holds", function()
    for _, f in ipairs{double, mlax.jit(double)} do
      local r = f(mlax.array(3), 20)
      near({24}, r[1])
      assert.equal(3, r[2]:item())
    end
    near({30}, double(mlax.array(30), 20)[1])
  end)

  it("stops each example by itself under vmap", function()
    for _, map in ipairs{mlax.vmap, function(f, o) return mlax.jit(mlax.vmap(f, o)) end} do
      local r = map(double, {in_axes = {1, false}})(mlax.array{1, 5, 30}, mlax.array(20))
      near({32, 20, 30}, r[1])
      near({5, 2, 0}, r[2])
      local limits = map(double, {in_axes = {false, 1}})(mlax.array(1), mlax.array{1, 3, 9})
      near({1, 4, 16}, limits[1])
    end
  end)

  it("goes on in one piece under vmap where the condition is not mapped", function()
    local r = mlax.vmap(function(x)
      return mlax.while_loop(function(c) return c[1]:lt(3) end, function(c) return {c[1] + 1, c[2] * x} end, {0, 1.0})
    end)(x3)
    near({1, 8, 27}, r[2])
    near({3, 3, 3}, r[1])
  end)

  it("has forward derivatives, not reverse ones", function()
    local function f(x) return double(x, 20)[1] end
    local _, t = mlax.jvp(f, {mlax.array(3)}, {mlax.array(1)})
    near({8}, t)
    near({8}, mlax.jit(function(x) local _, u = mlax.jvp(f, {x}, {mlax.array(1)}) return u end)(mlax.array(3)))
    near({32, 4, 1}, mlax.vmap(mlax.jacfwd(f))(mlax.array{1, 5, 30}))
    near({32, 4, 1}, mlax.jit(mlax.vmap(mlax.jacfwd(f)))(mlax.array{1, 5, 30}))
    local y, push = mlax.linearize(double, mlax.array(3), mlax.array(20))
    near({24}, y[1])
    assert.equal(3, y[2]:item())
    near({16}, push(mlax.array(2), mlax.array(0))[1])
    local text = "while_loop: reverse-mode differentiation of while_loop is not defined, since its steps are not kept: "
      .. "use scan, or fori_loop with Lua numbers as bounds"
    assert.equal(text, message(function() return mlax.grad(f)(mlax.array(3)) end))
    assert.equal(text, message(function() return mlax.grad(mlax.jit(f))(mlax.array(3)) end))
  end)

  it("is split where a part of the carry has no tangent", function()
    local function f(x)
      return mlax.while_loop(function(c) return c[1]:lt(3) end, function(c) return {c[1] + 1, c[2] * x, c[3] + 1} end, {0, x, 1.0})
    end
    near({48}, mlax.jacfwd(mlax.jacfwd(function(x) return f(x)[2] end))(mlax.array(2)))
    local y, push = mlax.linearize(function(x) local c = f(x) return c[2] + c[3] end, mlax.array(2))
    near({20}, y)
    near({32, 64}, mlax.vmap(push)(mlax.array{1, 2}))
    near({4}, mlax.grad(function(x) return f(x)[3] * x end)(mlax.array(2)))
    near({16}, mlax.grad(function(x) return mlax.stop_gradient(f(x)[2]) * x end)(mlax.array(2)))
  end)

  it("checks nothing for an example that has stopped", function()
    local table_ = mlax.array{1, 1, 2}
    local function walk(first)
      return mlax.while_loop(function(c) return c.i:le(3) end, function(c) return {i = c.i + 1, s = c.s + table_[c.i]} end,
        {i = first, s = 0.0}).s
    end
    near({4, 2, 0, 0}, mlax.vmap(walk)(i32{1, 3, 4, 9}))
    near({4, 2, 0, 0}, mlax.jit(mlax.vmap(mlax.vmap(walk)))(i32{{1, 3}, {4, 9}}))
    assert.matches("index 0 is out of range", message(function() return mlax.vmap(walk)(i32{1, 0}) end))
  end)

  it("is differentiated by what is around it", function()
    near({3}, mlax.grad(function(x)
      local n = mlax.while_loop(function(c) return c:lt(3) end, function(c) return c + 1 end, 0)
      return x * n
    end)(mlax.array(2)))
  end)

  it("names what does not fit", function()
    local function loop(cond, body) return message(function() return mlax.while_loop(cond, body, {a = x3}) end) end
    local function holds(c) return c.a:lt(1):all() end
    assert.equal("while_loop: the condition must give a bool array of one element (got float32[3])",
      loop(function(c) return c.a end, function(c) return c end))
    assert.equal("while_loop: the condition must give a bool array of one element (got the number 3)",
      loop(function() return 3 end, function(c) return c end))
    assert.equal("while_loop: the carry that the body returns at a has another type (got float32[], need float32[3])",
      loop(holds, function(c) return {a = c.a:sum()} end))
    assert.equal("while_loop: the body must be a function (got nil)", loop(holds))
    assert.equal("while_loop: the condition must be a function (got nil)", loop(nil, holds))
  end)
end)

describe("fori_loop", function()
  local function sum(first, last) return mlax.fori_loop(first, last, function(i, c) return c + i end, 0) end

  it("includes both bounds, numbers or traced", function()
    assert.equal(14, sum(2, 5):item())
    assert.equal(0, sum(3, 2):item())
    assert.equal(-3, sum(-2, -1):item())
    assert.equal(14, sum(i32(2), 5):item())
    assert.equal(0, sum(i32(3), i32(2)):item())
    assert.equal(14, mlax.jit(sum)(i32(2), i32(5)):item())
    near({1, 3, 6}, mlax.vmap(sum, {in_axes = {false, 1}})(i32(1), i32{1, 2, 3}))
  end)

  it("with Lua bounds is differentiable in reverse", function()
    local function f(x) return mlax.fori_loop(1, 4, function(i, c) return c * x + i end, f64(1)) end
    checks_gradient(f, f64(0.8))
    checks_hessian(function(x) return f(x[1]) end, f64{0.8})
    assert.matches("use scan, or fori_loop with Lua numbers as bounds", message(function()
      return mlax.grad(function(x) return mlax.fori_loop(1, i32(4), function(_, c) return c * x end, 1.0) end)(x3[2])
    end), 1, true)
  end)

  it("names what does not fit", function()
    assert.equal("fori_loop: the last must be an integer (got 2.5)", message(function() return sum(1, 2.5) end))
    assert.equal("fori_loop: the last must be an integer of one element (got float32[])", message(function() return sum(1, x3[1]) end))
    assert.equal("fori_loop: the carry that the body returns has another type (got float32[], need int32[])",
      message(function() return mlax.fori_loop(1, 2, function(_, c) return c + 0.5 end, 0) end))
  end)
end)

-- -- branches ------------------------------------------------------------------------------------------------------------

describe("cond", function()
  local function up(x) return x + 1, {x} end
  local function down(x) return x - 1, {x * 2} end
  local function f(p, x) return mlax.cond(p, up, down, x) end

  it("takes one function, eagerly and compiled", function()
    for _, g in ipairs{f, mlax.jit(f)} do
      for _, p in ipairs{true, mlax.array(true), mlax.array{true}} do near({2, 3, 4}, (g(p, x3))) end
      local y, z = g(mlax.array(false), x3)
      near({0, 1, 2}, y)
      near({2, 4, 6}, z[1])
    end
    near({2}, (f(true, 1)))
  end)

  it("selects under vmap where the predicate is mapped", function()
    local p = mlax.array{true, false, true}
    for _, map in ipairs{mlax.vmap, function(g, o) return mlax.jit(mlax.vmap(g, o)) end} do
      local y, z = map(f)(p, x3)
      near({2, 1, 4}, y)
      near({1, 4, 3}, z[1])
      near({2, 3, 4}, (map(f, {in_axes = {false, 1}})(mlax.array(true), x3)))
      near({3, 1, 3}, (map(f, {in_axes = {1, false}})(p, x3[2])))
    end
  end)

  it("is differentiated through the function taken", function()
    local function g(x)
      return mlax.cond(x:sum():gt(0), function(y) return (y * y * y):sum() end, function(y) return y:sin():sum() end, x)
    end
    for _, x in ipairs{f64{0.4, 0.3}, f64{-0.4, 0.3}} do
      checks_gradient(g, x)
      checks_hessian(g, x)
      near(mlax.grad(g)(x), mlax.jacfwd(g)(x), 1e-12)
    end
    local many = f64{{0.4, 0.3}, {-0.4, 0.3}}
    local got = mlax.vmap(mlax.grad(g))(many)
    for i = 1, 2 do near(mlax.grad(g)(many[i]), got[i], 1e-12) end
    near({1, 0}, mlax.grad(function(x) return mlax.cond(true, function(a) return a[1] end, function() return 0.0 end, x) end)(x3[{{1, 2}}]))
  end)

  it("is differentiated by what the functions capture", function()
    local function g(x) return mlax.cond(mlax.array(false), function() return x * 2 end, function(y) return x * x * y end, 3.0) end
    checks_gradient(function(x) return g(x:astype("float64")):astype("float64") end, f64(2), 1e-5)
    near({1, 4, 9}, mlax.vmap(function(x) return mlax.cond(x:gt(0), function() return x * x end, function() return x end) end)(x3))
  end)

  it("names what does not fit", function()
    local function cond(...) local args = table.pack(...) return message(function() return mlax.cond(table.unpack(args, 1, args.n)) end) end
    assert.equal("cond: the predicate must be bool (got float32[])", cond(mlax.array(1), up, down, x3))
    assert.equal("cond: the predicate must be bool (got int32[])", cond(1, up, down, x3))
    assert.equal("cond: the predicate must have one element (got bool[3])", cond(x3:gt(1), up, down, x3))
    assert.equal("cond: the predicate must have one element (got nil)", cond(nil, up, down, x3))
    assert.equal("cond: the true function must be a function (got nil)", cond(true, nil, down, x3))
    assert.equal("cond: what the false function gives has another structure: at the root: {*, {*}} and {*}",
      (cond(true, mlax.sin, down, x3)))
    assert.equal("cond: what the false function gives at [1].a has another type (got bool[3], need float32[3])",
      cond(true, function(x) return {a = x} end, function(x) return {a = x:gt(1)} end, x3))
  end)

  it("checks nothing in the branch that is not taken", function()
    local table_ = mlax.array{10, 20, 30}
    local function pick(i) return mlax.cond(i:le(3), function(k) return table_[k] end, function() return -1.0 end, i) end
    near({20}, pick(i32(2)))
    near({-1}, pick(i32(9)))
    near({-1}, mlax.jit(pick)(i32(9)))
    near({10, -1, 30}, mlax.vmap(pick)(i32{1, 9, 3}))
    near({10, -1, 30}, mlax.jit(mlax.vmap(pick))(i32{1, 9, 3}))
    local function wrong(i) return mlax.cond(i:le(5), function(k) return table_[k] end, function() return -1.0 end, i) end
    assert.matches("index 4 is out of range", message(function() return wrong(i32(4)) end))
    assert.matches("index 5 is out of range", message(function() return mlax.vmap(wrong)(i32{1, 9, 5}) end))
  end)
end)

describe("switch", function()
  local list = {function(x) return x end, function(x) return x * 10 end, function(x) return -x end}
  local function f(i, x) return mlax.switch(i, list, x) end

  it("takes the function of that number", function()
    near({10, 20, 30}, f(2, x3))
    near({10, 20, 30}, f(2.0, x3))
    near({-1, -2, -3}, mlax.jit(f)(i32(3), x3))
    near({1, 20, -3}, mlax.vmap(f)(i32{1, 2, 3}, x3))
    near({1, 20, -3}, mlax.jit(mlax.vmap(f))(i32{1, 2, 3}, x3))
    near({1, 10, -1}, mlax.vmap(function(i) return mlax.grad(function(x) return f(i, x) end)(x3[1]) end)(i32{1, 2, 3}))
  end)

  it("raises outside 1..n, wherever it runs", function()
    for _, i in ipairs{0, 4, -1} do
      local text = ("switch: index %d is out of range%s (got %d, need 1..3)"):format(i, i == 0 and ": positions count from 1" or "", i)
      assert.equal(text, message(function() return f(i, x3) end))
      assert.equal(text, message(function() return f(i32(i), x3) end))
      assert.equal(text, message(function() return mlax.jit(f)(i32(i), x3) end))
      assert.equal(text, message(function() return mlax.vmap(f)(i32{1, 2, i}, x3) end))
      assert.equal(text, message(function() return mlax.jit(mlax.vmap(f))(i32{1, 2, i}, x3) end))
      assert.equal(text, message(function() return mlax.grad(function(x) return f(i32(i), x):sum() end)(x3) end))
    end
  end)

  it("names what does not fit", function()
    assert.equal("switch: no branches (need a list of at least one function)", message(function() return mlax.switch(1, {}, x3) end))
    assert.equal("switch: the branch number must be an integer (got 1.5)", message(function() return f(1.5, x3) end))
    assert.equal("switch: positions must be integers (got float32)", message(function() return f(x3[1], x3) end))
    assert.equal("switch: branch 2 must be a function (got 3)", message(function() return mlax.switch(1, {mlax.sin, 3}, x3) end))
    assert.equal("switch: what branch 2 gives at [1] has another type (got float32[3], need int32[])",
      message(function() return mlax.switch(1, {function() return 1 end, function(x) return x end}, x3) end))
  end)
end)

describe("nil", function()
  it("reaches the branches of cond and switch as nil, and comes back as nil", function()
    local function kinds(a, b, c) return type(a), type(b), mlax.is_array(c) end
    assert.are.same({"nil", "boolean", true}, {mlax.cond(true, kinds, kinds, nil, false, 1.0)})
    assert.are.same({"nil", "boolean", true}, {mlax.switch(1, {kinds}, nil, false, mlax.ones{})})
    local function same(_, v) return nil, v, nil end
    local function negative(_, v) return nil, -v, nil end
    local f = mlax.jit(function(p, x) return mlax.cond(p, same, negative, nil, x) end)
    local out = table.pack(f(mlax.array(false), mlax.ones{}))
    assert.are.equal(3, out.n)
    assert.is_nil(out[1])
    assert.are.equal(-1.0, out[2]:item())
    assert.is_nil(out[3])
  end)

  it("is not the false of another branch", function()
    assert.are.equal("cond: result 1 of the false function is false, another function's is not",
      helper.message(function() return mlax.cond(true, function() return nil end, function() return false end) end))
  end)
end)

describe("associative_scan", function()
  it("gives all prefixes", function()
    for n = 0, 9 do
      local x = mlax.range(1, n + 0.0):astype("float32")
      if n == 0 then x = mlax.zeros{0} end
      near(x:cumsum(1), mlax.associative_scan(mlax.add, x))
      near(x:flip(1):cumsum(1):flip(1), mlax.associative_scan(mlax.add, x, {reverse = true}))
    end
  end)

  it("works on trees, with an operation that does not commute", function()
    local t = {a = f64{2, 3, 0.5, 1, 4}, b = f64{1, 0, 2, -1, 3}}
    local function compose(p, q) return {a = p.a * q.a, b = p.b * q.a + q.b} end
    local y = mlax.associative_scan(compose, t)
    local _, want = mlax.scan(function(c, e) local new = c * e.a + e.b return new, new end, f64(0), t)
    near(want, y.b, 1e-12)
    local function f(b) return mlax.associative_scan(compose, {a = t.a, b = b}).b:sin():sum() end
    checks_gradient(f, t.b)
    near(want, mlax.jit(function(u) return mlax.associative_scan(compose, u).b end)(t), 1e-12)
  end)
end)

-- -- captured values -----------------------------------------------------------------------------------------------------

describe("what a body captures", function()
  it("is never stale under jit", function()
    local w = mlax.array(2)
    local f = mlax.jit(function(x) return (mlax.scan(function(c) return c * w end, x, nil, none)) end)
    near({8}, f(mlax.array(1)))
    w = mlax.array(3)
    near({27}, f(mlax.array(1)))
    assert.equal(1, f:traces())
    local g = mlax.jit(function(p, x)
      return mlax.cond(p, function(y) return y * w end, function(y)
        return mlax.while_loop(function(c) return c:lt(10) end, function(c) return c * w end, y)
      end, x)
    end)
    near({6}, g(mlax.array(true), mlax.array(2)))
    near({18}, g(mlax.array(false), mlax.array(2)))
    w = mlax.array(5)
    near({10}, g(mlax.array(true), mlax.array(2)))
    near({10}, g(mlax.array(false), mlax.array(2)))
    local h = mlax.jit(mlax.grad(mlax.checkpoint(function(x) return x * x * w end)))
    near({20}, h(mlax.array(2)))
    w = mlax.array(1)
    near({4}, h(mlax.array(2)))
  end)

  it("may be traced by any transformation around", function()
    local function f(w, x) return (mlax.scan(function(c) return (c * w):sin() end, x, nil, none)) end
    checks_gradient(function(w) return f(w, f64(0.5)) end, f64(1.2))
    near(mlax.vmap(f, {in_axes = {1, false}})(x3, mlax.array(0.5)), mlax.stack({f(x3[1], 0.5), f(x3[2], 0.5), f(x3[3], 0.5)}, 1))
  end)
end)

-- -- rematerialisation ---------------------------------------------------------------------------------------------------

describe("checkpoint", function()
  local function deep(x) return (x:sin() * x):exp():sin() end
  local x = f64{0.3, -0.7, 1.1}

  it("changes no values and no derivatives", function()
    local f = mlax.checkpoint(function(v) return deep(v):sum() end)
    local function plain(v) return deep(v):sum() end
    near(plain(x), f(x), 1e-14)
    near(mlax.grad(plain)(x), mlax.grad(f)(x), 1e-14)
    near(mlax.grad(plain)(x), mlax.jit(mlax.grad(f))(x), 1e-14)
    near(mlax.hessian(plain)(x), mlax.hessian(f)(x), 1e-12)
    near(mlax.jacfwd(plain)(x), mlax.jacfwd(f)(x), 1e-12)
    near(mlax.vmap(mlax.grad(plain))(x:reshape{3, 1}), mlax.vmap(mlax.grad(f))(x:reshape{3, 1}), 1e-12)
    near(mlax.grad(plain)(x), mlax.grad(function(v) return mlax.remat(deep)(v):sum() end)(x), 1e-14)
    checks_gradient(f, x)
  end)

  it("takes trees and what it captures", function()
    local w = f64(1.5)
    local f = mlax.checkpoint(function(t, n) return {a = (t.a * w):sin() * n} end)
    near((x * 1.5):sin() * 2, f({a = x}, 2).a, 1e-12)
    near(x:mul(1.5):cos() * x * 2, mlax.vmap(mlax.grad(function(v, y)
      return mlax.checkpoint(function(z) return (z * v):sin() * 2 end)(y)
    end), {in_axes = {false, 1}})(w, x), 1e-12)
  end)

  it("works inside scan", function()
    local function f(options, wrap)
      return function(w) return (mlax.scan(wrap(function(c) return (c * w):sin() end), f64(0.4), nil, options)) end
    end
    local function pair(g) return function(c) return mlax.checkpoint(g)(c), nil end end
    near(mlax.grad(f(none, function(g) return g end))(f64(1.1)), mlax.grad(f(none, pair))(f64(1.1)), 1e-12)
  end)

  it("lowers the peak of a long chain", function()
    local n = 40000
    local start = mlax.ones{n}
    local w = start * 0.5
    local function block(v)
      for _ = 1, 8 do v = (v * w):sin() end
      return v
    end
    local function chain(wrap) return function(v) for _ = 1, 8 do v = wrap(block)(v) end return v:sum() end end
    local function same(f) return f end
    -- Runs f with room for that many arrays beside what lives now.
    local function within(room, f)
      collectgarbage() collectgarbage()
      mlax.set_memory_limit(mlax.memory().live + room * start.nbytes)
      local results = table.pack(pcall(f, start))
      mlax.set_memory_limit(0)
      return table.unpack(results)
    end
    local want = mlax.grad(chain(same))(start)
    local ok, got = within(50, mlax.grad(chain(mlax.checkpoint)))
    assert.is_true(ok, got)
    near(want, got)
    local fits, text = within(50, mlax.grad(chain(same)))
    assert.is_false(fits)
    assert.matches("memory", text)
    local costs = {}
    for i, wrap in ipairs{same, mlax.checkpoint} do costs[i] = mlax.jit(mlax.grad(chain(wrap))):cost(w).peak end
    assert.is_true(costs[2] < costs[1] / 2, ("compiled %d bytes, without %d"):format(costs[2], costs[1]))
  end)
end)

-- -- custom rules --------------------------------------------------------------------------------------------------------

describe("custom_jvp", function()
  local f = mlax.custom_jvp(function(x, y) return x * y end, function(p, t) return p[1] * p[2], 10 * (t[1] * p[2] + p[1] * t[2]) end)

  it("rules every derivative", function()
    local a, b = mlax.array(3), mlax.array(5)
    near({15}, f(a, b))
    local y, t = mlax.jvp(f, {a, b}, {mlax.array(1), mlax.array(1)})
    near({15}, y)
    near({80}, t)
    near({50}, mlax.grad(f)(a, b))
    near({30}, mlax.grad(f, {argnums = 2})(a, b))
    near({50}, mlax.jit(mlax.grad(f))(a, b))
    near({50}, mlax.grad(mlax.jit(f))(a, b))
    near({50, 100, 150}, mlax.vmap(mlax.grad(f), {in_axes = {false, 1}})(a, x3 * 5))
    near({50, 50, 50}, mlax.vmap(mlax.grad(f), {in_axes = {1, false}})(x3, b))
    near({10}, mlax.grad(mlax.grad(f), {argnums = 2})(a, b))
    near({50}, mlax.grad(function(x) return (mlax.scan(function(c) return c + f(x, b), nil end, 0.0, nil, {length = 1})) end)(a))
    near({100}, mlax.grad(function(x) return (mlax.scan(function(c) return c + f(x, b), nil end, 0.0, nil, {length = 2})) end)(a))
  end)

  it("may hold trees and captured values", function()
    local function g(w, v)
      return mlax.custom_jvp(function(t) return {t.a * w} end, function(p, t) return {p[1].a * w}, {t[1].a * w * 2} end)({a = v})[1]
    end
    near({8}, mlax.grad(g, {argnums = 2})(mlax.array(4), mlax.array(3)))
    near({2, 4, 6}, mlax.vmap(mlax.grad(g, {argnums = 2}), {in_axes = {1, false}})(x3, mlax.array(3)))
  end)

  it("names what does not fit", function()
    local function id(x) return x end
    local function grad(rule) return message(function() return mlax.grad(mlax.custom_jvp(id, rule))(x3[1]) end) end
    assert.equal("custom_jvp: the tangent of the rule has another type (got float32[2], need float32[])",
      grad(function(p) return p[1], mlax.ones{2} end))
    assert.equal("custom_jvp: the tangent of the rule has another structure: at the root: nil and *", grad(function(p) return p[1] end))
    assert.equal("custom_jvp: the result of the rule has another structure: at the root: {*, *} and *",
      grad(function(p, t) return {p[1], p[1]}, {t[1], t[1]} end))
    assert.equal("custom_jvp: the rule must be a function (got nil)", message(function() return mlax.custom_jvp(id) end))
  end)
end)

describe("custom_vjp", function()
  local function fwd(x, y) return x * y, {x = x, y = y} end
  local f = mlax.custom_vjp(function(x, y) return x * y end, fwd, function(r, ct) return ct * r.y * 10, nil end)

  it("rules the way back", function()
    local a, b = mlax.array(3), mlax.array(5)
    near({15}, f(a, b))
    near({50}, mlax.grad(f)(a, b))
    near({0}, mlax.grad(f, {argnums = 2})(a, b))
    near({50}, mlax.jit(mlax.grad(f))(a, b))
    near({50}, mlax.grad(mlax.jit(f))(a, b))
    near({50, 100, 150}, mlax.vmap(mlax.grad(f), {in_axes = {false, 1}})(a, x3 * 5))
    near({50, 50, 50}, mlax.jit(mlax.vmap(mlax.grad(f), {in_axes = {1, false}}))(x3, b))
    near({10}, mlax.grad(mlax.grad(f), {argnums = 2})(a, b))
    near({150}, mlax.grad(function(x) return (mlax.scan(function(c) return c + f(x, b), nil end, 0.0, nil, none)) end)(a))
    near({50}, mlax.grad(function(x) return mlax.cond(true, f, function(p, q) return p + q end, x, b) end)(a))
    near({50}, mlax.grad(mlax.checkpoint(f))(a, b))
  end)

  it("may capture traced values in bwd", function()
    local function g(w, v)
      return mlax.custom_vjp(function(x) return x * 2 end, function(x) return x * 2, {} end, function(_, ct) return ct * w end)(v)
    end
    near({7}, mlax.grad(g, {argnums = 2})(mlax.array(7), mlax.array(3)))
    near({1, 2, 3}, mlax.vmap(mlax.grad(g, {argnums = 2}), {in_axes = {1, false}})(x3, mlax.array(3)))
    near({1}, mlax.grad(function(w) return mlax.grad(g, {argnums = 2})(w, x3[1]) end)(mlax.array(7)))
  end)

  it("lets integer arguments pass", function()
    local function at(x, i) return x[i] end
    local g = mlax.custom_vjp(at, function(x, i) return x[i], {x, i} end,
      function(r, ct) return mlax.zeros_like(r[1]):at{r[2]}:add(ct), nil end)
    near({0, 1, 0}, mlax.grad(g)(x3, i32(2)))
    near({0, 1, 0}, mlax.jit(mlax.grad(g))(x3, i32(2)))
    near({1, 0, 0, 0, 1, 0}, mlax.vmap(mlax.grad(g), {in_axes = {false, 1}})(x3, i32{1, 2}))
  end)

  it("names what does not fit", function()
    local function id(x) return x end
    local function forth(x) return x, {} end
    local function grad(there, back) return message(function() return mlax.grad(mlax.custom_vjp(id, there, back))(x3[1]) end) end
    assert.equal("custom_vjp: cotangent 1 that bwd gives has another type (got float32[2], need float32[])",
      grad(forth, function() return mlax.ones{2} end))
    assert.equal("custom_vjp: cotangent 1 that bwd gives has another structure: at the root: {*, *} and *",
      grad(forth, function(_, ct) return {ct, ct} end))
    assert.equal("custom_vjp: bwd gives 2 cotangents (need one an argument: 1)", grad(forth, function(_, ct) return ct, ct end))
    assert.equal("custom_vjp: the result of fwd has another structure: at the root: {*, *} and *",
      grad(function(x) return {x, x}, {} end, function(_, ct) return ct end))
    assert.matches("forward%-mode differentiation of a function with a custom vjp is not defined",
      message(function() return mlax.jvp(f, {x3, x3}, {x3, x3}) end))
  end)
end)

-- -- collectives ---------------------------------------------------------------------------------------------------------

describe("collectives", function()
  local m = mlax.array{{1, 2, 3}, {4, 5, 6}}
  local function over(f, ...)
    local g = f
    for _, name in ipairs{...} do g = mlax.vmap(g, {axis_name = name}) end
    return g
  end

  it("reduce over their axis", function()
    near({6, 6, 6}, over(function(x) return mlax.psum(x, "i") end, "i")(x3))
    near({2, 2, 2}, over(function(x) return mlax.pmean(x, "i") end, "i")(x3))
    near({3, 3, 3}, over(function(x) return mlax.pmax(x, "i") end, "i")(x3))
    near({1, 1, 1}, over(function(x) return mlax.pmin(x, "i") end, "i")(x3))
    near({1, 2, 3, 1, 2, 3, 1, 2, 3}, over(function(x) return mlax.all_gather(x, "i") end, "i")(x3))
    near({3, 1, 2}, over(function(x) return mlax.ppermute(x, "i", {{1, 2}, {2, 3}, {3, 1}}) end, "i")(x3))
    near({0, 1, 0}, over(function(x) return mlax.ppermute(x, "i", {{1, 2}}) end, "i")(x3))
    near({1, 2, 3}, over(function(x) return mlax.axis_index("i") + 0 * x end, "i")(x3))
    near({6, 6, 6}, mlax.pmap(function(x) return mlax.psum(x, "i") end, {axis_name = "i"})(x3))
  end)

  it("of two names under nested vmaps", function()
    for _, wrap in ipairs{function(f) return f end, mlax.jit} do
      local function run(f) return wrap(over(f, "columns", "rows"))(m) end
      near({6, 6, 6, 15, 15, 15}, run(function(x) return mlax.psum(x, "columns") end))
      near({5, 7, 9, 5, 7, 9}, run(function(x) return mlax.psum(x, "rows") end))
      near({21, 21, 21, 21, 21, 21}, run(function(x) return mlax.psum(x, {"rows", "columns"}) end))
      near({3.5, 3.5, 3.5, 3.5, 3.5, 3.5}, run(function(x) return mlax.pmean(x, {"columns", "rows"}) end))
      near({1, 2, 3, 4, 5, 6}, run(function() return mlax.axis_index{"rows", "columns"} end))
      near({4, 5, 6, 1, 2, 3}, run(function(x) return mlax.ppermute(x, "rows", {{1, 2}, {2, 1}}) end))
      near({4, 10, 18, 4, 10, 18}, run(function(x) return mlax.all_gather(x, "rows"):prod() end))
    end
    near({6, 12, 18}, over(function(x) return x * mlax.axis_size{"i"} * mlax.psum(1, nil) * 2 end, "i")(x3))
  end)

  it("take numbers, trees and no name", function()
    local seen
    over(function(x) seen = {mlax.psum(1, "i"), mlax.psum(2.0, "i"), mlax.pmean(2, "i")} return x end, "i")(x3)
    assert.same({3, 6.0, 2}, seen)
    assert.equal("integer", math.type(seen[1]))
    local t = over(function(x) return mlax.psum({x, {x * 2}}, "i") end, "i")(x3)
    near({12, 12, 12}, t[2][1])
    assert.equal(x3, mlax.psum(x3, nil))
    assert.equal(x3, mlax.pmean(x3, {}))
  end)

  it("inside control flow, whether or not what it is given is mapped", function()
    for _, wrap in ipairs{function(f) return f end, mlax.jit} do
      near({9, 18, 27}, wrap(over(function(x)
        return (mlax.scan(function(c) return mlax.psum(c, "i") * x / 2, nil end, x, nil, {length = 2}))
      end, "i"))(x3))
      near({3, 6, 9}, wrap(over(function(x)
        return x + mlax.scan(function(c) return c + mlax.axis_index("i"), nil end, 0, nil, {length = 2})
      end, "i"))(x3))
      near({2, 4, 6}, wrap(over(function(x)
        return x + mlax.cond(true, function() return mlax.axis_index("i") end, function() return i32(0) end)
      end, "i"))(x3))
      near({5, 6, 6}, wrap(over(function()
        return mlax.while_loop(function(c) return c:lt(5) end, function(c) return c + mlax.axis_index("i") end, 0)
      end, "i"))(x3))
      near({5, 7, 9, 5, 7, 9}, wrap(over(function(x)
        return (mlax.scan(function(c) return mlax.psum(c, "rows"), nil end, x, nil, {length = 1}))
      end, "columns", "rows"))(m))
    end
  end)

  it("inside scan have derivatives of both orders", function()
    local function total(v)
      return over(function(y)
        local c, ys = mlax.scan(function(c, t)
          local new = (mlax.psum(c, "i") * y + t):sin()
          return new, new * mlax.axis_index("i")
        end, y, f64{0.1, 0.2})
        return c + ys:sum()
      end, "i")(v):sum()
    end
    checks_gradient(total, f64{0.3, 0.5})
    checks_hessian(total, f64{0.3, 0.5})
  end)

  it("have derivatives", function()
    local x = f64{0.5, -1.5, 2}
    local function check(f, want)
      local function total(v) return (over(f, "i")(v) * f64{1, 2, 3}):sum() end
      checks_gradient(total, x)
      if want then near(want, mlax.grad(total)(x)) end
    end
    check(function(v) return mlax.psum(v * v, "i") * v end)
    check(function(v) return mlax.pmean(v:sin(), "i") * v end)
    check(function(v) return mlax.pmax(v, "i") * v end)
    check(function(v) return mlax.pmin(v, "i") * v end)
    check(function(v) return (mlax.all_gather(v, "i") * f64{1, 2, 3} * v):sum() end)
    check(function(v) return mlax.ppermute(v, "i", {{1, 2}, {2, 3}}) * v end)
    near({6, 6, 6}, over(mlax.grad(function(v) return mlax.psum(v * v, "i") end), "i")(mlax.array{1, 1, 1}))
    local function turned(y) return mlax.ppermute(y, "i", {{1, 2}, {2, 3}, {3, 1}}) end
    near({2, 3, 1}, mlax.grad(function(v) return over(turned, "i")(v):mul(x3):sum() end)(x3))
  end)

  it("name what does not fit", function()
    local function run(f) return message(function() return over(f, "inner", "outer")(mlax.ones{2, 2}) end) end
    assert.equal("psum: the axis 'k' is not bound (bound are: inner, outer)", run(function(x) return mlax.psum(x, "k") end))
    assert.equal("axis_size: the axis 'k' is not bound (bound are: inner, outer)", run(function(x) return x * mlax.axis_size("k") end))
    assert.equal("axis_index: the axis 'k' is not bound (no vmap with an axis_name is around)",
      message(function() return mlax.axis_index("k") end))
    assert.equal("psum: axis_name must be a string, a list of them, or nil (got number)", run(function(x) return mlax.psum(x, 3) end))
    local function permute(pairs_) return run(function(x) return mlax.ppermute(x, "inner", pairs_) end) end
    assert.equal("ppermute: pairs must be a list of {from, to} (got nil)", permute(nil))
    assert.equal("ppermute: pair 1 is no {from, to} (got number)", permute{1, 2})
    assert.equal("ppermute: pair 1 is no {from, to}", permute{{1}})
    assert.equal("ppermute: pair 2 names no position (got 3, need 1..2)", permute{{1, 2}, {2, 3}})
    assert.equal("ppermute: position 2 gets twice (need each at most once)", permute{{1, 2}, {2, 2}})
    assert.equal("ppermute: position 1 sends twice (need each at most once)", permute{{1, 1}, {1, 2}})
  end)

  it("leave compiled functions to the axes they were traced under", function()
    local f = mlax.jit(function(x) return mlax.psum(x, "i") end)
    near({6, 6, 6}, over(f, "i")(x3))
    near({3, 3}, over(f, "i")(x3[{{1, 2}}]))
    assert.matches("the axis 'i' is not bound", message(function() return f(x3) end))
  end)
end)
