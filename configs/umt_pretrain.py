"""UMT's pre-training on video alone: a CLIP image encoder teaches UMT-B/16 (or `:l16`).

python -m fluxjax.convert --family clip --source ViT-B-16.pt --target models/clip_b16
python -m fluxjax.main --config configs/umt_pretrain.py --config.distill.teacher=models/clip_b16 \
    --config.data.train=train.txt --config.data.test=val.txt
    The published recipe: 201 epochs of K710, whose labels are not used. CLIP-L/14 teaches `:l16`,
    and is shown 196 pixels. Needs accelerators.

Score: not yet trained.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.unmasked_teacher import unmasked_teacher


def get_config(size="b16"):
    if size not in ("b16", "l16"):
        raise ValueError(f"unknown variant {size!r} of umt_pretrain; known: b16, l16")
    return unmasked_teacher(base_config(f"umt_student_{size}", "distill"))
