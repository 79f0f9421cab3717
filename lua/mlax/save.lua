--- save and load: trees in safetensors files.
--
--     assert(mlax.save("model.safetensors", model))
--     model = assert(mlax.load("model.safetensors", model))
--
-- In a file an array is named by its path in the tree, with `[i]` as `.i-1` and a Parameter's `.data` left out: `layers.0.linear_kernel`.
-- Names are what Python's `safetensors` reads and writes; where no template is given they are all there is.
local core = require "mlax.core"
local archive = require "mlax.archive"
local check = require "mlax.check"

local mlax, tree = core.mlax, core.tree

local M = {}

-- A tree as files see it: its leaves, their names and paths. Raises where a Module in it has no parameters yet.
local function described(op, what, t)
  local leaves, names, paths, unset = core.tree_for_file(t)
  if unset then
    check.fail(op, "%s%s is not initialized: call it%s first", what, unset == "" and "" or (" at '%s'"):format(unset),
      op == "save" and "" or ", or take mlax.eval_shape of its call,")
  end
  return leaves, names, paths
end

-- What is stored of a leaf: an array, or nil.
local function stored(leaf)
  if mlax.is_array(leaf) then return leaf end
  if math.type(leaf) == "integer" then return mlax.array(leaf, "int64") end
  if math.type(leaf) == "float" then return mlax.array(leaf, "float64") end
end

local function check_name(name, path, taken)
  if taken[name] then check.fail("save", "'%s' and '%s' have the same name in a file, '%s'", taken[name], path, name) end
  if name == "__metadata__" or name:find("\0", 1, true) or not utf8.len(name) then
    check.fail("save", "'%s' cannot be a name in a file (need UTF-8 without zero bytes, and not __metadata__)", path)
  end
  taken[name] = path
end

local function check_path(op, path)
  if type(path) ~= "string" then check.fail(op, "path must be a string (got %s)", check.show(path)) end
  return path
end

