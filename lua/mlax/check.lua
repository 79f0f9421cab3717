--- Argument checks of the Lua half: every message reads `file:line: op: what is wrong (got ..., need ...)`, with the line of the
-- caller's own file, not of ours.
local core = require "mlax.core"

local mlax = core.mlax

local check = {}

--- check.fail(op, format, ...) raises `file:line: op: text`, followed by the path of the running module, where there is one.
check.fail = core.fail

--- A short text of a value for messages: "float32[2,3]".
function check.show(v)
  if mlax.is_array(v) then return v.dtype .. "[" .. table.concat(v.shape, ",") .. "]" end
  if type(v) == "string" then return ("%q"):format(v) end
  if type(v) == "number" or type(v) == "boolean" or v == nil then return tostring(v) end
  if mlax.is_module(v) then return "a module, " .. tostring(mlax.class_of(v)) end
  if type(v) == "userdata" then return core.type_name(v) end
  return "a " .. type(v)
end

--- The options table, or an empty one. `known` lists the names that it may hold, separated by spaces; arguments after it raise.
function check.options(op, options, known, ...)
  if select("#", ...) > 0 and (...) ~= nil then check.fail(op, "too many arguments (got %s after the options)", check.show((...))) end
  if options == nil then return {} end
  if type(options) ~= "table" then
    check.fail(op, "the options must be a table (got %s, need one of: %s)", check.show(options), (known:gsub(" ", ", ")))
  end
  for name in pairs(options) do
    if type(name) ~= "string" or not (" " .. known .. " "):find(" " .. name .. " ", 1, true) then
      local list = {}
      for word in known:gmatch("%S+") do list[#list + 1] = word end
      local near = type(name) == "string" and core.guess(name, list)
      check.fail(op, "unknown option '%s'%s (known: %s)", tostring(name), near and (", did you mean '%s'?"):format(near) or "",
        #list > 0 and table.concat(list, ", ") or "none")
    end
  end
  return options
end

--- Raises where arguments follow the last one that a function knows.
function check.last(op, ...)
  if select("#", ...) > 0 and (...) ~= nil then check.fail(op, "too many arguments (got %s after the last one)", check.show((...))) end
end

--- An array; a Lua number or boolean becomes one.
function check.array(op, what, x)
  if mlax.is_array(x) then return x end
  if type(x) == "number" or type(x) == "boolean" then return mlax.array(x) end
  check.fail(op, "%s must be an array (got %s)%s", what, check.show(x), type(x) == "table" and ", make one: mlax.array{...}"
    or mlax.is_parameter(x) and ", the Parameter's array is its field data" or "")
end

--- An integer of at least `low`; 5.0 is taken for 5.
function check.int(op, what, v, low)
  local i = math.type(v) and math.tointeger(v)
  if not i or (low and i < low) then
    check.fail(op, "%s must be an integer%s (got %s)", what, low and (" of at least %d"):format(low) or "", check.show(v))
  end
  return i
end

--- Raises where a method was called with '.' and so got no object.
function check.self(op, class, v, name)
  if getmetatable(v) ~= class then
    check.fail(op, "call it with ':', object:%s(...) (got %s in the place of the object)", name, check.show(v))
  end
end

--- The array of a Parameter of a layer, which is there once the layer has been set up.
function check.kernel(op, parameter)
  local data = parameter.data
  if data == nil then check.fail(op, "the layer is not initialized: call it, layer(x), before its forward") end
  return data
end

--- A number.
function check.number(op, what, v)
  if type(v) ~= "number" then check.fail(op, "%s must be a number (got %s)", what, check.show(v)) end
  return v
end

--- Whether a value can be called: a function, a jitted function, a Module.
function check.is_callable(v)
  if type(v) == "function" then return true end
  local meta = getmetatable(v)
  return type(meta) == "table" and meta.__call ~= nil or type(v) == "userdata" and not mlax.is_array(v)
end

--- Something that can be called: a function, a jitted function, a Module.
function check.callable(op, what, f)
  if not check.is_callable(f) then check.fail(op, "%s must be a function (got %s)", what, check.show(f)) end
  return f
end

--- A key: uint32[2].
function check.key(op, what, key)
  if not mlax.is_array(key) or key.dtype ~= "uint32" or key.ndim ~= 1 or key.shape[1] ~= 2 then
    check.fail(op, "%s must be a key (got %s, need uint32[2] as random.key gives)", what, check.show(key))
  end
  return key
end

local dtypes = {}
for name in ("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64"):gmatch("%S+") do
  dtypes[#dtypes + 1], dtypes[name] = name, true
end

--- The name of a dtype; nil gives `otherwise`.
function check.dtype(op, what, dtype, otherwise)
  if dtype == nil then return otherwise end
  if not dtypes[dtype] then
    local near = type(dtype) == "string" and core.guess(dtype, dtypes)
    check.fail(op, "%s must be a dtype (got %s%s)", what, check.show(dtype), near and (", did you mean '%s'?"):format(near) or "")
  end
  return dtype
end

--- An axis counted from 1 or from -1 backwards, as a number from 1.
function check.axis(op, what, axis, ndim)
  local i = check.int(op, what, axis)
  if i == 0 then check.fail(op, "%s is 0: axes count from 1, or from -1 backwards", what) end
  if i > ndim or i < -ndim then check.fail(op, "%s is outside the array (got %d, need 1 to %d)", what, i, ndim) end
  return i < 0 and ndim + 1 + i or i
end

--- A number or a list of numbers as a rising list of distinct axes from 1.
function check.axes(op, what, axes, ndim)
  if type(axes) ~= "table" then axes = {axes} end
  local list, seen = {}, {}
  for i, axis in ipairs(axes) do
    list[i] = check.axis(op, what, axis, ndim)
    if seen[list[i]] then check.fail(op, "%s names axis %d twice", what, list[i]) end
    seen[list[i]] = true
  end
  table.sort(list)
  return list
end

return check
