"""Blocks of UniFormer: convolutions in the early stages, attention in the late ones.

Source: "UniFormer: Unified Transformer for Efficient Spatiotemporal Representation Learning"
(arXiv 2201.04676) and Transformer_Network/slowfast/models/uniformer_FFN.py of
BeSpontaneous/FFN-pytorch.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.attention import attention
from fluxjax.models.frame_flexible.branches import Branched
from fluxjax.models.frame_flexible.convolutions import Conv, Sizes, default_init
from fluxjax.models.layers import DropPath, Mlp, gelu, linear_init

ADAPTER_STD = 1e-3  # near zero as in the paper: here the release does not draw adapters anew


class PatchEmbed(Branched, kw_only=True):
    """Strided convolution and the branch's own layer norm.

    Attributes:
      width: of the result.
      kernel, stride, padding: of the convolution.

    The rest is of `Branched`.
    """

    width: int
    kernel: Sizes = (1, 2, 2)
    stride: Sizes = (1, 2, 2)
    padding: Sizes = (0, 0, 0)

    @nn.compact
    def __call__(self, x: jax.Array, branch: int) -> jax.Array:
        """[B, T, H, W, C] -> [B, T', H', W', width]."""
        x = Conv(
            self.width, self.kernel, self.stride, self.padding, use_bias=True,
            kernel_init=default_init, dtype=self.dtype, name="proj",
        )(x)  # fmt: skip
        return self.layer_norm("norm", x, branch, epsilon=1e-5)


class Block(Branched):
    """What both kinds of blocks begin with: the adapter on the whole stream, and positions.

    Attributes:
      mlp_ratio: hidden width of the MLP over the block's.
      drop_path: rate at which each of the two residual branches is dropped.

    The rest is of `Branched`.
    """

    mlp_ratio: float = 4.0
    drop_path: float = 0.0

    def begun(self, x: jax.Array, branch: int) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H, W, C]."""
        x = self.altered(x, branch, ADAPTER_STD)
        return x + self.conv("pos_embed", x.shape[-1], 3, x.shape[-1])(x)

    def conv(self, name: str, width: int, size: int = 1, groups: int = 1) -> Conv:
        """A convolution of the same size along all axes, with bias."""
        return Conv(
            width, (size,) * 3, groups=groups, use_bias=True, kernel_init=default_init,
            dtype=self.dtype, name=name,
        )  # fmt: skip

    def dropped(self, x: jax.Array, train: bool) -> jax.Array:
        """A residual branch, [B, ..] -> [B, ..]."""
        return DropPath(self.drop_path)(x, train)


class ConvBlock(Block):
    """Depthwise 5x5x5 between two linear maps, then an MLP; batch norms."""

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, train: bool = False) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H, W, C]."""
        width = x.shape[-1]
        x = self.begun(x, branch)
        y = self.batch_norm("norm1", x, branch, train)
        y = self.conv("attn", width, 5, width)(self.conv("conv1", width)(y))
        x = x + self.dropped(self.conv("conv2", width)(y), train)
        y = self.batch_norm("norm2", x, branch, train)
        y = gelu(self.conv("fc1", int(width * self.mlp_ratio))(y), "exact")
        return x + self.dropped(self.conv("fc2", width)(y), train)


class AttentionBlock(Block, kw_only=True):
    """Joint attention over space and time, then an MLP; layer norms.

    Attributes:
      heads: of the attention.
      attention: how it is computed, see `fluxjax.models.attention`.

    The rest is of `Block`.
    """

    heads: int
    attention: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, train: bool = False) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H, W, C]."""
        shape, width = x.shape, x.shape[-1]
        x = self.begun(x, branch).reshape(shape[0], -1, width)
        y = self.layer_norm("norm1", x, branch, epsilon=1e-6)
        qkv = nn.Dense(3 * width, kernel_init=linear_init, dtype=self.dtype, name="qkv")(y)
        q, k, v = jnp.moveaxis(qkv.reshape(*y.shape[:2], 3, self.heads, -1), 2, 0)
        y = attention(q, k, v, backend=self.attention).reshape(x.shape)
        y = nn.Dense(width, kernel_init=linear_init, dtype=self.dtype, name="proj")(y)
        x = x + self.dropped(y, train)
        y = self.layer_norm("norm2", x, branch, epsilon=1e-6)
        mlp = Mlp(int(width * self.mlp_ratio), gelu="exact", dtype=self.dtype, name="mlp")
        return (x + self.dropped(mlp(y), train)).reshape(shape)
