"""UMT with vid-TLDR's merging, fine-tuned to answer questions: msrvtt (or msvd, anet), B/16; L/16
with l16_ before the name.

python -m fluxjax.main --config configs/umt_qa.py:msrvtt --config.init_from=models/umt_b16 \
    --config.answer.vocabulary=vocab.txt --config.answer.choices=msrvtt_qa_answer_list.json \
    --config.data.root=videos --config.data.train=msrvtt_qa_train.json \
    --config.data.test=msrvtt_qa_test.json
    The published recipe: 8 epochs of 12 frames, 256 a step. Needs UMT's annotations, the videos, a
    pre-trained model and accelerators.
    Score: not yet trained.

python -m fluxjax.evaluate --config configs/umt_qa.py:msrvtt --family umt \
    --checkpoint b16_25m_msrvtt_qa.pth --data msrvtt_qa_test.json --root videos \
    --vocabulary vocab.txt --set answer.choices=msrvtt_qa_answer_list.json
    Evaluates released weights. Needs those, the test annotations and their videos.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.umt import QUESTIONS, questions


def get_config(variant="msrvtt"):
    """The variant is [l16_]DATASET."""
    name = variant.removeprefix("l16_")
    if name not in QUESTIONS:
        raise ValueError(
            f"unknown variant {variant!r} of umt_qa; known: {', '.join(QUESTIONS)}, each also "
            "after l16_"
        )
    return questions(base_config("umt_l16" if name != variant else "umt_b16", "answer"), name)
