"""The figures of core.lua in PyTorch: prints "name<TAB>microseconds" lines."""
import sys
import time

import torch

torch.set_num_threads(2)
only = set(sys.argv[1:])


def report(name, make, rounds, n):
    if only and name not in only:
        return
    f = make()
    for _ in range(3):
        f()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(n):
            f()
        times.append((time.perf_counter() - start) / n * 1e6)
    print(f"{name}\t{sorted(times)[rounds // 2]:.3f}", flush=True)


def eager_add():
    x, y = torch.ones(10), torch.ones(10)
    return lambda: x + y


def grad_tiny():
    x = torch.ones(3, requires_grad=True)
    return lambda: torch.autograd.grad((x * x).sum(), x)


def mlp():
    model = torch.nn.Sequential(torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU(),
                                torch.nn.Linear(512, 10))
    opt = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    x, y = torch.randn(128, 784), torch.randint(0, 10, (128,))

    def step():
        opt.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return step


report("eager_add_10", eager_add, 15, 20000)
report("eager_grad_tiny", grad_tiny, 15, 2000)
report("ones_1mb", lambda: lambda: torch.ones(262144), 15, 500)
report("mlp_step", mlp, 15, 50)
