--- Towers of transformations over a function of arrays that gives one array: random ones, and the ways to compute them.
--
-- A tower is a list of storeys, innermost first. Each takes such a function to another one:
--     jit, checkpoint, custom_jvp, custom_vjp (whose rules are the function's own derivatives)      the same function
--     grad {arg}, jvp {arg}     of a weighted sum by one argument; along a fixed direction of one argument; `style` says by which function
--     vmap {axes, out, size, name}      maps the arguments that have an axis
--     collect {op, name}                combines the results of the examples of the vmap of that name, which stands above it
--     scan {axes, size, reverse}        maps along axis 1, with a carry that each step adds to its result
--     cond                              one of two functions, by the first argument
--     loop {kind}                       y <- 0.5 y + f(...), once or twice by the first argument (while) or twice (fori)
local mlax = require "mlax"
local tensor = require "spec.support.tensor"

local towers = {}

local function pick(random, list) return list[1 + math.floor(random() * #list)] end
local function integer(random, low, high) return low + math.floor(random() * (high - low + 1)) end

-- -- text -----------------------------------------------------------------------------------------------------------------

local function axes_text(axes)
  local parts = {}
  for i, a in ipairs(axes) do parts[i] = tostring(a) end
  return table.concat(parts, ", ")
end

local function storey_text(s)
  if s.kind == "vmap" then return ("vmap{in_axes = {%s}, out = %d%s}"):format(axes_text(s.axes), s.out, s.name and ", " .. s.name or "") end
  if s.kind == "scan" then return ("scan{xs = {%s}%s}"):format(axes_text(s.axes), s.reverse and ", reverse" or "") end
  if s.kind == "collect" then return ("%s over %s"):format(s.op, s.name) end
  if s.kind == "loop" then return s.loop end
  return s.style and ("%s by v%d (%s)"):format(s.kind, s.arg, s.style) or s.kind
end

--- The tower, outermost first.
function towers.text(tower)
  local parts = {}
  for i = #tower, 1, -1 do parts[#parts + 1] = storey_text(tower[i]) end
  return #parts == 0 and "no transformation" or table.concat(parts, " of ")
end

-- -- random towers --------------------------------------------------------------------------------------------------------

local styles = {grad = {"grad", "value_and_grad", "vjp", "jacrev"}, jvp = {"jvp", "linearize", "jacfwd"}}
local collectives = {"psum", "pmean", "pmax", "all_gather", "ppermute", "axis_index"}
local random_storey = {}

local function mapped(random, n, top)
  local axes = {}
  for i = 1, n do axes[i] = random() < 0.7 and integer(random, 1, top) end
  axes[integer(random, 1, n)] = integer(random, 1, top)
  return axes
end

function random_storey.vmap(random, n) return {axes = mapped(random, n, 2), out = integer(random, 1, 2), size = integer(random, 2, 3)} end
function random_storey.scan(random, n) return {axes = mapped(random, n, 1), size = integer(random, 2, 3), reverse = random() < 0.3} end
function random_storey.grad(random, n) return {arg = integer(random, 1, n), style = pick(random, styles.grad)} end
function random_storey.jvp(random, n) return {arg = integer(random, 1, n), style = pick(random, styles.jvp)} end
function random_storey.loop(random) return {loop = pick(random, {"while", "fori"})} end
function random_storey.collect(random) return {op = pick(random, collectives)} end

local kinds = {"jit", "jit", "vmap", "vmap", "vmap", "grad", "grad", "grad", "jvp", "jvp", "scan", "cond", "checkpoint", "custom_jvp",
  "custom_vjp", "loop", "collect"}

-- What may stand above what has been chosen; the last storeys take away directions.
local function fits(s, state)
  if s.kind == "grad" then return state.reverse and state.derivatives < state.most end
  if s.kind == "jvp" then return state.forward and state.derivatives < state.most end
  if s.kind == "custom_vjp" then return state.reverse end
  if s.kind == "custom_jvp" then return state.forward end
  -- What not every example does collects nothing: a branch that some take, a loop that some have left.
  if s.kind == "loop" or s.kind == "cond" or s.kind == "collect" then return not state.name end
  return true
end

local function note(s, state)
  if s.style then state.derivatives = state.derivatives + 1 end
  if s.kind == "custom_vjp" then state.forward = false end
  if s.loop == "while" then state.reverse = false end
  if s.kind == "collect" then
    state.names = state.names + 1
    s.name = "i" .. state.names
    state.name = s.name
  elseif s.kind == "vmap" then
    s.name, state.name = state.name, nil
  end
end

--- A tower over a function of n arguments, which can be differentiated in these directions: up to five storeys, of which two or, seldom,
-- three are derivatives.
function towers.random(random, n, forward, reverse)
  local state = {forward = forward, reverse = reverse, derivatives = 0, most = random() < 0.1 and 3 or 2, names = 0}
  local tower = {}
  local function put(kind)
    local s = random_storey[kind] and random_storey[kind](random, n) or {}
    s.kind = kind
    if not fits(s, state) then return end
    note(s, state)
    tower[#tower + 1] = s
  end
  for _ = 1, integer(random, 1, 5) do put(pick(random, kinds)) end
  if state.name then put("vmap") end
  return tower
end

-- -- pieces ---------------------------------------------------------------------------------------------------------------

local fixed_arrays = {}

-- Fixed numbers in a shape: weights of a sum, directions.
local function fixed(shape, rate)
  local key = rate .. ":" .. table.concat(shape, ",")
  if not fixed_arrays[key] then
    fixed_arrays[key] = tensor.array(tensor.build(shape, function(at)
      local k = 1
      for _, p in ipairs(at) do k = 3 * k + p end
      return math.cos(rate * k)
    end), "float64")
  end
  return fixed_arrays[key]
end
local function weighted(y) return (y * fixed(y.shape, 1.7)):sum() end

--- The axis asked for, or the last there is: a shrunk tower keeps its numbers.
function towers.clamp(axis, ndim) return axis and math.min(axis, ndim) end
local clamp = towers.clamp

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
  for i, x in ipairs(args) do axes[i] = clamp(s.axes[i], x.ndim) or false end
  return axes
end

-- The arguments of example k.
local function example(args, axes, k)
  local own = {}
  for i, x in ipairs(args) do own[i] = axes[i] and slice(x, axes[i], k) or x end
  return own
end

local function only(args, i, t)
  local r = {}
  for k = 1, #args do r[k] = k == i and t or false end
  return r
end

-- By differences: (f(x + h t) - f(x - h t)) / 2h; NaN where the values are so large that nothing is left of their difference.
local function difference(f, args, i, t, step)
  local above = f(table.unpack(with(args, i, args[i] + t * step)))
  local slope = (above - f(table.unpack(with(args, i, args[i] - t * step)))) / (2 * step)
  return mlax.where(mlax.abs(above):lt(1e5), slope, 0 / 0)
end

-- -- ways to compute ------------------------------------------------------------------------------------------------------

-- way.mode: "native" as it stands; "plain" without jit, checkpoint, custom rules and control flow; "loop" plain, with loops for vmap,
-- forward mode for grad and reverse mode for jvp; "swap" plain, with derivatives outside of vmap where that is the same; "difference"
-- plain, with differences (of way.step) for the outermost derivative.
local build = {}

local function make(tower, f, n, way)
  local s = tower[n]
  if not s then return f end
  return build[s.kind](tower, f, n, way, s)
end

--- The function that a tower makes of f, computed in one way.
function towers.make(tower, f, way) return make(tower, f, #tower, way) end

local function native(transform)
  return function(tower, f, n, way)
    local g = make(tower, f, n - 1, way)
    return way.mode == "native" and transform(g) or g
  end
end
build.jit, build.checkpoint = native(mlax.jit), native(mlax.checkpoint)
build.custom_jvp = native(function(g) return mlax.custom_jvp(g, function(x, t) return mlax.jvp(g, x, t) end) end)
build.custom_vjp = native(function(g)
  return mlax.custom_vjp(g, function(...) return g(...), {...} end,
    function(x, ct) return select(2, mlax.vjp(g, table.unpack(x)))(ct) end)
end)

local function decision(x) return x:sum():gt(0.05) end

function build.cond(tower, f, n, way)
  local g = make(tower, f, n - 1, way)
  local function other(...) return g(...):sin() end
  if way.mode == "native" then return function(...) return mlax.cond(decision((...)), g, other, ...) end end
  return function(...) return mlax.where(decision((...)), g(...), other(...)) end
end

function build.loop(tower, f, n, way, s)
  local g = make(tower, f, n - 1, way)
  return function(...)
    local args, y = {...}, g(...)
    local function turn(v) return v * 0.5 + g(table.unpack(args)) end
    local many = decision(args[1])
    if way.mode ~= "native" then
      if s.loop == "fori" then return turn(turn(y)) end
      return mlax.where(many, turn(turn(y)), turn(y))
    end
    if s.loop == "fori" then return mlax.fori_loop(1, 2, function(_, v) return turn(v) end, y) end
    local last = mlax.where(many, 2, 1)
    return mlax.while_loop(function(c) return c.k:lt(last) end, function(c) return {k = c.k + 1, y = turn(c.y)} end, {k = 0, y = y}).y
  end
end

-- One step of a scan: the carry is added to the result, which moves it.
local function carried(c, y)
  y = y + c * 0.3
  return (weighted(y) * 0.5):tanh(), y
end

function build.scan(tower, f, n, way, s)
  local g = make(tower, f, n - 1, way)
  return function(...)
    local args, xs, rows = {...}, {}, {}
    for i, x in ipairs(args) do xs[i] = s.axes[i] and x end
    local c = mlax.zeros({}, "float64")
    local function call(own)
      local all = {}
      for i, x in ipairs(args) do all[i] = own[i] or x end
      return g(table.unpack(all))
    end
    if way.mode == "native" then
      return (select(2, mlax.scan(function(carry, own) return carried(carry, call(own)) end, c, xs, {reverse = s.reverse})))
    end
    for k = 1, s.size do
      local at = s.reverse and s.size + 1 - k or k
      c, rows[at] = carried(c, call(example(args, in_axes_of(s, args), at)))
    end
    return mlax.stack(rows, 1)
  end
end

-- -- mapping --------------------------------------------------------------------------------------------------------------

-- What each storey `collect` does to the result of example `index` of `rows` (all results along axis 1).
local combine = {}
function combine.psum(y, rows) return y + rows:sin():sum(1) * 0.3 end
function combine.pmean(y, rows) return y - rows:mean(1) end
function combine.pmax(y, rows) return y * 0.3 + rows:max(1) end
function combine.all_gather(y, rows) return y + rows:cos():prod(1) end
function combine.ppermute(y, rows, index) return index == 1 and y * rows[2] or y * 0 end
function combine.axis_index(y, _, index) return y * index end

local collect = {
  psum = function(y, name) return y + mlax.psum(y:sin(), name) * 0.3 end,
  pmean = function(y, name) return y - mlax.pmean(y, name) end,
  pmax = function(y, name) return y * 0.3 + mlax.pmax(y, {name}) end,
  all_gather = function(y, name) return y + mlax.all_gather(y, name):cos():prod(1) end,
  ppermute = function(y, name) return y * mlax.ppermute(y, name, {{2, 1}}) end,
  axis_index = function(y, name) return y * mlax.axis_index(name) end,
}

-- The vmap above storey n that has its name.
local function owner(tower, n)
  for k = n + 1, #tower do if tower[k].kind == "vmap" and tower[k].name == tower[n].name then return k end end
end

-- A shrunk tower may have lost the vmap.
function build.collect(tower, f, n, way, s)
  local g = make(tower, f, n - 1, way)
  if not owner(tower, n) or way.separate == n then return g end
  return function(...) return collect[s.op](g(...), s.name) end
end

-- The storey `collect` below a vmap; whether only storeys lie between that leave the function as it is.
local function collected(tower, n)
  local plain = true
  for k = n - 1, 1, -1 do
    local s = tower[k]
    if s.kind == "collect" and owner(tower, k) == n then return k, plain end
    plain = plain and (s.kind == "jit" or s.kind == "checkpoint" or s.kind:find("custom", 1, true) ~= nil)
  end
end

local function map(f, s, out)
  return function(...)
    local y = mlax.vmap(f, {in_axes = in_axes_of(s, {...}), axis_name = s.name})(...)
    return y:moveaxis(1, clamp(out, y.ndim))
  end
end

-- The derivative right below, if only jits lie between; its number.
local function derivative_below(tower, n)
  repeat n = n - 1 until not tower[n] or tower[n].kind ~= "jit"
  return tower[n] and tower[n].style and n
end

-- vmap of grad is grad of vmap, if the argument is mapped; vmap of jvp is jvp of vmap.
local function swapped(tower, f, s, below, way)
  local d = tower[below]
  if d.kind == "grad" and not s.axes[d.arg] then return nil end
  local whole = map(make(tower, f, below - 1, way), s, 1)
  return function(...)
    local args = {...}
    local x, axis = args[d.arg], in_axes_of(s, args)[d.arg]
    if d.kind == "grad" then
      local g = mlax.grad(function(v)
        local y = whole(table.unpack(with(args, d.arg, v)))
        return (y * fixed(slice(y, 1, 1).shape, 1.7)):sum()
      end)(x)
      return g:moveaxis(axis, clamp(s.out, g.ndim))
    end
    local t = axis and mlax.broadcast_to(fixed(slice(x, axis, 1).shape, 0.9):expand_dims(axis), x.shape) or fixed(x.shape, 0.9)
    local _, dy = mlax.jvp(whole, args, only(args, d.arg, t))
    return dy:moveaxis(1, clamp(s.out, dy.ndim))
  end
end

-- Example by example; what the examples share is done afterwards.
local function each(tower, f, n, way, s)
  local below = collected(tower, n)
  local g = make(tower, f, n - 1, below and setmetatable({separate = below}, {__index = way}) or way)
  return function(...)
    local args, list = {...}, {}
    local axes = in_axes_of(s, args)
    for k = 1, s.size do list[k] = g(table.unpack(example(args, axes, k))) end
    local rows = mlax.stack(list, 1)
    for k = 1, below and s.size or 0 do list[k] = combine[tower[below].op](rows[k], rows, k) end
    local y = below and mlax.stack(list, 1) or rows
    return y:moveaxis(1, clamp(s.out, y.ndim))
  end
end

function build.vmap(tower, f, n, way, s)
  if way.mode == "loop" then return each(tower, f, n, way, s) end
  local below = way.mode == "swap" and derivative_below(tower, n)
  local outside = below and swapped(tower, f, s, below, way)
  return outside or map(make(tower, f, n - 1, way), s, s.out)
end

-- -- derivatives ----------------------------------------------------------------------------------------------------------

local function is_outermost(tower, n)
  for k = n + 1, #tower do if tower[k].style then return false end end
  return true
end

local function plainly(way) return setmetatable({mode = "plain"}, {__index = way}) end

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

function build.grad(tower, f, n, way, s)
  local outermost = way.mode == "difference" and is_outermost(tower, n)
  local g = make(tower, f, n - 1, outermost and plainly(way) or way)
  return function(...)
    local args, i = {...}, s.arg
    local x = args[i]
    if way.mode ~= "loop" and not outermost then return grad_as(s.style, g, args, i) end
    local list = {}
    for k, t in ipairs(basis(x)) do
      if outermost then list[k] = difference(function(...) return weighted(g(...)) end, args, i, t, way.step)
      else list[k] = weighted(select(2, mlax.jvp(g, args, only(args, i, t)))) end
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

function build.jvp(tower, f, n, way, s)
  local outermost = way.mode == "difference" and is_outermost(tower, n)
  local g = make(tower, f, n - 1, outermost and plainly(way) or way)
  return function(...)
    local args, i = {...}, s.arg
    local t = fixed(args[i].shape, 0.9)
    if outermost then return difference(g, args, i, t, way.step) end
    if way.mode ~= "loop" then return jvp_as(s.style, g, args, i) end
    local y, pullback = mlax.vjp(function(x) return g(table.unpack(with(args, i, x))) end, args[i])
    local list = {}
    for k, u in ipairs(basis(y)) do list[k] = (pullback(u) * t):sum() end
    return mlax.stack(list, 1):reshape(y.shape)
  end
end

-- -- which ways there are -------------------------------------------------------------------------------------------------

local function has(tower, field, value)
  for _, s in ipairs(tower) do if s[field] and (value == nil or s[field] == value) then return true end end
  return false
end

-- Derivatives by what one example alone is given differ from those by all, where examples are combined above of them.
local function combines_above(tower, n)
  for k = n + 1, #tower do
    local below = tower[k].kind == "vmap" and collected(tower, k)
    if below and below < n then return true end
  end
  return false
end

local function may_loop(tower, forward, reverse)
  for n, s in ipairs(tower) do
    if s.kind == "grad" and not forward or s.kind == "jvp" and not reverse then return false end
    if s.kind == "vmap" then
      local below, plain = collected(tower, n)
      if below and not plain then return false end
    end
  end
  return true
end

local function may_difference(tower)
  local outermost
  for n, s in ipairs(tower) do if s.style then outermost = n end end
  return outermost and not (tower[outermost].kind == "grad" and combines_above(tower, outermost))
end

local function may_swap(tower)
  for n, s in ipairs(tower) do if s.kind == "vmap" and derivative_below(tower, n) then return true end end
  return false
end

--- The modes that mean the same as "plain", of a function that can be differentiated in these directions.
function towers.modes(tower, forward, reverse)
  local modes = {"native"}
  if may_loop(tower, forward, reverse) and (has(tower, "kind", "vmap") or has(tower, "style")) then modes[#modes + 1] = "loop" end
  if may_swap(tower) then modes[#modes + 1] = "swap" end
  if may_difference(tower) then modes[#modes + 1] = "difference" end
  return modes
end

--- The inputs' shapes once each storey has stacked them.
function towers.input_shape(tower, i, shape)
  shape = table.move(shape, 1, #shape, 1, {})
  for _, s in ipairs(tower) do
    if s.axes and s.axes[i] then table.insert(shape, clamp(s.axes[i], #shape + 1), s.size) end
  end
  return shape
end

--- About how often a mode runs the function: mapped examples, elements of the arguments of grad, and some results of each jvp.
function towers.runs(tower, mode, shapes)
  local n, sizes, first = 1, {}, false
  if mode == "native" or mode == "plain" or mode == "swap" then return 1 end
  for i, shape in ipairs(shapes) do sizes[i] = tensor.size(shape) end
  for _, s in ipairs(tower) do
    local derivative = s.kind == "grad" and sizes[s.arg] or s.kind == "jvp" and 12
    if s.axes then
      if mode == "loop" then n = n * s.size end
      for i in ipairs(sizes) do if s.axes[i] then sizes[i] = sizes[i] * s.size end end
    elseif derivative then
      if mode == "loop" then n = n * derivative else first = derivative end
    end
  end
  return first or n
end

return towers
