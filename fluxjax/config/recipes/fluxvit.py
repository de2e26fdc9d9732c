"""FluxViT's published fine-tuning recipes, as functions that fill a config.

Sources: "Make Your Training Flexible" (arXiv 2503.14237), tables 14 to 16, and the scripts of the
official repository OpenGVLab/FluxViT, single_modality. Where they differ, the scripts are followed.
"""

from ml_collections import ConfigDict

KINETICS400_VIDEOS = 240_000  # about; links die, so every copy has another number
KINETICS710_VIDEOS = 658_000  # of K400, K600 and K700, without those that are in a test set
SSV2_VIDEOS = 168_913
COIN_VIDEOS = 9_030


def flux_finetune(
    config: ConfigDict, videos: int, epochs: int, warmup_epochs: int, batch: int = 512
) -> None:
    """Flux-Multi fine-tuning: flexible grids, three budgets, layer decay, strong augmentation.

    Every video of a step is cut into two clips.

    Args:
      config: filled in place.
      videos: of the training set.
      epochs: over them.
      warmup_epochs: of these.
      batch: videos a step, by default 8 a device on 64 devices.
    """
    steps_per_epoch = videos // batch
    config.method = "flux_multi"
    config.budgets = (3072, 2048, 1024)
    config.batch_size = 2 * batch
    config.data.repeats = 2
    config.total_steps = epochs * steps_per_epoch
    config.log_every = 50
    config.checkpoint.every_steps = steps_per_epoch
    config.model.dtype = "bfloat16"
    config.model.remat = "dots"
    config.model.drop_path = 0.1
    config.model.layer_scale = 1e-5

    config.grids.frames = tuple(range(6, 26, 2))
    config.grids.resolutions = tuple(range(112, 364, 28))
    config.grids.min_tokens = 2048
    config.grids.max_tokens = 6144

    config.data.train = config.data.test = ""  # to be given on the command line
    config.data.workers = 16
    config.data.crop_scale = (0.08, 1.0)
    config.data.rand_augment = "rand-m7-n4-mstd0.5-inc1"
    config.erasing.prob = 0.25
    config.mixing.prob = 1.0
    config.mixing.smoothing = 0.1

    config.optim.lr = 2e-4
    config.optim.end_lr = config.optim.warmup_lr = 1e-6
    config.optim.warmup_steps = warmup_epochs * steps_per_epoch
    config.optim.weight_decay = 0.05
    config.optim.layer_decay = 0.75
    config.optim.decay_affine = True

    config.eval.grids = ("24x224", "16x224", "12x224", "8x224", "4x224", "2x224")
    config.eval.budgets = (3072, 2048, 1024, 512)
    config.eval.batch_size = 16
    config.eval.every_steps = 0


def kinetics400(config: ConfigDict) -> None:
    """Kinetics-400 after K710: 5 epochs, 1 of warm-up; tested on 4 clips x 3 crops."""
    flux_finetune(config, KINETICS400_VIDEOS, epochs=5, warmup_epochs=1)
    config.num_classes = 400
    config.eval.clips, config.eval.crops = 4, 3


def something_something_v2(config: ConfigDict) -> None:
    """Something-Something V2: direction is part of the label, so clips are never mirrored."""
    flux_finetune(config, SSV2_VIDEOS, epochs=5, warmup_epochs=1)
    config.num_classes = 174
    config.data.sampling = "ssv2"
    config.data.flip = False
    config.eval.clips, config.eval.crops = 2, 3


def kinetics710(config: ConfigDict) -> None:
    """K710 before Kinetics-400: S 35 epochs, B 20, 5 of warm-up, 1,024 videos a step (table 15)."""
    epochs = 20 if "b14" in config.model.name else 35
    flux_finetune(config, KINETICS710_VIDEOS, epochs, warmup_epochs=5, batch=1024)
    config.num_classes = 710


def coin(config: ConfigDict) -> None:
    """COIN's 180 tasks: S 40 epochs, B 25, 5 of warm-up (table 15)."""
    epochs = 25 if "b14" in config.model.name else 40
    flux_finetune(config, COIN_VIDEOS, epochs, warmup_epochs=5)
    config.optim.lr = 5e-4
    config.num_classes = 180


RECIPES = {
    "k400": kinetics400,
    "k710": kinetics710,
    "ssv2": something_something_v2,
    "coin": coin,
}


def apply_recipe(config: ConfigDict, name: str) -> ConfigDict:
    """Fills `config` with the recipe called `name`.

    Raises:
      ValueError: on an unknown name.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; known: {sorted(RECIPES)} or none (the demo)")
    RECIPES[name](config)
    return config
