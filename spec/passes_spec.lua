--- The passes of the compiler: what a program is before and after, what they refuse, and that results stay the same.
local mlax = require "mlax"
local helper = require "spec.helper"

local names = {
  "inline", "simplify", "layout", "reassociate", "sink", "fold", "cse", "hoist", "recompute", "fusion", "epilogue", "schedule", "in_place",
}

-- The primitives of a program in order, those of programs inside too.
local function primitives(program)
  local found = {}
  for line in tostring(program):gmatch("[^\n]+") do
    found[#found + 1] = line:match("^%s+[%w:,%[%] ]- = ([%w_]+)")
  end
  return table.concat(found, " ")
end

local function traced(f, ...) return primitives(mlax.jit(f):program(...)) end
local function optimized(f, ...)
  local args = table.pack(...)
  args[args.n + 1] = {optimized = true}
  return primitives(mlax.jit(f):program(table.unpack(args, 1, args.n + 1)))
end

local function switch(on, ...)
  for _, name in ipairs{...} do mlax.debug.passes(name, on) end
end

-- With every pass switched off but these.
local function only(list, body)
  switch(false, table.unpack(names))
  switch(true, table.unpack(list))
  local ok, message = pcall(body)
  switch(true, table.unpack(names))
  if not ok then error(message, 0) end
end

-- The bytes of every result; one NaN is like another.
local function bits(...)
  local texts = {}
  for i, x in ipairs{...} do
    if x.dtype:find("float", 1, true) then x = mlax.where(x:isnan(), mlax.array(1 / 3):astype(x.dtype), x) end
    texts[i] = x.dtype .. " " .. table.concat(x.shape, ",") .. ":" .. x:tostring_bytes()
  end
  return texts
end

local function same_bits(f, ...)
  local want
  switch(false, table.unpack(names))
  local ok, message = pcall(function(...) want = bits(mlax.jit(f)(...)) end, ...)
  switch(true, table.unpack(names))
  if not ok then error(message, 0) end
  assert.are.same(want, bits(mlax.jit(f)(...)))
end

-- From `before` to `after`, with the same bits for the same arguments.
local function becomes(before, after, f, ...)
  assert.are.equal(before, traced(f, ...))
  assert.are.equal(after, optimized(f, ...))
  same_bits(f, ...)
end

local function stays(before, f, ...) becomes(before, before, f, ...) end

local inf, nan = math.huge, 0 / 0
local odd = mlax.array{0.0, -0.0, 1.5, -2.25, inf, -inf, nan, 2e-38, 3e38}
local x, y = mlax.array{{1.5, -2, 3}, {0.25, 5, -6}}, mlax.array{{2, 3, -1}, {7, 0.5, 1}}

describe("simplify", function()
  it("knows the neutral numbers", function()
    becomes("mul", "", function(a) return a * mlax.ones{} end, odd)
    becomes("div", "", function(a) return a / 1 end, odd)
    becomes("sub", "", function(a) return a - 0 end, odd)
    becomes("add", "", function(a) return a + -0.0 end, odd)
    becomes("pow", "", function(a) return a ^ 1 end, odd)
    becomes("add", "", function(a) return a + 0 end, mlax.array({1, -5}, "int32"))
    becomes("broadcast mul", "broadcast", function(a) return a * mlax.ones{2, 9} end, odd)
  end)

  it("refuses what another zero, infinity or NaN tells apart", function()
    stays("add", function(a) return a + 0.0 end, odd)
    stays("sub", function(a) return a - -0.0 end, odd)
    stays("mul", function(a) return a * 0 end, odd)
    stays("sub", function(a) return a - a end, odd)
    stays("div", function(a) return a / a end, odd)
    stays("eq", function(a) return a:eq(a) end, odd)
    stays("pow", function(a) return a ^ 0.5 end, odd)
    stays("div", function(a) return a / 3 end, odd)
    stays("reduce_sum", function(a) return a:reshape{9, 1}:sum(2) end, odd:reshape{9, 1})
  end)

  it("divides by powers of two as it multiplies, where the reciprocal is exact", function()
    becomes("div", "mul", function(a) return a / 8 end, odd)
    becomes("div", "mul", function(a) return a / -0.5 end, odd)
    stays("div", function(a) return a / mlax.array(2.0 ^ -127) end, odd)
    stays("div", function(a) return a / mlax.array(2.0 ^ 127) end, odd)
    becomes("div", "mul", function(a) return a / 4 end, odd:astype("bfloat16"))
    becomes("div", "mul", function(a) return a / 4 end, odd:astype("float64"))
  end)

  it("takes signs together", function()
    becomes("neg neg", "", function(a) return -(-a) end, odd)
    becomes("neg add", "sub", function(a, b) return a + -b end, odd, odd:flip(1))
    becomes("neg add", "sub", function(a, b) return -a + b end, odd, odd:flip(1))
    becomes("neg sub", "add", function(a, b) return a - -b end, odd, odd:flip(1))
    becomes("neg neg mul", "mul", function(a, b) return -a * -b end, odd, odd:flip(1))
    becomes("isnan not not", "isnan", function(a) return a:isnan():logical_not():logical_not() end, odd)
  end)

  it("squares", function()
    becomes("pow", "square", function(a) return a ^ mlax.array(2.0) end, odd)
    for _, dtype in ipairs{"float16", "bfloat16", "float64"} do same_bits(function(a) return a ^ mlax.array(2.0) end, odd:astype(dtype)) end
  end)

  it("chooses what is known", function()
    local p = mlax.array{true, false, true}
    becomes("select", "", function(c, a) return mlax.where(c, a, a) end, p, x)
    becomes("select", "", function(a, b) return mlax.where(mlax.array(true), a, b) end, x, y)
    becomes("select", "", function(a, b) return mlax.where(mlax.array(false), a, b) end, x, y)
    becomes("not select", "select", function(c, a, b) return mlax.where(c:logical_not(), a, b) end, p, x, y)
    becomes("maximum", "", function(a) return mlax.maximum(a, a) end, odd)
  end)

  it("converts there and back only where something is lost", function()
    becomes("convert convert", "", function(a) return a:astype("float32"):astype("bfloat16") end, odd:astype("bfloat16"))
    becomes("convert convert", "convert", function(a) return a:astype("float64"):astype("float16") end, odd)
    becomes("convert convert", "", function(a) return a:astype("int64"):astype("int8") end, mlax.array({1, -128}, "int8"))
    becomes("convert convert", "convert", function(a) return a:astype("int32"):astype("float32") end, mlax.array{true, false})
    stays("convert convert", function(a) return a:astype("bfloat16"):astype("float32") end, odd)
    stays("convert convert", function(a) return a:astype("float32"):astype("int32") end, mlax.array({2 ^ 31 - 1, -7}, "int32"))
    stays("convert convert", function(a) return a:astype("uint8"):astype("int32") end, mlax.array({-1, 300}, "int32"))
  end)

  it("keeps the type of a weak number", function()
    local f = mlax.jit(function(a) return a * mlax.array(1.0) end)
    assert.are.equal("float32", (f(2.0) + mlax.array({1}, "bfloat16")).dtype)
    assert.are.equal("bfloat16", (mlax.jit(function(a) return a * 1.0 end)(2.0) + mlax.array({1}, "bfloat16")).dtype)
  end)
end)

describe("simplify, of what moves elements,", function()
  it("joins two of a kind", function()
    becomes("reshape reshape", "reshape", function(a) return a:reshape{3, 2}:reshape{6} end, x)
    becomes("reshape reshape", "", function(a) return a:reshape{6}:reshape{2, 3} end, x)
    becomes("transpose transpose", "", function(a) return a.T.T end, x)
    local cube = x:reshape{1, 2, 3} + y:reshape{2, 1, 3}
    becomes("transpose transpose", "transpose", function(a) return a:transpose{2, 3, 1}:transpose{2, 3, 1} end, cube)
    becomes("broadcast broadcast", "broadcast", function(a) return a:broadcast_to{2, 2, 3}:broadcast_to{4, 2, 2, 3} end, x)
    becomes("reverse reverse", "", function(a) return a:flip(2):flip(2) end, x)
    becomes("slice slice", "slice", function(a) return a["2:9:3"]["2:3"] end, odd)
  end)

  it("finds slices in what was put together", function()
    becomes("concat slice", "", function(a, b) return mlax.concat({a, b}, 1)["3:4"] end, x, y)
    becomes("concat slice", "slice", function(a, b) return mlax.concat({a, b}, 1)["4:4"] end, x, y)
    stays("concat slice", function(a, b) return mlax.concat({a, b}, 1)["2:3"] end, x, y)
  end)

  it("puts together what is padded side by side, and keeps the sign of zero that a sum has", function()
    local function side(k) return {k, 9 - k} end
    local function f(a, b) return mlax.pad(a, {side(0)}) + mlax.pad(b, {side(9)}) end
    becomes("pad pad add", "add add concat", f, odd, odd:flip(1))
    becomes("pad pad add", "pad pad add", function(a, b) return mlax.pad(a, {side(0)}) + mlax.pad(b, {side(8)}) end, odd, odd)
    local ints = mlax.range(1, 9)
    becomes("pad pad add", "concat", f, ints, ints * 2)
  end)

  it("makes the gradient of a split one array put together", function()
    local g = mlax.grad(function(a)
      local p, q, r = a:split(3, -1)
      return (p * q * r:sin()):sum()
    end)
    local text = optimized(g, x)
    assert.is_nil(text:find("pad", 1, true))
    assert.matches("concat", text, 1, true)
    same_bits(g, mlax.array{{0.0, -0.0, 1}, {-0.0, -1, 0.0}})
  end)

  it("sees axes of length 1", function()
    becomes("transpose", "reshape", function(a) return a:transpose{2, 1, 3} end, x:reshape{2, 1, 3})
    becomes("reduce_max", "reshape", function(a) return a:max(2) end, odd:reshape{9, 1})
    becomes("reverse", "", function(a) return a:flip(1) end, x:reshape{1, 6})
  end)
end)

describe("simplify, of positions,", function()
  local tall = mlax.concat({odd, odd * 2, odd - 1}, 1):reshape{9, 3}
  local function ids(...) return mlax.array({...}, "int32") end

  it("makes slices of known positions in order", function()
    becomes("check_index gather", "slice", function(a) return a:take(ids(2, 4, 6), 1) end, tall)
    becomes("check_index gather", "slice", function(a) return a:take(ids(5), 1) end, tall)
    becomes("check_index gather", "slice reshape", function(a) return a:take(mlax.array(3, "int32"), 1) end, tall)
    becomes("check_index gather", "", function(a) return a:take(mlax.range(1, 9), 1) end, tall)
    assert.are.equal("slice", optimized(function(a) return a:take(ids(2, 3), 2) end, tall))
    same_bits(function(a) return a:take(ids(2, 3), 2), a:take(ids(1, 3), -1), a:take(mlax.array(3, "int32"), 2) end, tall)
    assert.matches("gather", optimized(function(a) return a:take(ids(6, 4, 2), 1) end, tall), 1, true)
    assert.matches("gather", optimized(function(a) return a:take(ids(1, 2, 2), 1) end, tall), 1, true)
    assert.matches("gather", optimized(function(a) return a:take(ids(1, 2, 4), 1) end, tall), 1, true)
    assert.matches("gather", optimized(function(a) return a:take(ids(8, 12), 1) end, tall), 1, true) -- which raises
  end)

  it("makes pads of what is written to known positions of one number", function()
    becomes("broadcast check_index scatter", "pad", function(u) return mlax.full({9, 3}, 7.5):at{ids(2, 4, 6)}:set(u) end, tall["1:3"])
    local function add(u) return mlax.zeros{9, 3}:at{ids(1, 4, 7)}:add(u) end
    assert.are.equal("add pad", optimized(add, tall["1:3"]))
    same_bits(add, -mlax.zeros{3, 3}) -- 0 + -0 is 0
    local second, last = mlax.array(2, "int32"), mlax.array(9, "int32")
    same_bits(function(u) return mlax.zeros{9, 3}:at{second}:add(u), mlax.zeros{9, 3}:at{last}:set(u) end, tall[2])
    same_bits(function(u) return mlax.zeros{9, 3}:at{{}, ids(1, 3)}:set(u) end, tall[{{}, {1, 2}}])
    assert.matches("scatter_add", optimized(function(u) return mlax.ones{9, 3}:at{ids(1, 4, 7)}:add(u) end, tall["1:3"]))
    assert.matches("scatter", optimized(function(u) return mlax.zeros{9, 3}:at{ids(1, 1, 7)}:set(u) end, tall["1:3"]))
  end)

  it("makes slices of the gradients of slices that were taken", function()
    local function loss(a) return (a:take(ids(1, 2, 3), 1) * a:take(ids(4, 5, 6), 1)):sum() end
    local program = optimized(mlax.grad(loss), tall)
    assert.is_nil(program:find("gather") or program:find("scatter"))
    same_bits(mlax.grad(loss), tall)
    same_bits(mlax.grad(loss), mlax.random.normal(mlax.random.key(1), {9, 3}))
  end)

  it("takes once what is taken of what was taken", function()
    local first, second = ids(3, 1, 9, 9), ids(4, 2, 2)
    local function both(a, i, j) return a:take(i, 1):take(j, 1) end
    becomes("check_index gather check_index gather", "check_index check_index gather gather", both, tall, first, second)
    same_bits(both, tall, first, second)
    same_bits(function(a, i, j) return a:take(i, 2):take(j, 1) end, tall, ids(3, 1), ids(2, 2))
    assert.matches("take: index 5 is out of range", helper.message(mlax.jit(both), tall, first, ids(1, 5)), 1, true)
    for _, modes in ipairs{{"clip", "fill"}, {"fill", "clip"}, {"fill", "fill"}, {"clip", "clip"}} do
      local function f(a, i, j) return a:take(i, 1, {mode = modes[1]}):take(j, 1, {mode = modes[2]}) end
      same_bits(f, tall, ids(3, 12, -20, 9), ids(4, 7, -9, 2))
    end
    becomes("check_index gather check_index gather mul", "check_index gather check_index gather mul", function(a, i, j)
      local t = a:take(i, 1)
      return t:take(j, 1) * t
    end, tall, ids(1, 2, 3), ids(2, 2, 3))
  end)

  it("knows windows whose starts are known", function()
    for _, start in ipairs{{1, 1}, {3, 2}, {6, 1}} do
      local function known(a) return mlax.dynamic_slice(a, start, {4, 2}) end
      assert.are.equal("slice", optimized(known, tall))
      same_bits(known, tall)
    end
    local update = tall["1:2"] * 3
    local function written(a, u) return mlax.dynamic_slice(mlax.dynamic_update_slice(a, u, {2, 1}), {2, 1}, {2, 3}) end
    assert.are.equal("", optimized(written, tall, update))
    same_bits(written, tall, update)
    local function parts(a, u)
      local all = mlax.dynamic_update_slice(a, u, {2, 1})
      return all[{{3, 3}, {2, 3}}], all[{{1, 1}}], all[{{4, 9, 2}}]
    end
    assert.are.equal("slice slice slice", optimized(parts, tall, update))
    same_bits(parts, tall, update)
    local function across(a, u) return mlax.dynamic_slice(mlax.dynamic_update_slice(a, u, {2, 1}), {3, 1}, {2, 3}) end
    assert.are.equal("dynamic_update_slice slice", optimized(across, tall, update))
    same_bits(across, tall, update)
    assert.are.equal("", optimized(function(a, u) return mlax.dynamic_update_slice(a, u, {1, 1}) end, tall, tall * 2))
  end)

  it("keeps checks of windows", function()
    local function all(a, i) return mlax.dynamic_update_slice(a, a * 2, mlax.stack({i, i}, 1)) end
    assert.matches("check_index", optimized(all, tall, mlax.array(1, "int32")))
    assert.matches("out of range", helper.message(mlax.jit(all), tall, mlax.array(2, "int32")))
  end)

  it("needs no bounds for positions that were checked", function()
    local labels = ids(1, 3, 2, 2, 1, 3, 3, 1, 2)
    local loss = mlax.grad(function(a, l) return mlax.losses.softmax_cross_entropy_with_labels(a, l):mean() end)
    assert.matches("maximum minimum", (traced(loss, tall, labels):gsub("minimum maximum", "maximum minimum")))
    assert.is_nil(optimized(loss, tall, labels):find("imum"))
    same_bits(loss, tall, labels)
    local function tight(a, l) return a:take(l, 1), l:minimum(2), l:maximum(2) end
    assert.matches("minimum.*maximum", optimized(tight, tall, labels))
  end)
end)

describe("sink", function()
  it("converts before it repeats, and after it cuts", function()
    local f = function(a) return a:broadcast_to{64, 9}:astype("bfloat16") end
    becomes("broadcast convert", "convert broadcast", f, odd)
    becomes("convert slice", "slice convert", function(a) return a:astype("bfloat16")["1:2"] end, odd)
    stays("convert slice", function(a)
      local b = a:astype("bfloat16")
      return b["1:2"], b
    end, odd)
  end)

  it("converts once what is used in several orders", function()
    becomes("convert transpose convert", "convert transpose", function(a) return a:astype("bfloat16"), a.T:astype("bfloat16") end, x)
    stays("transpose convert", function(a) return a.T:astype("bfloat16") end, x)
  end)

  it("computes a function before its operand is repeated", function()
    becomes("broadcast exp", "exp broadcast", function(a) return a:broadcast_to{64, 9}:exp() end, odd)
    becomes("broadcast broadcast mul", "mul broadcast", function(a, b) return a:broadcast_to{5} * b:broadcast_to{5} end,
      mlax.array(2.0), mlax.array(3.5))
  end)
end)

describe("fold", function()
  it("computes what depends on constants alone", function()
    becomes("sin reshape mul", "mul", function(a) return a * mlax.array{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}:sin():reshape{9} end, odd)
    becomes("broadcast sqrt mul", "broadcast mul", function(a) return a * mlax.array(2.0):broadcast_to{9}:sqrt() end, odd)
  end)

  it("leaves large results, and repeated numbers, to the run", function()
    assert.are.equal("broadcast", optimized(function() return mlax.array(2.0):broadcast_to{100000} + 1 end))
    assert.are.equal("mul", optimized(function() return mlax.range(1, 300):reshape{300, 1} * mlax.range(1, 300):reshape{1, 300} end))
  end)

  it("does not raise what the run would raise", function()
    local function take(a) return a:take(mlax.array({9, 1}, "int32"), 1) end
    local f = mlax.jit(take)
    assert.matches("check_index gather", optimized(take, odd["1:3"]), 1, true)
    assert.are.equal("gather", optimized(take, odd))
    assert.matches("take: index 9 is out of range", helper.message(f, mlax.ones{3}))
  end)
end)

describe("cse", function()
  it("computes nothing twice", function()
    becomes("exp exp add", "exp add", function(a) return a:exp() + a:exp() end, odd)
    becomes("add add mul", "add mul", function(a, b) return (a + b) * (b + a) end, x, y)
    becomes("sub sub mul", "sub sub mul", function(a, b) return (a - b) * (b - a) end, x, y)
  end)

  it("tells params and operands apart", function()
    stays("reduce_max reduce_max", function(a) return a:max(1), a:max(2) end, x)
    stays("convert convert", function(a) return a:astype("float64"), a:astype("float16") end, x)
  end)

  it("prints as often as it is told", function()
    local printed, print = 0, _G.print
    _G.print = function() printed = printed + 1 end
    mlax.jit(function(a)
      mlax.debug.print("%s", a)
      mlax.debug.print("%s", a)
      return a
    end)(x)
    _G.print = print
    assert.are.equal(2, printed)
  end)
end)

describe("inline", function()
  it("opens calls with derivatives of their own", function()
    local f = mlax.custom_jvp(function(a) return a * 2 end, function(p, t) return p[1] * 2, t[1] * 3 end)
    becomes("custom_jvp mul mul mul", "mul", function(a) return f(a) end, x)
    assert.are.equal(18, mlax.jit(mlax.grad(function(a) return f(a):sum() end))(x):sum():item())
  end)

  it("takes the branch that is known", function()
    local f = function(a) return mlax.switch(mlax.array(2, "int32"), {mlax.sin, mlax.cos, mlax.tan}, a) end
    assert.are.equal("cos", optimized(f, odd))
    same_bits(f, odd)
  end)

  it("leaves checkpoints, whose values are computed again on the way back", function()
    local f = mlax.checkpoint(function(a) return a:sin():sin() end)
    assert.matches("checkpoint sin sin", optimized(function(a) return f(a) end, x))
  end)
end)

-- -- loops --------------------------------------------------------------------------------------------------------------

local function close(want, got)
  local a, b = helper.flat(want:astype("float64")), helper.flat(got:astype("float64"))
  assert.are.equal(#a, #b)
  for i = 1, #a do assert.is_true(math.abs(a[i] - b[i]) <= 1e-5 * (1 + math.abs(a[i])), a[i] .. " and " .. b[i]) end
end

local function like_unhoisted(f, ...)
  mlax.debug.passes("hoist", false)
  local want = table.pack(mlax.jit(f)(...))
  mlax.debug.passes("hoist", true)
  local got = table.pack(mlax.jit(f)(...))
  for i = 1, want.n do close(want[i], got[i]) end
end

describe("hoist", function()
  local key = mlax.random.key(3)
  local w, u = mlax.random.normal(key, {16, 8}), mlax.random.normal(mlax.random.key(4), {8, 8})
  local xs, h = mlax.random.normal(mlax.random.key(5), {7, 16}), mlax.zeros{8}

  local function rnn(wx, wh, s)
    return mlax.scan(function(c, a)
      c = (a:matmul(wx:tanh()) + c:matmul(wh)):tanh()
      return c, c
    end, h, s)
  end

  it("computes what is the same at each step once, and products for all steps at once", function()
    assert.are.equal("scan tanh dot_general dot_general add tanh", traced(rnn, w, u, xs))
    assert.are.equal("tanh dot_general scan dot_general add tanh", optimized(rnn, w, u, xs))
    like_unhoisted(rnn, w, u, xs)
    like_unhoisted(mlax.vmap(rnn, {in_axes = {false, false, 1}}), w, u, mlax.stack({xs, xs * 2}, 1))
    local g = mlax.grad(function(...) return (select(2, rnn(...)):sum()) end, {argnums = {1, 2, 3}})
    like_unhoisted(function(...) return table.unpack(g(...)) end, w, u, xs)
  end)

  it("goes backwards and through loops in loops", function()
    local function f(wx, s)
      return mlax.scan(function(c, a)
        local inner = mlax.scan(function(d, b) return d + b:matmul(wx), d:sum() end, c, s)
        return c + inner * a:sum(), inner
      end, h, s, {reverse = true})
    end
    assert.matches("^dot_general", optimized(f, w, xs))
    like_unhoisted(f, w, xs)
  end)

  it("leaves checks, prints and short loops where they are", function()
    local ids = mlax.array({1, 99}, "int32")
    local function f(a, i)
      return mlax.while_loop(function(c) return c:sum():lt(0) end, function(c) return c + a:take(i, 1):sum() end, mlax.ones{2})
    end
    assert.are.equal("1 1", table.concat(mlax.jit(f)(mlax.ones{3}, ids):totable(), " "):gsub("%.0", ""))
    local function one(wx, s) return mlax.scan(function(c, a) return c + a:matmul(wx), c end, h, s) end
    assert.matches("^scan", optimized(one, w, xs["1:1"]))
  end)

  it("makes one product of those that are only added up", function()
    local function f(s, g)
      local c, ys = mlax.scan(function(c, a)
        local d = (a[2] + c[2]):tanh()
        return {c[1] + a[1].T:matmul(d), d * 0.5}, d
      end, {mlax.ones{16, 8}, mlax.zeros{4, 8}}, {s, g})
      return c[1], c[2], ys
    end
    local s, g = mlax.random.normal(key, {5, 4, 16}), mlax.random.normal(key, {5, 4, 8})
    assert.matches("scan add tanh mul dot_general add$", (optimized(f, s, g):gsub("transpose ", "")))
    like_unhoisted(f, s, g)
    local function sums(t, v) -- nothing else is left to do at each step
      return (mlax.scan(function(c, a) return c + (a[1] * 2).T:matmul(a[2]) end, mlax.ones{16, 8}, {t, v}, {reverse = true}))
    end
    assert.is_nil(optimized(sums, s, g):find("scan", 1, true))
    like_unhoisted(sums, s, g)
    local function kept(t) -- the sum is read at each step
      return (mlax.scan(function(c, a) return c + (a.T * c:sum()):matmul(a) end, mlax.ones{16, 16}, t))
    end
    assert.matches("scan.*dot_general add$", optimized(kept, s))
    like_unhoisted(kept, s)
  end)

  it("gives each result of a scan once, and hands on what was there before", function()
    local function f(s)
      local c, ys = mlax.scan(function(c, a) return c + a:sum(), {c, a, c, c:sin(), a} end, mlax.zeros{}, s)
      return c, table.unpack(ys, 1, 3)
    end
    local text = tostring(mlax.jit(f):program(xs, {optimized = true}))
    assert.are.equal(2, select(2, text:match("\n    ([^\n]*) = scan"):gsub(":", ""))) -- the carry, and what it was
    assert.is_nil(text:find("sin", 1, true))
    like_unhoisted(f, xs)
  end)

  it("takes out of while loops what is the same at each step", function()
    local function f(a, m)
      return mlax.while_loop(function(c) return c:sum():lt(a:exp():sum()) end, function(c) return c + m:matmul(m):sum() + 1 end, a)
    end
    assert.matches("^exp reduce_sum dot_general reduce_sum while", (optimized(f, mlax.ones{3}, mlax.ones{3, 3}):gsub("broadcast ", "")))
    like_unhoisted(f, mlax.ones{3}, mlax.ones{3, 3})
  end)
end)

-- -- switches -----------------------------------------------------------------------------------------------------------

describe("layout", function()
  local key = mlax.random.key
  local v, k = mlax.random.normal(key(20), {16, 3, 12, 12}), mlax.random.normal(key(21), {8, 3, 3, 3})
  local k2, b = mlax.random.normal(key(22), {8, 8, 3, 3}), mlax.random.normal(key(23), {8})
  local first = {padding = "SAME", dimension_numbers = {"NCHW", "OIHW", "NCHW"}}

  local function conv(a, c) return mlax.lax.conv(a, c, first) end
  local function window(a, kind)
    local init = kind == "max" and -math.huge or 0
    local padding = {{0, 0}, {0, 0}, {1, 0}, {0, 1}}
    return mlax.lax.reduce_window(a, init, kind, {window = {1, 1, 2, 3}, strides = {1, 1, 2, 2}, padding = padding})
  end

  -- How often each of these primitives is left, and the same numbers as without the pass.
  local function turned(want, f, ...)
    local text, got = optimized(f, ...), {}
    for name in pairs(want) do got[name] = select(2, (" " .. text .. " "):gsub("%f[%w_]" .. name .. "%f[^%w_]", "")) end
    assert.are.same(want, got, text)
    local new = table.pack(mlax.jit(f)(...))
    mlax.debug.passes("layout", false)
    local old = table.pack(mlax.jit(f)(...))
    mlax.debug.passes("layout", true)
    for i = 1, old.n do
      assert.are.same(old[i].shape, new[i].shape)
      close(old[i], new[i])
    end
  end

  it("turns what a convolution reads and makes", function()
    local text = tostring(mlax.jit(conv):program(v, k, {optimized = true}))
    assert.is_truthy(text:find("float32[16,12,12,3] = transpose[axes=(0,2,3,1)]", 1, true), text)
    assert.is_truthy(text:find("float32[16,12,12,8] = conv", 1, true), text)
    assert.is_truthy(text:find("float32[16,8,12,12] = transpose[axes=(0,3,1,2)]", 1, true), text)
    turned({transpose = 2, conv = 1}, conv, v, k)
  end)

  it("goes on until the transpositions meet", function()
    turned({transpose = 2, conv = 2}, function(a, c, d, e)
      local h = (conv(a, c) * 0.5 + e:reshape{8, 1, 1}):tanh()
      return conv(h, d) + h
    end, v, k, k2, b)
    turned({transpose = 1, conv = 2}, function(a, c, d)
      local h = mlax.nn.functional.relu(conv(a, c))
      return conv(h - h:mean({1, 3, 4}, {keepdims = true}), d):max{3, 4}
    end, v, k, k2)
    turned({transpose = 2, reduce_window_max = 1, pad = 1, slice = 1, reverse = 1, concat = 1}, function(a, c)
      local h = window(conv(a, c), "max")
      h = mlax.concat({h, h:flip(3)}, 2):pad{{0, 0}, {1, 0}, {0, 2}, {0, 0}}
      return h[{{}, {}, {2, 4}, {}}]
    end, v, k)
  end)

  it("turns gradients", function()
    local function loss(a, c, d, e)
      local h = mlax.nn.functional.relu(conv(a, c) + e:reshape{1, 8, 1, 1})
      return (conv(window(h, "max"), d) ^ 2):mean()
    end
    local function grads(...)
      local g = mlax.grad(loss, {argnums = {...}})
      return function(...) return table.unpack(g(...)) end
    end
    turned({transpose = 1, select_and_scatter_add = 1}, grads(2, 3, 4), v, k, k2, b)
    turned({transpose = 2}, grads(1, 2, 3, 4), v, k, k2, b)
  end)

  it("turns one and three spatial axes, and batches by vmap", function()
    local line, solid = mlax.random.normal(key(24), {4, 6, 200}), mlax.random.normal(key(25), {2, 4, 6, 6, 20})
    turned({transpose = 2}, function(a, c)
      return mlax.lax.conv(a, c, {padding = 2, dimension_numbers = {"NCW", "OIW", "NCW"}}):tanh()
    end, line, mlax.random.normal(key(26), {7, 6, 5}))
    turned({transpose = 2}, function(a, c)
      return mlax.lax.conv(a, c, {padding = 1, dimension_numbers = {"NCDHW", "OIDHW", "NCDHW"}}):tanh()
    end, solid, mlax.random.normal(key(27), {4, 4, 3, 3, 3}))
    turned({conv = 1}, mlax.vmap(function(a, c) return conv(a:expand_dims(1), c)[1] end, {in_axes = {1, false}}), v, k)
  end)

  it("leaves channels last, what is small, and transpositions that are not a convolution's", function()
    local last = {dimension_numbers = {"NHWC", "OHWI", "NHWC"}}
    stays("conv tanh", function(a, c) return mlax.lax.conv(a, c, last):tanh() end, mlax.ones{2, 12, 12, 5}, mlax.ones{6, 3, 3, 5})
    stays("conv tanh", function(a, c) return conv(a, c):tanh() end, v[{{1, 1}}], k)
    stays("transpose tanh", function(a) return a:transpose{1, 4, 2, 3}:tanh() end, v)
    local across = function(a, c) -- the first of equal extremes depends on the order of axes
      return mlax.grad(function(h)
        return mlax.lax.reduce_window(conv(h, c), -math.huge, "max", {window = {1, 2, 2, 1}, strides = {1, 2, 2, 1}}):sum()
      end)(a)
    end
    turned({select_and_scatter_add = 1}, across, mlax.ones{16, 3, 12, 12}, mlax.ones{8, 3, 3, 3})
  end)
end)

describe("reassociate", function()
  local a = mlax.random.normal(mlax.random.key(8), {6, 1, 5, 4})

  local function once(before, after, f, ...)
    assert.are.equal(before, traced(f, ...))
    assert.are.equal(after, optimized(f, ...))
    mlax.debug.passes("reassociate", false)
    local want = mlax.jit(f)(...)
    mlax.debug.passes("reassociate", true)
    close(want, mlax.jit(f)(...))
  end

  it("makes one sum of sums, with what they are multiplied by", function()
    once("reduce_sum reduce_sum", "reduce_sum", function(v) return v:sum{2, 3}:sum(1) end, a)
    once("reduce_sum mul reduce_sum", "reduce_sum mul", function(v) return (v:sum(4) * 0.3):sum(3) end, a)
    once("reduce_sum reshape div reduce_sum div", "reduce_sum div reshape div", function(v)
      return v:mean({2, 3}, {keepdims = true}):mean(1)
    end, a)
    once("reduce_sum reduce_sum", "reduce_sum", function(v) return v:sum(2):sum() end, a:squeeze(2))
  end)

  it("takes statistics over a named batch in one pass", function()
    local function variance(v)
      local centred = v - mlax.pmean(v:mean{1, 2}, "batch")
      return mlax.pmean((centred * centred):mean{1, 2}, "batch")
    end
    local f = mlax.vmap(variance, {axis_name = "batch"})
    local v = mlax.random.normal(mlax.random.key(9), {8, 4, 4, 3})
    local text = optimized(f, v)
    assert.are.equal(2, select(2, text:gsub("reduce_sum", "")))
    close(f(v), mlax.jit(f)(v))
  end)

  it("leaves sums that others read, halves, and axes between others", function()
    stays("reduce_sum exp reduce_sum", function(v) local s = v:sum(4) return s:exp(), s:sum(3) end, a)
    stays("reduce_sum reduce_sum", function(v) return v:sum(4):sum(3) end, a:astype("float16"))
    stays("reduce_sum reduce_sum", function(v) return v:sum(4):sum(1) end, a)
    stays("reduce_sum exp reduce_sum", function(v) return v:sum(4):exp():sum(3) end, a)
  end)
end)

describe("recompute", function()
  local tall, w = mlax.random.normal(mlax.random.key(1), {64, 80}), mlax.random.normal(mlax.random.key(2), {80, 80}) * 0.1

  it("makes again what several readers behind a product need of one value", function()
    becomes("tanh add mul sub mul dot_general mul add", "tanh add mul sub mul dot_general add mul mul sub add", function(a, b)
      local t = a:tanh()
      local p, q = t + 1, 1 - t * t
      return (p * q):matmul(b) * p + q
    end, tall, w)
  end)

  it("makes again what an input gives, which is there anyway", function()
    becomes("mul dot_general mul", "mul dot_general mul mul", function(a, b)
      local s = a * a
      return s:matmul(b) * s
    end, tall, w)
  end)

  it("leaves one value that would be kept for another", function()
    local function f(a, b)
      local s = a:tanh() * 2
      return s:matmul(b) * s
    end
    becomes("tanh mul dot_general mul", "tanh mul dot_general mul", f, tall, w)
  end)

  it("leaves what is a result, what a product reads, and what is small", function()
    becomes("mul dot_general mul", "mul dot_general mul", function(a, b)
      local s = a * a
      return s:matmul(b) * s, s
    end, tall, w)
    local before = "mul dot_general transpose dot_general"
    becomes(before, before, function(a, b)
      local s = a * a
      return s:matmul(b):matmul(s.T)
    end, tall, w)
    becomes("mul dot_general mul", "mul dot_general mul", function(a, b)
      local s = a * a
      return s:matmul(b) * s
    end, tall[{{1, 8}}], w)
  end)

  it("halves what a deep function keeps for its gradient", function()
    local function loss(a, b)
      for _ = 1, 6 do a = mlax.nn.functional.gelu(a:matmul(b)) end
      return a:sum()
    end
    local f = mlax.jit(mlax.grad(loss, {argnums = {1, 2}}))
    local more, less
    only({"simplify", "cse", "fusion", "in_place"}, function() more = f:cost(tall, w).peak end)
    only({"simplify", "cse", "fusion", "in_place", "recompute"}, function() less = f:cost(tall, w).peak end)
    assert.is_true(less < 0.75 * more, ("%d of %d bytes"):format(less, more))
    same_bits(function(...) return table.unpack(mlax.grad(loss, {argnums = {1, 2}})(...)) end, tall, w)
  end)
end)

describe("epilogue", function()
  local key = mlax.random.key(3)
  local function normal(...) return mlax.random.normal(key, {...}) * 0.3 end
  local relu = function(a) return mlax.maximum(a, 0) end

  -- The labels of the optimized program's steps, and that it has the same bits without the pass.
  local function steps(f, ...)
    local args = table.pack(...)
    args[args.n + 1] = {optimized = true}
    local text = tostring(mlax.jit(f):program(table.unpack(args, 1, args.n + 1)))
    local labels = {}
    for label in text:gmatch("\n%s+([%w_+ ]-) {\n") do labels[#labels + 1] = label end
    local got = bits(mlax.jit(f)(...))
    mlax.debug.passes("epilogue", false)
    local want = bits(mlax.jit(f)(...))
    mlax.debug.passes("epilogue", true)
    assert.are.same(want, got)
    return table.concat(labels, " ")
  end

  it("does bias and activation with the product", function()
    local f = function(a, w, b) return relu(a:matmul(w) + b) end
    assert.are.equal("dot_general+add+maximum", steps(f, normal(40, 30), normal(30, 50), normal(50)))
    assert.are.equal("dot_general+add+maximum", steps(f, normal(30), normal(30, 5000), normal(5000)))
    assert.are.equal("dot_general+add+maximum", steps(f, normal(300, 30), normal(30, 700), normal(300, 1)))
    assert.are.equal("dot_general+add+maximum", steps(f, normal(9, 30, 20), normal(9, 20, 40), normal(1, 30, 40)))
    local wide = normal(20, 30):astype("float64")
    assert.are.equal("dot_general+add+maximum", steps(f, wide, wide.T, wide[1][1]))
    only({}, function() assert.are.equal("dot_general add maximum", optimized(f, normal(4, 3), normal(3, 5), normal(5))) end)
  end)

  it("does them with a convolution", function()
    local function f(a, w, b)
      local z = mlax.lax.conv(a, w, {padding = "SAME", dimension_numbers = {"NHWC", "HWIO", "NHWC"}})
      return relu(z + b) * 2
    end
    for _, channels in ipairs{3, 16} do
      assert.are.equal("conv+add+maximum+mul", steps(f, normal(4, 20, 24, channels), normal(3, 3, channels, 16), normal(16)))
    end
    assert.are.equal("conv+sub", steps(function(a, w)
      return mlax.lax.conv(a, w, {input_dilation = 2}) - 1
    end, normal(2, 9, 3), normal(5, 2, 3)))
  end)

  it("has each elementwise function's bits, wherever the parts begin", function()
    local a, w = normal(333, 20), normal(20, 257)
    for _, name in ipairs{"exp", "tanh", "sigmoid", "erf", "sin", "cos", "expm1", "log1p", "sqrt", "cbrt", "abs", "floor"} do
      local f = function(p, q)
        local z = p:matmul(q)
        return z[name](z:abs()) + 1
      end
      assert.matches("^dot_general%+abs", steps(f, a, w))
      steps(f, a:astype("float64"), w:astype("float64")) -- functions that take long are left alone
    end
    assert.are.equal("dot_general+abs+sqrt+add", steps(function(p, q) return p:matmul(q):abs():sqrt() + 1 end, a:astype("float64"),
      w:astype("float64")))
  end)

  it("leaves the product to those that read it too", function()
    local a, w = normal(200, 30), normal(30, 200)
    assert.are.equal("dot_general+tanh", steps(function(p, q)
      local z = p:matmul(q)
      return z:tanh(), z
    end, a, w))
    assert.are.equal("dot_general+tanh", steps(function(p, q)
      local z = p:matmul(q)
      return z:tanh():matmul(z)
    end, a, w))
    assert.are.equal("dot_general+mul", steps(function(p, q)
      local z = p:matmul(q)
      return z * 2, z:gt(0), z:reshape{100, 400}
    end, a, w))
    local loss = function(q, p) return relu(p:matmul(q)):matmul(p):sum() end
    assert.are.equal("dot_general+eq+select+gt +2 more", steps(mlax.grad(loss), w, a))
  end)

  it("takes one of two products, and its reshaped result", function()
    local a, w = normal(64, 30), normal(30, 48)
    assert.are.equal("mul+sin dot_general+add", steps(function(p, q) return p:matmul(q) + (p * 2):sin():matmul(q) end, a, w))
    assert.are.equal("dot_general+add", steps(function(p, q) return p:matmul(q):reshape{48, 64} + 1 end, a, w))
    assert.are.equal("dot_general+sin+mul", steps(function(p, q)
      local z = p:matmul(q)
      return z:sin() * mlax.lax.stop_gradient(z)
    end, a, w))
  end)

  it("refuses groups with sums, with other elements, and those behind something that waits for the product", function()
    local a, w = normal(64, 30), normal(30, 64)
    assert.are.equal("reduce_sum+sub", steps(function(p, q)
      local z = p:matmul(q)
      return z - z:sum(2, {keepdims = true})
    end, a, w))
    assert.are.equal("", steps(function(p, q) return p:matmul(q).T + 1 end, a, w))
    assert.are.equal("", steps(function(p, q) return p:matmul(q)[{{1, 9}}] + 1 end, a, w))
    assert.are.equal("", steps(function(p, q)
      local z = p:matmul(q)
      return z + z.T
    end, a, w))
    assert.are.equal("", steps(function(p, q)
      local z = p:matmul(q)
      return z + z:cumsum(1)
    end, a, w))
    for _, dtype in ipairs{"float16", "bfloat16"} do
      assert.are.equal("add+maximum", steps(function(p, q) return relu(p:matmul(q) + 1) end, a:astype(dtype), w:astype(dtype)))
    end
  end)

  it("overwrites no operand that the product still reads", function()
    local a, w = normal(256, 256), normal(256, 256)
    assert.are.equal("dot_general+add+maximum", steps(function(p) return relu(p:matmul(p) + p) end, a))
    assert.are.equal("dot_general+add", steps(function(p, q)
      local s = p:sin() -- dies with the product, which reads it
      return s:matmul(q) + s
    end, a, w))
    local function inner(p, q)
      local s, t = p:sin(), p:cos() -- t is the code's alone
      local z = relu(s:matmul(q) + s * t)
      return (z:matmul(q) - z):matmul(q)
    end
    steps(inner, a, w)
    for _, f in ipairs{function(p) return relu(p:matmul(p) + p) end, function(p, q) return p:matmul(q) + p, p * 2 end,
      function(p, q) return p * 2 + p:matmul(q) end, function(p, q) return p:matmul(q) - q, q + 1 end} do
      local want = bits(f(a, w))
      local copy, other = a + 0, w + 0
      assert.are.same(want, bits(mlax.jit(f, {donate_argnums = {1, 2}})(copy, other)))
    end
  end)

  it("runs in loops, by whole results where parts cannot be", function()
    local w = normal(64, 64)
    local function f(x0, q)
      return (mlax.scan(function(c, _) return relu(c:matmul(q) + c), c:sum() end, x0, nil, {length = 5}))
    end
    steps(f, normal(300, 64), w)
    local tall = normal(300, 64)
    assert.matches("^dot_general%+add", steps(function(p, q, r) return p:matmul(q) + r.T end, tall, normal(64, 300), normal(300, 300)))
  end)

  it("needs less memory, and says what it computes", function()
    local f = mlax.jit(function(a, w) return (relu(a:matmul(w) + 1)):matmul(w.T) end)
    local a, w = normal(128, 100), normal(100, 300)
    local one = f:cost(a, w)
    mlax.debug.passes("epilogue", false)
    local two = f:cost(a, w)
    mlax.debug.passes("epilogue", true)
    assert.are.equal(two.flops, one.flops)
    assert.is_true(one.peak <= two.peak)
    assert.are.equal(2 * 128 * 300 * 4, two.bytes - one.bytes)
  end)
end)

describe("debug.passes", function()
  it("says and switches what is on", function()
    local all = mlax.debug.passes()
    for _, name in ipairs(names) do
      assert.is_true(all[name])
      assert.is_true(mlax.debug.passes(name))
      assert.is_false(mlax.debug.passes(name, false))
      assert.is_false(mlax.debug.passes(name))
      assert.is_false(mlax.debug.passes()[name])
      assert.is_true(mlax.debug.passes(name, true))
      all[name] = nil
    end
    assert.is_nil(next(all))
  end)

  it("switches each pass by itself", function()
    local cases = {inline = {mlax.custom_jvp(function(a) return a:sin() end, function(p, t) return p[1]:sin(), t[1] end), "sin"},
      simplify = {function(a) return -(-a) end, ""}, cse = {function(a) return a:sin() * a:sin() end, "sin mul"},
      sink = {function(a) return a:broadcast_to{4, 9}:sin() end, "sin broadcast"},
      fold = {function() return mlax.range(1, 3):astype("float32"):sin() end, ""}}
    for name, case in pairs(cases) do
      local f, args = case[1], name == "fold" and {} or {odd}
      local plain
      only({}, function() plain = optimized(f, table.unpack(args)) end)
      assert.are_not.equal(case[2], plain)
      only({name}, function() assert.are.equal(case[2], optimized(f, table.unpack(args))) end)
    end
  end)

  it("is part of the key of compiled functions", function()
    local f = mlax.jit(function(a) return a:exp() + a:exp() end)
    f(x)
    mlax.debug.passes("cse", false)
    f(x)
    assert.are.equal(2, f:traces())
    assert.are.equal("passes were switched by debug.passes", f:explain())
    mlax.debug.passes("cse", true)
    f(x)
    assert.are.equal(2, f:traces())
  end)

  it("switches fusion and the use of dead operands", function()
    local f = mlax.jit(function(a) return (a * 2 + 1):sin() end)
    assert.matches("mul+add+sin {", tostring(f:program(x, {optimized = true})), 1, true)
    mlax.debug.passes("fusion", false)
    assert.is_nil(tostring(f:program(x, {optimized = true})):find("{\n", 10, true))
    local one = f:cost(mlax.ones{1000}).peak
    mlax.debug.passes("in_place", false)
    assert.is_true(f:cost(mlax.ones{1000}).peak > one)
    switch(true, "fusion", "in_place")
    assert.is_true(f:cost(mlax.ones{1000}).peak < one)
  end)

  it("is off as a whole while NaN are looked for", function()
    mlax.debug.nans(true)
    local text = optimized(function(a) return -(-a) end, x)
    mlax.debug.nans(false)
    assert.are.equal("neg neg", text)
  end)

  it("tells wrong names from known ones", function()
    local wrong = helper.message(mlax.debug.passes, "fusoin")
    assert.matches("unknown pass 'fusoin', did you mean 'fusion'? (known: inline, simplify", wrong, 1, true)
    assert.matches("the pass is no name (got 3)", helper.message(mlax.debug.passes, 3), 1, true)
    assert.matches("the switch", helper.message(mlax.debug.passes, "cse", 1), 1, true)
  end)
end)

describe("an optimized program", function()
  it("is shown in steps, also inside", function()
    local f = mlax.jit(function(a, s) return mlax.scan(function(c, b) return (c * b + 1):tanh(), c end, a, s) end)
    assert.matches("mul+add+tanh {", tostring(f:program(x, mlax.stack({x, y}, 1), {optimized = true})), 1, true)
    assert.is_nil(tostring(f:program(x, mlax.stack({x, y}, 1), {optimized = false})):find("mul+add", 1, true))
    assert.are.equal(1, #f:program(x, mlax.stack({x, y}, 1), {optimized = true}))
  end)

  it("takes tables that only look like options as arguments", function()
    local f = mlax.jit(function(t) return t.optimized * 2 end)
    assert.matches("mul", tostring(f:program{optimized = x}), 1, true)
    assert.matches("mul", tostring(f:program({optimized = x}, {optimized = true})), 1, true)
  end)
end)
