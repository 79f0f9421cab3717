--- Modules: the Lua half of mlax.Module (the text of a model, its summary, flattening by name). Calls, fields, filter, partition and
-- combine are the engine's.
-- @module mlax.module

local core = require "mlax.core"
local check = require "mlax.check"

local mlax, tree = core.mlax, core.tree
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

local function number_text(n) -- 1234567 -> "1,234,567"
  local text = ("%d"):format(n)
  local count
  repeat text, count = text:gsub("^(-?%d+)(%d%d%d)", "%1,%2") until count == 0
  return text
end

local function bytes_text(n)
  local units = {"B", "KiB", "MiB", "GiB", "TiB"}
  local i = 1
  while n >= 1024 and i < #units do n, i = n / 1024, i + 1 end
  return (i == 1 and "%d %s" or "%.1f %s"):format(n, units[i])
end

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

-- -- summary ----------------------------------------------------------------------------------------------------------

local function path_text(path, key)
  if type(key) == "number" then return ("%s[%d]"):format(path, key) end
  if not is_name(key) then return ("%s[%q]"):format(path, key) end
  return path == "" and key or path .. "." .. key
end

-- Calls visit(path, node) for every Module and Parameter, parents first.
local function each_node(node, path, visit)
  if mlax.is_module(node) then
    visit(path, node)
    for name, value in pairs(node) do
      if core.is_child(value) then each_node(value, path_text(path, name), visit) end
    end
  elseif mlax.is_parameter(node) then
    visit(path, node)
    if node.trainable == nil and node.data ~= nil then each_node(node.data, path_text(path, "data"), visit) end
  elseif type(node) == "table" and getmetatable(node) == nil then
    for _, key in ipairs(sorted_keys(node)) do each_node(node[key], path_text(path, key), visit) end
  end
end

local function size_of(t)
  local size, bytes = 0, 0
  for _, leaf in ipairs(tree.leaves(t)) do
    if mlax.is_array(leaf) then size, bytes = size + leaf.size, bytes + leaf.nbytes end
  end
  return size, bytes
end

local function shape_text(y)
  local shapes = {}
  for i, leaf in ipairs(tree.leaves(y)) do
    shapes[i] = mlax.is_array(leaf) and array_text(leaf) or value_text(leaf)
    if i == 3 and #tree.leaves(y) > 3 then
      shapes[4] = "..."
      break
    end
  end
  return table.concat(shapes, ", ")
end

-- A copy of the model that has run on x without computing, and the output shapes of its modules by path.
local function trial_run(model, x)
  local shapes = {}
  local function run(m, input)
    local outputs = {}
    local function observer(module, y) outputs[module] = shape_text(y) end -- this local alone holds it
    local before = core.observe_calls(observer)
    local _ <close> = setmetatable({}, {__close = function() core.observe_calls(before) end})
    m(input, mlax.random.key(0), true)
    each_node(m, "", function(path, node) shapes[path] = outputs[node] end)
    return m
  end
  return mlax.eval_shape(run)(model, x), shapes
end

local function param_row(path, p)
  local size, bytes = size_of(p.data)
  local shape = p.data == nil and "empty" or shape_text(p.data)
  return {path, "Parameter", shape, kinds[p.trainable], number_text(size), bytes_text(bytes)}, size, bytes
end

local function summary_rows(model, shapes)
  local rows, totals = {}, {[true] = 0, [false] = 0, bytes = 0}
  each_node(model, "", function(path, node)
    if mlax.is_module(node) then
      rows[#rows + 1] = {path == "" and "model" or path, class_name(node), shapes[path] or "", "", "", ""}
      for name, value in pairs(node) do
        if mlax.is_array(value) then
          rows[#rows + 1] = {path_text(path, name), "constant", array_text(value), "", "", bytes_text(value.nbytes)}
        end
      end
    elseif node.trainable ~= nil then
      local row, size, bytes = param_row(path, node)
      rows[#rows + 1] = row
      totals[node.trainable] = totals[node.trainable] + size
      totals.bytes = totals.bytes + bytes
    end
  end)
  return rows, totals
end

-- Cuts from the left, where paths are alike.
local function fit(text, width)
  if #text <= width then return text end
  return "..." .. text:sub(-(width - 3))
end

local least = {24, 14, 16} -- how far the columns path, class and shape may be cut to make lines of 100 characters

local function widths(rows)
  local w = {}
  for c = 1, 6 do
    w[c] = 0
    for _, row in ipairs(rows) do w[c] = math.max(w[c], #row[c]) end
  end
  local total = w[1] + w[2] + w[3] + w[4] + w[5] + w[6] + 10
  for _, c in ipairs{1, 3, 2} do -- the columns that may be cut, in that order
    local cut = math.min(math.max(total - 100, 0), math.max(w[c] - least[c], 0))
    w[c], total = w[c] - cut, total - cut
  end
  return w
end

local function row_text(row, w)
  local cells = {}
  for c = 1, 6 do
    local text = fit(row[c], w[c])
    local pad = (" "):rep(w[c] - #text)
    cells[c] = c >= 5 and pad .. text or text .. pad
  end
  return (table.concat(cells, "  "):gsub("%s+$", ""))
end

--- A table of the modules and Parameters of a model: path, class, output shape, trainable or not, number of parameters, bytes.
-- @param x an example input: where it is given, output shapes are shown, and a model that is not initialized is set up (a copy of it)
-- @return text of at most 100 columns
-- @usage print(nn.Dense(key, 2):summary(mlax.ones{1, 3}))
function Module:summary(x, ...)
  check.last("summary", ...)
  local model, shapes = self, {}
  if x ~= nil then model, shapes = trial_run(self, x) end
  local rows, totals = summary_rows(model, shapes)
  table.insert(rows, 1, {"path", "class", x ~= nil and "output / shape" or "shape", "", "parameters", "bytes"})
  local w, lines = widths(rows), {}
  for i, row in ipairs(rows) do lines[i] = row_text(row, w) end
  local rule = ("-"):rep(w[1] + w[2] + w[3] + w[4] + w[5] + w[6] + 10)
  table.insert(lines, 2, rule)
  lines[#lines + 1] = rule
  lines[#lines + 1] = ("%s parameters, %s trainable, %s not trainable, %s"):format(number_text(totals[true] + totals[false]),
    number_text(totals[true]), number_text(totals[false]), bytes_text(totals.bytes))
  if not model.initialized then lines[#lines + 1] = "not initialized: call it, or give an example input" end
  return table.concat(lines, "\n")
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
