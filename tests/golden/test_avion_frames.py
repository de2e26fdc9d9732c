"""Frame numbers against AVION's loaders, fixture v12, and crops, v15 and v16."""

import numpy as np
import pytest

from data_pipelines.clips import window_sampling as windows
from tests.golden import fixture


class Drawn:
    """A generator whose draws are the fixture's."""

    def __init__(self, *draws):
        self._draws = list(draws)

    def random(self, size):
        return np.asarray(self._draws.pop(0))

    def integers(self, *_, **options):
        return np.asarray(self._draws.pop(0))

    def uniform(self, low, high):
        return low + self._draws.pop(0) * (high - low)


def test_frames_of_a_span():
    cases = fixture("avion", "v12").meta["segments"]
    assert len(cases) == 7
    for case in cases:
        start, count, parts = case["start"], case["end"] - case["start"], case["num_segments"]
        if not count:  # a span between two frames: the readers give it one
            continue
        frames = windows.uniform_test_frames(count, parts, 0, 1)
        assert (start + frames).tolist() == case["ids"]
        frames = windows.uniform_train_frames(count, parts, Drawn(case["uniform_draws"]))
        assert (start + frames).tolist() == case["ids_jitter"]


def test_frames_of_pre_training_on_kinetics():
    for case in fixture("avion", "v12").meta["kinetics"]:
        draws = [case["start_draw"]] if case["start_draw_upper"] else []
        frames = windows.jittered_train_frames(
            case["num_frames"], case["clip_length"], Drawn(*draws, case["shift_draws"]),
            stride=case["clip_stride"],
        )  # fmt: skip
        assert frames.tolist() == case["train_ids"]


def test_frames_of_fine_tuning_on_kinetics():
    for case in fixture("avion", "v12").meta["k400_finetune"]:
        count, length, stride = (case[k] for k in ("num_frames", "clip_length", "clip_stride"))
        frames = windows.window_train_frames(count, length, Drawn(case["end_draw"]), stride=stride)
        assert frames.tolist() == case["train_or_val_ids"]
        for clip, expected in enumerate(case["test_segment_ids"]):
            frames = windows.window_test_frames(count, length, clip, 5, stride=stride)
            assert frames.tolist() == np.minimum(expected, count - 1).tolist()


@pytest.mark.parametrize("clips", [1, 2, 3])
def test_further_clips_of_a_span_lie_between_each_other(clips):
    found = [windows.uniform_test_frames(120, 4, clip, clips) for clip in range(clips)]
    merged = np.sort(np.concatenate(found))
    np.testing.assert_array_equal(merged, windows.uniform_test_frames(120, 4 * clips, 0, 1))
