--- Drives one row of the table of primitives: its values, strides, compilation, mapping and derivatives.
--
-- A row is {cases = {...}, dtypes = {...}, domain = {low, high}, smooth = 2, ...}; a case, whose fields may stand in the row for all:
--     f          the operation on arrays -> one or several arrays
--     ref        the same in plain Lua on tensors, and the dtype -> as many tensors
--     args       one operand each: a shape (of the dtype that is tried, over the domain), or {shape =, dtype =, low =, high =} of a
--                fixed dtype, which is not differentiated; `values` in the place of low and high gives the data
--     dtypes     which to try (all 13)
--     out        the results' dtype: a name, or a function of the dtype (default: the dtype)
--     domain     of sampled floats (-2, 2);  int_domain of integers (-50, 50)
--     ulp        tolerance of values in units of the dtype's epsilon (4; relative above 1), or a table of them by dtype
--     large      further cases, of arrays that are worked on in blocks and by several threads: values alone, of float32 and int32
--     smooth     how often derivatives are compared with differences (3); 0: there are none
--     slope_tolerance  of derivatives (1e-6)
--     modes      "forward" or "reverse" where only jvp or only vjp is defined
--     prints     its name in programs, where it is another one
--     recorded   a function that gives the text of a program which names the primitive; false: none does
local mlax = require "mlax"
local tensor = require "spec.support.tensor"

local drive = {}

local all_dtypes = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
  "float16", "bfloat16", "float32", "float64"}

local function field(row, case, name, default)
  if case[name] ~= nil then return case[name] end
  if row[name] ~= nil then return row[name] end
  return default
end

local function spec_of(arg) return arg.shape and arg or {shape = arg} end

local function sample(row, case, random, arg, dtype)
  local spec = spec_of(arg)
  dtype = spec.dtype or dtype
  if spec.values then return {shape = spec.shape, data = spec.values}, dtype end
  local domain = tensor.is_float(dtype) and field(row, case, "domain", {-2, 2}) or field(row, case, "int_domain", {-50, 50})
  return tensor.sample(random, spec.shape, dtype, spec.low or domain[1], spec.high or domain[2]), dtype
end

-- Sampled operands as tensors, and their dtypes.
local function operands(row, case, random, dtype)
  local tensors, dtypes = {}, {}
  for i, arg in ipairs(case.args) do tensors[i], dtypes[i] = sample(row, case, random, arg, dtype) end
  return tensors, dtypes
end

local function arrays_of(tensors, dtypes)
  local arrays = {}
  for i, t in ipairs(tensors) do arrays[i] = tensor.array(t, dtypes[i]) end
  return arrays
end

local function run(f, arrays) return {f(table.unpack(arrays))} end

local function shapes_text(case)
  local parts = {}
  for i, arg in ipairs(case.args) do parts[i] = "{" .. table.concat(spec_of(arg).shape, ",") .. "}" end
  return table.concat(parts, " ")
end

local function fail_at(name, case, dtype, what, difference)
  if not difference then return end
  local title = case.name and name .. " " .. case.name or name
  error(("%s of %s %s%s: %s"):format(title, dtype, shapes_text(case), what, difference), 0)
end

local function tolerance_of(row, case, dtype)
  if not tensor.is_float(dtype) then return 0 end
  local ulp = field(row, case, "ulp", 4)
  if type(ulp) == "table" then ulp = ulp[dtype] or 4 end
  return ulp * tensor.eps[dtype]
end

local function out_dtype(row, case, dtype)
  local out = field(row, case, "out")
  if type(out) == "function" then return out(dtype) end
  return out or dtype
end

local function each_case(row, f, dtypes)
  for _, case in ipairs(row.cases) do
    for _, dtype in ipairs(dtypes or field(row, case, "dtypes", all_dtypes)) do f(case, dtype) end
  end
end

