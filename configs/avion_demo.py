"""AVION in small: videos and captions of the demo corpus in one space.

python -m fluxjax.main --config configs/avion_demo.py --workdir runs/avion
    Trains a dual encoder from random weights on clips with captions ("the digit seven moves to the
    left over a flower photo"), then searches held-out videos by caption, and the other way round,
    and names motions by their texts alone.
    Score: not yet measured.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.demo import demo

FRAMES, SIDE, PATCH = 8, 48, 8


def get_config():
    config = base_config("avion_ti8", "contrast")
    tokens = FRAMES * (SIDE // PATCH) ** 2
    demo(config, budgets=(), frames=(FRAMES,), resolutions=(SIDE,), tokens=(tokens, tokens))
    config.model.update({
        "width": 64, "depth": 4, "num_frames": FRAMES, "grid": (SIDE // PATCH,) * 2,
        "position_scale": 2.0,  # from random weights, strong positions are learnt from much sooner
        "vocab_size": 400, "context_length": 48,
    })  # fmt: skip
    config.contrast.vocabulary, config.contrast.tokenizer = "demo:captions", "file"
    config.data.train = config.data.test = "demo:captions"
    config.data.sampling = "sparse"
    config.batch_size, config.total_steps, config.log_every = 64, 600, 20
    config.optim.lr, config.optim.warmup_steps = 8e-3, 60
    config.eval.grids, config.eval.budgets = (f"{FRAMES}x{SIDE}",), (tokens,)
    config.eval.batch_size = 64
    config.eval.evaluators = ("retrieval", "zero_shot")
    config.eval.every_steps = 0
    config.checkpoint.every_steps = 200
    return config
