"""Flux-CLIP's published training, as functions that fill a config.

Source: "Make Your Training Flexible" (arXiv 2503.14237), tables 16 and 17, whose code is not
released. What they do not list is decided here: the budgets are those of Flux-UMT, whose projectors
the video tower starts from; epsilon and clipping of gradients are its as well; captions have 32
token ids, as in the ancestors' multi-modal training (OpenGVLab/InternVideo, multi_modality).
"""

from ml_collections import ConfigDict

PAIRS = 25_680_000  # CC3M, CC12M, WebVid-10M, VG, SBU and COCO
SECOND_PAIRS = 2_500_000  # about: S-MiT, InternVid-2M and COCO
BATCH = 4096  # images or videos, in turn


def flux_clip(config: ConfigDict, pairs: int = PAIRS) -> ConfigDict:
    """Three epochs on 25 million pairs, 0.6 of warm-up, on flexible grids.

    Args:
      config: of task `contrast`, filled in place, and returned.
      pairs: of an epoch.
    """
    _training(config, 3 * pairs // BATCH)
    config.optim.lr = 4e-4 * 256 / BATCH
    config.optim.warmup_steps = int(0.6 * pairs) // BATCH
    return config


def flux_clip_second(config: ConfigDict, pairs: int = SECOND_PAIRS) -> ConfigDict:
    """One more epoch on 2.5 million pairs of better captions, at a low rate and without warm-up.

    Args:
      config: of task `contrast`, filled in place, and returned.
      pairs: of an epoch.
    """
    batch = 2048 if "b14" in config.model.name else BATCH
    _training(config, pairs // batch, batch)
    config.optim.lr = 2e-5 * 256 / batch
    config.optim.warmup_steps = 0
    return config


def _training(config: ConfigDict, steps: int, batch: int = BATCH) -> None:
    config.batch_size, config.total_steps = batch, steps
    config.log_every = 50
    config.checkpoint.every_steps = 1000
    config.model.dtype = "bfloat16"
    config.model.remat = "block"
    config.model.layer_scale = 1e-5

    config.budgets = (2048, 1536, 1024)
    config.grids.frames = tuple(range(4, 28, 2))
    config.grids.resolutions = tuple(range(168, 308, 28))
    config.grids.min_tokens, config.grids.max_tokens = 2048, 4096
    config.contrast.context = 32
    config.contrast.chunk = 64

    config.data.train = config.data.test = ""  # to be given on the command line
    config.data.workers = 16
    config.data.crop_scale = (0.5, 1.0)
    config.data.flip = False  # not in the table, and captions tell left from right

    config.optim.end_lr = config.optim.warmup_lr = 0.0
    config.optim.b2 = 0.98
    config.optim.eps = 1e-6
    config.optim.weight_decay = 0.02
    config.optim.clip_norm = 5.0

    # Token Optimization: larger grids than the budgets, from which tokens are selected.
    config.eval.grids = ("4x224", "8x224", "12x224", "16x224")
    config.eval.budgets = (2048, 1024, 512)
    config.eval.batch_size = 64
    config.eval.every_steps = 0
