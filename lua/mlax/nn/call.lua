--- How F and FRng call a function of the user's: with the batch axis names where it asks for them.
local check = require "mlax.check"

local call = {}

local wants = setmetatable({}, {__mode = "k"}) -- function -> number of the parameter named axis_name, or 0

local function axis_name_of(f)
  local n = wants[f]
  if not n then
    n = 0
    for i = 2, 3 do
      if type(f) == "function" and debug.getlocal(f, i) == "axis_name" then n = i end
    end
    wants[f] = n
  end
  return n
end

--- Whether parameter n of f is named axis_name.
function call.wants_axis_name(f, n) return axis_name_of(f) == n end

--- The functions of a constructor, checked; infer_fn may be nil.
function call.functions(op, train_fn, infer_fn, ...)
  check.last(op, ...)
  check.callable(op, "train_fn", train_fn)
  if infer_fn ~= nil then check.callable(op, "infer_fn", infer_fn) end
  return train_fn, infer_fn
end

return call
