-- With mlax.deterministic(true) results have the same bits for any number of threads. Sizes are such that the work is shared.
local mlax = require "mlax"
local random, F, lax = mlax.random, mlax.nn.functional, mlax.lax

local function n(i, shape) return random.normal(random.key(i), shape) end

local works = {
  ["sum of all"] = function() return n(0, {1000003}):sum() end,
  ["sums of rows"] = function() return n(0, {301, 4097}):sum(2) end,
  ["sums of columns"] = function() return n(0, {4097, 301}):sum(1) end,
  ["sums over a middle axis"] = function() return n(0, {67, 301, 45}):sum(2) end,
  ["means over two axes"] = function() return n(0, {8, 4, 65537}):mean{1, 3} end,
  ["a product of all"] = function() return (n(0, {1000003}) * 0.001 + 1):prod() end,
  ["a variance"] = function() return n(0, {1000003}):var() end,
  logsumexp = function() return mlax.logsumexp(n(0, {100, 10007}), 2) end,
  softmax = function() return F.softmax(n(0, {100, 10007}), 2) end,
  ["cumsum of one row"] = function() return n(0, {1000003}):cumsum(1) end,
  ["cumsum of few rows"] = function() return n(0, {3, 500003}):cumsum(2) end,
  matmul = function() return n(0, {517, 700}):matmul(n(1, {700, 333})) end,
  ["matmul in float64"] = function() return n(0, {517, 700}):astype("float64"):matmul(n(1, {700, 333}):astype("float64")) end,
  ["matmul in bfloat16"] = function() return n(0, {517, 700}):astype("bfloat16"):matmul(n(1, {700, 333}):astype("bfloat16")) end,
  ["matrix and vector"] = function() return n(0, {5170, 700}):matmul(n(1, {700})) end,
  ["vector and matrix"] = function() return n(0, {7000}):matmul(n(1, {7000, 333})) end,
  ["a dot product"] = function() return n(0, {1000003}):matmul(n(1, {1000003})) end,
  ["a product of tall matrices"] = function() return n(0, {100003, 7}).T:matmul(n(1, {100003, 5})) end,
  ["batched products"] = function() return n(0, {13, 65, 70}):matmul(n(1, {13, 70, 33})) end,
  ["scatter-add"] = function()
    return mlax.zeros{50}:at{random.randint(random.key(3), {200003}, 1, 50)}:add(n(0, {200003}))
  end,
  ["segment_sum"] = function() return mlax.segment_sum(n(0, {200003}), random.randint(random.key(3), {200003}, 1, 50), 50) end,
  ["linalg.norm"] = function() return mlax.linalg.norm(n(0, {1001, 503})) end,
  ["linalg.svd"] = function() return (select(2, mlax.linalg.svd(n(0, {120, 80})))) end,
  ["linalg.eigh"] = function()
    local a = n(0, {120, 120})
    return (mlax.linalg.eigh(a:matmul(a.T)))
  end,
  ["linalg.solve"] = function() return mlax.linalg.solve(n(0, {300, 300}), n(1, {300, 20})) end,
  ["a layer norm's gradient"] = function()
    local function f(x, g)
      local centred = x - x:mean(2, {keepdims = true})
      return (centred * (centred:square():mean(2, {keepdims = true}) + 1e-5):rsqrt() * g):sin():sum()
    end
    return mlax.jit(mlax.grad(f, {argnums = {1, 2}}))(n(0, {3001, 257}), n(1, {257}))
  end,
  ["a pool's gradient"] = function()
    local function f(x) return mlax.vmap(function(image) return F.avg_pool(image, {3, 3}, {strides = {2, 2}}) end)(x):sin():sum() end
    return mlax.jit(mlax.grad(f))(n(0, {16, 33, 33, 8}))
  end,
  ["an MLP's gradient"] = function()
    local function f(p, x) return x:matmul(p[1]):tanh():matmul(p[2]):square():mean() end
    return mlax.jit(mlax.grad(f))({n(0, {784, 512}) * 0.05, n(1, {512, 10})}, n(2, {128, 784}))
  end,
}

for name, case in pairs{
  ["a convolution"] = {8, {}},
  ["a strided convolution"] = {8, {strides = 2}},
  ["a padded convolution"] = {8, {padding = "SAME"}},
  ["a depthwise convolution"] = {1, {feature_group_count = 8}},
} do
  works[name .. " and its gradients"] = function()
    local x, k = n(0, {16, 33, 33, 8}), n(1, {16, 3, 3, case[1]})
    local function f(a, b) return lax.conv(a, b, case[2]):sin():sum() end
    return lax.conv(x, k, case[2]), mlax.jit(mlax.grad(f, {argnums = {1, 2}}))(x, k)
  end
end

describe("deterministic", function()
  local threads = mlax.threads()
  setup(function() mlax.deterministic(true) end)
  teardown(function()
    mlax.deterministic(false)
    mlax.threads(threads)
  end)

  local function results(work, count)
    mlax.threads(count)
    return mlax.tree.leaves{work()}
  end

  for name, work in pairs(works) do
    it(name .. " has the same bits with 1, 2, 3 and 8 threads", function()
      local first = results(work, 1)
      for _, count in ipairs{2, 3, 8} do
        for i, x in ipairs(results(work, count)) do
          assert.is_true(mlax.array_equal(first[i], x):item(), ("result %d with %d threads"):format(i, count))
        end
      end
    end)
  end
end)
