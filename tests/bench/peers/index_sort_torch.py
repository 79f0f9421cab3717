"""index_sort.lua in PyTorch."""
import bench
import torch
import torch.nn.functional as F

torch.set_num_threads(bench.CORES)


def embed():
    rows, ids = torch.randn(20000, 192, requires_grad=True), torch.randint(0, 20000, (256, 32))
    ct = torch.randn(256, 32, 192)
    return lambda: torch.autograd.grad(F.embedding(ids, rows), rows, ct)


def add(name, shape, f):
    def make():
        x = torch.randn(shape)
        return lambda: f(x)

    bench.add(name, make)


bench.add("embed", embed)
bench.add("normal", lambda: lambda: torch.randn(1_000_000))
add("sort", (1_000_000,), torch.sort)
add("cumsum", (1_000_000,), lambda x: torch.cumsum(x, 0))
add("transpose", (2048, 2048), lambda x: x.t().contiguous())
bench.run()
