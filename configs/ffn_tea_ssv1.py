"""FFN on TEA, a Res2Net-50 with temporal modules, Something-Something V1.

python -m fluxjax.main --config configs/ffn_tea_ssv1.py \
    --config.init_from=models/tea_r50 --config.data.root=frames \
    --config.data.train=train.txt --config.data.test=val.txt
    The published recipe, from ImageNet's Res2Net-50 26w 4s.
    Lists name folders of frame images, `path num_frames label` a line. Needs accelerators.

python -m fluxjax.main --config configs/ffn_tea_ssv1.py:ssv1_st8 \
    --config.init_from=models/tea_r50 --config.data.root=frames \
    --config.data.train=train.txt --config.data.test=val.txt
    The plain network trained at 8 frames alone. Needs accelerators, too.

Score: not yet trained. Published top-1 at 4 / 8 / 16 frames: 44.97 / 51.61 / 54.04 %.
"""

from fluxjax.config.recipes.ffn import published, tea


def get_config(variant="ssv1"):
    return published(tea, "tea_r50", variant)
