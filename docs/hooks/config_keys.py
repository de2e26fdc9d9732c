"""The table of config keys, read from the text of fluxjax/config/keys.py: nothing is imported.

A key is an assignment to `config.NAME` in `base_config`. Its meaning is the comment behind it and
the comment lines directly above it. (tests/docs/test_pages.py compares with `base_config` itself.)
"""

import ast
import io
import pathlib
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

SOURCE = pathlib.Path(__file__).parents[2] / "fluxjax" / "config" / "keys.py"


class Key(NamedTuple):
    """A key `section.name` with its default as it is written, or a section with default None."""

    name: str
    default: str | None
    meaning: str


def keys_of(text: str) -> list[Key]:
    """All keys and sections that `base_config` in a module's text assigns, in its order.

    Raises:
      ValueError: if there is no `base_config`.
    """
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    for function in functions:
        if function.name == "base_config":
            arguments = function.args.args[::-1], function.args.defaults[::-1]
            given = {name.arg: value for name, value in zip(*arguments, strict=False)}
            return list(_keys(function.body, _comments(text), given))
    raise ValueError("there is no base_config")


def _keys(
    body: list[ast.stmt], comments: dict[int, tuple[str, bool]], values: dict[str, ast.expr]
) -> Iterator[Key]:
    """Keys that statements assign; `values` are the known local names."""
    for statement in body:
        if isinstance(statement, ast.For):  # for field in ("a", "b"): config.section[field] = ..
            for value in statement.iter.elts:
                yield from _keys(statement.body, comments, {statement.target.id: value})
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                path = _path(target, values)
                if path:
                    default = _default(statement.value, values)
                    yield Key(path, default, _meaning(statement, comments))


def _path(target: ast.expr, values: dict[str, ast.expr]) -> str:
    """The key "data.train" of `config.data.train`; "" of `config` itself and other variables."""
    names = []
    while not isinstance(target, ast.Name):
        if isinstance(target, ast.Attribute):
            names.insert(0, target.attr)
        else:
            names.insert(0, ast.literal_eval(values[target.slice.id]))
        target = target.value
    return ".".join(names) if target.id == "config" else ""


def _default(value: ast.expr, values: dict[str, ast.expr]) -> str | None:
    """The default as it is written; "None (TYPE)" of a placeholder, None of a section."""
    if isinstance(value, ast.Call):
        if ast.unparse(value.func) == "placeholder":
            return f"None ({ast.unparse(value.args[0])})"
        return None
    value = values.get(value.id, value) if isinstance(value, ast.Name) else value
    return ast.unparse(value).replace("'", '"')


def _comments(text: str) -> dict[int, tuple[str, bool]]:
    """Line -> (its comment, whether the line has nothing else)."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {
        token.start[0]: (
            token.string.removeprefix("#").strip(),
            not token.line[: token.start[1]].strip(),
        )
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def _meaning(statement: ast.stmt, comments: dict[int, tuple[str, bool]]) -> str:
    above, line = [], statement.lineno - 1
    while comments.get(line, ("", False))[1]:
        above.insert(0, comments[line][0])
        line -= 1
    inside = range(statement.lineno, statement.end_lineno + 1)
    behind = [comments[line][0] for line in inside if line in comments]
    return " ".join(above + behind)


def page(text: str) -> str:
    """The Markdown of the page: a table for the top, then one for each section."""
    tables: dict[str, list[str]] = {"": []}
    titles: dict[str, str] = {}
    for key in keys_of(text):
        section, _, _ = key.name.rpartition(".")
        if key.default is None:
            tables.setdefault(key.name, [])
            titles[key.name] = key.meaning
        else:
            cells = (f"`{key.name}`", f"`{key.default}`", _cell(key.meaning))
            tables.setdefault(section, []).append("| " + " | ".join(cells) + " |")
    lines = [_HEAD]
    for section, rows in tables.items():
        if section:
            lines += ["", f"## config.{section}", ""]
        if titles.get(section):
            lines += [_sentence(titles[section]), ""]
        if section == "model":
            lines += [_MODEL]
        if rows:
            lines += ["| key | default | meaning |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _sentence(text: str) -> str:
    return _cell(text[0].upper() + text[1:] + "." * (text[-1] not in ".:"))


_HEAD = """# Config keys

Read from `fluxjax/config/keys.py` while this page was built. The set is closed: another key, a
value of another type or one out of its range ends a command before anything is compiled. Defaults
are those of `base_config`; a recipe under `configs/` sets its own. On the command line,
`--config.optim.lr=1e-3` sets one; tuples are written as in Python, `--config.budgets="(48,24)"`.
`None` is followed by the type of a value. A task that has keys of its own has them in
`config.<task>`, see its page.
"""

_MODEL = """The fields of the model's class, see [Models](api/models.md): `model.width`,
`model.drop_path`, `model.attention` and so on. `None` leaves a field as the named size has it.
`model.name` is one of `fluxjax.list_models()`; `model.dtype` is that of the computation, such as
`bfloat16`; parameters are float32 always.
"""
