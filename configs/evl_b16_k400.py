"""EVL on a frozen CLIP ViT-B/16, Kinetics-400: 33.18 M trained parameters (8 frames).

python -m fluxjax.convert --family clip --source ViT-B-16.pt --target models/clip_b16
python -m fluxjax.main --config configs/evl_b16_k400.py --config.init_from=models/clip_b16 \
    --config.data.train=train.txt --config.data.test=val.txt
    8 frames at stride 16; `:16` and `:32` take 16x16 and 32x8. List files: `path label` a line.
    `--config.model.train_tower=True` fine-tunes the tower as well. Needs accelerators.

Score: not yet trained. Published top-1: 82.8 (8 frames), 83.7 (16), 84.3 (32).
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.evl import evl_kinetics400


def get_config(frames="8"):
    return evl_kinetics400(base_config("evl_b16"), int(frames))
