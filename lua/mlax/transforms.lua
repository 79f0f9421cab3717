--- Transformations: functions that take a function and give a function.
-- The engine does the work (core.grad, core.vmap, core.jit, ...); this page checks options, gives the same function for the same
-- arguments (so that `jit(grad(f))` in a loop finds its trace), and composes jacobians.
-- @module mlax.transforms

local core = require "mlax.core"

local tree = core.tree

local M = {}

-- f -> {key of the transformation -> the transformed function}; entries die with f.
local cache = setmetatable({}, {__mode = "k"})

local function cached(f, key, make)
  local of_f = cache[f]
  if not of_f then
    of_f = {}
    cache[f] = of_f
  end
  local g = of_f[key]
  if not g then
    g = make()
    of_f[key] = g
  end
  return g
end

local function type_name(v)
  return core.mlax.is_array(v) and "an array" or core.mlax.is_module(v) and "a module" or type(v)
end

local function is_callable(f)
  if type(f) == "function" then return true end
  local meta = getmetatable(f)
  return type(meta) == "table" and meta.__call ~= nil or core.mlax.is_module(f) or core.is_jit(f)
end

local function check_function(op, f)
  if not is_callable(f) then core.fail(op, "a function or module is needed (got %s)", type_name(f)) end
end

-- Whoever writes grad(f, x) means grad(f)(x).
local function check_options(op, options, known)
  if core.mlax.is_array(options) or core.mlax.is_module(options) or math.type(options) then
    core.fail(op, "the options are no table (got %s): arguments go to the result, %s(f)(x)", core.type_name(options), op)
  end
  core.check_options(op, options, known)
end

