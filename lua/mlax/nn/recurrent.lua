--- Recurrent: a cell over the leading axis of its input, with a state that goes from step to step.
local core = require "mlax.core"
local mlax = require "mlax"
local check = require "mlax.check"
local recurrence = require "mlax.nn.recurrence"

local Recurrent = mlax.class("Recurrent")

--- nn.Recurrent(cell, options)
-- @param cell a module {x, h} -> {y, h}; x, y and h are trees
-- @param options {reverse = false: from the last step to the first (ys stay in place), unroll = 1: how many steps one turn of the loop
--   makes; true: all of them, without a loop}
-- @usage local model = nn.Recurrent(nn.GRUCell(key, 4))
-- local r = model({mlax.ones{10, 3}, mlax.zeros{4}})
-- print(r[1].shape[1], r[1].shape[2], r[2]:dims())   --> 10 4 4
function Recurrent:init(cell, options, ...) recurrence.keep(self, "Recurrent", cell, options, ...) end

function Recurrent:setup() end

--- {xs, h} -> {ys, h}: xs and ys with a leading axis of steps, the last state. Statistics of the cell go from step to step; its
-- trainable parameters are the same at all of them. Raises where the cell needs a key ("use RecurrentRng").
function Recurrent:forward(input, _, inference_mode, batch_axis_name)
  if core.needs_rng(self.cell) then
    check.fail("Recurrent", "the cell needs a key, use RecurrentRng (got %s)", tostring(mlax.class_of(self.cell)))
  end
  return recurrence.run(self, "Recurrent", input, function(cell, xh) return cell(xh, nil, inference_mode, batch_axis_name) end)
end

return Recurrent
