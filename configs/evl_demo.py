"""EVL in small: a tower learns to name digits from single frames, then stands still; EVL on top of
it learns how the digits move.

python -m fluxjax.main --config configs/evl_demo.py --workdir runs/evl
    Trains both, one after the other; the tower's run is in runs/evl/pretrain.

python -m fluxjax.main --config configs/evl_demo.py:frame --config.init_from=runs/evl/pretrain/model
    A linear classifier of motion on single frames of the same frozen tower, for comparison.

Time: 6 minutes on 2 CPU cores, 1 of them for making the corpus the first time.
Score: 89.3 % held-out top-1 on motion with all 288 tokens of 8x48, 90.6 % with 144, 87.5 % with 72;
one frame alone 27.0 %; the linear classifier of single frames 25.8 % (chance 25 %).
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.demo import demo

SIDE, PATCH = 48, 8
TOWER = {
    "width": 64, "depth": 2, "num_heads": 4, "patch": PATCH, "grid": (SIDE // PATCH,) * 2,
    "position_scale": 2.0,  # from random weights, strong positions are learnt from much sooner
}  # fmt: skip


def small(model, frames):
    config = base_config(model)
    config.model.update(TOWER)
    tokens = frames * (SIDE // PATCH) ** 2
    demo(config, budgets=(), frames=(frames,), resolutions=(SIDE,), tokens=(tokens, tokens))
    config.method = "cross_entropy"
    config.eval.grids, config.eval.budgets = (f"{frames}x{SIDE}",), (tokens,)
    config.eval.batch_size = 64
    config.batch_size, config.log_every = 32, 20
    config.optim.warmup_steps = 40
    config.checkpoint.every_steps = 200
    return config


def digits():
    """The tower, from single frames."""
    config = small("clip_ti8", frames=1)
    config.data.train = config.data.test = "demo:easy?label=digit"
    config.num_classes = 10
    config.total_steps, config.optim.lr = 450, 1.6e-2
    config.batch_size, config.data.repeats = 48, 2
    config.data.crop_scale = (0.4, 1.0)
    return config


def get_config(variant="motion"):
    if variant == "frame":
        config = small("clip_ti8", frames=1)
        config.model.train_tower = False
        config.total_steps, config.optim.lr = 200, 1e-2
        return config
    config = small("evl_ti8", frames=8)
    config.model.update({"num_frames": 8, "decoder_layers": 2, "qkv_width": 64,
                         "mlp_dropout": 0.1, "head_dropout": 0.1})  # fmt: skip
    config.total_steps, config.optim.lr = 200, 2.4e-2
    config.eval.grids = (f"8x{SIDE}", f"1x{SIDE}")
    config.eval.budgets = (288, 144, 72)
    config.pretrain = digits()
    config.pretrain.data.dir = config.data.get_ref("dir")
    return config
