"""FluxViT as a plain PyTorch module, the other side of `benchmarks.against_torch`.

Own code from the paper's formulas, with the official parameter names, so that it takes the weights
of a fluxjax model (`fluxjax.to_torch`). The position table is of the input's grid. Imports torch
and numpy only.
"""

import torch
import torch.nn.functional as F
from torch import nn


class RMSNorm(nn.Module):
    """x / rms(x) * weight."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        """[.., C] -> [.., C]."""
        return F.rms_norm(x, x.shape[-1:], self.weight, 1e-6)


class Depthwise(nn.Module):
    """The official depthwise convolution of size 1: scale and bias for each channel."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise_conv = nn.Conv3d(width, width, 1, groups=width)

    def forward(self, x):
        """[.., C] -> [.., C]."""
        return x * self.depthwise_conv.weight.flatten() + self.depthwise_conv.bias


class Attention(nn.Module):
    """Full-width QK-norm, scaled dot-product attention, LPE on the values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.q_norm, self.k_norm, self.lpe = RMSNorm(width), RMSNorm(width), Depthwise(width)

    def forward(self, x):
        """[B, N, C] -> [B, N, C]."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, heads_v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for y in (self.q_norm(q), self.k_norm(k), v)
        )
        mixed = F.scaled_dot_product_attention(q, k, heads_v).transpose(1, 2).flatten(2)
        return self.proj(mixed + self.lpe(v))


class Mlp(nn.Module):
    """Linear, tanh GELU, linear."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        """[B, N, C] -> [B, N, C]."""
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class LayerScale(nn.Module):
    """gamma * x."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        """[.., C] -> [.., C]."""
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm block."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.attn, self.mlp = Attention(width, heads), Mlp(width)
        self.ls1, self.ls2 = LayerScale(width), LayerScale(width)

    def forward(self, x):
        """[B, N, C] -> [B, N, C]."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class CrossAttention(nn.Module):
    """Linear maps of the pooling projector."""

    def __init__(self, width: int, pooled: int):
        super().__init__()
        for name in "qkv":
            setattr(self, name, nn.Linear(width, width, bias=False))
            setattr(self, f"{name}_bias", nn.Parameter(torch.zeros(width)))
        self.proj = nn.Linear(width, pooled)


class Pool(nn.Module):
    """Attention from the mean token."""

    def __init__(self, width: int, pooled: int, heads: int):
        super().__init__()
        self.heads, self.cross_attn = heads, CrossAttention(width, pooled)
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x):
        """[B, N, C] -> [B, pooled]."""
        maps = self.cross_attn

        def project(name, y):
            y = getattr(self, f"norm1_{name}")(y)
            y = F.linear(y, getattr(maps, name).weight, getattr(maps, f"{name}_bias"))
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = (project(n, y) for n, y in zip("qkv", (x.mean(1, True), x, x), strict=True))
        return maps.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1))


class Decoder(nn.Module):
    """Linear, LayerNorm, unit norm."""

    def __init__(self, pooled: int):
        super().__init__()
        self.head, self.norm = nn.Linear(pooled, pooled), nn.LayerNorm(pooled)

    def forward(self, x):
        """[B, E] -> [B, E]."""
        return F.normalize(self.norm(self.head(x)), dim=-1)


class PatchEmbed(nn.Module):
    """Dual patch norm around a linear map of the pixels."""

    def __init__(self, width: int, patch: int):
        super().__init__()
        self.norm_before, self.norm = RMSNorm(3 * patch**2), RMSNorm(width)
        self.proj = nn.Conv3d(3, width, (1, patch, patch))

    def forward(self, patches):
        """[B, N, patch*patch*3], channel fastest -> [B, N, C]."""
        weight = self.proj.weight[:, :, 0].permute(0, 2, 3, 1).flatten(1)  # as the pixels lie
        return self.norm(F.linear(self.norm_before(patches), weight, self.proj.bias))


class FluxViT(nn.Module):
    """See the module's docstring.

    Args (beyond sizes): grid, (T, H, W) in patches of input and table; budgets, tokens for heads
    0, 1, .., largest first.
    """

    def __init__(
        self, width, depth, heads, pooled, pool_heads, classes, grid, budgets, patch=14
    ):  # fmt: skip
        super().__init__()
        self.grid, self.budgets = grid, budgets
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid[0] * grid[1] * grid[2], width))
        self.gpe_proj, self.patch_embed = Depthwise(width), PatchEmbed(width, patch)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.clip_projector = nn.ModuleList(Pool(width, pooled, pool_heads) for _ in budgets)
        self.head = nn.ModuleList(nn.Linear(pooled, classes) for _ in budgets)
        self.fc_norm = nn.LayerNorm(pooled)
        self.final_clip_decoder_for_projs = nn.ModuleList(Decoder(pooled) for _ in budgets[1:])

    def select(self, features, budget):
        """Slots [B, budget] that group-dynamic selection keeps of features [B, N, C]."""
        b, n, _ = features.shape
        frames, area = self.grid[0], self.grid[1] * self.grid[2]
        groups = next(g for g in (4, 2, 1) if frames % g == 0 and (g == 1 or frames >= 2 * g))
        x = features.detach().float().view(b, groups, frames // groups, area, -1)
        change = (x[:, :, 1:] - x[:, :, :-1]).norm(dim=-1)
        scores = torch.cat([change[:, :, :1], change], dim=2).flatten(2)
        # Stable: a group's first two frames have equal scores, and the earlier token goes first.
        kept = scores.sort(dim=-1, descending=True, stable=True).indices[..., : budget // groups]
        offset = torch.arange(groups, device=kept.device)[:, None] * (n // groups)
        return (kept + offset).flatten(1).sort(dim=1).values

    def at(self, budget, head, placed, embedded):
        """(logits, features) of one budget."""
        if budget < placed.shape[1]:
            index = self.select(embedded, budget)[..., None].expand(-1, -1, placed.shape[2])
            placed = placed.gather(1, index)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(placed), -1, -1)
        x = torch.cat([first, placed], dim=1)
        for block in self.blocks:
            x = block(x)
        features = self.clip_projector[head](x)
        return self.head[head](self.fc_norm(features)), features

    def embed(self, patches):
        """Embedded tokens with and without positions."""
        embedded = self.patch_embed(patches)
        return embedded + self.gpe_proj(self.pos_embed[:, 1:]), embedded

    def forward(self, patches, head):
        """Logits [B, K] at budget and head number `head`."""
        return self.at(self.budgets[head], head, *self.embed(patches))[0]

    def loss(self, patches, label):
        """Flux-Multi: a cross-entropy a budget, and features aligned to the first budget's."""
        placed, embedded = self.embed(patches)
        total, teacher = 0.0, None
        for i, budget in enumerate(self.budgets):
            logits, features = self.at(budget, i, placed, embedded)
            total = total + F.cross_entropy(logits.float(), label)
            if i:
                aligned = self.final_clip_decoder_for_projs[i - 1](features)
                total = total + F.smooth_l1_loss(aligned, teacher)
            else:
                teacher = F.normalize(features.detach(), dim=-1)
        return total
