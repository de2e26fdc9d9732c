"""SlowFast and UniFormer as plain PyTorch modules, the other side of `frames_against_torch`.

Own code from the papers' formulas, with the official parameter names of the networks without
branches, so that it takes the weights of a fluxjax model (`fluxjax.to_torch`). Imports torch only.
"""

import torch
import torch.nn.functional as F
from torch import nn

SLOW_KERNELS, FAST_KERNELS = (1, 1, 1, 3, 3), (5, 3, 3, 3, 3)


def conv(width_in: int, width: int, size, stride=1, bias: bool = False, groups: int = 1):
    """Of clips, padded by size // 2 along each axis."""
    padding = tuple(side // 2 for side in size)
    return nn.Conv3d(width_in, width, size, stride, padding, groups=groups, bias=bias)


class Stem(nn.Module):
    """Convolution, norm, maximum."""

    def __init__(self, width: int, frames: int):
        super().__init__()
        self.conv = conv(3, width, (frames, 7, 7), (1, 2, 2))
        self.bn = nn.BatchNorm3d(width)

    def forward(self, x):
        """[B, 3, T, H, W] -> [B, width, T, H/4, W/4]."""
        return F.max_pool3d(F.relu(self.bn(self.conv(x))), (1, 3, 3), (1, 2, 2), (0, 1, 1))


class Fuse(nn.Module):
    """From the fast pathway to the slow one."""

    def __init__(self, width: int, alpha: int):
        super().__init__()
        self.conv_f2s = conv(width, 2 * width, (7, 1, 1), (alpha, 1, 1))
        self.bn = nn.BatchNorm3d(2 * width)

    def forward(self, slow, fast):
        """Both pathways' maps -> the slow one's with more channels."""
        return torch.cat([slow, F.relu(self.bn(self.conv_f2s(fast)))], dim=1)


class Branch2(nn.Module):
    """The convolutions of a block."""

    def __init__(self, width_in: int, width: int, frames: int, stride: int):
        super().__init__()
        self.a, self.a_bn = conv(width_in, width, (frames, 1, 1)), nn.BatchNorm3d(width)
        self.b = conv(width, width, (1, 3, 3), (1, stride, stride))
        self.b_bn = nn.BatchNorm3d(width)
        self.c, self.c_bn = conv(width, 4 * width, (1, 1, 1)), nn.BatchNorm3d(4 * width)

    def forward(self, x):
        """Of clips."""
        x = F.relu(self.b_bn(self.b(F.relu(self.a_bn(self.a(x))))))
        return self.c_bn(self.c(x))


class Block(nn.Module):
    """A bottleneck of a pathway."""

    def __init__(self, width_in: int, width: int, frames: int, stride: int):
        super().__init__()
        self.branch2 = Branch2(width_in, width, frames, stride)
        self.branch1 = None
        if stride > 1 or width_in != 4 * width:
            self.branch1 = conv(width_in, 4 * width, (1, 1, 1), (1, stride, stride))
            self.branch1_bn = nn.BatchNorm3d(4 * width)

    def forward(self, x):
        """Of clips."""
        short = x if self.branch1 is None else self.branch1_bn(self.branch1(x))
        return F.relu(short + self.branch2(x))


class SlowFast(nn.Module):
    """Two pathways; probabilities of neither: logits."""

    def __init__(self, layers, width: int, alpha: int, beta_inv: int, classes: int, slow):
        super().__init__()
        self.slow, self.layers = list(slow), layers  # numbers of the slow pathway's frames
        fast = width // beta_inv
        stems = {"pathway0_stem": Stem(width, 1), "pathway1_stem": Stem(fast, 5)}
        self.s1 = nn.ModuleDict(stems)
        widths = [width, fast]
        for stage, count in enumerate(layers, start=2):
            setattr(self, f"s{stage - 1}_fuse", Fuse(widths[1], alpha))
            widths[0] += 2 * widths[1]
            blocks = nn.ModuleDict()
            for pathway, kernels in enumerate((SLOW_KERNELS, FAST_KERNELS)):
                inner = (width if pathway == 0 else fast) * 2 ** (stage - 2)
                for i in range(count):
                    stride = 2 if stage > 2 and i == 0 else 1
                    block = Block(widths[pathway], inner, kernels[stage - 1], stride)
                    blocks[f"pathway{pathway}_res{i}"] = block
                    widths[pathway] = 4 * inner
            setattr(self, f"s{stage}", blocks)
        self.head = nn.ModuleDict({"projection": nn.Linear(sum(widths), classes)})

    def forward(self, video):
        """[B, T, H, W, 3] -> logits [B, K]."""
        video = video.permute(0, 4, 1, 2, 3).contiguous()
        pathways = [self.s1["pathway0_stem"](video[:, :, self.slow])]
        pathways.append(self.s1["pathway1_stem"](video))
        for stage, count in enumerate(self.layers, start=2):
            pathways[0] = getattr(self, f"s{stage - 1}_fuse")(*pathways)
            blocks = getattr(self, f"s{stage}")
            for pathway in (0, 1):
                for i in range(count):
                    pathways[pathway] = blocks[f"pathway{pathway}_res{i}"](pathways[pathway])
        return self.head["projection"](torch.cat([x.mean((2, 3, 4)) for x in pathways], dim=1))


class PatchEmbed(nn.Module):
    """Strided convolution and layer norm."""

    def __init__(self, width_in: int, width: int, first: bool):
        super().__init__()
        size, stride = ((3, 4, 4), (2, 4, 4)) if first else ((1, 2, 2), (1, 2, 2))
        self.proj = nn.Conv3d(width_in, width, size, stride, (size[0] // 2, 0, 0))
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        """[B, C, T, H, W] -> [B, width, T', H', W']."""
        return self.norm(self.proj(x).movedim(1, -1)).movedim(-1, 1).contiguous()


class Mlp(nn.Module):
    """fc2(gelu(fc1)), of any kind of layers."""

    def __init__(self, fc1: nn.Module, fc2: nn.Module):
        super().__init__()
        self.fc1, self.fc2 = fc1, fc2

    def forward(self, x):
        """Of clips or tokens."""
        return self.fc2(F.gelu(self.fc1(x)))


class ConvBlock(nn.Module):
    """Positions, depthwise 5x5x5 between linear maps, MLP."""

    def __init__(self, width: int, hidden: int):
        super().__init__()

        def layer(width_in, width_out, side=1, groups=1):
            return conv(width_in, width_out, (side,) * 3, bias=True, groups=groups)

        self.pos_embed, self.attn = layer(width, width, 3, width), layer(width, width, 5, width)
        self.conv1, self.conv2 = layer(width, width), layer(width, width)
        self.norm1, self.norm2 = nn.BatchNorm3d(width), nn.BatchNorm3d(width)
        self.mlp = Mlp(layer(width, hidden), layer(hidden, width))

    def forward(self, x):
        """[B, C, T, H, W] -> [B, C, T, H, W]."""
        x = x + self.pos_embed(x)
        x = x + self.conv2(self.attn(self.conv1(self.norm1(x))))
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Joint attention over space and time."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        """[B, N, C] -> [B, N, C]."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2))


class AttentionBlock(nn.Module):
    """Positions, attention, MLP."""

    def __init__(self, width: int, hidden: int, heads: int):
        super().__init__()
        self.pos_embed = conv(width, width, (3, 3, 3), bias=True, groups=width)
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attn = Attention(width, heads)
        self.mlp = Mlp(nn.Linear(width, hidden), nn.Linear(hidden, width))

    def forward(self, x):
        """[B, C, T, H, W] -> [B, C, T, H, W]."""
        x = x + self.pos_embed(x)
        y = x.flatten(2).transpose(1, 2)
        y = y + self.attn(self.norm1(y))
        y = y + self.mlp(self.norm2(y))
        return y.transpose(1, 2).unflatten(2, x.shape[2:]).contiguous()


class UniFormer(nn.Module):
    """Two stages that convolve, two that attend."""

    def __init__(self, layers, widths, head_dim: int, mlp_ratio: float, classes: int):
        super().__init__()
        self.depth, below = len(layers), 3
        for stage, (count, width) in enumerate(zip(layers, widths, strict=True), start=1):
            setattr(self, f"patch_embed{stage}", PatchEmbed(below, width, first=stage == 1))
            hidden, blocks = int(width * mlp_ratio), nn.ModuleList()
            for _ in range(count):
                heads = width // head_dim
                late = stage > 2
                blocks.append(
                    AttentionBlock(width, hidden, heads) if late else ConvBlock(width, hidden)
                )
            setattr(self, f"blocks{stage}", blocks)
            below = width
        self.norm, self.head = nn.BatchNorm3d(below), nn.Linear(below, classes)

    def forward(self, video):
        """[B, T, H, W, 3] -> logits [B, K]."""
        x = video.permute(0, 4, 1, 2, 3).contiguous()
        for stage in range(1, self.depth + 1):
            x = getattr(self, f"patch_embed{stage}")(x)
            for block in getattr(self, f"blocks{stage}"):
                x = block(x)
        return self.head(self.norm(x).mean((2, 3, 4)))
