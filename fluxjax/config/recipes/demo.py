"""What the demonstrations on the bundled corpus share."""

from collections.abc import Sequence

from ml_collections import ConfigDict


def demo(
    config: ConfigDict,
    budgets: Sequence[int],
    frames: Sequence[int] = (4, 6, 8),
    resolutions: Sequence[int] = (42, 56),
    tokens: tuple[int, int] = (36, 128),
) -> ConfigDict:
    """Grids, budgets, augmentation and AdamW of a quick demonstration.

    Args:
      config: filled in place, and returned.
      budgets: that are trained and evaluated.
      frames: T of the clips.
      resolutions: pixels a side of the clips.
      tokens: least and most tokens of a sampling grid.
    """
    config.budgets = config.eval.budgets = tuple(budgets)
    config.grids.frames, config.grids.resolutions = tuple(frames), tuple(resolutions)
    config.grids.min_tokens, config.grids.max_tokens = tokens
    config.eval.every_steps = 0
    config.data.flip = False  # it would turn left into right
    config.data.crop_scale = (0.6, 1.0)
    config.data.cache = "memory"  # of the easy corpus 2 GiB, of the hard one 4
    config.optim.b2 = 0.98
    config.optim.clip_norm = 1.0
    return config
