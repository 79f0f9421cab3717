--- RecurrentRng: Recurrent with a cell that needs a key.
local mlax = require "mlax"
local recurrence = require "mlax.nn.recurrence"

local RecurrentRng = mlax.class("RecurrentRng")

--- nn.RecurrentRng(cell, options)
-- @param cell a module {x, h} -> {y, h}; its key is fold_in(rng, t) after t steps, none where rng is nil
-- @param options {reverse = false, unroll = 1}, as for Recurrent
-- @usage local cell = nn.FRng(function(xh, rng) return {xh[1] + random.uniform(rng), xh[2]} end)
-- local r = nn.RecurrentRng(cell)({mlax.zeros{5}, mlax.zeros{1}}, key)
-- print(r[1]:dims())   --> 5
function RecurrentRng:init(cell, options, ...) recurrence.keep(self, "RecurrentRng", cell, options, ...) end

function RecurrentRng:setup() end

--- {xs, h} -> {ys, h}: xs and ys with a leading axis of steps, the last state.
function RecurrentRng:forward(input, rng, inference_mode, batch_axis_name)
  return recurrence.run(self, "RecurrentRng", input, function(cell, xh, t)
    return cell(xh, rng and mlax.random.fold_in(rng, t), inference_mode, batch_axis_name)
  end)
end

return RecurrentRng
