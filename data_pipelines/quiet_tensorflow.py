"""TensorFlow for the host's work: without its remarks, and without the accelerator."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

# What TensorFlow 2.21 writes while it is imported and looks for devices, whatever the level of its
# log: which instructions and which of NVIDIA's libraries it would use on a GPU, were it given one.
_REMARK = re.compile(
    r"I\d{4} |\d{4}-\d\d-\d\d [\d:.]+: [IW] |WARNING: All log messages before absl::Init|"
    r"To enable the following instructions: |[EW]\d{4} .*\bcuda\w*\.cc:|"
    r"\d{4}-\d\d-\d\d [\d:.]+: E .*\bcuda\w*\.cc:"
)


def tensorflow() -> Any:
    """The module, which sees no GPU: the accelerator belongs to JAX.

    Other messages and all errors are shown. TF_CPP_MIN_LOG_LEVEL=0 in the environment shows
    everything.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # as jax does: no remarks later, either
    with contextlib.nullcontext() if "tensorflow" in sys.modules else _without_remarks():
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")
    return tf


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """What C++ writes to the error stream is held back, and shown without the remarks after it."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            text = held.read().decode(errors="replace")
            lines = [line for line in text.splitlines(True) if not _REMARK.match(line)]
            os.write(2, "".join(lines).encode())
