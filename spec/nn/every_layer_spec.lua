-- What holds for every layer: a gradient that differences confirm, the same result under jit and, by example, under vmap, the dtype of the
-- input, and a message that names layer, path, what came and what is needed where the shape is wrong. One row a layer; a class of mlax.nn
-- without a row fails.
local mlax = require "mlax"
local helper = require "spec.helper"
local nn, random, tree = mlax.nn, mlax.random, mlax.tree
local near, message = helper.near, helper.message

local key = random.key(7)

local function normal(...) return random.normal(random.fold_in(key, select("#", ...)), {...}) end
local function zeros(n) return mlax.zeros{n} end
local function ids(...) return mlax.array({...}, "int32") end

-- {class, how a layer is made, its input, a wrong input, the message for that}
local rows = {
  {"Linear", function() return nn.Linear(key, 2) end, normal(3, 4), normal(3, 5),
    "Linear: the last axis of the input must have length 4 (got float32[3,5]) in model.layers.data[1] (Linear)"},
  {"Bias", function() return nn.Bias(key, -1) end, normal(3, 4), normal(3, 5),
    "Bias: the input does not fit the kernel, in_features {-1} of its last axes (got float32[3,5], kernel float32[4]) in "
    .. "model.layers.data[1] (Bias)"},
  {"Scaler", function() return nn.Scaler(key, {-1, 0}) end, normal(3, 4), normal(5, 4),
    "Scaler: the input does not fit the kernel, in_features {-1, 0} of its last axes (got float32[5,4], kernel float32[3]) in "
    .. "model.layers.data[1] (Scaler)"},
  {"Conv", function() return nn.Conv(key, 2, 3, {strides = 2, padding = "SAME"}) end, normal(5, 4, 2), normal(5, 4, 3),
    "Conv: the input must have 2 channels (got float32[5,4,3]) in model.layers.data[1] (Conv)"},
  {"ConvTranspose", function() return nn.ConvTranspose(key, 2, 3, {strides = 2}) end, normal(3, 2, 2), normal(3, 2, 4),
    "ConvTranspose: the input must have 2 channels (got float32[3,2,4]) in model.layers.data[1] (ConvTranspose)"},
  {"Embed", function() return nn.Embed(key, 5, 3) end, ids(1, 5, 1), ids(1, 9),
    "Embed: index 9 is out of range on axis 1 (got 9, need 1..5) in model.layers.data[1] (Embed)"},
  {"ZNorm", function() return nn.ZNorm(key, "channel_last") end, normal(3, 4), normal(3, 5),
    "ZNorm: the axes that are not reduced must have the lengths {4} (got float32[3,5]) in model.layers.data[1] (ZNorm)"},
  {"F", function() return nn.F(function(x) return x:matmul(x) end) end, normal(3, 3), normal(3, 4),
    "matmul: shapes do not fit (got float32[3,4] and float32[3,4], need the last axis of the first as long as the last but one of the "
    .. "second) in model.layers.data[1] (F)"},
  {"FRng", function() return nn.FRng(function(x, rng) return x * random.uniform(rng, {3, 4}):astype(x.dtype) end) end, normal(3, 4),
    normal(3, 5), "mul: shapes do not broadcast (got float32[3,5] and float32[3,4], need lengths that are equal or 1) in "
    .. "model.layers.data[1] (FRng)"},
  {"Series", function() return nn.Series{nn.Linear(key, 3), nn.Bias(key, -1)} end, normal(2, 4), normal(2, 5),
    "Linear: the last axis of the input must have length 4 (got float32[2,5]) in model.layers.data[1].layers.data[1] (Linear)"},
  {"SeriesRng", function() return nn.SeriesRng{nn.Linear(key, 3), nn.Dropout(0.5)} end, normal(2, 4), normal(2, 5),
    "Linear: the last axis of the input must have length 4 (got float32[2,5]) in model.layers.data[1].layers.data[1] (Linear)"},
  {"Parallel", function() return nn.Parallel{nn.Linear(key, 2), nn.Bias(key, -1)} end, {normal(3, 4), normal(2)}, {normal(3, 4)},
    "Parallel: the input must be a list with one entry a layer (got 1 entries, need 2) in model.layers.data[1] (Parallel)"},
  {"ParallelRng", function() return nn.ParallelRng{nn.Linear(key, 2), nn.Dropout(0.5)} end, {normal(3, 4), normal(2)}, {normal(3, 4)},
    "ParallelRng: the input must be a list with one entry a layer (got 1 entries, need 2) in model.layers.data[1] (ParallelRng)"},
  {"Recurrent", function() return nn.Recurrent(nn.GRUCell(key, 3), {reverse = true}) end, {normal(4, 2), zeros(3)},
    {normal(4, 5), zeros(3)}, "GRUCell: x must be an array {..., 2} of floats (got float32[5]) in GRUCell, called by "
    .. "model.layers.data[1] (Recurrent)"},
  {"RecurrentRng", function() return nn.RecurrentRng(nn.LSTMCell(key, 3)) end, {normal(4, 2), {zeros(3), zeros(3)}},
    {normal(4, 5), {zeros(3), zeros(3)}}, "LSTMCell: x must be an array {..., 2} of floats (got float32[5]) in LSTMCell, called by "
    .. "model.layers.data[1] (RecurrentRng)"},
  {"Dense", function() return nn.Dense(key, 2) end, normal(3, 4), normal(3, 5),
    "Linear: the last axis of the input must have length 4 (got float32[3,5]) in model.layers.data[1].linear (Linear)"},
  {"Dropout", function() return nn.Dropout(0.5) end, normal(3, 4), "x",
    "Dropout: x must be an array (got \"x\") in model.layers.data[1] (Dropout)"},
  {"LayerNorm", function() return nn.LayerNorm(key) end, normal(3, 4), normal(3, 5),
    "LayerNorm: the axes of scale and bias must have the lengths {4} (got float32[3,5]) in model.layers.data[1] (LayerNorm)"},
  {"RMSNorm", function() return nn.RMSNorm(key) end, normal(3, 4), normal(3, 5),
    "RMSNorm: the axes of scale and bias must have the lengths {4} (got float32[3,5]) in model.layers.data[1] (RMSNorm)"},
  {"GroupNorm", function() return nn.GroupNorm(key, 2) end, normal(3, 4), normal(3, 6),
    "GroupNorm: the axes of scale and bias must have the lengths {4} (got float32[3,6]) in model.layers.data[1] (GroupNorm)"},
  {"BatchNorm", function() return nn.BatchNorm(key) end, normal(3, 4), normal(3, 5),
    "ZNorm: the axes that are not reduced must have the lengths {4} (got float32[3,5]) in model.layers.data[1].norm (ZNorm)"},
  {"MaxPool", function() return nn.MaxPool(2) end, normal(3, 3, 2), normal(3),
    "MaxPool: the input must have spatial axes and one of channels (got float32[3]) in model.layers.data[1] (MaxPool)"},
  {"AvgPool", function() return nn.AvgPool({2, 1}) end, normal(3, 3, 2), normal(3, 2),
    "AvgPool: window_shape must be a number or a list of one for each spatial axis (got 2, need 1) in model.layers.data[1] (AvgPool)"},
  {"LSTMCell", function() return nn.LSTMCell(key, 3) end, {normal(2), {normal(3), normal(3)}}, {normal(2), {zeros(3), zeros(4)}},
    "LSTMCell: c must be an array {..., 3} of floats (got float32[4]) in model.layers.data[1] (LSTMCell)"},
  {"GRUCell", function() return nn.GRUCell(key, 3) end, {normal(2), normal(3)}, {normal(2), zeros(4)},
    "GRUCell: h must be an array {..., 3} of floats (got float32[4]) in model.layers.data[1] (GRUCell)"},
  {"MultiheadAttention", function() return nn.MultiheadAttention(key, 2, {kv_heads = 1, rope = true, dropout = 0.5}) end,
    {normal(2, 4), normal(3, 4), normal(3, 4), mlax.array{{true, false, true}, {true, true, true}}},
    {normal(2, 4), normal(3, 4), normal(3, 4), mlax.ones({2, 5}, "bool")},
    "MultiheadAttention: axis -1 of mask must have length 3 or 1, for logits {..., len_q, len_k} (got bool[1,2,5]) in "
    .. "model.layers.data[1] (MultiheadAttention)"},
  {"TransformerEncoderLayer", function() return nn.TransformerEncoderLayer(key, 2, 3, {activation = nn.functional.gelu}) end,
    {normal(2, 4), false}, {normal(2, 6), false},
    "LayerNorm: the axes of scale and bias must have the lengths {4} (got float32[2,6]) in "
    .. "model.layers.data[1].attention_norm (LayerNorm)"},
  {"RoPE", function() return nn.RoPE() end, normal(3, 4), normal(3, 5),
    "RoPE: the input must be an array {..., len, depth} of floats with an even depth (got float32[3,5]) in model.layers.data[1] (RoPE)"},
}

