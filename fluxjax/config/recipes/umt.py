"""UMT's published recipes: pre-training with text, retrieval, questions, multiple choice.

Sources: OpenGVLab/unmasked_teacher, multi_modality/exp (fine-tuning: 12 frames, 8 GPUs of 32
clips); merge schedules of mlvlab/vid-TLDR, which need no training.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from fluxjax.models.umt_sizes import MERGE_SCHEDULES

SIDE, BATCH = 224, 8 * 32


class DataSet(NamedTuple):
    """What differs between data sets.

    Attributes:
      lr: of a batch of 256 clips, for B/16.
      epochs: of training.
      length: token ids a caption; of questions they are 25.
      drop_path: of B/16.
      paragraphs: the captions of a video are one text.
      first_seconds: that are used of a video; None: all.
      flip: whether clips are mirrored. The release mirrors those of Something-Something, too, whose
        captions tell left from right.
      warmup: whether the rate rises first; the release's first epoch, here the first tenth.
    """

    lr: float
    epochs: int
    length: int = 25
    drop_path: float = 0.2
    paragraphs: bool = False
    first_seconds: float | None = None
    flip: bool = True
    warmup: bool = True


RETRIEVAL = {
    "msrvtt": DataSet(1e-5, 10, 32),
    "msvd": DataSet(1e-5, 5, 64),
    "didemo": DataSet(2e-5, 12, 64, drop_path=0.1, paragraphs=True, first_seconds=30.0),
    "anet": DataSet(4e-5, 20, 150, paragraphs=True),
    "lsmdc": DataSet(2e-5, 10, 96),
    "ssv2_label": DataSet(5e-5, 10, 25, drop_path=0.1, flip=False),
    "ssv2_template": DataSet(1e-4, 10, 25, drop_path=0.1, flip=False),
}
QUESTIONS = {
    "msrvtt": DataSet(2e-5, 8),
    "msvd": DataSet(6e-5, 6),
    "anet": DataSet(4e-5, 12),
}
MULTIPLE_CHOICE = DataSet(8e-5, 3, 32, warmup=False)
_SCHEDULES = {"anet": "activitynet"}  # names in `MERGE_SCHEDULES` that differ


def retrieval(config: ConfigDict, name: str, zero_shot: bool = False) -> ConfigDict:
    """Fine-tuning for retrieval, or the evaluation of a pre-trained model on 4 frames.

    Args:
      config: of task retrieve; filled in place, and returned.
      name: of the data set, a key of `RETRIEVAL`.
      zero_shot: evaluate what was never trained on these data; no schedule is published for it.
    """
    _umt(config, RETRIEVAL[name], frames=4 if zero_shot else 12)
    config.retrieve.length = RETRIEVAL[name].length
    if not zero_shot:
        config.retrieve.merge = _schedule(config, _SCHEDULES.get(name, name))
    config.eval.evaluators = ("reranked",)
    return config


def questions(config: ConfigDict, name: str) -> ConfigDict:
    """Fine-tuning for question answering.

    Args:
      config: of task answer; filled in place, and returned.
      name: of the data set, a key of `QUESTIONS`.
    """
    _umt(config, QUESTIONS[name], frames=12)
    config.answer.merge = _schedule(config, f"{name}_qa")
    return config


def multiple_choice(config: ConfigDict) -> ConfigDict:
    """MSRVTT-MC: fine-tuned as for retrieval, with five captions to choose from in evaluation.

    Args:
      config: of task retrieve; filled in place, and returned.
    """
    _umt(config, MULTIPLE_CHOICE, frames=12)
    config.retrieve.length = MULTIPLE_CHOICE.length
    config.eval.evaluators = ("multiple_choice",)
    return config


def pretrain_with_text(config: ConfigDict, pairs: int = 5_000_000) -> ConfigDict:
    """10 epochs of videos with captions, 4 frames; the release trains on images, too.

    Args:
      config: of task pretrain_umt and a model of video and text; filled in place, and returned.
      pairs: of an epoch.
    """
    batch = 16 * 128
    _grid(config, frames=4)
    config.model.drop_path = 0.1
    config.batch_size, config.total_steps = batch, 10 * (pairs // batch)
    config.data.sampling, config.data.crop_scale = "interval", (0.5, 1.0)
    rate = 1e-4 * 256 / batch  # not scaled with the batch
    config.optim.lr, config.optim.end_lr, config.optim.warmup_lr = rate, 0.01 * rate, 0.01 * rate
    config.optim.warmup_steps = pairs // batch
    config.optim.b1, config.optim.b2, config.optim.weight_decay = 0.9, 0.999, 0.02
    return config


def _schedule(config: ConfigDict, name: str) -> tuple[int, ...]:
    """vid-TLDR's, of the model's size; none where none is published."""
    return MERGE_SCHEDULES.get(name, {}).get(config.model.name.removeprefix("umt_"), ())


def _umt(config: ConfigDict, data: DataSet, frames: int) -> None:
    _grid(config, frames)
    config.model.drop_path = 0.4 if config.model.name == "umt_l16" else data.drop_path
    config.batch_size = BATCH
    config.total_steps, config.epochs = None, data.epochs
    config.data.sampling = "interval"
    config.data.paragraphs, config.data.first_seconds = data.paragraphs, data.first_seconds
    config.data.crop_scale, config.data.flip = (0.5, 1.0), data.flip

    config.optim.lr = data.lr
    config.optim.end_lr = config.optim.warmup_lr = 0.01 * data.lr
    config.optim.warmup_steps = None if data.warmup else 0
    config.optim.b1, config.optim.b2, config.optim.weight_decay = 0.9, 0.999, 0.02


def _grid(config: ConfigDict, frames: int) -> None:
    """Clips of 224 pixels, in training and evaluation, on accelerators."""
    config.model.dtype = "bfloat16"
    config.grids.frames, config.grids.resolutions = (frames,), (SIDE,)
    config.budgets, config.eval.budgets = (), (frames * (SIDE // 16) ** 2,)
    config.eval.grids = (f"{frames}x{SIDE}",)
    config.eval.crop_place = "whole"
    config.eval.batch_size = 32
    config.eval.every_steps = 0
    config.log_every = 100
    config.checkpoint.every_steps = 500
    config.data.train = config.data.test = ""  # to be given on the command line
    config.data.workers = 16
