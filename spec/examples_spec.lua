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

-- What an example prints; fails where it fails.
local function output(arguments)
  local text, ok = run("lua/examples/" .. arguments)
  assert.is_true(ok, text)
  return text
end

local function number(text, pattern)
  return assert(tonumber(text:match(pattern)), ("%q has no %q"):format(text, pattern))
end

describe("every example", function()
  it("says how it is used, and what it does not know", function()
    local n = 0
    for path in assert(io.popen("ls lua/examples/*.lua")):lines() do
      n = n + 1
      local text, ok = run(path .. " --help")
      assert.is_true(ok, text)
      assert.truthy(text:find("mlax " .. path, 1, true), text)
      for _, option in ipairs{"--quick", "--help"} do assert.truthy(text:find(option, 1, true), path .. " has no " .. option) end
      text, ok = run(path .. " --fast")
      assert.is_falsy(ok)
      assert.truthy(text:find("unknown option --fast", 1, true), text)
      assert.truthy(text:find("mlax " .. path, 1, true), text)
    end
    assert.is_true(n >= 10)
  end)

  it("names a value that is none", function()
    for _, wrong in ipairs{"digits.lua --epochs", "digits.lua --epochs many", "digits.lua --epochs 0", "ensemble.lua --models 2.5",
      "resnet.lua --precision float16", "encoder.lua --width 20", "char_rnn.lua /nonexistent", "char_rnn.lua LICENSE extra"} do
      local text, ok = run("lua/examples/" .. wrong)
      assert.is_falsy(ok, wrong)
      assert.is_nil(text:find("stack traceback", 1, true), text)
    end
    assert.truthy(run("lua/examples/digits.lua --epochs many"):find("--epochs needs an integer of at least 1 (got many)", 1, true))
  end)
end)

describe("lua/examples/digits.lua", function()
  it("trains to an accuracy of at least 0.96 and shows what it did", function()
    local text = output("digits.lua")
    assert.is_true(number(text, "test accuracy (%d%.%d+)") >= 0.96)
    assert.truthy(text:find("└──", 1, true))
    assert.truthy(text:find(": right", 1, true))
    assert.is_true(number(output("digits.lua --quick"), "test accuracy (%d%.%d+)") > 0.8)
  end)
end)

describe("lua/examples/digits_vae.lua", function()
  it("draws digits, for fewer and fewer nats", function()
    local text = output("digits_vae.lua")
    assert.is_true(number(text, "loss (%d+%.%d+) at first") > 30)
    assert.is_true(number(text, "(%d+%.%d+) on 360 test images") < 26)
    assert.truthy(text:find("new ones\n", 1, true))
    assert.is_true(number(output("digits_vae.lua --quick"), "(%d+%.%d+) on 360 test images") < 32)
  end)
end)

describe("lua/examples/char_rnn.lua", function()
  it("learns a text by heart and writes one", function()
    local path = os.tmpname()
    write(path, ("All work and no play makes Jack a dull boy.\n"):rep(60))
    local text = output(("char_rnn.lua %s --epochs 20 --units 32 --length 200"):format(path))
    os.remove(path)
    assert.truthy(text:find("2640 characters, 21 different ones", 1, true), text)
    assert.is_true(number(text, "(%d%.%d+) at the end") < 0.5, text)
    assert.truthy(text:find("All work and no play makes Jack a dull boy.", 1, true), text)
    assert.is_true(number(output("char_rnn.lua --quick"), "(%d%.%d+) at the end") < 4)
  end)
end)

describe("lua/examples/neural_ode.lua", function()
  it("finds the equation of a spiral", function()
    local text = output("neural_ode.lua --steps 400")
    assert.is_true(number(text, "(%d%.%d+) at the end") < 0.003, text)
    assert.is_true(number(text, "error of the path (%d%.%d+)") < 0.1, text)
    assert.is_true(number(output("neural_ode.lua --quick"), "(%d%.%d+) at the end") < 0.02)
  end)
end)

describe("lua/examples/linear_regression.lua", function()
  it("finds the line that explains half of the variance", function()
    local text = output("linear_regression.lua")
    assert.is_true(math.abs(number(text, "(%d%.%d+) on the 353 patients seen") - number(text, "least squares: R^2 (%d%.%d+)")) < 0.005)
    assert.is_true(number(text, "(%d%.%d+) on the 353 patients seen") > 0.5)
    assert.is_true(number(output("linear_regression.lua --quick"), "(%d%.%d+) at the end") < 0.5)
  end)
end)

describe("lua/examples/ensemble.lua", function()
  it("trains eight models at once", function()
    local text = output("ensemble.lua")
    assert.is_true(number(text, "of all together (%d%.%d+)") >= 0.93, text)
    assert.is_true(number(text, "(%d%.%d+) at the end") < 0.15, text)
    assert.equal(8, select(2, text:match("test accuracy of each model: ([^\n]*)"):gsub("%d%.%d+", "")))
    output("ensemble.lua --quick --models 3")
  end)
end)

describe("the examples on MNIST", function()
  local directory
  setup(function() directory = small_mnist(640) end)
  teardown(function() os.execute("rm -r " .. directory) end)

  for name, least in pairs{resnet = 0.3, ["resnet --precision bfloat16"] = 0.3, lstm = 0.2, encoder = 0.05} do
    it(("run: %s"):format(name), function()
      local text = output(("%s --quick --data %s"):format(name:gsub("^%a+", "%0.lua"), directory))
      assert.truthy(text:find("256 images to train on, 256 to test with", 1, true), text)
      assert.is_true(number(text, "epoch 1 .-test accuracy (%d%.%d+)") >= least, text)
      assert.truthy(text:match("parameters, [%d,]+ trainable"))
    end)
  end

  it("learn", function()
    local text = output(("lstm.lua --epochs 5 --units 16 --data %s"):format(directory))
    assert.is_true(number(text, "epoch 5 .-test accuracy (%d%.%d+)") > 0.9, text)
    text = output(("encoder.lua --epochs 5 --width 16 --data %s"):format(directory))
    assert.is_true(number(text, "epoch 5 .-test accuracy (%d%.%d+)") > 0.9, text)
  end)

  it("name what is missing", function()
    for _, name in ipairs{"resnet", "lstm", "encoder", "mlp"} do
      local text, ok = run(("lua/examples/%s.lua --data /nonexistent"):format(name))
      assert.is_falsy(ok)
      assert.truthy(text:find("/nonexistent/train-images-idx3-ubyte", 1, true), text)
    end
  end)
end)

describe("lua/examples/mlp.lua", function()
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
