"""TSM and TEA as plain PyTorch modules, the other side of `benchmarks.frames_against_torch`.

Own code from the papers' formulas, with the official parameter names of the networks without
branches, so that it takes the weights of a fluxjax model (`fluxjax.to_torch`). Imports torch only.
"""

import torch
import torch.nn.functional as F
from torch import nn


def conv(width_in: int, width: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Without bias, padded by size // 2."""
    return nn.Conv2d(width_in, width, size, stride, size // 2, groups=groups, bias=False)


def shifted(x, frames: int):
    """TSM's shift of an eighth of the channels each way, [B*T, C, H, W]."""
    fold = x.shape[1] // 8
    clips = x.unflatten(0, (-1, frames))
    out = torch.zeros_like(clips)
    out[:, :-1, :fold] = clips[:, 1:, :fold]
    out[:, 1:, fold : 2 * fold] = clips[:, :-1, fold : 2 * fold]
    out[:, :, 2 * fold :] = clips[:, :, 2 * fold :]
    return out.flatten(0, 1)


class Block(nn.Module):
    """A bottleneck's shortcut and end; what is between is a kind's own."""

    def __init__(self, width_in: int, width: int, stride: int, first: bool):
        super().__init__()
        self.downsample = None
        if first:
            norm = nn.BatchNorm2d(4 * width)
            self.downsample = nn.Sequential(conv(width_in, 4 * width, 1, stride), norm)

    def forward(self, x, frames: int):
        """[B*T, C, H, W] -> [B*T, 4*width, H/stride, W/stride]."""
        short = x if self.downsample is None else self.downsample(x)
        return F.relu(self.inner(x, frames) + short)


class TsmBlock(Block):
    """Convolutions 1x1, 3x3, 1x1 of shifted channels."""

    def __init__(self, width_in: int, width: int, stride: int, first: bool):
        super().__init__(width_in, width, stride, first)
        self.conv1, self.bn1 = conv(width_in, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)

    def inner(self, x, frames: int):
        """See `Block`."""
        x = F.relu(self.bn1(self.conv1(shifted(x, frames))))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


class TemporalConv(nn.Module):
    """Depthwise over three frames."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=1, groups=width, bias=False)

    def forward(self, x, frames: int):
        """[B*T, C, H, W] -> [B*T, C, H, W]."""
        clips = x.unflatten(0, (-1, frames)).permute(0, 3, 4, 2, 1)  # B H W C T
        y = self.conv(clips.flatten(0, 2)).unflatten(0, clips.shape[:3])
        return y.permute(0, 4, 3, 1, 2).flatten(0, 1)


class MotionExcitation(nn.Module):
    """Weighs channels by how much they change to the next frame."""

    def __init__(self, width: int):
        super().__init__()
        inner = width // 16
        self.conv1, self.bn1 = conv(width, inner, 1), nn.BatchNorm2d(inner)
        self.conv2 = conv(inner, inner, 3, groups=inner)
        self.conv3, self.bn3 = conv(inner, width, 1), nn.BatchNorm2d(width)

    def forward(self, x, frames: int):
        """[B*T, C, H, W] -> [B*T, C, H, W]."""
        now = self.bn1(self.conv1(x))
        following = self.conv2(now)
        now, following = (y.unflatten(0, (-1, frames)) for y in (now, following))
        change = (following[:, 1:] - now[:, :-1]).mean((3, 4))
        change = F.pad(change, (0, 0, 0, 1)).flatten(0, 1)[:, :, None, None]
        return x + x * (torch.sigmoid(self.bn3(self.conv3(change))) - 0.5)


class TeaBlock(Block):
    """Res2Net's groups, each convolved along time and space after the one before."""

    def __init__(self, width_in: int, width: int, stride: int, first: bool):
        super().__init__(width_in, width, stride, first)
        self.first, self.stride, inner = first, stride, width * 26 // 64
        self.conv1, self.bn1 = conv(width_in, 4 * inner, 1), nn.BatchNorm2d(4 * inner)
        self.me = MotionExcitation(4 * inner)
        self.convs = nn.ModuleList(conv(inner, inner, 3, stride) for _ in range(3))
        self.bns = nn.ModuleList(nn.BatchNorm2d(inner) for _ in range(3))
        self.shifts = nn.ModuleList(TemporalConv(inner) for _ in range(4))
        self.conv3, self.bn3 = conv(4 * inner, 4 * width, 1), nn.BatchNorm2d(4 * width)

    def inner(self, x, frames: int):
        """See `Block`."""
        x = self.me(F.relu(self.bn1(self.conv1(x))), frames)
        *groups, last = x.chunk(4, dim=1)
        outputs = []
        for i, group in enumerate(groups):
            if i > 0 and not self.first:
                group = group + outputs[-1]
            y = self.convs[i](self.shifts[i](group, frames))
            outputs.append(F.relu(self.bns[i](y)))
        last = self.shifts[3](last, frames)
        if self.first:
            last = F.avg_pool2d(last, 3, self.stride, 1)
        return self.bn3(self.conv3(torch.cat([*outputs, last], dim=1)))


class Backbone(nn.Module):
    """Stem, stages and classifier of frames."""

    def __init__(self, block: type[Block], layers, widths, stem: int, classes: int):
        super().__init__()
        self.conv1, self.bn1 = conv(3, stem, 7, 2), nn.BatchNorm2d(stem)
        self.stages, width_in = [], stem
        for stage, (count, width) in enumerate(zip(layers, widths, strict=True)):
            blocks = nn.ModuleList()
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(block(width_in, width, stride, first=i == 0))
                width_in = 4 * width
            setattr(self, f"layer{stage + 1}", blocks)
            self.stages.append(f"layer{stage + 1}")
        self.fc = nn.Linear(width_in, classes)

    def forward(self, x, frames: int):
        """[B*T, 3, H, W] -> logits [B*T, K]."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in self.stages:
            for block in getattr(self, stage):
                x = block(x, frames)
        return self.fc(x.mean((2, 3)))


class FrameNetwork(nn.Module):
    """The mean of the frames' logits; `kind` is "tsm" or "tea"."""

    def __init__(self, kind: str, layers, widths, stem: int, classes: int):
        super().__init__()
        block = {"tsm": TsmBlock, "tea": TeaBlock}[kind]
        self.base_model = Backbone(block, layers, widths, stem, classes)

    def forward(self, video):
        """[B, T, H, W, 3] -> logits [B, K]."""
        rows = video.flatten(0, 1).permute(0, 3, 1, 2).contiguous()
        logits = self.base_model(rows, video.shape[1])
        return logits.unflatten(0, video.shape[:2]).mean(1)
