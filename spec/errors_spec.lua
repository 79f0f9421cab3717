-- What wrong use says, word for word, and that it says so at the user's own line. (Errors of single array functions: spec/array.)
local mlax = require "mlax"

local nn, random, tree, optim = mlax.nn, mlax.random, mlax.tree, mlax.optim
local here = debug.getinfo(1, "S").short_src

-- Runs f, which must fail on the first of its lines, or `later` lines below it, with this message.
local function says(message, f, later)
  local ok, got = pcall(f)
  assert(not ok, "no error was raised")
  local line = debug.getinfo(f, "S").linedefined + (later or 0)
  assert.equal(("%s:%d: %s"):format(here, line, message), got)
end

local x = mlax.array{{1, 2, 3}, {4, 5, 6}}
local key = random.key(1)

local function line_of(f) return ("%s:%d"):format(here, debug.getinfo(f, "S").linedefined) end

describe("options and arguments", function()
  it("guess what was meant", function()
    says("sum: unknown option 'keepdim', did you mean 'keepdims'? (known: keepdims, dtype)", function() return x:sum{keepdim = true} end)
    says("sgd: unknown option 'momentu', did you mean 'momentum'? (known: momentum, nesterov)",
      function() local _ = optim.sgd(0.1, {momentu = 1}) end)
    says("jit: unknown option 'static_argnum', did you mean 'static_argnums'? (known: static_argnums, donate_argnums, max_traces)",
      function() local _ = mlax.jit(print, {static_argnum = 1}) end)
    says("Linear: unknown option 'dtyp', did you mean 'dtype'? (known: transposed_kernel, kernel_initializer, dtype, accum_dtype)",
      function() return nn.Linear(key, 3, {dtyp = 1}) end)
    says("zeros: unknown dtype 'flot32', did you mean 'float32'? (known: bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, "
      .. "float16, bfloat16, float32, float64)", function() return mlax.zeros({2}, "flot32") end)
    says("index: an array has no field 'shap', did you mean 'shape'?", function() return x.shap end)
    says("mlax: there is no mlax.summ, did you mean mlax.sum?", function() return mlax.summ end)
  end)

  it("are counted", function()
    says("sum: too many arguments (got 4, need at most 2 and a table of options)", function() return x:sum(1, {}, 3) end)
  end)

  it("are numbers or arrays", function()
    says("add: an operand is neither an array nor a number (got true)", function() return x + true end)
    says('add: an operand is neither an array nor a number (got "1")', function() return x + "1" end)
  end)
end)

describe("what counts from 1", function()
  it("has no 0", function()
    says("sum: axis 0 does not exist: axes count from 1, or from -1 backwards (got 0, need 1..2)", function() return x:sum(0) end)
    says("index: index 0 is out of range on axis 1: positions count from 1 (got 0, need 1..2 or -2..-1)", function() return x[0] end)
    says("index: index 0 is out of range on axis 1: positions count from 1 (got 0, need 1..2 or -2..-1)", function() return x["0, :"] end)
    says("vmap: in_axes 0: axes count from 1", function() local _ = mlax.vmap(mlax.neg, {in_axes = 0})(x) end)
    says("grad: argnums 0 names no argument (got 1 arguments, which count from 1)",
      function() local _ = mlax.grad(mlax.sum, {argnums = 0})(x) end)
  end)

  it("ends somewhere", function()
    says("sum: there is no axis 3 (got 3, need 1..2 or -1..-2)", function() return x:sum(3) end)
    says("index: index 3 is out of range on axis 1 (got 3, need 1..2 or -2..-1)", function() return x[3] end)
    says("index: index 5 is out of range on axis 1 (got 5, need 1..2 or -2..-1)", function() return x[{{1, 5}}] end)
    says("index: index 5 is out of range on axis 1 (got 5, need 1..2 or -2..-1)", function() return x[mlax.array({1, 5}, "int32")] end)
  end)

  it("is checked in compiled code, at the line of the operation", function()
    local f = function(a, i) return a[i] end
    local ok, message = pcall(mlax.jit(f), x, mlax.array({7}, "int32"))
    assert.is_false(ok)
    assert.equal(line_of(f) .. ": index: index 7 is out of range on axis 1 (got 7, need 1..2 or -2..-1)", message)
  end)
end)

