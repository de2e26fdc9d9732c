"""UMT's teacher: CLIP's image encoder on whole frames; what it looks at, the student is shown.

Source: "Unmasked Teacher" (arXiv 2303.16058, sections 3.1 and 3.2), OpenGVLab/unmasked_teacher.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fluxjax.checkpoints.inference import model_folder, read_architecture
from fluxjax.models import create_model
from fluxjax.models.clip_image import ClipImage
from fluxjax.models.clip_teacher import teach
from fluxjax.models.internvideo2 import return_layers
from fluxjax.tasks.base import Constants
from fluxjax.tasks.teacher import COLLECTION, note_hash, teacher_constants
from fluxjax.tokens.attention_masking import race, visible_per_frame, visible_tokens
from fluxjax.tokens.race import race_noise
from fluxjax.tokens.resizing import resize_bicubic
from fluxjax.tokens.tokens import IMAGENET_PIXELS, normalize_pixels


def add_teacher_keys(own: ConfigDict) -> ConfigDict:
    """Keys of a task with this teacher; returns `own`."""
    # Run or inference checkpoint of CLIP's image encoder with its projection. Released weights:
    # python -m fluxjax.convert --family clip. They are never copied into the run's checkpoints.
    own.teacher = placeholder(str)
    own.teacher_model = "clip_b16"  # of a dry run, which may have no teacher
    own.teacher_hash = placeholder(str)  # filled in: sha256 of the teacher; another is refused
    own.teacher_dtype = "bfloat16"  # of its weights and computation; it is never trained
    own.teacher_interval = 1.0  # its layers: depth - 1 - int(i * interval), one for each decoder
    own.hidden = 0.8  # share of a frame's tokens that the student does not see
    return own


class Lesson(NamedTuple):
    """What a student sees, and what it is to say of that.

    Attributes:
      video: [B, T, H, W, 3] float32, normalised.
      visible: [B, K] int32, ascending.
      features: [L, B, K, E] float32, not of unit norm.
    """

    video: jax.Array
    visible: jax.Array
    features: jax.Array


class UnmaskedTeacher:
    """The teacher of a task, whose parameters are the task's constants.

    Attributes:
      model: a `ClipImage` with projection.
    """

    def __init__(self, config: ConfigDict):
        """Reads which model it is, not its weights.

        Raises:
          FileNotFoundError: if there is no such folder.
          ValueError: if it is no image encoder of CLIP with its projection.
        """
        self._section, self._own = config.task, config[config.task]
        if self._own.teacher is None:
            model = create_model(self._own.teacher_model, None)
        else:
            model = read_architecture(model_folder(self._own.teacher)).model
            note_hash(self._own, self._section)
        if not isinstance(model, ClipImage) or model.embedding is None:
            raise ValueError(
                f"config.{self._section}.teacher={self._own.teacher!r} must be CLIP's image "
                f"encoder with its projection, not a {type(model).__name__}"
            )
        self.model = model.clone(num_classes=None, dtype=jnp.dtype(self._own.teacher_dtype))

    def check(self, dry_run: bool) -> None:
        """A teacher that teaches has weights.

        Raises:
          ValueError: naming the key and the remedy.
        """
        if self._own.teacher is None and not dry_run:
            raise ValueError(
                f"config.{self._section}.teacher=None must name CLIP's inference checkpoint; "
                "python -m fluxjax.convert --family clip makes one of released weights"
            )

    def constants(self) -> Constants:
        """The teacher's parameters."""
        return teacher_constants(self._own, self.model, self._section)

    def teach(
        self, variables: Any, video: jax.Array, draws: jax.Array, layers: int, patch: int
    ) -> Lesson:
        """What the student sees, drawn by the teacher's attention to every frame.

        The teacher sees all tokens of frames of the student's pixels, resized so that both have as
        many tokens.

        Args:
          variables: of the task.
          video: [B, T, H, W, 3] uint8, or floats that are normalised.
          draws: [B*T, K] of the unit exponential distribution, a number for each token.
          layers: L that are taught.
          patch: of the student, pixels.
        """
        video = normalize_pixels(video, IMAGENET_PIXELS)
        side = [x // patch * self.model.patch for x in video.shape[2:4]]
        taught = self.model.apply(
            {"params": variables[COLLECTION]},
            resize_bicubic(video, side),
            return_layers(self.model.depth, layers, self._own.teacher_interval),
            method=teach,
        )
        taught = jax.lax.stop_gradient(taught)
        area = taught.attention.shape[1]
        order = race(taught.attention, draws, visible_per_frame(area, self._own.hidden))
        visible = visible_tokens(order, video.shape[1], area)
        seen = jnp.take_along_axis(taught.features, visible[None, ..., None], axis=2)
        return Lesson(video, visible, seen)


def frame_draws(keys: jax.Array, video: jax.Array, patch: int) -> jax.Array:
    """Draws [B*T, K] for `UnmaskedTeacher.teach` of clips [B, T, H, W, 3], by their keys [B]."""
    clips, frames, height, width, _ = video.shape
    area = (height // patch) * (width // patch)
    return race_noise(keys, frames * area).reshape(clips * frames, area)
