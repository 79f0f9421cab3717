--- jit, program, eval_shape, cost: what is traced, what is captured, the cache, leaks, and errors in compiled code.
local mlax = require "mlax"
local helper = require "spec.helper"
local near, message = helper.near, helper.message
local nn, random, tree = mlax.nn, mlax.random, mlax.tree

local function shape(x) return table.concat(x.shape, ",") end
local function int(...) return mlax.array({...}, "int32") end
local function this_line() return debug.getinfo(2, "l").currentline end

-- file:line of an error that a call raises.
local function line_of(f, ...)
  local ok, text = pcall(f, ...)
  assert(not ok, "no error was raised")
  local line = tostring(text):match("^[^:]*jit_spec%.lua:(%d+): ")
  return (assert(math.tointeger(tonumber(line)), "no line in " .. tostring(text)))
end

local x3 = mlax.array{1, 2, 3}

describe("mlax.jit", function()
  it("traces once for each structure, shapes and dtypes", function()
    local runs = 0
    local f = mlax.jit(function(t)
      runs = runs + 0 -- an upvalue that does not change
      return t.a * 2
    end)
    near({2, 4, 6}, f({a = x3}))
    near({0, 0, 0}, f({a = mlax.zeros{3}}))
    assert.are.equal(1, f:traces())
    f({a = mlax.zeros{4}})
    f({a = int(1, 2, 3)})
    f({a = x3, b = x3})
    assert.are.equal(4, f:traces())
    f({a = x3})
    f({a = int(4, 5, 6)})
    assert.are.equal(4, f:traces())
    assert.are.equal(0, runs)
  end)

  it("takes Lua floats as weak float32 scalars that are traced", function()
    local f = mlax.jit(function(x, s) return x * s end)
    near({1.5, 3, 4.5}, f(x3, 1.5))
    near({2.5, 5, 7.5}, f(x3, 2.5))
    assert.are.equal(1, f:traces())
    assert.are.equal("float16", f(mlax.ones({2}, "float16"), 0.5).dtype)
    assert.are.equal("float32", f(int(1, 2), 0.5).dtype)
    assert.are.equal("float64", f(mlax.ones({2}, "float64"), 0.5).dtype)
    assert.are.equal("float32", mlax.jit(function(s) return s * 2 end)(0.5).dtype)
  end)

  it("takes integers, booleans, strings, functions and nil as static", function()
    local f = mlax.jit(function(x, how) return how == "sum" and x:sum() or type(how) == "function" and how(x) or how and x * 2 or x end)
    for _, how in ipairs{3, "sum", true, mlax.sin} do f(x3, how) end
    f(x3, nil)
    f(x3, false)
    local n = f:traces()
    for _, how in ipairs{3, "sum", true, mlax.sin} do f(x3, how) end
    f(x3, nil)
    f(x3, false)
    assert.are.equal(n, f:traces())
    near({6}, f(x3, "sum"))
    near({math.sin(1), math.sin(2), math.sin(3)}, f(x3, mlax.sin))
    assert.are.equal("3,1", shape(mlax.jit(function(x, k) return x:reshape{k, -1} end)(x3, 3)))
  end)

  it("gives results of every kind, as many as the function", function()
    local a, b, c, d, e, g = mlax.jit(function(x) return nil, true, "text", 3, x * 2, print end)(x3)
    assert.is_nil(a)
    assert.is_true(b)
    assert.are.equal("text", c)
    assert.are.equal("integer", math.type(d))
    near({2, 4, 6}, e)
    assert.are.equal(print, g)
    assert.are.equal(0, select("#", mlax.jit(function() end)(x3)))
    local t = mlax.jit(function(x, s) return {list = {x, 7, "s"}, none = false, s = s} end)(x3, 2.5)
    near({1, 2, 3}, t.list[1])
    assert.are.equal(7, t.list[2])
    assert.is_false(t.none)
    assert.is_true(mlax.is_array(t.s))
    near({2.5}, t.s)
  end)

  it("gives its arguments and constants back", function()
    local y, z = mlax.jit(function(x) return x, mlax.ones{2} end)(x3)
    near({1, 2, 3}, y)
    near({1, 1}, z)
    local a, b = mlax.jit(function(x)
      local w = x + 1
      return w, w
    end)(x3)
    near(a, b)
  end)

  it("is one object for equal options, and takes other jitted functions", function()
    local function f(x) return x + 1 end
    assert.is_true(rawequal(mlax.jit(f), mlax.jit(f)))
    assert.is_true(rawequal(mlax.jit(f), mlax.jit(f, {max_traces = 64})))
    assert.is_true(rawequal(mlax.jit(f, {static_argnums = 2}), mlax.jit(f, {static_argnums = {2}})))
    assert.is_false(rawequal(mlax.jit(f), mlax.jit(f, {max_traces = 3})))
    near({2, 3, 4}, mlax.jit(mlax.jit(f))(x3))
    near({2, 3, 4}, mlax.vmap(mlax.jit(f))(x3))
  end)

  it("finds the trace of jit(grad(f)) made anew in a loop", function()
    local function f(x)
      rawset(_G, "jit_spec_runs", (rawget(_G, "jit_spec_runs") or 0) + 1)
      return (x * x):sum()
    end
    for _ = 1, 5 do
      near({2, 4, 6}, mlax.jit(mlax.grad(f))(x3))
      near({2, 4, 6}, mlax.jit(mlax.vmap(mlax.grad(function(v) return v * v end)))(x3))
    end
    local runs = rawget(_G, "jit_spec_runs")
    rawset(_G, "jit_spec_runs", nil)
    assert.are.equal(1, runs)
  end)

  it("differs for values of one array that stands twice, and does not mix them up", function()
    local f = mlax.jit(function(a, b) return a * 2 + b end)
    near({3, 6, 9}, f(x3, x3))
    near({2, 4, 6}, f(x3, mlax.zeros{3}))
    assert.are.equal(1, f:traces())
  end)

  it("works on empty and strided arrays", function()
    local f = mlax.jit(function(x) return x:sum(1), x * 2 end)
    near({0}, (f(mlax.zeros{0})))
    local m = mlax.array{{1, 2}, {3, 4}}
    local a, b = f(m.T)
    near({3, 7}, a)
    near({{2, 6}, {4, 8}}, b)
    near({{8, 6}, {4, 2}}, (select(2, f(m["::-1, ::-1"]))))
    assert.are.equal(2, f:traces())
  end)

  it("checks its options", function()
    assert.are.equal("jit: max_traces must be at least 1 (got 0)", message(function()
      local f = mlax.jit(print, {max_traces = 0})
      return f
    end))
    assert.matches("unknown option 'static_argnum', did you mean 'static_argnums'", message(mlax.jit, print, {static_argnum = 1}), 1, true)
    assert.matches("static_argnums 0: arguments count from 1", message(function()
      local f = mlax.jit(print, {static_argnums = 0})
      return f
    end), 1, true)
    assert.are.equal("traces: a jitted function is needed (got no value); call its methods with ':'", message(function()
      local n = mlax.jit(print).traces()
      return n
    end))
  end)
end)

