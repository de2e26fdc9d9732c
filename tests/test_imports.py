"""Layering: who may import whom, and that TensorFlow stays behind its door."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
HEAVY = ("tensorflow", "tensorflow_datasets", "av")


def test_models_run_where_tensorflow_and_pyav_are_not_installed():
    program = f"""
import sys
for name in {HEAVY}:
    sys.modules[name] = None  # importing it raises ImportError
import jax, jax.numpy as jnp, numpy as np
import fluxjax
import fluxjax.tasks, fluxjax.training.loop, fluxjax.evaluation.registry
model = fluxjax.create_model("fluxvit_ti14", num_classes=3, width=16, depth=1, num_heads=2,
                             pooled=16, pool_heads=2, grid=(2, 2, 2), budgets=(4, 2))
variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2, 28, 28, 3)))
clip = np.zeros((2, 28, 28, 3), np.uint8)
tokens = fluxjax.pack([clip], max_tokens=8)
print(jax.jit(lambda v, t: model.apply(v, t, budget=4))(variables, tokens).shape)
assert "Predictor" in dir(fluxjax) and "fluxjax.predictor" not in sys.modules
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.stdout.strip() == "(1, 3)", result.stderr


def test_importing_the_pipelines_does_not_import_tensorflow():
    program = (
        "import sys, data_pipelines.loader, data_pipelines.sources.catalog, data_pipelines.demo;"
        "import data_pipelines.text.training;"
        "print('tensorflow' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.stdout.strip() == "False", result.stderr


# From the ground up: a room imports from lower floors only, and from itself.
FLOORS = (
    ("fluxjax.version", "fluxjax.logs", "fluxjax.options", "fluxjax.own_pipelines"),
    ("fluxjax.tokens", "fluxjax.weight_files"),
    ("fluxjax.augment", "fluxjax.models"),
    ("fluxjax.checkpoints",),
    ("fluxjax.tasks", "fluxjax.convert"),
    ("fluxjax.config", "fluxjax.pretrained"),
    ("fluxjax.training",),
    ("fluxjax.evaluation",),
    ("fluxjax.serving",),
    ("fluxjax.budgets",),
    ("fluxjax.export",),
    ("fluxjax.predictor",),
    ("fluxjax.main", "fluxjax.predict", "fluxjax.evaluate", "fluxjax.embed", "fluxjax.search"),
)
PIPELINE_FLOORS = (
    ("data_pipelines.quiet_tensorflow", "data_pipelines.progress"),
    ("data_pipelines.reading", "data_pipelines.demo"),
    ("data_pipelines.sources", "data_pipelines.text"),
    ("data_pipelines.clips",),
    ("data_pipelines.loader",),
    ("data_pipelines.from_config", "data_pipelines.doctor", "data_pipelines.prepare"),
)
# What pipelines know of fluxjax: grid arithmetic, and what a task wants of a video.
PLAIN = ("fluxjax.tokens.grids", "fluxjax.tokens.examples")
# Rooms that run where no video is read: no pipelines at all.
WITHOUT_PIPELINES = (
    "tokens",
    "weight_files",
    "augment",
    "models",
    "checkpoints",
    "tasks",
    "convert",
)


def modules(*folders):
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


KNOWN = {name_of(path) for path in modules("fluxjax", "data_pipelines")}


def imports_of(text):
    """Names of our modules that a module's text imports, inside functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in KNOWN else node.module for name in full]
        else:
            continue
        yield from (name for name in names if name in KNOWN)


def room_of(name, floors):
    return next(
        (
            (floor, room)
            for floor, rooms in enumerate(floors)
            for room in rooms
            if name == room or name.startswith(room + ".")
        ),
        (None, None),
    )


def wrong_arrows(name, text, floors):
    """Imports of a module that do not go down."""
    floor, room = room_of(name, floors)
    assert room is not None, f"{name} is in no room; DESIGN and FLOORS say which there are"
    package = floors[0][0].split(".")[0]
    for target in imports_of(text):
        below, other = room_of(target, floors)
        if target.split(".")[0] == package and other != room and (other is None or below >= floor):
            yield f"{name} imports {target}"


@pytest.mark.parametrize(
    "package, floors", [("fluxjax", FLOORS), ("data_pipelines", PIPELINE_FLOORS)]
)
def test_arrows_only_go_down(package, floors):
    wrong = [
        arrow
        for path in modules(package)
        if name_of(path) != package
        for arrow in wrong_arrows(name_of(path), path.read_text(encoding="utf-8"), floors)
    ]
    assert not wrong


@pytest.mark.parametrize(
    "name, line",
    [
        ("fluxjax.tokens.grids", "from fluxjax.models import layers"),
        ("fluxjax.weight_files.errors", "import fluxjax.tokens.grids"),
        ("fluxjax.checkpoints.inference", "def f():\n    from fluxjax.convert import load"),
        ("fluxjax.budgets.sweep", "from fluxjax.main import run"),
        ("fluxjax.models.evl", "import fluxjax"),
    ],
)
def test_an_arrow_that_is_turned_round_is_found(name, line):
    assert list(wrong_arrows(name, line, FLOORS))


def test_no_circles():
    graph = {
        name_of(path): set(imports_of(path.read_text(encoding="utf-8")))
        for path in modules("fluxjax", "data_pipelines")
    }
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_rooms_without_videos_import_no_pipeline():
    for room in WITHOUT_PIPELINES:
        for path in modules(f"fluxjax/{room}"):
            for name in imports_of(path.read_text(encoding="utf-8")):
                assert not name.startswith("data_pipelines"), f"{name_of(path)}: {name}"


def test_pipelines_know_only_grids_and_examples():
    for path in modules("data_pipelines"):
        for name in imports_of(path.read_text(encoding="utf-8")):
            if name.split(".")[0] == "fluxjax":
                assert name in PLAIN, f"{name_of(path)}: {name}"


def test_the_loop_names_no_model_and_no_task():
    names = ("fluxvit", "internvideo", "umt", "clip", "evl", "videomae", "tsm", "tea", "slowfast")
    text = (ROOT / "fluxjax/training/loop.py").read_text(encoding="utf-8").lower()
    words = set(text.replace("_", " ").split())
    assert not words & set(names)


def test_the_core_files_stay_short():
    long = [
        f"{path.relative_to(ROOT)}: {len(path.read_text(encoding='utf-8').splitlines())}"
        for path in modules("fluxjax", "data_pipelines", "configs")
        if len(path.read_text(encoding="utf-8").splitlines()) > 320
    ]
    assert not long, f"look for the second idea in: {long}"


def functions(text):
    """(name, lines from `def` to the last one, docstring included) of all functions."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


def test_functions_stay_short():
    long = [
        f"{path.relative_to(ROOT)}: {name}: {lines}"
        for path in modules("fluxjax", "data_pipelines", "configs")
        for name, lines in functions(path.read_text(encoding="utf-8"))
        if lines > 60 and name != "base_config"  # which is a list of keys
    ]
    assert not long, f"look for the second idea in: {long}"
