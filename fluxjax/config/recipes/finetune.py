"""FluxViT on one's own videos, with one device."""

from typing import NamedTuple

from ml_collections import ConfigDict


class Size(NamedTuple):
    """What a device can hold.

    Attributes:
      batch: clips a step.
      frames: of the clips that training draws.
      resolutions: likewise, pixels a side.
      tokens: least and most tokens of a sampling grid.
      budgets: tokens kept, in training and evaluation.
      grid: that is evaluated.
      workers: decoding threads.
      epochs: over the training videos.
    """

    batch: int
    frames: tuple[int, ...]
    resolutions: tuple[int, ...]
    tokens: tuple[int, int]
    budgets: tuple[int, ...]
    grid: str
    workers: int
    epochs: float


def finetune(config: ConfigDict, size: Size) -> ConfigDict:
    """Flux-Multi on what a device can hold; the data and the start are given by the user.

    Args:
      config: filled in place, and returned.
      size: see there.
    """
    config.method = "flux_multi"
    config.epochs, config.total_steps = size.epochs, None
    config.log_every = 10
    config.batch_size = config.eval.batch_size = size.batch
    config.budgets = config.eval.budgets = size.budgets
    config.grids.frames, config.grids.resolutions = size.frames, size.resolutions
    config.grids.min_tokens, config.grids.max_tokens = size.tokens
    config.eval.grids = (size.grid,)
    config.checkpoint.every_steps = 100

    config.data.train = config.data.test = ""  # to be given on the command line
    config.data.workers = size.workers
    config.data.flip = False  # True where no class tells left from right
    config.data.crop_scale = (0.5, 1.0)

    config.optim.warmup_steps = None  # a tenth
    config.optim.clip_norm = 1.0
    return config
