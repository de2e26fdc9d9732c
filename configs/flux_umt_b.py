"""Flux pre-training of a FluxViT-B student: InternVideo2-1B teaches, on flexible grids.

python -m fluxjax.convert --family internvideo2 --source InternVideo2-1B.pt --target models/1b14
python -m fluxjax.main --config configs/flux_umt_b.py --config.distill.teacher=models/1b14 \
    --config.data.train=train.txt --config.data.test=val.txt
    The published recipe (table 14 of the paper); what it leaves open is in
    docs/systems/flux_pretraining.md. The videos need no labels. `configs/fluxvit_b.py:k400` then
    fine-tunes, with `--config.init_from` naming this run. Needs accelerators.

Score: not yet trained.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.flux_umt import flux_umt


def get_config():
    config = flux_umt(base_config("fluxvit_student_b14", "distill"))
    config.model.remat = "block"  # with "dots" 8 clips nearly fill a device of 16 GiB
    return config
