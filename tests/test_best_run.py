"""The real command by epochs, evaluated on the way, with its best model kept."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.checkpoints.inference import read_architecture, save
from tests import test_main, tiny_run

NAME = "top1_8@4x28"
CONFIG = """
from tests import tiny

def get_config():
    config = tiny.get_config()
    config.eval.every_steps, config.optim.lr = None, 0.5
    config.optim.warmup_steps = None
    return config
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(arguments of the command, its workdir, its log)."""
    folder = tmp_path_factory.mktemp("run")
    videos = tiny_run.write_videos(folder / "videos", 12)
    (folder / "config.py").write_text(CONFIG)
    arguments = test_main.command(videos, folder / "run", f"--config.checkpoint.best={NAME}")
    arguments[arguments.index("tests/tiny.py")] = str(folder / "config.py")
    result = test_main.finished([*arguments, "--config.epochs=3"])
    assert result.returncode == 0, result.stderr
    return [*arguments, "--config.epochs=3"], folder / "run", result.stderr


def measured(run):
    """Step -> what evaluation gave there, by log.jsonl."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line[f"eval/{NAME}"] for line in lines if f"eval/{NAME}" in line}


@pytest.mark.slow
def test_the_best_of_its_evaluations_is_kept(finished, tmp_path):
    _, run, log = finished
    assert "3 epochs of 12 videos are 5 steps of 8 clips" in log
    config = json.loads((run / "config.json").read_text())
    assert (config["total_steps"], config["epochs"], config["eval"]["every_steps"]) == (5, None, 2)
    values = measured(run)
    assert list(values) == [2, 4, 5]
    best = read_architecture(run / "best")
    assert best.step == max(values, key=values.get), "the first of equal ones"
    assert best.scores[NAME] == values[best.step] and len(best.scores) == 4
    fluxjax.load(run / "best")
    for folder, step in ((run / "best", best.step), (run, 5)):
        output = tmp_path / str(step) / folder.name
        looked = test_main.finished(test_main.evaluate(folder, f"--output={output}"))
        assert looked.returncode == 0, looked.stderr
        table = json.loads((output / "evaluation.json").read_text())
        assert (table["step"], table["rows"][0]["top1"]) == (step, values[step])


@pytest.mark.slow
def test_a_resumed_run_does_not_replace_a_better_one(finished, tmp_path):
    arguments, run, _ = finished
    again = tmp_path / "again"
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / "5")
    model, variables = fluxjax.load(again / "best")
    save(again / "best", model, variables, step=3, scores={NAME: 1.5}, overwrite=True)
    arguments = [a.replace(f"--workdir={run}", f"--workdir={again}") for a in arguments]
    result = test_main.finished(arguments)
    assert result.returncode == 0, result.stderr
    assert re.search(rf"the best so far is of step 3: {re.escape(NAME)}=1.5", result.stderr)
    assert read_architecture(again / "best").scores == {NAME: 1.5}
    # The same end as before: the stored run goes on by the same schedule.
    ours, theirs = (fluxjax.load(folder / "model")[1] for folder in (again, run))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.slow
def test_without_test_videos_nothing_is_evaluated(finished, tmp_path):
    arguments, run, _ = finished
    arguments = [a.replace(f"--workdir={run}", f"--workdir={tmp_path}") for a in arguments]
    arguments.remove("--config.epochs=3")
    result = test_main.finished([
        *arguments, "--config.data.test=", "--config.checkpoint.best=", "--config.total_steps=2",
    ])  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "names no videos: nothing will be evaluated" in result.stderr
    assert not (tmp_path / "evaluation.json").exists() and (tmp_path / "model").is_dir()
