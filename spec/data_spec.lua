local mlax = require "mlax"
local helper = require "spec.helper"
local data, random = mlax.data, mlax.random
local near, message = helper.near, helper.message

local function example()
  return data.dataset{x = mlax.range(1, 20):astype("float32"):reshape{10, 2}, y = mlax.range(1, 10), name = "ten"}
end

-- The values of a field over all batches.
local function collect(batches, field)
  local out, sizes = {}, {}
  for batch in batches do
    sizes[#sizes + 1] = #batch[field]
    for _, v in ipairs(helper.flat(batch[field])) do out[#out + 1] = v end
  end
  return out, sizes
end

describe("data.dataset", function()
  it("has arrays side by side", function()
    local ds = example()
    assert.equal(10, #ds)
    assert.same({10, 2}, ds.x.shape)
    assert.equal("ten", ds.name)
    near({5, 6}, ds[3].x)
    near({19, 20}, ds[-1].x)
    assert.equal("dataset of 10: x = float32[10,2], y = int32[10]", tostring(ds))
  end)

  it("gives batches in order, the last one short", function()
    local values, sizes = collect(example():batches(4), "y")
    assert.same({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, values)
    assert.same({4, 4, 2}, sizes)
    assert.equal(3, #example():batches(4))
  end)

  it("drops the last short batch where asked", function()
    local _, sizes = collect(example():batches(4, {drop_last = true}), "y")
    assert.same({4, 4}, sizes)
  end)

  it("shuffles all fields in the order permutation(key, #ds)", function()
    local key = random.key(7)
    local order = helper.flat(random.permutation(key, 10))
    assert.same(order, (collect(example():batches(3, {shuffle = key}), "y")))
    local xs = collect(example():batches(3, {shuffle = key}), "x")
    for i, v in ipairs(order) do assert.equal(2 * v - 1, xs[2 * i - 1]) end
  end)

  it("gives the same batches, in the same order, whether they are made ahead or not", function()
    local ds = data.dataset{x = mlax.range(1, 35):reshape{7, 5}, y = mlax.range(1, 7):gt(3), z = mlax.range(1, 14):reshape{2, 7}.T}
    local function all(options)
      local list = {}
      for batch in ds:batches(3, options) do list[#list + 1] = batch end
      return list
    end
    for _, key in ipairs{false, random.key(3)} do
      local off = all{shuffle = key or nil, ahead = false}
      assert.equal(3, #off)
      assert.same({1, 7}, {#off[3].x, #off[1].x + #off[2].x + #off[3].x})
      assert.is_true(mlax.tree.equal(off, all{shuffle = key or nil, ahead = true}))
      assert.is_true(mlax.tree.equal(off, all{shuffle = key or nil}))
    end
  end)

  it("ends the thread of batches that nobody takes any more", function()
    local function threads()
      collectgarbage()
      collectgarbage()
      local status = io.open("/proc/self/status")
      return status and status:read("a"):match("Threads:%s*(%d+)")
    end
    local before = threads()
    for i = 1, 20 do example():batches(3, {ahead = true, shuffle = random.key(i)})() end
    assert.equal(before, threads())
  end)

  it("refuses batches of traced arrays", function()
    assert.truthy(message(mlax.jit(function(x) return data.dataset{x = x}:batches(2)().x end), mlax.ones{4}):find("^batches: "))
  end)

  it("maps, takes and splits", function()
    local ds = example():map(function(batch) return {x = batch.x * 2, y = batch.y} end)
    near({2, 4}, ds[1].x)
    local values = collect(ds:take(2):batches(5), "x")
    near({2, 4, 6, 8}, values)
    local a, b = example():split(0.7)
    assert.equal(7, #a)
    assert.equal(3, #b)
    near({8, 9, 10}, b.y)
    local c, d = example():split(0.5, random.key(1))
    local all = helper.flat(c.y)
    for _, v in ipairs(helper.flat(d.y)) do all[#all + 1] = v end
    assert.same(helper.flat(random.permutation(random.key(1), 10)), all)
  end)

  it("splits into everything and nothing", function()
    local a, b = example():split(1)
    assert.equal(10, #a)
    assert.equal(0, #b)
    assert.equal(0, #example():take(0))
    assert.same({}, (collect(b:batches(3), "y")))
  end)

  it("names what is wrong", function()
    assert.truthy(message(data.dataset, {x = mlax.ones{3}, y = mlax.ones{4}}):find("^dataset: . has %d examples, . has %d$"))
    assert.equal("dataset: x must have an axis of examples (got float32[])", message(data.dataset, {x = mlax.ones{}}))
    assert.equal("dataset: a table with at least one array is needed", message(data.dataset, {}))
    assert.equal("dataset: no field 'z' (has x, y)", message(function() return example().z end))
    assert.equal("dataset: index 11 is outside the dataset (need 1 to 10)", message(function() return example()[11] end))
    assert.equal("dataset: index 0: examples count from 1", message(function() return example()[0] end))
    local ds = example()
    assert.equal("batches: size must be an integer of at least 1 (got 0)", message(ds.batches, ds, 0))
    assert.equal("batches: unknown option 'shufle', did you mean 'shuffle'? (known: shuffle, drop_last, ahead)",
      message(ds.batches, ds, 2, {shufle = true}))
  end)
end)

describe("data.digits", function()
  it("has 1,437 examples to train and 360 to test, labels from 1", function()
    local train, test = data.digits()
    assert.equal(1437, #train)
    assert.equal(360, #test)
    assert.same({1437, 8, 8}, train.x.shape)
    assert.equal("int32", test.y.dtype)
    near({0, 1}, {train.x:min():item(), train.x:max():item()})
    near({1, 10}, {test.y:min():item(), test.y:max():item()})
    assert.equal("9", train.classes[10])
    -- the sums of the whole file: of all pixels, and of all digits
    near({561718}, {((train.x:sum() + test.x:sum()) * 16):round():item()})
    near({8070}, {(train.y:sum() + test.y:sum()):item() - 1797})
  end)
end)

-- Rows, columns and classes, and the sums of all features and all targets, taken from the files by another program.
local tables = {
  iris = {120, 30, 4, 3, 2078.7, 300},
  wine = {142, 36, 13, 3, 159975.3, 345},
  breast_cancer = {455, 114, 30, 2, 1056474.4, 926},
}
for name, want in pairs(tables) do
  describe("data." .. name, function()
    it("is split in the order permutation(key(0), n), four fifths to train", function()
      local train, test = data[name]()
      assert.same({want[1], want[2]}, {#train, #test})
      assert.same({want[1], want[3]}, train.x.shape)
      assert.equal("int32", train.y.dtype)
      assert.same({want[4], want[3]}, {#train.classes, #test.features})
      near({want[5]}, {(train.x:astype("float64"):sum() + test.x:astype("float64"):sum()):item()}, 1e-6)
      assert.equal(want[6], (train.y:sum() + test.y:sum()):item())
      assert.same({1, want[4]}, {train.y:min():item(), train.y:max():item()})
    end)
  end)
end

describe("data.diabetes", function()
  it("is for regression", function()
    local train, test = data.diabetes()
    assert.same({353, 89}, {#train, #test})
    assert.same({353, 10}, train.x.shape)
    assert.equal("float32", train.y.dtype)
    assert.equal("bmi", train.features[3])
    near({67243}, {(train.y:sum() + test.y:sum()):item()})
    near({25, 346}, {math.min(train.y:min():item(), test.y:min():item()), math.max(train.y:max():item(), test.y:max():item())})
  end)
end)

describe("readers", function()
  local path = os.tmpname()
  local function write(bytes)
    local file = assert(io.open(path, "wb"))
    file:write(bytes)
    file:close()
  end
  teardown(function() os.remove(path) end)

  it("idx gives the array that the file holds", function()
    write("\0\0\8\2\0\0\0\2\0\0\0\3\1\2\3\4\5\255")
    local x = data.idx(path)
    assert.equal("uint8", x.dtype)
    assert.same({{1, 2, 3}, {4, 5, 255}}, x:totable())
  end)

  it("csv gives rows and columns, and the names of a header", function()
    write("a,b\n1,2.5\n-3,4e2\n")
    local x, names = data.csv(path, {header = true})
    near({1, 2.5, -3, 400}, x)
    assert.same({2, 2}, x.shape)
    assert.same({"a", "b"}, names)
  end)

  it("give nil and a message for what cannot be read", function()
    write("\0\0\8\2\0\0\0\2\0\0\0\3\1")
    for _, result in ipairs{{data.idx(path)}, {data.idx(path .. ".missing")}, {data.csv(path .. ".missing")},
                              {data.mnist(path .. ".missing")}} do
      assert.is_nil(result[1])
      assert.equal("string", type(result[2]))
    end
  end)

  it("raise for wrong arguments", function()
    assert.equal("idx: path must be a string (got 3)", message(data.idx, 3))
    assert.equal("mnist: dir must be a string (got nil)", message(data.mnist))
  end)
end)
