"""RandAugment of whole clips on the host: the same operations, equally strong, in every frame.

RandAugment (Cubuk et al. 2020) in timm's variant for images and its copy for videos, which the
fine-tuning of FluxViT, VideoMAE and EVL uses as `rand-m7-n4-mstd0.5-inc1`. The operations are
Pillow's, as in those releases: the same draw gives the same pixels there and here.

One deviation. The releases augment the decoded picture and crop afterwards; here the decoder
crops, resizes and mirrors first, and the clip is augmented at its final resolution. That keeps
decoding, cropping and resizing one pass, and touches 16 x 224 x 224 pixels a clip where 16 x 256 x
340 or more would be touched (a small grid saves far more). What differs: translations and rotations
are relative to the crop, so their grey margins are always seen rather than cropped off at times,
and histograms (AutoContrast, Equalize, Contrast) are the crop's.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

FILL = (128, 128, 128)  # what geometric operations show beyond the picture's border
MAX_MAGNITUDE = 10.0

Argument = float | None


class _Operation(NamedTuple):
    apply: Callable[[Image.Image, Argument], Image.Image]
    # (magnitude / 10 in [0, 1], sign +-1, increasing) -> the argument of `apply`.
    argument: Callable[[float, int, bool], Argument]


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """Output pixel (x, y) is the input's at (a x + b y + c, d x + e y + f), bicubic."""
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=FILL
    )


def _rotate(image: Image.Image, degrees: float) -> Image.Image:
    return image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=FILL)


def _shear(horizontal: bool) -> _Operation:
    def apply(image, factor):
        matrix = (1, factor, 0, 0, 1, 0) if horizontal else (1, 0, 0, factor, 1, 0)
        return _affine(image, matrix)

    return _Operation(apply, lambda level, sign, increasing: sign * 0.3 * level)


def _translate(horizontal: bool) -> _Operation:
    def apply(image, share):
        width, height = image.size
        x, y = (share * width, 0) if horizontal else (0, share * height)
        return _affine(image, (1, 0, x, 0, 1, y))

    return _Operation(apply, lambda level, sign, increasing: sign * 0.45 * level)


def _enhance(kind: Callable) -> _Operation:
    """Factor 1 leaves the picture as it is; 0 takes the property away, 2 doubles it."""

    def argument(level, sign, increasing):
        return 1.0 + sign * 0.9 * level if increasing else 0.1 + 1.8 * level

    return _Operation(lambda image, factor: kind(image).enhance(factor), argument)


def _plain(function: Callable[[Image.Image], Image.Image]) -> _Operation:
    return _Operation(lambda image, _: function(image), lambda level, sign, increasing: None)


def _solarize_add(image: Image.Image, added: float) -> Image.Image:
    table = [min(255, value + added) if value < 128 else value for value in range(256)]
    return image.point(table * 3)


def _posterize(image: Image.Image, bits: int) -> Image.Image:
    """As ImageOps.posterize, which newer Pillows refuse for the 0 bits of magnitude 10: black."""
    kept = 256 - (1 << (8 - bits))
    return image.point([value & kept for value in range(256)] * 3)


def _posterize_bits(level: float, sign: int, increasing: bool) -> int:
    return 4 - int(4 * level) if increasing else int(4 * level)


def _solarize_threshold(level: float, sign: int, increasing: bool) -> int:
    return 256 - int(256 * level) if increasing else int(256 * level)


_OPERATIONS = {
    "AutoContrast": _plain(ImageOps.autocontrast),
    "Equalize": _plain(ImageOps.equalize),
    "Invert": _plain(ImageOps.invert),
    "Rotate": _Operation(_rotate, lambda level, sign, increasing: sign * 30.0 * level),
    "Posterize": _Operation(_posterize, _posterize_bits),
    "Solarize": _Operation(ImageOps.solarize, _solarize_threshold),
    "SolarizeAdd": _Operation(_solarize_add, lambda level, sign, increasing: int(110 * level)),
    "Color": _enhance(ImageEnhance.Color),
    "Contrast": _enhance(ImageEnhance.Contrast),
    "Brightness": _enhance(ImageEnhance.Brightness),
    "Sharpness": _enhance(ImageEnhance.Sharpness),
    "ShearX": _shear(horizontal=True),
    "ShearY": _shear(horizontal=False),
    "TranslateX": _translate(horizontal=True),
    "TranslateY": _translate(horizontal=False),
}
NAMES = tuple(_OPERATIONS)