describe("static_argnums", function()
  it("makes Lua floats and trees static", function()
    local f = mlax.jit(function(x, s, t) return x:reshape{math.tointeger(s), -1} * t.k end, {static_argnums = {2, 3}})
    assert.are.equal("3,1", shape(f(x3, 3.0, {k = 2.0})))
    assert.are.equal("1,3", shape(f(x3, 1.0, {k = 2.0})))
    assert.are.equal(2, f:traces())
    near({3, 6, 9}, f(x3, 1.0, {k = 3.0}))
    assert.are.equal(3, f:traces())
    f(x3, 3.0, {k = 2.0})
    assert.are.equal(3, f:traces())
  end)

  it("takes no arrays", function()
    local f = mlax.jit(function(x, n) return x * n end, {static_argnums = 2})
    assert.are.equal("jit: static argument 2 holds an array (need numbers, strings, booleans or functions)", message(function()
      local y = f(x3, x3)
      return y
    end))
  end)
end)

describe("captured values", function()
  it("of arrays are present ones, without a new trace", function()
    local w = mlax.array{1, 1, 1}
    local f = mlax.jit(function(x) return x * w end)
    near({1, 2, 3}, f(x3))
    w = w * 5
    near({5, 10, 15}, f(x3))
    assert.are.equal(1, f:traces())
    w = mlax.ones{1}
    near({1, 2, 3}, f(x3))
    assert.are.equal(2, f:traces())
    assert.are.equal("captured value 1: got float32[1], was traced for float32[3]", f:explain())
  end)

  it("of numbers, strings and booleans belong to the key by value", function()
    local k, name, flag = 2, "a", true
    local f = mlax.jit(function(x) return flag and name == "a" and x * k or x end)
    near({2, 4, 6}, f(x3))
    k = 3
    near({3, 6, 9}, f(x3))
    name = "b"
    near({1, 2, 3}, f(x3))
    name, k = "a", 2
    near({2, 4, 6}, f(x3))
    assert.are.equal(3, f:traces())
    k = 2.0
    near({2, 4, 6}, f(x3))
    assert.are.equal(4, f:traces())
    flag = nil
    near({1, 2, 3}, f(x3))
  end)

  it("of functions belong to the key by identity, with their own captured values", function()
    local c = mlax.ones{}
    local function inner(x) return x + c end
    local act = inner
    local f = mlax.jit(function(x) return act(x) end)
    near({2, 3, 4}, f(x3))
    c = c * 10
    near({11, 12, 13}, f(x3))
    assert.are.equal(1, f:traces())
    act = mlax.sin
    near({math.sin(1), math.sin(2), math.sin(3)}, f(x3))
    act = inner
    near({11, 12, 13}, f(x3))
    assert.are.equal(2, f:traces())
  end)

  it("of functions that call themselves and each other end", function()
    local function power(x, n)
      if n == 0 then return mlax.ones_like(x) end
      return x * power(x, n - 1)
    end
    near({1, 8, 27}, mlax.jit(power)(x3, 3))
    local even, odd
    function even(x, n) if n == 0 then return x end return odd(x * 2, n - 1) end
    function odd(x, n) if n == 0 then return x end return even(x + 1, n - 1) end
    near({6, 10, 14}, mlax.jit(even)(x3, 3)) -- (2 x + 1) 2
  end)

  it("of other tables belong to the key by identity; their contents are read when tracing", function()
    local t = {k = 2}
    local f = mlax.jit(function(x) return x * t.k end)
    near({2, 4, 6}, f(x3))
    t.k = 3
    near({2, 4, 6}, f(x3))
    t = {k = 4}
    near({4, 8, 12}, f(x3))
    assert.are.equal(2, f:traces())
  end)

  it("of Modules and Parameters are present ones", function()
    local _, model = nn.Linear(random.key(0), 2)(x3)
    local p = mlax.Parameter(true, mlax.array{1, 2})
    local f = mlax.jit(function(x) return (model(x)) + p.data end)
    near(x3:matmul(model.linear_kernel.data) + p.data, f(x3))
    model = tree.map(function(w) return w * 2 end, model)
    p.data = mlax.array{3, 4}
    near(x3:matmul(model.linear_kernel.data) + mlax.array{3, 4}, f(x3))
    assert.are.equal(1, f:traces())
  end)

  it("that are one array twice are not mixed up later", function()
    local a = mlax.array{1, 2, 3}
    local b = a
    local f = mlax.jit(function(x) return x + a - b end)
    near({1, 2, 3}, f(x3))
    b = mlax.zeros{3}
    near({2, 4, 6}, f(x3))
  end)

  it("that are also arguments are not mixed up", function()
    local w = x3
    local f = mlax.jit(function(x) return x * 10 + w end)
    near({11, 22, 33}, f(x3))
    near({1, 2, 3}, f(mlax.zeros{3}))
    w = mlax.zeros{3}
    near({10, 20, 30}, f(x3))
    assert.are.equal(1, f:traces())
  end)

  it("of jitted functions among them, and of those that they compile, are present ones", function()
    local w, k = mlax.ones{3}, 1
    local inner = mlax.jit(function(x) return x * w * k end)
    local outer, again, slope = mlax.jit(function(x) return inner(x) + 1 end), mlax.jit(inner), mlax.jit(mlax.grad(function(x)
      return inner(x):sum()
    end))
    local function check(factor)
      near(x3 * factor + 1, outer(x3))
      near(x3 * factor, again(x3))
      near(mlax.full({3}, factor), slope(x3))
    end
    check(1)
    w = w * 5
    check(5)
    assert.are.same({1, 1, 1}, {outer:traces(), again:traces(), slope:traces()})
    k = 2
    check(10)
    assert.are.same({2, 2, 2}, {outer:traces(), again:traces(), slope:traces()})
  end)

  it("of a jitted function that calls itself end", function()
    local f
    f = mlax.jit(function(x, n)
      if n == 0 then return x end
      return f(x * 2, n - 1)
    end)
    near({16, 32, 48}, f(x3, 4))
    near({8, 16, 24}, mlax.jit(function(x) return f(x, 3) end)(x3))
  end)

  it("of enclosing traces are used, and the trace is not kept", function()
    local g = mlax.grad(function(y)
      local f = mlax.jit(function(x) return x * y end)
      return f(y):sum() + f(y * 2):sum()
    end)
    near({6, 12, 18}, g(x3))
    near({6, 12, 18}, g(x3))
    near({6, 12, 18}, mlax.jit(g)(x3))
  end)
end)

