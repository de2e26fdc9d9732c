"""`data_pipelines` of fluxjax, where the working directory has a folder of that name too."""

import importlib.machinery
import importlib.util
import pathlib
import sys

_BESIDE = pathlib.Path(__file__).parents[1]  # fluxjax and data_pipelines are installed together


def load_for_commands() -> None:
    """Imports our data_pipelines now, if this is `python -m fluxjax.COMMAND`.

    `python -m` puts the working directory before all installed packages, so a user's own
    data_pipelines there would be imported in the place of ours. A program that imports fluxjax is
    left as it is: its own packages are its own.
    """
    if sys.argv[:1] == ["-m"] and "data_pipelines" not in sys.modules:  # -m: while it is looked up
        spec = importlib.machinery.PathFinder.find_spec("data_pipelines", [str(_BESIDE)])
        package = importlib.util.module_from_spec(spec)
        sys.modules["data_pipelines"] = package
        spec.loader.exec_module(package)
