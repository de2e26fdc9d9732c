"""The parser of the commands: options are spelled with dashes."""

import argparse
import sys
from collections.abc import Iterator, Sequence


class OptionParser(argparse.ArgumentParser):
    """argparse's, to which `--num_heads` is `--num-heads`, as earlier versions spelled some."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace=None):
        """See `argparse.ArgumentParser`."""
        return super().parse_known_args(_dashed(sys.argv[1:] if args is None else args), namespace)


def _dashed(arguments: Sequence[str]) -> list[str]:
    """Arguments whose options have no underscore; values stay, and all that follows a `--`."""

    def dashed() -> Iterator[str]:
        rest = False
        for argument in arguments:
            rest = rest or argument == "--"
            name, equals, value = argument.partition("=")
            is_option = name.startswith("--") and not rest
            yield (name.replace("_", "-") if is_option else name) + equals + value

    return list(dashed())
