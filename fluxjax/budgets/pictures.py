"""What becomes of the tokens of a few clips at each budget: rows of frames."""

import dataclasses
import functools
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from data_pipelines.clips.crops import WHOLE, ViewPlaces
from data_pipelines.clips.views import eval_views
from data_pipelines.reading.errors import VideoError
from data_pipelines.sources.catalog import Catalog
from fluxjax.serving.drawing import lit, strip
from fluxjax.serving.programs import Programs
from fluxjax.serving.settings import Setting

SHOWN_FRAMES = 8
SIDE = 112  # pixels of a shown frame


@dataclasses.dataclass(frozen=True)
class Picture:
    """One row of frames.

    Attributes:
      title: of the clip.
      caption: setting, and what the model says.
      png: the row, encoded.
    """

    title: str
    caption: str
    png: bytes


def clip_pictures(
    catalog: Catalog,
    indices: Sequence[int],
    programs: Programs,
    settings: Sequence[Setting],
    sampling: str,
    labels: Sequence[str] | None,
    places: ViewPlaces = WHOLE,
) -> list[Picture]:
    """For each clip a row of frames a setting; unreadable videos are left out."""
    pictures = []
    for index in indices:
        record = catalog[index]
        try:
            for setting in settings:
                view = functools.partial(eval_views, record, setting.grid, sampling, places=places)
                clip, shown = view()[0], view(pixels=SIDE)[0]
                probabilities = programs.predict(clip[None, None], setting).probabilities[0]
                best = int(np.argmax(probabilities))
                caption = f"{setting}: {_name(best, labels)} ({probabilities[best]:.0%})"
                picture = lit(shown, programs.groups(clip, setting))
                some = np.linspace(0, len(shown) - 1, min(len(shown), SHOWN_FRAMES)).round()
                row = strip(picture[some.astype(int)])
                title = f"test video {index}: {_name(record.label, labels)}"
                pictures.append(Picture(title, caption, _png(row)))
        except VideoError:
            continue  # counted and named by the sweep
    return pictures


def _name(index: int, labels: Sequence[str] | None) -> str:
    return f"class {index}" if labels is None else labels[index]


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
