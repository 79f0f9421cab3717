--- Values that are computed in their place: parts of a concat or a pad (src/compile/parts.c), operands that a few elements change
-- (plan.c: overwrites).
local mlax = require "mlax"
local helper = require "spec.helper"

local function matrix(i, rows, columns) return mlax.random.normal(mlax.random.key(i), {rows or 16, columns or 8}) end
local w = matrix(99, 8, 8) * 0.3

local function without(body)
  mlax.debug.passes("in_place", false)
  local ok, message = pcall(body)
  mlax.debug.passes("in_place", true)
  if not ok then error(message, 0) end
end

-- Runs f with and without the pass: the same bits. Returns the bytes that steps move and those of the arena, with and without.
local function compare(f, ...)
  local args, want, moved, peak = table.pack(...), {}, nil, nil
  local function run()
    local got, results = {}, 0
    for k, y in ipairs(table.pack(mlax.jit(f)(table.unpack(args, 1, args.n)))) do
      got[k] = y:tostring_bytes()
      results = results + #got[k]
    end
    local cost = mlax.jit(f):cost(table.unpack(args, 1, args.n))
    return got, cost.bytes, cost.peak - results
  end
  without(function() want, moved, peak = run() end)
  local got, bytes, arena = run()
  assert.are.same(want, got)
  return bytes, arena, moved, peak
end

describe("a part of a concat", function()
  local x = matrix(1) -- 16 x 8: 512 bytes

  it("is computed in the result, and the step vanishes", function()
    local bytes, arena, moved, peak = compare(function(a) return mlax.concat({a:matmul(w), a:matmul(w):matmul(w)}, 1) end, x)
    assert.are.equal(2 * 1024, moved - bytes) -- reads and writes two parts
    assert.are.equal(0, arena)
    assert.are.equal(2 * 512, peak)
  end)

  it("may be what elementwise operations make, stacked, with a unit axis before", function()
    local bytes, arena, moved = compare(function(a)
      local t = {}
      for i = 1, 4 do t[i] = (a:matmul(w) + i):sin() end
      return mlax.stack(t, 1):expand_dims(1), mlax.concat({t[1]:expand_dims(1) * 2, t[2]:expand_dims(1) * 3}, 2)
    end, x)
    assert.is_true(arena <= 512 + 64, tostring(arena)) -- the one product
    assert.is_true(moved - bytes >= 2 * 4 * 512 + 2 * 2 * 512)
  end)

  it("is copied where it is an input, a constant, a view, a result, or used up already", function()
    local constant = matrix(5)
    for name, f in pairs{
      input = function(a) return mlax.concat({a, a:matmul(w)}, 1) end,
      constant = function(a) return mlax.concat({a:matmul(w), constant}, 1) end,
      view = function(a)
        local t = a:matmul(w)
        return mlax.concat({t[{{2, 5}}], t[{{1, 3}}]}, 1), mlax.concat({t[{{-1, 1, -1}}], t.T:reshape{16, 8}}, 1)
      end,
      result = function(a)
        local t = a:matmul(w)
        return t, mlax.concat({t, t * 2}, 1)
      end,
      twice = function(a)
        local t = a:matmul(w)
        return mlax.concat({t, t, t}, 1), mlax.concat({t * 2, t}, 1)
      end,
      ["not outermost"] = function(a)
        local t = a:matmul(w)
        return mlax.concat({t, t:sin()}, 2)
      end,
      empty = function(a)
        local t = a:matmul(w)
        return mlax.concat({t[{{1, 0}}], t, t[{{1, 0}}] * 2}, 1), mlax.concat({t[{{1, 0}}], a[{{1, 0}}] * 3}, 1)
      end,
    } do
      local ok, message = pcall(compare, f, x)
      assert.is_true(ok, name .. ": " .. tostring(message))
    end
  end)

  it("is still there for other readers, and is not overwritten by them", function()
    compare(function(a)
      local t, u = a:matmul(w), a:sin():matmul(w)
      local both = mlax.concat({t, u}, 1)
      return (t + 1):sin() * u, both:matmul(w), both * 2 + 1, mlax.concat({both, t * 2}, 1)
    end, x)
  end)

  it("lies in a result that is itself a part", function()
    local bytes, arena, moved = compare(function(a)
      local t = a:matmul(w)
      local inner = mlax.concat({t, t:matmul(w)}, 1)
      return mlax.concat({a:sin(), inner, inner:matmul(w)}, 1)
    end, x)
    assert.are.equal(0, arena)
    assert.are.equal(2 * 1024 + 2 * 5 * 512, moved - bytes)
  end)

  it("grows a list step by step in one place", function()
    local bytes, arena, moved = compare(function(a)
      local all = a:matmul(w)
      for _ = 1, 5 do all = mlax.concat({all, all[{{-16, -1}}]:matmul(w)}, 1) end
      return all
    end, x)
    assert.are.equal(0, arena)
    assert.are.equal(2 * 512 * (2 + 3 + 4 + 5 + 6), moved - bytes)
  end)

  it("is copied where the result would live too long", function()
    local _, arena, _, peak = compare(function(a)
      local early, late = a:sin(), a
      for i = 1, 6 do late = late:matmul(w) + i end -- with two values of 512 bytes at a time
      local tall = mlax.concat({late, late * 2, late:cos(), late:tanh(), late - 1, late + 1}, 1):matmul(w)
      return mlax.concat({early:matmul(w), tall}, 1):sum(1)
    end, x)
    assert.is_true(arena <= peak, ("%d, was %d"):format(arena, peak))
  end)

  it("may be padded", function()
    local f = function(a) return (a:matmul(w):pad({{1, 2}, {0, 0}}, {value = 7}):sum(2)) end
    local _, arena, _, peak = compare(f, x)
    assert.is_true(peak - arena >= 448, ("%d, was %d"):format(arena, peak))
    local y = f(x)
    assert.are.equal(7 * 8, y[1]:item())
    assert.are.equal(7 * 8, y[19]:item())
    compare(function(a)
      local t = a:matmul(w)
      return t:pad({{0, 1}, {0, 0}}) + 1, t:sin():pad({{1, 0}, {2, 0}}), t:cos():pad({{0, 2}, {0, 0}}):pad({{3, 0}, {0, 0}})
    end, x)
  end)

  it("gives its memory back to donors", function()
    local step = mlax.jit(function(a, b) return mlax.concat({a[{{2, -1}}] * 1, b:matmul(w)}, 1), a * 2 end, {donate_argnums = 1})
    local want = mlax.concat({x[{{2, -1}}], x[{{1, 1}}]:matmul(w)}, 1):tostring_bytes()
    local first, second = step(x * 1, x[{{1, 1}}])
    assert.are.equal(want, first:tostring_bytes())
    assert.are.equal((x * 2):tostring_bytes(), second:tostring_bytes())
  end)
end)

