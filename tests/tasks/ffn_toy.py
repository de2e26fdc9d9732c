"""A network of two layers with batch statistics for each frame number, that compiles in no time."""

import flax.linen as nn
import jax.numpy as jnp

from fluxjax.models import register_model
from fluxjax.tokens.tokens import IMAGENET_PIXELS, normalize_pixels


class ToyFrames(nn.Module):
    """Frames through a dense layer, a norm of the branch, the mean over time, a classifier.

    Attributes:
      num_classes: K.
      frames: of the branches, one of a plain network.
      width: of the layer.
      dtype: of the computation.
    """

    num_classes: int | None = None
    frames: tuple[int, ...] = (2, 4, 8)
    width: int = 8
    dtype: jnp.dtype = jnp.float32

    pixels = IMAGENET_PIXELS  # no field, as the next one
    depth = 1

    def layer_id(self, path):
        return 2 if path[0] == "head" else 1

    def frozen(self, path):
        return False

    def setup(self):
        self.layer = nn.Dense(self.width)
        for branch in self.frames:
            setattr(self, f"norm_{branch}", nn.BatchNorm(momentum=0.9, name=f"norm_{branch}"))
        self.head = nn.Dense(self.num_classes)

    def __call__(self, video, branch=None, train=False, return_features=False):
        video, frames = normalize_pixels(video, self.pixels), video.shape[1]
        if branch is None:
            branch = min(self.frames, key=lambda n: (abs(n - frames), -n))
        x = self.layer(video.reshape(*video.shape[:2], -1))
        if self.is_initializing():
            for other in self.frames:
                getattr(self, f"norm_{other}")(x, use_running_average=not train)
        x = nn.relu(getattr(self, f"norm_{branch}")(x, use_running_average=not train))
        # Which way brightness goes through time, so that motion can be learnt.
        weights = jnp.linspace(-1.0, 1.0, frames)[:, None]
        features = jnp.concatenate([x.mean(axis=1), (x * weights).mean(axis=1)], axis=-1)
        return (self.head(features), features) if return_features else self.head(features)


register_model("toy_frames", ToyFrames)
register_model("toy_plain", ToyFrames, frames=(4,))
