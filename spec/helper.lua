--- What the specs share: comparing arrays with lists of numbers, and error messages without file and line.
local mlax = require "mlax"

local helper = {}

local function flat(t, out)
  if type(t) ~= "table" then out[#out + 1] = t return out end
  for _, v in ipairs(t) do flat(v, out) end
  return out
end

--- The elements of an array as a flat list.
function helper.flat(x)
  if mlax.is_array(x) then
    if x.size == 0 then return {} end
    x = x.ndim == 0 and {x:item()} or x:totable()
  end
  return flat(x, {})
end

--- Asserts that the elements of x are those of `want`, a list or an array, up to `tolerance` (default 1e-5), relative to values above 1.
function helper.near(want, x, tolerance)
  local a, b = helper.flat(want), helper.flat(x)
  assert(#a == #b, ("%d values, want %d"):format(#b, #a))
  for i = 1, #a do
    local same = a[i] == b[i] or (a[i] ~= a[i] and b[i] ~= b[i])
      or type(a[i]) == "number" and type(b[i]) == "number" and math.abs(a[i] - b[i]) <= (tolerance or 1e-5) * math.max(1, math.abs(a[i]))
    assert(same, ("value %d is %s, want %s"):format(i, tostring(b[i]), tostring(a[i])))
  end
end

--- The message that a call raises, without "file:line: "; raises itself if the call does not.
function helper.message(f, ...)
  local ok, message = pcall(f, ...)
  assert(not ok, "no error was raised")
  local file, rest = tostring(message):match("^(.-%.lua:%d+): (.*)$")
  assert(file and not file:find("mlax/", 1, true), "the message does not name the user's line: " .. tostring(message))
  return rest
end

--- Central differences of a scalar function of an array of float64.
function helper.differences(f, x, step)
  step = step or 1e-6
  local values, grads = helper.flat(x), {}
  for i, v in ipairs(values) do
    local function at(w)
      values[i] = w
      local y = f(mlax.array(values, "float64"):reshape(x.shape)):item()
      values[i] = v
      return y
    end
    grads[i] = (at(v + step) - at(v - step)) / (2 * step)
  end
  return grads
end

--- By how many bytes live memory grows at most while a function is called so often and nothing is collected.
function helper.growth(n, f)
  collectgarbage()
  collectgarbage()
  local live, peak = mlax.memory().live, 0
  collectgarbage("stop")
  for _ = 1, n do
    f()
    peak = math.max(peak, mlax.memory().live)
  end
  collectgarbage("restart")
  return peak - live
end

return helper
