--- mlax.progress(iterator, {total=, label=}): an iterator that passes on what another gives and shows how far it is: share done, rate,
-- time left, and the values that the loop reports.
--
--     local bar = mlax.progress(train:batches(128), {label = "epoch 1"})
--     for batch in bar do
--       ...
--       bar:set("loss", loss)                -- epoch 1  63% [#########.....] 296/469  51.2/s  3s left  loss 0.1207
--     end
--
-- It writes to standard error, at most ten times a second, and nothing where that is no terminal.
local mlax = require "mlax"
local check = require "mlax.check"
local terminal = require "mlax.terminal"

local WIDTH, BAR, PERIOD = 79, 20, 0.1

local Progress = {__name = "mlax.progress"}
Progress.__index = Progress

local function seconds(s)
  if s < 60 then return ("%.0fs"):format(s) end
  if s < 3600 then return ("%d:%02d"):format(s // 60, s % 60 // 1) end
  return ("%d:%02d:%02d"):format(s // 3600, s % 3600 // 60, s % 60 // 1)
end

local function rate_of(rate)
  if rate >= 1000 then return ("%.0f/s"):format(rate) end
  if rate >= 1 or rate == 0 then return ("%.4g/s"):format(rate) end
  return ("%.3gs each"):format(1 / rate)
end

-- An array's value is asked for only when it is drawn, so that nobody waits for a computation.
local function value_of(v)
  if mlax.is_array(v) then v = v:item() end
  return type(v) == "number" and terminal.number(v) or tostring(v)
end

--- The line as text, at most 79 characters.
-- @usage print(mlax.progress(10, {label = "epoch 1"}):line())
function Progress:line()
  local parts, elapsed = {}, math.max(self.now() - self.start, 1e-9)
  if self.label then parts[1] = self.label end
  if self.total then
    local share = self.total > 0 and math.min(self.count / self.total, 1) or 1
    local full = math.floor(share * BAR)
    parts[#parts + 1] = ("%3d%% [%s%s] %d/%d"):format(share * 100 // 1, ("#"):rep(full), ("."):rep(BAR - full), self.count, self.total)
  else
    parts[#parts + 1] = ("%d"):format(self.count)
  end
  local rate = self.count / elapsed
  parts[#parts + 1] = rate_of(rate)
  if self.finished then parts[#parts + 1] = "in " .. seconds(elapsed)
  elseif self.total and rate > 0 then parts[#parts + 1] = seconds((self.total - self.count) / rate) .. " left" end
  for _, name in ipairs(self.names) do parts[#parts + 1] = name .. " " .. value_of(self.values[name]) end
  return table.concat(parts, "  "):sub(1, WIDTH)
end

-- Draws over the line before, if there is somebody to see it and the last time is long enough ago.
local function draw(self, always)
  local now = self.now()
  if not self.write or (not always and now - self.drawn < PERIOD) then return end
  self.drawn = now
  local line = self:line()
  self.write("\r" .. line .. (" "):rep(self.length - #line))
  self.length = #line
end

--- Reports a value, a number, text or array of one element: bar:set("loss", 0.12), or bar:set{loss = 0.12}.
-- @param name text
-- @param value a number or an array of one element
-- @usage local bar = mlax.progress(3)
-- for i in bar do bar:set("loss", 1 / i) end
function Progress:set(name, value)
  if type(name) == "table" then
    local names = {}
    for k in pairs(name) do names[#names + 1] = k end
    table.sort(names)
    for _, k in ipairs(names) do self:set(k, name[k]) end
    return
  end
  if type(name) ~= "string" then check.fail("progress", "a value needs a name (got %s)", check.show(name)) end
  if self.values[name] == nil then self.names[#self.names + 1] = name end
  self.values[name] = value
end

--- Draws the last line and ends it; happens by itself when the iterator ends, to be called where a loop is left early.
-- @usage local bar = mlax.progress(1000)
-- for i in bar do if i == 10 then break end end
-- bar:finish()
function Progress:finish()
  if self.finished then return end
  self.finished = true
  draw(self, true)
  if self.write then self.write("\n") end
end

function Progress:__call(...)
  if self.begun then self.count = self.count + 1 else self.begun, self.start = true, self.now() end
  draw(self)
  local results = table.pack(self.iterator(...))
  if results[1] == nil then self:finish() end
  return table.unpack(results, 1, results.n)
end

local function count_to(n)
  local i = 0
  return function()
    i = i + 1
    if i <= n then return i end
  end
end

local function length_of(iterator)
  local meta = getmetatable(iterator)
  return type(iterator) ~= "function" and type(meta) == "table" and meta.__len and #iterator or nil
end

--- progress(iterator, options)
-- @function progress
-- @param iterator a function for `for` (what ds:batches gives, ...), or a number n: 1 to n
-- @param options {total = how many there will be (known by itself for a number and for batches), label = text before the bar,
--   write = function(text) in the place of standard error, now = function() -> seconds}
-- @usage for i in mlax.progress(3, {label = "epoch"}) do print(i) end   --> 1 2 3
return function(iterator, options, ...)
  local o = check.options("progress", options, "total label write now", ...)
  local total = o.total
  if math.type(iterator) then
    total = total or check.int("progress", "the count", iterator, 0)
    iterator = count_to(total)
  end
  if type(iterator) == "table" and not check.is_callable(iterator) then
    check.fail("progress", "iterator must be a function (got a table; give ds:batches(n), or a number to count to)")
  end
  check.callable("progress", "iterator", iterator)
  total = total or length_of(iterator)
  if total then check.int("progress", "total", total, 0) end
  local write = o.write
  if not write and terminal.is_terminal("stderr") then write = function(text) io.stderr:write(text) io.stderr:flush() end end
  local now = o.now or terminal.now
  return setmetatable({iterator = iterator, total = total, label = o.label, write = write, now = now, start = now(), drawn = -math.huge,
                       count = 0, length = 0, names = {}, values = {}}, Progress)
end
