"""Every command of the documentation is run here, or says what it needs and is parsed here."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests import tiny_run
from tests.docs import commands
from tests.docs.commands import ROOT, Command, module_of
from tests.docs.sizes import CONFIGS, SMALL

# What developers run; CI does, too.
BY_CI = ("ruff check .", "ruff format --check .", "mkdocs build", "python -m pytest")
SET_UP = ("git clone", "cd", "python -m venv", ".", "pip install", "mkdocs serve")

# Commands in running text that no block repeats, and the test that runs them.
ELSEWHERE = {
    "benchmarks.train_step": "tests/test_benchmarks.py",
    "benchmarks.distill_step": "tests/test_benchmarks.py",
    "benchmarks.precision": "tests/test_benchmarks.py",
    "fluxjax.convert": "tests/convert/test_command.py",
}


def documents():
    yield from ((path, commands.of_page(path)) for path in commands.PAGES)
    yield from ((path, commands.of_header(path)) for path in commands.HEADERS)


ALL = {commands.name(path): found for path, found in documents() if found}


INLINE = [command for path in commands.PAGES for command in commands.inline(path)]


def kind(command: Command) -> str:
    """How a command is treated: "ci", "set-up", "module" or "script".

    Raises:
      AssertionError: if nothing here knows it.
    """
    text = " ".join(command.words)
    for name, beginnings in (("ci", BY_CI), ("set-up", SET_UP)):
        if any(text == b or text.startswith(b + " ") for b in beginnings):
            return name
    if module_of(command.words):
        return "module"
    if command.words[0] == "python" and (ROOT / command.words[1]).is_file():
        return "script"
    raise AssertionError(f"{command}: nothing here knows such a command; see tests/docs")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with what a reader has by then: a run, videos, a list of them, our configs."""
    folder = tmp_path_factory.mktemp("world")
    videos = tiny_run.write_videos(folder / "videos", 8)
    for name in ("train.txt", "val.txt"):
        shutil.copy(videos, folder / name)
    captions = [{"video": f"{i}.mp4", "caption": f"the digit {i} goes left"} for i in range(8)]
    lines = "".join(json.dumps(line) + "\n" for line in captions)
    (folder / "captions.jsonl").write_text(lines)
    asked = [
        {"video": line["video"], "question": "which digit goes left?", "answer": "one"}
        for line in captions
    ]
    lines = "".join(json.dumps(line) + "\n" for line in asked)
    (folder / "questions.jsonl").write_text(lines)
    for name in ("clip.mp4", "other.mp4", "long.mp4"):
        shutil.copy(folder / "videos" / "0.mp4", folder / name)
    paths = [f"videos/{line}\n" for line in videos.read_text().splitlines()]
    (folder / "all.txt").write_text("".join(paths))
    np.save(folder / "clips.npy", np.zeros((2, 4, 28, 28, 3), np.uint8))
    data = {"train": "train.txt", "test": "val.txt", "root": "videos"}
    tiny_run.write_run(folder / "runs" / "mine", **data)
    for name in ("configs", "examples"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def small(command: Command) -> list[str]:
    """The words of a command, with options that make it affordable in the place of its own."""
    words, module = list(command.words), module_of(command.words)
    if module == "data_pipelines.demo":
        return ["python", "-c", _SMALL_CORPUS, *words[3:]]
    if module != "fluxjax.main" or "--config" not in words:
        return [*words, *SMALL.get(module, ())]
    more = [*CONFIGS.get(words[words.index("--config") + 1], ())]
    if "--config.data.classes" in " ".join(words):  # list files know no names
        more.append("--config.data.classes=(0,1)")
    keys = {option.partition("=")[0] for option in more}
    return [*(word for word in words if word.partition("=")[0] not in keys), *more]


# The demo corpus of 2 + 8 clips: the size is no option of the command.
_SMALL_CORPUS = """
import functools, runpy, sys
from data_pipelines import demo
demo.load = functools.partial(demo.load, num_examples=(2, 8))
runpy.run_module("data_pipelines.demo", run_name="__main__", alter_sys=True)
"""


def environment(world: pathlib.Path) -> dict[str, str]:
    # One device; compiles in half the time.
    flags = "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0"
    return os.environ | {
        "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT),
        "FLUXJAX_DATA_DIR": str(world / "cache"),
    }  # fmt: skip


def execute(words: list[str], world: pathlib.Path, what: str) -> None:
    result = subprocess.run(
        words, cwd=world, env=environment(world), capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, f"{what}\n{result.stdout[-1000:]}{result.stderr[-3000:]}"


DONE: set[tuple[str, ...]] = set()  # several pages name the same command


def run(command: Command, world: pathlib.Path) -> None:
    """Runs a command in `world`; it must end with exit status 0."""
    if command.words in DONE:
        return
    DONE.add(command.words)
    words = [sys.executable if word == "python" else word for word in small(command)]
    execute(words, world, str(command))


def runnable(document):
    return [c for c in ALL[document] if not c.needs and kind(c) in ("module", "script")]


@pytest.mark.slow
@pytest.mark.parametrize("document", [name for name in ALL if runnable(name)])
def test_commands_run_in_the_order_of_the_text(document, world):
    for command in runnable(document):
        run(command, world)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in commands.PAGES if commands.python_of(path)], ids=commands.name
)
def test_python_blocks_run_in_the_order_of_the_page(path, world):
    text = commands.python_of(path).replace("fluxvit_s14", "fluxvit_ti14")
    execute([sys.executable, "-c", text], world, commands.name(path))


