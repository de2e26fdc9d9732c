"""AVION's published recipes, as functions that fill a config.

Sources: "Training a Large Video Model on a Single Machine in a Day" (arXiv 2309.16669) and the
scripts and model zoo of zhaoyue-zephyrus/AVION.
"""

from ml_collections import ConfigDict

_NARRATIONS = 4_000_000  # of Ego4D's training pickle
_SPANS = 67_217  # of EPIC-KITCHENS-100's training set, for retrieval and classification alike
_ACTIONS = 3806  # pairs of a verb and a noun in its training and validation sets


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
    epoch = _SPANS // batch
    config.total_steps, config.optim.warmup_steps = 100 * epoch, epoch
    scale = 256 / batch  # not scaled with the batch
    config.optim.lr, config.optim.end_lr = 3e-5 * scale, 1e-5 * scale
    config.optim.warmup_lr = 1e-6 * scale
    config.eval.evaluators = ("ek100_mir",)
    return config


def classification(config: ConfigDict) -> ConfigDict:
    """Fine-tuning on EPIC-KITCHENS-100's actions: 100 epochs of 512 mixed clips by SGD.

    The learning rate is scaled with the batch. The release mixes the wrong axes of clips and labels
    them by the wrong share (cutmix of timm 0.6 on [B, C, T, H, W]); here boxes are of pixels.

    Args:
      config: of the task `classify`, filled in place, and returned.
    """
    batch = 64 * 8
    _clips(config, frames=16, batch=batch)
    config.method, config.num_classes = "cross_entropy", _ACTIONS
    config.model.drop_path, config.model.head_dropout = 0.1, 0.5
    config.mixing.prob, config.mixing.smoothing = 1.0, 0.1
    epoch = _SPANS // batch
    config.total_steps, config.optim.warmup_steps = 100 * epoch, 2 * epoch
    config.optim.name = "sgd"
    config.optim.lr, config.optim.end_lr = 3e-3 * 256 / 128, 1e-5 * 256 / 128
    config.optim.warmup_lr = 1e-6 * 256 / 128
    config.optim.weight_decay = 4e-5  # 0.05 as released at first makes it collapse
    config.eval.evaluators = ("ek100_cls",)
    return config


def _dual_encoder(config: ConfigDict, frames: int, batch: int) -> None:
    _clips(config, frames, batch)
    config.contrast.chunk = 64
    config.optim.b1, config.optim.b2 = 0.9, 0.999
    config.optim.weight_decay = 0.01


def _clips(config: ConfigDict, frames: int, batch: int) -> None:
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

    config.data.train = config.data.test = ""  # to be given on the command line
    config.data.workers = 16
    config.data.sampling = "uniform"
    config.data.flip = False
    config.data.crop_scale = (0.5, 1.0)

    config.eval.grids, config.eval.budgets = (f"{frames}x{side}",), (tokens,)
    config.eval.batch_size = 64
    config.eval.every_steps = 0
    config.checkpoint.every_steps = 1000
