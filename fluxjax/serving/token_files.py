"""A video's visual tokens in a file, as a projector to a language model reads them."""

import dataclasses
import os
import pathlib

import numpy as np

from fluxjax.weight_files.readers import read_weights, write_safetensors

ENDINGS = (".npz", ".safetensors")


@dataclasses.dataclass(frozen=True)
class VideoTokens:
    """Last-layer tokens of a video's V views, K slots each.

    Attributes:
      tokens: [V, K, C] float16; 0 in slots that hold none.
      position: [V, K, 3] int32, (t, h, w) of each token in its view's sampling grid; -1 in slots
        that hold none.
      grid: [V, 3] int32, (T, H, W) of the sampling grid, space counted in patches.
      valid: [V, K] bool; valid tokens come first.
    """

    tokens: np.ndarray
    position: np.ndarray
    grid: np.ndarray
    valid: np.ndarray

    @classmethod
    def of(cls, tokens: np.ndarray, position: np.ndarray, grid: np.ndarray, valid: np.ndarray):
        """Of a model's tokens [V, K, C] float32.

        Raises:
          ValueError: if a value is too large for float16.
        """
        largest = float(np.max(np.abs(tokens), initial=0.0))
        if largest > float(np.finfo(np.float16).max):
            raise ValueError(f"tokens of up to {largest:g} do not fit float16")
        place = np.where(valid[..., None], position, -1).astype(np.int32)
        return cls(tokens.astype(np.float16), place, grid.astype(np.int32), valid.astype(bool))


def write_tokens(path: str | os.PathLike, tokens: VideoTokens) -> None:
    """Writes arrays of the names of `VideoTokens`; the format is that of the path's ending.

    Raises:
      ValueError: on another ending than .npz and .safetensors.
    """
    path = pathlib.Path(path)
    arrays = {field.name: getattr(tokens, field.name) for field in dataclasses.fields(tokens)}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        write_safetensors(path, arrays)
    else:
        raise ValueError(f"{path} must end in {' or '.join(ENDINGS)}")


def read_tokens(path: str | os.PathLike) -> VideoTokens:
    """What `write_tokens` wrote.

    Raises:
      OSError, WeightsError: no such file, or a damaged one.
    """
    arrays = read_weights(path)
    return VideoTokens(
        **{field.name: arrays[field.name] for field in dataclasses.fields(VideoTokens)}
    )
