"""Our docstrings are plain text; this makes Markdown of them that shows the same text."""

import re
from typing import Any

import griffe

# T*H*W would turn italic, [B, N] could become a link, <name> would vanish.
_MARKUP = (
    (re.compile(r"(?<=[\w)\]])\*(?=[\w(\[])"), r"\\*"),
    (re.compile(r"[\[\]]"), r"\\\g<0>"),
    (re.compile(r"<(?=\w)"), "&lt;"),
)
# Names of one entry, "width, depth, ..: of the tower", that go on in the next line.
_NAMES_GO_ON = re.compile(r"^( +(?:\w+, )*\w+,)\n +(?=(?:\w+, )*\w+: )", re.MULTILINE)


class PlainDocstrings(griffe.Extension):
    """Escapes what Markdown would read as markup."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object once its package is loaded."""
        if obj.docstring is not None:
            obj.docstring.value = escaped(obj.docstring.value)


def escaped(text: str) -> str:
    """A docstring whose stars, brackets and tags stay what they are, outside of code."""
    parts = re.split(r"(``?[^`]*``?)", _NAMES_GO_ON.sub(r"\1 ", text))
    for pattern, replacement in _MARKUP:
        parts[::2] = [pattern.sub(replacement, part) for part in parts[::2]]
    return "".join(parts)
