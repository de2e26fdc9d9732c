"""EVL's published recipes, as functions that fill a config.

Sources: "Frozen CLIP Models are Efficient Video Learners" (arXiv 2208.03550) and the scripts of
OpenGVLab/efficient-video-recognition. Where they differ, the scripts are followed.
"""

from ml_collections import ConfigDict

from fluxjax.models import create_model


def evl_frozen(
    config: ConfigDict,
    frames: int,
    resolution: int,
    sampling: str,
    steps: int,
    batch: int,
    split: int = 1,
) -> ConfigDict:
    """EVL on a frozen CLIP tower: plain cross-entropy and AdamW, no mixing, no warm-up.

    Args:
      config: filled in place, and returned.
      frames: T of the clips.
      resolution: pixels a side.
      sampling: of frames, see `data_pipelines.clips.sampling.frame_sampler`.
      steps: optimizer updates.
      batch: clips an update.
      split: parts that a batch is accumulated from.
    """
    config.method, config.budgets = "cross_entropy", ()
    config.batch_size, config.optim.accumulate_steps = batch // split, split
    config.total_steps = steps * split
    config.log_every = 50
    config.checkpoint.every_steps = 5000
    config.model.dtype = "bfloat16"
    config.model.num_frames = frames

    tokens = frames * (resolution // create_model(config.model.name).patch) ** 2
    config.grids.frames, config.grids.resolutions = (frames,), (resolution,)
    config.grids.min_tokens = config.grids.max_tokens = tokens

    config.data.train = config.data.test = ""  # to be given on the command line
    config.data.workers = 16
    config.data.sampling = sampling
    config.data.flip = False  # the official option exists and is never applied
    config.data.crop_scale = (0.08, 1.0)
    config.data.rand_augment = "rand-m7-n4-mstd0.5-inc1"

    config.optim.lr = 4e-4 * 256 / batch  # not scaled with the batch
    config.optim.end_lr = config.optim.warmup_lr = 0.0
    config.optim.warmup_steps = 0
    config.optim.weight_decay = 0.05
    config.optim.decay_all = True

    config.eval.grids = (f"{frames}x{resolution}",)
    config.eval.budgets = (tokens,)
    config.eval.batch_size = 16
    config.eval.every_steps = 0
    return config


# Frames, stride, clips and crops of the official scripts.
_EVL_KINETICS = {8: (16, 3, 1), 16: (16, 1, 3), 32: (8, 1, 3)}


def evl_kinetics400(
    config: ConfigDict, frames: int, resolution: int = 224, split: int = 1
) -> ConfigDict:
    """EVL on Kinetics-400: 50,000 updates of 256 clips, dense sampling, three views.

    Raises:
      ValueError: on a number of frames that was not published.
    """
    if frames not in _EVL_KINETICS:
        raise ValueError(f"EVL was published for {sorted(_EVL_KINETICS)} frames, not {frames}")
    stride, clips, crops = _EVL_KINETICS[frames]
    evl_frozen(config, frames, resolution, f"dense:{stride}", 50_000, 256, split)
    config.num_classes = 400
    config.eval.clips, config.eval.crops = clips, crops
    return config
