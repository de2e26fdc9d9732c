"""VideoMAE's pre-training model: the encoder sees a few tokens, a light decoder fills in the rest.

Source: see `fluxjax.models.videomae_encoder`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.models.layers import LayerNorm, linear_init, masked_mean, uniform_init
from fluxjax.models.videomae_encoder import Encoder, VideoMaeFields, encoder_fields, vit_blocks
from fluxjax.tokens.masking import hidden_per_frame
from fluxjax.tokens.tokens import Tokens

_xavier = nn.initializers.xavier_uniform()


class Decoder(VideoMaeFields, kw_only=True):
    """Blocks over all tokens of a clip, and a linear map of the hidden ones to their pixels."""

    def setup(self):
        """Builds the layers."""
        self.blocks = vit_blocks(self, self.depth, self.num_heads, 0.0, _xavier)
        self.norm = LayerNorm(self.dtype, self.head_epsilon)
        values = self.tubelet * self.patch**2 * 3
        self.head = nn.Dense(values, kernel_init=_xavier, dtype=self.dtype)

    def __call__(self, x: jax.Array, valid: jax.Array | None, hidden: jax.Array) -> jax.Array:
        """Tokens [B, N, C] and indices of the hidden ones [B, M] -> pixels [B, M, D] float32."""
        for block in self.blocks:
            x = block(x, valid, False)
        x = self.norm(jnp.take_along_axis(x, hidden[..., None], axis=1))
        return self.head(x).astype(jnp.float32)


class VideoMaePretraining(VideoMaeFields, kw_only=True):
    """VideoMAE's masked autoencoder.

    Attributes:
      num_classes: None: it tells no classes.
      encoder_norm: the encoder's final LayerNorm; all released models have it.
      decoder_width, decoder_depth, decoder_heads: of the decoder's blocks.
      decoder_mlp_ratio: likewise; None: the encoder's.
      mask_ratio: share of a frame's patches that a mask hides, where it is not known while tracing
        how many that are, see `__call__`.

    The rest is of the encoder, see `fluxjax.models.videomae_encoder.VideoMaeFields`.
    """

    num_classes: int | None = None
    encoder_norm: bool = True
    decoder_width: int = 384
    decoder_depth: int = 4
    decoder_heads: int = 6
    decoder_mlp_ratio: float | None = None
    mask_ratio: float = 0.9

    one_grid = False

    def __post_init__(self):
        if self.num_classes is not None:
            raise ValueError(
                f"num_classes={self.num_classes}: a VideoMaePretraining tells no classes; create "
                "it with num_classes=0, and fine-tune a VideoMae from it"
            )
        if self.decoder_width % self.decoder_heads:
            raise ValueError(
                f"decoder_width={self.decoder_width} must be a multiple of "
                f"decoder_heads={self.decoder_heads}"
            )
        super().__post_init__()

    def setup(self):
        """Builds the layers."""
        fields = encoder_fields(self)
        self.encoder = Encoder(**fields, norm=self.encoder_norm, kernel_init=_xavier)
        bound = self.width**-0.5  # PyTorch's default for linear maps
        self.encoder_to_decoder = nn.Dense(
            self.decoder_width, use_bias=False, kernel_init=uniform_init(bound), dtype=self.dtype
        )
        self.mask_token = self.param("mask_token", linear_init, (self.decoder_width,))
        sizes = {
            "width": self.decoder_width,
            "depth": self.decoder_depth,
            "num_heads": self.decoder_heads,
            "mlp_ratio": self.decoder_mlp_ratio or self.mlp_ratio,
        }
        self.decoder = Decoder(**(fields | sizes))

    def __call__(
        self,
        video_or_tokens: jax.Array | Tokens,
        mask: jax.Array | None = None,
        slots: tuple[int, int] | None = None,
        train: bool = False,
    ) -> jax.Array:
        """Predicts the pixels of hidden tubelets; without a mask, gives the features of clips.

        Args:
          video_or_tokens: [B, T, H, W, 3] float, normalised, or uint8; or `Tokens` holding pixels
            of patches, or tubelets as `cubes` makes them, each clip on its own grid.
          mask: [B, N] bool, N tubelets row-major over (time, row, column), True for hidden ones.
            None: nothing is hidden, see `features`.
          slots: how many (visible, hidden) tokens there is room for, where clips differ. None: all
            clips hide as many, `mask` tells how many. A mask that is traced cannot: it must hide
            `mask_ratio` of every frame, as tube masks do. A traced mask that does not fit makes the
            clip's result NaN.
          train: drop paths are active (needs rngs={"dropout": key}).

        Returns:
          [B, M, tubelet*patch*patch*3] float32, of the hidden tubelets in ascending order; pixels
          in the order (frame, row, column, channel). Of slots without a token anything. Without a
          mask [B, width] float32.

        Raises:
          ValueError: on a mask of another shape or dtype, rows that hide different numbers, or
            more than there are slots for.
        """
        cubes = self._tubelets(video_or_tokens)
        if mask is None:
            if self.is_initializing():  # the decoder gets its parameters
                first = jnp.arange(cubes.valid.shape[1]) < 1
                self(cubes, jnp.broadcast_to(~first, cubes.valid.shape), (1, len(first) - 1))
            return self.features(cubes)
        if mask.shape != cubes.valid.shape or mask.dtype.kind not in "bui":
            raise ValueError(
                f"a mask must be [B, N] of the {list(cubes.valid.shape)} tubelets, bool, not "
                f"{list(mask.shape)} {mask.dtype}"
            )
        mask = mask.astype(bool)
        slots = self._slots(mask, cubes) if slots is None else slots
        visible = ~mask & cubes.valid
        misfits = _misfits(visible, mask & cubes.valid, slots)
        index, valid = token_indices(visible, slots[0])
        whole = cubes.static_grid is not None and sum(slots) == mask.shape[1]
        x = self.encoder(self.encoder.embed(cubes, index, None if whole else valid), train)
        x = self._filled(self.encoder_to_decoder(x), visible, cubes)
        hidden, _ = token_indices(mask & cubes.valid, slots[1])
        pixels = self.decoder(x, cubes.valid if cubes.padded else None, hidden)
        return jnp.where(misfits[:, None, None], jnp.nan, pixels)

    def features(self, video_or_tokens: jax.Array | Tokens) -> jax.Array:
        """The mean of the encoder's tokens of whole clips, [B, width] float32."""
        tokens = self.encoder.embed(self._tubelets(video_or_tokens))
        return masked_mean(self.encoder(tokens), tokens.valid if tokens.padded else None)

    def _tubelets(self, video_or_tokens: jax.Array | Tokens) -> Tokens:
        values = self.tubelet * self.patch**2 * 3
        ready = isinstance(video_or_tokens, Tokens) and video_or_tokens.values.shape[-1] == values
        if ready and self.tubelet > 1:
            return video_or_tokens
        return self.cubes(video_or_tokens)

    def _slots(self, mask: jax.Array, cubes: Tokens) -> tuple[int, int]:
        """(visible, hidden) tokens of every clip."""
        if isinstance(mask, jax.core.Tracer):
            if cubes.static_grid is None:
                raise ValueError("packed clips hide different numbers of tokens: pass slots=")
            frames, rows, columns = cubes.static_grid
            hidden = frames * hidden_per_frame(rows * columns, self.mask_ratio)
        else:
            counts = np.unique(np.sum(np.asarray(mask), axis=1))
            if len(counts) > 1:
                raise ValueError(
                    f"the rows of a mask must hide the same number of tokens, not {counts.tolist()}"
                    "; or pass slots="
                )
            hidden = int(counts[0])
        return mask.shape[1] - hidden, hidden

    def _filled(self, x: jax.Array, visible: jax.Array, cubes: Tokens) -> jax.Array:
        """Visible tokens [B, K, C] and mask tokens, each at its place and with its position.

        The official code puts all visible tokens first. To blocks without an order that is the
        same, and padding stays at the end.
        """
        mask_token = jnp.broadcast_to(self.mask_token.astype(x.dtype), (x.shape[0], 1, x.shape[-1]))
        rank = jnp.cumsum(visible, axis=1) - 1
        place = jnp.where(visible, rank, x.shape[1])
        x = jnp.take_along_axis(jnp.concatenate([x, mask_token], axis=1), place[..., None], axis=1)
        return x + self.positions(self.decoder_width, cubes)


