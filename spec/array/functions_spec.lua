-- Operations as functions and methods, against plain Lua and against each other.
local mlax = require "mlax"
local helper = require "spec.helper"

local near, message = helper.near, helper.message

local function x23() return mlax.array({{1, 2, 3}, {4, 5, 6}}) end

describe("elementwise operations", function()
  it("agree with Lua's own", function()
    local list = {-1.5, -0.25, 0.5, 1, 2.75}
    local x = mlax.array(list)
    for name, f in pairs{
      abs = math.abs, exp = math.exp, sin = math.sin, cos = math.cos, tan = math.tan, atan = math.atan, floor = math.floor,
      ceil = math.ceil, square = function(v) return v * v end, neg = function(v) return -v end,
      sigmoid = function(v) return 1 / (1 + math.exp(-v)) end, tanh = function(v) return 1 - 2 / (math.exp(2 * v) + 1) end,
      sign = function(v) return v > 0 and 1 or v < 0 and -1 or 0 end,
      trunc = function(v) return v < 0 and math.ceil(v) or math.floor(v) end,
    } do
      local want = {}
      for i, v in ipairs(list) do want[i] = f(v) + 0.0 end
      near(want, x[name](x))
      near(want, mlax[name](x))
    end
  end)

  it("take numbers", function()
    near({2}, mlax.sqrt(4))
    near({3, 2}, mlax.maximum(2, mlax.array{3, 1}))
    assert.equal("float32", mlax.sin(1).dtype)
  end)

  it("where and clip choose", function()
    local x = mlax.array{-1, 0, 2}
    near({0, 0, 2}, mlax.where(x:gt(0), x, 0))
    assert.equal("int32", mlax.where(x:gt(0), 1, 0).dtype)
    near({-0.5, 0, 1}, x:clip(-0.5, 1))
    near({-1, 0, 1}, x:clip(nil, 1))
    near({0, 0, 2}, x:clip(0))
  end)

  it("logical ones work on truth", function()
    local a, b = mlax.array{0, 1, 2}, mlax.array({true, false, true})
    assert.same({false, false, true}, a:logical_and(b):totable())
    assert.same({true, true, true}, a:logical_or(b):totable())
    assert.same({true, true, false}, a:logical_xor(b):totable())
    assert.same({true, false, false}, a:logical_not():totable())
  end)

  it("refuse extra arguments", function()
    assert.equal("exp: one argument too many (got 2, need a table of options there or nothing)", message(mlax.exp, mlax.ones{1}, 2))
    assert.equal("exp: unknown option 'fast' (known: none)", message(mlax.exp, mlax.ones{1}, {fast = true}))
    assert.equal("exp: x is no array (got nothing, need an array or a number; methods are called with ':')", message(mlax.exp))
  end)
end)

