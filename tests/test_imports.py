"""Layering: who may import whom, and that TensorFlow stays behind its door."""

import ast
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
import fluxjax.tasks, fluxjax.training.loop, fluxjax.evaluation.evaluate
model = fluxjax.create_model("fluxvit_ti14", num_classes=3, width=16, depth=1, num_heads=2,
                             pooled=16, pool_heads=2, grid=(2, 2, 2), budgets=(4, 2))
variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2, 28, 28, 3)))
clip = np.zeros((2, 28, 28, 3), np.uint8)
tokens = fluxjax.pack([clip], max_tokens=8)
print(jax.jit(lambda v, t: model.apply(v, t, budget=4))(variables, tokens).shape)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.stdout.strip() == "(1, 3)", result.stderr


def test_importing_the_pipelines_does_not_import_tensorflow():
    program = (
        "import sys, data_pipelines.loader, data_pipelines.catalog, data_pipelines.demo;"
        "print('tensorflow' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.stdout.strip() == "False", result.stderr


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(*folders):
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


# folder -> what it must not import: arrows only go down.
FORBIDDEN = {
    "fluxjax/models": ("fluxjax.tasks", "fluxjax.training", "fluxjax.evaluation", "fluxjax.main"),
    "fluxjax/tasks": ("fluxjax.training", "fluxjax.evaluation", "fluxjax.main"),
    "fluxjax/training": ("fluxjax.models", "fluxjax.evaluation", "fluxjax.main"),
    "fluxjax/evaluation": ("fluxjax.models", "fluxjax.main"),
    "fluxjax/convert": ("fluxjax.training", "fluxjax.tasks", "fluxjax.main"),
}


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_arrows_only_go_down(folder):
    for path in modules(folder):
        for name in imports(path):
            assert not name.startswith(FORBIDDEN[folder]), f"{path.relative_to(ROOT)}: {name}"
            assert not name.startswith("data_pipelines"), f"{path.relative_to(ROOT)}: {name}"


def test_pipelines_know_only_grid_arithmetic():
    for path in modules("data_pipelines"):
        for name in imports(path):
            if name.split(".")[0] == "fluxjax":
                assert name.startswith("fluxjax.grids"), f"{path.relative_to(ROOT)}: {name}"


def test_the_loop_names_no_model_and_no_task():
    names = ("fluxvit", "internvideo", "umt", "clip", "evl", "videomae", "tsm", "tea", "slowfast")
    text = (ROOT / "fluxjax/training/loop.py").read_text(encoding="utf-8").lower()
    words = set(text.replace("_", " ").split())
    assert not words & set(names)


def test_the_core_files_stay_short():
    long = [
        f"{path.relative_to(ROOT)}: {len(path.read_text(encoding='utf-8').splitlines())}"
        for path in modules("fluxjax", "data_pipelines", "configs")
        if len(path.read_text(encoding="utf-8").splitlines()) > 400
    ]
    assert not long, f"look for the second idea in: {long}"
