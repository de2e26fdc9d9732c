"""A dual encoder of two clips of a video and its caption."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class TwoClips(nn.Module):
    """Embeds a short and a long clip of a video, and a caption, into one space.

    Attributes:
      num_classes: not used; every model of the registry has it.
      width: E, of the embedding.
      vocabulary: ids of the text.
      dtype: of the computation.
    """

    num_classes: int | None = None
    width: int = 16
    vocabulary: int = 512
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.frames = nn.Dense(self.width, dtype=self.dtype)
        self.words = nn.Embed(self.vocabulary, self.width, dtype=self.dtype)

    def __call__(self, short: jax.Array, long: jax.Array, text: jax.Array) -> tuple:
        """Unit embeddings ([B, E], [B, E]) float32 of videos and captions.

        Args:
          short, long: [B, T, H, W, 3] uint8, T differs between them.
          text: [B, L] int32.
        """
        video = sum(self.frames(jnp.mean(c / 255.0, axis=1).reshape(len(c), -1))
                    for c in (short, long))  # fmt: skip
        words = jnp.mean(self.words(text), axis=1)
        unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
        return unit(video.astype(jnp.float32)), unit(words.astype(jnp.float32))
