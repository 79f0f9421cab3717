--- Every primitive of src/ops/primitives.def, driven by its row in spec/support/rows_*.lua.
local mlax = require "mlax"
local helper = require "spec.helper"
local coverage = require "spec.support.coverage"
local drive = require "spec.support.drive"
local reference = require "spec.support.reference"
local tensor = require "spec.support.tensor"

local inf, nan = math.huge, 0 / 0

local rows = coverage.rows()

-- Names in the order of primitives.def.
local function primitives()
  local names = {}
  for line in assert(io.open("src/ops/primitives.def")):lines() do
    local name = line:match("^MX_%u+%(([%w_]+), ")
    if name and name ~= "name" then names[#names + 1] = name end
  end
  return names
end

local names = primitives()

describe("primitives.def", function()
  it("has a row of the table for each of its primitives", function()
    assert.is_true(#names > 100)
    local missing = {}
    for _, name in ipairs(names) do if not rows[name] then missing[#missing + 1] = name end end
    assert.are.same({}, missing)
  end)

  it("knows each primitive that has a row", function()
    local known = {}
    for _, name in ipairs(names) do known[name] = true end
    for name in pairs(rows) do assert(known[name], "a row of an unknown primitive: " .. name) end
  end)
end)

local checks = {
  {"is_recorded", "stands in a program of its row"}, {"values", "gives what the reference gives, for every dtype and shape"},
  {"large", "gives the same for large arrays"}, {"strides", "does not mind strides"}, {"compiled", "gives the same under jit"},
  {"mapped", "maps as a loop does, over any operands and axes"},
  {"tangents", "has the tangents that differences show"},
  {"cotangents", "has the cotangents that belong to its tangents"},
  {"second_order", "has the second derivatives that differences show"},
  {"third_order", "has the third derivatives that differences show"}, {"nested", "has the same derivatives under jit and vmap"},
}

for _, name in ipairs(names) do
  if rows[name] then
    describe("primitive " .. name, function()
      if rows[name].silent then
        local speak = print
        setup(function() _G.print = function() end end)
        teardown(function() _G.print = speak end)
      end
      for _, check in ipairs(checks) do
        it(check[2], function() drive[check[1]](name, rows[name]) end)
      end
    end)
  end
end

-- -- the driver itself ----------------------------------------------------------------------------------------------------

describe("the driver", function()
  local function row(f, ref) return {f = f, ref = ref or tensor.copy, dtypes = {"float64"}, cases = {{args = {{3}}}}} end
  local function notices(check, f, ref) assert.is_false((pcall(drive[check], "test", row(f, ref)))) end

  it("passes what is right", function()
    for _, check in ipairs{"values", "strides", "compiled", "mapped", "tangents", "cotangents", "second_order", "third_order", "nested"} do
      drive[check]("test", row(function(x) return x * 1 end))
    end
  end)

  it("notices wrong values, shapes and dtypes", function()
    notices("values", function(x) return x + 1e-12 end)
    notices("values", function(x) return x[{{1, 2}}] end)
    notices("values", function(x) return x:astype("float32") end)
    notices("strides", function(x) return x + 1e-12 end)
  end)

  it("notices wrong derivatives", function()
    notices("tangents", function(x) return x * mlax.stop_gradient(x) end)
    notices("second_order", function(x) return x * x * mlax.stop_gradient(x) end)
    notices("third_order", function(x) return x * x * x * mlax.stop_gradient(x) end)
  end)

  it("notices that compiled or mapped code differs", function()
    local calls = 0
    local function drifts(x)
      calls = calls + 1
      return x + calls
    end
    notices("compiled", drifts)
    notices("mapped", drifts)
  end)

  it("notices a primitive that the row does not reach", function()
    assert.is_false((pcall(drive.is_recorded, "sin", row(mlax.cos))))
  end)
end)

-- -- special values -------------------------------------------------------------------------------------------------------

local function sign_text(v) return v == 0 and 1 / v < 0 and "-0.0" or tostring(v) end

-- Where both are 0 the signs are equal.
local function same_zero(want, got) return want ~= 0 or 1 / want == 1 / got end

-- The least normal numbers: what is smaller may count as zero (see spec/subnormal_spec.lua).
local least = {float32 = 0x1p-126, float64 = 0x1p-1022}

local function check_points(name, row, dtype, points)
  local f, ref = row.f, row[1]
  local columns, want = {}, {}
  for k = 1, row.elementwise do columns[k] = {} end
  for i, p in ipairs(points) do
    for k = 1, row.elementwise do columns[k][i] = p[k] end
  end
  for k = 1, row.elementwise do columns[k] = mlax.array(columns[k], dtype) end
  local held, tolerance = {}, 8 * tensor.eps[dtype]
  if type(row.ulp) == "table" then tolerance = (row.ulp[dtype] or 8) * tensor.eps[dtype] end
  for k, c in ipairs(columns) do held[k] = tensor.of(c).data end
  local out = tensor.of(f(table.unpack(columns))).data
  for i in ipairs(points) do
    local a, b = held[1][i], held[2] and held[2][i]
    want[i] = ref(a, b)
    if dtype == "float32" and type(want[i]) == "number" then want[i] = string.unpack("f", string.pack("f", want[i])) end
    if type(want[i]) == "number" and math.abs(want[i]) < least[dtype] and out[i] == 0 then want[i] = want[i] * 0.0 end
    local w, got = want[i], out[i]
    local same = w == got or w ~= w and got ~= got
      or type(w) == "number" and math.abs(w - got) <= tolerance * math.abs(w)
    if not same or type(w) == "number" and not row.unsigned_zero and not same_zero(w, got) then
      error(("%s(%s%s) of %s is %s, want %s"):format(name, sign_text(a), b and ", " .. sign_text(b) or "", dtype, sign_text(got),
        sign_text(w)), 0)
    end
  end
end

local specials = {0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, -3.0, 100.0, -100.0, 1e10, -1e10, inf, -inf, nan}

describe("special values", function()
  for _, name in ipairs(names) do
    local row = rows[name]
    if row and row.elementwise and row.float and row.special ~= false then
      it("of " .. name .. " are those of the reference", function()
        local list, points = type(row.special) == "table" and row.special or specials, {}
        for _, a in ipairs(list) do
          if row.elementwise == 1 then points[#points + 1] = {a}
          else for _, b in ipairs(list) do points[#points + 1] = {a, b} end end
        end
        for _, dtype in ipairs{"float64", "float32"} do
          if not row.dtypes or table.concat(row.dtypes, " "):find(dtype, 1, true) then check_points(name, row, dtype, points) end
        end
      end)
    end
  end
end)

describe("edges of integers", function()
  for _, name in ipairs(names) do
    local row = rows[name]
    if row and row.elementwise and row.int and not row.no_edges then
      it("of " .. name .. " wrap", function()
        for _, dtype in ipairs{"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"} do
          local low, high = tensor.limits(dtype)
          local edges = {0, 1, 2, 3, 7, high, high - 1, high // 2, low, low + 1, tensor.is_unsigned(dtype) and 5 or -1}
          local a, b, want = {}, {}, {}
          for _, x in ipairs(edges) do
            for _, y in ipairs(row.elementwise == 2 and edges or {0}) do
              if not (row.skip_zero and y == 0) then
                a[#a + 1], b[#b + 1] = x, y
                local w
                if row.elementwise == 1 then w = row.int(x, dtype) else w = row.int(x, y, dtype) end
                if type(w) ~= "boolean" then w = tensor.wrap(w, dtype) end
                want[#want + 1] = w
              end
            end
          end
          local x, y = mlax.array(a, dtype), mlax.array(b, dtype)
          local got = row.elementwise == 1 and row.f(x) or row.f(x, y)
          for i, w in ipairs(want) do
            local v = got[i]:item()
            assert(v == w, ("%s(%d, %d) of %s is %s, want %s"):format(name, a[i], b[i], dtype, tostring(v), tostring(w)))
          end
        end
      end)
    end
  end
end)

-- -- ties, NaN and kinks --------------------------------------------------------------------------------------------------

local function vector(...) return mlax.array({...}, "float64") end
local function gradient(f, ...) return mlax.grad(function(...) return f(...):sum() end)(...) end

describe("NaN", function()
  local x = vector(1, nan, 3, nan)

  it("counts as greatest in argmax and argmin, the first of them", function()
    assert.are.equal(2, x:argmax(1):item())
    assert.are.equal(2, x:argmin(1):item())
  end)

  it("comes out of reductions and scans", function()
    for _, name in ipairs{"sum", "prod", "max", "min", "logsumexp"} do helper.near({nan}, x[name](x, 1)) end
    helper.near({1, nan, nan, nan}, x:cumsum(1))
    helper.near({1, nan, nan, nan}, x:cumprod(1))
    helper.near({1, nan, nan, nan}, x:cummax(1))
    helper.near({1, nan, nan, nan}, x:cummin(1))
  end)

  it("is sorted last, in the order in which it came", function()
    helper.near({1, 3, nan, nan}, x:sort(1))
    assert.are.same({1, 3, 2, 4}, x:argsort(1):totable())
    helper.near({nan, nan}, (x:top_k(2)))
  end)

  it("is a true truth value and comes out of softmax", function()
    assert.is_true(vector(nan):any():item())
    helper.near({nan, nan}, vector(1, nan):softmax())
  end)
end)

describe("infinities", function()
  it("pass logsumexp, softmax and logaddexp", function()
    helper.near({inf}, vector(1, inf):logsumexp(1))
    helper.near({-inf}, vector(-inf, -inf):logsumexp(1))
    helper.near({1}, vector(1, -inf):logsumexp(1))
    helper.near({1, 0}, vector(1, -inf):softmax())
    helper.near({0, -inf}, vector(1, -inf):log_softmax())
    helper.near({1, 0}, gradient(function(x) return x:logsumexp(1) end, vector(1, -inf)))
    helper.near({1, 0}, gradient(mlax.logaddexp, vector(3, -inf), vector(-inf, 3)))
  end)
end)

describe("equal elements", function()
  it("share the gradient of max, min, maximum, minimum equally", function()
    helper.near({0.5, 0, 0.5}, gradient(function(x) return x:max(1) end, vector(2, 1, 2)))
    helper.near({0.5, 0.5, 0}, gradient(function(x) return x:min(1) end, vector(1, 1, 2)))
    helper.near({0.5, 1, 0}, gradient(mlax.maximum, vector(1, 2, 3), vector(1, 1, 4)))
    helper.near({0.5, 0, 1}, gradient(mlax.minimum, vector(1, 2, 3), vector(1, 1, 4)))
  end)

  it("share the gradient of at:max and at:min", function()
    local ids = mlax.array({1, 1, 2}, "int32")
    helper.near({1 / 3, 1, 1}, gradient(function(x) return x:at{ids}:max(vector(2, 2, 5)) end, vector(2, 9, 0)))
    helper.near({1 / 3, 1 / 3, 0}, gradient(function(u) return vector(2, 9, 0):at{ids}:max(u) end, vector(2, 2, 5)))
  end)

  it("stay in order when sorted, and carry their gradients with them", function()
    assert.are.same({3, 1, 2, 4}, vector(1, 1, 0, 1):argsort(1):totable())
    helper.near({2, 3, 1, 4}, gradient(function(x) return x:sort(1) * vector(1, 2, 3, 4) end, vector(1, 1, 0, 1)))
  end)

  it("give the gradient of running extremes to the first", function()
    helper.near({3, 0, 0}, gradient(function(x) return x:cummax(1) end, vector(2, 2, 1)))
    helper.near({3, 0, 0}, gradient(function(x) return x:cummin(1) end, vector(1, 1, 2)))
  end)

  it("are found first by argmax and argmin", function()
    assert.are.equal(2, vector(1, 3, 3):argmax(1):item())
    assert.are.equal(1, vector(1, 1, 3):argmin(1):item())
  end)
end)

describe("derivatives at kinks and zeros", function()
  it("are 0 for abs at 0 and for steps", function()
    helper.near({0, 1, -1}, gradient(mlax.abs, vector(0, 2, -2)))
    for _, name in ipairs{"sign", "floor", "ceil", "round", "trunc"} do helper.near({0, 0}, gradient(mlax[name], vector(0.5, 2))) end
  end)

  it("hold for products with zeros among the factors", function()
    helper.near({0, 6, 0}, gradient(function(x) return x:prod(1) end, vector(2, 0, 3)))
    helper.near({0, 0, 0}, gradient(function(x) return x:prod(1) end, vector(0, 0, 3)))
    helper.near({1, 8, 0}, gradient(function(x) return x:cumprod(1) end, vector(2, 0, 3)))
  end)

  it("hold for powers at 0", function()
    helper.near({0, 1, 0}, gradient(function(x) return x ^ vector(2, 1, 0) end, vector(0, 0, 0)))
    helper.near({0, 0}, gradient(function(y) return vector(0, 0) ^ y end, vector(2, 3)))
    helper.near({0, 2, 4}, gradient(function(x) return x ^ 2 end, vector(0, 1, 2)))
    helper.near({-12}, gradient(function(x) return x ^ 3 * -1 end, vector(-2)))
  end)

  it("are 0 for hypot at the origin", function() helper.near({0}, gradient(mlax.hypot, vector(0), vector(0))) end)

  it("do not let a NaN pass a where that does not choose it", function()
    helper.near({0, 1}, gradient(function(x) return mlax.where(x:gt(0), x, mlax.stop_gradient(x):log() * 0) end, vector(-1, 2)))
  end)

  it("are 0 behind stop_gradient", function()
    helper.near({0, 0}, gradient(mlax.stop_gradient, vector(1, 2)))
    helper.near({1, 2}, gradient(function(x) return x * mlax.stop_gradient(x) end, vector(1, 2)))
    helper.near({2, 2}, gradient(function(x) return mlax.grad(function(y) return (y * y):sum() end)(x) end, vector(1, 2)))
  end)

  it("have the dtype of what they are taken by", function()
    local g = mlax.grad(function(x) return x:astype("float64"):sum() end)(mlax.ones({2}, "float16"))
    assert.are.equal("float16", g.dtype)
    assert.are.equal("bfloat16", mlax.grad(function(x) return (x * mlax.ones{2}):sum() end)(mlax.ones({2}, "bfloat16")).dtype)
  end)

  it("are told to be undefined", function()
    assert.are.equal("polygamma: the derivative by the order of polygamma is not defined",
      helper.message(function() gradient(mlax.lax.polygamma, vector(1), vector(1)) end))
    local ids = mlax.array({1, 2}, "int32")
    local function of_updates(u) return vector(1, 2, 3):at{ids}:mul(u) end
    helper.near({1, 2}, gradient(of_updates, vector(5, 6)))
  end)
end)

describe("polygamma", function()
  -- order, x and the values of SciPy
  local known = {{1, 0.1, 101.43329915079275}, {1, 30, 0.033895060357739946}, {1, -3.3, 14.817739525515929}, {2, 0.1, -2001.8614573783439},
    {2, 30, -0.0011487652037285997}, {2, -0.5, -0.82879664423432}, {3, 0.5, 97.40909103400242}, {3, -3.3, 768.9856582554287},
    {5, 2.5, 0.5785691785671834}, {5, -0.5, 15371.11354860244}, {12, 0.5, -3923983571677.609}, {12, 30, -9.121334210785212e-11},
    {12, -3.3, 3004370635081421.0}, {0, 2.5, 0.7031566406452432}}

  it("has the known values on both sides of 0", function()
    for _, row in ipairs(known) do
      local n, x, want = table.unpack(row)
      local got = mlax.lax.polygamma(vector(n), vector(x)):item()
      assert(math.abs(got - want) <= 2e-14 * math.abs(want), ("polygamma(%d, %g) is %.17g, want %.17g"):format(n, x, got, want))
    end
  end)

  it("has poles at 0, -1, ..., and is NaN for orders that are not 0, 1, ...", function()
    helper.near({inf, -inf, inf}, mlax.lax.polygamma(vector(1, 2, 3), vector(0, -1, -2)))
    helper.near({nan, nan, nan, nan}, mlax.lax.polygamma(vector(0.5, -1, nan, 1), vector(1, 1, 1, nan)))
    helper.near({0, 0}, mlax.lax.polygamma(vector(1, 2), vector(inf, inf)))
  end)

  it("is every derivative of lgamma", function()
    local f = mlax.lgamma
    for order = 0, 4 do
      local g = f
      f = function(x) return mlax.grad(function(v) return g(v):sum() end)(x) end
      helper.near(mlax.lax.polygamma(vector(order), vector(0.7, 2.5)), f(vector(0.7, 2.5)), 1e-13)
    end
  end)
end)

describe("positions out of range", function()
  local x = mlax.array{1, 2, 3}
  local bad = mlax.array({1, 4}, "int32")

  it("raise with value, axis and the line, eagerly, compiled, mapped and differentiated", function()
    local text = "index 4 is out of range on axis 1"
    local function read(i) return x[i] end
    assert.matches(text, helper.message(function() return read(bad) end), 1, true)
    assert.matches(text, helper.message(function() return mlax.jit(read)(bad) end), 1, true)
    assert.matches(text, helper.message(function() return mlax.vmap(read)(bad) end), 1, true)
    assert.matches(text, helper.message(function() return mlax.jit(mlax.vmap(read))(bad) end), 1, true)
    assert.matches(text, helper.message(function() return mlax.grad(function(y) return y[bad]:sum() end)(x) end), 1, true)
    assert.matches("index 0 is out of range", helper.message(function() return x[mlax.array({0}, "int32")] end), 1, true)
  end)

  it("are dropped with a result that nobody uses", function()
    local f = mlax.jit(function(i)
      local unused = x[i] -- luacheck: ignore
      return i + 1
    end)
    assert.are.same({2, 5}, f(bad):totable())
  end)
end)

describe("large products", function()
  -- (x y) v = x (y v), the right side in Lua numbers.
  local function times(m, v)
    local out = {}
    for i = 1, m.shape[1] do
      local sum = 0
      for k = 1, m.shape[2] do sum = sum + m.data[(i - 1) * m.shape[2] + k] * v[k] end
      out[i] = sum
    end
    return out
  end

  for _, dtype in ipairs{"float32", "float64"} do
    it("of " .. dtype .. " matrices, also transposed and strided ones, agree with products by vectors", function()
      local random = tensor.random("product")
      local x, y = tensor.sample(random, {300, 410}, dtype, -1, 1), tensor.sample(random, {410, 310}, dtype, -1, 1)
      local v = {}
      for k = 1, 310 do v[k] = math.cos(k) end
      local want = {shape = {300}, data = times(x, times(y, v))}
      local a, b = tensor.layouts(x, dtype), tensor.layouts(y, dtype)
      a.plain, b.plain = tensor.array(x, dtype), tensor.array(y, dtype)
      for i, left in pairs(a) do
        for j, right in pairs(b) do
          if i == "plain" or j == "plain" or i == j then
            local got = tensor.array({shape = {300}, data = times(tensor.of(left:matmul(right)), v)}, "float64")
            local difference = tensor.difference(want, got, 1e3 * tensor.eps[dtype])
            assert(not difference, ("%s by %s: %s"):format(i, j, difference))
          end
        end
      end
    end)
  end
end)

describe("random bits", function()
  it("are those of the reference for the key {0, 0}", function()
    local a, b = reference.threefry(0, 0, 0, 0)
    assert.are.same({0x6b200159, 0x99ba4efe}, {a, b})
    assert.are.equal(a ~ b, mlax.random.bits(mlax.random.key(0), {1}, "uint32"):totable()[1])
  end)
end)
