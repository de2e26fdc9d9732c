"""What FluxViT and InternVideo2 are made of: patch embedding, attention, transformer block.

Source: OpenGVLab/FluxViT, single_modality/models.
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.models.attention import attention, attention_with_sharpness
from fluxjax.models.layers import (
    Affine,
    DropPath,
    LayerScale,
    Mlp,
    RMSNorm,
    linear_init,
    rows_of,
    uniform_init,
)
from fluxjax.models.pallas_attention import ATTENTION_OUTPUT
from fluxjax.tokens.merging import Merged, foreground, merge, merge_count, unmerged


@flax.struct.dataclass
class Merging:
    """What a block that merges needs to know.

    Attributes:
      r: tokens to merge, or below 1 their share; 0 none. Static.
      mass: [B, N] float32, what earlier blocks merged; None: nothing.
    """

    r: float = flax.struct.field(pytree_node=False)
    mass: jax.Array | None


def merges(merging: Merging | None, tokens: int, protect_first: bool = False) -> bool:
    """Whether a block merges any of so many tokens; else its attention needs no sharpness."""
    return merging is not None and merge_count(tokens, merging.r, protect_first) > 0


def merged(
    x: jax.Array,
    sharp: jax.Array | None,
    valid: jax.Array | None,
    merging: Merging,
    protect_first: bool = False,
) -> Merged:
    """Tokens [B, N, C] after the merge of a block, between attention and MLP (vid-TLDR).

    Args:
      x: [B, N, C].
      sharp: [B, N], how sharply each attends; None: none merges.
      valid: [B, N] bool, a prefix; None: all.
      merging: how many, and what merged before.
      protect_first: the first token (cls) stays.
    """
    if sharp is None:
        return unmerged(x, merging.mass, valid)
    return merge(x, foreground(sharp, valid), merging.r, merging.mass, valid, protect_first)


class PatchEmbed(nn.Module):
    """Dual patch norm: RMSNorm over pixels, linear map, RMSNorm over channels."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, patches: jax.Array) -> jax.Array:
        """[B, N, patch*patch*3] normalised pixels -> [B, N, width]."""
        uniform = uniform_init(patches.shape[-1] ** -0.5)  # PyTorch's default for convolutions
        x = RMSNorm(dtype=self.dtype, name="norm_before")(patches)
        x = nn.Dense(
            self.width, kernel_init=uniform, bias_init=uniform, dtype=self.dtype, name="proj"
        )(x)
        return RMSNorm(dtype=self.dtype, name="norm")(x)


class SelfAttention(nn.Module):
    """Attention with full-width QK-norm and, if `lpe`, the local positional embedding on V."""

    num_heads: int
    dtype: Any = jnp.float32
    backend: str = "auto"
    out_init: Any = linear_init
    lpe: bool = True

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        valid: jax.Array | None,
        mass: jax.Array | None = None,
        return_sharpness: bool = False,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """[B, N, C], valid [B, N] bool or None -> [B, N, C]; keys count `mass` [B, N] times.

        With `return_sharpness` also that of each token [B, N], see `attention_with_sharpness`.
        """
        b, n, width = x.shape
        dense = {"kernel_init": linear_init, "dtype": self.dtype}
        qkv = nn.Dense(3 * width, use_bias=False, name="qkv", **dense)(x)
        q, k, v = jnp.split(qkv, 3, axis=-1)
        # Normalised over all heads jointly, before the split into heads.
        q = RMSNorm(dtype=self.dtype, name="q_norm")(q)
        k = RMSNorm(dtype=self.dtype, name="k_norm")(k)
        q, k, heads_v = (y.reshape(b, n, self.num_heads, -1) for y in (q, k, v))
        if return_sharpness:
            out, sharp = attention_with_sharpness(q, k, heads_v, valid=valid, mass=mass)
        else:
            out = attention(q, k, heads_v, valid=valid, mass=mass, backend=self.backend)
        out = out.reshape(b, n, width)
        if self.lpe:
            out = out + Affine(dtype=self.dtype, name="lpe")(v)
        out = nn.Dense(width, kernel_init=self.out_init, dtype=self.dtype, name="proj")(
            rows_of(out)  # see `scale_channels`
        ).reshape(x.shape)
        return (out, sharp) if return_sharpness else out


