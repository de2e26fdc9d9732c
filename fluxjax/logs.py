"""The log of commands: own messages with the time, libraries' warnings."""

import logging
import sys
from collections.abc import Sequence
from typing import TextIO

from absl import logging as absl_logging

OWN = ("fluxjax", "data_pipelines")


class _ErrorStream(logging.StreamHandler):
    """Writes to what `sys.stderr` is at the time: progress bars take it over."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Set by the base class, to the same."""


def set_up_logging(names: Sequence[str] = OWN) -> None:
    """Own messages from INFO on, with the time; libraries' from WARNING on."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = _ErrorStream()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    for name in names:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.handlers, logger.propagate = [handler], False


def only_warnings() -> None:
    """From now on, of own messages too: every process but the first would repeat them."""
    for name in OWN:
        logging.getLogger(name).setLevel(logging.WARNING)
