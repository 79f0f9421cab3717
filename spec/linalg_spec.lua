local mlax = require "mlax"
local helper = require "spec.helper"
local linalg, random = mlax.linalg, mlax.random
local near, message = helper.near, helper.message

local nan, inf = 0 / 0, math.huge

local function normal(seed, shape, dtype) return random.normal(random.key(seed), shape, {dtype = dtype or "float64"}) end
local function T(x) return x:swapaxes(-1, -2) end
local function eye(n) return mlax.eye(n, "float64") end
local function diag(v) return v[{"...", {}, "new"}] * mlax.eye(v.shape[v.ndim], v.dtype) end

-- All elements of x are NaN or infinite, or none is.
local function all_bad(x) return not mlax.isfinite(x):any():item() end
local function all_finite(x) return mlax.isfinite(x):all():item() end

-- grad of a scalar function, and grad of <grad, t>, against differences in float64
local function check_gradients(f, x, tolerance)
  near(helper.differences(f, x), mlax.grad(f)(x), tolerance or 1e-6)
  local t = normal(99, x.shape)
  local function slope(y) return (mlax.grad(f)(y) * t):sum() end
  near(helper.differences(slope, x), mlax.grad(slope)(x), tolerance or 1e-5)
end

describe("mlax.linalg reconstructs", function()
  for _, dtype in ipairs{"float32", "float64"} do
    local tolerance = dtype == "float32" and 1e-4 or 1e-11
    for _, n in ipairs{1, 2, 7, 40, 130} do
      it(("%s matrices of %d rows"):format(dtype, n), function()
        local x, b = normal(n, {2, n, n}, dtype), normal(n + 1, {2, n, 3}, dtype)
        local s = x:matmul(T(x)) + mlax.eye(n, dtype) * n
        local l = linalg.cholesky(s)
        near(s, l:matmul(T(l)), tolerance * n)
        near(l:tril(), l, 0)
        near(b, s:matmul(linalg.solve(s, b)), tolerance * n)
        near(b, l:matmul(linalg.triangular_solve(l, b, {lower = true})), tolerance * n)
        near(mlax.broadcast_to(mlax.eye(n, dtype), {2, n, n}), s:matmul(linalg.inv(s)), tolerance)
        local q, r = linalg.qr(x)
        near(x, q:matmul(r), tolerance)
        near(r:triu(), r, 0)
        local u, v, vt = linalg.svd(x)
        near(x, (u * v[{"...", "new", {}}]):matmul(vt), tolerance)
        local w, e = linalg.eigh(s)
        near(s, (e * w[{"...", "new", {}}]):matmul(T(e)), tolerance * n)
        local sign, log = linalg.slogdet(x)
        if n <= 40 then near(linalg.det(x) / (sign * log:exp()), mlax.ones{2}, 1e-2) end
      end)
    end
  end

  it("long and wide matrices", function()
    for _, s in ipairs{{50, 3}, {3, 50}, {2, 20, 30}} do
      local x, k = normal(1, s), math.min(s[#s], s[#s - 1])
      local q, r = linalg.qr(x)
      near(x, q:matmul(r), 1e-12)
      for _, full in ipairs{true, false} do
        local u, v, vt = linalg.svd(x, {full_matrices = full})
        assert.equal(full and s[#s - 1] or k, u.shape[#s])
        near(x, (u[{"...", {1, k}}] * v[{"...", "new", {}}]):matmul(vt[{"...", {1, k}, {}}]), 1e-12)
        near(mlax.broadcast_to(eye(u.shape[#s]), T(u):matmul(u).shape), T(u):matmul(u), 1e-12)
        near(mlax.broadcast_to(eye(vt.shape[#s - 1]), vt:matmul(T(vt)).shape), vt:matmul(T(vt)), 1e-12)
      end
    end
  end)

  it("what is laid out in any way", function()
    local x = normal(3, {4, 5, 4})
    for _, y in ipairs{x[{{}, 2, {}}], x:transpose{2, 3, 1}[1], x:flip{1}[{{}, 1, {}}], T(x[{{}, {1, 4}, {}}])} do
      near(y:matmul(linalg.solve(y, eye(4))):reshape{-1}, (y:matmul(linalg.inv(y + 0))):reshape{-1}, 1e-9)
      near(linalg.det(y + 0), linalg.det(y), 0)
    end
  end)
end)

describe("mlax.linalg is differentiable twice:", function()
  local x, c = normal(5, {3, 3}) + diag(mlax.array({3, 5, 7}, "float64")), normal(6, {3, 3})

  it("cholesky, eigh", function()
    check_gradients(function(y) return (linalg.cholesky(y) * c):sum() end, x)
    check_gradients(function(y)
      local w, v = linalg.eigh(y)
      return ((v * w:sin()[{"new"}]):matmul(T(v)) * c):sum() + (w * w * w):sum()
    end, x)
  end)

  it("solve, inv, triangular_solve", function()
    check_gradients(function(y) return (linalg.solve(y, y * c) * c):sum() end, x)
    check_gradients(function(y) return (linalg.inv(y) * c):sum() end, x)
    check_gradients(function(y) return (linalg.triangular_solve(y, y * c, {transpose = true}) * c):sum() end, x)
  end)

  it("det, slogdet", function()
    check_gradients(function(y) return linalg.det(y) end, x)
    check_gradients(function(y) return (select(2, linalg.slogdet(y))) end, x)
  end)

  it("qr and svd, tall, wide and whole", function()
    local function check(shape)
      local y = normal(7, shape)
        + eye(math.max(table.unpack(shape)))[{{1, shape[1]}, {1, shape[2]}}] * 4 * mlax.range(1, shape[2]):astype("float64")
      local e = normal(8, shape)
      check_gradients(function(z)
        local q, r = linalg.qr(z)
        return (q:matmul(r:sin()) * e):sum() + r:square():sin():sum()
      end, y)
      for _, full in ipairs{true, false} do
        check_gradients(function(z)
          local u, s, vt = linalg.svd(z, {full_matrices = full})
          local k = s.size
          local p = u:matmul(T(u))
          return ((u[{{}, {1, k}}] * s:tanh()[{"new"}]):matmul(vt[{{1, k}, {}}]) * e):sum() + (p[{1}] * p[{-1}]):sum()
        end, y)
      end
    end
    check{3, 3}
    check{4, 2}
    check{2, 4}
  end)

  it("lstsq, also where singular values are equal", function()
    local b = normal(9, {4})
    for _, y in ipairs{normal(10, {4, 2}), normal(11, {4, 6}), eye(4)[{{}, {1, 3}}]} do
      check_gradients(function(z)
        local sol, residuals = linalg.lstsq(z, b)
        return (sol * sol):sum() + residuals:sum()
      end, y)
    end
  end)

  it("norm of every order", function()
    for _, ord in ipairs{"fro", "nuc", 1, -1, 2, -2, inf, -inf} do
      check_gradients(function(y) return linalg.norm(y, {ord = ord}) end, x)
    end
    for _, ord in ipairs{1, 2, 3, 0.5, inf, -inf, -2} do
      check_gradients(function(y) return (linalg.norm(y, 2, {ord = ord}) * mlax.array({1, 2, 3}, "float64")):sum() end, x)
    end
  end)

  it("under vmap and jit", function()
    local batch = mlax.stack({x, x + 1, T(x)}, 1)
    local function f(y) return linalg.det(y) + linalg.inv(y):sum() + linalg.cholesky(y:matmul(T(y))):sum() end
    local g = mlax.grad(f)
    local want = mlax.stack({g(batch[1]), g(batch[2]), g(batch[3])}, 1)
    near(want, mlax.vmap(g)(batch), 1e-11)
    near(want, mlax.jit(mlax.vmap(g))(batch), 1e-11)
    near(want, mlax.grad(function(y) return mlax.vmap(f)(y):sum() end)(batch), 1e-11)
  end)
end)

describe("det of a singular matrix", function()
  local function cofactors(list) -- of 3 x 3 by the definition
    local out = {}
    for i = 0, 2 do
      for j = 0, 2 do
        local a, b, c, d = (i + 1) % 3 + 1, (i + 2) % 3 + 1, (j + 1) % 3 + 1, (j + 2) % 3 + 1
        out[#out + 1] = list[a][c] * list[b][d] - list[a][d] * list[b][c]
      end
    end
    return out
  end
  local singular = {
    ["of rank two, a zero pivot in front"] = {{0, 1, 2}, {0, 3, 4}, {0, 5, 7}},
    ["of rank two"] = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}},
    ["of rank one"] = {{1, 2, 3}, {2, 4, 6}, {3, 6, 9}},
    ["of rank zero"] = {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}},
    ["that is regular, of equal singular values"] = {{0, 2, 0}, {-2, 0, 0}, {0, 0, 2}},
  }
  for name, list in pairs(singular) do
    it(name .. " has the cofactors as gradient, and a second derivative", function()
      local x = mlax.array(list, "float64")
      near(cofactors(list), mlax.grad(linalg.det)(x), 1e-12)
      check_gradients(linalg.det, x)
    end)
  end

  it("of five rows has them too", function()
    local y = normal(4, {5, 5})
    check_gradients(linalg.det, y:at{5}:set(y[1] + y[2]))
  end)
end)

describe("bad matrices stay in their place of the batch:", function()
  local good = mlax.array{{4, 1}, {1, 3}}
  local function batch(bad) return mlax.stack({good, mlax.array(bad), good}, 1) end
  -- f's results at places 1 and 3 are those of the good matrix alone, and at 2 they pass `check`
  local function stays(f, bad, check)
    local want, got = {f(good)}, {f(batch(bad))}
    for r, y in ipairs(got) do
      near(want[r], y[1], 1e-6)
      near(want[r], y[3], 1e-6)
      check(y[2], r)
    end
  end
  local function gradient(f) return mlax.grad(function(x) return f(x):sum() end) end
  local function s_of(x) return (select(2, linalg.svd(x))) end

  it("singular ones", function()
    local zero = {{1, 2}, {2, 4}}
    stays(linalg.inv, zero, function(y) assert.is_true(all_bad(y)) end)
    stays(function(x) return linalg.solve(x, mlax.ones{2}) end, zero, function(y) assert.is_true(all_bad(y)) end)
    stays(linalg.det, zero, function(y) near({0}, y) end)
    stays(linalg.slogdet, zero, function(y, r) near({r == 1 and 0 or -inf}, y) end)
    stays(gradient(linalg.inv), zero, function(y) assert.is_true(all_bad(y)) end)
    stays(gradient(linalg.det), zero, function(y) near({4, -2, -2, 1}, y, 1e-6) end)
    stays(s_of, zero, function(y) near({5, 0}, y, 1e-6) end)
  end)

  it("not positive definite ones", function()
    stays(linalg.cholesky, {{1, 2}, {2, 1}}, function(y) near({nan, 0, nan, nan}, y) end)
    stays(gradient(linalg.cholesky), {{1, 2}, {2, 1}}, function(y) assert.is_true(all_bad(y)) end)
  end)

  it("ones with a NaN or an infinity", function()
    for _, v in ipairs{nan, inf, -inf} do
      local bad = {{v, 1}, {1, 2}}
      for _, f in ipairs{linalg.inv, linalg.eigh, linalg.svd, linalg.cholesky, linalg.qr, gradient(linalg.inv), gradient(s_of),
        gradient(function(x) return (linalg.eigh(x)) end), gradient(linalg.qr)} do
        stays(f, bad, function(y) assert.is_false(all_finite(y)) end)
      end
      assert.is_false(all_finite(linalg.lstsq(mlax.array(bad), mlax.ones{2})))
    end
  end)

  it("larger ones, and those whose numbers overflow on the way, at every size of LAPACK's blocks", function()
    for _, n in ipairs{3, 31, 64, 65, 140} do
      for _, dtype in ipairs{"float32", "float64"} do
        local x = normal(n, {n, n}, dtype)
        for _, v in ipairs{nan, inf, dtype == "float32" and 3e38 or 1.7e308, 1e-45} do
          for _, y in ipairs{mlax.full({n, n}, v, dtype), x:at{n, 1}:set(v), x * v} do
            for _, f in ipairs{"cholesky", "inv", "det", "slogdet", "qr", "svd", "eigh"} do linalg[f](y) end
            linalg.lstsq(y, y[1])
            linalg.triangular_solve(y, y)
          end
        end
      end
    end
  end)

  it("a triangle that is not read", function()
    local x = mlax.array({{2, nan}, {1, 4}}, "float64")
    local b = mlax.array({2, 5}, "float64")
    near({1, 1}, linalg.triangular_solve(x, b, {lower = true}))
    local g = mlax.grad(function(a) return linalg.triangular_solve(a, b, {lower = true}):sum() end)(x)
    assert.equal(0, g[{1, 2}]:item())
    assert.is_true(all_finite(g))
  end)
end)

describe("matrices without elements, and of one", function()
  it("have results of the right shapes", function()
    for _, lead in ipairs{{}, {2}, {0}} do
      local function shape(...) return table.concat({table.concat(lead, ","), ...}, #lead > 0 and "," or "", #lead > 0 and 1 or 2) end
      local function check(x, ...) assert.equal(shape(...), table.concat(x.shape, ",")) end
      local x = mlax.zeros{table.unpack({lead[1] or 0, lead[1] and 0 or 0, lead[1] and 0 or nil}, 1, #lead + 2)}
      check(linalg.cholesky(x), "0,0")
      check(linalg.inv(x), "0,0")
      check(select(2, linalg.eigh(x)), "0,0")
      check(mlax.grad(function(y) return linalg.det(y):sum() end)(x), "0,0")
      near(mlax.ones(lead), linalg.det(x))
    end
    near({1}, linalg.det(mlax.zeros{0, 0}))
    local u, s, vt = linalg.svd(mlax.zeros{3, 0})
    near(mlax.eye(3), u)
    assert.equal(0, s.size + vt.size)
    local q, r = linalg.qr(mlax.zeros{0, 3})
    assert.equal(0, q.size + r.size)
    near({0, 0}, linalg.lstsq(mlax.zeros{0, 2}, mlax.zeros{0}))
    near({0}, linalg.norm(mlax.zeros{0}))
  end)

  it("of one element are numbers", function()
    local x = mlax.array{{4}}
    near({2}, linalg.cholesky(x))
    near({0.25}, linalg.inv(x))
    near({4}, linalg.det(x))
    near({4}, (linalg.eigh(x)))
    near({1}, mlax.grad(linalg.det)(x))
    near({0}, mlax.grad(function(y) return mlax.grad(linalg.det)(y):sum() end)(x))
  end)
end)

describe("solve", function()
  it("takes vectors and broadcasts batches", function()
    local a, b = normal(1, {3, 2, 2}), normal(2, {2, 4})
    local x = linalg.solve(a, b)
    assert.are.same({3, 2, 4}, x.shape)
    near(mlax.broadcast_to(b, {3, 2, 4}), a:matmul(x), 1e-11)
    local v = linalg.solve(a, b[{{}, 1}])
    assert.are.same({3, 2}, v.shape)
    near(x[{{}, {}, 1}], v, 1e-12)
    assert.are.same({5, 3, 2, 1}, linalg.solve(a, mlax.ones{5, 1, 2, 1}).shape)
  end)

  it("factorizes one matrix once for mapped right sides", function()
    local a, b = normal(1, {3, 3}), normal(2, {5, 3})
    near(linalg.solve(a, b.T).T, mlax.vmap(linalg.solve, {in_axes = {false, 1}})(a, b), 1e-12)
  end)
end)

describe("lstsq", function()
  it("gives solution, residuals, rank and singular values", function()
    local a, b = mlax.array{{1, 0}, {1, 1}, {1, 2}}, mlax.array{1, 3, 6}
    local x, residuals, rank, s = linalg.lstsq(a, b)
    near({5 / 6, 2.5}, x, 1e-5)
    near({1 / 6}, residuals, 1e-5)
    assert.equal(2, rank:item())
    near((select(2, linalg.svd(a))), s)
  end)

  it("gives the least norm where there are many", function()
    local x, _, rank = linalg.lstsq(mlax.array{{1, 1}, {1, 1}}, mlax.array{2, 2})
    near({1, 1}, x)
    assert.equal(1, rank:item())
  end)
end)

describe("norm", function()
  local x = mlax.array{{{1, -2}, {3, 4}}, {{0, 5}, {-6, 7}}}

  it("takes axes in any order and keeps them", function()
    near({7, 13}, linalg.norm(x, {2, 3}, {ord = inf}))
    near({6, 12}, linalg.norm(x, {3, 2}, {ord = inf}))
    near({6, 12}, linalg.norm(x, {2, 3}, {ord = 1}))
    near(linalg.norm(x, {2, 3}, {ord = "nuc"}), linalg.norm(x, {3, 2}, {ord = "nuc"}))
    for _, ord in ipairs{"nuc", "fro", 1, 2, inf} do
      assert.are.same({1, 2, 1}, linalg.norm(x, {3, 1}, {ord = ord, keepdims = true}).shape)
      near(linalg.norm(x, {3, 1}, {ord = ord}), linalg.norm(x, {3, 1}, {ord = ord, keepdims = true}), 1e-6)
    end
    assert.are.same({1, 1, 1}, linalg.norm(x, {keepdims = true}).shape)
  end)

  it("counts what is not zero with ord = 0", function() near({2, 2, 1, 2}, linalg.norm(x, 3, {ord = 0})) end)
end)

describe("messages of mlax.linalg", function()
  it("name the function, the shape and what is needed", function()
    assert.equal("cholesky: the last two axes must be square (got float32[2,3])", message(linalg.cholesky, mlax.ones{2, 3}))
    assert.equal("inv: at least two axes are needed (got float32[3])", message(linalg.inv, mlax.ones{3}))
    assert.equal('qr: linear algebra works in float32 and float64 (got float16, need float32: x:astype("float32"))',
      message(linalg.qr, mlax.ones({2, 2}, "float16")))
    assert.equal("solve: sizes differ (got float32[2,2] and float32[3], need as many rows in both)",
      message(linalg.solve, mlax.ones{2, 2}, mlax.ones{3}))
    assert.equal("triangular_solve: leading axes do not broadcast (got float32[3,2,2] and float32[4,2,1])",
      message(linalg.triangular_solve, mlax.ones{3, 2, 2}, mlax.ones{4, 2, 1}))
    assert.equal("svd: unknown option 'full' (known: full_matrices)", message(linalg.svd, mlax.ones{2, 2}, {full = true}))
    assert.equal("svd: the matrix is too large for LAPACK (got float32[40000,40000])",
      message(linalg.svd, mlax.broadcast_to(mlax.ones{1}, {40000, 40000})))
    assert.equal('norm: there is no such norm of a vector (got ord = "fro", need a number)',
      message(linalg.norm, mlax.ones{2}, {ord = "fro"}))
    assert.equal("norm: ord without axis needs a vector or a matrix (got float32[2,2,2])",
      message(linalg.norm, mlax.ones{2, 2, 2}, {ord = 1}))
    assert.equal("lstsq: sizes differ (got float32[2,2] and float32[3], need a matrix and right sides with as many rows)",
      message(linalg.lstsq, mlax.ones{2, 2}, mlax.ones{3}))
  end)

  it("integers are converted", function()
    local l = linalg.cholesky(mlax.array({{4, 2}, {2, 5}}, "int32"))
    assert.equal("float32", l.dtype)
    near({2, 0, 1, 2}, l)
  end)
end)
