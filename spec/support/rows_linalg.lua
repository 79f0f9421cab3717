--- The rows of linear algebra; see drive.lua for the fields. References are textbook loops on lists of rows. Operands are shifted so that
-- they are far from singular, also where a driver repeats one row; signs that a factorization leaves free are made positive.
local mlax = require "mlax"

local linalg = mlax.linalg

local rows = {}

local both = {"float32", "float64"}

-- -- matrices as lists of rows -------------------------------------------------------------------------------------------

local function matrix(m, n, f)
  local x = {}
  for i = 1, m do
    x[i] = {}
    for j = 1, n do x[i][j] = f(i, j) end
  end
  return x
end

local function product(x, y)
  return matrix(#x, #(y[1] or {}), function(i, j)
    local sum = 0.0
    for k = 1, #y do sum = sum + x[i][k] * y[k][j] end
    return sum
  end)
end

local function transposed(x) return matrix(#(x[1] or {}), #x, function(i, j) return x[j][i] end) end

local function symmetric(x) return matrix(#x, #x, function(i, j) return (x[i][j] + x[j][i]) / 2 end) end

-- Gauss's elimination with pivots: a^-1 b and det a.
local function eliminate(a, b)
  local n, det = #a, 1.0
  a, b = matrix(n, n, function(i, j) return a[i][j] end), matrix(n, #(b[1] or {}), function(i, j) return b[i][j] end)
  for k = 1, n do
    local p = k
    for i = k + 1, n do if math.abs(a[i][k]) > math.abs(a[p][k]) then p = i end end
    if p ~= k then a[p], a[k], b[p], b[k], det = a[k], a[p], b[k], b[p], -det end
    det = det * a[k][k]
    for i = 1, n do
      if i ~= k then
        local f = a[i][k] / a[k][k]
        for j = k, n do a[i][j] = a[i][j] - f * a[k][j] end
        for j = 1, #b[i] do b[i][j] = b[i][j] - f * b[k][j] end
      end
    end
  end
  return matrix(n, #(b[1] or {}), function(i, j) return b[i][j] / a[i][i] end), det
end

local function eye(n) return matrix(n, n, function(i, j) return i == j and 1.0 or 0.0 end) end

-- Jacobi's rotations: eigenvalues, rising, and eigenvectors of a symmetric matrix.
local function eigen(a)
  local n = #a
  local v = eye(n)
  a = matrix(n, n, function(i, j) return a[i][j] end)
  for _ = 1, 60 do
    for p = 1, n do
      for q = p + 1, n do
        if a[p][q] ~= 0 then
          local t = math.atan(2 * a[p][q], a[q][q] - a[p][p]) / 2
          local turn = eye(n)
          turn[p][p], turn[q][q], turn[p][q], turn[q][p] = math.cos(t), math.cos(t), math.sin(t), -math.sin(t)
          a, v = product(transposed(turn), product(a, turn)), product(v, turn)
        end
      end
    end
  end
  local order = {}
  for i = 1, n do order[i] = i end
  table.sort(order, function(i, j) return a[i][i] < a[j][j] end)
  local w = {}
  for k, i in ipairs(order) do w[k] = a[i][i] end
  return w, matrix(n, n, function(i, k) return v[i][order[k]] end)
end

-- -- batches: f of the matrices of tensors {..., m, n}, each result a matrix, a list or a number ------------------------------------------

local function members(t)
  local m, n = t.shape[#t.shape - 1], t.shape[#t.shape]
  local count = 1
  for i = 1, #t.shape - 2 do count = count * t.shape[i] end
  local list = {}
  for b = 1, count do list[b] = matrix(m, n, function(i, j) return t.data[((b - 1) * m + i - 1) * n + j] end) end
  return list
end

local function append(out, v)
  if type(v) ~= "table" then out[#out + 1] = v return end
  for _, e in ipairs(v) do append(out, e) end
end

-- lengths: the shapes of each result behind the batch axes
local function batched(f, lengths)
  return function(...)
    local tensors = {...}
    tensors[#tensors] = nil -- the dtype
    local lists, out = {}, {}
    for i, t in ipairs(tensors) do lists[i] = members(t) end
    for r, own in ipairs(lengths) do
      local shape = table.move(tensors[1].shape, 1, #tensors[1].shape - 2, 1, {})
      out[r] = {shape = table.move(own, 1, #own, #shape + 1, shape), data = {}}
    end
    for b = 1, #lists[1] do
      local args = {}
      for i, list in ipairs(lists) do args[i] = list[b] end
      for r, v in ipairs{f(table.unpack(args))} do append(out[r].data, v) end
    end
    return table.unpack(out)
  end
end

-- x / 5 + diag(2, 3, 4, ...): its singular values and eigenvalues lie apart
local function shift(x, i, j) return x / 5 + (i == j and i + 1 or 0) end
local function shifted(x) return matrix(#x, #(x[1] or {}), function(i, j) return shift(x[i][j], i, j) end) end
local function shifted_array(x)
  local m, n = x.shape[x.ndim - 1], x.shape[x.ndim]
  local list = {}
  for i = 1, m * n do list[i] = shift(0.0, (i - 1) // n + 1, (i - 1) % n + 1) end
  return x / 5 + mlax.array(list, x.dtype):reshape{m, n}
end

local function square_cases(row, f, ref, lengths_of)
  row.dtypes, row.ulp, row.cases = both, row.ulp or 100, {}
  for _, s in ipairs{{1, 1}, {2, 2}, {4, 4}, {2, 3, 3}, {0, 0}, {0, 2, 2}} do
    table.insert(row.cases, {args = {s}, f = function(x) return f(shifted_array(x)) end,
      ref = batched(function(x) return ref(shifted(x)) end, lengths_of(s[#s]))})
  end
  return row
end

-- -- factorizations --------------------------------------------------------------------------------------------------------

rows.cholesky = square_cases({}, linalg.cholesky, function(x)
  local n, l = #x, matrix(#x, #x, function() return 0.0 end)
  x = symmetric(x)
  for j = 1, n do
    for i = j, n do
      local sum = x[i][j]
      for k = 1, j - 1 do sum = sum - l[i][k] * l[j][k] end
      l[i][j] = i == j and math.sqrt(sum) or sum / l[j][j]
    end
  end
  return l
end, function(n) return {{n, n}} end)

-- v is used so that its signs do not matter
local function spread(x, d) return x * d[{"...", "new", {}}] end
rows.eigh = square_cases({}, function(x)
  local w, v = linalg.eigh(x)
  return w, spread(v, w:sin()):matmul(v:swapaxes(-1, -2))
end, function(x)
  local w, v = eigen(symmetric(x))
  return w, product(matrix(#x, #x, function(i, j) return v[i][j] * math.sin(w[j]) end), transposed(v))
end, function(n) return {{n}, {n, n}} end)

local function wide_and_tall(row, f, ref, lengths_of, shapes)
  row.dtypes, row.ulp, row.cases = both, 200, row.cases or {}
  for _, s in ipairs(shapes) do
    table.insert(row.cases, {args = {s}, f = function(x) return f(shifted_array(x)) end,
      ref = batched(function(x) return ref(shifted(x)) end, lengths_of(s[#s - 1], s[#s]))})
  end
  return row
end

-- Gram's and Schmidt's columns, and r = qT x
rows.qr = wide_and_tall({}, function(x)
  local q, r = linalg.qr(x)
  local k = math.min(x.shape[x.ndim - 1], x.shape[x.ndim])
  local sign = mlax.sign((r["...,:" .. math.max(k, 1)] * mlax.eye(k, x.dtype)):sum(-1))
  return spread(q, sign), r * sign[{"...", {}, "new"}]
end, function(x)
  local m, n = #x, #(x[1] or {})
  local k = math.min(m, n)
  local q = matrix(m, k, function(i, j) return x[i][j] end)
  for j = 1, k do
    for before = 1, j do
      local dot = 0.0
      for i = 1, m do dot = dot + q[i][before] * q[i][j] end
      for i = 1, m do q[i][j] = before < j and q[i][j] - dot * q[i][before] or q[i][j] / math.sqrt(dot) end
    end
  end
  local r = product(transposed(q), x)
  return q, matrix(k, n, function(i, j) return i <= j and r[i][j] or 0.0 end)
end, function(m, n) return {{m, math.min(m, n)}, {math.min(m, n), n}} end, {{1, 1}, {3, 3}, {4, 2}, {2, 4}, {2, 3, 2}, {2, 2, 3}})

-- s, u sin(s) vT, and of the whole u the projection on what completes its columns
local function svd_of(full)
  return function(x)
    local u, s, vt = linalg.svd(x, {full_matrices = full})
    local k = s.shape[s.ndim]
    local middle = spread(u[{"...", {1, k}}], s:sin()):matmul(vt[{"...", {1, k}, {}}])
    return s, middle, u:matmul(u:swapaxes(-1, -2)), vt:swapaxes(-1, -2):matmul(vt)
  end
end
local function svd_reference(full)
  return function(x)
    local m, n = #x, #x[1]
    local k = math.min(m, n)
    local w, v = eigen(product(transposed(x), x))
    local s, vk = {}, matrix(n, k, function(i, j) return v[i][n + 1 - j] end)
    for i = 1, k do s[i] = math.sqrt(w[n + 1 - i]) end
    local u = product(x, vk)
    u = matrix(m, k, function(i, j) return u[i][j] / s[j] end)
    return s, product(matrix(m, k, function(i, j) return u[i][j] * math.sin(s[j]) end), transposed(vk)),
      full and eye(m) or product(u, transposed(u)), full and eye(n) or product(vk, transposed(vk))
  end
end
local function svd_lengths(m, n) return {{math.min(m, n)}, {m, n}, {m, m}, {n, n}} end
rows.svd = {}
for _, full in ipairs{true, false} do
  wide_and_tall(rows.svd, svd_of(full), svd_reference(full), svd_lengths, {{1, 1}, {3, 3}, {4, 2}, {2, 4}, {2, 3, 2}})
end

-- Of full rank: (xT x)^-1 xT, or of wide matrices xT (x xT)^-1; times the right sides that an identity is.
rows.pinv = wide_and_tall({}, function(x)
  return (linalg.lstsq(x, mlax.eye(x.shape[1], x.dtype)))
end, function(x)
  local xt = transposed(x)
  if #x < #(x[1] or {}) then return product(xt, (eliminate(product(x, xt), eye(#x)))) end
  return (eliminate(product(xt, x), xt))
end, function(m, n) return {{n, m}} end, {{1, 1}, {3, 3}, {4, 2}, {2, 4}})

-- -- equations -------------------------------------------------------------------------------------------------------------

rows.triangular_solve = {dtypes = both, ulp = 100, cases = {}}
for mask = 0, 7 do
  local o = {lower = mask & 1 ~= 0, transpose = mask & 2 ~= 0, unit_diagonal = mask & 4 ~= 0}
  local function triangle(a)
    local t = matrix(#a, #a, function(i, j)
      if i == j then return o.unit_diagonal and 1.0 or a[i][j] end
      return (i > j) == o.lower and a[i][j] or 0.0
    end)
    return o.transpose and transposed(t) or t
  end
  for _, s in ipairs{{{3, 3}, {3, 2}}, {{2, 2, 2}, {2, 2, 1}}, {{1, 1}, {1, 4}}, {{0, 0}, {0, 2}}} do
    local n, m = s[2][#s[2] - 1], s[2][#s[2]]
    table.insert(rows.triangular_solve.cases, {args = s,
      f = function(a, b) return linalg.triangular_solve(shifted_array(a), b, o) end,
      ref = batched(function(a, b) return (eliminate(triangle(shifted(a)), b)) end, {{n, m}})})
  end
end

rows.lu_solve = {dtypes = both, ulp = 100, cases = {}}
for _, s in ipairs{{{4, 4}, {4, 2}}, {{2, 3, 3}, {2, 3, 1}}, {{1, 1}, {1, 3}}, {{0, 0}, {0, 2}}, {{2, 2}, {2, 0}}} do
  local n, m = s[2][#s[2] - 1], s[2][#s[2]]
  -- rows upside down, so that there is something to exchange
  table.insert(rows.lu_solve.cases, {args = s, f = function(a, b) return linalg.solve(shifted_array(a):flip(-2), b) end,
    ref = batched(function(a, b)
      a = shifted(a)
      return (eliminate(matrix(n, n, function(i, j) return a[n + 1 - i][j] end), b))
    end, {{n, m}})})
end

local function upside_down(x) return matrix(#x, #x, function(i, j) return x[#x + 1 - i][j] end) end
rows.lu = square_cases({}, function(x) return linalg.slogdet(x:flip(-2)) end, function(x)
  local _, det = eliminate(upside_down(x), eye(#x))
  return det < 0 and -1.0 or 1.0, math.log(math.abs(det))
end, function() return {{}, {}} end)

rows.det = square_cases({}, function(x) return linalg.det(x:flip(-2)) end, function(x)
  local _, det = eliminate(upside_down(x), eye(#x))
  return det
end, function() return {{}} end)

-- det x times the transposed inverse
rows.cofactor = square_cases({}, mlax.grad(function(x) return linalg.det(x):sum() end), function(x)
  local inverse, det = eliminate(x, eye(#x))
  return matrix(#x, #x, function(i, j) return inverse[j][i] * det end)
end, function(n) return {{n, n}} end)

return rows
