"""AVION's published recipes, as functions that fill a config.

Sources: "Training a Large Video Model on a Single Machine in a Day" (arXiv 2309.16669) and the
scripts and model zoo of zhaoyue-zephyrus/AVION.
"""

from ml_collections import ConfigDict

_NARRATIONS = 4_000_000  # of Ego4D's training pickle
_PAIRS = 67_217  # of EPIC-KITCHENS-100's retrieval training set


def pretrain(config: ConfigDict, clips: int = _NARRATIONS) -> ConfigDict:
    """Contrastive training on Ego4D: 5 epochs at a constant rate, temperature frozen.

    Args:
      config: filled in place, and returned.
      clips: of an epoch.
    """
    large = "l14" in config.model.name
    batch = (112 if large else 256) * 8
    _dual_encoder(config, frames=4, batch=batch)
    config.model.train_temperature = False
    config.total_steps = 5 * clips // batch
    config.optim.lr = config.optim.end_lr = 3e-5 * 256 / batch  # not scaled with the batch
    config.optim.warmup_lr, config.optim.warmup_steps = 0.0, 0
    return config


def retrieval(config: ConfigDict) -> ConfigDict:
    """Fine-tuning on EPIC-KITCHENS-100 retrieval: 100 epochs of 512, margins of 0.2.

    Args:
      config: filled in place, and returned.
    """
    batch = 64 * 8
    _dual_encoder(config, frames=16, batch=batch)
    config.contrast.loss, config.contrast.margin = "max_margin", 0.2
    epoch = _PAIRS // batch
    config.total_steps, config.optim.warmup_steps = 100 * epoch, epoch
    scale = 256 / batch  # not scaled with the batch
    config.optim.lr, config.optim.end_lr = 3e-5 * scale, 1e-5 * scale
    config.optim.warmup_lr = 1e-6 * scale
    config.eval.evaluators = ("ek100_mir",)
    return config


def _dual_encoder(config: ConfigDict, frames: int, batch: int) -> None:
    side = 336 if config.model.name.endswith("336") else 224
    patch = 14 if "l14" in config.model.name else 16
    tokens = frames * (side // patch) ** 2
    config.grids.frames, config.grids.resolutions = (frames,), (side,)
    config.grids.min_tokens = config.grids.max_tokens = tokens
    config.model.num_frames = frames
    config.model.dtype = "bfloat16"
    config.model.remat = "block"
    config.budgets = ()
    config.batch_size = batch
    config.log_every = 50
    config.contrast.chunk = 64

    config.data.train = config.data.test = ""  # to be given on the command line
    config.data.workers = 16
    config.data.sampling = "uniform"
    config.data.flip = False
    config.data.crop_scale = (0.5, 1.0)

    config.optim.weight_decay = 0.01
    config.optim.b1, config.optim.b2 = 0.9, 0.999
    config.eval.grids, config.eval.budgets = (f"{frames}x{side}",), (tokens,)
    config.eval.batch_size = 64
    config.eval.every_steps = 0
    config.checkpoint.every_steps = 1000
