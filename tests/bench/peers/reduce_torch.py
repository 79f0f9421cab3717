"""reduce.lua in PyTorch."""
import bench
import torch
import torch.nn.functional as F

torch.set_num_threads(bench.CORES)


def add(name, shape, f):
    def make(g):
        x = torch.randn(shape)
        return lambda: g(x)

    bench.add(name, lambda: make(f))
    bench.add(name + "@compiled", lambda: make(torch.compile(f)))


def layer_norm(compiled):
    def make():
        x, ct = torch.randn(4096, 1024, requires_grad=True), torch.randn(4096, 1024)
        scale, bias = torch.ones(1024, requires_grad=True), torch.zeros(1024, requires_grad=True)

        def f(x, scale, bias):
            return F.layer_norm(x, (1024,), scale, bias)

        g = torch.compile(f) if compiled else f
        return lambda: torch.autograd.grad(g(x, scale, bias), (x, scale, bias), ct)

    return make


add("softmax", (4096, 1024), lambda x: F.softmax(x, -1))
add("logsumexp", (4096, 4096), lambda x: torch.logsumexp(x, -1))
add("sum_all", (10_000_000,), lambda x: x.sum())
add("sum_rows", (4096, 4096), lambda x: x.sum(1))
add("sum_columns", (4096, 4096), lambda x: x.sum(0))
bench.add("layer_norm", layer_norm(False))
bench.add("layer_norm@compiled", layer_norm(True))
bench.run()