-- What the reference says, integers as the result's dtype holds them.
local function reference(row, case, tensors, dtype)
  local list = table.move(tensors, 1, #tensors, 1, {})
  list[#list + 1] = dtype
  local want = {field(row, case, "ref")(table.unpack(list))}
  local out = out_dtype(row, case, dtype)
  for _, t in ipairs(want) do
    local to = t.dtype or out
    if to ~= "bool" and not tensor.is_float(to) then
      for i, v in ipairs(t.data) do t.data[i] = tensor.wrap(v, to) end
    end
  end
  return want
end

local function compare(name, row, case, dtype, what, want, got)
  local out = out_dtype(row, case, dtype)
  if #want ~= #got then fail_at(name, case, dtype, what, ("%d results, want %d"):format(#got, #want)) end
  for i, w in ipairs(want) do
    local to = w.dtype or out
    if got[i].dtype ~= to then fail_at(name, case, dtype, what, ("dtype %s, want %s"):format(got[i].dtype, to)) end
    fail_at(name, case, dtype, what, tensor.difference(w, got[i], tolerance_of(row, case, to)))
  end
end

-- -- values ---------------------------------------------------------------------------------------------------------------

--- A program of some case names the primitive: the row drives what it says.
function drive.is_recorded(name, row)
  if row.recorded == false then return end
  local pattern = "= " .. (row.prints or name) .. "[%[ ]"
  local texts = {row.recorded and row.recorded()}
  for _, case in ipairs(row.recorded and {} or row.cases) do
    local dtype = field(row, case, "dtypes", {"float32"})[1]
    local tensors, dtypes = operands(row, case, tensor.random(name), dtype)
    texts[#texts + 1] = tostring(mlax.program(field(row, case, "f"))(table.unpack(arrays_of(tensors, dtypes))))
    if texts[#texts]:find(pattern) then return end
  end
  if row.recorded and texts[1]:find(pattern) then return end
  error("no program of the row holds " .. name .. ":\n" .. (texts[1] or "there are no cases"), 0)
end

function drive.values(name, row)
  each_case(row, function(case, dtype)
    local tensors, dtypes = operands(row, case, tensor.random(name .. dtype), dtype)
    compare(name, row, case, dtype, "", reference(row, case, tensors, dtype), run(field(row, case, "f"), arrays_of(tensors, dtypes)))
  end)
end

--- Large arrays, also transposed ones.
function drive.large(name, row)
  for _, case in ipairs(row.large or {}) do
    for _, dtype in ipairs{"float32", "int32", "bool"} do
      if table.concat(field(row, case, "dtypes", all_dtypes), " "):find(dtype, 1, true) then
        local tensors, dtypes = operands(row, case, tensor.random(name .. dtype), dtype)
        local want, arrays = reference(row, case, tensors, dtype), arrays_of(tensors, dtypes)
        compare(name, row, case, dtype, " (large)", want, run(field(row, case, "f"), arrays))
        compare(name, row, case, dtype, " (large, jit)", want, run(mlax.jit(field(row, case, "f")), arrays))
        local matrices = false
        for i, t in ipairs(tensors) do
          if #t.shape > 1 then arrays[i], matrices = tensor.transpose_of(t, dtypes[i]), true end
        end
        if matrices then compare(name, row, case, dtype, " (large, transposed)", want, run(field(row, case, "f"), arrays)) end
      end
    end
  end
end

--- Each operand in turn lies transposed, reversed, strided or as a broadcast view.
function drive.strides(name, row)
  each_case(row, function(case, dtype)
    local tensors, dtypes = operands(row, case, tensor.random(name .. dtype), dtype)
    local want, arrays = reference(row, case, tensors, dtype), arrays_of(tensors, dtypes)
    for i, t in ipairs(tensors) do
      for layout, x in pairs(tensor.layouts(t, dtypes[i])) do
        local list = table.move(arrays, 1, #arrays, 1, {})
        list[i] = x
        compare(name, row, case, dtype, (", operand %d %s"):format(i, layout), want, run(field(row, case, "f"), list))
      end
      local all, view = tensor.repeated(t, dtypes[i])
      if all and not spec_of(case.args[i]).values then
        local list, refs = table.move(arrays, 1, #arrays, 1, {}), table.move(tensors, 1, #tensors, 1, {})
        list[i], refs[i] = view, all
        compare(name, row, case, dtype, (", operand %d a broadcast view"):format(i), reference(row, case, refs, dtype),
          run(field(row, case, "f"), list))
      end
    end
  end)
end

--- Compiled and eager results are equal, bit for bit up to the order of sums.
function drive.compiled(name, row)
  each_case(row, function(case, dtype)
    local f = field(row, case, "f")
    local tensors, dtypes = operands(row, case, tensor.random(name .. dtype), dtype)
    local arrays = arrays_of(tensors, dtypes)
    fail_at(name, case, dtype, " under jit", tensor.arrays_differ(run(f, arrays), run(mlax.jit(f), arrays),
      tensor.is_float(dtype) and 2 * tensor.eps[dtype] or 0))
  end)
end

-- -- mapping --------------------------------------------------------------------------------------------------------------

-- How `axis` of each mapped operand is chosen, from its number of axes in the whole array.
local placements = {
  function() return 1 end,
  function(ndim) return ndim end,
  function(ndim, i) return i % 2 == 1 and ndim or 1 end,
}

local function slice(x, axis, k)
  local key = {}
  for i = 1, x.ndim do key[i] = i == axis and k or {} end
  return x[key]
end

local function loop(f, arrays, axes, size)
  local columns
  for k = 1, size do
    local own = {}
    for i, x in ipairs(arrays) do own[i] = axes[i] and slice(x, axes[i], k) or x end
    local results = run(f, own)
    columns = columns or {}
    for r, y in ipairs(results) do
      columns[r] = columns[r] or {}
      columns[r][k] = y
    end
  end
  local out = {}
  for r, list in ipairs(columns) do out[r] = mlax.stack(list, 1) end
  return out
end

--- f over all choices of mapped operands and several axes, against a loop over the examples.
local function check_map(what, f, args_of, n, size, tolerance)
  for mask = 1, (1 << n) - 1 do
    for p, placement in ipairs(placements) do
      local arrays, axes, in_axes = args_of(mask, placement, size)
      for i = 1, n do in_axes[i] = axes[i] or false end
      local got = run(mlax.vmap(f, {in_axes = in_axes}), arrays)
      local difference = tensor.arrays_differ(loop(f, arrays, axes, size), got, tolerance)
      if difference then what((" mapped over {%s}"):format(table.concat(mlax.tree.map(tostring, in_axes), ",")), difference) end
      if p == 1 and mask == 1 then
        local last = run(mlax.vmap(f, {in_axes = in_axes, out_axes = -1}), arrays)
        for r, y in ipairs(last) do last[r] = y:moveaxis(-1, 1) end
        difference = tensor.arrays_differ(got, last, 0)
        if difference then what(" mapped, out_axes = -1", difference) end
      end
    end
  end
end

-- Whole arrays for a mask: mapped operands are stacks of `size` samples along their axes.
local function stacked(row, case, random, dtype)
  return function(mask, placement, size)
    local arrays, axes = {}, {}
    for i, arg in ipairs(case.args) do
      local mapped, list = mask >> (i - 1) & 1 == 1, {}
      for k = 1, mapped and size or 1 do list[k] = tensor.array(sample(row, case, random, arg, dtype)) end
      axes[i] = mapped and placement(#spec_of(arg).shape + 1, i) or nil
      arrays[i] = mapped and mlax.stack(list, axes[i]) or list[1]
    end
    return arrays, axes, {}
  end
end

local function mapping_dtypes(row, case)
  local dtypes = field(row, case, "dtypes", all_dtypes)
  for _, d in ipairs(dtypes) do if d == "float64" then return {d} end end
  return {dtypes[1]}
end

function drive.mapped(name, row)
  for _, case in ipairs(row.cases) do
    for _, dtype in ipairs(mapping_dtypes(row, case)) do
      local function what(how, difference) fail_at(name, case, dtype, how, difference) end
      local args_of = stacked(row, case, tensor.random(name), dtype)
      check_map(what, field(row, case, "f"), args_of, #case.args, 3, 1e-13)
      check_map(what, field(row, case, "f"), args_of, #case.args, 1, 1e-13)
      -- Mapped over nothing there are no examples, but there are shapes.
      local none = args_of((1 << #case.args) - 1, placements[1], 1)
      for i, x in ipairs(none) do none[i] = x[{{1, 0}}] end
      local one = run(field(row, case, "f"), args_of(0, placements[1], 1))
      for r, y in ipairs(run(mlax.vmap(field(row, case, "f")), none)) do
        local shape = table.concat(y.shape, ",")
        if shape ~= table.concat({0, table.unpack(one[r].shape)}, ",") then what(" mapped over an axis of 0", "shape {" .. shape .. "}") end
      end
    end
  end
end

-- -- derivatives ----------------------------------------------------------------------------------------------------------

local step = 1e-5

local function dot(a, b)
  local sum = 0
  for i, x in ipairs(a) do sum = sum + (x * b[i]):sum():item() end
  return sum
end

local function moved(x, t, h)
  local r = {}
  for i, v in ipairs(x) do r[i] = v + t[i] * h end
  return r
end

-- Float results alone: integers have no tangent.
local function floats(list)
  local r = {}
  for _, y in ipairs(list) do if tensor.is_float(y.dtype) then r[#r + 1] = y end end
  return r
end

local function like(random, list)
  local r = {}
  for i, x in ipairs(list) do r[i] = tensor.array(tensor.sample(random, x.shape, "float64", -1, 1), "float64") end
  return r
end

-- The case in float64 as a function of its differentiable operands, with a point and a direction; nil where there is nothing to do.
local function differentiable(name, row, case)
  if field(row, case, "smooth", 3) == 0 then return nil end
  if not table.concat(field(row, case, "dtypes", all_dtypes), " "):find("float64", 1, true) then return nil end
  local random = tensor.random(name)
  local tensors, dtypes = operands(row, case, random, "float64")
  local arrays, free, x = arrays_of(tensors, dtypes), {}, {}
  for i, arg in ipairs(case.args) do
    if not spec_of(arg).dtype then
      free[#free + 1] = i
      x[#x + 1] = arrays[i]
    end
  end
  local f = field(row, case, "f")
  local function g(...)
    local all = table.move(arrays, 1, #arrays, 1, {})
    for k, i in ipairs(free) do all[i] = (select(k, ...)) end
    return floats(run(f, all))
  end
  local y = g(table.unpack(x))
  if #y == 0 or #x == 0 then return nil end
  return g, x, like(random, x), like(random, y), random
end

local function each_slope(name, row, without, f)
  for _, case in ipairs(row.cases) do
    local g, x, t, u, random
    if not row.modes or row.modes ~= without then g, x, t, u, random = differentiable(name, row, case) end
    if g then f(case, g, x, t, u, random) end
  end
end

local function check_close(name, row, case, what, want, got)
  fail_at(name, case, "float64", what, tensor.arrays_differ(want, got, field(row, case, "slope_tolerance", 1e-6)))
end

local function check_number(name, row, case, what, want, got)
  local same = math.abs(want - got) <= field(row, case, "slope_tolerance", 1e-6) * math.max(1, math.abs(want))
  fail_at(name, case, "float64", what, not same and ("%.12g, want %.12g"):format(got, want) or nil)
end

local function differences(g, x, t)
  local above, below, dy = g(table.unpack(moved(x, t, step))), g(table.unpack(moved(x, t, -step))), {}
  for i = 1, #above do dy[i] = (above[i] - below[i]) / (2 * step) end
  return dy
end

-- The tangent of g in direction t; false entries are zero.
local function push(row, g, x, t)
  if row.modes ~= "reverse" then return (select(2, mlax.jvp(g, x, t))) end
  local full = {}
  for i, v in ipairs(x) do full[i] = t[i] or mlax.zeros_like(v) end
  return differences(g, x, full)
end

--- jvp against central differences.
function drive.tangents(name, row)
  each_slope(name, row, "reverse", function(case, g, x, t)
    local y, dy = mlax.jvp(g, x, t)
    check_close(name, row, case, ", value under jvp", g(table.unpack(x)), y)
    check_close(name, row, case, ", jvp against differences", differences(g, x, t), dy)
  end)
end

--- <u, J t> = <J^T u, t> for each operand alone, J t by jvp, or by differences where that is not defined.
function drive.cotangents(name, row)
  each_slope(name, row, "forward", function(case, g, x, t, u)
    local y, pullback = mlax.vjp(g, table.unpack(x))
    check_close(name, row, case, ", value under vjp", g(table.unpack(x)), y)
    local ct = {pullback(u)}
    for i, c in ipairs(ct) do
      if c.dtype ~= "float64" or table.concat(c.shape, ",") ~= table.concat(x[i].shape, ",") then
        fail_at(name, case, "float64", (", cotangent %d"):format(i), tostring(c.dtype) .. " {" .. table.concat(c.shape, ",") .. "}")
      end
      local only = {}
      for k = 1, #x do only[k] = k == i and t[k] or false end
      check_number(name, row, case, (", <u, J t> by operand %d"):format(i), dot(u, push(row, g, x, only)), dot({c}, {t[i]}))
    end
    if row.modes then return end
    local _, linear = mlax.linearize(g, table.unpack(x))
    check_close(name, row, case, ", linearize against jvp", push(row, g, x, t), linear(table.unpack(t)))
  end)
end

-- <v, w> as a traced scalar.
local function inner(v, w)
  local sum = mlax.zeros({}, "float64")
  for i, x in ipairs(v) do sum = sum + (x * w[i]):sum() end
  return sum
end

-- s(x) = <J(x)^T u, t> = <u, J(x) t>, by reverse mode and by forward mode.
local function slopes(g, t, u)
  local function back(...)
    local _, pullback = mlax.vjp(g, ...)
    return inner({pullback(u)}, t)
  end
  return back, function(...) return inner(select(2, mlax.jvp(g, {...}, t)), u) end
end

-- <grad f, t> as a function of the same arguments.
local function grad_along(f, n, t)
  local argnums = {}
  for i = 1, n do argnums[i] = i end
  return function(...) return inner(mlax.grad(f, {argnums = argnums})(...), t) end
end
local function jvp_along(f, t) return function(...) return (select(2, mlax.jvp(f, {...}, t))) end end

-- The change of f in direction t.
local function slope(f, x, t)
  return (f(table.unpack(moved(x, t, step))):item() - f(table.unpack(moved(x, t, -step))):item()) / (2 * step)
end

--- The gradient of s by reverse over reverse, forward over reverse and forward over forward, against differences of s.
function drive.second_order(name, row)
  each_slope(name, row, nil, function(case, g, x, t, u, random)
    if field(row, case, "smooth", 3) < 2 then return end
    local back, along = slopes(g, t, u)
    local t2 = like(random, x)
    local want = slope(row.modes == "forward" and along or back, x, t2)
    if row.modes ~= "forward" then
      check_number(name, row, case, ", grad of grad against differences", want, grad_along(back, #x, t2)(table.unpack(x)):item())
      check_number(name, row, case, ", jvp of grad against differences", want, jvp_along(back, t2)(table.unpack(x)):item())
    end
    if row.modes ~= "reverse" then
      check_number(name, row, case, ", jvp of jvp against differences", want, jvp_along(along, t2)(table.unpack(x)):item())
    end
  end)
end

--- The same once more: of <grad s, t2> by three reverse modes, three forward modes and forward over reverse over forward.
function drive.third_order(name, row)
  each_slope(name, row, nil, function(case, g, x, t, u, random)
    if field(row, case, "smooth", 3) < 3 then return end
    local back, along = slopes(g, t, u)
    local t2, t3 = like(random, x), like(random, x)
    local twice = jvp_along(along, t2)
    local want = slope(row.modes == "reverse" and grad_along(back, #x, t2) or twice, x, t3)
    if row.modes ~= "forward" then
      local thrice = grad_along(grad_along(back, #x, t2), #x, t3)
      check_number(name, row, case, ", three times grad against differences", want, thrice(table.unpack(x)):item())
    end
    if row.modes ~= "reverse" then
      check_number(name, row, case, ", three times jvp against differences", want, jvp_along(twice, t3)(table.unpack(x)):item())
    end
    if not row.modes then
      local mixed = jvp_along(grad_along(along, #x, t2), t3)
      check_number(name, row, case, ", jvp of grad of jvp against differences", want, mixed(table.unpack(x)):item())
    end
  end)
end

--- Tangents and cotangents under jit and vmap, against eager ones and a loop.
function drive.nested(name, row)
  each_slope(name, row, nil, function(case, g, x, t, u, random)
    local n, m = #x, #u
    local function both(...)
      local all, results = {...}, {}
      local at, along = table.move(all, 1, n, 1, {}), table.move(all, n + 1, 2 * n, 1, {})
      if row.modes ~= "forward" then
        local _, pullback = mlax.vjp(g, table.unpack(at))
        results = {pullback(table.move(all, 2 * n + 1, 2 * n + m, 1, {}))}
      end
      local dy = row.modes ~= "reverse" and select(2, mlax.jvp(g, at, along)) or {}
      return table.unpack(table.move(dy, 1, #dy, #results + 1, results))
    end
    local args = {}
    for _, list in ipairs{x, t, u} do table.move(list, 1, #list, #args + 1, args) end
    local eager = run(both, args)
    check_close(name, row, case, ", derivatives under jit", eager, run(mlax.jit(both), args))
    local other, whole, axes = like(random, args), {}, {}
    for i, a in ipairs(args) do
      whole[i] = mlax.stack({a, i > n and other[i] or a, a}, 1)
      axes[i] = 1
    end
    check_close(name, row, case, ", derivatives under vmap", loop(both, whole, axes, 3), run(mlax.vmap(both), whole))
    check_close(name, row, case, ", derivatives under jit of vmap", loop(both, whole, axes, 3), run(mlax.jit(mlax.vmap(both)), whole))
  end)
end

drive.dtypes = all_dtypes

return drive
