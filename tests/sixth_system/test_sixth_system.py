"""A system of its own: trained, evaluated and repeated through the commands; files only."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

import fluxjax
from data_pipelines.text.training import train_bpe
from tests.data_pipelines import video_files

ROOT = pathlib.Path(__file__).parents[2]
CAPTIONS = ("a red square moves left", "a blue circle moves right", "nothing moves")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioned")
    lines = []
    for number in range(10):
        video_files.write_video(folder / f"{number}.mp4", frames=12 + number)
        captions = [CAPTIONS[number % 3], CAPTIONS[number % 3].upper()]
        lines.append(json.dumps({"video": f"{number}.mp4", "captions": captions}))
    (folder / "list.jsonl").write_text("\n".join(lines) + "\n")
    train_bpe(CAPTIONS, 300, folder / "tokenizer.json")
    return folder


def finished(module, *options):
    command = [sys.executable, "-m", module, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_it_trains_through_main_without_a_change_outside_its_files(data, tmp_path):
    options = (
        "--config=tests/sixth_system/config.py", f"--workdir={tmp_path}",
        f"--config.data.train={data / 'list.jsonl'}", f"--config.data.test={data / 'list.jsonl'}",
        f"--config.data.root={data}", f"--config.match.vocabulary={data / 'tokenizer.json'}",
    )  # fmt: skip
    result = finished("fluxjax.main", *options)
    assert result.returncode == 0, result.stderr
    assert [int(n) for n in re.findall(r"step (\d)/3 \| loss", result.stderr)] == [1, 2, 3]
    assert "a caption" in result.stderr and "| match |" in result.stdout
    table = json.loads((tmp_path / "held_out.json").read_text())
    assert table["videos"] == 10 and table["rows"][0]["loss"] == "match"
    # Its stored config knows where the system is registered.
    looked = finished("fluxjax.evaluate", f"--checkpoint={tmp_path}", f"--output={tmp_path / 'x'}")
    assert looked.returncode == 0, looked.stderr
    assert json.loads((tmp_path / "x" / "held_out.json").read_text())["rows"] == table["rows"]
    repeated = finished("fluxjax.main", f"--config={tmp_path / 'config.json'}",
                        f"--workdir={tmp_path / 'again'}")  # fmt: skip
    assert repeated.returncode == 0, repeated.stderr
    a, b = (json.loads((f / "held_out.json").read_text()) for f in (tmp_path, tmp_path / "again"))
    assert a["rows"] == b["rows"]


def test_what_it_needs_is_asked_for_before_anything_is_read(data, tmp_path):
    result = finished(
        "fluxjax.main", "--config=tests/sixth_system/config.py", f"--workdir={tmp_path / 'run'}"
    )
    assert result.returncode != 0 and "config.match.vocabulary='' must name" in result.stderr
    assert not (tmp_path / "run").exists()


def test_its_model_is_one_of_the_registrys():
    import tests.sixth_system  # noqa: F401

    model = fluxjax.create_model("two_clips_ti", None, width=8)
    assert (type(model).__name__, model.width) == ("TwoClips", 8)
