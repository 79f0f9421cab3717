--- dataset{x = ..., y = ...}: arrays with one example along axis 1 each, side by side.
--
--     local ds = mlax.data.dataset{x = mlax.ones{100, 3}, y = mlax.ones({100}, "int32")}
--     for batch in ds:batches(32, {shuffle = random.key(0)}) do print(batch.x, batch.y) end
--
-- `ds.x` is the array, `#ds` the number of examples, `ds[i]` the table of example i. Any other field of the table (a string, a list: the
-- names of classes) is kept beside the arrays and stays out of the batches.
local core = require "mlax.core"
local mlax = require "mlax"
local check = require "mlax.check"

local methods = {}
local Dataset = {__name = "mlax.data.dataset"}

-- ds -> {arrays = {name = array}, n = examples, extra = {}, map = f or nil}; behind a weak table, so that every field name is free
local private = setmetatable({}, {__mode = "k"})

local function make(arrays, n, extra, map)
  local ds = setmetatable({}, Dataset)
  private[ds] = {arrays = arrays, n = n, extra = extra, map = map}
  return ds
end

-- The same dataset with other arrays.
local function with(ds, arrays, n) return make(arrays, n, private[ds].extra, private[ds].map) end

local function each(arrays, f)
  local out = {}
  for name, x in pairs(arrays) do out[name] = f(x) end
  return out
end

