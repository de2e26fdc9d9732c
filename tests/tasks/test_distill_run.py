"""A whole chain by the commands: teacher, distillation, fine-tuning; and its evaluation."""

import json

import numpy as np
import pytest

import fluxjax
from fluxjax import evaluate, main
from fluxjax.config.keys import base_config
from tests import tiny, tiny_run
from tests.tasks.distill_tiny import TEACHER, distill_config


def chain(folder):
    """Configs of two steps each on videos in `folder`."""
    finetune = tiny.get_config()
    finetune.model.update({"depth": 2})
    student = distill_config(None)
    student.model.layer_scale = 1.0
    student.grids.frames, student.grids.resolutions = (2, 4), (28,)
    student.grids.max_tokens = 16
    student.pretrain_for = "distill.teacher"
    teacher = teacher_config()
    for config in (finetune, student, teacher):
        config.total_steps, config.optim.warmup_steps, config.checkpoint.every_steps = 2, 0, 100
        config.data.train = config.data.test = str(folder / "list.txt")
        config.data.root, config.eval.every_steps = str(folder), 0
    student.pretrain = teacher
    finetune.pretrain = student
    return finetune


def teacher_config():
    config = base_config("internvideo2_ti14")
    config.model.update(TEACHER)
    config.method, config.budgets, config.num_classes = "cross_entropy", (), 4
    config.grids.frames, config.grids.resolutions = (4,), (28,)
    config.grids.min_tokens = config.grids.max_tokens = 16
    config.eval.grids, config.eval.budgets, config.eval.batch_size = ("4x28",), (16,), 8
    config.batch_size, config.log_every, config.data.flip = 8, 1, False
    return config


@pytest.mark.slow
def test_teacher_student_and_classifier_in_one_command(tmp_path, capsys):
    tiny_run.write_videos(tmp_path / "videos", 8)
    config = chain(tmp_path / "videos")
    run = tmp_path / "run"
    main.run(config, run)
    student, variables = fluxjax.load(run / "pretrain" / "model")
    assert type(student).__name__ == "FluxStudent" and set(variables) == {"params"}
    teacher = run / "pretrain" / "pretrain" / "model"
    assert type(fluxjax.load(teacher)[0]).__name__ == "InternVideo2"
    final, _ = fluxjax.load(run / "model")
    assert type(final).__name__ == "FluxViT" and final.num_classes == 4
    (manifest,) = (run / "pretrain" / "checkpoints").glob("*/manifest.json")
    own = json.loads(manifest.read_text())["config"]["distill"]
    assert own["teacher"] == str(teacher) and len(own["teacher_hash"]) == 64
    table = json.loads((run / "pretrain" / "held_out.json").read_text())
    losses = {row["loss"]: row["mean"] for row in table["rows"]}
    assert set(losses) == {f"{part}_{b}" for part in ("middle", "final") for b in (8, 6, 4)}
    assert all(0 < x < 4 and np.isfinite(x) for x in losses.values())
    capsys.readouterr()
    assert evaluate.main(["--checkpoint", str(run / "pretrain")]) == 0
    printed = capsys.readouterr().out
    for name, value in losses.items():
        assert name in printed and f"{value:.4f}" in printed
