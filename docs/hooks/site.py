"""Pages that are made while the site is built: config keys, the reference, files of other folders.

MkDocs calls the functions `on_*`.
"""

import ast
import importlib.util
import pathlib
import re
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[2]

# Files outside of docs/ that are part of the site, and where.
ELSEWHERE = {
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/serve.py": "examples/serve.py",
    "notebooks/quickstart.ipynb": "notebooks/quickstart.ipynb",
    "notebooks/train_your_own.ipynb": "notebooks/train_your_own.ipynb",
}

# Page of the reference -> (its title, what it holds: modules, or folders of them).
REFERENCE = {
    "models": ("Models", ["fluxjax.models"]),
    "tokens": ("Tokens", ["fluxjax.tokens"]),
    "tasks": ("Tasks", ["fluxjax.tasks"]),
    "augment": ("Augmentation", ["fluxjax.augment"]),
    "evaluation": ("Evaluation", ["fluxjax.evaluation"]),
    "training": ("Training", ["fluxjax.training"]),
    "checkpoints": ("Checkpoints", ["fluxjax.checkpoints"]),
    "weights": ("Foreign weights", ["fluxjax.convert", "fluxjax.weight_files"]),
    "serving": ("Budgets and serving", ["fluxjax.serving", "fluxjax.budgets", "fluxjax.export"]),
    "config": ("Configs", ["fluxjax.config"]),
    "data_pipelines": ("Video pipelines", ["data_pipelines"]),
}


def on_files(files: Files, config: Any) -> Files:
    """Adds the made pages."""
    made = {"config_keys.md": _load("config_keys").page()}
    for name, (title, rooms) in REFERENCE.items():
        blocks = [f"::: {module}" for room in rooms for module in modules_of(room)]
        made[f"api/{name}.md"] = "\n\n".join([f"# {title}", *blocks]) + "\n"
    made["api/fluxjax.md"] = _exported()
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    for source, path in ELSEWHERE.items():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they are right in the repository -> links that are right in the site."""
    here = pathlib.PurePosixPath(page.file.src_uri)
    origin = next((s for s, path in ELSEWHERE.items() if path == str(here)), f"docs/{here}")
    return re.sub(
        r"(?<=\]\()(?![a-z]+:)([^)#\s]+)", lambda m: _in_site(m[1], origin, here), markdown
    )


def _in_site(link: str, origin: str, here: pathlib.PurePosixPath) -> str:
    target = (ROOT / origin).parent.joinpath(link).resolve()
    if not target.is_relative_to(ROOT):
        return link
    path = target.relative_to(ROOT).as_posix()
    path = ELSEWHERE.get(path, path.removeprefix("docs/"))
    return "../" * (len(here.parts) - 1) + path


def modules_of(room: str) -> list[str]:
    """The public modules of a folder that define something, by name."""
    found = []
    for path in sorted((ROOT / room.replace(".", "/")).rglob("*.py")):
        names = path.relative_to(ROOT).with_suffix("").parts
        if not any(name.startswith("_") for name in names):
            found.append(".".join(names))
    return found


def _exported() -> str:
    """The page of what `import fluxjax` gives: every name of its `__all__`."""
    tree = ast.parse((ROOT / "fluxjax" / "__init__.py").read_text(encoding="utf-8"))
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    blocks = [f"::: fluxjax.{name}" for name in names if not name.startswith("_")]
    return "\n\n".join(["# fluxjax", "What `import fluxjax` gives.", *blocks]) + "\n"


def _load(name: str) -> Any:
    """A module beside this one; hooks lie in no package."""
    path = pathlib.Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
