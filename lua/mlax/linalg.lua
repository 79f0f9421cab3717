--- mlax.linalg: linear algebra on the matrices in the last two axes; all axes before them are batch.
-- float32 and float64; integers are converted to float32, float16 and bfloat16 raise. Everything is differentiable, also twice. A matrix
-- that is singular, has a NaN or does not converge raises nothing: inf or NaN comes back in its place of the batch, and only there.
-- @module mlax.linalg

local core = require "mlax.core"
local check = require "mlax.check"

local mlax = core.mlax

local M = {}

--- The lower factor of a positive definite matrix: x = l lᵀ. What is read is (x + xᵀ) / 2.
-- @function cholesky
-- @param x an array {..., n, n}; a matrix that is not positive definite gives NaN
-- @return l, of x's shape
-- @usage print(linalg.cholesky(mlax.array{{4, 2}, {2, 5}}))
-- --> float32[2,2]
-- --> [[2 0]
-- -->  [1 2]]
M.cholesky = core.linalg_cholesky

--- The solution of a x = b.
-- @function solve
-- @param a an array {..., n, n}
-- @param b a vector {n}, or right sides {..., n, m}; batch axes broadcast
-- @return x, a vector {..., n} if b is one, else {..., n, m}
-- @usage print(linalg.solve(mlax.array{{2, 0}, {0, 4}}, mlax.array{1, 1}))
-- --> float32[2]
-- --> [0.50 0.25]
M.solve = core.linalg_solve

--- The solution of a x = b, of which only one triangle of a is read; the other gets gradient 0.
-- @function triangular_solve
-- @param a an array {..., n, n}
-- @param b a vector {n}, or right sides {..., n, m}; batch axes broadcast
-- @param[opt] options `lower` (false): which triangle; `transpose` (false): solves aᵀ x = b; `unit_diagonal` (false): takes ones for it
-- @return x, as of `solve`
-- @usage print(linalg.triangular_solve(mlax.array{{2, 0}, {1, 1}}, mlax.array{2, 3}, {lower = true}))
-- --> float32[2]
-- --> [1 2]
M.triangular_solve = core.linalg_triangular_solve

--- The inverse. To solve equations, `solve` is faster and more accurate.
-- @function inv
-- @param x an array {..., n, n}
-- @return an array of x's shape
-- @usage print(linalg.inv(mlax.array{{2, 0}, {0, 4}}))
-- --> float32[2,2]
-- --> [[0.50 0.00]
-- -->  [0.00 0.25]]
M.inv = core.linalg_inv

--- The determinant. Its gradient is the matrix of cofactors, of singular matrices too.
-- @function det
-- @param x an array {..., n, n}
-- @return an array {...}
-- @usage print(linalg.det(mlax.array{{1, 2}, {3, 4}}))
-- --> float32[] -2
M.det = core.linalg_det

--- The determinant of matrices for which it would overflow: sign exp(log).
-- @function slogdet
-- @param x an array {..., n, n}
-- @return sign (1, -1, or 0 where singular) and log |det|, each {...}
-- @usage print(linalg.slogdet(mlax.eye(2)))
-- --> float32[] 1 float32[] 0
M.slogdet = core.linalg_slogdet

--- The reduced decomposition x = q r: columns of q are orthonormal, r is upper triangular.
-- @function qr
-- @param x an array {..., m, n}
-- @return q {..., m, k} and r {..., k, n}, with k = min(m, n)
-- @usage local q, r = linalg.qr(random.normal(key, {5, 3}))
M.qr = core.linalg_qr

--- The singular value decomposition x = u diag(s) vt.
-- @function svd
-- @param x an array {..., m, n}
-- @param[opt] options `full_matrices` (true): u {..., m, m} and vt {..., n, n}; else u {..., m, k} and vt {..., k, n}, k = min(m, n)
-- @return u, s {..., k} falling, vt. Gradients through u and vt are finite where the singular values differ
-- @usage local u, s, vt = linalg.svd(random.normal(key, {5, 3}), {full_matrices = false})
M.svd = core.linalg_svd

