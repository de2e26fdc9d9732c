"""Flux-CLIP in small: videos at three token budgets and captions in one space.

python -m fluxjax.main --config configs/flux_clip_demo.py --workdir runs/flux_clip
    Trains a small FluxViT to tell motions apart at three budgets, whose run is in
    runs/flux_clip/pretrain, and from it a dual encoder of clips and captions ("the digit seven
    moves to the left over a flower photo"). Then captions search held-out clips, of which no two
    are described alike, and the other way round: on plain grids of as many tokens as the budget
    (3x56 and 12x28 have 48, 6x28 has 24, 3x28 has 12), and with tokens selected from larger grids
    (Token Optimization).

Time: 14.5 minutes on one CPU core that much other work shared, 5.4 of them its own.
Score: captions that find their clip first among 80, at 48, 24 and 12 tokens (chance 1.25 %):
14.6, 13.3 and 12.1 % with tokens selected from 8x42, 14.6, 13.3 and 9.2 % from 8x56, 12.9, 10.4 and
8.3 % on plain grids (240 captions). It knows what moves which way over what photo, and hardly a
digit: docs/systems/flux_pretraining.md has the whole table. The classifier has 95.5, 92.8 and
86.3 % of motions (512 clips, chance 25 %).
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.demo import demo

BUDGETS = (48, 24, 12)
TOWER = {"width": 64, "layer_scale": 1.0, "position_scale": 4.0}


def small(model, task):
    config = base_config(model, task)
    # With 28 pixels, so that small plain grids are none that training never saw.
    demo(config, BUDGETS, frames=(4, 6, 8, 12), resolutions=(28, 42, 56), tokens=(48, 128))
    config.model.update(TOWER)
    config.data.train = config.data.test = "demo:captions_easy"
    config.batch_size, config.log_every = 64, 20
    config.eval.batch_size = 64
    config.checkpoint.every_steps = 250
    return config


def motions():
    """The tower, with a classifier for each budget."""
    config = small("fluxvit_ti14", "classify")
    config.total_steps, config.optim.lr, config.optim.warmup_steps = 300, 8e-3, 40
    config.eval.grids = ("8x56",)
    return config


def get_config():
    config = small("flux_clip_ti14", "contrast")
    config.model.update({"text_depth": 2, "vocab_size": 400, "context_length": 32})
    config.contrast.vocabulary, config.contrast.tokenizer = "demo:captions", "file"
    config.data.test = "demo:captions_easy?distinct=label,digit,photo"
    config.total_steps, config.optim.lr, config.optim.warmup_steps = 300, 6e-3, 40
    config.eval.grids = ("8x56", "8x42", "3x56", "12x28", "6x28", "3x28")
    config.pretrain = motions()
    config.pretrain.data.dir = config.data.get_ref("dir")
    return config
