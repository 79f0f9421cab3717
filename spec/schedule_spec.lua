--- The order of steps (src/compile/schedule.c) and their places in the arena (place.c): what they save, and what they keep.
local mlax = require "mlax"
local helper = require "spec.helper"

local MATRIX = 128 * 128 * 4 -- bytes

local function matrix(i) return mlax.random.normal(mlax.random.key(i), {128, 128}) * 0.1 end

-- The primitives in the order in which they run; those of a step of several in brackets.
local function order(f, ...)
  local args, found = table.pack(...), {}
  args[args.n + 1] = {optimized = true}
  local text = tostring(mlax.jit(f):program(table.unpack(args, 1, args.n + 1)))
  for line in text:gmatch("[^\n]+") do
    found[#found + 1] = line:match("^    (%g+) {$") or line:match("^    %S.- = ([%w_]+)") or line:match("^    (debug_%w+)")
  end
  return table.concat(found, " ")
end

local function without_schedule(body)
  mlax.debug.passes("schedule", false)
  local ok, message = pcall(body)
  mlax.debug.passes("schedule", true)
  if not ok then error(message, 0) end
end

-- Matrices in the arena at once, as traced and as scheduled; checks that results are the same bits.
local function peaks(f, ...)
  local args = table.pack(...)
  local function peak()
    local results, bytes = 0, {}
    for i, y in ipairs(mlax.jit(f)(table.unpack(args, 1, args.n))) do
      bytes[i] = y:tostring_bytes()
      results = results + #bytes[i]
    end
    return (mlax.jit(f):cost(table.unpack(args, 1, args.n)).peak - results) / MATRIX, bytes
  end
  local traced, want
  without_schedule(function() traced, want = peak() end)
  local scheduled, got = peak()
  assert.are.same(want, got)
  return traced, scheduled
end

describe("the schedule", function()
  -- Behind products updates and sums would be done with them, and hardly a value would wait for anything.
  setup(function() mlax.debug.passes("epilogue", false) end)
  teardown(function() mlax.debug.passes("epilogue", true) end)

  -- Weights' gradients on the way back, then all updates, as optimizers trace them.
  local function descend(x, ...)
    local weights, grads, updated = {...}, {}, {}
    local acts = {x}
    for i, w in ipairs(weights) do acts[i + 1] = acts[i]:matmul(w) end
    local g = acts[#acts]
    for i = #weights, 1, -1 do
      grads[i] = acts[i].T:matmul(g)
      g = g:matmul(weights[i].T)
    end
    for i, w in ipairs(weights) do updated[i] = w - 0.1 * grads[i] end
    return table.unpack(updated)
  end
  local weights = {}
  for i = 1, 8 do weights[i] = matrix(i) end

  local x = matrix(0)[{{1, 32}}] -- a quarter of a matrix, and so are the values between layers

  it("uses a value up as soon as it can die", function()
    local traced, scheduled = peaks(function(...) return {descend(...)} end, x, table.unpack(weights))
    assert.are.equal(8.25, traced) -- eight gradients, and what the last one is made of
    assert.are.equal(3, scheduled) -- eight values between layers, one gradient
  end)

  it("shows in the optimized program", function()
    local forward, back = ("dot_general "):rep(8), "transpose dot_general "
    -- The update of a weight waits until that is read: its memory may be donated.
    assert.matches("^" .. forward .. (back:rep(2) .. "mul%+sub "):rep(7) .. back .. "mul%+sub$",
      order(descend, x, table.unpack(weights)))
    without_schedule(function()
      assert.matches("^" .. forward .. back:rep(15) .. ("mul%+sub"):rep(8, " "),
        order(descend, x, table.unpack(weights)))
    end)
  end)

  it("leaves alone what it could not make smaller, and what is small", function()
    local function chain(v) return v:matmul(v):matmul(v):sin():matmul(v) end
    local function small(v, ...) return descend(v, ...) end
    local cut = {}
    for i, w in ipairs(weights) do cut[i] = w[{{1, 32}, {1, 32}}] end
    for _, case in ipairs{{chain, matrix(1)}, {small, x[{{1, 8}, {1, 32}}], table.unpack(cut)}} do
      local with, without = order(table.unpack(case)), nil
      without_schedule(function() without = order(table.unpack(case)) end)
      assert.are.equal(without, with)
    end
  end)

  -- Four branches, traced side by side: x (128, 128) -> (128, 512) -> (128, 512) -> (128, 128), added up.
  it("finishes a branch before the next begins", function()
    local wide, square, narrow = {}, {}, {}
    for i = 1, 4 do
      wide[i] = mlax.random.normal(mlax.random.key(i), {128, 512}) * 0.1
      square[i] = mlax.random.normal(mlax.random.key(10 + i), {512, 512}) * 0.1
      narrow[i] = mlax.random.normal(mlax.random.key(20 + i), {512, 128}) * 0.1
    end
    local traced, scheduled = peaks(function(v)
      local t, sum = {}, 0
      for i = 1, 4 do t[i] = v:matmul(wide[i]) end
      for i = 1, 4 do t[i] = t[i]:matmul(square[i]) end
      for i = 1, 4 do sum = sum + t[i]:matmul(narrow[i]) end
      return {sum}
    end, matrix(9))
    assert.are.equal(20, traced)    -- four wide values and the next
    assert.are.equal(11, scheduled) -- two of a branch, and the sum of those before or their parts
  end)

  it("keeps what prints in order", function()
    local speak, lines = print, {}
    local function loud(v, ...)
      local results = {descend(v, ...)}
      for i, w in ipairs(results) do mlax.debug.print("%d", mlax.array(i, "int32") + 0 * w[1][1]:astype("int32")) end
      mlax.debug.print("input %d", 0 * v:sum():astype("int32"))
      return table.unpack(results)
    end
    _G.print = function(text) lines[#lines + 1] = text end -- luacheck: ignore 122
    local ok, message = pcall(mlax.jit(loud), x, table.unpack(weights))
    _G.print = speak -- luacheck: ignore 122
    assert(ok, message)
    assert.are.equal("1 2 3 4 5 6 7 8 input 0", table.concat(lines, " "))
  end)

  it("reports the first of two errors, as traced", function()
    local f = mlax.jit(function(v, i, ...)
      local first = v[i]
      return first, descend(v, ...)
    end)
    assert.matches("got 99", helper.message(f, x, mlax.array(99, "int32"), table.unpack(weights)), 1, true)
  end)

  it("lets results take the memory of donated arguments", function()
    local n = 300
    local step = mlax.jit(function(p, v) return {descend(v, table.unpack(p))} end, {donate_argnums = 1})
    local p, v = {}, mlax.random.normal(mlax.random.key(0), {8, n})
    for i = 1, 6 do p[i] = mlax.random.normal(mlax.random.key(i), {n, n}) * 0.01 end
    p = step(p, v)
    local grown = helper.growth(5, function() p = step(p, v) end)
    assert.is_true(grown < n * n * 4, ("5 calls leave %d bytes"):format(grown))
  end)

  -- Products and sums of values that were drawn at random, some of them results.
  it("keeps every bit of random programs, and never needs more", function()
    for seed = 1, 30 do
      local function program(...)
        local draw = math.random
        math.randomseed(seed)
        local values, out = {...}, {}
        for _ = 1, 40 do
          local a, b, kind = values[draw(#values)], values[draw(#values)], draw(6)
          local new
          if kind <= 2 then new = a:matmul(b) * 0.2
          elseif kind == 3 then new = (a + b.T):tanh()
          elseif kind == 4 then new = mlax.concat({a[{{1, 64}}], b[{{65, 128}}]}, 1)
          elseif kind == 5 then new = a - a:sum(1) * 0.01
          else new = a[{{}, {-1, 1, -1}}] * b end
          values[#values + 1] = new
        end
        for _ = 1, 3 do out[#out + 1] = values[draw(#values)] end
        return out
      end
      local traced, scheduled = peaks(program, matrix(1), matrix(2))
      assert.is_true(scheduled <= traced, ("seed %d: %g, was %g"):format(seed, scheduled, traced))
    end
  end)

  it("takes a moment for thousands of steps", function()
    local function long(v)
      local values = {v}
      for i = 1, 6000 do values[i + 1] = values[i]:matmul(values[i // 2 + 1]) end
      return values[#values]
    end
    local f = mlax.jit(long)
    local start = os.clock()
    f:cost(mlax.ones{64, 64})
    assert.is_true(os.clock() - start < 2, "it took " .. os.clock() - start .. " s") -- 0.05 on an idle machine
  end)
end)
