"""What a frame sampler is, and the numbers that none can take."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class FrameSampler(NamedTuple):
    """train(num_frames, clip_frames, rng) and test(num_frames, clip_frames, clip, num_clips)."""

    train: Callable[[int, int, np.random.Generator], np.ndarray]
    test: Callable[[int, int, int, int], np.ndarray]


def check_frames(num_frames: int, clip_frames: int) -> None:
    """Refuses videos and clips without a frame; `ValueError`."""
    if num_frames < 1:
        raise ValueError(f"a video needs at least one frame, this one has {num_frames}")
    if clip_frames < 1:
        raise ValueError(f"a clip needs at least one frame, {clip_frames} were asked for")


def check_clip(clip: int, num_clips: int) -> None:
    """Refuses clips outside 0 .. num_clips - 1; `ValueError`."""
    if not 0 <= clip < num_clips:
        raise ValueError(f"there is no clip {clip} of {num_clips}; clips are numbered from 0")
