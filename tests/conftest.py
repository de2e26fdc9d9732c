"""Settings of every test: eight simulated CPU devices, no accelerator for TensorFlow."""

import logging
import os

import pytest

# Before jax is imported anywhere. Eight devices let sharding be tested on one machine. Tests spend
# their time on compiling small programs, which takes half as long without LLVM's optimisations.
# FLUXJAX_TEST_XLA_FLAGS replaces the latter, e.g. by nothing.
_FAST_COMPILE = os.environ.get("FLUXJAX_TEST_XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8", _FAST_COMPILE]
).strip()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Files that take minutes: begun first, so that none of several workers is left with one at the end.
_LONG = ("test_notebooks.py", "test_main.py", "test_multihost.py", "test_loop.py", "test_mesh.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in _LONG)


@pytest.fixture(autouse=True)
def _restored_loggers():
    """What a command that ran in this process set up: later tests look at the log as well."""
    loggers = [logging.getLogger(name) for name in ("fluxjax", "data_pipelines")]
    before = [(logger, logger.level, logger.handlers, logger.propagate) for logger in loggers]
    yield
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate
