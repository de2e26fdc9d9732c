"""UMT fine-tuned on MSRVTT's captions and tested by multiple choice (MSRVTT-MC), B/16 (or `:l16`).

python -m fluxjax.main --config configs/umt_mc.py --config.init_from=models/umt_b16 \
    --config.retrieve.vocabulary=vocab.txt --config.data.root=videos \
    --config.data.train=msrvtt_ret_train7k.json --config.data.test=msrvtt_mc_test.json
    The published recipe: 3 epochs of 12 frames, 256 a step; a video and five captions. Needs UMT's
    annotations, the videos, a pre-trained model and accelerators.
    Score: not yet trained.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.umt import multiple_choice

MODELS = {"b16": "umt_b16", "l16": "umt_l16"}


def get_config(variant="b16"):
    if variant not in MODELS:
        raise ValueError(f"unknown variant {variant!r} of umt_mc; known: b16, l16")
    return multiple_choice(base_config(MODELS[variant], "retrieve"))