-- Text that is equal for equal options: numbers, booleans, strings and lists or dicts of them; other objects count by identity.
local function key_of(v)
  if type(v) == "string" then return ("%q"):format(v) end
  if type(v) ~= "table" then return type(v) == "userdata" and ("%p"):format(v) or tostring(v) end
  local parts = {}
  for k, item in pairs(v) do parts[#parts + 1] = key_of(k) .. "=" .. key_of(item) end
  table.sort(parts)
  return "{" .. table.concat(parts, ",") .. "}"
end

-- An option that the caller may change later without changing the transformed function.
local function copy_of(v)
  if type(v) ~= "table" or getmetatable(v) then return v end
  local r = {}
  for k, item in pairs(v) do r[k] = copy_of(item) end
  return r
end

local function check_argnums(op, argnums)
  if argnums == nil then return 1 end
  if type(argnums) ~= "table" then
    if math.type(argnums) == nil or argnums ~= math.floor(argnums) then
      core.fail(op, "argnums must be an integer or a list of them (got %s)", type_name(argnums))
    end
    return math.tointeger(argnums)
  end
  local list = {}
  for i = 1, #argnums do
    list[i] = math.type(argnums[i]) and math.tointeger(argnums[i])
    if not list[i] then core.fail(op, "argnums must be an integer or a list of them (got a list with %s)", type_name(argnums[i])) end
  end
  if #list == 0 then core.fail(op, "argnums is an empty list (need at least one argument)") end
  return list
end

--- The gradient of a scalar function.
-- @param f a function whose first result is a float scalar; further results are passed on
-- @param[opt] options `argnums`: a number (from 1), or a list, which gives a list of gradients
-- @return a function of the same arguments -> grads, aux...
-- @usage local df = mlax.grad(function(x) return (x * x):sum() end)
-- assert(df(mlax.array{1, 2, 3}):totable()[2] == 4)
function M.grad(f, options)
  check_function("grad", f)
  check_options("grad", options, {"argnums"})
  local argnums = check_argnums("grad", options and options.argnums)
  return cached(f, "grad" .. key_of(argnums), function()
    return function(...) return core.grad("grad", f, argnums, false, ...) end
  end)
end

--- Value and gradient at once.
-- @param f as for `grad`
-- @param[opt] options as for `grad`
-- @return a function -> value, grads, aux...
-- @usage local value, g = mlax.value_and_grad(function(x) return x:sum() end)(mlax.ones{3})
-- assert(value:item() == 3)
function M.value_and_grad(f, options)
  check_function("value_and_grad", f)
  check_options("value_and_grad", options, {"argnums"})
  local argnums = check_argnums("value_and_grad", options and options.argnums)
  return cached(f, "value_and_grad" .. key_of(argnums), function()
    return function(...) return core.grad("value_and_grad", f, argnums, true, ...) end
  end)
end

--- Runs f and gives what its result is and how cotangents come back.
-- @param f a function of one result (a tree)
-- @param ... its arguments, float arrays or numbers
-- @return the result, and `pullback(ct)` -> one cotangent an argument; of a Module, which is a hidden argument, its new state third
-- @usage local y, pullback = mlax.vjp(mlax.sin, mlax.zeros{})
-- assert(pullback(mlax.ones{}):item() == 1)
function M.vjp(f, ...)
  check_function("vjp", f)
  return core.vjp(f, ...)
end

--- Pushes tangents forward.
-- @param f a function of one result
-- @param primals list of arguments
-- @param tangents list of tangents, `false`: zero
-- @return result, its tangent; of a Module its new state third
-- @usage local y, dy = mlax.jvp(mlax.sin, {mlax.zeros{}}, {mlax.ones{}})
-- assert(dy:item() == 1)
function M.jvp(f, primals, tangents)
  check_function("jvp", f)
  return core.jvp(f, primals, tangents)
end

--- Runs f once and gives its derivative there as a function of tangents.
-- @param f a function of one result
-- @param ... its arguments
-- @return result, jvp_fn; of a Module its new state third
-- @usage local y, dsin = mlax.linearize(mlax.sin, mlax.zeros{})
-- assert(dsin(mlax.full({}, 2)):item() == 2)
function M.linearize(f, ...)
  check_function("linearize", f)
  return core.linearize(f, ...)
end

--- Maps f over an axis of its arguments, in one call on whole arrays.
-- @param f a function of one example
-- @param[opt] options `in_axes`, `out_axes` (a number for all, or a list with an axis, false or a tree of these each), `axis_name`,
-- `axis_size`
-- @return a function of whole arrays
-- @usage local dots = mlax.vmap(function(x, y) return x:dot(y) end)
-- assert(dots(mlax.ones{2, 3}, mlax.ones{2, 3}).shape[1] == 2)
function M.vmap(f, options)
  check_function("vmap", f)
  check_options("vmap", options, {"in_axes", "out_axes", "axis_name", "axis_size"})
  local o = options or {}
  local in_axes, out_axes = o.in_axes, o.out_axes
  if in_axes == nil then in_axes = 1 end
  if out_axes == nil then out_axes = 1 end
  local size, name = o.axis_size, o.axis_name
  if name ~= nil and type(name) ~= "string" then core.fail("vmap", "axis_name must be a string (got %s)", type_name(name)) end
  local key = ("vmap%s;%s;%s;%s"):format(key_of(in_axes), key_of(out_axes), tostring(size), tostring(name))
  return cached(f, key, function()
    local from, to = copy_of(in_axes), copy_of(out_axes)
    return function(...) return core.vmap(f, from, to, size, name, ...) end
  end)
end

-- A number or a list of them, each from 1, as a list.
local function argument_list(op, what, given)
  local list = {}
  for i, v in ipairs(type(given) == "table" and given or {given}) do
    list[i] = math.type(v) and math.tointeger(v)
    if not list[i] then core.fail(op, "%s must be an integer or a list of them (got %s)", what, core.type_name(v)) end
    if list[i] < 1 then core.fail(op, "%s %d: arguments count from 1", what, list[i]) end
  end
  return list
end

--- Compiles f: it is traced once for each structure, shapes and dtypes of its arguments, and then runs from a plan.
-- @param f a function or module
--
-- A donated argument's arrays are gone after the call, as if freed: results take their memory where nobody else holds it, and any later
-- use raises, naming the line of the call. Views that were made of it before stay. Under another transformation nothing is donated.
-- @param[opt] options `static_argnums`, `donate_argnums` (a number or list each), `max_traces` (64)
-- @return a callable object with the methods traces, explain, program, cost, clear
-- @usage local f = mlax.jit(function(x) return x * 2 + 1 end)
-- f(mlax.ones{3}); f(mlax.zeros{3})
-- assert(f:traces() == 1)
function M.jit(f, options)
  check_function("jit", f)
  check_options("jit", options, {"static_argnums", "donate_argnums", "max_traces"})
  local o = options or {}
  local statics = argument_list("jit", "static_argnums", o.static_argnums)
  local donated = argument_list("jit", "donate_argnums", o.donate_argnums)
  for _, d in ipairs(donated) do
    for _, s in ipairs(statics) do
      if s == d then core.fail("jit", "argument %d cannot be static and donated", d) end
    end
  end
  local max = o.max_traces or 64
  return cached(f, ("jit%s;%s;%s"):format(key_of(statics), key_of(donated), tostring(max)), function()
    return core.jit(f, statics, donated, max)
  end)
end

--- The traced program of f, as an object that prints.
-- @param f a function
-- @usage print(mlax.program(function(x) return x + 1 end)(mlax.ones{3}))
function M.program(f)
  check_function("program", f)
  return function(...) return core.program(f, ...) end
end

--- Results of f without computing: arrays that have shape and dtype alone.
-- @param f a function
-- @usage local y = mlax.eval_shape(function(x) return x:matmul(x.T) end)(mlax.ones{3, 2})
-- assert(y.shape[2] == 3)
function M.eval_shape(f)
  check_function("eval_shape", f)
  return function(...) return core.eval_shape(f, ...) end
end

--- The same values, which differentiation takes for constants.
-- @param t an array or a tree of them
-- @usage local g = mlax.grad(function(x) return x * mlax.stop_gradient(x) end)(mlax.full({}, 3))
-- assert(g:item() == 3)
function M.stop_gradient(t)
  if core.mlax.is_array(t) then return core.stop_gradient(t) end
  return tree.map(function(leaf) return core.mlax.is_array(leaf) and core.stop_gradient(leaf) or leaf end, t)
end

-- Whether the last of n arguments is the options table of program, and what it says.
local function asks_optimized(n, ...)
  local last = n > 0 and (select(n, ...))
  if type(last) ~= "table" or getmetatable(last) or type(last.optimized) ~= "boolean" then return false, false end
  return next(last) == "optimized" and next(last, "optimized") == nil, last.optimized
end

function core.jit_methods:program(...)
  local f, n = core.jit_function(self), select("#", ...)
  local is_option, optimized = asks_optimized(n, ...)
  if not is_option then return core.program(f, ...) end
  return (optimized and core.optimized or core.program)(f, table.unpack({...}, 1, n - 1))
end
function core.jit_methods:cost(...) return core.cost(core.jit_function(self), ...) end

-- -- jacobians -----------------------------------------------------------------------------------------------------------

local function concat_lists(a, b)
  local r = table.move(a, 1, #a, 1, {})
  return table.move(b, 1, #b, #r + 1, r)
end

local function as_array(x)
  if type(x) == "number" then return core.mlax.full({}, x) end
  return x
end

local function basis_of(x)
  return core.mlax.eye(x.size, x.dtype):reshape(concat_lists({x.size}, x.shape))
end

-- Leaves like those of `leaves`, the k-th replaced.
local function with_leaf(leaves, k, value)
  local r = {}
  for i, leaf in ipairs(leaves) do r[i] = i == k and value or core.mlax.zeros_like(as_array(leaf)) end
  return r
end

local function replace_args(args, argnums, values)
  local r = table.move(args, 1, args.n, 1, {n = args.n})
  for i, a in ipairs(argnums) do r[a] = values[i] end
  return r
end

local function check_float(op, arg, position)
  for _, at in ipairs(tree.leaves_with_path(arg)) do
    local path, leaf = at[1], at[2]
    if core.mlax.is_array(leaf) and not leaf.dtype:find("float", 1, true) then
      core.fail(op, "cannot differentiate by %s of dtype %s (need float arrays; use partition to split off the others)",
        path == "" and "argument " .. position or "'" .. path .. "'", leaf.dtype)
    end
  end
end

-- The leaves of a result, which must be float arrays.
local function float_leaves(op, result)
  for _, pair in ipairs(tree.leaves_with_path(result)) do
    local path, leaf = pair[1], pair[2]
    if not core.mlax.is_array(leaf) or not leaf.dtype:find("float", 1, true) then
      core.fail(op, "the result%s has no derivative (got %s, need float arrays)", path ~= "" and " at " .. path or "",
        core.mlax.is_array(leaf) and "an array of " .. leaf.dtype or core.type_name(leaf))
    end
  end
  return tree.flatten(result)
end

-- A Module is a hidden argument: it is called as a copy that belongs to the running transformation.
local function call(f, ...)
  if core.mlax.is_module(f) then f = tree.map(function(leaf) return leaf end, f) end
  return (f(...))
end

-- f of the chosen arguments alone, and these; negative argnums count from the end.
local function restrict(op, f, argnums, args)
  local list = type(argnums) == "table" and argnums or {argnums}
  local positions, chosen = {}, {}
  for i, a in ipairs(list) do
    local position = a < 0 and a + args.n + 1 or a
    if position < 1 or position > args.n then
      core.fail(op, "argnums %s names no argument (got %s arguments, which count from 1)", tostring(a), tostring(args.n))
    end
    check_float(op, args[position], position)
    positions[i], chosen[i] = position, args[position]
  end
  return function(values)
    local all = replace_args(args, positions, values)
    return call(f, table.unpack(all, 1, all.n))
  end, chosen
end

-- The result's tree, at each leaf the argument's tree (a list of them for a list of argnums).
local function assemble(out_leaves, out_def, arg_def, argnums, block)
  local rows = {}
  for i = 1, #out_leaves do
    local columns = {}
    for j = 1, arg_def.num_leaves do columns[j] = block(i, j) end
    local args = tree.unflatten(arg_def, columns)
    rows[i] = type(argnums) == "table" and args or args[1]
  end
  return tree.unflatten(out_def, rows)
end

--- The Jacobian by reverse mode: one pass a result element. Good for few results.
-- @param f a function of one result (a tree)
-- The results are float arrays. The new state of a Module is not given.
-- @param[opt] options `argnums`
-- @return a function -> the result's tree, then the argument's; arrays of shape result ++ argument
-- @usage local J = mlax.jacrev(mlax.sin)(mlax.zeros{3})
-- assert(J.shape[1] == 3 and J.shape[2] == 3)
function M.jacrev(f, options)
  check_function("jacrev", f)
  check_options("jacrev", options, {"argnums"})
  local argnums = check_argnums("jacrev", options and options.argnums)
  return cached(f, "jacrev" .. key_of(argnums), function()
    return function(...)
      local g, chosen = restrict("jacrev", f, argnums, table.pack(...))
      local out, pullback = core.vjp(g, chosen)
      local out_leaves, out_def = float_leaves("jacrev", out)
      local arg_leaves, arg_def = tree.flatten(chosen)
      local rows = {}
      for i, y in ipairs(out_leaves) do
        rows[i] = M.vmap(function(ct)
          return tree.leaves(pullback(tree.unflatten(out_def, with_leaf(out_leaves, i, ct))))
        end)(basis_of(y))
      end
      return assemble(out_leaves, out_def, arg_def, argnums, function(i, j)
        return rows[i][j]:reshape(concat_lists(out_leaves[i].shape, as_array(arg_leaves[j]).shape))
      end)
    end
  end)
end

--- The Jacobian by forward mode: one pass an argument element. Good for few arguments.
-- @param f a function of one result (a tree)
-- @param[opt] options `argnums`
-- @return as `jacrev`
-- @usage local J = mlax.jacfwd(mlax.sin)(mlax.zeros{3})
-- assert(J.shape[1] == 3 and J.shape[2] == 3)
function M.jacfwd(f, options)
  check_function("jacfwd", f)
  check_options("jacfwd", options, {"argnums"})
  local argnums = check_argnums("jacfwd", options and options.argnums)
  return cached(f, "jacfwd" .. key_of(argnums), function()
    return function(...)
      local g, chosen = restrict("jacfwd", f, argnums, table.pack(...))
      local arg_leaves, arg_def = tree.flatten(chosen)
      local out, push = core.linearize(g, chosen)
      local out_leaves, out_def = float_leaves("jacfwd", out)
      local columns = {}
      for j, x in ipairs(arg_leaves) do
        columns[j] = M.vmap(function(t)
          return tree.leaves(push(tree.unflatten(arg_def, with_leaf(arg_leaves, j, t))))
        end)(basis_of(as_array(x)))
      end
      return assemble(out_leaves, out_def, arg_def, argnums, function(i, j)
        local shape = concat_lists(out_leaves[i].shape, as_array(arg_leaves[j]).shape)
        return columns[j][i]:moveaxis(1, -1):reshape(shape)
      end)
    end
  end)
end

--- Second derivatives: jacfwd of jacrev.
-- @param f a function
-- @param options see above
-- @usage local H = mlax.hessian(function(x) return (x * x):sum() end)(mlax.ones{2})
-- assert(H:totable()[1][1] == 2)
function M.hessian(f, options)
  return M.jacfwd(M.jacrev(f, options), options)
end

-- -- what the engine registers ----------------------------------------------------------------------------------------

--- How often a jitted function has been traced.
-- @function traces
-- @usage local f = mlax.jit(function(x) return x * 2 end)
-- f(mlax.ones{2})
-- f(mlax.ones{3})
-- print(f:traces())   --> 2

--- Why the last call of a jitted function traced anew; nil if it did not.
-- @function explain
-- @usage local f = mlax.jit(function(x) return x * 2 end)
-- f(mlax.ones{2})
-- f(mlax.ones{2})
-- print(f:explain())   --> nil

--- The program that a jitted function would record for these arguments: it prints itself, and # counts its equations.
--
-- With `{optimized = true}` behind the arguments the program that would be run instead: what the passes of the compiler made of it
-- (`mlax.debug.passes`), in the order in which it runs. Equations that run as one step stand between braces, behind its name.
-- @function program
-- @param ... its arguments, arrays without values too; then options or nothing
-- @usage local f = mlax.jit(function(x) return (x * 2 * 1):exp() end)
-- print(#f:program(mlax.ones{3}))   --> 3
-- print(#f:program(mlax.ones{3}, {optimized = true}))   --> 2

--- Forgets all traces of a jitted function: the next call traces anew.
-- @function clear
-- @usage local f = mlax.jit(function(x) return x * 2 end)
-- f(mlax.ones{2})
-- f:clear()
-- f(mlax.ones{2})
-- print(f:traces())   --> 2

--- What a call of a jitted function would cost: {flops, bytes, peak}, numbers of operations and of bytes moved and held.
-- @function cost
-- @param ... its arguments, arrays without values too
-- @usage local f = mlax.jit(function(x, y) return x:matmul(y) end)
-- print(f:cost(mlax.ones{3, 4}, mlax.ones{4, 5}).flops)   --> 120.0

-- -- the module -------------------------------------------------------------------------------------------------------

return M
