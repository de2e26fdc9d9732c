"""The log of commands: own messages with the time, libraries' warnings."""

import logging
import os
from collections.abc import Sequence

from absl import logging as absl_logging


def set_up_logging(names: Sequence[str] = ("fluxjax", "data_pipelines")) -> None:
    """Own messages from INFO on, with the time; libraries' from WARNING on."""
    # TensorFlow's C++ side reports every GPU library that it does not find, and needs none.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    for name in names:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.handlers, logger.propagate = [handler], False
