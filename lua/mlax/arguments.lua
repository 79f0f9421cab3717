--- The arguments of a script: `--name value` and `--flag`, by a table of defaults.
--
--     local o = require "mlax.arguments"(USAGE, {data = "data/mnist", epochs = 3, quick = false})
--
-- A default that is a boolean makes a flag, a number an option that takes a number of the same kind, a string one that takes text. What
-- does not begin with `--` is kept in the list part, as many as `o[1]`, `o[2]`, ... stand among the defaults. `--help` writes the usage
-- and ends the script; so does, with status 1, anything that the defaults do not know.

local function stop(usage, message)
  io.stderr:write(message, "\n", usage, "\n")
  os.exit(1)
end

-- The text of an option's value as the type of its default.
local function converted(usage, name, text, default)
  if text == nil then stop(usage, ("--%s needs a value"):format(name)) end
  if type(default) ~= "number" then return text end
  local number = tonumber(text)
  if math.type(default) == "integer" then
    number = number and math.tointeger(number)
    if not number or number < 1 then stop(usage, ("--%s needs an integer of at least 1 (got %s)"):format(name, text)) end
  end
  return number or stop(usage, ("--%s needs a number (got %s)"):format(name, text))
end

return function(usage, defaults)
  local o, given, i = {}, 0, 1
  for name, value in pairs(defaults) do o[name] = value end
  while arg[i] do
    local name = arg[i]:match("^%-%-(.*)$")
    if name == "help" then
      print(usage)
      os.exit(0)
    elseif name == nil and defaults[given + 1] ~= nil then
      given = given + 1
      o[given] = arg[i]
    elseif name == nil or defaults[name] == nil then
      stop(usage, "unknown option " .. arg[i])
    elseif type(defaults[name]) == "boolean" then
      o[name] = true
    else
      o[name] = converted(usage, name, arg[i + 1], defaults[name])
      i = i + 1
    end
    i = i + 1
  end
  return o
end
