"""State dicts of CLIP towers in OpenAI's names, of sizes as tests need them."""

import jax
import numpy as np

from fluxjax.convert import clip
from fluxjax.models.clip_image import ClipImage
from fluxjax.tokens.tokens import PixelStats

HALF = PixelStats((0.5, 0.5, 0.5), (0.5, 0.25, 0.5))
SMALL = {"width": 32, "depth": 1, "num_heads": 4, "patch": 4, "grid": (3, 3), "embedding": 8}


def state_of_size(width, depth, hidden, patch=14):
    """A state dict of OpenAI's names whose tensors take no memory."""
    sizes = {"width": width, "depth": depth, "mlp_ratio": hidden / width, "patch": patch}
    rows = clip.rows_of(ClipImage(**sizes, grid=(16, 16)))
    return {row.name: np.broadcast_to(np.float32(1), row.shape) for row in rows}


def small_state(seed=0, **changes):
    draw = np.random.default_rng(seed)
    rows = clip.rows_of(ClipImage(**SMALL | changes))
    return {row.name: draw.standard_normal(row.shape, np.float32) for row in rows}


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)
