-- mlax.profile: the trace file, the printed table, and what it leaves behind.
local mlax = require "mlax"
local json = require "dkjson" -- busted needs it

local function slurp(path)
  local file = io.open(path)
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

-- What mlax.profile prints, what it returns, and the trace as a table (nil: no file).
local function profile(f)
  local path, stdout, printed = os.tmpname(), io.stdout, {}
  os.remove(path)
  rawset(io, "stdout", {write = function(_, ...) printed[#printed + 1] = table.concat({...}) end})
  local results = table.pack(pcall(mlax.profile, path, f))
  rawset(io, "stdout", stdout)
  local text = slurp(path)
  os.remove(path)
  if not text then return table.concat(printed), results, nil end
  local trace, _, problem = json.decode(text)
  assert.is_nil(problem)
  return table.concat(printed), results, trace
end

-- The steps of a trace: its events but for the process name and the frame of the whole.
local function steps_of(trace)
  local list = {}
  for _, event in ipairs(trace.traceEvents) do
    if event.ph == "X" and event.name ~= "profile" then list[#list + 1] = event end
  end
  return list
end

local function named(trace, name)
  local list = {}
  for _, event in ipairs(steps_of(trace)) do
    if event.name == name then list[#list + 1] = event end
  end
  return list
end

-- Ordinary memory: mlax.ones repeats one element.
local function draw(shape) return mlax.random.normal(mlax.random.key(1), shape) end

local function line_here() return debug.getinfo(2, "l").currentline end

describe("mlax.profile", function()
  it("gives what the function returns", function()
    local _, results = profile(function() return (mlax.ones{3} * 2):sum():item(), nil, "text", nil end)
    assert.are.same({n = 5, true, 6.0, nil, "text", nil}, results)
  end)

  it("records each eager operation with line, shapes, flops and bytes", function()
    local x, y = draw{3, 5}, draw{5, 7}
    local line
    local _, _, trace = profile(function()
      line = line_here() + 1
      return mlax.matmul(x, y)
    end)
    local steps = steps_of(trace)
    assert.are.equal(1, #steps)
    local args = steps[1].args
    assert.are.equal("dot_general", steps[1].name)
    assert.are.equal("matmul", args.op)
    assert.is_truthy(args.line:find("profile_spec.lua:" .. line .. "$"))
    assert.are.equal("float32[3,5] float32[5,7]", args.operands)
    assert.are.equal("float32[3,7]", args.results)
    assert.are.equal(2 * 3 * 5 * 7, args.flops)
    assert.are.equal(4 * (3 * 5 + 5 * 7 + 3 * 7), args.bytes)
    assert.are.equal(1, args.calls)
  end)

  it("counts a repeated axis of an operand once", function()
    local x, row = draw{8, 4}, mlax.array{1, 2, 3, 4}:broadcast_to{8, 4}
    local _, _, trace = profile(function() return x + row end)
    assert.are.equal(4 * (8 * 4 + 4 + 8 * 4), steps_of(trace)[1].args.bytes)
  end)

  it("records each step of compiled code, at every call, and no tracing", function()
    local f = mlax.jit(function(x) return mlax.exp(x):matmul(x) end)
    local x = mlax.ones{4, 4}
    f(x)
    local _, _, trace = profile(function() for _ = 1, 3 do f(x) end end)
    assert.are.equal(3, #named(trace, "exp"))
    assert.are.equal(3, #named(trace, "dot_general"))
    assert.is_truthy(named(trace, "exp")[1].args.line:find("profile_spec.lua:%d+$"))
  end)

  it("names a group of elementwise operations after them", function()
    local f = mlax.jit(function(x, y) return mlax.tanh(x * y + x) end)
    local g = mlax.jit(function(x) return ((x * 2):exp() + 1):sin():cos():cumsum(1) end)
    local x, y = draw{7}, draw{7}
    f(x, y)
    g(x)
    local _, _, trace = profile(function() f(x, y) g(x) end)
    local steps = steps_of(trace)
    assert.are.equal("mul+add+tanh", steps[1].name)
    assert.are.equal(3 * 7, steps[1].args.flops)
    assert.are.equal(3 * 7 * 4, steps[1].args.bytes)
    assert.are.equal("mul+exp+add+sin +1 more", steps[2].name)
    assert.are.equal("cumsum", steps[3].name)
  end)

  it("names a product with what is made of it, which alone goes to memory", function()
    local f = mlax.jit(function(x, y, b) return mlax.maximum(mlax.matmul(x, y) + b, 0) end)
    local g = mlax.jit(function(x, y, b)
      local z = mlax.matmul(x, y)
      return z + b, z
    end)
    local x, y, b = draw{7, 4}, draw{4, 9}, draw{9}
    f(x, y, b)
    g(x, y, b)
    local _, _, trace = profile(function() f(x, y, b) g(x, y, b) end)
    local steps = steps_of(trace)
    assert.are.equal(2, #steps)
    assert.are.equal("dot_general+add+maximum", steps[1].name)
    assert.are.equal(2 * 7 * 4 * 9 + 2 * 7 * 9, steps[1].args.flops)
    assert.are.equal(4 * (7 * 4 + 4 * 9 + 9 + 1 + 7 * 9), steps[1].args.bytes)
    assert.are.equal("dot_general+add", steps[2].name)
    assert.are.equal(4 * (7 * 4 + 4 * 9 + 9 + 2 * 7 * 9), steps[2].args.bytes)
  end)

  it("gathers the steps inside a scan", function()
    local f = mlax.jit(function(x)
      return (mlax.scan(function(carry, row) return mlax.matmul(carry, row) end, mlax.ones{6, 6}, x))
    end)
    local x = mlax.ones{50, 6, 6}
    f(x)
    local _, _, trace = profile(function() f(x) f(x) end)
    local scans, products = named(trace, "scan"), named(trace, "dot_general")
    assert.are.equal(2, #scans)
    assert.are.equal(2, #products)
    for i, step in ipairs(products) do
      assert.are.equal(50, step.args.calls)
      assert.are.equal(50 * 3 * 36 * 4, step.args.bytes)
      assert.are.equal(50 * 2 * 6 * 6 * 6, step.args.flops)
      assert.is_true(step.ts >= scans[i].ts - 0.0005)
      assert.is_true(step.ts + step.dur <= scans[i].ts + scans[i].dur + 0.0005)
    end
  end)

  it("draws steps side by side, in order, inside the whole", function()
    local x = mlax.ones{64, 64}
    local g = mlax.grad(function(v) return mlax.tanh(v:matmul(v)):sum() end)
    local _, _, trace = profile(function() g(x) g(x) end)
    local whole
    for _, event in ipairs(trace.traceEvents) do if event.name == "profile" then whole = event end end
    local last = 0
    for _, step in ipairs(steps_of(trace)) do
      assert.is_true(step.ts >= last - 0.0005)
      last = step.ts + step.dur
    end
    assert.is_true(last > 0 and last <= whole.dur + 0.0005)
    assert.are.equal(#steps_of(trace), trace.otherData.steps)
    assert.are.equal(0, trace.otherData["steps left out"])
  end)

  it("prints the heaviest ten, heaviest first, and the sum", function()
    local x = mlax.ones{300, 300}
    local printed = profile(function()
      local y = x
      for _ = 1, 5 do y = y:matmul(x) end
      return y:exp():log():sin():cos():tanh():sqrt():abs():neg():floor():ceil():round():sum()
    end)
    local lines = {}
    for line in printed:gmatch("[^\n]+") do lines[#lines + 1] = line end
    assert.are.equal(12, #lines)
    assert.is_truthy(lines[1]:find("^operation +line +result +calls +time +share +GF/s +GB/s$"))
    assert.is_truthy(printed:find("dot_general +%S+profile_spec.lua:%d+ +float32%[300,300%] +5 "))
    assert.is_truthy(lines[12]:find("^17 steps took .* of .*s$"))
    local last = math.huge
    for i = 2, 11 do
      local share = tonumber(lines[i]:match("([%d.]+)%%"))
      assert.is_true(share <= last)
      last = share
    end
  end)

  it("counts what is inside control flow there, and not twice", function()
    local x = mlax.ones{20, 3}
    local printed = profile(function()
      return (mlax.scan(function(carry, row) return carry + row end, mlax.zeros{3}, x))
    end)
    local sum = 0
    for share in printed:gmatch("([%d.]+)%%") do sum = sum + tonumber(share) end
    assert.is_true(sum > 99 and sum < 101)
    assert.is_truthy(printed:find("scan +%S+ +float32%[3%] +1 +[%d.]+ [um]?s +[%d.]+%%\n")) -- no rates of its own
  end)

  it("computes the same", function()
    local x = mlax.random.normal(mlax.random.key(3), {40, 40})
    local f = mlax.jit(mlax.grad(function(v) return mlax.softmax(v:matmul(v), 2):square():sum() end))
    local _, results = profile(function() return f(x) end)
    assert.is_true(mlax.tree.equal(f(x), results[2]))
  end)

  it("writes a table without steps for a function that computes nothing", function()
    local printed, _, trace = profile(function() end)
    assert.are.equal(0, #steps_of(trace))
    assert.is_truthy(printed:find("\n0 steps took 0.0 us of "))
  end)

  it("writes JSON whatever a chunk is called", function()
    local f = assert(load("local x = ... return x + 1", '@odd "name"\\\1\255 \xC3\xA9\xF0\x9F\x98\x80\xED\xA0\x80'))
    local _, _, trace = profile(function() return f(mlax.ones{2}) end)
    assert.are.equal('odd "name"\\\1? \xC3\xA9\xF0\x9F\x98\x80???:1', steps_of(trace)[1].args.line)
  end)

  it("takes jitted functions and modules", function()
    local _, results = profile(mlax.jit(function() return mlax.ones{2} + 1 end))
    assert.is_true(results[1])
    assert.are.same({2.0, 2.0}, results[2]:totable())
  end)

  it("passes an error of the function on, writes no file, and ends", function()
    local value = {}
    local printed, results, trace = profile(function()
      local _ = mlax.ones{2} + 1
      error(value)
    end)
    assert.are.equal("", printed)
    assert.is_false(results[1])
    assert.are.equal(value, results[2])
    assert.is_nil(trace)
    assert.is_true(profile(function() end) ~= "")
  end)

  it("ends for the caller of a coroutine that is dropped", function()
    local co = coroutine.wrap(function() mlax.profile("/never/written", coroutine.yield) end)
    co()
    co = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.is_true(profile(function() end) ~= "")
  end)

  it("gives nil and a message where the file cannot be written", function()
    local ok, message = mlax.profile("/no/such/folder/trace.json", function() return mlax.ones{2} + 1 end)
    assert.is_nil(ok)
    assert.is_truthy(message:find("/no/such/folder/trace.json", 1, true))
  end)

  it("refuses one inside another", function()
    local _, results = profile(function() return mlax.profile(os.tmpname(), function() end) end)
    assert.is_false(results[1])
    assert.is_truthy(results[2]:find("profile_spec.lua:%d+: profile: another profile is being made %(need one at a time%)"))
  end)

  it("says what is wrong with its arguments", function()
    local function message(...) return select(2, pcall(mlax.profile, ...)) end
    assert.is_truthy(message(1, print):find("profile: the path is no string %(got 1%)"))
    assert.is_truthy(message("x"):find("profile: a function or module is needed %(got nil%)"))
    assert.is_truthy(message("x", print, 3):find("profile: too many arguments %(got 3 after the function%)"))
    assert.is_truthy(message("a\0b", function() end):find("profile: the path holds a zero byte"))
  end)
end)
