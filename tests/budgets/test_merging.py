"""Merge schedules against retrieval: the search, and the command on a small run."""

import itertools
import json

import jax
import numpy as np
import pytest

import fluxjax
from data_pipelines.text.bert import SPECIAL
from fluxjax.budgets import __main__ as command
from fluxjax.budgets.merging import ScheduledRetrieval, merges_by_schedule
from fluxjax.budgets.schedules import parse_schedule, saving, schedule_name, search
from fluxjax.config.keys import base_config
from fluxjax.models.umt_compute import encoder_gmacs
from fluxjax.tasks import create_task
from fluxjax.tokens.grids import Grid
from tests import tiny_run
from tests.models.test_umt import SIZES, TEXT

WAYS = ("left", "right", "up", "down", "in", "out")
B16 = fluxjax.create_model("umt_vision_b16", None)


def config_of(**data):
    config = base_config("umt_ti8", task="retrieve")
    config.model.update(SIZES | TEXT)
    config.grids.frames, config.grids.resolutions = (2,), (16,)
    config.eval.grids, config.eval.batch_size = ("2x16",), 4
    config.retrieve.length, config.retrieve.vocabulary = 6, "vocab.txt"
    config.data.update(data)
    return config


def test_schedules_are_read_as_they_are_written():
    for text, merge in (("600,200,100", (600, 200, 100)), ("0.25,10", (0.25, 10)), ("none", ())):
        assert parse_schedule(text) == merge and schedule_name(merge) == text
    with pytest.raises(ValueError, match="'6;2' must be numbers of tokens or shares"):
        parse_schedule("6;2")


def test_the_search_finds_schedules_of_a_saving():
    """Of B/16's 2352 tokens, multiples of a sixteenth, from early to late, all different."""
    assert saving(B16, (12, 14, 14), (600, 200, 100)) == pytest.approx(0.4134, abs=1e-3)
    found = search(B16, (12, 14, 14), 0.4, 6)
    assert len(set(found)) == 6
    plain = encoder_gmacs(B16, (12, 14, 14))
    for merge in found:
        assert 0.38 <= 1 - encoder_gmacs(B16, (12, 14, 14), merge) / plain <= 0.42, merge
        assert all(r % 147 == 0 for r in merge) and merge[-1] > 0 and len(merge) <= 4
        left = 2352
        for r in merge:
            assert r <= left // 2
            left -= r
    late = [np.average(range(len(merge)), weights=merge) for merge in found]
    assert all(a <= b for a, b in itertools.pairwise(late)) and late[0] < 0.5 < 1.5 < late[-1]
    with pytest.raises(ValueError, match=r"--save=0\.9: no schedule .* on 2352 tokens; the most"):
        search(B16, (12, 14, 14), 0.9, 6)


def test_each_plan_merges_by_its_schedule():
    grid = Grid(2, 16)
    task = ScheduledRetrieval(config_of(), {grid: ((), (8, 4), (0.25,))})
    assert list(task.eval_plans(grid)) == ["none", "8,4", "0.25"]
    variables = jax.jit(task.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    batch = {"video": rng.integers(0, 256, (2, 2, 16, 16, 3), np.uint8)}
    found = {}
    for name, plan in task.eval_plans(grid).items():
        found[name] = jax.jit(task.embed_video, static_argnums=2)(variables, batch, plan)
        config = config_of()
        config.retrieve.merge = parse_schedule(name)
        alone = create_task(config)
        wanted = jax.jit(alone.embed_video, static_argnums=2)(variables, batch, plan)
        np.testing.assert_allclose(found[name], wanted, atol=1e-6)
    for one, other in itertools.combinations(found.values(), 2):
        assert np.max(np.abs(one - other)) > 1e-4
    with pytest.raises(ValueError, match="block 0 cannot merge 40 of 32 tokens"):
        ScheduledRetrieval(config_of(), {grid: ((40,),)})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of random weights, and six captioned videos."""
    folder = tmp_path_factory.mktemp("merging")
    tiny_run.write_videos(folder / "videos", 6)
    entries = [{"video": f"{i}.mp4", "caption": way} for i, way in enumerate(WAYS)]
    (folder / "test.json").write_text(json.dumps(entries))
    (folder / "vocab.txt").write_text("\n".join((*SPECIAL, *WAYS)))
    config = config_of(test=str(folder / "test.json"), root=str(folder / "videos"))
    config.retrieve.vocabulary = str(folder / "vocab.txt")
    task = create_task(config)
    (folder / "run").mkdir()
    fluxjax.save(folder / "run" / "model", task.model, jax.jit(task.init)(jax.random.key(0)))
    (folder / "run" / "config.json").write_text(json.dumps(config.to_dict()))
    return folder / "run"


@pytest.mark.slow
def test_the_command_measures_and_searches(run, capsys):
    given = ["--checkpoint", str(run), "--batch-size", "8", "--repeats", "1"]
    assert command.main([*given, "--merge", "8,4", "--save", "0.25", "--tries", "2"]) == 0
    points = json.loads((run / "merging.json").read_text())["points"]
    merges = [tuple(point["merge"]) for point in points]
    assert merges[:2] == [(), (8, 4)] and len(merges) == 4
    assert [p["tokens_left"] for p in points[:2]] == [32, 20]
    for point in points:
        assert 6 * point["text_r1"] == pytest.approx(round(6 * point["text_r1"]))
        low, high = point["text_r1_interval"]
        assert low <= point["text_r1"] <= high and point["latency_ms"] > 0
    assert all(abs(p["saved"] - 0.25) <= 0.02 for p in points[2:]) and points[0]["saved"] == 0
    shown = capsys.readouterr().out
    assert "retrieval among 6 videos and 6 captions" in shown
    assert "|8,4|2x16|20|" in shown.replace(" ", "")


def test_what_does_not_apply_is_refused(run, capsys):
    for options, message in (
        (["--budgets", "8"], "--budgets does not apply to a Umt, which merges by a schedule"),
        (["--save", "0.9"], "no schedule of the first 4 blocks saves that share"),
        (["--merge", "a"], "must be numbers of tokens or shares"),
        (["--merge", "99"], "cannot merge 99 of 32 tokens"),
    ):
        assert command.main(["--checkpoint", str(run), *options]) == 1
        assert message in capsys.readouterr().err
    assert not merges_by_schedule(fluxjax.create_model("fluxvit_ti14", 2, budgets=(4,)))