--- Eigenvalues and eigenvectors of a symmetric matrix. What is read is (x + xᵀ) / 2.
-- @function eigh
-- @param x an array {..., n, n}
-- @return w {..., n} rising, v {..., n, n} with the eigenvectors as columns. Gradients through v are finite where the eigenvalues differ
-- @usage local w, v = linalg.eigh(mlax.array{{2, 0}, {0, 1}})
-- print(w)
-- --> float32[2]
-- --> [1 2]
M.eigh = core.linalg_eigh

local eps = {float32 = 2.0 ^ -23, float64 = 2.0 ^ -52}

--- The least squares solution of a x = b; of all that there are, that of least norm.
-- Singular values under eps max(m, n) times the greatest count as zero. The derivative is that of the pseudoinverse, for matrices of
-- constant rank (Golub and Pereyra 1973).
-- @param a a matrix {m, n}
-- @param b a vector {m}, or right sides {m, k}
-- @return x {n} or {n, k}; the sums of squared residuals {1} or {k}; the rank (int32); the singular values of a, falling
-- @usage local x = linalg.lstsq(mlax.array{{1, 0}, {1, 1}, {1, 2}}, mlax.array{1, 3, 5})
function M.lstsq(a, b, ...)
  check.last("lstsq", ...)
  a, b = check.array("lstsq", "a", a), check.array("lstsq", "b", b)
  if a.ndim ~= 2 or b.ndim < 1 or b.ndim > 2 or b.shape[1] ~= a.shape[1] then
    check.fail("lstsq", "sizes differ (got %s and %s, need a matrix and right sides with as many rows)", check.show(a), check.show(b))
  end
  local vector = b.ndim == 1
  if vector then b = b[{{}, "new"}] end
  local pinv = core.linalg_pinv(a)
  local x = pinv:matmul(b)
  local dtype = x.dtype
  if dtype ~= "float32" and dtype ~= "float64" then
    check.fail("lstsq", 'b must be of float32 or float64 (got %s, need float32: b:astype("float32"))', check.show(b))
  end
  local _, s = M.svd(a, {full_matrices = false})
  local rank = mlax.zeros({}, "int32")
  if s.size > 0 then
    local least = s[1] * (eps[s.dtype] * math.max(a.shape[1], a.shape[2]))
    rank = s:gt(0):logical_and(s:ge(least)):sum():astype("int32")
  end
  local residuals = (b - a:matmul(x)):square():sum(1)
  if vector then x = x:squeeze(2) end
  return x, residuals, rank, s
end

-- -- norm ----------------------------------------------------------------------------------------------------------------

local inf = math.huge

local function fail_ord(ord, kind, need)
  check.fail("norm", "there is no such norm of a %s (got ord = %s, need %s)", kind, check.show(ord), need)
end

local function vector_norm(x, axis, ord, keep)
  if ord == nil or ord == 2 then return x:square():sum(axis, keep):sqrt() end
  if type(ord) ~= "number" then fail_ord(ord, "vector", "a number") end
  if ord == inf then return x:abs():max(axis, keep) end
  if ord == -inf then return x:abs():min(axis, keep) end
  if ord == 0 then return x:ne(0):astype(x.dtype):sum(axis, keep) end
  if ord == 1 then return x:abs():sum(axis, keep) end
  return (x:abs() ^ ord):sum(axis, keep) ^ (1 / ord)
end

-- Of the columns or rows: the greatest or least sum of absolute values.
local function norm_of_sums(x, axes, sum, most, keep)
  local sums = x:abs():sum(axes[sum], {keepdims = true})
  local r = most and sums:max(axes[3 - sum], {keepdims = true}) or sums:min(axes[3 - sum], {keepdims = true})
  return keep.keepdims and r or r:squeeze(axes)
