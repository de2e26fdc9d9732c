"""Opening the file: its container, the video stream of it, and the errors PyAV raises."""

import contextlib
import io
import os
from collections.abc import Iterator

import av

from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.mp4 import encrypted_tracks

# PyAV 18 raises on metadata that is not UTF-8 unless told otherwise; PyAV 19 has no such option.
READ_OPTIONS = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}

# What PyAV raises on a bad file. Some kinds of FFmpegError are OSError, ValueError or EOFError,
# too; LookupError covers the IndexError of stream lookup, ValueError UnicodeDecodeError.
PYAV_ERRORS = (av.FFmpegError, OSError, EOFError, ValueError, LookupError, MemoryError)


@contextlib.contextmanager
def raised_as_video_error(name: str) -> Iterator[None]:
    """Turn whatever PyAV raises inside the block into `VideoError`."""
    try:
        yield
    except PYAV_ERRORS as error:
        # FFmpeg's message repeats the file name; strerror is the reason alone.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoError(name, reason) from error


def pixel_limit(max_pixels: int) -> dict[str, str]:
    """Decoder option that stops pictures which grow past the limit; FFmpeg counts padding, too."""
    return {"max_pixels": str(2 * max_pixels + (1 << 20))}


def open_container(source: str | os.PathLike | bytes, name: str, max_pixels: int):
    """Open a local file, or the bytes of one.

    Raises:
      VideoError: it is missing, unreadable or encrypted.
    """
    if isinstance(source, bytes):
        file = io.BytesIO(source)
        if not source:
            raise VideoError(name, "empty file")
    else:
        path = os.fspath(source)
        if not os.path.exists(path):
            raise VideoError(name, "no such file")
        if not os.path.isfile(path):
            raise VideoError(name, "not a regular file")  # a pipe would block for ever
        if not os.path.getsize(path):
            raise VideoError(name, "empty file")
        file = f"file:{path}"  # a name such as concat:x is a path here, not an FFmpeg protocol
    options = {
        **pixel_limit(max_pixels),  # probing may decode a frame
        "protocol_whitelist": "file",  # a playlist in disguise must not reach the network
    }
    with raised_as_video_error(name):
        if encrypted_tracks(source):  # FFmpeg would decode noise
            raise VideoError(name, "encrypted: its video needs a key")
        return av.open(file, options=options, **READ_OPTIONS)


def video_stream(container, name: str):
    """The video stream that FFmpeg would choose; never a cover picture.

    Raises:
      VideoError: there is none, or it has no decoder.
    """
    streams = [
        s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic
    ]
    if not streams:
        raise VideoError(name, "no video stream")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise VideoError(name, "no decoder for its video codec")
    return stream


def clock_start(container, stream, first: float) -> float:
    """Where a player's clock begins, in seconds of the container's time stamps.

    Where the earliest of its pictures and sounds begins, as FFmpeg's tools have it. Sound before
    time 0 is the encoder's run-in, which is not played.

    Args:
      container: open.
      stream: the video stream.
      first: time stamp of its first frame, in seconds.
    """
    others = [s for s in (*container.streams.video, *container.streams.audio) if s is not stream]
    cover = av.stream.Disposition.attached_pic
    starts = [
        max(float(s.start_time * s.time_base), 0.0)
        for s in others
        if s.start_time is not None and not s.disposition & cover
    ]
    return min([first, *starts])
