"""Tables as files, as text, and as scalars: one writer for every evaluator."""

import csv
import io
import json
import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from fluxjax.evaluation.base import Row, Table
from fluxjax.evaluation.confusion import draw_confusion
from fluxjax.evaluation.tables import markdown_table, replace_text

NAMED = 5  # unreadable videos that the console names


class ScalarWriter(Protocol):
    """CLU's metric writers."""

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        """Writes the values of a step."""


class PictureWriter(Protocol):
    """CLU's metric writers that take pictures."""

    def write_images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Writes pictures [N, H, W, 3] uint8 of a step."""


def format_table(table: Table) -> str:
    """The table as Markdown, and a line on videos that could not be read."""
    body = [[column.text(row) for column in table.columns] for row in table.rows]
    text = markdown_table([column.head for column in table.columns], body)
    if table.unreadable:
        more = f", and {len(table.unreadable) - NAMED} more" * (len(table.unreadable) > NAMED)
        names = ", ".join(table.unreadable[:NAMED])
        text += f"\n\n{len(table.unreadable)} of them could not be read: {names}{more}"
    return text


def write_tables(tables: Sequence[Table], folder: pathlib.Path, step: int | None) -> None:
    """Writes FILE.json and FILE.csv of every table, each whole or not at all.

    Of a table with answers also per_class.csv and confusion.png, of one with a picture FILE.png.

    Args:
      tables: what was measured.
      folder: where; must exist.
      step: of the training run; None where the model does not say.
    """
    for table in tables:
        content = {
            "step": step,
            "videos": table.videos,
            "unreadable": list(table.unreadable),
            "rows": [dict(row) for row in table.rows],
        }
        replace_text(folder / f"{table.file}.json", json.dumps(content, indent=2) + "\n")
        replace_text(folder / f"{table.file}.csv", _csv(table.rows))
        if table.answers is not None:
            replace_text(folder / "per_class.csv", _csv(table.answers.per_class()))
            temporary = folder / "confusion.png.tmp"
            draw_confusion(table.answers, temporary)
            temporary.replace(folder / "confusion.png")
        if table.picture is not None:
            temporary = folder / f"{table.file}.png.tmp"
            Image.fromarray(table.picture).save(temporary, format="png")
            temporary.replace(folder / f"{table.file}.png")


def write_predictions(table: Table, folder: pathlib.Path) -> None:
    """Writes predictions.jsonl and predictions.csv: every video of a table that has answers."""
    records = list(table.answers.per_video(table.names()))
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    replace_text(folder / "predictions.jsonl", lines)
    columns = ("video", "readable", "label", "predicted", "right")
    rows = [
        {name: record.get(name) for name in columns}
        | {"probability": record["best"][0]["probability"] if record["readable"] else None}
        for record in records
    ]
    replace_text(folder / "predictions.csv", _csv(rows))


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def scalars_of(tables: Sequence[Table]) -> dict[str, float]:
    """Scalars of every table: NAME for the first, TABLE/NAME for the others."""
    scalars = {}
    for table in tables:
        prefix = "" if table is tables[0] else f"{table.name}/"
        scalars |= {prefix + name: float(value) for name, value in table.scalars.items()}
    return scalars


def write_scalars(tables: Sequence[Table], writer: ScalarWriter, step: int) -> None:
    """Writes `scalars_of` the tables, with eval/ before every name."""
    scalars = scalars_of(tables)
    writer.write_scalars(step, {f"eval/{name}": value for name, value in scalars.items()})


def write_pictures(tables: Sequence[Table], writer: PictureWriter, step: int) -> None:
    """The picture of every table that has one, as eval/TABLE."""
    pictures = {f"eval/{t.name}": t.picture[None] for t in tables if t.picture is not None}
    if pictures:
        writer.write_images(step, pictures)
