local mlax = require "mlax"
local helper = require "spec.helper"
local message = helper.message

-- A bar whose clock goes on by `tick` seconds at each look, and the texts that it writes.
local function bar_of(iterator, options, tick)
  local t, out = 0, {}
  options.now = function() t = t + tick return t end
  options.write = function(s) out[#out + 1] = s end
  return mlax.progress(iterator, options), out
end

describe("progress", function()
  it("passes on what the iterator gives", function()
    local bar = bar_of(function() end, {total = 0}, 1)
    for _ in bar do error("nothing was to come") end
    local seen = {}
    for i in (bar_of(3, {}, 1)) do seen[#seen + 1] = i end
    assert.same({1, 2, 3}, seen)
  end)

  it("shows share, rate, time left and values", function()
    local bar, out = bar_of(4, {label = "epoch 1"}, 1)
    for i in bar do bar:set{loss = 0.5 / i, note = "ok"} end
    assert.equal("\repoch 1   25% [#####...............] 1/4  4s each  12s left  loss 0.5  note ok", out[2])
    assert.truthy(out[#out - 1]:find("100% [####################] 4/4", 1, true))
    assert.truthy(out[#out - 1]:find("loss 0.125", 1, true))
    assert.equal("\n", out[#out])
  end)

  it("is drawn at most ten times a second", function()
    local bar, out = bar_of(100, {}, 0.001)
    for _ in bar do end -- luacheck: ignore
    assert.is_true(#out <= 5)
  end)

  it("knows the number of batches by itself", function()
    local ds = mlax.data.dataset{x = mlax.ones{10}}
    assert.equal(4, (bar_of(ds:batches(3), {}, 1)).total)
  end)

  it("is quiet where there is no terminal", function()
    local bar = mlax.progress(3)
    if not require "mlax.core".isatty("stderr") then assert.is_nil(bar.write) end
    local n = 0
    for _ in bar do n = n + 1 end
    assert.equal(3, n)
  end)

  it("asks an array for its value only when it draws", function()
    local bar = bar_of(2, {}, 1)
    for _ in bar do bar:set("loss", mlax.array(0.25)) end
    assert.truthy(bar:line():find("loss 0.25", 1, true))
  end)

  it("names what is wrong", function()
    assert.equal("progress: iterator must be a function (got nil)", message(mlax.progress))
    assert.equal("progress: unknown option 'totl', did you mean 'total'? (known: total, label, write, now)",
      message(mlax.progress, 3, {totl = 3}))
  end)
end)
