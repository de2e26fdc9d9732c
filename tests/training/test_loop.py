import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.tasks import create_task
from fluxjax.training import compilation, loop, mesh
from fluxjax.training.checkpoints import Checkpoints
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
def test_one_device_and_eight_agree(tmp_path):
    assert jax.device_count() == 8
    config = tiny.get_config()
    one = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    _, alone = run(config, tmp_path / "one", one)
    _, sharded = run(config, tmp_path / "eight", mesh.make_mesh())
    np.testing.assert_allclose(alone, sharded, rtol=1e-5)


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
