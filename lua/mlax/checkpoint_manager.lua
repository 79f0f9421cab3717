--- mlax.checkpoint_manager(dir, {keep=}): the states of a long training in a folder, a file each, of which the last `keep` stay.
--
--     local manager = assert(mlax.checkpoint_manager("run", {keep = 3}))
--     local state = {model = model, opt = opt_state, key = key}
--     local from, step = manager:restore(state)            -- nil where there is none yet
--     state, step = from or state, step or 0
--     while step < steps do
--       state, step = train(state, step), step + 1
--       if step % 100 == 0 then assert(manager:save(step, state)) end
--     end
--
-- A process that is killed leaves the last whole checkpoint. All that the next step depends on belongs into the tree (parameters,
-- optimizer state, keys); then a run that is taken up again is bit for bit the one that was never stopped. One process at a time may
-- write into a folder.
local core = require "mlax.core"
local mlax = require "mlax"
local check = require "mlax.check"

local Manager = {__name = "mlax.checkpoint_manager"}
Manager.__index = Manager

local KEEP = 2 -- the last one and, should it be damaged, the one before

function Manager:__tostring() return ("checkpoint_manager of '%s', keep = %d"):format(self.dir, self.keep) end

local function check_self(name, self) check.self("checkpoint_manager", Manager, self, name) end

local function path_of(self, step) return ("%s/step-%08d.safetensors"):format(self.dir, step) end

-- The steps in the folder, rising, and the names of files that a killed process left unfinished; nil, message.
local function listed(self)
  local names, message = core.list_directory(self.dir)
  if not names then return nil, message end
  local steps, unfinished = {}, {}
  for _, name in ipairs(names) do
    local step = math.tointeger(tonumber(name:match("^step%-(%d+)%.safetensors$")))
    if step and path_of(self, step) == self.dir .. "/" .. name then steps[#steps + 1] = step end
    if name:find("^step%-%d+%.safetensors%..*%.tmp$") then unfinished[#unfinished + 1] = name end
  end
  table.sort(steps)
  return steps, unfinished
end

-- Removes all but the last `keep` checkpoints, never the one of `step`; nil, message.
local function remove_old(self, step, steps)
  local excess = #steps - self.keep
  for _, old in ipairs(steps) do
    if excess <= 0 then break end
    if old ~= step then
      local ok, message = core.remove_file(path_of(self, old))
      if not ok then return nil, message end
      excess = excess - 1
    end
  end
  return true
end

--- Writes the checkpoint of a step, and removes those that are too many.
-- @param step an integer from 0 on
-- @param t a tree of arrays and numbers
-- @return true; nil, message where a file cannot be written or removed
-- @usage local manager = mlax.checkpoint_manager(folder, {keep = 2})
-- for step = 1, 3 do assert(manager:save(step, {w = mlax.array(step)})) end
-- print(table.concat(manager:steps(), " "), manager:latest())   --> 2 3 3
-- print(manager:restore{w = mlax.zeros{}}.w)   --> float32[] 3
function Manager:save(step, t, ...)
  check_self("save", self)
  check.last("checkpoint_manager", ...)
  step = check.int("checkpoint_manager", "step", step, 0)
  local ok, message = mlax.save(path_of(self, step), t)
  if not ok then return nil, message end
  local steps, unfinished = listed(self)
  if not steps then return nil, unfinished end
  for _, name in ipairs(unfinished) do
    ok, message = core.remove_file(self.dir .. "/" .. name)
    if not ok then return nil, message end
  end
  return remove_old(self, step, steps)
end

--- Reads a checkpoint.
-- @param template a tree like the one that was saved, as for mlax.load
-- @param options {step = the last one}
-- @return a copy of the template with the saved values, and the step; nil where there is no checkpoint; nil, message where it cannot be
--   read or does not fit
-- @usage local manager = mlax.checkpoint_manager(folder)
-- print((manager:restore{w = mlax.zeros{}}))   --> nil
-- assert(manager:save(7, {w = mlax.ones{}}))
-- local tree, step = manager:restore{w = mlax.zeros{}}
-- print(tree.w, step)   --> float32[] 1 7
function Manager:restore(template, options, ...)
  check_self("restore", self)
  local o = check.options("checkpoint_manager", options, "step", ...)
  if template == nil then check.fail("checkpoint_manager", "restore needs a template: a tree like the one that was saved") end
  local step, message
  if o.step then step = check.int("checkpoint_manager", "step", o.step, 0) else step, message = self:latest() end
  if not step then return nil, message end
  local t, problem = mlax.load(path_of(self, step), template)
  if t == nil then return nil, problem end
  return t, step
end

--- The last step that was saved; nil where there is none; nil, message.
-- @usage print(mlax.checkpoint_manager(folder):latest())   --> nil
function Manager:latest(...)
  check_self("latest", self)
  check.last("checkpoint_manager", ...)
  local steps, message = self:steps()
  if not steps then return nil, message end
  return steps[#steps]
end

--- The steps of all checkpoints, rising; nil, message.
-- @usage print(#mlax.checkpoint_manager(folder):steps())   --> 0
function Manager:steps(...)
  check_self("steps", self)
  check.last("checkpoint_manager", ...)
  local steps, message = listed(self)
  if not steps then return nil, message end
  return steps
end

--- A manager of the checkpoints in a folder, which is made where it is not there.
-- @function checkpoint_manager
-- @param dir the folder; its parent must exist
-- @param options {keep = 2: how many checkpoints stay}
-- @return a manager with the methods save, restore, latest, steps; nil, message
-- @usage local manager = mlax.checkpoint_manager(folder, {keep = 3})
-- print(manager.keep)   --> 3
return function(dir, options, ...)
  local o = check.options("checkpoint_manager", options, "keep", ...)
  if type(dir) ~= "string" then check.fail("checkpoint_manager", "dir must be a string (got %s)", check.show(dir)) end
  local keep = o.keep == nil and KEEP or check.int("checkpoint_manager", "keep", o.keep, 1)
  local ok, message = core.make_directory(dir)
  if not ok then return nil, message end
  return setmetatable({dir = dir, keep = keep}, Manager)
end
