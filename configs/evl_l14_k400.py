"""EVL on a frozen CLIP ViT-L/14, Kinetics-400.

python -m fluxjax.convert --family clip --source ViT-L-14.pt --target models/clip_l14
python -m fluxjax.main --config configs/evl_l14_k400.py --config.init_from=models/clip_l14 \
    --config.data.train=train.txt --config.data.test=val.txt
    8 frames at stride 16; `:16` and `:32` take 16x16 and 32x8, `:336` is 32x8 at 336 pixels, for
    ViT-L-14-336px.pt. Needs accelerators.

Score: not yet trained. Published top-1: 86.3 (8 frames), 86.9 (16), 87.7 (32), 87.7 (336).
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.evl import evl_kinetics400

SPLITS = {8: 1, 16: 2, 32: 4}  # batches in parts, as the official scripts do on 8 GPUs


def get_config(variant="8"):
    if variant == "336":
        return evl_kinetics400(base_config("evl_l14_336"), 32, resolution=336, split=4)
    frames = int(variant)
    return evl_kinetics400(base_config("evl_l14"), frames, split=SPLITS.get(frames, 1))
