"""VideoMAE's published recipes as AVION has them, as functions that fill a config.

Sources: "Training a Large Video Model on a Single Machine in a Day" (arXiv 2309.16669) and the
scripts of zhaoyue-zephyrus/AVION, main_videomae_pretrain.py and main_videomae_finetune.py.
"""

from ml_collections import ConfigDict

from fluxjax.config.recipes.fluxvit import KINETICS400_VIDEOS

FRAMES, SIDE = 16, 224


def _one_grid(config: ConfigDict, patch: int) -> None:
    """16 frames of 224 pixels, every fourth of the video."""
    tokens = FRAMES * (SIDE // patch) ** 2
    config.grids.frames, config.grids.resolutions = (FRAMES,), (SIDE,)
    config.grids.min_tokens = config.grids.max_tokens = tokens
    config.eval.grids, config.eval.budgets = (f"{FRAMES}x{SIDE}",), (tokens,)
    config.data.sampling = "dense:4"
    config.data.train = config.data.test = ""  # to be given on the command line
    config.data.workers = 16
    config.num_classes = 400
    config.log_every = 50
    config.model.dtype = "bfloat16"


def pretrain_kinetics400(config: ConfigDict, batch: int = 256, epochs: int = 800) -> ConfigDict:
    """800 epochs of tube masks at 90 %, Lion, learning rate scaled with the batch.

    Args:
      config: of the task `reconstruct`, filled in place, and returned.
      batch: clips a step; AVION has 64 on each of 4 devices.
      epochs: over the training videos, 40 of them warm-up.
    """
    steps = KINETICS400_VIDEOS // batch
    _one_grid(config, 16)
    config.batch_size, config.total_steps = batch, epochs * steps
    config.checkpoint.every_steps = 5 * steps
    config.eval.every_steps = 50 * steps
    config.data.crop_scale = (0.5, 1.0)

    config.optim.name = "lion"
    config.optim.b1, config.optim.b2 = 0.9, 0.95
    config.optim.weight_decay = 0.05
    config.optim.lr, config.optim.end_lr = 1.5e-4, 1e-5
    config.optim.warmup_lr = 1e-6
    config.optim.warmup_steps = min(40, epochs // 20) * steps
    return config


def finetune_kinetics400(config: ConfigDict, batch: int = 256, epochs: int = 100) -> ConfigDict:
    """100 epochs of AdamW with layer decay, mixing and erasing; tested on 5 clips x 3 crops.

    Args:
      config: of the task `classify`, filled in place, and returned.
      batch: clips a step; AVION has 32 on each of 8 devices.
      epochs: over the training videos, 5 of them warm-up.
    """
    steps = KINETICS400_VIDEOS // batch
    _one_grid(config, 16)
    config.method, config.budgets = "cross_entropy", ()
    config.batch_size, config.total_steps = batch, epochs * steps
    config.checkpoint.every_steps = steps
    config.model.drop_path = 0.1
    config.data.crop_scale = (0.08, 1.0)
    config.data.rand_augment = "rand-m7-n4-mstd0.5-inc1"
    config.erasing.prob = 0.25
    config.mixing.prob = 1.0
    config.mixing.smoothing = 0.1

    config.optim.lr = 1.5e-3
    config.optim.end_lr = config.optim.warmup_lr = 1e-6
    config.optim.warmup_steps = 5 * steps
    config.optim.weight_decay = 0.05
    config.optim.layer_decay = 0.75
    config.optim.ema = 0.9999

    config.eval.every_steps = 0
    config.eval.clips, config.eval.crops = 5, 3
    config.eval.batch_size = 16
    return config
