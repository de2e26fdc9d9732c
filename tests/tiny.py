"""A model and a config that train in milliseconds, for tests."""

from fluxjax.config import base_config


def get_config():
    """FluxViT of one block on 2..4 frames of 28 x 28 pixels."""
    config = base_config()
    config.model.width = 16
    config.model.depth = 1
    config.model.num_heads = 2
    config.model.grid = (4, 2, 2)
    config.model.pooled = 16
    config.model.pool_heads = 2
    config.model.layer_scale = 1.0
    config.num_classes = 4
    config.total_steps = 6
    config.batch_size = 8
    config.log_every = 1
    config.budgets = (8, 4)
    config.grids.frames = (2, 3, 4)
    config.grids.resolutions = (14, 28)
    config.grids.min_tokens = 2
    config.grids.max_tokens = 16
    config.eval.grids = ("4x28", "2x28")
    config.eval.budgets = (8, 4)
    config.eval.batch_size = 8
    config.optim.warmup_steps = 2
    config.checkpoint.every_steps = 2
    config.data.flip = False
    return config


def evl_config():
    """EVL of one decoder layer on a tower of two blocks, 4 frames of 28 x 28 pixels."""
    config = base_config("evl_ti8")
    sizes = {"width": 16, "depth": 2, "num_heads": 2, "qkv_width": 16, "decoder_heads": 2}
    config.model.update(sizes | {"patch": 14, "grid": (2, 2), "num_frames": 4, "decoder_layers": 1})
    config.method, config.budgets = "cross_entropy", ()
    config.num_classes = 4
    config.total_steps = 6
    config.batch_size = 8
    config.log_every = 1
    config.grids.frames, config.grids.resolutions = (4,), (28,)
    config.grids.min_tokens = config.grids.max_tokens = 16
    config.eval.grids, config.eval.budgets, config.eval.batch_size = ("4x28",), (16, 8), 8
    config.optim.warmup_steps = 0
    config.checkpoint.every_steps = 100
    config.data.flip = False
    return config