class Block(nn.Module):
    """Pre-norm transformer block with layer scale and drop path."""

    num_heads: int
    mlp_ratio: float = 4.0
    layer_scale: float | None = 1e-5
    drop_path: float = 0.0
    depth_index: int = 0
    gelu: str = "tanh"
    dtype: Any = jnp.float32
    backend: str = "auto"
    lpe: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, valid: jax.Array | None, train: bool, merging: Merging | None = None
    ) -> jax.Array | Merged:
        """[B, N, C], valid [B, N] bool or None -> [B, N, C]; with `merging` a `Merged`.

        Tokens merge between attention and MLP (vid-TLDR); the first one, cls, stays. What became
        of each token is sown as intermediate "assignment". Where none are to merge, mass counts.
        """
        out_init = nn.initializers.normal(0.02 / np.sqrt(2.0 * (self.depth_index + 1)))
        common = {"dtype": self.dtype, "out_init": out_init}
        y = RMSNorm(dtype=self.dtype, name="norm1")(x)
        attend = SelfAttention(
            self.num_heads, backend=self.backend, lpe=self.lpe, name="attn", **common
        )
        mass, sharp = None if merging is None else merging.mass, None
        if merges(merging, x.shape[1], protect_first=True):
            y, sharp = attend(y, valid, mass, return_sharpness=True)
        else:
            y = attend(y, valid, mass)
        x = x + DropPath(self.drop_path)(LayerScale(self.layer_scale, name="ls1")(y), train)
        if merging is not None:
            left = merged(x, sharp, valid, merging, protect_first=True)
            self.sow("intermediates", "assignment", left.assignment)
            x = left.values
        y = RMSNorm(dtype=self.dtype, name="norm2")(x)
        hidden = int(x.shape[-1] * self.mlp_ratio)
        y = Mlp(hidden, gelu=self.gelu, name="mlp", **common)(y)
        x = x + DropPath(self.drop_path)(LayerScale(self.layer_scale, name="ls2")(y), train)
        # Whatever the parameters' sharding, activations are cut along the batch only.
        x = nn.with_logical_constraint(x, ("batch", None, None))
        return x if merging is None else left.replace(values=x)


# What the forward pass of a block keeps for its gradient; the rest is computed again.
REMAT = ("none", "dots", "block")


def remat_block(
    kind: str, block: type[nn.Module] = Block, static_argnums: tuple[int, ...] = (3,)
) -> type[nn.Module]:
    """A block that is computed again in the backward pass as far as `kind` says.

    Args:
      kind: "none" keeps everything; "dots" keeps products of activations with parameters
        and what the kernel of attention on TPUs gives, which saves the memory of element-wise
        results for little time; other attention is computed again; "block" keeps a
        block's input only, for one more forward pass.
      block: the module.
      static_argnums: which arguments of its call are Python values, counted with self; `train`.

    Raises:
      ValueError: on another kind.
    """
    if kind == "none":
        return block
    keep = jax.checkpoint_policies
    dots = keep.save_from_both_policies(
        keep.dots_with_no_batch_dims_saveable, keep.save_only_these_names(ATTENTION_OUTPUT)
    )
    policies = {"dots": dots, "block": None}
    if kind not in policies:
        raise ValueError(f"unknown remat {kind!r}; choose one of {REMAT}")
    return nn.remat(block, policy=policies[kind], static_argnums=static_argnums)


def make_blocks(model: Any, block: type[Block] = Block, lpe: bool = True) -> list[Block]:
    """The blocks of a FluxViT or InternVideo2, to be called in its `setup`.

    Drop path rises linearly from 0 at the first block to the model's rate at the last.
    """
    rates = np.linspace(0.0, model.drop_path, model.depth)
    return [
        block(
            model.num_heads,
            mlp_ratio=model.mlp_ratio,
            layer_scale=model.layer_scale,
            drop_path=float(rate),
            depth_index=i,
            gelu=model.gelu,
            dtype=model.dtype,
            backend=model.attention,
            lpe=lpe,
        )
        for i, rate in enumerate(rates)
    ]
