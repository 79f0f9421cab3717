--- Random programs under random towers of transformations; checks that all ways to compute them agree; shrinks those that do not.
--
-- A case is {inputs = shapes, nodes = {...}, outputs = value numbers, tower = {...}, modes = {...}}. Values are numbered: the inputs, then
-- the nodes. The nodes are Lua text, so that a case prints as the function that it is. Its result is one vector.
local mlax = require "mlax"
local nodes = require "spec.support.program_nodes"
local tensor = require "spec.support.tensor"
local towers = require "spec.support.program_towers"

local programs = {}

local function pick(random, list) return list[1 + math.floor(random() * #list)] end
local function integer(random, low, high) return low + math.floor(random() * (high - low + 1)) end

-- -- cases ----------------------------------------------------------------------------------------------------------------

local function name_of(k) return "v" .. k end

local function node_text(node)
  return (node.code:gsub("%$(%d)", function(k) return name_of(node.args[tonumber(k)]) end))
end

-- The numbers of the values that the outputs need.
local function needed(case)
  local used, n = {}, #case.inputs
  for _, v in ipairs(case.outputs) do used[v] = true end
  for k = #case.nodes, 1, -1 do
    if used[n + k] then for _, a in ipairs(case.nodes[k].args) do used[a] = true end end
  end
  return used
end

--- The program as Lua text: a function of the inputs that gives a vector.
function programs.text(case)
  local names, lines, parts, used = {}, {}, {}, needed(case)
  for k = 1, #case.inputs do names[k] = name_of(k) end
  for k, node in ipairs(case.nodes) do
    local v = #case.inputs + k
    if used[v] then lines[#lines + 1] = ("  local %s = %s"):format(name_of(v), node_text(node)) end
  end
  for i, v in ipairs(case.outputs) do parts[i] = name_of(v) .. ":flatten()" end
  local result = #parts == 1 and parts[1] or ("mlax.concat({%s}, 1)"):format(table.concat(parts, ", "))
  return ("function(%s)\n%s\n  return %s\nend"):format(table.concat(names, ", "), table.concat(lines, "\n"), result)
end

local function make_array(random, shape) return tensor.array(tensor.sample(random, shape, "float64", -1.2, 1.2), "float64") end

local shapes = {{}, {2}, {3}, {4}, {2, 3}, {3, 2}, {1, 3}, {2, 2}, {3, 3}, {2, 2, 2}}

-- Nodes until there are `goal`, and their values behind those of the inputs.
local function add_nodes(random, case, values, goal)
  for _ = 1, 20 * goal do
    if #case.nodes == goal then return end
    local code, args, z = nodes.choose(random, values)
    if code then
      case.nodes[#case.nodes + 1] = {code = code, args = args, shape = z.shape}
      values[#values + 1] = z
    end
  end
end

-- What no node uses comes out; no more than a handful, or the first ones count for little.
local function choose_outputs(case, n)
  local used = {}
  for _, node in ipairs(case.nodes) do for _, a in ipairs(node.args) do used[a] = true end end
  for v = n, #case.inputs + 1, -1 do
    if not used[v] and #case.outputs < 5 then case.outputs[#case.outputs + 1] = v end
  end
  if #case.outputs == 0 then case.outputs[1] = n end
end

-- The native way always; of the others one that is not too long, by chance; every other time what the compiler does.
local function choose_modes(random, case)
  local modes, cheap = towers.modes(case.tower, nodes.directions(programs.text(case))), {}
  for k = 2, #modes do
    if towers.runs(case.tower, modes[k], case.inputs) * (#case.nodes + 5) <= 1200 then cheap[#cheap + 1] = modes[k] end
  end
  local chosen = #cheap > 0 and {"native", pick(random, cheap)} or {"native"}
  if (#case.nodes + #case.tower) % 2 == 0 then chosen[#chosen + 1] = "passes" end
  return chosen
end

--- A random case of 3 to 30 nodes, most of them small, under a tower of up to six transformations.
function programs.generate(random)
  local case, values = {inputs = {}, nodes = {}, outputs = {}, tower = {}}, {}
  for i = 1, integer(random, 1, 3) do
    case.inputs[i] = pick(random, shapes)
    values[i] = make_array(random, case.inputs[i])
  end
  add_nodes(random, case, values, math.floor(3 + 28 * random() ^ 3))
  choose_outputs(case, #values)
  case.tower = towers.random(random, #case.inputs, nodes.directions(programs.text(case)))
  case.modes = choose_modes(random, case)
  case.seed = tostring(random())
  return case
end

-- -- checking -------------------------------------------------------------------------------------------------------------

-- Whole inputs: each storey that maps, from the inside out, stacks more of them. nudge: how far beside.
local function inputs_of(case, nudge)
  local random, arrays = tensor.random(case.seed), {}
  for i, shape in ipairs(case.inputs) do
    arrays[i] = make_array(random, towers.input_shape(case.tower, i, shape)) * (1 + (nudge or 0))
  end
  return arrays
end

local function compile(case) return assert(load("local mlax = ...\nreturn " .. programs.text(case), "=program"))(mlax) end

local function run(case, way, nudge)
  return pcall(function() return towers.make(case.tower, compile(case), way)(table.unpack(inputs_of(case, nudge))) end)
end

-- How far y is from x, relative to the greatest element; nil where shapes differ.
local function distance(x, y)
  if table.concat(x.shape, ",") ~= table.concat(y.shape, ",") or x.dtype ~= y.dtype then return nil end
  local scale = math.max(1, mlax.abs(x):max():item())
  return mlax.abs(x - y):max():item() / scale
end

local ways = {native = {mode = "native"}, loop = {mode = "loop"}, swap = {mode = "swap"}, difference = {mode = "difference", step = 1e-6}}
local tolerances = {native = 1e-10, loop = 1e-8, swap = 1e-8, difference = 1e-4}

-- Whether the result of a case moves nearly as much when its inputs do by a rounding error or two: more nobody can ask for.
local function is_noise(case, plain, far)
  local ok, y = run(case, {mode = "plain"}, 1e-14)
  local moved = ok and distance(plain, y) or 0
  return moved < 1e-7 and far <= 1e4 * moved
end

-- Differences are as good as their best step.
local function differs(case, mode, plain)
  local ok, y = run(case, ways[mode])
  if not ok then return ("%s: %s"):format(mode, tostring(y)) end
  local far = distance(plain, y)
  if not far then return ("%s: %s, want %s"):format(mode, tostring(y), tostring(plain)) end
  if mode == "difference" and far ~= far then return nil end -- they say nothing
  if far <= tolerances[mode] or is_noise(case, plain, far) then return nil end
  for _, step in ipairs(mode == "difference" and {1e-5, 1e-4, 1e-7} or {}) do
    local good, other = run(case, {mode = mode, step = step})
    if good and distance(plain, other) <= 1e-3 then return nil end
  end
  return ("%s differs by %.3g from plain:\n%s\n%s"):format(mode, far, tostring(y), tostring(plain))
end

-- The whole tower compiled, with all passes of the compiler, but one, or one equation at a time.
local function compiled(case, on, but)
  for name in pairs(mlax.debug.passes()) do mlax.debug.passes(name, on and name ~= but) end
  local ok, y = pcall(function() return mlax.jit(towers.make(case.tower, compile(case), ways.native))(table.unpack(inputs_of(case))) end)
  for name in pairs(mlax.debug.passes()) do mlax.debug.passes(name, true) end
  return ok, y
end

local function passes_differ(case, plain)
  local good, want = compiled(case, false)
  local ok, y = compiled(case, true)
  if not good or not ok then return "passes: " .. tostring(good and y or want) end
  local _, apart = compiled(case, true, "epilogue")
  if apart:tostring_bytes() ~= y:tostring_bytes() then return "passes: epilogue changes bits" end
  local far = distance(want, y)
  if far and (far <= tolerances.native or is_noise(case, plain, far)) then return nil end
  return ("passes make a difference of %s:\n%s\n%s"):format(far or "shape", tostring(y), tostring(want))
end

--- nil where all ways agree; "skip" where the result is no finite number; else what differs.
function programs.check(case)
  local ok, plain = run(case, {mode = "plain"})
  if not ok then return "plain: " .. tostring(plain) end
  local size = plain.size > 0 and mlax.abs(plain):max():item() or 0
  if size ~= size or size > 1e8 then return "skip" end
  local possible = {}
  for _, mode in ipairs(towers.modes(case.tower, nodes.directions(programs.text(case)))) do possible[mode] = true end
  for _, mode in ipairs(case.modes) do
    local difference = possible[mode] and differs(case, mode, plain) or mode == "passes" and passes_differ(case, plain)
    if difference then return difference end
  end
end

-- -- shrinking ------------------------------------------------------------------------------------------------------------

local function copy(case)
  local r = {inputs = case.inputs, seed = case.seed, nodes = {}, outputs = table.move(case.outputs, 1, #case.outputs, 1, {}),
    tower = table.move(case.tower, 1, #case.tower, 1, {}), modes = case.modes}
  for k, node in ipairs(case.nodes) do
    r.nodes[k] = {code = node.code, shape = node.shape, args = table.move(node.args, 1, #node.args, 1, {})}
  end
  return r
end

local function shape_of(case, v)
  return table.concat(v <= #case.inputs and case.inputs[v] or case.nodes[v - #case.inputs].shape, ",")
end

-- Everywhere `to` in the place of the value `from`.
local function substitute(case, from, to)
  local r = copy(case)
  for _, node in ipairs(r.nodes) do
    for i, a in ipairs(node.args) do if a == from then node.args[i] = to end end
  end
  for i, v in ipairs(r.outputs) do if v == from then r.outputs[i] = to end end
  return r
end

-- The same with one line of the functions inside of a node being no more than a name that is known before it.
local function simpler_code(case, k, list)
  local code = case.nodes[k].code
  local names = {"$1"}
  for parameters in code:gmatch("function%(([%w_, ]+)%)") do
    for name in parameters:gmatch("[%w_]+") do names[#names + 1] = name end
  end
  for first, text, last in code:gmatch("()local %w+ = (.-); ()") do
    for _, name in ipairs(#text > 2 and names or {}) do
      local r = copy(case)
      r.nodes[k].code = code:sub(1, first - 1) .. code:sub(first, last - 3 - #text) .. name .. code:sub(last - 2)
      list[#list + 1] = r
    end
  end
end

-- All cases that are smaller by one step.
local function smaller(case)
  local list, used, n = {}, needed(case), #case.inputs
  for i = 1, #case.tower do
    local r = copy(case)
    table.remove(r.tower, i)
    list[#list + 1] = r
  end
  for i = 1, #case.outputs do
    if #case.outputs > 1 then
      local r = copy(case)
      table.remove(r.outputs, i)
      list[#list + 1] = r
    end
  end
  for k = #case.nodes, 1, -1 do
    if used[n + k] then
      for i, v in ipairs(case.outputs) do -- an operand for the output
        if v == n + k then
          for _, a in ipairs(case.nodes[k].args) do
            local r = copy(case)
            r.outputs[i] = a
            list[#list + 1] = r
          end
        end
      end
      for v = 1, n + k - 1 do
        if shape_of(case, v) == shape_of(case, n + k) then list[#list + 1] = substitute(case, n + k, v) end
      end
      simpler_code(case, k, list)
    end
  end
  return list
end

--- The smallest case, step by step, for which fails(case) is still true.
function programs.shrink(case, fails)
  local again = true
  while again do
    again = false
    for _, candidate in ipairs(smaller(case)) do
      if fails(candidate) then
        case, again = candidate, true
        break
      end
    end
  end
  return case
end

--- The number of nodes that count.
function programs.size(case)
  local n = 0
  for v in pairs(needed(case)) do if v > #case.inputs then n = n + 1 end end
  return n
end

--- A case as text that can be run: inputs, tower, function.
function programs.describe(case)
  local shapes_of = {}
  for i, s in ipairs(case.inputs) do shapes_of[i] = ("%s {%s}"):format(name_of(i), table.concat(s, ", ")) end
  return ("%s of\n%s\ninputs: %s"):format(towers.text(case.tower), programs.text(case), table.concat(shapes_of, ", "))
end

return programs
