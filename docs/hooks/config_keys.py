"""The page of config keys: `base_config` with the meanings that `--config_help` prints."""

from collections.abc import Iterator

from ml_collections import ConfigDict

from fluxjax.config.key_help import meanings
from fluxjax.config.keys import base_config

_MODEL = "model"  # its keys are the fields of a class


def page() -> str:
    """Markdown: a table of the keys at the top, then one for each section."""
    config, said = base_config(), meanings()
    lines = [_HEAD, *_table(config, "", said)]
    for section in (key for key, value in config.items() if isinstance(value, ConfigDict)):
        lines += ["", f"## config.{section}", ""]
        if said.get(section):
            lines += [_cell(said[section][0].upper() + said[section][1:]) + ".", ""]
        lines += [_FIELDS] if section == _MODEL else _table(config[section], f"{section}.", said)
    return "\n".join(lines) + "\n"


def _table(config: ConfigDict, section: str, said: dict[str, str]) -> Iterator[str]:
    yield from ("| key | default | meaning |", "|---|---|---|")
    for name, value in config.items():
        if not isinstance(value, ConfigDict):
            key = f"{section}{name}"
            default = repr(value).replace("'", '"')
            if value is None:
                default = f"None ({config.get_type(name).__name__})"
            meaning = said.get(key) or said.get(f"{section}*", "")
            yield f"| `{key}` | `{default}` | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


_HEAD = """# Config keys

The set is closed: another key, a value of another type or one out of its range ends a command
before anything is compiled. Defaults are those of `base_config` in `fluxjax/config/keys.py`; a
recipe under `configs/` sets its own. On the command line, `--config.optim.lr=1e-3` sets one; tuples
are written as in Python, `--config.budgets="(48,24)"`. `None` is followed by the type of a value. A
task that has keys of its own has them in `config.<task>`. `python -m fluxjax.main --config_help`
prints the same list.
"""

_FIELDS = """The fields of the model's class, see [Models](api/models.md): `model.width`,
`model.drop_path`, `model.attention` and so on. `None` leaves a field as the named size has it.
`model.name` is one of `fluxjax.list_models()`; `model.dtype` is that of the computation, such as
`bfloat16`; parameters are float32 always.
"""
