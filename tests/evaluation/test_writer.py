import csv
import json

from fluxjax.evaluation.base import Column, Table
from fluxjax.evaluation.writer import format_table, write_scalars, write_tables

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
