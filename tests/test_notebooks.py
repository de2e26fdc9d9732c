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
EXECUTE = (
    "import pathlib, sys; from execute import execute; execute(*map(pathlib.Path, sys.argv[1:]))"
)


def module():
    """notebooks/execute.py, which is no package."""
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


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
        [sys.executable, "-c", EXECUTE, str(path), str(done)], cwd=FOLDER,
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
    assert "at most 12 tokens: " in text and "12 tokens, 0.mp4: " in text and "| budget |" in text
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


def stored(name):
    return json.loads((FOLDER / name).read_text())


def test_notebooks_carry_outputs_of_their_cells():
    """Run `python notebooks/execute.py` where this fails: a cell was changed after it was run."""
    execute = module()
    names = sorted(path.name for path in FOLDER.glob("*.ipynb"))
    assert names == ["quickstart.ipynb", "train_your_own.ipynb"]
    for name in names:
        notebook = stored(name)
        cells = execute.code_cells(notebook)
        assert notebook["metadata"]["fluxjax"]["outputs_of"] == execute.digest(notebook), name
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), name
        text = json.dumps(notebook)
        assert len(text) < 150_000, f"{name}: small outputs only"
        assert '"output_type": "error"' not in text and '"name": "stderr"' not in text
        assert str(ROOT) not in text and "/home/" not in text, f"{name}: a path of a machine"
    cells = execute.code_cells(stored("quickstart.ipynb"))
    assert "image/png" in outputs(cells[-1], "mime"), "no picture of the kept tokens"
    assert any("image/svg+xml" in outputs(cell, "mime") for cell in cells), "no curve"
    tables = [outputs(cell, "text") for cell in cells]
    assert sum("| budget |" in text for text in tables) == 2
    answer = execute.code_cells(stored("train_your_own.ipynb"))[-1]["outputs"][-1]["data"]
    assert re.fullmatch(r"\['(grow|shrink)', '(grow|shrink)'\]", "".join(answer["text/plain"]))


def test_a_cell_that_changes_is_noticed():
    execute = module()
    notebook = stored("quickstart.ipynb")
    before = execute.digest(notebook)
    execute.code_cells(notebook)[2]["source"].append("\n1")
    assert execute.digest(notebook) != before


def test_large_images_and_logs_are_not_stored():
    execute = module()
    images = [{"output_type": "display_data", "data": {"image/png": "x" * n, "text/plain": "f"}}
              for n in (execute.MAX_IMAGE, execute.MAX_IMAGE + 1)]  # fmt: skip
    log = {"output_type": "stream", "name": "stderr", "text": "a log"}
    cell = {"cell_type": "code", "source": "1", "metadata": {}, "outputs": [*images, log]}
    execute.trimmed({"cells": [cell], "metadata": {}})
    assert [sorted(output["data"]) for output in cell["outputs"]] == [
        ["image/png", "text/plain"], ["text/plain"],
    ]  # fmt: skip


def test_a_fresh_machine_keeps_its_jax(tmp_path):
    """The first cell where there is no clone: it asks for an address, and pip gets a constraint."""
    source = "".join(module().code_cells(stored("quickstart.ipynb"))[0]["source"])
    assert "http" not in source
    result = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True
    )
    assert "AssertionError: set REPOSITORY to the address" in result.stderr
    (tmp_path / "setup.py").write_text("")
    spied = """
import importlib.util, subprocess
importlib.util.find_spec = lambda name: None
def run(command, check):
    print(open(command[command.index("-c") + 1]).read(), command[-2:])
subprocess.run = run
"""
    result = subprocess.run(
        [sys.executable, "-c", spied + source], cwd=tmp_path, capture_output=True, text=True
    )
    import jax

    assert f"jax=={jax.__version__}\n" in result.stdout, result.stderr
    assert result.stdout.rstrip().endswith("['-e', '.']")
