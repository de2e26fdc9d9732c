import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.checkpoints.training import Checkpoints
from fluxjax.tasks import create_task
from fluxjax.training import compilation, loop
from tests import tiny


def batches(task, first):
    """Random patches whose mean tells the label, a pure function of the step."""
    config = task.config
    for step in range(first, config.total_steps):
        rng = np.random.default_rng([config.seed, step])
        grid = task.grids[rng.integers(len(task.grids))]
        label = rng.integers(0, config.num_classes, config.batch_size, np.int32)
        shape = (config.batch_size, task.slots, 588)
        patches = rng.integers(0, 64, shape, np.uint8) + (48 * label[:, None, None]).astype("u1")
        patches[:, grid.tokens() :] = 0
        yield {
            "patches": patches,
            "grid": np.tile(np.int32(grid.shape()), (config.batch_size, 1)),
            "label": label,
            "example": np.zeros(config.batch_size, np.int64),
        }


def run(config, workdir, use_mesh=None):
    task = create_task(config)
    trainer = loop.Trainer.create(task, use_mesh)
    losses = []

    def report(step, line, scalars):
        losses.append((step, scalars["loss"]))

    with Checkpoints(workdir, keep=2) as checkpoints:
        state = loop.train(trainer, lambda step: batches(task, step), checkpoints, report)
    return state, losses


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def test_one_program_serves_forty_steps_over_twenty_grids(tmp_path):
    config = tiny.get_config()
    config.grids.frames = (1, 2, 3, 4, 5, 6, 7, 8)
    config.grids.resolutions = (14, 28, 42)
    config.grids.min_tokens, config.grids.max_tokens = 1, 80
    config.total_steps, config.checkpoint.every_steps = 40, 100
    task = create_task(config)
    drawn = {tuple(batch["grid"][0]) for batch in batches(task, 0)}
    assert len(drawn) >= 20, f"only {len(drawn)} grids were drawn"
    before = compilation.counts["train step flux_multi"]
    trainer = loop.Trainer.create(task)
    late = compilation.CompileCounter()

    def report(step, line, scalars):  # once warm, nothing may be compiled before the last save
        if step == 3:
            late.__enter__()
        if step == 39:
            late.__exit__()

    with Checkpoints(tmp_path, keep=1) as checkpoints:
        state = loop.train(trainer, lambda step: batches(task, step), checkpoints, report)
    assert int(state.step) == 40
    assert compilation.counts["train step flux_multi"] - before == 1
    assert late.count == 0, "something was compiled after step 3"


def test_the_counter_sees_compilations():
    with compilation.CompileCounter() as counter:
        jax.jit(lambda x: x * 3.25 + 1.75)(jnp.ones(3))
    assert counter.count >= 1
    seen = counter.count
    jax.jit(lambda x: x * 9.5 - 0.125)(jnp.ones(3))
    assert counter.count == seen, "the listener outlived its context"


@pytest.mark.slow
def test_the_loss_falls_and_batches_are_learnt(tmp_path):
    config = tiny.get_config()
    config.total_steps, config.optim.lr, config.checkpoint.every_steps = 60, 0.5, 100
    _, losses = run(config, tmp_path)
    last = np.mean([loss for _, loss in losses[-10:]])
    chance = 2 * np.log(4)  # two budgets, four classes
    assert last < 0.7 * chance, f"loss ended at {last:.2f}; guessing gives {chance:.2f}"


@pytest.mark.slow
def test_resuming_gives_the_bits_of_an_unbroken_run(tmp_path):
    config = tiny.get_config()
    config.optim.ema = 0.9
    config.model.drop_path = 0.2
    whole, _ = run(config, tmp_path / "whole")
    config.total_steps = 6
    stopped = tmp_path / "stopped"

    class Stop(Exception):
        pass

    task = create_task(config)

    def report(step, line, scalars):
        if step == 5:
            raise Stop

    with pytest.raises(Stop), Checkpoints(stopped, keep=2) as checkpoints:
        trainer = loop.Trainer.create(task)
        loop.train(trainer, lambda step: batches(task, step), checkpoints, report)
    resumed, losses = run(config, stopped)
    assert [step for step, _ in losses] == [5, 6], "did not resume at the checkpoint of step 4"
    assert_same_bits(whole, resumed)


@pytest.mark.slow
def test_flux_single_trains_one_budget(tmp_path):
    config = tiny.get_config()
    config.method, config.single_budget, config.total_steps = "flux_single", 4, 2
    config.optim.warmup_steps = 1
    state, losses = run(config, tmp_path)
    assert len(losses) == 2 and int(state.step) == 2
    initial = create_task(config).init(jax.random.key(config.seed))["params"]
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), initial, state.params)
    # Budget 4 is head 1's; head 0 and its pooler have no gradient.
    assert max(jax.tree.leaves(moved["heads_1"])) > 0
    assert max(jax.tree.leaves(moved["decoders_0"])) < 1e-3


