--- mlax: a machine-learning engine for Lua. `require "mlax"` gives the table of everything.
--
-- What C registers is there at once; the Lua half is loaded when it is first asked for, so that a start takes milliseconds:
-- namespaces (`mlax.nn`, `mlax.optim`, ...) by their names, single functions by the file that defines them. Reading a field that does
-- not exist raises with a guess.
-- @module mlax

local _, path = ...
local core = require "mlax.core"
local names = require "mlax.names"

-- Frames of our own files are no user lines (embedded ones are known by their chunk names).
local own = type(path) == "string" and path:match("^(.*)init%.lua$")
if own then core.own_chunks(own) end

local mlax, methods = core.mlax, core.methods

mlax.lax, mlax.tree = core.lax, names.guard("tree", core.tree)

local namespaces = {}
for name in ("checkpoint_manager data debug io linalg losses metrics nn onnx optim plot progress random"):gmatch("%S+") do
  namespaces[name] = "mlax." .. name
end

-- Files whose tables are merged into mlax.
local mixins = {"mlax.functions", "mlax.einsum", "mlax.transforms", "mlax.control", "mlax.module", "mlax.tree", "mlax.save",
                "mlax.gradcheck", "mlax.profile"}

-- Whether `require` would find the module.
local function exists(name)
  if package.loaded[name] or package.preload[name] then return true end
  for _, searcher in ipairs(package.searchers) do
    if type(searcher(name)) == "function" then return true end
  end
  return false
end

local loaded = {}

local function merge_file(name)
  loaded[name] = true -- the file itself may ask
  if not exists(name) then return end
  local m = require(name)
  if type(m) ~= "table" or m == mlax or m == core.tree then return end
  for k, v in pairs(m) do
    if rawget(mlax, k) == nil then mlax[k] = v end
  end
end

-- Merges one file into mlax, once; what is there already stays. Where that fails, the next one who asks tries again.
local function merge(name)
  if loaded[name] then return end
  local ok, problem = pcall(merge_file, name)
  if ok then return end
  loaded[name] = nil
  error(problem, 0)
end

local function known_names()
  local list = {}
  for k in pairs(mlax) do list[#list + 1] = k end
  for k in pairs(namespaces) do list[#list + 1] = k end
  return list
end

setmetatable(mlax, {
  __name = "mlax",
  __index = function(t, k)
    if namespaces[k] then -- one that this version lacks is nil, so that scripts may ask for it
      if not loaded[k] and exists(namespaces[k]) then
        local space = require(namespaces[k])
        t[k] = type(space) == "table" and names.guard(k, space) or space
      end
      loaded[k] = true
      return rawget(t, k)
    end
    for _, name in ipairs(mixins) do
      merge(name)
      local v = rawget(t, k)
      if v ~= nil then return v end
    end
    if type(k) ~= "string" then return nil end
    names.missing("mlax", t, k, known_names())
  end,
})

-- Lua functions that are methods too: a stub loads the file at the first call.
local lua_methods = {
  ["mlax.functions"] = "allclose array_equal bincount histogram interp median nan_to_num quantile trace unique",
}
for file, list in pairs(lua_methods) do
  for name in list:gmatch("%S+") do
    methods[name] = function(...)
      merge(file)
      methods[name] = mlax[name]
      return mlax[name](...)
    end
  end
end

--- Runs a function and says how long it took.
-- @param f a function
-- @param ... its arguments
-- @return seconds of the one call, then the results of f
-- @usage local seconds, y = mlax.time(mlax.sum, mlax.ones{3})
-- print(seconds >= 0, y)   --> true float32[] 3
function mlax.time(f, ...)
  local start = core.clock()
  local function finish(...) return core.clock() - start, ... end
  return finish(f(...))
end

--- From now on reading a global that was never set raises, with a guess.
-- @usage mlax.strict()
-- print(pcall(function() return undefined_name end))
function mlax.strict()
  local meta = getmetatable(_G)
  if not meta then
    meta = {}
    setmetatable(_G, meta)
  end
  if meta.mlax_strict then return end
  local before = meta.__index
  meta.mlax_strict = true
  meta.__index = function(t, k)
    local v
    if type(before) == "function" then v = before(t, k) elseif before ~= nil then v = before[k] end
    if v ~= nil or type(k) ~= "string" then return v end
    local globals = {}
    for name in pairs(_G) do if type(name) == "string" then globals[#globals + 1] = name end end
    local guess = core.guess(k, globals)
    core.fail("strict", guess and "the global '%s' is not set, did you mean '%s'?" or "the global '%s' is not set", k, guess)
  end
end

return mlax
