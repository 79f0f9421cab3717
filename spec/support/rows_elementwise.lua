--- The rows of the elementwise primitives and of conversions and choice; see drive.lua for the fields.
-- A reference is a function of Lua floats; `int` is that of integers, which also gets the dtype. `special`: which values to combine in
-- the test of special values (false: none), `unsigned_zero`: the sign of a 0 does not matter there; `no_edges`, `skip_zero`: the reference
-- of integers knows no extreme values, no second operand 0.
local mlax = require "mlax"
local reference = require "spec.support.reference"
local tensor = require "spec.support.tensor"

local lax = mlax.lax
local inf, nan = math.huge, 0 / 0
local is_float, is_unsigned = tensor.is_float, tensor.is_unsigned

local rows = {}

local shapes = {
  {{{}}, {{0}}, {{1}}, {{7}}, {{33}}, {{3, 5}}, {{2, 0, 3}}, {{2, 3, 4}}},
  {{{}, {}}, {{5}, {5}}, {{3, 1}, {4}}, {{}, {6}}, {{2, 1, 3}, {4, 1}}, {{0}, {1}}, {{17}, {17}}, {{2, 3}, {2, 3}}, {{2, 3}, {}}},
}

local large = {{{{103, 107}}}, {{{103, 107}, {103, 107}}, {{31, 107}, {107}}}}

local numbers = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32", "float64"}
local integers = table.move(numbers, 1, 8, 1, {})
local bits = {"bool", table.unpack(integers)}
local all = {"bool", table.unpack(numbers)}

-- The reference of a case from those of floats and integers.
local function pointwise(row, arity)
  return function(...)
    local dtype = select(arity + 1, ...)
    local f = row.float
    if dtype == "bool" then f = row.bool or row.int
    elseif not is_float(dtype) then f = row.int end
    if f == nil then -- integers become floats first
      f = function(x, y) return row.float(x + 0.0, arity == 2 and y + 0.0 or nil) end
    end
    return tensor.map(function(x, y)
      if f == row.float then return f(x, arity == 2 and y or nil) end
      if arity == 1 then return f(x, dtype) end
      return f(x, y, dtype)
    end, table.unpack({...}, 1, arity))
  end
end

-- A row of arity operands: {float, int = ..., ...}.
local function elementwise(name, arity, row)
  row.float = row[1]
  row.f = row.f or rawget(lax, name) or mlax[name]
  row.ref = pointwise(row, arity)
  row.cases = {}
  for i, args in ipairs(shapes[arity]) do row.cases[i] = {args = args} end
  row.large = {}
  for i, args in ipairs(large[arity]) do row.large[i] = {args = args} end
  row.dtypes = row.dtypes or numbers
  if not row.out and not row.int and row.float then row.out = function(dtype) return is_float(dtype) and dtype or "float32" end end
  row.elementwise = arity
  rows[name] = row
end

local function unary(name, row) elementwise(name, 1, row) end
local function binary(name, row) elementwise(name, 2, row) end

-- Comparison of integers of the dtype.
local function less(x, y, dtype)
  if dtype and is_unsigned(dtype) then return math.ult(x, y) end
  return x < y
end

-- -- one operand ----------------------------------------------------------------------------------------------------------

unary("abs", {function(x) return x ~= x and x or math.abs(x) end,
  int = function(x, dtype) return not is_unsigned(dtype) and x < 0 and -x or x end})
unary("sign", {function(x) return (x ~= x or x == 0) and x or x > 0 and 1.0 or -1.0 end,
  int = function(x, dtype) return x == 0 and 0 or (is_unsigned(dtype) or x > 0) and 1 or -1 end})
