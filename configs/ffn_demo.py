"""FFN in small: a TSM of few channels learns how digits move from 2, 4 and 8 frames at once.

python -m fluxjax.main --config configs/ffn_demo.py --workdir runs/ffn
    Trains all three branches, and evaluates 2 to 10 frames, each at the nearest branch.

python -m fluxjax.main --config configs/ffn_demo.py:st8
    The plain network trained at 8 frames (:st2, :st4 likewise) and evaluated at the same numbers:
    what FFN is compared with.

Time: 1.5 minutes on 2 CPU cores; the corpus made before.
Score: 100 % held-out top-1 at 2 to 10 frames (512 videos; chance 25 %).
"""

from fluxjax.config.keys import base_config

SIDE = 40
FRAMES = (2, 4, 8)


def get_config(variant="ffn"):
    separate = variant.removeprefix("st")
    if variant == "ffn":
        config = base_config("tsm_ti_ffn", task="frame_flexible")
        config.grids.frames = FRAMES
    elif variant != separate and separate.isdecimal():
        config = base_config("tsm_ti", task="classify")
        config.grids.frames = (int(separate),)
    else:
        raise ValueError(f"unknown variant {variant!r}; known: ffn, st2, st4, st8")
    config.model.bottleneck, config.model.dropout = False, 0.0
    config.method, config.budgets = "cross_entropy", ()
    config.grids.resolutions = (SIDE,)
    config.total_steps, config.batch_size, config.log_every = 250, 32, 25
    config.checkpoint.every_steps = 125
    config.data.sampling = "ssv2"
    config.data.flip = False  # it would turn left into right
    config.data.crop_scale = (0.6, 1.0)
    config.data.cache = "memory"
    config.optim.name, config.optim.schedule = "sgd", "slowfast_cosine"
    config.optim.lr, config.optim.end_lr, config.optim.warmup_lr = 0.8, 0.0, 0.0
    config.optim.warmup_steps, config.optim.weight_decay = 40, 5e-4
    config.eval.grids = tuple(f"{frames}x{SIDE}" for frames in range(2, 11))
    config.eval.batch_size, config.eval.every_steps = 64, 0
    return config
