"""FluxViT-S, 28.8 M parameters.

python -m fluxjax.main --config configs/fluxvit_s.py
    The S architecture at demo scale: four motions, grids of 4 to 8 frames of 42 or 56 pixels.
    Time: 9 minutes on 2 CPU cores.
    Score: 83.0 % held-out top-1 on 8x56 at 32 tokens, 80.7 % at 16, 74.2 % at 8 (chance 25 %).

python -m fluxjax.main --config configs/fluxvit_s.py:k400 \
    --config.data.train=train.txt --config.data.test=val.txt
    The published recipe on Kinetics-400 (list files: `path label` a line). Needs accelerators.
    Score: not yet trained.

python -m fluxjax.main --config configs/fluxvit_s.py:ssv2 \
    --config.data.train=train.txt --config.data.test=val.txt
    The same on Something-Something V2; `:k710` on K710, before Kinetics-400, and `:coin` on COIN
    likewise. Needs accelerators. Score: not yet trained.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.demo import demo
from fluxjax.config.recipes.fluxvit import apply_recipe


def get_config(variant=None):
    config = base_config()
    config.model.name = "fluxvit_s14"
    if variant is not None:
        return apply_recipe(config, variant)
    config.model.layer_scale = 0.1
    config.model.position_scale = 4.0
    config.total_steps = 220
    config.batch_size = 16
    config.optim.lr = 4e-3
    config.optim.warmup_steps = 20
    config.eval.grids = ("8x56", "4x56")
    config.eval.batch_size = 32
    config.log_every = 10
    config.checkpoint.every_steps = 110
    return demo(config, budgets=(32, 16, 8))
