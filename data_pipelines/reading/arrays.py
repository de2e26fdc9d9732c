"""Videos in memory: clips that are NumPy arrays already, and blank ones that cost nothing."""

import numpy as np

from data_pipelines.reading.base import BaseVideo
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.geometry import Box


def bilinear(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes frames by linear interpolation, half-pixel centres, no antialiasing.

    As torch's interpolate (align_corners=False), which the official EVL resizes with.

    Args:
      frames: [T, H, W, 3], any real dtype.
      size: (height, width) wanted.

    Returns:
      [T, height, width, 3] float32.
    """
    frames = np.asarray(frames, np.float32)
    for axis, length in zip((1, 2), size, strict=True):
        given = frames.shape[axis]
        source = np.maximum((np.arange(length) + 0.5) * (given / length) - 0.5, 0.0)
        low = np.minimum(source.astype(np.int64), given - 1)
        shape = [-1 if i == axis else 1 for i in range(4)]
        share = (source - low).astype(np.float32).reshape(shape)
        high = np.minimum(low + 1, given - 1)
        frames = frames.take(low, axis) * (1 - share) + frames.take(high, axis) * share
    return frames


def antialiased(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes frames by a triangle filter that widens when it shrinks a picture, as files are read.

    Pixels of a frame that is shrunk by a factor f are weighted by their distance up to f, so that
    nothing is skipped; a frame that is enlarged is interpolated as by `bilinear`.

    Args:
      frames: [T, H, W, 3], any real dtype.
      size: (height, width) wanted.

    Returns:
      [T, height, width, 3] float32.
    """
    rows, columns = (_triangle(*sides) for sides in zip(frames.shape[1:3], size, strict=True))
    frames = np.einsum("hy,tywc->thwc", rows, np.asarray(frames, np.float32), optimize=True)
    return np.einsum("wx,thxc->thwc", columns, frames, optimize=True)


def _triangle(given: int, wanted: int) -> np.ndarray:
    """Weight of each given pixel in each wanted one, rows of sum 1; [wanted, given] float32."""
    scale = given / wanted
    distance = np.abs((np.arange(wanted) + 0.5)[:, None] * scale - (np.arange(given) + 0.5))
    weights = np.maximum(1 - distance / max(scale, 1), 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


class ArrayVideo(BaseVideo):
    """Frames in memory, to be read like a file's (see `video.Video`)."""

    codec, gop = "raw", 1

    def __init__(self, frames: np.ndarray, fps: float = 25.0, name: str = "<array>"):
        """Wraps frames [N, H, W, 3] uint8.

        Raises:
          VideoError: if they are anything else, or there is none.
        """
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
            raise VideoError(
                name, f"frames must be uint8 [N, H, W, 3], not {frames.dtype} {frames.shape}"
            )
        if not fps > 0:
            raise VideoError(name, f"fps={fps} must be positive")
        self._frames, self.fps, self.name = frames, fps, name
        self.num_frames, self.height, self.width = frames.shape[:3]
        self.times = np.arange(self.num_frames) / fps
        self.duration = self.num_frames / fps

    def read(
        self,
        indices: np.ndarray,
        *,
        box: Box | None = None,
        size: tuple[int, int] | None = None,
        flip: bool = False,
    ) -> np.ndarray:
        """Frames by index, cut and scaled by `antialiased`; uint8 [T, h, w, 3]."""
        frames = self._frames[self.check_request(indices, box, size)]
        if box is not None:
            top, left, height, width = box
            frames = frames[:, top : top + height, left : left + width]
        if size is not None and tuple(size) != frames.shape[1:3]:
            frames = np.rint(antialiased(frames, size)).astype(np.uint8)
        return np.ascontiguousarray(frames[:, :, ::-1] if flip else frames)


class BlankVideo(ArrayVideo):
    """Black frames of any number and size, which cost neither memory nor time."""

    def __init__(self, num_frames: int = 300, height: int = 256, width: int = 340):
        blank = np.broadcast_to(np.zeros(3, np.uint8), (num_frames, height, width, 3))
        super().__init__(blank, name="<blank>")

    def read(self, indices, *, box=None, size=None, flip=False) -> np.ndarray:
        """Black frames, uint8 [T, h, w, 3]."""
        del flip
        indices = self.check_request(indices, box, size)
        size = size or (box[2:] if box is not None else (self.height, self.width))
        return np.zeros((len(indices), *size, 3), np.uint8)
