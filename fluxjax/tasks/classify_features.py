"""Classification on cached features: a task that never runs the frozen part of its model.

A model offers `features(tokens) -> {name: [B, ..]}`, `classify_features(features, grid, budget,
train) -> logits`, and names in `feature_fields` the fields that features depend on; see
`fluxjax.models.evl.Evl`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax.augment.mixing import smooth_one_hot
from fluxjax.tasks.base import Batch, LossOutput, Plan
from fluxjax.tasks.classify import ClassifyTask
from fluxjax.tasks.losses import single_budget_output
from fluxjax.tokens.grids import Grid, parse_grid

# Training clips are fixed views, so that features can be stored: nothing of this has an effect.
_NO_EFFECT = {
    "data.flip": False,
    "data.rand_augment": None,
    "data.repeats": 1,
    "data.crop": "random_resized",
    "data.crop_scale": (1.0, 1.0),
    "data.crop_ratio": (1.0, 1.0),
    "eval.crop_share": 1.0,
    "eval.crop_place": "centre",
    "erasing.prob": 0.0,
    "mixing.prob": 0.0,
}


class ClassifyFeaturesTask(ClassifyTask):
    """`ClassifyTask` by plain cross-entropy, whose batches hold features in the place of pixels.

    Batches that hold pixels or videos are still predicted, through the whole model.
    """

    def __init__(self, config: ConfigDict):
        """Builds the model.

        Raises:
          ValueError: on a model without features to keep, or options that cannot have an effect.
        """
        super().__init__(config)
        model = self.model
        if not hasattr(model, "classify_features") or not model.frozen(("tower",)):
            raise ValueError(
                f"task 'classify_features' needs a model with a frozen tower, such as evl_b16; "
                f"{config.model.name} is trained as a whole here"
            )
        if config.features.dir is None:
            raise ValueError("task 'classify_features' needs config.features.dir, a folder")
        for key, neutral in _NO_EFFECT.items():
            part, name = key.split(".")
            if config[part][name] != neutral:
                raise ValueError(
                    f"config.{key}={config[part][name]!r} has no effect on cached features, whose "
                    f"views are fixed; set it to {neutral!r}"
                )
        if min(config.features.clips, config.features.crops) < 1:
            raise ValueError("config.features.clips and crops must be at least 1")
        budgets = [*config.eval.budgets, *([config.single_budget] if config.single_budget else [])]
        most = max(parse_grid(text).tokens(self.patch) for text in config.eval.grids)
        if model.select == "input" and min(budgets) < most:
            raise ValueError(
                f"budgets {budgets} below all {most} tokens need config.model.select='features': "
                "features are cached of whole frames"
            )

    def feature_spec(self, grid: Grid) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one clip's features as they are stored."""
        width = self.patch**2 * 3
        batch = {
            "patches": jax.ShapeDtypeStruct((1, grid.tokens(self.patch), width), jnp.uint8),
            "grid": jax.ShapeDtypeStruct((1, 3), jnp.int32),
        }
        variables = jax.eval_shape(self.init, jax.random.key(0))
        shapes = jax.eval_shape(lambda v, b: self.frozen_features(v, b, grid), variables, batch)
        return {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in shapes.items()}

    def frozen_features(self, variables: Any, batch: Batch, grid: Grid) -> dict[str, jax.Array]:
        """Features [B, ..] of a batch of pixels, bfloat16 as its bits in uint16."""
        tokens = self.tokens(batch, grid)
        found = self.model.apply(variables, tokens, method="features")
        return {name: _to_bits(x) for name, x in found.items()}

    def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Features [B, ..] by name, label [B] int32."""
        spec = {
            name: jax.ShapeDtypeStruct((batch_size, *x.shape), x.dtype)
            for name, x in self.feature_spec(self.grids[0]).items()
        }
        return spec | {"label": jax.ShapeDtypeStruct((batch_size,), jnp.int32)}

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """Terms and metrics of `ClassifyTask.loss`, from features."""
        smoothing, budget = self.config.mixing.smoothing, self.config.single_budget
        targets = smooth_one_hot(batch["label"], self.config.num_classes, smoothing)
        rngs = {"dropout": key}
        logits = self._classify(variables, batch, plan.grid, budget, train=True, rngs=rngs)
        return single_budget_output(logits, targets, batch["label"], budget)

    def features(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Refused: stored features [B, ..] are the tower's, before what is trained reads them.

        Raises:
          ValueError: always; the task `classify` of the same model has the features of probes.
        """
        raise ValueError(
            "task 'classify_features' has no features to probe; set config.task='classify'"
        )

    def predict(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Logits [B, K] float32, from features where the batch holds them."""
        if "patches" in batch or "video" in batch:
            return super().predict(variables, batch, plan)
        return self._classify(variables, batch, plan.grid, plan.budget)

    def _classify(self, variables, batch, grid, budget, train=False, rngs=None) -> jax.Array:
        features = {name: x for name, x in batch.items() if name != "label"}
        return self.model.apply(
            variables, _from_bits(features), grid.shape(self.patch)[1:], budget, train,
            method="classify_features", rngs=rngs,
        )  # fmt: skip


def _to_bits(x: jax.Array) -> jax.Array:
    """bfloat16 as uint16: NumPy's files know no bfloat16."""
    return jax.lax.bitcast_convert_type(x, jnp.uint16) if x.dtype == jnp.bfloat16 else x


def _from_bits(features: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    return {
        name: jax.lax.bitcast_convert_type(x, jnp.bfloat16) if x.dtype == jnp.uint16 else x
        for name, x in features.items()
    }
