"""What pages say of the repository is so: links, paths, config keys, rooms."""

import importlib.util
import re
import sys
import types

import pytest
from ml_collections import ConfigDict

from fluxjax.config.keys import base_config
from fluxjax.config.names import all_keys
from fluxjax.config.ranges import get
from fluxjax.models import list_models
from fluxjax.tasks import list_tasks, task_keys
from tests.docs import commands
from tests.docs.commands import ROOT, name
from tests.test_imports import FLOORS, PIPELINE_FLOORS

PAGES = pytest.mark.parametrize("path", commands.PAGES, ids=name)
FOLDERS = ("fluxjax", "data_pipelines", "configs", "benchmarks", "tests", "docs", "examples",
           "notebooks")  # fmt: skip
GENERATED = ("config_keys.md", "api/")  # pages that are made while the site is built


def hook(module):
    """A module of docs/hooks, which is no package."""
    path = ROOT / "docs" / "hooks" / f"{module}.py"
    spec = importlib.util.spec_from_file_location(module, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def text_of(path):
    """A page without its blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(path):
    """Ids that GitHub and MkDocs give to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text_of(path), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@PAGES
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link) or target.startswith(GENERATED):
            continue
        file = path if not target else path.parent / target
        assert file.exists() or name(file.resolve()).startswith(
            tuple(f"docs/{g}" for g in GENERATED)
        ), f"{link}: there is no {target}"
        assert not anchor or anchor in anchors(file), f"{link}: no such heading"


@PAGES
def test_paths_in_running_text_exist(path):
    pattern = rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`"
    for found in re.findall(pattern, text_of(path)):
        assert (ROOT / found).exists(), f"there is no {found}"


@PAGES
def test_config_keys_in_running_text_exist(path):
    """`config.data.flip`, `--config.seed=1` and `data.flip` where data is a section."""
    config = base_config()
    for task in list_tasks():
        if (own := task_keys(task)) is not None:
            config[task] = own
    sections = "|".join(key for key, value in config.items() if isinstance(value, ConfigDict))
    for span in re.findall(r"`([^`\s]+)[^`]*`", text_of(path)):
        match = re.match(rf"(?:-*config\.|(?=(?:{sections})\.))([a-z_0-9.]+)(?:[=\[]|$)", span)
        if match and match[1] != "json":
            assert known(config, match[1]), f"{span}: there is no such key"


def known(config, key):
    models = [base_config(name).model for name in list_models("*_ti*")]
    section, _, field = key.partition(".")
    if section == "model" and field:
        return any(field in model for model in models)
    return section in config and (not field or field in config[section])


def test_the_page_of_keys_has_every_key_its_default_and_a_meaning():
    config = base_config()
    rows = dict(
        re.findall(r"^\| `([\w.]+)` \| `(.*?)` \| \S.* \|$", hook("config_keys").page(), re.M)
    )
    keys = [key for key in all_keys(config) if not key.startswith("model")]
    keys = [key for key in keys if not isinstance(get(config, key), ConfigDict)]
    assert set(rows) == set(keys)
    assert rows["batch_size"] == "16" and rows["data.train"] == '"demo:easy"'
    assert rows["num_classes"] == "None (int)" and rows["jitter.hue"] == "0.0"
    page = hook("config_keys").page()
    for section in (key for key, value in config.items() if isinstance(value, ConfigDict)):
        assert f"\n## config.{section}\n" in page


def test_docstrings_keep_their_text(monkeypatch):
    # The site's generator is not installed where tests run.
    monkeypatch.setitem(sys.modules, "griffe", types.SimpleNamespace(Extension=object, Object=None))
    escaped = hook("docstrings").escaped
    assert escaped("T*H*W of <name>, `a*b`") == r"T\*H\*W of &lt;name>, `a*b`"
    assert escaped("[B, N] and ``x[0]``") == r"\[B, N\] and ``x[0]``"
    assert escaped("  width, depth,\n    gelu: of it") == "  width, depth, gelu: of it"
    assert escaped("  one thing,\n  two: more") == "  one thing,\n  two: more"


def test_the_rooms_of_the_architecture_page():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ((?:`\w+`(?:, )?)+) \|", text, re.M)
    found = [(int(floor), set(re.findall(r"`(\w+)`", rooms))) for floor, rooms in rows]
    expected = []
    for floors in (FLOORS, PIPELINE_FLOORS):
        expected += [(i, {r.split(".")[1] for r in rooms}) for i, rooms in enumerate(floors)]
    assert found == expected


STARTED_BY_OTHERS = (
    "torch_worker.py", "torch_frames_worker.py", "torch_videomae.py", "torch_video_text.py",
)  # fmt: skip


def test_the_page_of_commands_is_complete():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for path in commands.MODULES:
        if path.name in STARTED_BY_OTHERS:
            continue
        if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            module = module.removesuffix(".__main__")
            where = "benchmarks" if module.startswith("benchmarks.") else "commands"
            text = page if where == "commands" else commands.PAGES[2].read_text(encoding="utf-8")
            assert f"`python -m {module}" in text, f"docs do not mention {module}"


def test_every_page_is_in_the_sites_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in (ROOT / "docs").rglob("*.md"):
        assert f": {path.relative_to(ROOT / 'docs').as_posix()}\n" in navigation, path


@PAGES
def test_files_that_pages_show_are_those_of_the_repository(path):
    shown = r'^```python title="([^"]+)"\n(.*?)^```'
    for file, text in re.findall(shown, path.read_text(encoding="utf-8"), re.M | re.S):
        assert text == (ROOT / file).read_text(encoding="utf-8"), f"{name(path)}: {file} differs"


def test_readme_is_a_door():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    blocks = re.findall(r"^```bash\n(.*?)\n```", text, re.M | re.S)
    assert blocks[:2] == [
        'pip install -e ".[test]" && python -m fluxjax.main --config configs/fluxvit_ti.py',
        "python -m pytest",
    ]


def test_readme_says_why_each_dependency_is_there():
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Dependencies")[2]
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    listed = re.findall(r'"([a-zA-Z][\w-]*)(?:\[\w+\])?[><=]', setup)
    assert len(listed) > 20
    for package in set(listed) - {"mkdocs", "scikit-video"}:
        assert re.search(rf"[|,] {re.escape(package)}[ ,]", table), f"README lacks {package}"
