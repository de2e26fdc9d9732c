"""Whether a batch is of a size that suits the data."""

import logging

from ml_collections import ConfigDict

log = logging.getLogger(__name__)


def warn_of_repeats(config: ConfigDict, videos: int) -> bool:
    """Says so where a step reads a training video more than once; whether it does.

    It is no error, since each reading is another clip of the video; but a batch that is larger
    than the data set is mostly a recipe that was made for another one.

    Args:
      config: uses batch_size and data.repeats.
      videos: that are trained on.
    """
    read = config.batch_size // config.data.repeats
    if read <= videos:
        return False
    log.warning(
        "config.batch_size=%d reads %d videos a step, and there are %d to train on: every step "
        "sees some of them %d times; a smaller batch, or more videos, may do better",
        config.batch_size, read, videos, -(-read // videos),
    )  # fmt: skip
    return True
