--- What test_fault.c runs with failing allocations: for every public function a case that calls it.
--
--     cases["mlax.sum"] = function() ... end        the name says which public function it covers
--
-- A case succeeds when nothing fails, keeps nothing alive afterwards, and does the same each time. `uncovered` at the end
-- walks the tables of mlax and lists the functions that no case names, so that a new one is not forgotten.
local mlax = require "mlax"
local core = require "mlax.core"

local nn, random, tree, optim, losses, metrics = mlax.nn, mlax.random, mlax.tree, mlax.optim, mlax.losses, mlax.metrics
local F, initializers, lax = nn.functional, nn.initializers, mlax.lax

local cases, order = {}, {}

local function case(name, run)
  assert(not cases[name], name)
  cases[name] = run
  order[#order + 1] = name
end

-- The same for several functions of one table: run(f) is called with each.
local function each(prefix, owner, names, run)
  for name in names:gmatch("%S+") do
    local f = owner[name]
    case(prefix .. name, function() return run(f) end)
  end
end

-- What the cases compute on.
local a = mlax.array{{0.1, 0.2, 0.3}, {0.4, 0.5, 0.6}}
local b = mlax.array{{0.6, 0.5, 0.4}, {0.3, 0.2, 0.1}}
local big = a + 1
local v = mlax.array{0.3, 0.1, 0.2}
local ints = mlax.array({1, 3, 2}, "int32")
local bools = mlax.array{true, false, true}
local square = mlax.array{{2, 1}, {1, 3}}
local key = random.key(7)

-- -- making arrays ------------------------------------------------------------------------------------------------------

case("mlax.array", function()
  return mlax.array{{1, 2}, {3, 4}}, mlax.array(3), mlax.array({true, false}), mlax.array({1, 2}, "bfloat16"), mlax.array(a)
end)
case("mlax.zeros", function() return mlax.zeros({2, 3}), mlax.zeros({2}, "int8") end)
case("mlax.ones", function() return mlax.ones({2, 3}), mlax.ones({2}, "float64") end)
case("mlax.full", function() return mlax.full({2, 3}, 5) end)
case("mlax.eye", function() return mlax.eye(3) end)
case("mlax.zeros_like", function() return a:zeros_like() end)
case("mlax.ones_like", function() return a:ones_like() end)
case("mlax.full_like", function() return a:full_like(3) end)
case("mlax.range", function() return mlax.range(1, 5), mlax.range(1, 2, 0.5), mlax.range(5, 1, -2, "int64") end)
case("mlax.linspace", function() return mlax.linspace(0, 1, 5) end)
case("mlax.from_string", function() return mlax.from_string("\1\2\3\4", "uint8", {4}) end)
case("mlax.ids", function() return mlax.ids(ints - 1, {from = 0}) end)
case("mlax.is_array", function() return mlax.is_array(a) end)

-- -- reading arrays -----------------------------------------------------------------------------------------------------

case("fields", function() return a.shape, a.dtype, a.ndim, a.size, a.nbytes, a.device, a.T, #a end)
case("array:dims", function() return a:dims() end)
case("array:dim", function() return a:dim(-1) end)
case("array:item", function() return v[1]:item() end)
case("array:totable", function() return a:totable(), ints:totable(), bools:totable() end)
case("array:tostring_bytes", function() return a:tostring_bytes() end)
case("array:unpack", function() return a:unpack() end)
case("array:rows", function() for _, row in a:rows() do local _ = row + 1 end end)
case("array:wait", function() return (a + 1):wait() end)
case("array:free", function() (a + 1):free() end)
case("tostring(array)", function()
  return tostring(a), tostring(mlax.zeros{40, 40}), tostring(v[1]), tostring(bools), "loss " .. v[1], tostring(mlax.zeros{0, 3})
end)
case("array:astype", function() return a:astype("float16"), a:astype("int32") end)
case("array:bitcast", function() return a:bitcast("uint8") end)

-- -- indexing -----------------------------------------------------------------------------------------------------------

case("indexing", function()
  return a[1], a[{1, 2}], a[{{1, 2}, 3}], a[{{}, {3, 1, -2}}], a["1, :"], a["..., ::2"], a[{"...", "new", 1}], a[{"new"}]
end)
case("indexing by arrays", function()
  return v[ints], a[{1, ints}], v[bools], a[{mlax.array({1, 2}, "int32"), mlax.array({3, 1}, "int32")}], v[ints[2]]
end)
case("array:at", function()
  local _ = a:at{1, 2}:get()
  return a:at{1}:set(0), a:at{{}, 2}:add(1), v:at{ints}:mul(2), v:at{ints}:min(0), v:at{bools}:max(1), a:at("1, :"):set(v)
end)
case("array:take", function() return v:take(ints, 1), v:take(ints, 1, {mode = "clip"}), v:take(ints, 1, {mode = "fill"}) end)
case("array:take_along_axis", function() return v:take_along_axis(ints, 1) end)
case("array:one_hot", function() return ints:one_hot(3) end)
case("array:dynamic_slice", function() return a:dynamic_slice({1, 2}, {1, 2}) end)
case("array:dynamic_update_slice", function() return a:dynamic_update_slice(mlax.ones{1, 2}, {1, 2}) end)
case("array:segment_sum", function() return v:segment_sum(ints, 3) end)
case("array:nonzero", function() return bools:nonzero() end)
case("array:searchsorted", function() return v:sort():searchsorted(v) end)

-- -- elementwise --------------------------------------------------------------------------------------------------------

each("mlax.", mlax, [[abs sign neg exp exp2 expm1 log log2 log1p sqrt rsqrt cbrt square reciprocal sin cos tan asin acos atan sinh cosh tanh
  asinh atanh sigmoid erf erfc erf_inv lgamma digamma floor ceil round trunc isnan isinf isfinite]], function(f) return f(a) end)
case("mlax.acosh", function() return big:acosh() end)
case("mlax.logical_not", function() return bools:logical_not() end)
each("mlax.", mlax, [[add sub mul div pow mod floordiv atan2 maximum minimum hypot logaddexp copysign eq ne lt le gt ge]],
  function(f) return f(a, b), f(a, 2), f(a, v) end)
each("mlax.", mlax, "logical_and logical_or logical_xor", function(f) return f(bools, bools) end)
each("mlax.lax.", lax, "nextafter polygamma loggamma_grad", function(f) return f(a, b) end)
each("mlax.lax.", lax, "and or xor shift_left shift_right", function(f) return f(ints, ints) end)
case("mlax.lax.not", function() return lax["not"](ints) end)
case("operators", function()
  return a + b, a - 1, 2 * a, a / b, a // b, a % b, a ^ 2, -a, ints & 1, ints | 4, ints ~ ints, ints << 1, ints >> 1, ~ints,
    v[1] < v[2], v[1] <= 1, a == b
end)
case("mlax.where", function() return mlax.where(bools, v, 0) end)
case("mlax.clip", function() return a:clip(0.2, 0.4) end)

-- -- reductions, scans, order -------------------------------------------------------------------------------------------

each("mlax.", mlax, "sum mean prod max min var std argmax argmin logsumexp norm",
  function(f) return f(a), f(a, 1), f(a, -1, {keepdims = true}), f(a, 2) end)
each("mlax.", mlax, "any all", function(f) return f(bools), f(bools, 1) end)
each("mlax.", mlax, "cumsum cumprod cummax cummin", function(f) return f(a, 1), f(a, 2, {reverse = true}) end)
case("mlax.sort", function() return a:sort(), a:sort(1) end)
case("mlax.argsort", function() return a:argsort(), a:argsort(1) end)
case("mlax.top_k", function() return a:top_k(2) end)
each("mlax.", mlax, "softmax log_softmax", function(f) return f(a), f(a, 1) end)

-- -- shape --------------------------------------------------------------------------------------------------------------

case("mlax.reshape", function() return a:reshape{3, -1}, a.T:reshape{6} end)
case("mlax.transpose", function() return a:transpose{2, 1}, a.T end)
case("mlax.swapaxes", function() return a:swapaxes(1, 2) end)
case("mlax.squeeze", function() return mlax.ones{1, 3, 1}:squeeze() end)
case("mlax.expand_dims", function() return a:expand_dims(2) end)
case("mlax.broadcast_to", function() return v:broadcast_to{4, 3} end)
case("mlax.concat", function() return mlax.concat({a, b}, 1) end)
case("mlax.stack", function() return mlax.stack({a, b, a}, 2) end)
case("mlax.split", function() return a:split(3, 2) end)
case("mlax.pad", function()
  local widths = {{1, 1}, {1, 1}}
  return a:pad{{1, 1}, {0, 2}}, a:pad(widths, {mode = "edge"}), a:pad(widths, {mode = "reflect"})
end)
case("mlax.flip", function() return a:flip(1) end)
case("mlax.roll", function() return a:roll(1, 2) end)
case("mlax.tile", function() return v:tile{2, 2} end)
case("mlax.repeat_", function() return v:repeat_(2, 1) end)
case("mlax.flatten", function() return a:flatten() end)
case("mlax.moveaxis", function() return a:moveaxis(1, 2) end)
each("mlax.", mlax, "tril triu", function(f) return f(a), f(a, {k = 1}) end)
case("mlax.diag", function() return v:diag(), square:diag() end)

-- -- composed -----------------------------------------------------------------------------------------------------------

case("mlax.allclose", function() return mlax.allclose(a, a) end)
case("mlax.array_equal", function() return mlax.array_equal(a, b) end)
case("mlax.unique", function() return mlax.array{3, 1, 3}:unique{inverse = true, counts = true} end)
case("mlax.bincount", function() return ints:bincount() end)
case("mlax.histogram", function() return a:histogram(3) end)
case("mlax.meshgrid", function() return mlax.meshgrid(v, v) end)
case("mlax.interp", function() return mlax.interp(v, mlax.array{0, 1}, mlax.array{1, 2}) end)
case("mlax.median", function() return a:median(1) end)
case("mlax.quantile", function() return a:quantile({0.25, 0.5}, 2) end)
case("mlax.nan_to_num", function() return a:nan_to_num() end)
case("mlax.trace", function() return square:trace() end)

-- -- products -----------------------------------------------------------------------------------------------------------

case("mlax.matmul", function() return a:matmul(b.T), a:matmul(v), square:matmul(square) end)
case("mlax.dot", function() return v:dot(v) end)
case("mlax.outer", function() return v:outer(v) end)
case("mlax.einsum", function() return mlax.einsum("ij,kj->ik", a, b), mlax.einsum("ii", square) end)
case("mlax.tensordot", function() return mlax.tensordot(a, b, {{2}, {2}}) end)
case("mlax.lax.dot_general", function() return lax.dot_general(a, b, {contract = {{2}, {2}}, batch = {{}, {}}}) end)

local image = mlax.reshape(mlax.linspace(0, 1, 36), {1, 6, 6, 1})
local filter = mlax.reshape(mlax.linspace(-1, 1, 18), {2, 3, 3, 1})

case("mlax.lax.conv", function()
  local function loss(x, k) return lax.conv(x, k, {padding = "SAME", strides = 2, input_dilation = 1}):sum() end
  lax.conv(image:astype("float16"), filter:astype("float16"), {input_dilation = 2})
  return mlax.grad(loss, {argnums = {1, 2}})(image, filter), mlax.vmap(lax.conv)(image:expand_dims(1), filter:expand_dims(1))
end)
-- The ways that convolutions go: fewer multiplications; groups of one channel, that are copied; lines that are padded.
case("mlax.lax.conv, ways", function()
  local function loss(x, k, options) return lax.conv(x, k, options):sum() end
  local both, channels_first = mlax.grad(loss, {argnums = {1, 2}}), {"NCHW", "OHWI", "NCHW"}
  both(mlax.ones{2, 12, 12, 16}, mlax.ones{16, 3, 3, 16}, {padding = 1})
  both(mlax.ones{2, 8, 9, 9}, mlax.ones{8, 3, 3, 1},
    {padding = 1, feature_group_count = 8, dimension_numbers = channels_first})
  return both(mlax.ones{1, 4, 16, 3}, mlax.ones{16, 3, 3, 3}, {padding = 1, strides = 2})
end)

case("mlax.lax.reduce_window", function()
  local function pool(x) return lax.reduce_window(x, -math.huge, "max", {window = 2, padding = 1}):sum() end
  local function product(x) return lax.reduce_window(x, 2, "prod", {window = 2, strides = 2}):sum() end
  return mlax.grad(pool)(a:astype("bfloat16")), mlax.grad(product)(a)
end)
each("mlax.nn.functional.", F, "max_pool sum_pool avg_pool", function(f) return f(image[1], 2, {strides = 2}) end)
case("mlax.nn.functional.pool", function() return F.pool(image[1], 0, "min", 2) end)
case("mlax.nn.Conv", function() return nn.Conv(key, 2, 3)(image[1]) end)
case("mlax.nn.ConvTranspose", function() return nn.ConvTranspose(key, 2, 3, {strides = 2})(image[1]) end)
case("mlax.nn.MaxPool", function() return nn.MaxPool(2)(image[1]) end)
case("mlax.nn.AvgPool", function() return nn.AvgPool(2)(image[1]) end)

-- -- random -------------------------------------------------------------------------------------------------------------

case("mlax.random.key", function() return random.key(3) end)
case("mlax.random.split", function() return random.split(key, 3) end)
case("mlax.random.keys", function() return random.keys(key, 3) end)
case("mlax.random.fold_in", function() return random.fold_in(key, 3) end)
case("mlax.random.stream", function()
  local next_key = random.stream(1)
  return next_key(), next_key(), tostring(next_key)
end)
case("mlax.random.bits", function() return random.bits(key, {3}, "uint8") end)
each("mlax.random.", random, "uniform normal gumbel exponential laplace cauchy logistic", function(f) return f(key, {2, 3}), f(key) end)
case("mlax.random.truncated_normal", function() return random.truncated_normal(key, -1, 1, {3}) end)
case("mlax.random.gamma", function() return random.gamma(key, a), mlax.grad(function(x) return random.gamma(key, x):sum() end)(a) end)
case("mlax.random.beta", function() return random.beta(key, a, 2, {2, 3}) end)
case("mlax.random.dirichlet", function() return random.dirichlet(key, a) end)
case("mlax.random.poisson", function() return random.poisson(key, 4, {3}), random.poisson(key, 40, {3}) end)
case("mlax.random.bernoulli", function() return random.bernoulli(key, 0.5, {3}) end)
case("mlax.random.randint", function() return random.randint(key, {3}, 1, 6) end)
case("mlax.random.permutation", function() return random.permutation(key, 5), random.permutation(key, a) end)
case("mlax.random.choice", function()
  return random.choice(key, 5, {2}), random.choice(key, a, {2}, {replace = false}), random.choice(key, v, {2}, {p = v / v:sum()})
end)
case("mlax.random.categorical", function() return random.categorical(key, a) end)

-- -- trees --------------------------------------------------------------------------------------------------------------

local dict = {w = a, list = {b, 2, {v, false}}, name = "a string that is longer than forty characters, so not interned"}
local add = function(x, y) return x + y end
local double = function(x) return type(x) == "string" and x or x * 2 end
local Pair = {}
tree.register(Pair, {
  flatten = function(p) return {p.x, p.y}, p.label end,
  unflatten = function(label, children) return setmetatable({x = children[1], y = children[2], label = label}, Pair) end,
})

case("mlax.tree.flatten", function() return tree.flatten(dict), tree.flatten(dict, {is_leaf = function(n) return n == dict.list end}) end)
case("mlax.tree.unflatten", function()
  local leaves, def = tree.flatten(dict)
  return tree.unflatten(def, leaves), tostring(def), def.num_leaves
end)
case("mlax.tree.structure", function() return tree.structure{a, {b = v}} == tree.structure{b, {b = a}} end)
case("mlax.tree.leaves", function() return tree.leaves(dict) end)
case("mlax.tree.map", function() return tree.map(double, dict), tree.map(add, {a, {b}}, {b, {a}}) end)
case("mlax.tree.map_with_path", function() return tree.map_with_path(function(path, x) return path .. type(x) end, dict) end)
case("mlax.tree.leaves_with_path", function() return tree.leaves_with_path(dict) end)
case("mlax.tree.reduce", function() return tree.reduce(add, {a, {b}}, 0) end)
case("mlax.tree.transpose", function()
  return tree.transpose(tree.structure{0, 0}, tree.structure{a = 0, b = 0}, {{a = 1, b = 2}, {a = 3, b = 4}})
end)
case("mlax.tree.all", function() return tree.all{true, v[1]:gt(0)} end)
case("mlax.tree.register", function()
  local Box = {}
  tree.register(Box, {flatten = function(o) return {o[1]} end, unflatten = function(_, c) return setmetatable(c, Box) end})
  local pair = setmetatable({x = a, y = {b}, label = "p"}, Pair)
  return tree.map(double, {pair, setmetatable({v}, Box)})
end)
case("mlax.tree.map_until", function() return tree.map_until(function(n) return n == dict.list end, type, dict) end)
case("mlax.tree.get", function() return tree.get(dict, "list[3][1]"), tree.get({["two words"] = {v}}, '["two words"][1]') end)
case("mlax.tree.at", function() return tree.at(dict, "list[3][1]", a) end)
case("mlax.tree.equal", function() return tree.equal(dict, dict), tree.equal({a}, {b}) end)
case("mlax.tree.allclose", function() return tree.allclose(dict, dict) end)

-- -- modules ------------------------------------------------------------------------------------------------------------

local Affine, Module = mlax.class("Affine", mlax.Module)
function Affine:init(n)
  self.n = n
  self.scale = initializers.constant(2)
  self.kernel = mlax.Parameter(true)
  self.seen = mlax.Parameter(false)
end
function Affine:setup(x)
  self.kernel.data = mlax.full({x.shape[#x.shape], self.n}, 0.5)
  self.seen.data = mlax.zeros{}
end
function Affine:forward(x)
  self.seen.data = self.seen.data + 1
  return x:matmul(self.kernel.data)
end
local function affine()
  local m = Affine(2)
  m(a)
  return m
end
local model = affine()

case("mlax.class", function()
  local Class, Parent = mlax.class("Case", Affine)
  function Class:forward(x) return Parent.forward(self, x) + 1 end
  return Class(3)(a), tostring(Class)
end)
case("mlax.Module", function() return pcall(Module.forward, model, a) end)
case("mlax.Module.apply", function() return affine():apply(a) end)
case("mlax.Module.setup", function()
  local m = Affine(2)
  m:setup(a)
  return m
end)
case("mlax.Module.forward", function() return affine():forward(a) end)
case("mlax.Module.filter", function() return model:filter(), model:filter(mlax.is_trainable_param, true) end)
case("mlax.Module.filter_with_path", function() return model:filter_with_path(function(path) return path == "kernel" end) end)
case("mlax.Module.partition", function() return model:partition() end)
case("mlax.Module.partition_with_path", function() return model:partition_with_path(function(path) return path == "kernel" end) end)
case("mlax.Module.combine", function() return model:filter():combine(model) end)
case("mlax.Module.summary", function() return model:summary(), Affine(2):summary(a) end)
case("mlax.Module.tree_flatten_with_keys", function()
  local children, aux = model:tree_flatten_with_keys()
  local values = {}
  for i, child in ipairs(children) do values[i] = child[2] end
  return Module.tree_unflatten(aux, values)
end)
case("mlax.Module.tree_unflatten", cases["mlax.Module.tree_flatten_with_keys"])
case("fields of a module", function()
  local m = Affine(2)
  m.more, m.list, m.constant = 1, {mlax.Parameter(true, a)}, v
  m.more = nil
  for _ in pairs(m) do end
  return m.n, m.missing, tostring(m)
end)
case("mlax.Parameter", function()
  local p = mlax.Parameter(true, {a, b})
  p.note, p.trainable = "x", false
  for _ in pairs(p) do end
  return p.data, tostring(p)
end)
case("mlax.Parameter.tree_flatten", function() return mlax.Parameter(true, a):tree_flatten() end)
case("mlax.Parameter.tree_unflatten", function()
  local p = mlax.Parameter(true, a)
  p.note = "x"
  local children, aux = p:tree_flatten()
  return mlax.Parameter.tree_unflatten(aux, children)
end)
each("mlax.", mlax, "is_leaf_param is_trainable_param is_non_trainable_param is_parameter is_module class_of",
  function(f) return f(model), f(model.kernel), f(a), f(1) end)
case("mlax.is_a", function() return mlax.is_a(model, Affine), mlax.is_a(a, Affine) end)
case("packed modules", function()
  local copy = tree.map(double, affine())
  local kernel = copy.kernel.data
  copy.kernel.data = kernel + 1
  return tree.structure(copy), copy(a)
end)

-- -- transformations ----------------------------------------------------------------------------------------------------

local function loss(x) return (x:sin() * b):sum() end
local function tree_loss(p) return (p.w * p.list[1]):sum() + p.list[2] * 2.0, p.list[3] end

case("mlax.grad", function() return mlax.grad(loss)(a), mlax.grad(tree_loss)({w = a, list = {b, 2.0, {v}}}) end)
case("mlax.value_and_grad", function()
  return mlax.value_and_grad(function(x, y) return (x * y):sum(), x end, {argnums = {1, 2}})(a, b)
end)
case("mlax.vjp", function()
  local _, pullback = mlax.vjp(function(x) return {x:exp(), x * 2} end, a)
  return pullback{a, b}
end)
case("mlax.jvp", function() return mlax.jvp(loss, {a}, {b}) end)
case("mlax.linearize", function()
  local _, push = mlax.linearize(loss, a)
  return push(b)
end)
case("mlax.vmap", function()
  return mlax.vmap(loss)(a:reshape{1, 2, 3}), mlax.vmap(function(x, y) return x + y, {y} end, {in_axes = {1, 2}, out_axes = 2})(a, b.T)
end)
case("mlax.jit", function()
  local f = mlax.jit(function(x, n) return {y = (x * b):sum(1) + n}, n end)
  return f(a, 1), f(a, 1), f(b, 1), f(a, 2)
end)
case("a compiled step", function() return cases.step(a, b) end)
case("jit donated", function()
  local f = mlax.jit(function(x, y) return x + y end, {donate_argnums = 1})
  return f(a + 1, b), f(a + 2, b)
end)
case("jit.traces", function() return mlax.jit(loss):traces() end)
case("jit.explain", function()
  local f = mlax.jit(function(x) return x * 2 end)
  f(a)
  f(v)
  return f:explain()
end)
case("jit.clear", function()
  local f = mlax.jit(function(x) return x * 2 end)
  f(a)
  f:clear()
  return f(a)
end)
case("jit.program", function() return tostring(mlax.jit(function(x) return x * 2 end):program(a)) end)
case("jit.cost", function() return mlax.jit(function(x) return x * 2 end):cost(a) end)
case("mlax.program", function() return tostring(mlax.program(mlax.grad(loss))(a)) end)
case("mlax.eval_shape", function() return mlax.eval_shape(function(x) return {x:matmul(x.T)} end)(a) end)
case("mlax.stop_gradient", function()
  return mlax.stop_gradient{a, 1}, mlax.grad(function(x) return (x * mlax.stop_gradient(x)):sum() end)(a)
end)
case("mlax.lax.stop_gradient", function() return lax.stop_gradient(a) end)
case("mlax.jacfwd", function() return mlax.jacfwd(function(x) return x:sin() end)(v) end)
case("mlax.jacrev", function() return mlax.jacrev(function(x) return x:sin() end)(v) end)
case("mlax.hessian", function() return mlax.hessian(function(x) return x:sin():sum() end)(v) end)
case("grad(vmap(jit))", function()
  local f = mlax.jit(function(x) return (x * x):sin() end)
  return mlax.grad(function(x) return mlax.vmap(f)(x):sum() end)(a)
end)
case("jit(vmap(grad))", function() return mlax.jit(mlax.vmap(mlax.grad(function(x) return (x * v):sum() end)))(a) end)
case("vmap(grad(matmul, softmax))", function()
  return mlax.vmap(mlax.grad(function(x) return mlax.log_softmax(square:matmul(x:reshape{2, 1}):flatten()):max() end))(square)
end)
case("grad of indexing", function()
  return mlax.grad(function(x) return x[{1, ints}]:sum() + x:at{1}:set(0):sum() + x:sort()[{1, 2}] + x:cumsum(1)[{2, 2}] end)(a)
end)
case("jit of a module", function()
  local m = affine()
  local f = mlax.jit(function(given, x) return given(x) end)
  local y, new = f(m, a)
  return y, f(new, a), mlax.jit(m)(a)
end)
case("grad of a module", function()
  local m = affine()
  local trainable, rest = m:partition()
  return mlax.grad(function(t) return t:combine(rest)(a):sum() end)(trainable)
end)
-- -- control flow, custom rules, named axes -------------------------------------------------------------------------------

case("mlax.scan", function()
  local function step(x) return function(c, row) return {w = c.w * x + row, n = c.n + 1}, {c.w:sin()} end end
  local function run(x) return mlax.scan(step(x), {w = v, n = 0}, a) end
  local carry, ys = run(v)
  return carry.n, ys[1], mlax.scan(function(c) return c + 1, nil end, 0.5, nil, {length = 3, reverse = true}),
    mlax.scan(function(c, x) return c + x, c end, v, a, {unroll = true}),
    mlax.grad(function(x) local c, y = run(x) return c.w:sum() + y[1]:sum() end)(v)
end)
case("jit(grad(scan)), vmap(scan)", function()
  local function run(x, rows)
    local carry, ys = mlax.scan(function(c, row) return (c * x + row):tanh(), c * row end, v, rows)
    return carry:sum() + ys:sum()
  end
  return mlax.jit(mlax.grad(run))(v, a), mlax.vmap(run, {in_axes = {false, 1}})(v, mlax.stack({a, b}, 1)),
    mlax.vmap(run, {in_axes = {1, false}})(a, b),
    mlax.hessian(run)(v, a), mlax.jvp(function(x) return run(x, a) end, {v}, {v})
end)
local wide = mlax.ones({8, 8}) * 0.1
case("grad(scan) with a product that leaves the way back", function()
  return mlax.grad(function(w)
    return (mlax.scan(function(c, x) return (c:matmul(w) + x):tanh(), nil end, wide[1], wide[{{1, 3}}])):sum()
  end)(wide)
end)
case("grad(scan) with a residual that is made of others", function()
  local function f(x)
    return (mlax.scan(function(c, row)
      local s = (c * row):sigmoid()
      return s * c, {s, s}
    end, x, a)):sum()
  end
  return mlax.grad(f)(v)
end)
local tall = mlax.ones{1024, 4}
case("jit of values that are made again", function()
  return mlax.jit(function(x, w)
    local t = x:tanh()
    local p, q = t + 1, 1 - t * t
    return (p * q):matmul(w) * p + q
  end)(tall, mlax.eye(4))
end)
local flat, dense = mlax.ones{1, 256}, mlax.ones{256, 256}
case("jit of steps that come in another order", function()
  return mlax.jit(function(x, w)
    local y = x:matmul(w)
    local p, q = x.T:matmul(y), y.T:matmul(x)
    return w + p, w - q
  end)(flat, dense)
end)
case("jit of known positions", function()
  local i, k = mlax.array({1, 2}, "int32"), mlax.array({2, 1}, "int32")
  return mlax.jit(function(x, j)
    local y = mlax.zeros{2, 3}:at{i}:add(x:take(i, 1)):at{1}:set(x:take(k, 1):take(j, 1)[1])
    return mlax.dynamic_update_slice(y, x[{{1, 1}}], {1, 1})[1], y
  end)(a, k)
end)
case("jit of parts in their places", function()
  return mlax.jit(function(x)
    local y = x:matmul(x)
    return mlax.concat({y:sin(), mlax.concat({y:matmul(x), y}, 1)}, 1):pad({{1, 1}, {0, 0}}), y:at{1}:set(2):matmul(x)
  end)(mlax.eye(4))
end)
case("grad(checkpoint(cond))", function()
  local function f(x)
    local y = mlax.cond(x:sum():gt(0), function(t) return t:tanh() end, function(t) return t:sin() end, x)
    return (y * y:sin()):sum()
  end
  return mlax.grad(mlax.checkpoint(f))(v)
end)
case("linearize(vmap(while_loop))", function()
  local function f(x, y)
    return mlax.while_loop(function(c) return c.k:lt(x:sum() + 2) end, function(c) return {k = c.k + 1, y = c.y * x} end, {k = 0, y = y}).y
  end
  local _, push = mlax.linearize(function(y) return mlax.vmap(f)(v, y) end, v)
  return push(v)
end)
case("mlax.while_loop", function()
  local function run(x)
    return mlax.while_loop(function(c) return c[1]:lt(3) end, function(c) return {c[1] + x, c[2] * 2} end, {x, v})
  end
  return run(v[1])[2], mlax.jit(run)(v[1]), mlax.vmap(run)(v), mlax.jvp(function(x) return run(x)[1] end, {v[1]}, {v[1]}),
    mlax.jacfwd(function(x) return run(x)[1] end)(v[1])
end)
case("mlax.fori_loop", function()
  local function run(n) return mlax.fori_loop(1, n, function(i, c) return c * i end, v) end
  local function power(x) return mlax.fori_loop(1, 2, function(_, c) return c * x end, v):sum() end
  return run(3), run(0), run(ints[2]), mlax.grad(power)(v), mlax.vmap(run)(ints)
end)
case("mlax.cond", function()
  local function run(p, x)
    return mlax.cond(p, function(y) return y:sin() * b, {y} end, function(y) return y * v, {y + 1} end, x)
  end
  return run(true, a), run(bools[2], a), mlax.jit(run)(bools[1], a), mlax.vmap(run, {in_axes = {1, false}})(bools, a),
    mlax.vmap(run, {in_axes = {false, 1}})(bools[1], mlax.stack({a, b}, 1)), mlax.grad(function(x) return (run(bools[1], x)):sum() end)(a),
    mlax.jvp(function(x) return (run(bools[1], x)) end, {a}, {b})
end)
case("mlax.switch", function()
  local list = {function(x) return x * v end, function(x) return x:exp() end, function(x) return x:at{1}:set(0) end}
  local function run(i, x) return mlax.switch(i, list, x) end
  return run(2, a), mlax.jit(run)(ints[1], a), mlax.vmap(run, {in_axes = {1, false}})(ints, a),
    mlax.jit(mlax.grad(function(x, i) return run(i, x):sum() end))(a, ints[2])
end)
case("mlax.associative_scan", function()
  local function products(x) return mlax.associative_scan(mlax.mul, x, {reverse = true}):sum() end
  return mlax.associative_scan(mlax.add, v), mlax.grad(products)(v)
end)
case("mlax.checkpoint", function()
  local f = mlax.checkpoint(function(x, t) return {(x * t.w):sin():sin()} end)
  local function loss_of(x) return f(x, {w = b})[1]:sum() end
  local function of_row(x) return f(x, {w = v})[1]:sum() end
  return f(a, {w = 2.0}), mlax.grad(loss_of)(a), mlax.jit(mlax.grad(loss_of))(a), mlax.hessian(of_row)(v), mlax.vmap(mlax.grad(of_row))(a)
end)
case("mlax.custom_jvp", function()
  local f = mlax.custom_jvp(function(x, y) return x * y end, function(p, t) return p[1] * p[2], t[1] * p[2] + p[1] * t[2] * v end)
  local function loss_of(x) return f(x, v):sum() end
  return f(v, v), mlax.grad(loss_of)(v), mlax.vmap(mlax.grad(loss_of))(a), mlax.jit(mlax.grad(loss_of))(v), mlax.jvp(loss_of, {v}, {v}),
    mlax.grad(function(w)
      return mlax.custom_jvp(function(x) return x * w end, function(p, t) return p[1] * w, t[1] * w end)(v):sum()
    end)(v)
end)
case("mlax.custom_vjp", function()
  local function product(x, y) return x * y end
  local f = mlax.custom_vjp(product, function(x, y) return x * y, {x, y} end, function(r, ct) return ct * r[2], nil end)
  local function loss_of(x) return f(x, v):sum() end
  return f(v, v), mlax.grad(loss_of)(v), mlax.vmap(mlax.grad(loss_of))(a), mlax.jit(mlax.grad(loss_of))(v),
    mlax.grad(function(w)
      local g = mlax.custom_vjp(function(x) return x * w end, function(x) return x * w, {x} end, function(r, ct) return ct * w + r[1] end)
      return g(v * w):sum()
    end)(v)
end)
each("mlax.", mlax, "psum pmean pmax pmin all_gather", function(f)
  local function both(x) return f({x, 2.0}, "rows")[1]:sum() * f(x, {"columns"}) end
  local g = mlax.vmap(mlax.vmap(both, {axis_name = "columns"}), {axis_name = "rows"})
  return g(a), mlax.jit(g)(a), mlax.grad(function(x) return g(x):sum() end)(a)
end)
case("mlax.ppermute", function()
  local g = mlax.vmap(function(x) return mlax.ppermute({x}, "i", {{1, 2}, {2, 3}})[1] * x end, {axis_name = "i"})
  return g(v), mlax.jit(g)(v), mlax.grad(function(x) return g(x):sum() end)(v)
end)
case("mlax.axis_index", function()
  return mlax.vmap(mlax.vmap(function(x) return x + mlax.axis_index{"i", "j"} end, {axis_name = "j"}), {axis_name = "i"})(a)
end)
case("mlax.axis_size", function() return mlax.vmap(function(x) return x * mlax.axis_size("i") end, {axis_name = "i"})(v) end)
case("mlax.pmap", function() return mlax.pmap(function(x) return mlax.psum(x, "i") end, {axis_name = "i"})(v) end)
case("collectives inside control flow", function()
  local function run(x) return (mlax.scan(function(c, _) return mlax.psum(c, "i") * x, nil end, x, nil, {length = 2})) end
  return mlax.jit(mlax.vmap(run, {axis_name = "i"}))(v)
end)

cases.step = mlax.jit(function(x, y) return (x * y + 1):sum(), {x:sin(), y} end)

-- -- layers and functions -----------------------------------------------------------------------------------------------

local function layer(name, make) case("mlax.nn." .. name, function() return make()(a, key) end) end

layer("Linear", function() return nn.Linear(key, 2) end)
layer("Bias", function() return nn.Bias(key, -1) end)
layer("Scaler", function() return nn.Scaler(key, -1) end)
layer("F", function() return nn.F(F.relu) end)
layer("FRng", function() return nn.FRng(function(x, rng) return x + random.normal(rng, x.shape) end) end)
layer("Series", function() return nn.Series{nn.Linear(key, 2), nn.F(F.relu)} end)
layer("SeriesRng", function() return nn.SeriesRng{nn.Linear(key, 2), nn.Dropout(0.5)} end)
layer("Dense", function() return nn.Dense(key, 2) end)
layer("Dropout", function() return nn.Dropout(0.5) end)
layer("LayerNorm", function() return nn.LayerNorm(key) end)
layer("RMSNorm", function() return nn.RMSNorm(key) end)
layer("GroupNorm", function() return nn.GroupNorm(key, 1) end)
case("mlax.nn.Parallel", function() return nn.Parallel{nn.Linear(key, 2), nn.F(F.relu)}{a, b} end)
case("mlax.nn.ParallelRng", function() return nn.ParallelRng{nn.Linear(key, 2), nn.Dropout(0.5)}({a, b}, key) end)
case("mlax.nn.Embed", function() return nn.Embed(key, 3, 2)(ints) end)

each("mlax.nn.initializers.", initializers, [[glorot_normal glorot_uniform he_normal he_uniform lecun_normal lecun_uniform normal
  orthogonal truncated_normal uniform]], function(f) return f()(key, {3, 2}) end)
each("mlax.nn.initializers.", initializers, "zeros ones", function(f) return f(key, {3, 2}) end)
case("mlax.nn.initializers.constant", function() return initializers.constant(3)(key, {3, 2}) end)
case("mlax.nn.initializers.variance_scaling", function()
  return initializers.variance_scaling(2, "fan_in", "truncated_normal")(key, {3, 2}, "float16")
end)

each("mlax.nn.functional.", F, [[celu elu gelu hard_sigmoid hard_swish hard_tanh leaky_relu log_softmax mish relu relu6 selu silu
  softmax softplus softsign]], function(f) return f(mlax.ones{2, 4}) end)
each("mlax.nn.functional.", F, "layer_norm rms_norm z_norm", function(f) return f(a, -1) end)
case("mlax.nn.functional.glu", function() return F.glu(mlax.ones{2, 4}, 2) end)
case("mlax.nn.functional.identity", function() return F.identity(a, b) end)
case("mlax.nn.functional.dropout", function() return F.dropout(a, key, 0.5) end)
case("mlax.nn.functional.dot_product_attention_logits", function() return F.dot_product_attention_logits(a, b) end)
case("mlax.nn.functional.apply_attention_weights", function() return F.apply_attention_weights(square, a) end)
case("mlax.nn.functional.scaled_dot_product_attention", function() return F.scaled_dot_product_attention(a, b, a, {causal = true}) end)

-- -- training -----------------------------------------------------------------------------------------------------------

local params, grads = {w = a, list = {v, false}}, {w = b, list = {v, false}}

local function optimizer(name, make)
  case("mlax.optim." .. name, function()
    local opt = make()
    local state = opt:init(params)
    return opt:step(params, grads, state)
  end)
end

for name in ("adam adamw adamax nadam rmsprop adagrad adadelta lion lamb"):gmatch("%S+") do
  optimizer(name, function() return optim[name](0.1) end)
end
optimizer("sgd", function() return optim.sgd(optim.cosine_decay(0.1, 10), {momentum = 0.9, nesterov = true}) end)
optimizer("chain", function() return optim.chain{optim.clip(1), optim.scale(2)} end)
for name, arg in pairs{clip = 1, clip_by_global_norm = 1, add_decayed_weights = 0.1, scale = 2, ema = 0.9, trace = 0.9} do
  optimizer(name, function() return optim[name](arg) end)
end
local scalings = "scale_by_adadelta scale_by_adam scale_by_adamax scale_by_lion scale_by_rms scale_by_rss scale_by_trust_ratio"
for name in scalings:gmatch("%S+") do
  optimizer(name, function() return optim[name]() end)
end
optimizer("scale_by_schedule", function() return optim.scale_by_schedule(optim.constant(2)) end)
optimizer("masked", function() return optim.masked(optim.sgd(0.1), {w = true, list = false}) end)
optimizer("multi_transform", function()
  return optim.multi_transform({x = optim.sgd(0.1), y = optim.adam(0.1)}, {w = "x", list = "y"})
end)
optimizer("accumulate", function() return optim.accumulate(optim.sgd(0.1), 2) end)
optimizer("apply_if_finite", function() return optim.apply_if_finite(optim.sgd(0.1), 2) end)
case("mlax.optim.apply_updates", function() return optim.apply_updates(params, grads) end)
case("mlax.optim.global_norm", function() return optim.global_norm(params) end)

local count = mlax.array(3, "int32")
local schedules = {
  constant = {1}, cosine_decay = {1, 10}, exponential_decay = {1, 10, 0.5}, one_cycle = {10, 1}, piecewise = {1, {[2] = 0.5}},
  polynomial = {1, 0, 2, 10}, warmup_cosine = {0, 1, 2, 10},
}
for name, args in pairs(schedules) do
  case("mlax.optim." .. name, function()
    local s = optim[name](table.unpack(args))
    return s(3), s(count)
  end)
end

local labels = mlax.array({1, 3}, "int32")
each("mlax.losses.", losses, [[softmax_cross_entropy sigmoid_binary_cross_entropy mse l1 huber kl_divergence hinge cosine_distance]],
  function(f) return f(a, b), mlax.grad(function(x) return f(x, b):sum() end)(a) end)
case("mlax.losses.softmax_cross_entropy_with_labels", function()
  return mlax.grad(function(x) return losses.softmax_cross_entropy_with_labels(x, labels):mean() end)(a)
end)
case("mlax.metrics.accuracy", function() return metrics.accuracy(a, labels) end)
case("mlax.metrics.top_k_accuracy", function() return metrics.top_k_accuracy(a, labels, 2) end)
case("mlax.metrics.confusion_matrix", function() return metrics.confusion_matrix(labels, labels, 3) end)
each("mlax.metrics.", metrics, "precision recall f1", function(f) return f(bools, bools) end)
case("mlax.metrics.roc_auc", function() return metrics.roc_auc(v, bools) end)
case("mlax.metrics.mean", function() return metrics.mean(v) end)

case("a training step", function()
  local net = nn.Series{nn.Linear(key, 2), nn.Bias(key, -1), nn.F(F.relu)}
  net(a)
  local opt = optim.sgd(0.1, {momentum = 0.9})
  local state = opt:init(net)
  local step = mlax.jit(function(given, before, x, y)
    local value, gradient = mlax.value_and_grad(function(n) return losses.softmax_cross_entropy_with_labels(n(x), y):mean() end)(given)
    return value, opt:step(given, gradient, before)
  end)
  local value
  value, net, state = step(net, state, a, mlax.array({1, 2}, "int32"))
  return value, net(a), state
end)

-- -- data and files -----------------------------------------------------------------------------------------------------

local folder = os.getenv("FAULT_FOLDER") or os.tmpname() .. ".d"
local function written(name, text)
  local path = folder .. name
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end
local idx = written(".idx", "\0\0\8\2\0\0\0\2\0\0\0\3\1\2\3\4\5\6")
local csv = written(".csv", "x,y\n1,2\n3,4\n")
local bad = written(".bad", "\0\0\8\2\0\0\0\2\0\0\0\3\1")
cases.files = {idx, csv, bad}

local ds = mlax.data.dataset{x = a, y = labels}
case("mlax.data.dataset", function()
  local d = mlax.data.dataset{x = a, y = labels}
  return #d, d.x, d[1], tostring(d)
end)
case("dataset.example", function() return ds:example(1) end)
case("dataset.batches", function() for batch in ds:batches(1, {shuffle = key}) do local _ = batch.x + 1 end end)
case("dataset.map", function() for batch in ds:map(function(t) return {x = t.x * 2} end):batches(2) do local _ = batch.x end end)
case("dataset.take", function() return ds:take(1) end)
case("dataset.split", function() return ds:split(0.5, key) end)
case("mlax.data.idx", function() return assert(mlax.data.idx(idx)) end)
case("mlax.data.csv", function() return assert(mlax.data.csv(csv, {header = true})) end)
case("a bad file", function()
  local x, message = mlax.data.idx(bad)
  assert(x == nil and type(message) == "string")
end)
case("mlax.data.mnist", function()
  local x, message = mlax.data.mnist("/nowhere")
  assert(x == nil and type(message) == "string")
end)
each("mlax.data.", mlax.data, "digits iris wine breast_cancer diabetes", function(f) return assert(f()) end)

local tensors, npy, npz, checkpoints = folder .. ".safetensors", folder .. ".npy", folder .. ".npz", folder .. ".run"
local stored = {w = a, layers = {nn.Dense(key, 2)}, n = 3, rate = 0.5, key = key}
stored.layers[1](a)
assert(mlax.save(tensors, stored))
local tensors_bytes = io.open(tensors, "rb"):read("a")
case("mlax.save", function() return assert(mlax.save(tensors, stored)) end)
case("mlax.load", function()
  local t = assert(mlax.load(tensors, stored))
  assert(t.rate == 0.5 and tree.equal(t.layers, stored.layers))
  return t, assert(mlax.load(tensors)), assert(mlax.load(tensors, {w = b, other = v}, {strict = false}))
end)
case("a file that does not fit", function()
  local t, message = mlax.load(tensors, {w = v, x = a})
  assert(t == nil and message:find(" does not fit ") or message:find("cannot ")) -- the latter where files fail
end)
case("mlax.load_bytes", function() return assert(mlax.load_bytes(tensors_bytes, stored)) end)
assert(mlax.io.npy.save(npy, a.T) and mlax.io.npz.save(npz, {x = a, y = ints}))
local npy_bytes, npz_bytes = io.open(npy, "rb"):read("a"), io.open(npz, "rb"):read("a")
case("mlax.io.npy.save", function() return assert(mlax.io.npy.save(npy, a.T)) end)
case("mlax.io.npy.load", function() return assert(mlax.io.npy.load(npy)) end)
case("mlax.io.npy.load_bytes", function() return assert(mlax.io.npy.load_bytes(npy_bytes)) end)
case("mlax.io.npz.save", function() return assert(mlax.io.npz.save(npz, {x = a, y = ints}, {compress = true})) end)
case("mlax.io.npz.load", function() return assert(mlax.io.npz.load(npz)) end)
case("mlax.io.npz.load_bytes", function() return assert(mlax.io.npz.load_bytes(npz_bytes)) end)
local manager = assert(mlax.checkpoint_manager(checkpoints, {keep = 2}))
case("mlax.checkpoint_manager", function() return tostring(assert(mlax.checkpoint_manager(checkpoints, {keep = 2}))) end)
case("checkpoint_manager.save", function()
  for step = 1, 3 do assert(manager:save(step, {w = a, step = step})) end
  assert(#assert(manager:steps()) == 2)
end)
case("checkpoint_manager.restore", function()
  local t, step = manager:restore{w = b, step = 0}
  return assert(t, step), step
end)
case("checkpoint_manager.latest", function() return select(2, assert(manager:latest())) end)
case("checkpoint_manager.steps", function() return assert(manager:steps()) end)
-- What test_fault_files.c runs with failing calls of the file table.
cases.with_files = {"mlax.data.idx", "mlax.data.csv", "mlax.save", "mlax.load", "a file that does not fit", "mlax.io.npy.save",
  "mlax.io.npy.load", "mlax.io.npz.save", "mlax.io.npz.load", "mlax.checkpoint_manager", "checkpoint_manager.save",
  "checkpoint_manager.restore", "checkpoint_manager.latest", "checkpoint_manager.steps"}

local sink = function() end
local quiet = {write = sink, width = 20, height = 4}
case("mlax.progress", function() for _ in mlax.progress(3, {label = "x", write = sink}) do end end)
case("mlax.plot.line", function() mlax.plot.line(v, quiet) end)
case("mlax.plot.scatter", function() mlax.plot.scatter(v, v, quiet) end)
case("mlax.plot.hist", function() mlax.plot.hist(v, {write = sink, width = 40, bins = 3}) end)
case("mlax.plot.image", function() mlax.plot.image(a, {write = sink, width = 20}) end)
case("mlax.plot.confusion", function() mlax.plot.confusion(metrics.confusion_matrix(labels, labels, 3), {write = sink}) end)

-- -- linear algebra --------------------------------------------------------------------------------------------------------

local linalg = mlax.linalg
local spd = mlax.array{{4, 1, 0}, {1, 3, 1}, {0, 1, 2}}
local batched = mlax.stack({spd, spd + mlax.eye(3)}, 1)

-- Eagerly, its gradient, and compiled over a batch. reduced(x): a scalar from the function of x.
local function each_way(run, reduced)
  return run(spd), mlax.grad(reduced)(spd), mlax.jit(mlax.vmap(mlax.grad(reduced)))(batched)
end

for name in ("cholesky inv det norm"):gmatch("%S+") do
  local f = linalg[name]
  case("mlax.linalg." .. name, function() return each_way(f, function(x) return f(x):sum() end) end)
end
case("mlax.linalg.solve", function()
  return each_way(function(x) return linalg.solve(x, v) end, function(x) return linalg.solve(x, v):sum() end)
end)
case("mlax.linalg.triangular_solve", function()
  local function solve(x) return linalg.triangular_solve(x, v, {lower = true}) end
  return each_way(solve, function(x) return solve(x):sum() end)
end)
for name in ("slogdet qr svd eigh lstsq"):gmatch("%S+") do
  local f = linalg[name]
  local function run(x)
    if name == "lstsq" then return (f(x, v)) end
    return f(x)
  end
  case("mlax.linalg." .. name, function()
    return each_way(run, function(x)
      local p, q = run(x)
      return p:sum() + (q and q:sum() or 0)
    end)
  end)
end

-- -- debugging -----------------------------------------------------------------------------------------------------------

case("mlax.debug.nans", function()
  mlax.debug.nans(true)
  local ok, message = pcall(function() return mlax.jit(function(x) return x:log() end)(-a) end)
  mlax.debug.nans(false)
  assert(not ok)
  if type(message) == "string" and message:find("memory", 1, true) then error(message, 0) end
end)
-- Every pass finds something; what it makes is freed, and printed.
case("mlax.debug.passes", function()
  assert(mlax.debug.passes("fusion") and mlax.debug.passes().cse)
  local twice = mlax.custom_jvp(function(x) return x * 2 end, function(p, t) return p[1] * 2, t[1] * 2 end)
  local w = mlax.ones{3, 16}
  local f = mlax.jit(function(x)
    local c, ys = mlax.scan(function(h, y) return h * w:exp():sum() + y:matmul(w):sum(), h end, x:sum() / 8, x)
    local n = mlax.while_loop(function(h) return h:lt(w:sum()) end, function(h) return h + w:exp():sum() end, c)
    local sum = mlax.scan(function(h, y) return h + y.T:matmul(y) end, mlax.ones{3, 3}, mlax.stack({x, x}, 1))
    return sum, twice(-(-x)) + mlax.array{1, 2, 3}:sin(), x:broadcast_to{4, 2, 3}:astype("bfloat16"), ys * n, ys * n
  end)
  return tostring(f:program(a, {optimized = true})), f(a)
end)
case("mlax.debug.print", function()
  local print = print
  _G.print = function() end
  local ok, message = pcall(function()
    mlax.debug.print("%s %g", a, v:sum())
    return mlax.jit(mlax.vmap(function(x) mlax.debug.print("%s of %d", x, 3) return x end))(a)
  end)
  _G.print = print
  if not ok then error(message, 0) end
end)
case("mlax.gradcheck", function() return assert(mlax.gradcheck(function(x) return x:sin() end, {v})) end)

-- -- system -------------------------------------------------------------------------------------------------------------

case("mlax.memory", function() return mlax.memory() end)
case("mlax.set_memory_limit", function() mlax.set_memory_limit(0) end)
case("mlax.threads", function() return mlax.threads() end)
case("mlax.devices", function() return mlax.devices() end)
case("mlax.default_device", function() return mlax.default_device() end)
case("mlax.device_put", function() return mlax.device_put(a, "cpu") end)
case("mlax.deterministic", function() return mlax.deterministic(true) end)
case("mlax.print_options", function() return mlax.print_options{precision = 6} end)
case("mlax.scope", function()
  local s <close> = mlax.scope()
  local x = a + 1
  return s:keep{x * 2}
end)
case("mlax.time", function() return mlax.time(loss, a) end)
case("mlax.profile", function()
  local path = os.tmpname()
  local stdout = io.stdout
  rawset(io, "stdout", {write = function() end})
  local results = table.pack(pcall(mlax.profile, path, function()
    local total = mlax.scan(function(carry, x) return carry + x:sum(), x * 2 end, v:sum(), a)
    return (a * b + 1):sum() + total
  end))
  rawset(io, "stdout", stdout)
  os.remove(path)
  if not results[1] then error(results[2], 0) end
  return results[2]
end)
case("mlax.traceback", function()
  local ok, message = pcall(mlax.grad(function() error("x") end), a)
  return ok, mlax.traceback(message)
end)
case("mlax.strict", function()
  mlax.strict()
  local ok = pcall(function() return undefined_global end) -- luacheck: ignore
  setmetatable(_G, nil)
  return ok
end)

-- -- errors themselves --------------------------------------------------------------------------------------------------

-- The call must fail, with a message about something else than memory, or about memory where that ran out.
local function fails(name, f)
  case("error: " .. name, function()
    local ok, message = pcall(f)
    assert(not ok)
    if type(message) == "string" and message:find("memory", 1, true) then error(message, 0) end
  end)
end

local kept
fails("shapes", function() return a + mlax.ones{4} end)
fails("option", function() return a:sum{keepdim = true} end)
fails("axis", function() return a:sum(0) end)
fails("index", function() return a[5] end)
fails("field", function() return a.shap end)
fails("leaked", function()
  mlax.grad(function(x) kept = x return x:sum() end)(a)
  local x = kept
  kept = nil
  return x + 1
end)
fails("traced", function() return mlax.jit(function(x) return x:item() end)(v[1]) end)
fails("user", function() return mlax.grad(mlax.vmap(mlax.jit(function(x) error({x}) end)))(a) end)
fails("structure", function() return tree.map(add, dict, {w = a}) end)
fails("module", function() return nn.Series{nn.Linear(key, 2), nn.F(function() error("inside") end)}(a) end)
fails("missing", function() return mlax.summ end)
fails("check", function() return optim.sgd("x") end)

-- -- layers that go over steps, batches and sequences ----------------------------------------------------------------------

local function over_batch(first, x)
  local axes = {in_axes = {false, 1}, out_axes = {1, false}, axis_name = "n"}
  return mlax.vmap(function(m, w) return m(w, nil, false, "n") end, axes)(first, x)
end
case("mlax.nn.ZNorm", function() return over_batch(nn.ZNorm(key, "channel_last"), a) end)
case("mlax.nn.BatchNorm", function() return over_batch(nn.BatchNorm(key), a) end)
case("mlax.nn.LSTMCell", function() return nn.LSTMCell(key, 2){v, {v[{{1, 2}}], v[{{2, 3}}]}} end)
case("mlax.nn.GRUCell", function() return nn.GRUCell(key, 2){v, v[{{1, 2}}]} end)
case("mlax.nn.Recurrent", function()
  local over = nn.Recurrent(nn.GRUCell(key, 2), {reverse = true, unroll = 2})
  return over{mlax.ones{4, 3}, mlax.zeros{2}}, over{mlax.ones{3, 3}, mlax.zeros{2}}
end)
case("mlax.nn.RecurrentRng", function()
  return nn.RecurrentRng(nn.FRng(function(xh, rng) return {random.uniform(rng), xh[2] + xh[1]} end))({v, mlax.zeros{}}, key)
end)
case("mlax.nn.RoPE", function() return nn.RoPE()(square) end)
case("mlax.nn.MultiheadAttention", function()
  return nn.MultiheadAttention(key, 2, {kv_heads = 1, dropout = 0.5, rope = true, causal = true})({mlax.ones{2, 4}, a, a, false}, key)
end)
case("mlax.nn.TransformerEncoderLayer", function()
  return nn.TransformerEncoderLayer(key, 1, 3, {dropout = 0.5})({square, mlax.ones({2, 2}, "bool")}, key)
end)
case("mlax.optim.lbfgs", function()
  local opt = optim.lbfgs(0.1, {memory_size = 2})
  return opt:step({a}, {b}, opt:init{a})
end)
case("mlax.optim.scale_by_lbfgs", function()
  local t = optim.scale_by_lbfgs{memory_size = 1, scale_init_precond = false}
  return t:update({a}, t:init{a}, {b})
end)
case("mlax.losses.ctc_loss", function()
  return losses.ctc_loss(mlax.zeros{1, 3, 3}, mlax.zeros{1, 3}, mlax.array({{2, 2}}, "int32"), mlax.array{{0, 1}})
end)

-- -- what no case names -------------------------------------------------------------------------------------------------

-- Functions that are known under several names are covered by one of them. `callable` says what counts in a table.
local function walk(found, prefix, t, skip)
  for name, value in pairs(t) do
    local is_function = type(value) == "function" or (type(value) == "table" and (mlax.class_of(value) or getmetatable(value)) ~= nil)
    if type(name) == "string" and is_function and not name:find("^__") and not (skip and skip[name]) then
      found[#found + 1] = {prefix .. name, value}
    end
  end
end

--- The names of public functions that no case covers.
function cases.uncovered()
  local _ = rawget(mlax, "progress") or mlax.progress
  pcall(function() return mlax.no_such_name end) -- loads what is merged into mlax
  local found = {}
  local namespaces = {
    lax = 1, linalg = 1, tree = 1, random = 1, nn = 1, optim = 1, losses = 1, metrics = 1, data = 1, plot = 1, io = 1, debug = 1,
  }
  walk(found, "mlax.", mlax, setmetatable({module = true}, {__index = namespaces}))
  local own = {functional = true, initializers = true}
  for name in pairs(namespaces) do walk(found, "mlax." .. name .. ".", mlax[name], own) end
  -- what is shared with the layers is not public
  walk(found, "mlax.nn.functional.", F, {norm_axes = true, statistics = true, attention_weights = true})
  walk(found, "mlax.nn.initializers.", initializers)
  walk(found, "mlax.io.npy.", mlax.io.npy)
  walk(found, "mlax.io.npz.", mlax.io.npz)
  walk(found, "checkpoint_manager.", getmetatable(manager))
  walk(found, "array:", core.methods)
  walk(found, "jit.", core.jit_methods)
  walk(found, "mlax.Module.", mlax.Module)
  walk(found, "mlax.Parameter.", mlax.Parameter)
  local covered, missing = {}, {}
  for _, f in ipairs(found) do
    local name = f[1]
    if cases[name] or cases[name:gsub("^array:", "mlax.")] then covered[f[2]] = true end
  end
  for _, f in ipairs(found) do
    if not cases[f[1]] and not cases[f[1]:gsub("^array:", "mlax.")] and not covered[f[2]] then missing[#missing + 1] = f[1] end
  end
  table.sort(missing)
  return table.concat(missing, " ")
end

cases.order = order
return cases
