--- Control flow as primitives, custom rules, rematerialisation, and operations over named axes.
-- The engine works on lists of arrays (core.staged traces a body, core.bind_* binds the primitive); here trees become lists, and what a
-- body gives is held against what it was given.
-- @module mlax.control

local check = require "mlax.check"
local core = require "mlax.core"

local mlax, tree = core.mlax, core.tree

local M = {}

local function describe(v)
  if not mlax.is_array(v) then return type(v) == "number" and "the number " .. v or type(v) end
  local text = tostring(v):match("^[^\n]*")
  return (text:gsub("%].*", "]"))
end

-- Every number that control flow carries is an array: int32 for integers, float32 for floats.
local function as_array(v)
  if type(v) ~= "number" then return v end
  return mlax.array(v, math.type(v) == "integer" and "int32" or "float32")
end

local function is_traced(v) return mlax.is_array(v) or type(v) == "number" end

-- A tree -> its arrays, and a function that rebuilds it around others.
local function open(t)
  local leaves, def = tree.flatten(t)
  local arrays, places = {}, {}
  for i, leaf in ipairs(leaves) do
    if is_traced(leaf) then
      arrays[#arrays + 1] = as_array(leaf)
      places[#places + 1] = i
    end
  end
  local function rebuild(list, first)
    local new = table.move(leaves, 1, #leaves, 1, {})
    for k, place in ipairs(places) do new[place] = list[(first or 0) + k] end
    return tree.unflatten(def, new)
  end
  return arrays, rebuild, def
end

local function append(to, list)
  return table.move(list, 1, #list, #to + 1, to)
end

-- The first path at which `got` is another tree, or an array of another type, than `need`.
local function check_same(op, what, got, need)
  local a, b = tree.structure(got), tree.structure(need)
  if a ~= b then core.fail(op, "%s has another structure: %s", what, core.tree_difference(got, need) or tostring(a)) end
  local needed = tree.leaves_with_path(need)
  for i, pair in ipairs(tree.leaves_with_path(got)) do
    local path, x, y = pair[1], as_array(pair[2]), as_array(needed[i][2])
    if mlax.is_array(x) ~= mlax.is_array(y) or mlax.is_array(x) and describe(x) ~= describe(y) then
      core.fail(op, "%s%s has another type (got %s, need %s)", what, path ~= "" and " at " .. path or "", describe(x), describe(y))
    end
  end
end

-- A tree with arrays in the place of its numbers.
local function kept_numbers(t)
  return tree.map(as_array, t)
end

-- What a branch or body gave, as a tree whose numbers are arrays, with shape and dtype kept after the trace.
local function kept(t)
  return tree.map(function(leaf) return is_traced(leaf) and core.abstract(as_array(leaf)) or leaf end, t)
end

-- -- scan ----------------------------------------------------------------------------------------------------------------

local function length_of(op, xs, given)
  if given ~= nil and not (math.type(given) == "integer" and given >= 0) then
    core.fail(op, "length must be an integer from 0 (got %s)", check.show(given))
  end
  local length, first = given, "length"
  for _, pair in ipairs(tree.leaves_with_path(xs)) do
    local path, x = pair[1], pair[2]
    if mlax.is_array(x) then
      local name = (path == "" or path:find("^%[")) and "xs" .. path or "xs." .. path
      if x.ndim == 0 then core.fail(op, "%s is a scalar (need a leading axis to go over)", name) end
      if length and length ~= x.shape[1] then
        core.fail(op, "leading axes differ in length: %s has %d, %s has %d", first, length, name, x.shape[1])
      end
      if not length then length, first = x.shape[1], name end
    end
  end
  if not length then core.fail(op, "nothing says how many steps there are (need xs with an array, or length)") end
  return length
end

local carry_of = {scan = "the carry that f returns", fori_loop = "the carry that the body returns"}

local function unrolled(f, init, xs, length, reverse)
  local carry, ys = kept_numbers(init), {}
  for k = 1, length do
    local t = reverse and length + 1 - k or k
    local x = tree.map(function(leaf) return mlax.is_array(leaf) and leaf[t] or leaf end, xs)
    local new
    new, ys[t] = f(carry, x)
    check_same("scan", carry_of.scan, new, carry)
    carry = kept_numbers(new)
  end
  if length == 0 or ys[1] == nil then return carry, nil end
  return carry, tree.map(function(...)
    local rows = {...}
    if not is_traced(rows[1]) then return rows[1] end
    for i = 1, #rows do rows[i] = as_array(rows[i]) end
    return mlax.stack(rows, 1)
  end, table.unpack(ys, 1, length))
end

local function scanned(op, f, init, xs, length, reverse)
  local carry, rebuild_carry = open(init)
  local slices, rebuild_x = open(xs)
  local carry_tree, ys_tree
  local inputs = append(append({}, carry), slices)
  local program, captured = core.staged(function(list)
    local new, y = f(rebuild_carry(list), rebuild_x(list, #carry))
    check_same(op, carry_of[op], new, rebuild_carry(carry))
    local out, rebuild_new = open(new)
    local y_out, rebuild_y = open(y)
    carry_tree, ys_tree = rebuild_new, y ~= nil and rebuild_y or nil
    return append(append({}, out), y_out)
  end, inputs, #carry, op)
  local out = core.bind_scan(program, captured, carry, slices, length, reverse)
  return carry_tree(out), ys_tree and ys_tree(out, #carry) or nil
end

--- Goes over the leading axis of xs with a carry; the body is traced once.
-- @param f `f(carry, x)` -> carry, y; the carry comes back with the same structure, shapes and dtypes; y may be nil
-- @param init the first carry, a tree; numbers become arrays
-- @param[opt] xs a tree of arrays with equal leading axes, or nil (then `length` is needed)
-- @param[opt] options `length`, `reverse` (from the last step to the first; ys stay in place), `unroll` (true: no primitive, the steps
-- one after another)
-- @return the last carry, ys stacked along a new first axis
-- @usage local sum, sums = mlax.scan(function(c, x) return c + x, c + x end, 0.0, mlax.array{1, 2, 3})
-- assert(sum:item() == 6 and sums[2]:item() == 3)
function M.scan(f, init, xs, options)
  check.callable("scan", "f", f)
  core.check_options("scan", options, {"length", "reverse", "unroll"})
  local o = options or {}
  local length = length_of("scan", xs, o.length)
  if o.unroll == true then return unrolled(f, init, xs, length, o.reverse) end
  return scanned("scan", f, init, xs, length, o.reverse or false)
end

-- -- loops ---------------------------------------------------------------------------------------------------------------

--- Repeats body while cond holds. Not differentiable in reverse: use scan, or fori_loop with Lua numbers.
-- @param cond carry -> a bool array of one element
-- @param body carry -> carry of the same structure, shapes and dtypes
-- @param init the first carry
-- @return the carry for which cond does not hold
-- @usage local x = mlax.while_loop(function(v) return v:lt(100) end, function(v) return v * 2 end, 1.0)
-- assert(x:item() == 128)
function M.while_loop(cond, body, init)
  check.callable("while_loop", "the condition", cond)
  check.callable("while_loop", "the body", body)
  local carry, rebuild = open(init)
  local tree_of
  local cond_program, cond_captured = core.staged(function(list)
    local holds = cond(rebuild(list))
    if type(holds) == "boolean" then holds = mlax.array(holds) end
    if not mlax.is_array(holds) or holds.dtype ~= "bool" or holds.size ~= 1 then
      core.fail("while_loop", "the condition must give a bool array of one element (got %s)", describe(holds))
    end
    return {holds:reshape{}}
  end, carry, #carry, "while_loop")
  local body_program, body_captured = core.staged(function(list)
    local new = body(rebuild(list))
    check_same("while_loop", "the carry that the body returns", new, rebuild(carry))
    local out, rebuild_new = open(new)
    tree_of = rebuild_new
    return out
  end, carry, #carry, "while_loop")
  return tree_of(core.bind_loop(cond_program, cond_captured, body_program, body_captured, carry))
end

-- A Lua number without a fraction, as an integer.
local function whole(op, what, v)
  local n = math.tointeger(v)
  if not n then core.fail(op, "%s must be an integer (got %s)", what, check.show(v)) end
  return n
end

-- A bound of a loop that may be traced, as an int32 scalar.
local function bound(what, v)
  if type(v) == "number" then v = mlax.array(whole("fori_loop", what, v), "int32") end
  if not mlax.is_array(v) or v.size ~= 1 or not v.dtype:find("int") then
    core.fail("fori_loop", "%s must be an integer of one element (got %s)", what, describe(v))
  end
  return v:reshape{}:astype("int32")
end

--- Repeats body for i from first to last, both included.
-- With Lua numbers as bounds it is a scan, and differentiable in reverse.
-- @param first integer, or an integer array of one element
-- @param last likewise
-- @param body `body(i, carry)` -> carry; i is an int32 array
-- @param init the first carry
-- @return the last carry
-- @usage local s = mlax.fori_loop(1, 4, function(i, c) return c + i end, 0)
-- assert(s:item() == 10)
function M.fori_loop(first, last, body, init)
  check.callable("fori_loop", "the body", body)
  if type(first) == "number" and type(last) == "number" then
    local a, b = whole("fori_loop", "the first", first), whole("fori_loop", "the last", last)
    local n = math.max(0, b - a + 1)
    local is = n > 0 and mlax.range(a, b) or mlax.zeros({0}, "int32")
    return (scanned("fori_loop", function(carry, i) return body(i, carry), nil end, init, is, n, false))
  end
  first, last = bound("the first", first), bound("the last", last)
  local result = M.while_loop(function(c) return c[1]:le(c[2]) end, function(c) return {c[1] + 1, c[2], body(c[1], c[3])} end,
    {first, last, init})
  return result[3]
end

-- -- branches ------------------------------------------------------------------------------------------------------------

local function branch(op, index, functions, names, ...)
  for i, f in ipairs(functions) do check.callable(op, names(i), f) end
  local args, absent = table.pack(...), {}
  for i = 1, args.n do
    if args[i] == nil then args[i], absent[i] = false, true end -- a list has no holes
  end
  local operands, rebuild = open({table.unpack(args, 1, args.n)})
  local staged, first, is_nil, rebuild_out = {}, nil, nil, nil
  for i, f in ipairs(functions) do
    local program, captured = core.staged(function(list)
      local given = rebuild(list)
      for k in pairs(absent) do given[k] = nil end
      local out = table.pack(f(table.unpack(given, 1, args.n)))
      local results, none = {}, {}
      for k = 1, out.n do
        results[k], none[k] = out[k], out[k] == nil
        if out[k] == nil then results[k] = false end
      end
      if first then check_same(op, ("what %s gives"):format(names(i)), results, first)
      else first, is_nil = kept(results), none end
      for k = 1, out.n do
        if none[k] ~= is_nil[k] then
          core.fail(op, "result %d of %s is %s, another function's is not", k, names(i), none[k] and "nil" or "false")
        end
      end
      local arrays, again = open(results)
      rebuild_out = rebuild_out or again
      return arrays
    end, operands, #operands, op)
    staged[i] = {program, captured}
  end
  local results = rebuild_out(core.bind_branch(index, staged, operands, op))
  local n = #results
  for k = 1, n do
    if is_nil[k] then results[k] = nil end
  end
  return table.unpack(results, 1, n)
end

local function one_element(op, what, x, dtype)
  if type(x) == "number" then x = whole(op, what, x) end
  if type(x) == "boolean" or type(x) == "number" then x = mlax.array(x, type(x) == "boolean" and "bool" or "int32") end
  if not mlax.is_array(x) or x.size ~= 1 then core.fail(op, "%s must have one element (got %s)", what, describe(x)) end
  if dtype == "bool" and x.dtype ~= "bool" then core.fail(op, "%s must be bool (got %s)", what, describe(x)) end
  return x:reshape{}
end

--- One of two functions, by a predicate that may be traced.
-- @param pred a bool array of one element, or a Lua boolean
-- @param true_fn called with the operands; gives as many results, of the same types, as
-- @param false_fn
-- @param ... operands, trees; numbers become arrays
-- @return what the function taken gives
-- @usage local y = mlax.cond(mlax.array(true), function(x) return x + 1 end, function(x) return x - 1 end, mlax.array(1))
-- assert(y:item() == 2)
function M.cond(pred, true_fn, false_fn, ...)
  local p = one_element("cond", "the predicate", pred, "bool")
  local names = {"the true function", "the false function"}
  check.callable("cond", names[1], true_fn)
  check.callable("cond", names[2], false_fn)
  return branch("cond", mlax.where(p, 0, 1):astype("int32"), {true_fn, false_fn}, function(i) return names[i] end, ...)
end

--- One of several functions, by a number from 1 that may be traced. Outside 1..n it raises.
-- @param i an integer array of one element, or a Lua integer
-- @param branches a list of functions
-- @param ... operands
-- @return what the function taken gives
-- @usage local y = mlax.switch(2, {function(x) return x end, function(x) return x * 10 end}, mlax.array(3))
-- assert(y:item() == 30)
function M.switch(i, branches, ...)
  if type(branches) ~= "table" or #branches == 0 then core.fail("switch", "no branches (need a list of at least one function)") end
  local index = core.check_position("switch", one_element("switch", "the branch number", i), #branches)
  return branch("switch", index, branches, function(k) return ("branch %d"):format(k) end, ...)
end

-- -- associative scan ----------------------------------------------------------------------------------------------------

local function each(f, ...) return tree.map(f, ...) end
local function every_other(t, first, n)
  return each(function(x) return n >= first and x[{{first, n, 2}}] or x[{{1, 0}}] end, t)
end

local function widths(ndim, after)
  local w = {{0, after}}
  for i = 2, ndim do w[i] = {0, 0} end
  return w
end

-- a at the odd places, b at the even ones.
local function interleave(a, b, n)
  return each(function(x, y)
    local padded = y:pad(widths(x.ndim, x.shape[1] - y.shape[1]))
    local both = mlax.stack({x, padded}, 2)
    local shape = x.shape
    shape[1] = 2 * shape[1]
    return both:reshape(shape)[{{1, n}}]
  end, a, b)
end

local function associative(f, xs, n)
  if n < 2 then return xs end
  local half = n // 2
  local odd, even = every_other(xs, 1, 2 * half), every_other(xs, 2, n)
  local pairs_ = associative(f, f(odd, even), half)
  local evens, odds
  if n % 2 == 0 then
    evens = each(function(p) return p[{{1, half - 1}}] end, pairs_)
  else
    evens = pairs_
  end
  local rest = each(function(x) return n >= 3 and x[{{3, n, 2}}] or x[{{1, 0}}] end, xs)
  odds = n >= 3 and f(evens, rest) or rest
  odds = each(function(x, o) return mlax.concat({x[{{1, 1}}], o}, 1) end, xs, odds)
  return interleave(odds, pairs_, n)
end

--- All prefixes of an associative operation, in logarithmic depth.
-- @param f of two trees of stacked slices (it works over the leading axis)
-- @param xs a tree of arrays with equal leading axes
-- @param[opt] options `reverse`
-- @return the tree of prefixes
-- @usage local s = mlax.associative_scan(mlax.add, mlax.array{1, 2, 3, 4})
-- assert(s[4]:item() == 10)
function M.associative_scan(f, xs, options)
  check.callable("associative_scan", "f", f)
  core.check_options("associative_scan", options, {"reverse"})
  local n = length_of("associative_scan", xs)
  local reverse = options and options.reverse
  local function flip(t) return reverse and each(function(x) return x:flip(1) end, t) or t end
  return flip(associative(f, flip(xs), n))
end

-- -- custom rules --------------------------------------------------------------------------------------------------------

-- first, first + 1, ..., first + n - 1
local function count(first, n)
  local list = {}
  for i = 1, n do list[i] = first + i - 1 end
  return list
end

-- A function over lists of arrays: the operands, how to make arguments of a list, the function, how to make a result of a list, the number
-- of arguments, and what the function gave when it was traced (without values).
local function lists_of(f, ...)
  local args = table.pack(...)
  for i = 1, args.n do if args[i] == nil then args[i] = false end end
  local operands, rebuild = open({table.unpack(args, 1, args.n)})
  local rebuild_out, gave
  local function call(list)
    local given = rebuild(list)
    local out = f(table.unpack(given, 1, args.n))
    local arrays, again = open(out)
    rebuild_out, gave = again, kept(out)
    return arrays
  end
  return operands, rebuild, call, function(list) return rebuild_out(list) end, args.n, function() return gave end
end

--- f, whose intermediate values are computed again on the way back instead of being kept (also called remat).
-- @param f a function of trees, one result
-- @return a function that gives the same
-- @usage local g = mlax.grad(mlax.checkpoint(function(x) return mlax.sin(mlax.sin(x)) end))(mlax.zeros{})
-- assert(g:item() == 1)
function M.checkpoint(f)
  check.callable("checkpoint", "f", f)
  return function(...)
    local operands, _, call, result = lists_of(f, ...)
    local program, captured = core.staged(call, operands, #operands, "checkpoint")
    return result(core.bind_call("checkpoint", {program}, captured, operands))
  end
end
--- The same as `checkpoint`.
-- @function remat
-- @param f a function
-- @usage print(mlax.grad(mlax.remat(function(x) return x * x end))(3.0))   --> float32[] 6
M.remat = M.checkpoint

--- f with a derivative rule of its own.
-- @param f a function of trees, one result
-- @param rule `rule(primals, tangents)` -> result, its tangent; both are lists, one entry an argument
-- @usage local f = mlax.custom_jvp(function(x) return x end, function(p, t) return p[1], t[1] * 3 end)
-- assert(mlax.grad(f)(mlax.ones{}):item() == 3)
function M.custom_jvp(f, rule)
  check.callable("custom_jvp", "f", f)
  check.callable("custom_jvp", "the rule", rule)
  return function(...)
    local operands, rebuild, call, result, _, gave = lists_of(f, ...)
    local n = #operands
    local program, captured = core.staged(call, operands, n, "custom_jvp")
    local rule_program, rule_captured = core.staged(function(list)
      local out, tangent = rule(rebuild(list), rebuild(list, n))
      check_same("custom_jvp", "the result of the rule", out, gave())
      check_same("custom_jvp", "the tangent of the rule", tangent, gave())
      local a, b = open(out), open(tangent)
      return append(append({}, a), b)
    end, append(append({}, operands), operands), 2 * n, "custom_jvp")
    -- What the functions reach of outer traces are operands too; the rule has nothing to say of their tangents, which are zero.
    local all = append(append(append({}, operands), captured), rule_captured)
    if #all > n then
      local twice = append(append({}, all), all)
      program = core.rewired(program, count(1, n + #captured), all)
      local sources = append(append(count(1, n), count(#all + 1, n)), count(n + #captured + 1, #rule_captured))
      rule_program = core.rewired(rule_program, sources, twice)
    end
    return result(core.bind_call("custom_jvp", {program, rule_program}, {}, all))
  end
end

--- f with a way back of its own.
-- @param f a function of trees, one result
-- @param fwd the same arguments -> result, residuals (a tree)
-- @param bwd `bwd(residuals, ct)` -> one cotangent an argument (nil: zero)
-- @usage local f = mlax.custom_vjp(function(x) return x end, function(x) return x, {} end, function(_, ct) return ct * 3 end)
-- assert(mlax.grad(f)(mlax.ones{}):item() == 3)
function M.custom_vjp(f, fwd, bwd)
  check.callable("custom_vjp", "f", f)
  check.callable("custom_vjp", "fwd", fwd)
  check.callable("custom_vjp", "bwd", bwd)
  return function(...)
    local operands, rebuild, call, result, n_args, gave = lists_of(f, ...)
    local n = #operands
    local program, captured = core.staged(call, operands, n, "custom_vjp")
    local outs, rebuild_res, residuals, rebuild_ct
    -- Residuals are what fwd gives and what bwd reaches of outer traces (known once bwd has been traced).
    local function stage_forward(reached)
      return core.staged(function(list)
        local given = rebuild(list)
        local out, res = fwd(table.unpack(given, 1, n_args))
        check_same("custom_vjp", "the result of fwd", out, gave())
        local a, again = open(out)
        local r, again_res = open(res)
        rebuild_ct, rebuild_res = again, again_res
        outs, residuals = {}, {}
        for i, x in ipairs(a) do outs[i] = core.abstract(x) end
        for i, x in ipairs(r) do residuals[i] = core.abstract(x) end
        return append(append(append({}, a), r), reached)
      end, operands, n, "custom_vjp")
    end
    local forward, f_captured = stage_forward({})
    local n_res = #residuals
    local backward, b_captured = core.staged(function(list)
      local cts = table.pack(bwd(rebuild_res(list), rebuild_ct(list, n_res)))
      local given, flat = rebuild(operands), {}
      if cts.n > n_args then core.fail("custom_vjp", "bwd gives %d cotangents (need one an argument: %d)", cts.n, n_args) end
      for i = 1, n_args do
        local want = open({given[i]})
        if cts[i] ~= nil and #want > 0 then check_same("custom_vjp", ("cotangent %d that bwd gives"):format(i), cts[i], given[i]) end
        local got = cts[i] ~= nil and open({cts[i]}) or {}
        for k, x in ipairs(want) do flat[#flat + 1] = got[k] or mlax.zeros(x.shape, x.dtype) end
      end
      return flat
    end, append(append({}, residuals), outs), n_res + #outs, "custom_vjp")
    if #b_captured > 0 then
      forward, f_captured = stage_forward(b_captured)
      local sources = append(append(count(1, n_res), count(n_res + #b_captured + 1, #outs)), count(n_res + 1, #b_captured))
      backward = core.rewired(backward, sources, append(append(append({}, residuals), b_captured), outs))
      n_res = n_res + #b_captured
    end
    local all = append(append(append({}, operands), captured), f_captured)
    if #all > n then
      program = core.rewired(program, count(1, n + #captured), all)
      forward = core.rewired(forward, append(count(1, n), count(n + #captured + 1, #f_captured)), all)
    end
    return result(core.bind_call("custom_vjp", {program, forward, backward}, {}, all, n_res))
  end
end

-- -- named axes ----------------------------------------------------------------------------------------------------------

local function names_of(op, axis_name)
  if axis_name == nil then return {} end
  if type(axis_name) == "string" then return {axis_name} end
  if type(axis_name) ~= "table" then core.fail(op, "axis_name must be a string, a list of them, or nil (got %s)", type(axis_name)) end
  return axis_name
end

local function over_axes(kind, op, x, axis_name)
  local names = names_of(op, axis_name)
  if #names == 0 then return x end
  return tree.map(function(leaf)
    if not is_traced(leaf) then return leaf end
    local v = as_array(leaf)
    for _, name in ipairs(names) do v = core.collective(kind, v, name) end
    return v
  end, x)
end

--- How many examples the axis has; of several names, the product.
-- @param axis_name a name or a list of names
-- @usage local f = mlax.vmap(function(x) return x * mlax.axis_size("n") end, {axis_name = "n"})
-- print(f(mlax.array{1, 2, 6}))   --> float32[3] [ 3 6 18]
function M.axis_size(axis_name)
  local n = 1
  for _, name in ipairs(names_of("axis_size", axis_name)) do n = n * core.axis_size(name) end
  return n
end

--- The sum over a named axis of an enclosing vmap; of a Lua number, the number times the axis' size.
-- @param x an array, a number, or a tree of these
-- @param axis_name a name, a list of names; nil leaves x as it is
-- @usage local y = mlax.vmap(function(x) return mlax.psum(x, "batch") end, {axis_name = "batch"})(mlax.array{1, 2, 3})
-- assert(y[1]:item() == 6)
function M.psum(x, axis_name)
  local names = names_of("psum", axis_name)
  if type(x) == "number" then return #names == 0 and x or x * M.axis_size(names) end
  return over_axes("psum", "psum", x, names)
end

--- The mean over a named axis.
-- @param x an array, a number or a tree
-- @param axis_name a name, a list of names, or nil, which leaves x as it is
-- @usage local f = mlax.vmap(function(x) return mlax.pmean(x, "n") end, {axis_name = "n"})
-- print(f(mlax.array{1, 2, 6}))   --> float32[3] [3 3 3]
function M.pmean(x, axis_name)
  local names = names_of("pmean", axis_name)
  if #names == 0 or type(x) == "number" then return x end
  local n = M.axis_size(names)
  return tree.map(function(leaf) return is_traced(leaf) and over_axes("psum", "pmean", leaf, names) / n or leaf end, x)
end

--- The greatest over a named axis.
-- @param x an array, a number or a tree
-- @param axis_name a name, a list of names, or nil, which leaves x as it is
-- @usage local f = mlax.vmap(function(x) return mlax.pmax(x, "n") end, {axis_name = "n"})
-- print(f(mlax.array{1, 2, 6}))   --> float32[3] [6 6 6]
function M.pmax(x, axis_name) return over_axes("pmax", "pmax", x, axis_name) end

--- The least over a named axis.
-- @param x an array, a number or a tree
-- @param axis_name a name, a list of names, or nil, which leaves x as it is
-- @usage local f = mlax.vmap(function(x) return mlax.pmin(x, "n") end, {axis_name = "n"})
-- print(f(mlax.array{1, 2, 6}))   --> float32[3] [1 1 1]
function M.pmin(x, axis_name) return over_axes("pmin", "pmin", x, axis_name) end

--- What all examples of a named axis have, stacked along a new first axis.
-- @param x an array, a number or a tree
-- @param axis_name a name, a list of names, or nil, which leaves x as it is
-- @usage local f = mlax.vmap(function(x) return mlax.all_gather(x, "n"):cumsum(1)[-1] end, {axis_name = "n"})
-- print(f(mlax.array{1, 2, 6}))   --> float32[3] [9 9 9]
function M.all_gather(x, axis_name) return over_axes("all_gather", "all_gather", x, axis_name) end

--- Sends values along a named axis: pairs {from, to}, from 1; who gets none has zero.
-- @param x an array, a number or a tree
-- @param axis_name a name
-- @param pairs_ a list of {from, to}
-- @usage local f = mlax.vmap(function(x) return mlax.ppermute(x, "n", {{1, 2}, {2, 3}}) end, {axis_name = "n"})
-- print(f(mlax.array{1, 2, 6}))   --> float32[3] [0 1 2]
function M.ppermute(x, axis_name, pairs_)
  return tree.map(function(leaf) return is_traced(leaf) and core.collective("ppermute", as_array(leaf), axis_name, pairs_) or leaf end, x)
end

--- The position of this example on a named axis, an int32 array from 1.
-- @param axis_name a name or a list of names
-- @usage local f = mlax.vmap(function(x) return x * mlax.axis_index("n") end, {axis_name = "n"})
-- print(f(mlax.array{1, 2, 6}))   --> float32[3] [ 1 4 18]
function M.axis_index(axis_name)
  local index
  for _, name in ipairs(names_of("axis_index", axis_name)) do
    local i = core.collective("axis_index", nil, name)
    index = index and index * core.axis_size(name) + i or i
  end
  return index + 1
end

--- vmap under its own axis name; over one device for now.
-- @param f a function
-- @param[opt] options {axis_name, in_axes, out_axes}
-- @usage local f = mlax.pmap(function(x) return x / mlax.psum(x, "n") end, {axis_name = "n"})
-- print(f(mlax.array{1, 3}))   --> float32[2] [0.25 0.75]
function M.pmap(f, options)
  core.check_options("pmap", options, {"axis_name", "in_axes", "out_axes"})
  return mlax.vmap(f, options)
end

return M
