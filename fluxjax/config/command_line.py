"""The command line of `fluxjax.main`: one line for each mistake in the place of a traceback."""

import re
import sys

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from fluxjax.config import stored as stored_config
from fluxjax.config.key_help import key_help
from fluxjax.config.lengths import take_given
from fluxjax.config.names import all_keys, unknown_key
from fluxjax.config.ranges import get
from fluxjax.config.recipe_files import recipe_file

_NO_CONFIG = (
    "--config is missing: a recipe such as --config=fluxvit_ti, or the config.json in "
    "the workdir of a run to repeat. --help lists the options, --config_help the keys of a config"
)


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, for `app.run`; prints the keys for --config_help."""
    names = {argument.lstrip("-").partition("=")[0] for argument in argv[1:] if argument[:1] == "-"}
    if "config_help" in names and "config" not in names:
        print(key_help())
        sys.exit(0)
    if not names & {"config", "flagfile", "help", "helpfull", "helpshort", "helpxml", "h", "?"}:
        sys.exit(f"error: {_NO_CONFIG}")
    try:
        argv = with_config_files(argv)
        if "config" in names:
            _check_config(argv)
        rest = app.parse_flags_with_usage(argv)
        if (config := flags.FLAGS["config"].value) is not None:
            take_given(config, set(config_flags.get_override_values(flags.FLAGS["config"])))
        if flags.FLAGS["config_help"].value:
            print(key_help(config))
            sys.exit(0)
        return rest
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        text = str(error.args[0] if len(error.args) == 1 else error)
        sys.exit("error: " + text.strip("'\"").replace("\\n", "; ").replace("\\'", "'"))


def with_config_files(argv: list[str]) -> list[str]:
    """Arguments in which --config names a file: of a recipe that is given by its name, too.

    Raises:
      ValueError: if there is no such recipe.
    """
    argv = list(argv)
    for i, argument in enumerate(argv[1:], 1):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config") and equals:
            argv[i] = f"{name}={_config_file(value)}"
        elif argv[i - 1] in ("--config", "-config"):
            argv[i] = _config_file(argument)
    return argv


def _config_file(value: str) -> str:
    """A config.json is read through `fluxjax.config.stored`."""
    return (stored_config.as_flag_value if value.endswith(".json") else recipe_file)(value)


def _check_config(argv: list[str]) -> None:
    """Raises ValueError for a recipe that cannot be loaded, and overrides of keys it has not."""
    path = next(
        value if equals else after
        for (name, equals, value), after in zip(
            (argument.partition("=") for argument in argv), [*argv[1:], ""], strict=True
        )
        if name in ("--config", "-config")
    )
    try:
        config = flags.FLAGS["config"].parser.parse(path)
        known = all_keys(config)
    except (OSError, TypeError, ValueError) as error:
        # OSError: of loading the file, kept until now; of others, a traceback is the text.
        reason = str(error.__cause__ or error).splitlines()[-1].strip()
        reason = re.sub(r"^(Type|Value)Error: ", "", reason)
        raise ValueError(f"--config={path.rpartition('stored.py:')[2]}: {reason}") from error
    for argument in argv:
        if not (match := re.match(r"--?(?:no)?config\.([^=]+)(=?)(.*)", argument, re.DOTALL)):
            continue
        key, _, value = match.groups()
        if config.get("pretrain") is not None and key.startswith("pretrain."):
            continue
        if key not in known:
            raise ValueError(unknown_key(key, config))
        if isinstance(get(config, key), ConfigDict):
            hint = f"set one of its keys: {', '.join(get(config, key))}"
            if "name" in get(config, key):
                hint = f"did you mean --config.{key}.name={value}?"
            raise ValueError(f"config.{key} is a section, no value; {hint}")
