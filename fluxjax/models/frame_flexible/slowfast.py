"""SlowFast: one pathway sees few frames with many channels, another many frames with few.

Source: "SlowFast Networks for Video Recognition" (arXiv 1812.03982), with the branches of "Frame
Flexible Network" (arXiv 2303.14817); facebookresearch/SlowFast, BeSpontaneous/FFN-pytorch.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.models.frame_flexible.branches import (
    branch_names,
    branch_of,
    check_frames,
    is_flexible,
)
from fluxjax.models.frame_flexible.convs import Conv, max_pool
from fluxjax.models.frame_flexible.norms import BatchNorm, WeightAlteration
from fluxjax.tokens.tokens import PixelStats, normalize_pixels

VIDEO_PIXELS = PixelStats((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))


def slow_frames(frames: int, alpha: int) -> np.ndarray:
    """Which of the fast pathway's frames the slow one sees: evenly spread, ends included.

    As `torch.linspace(0, frames - 1, frames // alpha).long()`, in float32. Where alpha does not
    divide, one more, as many as the convolution gives that joins the pathways.
    """
    count = -(-frames // alpha)
    end = np.float32(frames - 1)
    step = end / np.float32(max(count - 1, 1))
    index = np.arange(count, dtype=np.float32)
    # Each half from its own end, as torch does it.
    spread = np.where(index < count / 2, step * index, end - step * (count - 1 - index))
    return np.floor(spread.astype(np.float32)).astype(np.int64) if count > 1 else np.zeros(1, int)


class _Bottleneck(nn.Module):
    """A bottleneck (t, 1, 1), (1, 3, 3), (1, 1, 1), with altered weights in front.

    Attributes:
      features, inner: channels of the result and of the middle.
      temporal: frames of the first kernel.
      stride: of height and width.
      norm: fields of the batch norms.
      alters: whether there is a weight alteration.
    """

    features: int
    inner: int
    temporal: int
    stride: int
    norm: dict[str, Any]
    alters: bool

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, train: bool) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H', W', features]."""
        dtype, step = self.norm["dtype"], (1, self.stride, self.stride)

        def convolved(y, name, features, size, strides=1, **init):
            y = Conv(features, size, strides, dtype=dtype, name=name)(y)
            return BatchNorm(**self.norm, **init, name=f"{name}_bn")(y, branch, train)

        y = x
        if self.alters:
            y = WeightAlteration(self.norm["names"], name="adapter")(y, branch)
        y = nn.relu(convolved(y, "a", self.inner, (self.temporal, 1, 1)))
        y = nn.relu(convolved(y, "b", self.inner, (1, 3, 3), step))
        y = convolved(y, "c", self.features, (1, 1, 1), scale_init=nn.initializers.zeros)
        if self.stride > 1 or x.shape[-1] != self.features:
            x = convolved(x, "branch1", self.features, (1, 1, 1), step)
        return nn.relu(x + y)


