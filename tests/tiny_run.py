"""A folder as a training run of `tests/tiny.py` leaves it, with random weights; and its videos."""

import json
import pathlib

import jax

import fluxjax
from fluxjax.tasks import create_task
from tests import tiny
from tests.data_pipelines import video_files

LABELS = ("left", "right", "up", "down")


def write_run(folder: pathlib.Path, **data) -> pathlib.Path:
    """Writes folder/config.json and folder/model; `data` overrides keys of config.data."""
    config = tiny.get_config()
    config.data.update(data)
    task = create_task(config)
    variables = jax.jit(task.init)(jax.random.key(0))
    folder.mkdir(parents=True)
    fluxjax.save(folder / "model", task.model, variables, labels=LABELS)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    return folder


def write_videos(folder: pathlib.Path, count: int) -> pathlib.Path:
    """Writes 0.mp4 .. and list.txt with labels 0, 1, 2, 3, 0, ..; returns the list."""
    folder.mkdir(parents=True)
    for number in range(count):
        video_files.write_video(folder / f"{number}.mp4", frames=12 + number)
    lines = [f"{number}.mp4 {number % 4}\n" for number in range(count)]
    (folder / "list.txt").write_text("".join(lines))
    return folder / "list.txt"