unary("neg", {function(x) return -x end, int = function(x) return -x end})
unary("exp", {math.exp})
unary("exp2", {function(x) return 2.0 ^ x end})
unary("expm1", {reference.expm1})
unary("log", {math.log, domain = {0.1, 4}, int_domain = {1, 50}})
unary("log2", {function(x) return math.log(x, 2) end, domain = {0.1, 4}, int_domain = {1, 50}})
unary("log1p", {reference.log1p, domain = {-0.8, 4}, int_domain = {0, 50}})
unary("sqrt", {math.sqrt, domain = {0.1, 4}, int_domain = {0, 50}})
unary("rsqrt", {function(x) return 1 / math.sqrt(x) end, domain = {0.2, 4}, int_domain = {1, 50}})
unary("cbrt", {reference.cbrt, domain = {0.2, 8}})
unary("square", {function(x) return x * x end, int = function(x) return x * x end})
unary("reciprocal", {function(x) return 1 / x end, domain = {0.3, 3}, int_domain = {1, 50}})
unary("sin", {math.sin})
unary("cos", {math.cos})
unary("tan", {math.tan, domain = {-1.2, 1.2}, int_domain = {-1, 1}})
unary("asin", {math.asin, domain = {-0.9, 0.9}, int_domain = {-1, 1}})
unary("acos", {math.acos, domain = {-0.9, 0.9}, int_domain = {-1, 1}})
unary("atan", {math.atan})
unary("sinh", {reference.sinh, int_domain = {-5, 5}})
unary("cosh", {reference.cosh, int_domain = {-5, 5}})
unary("tanh", {reference.tanh})
unary("asinh", {function(x)
  if x == 0 or math.abs(x) == inf then return x end
  local a = math.abs(x)
  local y = a > 1e9 and math.log(a) + math.log(2) or reference.log1p(a + a * a / (1 + math.sqrt(1 + a * a)))
  return x < 0 and -y or y
end})
unary("acosh", {function(x) return x < 1 and nan or x > 1e9 and math.log(x) + math.log(2) or math.log(x + math.sqrt(x * x - 1)) end,
  domain = {1.2, 4}, int_domain = {1, 50}})
unary("atanh", {function(x) return x == 0 and x or (reference.log1p(x) - reference.log1p(-x)) / 2 end, domain = {-0.9, 0.9},
  int_domain = {0, 0}})
unary("sigmoid", {function(x) return 1 / (1 + math.exp(-x)) end})
unary("erf", {reference.erf})
unary("erfc", {reference.erfc})
unary("erf_inv", {reference.erf_inv, domain = {-0.9, 0.9}, int_domain = {0, 0}})
unary("lgamma", {reference.lgamma, domain = {0.3, 6}, int_domain = {1, 50}, ulp = {float64 = 100}})
unary("digamma", {reference.digamma, domain = {0.3, 6}, int_domain = {1, 50}, ulp = {float64 = 20}, special = false})
unary("polygamma", {function(x) return reference.polygamma(2, x) end, f = function(x) return lax.polygamma(2, x) end,
  domain = {0.3, 6}, int_domain = {1, 50}, ulp = {float64 = 20}, special = false})
unary("floor", {reference.floor})
unary("ceil", {reference.ceil})
unary("round", {reference.round})
unary("trunc", {reference.trunc})
unary("isnan", {function(x) return x ~= x end, out = "bool"})
unary("isinf", {function(x) return math.abs(x) == inf end, out = "bool"})
unary("isfinite", {function(x) return x == x and math.abs(x) < inf end, out = "bool"})
unary("not", {int = function(x) return ~x end, bool = function(x) return not x end, dtypes = bits})

-- -- two operands ---------------------------------------------------------------------------------------------------------

-- Integers to a power that is no less than 0, by multiplying.
local function power(x, n)
  local y = 1
  for _ = 1, n do y = y * x end
  return y
end

