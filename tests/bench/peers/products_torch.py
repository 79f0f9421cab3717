"""products.lua in PyTorch."""
import bench
import torch

torch.set_num_threads(bench.CORES)


def add(name, shape):
    def make():
        x, y = torch.randn(shape), torch.randn(shape)
        return lambda: torch.matmul(x, y)

    bench.add(name, make)


for n in 512, 1024, 2048:
    add(f"matmul_{n}", (n, n))
add("matmul_batched", (64, 128, 128))
bench.run()
