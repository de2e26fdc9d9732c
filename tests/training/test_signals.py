"""A signal ends training in any phase, with a checkpoint of the last finished step."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import jax
import pytest

from fluxjax.checkpoints.training import Checkpoints
from fluxjax.training import signals
from fluxjax.training.agreement import Agreement
from tests.training import toy

ROOT = pathlib.Path(__file__).parents[2]


def stopped_run(workdir, number=signal.SIGTERM, **phases):
    """Trains a toy that signals itself in one of its phases; (latest checkpoint, signals)."""
    trainer = phases.pop("trainer", None) or toy.ToyTrainer(total_steps=50)
    with Checkpoints(workdir, keep=2) as checkpoints, signals.StopSignals().installed() as stop:
        with pytest.raises(signals.Stopped):
            toy.train(trainer, checkpoints, stop=stop, **phases)
        done = checkpoints.latest_step()
    return done, stop


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    """A background shell ignores SIGINT and nohup SIGHUP, which a run then respects."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def hang():
    """A call that signals this process and then hangs until the test is over."""
    over = threading.Event()

    def call(number=signal.SIGTERM):
        os.kill(os.getpid(), number)
        over.wait()

    yield call
    over.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_while_training(tmp_path, number):
    seen = []

    def before(step):
        seen.append(step)
        if step == 4:
            os.kill(os.getpid(), number)
            time.sleep(0.2)  # batches come from a thread: the signal takes effect before the next

    done, stop = stopped_run(tmp_path, before=before)
    assert 3 <= done <= 5 and not any(step > 6 for step in seen)
    before = signal.getsignal(number)
    assert before in (signal.SIG_DFL, signal.default_int_handler), "the handler was left behind"


def test_while_waiting_for_data(tmp_path, hang):
    done, stop = stopped_run(tmp_path, before=lambda step: hang() if step == 3 else None)
    assert done == 2  # the batch of step 2 was ready, but is handed out with the next one's arrival
    assert stop.abandoned


def test_while_evaluating(tmp_path, hang):
    trainer = toy.ToyTrainer(total_steps=50)
    trainer.task.config.eval.every_steps = 3
    done, _ = stopped_run(tmp_path, trainer=trainer, evaluate=lambda step, state: hang())
    assert done == 3


def test_while_compiling(tmp_path, hang):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        toy.train(toy.ToyTrainer(total_steps=2), checkpoints)
    trainer = toy.ToyTrainer(total_steps=50)
    trainer.compile_steps = hang
    done, _ = stopped_run(tmp_path, trainer=trainer)
    assert done == 2, "the checkpoint that the run began with is the last finished step's"


def test_before_anything_is_done(tmp_path, hang):
    trainer = toy.ToyTrainer()
    trainer.initial_state = hang
    done, _ = stopped_run(tmp_path, trainer=trainer)
    assert done is None


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path):
    with Checkpoints(tmp_path / "whole", keep=2) as checkpoints:
        whole = toy.train(toy.ToyTrainer(), checkpoints)
    stop = signals.StopSignals()
    with Checkpoints(tmp_path / "parts", keep=2) as checkpoints:
        before = lambda step: stop.request() if step == 4 else None  # noqa: E731
        with pytest.raises(signals.Stopped):
            toy.train(toy.ToyTrainer(), checkpoints, before=before, stop=stop)
        assert checkpoints.latest_step() == 4
        resumed = toy.train(toy.ToyTrainer(), checkpoints)
    assert int(resumed.step) == 6
    assert (whole.params["kernel"] == resumed.params["kernel"]).all()


def test_errors_of_called_functions_come_through():
    def fail():
        raise ZeroDivisionError("from the thread")

    with signals.StopSignals().installed() as stop, pytest.raises(ZeroDivisionError):
        stop.call(fail, 0)


def saving(before=""):
    """A process that got its first wish to stop and is busy for long."""
    script = textwrap.dedent(f"""
        import signal, time
        {before}
        from fluxjax.training.signals import StopSignals
        with StopSignals().installed() as stop:
            print("ready", flush=True)
            stop._requested.wait()  # the first signal
            print("saving", flush=True)
            time.sleep(600)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_second_signal_ends_the_process_at_once():
    process = saving()
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "SIGINT again" in messages


def test_announcements_do_not_hurry_what_they_began():
    """A scheduler's SIGUSR1 comes before its SIGTERM; a closed terminal says SIGHUP twice."""
    process = saving()
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "saving\n"
    for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
        process.send_signal(number)
        time.sleep(0.2)  # equal signals that wait are one
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, messages


def test_nohup_is_respected():
    process = saving(before="signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "saving\n"
    process.kill()
    assert "SIGUSR1: stopping" in process.communicate(timeout=60)[1]


class Service:
    """The coordination service's part that is used, within one process."""

    def __init__(self):
        self.values, self.changed = {}, threading.Condition()

    def key_value_set(self, key, value, allow_overwrite=False):
        with self.changed:
            assert allow_overwrite or key not in self.values
            self.values[key] = value
            self.changed.notify_all()

    def blocking_key_value_get(self, key, timeout_ms):
        with self.changed:
            assert self.changed.wait_for(lambda: key in self.values, timeout_ms / 1000)
            return self.values[key]

    def key_value_try_get(self, key):
        with self.changed:
            if key not in self.values:
                raise jax.errors.JaxRuntimeError(f"NOT_FOUND: {key}")
            return self.values[key]


def test_processes_stop_after_the_step_of_the_one_that_is_furthest():
    service, finished = Service(), {}

    def process(number, step):
        """Has begun `step` steps when the wish comes; only process 1 is signalled itself."""
        stop = signals.StopSignals(Agreement(service, number, 3))
        stop._agreement.listen(stop.request)
        if number == 1:
            stop.request()
        assert stop._requested.wait(30)
        while not stop.due(step):
            step += 1
        finished[number] = step
        stop._agreement.close()

    threads = [threading.Thread(target=process, args=(i, n)) for i, n in enumerate((4, 2, 7))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finished == {0: 7, 1: 7, 2: 7}


@pytest.mark.slow
def test_two_real_processes_agree(tmp_path):
    script = textwrap.dedent("""
        import sys, threading, time
        import jax
        number, port = int(sys.argv[1]), sys.argv[2]
        jax.distributed.initialize(f"127.0.0.1:{port}", 2, number)
        from fluxjax.training.agreement import Agreement
        from fluxjax.training.signals import StopSignals
        with StopSignals(Agreement.of_this_run()).installed() as stop:
            step = 0
            while not stop.due(step):
                if step == 3:
                    print("at work", flush=True)
                step += 1
                time.sleep(0.05 * (number + 1))
        print(step, flush=True)
        Agreement.of_this_run().leave()
    """)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(number), port], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        )
        for number in range(2)
    ]  # fmt: skip
    assert [p.stdout.readline() for p in processes] == ["at work\n"] * 2
    processes[1].send_signal(signal.SIGTERM)  # the other learns of it through the service
    outputs = [p.communicate(timeout=120) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] and int(outputs[0][0]) >= 4, outputs
