"""Small test videos, made with PyAV: every frame has its own content and shows its index."""

import fractions
import pathlib
from collections.abc import Sequence

import av
import av.filter
import numpy as np

from data_pipelines.reading.container import READ_OPTIONS

BITS = 7
SCALE = "flags=bilinear+accurate_rnd+bitexact"


def x264(text: str) -> dict[str, str]:
    return {"preset": "veryfast", "x264-params": text}


GOP12 = x264("keyint=12:bframes=3:scenecut=0")
OPEN = x264("keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0:open-gop=1")
HEVC = "keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0:open-gop=1:log-level=none:pools=1"
TIMES = np.cumsum(np.random.default_rng(0).integers(10, 90, 40)).tolist()

# name -> (file name, options of `write_video`, whether frames are found without a full decode)
ENCODED = {
    "gop 12": ("gop12.mp4", {"options": GOP12}, True),
    "gop 250": ("gop250.mp4", {"frames": 90, "options": x264("keyint=250:bframes=3")}, True),
    "vfr": ("vfr.mp4", {"times": TIMES, "options": GOP12}, True),
    "open gop": ("open.mp4", {"options": OPEN}, True),
    "mkv": ("open.mkv", {"options": OPEN}, True),
    "flv": ("gop12.flv", {"options": GOP12}, True),
    "ts": ("open.ts", {"options": OPEN}, True),
    "fragmented": (
        "fragmented.mp4",
        {"options": GOP12, "muxing": {"movflags": "frag_keyframe"}},
        True,
    ),
    "audio": ("audio.mp4", {"audio": True, "options": GOP12}, True),
    "odd": ("odd.webm", {"height": 77, "width": 101, "codec": "libvpx-vp9"}, True),
    "odd 4:4:4": (
        "odd.mp4",
        {"height": 77, "width": 101, "pixel_format": "yuv444p", "options": GOP12},
        True,
    ),
    "10 bit": ("10bit.mp4", {"pixel_format": "yuv420p10le", "options": GOP12}, True),
    "intra refresh": ("refresh.mkv", {"options": x264("intra-refresh=1:keyint=12")}, True),
    "one frame": ("one.mp4", {"frames": 1}, True),
    "rotated": ("rotated.mp4", {"rotation": (90, False, False), "options": GOP12}, True),
    "hevc": (
        "open_hevc.mkv",
        {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": HEVC}},
        True,
    ),
    "vp8": ("vp8.webm", {"codec": "libvpx", "options": {"g": "15", "cpu-used": "8"}}, True),
    "vp9": ("vp9.webm", {"codec": "libvpx-vp9", "options": {"g": "15", "cpu-used": "8"}}, True),
    "mjpeg": ("mjpeg.mkv", {"codec": "mjpeg", "pixel_format": "yuvj420p"}, True),
    "avi, b-frames": ("mpeg4.avi", {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}}, False),
    "h264 in avi": ("h264.avi", {"options": GOP12}, False),
    "avi, no b-frames": ("plain.avi", {"options": x264("keyint=12:bframes=0")}, False),
    "mpeg-2 ts": ("mpeg2.ts", {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}}, False),
    "gif": ("gif.gif", {"codec": "gif", "pixel_format": "rgb8"}, False),
}


# name -> (source, how it is changed, whether it is planned, first index that can be seen)
DERIVED = {
    "edit list": ("gop12.mp4", {"earlier": 5}, True, 5),
    "edit list at a cut": ("open.mp4", {"packets": 9}, True, 12),
    "edit list, open gop": ("open.mp4", {"earlier": 14}, True, 14),
    "cut before key frame": ("gop12.mp4", {"packets": 5}, False, 12),
    "cut at open gop": ("open.mkv", {"packets": 9}, False, 12),
    "ts cut anywhere": ("open.ts", {"packets": 5}, False, 12),
    "hevc cut at open gop": ("open_hevc.mkv", {"packets": 9}, False, 12),
    "no key-frame table": ("gop12.mp4", {"rename": b"stss"}, True, 0),
    "no reordering table": ("gop12.mp4", {"rename": b"ctts"}, False, None),
}


