"""Shapes in docstrings: a reader of a function with arrays need not read its code to call it."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("models", "tokens", "tasks", "augment")
ARRAYS = {"Array", "ndarray", "Tokens"}
# [B, T, H, W, 3], [.., C], [4], [] for a scalar; not the interval [-a, a].
SHAPE = re.compile(r"\[(?!-)[\w.*+/() -]*(, ?[\w.*+/() -]+)*\]")


def holds_arrays(annotation):
    """Whether an annotation names an array; what a Callable takes or gives does not count."""
    if annotation is None:
        return False
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.Subscript) and "Callable" in ast.unparse(annotation.value):
        return False
    name = getattr(annotation, "attr", getattr(annotation, "id", None))
    return name in ARRAYS or any(holds_arrays(x) for x in ast.iter_child_nodes(annotation))


def public_functions(node):
    """Functions and methods without a leading underscore, and `__call__`, outside of others."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef):
            if child.name == "__call__" or not child.name.startswith("_"):
                yield child
        elif isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from public_functions(child)


def arguments(function):
    found = function.args
    every = [*found.posonlyargs, *found.args, *found.kwonlyargs, found.vararg, found.kwarg]
    return [x for x in every if x is not None and x.arg not in ("self", "cls")]


def faults(text):
    """What is missing of a module's public functions: (name, what)."""
    for function in public_functions(ast.parse(text)):
        own = arguments(function)
        for argument in own:
            if argument.annotation is None:
                yield function.name, f"annotation of {argument.arg}"
        # Keys of random draws are arrays that nobody looks into.
        values = [x.annotation for x in own if not x.arg.endswith("key")] + [function.returns]
        if any(map(holds_arrays, values)) and not SHAPE.search(ast.get_docstring(function) or ""):
            yield function.name, "a shape such as [B, N, C] in the docstring"


def modules(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("folder", FOLDERS)
def test_public_functions_say_shapes_and_types(folder):
    missing = [
        f"{path.relative_to(ROOT)}: {name}: {what}"
        for path in modules(f"fluxjax/{folder}")
        for name, what in faults(path.read_text(encoding="utf-8"))
    ]
    assert not missing, "\n".join(missing)


def test_arguments_are_annotated_nearly_everywhere():
    every = [
        argument.annotation is not None
        for path in modules("fluxjax", "data_pipelines")
        for function in public_functions(ast.parse(path.read_text(encoding="utf-8")))
        for argument in arguments(function)
    ]
    assert sum(every) / len(every) >= 0.98


@pytest.mark.parametrize(
    "line, count",
    [
        ("def f(x: jax.Array) -> int:\n    'Counts.'", 1),
        ("def f(x: jax.Array) -> int:\n    'Counts x [B, N].'", 0),
        ("def f(n: int) -> dict[str, np.ndarray]:\n    'In [-n, n].'", 1),
        ("def f(n: int) -> tuple['Tokens', int]:\n    'No tokens.'", 1),
        ("def f(n: int) -> jax.Array:\n    'The sum, [] float32.'", 0),
        ("class A:\n  def __call__(self, x: jax.Array | None = None):\n    'Adds.'", 1),
        ("class A:\n  def _own(self, x: jax.Array):\n    'Adds.'", 0),
        ("def f(key: jax.Array) -> Callable[..., jax.Array]:\n    'Draws.'", 0),
        ("def f(x, *, y=1):\n    'Adds.'", 2),
    ],
)
def test_what_counts_as_a_fault(line, count):
    assert len(list(faults(line))) == count
