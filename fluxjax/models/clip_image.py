"""CLIP's image encoder, and a classifier on its tower.

Source: "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020)
and the official repository openai/CLIP.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models import clip_teacher
from fluxjax.models.clip import ClipTower, TowerFeatures, TowerFields, tower_fields, tower_layer_id
from fluxjax.models.dense_clips import pixel_tokens
from fluxjax.models.internvideo2 import TeacherOutput
from fluxjax.models.layers import LayerNorm, unit
from fluxjax.tokens.tokens import Tokens


class ClipImage(TowerFields, kw_only=True):
    """CLIP's image encoder, or a classifier on it; clips are the mean of their frames.

    Attributes:
      num_classes: K of a linear head on the normed cls token; None: CLIP's own projection instead.
      embedding: E, width of the projection; None: there is none, the output is the normed cls token
        [B, width].
      train_tower: False freezes the tower: only the norm and the head (or projection) are trained.
      gelu: of the tower, see `ClipTower`.

    The rest is of the tower, too, see `TowerFields`.
    """

    num_classes: int | None = None
    embedding: int | None = 512
    train_tower: bool = True
    gelu: str = "quick"

    one_grid = True

    def setup(self):
        """Builds the layers."""
        self.tower = ClipTower(**tower_fields(self), gelu=self.gelu, dtype=self.dtype)
        self.ln_post = LayerNorm(dtype=self.dtype)
        if self.num_classes is None and self.embedding is not None:
            init = nn.initializers.normal(self.width**-0.5)
            self.proj = nn.Dense(self.embedding, use_bias=False, kernel_init=init, dtype=self.dtype)
        elif self.num_classes is not None:
            self.head = nn.Dense(self.num_classes, dtype=self.dtype)

    def __call__(
        self, video_or_tokens: jax.Array | Tokens, budget: int | None = None, train: bool = False
    ) -> jax.Array:
        """Encodes or classifies images and clips.

        Args:
          video_or_tokens: images [B, H, W, 3] or clips [B, T, H, W, 3], float normalised by
            `pixels` or uint8; or `Tokens` holding pixels, all on one grid without padding.
          budget: tokens kept a clip, see `ClipTower`.
          train: changes nothing: there is no dropout.

        Returns:
          logits [B, num_classes] or embedding [B, embedding], float32; not of unit norm.
        """
        del train
        features = self.tower(pixel_tokens(video_or_tokens, self.patch), budget)
        x = self.ln_post(features.layers[-1].out[:, :, 0])
        if self.num_classes is not None:
            x = self.head(x)
        elif self.embedding is not None:
            x = self.proj(x)
        return jnp.mean(x.astype(jnp.float32), axis=1)

    def layers(self, video_or_tokens: jax.Array | Tokens) -> TowerFeatures:
        """Images or clips as in `__call__` -> features [B, T, 1+K, ..] of every block."""
        return self.tower(pixel_tokens(video_or_tokens, self.patch))

    def teach(self, video_or_tokens: jax.Array | Tokens, layers: Sequence[int]) -> TeacherOutput:
        """Targets for a student that sees videos, frame by frame, as UMT has them.

        Args:
          video_or_tokens: clips as in `__call__`; UMT normalises their pixels as the student does.
          layers: blocks whose outputs are taught, ascending, see `return_layers`.

        Returns:
          Layers [L, B, T*K, E] without cls tokens, no pooled features, and the attention [B, T*K]
          of each frame's cls token in the last block.

        Raises:
          ValueError: on a wrong layer, or a model without projection.
        """
        features, attention = clip_teacher.teach(self, video_or_tokens, layers)
        return TeacherOutput(unit(features, 0.0), None, attention.reshape(features.shape[1], -1))

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained."""
        return path[0] == "tower" and not self.train_tower

    def layer_id(self, path: Sequence[str]) -> int:
        """Layer number of a parameter for layer decay: see `tower_layer_id`."""
        return tower_layer_id(path, self.depth)
