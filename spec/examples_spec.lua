-- The examples run as they stand, under the interpreter that runs the specs.
local function run(arguments)
  local first = 0
  while arg[first - 1] do first = first - 1 end
  local pipe = assert(io.popen(("'%s' %s 2>&1"):format(arg[first], arguments)))
  local text = pipe:read("a")
  return text, (pipe:close())
end

local function write(path, bytes)
  local file = assert(io.open(path, "wb"))
  file:write(bytes)
  file:close()
end

-- A folder with MNIST's four files, of n images each: digit d has its row 2 d + 3 bright.
local function small_mnist(n)
  local directory = os.tmpname()
  os.remove(directory)
  assert(os.execute("mkdir " .. directory))
  local dark, images, labels = ("\0"):rep(28), {}, {}
  for i = 1, n do
    local digit = i * 7 % 10
    images[i] = dark:rep(2 * digit + 2) .. ("\255"):rep(28) .. dark:rep(25 - 2 * digit)
    labels[i] = string.char(digit)
  end
  for _, part in ipairs{"train", "t10k"} do
    write(("%s/%s-images-idx3-ubyte"):format(directory, part), string.pack(">I4I4I4I4", 0x803, n, 28, 28) .. table.concat(images))
    write(("%s/%s-labels-idx1-ubyte"):format(directory, part), string.pack(">I4I4", 0x801, n) .. table.concat(labels))
  end
  return directory
end

describe("lua/examples/digits.lua", function()
  it("trains to an accuracy of at least 0.96 and shows what it did", function()
    local text, ok = run("lua/examples/digits.lua")
    assert.is_true(ok, text)
    assert.is_true(tonumber(text:match("test accuracy (%d%.%d+)")) >= 0.96)
    assert.truthy(text:find("└──", 1, true))
    assert.truthy(text:find(": right", 1, true))
  end)

  it("takes options, and names those that it does not know", function()
    local text, ok = run("lua/examples/digits.lua --quick")
    assert.is_true(ok, text)
    assert.is_true(tonumber(text:match("test accuracy (%d%.%d+)")) > 0.8)
    text, ok = run("lua/examples/digits.lua --help")
    assert.is_true(ok)
    assert.truthy(text:find("--quick", 1, true))
    text, ok = run("lua/examples/digits.lua --fast")
    assert.is_falsy(ok)
    assert.truthy(text:find("unknown option --fast", 1, true))
  end)
end)

describe("lua/examples/mlp.lua", function()
  it("says how it is used, and what is missing", function()
    local text, ok = run("lua/examples/mlp.lua --help")
    assert.is_true(ok)
    assert.truthy(text:find("--epochs N", 1, true))
    text, ok = run("lua/examples/mlp.lua --data /nonexistent")
    assert.is_falsy(ok)
    assert.truthy(text:find("/nonexistent/train-images-idx3-ubyte", 1, true))
    assert.is_falsy(select(2, run("lua/examples/mlp.lua --epochs many")))
  end)

  it("learns from IDX files", function()
    local directory = small_mnist(640)
    local text, ok = run(("lua/examples/mlp.lua --data %s --epochs 3"):format(directory))
    assert.is_true(ok, text)
    assert.truthy(text:find("640 images to train on, 640 to test with", 1, true))
    assert.is_true(tonumber(text:match("epoch 3 .-test accuracy (%d%.%d+)")) > 0.9, text)
    text, ok = run(("lua/examples/mlp.lua --data %s --quick"):format(directory))
    assert.is_true(ok, text)
    write(directory .. "/t10k-labels-idx1-ubyte", string.pack(">I4I4", 0x801, 5) .. "\0\1\2\3\4")
    text, ok = run(("lua/examples/mlp.lua --data %s --quick"):format(directory))
    assert.is_falsy(ok)
    assert.truthy(text:find("do not fit", 1, true), text)
    os.execute("rm -r " .. directory)
  end)
end)
