--- mlax.profile: what the steps of a computation cost.
-- C records each step while the function runs (`core.record`) and writes the trace; the table is made here.
local core = require "mlax.core"
local check = require "mlax.check"

local M = {}

local ROWS = 10

local function duration(seconds)
  if seconds < 1e-3 then return ("%.1f us"):format(seconds * 1e6) end
  if seconds < 1 then return ("%.3g ms"):format(seconds * 1e3) end
  return ("%.3g s"):format(seconds)
end

-- Work per second in units of 1e9; empty where there is none.
local function giga(work, seconds)
  if work == 0 or seconds <= 0 then return "" end
  return ("%.3g"):format(work / seconds / 1e9)
end

local function columns(step, whole)
  local share = whole > 0 and ("%.1f%%"):format(100 * step.seconds / whole) or ""
  return {step.name, step.line, step.result, ("%d"):format(step.calls), duration(step.seconds), share,
          giga(step.flops, step.seconds), giga(step.bytes, step.seconds)}
end

local HEAD = {"operation", "line", "result", "calls", "time", "share", "GF/s", "GB/s"}
local LEFT = 3 -- columns that are text

-- Rows of texts as aligned lines.
local function aligned(rows)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for i, text in ipairs(row) do widths[i] = math.max(widths[i] or 0, #text) end
  end
  for r, row in ipairs(rows) do
    local cells = {}
    for i, text in ipairs(row) do
      local pad = (" "):rep(widths[i] - #text)
      cells[i] = i <= LEFT and text .. pad or pad .. text
    end
    lines[r] = (table.concat(cells, "  "):gsub("%s+$", ""))
  end
  return lines
end

-- The heaviest steps of a stopped recording as text.
local function report(recording)
  local seconds, inside, steps, left = recording:total()
  local rows = {HEAD}
  for i, step in ipairs(recording:heaviest(ROWS)) do rows[i + 1] = columns(step, inside) end
  local lines = aligned(rows)
  lines[#lines + 1] = ("%d steps took %s of %s"):format(steps, duration(inside), duration(seconds))
  if left > 0 then lines[#lines + 1] = ("the trace has no room for %d of them"):format(left) end
  return table.concat(lines, "\n") .. "\n"
end

--- Runs a function, writes what each of its steps took as a Chrome trace (for chrome://tracing or Perfetto) and prints the ten
-- heaviest.
-- A step is what ran as one: an operation, or a group of elementwise operations that compiled code does in one pass
-- (`mul+add+exp`). Its entry in the trace says the operation, the
-- Lua line that made it, the shapes, floating point operations, bytes of operands and results, and both per second. Steps inside
-- `scan`, `while_loop` and other control flow stand below the step that ran them, one entry each with the time of all calls; in the
-- printed table the time of control flow is without that of the steps inside. Views take no step; what is outside the steps is Lua,
-- tracing and dispatch. Call a jitted function once before, or its tracing is a part of the time.
--
-- Raises where another profile is being made. An error of f passes on, and no file is written.
-- @param path where the trace goes; an older file is replaced
-- @param f a function without arguments
-- @return what f returns; or `nil, message` where the file cannot be written
-- @usage local path = os.tmpname()
-- local y = mlax.profile(path, function() return (mlax.ones{3} * 2):sum() end)
-- print(y, os.remove(path))   --> float32[] 6 true
function M.profile(path, f, ...)
  if type(path) ~= "string" then check.fail("profile", "the path is no string (got %s)", check.show(path)) end
  local callable = type(f) == "function" or core.is_jit(f) or core.mlax.is_module(f)
  if not callable then check.fail("profile", "a function or module is needed (got %s)", check.show(f)) end
  if select("#", ...) > 0 then check.fail("profile", "too many arguments (got %s after the function)", check.show((...))) end
  local recording <close> = core.record()
  local results = table.pack(f())
  recording:stop()
  local ok, message = recording:write(path)
  if not ok then return nil, message end
  io.stdout:write(report(recording))
  return table.unpack(results, 1, results.n)
end

return M
