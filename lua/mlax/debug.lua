--- mlax.debug: looking into computations: where a NaN came from, what values are on the way, what the compiler does.
-- @module mlax.debug

local core = require "mlax.core"

local mlax = core.mlax

local M = {}

--- Whether every operation is asked if it made a NaN.
--
-- While it is on, the first operation whose result has a NaN though none of its operands has one raises, with its Lua line: eagerly, in
-- compiled functions (which are traced anew, and run unfused), and inside the bodies of scan, while_loop, cond and switch. NaN that
-- comes in with the data does not raise. Both sides of `where` are computed, so both are asked.
-- @param[opt] on true or false; nil: only asks
-- @return whether it is on
-- @usage mlax.debug.nans(true)
-- print(pcall(mlax.log, mlax.array{-1.0}))   -- false, "...: log: NaN came out of operands that have none ..."
-- mlax.debug.nans(false)
M.nans = core.debug_nans

--- Switches a pass of the compiler, to find out whether it matters.
--
-- Functions are then traced and compiled anew. The passes, all of them on unless they are switched off: `inline` (calls with derivatives
-- of their own are opened), `simplify` (exact algebra), `layout` (convolutions compute with channels last), `reassociate` (a sum of sums
-- is one sum), `sink` (conversions go to where there are the fewest elements), `fold` (what depends on constants alone is computed when
-- compiling), `cse` (nothing is computed twice), `hoist` (what a loop computes at each step though it does not depend on the carry is
-- computed before it), `recompute` (what a few operations make of something else is not kept from the way forward to the way back),
-- `fusion` (chains of elementwise operations run in one pass over memory), `epilogue` (what is made of a product's or a convolution's
-- result is done to each part of it while that lies in a cache), `schedule` (another order, where that saves memory), `in_place` (a
-- result takes the place of an operand that is read no more; the parts of a concat are computed where it would copy them to). None of
-- them runs while `debug.nans` is on.
-- `f:program(..., {optimized = true})` shows what they made.
-- @param[opt] name of the pass; nil: all are asked
-- @param[opt] on true or false; nil: only asks
-- @return whether it is on; without a name a table of that by name
-- @usage mlax.debug.passes("cse", false)
-- local f = mlax.jit(function(x) return x:exp() + x:exp() end)
-- print(#f:program(mlax.ones{3}, {optimized = true}))   --> 3
-- mlax.debug.passes("cse", true)
-- print(#f:program(mlax.ones{3}, {optimized = true}))   --> 2
M.passes = core.debug_passes

-- -- print ---------------------------------------------------------------------------------------------------------------

local directive = "%%[-+ #0]*%d*%.?%d*(%a)"
local of_integer, of_number = "[cdiouxX]", "[aAeEfFgG]"

-- The directives of a format in order, as {whole text, letter}; raises on what string.format would not take.
local function directives(format)
  local list, at = {}, 1
  while true do
    local start = format:find("%", at, true)
    if not start then return list end
    if format:sub(start + 1, start + 1) == "%" then
      at = start + 2
    else
      local first, last, letter = format:find(directive, start)
      if first ~= start or not (letter:find(of_integer) or letter:find(of_number) or letter == "s") then
        core.fail("debug.print", "'%s' is no directive (known: those of string.format, but %%q and %%p)", format:sub(start, start + 3))
      end
      list[#list + 1] = {first = first, last = last, letter = letter}
      at = last + 1
    end
  end
end

local function check_array(x, letter, k)
  if letter == "s" then return end
  if x.dtype == "bool" then core.fail("debug.print", "argument %d is bool, and %%%s takes numbers: use %%s", k, letter) end
  if x.size ~= 1 then core.fail("debug.print", "argument %d has %d elements, and %%%s takes one: use %%s", k, x.size, letter) end
  if letter:find(of_integer) and x.dtype:find("float", 1, true) then
    core.fail("debug.print", "argument %d is %s, and %%%s takes integers", k, x.dtype, letter)
  end
end

local function formatted(text, v)
  local ok, result = pcall(string.format, text, v)
  if not ok then core.fail("debug.print", "%s", (result:gsub("^bad argument #%d+ to 'format' ", "bad argument for " .. text .. " "))) end
  return result
end

--- Prints when the computation gets there, not when it is traced.
--
-- Works eagerly and under jit, scan, cond, while_loop, grad and vmap: prints stay in order, under vmap each example prints, and branches
-- that an example does not take print nothing. The line goes to the global `print`. Derivatives are not printed: what is printed under
-- `grad` is the value.
-- @param format as for string.format: `%s` takes any value (an array as tostring shows it), the directives of numbers (`%d %x %g %f
-- %e ...`) numbers and arrays of one element
-- @param ... a value for each directive; those that are no arrays are put in at once
-- @usage local f = mlax.jit(function(x) mlax.debug.print("x is %s, its sum %g", x, x:sum()) return x * 2 end)
-- -- f(mlax.array{1, 2}) prints: x is float32[2] [1 2], its sum 3
function M.print(format, ...)
  if type(format) ~= "string" then core.fail("debug.print", "the format is no string (got %s)", core.type_name(format)) end
  local list, n = directives(format), select("#", ...)
  if n ~= #list then core.fail("debug.print", "%d values were given for %d directives", n, #list) end
  local arrays, parts, at = {}, {}, 1
  for k, d in ipairs(list) do
    local v, text = (select(k, ...)), format:sub(d.first, d.last)
    if mlax.is_array(v) then
      check_array(v, d.letter, k)
      arrays[#arrays + 1] = v
    else
      text = formatted(text, v):gsub("%%", "%%%%")
    end
    parts[#parts + 1] = format:sub(at, d.first - 1) .. text
    at = d.last + 1
  end
  core.debug_print(table.concat(parts) .. format:sub(at), table.unpack(arrays))
end

-- What the computation calls: every directive has its array.
core.on_debug_print(function(format, ...)
  local values = {...}
  for k, d in ipairs(directives(format)) do
    if d.letter ~= "s" then values[k] = values[k]:item() end
  end
  print(format:format(table.unpack(values)))
end)

return M
