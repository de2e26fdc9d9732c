"""FFN on TSM-R50, Something-Something V1; :ssv2 and :k400 are the other data sets.

python -m fluxjax.main --config configs/ffn_tsm_ssv1.py \
    --config.init_from=models/tsm_r50 --config.data.root=frames \
    --config.data.train=train.txt --config.data.test=val.txt
    The published recipe, from ImageNet's ResNet-50 (resnet50-19c8e357.pth).
    Lists name folders of frame images, `path num_frames label` a line. Needs accelerators.

python -m fluxjax.main --config configs/ffn_tsm_ssv1.py:ssv1_st8 \
    --config.init_from=models/tsm_r50 --config.data.root=frames \
    --config.data.train=train.txt --config.data.test=val.txt
    The plain network trained at 8 frames alone. Needs accelerators, too.

Score: not yet trained. Published top-1 at 4 / 8 / 16 frames: 42.85 / 48.20 / 50.79 %; of :ssv2
56.07 / 61.86 / 63.61 %, of :k400 68.96 / 72.33 / 74.35 %.
"""

from fluxjax.config.recipes.ffn import published, tsm


def get_config(variant="ssv1"):
    return published(tsm, "tsm_r50", variant)
