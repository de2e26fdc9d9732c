"""Folders of frame images."""

import time

import numpy as np
import pytest
from PIL import Image

from data_pipelines.reading import frame_images
from data_pipelines.reading.errors import VideoTimeoutError
from data_pipelines.reading.folders import FrameFolder
from data_pipelines.reading.video import VideoError, open_video


def picture(grey: int, height: int = 48, width: int = 64) -> Image.Image:
    return Image.fromarray(np.full((height, width, 3), grey, np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Function: names -> a folder of images, whose greys are 10, 20, 30, .. in that order."""

    def write(*names):
        for place, name in enumerate(names, 1):
            picture(10 * place).save(tmp_path / name)
        return tmp_path

    return write


def greys(source, indices=None):
    with open_video(source) as video:
        indices = np.arange(video.num_frames) if indices is None else indices
        return [int(round(frame.mean() / 10)) for frame in video.read(indices)]


@pytest.mark.parametrize(
    "names",
    [
        ("1.png", "2.png", "10.png"),
        ("img_00001.jpg", "img_00002.jpg", "img_00003.jpg"),
        ("0.JPG", "1.JPG", "2.JPG"),
        ("clip3_frame_8.png", "clip3_frame_9.png", "clip3_frame_10.png"),
        ("f005.jpeg", "f010.jpeg", "f015.jpeg"),  # every fifth frame was kept
        ("1.jpg", "2.JPG", "3.jpg"),
        ("only.png",),
    ],
)
def test_images_are_in_natural_order(folder, names):
    path = folder(*names)
    (path / "Thumbs.db").write_bytes(b"no image")
    (path / "._1.jpg").write_bytes(b"of macOS")
    assert greys(path) == [1, 2, 3][: len(names)]


@pytest.mark.parametrize("first", [0, 1, 7])
@pytest.mark.parametrize("count", [None, 3])
def test_templates_begin_where_the_images_do(folder, first, count):
    path = folder(*(f"img_{first + i:05d}.jpg" for i in range(3)), "flow_x_00001.jpg")
    assert greys(FrameFolder(path, "img_{:05d}.jpg", num_frames=count)) == [1, 2, 3]
    assert greys(FrameFolder(path, "img_{:05}.jpg", num_frames=2)) == [1, 2]


def test_images_and_flow_need_a_template(folder):
    path = folder("img_1.jpg", "img_2.jpg", "flow_x_1.jpg", "flow_x_2.jpg")
    with pytest.raises(VideoError, match=r"flow_x_\*.jpg, img_\*.jpg\): give a template"):
        open_video(path)
    with pytest.raises(VideoError, match=r"no image is called frame_\{:d\}.jpg"):
        open_video(FrameFolder(path, "frame_{:d}.jpg"))
    with pytest.raises(ValueError, match="holds no number"):
        FrameFolder(path, "img.jpg")
    with pytest.raises(ValueError, match="template"):
        FrameFolder(path, "img_{:q}.jpg")


def test_missing_and_broken_images_are_named(folder):
    path = folder(*(f"{i:03d}.jpg" for i in range(6)))
    data = (path / "004.jpg").read_bytes()
    (path / "002.jpg").unlink()
    (path / "003.jpg").write_bytes(b"no image")
    (path / "004.jpg").write_bytes(data[: len(data) // 2])
    (path / "005.jpg").write_bytes(b"")
    source = FrameFolder(path, "{:03d}.jpg", num_frames=9)
    assert greys(source, [0, 1, 0]) == [1, 2, 1], "the others are read"
    for index in (2, 3, 4, 5, 8):
        with open_video(source, name="clip 7") as video:
            with pytest.raises(VideoError, match=f"clip 7: frame image 00{index}.jpg: ") as caught:
                video.read([0, index])
            assert caught.value.name == "clip 7"
            with pytest.raises(VideoError, match="frame image 002.jpg: no such file"):
                video.scan()
    with pytest.raises(VideoError, match=r"holds 5 images, fewer than num_frames=9"):
        open_video(FrameFolder(path, num_frames=9))
    (path / "000.jpg").write_bytes(b"")
    with pytest.raises(VideoError, match="frame image 000.jpg"):
        open_video(path)
    with pytest.raises(VideoError, match="no such file"):
        open_video(FrameFolder(path / "nowhere"))


def test_frames_of_other_sizes_are_scaled_to_the_first(folder):
    path = folder("1.png", "2.png")
    picture(20, 96, 200).save(path / "2.png")
    with open_video(path) as video:
        assert (video.height, video.width) == (48, 64)
        assert video.read([0, 1]).shape == (2, 48, 64, 3)
    assert greys(path) == [1, 2]


def test_all_kinds_of_pixels(folder):
    path = folder("1.png")
    truth = np.arange(48 * 64, dtype=np.int64).reshape(48, 64).astype(np.uint8)
    for mode in ("L", "RGBA", "P", "LA", "CMYK"):
        image = Image.fromarray(truth).convert("RGB").convert(mode)
        image.save(path / "1.tif" if mode == "CMYK" else path / "1.png")
        if mode == "CMYK":
            (path / "1.png").unlink()
        with open_video(path) as video:
            assert np.abs(video.read([0])[0] - image.convert("RGB")).max() == 0, mode
    Image.fromarray(truth.astype(np.uint16) * 256).save(path / "1.tif")
    with pytest.raises(VideoError, match="8 bits a colour"):
        open_video(path)


def test_photographs_stand_upright(folder):
    path = folder("1.png")
    half = np.zeros((40, 60, 3), np.uint8)
    half[:20] = 200
    exif = Image.Exif()
    exif[0x112] = 6  # turn by 90 degrees clockwise
    (path / "1.png").unlink()
    Image.fromarray(half).save(path / "1.jpg", exif=exif, quality=95)
    with open_video(path) as video:
        frame = video.read([0])[0]
    assert frame.shape == (60, 40, 3)
    assert frame[:, 25:].mean() > 190 and frame[:, :15].mean() < 10


def test_only_wanted_images_are_opened(folder, monkeypatch):
    path = folder(*(f"{i}.png" for i in range(20)))
    opened, open_image = [], frame_images.Image.open
    with open_video(path) as video:
        monkeypatch.setattr(
            frame_images.Image, "open", lambda p: (opened.append(p), open_image(p))[1]
        )
        video.read([7, 3, 7])
    assert [p.rsplit("/", 1)[1] for p in opened] == ["3.png", "7.png"]


def test_without_a_frame_rate_seconds_mean_nothing(folder):
    path = folder("1.png", "2.png")
    with open_video(path) as video:
        for ask in (lambda: video.fps, lambda: video.times, lambda: video.span(0, 1)):
            with pytest.raises(VideoError, match=r"give FrameFolder\(fps=\.\.\)"):
                ask()
    with open_video(FrameFolder(path, fps=10)) as video:
        assert video.span(0.1, 5) == (1, 2) and video.duration == 0.2
    with pytest.raises(ValueError, match="fps"):
        FrameFolder(path, fps=0)


def test_limits(folder):
    path = folder("1.png", "2.png")
    with pytest.raises(VideoError, match="64x48 is more than max_pixels = 3000"):
        open_video(path, max_pixels=3000)
    with open_video(path, seconds=0.2) as video:
        time.sleep(0.3)
        with pytest.raises(VideoTimeoutError):
            video.read([0])
