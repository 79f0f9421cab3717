--- Random programs under random towers of transformations: eager, compiled, by loops, with the storeys exchanged, and by differences they
-- are the same function. A failure prints the smallest program that still fails.
--
--     MLAX_PROGRAMS=5000 MLAX_SEED=7 make test SUITES=spec       more programs, others
local mlax = require "mlax"
local programs = require "spec.support.programs"
local tensor = require "spec.support.tensor"

local count = math.tointeger(tonumber(os.getenv("MLAX_PROGRAMS") or 2000))
local seed = os.getenv("MLAX_SEED") or "1"

local function fails(case)
  local difference = programs.check(case)
  return difference ~= nil and difference ~= "skip"
end

-- Fails in the same way as another difference: a case that was shrunk to nonsense raises, which is no smaller failure.
local function fails_like(difference)
  local way = difference:match("^%w+:?")
  return function(case)
    local other = programs.check(case)
    return other and other ~= "skip" and other:match("^%w+:?") == way
  end
end

describe("random programs", function()
  it(("agree in every order of transformations (%d programs, MLAX_SEED=%s)"):format(count, seed), function()
    local skipped = 0
    io.stderr:write(("random programs: MLAX_PROGRAMS=%d MLAX_SEED=%s\n"):format(count, seed))
    for k = 1, count do
      local case = programs.generate(tensor.random(seed .. ":" .. k))
      local difference = programs.check(case)
      if difference == "skip" then
        skipped = skipped + 1
      elseif difference then
        local small = programs.shrink(case, fails_like(difference))
        error(("program %d of seed %s fails; the smallest that does:\n%s\n%s"):format(k, seed, programs.describe(small),
          programs.check(small)), 0)
      end
    end
    assert(skipped <= count // 20, skipped .. " programs have no finite result")
  end)
end)

-- A case whose one node is `code` of the input x.
local function case_of(code, ...)
  return {inputs = {{3}}, nodes = {{code = code, args = {1}, shape = {3}}}, outputs = {2}, tower = {...}, seed = "1",
    modes = {"native", "loop", "swap", "difference", "passes"}}
end

describe("the check of random programs", function()
  local by_grad, by_jvp = {kind = "grad", arg = 1, style = "grad"}, {kind = "jvp", arg = 1, style = "jvp"}
  local mapped = {kind = "vmap", axes = {1}, out = 1, size = 2}

  it("passes what is right", function()
    assert.is_nil(programs.check(case_of("$1:sin()", {kind = "jit"}, by_grad, mapped, by_jvp)))
  end)

  it("notices wrong derivatives", function()
    assert.is_true(fails(case_of("$1 * mlax.stop_gradient($1)", by_grad)))
    assert.is_true(fails(case_of("$1 * mlax.stop_gradient($1)", by_jvp)))
    assert.is_true(fails(case_of("$1:square() * mlax.stop_gradient($1)", by_grad, by_jvp)))
  end)

  it("notices that compiled or mapped code differs", function()
    mlax.drift = function(x)
      mlax.drifted = (rawget(mlax, "drifted") or 0) + 1
      return x + mlax.drifted
    end
    assert.is_true(fails(case_of("mlax.drift($1)", {kind = "jit"})))
    assert.is_true(fails(case_of("mlax.drift($1)", mapped)))
    mlax.drift, mlax.drifted = nil, nil
  end)
end)

describe("the shrinker", function()
  it("leaves the nodes and the transformations that matter", function()
    local found, k = nil, 0
    local function wrong(case)
      local storeys = {}
      for _, s in ipairs(case.tower) do storeys[s.kind] = true end
      return storeys.grad and programs.text(case):find(":tanh()", 1, true) ~= nil
    end
    while not found do
      k = k + 1
      local case = programs.generate(tensor.random("shrink:" .. k))
      found = wrong(case) and programs.size(case) > 5 and #case.tower > 1 and case
    end
    local small = programs.shrink(found, wrong)
    assert.are.equal(1, #small.tower)
    assert.are.equal("grad", small.tower[1].kind)
    assert.is_true(programs.size(small) < programs.size(found))
    assert.are.equal(1, #small.outputs)
    assert.is_true(programs.size(small) <= 3, programs.describe(small))
  end)
end)
