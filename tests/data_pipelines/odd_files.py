"""The zoo of odd and bad videos that a data set holds sooner or later, made with PyAV."""

import os
import pathlib

import av
import numpy as np
from PIL import Image

from tests.data_pipelines import h264_files
from tests.data_pipelines.video_files import (
    GOP12,
    TIMES,
    picture,
    rewrite,
    write_audio,
    write_video,
)

_VP9 = {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "g": "15"}}
_HEVC = {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "log-level=none"}}
_AV1 = {"codec": "libsvtav1", "options": {"preset": "12", "svtav1-params": "lp=1"}}

# name -> options of `write_video`; all of them must be read
GOOD = {
    "one frame.mp4": {"frames": 1},
    "odd.webm": {"height": 77, "width": 101, **_VP9},
    "10x10.mp4": {"height": 10, "width": 10, "frames": 12},
    "rotated.mp4": {"rotation": (90, False, False), "frames": 12},
    "vfr.mp4": {"times": TIMES, "options": GOP12},
    "10 bit.mp4": {"pixel_format": "yuv420p10le", "frames": 12},
    "grey.mkv": {"pixel_format": "gray", "codec": "ffv1", "frames": 12},
    "animation.gif": {"codec": "gif", "pixel_format": "rgb8", "frames": 12},
    "vp9.webm": {"frames": 12, **_VP9},
    "hevc.mp4": {"frames": 12, **_HEVC},
    "av1.mp4": {"frames": 12, **_AV1},
    "sound.mp4": {"audio": True, "options": GOP12},
    "never reordered.mp4": {"b_frames": False, "options": GOP12},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le", "frames": 6},
}  # fmt: skip


def _write_repeats(path: pathlib.Path) -> None:
    path.write_bytes((pathlib.Path(__file__).parent / "theora_repeats.ogv").read_bytes())


def _write_images(path: pathlib.Path) -> None:
    path.mkdir()
    for index in range(5):
        Image.fromarray(picture(index, 64, 80)).save(path / f"img_{index:05d}.JPG")


def _write_chunks(path: pathlib.Path) -> None:
    path.mkdir()
    for start in (0, 15, 30):
        write_video(path / f"{start}.mp4", 30, rate=2, options=GOP12)


def _write_ends(path: pathlib.Path) -> None:
    """An end of sequence in a packet of its own before every twelfth picture."""
    end = b"\0\0\0\1\x0a"
    whole = write_video(path.with_stem("whole"), options=GOP12)
    rewrite(whole, path, lambda number, data: [data] if number % 12 or not number else [end, data])
    whole.unlink()


def _write_late(path: pathlib.Path) -> None:
    """Pictures from 1.2 s on, with sound from 0 s on."""
    write_video(path, 40, audio=True, times=[1200 + 40 * index for index in range(40)])


# more of them, by the function that writes each
GOOD_WRITERS = {
    "fields.mp4": lambda path: h264_files.write_packets(path, h264_files.field_packets()),
    "fields.ts": lambda path: h264_files.write_packets(path, h264_files.field_packets()),
    "ends.mkv": _write_ends,
    "late.mp4": _write_late,
    "repeats.ogv": _write_repeats,
    "images": _write_images,
    "chunks.mp4": _write_chunks,
}


def write_8k(folder: pathlib.Path) -> pathlib.Path:
    """One frame of 7680 x 4320: 16 x 9 blocks of random colours."""
    blocks = np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8)
    picture = np.kron(blocks, np.ones((480, 480, 1), np.uint8))
    with av.open(str(folder / "8k.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 4320, 7680, "yuv420p"
        stream.codec_context.thread_count = 1
        out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return folder / "8k.mp4"


def write_good(name: str, folder: pathlib.Path) -> pathlib.Path:
    """One of GOOD or GOOD_WRITERS."""
    if name in GOOD_WRITERS:
        GOOD_WRITERS[name](folder / name)
        return folder / name
    # SVT-AV1, run by root, makes the calling thread real-time, and all threads it starts later.
    if not hasattr(os, "sched_getscheduler"):  # not Linux
        return write_video(folder / name, **GOOD[name])
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        return write_video(folder / name, **GOOD[name])
    finally:
        os.sched_setscheduler(0, policy, priority)


def write_bad(folder: pathlib.Path) -> dict[str, str]:
    """Files that no frame can be read of: name -> a part of the reason to expect."""
    whole = write_video(folder / "whole.mp4", options=GOP12).read_bytes()
    contents = {
        "empty.mp4": (b"", "empty file"),
        "text.mp4": (b"This is not a video.\n" * 3, "Invalid data"),
        "picture.mp4.txt": (b"\x00" * 5000, "Invalid data"),
        "truncated.mp4": (whole[: len(whole) // 2], "Invalid data"),  # its tables were at the end
        "html.mp4": (b"<html><body>404 Not Found</body></html>", "Invalid data"),
    }
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    (folder / "whole.mp4").unlink()
    at = whole.index(b"avc1", whole.index(b"stsd"))
    (folder / "encrypted.mp4").write_bytes(whole[:at] + b"encv" + whole[at + 4 :])
    write_audio(folder / "sound only.mp4")
    with av.open(str(folder / "no frames.mkv"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height = stream.width = 64
        out.start_encoding()
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")  # a reader would wait for ever
    reasons = {name: reason for name, (_, reason) in contents.items()}
    return reasons | {
        "encrypted.mp4": "encrypted",
        "sound only.mp4": "no video stream",
        "no frames.mkv": "",
        "folder.mp4": "is a directory",
        "pipe.mp4": "not a regular file",
        "missing.mp4": "no such file",
    }


def write_damaged(folder: pathlib.Path) -> list[str]:
    """Files that frames can be read of, but not all: training patches them, the doctor warns."""
    whole = write_video(folder / "tables first.mp4", options=GOP12,
                        muxing={"movflags": "faststart"}).read_bytes()  # fmt: skip
    (folder / "tables first.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    pictures = write_video(folder / "whole.mkv", codec="mjpeg", pixel_format="yuvj420p")
    broken = folder / "broken pictures.mkv"
    rewrite(pictures, broken, lambda number, data: [b"no picture" if number % 9 == 4 else data])
    flipped = bytearray(pictures.read_bytes())
    for at in range(len(flipped) // 2, len(flipped) * 3 // 4, 97):
        flipped[at] ^= 0x55
    (folder / "flipped bits.mkv").write_bytes(flipped)
    pictures.unlink()
    return ["tables first.mp4", "broken pictures.mkv", "flipped bits.mkv"]
