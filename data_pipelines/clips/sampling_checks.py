"""What every frame sampler refuses."""


def check_frames(num_frames: int, clip_frames: int) -> None:
    """Raises ValueError if a video or a clip has no frame."""
    if num_frames < 1:
        raise ValueError(f"a video needs at least one frame, this one has {num_frames}")
    if clip_frames < 1:
        raise ValueError(f"a clip needs at least one frame, {clip_frames} were asked for")


def check_clip(clip: int, num_clips: int) -> None:
    """Raises ValueError if there is no such clip."""
    if not 0 <= clip < num_clips:
        raise ValueError(f"there is no clip {clip} of {num_clips}; clips are numbered from 0")
