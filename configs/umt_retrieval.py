"""UMT with vid-TLDR's merging, fine-tuned for retrieval: msrvtt (or msvd, didemo, anet, lsmdc,
ssv2_label, ssv2_template), B/16; L/16 with l16_ before the name.

python -m fluxjax.main --config configs/umt_retrieval.py:msrvtt --config.init_from=models/umt_b16 \
    --config.retrieve.vocabulary=vocab.txt --config.data.root=videos \
    --config.data.train=msrvtt_ret_train9k.json --config.data.test=msrvtt_ret_test1k.json
    The published recipe: 10 epochs of 12 frames, 256 a step. Needs UMT's annotations, the videos,
    a pre-trained model and accelerators.
    Score: not yet trained. Published for UMT-B with 25M pairs: see docs/systems/umt.md.

python -m fluxjax.evaluate --config configs/umt_retrieval.py:msrvtt --family umt \
    --checkpoint b16_25m_msrvtt.pth --data msrvtt_ret_test1k.json --root videos \
    --vocabulary vocab.txt
    Ranks by the matching head, of released weights as they are. Needs those, the test annotations
    and their videos; videos that are missing count as wrong and are listed.

python -m fluxjax.evaluate --config configs/umt_retrieval.py:msrvtt_zeroshot --family umt \
    --checkpoint b16_25m.pth --data msrvtt_ret_test1k.json --root videos \
    --vocabulary vocab.txt
    Zero-shot: a pre-trained model on 4 frames, without merging. Needs the same.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.umt import RETRIEVAL, retrieval


def get_config(variant="msrvtt"):
    """The variant is [l16_]DATASET[_zeroshot]."""
    large, zero_shot = variant.startswith("l16_"), variant.endswith("_zeroshot")
    name = variant.removeprefix("l16_").removesuffix("_zeroshot")
    if name not in RETRIEVAL:
        raise ValueError(
            f"unknown variant {variant!r} of umt_retrieval; known: {', '.join(RETRIEVAL)}, each "
            "also after l16_ and before _zeroshot"
        )
    config = base_config("umt_l16" if large else "umt_b16", "retrieve")
    return retrieval(config, name, zero_shot)
