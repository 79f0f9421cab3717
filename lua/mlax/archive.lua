--- Open files of named arrays (core.open_safetensors, core.open_npz).
local core = require "mlax.core"

local archive = {}

--- Everything in a file, by name, from what core.open_* gave; nil, message.
function archive.all(file, message)
  if not file then return nil, message end
  local _ <close> = file
  local arrays = {}
  for i, entry in ipairs(core.archive_entries(file)) do
    arrays[entry.name], message = core.archive_read(file, i)
    if not arrays[entry.name] then return nil, message end
  end
  return arrays
end

return archive
