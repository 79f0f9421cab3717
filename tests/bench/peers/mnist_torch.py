"""The models of lua/examples/{mlp,resnet,lstm,encoder}.lua in PyTorch, trained on MNIST as these do, to compare accuracy and time.

    python mnist_torch.py MODEL DIR [EPOCHS] [bfloat16]          DIR holds MNIST's four IDX files, gzip or not
"""
import gzip
import os
import sys
import time

import numpy
import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
torch.manual_seed(0)


def read(folder, name):
    path = os.path.join(folder, name)
    opened = open(path, "rb") if os.path.exists(path) else gzip.open(path + ".gz", "rb")
    with opened as f:
        data = f.read()
    shape = [int.from_bytes(data[4 * i:4 * i + 4], "big") for i in range(1, data[3] + 1)]
    return torch.from_numpy(numpy.frombuffer(data, numpy.uint8, offset=4 + 4 * data[3]).reshape(shape).copy())


def load(folder):
    return [read(folder, part + kind) for part in ("train", "t10k") for kind in ("-images-idx3-ubyte", "-labels-idx1-ubyte")]


# -- models: batches of bytes {n, 28, 28} -> scores {n, 10} ------------------------------------------------------------------------------


class Pixels(nn.Module):
    """Between 0 and 1, in another shape."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return (x.float() / 255).reshape(len(x), *self.shape)


def mlp():
    return nn.Sequential(Pixels(784), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


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


def resnet():
    return nn.Sequential(Pixels(1, 28, 28), ConvBlock(1, 16, 1), Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)).to(memory_format=torch.channels_last)


class BiLSTM(nn.Module):
    def __init__(self, inputs, units, rate):
        super().__init__()
        self.lstm = nn.LSTM(inputs, units, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(rate)

    def forward(self, x):
        return self.dropout(self.lstm(x)[0])


def lstm(units=64):
    return nn.Sequential(Pixels(28, 28), BiLSTM(28, units, 0.1), BiLSTM(2 * units, units, 0.1), BiLSTM(2 * units, units, 0.1),
                         nn.Flatten(), nn.Linear(28 * 2 * units, 10))


class Block(nn.Module):
    def __init__(self, width, heads, tokens, rate):
        super().__init__()
        self.heads, self.depth, self.rate = heads, width // heads, rate
        self.attention_norm, self.ff_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key, self.value = nn.Linear(width, self.depth), nn.Linear(width, self.depth)
        self.ff_in, self.ff_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(rate)
        angle = torch.arange(tokens)[:, None] * 10000.0 ** (-torch.arange(0, self.depth, 2) / self.depth)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def rotate(self, x):
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * self.cos - b * self.sin, a * self.sin + b * self.cos), -1).flatten(-2)

    def attend(self, x):
        n, tokens, _ = x.shape
        q = self.rotate(self.query(x).view(n, tokens, self.heads, self.depth).transpose(1, 2))
        k = self.rotate(self.key(x))[:, None].expand(-1, self.heads, -1, -1)
        v = self.value(x)[:, None].expand(-1, self.heads, -1, -1)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.rate if self.training else 0.0)
        return self.out(y.transpose(1, 2).flatten(2))

    def forward(self, x):
        x = x + self.dropout(self.attend(self.attention_norm(x)))
        y = F.gelu(self.ff_in(self.ff_norm(x)), approximate="tanh")
        return x + self.dropout(self.ff_out(self.dropout(y)))


class Patches(nn.Module):
    def forward(self, x):
        return (x.float() / 255).reshape(-1, 7, 4, 7, 4).transpose(2, 3).reshape(-1, 49, 16)


def encoder(width=64):
    return nn.Sequential(Patches(), nn.Linear(16, width), *(Block(width, 4, 49, 0.1) for _ in range(3)), nn.LayerNorm(width),
                         nn.Flatten(), nn.Linear(49 * width, 10))


# -- training ----------------------------------------------------------------------------------------------------------------------------


def optimizer(name, model, steps):
    """The optimizer, and what follows its step: schedules and clipping as in the examples."""
    parameters = model.parameters()
    if name == "mlp":
        return torch.optim.SGD(parameters, lr=1e-2, momentum=0.9), None
    if name == "encoder":
        opt = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-2)
        return opt, torch.optim.lr_scheduler.OneCycleLR(opt, 2e-3, total_steps=steps + 1, pct_start=0.1, div_factor=20,
                                                        final_div_factor=1e9, cycle_momentum=False)
    opt = torch.optim.Adam(parameters, lr=4e-3 if name == "lstm" else 5e-3)
    return opt, torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps)


def accuracy(model, images, labels, context):
    model.eval()
    with torch.inference_mode(), context():
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in zip(images.split(500), labels.split(500)))
    return right / len(images)


def main(name, folder, epochs=None, precision="float32"):
    train_x, train_y, test_x, test_y = load(folder)
    epochs = int(epochs or {"mlp": 5, "resnet": 3, "lstm": 3, "encoder": 5}[name])
    model = globals()[name]()

    def context():
        return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")

    opt, schedule = optimizer(name, model, epochs * ((len(train_x) + 127) // 128))
    for epoch in range(epochs):
        model.train()
        losses, begin = [], time.perf_counter()
        for at in torch.randperm(len(train_x)).split(128):
            opt.zero_grad()
            with context():
                loss = F.cross_entropy(model(train_x[at]), train_y[at].long())
            loss.backward()
            if name == "lstm":
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            if schedule:
                schedule.step()
            losses.append(loss.item())
        seconds = time.perf_counter() - begin
        right = accuracy(model, test_x, test_y, context)
        print(f"epoch {epoch + 1}  training loss {sum(losses) / len(losses):.4f}  test accuracy {right:.4f}  {seconds:.1f} s",
              flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