describe("reductions", function()
  it("take no axis, one, or a list", function()
    local x = x23()
    near({21}, x:sum())
    near({5, 7, 9}, x:sum(1))
    near({6, 15}, x:sum(-1))
    near({21}, x:sum{1, 2})
    assert.same({1, 1}, x:sum{keepdims = true}.shape)
    assert.same({2, 1}, x:sum(2, {keepdims = true}).shape)
    near({21}, x:sum(nil, {dtype = "float64"}))
    assert.equal("float64", x:sum(nil, {dtype = "float64"}).dtype)
    assert.equal("int8", mlax.ones({3}, "int8"):sum(1, {dtype = "int8"}).dtype)
    assert.equal("int32", mlax.ones({3}, "int8"):sum().dtype)
  end)

  it("compute", function()
    local x = x23()
    near({3.5}, x:mean())
    near({720}, x:prod())
    near({35 / 12}, x:var())
    near({3.5}, x:var(nil, {ddof = 1}))
    near({math.sqrt(35 / 12)}, x:std())
    near({2, 3}, x:argmax(2) - mlax.array({1, 0}, "int32"))
    near({6}, x:argmax())
    assert.same({1, 1}, x:argmin(nil, {keepdims = true}).shape)
    near({math.log(math.exp(1) + math.exp(2) + math.exp(3))}, x[1]:logsumexp())
    assert.is_true(x:gt(0):all():item())
    assert.is_false(x:gt(6):any():item())
  end)

  it("norm takes orders", function()
    local x = mlax.array{3, -4, 0}
    near({5}, x:norm())
    near({7}, x:norm(nil, {ord = 1}))
    near({4}, x:norm(nil, {ord = math.huge}))
    near({0}, x:norm(nil, {ord = -math.huge}))
    near({2}, x:norm(nil, {ord = 0}))
    near({(27 + 64) ^ (1 / 3)}, x:norm(nil, {ord = 3}))
  end)

  it("of nothing", function()
    local x = mlax.zeros{0}
    near({0}, x:sum())
    near({1}, x:prod())
    near({0 / 0}, x:mean())
    assert.matches("^max: ", message(function() return x:max() end))
    assert.matches("^argmax: ", message(function() return x:argmax() end))
  end)

  it("name what is wrong", function()
    local x = x23()
    assert.equal("sum: axis 0 does not exist: axes count from 1, or from -1 backwards (got 0, need 1..2)",
      message(function() return x:sum(0) end))
    assert.equal("sum: there is no axis 3 (got 3, need 1..2 or -1..-2)", message(function() return x:sum(3) end))
    assert.equal("sum: axis -1 stands twice in the list of axes", message(function() return x:sum{2, -1} end))
    assert.equal("sum: the axis is no integer (got 1.5)", message(function() return x:sum(1.5) end))
    assert.equal("sum: unknown option 'keepdim', did you mean 'keepdims'? (known: keepdims, dtype)",
      message(function() return x:sum{keepdim = true} end))
    assert.equal("max: unknown option 'dtype' (known: keepdims)", message(function() return x:max{dtype = "int8"} end))
    assert.equal("sum: option 'keepdims' is neither true nor false (got 1)", message(function() return x:sum{keepdims = 1} end))
  end)
end)

describe("scans and order", function()
  it("run along their axis", function()
    local x = x23()
    near({1, 3, 6, 4, 9, 15}, x:cumsum(2))
    near({6, 5, 3, 15, 11, 6}, x:cumsum(2, {reverse = true}))
    near({1, 2, 3, 4, 10, 18}, x:cumprod(1))
    near({3, 3, 1}, mlax.array{3, 2, 1}:cummin(1, {reverse = true}) + mlax.array{2, 2, 0})
    assert.matches("^cumsum: the axis is no integer %(got nothing%)", message(function() return x:cumsum() end))
  end)

  it("sort is stable with NaN last; top_k takes the first of equals", function()
    local x = mlax.array{2, 0 / 0, 1, 2, -1}
    near({-1, 1, 2, 2, 0 / 0}, x:sort())
    assert.same({5, 3, 1, 4, 2}, x:argsort():totable())
    local v, i = mlax.array{{5, 1, 5, 4}, {0, 3, 2, 3}}:top_k(2)
    assert.same({{5, 5}, {3, 3}}, v:totable())
    assert.same({{1, 3}, {2, 4}}, i:totable())
    assert.equal("top_k: k does not fit the axis (got 6, need 0..5)", message(function() return x:top_k(6) end))
  end)

  it("softmax is over the last axis", function()
    near({1, 1}, x23():softmax():sum(2))
    near({0, 0}, x23():log_softmax():logsumexp(2))
  end)
end)

