"""resnet.lua in PyTorch, channels last."""
import bench
import torch
from torch import nn

torch.set_num_threads(bench.CORES)


class ConvBlock(nn.Sequential):
    def __init__(self, inputs, channels, stride):
        super().__init__(nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())


class Residual(nn.Module):
    def __init__(self, inputs, channels, stride):
        super().__init__()
        self.block = nn.Sequential(ConvBlock(inputs, channels, stride), ConvBlock(channels, channels, 1))
        self.shortcut = ConvBlock(inputs, channels, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return self.block(x) + self.shortcut(x)


def make_model():
    model = nn.Sequential(ConvBlock(3, 16, 1), Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    x = torch.randn(128, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    return model.to(memory_format=torch.channels_last), x, torch.randint(0, 10, (128,))


def resnet_train(compiled):
    def make():
        model, x, labels = make_model()
        opt = torch.optim.Adam(model.parameters(), lr=5e-3)
        forward = torch.compile(model) if compiled else model

        def step():
            opt.zero_grad()
            loss = nn.functional.cross_entropy(forward(x), labels)
            loss.backward()
            opt.step()
            return loss

        return step

    return make


def resnet_infer(compiled):
    def make():
        model, x, _ = make_model()
        f = torch.compile(model.eval()) if compiled else model.eval()

        def run():
            with torch.inference_mode():
                return f(x)

        return run

    return make


for name, make in ("resnet_train", resnet_train), ("resnet_infer", resnet_infer):
    bench.add(name, make(False))
    bench.add(name + "@compiled", make(True))
bench.run()
