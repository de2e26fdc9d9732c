"""Masked autoencoding: hide most of a clip, predict its pixels.

Sources: "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training" (arXiv 2203.12602) and AVION (arXiv 2309.16669), scripts/main_videomae_pretrain.py.
Both train on one grid; here each batch, or each clip, may have its own, in one compiled program.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax.checkpoints.starting import start_model
from fluxjax.models import create_model
from fluxjax.models.registry import model_fields
from fluxjax.models.videomae_pretraining import token_indices
from fluxjax.tasks.base import Batch, LossOutput, Plan, batch_spec
from fluxjax.tasks.parameter_groups import layer_decay
from fluxjax.tasks.reconstruct_targets import SCALES, pixel_targets, pixels_of
from fluxjax.tokens import grids
from fluxjax.tokens.examples import ExampleSpec, packed
from fluxjax.tokens.masking import draw_mask, hidden_tokens
from fluxjax.tokens.tokens import Tokens, unpatchify

MASKED = {"held_out", "reconstructions"}  # evaluators that mask clips
EVAL_SEED = 0  # of the masks of held-out clips, which are the same in every run


def keys() -> ConfigDict:
    """What only this task has: `config.reconstruct`."""
    own = ConfigDict()
    own.mask = "tube"  # what is hidden: tube, random or group_dynamic (fluxjax.tokens.masking)
    own.mask_ratio = 0.9  # share of each frame's tokens that is hidden; of random: of the clip's
    # normalized: by each tubelet's own mean and deviation; bytes, unit: as they are, 0 to 255 or 1
    own.target = "normalized"
    own.pictures = 6  # test videos in reconstructions.png
    return own


class ReconstructTask:
    """Mean squared error of predicted pixels of hidden tubelets, on any sampling grids.

    Attributes:
      config: see `fluxjax.config.keys.base_config` and `keys`.
      model: the flax module.
      grids: sampling grids drawn in training.
      max_grid: static bound of all grids of training, in patches.
    """

    def __init__(self, config: ConfigDict):
        """Builds the model.

        Raises:
          ValueError: on an unknown model or mask, a model without decoder, or a ratio that hides
            nothing or all.
        """
        self.config, self.own = config, config.reconstruct
        fields = {name: x for name, x in config.model.to_dict().items() if x is not None}
        name, dtype = fields.pop("name"), jnp.dtype(fields.pop("dtype"))
        if "mask_ratio" in model_fields(name):
            fields.setdefault("mask_ratio", self.own.mask_ratio)
        self.model = create_model(name, 0, dtype=dtype, **fields)
        if not hasattr(self.model, "cubes") or not hasattr(self.model, "decoder_depth"):
            raise ValueError(
                f"task 'reconstruct' needs a model with a decoder, such as videomae_b16_pretrain; "
                f"config.model.name={name!r} has none"
            )
        self.patch = self.model.patch
        self.grids = grids.fitting_grids(
            config.grids.frames,
            config.grids.resolutions,
            config.grids.min_tokens,
            config.grids.max_tokens,
            self.patch,
        )
        self.max_grid = grids.max_grid(self.grids, self.patch)
        self.slots = max(grid.tokens(self.patch) for grid in self.grids)
        self._room(self.grids)

    def check(self) -> None:
        """Refuses evaluation grids that do not fit the patch or the mask, and keys without effect.

        Raises:
          ValueError: naming the key, the value and the remedy.
        """
        for text in self.config.eval.grids:
            grid = grids.parse_grid(text)
            if grid.resolution % self.patch:
                raise ValueError(
                    f"config.eval.grids: {grid} must have pixels that are a multiple of the patch "
                    f"of {self.patch}"
                )
            if MASKED & set(self.config.eval.evaluators or self.evaluators()):
                self._hidden(grid, "eval.grids")
        if self.config.model.mask_ratio not in (None, self.own.mask_ratio):
            raise ValueError(
                f"config.model.mask_ratio={self.config.model.mask_ratio} is taken from "
                f"config.reconstruct.mask_ratio={self.own.mask_ratio}; set only that"
            )
        if self.own.target not in SCALES:
            raise ValueError(
                f"config.reconstruct.target={self.own.target!r} must be one of {', '.join(SCALES)}"
            )
        if self.own.pictures < 1:
            raise ValueError("config.reconstruct.pictures must be at least 1")
        for key, off in (("mixing", "prob"), ("erasing", "prob")):
            if self.config[key][off]:
                raise ValueError(
                    f"config.{key}.{off}={self.config[key][off]} has no effect on task "
                    "'reconstruct'; set it to 0.0"
                )

    def example(self) -> ExampleSpec:
        """One packed clip on any of the grids."""
        clip = packed(self.grids, self.slots, self.patch)
        return dataclasses.replace(clip, targets=())

    def eval_example(self, grid: grids.Grid) -> ExampleSpec:
        """One packed clip on the grid, and its class for probes, where classes are known."""
        clip = packed((grid,), grid.tokens(self.patch), self.patch)
        return clip if self.config.num_classes else dataclasses.replace(clip, targets=())

    def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """patches [B, slots, patch*patch*3] uint8, grid [B, 3] int32, example [B] int32."""
        number = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
        return batch_spec(self.example(), batch_size) | {"example": number}

    def plans(self) -> tuple[Plan, ...]:
        """One plan for all grids; where there is one grid only, it is known while tracing."""
        return (Plan("reconstruct", grid=self.grids[0] if len(self.grids) == 1 else None),)

    def evaluators(self) -> tuple[str, ...]:
        """Held-out loss and pictures; probes of frozen features where classes are known."""
        probes = ("knn", "linear_probe") if self.config.num_classes else ()
        return ("held_out", *probes, "reconstructions")

    def eval_plans(self, grid: grids.Grid) -> dict[None, Plan]:
        """One plan a grid, without padding."""
        return {None: Plan("eval", grid=grid)}

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh variables; the clip's shape does not matter to them."""
        frames, side = self.model.tubelet, 2 * self.patch
        video = jnp.zeros((1, frames, side, side, 3), jnp.float32)
        mask = jnp.array([[False, True, True, True]])
        return self.model.init(key, video, mask, slots=(1, 3))

    def start_from(self, directory: str, variables: Any) -> dict[str, Any]:
        """Fresh variables with the parameters of an inference checkpoint in their places.

        See `fluxjax.checkpoints.starting.start_model`.
        """
        return start_model(directory, self.model, variables)

    def groups(self, params: Any) -> Any:
        """As `parameter_groups.layer_decay`; the mask token is decayed, as in AVION."""
        groups = layer_decay(self.model, params, self.config.optim)
        token = dataclasses.replace(groups["mask_token"], decay=True)
        return {**groups, "mask_token": token}

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """Term mse: the mean over clips of each one's mean squared error.

        The mask of a clip depends on `key`, which is the step's, and the clip's number; on nothing
        else of the batch.
        """
        mask_key, drop_key = jax.random.split(key)
        cubes = self.cubes(batch, plan.grid)
        mask = self.mask(cubes, clip_keys(mask_key, batch["example"]))
        room = self._room(self.grids)
        predicted = self._predict(variables, cubes, mask, room, train=True, dropout=drop_key)
        errors = self._errors(predicted, cubes, mask, room)
        return LossOutput({"mse": (jnp.mean(errors), 1.0)}, {}, {})

    def losses(self, variables: Any, batch: Batch, plan: Plan) -> dict[str, jax.Array]:
        """mse: [B] float32 under masks that depend on the clip's number only."""
        cubes, mask, predicted = self._held_out(variables, batch, plan)
        return {"mse": self._errors(predicted, cubes, mask, self._room((plan.grid,)))}

    def features(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """The mean of the encoder's tokens of whole clips, [B, width] float32."""
        cubes = self.cubes(batch, plan.grid)
        return self.model.apply(variables, cubes, method="features")

    def reconstructions(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Clips, what is seen of them, and what is filled in: [B, 3, T, H, W, 3] float32, 0 to 255.

        Where targets are normalised, mean and contrast of each hidden tubelet are its own, as in
        the official pictures.
        """
        cubes, mask, predicted = self._held_out(variables, batch, plan)
        pixels = cubes.values.astype(jnp.float32)
        index, _ = token_indices(mask, predicted.shape[1])
        take = lambda x: jnp.take_along_axis(x, index[..., None], axis=1)  # noqa: E731
        guess = pixels_of(predicted, take(pixels), self.own.target)
        rows = jnp.arange(len(pixels))[:, None]
        seen = jnp.where(mask[..., None], 128.0, pixels)
        versions = jnp.stack([pixels, seen, pixels.at[rows, index].set(guess)], axis=1)
        return jnp.clip(self._videos(versions, plan.grid), 0.0, 255.0)

    def cubes(self, batch: Batch, grid: grids.Grid | None) -> Tokens:
        """The batch's clips as tubelets of pixels [B, N, D], uint8.

        With the static `grid` of all clips there is no padding.
        """
        if grid is not None:
            patches = batch["patches"][:, : grid.tokens(self.patch)]
            tokens = Tokens.from_patches(patches, batch["grid"], grid.shape(self.patch))
            return self.model.cubes(tokens.replace(padded=False))
        tokens = Tokens.from_patches(batch["patches"], batch["grid"], self.max_grid)
        return self.model.cubes(tokens, max(self._tubelets(grid) for grid in self.grids))

    def mask(self, cubes: Tokens, clip_keys: jax.Array) -> jax.Array:
        """[B, N] bool, True for hidden tubelets; a key a clip."""
        return draw_mask(self.own.mask, cubes, clip_keys, self.own.mask_ratio)

    def _held_out(self, variables: Any, batch: Batch, plan: Plan):
        """Tubelets, masks and predictions of evaluation."""
        cubes = self.cubes(batch, plan.grid)
        drawn = clip_keys(jax.random.key(EVAL_SEED), batch["example"])
        mask = self.mask(cubes, drawn)
        return cubes, mask, self._predict(variables, cubes, mask, self._room((plan.grid,)))

    def _predict(self, variables, cubes, mask, room, train=False, dropout=None) -> jax.Array:
        rngs = None if dropout is None else {"dropout": dropout}
        return self.model.apply(variables, cubes, mask, slots=room, train=train, rngs=rngs)

    def _errors(
        self, predicted: jax.Array, cubes: Tokens, mask: jax.Array, room: tuple[int, int]
    ) -> jax.Array:
        """Each clip's mean squared error over its hidden tubelets, [B] float32."""
        index, valid = token_indices(mask, room[1])
        hidden = jnp.take_along_axis(cubes.values, index[..., None], axis=1)
        error = jnp.square(predicted - pixel_targets(hidden, self.own.target))
        error = jnp.where(valid, jnp.mean(error, axis=-1), 0.0)
        return jnp.sum(error, axis=1) / jnp.maximum(jnp.sum(valid, axis=1), 1)

    def _shape(self, grid: grids.Grid) -> tuple[int, int, int]:
        """(T, H, W) in tubelets."""
        frames, rows, columns = grid.shape(self.patch)
        return -(-frames // self.model.tubelet), rows, columns

    def _tubelets(self, grid: grids.Grid) -> int:
        frames, rows, columns = self._shape(grid)
        return frames * rows * columns

    def _hidden(self, grid: grids.Grid, key: str) -> int:
        """Tubelets of a clip that a mask hides.

        Raises:
          ValueError: if that is none or all of them, or on an unknown mask; names the key.
        """
        try:
            return hidden_tokens(self._shape(grid), self.own.mask, self.own.mask_ratio)
        except ValueError as error:
            ratio = f"config.reconstruct.mask_ratio={self.own.mask_ratio}"
            raise ValueError(f"{ratio} on {grid} of config.{key}: {error}") from error

    def _room(self, wanted: tuple[grids.Grid, ...]) -> tuple[int, int]:
        """Slots of (visible, hidden) tokens that every one of the grids fits into."""
        hidden = [self._hidden(grid, "grids") for grid in wanted]
        totals = [self._tubelets(grid) for grid in wanted]
        return max(n - h for n, h in zip(totals, hidden, strict=True)), max(hidden)

    def _videos(self, versions: jax.Array, grid: grids.Grid) -> jax.Array:
        """Tubelets [B, V, N, D] -> videos [B, V, T, H, W, 3]."""
        (b, v, n, _), length = versions.shape, self.model.tubelet
        frames, rows, columns = self._shape(grid)
        x = versions.reshape(b * v, frames, n // frames, length, -1)
        x = jnp.swapaxes(x, 2, 3).reshape(b * v, length * n, -1)
        x = unpatchify(x, (frames * length, rows, columns), self.patch)
        return x.reshape(b, v, *x.shape[1:])[:, :, : grid.frames]


def clip_keys(key: jax.Array, example: jax.Array) -> jax.Array:
    """A key for each clip of a batch, [B].

    It follows from the number of the clip's video; where a batch holds several clips of a video,
    from which of them it is. So the masks of a clip do not depend on the rest of a batch, nor on
    how many processes share it.

    Args:
      key: of the step.
      example: [B] int32, number of the video.
    """
    earlier = jnp.sum(jnp.tril(example[:, None] == example[None], -1), axis=1)
    fold = lambda number, turn: jax.random.fold_in(jax.random.fold_in(key, number), turn)  # noqa: E731
    return jax.vmap(fold)(example, earlier)