describe("shape functions", function()
  local x = x23()

  it("reshape", function()
    assert.same({3, 2}, x:reshape({3, 2}).shape)
    assert.same({3, 2}, x:reshape{3, -1}.shape)
    assert.same({6}, x:flatten().shape)
    assert.equal("reshape: the sizes differ (got {5} for float32[2,3])", message(function() return x:reshape{5} end))
    assert.equal("reshape: the shape has two lengths of -1 (need one at most)", message(function() return x:reshape{-1, -1} end))
    assert.matches("the sizes differ", message(function() return mlax.zeros({0}):reshape{0, -1} end))
  end)

  it("permute axes", function()
    local y = mlax.zeros{2, 3, 4}
    assert.same({4, 2, 3}, y:transpose{3, 1, 2}.shape)
    assert.same({4, 3, 2}, y:swapaxes(1, -1).shape)
    assert.same({3, 4, 2}, y:moveaxis(1, 3).shape)
    assert.equal("transpose: no axes (need a list; x.T reverses all)", message(function() return y:transpose() end))
    assert.equal("transpose: one entry an axis is needed (got 2, need 3)", message(function() return y:transpose{1, 2} end))
  end)

  it("add, drop and repeat axes", function()
    assert.same({2, 1, 3}, x:expand_dims(2).shape)
    assert.same({2, 3, 1}, x:expand_dims(-1).shape)
    assert.same({1, 2, 3, 1}, x:expand_dims{1, -1}.shape)
    assert.same({3}, mlax.zeros{1, 3, 1}:squeeze().shape)
    assert.same({1, 3}, mlax.zeros{1, 3, 1}:squeeze(-1).shape)
    assert.equal("squeeze: axis 1 is longer than 1 (got float32[2,3])", message(function() return x:squeeze(1) end))
    assert.same({4, 2, 3}, x:broadcast_to{4, 2, 3}.shape)
    near({1, 2, 1, 2}, mlax.array{1, 2}:tile(2))
    near({1, 1, 2, 2}, mlax.array{1, 2}:repeat_(2, 1))
    assert.same({2, 2, 6}, x:tile{2, 1, 2}.shape)
  end)

  it("join and split", function()
    assert.same({4, 3}, mlax.concat({x, x}, 1).shape)
    assert.same({2, 2, 3}, mlax.stack({x, x}, 1).shape)
    assert.same({2, 3, 2}, mlax.stack({x, x}, -1).shape)
    assert.equal("int32", mlax.concat({mlax.ones({1}, "int8"), mlax.ones({1}, "int32")}, 1).dtype)
    local a, b, c = x:split(3, 2)
    near({2, 5}, b)
    assert.same({2, 1}, c.shape)
    assert.same({2, 1}, a.shape)
    a, b, c = mlax.range(1, 6):split({3, 5}, 1)
    assert.same({{1, 2}, {3, 4}, {5, 6}}, {a:totable(), b:totable(), c:totable()})
    assert.equal("split: axis 2 cannot be split into equal parts (got 2 parts for length 3)", message(function() return x:split(2, 2) end))
    assert.equal("concat: the list of arrays is empty", message(mlax.concat, {}, 1))
    assert.equal("concat: item 2 is no array (got \"a\", need an array or a number)", message(mlax.concat, {x, "a"}, 1))
  end)

  it("pad, flip and roll", function()
    near({0, 1, 2, 3, 0, 0}, mlax.array{1, 2, 3}:pad{{1, 2}})
    near({9, 1, 2, 3}, mlax.array{1, 2, 3}:pad({{1, 0}}, {value = 9}))
    near({1, 1, 2, 3, 3, 3}, mlax.array{1, 2, 3}:pad({{1, 2}}, {mode = "edge"}))
    near({2, 3, 2, 1, 2, 3, 2, 1, 2, 3}, mlax.array{1, 2, 3}:pad({{3, 4}}, {mode = "reflect"}))
    assert.matches("^pad: unknown mode 'wrap'", message(function() return x:pad({{1, 1}, {0, 0}}, {mode = "wrap"}) end))
    assert.equal("pad: one {before, after} an axis is needed (got 1 for 2 axes)", message(function() return x:pad{{1, 1}} end))
    near({6, 5, 4, 3, 2, 1}, x:flip())
    near({3, 1, 2, 6, 4, 5}, x:roll(1, 2))
    near({2, 3, 1, 5, 6, 4}, x:roll(-4, 2))
  end)

  it("take triangles and diagonals", function()
    local m = mlax.range(1, 9):reshape{3, 3}
    assert.same({{1, 0, 0}, {4, 5, 0}, {7, 8, 9}}, m:tril():totable())
    assert.same({{0, 2, 3}, {0, 0, 6}, {0, 0, 0}}, m:triu{k = 1}:totable())
    assert.same({1, 5, 9}, m:diag():totable())
    assert.same({4, 8}, m:diag{k = -1}:totable())
    assert.same({}, m:diag{k = 5}:totable())
    assert.same({{0, 1, 0}, {0, 0, 2}, {0, 0, 0}}, mlax.array({1, 2}, "int32"):diag{k = 1}:totable())
    assert.equal(15, m:trace():item())
    assert.same({15, 15}, mlax.stack({m, m}, 1):trace():totable())
  end)

  it("convert", function()
    assert.same({1, -1}, mlax.array{1.9, -1.9}:astype("int32"):totable())
    assert.same({0x3f800000}, mlax.array{1}:bitcast("uint32"):totable())
    assert.same({{0, 0, 0x80, 0x3f}}, mlax.array{1}:bitcast("uint8"):totable())
    assert.same({1}, mlax.array({{0, 0, 0x80, 0x3f}}, "uint8"):bitcast("float32"):totable())
  end)
end)

