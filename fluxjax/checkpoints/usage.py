"""How a model was run where it was trained: what a checkpoint needs beside its weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Usage:
    """How frames were chosen and views taken when the model was evaluated.

    Attributes:
      sampling: name of the frame sampler, see `data_pipelines.clips.sampling`.
      grids: sampling grids that it was evaluated on, FRAMESxPIXELS, the main one first.
      budgets: tokens that it was evaluated at, () for none.
      clips: temporal views of a video.
      crops: spatial views of a clip.
      square_pixels: whether non-square pixels were shown in the shape that players do.
      crop_share: side of a view over the frame's short side.
      crop_place: where a single view lies, "centre", "start" or "whole".
      frames: numbers of frames that it was trained on, () where unknown.
    """

    sampling: str
    grids: tuple[str, ...]
    budgets: tuple[int, ...] = ()
    clips: int = 1
    crops: int = 1
    frames: tuple[int, ...] = ()
    square_pixels: bool = False
    crop_share: float = 1.0
    crop_place: str = "centre"

    @classmethod
    def of_run(cls, config: Mapping[str, Any]) -> "Usage":
        """Of a training run's config, or of the config.json in its workdir."""
        evaluation = config["eval"]
        return cls(
            sampling=config["data"]["sampling"],
            grids=tuple(evaluation["grids"]),
            budgets=tuple(evaluation["budgets"]),
            clips=evaluation["clips"],
            crops=evaluation["crops"],
            frames=tuple(config["grids"]["frames"] or ()),
            square_pixels=config["data"].get("square_pixels", False),
            crop_share=evaluation.get("crop_share", 1.0),
            crop_place=evaluation.get("crop_place", "centre"),
        )

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Usage":
        """Inverse of `dataclasses.asdict` through JSON.

        Raises:
          TypeError, ValueError: if it is no such object; keys of later versions are not read.
        """
        fields = {field.name: stored[field.name] for field in dataclasses.fields(cls)
                  if field.name in stored}  # fmt: skip
        for name, value in fields.items():
            if isinstance(value, list):
                fields[name] = tuple(value)
        usage = cls(**fields)
        texts, counts = (usage.sampling, *usage.grids), (*usage.budgets, *usage.frames)
        counts += (usage.clips, usage.crops)
        if not all(isinstance(text, str) for text in texts) or not usage.grids:
            raise ValueError(f"sampling or grids of {stored!r} are no names")
        if not all(type(count) is int and count >= 1 for count in counts):
            raise ValueError(f"a count of {stored!r} is none")
        return usage
