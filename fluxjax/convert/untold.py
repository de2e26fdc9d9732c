"""What shapes do not tell of a checkpoint: where each value comes from is said in the log, once."""

import dataclasses
import difflib
import inspect
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fluxjax.tokens.tokens import CLIP_PIXELS, IMAGENET_PIXELS

logger = logging.getLogger(__name__)

GELUS = ("quick", "exact", "tanh")


@dataclasses.dataclass(frozen=True)
class Told:
    """A value that something besides the shapes tells, and what that is ("config.json")."""

    value: Any
    source: str


class Untold:
    """The values of one checkpoint that its shapes do not tell, and how each was found."""

    def __init__(
        self,
        what: str,
        told: Mapping[str, Told] | None = None,
        source: str | os.PathLike | None = None,
    ):
        """`what` and `source` name the checkpoint; `told`: what is known of it, by keyword."""
        self.what, self.told, self.source = what, dict(told or {}), source
        self._known: list[str] = []
        self._doubtful: list[str] = []

    def choose(
        self,
        name: str,
        given: Any,
        *,
        released: Any = None,
        assumed: Any = None,
        why: str = "",
        keyword: str | None = None,
    ) -> Any:
        """The value of a keyword: what is given, else told, else released, else assumed.

        Args:
          name: of the value.
          given: what the caller passed, or None.
          released: what the released model of these sizes has, or None.
          assumed: for want of anything better; None: that would be a guess.
          why: of `assumed`.
          keyword: named as the remedy; default: `name`.

        Raises:
          ValueError: if nothing tells the value.
        """
        told = self.told.get(name)
        if given is not None:
            if told is not None and told.value != given:
                self._doubtful.append(
                    f"{name}={_text(given)} was passed, {told.source} says {_text(told.value)}"
                )
            return given
        if told is not None:
            return self.known(name, told.value, told.source)
        if released is not None:
            return self.known(name, released, "as released")
        if assumed is None:
            raise ValueError(
                f"shapes do not tell the {name} of {self.what}; pass {keyword or name}=, as the "
                "model was trained with"
            )
        return self.doubtful(name, assumed, why, f"pass {keyword or name}=")

    def known(self, name: str, value: Any, source: str) -> Any:
        """Notes a value that something tells; returns it."""
        self._known.append(f"{name}={_text(value)} ({source})")
        return value

    def doubtful(self, name: str, value: Any, why: str, remedy: str) -> Any:
        """Notes a value that nothing tells; returns it."""
        self._doubtful.append(
            f"{name}={_text(value)} is assumed ({why}); if it is not so, {remedy}"
        )
        return value

    def say(self) -> None:
        """Logs it all: what is known for information, what is not as a warning."""
        what = self.what if self.source is None else f"{os.fspath(self.source)}, {self.what}"
        if self._known:
            logger.info("%s: %s", what, ", ".join(self._known))
        if self._doubtful:
            logger.warning("%s: %s", what, "; ".join(self._doubtful))


_PIXELS = {IMAGENET_PIXELS: "ImageNet's", CLIP_PIXELS: "CLIP's"}


def _text(value: Any) -> str:
    return _PIXELS.get(value, str(value)) if isinstance(value, tuple) else str(value)


def checked_heads(keyword: str, width: int, heads: int) -> int:
    """`heads`, or a ValueError that names the keyword if they do not divide the width."""
    if heads < 1 or width % heads:
        raise ValueError(
            f"{heads} heads do not divide width {width}; pass {keyword}=, as the model was trained "
            "with"
        )
    return heads


def checked_gelu(keyword: str, kind: str) -> str:
    """`kind`, or a ValueError that names the keyword if there is no such GELU."""
    if kind not in GELUS:
        raise ValueError(f"{keyword}={kind!r} is unknown; choose one of {GELUS}")
    return kind


def check_fields(
    load: Callable[..., Any], model_class: type, fields: Mapping[str, Any], inferred: Sequence[str]
) -> None:
    """Raises ValueError unless `fields` are of the model and not told by the shapes."""
    own = {f.name for f in dataclasses.fields(model_class)} - {"parent", "name", *inferred}
    keywords = inspect.signature(load).parameters.values()
    known = own | {p.name for p in keywords if p.kind is p.KEYWORD_ONLY}
    for field in fields:
        if field in inferred:
            raise ValueError(f"{field!r} follows from the weights and the keywords {sorted(known)}")
        if field not in own:
            near = difflib.get_close_matches(field, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"no option {field!r}{hint} (options: {sorted(known)})")
