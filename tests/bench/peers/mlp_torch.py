"""mlp.lua in PyTorch."""
import bench
import torch
from torch import nn

torch.set_num_threads(bench.CORES)


def make_model():
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def mlp_train(compiled):
    def make():
        model = make_model()
        opt = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
        x, labels = torch.randn(128, 784), torch.randint(0, 10, (128,))
        forward = torch.compile(model) if compiled else model

        def step():
            opt.zero_grad()
            loss = nn.functional.cross_entropy(forward(x), labels)
            loss.backward()
            opt.step()
            return loss

        return step

    return make


def mlp_infer(compiled):
    def make():
        model, x = make_model().eval(), torch.randn(1, 784)
        f = torch.compile(model) if compiled else model

        def run():
            with torch.inference_mode():
                return f(x)

        return run

    return make


for name, make in ("mlp_train", mlp_train), ("mlp_infer", mlp_infer):
    bench.add(name, make(False))
    bench.add(name + "@compiled", make(True))
bench.run()
