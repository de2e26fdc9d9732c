"""Frames and grids against the reference's tables (fixture v10)."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.clips import sampling
from data_pipelines.clips.sampling import FRAME_SAMPLERS, frame_sampler
from data_pipelines.clips.seeding import rng
from fluxjax.tokens.grids import Grid

_FIXTURE = Path(__file__).parents[2] / "golden" / "fluxvit" / "v10_frame_indices.npz"
SAMPLERS = (*FRAME_SAMPLERS, "dense:1", "dense:16")
META = json.loads(str(np.load(_FIXTURE, allow_pickle=False)["meta"]))


def _clip_of(case, clip):
    """Validation is clip 0 of 1."""
    return (0, 1) if case["mode"] == "validation" else (clip, case["test_num_segment"])


def test_sparse_test_frames_match_the_reference():
    assert len(META["kinetics_sparse"]) == 56
    for case in META["kinetics_sparse"]:
        clip, num_clips = _clip_of(case, case["clip_idx"])
        frames = sampling.sparse_test_frames(
            case["video_size"], case["num_frames"], clip, num_clips
        )
        assert frames.tolist() == case["index"], case


def test_ssv2_test_frames_match_the_reference():
    assert len(META["ssv2_video"]) == 14
    for case in META["ssv2_video"]:
        clip, num_clips = _clip_of(case, case["chunk_nb"])
        frames = sampling.ssv2_test_frames(case["video_size"], case["num_segment"], clip, num_clips)
        assert frames.tolist() == case["index"], case


def test_sparse_train_frames_fill_the_reference_ranges():
    for case in META["kinetics_sparse_train_bounds"]:
        generator = rng(0, case["video_size"])
        draws = np.stack(
            [
                sampling.sparse_train_frames(case["video_size"], case["num_frames"], generator)
                for _ in range(600)
            ]
        )
        # A range of at most 39 values misses one of its ends in 600 draws once in 5 million.
        assert draws.min(axis=0).tolist() == case["low"]
        high = np.minimum(case["high_inclusive"], case["clamp_to"])
        assert draws.max(axis=0).tolist() == high.tolist()


def test_ssv2_train_frames_fill_their_segments():
    generator = rng(1)
    draws = np.stack([sampling.ssv2_train_frames(60, 8, generator) for _ in range(300)])
    assert draws.min(axis=0).tolist() == [7 * i for i in range(8)]
    assert draws.max(axis=0).tolist() == [7 * i + 6 for i in range(8)]


def test_ssv2_spreads_short_videos_evenly():
    assert sampling.ssv2_train_frames(3, 6, rng(0)).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("num_clips", [1, 2, 3, 5])
def test_ssv2_clips_interleave(num_clips):
    clips = [sampling.ssv2_test_frames(90, 6, clip, num_clips) for clip in range(num_clips)]
    in_turn = np.stack(clips, axis=1).ravel()
    assert np.abs(np.diff(in_turn) - 15 / num_clips).max() < 1


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("num_frames", [1, 2, 7, 8, 9, 33, 300])
def test_frames_are_ascending_and_in_the_video(name, num_frames):
    train, test = frame_sampler(name)
    for clip_frames in (1, 4, 8, 24):
        clips = [test(num_frames, clip_frames, clip, 4) for clip in range(4)]
        clips += [train(num_frames, clip_frames, rng(seed)) for seed in range(5)]
        for frames in clips:
            assert frames.dtype == np.int64 and frames.shape == (clip_frames,)
            assert (np.diff(frames) >= 0).all() and frames[0] >= 0 and frames[-1] < num_frames


@pytest.mark.parametrize("name", SAMPLERS)
def test_training_frames_are_a_function_of_the_generator(name):
    train = frame_sampler(name).train
    np.testing.assert_array_equal(train(200, 8, rng(4, 2)), train(200, 8, rng(4, 2)))
    assert (train(200, 8, rng(4, 2)) != train(200, 8, rng(4, 3))).any()


@pytest.mark.parametrize("name", SAMPLERS)
def test_impossible_clips_are_refused(name):
    train, test = frame_sampler(name)
    with pytest.raises(ValueError, match="has 0"):
        train(0, 8, rng(0))
    with pytest.raises(ValueError, match="0 were asked"):
        test(10, 0, 0, 1)
    with pytest.raises(ValueError, match="no clip 2 of 2"):
        test(10, 8, 2, 2)


def test_draw_grid_draws_all_grids_alike():
    grids = [Grid(8, 224), Grid(12, 196), Grid(16, 168)]
    generator = rng(3)
    draws = [sampling.draw_grid(grids, generator) for _ in range(1200)]
    counts = [draws.count(grid) for grid in grids]
    assert sum(counts) == 1200 and min(counts) > 330  # 400 expected, standard deviation 16
    with pytest.raises(ValueError, match="at least one"):
        sampling.draw_grid([], generator)
