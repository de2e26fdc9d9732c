"""Flux-CLIP: a FluxViT-S and CLIP's text tower in one space, at three token budgets.

python -m fluxjax.main --config configs/flux_clip_s.py --config.init_from=runs/flux_umt_s \
    --config.contrast.text_from=models/avion_clip_b16 \
    --config.contrast.vocabulary=bpe_simple_vocab_16e6.txt.gz \
    --config.data.train=webvid.jsonl --config.data.images=images.jsonl \
    --config.data.test=msrvtt.jsonl --workdir runs/flux_clip_s
    The published recipe (table 16 of the paper): three epochs of 25 million captions, batches of
    images and of videos in turn; what the paper leaves open is in
    docs/systems/flux_pretraining.md. The video tower starts from Flux-UMT, the text tower from
    CLIP's. Needs accelerators.

python -m fluxjax.main --config configs/flux_clip_s.py:second \
    --config.init_from=runs/flux_clip_s --config.contrast.vocabulary=bpe_simple_vocab_16e6.txt.gz \
    --config.data.train=internvid.jsonl --config.data.images=coco.jsonl \
    --config.data.test=msrvtt.jsonl
    One more epoch on 2.5 million pairs of better captions. Needs the same.

Score: not yet trained.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.flux_clip import flux_clip, flux_clip_second

STAGES = {"": flux_clip, "second": flux_clip_second}


def get_config(stage=""):
    if stage not in STAGES:
        raise ValueError(f"unknown variant {stage!r} of flux_clip_s; known: second, or none")
    return STAGES[stage](base_config("flux_clip_s14", "contrast"))
