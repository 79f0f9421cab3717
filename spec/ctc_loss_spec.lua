local mlax = require "mlax"
local helper = require "spec.helper"
local losses, random = mlax.losses, mlax.random
local near, message = helper.near, helper.message

-- What a path spells: repetitions become one, then blanks go.
local function spelt(path, blank)
  local out, before = {}, nil
  for _, class in ipairs(path) do
    if class ~= before and class ~= blank then out[#out + 1] = class end
    before = class
  end
  return table.concat(out, " ")
end

-- Minus the logarithm of the probability of all paths that spell the labels, one after another.
local function by_paths(log_probs, labels, blank)
  local classes, want, total = #log_probs[1], table.concat(labels, " "), 0
  local path = {}
  local function visit(t, log_p)
    if t > #log_probs then
      if spelt(path, blank) == want then total = total + math.exp(log_p) end
      return
    end
    for class = 1, classes do
      path[t] = class
      visit(t + 1, log_p + log_probs[t][class])
    end
    path[t] = nil
  end
  visit(1, 0)
  return -math.log(total)
end

describe("ctc_loss", function()
  local logits = random.normal(random.key(0), {3, 5, 3}, {dtype = "float64"})
  local log_probs = mlax.log_softmax(logits, -1):totable()
  local logit_paddings = mlax.array{{0, 0, 0, 0, 0}, {0, 0, 0, 0, 1}, {0, 0, 0, 1, 1}}
  local label_paddings = mlax.array{{0, 0, 0}, {0, 0, 1}, {1, 1, 1}}
  local steps, lengths = {5, 4, 3}, {3, 2, 0}
  local rows = {[1] = {{2, 3, 2}, {3, 3, 3}, {2, 2, 2}}, [3] = {{1, 1, 2}, {2, 1, 1}, {0, 9, -1}}}

  local function loss(v, blank)
    return losses.ctc_loss(v, logit_paddings, mlax.array(rows[blank], "int32"), label_paddings, {blank = blank})
  end

  it("sums over all paths that spell the labels", function()
    for blank in pairs(rows) do
      local want = {}
      for b = 1, 3 do
        want[b] = by_paths(table.move(log_probs[b], 1, steps[b], 1, {}), table.move(rows[blank][b], 1, lengths[b], 1, {}), blank)
      end
      near(want, loss(logits, blank), 1e-9)
      near(want, mlax.jit(function(v) return loss(v, blank) end)(logits), 1e-9)
    end
  end)

  it("has the gradient of its sum, which is zero where steps are padded", function()
    local function f(v) return loss(v, 1):sum() end
    local g = mlax.grad(f)(logits)
    near(helper.differences(f, logits), g, 1e-6)
    near({0, 0, 0}, g[{2, 5}])
  end)

  it("is the same for each example under vmap", function()
    local function one(v, p, l, q)
      return losses.ctc_loss(v:expand_dims(1), p:expand_dims(1), l:expand_dims(1), q:expand_dims(1))[1]
    end
    near(loss(logits, 1), mlax.vmap(one)(logits, logit_paddings, mlax.array(rows[1], "int32"), label_paddings), 1e-12)
  end)

  it("is great but finite where the labels do not fit, and takes none at all", function()
    local l = losses.ctc_loss(mlax.zeros{1, 1, 3}, mlax.zeros{1, 1}, mlax.array({{2, 3}}, "int32"), mlax.zeros{1, 2})
    assert.is_true(l[1]:item() > 9e4 and l[1]:item() < 1e6)
    near({2 * math.log(3)}, losses.ctc_loss(mlax.zeros{1, 2, 3}, mlax.zeros{1, 2}, mlax.zeros({1, 0}, "int32"), mlax.zeros{1, 0}))
  end)

  it("names what does not fit", function()
    local x, p, l, q = mlax.zeros{2, 4, 3}, mlax.zeros{2, 4}, mlax.full({2, 2}, 2, "int32"), mlax.zeros{2, 2}
    assert.equal("ctc_loss: logits must be an array {batch, steps, classes} of floats (got float32[2,4])",
      message(losses.ctc_loss, p, p, l, q))
    assert.equal("ctc_loss: labels must be integers {2, length} (got float32[2,2])", message(losses.ctc_loss, x, p, q, q))
    assert.equal("ctc_loss: logit_paddings must have the shape {2, 4} (got float32[2,2])", message(losses.ctc_loss, x, q, l, q))
    assert.equal("ctc_loss: label_paddings must have the shape {2, 2} (got float32[2,4])", message(losses.ctc_loss, x, p, l, p))
    assert.equal("ctc_loss: blank must be a class (got 4, need 1 to 3)", message(losses.ctc_loss, x, p, l, q, {blank = 4}))
    assert.is_false(pcall(losses.ctc_loss, x, p, l + 2, q))
  end)
end)
