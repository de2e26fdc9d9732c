"""Flux-CLIP in small: videos at three token budgets and captions in one space.

python -m fluxjax.main --config configs/flux_clip_demo.py --workdir runs/flux_clip
    Trains a small FluxViT and a text tower from random weights on clips with captions ("the digit
    seven moves to the left over a flower photo"), then searches held-out videos by caption, and the
    other way round, at three budgets: on plain grids of as many tokens, and with tokens selected
    from larger grids (Token Optimization).

Score: not yet measured.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.demo import demo


def get_config():
    config = base_config("flux_clip_ti14", "contrast")
    demo(config, budgets=(48, 24, 12))
    config.model.update({
        "width": 64, "layer_scale": 1.0, "position_scale": 4.0, "vocab_size": 400,
        "context_length": 48,
    })  # fmt: skip
    config.contrast.vocabulary, config.contrast.tokenizer = "demo:captions", "file"
    config.data.train = config.data.test = "demo:captions"
    config.grids.min_tokens = 48
    config.batch_size, config.total_steps, config.log_every = 64, 600, 20
    config.optim.lr, config.optim.warmup_steps = 8e-3, 60
    config.eval.grids, config.eval.batch_size = ("8x56", "8x42", "6x28", "3x28"), 64
    config.checkpoint.every_steps = 200
    return config