describe("modules under jit", function()
  it("are traced twice where they come uninitialized: to set them up, and initialized", function()
    local f = mlax.jit(function(m, x)
      local y, after = m(x)
      return y, after
    end)
    local model = nn.Linear(random.key(0), 2)
    local y, after = f(model, x3)
    assert.is_falsy(model.initialized)
    assert.is_true(after.initialized)
    local y2, again = f(after, x3)
    near(y, y2)
    assert.are.equal(2, f:traces())
    for _ = 1, 3 do y2, again = f(again, x3) end
    assert.are.equal(2, f:traces())
    near(y, y2)
  end)

  it("in the place of the function use their present parameters", function()
    local _, model = nn.Linear(random.key(0), 2)(x3)
    local f = mlax.jit(model)
    near(x3:matmul(model.linear_kernel.data), (f(x3)))
    model.linear_kernel.data = model.linear_kernel.data * 3
    near(x3:matmul(model.linear_kernel.data), (f(x3)))
    assert.are.equal(1, f:traces())
  end)
end)

describe("explain", function()
  it("says by path why the last call traced anew, and nil if it did not", function()
    local f = mlax.jit(function(t, n) return t.w.data[1] * n end)
    assert.is_nil(f:explain())
    f({w = {data = {x3}}}, 2)
    assert.are.equal("traced for the first time", f:explain())
    f({w = {data = {x3}}}, 2)
    assert.is_nil(f:explain())
    f({w = {data = {mlax.ones{4}}}}, 2)
    assert.are.equal("argument 1, at w.data[1]: got float32[4], was traced for float32[3]", f:explain())
    f({w = {data = {mlax.ones({4}, "float16")}}}, 2)
    assert.are.equal("argument 1, at w.data[1]: got float16[4], was traced for float32[4]", f:explain())
    f({w = {data = {mlax.ones({4}, "float16")}}}, 3)
    assert.are.equal("argument 2: got the integer 3, was traced for the integer 2", f:explain())
    f({w = {data = {mlax.ones({4}, "float16")}}}, 0.5)
    assert.are.equal("argument 2: got the number 0.5, was traced for the integer 3", f:explain())
    f({w = {data = {mlax.ones({4}, "float16")}}, v = 1}, 0.5)
    assert.matches("^argument 1 has another structure: ", f:explain())
    f({w = {data = {mlax.ones({4}, "float16")}}}, 0.5, nil)
    assert.are.equal("3 arguments were given, was traced for 2", (f:explain()))
  end)

  it("names captured values", function()
    local k, w = 1, mlax.ones{3}
    local f = mlax.jit(function(x) return x * w * k end)
    f(x3)
    k = 2
    f(x3)
    assert.matches("captured", f:explain(), 1, true)
    w = mlax.ones({3}, "float16")
    f(x3)
    assert.are.equal("captured value 1: got float16[3], was traced for float32[3]", f:explain())
  end)
end)

