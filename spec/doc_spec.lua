-- Every public function has a doc comment with an example (which usage_spec runs). What C registers is documented in lua/mlax/doc, or in
-- the Lua file of its namespace, by comments with @function.
local mlax = require "mlax"
local core = require "mlax.core"

-- The namespace that a file documents; nil: mlax itself.
local function namespace_of(path)
  local name = path:match("^lua/mlax/doc/([%w_]+)%.lua$")
  if name then return name == "lax" and "lax" or name == "methods" and "array" or nil end
  if path:find("^lua/mlax/nn/functional") then return "nn.functional" end
  if path:find("^lua/mlax/nn/initializers") then return "nn.initializers" end
  local space = path:match("^lua/mlax/([%w_]+)")
  local spaces = {optim = 1, losses = 1, metrics = 1, random = 1, linalg = 1, tree = 1, plot = 1, data = 1, io = 1, debug = 1, nn = 1}
  return spaces[space] and space or nil
end

-- What a doc comment documents: the name after @function, or that of the function below, without what stands before the last dot.
local function name_of(block, below)
  local text = table.concat(block, "\n")
  local name = text:match("@function ([%w_]+)") or text:match("^%-%-%- nn%.(%w+)%(")
  if name then return name end
  local full = below:match("^function ([%w_.:]+)") or below:match("^([%w_.]+) = ")
  return full and full:match("([%w_]+)$")
end

-- {namespace .. "." .. name = true} of all doc comments that hold an example.
local function documented()
  local set = {}
  for path in assert(io.popen("find lua/mlax -name '*.lua'")):lines() do
    local block, space = nil, namespace_of(path)
    local function finish(below)
      local name = block and table.concat(block, "\n"):find("@usage", 1, true) and name_of(block, below)
      if name then set[(space and space .. "." or "") .. name] = true end
      block = nil
    end
    for line in io.lines(path) do
      if line:match("^%-%-%- ") and not line:match("^%-%-%-%-") then block = {line}
      elseif block and line:match("^%-%-") then block[#block + 1] = line
      else finish(line) end
    end
    finish("")
  end
  return set
end

-- Names that are no functions of their own.
local skipped = {["nn.functional.norm_axes"] = true, ["nn.functional.statistics"] = true, ["nn.functional.attention_weights"] = true}
for name in ("module lax tree _VERSION nn.functional nn.initializers"):gmatch("%S+") do skipped[name] = true end

describe("every public function", function()
  local set = documented()

  local function missing(prefix, t, also)
    local list = {}
    for name, value in pairs(t) do
      local full = prefix .. name
      local found = set[full] or also and also[name]
      local is_space = prefix == "" and type(value) == "table" and mlax[name] == value
      if type(name) == "string" and not found and not skipped[full] and not is_space then list[#list + 1] = full end
    end
    table.sort(list)
    return table.concat(list, " ")
  end

  it("of mlax has a doc comment with an example", function()
    for _, name in ipairs{"allclose", "einsum", "grad", "scan", "module", "save", "profile", "checkpoint_manager", "progress"} do
      assert.truthy(mlax[name]) -- the Lua half is merged into mlax when it is first asked for
    end
    assert.equal("", missing("", mlax))
  end)

  for _, space in ipairs{"lax", "tree", "random", "linalg", "optim", "losses", "metrics", "plot", "data", "nn"} do
    it(("of mlax.%s has a doc comment with an example"):format(space), function()
      assert.equal("", missing(space .. ".", mlax[space]))
    end)
  end

  it("of nn.functional, nn.initializers, io.npy and io.npz has one", function()
    for _, space in ipairs{"npy", "npz"} do assert.equal("", missing("io.", mlax.io[space])) end
    assert.equal("", missing("nn.functional.", mlax.nn.functional))
    assert.equal("", missing("nn.initializers.", mlax.nn.initializers))
  end)

  it("that is only a method of arrays, Modules or jitted functions has one", function()
    assert.equal("", missing("array.", core.methods, set))
    assert.equal("", missing("", mlax.Module, set))
    assert.equal("", missing("", core.jit_methods, set))
  end)
end)
