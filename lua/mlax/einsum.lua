--- einsum: sums of products in Einstein's notation, on `lax.dot_general`.
-- A term is reduced by itself first (repeated letters are diagonals; letters of no other term and not of the result are summed), then
-- terms are contracted in pairs, the cheapest pair first. Parsed equations are kept.
-- @module mlax.einsum

local core = require "mlax.core"

local mlax, lax = core.mlax, core.lax

local OP = "einsum"

local function fail(...) core.fail(OP, ...) end

-- Letters of a term; "..." becomes the names .1 .2 ... of `ellipsis` axes, counted so that the last is .1.
local function letters(term, ellipsis)
  local list = {}
  local head, tail = term:match("^([%a]*)%.%.%.([%a]*)$")
  if not head then
    if not term:match("^%a*$") then fail("cannot read '%s' (need letters, ... and commas)", term) end
    head, tail, ellipsis = term, "", 0
  end
  for c in head:gmatch(".") do list[#list + 1] = c end
  for i = ellipsis, 1, -1 do list[#list + 1] = "." .. i end
  for c in tail:gmatch(".") do list[#list + 1] = c end
  return list
end

local function count_letters(term) return select(2, term:gsub("%a", "")) end

-- The result's letters where the equation names none: those that occur once, in order of the alphabet, behind the ellipsis.
local function implicit_output(terms, most)
  local seen, out, once = {}, {}, {}
  for _, term in ipairs(terms) do for _, c in ipairs(term) do seen[c] = (seen[c] or 0) + 1 end end
  for c, n in pairs(seen) do if n == 1 and #c == 1 then once[#once + 1] = c end end
  table.sort(once)
  for i = most, 1, -1 do out[#out + 1] = "." .. i end
  for _, c in ipairs(once) do out[#out + 1] = c end
  return out
end

-- equation, number of axes of each operand -> list of letters a term, letters of the result
local function parse(equation, ndims)
  local text = equation:gsub("%s+", "")
  local left, right = text:match("^(.-)%->(.*)$")
  left = left or text
  local raw, terms, most = {}, {}, 0
  for term in (left .. ","):gmatch("(.-),") do raw[#raw + 1] = term end
  if #raw ~= #ndims then fail("the equation '%s' has %d terms (got %d arrays)", equation, #raw, #ndims) end
  for i, term in ipairs(raw) do
    local extra = ndims[i] - count_letters(term)
    if extra < 0 or (extra > 0 and not term:find("...", 1, true)) then
      fail("term %d, '%s', does not fit an array of %d axes", i, term, ndims[i])
    end
    terms[i] = letters(term, extra)
    if term:find("...", 1, true) then most = math.max(most, extra) end
  end
  if not right then return terms, implicit_output(terms, most) end
  local output, seen, known = letters(right, most), {}, {}
  for _, term in ipairs(terms) do for _, c in ipairs(term) do known[c] = true end end
  for _, c in ipairs(output) do
    if seen[c] then fail("'%s' stands twice in the result", c) end
    if not known[c] then fail("'%s' of the result stands in no term", c) end
    seen[c] = true
  end
  return terms, output
end

local function index_of(list, c)
  for i, v in ipairs(list) do if v == c then return i end end
end

-- Lengths of all letters; an ellipsis axis, and only it, may broadcast from 1.
local function lengths(terms, arrays)
  local size = {}
  for i, term in ipairs(terms) do
    local shape = arrays[i].shape
    for k, c in ipairs(term) do
      local n, have = shape[k], size[c]
      if have and have ~= n and not (#c > 1 and (have == 1 or n == 1)) then
        fail("'%s' has two lengths (got %d and %d)", c, have, n)
      end
      if not have or have == 1 then size[c] = n end
    end
  end
  return size
end

-- Repeated letters of a term: the diagonal.
local function take_diagonals(x, term)
  local i = 1
  while i <= #term do
    local j
    for k = i + 1, #term do if term[k] == term[i] then j = k break end end
    if j then
      local n = x:dim(i)
      local axes = {}
      for k = 1, #term do if k ~= i and k ~= j then axes[#axes + 1] = k end end
      local front = {i, j, table.unpack(axes)}
      local ids = mlax.range(1, n)
      x = x:transpose(front)[{ids, ids}]
      local rest = {term[i]}
      for _, k in ipairs(axes) do rest[#rest + 1] = term[k] end
      term = rest
      i = 1
    else
      i = i + 1
    end
  end
  return x, term
end

-- Sums the letters that nobody else wants. `wanted`: letter -> true.
local function sum_unwanted(x, term, wanted)
  local axes, rest = {}, {}
  for i, c in ipairs(term) do
    if wanted[c] then rest[#rest + 1] = c else axes[#axes + 1] = i end
  end
  if #axes == 0 then return x, term end
  return x:sum(axes, {dtype = x.dtype}), rest
end

local function wanted_by(terms, output, except_i, except_j)
  local wanted = {}
  for _, c in ipairs(output) do wanted[c] = true end
  for k, term in pairs(terms) do
    if k ~= except_i and k ~= except_j then for _, c in ipairs(term) do wanted[c] = true end end
  end
  return wanted
end

-- Broadcast axes of 1 are dropped before a pair is contracted: they stand for every position.
local function drop_ones(x, term, other, size)
  local axes, rest = {}, {}
  for i, c in ipairs(term) do
    if x:dim(i) == 1 and size[c] ~= 1 and index_of(other, c) then axes[#axes + 1] = i else rest[#rest + 1] = c end
  end
  if #axes == 0 then return x, term end
  return x:squeeze(axes), rest
end

local function contract_pair(x, a, y, b, wanted, size)
  x, a = drop_ones(x, a, b, size)
  y, b = drop_ones(y, b, a, size)
  local contract, batch, out = {{}, {}}, {{}, {}}, {}
  for i, c in ipairs(a) do
    local j = index_of(b, c)
    if j then
      local side = wanted[c] and batch or contract
      side[1][#side[1] + 1], side[2][#side[2] + 1] = i, j
      if wanted[c] then out[#out + 1] = c end
    end
  end
  for _, c in ipairs(a) do if not index_of(b, c) then out[#out + 1] = c end end
  for _, c in ipairs(b) do if not index_of(a, c) then out[#out + 1] = c end end
  return lax.dot_general(x, y, {contract = contract, batch = batch}), out
end

-- The pair whose product touches the fewest index combinations.
local function cheapest(terms, size)
  local best, bi, bj = math.huge, 1, 2
  for i = 1, #terms do
    for j = i + 1, #terms do
      local cost, seen = 1.0, {}
      for _, term in ipairs{terms[i], terms[j]} do
        for _, c in ipairs(term) do
          if not seen[c] then
            seen[c] = true
            cost = cost * size[c]
          end
        end
      end
      if cost < best then best, bi, bj = cost, i, j end
    end
  end
  return bi, bj
end

local function arrange(x, term, output, size)
  local axes, missing, shape = {}, false, {}
  for i, c in ipairs(output) do
    axes[#axes + 1] = index_of(term, c)
    shape[i] = size[c]
    missing = missing or x:dim(index_of(term, c)) ~= size[c]
  end
  local sorted = true
  for i, a in ipairs(axes) do sorted = sorted and a == i end
  if not sorted then x = x:transpose(axes) end
  if missing then x = x:broadcast_to(shape) end
  return x
end

local parsed = {}

-- Parsed equations by text and numbers of axes; the table is emptied when it grows.
local n_parsed = 0
local function parse_cached(equation, arrays)
  local ndims = {}
  for i, x in ipairs(arrays) do ndims[i] = x.ndim end
  local key = equation .. "|" .. table.concat(ndims, ",")
  local entry = parsed[key]
  if not entry then
    entry = table.pack(parse(equation, ndims))
    if n_parsed > 500 then parsed, n_parsed = {}, 0 end
    parsed[key], n_parsed = entry, n_parsed + 1
  end
  return entry[1], entry[2]
end

local M = {}

--- Sums of products, by letters for axes: `einsum("ij,jk->ik", x, y)` is the product of matrices.
-- Letters that are not in the result are summed; without `->` the result has the letters that occur once, in order of the alphabet;
-- a letter twice in a term takes the diagonal; `...` stands for further axes, which broadcast; spaces do not count.
-- @param equation the letters of each array's axes, with commas, and those of the result
-- @param ... arrays
-- @usage local x = mlax.ones{2, 3}
-- assert(mlax.einsum("ij->", x):item() == 6)
function M.einsum(equation, ...)
  if type(equation) ~= "string" then fail("the equation is no text (got %s)", core.type_name(equation)) end
  local arrays, n = {...}, select("#", ...)
  for i = 1, n do
    if type(arrays[i]) == "number" then arrays[i] = mlax.array(arrays[i]) end
    if not mlax.is_array(arrays[i]) then fail("argument %d is no array (got %s)", i + 1, core.type_name(arrays[i])) end
  end
  local parsed_terms, output = parse_cached(equation, arrays)
  local terms = {table.unpack(parsed_terms)}
  local size = lengths(terms, arrays)
  for i = 1, n do
    arrays[i], terms[i] = take_diagonals(arrays[i], terms[i])
    arrays[i], terms[i] = sum_unwanted(arrays[i], terms[i], wanted_by(terms, output, i))
  end
  while #arrays > 1 do
    local i, j = 1, 2
    if #arrays > 2 then i, j = cheapest(terms, size) end
    local wanted = wanted_by(terms, output, i, j)
    local x, term = contract_pair(arrays[i], terms[i], arrays[j], terms[j], wanted, size)
    table.remove(arrays, j)
    table.remove(terms, j)
    arrays[i], terms[i] = sum_unwanted(x, term, wanted)
  end
  return arrange(arrays[1], terms[1], output, size)
end

return M
