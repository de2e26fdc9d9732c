import csv
import dataclasses
import json

import numpy as np
from PIL import Image

from fluxjax.evaluation.base import Column, Table
from fluxjax.evaluation.reconstructions import GAP, picture_of
from fluxjax.evaluation.writer import format_table, write_pictures, write_scalars, write_tables

TABLE = Table(
    name="classification",
    file="evaluation",
    title="7 videos",
    columns=(Column("grid", lambda row: row["grid"]), Column("top", lambda r: f"{r['top1']:.0%}")),
    rows=({"grid": "8x56", "top1": 0.5}, {"grid": "4x56", "top1": 0.25}),
    scalars={"top1@8x56": 0.5},
    videos=7,
    unreadable=tuple(f"{i}.mp4" for i in range(7)),
)
OTHER = Table("knn", "knn", "", TABLE.columns, TABLE.rows[:1], {"top1": 0.75}, 7)


def test_the_console_names_a_few_of_the_unreadable_videos():
    lines = format_table(TABLE).splitlines()
    assert lines[:4] == ["| grid | top |", "|-----:|----:|", "| 8x56 | 50% |", "| 4x56 | 25% |"]
    assert lines[-1] == (
        "7 of them could not be read: 0.mp4, 1.mp4, 2.mp4, 3.mp4, 4.mp4, and 2 more"
    )
    assert format_table(OTHER).splitlines()[-1] == "| 8x56 | 50% |"


def test_files_hold_everything(tmp_path):
    write_tables([TABLE, OTHER], tmp_path, step=3)
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content == {
        "step": 3, "videos": 7, "unreadable": list(TABLE.unreadable), "rows": list(TABLE.rows),
    }  # fmt: skip
    with open(tmp_path / "knn.csv", newline="") as file:
        assert list(csv.DictReader(file)) == [{"grid": "8x56", "top1": "0.5"}]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "evaluation.csv", "evaluation.json", "knn.csv", "knn.json",
    ]  # fmt: skip


def test_scalars_of_the_first_table_have_the_short_names():
    written = {}

    class Writer:
        def write_scalars(self, step, scalars):
            written[step] = scalars

    write_scalars([TABLE, OTHER], Writer(), 4)
    assert written == {4: {"eval/top1@8x56": 0.5, "eval/knn/top1": 0.75}}


def test_a_picture_is_a_file_and_goes_to_tensorboard(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    written = {}

    class Writer:
        def write_images(self, step, images):
            written[step] = images

    with_picture = dataclasses.replace(OTHER, picture=picture)
    write_tables([TABLE, with_picture], tmp_path, step=3)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "knn.png")), picture)
    write_pictures([TABLE, with_picture], Writer(), 4)
    assert list(written) == [4] and list(written[4]) == ["eval/knn"]
    np.testing.assert_array_equal(written[4]["eval/knn"], picture[None])
    write_pictures([TABLE], Writer(), 5)
    assert 5 not in written


def test_videos_stand_side_by_side_in_a_picture():
    videos = np.zeros((2, 3, 8, 4, 6, 3), np.float32)
    videos[1, 2, 7] = 200.4  # the last row's last frame of the second video
    picture = picture_of(videos)
    height, width = 4 + GAP, 4 * 6 + GAP
    assert picture.shape == (3 * height, 2 * width, 3) and picture.dtype == np.uint8
    lit = picture[2 * height : 2 * height + 4, width + 18 : width + 24]
    assert np.all(lit == 200) and np.sum(picture == 200) == lit.size
    assert np.all(picture[4:height] == 255), "videos and rows are kept apart"