describe("shapes and dtypes", function()
  it("show both sides", function()
    says("add: shapes do not broadcast (got float32[2,3] and float32[4], need lengths that are equal or 1)",
      function() return x + mlax.ones{4} end)
    says("matmul: shapes do not fit (got float32[2,3] and float32[2,3], need the last axis of the first as long as the last but one of "
      .. "the second)", function() return x:matmul(x) end)
    says("reshape: the sizes differ (got {4} for float32[2,3])", function() return x:reshape{4} end)
    says("array: the lists are ragged (got lengths 2 and 1 at depth 2)", function() return mlax.array{{1, 2}, {3}} end)
  end)

  it("name the module where they did not fit", function()
    local model = nn.Series{nn.Linear(key, 4), nn.F(function(y) return y + mlax.ones{7} end)}
    local ok, message = pcall(model, x)
    assert(not ok)
    assert.equal("add: shapes do not broadcast (got float32[2,4] and float32[7], need lengths that are equal or 1) in "
      .. "model.layers.data[2] (F)", message:match(": (.*)$"))
  end)

  it("do not overflow", function()
    says("zeros: shape {4294967296, 4294967296, 4294967296} is too large",
      function() return mlax.zeros{4294967296, 4294967296, 4294967296} end)
    says("ones: shape {3037000500, 3037000500} is too large", function() return mlax.ones{3037000500, 3037000500} end)
    says("zeros: the shape has a negative length (got -1 on axis 1)", function() return mlax.zeros{-1} end)
    assert.has_error(function() return mlax.ones{1000000, 1000000, 1000} * 2 end)
  end)

  it("stay below the memory limit", function()
    mlax.set_memory_limit(mlax.memory().live + mlax.memory().cached + 1000000)
    local ok, message = pcall(function() return mlax.ones{1000, 1000} * 2 end)
    mlax.set_memory_limit(0)
    assert.is_false(ok)
    assert.truthy(message:find("^[^:]+:%d+: mul: not enough memory for 4194304 bytes %(%d+ of the limit of %d+ are in use%)$"), message)
    assert.equal(2000, (mlax.ones{1000} * 2):sum():item())
  end)
end)

describe("trees of different structure", function()
  local function add(a, b) return a + b end

  it("name the first path that differs, and both sides", function()
    says("tree.map: trees of different structure at 'a': {*, *} and {*, *, *}",
      function() return tree.map(add, {a = {1, 2}, b = 3}, {a = {1, 2, 3}, b = 3}) end)
    says("tree.map: trees of different structure at 'a': {x = *} and {y = *}",
      function() return tree.map(add, {a = {x = x}}, {a = {y = x}}) end)
  end)

  it("are no trees with mixed keys, or cycles", function()
    says("tree.leaves: no tree: a table with both positions and names as keys at 'a'", function() return tree.leaves{a = {1, b = 2}} end)
    local cycle = {}
    cycle.a = {cycle}
    says("tree.leaves: no tree: a cycle, 'a[1]' is the root again", function() return tree.leaves(cycle) end)
  end)
end)

describe("traced values", function()
  it("do not leak", function()
    local kept
    local f = function(y) kept = y * 2 return y:sum() end
    mlax.grad(f)(x)
    says(("add: a traced value made at %s leaked out of its transformation: return it as a result instead of storing it")
      :format(line_of(f)),
      function() return kept + 1 end)
    mlax.jit(function(y) kept = y return y end)(x)
    assert.has_error(function() return kept:item() end)
    mlax.vmap(function(y) kept = y return y end)(x)
    assert.has_error(function() return kept + 1 end)
  end)

  it("have no order and cannot be read", function()
    local f = function(y) return y > 0 end
    local ok, message = pcall(mlax.jit(f), mlax.ones{})
    assert.is_false(ok)
    assert.truthy(message:find(line_of(f) .. ": <: a traced array cannot be ordered (x:lt(y) compares element by element): it has no value "
      .. "yet (got float32[] made at", 1, true), message)
    assert.truthy(message:find("; use where or cond, or make the argument static (static_argnums)", 1, true), message)
  end)

  it("name the line that made them", function()
    local f = function(y)
      local z = y:sum()
      return z:item()
    end
    local ok, message = pcall(mlax.jit(f), x)
    local line = debug.getinfo(f, "S").linedefined
    assert.is_false(ok)
    assert.equal(("%s:%d: item: a traced array cannot be read: it has no value yet (got float32[] made at %s:%d); use where or cond, or "
      .. "make the argument static (static_argnums)"):format(here, line + 2, here, line + 1), message)
    f = function(y) return y:totable() end
    ok, message = pcall(mlax.jit(f), x)
    assert.is_false(ok)
    assert.truthy(message:find("totable: a traced array cannot be read: it has no value yet (got float32[2,3] made at", 1, true), message)
  end)
end)

