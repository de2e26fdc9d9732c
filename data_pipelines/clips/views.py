"""Which part of a video a record means, and the deterministic views that it is tested on."""

from collections.abc import Callable, Mapping

import numpy as np

from data_pipelines.clips.crops import WHOLE, ViewPlaces, view_crop
from data_pipelines.clips.sampling import FrameSampler, frame_sampler
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.frame_cache import FrameCache
from data_pipelines.reading.video import Video, open_video
from data_pipelines.sources.quarantine import BadVideos
from data_pipelines.sources.records import Catalog, Record
from fluxjax.tokens.grids import Grid


def fetch(catalog: Catalog, index: int, bad: BadVideos) -> Record:
    """Record `index` of a catalog, if its video is worth a try.

    Raises:
      VideoError: if the video is known to be bad, or its bytes cannot be had.
    """
    try:
        record = catalog[index]
    except OSError as error:  # a remote file that is not there
        raise VideoError(f"video {index}", str(error)) from error
    bad.check(record.name)
    return record


def frame_span(video: Video, record: Record, sampling: str) -> tuple[int, int]:
    """(first, last + 1) frame of the record's part of the video.

    The sampler `uniform` rounds the part to whole frames, as AVION does.

    Raises:
      VideoError: if the part holds no frame.
    """
    if record.start is None and record.end is None:
        return 0, video.num_frames
    first, last = video.span(record.start, record.end, nearest=sampling == "uniform")
    if last <= first:
        raise VideoError(
            record.name,
            f"no frame between {record.start} s and {record.end} s; the video lasts "
            f"{video.duration:.2f} s",
        )
    return first, last


def span_sampler(video: Video, sampling: str, first: int, last: int) -> FrameSampler:
    """The sampler of frames first..last-1; only those by time ask when they are shown.

    Raises:
      VideoError: they do, and the frame rate of a folder of images is not known.
    """
    times = video.times[first:last] if sampling.startswith(("time:", "fps:")) else None
    return frame_sampler(sampling, times)


def eval_views(
    record: Record,
    grid: Grid,
    sampling: str = "sparse",
    clips: int = 1,
    crops: int = 1,
    pixels: int | None = None,
    seconds: float | None = None,
    square_pixels: bool = False,
    places: ViewPlaces = WHOLE,
    note_damage: Callable[[Mapping[str, str]], None] | None = None,
    cache: FrameCache | None = None,
) -> list[np.ndarray]:
    """The deterministic views of one video: clip 0's crops, clip 1's crops, ..

    Args:
      record: what to read.
      grid: frames and resolution of a view.
      sampling: name of the frame sampler.
      clips: temporal views.
      crops: spatial views.
      pixels: side to scale the same crops to, for showing them; None: the grid's resolution.
      seconds: time limit, see `open_video`; None: no limit.
      square_pixels: see `open_video`.
      places: where the crops lie.
      note_damage: told `Video.damage` in the end.
      cache: see `open_video`.

    Returns:
      clips * crops arrays uint8 [T, side, side, 3], RGB.

    Raises:
      VideoError: if the video cannot be read.
    """
    side = pixels or grid.resolution
    views = []
    options = {"seconds": seconds, "square_pixels": square_pixels, "cache": cache}
    with open_video(record.source, name=record.name, **options) as video:
        first, last = frame_span(video, record, sampling)
        eval_frames = span_sampler(video, sampling, first, last).test
        for clip in range(clips):
            frames = first + eval_frames(last - first, grid.frames, clip, clips)
            for crop in range(crops):
                box = view_crop(video.height, video.width, crop, crops, grid.resolution, places)
                views.append(video.read(frames, box=box, size=(side, side)))
        if note_damage is not None:
            note_damage(video.damage())
    return views