function Dataset:__index(key)
  if methods[key] then return methods[key] end
  local p = private[self]
  if math.type(key) == "integer" then return self:example(key) end
  local v = p.arrays[key]
  if v == nil then v = p.extra[key] end
  if v ~= nil then return v end
  local names = {}
  for name in pairs(p.arrays) do names[#names + 1] = name end
  table.sort(names)
  check.fail("dataset", "no field '%s' (has %s)", tostring(key), table.concat(names, ", "))
end

function Dataset:__newindex(key) check.fail("dataset", "a dataset does not change (got a value for '%s')", tostring(key)) end

function Dataset:__len() return private[self].n end

function Dataset:__pairs() return pairs(private[self].arrays) end

function Dataset:__tostring()
  local p, parts = private[self], {}
  for name, x in pairs(p.arrays) do parts[#parts + 1] = name .. " = " .. check.show(x) end
  table.sort(parts)
  return ("dataset of %d: %s"):format(p.n, table.concat(parts, ", "))
end

local function mapped(ds, batch)
  local map = private[ds].map
  return map and map(batch) or batch
end

--- The table of example i, which counts from 1 or from -1 backwards.
-- @usage local ds = data.dataset{x = mlax.array{{1, 2}, {3, 4}}}
-- print(ds[2].x)   --> float32[2] [3 4]
function methods:example(i)
  local n = #self
  if i == 0 then check.fail("dataset", "index 0: examples count from 1") end
  if i > n or i < -n then check.fail("dataset", "index %d is outside the dataset (need 1 to %d)", i, n) end
  i = i < 0 and n + 1 + i or i
  if not private[self].map then return each(private[self].arrays, function(x) return x[i] end) end
  return mlax.tree.map(function(x) return mlax.is_array(x) and x[1] or x end,
    mapped(self, each(private[self].arrays, function(x) return x[{{i, i}}] end)))
end

-- Rows a to b, in an order: one gather an array.
local function rows(ds, order, a, b)
  if not order then return each(private[ds].arrays, function(x) return x[{{a, b}}] end) end
  local ids = order[{{a, b}}]
  return each(private[ds].arrays, function(x) return x:take(ids, 1) end)
end

--- An iterator over batches, tables of the same names.
-- @param size examples a batch
-- @param options {shuffle = key: in the order permutation(key, #ds); drop_last = false: whether a last short batch is left out;
--   ahead: whether a thread prepares the next batch while this one is in use (the batches are the same). Default: yes where there is
--   more than one thread, no in programs that embed mlax. A map's function runs when its batch is asked for.}
-- @return a function for `for`; # gives the number of batches
-- @usage local ds = data.dataset{x = mlax.range(1, 10)}
-- for batch in ds:batches(4) do print(batch.x) end   --> int32[4] [1 2 3 4] int32[4] [5 6 7 8] int32[2] [ 9 10]
-- print(#ds:batches(4, {shuffle = key, drop_last = true}))   --> 2
function methods:batches(size, options, ...)
  local o = check.options("batches", options, "shuffle drop_last ahead", ...)
  size = check.int("batches", "size", size, 1)
  local order = o.shuffle and mlax.random.permutation(check.key("batches", "shuffle", o.shuffle), #self)
  local n = #self
  local last = o.drop_last and n - n % size or n
  local names, arrays = {}, {}
  for name, x in pairs(private[self].arrays) do names[#names + 1], arrays[#arrays + 1] = name, x end
  local ahead = o.ahead
  if ahead == nil then ahead = core.reads_ahead() end
  local source = core.batches(arrays, order, size, last, ahead)
  return setmetatable({}, {
    __index = function() check.fail("batches", "batches are not counted out: write for batch in ds:batches(n) do") end,
    __len = function() return (last + size - 1) // size end,
    __call = function()
      local list = core.batches_next(source)
      if not list then return nil end
      local batch = {}
      for i, name in ipairs(names) do batch[name] = list[i] end
      return mapped(self, batch)
    end,
  })
end

--- A dataset whose batches are f(batch), a function from a table of arrays to another.
-- @usage local ds = data.dataset{x = mlax.range(1, 3)}:map(function(batch) return {x = batch.x * 2} end)
-- print(ds[3].x)   --> int32[] 6
function methods:map(f, ...)
  check.last("map", ...)
  check.callable("map", "f", f)
  local p = private[self]
  local before = p.map
  return make(p.arrays, p.n, p.extra, before and function(batch) return f(before(batch)) end or f)
end

--- The first n examples.
-- @usage print(#data.dataset{x = mlax.ones{10, 2}}:take(3))   --> 3
function methods:take(n, ...)
  check.last("take", ...)
  n = math.min(check.int("take", "n", n, 0), #self)
  return with(self, each(private[self].arrays, function(x) return x[{{1, n}}] end), n)
end

--- Two datasets: floor(fraction * #ds) examples, and the others.
-- @param fraction between 0 and 1
-- @param key examples are drawn in the order permutation(key, #ds); nil: as they stand
-- @usage local part, rest = data.dataset{x = mlax.ones{10, 2}}:split(0.8, key)
-- print(#part, #rest)   --> 8 2
function methods:split(fraction, key, ...)
  check.last("split", ...)
  check.number("split", "fraction", fraction)
  if not (fraction >= 0 and fraction <= 1) then check.fail("split", "fraction must lie in [0, 1] (got %s)", tostring(fraction)) end
  local n = #self
  local order = key and mlax.random.permutation(check.key("split", "key", key), n)
  -- 0.7 * 10 is a little less than 7: the nearest integer counts where the product is one up to rounding
  local first = math.floor(fraction * n + 1e-9 * n)
  return with(self, rows(self, order, 1, first), first), with(self, rows(self, order, first + 1, n), n - first)
end

--- dataset{name = array, ...}
-- All arrays have the same length along axis 1.
-- @function dataset
-- @param fields arrays, and whatever else belongs to them, by name
-- @usage local ds = data.dataset{x = mlax.ones{100, 3}, y = mlax.ones({100}, "int32"), classes = {"cat", "dog"}}
-- print(#ds, ds.classes[2])   --> 100 dog
return function(fields, ...)
  check.last("dataset", ...)
  if type(fields) ~= "table" then check.fail("dataset", "a table of arrays is needed (got %s)", check.show(fields)) end
  local arrays, extra, n, named = {}, {}, nil, nil
  for name, x in pairs(fields) do
    if type(name) ~= "string" or methods[name] then
      check.fail("dataset", "a field cannot be named '%s' (need a string that is no method of a dataset)", tostring(name))
    end
    if type(x) == "table" and math.type(x[1]) then
      check.fail("dataset", "%s must be an array (got a list of numbers): mlax.array(list), with \"int32\" for labels", name)
    elseif not mlax.is_array(x) then extra[name] = x
    elseif x.ndim == 0 then check.fail("dataset", "%s must have an axis of examples (got %s)", name, check.show(x))
    elseif n and #x ~= n then
      check.fail("dataset", "%s has %d examples, %s has %d", name, #x, named, n)
    else
      arrays[name], n, named = x, #x, name
    end
  end
  if not n then check.fail("dataset", "a table with at least one array is needed") end
  return make(arrays, n, extra)
end