describe("modules", function()
  it("define forward", function()
    local Mine = mlax.class("Mine")
    function Mine:setup() end
    local mine = Mine()
    says("forward: not implemented by class Mine (define function Mine:forward) in model (Mine)", function() local _ = mine(x) end)
    local Bare = mlax.class("Bare")
    local bare = Bare()
    says("setup: not implemented by class Bare (define function Bare:setup) in model (Bare)", function() local _ = bare(x) end)
  end)

  it("hold no bare traced array", function()
    local Mine = mlax.class("Mine")
    function Mine:setup() end
    function Mine:forward(z) self.last = z return z end
    local mine = Mine()
    local ok, message = pcall(mlax.jit(function(m, z) return (m(z)) end), mine, x)
    assert.is_false(ok)
    assert.equal(("%s:%d: Module: field 'last' cannot hold a traced array, which is no hyperparameter: wrap it, Parameter(false, x) in "
      .. "model (Mine)"):format(here, debug.getinfo(Mine.forward, "S").linedefined), message)
  end)

  it("that were captured take no traced value", function()
    local Mine = mlax.class("Mine")
    function Mine:setup() self.p = mlax.Parameter(false, mlax.zeros{}) end
    function Mine:forward(z) self.p.data = z return z end
    local mine = Mine()
    mine(x)
    local ok, message = pcall(mlax.jit(function(z) return (mine(z)) end), x)
    assert.is_false(ok)
    assert.truthy(message:find("the module was captured, not passed", 1, true), message)
  end)
end)

describe("grad", function()
  it("wants a float scalar", function()
    says("grad: the function's first result must be a float scalar (got float32[2,3])", function() local _ = mlax.grad(mlax.sin)(x) end)
    says("grad: the function's first result is a tree (need a scalar)",
      function() local _ = mlax.grad(function(y) return {y} end)(x) end)
    says("grad: the function gave no result (need a scalar)", function() local _ = mlax.grad(function() end)(x) end)
  end)

  it("differentiates by floats", function()
    says("grad: cannot differentiate by 'a' of dtype int32 (need float arrays; use partition to split off the others)",
      function() local _ = mlax.grad(function(t) return t.a:sum() end)({a = mlax.array({1}, "int32")}) end)
  end)
end)

describe("an error of the user's own", function()
  local values = {
    table = setmetatable({}, {__tostring = function() return "mine" end}), number = 7, float = 0.5, boolean = false, string = "text",
    ["function"] = print, thread = coroutine.create(print), userdata = io.stdout, array = x,
  }
  local ways = {
    grad = function(f) return mlax.grad(f)(x) end,
    value_and_grad = function(f) return mlax.value_and_grad(f)(x) end,
    vjp = function(f) return mlax.vjp(f, x) end,
    jvp = function(f) return mlax.jvp(f, {x}, {x}) end,
    linearize = function(f) return mlax.linearize(f, x) end,
    vmap = function(f) return mlax.vmap(f)(x) end,
    jit = function(f) return mlax.jit(f)(x) end,
    program = function(f) return mlax.program(f)(x) end,
    eval_shape = function(f) return mlax.eval_shape(f)(x) end,
    jacfwd = function(f) return mlax.jacfwd(f)(x) end,
    jacrev = function(f) return mlax.jacrev(f)(x) end,
    hessian = function(f) return mlax.hessian(f)(x) end,
    nested = function(f) return mlax.jit(mlax.grad(function(a) return mlax.vmap(f)(a):sum() end))(x) end,
    map = function(f) return tree.map(f, {x}) end,
    map_with_path = function(f) return tree.map_with_path(f, {x}) end,
    reduce = function(f) return tree.reduce(f, {x}, 0) end,
    module = function(f) return nn.Series{nn.F(f)}(x) end,
    filter = function(f)
      local m = nn.Linear(key, 2)
      m(x)
      return m:filter(f)
    end,
    optimizer = function(f) return optim.scale_by_schedule(f):update({x}, optim.scale_by_schedule(f):init{x}, {x}) end,
    dataset = function(f) for _ in mlax.data.dataset{x = x}:map(f):batches(1) do end end,
  }
  for way, through in pairs(ways) do
    it("passes " .. way .. " unchanged, whatever it is", function()
      for kind, value in pairs(values) do
        local ok, got = pcall(through, function() error(value, 0) end)
        assert.is_false(ok)
        assert(rawequal(got, value), kind)
      end
      local ok, got = pcall(through, function() error() end)
      assert.is_false(ok)
      assert.is_nil(got)
      assert.equal(21, x:sum():item())
    end)
  end

  it("keeps the stack of its first raise", function()
    local function inner() error("deep") end
    local _, message = pcall(mlax.grad(mlax.jit(function(y) inner() return y end)), x)
    local trace = mlax.traceback(message)
    assert.truthy(trace:find(("%s:%d: in upvalue 'inner'"):format(here, debug.getinfo(inner, "S").linedefined), 1, true), trace)
  end)
end)
