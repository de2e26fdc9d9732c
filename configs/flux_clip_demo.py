"""Flux-CLIP in small: videos at three token budgets and captions in one space.

python -m fluxjax.main --config configs/flux_clip_demo.py --workdir runs/flux_clip
    Trains a small FluxViT to read digits in single frames, goes on with motions at three budgets
    (these runs are in runs/flux_clip/pretrain/pretrain and runs/flux_clip/pretrain), and makes of
    it a dual encoder of clips and captions ("the digit seven moves to the left over a flower
    photo"). Then captions search held-out clips, of which no two are described alike, and the other
    way round: on plain grids of as many tokens as the budget (3x56 and 12x28 have 48, 6x28 has 24,
    3x28 has 12), and with tokens selected from larger grids (Token Optimization).

Score: not yet measured.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.demo import demo

CORPUS = "demo:captions_easy"
BUDGETS = (48, 24, 12)
# Grids of 28 pixels, so that the small plain ones are none that training never saw.
GRIDS = {"frames": (4, 6, 8, 12), "resolutions": (28, 42, 56), "tokens": (48, 128)}
TOWER = {"width": 64, "layer_scale": 1.0, "position_scale": 4.0}


def small(model, task, budgets=BUDGETS, **grids):
    config = demo(base_config(model, task), budgets, **(grids or GRIDS))
    config.model.update(TOWER)
    config.data.train = config.data.test = CORPUS
    config.batch_size, config.log_every = 64, 50
    config.eval.batch_size = 64
    config.checkpoint.every_steps = 250
    return config


def digits():
    """A frame at a time, with all of its tokens: reading takes many looks, and these are cheap."""
    one = {"frames": (1,), "resolutions": (56,), "tokens": (16, 16)}
    config = small("fluxvit_ti14", "classify", (16,), **one)
    config.data.train = config.data.test = f"{CORPUS}?label=digit"
    config.num_classes, config.eval.grids = 10, ("1x56",)
    config.total_steps, config.optim.lr, config.optim.warmup_steps = 1000, 8e-3, 100
    return config


def motions():
    """Clips, with a classifier for each budget."""
    config = small("fluxvit_ti14", "classify")
    config.eval.grids = ("8x56",)
    config.total_steps, config.optim.lr, config.optim.warmup_steps = 150, 8e-3, 20
    config.pretrain = digits()
    return config


def get_config():
    config = small("flux_clip_ti14", "contrast")
    config.model.update({"text_depth": 2, "vocab_size": 400, "context_length": 32})
    config.contrast.vocabulary, config.contrast.tokenizer = "demo:captions", "file"
    config.data.test = f"{CORPUS}?distinct=label,digit,photo"
    config.total_steps, config.optim.lr, config.optim.warmup_steps = 350, 6e-3, 40
    config.eval.grids = ("8x56", "8x42", "3x56", "12x28", "6x28", "3x28")
    config.pretrain = motions()
    for run in (config.pretrain, config.pretrain.pretrain):
        run.data.dir = config.data.get_ref("dir")
    return config
