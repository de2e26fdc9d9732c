"""UMT in small: a video encoder learns digits and how they move, then captions say so.

python -m fluxjax.main --config configs/umt_demo.py --workdir runs/umt
    Three runs, one after the other: a classifier of digits on single frames, from it one of digits
    and motions on two frames (both under runs/umt/pretrain), and from its encoder a model of video
    and text. Captions search held-out clips, of which no two are described alike, and the other
    way round.

python -m fluxjax.main --config configs/umt_demo.py:qa --workdir runs/umt_qa \
    --config.init_from=runs/umt
    Learns to answer questions from there; "which way does the seven move?" of held-out clips.

Time: 12 minutes on one CPU core, and 3 for the questions.
Score: R@1 among 80 held-out videos, chance 1.25 %: 42.1, 52.5 and 46.7 % of captions, 38.8, 47.5
and 43.8 % of videos (seeds 0 to 2 of the last run, after one pre-training). Which way: 79.5 % of
512 held-out videos, chance 25 %.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.demo import demo

SIDE, PATCH, FRAMES = 48, 8, 2
ROWS = SIDE // PATCH


def small(name, task, frames=FRAMES):
    config = base_config(name, task)
    patches = frames * ROWS**2
    # From random weights, strong positions are learnt from sooner.
    config.model.update({
        "width": 64, "depth": 4, "patch": PATCH, "position_scale": 2.4,
        "grid": (frames, ROWS, ROWS),
    })  # fmt: skip
    demo(config, (), (frames,), (SIDE,), (patches, patches))
    config.data.train = config.data.test = "demo:captions_easy"
    config.batch_size, config.log_every = 64, 50
    config.eval.grids, config.eval.budgets = (f"{frames}x{SIDE}",), (patches,)
    config.eval.batch_size = 64
    config.checkpoint.every_steps = 250
    return config


def digits():
    """The encoder as a classifier of digits, on single frames."""
    config = small("umt_classifier_ti8", "classify", frames=1)
    config.data.train = config.data.test = "demo:captions_easy?classes=digit"
    config.method, config.total_steps = "cross_entropy", 1200
    config.optim.lr, config.optim.warmup_steps = 8e-3, 100
    return config


def digits_and_motions():
    """The same on two frames, a class for each digit that moves in a way."""
    config = small("umt_classifier_ti8", "classify")
    config.data.train = config.data.test = "demo:captions_easy?classes=label,digit"
    config.method, config.total_steps = "cross_entropy", 600
    config.optim.lr, config.optim.warmup_steps = 8e-3, 40
    config.pretrain = digits()
    return config


def with_text(task):
    config = small("umt_ti8", task)
    # Weights of 1 / sqrt(width): with BERT's, words would hardly reach the token that is read.
    config.model.update({
        "text_init_std": 0.125, "text_dropout": 0.0, "text_depth": 3, "text_hidden": 128,
        "fusion_layer": 2,
    })  # fmt: skip
    config[task].vocabulary = "demo:captions"
    config.optim.lr, config.optim.warmup_steps = 6e-3, 40
    return config


def get_config(variant="retrieval"):
    if variant not in ("retrieval", "qa"):
        raise ValueError(f"unknown variant {variant!r} of umt_demo; known: retrieval, qa")
    if variant == "qa":
        config = with_text("answer")
        config.data.train = "demo:captions_easy?ask=all"
        config.data.test = "demo:captions_easy?ask=motion"
        config.answer.length, config.answer.answer_length = 8, 6
        config.total_steps = 400
        return config
    config = with_text("retrieve")
    config.data.test = "demo:captions_easy?distinct=label,digit,photo"
    config.retrieve.length, config.total_steps = 16, 400
    config.pretrain = digits_and_motions()
    for run in (config.pretrain, config.pretrain.pretrain):
        run.data.dir, run.seed = config.data.get_ref("dir"), config.get_ref("seed")
    return config
