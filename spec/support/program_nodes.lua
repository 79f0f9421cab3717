--- The operations of random programs. Each is Lua text on the operands $1 and $2 where they fit it.
--
-- Some hold functions whose bodies are random programs again: what control flow, custom rules and inner transformations are given. Those
-- bodies reach the operands of the node too, so that functions capture what outer transformations trace.
local mlax = require "mlax"
local tensor = require "spec.support.tensor"

local nodes = {}

-- -- what fits ------------------------------------------------------------------------------------------------------------

local function pick(random, list) return list[1 + math.floor(random() * #list)] end
local function integer(random, low, high) return low + math.floor(random() * (high - low + 1)) end

-- No two elements are so close that a comparison might go either way.
local function distinct(x)
  local values = tensor.of(x).data
  table.sort(values)
  for i = 2, #values do if values[i] - values[i - 1] < 1e-3 then return false end end
  return true
end
local function unequal(x, y) return mlax.abs(x - y):min():item() > 1e-3 end
local function broadcasts(x, y)
  for k = 1, math.min(x.ndim, y.ndim) do
    if x:dim(-k) ~= y:dim(-k) and x:dim(-k) ~= 1 and y:dim(-k) ~= 1 then return false end
  end
  return true
end
-- No element lies at one of the places where the operation has a kink or a step.
local function away_from(x, ...)
  for _, v in ipairs(tensor.of(x).data) do
    for _, place in ipairs{...} do if math.abs(v - place) < 1e-3 then return false end end
  end
  return true
end
-- A random choice among elements of one sum would go either way there.
local function undecided(x, limit) return math.abs(x:sum():item() - limit) < 1e-3 end

local function axes_at_least(n) return function(x) return x.ndim >= n end end
local function is_matrix(x) return x.ndim == 2 end
local function is_vector(x) return x.ndim == 1 end

-- -- tables of operations -------------------------------------------------------------------------------------------------

-- unary[family], binary[family]: lists of functions (random, x, y, depth) -> text or nil.
local unary, binary, families = {}, {}, {}

local function add(t, family, f)
  if not t[family] then t[family] = {} end
  if not families[family] then
    families[family] = true
    families[#families + 1] = family
  end
  table.insert(t[family], f)
end

-- Texts of one operand, where fits(x) holds; %d in them is a random axis.
local function of_one(family, codes, fits)
  for _, code in ipairs(codes) do
    local wants_axis = code:find("%d", 1, true)
    add(unary, family, function(random, x)
      if fits and not fits(x) or wants_axis and x.ndim == 0 then return nil end
      return wants_axis and (code:gsub("%%d", integer(random, 1, x.ndim))) or code
    end)
  end
end

-- Texts of two operands, where fits(x, y) holds.
local function of_two(family, codes, fits)
  for _, code in ipairs(codes) do add(binary, family, function(_, x, y) return (not fits or fits(x, y)) and code or nil end) end
end

-- -- elementwise ----------------------------------------------------------------------------------------------------------

of_one("elementwise", {"$1:sin()", "$1:cos()", "$1:tanh()", "$1:sigmoid()", "$1:exp()", "$1:square()", "-$1", "$1 * 0.7 - 0.2", "$1:erf()",
  "$1:atan()", "($1:square() + 0.5):log()", "($1:square() + 0.5):sqrt()", "($1:square() + 1) ^ -1.5", "($1 * 0.5):expm1()",
  "1 / ($1:square() + 1)", "mlax.nn.functional.softplus($1)", "($1:square() + 0.4):cbrt()", "($1:square() + 0.3):rsqrt()",
  "($1:square()):log1p()", "($1 * 0.4):sinh()", "($1 * 0.4):cosh()", "$1:asinh()", "($1:sin() * 0.8):atanh()",
  "($1:square() + 0.6):lgamma()", "($1:square() + 0.6):digamma()", "($1:tanh() * 0.9):erf_inv()", "$1:erfc()", "($1:tanh() * 0.9):asin()",
  "($1:tanh() * 0.9):acos()", "($1:square() + 1.5):acosh()", "($1:tanh()):tan()", "mlax.exp2($1)", "($1:square() + 0.3):log2()",
  "mlax.nn.functional.gelu($1)", "mlax.nn.functional.silu($1)", "$1 ^ 3", "$1 ^ 2", "$1:square() ^ 1.5", "$1:ne(7):astype('float64') * $1"})
of_one("elementwise", {"$1:abs()", "$1:clip(-0.5, 0.8)", "mlax.where($1:gt(0), $1 * 2, $1:sin())", "mlax.nn.functional.relu($1)",
  "mlax.nn.functional.leaky_relu($1)", "mlax.nn.functional.elu($1)", "$1 * mlax.sign($1)", "mlax.where($1:gt(0), ($1:abs()):log(), $1)"},
  function(x) return away_from(x, 0, -0.5, 0.8) end)
of_one("elementwise", {"$1 - $1:floor()", "$1 % 1", "$1 * $1:trunc()"}, function(x) return away_from(x, -3, -2, -1, 0, 1, 2, 3) end)

of_two("elementwise", {"$1 + $2", "$1 - $2", "$1 * $2", "$1 * $2", "$1 / ($2:square() + 1)", "mlax.atan2($1, $2:square() + 0.5)",
  "mlax.logaddexp($1, $2)", "($1:square() + 0.5) ^ ($2 * 0.5)", "mlax.hypot($1, $2:square() + 0.5)", "$1 * $2:sum()"}, broadcasts)
of_two("elementwise", {"mlax.maximum($1, $2)", "mlax.minimum($1, $2)", "mlax.where($1:lt($2), $1, $2 * 0.5)",
  "mlax.where($1:gt($2):logical_and($2:ne(0)), $1 * $2, $2)"}, function(x, y) return broadcasts(x, y) and unequal(x, y) end)

-- -- reductions, scans, order ---------------------------------------------------------------------------------------------

of_one("reduce", {"$1:softmax(%d)", "$1:log_softmax(%d)", "$1:logsumexp(%d)", "$1:sum(%d)", "$1:mean(%d)", "$1:prod(%d)",
  "$1:var(%d, {keepdims = true})", "$1 - $1:mean(%d, {keepdims = true})", "$1:cumsum(%d)", "$1:cumprod(%d)",
  "$1:cumsum(%d, {reverse = true})", "$1:cumprod(%d, {reverse = true})", "$1:sum({%d}, {keepdims = true})"})
of_one("reduce", {"$1:sum()", "$1:mean()", "($1:square() + 0.1):norm()", "$1:logsumexp()", "$1:prod()"})
of_one("order", {"$1:max(%d)", "$1:min(%d)", "$1:sort(%d)", "$1:cummax(%d)", "$1:cummin(%d)", "($1:top_k(1, %d))", "$1:median(%d)",
  "$1:cummax(%d, {reverse = true})", "$1:take_along_axis($1:cos():argsort(%d), %d)", "$1 * $1:argsort(%d):astype('float64')",
  "mlax.one_hot($1:argmax(%d), $1:dim(%d), {dtype = 'float64'}) * 0.5"}, function(x) return distinct(x) and distinct(x:cos()) end)
of_two("order", {"$1[$2:argsort(1)]", "$1:at{$2:argsort(1)}:add($2)", "$1:at{$2:argsort(1)}:set($2)",
  "$1 * mlax.searchsorted($2:sort(1), $1):astype('float64')"}, function(x, y)
  return is_vector(x) and is_vector(y) and x.size == y.size and distinct(y) and unequal(x:expand_dims(1), y:expand_dims(2))
end)

-- -- shapes ---------------------------------------------------------------------------------------------------------------

of_one("shape", {"$1:flatten()", "$1.T", "$1:expand_dims(1)", "$1:broadcast_to({2, table.unpack($1.shape)})",
  "mlax.stack({$1, $1:sin()}, 1)"})
of_one("shape", {"$1:flip(%d)", "$1:roll(1, %d)", "$1:moveaxis(1, %d)", "$1:repeat_(2, %d)", "mlax.concat({$1, $1:cos()}, %d)",
  "mlax.stack({$1, $1 * 2}, %d)"})
of_one("shape", {"$1:tril()", "$1:triu()", "$1:tile{2, 1}", "$1:diag()", "$1:trace()"}, is_matrix)
of_one("shape", {"$1:diag()", "$1:diag({k = 1})", "$1:tile{2}"}, is_vector)
of_one("shape", {"$1:reshape{2, -1}"}, function(x) return x.size % 2 == 0 end)
of_one("shape", {"$1:pad({{1, 1}}, {mode = 'reflect'})", "$1:pad({{0, 1}}, {mode = 'edge'})", "(select(2, $1:split({2}, 1)))",
  "$1['::2']", "$1['2:']"}, function(x) return is_vector(x) and x.size > 1 end)
add(unary, "shape", function(random, x)
  if x.ndim == 0 then return nil end
  local widths, axis = {}, integer(random, 1, x.ndim)
  for i = 1, x.ndim do widths[i] = i == axis and ("{%d, %d}"):format(integer(random, 0, 1), integer(random, 0, 1)) or "{0, 0}" end
  return ("$1:pad({%s}, {value = 0.3})"):format(table.concat(widths, ", "))
end)
of_two("shape", {"mlax.concat({$1, $2}, 1)", "mlax.outer($1, $2)"}, function(x, y) return is_vector(x) and is_vector(y) end)

-- -- positions ------------------------------------------------------------------------------------------------------------

local function ids_text(random, n, count)
  local list = {}
  for i = 1, count do list[i] = integer(random, 1, n) end
  return ('mlax.array({%s}, "int32")'):format(table.concat(list, ", "))
end

of_one("index", {"$1[-1]", '$1["..., ::-1"]', '$1["::2"]', '$1["new, ..."]', "$1[1]", "$1[{{1, 1}}]", "$1:at{1}:mul($1[-1])",
  "$1:at{-1}:set($1[1] * 2)"}, axes_at_least(1))
of_one("index", {"$1:at{1}:max($1[-1]:sin() - 0.1)", "$1:at{1}:min($1[-1]:sin() + 0.1)"}, function(x)
  return x.ndim > 0 and unequal(x[1], x[-1]:sin() - 0.1) and unequal(x[1], x[-1]:sin() + 0.1)
end)
for _, f in ipairs{
  function(random, x, axis) return ("$1:take(%s, %d)"):format(ids_text(random, x:dim(axis), integer(random, 1, 3)), axis) end,
  function(random, x, axis) return ("$1:swapaxes(1, %d)[{%s}]:swapaxes(1, -1)"):format(axis, ids_text(random, x:dim(axis), 2)) end,
  function(random, x) return ("$1:at{%d}:mul($1[-1])"):format(integer(random, 1, x:dim(1))) end,
  function(random, x) return ("$1:at{%s}:add($1[1] * 0.5)"):format(ids_text(random, x:dim(1), 2)) end,
  function(random, x) return ("$1:at{%s}:set($1[1]:cos())"):format(ids_text(random, x:dim(1), 2)) end,
  function(random, x) return ("mlax.segment_sum($1, %s, 2)"):format(ids_text(random, 2, x:dim(1))) end,
  function(random, x, axis) return ("$1:take(%s + 1, %d, {mode = 'clip'})"):format(ids_text(random, x:dim(axis), 2), axis) end,
  function(random, x) -- positions that are different in each example
    return ("$1[($1:sum():sin() * %d + 0.41):floor():astype('int32') %% %d + 1]"):format(integer(random, 2, 5), x:dim(1))
  end,
  function(_, x)
    return ("$1:dynamic_slice(($1:mean() * 3 + 0.41):floor():astype('int32'):broadcast_to{%d} %% 1 + 1, {%s})"):format(x.ndim,
      table.concat(x.shape, ", "))
  end,
  function(random, x)
    local starts, sizes = {}, {}
    for i, d in ipairs(x.shape) do
      sizes[i] = integer(random, 1, d)
      starts[i] = integer(random, 1, d - sizes[i] + 1)
    end
    return ('$1:dynamic_slice(mlax.array({%s}, "int32"), {%s})'):format(table.concat(starts, ", "), table.concat(sizes, ", "))
  end,
} do add(unary, "index", function(random, x) return x.ndim > 0 and f(random, x, integer(random, 1, x.ndim)) or nil end) end
add(binary, "index", function(random, x, y)
  if not is_vector(x) or not is_vector(y) or y.size > x.size then return nil end
  return ('$1:dynamic_update_slice($2, mlax.array({%d}, "int32"))'):format(integer(random, 1, x.size - y.size + 1))
end)
add(binary, "index", function(random, x, y)
  if x.ndim == 0 or table.concat(y.shape, ",") ~= table.concat(x.shape, ",", 2) then return nil end
  return ("$1:at{%s}:%s($2)"):format(ids_text(random, x:dim(1), 2), pick(random, {"add", "set"}))
end)

-- -- products and linear algebra ------------------------------------------------------------------------------------------

of_one("product", {"$1:matmul($1.T)", "$1:sin():matmul($1.T:matmul($1)) - $1", "$1:matmul($1.T:matmul($1:cos())):sin() + $1",
  'mlax.einsum("ij,kj->ik", $1, $1:sin())', 'mlax.einsum("ij->j", $1)'}, is_matrix)
of_one("product", {"$1:matmul($1)", "$1:outer($1:cos())"}, is_vector)
of_two("product", {"$1:matmul($2)", "($1:matmul($2) + 0.3):tanh()",
  "mlax.nn.functional.gelu($1:matmul($2)) * $1:matmul($2:cos())"}, function(x, y)
  return x.ndim > 0 and x.ndim <= 2 and y.ndim > 0 and x:dim(-1) == y:dim(y.ndim > 1 and -2 or 1)
end)
of_two("product", {"$1:matmul($2:swapaxes(2, 3))", 'mlax.einsum("bij,bkj->kb", $1, $2)',
  "mlax.lax.dot_general($1, $2, {contract = {{3}, {3}}, batch = {{1}, {1}}})"}, function(x, y)
  return x.ndim == 3 and y.ndim == 3 and x:dim(1) == y:dim(1) and x:dim(3) == y:dim(3)
end)
of_two("product", {'mlax.einsum("ki,kj->ij", $1, $2)', "mlax.tensordot($1, $2, {{1}, {1}})"}, function(x, y)
  return is_matrix(x) and is_matrix(y) and x:dim(1) == y:dim(1)
end)

-- Matrices that are far from singular and have eigenvalues far from each other.
local positive = "($1:matmul($1:swapaxes(-1, -2)) * 0.2 + mlax.linspace(1, 3, $1:dim(-2)):astype('float64'):diag())"
local square = "($1:tanh() * 0.3 + mlax.linspace(1, 3, $1:dim(-1)):astype('float64'):diag())"
local function of_matrices(codes, matrix, fits)
  for i, code in ipairs(codes) do codes[i] = code:gsub("M", function() return matrix end) end
  of_one("linalg", codes, fits)
end
of_matrices({"mlax.linalg.cholesky(M)", "mlax.linalg.inv(M)", "mlax.linalg.det(M)", "(select(2, mlax.linalg.slogdet(M)))",
  "(mlax.linalg.eigh(M))", "(select(2, mlax.linalg.eigh(M))):square()", "mlax.linalg.solve(M, $1)", "(select(2, mlax.linalg.svd(M)))",
  "mlax.linalg.triangular_solve(mlax.linalg.cholesky(M), $1, {lower = true})",
  "mlax.linalg.triangular_solve(M, $1, {transpose = true})"}, positive, function(x) return x.ndim >= 2 and x:dim(-2) > 1 end)
of_matrices({"mlax.linalg.inv(M)", "mlax.linalg.det(M)", "(mlax.linalg.qr(M))", "(select(2, mlax.linalg.qr(M)))",
  "mlax.linalg.solve(M, $1)", "(mlax.linalg.svd(M)):square()", "(select(2, mlax.linalg.svd(M)))"},
  square, function(x) return x.ndim >= 2 and x:dim(-1) == x:dim(-2) and x:dim(-1) > 1 end)
of_two("linalg", {(("mlax.linalg.solve(M, $2)"):gsub("M", function() return positive end))}, function(x, y)
  return is_matrix(x) and y.ndim > 0 and y.ndim <= 2 and y:dim(1) == x:dim(1) and x:dim(1) > 1
end)

-- -- convolutions and windows ---------------------------------------------------------------------------------------------

local function window_options(random, ...)
  local parts, lists = {}, {...}
  for i = 1, #lists, 2 do
    if random() < 0.5 then parts[#parts + 1] = ("%s = %s"):format(lists[i], pick(random, lists[i + 1])) end
  end
  return table.concat(parts, ", ")
end
local paddings = {"1", "{{2, 1}}", "{{0, 1}}", "{{-1, 2}}"}
local function convolution(x_text, y_text)
  return function(random)
    local options = random() < 0.3 and "padding = 'SAME_LOWER', strides = 2"
      or window_options(random, "strides", {2, 3}, "padding", paddings, "input_dilation", {2, 3}, "filter_dilation", {2})
    return ("mlax.lax.conv(%s, %s, {%s})"):format(x_text, y_text, options)
  end
end
local function with(fits, f) return function(random, x, y) return fits(x, y) and f(random, x, y) or nil end end

add(binary, "window", with(function(x, y) return x.ndim > 0 and y.size <= 6 end,
  convolution("$1:reshape{1, -1, 1}", "$2:reshape{1, -1, 1}")))
add(binary, "window", with(function(x, y) return is_matrix(x) and is_matrix(y) and x:dim(2) == y:dim(2) end,
  convolution("$1:expand_dims(1)", "$2:expand_dims(1)")))
add(binary, "window", with(function(x, y) return x.ndim == 3 and y.ndim == 3 and x:dim(3) == y:dim(3) end, convolution("$1", "$2")))
add(binary, "window", with(function(x, y) return x.size % 2 == 0 and y.size % 2 == 0 end, function(random)
  return ("mlax.lax.conv($1:reshape{%s}, $2:reshape{2, -1, 1}, {%s_group_count = 2, padding = 1})"):format(
    table.unpack(pick(random, {{"1, -1, 2", "feature"}, {"2, -1, 1", "batch"}})))
end))
add(binary, "window", with(function(x, y) return is_matrix(x) and is_matrix(y) end, function(random)
  return ("mlax.lax.conv($1['new, new'], $2['new, new'], {dimension_numbers = {'NCHW', 'OIHW', 'NCHW'}, %s})[1]"):format(
    window_options(random, "padding", {"{{1, 0}, {2, 1}}", "1"}, "strides", {"{2, 1}", "2"}, "input_dilation", {"{1, 2}"}))
end))
add(unary, "window", function(random, x)
  if x.ndim == 0 then return nil end
  local kind = pick(random, {"sum", "max", "min", "prod"})
  if (kind == "max" or kind == "min") and not distinct(x) then return nil end
  return ("mlax.lax.reduce_window($1, %s, '%s', {window = 2, %s})"):format(
    ({sum = "0", max = "-math.huge", min = "math.huge", prod = "1"})[kind], kind,
    window_options(random, "strides", {2}, "padding", {"1"}, "window_dilation", {2}, "input_dilation", {2}))
end)

-- -- functions with random bodies -----------------------------------------------------------------------------------------

-- A function of named parameters whose sample values are given; it may use $1 and $2 too. outer: their sample values. finish(name) makes
-- its last line from the name of the last value; shape: what that value shall have.
local function lambda(random, depth, parameters, values, outer, finish, shape)
  local names, samples = table.move(parameters, 1, #parameters, 1, {}), table.move(values, 1, #values, 1, {})
  for i, x in ipairs(outer) do names[#names + 1], samples[#samples + 1] = "$" .. i, x end
  local first, lines = #samples, {}
  for _ = 1, 12 do
    if #samples - first >= 3 then break end
    local code, args, z = nodes.choose(random, samples, depth + 1)
    if code then
      local name = ("%s%d"):format(("tuwz"):sub(depth, depth), #samples - first + 1)
      lines[#lines + 1] = ("local %s = %s; "):format(name, code:gsub("%$(%d)", function(k) return names[args[tonumber(k)]] end))
      names[#names + 1], samples[#samples + 1] = name, z
    end
  end
  local last
  for i = #samples, 1, -1 do
    if not shape or table.concat(samples[i].shape, ",") == table.concat(shape, ",") then last = last or i end
  end
  return ("function(%s) %s%s end"):format(table.concat(parameters, ", "), table.concat(lines), finish(names[last or 1])), samples[last or 1]
end

local function returns(name) return "return " .. name end
-- A scalar that depends on every element.
local function summed(name) return ("return (%s * %s:cos()):sum()"):format(name, name) end
-- Stays small however often it is done.
local function damped(name) return ("return (%s * 0.8):tanh()"):format(name) end

-- Nodes that hold a function of the first operand: f(random, x, outer, depth, name of the parameter) -> text.
local function of_function(family, fits, f)
  local function node(random, x, y, depth)
    if depth > 2 or not fits(x) then return nil end
    return f(random, x, {x, y}, depth, ("pqrs"):sub(depth, depth))
  end
  add(unary, family, node)
  add(binary, family, node)
end
local function any() return true end
local function templates(family, codes, finish)
  for _, code in ipairs(codes) do
    local closed = code:find("custom", 1, true) -- rules know nothing of what the function captures
    of_function(family, any, function(random, x, outer, depth, p)
      outer = closed and {} or outer
      return (code:gsub("F", function() return (lambda(random, depth, {p}, {x}, outer, finish)) end))
    end)
  end
end

templates("transform", {"mlax.jit(F)($1)", "mlax.checkpoint(F)($1)", "select(2, mlax.jvp(F, {$1}, {$1:cos()}))",
  "(function(f) return mlax.custom_jvp(f, function(x, t) return mlax.jvp(f, x, t) end)($1) end)(F)",
  "(function(f) return mlax.custom_vjp(f, function(x) return f(x), x end, "
    .. "function(x, g) return select(2, mlax.vjp(f, x))(g) end)($1) end)(F)",
  "mlax.jit(mlax.checkpoint(F))($1)", "(function(f) local y, back = mlax.vjp(f, $1); return back(y:cos()) end)(F)",
  "(function(f) local y, push = mlax.linearize(f, $1); return y * push($1:sin()) end)(F)"}, returns)
templates("transform", {"mlax.grad(F)($1)", "mlax.jit(mlax.grad(F))($1)", "mlax.grad(mlax.jit(F))($1)",
  "mlax.grad(mlax.checkpoint(F))($1)"}, summed)

for _, code in ipairs{"mlax.vmap(F)($1)", "mlax.jit(mlax.vmap(F, {out_axes = -1}))($1)", "mlax.vmap(mlax.jit(F))($1)",
  "mlax.vmap(mlax.checkpoint(F))($1)", "(select(2, mlax.scan(function(c, x) return c, F(x) end, mlax.zeros({}), $1)))",
  "mlax.stack({F($1[1]), F($1[-1])}, 1)"} do
  of_function("transform", axes_at_least(1), function(random, x, outer, depth, p)
    local text = lambda(random, depth, {p}, {x[1]}, outer, returns)
    return (code:gsub("F", function() return "(" .. text .. ")" end))
  end)
end
for _, finish in ipairs{"return F * mlax.psum(F:sum(), 'N')", "return F - mlax.pmean(F, 'N') * mlax.axis_index('N')",
  "return mlax.all_gather(F, 'N'):sum(1):cos() * F", "return F + mlax.ppermute(F, 'N', {{1, 2}}) * 0.5",
  "return F * 0.3 + mlax.pmax(F:sin() * mlax.axis_index('N'), 'N')"} do
  of_function("collective", function(x) return x.ndim > 0 and x:dim(1) > 1 end, function(random, x, outer, depth, p)
    local name = "i" .. depth
    local text = lambda(random, depth, {p}, {x[1]}, outer, function(last) return (finish:gsub("F", last):gsub("N", name)) end)
    return ("mlax.%s(%s, {axis_name = '%s'})($1)"):format(pick(random, {"vmap", "vmap", "pmap"}), text, name)
  end)
end

-- Scans: the carry keeps its shape, the bodies are damped. `$I` is what the carry begins with.
for _, code in ipairs{"(mlax.scan(function(c, x) return F(c, x), nil end, $I, $1))",
  "(select(2, mlax.scan(function(c, x) local n = F(c, x); return n, n * x:mean() end, $I, $1, {reverse = true})))",
  "(select(2, mlax.scan(function(c, x) return F(c, x), c end, $I, $1, {unroll = 2})))",
  "(function(c, y) return y * c:sum() end)(mlax.scan(mlax.jit(function(c, x) return F(c, x), x:sin() end), $I, $1))",
  "(mlax.scan(mlax.checkpoint(function(c, x) return {a = F(c.a, x), b = c.b + x:sum():astype('float32')}, nil end), "
    .. "{a = $I, b = 0.0}, $1)).a"} do
  of_function("control", axes_at_least(1), function(random, x, outer, depth, p)
    local start = outer[2] or x[1]
    local text = lambda(random, depth, {p, "x" .. p}, {start, x[1]}, outer, damped, start.shape)
    return (code:gsub("F", function() return "(" .. text .. ")" end):gsub("%$I", outer[2] and "$2" or "$1[1]"))
  end)
end

for _, code in ipairs{"mlax.fori_loop(1, 3, function(i, c) return F(c) + c / i end, $1)",
  "mlax.while_loop(function(c) return c.k:lt(3) end, function(c) return {k = c.k + 1, x = F(c.x)} end, {k = 0, x = $1}).x",
  "mlax.while_loop(function(c) return c.k:lt(3 * mlax.sigmoid(c.s)) end, "
    .. "function(c) return {k = c.k + 1, x = F(c.x), s = c.s} end, {k = 0.43, x = $1, s = $1:sum()}).x",
  "mlax.cond($1:sum():gt(0.1), F, function(x) return x:sin() * 2 end, $1)",
  "mlax.cond($1:sum():lt(0.1), function(x) return x end, F, $1)", "mlax.cond($1:sum():gt(0.1), mlax.checkpoint(F), F, $1)",
  "mlax.switch($1:sum():gt(0.1):astype('int32') + 1, {F, mlax.cos, mlax.sin}, $1)",
  "mlax.switch(mlax.array(2, 'int32'), {mlax.cos, F}, $1)"} do
  of_function("control", function(x) return not undecided(x, 0.1) end, function(random, x, outer, depth, p)
    local text = lambda(random, depth, {p}, {x}, outer, damped, x.shape)
    return (code:gsub("F", function() return "(" .. text .. ")" end))
  end)
end
of_one("control", {"mlax.associative_scan(mlax.mul, $1)", "mlax.associative_scan(mlax.logaddexp, $1)",
  "mlax.associative_scan(function(a, b) return {a[1] * b[1], a[2] * b[1] + b[2]} end, {$1:tanh(), $1})[2]"}, axes_at_least(1))

-- -- choosing -------------------------------------------------------------------------------------------------------------

-- Finite, not large, not many, and of few axes: what may stand as the value of a node.
local function is_tame(y)
  return y.size > 0 and y.size <= 24 and y.ndim <= 3 and mlax.abs(y):max():item() < 20 -- false for NaN
end

-- What has no forward mode stands inside of a forward derivative, or the other way round.
local function contradicts(code)
  local has = function(text) return code:find(text, 1, true) end
  return has("custom_vjp") and (has("jvp(") or has("linearize")) or has("while_loop") and (has("grad(") or has("vjp("))
end

--- An operation on some of these arrays: its text, the numbers of its operands, its value; nil where the choice does not fit.
function nodes.choose(random, values, depth)
  depth = depth or 1
  local two = random() < 0.45
  local args = {integer(random, 1, #values), two and integer(random, 1, #values) or nil}
  local x, y = values[args[1]], two and values[args[2]] or nil
  local list = (two and binary or unary)[pick(random, families)]
  local code = list and pick(random, list)(random, x, y, depth)
  if not code or contradicts(code) then return nil end
  local f = assert(load("local mlax, a, b = ...\nreturn " .. code:gsub("%$1", "a"):gsub("%$2", "b")))
  local z = f(mlax, x, y)
  if is_tame(z) then return code, args, z end
end

--- Whether a text can be differentiated in forward mode, and in reverse mode.
function nodes.directions(text)
  return not text:find("custom_vjp", 1, true), not text:find("while_loop", 1, true)
end

return nodes
