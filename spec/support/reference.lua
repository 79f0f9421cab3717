--- Special functions in plain Lua doubles, from their series and asymptotic expansions.
local reference = {}

local pi = math.pi

--- Taylor series for small |x|, the continued fraction of erfc else.
local function erf_series(x)
  local term, sum, n = x, x, 0
  repeat
    n = n + 1
    term = -term * x * x / n
    sum = sum + term / (2 * n + 1)
  until math.abs(term) < 1e-18 * math.abs(sum)
  return 2 / math.sqrt(pi) * sum
end

local function erfc_fraction(x) -- x > 0: e^-x^2 / sqrt(pi) / (x + 1/2 / (x + 1 / (x + 3/2 / ...)))
  local f = x
  for k = 200, 1, -1 do f = x + k / 2 / f end
  return math.exp(-x * x) / math.sqrt(pi) / f
end

function reference.erf(x)
  if x ~= x then return x end
  if math.abs(x) < 2 then return x == 0 and x or erf_series(x) end
  return x > 0 and 1 - erfc_fraction(x) or erfc_fraction(-x) - 1
end

function reference.erfc(x)
  if x ~= x then return x end
  if math.abs(x) < 2 then return 1 - (x == 0 and 0 or erf_series(x)) end
  return x > 0 and erfc_fraction(x) or 2 - erfc_fraction(-x)
end

--- Newton's method on erf.
function reference.erf_inv(y)
  if y ~= y or math.abs(y) > 1 then return 0 / 0 end
  if math.abs(y) == 1 then return y * math.huge end
  local x = y
  for _ = 1, 100 do
    local step = (reference.erf(x) - y) * math.sqrt(pi) / 2 * math.exp(x * x)
    x = x - math.max(-0.5, math.min(0.5, step))
    if math.abs(step) < 1e-15 then break end
  end
  return x
end

-- Bernoulli numbers B_2, B_4, ...
local bernoulli = {1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6}

--- ln |gamma(x)|: Stirling's series behind the recurrence.
function reference.lgamma(x)
  if x ~= x then return x end
  if x == math.huge or x == -math.huge then return math.huge end
  if x <= 0 then
    if x == math.floor(x) then return math.huge end
    return math.log(pi / math.abs(math.sin(pi * x))) - reference.lgamma(1 - x)
  end
  local shift = 0
  while x < 15 do
    shift = shift + math.log(x)
    x = x + 1
  end
  local sum = (x - 0.5) * math.log(x) - x + 0.5 * math.log(2 * pi)
  for k, b in ipairs(bernoulli) do sum = sum + b / (2 * k * (2 * k - 1) * x ^ (2 * k - 1)) end
  return sum - shift
end

--- The derivative of lgamma.
function reference.digamma(x)
  if x <= 0 then
    if x == math.floor(x) then return 0 / 0 end
    return reference.digamma(1 - x) - pi / math.tan(pi * x)
  end
  local shift = 0
  while x < 15 do
    shift = shift + 1 / x
    x = x + 1
  end
  local sum = math.log(x) - 0.5 / x
  for k, b in ipairs(bernoulli) do sum = sum - b / (2 * k * x ^ (2 * k)) end
  return sum - shift
end

--- The n-th derivative of digamma (n > 0) right of 0: (-1)^(n+1) times the series of psi_n.
function reference.polygamma(n, x)
  local factorial, shift = 1, 0 -- n!
  for k = 2, n do factorial = factorial * k end
  while x < 25 do
    shift = shift + factorial / x ^ (n + 1)
    x = x + 1
  end
  local sum, product = factorial / n / x ^ n + 0.5 * factorial / x ^ (n + 1), factorial / n -- (2k + n - 1)! / (2k)!
  for k, b in ipairs(bernoulli) do
    product = product * (2 * k + n - 2) * (2 * k + n - 1) / ((2 * k - 1) * 2 * k)
    sum = sum + b * product / x ^ (2 * k + n)
  end
  return (n % 2 == 0 and -1 or 1) * (sum + shift)
end

function reference.sinh(x) return x == 0 and x or math.abs(x) < 1e-3 and x + x ^ 3 / 6 or (math.exp(x) - math.exp(-x)) / 2 end
function reference.cosh(x) return (math.exp(x) + math.exp(-x)) / 2 end

function reference.tanh(x)
  if math.abs(x) > 20 then return x > 0 and 1.0 or -1.0 end
  return reference.sinh(x) / reference.cosh(x)
end

function reference.log1p(x)
  if math.abs(x) < 1e-4 then return x == 0 and x or x - x * x / 2 + x ^ 3 / 3 - x ^ 4 / 4 end
  return math.log(1 + x)
end

function reference.expm1(x)
  if math.abs(x) < 1e-4 then return x == 0 and x or x + x * x / 2 + x ^ 3 / 6 + x ^ 4 / 24 end
  return math.exp(x) - 1
end

function reference.cbrt(x)
  if x == 0 or x ~= x or math.abs(x) == math.huge then return x end
  local y = math.abs(x) ^ (1 / 3)
  y = y - (y * y * y - math.abs(x)) / (3 * y * y)
  return x < 0 and -y or y
end

--- To even.
function reference.round(x)
  if x ~= x or math.abs(x) >= 2.0 ^ 52 then return x end
  local down = math.floor(x) + 0.0
  local rest = x - down
  local y = (rest > 0.5 or rest == 0.5 and down % 2 == 1) and down + 1 or down
  return y == 0 and x * 0.0 or y
end

function reference.trunc(x)
  if x ~= x or math.abs(x) == math.huge then return x end
  local y = x < 0 and -math.floor(-x) or math.floor(x)
  return y == 0 and x * 0.0 or y + 0.0
end

function reference.floor(x)
  if x ~= x or x == 0 or math.abs(x) == math.huge then return x end
  return math.floor(x) + 0.0
end

function reference.ceil(x)
  if x ~= x or x == 0 or math.abs(x) == math.huge then return x end
  local y = math.ceil(x) + 0.0
  return y == 0 and -0.0 or y
end

--- e^x for the sign of both, finite where the greater is.
function reference.logaddexp(x, y)
  if x ~= x or y ~= y then return 0 / 0 end
  if x == y then return x + math.log(2) end
  return math.max(x, y) + reference.log1p(math.exp(-math.abs(x - y)))
end

function reference.logsumexp(list)
  local top = -math.huge
  for _, v in ipairs(list) do
    if v ~= v then return v end
    top = math.max(top, v)
  end
  if math.abs(top) == math.huge then return top end
  local sum = 0
  for _, v in ipairs(list) do sum = sum + math.exp(v - top) end
  return top + math.log(sum)
end

--- Threefry-2x32 with 20 rounds (Salmon et al. 2011): two words of key, two of counter -> two words.
function reference.threefry(k0, k1, x0, x1)
  local mask = 0xffffffff
  local rotations = {{13, 15, 26, 6}, {17, 29, 16, 24}}
  local keys = {k0, k1, (k0 ~ k1 ~ 0x1bd11bda) & mask}
  x0, x1 = (x0 + k0) & mask, (x1 + k1) & mask
  for i = 1, 5 do
    for _, r in ipairs(rotations[(i - 1) % 2 + 1]) do
      x0 = (x0 + x1) & mask
      x1 = ((x1 << r) | (x1 >> (32 - r))) & mask ~ x0
    end
    x0 = (x0 + keys[i % 3 + 1]) & mask
    x1 = (x1 + keys[(i + 1) % 3 + 1] + i) & mask
  end
  return x0, x1
end

return reference
