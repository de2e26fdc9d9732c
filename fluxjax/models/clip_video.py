"""CLIP's tower over all tokens of a clip at once: joint space-time attention.

Source: "Training a Large Video Model on a Single Machine in a Day" (arXiv 2309.16669) and the
official repository zhaoyue-zephyrus/AVION, avion/models/transformer.py.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.blocks import remat_block
from fluxjax.models.clip import ClipBlock, TowerBase, TowerFields
from fluxjax.models.dense_clips import one_grid
from fluxjax.tokens.positions import linear_matrix, sincos_1d
from fluxjax.tokens.tokens import Tokens


class VideoTowerFields(TowerFields, kw_only=True):
    """What a `JointTower` and the models around it declare under the same names.

    Attributes:
      gelu: "exact" as AVION's weights need it, "quick" as OpenAI trained CLIP.
      epsilon: of the LayerNorms, 1e-6 in AVION and 1e-5 in CLIP.
      num_frames: rows of the temporal table; 1: there is none, as in the reference's image model.
      layer_scale: initial value; None: no layer scale. (The reference's raises an error.)
      drop_path: rate, the same in all blocks.
      patch_dropout: share of the tokens of a clip that training drops, never the cls token.
      remat: what blocks compute again in the backward pass, see `fluxjax.models.blocks`.
    """

    gelu: str = "exact"
    epsilon: float = 1e-6
    num_frames: int = 4
    layer_scale: float | None = None
    drop_path: float = 0.0
    patch_dropout: float = 0.0
    remat: str = "none"


class JointTower(VideoTowerFields, TowerBase, kw_only=True):
    """Embedding and blocks over the T*H*W tokens of a clip; no final norm, no projection.

    The position table of one frame is the same in every frame; what tells frames apart is the
    temporal table. Both are resampled for clips of other grids.
    """

    def setup(self):
        """Builds the layers."""
        super().setup()
        if self.num_frames > 1:
            shape = (self.num_frames, self.width)
            init = nn.initializers.zeros if self.position_scale is None else self._sincos_of_time
            self.temporal_table = self.param("temporal_table", init, shape)

    def __call__(self, tokens: Tokens, train: bool = False) -> jax.Array:
        """The tokens after the last block.

        Args:
          tokens: pixels [B, N, patch*patch*3] of clips on one static grid, without padding.
          train: draws dropped tokens and paths (needs rngs={"dropout": key}).

        Returns:
          [B, 1+K, C] in the compute dtype, cls first; K = N less what is dropped, whose order
          means nothing.

        Raises:
          ValueError: on padded tokens or another patch size.
        """
        frames, *grid = one_grid(tokens, "AVION's video tower")
        x = self._embedded(tokens)
        x = x.reshape(x.shape[0], frames, -1, self.width) + self._positions(tuple(grid))
        if self.num_frames > 1:
            x = x + self._times(frames)[:, None]
        x = x.reshape(x.shape[0], -1, self.width)
        if train and self.patch_dropout:
            x = self._some(x)
        x = self._with_cls(x)
        for block in self.blocks:
            # Whatever the parameters' sharding, activations are cut along the batch only.
            x = nn.with_logical_constraint(block(x, train).out, ("batch", None, None))
        return x

    def _block(self) -> ClipBlock:
        block = remat_block(self.remat, ClipBlock, static_argnums=(2,))
        return super()._block(block, layer_scale=self.layer_scale, drop_path=self.drop_path)

    def _sincos_of_time(self, key: jax.Array, shape: tuple[int, int]) -> jax.Array:
        del key
        return jnp.asarray(self.position_scale * sincos_1d(shape[1], jnp.arange(shape[0])))

    def _times(self, frames: int) -> jax.Array:
        """[T, C] in the compute dtype."""
        table = self.temporal_table
        if frames != self.num_frames:
            matrix = linear_matrix(frames, frames, self.num_frames)
            table = jnp.matmul(matrix, table, precision=jax.lax.Precision.HIGHEST)
        return table.astype(self.dtype)

    def _some(self, x: jax.Array) -> jax.Array:
        """[B, N, C] -> [B, K, C], other random tokens of each clip."""
        keep = max(1, int(x.shape[1] * (1 - self.patch_dropout)))
        noise = jax.random.normal(self.make_rng("dropout"), x.shape[:2])
        places = jax.lax.top_k(noise, keep)[1]
        return jnp.take_along_axis(x, places[..., None], axis=1)
