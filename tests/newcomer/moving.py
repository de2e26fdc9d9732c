"""Videos of squares that move: python moving.py FOLDER makes FOLDER/train and FOLDER/test.

Runs without fluxjax, as somebody's own script would.
"""

import pathlib
import sys

import av
import numpy as np

# Class -> pixels a frame, and a colour as well: so a minute of training tells them apart.
CLASSES = {"left": (-4, (230, 60, 40)), "right": (4, (40, 120, 230))}
COUNTS = {"train": 24, "test": 6}  # split -> videos a class
SIDE, SQUARE, FRAMES = 96, 24, 24


def write(path: pathlib.Path, step: int, square: tuple[int, ...], seed: int) -> None:
    """A square moves over a dark ground, and comes in again where it went out."""
    draw = np.random.default_rng(seed)
    top, left = draw.integers(0, SIDE - SQUARE), draw.integers(0, SIDE)
    ground = draw.integers(0, 90, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for number in range(FRAMES):
            picture = np.full((SIDE, SIDE, 3), ground, np.uint8)
            columns = (left + step * number + np.arange(SQUARE)) % SIDE
            picture[top : top + SQUARE, columns] = square
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))


def write_all(folder: pathlib.Path) -> None:
    """FOLDER/SPLIT/CLASS/NUMBER.mp4, no two alike."""
    seed = 0
    for split, count in COUNTS.items():
        for name, (step, square) in CLASSES.items():
            for number in range(count):
                write(folder / split / name / f"{number}.mp4", step, square, seed)
                seed += 1


if __name__ == "__main__":
    write_all(pathlib.Path(sys.argv[1]))
