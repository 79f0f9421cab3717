-- The table that model:summary(x) gives: gather rows (walk), run the model without computing (trial), lay the columns out (text).
local core = require "mlax.core"

local mlax, tree = core.mlax, core.tree

-- -- values as text ---------------------------------------------------------------------------------------------------

local function class_name(v) return (tostring(mlax.class_of(v)):gsub("^class ", "")) end

local function number_text(n) -- 1234567 -> "1,234,567"
  local text = ("%d"):format(n)
  local count
  repeat text, count = text:gsub("^(-?%d+)(%d%d%d)", "%1,%2") until count == 0
  return text
end

-- n in the first of the units in which it is below `step`.
local function scaled(n, step, units)
  local i = 1
  while n >= step and i < #units do n, i = n / step, i + 1 end
  return ((i == 1 and "%d %s" or "%.1f %s"):format(n, units[i]):gsub(" $", ""))
end

local function bytes_text(n) return scaled(n, 1024, {"B", "KiB", "MiB", "GiB", "TiB"}) end
local function flops_text(n) return scaled(n, 1000, {"", "k", "M", "G", "T"}) end

local function leaf_text(v)
  if mlax.is_array(v) then return ("%s[%s]"):format(v.dtype, table.concat(v.shape, ",")) end
  return type(v) == "number" and tostring(v) or type(v)
end

-- The first three leaves of a tree.
local function shape_text(t)
  local leaves, shapes = tree.leaves(t), {}
  for i = 1, math.min(#leaves, 3) do shapes[i] = leaf_text(leaves[i]) end
  if #leaves > 3 then shapes[4] = "..." end
  return table.concat(shapes, ", ")
end

-- -- walk -------------------------------------------------------------------------------------------------------------

local function path_text(path, key)
  if type(key) == "number" then return ("%s[%d]"):format(path, key) end
  if not key:match("^[%a_][%w_]*$") then return ("%s[%q]"):format(path, key) end
  return path == "" and key or path .. "." .. key
end

local function sorted_keys(t)
  local keys = {}
  for k in pairs(t) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b)
    if type(a) ~= type(b) then return type(a) == "number" end
    return a < b
  end)
  return keys
end

