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

-- -- what the engine registers ----------------------------------------------------------------------------------------

--- A tree node around an array or a tree, with metadata: further fields.
-- @function Parameter
-- @param trainable true, false, or nil: data holds nested parameters or modules
-- @param[opt] data an array or a tree
-- @usage local p = mlax.Parameter(true, mlax.ones{2})
-- p.note = "metadata"
-- print(p.trainable, p.data, p.note)   --> true float32[2] [1 1] metadata

--- A new class, and its parent.
-- @function class
-- @param name text
-- @param[opt] parent a class (mlax.Module)
-- @usage local Twice, Module = mlax.class("Twice", mlax.Module)
-- function Twice:setup() end
-- function Twice:forward(x) return x * 2 end
-- print(Module == mlax.Module, (Twice()(mlax.ones{1})))   --> true float32[1] [2]

--- The class of a module.
-- @function class_of
-- @param v a module
-- @usage print(mlax.class_of(nn.Dense(key, 2)) == nn.Dense)   --> true

--- Whether a value is a module of a class or of one that inherits from it.
-- @function is_a
-- @param v any value
-- @param class a class
-- @usage print(mlax.is_a(nn.Dense(key, 2), mlax.Module))   --> true

--- Whether a value is a module.
-- @function is_module
-- @param v any value
-- @usage print(mlax.is_module(nn.Dense(key, 2)), mlax.is_module{})   --> true false

--- Whether a value is a Parameter.
-- @function is_parameter
-- @param v any value
-- @usage print(mlax.is_parameter(mlax.Parameter(nil, {})))   --> true

--- Whether a value is a Parameter that is trainable or not: not one around nested parameters.
-- @function is_leaf_param
-- @param v any value
-- @usage print(mlax.is_leaf_param(mlax.Parameter(false)), mlax.is_leaf_param(mlax.Parameter(nil, {})))   --> true false

--- Whether a value is a Parameter with trainable = true.
-- @function is_trainable_param
-- @param v any value
-- @usage print(mlax.is_trainable_param(mlax.Parameter(true)))   --> true

--- Whether a value is a Parameter with trainable = false.
-- @function is_non_trainable_param
-- @param v any value
-- @usage print(mlax.is_non_trainable_param(mlax.Parameter(false)))   --> true

--- The constructor: Class(...) makes an object and calls init(...). What subclasses define; it is inherited.
-- @function init
-- @param ... what the class takes
-- @usage local Dense3 = mlax.class("Dense3")
-- function Dense3:init(n) self.n = n end
-- print(Dense3(5).n)   --> 5

--- Makes the parameters, once, from the first input. What subclasses define.
-- @function setup
-- @param x the input
-- @usage local ok, message = pcall(mlax.class("Empty")(), 1)
-- print(message:match("not implemented by class %w+"))   --> not implemented by class Empty

--- The output of an input. What subclasses define: forward(x, rng, inference_mode, batch_axis_name); whose second parameter is named rng
-- needs a key.
-- @function forward
-- @param x the input
-- @param[opt] rng a key or nil
-- @param[opt] inference_mode nil or false in training
-- @param[opt] batch_axis_name a name, a list of names or nil
-- @usage local Half = mlax.class("Half")
-- function Half:setup() end
-- function Half:forward(x) return x / 2 end
-- print((Half()(mlax.array{4})))   --> float32[1] [2]

--- forward, without setup: the output, and the model in its new state.
-- @function apply
-- @param x the input
-- @param[opt] rng a key or nil
-- @param[opt] inference_mode
-- @param[opt] batch_axis_name
-- @return forward's result, the model
-- @usage local model = nn.Dense(key, 2)
-- model(mlax.ones{3})
-- print(model:apply(mlax.ones{3}):dims())   --> 2

--- A copy in which the leaf parameters that f rejects are empty.
-- @function filter
-- @param[opt] f function(parameter) (is_trainable_param)
-- @param[opt] inverse whether those are kept that f rejects
-- @usage local layer = nn.BatchNorm(key)
-- layer(mlax.ones{2, 3})
-- print(#tree.leaves(layer), #tree.leaves(layer:filter()))   --> 4 2

--- filter, whose f gets the path first.
-- @function filter_with_path
-- @param f function(path, parameter)
-- @param[opt] inverse as of filter
-- @usage local model = nn.Dense(key, 2)
-- model(mlax.ones{3})
-- print(#tree.leaves(model:filter_with_path(function(path) return path:find("bias") end)))   --> 1

--- Two copies: one with the leaf parameters that f selects, one with the others.
-- @function partition
-- @param[opt] f function(parameter) (is_trainable_param)
-- @usage local layer = nn.BatchNorm(key)
-- layer(mlax.ones{2, 3})
-- local trainable, frozen = layer:partition()
-- print(#tree.leaves(trainable), #tree.leaves(frozen))   --> 2 2

--- partition, whose f gets the path first.
-- @function partition_with_path
-- @param f function(path, parameter)
-- @usage local model = nn.Dense(key, 2)
-- model(mlax.ones{3})
-- local bias = model:partition_with_path(function(path) return path:find("bias") end)
-- print(#tree.leaves(bias))   --> 1

--- A copy in which each leaf parameter takes the data of the first of the others that has any.
-- @function combine
-- @param ... modules of the same structure
-- @usage local model = nn.Dense(key, 2)
-- model(mlax.ones{3})
-- local trainable, frozen = model:partition()
-- print(tree.equal(trainable:combine(frozen), model))   --> true

-- -- the module -------------------------------------------------------------------------------------------------------

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
