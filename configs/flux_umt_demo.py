"""FluxViT from its beginning, in small: teacher, Flux pre-training, Flux fine-tuning.

python -m fluxjax.main --config configs/flux_umt_demo.py --workdir runs/flux_umt
    Trains a small InternVideo2 on the demo corpus, distils it into a FluxViT half as wide, on the
    same clips without their labels, and fine-tunes that at three budgets. The first two runs are in
    runs/flux_umt/pretrain/pretrain and runs/flux_umt/pretrain.

python -m fluxjax.main --config configs/flux_umt_demo.py:scratch --workdir runs/scratch
    The same fine-tuning from random weights, for comparison.

python -m fluxjax.main --config configs/flux_umt_demo.py:teacher --workdir runs/teacher
python -m fluxjax.main --config configs/flux_umt_demo.py:student --workdir runs/student \
    --config.distill.teacher=runs/teacher
    The first two runs by themselves.

Time: 6 minutes on 2 CPU cores that other work shared; the corpus made before.
Score: 66.4 % held-out top-1 on 8x56 at 48 tokens, 72.3 % at 24, 63.1 % at 12; from random weights
25.0, 46.3 and 49.4 % (512 videos; chance 25 %). The teacher has 90.4 % at 32 tokens. Three seeds:
68.2, 75.5 and 68.4 % on average against 25.7, 38.5 and 42.8 %, ahead on each at every budget.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.demo import demo

CORPUS = "demo:easy"
BUDGETS = (48, 24, 12)


def on_corpus(model, budgets, task="classify"):
    config = demo(base_config(model, task), budgets)
    config.data.train = config.data.test = CORPUS
    config.eval.grids, config.eval.batch_size = ("8x56",), 64
    config.batch_size, config.log_every = 32, 20
    config.optim.warmup_steps = 40
    config.checkpoint.every_steps = 200
    return config


def teacher():
    """InternVideo2 of 4 layers, on 32 of the 128 tokens of one grid: with all it learns slowly."""
    config = on_corpus("internvideo2_ti14", ())
    config.model.layer_scale, config.model.position_scale = 1.0, 4.0
    config.method, config.single_budget = "cross_entropy", 32
    config.grids.frames, config.grids.resolutions = (8,), (56,)
    config.eval.budgets = (32,)
    config.total_steps, config.optim.lr = 300, 8e-3
    return config


def distilled():
    """A student half as wide; the teacher sees 48 tokens of each clip, it sees 48, 36 and 24."""
    config = on_corpus("fluxvit_student_ti14", (48, 36, 24), "distill")
    config.model.update(STUDENT)
    config.distill.tokens, config.distill.teacher_interval = 48, 2.0
    config.grids.min_tokens = 48
    config.total_steps, config.optim.lr = 200, 8e-3
    return config


STUDENT = {"width": 64, "depth": 4, "num_heads": 4, "layer_scale": 1.0, "position_scale": 4.0}


def get_config(variant="pretrained"):
    if variant == "teacher":
        return teacher()
    if variant == "student":  # of a teacher that config.distill.teacher names
        return distilled()
    config = on_corpus("fluxvit_ti14", BUDGETS)
    config.model.update(STUDENT)
    config.total_steps, config.optim.lr, config.optim.warmup_steps = 100, 8e-3, 20
    if variant == "scratch":
        return config
    if variant != "pretrained":
        raise ValueError(
            f"unknown variant {variant!r} of flux_umt_demo; known: pretrained, scratch, teacher, "
            "student"
        )
    config.pretrain = distilled()
    config.pretrain.pretrain, config.pretrain.pretrain_for = teacher(), "distill.teacher"
    config.pretrain.data.dir = config.data.get_ref("dir")
    config.pretrain.pretrain.data.dir = config.data.get_ref("dir")
    return config
