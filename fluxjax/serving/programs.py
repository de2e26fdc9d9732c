"""A model's compiled programs: what it says of videos, and what becomes of their tokens."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.evaluation.views import mean_probabilities
from fluxjax.serving.settings import Setting, forward, token_groups


class Outputs(NamedTuple):
    """What a model says of a batch of videos, the mean over each one's views.

    Attributes:
      probabilities: [V, K] float32.
      features: [V, E] float32, pooled.
    """

    probabilities: np.ndarray
    features: np.ndarray


class Programs:
    """Runs a model on clips; one compiled program a setting, number of videos and of views."""

    def __init__(self, model: nn.Module, variables: Mapping[str, Any]):
        """Takes a model and its variables; nothing is compiled yet."""
        self._variables = variables
        self._predict = jax.jit(functools.partial(_predict, model), static_argnames="setting")
        self._groups = jax.jit(functools.partial(_groups, model), static_argnames="setting")

    def predict(self, videos: np.ndarray, setting: Setting) -> Outputs:
        """The outputs for a batch of videos.

        Args:
          videos: [V, views, T, S, S, 3] uint8 on the setting's grid.
          setting: how to run the model.
        """
        output = self._predict(self._variables, videos, setting=setting)
        return Outputs(*jax.device_get(output))

    def groups(self, clip: np.ndarray, setting: Setting) -> np.ndarray:
        """What becomes of a clip's tokens, see `settings.token_groups`; [T, H, W] int32."""
        return np.asarray(self._groups(self._variables, clip[None], setting=setting)[0])


def _predict(model, variables, videos: jax.Array, *, setting: Setting):
    key = jax.random.key(0)  # a random selection is the same one every time
    count, views = videos.shape[:2]
    clips = videos.reshape(count * views, *videos.shape[2:])
    logits, features = forward(model, variables, clips, setting, key, return_features=True)
    logits, features = (x.reshape(count, views, -1) for x in (logits, features))
    return mean_probabilities(logits, jnp.ones((count, views), bool)), jnp.mean(features, axis=1)


def _groups(model, variables, clips: jax.Array, *, setting: Setting) -> jax.Array:
    return token_groups(model, variables, clips, setting, jax.random.key(0))