class _Stem(nn.Module):
    """The first convolution of a pathway, norm and maximum."""

    features: int
    temporal: int
    norm: dict[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, train: bool) -> jax.Array:
        """[B, T, H, W, 3] -> [B, T, H / 4, W / 4, features]."""
        conv = Conv(
            self.features, (self.temporal, 7, 7), (1, 2, 2), (self.temporal // 2, 3, 3),
            dtype=self.norm["dtype"], name="conv",
        )  # fmt: skip
        x = nn.relu(BatchNorm(**self.norm, name="bn")(conv(x), branch, train))
        y = max_pool(x.reshape(-1, *x.shape[2:]))
        return y.reshape(*x.shape[:2], *y.shape[1:])


class _Fuse(nn.Module):
    """Shows the slow pathway what the fast one sees."""

    features: int
    kernel: int
    alpha: int
    norm: dict[str, Any]

    @nn.compact
    def __call__(self, slow: jax.Array, fast: jax.Array, branch: int, train: bool) -> jax.Array:
        """[B, T / alpha, H, W, C] and [B, T, H, W, c] -> [B, T / alpha, H, W, C + features]."""
        size, strides = (self.kernel, 1, 1), (self.alpha, 1, 1)
        conv = Conv(self.features, size, strides, dtype=self.norm["dtype"], name="conv_f2s")
        y = nn.relu(BatchNorm(**self.norm, name="bn")(conv(fast), branch, train))
        return jnp.concatenate([slow, y], axis=-1)


class SlowFast(nn.Module):
    """SlowFast of the depth of ResNet-50, plain or frame flexible.

    Attributes:
      num_classes: K; None or 0: no classifier, the result is what it would read.
      frames: frames of the fast pathway of each branch, ascending; () or one number: plain.
      alteration: whether each branch alters weights; not in a plain network.
      layers: blocks of each stage.
      width: channels of the slow pathway's first convolution.
      beta_inv: the fast pathway has that part of the channels.
      alpha: the slow pathway sees that part of the frames.
      fusion_ratio, fusion_kernel: channels, and frames of the kernel, of what joins the pathways.
      dropout: rate before the classifier.
      statistics_groups: see `frame_network.FrameNetwork`.
      dtype: of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int | None = None
    frames: tuple[int, ...] | None = ()
    alteration: bool = True
    layers: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    beta_inv: int = 8
    alpha: int = 4
    fusion_ratio: int = 2
    fusion_kernel: int = 7
    dropout: float = 0.5
    statistics_groups: int = 1
    dtype: Any = jnp.float32

    pixels = VIDEO_PIXELS

    def __post_init__(self):
        check_frames(self.frames)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        video: jax.Array,
        branch: int | None = None,
        train: bool = False,
        return_features: bool = False,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Classifies clips.

        Args:
          video: [B, T, H, W, 3], the fast pathway's frames, float normalised by `pixels`, or uint8.
          branch: frame number whose branch is taken; None: the nearest to T, of two the larger.
          train: batch statistics and dropout (rngs={"dropout": key}) are active; needs
            mutable=["batch_stats"].
          return_features: also return what the classifier reads.

        Returns:
          logits [B, K] float32 (the release's evaluation: their softmax); with `return_features`
          also features [B, C] float32.

        Raises:
          ValueError: on a branch that the network does not have.
        """
        index = branch_of(self.frames, video.shape[1], branch)
        x = normalize_pixels(video, self.pixels)
        features = self._pathways(x, index, train)
        if not self.num_classes:
            return (features, features) if return_features else features
        x = nn.Dropout(self.dropout, deterministic=not train)(features.astype(self.dtype))
        init = nn.initializers.normal(0.01)
        x = nn.Dense(self.num_classes, kernel_init=init, dtype=self.dtype, name="head")(x)
        logits = x.astype(jnp.float32)
        return (logits, features) if return_features else logits

    def _pathways(self, x: jax.Array, index: int, train: bool) -> jax.Array:
        """Pooled features [B, 32 * (width + width / beta_inv)] float32 of normalised clips."""
        names, thin = branch_names(self.frames), self.width // self.beta_inv
        norm = {"names": names, "groups": self.statistics_groups, "dtype": self.dtype}
        alters = self.alteration and is_flexible(self.frames)

        def fuse(number, slow, fast):
            join = _Fuse(
                fast.shape[-1] * self.fusion_ratio, self.fusion_kernel, self.alpha, norm,
                name=f"s{number}_fuse",
            )  # fmt: skip
            return join(slow, fast, index, train)

        slow = _Stem(self.width, 1, norm, name="s1_pathway0_stem")(
            x[:, slow_frames(x.shape[1], self.alpha)], index, train
        )
        fast = _Stem(thin, 5, norm, name="s1_pathway1_stem")(x, index, train)
        slow, paths = fuse(1, slow, fast), [self.width, thin]
        for stage, blocks in enumerate(self.layers):
            both = [slow, fast]
            kernels = (3 if stage >= 2 else 1, 3)
            for pathway, (width, temporal) in enumerate(zip(paths, kernels, strict=True)):
                inner = width * 2**stage
                for number in range(blocks):
                    stride = 2 if stage > 0 and number == 0 else 1
                    block = _Bottleneck(
                        4 * inner, inner, temporal, stride, norm, alters,
                        name=f"s{stage + 2}_pathway{pathway}_res{number}",
                    )  # fmt: skip
                    both[pathway] = block(both[pathway], index, train)
            slow, fast = both
            if stage < len(self.layers) - 1:
                slow = fuse(stage + 2, slow, fast)
        pooled = [jnp.mean(y.astype(jnp.float32), axis=(1, 2, 3)) for y in (slow, fast)]
        return jnp.concatenate(pooled, axis=-1)
