-- What a name that does not exist is answered with.
local mlax = require "mlax"
local message = require "spec.helper".message

describe("a name that is not there", function()
  it("is guessed from the names beside it", function()
    assert.equal("nn: there is no mlax.nn.Liner, did you mean mlax.nn.Linear?", message(function() return mlax.nn.Liner end))
    assert.equal("metrics: there is no mlax.metrics.acc, did you mean mlax.metrics.accuracy?",
      message(function() return mlax.metrics.acc end))
    assert.equal("optim: there is no mlax.optim.Adam, did you mean mlax.optim.adam?", message(function() return mlax.optim.Adam end))
  end)

  it("is looked for in the other namespaces", function()
    for name, place in pairs{ReLU = "nn.functional.relu", he_normal = "nn.initializers.he_normal", sgd = "optim.sgd", matmul = "matmul"} do
      assert.equal(("nn: there is no mlax.nn.%s, did you mean mlax.%s?"):format(name, place), message(function() return mlax.nn[name] end))
    end
    assert.equal("mlax: there is no mlax.randn, did you mean mlax.random.normal?", message(function() return mlax.randn end))
  end)

  it("is known from other libraries", function()
    assert.equal("mlax: there is no mlax.tensor, did you mean mlax.array?", message(function() return mlax.tensor end))
    assert.equal('mlax: there is no mlax.float16: a dtype is given by its name, "float16"', message(function() return mlax.float16 end))
    assert.equal("index: an array has no field 'view', did you mean 'reshape'?", message(function() return mlax.ones{2}.view end))
    assert.equal("index: an array has no field 'relu', did you mean mlax.nn.functional.relu?",
      message(function() return mlax.ones{2}:relu() end))
    assert.equal("index: an array has no field 'concat', did you mean mlax.concat?", message(function() return mlax.ones{2}:concat() end))
  end)

  it("has no guess where nothing is near", function()
    assert.equal("random: there is no mlax.random.frobnicate", message(function() return mlax.random.frobnicate end))
  end)
end)

describe("misuse that newcomers are likely to make", function()
  local x = mlax.ones{2, 3}

  it("of shapes and dtypes is answered with what to write", function()
    assert.equal("reshape: one argument too many (got 2 after 3; numbers that belong together are one list, {3, 2})",
      message(function() return x:reshape(3, 2) end))
    assert.equal('zeros: the dtype is an argument of its own (got the option dtype = "int32")', message(mlax.zeros, {2}, {dtype = "int32"}))
    assert.equal("sum: unknown option 'axis' (known: keepdims, dtype): it is an argument of its own, before the options",
      message(function() return x:sum{axis = 1} end))
  end)

  it("of methods and transformations as well", function()
    assert.equal("reshape: x is no array (got a table, need an array or a number; methods are called with ':', "
      .. "lists become arrays by mlax.array)", message(function() return x.reshape{3, 2} end))
    assert.equal("grad: the options are no table (got float32[2,3]): arguments go to the result, grad(f)(x)",
      message(mlax.grad, mlax.sum, x))
    assert.equal("init: call it with ':', object:init(...) (got a table in the place of the object)",
      message(mlax.optim.sgd(0.1).init, {x}))
  end)

  it("of Parameters and models that are not initialized", function()
    local layer = mlax.nn.Linear(mlax.random.key(0), 2)
    assert.equal("matmul: y is no array (got Parameter, need an array or a number; the Parameter's array is its field data)",
      message(function() return x:matmul(mlax.Parameter(true, x)) end))
    assert.equal("grad: the module is not initialized: call it once on an example, model(x), before it is differentiated",
      message(mlax.grad(function(m) return m(x):sum() end), layer))
    assert.equal("Linear: the layer is not initialized: call it, layer(x), before its forward", message(layer.forward, layer, x))
    local opt = mlax.optim.sgd(0.1)
    assert.equal("init: the model is not initialized: call it once on an example, model(x)", message(opt.init, opt, layer))
    assert.equal("Series: layers must be one list: nn.Series{layer, layer, ...} (got a module, class Linear)",
      message(mlax.nn.Series, layer, layer))
  end)

  it("of labels and ids, which count from 1 and not backwards", function()
    local loss = mlax.losses.softmax_cross_entropy_with_labels
    for _, label in ipairs{0, -1} do
      local text = message(loss, x, mlax.array({1, label}, "int32"))
      assert.truthy(text:find(("softmax_cross_entropy_with_labels: index %d is out of range on axis 2"):format(label), 1, true), text)
    end
    local embed = mlax.nn.Embed(mlax.random.key(0), 3, 2)
    embed(mlax.array({1}, "int32"))
    assert.matches("^Embed: index %-1 is out of range on axis 1 %(got %-1, need 1..3%)", message(embed, mlax.array({-1}, "int32")))
  end)
end)
