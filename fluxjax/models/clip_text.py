"""CLIP's text tower: a causal transformer over token ids.

Source: "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020),
the official repository openai/CLIP, and zhaoyue-zephyrus/AVION, avion/models/transformer.py.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.blocks import remat_block
from fluxjax.models.clip import ClipBlock
from fluxjax.models.layers import LayerNorm


class ClipText(nn.Module, kw_only=True):
    """Embeds captions: the token of the largest id, which ends a text, is read out.

    Attributes:
      vocab_size: of token ids.
      context_length: rows of the position table, the longest text.
      width, depth, num_heads, mlp_ratio: of the transformer.
      embedding: E, width of the projection; None: there is none.
      causal: a token sees itself and those before it only; False: all, padding too.
      gelu: "quick" as OpenAI trained, "exact" as AVION and most of open_clip's.
      epsilon: of all LayerNorms.
      dtype: of the computation; parameters stay float32.
      remat: what blocks compute again in the backward pass, see `fluxjax.models.blocks`.
    """

    vocab_size: int = 49408
    context_length: int = 77
    width: int = 512
    depth: int = 12
    num_heads: int = 8
    mlp_ratio: float = 4.0
    embedding: int | None = 512
    causal: bool = True
    gelu: str = "quick"
    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    remat: str = "none"

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        """Token ids [B, L] -> [B, E], or [B, width] without projection, float32; not of unit norm.

        A causal tower takes texts of any L up to `context_length`, with the same result as long as
        nothing but padding is left out.

        Raises:
          ValueError: on ids of another rank, of floats, or of texts that are too long.
        """
        self._check(ids)
        embed = nn.Embed(
            self.vocab_size,
            self.width,
            embedding_init=nn.initializers.normal(0.02),
            dtype=self.dtype,
            name="token_embedding",
        )
        shape = (self.context_length, self.width)
        table = self.param("position_table", nn.initializers.normal(0.01), shape)
        x = embed(ids) + table[: ids.shape[1]].astype(self.dtype)
        block = remat_block(self.remat, ClipBlock, static_argnums=(2,))
        for i in range(self.depth):
            x = block(
                self.num_heads,
                mlp_ratio=self.mlp_ratio,
                gelu=self.gelu,
                depth=self.depth,
                dtype=self.dtype,
                backend="xla",  # captions are short
                epsilon=self.epsilon,
                causal=self.causal,
                name=f"blocks_{i}",
            )(x, False).out
            x = nn.with_logical_constraint(x, ("batch", None, None))
        x = LayerNorm(dtype=self.dtype, epsilon=self.epsilon, name="norm")(x)
        ends = jnp.argmax(ids, axis=1)  # the first of the largest
        x = jnp.take_along_axis(x, ends[:, None, None], axis=1)[:, 0]
        if self.embedding is not None:
            init = nn.initializers.normal(self.width**-0.5)
            x = nn.Dense(
                self.embedding, use_bias=False, kernel_init=init, dtype=self.dtype, name="proj"
            )(x)
        return x.astype(jnp.float32)

    def _check(self, ids: jax.Array) -> None:
        if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(f"token ids must be integers [B, L], got {ids.dtype} {ids.shape}")
        length = ids.shape[1]
        if length > self.context_length or (not self.causal and length < self.context_length):
            raise ValueError(
                f"texts of {length} token ids do not fit context_length={self.context_length}; "
                f"make them with fluxjax.tokenizer(..)(texts, context={self.context_length})"
            )
