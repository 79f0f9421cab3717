-- The @usage examples in the comments of lua/mlax run, and print what stands behind their `-->` (white space does not count). They see the
-- globals of `names` below,
-- and `folder`, the name of a folder of their own that is not there yet.
local mlax = require "mlax"

local names = {
  mlax = mlax, nn = mlax.nn, F = mlax.nn.functional, initializers = mlax.nn.initializers, optim = mlax.optim, losses = mlax.losses,
  metrics = mlax.metrics, random = mlax.random, data = mlax.data, tree = mlax.tree, plot = mlax.plot, linalg = mlax.linalg,
  key = mlax.random.key(0),
}

local function lines_of(path)
  local list = {}
  for line in io.lines(path) do list[#list + 1] = line end
  return list
end

-- The examples of a file: {line = where it begins, code = text}.
local function examples(path)
  local list, lines = {}, lines_of(path)
  for i, line in ipairs(lines) do
    local first = line:match("^%-%- @usage (.*)$")
    if first then
      local code = {first}
      for j = i + 1, #lines do
        local more = lines[j]:match("^%-%- ?(.*)$")
        if not more or more:match("^@") then break end
        code[#code + 1] = more
      end
      list[#list + 1] = {line = i, code = table.concat(code, "\n") .. "\n"}
    end
  end
  return list
end

local function squeezed(text) return (text:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")) end

-- Runs an example; gives what it printed.
local function run(path, example)
  local printed, folder = {}, os.tmpname()
  os.remove(folder)
  local env = setmetatable({folder = folder}, {__index = function(_, name) return names[name] or _G[name] end})
  function env.print(...)
    local values = table.pack(...)
    for i = 1, values.n do values[i] = tostring(values[i]) end
    printed[#printed + 1] = table.concat(values, " ")
  end
  local code = ("\n"):rep(example.line - 1) .. example.code
  assert(load(code, "@" .. path, "t", env))()
  os.execute("rm -rf '" .. folder .. "'")
  return table.concat(printed, "\n")
end

local files = {}
for path in assert(io.popen("find lua/mlax -name '*.lua'")):lines() do files[#files + 1] = path end
table.sort(files)

describe("@usage", function()
  local stdout, globals = io.stdout, getmetatable(_G)
  before_each(function() rawset(io, "stdout", {write = function() end}) end) -- plots
  after_each(function()
    rawset(io, "stdout", stdout)
    setmetatable(_G, globals)
  end)

  for _, path in ipairs(files) do
    local list = examples(path)
    if #list > 0 then
      it("holds in " .. path, function()
        for _, example in ipairs(list) do
          local expected = {}
          for text in example.code:gmatch("%-%->([^\n]*)") do expected[#expected + 1] = text end
          local printed = run(path, example)
          if #expected > 0 then
            assert.equal(squeezed(table.concat(expected, " ")), squeezed(printed), ("%s:%d"):format(path, example.line))
          end
        end
      end)
    end
  end
end)
