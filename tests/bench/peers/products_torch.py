"""products.lua in PyTorch."""
import bench
import torch

torch.set_num_threads(bench.CORES)


def add(name, shape, dtype=torch.float32):
    def make():
        x, y = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
        return lambda: torch.matmul(x, y)

    bench.add(name, make)


for n in 512, 1024, 2048:
    add(f"matmul_{n}", (n, n))
add("matmul_batched", (64, 128, 128))
add("matmul_bf16_1024", (1024, 1024), torch.bfloat16)
bench.run()