def argument(name: str, magnitude: float, sign: int = 1, increasing: bool = True) -> Argument:
    """How strongly an operation is applied at a magnitude.

    Args:
      name: one of `NAMES`.
      magnitude: in [0, 10].
      sign: 1 or -1, the direction of operations that have one.
      increasing: whether Posterize, Solarize and the four enhancements grow stronger with the
        magnitude, which they do not in the paper's set of operations.

    Returns:
      Degrees (Rotate), slope (Shear), share of the side (Translate), factor (Color, Contrast,
      Brightness, Sharpness), bits kept (Posterize), threshold (Solarize), summand (SolarizeAdd), or
      None for operations of one strength.
    """
    return _OPERATIONS[name].argument(magnitude / MAX_MAGNITUDE, sign, increasing)


def apply(clip: np.ndarray, operations: list[tuple[str, Argument]]) -> np.ndarray:
    """Applies operations in order to every frame.

    Args:
      clip: [T, H, W, 3] uint8; not changed.
      operations: (name, argument) each, see `argument`.

    Raises:
      ValueError: if the clip is not [T, H, W, 3] uint8.
    """
    if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8:
        raise ValueError(
            f"RandAugment needs clips [T, H, W, 3] of uint8, got {clip.shape} of {clip.dtype}"
        )
    if not operations:
        return clip
    result = np.empty_like(clip)
    for frame, row in zip(clip, result, strict=True):
        image = Image.fromarray(frame)
        for name, value in operations:
            image = _OPERATIONS[name].apply(image, value)
        row[:] = np.asarray(image)
    return result


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Operations drawn at random, once for a clip.

    Attributes:
      magnitude: mean strength, in [0, 10].
      num_ops: operations drawn, with replacement.
      magnitude_std: standard deviation of an operation's strength, which is clipped to [0, 10].
      prob: probability that a drawn operation is applied.
      increasing: see `argument`.
    """

    magnitude: float
    num_ops: int
    magnitude_std: float = 0.0
    prob: float = 0.5
    increasing: bool = False

    @classmethod
    def parse(cls, text: str) -> "RandAugment":
        """From timm's notation: rand-m7-n4-mstd0.5-inc1.

        m: magnitude, n: number of operations, mstd: its deviation, p: probability of each, inc:
        1 for the increasing operations. m and n must be given. In timm `inc0` means the same as
        `inc1`; here it means what it says.

        Raises:
          ValueError: on an unknown, repeated or missing part, or a value out of range.
        """
        head, *parts = text.split("-")
        if head != "rand":
            raise ValueError(f"{text!r} must begin with 'rand-', e.g. rand-m7-n4-mstd0.5-inc1")
        values: dict[str, float] = {}
        for part in parts:
            match = re.fullmatch(r"(mstd|m|n|p|inc)(\d+(?:\.\d+)?)", part)
            if match is None:
                raise ValueError(
                    f"{text!r} has the unknown part {part!r}; known, each followed by a number: "
                    f"m, n, mstd, p, inc"
                )
            if match[1] in values:
                raise ValueError(f"{text!r} gives {match[1]} twice")
            values[match[1]] = float(match[2])
        for key, (holds, rule) in _RULES.items():
            if key not in values:
                if key in ("m", "n"):
                    raise ValueError(f"{text!r} lacks {key}, e.g. rand-m7-n4-mstd0.5-inc1")
            elif not holds(values[key]):
                raise ValueError(f"{text!r}: {key} {rule}, got {values[key]:g}")
        return cls(
            magnitude=values["m"],
            num_ops=int(values["n"]),
            magnitude_std=values.get("mstd", 0.0),
            prob=values.get("p", 0.5),
            increasing=values.get("inc", 0) == 1,
        )

    def draw(self, rng: np.random.Generator) -> list[tuple[str, Argument]]:
        """The operations for one clip, in order; those that are not applied are left out."""
        chosen = rng.integers(len(NAMES), size=self.num_ops)
        applied = rng.random(self.num_ops) < self.prob
        magnitudes = rng.normal(self.magnitude, self.magnitude_std, self.num_ops)
        magnitudes = np.clip(magnitudes, 0.0, MAX_MAGNITUDE)
        signs = np.where(rng.random(self.num_ops) < 0.5, -1, 1)
        return [
            (NAMES[number], argument(NAMES[number], float(magnitude), int(sign), self.increasing))
            for number, use, magnitude, sign in zip(chosen, applied, magnitudes, signs, strict=True)
            if use
        ]

    def __call__(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws and applies; see `apply`."""
        return apply(clip, self.draw(rng))


_RULES: dict[str, tuple[Callable[[float], bool], str]] = {
    "m": (lambda value: value <= MAX_MAGNITUDE, "must lie in [0, 10]"),
    "n": (lambda value: value >= 1 and value.is_integer(), "must be a whole number from 1 on"),
    "mstd": (lambda value: value <= MAX_MAGNITUDE, "must lie in [0, 10]"),
    "p": (lambda value: value <= 1, "must lie in [0, 1]"),
    "inc": (lambda value: value in (0, 1), "must be 0 or 1"),
}
