"""UMT's pre-training, B/16 (or L/16: l16, l16_text): CLIP teaches what it sees.

python -m fluxjax.convert --family clip --source ViT-B-16.pt --target models/clip_b16
python -m fluxjax.main --config configs/umt_pretrain.py \
    --config.pretrain_umt.teacher=models/clip_b16 --config.data.train=train.txt \
    --config.data.test=val.txt
    Stage 1, videos alone: 201 epochs of Kinetics-710, 8 frames, 2,048 a step. Needs the videos,
    CLIP's weights and accelerators; for L/16 CLIP's ViT-L/14, which sees 196 pixels.
    Score: not yet trained.

python -m fluxjax.main --config configs/umt_pretrain.py:text --config.init_from=runs/stage1 \
    --config.pretrain_umt.teacher=models/clip_b16 --config.pretrain_umt.vocabulary=vocab.txt \
    --config.data.train=train.json --config.data.test=msrvtt_ret_test1k.json
    Stage 2, with captions: 10 epochs, 4 frames, 2,048 a step, evaluated zero-shot. The release
    starts from BERT's weights as well, and reads images; here texts start afresh, and all are
    videos. Needs captioned videos and the same.
    Score: not yet trained.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.umt import pretrain, pretrain_with_text

VARIANTS = {
    "b16": "umt_student_b16", "l16": "umt_student_l16", "text": "umt_b16", "l16_text": "umt_l16",
}  # fmt: skip


def get_config(variant="b16"):
    if variant not in VARIANTS:
        raise ValueError(
            f"unknown variant {variant!r} of umt_pretrain; known: {', '.join(VARIANTS)}"
        )
    config = base_config(VARIANTS[variant], "pretrain_umt")
    if "l16" in variant:
        config.pretrain_umt.teacher_model = "clip_l14"
    return (pretrain_with_text if variant.endswith("text") else pretrain)(config)
