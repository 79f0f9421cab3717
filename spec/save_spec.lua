-- mlax.save, mlax.load, mlax.io, mlax.checkpoint_manager.
local mlax = require "mlax"
local helper = require "spec.helper"
local message = helper.message
local nn, random, tree = mlax.nn, mlax.random, mlax.tree

local path = os.tmpname()
teardown(function() os.remove(path) end)

local function bytes_of(name)
  local file <close> = assert(io.open(name, "rb"))
  return file:read("a")
end

local function write(bytes)
  local file <close> = assert(io.open(path, "wb"))
  file:write(bytes)
end

local function model_of(seed)
  local model = nn.Series{nn.Dense(random.key(seed), 3), nn.F(nn.functional.relu), nn.Dense(random.key(seed + 1), 2)}
  model(mlax.ones{4})
  return model
end

local dtypes = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32",
                "float64"}

describe("save", function()
  it("names arrays by path, lists from 0, Parameters without their data", function()
    assert(mlax.save(path, {model = model_of(0), ["two words"] = mlax.ones{2}, list = {{w = mlax.zeros{}}}}))
    local names = {}
    for name in pairs(mlax.load(path)) do names[#names + 1] = name end
    table.sort(names)
    assert.same({"list.0.w", "model.layers.0.bias.bias_kernel", "model.layers.0.linear.linear_kernel", "model.layers.2.bias.bias_kernel",
                 "model.layers.2.linear.linear_kernel", "two words"}, names)
  end)

  it("writes what the format says, byte for byte", function()
    -- as Python's safetensors 0.4 writes {"b": uint8 [1, 2], "a": float32 [[1.5]]}: wide elements first, blanks up to a multiple of 8
    assert(mlax.save(path, {b = mlax.array({1, 2}, "uint8"), a = mlax.array{{1.5}}}))
    local header = '{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}}'
    header = header .. (" "):rep(-#header % 8)
    assert.equal(("<I8"):pack(#header) .. header .. "\0\0\192\63\1\2", bytes_of(path))
  end)

  it("stores numbers as scalars and leaves other leaves out", function()
    assert(mlax.save(path, {n = 3, rate = 0.1, name = "x", on = true, f = print, empty = false}))
    local t = mlax.load(path)
    assert.same({"int64", "float64"}, {t.n.dtype, t.rate.dtype})
    assert.equal(0.1, t.rate:item())
    local count = 0
    for _ in pairs(t) do count = count + 1 end
    assert.equal(2, count)
  end)

  it("keeps all dtypes, transposed and empty arrays, names of any text", function()
    local t = {}
    for i, dtype in ipairs(dtypes) do t["é \"\\\n" .. i] = mlax.array({{0, 1, 2}, {3, 4, 5}}):astype(dtype).T end
    t.none, t.scalar, t[""] = mlax.zeros{3, 0}, mlax.array(math.huge), mlax.array(0 / 0)
    assert(mlax.save(path, t))
    assert.is_true(tree.equal(t, mlax.load(path)))
    assert.is_true(tree.equal(t, mlax.load(path, t)))
    assert(mlax.save(path, {}))
    assert.same({}, mlax.load(path))
    assert(mlax.save(path, mlax.ones{2})) -- a single array has no name
    assert.is_true(tree.equal(mlax.ones{2}, mlax.load(path, mlax.zeros{2})))
  end)

  it("saves what load gave under the same names", function()
    assert(mlax.save(path, {a = {mlax.ones{2}}}))
    local first = bytes_of(path)
    assert(mlax.save(path, mlax.load(path)))
    assert.equal(first, bytes_of(path))
  end)

  it("names what is wrong", function()
    assert.equal("save: path must be a string (got nil)", message(mlax.save))
    assert.equal("save: the model is not initialized: call it first", message(mlax.save, path, nn.Dense(random.key(0), 2)))
    assert.equal("save: the model at 'm[1]' is not initialized: call it first",
      message(mlax.save, path, {m = {nn.Dense(random.key(0), 2)}}))
    assert.equal([[save: 'a.b' and '["a.b"]' have the same name in a file, 'a.b']],
      message(mlax.save, path, {["a.b"] = mlax.ones{}, a = {b = mlax.ones{}}}))
    assert.truthy(message(mlax.save, path, {["\255"] = mlax.ones{}}):find("cannot be a name in a file"))
    assert.truthy(message(mlax.save, path, {__metadata__ = mlax.ones{}}):find("cannot be a name in a file"))
    assert.truthy(message(mlax.jit(function(x) mlax.save(path, {x = x}) return x end), mlax.ones{}):find("^save: "))
    assert.equal("save: too many arguments (got 1 after the last one)", message(mlax.save, path, {}, 1))
    local ok, problem = mlax.save("/nowhere/x", {})
    assert.is_nil(ok)
    assert.equal("cannot write '/nowhere/x': No such file or directory", problem)
  end)

  it("leaves the old file where it cannot write the new one, and no other", function()
    local folder = os.tmpname()
    os.remove(folder)
    local manager = mlax.checkpoint_manager(folder)
    assert(manager:save(1, {x = mlax.ones{}}))
    assert.is_nil((mlax.save(folder, {x = mlax.ones{}}))) -- a folder is in the way
    assert.equal(1, manager:latest())
    os.execute("rm -rf '" .. folder .. "'")
  end)
end)

describe("load", function()
  it("gives a copy of the template with the file's values", function()
    local saved, other = model_of(0), model_of(5)
    assert(mlax.save(path, {model = saved, n = 7, rate = 0.25, note = "old"}))
    local t = assert(mlax.load(path, {model = other, n = 0, rate = 1.0, note = "new"}))
    assert.is_true(tree.equal(saved, t.model))
    assert.is_false(tree.equal(saved, other))
    assert.same({7, 0.25, "new", "integer"}, {t.n, t.rate, t.note, math.type(t.n)})
    assert.is_true(tree.equal({saved(mlax.ones{4})}, {t.model(mlax.ones{4})}))
  end)

  it("takes a template from eval_shape", function()
    local saved = model_of(0)
    assert(mlax.save(path, saved))
    local function fresh(key, x)
      local model = nn.Series{nn.Dense(key, 3), nn.F(nn.functional.relu), nn.Dense(key, 2)}
      model(x)
      return model
    end
    assert.is_true(tree.equal(saved, mlax.load(path, mlax.eval_shape(fresh)(random.key(9), mlax.ones{4}))))
  end)

  it("says all that does not fit at once, by path", function()
    assert(mlax.save(path, {a = mlax.ones{2}, b = {mlax.ones{3}}, extra = mlax.ones{}, c = mlax.ones({2}, "int32")}))
    local t, problem = mlax.load(path, {a = mlax.ones{2}, b = {mlax.ones{4}}, c = mlax.ones{2}, d = {w = mlax.ones{5, 6}}, n = 1})
    assert.is_nil(t)
    assert.equal(table.concat({path .. " does not fit the template:", "other shape or dtype: b[1] (got float32[3], need float32[4])",
      "other shape or dtype: c (got int32[2], need float32[2])", "missing: d.w float32[5,6]", "missing: n an integer",
      "left over: extra float32[]"}, "\n  "), problem)
  end)

  it("overlooks what is missing and left over where it is not strict, but no shape", function()
    assert(mlax.save(path, {a = mlax.ones{2}, extra = mlax.ones{}}))
    local t = assert(mlax.load(path, {a = mlax.zeros{2}, b = mlax.zeros{1}, n = 4}, {strict = false}))
    assert.is_true(tree.equal({a = mlax.ones{2}, b = mlax.zeros{1}, n = 4}, t))
    local _, problem = mlax.load(path, {a = mlax.zeros{3}}, {strict = false})
    assert.truthy(problem:find("other shape or dtype: a (got float32[2], need float32[3])", 1, true))
    _, problem = mlax.load(path, mlax.eval_shape(function(x) return {a = x, b = x} end)(mlax.ones{2}), {strict = false})
    assert.truthy(problem:find("missing: b", 1, true))
  end)

  it("reads a string", function()
    assert(mlax.save(path, {x = mlax.array{1, 2}}))
    local bytes = bytes_of(path)
    helper.near({1, 2}, mlax.load_bytes(bytes).x)
    helper.near({1, 2}, mlax.load_bytes(bytes, {x = mlax.zeros{2}}).x)
    local t, problem = mlax.load_bytes(bytes:sub(1, -2))
    assert.is_nil(t)
    assert.equal("bytes: 'x': its data_offsets leave the file", problem)
  end)

  it("gives nil and a message for a file that is malformed or not there", function()
    local t, problem = mlax.load("/nowhere/x")
    assert.is_nil(t)
    assert.equal("cannot open '/nowhere/x': No such file or directory", problem)
    write("\2\0\0\0\0\0\0\0{}more")
    t, problem = mlax.load(path, {})
    assert.is_nil(t)
    assert.equal(path .. ": bytes follow the last array (got 14, need 10)", problem)
  end)

  it("raises for wrong arguments", function()
    assert.equal("load: path must be a string (got 3)", message(mlax.load, 3))
    assert.equal("load: unknown option 'stric', did you mean 'strict'? (known: strict)", message(mlax.load, path, {}, {stric = true}))
    assert.equal("load: option 'strict' must be a boolean (got 1)", message(mlax.load, path, {}, {strict = 1}))
    write("\2\0\0\0\0\0\0\0{}")
    assert.truthy(message(mlax.load, path, nn.Dense(random.key(0), 1)):find("^load: the template is not initialized: call it, or take"))
  end)
end)

describe("io.npy", function()
  it("writes what NumPy writes, and reads it back", function()
    assert(mlax.io.npy.save(path, mlax.array({{1, 2, 3}, {4, 5, 6}}, "int16")))
    local header = "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }"
    header = header .. (" "):rep(-(#header + 11) % 64) .. "\n"
    assert.equal("\x93NUMPY\1\0" .. ("<I2"):pack(#header) .. header .. "\1\0\2\0\3\0\4\0\5\0\6\0", bytes_of(path))
    for _, dtype in ipairs(dtypes) do
      for _, x in ipairs{mlax.array({{0, 1, 2}, {3, 4, 5}}):astype(dtype).T, mlax.zeros({0, 2}, dtype), mlax.ones({}, dtype)} do
        if dtype ~= "bfloat16" then
          assert(mlax.io.npy.save(path, x))
          assert.is_true(tree.equal(x, mlax.io.npy.load(path)))
          assert.is_true(tree.equal(x, mlax.io.npy.load_bytes(bytes_of(path))))
        end
      end
    end
    assert(mlax.io.npy.save(path, 2.5))
    assert.equal(2.5, mlax.io.npy.load(path):item())
  end)

  it("says that NumPy has no bfloat16", function()
    assert.equal('npy: NumPy has no bfloat16 (need another dtype: x:astype("float32"))',
      message(mlax.io.npy.save, path, mlax.ones({2}, "bfloat16")))
  end)

  it("gives nil and a message for what it cannot read", function()
    local x, problem = mlax.io.npy.load_bytes("\x93NUMPY\1\0\8\0{'a'  }\n")
    assert.is_nil(x)
    assert.truthy(problem:find("no header of a npy file", 1, true))
    assert.equal("npy.load: path must be a string (got 1)", message(mlax.io.npy.load, 1))
    assert.equal("npy.save: x must be an array (got nil)", message(mlax.io.npy.save, path))
  end)
end)

describe("io.npz", function()
  it("holds arrays by name, plain or compressed", function()
    local t = {a = mlax.range(1, 2000), ["b/c"] = mlax.ones{2, 3}.T, ["é"] = mlax.array(true), none = mlax.zeros{0}}
    for _, compress in ipairs{false, true} do
      assert(mlax.io.npz.save(path, t, {compress = compress}))
      assert.is_true(tree.equal(t, mlax.io.npz.load(path)))
      assert.is_true(tree.equal(t, mlax.io.npz.load_bytes(bytes_of(path))))
      assert.equal(compress, #bytes_of(path) < 8000)
    end
    assert(mlax.io.npz.save(path, {}))
    assert.same({}, mlax.io.npz.load(path))
  end)

  it("names what is wrong", function()
    assert.equal("npz.save: arrays need names of UTF-8 text (got 1)", message(mlax.io.npz.save, path, {mlax.ones{}}))
    assert.truthy(message(mlax.io.npz.save, path, {["../a"] = mlax.ones{}}):find("cannot be one of a zip entry", 1, true))
    assert.equal("npz.save: x must be an array (got \"y\")", message(mlax.io.npz.save, path, {x = "y"}))
    local t, problem = mlax.io.npz.load_bytes(("x"):rep(30))
    assert.is_nil(t)
    assert.equal("bytes: this is no sound zip archive: its end is missing", problem)
  end)
end)

describe("checkpoint_manager", function()
  local folder
  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
  end)
  after_each(function() os.execute("rm -rf '" .. folder .. "'") end)

  it("keeps the last checkpoints and gives the newest back", function()
    local manager = assert(mlax.checkpoint_manager(folder, {keep = 3}))
    assert.same({}, manager:steps())
    assert.is_nil(manager:latest())
    assert.is_nil((manager:restore{w = mlax.zeros{}}))
    for step = 0, 5 do assert(manager:save(step * 10, {w = mlax.array(step), n = step})) end
    assert.same({30, 40, 50}, manager:steps())
    local t, step = manager:restore{w = mlax.zeros{}, n = 0}
    assert.same({5, 5.0, 50}, {t.n, t.w:item(), step})
    t, step = manager:restore({w = mlax.zeros{}, n = 0}, {step = 30})
    assert.same({3, 30}, {t.n, step})
    assert.same({30, 40, 50}, mlax.checkpoint_manager(folder):steps())
  end)

  it("never removes the one that it has just written", function()
    local manager = mlax.checkpoint_manager(folder, {keep = 1})
    assert(manager:save(100, {w = mlax.ones{}}))
    assert(manager:save(5, {w = mlax.ones{}}))
    assert.same({5}, manager:steps())
  end)

  it("removes what a killed process has left, and nothing else", function()
    local manager = mlax.checkpoint_manager(folder)
    for _, name in ipairs{"step-00000003.safetensors.1f-0.tmp", "notes.tmp", "step-7.safetensors", "step-x.safetensors"} do
      assert(io.open(folder .. "/" .. name, "w")):close()
    end
    assert.same({}, manager:steps())
    assert(manager:save(1, {w = mlax.ones{}}))
    local names = {}
    for name in io.popen("ls '" .. folder .. "'"):lines() do names[#names + 1] = name end
    assert.same({"notes.tmp", "step-00000001.safetensors", "step-7.safetensors", "step-x.safetensors"}, names)
  end)

  it("gives nil and a message for a checkpoint that is damaged or does not fit", function()
    local manager = mlax.checkpoint_manager(folder)
    assert(manager:save(1, {w = mlax.ones{}}))
    local t, problem = manager:restore{w = mlax.ones{2}}
    assert.is_nil(t)
    assert.truthy(problem:find("other shape or dtype: w", 1, true))
    assert(io.open(folder .. "/step-00000002.safetensors", "w")):close()
    t, problem = manager:restore{w = mlax.ones{}}
    assert.is_nil(t)
    assert.truthy(problem:find("no safetensors file", 1, true))
    assert(manager:restore({w = mlax.ones{}}, {step = 1}))
  end)

  it("names what is wrong", function()
    assert.equal("checkpoint_manager: dir must be a string (got nil)", message(mlax.checkpoint_manager))
    assert.equal("checkpoint_manager: keep must be an integer of at least 1 (got 0)", message(mlax.checkpoint_manager, folder, {keep = 0}))
    local manager = mlax.checkpoint_manager(folder)
    assert.equal("checkpoint_manager: step must be an integer of at least 0 (got -1)", message(manager.save, manager, -1, {}))
    assert.equal("checkpoint_manager: restore needs a template: a tree like the one that was saved", message(manager.restore, manager))
    assert.truthy(message(function() manager.steps() end):find("call it with ':', object:steps(...)", 1, true))
    local none, problem = mlax.checkpoint_manager("/nowhere/at/all")
    assert.is_nil(none)
    assert.equal("cannot make the directory '/nowhere/at/all': No such file or directory", problem)
  end)
end)