end

-- Of the singular values: their sum, the greatest or the least.
local function norm_of_singular_values(x, axes, how, keep)
  local moved = x:moveaxis(axes[1], -2):moveaxis(axes[2] - (axes[1] < axes[2] and 1 or 0), -1)
  local _, s = M.svd(moved, {full_matrices = false})
  local r = how == "sum" and s:sum(-1) or how == "max" and s:max(-1) or s:min(-1)
  if not keep.keepdims then return r end
  local low, high = math.min(axes[1], axes[2]), math.max(axes[1], axes[2])
  return r:expand_dims(low):expand_dims(high)
end

local function matrix_norm(x, axes, ord, keep)
  if ord == nil or ord == "fro" then return x:square():sum(axes, keep):sqrt() end
  if ord == "nuc" then return norm_of_singular_values(x, axes, "sum", keep) end
  if ord == 2 then return norm_of_singular_values(x, axes, "max", keep) end
  if ord == -2 then return norm_of_singular_values(x, axes, "min", keep) end
  if ord == 1 or ord == -1 then return norm_of_sums(x, axes, 1, ord == 1, keep) end
  if ord == inf or ord == -inf then return norm_of_sums(x, axes, 2, ord == inf, keep) end
  fail_ord(ord, "matrix", '1, 2, math.huge, their negatives, "fro" or "nuc"')
end

-- Axes in the order given: of a matrix norm the rows' axis first.
local function norm_axes(x, axis)
  if type(axis) ~= "table" then return {check.axis("norm", "axis", axis, x.ndim)} end
  local axes = {}
  for i, a in ipairs(axis) do axes[i] = check.axis("norm", "axis", a, x.ndim) end
  if #axes < 1 or #axes > 2 then check.fail("norm", "a norm is of one axis or of two (got %d)", #axes) end
  if axes[1] == axes[2] then check.fail("norm", "axis names axis %d twice", axes[1]) end
  return axes
end

--- The norm of vectors or matrices, as NumPy's.
-- @param x an array
-- @param[opt] axis one axis: of vectors; a list of two: of matrices, the rows' axis first; nil: of all elements, or with `ord` of x itself,
-- which then has one or two axes
-- @param[opt] options `keepdims` (false). `ord`: of vectors any number p, (Σ|x|^p)^(1/p), with 0 (how many are not 0), math.huge (the
-- greatest), -math.huge (the least); of matrices "fro" (Frobenius, the default), "nuc" (the sum of singular values), 2 and -2 (the
-- greatest and the least of them), 1 and -1 (of sums of columns), math.huge and -math.huge (of sums of rows)
-- @return an array without these axes
-- @usage print(linalg.norm(mlax.array{3, 4}))
-- --> float32[] 5
-- @usage print(linalg.norm(mlax.array{{1, 2}, {3, 4}}, 2, {ord = 1}))
-- --> float32[2]
-- --> [3 7]
function M.norm(x, axis, options, ...)
  if type(axis) == "table" and options == nil and next(axis) ~= nil and axis[1] == nil then axis, options = nil, axis end
  local o = check.options("norm", options, "ord keepdims", ...)
  x = check.array("norm", "x", x)
  if not x.dtype:find("float", 1, true) then x = x:astype("float32") end
  local keep = {keepdims = o.keepdims or false}
  if axis == nil and o.ord == nil then return x:square():sum(nil, keep):sqrt() end
  if axis == nil and x.ndim ~= 1 and x.ndim ~= 2 then
    check.fail("norm", "ord without axis needs a vector or a matrix (got %s)", check.show(x))
  end
  local axes = norm_axes(x, axis or (x.ndim == 1 and 1 or {1, 2}))
  if #axes == 1 then return vector_norm(x, axes[1], o.ord, keep) end
  return matrix_norm(x, axes, o.ord, keep)
end

return M