describe("an operand that a few elements change", function()
  local x, row = matrix(1, 64), matrix(2, 1)[1]

  it("is changed where it is", function()
    for _, f in ipairs{
      function(a, b) return a:matmul(w):at{3}:set(b):sum(2) end,
      function(a, b) return a:matmul(w):at{mlax.array({1, 5, 1}, "int32")}:add(b):sum(2) end,
      function(a, b) return mlax.dynamic_update_slice(a:matmul(w), b:expand_dims(1), {4, 1}):sum(2) end,
    } do
      local _, arena, _, peak = compare(f, x, row)
      assert.are.equal(64 * 8 * 4, peak - arena)
    end
  end)

  it("is copied where somebody reads it later, or in the same step", function()
    compare(function(a, b)
      local t = a:matmul(w)
      local u = t:at{3}:set(b)
      return u:matmul(w), t:matmul(w), t:at{2}:set(t[5]):matmul(w), u:at{1}:set(u[2]):at{2}:add(u[1])
    end, x, row)
  end)

  it("takes the memory of a donated argument", function()
    local f = mlax.jit(function(a, b) return a:at{3}:set(b) end, {donate_argnums = 1})
    local state = mlax.zeros{1000, 8} + 1
    state = f(state, row)
    local grown = helper.growth(5, function() state = f(state, row) end)
    assert.is_true(grown < 16000, grown .. " bytes more")
    assert.are.equal(row:tostring_bytes(), state[3]:tostring_bytes())
    assert.are.equal(1, state[2][1]:item())
  end)
end)

