"""One contract for all kinds of video: file, bytes, array, folder of images, folder of chunks."""

import inspect

import numpy as np
import pytest
from PIL import Image

from data_pipelines.reading.arrays import ArrayVideo
from data_pipelines.reading.folders import ChunkFolder, FrameFolder
from data_pipelines.reading.video import Box, Video, VideoError, open_video
from tests.data_pipelines import video_files as files

FRAMES, FPS, CHUNK = 50, 25, 20
KINDS = ("file", "bytes", "array", "images", "chunks")


def smooth(index: int) -> np.ndarray:
    """A picture without fine detail, brighter from frame to frame; uint8 [64, 80, 3]."""
    y, x = np.mgrid[:64, :80]
    return np.stack([x * 2 + index, y * 2 + index, 128 + 0 * x], -1).astype(np.uint8)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Kind -> the same fifty frames, which show their numbers."""
    folder = tmp_path_factory.mktemp("kinds")
    lossless = {"codec": "ffv1", "pixel_format": "bgr0", "rate": FPS}
    path = files.write_video(folder / "video.mkv", FRAMES, **lossless)
    frames = np.stack([files.picture(index, 64, 80) for index in range(FRAMES)])
    (folder / "images").mkdir()
    (folder / "chunks").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "images" / f"{index + 1:05d}.png")
    for first in range(0, FRAMES, CHUNK):
        some = frames[first : first + CHUNK]
        write_frames(folder / "chunks" / f"{first / FPS:g}.mkv", some)
    return frames, {
        "file": path,
        "bytes": path.read_bytes(),
        "array": ArrayVideo(frames, FPS),
        "images": FrameFolder(folder / "images", fps=FPS),
        "chunks": ChunkFolder(folder / "chunks"),
    }


def write_frames(path, frames):
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        for frame in frames:
            frame = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.fixture(params=KINDS)
def kind(request, sources):
    frames, by_kind = sources
    return frames, by_kind[request.param]


def test_attributes(kind):
    frames, source = kind
    with open_video(source) as video:
        assert (video.num_frames, video.height, video.width) == (FRAMES, 64, 80)
        assert video.times.dtype == np.float64
        np.testing.assert_allclose(video.times, np.arange(FRAMES) / FPS, atol=1e-9)
        assert video.duration == pytest.approx(FRAMES / FPS)
        assert video.fps == pytest.approx(FPS)
        assert video.name and video.codec and video.gop >= 1
        members = {n for n, _ in inspect.getmembers(Video) if not n.startswith("_")}
        assert members | set(Video.__annotations__) <= set(dir(video)), "the protocol is complete"


def test_frames_by_index_in_any_order(kind):
    frames, source = kind
    indices = np.array([49, 0, 20, 19, 21, 0])
    with open_video(source) as video:
        got = video.read(indices)
        assert got.dtype == np.uint8 and np.array_equal(got, frames[indices])
        assert np.array_equal(video.read(indices, flip=True), frames[indices, :, ::-1])
        box = Box(top=10, left=20, height=40, width=30)
        assert np.array_equal(video.read(indices, box=box), frames[indices, 10:50, 20:50])
        assert video.read(indices, box=box, size=(12, 14)).shape == (6, 12, 14, 3)
        assert video.read([], size=(12, 14)).shape == (0, 12, 14, 3)
        video.scan()
        assert video.defects() is None


def test_spans(kind):
    _, source = kind
    with open_video(source) as video:
        assert video.span(0, 1) == (0, 25)
        assert video.span(0.8, 1.2) == (20, 30)
        assert video.span(0.5, 0.51) == (12, 13)  # on display at 0.5 s since 0.48 s
        assert video.span(1.5, 99) == (37, 50)
        with pytest.raises(VideoError, match=r"the video ends at 2\.000 s"):
            video.span(2, 3)
        for start, end in ((2, 2), (-1, 2), (float("nan"), 2)):
            with pytest.raises(ValueError, match="0 <= start < end"):
                video.span(start, end)


def test_misuse(kind):
    _, source = kind
    with open_video(source) as video:
        for index in (-1, FRAMES):
            with pytest.raises(IndexError, match=r"0\.\.49"):
                video.read([0, index])
        for indices in ([0.5], [[1]], 3):
            with pytest.raises(ValueError, match="indices"):
                video.read(indices)
        for box in (Box(0, 0, 65, 10), Box(-2, 0, 10, 10), Box(0, 0, 0, 10)):
            with pytest.raises(ValueError, match="not inside"):
                video.read([0], box=box)
        with pytest.raises(ValueError, match="size"):
            video.read([0], size=(0, 10))


def test_scaled_crops_agree(tmp_path):
    """Of one picture, as a file, an array and an image, enlarged and shrunk."""
    frames = np.stack([smooth(index) for index in range(3)])
    write_frames(tmp_path / "video.mkv", frames)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    for size in ((32, 40), (50, 30), (112, 112), (9, 11)):
        box = Box(8, 12, 50, 60)
        results = []
        for source in (tmp_path / "video.mkv", FrameFolder(tmp_path), ArrayVideo(frames)):
            with open_video(source) as video:
                results.append(video.read([2, 0], box=box, size=size).astype(int))
        assert np.abs(results[1] - results[0]).max() <= 1, "within rounding"
        assert np.abs(results[2] - results[0]).max() <= 1, size
