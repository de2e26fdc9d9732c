"""The notebooks as a reader runs them, with smaller numbers: top to bottom, no cell may fail."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
FLAGS = "--xla_backend_optimization_level=0"  # one device; compiles in half the time

# Executes the notebook given as the first argument, and writes it with its outputs as the second.
EXECUTE = """
import sys, nbformat, nbclient
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=1500, kernel_name="python3",
                        resources={"metadata": {"path": sys.argv[3]}}).execute()
nbformat.write(notebook, sys.argv[2])
"""


def with_parameters(name, folder, **values):
    """A copy of a notebook in `folder` with other values in the cell tagged "parameters"."""
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text())
    (cell,) = (c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", ()))
    text = "".join(cell["source"])
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", lambda _, v=value, k=key: f"{k} = {v}", text)
        assert count == 1, f"{name} has no parameter {key}"
    cell["source"] = text
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps(notebook))
    return path


def execute(path):
    done = path.with_suffix(".done.ipynb")
    result = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(path), str(done), str(FOLDER)],
        capture_output=True, text=True, timeout=1800,
        env=os.environ | {"XLA_FLAGS": FLAGS, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:]
    cells = json.loads(done.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def outputs(cell, kind):
    """MIME types shown, or the text printed to standard output."""
    if kind == "text":
        return "".join("".join(o["text"]) for o in cell["outputs"] if o.get("name") == "stdout")
    return {mime for output in cell["outputs"] for mime in output.get("data", {})}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("nbclient") is None, reason="needs the extra notebook")
def test_the_notebooks_run_top_to_bottom(tmp_path):
    quick = tmp_path / "quick"
    here = f"pathlib.Path({str(quick)!r})"
    cells = execute(with_parameters("quickstart", tmp_path, WORK=here, NUM_VIDEOS=(16, 8), STEPS=4))
    assert all(cell["execution_count"] for cell in cells)
    shown = [outputs(cell, "mime") for cell in cells]
    assert any("image/svg+xml" in kinds for kinds in shown), "no curve"
    assert "image/png" in shown[-1], "no picture of the kept tokens"
    text = "".join(outputs(cell, "text") for cell in cells)
    assert "at most 12 tokens: " in text and ".mp4\n" in text and "| budget |" in text
    own = tmp_path / "own"
    cells = execute(
        with_parameters(
            "train_your_own", tmp_path, WORK=f"pathlib.Path({str(own)!r})",
            START=repr(str(quick / "run" / "model")), NUM_VIDEOS=(24, 12), STEPS=6,
        )
    )  # fmt: skip
    assert all(cell["execution_count"] for cell in cells)
    answer = "".join(cells[-1]["outputs"][-1]["data"]["text/plain"])
    assert re.fullmatch(r"\['(grow|shrink)', '(grow|shrink)'\]", answer)
    assert (own / "run" / "report.html").exists() and (own / "export" / "ladder.json").exists()


def test_notebooks_are_stored_without_outputs():
    names = sorted(path.name for path in FOLDER.glob("*.ipynb"))
    assert names == ["quickstart.ipynb", "train_your_own.ipynb"]
    for name in names:
        for cell in json.loads((FOLDER / name).read_text())["cells"]:
            assert not cell.get("outputs") and not cell.get("execution_count"), name
