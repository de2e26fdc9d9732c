"""UMT's frame samplers: one frame of each of T intervals, and frames at a rate.

Source: OpenGVLab/unmasked_teacher, multi_modality/dataset/video_utils.py (get_frame_indices), which
Frozen and Singularity have, too.
"""

import numpy as np

from data_pipelines.clips.frame_sampler import check_clip, check_frames


def intervals(num_frames: int, clip_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last frame, int64 [K] each, of the K = min(T, n) intervals of a video.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.

    Raises:
      ValueError: if a number of frames is smaller than 1.
    """
    check_frames(num_frames, clip_frames)
    count = min(num_frames, clip_frames)
    edges = np.linspace(0, num_frames, count + 1).astype(np.int64)
    return edges[:-1], edges[1:] - 1


def interval_train_frames(
    num_frames: int, clip_frames: int, rng: np.random.Generator
) -> np.ndarray:
    """A random frame of each interval, int64 [T]; a short video repeats its last frame.

    As in the release, an interval's last frame is never drawn, and where any interval has but one
    frame, the whole clip is a sorted random subset of the video's frames.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      rng: source of the draws.

    Raises:
      ValueError: if a number of frames is smaller than 1.
    """
    first, last = intervals(num_frames, clip_frames)
    if np.all(first < last):
        frames = rng.integers(first, last)
    else:
        frames = np.sort(rng.permutation(num_frames)[: len(first)])
    return _filled(frames, clip_frames)


def interval_test_frames(
    num_frames: int, clip_frames: int, clip: int, num_clips: int
) -> np.ndarray:
    """Clip c of M takes each interval's frame at (c + 1) / (M + 1), int64 [T]; of one the middle.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      clip: c, number of the clip.
      num_clips: M, clips a video; the release has one.

    Raises:
      ValueError: if a number of frames is smaller than 1, or there is no such clip.
    """
    check_clip(clip, num_clips)
    first, last = intervals(num_frames, clip_frames)
    return _filled(first + (last - first) * (clip + 1) // (num_clips + 1), clip_frames)


def rate_frames(num_frames: int, clip_frames: int, rate: float, times: np.ndarray) -> np.ndarray:
    """Frames in the middles of spans of 1 / rate seconds, int64 [T], the first T of them.

    The release gives as many frames as there are; here a short video repeats its last one.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample.
      rate: frames a second to take.
      times: float64 [n], seconds at which the frames are shown, ascending.

    Raises:
      ValueError: if a number of frames is smaller than 1, or not that of the times.
    """
    check_frames(num_frames, clip_frames)
    if len(times) != num_frames:
        raise ValueError(f"{num_frames} frames have {len(times)} times; give one each")
    shown = times - times[0]
    period = shown[-1] / max(num_frames - 1, 1)
    wanted = (np.arange(clip_frames) + 0.5) / rate
    wanted = wanted[wanted < shown[-1] + period / 2 + 1e-6]
    nearest = np.searchsorted((shown[1:] + shown[:-1]) / 2, wanted)
    return _filled(nearest if len(nearest) else np.zeros(1, np.int64), clip_frames)


def _filled(frames: np.ndarray, count: int) -> np.ndarray:
    """int64 [count]: the frames, and the last one again where they are too few."""
    missing = count - len(frames)
    return np.concatenate([frames, np.full(missing, frames[-1])]).astype(np.int64)
