--- Plain Lua tensors for references: {shape = {...}, data = flat list in row-major order}, and arrays made from and compared with them.
-- Nothing here computes with mlax: it is what mlax is compared with.
local mlax = require "mlax"

local tensor = {}

function tensor.size(shape)
  local n = 1
  for _, d in ipairs(shape) do n = n * d end
  return n
end

-- The place (from 1) of a list of positions (each from 1).
local function place(shape, at)
  local p = 0
  for i, d in ipairs(shape) do p = p * d + at[i] - 1 end
  return p + 1
end

--- All lists of positions in row-major order; the list is reused.
function tensor.positions(shape)
  local n, k = tensor.size(shape), 0
  local at = {}
  for i = 1, #shape do at[i] = 1 end
  if #shape > 0 then at[#shape] = 0 end
  return function()
    k = k + 1
    if k > n then return nil end
    for i = #shape, 1, -1 do
      at[i] = at[i] + 1
      if at[i] <= shape[i] then break end
      at[i] = 1
    end
    return at
  end
end

--- The tensor of f(positions).
function tensor.build(shape, f)
  local data = {}
  for at in tensor.positions(shape) do data[#data + 1] = f(at) end
  return {shape = shape, data = data}
end

--- One element.
function tensor.get(t, at) return t.data[place(t.shape, at)] end

--- Changes one element.
function tensor.put(t, at, v) t.data[place(t.shape, at)] = v end

--- A copy of a tensor, or of a plain list of positions.
function tensor.copy(t)
  if not t.shape then return table.move(t, 1, #t, 1, {}) end
  return {shape = t.shape, data = table.move(t.data, 1, #t.data, 1, {})}
end

--- The shape to which shapes broadcast.
function tensor.broadcast_shape(...)
  local shape = {}
  for _, s in ipairs{...} do
    local offset = #shape - #s
    if offset < 0 then
      shape = table.move(shape, 1, #shape, 1 - offset, table.move(s, 1, -offset, 1, {}))
      offset = 0
    end
    for i, d in ipairs(s) do if d ~= 1 then shape[offset + i] = d end end
  end
  return shape
end

--- The element that stands at a position of the shape to which t is broadcast.
function tensor.broadcast_get(t, at)
  local own, offset = {}, #at - #t.shape
  for i, d in ipairs(t.shape) do own[i] = d == 1 and 1 or at[offset + i] end
  return tensor.get(t, own)
end

local function list_text(t) return "{" .. table.concat(t, ",") .. "}" end

-- f of the elements of one tensor, or of two of one shape.
local function map_flat(f, x, y)
  local data = {}
  for i, v in ipairs(x.data) do data[i] = f(v, y and y.data[i]) end
  return {shape = x.shape, data = data}
end

--- f of the elements, broadcast.
function tensor.map(f, ...)
  local operands, shapes = {...}, {}
  if #operands == 1 then return map_flat(function(v) return f(v) end, ...) end
  if #operands == 2 and list_text(operands[1].shape) == list_text(operands[2].shape) then return map_flat(f, ...) end
  for i, t in ipairs(operands) do shapes[i] = t.shape end
  local v = {}
  return tensor.build(tensor.broadcast_shape(table.unpack(shapes)), function(at)
    for i, t in ipairs(operands) do v[i] = tensor.broadcast_get(t, at) end
    return f(table.unpack(v, 1, #operands))
  end)
end

--- The lines of t along an axis: f(list) gives a list of any one length (or one value, if `drop`, which drops the axis).
function tensor.along(t, axis, f, drop)
  local rest = table.move(t.shape, 1, #t.shape, 1, {})
  table.remove(rest, axis)
  local lines, length = {}, nil
  for at in tensor.positions(rest) do
    local full, line = table.move(at, 1, #at, 1, {}), {}
    table.insert(full, axis, 1)
    for k = 1, t.shape[axis] do
      full[axis] = k
      line[k] = tensor.get(t, full)
    end
    lines[#lines + 1] = f(line)
    length = not drop and #lines[#lines] or nil
  end
  local function line_at(at, skip)
    local p = 0
    for i = 1, #at do if i ~= skip then p = p * t.shape[i] + at[i] - 1 end end
    return lines[p + 1]
  end
  if drop then
    return tensor.build(rest, function(at)
      local full = table.move(at, 1, #at, 1, {})
      table.insert(full, axis, 1)
      return line_at(full, axis)
    end)
  end
  local shape = table.move(t.shape, 1, #t.shape, 1, {})
  shape[axis] = length or shape[axis]
  return tensor.build(shape, function(at) return line_at(at, axis)[at[axis]] end)
end

-- -- dtypes ---------------------------------------------------------------------------------------------------------------

tensor.floats = {"float16", "bfloat16", "float32", "float64"}
tensor.signed = {"int8", "int16", "int32", "int64"}
tensor.unsigned = {"uint8", "uint16", "uint32", "uint64"}

function tensor.is_float(dtype) return dtype:find("float", 1, true) ~= nil end
function tensor.is_unsigned(dtype) return dtype:sub(1, 1) == "u" end
function tensor.bits(dtype) return math.tointeger(tonumber(dtype:match("%d+"))) end

--- An integer as the dtype holds it: the low bits, sign extended for signed ones.
function tensor.wrap(v, dtype)
  local bits = tensor.bits(dtype)
  if bits == 64 then return v end
  v = v & ((1 << bits) - 1)
  if not tensor.is_unsigned(dtype) and v >> (bits - 1) == 1 then v = v - (1 << bits) end
  return v
end

--- The least and greatest integers of a dtype; of uint64 as Lua holds it.
function tensor.limits(dtype)
  local bits = tensor.bits(dtype)
  if tensor.is_unsigned(dtype) then return 0, bits == 64 and -1 or (1 << bits) - 1 end
  return bits == 64 and math.mininteger or -(1 << (bits - 1)), bits == 64 and math.maxinteger or (1 << (bits - 1)) - 1
end

-- -- arrays ---------------------------------------------------------------------------------------------------------------

local function flatten(t, out)
  if type(t) ~= "table" then
    out[#out + 1] = t
  else
    for _, v in ipairs(t) do flatten(v, out) end
  end
  return out
end

--- The tensor of an array's values.
function tensor.of(x)
  if x.size == 0 then return {shape = x.shape, data = {}} end
  return {shape = x.shape, data = flatten(x.ndim == 0 and x:item() or x:totable(), {})}
end

--- A contiguous array.
function tensor.array(t, dtype)
  if #t.data == 0 then return mlax.zeros(t.shape, dtype) end
  return mlax.array(t.data, dtype):reshape(t.shape)
end

-- As t, with axes in another order.
local function transposed(t, axes)
  local shape = {}
  for i, a in ipairs(axes) do shape[i] = t.shape[a] end
  return tensor.build(shape, function(at)
    local full = {}
    for i, a in ipairs(axes) do full[a] = at[i] end
    return tensor.get(t, full)
  end)
end

-- The axes in reverse.
local function backwards(n)
  local axes = {}
  for i = 1, n do axes[i] = n + 1 - i end
  return axes
end

--- The same values as the transpose of an array.
function tensor.transpose_of(t, dtype)
  local axes = backwards(#t.shape)
  return tensor.array(transposed(t, axes), dtype):transpose(axes)
end

--- The same values behind other strides: a transpose, a reversed slice, every second element of a larger array.
function tensor.layouts(t, dtype)
  local n, list = #t.shape, {}
  if n == 0 or #t.data == 0 then return list end
  if n > 1 then list.transposed = tensor.transpose_of(t, dtype) end
  local last = t.shape[n]
  local turned = tensor.build(t.shape, function(at)
    local back = table.move(at, 1, n, 1, {})
    back[n] = last + 1 - at[n]
    return tensor.get(t, back)
  end)
  list.reversed = tensor.array(turned, dtype)["..., ::-1"]
  -- Every second of the last axis from the first (of a vector: from the second), behind a row that is left out.
  local skip = n == 1 and 1 or 0
  local wide_shape = table.move(t.shape, 1, n, 1, {})
  wide_shape[n] = 2 * last + skip
  if n > 1 then wide_shape[1] = wide_shape[1] + 1 end
  local wide = tensor.build(wide_shape, function(at)
    local own = table.move(at, 1, n, 1, {})
    if n > 1 then own[1] = at[1] - 1 end
    local k = at[n] - 1 - skip
    own[n] = k // 2 + 1
    if k % 2 == 1 or k < 0 or n > 1 and own[1] == 0 then return t.data[1] end
    return tensor.get(t, own)
  end)
  local key = {}
  for i = 1, n do key[i] = {} end
  key[1] = {2, wide_shape[1]}
  key[n] = {1 + skip, wide_shape[n], 2}
  list.strided = tensor.array(wide, dtype)[key]
  return list
end

--- The tensor whose values along axis 1 are all those of its first position, and the array that views them.
function tensor.repeated(t, dtype)
  if #t.shape == 0 or #t.data == 0 then return nil end
  local first = tensor.build(table.move(t.shape, 2, #t.shape, 1, {}), function(at)
    return tensor.get(t, {1, table.unpack(at)})
  end)
  local all = tensor.build(t.shape, function(at) return tensor.get(first, table.move(at, 2, #at, 1, {})) end)
  return all, tensor.array(first, dtype):broadcast_to(t.shape)
end

-- -- comparison -----------------------------------------------------------------------------------------------------------

local eps = {float16 = 2.0 ^ -10, bfloat16 = 2.0 ^ -7, float32 = 2.0 ^ -23, float64 = 2.0 ^ -52}
tensor.eps = eps

local function same(want, got, tolerance)
  if type(want) == "boolean" or math.type(want) == "integer" and math.type(got) == "integer" then return want == got end
  if type(got) ~= "number" then return false end
  if want ~= want or got ~= got then return want ~= want and got ~= got end
  if want == got then return true end
  return math.abs(want - got) <= tolerance * math.max(1, math.abs(want)) and math.abs(got) ~= math.huge
end

--- nil where the array holds the tensor's values up to the tolerance, else what differs.
function tensor.difference(want, x, tolerance)
  local got = tensor.of(x)
  if list_text(want.shape) ~= list_text(got.shape) then
    return ("shape %s, want %s"):format(list_text(got.shape), list_text(want.shape))
  end
  for i, w in ipairs(want.data) do
    if not same(w, got.data[i], tolerance) then
      return ("element %d of %s is %s, want %s"):format(i, list_text(want.shape), tostring(got.data[i]), tostring(w))
    end
  end
end

--- Two arrays, or lists of arrays, are equal up to the tolerance (0: exactly), dtypes included.
function tensor.arrays_differ(want, got, tolerance)
  if mlax.is_array(want) then want, got = {want}, {got} end
  if #want ~= #got then return ("%d results, want %d"):format(#got, #want) end
  for i, w in ipairs(want) do
    if w.dtype ~= got[i].dtype then return ("dtype %s, want %s"):format(got[i].dtype, w.dtype) end
    local difference = tensor.difference(tensor.of(w), got[i], tolerance)
    if difference then return difference end
  end
end

-- -- samples --------------------------------------------------------------------------------------------------------------

--- A generator of numbers in [0, 1) that depends on the seed text alone.
function tensor.random(seed)
  local state = 88172645463325252
  local function mix() -- one step of splitmix64's finalizer: seeds that differ in a letter give unrelated numbers
    state = (state ~ (state >> 30)) * 0xbf58476d1ce4e5b9
    state = (state ~ (state >> 27)) * 0x94d049bb133111eb
    state = state ~ (state >> 31)
  end
  for i = 1, #seed do
    state = state + seed:byte(i) * 0x9e3779b97f4a7c15
    mix()
  end
  if state == 0 then state = 1 end
  return function()
    state = state ~ (state << 13)
    state = state ~ (state >> 7)
    state = state ~ (state << 17)
    return (state >> 11) * 2.0 ^ -53
  end
end

--- A tensor of the dtype with values from low to high; for integers cut to what the dtype holds.
function tensor.sample(random, shape, dtype, low, high)
  low, high = low or -2, high or 2
  if dtype == "bool" then return tensor.build(shape, function() return random() < 0.5 end) end
  if not tensor.is_float(dtype) then
    if tensor.is_unsigned(dtype) and low < 0 then low = 0 end
    low, high = math.ceil(low), math.floor(high)
    return tensor.build(shape, function() return low + math.floor(random() * (high - low + 1)) end)
  end
  -- Seven bits, which every float dtype holds for values up to 1, here a share of the range; rounding is done by the array.
  local t = tensor.build(shape, function() return low + (high - low) * random() end)
  return dtype == "float64" and t or tensor.of(tensor.array(t, dtype))
end

return tensor
