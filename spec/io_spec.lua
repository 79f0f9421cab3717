-- Readers of data files, as Lua sees them.
local mlax = require "mlax"
local core = require "mlax.core"

local function file_with(bytes)
  local path = os.tmpname()
  local f = assert(io.open(path, "wb"))
  f:write(bytes)
  f:close()
  return path
end

local function with_file(bytes, body)
  local path = file_with(bytes)
  local ok, message = pcall(body, path)
  os.remove(path)
  if not ok then error(message, 0) end
end

-- gzip.compress(b"hello")
local hello = "\x1f\x8b\x08\0\0\0\0\0\x02\xff\xcbH\xcd\xc9\xc9\x07\0\x86\xa6\x106\x05\0\0\0"

describe("mlax.data.idx", function()
  it("reads the type and the shape that the file says", function()
    with_file("\0\0\x0b\x02\0\0\0\2\0\0\0\2\0\1\xff\xff\0\3\0\4", function(path)
      local x = assert(mlax.data.idx(path))
      assert.equal("int16", x.dtype)
      assert.same({{1, -1}, {3, 4}}, x:totable())
    end)
  end)

  it("returns nil and a message that names the file for what cannot be read", function()
    local x, message = mlax.data.idx("/no/such.idx")
    assert.is_nil(x)
    assert.matches("/no/such.idx", message, 1, true)
  end)

  it("returns nil and a message where the header promises more than there is", function()
    with_file("\0\0\x08\x02\x7f\xff\xff\xff\0\0\0\1\0", function(path)
      local x, message = mlax.data.idx(path)
      assert.is_nil(x)
      assert.matches("need 2147483647", message, 1, true)
      assert.matches(path, message, 1, true)
    end)
  end)

  it("raises for a path that is no string", function()
    assert.error_matches(function() mlax.data.idx(5) end, "path")
    assert.error_matches(function() core.read_idx({}) end, "idx: the path is no string")
  end)
end)

describe("mlax.data.csv", function()
  it("returns the numbers and the names of the columns", function()
    with_file("a,b\n1,2.5\n-3e2,nan\n", function(path)
      local x, names = assert(mlax.data.csv(path))
      assert.equal("float32", x.dtype)
      assert.same({"a", "b"}, names)
      assert.same({1, 2.5}, x[1]:totable())
      assert.equal(-300.0, x[{2, 1}]:item())
    end)
  end)

  it("numbers the texts of the column `classes` from 1", function()
    with_file("1,red\n2,green\n3,red\n", function(path)
      local x, names, classes = assert(mlax.data.csv(path, {classes = -1, dtype = "int32"}))
      assert.is_nil(names)
      assert.same({"red", "green"}, classes)
      assert.same({{1, 1}, {2, 2}, {3, 1}}, x:totable())
    end)
  end)

  it("takes separator, header, skip and missing", function()
    with_file("note\n1;2\n;4\n", function(path)
      local x = assert(mlax.data.csv(path, {separator = ";", header = false, skip = 1, missing = -1}))
      assert.same({{1, 2}, {-1, 4}}, x:totable())
    end)
  end)

  it("returns nil and the line of what is wrong", function()
    with_file("1,2\n3\n", function(path)
      local x, message = mlax.data.csv(path)
      assert.is_nil(x)
      assert.matches(path .. ":2:", message, 1, true)
    end)
  end)

  it("raises for unknown options and for what cannot separate", function()
    assert.error_matches(function() mlax.data.csv("f", {seperator = ";"}) end, "did you mean 'separator'")
    assert.error_matches(function() core.read_csv_bytes("1", nil, {separator = ";;"}) end, "one character")
    assert.error_matches(function() core.read_csv_bytes("1", nil, {separator = "1"}) end, "cannot separate")
    assert.error_matches(function() core.read_csv_bytes("1,2", nil, {classes = 3}) end, "no such column")
  end)
end)

describe("core.gunzip_bytes", function()
  it("inflates, within a budget", function()
    assert.equal("hello", core.gunzip_bytes(hello))
    assert.equal("hello", core.gunzip_bytes(hello, 5))
    local bytes, message = core.gunzip_bytes(hello, 4)
    assert.is_nil(bytes)
    assert.matches("more than the 4 bytes", message, 1, true)
  end)

  it("returns nil and a message for damaged data", function()
    for n = 0, #hello - 1 do
      local bytes, message = core.gunzip_bytes(hello:sub(1, n))
      assert.is_nil(bytes)
      assert.is_string(message)
    end
  end)
end)

describe("the terminal", function()
  it("is asked for by the stream's name", function()
    assert.is_boolean(core.isatty("stdout"))
    assert.error_matches(function() core.isatty("screen") end, "unknown stream")
  end)
end)
