"""Branches of a frame flexible network: one for each frame number that it is trained at.

Source: "Frame Flexible Network" (arXiv 2303.14817) and the official repository
BeSpontaneous/FFN-pytorch. Convolutions, attention and the classifier are shared by all branches;
each has its own normalisation layers and its own alteration of the weights.
"""

from collections.abc import Sequence

ANY = "frames_any"  # the one branch of a plain network


def branch_names(frames: Sequence[int] | None) -> tuple[str, ...]:
    """What the branches' parameters are called: frames_4, frames_8, .., or frames_any.

    Args:
      frames: frame numbers of the branches; a network of one or none is plain.
    """
    return tuple(f"frames_{n}" for n in frames) if is_flexible(frames) else (ANY,)


def is_flexible(frames: Sequence[int] | None) -> bool:
    """Whether a network of these frame numbers has branches; else it is plain."""
    return frames is not None and len(frames) > 1


def check_frames(frames: Sequence[int] | None) -> None:
    """Refuses frame numbers that are not positive and ascending.

    Raises:
      ValueError: naming them.
    """
    numbers = list(frames or ())
    if numbers != sorted(set(numbers)) or any(n < 1 for n in numbers):
        raise ValueError(f"frames={frames} must be ascending frame numbers, a branch each")


def nearest(frames: Sequence[int], number: int) -> int:
    """The frame number of `frames` that is nearest to `number`; of two the larger."""
    return min(frames, key=lambda n: (abs(n - number), -n))


def branch_of(frames: Sequence[int] | None, number: int, branch: int | None = None) -> int:
    """Index of the branch that a clip takes.

    Args:
      frames: frame numbers of the branches.
      number: frames of the clip.
      branch: the frame number whose branch is wanted; None: the nearest.

    Raises:
      ValueError: if there is no such branch.
    """
    if branch is not None and branch not in (frames or ()):
        raise ValueError(
            f"branch={branch} is none of frames={tuple(frames or ())}; pass one of them, or None "
            "for the nearest to the clip's"
        )
    if not is_flexible(frames):
        return 0
    return list(frames).index(nearest(frames, number) if branch is None else branch)
