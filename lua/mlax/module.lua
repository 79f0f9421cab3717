--- Modules: the Lua half of mlax.Module (the text of a model, its summary, flattening by name). Calls, fields, filter, partition and
-- combine are the engine's.
-- @module mlax.module

local core = require "mlax.core"
local check = require "mlax.check"

local mlax = core.mlax
local Module, Parameter = mlax.Module, mlax.Parameter

-- -- flattening by name -----------------------------------------------------------------------------------------------

--- The children of a module by name, and everything else.
-- @return list of {key, child} in order of first assignment; aux: class, initialized, the order of all fields, the other fields' values
-- @usage local children, aux = nn.Dense(key, 2):tree_flatten_with_keys()
-- print(children[1][1], children[2][1], aux.class)   --> linear bias class Dense
function Module:tree_flatten_with_keys(...)
  check.last("tree_flatten_with_keys", ...)
  local children, order, values = {}, {}, {}
  for name, value in pairs(self) do
    order[#order + 1] = name
    if core.is_child(value) then children[#children + 1] = {name, value} else values[name] = value end
  end
  return children, {class = mlax.class_of(self), initialized = self.initialized, order = order, values = values}
end

--- A module of children and aux, as tree_flatten_with_keys gives them (the children without their keys).
-- @param aux as tree_flatten_with_keys gives it
-- @param children a list
-- @usage local model = nn.Dense(key, 2)
-- local children, aux = model:tree_flatten_with_keys()
-- for i, entry in ipairs(children) do children[i] = entry[2] end
-- print(mlax.tree.equal(mlax.Module.tree_unflatten(aux, children), model))   --> true
function Module.tree_unflatten(aux, children, ...)
  check.last("tree_unflatten", ...)
  if type(aux) ~= "table" or type(children) ~= "table" or not aux.order then
    check.fail("tree_unflatten", "the aux of tree_flatten_with_keys and a list of children are needed (got %s, %s)", check.show(aux),
      check.show(children))
  end
  local module, next_child = core.new_module(aux.class), 1
  for _, name in ipairs(aux.order) do
    local value = aux.values[name]
    if value == nil then
      value = children[next_child]
      next_child = next_child + 1
    end
    module[name] = value
  end
  if next_child <= #children then
    check.fail("tree_unflatten", "too many children (got %d, need %d)", #children, next_child - 1)
  end
  module.initialized = aux.initialized
  return module
end

-- -- text -------------------------------------------------------------------------------------------------------------

local function class_name(v) return (tostring(mlax.class_of(v)):gsub("^class ", "")) end

local function array_text(x) return ("%s[%s]"):format(x.dtype, table.concat(x.shape, ",")) end

local function is_name(key) return type(key) == "string" and key:match("^[%a_][%w_]*$") ~= nil end

local function value_text(v)
  if mlax.is_array(v) then return array_text(v) end
  if type(v) == "string" then return ("%q"):format(v) end
  if type(v) == "table" and getmetatable(v) == nil then
    local parts, shown = {}, 0
    for k, x in pairs(v) do
      shown = shown + 1
      if shown > 8 then
        parts[#parts + 1] = "..."
        break
      end
      local text = type(x) == "table" and "{...}" or value_text(x)
      parts[#parts + 1] = math.type(k) and text or ("%s = %s"):format(is_name(k) and k or ("[%q]"):format(tostring(k)), text)
    end
    return "{" .. table.concat(parts, ", ") .. "}"
  end
  if type(v) == "table" or type(v) == "number" or type(v) == "boolean" then return tostring(v) end
  return type(v)
end

local kinds = {[true] = "trainable", [false] = "not trainable"}

local add_node

local function add(lines, depth, label, text) lines[#lines + 1] = ("  "):rep(depth) .. label .. text end

local function sorted_keys(t)
  local keys = {}
  for k in pairs(t) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b)
    if type(a) ~= type(b) then return type(a) == "number" end
    return a < b
  end)
  return keys
end

local function add_table(lines, depth, t)
  for _, k in ipairs(sorted_keys(t)) do
    add_node(lines, depth, type(k) == "number" and ("[%d]: "):format(k) or (is_name(k) and "%s: " or "[%q]: "):format(k), t[k])
  end
end

local function add_parameter(lines, depth, label, p)
  local data, more = p.data, ""
  for name, value in pairs(p) do
    if name ~= "trainable" and name ~= "data" then more = ("%s, %s = %s"):format(more, name, value_text(value)) end
  end
  local kind = kinds[p.trainable]
  local head = label .. "Parameter" .. (kind and " " .. kind or "") .. more
  if type(data) == "table" and getmetatable(data) == nil then
    add(lines, depth, head, "")
    add_table(lines, depth + 1, data)
  elseif mlax.is_module(data) or mlax.is_parameter(data) then
    add(lines, depth, head, "")
    add_node(lines, depth + 1, "data: ", data)
  else
    add(lines, depth, head, data == nil and " empty" or " " .. value_text(data))
  end
end

function add_node(lines, depth, label, v)
  if mlax.is_parameter(v) then return add_parameter(lines, depth, label, v) end
  if mlax.is_module(v) then
    add(lines, depth, label, class_name(v) .. (v.initialized and "" or " (not initialized)"))
    for name, value in pairs(v) do add_node(lines, depth + 1, name .. ": ", value) end
  elseif type(v) == "table" and core.is_child(v) then
    add(lines, depth, label:gsub(" $", ""), "")
    add_table(lines, depth + 1, v)
  else
    add(lines, depth, label, value_text(v))
  end
end

--- The tree of a model: a line a module, Parameter and hyperparameter.
-- @usage print(nn.F(nn.functional.relu))   --> F (not initialized) train_fn: function
function Module:__tostring()
  local lines = {}
  add_node(lines, 0, "", self)
  return table.concat(lines, "\n")
end

--- A table of the modules and Parameters of a model: path, class, output shape, trainable or frozen, number of parameters, bytes, and
-- what a call costs. Where one layer stands in several places, it is listed at the first, and named below the table.
-- @param x an example input: where it is given, output shapes and FLOPs of a call in inference mode are shown, and a model that is not
--   initialized is set up (a copy of it)
-- @return text of at most 100 columns
-- @usage print(nn.Dense(key, 2):summary(mlax.ones{1, 3}))
function Module:summary(x, ...)
  check.last("summary", ...)
  return require("mlax.summary")(self, x)
end

local M = {
  Module = Module,
  Parameter = Parameter,
  class = mlax.class,
  class_of = mlax.class_of,
  is_a = mlax.is_a,
  is_array = mlax.is_array,
  is_module = mlax.is_module,
  is_parameter = mlax.is_parameter,
  is_leaf_param = mlax.is_leaf_param,
  is_trainable_param = mlax.is_trainable_param,
  is_non_trainable_param = mlax.is_non_trainable_param,
}
M.module = M -- the namespace, beside its members in mlax itself

return M
