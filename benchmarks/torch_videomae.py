"""VideoMAE's pre-training step in plain PyTorch, the other side of `benchmarks.videomae_step`.

Own code from the paper's formulas, with the official parameter names, so that it takes the weights
of a fluxjax model (`fluxjax.to_torch`). Hidden tokens are dropped before the encoder; attention is
PyTorch's fused one. As a command it is a process that times on request, see `main`. Imports torch
and numpy only.
"""

import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    """Biases of queries and values only."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))

    def forward(self, x):
        """[B, N, C] -> [B, N, C]."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        """[.., C] -> [.., C]."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm residual block."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attn, self.mlp = Attention(width, heads), Mlp(width)

    def forward(self, x):
        """[B, N, C] -> [B, N, C]."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """Linear patch embedding, blocks, norm."""

    def __init__(self, width: int, depth: int, heads: int, values: int):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Linear(values, width)})
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, cubes, positions):
        """Visible cubes [B, K, values], their positions [B, K, C] -> [B, K, C]."""
        x = self.patch_embed["proj"](cubes) + positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Decoder(nn.Module):
    """Blocks, norm, head."""

    def __init__(self, width: int, depth: int, heads: int, values: int):
        super().__init__()
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, values)

    def forward(self, x, hidden: int):
        """[B, N, C] with the hidden tokens last -> [B, hidden, values]."""
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, -hidden:]))


class Autoencoder(nn.Module):
    """The whole model; positions are a sinusoid of the token's number."""

    def __init__(self, sizes: dict):
        super().__init__()
        width, inner, values = sizes["width"], sizes["decoder_width"], sizes["values"]
        self.encoder = Encoder(width, sizes["depth"], sizes["heads"], values)
        self.encoder_to_decoder = nn.Linear(width, inner, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, inner))
        self.decoder = Decoder(inner, sizes["decoder_depth"], sizes["decoder_heads"], values)
        for name, channels in (("seen_from", width), ("filled_at", inner)):
            table = sinusoid(sizes["tokens"], channels)
            self.register_buffer(name, table, persistent=False)

    def forward(self, cubes, mask, targets):
        """Cubes in the embedding's order, mask [B, N] bool, targets of the hidden ones -> loss."""
        batch, take = len(cubes), lambda x, chosen: x[chosen].unflatten(0, (len(cubes), -1))
        place = lambda table: table.expand(batch, -1, -1)  # noqa: E731
        x = self.encoder(take(cubes, ~mask), take(place(self.seen_from), ~mask))
        where = place(self.filled_at)
        seen = self.encoder_to_decoder(x) + take(where, ~mask)
        x = torch.cat([seen, self.mask_token + take(where, mask)], dim=1)
        return F.mse_loss(self.decoder(x, targets.shape[1]), targets)


def sinusoid(rows: int, channels: int) -> torch.Tensor:
    """[1, rows, channels]: sines in even channels, cosines in odd ones."""
    exponent = 2 * (np.arange(channels) // 2) / channels
    angle = np.arange(rows)[:, None] / 10000.0**exponent
    table = np.where(np.arange(channels) % 2, np.cos(angle), np.sin(angle))
    return torch.from_numpy(table.astype(np.float32))[None]


def main() -> None:
    """Reads a JSON object a line, first the set-up, then requests; answers each with one."""
    setup = json.loads(sys.stdin.readline())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Autoencoder(setup["sizes"])
    with np.load(setup["arrays"]) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    inputs = [state.pop(f"input/{name}").to(device) for name in ("cubes", "mask", "targets")]
    model.load_state_dict(state)
    model.to(device)

    def train():
        model.zero_grad(set_to_none=True)
        loss = model(*inputs)
        loss.backward()
        return loss

    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    about = {"torch": torch.__version__, "device": name, "threads": torch.get_num_threads()}
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = train()
        if device == "cuda":
            torch.cuda.synchronize()
        answer = {"seconds": time.perf_counter() - start, "result": float(loss.detach())}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
