import csv
import dataclasses
import json

import numpy as np
from PIL import Image

from fluxjax.evaluation.answers import Answers
from fluxjax.evaluation.confusion import draw_confusion
from fluxjax.evaluation.writer import write_predictions, write_tables
from tests.evaluation.test_writer import TABLE

# Six videos of three classes; the fourth cannot be read.
ANSWERS = Answers(
    best=np.int32([[0, 1], [1, 0], [1, 2], [2, 0], [1, 0], [0, 2]]),
    probability=np.float32(
        [[0.9, 0.1], [0.6, 0.4], [0.5, 0.3], [0.4, 0.3], [0.7, 0.2], [0.8, 0.1]]
    ),
    label=np.int32([0, 0, 1, -1, 0, 1]),
    readable=np.array([True, True, True, False, True, True]),
    classes=("run", "jump", "sit"),
    num_classes=3,
    where="8x56 at 48 tokens",
)
NAMES = [f"{i}.mp4" for i in range(6)]


def test_the_confusion_counts_readable_videos():
    assert ANSWERS.confusion().tolist() == [[1, 2, 0], [1, 1, 0], [0, 0, 0]]


def test_every_class_has_a_row():
    run, jump, sit = ANSWERS.per_class()
    assert run == {
        "class": 0, "name": "run", "videos": 3, "right": 1, "accuracy": 1 / 3,
        "taken_for": "jump", "times": 2,
    }  # fmt: skip
    assert (jump["videos"], jump["right"], jump["taken_for"]) == (2, 1, "run")
    assert (sit["videos"], sit["accuracy"], sit["taken_for"], sit["times"]) == (0, None, "", 0)


def test_every_video_has_a_record():
    records = list(ANSWERS.per_video(NAMES))
    assert records[1] == {
        "video": "1.mp4", "readable": True, "label": "run", "predicted": "jump", "right": False,
        "best": [{"class": "jump", "probability": 0.6}, {"class": "run", "probability": 0.4}],
    }  # fmt: skip
    assert records[3] == {"video": "3.mp4", "readable": False}
    unnamed = dataclasses.replace(ANSWERS, classes=None)
    assert next(unnamed.per_video(NAMES))["predicted"] == "0"


def test_files_of_a_table_with_answers(tmp_path):
    table = dataclasses.replace(TABLE, answers=ANSWERS, names=lambda: NAMES)
    write_tables([table], tmp_path, step=1)
    write_predictions(table, tmp_path)
    read = lambda name: list(csv.DictReader((tmp_path / name).read_text().splitlines()))  # noqa: E731
    assert [row["right"] for row in read("per_class.csv")] == ["1", "1", "0"]
    rows = read("predictions.csv")
    assert [row["predicted"] for row in rows] == ["run", "jump", "jump", "", "jump", "run"]
    assert rows[3]["readable"] == "False" and rows[3]["probability"] == ""
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert lines == list(ANSWERS.per_video(NAMES))
    assert Image.open(tmp_path / "confusion.png").format == "PNG"
    assert not list(tmp_path.glob("*.tmp"))


def test_the_picture_is_dark_where_videos_are(tmp_path):
    """The same picture but for one cell differs, and only around that cell."""
    only = lambda best: dataclasses.replace(  # noqa: E731
        ANSWERS, best=np.int32(best)[:, None], label=np.int32([0, 1, 2]), readable=np.ones(3, bool),
        probability=np.ones((3, 1), np.float32),
    )  # fmt: skip
    for name, best in (("right", [0, 1, 2]), ("wrong", [0, 1, 0])):
        draw_confusion(only(best), tmp_path / f"{name}.png")
    right, wrong = (
        np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"), float)
        for name in ("right", "wrong")
    )
    changed = np.argwhere(np.abs(right - wrong) > 60)
    assert len(changed) > 1000
    rows = changed[changed[:, 0] > 60][:, 0]  # below the title
    assert rows.max() - rows.min() < right.shape[0] / 2, "more than the last row changed"
