"""Recipes by name, and by paths of one's own."""

import pathlib

import pytest

from fluxjax.config.recipe_files import recipe_file, recipe_names, shipped_folder

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def test_in_a_clone_they_are_those_of_the_clone():
    assert shipped_folder() == CONFIGS
    assert recipe_names() == sorted(path.stem for path in CONFIGS.glob("*.py"))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("fluxvit_ti", "fluxvit_ti.py"),
        ("fluxvit_s:k400", "fluxvit_s.py:k400"),
        ("fluxvit_s.py:k400", "fluxvit_s.py:k400"),
        ("configs/evl_demo.py:frame", "evl_demo.py:frame"),
        ("configs/evl_demo", "evl_demo.py"),
    ],
)
def test_names_are_found_from_any_folder(tmp_path, monkeypatch, given, name):
    monkeypatch.chdir(tmp_path)
    assert recipe_file(given) == f"{CONFIGS}/{name}"


def test_a_file_of_ones_own_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "fluxvit_ti.py").touch()
    (tmp_path / "mine.py").touch()
    assert recipe_file("configs/fluxvit_ti.py") == "configs/fluxvit_ti.py"
    assert recipe_file("mine.py:big") == "mine.py:big"
    assert recipe_file(f"{tmp_path}/mine.py") == f"{tmp_path}/mine.py"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert recipe_file("~/mine.py") == f"{tmp_path}/mine.py"


@pytest.mark.parametrize("given", ["fluxvit_ty", "other/fluxvit_ti.py", "mine.py:x", ""])
def test_what_is_not_there_is_named_with_what_is(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"no such file.*Recipes: avion_demo, ") as error:
        recipe_file(given)
    assert ("did you mean fluxvit_ti?" in str(error.value)) == ("fluxvit" in given)
