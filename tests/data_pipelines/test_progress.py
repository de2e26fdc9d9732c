"""Progress of long work without a terminal, and TensorFlow's remarks."""

import logging
import os
import subprocess
import sys
import time

import pytest

from data_pipelines import progress as progress_lib
from data_pipelines.progress import progress
from data_pipelines.quiet_tensorflow import _without_remarks


def test_without_a_terminal_lines_say_how_far_it_is(monkeypatch, caplog):
    monkeypatch.setattr(progress_lib, "LINE_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    log = logging.getLogger("data_pipelines.test")
    with progress(96, "videos", log) as note:
        note(40, "8x56 (3 settings)")
        end = time.monotonic() + 10
        while len(caplog.messages) < 2 and time.monotonic() < end:
            time.sleep(0.01)
    line = "8x56 (3 settings): 40 of 96 videos, ETA 0.0 min"
    assert caplog.messages[:2] == [line] * 2
    count = len(caplog.messages)
    time.sleep(0.2)
    assert len(caplog.messages) == count, "it goes on after the work's end"


REMARKS = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    "I0000 00:00:1.5 27275 cudart_stub.cc:31] Could not find cuda drivers on your machine\n"
    "E0000 00:00:1.5 27275 cuda_platform.cc:52] failed call to cuInit: UNKNOWN ERROR (303)\n"
    "2026-01-01 10:00:00.1: E external/xla/cuda/cuda_fft.cc:477] Unable to register cuFFT\n"
)
ERRORS = (
    "E0000 00:00:1.5 27275 file_system.cc:9] no credentials\n"
    "F0000 00:00:1.5 27275 cpu_feature_guard.cc:227] compiled to use AVX instructions\n"
    "RuntimeError: of somebody\n"
)


@pytest.mark.parametrize(("level", "shown"), [(None, ERRORS), ("0", REMARKS + ERRORS)])
def test_remarks_are_left_out_and_errors_are_not(monkeypatch, capfd, level, shown):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    if level is not None:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    with pytest.raises(ZeroDivisionError), _without_remarks():
        os.write(2, (REMARKS + ERRORS).encode())
        raise ZeroDivisionError
    assert capfd.readouterr().err == shown


@pytest.mark.slow
@pytest.mark.parametrize("first", ["import jax", "pass"])
def test_tensorflow_comes_quietly_and_sees_no_gpu(first):
    program = f"""
{first}
from data_pipelines.quiet_tensorflow import tensorflow
tf = tensorflow()
print(sum(int(x) for x in tf.data.Dataset.range(4)), tf.config.get_visible_devices("GPU"))
"""
    kept = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=kept, capture_output=True, text=True, timeout=300
    )
    assert (result.stdout, result.stderr) == ("6 []\n", "")
