"""AVION's frame samplers: over a whole narrated span, and in windows of Kinetics videos.

The contract is that of `sampling.FrameSampler`. Fixture v12 holds the release's numbers.
"""

import numpy as np

from data_pipelines.clips.sampling_checks import check_clip, check_frames


def uniform_train_frames(num_frames: int, clip_frames: int, rng: np.random.Generator) -> np.ndarray:
    """The middles of T equal parts, each moved by its own draw; Ego4D and EPIC-KITCHENS in AVION.

    A draw moves a frame by up to half of (n - 1) / T.

    Args:
      num_frames: n, frames in the span.
      clip_frames: T, frames to sample.
      rng: source of the draws.

    Raises:
      ValueError: if a number of frames is smaller than 1.
    """
    check_frames(num_frames, clip_frames)
    jitter = (rng.random(clip_frames) - 0.5) * (num_frames - 1) / clip_frames
    return (_middles(num_frames, clip_frames) + jitter).astype(np.int64)


def uniform_test_frames(num_frames: int, clip_frames: int, clip: int, num_clips: int) -> np.ndarray:
    """Middles of T * M equal parts, of which clip c of M takes every M-th from the c-th on.

    Args:
      num_frames: n, frames in the span.
      clip_frames: T, frames to sample.
      clip: c, number of the clip.
      num_clips: M, clips a video.

    Raises:
      ValueError: if a number of frames is smaller than 1, or there is no such clip.
    """
    check_frames(num_frames, clip_frames)
    check_clip(clip, num_clips)
    return _middles(num_frames, clip_frames * num_clips)[clip::num_clips].astype(np.int64)


def _middles(num_frames: int, clip_frames: int) -> np.ndarray:
    edges = np.linspace(0, num_frames, clip_frames + 1)
    return (edges[:-1] + edges[1:]) / 2


def jittered_train_frames(
    num_frames: int, clip_frames: int, rng: np.random.Generator, *, stride: int
) -> np.ndarray:
    """A random frame of each of T runs of `stride` frames; VideoMAE's pre-training in AVION.

    The runs follow each other from a random start. A short video begins again at its end; the
    numbers are then in ascending order up to there only.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      rng: source of the draws.
      stride: frames a run.

    Raises:
      ValueError: if a number of frames is smaller than 1.
    """
    check_frames(num_frames, clip_frames)
    starts = num_frames - (clip_frames + 1) * stride
    start = rng.integers(starts) if starts > 0 else 0
    shift = rng.integers(stride, size=clip_frames)
    return (start + stride * np.arange(clip_frames) + shift) % num_frames


def jittered_test_frames(
    num_frames: int, clip_frames: int, clip: int, num_clips: int, *, stride: int
) -> np.ndarray:
    """Every `stride`-th frame; clips start at equal distances, a single one in the middle.

    The release draws the start, in evaluation too.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      clip: c, number of the clip.
      num_clips: M, clips a video.
      stride: frames from one sampled frame to the next.

    Raises:
      ValueError: if a number of frames is smaller than 1, or there is no such clip.
    """
    start = _start(num_frames, clip_frames, clip, num_clips, stride)
    return (start + stride * np.arange(clip_frames)) % num_frames


def window_train_frames(
    num_frames: int, clip_frames: int, rng: np.random.Generator, *, stride: int
) -> np.ndarray:
    """T frames spread over a random window of T * stride frames; VideoMAE's fine-tuning in AVION.

    First and last frame of the window are among them, so that 16 frames of a window of 64 are 4.27
    apart. A video that is no longer than the window gives every `stride`-th frame, then its last.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      rng: source of the draw.
      stride: frames of the window for each sampled one.

    Raises:
      ValueError: if a number of frames is smaller than 1.
    """
    check_frames(num_frames, clip_frames)
    length = clip_frames * stride
    if num_frames <= length:
        return np.minimum(stride * np.arange(clip_frames), num_frames - 1)
    end = int(rng.integers(length, num_frames))
    return np.minimum(np.linspace(end - length, end, clip_frames), end - 1).astype(np.int64)


def window_test_frames(
    num_frames: int, clip_frames: int, clip: int, num_clips: int, *, stride: int
) -> np.ndarray:
    """Every `stride`-th frame; windows start at equal distances, a single one in the middle.

    A video that is shorter than the window repeats its last frame.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      clip: c, number of the clip.
      num_clips: M, clips a video.
      stride: frames from one sampled frame to the next.

    Raises:
      ValueError: if a number of frames is smaller than 1, or there is no such clip.
    """
    start = _start(num_frames, clip_frames, clip, num_clips, stride)
    return np.minimum(start + stride * np.arange(clip_frames), num_frames - 1)


def _start(num_frames: int, clip_frames: int, clip: int, num_clips: int, stride: int) -> int:
    check_frames(num_frames, clip_frames)
    check_clip(clip, num_clips)
    slack = max(num_frames - clip_frames * stride, 0)
    return int(slack / 2) if num_clips == 1 else int(clip * slack / (num_clips - 1))
