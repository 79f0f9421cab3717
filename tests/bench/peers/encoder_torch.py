"""encoder.lua in PyTorch: the same blocks by its own attention function."""
import bench
import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(bench.CORES)
BATCH, STEPS, IDS, WIDTH, HEADS, FF, RATE = 64, 128, 1000, 192, 6, 768, 0.1
DEPTH = WIDTH // HEADS


def turns():
    frequency = 10000.0 ** (-torch.arange(0, DEPTH, 2) / DEPTH)
    angle = torch.arange(STEPS)[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm, self.ff_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.key, self.value = nn.Linear(WIDTH, DEPTH), nn.Linear(WIDTH, DEPTH)
        self.ff_in, self.ff_out = nn.Linear(WIDTH, FF), nn.Linear(FF, WIDTH)
        self.dropout = nn.Dropout(RATE)
        cos, sin = turns()
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def attend(self, x, mask):
        q = rotate(self.query(x).view(-1, STEPS, HEADS, DEPTH).transpose(1, 2), self.cos, self.sin)
        k = rotate(self.key(x), self.cos, self.sin)[:, None].expand(-1, HEADS, -1, -1)
        v = self.value(x)[:, None].expand(-1, HEADS, -1, -1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=RATE if self.training else 0.0)
        return self.out(y.transpose(1, 2).flatten(2))

    def forward(self, x, mask):
        x = x + self.dropout(self.attend(self.attention_norm(x), mask))
        y = F.gelu(self.ff_in(self.ff_norm(x)), approximate="tanh")
        return x + self.dropout(self.ff_out(self.dropout(y)))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(IDS, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.out = nn.Linear(WIDTH, 3)

    def forward(self, ids, mask):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, mask)
        return self.out(x.mean(1))


def make_model():
    ids, labels = torch.randint(0, IDS, (BATCH, STEPS)), torch.randint(0, 3, (BATCH,))
    lengths = torch.randint(STEPS // 4, STEPS + 1, (BATCH, 1, 1, 1))
    return Model(), ids, torch.arange(STEPS) < lengths, labels


def encoder_train(compiled):
    def make():
        model, ids, mask, labels = make_model()
        opt = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=1e-2)
        forward = torch.compile(model) if compiled else model

        def step():
            opt.zero_grad()
            loss = F.cross_entropy(forward(ids, mask), labels)
            loss.backward()
            opt.step()
            return loss

        return step

    return make


def encoder_infer(compiled):
    def make():
        model, ids, mask, _ = make_model()
        f = torch.compile(model.eval()) if compiled else model.eval()

        def run():
            with torch.inference_mode():
                return f(ids, mask)

        return run

    return make


for name, make in ("encoder_train", encoder_train), ("encoder_infer", encoder_infer):
    bench.add(name, make(False))
    bench.add(name + "@compiled", make(True))
bench.run()
