"""FFN's published recipes, as functions that fill a config.

Sources: "Frame Flexible Network" (arXiv 2303.14817) and the scripts of BeSpontaneous/FFN-pytorch,
which are followed. Where these have a defect, docs/systems/ffn.md says what is done instead.
"""

import dataclasses
from collections.abc import Callable

from ml_collections import ConfigDict

from fluxjax.config.keys import base_config

FRAMES = (4, 8, 16)  # of TSM, TEA and UniFormer; SlowFast's fast pathway has four times as many


@dataclasses.dataclass(frozen=True)
class DataSet:
    """What recipes ask of a data set.

    Attributes:
      videos: of the training set.
      classes: K.
      images: names of the frames' images in the releases' lists.
      flip: whether clips are mirrored; never where direction is part of the label.
      weight_decay: of TSM.
    """

    videos: int
    classes: int
    images: str
    flip: bool = False
    weight_decay: float = 5e-4


DATA_SETS = {
    "ssv1": DataSet(86_017, 174, "{:05d}.jpg"),
    "ssv2": DataSet(168_913, 174, "{:06d}.jpg"),
    "k400": DataSet(240_000, 400, "image_{:05d}.jpg", flip=True, weight_decay=1e-4),
}


def published(fill: Callable[[ConfigDict, DataSet], None], model: str, variant: str) -> ConfigDict:
    """The config of a network on a data set, frame flexible or plain at one frame number.

    Args:
      fill: the network's recipe, one of this module.
      model: name of the plain network, such as tsm_r50.
      variant: "ssv1", "ssv2" or "k400"; "ssv1_st8" is the plain network trained at 8 frames, one of
        those that FFN replaces ("separated training").

    Raises:
      ValueError: on another variant.
    """
    name, _, separate = variant.partition("_")
    number = separate.removeprefix("st")
    if name not in DATA_SETS or (separate and not (separate[:2] == "st" and number.isdecimal())):
        raise ValueError(f"unknown variant {variant!r}; known: {sorted(DATA_SETS)}, also with _st8")
    if separate:
        config = base_config(model, task="classify")
    else:
        config = base_config(f"{model}_ffn", task="frame_flexible")
    data_set = DATA_SETS[name]
    config.method, config.budgets = "cross_entropy", ()
    config.num_classes, config.log_every = data_set.classes, 50
    config.grids.frames, config.grids.resolutions = FRAMES, (224,)
    config.data.train = config.data.test = ""  # to be given on the command line
    config.data.frames, config.data.flip = data_set.images, data_set.flip
    config.data.workers = 16
    config.eval.batch_size, config.eval.every_steps = 16, 0
    fill(config, data_set)
    if separate:
        config.grids.frames = (int(number),)
    return config


def tsm(config: ConfigDict, data: DataSet) -> None:
    """50 epochs of SGD, a tenth of the rate from epochs 20 and 40 on; TEA's is like it."""
    _two_dimensional(config, data, lr=0.01, decays=(20, 40))
    config.optim.weight_decay = data.weight_decay


def tea(config: ConfigDict, data: DataSet) -> None:
    """TSM's with twice the rate, and a tenth of it from epochs 30, 40 and 45 on."""
    _two_dimensional(config, data, lr=0.02, decays=(30, 40, 45))


def _two_dimensional(config: ConfigDict, data: DataSet, lr: float, decays: tuple[int, ...]) -> None:
    config.batch_size = 32
    epoch = _epochs(config, data, 50)
    config.model.dtype = "bfloat16"
    config.data.sampling = "ssv2"  # ffn_2d shows frame 1 of short videos again and again
    config.data.crop = "multi_scale"
    _sgd(config, lr, weight_decay=5e-4)
    config.optim.decay_steps = tuple(epoch * number for number in decays)
    config.optim.head_lr_scale, config.optim.head_bias_lr_scale = 5.0, 10.0
    config.eval.grids = ("16x224", "8x224", "4x224")
    config.eval.crop_share = 224 / 256


def slowfast(config: ConfigDict, data: DataSet) -> None:
    """22 epochs of Nesterov's SGD in float32, a warm-up of 0.19 epochs."""
    config.batch_size = 16
    epoch = _epochs(config, data, 22)
    config.grids.frames = tuple(4 * number for number in FRAMES)
    config.data.crop = "short_side:0.7:0.875"  # 224 of 256 to 320 pixels
    config.data.flip = False
    _sgd(config, 0.03, weight_decay=1e-6)
    config.optim.nesterov = True
    config.optim.decay_steps = (14 * epoch, 18 * epoch)
    config.optim.warmup_steps = round(0.19 * epoch)
    config.optim.warmup_lr = 1e-4 * 256 / config.batch_size
    config.eval.grids = ("64x256", "32x256", "16x256")


def uniformer(config: ConfigDict, data: DataSet) -> None:
    """60 epochs of AdamW, two clips a video, mixup and cutmix."""
    config.batch_size, config.data.repeats = 64, 2
    epoch = _epochs(config, data, 60)
    config.model.dtype, config.model.drop_path = "bfloat16", 0.2
    config.data.crop_scale, config.data.crop_ratio = (0.08, 1.0), (0.75, 1.3333)
    config.data.rand_augment = "rand-m7-n4-mstd0.5-inc1"
    config.data.flip = False
    config.erasing.prob = 0.25
    config.mixing.prob, config.mixing.smoothing = 1.0, 0.1
    scale = 256 / config.batch_size  # rates of the release are not scaled with the batch
    config.optim.schedule = "slowfast_cosine"
    config.optim.lr, config.optim.end_lr = 2e-4 * scale, 1e-6 * scale
    config.optim.warmup_lr, config.optim.warmup_steps = 1e-6 * scale, 5 * epoch
    config.optim.weight_decay, config.optim.clip_norm = 0.05, 20.0
    config.eval.grids, config.eval.crops = ("16x224", "8x224", "4x224"), 3


def _epochs(config: ConfigDict, data: DataSet, number: int) -> int:
    """Sets the length of the training; returns the steps of an epoch."""
    epoch = data.videos // (config.batch_size // config.data.repeats)
    config.total_steps = number * epoch
    config.checkpoint.every_steps = epoch
    return epoch


def _sgd(config: ConfigDict, lr: float, weight_decay: float) -> None:
    """SGD with momentum 0.9 and a stepwise rate that is not scaled with the batch."""
    config.optim.name, config.optim.momentum = "sgd", 0.9
    config.optim.schedule, config.optim.warmup_steps = "steps", 0
    config.optim.lr = lr * 256 / config.batch_size
    config.optim.weight_decay = weight_decay
