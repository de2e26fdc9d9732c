"""FFN on UniFormer-S, Something-Something V1.

python -m fluxjax.main --config configs/ffn_uniformer_ssv1.py \
    --config.init_from=models/uniformer_s --config.data.root=frames \
    --config.data.train=train.txt --config.data.test=val.txt
    The published recipe, from Kinetics-600's UniFormer-S 16x4 (the release means to load it).
    Lists name folders of frame images, `path num_frames label` a line. Needs accelerators.

python -m fluxjax.main --config configs/ffn_uniformer_ssv1.py:ssv1_st8 \
    --config.init_from=models/uniformer_s --config.data.root=frames \
    --config.data.train=train.txt --config.data.test=val.txt
    The plain network trained at 8 frames alone. Needs accelerators, too.

Score: not yet trained. Published top-1 at 4 / 8 / 16 frames: 51.41 / 56.64 / 58.88 %.
"""

from fluxjax.config.recipes.ffn import published, uniformer


def get_config(variant="ssv1"):
    return published(uniformer, "uniformer_s", variant)
