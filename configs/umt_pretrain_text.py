"""UMT's second stage of pre-training, with captions, B/16 (or `:l16`): CLIP teaches what it sees.

python -m fluxjax.convert --family clip --source ViT-B-16.pt --target models/clip_b16
python -m fluxjax.convert --family umt --source bert-base-uncased.bin --target models/bert
python -m fluxjax.main --config configs/umt_pretrain_text.py --config.init_from=runs/stage1 \
    --config.pretrain_umt.teacher=models/clip_b16 --config.pretrain_umt.text_from=models/bert \
    --config.pretrain_umt.vocabulary=vocab.txt \
    --config.data.train=train.json --config.data.test=msrvtt_ret_test1k.json
    The published recipe: 10 epochs, 4 frames, 2,048 a step, from BERT's weights, evaluated
    zero-shot. The release reads images as well; here all are videos. Needs captioned videos, a
    pre-trained video encoder, CLIP's and BERT's weights and accelerators.
    Score: not yet trained.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.umt import pretrain_with_text

MODELS = {"b16": ("umt_b16", "clip_b16"), "l16": ("umt_l16", "clip_l14")}


def get_config(variant="b16"):
    if variant not in MODELS:
        raise ValueError(f"unknown variant {variant!r} of umt_pretrain_text; known: b16, l16")
    model, teacher = MODELS[variant]
    config = base_config(model, "pretrain_umt")
    config.pretrain_umt.teacher_model = teacher
    return pretrain_with_text(config)
