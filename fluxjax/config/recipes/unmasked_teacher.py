"""UMT's published pre-training on video alone, as a function that fills a config.

Sources: "Unmasked Teacher" (arXiv 2303.16058) and the scripts of OpenGVLab/unmasked_teacher,
single_modality.
"""

from ml_collections import ConfigDict

from fluxjax.config.recipes.fluxvit import KINETICS710_VIDEOS

BATCH = 2048


def unmasked_teacher(config: ConfigDict) -> ConfigDict:
    """CLIP teaches 8 frames of 224 pixels on K710: 201 epochs, 40 of warm-up, 80 % hidden.

    Args:
      config: of task `distill`, filled in place, and returned.
    """
    large, steps_per_epoch = "l16" in config.model.name, KINETICS710_VIDEOS // BATCH
    config.batch_size, config.total_steps = BATCH, 201 * steps_per_epoch
    config.log_every, config.checkpoint.every_steps = 50, steps_per_epoch
    config.model.dtype = "bfloat16"
    config.model.drop_path = 0.2 if large else 0.1

    config.distill.teacher_model = "clip_l14" if large else "clip_b16"
    config.distill.teacher_interval = 1.0
    config.distill.mask_over = "frame"
    config.budgets = (8 * 40,)  # 40 of the 196 tokens of every frame
    config.grids.frames, config.grids.resolutions = (8,), (224,)
    config.grids.min_tokens = config.grids.max_tokens = 8 * 196
    config.eval.grids, config.eval.batch_size = ("8x224",), 64
    config.eval.every_steps = 0

    config.data.train = config.data.test = ""  # to be given on the command line
    config.data.workers = 16
    config.data.crop = "multi_scale"

    config.optim.lr, config.optim.end_lr = 1.5e-4, 1e-5
    config.optim.warmup_lr, config.optim.warmup_steps = 0.0, 40 * steps_per_epoch
    config.optim.b2, config.optim.weight_decay = 0.95, 0.05
    return config