--- Writes a tree to a safetensors file. The arrays are stored, and numbers as scalars of float64 or int64; other leaves are not. The
-- file is written under another name, synced and renamed: whatever happens, the old file or the new one is there, whole.
-- @param path where to; the folder must exist
-- @param t a tree: a Module, a table of arrays, ...
-- @return true; nil, message where it cannot be written
-- @usage local name = os.tmpname()
-- mlax.save(name, {w = mlax.ones{2}, layers = {{b = 3}}})
-- local arrays = mlax.load(name)
-- os.remove(name)
-- print(arrays.w, arrays["layers.0.b"])   --> float32[2] [1 1] int64[] 3
function M.save(path, t, ...)
  check.last("save", ...)
  check_path("save", path)
  local leaves, names, paths = described("save", "the model", t)
  local kept, arrays, taken = {}, {}, {}
  for i, leaf in ipairs(leaves) do
    local x = stored(leaf)
    if x then
      check_name(names[i], paths[i], taken)
      kept[#kept + 1], arrays[#arrays + 1] = names[i], x
    end
  end
  return core.write_safetensors(path, kept, arrays)
end

-- -- loading ----------------------------------------------------------------------------------------------------------

local function text_of(dtype, shape) return ("%s[%s]"):format(dtype, table.concat(shape, ",")) end

-- Whether the file's array can stand in the place of the leaf.
local function fits(leaf, entry)
  if mlax.is_array(leaf) then return text_of(leaf.dtype, leaf.shape) == text_of(entry.dtype, entry.shape) end
  local integer = entry.dtype:find("int", 1, true) ~= nil
  return #entry.shape == 0 and (integer or (entry.dtype ~= "bool" and math.type(leaf) == "float"))
end

local function needed(leaf)
  if mlax.is_array(leaf) then return text_of(leaf.dtype, leaf.shape) end
  return math.type(leaf) == "float" and "a number" or "an integer"
end

local function has_value(leaf) return not mlax.is_array(leaf) or core.has_value(leaf) end

-- Which entry of the file goes to which leaf, and the lines that say what does not fit.
local function match(leaves, names, paths, entries, strict)
  local by_name, places, problems, used = {}, {}, {}, {}
  for i, entry in ipairs(entries) do by_name[entry.name] = i end
  for i, leaf in ipairs(leaves) do
    if mlax.is_array(leaf) or math.type(leaf) then
      local k = by_name[names[i]]
      if not k then
        if strict or not has_value(leaf) then problems[#problems + 1] = ("missing: %s %s"):format(paths[i], needed(leaf)) end
      elseif not fits(leaf, entries[k]) then
        problems[#problems + 1] = ("other shape or dtype: %s (got %s, need %s)"):format(paths[i],
          text_of(entries[k].dtype, entries[k].shape), needed(leaf))
      end
      places[i] = k
      if k then used[k] = true end
    end
  end
  local left = {}
  for k, entry in ipairs(entries) do
    if strict and not used[k] then left[#left + 1] = ("left over: %s %s"):format(entry.name, text_of(entry.dtype, entry.shape)) end
  end
  table.sort(left)
  return places, table.move(left, 1, #left, #problems + 1, problems)
end

-- A copy of the template with the file's values; nil, message.
local function load_into(op, file, what, template, strict)
  local leaves, names, paths = described(op, "the template", template)
  local places, problems = match(leaves, names, paths, core.archive_entries(file), strict)
  if #problems > 0 then return nil, ("%s does not fit the template:\n  %s"):format(what, table.concat(problems, "\n  ")) end
  for i, leaf in ipairs(leaves) do
    if places[i] then
      local x, message = core.archive_read(file, places[i])
      if not x then return nil, message end
      if not mlax.is_array(leaf) then x = math.type(leaf) == "float" and x:item() + 0.0 or x:item() end
      leaves[i] = x
    end
  end
  return tree.unflatten(tree.structure(template), leaves)
end

local function load_from(op, what, file, message, template, o)
  if template == nil then return archive.all(file, message) end
  if not file then return nil, message end
  local _ <close> = file
  return load_into(op, file, what, template, o.strict ~= false)
end

local function load_options(op, options, ...)
  local o = check.options(op, options, "strict", ...)
  if o.strict ~= nil and type(o.strict) ~= "boolean" then
    check.fail(op, "option 'strict' must be a boolean (got %s)", check.show(o.strict))
  end
  return o
end

--- Reads a safetensors file. The whole file is checked before anything is allocated for an array.
-- @param path the file
-- @param template what the file was saved from, or its like: an initialized model, what mlax.eval_shape gives, any tree; without it
--   the result is a table of arrays by name
-- @param options {strict = true}: with false, what the file lacks keeps the template's value, and what the template lacks is left out;
--   shapes and dtypes must agree all the same
-- @return a copy of the template with the file's values; nil, message where the file cannot be read, is malformed, or does not fit (then
--   the message names everything that is missing, left over or of another shape)
-- @usage local name = os.tmpname()
-- local model = nn.Dense(key, 2)
-- model(mlax.ones{3})
-- assert(mlax.save(name, model))
-- local other = nn.Dense(mlax.random.key(9), 2)
-- other(mlax.ones{3})
-- print(mlax.tree.equal(mlax.load(name, other), model))   --> true
-- print(mlax.load(name, {w = mlax.ones{2}}, {strict = false}).w)   --> float32[2] [1 1]
-- os.remove(name)
function M.load(path, template, options, ...)
  local o = load_options("load", options, ...)
  local file, message = core.open_safetensors(check_path("load", path))
  return load_from("load", path, file, message, template, o)
end

--- The same of a string that holds such a file.
-- @usage local name = os.tmpname()
-- mlax.save(name, {w = mlax.ones{2}})
-- local file <close> = assert(io.open(name, "rb"))
-- print(mlax.load_bytes(file:read("a")).w)   --> float32[2] [1 1]
-- os.remove(name)
function M.load_bytes(bytes, template, options, ...)
  local o = load_options("load_bytes", options, ...)
  if type(bytes) ~= "string" then check.fail("load_bytes", "bytes must be a string (got %s)", check.show(bytes)) end
  local file, message = core.open_safetensors_bytes(bytes)
  return load_from("load_bytes", "the data", file, message, template, o)
end

return M
