"""AVION's contrastive pre-training on Ego4D with narrations, ViT-B/16 (or `:l14`, `:l14_336`).

python -m fluxjax.main --config configs/avion_ego4d.py --config.init_from=models/avion_clip_b16 \
    --config.contrast.vocabulary=bpe_simple_vocab_16e6.txt.gz \
    --config.data.train=ego4d_train.pkl --config.data.test=EPIC_100_retrieval_test.csv
    The published recipe: 5 epochs of 4,000,000 narrated clips of 4 frames, 2,048 a step.
    Needs Ego4D in chunks (python -m data_pipelines.prepare), CLIP's weights and accelerators.
    Score: not yet trained.

python -m fluxjax.main --config configs/avion_ego4d.py:lavila \
    --config.init_from=models/avion_clip_b16 \
    --config.contrast.vocabulary=bpe_simple_vocab_16e6.txt.gz \
    --config.data.train=rephraser.no_punkt_top3.pkl --config.data.test=EPIC_100_retrieval_test.csv
    With LaViLa's narrations: about twice as many clips, several captions each, one drawn at a time.
    Needs the same.
    Score: not yet trained.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.avion import pretrain

MODELS = {"": "avion_b16", "l14": "avion_l14", "l14_336": "avion_l14_336"}


def get_config(variant=""):
    """The variant is [MODEL][_lavila], such as l14, lavila or l14_lavila."""
    model = variant.removesuffix("lavila").removesuffix("_")
    if model not in MODELS:
        raise ValueError(
            f"unknown variant {variant!r} of avion_ego4d; known: l14, l14_336, lavila, l14_lavila, "
            "l14_336_lavila, or none for ViT-B/16 on Ego4D"
        )
    config = base_config(MODELS[model], "contrast")
    clips = {"clips": 8_000_000} if variant.endswith("lavila") else {}
    return pretrain(config, **clips)
