"""VideoMAE ViT-B on Kinetics-400, 16 frames of 224 pixels, as AVION trains it.

python -m fluxjax.main --config configs/videomae_b16_k400.py:pretrain --workdir runs/pretrain \
    --config.data.train=train.txt --config.data.test=val.txt
python -m fluxjax.main --config configs/videomae_b16_k400.py:finetune \
    --config.init_from=runs/pretrain/model \
    --config.data.train=train.txt --config.data.test=val.txt
    800 epochs without labels at 90 % masking, then 100 with. List files: `path label` a line.
    Needs accelerators.

Score: not yet trained. Published top-1 after both: 80.0 (VideoMAE and AVION).
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.videomae import finetune_kinetics400, pretrain_kinetics400


def get_config(variant="pretrain"):
    if variant == "pretrain":
        return pretrain_kinetics400(base_config("videomae_b16_pretrain", "reconstruct"))
    if variant == "finetune":
        return finetune_kinetics400(base_config("videomae_b16"))
    raise ValueError(f"videomae_b16_k400:{variant} is unknown; there are pretrain and finetune")
