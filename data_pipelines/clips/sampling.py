"""Which frames of a video, and which sampling grid: pure functions of numbers and a generator.

A frame sampler is a pair of functions, one random for training and one deterministic for testing.
Each returns int64 [T] frame numbers in [0, n) in ascending order, for any number n >= 1 of frames
in the video; a video shorter than the clip repeats frames ("tsm_dense" and "jittered" begin it
again, as released). Validation is test clip 0 of 1.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from data_pipelines.clips import window_sampling as windows
from data_pipelines.clips.frame_sampler import FrameSampler, check_clip, check_frames
from data_pipelines.clips.interval_sampling import (
    interval_test_frames,
    interval_train_frames,
    rate_frames,
)
from data_pipelines.clips.tsm_sampling import (
    ffn_test_frames,
    ffn_train_frames,
    tsm_dense_test_frames,
    tsm_dense_train_frames,
)
from fluxjax.tokens.grids import Grid


def sparse_train_frames(num_frames: int, clip_frames: int, rng: np.random.Generator) -> np.ndarray:
    """One random frame from each of T equal segments; Kinetics in FluxViT's release.

    Segment i reaches from round(s * i) to round(s * (i + 1)), both included, s = (n - 1) / T.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      rng: source of the draws.

    Raises:
      ValueError: if a number of frames is smaller than 1.
    """
    check_frames(num_frames, clip_frames)
    segment = (num_frames - 1) / clip_frames
    edges = np.round(segment * np.arange(clip_frames + 1)).astype(np.int64)
    frames = rng.integers(edges[:-1], edges[1:], endpoint=True)
    return np.minimum(frames, num_frames - 1)


def sparse_test_frames(num_frames: int, clip_frames: int, clip: int, num_clips: int) -> np.ndarray:
    """Clip c of M takes each segment's frame at (c + 1) / (M + 1) of it; Kinetics.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      clip: c, number of the clip.
      num_clips: M, clips a video.

    Raises:
      ValueError: if a number of frames is smaller than 1, or there is no such clip.
    """
    check_frames(num_frames, clip_frames)
    check_clip(clip, num_clips)
    segment = (num_frames - 1) / clip_frames
    starts = np.round(segment * np.arange(clip_frames)).astype(np.int64)
    return np.minimum(starts + int(segment / (num_clips + 1) * (clip + 1)), num_frames - 1)


def ssv2_train_frames(num_frames: int, clip_frames: int, rng: np.random.Generator) -> np.ndarray:
    """One random frame from each of T segments of n // T frames; Something-Something V2.

    As in the release, the last n % T frames are never drawn. A video shorter than the clip gives
    its frames evenly repeated, without chance; the release shows its first frame T times instead.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      rng: source of the draws.

    Raises:
      ValueError: if a number of frames is smaller than 1.
    """
    check_frames(num_frames, clip_frames)
    duration = num_frames // clip_frames
    if not duration:
        return ssv2_test_frames(num_frames, clip_frames, clip=0, num_clips=1)
    return np.arange(clip_frames) * duration + rng.integers(duration, size=clip_frames)


def ssv2_test_frames(num_frames: int, clip_frames: int, clip: int, num_clips: int) -> np.ndarray:
    """Clip c of M takes the frames floor(tick * (i + c / M)), tick = n / T; SSv2.

    For two clips these are the release's, which knows no other number. A single clip takes the
    middles floor(tick * (i + 1 / 2)), as the release does in validation.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      clip: c, number of the clip.
      num_clips: M, clips a video.

    Raises:
      ValueError: if a number of frames is smaller than 1, or there is no such clip.
    """
    check_frames(num_frames, clip_frames)
    check_clip(clip, num_clips)
    tick = num_frames / clip_frames
    offset = tick / 2 if num_clips == 1 else clip * tick / num_clips
    return (offset + tick * np.arange(clip_frames)).astype(np.int64)


def dense_train_frames(
    num_frames: int, clip_frames: int, rng: np.random.Generator, *, stride: int
) -> np.ndarray:
    """Every `stride`-th frame from a random start; EVL and the dense samplers of Kinetics.

    A video that is too short starts at 0 and repeats the last frame that the stride reaches.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      rng: source of the draw.
      stride: frames from one sampled frame to the next.

    Raises:
      ValueError: if a number of frames is smaller than 1.
    """
    check_frames(num_frames, clip_frames)
    starts = num_frames - stride * (clip_frames - 1)
    if starts > 1:
        return rng.integers(starts) + stride * np.arange(clip_frames)
    reached = (num_frames - 1) // stride
    return stride * np.minimum(np.arange(clip_frames), reached)


def dense_test_frames(
    num_frames: int, clip_frames: int, clip: int, num_clips: int, *, stride: int
) -> np.ndarray:
    """Every `stride`-th frame; clips start at equal distances, a single one in the middle (EVL).

    A video that is too short starts at 0 and repeats its last frame.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      clip: c, number of the clip.
      num_clips: M, clips a video.
      stride: frames from one sampled frame to the next.

    Raises:
      ValueError: if a number of frames is smaller than 1, or there is no such clip.
    """
    check_frames(num_frames, clip_frames)
    check_clip(clip, num_clips)
    slide = max(num_frames - ((clip_frames - 1) * stride + 1), 0)
    start = slide // 2 if num_clips == 1 else round(slide / (num_clips - 1) * clip)
    return np.minimum(start + stride * np.arange(clip_frames), num_frames - 1)


def time_train_frames(
    num_frames: int,
    clip_frames: int,
    rng: np.random.Generator,
    *,
    seconds: float,
    times: np.ndarray,
) -> np.ndarray:
    """Frames in the middles of T equal parts of a span of seconds, which starts at random.

    Whatever the frame rate, constant or not, a clip shows the same time. A video that is shorter
    than the span keeps the tempo and repeats its last frame.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      rng: source of the draw.
      seconds: length of the span.
      times: float64 [n], seconds at which the frames are shown, ascending.

    Raises:
      ValueError: if a number of frames is smaller than 1, or not that of the times.
    """
    slack = _slack(num_frames, clip_frames, seconds, times)
    return _frames_at(rng.uniform(0.0, 1.0) * slack, clip_frames, seconds, times)


def time_test_frames(
    num_frames: int,
    clip_frames: int,
    clip: int,
    num_clips: int,
    *,
    seconds: float,
    times: np.ndarray,
) -> np.ndarray:
    """As `time_train_frames`; spans start at equal distances, a single one in the middle.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      clip: c, number of the clip.
      num_clips: M, clips a video.
      seconds: length of the span.
      times: float64 [n], seconds at which the frames are shown, ascending.

    Raises:
      ValueError: if a number of frames is smaller than 1, or not that of the times, or there is no
        such clip.
    """
    slack = _slack(num_frames, clip_frames, seconds, times)
    check_clip(clip, num_clips)
    share = 0.5 if num_clips == 1 else clip / (num_clips - 1)
    return _frames_at(share * slack, clip_frames, seconds, times)


def _slack(num_frames: int, clip_frames: int, seconds: float, times: np.ndarray) -> float:
    """Seconds by which the video is longer than the span; 0 if it is shorter."""
    check_frames(num_frames, clip_frames)
    if len(times) != num_frames:
        raise ValueError(f"{num_frames} frames have {len(times)} times; give one each")
    shown = times[-1] - times[0]
    last = shown / max(num_frames - 1, 1)  # the last frame lasts as long as the others
    return max(shown + last - seconds, 0.0)


def _frames_at(start: float, clip_frames: int, seconds: float, times: np.ndarray) -> np.ndarray:
    """The frames [T] int64 on display in the middles of T parts of [start, start + seconds)."""
    wanted = times[0] + start + seconds * (np.arange(clip_frames) + 0.5) / clip_frames
    # A microsecond of slack: times such as 1/3 s are not exact in binary.
    return np.maximum(np.searchsorted(times, wanted + 1e-6, side="right") - 1, 0)


FRAME_SAMPLERS: Mapping[str, FrameSampler] = MappingProxyType(
    {
        "sparse": FrameSampler(sparse_train_frames, sparse_test_frames),
        "ssv2": FrameSampler(ssv2_train_frames, ssv2_test_frames),
        "ffn_2d": FrameSampler(ffn_train_frames, ffn_test_frames),
        "tsm_dense": FrameSampler(tsm_dense_train_frames, tsm_dense_test_frames),
        "interval": FrameSampler(interval_train_frames, interval_test_frames),
        "uniform": FrameSampler(windows.uniform_train_frames, windows.uniform_test_frames),
    }
)
# Called NAME:STRIDE.
STRIDED_SAMPLERS: Mapping[str, FrameSampler] = MappingProxyType(
    {
        "dense": FrameSampler(dense_train_frames, dense_test_frames),
        "jittered": FrameSampler(windows.jittered_train_frames, windows.jittered_test_frames),
        "window": FrameSampler(windows.window_train_frames, windows.window_test_frames),
    }
)


def frame_sampler(name: str, times: np.ndarray | None = None) -> FrameSampler:
    """The sampler of a config: of `FRAME_SAMPLERS`, `STRIDED_SAMPLERS`, "time:SECONDS", "fps:RATE".

    Args:
      name: of the sampler.
      times: float64 [n], seconds at which the frames of the video (or of its span) are shown. The
        sampler by time needs them to sample, the others do not look at them.

    Raises:
      ValueError: on another name, or a stride or time that is no positive number.
    """
    if name in FRAME_SAMPLERS:
        return FRAME_SAMPLERS[name]
    kind, _, text = name.partition(":")
    if kind == "fps":
        own = {"rate": _positive(name, text, "frames a second, e.g. fps:2"), "times": times}
        frames = functools.partial(rate_frames, **own)
        return FrameSampler(lambda n, t, rng: frames(n, t), lambda n, t, clip, clips: frames(n, t))
    if kind == "time":
        span = {
            "seconds": _positive(name, text, "seconds that a clip shows, e.g. time:2.5"),
            "times": times,
        }
        return FrameSampler(
            functools.partial(time_train_frames, **span),
            functools.partial(time_test_frames, **span),
        )
    if kind not in STRIDED_SAMPLERS:
        known = ", ".join([*FRAME_SAMPLERS, *(f"{name}:STRIDE" for name in STRIDED_SAMPLERS)])
        raise ValueError(
            f"unknown frame sampler {name!r}; known: {known}, time:SECONDS and fps:RATE"
        )
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{name!r} lacks the frames from one sample to the next, e.g. {kind}:16")
    return FrameSampler(
        *(functools.partial(draw, stride=int(text)) for draw in STRIDED_SAMPLERS[kind])
    )


def _positive(name: str, text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name!r} lacks the {what}")
    return value


def draw_grid(grids: Sequence[Grid], rng: np.random.Generator) -> Grid:
    """One of the sampling grids, all equally likely (FluxViT, flexible sampling).

    Raises:
      ValueError: if there is no grid to draw from.
    """
    if not grids:
        raise ValueError("draw_grid needs at least one sampling grid, got none")
    return grids[rng.integers(len(grids))]
