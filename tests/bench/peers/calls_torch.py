"""calls.lua in PyTorch."""
import bench
import torch
from torch import nn

torch.set_num_threads(bench.CORES)


def jit_call():
    x = torch.ones(1)
    with torch.no_grad():
        f = torch.jit.trace(lambda v: v + 1, x)
    return lambda: f(x)


def eager_add():
    x, y = torch.ones(10), torch.ones(10)
    return lambda: x + y


def eager_grad():
    x = torch.ones(3, requires_grad=True)
    return lambda: torch.autograd.grad((x * x).sum(), x)


def tiny():
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    return model, torch.randn(16, 8), torch.randn(16, 1)


def tiny_train(compiled):
    def make():
        model, x, y = tiny()
        opt = torch.optim.SGD(model.parameters(), lr=1e-2)
        loss_of = lambda: nn.functional.mse_loss(model(x), y)
        loss_of = torch.compile(loss_of) if compiled else loss_of

        def step():
            opt.zero_grad()
            loss = loss_of()
            loss.backward()
            opt.step()
            return loss

        return step

    return make


def vmap_grad(compiled):
    def make():
        model, x, y = tiny()
        params = {name: p.detach() for name, p in model.named_parameters()}

        def loss_of(params, x, y):
            return (torch.func.functional_call(model, params, (x,)) - y).square().mean()

        f = torch.func.vmap(torch.func.grad(loss_of), in_dims=(None, 0, 0))
        f = torch.compile(f) if compiled else f
        return lambda: f(params, x, y)

    return make


bench.add("jit_call", jit_call)
bench.add("eager_add", eager_add)
bench.add("eager_grad", eager_grad)
for name, make in ("tiny_train", tiny_train), ("vmap_grad", vmap_grad):
    bench.add(name, make(False))
    bench.add(name + "@compiled", make(True))
bench.run()