describe("products", function()
  local function random(shape, seed)
    local n = 1
    for _, v in ipairs(shape) do n = n * v end
    return ((mlax.range(1, n, 1, "float32") * seed) % 7 - 3):reshape(shape)
  end

  it("einsum agrees with sums over loops of broadcasts", function()
    local a, b, c = random({2, 3}, 5), random({3, 4}, 3), random({4, 2}, 2)
    local want = (a:reshape{2, 3, 1} * b:reshape{1, 3, 4}):sum(2)
    near(want, mlax.einsum("ij,jk->ik", a, b))
    near(want, a:matmul(b))
    near(want, mlax.tensordot(a, b, 1))
    near(want, mlax.lax.dot_general(a, b, {contract = {{2}, {1}}}))
    near(want.T, mlax.einsum("ij, jk -> ki", a, b))
    near((want:reshape{2, 4, 1} * c:reshape{1, 4, 2}):sum(2):trace(), mlax.einsum("ij,jk,ki->", a, b, c))
    near(a:sum(1), mlax.einsum("ij->j", a))
    near((a:reshape{6, 1} * b:reshape{1, 12}):reshape{2, 3, 3, 4}, mlax.einsum("ij,kl", a, b))
    near(mlax.outer(a, b), mlax.einsum("ij,kl->ijkl", a, b):reshape{6, 12})
    near(mlax.array{3, 4}, mlax.einsum("ii->i", mlax.array{{3, 1}, {2, 4}}))
    local batch = random({5, 2, 3}, 4)
    near((batch:reshape{5, 2, 3, 1} * b:reshape{1, 1, 3, 4}):sum(3), mlax.einsum("...ij,jk->...ik", batch, b))
    near(mlax.matmul(batch, b), mlax.einsum("...j,jk", batch, b))
    near(random({1, 2}, 3) * random({5, 2}, 4), mlax.einsum("...i,...i->...i", random({1, 2}, 3), random({5, 2}, 4)))
    near({(random({3}, 2) * random({3}, 5)):sum():item()}, mlax.dot(random({3}, 2), random({3}, 5)))
  end)

  it("name what does not fit", function()
    local a = mlax.ones{2, 3}
    assert.equal("einsum: 'j' has two lengths (got 3 and 2)", message(mlax.einsum, "ij,jk->ik", a, a))
    assert.equal("einsum: the equation 'ij,jk' has 2 terms (got 1 arrays)", message(mlax.einsum, "ij,jk", a))
    assert.equal("einsum: term 1, 'ijk', does not fit an array of 2 axes", message(mlax.einsum, "ijk->i", a))
    assert.equal("einsum: 'z' of the result stands in no term", message(mlax.einsum, "ij->z", a))
    assert.equal("dot_general: axis 0 does not exist: axes count from 1, or from -1 backwards (got 0, need 1..2)",
      message(mlax.lax.dot_general, a, a, {contract = {{0}, {1}}}))
    assert.matches("^matmul: ", message(mlax.matmul, a, a))
  end)
end)

