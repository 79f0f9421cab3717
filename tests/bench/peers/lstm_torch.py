"""lstm.lua in PyTorch: nn.LSTM over packed sequences, which is how it treats masks."""
import bench
import torch
from torch import nn

torch.set_num_threads(bench.CORES)
BATCH, STEPS, IDS, WIDTH, RATE = 64, 128, 1000, 192, 0.1


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(IDS, WIDTH)
        self.blocks = nn.ModuleList(nn.LSTM(inputs, WIDTH, batch_first=True, bidirectional=True)
                                    for inputs in (WIDTH, 2 * WIDTH, 2 * WIDTH))
        self.dropout = nn.Dropout(RATE)
        self.out = nn.Linear(STEPS * 2 * WIDTH, 3)

    def forward(self, ids, lengths):
        x = self.embed(ids)
        for block in self.blocks:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            y, _ = block(packed)
            x, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=STEPS)
            x = self.dropout(x)
        return self.out(x.flatten(1))


def make_model():
    ids, labels = torch.randint(0, IDS, (BATCH, STEPS)), torch.randint(0, 3, (BATCH,))
    return Model(), ids, torch.randint(STEPS // 4, STEPS + 1, (BATCH,)), labels


def lstm_train():
    model, ids, lengths, labels = make_model()
    opt = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=1e-2)

    def step():
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(ids, lengths), labels)
        loss.backward()
        opt.step()
        return loss

    return step


def lstm_infer():
    model, ids, lengths, _ = make_model()
    model.eval()

    def run():
        with torch.inference_mode():
            return model(ids, lengths)

    return run


bench.add("lstm_train", lstm_train)
bench.add("lstm_infer", lstm_infer)
bench.run()
