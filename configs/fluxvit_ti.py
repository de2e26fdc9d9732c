"""FluxViT-Ti, 1.2 M parameters: the quick demonstration.

python -m fluxjax.main --config configs/fluxvit_ti.py

Trains from random weights to tell four motions apart on the demo corpus, with Flux-Multi: grids of
4 to 8 frames of 42 or 56 pixels, budgets of 48, 24 and 12 tokens.

Time: 8 minutes on 2 CPU cores, 1 of them for making the corpus the first time.
Score: 99.0 % held-out top-1 on 8x56 at 48 tokens, 93.2 % at 12; one frame alone 24.6 %
(chance 25 %).
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.demo import demo


def get_config():
    config = base_config()
    config.model.name = "fluxvit_ti14"
    config.model.layer_scale = 1.0
    config.model.position_scale = 4.0
    config.total_steps = 600
    config.batch_size = 32
    config.optim.lr = 8e-3
    config.optim.warmup_steps = 40
    config.eval.grids = ("8x56", "6x56", "4x56", "1x56")
    config.eval.batch_size = 64
    config.log_every = 20
    config.checkpoint.every_steps = 100
    return demo(config, budgets=(48, 24, 12))
