"""What `pip install NAMES` gives on a bare machine, out of the packages that are installed here."""

import importlib.metadata
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

from packaging.requirements import Requirement


def requirements(*names: str) -> dict[str, importlib.metadata.Distribution]:
    """The distributions that installing `names` brings, without extras."""
    found, waiting = {}, list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = importlib.metadata.distribution(name)
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def clean_environment(
    folder: pathlib.Path, *names: str
) -> Callable[[str], subprocess.CompletedProcess]:
    """A function that runs a program where nothing but `names` and what they need is installed."""
    folder.mkdir()
    for distribution in requirements(*names).values():
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            os.symlink(distribution.locate_file(top), folder / top)

    def run(program: str) -> subprocess.CompletedProcess:
        # -I: neither PYTHONPATH nor the folder that we are in; -S: no site-packages.
        program = f"import sys; sys.path.append({str(folder)!r})\n{program}"
        command = [sys.executable, "-I", "-S", "-c", program]
        return subprocess.run(
            command, cwd=folder.parent, capture_output=True, text=True, timeout=600
        )

    return run
