"""`python -m fluxjax.budgets` on a small run and its videos, called in this process."""

import json

import pytest

from fluxjax.budgets import __main__ as command
from fluxjax.budgets.points import read_report
from fluxjax.budgets.source import SweepData, plain_grid, weights_digest
from fluxjax.serving.checkpoint import open_checkpoint
from fluxjax.tokens.grids import Grid
from tests import tiny_run
from tests.tasks.test_classify import task_and_variables


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("budgets")
    listed = tiny_run.write_videos(folder / "videos", 6)
    data = {"train": str(listed), "test": str(listed), "root": str(listed.parent)}
    return tiny_run.write_run(folder / "run", **data)


def options(run, *more):
    return command.parser().parse_args(["--checkpoint", str(run), *more])


@pytest.mark.slow
def test_the_sweep_of_a_run_from_its_folder_alone(run, capsys):
    given = ["--workdir", str(run), "--batch-size", "4", "--repeats", "1", "--pictures", "2"]
    given += ["--grids", "4x28", "--budgets", "8", "--methods", "group_dynamic,merge,none"]
    assert command.main(given) == 0
    report = read_report(run / "budgets.json")
    assert [(p.method, p.budget, p.videos) for p in report.points] == [
        ("group_dynamic", 8, 6), ("merge", 8, 6), ("none", 16, 6),
    ]  # fmt: skip
    page = (run / "report.html").read_text()
    assert page.count('class="plot"') == 2 and page.count('class="picture"') == 2 * 2
    assert "4x28, 8 tokens (merge), head 0: " in page and "test video 5: right" in page
    names = {path.name for path in (run / "figures").iterdir()}
    assert {"top1_gmacs.svg", "top1_latency_ms.png", "kept_0.png", "kept_3.png"} <= names
    shown = capsys.readouterr().out
    assert shown.count("| budget |") == 2 and "report.html" in shown
    # Another part of the data is another subject; a new method is measured beside the others.
    assert command.main([*given, "--videos", "3"]) == 1
    assert "videos was 6, is 3" in capsys.readouterr().err
    given[-1] = "group_dynamic,uniform"
    assert command.main(given) == 0
    again = read_report(run / "budgets.json").points
    assert again[:3] == report.points and again[3].method == "uniform"


def test_what_the_run_says_is_the_default(run):
    checkpoint = open_checkpoint(run)
    data = SweepData.open(options(run), checkpoint)
    assert data.num_videos == 6 and data.default_budgets() == (8, 4)
    assert data.default_grids((8, 4)) == [Grid(4, 28), Grid(2, 28), Grid(2, 28), Grid(4, 14)]
    subject = data.subject()
    assert subject["split"] == "test" and subject["checkpoint"] == weights_digest(
        checkpoint.variables
    )
    part = SweepData.open(options(run, "--videos", "3"), checkpoint)
    names = [part.catalog[i].name.rpartition("/")[2] for i in range(part.num_videos)]
    assert names == ["0.mp4", "2.mp4", "5.mp4"], "not evenly chosen"


def test_batches_hold_exactly_the_tokens_of_the_grid(run):
    data = SweepData.open(options(run, "--batch-size", "4", "--clips", "2"), open_checkpoint(run))
    batches = list(data.batches(Grid(2, 28), 1))
    assert len(batches) == 1, "the first batch was asked to be left out"
    assert batches[0]["patches"].shape == (4, 2, 8, 588)
    assert batches[0]["label"].tolist()[:2] == [0, 1]
    assert batches[0]["weight"].tolist() == [1, 1, 0, 0]


def test_digests_tell_weights_apart():
    _, variables = task_and_variables()
    changed = dict(variables["params"])
    changed["cls_token"] = changed["cls_token"] + 1e-3
    digest = weights_digest(variables)
    assert len(digest) == 16 and digest == weights_digest(variables)
    assert digest != weights_digest({"params": changed})


@pytest.mark.parametrize(
    ("budget", "frames", "grid"),
    [(48, (4, 6, 8), "4x42"), (24, (4, 6, 8), "6x28"), (12, (4, 6, 8), "8x14"),
     (512, (4, 8, 16), "8x112"), (3, (4, 8), "1x14"), (1024, (4, 8, 16), "4x224")],
)  # fmt: skip
def test_the_largest_plain_grid_within_a_budget(budget, frames, grid):
    found = plain_grid(budget, frames, 14)
    assert str(found) == grid and found.tokens(14) <= budget


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--clips", "0"], "--clips=0 must be at least 1"),
        (["--batch-size", "0"], "--batch-size=0 must be at least 1"),
        (["--budgets", "8;4"], "--budgets=8;4 must be whole numbers"),
        (["--methods", "best"], "unknown method 'best'"),
        (["--grids", "4x30"], "30 pixels are not a multiple"),
        (["--videos", "7"], "--videos=7; there are 1 to 6"),
        (["--data", "missing.txt"], "there is no list file missing.txt"),
        (["--sampling", "dense"], "--sampling=dense: 'dense' lacks the frames from one sample"),
    ],
)
def test_mistakes_are_named(run, more, message, capsys):
    assert command.main(["--workdir", str(run), *more]) == 1
    assert message in capsys.readouterr().err
    assert not (run / "budgets.partial.json").exists()


def test_videos_none_of_which_is_there_end_it_before_anything_is_compiled(
    run, tmp_path, capsys, monkeypatch
):
    monkeypatch.delattr(command, "Sweep")
    (tmp_path / "list.txt").write_text("gone/a.mp4 0\ngone/b.mp4 3\n")
    assert command.main(["--workdir", str(run), "--data", str(tmp_path / "list.txt")]) == 1
    message = capsys.readouterr().err
    assert "none of the 2 videos that were looked for is there, the first is gone/a.mp4" in message


def test_a_checkpoint_without_a_run_needs_data_and_grids(run, tmp_path, capsys):
    moved = tmp_path / "moved"
    moved.symlink_to(run / "model")
    assert command.main(["--checkpoint", str(moved)]) == 1
    assert "belongs to no run; pass --data" in capsys.readouterr().err
    data = json.loads((run / "config.json").read_text())["data"]
    where = ["--data", data["test"], "--root", data["root"]]
    assert command.main(["--checkpoint", str(moved), *where]) == 1
    assert "pass --grids" in capsys.readouterr().err
    assert {p.name for p in moved.iterdir()} == {
        "architecture.json", "manifest.json", "manifest.json.sha256", "weights",
    }  # fmt: skip
