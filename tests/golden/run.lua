-- Compares mlax with answers of JAX and of the Python package mlax.
--
--     lua5.4 tests/golden/run.lua [--jit] [--only TEXT] [--max N] [--skip-list FILE] [--open] [--list] FILE...
--
-- A case (README.md has the format) is a chunk, the arrays that it reads, and what it must return or raise. With --jit every case that
-- is not marked `eager` runs once more, as one jitted function of its arguments. The list names cases that are still open: they
-- are left out, or, with --open, they alone are run. At most N failures are shown of each family; --list shows them all as lines of such a
-- list instead. One line a family, and at the end 'N passed, N failed'.

local mlax = require "mlax"

-- == options ===========================================================================================================

local function parse(words)
  local o = {max = 5, files = {}}
  local takes = {["--only"] = "only", ["--max"] = "max", ["--skip-list"] = "skip_list"}
  local i = 1
  while words[i] do
    local word = words[i]
    if takes[word] then
      i = i + 1
      o[takes[word]] = words[i] or error(word .. " needs a value", 0)
    elseif word == "--jit" or word == "--open" or word == "--list" then o[word:sub(3)] = true
    elseif word:sub(1, 2) == "--" then error("unknown option " .. word, 0)
    elseif not word:find("run%.lua$") then o.files[#o.files + 1] = word
    end
    i = i + 1
  end
  o.max = math.tointeger(tonumber(o.max)) or error("--max needs a number", 0)
  return o
end

-- Lines 'family: name of the case', 'family: name of the case [jit]' for that mode alone, 'family: *' for all; '#' starts a comment.
local function read_list(path)
  local list = {}
  if not path then return list end
  for line in io.lines(path) do
    line = line:gsub("^%s*#.*", ""):gsub("%s+$", "")
    if line ~= "" then list[line] = true end
  end
  return list
end

local function is_open(list, family, name, mode)
  local key = family .. ": " .. name
  return list[family .. ": *"] or list[key] or list[("%s [%s]"):format(key, mode)]
end

-- == arguments =========================================================================================================

local function is_record(t) return type(t) == "table" and t.dtype ~= nil and t.shape ~= nil and t.data ~= nil end

-- {dtype, shape, data} becomes an array, at any depth.
local function arrays_of(t)
  if type(t) ~= "table" then return t end
  if is_record(t) then
    if #t.data == 0 then return mlax.zeros(t.shape, t.dtype) end
    return mlax.array(t.data, t.dtype):reshape(t.shape)
  end
  local r = {}
  for k, v in pairs(t) do r[k] = arrays_of(v) end
  return r
end

local nn = mlax.nn or {}
local names = {
  mlax = mlax, random = mlax.random, nn = mlax.nn, lax = mlax.lax, tree = mlax.tree, optim = mlax.optim, losses = mlax.losses,
  linalg = mlax.linalg, F = nn.functional, I = nn.initializers,
}

local function chunk_of(case, args)
  local function lookup(_, key)
    if args[key] ~= nil then return args[key] end
    if names[key] ~= nil then return names[key] end
    return _G[key]
  end
  return assert(load(case.code, "=case", "t", setmetatable({}, {__index = lookup})))
end

-- == comparison ========================================================================================================

local function elements(x)
  if x.size == 0 then return {} end
  if x.ndim == 0 then return {x:item()} end
  return x:reshape{x.size}:totable()
end

local function near(got, want, case)
  if got == want then return true end
  if type(got) ~= "number" or type(want) ~= "number" then return false end
  if want ~= want or got ~= got then return want ~= want and got ~= got end
  if math.abs(want) == math.huge or math.abs(got) == math.huge then return false end
  return math.abs(got - want) <= (case.atol or 0) + (case.rtol or 0) * math.abs(want)
end

-- The answers have nine digits, which are enough to name a float32 (or half): that one is meant.
local rounded = {float32 = true, float16 = true, bfloat16 = true}
local function meant(v, dtype)
  return rounded[dtype] and type(v) == "number" and (string.unpack("f", string.pack("f", v))) or v
end

local function array_difference(got, want, case)
  if not mlax.is_array(got) then return "need an array, got " .. type(got) end
  local have = ("%s{%s}"):format(got.dtype, table.concat(got.shape, ","))
  local need = ("%s{%s}"):format(want.dtype, table.concat(want.shape, ","))
  if have ~= need then return ("got %s, need %s"):format(have, need) end
  local values = elements(got)
  for i, v in ipairs(want.data) do
    if not near(values[i], meant(v, want.dtype), case) then
      return ("element %d of %d: got %s, need %s"):format(i, #want.data, tostring(values[i]), tostring(v))
    end
  end
end

-- nil, or what differs, with the path to it.
local function difference(got, want, case, path)
  local found
  if is_record(want) then found = array_difference(got, want, case)
  elseif type(want) == "table" then
    if type(got) ~= "table" then found = "need a table, got " .. type(got)
    else
      for k, v in pairs(want) do
        local inner = difference(got[k], v, case, path .. "." .. tostring(k))
        if inner then return inner end
      end
      for k in pairs(got) do
        if want[k] == nil then found = "unexpected key " .. tostring(k) end
      end
    end
  else
    if type(want) == "number" and mlax.is_array(got) then got = got:item() end
    if not near(got, want, case) then found = ("got %s, need %s"):format(tostring(got), tostring(want)) end
  end
  return found and path .. ": " .. found
end

-- == running ===========================================================================================================

local function call(case, mode)
  local args = arrays_of(case.args or {})
  if mode == "jit" then return mlax.jit(function(a) return chunk_of(case, a)() end)(args) end
  return chunk_of(case, args)()
end

-- nil, or what is wrong.
local function check(case, mode)
  local results = table.pack(pcall(call, case, mode))
  if case.error then
    if results[1] then return ("no error; need one with '%s'"):format(case.error) end
    local text = tostring(results[2])
    return not text:find(case.error, 1, true) and ("the error lacks '%s': %s"):format(case.error, text) or nil
  end
  if not results[1] then return tostring(results[2]) end
  for i = 1, case.n do
    local found = difference(results[i + 1], case.want[i], case, "result " .. i)
    if found then return found end
  end
end

local function modes(case, o) return o.jit and not case.eager and not case.error and {"eager", "jit"} or {"eager"} end

local function show(o, family, case, mode, problem, n)
  if not problem then
    if o.open then print(("passes now: %s: %s [%s]"):format(family, case.name, mode)) end
  elseif o.list then print(("%s: %s [%s]"):format(family, case.name, mode))
  elseif n <= o.max then print(("FAIL %s: %s [%s]\n     %s"):format(family, case.name, mode, problem))
  end
end

local function run_family(file, o, list)
  local family = file:match("([^/]*)%.lua$")
  local count = {passed = 0, failed = 0, left = 0}
  for _, case in ipairs(dofile(file)) do
    for _, mode in ipairs(modes(case, o)) do
      if o.only and not case.name:find(o.only, 1, true) then goto continue end
      if (is_open(list, family, case.name, mode) ~= nil) ~= (o.open or false) then
        count.left = count.left + 1
        goto continue
      end
      local _, problem = xpcall(check, function(e) return "the runner failed: " .. tostring(e) end, case, mode)
      local kind = problem and "failed" or "passed"
      count[kind] = count[kind] + 1
      show(o, family, case, mode, problem, count.failed)
      ::continue::
    end
  end
  print(("%s%-14s %5d passed %5d failed %5d %s"):format(o.list and "# " or "", family, count.passed, count.failed, count.left,
    o.open and "not open" or "open"))
  return count
end

local function main()
  local o = parse(arg)
  local list, passed, failed = read_list(o.skip_list), 0, 0
  for _, file in ipairs(o.files) do
    local count = run_family(file, o, list)
    passed, failed = passed + count.passed, failed + count.failed
  end
  print(("%s%d passed, %d failed"):format(o.list and "# " or "", passed, failed))
  return failed == 0
end

os.exit(main())
