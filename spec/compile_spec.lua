--- What the compiler does must not be seen: compiled functions against the same operations one by one.
local mlax = require "mlax"
local helper = require "spec.helper"

local function normal(shape, seed, dtype) return mlax.random.normal(mlax.random.key(seed), shape):astype(dtype or "float32") end

-- Both ways; results agree to the last few bits of the dtype.
local function agrees(f, ...)
  local want, got = {f(...)}, {mlax.jit(f)(...)}
  assert.are.equal(#want, #got)
  for i, w in ipairs(want) do
    local g = got[i]
    assert.are.equal(w.dtype, g.dtype)
    assert.same(w.shape, g.shape)
    local narrow = w.dtype == "bfloat16" or w.dtype == "float16"
    local tolerance = w.dtype == "float64" and 1e-12 or narrow and 2e-2 or 2e-5
    local a, b = helper.flat(w:astype("float64")), helper.flat(g:astype("float64"))
    for k = 1, #a do
      local same = a[k] == b[k] or (a[k] ~= a[k] and b[k] ~= b[k]) or math.abs(a[k] - b[k]) <= tolerance * (1 + math.abs(a[k]))
      if not same then error(("result %d, element %d: %s one by one, %s compiled"):format(i, k, a[k], b[k]), 2) end
    end
  end
end

local sizes = {1, 2, 63, 64, 65, 1000, 1024, 5000}

describe("a group of elementwise equations", function()
  it("computes what its members do, at every length", function()
    for _, n in ipairs(sizes) do
      local x, y = normal({n}, 1), normal({n}, 2)
      agrees(function(a, b) return (a * b + 1):tanh() - b, a:gt(b), mlax.where(a:gt(b), a, b * 2):exp() end, x, y)
      agrees(function(a, b)
        local p, q = a:gt(0), b:lt(0.5)
        return p:logical_and(q), p:logical_or(q):logical_not(), mlax.where(p:logical_xor(q), a, -b), p:astype("float32") * a
      end, x, y)
    end
  end)

  it("divides by one number as by an array of it, to the bit", function()
    local inf = math.huge
    local odd = mlax.array({0, -0.0, inf, -inf, 0 / 0, 1e-45, -1e-40, 1.2e-38, 3.4e38, 1, -1, 3, 1 / 3, 5e-20, -7e25})
    local x = mlax.concat({mlax.concat({odd, normal({1100}, 30)}, 1), normal({1100}, 31) * 1e-3}, 1)
    for _, c in ipairs{3, -3, 0.1, 1 - 2 ^ -24, 2 - 2 ^ -23, 1e-30, 1e30, 0, inf, 0 / 0, 1e-42} do
      for _, v in ipairs{x, x["16:2200"]} do
        local one, many = mlax.array(c), mlax.zeros{v.shape[1]} + c
        local f = mlax.jit(function(a, b) return a / b end)
        assert.same(helper.flat(f(v, many):bitcast("int32")), helper.flat(f(v, one):bitcast("int32")))
      end
    end
  end)

  it("reads rows, columns, scalars, slices, transposed and repeated operands", function()
    local x, row, column = normal({70, 33}, 3), normal({33}, 4), normal({70, 1}, 5)
    agrees(function(a, r, c) return ((a + r) * c):tanh() * 2 - r end, x, row, column)
    agrees(function(a) return a["1:35"] * a["36:70"] + a["2:70:2"] end, x)
    agrees(function(a) return (a.T + 1):exp() * a.T end, normal({200, 150}, 6))
    agrees(function(a, r) return a + r:broadcast_to{70, 33} * r[{1}] end, x, row)
  end)

  it("overwrites no operand that is read again in other rows", function()
    local function f(x, o)
      local p = o:cumsum(2) -- as many elements as there are rows
      local y = x * p
      return y:sum(4):cumsum(2), y * 2
    end
    for _, dtype in ipairs{"float32", "float64"} do agrees(f, normal({8, 30, 4, 8}, 7, dtype), normal({1, 30, 4, 8}, 8, dtype)) end
  end)

  it("keeps what repeats, whatever its period", function()
    for _, shape in ipairs{{3, 7}, {300, 16}, {211, 33}, {50, 192}, {40, 511}, {40, 513}, {5, 3000}} do
      local x, row, inner = normal(shape, 36), normal({shape[2]}, 37), normal({1, 4, shape[2]}, 38)
      agrees(function(a, r) return (a - r) * r:gt(0):astype("float32") + a * r:square() end, x, row)
      agrees(function(a, r, b) return (a:reshape{shape[1], 1, shape[2]} + b) * r, b * 2 end, x, row, inner)
      agrees(function(a, r) return a:astype("bfloat16") + r:astype("bfloat16"), (a:gt(r)) end, x, row)
      agrees(function(a, r) -- many values at once: small blocks
        local t, sum = {}, 0
        for i = 1, 40 do t[i] = (a * i + r):sin() end
        for i = 1, 40 do sum = sum + t[41 - i] * t[i] end
        return sum
      end, x:astype("float64"), row:astype("float64"))
    end
    agrees(function(a, r, q) return (a + r) * q end, normal({100, 30, 12}, 39), normal({30, 12}, 40), normal({12}, 41))
  end)

  it("mixes dtypes", function()
    local x = normal({100}, 7)
    for _, dtype in ipairs{"float64", "float16", "bfloat16", "int32", "uint8", "int64"} do
      local y = (x * 3):astype(dtype)
      agrees(function(a, b) return a + b:astype("float32"), (b + b) * b, b:gt(1), mlax.where(b:gt(0), b, b - 1) end, x, y)
    end
  end)

  it("goes through reshapes, and hands one value on under several shapes", function()
    agrees(function(a)
      local b = (a + 1):reshape{6, 5}
      local c = b:reshape{30} * 2
      return b, c, b:flatten(), c:reshape{2, 15}:exp()
    end, normal({30}, 8))
  end)

  it("does not run in a circle: what lies between its members stays between them", function()
    agrees(function(a)
      local b = a * 2
      local s = b:sum()
      return b + s, (b - s):exp(), b:cumsum(1) + b
    end, normal({40}, 9) * 0.1)
  end)

  it("takes more members than one pass has room for", function()
    agrees(function(a)
      local terms = {}
      for i = 1, 150 do terms[i] = (a * (i / 150) + (terms[i - 1] or 0)):tanh() end
      local sum = a
      for i = 1, 150 do sum = sum + terms[i] end
      return sum, terms[7], terms[140]
    end, normal({300}, 10))
  end)

  it("writes over operands that die, never over those that live", function()
    agrees(function(a)
      local b = a * 2
      local c = b:reshape{50, 20}:matmul(b:reshape{20, 50}):flatten()[{{1, 1000}}]
      local d = c + 1
      local e = d * c
      return (d + e):exp() * 1e-9, b
    end, normal({1000}, 11) * 0.1)
    agrees(function(a)
      local b = a:matmul(a)
      return (b + 1):tanh() * b.T + b[{{64, 1, -1}}]
    end, normal({64, 64}, 26) * 0.1)
  end)
end)

describe("a group with rows", function()
  local function layer_norm(x)
    local mean = x:mean(-1, {keepdims = true})
    local variance = (x - mean):square():mean(-1, {keepdims = true})
    return (x - mean) * (variance + 1e-5):rsqrt(), mean, variance
  end

  it("normalises rows of any length", function()
    for _, shape in ipairs{{9, 1}, {9, 2}, {8, 7}, {3, 64}, {2, 1000}, {100, 33}, {20, 1024}, {9, 3000}, {2, 9000}, {16, 9000}} do
      agrees(layer_norm, normal(shape, 12) + 3)
    end
    agrees(layer_norm, normal({4, 6, 50}, 13))
    agrees(layer_norm, normal({20, 30}, 14, "float64"))
    agrees(layer_norm, normal({20, 30}, 15, "bfloat16"))
  end)

  it("has gradients like those of the operations one by one", function()
    local scale = normal({40}, 16)
    agrees(function(x, s)
      local g = mlax.grad(function(a, b) return ((layer_norm(a)) * b):tanh():sum() end, {argnums = {1, 2}})(x, s)
      return g[1], g[2]
    end, normal({25, 40}, 17), scale)
  end)

  -- Rows of whole chunks of 64, with a rest, of more than one piece of 4096; many rows, and hardly any.
  local long = {{8, 128}, {9, 192}, {300, 256}, {40, 1024}, {70, 1030}, {9, 4096}, {9, 4160}, {9, 5000}, {8, 8192}, {1, 2048}}

  it("runs long rows in registers, forward and backward", function()
    for _, shape in ipairs(long) do
      local x, ct, scale = normal(shape, 40) + 3, normal(shape, 41), normal({shape[2]}, 42)
      agrees(layer_norm, x)
      agrees(function(v, w, c)
        local y, pullback = mlax.vjp(function(a, b) return (layer_norm(a)) * b end, v, w)
        return y, pullback(c)[1]
      end, x, scale, ct)
      agrees(function(v, c) -- sums of columns of what is near 0 would be noise
        local top = v:max(2, {keepdims = true})
        local e = (v - top):exp()
        local p = e / e:sum(2, {keepdims = true})
        return p, ((p - c:abs()) * c:square()):sum(1) / shape[1], (p * v):sum(), v:min(2), (v * 1e-4 + 1):prod(2)
      end, x, ct)
    end
  end)

  it("keeps truth values, results and sums for later passes", function()
    for _, shape in ipairs(long) do
      agrees(function(x)
        local mean = x:mean(2, {keepdims = true})
        local above = x:gt(mean)
        local kept = mlax.where(above, x, 0)
        local total = kept:sum(2, {keepdims = true})
        local share = mlax.where(above, x, -1) / (total + 1)
        return above, share, share:max(2), above:astype("float32"):sum(2) + total:flatten(), kept:sum(1) / shape[1]
      end, normal(shape, 43):abs())
    end
  end)

  it("carries special numbers through long rows as through short ones", function()
    local inf = math.huge
    for _, cols in ipairs{128, 1030} do
      local rows = {}
      for i, v in ipairs{0 / 0, inf, -inf, -0.0, 3e38, 1e-45, 1, -1} do
        rows[i] = mlax.concat({normal({cols - 1}, 50 + i), mlax.array{v}}, 1)
        if i % 2 == 0 then rows[i] = rows[i]:flip(1) end
      end
      local x = mlax.stack(rows, 1)
      agrees(function(v)
        local top, least = v:max(2, {keepdims = true}), v:min(2, {keepdims = true})
        local total = v:sum(2, {keepdims = true})
        return top, least, v - top, v * total, mlax.maximum(v, least), (v / top):min(2), v:max(1), v:min(1), v:max()
      end, x)
      agrees(function(v) return (v * 0):sum(2), (v * -0.0):prod(2), v:abs():max(1), v - v:sum(2, {keepdims = true}) end, x)
    end
  end)

  it("joins sums of an operand to what else is made of it", function()
    for _, shape in ipairs{{64, 256}, {130, 1030}, {300, 100}, {20000, 3}} do
      agrees(function(x, y) return x:sum(1) / shape[1], x * y + 1, y:max(2), x:sum(2), (x * x):mean() end, normal(shape, 44),
        normal(shape, 45))
    end
    agrees(function(x) return x:sum() / 1000, (x * 2):tanh(), x:max() end, normal({30000}, 46))
  end)

  it("gives the same bits with any number of threads", function()
    local program = [[
      local mlax = require "mlax"
      local x = mlax.random.normal(mlax.random.key(3), {700, 1030})
      local f = mlax.jit(function(v)
        local d = v - v:mean(2, {keepdims = true})
        local y = d * (d:square():mean(2, {keepdims = true}) + 1e-5):rsqrt()
        return y, (y * v):sum(1), (y * y * v):sum(), y:max(1)
      end)
      for _, r in ipairs{f(x)} do
        local bits = r:flatten():bitcast("int32"):astype("int64")
        print((bits * mlax.range(1, bits.size, 1, "int64")):sum():item())
      end]]
    local answers, command = {}, ("%s -e '%s' 2>&1"):format(os.getenv("MLAX") or "build/mlax", program)
    for i, threads in ipairs{1, 2, 3, 8} do
      local pipe = assert(io.popen(("OMP_NUM_THREADS=%d %s"):format(threads, command)))
      answers[i] = pipe:read("a")
      pipe:close()
      assert.equal(answers[1], answers[i])
    end
    assert.truthy(answers[1]:match("^%-?%d+\n%-?%d+\n%-?%d+\n%-?%d+\n$"), answers[1])
  end)

  it("joins extremes, products and several sums of one row", function()
    agrees(function(x)
      local top = x:max(2, {keepdims = true})
      local e = (x - top):exp()
      local both = (x * x):sum(2) - x:sum(2):square()
      return e / e:sum(2, {keepdims = true}), x:min(2) + top:flatten(), (x * 0.1 + 1):prod(2), both
    end, normal({30, 12}, 18))
    agrees(function(x) return (x * 2):sum({2, 3}) + x:max({2, 3}), x:sum(3) * 2 end, normal({9, 4, 5}, 19))
    agrees(function(x) return (x + 1):sum(2), (x * 2):max(2) end, (normal({30, 12}, 20) * 10):astype("int32"))
  end)

  it("does not take sums over other axes for rows", function()
    agrees(function(x) return x - x:sum(1), (x * 2):sum(1) + 1, x - x:mean(1, {keepdims = true}) end, normal({20, 20}, 21))
    agrees(function(x) return x * 2 - x:sum({1, 3}, {keepdims = true}), (x - x:sum(2, {keepdims = true})):exp() end,
      normal({5, 6, 5}, 22) * 0.1)
    agrees(function(x, v) return x + v:square(), (x * v:reshape{12, 1}:tanh()):sum(2) end, normal({12, 12}, 23), normal({12}, 24))
  end)

  it("joins rows, too: columns, and all to one", function()
    for _, shape in ipairs{{2, 1}, {3, 5}, {200, 33}, {5000, 3}, {64, 64}, {2, 9000}, {40, 3000}, {20, 9000}} do
      agrees(function(x) return (x * 2):sum(1), (x + 1):max(1), x * 2 - 1 end, normal(shape, 27) * 0.1)
      agrees(function(x) return (x * x):sum(), x:abs():max(), (x * 1.001):mean() end, normal(shape, 28))
      agrees(function(x)
        local centred = x - x:mean(1, {keepdims = true})
        local y = centred * (centred:square():mean(1, {keepdims = true}) + 1e-5):rsqrt()
        return y, (y:square() * 3):sum(1), (y * x):sum(2), y:square():mean()
      end, normal(shape, 29))
    end
    agrees(function(x) return (x * 2):sum({1, 2}), (x + 1):prod({1, 2}) * 1e-9 end, normal({6, 5, 7}, 30))
    agrees(function(x) return (x * 2):sum(1), (x * 2):min() end, (normal({30, 12}, 31) * 10):astype("int32"))
    agrees(function(x) return (x * 2):sum(1), (x - 1):sum() end, normal({300, 700}, 32, "float64"))
  end)

  it("does not join what has one element a row already", function()
    agrees(function(x)
      local rows = (x * 2):sum(2)
      local mask = rows:gt(0):astype("float32")
      return (rows * mask):sum() / mask:sum(), (rows + 1):max()
    end, normal({6, 4}, 33))
    agrees(function(x, y)
      local mask = y:square()
      return mask:sum(), ((x * 2):sum(2) * mask):sum()
    end, normal({64, 33}, 34), normal({64}, 35))
  end)

  it("keeps NaN and infinity in their rows", function()
    local x = normal({10, 8}, 25)
    x = x:at{2, 3}:set(0 / 0):at{5, 1}:set(math.huge)
    agrees(function(a) return a - a:sum(2, {keepdims = true}), a:max(2) * 2 end, x)
  end)
end)
