-- The examples run as they stand, under the interpreter that runs the specs.
local function run(arguments)
  local first = 0
  while arg[first - 1] do first = first - 1 end
  local pipe = assert(io.popen(("'%s' %s 2>&1"):format(arg[first], arguments)))
  local text = pipe:read("a")
  return text, (pipe:close())
end

describe("lua/examples", function()
  it("digits trains to an accuracy of at least 0.96 and shows what it did", function()
    local text, ok = run("lua/examples/digits.lua")
    assert.is_true(ok, text)
    assert.is_true(tonumber(text:match("test accuracy (%d%.%d+)")) >= 0.96)
    assert.truthy(text:find("└──", 1, true))
    assert.truthy(text:find(": right", 1, true))
  end)

  it("mlp says how it is used, and what is missing", function()
    local text, ok = run("lua/examples/mlp.lua --help")
    assert.is_true(ok)
    assert.truthy(text:find("--epochs N", 1, true))
    text, ok = run("lua/examples/mlp.lua --data /nonexistent")
    assert.is_falsy(ok)
    assert.truthy(text:find("/nonexistent/train-images-idx3-ubyte", 1, true))
  end)
end)