@pytest.mark.slow
def test_the_moving_average_follows_the_parameters(tmp_path):
    config = tiny.get_config()
    config.optim.ema = 0.5
    state, _ = run(config, tmp_path)
    kernel, average = (p["patch_embed"]["proj"]["kernel"] for p in (state.params, state.ema))
    assert 0 < np.abs(kernel - average).max() < 1.0
    np.testing.assert_array_equal(state.eval_variables()["params"]["patch_embed"]["proj"]["kernel"],
                                  average)  # fmt: skip


def accumulating(config, steps):
    """A config of `steps` micro-batches an update; the optimizer's eps keeps it smooth."""
    config.optim.accumulate_steps = steps
    config.optim.eps, config.optim.weight_decay, config.optim.clip_norm = 1e-2, 0.1, 0.5
    config.optim.lr, config.optim.ema = 1.0, 0.5
    config.batch_size //= steps
    config.total_steps *= steps
    config.optim.warmup_steps *= steps
    return config


@pytest.mark.slow
def test_two_micro_batches_are_one_batch_of_both(tmp_path):
    def start():
        config = tiny.get_config()
        config.batch_size, config.total_steps, config.optim.warmup_steps = 16, 4, 2
        return config

    whole = create_task(accumulating(start(), 1))
    halves = create_task(accumulating(start(), 2))
    results, rates = [], []
    for task in (whole, halves):
        task.config.checkpoint.every_steps = 100

        def feed(first, task=task):
            for batch in batches(whole, 0):
                for part in range(task.config.optim.accumulate_steps):
                    size = task.config.batch_size
                    yield {k: v[part * size : (part + 1) * size] for k, v in batch.items()}

        trainer = loop.Trainer.create(task)
        seen = []
        report = lambda step, line, scalars, seen=seen: seen.append(scalars)  # noqa: E731
        with Checkpoints(tmp_path / str(len(results)), keep=1) as checkpoints:
            results.append(loop.train(trainer, feed, checkpoints, report))
        rates.append([scalars["learning_rate"] for scalars in seen])
    a, b = results
    initial = trainer.initial_state().params
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), initial, a.params)
    assert max(jax.tree.leaves(moved)) > 0.02
    for name in ("params", "ema"):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
            *(jax.device_get(getattr(state, name)) for state in (a, b)),
        )
    assert int(b.step) == 8 and int(b.opt_state.gradient_step) == 4
    np.testing.assert_allclose(rates[1], np.repeat(rates[0], 2), rtol=1e-6)
    assert len(set(rates[0])) >= 3


@pytest.mark.slow
def test_parameters_and_their_average_rest_while_gradients_accumulate(tmp_path):
    config = accumulating(tiny.get_config(), 1)
    config.optim.accumulate_steps, config.optim.warmup_steps = 3, 0
    trainer = loop.Trainer.create(create_task(config))
    (program,), state = trainer.compile_steps(), trainer.initial_state()
    feed = loop.device_batches(
        batches(trainer.task, 0), trainer.mesh, trainer.task.batch_spec(config.batch_size)
    )
    history = [jax.device_get((state.params, state.ema))]
    for batch, _ in feed:
        state, _ = program(state, batch)
        history.append(jax.device_get((state.params, state.ema)))
    for step in (1, 2, 4, 5):
        assert_same_bits(history[step], history[step - 1])
    for step, share in ((3, 0.9), (6, 9 / 11)):  # as warming up has it after 0 and 1 updates
        for now, before in zip(history[step], history[step - 1], strict=True):
            differences = jax.tree.map(lambda x, y: np.abs(x - y).max(), now, before)
            assert max(jax.tree.leaves(differences)) > 1e-4
        expected = jax.tree.map(
            lambda p, e, share=share: share * p + (1 - share) * e,
            history[step][0],
            history[step - 1][1],
        )
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), expected, history[step][1]
        )


@pytest.mark.slow
def test_resuming_between_two_updates_loses_no_gradient(tmp_path):
    config = tiny.get_config()
    config.optim.accumulate_steps, config.optim.ema, config.checkpoint.every_steps = 2, 0.9, 3
    whole, _ = run(config, tmp_path / "whole")

    class Stop(Exception):
        pass

    def report(step, line, scalars):
        if step == 4:
            raise Stop

    task = create_task(config)
    with pytest.raises(Stop), Checkpoints(tmp_path / "stopped", keep=2) as checkpoints:
        trainer = loop.Trainer.create(task)
        loop.train(trainer, lambda step: batches(task, step), checkpoints, report)
    resumed, losses = run(config, tmp_path / "stopped")
    assert [step for step, _ in losses] == [4, 5, 6]
    assert_same_bits(whole, resumed)


def test_a_batch_that_the_devices_cannot_share_is_refused():
    config = tiny.get_config()
    config.batch_size = 12
    with pytest.raises(ValueError, match="multiple of the 8 devices"):
        loop.Trainer.create(create_task(config))


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    config = tiny.get_config()
    run(config, tmp_path)
    config.model.width = 32
    config.total_steps = 8
    with pytest.raises(ValueError, match="another --workdir"):
        run(config, tmp_path)
