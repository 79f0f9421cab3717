--- The table of src/ops/README.md: what each primitive answers to each transformation, for which dtypes and on which devices.
--
-- The slots and kernels are those of the records as they are linked (build/tests/records prints them); the dtypes are those that the rows
-- of spec/support/rows_*.lua drive; the dtype of the results says where a derivative cannot be. An empty slot that these facts do not
-- explain needs a reason below.
local mlax = require "mlax"
local drive = require "spec.support.drive"
local tensor = require "spec.support.tensor"

local coverage = {}

-- Why there is no jvp though floats come out.
local constant = {
  sign = "a step function", floor = "a step function", ceil = "a step function", round = "a step function", trunc = "a step function",
  floordiv = "a step function", nextafter = "a step function", bitcast = "bits have no neighbours", stop_gradient = "by definition",
  iota = "of no operand", axis_index = "of no operand", check_index = "of positions",
}

-- What is no operand's dtype in the rows, which drive these primitives through functions that use them.
local driven = {axis_index = "none: no operand", check_index = "int uint, as positions", iota = "all, as result"}

-- What a rule that is there says when it is asked.
local refuses = {
  loop = {transpose = "raises: the steps are not kept, scan's are"},
  custom_linear = {jvp = "raises: known by its transpose alone"},
}

--- The rows of all primitives by name.
function coverage.rows()
  local rows = {}
  for _, file in ipairs{"elementwise", "structure", "index", "control", "linalg", "windows"} do
    for name, row in pairs(require("spec.support.rows_" .. file)) do
      assert(not rows[name], "two rows of " .. name)
      rows[name] = row
    end
  end
  return rows
end

--- The records that the program at `path` prints: a list of {name, family, results, slots = {slot = true}}.
function coverage.records(path)
  local list = {}
  local pipe = assert(io.popen(path))
  for line in pipe:lines() do
    local r, n = {slots = {}}, 0
    for field in line:gmatch("[^\t]+") do
      n = n + 1
      if n <= 3 then r[n] = field else r.slots[field] = true end
    end
    list[#list + 1] = {name = r[1], family = r[2], results = math.tointeger(tonumber(r[3])), slots = r.slots}
  end
  assert(pipe:close(), path .. " does not run (make ctests builds it)")
  return list
end

-- -- facts from the rows --------------------------------------------------------------------------------------------------

local groups = {{"bool", {"bool"}}, {"int", tensor.signed}, {"uint", tensor.unsigned}, {"half", {"float16", "bfloat16"}},
  {"f32", {"float32"}}, {"f64", {"float64"}}}

local function dtypes_of(row)
  local has = {}
  for _, case in ipairs(row.cases) do
    for _, d in ipairs(case.dtypes or row.dtypes or drive.dtypes) do has[d] = true end
    for _, arg in ipairs(case.args) do if arg.dtype then has[arg.dtype] = true end end
  end
  return has
end

local function dtypes_text(name, row)
  if driven[name] then return driven[name] end
  if #row.cases == 0 then return "those of its programs" end
  local has, parts = dtypes_of(row), {}
  for _, g in ipairs(groups) do
    local found = {}
    for _, d in ipairs(g[2]) do if has[d] then found[#found + 1] = d end end
    if #found == #g[2] then parts[#parts + 1] = g[1]
    elseif #found > 0 then parts[#parts + 1] = table.concat(found, " ") end
  end
  return table.concat(parts, " ")
end

-- The results of the first case where its operands are ones, of the widest dtype that it takes.
local function results_of(row)
  local case, arrays = row.cases[1], {}
  if not case then return {} end
  local dtypes = case.dtypes or row.dtypes or drive.dtypes
  for i, arg in ipairs(case.args) do
    local values = arg.values and mlax.array(arg.values, "float64"):reshape(arg.shape) or mlax.ones(arg.shape or arg, "float64")
    arrays[i] = values:astype(arg.dtype or dtypes[#dtypes])
  end
  return {(case.f or row.f)(table.unpack(arrays))}
end

-- "integers" or "bool" where no result is of floats, else nil.
local function no_floats(row)
  local kind
  for _, y in ipairs(results_of(row)) do
    if tensor.is_float(y.dtype) then return nil end
    kind = y.dtype == "bool" and "bool" or "integers"
  end
  return kind
end

-- -- cells ----------------------------------------------------------------------------------------------------------------

local function jvp_text(r, row)
  local refusal = refuses[r.name] and refuses[r.name].jvp
  if refusal then return refusal end
  if r.slots.jvp then return "results together" end
  if r.slots.d then return "by operand" end
  if constant[r.name] then return "zero: " .. constant[r.name] end
  local integer = no_floats(row)
  return integer and "none: results of " .. integer
end

local function transpose_text(r, row)
  local refusal = refuses[r.name] and refuses[r.name].transpose
  if refusal then return refusal end
  if r.slots.transpose_all then return r.slots.partial and "split, then together" or "together" end
  if r.slots.transpose then return r.slots.linear and "linear" or "linear in some operands" end
  local tangent = jvp_text(r, row)
  if tangent and (tangent:find("^none") or tangent:find("^zero")) then return "none: no tangent" end
  return tangent and "not linear, its tangents are"
end

local function devices_text(r)
  local parts = {}
  for _, d in ipairs{"cpu", "opencl"} do if r.slots[d] then parts[#parts + 1] = d end end
  if #parts == 0 then return r.slots.view and "a view everywhere" end
  return table.concat(parts, " ")
end

--- The cells of one record: name, shape, jvp, transpose, batch, dtypes, devices; false for one that nothing explains.
function coverage.cells(r, row)
  return {"`" .. r.name .. "`", r.slots.shape and (r.slots.view and "yes, a view where strides allow" or "yes"), jvp_text(r, row) or false,
    transpose_text(r, row) or false, r.slots.batch and "yes", dtypes_text(r.name, row), devices_text(r) or false}
end

--- What the lists of reasons say of slots that are filled, or of no primitive.
function coverage.stale_reasons(records)
  local stale, by_name = {}, {}
  for _, r in ipairs(records) do by_name[r.name] = r.slots end
  for name in pairs(constant) do
    if not by_name[name] or by_name[name].d or by_name[name].jvp then stale[#stale + 1] = name end
  end
  for name in pairs(refuses) do if not by_name[name] then stale[#stale + 1] = name end end
  table.sort(stale)
  return stale
end

local head = [[
# Primitives

Made by `make coverage-table` from `primitives.def` and the records in this folder; a test says when it is out of date.

*jvp*: how tangents come about, by one term for each operand or by one rule for all results; *transpose*: of what is linear in tangents.
dtypes are those that the tests drive: int is int8 to int64, uint is uint8 to uint64, half is float16 and bfloat16. Derivatives are taken by
floats of every width.
]]

local columns = "\n\n| primitive | shape rule | jvp | transpose | batch | dtypes | devices |\n|---|---|---|---|---|---|---|\n"

--- The whole text.
function coverage.text(records)
  local rows, lines, family = coverage.rows(), {head}, nil
  for _, r in ipairs(records) do
    if r.family ~= family then
      family = r.family
      lines[#lines + 1] = "\n## " .. family .. columns
    end
    local cells = coverage.cells(r, rows[r.name])
    for i, cell in ipairs(cells) do cells[i] = cell or "MISSING" end
    lines[#lines + 1] = "| " .. table.concat(cells, " | ") .. " |\n"
  end
  return table.concat(lines)
end

return coverage
