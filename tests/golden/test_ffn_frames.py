"""The frames of FFN's two loaders, against the official code; the fixture counts from 1."""

import random

import numpy as np
import pytest

from data_pipelines.clips.sampling import frame_sampler
from tests.golden import fixture

CASE = fixture("ffn", "v10")
LENGTHS, SEGMENTS = CASE.meta["config"]["lengths"], CASE.meta["config"]["segments"]
FRAMES = {"uniformer": {"H": 16, "L": 4, "M": 8}, "slowfast": {"H": 64, "L": 16, "M": 32}}


class NumpySeeded:
    """The release's draws: numpy's legacy generator with its seed."""

    def __init__(self):
        self._state = np.random.RandomState(CASE.meta["config"]["seed"])

    def integers(self, high, size):
        return self._state.randint(high, size=size)


class PythonSeeded:
    """Python's generator with the release's seed; bounds are included."""

    def __init__(self):
        self._state = random.Random(CASE.meta["config"]["seed"])
        self.asked = []

    def integers(self, low, high, endpoint):
        assert endpoint
        self.asked.append(np.stack([low, high], axis=1))
        return np.array([self._state.randint(a, b) for a, b in zip(low, high, strict=True)])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("frames", SEGMENTS)
def test_the_2d_loaders_test_frames(length, frames):
    out = {k: CASE.outputs[f"tsm_{k}/len{length}_T{frames}"] - 1 for k in
           ("val", "test", "twice", "dense_test")}  # fmt: skip
    np.testing.assert_array_equal(frame_sampler("ffn_2d").test(length, frames, 0, 1), out["val"])
    mended = frame_sampler("ssv2").test
    np.testing.assert_array_equal(mended(length, frames, 0, 1), out["test"])
    found = [mended(length, frames, clip, 2) for clip in (1, 0)]
    np.testing.assert_array_equal(np.concatenate(found), out["twice"])
    dense = frame_sampler("tsm_dense").test
    found = [dense(length, frames, clip, 10) for clip in range(10)]
    np.testing.assert_array_equal(np.concatenate(found), out["dense_test"])


@pytest.mark.parametrize("length", LENGTHS)
def test_the_2d_loaders_training_frames(length):
    """H, then M, then L, drawn one after the other."""
    draws, train = NumpySeeded(), frame_sampler("ffn_2d").train
    found = np.concatenate([train(length, frames, draws) for frames in (16, 8, 4)])
    wanted = CASE.outputs[f"tsm_train_joint/len{length}_16_8_4_npseed"] - 1
    np.testing.assert_array_equal(found, wanted)
    for frames in (4, 8, 16):
        rule, duration = CASE.outputs[f"tsm_train_rule/len{length}_T{frames}"]
        assert (rule, duration) in ((0, length // frames), (2, 0))  # 1 is never met
        if rule == 0:  # where the video is long enough, the mended one is the same
            same = [frame_sampler(name).train(length, frames, NumpySeeded())
                    for name in ("ffn_2d", "ssv2")]  # fmt: skip
            np.testing.assert_array_equal(*same)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("network", FRAMES)
def test_the_3d_loaders_frames(length, network):
    """They are those of the sampler called sparse; H, then L, then M."""
    sampler, draws = frame_sampler("sparse"), PythonSeeded()
    found = []
    for frames in FRAMES[network].values():
        found.append(sampler.train(length, frames, draws))
        bounds = CASE.outputs[f"sth_train_bounds_{network}/len{length}_T{frames}"]
        np.testing.assert_array_equal(draws.asked[-1], bounds)
        wanted = CASE.outputs[f"sth_test_{network}/len{length}_T{frames}"] - 1
        np.testing.assert_array_equal(sampler.test(length, frames, 0, 1), wanted)
    wanted = CASE.outputs[f"sth_train_joint_{network}/len{length}_HLM_pyseed"] - 1
    np.testing.assert_array_equal(np.concatenate(found), wanted)
    frames = FRAMES[network]["H"]
    for view in range(2):
        wanted = CASE.outputs[f"sth_test2view_{network}/len{length}_T{frames}_view{view}"] - 1
        np.testing.assert_array_equal(sampler.test(length, frames, view, 2), wanted)


def test_dense_clips_of_training_are_windows_of_64_frames():
    train = frame_sampler("tsm_dense").train
    for seed in range(20):
        clip = train(100, 8, np.random.default_rng(seed))
        assert np.all(np.diff(clip) == 8) and 0 <= clip[0] < 36
    assert train(10, 8, np.random.default_rng(0)).tolist() == [0, 8, 6, 4, 2, 0, 8, 6]
    assert frame_sampler("tsm_dense").test(100, 8, 0, 1)[0] == 18  # the middle
    with pytest.raises(ValueError, match="up to 64 frames, not 65"):
        train(100, 65, np.random.default_rng(0))
