"""Frames and grids against the reference's tables (fixture v10)."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.clips import sampling
from data_pipelines.clips.joint import Augmentation, Draws, joint_clips
from data_pipelines.clips.sampling import FRAME_SAMPLERS, frame_sampler
from data_pipelines.clips.seeding import rng
from data_pipelines.clips.views import eval_views
from data_pipelines.reading.arrays import ArrayVideo
from data_pipelines.sources.records import Record
from fluxjax.tokens.examples import ClipSpec
from fluxjax.tokens.grids import Grid

_FIXTURE = Path(__file__).parents[2] / "golden" / "fluxvit" / "v10_frame_indices.npz"
SAMPLERS = (*FRAME_SAMPLERS, "dense:1", "dense:16", "window:1", "window:16")
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


@pytest.mark.parametrize("seconds", [1.0, 2.5, 7.9])
def test_time_shows_the_same_span_whatever_the_frame_rate(seconds):
    slow, fast = np.arange(200) / 25, np.arange(400) / 50  # 8 s
    for draw in range(5):
        shown = [
            times[frame_sampler(f"time:{seconds}", times).train(len(times), 8, rng(draw))]
            for times in (slow, fast)
        ]
        # On display at the same moments: a frame of the slow one begins at most 1/25 s before.
        assert np.abs(shown[0] - shown[1]).max() <= 1 / 25 + 1e-6
        np.testing.assert_allclose(np.diff(shown[1]), seconds / 8, atol=1 / 50 + 1e-6)
    for clip in range(3):
        shown = [
            times[frame_sampler(f"time:{seconds}", times).test(len(times), 8, clip, 3)]
            for times in (slow, fast)
        ]
        start = clip / 2 * (8 - seconds)
        middles = start + seconds * (np.arange(8) + 0.5) / 8
        assert np.all((middles - shown[0] < 1 / 25) & (middles - shown[0] > -1e-6))
        assert np.all((middles - shown[1] < 1 / 50) & (middles - shown[1] > -1e-6))


def test_time_of_one_clip_is_the_middle_and_starts_are_drawn_everywhere():
    times = np.arange(250) / 25
    frames = frame_sampler("time:2", times).test(250, 4, 0, 1)
    np.testing.assert_allclose(times[frames], [4.24, 4.72, 5.24, 5.72])  # 4.25, 4.75, 5.25, 5.75
    starts = [frame_sampler("time:2", times).train(250, 4, rng(i))[0] for i in range(200)]
    assert min(starts) < 16 and max(starts) > 196  # 0.25 s to 8.25 s


def test_time_follows_the_clock_of_a_variable_frame_rate():
    """4 s at 10 frames a second, then 4 s at 50: equal parts of time, not of frames."""
    times = np.concatenate([np.arange(40) / 10, 4 + np.arange(200) / 50])
    shown = times[frame_sampler("time:8", times).test(240, 8, 0, 1)]
    np.testing.assert_allclose(shown, np.arange(8) + 0.5, atol=0.1)
    late = 3.0 + np.arange(100) / 25  # the span of a longer video does not begin at 0
    shown = late[frame_sampler("time:2", late).test(100, 2, 0, 1)]
    np.testing.assert_allclose(shown, [4.48, 5.48])  # 4.5, 5.5


def test_time_of_a_shorter_video_keeps_the_tempo():
    times = np.arange(25) / 25
    for sampler in (frame_sampler("time:4", times),):
        assert sampler.test(25, 4, 0, 1).tolist() == [12, 24, 24, 24]
        assert sampler.train(25, 4, rng(0)).tolist() == [12, 24, 24, 24]
    assert frame_sampler("time:4", np.zeros(1)).test(1, 3, 0, 1).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="10 frames have 25 times"):
        frame_sampler("time:4", times).test(10, 4, 0, 1)


@pytest.mark.parametrize("name", ["time", "time:", "time:0", "time:-1", "time:nan", "time:inf"])
def test_time_needs_seconds(name):
    with pytest.raises(ValueError, match="lacks the seconds"):
        frame_sampler(name)


@pytest.mark.parametrize("fps", [25, 50])
def test_views_and_training_clips_by_time(fps):
    """Frames are grey values of the tenth of a second: 4 s of 8 show 2.25, 2.75, .. 5.75 s."""
    tenths = (np.arange(8 * fps) * 10 // fps).astype(np.uint8)
    video = ArrayVideo(np.tile(tenths[:, None, None, None], (1, 28, 28, 3)), fps=fps)
    record = Record(video, 0, "ramp")
    (view,) = eval_views(record, Grid(8, 28), "time:4")
    assert view[:, 0, 0, 0].tolist() == [22, 27, 32, 37, 42, 47, 52, 57]
    part = Record(video, 0, "ramp", 1.04, 5.04)
    (view,) = eval_views(part, Grid(4, 28), "time:4")
    assert view[:, 0, 0, 0].tolist() == [15, 25, 35, 45]
    spec = ClipSpec((Grid(8, 28),), slots=32)
    ((clip,),) = joint_clips(
        record, [spec], Draws((0, 1, 2), (Grid(8, 28),)), Augmentation(), "time:4"
    )
    assert set(np.diff(clip[:, 0, 0, 0].astype(int))) <= {4, 5, 6}


def test_views_by_time_go_by_the_clock_of_their_span():
    """4 s at 10 frames a second, then 4 s at 50; the span is the second half."""
    numbers = np.arange(240, dtype=np.uint8)
    video = ArrayVideo(np.tile(numbers[:, None, None, None], (1, 28, 28, 3)))
    video.times = np.concatenate([np.arange(40) / 10, 4 + np.arange(200) / 50])
    video.span = lambda start, end, nearest: (40, 240)
    part = Record(video, 0, "ramp", 4.0, 8.0)
    (view,) = eval_views(part, Grid(4, 28), "time:4")
    assert view[:, 0, 0, 0].tolist() == [65, 115, 165, 215]
    ((clip,),) = joint_clips(
        part, [ClipSpec((Grid(4, 28),), slots=16)], Draws((0, 1, 2), (Grid(4, 28),)),
        Augmentation(), "time:4",
    )  # fmt: skip
    assert clip[:, 0, 0, 0].tolist() == [65, 115, 165, 215]
