local mlax = require "mlax"
local helper = require "spec.helper"
local tree, Parameter = mlax.tree, mlax.Parameter
local message = helper.message

local function raises(text, f) assert.are.equal(text, message(f)) end

describe("Parameter", function()
  it("holds trainable, data and metadata in order", function()
    local p = Parameter(true, mlax.zeros{2})
    p.unit = "m"
    p.group = 3
    local names = {}
    for name, value in pairs(p) do
      names[#names + 1] = name
      assert.is_true(value == p[name])
    end
    assert.are.same({"trainable", "data", "unit", "group"}, names)
    assert.is_nil(p.nothing)
    p.unit = nil
    assert.is_nil(p.unit)
  end)

  it("shows itself", function()
    local p = Parameter(true, mlax.zeros{2, 3})
    p.unit = "m"
    assert.are.equal('Parameter(true, float32[2,3], unit = "m")', tostring(p))
    assert.are.equal("Parameter(false, empty)", tostring(Parameter(false)))
    assert.are.equal("Parameter(nil, a tree of 2 leaves)", tostring(Parameter(nil, {1, {2}})))
  end)

  it("takes false as the empty place", function()
    local p = Parameter(true, false)
    assert.is_nil(p.data)
    p.data = 3
    p.data = false
    assert.is_nil(p.data)
    assert.is_true(tree.structure(p) == tree.structure(Parameter(true)))
  end)

  it("flattens to its data and rebuilds", function()
    local p = Parameter(true, 5)
    p.unit = "m"
    local children, aux = p:tree_flatten()
    assert.are.same({5}, children)
    local q = Parameter.tree_unflatten(aux, {7})
    assert.are.same({7, true, "m"}, {q.data, q.trainable, q.unit})
    assert.are.same({false}, (Parameter(nil):tree_flatten()))
    q.unit = "s"
    assert.are.equal("m", p.unit)
  end)

  it("follows changes of trainable and metadata in its structure", function()
    local p = Parameter(true, 5)
    local before = tree.structure(p)
    p.trainable = false
    assert.is_false(tree.structure(p) == before)
    p.trainable = true
    assert.is_true(tree.structure(p) == before)
    p.note = {1, 2}
    local noted = tree.structure(p)
    assert.is_false(noted == before)
    p.note[2] = 3
    assert.is_false(tree.structure(p) == noted)
    p.note[2] = 2
    assert.is_true(tree.structure(p) == noted)
    p.note = nil
    assert.is_true(tree.structure(p) == before)
  end)

  it("keeps metadata through map, whoever looks first", function()
    local p = Parameter(false, {w = 2})
    p.note = "n"
    local q = tree.map(function(v) return v + 1 end, {p})[1]
    assert.are.same({"n", 3, false}, {q.note, q.data.w, q.trainable})
  end)

  it("checks its arguments", function()
    raises("Parameter: trainable must be true, false or nil (got 3)", function() Parameter(3) end)
    raises("Parameter: two arguments are taken, trainable and data (got 3)", function() Parameter(true, 1, 2) end)
    local p = Parameter(true)
    raises("Parameter: trainable must be true, false or nil (got 2)", function() p.trainable = 2 end)
    raises("Parameter: a Parameter has named fields (got the key 1)", function() p[1] = 2 end)
    raises("Parameter: 'tree_flatten' is a method of Parameters, no field", function() p.tree_flatten = 2 end)
  end)

  it("refuses values of a transformation to which it was not passed", function()
    local p = Parameter(true, mlax.zeros{2})
    raises("Parameter: the module was captured, not passed: it cannot take a value of the running transformation "
      .. "(pass it as an argument, and return it)", function() mlax.grad(function(x) p.data = x return x:sum() end)(mlax.zeros{2}) end)
    raises("Parameter: a traced array cannot be metadata (field 'note'), put it into data",
      function() mlax.grad(function(x) Parameter(true).note = x return x:sum() end)(mlax.zeros{2}) end)
  end)

  it("answers the predicates", function()
    local function all(v)
      return {mlax.is_parameter(v), mlax.is_leaf_param(v), mlax.is_trainable_param(v), mlax.is_non_trainable_param(v)}
    end
    assert.are.same({true, true, true, false}, all(Parameter(true)))
    assert.are.same({true, true, false, true}, all(Parameter(false)))
    assert.are.same({true, false, false, false}, all(Parameter(nil)))
    assert.are.same({false, false, false, false}, all(nil))
    assert.are.same({false, false, false, false}, all({trainable = true}))
    assert.is_true(mlax.class_of(Parameter(true)) == Parameter)
    assert.is_true(mlax.is_a(Parameter(true), Parameter))
  end)
end)
