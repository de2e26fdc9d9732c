"""FluxViT on your own videos, with one device; as many classes as the data name.

python -m fluxjax.main --config configs/finetune.py:cpu \
    --config.data.train=videos/train --config.data.test=videos/test
    FluxViT-Ti from random weights on a laptop's CPU: for a look at the whole way, or for classes
    that little footage tells apart. Grids of 4 to 8 frames of 42 or 56 pixels.

python -m fluxjax.main --config configs/finetune.py:gpu24 --config.init_from=models/k400_s14 \
    --config.data.train=videos/train --config.data.test=videos/test
    FluxViT-S on a GPU of 24 GB: 4 to 16 frames of 168 to 224 pixels, 1024, 512 and 256 tokens.
    Needs an accelerator and a model to start from: released weights, converted by
    `python -m fluxjax.convert` (docs/systems/fluxvit.md), or the folder `model` of a run.

python -m fluxjax.main --config configs/finetune.py:gpu80 --config.init_from=models/k400_b14 \
    --config.data.train=videos/train --config.data.test=videos/test
    FluxViT-B on a GPU of 80 GB. Needs the same.

Clips are not mirrored: `--config.data.flip=True` where no class tells left from right.
`--config.epochs=N` is how long, 100 and on a GPU 30 times through the training videos, or
`--config.total_steps=N`. A tenth of the steps is warm-up. The test videos are evaluated on the way,
ten times or once an epoch; `--config.checkpoint.best=top1_48@8x56` (on a GPU `top1_1024@8x224`)
keeps the best model in the workdir's `best`.
`--config.batch_size` may change: the learning rate is for 256 clips and follows it.

Memory of a step, by XLA for a CPU: cpu 0.13 GiB, gpu24 12.5 GiB, gpu80 49.5 GiB (printed by
`--config.dry_run=true --config.num_classes=10 --config.data.train=dummy --config.data.test=dummy`);
of a GPU, XLA takes 75 %. Not tried on a GPU. What does not fit ends the command with the numbers.
Score: not yet trained on a GPU; `cpu` in small is tests/newcomer/test_first_day.py.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.finetune import Size, finetune

SMALL = {
    "frames": (4, 6, 8), "resolutions": (42, 56), "tokens": (36, 128), "budgets": (48, 24, 12),
    "grid": "8x56",
}  # fmt: skip
LARGE = {
    "frames": (4, 8, 12, 16), "resolutions": (168, 196, 224), "tokens": (1024, 2048),
    "budgets": (1024, 512, 256), "grid": "8x224",
}  # fmt: skip
VARIANTS = {
    "cpu": ("fluxvit_ti14", Size(batch=16, workers=2, epochs=100, **SMALL)),
    "gpu24": ("fluxvit_s14", Size(batch=12, workers=8, epochs=30, **LARGE)),
    "gpu80": ("fluxvit_b14", Size(batch=24, workers=16, epochs=30, **LARGE)),
}


def get_config(variant="cpu"):
    if variant not in VARIANTS:
        raise ValueError(f"finetune:{variant} is unknown; there are {', '.join(VARIANTS)}")
    model, size = VARIANTS[variant]
    config = finetune(base_config(model), size)
    if variant == "cpu":  # from random weights: more has to be learnt, and from the first step on
        config.model.layer_scale, config.model.position_scale = 1.0, 4.0
        config.optim.lr, config.optim.b2 = 8e-3, 0.98
    else:
        config.model.dtype, config.model.drop_path = "bfloat16", 0.1
        config.model.layer_scale = 1e-5
        config.data.rand_augment = "rand-m7-n4-mstd0.5-inc1"
        config.optim.layer_decay = 0.75
        config.mixing.smoothing = 0.1
    return config
