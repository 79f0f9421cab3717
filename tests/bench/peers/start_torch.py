"""start.lua in PyTorch."""
import bench
import torch

bench.add("start", lambda: lambda: (torch.ones(3) + 1).tolist())
bench.run()
