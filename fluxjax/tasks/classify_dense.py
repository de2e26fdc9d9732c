"""Classification by networks that take dense clips: no patches, no token budgets, batch statistics.

The task `classify` is this one for models without `patch`. A model says of itself `pixels` (its
statistics), `depth`, `layer_id(path)` and `frozen(path)`, and if it has branches for frame numbers
the field `frames`; `model.apply(variables, video, train=.., return_features=..)` takes normalised
float clips [B, T, H, W, 3].
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax.checkpoints.starting import start_model
from fluxjax.tasks.augmentation import augmented_videos
from fluxjax.tasks.base import Batch, LossOutput, Plan, batch_spec
from fluxjax.tasks.losses import single_budget_output
from fluxjax.tasks.model_of import check_classes, model_of
from fluxjax.tasks.parameter_groups import network_groups
from fluxjax.tokens.examples import ClipSpec, ExampleSpec
from fluxjax.tokens.grids import Grid
from fluxjax.tokens.tokens import normalize_pixels


class ClassifyDenseTask:
    """Cross-entropy classification of one dense clip a video.

    Attributes:
      config: see `fluxjax.config.keys.base_config`.
      model: the flax module.
      clips: what training wants of a video.
    """

    def __init__(self, config: ConfigDict):
        """Builds the model.

        Raises:
          ValueError: on an unknown model, or options that this task cannot use.
        """
        self.config = config
        self.model = self._create()
        self.clips = self._clips()

    def _create(self) -> nn.Module:
        """The model, with a branch for each frame number of the training if it has branches."""
        frames, fields = self._frames(), self.config.model
        if "frames" not in fields:
            return model_of(self.config)
        if fields.frames is not None and tuple(fields.frames) != frames:
            raise ValueError(
                f"config.model.frames={tuple(fields.frames)} must be config.grids.frames={frames}; "
                "leave it out"
            )
        return model_of(self.config, frames=frames)

    def _frames(self) -> tuple[int, ...]:
        """The frame numbers that are trained: one, of a plain network."""
        frames = tuple(self.config.grids.frames)
        if len(frames) != 1:
            raise ValueError(
                f"{self.config.model.name} is trained at one frame number here, config.grids.frames"
                f"={frames} names {len(frames)}; leave one, or set config.task='frame_flexible'"
            )
        return frames

    def _clips(self) -> tuple[ClipSpec, ...]:
        return (ClipSpec((Grid(self._frames()[0], self._resolution()),)),)

    def _resolution(self) -> int:
        resolutions = tuple(self.config.grids.resolutions)
        if len(resolutions) != 1:
            raise ValueError(
                f"{self.config.model.name} is trained at one resolution, config.grids.resolutions="
                f"{resolutions} names {len(resolutions)}; leave one"
            )
        return resolutions[0]

    def check(self) -> None:
        """Refuses keys that mean nothing to a network without tokens.

        Raises:
          ValueError: naming the key, the value and the remedy.
        """
        config, name = self.config, self.config.model.name
        wanted = {"method": "cross_entropy", "budgets": (), "single_budget": None}
        for key, value in wanted.items():
            if config[key] != value:
                raise ValueError(
                    f"{name} has no token budgets: set config.{key}={value!r} instead of "
                    f"{config[key]!r}"
                )
        if config.features.dir is not None:
            raise ValueError(
                f"config.features.dir={config.features.dir!r} needs a model with a frozen tower, "
                f"such as evl_b16; {name} is trained as a whole"
            )

    def example(self) -> ExampleSpec:
        """The training clips under one joint augmentation, and the class."""
        return ExampleSpec(self.clips)

    def eval_example(self, grid: Grid) -> ExampleSpec:
        """One dense clip on the grid, and its class."""
        return ExampleSpec((ClipSpec((grid,)),))

    def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Each clip's video [B, T, H, W, 3] uint8, and label [B] int32."""
        return batch_spec(self.example(), batch_size)

    def plans(self) -> tuple[Plan, ...]:
        """One plan."""
        return (Plan(self.config.task),)

    def evaluators(self) -> tuple[str, ...]:
        """The table of accuracies."""
        return ("classification",)

    def eval_plans(self, grid: Grid) -> dict[None, Plan]:
        """One plan for any frame number."""
        return {None: Plan("eval")}

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh variables, batch statistics included.

        Raises:
          ValueError: if nothing tells the number of classes.
        """
        check_classes(self.config)
        frames, side = self.clips[0].grids[0]
        return self.model.init(key, jnp.zeros((1, frames, side, side, 3), jnp.float32))

    def start_from(self, directory: str, variables: Any) -> dict[str, Any]:
        """Fresh variables with those of an inference checkpoint in their places.

        See `fluxjax.checkpoints.starting.start_model`.
        """
        return start_model(directory, self.model, variables)

    def groups(self, params: Any) -> Any:
        """Weight decay and rate of every parameter, see `parameter_groups.network_groups`."""
        return network_groups(self.model, params, self.config.optim)

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """Term ce, metric top1_all against the unmixed label."""
        videos, targets, key = self._inputs(batch, key)
        (logits,), mutable = self._forward(variables, videos, key)
        output = single_budget_output(logits, targets, batch["label"], None)
        return output._replace(mutable=mutable)

    def _inputs(self, batch: Batch, key: jax.Array) -> tuple[list[jax.Array], Any, jax.Array]:
        """Augmented clips of the batch, their soft targets, and a key for what follows."""
        augment_key, key = jax.random.split(key)
        videos = [batch[clip.key("video")] for clip in self.clips]
        return *augmented_videos(
            videos, batch["label"], augment_key, self.config, self.model.pixels
        ), key

    def _forward(
        self, variables: Any, videos: Sequence[jax.Array], key: jax.Array
    ) -> tuple[list[jax.Array], dict[str, Any]]:
        """Logits [B, K] of every clip in training, and the mutable collections after all of them.

        Each forward pass starts from the statistics that the one before it has left.
        """
        mutable = {name: value for name, value in variables.items() if name != "params"}
        logits = []
        for i, video in enumerate(videos):
            found, changed = self.model.apply(
                {"params": variables["params"], **mutable},
                video,
                train=True,
                rngs={"dropout": jax.random.fold_in(key, i)},
                mutable=list(mutable),
            )
            logits.append(found)
            mutable |= changed
        return logits, mutable

    def predict(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Logits [B, K] float32 of {"video": [B, T, H, W, 3]}, uint8 or normalised float."""
        video = normalize_pixels(batch["video"], self.model.pixels)
        return self.model.apply(variables, video).astype(jnp.float32)

    def features(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """What the classifier reads, [B, C] float32; `batch` as in `predict`."""
        video = normalize_pixels(batch["video"], self.model.pixels)
        return self.model.apply(variables, video, return_features=True)[1]

    def losses(self, variables: Any, batch: Batch, plan: Plan) -> dict[str, jax.Array]:
        """ce: cross-entropy [B] float32 of the predictions with the labels, without smoothing."""
        log_probs = jax.nn.log_softmax(self.predict(variables, batch, plan), axis=-1)
        return {"ce": -jnp.take_along_axis(log_probs, batch["label"][:, None], axis=-1)[:, 0]}
