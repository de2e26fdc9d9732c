"""AVION's fine-tuning on EPIC-KITCHENS-100 multi-instance retrieval, ViT-B/16 (or `:l14`).

python -m fluxjax.main --config configs/avion_ek100_mir.py --config.init_from=runs/avion_ego4d \
    --config.contrast.vocabulary=bpe_simple_vocab_16e6.txt.gz \
    --config.data.train=EPIC_100_retrieval_train.csv --config.data.test=EPIC_100_retrieval_test.csv
    The published recipe: 100 epochs of 16 frames, 512 a step, max-margin loss. Needs the videos in
    chunks (python -m data_pipelines.prepare), a pre-trained model and accelerators.
    Score: not yet trained.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.avion import retrieval

MODELS = {"": "avion_b16", "l14": "avion_l14", "l14_336": "avion_l14_336"}


def get_config(variant=""):
    if variant not in MODELS:
        raise ValueError(f"unknown variant {variant!r} of avion_ek100_mir; known: l14, l14_336")
    return retrieval(base_config(MODELS[variant], "contrast"))