-- Calls visit(path, node, label) for every Module and Parameter, parents first. Where visit gives true, what is inside is left out. The
-- label is the path from the module around it, indented by the number of these.
local function each_node(node, path, visit, depth, around)
  depth, around = depth or 0, around or ""
  local function label() return ("  "):rep(depth) .. path:sub(#around + 1):gsub("^%.", "") end
  if mlax.is_module(node) then
    if visit(path, node, label()) then return end
    for name, value in pairs(node) do
      if core.is_child(value) then each_node(value, path_text(path, name), visit, depth + 1, path) end
    end
  elseif mlax.is_parameter(node) then
    if visit(path, node, label()) then return end
    if node.trainable == nil and node.data ~= nil then each_node(node.data, path_text(path, "data"), visit, depth, around) end
  elseif type(node) == "table" and getmetatable(node) == nil then
    for _, key in ipairs(sorted_keys(node)) do each_node(node[key], path_text(path, key), visit, depth, around) end
  end
end

-- The path at which each node that stands in several places was met first, by the other paths.
local function shared_nodes(model)
  local first, same = {}, {}
  each_node(model, "", function(path, node)
    same[path] = first[node]
    first[node] = first[node] or path
    return same[path] ~= nil
  end)
  return same
end

-- -- trial ------------------------------------------------------------------------------------------------------------

-- A tree's arrays as {shape, dtype}, which outlive the trace, and back as arrays without values.
local function described(t)
  return tree.map(function(v)
    if not mlax.is_array(v) then return v end
    local shape, dtype = v.shape, v.dtype
    return function() return mlax.zeros(shape, dtype) end
  end, t)
end

local function abstract(t)
  return (mlax.eval_shape(function() return tree.map(function(v) return type(v) == "function" and v() or v end, t) end)())
end

-- A copy of the model that has run on x without computing, and what its modules gave and got, by path.
local function trial_run(model, x)
  local shapes, inputs = {}, {}
  local function run(m, input)
    local outputs, seen = {}, {}
    local function observer(module, y, given) -- this local alone holds it
      outputs[module] = shape_text(y)
      seen[module] = seen[module] or {}
      table.insert(seen[module], described(given))
    end
    local before = core.observe_calls(observer)
    local _ <close> = setmetatable({}, {__close = function() core.observe_calls(before) end})
    m(input, mlax.random.key(0), true)
    each_node(m, "", function(path, node) shapes[path], inputs[path] = outputs[node], seen[node] end)
    return m
  end
  return mlax.eval_shape(run)(model, x), shapes, inputs
end

local function call(module, x) return (module:apply(x, mlax.random.key(0), true)) end

-- The floating point operations of all calls of a module.
local function flops_of(module, inputs)
  local sum = 0
  for _, x in ipairs(inputs or {}) do sum = sum + core.cost(call, module, abstract(x)).flops end
  return sum
end

-- -- rows -------------------------------------------------------------------------------------------------------------
-- A row is {path, class, shape, trainable or frozen, parameters, bytes, FLOPs, label = what stands for a path that is too long}.

local kinds = {[true] = "trainable", [false] = "frozen"}

local function add_module(rows, path, node, label, run)
  local name = path == "" and "model" or path
  rows[#rows + 1] = {name, class_name(node), run.shapes[path] or "", "", "", "",
                     run.inputs[path] and flops_text(flops_of(node, run.inputs[path])) or "", label = path == "" and name or label}
  for field, value in pairs(node) do
    if mlax.is_array(value) then
      rows[#rows + 1] = {path_text(path, field), "constant", shape_text(value), "", "", bytes_text(value.nbytes), "",
                       label = label:match("^ *") .. "  " .. field}
    end
  end
end

local function add_parameter(rows, path, p, label, totals)
  local size, bytes = 0, 0
  for _, leaf in ipairs(tree.leaves(p.data)) do
    if mlax.is_array(leaf) then size, bytes = size + leaf.size, bytes + leaf.nbytes end
  end
  rows[#rows + 1] = {path, "Parameter", p.data == nil and "empty" or shape_text(p.data), kinds[p.trainable], number_text(size),
                     bytes_text(bytes), "", label = label}
  totals[p.trainable] = totals[p.trainable] + size
  totals.bytes = totals.bytes + bytes
end

-- The rows of a model, the totals, and a line for each node that stands in a further place.
local function rows_of(model, run, same)
  local rows, totals, notes = {}, {[true] = 0, [false] = 0, bytes = 0}, {}
  each_node(model, "", function(path, node, label)
    if same[path] then
      notes[#notes + 1] = {path, same[path] == "" and "model" or same[path]}
      return true
    elseif mlax.is_module(node) then
      add_module(rows, path, node, label, run)
    elseif node.trainable ~= nil then
      add_parameter(rows, path, node, label, totals)
    end
  end)
  return rows, totals, notes
end

-- -- text -------------------------------------------------------------------------------------------------------------

local COLUMNS, GAP, MOST = 7, 2, 100
local least = {{3, 24}, {1, 22}, {3, 16}, {2, 12}} -- how far columns may be cut, in this order

-- Cuts from the left, where paths are alike.
local function fit(text, width)
  if #text <= width then return text end
  return "..." .. text:sub(-(width - 3))
end

local function natural_widths(rows)
  local w, total = {}, -GAP
  for c = 1, COLUMNS do
    w[c] = 0
    for _, row in ipairs(rows) do w[c] = math.max(w[c], #row[c]) end
    if w[c] > 0 then total = total + w[c] + GAP end
  end
  return w, total
end

-- The widths of the columns. Where the table would be too wide, labels take the place of paths; then columns are cut.
local function widths(rows)
  local w, total = natural_widths(rows)
  if total > MOST then
    for _, row in ipairs(rows) do row[1] = row.label or row[1] end
    w, total = natural_widths(rows)
  end
  for _, entry in ipairs(least) do
    local c, width = entry[1], entry[2]
    local cut = math.min(math.max(total - MOST, 0), math.max(w[c] - width, 0))
    w[c], total = w[c] - cut, total - cut
  end
  return w, total
end

local function row_text(row, w)
  local cells = {}
  for c = 1, COLUMNS do
    if w[c] > 0 then
      local text = fit(row[c], w[c])
      local pad = (" "):rep(w[c] - #text)
      cells[#cells + 1] = c >= 5 and pad .. text or text .. pad
    end
  end
  return (table.concat(cells, (" "):rep(GAP)):gsub("%s+$", ""))
end

local function totals_text(totals, flops)
  local text = ("%s parameters, %s trainable, %s frozen, %s"):format(number_text(totals[true] + totals[false]), number_text(totals[true]),
    number_text(totals[false]), bytes_text(totals.bytes))
  return flops and ("%s; %s FLOPs a call"):format(text, flops_text(flops)) or text
end

local function note_text(note)
  local text = ("shared: %s is %s"):format(note[1], note[2])
  return #text <= MOST and text or ("shared: %s is %s"):format(fit(note[1], 44), fit(note[2], 44))
end

--- The summary of a model, with an example input or nil.
return function(model, x)
  local same, run, m = shared_nodes(model), {shapes = {}, inputs = {}}, model
  if x ~= nil then m, run.shapes, run.inputs = trial_run(model, x) end
  local rows, totals, notes = rows_of(m, run, same)
  table.insert(rows, 1, {"path", "class", x ~= nil and "output / shape" or "shape", "", "parameters", "bytes", x ~= nil and "FLOPs" or ""})
  local w, total = widths(rows)
  local rule, lines = ("-"):rep(total), {}
  for i, row in ipairs(rows) do lines[i] = row_text(row, w) end
  table.insert(lines, 2, rule)
  lines[#lines + 1] = rule
  for _, note in ipairs(notes) do lines[#lines + 1] = note_text(note) end
  lines[#lines + 1] = totals_text(totals, x ~= nil and flops_of(m, run.inputs[""]))
  if not m.initialized then lines[#lines + 1] = "not initialized: call it, or give an example input" end
  return table.concat(lines, "\n")
end
