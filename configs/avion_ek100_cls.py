"""AVION's fine-tuning on EPIC-KITCHENS-100's actions, ViT-B/16 (or `:l14`, `:l14_336`).

python -m fluxjax.main --config configs/avion_ek100_cls.py --config.init_from=runs/avion_ego4d \
    --config.data.train=EPIC_100_train.csv --config.data.test=EPIC_100_validation.csv
    The published recipe: 100 epochs of 16 frames, 512 a step, mixed in pairs, SGD; a new classifier
    on the video tower of a dual encoder. Needs the videos in chunks (python -m
    data_pipelines.prepare), a pre-trained model and accelerators.
    Score: not yet trained. Published action top-1: 49.5 (ViT-B), 54.4 (ViT-L), pre-trained on
    LaViLa's narrations; 47.3 (ViT-B) on Ego4D's own.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.avion import classification

MODELS = {"": "avion_b16", "l14": "avion_l14", "l14_336": "avion_l14_336"}


def get_config(variant=""):
    if variant not in MODELS:
        raise ValueError(f"unknown variant {variant!r} of avion_ek100_cls; known: l14, l14_336")
    return classification(base_config(MODELS[variant]))
