"""FluxViT-B, 104.6 M parameters.

python -m fluxjax.main --config configs/fluxvit_b.py:k400 \
    --config.data.train=train.txt --config.data.test=val.txt
    The published recipe on Kinetics-400 (list files: `path label` a line). Needs accelerators.
    `:ssv2` likewise on Something-Something V2, `:k710` on K710, before Kinetics-400, and `:coin` on
    COIN. Score: not yet trained.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.fluxvit import apply_recipe


def get_config(variant="k400"):
    config = base_config()
    config.model.name = "fluxvit_b14"
    config = apply_recipe(config, variant)
    config.model.remat = "block"  # with "dots" 8 clips do not fit a device of 16 GiB
    return config
