local mlax = require "mlax"
local core = require "mlax.core"
local helper = require "spec.helper"
local tree, Parameter = mlax.tree, mlax.Parameter
local message = helper.message

local function raises(text, f) assert.are.equal(text, message(f)) end

local Dense = mlax.class("Dense")
function Dense:init(out_features)
  self.out_features = out_features
  self.kernel = Parameter(true)
  self.bias = Parameter(false)
end
function Dense:setup(x)
  self.kernel.data = mlax.ones{x.shape[#x.shape], self.out_features}
  self.bias.data = mlax.zeros{self.out_features}
end
function Dense:forward(x) return x:matmul(self.kernel.data) + self.bias.data end

local Net = mlax.class("Net")
function Net:init(...)
  local layers = {}
  for i, n in ipairs{...} do layers[i] = Dense(n) end
  self.layers = Parameter(nil, layers)
end
function Net:setup() end
function Net:forward(x)
  for i, layer in ipairs(self.layers.data) do x, self.layers.data[i] = layer(x) end
  return x
end

local function ready(...) -- a Net that has run
  local model = Net(...)
  model(mlax.ones{2})
  return model
end

describe("mlax.class", function()
  it("gives the class and its parent", function()
    local A, P = mlax.class("A")
    local B, Q = mlax.class("B", A)
    assert.is_true(P == mlax.Module and Q == A)
    assert.are.equal("class B", tostring(B))
    local b = B()
    assert.are.same({true, true, true, false}, {mlax.is_a(b, B), mlax.is_a(b, A), mlax.is_a(b, mlax.Module), mlax.is_a(b, Dense)})
    assert.is_true(mlax.class_of(b) == B)
  end)

  it("inherits constructors and methods, also later ones", function()
    local Child = mlax.class("Child", Dense)
    function Dense.double(self) return 2 * self.out_features end
    assert.are.equal(6, Child(3):double())
    Dense.double = nil
  end)

  it("lets classes define __tostring and __len, and children inherit them", function()
    local Bag = mlax.class("Bag")
    function Bag:__len() return 7 end
    function Bag:__tostring() return "a bag" end
    local b = mlax.class("Sack", Bag)()
    assert.are.equal(7, #b)
    assert.are.equal("a bag", tostring(b))
    raises("Module: class Dense has no length (it may define __len)", function() return #Dense(1), 1 end)
  end)

  it("checks its arguments", function()
    raises("class: the name must be a string (got 3)", function() mlax.class(3) end)
    raises("class: the parent must be a class made by mlax.class (got a table)", function() mlax.class("A", {}) end)
    raises("is_a: a class is needed (got 3)", function() mlax.is_a(1, 3) end)
  end)
end)

describe("fields", function()
  it("stand in order of first assignment", function()
    local m = Dense(4)
    m.extra, m.kernel, m.out_features = 1, Parameter(true), 5
    local names = {}
    for name, value in pairs(m) do
      names[#names + 1] = name
      assert.is_true(value == m[name])
    end
    assert.are.same({"out_features", "kernel", "bias", "extra"}, names)
    m.kernel = nil
    m.kernel = 3
    names = {}
    for name in pairs(m) do names[#names + 1] = name end
    assert.are.same({"out_features", "bias", "extra", "kernel"}, names)
  end)

  it("read as nil where they are missing; false is a value", function()
    local m = Dense(4)
    assert.is_nil(m.nothing)
    assert.is_nil(m[1])
    m.flag = false
    assert.is_false(m.flag)
  end)

  it("refuse integer keys, names of methods, nil once initialized", function()
    local m = Dense(4)
    raises("Module: a module has named fields (got the key 1, need a string)", function() m[1] = 2 end)
    raises("Module: 'forward' is a method of mlax.Module, no field", function() m.forward = print end)
    raises("Module: 'summary' is a method of mlax.Module, no field", function() m.summary = 2 end)
    raises("Module: initialized must be a boolean (got 2)", function() m.initialized = 2 end)
    m.bias = nil
    m.initialized = true
    raises("Module: field 'kernel' of an initialized module cannot be set to nil (use false)", function() m.kernel = nil end)
    m.bias = nil -- there is none any more
  end)

  it("hold bare arrays as constants, but no traced ones", function()
    local m = Dense(4)
    m.c = mlax.zeros{2}
    assert.are.equal(0, #tree.leaves(m))
    raises("Module: field 'c' cannot hold a traced array, which is no hyperparameter: wrap it, Parameter(false, x)",
      function() mlax.grad(function(x) Dense(1).c = x return x:sum() end)(mlax.zeros{2}) end)
  end)

  it("refuse values of a transformation to which the module was not passed", function()
    local m = ready(2)
    local text = "Module: the module was captured, not passed: it cannot take a value of the running transformation "
      .. "(pass it as an argument, and return it)"
    raises(text, function() mlax.grad(function(x) m.p = Parameter(true, x) return x:sum() end)(mlax.zeros{2}) end)
    raises(text, function() mlax.jit(function(x) m.p = {{Parameter(true, x)}} return x end)(mlax.zeros{2}) end)
    raises(text, function()
      mlax.jit(function(inner, x) -- received by jit, captured by grad
        return mlax.grad(function(y) inner.p = {y} return y:sum() end)(x)
      end)(m, mlax.zeros{2})
    end)
    local out = mlax.jit(function(inner, x) inner.layers.data[1].bias.data = x return inner end)(m, mlax.ones{2})
    helper.near({1, 1}, out.layers.data[1].bias.data)
    helper.near({0, 0}, m.layers.data[1].bias.data)
  end)
end)

describe("calls", function()
  it("set up once, apply, and give the very same object", function()
    local setups = 0
    local Once = mlax.class("Once")
    function Once:setup() setups = setups + 1 end
    function Once:forward(x, rng, inference_mode, batch_axis_name)
      return {x, rng or "none", inference_mode or false, batch_axis_name or "none"}
    end
    local m = Once()
    assert.is_false(m.initialized)
    local y, same = m(1)
    assert.are.same({1, "none", false, "none"}, y)
    assert.is_true(rawequal(m, same) and m.initialized)
    y = m(2, 3, true, "b")
    assert.are.same({2, 3, true, "b"}, y)
    assert.are.equal(1, setups)
    assert.is_true(select(2, m:apply(1)) == m)
    raises("Module: x, rng, inference_mode and batch_axis_name are taken (got 5 arguments)", function() m(1, 2, 3, 4, 5) end)
  end)

  it("may drop fields in setup", function()
    local Drop = mlax.class("Drop")
    function Drop:init() self.rng = Parameter(false, 1) end
    function Drop:setup() self.rng = nil end
    function Drop:forward(x) return x end
    local m = Drop()
    m(1)
    assert.are.same({}, tree.leaves(m))
  end)

  it("raise 'not implemented', naming the class", function()
    local Empty = mlax.class("Empty")
    raises("setup: not implemented by class Empty (define function Empty:setup) in model (Empty)", function() Empty()(1) end)
    function Empty.setup() end
    raises("forward: not implemented by class Empty (define function Empty:forward) in model (Empty)", function() Empty()(1) end)
    raises("forward: not implemented by class Empty (define function Empty:forward)", function() Empty():forward(1) end)
  end)

  it("use a class's own apply", function()
    local Own = mlax.class("Own", Dense)
    function Own:apply(x) return x * 2, self end
    helper.near({2, 2}, (Own(1)(mlax.ones{2})))
  end)

  it("say where in the model an error happened", function()
    local model = ready(3, 2)
    local ok, text = pcall(function() return (model(mlax.ones{5})) end)
    assert.is_false(ok)
    assert.truthy(text:find(" in model.layers.data[1] (Dense)", 1, true), text)
    model.layers.data[2].kernel.data = mlax.ones{7, 7}
    text = select(2, pcall(model, mlax.ones{2}))
    assert.truthy(text:find(" in model.layers.data[2] (Dense)", 1, true), text)
    text = select(2, pcall(mlax.add, mlax.ones{2}, mlax.ones{3}))
    assert.falsy(text:find(" in model", 1, true), text)
    assert.are.equal("", core.module_where())
  end)

  it("say so for callees that are no part of the model", function()
    local Odd = mlax.class("Odd")
    function Odd:setup() end
    function Odd:forward(x) return (Dense(2)(x)) end
    local text = select(2, pcall(Odd(), mlax.zeros{}))
    assert.truthy(text:find(" in Dense, called by model (Odd)", 1, true), text)
  end)

  it("leave errors of any type unchanged, and no running module behind", function()
    local mine = setmetatable({}, {__name = "mine"})
    local Bad = mlax.class("Bad")
    function Bad:setup() end
    function Bad:forward() error(mine) end
    local ok, e = pcall(Bad(), 1)
    assert.is_true(not ok and e == mine)
    coroutine.resume(coroutine.create(function() Bad()(1) end))
    assert.are.equal("", core.module_where())
    local Outer = mlax.class("Outer")
    function Outer:setup() end
    function Outer:forward(x)
      coroutine.resume(coroutine.create(function() Bad()(1) end))
      return Dense(2)(x) and core.module_where()
    end
    assert.are.equal(" in model (Outer)", (Outer()(mlax.ones{2})))
    assert.are.equal("", core.module_where())
  end)
end)

describe("needs_rng", function()
  local needs = core.needs_rng

  it("reads the name of forward's second parameter", function()
    local function class(forward) local C = mlax.class("C") C.forward = forward return C end
    assert.is_true(needs(class(function(self, x, rng) return self, x, rng end)))
    assert.is_true(needs(class(function(self, x, rng, ...) return self, x, rng, ... end)()))
    assert.is_false(needs(class(function(self, x, _, mode) return self, x, mode end)))
    assert.is_false(needs(class(function(self, x) return self, x end)))
    assert.is_false(needs(class(function(...) return ... end)))
    assert.is_false(needs(class(print)))
    assert.is_false(needs(class(load(string.dump(function(self, x, rng) return self, x, rng end, true)))))
    assert.is_false(needs(mlax.class("None")))
  end)

  it("is overridden by the class, and the nearest class decides", function()
    local A = mlax.class("A")
    function A:forward(x, rng) return x, rng end
    local B = mlax.class("B", A)
    assert.is_true(needs(B))
    B.needs_rng = false
    assert.is_false(needs(B()))
    local C = mlax.class("C", B)
    function C:forward(x, rng) return x, rng end
    assert.is_true(needs(C))
    raises("needs_rng: a module or a class is needed (got 3)", function() needs(3) end)
  end)
end)

describe("structure", function()
  local s = tree.structure

  it("knows class, initialized, hyperparameters and empty places", function()
    assert.is_true(s(Dense(2)) == s(Dense(2)))
    assert.is_false(s(Dense(2)) == s(Dense(3)))
    assert.is_false(s(Dense(2)) == s(Dense(2.0)))
    assert.is_false(s(Dense(2)) == s(mlax.class("Other", Dense)(2)))
    assert.is_false(s(ready(2)) == s(Net(2)))
    assert.are.equal(
      "Dense{out_features = 2, kernel = Parameter(true, false), bias = Parameter(false, false)} (not initialized)", tostring(s(Dense(2))))
  end)

  it("follows every change, and finds its way back", function()
    local m = ready(3, 2)
    local first = s(m)
    m.layers.data[1].kernel.data = m.layers.data[1].kernel.data * 2
    assert.is_true(rawequal(first, s(m)))
    m.layers.data[1].out_features = 9
    assert.is_false(first == s(m))
    m.layers.data[1].out_features = 3
    assert.is_true(rawequal(first, s(m)))
    m.layers.data[2].kernel.trainable = false
    assert.is_false(first == s(m))
    m.layers.data[2].kernel.trainable = true
    assert.is_true(rawequal(first, s(m)))
    table.insert(m.layers.data, Dense(1))
    assert.is_false(first == s(m))
    m.layers.data[3] = nil
    assert.is_true(rawequal(first, s(m)))
    m.layers.data[1].kernel.data = false
    assert.is_false(first == s(m))
  end)

  it("sees tables among the hyperparameters change behind its back", function()
    local m = Dense(2)
    m.config = {1, {a = 2}}
    local first = s(m)
    m.config[2].a = 3
    local second = s(m)
    assert.is_false(first == second)
    m.config[2].a = 2
    assert.is_true(first == s(m))
    local copy = tree.map(function(x) return x end, m)
    assert.is_true(copy.config == m.config)
    m.config[1] = 7 -- a structure keeps what it was taken of
    assert.are.equal(1, tree.unflatten(first, {}).config[1])
  end)

  it("takes tables that come to hold Parameters as children", function()
    local m = Dense(2)
    m.parts = {}
    local first = s(m)
    m.parts.p = Parameter(true, 5)
    assert.is_false(first == s(m))
    assert.are.same({5}, tree.leaves(m))
  end)
end)

describe("copies", function()
  it("are packed until they are touched, and then follow changes", function()
    local m = ready(3, 2)
    local copy = tree.map(function(x) return x + 1 end, m)
    assert.is_true(rawequal(tree.structure(copy), tree.structure(m)))
    helper.near({2, 2, 2, 2, 2, 2}, copy.layers.data[1].kernel.data)
    helper.near({1, 1, 1, 1, 1, 1}, m.layers.data[1].kernel.data)
    assert.is_true(rawequal(tree.structure(copy), tree.structure(m)))
    copy.layers.data[2].bias.data = mlax.zeros{2} - 1
    helper.near({-1, -1}, tree.leaves(copy)[4])
    assert.is_true(rawequal(tree.structure(copy), tree.structure(m)))
    copy.layers.data[2].kernel.trainable = false
    assert.is_false(tree.structure(copy) == tree.structure(m))
  end)

  it("take part in new models", function()
    local copy = tree.map(function(x) return x end, ready(3, 2))
    local outer = Net()
    outer.layers.data[1] = copy
    assert.are.equal(4, #tree.leaves(outer))
    helper.near({6, 6}, (outer(mlax.ones{2})))
  end)

  it("keep what f put into them", function()
    local copy = tree.map(function(x) return x.ndim == 2 and {w = 1, b = 2} or false end, ready(3))
    assert.are.same({2, 1}, tree.leaves(copy))
    assert.is_nil(copy.layers.data[1].bias.data)
    assert.is_false(rawequal(tree.structure(copy), tree.structure(ready(3))))
  end)
end)

describe("filter, partition, combine", function()
  it("leave out data, not Parameters, and do not touch the module", function()
    local m = ready(3, 2)
    local f = m:filter()
    assert.are.equal(2, #tree.leaves(f))
    assert.is_nil(f.layers.data[1].bias.data)
    assert.is_false(f.layers.data[1].bias.trainable)
    assert.are.equal(4, #tree.leaves(m))
    assert.are.equal(2, #tree.leaves(m:filter(nil, true)))
    local seen = {}
    m:filter_with_path(function(path, p) seen[#seen + 1] = path assert(p == tree.get(m, path)) return true end)
    assert.are.same({"layers.data[1].kernel", "layers.data[1].bias", "layers.data[2].kernel", "layers.data[2].bias"}, seen)
  end)

  it("split and join to the same structure", function()
    local m = ready(3, 2)
    local a, b = m:partition()
    assert.is_true(rawequal(tree.structure(a:combine(b)), tree.structure(m)))
    assert.is_true(rawequal(tree.structure(b:combine(a)), tree.structure(m)))
    local c, d = m:partition(mlax.is_trainable_param)
    assert.is_true(tree.structure(a) == tree.structure(c) and tree.structure(b) == tree.structure(d))
    local e, f = m:partition_with_path(function(path) return path:find("[1]", 1, true) end)
    assert.are.same({2, 2}, {#tree.leaves(e), #tree.leaves(f)})
    assert.is_true(tree.equal(m, e:combine(f)))
  end)

  it("check the module, the predicate and the structure", function()
    raises("filter: the module is not initialized (call it once, or set it up)", function() Net(2):filter() end)
    raises("partition: the predicate must be a function (got 3)", function() ready(2):partition(3) end)
    raises("filter_with_path: the predicate must be a function (got nothing)", function() ready(2):filter_with_path() end)
    raises("combine: modules are combined (got 3 as argument 1)", function() ready(2):combine(3) end)
    raises("combine: modules of different structure at 'layers.data': {Dense{out_features = 2, kernel = Parameter(true, *), bias = "
      .. "Parameter(false, *)}} and {Dense{out_features = 2, kernel = Parameter(true, *), bias = Parameter(false, *)}, "
      .. "Dense{out_feature...",
      function() ready(2):combine(ready(2, 2)) end)
  end)
end)

describe("tree_flatten_with_keys", function()
  it("gives children by name, and tree_unflatten takes them", function()
    local m = Dense(3)
    m(mlax.ones{2})
    m.note = false
    local children, aux = m:tree_flatten_with_keys()
    assert.are.same({"kernel", "bias"}, {children[1][1], children[2][1]})
    local new = Dense.tree_unflatten(aux, {Parameter(true, 1), Parameter(false, 2)})
    assert.is_true(mlax.is_a(new, Dense) and new.initialized)
    assert.are.same({1, 2, 3, false}, {new.kernel.data, new.bias.data, new.out_features, new.note})
  end)
end)

describe("text", function()
  it("of a model is its tree", function()
    local m = Net(3)
    m.rate = 0.5
    m.config = {1, x = "a"}
    assert.are.equal(table.concat({
      "Net (not initialized)",
      "  layers: Parameter",
      "    [1]: Dense (not initialized)",
      "      out_features: 3",
      "      kernel: Parameter trainable empty",
      "      bias: Parameter not trainable empty",
      "  rate: 0.5",
      '  config: {1, x = "a"}'}, "\n"), tostring(m))
  end)

  it("of a summary has a line a module and Parameter, and totals", function()
    local m = ready(300, 2)
    m.table = mlax.zeros{4}
    assert.are.equal(table.concat({
      "path                   class      shape                      parameters    bytes",
      "--------------------------------------------------------------------------------",
      "model                  Net",
      "table                  constant   float32[4]                                16 B",
      "layers.data[1]         Dense",
      "layers.data[1].kernel  Parameter  float32[2,300]  trainable         600  2.3 KiB",
      "layers.data[1].bias    Parameter  float32[300]    frozen            300  1.2 KiB",
      "layers.data[2]         Dense",
      "layers.data[2].kernel  Parameter  float32[300,2]  trainable         600  2.3 KiB",
      "layers.data[2].bias    Parameter  float32[2]      frozen              2      8 B",
      "--------------------------------------------------------------------------------",
      "1,502 parameters, 1,200 trainable, 302 frozen, 5.9 KiB"}, "\n"), m:summary())
  end)

  it("of a summary stays within 100 columns", function()
    local Long = mlax.class("AVeryLongNameOfAClassThatNobodyWouldTypeTwice")
    local m = Long()
    m.first_block_of_the_encoder = {Parameter(false, mlax.zeros{1, 1, 1, 1, 1, 1, 1, 1})}
    m.first_block_of_the_encoder[2] = {attention_output_projection = Parameter(true, mlax.zeros{1000, 1000})}
    for line in m:summary():gmatch("[^\n]+") do assert.is_true(#line <= 100, line) end
    assert.truthy(m:summary():find("output_projection", 1, true))
  end)

  it("of a summary with an example shows output shapes, and leaves the model alone", function()
    local m = Net(3, 2)
    local text = m:summary(mlax.ones{5})
    assert.truthy(text:find("layers.data[2]         Dense      float32[2]", 1, true), text)
    assert.truthy(text:find("layers.data[1].kernel  Parameter  float32[5,3]", 1, true), text)
    assert.is_false(m.initialized)
    for line in text:gmatch("[^\n]+") do assert.is_true(#line <= 100) end
  end)

  it("of a summary with an example counts the operations of each call", function()
    local linear = mlax.nn.Linear(mlax.random.key(0), 3)
    local model = mlax.nn.Series{linear, mlax.nn.F(function(x) return x + 1 end)}
    local text = model:summary(mlax.ones{5, 4})
    assert.truthy(text:find("layers.data%[1%] +Linear +float32%[5,3%] +120\n"), text) -- 5 x 3 sums of 4 products
    assert.truthy(text:find("layers.data%[2%] +F +float32%[5,3%] +15\n"), text)
    assert.truthy(text:find("model +Series +float32%[5,3%] +135\n"), text)
    assert.truthy(text:find("12 parameters, 12 trainable, 0 frozen, 48 B; 135 FLOPs a call", 1, true), text)
  end)

  it("of a summary counts a shared layer once and says where else it stands", function()
    local linear = mlax.nn.Linear(mlax.random.key(0), 4)
    local model = mlax.nn.Series{linear, mlax.nn.F(mlax.sin), linear}
    for _, text in ipairs{model:summary(mlax.ones{4}), select(2, model(mlax.ones{4})):summary()} do
      assert.truthy(text:find("\nshared: layers.data[3] is layers.data[1]\n16 parameters", 1, true), text)
    end
    assert.truthy(model:summary(mlax.ones{4}):find("; 68 FLOPs a call", 1, true))
    local tied = linear.linear_kernel
    local class = mlax.class("Tied")
    local m = class()
    m.a = tied
    m.b = tied
    assert.truthy(m:summary():find("shared: b is a", 1, true))
  end)

  it("of a summary says what is frozen", function()
    local model = mlax.nn.Dense(mlax.random.key(0), 2)
    model(mlax.ones{3})
    model.linear.linear_kernel.trainable = false
    local text = model:summary()
    assert.truthy(text:find("linear.linear_kernel +Parameter +float32%[3,2%] +frozen +6 "), text)
    assert.truthy(text:find("8 parameters, 2 trainable, 6 frozen, 32 B", 1, true), text)
  end)

  it("of a summary names empty modules, trees as results, and fits with long shapes", function()
    local class = mlax.class("Many")
    function class:setup() end
    function class:forward(x) return {x, {x, x}, x, x} end
    local text = class():summary(mlax.ones({10, 20, 30, 40, 50, 60}, "bfloat16"))
    for line in text:gmatch("[^\n]+") do assert.is_true(#line <= 100, line) end
    assert.truthy(text:find("0 parameters, 0 trainable, 0 frozen, 0 B; 0 FLOPs a call", 1, true), text)
  end)
end)
