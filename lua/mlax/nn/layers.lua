--- What the containers share: the list of layers, and which key goes to which.
local core = require "mlax.core"
local mlax = require "mlax"
local check = require "mlax.check"

local layers = {}

--- A copy of a constructor's list of modules as the Parameter that holds it.
function layers.parameter(op, list, ...)
  if mlax.is_module(list) then check.fail(op, "layers must be one list: nn.%s{layer, layer, ...} (got %s)", op, check.show(list)) end
  check.last(op, ...)
  if type(list) ~= "table" or getmetatable(list) ~= nil then
    check.fail(op, "layers must be a list of modules (got %s)", check.show(list))
  end
  local copy = {}
  for i = 1, #list do
    if not mlax.is_module(list[i]) then
      check.fail(op, "layers[%d] must be a module (got %s)%s", i, check.show(list[i]),
        type(list[i]) == "function" and ", wrap it: nn.F(f)" or "")
    end
    copy[i] = list[i]
  end
  for name in pairs(list) do
    if math.type(name) ~= "integer" or name < 1 or name > #copy then
      check.fail(op, "layers must be a list of modules (got the key %s)", check.show(name))
    end
  end
  return mlax.Parameter(nil, copy)
end

--- Raises if a layer of the list needs a key: the container passes none.
function layers.need_no_key(op, list)
  for i = 1, #list do
    if core.needs_rng(list[i]) then
      check.fail(op, "layers.data[%d] needs a key, use %sRng (got %s)", i, op, tostring(mlax.class_of(list[i])))
    end
  end
end

--- The keys of a list of layers, by position: fold_in(rng, i) for the i-th (from 0) of those that need one; rng itself where only one
-- does; none where rng is nil.
function layers.keys(list, rng)
  local needy, keys = {}, {}
  if rng == nil then return keys end
  for i = 1, #list do
    if core.needs_rng(list[i]) then needy[#needy + 1] = i end
  end
  for n, i in ipairs(needy) do keys[i] = #needy == 1 and rng or mlax.random.fold_in(rng, n - 1) end
  return keys
end

--- Applies layer i to input i; gives the list of results and keeps the layers' new states in the list.
function layers.side_by_side(op, list, xs, keys, inference_mode, batch_axis_name)
  if type(xs) ~= "table" or #xs ~= #list then
    check.fail(op, "the input must be a list with one entry a layer (got %s, need %d)",
      type(xs) == "table" and ("%d entries"):format(#xs) or check.show(xs), #list)
  end
  local ys = {}
  for i = 1, #list do ys[i], list[i] = list[i](xs[i], keys[i], inference_mode, batch_axis_name) end
  return ys
end

return layers
