--- The transformations of API section 5: forms, trees, messages, nesting, and jit's cache.
local mlax = require "mlax"
local helper = require "spec.helper"
local near, message = helper.near, helper.message
local nn, random, tree = mlax.nn, mlax.random, mlax.tree

local function vector(...) return mlax.array({...}, "float64") end
local function scalar(v) return mlax.full({}, v, "float64") end
local function shape(x) return table.concat(x.shape, ",") end
local function int(...) return mlax.array({...}, "int32") end
local function sum_of_squares(x) return (x * x):sum() end

-- The message of a call that raises; the call does not stand at the end of a function, where Lua forgets the line.
local function raises(text, f, ...)
  local args = table.pack(...)
  local got = message(function()
    local unused = f(table.unpack(args, 1, args.n)) -- luacheck: ignore
  end)
  assert.are.equal(text, got)
end

-- -- grad -----------------------------------------------------------------------------------------------------------------

describe("mlax.grad", function()
  it("differentiates by the first argument if none is named", function()
    near({2, 4}, mlax.grad(sum_of_squares)(vector(1, 2)))
    near({3, 4}, mlax.grad(function(x, y) return (x * y):sum() end)(vector(1, 2), vector(3, 4)))
  end)

  it("takes argnums from 1, from -1 backwards, and as a list, which gives a list", function()
    local function f(x, y, z) return (x * y):sum() + (z * z):sum() end
    local x, y, z = vector(1, 2), vector(3, 4), vector(5)
    near({1, 2}, mlax.grad(f, {argnums = 2})(x, y, z))
    near({10}, mlax.grad(f, {argnums = -1})(x, y, z))
    local g = mlax.grad(f, {argnums = {3, 1}})(x, y, z)
    assert.are.equal(2, #g)
    near({10}, g[1])
    near({3, 4}, g[2])
    assert.are.equal(1, #mlax.grad(f, {argnums = {2}})(x, y, z))
    near({1, 2}, mlax.grad(f, {argnums = {2, 2}})(x, y, z)[2])
  end)

  it("gives the further results of the function behind the gradient", function()
    local g, name, aux = mlax.grad(function(x)
      return sum_of_squares(x), "aux", {double = x * 2, n = 3}
    end)(vector(1, 2))
    near({2, 4}, g)
    assert.are.equal("aux", name)
    near({2, 4}, aux.double)
    assert.are.equal(3, aux.n)
  end)

  it("gives value, gradient, further results as value_and_grad", function()
    local value, g, aux = mlax.value_and_grad(function(x) return sum_of_squares(x), x:max() end)(vector(1, 2))
    near({5}, value)
    near({2, 4}, g)
    near({2}, aux)
    value, g = mlax.value_and_grad(function(x, y) return (x * y):sum() end, {argnums = {1, 2}})(vector(1), vector(7))
    near({7}, value)
    near({7}, g[1])
    near({1}, g[2])
  end)

  it("takes and gives trees; what is no number is static", function()
    local g = mlax.grad(function(t) return (t.w * t.list[1]):sum() * t.scale + (t.flag and 1 or 0) end)(
      {w = vector(1, 2), list = {vector(3, 4), "text"}, scale = 2.0, flag = true, none = false})
    near({6, 8}, g.w)
    near({2, 4}, g.list[1])
    near({11}, g.scale)
    assert.are.equal("text", g.list[2])
    assert.is_true(g.flag)
    assert.is_false(g.none)
  end)

  it("differentiates by Lua numbers as float32", function()
    local g = mlax.grad(function(x) return x * x * x end)(2)
    assert.are.equal("float32", g.dtype)
    near({12}, g)
    near({0.5}, mlax.grad(mlax.log)(2.0))
  end)

  it("hands on the numbers by which it does not differentiate", function()
    local seen
    mlax.grad(function(x, n, s)
      seen = {math.type(n), math.type(s)}
      return x:sum() * n
    end)(vector(1), 3, 2.5)
    assert.are.same({"integer", "float"}, seen)
  end)

  it("is zero by what has no influence, and of constants", function()
    local g = mlax.grad(function(t) return t.a:sum() end)({a = vector(1), b = mlax.ones({2, 3}, "float16")})
    assert.are.equal("float16", g.b.dtype)
    near({0, 0, 0, 0, 0, 0}, g.b)
    near({0, 0}, mlax.grad(function() return 3.0 end)(vector(1, 2)))
    near({0, 0}, mlax.grad(function(x) return x:argmax(1):astype("float64") end)(vector(1, 2)))
  end)

  it("takes Modules, and gives them", function()
    local _, model = nn.Linear(random.key(0), 2)(mlax.ones{3})
    local g = mlax.grad(function(m, x) return (m(x)):sum() end)(model, mlax.array{1, 2, 3})
    assert.is_true(mlax.is_a(g, nn.Linear))
    near({1, 1, 2, 2, 3, 3}, g.linear_kernel.data)
  end)

  it("takes a Module in the place of the function", function()
    near({2, 4}, (mlax.grad(nn.F(sum_of_squares))(vector(1, 2))))
  end)

  it("gives third and fourth derivatives", function()
    local f = function(x) return x:sin() end
    local fs, want = f, {math.cos, function(x) return -math.sin(x) end, function(x) return -math.cos(x) end, math.sin}
    for k = 1, 4 do
      fs = mlax.grad(fs)
      near({want[k](0.7)}, fs(scalar(0.7)), 1e-12)
      near({want[k](0.7)}, mlax.jit(fs)(scalar(0.7)), 1e-12)
    end
    near({24 * 2}, mlax.grad(mlax.grad(mlax.grad(function(x) return x ^ 4 end)))(scalar(2)))
  end)

  it("keeps perturbations of nested derivatives apart", function()
    local inner = mlax.grad(function(x) return x * mlax.grad(function(y) return x + y end)(scalar(1)) end)
    near({1}, inner(scalar(1)))
    local function outer(x) return x * mlax.grad(function(y) return x * y * y end)(x) end
    near({6 * 2 ^ 2}, mlax.grad(outer)(scalar(2)))
    local _, dy = mlax.jvp(function(x)
      local _, d = mlax.jvp(function(y) return x * y end, {scalar(3)}, {scalar(1)})
      return d * x
    end, {scalar(2)}, {scalar(1)})
    near({4}, dy)
  end)

  it("passes a user's error value through unchanged, and works again", function()
    local value = {code = 7}
    local ok, got = pcall(mlax.grad(function() error(value) end), vector(1))
    assert.is_false(ok)
    assert.are.equal(value, got)
    near({2}, mlax.grad(sum_of_squares)(vector(1)))
  end)

  it("says what it cannot do", function()
    local x = vector(1, 2)
    local g = mlax.grad(sum_of_squares)
    raises("grad: at least one argument is needed (got none)", g)
    raises("grad: the function's first result must be a float scalar (got float64[2])", mlax.grad(mlax.sin), x)
    raises("grad: the function's first result must be a float scalar (got int32[])", mlax.grad(function(y) return y:argmax(1) end), x)
    raises("grad: the function gave no result (need a scalar)", mlax.grad(function() end), x)
    raises("grad: the function's first result is a tree (need a scalar)", mlax.grad(function(y) return {y:sum()} end), x)
    raises("grad: argnums 2 names no argument (got 1 arguments, which count from 1)", mlax.grad(sum_of_squares, {argnums = 2}), x)
    raises("grad: argnums 0 names no argument (got 1 arguments, which count from 1)", mlax.grad(sum_of_squares, {argnums = 0}), x)
    raises("grad: cannot differentiate by an array of dtype int32 (need float arrays; use partition to split off the others)", g, int(1))
    raises("grad: cannot differentiate by 'a[2]' of dtype bool (need float arrays; use partition to split off the others)",
      mlax.grad(function(t) return t.a[1]:sum() end), {a = {x, mlax.array{true}}})
  end)

  it("checks its options at the line of the call", function()
    raises("grad: unknown option 'argnum', did you mean 'argnums'? (known: argnums)", mlax.grad, sum_of_squares, {argnum = 1})
    raises("grad: argnums must be an integer or a list of them (got number)", mlax.grad, sum_of_squares, {argnums = 1.5})
    raises("grad: argnums must be an integer or a list of them (got a list with string)", mlax.grad, sum_of_squares, {argnums = {"x"}})
    raises("grad: argnums is an empty list (need at least one argument)", mlax.grad, sum_of_squares, {argnums = {}})
    raises("grad: a function or module is needed (got number)", mlax.grad, 3)
  end)

  it("is one function for equal options", function()
    assert.are.equal(mlax.grad(sum_of_squares), mlax.grad(sum_of_squares, {argnums = 1}))
    assert.are.equal(mlax.grad(sum_of_squares, {argnums = {1, 2}}), mlax.grad(sum_of_squares, {argnums = {1, 2}}))
    assert.are_not.equal(mlax.grad(sum_of_squares, {argnums = {1}}), mlax.grad(sum_of_squares))
    assert.are_not.equal(mlax.grad(sum_of_squares), mlax.value_and_grad(sum_of_squares))
  end)
end)

-- -- vjp, jvp, linearize --------------------------------------------------------------------------------------------------

describe("mlax.vjp", function()
  it("gives the result and a pullback with one cotangent an argument", function()
    local y, pullback = mlax.vjp(function(x, t) return {p = x * t.w} end, vector(1, 2), {w = vector(3, 4), k = 2})
    near({3, 8}, y.p)
    local ct = {pullback({p = vector(1, 10)})}
    assert.are.equal(2, #ct)
    near({3, 40}, ct[1])
    near({1, 20}, ct[2].w)
    near({0}, ct[2].k)
  end)

  it("gives a pullback that may be called again, also in another trace", function()
    local _, pullback = mlax.vjp(mlax.sin, vector(0, 1))
    near({1, math.cos(1)}, (pullback(vector(1, 1))))
    near({2, 2 * math.cos(1)}, (pullback(vector(2, 2))))
    near({{1, 0}, {0, math.cos(1)}}, (mlax.vmap(pullback)(mlax.eye(2, "float64"))))
    near({2, 2 * math.cos(1)}, (mlax.jit(function(u) return (pullback(u * 2)) end)(vector(1, 1))))
    near({1, math.cos(1)}, mlax.grad(function(u) return (pullback(u)):sum() end)(vector(1, 1)))
  end)

  it("takes an empty place of the result as zero", function()
    local _, pullback = mlax.vjp(function(x) return {x * 2, false} end, vector(1))
    near({2}, (pullback{vector(1), false}))
  end)

  it("names the path of a cotangent that does not fit", function()
    local _, pullback = mlax.vjp(function(x) return {a = {x}} end, vector(1, 2))
    raises("pullback: the cotangent at a[1] does not fit (got float64[1], need float64[2])", pullback, {a = {vector(1)}})
    raises("pullback: the cotangent at a[1] does not fit (got float32[2], need float64[2])", pullback, {a = {mlax.ones{2}}})
    raises("pullback: the cotangent has another structure: at the root: {b = *} and {a = {*}}", pullback, {b = vector(1)})
    raises("vjp: the function gave 2 results (need one, which may be a tree)", mlax.vjp, function(x) return x, x end, vector(1))
  end)
end)

describe("mlax.jvp", function()
  it("gives the result and its tangent", function()
    local y, dy = mlax.jvp(function(x, z) return {x * z, x:sum()} end, {vector(1, 2), vector(3, 4)}, {vector(1, 0), vector(0, 1)})
    near({3, 8}, y[1])
    near({3, 2}, dy[1])
    near({1}, dy[2])
  end)

  it("takes false for a tangent of zero, also of what has none", function()
    local _, dy = mlax.jvp(function(x, z, i) return x * z[i] end, {vector(1, 2), vector(3, 4), int(2)[1]}, {vector(1, 1), false, false})
    near({4, 4}, dy)
    _, dy = mlax.jvp(function(x, z) return x + z end, {vector(1), vector(2)}, {false, false})
    near({0}, dy)
  end)

  it("takes numbers as primals and tangents", function()
    local y, dy = mlax.jvp(function(x) return x * x end, {3.0}, {1.0})
    near({9}, y)
    near({6}, dy)
  end)

  it("says what does not fit", function()
    local x = vector(1, 2)
    raises("jvp: 1 primals and 0 tangents were given (need as many)", mlax.jvp, mlax.sin, {x}, {})
    raises("jvp: primals must be a list, one entry an argument (got userdata)", mlax.jvp, mlax.sin, x, {x})
    raises("jvp: the tangent does not fit (got float64[1], need float64[2])", mlax.jvp, mlax.sin, {x}, {vector(1)})
    raises("jvp: the tangent does not fit (got float32[2], need float64[2])", mlax.jvp, mlax.sin, {x}, {mlax.ones{2}})
    raises("jvp: the tangent at a does not fit (got float64[1], need float64[2])", mlax.jvp, function(t) return t.a end, {{a = x}},
      {{a = vector(1)}})
    raises("jvp: the tangent has another structure: at the root: {b = *} and {a = *}", mlax.jvp, function(t) return t.a end, {{a = x}},
      {{b = x}})
    raises("jvp: cannot differentiate by an array of dtype int32 (need float arrays; use partition to split off the others)", mlax.jvp,
      function(i) return i end, {int(1)}, {int(1)})
  end)
end)

describe("mlax.linearize", function()
  it("gives the result and a linear function of tangents", function()
    local y, push = mlax.linearize(function(x, z) return x * z end, vector(1, 2), vector(3, 4))
    near({3, 8}, y)
    near({3, 4}, push(vector(1, 1), vector(0, 0)))
    near({4, 6}, push(vector(1, 1), vector(1, 1)))
    near({1, 2}, push(false, vector(1, 1)))
  end)

  it("does not run the function again", function()
    local runs = 0
    local _, push = mlax.linearize(function(x)
      runs = runs + 1
      return x:sin()
    end, vector(0))
    push(vector(1))
    push(vector(2))
    assert.are.equal(1, runs)
  end)

  it("wants one tangent an argument", function()
    local _, push = mlax.linearize(mlax.add, vector(1), vector(2))
    raises("jvp_fn: 1 tangents were given (need 2, one an argument)", push, vector(1))
  end)
end)

describe("mlax.stop_gradient", function()
  it("passes values on, and trees of them", function()
    local t = mlax.stop_gradient({a = vector(1), n = 3, s = "x"})
    near({1}, t.a)
    assert.are.equal(3, t.n)
    near({5}, mlax.grad(function(x) return (x * mlax.stop_gradient({y = x}).y):sum() end)(vector(5)))
    near({0}, mlax.grad(function(x) return mlax.stop_gradient(x):sum() end)(vector(5)))
  end)
end)

-- -- jacobians ------------------------------------------------------------------------------------------------------------

describe("mlax.jacfwd, mlax.jacrev", function()
  local function f(x, y) return {s = (x * y):sum(), p = x:outer(y)} end

  it("agree, with the shape of the result before that of the argument", function()
    local x, y = vector(1, 2, 3), vector(4, 5, 6)
    local forward, reverse = mlax.jacfwd(f)(x, y), mlax.jacrev(f)(x, y)
    assert.are.equal("3", shape(forward.s))
    assert.are.equal("3,3,3", shape(forward.p))
    near(forward.s, reverse.s)
    near(forward.p, reverse.p)
    near({4, 5, 6}, forward.s)
  end)

  it("give the result's tree, then the argument's; a list of argnums adds a list", function()
    for _, jac in ipairs{mlax.jacfwd, mlax.jacrev} do
      local J = jac(function(t, x) return {out = t.a * x} end)({a = vector(1, 2), b = vector(1)}, vector(3, 4))
      near({3, 0, 0, 4}, J.out.a)
      assert.are.equal("2,1", shape(J.out.b))
      J = jac(function(x, y) return x * y end, {argnums = {2, 1}})(vector(1, 2), vector(3, 4))
      assert.are.equal(2, #J)
      near({1, 0, 0, 2}, J[1])
      near({3, 0, 0, 4}, J[2])
      near({1, 0, 0, 2}, jac(function(x, y) return x * y end, {argnums = -1})(vector(1, 2), vector(3, 4)))
      near({0, 0}, jac(function() return mlax.ones({2}, "float64") end)(scalar(1)))
      near({6}, jac(function(x) return x * x end)(3.0))
    end
  end)

  it("take Modules", function()
    local _, model = nn.Linear(random.key(0), 2)(mlax.ones{3})
    local J = mlax.jacrev(function(m) return (m(mlax.ones{3})) end)(model)
    assert.are.equal("2,3,2", shape(J.linear_kernel.data))
  end)

  it("name what they cannot do", function()
    raises("jacfwd: argnums 3 names no argument (got 2 arguments, which count from 1)", mlax.jacfwd(mlax.mul, {argnums = 3}), vector(1),
      vector(2))
    raises("jacrev: argnums 0 names no argument (got 1 arguments, which count from 1)", mlax.jacrev(mlax.sin, {argnums = 0}), vector(1))
    raises("jacrev: cannot differentiate by argument 1 of dtype int32 (need float arrays; use partition to split off the others)",
      mlax.jacrev(mlax.square), int(1))
    raises("jacfwd: cannot differentiate by 'a' of dtype bool (need float arrays; use partition to split off the others)",
      mlax.jacfwd(function(t) return t.a end), {a = mlax.array{true}})
  end)
end)

describe("a Module in the place of the function", function()
  local function model()
    local m = nn.Series{nn.Linear(mlax.random.key(0), 2), nn.ZNorm(mlax.random.key(1), 1)}
    m(mlax.array{0.5, 1.5, -1})
    return m
  end
  local x = mlax.array{1, 2, 3}
  local function mean(m) return m.layers.data[2].moving_mean.data:item() end

  it("is a hidden argument, whose new state is the last result", function()
    local m = model()
    local before = mean(m)
    local out, pullback, after_vjp = mlax.vjp(m, x)
    assert.near(before, mean(m), 1e-9)
    assert.are_not.equal(before, mean(after_vjp))
    local weights = mlax.array{1, 2}
    helper.near((mlax.grad(function(k, v) return ((k(v)) * weights):sum() end, {argnums = 2})(m, x)), pullback(weights))
    local out2, _, after_jvp = mlax.jvp(m, {x}, {mlax.ones{3}})
    local out3, push, after_linearize = mlax.linearize(m, x)
    helper.near(out, out2)
    helper.near(out, out3)
    assert.are.same({2}, push(mlax.ones{3}).shape)
    assert.near(mean(after_vjp), mean(after_jvp), 1e-7)
    assert.near(mean(after_vjp), mean(after_linearize), 1e-7)
    assert.near(before, mean(m), 1e-9)
  end)

  it("works in jacobians, which give no state", function()
    local m = model()
    local before = mean(m)
    local forward, reverse = mlax.jacfwd(m)(x), mlax.jacrev(m)(x)
    assert.are.same({2, 3}, forward.shape)
    helper.near(forward, reverse, 1e-4)
    assert.are.equal(1, select("#", mlax.jacrev(m)(x)))
    assert.near(before, mean(m), 1e-9)
  end)

  it("gives one result besides its state", function()
    assert.are.equal("vjp: the function gave 2 results (need one, which may be a tree)",
      helper.message(function() return mlax.vjp(function(v) return v, v end, x) end))
  end)
end)

describe("results without a derivative", function()
  it("are named by jacfwd, jacrev and hessian", function()
    local x = mlax.ones{3}
    for _, name in ipairs{"jacfwd", "jacrev"} do
      local function text(f) return (helper.message(function() return mlax[name](f)(x) end)) end
      assert.are.equal(name .. ": the result has no derivative (got an array of int32, need float arrays)",
        text(function(v) return v:argmax(1) end))
      assert.are.equal(name .. ": the result at [2] has no derivative (got an array of bool, need float arrays)",
        text(function(v) return {v, v:gt(0)} end))
      assert.are.equal(name .. ": the result at n has no derivative (got 3, need float arrays)",
        text(function(v) return {n = 3, y = v} end))
    end
  end)
end)

describe("mlax.hessian", function()
  it("is the matrix of second derivatives", function()
    near({2, 1, 1, 0}, mlax.hessian(function(x) return x[1] * x[1] + x[1] * x[2] end)(vector(3, 4)))
    local H = mlax.hessian(function(x, y) return (x * x * y):sum() end, {argnums = {1, 2}})(vector(1, 2), vector(3, 4))
    near({6, 0, 0, 8}, H[1][1])
    near({2, 0, 0, 4}, H[1][2])
    near({2, 0, 0, 4}, H[2][1])
    near({0, 0, 0, 0}, H[2][2])
  end)

  it("of trees has the argument's tree twice", function()
    local H = mlax.hessian(function(t) return (t.a * t.a):sum() * t.b:sum() end)({a = vector(1, 2), b = vector(3)})
    near({6, 0, 0, 6}, H.a.a)
    near({2, 4}, H.a.b)
    near({2, 4}, H.b.a)
    near({0}, H.b.b)
  end)

  it("compiles and maps", function()
    local H = mlax.hessian(function(x) return (x ^ 3):sum() end)
    near({6, 0, 0, 12}, mlax.jit(H)(vector(1, 2)))
    near({6, 0, 0, 12, 18, 0, 0, 24}, mlax.vmap(H)(mlax.array({{1, 2}, {3, 4}}, "float64")))
  end)
end)

-- -- vmap -----------------------------------------------------------------------------------------------------------------

describe("mlax.vmap", function()
  local m = mlax.array({{1, 2, 3}, {4, 5, 6}}, "float64")

  it("maps over axis 1 of all arrays", function()
    near({6, 15}, mlax.vmap(function(x) return x:sum() end)(m))
    near({14, 77}, mlax.vmap(mlax.dot)(m, m))
    near({3, 8}, mlax.vmap(function(t, n) return t.a * t.b[1] * n end)({a = vector(1, 2), b = {vector(3, 4)}}, 1))
  end)

  it("takes in_axes as a number for all, as a list with false, and as a tree that is a prefix of the argument's", function()
    near({5, 7, 9}, mlax.vmap(function(x) return x:sum() end, {in_axes = 2})(m))
    near({5, 7, 9}, mlax.vmap(function(x) return x:sum() end, {in_axes = -1})(m))
    near({{1, 2, 3}, {8, 10, 12}}, mlax.vmap(function(x, k) return x * k end, {in_axes = {1, 1}})(m, vector(1, 2)))
    near({{2, 4, 6}, {8, 10, 12}}, mlax.vmap(function(x, k) return x * k end, {in_axes = {1, false}})(m, scalar(2)))
    local t = {a = m, deep = {b = m.T, c = scalar(10)}}
    local function f(v) return v.a:sum() + v.deep.b:sum() + v.deep.c end
    near({22, 40}, mlax.vmap(f, {in_axes = {{a = 1, deep = {b = 2, c = false}}}})(t))
    near({12, 30}, mlax.vmap(function(v) return v.a:sum() + v.deep.b:sum() end, {in_axes = {{a = 1, deep = 2}}})(
      {a = m, deep = {b = m.T}}))
    near({6, 15}, mlax.vmap(function(x) return x:sum() end, {in_axes = {1, 1, 1}})(m))
  end)

  it("hands on unchanged what is no array", function()
    local seen
    local y = mlax.vmap(function(x, t)
      seen = t
      return x * t.n
    end)(vector(1, 2), {n = 3, s = "text", f = print, none = false})
    near({3, 6}, y)
    assert.are.same({n = 3, s = "text", f = print, none = false}, seen)
    assert.are.equal("integer", math.type(seen.n))
  end)

  it("takes out_axes as a number, a list, false, and a tree", function()
    assert.are.equal("3,2", shape(mlax.vmap(function(x) return x * 2 end, {out_axes = 2})(m)))
    assert.are.equal("3,2", shape(mlax.vmap(function(x) return x * 2 end, {out_axes = -1})(m)))
    local a, b = mlax.vmap(function(x) return x, x:sum() end, {out_axes = {2, 1}})(m)
    assert.are.equal("3,2", shape(a))
    assert.are.equal("2", shape(b))
    local options = {in_axes = {1, false}, out_axes = {{whole = 2, one = false, n = false}}}
    local t = mlax.vmap(function(x, k) return {whole = x, one = k, n = 3} end, options)(m, vector(7, 8))
    assert.are.equal("3,2", shape(t.whole))
    near({7, 8}, t.one)
    assert.are.equal(3, t.n)
  end)

  it("repeats a result that does not depend on the mapped axis", function()
    near({{7}, {7}}, (mlax.vmap(function() return vector(7) end)(m)))
    near({{7, 7}}, (mlax.vmap(function() return vector(7) end, {out_axes = 2})(m)))
  end)

  it("needs axis_size where nothing is mapped", function()
    near({3, 3, 3, 3}, mlax.vmap(function(x) return x end, {in_axes = {false}, axis_size = 4})(scalar(3)))
    near({1, 2}, mlax.vmap(function(x) return x end, {axis_size = 2})(vector(1, 2)))
    assert.are.equal("0,3", shape(mlax.vmap(function(x) return x * 2 end)(mlax.zeros{0, 3})))
  end)

  it("shows one example to the function", function()
    local seen
    mlax.vmap(function(x)
      seen = {x.ndim, shape(x), #x, x.dtype}
      return x
    end)(m)
    assert.are.same({1, "3", 3, "float64"}, seen)
  end)

  it("takes and gives Modules, and takes one in the place of the function", function()
    local _, model = nn.Linear(random.key(0), 2)(mlax.ones{3})
    local x = mlax.array{{1, 2, 3}, {4, 5, 6}}
    local y, after = mlax.vmap(model, {out_axes = {1, false}})(x)
    assert.are.equal("2,2", shape(y))
    near(x:matmul(model.linear_kernel.data), y)
    near(model.linear_kernel.data, after.linear_kernel.data)
    local stacked = tree.map(function(w) return mlax.stack({w, w * 2}, 1) end, model)
    y = mlax.vmap(function(mod, v) return (mod(v)) end, {in_axes = {1, false}})(stacked, x[1])
    near(y[1] * 2, y[2])
    local axes = tree.map(function() return 1 end, model)
    near(y, (mlax.vmap(function(mod, v) return (mod(v)) end, {in_axes = {axes, false}})(stacked, x[1])))
  end)

  it("nests over several axes", function()
    local f = mlax.vmap(mlax.vmap(function(x, y) return x * y end, {in_axes = {false, 1}}), {in_axes = {1, false}})
    near({{3, 4}, {6, 8}}, f(vector(1, 2), vector(3, 4)))
    local y = mlax.vmap(f, {in_axes = {false, 2}, out_axes = -1})(vector(1, 10), m.T)
    assert.are.equal("2,3,2", shape(y))
    near(m.T, y[1])
    near(m.T * 10, y[2])
  end)

  it("keeps its options when the caller changes the table", function()
    local axes = {1, false}
    local f = mlax.vmap(mlax.add, {in_axes = axes})
    axes[2] = 1
    near({11, 12}, f(vector(1, 2), scalar(10)))
    near({11, 12}, mlax.vmap(mlax.add, {in_axes = {1, false}})(vector(1, 2), scalar(10)))
  end)

  it("names lengths, axes and results that do not fit by path", function()
    local v2, v3 = vector(1, 2), vector(1, 2, 3)
    local id = function(...) return ... end
    raises("vmap: mapped axes differ in length: argument 1 has 3, w has 2", mlax.vmap(id), v3, {w = v2})
    raises("vmap: axis_size is 4 but the mapped axis of argument 1 has length 3", mlax.vmap(id, {axis_size = 4}), v3)
    raises("vmap: in_axes 1 at argument 1: a scalar has no axis to map (use false)", mlax.vmap(id), scalar(1))
    raises("vmap: in_axes 1 at a.b: a scalar has no axis to map (use false)", mlax.vmap(id), {a = {b = scalar(1)}})
    raises("vmap: in_axes 2 at argument 2 is out of range (the array has 1 axes)", mlax.vmap(id, {in_axes = {1, 2}}), v3, v3)
    raises("vmap: in_axes 0: axes count from 1", mlax.vmap(id, {in_axes = 0}), v3)
    raises("vmap: in_axes has 1 entries (need at least 2, one an argument)", mlax.vmap(id, {in_axes = {1}}), v3, v3)
    raises("vmap: no argument is mapped (need an axis in in_axes, or axis_size)", mlax.vmap(id, {in_axes = {false}}), v3)
    raises("vmap: in_axes is no integer (got \"1\")", mlax.vmap(id, {in_axes = "1"}), v3)
    raises("vmap: a prefix does not fit its tree at its root (got a table, need one value, or the structure of {a = *})",
      mlax.vmap(id, {in_axes = {{b = 1}}}), {a = v3})
    raises("vmap: out_axes is false at a, which depends on the mapped axis",
      mlax.vmap(function(x) return {a = x, b = 1} end, {out_axes = {{a = false, b = false}}}), v3)
    raises("vmap: out_axes is false at result 2, which depends on the mapped axis",
      mlax.vmap(function(x) return x, x end, {out_axes = {1, false}}), v3)
    raises("vmap: out_axes 3 at result 1 is out of range (the array has 2 axes)", mlax.vmap(id, {out_axes = 3}), m)
    raises("vmap: out_axes has 1 entries (need at least 2, one a result)", mlax.vmap(function(x) return x, x end, {out_axes = {1}}), v3)
    raises("vmap: unknown option 'in_axis', did you mean 'in_axes'? (known: in_axes, out_axes, axis_name, axis_size)", mlax.vmap, id,
      {in_axis = 1})
    raises("vmap: axis_name must be a string (got number)", mlax.vmap, id, {axis_name = 3})
  end)

  it("draws the same numbers for every example from one key", function()
    local y = mlax.vmap(function(x, key) return random.uniform(key, {2}) + x * 0 end, {in_axes = {1, false}})(vector(1, 2), random.key(0))
    near(y[1], y[2])
    local z = mlax.vmap(function(key) return random.uniform(key, {2}) end)(random.keys(random.key(0), 2))
    assert.are_not.equal(z[1][1]:item(), z[2][1]:item())
    near(random.uniform((random.split(random.key(0))), {2}), z[1])
  end)
end)

-- -- nesting --------------------------------------------------------------------------------------------------------------

describe("nesting", function()
  local x = mlax.array({{0.1, 0.2, 0.3}, {0.4, 0.5, 0.6}}, "float64")
  local function f(v) return (v:sin() * v):sum() end
  local function slope(v) return math.cos(v) * v + math.sin(v) end
  local function curve(v) return 2 * math.cos(v) - v * math.sin(v) end
  local function each(g)
    local list = {}
    for i, v in ipairs(helper.flat(x)) do list[i] = g(v) end
    return list
  end

  it("of grad, vmap and jit gives one result in every order", function()
    local grad, vmap, jit = mlax.grad, mlax.vmap, mlax.jit
    local total = function(g) return function(v) return g(v):sum() end end
    for i, g in ipairs{vmap(grad(f)), jit(vmap(grad(f))), vmap(jit(grad(f))), vmap(grad(jit(f))), jit(vmap(jit(grad(jit(f))))),
      grad(total(vmap(f))), jit(grad(total(vmap(f)))), grad(jit(total(vmap(f)))), grad(total(jit(vmap(f)))), grad(total(vmap(jit(f)))),
      vmap(vmap(grad(function(v) return v:sin() * v end)))} do
      near(each(slope), g(x), 1e-12)
      near(each(slope), g(x), 1e-12)
      assert.is_true(i > 0)
    end
  end)

  it("of grad, jvp and vmap gives second derivatives in every order", function()
    local one = mlax.ones({3}, "float64")
    local function push(g) return function(v) return (select(2, mlax.jvp(g, {v}, {one}))) end end
    local function pull(g) return function(v) return (select(2, mlax.vjp(g, v))(one)) end end
    local df = mlax.grad(f)
    for _, g in ipairs{push(df), pull(df), push(mlax.jit(df)), mlax.jit(pull(df)), mlax.grad(function(v) return df(v):sum() end),
      mlax.grad(push(f)), mlax.jit(mlax.grad(push(mlax.jit(f)))),
      function(v) return select(2, mlax.linearize(df, v))(one) end} do
      near(each(curve), mlax.vmap(g)(x), 1e-12)
      near(each(curve), mlax.jit(mlax.vmap(g))(x), 1e-12)
      near(each(curve), mlax.vmap(mlax.jit(g))(x), 1e-12)
    end
  end)

  it("carries values of outer traces into inner functions", function()
    local function g(a)
      return mlax.jit(function(b) return mlax.vmap(function(c) return c * a:sum() + b:sum() end)(a) end)(a * 2):sum()
    end
    local y = vector(1, 2)
    -- g = sum_i (a_i s + 2 s) = s^2 + 4 s, with slope 2 s + 4 at s = 3
    near({10, 10}, mlax.grad(g)(y))
    near({10, 10}, mlax.jit(mlax.grad(g))(y))
    near({10, 10}, mlax.vmap(mlax.grad(g))(y:expand_dims(1)))
  end)

  it("restores everything when an inner function raises", function()
    local function bad() error("boom", 0) end
    for _, g in ipairs{mlax.grad(bad), mlax.vmap(bad), mlax.jit(bad), mlax.jit(mlax.vmap(mlax.grad(bad))), mlax.eval_shape(bad),
      mlax.program(bad)} do
      local ok, got = pcall(g, vector(1))
      assert.is_false(ok)
      assert.are.equal("boom", got)
    end
    near({2}, mlax.grad(sum_of_squares)(vector(1)))
  end)
end)
