"""Settings of every test: eight simulated CPU devices, no accelerator, compiled programs shared."""

import logging
import os
import pathlib
import shutil
import tempfile

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

# Many tests compile the same program, each in a process of its own: all of one run share a cache.
_CACHE = "JAX_COMPILATION_CACHE_DIR"
_made = None
if _CACHE not in os.environ:
    _made = os.environ[_CACHE] = tempfile.mkdtemp(prefix="fluxjax-tests-")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

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


def pytest_xdist_auto_num_workers(config):
    """`-n auto`: a worker a core and one more (tests also wait for processes of their own).

    None for a few files, which run sooner than workers start.
    """
    named = [str(argument).partition("::")[0] for argument in config.args]
    few = named and all(pathlib.Path(name).suffix == ".py" for name in named)
    return 0 if few else (os.cpu_count() or 1) + 1


def pytest_unconfigure():
    if _made is not None:  # not in a worker, which finds the folder in its environment
        shutil.rmtree(_made, ignore_errors=True)
