--- What progress and plot need to know of the terminal.
local core = require "mlax.core"

local terminal = {}

--- Whether "stdout" or "stderr" is a terminal.
function terminal.is_terminal(stream) return core.isatty(stream) end

--- Whether colours of 24 bits may be sent to it.
function terminal.has_colour(stream)
  if os.getenv("NO_COLOR") or os.getenv("TERM") == "dumb" then return false end
  return terminal.is_terminal(stream)
end

--- Seconds, as a float; only differences count.
function terminal.now() return core.clock and core.clock() or os.time() end

--- A number in at most about six characters.
function terminal.number(v)
  if v ~= v then return "nan" end
  if v == math.huge or v == -math.huge then return v > 0 and "inf" or "-inf" end
  if v == math.floor(v) and math.abs(v) < 1e6 then return ("%d"):format(v) end
  local size = math.abs(v)
  if size >= 1e5 or size < 1e-3 then return (("%.2e"):format(v):gsub("e([+-])0", "e%1"):gsub("e%+", "e")) end
  return ("%.4g"):format(v)
end

return terminal