def _misfits(visible: jax.Array, hidden: jax.Array, slots: tuple[int, int]) -> jax.Array:
    """[B] bool: clips with more (visible, hidden) tokens than slots.

    Raises:
      ValueError: where that is known already.
    """
    counts = jnp.stack([jnp.sum(visible, axis=1), jnp.sum(hidden, axis=1)], axis=1)
    if not isinstance(counts, jax.core.Tracer) and np.any(np.asarray(counts) > np.array(slots)):
        most = np.max(np.asarray(counts), axis=0).tolist()
        raise ValueError(
            f"slots={tuple(slots)} have no room for up to {most[0]} visible and {most[1]} hidden "
            "tokens"
        )
    return jnp.any(counts > jnp.array(slots), axis=1)


def token_indices(chosen: jax.Array, slots: int) -> tuple[jax.Array, jax.Array]:
    """Numbers of the chosen tokens in ascending order.

    Args:
      chosen: [B, N] bool.
      slots: K of the result; more chosen ones than these are left out.

    Returns:
      index [B, K] int32, and which of these are tokens, [B, K] bool, a prefix.
    """
    n = chosen.shape[1]
    numbers = jnp.where(chosen, jnp.arange(n, dtype=jnp.int32), n)
    index = jnp.sort(numbers, axis=1)[:, :slots]
    return jnp.minimum(index, n - 1), index < n
