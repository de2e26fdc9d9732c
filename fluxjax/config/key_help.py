"""`--config_help`: every key with its value and its meaning, from the comments in `keys.py`."""

import ast
import inspect
import io
import textwrap
import tokenize

from ml_collections import ConfigDict

from fluxjax.config import keys
from fluxjax.config.names import all_keys
from fluxjax.config.ranges import get

_INDENT = " " * 34
_SECTIONS = {"base_config": "", "_model_config": "model."}  # what the functions there fill


def key_help(config: ConfigDict | None = None) -> str:
    """A paragraph a key: name, value in a recipe (None: default), meaning."""
    config, said = keys.base_config() if config is None else config, meanings()
    lines = []
    for key in all_keys(config):
        value = get(config, key)
        section, _, _ = key.rpartition(".")
        meaning = said.get(key) or said.get(f"{section}.*", "")
        shown = "" if hasattr(value, "keys") else repr(value)
        head = f"config.{key} {'=' if shown else ''} {shown}".rstrip()
        text = textwrap.wrap(meaning, 100, initial_indent=_INDENT, subsequent_indent=_INDENT)
        if text and len(head) < len(_INDENT) - 1:
            text[0] = head.ljust(len(_INDENT)) + text[0].lstrip()
            lines += text
        else:
            lines += [head, *text]
    return "\n".join(lines)


def meanings() -> dict[str, str]:
    """Dotted key -> the comment on its line in `base_config`, or above it; SECTION.* in a loop."""
    source = inspect.getsource(keys)
    comments, lines = {}, source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ")
    found = {}
    for function in ast.parse(source).body:
        section = _SECTIONS.get(getattr(function, "name", ""))
        for node in ast.walk(function) if section is not None else ():
            target = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
            if not target.startswith("config"):
                continue
            key = section + target.removeprefix("config").lstrip(".").replace("[field]", ".*")
            numbers = list(range(node.lineno, node.end_lineno + 1))
            while lines[numbers[0] - 2].lstrip().startswith("#"):
                numbers.insert(0, numbers[0] - 1)
            if text := " ".join(comments[number] for number in numbers if number in comments):
                found.setdefault(key, text)
    return found