describe("composed operations", function()
  it("allclose and array_equal give bool arrays", function()
    local x = x23()
    assert.is_true(mlax.allclose(x, x + 1e-6):item())
    assert.is_false(mlax.allclose(x, x + 1):item())
    assert.is_true(mlax.allclose(mlax.array{math.huge}, mlax.array{math.huge}):item())
    assert.is_false(mlax.allclose(mlax.array{math.huge}, mlax.array{1}):item())
    assert.is_false(mlax.allclose(mlax.array{0 / 0}, mlax.array{0 / 0}):item())
    assert.is_true(mlax.allclose(mlax.array{0 / 0}, mlax.array{0 / 0}, {equal_nan = true}):item())
    assert.is_true(x:array_equal(x23()):item())
    assert.is_false(x:array_equal(x.T):item())
  end)

  it("unique, bincount and histogram count", function()
    local v, inverse, counts = mlax.array{3, 1, 3, 2}:unique{inverse = true, counts = true}
    assert.same({1, 2, 3}, v:totable())
    assert.same({3, 1, 3, 2}, inverse:totable())
    assert.same({1, 1, 2}, counts:totable())
    assert.same({}, mlax.zeros({0}):unique():totable())
    assert.same({1, 0, 2}, mlax.array({1, 3, 3}, "int32"):bincount():totable())
    assert.same({1, 0, 2, 0}, mlax.array({1, 3, 3}, "int32"):bincount(4):totable())
    near({0.5, 0, 3}, mlax.bincount(mlax.array({1, 3, 3}, "int32"), 3, {weights = mlax.array{0.5, 1, 2}}))
    local n, edges = mlax.histogram(mlax.array{1, 2, 2, 5}, 4)
    assert.same({1, 2, 0, 1}, n:totable())
    near({1, 2, 3, 4, 5}, edges)
    n = mlax.histogram(mlax.array{-1, 0, 0.5, 1, 2}, mlax.array{0, 0.5, 1})
    assert.same({1, 2}, n:totable())
  end)

  it("median and quantile interpolate", function()
    near({2}, mlax.array{3, 1, 2}:median())
    near({2.5}, mlax.array{4, 1, 2, 3}:median())
    near({2, 5}, x23():median(2))
    assert.same({2, 1}, x23():median(2, {keepdims = true}).shape)
    near({0 / 0}, mlax.array{1, 0 / 0}:median())
    near({1.75}, mlax.array{1, 2, 3, 4}:quantile(0.25))
    near({1, 2.5, 4}, mlax.array{1, 2, 3, 4}:quantile(mlax.array{0, 0.5, 1}))
    assert.same({3, 2}, x23():quantile(mlax.array{0, 0.5, 1}, 2).shape)
    near({2}, mlax.array{1, 2, 3, 4}:quantile(0.4, nil, {method = "lower"}))
  end)

  it("interp, meshgrid, nan_to_num", function()
    near({10, 15, 20, 20}, mlax.interp(mlax.array{0, 1.5, 2, 9}, mlax.array{1, 2}, mlax.array{10, 20}))
    local a, b = mlax.meshgrid(mlax.array{1, 2, 3}, mlax.array{4, 5})
    assert.same({{1, 2, 3}, {1, 2, 3}}, a:totable())
    assert.same({{4, 4, 4}, {5, 5, 5}}, b:totable())
    assert.same({3, 2}, mlax.meshgrid(mlax.zeros{3}, mlax.zeros{2}, {indexing = "ij"}).shape)
    near({0, 1, -7}, mlax.nan_to_num(mlax.array{0 / 0, 1, -math.huge}, {neginf = -7.0}))
  end)

  it("raise at the user's line with the names of their options", function()
    assert.equal("median: unknown option 'keepdim', did you mean 'keepdims'? (known: keepdims)",
      message(function() return x23():median{keepdim = true} end))
    assert.matches("^median: there is no axis 5", message(function() return x23():median(5) end))
    assert.matches("^interp: xp and fp are no vectors", message(mlax.interp, 1, x23(), x23()))
    assert.matches("^allclose: unknown option 'rtoll', did you mean 'rtol'%?", message(mlax.allclose, x23(), x23(), {rtoll = 1}))
  end)
end)

describe("every operation of the contract", function()
  it("is a function and a method", function()
    local methods = mlax.ones{2}
    for name in ([[abs sign neg exp exp2 expm1 log log2 log1p sqrt rsqrt cbrt square reciprocal sin cos tan asin acos atan sinh cosh tanh
      asinh acosh atanh sigmoid erf erfc erf_inv lgamma digamma floor ceil round trunc isnan isinf isfinite logical_not add sub mul div pow
      mod floordiv atan2 maximum minimum hypot logaddexp eq ne lt le gt ge logical_and logical_or logical_xor where clip sum mean prod max
      min var std any all argmax argmin logsumexp norm cumsum cumprod cummax cummin sort argsort top_k reshape transpose swapaxes squeeze
      expand_dims broadcast_to split pad flip roll tile repeat_ flatten moveaxis tril triu diag astype bitcast take take_along_axis one_hot
      dynamic_slice dynamic_update_slice segment_sum nonzero searchsorted allclose array_equal unique bincount histogram interp median
      quantile nan_to_num trace matmul dot outer tensordot]]):gmatch("%S+") do
      assert.equal("function", type(mlax[name]), name)
      assert.equal("function", type(methods[name]), name)
    end
    for name in ("concat stack einsum meshgrid"):gmatch("%S+") do assert.equal("function", type(mlax[name]), name) end
  end)
end)