describe("the carry of a loop", function()
  local function i32(k) return mlax.array(k, "int32") end
  local start = {a = matrix(1, 8), b = matrix(2, 8), k = i32(1)}

  -- Bodies that read what they write before, after and in the same step: {a, b, k} -> the same, and what to stack.
  local bodies = {
    function(c) return {a = c.a:at{c.k}:set(7), b = c.b:at{c.k}:add(c.a[c.k]), k = c.k + 1}, c.a[c.k] end,
    function(c) return {a = c.b, b = c.a, k = c.k + 1}, c.a * c.b end,
    function(c) return {a = c.b * 2, b = c.a + 1, k = c.k + 1}, c.b end,
    function(c)
      local a = (c.a * 0.5):sin()
      return {a = a, b = c.b + c.a - a, k = c.k + 1}, a
    end,
    function(c)
      local a = c.a:matmul(w):tanh()
      return {a = a, b = a, k = c.k + 1}, {a, c.a}
    end,
    function(c) return {a = c.a.T, b = c.b:at{1}:set(c.b[2]), k = c.k + 1}, c.b[1] end,
    function(c) return {a = c.a, b = mlax.concat({c.b[{{2, 8}}], c.a[{{1, 1}}] * 2}, 1), k = c.k + 1}, c.a[1] end,
    function(c) return {a = c.a:at{c.k}:set(c.a:sum(1)), b = c.b - c.b:mean(1), k = c.k + 1}, c.b:sum() end,
  }

  local function all_bits(tree)
    local found = {}
    for _, leaf in ipairs(mlax.tree.leaves(tree)) do found[#found + 1] = leaf:tostring_bytes() end
    return found
  end

  it("is written where it is read, with the same bits", function()
    for number, body in ipairs(bodies) do
      local c, ys = start, {}
      for i = 1, 6 do c, ys[i] = mlax.jit(body)(c) end
      local before = all_bits(start)
      local got, stacked = mlax.jit(function(s) return mlax.scan(function(t) return body(t) end, s, nil, {length = 6}) end)(start)
      assert.are.same(all_bits(c), all_bits(got), "scan " .. number)
      assert.are.same(all_bits(ys[6]), all_bits(mlax.tree.map(function(y) return y[6] end, stacked)), "results " .. number)
      assert.are.same(all_bits(ys[2]), all_bits(mlax.tree.map(function(y) return y[2] end, stacked)), "results " .. number)
      local again = mlax.jit(function(s)
        return mlax.while_loop(function(t) return t.k:le(6) end, function(t) return (body(t)) end, s)
      end)(start)
      assert.are.same(all_bits(c), all_bits(again), "while_loop " .. number)
      assert.are.same(before, all_bits(start), "what it starts with " .. number)
    end
  end)

  it("costs nothing where few elements change", function()
    local function time(n)
      local f = mlax.jit(function(x) return (mlax.scan(function(c, i) return c:at{i}:set(2), nil end, x, mlax.range(1, 500))) end)
      local x, best = mlax.zeros{n}, math.huge
      for _ = 1, 3 do
        local began = os.clock()
        f(x)
        best = math.min(best, os.clock() - began)
      end
      return best
    end
    local small, large = time(1000), time(1000000)
    assert.is_true(large < 5 * small + 0.05, ("%g and %g s"):format(small, large)) -- copied: 0.15 s
  end)
end)

describe("random programs of parts", function()
  it("have the same bits in place", function()
    for seed = 1, 150 do
      local function program(...)
        local draw = math.random
        math.randomseed(seed)
        local values, out = {...}, {}
        local function any() return values[draw(#values)] end
        for _ = 1, 14 do
          local a, kind = any(), draw(9)
          local new
          if kind <= 2 then new = a:matmul(w)
          elseif kind == 3 then new = (a * 0.5 + draw()):sin()
          elseif kind <= 5 and #a <= 64 then new = mlax.concat({a, any()[{{1, draw(8)}}] * 2, any()[{{1, 8}}]}, 1)
          elseif kind == 6 and #a <= 64 then new = mlax.concat({a, a:sin(), a}, 1)
          elseif kind == 7 then new = a:pad({{draw(0, 2), draw(0, 2)}, {0, 0}})
          elseif kind == 8 then new = a:at{draw(8)}:set(any()[draw(8)])
          else new = a[{{draw(4), -1}}] end
          if #new < 8 then new = new:pad({{0, 8}, {0, 0}}) end
          values[#values + 1] = new
        end
        for i = 1, 3 do out[i] = any() end
        return table.unpack(out)
      end
      local ok, message = pcall(compare, program, matrix(1), matrix(2))
      assert.is_true(ok, ("seed %d: %s"):format(seed, message))
    end
  end)
end)
