"""UMT's sampling: frames (vid-TLDR's fixture, u08), multi-scale crops (u08), schedule (u06)."""

import random
import re

import jax
import numpy as np
import pytest

from data_pipelines.clips.interval_sampling import intervals, rate_frames
from data_pipelines.clips.sampling import frame_sampler, ssv2_train_frames
from data_pipelines.clips.training_crops import crop_places, crop_sizes, multi_scale_crop
from fluxjax.evaluation.retrieval_metrics import ranks, summary
from fluxjax.training.schedules import warmup_cosine
from tests.golden import fixture


class PythonDraws:
    """The reference's draws: Python's `random`, and NumPy's for whole permutations."""

    def __init__(self, seed):
        random.seed(seed)
        np.random.seed(seed)

    def integers(self, low, high):
        return np.array([random.choice(range(a, b)) for a, b in zip(low, high, strict=True)])

    def permutation(self, count):
        return np.random.permutation(count)


def cases(prefix):
    case = fixture("vidtldr", "vidtldr_metrics_sampling")
    for name, frames in case.outputs.items():
        if found := re.fullmatch(prefix + r"/f(\d+)/len(\d+)", name):
            yield int(found[2]), int(found[1]), frames


def test_middle_frames_and_intervals():
    sampler = frame_sampler("interval")
    for n, t, frames in cases("frames_middle"):
        np.testing.assert_array_equal(sampler.test(n, t, 0, 1), frames)
    for n, t, edges in cases("frames_intervals"):
        first, last = intervals(n, t)
        np.testing.assert_array_equal(first, edges[:-1])
        np.testing.assert_array_equal(last + 1, edges[1:])


def test_random_frames():
    seed = fixture("vidtldr", "vidtldr_metrics_sampling").meta["seed"]
    for n, t, frames in cases("frames_rand"):
        drawn = frame_sampler("interval").train(n, t, PythonDraws(seed))
        np.testing.assert_array_equal(drawn, frames)


def test_frames_at_a_rate():
    outputs = fixture("vidtldr", "vidtldr_metrics_sampling").outputs
    for name, frames in outputs.items():
        if found := re.fullmatch(r"frames_fps([\d.]+)/len(\d+)_fps([\d.]+)(_max\d+)?", name):
            rate, n, fps = float(found[1]), int(found[2]), float(found[3])
            times = np.arange(n) / fps
            sampled = rate_frames(n, len(frames), rate, times)
            np.testing.assert_array_equal(sampled, frames)
            if not found[4]:  # that was all of the video
                longer = rate_frames(n, len(frames) + 2, rate, times)
                np.testing.assert_array_equal(longer, [*frames, frames[-1], frames[-1]])
    assert frame_sampler("fps:1", np.arange(5) / 30).test(5, 2, 0, 1).tolist() == [0, 0]
    with pytest.raises(ValueError, match="'fps:0' lacks the frames a second"):
        frame_sampler("fps:0")


def test_frames_of_pretraining():
    """Segments as SSv2's; where the reference repeats frame 0 of short videos, ours spread."""
    case = fixture("umt", "u08")
    for meta in case.meta["cases"]:
        n, t, name = meta["video_frames"], meta["segments"], f"c{meta['case']}"
        draws = type("Draws", (), {"integers": lambda self, high, size, d=name: (
            case.inputs[f"{d}/draws"])})()  # fmt: skip
        frames = ssv2_train_frames(n, t, draws)
        if n >= t:
            np.testing.assert_array_equal(frames, case.outputs[f"{name}/frame_ids"])
        else:
            assert not np.any(case.outputs[f"{name}/frame_ids"])
            assert frames[-1] > 0 and np.all(np.diff(frames) >= 0)


def test_multi_scale_crops():
    case = fixture("umt", "u08")
    for meta in case.meta["crops"]:
        name, height, width = f"crop{meta['case']}", meta["image_h"], meta["image_w"]
        sizes = crop_sizes(height, width, meta["output"])
        swapped = [(columns, rows) for rows, columns in sizes]
        np.testing.assert_array_equal(swapped, case.outputs[f"{name}/pairs_wh"])
        places = [[(x, y) for y, x in crop_places(height, width, *size)] for size in sizes]
        np.testing.assert_array_equal(places, case.outputs[f"{name}/offsets_xy"])
        rng = np.random.default_rng(0)
        boxes = {multi_scale_crop(height, width, meta["output"], rng) for _ in range(2000)}
        assert {(box.height, box.width) for box in boxes} == set(sizes)
        assert all(box.top + box.height <= height for box in boxes)


@pytest.mark.parametrize("number", range(4))
def test_schedule(number):
    case = fixture("umt", "u06")
    meta = case.meta["cases"][number]
    warmup = meta["warmup_steps"]
    if warmup < 0:
        warmup = meta["warmup_epochs"] * meta["iters_per_epoch"]
    total = meta["epochs"] * meta["iters_per_epoch"]
    schedule = warmup_cosine(meta["base"], meta["final"], total, warmup, meta["start_warmup_value"])
    case.check(f"c{number}/values", jax.vmap(schedule)(np.arange(total)))


@pytest.mark.parametrize("number", range(3))
def test_retrieval_metrics(number):
    """Percentages from tables of scores, one or several right answers in either direction."""
    case = fixture("vidtldr", "vidtldr_metrics_sampling")
    found = {}
    for prefix, table, right in (("txt", "i2t", "img2txt"), ("img", "t2i", "txt2img")):
        scores = case.inputs[f"s{number}/{table}"]
        answers = case.meta["sets"][number][right]
        answers = [np.atleast_1d(answers[str(row)]) for row in range(len(scores))]
        found_ranks = ranks(scores, np.eye(scores.shape[1], dtype=scores.dtype), answers)
        shares = summary(found_ranks)
        for k in (1, 5, 10):
            found[f"{prefix}_r{k}"] = 100 * shares[f"recall_at_{k}"]
        found[f"{prefix}_r_mean"] = np.mean([found[f"{prefix}_r{k}"] for k in (1, 5, 10)])
    found["r_mean"] = (found["txt_r_mean"] + found["img_r_mean"]) / 2
    values = [round(found[name], 2) for name in case.meta["metric_columns"]]
    np.testing.assert_allclose(values, case.outputs[f"s{number}/metrics"], atol=0.011)
