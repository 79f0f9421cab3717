-- x[...] and x:at{...} against a plain Lua model of NumPy's rules, on random keys.
local mlax = require "mlax"
local helper = require "spec.helper"

-- The model: what a key picks is a list of rows {position in x from 1, ...}, with a shape.

local function lists_product(shape)
  local out = {{}}
  for _, n in ipairs(shape) do
    local next_out = {}
    for _, head in ipairs(out) do
      for i = 1, n do
        local row = {table.unpack(head)}
        row[#row + 1] = i
        next_out[#next_out + 1] = row
      end
    end
    out = next_out
  end
  return out
end

local function slice_positions(item, n)
  local a, b, step = item[1], item[2], item[3] or 1
  if a == nil then a, b = 1, n elseif b == nil then b = a end
  if a < 0 then a = n + a + 1 end
  if b < 0 then b = n + b + 1 end
  local out = {}
  for i = a, b, step do out[#out + 1] = i end
  return out
end

local function broadcast_shapes(list)
  local out = {}
  for _, s in ipairs(list) do
    for k = 0, #s - 1 do
      local n = s[#s - k]
      if out[k + 1] == nil or out[k + 1] == 1 then out[k + 1] = n end
    end
  end
  local r = {}
  for k = #out, 1, -1 do r[#r + 1] = out[k] end
  return r
end

-- The element of a flat list of this shape at an index that may be longer (broadcast).
local function element(flat, shape, index)
  local off = #index - #shape
  local at = 0
  for k, n in ipairs(shape) do at = at * n + (n == 1 and 0 or index[off + k] - 1) end
  return flat[at + 1]
end

-- shape of x, key (table form) -> shape of the result, list of positions in row-major order of the result
local function model(shape, key)
  local items, used, rest = {}, 0, nil
  for i, k in ipairs(key) do
    if k == "..." then rest = i elseif k ~= "new" then used = used + 1 end
  end
  for i, k in ipairs(key) do
    if i == rest then for _ = 1, #shape - used do items[#items + 1] = {kind = "slice", {}} end
    elseif k == "new" then items[#items + 1] = {kind = "new"}
    elseif math.type(k) == "integer" then items[#items + 1] = {kind = "int", k}
    elseif mlax.is_array(k) then items[#items + 1] = {kind = "array", k}
    else items[#items + 1] = {kind = "slice", k} end
  end
  if not rest then for _ = 1, #shape - used do items[#items + 1] = {kind = "slice", {}} end end
  local axis, arrays, runs, first, last_advanced = 0, {}, 0, nil, false
  for i, item in ipairs(items) do
    if item.kind ~= "new" then axis = axis + 1 item.axis = axis end
    local advanced = item.kind == "int" or item.kind == "array"
    if advanced and not last_advanced then runs = runs + 1 first = first or i end
    last_advanced = advanced
    if item.kind == "array" then arrays[#arrays + 1] = item[1].shape end
    if item.kind == "slice" then item.positions = slice_positions(item[1], shape[axis]) end
  end
  local space = broadcast_shapes(arrays)
  local out, source = {}, {}
  local function place()
    for k, n in ipairs(space) do out[#out + 1] = n source[#source + 1] = {space = k} end
  end
  if #arrays > 0 and runs ~= 1 then place() end
  for i, item in ipairs(items) do
    if #arrays > 0 and runs == 1 and i == first then place() end
    if item.kind == "new" then out[#out + 1] = 1 source[#source + 1] = {}
    elseif item.kind == "slice" then out[#out + 1] = #item.positions source[#source + 1] = {item = item} end
  end
  local positions = {}
  for _, index in ipairs(lists_product(out)) do
    local at, where = {}, {}
    for k, s in ipairs(source) do
      if s.space then where[s.space] = index[k] elseif s.item then at[s.item.axis] = s.item.positions[index[k]] end
    end
    for _, item in ipairs(items) do
      if item.kind == "int" then at[item.axis] = item[1] < 0 and shape[item.axis] + item[1] + 1 or item[1]
      elseif item.kind == "array" then
        local v = element(helper.flat(item[1]), item[1].shape, where)
        at[item.axis] = v < 0 and shape[item.axis] + v + 1 or v
      end
    end
    positions[#positions + 1] = at
  end
  return out, positions
end

local function offset(shape, at)
  local o = 0
  for k, n in ipairs(shape) do o = o * n + at[k] - 1 end
  return o + 1
end

local function random_key(shape, with_arrays)
  local key = {}
  local many = math.random(0, #shape)
  local k = {math.random(1, 3), 1}
  for axis = 1, many do
    local n, kind = shape[axis], math.random(with_arrays and 5 or 3)
    if math.random(6) == 1 then key[#key + 1] = "new" end
    if kind == 1 then key[#key + 1] = math.random(n) * (math.random(2) == 1 and 1 or -1)
    elseif kind == 2 then
      local a, b = math.random(n), math.random(n)
      if math.random(3) == 1 then a = a - n - 1 end
      key[#key + 1] = {a, b, ({1, 2, -1, -2})[math.random(4)]}
    elseif kind == 3 then key[#key + 1] = {}
    else
      local s = ({{}, {k[1]}, {2, k[1]}, {2, 1}})[math.random(4)]
      local ids = {}
      local size = 1
      for _, v in ipairs(s) do size = size * v end
      for i = 1, size do ids[i] = math.random(n) * (math.random(3) == 1 and -1 or 1) end
      key[#key + 1] = mlax.array(ids, "int32"):reshape(s)
    end
  end
  if many < #shape and math.random(3) == 1 then key[#key + 1] = "..." end
  return key
end

local shapes = {{5}, {3, 4}, {2, 3, 4}, {2, 3, 2, 3}}

local function data(shape)
  local n = 1
  for _, v in ipairs(shape) do n = n * v end
  return mlax.range(1, n, 1, "float32"):reshape(shape), n
end

describe("reading", function()
  for _, arrays in ipairs{false, true} do
    it("follows NumPy on random keys" .. (arrays and " with index arrays" or ""), function()
      math.randomseed(7)
      for trial = 1, 150 do
        local shape = shapes[trial % #shapes + 1]
        local x = data(shape)
        local key = random_key(shape, arrays)
        local want_shape, positions = model(shape, key)
        local y = x[key]
        assert.same(want_shape, y.shape)
        local want = {}
        for i, at in ipairs(positions) do want[i] = offset(shape, at) + 0.0 end
        assert.same(want, helper.flat(y))
        if trial % 10 == 0 then assert.same(want, helper.flat(mlax.jit(function(a) return a[key] end)(x))) end
      end
    end)
  end
end)

describe("at", function()
  it("updates what the same key reads, on random keys", function()
    math.randomseed(11)
    for trial = 1, 150 do
      local shape = shapes[trial % #shapes + 1]
      local x, n = data(shape)
      local key = random_key(shape, true)
      local want_shape, positions = model(shape, key)
      local v = mlax.range(1, math.max(#positions, 1), 1, "float32")["1:" .. math.max(#positions, 1)]
      v = #positions > 0 and (v * 100):reshape(want_shape) or mlax.zeros(want_shape)
      local set, add = {}, {}
      for i = 1, n do set[i], add[i] = i + 0.0, i + 0.0 end
      for i, at in ipairs(positions) do
        local o = offset(shape, at)
        set[o], add[o] = i * 100.0, add[o] + i * 100.0
      end
      assert.same(set, helper.flat(x:at(key):set(v)))
      -- with integers and slices alone no position is met twice, or all of them are added
      assert.same(add, helper.flat(x:at(key):add(v)))
      if trial % 10 == 0 then assert.same(set, helper.flat(mlax.jit(function(a, b) return a:at(key):set(b) end)(x, v))) end
    end
  end)

  it("multiplies, takes the least and the greatest", function()
    local x = mlax.array{1, 2, 3, 4, 5}
    local ids = mlax.array({2, 2, -1}, "int32")
    assert.same({1, 12, 3, 4, 20}, x:at{ids}:mul(mlax.array{2, 3, 4}):totable())
    assert.same({1, -3, 3, 4, 4}, x:at{ids}:min(mlax.array{2, -3, 4}):totable())
    assert.same({1, 9, 3, 4, 5}, x:at{ids}:max(mlax.array{2, 9, 4}):totable())
    assert.same({2, 2, 6, 4, 10}, x:at{{1, 5, 2}}:mul(2):totable())
    assert.same({0, 2, 0, 4, 0}, x:at{{5, 1, -2}}:min(0):totable())
  end)

  it("keeps the last of repeated positions, the dtype, and the array", function()
    local x = mlax.zeros({3}, "int32")
    assert.same({3, 0, 2}, x:at{mlax.array({1, 3, 1}, "int32")}:set(mlax.array({1, 2, 3}, "int32")):totable())
    assert.equal("int32", x:at{1}:set(2.7).dtype)
    assert.same({2, 0, 0}, x:at{1}:set(2.7):totable())
    assert.same({0, 0, 0}, x:totable())
    assert.same({0}, x:at{{2, 2}}:get():totable())
  end)

  it("raises on updates that do not fit", function()
    local x = mlax.zeros{2, 3}
    assert.matches("^at:set: index 3 is out of range on axis 1 %(got 3, need 1..2 or %-2..%-1%)$",
      helper.message(function() return x:at{3}:set(1) end))
    assert.matches("^at:set: ", helper.message(function() return x:at{1}:set(mlax.ones{2}) end))
    assert.matches("^at:add: ", helper.message(function() return x:at{1}:add("1") end))
    assert.matches("^at:add: index 7 is out of range", helper.message(function() return x:at{mlax.array({7}, "int32")}:add(1) end))
  end)
end)

describe("strings", function()
  it("are parsed as the table form", function()
    local x = data{4, 5}
    local cases = {
      ["2:4, -1"] = {{2, 4}, -1}, ["..., ::2"] = {"...", {1, 5, 2}}, ["new, :"] = {"new", {}}, ["::-1"] = {{4, 1, -1}},
      ["2"] = {2}, ["-1"] = {-1}, [":3"] = {{1, 3}}, ["3:"] = {{3, 4}}, ["4:2:-1"] = {{4, 2, -1}}, ["1 , 2 "] = {1, 2},
      ["-2:, ..."] = {{-2, -1}, "..."},
    }
    for text, key in pairs(cases) do assert.same(x[key]:totable(), x[text]:totable(), text) end
    assert.same(x[{{2, 4}, -1}]:totable(), x[{"2:4", "-1"}]:totable())
    assert.equal('index: cannot read the index "2;3" (need items like 2, -1, 2:4, ::2, ... or new, with commas)',
      helper.message(function() return x["2;3"] end))
  end)
end)

describe("slices", function()
  it("are for-like", function()
    local x = mlax.range(1, 5)
    assert.same({5, 3}, x[{{5, 2, -2}}]:totable())
    assert.same({}, x[{{3, 2}}]:totable())
    assert.same({}, x[{{1, 0}}]:totable())
    assert.same({}, x[{{6, 5}}]:totable())
    assert.same({}, x[{{4, 2}}]:totable())
    assert.same({4}, x[{{4}}]:totable())
    assert.same({}, mlax.zeros({0})[":"]:totable())
  end)

  it("raise on bounds outside, 0 and step 0", function()
    local x = mlax.range(1, 5)
    assert.matches("index 6 is out of range on axis 1 %(got 6, need 1..5 or %-5..%-1%)",
      helper.message(function() return x[{{2, 6}}] end))
    assert.matches("index 0 is out of range on axis 1: positions count from 1", helper.message(function() return x[{{0, 2}}] end))
    assert.matches("the step of a slice is 0", helper.message(function() return x[{{1, 2, 0}}] end))
    assert.matches("use dynamic_slice", helper.message(function() return x[{{mlax.array({1}, "int32"), 2}}] end))
  end)
end)

describe("masks", function()
  it("pick elements in order, eagerly", function()
    local x = data{2, 3}
    assert.same({2, 4, 6}, x[(x % 2):eq(0)]:totable())
    assert.same({{4, 5, 6}}, x[mlax.array{false, true}]:totable())
    assert.same({3, 6}, x[{{}, mlax.array{false, false, true}}]:flatten():totable())
    assert.same({{0, 2, 0}, {4, 0, 6}}, x:at{(x % 2):eq(1)}:set(0):totable())
    assert.matches("the mask does not fit axis 1 %(got length 3, need 2%)",
      helper.message(function() return x[mlax.ones({3}, "bool")] end))
  end)

  it("cannot be traced", function()
    assert.matches("use where", helper.message(mlax.jit(function(x) return x[x:gt(0)] end), mlax.ones{3}))
  end)
end)

describe("positions", function()
  local x = mlax.range(1, 6):reshape{2, 3}

  it("out of range raise with value, axis and line", function()
    assert.equal("index: index 3 is out of range on axis 1 (got 3, need 1..2 or -2..-1)", helper.message(function() return x[3] end))
    assert.equal("index: index 0 is out of range on axis 1: positions count from 1 (got 0, need 1..2 or -2..-1)",
      helper.message(function() return x[0] end))
    assert.equal("index: index 4 is out of range on axis 2 (got 4, need 1..3 or -3..-1)", helper.message(function() return x[{1, 4}] end))
    assert.equal("index: index 9 is out of range on axis 2 (got 9, need 1..3 or -3..-1)",
      helper.message(function() return x[{{}, mlax.array({1, 9}, "int32")}] end))
    assert.matches("^index: too many items in the index %(got 3, need at most 2", helper.message(function() return x[{1, 1, 1}] end))
    assert.matches('"..." stands twice', helper.message(function() return x[{"...", "..."}] end))
    assert.matches("index arrays are of integers or bools", helper.message(function() return x[mlax.ones{1}] end))
    assert.matches("no integer, slice, text or array", helper.message(function() return x[{true}] end))
    assert.matches("no integer, slice, text or array %(got 1.5%)", helper.message(function() return x[1.5] end))
    assert.equal(4, x[{2.0, 1.0}]:item())
  end)

  it("out of range raise in compiled code, at the line that made them", function()
    local f = mlax.jit(function(a, i)
      return a[i]
    end)
    local line = debug.getinfo(1, "l").currentline - 2
    f(x, mlax.array(2, "int32"))
    local ok, message = pcall(f, x, mlax.array(3, "int32"))
    assert.is_false(ok)
    assert.matches("index_spec.lua:" .. line .. ": index: index 3 is out of range on axis 1 %(got 3", message)
  end)
end)

describe("take", function()
  local x = mlax.array{10, 20, 30}

  it("checks, clips or fills", function()
    local ids = mlax.array({1, -1, 3}, "int32")
    assert.same({10, 30, 30}, x:take(ids, 1):totable())
    assert.equal(20, x:take(2, 1):item())
    local wild = mlax.array({0, 4, -9, 2}, "int32")
    assert.same({10, 30, 10, 20}, x:take(wild, 1, {mode = "clip"}):totable())
    helper.near({0 / 0, 0 / 0, 0 / 0, 20}, x:take(wild, 1, {mode = "fill"}))
    assert.equal("take: index 0 is out of range on axis 1: positions count from 1 (got 0, need 1..3 or -3..-1)",
      helper.message(function() return x:take(wild, 1) end))
    assert.equal("take: unknown mode 'fil', did you mean 'fill'? (known: error, clip, fill)",
      helper.message(function() return x:take(wild, 1, {mode = "fil"}) end))
    assert.matches("the axis is no integer %(got nothing%)", helper.message(function() return x:take(wild) end))
  end)

  it("puts the ids' axes in the place of the axis", function()
    local m = data{2, 3, 4}
    local y = m:take(mlax.array({{1, 3}, {2, 2}}, "int32"), 2)
    assert.same({2, 2, 2, 4}, y.shape)
    assert.equal(m[{2, 3, 4}]:item(), y[{2, 1, 2, 4}]:item())
  end)
end)

describe("take_along_axis", function()
  it("picks in each row, and broadcasts", function()
    local m = mlax.array{{3, 1, 2}, {9, 8, 7}}
    assert.same({{1, 2, 3}, {7, 8, 9}}, m:take_along_axis(m:argsort(2), 2):totable())
    assert.same({{2}, {7}}, m:take_along_axis(mlax.array({{-1}}, "int32"), 2):totable())
    assert.matches("^take_along_axis: index 4 is out of range on axis 2",
      helper.message(function() return m:take_along_axis(mlax.array({{4}}, "int32"), 2) end))
  end)
end)

describe("one_hot and segment_sum", function()
  it("count classes from 1", function()
    assert.same({{0, 1, 0}, {1, 0, 0}}, mlax.one_hot(mlax.array({2, 1}, "int32"), 3):totable())
    assert.same({0, 0, 1}, mlax.one_hot(3, 3, {dtype = "int32"}):totable())
    assert.same({4, 0, 6}, mlax.segment_sum(mlax.array{1, 3, 3, 3}, mlax.array({1, 1, 3, 3}, "int32"), 3):totable())
  end)

  it("raise outside 1..n, also for negative ids", function()
    assert.equal("one_hot: index 4 is out of range (got 4, need 1..3)", helper.message(mlax.one_hot, mlax.array({4}, "int32"), 3))
    assert.equal("one_hot: index -1 is out of range (got -1, need 1..3)", helper.message(mlax.one_hot, mlax.array({-1}, "int32"), 3))
    assert.equal("segment_sum: index 0 is out of range: positions count from 1 (got 0, need 1..3)",
      helper.message(mlax.segment_sum, mlax.ones{1}, mlax.array({0}, "int32"), 3))
    assert.matches("one segment id a row", helper.message(mlax.segment_sum, mlax.ones{2}, mlax.array({1}, "int32"), 3))
  end)
end)

describe("dynamic windows", function()
  local x = data{3, 4}

  it("are read and written", function()
    assert.same({{6, 7}, {10, 11}}, x:dynamic_slice({2, 2}, {2, 2}):totable())
    assert.same({{6, 7}, {10, 11}}, x:dynamic_slice({mlax.array(2, "int32"), 2}, {2, 2}):totable())
    assert.same({{6, 7}, {10, 11}}, x:dynamic_slice(mlax.array({2, 2}, "int32"), {2, 2}):totable())
    assert.same({0, 0, 11, 12}, x:dynamic_update_slice(mlax.zeros{2, 2}, {2, 1})[3]:totable())
  end)

  it("raise when they leave the array, also compiled", function()
    assert.equal("dynamic_slice: the window leaves the array on axis 1 (got start 3, need 1..2 for length 2 of 3)",
      helper.message(function() return x:dynamic_slice({3, 1}, {2, 2}) end))
    assert.matches("got start %-1", helper.message(function() return x:dynamic_slice({-1, 1}, {2, 2}) end))
    local f = mlax.jit(function(a, i) return a:dynamic_slice({i, 1}, {2, 2}) end)
    assert.equal("dynamic_slice: index 3 is out of range on axis 1 (got 3, need 1..2)", helper.message(f, x, mlax.array(3, "int32")))
    assert.equal("dynamic_slice: index -1 is out of range on axis 1 (got -1, need 1..2)", helper.message(f, x, mlax.array(-1, "int32")))
    assert.matches("the window does not fit", helper.message(function() return x:dynamic_slice({1, 1}, {9, 1}) end))
  end)
end)

describe("nonzero and searchsorted", function()
  it("count from 1", function()
    local r, c = mlax.array{{0, 2}, {3, 0}}:nonzero()
    assert.same({1, 2}, r:totable())
    assert.same({2, 1}, c:totable())
    local s = mlax.array{1, 3, 3, 5}
    assert.same({1, 2, 5}, mlax.searchsorted(s, mlax.array{0, 3, 9}):totable())
    assert.same({4}, mlax.searchsorted(s, mlax.array{3}, {side = "right"}):totable())
    assert.equal(2, s:searchsorted(2):item())
    assert.matches("nonzero", helper.message(mlax.jit(function(x) return x:nonzero() end), mlax.ones{2}))
  end)
end)
