--- Random programs under random towers of transformations; checks that all ways to compute them agree; shrinks those that do not.
--
-- A case is {inputs = shapes, nodes = {...}, outputs = value numbers, tower = {...}}. Values are numbered: the inputs, then the nodes.
-- The nodes are Lua text, so that a case prints as the function that it is. Its result is one vector, and each storey of the tower takes
-- a function of arrays that gives one array to another one: jit; vmap; grad (of a weighted sum, by one argument); jvp (along a fixed
-- direction of one argument).
local mlax = require "mlax"
local tensor = require "spec.support.tensor"

local programs = {}

-- -- operations -----------------------------------------------------------------------------------------------------------

local function pick(random, list) return list[1 + math.floor(random() * #list)] end
local function integer(random, low, high) return low + math.floor(random() * (high - low + 1)) end
local function some_axis(random, x) return x.ndim > 0 and integer(random, 1, x.ndim) or nil end

-- No two elements are so close that a comparison might go either way.
local function apart(values)
  table.sort(values)
  for i = 2, #values do if values[i] - values[i - 1] < 1e-3 then return false end end
  return true
end
local function distinct(x) return apart(tensor.of(x).data) end
local function unequal(x, y) return x.size * y.size > 0 and mlax.abs(x - y):min():item() > 1e-3 end
local function broadcasts(x, y)
  for k = 1, math.min(x.ndim, y.ndim) do
    if x:dim(-k) ~= y:dim(-k) and x:dim(-k) ~= 1 and y:dim(-k) ~= 1 then return false end
  end
  return true
end

local function ids_text(random, n, count)
  local list = {}
  for i = 1, count do list[i] = integer(random, 1, n) end
  return ('mlax.array({%s}, "int32")'):format(table.concat(list, ", "))
end

-- Each gives the text of the operation on $1 (and $2), or nil where it does not fit the operands.
local unary, binary = {}, {}
for _, code in ipairs{"$1:sin()", "$1:cos()", "$1:tanh()", "$1:sigmoid()", "$1:exp()", "$1:square()", "-$1", "$1 * 0.7 - 0.2",
  "$1:erf()", "$1:atan()", "($1:square() + 0.5):log()", "($1:square() + 0.5):sqrt()", "($1:square() + 1) ^ -1.5",
  "mlax.nn.functional.softplus($1)",
  "$1:flatten()", "$1.T", "1 / ($1:square() + 1)", "($1 * 0.5):expm1()", "$1:expand_dims(1)",
  "$1:broadcast_to({2, table.unpack($1.shape)})",
  "mlax.stack({$1, $1:sin()}, 1)"} do
  unary[#unary + 1] = function() return code end
end
for _, code in ipairs{"$1:cumsum(%d)", "$1:cumprod(%d)", "$1:cumsum(%d, {reverse = true})", "$1:softmax(%d)", "$1:log_softmax(%d)",
  "$1:logsumexp(%d)", "$1:sum(%d)", "$1:mean(%d)", "$1:prod(%d)", "$1:var(%d, {keepdims = true})", "$1 - $1:mean(%d, {keepdims = true})",
  "$1:flip(%d)", "$1:roll(1, %d)", "$1:moveaxis(1, %d)", "$1:repeat_(2, %d)"} do
  unary[#unary + 1] = function(random, x)
    local axis = some_axis(random, x)
    return axis and code:format(axis)
  end
end
for _, code in ipairs{"$1:max(%d)", "$1:min(%d)", "$1:sort(%d)", "$1:cummax(%d)", "$1:cummin(%d)",
  "$1:take_along_axis($1:cos():argsort(%d), %d)", "($1:top_k(1, %d))"} do
  unary[#unary + 1] = function(random, x)
    local axis = some_axis(random, x)
    return axis and distinct(x) and distinct(x:cos()) and code:gsub("%%d", axis)
  end
end
for _, code in ipairs{"$1:abs()", "$1:clip(-0.5, 0.8)", "mlax.where($1:gt(0), $1 * 2, $1:sin())", "mlax.nn.functional.relu($1)",
  "mlax.nn.functional.leaky_relu($1)"} do
  unary[#unary + 1] = function(_, x)
    for _, v in ipairs(tensor.of(x).data) do
      if math.min(math.abs(v), math.abs(v + 0.5), math.abs(v - 0.8)) < 1e-3 then return nil end
    end
    return code
  end
end
-- Transformations inside of the program, over what they are given and over what they capture.
for _, code in ipairs{"mlax.jit(function(v) return v:sin() * v end)($1)", "mlax.vmap(function(v) return v:cos() + v:sum() end)($1)",
  "mlax.vmap(mlax.jit(function(v) return v * 2 - v:mean() end), {in_axes = -1, out_axes = -1})($1)",
  "mlax.grad(function(v) return (v:sin() * v):sum() end)($1)", "mlax.jit(mlax.grad(function(v) return (v:square() * v):mean() end))($1)",
  "mlax.vmap(mlax.grad(function(v) return v:tanh():prod() end))($1)",
  "select(2, mlax.jvp(function(v) return v:sin() * v end, {$1}, {$1:cos()}))",
  "mlax.grad(function(v) return mlax.grad(function(w) return (w:sin() * v):sum() end)(v):sum() end)($1)",
  "select(2, mlax.vjp(mlax.sin, $1))($1)", "mlax.jit(function(v) return v[{1}]:sum() + $1 end)($1:flatten())"} do
  unary[#unary + 1] = function(_, x) return (x.ndim > 0 or not code:find("vmap") and not code:find("%[")) and code end
end
for _, code in ipairs{"mlax.jit(function(v) return v * $2:sum() end)($1)", "mlax.vmap(function(v) return v * $2:sum() end)($1)",
  "mlax.jit(mlax.vmap(function(v) return v - $2:mean() end))($1)", "mlax.grad(function(v) return (v:sin() * $2:sum()):sum() end)($1)",
  "mlax.jit(mlax.grad(function(v) return (v:square() * $2:mean()):sum() end))($1)",
  "mlax.vmap(mlax.jit(function(v) return v:sin() * $2:mean() end))($1)",
  "select(2, mlax.jvp(function(v) return v:sin() * $2:sum() end, {$1}, {$1}))",
  "mlax.vmap(function(v) return mlax.vmap(function(w) return v:sum() * w:sum() end)($2) end)($1)"} do
  binary[#binary + 1] = function(_, x, y) return x.ndim > 0 and y.ndim > 0 and code end
end
-- Control flow, custom rules and named axes.
for _, code in ipairs{"(mlax.scan(function(c, v) return c:sin() + v, c end, $1[1] * 0, $1))",
  "select(2, mlax.scan(function(c, v) return c * v, c + v end, $1[1], $1, {reverse = true}))", "mlax.associative_scan(mlax.mul, $1)",
  'mlax.vmap(function(v) return v * mlax.psum(v:sum(), "i") end, {axis_name = "i"})($1)',
  'mlax.vmap(mlax.jit(function(v) return v - mlax.pmean(v, "i") * mlax.axis_index("i") end), {axis_name = "i"})($1)',
  'mlax.vmap(function(v) return mlax.all_gather(v, "i"):sum(1):cos() * v end, {axis_name = "i"})($1)'} do
  unary[#unary + 1] = function(_, x) return x.ndim > 0 and code end
end
for _, code in ipairs{"mlax.checkpoint(function(v) return v:sin() * v end)($1)",
  "mlax.fori_loop(1, 3, function(i, c) return c * 0.5 + c:cos() / i end, $1)",
  "mlax.custom_jvp(function(v) return v:sin() end, function(p, t) return p[1]:sin(), t[1] * p[1]:cos() end)($1)"} do
  unary[#unary + 1] = function() return code end
end
for _, code in ipairs{"mlax.cond($1:sum():gt(0.1), function(v) return v:sin() end, function(v) return v * 2 end, $1)",
  "mlax.switch($1:sum():gt(0.1):astype('int32') + 1, {mlax.sin, mlax.cos}, $1)"} do
  unary[#unary + 1] = function(_, x) return math.abs(x:sum():item() - 0.1) > 1e-3 and code end
end
for _, code in ipairs{"mlax.checkpoint(function(v) return v * $2:sum():sin() end)($1)",
  "mlax.cond($2:sum():gt(0.1), function(v) return v * $2:mean() end, function(v) return v:cos() end, $1)",
  'mlax.scan(function(c, v) return c * 0.3 + v:sum() * $2:mean(), nil end, mlax.zeros({}, "float64"), $1)',
  "select(2, mlax.scan(function(c, v) return c * v:mean(), c + v end, $2, $1:flatten()))",
  'mlax.vmap(function(v) return mlax.psum(v, "i") * $2:mean() end, {axis_name = "i"})($1)'} do
  binary[#binary + 1] = function(_, x, y)
    return x.ndim > 0 and y.size > 0 and math.abs(y:sum():item() - 0.1) > 1e-3 and code
  end
end
local function with_axis(f)
  return function(random, x)
    local axis = some_axis(random, x)
    return axis and x.size > 0 and f(random, x, axis, x:dim(axis))
  end
end
for _, f in ipairs{
  with_axis(function(random, _, axis, n) return ("$1:take(%s, %d)"):format(ids_text(random, n, integer(random, 1, 3)), axis) end),
  with_axis(function(random, _, axis, n)
    return ("$1:swapaxes(1, %d)[{%s}]:swapaxes(1, -1)"):format(axis, ids_text(random, n, 2))
  end),
  with_axis(function(random, x, axis)
    local widths = {}
    for i = 1, x.ndim do widths[i] = i == axis and ("{%d, %d}"):format(integer(random, 0, 1), integer(random, 0, 1)) or "{0, 0}" end
    return ("$1:pad({%s}, {value = 0.3})"):format(table.concat(widths, ", "))
  end),
  with_axis(function(random, _, _, n)
    return pick(random, {"$1[-1]", '$1["..., ::-1"]', '$1["::2"]', '$1["new, ..."]', n > 1 and "$1[{{1, 1}}]" or "$1[1]"})
  end),
  with_axis(function(random, x) return ("$1:at{%d}:mul($1[-1])"):format(integer(random, 1, x:dim(1))) end),
  with_axis(function(random, x) return ("$1:at{%s}:add($1[1] * 0.5)"):format(ids_text(random, x:dim(1), 2)) end),
  with_axis(function(random, x) return ("$1:at{%s}:set($1[1]:cos())"):format(ids_text(random, x:dim(1), 2)) end),
  function(random, x)
    if x.ndim == 0 then return nil end
    local starts, sizes = {}, {}
    for i, d in ipairs(x.shape) do
      sizes[i] = integer(random, 1, d)
      starts[i] = integer(random, 1, d - sizes[i] + 1)
    end
    return ('$1:dynamic_slice(mlax.array({%s}, "int32"), {%s})'):format(table.concat(starts, ", "), table.concat(sizes, ", "))
  end,
  function(_, x) return x.ndim == 2 and "$1:tril()" end,
  function(_, x) return x.ndim == 2 and "$1:matmul($1.T)" end,
  function(_, x) return x.ndim == 1 and "$1:diag()" end,
  function(_, x) return x.size % 2 == 0 and x.size > 0 and "$1:reshape{2, -1}" end,
} do unary[#unary + 1] = f end

for _, code in ipairs{"$1 + $2", "$1 - $2", "$1 * $2", "$1 * $2", "$1 / ($2:square() + 1)", "mlax.atan2($1, $2:square() + 0.5)",
  "mlax.logaddexp($1, $2)", "($1:square() + 0.5) ^ ($2 * 0.5)", "mlax.hypot($1, $2:square() + 0.5)"} do
  binary[#binary + 1] = function(_, x, y) return broadcasts(x, y) and code end
end
for _, code in ipairs{"mlax.maximum($1, $2)", "mlax.minimum($1, $2)", "mlax.where($1:lt($2), $1, $2 * 0.5)"} do
  binary[#binary + 1] = function(_, x, y) return broadcasts(x, y) and unequal(x, y) and code end
end
for _, f in ipairs{
  function(_, x, y) return x.ndim > 0 and y.ndim > 0 and x:dim(-1) == y:dim(y.ndim > 1 and -2 or 1) and x.ndim <= 2 and "$1:matmul($2)" end,
  function(_, x, y)
    return x.ndim == 3 and y.ndim == 3 and x:dim(1) == y:dim(1) and x:dim(3) == y:dim(3) and "$1:matmul($2:swapaxes(2, 3))"
  end,
  function(_, x, y) return x.ndim == 2 and y.ndim == 2 and x:dim(1) == y:dim(1) and 'mlax.einsum("ki,kj->ij", $1, $2)' end,
  function(_, x, y) return x.ndim == 1 and y.ndim == 1 and "mlax.outer($1, $2)" end,
  function(_, x, y) return x.ndim == 1 and y.ndim == 1 and "mlax.concat({$1, $2}, 1)" end,
  function(_, x, y)
    return x.ndim == 1 and y.ndim == 1 and x.size == y.size and distinct(y) and "$1:at{$2:argsort(1)}:add($2)"
  end,
  function(_, x, y) return x.ndim == 1 and y.ndim == 1 and x.size == y.size and distinct(y) and "$1[$2:argsort(1)]" end,
  function(random, x, y)
    if x.ndim ~= 1 or y.ndim ~= 1 or y.size > x.size or y.size == 0 then return nil end
    return ('$1:dynamic_update_slice($2, mlax.array({%d}, "int32"))'):format(integer(random, 1, x.size - y.size + 1))
  end,
} do binary[#binary + 1] = f end

-- -- cases ----------------------------------------------------------------------------------------------------------------

local letters = "abcdefghijklmnopqrstuvwxyz"
local function name_of(k) return letters:sub(k, k) end

local function node_text(node)
  return (node.code:gsub("%$(%d)", function(k) return name_of(node.args[tonumber(k)]) end))
end

-- The numbers of the values that the outputs need.
local function needed(case)
  local used, n = {}, #case.inputs
  for _, v in ipairs(case.outputs) do used[v] = true end
  for k = #case.nodes, 1, -1 do
    if used[n + k] then for _, a in ipairs(case.nodes[k].args) do used[a] = true end end
  end
  return used
end

--- The program as Lua text: a function of the inputs that gives a vector.
function programs.text(case)
  local names, lines, parts, used = {}, {}, {}, needed(case)
  for k = 1, #case.inputs do names[k] = name_of(k) end
  for k, node in ipairs(case.nodes) do
    local v = #case.inputs + k
    if used[v] then lines[#lines + 1] = ("  local %s = %s"):format(name_of(v), node_text(node)) end
  end
  for i, v in ipairs(case.outputs) do parts[i] = name_of(v) .. ":flatten()" end
  local result = #parts == 1 and parts[1] or ("mlax.concat({%s}, 1)"):format(table.concat(parts, ", "))
  return ("function(%s)\n%s\n  return %s\nend"):format(table.concat(names, ", "), table.concat(lines, "\n"), result)
end

local function storey_text(s)
  if s.kind == "jit" then return "jit" end
  if s.kind == "vmap" then
    local axes = {}
    for i, a in ipairs(s.axes) do axes[i] = tostring(a) end
    return ("vmap{in_axes = {%s}, out = %d}"):format(table.concat(axes, ", "), s.out)
  end
  return ("%s by %s (%s)"):format(s.kind, name_of(s.arg), s.style)
end

--- The tower, outermost first.
function programs.tower_text(case)
  local parts = {}
  for i = #case.tower, 1, -1 do parts[#parts + 1] = storey_text(case.tower[i]) end
  return #parts == 0 and "no transformation" or table.concat(parts, " of ")
end

local function compile(case)
  return assert(load("local mlax = ...\nreturn " .. programs.text(case), "=program"))(mlax)
end

local function make_array(random, shape) return tensor.array(tensor.sample(random, shape, "float64", -1.2, 1.2), "float64") end

-- Finite, not large, not many, and of few axes: what may stand as the value of a node.
local function is_tame(y)
  return y.size > 0 and y.size <= 24 and y.ndim <= 3 and mlax.abs(y):max():item() < 20 -- false for NaN
end

-- Adds one node if the operation fits; values holds the value of each number so far.
local function add_node(random, case, values)
  local two = random() < 0.45
  local args = {integer(random, 1, #values), two and integer(random, 1, #values) or nil}
  local x, y = values[args[1]], two and values[args[2]] or nil
  local code = pick(random, two and binary or unary)(random, x, y)
  if not code then return end
  local f = assert(load("local mlax, a, b = ...\nreturn " .. code:gsub("%$1", "a"):gsub("%$2", "b")))
  local z = f(mlax, x, y)
  if not is_tame(z) then return end
  case.nodes[#case.nodes + 1] = {code = code, args = args, shape = z.shape}
  values[#values + 1] = z
end

local shapes = {{}, {2}, {3}, {4}, {2, 3}, {3, 2}, {1, 3}, {2, 2}}
local styles = {grad = {"grad", "value_and_grad", "vjp", "jacrev"}, jvp = {"jvp", "linearize", "jacfwd"}}

local function random_storey(random, n)
  local kind = pick(random, {"jit", "vmap", "vmap", "grad", "grad", "jvp"})
  if kind == "jit" then return {kind = kind} end
  if kind ~= "vmap" then return {kind = kind, arg = integer(random, 1, n), style = pick(random, styles[kind])} end
  local s = {kind = kind, axes = {}, out = integer(random, 1, 2), size = integer(random, 2, 3)}
  for i = 1, n do s.axes[i] = random() < 0.7 and integer(random, 1, 2) end
  s.axes[integer(random, 1, n)] = integer(random, 1, 2)
  return s
end

--- A random case of 3 to 15 nodes under up to four transformations, at most two of them derivatives.
function programs.generate(random)
  local case, values = {inputs = {}, nodes = {}, outputs = {}, tower = {}}, {}
  for i = 1, integer(random, 1, 3) do
    case.inputs[i] = pick(random, shapes)
    values[i] = make_array(random, case.inputs[i])
  end
  local goal = integer(random, 3, 15)
  for _ = 1, 200 do
    if #case.nodes < goal then add_node(random, case, values) end
  end
  local used = {}
  for _, node in ipairs(case.nodes) do for _, a in ipairs(node.args) do used[a] = true end end
  for v = 1, #values do if not used[v] and v > #case.inputs then case.outputs[#case.outputs + 1] = v end end
  local derivatives = 0
  for _ = 1, integer(random, 1, 4) do
    local s = random_storey(random, #case.inputs)
    if s.style then derivatives = derivatives + 1 end
    if not s.style or derivatives <= 2 then case.tower[#case.tower + 1] = s end
  end
  case.seed = tostring(random())
  return case
end

-- -- ways to compute ------------------------------------------------------------------------------------------------------

-- Fixed numbers in a shape: weights of a sum, directions.
local function fixed(shape, rate)
  return tensor.array(tensor.build(shape, function(at)
    local k = 1
    for _, p in ipairs(at) do k = 3 * k + p end
    return math.cos(rate * k)
  end), "float64")
end
local function weighted(y) return (y * fixed(y.shape, 1.7)):sum() end

-- The axis asked for, or the last there is: a shrunk tower keeps its numbers.
local function clamp(axis, ndim) return axis and math.min(axis, ndim) end

local function slice(x, axis, k)
  local key = {}
  for i = 1, x.ndim do key[i] = i == axis and k or {} end
  return x[key]
end

local function with(args, i, v)
  local r = table.move(args, 1, #args, 1, {})
  r[i] = v
  return r
end

local function basis(x)
  local list = {}
  for k = 1, x.size do list[k] = mlax.zeros({x.size}, "float64"):at{k}:set(1):reshape(x.shape) end
  return list
end

local function in_axes_of(s, args)
  local axes = {}
  for i, x in ipairs(args) do axes[i] = clamp(s.axes[i], x.ndim) end
  return axes
end

local function only(args, i, t)
  local r = {}
  for k = 1, #args do r[k] = k == i and t or false end
  return r
end

-- By differences: (f(x + h t) - f(x - h t)) / 2h.
local step = 1e-6
local function difference(f, args, i, t)
  local above = f(table.unpack(with(args, i, args[i] + t * step)))
  return (above - f(table.unpack(with(args, i, args[i] - t * step)))) / (2 * step)
end

local build = {}

-- mode: "native" as it stands; "plain" without jit; "loop" with loops for vmap, forward mode for grad and reverse mode for jvp;
-- "swap" with derivatives outside of vmap where that is the same; "difference" with differences for the outermost derivative.
local function make(case, n, mode)
  local s = case.tower[n]
  if not s then return compile(case) end
  return build[s.kind](case, n, mode, s)
end

function build.jit(case, n, mode)
  local f = make(case, n - 1, mode)
  return mode == "native" and mlax.jit(f) or f
end

-- The derivative right below, if only jits lie between; its number.
local function derivative_below(case, n)
  repeat n = n - 1 until not case.tower[n] or case.tower[n].kind ~= "jit"
  return case.tower[n] and case.tower[n].style and n
end

local function map(f, s, out)
  return function(...)
    local args = {...}
    local axes = in_axes_of(s, args)
    for i = 1, #args do axes[i] = axes[i] or false end
    local y = mlax.vmap(f, {in_axes = axes})(...)
    return y:moveaxis(1, clamp(out, y.ndim))
  end
end

-- vmap of grad is grad of vmap, if the argument is mapped; vmap of jvp is jvp of vmap.
local function swapped(case, s, below)
  local d = case.tower[below]
  local inner = make(case, below - 1, "swap")
  if d.kind == "grad" and not s.axes[d.arg] then return nil end
  local mapped = map(inner, s, 1)
  return function(...)
    local args = {...}
    local axes = in_axes_of(s, args)
    local x, axis = args[d.arg], axes[d.arg]
    if d.kind == "grad" then
      local g = mlax.grad(function(v)
        local y = mapped(table.unpack(with(args, d.arg, v)))
        return (y * fixed(slice(y, 1, 1).shape, 1.7)):sum()
      end)(x)
      return g:moveaxis(axis, clamp(s.out, g.ndim))
    end
    local t = axis and mlax.broadcast_to(fixed(slice(x, axis, 1).shape, 0.9):expand_dims(axis), x.shape) or fixed(x.shape, 0.9)
    local _, dy = mlax.jvp(mapped, args, only(args, d.arg, t))
    return dy:moveaxis(1, clamp(s.out, dy.ndim))
  end
end

function build.vmap(case, n, mode, s)
  local below = derivative_below(case, n)
  local outside = mode == "swap" and below and swapped(case, s, below)
  if outside then return outside end
  local f = make(case, n - 1, mode)
  if mode ~= "loop" then return map(f, s, s.out) end
  return function(...)
    local args, list = {...}, {}
    local axes = in_axes_of(s, args)
    for k = 1, s.size do
      local own = {}
      for i, x in ipairs(args) do own[i] = axes[i] and slice(x, axes[i], k) or x end
      list[k] = f(table.unpack(own))
    end
    local y = mlax.stack(list, 1)
    return y:moveaxis(1, clamp(s.out, y.ndim))
  end
end

local function is_outermost(case, n)
  for k = n + 1, #case.tower do if case.tower[k].style then return false end end
  return true
end

local function grad_as(style, f, args, i)
  if style == "grad" then return mlax.grad(function(...) return weighted(f(...)) end, {argnums = i})(table.unpack(args)) end
  if style == "value_and_grad" then
    local _, g = mlax.value_and_grad(function(...) return weighted(f(...)) end, {argnums = {i}})(table.unpack(args))
    return g[1]
  end
  if style == "vjp" then
    local y, pullback = mlax.vjp(f, table.unpack(args))
    return (select(i, pullback(fixed(y.shape, 1.7))))
  end
  local J = mlax.jacrev(f, {argnums = i})(table.unpack(args))
  local x = args[i]
  local rows = J:reshape{-1, x.size}
  local shape = table.move(J.shape, 1, J.ndim - x.ndim, 1, {})
  return fixed(shape, 1.7):flatten():matmul(rows):reshape(x.shape)
end

function build.grad(case, n, mode, s)
  local outermost = mode == "difference" and is_outermost(case, n)
  local f = make(case, n - 1, outermost and "plain" or mode)
  return function(...)
    local args, i = {...}, s.arg
    local x = args[i]
    if mode ~= "loop" and not outermost then return grad_as(s.style, f, args, i) end
    local list = {}
    for k, t in ipairs(basis(x)) do
      if outermost then list[k] = difference(function(...) return weighted(f(...)) end, args, i, t)
      else list[k] = weighted(select(2, mlax.jvp(f, args, only(args, i, t)))) end
    end
    return mlax.stack(list, 1):reshape(x.shape)
  end
end

local function jvp_as(style, f, args, i)
  local t = fixed(args[i].shape, 0.9)
  if style == "jvp" then return (select(2, mlax.jvp(f, args, only(args, i, t)))) end
  if style == "linearize" then
    local _, push = mlax.linearize(function(x) return f(table.unpack(with(args, i, x))) end, args[i])
    return push(t)
  end
  local J = mlax.jacfwd(f, {argnums = i})(table.unpack(args))
  local shape = table.move(J.shape, 1, J.ndim - t.ndim, 1, {})
  return J:reshape{-1, t.size}:matmul(t:flatten()):reshape(shape)
end

function build.jvp(case, n, mode, s)
  local outermost = mode == "difference" and is_outermost(case, n)
  local f = make(case, n - 1, outermost and "plain" or mode)
  return function(...)
    local args, i = {...}, s.arg
    local t = fixed(args[i].shape, 0.9)
    if outermost then return difference(f, args, i, t) end
    if mode ~= "loop" then return jvp_as(s.style, f, args, i) end
    local y, pullback = mlax.vjp(function(x) return f(table.unpack(with(args, i, x))) end, args[i])
    local list = {}
    for k, u in ipairs(basis(y)) do list[k] = (pullback(u) * t):sum() end
    return mlax.stack(list, 1):reshape(y.shape)
  end
end

-- -- checking -------------------------------------------------------------------------------------------------------------

-- Whole inputs: each vmap, from the inside out, stacks more of them.
local function inputs_of(case)
  local random, arrays = tensor.random(case.seed), {}
  for i, shape in ipairs(case.inputs) do
    shape = table.move(shape, 1, #shape, 1, {})
    for _, s in ipairs(case.tower) do
      if s.kind == "vmap" and s.axes[i] then table.insert(shape, clamp(s.axes[i], #shape + 1), s.size) end
    end
    arrays[i] = make_array(random, shape)
  end
  return arrays
end

-- How far y is from x, relative to the greatest element; nil where shapes differ.
local function distance(x, y)
  if table.concat(x.shape, ",") ~= table.concat(y.shape, ",") or x.dtype ~= y.dtype then return nil end
  local scale = math.max(1, mlax.abs(x):max():item())
  return mlax.abs(x - y):max():item() / scale
end

local tolerances = {plain = 1e-10, loop = 1e-8, swap = 1e-8, difference = 1e-4}

local function run(case, mode)
  local ok, y = xpcall(function() return make(case, #case.tower, mode)(table.unpack(inputs_of(case))) end, mlax.traceback)
  return ok, y
end

local function has_derivative(case)
  for _, s in ipairs(case.tower) do if s.style then return true end end
  return false
end

-- About how often the loops run the program: mapped examples, elements of the arguments of grad, and some results of each jvp.
local function loops(case)
  local n, arrays = 1, {}
  for i, shape in ipairs(case.inputs) do arrays[i] = tensor.size(shape) end
  for _, s in ipairs(case.tower) do
    if s.kind == "vmap" then
      n = n * s.size
      for i in ipairs(arrays) do if s.axes[i] then arrays[i] = arrays[i] * s.size end end
    elseif s.style then
      n = n * (s.kind == "grad" and arrays[s.arg] or 12)
    end
  end
  return n
end

--- nil where all ways agree; "skip" where the result is no finite number; else what differs.
function programs.check(case)
  local ok, plain = run(case, "plain")
  if not ok then return "plain: " .. tostring(plain) end
  local size = mlax.abs(plain):max():item()
  if size ~= size or size > 1e8 then return "skip" end
  for _, mode in ipairs{"native", "loop", "swap", "difference"} do
    if (mode ~= "difference" or has_derivative(case)) and (mode ~= "loop" or loops(case) <= 1000) then
      local good, y = run(case, mode)
      if not good then return mode .. ": " .. tostring(y) end
      local far = distance(plain, y)
      if not far then return ("%s: %s, want %s"):format(mode, tostring(y), tostring(plain)) end
      if far ~= far or far > (tolerances[mode] or 1e-10) then
        return ("%s differs by %.3g from plain:\n%s\n%s"):format(mode, far, tostring(y), tostring(plain))
      end
    end
  end
end

-- -- shrinking ------------------------------------------------------------------------------------------------------------

local function copy(case)
  local r = {inputs = case.inputs, seed = case.seed, nodes = {}, outputs = table.move(case.outputs, 1, #case.outputs, 1, {}),
    tower = table.move(case.tower, 1, #case.tower, 1, {})}
  for k, node in ipairs(case.nodes) do
    r.nodes[k] = {code = node.code, shape = node.shape, args = table.move(node.args, 1, #node.args, 1, {})}
  end
  return r
end

local function shape_of(case, v)
  return table.concat(v <= #case.inputs and case.inputs[v] or case.nodes[v - #case.inputs].shape, ",")
end

-- Everywhere `to` in the place of the value `from`.
local function substitute(case, from, to)
  local r = copy(case)
  for _, node in ipairs(r.nodes) do
    for i, a in ipairs(node.args) do if a == from then node.args[i] = to end end
  end
  for i, v in ipairs(r.outputs) do if v == from then r.outputs[i] = to end end
  return r
end

-- All cases that are smaller by one step.
local function smaller(case)
  local list, used, n = {}, needed(case), #case.inputs
  for i = 1, #case.tower do
    local r = copy(case)
    table.remove(r.tower, i)
    list[#list + 1] = r
  end
  for i = 1, #case.outputs do
    if #case.outputs > 1 then
      local r = copy(case)
      table.remove(r.outputs, i)
      list[#list + 1] = r
    end
  end
  for k = #case.nodes, 1, -1 do
    if used[n + k] then
      for i, v in ipairs(case.outputs) do -- an operand for the output
        if v == n + k then
          for _, a in ipairs(case.nodes[k].args) do
            local r = copy(case)
            r.outputs[i] = a
            list[#list + 1] = r
          end
        end
      end
      for v = 1, n + k - 1 do
        if shape_of(case, v) == shape_of(case, n + k) then list[#list + 1] = substitute(case, n + k, v) end
      end
    end
  end
  return list
end

--- The smallest case, step by step, for which fails(case) is still true.
function programs.shrink(case, fails)
  local again = true
  while again do
    again = false
    for _, candidate in ipairs(smaller(case)) do
      if fails(candidate) then
        case, again = candidate, true
        break
      end
    end
  end
  return case
end

--- The number of nodes that count.
function programs.size(case)
  local n = 0
  for v in pairs(needed(case)) do if v > #case.inputs then n = n + 1 end end
  return n
end

--- A case as text that can be run: inputs, tower, function.
function programs.describe(case)
  local shapes_of = {}
  for i, s in ipairs(case.inputs) do shapes_of[i] = ("%s {%s}"):format(name_of(i), table.concat(s, ", ")) end
  return ("%s of\n%s\ninputs: %s"):format(programs.tower_text(case), programs.text(case), table.concat(shapes_of, ", "))
end

return programs