@pytest.mark.parametrize("document", ALL)
def test_commands_are_known_and_their_options_exist(document):
    """Those, too, whose data or accelerators no test has."""
    for command in ALL[document]:
        what, text = kind(command), " ".join(command.words)
        if what == "module":
            try:
                commands.check_options(module_of(command.words), list(command.words[3:]))
            except (AssertionError, ValueError) as error:
                raise AssertionError(f"{command}: {error}") from error
        elif what == "ci":
            (program,) = (b for b in BY_CI if text.startswith(b))
            assert program in (ROOT / ".ci" / "run").read_text(), f"CI does not run {program}"


def test_trainings_that_run_have_a_small_size():
    for command in (c for name in ALL for c in runnable(name)):
        if module_of(command.words) == "fluxjax.main" and "--config" in command.words:
            config = command.words[command.words.index("--config") + 1]
            known = config in CONFIGS or config.endswith(".json")
            assert known, f"{command}: mark it with `# needs ..`, or give it a size in CONFIGS"


def test_extras_of_pip_install_exist():
    known = (ROOT / "setup.py").read_text(encoding="utf-8")
    found = [word for c in sum(ALL.values(), []) for word in c.words if word.startswith(".[")]
    assert len(found) >= 3
    for word in found:
        for extra in word[2:-1].split(","):
            assert f'"{extra}": [' in known, f"setup.py has no extra {extra}"


@pytest.mark.parametrize("path", commands.PAGES, ids=commands.name)
def test_commands_in_running_text(path):
    """Their options exist; a test runs the module, or a line somewhere says what it needs."""
    covered = {module_of(c.words) for name in ALL for c in runnable(name)}
    covered |= {*ELSEWHERE, *SMALL} | {module_of(c.words) for c in INLINE if c.needs}
    for command in INLINE:
        if not command.where.startswith(f"{commands.name(path)}:"):
            continue
        module = module_of(command.words)
        if module in (None, "pytest"):
            for word in command.words:
                assert not word.startswith("tests/") or (ROOT / word).exists(), command
        elif module != "benchmarks.NAME":
            used = {word.partition("=")[0] for word in command.words if word.startswith("--")}
            used = {name for name in used if not name.startswith("--config.")}
            missing = used - commands.option_names(module)
            assert not missing, f"{command}: there is no {missing}"
            assert module in covered, f"{command}: no test runs it, and no line says why"


def test_what_other_tests_run_is_there():
    for module, path in ELSEWHERE.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        assert module.rpartition(".")[2] in text, f"{path} does not run {module}"


@pytest.mark.slow
@pytest.mark.parametrize("module", [m for m in SMALL if m.startswith("benchmarks.")])
def test_benchmarks_run(module, world):
    run(Command("benchmarks/README.md", ("python", "-m", module)), world)
