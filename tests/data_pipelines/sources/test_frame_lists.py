"""Lists of frame folders, from the line to the clip."""

import numpy as np
import pytest
from PIL import Image

from data_pipelines import doctor
from data_pipelines.clips.examples import EvalExamples, TrainExamples
from data_pipelines.from_config import VideoData
from data_pipelines.reading.folders import FrameFolder
from data_pipelines.sources.catalog import open_catalog
from data_pipelines.sources.quarantine import BadVideos
from fluxjax.config.keys import base_config
from fluxjax.tokens.examples import ClipSpec, ExampleSpec
from fluxjax.tokens.grids import Grid


@pytest.fixture
def videos(tmp_path):
    """Two folders of 6 and 3 images whose brightness is 40 times their number."""
    for name, frames in (("left hand", 6), ("right", 3)):
        (tmp_path / name).mkdir()
        for i in range(1, frames + 1):
            picture = np.full((24, 32, 3), 40 * i, np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"img_{i:05d}.png")
    (tmp_path / "list.txt").write_text("# SSv1\nleft hand 5 2\n\nright 3 0\n")
    return tmp_path


def opened(folder, **options):
    options = {"root": str(folder), "frames": "img_{:05d}.png"} | options
    return open_catalog(str(folder / "list.txt"), split="train", **options)


def test_a_line_names_a_folder_its_frames_and_a_class(videos):
    catalog = opened(videos)
    assert catalog.labels().tolist() == [2, 0] and catalog.num_classes == 3
    source = catalog[0].source
    assert source == FrameFolder(str(videos / "left hand"), "img_{:05d}.png", num_frames=5)
    assert catalog[0].name == str(videos / "left hand")


def test_clips_hold_the_numbered_images(videos):
    spec = ExampleSpec((ClipSpec((Grid(5, 16),), "long"), ClipSpec((Grid(2, 16),), "short")))
    item = EvalExamples(opened(videos), spec, BadVideos(0.0), sampling="ssv2").item(0)
    bright = lambda name: item[f"{name}_video"][0].mean(axis=(1, 2, 3)).round()  # noqa: E731
    assert bright("long").tolist() == [40, 80, 120, 160, 200]  # the list says 5, not 6
    assert bright("short").tolist() == [80, 160]
    train = TrainExamples(opened(videos), spec, 0, 1, BadVideos(0.0), sampling="ssv2")
    assert {int(train.item(i)["label"][0]) for i in range(2)} == {0, 2}


@pytest.mark.parametrize(
    ("line", "options", "message"),
    [
        ("left 2\n", {}, "'left 2' has not three fields"),
        ("left x 2\n", {}, "num_frames 'x' of 'left' is no number of at least 1"),
        ("left 0 2\n", {}, "num_frames '0' of 'left'"),
        ("left 5 1.5\n", {}, "label '1.5' of 'left'"),
        ("left 5 1\n", {"frames": "img.png"}, "holds no number"),
        ("left 5 1\n", {"root": "gs://bucket"}, "frame folders must be local"),
        ("", {}, "names no video; each line is `path num_frames label`"),
    ],
)
def test_what_is_no_such_list_is_named(videos, line, options, message):
    (videos / "list.txt").write_text(line)
    with pytest.raises(ValueError, match=message):
        opened(videos, **options)


def test_other_sources_have_no_frames_to_name(videos):
    with pytest.raises(ValueError, match="frames='{:05d}.jpg' has no meaning for 'demo'"):
        open_catalog("demo", split="train", frames="{:05d}.jpg")
    with pytest.raises(ValueError, match="frames='.*' has no meaning for"):
        open_catalog(str(videos), split="train", frames="{:05d}.jpg")


def test_the_doctor_reads_the_frames_that_a_list_says(videos, capsys):
    (videos / "list.txt").write_text("left hand 6 2\nright 4 0\n")  # right has only 3
    options = ["--root", str(videos), "--frames", "img_{:05d}.png"]
    assert doctor.main([str(videos / "list.txt"), *options]) == 1
    said = capsys.readouterr().out
    assert "2 videos, 1 bad" in said and "right: frame image img_00004.png: no such file" in said


def test_a_config_says_which_images_and_where_views_and_crops_lie(tmp_path):
    """Columns of 4 times their number tell where a clip was cut."""
    (tmp_path / "a").mkdir()
    columns = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (48, 64, 3))
    for i in (1, 2):
        Image.fromarray(columns).save(tmp_path / "a" / f"{i}.png")
    (tmp_path / "list.txt").write_text("a 2 0\na 2 1\n")
    config = base_config()
    config.data.train = config.data.test = str(tmp_path / "list.txt")
    config.data.root, config.data.frames, config.data.flip = str(tmp_path), "{}.png", False
    config.data.crop = "short_side:0.5:0.5"
    config.batch_size = config.eval.batch_size = 2
    config.total_steps = 8
    spec = ExampleSpec((ClipSpec((Grid(2, 24),)),))

    def edges(video):
        row = video.reshape(-1, 24, 24, 3)[0, 12, :, 0] / 4
        return row[0], row[-1]

    for share, place, left, right in [
        (1.0, "centre", 8, 55), (1.0, "start", 0, 47), (0.75, "centre", 14, 49),
    ]:  # fmt: skip
        config.eval.crop_share, config.eval.crop_place = share, place
        (batch,) = VideoData.open(config).eval_batches(spec)
        assert edges(batch["video"][0]) == pytest.approx((left, right), abs=1.1)
    seen = [edges(batch["video"]) for batch in VideoData.open(config).train_batches(spec, 0)]
    assert {round(right - left) for left, right in seen} == {23}
    assert len({left for left, _ in seen}) > 3
