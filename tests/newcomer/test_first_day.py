"""A newcomer's first day: README's commands, one after the other, on videos of their own.

From a wheel, in a folder outside of the clone: train, evaluate, predict, measure budgets, export,
serve. Each command is README's own, with options that make it short.
"""

import csv
import json
import subprocess
import zipfile

import numpy as np
import pytest

from tests.docs import commands
from tests.newcomer import environment, moving

README = environment.ROOT / "README.md"
SHORT = [
    "--config.total_steps=100", "--config.optim.warmup_steps=20",
    "--config.checkpoint.every_steps=100",
]  # fmt: skip
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return environment.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def day(tmp_path_factory, wheel):
    folder = tmp_path_factory.mktemp("day")
    return Day(folder, environment.make(folder / "env", wheel))


class Day:
    """A folder of somebody's own, and the Python of their environment."""

    def __init__(self, folder, python):
        self.folder, self.python = folder, python

    def run(self, *words, cwd=None):
        """Standard output and error of `python WORDS..`, which must end with exit status 0."""
        result = subprocess.run(
            [self.python, *words], cwd=cwd or self.folder, env=environment.variables(),
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert result.returncode == 0, f"{words}\n{result.stdout[-2000:]}{result.stderr[-3000:]}"
        return result

    def readme(self, module, *more, without=()):
        """README's command `python -m MODULE` on runs/mine, with more options."""
        (words,) = {
            c.words for c in commands.of_page(README)
            if commands.module_of(c.words) == module and "runs/mine" in c.words
        }  # fmt: skip
        return self.run(*(word for word in words[1:] if word not in without), *more)


def test_the_wheel_is_whole(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    for package in ("fluxjax", "data_pipelines"):
        modules = (environment.ROOT / package).rglob("*.py")
        wanted = {path.relative_to(environment.ROOT).as_posix() for path in modules}
        assert not wanted - held
        assert f"{package}/py.typed" in held
    recipes = (environment.ROOT / "configs").glob("*.py")
    assert not {f"fluxjax/configs/{path.name}" for path in recipes} - held
    tops = {name.split("/")[0] for name in held}
    assert {name for name in tops if not name.endswith(".dist-info")} == {
        "fluxjax", "data_pipelines"
    }, "a package of ours with everybody's name"  # fmt: skip


def test_the_clone_is_not_in_sight(day):
    program = "import fluxjax, data_pipelines; print(fluxjax.__file__, data_pipelines.__file__)"
    found = day.run("-c", program).stdout
    assert found.count("site-packages") == 2 and str(environment.ROOT) not in found


def test_a_folder_of_the_same_name_does_not_break_ours(day):
    theirs = day.folder / "theirs" / "data_pipelines"
    theirs.mkdir(parents=True)
    (theirs / "__init__.py").write_text("raise RuntimeError('theirs')\n")
    for module in ("main", "predict", "evaluate", "budgets", "export"):
        day.run("-m", f"fluxjax.{module}", *_help(module), cwd=theirs.parent)
    program = "import data_pipelines"  # a program of their own has their own
    with pytest.raises(AssertionError, match="RuntimeError: theirs"):
        day.run("-c", f"import fluxjax; {program}", cwd=theirs.parent)


def _help(module):
    return ["--config_help"] if module == "main" else ["--help"]


def test_from_videos_to_a_served_answer(day):
    moving.write_all(day.folder / "videos")
    trained = day.readme("fluxjax.main", *SHORT)
    run = day.folder / "runs" / "mine"
    accuracy = _check_training(trained, run)
    _check_evaluation(day, accuracy)
    predicted = _check_prediction(day)
    _check_budgets(day, run, accuracy)
    _check_serving(day, predicted)


def _check_training(result, run):
    """Accuracy by budget, from the table's file."""
    log = result.stderr
    assert "CPU cores" in log and "48 train and 12 test videos, 2 classes" in log
    assert log.index("compiling train step") < log.index("compiled train step")
    for noise in ("cuInit", "cudart", "InitializeLog", "Traceback", "TensorRT", "oneDNN"):
        assert noise not in log, noise
    assert max(len(line) for line in log.splitlines() if "step " in line) <= 120
    config = json.loads((run / "config.json").read_text())
    assert (config["num_classes"], config["total_steps"]) == (2, 100)
    rows = list(csv.DictReader((run / "evaluation.csv").open()))
    assert [row["budget"] for row in rows] == ["48", "24", "12"]
    accuracy = {int(row["budget"]): float(row["top1"]) for row in rows}
    assert accuracy[48] >= 0.75, "left and right are not told apart"
    return accuracy


def _check_evaluation(day, accuracy):
    printed = day.readme("fluxjax.evaluate", "--evaluators", "classification").stdout
    for budget, share in accuracy.items():
        assert f"|     {budget} | 8x56 |" in printed and f" {share:.1%} (" in printed


def _check_prediction(day):
    """Probabilities by class of a video, at 24 tokens."""
    (day.folder / "clip.mp4").write_bytes((day.folder / "videos/test/left/0.mp4").read_bytes())
    lines = day.readme("fluxjax.predict", "--json").stdout.splitlines()
    (found,) = (json.loads(line) for line in lines if line.startswith("{"))
    assert (found["video"], found["budget"], found["grid"]) == ("clip.mp4", 24, "8x56")
    assert {entry["label"] for entry in found["predictions"]} == {"left", "right"}
    assert (day.folder / "lit.mp4").stat().st_size > 1000
    return {entry["label"]: entry["probability"] for entry in found["predictions"]}


def _check_budgets(day, run, accuracy):
    day.readme("fluxjax.budgets", "--grids=8x56", "--budgets=24,12", "--methods=group_dynamic",
               "--repeats=1", "--pictures=1")  # fmt: skip
    points = json.loads((run / "budgets.json").read_text())["points"]
    assert {p["budget"]: p["top1"] for p in points} == pytest.approx(
        {budget: accuracy[budget] for budget in (24, 12)}
    )
    assert "<html" in (run / "report.html").read_text()


_CLIP = """
import numpy as np
from data_pipelines.clips.views import eval_views
from data_pipelines.sources.records import Record
from fluxjax.tokens.grids import Grid
(view,) = eval_views(Record("clip.mp4", -1, "clip.mp4"), Grid(8, 56))
np.save("clips.npy", view[None])
"""


def _check_serving(day, predicted):
    day.readme("fluxjax.export", "--grid=8x56")
    out = day.folder / "out"
    assert json.loads((out / "labels.json").read_text()) == ["left", "right"]
    day.run("-c", _CLIP)
    server = environment.ROOT / "examples" / "serve.py"
    answer = day.run(server, "out", "24", "clips.npy", "logits.npy").stdout.split()
    assert answer == [max(predicted, key=predicted.get)]
    logits = np.load(day.folder / "logits.npy").astype(np.float64)
    shares = np.exp(logits - logits.max())[0]
    shares /= shares.sum()
    np.testing.assert_allclose(shares, [predicted["left"], predicted["right"]], atol=2e-5)
