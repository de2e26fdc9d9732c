"""The commands of the documentation: found in texts, and checked by the commands' own parsers."""

import argparse
import ast
import contextlib
import importlib
import io
import pathlib
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

from absl import flags
from ml_collections import ConfigDict, config_flags

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]  # fmt: skip
HEADERS = sorted((ROOT / "configs").glob("*.py"))
MODULES = sorted(
    path
    for folder in ("fluxjax", "data_pipelines", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)


class Command(NamedTuple):
    """One simple command.

    Attributes:
      where: path:line.
      words: as a shell splits it, without comments.
      needs: what a test does not have, in the page's words; "" for commands that tests run.
    """

    where: str
    words: tuple[str, ...]
    needs: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {shlex.join(self.words)}"


def name(path: pathlib.Path) -> str:
    """A path from the repository's root on."""
    return path.relative_to(ROOT).as_posix()


def of_page(path: pathlib.Path) -> list[Command]:
    """Commands of a page's bash blocks; a line `# needs ..` marks those up to an empty line."""
    found, inside, needs = [], False, ""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    for number, line in lines:
        if line.startswith("```"):
            inside, needs = not inside and line[3:].split(" ")[0] == "bash", ""
        elif inside and not line.strip():
            needs = ""
        elif inside and line.startswith("# needs "):
            needs = line.removeprefix("# needs ")
        elif inside:
            while line.endswith("\\"):
                line = line[:-1] + next(lines)[1]
            found += simple(line, f"{name(path)}:{number}", needs)
    return found


def python_of(path: pathlib.Path) -> str:
    """A page's python blocks, one after the other, without those that begin with `# needs`."""
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
    return "\n".join(block for block in blocks if not block.startswith("# needs "))


def of_header(path: pathlib.Path) -> list[Command]:
    """Commands of a module's docstring; "Needs .." anywhere in their paragraph marks them."""
    found, text = [], ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    for paragraph in text.split("\n\n"):
        needs = re.search(r"\b[Nn]eeds ([^.]+)", paragraph)
        for line in paragraph.replace("\\\n", " ").splitlines():
            if line.startswith("python -m "):
                found += simple(line, name(path), needs[1] if needs else "")
    return found


def inline(path: pathlib.Path) -> list[Command]:
    """Commands in backticks in a page's text and tables; a line with "needs" marks them."""
    return [
        Command(f"{name(path)}:{number}", tuple(shlex.split(span)), line * ("needs" in line))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for span in re.findall(r"`((?:[A-Z_]+=\S+ )*(?:python -m |pytest )[^`]+)`", line)
    ]


def simple(line: str, where: str, needs: str) -> Iterator[Command]:
    """The commands of a line between && signs."""
    for part in re.split(r"\s&&\s", line):
        words = shlex.split(part, comments=True)
        if words:
            yield Command(where, tuple(words), needs)


def module_of(words: tuple[str, ...]) -> str | None:
    """NAME of `python -m NAME ..`."""
    return words[2] if words[:2] == ("python", "-m") and len(words) > 2 else None


class _Parsed(BaseException):
    """Ends a command's main once its options are parsed; its argument is the parser."""


def check_options(module: str, arguments: list[str]) -> None:
    """Parses arguments as `python -m module` would, and runs nothing else.

    Raises:
      AssertionError: with the parser's own message.
    """
    if module == "fluxjax.main":
        _check_training(arguments)
    elif _uses_argparse(_module(module)):
        _parser(module, arguments)
    else:
        _parse_flags(_module(module).__name__, arguments)


def option_names(module: str) -> set[str]:
    """Options of `python -m module`, with their dashes."""
    command = _module(module)
    if not _uses_argparse(command):
        return {f"--{flag.name}" for flag in flags.FLAGS.flags_by_module_dict()[command.__name__]}
    return set(_parser(module, None)._option_string_actions)


def _module(module: str):
    package = (ROOT / module.replace(".", "/")).is_dir()
    return importlib.import_module(f"{module}.__main__" if package else module)


def _parser(module: str, arguments: list[str] | None) -> argparse.ArgumentParser:
    """The parser of a module's main, once it has parsed `arguments` (None: before it parses)."""

    def ending(parse):
        def parsed(parser, *given, **keywords):
            if arguments is not None:
                parse(parser, *given, **keywords)
            raise _Parsed(parser)

        return parsed

    cls, messages = argparse.ArgumentParser, io.StringIO()
    with contextlib.ExitStack() as stack:
        for name in ("parse_args", "parse_intermixed_args"):
            patch = mock.patch.object(cls, name, ending(getattr(cls, name)))
            stack.enter_context(patch)
        stack.enter_context(mock.patch.object(sys, "argv", [module, *(arguments or ())]))
        stack.enter_context(contextlib.redirect_stderr(messages))
        try:
            _module(module).main()
        except _Parsed as end:
            return end.args[0]
        except SystemExit:
            raise AssertionError(messages.getvalue().splitlines()[-1]) from None
    raise AssertionError(f"{module} parses no options")


def _uses_argparse(command) -> bool:
    text = pathlib.Path(command.__file__).read_text(encoding="utf-8")
    return "argparse" in text or "OptionParser" in text


def _parse_flags(module: str, arguments: list[str], **more) -> flags.FlagValues:
    """The flags that a module defines, parsed apart from those of this process."""
    values = flags.FlagValues()
    for flag in flags.FLAGS.flags_by_module_dict()[module]:
        if flag.name not in more:
            values[flag.name] = flag
    for define in more.values():
        define(values)
    try:
        with warnings.catch_warnings():  # of ml_collections, which reads configs by an old loader
            warnings.simplefilter("ignore", DeprecationWarning)
            left = values(["command", *arguments])
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise AssertionError(str(error)) from error
    assert left == ["command"], f"unexpected arguments {left[1:]}"
    return values


def _check_training(arguments: list[str]) -> None:
    """`python -m fluxjax.main`: its options, and the config that they give.

    A stored config (.json) is there only when the commands run: options alone are parsed for it.
    """
    from fluxjax import main  # noqa: F401  defines the flags
    from fluxjax.config.command_line import with_config_files
    from fluxjax.config.keys import check_config

    if re.search(r"--config[ =]\S+\.json", " ".join(arguments)):
        arguments = ["configs/fluxvit_ti.py" if x.endswith("config.json") else x for x in arguments]
    arguments = with_config_files(["command", *arguments])[1:]

    def define(values: flags.FlagValues) -> None:
        argv = ["command", *arguments]
        config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)

    with contextlib.chdir(ROOT):
        config = _parse_flags("fluxjax.main", arguments, config=define).config
    if config is None:  # --config_help
        return
    # Weights and videos are not there; everything else must fit.
    config = ConfigDict(config.to_dict() | {"init_from": None})
    config.data.train, config.data.test = "dummy", config.data.test or "dummy"
    own = config.get(config.task, {})
    if "teacher" in own:
        own.teacher, config.dry_run = None, True
    if "text_from" in own:
        own.text_from = None
    check_config(config)