local function is_float(x) return mlax.is_array(x) and x.dtype:find("float", 1, true) ~= nil end

-- The floats of a tree in another dtype.
local function cast(t, dtype)
  return tree.map(function(x) return is_float(x) and x:astype(dtype) or x end, t)
end

-- A layer that has seen its input; all of it in float64 where it is asked for.
local function made(row, dtype)
  local layer = row[2]()
  layer(row[3], key)
  return dtype and cast(layer, dtype) or layer
end

local function arrays(t)
  local list = {}
  for _, leaf in ipairs(tree.leaves(t)) do
    if mlax.is_array(leaf) then list[#list + 1] = leaf end
  end
  return list
end

local function leaves_near(want, got, tolerance)
  local a, b = arrays(want), arrays(got)
  assert.equal(#a, #b)
  for i = 1, #a do near(a[i], b[i], tolerance) end
end

-- Each leaf of a tree twice, the second time different, along a new first axis; and example i of that.
local function pair_of(t)
  return tree.map(function(x)
    if not mlax.is_array(x) then return x end
    return mlax.stack({x, is_float(x) and x * 0.5 + 0.25 or x}, 1)
  end, t)
end

local function example(t, i) return tree.map(function(x) return mlax.is_array(x) and x[i] or x end, t) end

describe("every layer", function()
  it("has a row", function()
    local rows_of, classes = {}, {}
    for _, row in ipairs(rows) do rows_of[row[1]] = true end
    for name in pairs(nn) do
      if name:match("^%u") then classes[#classes + 1] = name end
    end
    assert.is_true(#classes > 20)
    for _, name in ipairs(classes) do assert.is_true(rows_of[name] == true, name .. " has no row in this file") end
  end)

  for _, row in ipairs(rows) do
    describe("nn." .. row[1], function()
      it("has the gradient that differences give, by its parameters and by its input", function()
        local trainable, frozen = made(row, "float64"):partition()
        mlax.gradcheck(function(m, x) return (m:combine(frozen)(x, key)) end, {trainable, row[3]})
      end)

      it("gives the same under jit", function()
        local layer, x = made(row), row[3]
        local function call(m, v) return (m(v, key)) end
        leaves_near(call(layer, x), mlax.jit(call)(layer, x))
      end)

      it("gives each example of a vmap what it gives it alone", function()
        local layer, xs = made(row), pair_of(row[3])
        local ys = mlax.vmap(function(m, x) return (m(x, key)) end, {in_axes = {false, 1}})(layer, xs)
        for i = 1, 2 do leaves_near((layer(example(xs, i), key)), example(ys, i)) end
      end)

      it("computes in the dtype of its input", function()
        local y = made(row)(row[3], key)
        for _, leaf in ipairs(arrays(y)) do assert.equal("float32", leaf.dtype) end
        if row[1] == "Embed" then return end -- its input has no say
        local low = made(row)(cast(row[3], "bfloat16"), key)
        for _, leaf in ipairs(arrays(low)) do assert.equal("bfloat16", leaf.dtype) end
        leaves_near(y, low, 0.06)
      end)

      it("says what is wrong with a shape", function()
        local model = nn.SeriesRng{row[2]()}
        model(row[3], key)
        assert.equal(row[5], message(model, row[4], key))
      end)
    end)
  end
end)