describe("the cache", function()
  it("keeps max_traces, and lets go of the least recently used", function()
    local f = mlax.jit(function(x) return x + 1 end, {max_traces = 2})
    local function call(n) near(mlax.full({n}, 2), f(mlax.ones{n})) end
    call(1)
    call(2)
    call(1)
    call(3) -- 2 goes
    assert.are.equal(3, f:traces())
    call(1)
    call(3)
    assert.are.equal(3, f:traces())
    call(2)
    assert.are.equal(4, f:traces())
    call(3)
    assert.are.equal(4, f:traces())
    call(1)
    assert.are.equal(5, f:traces())
  end)

  it("is emptied by clear", function()
    local f = mlax.jit(function(x) return x + 1 end)
    f(x3)
    f:clear()
    near({2, 3, 4}, f(x3))
    assert.are.equal(2, f:traces())
  end)

  it("dies with the function", function()
    collectgarbage()
    collectgarbage()
    local before = mlax.memory().live
    for _ = 1, 20 do
      local big = mlax.ones{1000}
      mlax.jit(function(x) return x + big + mlax.ones{1000} end)(mlax.ones{1000})
    end
    collectgarbage()
    collectgarbage()
    assert.is_true(mlax.memory().live - before < 20 * 1000 * 4)
  end)

  it("warns once, at the eighth trace that one integer causes, and names it", function()
    -- Lua cannot catch what warn says: a program of its own shows it.
    local program = [[local mlax = require 'mlax'
      warn('@on')
      local f = mlax.jit(function(x, o) return x * o.deep.n end)
      for k = 1, 7 do f(mlax.ones{1}, {deep = {n = k}}) end
      io.stderr:write('seven\n')
      for k = 8, 20 do f(mlax.ones{1}, {deep = {n = k}}) end]]
    local pipe = assert(io.popen(("%s -e %s 2>&1"):format(os.getenv("MLAX") or "build/mlax", "'" .. program:gsub("'", "\"") .. "'")))
    local text = pipe:read("a")
    pipe:close()
    assert.are.equal("seven\nLua warning: mlax: jit: argument 2 at deep.n is an integer that changes from call to call, and each value "
      .. 'traces anew (8 traces): pass mlax.array(i, "int32")\n', text)
  end)

  it("allocates its results and nothing else in the steady state", function()
    local f = mlax.jit(function(x, y) return (x * y + 1):sin() * x, (x + y):sum() end)
    local x, y = mlax.ones{1000}, mlax.ones{1000}
    for _ = 1, 3 do f(x, y) end
    collectgarbage()
    collectgarbage()
    local before = mlax.memory().live
    local first = {f(x, y)}
    local one = mlax.memory().live - before
    assert.is_true(one >= 4004 and one < 4004 + 2048, one .. " bytes for results of 4004")
    local list = {}
    for k = 1, 20 do list[k] = {f(x, y)} end
    assert.are.equal(20 * one, mlax.memory().live - before - one)
    assert.are.equal(2, #first + #list - 20)
    first, list = nil, nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.are.equal(before, mlax.memory().live)
  end)
end)

describe("leaked values", function()
  local here = "jit_spec.lua"

  it("name the line that made them, in every use", function()
    local leaked, line
    local function keep(x)
      leaked = x * 2
      line = this_line() - 1
      return x:sum()
    end
    for _, transformed in ipairs{mlax.jit(keep), mlax.grad(keep), mlax.vmap(function(x) return keep(x) end, {in_axes = 1}),
      mlax.eval_shape(keep)} do
      transformed(mlax.array{{1, 2, 3}}[1])
      local made = ("a traced value made at [^ ]*%s:%d leaked out of its transformation"):format(here:gsub("%.", "%%."), line)
      for _, use in ipairs{function() return leaked + 1 end, function() return leaked:sin() end, function() return leaked:sum():item() end,
        function() return mlax.jit(function(y) return y + leaked end)(x3) end, function() return mlax.concat({leaked, x3}, 1) end,
        function() return leaked:totable() end} do
        assert.matches(made, select(2, pcall(use)))
      end
      assert.matches("traced at", tostring(leaked), 1, true)
      assert.are.equal("float32", leaked.dtype)
    end
  end)

  it("do not spoil the next call", function()
    local leaked
    local f = mlax.jit(function(x)
      if leaked then return leaked + x end
      return x * 2
    end)
    near({2, 4, 6}, f(x3))
    local _, text = pcall(function()
      leaked = nil
      mlax.grad(function(y)
        leaked = y
        return y:sum()
      end)(x3)
      return f(x3)
    end)
    assert.matches("leaked", text, 1, true)
    leaked = nil
    near({2, 4, 6}, f(x3))
  end)
end)

describe("traced values", function()
  local function under_jit(f) return message(function()
    local y = mlax.jit(f)(x3)
    return y
  end) end

  it("cannot be read or ordered, and the message names the line and the way out", function()
    local text = under_jit(function(x) return x:sum():item() end)
    assert.matches("^item: a traced array cannot be read: it has no value yet %(got float32%[%] made at .*jit_spec%.lua:%d+%)", text)
    assert.matches("where or cond", text, 1, true)
    assert.matches("static_argnums", text, 1, true)
    assert.matches("x:lt(y)", under_jit(function(x) return x:sum() < 3 end), 1, true)
    assert.matches("traced", under_jit(function(x) return x:totable() end), 1, true)
    assert.matches("depends on the values of the mask", under_jit(function(x) return x[x:gt(1)] end), 1, true)
  end)

  it("cannot stand where Lua's numbers are wanted", function()
    local text = under_jit(function(x) return mlax.zeros{x:sum():astype("int32")} end)
    assert.matches("^zeros: item 1 of the shape is no integer: a traced array has no value yet %(got int32%[%] made at", text)
    assert.matches("static_argnums", text, 1, true)
    assert.matches("is no integer: a traced array", under_jit(function(x) return x:sum(x:argmax(1)) end), 1, true)
    assert.matches("is no number: a traced array", under_jit(function(x) return mlax.linspace(x:sum(), 1, 3) end), 1, true)
  end)

  it("have shape, dtype, length and text", function()
    local seen
    mlax.jit(function(x)
      local n, d = x:dims()
      seen = {shape(x), x.dtype, #x, x.ndim, x.size, n, d, x:dim(-1), tostring(x)}
      return x
    end)(mlax.ones{2, 3})
    assert.are.same({"2,3", "float32", 2, 2, 6, 2, 3, 3}, table.move(seen, 1, 8, 1, {}))
    assert.matches("^float32%[2,3%] traced at .*jit_spec%.lua:%d+$", seen[9])
  end)

  it("unroll over rows", function()
    near({6}, mlax.jit(function(x)
      local sum = 0
      for _, row in x:rows() do sum = sum + row end
      return sum
    end)(x3))
  end)

  it("have values in grad and vmap where they are not differentiated or mapped", function()
    mlax.grad(function(x, k)
      assert.are.equal(3, k:item())
      return x:sum()
    end)(x3, mlax.array(3, "int32"))
    mlax.grad(function(x)
      assert.are.equal(6, x:sum():item())
      return x:sum()
    end)(x3)
  end)
end)

describe("errors in compiled code", function()
  it("name the line of the operation, at the first call and at later ones", function()
    local line
    local f = mlax.jit(function(x, i)
      local y = x * 2
      line = this_line() + 1
      y = y[i]
      return y + 1
    end)
    near({3, 5}, f(x3, int(1, 2)))
    for _ = 1, 2 do assert.are.equal(line, line_of(f, x3, int(1, 4))) end
    near({3, 5}, f(x3, int(1, 2)))
    assert.are.equal(line, line_of(mlax.vmap(f, {in_axes = {false, 1}}), x3, int(1, 4)))
    assert.are.equal(line, line_of(mlax.grad(function(x, i) return f(x, i):sum() end), x3, int(1, 4)))
    assert.are.equal(line, line_of(mlax.jit(mlax.grad(function(x, i) return f(x, i):sum() end)), x3, int(1, 4)))
  end)

  it("of tracing name the line of the operation", function()
    local line
    local f = mlax.jit(function(x)
      line = this_line() + 1
      local y = x + mlax.ones{4}
      return y
    end)
    local told = line_of(f, x3)
    assert.are.equal(line, told)
  end)

  it("leave the jitted function usable", function()
    local fails = true
    local f = mlax.jit(function(x)
      if fails then error("not now", 0) end
      return x + 1
    end)
    local ok, text = pcall(f, x3)
    assert.is_false(ok)
    assert.are.equal("not now", text)
    fails = false
    near({2, 3, 4}, f(x3))
  end)
end)

describe("memory that a step may reuse", function()
  it("is not written while another view of it is still to be read", function()
    local x = mlax.random.normal(mlax.random.key(1), {40, 40}, {dtype = "float64"})
    for _, f in ipairs{
      function(t) return t + t.T end, function(t) return t.T - t end, function(t) return t * t[{{-1, 1, -1}}] end,
      function(t) return (t:sin() + t.T:cos()) * t end, function(t) return mlax.where(t.T:gt(0), t, t.T) end,
    } do
      local function g(v) return f(v:matmul(v)):matmul(v) end
      helper.near(g(x), mlax.jit(g)(x), 1e-12)
    end
  end)
end)

describe("mlax.program", function()
  it("prints the equations with their lines", function()
    local p = mlax.program(function(x, y) return (x * y):sum() + 1 end)(x3, x3)
    local text = tostring(p)
    assert.matches("{ lambda ; a:float32[3] b:float32[3]. let", text, 1, true)
    assert.matches("= mul a b", text, 1, true)
    assert.matches("reduce_sum%[axes=%(0%)%]", text)
    assert.matches("jit_spec%.lua:%d+", text)
    assert.are.equal(3, #p)
  end)

  it("computes nothing, and leaves out what nobody uses", function()
    local p = mlax.program(function(x)
      local unused = x:sin() -- luacheck: ignore
      return x:cos()
    end)(x3)
    assert.are.equal(1, #p)
    assert.is_nil(tostring(p):find("sin", 1, true))
  end)

  it("is there for jitted functions, also of derivatives", function()
    local f = mlax.jit(function(x) return (x * x):sum() end)
    assert.matches("reduce_sum", tostring(f:program(x3)), 1, true)
    assert.are.equal(0, f:traces())
    assert.matches("mul", tostring(mlax.jit(mlax.grad(f)):program(x3)), 1, true)
    assert.matches("mul", tostring(mlax.program(f)(x3)), 1, true)
  end)

  it("takes arrays without values", function()
    local y = mlax.eval_shape(function(x) return x:matmul(x.T) end)(mlax.ones{3, 2})
    assert.are.equal("3,3", shape(y))
    assert.matches("float32[3,3]", tostring(mlax.program(mlax.sin)(y)), 1, true)
    assert.are.equal(9, mlax.jit(function(x) return x * 2 end):cost(y).flops)
  end)
end)

describe("cost", function()
  it("counts operations and bytes", function()
    local c = mlax.jit(function(x) return x + 1 end):cost(mlax.ones{1000})
    assert.are.equal(1000, c.flops)
    assert.is_true(c.bytes >= 8000)
    assert.is_true(c.peak >= 4000)
    local d = mlax.jit(mlax.matmul):cost(mlax.ones{10, 20}, mlax.ones{20, 30})
    assert.are.equal(2 * 10 * 20 * 30, d.flops)
  end)
end)

describe("mlax.eval_shape", function()
  it("gives shapes, dtypes and trees without computing", function()
    local t, n = mlax.eval_shape(function(x, k) return {y = x:sum(1), k = k, z = x:astype("int8")}, 3 end)(mlax.ones{2, 5}, 0.5)
    assert.are.equal("5", shape(t.y))
    assert.are.equal("float32", t.k.dtype)
    assert.are.equal("int8", t.z.dtype)
    assert.are.equal(3, n)
    local p, q = t.z:dims()
    assert.are.same({2, 5, 2, 5}, {p, q, #t.z, t.z:dim(2)})
  end)

  it("sets up Modules without their numbers", function()
    local _, model = mlax.eval_shape(nn.Linear(random.key(0), 2))(x3)
    assert.are.equal("3,2", shape(model.linear_kernel.data))
    assert.is_true(model.initialized)
  end)

  it("does not allocate what it describes", function()
    local before = mlax.memory().live
    local y = mlax.eval_shape(function(x) return x:broadcast_to{1000, 1000, 1000} * 2 end)(mlax.ones{1000})
    assert.are.equal(1000000000, y.size)
    assert.is_true(mlax.memory().live - before < 100000)
  end)

  it("gives arrays that cannot be used as values", function()
    local y = mlax.eval_shape(mlax.sin)(x3)
    for _, use in ipairs{function() return y + 1 end, function() return y:totable() end, function() return y[1] end} do
      assert.matches("an array of eval_shape has a shape but no values", message(function()
        local z = use()
        return z
      end), 1, true)
    end
  end)
end)
