"""Runs the notebooks and keeps their outputs: python notebooks/execute.py [NAME.ipynb ..]

Outputs are stored with a digest of the cells that gave them, which tests compare with the cells
that are there. Needs the extra notebook or test.
"""

import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

FOLDER = pathlib.Path(__file__).parent
MAX_IMAGE = 80_000  # characters, 60 kB in base64; larger ones are left out of what is stored
_IMAGES = ("image/png", "image/jpeg", "image/svg+xml")


def execute(source: pathlib.Path, target: pathlib.Path) -> dict[str, Any]:
    """Runs a notebook top to bottom, from the folder of this file, and writes it with its outputs.

    Raises:
      CellExecutionError: if a cell fails.
    """
    import nbclient
    import nbformat

    notebook = nbformat.read(source, as_version=4)
    resources = {"metadata": {"path": str(FOLDER)}}
    nbclient.NotebookClient(
        notebook, timeout=3600, kernel_name="python3", resources=resources
    ).execute()
    done = json.loads(nbformat.writes(notebook))
    target.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return done


def code_cells(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The cells that are run."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def digest(notebook: Mapping[str, Any]) -> str:
    """Of the text of all cells that are run."""
    texts = ["".join(cell["source"]) for cell in code_cells(notebook)]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def trimmed(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook as it is stored: results, without the log and without large images."""
    for cell in code_cells(notebook):
        cell["metadata"].pop("execution", None)
        kept = [output for output in cell["outputs"] if output.get("name") != "stderr"]
        for output in kept:
            for kind in _IMAGES:
                if len("".join(output.get("data", {}).get(kind, ""))) > MAX_IMAGE:
                    del output["data"][kind]
        cell["outputs"] = kept
    notebook["metadata"]["fluxjax"] = {"outputs_of": digest(notebook)}
    notebook["metadata"]["language_info"] = {"name": "python"}
    return notebook


def main(names: list[str]) -> None:
    """Executes the notebooks in place, in the order in which a reader meets them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in names or ["quickstart.ipynb", "train_your_own.ipynb"]:
        path = FOLDER / name
        notebook = trimmed(execute(path, path))
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
