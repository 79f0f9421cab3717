local mlax = require "mlax"
local helper = require "spec.helper"
local nn, random, tree, F = mlax.nn, mlax.random, mlax.tree, mlax.nn.functional
local near, message = helper.near, helper.message

local function wide(model) return tree.map(function(p) return p:astype("float64") end, model) end

-- softmax(q k^T / sqrt(d)) v of lists of rows; allowed(i, j) says who sees whom.
local function attention(q, k, v, allowed)
  local out = {}
  for i = 1, #q do
    local weights, total = {}, 0
    for j = 1, #k do
      local dot = 0
      for d = 1, #q[i] do dot = dot + q[i][d] * k[j][d] end
      weights[j] = allowed(i, j) and math.exp(dot / math.sqrt(#q[i])) or 0
      total = total + weights[j]
    end
    out[i] = {}
    for d = 1, #v[1] do
      out[i][d] = 0
      for j = 1, #k do out[i][d] = out[i][d] + weights[j] / total * v[j][d] end
    end
  end
  return out
end

local function columns(rows, first, last)
  local out = {}
  for i, row in ipairs(rows) do out[i] = table.move(row, first, last, 1, {}) end
  return out
end

describe("nn.RoPE", function()
  it("turns each pair by position times frequency", function()
    local x = random.normal(random.key(0), {3, 4}, {dtype = "float64"})
    local rows, want = x:totable(), {}
    for p = 1, 3 do
      for i = 0, 1 do
        local angle = (p - 1) * 100 ^ (-2 * i / 4)
        local a, b = rows[p][2 * i + 1], rows[p][2 * i + 2]
        want[#want + 1] = a * math.cos(angle) - b * math.sin(angle)
        want[#want + 1] = a * math.sin(angle) + b * math.cos(angle)
      end
    end
    near(want, (nn.RoPE{base = 100}(x)), 1e-12)
  end)

  it("leaves products of equal distance equal", function()
    local q, k = random.normal(random.key(1), {1, 6}), random.normal(random.key(2), {1, 6})
    local rotate = nn.RoPE()
    local a, b = rotate(q:broadcast_to{5, 6}), rotate(k:broadcast_to{5, 6})
    near(a[2]:dot(b[4]), a[3]:dot(b[5]))
  end)

  it("is linear, so its gradient turns back, also under vmap and jit", function()
    local x = random.normal(random.key(0), {2, 3, 4})
    local g = mlax.grad(function(v) return (mlax.vmap(function(w) return (nn.RoPE()(w)) end)(v) * 2):square():sum() end)
    near(x * 8, g(x))
    near(x * 8, mlax.jit(g)(x))
  end)

  it("says what does not fit", function()
    assert.truthy(message(nn.RoPE(), mlax.ones{2, 3}):find(
      "RoPE: the input must be an array {..., len, depth} of floats with an even depth "
      .. "(got float32[2,3])", 1, true))
    assert.equal("RoPE: base must be positive (got 0)", message(nn.RoPE, {base = 0}))
  end)
end)

describe("nn.MultiheadAttention", function()
  local key = random.key(3)
  local q = random.normal(random.key(4), {3, 4}, {dtype = "float64"})
  local kv = random.normal(random.key(5), {5, 6}, {dtype = "float64"})

  -- The layer's result from its Dense layers and the attention of lists above.
  local function reference(layer, heads, kv_heads, inputs, allowed)
    local a, b, c = layer.query(inputs[1]):totable(), layer.key(inputs[2]):totable(), layer.value(inputs[3]):totable()
    local d, rows = #a[1] // heads, {}
    for h = 1, heads do
      local g = (h - 1) // (heads // kv_heads)
      local function group(rows_) return columns(rows_, g * d + 1, (g + 1) * d) end
      local y = attention(columns(a, (h - 1) * d + 1, h * d), group(b), group(c), allowed)
      for i = 1, #y do rows[i] = table.move(y[i], 1, d, (h - 1) * d + 1, rows[i] or {}) end
    end
    return (layer.out(mlax.array(rows, "float64")))
  end

  it("is attention of each head, between Dense layers", function()
    for _, kv_heads in ipairs{2, 1} do
      local inputs = {q, kv, kv, false}
      local y, layer = nn.MultiheadAttention(key, 2, {kv_heads = kv_heads})(inputs, key)
      assert.equal(2 * kv_heads, layer.key.linear.linear_kernel.data.shape[2])
      near(reference(layer, 2, kv_heads, inputs, function() return true end), y)
    end
  end)

  it("looks where the mask lets it, and not ahead where it is causal", function()
    local mask = mlax.array{{true, false, true, true, false}, {false, true, false, false, false}, {true, true, true, true, true}}
    local y, layer = nn.MultiheadAttention(key, 2)({q, kv, kv, mask}, key)
    local rows = mask:totable()
    near(reference(layer, 2, 2, {q, kv, kv}, function(i, j) return rows[i][j] end), y)
    y, layer = nn.MultiheadAttention(key, 2, {causal = true})({q, q, q, false}, key)
    near(reference(layer, 2, 2, {q, q, q}, function(i, j) return j <= i end), y)
  end)

  it("takes positions by rotation", function()
    local x = mlax.ones{4, 8}
    local still = nn.MultiheadAttention(key, 2, {causal = true})({x, x, x, false}, key)
    near(still[1], still[4])
    local ramp = x * mlax.range(1, 4):expand_dims(2)
    local plain = nn.MultiheadAttention(key, 2)({ramp, ramp, ramp, false}, key)
    local turned, layer = nn.MultiheadAttention(key, 2, {rope = {base = 50}})({ramp, ramp, ramp, false}, key)
    assert.equal(50, layer.rope.base)
    assert.is_true((plain - turned):abs():max():item() > 1e-3)
  end)

  it("drops weights in training only", function()
    local layer = nn.MultiheadAttention(key, 2, {dropout = 0.5})
    local x = {q, q, q, false}
    local quiet = layer(x, nil, true)
    assert.is_true((layer(x, random.key(1)) - quiet):abs():max():item() > 1e-3)
    near(layer(x, random.key(1)), (layer(x, random.key(1))))
    assert.truthy(message(layer, x):find("Dropout: a key is needed in training", 1, true))
  end)

  it("takes batches as vmap does, and is the same under jit", function()
    local layer = nn.MultiheadAttention(key, 2, {kv_heads = 1, rope = true})
    local x = random.normal(random.key(6), {2, 3, 4})
    local y = layer({x, x, x, false}, key)
    local over = mlax.vmap(function(m, v) return (m({v, v, v, false}, key)) end, {in_axes = {false, 1}})
    near(y, over(layer, x))
    near(y, mlax.jit(over)(layer, x))
  end)

  it("has the gradients of its formula", function()
    local _, layer = nn.MultiheadAttention(key, 2, {causal = true, rope = true})({q, q, q, false}, key)
    layer = wide(layer)
    local function f(x) return layer({x, x, x, false}, key):square():sum() end
    near(helper.differences(f, q), mlax.grad(f)(q), 1e-6)
  end)

  it("names what does not fit", function()
    local function text(...) return message(nn.MultiheadAttention(key, 2), ...) end
    local function holds(wanted, got) assert.truthy(got:find("MultiheadAttention: " .. wanted, 1, true)) end
    holds("k and v must have the same length (got float64[5,6] and float64[3,4])", text({q, kv, q, false}, key))
    holds("the depth of q must be a multiple of 2 heads (got 3)", text({mlax.ones{2, 3}, kv, kv}, key))
    holds("mask must be a bool array {..., len_q, len_k} (got float32[3,3])", text({q, q, q, mlax.ones{3, 3}}, key))
    holds("heads must be a multiple of kv_heads (got 4 and 3)", message(nn.MultiheadAttention, key, 4, {kv_heads = 3}))
    local model = nn.SeriesRng{nn.MultiheadAttention(key, 2)}
    assert.truthy(message(model, {q, q, 1}, key):find("layers.data[1]", 1, true))
  end)
end)

describe("nn.TransformerEncoderLayer", function()
  local key = random.key(7)
  local x = random.normal(random.key(8), {3, 4}, {dtype = "float64"})
  local mask = mlax.array{{true, true, false}, {true, true, true}, {false, true, true}}

  -- The same from its parts, whose own specs stand above.
  local function reference(m, norm_first)
    local function attend(v) return (m.attention({v, v, v, mask}, key)) end
    local function feed(v) return (m.ff_out(F.gelu((m.ff_in(v))))) end
    local function norm1(v) return (m.attention_norm(v)) end
    local function norm2(v) return (m.ff_norm(v)) end
    if norm_first then
      local y = x + attend(norm1(x))
      return y + feed(norm2(y))
    end
    local y = norm1(x + attend(x))
    return norm2(y + feed(y))
  end

  it("is attention and two Dense layers, each with its norm", function()
    for _, norm_first in ipairs{true, false} do
      local layer = nn.TransformerEncoderLayer(key, 2, 8, {activation = F.gelu, norm_first = norm_first})
      local r = layer({x, mask}, key)
      near(reference(layer, norm_first), r[1], 1e-12)
      assert.equal(mask, r[2])
    end
  end)

  it("stacks, and drops in training only", function()
    local function layer() return nn.TransformerEncoderLayer(key, 2, 8, {dropout = 0.5}) end
    local model = nn.SeriesRng{layer(), layer()}
    local quiet = model({x, false}, nil, true)[1]
    near(quiet, model({x, false}, nil, true)[1])
    assert.is_true((model({x, false}, key)[1] - quiet):abs():max():item() > 1e-3)
    assert.equal(2 * 16, #tree.leaves(model))
  end)

  it("has the gradients of its formula, under vmap and jit too", function()
    local layer = nn.TransformerEncoderLayer(key, 2, 8, {activation = mlax.tanh})
    layer({x, false}, key)
    layer = wide(layer)
    local function f(v) return layer({v, mask}, key)[1]:square():sum() end
    near(helper.differences(f, x), mlax.grad(f)(x), 1e-5)
    local many = mlax.stack({x, x * 2}, 1)
    local over = mlax.vmap(mlax.grad(f))(many)
    near(mlax.grad(f)(x * 2), over[2], 1e-9)
    near(over, mlax.jit(mlax.vmap(mlax.grad(f)))(many), 1e-9)
  end)

  it("names what does not fit", function()
    local text = message(nn.TransformerEncoderLayer(key, 3, 8), {x, false}, key)
    assert.truthy(text:find("MultiheadAttention: the depth of q must be a multiple of 3 heads (got 4)", 1, true))
    assert.truthy(text:find("attention", 1, true))
    assert.truthy(message(nn.TransformerEncoderLayer(key, 2, 8), x, key):find("TransformerEncoderLayer: ", 1, true))
  end)
end)
