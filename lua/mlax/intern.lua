--- Functions made with equal arguments are one and the same function: initializers, activations, schedules, losses. Two models built
-- alike then have equal structures, since functions among their hyperparameters are compared by identity.
-- @module mlax.intern

local made = setmetatable({}, {__mode = "v"}) -- text of constructor and arguments -> function
local ids = setmetatable({}, {__mode = "k"})  -- objects among the arguments -> a number that is theirs alone
local last_id = 0

local function id_of(object)
  if not ids[object] then
    last_id = last_id + 1
    ids[object] = last_id
  end
  return ids[object]
end

local key_of

-- Entries in an order of their own: the texts of the keys, sorted.
local function key_of_table(t, depth)
  if depth > 20 then return "#" .. id_of(t) end
  local parts = {}
  for k, v in pairs(t) do parts[#parts + 1] = key_of(k, depth + 1) .. "=" .. key_of(v, depth + 1) end
  table.sort(parts)
  return "{" .. table.concat(parts, ",") .. "}"
end

-- Text that is equal for equal arguments: numbers of one subtype and value, strings, plain tables member by member, other objects by
-- identity.
function key_of(v, depth)
  local kind = math.type(v) or type(v)
  if kind == "integer" then return ("%d"):format(v) end
  if kind == "float" then return v == 0 and "0x0p+0" or v ~= v and "nan" or ("%a"):format(v) end
  if kind == "string" then return ("%q"):format(v) end
  if kind == "nil" or kind == "boolean" then return tostring(v) end
  if kind == "table" and getmetatable(v) == nil then return key_of_table(v, depth) end
  return "#" .. id_of(v)
end

--- The function that `make` gives, or the one that it gave before for the same constructor and equal arguments.
-- What it gives must depend on nothing else, and must not read the arguments' tables later: their owner may change them.
-- @param name the constructor, unlike any other ("glorot_normal", "schedule.cosine")
-- @param args its arguments, a list that may have holes
-- @param make function() that gives the function (or any other object)
--
--     function M.constant(v) return intern("constant", {v}, function() return function(key, shape) ... end end) end
return function(name, args, make)
  local key = name .. ":" .. key_of_table(args, 0)
  local f = made[key]
  if f == nil then
    f = make()
    made[key] = f
  end
  return f
end
