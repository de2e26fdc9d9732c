"""Which frames TSM's and FFN's 2D loaders take, exactly as released, defects included.

FFN's 3D loader (SlowFast, UniFormer) takes those of the sampler "sparse". "ssv2" is "ffn_2d"
mended for short videos.
"""

import numpy as np

from data_pipelines.clips.frame_sampler import check_clip, check_frames

_SPAN = 64  # frames that a dense clip reaches over


def ffn_train_frames(num_frames: int, clip_frames: int, rng: np.random.Generator) -> np.ndarray:
    """One random frame from each of T segments of n // T frames; of shorter videos T times frame 0.

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
        return np.zeros(clip_frames, np.int64)
    return np.arange(clip_frames) * duration + rng.integers(duration, size=clip_frames)


def ffn_test_frames(num_frames: int, clip_frames: int, clip: int, num_clips: int) -> np.ndarray:
    """The middles of T segments; T times frame 0 unless the video is longer than the clip.

    Clip c of M > 1 takes the frames at c / M of the segments instead.

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
    if num_frames <= clip_frames:
        return np.zeros(clip_frames, np.int64)
    tick = num_frames / clip_frames
    offset = tick / 2 if num_clips == 1 else clip * tick / num_clips
    return (offset + tick * np.arange(clip_frames)).astype(np.int64)


def tsm_dense_train_frames(
    num_frames: int, clip_frames: int, rng: np.random.Generator
) -> np.ndarray:
    """Every (64 // T)-th frame from a random start; a video that is too short begins again.

    As in the release the last possible start is never drawn.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample; at most 64.
      rng: source of the draw.

    Raises:
      ValueError: if a number of frames is smaller than 1, or T greater than 64.
    """
    last = _last_start(num_frames, clip_frames)
    return _from(int(rng.integers(last)) if last else 0, num_frames, clip_frames)


def tsm_dense_test_frames(
    num_frames: int, clip_frames: int, clip: int, num_clips: int
) -> np.ndarray:
    """As in training; clips start at equal distances, a single one in the middle.

    Args:
      num_frames: n, frames in the video.
      clip_frames: T, frames to sample; at most 64.
      clip: c, number of the clip.
      num_clips: M, clips a video; 10 in the release.

    Raises:
      ValueError: if a number of frames is smaller than 1, T greater than 64, or there is no such
        clip.
    """
    last = _last_start(num_frames, clip_frames)
    check_clip(clip, num_clips)
    start = last // 2 if num_clips == 1 else int(np.linspace(0, last, num_clips)[clip])
    return _from(start, num_frames, clip_frames)


def _last_start(num_frames: int, clip_frames: int) -> int:
    check_frames(num_frames, clip_frames)
    if clip_frames > _SPAN:
        raise ValueError(
            f"tsm_dense takes up to {_SPAN} frames, not {clip_frames}; dense:STRIDE any number"
        )
    return max(num_frames - _SPAN, 0)


def _from(start: int, num_frames: int, clip_frames: int) -> np.ndarray:
    return (start + _SPAN // clip_frames * np.arange(clip_frames)) % num_frames