local function unsigned_divide(x, y)
  if y < 0 then return math.ult(x, y) and 0 or 1 end
  local q = ((x >> 1) // y) << 1
  if not math.ult(x - q * y, y) then q = q + 1 end
  return q
end

local function int_divide(x, y, dtype)
  if y == 0 then return 0 end
  return is_unsigned(dtype) and unsigned_divide(x, y) or x // y
end

binary("add", {function(x, y) return x + y end, int = function(x, y) return x + y end})
binary("sub", {function(x, y) return x - y end, int = function(x, y) return x - y end})
binary("mul", {function(x, y) return x * y end, int = function(x, y) return x * y end})
binary("div", {function(x, y) return x / y end, domain = {0.3, 3}, int_domain = {1, 50}})
binary("pow", {function(x, y) return x ^ y end, int = power, domain = {0.2, 2}, int_domain = {0, 7}, no_edges = true})
binary("mod", {function(x, y)
  if y == inf and x >= 0 and x < inf or y == -inf and x <= 0 and x > -inf then return x end
  return x == x and y == y and math.abs(x) < inf and x % y or nan
end, int = function(x, y, dtype) return x - int_divide(x, y, dtype) * y end, domain = {0.3, 3}, int_domain = {1, 50}, ulp = 8,
  skip_zero = true, special = false})
binary("floordiv", {function(x, y) return reference.floor(x / y) end, int = int_divide, domain = {0.3, 3}, int_domain = {1, 50},
  skip_zero = true, special = false})
binary("atan2", {math.atan, int_domain = {1, 50}})
binary("maximum", {function(x, y) return (x ~= x or y ~= y) and nan or math.max(x, y) end, dtypes = all, unsigned_zero = true,
  int = function(x, y, dtype) return less(x, y, dtype) and y or x end, bool = function(x, y) return x or y end})
binary("minimum", {function(x, y) return (x ~= x or y ~= y) and nan or math.min(x, y) end, dtypes = all, unsigned_zero = true,
  int = function(x, y, dtype) return less(x, y, dtype) and x or y end, bool = function(x, y) return x and y end})
binary("copysign", {function(x, y) return (y < 0 or 1 / y < 0) and -math.abs(x) or math.abs(x) end,
  special = {0.0, -0.0, 1.0, -2.0, inf, -inf}})
binary("hypot", {function(x, y)
  if math.abs(x) == inf or math.abs(y) == inf then return inf end
  if x ~= x or y ~= y then return nan end
  local top = math.max(math.abs(x), math.abs(y))
  return top == 0 and 0.0 or top * math.sqrt((x / top) ^ 2 + (y / top) ^ 2)
end})
binary("logaddexp", {reference.logaddexp, ulp = {float64 = 40}})

-- The neighbour of x towards y, by the bits of the double or of the float.
local function neighbour(format, int)
  return function(x, y)
    if x ~= x or y ~= y then return nan end
    if x == y then return y end
    local v = string.unpack(int, string.pack(format, x == 0 and 0.0 or x))
    if x == 0 then
      v = string.unpack(int, string.pack(format, y < 0 and -0.0 or 0.0)) + 1
    else
      v = v + ((x < y) == (x > 0) and 1 or -1)
    end
    return (string.unpack(format, string.pack(int, v)))
  end
end
binary("nextafter", {neighbour("d", "i8"), dtypes = {"float64"}, smooth = 0, ulp = 0, special = {0.0, 1.0, -1.0, inf, -inf, nan, 3.0}})
rows.nextafter.cases[#rows.nextafter.cases + 1] = {args = {{9}, {9}}, dtypes = {"float32"},
  ref = function(x, y) return tensor.map(neighbour("f", "i4"), x, y) end}

local function comparison(name, f)
  local function of_bool(x, y) return f(x and 1 or 0, y and 1 or 0) end
  local function of_int(x, y, dtype)
    if is_unsigned(dtype) then x, y = x ~ math.mininteger, y ~ math.mininteger end
    return f(x, y)
  end
  binary(name, {f, int = of_int, bool = of_bool, dtypes = all, out = "bool", int_domain = {0, 2}, domain = {0, 1}})
end
comparison("eq", function(x, y) return x == y end)
comparison("ne", function(x, y) return x ~= y end)
comparison("lt", function(x, y) return x < y end)
comparison("le", function(x, y) return x <= y end)
comparison("gt", function(x, y) return x > y end)
comparison("ge", function(x, y) return x >= y end)

binary("and", {int = function(x, y) return x & y end, bool = function(x, y) return x and y end, dtypes = bits})
binary("or", {int = function(x, y) return x | y end, bool = function(x, y) return x or y end, dtypes = bits})
binary("xor", {int = function(x, y) return x ~ y end, bool = function(x, y) return x ~= y end, dtypes = bits})
binary("shift_left", {int = function(x, y) return x << y end, dtypes = integers, int_domain = {0, 7}, no_edges = true})
binary("shift_right", {int = function(x, y, dtype)
  if is_unsigned(dtype) then return x >> y end
  return x // (1 << y)
end, dtypes = integers, int_domain = {0, 7}, no_edges = true})

-- -- conversions and choice -----------------------------------------------------------------------------------------------

-- v as the dtype holds it: floats are cut towards zero and saturate, NaN is 0; integers wrap.
local function converted(v, from, to)
  if from == "bool" then v = v and 1 or 0 end
  if to == "bool" then return v ~= 0 end
  if is_float(to) then
    if from == "uint64" and v < 0 then return (v >> 1) * 2.0 end
    return v + 0.0
  end
  if math.type(v) == "integer" then return v end
  if v ~= v then return 0 end
  local low, high = tensor.limits(to)
  local top = to == "uint64" and 2.0 ^ 64 or high + 1.0
  if v >= top then return high elseif v < low then return low end
  v = v < 0 and math.ceil(v) or math.floor(v)
  return math.tointeger(v) or math.tointeger(v - 2.0 ^ 63) ~ math.mininteger
end

rows.convert = {dtypes = all, cases = {}, domain = {-100, 100}, int_domain = {-100, 100}, ulp = 1}
for _, to in ipairs(all) do
  table.insert(rows.convert.cases, {name = "to " .. to, args = {{2, 5}}, out = to, smooth = to == "float64" and 3 or 0,
    f = function(x) return x:astype(to) end,
    ref = function(x, dtype) return tensor.map(function(v) return converted(v, dtype, to) end, x) end})
end
for _, to in ipairs(integers) do
  local values = {0.0, -0.5, 0.99, -1.0, 127.5, 300.0, -300.0, 65536.0, 4.0e9, -4.0e9, 1.0e19, 3.0e19, -1.0e19, inf, -inf, nan}
  table.insert(rows.convert.cases, {name = "to " .. to, args = {{shape = {16}, dtype = "float64", values = values}}, out = to,
    dtypes = {"float64"}, f = function(x) return x:astype(to) end,
    ref = function(x) return tensor.map(function(v) return converted(v, "float64", to) end, x) end})
end

local formats = {int8 = "i1", int16 = "i2", int32 = "i4", int64 = "i8", uint8 = "I1", uint16 = "I2", uint32 = "I4", uint64 = "j",
  float32 = "f", float64 = "d"}

-- The bytes of each last axis, taken apart or put together.
local function bitcast(from, to, shape, out_shape)
  return {name = from .. " to " .. to, args = {{shape = shape, dtype = from}}, dtypes = {from}, out = to, smooth = 0,
    f = function(x) return x:bitcast(to) end,
    ref = function(x)
      local parts = {}
      for i, v in ipairs(x.data) do parts[i] = string.pack("<" .. formats[from], v) end
      local bytes, data, at = table.concat(parts), {}, 1
      while at <= #bytes do data[#data + 1], at = string.unpack("<" .. formats[to], bytes, at) end
      return {shape = out_shape or shape, data = data}
    end}
end
rows.bitcast = {cases = {
  bitcast("float32", "int32", {3, 5}), bitcast("int32", "float32", {4}), bitcast("float64", "uint64", {3}), bitcast("int8", "uint8", {7}),
  bitcast("float64", "int16", {2, 3}, {2, 3, 4}), bitcast("uint32", "uint8", {}, {4}), bitcast("int16", "float64", {3, 4}, {3}),
  bitcast("uint8", "uint32", {2, 0, 4}, {2, 0}), bitcast("int64", "float64", {0}),
}}

local function choose(c, x, y) return tensor.map(function(p, a, b) if p then return a end return b end, c, x, y) end
rows.select = {f = mlax.where, ref = choose, cases = {
  {args = {{shape = {}, dtype = "bool"}, {}, {}}}, {args = {{shape = {5}, dtype = "bool"}, {5}, {5}}},
  {args = {{shape = {3, 1}, dtype = "bool"}, {4}, {3, 4}}}, {args = {{shape = {4}, dtype = "bool"}, {}, {2, 1}}},
  {args = {{shape = {0}, dtype = "bool"}, {1}, {0}}}, {args = {{shape = {33}, dtype = "bool"}, {33}, {}}},
}}

rows.convert.large = {{args = {{103, 107}}, out = "float64", dtypes = {"float32", "int32"}, f = function(x) return x:astype("float64") end,
  ref = function(x) return tensor.map(function(v) return v + 0.0 end, x) end}}
rows.select.large = {{args = {{shape = {103, 1}, dtype = "bool"}, {103, 107}, {107}}}}

rows.stop_gradient = {f = mlax.stop_gradient, ref = tensor.copy, smooth = 0, cases = {{args = {{}}}, {args = {{0}}}, {args = {{3, 5}}}}}

return rows
