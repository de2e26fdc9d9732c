"""A model and a config that train in milliseconds, for tests."""

from fluxjax.config.keys import base_config


def get_config(variant="flux"):
    """FluxViT of one block on 2..4 frames of 28 x 28 pixels; "evl" trains a tower, then EVL.

    "videomae" pre-trains a masked autoencoder.
    """
    if variant == "evl":
        return pretrained_evl_config()
    if variant == "videomae":
        return videomae_config()
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
    config.eval.batch_size, config.eval.every_steps = 8, 0
    config.optim.warmup_steps = 2
    config.checkpoint.every_steps = 2
    config.data.flip = False
    return config


def pretrained_evl_config():
    """A CLIP tower on single frames, and EVL on it when it is frozen."""
    config = evl_config()
    pretrain = base_config("clip_ti8")
    names = ("width", "depth", "num_heads", "patch", "grid")
    pretrain.model.update({name: config.model[name] for name in names})
    for key in ("method", "budgets", "batch_size", "log_every"):
        pretrain[key] = config[key]
    pretrain.num_classes, pretrain.total_steps, pretrain.optim.warmup_steps = 4, 3, 0
    pretrain.grids.frames, pretrain.grids.resolutions = (1,), (28,)
    pretrain.grids.min_tokens = pretrain.grids.max_tokens = 4
    pretrain.eval.grids, pretrain.eval.budgets, pretrain.eval.batch_size = ("1x28",), (4,), 8
    pretrain.eval.every_steps = 0
    pretrain.data.flip = False
    for key in ("train", "test", "root"):
        pretrain.data[key] = config.data.get_ref(key)
    config.pretrain = pretrain
    config.total_steps = 3
    config.eval.grids = ("4x28", "1x28")
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
    config.eval.every_steps = 0
    config.optim.warmup_steps = 0
    config.checkpoint.every_steps = 100
    config.data.flip = False
    return config


def videomae_config():
    """VideoMAE's pre-training, one block, 2 to 4 frames of 8 or 12 pixels: up to 18 tubelets."""
    config = base_config("videomae_ti8_pretrain", "reconstruct")
    config.model.update({"width": 16, "depth": 1, "num_heads": 2, "patch": 4})
    config.model.update({"decoder_width": 8, "decoder_depth": 1, "decoder_heads": 1})
    config.reconstruct.mask_ratio = 0.6
    config.grids.frames, config.grids.resolutions = (2, 3, 4), (8, 12)
    config.grids.min_tokens, config.grids.max_tokens = 4, 36
    config.eval.grids, config.eval.batch_size, config.eval.every_steps = ("4x12",), 8, 0
    config.total_steps, config.batch_size, config.log_every = 6, 8, 1
    config.optim.warmup_steps, config.checkpoint.every_steps = 0, 2
    config.data.flip = False
    return config
