"""AVION's contrastive step in plain PyTorch, the other side of `benchmarks.video_text`.

Own code from the paper's formulas, with the official parameter names, so that it takes the weights
of a fluxjax model (`fluxjax.to_torch`). Attention is PyTorch's fused one. As a command it is a
process that times on request, see `main`. Imports torch and numpy only.
"""

import json
import resource
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    """Packed queries, keys and values, with biases."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x):
        """[B, N, C] -> [B, N, C]."""
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, width: int):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        """[.., C] -> [.., C]."""
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    """Pre-norm residual block."""

    def __init__(self, width: int, heads: int, epsilon: float, causal: bool = False):
        super().__init__()
        self.ln_1, self.ln_2 = (nn.LayerNorm(width, eps=epsilon) for _ in range(2))
        self.attn, self.mlp = Attention(width, heads, causal), Mlp(width)

    def forward(self, x):
        """[B, N, C] -> [B, N, C]."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


def _transformer(depth: int, *fields) -> nn.Module:
    return nn.ModuleDict({"resblocks": nn.Sequential(*(Block(*fields) for _ in range(depth)))})


class Visual(nn.Module):
    """All tokens of a clip at once; the cls token is projected."""

    def __init__(self, sizes: dict):
        super().__init__()
        width, patches = sizes["width"], sizes["patches"]
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(patches + 1, width))
        self.temporal_embedding = nn.Parameter(torch.zeros(sizes["frames"], width))
        self.image_projection = nn.Parameter(torch.zeros(width, sizes["embedding"]))
        self.conv1 = nn.Linear(sizes["values"], width, bias=False)
        self.ln_pre, self.ln_post = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.transformer = _transformer(sizes["depth"], width, sizes["heads"], 1e-6)

    def forward(self, patches):
        """[B, T, P, values] -> [B, E]."""
        x = self.conv1(patches) + self.positional_embedding[1:] + self.temporal_embedding[:, None]
        cls = (self.class_embedding + self.positional_embedding[0]).expand(len(x), 1, -1)
        x = torch.cat([cls, x.flatten(1, 2)], dim=1)
        x = self.transformer["resblocks"](self.ln_pre(x))
        return self.ln_post(x[:, 0]) @ self.image_projection


class Textual(nn.Module):
    """A causal transformer; the token of the largest id is projected."""

    def __init__(self, sizes: dict):
        super().__init__()
        width = sizes["text_width"]
        self.positional_embedding = nn.Parameter(torch.zeros(sizes["context"], width))
        self.token_embedding = nn.Embedding(sizes["vocabulary"], width)
        self.text_projection = nn.Parameter(torch.zeros(width, sizes["embedding"]))
        self.ln_final = nn.LayerNorm(width, eps=1e-5)
        self.transformer = _transformer(sizes["text_depth"], width, sizes["text_heads"], 1e-5, True)

    def forward(self, ids):
        """[B, L] -> [B, E]."""
        x = self.token_embedding(ids) + self.positional_embedding
        x = self.ln_final(self.transformer["resblocks"](x))
        return x[torch.arange(len(x)), ids.argmax(dim=1)] @ self.text_projection


class DualEncoder(nn.Module):
    """Both towers, and the cross-entropies of all pairs."""

    def __init__(self, sizes: dict):
        super().__init__()
        self.visual, self.textual = Visual(sizes), Textual(sizes)
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, patches, ids):
        """[B, T, P, values], [B, L] -> loss."""
        video, text = F.normalize(self.visual(patches)), F.normalize(self.textual(ids))
        table = self.logit_scale.exp() * video @ text.T
        own = torch.arange(len(table), device=table.device)
        return (F.cross_entropy(table, own) + F.cross_entropy(table.T, own)) / 2


def main() -> None:
    """Reads a JSON object a line, first the set-up, then requests; answers each with one.

    Memory is what the steps added at most: of the device as torch counts it, on CPU of the process.
    """
    setup = json.loads(sys.stdin.readline())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = DualEncoder(setup["sizes"])
    with np.load(setup["arrays"]) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    patches, ids = (state.pop(f"input/{name}").to(device) for name in ("patches", "ids"))
    model.load_state_dict(state)
    model.to(device)
    ids = ids.long()
    before = peak_bytes(device)

    def train():
        model.zero_grad(set_to_none=True)
        loss = model(patches, ids)
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
        answer = {"seconds": time.perf_counter() - start, "result": float(loss)}
        print(json.dumps(answer | {"bytes": peak_bytes(device) - before}), flush=True)


def peak_bytes(device: str) -> int:
    """Most memory so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