def picture(index: int, height: int, width: int) -> np.ndarray:
    """uint8 `[height, width, 3]`: moving texture, and the index in black and white blocks."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin((x * (c + 2) + y * (3 - c) + 5 * index) / 9.0) for c in range(3)]
    image = (128 + 90 * np.stack(waves, -1)).astype(np.uint8)
    noise = np.random.default_rng(index).integers(0, 40, (height // 4, width // 4, 1), np.uint8)
    image[: height // 4 * 4, : width // 4 * 4] += np.kron(noise, np.ones((4, 4, 1), np.uint8))
    for bit in range(BITS):
        image[:8, bit * 8 : bit * 8 + 8] = 255 * ((index >> bit) & 1)
    return image


def index_in(image: np.ndarray) -> int:
    """The index that `picture` wrote."""
    blocks = [image[2:6, bit * 8 + 2 : bit * 8 + 6].mean() > 128 for bit in range(BITS)]
    return sum(int(on) << bit for bit, on in enumerate(blocks))


def write_video(
    path: pathlib.Path,
    frames: int = 40,
    *,
    height: int = 64,
    width: int = 80,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times: Sequence[int] | None = None,
    rate: int = 25,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    rotation: tuple[float, bool, bool] | None = None,
    audio: bool = False,
    b_frames: bool = True,
) -> pathlib.Path:
    """Encode `picture(0..frames-1)`; `times` are presentation times in 1/1000 s, if not regular.

    `options` go to the encoder, `muxing` to the container.
    Without `b_frames` every picture is P, whatever the header allows.
    `rotation` is (degrees counterclockwise, mirror left-right, mirror upside-down), as a flag.
    """
    base = fractions.Fraction(1, 1000) if times is not None else fractions.Fraction(1, rate)
    # The same bytes every time: one thread, and no random or dated fields of the container.
    with av.open(str(path), "w", options={"fflags": "+bitexact", **(muxing or {})}) as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.codec_context.thread_count = 1
        stream.height, stream.width, stream.pix_fmt = height, width, pixel_format
        stream.codec_context.time_base = base
        stream.codec_context.thread_count = 1
        if rotation is not None:
            degrees, left_right, upside_down = rotation
            stream.set_display_rotation(degrees, hflip=left_right, vflip=upside_down)
        sound = out.add_stream("aac", rate=8000, layout="mono") if audio else None
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, height, width), format="rgb24")
            frame = frame.reformat(format=pixel_format, threads=1)
            frame.pts = index if times is None else times[index]
            frame.time_base = base
            if not b_frames:
                frame.pict_type = av.video.frame.PictureType.P if index else 1
            out.mux(stream.encode(frame))
            if sound is not None:
                _beep(out, sound, index, 8000 // rate)
        out.mux(stream.encode(None))
        if sound is not None:
            out.mux(sound.encode(None))
    return path


def _beep(out, sound, index: int, samples: int) -> None:
    tone = np.sin(np.arange(samples) / 5).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 8000, index * samples
    out.mux(sound.encode(frame))


def write_audio(path: pathlib.Path) -> pathlib.Path:
    """One second of sound and no picture."""
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=8000, layout="mono")
        for index in range(25):
            _beep(out, sound, index, 320)
        out.mux(sound.encode(None))
    return path


def cut(source: pathlib.Path, path: pathlib.Path, *, packets: int = 0, earlier: int = 0):
    """Copy packets into a new file, as `-c copy` does.

    The first `packets` are left out; times are shifted by `earlier` frames of 1/25 s, so that the
    first frames get negative times, which MP4 hides behind an edit list.
    """
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        shift = round(earlier / (25 * stream.time_base))
        for number, packet in enumerate(p for p in old.demux(stream) if p.size):
            if number >= packets:
                packet.pts -= shift
                packet.dts = None if packet.dts is None else packet.dts - shift
                packet.stream = copy
                new.mux(packet)
    return path


def rewrite(source: pathlib.Path, path: pathlib.Path, change) -> pathlib.Path:
    """Copies a file; `change(number, payload)` gives the packets that take the place of each.

    Packets added before the last of them are timed half a frame of 1/25 s apart.
    """
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for number, packet in enumerate(p for p in old.demux(stream) if p.size):
            payloads = change(number, bytes(packet))
            for place, payload in enumerate(payloads, 1 - len(payloads)):
                changed = av.Packet(payload)
                earlier = round(place / (50 * stream.time_base))
                changed.pts = packet.pts + earlier
                changed.dts = None if packet.dts is None else packet.dts + earlier
                changed.time_base, changed.stream = packet.time_base, copy
                changed.is_keyframe = packet.is_keyframe and not place
                new.mux(changed)
    return path


def decode_all(path: pathlib.Path) -> list[av.VideoFrame]:
    """The truth: what FFmpeg decodes from the first packet to the last, past packets it rejects."""
    frames = []
    with av.open(str(path), **READ_OPTIONS) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                frames += stream.codec_context.decode(packet)
            except av.FFmpegError:
                continue
    return frames


def named(name: str, folder: pathlib.Path) -> pathlib.Path:
    """The file that ENCODED or DERIVED calls by that name; made on first use."""
    if name in ENCODED:
        path = folder / ENCODED[name][0]
        return path if path.exists() else write_video(path, **ENCODED[name][1])
    source, change, *_ = DERIVED[name]
    original = named(next(key for key, value in ENCODED.items() if value[0] == source), folder)
    path = folder / f"{name} {source}"
    if path.exists():
        return path
    if "rename" in change:
        path.write_bytes(original.read_bytes().replace(change["rename"], b"free"))
        return path
    return cut(original, path, **change)


def convert(frames: list[av.VideoFrame], filters: Sequence[tuple[str, str]] = ()) -> np.ndarray:
    """RGB uint8 `[T, h, w, 3]` by way of a filter graph that owes nothing to the one under test."""
    first = frames[0]
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=first.width, height=first.height, format=first.format, time_base=first.time_base
    )
    filters = [*filters] or [("scale", SCALE)]
    nodes = [source, *(graph.add(*f) for f in filters), graph.add("format", "rgb24")]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    out = []
    for frame in frames:
        graph.push(frame)
        out.append(graph.pull().to_ndarray())
    return np.stack(out)
