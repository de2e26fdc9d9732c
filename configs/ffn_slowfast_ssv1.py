"""FFN on SlowFast-R50, Something-Something V1.

python -m fluxjax.main --config configs/ffn_slowfast_ssv1.py \
    --config.init_from=models/slowfast_r50 --config.data.root=frames \
    --config.data.train=train.txt --config.data.test=val.txt
    The published recipe, from Kinetics-400's SLOWFAST_8x8_R50.
    Lists name folders of frame images, `path num_frames label` a line. Needs accelerators.

python -m fluxjax.main --config configs/ffn_slowfast_ssv1.py:ssv1_st32 \
    --config.init_from=models/slowfast_r50 --config.data.root=frames \
    --config.data.train=train.txt --config.data.test=val.txt
    The plain network trained at 32 frames alone. Needs accelerators, too.

Score: not yet trained. Published top-1 at 16 / 32 / 64 frames: 43.90 / 47.11 / 47.27 %.
"""

from fluxjax.config.recipes.ffn import published, slowfast


def get_config(variant="ssv1"):
    return published(slowfast, "slowfast_r50", variant)
