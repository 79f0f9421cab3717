"""elementwise.lua in PyTorch."""
import bench
import torch
import torch.nn.functional as F

torch.set_num_threads(bench.CORES)
N = 1_000_000


def gelu():
    x = torch.randn(N)
    return lambda: F.gelu(x, approximate="tanh")


def gelu_compiled():
    x, f = torch.randn(N), torch.compile(lambda v: F.gelu(v, approximate="tanh"))
    return lambda: f(x)


def adam(fused):
    def make():
        p = torch.randn(N)
        p.grad = torch.randn(N)
        opt = torch.optim.Adam([p], lr=1e-3, fused=fused)
        return opt.step

    return make


bench.add("gelu", gelu)
bench.add("gelu@compiled", gelu_compiled)
bench.add("adam", adam(False))
bench.add("adam@fused", adam(True))
bench.run()
