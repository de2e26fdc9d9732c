"""Recipes by name: `--config fluxvit_s:k400` finds the file that this package brings."""

import difflib
import importlib.util
import os
import pathlib

from ml_collections import ConfigDict

_PACKAGE = pathlib.Path(__file__).parents[1]  # fluxjax


def shipped_folder() -> pathlib.Path:
    """The folder of the recipes that come with fluxjax.

    In a wheel they are inside the package, in a clone beside it, as configs/.
    """
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def recipe_names() -> list[str]:
    """Names of the recipes that come with fluxjax."""
    return sorted(path.stem for path in shipped_folder().glob("*.py"))


def recipe_file(value: str) -> str:
    """What `--config` means, as PATH.py[:VARIANT].

    Args:
      value: NAME, NAME.py or configs/NAME.py of a recipe that comes with fluxjax, or a path of
        one's own, which goes first; each with or without :VARIANT.

    Raises:
      ValueError: if there is neither such a file nor such a recipe.
    """
    path, colon, variant = value.partition(":")
    path = os.path.expanduser(path)
    if os.path.isfile(path):
        return f"{path}{colon}{variant}"
    name = pathlib.PurePath(path)
    ours = len(name.parts) == 1 or name.parts[:-1] == ("configs",)
    shipped = shipped_folder() / f"{name.name.removesuffix('.py')}.py"
    if ours and shipped.is_file():
        return f"{shipped}{colon}{variant}"
    near = difflib.get_close_matches(shipped.stem, recipe_names(), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(
        f"--config={value}: there is no such file, and no recipe of that name; {hint}"
        f"Recipes: {', '.join(recipe_names())}"
    )


def load_recipe(value: str) -> ConfigDict:
    """The config that a recipe makes; what `value` may be: `recipe_file`.

    Raises:
      ValueError: if there is no such recipe, or it knows no such variant.
    """
    path, _, variant = recipe_file(value).partition(":")
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*([variant] if variant else []))
