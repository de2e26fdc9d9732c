"""A fresh environment: fluxjax from its wheel, other packages as they are, no clone in sight."""

import os
import pathlib
import shutil
import site
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).parents[2]
_BUILT_OF = (
    "fluxjax", "data_pipelines", "configs", "setup.py", "pyproject.toml", "README.md", "LICENSE"
)  # fmt: skip


def build_wheel(folder: pathlib.Path) -> pathlib.Path:
    """The wheel, built of a copy: what an earlier build has left in the clone is not in it."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name in _BUILT_OF:
        if (ROOT / name).is_dir():
            without = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=without)
        else:
            shutil.copy(ROOT / name, source / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def make(folder: pathlib.Path, wheel: pathlib.Path) -> pathlib.Path:
    """Python of an environment that has the wheel; dependencies are those of the tests'.

    Their folder is only added to the path: the clone, which is installed there with -e through a
    .pth file, is not seen.
    """
    venv.create(folder, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    pip("install", "--no-deps", "--target", packages, wheel)
    (packages / "dependencies.pth").write_text("".join(f"{p}\n" for p in site.getsitepackages()))
    return folder / "bin" / "python"


def pip(command: str, *arguments: str | pathlib.Path) -> None:
    """Runs pip of the tests' environment."""
    subprocess.run(
        [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check",
         *map(str, arguments)],
        check=True, timeout=300,
    )  # fmt: skip


def variables(**more: str) -> dict[str, str]:
    """What a shell of one's own has: no path to the clone; one device."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""} | more
