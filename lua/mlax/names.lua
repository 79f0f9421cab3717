--- What reading a name that does not exist is answered with: an error with a guess, the place where the name stands instead, or that
-- this version lacks it.
local core = require "mlax.core"

local names = {}

local function words(text)
  local list = {}
  for word in text:gmatch("%S+") do list[#list + 1] = word end
  return list
end

-- Where users of other libraries expect a name: the namespaces that are searched for it, in this order.
local places = words "nn nn.functional nn.initializers optim losses metrics random data plot tree lax"

-- Names of the whole interface that later versions bring; a guess would only mislead.
local later = {}
for space, list in pairs{
  mlax = "import_bytes export import repl",
} do
  later[space] = {}
  for _, name in ipairs(words(list)) do later[space][name] = true end
end

local dtypes = {}
for _, name in ipairs(words "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64") do
  dtypes[name] = true
end

-- The table of a namespace, `nn.functional` by its path; nil where there is none.
local function table_of(path)
  local t = core.mlax
  for name in path:gmatch("[^.]+") do t = t and rawget(t, name) or core.mlax[name] end
  return t
end

local function bare(name) return (name:lower():gsub("_", "")) end

-- `Conv2d` and the like: a name of `t` that is this one but for case, lines and a number of dimensions at the end.
local function alike(t, name)
  local want = bare(name):gsub("[123]d$", "")
  for k in pairs(t) do
    if type(k) == "string" and bare(k) == want then return k end
  end
end

--- The full name of what is called so in another namespace than `space`; nil where there is none.
function names.elsewhere(space, name)
  for _, place in ipairs(places) do
    local t = place ~= space and table_of(place)
    local k = t and alike(t, name)
    if k then return ("mlax.%s.%s"):format(place, k) end
  end
  if space ~= "mlax" and alike(core.mlax, name) then return "mlax." .. alike(core.mlax, name) end
end

-- The only name that begins so.
local function completed(known, name)
  local found
  for _, k in ipairs(known) do
    if type(k) == "string" and #name >= 3 and k:sub(1, #name) == name then
      if found then return nil end
      found = k
    end
  end
  return found
end

-- What other libraries have, and its place here.
local others = {randn = "random.normal", rand = "random.uniform", cross_entropy = "losses.softmax_cross_entropy_with_labels",
                manual_seed = "random.key", no_grad = "stop_gradient"}

--- Raises: `space`, the table `t`, has no `name`. known: a list of names for the guess; nil: those of t.
function names.missing(space, t, name, known)
  local full = space == "mlax" and "mlax" or "mlax." .. space
  local text = ("there is no %s.%s"):format(full, tostring(name))
  if type(name) ~= "string" then core.fail(space, "%s", text) end
  local plain = name:gsub("[123][dD]$", "") -- Conv2d
  if later[space] and later[space][plain] then core.fail(space, "%s in this version", text) end
  if dtypes[name] then core.fail(space, '%s: a dtype is given by its name, "%s"', text, name) end
  if not known then
    known = {}
    for k in pairs(t) do known[#known + 1] = k end
  end
  local near = alike(t, name) or not others[name] and (core.guess(name, known) or completed(known, name))
  if near then core.fail(space, "%s, did you mean %s.%s?", text, full, near) end
  local other = others[name] and "mlax." .. others[name] or names.elsewhere(space, name)
  if other then core.fail(space, "%s, did you mean %s?", text, other) end
  core.fail(space, "%s", text)
end

--- Gives `t`, whose missing names raise from now on.
function names.guard(space, t)
  if getmetatable(t) == nil then setmetatable(t, {__index = function(self, name) names.missing(space, self, name) end}) end
  return t
end

return names
