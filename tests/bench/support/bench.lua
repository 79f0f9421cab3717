-- bench.lua: what every benchmark of tests/bench is run by. The protocol stands in ../README.md.
--
--     local bench = dofile((arg[0]:match("^(.*)/") or ".") .. "/support/bench.lua")
--     bench.add("gelu_1e6", function()                 -- makes what is needed ...
--       local x = mlax.random.normal(mlax.random.key(0), {1000000})
--       local f = mlax.jit(gelu)
--       return function() return f(x) end              -- ... and gives the call that is measured
--     end)
--     bench.run()
--
-- mlax itself is required when the first workload is made: a program that only lists its names starts nothing.
local bench = {}

local workloads, order = {}, {}

local function clock() return require("mlax.core").clock() end

--- Adds a workload.
-- @param name no white space, no `:` or `@`
-- @param make gives the function of one call; run when the workload is first asked for
-- @param options `once`: its first call in a fresh process and that process's memory are measured, too; `steady = false`: only
-- these are
function bench.add(name, make, options)
  options = options or {}
  assert(not workloads[name] and not name:find("[%s:@]"), name)
  workloads[name] = {name = name, make = make, once = options.once or options.steady == false, steady = options.steady ~= false}
  order[#order + 1] = workloads[name]
end

-- -- measuring ----------------------------------------------------------------------------------------------------------

-- Seconds of n calls. The results of all but the last are garbage at once, as in a user's loop.
local function seconds_of(call, n)
  local start = clock()
  for _ = 1, n do call() end
  return clock() - start
end

local current -- the workload that is made: {workload, call, seconds of a call}; one at a time, so that memory stays small

local function made(w)
  if current and current.workload == w then return current end
  current = nil
  collectgarbage()
  local call = w.make()
  seconds_of(call, 2)
  local n, seconds = 1, seconds_of(call, 1)
  while seconds < 0.005 do
    n = n * 4
    seconds = seconds_of(call, n)
  end
  current = {workload = w, call = call, each = seconds / n}
  return current
end

-- Seconds of one call: the mean over calls that take about `length` seconds together.
local function sample(w, length)
  local m = made(w)
  local n = math.max(1, math.floor(length / m.each + 0.5))
  m.each = seconds_of(m.call, n) / n
  return m.each
end

local function median(list)
  table.sort(list)
  local n = #list
  return n % 2 == 1 and list[(n + 1) // 2] or (list[n // 2] + list[n // 2 + 1]) / 2
end

-- The most memory this process has held, in bytes; nil where the system does not say.
local function peak_memory()
  local file = io.open("/proc/self/status")
  if not file then return nil end
  local kilobytes = file:read("a"):match("VmHWM:%s*(%d+)")
  file:close()
  return kilobytes and tonumber(kilobytes) * 1024
end

-- -- what the command line asks for -------------------------------------------------------------------------------------

local function say(...)
  io.stdout:write(table.concat({...}, "\t"), "\n")
  io.stdout:flush()
end

local function rows_of(w)
  local rows = {}
  if w.steady then rows[#rows + 1] = w.name end
  if w.once then
    rows[#rows + 1] = w.name .. ":first"
    rows[#rows + 1] = w.name .. ":memory"
  end
  return rows
end

local function all_rows()
  local rows = {}
  for _, w in ipairs(order) do
    for _, row in ipairs(rows_of(w)) do rows[#rows + 1] = row end
  end
  return rows
end

-- NAME<TAB>SECONDS in, NAME<TAB>SECONDS out, until the input ends.
local function serve()
  say(table.unpack(all_rows()))
  for line in io.lines() do
    local name, length = line:match("^([^\t]*)\t([^\t]*)$")
    local w = workloads[name]
    local ok, result = pcall(function()
      if not w or not w.steady then error("there is no such workload", 0) end
      return sample(w, tonumber(length))
    end)
    if ok then say(name, ("%.9g"):format(result)) else say(name or line, "error", (tostring(result):gsub("%s+", " "))) end
  end
end

-- The first call in this process, then `more` calls; what was the most memory.
local function once(name, more)
  local call = assert(workloads[name], "there is no such workload").make()
  call()
  say(name, "first")
  for _ = 1, more do call() end
  say(name, "memory", ("%d"):format(peak_memory() or -1))
end

-- The steps of one warm call; the trace goes to `path`, if there is one.
local function profile(name, path)
  local m = made(assert(workloads[name], "there is no such workload"))
  local to = path or os.tmpname()
  require("mlax").profile(to, m.call)
  if not path then os.remove(to) end
end

-- What `once` says in a fresh process, timed from here.
local function fresh(w)
  local interpreter = arg[-1]
  local start = clock()
  local process = assert(io.popen(("'%s' '%s' --once %s"):format(interpreter, arg[0], w.name)))
  assert(process:read("l"), "the process of " .. w.name .. " failed")
  local first = clock() - start
  local bytes = process:read("a"):match("\tmemory\t(%d+)")
  process:close()
  return first, bytes
end

local function alone(wanted, rounds, length)
  require "mlax"
  for _, w in ipairs(order) do
    if w.steady and wanted(w.name) then
      local list = {}
      for r = 1, rounds do list[r] = sample(w, length) end
      say(w.name, ("%.9g"):format(median(list)))
    end
    if w.once and wanted(w.name .. ":first") then
      local first, bytes = fresh(w)
      say(w.name .. ":first", ("%.9g"):format(first))
      if bytes then say(w.name .. ":memory", bytes) end
    end
  end
end

--- Does what the command line asks for: `--list`, `--serve`, `--once NAME [CALLS]`, `--profile NAME [PATH]`, or measures alone:
-- `[--quick] [WORD...]`, where a workload is wanted when its name contains one of the words.
function bench.run()
  local options = table.move(arg, 1, #arg, 1, {})
  local function drop(name)
    for i, v in ipairs(options) do if v == name then return table.remove(options, i) end end
  end
  if drop("--list") then return say(table.concat(all_rows(), "\n")) end
  if drop("--serve") then return serve() end
  if drop("--once") then return once(options[1], tonumber(options[2]) or 5) end
  if drop("--profile") then return profile(options[1], options[2]) end
  local quick = drop("--quick")
  alone(function(name)
    for _, word in ipairs(options) do if name:find(word, 1, true) then return true end end
    return #options == 0
  end, quick and 3 or 9, quick and 0.02 or 0.1)
end

return bench
