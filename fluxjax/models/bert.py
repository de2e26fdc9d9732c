"""BERT: text encoder, fusion with video by cross-attention, causal decoder.

Sources: "BERT" (arXiv 1810.04805) in the form of ALBEF's xbert (arXiv 2107.07651), as UMT has it:
the last layers attend to another sequence between self-attention and MLP.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.layers import LayerNorm, gelu, linear_init

EPSILON = 1e-12  # of all LayerNorms


def padding_mask(mask: jax.Array) -> jax.Array:
    """Which keys may be seen: mask [B, L], 0 for padding -> [B, 1, L] bool, the same by queries."""
    return mask[:, None] > 0


def causal_mask(mask: jax.Array) -> jax.Array:
    """As `padding_mask`, but only keys up to the query: mask [B, L] -> [B, L, L] bool."""
    places = jnp.arange(mask.shape[1])
    return padding_mask(mask) & (places[:, None] >= places)


class BertAttention(nn.Module):
    """Attention, dropout, output projection, residual, LayerNorm."""

    num_heads: int
    dropout: float = 0.1
    dtype: Any = jnp.float32
    kernel_init: Any = linear_init

    @nn.compact
    def __call__(
        self, x: jax.Array, others: jax.Array, seen: jax.Array | None, train: bool
    ) -> jax.Array:
        """x [B, L, C] attends to others [B, M, D] where seen [B, 1 or L, M] -> [B, L, C].

        Others may be [B / R, M, D]: R rows of x in a row share one, whose keys are made once.
        """
        b, length, width = x.shape
        groups = len(others)

        def project(name, y):
            y = nn.Dense(width, kernel_init=self.kernel_init, dtype=self.dtype, name=name)(y)
            return y.reshape(groups, -1, self.num_heads, width // self.num_heads)

        q, k, v = project("query", x), project("key", others), project("value", others)
        logits = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=jnp.float32)
        logits = logits * (width // self.num_heads) ** -0.5
        if seen is not None:
            logits = jnp.where(seen[:, None], logits, jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
        weights = nn.Dropout(self.dropout)(weights, deterministic=not train)
        y = jnp.einsum("bhnm,bmhd->bnhd", weights, v).reshape(b, length, width)
        y = nn.Dense(width, kernel_init=self.kernel_init, dtype=self.dtype, name="out")(y)
        y = nn.Dropout(self.dropout)(y, deterministic=not train)
        return LayerNorm(dtype=self.dtype, epsilon=EPSILON, name="norm")(x + y)


class BertLayer(nn.Module):
    """Post-norm layer: self-attention, with `cross` attention to another sequence, MLP."""

    num_heads: int
    hidden: int
    cross: bool = False
    dropout: float = 0.1
    dtype: Any = jnp.float32
    kernel_init: Any = linear_init

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        seen: jax.Array,
        others: jax.Array | None,
        others_seen: jax.Array | None,
        train: bool,
    ) -> jax.Array:
        """Texts [B, L, C] and, with `cross`, what they attend to [B, M, D] -> [B, L, C]."""
        dense = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        attend = {"dropout": self.dropout, **dense}
        x = BertAttention(self.num_heads, **attend, name="attn")(x, x, seen, train)
        if self.cross:
            cross = BertAttention(self.num_heads, **attend, name="cross")
            x = cross(x, others, others_seen, train)
        y = gelu(nn.Dense(self.hidden, **dense, name="fc1")(x), "exact")
        y = nn.Dense(x.shape[-1], **dense, name="fc2")(y)
        y = nn.Dropout(self.dropout)(y, deterministic=not train)
        x = LayerNorm(dtype=self.dtype, epsilon=EPSILON, name="norm")(x + y)
        return nn.with_logical_constraint(x, ("batch", None, None))


class Bert(nn.Module, kw_only=True):
    """BERT's layers; those from `fusion_layer` on attend to another sequence, too.

    Attributes:
      num_classes: not used; every model of the registry has it.
      vocabulary: ids of tokens.
      width, depth, num_heads, hidden: of the transformer and its MLPs.
      max_length: rows of the position table.
      fusion_layer: the first layer with cross-attention; None: there is none.
      token_head: a head that predicts tokens, its weights tied to the word embeddings.
      dropout: rate, of embeddings, attention and residual branches.
      init_std: standard deviation of initial weights. BERT's passes little from word to word of a
        model much narrower than BERT, which 1 / sqrt(width) mends.
      dtype: of the computation; parameters stay float32.
    """

    num_classes: int | None = None
    vocabulary: int = 30522
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    hidden: int = 3072
    max_length: int = 512
    fusion_layer: int | None = None
    token_head: bool = False
    dropout: float = 0.1
    init_std: float = 0.02
    dtype: Any = jnp.float32

    @property
    def text_layers(self) -> int:
        """Layers before the first with cross-attention."""
        return self.depth if self.fusion_layer is None else self.fusion_layer

    def setup(self):
        """Builds the layers."""
        init = nn.initializers.normal(self.init_std)
        embed = {"embedding_init": init, "dtype": self.dtype}
        self.words = nn.Embed(self.vocabulary, self.width, **embed)
        self.places = nn.Embed(self.max_length, self.width, **embed)
        self.types = nn.Embed(2, self.width, **embed)  # only type 0 is used
        norm = {"dtype": self.dtype, "epsilon": EPSILON}
        self.norm = LayerNorm(**norm)
        self.embedding_dropout = nn.Dropout(self.dropout)
        self.layers = [
            BertLayer(
                self.num_heads, self.hidden, i >= self.text_layers, self.dropout, self.dtype, init
            )
            for i in range(self.depth)
        ]
        if self.token_head:
            self.transform = nn.Dense(self.width, kernel_init=init, dtype=self.dtype)
            self.transform_norm = LayerNorm(**norm)
            self.token_bias = self.param("token_bias", nn.initializers.zeros, (self.vocabulary,))

    def __call__(
        self,
        ids: jax.Array,
        mask: jax.Array | None = None,
        others: jax.Array | None = None,
        train: bool = False,
        causal: bool = False,
    ) -> jax.Array:
        """All layers.

        Args:
          ids: [B, L] int32.
          mask: [B, L], 0 for padding; None: no padding.
          others: [B, M, D], what the layers from `fusion_layer` on attend to.
          train: dropout is active (needs rngs={"dropout": key}).
          causal: a token sees only those before it and itself.

        Returns:
          [B, L, C] in the compute dtype.

        Raises:
          ValueError: if the texts are longer than the position table.
        """
        mask = jnp.ones(ids.shape, jnp.int32) if mask is None else mask
        x = self.embed(ids, train)
        x = self.run(x, mask, others, range(self.depth), train=train, causal=causal)
        if self.is_initializing() and self.token_head:
            self.predict(x)
        return x

    def encode(self, ids: jax.Array, mask: jax.Array, train: bool = False) -> jax.Array:
        """Texts alone, through the layers before `fusion_layer`: ids [B, L] -> [B, L, C]."""
        return self.run(self.embed(ids, train), mask, None, range(self.text_layers), train=train)

    def fuse(
        self,
        text: jax.Array,
        mask: jax.Array,
        others: jax.Array,
        others_mask: jax.Array | None = None,
        train: bool = False,
    ) -> jax.Array:
        """The other layers.

        Args:
          text: [B, L, C] from `encode`.
          mask: [B, L], 0 for padding.
          others: [B, M, D], what is attended to; or [B / R, M, D], each shared by R texts in a row.
          others_mask: as `others`, 0 for padding; None: no padding.
          train: dropout is active.

        Returns:
          [B, L, C].
        """
        layers = range(self.text_layers, self.depth)
        return self.run(text, mask, others, layers, others_mask=others_mask, train=train)

    def embed(self, ids: jax.Array, train: bool = False) -> jax.Array:
        """Ids [B, L] -> words, places and type 0, normed [B, L, C]."""
        if ids.shape[1] > self.max_length:
            raise ValueError(
                f"texts of {ids.shape[1]} tokens are longer than the {self.max_length} rows of the "
                "position table; cut them"
            )
        x = self.words(ids) + self.types(jnp.zeros((1, 1), jnp.int32))
        x = self.norm(x + self.places(jnp.arange(ids.shape[1])[None]))
        return self.embedding_dropout(x, deterministic=not train)

    def run(
        self,
        x: jax.Array,
        mask: jax.Array,
        others: jax.Array | None,
        layers: Sequence[int],
        others_mask: jax.Array | None = None,
        train: bool = False,
        causal: bool = False,
    ) -> jax.Array:
        """Some layers: x [B, L, C], mask [B, L] and others [B, M, D] -> [B, L, C]."""
        seen = causal_mask(mask) if causal else padding_mask(mask)
        others_seen = None if others_mask is None else padding_mask(others_mask)
        for i in layers:
            x = self.layers[i](x, seen, others, others_seen, train)
        return x

    def predict(self, x: jax.Array) -> jax.Array:
        """Logits of tokens: [B, L, C] -> [B, L, vocabulary] float32."""
        x = self.transform_norm(gelu(self.transform(x), "exact"))
        return self.words.attend(x).astype(jnp.float32) + self.token_bias

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained; all are."""
        del path
        return False

    def layer_id(self, path: Sequence[str]) -> int:
        """0 for the embeddings, i + 1 for layer i, depth + 1 for the head."""
        if path[0].startswith("layers_"):
            return int(path[0].removeprefix("layers_")) + 1
        return 0 if path[0] in ("words", "places", "types", "norm") else self.depth + 1
